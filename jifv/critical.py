"""The critical space V (Algorithm 1): the complement of the directions common to all cokernels of Jacobians.

This module is NumPy in float64 on the host, not jittable: the dimensions of subspaces depend on the data, n
is small, and principal angles want every digit. A subspace is an orthonormal basis of shape (n, dimension),
possibly (n, 0). It works on J, not on BJ.
"""

import itertools
from collections import deque
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Key

from jifv._core.linalg import triangle

Basis = Float[np.ndarray, "n _"]


class SingularPairs(NamedTuple):
    """Left-singular vectors and values of s Jacobians: all that the critical space needs of them.

    Attributes:
        vectors: (s, n, n), one singular vector a column, orthonormal.
        values: (s, n), descending, zeros where m < n.
    """

    vectors: Float[np.ndarray, "s n n"]
    values: Float[np.ndarray, "s n"]


class CriticalSpace(NamedTuple):
    """A critical space V and the thresholds that give it.

    Attributes:
        basis: orthonormal basis Q of V, (n, q), the `basis` of `invert`.
        cokernel: orthonormal basis of the complement of V, (n, n − q).
        threshold_low: low end of the thresholds ε found to give a V of this dimension: low ≤ ε < high.
        threshold_high: their high end; inf where every ε from the low end to 1 gives it.
    """

    basis: Basis
    cokernel: Basis
    threshold_low: float
    threshold_high: float


def singular_pairs(jacobians: Float[ArrayLike, "s n m"]) -> SingularPairs:
    """Left-singular vectors and values of each Jacobian.

    Where the Jacobians do not fit in memory together, call it for some at a time and concatenate the results.

    Args:
        jacobians: (s, n, m), s ≥ 1.

    Raises:
        TypeError: `jacobians` is not of floating point.
        ValueError: `jacobians` does not have three nonempty axes, or is not finite.
    """
    jacobians = jnp.asarray(jacobians)
    if not jnp.issubdtype(jacobians.dtype, jnp.floating):
        raise TypeError(f"jacobians must be of floating point, got {jacobians.dtype}")
    if jacobians.ndim != 3 or 0 in jacobians.shape:
        raise ValueError(f"jacobians must have shape (s, n, m) with no empty axis, got {jacobians.shape}")
    # The long axis is removed in the Jacobians' precision, where they are; the SVD of what is left is cheap
    # in float64.
    at_least_single = jacobians.astype(jnp.promote_types(jacobians.dtype, jnp.float32))
    triangles = np.asarray(jax.vmap(triangle)(at_least_single), np.float64)
    if not np.isfinite(triangles).all():
        raise ValueError("jacobians must be finite, got NaN or infinite entries")
    vectors, few_values, _ = np.linalg.svd(triangles.transpose(0, 2, 1))
    values = np.zeros(vectors.shape[:2])
    values[:, : few_values.shape[1]] = few_values
    return SingularPairs(vectors, values)


def principal_vectors(
    first: Basis, second: Basis
) -> tuple[Float[np.ndarray, "n pairs"], Float[np.ndarray, "n pairs"], Float[np.ndarray, " pairs"]]:
    """Principal vectors of two subspaces, of the pairs whose principal angle is below 45°.

    The cosine of an angle below 1e-8 is 1 to rounding, so the cosines only select the pairs, and the angles
    and vectors are those of the sine form (Knyazev & Argentati 2002, doi:10.1137/S1064827500377332), which
    has full relative accuracy there.

    Args:
        first: X, orthonormal basis (n, a).
        second: Y, orthonormal basis (n, b).

    Returns:
        The vectors in X and in Y, (n, pairs) each and orthonormal, and the angles in radians, (pairs,),
        descending.
    """
    _, cosines, rows = np.linalg.svd(first.T @ second, full_matrices=False)
    near = second @ rows[cosines > np.sqrt(0.5)].T
    _, sines, rows = np.linalg.svd(near - first @ (first.T @ near), full_matrices=False)
    in_second = near @ rows.T
    in_first = first @ (first.T @ in_second)
    in_first /= np.linalg.norm(in_first, axis=0)  # the norms are the cosines, at least 0.7
    return in_first, in_second, np.arcsin(np.minimum(sines, 1))


