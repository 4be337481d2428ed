"""Inversion: from a realization's response r and Jacobian J to the objective v with a vanishing gradient.

The gradient of the significance is, up to a positive factor, Jᵀ B v with B = (k+1)·I − k·r̂r̂ᵀ. Everything is a singular
value decomposition, never an eigendecomposition of a Gram matrix: squaring the condition number would in float32 lose
every singular value below 3e-4 of the largest, which is where the answer lives. The Jacobian, by far the largest array,
is read once, for the triangle T in Jᵀ = U T; the rest is n × n. A `batch` may be any number of leading axes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, ArrayLike, Float

from jifv._core.anew import warn_if_anew
from jifv._core.check import as_array, check_positive, concrete
from jifv._core.devices import check_mesh, in_turn, over_samples
from jifv._core.progress import bar
from jifv._core.tuning import compiler_options
from jifv._invert.check import check_fixed, check_gradients, check_linearization, check_options
from jifv._invert.doubt import FAR, NotStationaryWarning, warn_if_doubtful
from jifv._invert.solve import Inversion, solve
from jifv._invert.stationary import stationarity
from jifv._invert.transformed import weighted
from jifv._visualize.result import Visualization, unpacked
from jifv.ensemble import Ensemble
from jifv.jacobian import linearize
from jifv.priors import Prior, check_priors, prior_gradients
from jifv.response import Response, feature_count
from jifv.significance import Significance

__all__ = ["FAR", "Inversion", "NotStationaryWarning", "invert", "invert_at", "invert_batch", "stationarity"]


def invert(
    response: Float[ArrayLike, "*batch n"],
    jacobian: Float[ArrayLike, "*batch n m"],
    *,
    significance: Significance,
    basis: Float[ArrayLike, "n q"] | None = None,
    dead_tolerance: float = 0.0,
    prior_gradients: Float[ArrayLike, "*batch j m"] | None = None,
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

    A realization with priors is stationary where s·JᵀBv = Σ λⱼ∇Rⱼ(p). Then J(I − QQᵀ) takes the place of J, Q an
    orthonormal basis of the ∇Rⱼ, and the weights λ follow from v by least squares.

    Args:
        response: r, shape (*batch, n).
        jacobian: J, shape (*batch, n, m), or what `compress` makes of it. Precision below float32 is raised to
            float32.
        significance: What the realizations maximize; its power decides B.
        basis: Q, orthonormal basis of the critical space V, shape (n, q), one for the whole batch; V = Rⁿ if None.
        dead_tolerance: A feature counts as dead, too, if its row in J is at most so many times as long as the
            longest; in [0, 1).
        prior_gradients: ∇Rⱼ(p) of the priors, without weights, shape (*batch, j, m). To compress, compress them and J
            together, as one matrix.

    Returns:
        The objective with its singular values and vectors, and the weights of priors; see `Inversion`.

    Raises:
        TypeError: An array is not of floating point, or `significance` is no `Significance`.
        ValueError: Shapes do not fit, an axis is empty, `dead_tolerance` is outside [0, 1), or the columns of `basis`
            are not orthonormal to 1e-3 (checked where its values are known, that is, not while it is traced).
    """
    response, jacobian = as_array("response", response), as_array("jacobian", jacobian)
    check_linearization(response, jacobian)
    check_options(significance, basis, dead_tolerance, response.shape[-1])
    dtype = jnp.promote_types(jnp.result_type(response, jacobian), jnp.float32)
    if basis is not None:
        basis = jnp.asarray(basis, dtype)
    if prior_gradients is not None:
        prior_gradients = as_array("prior_gradients", prior_gradients)
        check_gradients(prior_gradients, jacobian)
        prior_gradients = prior_gradients.astype(dtype) if prior_gradients.shape[-2] else None
    options = {"significance": significance, "tolerance": float(dead_tolerance)}
    return _invert_batch(response.astype(dtype), jacobian.astype(dtype), basis, prior_gradients, **options)


