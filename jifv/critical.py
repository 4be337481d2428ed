"""The critical space V (Algorithm 1): the complement of the directions common to all cokernels of Jacobians.

It is NumPy in float64, not jittable: the dimensions of subspaces depend on the data, n is small, and principal angles
want every digit. A subspace is an orthonormal basis of shape (n, dimension), possibly (n, 0). It works on J, not on BJ.
"""

import itertools
from collections import deque
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key

from jifv._core.check import as_array, check_floats
from jifv._core.linalg import triangle

Basis = Float[np.ndarray, "n _"]


class SingularPairs(NamedTuple):
    """Left-singular vectors and values of s Jacobians: all that the critical space needs of them.

    Attributes:
        vectors: (s, n, n), one singular vector per column, orthonormal.
        values: (s, n), descending, zeros where m < n or where they are no more than rounding.
    """

    vectors: Float[np.ndarray, "s n n"]
    values: Float[np.ndarray, "s n"]


class CriticalSpace(NamedTuple):
    """A critical space V, the thresholds that give it, and how clearly the spectrum supports it.

    The stiffness of a direction w is the root mean square of ‖Jᵀw‖/σ₁ over the samples, small only where all are soft.
    What is soft in one sample alone, as the objective of a realization is, does not count.

    Attributes:
        basis: Orthonormal basis Q of V, (n, q), the `basis` of `invert`.
        cokernel: Orthonormal basis of the complement of V, (n, n − q).
        threshold_low: Low end of the thresholds ε found to give a V of this dimension: low ≤ ε < high.
        threshold_high: Their high end; inf where every ε from the low end to 1 gives it.
        gap: Stiffness of the softest direction of V over that of the stiffest one of the cokernel, n·eps (float64)
            where it is below. Large: the spectrum supports V. About 1: it does not. 1 where V is {0} or Rⁿ.
        reason: The same in words.
    """

    basis: Basis
    cokernel: Basis
    threshold_low: float
    threshold_high: float
    gap: float
    reason: str

    def __repr__(self) -> str:
        return f"CriticalSpace(dimension {self.basis.shape[1]} of {len(self.basis)}, gap {self.gap:.3g})"


def singular_pairs(jacobians: Float[ArrayLike, "s n m"]) -> SingularPairs:
    """Left-singular vectors and values of each Jacobian.

    Values up to n·eps·σ₁ are rounding and become 0: a threshold between two of them would split an exact common
    cokernel. The eps is that of the Jacobians' precision, or of float32 where that is lower. Where they do not fit in
    memory together, call it for some at a time and concatenate.

    Args:
        jacobians: (s, n, m), s ≥ 1.

    Raises:
        TypeError: `jacobians` is not of floating point.
        ValueError: `jacobians` does not have three nonempty axes, or is not finite.
    """
    jacobians = as_array("jacobians", jacobians)
    check_floats("jacobians", jacobians)
    if jacobians.ndim != 3 or 0 in jacobians.shape:
        raise ValueError(f"jacobians must have shape (s, n, m) with no empty axis, got {jacobians.shape}")
    # The long axis is removed in the Jacobians' precision, where they are; the SVD of what is left is cheap in float64.
    dtype = jnp.promote_types(jacobians.dtype, jnp.float32)
    triangles = np.asarray(jax.vmap(triangle)(jacobians.astype(dtype)), np.float64)
    if not np.isfinite(triangles).all():
        raise ValueError("jacobians must be finite, got NaN or infinite entries")
    vectors, few_values, _ = np.linalg.svd(triangles.transpose(0, 2, 1))
    values = np.zeros(vectors.shape[:2])
    values[:, : few_values.shape[1]] = few_values
    values[values <= jacobians.shape[1] * float(jnp.finfo(dtype).eps) * values[:, :1]] = 0
    return SingularPairs(vectors, values)


