"""Feature visualization: maximize the significance d(f(p), v) over p, by Adam and then L-BFGS.

The first axis is the batch. Its samples are independent: each has its own line search, stops by itself, and one that
fails leaves the others as they are.

`visualize` does all of it; `start`, `advance` and `finish` do the same step by step, and `save_state` and `load_state`
keep what is between. The loop over the steps runs in Python and one step is compiled, with what f closes over as
constants. A compiled loop carries the network's weights as loop variables, and gradients of convolutions with variable
kernels are tens of times slower on XLA's CPU backend. A step costs one gradient of the batch, during L-BFGS too.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from jifv._core.anew import warn_if_anew
from jifv._core.check import as_array, check_count, check_positive
from jifv._core.devices import check_mesh, divisible, gather, scatter
from jifv._core.progress import bar
from jifv._visualize import adam, lbfgs
from jifv._visualize.aim import check_aim
from jifv._visualize.flat import FlatResponseWarning, warn_if_flat
from jifv._visualize.gradient import all_finite, evaluate_state, norm
from jifv._visualize.result import Visualization
from jifv._visualize.settings import PAPER, Settings
from jifv._visualize.state import Best, State, load_state, save_state
from jifv.ensemble import Ensemble
from jifv.priors import Prior
from jifv.response import Response
from jifv.significance import Objective, Significance, cosine

__all__ = [
    "PAPER",
    "FlatResponseWarning",
    "Settings",
    "State",
    "Visualization",
    "advance",
    "finish",
    "finished",
    "load_state",
    "save_state",
    "start",
    "visualize",
]

_STEPS_AT_A_TIME = 10  # between two looks at the device, which wait for it


def visualize(
    f: Response,
    parameters: Float[Array | np.ndarray, "batch *p"],
    objectives: Float[Array | np.ndarray, "batch n"],
    *,
    significance: Objective = Significance(),
    priors: Sequence[Prior] = (),
    transformations: Ensemble | None = None,
    settings: Settings = Settings(),
    batch_size: int | None = None,
    mesh: Mesh | None = None,
    progress: bool = False,
    description: str = "visualize",
) -> Visualization:
    """Maximize the significance of each objective, starting from each of the given parameters.

    d(r, v) = ⟨r, v⟩ · max(cos(r, v), floor)^k with r = f(p), by Adam and then, if wanted, L-BFGS (paper, section 3.2);
    less the priors, and averaged over the transformations, if there are any.

    The steps are compiled once for each f, significance, precision and shape of a batch, so pass the same function
    object again and not an equal one. Rounding may depend on the batch size, nothing else does.

    Args:
        f: Response function of one sample, p -> r.
        parameters: Initial p, one for each objective.
        objectives: Target objectives v, finite and nonzero; of unit length for d to be comparable.
        significance: The objective function (r, v) -> d of one sample: power and floor of the cosine, or any
            differentiable function of yours, which must be hashable. Inversion needs a `Significance`.
        priors: What is subtracted from it, Σ λⱼ Rⱼ(φ(p)); see `jifv.priors`.
        transformations: What it is averaged over: E d(A(N(τφ(p))), v); see `jifv.transform`.
        settings: Options of the optimizer.
        batch_size: Samples optimized at a time, on all devices together, which bounds the memory; None for all.
            The last are padded.
        mesh: Devices that share each batch, see `sample_mesh`; None for the one that holds the parameters.
        progress: Whether to show progress on standard error.
        description: Name of the stage in the progress.

    Returns:
        Realizations in the order of the objectives, with the objective function that they maximize.

    Warns:
        FlatResponseWarning: The gradient is exactly 0 for every sample, so that nothing can be optimized.

    Raises:
        TypeError: `f` or `significance` is not a hashable function, `significance` or a prior does not return one
            number, the parameters are not real floating-point numbers, `settings` or `mesh` is something else, or
            `batch_size` is not an integer.
        ValueError: The batch is empty, shapes do not fit, an objective is zero or not finite, parameters are
            not finite, `batch_size` < 1, or f does not depend on its parameters; priors of the image or transformations
            for an f that `compose` has not made, or transformations drawn anew with L-BFGS.
    """
    parameters, objectives = as_array("parameters", parameters), as_array("objectives", objectives)
    aim = significance, tuple(priors), transformations
    check_aim(f, parameters, objectives, *aim, settings)
    check_mesh(mesh)
    warn_if_anew("f", f)
    if not isinstance(significance, Significance):
        warn_if_anew("significance", significance)
    for prior in priors:
        warn_if_anew("priors", prior.penalty)
    if transformations is not None:
        warn_if_anew("transformations", transformations.transformation)
    count = parameters.shape[0]
    batch_size = count if batch_size is None else batch_size
    check_positive("batch_size", batch_size)
    batch_size = min(batch_size, count)
    total = settings.adam_steps + settings.most_trials
    parts = []
    with bar(description, count * total, progress) as report:
        for first in range(0, count, batch_size):
            # Repeating the last sample gives every batch the same shape, and so one compilation.
            samples = divisible(np.minimum(np.arange(first, first + batch_size), count - 1), mesh)
            kept = min(batch_size, count - first)
            begun = state = scatter(_start(parameters, objectives, samples, *aim, settings), mesh)
            done = 0
            while not finished(state):
                state = advance(f, state, _STEPS_AT_A_TIME)
                if first == done == 0:
                    warn_if_flat(f, begun, state)
                report(kept * (int(state.step) - done))
                done = int(state.step)
            report(kept * (total - done))
            end = finish(f, state)
            parts.append(jax.tree.map(lambda x, kept=kept: x[:kept], end if mesh is None else gather(end)))
    return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


def start(
    f: Response,
    parameters: Float[Array | np.ndarray, "batch *p"],
    objectives: Float[Array | np.ndarray, "batch n"],
    *,
    significance: Objective = Significance(),
    priors: Sequence[Prior] = (),
    transformations: Ensemble | None = None,
    settings: Settings = Settings(),
) -> State:
    """Return the state before the first step. See `visualize` for the arguments and errors."""
    parameters, objectives = as_array("parameters", parameters), as_array("objectives", objectives)
    aim = significance, tuple(priors), transformations
    check_aim(f, parameters, objectives, *aim, settings)
    return _start(parameters, objectives, np.arange(len(parameters)), *aim, settings)


def advance(f: Response, state: State, steps: int | None = None) -> State:
    """Take further steps, each one gradient of the batch; fewer if all samples stop before.

    How the steps are divided between calls makes no difference, not a bit.

    Args:
        f: The function that the state was started with.
        state: Where to continue; it carries the objective function and the settings.
        steps: Most steps to take, or None to go on until all samples have stopped. A step is one of Adam, or one
            trial of the line search of L-BFGS, of which an iteration takes one or more.

    Returns:
        The new state; the given one remains valid.

    Raises:
        TypeError: `steps` is not an integer.
        ValueError: `steps` is negative.
    """
    if steps is not None:
        check_count("steps", steps)
    left = np.inf if steps is None else steps
    last = state.settings.adam_steps
    if not state.begun:
        first = int(state.step)
        for step in range(first, int(min(first + left, last))):
            if step % _STEPS_AT_A_TIME == 0 and not state.active.any():
                break
            state = adam.adam_step(f, state, step)
        left -= int(state.step) - first  # without the steps that no sample has taken
        if left > 0:
            _, value, gradient = evaluate_state(f, state)
            state = lbfgs.begin_lbfgs(state, value, gradient)
    if state.begun:
        while left > 0 and state.active.any():
            state = lbfgs.lbfgs_step(f, state)
            left -= 1
    return state


def finished(state: State) -> bool:
    """Tell whether every sample has stopped, so that `advance` would return the state as it is."""
    return bool(state.begun) and not bool(state.active.any())


def finish(f: Response, state: State) -> Visualization:
    """Return the result of a run, also of one that is not finished. See `visualize`."""
    return _finish(state, *evaluate_state(f, state))


@jax.jit
def _finish(state: State, response: Array, value: Array, gradient: Array) -> Visualization:
    cos = cosine(response, state.objectives)
    d = state.significance
    return Visualization(
        parameters=state.parameters,
        objectives=state.objectives,
        response=response,
        value=-value,
        cosine=cos,
        gradient_norm=norm(gradient),
        adam_steps=state.adam_steps,
        lbfgs_steps=state.lbfgs_steps,
        on_floor=d.on_floor(cos) if isinstance(d, Significance) else jnp.zeros(cos.shape, bool),
        finite=state.finite & all_finite(value, gradient),
        significance=d,
        priors=state.priors,
        transformations=state.transformations,
    )


@partial(jax.jit, static_argnames=("significance", "priors", "transformations", "settings"))
def _start(
    parameters: Array,
    objectives: Array,
    samples: Int[np.ndarray | Array, " batch"],
    significance: Objective,
    priors: tuple[Prior, ...],
    transformations: Ensemble | None,
    settings: Settings,
) -> State:
    parameters, objectives = parameters[samples], objectives[samples]
    batch, dtype = parameters.shape[0], parameters.dtype
    zeros, counts = jnp.zeros(batch, dtype), jnp.zeros(batch, jnp.int32)
    return State(
        parameters=parameters,
        fallback=parameters,
        objectives=objectives.astype(dtype),
        adam=adam.initial(settings, parameters),
        lbfgs=lbfgs.initial(settings, parameters),
        bracket=lbfgs.fresh_bracket(jnp.ones(batch, dtype)),
        best=Best(zeros, zeros, counts),
        step=jnp.zeros((), jnp.int32),
        begun=jnp.zeros((), bool),
        active=jnp.ones(batch, bool),
        finite=jnp.ones(batch, bool),
        adam_steps=counts,
        lbfgs_steps=counts,
        significance=significance,
        settings=settings,
        priors=priors,
        transformations=transformations,
    )