def invert_at(
    f: Response,
    parameters: Float[Array, "..."],
    *,
    significance: Significance,
    basis: Float[ArrayLike, "n q"] | None = None,
    dead_tolerance: float = 0.0,
    row_batch_size: int | None = None,
    priors: Sequence[Prior] = (),
) -> Inversion:
    """Invert one realization: `linearize`, then `invert`.

    Args:
        f: Response function, p of any shape to r of shape (n,).
        parameters: p, of any shape.
        significance: See `invert`.
        basis: See `invert`.
        dead_tolerance: See `invert`.
        row_batch_size: See `linearize`.
        priors: With which it was made, of unknown weights.

    Returns:
        The `Inversion`, without batch axes.

    Warns:
        NotStationaryWarning: As `invert_batch`; not while p is traced.

    Raises:
        TypeError: As `linearize` and `invert`.
        ValueError: As `linearize` and `invert`, before f is evaluated.
    """
    check_options(significance, basis, dead_tolerance, feature_count(f, parameters))
    check_priors(f, priors, parameters)
    response, jacobian = linearize(f, parameters, row_batch_size=row_batch_size)
    gradients = prior_gradients(f, priors, parameters) if priors else None
    options: dict[str, Any] = {"basis": basis, "dead_tolerance": dead_tolerance, "prior_gradients": gradients}
    found = invert(response, jacobian, significance=significance, **options)
    if concrete(found.stationarity):
        warn_if_doubtful(found.stationarity[None], found.cosine[None], significance)
    return found


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
    priors: Sequence[Prior] | None = None,
    transformations: Ensemble | None = None,
    rounds: int = 2,
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
        priors: With which the realizations were made, of unknown weights; () for none. A `Visualization` carries its
            own, whose weights are not used.
        transformations: A fixed set over which d was averaged. A `Visualization` carries its own; where every step drew
            others, pass some `transform.fixed`, to estimate the expectation with.
        rounds: Over transformations the gradient is Σ s J Bv with weights s = max(cos(r, v), floor)^k that depend on v:
            solve so many times, first with s = 1, then with those of the last v.

    Returns:
        The `Inversion`, in the order of the samples.

    Warns:
        NotStationaryWarning: Samples have a `stationarity` above `FAR`: no objective makes their gradient small. Or
            their `cosine` is on the floor of the significance, where no visualization ends.

    Raises:
        TypeError: As `linearize` and `invert`.
        ValueError: As `linearize` and `invert`, there are no samples, or `significance` is not that of the
            realizations; the transformations are not fixed, or there is a basis as well; before f is evaluated.
    """
    check_mesh(mesh)
    parameters, objective, own = unpacked(realizations, significance)
    shape, dtype = jnp.shape(parameters), jnp.result_type(parameters)
    if not shape or not shape[0]:
        raise ValueError(f"realizations must hold at least one sample on the first axis, got shape {shape}")
    one = jax.ShapeDtypeStruct(shape[1:], dtype)
    # Weights are not part of the question, nor of the program.
    priors = tuple(replace(prior, weight=1.0) for prior in (own["priors"] if priors is None else priors))
    transformations = transformations or own["transformations"]
    check_options(objective, basis, dead_tolerance, feature_count(f, one))
    assert isinstance(objective, Significance)
    check_priors(f, priors, one)
    warn_if_anew("f", f)
    options = {"significance": objective, "tolerance": float(dead_tolerance), "rows": row_batch_size, "mesh": mesh}
    bits = None
    if transformations is not None:
        check_fixed(f, transformations, basis)
        check_positive("rounds", rounds)
        bits = transformations.bits()
        options |= {"ensemble": replace(transformations, words=()), "rounds": rounds}
    inversions = []
    with bar(description, shape[0], progress) as advance:
        for inversion in in_turn(partial(_compiled(mesh), f, basis, bits, priors=priors, **options), mesh, parameters):
            inversions.append(inversion)
            advance()
    found = jax.device_put(jax.tree.map(lambda *each: np.stack(each), *inversions))
    warn_if_doubtful(found.stationarity, found.cosine, objective)
    return found


@cache
def _compiled(mesh: Mesh | None) -> Callable:
    fixed = ("f", "significance", "tolerance", "rows", "mesh", "priors", "ensemble", "rounds")
    return jax.jit(_invert_rows, static_argnames=fixed, compiler_options=compiler_options(mesh))


def _invert_rows(
    f: Response,
    basis: Float[Array, "n q"] | None,
    bits: Array | None,
    parameters: Float[Array, "devices *p"],
    *,
    significance: Significance,
    tolerance: float,
    rows: int | None,
    mesh: Mesh | None,
    priors: tuple[Prior, ...],
    ensemble: Ensemble | None = None,
    rounds: int = 1,
) -> Inversion:
    """Invert as many realizations as there are devices."""
    options: dict[str, Any] = {"dead_tolerance": tolerance, "row_batch_size": rows, "priors": priors}

    def one(alone: Float[Array, "1 *p"]) -> Inversion:
        if ensemble is None or bits is None:
            found = invert_at(f, alone[0], basis=basis, significance=significance, **options)
        else:
            found = _reweighted(f, alone[0], significance, ensemble, bits, rounds, options)
        return jax.tree.map(lambda leaf: leaf[None], found)

    return over_samples(one, mesh)(parameters)


def _reweighted(
    f: Response,
    parameters: Float[Array, "..."],
    significance: Significance,
    ensemble: Ensemble,
    bits: Array,
    rounds: int,
    options: dict[str, Any],
) -> Inversion:
    gradients = prior_gradients(f, options["priors"], parameters)

    def again(objective: Float[Array, " n"], _: None) -> tuple[Float[Array, " n"], Inversion]:
        mean = weighted(f, ensemble, bits, significance, objective)
        response, jacobian = linearize(mean, parameters, row_batch_size=options["row_batch_size"])
        # s and B are in this Jacobian already.
        inversion = invert(
            response,
            jacobian,
            significance=Significance(power=0),
            dead_tolerance=options["dead_tolerance"],
            prior_gradients=gradients,
        )
        return inversion.objective, inversion

    start = jnp.zeros_like(jax.eval_shape(f, parameters))
    _, each = jax.lax.scan(again, start, length=rounds)
    return jax.tree.map(lambda leaf: leaf[-1], each)


@partial(jax.jit, static_argnames=("significance", "tolerance"))
def _invert_batch(
    response: Float[Array, "*batch n"],
    jacobian: Float[Array, "*batch n m"],
    basis: Float[Array, "n q"] | None,
    gradients: Float[Array, "*batch j m"] | None,
    *,
    significance: Significance,
    tolerance: float,
) -> Inversion:
    *batch, features, columns = jacobian.shape
    samples = response.reshape(-1, features), jacobian.reshape(-1, features, columns)
    if gradients is not None:
        gradients = gradients.reshape(-1, *gradients.shape[-2:])
    # Full float32 products: TF32, a GPU's default, has three digits, and the answer lies below them.
    with jax.default_matmul_precision("highest"):
        solution = solve(*samples, significance, basis, tolerance, gradients)
    return jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), solution)