def merge(first: Basis, second: Basis, *, share: float) -> Basis:
    """Merge two subspaces into an approximate intersection.

    Pairs of principal vectors 45° or more apart are dropped; each other pair is interpolated along the great
    circle through it (SLERP).

    Args:
        first: X, orthonormal basis (n, a).
        second: Y, orthonormal basis (n, b).
        share: t in [0, 1], the number of subspaces already merged into Y divided by that for X and Y
            together. 0 gives vectors of X, 1 vectors of Y.

    Returns:
        Orthonormal basis (n, pairs), pairs ≤ min(a, b).

    Raises:
        ValueError: the bases are not matrices with n rows both, or `share` is outside [0, 1].
    """
    if np.ndim(first) != 2 or np.ndim(second) != 2 or len(first) != len(second):
        raise ValueError(f"bases must have shapes (n, a) and (n, b), got {np.shape(first)} and {np.shape(second)}")
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}")
    in_first, in_second, angles = principal_vectors(first, second)
    # sin(tθ)/sin(θ) by sinc, which is t at θ = 0. NumPy's sinc has a factor π.
    weight_first = (1 - share) * np.sinc((1 - share) * angles / np.pi) / np.sinc(angles / np.pi)
    weight_second = share * np.sinc(share * angles / np.pi) / np.sinc(angles / np.pi)
    return np.linalg.qr(weight_first * in_first + weight_second * in_second)[0]


