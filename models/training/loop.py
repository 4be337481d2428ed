"""The loop that the trainings share: order of the data, devices, checkpoints, reports.

The seed determines everything, and a run that resumes from its checkpoint ends in the same state as an uninterrupted
one.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization

from jifv._core.files import replace_durably


def run(
    step: Callable[..., tuple[Any, dict[str, jax.Array]]],
    state: Any,
    arrays: Sequence[np.ndarray],
    plan: Sequence[int],
    *,
    batch_size: int,
    seed: int,
    options: str,
    checkpoint: Path | None = None,
    checkpoint_every: float = 300.0,
) -> Any:
    """Run `step` over the whole plan and return the state.

    Args:
        step: (state, rows of each array…, key, side of the images) → (state, metrics), where one metric is `loss`.
        state: State to start from, a tree of arrays.
        arrays: Training data. Each epoch takes every row once, in random order and in whole batches.
        plan: Side of the images in each step, in pixels.
        batch_size: Rows per step, over all devices.
        seed: Determines order and keys.
        options: What the run depends on; a checkpoint with other options is refused.
        checkpoint: File of the whole state, written every `checkpoint_every` seconds; the run resumes from it if it
            exists.
        checkpoint_every: Seconds between checkpoints.

    Raises:
        ValueError: If there are fewer rows than in a batch, the checkpoint belongs to a run with other options, or the
            devices do not divide the batch.
        FloatingPointError: If the loss is not finite.
    """
    count = len(arrays[0])
    if count < batch_size:
        raise ValueError(f"batch_size must be at most {count}, the number of training images, got {batch_size}")
    done = 0
    if checkpoint is not None and checkpoint.exists():
        state, done, made_with = serialization.from_bytes((state, 0, ""), checkpoint.read_bytes())
        if made_with != options:
            raise ValueError(f"checkpoint {checkpoint} must be of a run with options {options}, got {made_with}")
        state, done = jax.tree.map(jnp.asarray, state), int(done)

    sharding = _over_devices(batch_size)
    # Placed where the steps leave it: a first step with the state elsewhere would be compiled once more.
    state = jax.device_put(state, jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec()))
    per_epoch = count // batch_size
    key = jax.random.key(seed)
    epoch, order = -1, np.arange(0)
    started = saved = reported = time.monotonic()
    history, first = [], done
    for index in range(done, len(plan)):
        if index // per_epoch != epoch:
            epoch = index // per_epoch
            order = np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), count))
        at = index % per_epoch * batch_size
        rows = order[at : at + batch_size]
        batch = jax.device_put(tuple(array[rows] for array in arrays), sharding)
        step_key = jax.random.fold_in(jax.random.fold_in(key, 2**31 - 1), index)
        state, metrics = step(state, *batch, step_key, plan[index])
        history.append(metrics)
        now = time.monotonic()
        if now - reported > 20 or index + 1 == len(plan):
            history = jax.device_get(history)
            means = {name: np.mean([one[name] for one in history]) for name in metrics}
            rate = (index + 1 - first) * batch_size / (time.monotonic() - reported)
            words = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
            print(
                f"step {index + 1}/{len(plan)} at {plan[index]}²: {words}, {rate:.0f} images/s, {now - started:.0f} s",
                flush=True,
            )
            history, first, reported = [], index + 1, time.monotonic()
            if not np.isfinite(means["loss"]):
                raise FloatingPointError(f"the loss is {means['loss']} at step {index + 1}: lower the learning rate")
        if checkpoint is not None and now - saved > checkpoint_every:
            replace_durably(checkpoint, serialization.to_bytes((jax.device_get(state), index + 1, options)))
            saved = now
    return jax.device_get(state)


def _over_devices(batch_size: int) -> jax.sharding.NamedSharding:
    """Return the sharding of a batch's first axis over all local devices."""
    devices = jax.local_devices()
    if batch_size % len(devices):
        raise ValueError(f"batch_size must be a multiple of the {len(devices)} local devices, got {batch_size}")
    mesh = jax.sharding.Mesh(np.array(devices), ("batch",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
