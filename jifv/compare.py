"""Compare networks: visualize in one, A, and invert in another, B.

A picture that is optimal for v in A is optimal for some direction of B as well, if B has features that span the same
functions of the picture. `transfer` finds that direction; for the canonical objectives of A, one row per feature of A,
it is a dictionary from A's features to B's.

Where B's features are A's in another order and of other lengths, r_B = D P r_A, the gradients g = ∂d/∂r = Bv of both,
J_Aᵀg_A = 0 and J_Bᵀg_B = 0, are related by g_B = c D⁻¹P g_A with a factor c of the sample. The objectives are not,
because each network's own response bends them. So `match_features` compares gradients: the permutation is the
assignment of features whose columns over many samples are most similar, and the lengths are those that then fit best.
Inversion prefers long features, in which the rest of the gradient weighs less; `transfer(…, normalize=True)` brings all
to one length first, so that the answer is the same whatever the lengths are.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from jifv._core.check import check_floats
from jifv._visualize.result import Visualization, unpacked
from jifv.inversion import Inversion, invert_batch
from jifv.response import Response
from jifv.significance import Significance, check_invertible

__all__ = ["Match", "Transfer", "match_features", "transfer"]

_ROUNDS = 50
_NEGLIGIBLE = 1e-3


class Transfer(NamedTuple):
    """Realizations of A, seen by B.

    Attributes:
        inversion: In B; its `objective` is the direction of B for which each picture is optimal, its `stationarity`
            and `gap` say whether there is one. With `normalize`, of features divided by their lengths.
        response: r in B, shape (batch, n_B).
        gradients: ∂d/∂r in A for A's objectives, g_A = B_A v_A of unit length, shape (batch, n_A).
        seen: Those of B for its own, g_B = B_B v_B of unit length, shape (batch, n_B).
    """

    inversion: Inversion
    response: Float[Array, "batch n_b"]
    gradients: Float[Array, "batch n_a"]
    seen: Float[Array, "batch n_b"]

    def __repr__(self) -> str:
        """Say what is there; the arrays are too long to print."""
        shapes = [np.shape(each) or (0, 0) for each in (self.gradients, self.seen)]
        return f"Transfer({shapes[0][0]} samples, from {shapes[0][-1]} features to {shapes[1][-1]})"


class Match(NamedTuple):
    """Features of A found in B.

    Attributes:
        feature: Index in B of each feature of A, shape (n_A,); -1 for those left over if B has fewer.
        scale: How many times as large B's is, up to a common factor: their geometric mean is 1, shape (n_A,). NaN for
            those without a partner, and where no sample has a part in both.
        similarity: Cosines between the columns of gradients, shape (n_A, n_B), in [-1, 1]: how alike a feature of A
            and one of B are in what they contribute to the samples.
    """

    feature: Int[np.ndarray, " n_a"]
    scale: Float[np.ndarray, " n_a"]
    similarity: Float[np.ndarray, "n_a n_b"]


def transfer(
    f: Response,
    realizations: Visualization,
    *,
    basis: Float[ArrayLike, "n_b q"] | None = None,
    dead_tolerance: float = 0.0,
    normalize: bool = False,
    row_batch_size: int | None = None,
    progress: bool = False,
) -> Transfer:
    """Invert in B what was visualized in A.

    Args:
        f: Response function of B, of the same parameters p as that of A.
        realizations: What `jifv.visualize` returned for A.
        basis: Of the critical space of B; see `jifv.invert`.
        dead_tolerance: See `jifv.invert`.
        normalize: Whether to divide each feature of B by its length, the root mean square of its responses to these
            samples, before the inversion: for `match_features`. `basis` must then be None.
        row_batch_size: See `jifv.linearize`.
        progress: Whether to show progress on standard error.

    Returns:
        The `Transfer`, in the order of the samples.

    Raises:
        TypeError: As `jifv.invert_batch`, or what was maximized is no `Significance`.
        ValueError: As `jifv.invert_batch`, or there is a `basis` beside `normalize`.
    """
    parameters, significance, _ = unpacked(realizations, None)
    check_invertible(significance)
    assert isinstance(significance, Significance)
    if normalize and basis is not None:
        raise ValueError("basis must be None with normalize, which changes the features that it is a basis of")
    # Without lengths the response can wait, so that what is wrong with the options is told before anything is compiled.
    response = _responses(f, parameters) if normalize else None
    lengths = jnp.ones(()) if response is None else _lengths(response)
    found = invert_batch(
        (lambda p: f(p) / lengths) if normalize else f,
        realizations,
        basis=basis,
        dead_tolerance=dead_tolerance,
        row_batch_size=row_batch_size,
        progress=progress,
        description="transfer",
    )
    response = _responses(f, parameters) if response is None else response
    return Transfer(
        inversion=found,
        response=response,
        gradients=_unit(significance.gradient_product(realizations.response, realizations.objectives)),
        # ∂d/∂r = (∂d/∂r')/ℓ of r' = r/ℓ.
        seen=_unit(significance.gradient_product(response / lengths, found.objective) / lengths),
    )


def _responses(f: Response, parameters: ArrayLike) -> Float[Array, "batch n"]:
    return jax.lax.map(jax.jit(f), jnp.asarray(parameters))


def _lengths(response: Float[Array, "batch n"]) -> Float[Array, " n"]:
    """Compute the root mean square of each feature over the finite samples; 1 for features that are 0 in all."""
    finite = jnp.isfinite(response).all(axis=1, keepdims=True)
    squares = jnp.sum(jnp.where(finite, response, 0) ** 2, axis=0) / jnp.maximum(jnp.sum(finite), 1)
    return jnp.where(squares > 0, jnp.sqrt(squares), 1)


def match_features(
    gradients: Float[Array | np.ndarray, "samples n_a"], seen: Float[Array | np.ndarray, "samples n_b"]
) -> Match:
    """Find features of A in B, from gradients of the same pictures in both.

    The assignment maximizes the sum of similarities (Kuhn and Munkres). For assigned features |g_B| = c |g_A| / d in
    every sample: log c and log d by alternating least squares, weighted by the product of both, so that entries which
    are only noise hardly count. Runs in NumPy, in float64.

    Args:
        gradients: Of A, g_A of each sample, of any length.
        seen: Of B, g_B of the same samples.

    Returns:
        The `Match`. Samples that are not finite are left out.

    Raises:
        TypeError: An array does not hold floats.
        ValueError: The arrays are no matrices of as many rows, or no sample is finite.
    """
    for name, array in (("gradients", gradients), ("seen", seen)):
        check_floats(name, array)
    if np.ndim(gradients) != 2 or np.ndim(seen) != 2 or len(gradients) != len(seen):
        raise ValueError(
            f"gradients and seen must be matrices with one row per sample, got shapes {np.shape(gradients)} and "
            f"{np.shape(seen)}"
        )
    a, b = np.asarray(gradients, np.float64), np.asarray(seen, np.float64)
    finite = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    if not finite.any():
        raise ValueError(f"gradients and seen must be finite for at least one sample, got none of {len(a)}")
    a, b = a[finite], b[finite]
    similarity = _columns(a).T @ _columns(b)
    from scipy.optimize import linear_sum_assignment  # slow to import

    rows, columns = linear_sum_assignment(similarity, maximize=True)
    feature = np.full(a.shape[1], -1)
    feature[rows] = columns
    scale = np.full(a.shape[1], np.nan)
    scale[rows] = _scales(np.abs(a[:, rows]), np.abs(b[:, columns]))
    return Match(feature, scale, similarity)


def _scales(a: Float[np.ndarray, "samples n"], b: Float[np.ndarray, "samples n"]) -> Float[np.ndarray, " n"]:
    """Fit log b = log c - log d + log a, c of the sample and d of the feature, by weighted alternating means."""
    weight = np.where((a > _NEGLIGIBLE) & (b > _NEGLIGIBLE), a * b, 0)
    ratio = np.log(np.where(weight > 0, a, 1)) - np.log(np.where(weight > 0, b, 1))  # log d - log c
    sample, feature = np.zeros((len(a), 1)), np.zeros(a.shape[1])
    for _ in range(_ROUNDS):
        feature = np.sum(weight * (ratio + sample), axis=0) / np.maximum(np.sum(weight, axis=0), 1e-300)
        sample = np.sum(weight * (feature - ratio), axis=1, keepdims=True)
        sample = sample / np.maximum(np.sum(weight, axis=1, keepdims=True), 1e-300)
    known = np.any(weight > 0, axis=0)
    feature = feature - np.mean(feature[known]) if known.any() else feature
    return np.where(known, np.exp(feature), np.nan)


def _columns(matrix: Float[np.ndarray, "samples n"]) -> Float[np.ndarray, "samples n"]:
    length = np.linalg.norm(matrix, axis=0)
    return matrix / np.where(length > 0, length, 1)


def _unit(vectors: Array) -> Array:
    return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)
