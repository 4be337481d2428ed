"""Opt. 3 of the paper for a batch: arrays in, arrays out, every decision that rounding asks for."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from jifv._core.check import check_array, concrete
from jifv._core.html import ROWS, known, strongest, table
from jifv._core.linalg import right_singular, triangle
from jifv._invert.doubt import FAR
from jifv._invert.priors import Weights, take_out, unit_rows, weigh
from jifv.significance import Significance, cosine


class Inversion(NamedTuple):
    """The objective found for a realization, and how much to trust it.

    The dimension of the critical space is q, n without one. A direction is active unless the constraint v = 0 on dead
    features takes it out.

    Attributes:
        objective: v, shape (*batch, n), unit length, ⟨r, v⟩ ≥ 0, exactly 0 on dead features. NaN where nothing is
            known: r or J not finite, or dead features leave no direction.
        singular_values: ‖Jᵀ B v‖ of each singular vector, shape (*batch, q), descending; inf for each direction taken
            out because of dead features.
        singular_vectors: The v that belong to them, shape (*batch, n, q), one per column, of free sign; orthonormal.
            The last one is the objective, up to sign.
        gap: (σ_{q−1} − σ_q)/σ_{q−1} over the active directions, shape (*batch,), in [0, 1]: confidence that the
            objective is the only candidate. 1 if one direction is active, 0 where σ_{q−1} is itself only rounding
            error, and where v is NaN.
        dead: Features with rᵢ = 0 and a zero row in J, or one as short as `dead_tolerance` says, shape (*batch, n).
            This gradient says nothing about them.
        stationarity: σ_q/σ₁ over the active directions, shape (*batch,), in [0, 1]: how far the realization is from
            stationary even for this objective, see `stationarity`. Above `jifv.inversion.FAR` the realization was
            hardly optimized for any objective. NaN where v is.
        cosine: cos(r, v), shape (*batch,), in [0, 1]. No visualization ends on the floor of its significance or below;
            of photographs, many features make a stationary objective there. NaN where v is.
        weights: Those of the priors, see `Weights`; None without priors. With priors the singular values are those of
            what their gradients leave, ‖(I − QQᵀ)JᵀBv‖.
    """

    objective: Float[Array, "*batch n"]
    singular_values: Float[Array, "*batch q"]
    singular_vectors: Float[Array, "*batch n q"]
    gap: Float[Array, "*batch"]
    dead: Bool[Array, "*batch n"]
    stationarity: Float[Array, "*batch"]
    cosine: Float[Array, "*batch"]
    weights: Weights | None = None

    def __repr__(self) -> str:
        """Say what is there; the arrays are too long to print."""
        # A tree may hold anything: what `jax.eval_shape` returns, or no arrays at all.
        *batch, features = np.shape(self.objective) or (0,)
        *_, dimension = np.shape(self.singular_values) or (0,)
        far = int(np.sum(np.asarray(self.stationarity) > FAR)) if known(self.stationarity) else 0
        doubt = f"; {far} far from stationary" if far else ""
        return f"Inversion(batch {tuple(batch)}, {features} features, V of dimension {dimension}{doubt})"

    def _repr_html_(self) -> str | None:
        if not known(self.objective, self.gap, self.stationarity, self.cosine, self.dead):
            return None
        features = self.objective.shape[-1]
        each = zip(
            np.reshape(self.objective, (-1, features)),
            np.ravel(self.gap),
            np.ravel(self.stationarity),
            np.ravel(self.cosine),
            np.reshape(self.dead, (-1, features)).sum(-1),
            strict=True,
        )
        rows = [
            (str(index), strongest(v), f"{gap:.2f}", f"{rest:.3g}", f"{cos:.2f}", str(dead))
            for index, (v, gap, rest, cos, dead) in zip(range(ROWS), each, strict=False)
        ]
        return table(repr(self), ("", "objective", "gap", "stationarity", "cos(r, v)", "dead features"), rows)


def check_basis(basis: ArrayLike, features: int) -> None:
    """Raise unless `basis` is (n, q) with n = `features`, 1 ≤ q ≤ n and columns orthonormal to 1e-3.

    Raises:
        TypeError: The basis is complex.
        ValueError: The shape is another, or the columns are not finite and orthonormal (not checked while
            tracing).
    """
    check_array("basis", basis)
    shape = jnp.shape(basis)
    if len(shape) != 2 or shape[0] != features:
        raise ValueError(f"basis must have shape (n, q) with n = {features} features, got {shape}")
    if shape[1] == 0:
        raise ValueError("basis has no columns: V of dimension 0 leaves no objective to look for")
    if shape[1] > features:
        raise ValueError(f"basis has more columns than rows, {shape}: its columns cannot be orthonormal")
    if jnp.issubdtype(jnp.result_type(basis), jnp.complexfloating):
        raise TypeError("basis must be real, got complex numbers")
    if concrete(basis):
        columns = np.asarray(basis, np.float64)
        error = np.max(np.abs(columns.T @ columns - np.eye(shape[1])))
        if not error <= 1e-3:  # `not <=`, so that NaN is an error as well
            raise ValueError(f"basis must have orthonormal columns: QᵀQ differs from the identity by {error:.3g}")


def solve(
    response: Float[Array, "b n"],
    jacobian: Float[Array, "b n m"],
    significance: Significance,
    basis: Float[Array, "n q"] | None,
    tolerance: float,
    gradients: Float[Array, "b j m"] | None = None,
) -> Inversion:
    """Solve Opt. 3 for each sample of a batch. See `jifv.invert` for the arguments and the result."""
    if gradients is None:
        factor, units, steepness = jax.vmap(triangle)(jacobian), None, None
    else:
        factor, units, steepness = _beside(jacobian, gradients)
    # The columns of T are as long as the rows of J. Lengths in units of the largest entry, so that their
    # squares neither over- nor underflow.
    dead = (response == 0) & jnp.all(factor == 0, axis=1)
    peak = jnp.max(jnp.abs(factor), axis=(1, 2), keepdims=True)
    lengths = jnp.linalg.norm(factor / jnp.where(peak > 0, peak, 1), axis=1)
    dead |= (lengths <= tolerance * jnp.max(lengths, axis=1, keepdims=True)) & (tolerance > 0)
    finite = jnp.all(jnp.isfinite(response), axis=1, keepdims=True)
    response = jnp.where(finite, response, 0)

    # Mᵀ = Jᵀ B R = U T B R. `stiff` marks the columns of R that the constraint v = 0 on dead features takes out.
    if basis is None:
        search, stiff = _for_each(jnp.eye(response.shape[1], dtype=response.dtype), response), dead
    else:
        search, _ = jnp.linalg.qr(significance.gradient_solve(response, _for_each(basis, response)))
        search, stiff = _split_dead(search, dead)
    left = factor if units is None else take_out(units, factor)
    reduced = jnp.where(stiff[:, None], 0, left @ significance.gradient_product(response, search))

    # QR carries any NaN of J into the triangle. An SVD must not see it: not every LAPACK returns from that.
    finite &= jnp.all(jnp.isfinite(reduced), axis=(1, 2))[:, None]
    reduced = jnp.where(finite[..., None], reduced, 0)

    values, vectors = _left_singular(reduced, stiff)
    known = finite & ~jnp.all(stiff, axis=1, keepdims=True)
    vectors = search @ vectors

    objective = jnp.where(dead, 0, vectors[..., -1])
    objective = objective / jnp.linalg.norm(objective, axis=1, keepdims=True)
    opposed = jnp.sum(response * objective, axis=1, keepdims=True) < 0
    objective = jnp.where(opposed, -objective, objective)
    weights, cos = None, cosine(response, objective)
    if units is not None and steepness is not None:
        scale = jnp.abs(cos)[:, None] ** jnp.asarray(significance.power, response.dtype)
        gradient = (factor @ significance.gradient_product(response, objective)[..., None])[..., 0]
        others = factor @ significance.gradient_product(response, vectors[..., :-1])
        others = jnp.where(jnp.isfinite(values[:, None, :-1]), others, 0)  # not those taken out
        weights = weigh(units, steepness, scale * gradient, others, known[:, 0])
    return Inversion(
        objective=jnp.where(known, objective, jnp.nan),
        singular_values=jnp.where(finite, values, jnp.nan),
        singular_vectors=jnp.where(finite[..., None], vectors, jnp.nan),
        gap=jnp.where(known[:, 0], _gap(values), 0),
        stationarity=jnp.where(known[:, 0], values[:, -1] / _positive(_largest(values)), jnp.nan),
        cosine=jnp.where(known[:, 0], cos, jnp.nan),
        dead=dead,
        weights=weights,
    )


def _beside(
    jacobian: Float[Array, "b n m"], gradients: Float[Array, "b j m"]
) -> tuple[Float[Array, "b k n"], Float[Array, "b k j"], Float[Array, "b j"]]:
    """Compute the triangle of J and of unit gradients of priors together, in the same coordinates U, and their lengths.

    Where anything is not finite, nothing is.
    """
    features = jacobian.shape[1]
    rows, lengths = unit_rows(gradients)
    both = jax.vmap(triangle)(jnp.concatenate([jacobian, rows], axis=1))
    both = jnp.where(jnp.all(jnp.isfinite(both), axis=(1, 2), keepdims=True), both, jnp.nan)
    return both[..., :features], both[..., features:], lengths


def _for_each(matrix: Float[Array, "n q"], samples: Float[Array, "b n"]) -> Float[Array, "b n q"]:
    return jnp.broadcast_to(matrix, (len(samples), *matrix.shape))


def _split_dead(
    search: Float[Array, "b n q"], dead: Bool[Array, "b n"]
) -> tuple[Float[Array, "b n q"], Bool[Array, "b q"]]:
    """Rotate the basis R so that each column either has v = 0 on the dead features or is marked as stiff.

    The right-singular vectors of the dead rows of R do that: singular value 0 means no dead part. A
    dead feature that is also dead in every sample lies in the complement of V, up to the rounding errors of
    V; the tolerance keeps these from taking out a direction of V that has nothing to do with it.
    """
    sizes, rotation = right_singular(jnp.where(dead[..., None], search, 0))
    return search @ rotation.mT, sizes > jnp.sqrt(jnp.finfo(search.dtype).eps)


def _left_singular(
    reduced: Float[Array, "b k q"], stiff: Bool[Array, "b q"]
) -> tuple[Float[Array, "b q"], Float[Array, "b q q"]]:
    """Compute singular values and left-singular vectors of M from UᵀMᵀ, stiff directions first, with value inf.

    M has zero rows in stiff directions, which would make them the softest. Under jit their number is unknown
    and they cannot be cut out. Instead each gets a column of its own in M (a row here), longer than any
    singular value of M; being orthogonal to everything else it changes nothing else. The scaling avoids
    overflow in the norm.
    """
    peak = jnp.max(jnp.abs(reduced), axis=(1, 2), keepdims=True)
    peak = jnp.where(peak > 0, peak, 1)
    reduced = reduced / peak
    # The factor 2 keeps it apart from σ₁ where M has rank one and σ₁ is the norm; the 1 is for M = 0.
    stiffness = jnp.maximum(2 * jnp.linalg.norm(reduced, axis=(1, 2), keepdims=True), 1)
    columns = stiffness * (stiff[..., None] * jnp.eye(stiff.shape[1], dtype=reduced.dtype))
    stacked = jnp.concatenate([reduced, columns], axis=1)
    # QR first: otherwise the SVD computes a large factor on the other side, which nobody asks for.
    values, rows = right_singular(jnp.linalg.qr(stacked, mode="r"))
    taken_out = jnp.arange(stiff.shape[1]) < jnp.sum(stiff, axis=1, keepdims=True)
    return jnp.where(taken_out, jnp.inf, values * peak[..., 0]), rows.mT


def _gap(values: Float[Array, "b q"]) -> Float[Array, " b"]:
    if values.shape[1] == 1:
        return jnp.ones_like(values[:, 0])
    second, last = values[:, -2], values[:, -1]
    rounding = values.shape[1] * jnp.finfo(values.dtype).eps * _largest(values)
    relative = 1 - last / jnp.where(second > rounding, second, 1)
    # With one active direction `second` is inf, and the quotient 0.
    return jnp.where(second > rounding, relative, 0)


def _largest(values: Float[Array, "b q"]) -> Float[Array, " b"]:
    """Return σ₁; directions that were taken out have the value inf."""
    return jnp.max(jnp.where(jnp.isfinite(values), values, 0), axis=1)


def _positive(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Replace zeros by 1, to divide by."""
    return jnp.where(x > 0, x, 1)