def critical_space(
    jacobians: Float[ArrayLike, "s n m"] | SingularPairs,
    *,
    threshold: float,
    key: Key[Array, ""] | None = None,
) -> CriticalSpace:
    """The critical space for one threshold (Algorithm 1 of the paper).

    Each Jacobian's cokernel is taken to be the span of its left-singular vectors with σ ≤ ε·σ₁ (all of them
    if J = 0). Then the first two subspaces of a queue are merged and the result is put at its end, until one
    is left; V is its complement.

    Args:
        jacobians: (s, n, m), s ≥ 1, or their `singular_pairs`, so that several calls need one SVD.
        threshold: ε in (0, 1].
        key: random key for the order of merging; by index if None. The result depends on it when the
            cokernels differ.

    Returns:
        V, of any dimension from 0 (every direction is in the cokernel) to n (none is common), with the
        thresholds around ε for which the very same singular vectors are taken.

    Raises:
        TypeError: as `singular_pairs`.
        ValueError: as `singular_pairs`, or `threshold` is outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {threshold}")
    pairs = _ordered_pairs(jacobians, key)
    ratios = _ratios(pairs.values)
    steps = np.unique(ratios)
    index = int(np.searchsorted(steps, threshold, side="right")) - 1
    return _space(_common_cokernel(pairs.vectors, ratios <= threshold), *_interval(steps, index, index))


def critical_spaces(
    jacobians: Float[ArrayLike, "s n m"] | SingularPairs,
    *,
    key: Key[Array, ""] | None = None,
    largest_threshold: float = 1.0,
) -> list[CriticalSpace]:
    """One critical space for each dimension from n − 1 to 1 that some threshold gives, largest first.

    The subspaces change only where ε passes some σᵢ/σ₁ of some Jacobian, so the thresholds at which dim V
    changes are found exactly, by nested intervals over these ratios. A change and its reversal inside one
    interval go unnoticed. Of a dimension that several intervals give, the widest (in log ε) is returned. V
    belongs to the low end of its interval, where the least besides the common directions has entered. Which
    of the spaces to use is decided on samples with known objectives.

    Args:
        jacobians: (s, n, m), s ≥ 1, or their `singular_pairs`.
        key: random key for the order of merging; by index if None.
        largest_threshold: larger ε are not tried, in (0, 1]. Every dimension found costs about s·log₂(s·n)
            merges, so for hundreds of features look only where cokernels can be, say up to 0.1.

    Returns:
        The spaces, possibly none.

    Raises:
        TypeError: as `singular_pairs`.
        ValueError: as `singular_pairs`, or `largest_threshold` is outside (0, 1].
    """
    if not 0 < largest_threshold <= 1:
        raise ValueError(f"largest_threshold must be in (0, 1], got {largest_threshold}")
    pairs = _ordered_pairs(jacobians, key)
    ratios = _ratios(pairs.values)
    features = ratios.shape[1]
    steps = np.unique(ratios)
    last = int(np.searchsorted(steps, largest_threshold, side="right")) - 1

    def dimension(index: int) -> int:
        return features - _common_cokernel(pairs.vectors, ratios <= steps[index]).shape[1]

    dimensions = {-1: features}  # by index into steps; -1 is below all of them
    unseen = [(-1, last)]
    while unseen:
        low, high = unseen.pop()
        for index in (low, high):
            if index not in dimensions:
                dimensions[index] = dimension(index)
        if high - low > 1 and dimensions[low] != dimensions[high]:
            middle = (low + high) // 2
            unseen += [(low, middle), (middle, high)]

    # Wherever the dimension differs between two of the indices seen they are neighbours now, so runs have
    # exact ends.
    widest: dict[int, tuple[float, int, int]] = {}
    for size, run in itertools.groupby(sorted(dimensions), key=dimensions.__getitem__):
        first, *rest = run
        final = rest[-1] if rest else first
        low, high = _interval(steps, first, final)
        width = np.log(high / low) if low > 0 else np.inf
        if 1 <= size < features and width > widest.get(size, (0.0,))[0]:
            widest[size] = (width, first, final)
    return [
        _space(_common_cokernel(pairs.vectors, ratios <= steps[first]), *_interval(steps, first, final))
        for _, (_, first, final) in sorted(widest.items(), reverse=True)
    ]


def _ordered_pairs(jacobians: ArrayLike | SingularPairs, key: Array | None) -> SingularPairs:
    """The singular pairs in the order of merging."""
    if isinstance(jacobians, SingularPairs):
        pairs = SingularPairs(np.asarray(jacobians.vectors, np.float64), np.asarray(jacobians.values, np.float64))
        shape = pairs.vectors.shape
        if pairs.vectors.ndim != 3 or shape[1] != shape[2] or pairs.values.shape != shape[:2] or 0 in shape:
            raise ValueError(
                f"singular pairs must have shapes (s, n, n) and (s, n) with no empty axis, "
                f"got {shape} and {pairs.values.shape}"
            )
    else:
        pairs = singular_pairs(jacobians)
    if key is None:
        return pairs
    order = np.asarray(jax.random.permutation(key, len(pairs.values)))
    return SingularPairs(pairs.vectors[order], pairs.values[order])


def _ratios(values: Float[np.ndarray, "s n"]) -> Float[np.ndarray, "s n"]:
    """σᵢ/σ₁ of each Jacobian, 0 for J = 0."""
    largest = values[:, :1]
    return values / np.where(largest > 0, largest, 1)


def _common_cokernel(vectors: Float[np.ndarray, "s n n"], chosen: Bool[np.ndarray, "s n"]) -> Basis:
    """Merge the spans of the chosen singular vectors of all samples, two at a time."""
    queue = deque((basis[:, columns], 1) for basis, columns in zip(vectors, chosen, strict=True))
    while len(queue) > 1 and queue[-1][0].size > 0:  # once empty, always empty
        (first, first_count), (second, second_count) = queue.popleft(), queue.popleft()
        count = first_count + second_count
        queue.append((merge(first, second, share=second_count / count), count))
    return queue[-1][0]


def _interval(steps: Float[np.ndarray, " k"], first: int, final: int) -> tuple[float, float]:
    """The thresholds low ≤ ε < high for which the last of `steps` up to ε has an index in first ... final."""
    low = float(steps[first]) if first >= 0 else 0.0
    high = float(steps[final + 1]) if final + 1 < len(steps) else np.inf
    return low, high


def _space(cokernel: Basis, low: float, high: float) -> CriticalSpace:
    complete, _ = np.linalg.qr(cokernel, mode="complete")
    return CriticalSpace(complete[:, cokernel.shape[1] :], cokernel, low, high)