def principal_vectors(
    first: Basis, second: Basis
) -> tuple[Float[np.ndarray, "n pairs"], Float[np.ndarray, "n pairs"], Float[np.ndarray, " pairs"]]:
    """Principal vectors of two subspaces, of the pairs whose principal angle is below 45°.

    The cosine of an angle below 1e-8 is 1 to rounding, so cosines only select the pairs; angles and vectors are those
    of the sine form (Knyazev & Argentati 2002, doi:10.1137/S1064827500377332), which has full relative accuracy.

    Args:
        first: X, orthonormal basis (n, a).
        second: Y, orthonormal basis (n, b).

    Returns:
        The vectors in X and in Y, (n, pairs) each and orthonormal, and the angles in radians, (pairs,), descending.
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

    Pairs of principal vectors 45° or more apart are dropped; others are interpolated on their great circle (SLERP).

    Args:
        first: X, orthonormal basis (n, a).
        second: Y, orthonormal basis (n, b).
        share: t in [0, 1], the number of subspaces already merged into Y divided by that for X and Y together. 0
            gives vectors of X, 1 vectors of Y.

    Returns:
        Orthonormal basis (n, pairs), pairs ≤ min(a, b).

    Raises:
        ValueError: The bases are not matrices with n rows both, or `share` is outside [0, 1].
    """
    if np.ndim(first) != 2 or np.ndim(second) != 2 or len(first) != len(second):
        raise ValueError(f"bases must have shapes (n, a) and (n, b), got {np.shape(first)} and {np.shape(second)}")
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}")
    in_first, in_second, angles = principal_vectors(first, second)
    # sin(tθ)/sin(θ) by sinc, which is t at θ = 0. NumPy's sinc has a factor π.
    weights = [t * np.sinc(t * angles / np.pi) / np.sinc(angles / np.pi) for t in (1 - share, share)]
    return np.linalg.qr(weights[0] * in_first + weights[1] * in_second)[0]


