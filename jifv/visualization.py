"""Feature visualization: maximize the significance d(f(p), v) over p, by Adam and then L-BFGS.

The first axis is the batch. Its samples are independent: each has its own line search, stops by itself, and
one that fails leaves the others as they are.

The loop over the steps runs in Python and one step is compiled, with what f closes over as constants. A
compiled loop carries the network's weights as loop variables, and gradients of convolutions with variable
kernels are tens of times slower on XLA's CPU backend. A step costs one gradient of the batch, during L-BFGS
too: there a step is one trial of every sample's line search, so that a sample that searches long does not
hold up the rest.
"""

import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from jifv._core.check import check_count, check_nonnegative, check_objectives, check_positive, check_power, concrete
from jifv._core.devices import compiler_options, divisible, gather, mesh_of, over_samples, scatter
from jifv._core.progress import bar
from jifv.response import Response, feature_count
from jifv.significance import cosine, significance

with warnings.catch_warnings():
    # JAXopt announces at its import that it is no longer maintained, on which no user of ours can act.
    warnings.simplefilter("ignore", DeprecationWarning)
    import jaxopt

# Constants of the Wolfe conditions, trials after which a line search has failed (when bisection has shrunk the
# step 2**20 times), and iterations of L-BFGS without improvement after which a sample stops.
_DECREASE = 1e-4
_CURVATURE = 0.9
_TRIALS = 20
_PATIENCE = 20
_PRECISIONS = ("default", "high", "highest")

# Samples whose network is computed at once on a CPU, and entries of p in all of them; more outgrow caches. Of 1, 2, 4,
# 8 and all, 4 are best at 32×32 (DenseNet takes 0.8 of the time that all of 32 take at once) and 64×64, 2 at 112×112,
# 1 at 224×224.
_MOST_AT_ONCE = 4
_ENTRIES_AT_ONCE = 80_000


@dataclass(frozen=True)
class Settings:
    """Options of `visualize`. The steps are those of the paper (section 3.2) for DenseNet and SRNet.

    Attributes:
        adam_steps: Steps of Adam.
        lbfgs_steps: Iterations of L-BFGS after it, at most. A sample stops earlier when it has converged, and
            when its line searches have taken 1.5 gradients for each of these iterations and ten more.
        learning_rate: Of Adam, in units of p. The first step of L-BFGS moves no entry of p further than this.
        cooldown: Part of Adam's steps, in [0, 1], at their end, over which its rate falls linearly to 0. At a
            constant rate Adam keeps hopping across the kinks of ReLU and max pooling.
        power: Exponent k >= 0 of the cosine.
        floor: Least value of the cosine, in [0, 1], or None. See `significance`.
        history: Number of past steps that L-BFGS keeps, each of the size of p, twice.
        tolerance: A sample has converged when ‖∂d/∂p‖ <= tolerance · |d|, or when no step improves d.
        precision: Of matrix products and convolutions, "default", "high" or "highest". Only "highest" is
            float32 on accelerators; inversion needs more digits of the gradient than the others keep.
        adam_precision: The same for Adam's steps before its cooldown, None for `precision`. They only bring p near:
            "default" leaves the predictions as good as they were (benchmarks/precision.py).

    Raises:
        TypeError: a count is not an integer, or a number is not one.
        ValueError: a value is outside its range.
    """

    adam_steps: int = 800
    lbfgs_steps: int = 300
    learning_rate: float | int = 0.05
    cooldown: float | int = 0.25
    power: float | int = 2.0
    floor: float | int | None = 0.1
    history: int = 10
    tolerance: float | int = 1e-8
    precision: str = "highest"
    adam_precision: str | None = None

    def __post_init__(self) -> None:
        """Check every value."""
        for name in ("adam_steps", "lbfgs_steps"):
            check_count(name, getattr(self, name))
        check_positive("history", self.history)
        check_nonnegative("learning_rate", self.learning_rate)
        if self.learning_rate == 0:
            raise ValueError("learning_rate must be positive, got 0")
        check_power(self.power)
        check_nonnegative("tolerance", self.tolerance)
        for name in ("cooldown", "floor"):
            value = getattr(self, name)
            if name == "floor" and value is None:
                continue
            check_nonnegative(name, value)
            if value > 1:
                raise ValueError(f"{name} must be at most 1, got {value}")
        if self.precision not in _PRECISIONS:
            raise ValueError(f"precision must be one of {_PRECISIONS}, got {self.precision!r}")
        if self.adam_precision not in (None, *_PRECISIONS):
            raise ValueError(f"adam_precision must be None or one of {_PRECISIONS}, got {self.adam_precision!r}")
        # Settings are the key under which a compiled step is found again, and arrays cannot be keys.
        for name in ("learning_rate", "cooldown", "power", "floor", "tolerance"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))


