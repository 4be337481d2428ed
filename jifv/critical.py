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

from jifv.invert import triangle

Basis = Float[np.ndarray, "n _"]


class SingularPairs(NamedTuple):
    """Left-singular vectors and values of s Jacobians: all that the critical space needs of them.

    Attributes:
        vectors: (s, n, n), one singular vector a column, orthonormal.
        values: (s, n), descending, zeros where m < n or where they are no more than rounding.
    """

    vectors: Float[np.ndarray, "s n n"]
    values: Float[np.ndarray, "s n"]


class CriticalSpace(NamedTuple):
    """A critical space V, the thresholds that give it, and how clearly the spectrum supports it.

    The stiffness of a direction w is the root mean square of ‖Jᵀw‖/σ₁ over the samples. It is small only where
    every sample is soft. What is soft in one sample alone, as the objective of a realization, does not count.

    Attributes:
        basis: orthonormal basis Q of V, (n, q), the `basis` of `invert`.
        cokernel: orthonormal basis of the complement of V, (n, n − q).
        threshold_low: low end of the thresholds ε found to give a V of this dimension: low ≤ ε < high.
        threshold_high: their high end; inf where every ε from the low end to 1 gives it.
        gap: stiffness of the softest direction of V over that of the stiffest one of the cokernel. Large where
            V is supported, about 1 where the spectrum knows no difference, and 1 where V is {0} or Rⁿ. Of
            stiffnesses below n·eps, eps that of float64, nothing is known, so they count as that.
        reason: the same in words.
    """

    basis: Basis
    cokernel: Basis
    threshold_low: float
    threshold_high: float
    gap: float
    reason: str


