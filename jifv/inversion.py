"""Inversion: from a realization's response r and Jacobian J to the objective v with a vanishing gradient.

The gradient of the significance is, up to a positive factor, Jᵀ B v with B = (k+1)·I − k·r̂r̂ᵀ. Everything is a singular
value decomposition, never an eigendecomposition of a Gram matrix: squaring the condition number would in float32 lose
every singular value below 3e-4 of the largest, which is where the answer lives. The Jacobian, by far the largest array,
is read once, for the triangle T in Jᵀ = U T; the rest is n × n. A `batch` may be any number of leading axes.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, ArrayLike, Float

from jifv._core.anew import warn_if_anew
from jifv._core.check import check_fraction, check_objectives
from jifv._core.devices import check_mesh, in_turn, over_samples
from jifv._core.progress import bar
from jifv._core.tuning import compiler_options
from jifv._invert.doubt import FAR, NotStationaryWarning, warn_if_far
from jifv._invert.solve import Inversion, check_basis, solve
from jifv._visualize.result import Visualization, unpacked
from jifv.jacobian import compress, linearize
from jifv.response import Response, feature_count
from jifv.significance import Significance, check_invertible

__all__ = ["FAR", "Inversion", "NotStationaryWarning", "invert", "invert_at", "invert_batch", "stationarity"]


def invert(
    response: Float[ArrayLike, "*batch n"],
    jacobian: Float[ArrayLike, "*batch n m"],
    *,
    significance: Significance,
    basis: Float[ArrayLike, "n q"] | None = None,
    dead_tolerance: float = 0.0,
) -> Inversion:
    """Solve min ‖Jᵀ B v‖ subject to ‖v‖ = 1 and B v ∈ V (Opt. 3 of the paper).

    With V = Rⁿ the solution is the left-singular vector of BJ to the smallest singular value. Otherwise let R be an
    orthonormal basis of B⁻¹V; then v = R u with u the left-singular vector of RᵀBJ to the smallest singular value.
    Where the complement of V lies in J's cokernel, an objective v* with JᵀBv* = 0 is found as the normalized
    B⁻¹QQᵀBv*, Q the basis of V: only modulo that complement.

    A feature is dead where rᵢ = 0 and row i of J is zero. Then eᵢ would be a trivial solution, so such samples are
    solved with the further constraint vᵢ = 0. A realization is never quite stationary, and of a feature whose row is
    shorter than the gradient that is left it says nothing either: `dead_tolerance` extends the constraint to those.
    For r = 0, r̂ is taken to be 0.

    Args:
        response: r, shape (*batch, n).
        jacobian: J, shape (*batch, n, m), or what `compress` makes of it. Precision below float32 is raised to
            float32.
        significance: What the realizations maximize; its power decides B.
        basis: Q, orthonormal basis of the critical space V, shape (n, q), one for the whole batch; V = Rⁿ if None.
        dead_tolerance: A feature counts as dead, too, if its row in J is at most so many times as long as the
            longest; in [0, 1).

    Returns:
        The objective with its singular values and vectors; see `Inversion`.

    Raises:
        TypeError: An array is not of floating point, or `significance` is no `Significance`.
        ValueError: Shapes do not fit, an axis is empty, `dead_tolerance` is outside [0, 1), or the columns of `basis`
            are not orthonormal to 1e-3 (checked where its values are known, that is, not while it is traced).
    """
    response, jacobian = jnp.asarray(response), jnp.asarray(jacobian)
    _check_linearization(response, jacobian)
    _check_options(significance, basis, dead_tolerance, response.shape[-1])
    dtype = jnp.promote_types(jnp.result_type(response, jacobian), jnp.float32)
    if basis is not None:
        basis = jnp.asarray(basis, dtype)
    options = {"significance": significance, "tolerance": float(dead_tolerance)}
    return _invert_batch(response.astype(dtype), jacobian.astype(dtype), basis, **options)


def invert_at(
    f: Response,
    parameters: Float[Array, "..."],
    *,
    significance: Significance,
    basis: Float[ArrayLike, "n q"] | None = None,
    dead_tolerance: float = 0.0,
    row_batch_size: int | None = None,
) -> Inversion:
    """Invert one realization: `linearize`, then `invert`.

    Args:
        f: Response function, p of any shape to r of shape (n,).
        parameters: p, of any shape.
        significance: See `invert`.
        basis: See `invert`.
        dead_tolerance: See `invert`.
        row_batch_size: See `linearize`.

    Returns:
        The `Inversion`, without batch axes.

    Raises:
        TypeError: As `linearize` and `invert`.
        ValueError: As `linearize` and `invert`, before f is evaluated.
    """
    _check_options(significance, basis, dead_tolerance, feature_count(f, parameters))
    response, jacobian = linearize(f, parameters, row_batch_size=row_batch_size)
    return invert(response, jacobian, significance=significance, basis=basis, dead_tolerance=dead_tolerance)


def invert_batch(
    f: Response,
    realizations: Visualization | Float[Array | np.ndarray, "batch *p"],
    *,
    significance: Significance | None = None,
    basis: Float[ArrayLike, "n q"] | None = None,
    dead_tolerance: float = 0.0,
    row_batch_size: int | None = None,
    mesh: Mesh | None = None,
    progress: bool = False,
    description: str = "invert",
) -> Inversion:
    """Invert many realizations, one per device at a time: no Jacobian outlives its inversion.

    Compiled once for each f, shape and set of options, so pass the same function object again.

    Args:
        f: Response function of one sample, p of any shape to r of shape (n,).
        realizations: What `visualize` returned, or the p of each sample, along the first axis.
        significance: What the realizations maximize. A `Visualization` carries its own; for an array it has no
            default, because another power gives another, wrong objective.
        basis: See `invert`.
        dead_tolerance: See `invert`.
        row_batch_size: See `linearize`.
        mesh: Devices that share the batch, see `sample_mesh`; None for the default one.
        progress: Whether to show progress on standard error.
        description: Name of the stage in the progress.

    Returns:
        The `Inversion`, in the order of the samples.

    Warns:
        NotStationaryWarning: Samples have a `stationarity` above `FAR`: no objective makes their gradient small.

    Raises:
        TypeError: As `linearize` and `invert`.
        ValueError: As `linearize` and `invert`, there are no samples, or `significance` is not that of the
            realizations; before f is evaluated.
    """
    check_mesh(mesh)
    parameters, objective = unpacked(realizations, significance)
    shape, dtype = jnp.shape(parameters), jnp.result_type(parameters)
    if not shape or not shape[0]:
        raise ValueError(f"realizations must hold at least one sample on the first axis, got shape {shape}")
    features = feature_count(f, jax.ShapeDtypeStruct(shape[1:], dtype))
    _check_options(objective, basis, dead_tolerance, features)
    warn_if_anew("f", f)
    options = {"significance": objective, "tolerance": float(dead_tolerance), "rows": row_batch_size, "mesh": mesh}
    inversions = []
    with bar(description, shape[0], progress) as advance:
        for inversion in in_turn(partial(_compiled(mesh), f, basis, **options), mesh, parameters):
            inversions.append(inversion)
            advance()
    found = jax.tree.map(lambda *each: jnp.asarray(np.stack(each)), *inversions)
    warn_if_far(found.stationarity)
    return found


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
    response, jacobian, objectives = jnp.asarray(response), jnp.asarray(jacobian), jnp.asarray(objectives)
    _check_linearization(response, jacobian)
    check_invertible(significance)
    check_objectives(objectives, response.shape[-1])
    if objectives.shape != response.shape:
        raise ValueError(f"objectives must have the shape of response, {response.shape}, got {objectives.shape}")
    dtype = jnp.promote_types(jnp.result_type(response, jacobian), jnp.float32)
    arrays = (array.astype(dtype) for array in (response, jacobian, objectives))
    return _stationarity(*arrays, significance=significance)


def _check_linearization(response: Array, jacobian: Array) -> None:
    for name, array in (("response", response), ("jacobian", jacobian)):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"{name} must be of floating point, got {array.dtype}")
    if response.ndim == 0 or jacobian.ndim < 2:
        raise ValueError(
            f"response and jacobian must have shapes (*batch, n) and (*batch, n, m), "
            f"got {response.shape} and {jacobian.shape}"
        )
    if jacobian.shape[:-1] != response.shape:
        raise ValueError(
            f"jacobian must have the shape of response and one axis more, (*batch, n, m), "
            f"got {jacobian.shape} for a response of {response.shape}"
        )
    if 0 in jacobian.shape:
        raise ValueError(f"jacobian must have no empty axis, got shape {jacobian.shape}")


def _check_options(significance: object, basis: ArrayLike | None, dead_tolerance: float, features: int) -> None:
    check_invertible(significance)
    check_fraction("dead_tolerance", dead_tolerance, below_one=True)
    if basis is not None:
        check_basis(basis, features)


@cache
def _compiled(mesh: Mesh | None) -> Callable:
    fixed = ("f", "significance", "tolerance", "rows", "mesh")
    return jax.jit(_invert_rows, static_argnames=fixed, compiler_options=compiler_options(mesh))


def _invert_rows(
    f: Response,
    basis: Float[Array, "n q"] | None,
    parameters: Float[Array, "devices *p"],
    *,
    significance: Significance,
    tolerance: float,
    rows: int | None,
    mesh: Mesh | None,
) -> Inversion:
    """Invert as many realizations as there are devices."""
    options: dict[str, Any] = {"significance": significance, "dead_tolerance": tolerance, "row_batch_size": rows}

    def one(alone: Float[Array, "1 *p"]) -> Inversion:
        return jax.tree.map(lambda leaf: leaf[None], invert_at(f, alone[0], basis=basis, **options))

    return over_samples(one, mesh)(parameters)


@partial(jax.jit, static_argnames=("significance", "tolerance"))
def _invert_batch(
    response: Float[Array, "*batch n"],
    jacobian: Float[Array, "*batch n m"],
    basis: Float[Array, "n q"] | None,
    *,
    significance: Significance,
    tolerance: float,
) -> Inversion:
    *batch, features, columns = jacobian.shape
    samples = response.reshape(-1, features), jacobian.reshape(-1, features, columns)
    # Full float32 products: TF32, a GPU's default, has three digits, and the answer lies below them.
    with jax.default_matmul_precision("highest"):
        solution = solve(*samples, significance, basis, tolerance)
    return jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), solution)


@partial(jax.jit, static_argnames="significance")
def _stationarity(response: Array, jacobian: Array, objectives: Array, *, significance: Significance) -> Array:
    with jax.default_matmul_precision("highest"):
        product = _scaled(significance.gradient_product(response, compress(jacobian)), (-2, -1))
        unit = _scaled(objectives, -1)
        unit = unit / jnp.linalg.norm(unit, axis=-1, keepdims=True)
        residue = jnp.linalg.norm(jnp.sum(unit[..., None] * product, axis=-2), axis=-1)
        # An SVD must not see NaN: not every LAPACK returns from that.
        finite = jnp.all(jnp.isfinite(product), axis=(-2, -1))
        values = jnp.linalg.svd(jnp.where(finite[..., None, None], product, 0), compute_uv=False)
    largest = values[..., 0]
    return jnp.where(finite, residue / jnp.where(largest > 0, largest, 1), jnp.nan)


def _scaled(array: Array, axes: int | tuple[int, ...]) -> Array:
    """Divide by the largest entry, so that no square over- or underflows."""
    peak = jnp.max(jnp.abs(array), axis=axes, keepdims=True)
    return array / jnp.where(peak > 0, peak, 1)
