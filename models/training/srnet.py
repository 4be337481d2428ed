"""Train SRNet on isosurfaces: `python -m jifv.models.training.srnet --help`.

The data are `pairs` of single frames: there is no previous frame, so the temporal term of the loss (Weiss et al. 2019)
does not apply. The recipe is Adam, with random crops, flips and quarter turns. Batches are split over all local
devices. The seed determines everything, and a run that resumes from its checkpoint gives the same weights as an
uninterrupted one.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from jifv.models.files.storage import read_weights
from jifv.models.networks.frames import DEPTH, MASK, NORMAL, OCCLUSION, OUTPUT_CHANNELS, to_unit_range
from jifv.models.networks.srnet import SCALE, SRNet, upscale
from jifv.models.training import loop, record
from jifv.models.training.pairs import HELD_OUT, Pairs, all_fields, augment, cached, render_pairs

WEIGHTS = {"mask": 1.0, "normal": 10.0, "depth": 10.0, "occlusion": 1.0}
"""Weights of the terms of the loss (Weiss et al. 2019)."""


class Stage(NamedTuple):
    """Part of the schedule: crops of `crop`² low-resolution pixels for `steps` steps."""

    crop: int
    steps: int


def schedule(text: str) -> tuple[Stage, ...]:
    """Parse `"16:3000,32:300"`: 3000 steps on crops of 16×16, then 300 on whole frames."""
    return tuple(Stage(*map(int, part.split(":", 1))) for part in text.split(","))


# Training.


def terms(predicted: Float[Array, "b y x 6"], truth: Float[Array, "b y x 6"]) -> dict[str, Float[Array, ""]]:
    """Return mean absolute errors; except for the mask's, pixels where the truth shows no surface count as 0."""
    error = jnp.abs(predicted - truth)
    inside = jnp.where(truth[..., MASK] > 0, 1, 0)
    return {
        "mask": error[..., MASK].mean(),
        "normal": (error[..., NORMAL] * inside[..., None]).mean(),
        "depth": (error[..., DEPTH] * inside).mean(),
        "occlusion": (error[..., OCCLUSION] * inside).mean(),
    }


def loss_of(parts: dict[str, Float[Array, ""]]) -> Float[Array, ""]:
    """Return the weighted sum of the `terms`."""
    return sum((WEIGHTS[name] * value for name, value in parts.items()), jnp.float32(0))


def optimizer(peak: float, steps: int, *, warmup: float, halve_every: int | None, clip: float):
    """Return Adam on gradients clipped to the norm `clip`.

    The rate rises linearly to `peak` over the fraction `warmup` of the steps. Then it halves every `halve_every` steps
    or, if that is None, falls to 0 along a cosine.
    """
    rising = round(warmup * steps)
    if halve_every is None:
        falling = optax.cosine_decay_schedule(peak, steps - rising)
    else:
        falling = optax.exponential_decay(peak, halve_every, 0.5, staircase=True)
    rate = optax.join_schedules([optax.linear_schedule(0.0, peak, rising), falling], [rising])
    return optax.chain(optax.clip_by_global_norm(clip), optax.adam(rate))


def make_step(model: SRNet, transform: optax.GradientTransformation):
    """Return the jitted training step: (state, low, high, key, crop) → (state, metrics)."""

    def loss_and_terms(params, low, high):
        parts = terms(jnp.asarray(model.apply({"params": params}, low)), high)
        return loss_of(parts), parts

    @partial(jax.jit, static_argnames="crop", donate_argnums=0)
    def step(state, low, high, key, crop):
        low, high = augment(key, low, high, crop)
        (loss, parts), grads = jax.value_and_grad(loss_and_terms, has_aux=True)(state["params"], low, high)
        updates, opt_state = transform.update(grads, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "opt_state": opt_state}, {"loss": loss, **parts}

    return step