def singular_pairs(jacobians: Float[ArrayLike, "s n m"]) -> SingularPairs:
    """Left-singular vectors and values of each Jacobian.

    Values up to n·eps·σ₁, eps that of the Jacobians' precision, are rounding and become 0. Their order means
    nothing: left as they are, they would split an exact common cokernel between thresholds.

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
    rounding = values.shape[1] * float(jnp.finfo(jacobians.dtype).eps)
    values[values <= rounding * values[:, :1]] = 0
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
    spectra = _Spectra.of(jacobians, key)
    index = int(np.searchsorted(spectra.steps, threshold, side="right")) - 1
    return spectra.space(spectra.ratios <= threshold, index, index)


def critical_spaces(
    jacobians: Float[ArrayLike, "s n m"] | SingularPairs,
    *,
    key: Key[Array, ""] | None = None,
    largest_threshold: float = 1.0,
    smallest_gap: float = 2.0,
) -> list[CriticalSpace]:
    """The critical spaces that a clear gap in the spectrum supports, the best supported one first.

    Which dimensions can have a clear gap is known beforehand: by Courant and Fischer no space of q dimensions
    has a larger `CriticalSpace.gap` than the q-th over the next singular value of the stacked J/σ₁. Only for
    these dimensions are thresholds ε looked for. V changes only where ε passes some σᵢ/σ₁ of some Jacobian, so
    the ε at which dim V changes are found exactly, by nested intervals over these ratios. A change and its
    reversal inside one interval go unnoticed. Of a dimension that several intervals give, the widest (in
    log ε) is returned. V belongs to the low end of its interval, where the least besides the common directions
    has entered.

    V = Rⁿ is never among them, and the only choice where there are none. Which of them to use is decided on
    samples with known objectives, see `choose_space`.

    Args:
        jacobians: (s, n, m), s ≥ 1, or their `singular_pairs`.
        key: random key for the order of merging; by index if None.
        largest_threshold: larger ε are not tried, in (0, 1].
        smallest_gap: spaces with a smaller `CriticalSpace.gap` are left out, ≥ 0. Every dimension looked for
            costs about s·log₂(s·n) merges. 0 gives a space for each dimension from 1 to n − 1 that some
            threshold gives, which is for few features.

    Returns:
        The spaces by falling gap, at most one of each dimension, possibly none.

    Raises:
        TypeError: as `singular_pairs`.
        ValueError: as `singular_pairs`, or `largest_threshold` is outside (0, 1], or `smallest_gap` is negative
            or NaN.
    """
    if not 0 < largest_threshold <= 1:
        raise ValueError(f"largest_threshold must be in (0, 1], got {largest_threshold}")
    if not smallest_gap >= 0:
        raise ValueError(f"smallest_gap must be at least 0, got {smallest_gap}")
    spectra = _Spectra.of(jacobians, key)
    features, steps = len(spectra.pooled), spectra.steps
    last = int(np.searchsorted(steps, largest_threshold, side="right")) - 1
    stiffness = np.maximum(np.linalg.svd(spectra.pooled, compute_uv=False), spectra.rounding)
    wanted = 1 + np.flatnonzero(stiffness[:-1] >= smallest_gap * stiffness[1:])
    if len(wanted) == 0:
        return []

    def dimension(index: int) -> int:
        # Whether it is a dimension above the wanted ones or another one above them makes no difference.
        at_least = features - int(wanted[-1])
        return features - spectra.common_cokernel(spectra.ratios <= steps[index], at_least=at_least).shape[1]

    dimensions = {-1: features}  # by index into steps; -1 is below all of them
    unseen = [(-1, last)]
    while unseen:
        low, high = unseen.pop()
        for index in (low, high):
            if index not in dimensions:
                dimensions[index] = dimension(index)
        least, most = sorted((dimensions[low], dimensions[high]))
        if high - low > 1 and least < most and np.any((least <= wanted) & (wanted <= most)):
            middle = (low + high) // 2
            unseen += [(low, middle), (middle, high)]

    # Wherever a wanted dimension comes or goes between two of the indices seen they are neighbours now, so its
    # runs have exact ends.
    widest: dict[int, tuple[float, int, int]] = {}
    for size, run in itertools.groupby(sorted(dimensions), key=dimensions.__getitem__):
        first, *rest = run
        final = rest[-1] if rest else first
        low, high = spectra.interval(first, final)
        width = np.log(high / low) if low > 0 else np.inf
        if size in wanted and width > widest.get(size, (0.0,))[0]:
            widest[size] = (width, first, final)
    spaces = [spectra.space(spectra.ratios <= steps[first], first, final) for _, first, final in widest.values()]
    supported = [space for space in spaces if space.gap >= smallest_gap]
    return sorted(supported, key=lambda space: (space.gap, space.basis.shape[1]), reverse=True)


class _Spectra(NamedTuple):
    """What Algorithm 1 reads, in the order of merging.

    Attributes:
        vectors: left-singular vectors, (s, n, n).
        ratios: σᵢ/σ₁ of each Jacobian, 0 for J = 0.
        steps: the different ratios, ascending.
        pooled: (n, n); the length of its product with w is the stiffness of w.
        rounding: stiffness that is zero as far as anybody can know.
    """

    vectors: Float[np.ndarray, "s n n"]
    ratios: Float[np.ndarray, "s n"]
    steps: Float[np.ndarray, " k"]
    pooled: Float[np.ndarray, "n n"]
    rounding: float

    @classmethod
    def of(cls, jacobians: ArrayLike | SingularPairs, key: Array | None) -> "_Spectra":
        vectors, values = _ordered_pairs(jacobians, key)
        largest = values[:, :1]
        ratios = values / np.where(largest > 0, largest, 1)
        samples, features = ratios.shape
        rows = (ratios[:, :, None] * vectors.transpose(0, 2, 1)).reshape(-1, features)
        pooled = np.linalg.qr(rows / np.sqrt(samples), mode="r")
        return cls(vectors, ratios, np.unique(ratios), pooled, features * float(np.finfo(float).eps))

    def common_cokernel(self, chosen: Bool[np.ndarray, "s n"], *, at_least: int = 1) -> Basis:
        """Merge the spans of the chosen singular vectors, two at a time, until one is left or has too few columns."""
        queue = deque((basis[:, columns], 1) for basis, columns in zip(self.vectors, chosen, strict=True))
        smallest = min((basis for basis, _ in queue), key=np.size)
        if smallest.shape[1] < at_least:  # merging never adds a dimension
            return smallest
        while len(queue) > 1 and queue[-1][0].shape[1] >= at_least:
            (first, first_count), (second, second_count) = queue.popleft(), queue.popleft()
            count = first_count + second_count
            queue.append((merge(first, second, share=second_count / count), count))
        return queue[-1][0]

    def interval(self, first: int, final: int) -> tuple[float, float]:
        """The thresholds low ≤ ε < high for which the last of the steps up to ε has an index in first ... final."""
        low = float(self.steps[first]) if first >= 0 else 0.0
        high = float(self.steps[final + 1]) if final + 1 < len(self.steps) else np.inf
        return low, high

    def space(self, chosen: Bool[np.ndarray, "s n"], first: int, final: int) -> CriticalSpace:
        cokernel = self.common_cokernel(chosen)
        common = cokernel.shape[1]
        complete, _ = np.linalg.qr(cokernel, mode="complete")
        basis = complete[:, common:]
        if 0 in (common, basis.shape[1]):
            gap, reason = 1.0, "no direction is common" if common == 0 else "every direction is common"
        else:
            inside = max(np.linalg.norm(self.pooled @ cokernel, 2), self.rounding)
            outside = max(np.linalg.norm(self.pooled @ basis, -2), self.rounding)
            gap = float(outside / inside)
            reason = (
                f"over {len(chosen)} samples the {common} common directions have a stiffness of at most "
                f"{inside:.2g}·σ₁, all others of at least {outside:.2g}·σ₁: {gap:.3g} times as much"
            )
        return CriticalSpace(basis, cokernel, *self.interval(first, final), gap, reason)


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
