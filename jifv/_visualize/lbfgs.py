"""The second stage: L-BFGS, with a line search of each sample's own that shares every gradient with the batch.

The only file that imports JAXopt. A step is one trial of every sample's line search, so that a sample that searches
long does not hold up the rest.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jifv._visualize.gradient import all_finite, evaluate_state, norm, where
from jifv._visualize.settings import Settings
from jifv._visualize.state import Best, Bracket, State
from jifv.response import Response

if TYPE_CHECKING:
    import jaxopt

# Constants of the Wolfe conditions, trials after which a line search has failed (when bisection has shrunk the step
# 2**20 times), and iterations without improvement after which a sample stops.
_DECREASE = 1e-4
_CURVATURE = 0.9
_TRIALS = 20
_PATIENCE = 20


def initial(settings: Settings, parameters: Float[Array, "batch *p"]) -> Any:
    """Return the state of `jaxopt.LBFGS` of each sample, all zeros.

    Its structure is the same from first step to last, so that any state is a template to load any other.
    """
    dtype = parameters.dtype
    solver = _solver(lambda p: (jnp.zeros((), dtype), jnp.zeros_like(p)), settings)
    # JAXopt's counters have a weak type. Those of a state read from a file do not, and would compile again.
    return jax.tree.map(lambda x: x.astype(x.dtype), jax.vmap(solver.init_state)(parameters))


def fresh_bracket(first: Float[Array, "*batch"]) -> Bracket:
    """Return the bracket at the start of a line search, given its first trial; 1 is the full quasi-Newton step."""
    low, high = jnp.zeros_like(first), jnp.full_like(first, jnp.inf)
    return Bracket(low, high, first, jnp.zeros(first.shape, jnp.int32))


@jax.jit
def begin_lbfgs(state: State, value: Float[Array, " batch"], gradient: Float[Array, "batch *p"]) -> State:
    """Start L-BFGS where Adam has ended, given the loss and its gradient there."""
    settings = state.settings
    good = state.finite & all_finite(value, gradient)
    lbfgs = state.lbfgs._replace(
        value=jnp.where(good, value, 0),
        grad=where(good, gradient, jnp.zeros_like(gradient)),
        gamma=jax.vmap(partial(_first_scale, settings))(gradient),
        error=norm(gradient),
    )
    parameters = where(good, state.parameters, state.fallback)
    return replace(
        state,
        parameters=parameters,
        fallback=parameters,
        lbfgs=lbfgs,
        best=state.best._replace(value=lbfgs.value, error=lbfgs.error),
        begun=jnp.ones((), bool),
        active=good & ~_converged(settings, lbfgs) & (settings.lbfgs_steps > 0),
        finite=good,
    )


def lbfgs_step(f: Response, state: State) -> State:
    """Take one trial of the line search of each sample, which ends an iteration if the step is accepted."""
    moved = _trial(state)
    _, value, gradient = evaluate_state(f, state, moved, active=state.active)
    return _update(state, moved, value, gradient)


@jax.jit
def _trial(state: State) -> Array:
    """Return where the next trial of each sample is."""
    settings = state.settings

    def trial(p: Array, old: Any, step: Array) -> Array:
        return _solver(lambda p: (old.value, old.grad), settings, lambda _: step).update(p, old).params

    with jax.default_matmul_precision(settings.precision):
        return jax.vmap(trial)(state.parameters, state.lbfgs, state.bracket.trial)


@jax.jit
def _update(state: State, moved: Array, value: Array, gradient: Array) -> State:
    """Judge the trial by the loss and gradient there."""
    settings = state.settings

    def update(p: Array, old: Any, bracket: Bracket, moved: Array, value: Array, gradient: Array) -> tuple:
        new = _solver(lambda _: (value, gradient), settings, lambda _: bracket.trial).update(p, old).state
        accepted, bracket = _judge(bracket, old, new, moved - p)
        # Out of trials: forget the curvature and follow the gradient. If that is what failed, stop.
        failed = ~accepted & (bracket.count >= _TRIALS)
        stuck = failed & (old.rho_history == 0).all()
        # A step accepted without the curvature condition can spoil the curvature, which must be positive.
        spoiled = accepted & ~(jnp.vdot(moved - p, new.grad - old.grad) > 0)
        lbfgs = where(accepted, new, old)
        lbfgs = where(failed | spoiled, _forget(settings, lbfgs), lbfgs)
        bracket = where(accepted | failed, fresh_bracket(jnp.ones_like(old.value)), bracket)
        return jnp.where(accepted, moved, p), lbfgs, bracket, accepted, stuck

    with jax.default_matmul_precision(settings.precision):
        parameters, lbfgs, bracket, accepted, stuck = jax.vmap(update)(
            state.parameters, state.lbfgs, state.bracket, moved, value, gradient
        )
    active, accepted = state.active, state.active & accepted
    better = accepted & _better(lbfgs, state.best)
    best = where(better, Best(lbfgs.value, lbfgs.error, jnp.zeros_like(state.best.age)), state.best)
    best = best._replace(age=best.age + (accepted & ~better))
    fallback = where(better, parameters, state.fallback)
    taken = state.lbfgs_steps + accepted
    step = state.step + 1
    stop = stuck | _converged(settings, lbfgs) | (best.age >= _PATIENCE) | (taken >= settings.lbfgs_steps)
    # The end game of one sample at a kink, many trials for little gain, would cost the whole batch.
    stop |= step >= settings.adam_steps + settings.most_trials
    return replace(
        state,
        parameters=where(active, where(stop, fallback, parameters), state.parameters),
        fallback=fallback,
        lbfgs=where(active, lbfgs, state.lbfgs),
        bracket=where(active, bracket, state.bracket),
        best=best,
        step=step,
        active=active & ~stop,
        lbfgs_steps=taken,
    )


def _solver(loss: Callable, settings: Settings, step: Callable | float = 1.0) -> "jaxopt.LBFGS":
    """Return an L-BFGS that takes the given step without a line search of its own.

    JAXopt's line searches run inside an iteration, so that under `vmap` every sample waits for the slowest: on a
    small ReLU network two gradients of the batch per iteration (zoom), 25 (Hager-Zhang), where a search of each
    sample's own takes 1.2 (benchmarks/lbfgs.py).
    """
    return _jaxopt().LBFGS(
        loss,
        value_and_grad=True,
        stepsize=step,
        history_size=settings.history,
        implicit_diff=False,
        jit=False,
    )


@cache
def _jaxopt():
    # With SciPy's optimizers it is a quarter of what importing jifv would take.
    with warnings.catch_warnings():
        # JAXopt announces at its import that it is no longer maintained, on which no user of ours can act.
        warnings.simplefilter("ignore", DeprecationWarning)
        import jaxopt
    return jaxopt


def _judge(bracket: Bracket, old: Any, new: Any, step: Array) -> tuple[Bool[Array, ""], Bracket]:
    """Tell whether to accept a step of one sample, and return the bracket with the next trial if not.

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
    decreased &= (before < 0) & all_finite(new.value[None], new.grad[None])[0]
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


def _better(lbfgs: Any, best: Best) -> Bool[Array, "*batch"]:
    """Tell whether an iterate is better than the best so far, see `Best`."""
    margin = _rounding(best.value)
    lower = lbfgs.value < best.value - margin
    return lower | ((lbfgs.value <= best.value + margin) & (lbfgs.error < best.error))


def _rounding(value: Array) -> Array:
    """Return the difference of two values of the loss that is within rounding."""
    return 8 * jnp.finfo(value.dtype).eps * jnp.abs(value)


def _forget(settings: Settings, lbfgs: Any) -> Any:
    """Return the state of one sample without its history."""
    return lbfgs._replace(rho_history=jnp.zeros_like(lbfgs.rho_history), gamma=_first_scale(settings, lbfgs.grad))


def _first_scale(settings: Settings, gradient: Array) -> Array:
    """Return the length of a step along the gradient that moves the entry it moves most by the learning rate."""
    largest = jnp.max(jnp.abs(gradient), initial=0)
    return jnp.where(largest > 0, settings.learning_rate / jnp.where(largest > 0, largest, 1), 1)


def _converged(settings: Settings, lbfgs: Any) -> Array:
    return lbfgs.error <= settings.tolerance * jnp.abs(lbfgs.value)