def train(
    model: SRNet,
    variables: dict,
    pairs: Pairs,
    *,
    stages: tuple[Stage, ...],
    batch_size: int,
    peak: float,
    warmup: float,
    halve_every: int | None,
    clip: float,
    seed: int,
    checkpoint: Path | None = None,
    checkpoint_every: float = 300.0,
) -> dict:
    """Train from `variables` and return the trained ones.

    Args:
        model: The network.
        variables: Variables to start from: `{"params"}`.
        pairs: Training data.
        stages: Crops and steps, in order.
        batch_size: Pairs per step, over all devices.
        peak: Highest learning rate.
        warmup: Fraction of the steps in which the rate rises from 0; 0 starts at the peak.
        halve_every: Number of epochs between halvings of the rate; None lets it fall to 0 along a cosine.
        clip: Largest norm of the gradient; a longer gradient is shortened.
        seed: Determines order and augmentation.
        checkpoint: File of the whole state, written every `checkpoint_every` seconds; the run resumes from it if it
            exists.
        checkpoint_every: Seconds between checkpoints.

    Raises:
        ValueError: If a crop is larger than the frames, there are fewer pairs than in a batch, or the checkpoint
            belongs to a run with other options.
        FloatingPointError: If the loss is not finite.
    """
    count, side = pairs.low.shape[:2]
    for stage in stages:
        if not 1 <= stage.crop <= side:
            raise ValueError(f"stages must have crops from 1 to {side}, the side of the frames, got {stage.crop}")
    options = repr((stages, batch_size, peak, warmup, halve_every, clip, seed, count))
    plan = [stage.crop for stage in stages for _ in range(stage.steps)]
    every = halve_every if halve_every is None else halve_every * (count // batch_size)
    transform = optimizer(peak, len(plan), warmup=warmup, halve_every=every, clip=clip)
    params = jax.tree.map(jnp.array, variables["params"])
    state = loop.run(
        make_step(model, transform),
        {"params": params, "opt_state": transform.init(params)},
        (pairs.low, pairs.high),
        plan,
        batch_size=batch_size,
        seed=seed,
        options=options,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
    )
    return {"params": state["params"]}


# Evaluation.


def predict(model: SRNet, variables: dict, low: np.ndarray, *, batch_size: int = 16) -> np.ndarray:
    """Return high-resolution frames (n, 128, 128, 6) in float32, computed batch by batch."""
    apply = jax.jit(lambda frame: model.apply(variables, frame.astype(jnp.float32)))
    return np.concatenate([np.asarray(apply(low[at : at + batch_size])) for at in range(0, len(low), batch_size)])


def bilinear(low: np.ndarray, occlusion: float) -> np.ndarray:
    """Return what the network is compared with: the upscaled frames, with a constant for the ambient occlusion."""
    upscaled = np.asarray(upscale(jnp.asarray(low, jnp.float32), SCALE))
    return np.concatenate([upscaled, np.full((*upscaled.shape[:-1], 1), occlusion, np.float32)], -1)


def scores(predicted: np.ndarray, truth: np.ndarray, interior: np.ndarray) -> dict[str, float]:
    """Return mean absolute errors and mean angles of the normals, except for the mask's on the true surface only.

    Args:
        predicted: Frames (n, y, x, 6). Their normals are normalized for the angle; a normal of zero is 90° off.
        truth: Frames (n, y, x, 6).
        interior: Pixels (n, y, x) away from silhouettes, for `interior_angle`.
    """
    truth = truth.astype(np.float32)
    error, inside = np.abs(predicted - truth), truth[..., MASK] > 0
    length = np.maximum(np.linalg.norm(predicted[..., NORMAL], axis=-1, keepdims=True), 1e-6)
    cosine = (predicted[..., NORMAL] / length * truth[..., NORMAL]).sum(-1)
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return {
        "mask": float(error[..., MASK].mean()),
        "normal": float(error[..., NORMAL][inside].mean()),
        "angle": float(angle[inside].mean()),
        "interior_angle": float(angle[inside & interior].mean()),
        "depth": float(error[..., DEPTH][inside].mean()),
        "occlusion": float(error[..., OCCLUSION][inside].mean()),
    }


def evaluation(model: SRNet, variables: dict, data: dict[str, Pairs]) -> dict:
    """Return what a model card says of a trained network.

    Returns:
        `cameras` and `fields`, the parts of the data that training has not seen. Each has the `scores` of the network
        (`ours`) and of bilinear upscaling (`bilinear`), for all pairs (`all`) and for each field by its name. Upscaling
        uses the median of the training data, `median_occlusion`, as ambient occlusion.
    """
    truth = data["training"].high
    median = float(np.median(truth[..., OCCLUSION][truth[..., MASK] > 0].astype(np.float32)))
    result: dict = {"median_occlusion": median}
    for part in ("cameras", "fields"):
        pairs = data[part]
        ours, theirs = predict(model, variables, pairs.low), bilinear(pairs.low, median)
        interior = theirs[..., MASK] > 0.999
        groups = {"all": np.full(len(pairs.names), True)}
        groups |= {str(name): pairs.names == name for name in dict.fromkeys(pairs.names)}
        result[part] = {
            name: {
                "ours": scores(ours[rows], pairs.high[rows], interior[rows]),
                "bilinear": scores(theirs[rows], pairs.high[rows], interior[rows]),
            }
            for name, rows in groups.items()
        }
    return result


def picture(path: Path, model: SRNet, variables: dict, pairs: Pairs, *, examples: int = 3) -> None:
    """Draw examples: input, bilinear, ours and truth, by normal, mask, depth and ambient occlusion."""
    chosen = np.linspace(0, len(pairs.low) - 1, examples).round().astype(int)
    low, high = (frames[chosen].astype(np.float32) for frames in (pairs.low, pairs.high))
    columns = {
        "input": low.repeat(SCALE, 1).repeat(SCALE, 2),
        "bilinear": np.asarray(upscale(jnp.asarray(low), SCALE)),
        "ours": predict(model, variables, low),
        "truth": high,
    }
    figure = Figure((2 * 4 * examples, 8.4), layout="constrained")
    axes = figure.subplots(4, 4 * examples, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for example in range(examples):
        inside = high[example, ..., MASK] > 0
        depths = high[example, ..., DEPTH][inside]
        for index, (title, frames) in enumerate(columns.items()):
            column, frame = axes[:, 4 * example + index], frames[example]
            shown = frame[..., MASK : MASK + 1] > 0
            column[0].set_title(title if index else f"input, {pairs.names[chosen[example]]}", fontsize=9)
            column[0].imshow(np.where(shown, np.clip(to_unit_range(frame)[..., NORMAL], 0, 1), 1))
            column[1].imshow(frame[..., MASK], "gray", vmin=-1, vmax=1)
            depth = np.ma.masked_where(~shown[..., 0], frame[..., DEPTH])
            column[2].imshow(depth, "viridis", vmin=depths.min(), vmax=depths.max())
            if frame.shape[-1] == len(OUTPUT_CHANNELS):
                column[3].imshow(np.where(shown[..., 0], frame[..., OCCLUSION], 1), "gray", vmin=0, vmax=1)
    figure.savefig(path, dpi=80)


def main() -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(description="Train SRNet on isosurfaces that it renders itself.")
    parser.add_argument("out", type=Path, help="safetensors file to write; .json, .md and .png beside it")
    parser.add_argument(
        "--volumes", type=Path, help=".npz of uint8 volumes (d, h, w), in addition to the analytic fields"
    )
    parser.add_argument("--held-out", action="append", help=f"field to hold out (default: {', '.join(HELD_OUT)})")
    parser.add_argument("--count", type=int, default=2400, help="pairs to train on")
    parser.add_argument("--test-count", type=int, default=96, help="pairs of held-out fields, and of held-out cameras")
    parser.add_argument("--pairs", type=Path, help="file of the rendered pairs (default: OUT.pairs.npz)")
    parser.add_argument("--schedule", type=schedule, default=schedule("32:60000"), help="e.g. 16:3000,32:300")
    parser.add_argument("--start", type=Path, help="weights to start from (default: a random network)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--peak", type=float, default=1e-4, help="highest learning rate")
    parser.add_argument("--warmup", type=float, default=0.0, help="fraction of the steps")
    parser.add_argument("--halve-every", type=int, default=100, help="epochs; 0 for a cosine")
    parser.add_argument("--clip", type=float, default=5.0, help="largest norm of the gradient")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="file of the state, to resume from")
    args = parser.parse_args()

    began = time.monotonic()
    held_out = tuple(args.held_out or HELD_OUT)
    field_key, view_key, start_key = jax.random.split(jax.random.key(args.seed), 3)
    sources = all_fields(field_key, args.volumes)
    shapes = {name: field.shape for name, field in sources.items()}
    data = cached(
        args.pairs or args.out.with_suffix(".pairs.npz"),
        repr((shapes, held_out, args.count, args.test_count, args.seed)),
        lambda: render_pairs(view_key, sources, held_out, args.count, args.test_count),
    )
    print(f"{args.count} pairs to train on, {time.monotonic() - began:.0f} s", flush=True)
    model = SRNet()
    variables = read_weights(args.start)[0] if args.start else dict(model.init(start_key, jnp.zeros((1, 32, 32, 5))))
    variables = train(
        model,
        variables,
        data["training"],
        stages=args.schedule,
        batch_size=args.batch_size,
        peak=args.peak,
        warmup=args.warmup,
        halve_every=args.halve_every or None,
        clip=args.clip,
        seed=args.seed,
        checkpoint=args.checkpoint,
    )
    done = evaluation(model, variables, data) | {
        "trained_on": sorted(set(data["training"].names.tolist())),
        "training_pairs": args.count,
        "test_pairs": args.test_count,
        "halve_every": args.halve_every or None,
        "clip": args.clip,
    }
    done |= record.options_and_machine(args, began)
    record.publish(args.out, variables, {"network": "srnet"}, done, record.srnet_card(done))
    picture(args.out.with_suffix(".png"), model, variables, data["fields"])


if __name__ == "__main__":
    main()
