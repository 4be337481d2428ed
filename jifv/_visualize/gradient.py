"""The objective function of a batch and its gradient: the one place that compiles the network for optimization."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from jifv._core.devices import mesh_of, over_samples
from jifv._core.tuning import compiler_options, samples_at_once
from jifv.response import Response
from jifv.significance import Objective


def evaluate(
    f: Response,
    significance: Objective,
    precision: str,
    parameters: Float[Array, "batch *p"],
    objectives: Float[Array, "batch n"],
) -> tuple[Float[Array, "batch n"], Float[Array, " batch"], Float[Array, "batch *p"]]:
    """Compute r, -d and the gradient of -d for a batch.

    This alone compiles the network, once for Adam, L-BFGS and re-optimization: the settings that tell them apart are
    no part of it.
    """
    mesh = mesh_of(parameters)
    return _compiled(mesh)(f, parameters, objectives, mesh=mesh, significance=significance, precision=precision)


@cache
def _compiled(mesh: Mesh | None) -> Callable:
    fixed = ("f", "mesh", "significance", "precision")
    return jax.jit(_response_and_gradient, static_argnames=fixed, compiler_options=compiler_options(mesh))


def _response_and_gradient(
    f: Response,
    parameters: Array,
    objectives: Array,
    *,
    mesh: Mesh | None,
    significance: Objective,
    precision: str,
) -> tuple[Array, Array, Array]:
    def loss(p: Array, v: Array) -> tuple[Array, Array]:
        response = f(p)
        return -significance(response, v), response

    with jax.default_matmul_precision(precision):
        batch_loss = over_samples(_few_at_once(jax.value_and_grad(loss, has_aux=True)), mesh)
        (value, response), slope = batch_loss(parameters, objectives)
    return response, value, slope


def _few_at_once(function: Callable) -> Callable:
    """Map over samples like `jax.vmap`, but on a CPU a few at a time, whose activations fit into its caches."""

    def batched(parameters: Array, objectives: Array) -> Any:
        batch = parameters.shape[0]
        turns = -(-batch // samples_at_once(batch, parameters[0].size))
        if turns == 1:
            return jax.vmap(function)(parameters, objectives)
        # Turns of equal size: a shorter last one would be compiled as another program.
        size = -(-batch // turns)
        rows = np.minimum(np.arange(turns * size), batch - 1)
        results = jax.lax.map(lambda sample: function(*sample), (parameters[rows], objectives[rows]), batch_size=size)
        return jax.tree.map(lambda leaf: leaf[:batch], results)

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