class Bracket(NamedTuple):
    """State of a line search, one entry a sample; steps are in units of the search direction."""

    low: Float[Array, "*batch"]
    high: Float[Array, "*batch"]
    trial: Float[Array, "*batch"]
    count: Int[Array, "*batch"]


class Best(NamedTuple):
    """The best p that L-BFGS has found, one entry a sample.

    A loss lower by more than rounding is better, and so is a smaller gradient where the loss does not tell.

    Attributes:
        value: Its loss, -d.
        error: Its ‖∂d/∂p‖.
        age: Iterations since.
    """

    value: Float[Array, "*batch"]
    error: Float[Array, "*batch"]
    age: Int[Array, "*batch"]


class State(NamedTuple):
    """All that is needed to continue a run as if it had not been interrupted: a pytree of arrays.

    Attributes:
        parameters: Current p of each sample.
        fallback: Where each sample returns to: during Adam the last p at which d and its gradient were
            finite, during L-BFGS the best p, see `Best`.
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


class Visualization(NamedTuple):
    """Realizations and how they ended.

    Attributes:
        parameters: Realizations p.
        response: r = f(p).
        significance: d(r, v), with the floor.
        cosine: cos(r, v), without it.
        gradient_norm: ‖∂d/∂p‖.
        adam_steps: Steps of Adam taken.
        lbfgs_steps: Iterations of L-BFGS taken.
        on_floor: Whether the cosine is on its floor, where inversion does not hold. False for k = 0.
        finite: Whether everything was finite. A sample that was not keeps its last parameters that were.
    """

    parameters: Float[Array, "batch *p"]
    response: Float[Array, "batch n"]
    significance: Float[Array, " batch"]
    cosine: Float[Array, " batch"]
    gradient_norm: Float[Array, " batch"]
    adam_steps: Int[Array, " batch"]
    lbfgs_steps: Int[Array, " batch"]
    on_floor: Bool[Array, " batch"]
    finite: Bool[Array, " batch"]


def visualize(
    f: Response,
    parameters: Float[Array | np.ndarray, "batch *p"],
    objectives: Float[Array | np.ndarray, "batch n"],
    *,
    settings: Settings = Settings(),
    batch_size: int | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
    description: str = "visualize",
) -> Visualization:
    """Maximize the significance of each objective, starting from each of the given parameters.

    d(r, v) = ⟨r, v⟩ · max(cos(r, v), floor)^k with r = f(p), by Adam and then L-BFGS (paper, section 3.2).

    The steps are compiled once for each f, settings and shape of a batch, so pass the same function object
    again and not an equal one. Rounding may depend on the batch size, nothing else does.

    Args:
        f: Response function of one sample, p -> r.
        parameters: Initial p, one for each objective.
        objectives: Target objectives v, finite and nonzero; of unit length for d to be comparable.
        settings: Steps, learning rate, power, floor.
        batch_size: Samples optimized at a time, on all devices together, which bounds the memory; None for all.
            The last are padded.
        mesh: Devices that share each batch, see `sample_mesh`; None for the one that holds the parameters.
        progress: Whether to show progress on standard error.
        description: Name of the stage in the progress.

    Returns:
        Realizations in the order of the objectives.

    Raises:
        TypeError: `f` is not a hashable function, the parameters are not real floating-point numbers, or
            `batch_size` is not an integer.
        ValueError: the batch is empty, shapes do not fit, an objective is zero or not finite, parameters are
            not finite, or `batch_size` < 1.
    """
    parameters, objectives = jnp.asarray(parameters), jnp.asarray(objectives)
    _check(f, parameters, objectives)
    count = parameters.shape[0]
    if batch_size is None:
        batch_size = count
    check_positive("batch_size", batch_size)
    batch_size = min(batch_size, count)
    total = settings.adam_steps + _most_trials(settings)
    parts = []
    with bar(description, count * total, progress) as report:
        for first in range(0, count, batch_size):
            # Repeating the last sample gives every batch the same shape, and so one compilation.
            samples = divisible(np.minimum(np.arange(first, first + batch_size), count - 1), mesh)
            kept = min(batch_size, count - first)
            state = scatter(_start(parameters[samples], objectives[samples], settings), mesh)
            done = 0
            while not finished(state, settings):
                state = advance(f, state, settings, 10)
                report(kept * (int(state.step) - done))
                done = int(state.step)
            report(kept * (total - done))
            end = finish(f, state, settings)
            parts.append(jax.tree.map(lambda x, kept=kept: x[:kept], end if mesh is None else gather(end)))
    return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


def start(
    f: Response,
    parameters: Float[Array | np.ndarray, "batch *p"],
    objectives: Float[Array | np.ndarray, "batch n"],
    settings: Settings,
) -> State:
    """State before the first step. See `visualize` for the arguments and errors."""
    parameters, objectives = jnp.asarray(parameters), jnp.asarray(objectives)
    _check(f, parameters, objectives)
    return _start(parameters, objectives, settings)


def advance(f: Response, state: State, settings: Settings, steps: int | None = None) -> State:
    """Take further steps, each one gradient of the batch; fewer if all samples stop before.

    How the steps are divided between calls makes no difference, not a bit.

    Args:
        f: The function that the state was started with.
        state: Where to continue.
        settings: The settings that the state was started with.
        steps: Most steps to take, or None to go on until all samples have stopped. A step is one of Adam, or
            one trial of the line search of L-BFGS, of which an iteration takes one or more.

    Returns:
        The new state; the given one remains valid.

    Raises:
        TypeError: `steps` is not an integer.
        ValueError: `steps` is negative, or the state was started with another `history`.
    """
    if steps is not None:
        check_count("steps", steps)
    if state.lbfgs.s_history.shape[1] != settings.history:
        kept = state.lbfgs.s_history.shape[1]
        raise ValueError(f"settings.history must be that of the state, {kept}, got {settings.history}")
    left = np.inf if steps is None else steps
    if not state.begun:
        first = int(state.step)
        for step in range(first, int(min(first + left, settings.adam_steps))):
            state = _adam_step(f, settings, state, step)
            left -= 1
        if int(state.step) >= settings.adam_steps and left > 0:
            _, value, gradient = _evaluate(f, settings, state.parameters, state.objectives)
            state = _begin_lbfgs(settings, state, value, gradient)
    if state.begun:
        while left > 0 and state.active.any():
            state = _lbfgs_step(f, settings, state)
            left -= 1
    return state


def finished(state: State, settings: Settings) -> bool:
    """Whether every sample has stopped, so that `advance` would return the state as it is."""
    return int(state.step) >= settings.adam_steps and bool(state.begun) and not bool(state.active.any())


def finish(f: Response, state: State, settings: Settings) -> Visualization:
    """Result of a run, also of one that is not finished. See `visualize`."""
    return _finish(settings, state, *_evaluate(f, settings, state.parameters, state.objectives))


@partial(jax.jit, static_argnums=0)
def _finish(settings: Settings, state: State, response: Array, value: Array, gradient: Array) -> Visualization:
    cos = cosine(response, state.objectives)
    floor = -np.inf if settings.floor is None or settings.power == 0 else settings.floor
    return Visualization(
        parameters=state.parameters,
        response=response,
        significance=-value,
        cosine=cos,
        gradient_norm=_norm(gradient),
        adam_steps=state.adam_steps,
        lbfgs_steps=state.lbfgs_steps,
        on_floor=cos <= floor,
        finite=state.finite & _all_finite(value, gradient),
    )


def save_state(path: str | os.PathLike, state: State) -> None:
    """Write a state to a file. The file is replaced only once it is complete."""
    path = Path(path)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        try:
            file.write(serialization.to_bytes(jax.device_get(state)))
            file.close()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def load_state(path: str | os.PathLike, template: State) -> State:
    """Read a state from a file.

    Args:
        path: File written by `save_state`.
        template: Any state of the same run, such as what `start` returned.

    Raises:
        ValueError: the file does not hold a state, or one of another shape or dtype than the template.
    """
    try:
        state = serialization.from_bytes(template, Path(path).read_bytes())
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{path} does not hold the state of a visualization: {error}") from error
    for (place, old), new in zip(jax.tree_util.tree_leaves_with_path(template), jax.tree.leaves(state), strict=True):
        if np.shape(new) != old.shape or new.dtype != old.dtype:
            name = jax.tree_util.keystr(place)
            raise ValueError(f"{path} has {new.dtype}{np.shape(new)} for {name}, expected {old.dtype}{old.shape}")
    return jax.tree.map(jnp.asarray, state)


def _check(f: Response, parameters: Array, objectives: Array) -> None:
    if not callable(f):
        raise TypeError(f"f must be a function, got {f!r}")
    try:
        hash(f)
    except TypeError:
        raise TypeError("f must be hashable to be compiled once: wrap it in a function") from None
    if parameters.ndim == 0 or parameters.shape[0] == 0:
        raise ValueError(f"parameters must hold at least one sample on the first axis, got shape {parameters.shape}")
    features = feature_count(f, jax.ShapeDtypeStruct(parameters.shape[1:], parameters.dtype))
    check_objectives(objectives, features)
    if objectives.shape != (parameters.shape[0], features):
        raise ValueError(
            f"objectives must have shape {(parameters.shape[0], features)}, one for each of the parameters, "
            f"got {objectives.shape}"
        )
    if concrete(parameters) and not jnp.isfinite(parameters).all():
        raise ValueError("parameters must be finite, got NaN or infinite entries")


def _start(parameters: Array, objectives: Array, settings: Settings) -> State:
    batch, dtype = parameters.shape[0], parameters.dtype
    zeros, counts = jnp.zeros(batch, dtype), jnp.zeros(batch, jnp.int32)
    # The structure is the same from first step to last, so that any state is a template to load any other.
    solver = _solver(lambda p: (jnp.zeros((), dtype), jnp.zeros_like(p)), settings)
    # JAXopt's counters have a weak type. Those of a state read from a file do not, and would compile again.
    lbfgs = jax.tree.map(lambda x: x.astype(x.dtype), jax.vmap(solver.init_state)(parameters))
    return State(
        parameters=parameters,
        fallback=parameters,
        objectives=objectives.astype(dtype),
        adam=_adam(settings).init(parameters),
        lbfgs=lbfgs,
        bracket=_fresh_bracket(jnp.ones(batch, dtype)),
        best=Best(zeros, zeros, counts),
        step=jnp.zeros((), jnp.int32),
        begun=jnp.zeros((), bool),
        active=jnp.ones(batch, bool),
        finite=jnp.ones(batch, bool),
        adam_steps=counts,
        lbfgs_steps=counts,
    )


def _before_cooldown(settings: Settings) -> int:
    """Steps of Adam at its full rate."""
    return settings.adam_steps - round(settings.cooldown * settings.adam_steps)


def _adam(settings: Settings) -> optax.GradientTransformation:
    rate, full = settings.learning_rate, _before_cooldown(settings)
    if full < settings.adam_steps:
        rate = optax.linear_schedule(rate, 0.0, settings.adam_steps - full, transition_begin=full)
    return optax.adam(rate)


def _solver(loss: Callable, settings: Settings, step: Callable | float = 1.0) -> jaxopt.LBFGS:
    """L-BFGS that takes the given step without a line search of its own.

    JAXopt's line searches run inside an iteration, so that under `vmap` every sample waits for the slowest: on a
    small ReLU network two gradients of the batch an iteration (zoom), 25 (Hager-Zhang), where a search of each
    sample's own takes 1.2. benchmarks/lbfgs.py measures it.
    """
    return jaxopt.LBFGS(
        loss,
        value_and_grad=True,
        stepsize=step,
        history_size=settings.history,
        implicit_diff=False,
        jit=False,
    )


def _evaluate(f: Response, settings: Settings, parameters: Array, objectives: Array) -> tuple[Array, Array, Array]:
    """r, -d and its gradient, of a batch.

    This alone compiles the network, once for Adam, L-BFGS and re-optimization: the settings that tell them apart
    are no part of it.
    """
    options = {"power": settings.power, "floor": settings.floor, "precision": settings.precision}
    mesh = mesh_of(parameters)
    return _compiled(mesh)(f, parameters, objectives, mesh=mesh, **options)


@cache
def _compiled(mesh: Mesh | None) -> Callable:
    fixed = ("f", "mesh", "power", "floor", "precision")
    return jax.jit(_response_and_gradient, static_argnames=fixed, compiler_options=compiler_options(mesh))


def _response_and_gradient(
    f: Response,
    parameters: Array,
    objectives: Array,
    *,
    mesh: Mesh | None,
    power: float,
    floor: float | None,
    precision: str,
) -> tuple[Array, Array, Array]:
    def loss(p: Array, v: Array) -> tuple[Array, Array]:
        response = f(p)
        return -significance(response, v, power=power, floor=floor), response

    with jax.default_matmul_precision(precision):
        batch_loss = over_samples(_few_at_once(jax.value_and_grad(loss, has_aux=True)), mesh)
        (value, response), slope = batch_loss(parameters, objectives)
    return response, value, slope


def _few_at_once(function: Callable) -> Callable:
    """`jax.vmap`, but on a CPU a loop over a few samples at a time, whose activations fit into its caches."""

    def batched(parameters: Array, objectives: Array) -> Any:
        batch, most = parameters.shape[0], parameters.shape[0]
        if jax.default_backend() == "cpu":
            most = max(1, min(_MOST_AT_ONCE, _ENTRIES_AT_ONCE // max(1, parameters[0].size)))
        turns = -(-batch // most)
        if turns == 1:
            return jax.vmap(function)(parameters, objectives)
        # Turns of equal size: a shorter last one would be compiled as another program.
        size = -(-batch // turns)
        rows = np.minimum(np.arange(turns * size), batch - 1)
        results = jax.lax.map(lambda sample: function(*sample), (parameters[rows], objectives[rows]), batch_size=size)
        return jax.tree.map(lambda leaf: leaf[:batch], results)

    return batched


def _adam_step(f: Response, settings: Settings, state: State, step: int) -> State:
    """The step of that number, which the state has too, on its device."""
    coarse = settings.adam_precision if step < _before_cooldown(settings) else None
    stage = replace(settings, precision=coarse) if coarse else settings
    _, value, gradient = _evaluate(f, stage, state.parameters, state.objectives)
    return _adam_update(settings, state, value, gradient)


@partial(jax.jit, static_argnums=0)
def _adam_update(settings: Settings, state: State, value: Array, gradient: Array) -> State:
    good = state.finite & _all_finite(value, gradient)
    updates, adam = _adam(settings).update(_where(good, gradient, jnp.zeros_like(gradient)), state.adam)
    moved = optax.apply_updates(state.parameters, updates)
    return state._replace(
        parameters=_where(good, moved, state.fallback),
        fallback=_where(good, state.parameters, state.fallback),
        adam=adam,
        step=state.step + 1,
        finite=good,
        adam_steps=state.adam_steps + good,
    )


@partial(jax.jit, static_argnums=0)
def _begin_lbfgs(settings: Settings, state: State, value: Array, gradient: Array) -> State:
    good = state.finite & _all_finite(value, gradient)
    lbfgs = state.lbfgs._replace(
        value=jnp.where(good, value, 0),
        grad=_where(good, gradient, jnp.zeros_like(gradient)),
        gamma=jax.vmap(partial(_first_scale, settings))(gradient),
        error=_norm(gradient),
    )
    parameters = _where(good, state.parameters, state.fallback)
    return state._replace(
        parameters=parameters,
        fallback=parameters,
        lbfgs=lbfgs,
        best=state.best._replace(value=lbfgs.value, error=lbfgs.error),
        begun=jnp.ones((), bool),
        active=good & ~_converged(settings, lbfgs) & (settings.lbfgs_steps > 0),
        finite=good,
    )


def _lbfgs_step(f: Response, settings: Settings, state: State) -> State:
    """One trial of the line search of each sample, which ends an iteration if the step is accepted."""
    moved = _lbfgs_trial(settings, state)
    _, value, gradient = _evaluate(f, settings, moved, state.objectives)
    return _lbfgs_update(settings, state, moved, value, gradient)


@partial(jax.jit, static_argnums=0)
def _lbfgs_trial(settings: Settings, state: State) -> Array:
    """Where the next trial of each sample is."""

    def trial(p: Array, old: Any, step: Array) -> Array:
        return _solver(lambda p: (old.value, old.grad), settings, lambda _: step).update(p, old).params

    with jax.default_matmul_precision(settings.precision):
        return jax.vmap(trial)(state.parameters, state.lbfgs, state.bracket.trial)


@partial(jax.jit, static_argnums=0)
def _lbfgs_update(settings: Settings, state: State, moved: Array, value: Array, gradient: Array) -> State:
    """Judge the trial by the loss and gradient there."""

    def update(p: Array, old: Any, bracket: Bracket, moved: Array, value: Array, gradient: Array) -> tuple:
        new = _solver(lambda _: (value, gradient), settings, lambda _: bracket.trial).update(p, old).state
        accepted, bracket = _judge(bracket, old, new, moved - p)
        # Out of trials: forget the curvature and follow the gradient. If that is what failed, stop.
        failed = ~accepted & (bracket.count >= _TRIALS)
        stuck = failed & (old.rho_history == 0).all()
        # A step accepted without the curvature condition can spoil the curvature, which must be positive.
        spoiled = accepted & ~(jnp.vdot(moved - p, new.grad - old.grad) > 0)
        lbfgs = _where(accepted, new, old)
        lbfgs = _where(failed | spoiled, _forget(settings, lbfgs), lbfgs)
        bracket = _where(accepted | failed, _fresh_bracket(jnp.ones_like(old.value)), bracket)
        return jnp.where(accepted, moved, p), lbfgs, bracket, accepted, stuck

    with jax.default_matmul_precision(settings.precision):
        parameters, lbfgs, bracket, accepted, stuck = jax.vmap(update)(
            state.parameters, state.lbfgs, state.bracket, moved, value, gradient
        )
    active, accepted = state.active, state.active & accepted
    better = accepted & _better(lbfgs, state.best)
    best = _where(better, Best(lbfgs.value, lbfgs.error, jnp.zeros_like(state.best.age)), state.best)
    best = best._replace(age=best.age + (accepted & ~better))
    fallback = _where(better, parameters, state.fallback)
    taken = state.lbfgs_steps + accepted
    step = state.step + 1
    stop = stuck | _converged(settings, lbfgs) | (best.age >= _PATIENCE) | (taken >= settings.lbfgs_steps)
    # The end game of one sample at a kink, many trials for little gain, would cost the whole batch.
    stop |= step >= settings.adam_steps + _most_trials(settings)
    return state._replace(
        parameters=_where(active, _where(stop, fallback, parameters), state.parameters),
        fallback=fallback,
        lbfgs=_where(active, lbfgs, state.lbfgs),
        bracket=_where(active, bracket, state.bracket),
        best=best,
        step=step,
        active=active & ~stop,
        lbfgs_steps=taken,
    )


def _judge(bracket: Bracket, old: Any, new: Any, step: Array) -> tuple[Array, Bracket]:
    """Whether to accept a step of one sample, and the bracket with the next trial if not.

    The weak Wolfe conditions by bisection and doubling (Lewis & Overton 2013, "Nonsmooth optimization via
    quasi-Newton methods"), which can be met also where ReLU and max pooling give the significance kinks.
    """
    before, after = jnp.vdot(old.grad, step), jnp.vdot(new.grad, step)
    # Near the optimum the decrease is lost to rounding, the slope is not (Hager & Zhang 2005).
    decreased = jnp.where(
        jnp.abs(new.value - old.value) <= _rounding(old.value),
        after <= (2 * _DECREASE - 1) * before,
        new.value <= old.value + _DECREASE * before,
    )
    decreased &= (before < 0) & _all_finite(new.value[None], new.grad[None])[0]
    curved = after >= _CURVATURE * before
    count = bracket.count + 1
    accepted = decreased & (curved | (count >= _TRIALS))
    low = jnp.where(decreased, bracket.trial, bracket.low)
    high = jnp.where(decreased, bracket.high, bracket.trial)
    trial = jnp.where(jnp.isinf(high), 2 * low, (low + high) / 2)
    # The last trial is a step known to decrease the loss, if there is one.
    trial = jnp.where((count == _TRIALS - 1) & (low > 0), low, trial)
    # Along a direction that does not descend there is nothing to search.
    return accepted, Bracket(low, high, trial, jnp.where(before < 0, count, _TRIALS))


def _better(lbfgs: Any, best: Best) -> Array:
    """Whether an iterate is better than the best so far, see `Best`."""
    margin = _rounding(best.value)
    lower = lbfgs.value < best.value - margin
    return lower | ((lbfgs.value <= best.value + margin) & (lbfgs.error < best.error))


def _rounding(value: Array) -> Array:
    """Difference of two values of the loss that is within rounding."""
    return 8 * jnp.finfo(value.dtype).eps * jnp.abs(value)


def _most_trials(settings: Settings) -> int:
    """Gradients of the batch that L-BFGS may take.

    Where d is smooth an iteration takes 1.0 to 1.2, and the first one some more to find the length of a step.
    """
    return settings.lbfgs_steps * 3 // 2 + 10 if settings.lbfgs_steps else 0


def _fresh_bracket(first: Array) -> Bracket:
    """Bracket at the start of a line search, given its first trial; 1 is the full quasi-Newton step."""
    low, high = jnp.zeros_like(first), jnp.full_like(first, jnp.inf)
    return Bracket(low, high, first, jnp.zeros(first.shape, jnp.int32))


def _forget(settings: Settings, lbfgs: Any) -> Any:
    """State of one sample without its history."""
    return lbfgs._replace(rho_history=jnp.zeros_like(lbfgs.rho_history), gamma=_first_scale(settings, lbfgs.grad))


def _first_scale(settings: Settings, gradient: Array) -> Array:
    """Length of a step along the gradient that moves the entry it moves most by the learning rate."""
    largest = jnp.max(jnp.abs(gradient), initial=0)
    return jnp.where(largest > 0, settings.learning_rate / jnp.where(largest > 0, largest, 1), 1)


def _converged(settings: Settings, lbfgs: Any) -> Array:
    return lbfgs.error <= settings.tolerance * jnp.abs(lbfgs.value)


def _norm(x: Array) -> Array:
    """Euclidean norm of each sample."""
    return jnp.linalg.norm(x.reshape(x.shape[0], -1), axis=1)


def _all_finite(value: Array, gradient: Array) -> Array:
    """Which samples of a batch are finite throughout."""
    return jnp.isfinite(value) & jnp.isfinite(gradient).reshape(gradient.shape[0], -1).all(axis=1)


def _where(which: Array, yes: Any, no: Any) -> Any:
    """Choose between two pytrees by sample, or as a whole if `which` is a scalar."""
    return jax.tree.map(
        lambda a, b: jnp.where(which.reshape(which.shape + (1,) * (a.ndim - which.ndim)), a, b), yes, no
    )