def critical_space(
    jacobians: Float[ArrayLike, "s n m"] | SingularPairs,
    *,
    threshold: float,
    key: Key[Array, ""] | None = None,
) -> CriticalSpace:
    """Compute the critical space for one threshold (Algorithm 1 of the paper).

    Each Jacobian's cokernel is taken to be the span of its left-singular vectors with σ ≤ ε·σ₁ (all of them if
    J = 0). Then the first two subspaces of a queue are merged and the result is put at its end, until one is left;
    V is its complement.

    Args:
        jacobians: (s, n, m), s ≥ 1, or their `singular_pairs`, so that several calls need one SVD.
        threshold: ε in (0, 1].
        key: Random key for the order of merging; by index if None. The result depends on it when the cokernels differ.

    Returns:
        V, of any dimension from 0 (every direction is in the cokernel) to n (none is common), with the thresholds
        around ε for which the very same singular vectors are taken.

    Raises:
        TypeError: as `singular_pairs`.
        ValueError: as `singular_pairs`, or `threshold` is outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {threshold}")
    spectra = _Spectra.of(jacobians, key)
    step = int(np.searchsorted(spectra.steps, threshold, side="right")) - 1
    return spectra.space(step, step)


def critical_spaces(
    jacobians: Float[ArrayLike, "s n m"] | SingularPairs,
    *,
    key: Key[Array, ""] | None = None,
    largest_threshold: float = 1.0,
    smallest_gap: float | int = 2.0,
) -> list[CriticalSpace]:
    """Find the critical spaces that a clear gap in the spectrum supports, the best supported one first.

    No space of q dimensions has a larger `CriticalSpace.gap` than the ratio of the q-th to the next singular value of
    all Jᵀ/σ₁ stacked (Courant and Fischer), so only dimensions where that is clear are looked for. V changes only
    where ε passes some σᵢ/σ₁ of some Jacobian, so the thresholds at which its dimension changes are found exactly, by
    nested intervals over these ratios. A change and its reversal inside one interval go unnoticed. Of a dimension that
    several intervals give, the widest (in log ε) is returned. V belongs to the low end of its interval, where the
    least besides the common directions has entered. V = Rⁿ is never among them: `choose_space` decides between them
    and Rⁿ on samples with known objectives.

    Args:
        jacobians: (s, n, m), s ≥ 1, or their `singular_pairs`.
        key: Random key for the order of merging; by index if None.
        largest_threshold: Larger ε are not tried, in (0, 1].
        smallest_gap: Least `CriticalSpace.gap`, ≥ 0. Every dimension looked for costs about 2·s·log₂(s·n) merges; with
            0 it is all of them, 1 to n − 1, whatever the spectrum says, which is for few features.

    Returns:
        The spaces by falling gap, one of each dimension at most, possibly none.

    Raises:
        TypeError: as `singular_pairs`.
        ValueError: as that, or `largest_threshold` is outside (0, 1], or `smallest_gap` is not ≥ 0.
    """
    if not 0 < largest_threshold <= 1:
        raise ValueError(f"largest_threshold must be in (0, 1], got {largest_threshold}")
    if not smallest_gap >= 0:
        raise ValueError(f"smallest_gap must be at least 0, got {smallest_gap}")
    spectra = _Spectra.of(jacobians, key)
    stiffness = np.maximum(np.linalg.svd(spectra.pooled, compute_uv=False), spectra.rounding)
    wanted = 1 + np.flatnonzero(stiffness[:-1] >= smallest_gap * stiffness[1:])

    @cache
    def dimension(step: int) -> int:
        # Above the largest wanted dimension it need not be exact: merging stops there.
        common = spectra.common_cokernel(step, at_least=len(stiffness) - int(wanted.max(initial=0)))
        return common.shape[0] - common.shape[1]

    last = int(np.searchsorted(spectra.steps, largest_threshold, side="right")) - 1
    seen, unseen = {0, last}, [(0, last)]
    while unseen:
        low, high = unseen.pop()
        least, most = sorted((dimension(low), dimension(high)))
        if high - low > 1 and least < most and np.any((least <= wanted) & (wanted <= most)):
            middle = (low + high) // 2
            seen.add(middle)
            unseen += [(low, middle), (middle, high)]

    def width(run: list[int]) -> float:
        low, high = spectra.steps[[run[0], run[-1] + 1]].tolist()
        return high / low if low > 0 else np.inf

    # Wherever a wanted dimension comes or goes, the steps seen are neighbours now, so its runs have exact ends.
    runs = (list(run) for size, run in itertools.groupby(sorted(seen), key=dimension) if size in wanted)
    widest = {dimension(run[0]): run for run in sorted(runs, key=width)}
    spaces = (spectra.space(run[0], run[-1]) for run in widest.values())
    return sorted((space for space in spaces if space.gap >= smallest_gap), key=lambda space: -space.gap)


class _Spectra(NamedTuple):
    """What Algorithm 1 reads of the Jacobians, in the order of merging.

    The ratios are σᵢ/σ₁, 0 for J = 0; the steps are 0, the ratios and inf, ascending, and thresholds between two of
    them choose the same vectors. The product of `pooled` with w is as long as w is stiff, to within `rounding`.
    """

    vectors: Float[np.ndarray, "s n n"]
    ratios: Float[np.ndarray, "s n"]
    steps: Float[np.ndarray, " k"]
    pooled: Float[np.ndarray, "n n"]
    rounding: float

    @classmethod
    def of(cls, jacobians: ArrayLike | SingularPairs, key: Array | None) -> "_Spectra":
        pairs = jacobians if isinstance(jacobians, SingularPairs) else singular_pairs(jacobians)
        vectors, values = (np.asarray(array, np.float64) for array in pairs)
        shape = vectors.shape
        if vectors.ndim != 3 or shape[1] != shape[2] or values.shape != shape[:2] or 0 in shape:
            raise ValueError(f"singular pairs must have shapes (s, n, n) and (s, n), got {shape} and {values.shape}")
        if not (np.isfinite(vectors).all() and np.isfinite(values).all()):
            raise ValueError("singular pairs must be finite, got NaN or infinite entries")
        if key is not None:
            order = np.asarray(jax.random.permutation(key, shape[0]))
            vectors, values = vectors[order], values[order]
        ratios = values / np.where(values[:, :1] > 0, values[:, :1], 1)
        steps = np.unique(np.append(ratios, [0, np.inf]))
        rows = (ratios[:, :, None] * vectors.transpose(0, 2, 1)).reshape(-1, shape[1])
        pooled = np.asarray(np.linalg.qr(rows / np.sqrt(shape[0]), mode="r"))
        return cls(vectors, ratios, steps, pooled, shape[1] * float(np.finfo(float).eps))

    def common_cokernel(self, step: int, *, at_least: int = 1) -> Basis:
        """Merge the spans of the chosen singular vectors, two at a time, while they have columns enough."""
        chosen = self.ratios <= self.steps[step]
        if chosen.all():
            return np.eye(chosen.shape[1])
        queue = deque((basis[:, columns], 1) for basis, columns in zip(self.vectors, chosen, strict=True))
        while len(queue) > 1 and queue[-1][0].shape[1] >= at_least:
            (first, first_count), (second, second_count) = queue.popleft(), queue.popleft()
            count = first_count + second_count
            queue.append((merge(first, second, share=second_count / count), count))
        return queue[-1][0]

    def space(self, first: int, final: int) -> CriticalSpace:
        """Return the space of a run of steps."""
        cokernel = self.common_cokernel(first)
        common = cokernel.shape[1]
        complete, _ = np.linalg.qr(cokernel, mode="complete")
        basis = complete[:, common:]
        gap, reason = 1.0, "every direction is common" if common else "no direction is common"
        if 0 < common < len(complete):
            inside = max(float(np.linalg.norm(self.pooled @ cokernel, 2)), self.rounding)
            outside = max(float(np.linalg.norm(self.pooled @ basis, -2)), self.rounding)
            gap = outside / inside
            reason = (
                f"{common} of {len(complete)} directions are common: over {len(self.ratios)} samples their stiffness "
                f"is at most {inside:.2g}, that of the others at least {outside:.2g}, {gap:.3g} times as much"
            )
        low, high = self.steps[[first, final + 1]].tolist()
        return CriticalSpace(basis, cokernel, low, high, gap, reason)
