"""How far a realization is from being optimal for a given objective."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jifv._core.check import as_array, check_objectives
from jifv._invert.check import check_linearization
from jifv.jacobian import compress
from jifv.significance import Significance, check_invertible


def stationarity(
    response: Float[ArrayLike, "*batch n"],
    jacobian: Float[ArrayLike, "*batch n m"],
    objectives: Float[ArrayLike, "*batch n"],
    *,
    significance: Significance,
) -> Float[Array, "*batch"]:
    """Measure how far realizations are from being optimal for given objectives: ‖JᵀBv‖/σ₁(BJ), in [0, 1].

    At a maximum of d the gradient s · JᵀBv vanishes, and with it this number. σ₁, the largest singular value of BJ, is
    the length that the gradient could have for an objective of unit length, so that the number does not depend on the
    scale of p or r. Inversion can find v where it is well below the singular values of other directions; it decides
    every claim about a realization.

    Args:
        response: r, shape (*batch, n).
        jacobian: J, shape (*batch, n, m), or what `compress` makes of it.
        objectives: v, of any length but zero, shape (*batch, n).
        significance: See `invert`.

    Returns:
        One number per sample; 0 where J is 0, NaN where it is not finite.

    Raises:
        TypeError: As `invert`.
        ValueError: Shapes do not fit, or an objective is zero or not finite.
    """
    response, jacobian, objectives = as_directions("objectives", response, jacobian, objectives, significance)
    return _stationarity(response, jacobian, objectives, significance=significance)


def as_directions(
    name: str,
    response: ArrayLike,
    jacobian: ArrayLike,
    directions: ArrayLike,
    significance: Significance,
) -> tuple[Array, Array, Array]:
    """Check r, J and one direction per sample; return them as arrays of one dtype, float32 or wider."""
    response, jacobian = as_array("response", response), as_array("jacobian", jacobian)
    directions = as_array(name, directions)
    check_linearization(response, jacobian)
    check_invertible(significance)
    check_objectives(directions, response.shape[-1])
    if directions.shape != response.shape:
        raise ValueError(f"{name} must have the shape of response, {response.shape}, got {directions.shape}")
    dtype = jnp.promote_types(jnp.result_type(response, jacobian), jnp.float32)
    return response.astype(dtype), jacobian.astype(dtype), directions.astype(dtype)


@partial(jax.jit, static_argnames="significance")
def _stationarity(response: Array, jacobian: Array, objectives: Array, *, significance: Significance) -> Array:
    return gradient_left(response, compress(jacobian), objectives[..., None, :], significance)[..., 0]


def gradient_left(
    response: Float[Array, "*batch n"],
    compressed: Float[Array, "*batch n k"],
    directions: Float[Array, "*batch d n"],
    significance: Significance,
) -> Float[Array, "*batch d"]:
    """Compute ‖JᵀBv‖/σ₁(BJ) of d directions per sample, of any length; NaN where r or J is not finite."""
    with jax.default_matmul_precision("highest"):
        product = _scaled(significance.gradient_product(response, compressed), (-2, -1))
        units = unit(directions)
        residues = jnp.linalg.norm(jnp.einsum("...dn,...nk->...dk", units, product), axis=-1)
        # An SVD must not see NaN: not every LAPACK returns from that.
        finite = jnp.all(jnp.isfinite(product), axis=(-2, -1))
        values = jnp.linalg.svd(jnp.where(finite[..., None, None], product, 0), compute_uv=False)
    largest = values[..., :1]
    return jnp.where(finite[..., None], residues / jnp.where(largest > 0, largest, 1), jnp.nan)


def unit(directions: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    """Scale directions to unit length; NaN where they are zero."""
    directions = _scaled(directions, -1)
    return directions / jnp.linalg.norm(directions, axis=-1, keepdims=True)


def _scaled(array: Array, axes: int | tuple[int, ...]) -> Array:
    """Divide by the largest entry, so that no square over- or underflows."""
    peak = jnp.max(jnp.abs(array), axis=axes, keepdims=True)
    return array / jnp.where(peak > 0, peak, 1)
