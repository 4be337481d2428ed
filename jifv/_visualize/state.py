"""The state of an optimization: all that is needed to go on as if it had not been interrupted."""

import zlib
from dataclasses import asdict, dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization
from jaxtyping import Array, Bool, Float, Int

from jifv._core.check import concrete
from jifv._core.files import replace_durably
from jifv._visualize.settings import Settings
from jifv.ensemble import Ensemble
from jifv.priors import Prior
from jifv.significance import Objective, Significance


class Bracket(NamedTuple):
    """State of a line search, one entry per sample; steps are in units of the search direction."""

    low: Float[Array, "*batch"]
    high: Float[Array, "*batch"]
    trial: Float[Array, "*batch"]
    count: Int[Array, "*batch"]


class Best(NamedTuple):
    """The best p that L-BFGS has found, one entry per sample.

    A loss lower by more than rounding is better, and so is a smaller gradient where the loss does not tell.

    Attributes:
        value: Its loss, -d.
        error: Its ‖∂d/∂p‖.
        age: Iterations since.
    """

    value: Float[Array, "*batch"]
    error: Float[Array, "*batch"]
    age: Int[Array, "*batch"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=(
        "parameters",
        "fallback",
        "objectives",
        "adam",
        "lbfgs",
        "bracket",
        "best",
        "step",
        "begun",
        "active",
        "finite",
        "adam_steps",
        "lbfgs_steps",
    ),
    meta_fields=("significance", "settings", "priors", "transformations"),
)
@no_type_check  # of its construction: JAX puts together trees of anything, such as one sample, or NumPy's arrays
@dataclass(frozen=True)
class State:
    """All that is needed to continue a run as if it had not been interrupted: a pytree of arrays.

    Attributes:
        parameters: Current p of each sample.
        fallback: Where each sample returns to: during Adam the last p at which d and its gradient were finite, during
            L-BFGS the best p, see `Best`.
        objectives: Target objectives v.
        adam: State of `optax.adam`.
        lbfgs: State of `jaxopt.LBFGS` of each sample, zeros until L-BFGS begins.
        bracket: Line search of each sample: steps too short and too long, the step to try, trials.
        best: How good the best p of L-BFGS is.
        step: Steps done, of Adam and then trials of L-BFGS, each one gradient of the batch.
        begun: Whether L-BFGS has begun.
        active: Which samples have not stopped.
        finite: Which samples have met finite values only.
        adam_steps: Steps of Adam that each sample has taken.
        lbfgs_steps: Iterations of L-BFGS that each sample has taken.
        significance: The objective function d that is maximized.
        settings: Options of the optimizer.
        priors: What is subtracted from d, with weights.
        transformations: What d is averaged over, with its keys; None for the image as it is.
    """

    parameters: Float[Array, "batch *p"]
    fallback: Float[Array, "batch *p"]
    objectives: Float[Array, "batch n"]
    adam: Any
    lbfgs: Any
    bracket: Bracket
    best: Best
    step: Int[Array, ""]
    begun: Bool[Array, ""]
    active: Bool[Array, " batch"]
    finite: Bool[Array, " batch"]
    adam_steps: Int[Array, " batch"]
    lbfgs_steps: Int[Array, " batch"]
    significance: Objective
    settings: Settings
    priors: tuple[Prior, ...] = ()
    transformations: Ensemble | None = None

    def __repr__(self) -> str:
        """Say what is there; the arrays are too long to print."""
        samples, *_ = np.shape(self.objectives) or (0,)
        step = int(self.step) if isinstance(self.step, jax.Array) and concrete(self.step) else "unknown"
        return f"State({samples} samples, step {step}, {self.significance}, {self.settings})"


def save_state(path: str | PathLike, state: State) -> None:
    """Write a state to a file, with a checksum. The file is replaced only once it is complete."""
    leaves = {jax.tree_util.keystr(place): np.asarray(leaf) for place, leaf in _leaves(jax.device_get(state))}
    content = serialization.msgpack_serialize({"run": _run(state), "leaves": leaves})
    kept = {"checksum": zlib.crc32(content), "content": content}
    replace_durably(Path(path), serialization.msgpack_serialize(kept))


def load_state(path: str | PathLike, template: State) -> State:
    """Read a state from a file.

    Args:
        path: File written by `save_state`.
        template: Any state of the same run, such as what `start` returned: its objective function, settings and
            objectives must be those of the file.

    Raises:
        ValueError: The file is damaged, does not hold a state, or that of another run; the message names what differs.
    """
    run, leaves = _read(Path(path))
    wanted = _run(template)
    for name in wanted | run:
        if run.get(name) != wanted.get(name):
            raise ValueError(f"{path} was written with {name} {run.get(name)}, not {wanted.get(name)}")
    read = []
    for place, old in _leaves(template):
        name = jax.tree_util.keystr(place)
        new = leaves.get(name)
        if new is None or np.shape(new) != old.shape or new.dtype != old.dtype:
            found = "nothing" if new is None else f"{new.dtype}{np.shape(new)}"
            raise ValueError(f"{path} has {found} for {name}, expected {old.dtype}{old.shape}")
        read.append(jnp.asarray(new))
    state = jax.tree.unflatten(jax.tree.structure(template), read)
    if not np.array_equal(state.objectives, template.objectives):
        raise ValueError(f"{path} was written with other objectives")
    return state


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what was written, once its checksum is right."""
    try:
        kept: Any = serialization.msgpack_restore(path.read_bytes())
        content, checksum = kept["content"], kept["checksum"]
        damaged = zlib.crc32(content) != checksum
        parts: Any = {"run": {}, "leaves": {}} if damaged else serialization.msgpack_restore(content)
        run, leaves = dict(parts["run"]), {name: np.asarray(leaf) for name, leaf in parts["leaves"].items()}
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{path} does not hold the state of a visualization: {error}") from error
    if damaged:
        raise ValueError(f"{path} is damaged: it does not have the checksum that it says")
    return run, leaves


def _leaves(state: State) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(state)


def _run(state: State) -> dict[str, str]:
    """Put into words what must not change when a run continues."""
    run = {"significance": _label(state.significance)}
    for number, prior in enumerate(state.priors):
        run[f"prior {number}"] = f"{prior.weight!r} · {prior.name} of {prior.of}"
    if (ensemble := state.transformations) is not None:
        drawn = (ensemble.words, ensemble.draws, ensemble.anew, ensemble.points)
        run["transformations"] = f"{_label(ensemble.transformation)}, {drawn!r}"
    return run | {f"settings.{name}": repr(value) for name, value in asdict(state.settings).items()}


def _label(function: Any) -> str:
    if isinstance(function, Significance):
        return repr(function)
    return getattr(function, "__qualname__", type(function).__qualname__)
