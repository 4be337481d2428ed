"""The objective function of a batch and its gradient: the one place that compiles the network for optimization."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from jifv._core.devices import mesh_of, over_samples, scatter
from jifv._core.tuning import compiler_options, samples_at_once
from jifv._visualize.state import State
from jifv.ensemble import Ensemble, respond
from jifv.priors import Penalty, Prior, penalty_of
from jifv.response import Response
from jifv.significance import Objective


def evaluate(
    f: Response,
    significance: Objective,
    precision: str,
    parameters: Float[Array, "batch *p"],
    objectives: Float[Array, "batch n"],
    *,
    active: Bool[Array, " batch"] | None = None,
    priors: tuple[Prior, ...] = (),
    transformations: Ensemble | None = None,
    step: Array | int = 0,
) -> tuple[Float[Array, "batch n"], Float[Array, " batch"], Float[Array, "batch *p"]]:
    """Compute r, the loss Σ λR - d and its gradient for a batch; means over transformations if there are any.

    Of samples that are not active they may be 0 instead, where that saves time.

    This alone compiles the network, once for Adam, L-BFGS and re-optimization: the settings that tell them apart are
    no part of it. Neither are weights and keys, which are arrays.
    """
    mesh = mesh_of(parameters)
    extras: dict[str, Any] = {}
    if priors:
        extras["penalties"] = tuple((prior.penalty, prior.of) for prior in priors)
        extras["weights"] = np.asarray([prior.weight for prior in priors], parameters.dtype)
    if transformations is not None:
        extras["ensemble"] = replace(transformations, words=())
        extras["bits"], extras["step"] = transformations.bits(), step
    fixed = {"mesh": mesh, "significance": significance, "precision": precision}
    if active is None:
        active = scatter(np.ones(len(parameters), bool), mesh)
    return _compiled(mesh)(f, parameters, objectives, active, **fixed, **extras)


def evaluate_state(
    f: Response,
    state: State,
    parameters: Float[Array, "batch *p"] | None = None,
    *,
    active: Bool[Array, " batch"] | None = None,
    precision: str | None = None,
) -> tuple[Float[Array, "batch n"], Float[Array, " batch"], Float[Array, "batch *p"]]:
    """Evaluate what a state maximizes, at its parameters or at others. See `evaluate`."""
    return evaluate(
        f,
        state.significance,
        precision or state.settings.precision,
        state.parameters if parameters is None else parameters,
        state.objectives,
        active=active,
        priors=state.priors,
        transformations=state.transformations,
        step=state.step,
    )


@cache
def _compiled(mesh: Mesh | None) -> Callable:
    fixed = ("f", "mesh", "significance", "precision", "penalties", "ensemble")
    return jax.jit(_response_and_gradient, static_argnames=fixed, compiler_options=compiler_options(mesh))


def _response_and_gradient(
    f: Response,
    parameters: Array,
    objectives: Array,
    active: Array,
    *,
    mesh: Mesh | None,
    significance: Objective,
    precision: str,
    penalties: tuple[tuple[Penalty, str], ...] = (),
    weights: Any = (),
    ensemble: Ensemble | None = None,
    bits: Any = None,
    step: Any = 0,
) -> tuple[Array, Array, Array]:
    def loss(p: Array, v: Array, key: Any = None) -> tuple[Array, Array]:
        response = f(p) if ensemble is None else respond(f, ensemble, key, p)
        return -significance(response, v), response

    def penalty(p: Array) -> Array:
        each = [penalty_of(f, *one, p) for one in penalties]
        return jnp.dot(weights, jnp.stack(each), precision="highest")

    def sample(p: Array, v: Array) -> tuple[tuple[Array, Array], Array]:
        if ensemble is None:
            (value, response), slope = slope_of(p, v)
        else:
            # One transformation after the other, in the memory of one.
            found = jax.lax.map(lambda key: slope_of(p, v, key), ensemble.keys(bits, step))
            (value, response), slope = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), found)
        if penalties:
            further, own = jax.value_and_grad(penalty)(p)
            value, slope = value + further, slope + own
        return (value, response), slope

    slope_of = jax.value_and_grad(loss, has_aux=True)
    with jax.default_matmul_precision(precision):
        batch_loss = over_samples(_few_at_once(sample), mesh)
        (value, response), slope = batch_loss(parameters, objectives, active)
    return response, value, slope


def _few_at_once(function: Callable) -> Callable:
    """Map over samples like `jax.vmap`, but on a CPU a few at a time, whose activations fit into its caches.

    The active ones come first there, and are all that is computed.
    """

    def batched(parameters: Array, objectives: Array, active: Array) -> Any:
        batch = parameters.shape[0]
        turns = -(-batch // samples_at_once(batch, parameters[0].size))
        if turns == 1:
            return jax.vmap(function)(parameters, objectives)
        # Turns of equal size: a shorter last one would be compiled as another program.
        size = -(-batch // turns)
        order = jnp.argsort(~active)[np.minimum(np.arange(turns * size), batch - 1)]
        few = jax.jit(jax.vmap(function))  # to be traced once, for the shapes and for the loop

        def take(turn: Array, results: Any) -> Any:
            rows = lax.dynamic_slice_in_dim(order, turn * size, size)
            found = few(parameters[rows], objectives[rows])
            return jax.tree.map(lambda whole, part: whole.at[rows].set(part), results, found)

        shapes = jax.eval_shape(few, parameters[:size], objectives[:size])
        nothing = jax.tree.map(lambda each: jnp.zeros((batch, *each.shape[1:]), each.dtype), shapes)
        return lax.fori_loop(0, -(-active.sum() // size), take, nothing)

    return batched


def norm(x: Float[Array, "batch *p"]) -> Float[Array, " batch"]:
    """Compute the Euclidean norm of each sample."""
    return jnp.linalg.norm(x.reshape(x.shape[0], -1), axis=1)


def all_finite(value: Float[Array, " batch"], gradient: Float[Array, "batch *p"]) -> Bool[Array, " batch"]:
    """Tell which samples of a batch are finite throughout."""
    return jnp.isfinite(value) & jnp.isfinite(gradient).reshape(gradient.shape[0], -1).all(axis=1)


def where(which: Bool[Array, "*batch"], yes: Any, no: Any) -> Any:
    """Choose between two pytrees per sample, or as a whole if `which` is a scalar."""
    return jax.tree.map(
        lambda a, b: jnp.where(which.reshape(which.shape + (1,) * (a.ndim - which.ndim)), a, b), yes, no
    )
