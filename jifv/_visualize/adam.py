"""The first stage: Adam at a constant learning rate that anneals to zero at the end."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jifv._visualize.gradient import all_finite, evaluate_state, norm, where
from jifv._visualize.redirected import wake
from jifv._visualize.settings import Settings
from jifv._visualize.state import State
from jifv.response import Response


def initial(settings: Settings, parameters: Float[Array, "batch *p"]) -> Any:
    """Return the state of `optax.adam` before its first step."""
    return _adam(settings).init(parameters)  # pyright: ignore[reportArgumentType]


def adam_step(f: Response, state: State, step: int) -> State:
    """Take Adam step `step`; `state.step` holds the same number, but reading it would wait for the device."""
    settings = state.settings
    coarse = settings.adam_precision if step < settings.steps_at_full_rate else None
    response, value, gradient = evaluate_state(f, state, active=state.active, precision=coarse)
    if step < settings.redirected_steps:
        gradient = wake(f, state, response, gradient, precision=coarse or settings.precision)
    return _update(state, value, gradient)


@jax.jit
def _update(state: State, value: Array, gradient: Array) -> State:
    good = state.finite & (~state.active | all_finite(value, gradient))
    goes_on = state.active & good
    if state.transformations is None or not state.transformations.anew:
        # Of transformations drawn anew a small gradient says nothing about the next ones.
        goes_on &= norm(gradient) > state.settings.tolerance * jnp.abs(value)
    updates, adam = _adam(state.settings).update(where(goes_on, gradient, jnp.zeros_like(gradient)), state.adam)
    moved: Any = optax.apply_updates(state.parameters, updates)  # pyright: ignore[reportArgumentType]
    return replace(
        state,
        parameters=where(goes_on, moved, where(good, state.parameters, state.fallback)),
        fallback=where(good, state.parameters, state.fallback),
        adam=adam,
        # Steps without anyone are none, so that it makes no difference how they are divided between calls.
        step=state.step + state.active.any(),
        active=goes_on,
        finite=good,
        adam_steps=state.adam_steps + goes_on,
    )


def _adam(settings: Settings) -> optax.GradientTransformation:
    rate, full = settings.learning_rate, settings.steps_at_full_rate
    if full < settings.adam_steps:
        rate = optax.linear_schedule(rate, 0.0, settings.adam_steps - full, transition_begin=full)
    return optax.adam(rate)
