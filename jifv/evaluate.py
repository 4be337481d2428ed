"""Evaluation of predicted objectives where the target objectives are known (paper, sections 3.4 to 3.6).

Vectors lie on the last axis and angles are in degrees; images are (H, W, C) with values in [0, 1]. NumPy arrays are
taken as well, at JAX's precision.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jifv._core.angles import angles, angles_between, coordinates
from jifv._core.check import check_array, check_floats, check_positive, check_real
from jifv._visualize.result import Visualization, unpacked
from jifv._visualize.settings import check_settings
from jifv.response import Response
from jifv.significance import Objective
from jifv.visualization import PAPER, Settings, visualize


def angle(
    a: Float[Array | np.ndarray, "*#batch n"],
    b: Float[Array | np.ndarray, "*#batch n"],
    *,
    basis: Float[Array | np.ndarray, "n _"] | None = None,
) -> Float[Array, "*batch"]:
    """Measure the angle between a and b in degrees, in [0, 180]; NaN where either is zero or not finite.

    ∠(a, b) = 2 · atan2(‖â - b̂‖, ‖â + b̂‖) for â = a/‖a‖ and b̂ = b/‖b‖ (Kahan), which is accurate to rounding
    also near 0° and 180°, where the arccosine of ⟨â, b̂⟩ has lost half of the digits.

    Args:
        a: Vectors in Rⁿ.
        b: Vectors in Rⁿ.
        basis: Orthonormal basis Q of the critical space V, (n, q): the angle after projecting both onto V (paper,
            section 3.5), NaN where a projection is zero. For q = 1 nothing but 0 and 180 is possible.

    Raises:
        TypeError: a or b is not real.
        ValueError: The last axes differ, or from n, or q = 0.
    """
    check_array("a", a)
    check_array("b", b)
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[-1]:
        raise ValueError(f"a and b must share their last axis, got shapes {a.shape} and {b.shape}")
    check_real("a", a)
    check_real("b", b)
    if basis is not None:
        check_array("basis", basis)
        if basis.shape[0] != a.shape[-1]:
            raise ValueError(f"basis must have {a.shape[-1]} rows, one per feature, got shape {basis.shape}")
        if basis.shape[1] == 0:
            raise ValueError("basis must have at least one column, got a V of dimension 0")
    return angles(a, b, basis)


def beta(
    singular_vectors: Float[Array | np.ndarray, "*batch n q"], objectives: Float[Array | np.ndarray, "*batch n"]
) -> Float[Array, "*batch q"]:
    """Compute the share β_i = ⟨u_i, v⟩² / Σ_j ⟨u_j, v⟩² of each left-singular vector in the target, the last one first.

    The sum is 1 because the q vectors are orthonormal: for q = n it is ‖v‖² that is divided by, for q < n the
    part of it in their span. β₀ near 1: inversion succeeds. Much in β₁: a trivial solution lies below the
    target and a critical space should remove it (paper, section 3.5).

    Args:
        singular_vectors: Columns u_i by descending singular value, as `invert` returns them.
        objectives: Target objectives v.

    Returns:
        β, each in [0, 1] with the sum 1; NaN for a sample that is not finite or has no part in the span.

    Raises:
        TypeError: An array is not real.
        ValueError: The shapes do not fit.
    """
    check_array("singular_vectors", singular_vectors)
    check_array("objectives", objectives)
    if singular_vectors.shape[:-1] != objectives.shape:
        raise ValueError(
            f"objectives must have the shape of singular_vectors without the last axis, "
            f"{singular_vectors.shape[:-1]}, got {objectives.shape}"
        )
    check_real("singular_vectors", singular_vectors)
    check_real("objectives", objectives)
    squares = coordinates(singular_vectors, objectives)[..., ::-1] ** 2
    return squares / jnp.sum(squares, axis=-1, keepdims=True)


def beta_profile(
    singular_vectors: Float[Array | np.ndarray, "*batch n q"], objectives: Float[Array | np.ndarray, "*batch n"]
) -> Float[Array, " q"]:
    """Average `beta` over the samples. Samples for which it is NaN are left out; NaN if none is left."""
    shares = beta(singular_vectors, objectives).reshape(-1, singular_vectors.shape[-1])
    usable = jnp.isfinite(shares).all(axis=1, keepdims=True)
    return jnp.sum(jnp.where(usable, shares, 0), axis=0) / jnp.sum(usable)


def ssim(
    x: Float[Array | np.ndarray, "*batch h w c"], y: Float[Array | np.ndarray, "*batch h w c"]
) -> Float[Array, "*batch"]:
    """Compute the structural similarity of images, in [-1, 1], 1 for equal ones (Wang et al. 2004).

    With a Gaussian window of 11×11 and standard deviation 1.5, without padding, averaged over the channels.

    Args:
        x: Images with values in [0, 1].
        y: Images to compare with.

    Raises:
        TypeError: x or y does not hold floats, but bytes, say, whose values would leave [0, 1].
        ValueError: The shapes differ, or images are smaller than the window.
    """
    check_array("x", x)
    check_array("y", y)
    if x.ndim < 3 or x.shape != y.shape:
        raise ValueError(f"x and y must share one shape (..., H, W, C), got {x.shape} and {y.shape}")
    check_floats("x", x)
    check_floats("y", y)
    if min(x.shape[-3:-1]) < 11:
        raise ValueError(f"images must be at least 11×11, the size of the window, got shape {x.shape}")
    return _ssim(x, y)


@jax.jit
def _ssim(x: Array, y: Array) -> Array:
    """Compute `ssim` in one program instead of the three dozen that dm_pix's operations are one by one."""
    count = math.prod(x.shape[:-3])
    if count == 0:  # dm_pix divides by it
        return jnp.zeros(x.shape[:-3], jnp.result_type(x, y))
    a, b = (z.reshape(count, *x.shape[-3:]) for z in (x, y))
    # dm_pix's window is float64 wherever that is enabled.
    return jnp.asarray(dm_pix.ssim(a, b)).astype(a.dtype).reshape(x.shape[:-3])


def reoptimize(
    f: Response,
    realizations: Visualization | Float[Array | np.ndarray, "batch *p"],
    objectives: Float[Array | np.ndarray, "batch n"],
    *,
    significance: Objective | None = None,
    steps: int = 500,
    settings: Settings = PAPER,
    batch_size: int | None = None,
    mesh: Mesh | None = None,
    progress: bool = False,
    description: str = "re-optimize",
) -> Float[Array, "batch *p"]:
    """Optimize realizations further, with a fresh Adam at a constant learning rate (paper, section 3.4).

    An input that changes much, by the `ssim` of the images before and after, is no optimum for the
    objective. Under its predicted objective this marks a realization that cannot be inverted.

    Args:
        f: Response function of one sample.
        realizations: What `visualize` returned, with its priors and transformations, or the p of each sample.
        objectives: Predicted, target or other objectives, one for each realization.
        significance: What to maximize. A `Visualization` carries its own; for an array it has no default.
        steps: Steps of Adam.
        settings: Learning rate and `precision`; its numbers of steps are not used, nor `adam_precision`.
        batch_size: See `visualize`.
        mesh: See `visualize`.
        progress: See `visualize`.
        description: See `visualize`.

    Returns:
        New parameters.

    Raises:
        TypeError: See `visualize`, `steps` is not an integer, or `significance` is missing.
        ValueError: See `visualize`, `steps` < 1, or `significance` is not that of the realizations.
    """
    check_positive("steps", steps)
    check_settings(settings)
    parameters, objective, own = unpacked(realizations, significance)
    further = replace(settings, adam_steps=steps, anneal=0.0, redirected_steps=0, lbfgs_steps=0, adam_precision=None)
    return visualize(
        f,
        parameters,
        objectives,
        significance=objective,
        **own,
        settings=further,
        batch_size=batch_size,
        mesh=mesh,
        progress=progress,
        description=description,
    ).parameters


class Choice(NamedTuple):
    """The critical space chosen on known objectives, and what every candidate reached.

    Attributes:
        index: Position of the chosen space.
        angle: Median angle on V between prediction and target, in degrees, one per space.
        chance: Median angle on V between a prediction and the targets of the other samples, one per space.
    """

    index: int
    angle: Float[np.ndarray, " spaces"]
    chance: Float[np.ndarray, " spaces"]


def choose_space(
    bases: Sequence[Float[Array | np.ndarray, "n _"]],
    predictions: Sequence[Float[Array | np.ndarray, "samples n"]],
    objectives: Float[Array | np.ndarray, "samples n"],
    *,
    gaps: Sequence[float | int] | None = None,
) -> Choice:
    """Choose the critical space V that inverts known objectives best (paper, section 3.5).

    The smallest median angle on V wins, relative to chance: the median angle that the same predictions make
    with the targets of the other samples. Angles alone cannot be compared between spaces, because they shrink
    with the dimension: on a line every prediction is perfect up to its sign. So a V of one dimension, where
    nothing is left to predict, counts as chance, as do angles no better than it. Ties go to the
    larger space.

    With `gaps` the spectrum comes first: a V with a smaller gap than another has to halve the angle, relative
    to chance. Leaving out directions always takes some error away, most where realizations are not converged;
    only a trivial solution makes the difference between chance and success. Rⁿ takes no direction for common
    and needs no gap.

    Runs in NumPy, in float64.

    Args:
        bases: Orthonormal bases of the candidates, each (n, q); the identity stands for Rⁿ.
        predictions: For each basis, the objectives predicted with it.
        objectives: Target objectives of the same samples, at least two that differ.
        gaps: `CriticalSpace.gap` of each basis, how clearly the spectrum supports it; that of Rⁿ is not used.
            None where nothing is known of it, and angles decide alone.

    Returns:
        The choice. An angle that does not exist, because a prediction is not finite or a projection is zero,
        counts as 180°; for chance it is left out.

    Raises:
        TypeError: Predictions or objectives are not real.
        ValueError: There are no bases, not as many predictions or gaps, or fewer than two samples; or a gap is NaN.
    """
    if len(bases) == 0 or len(bases) != len(predictions):
        raise ValueError(
            f"bases must be at least one, with predictions for each, got {len(bases)} bases and "
            f"{len(predictions)} sets of predictions"
        )
    if gaps is not None and (len(gaps) != len(bases) or np.isnan(gaps).any()):
        raise ValueError(f"gaps must be a number for each of {len(bases)} bases, got {gaps}")
    for name, vectors in (("objectives", objectives), *(("predictions", each) for each in predictions)):
        check_array(name, vectors)
        check_real(name, vectors)
    targets = np.asarray(objectives, np.float64)
    if targets.ndim != 2 or len(targets) < 2:
        raise ValueError(f"objectives must have shape (samples, n) with at least 2 samples, got {targets.shape}")
    own_angles, chances, scores, dimensions = [], [], [], []
    for number, (basis, predicted) in enumerate(zip(bases, predictions, strict=True)):
        if predicted.shape != targets.shape or basis.ndim != 2 or basis.shape[0] != targets.shape[1]:
            raise ValueError(
                f"basis and predictions {number} must have shapes ({targets.shape[1]}, q) and "
                f"{targets.shape}, got {basis.shape} and {predicted.shape}"
            )
        between = angles_between(np.asarray(basis, np.float64), np.asarray(predicted, np.float64), targets)
        own = np.median(np.nan_to_num(np.diagonal(between), nan=180.0))
        others = between[~np.eye(len(targets), dtype=bool)]
        others = others[~np.isnan(others)]
        chance = float(np.median(others)) if len(others) else np.nan
        informative = basis.shape[1] > 1 and chance > 0
        own_angles.append(own)
        chances.append(chance)
        scores.append(min(own / chance, 1.0) if informative else 1.0)
        dimensions.append(basis.shape[1])
    sizes, handicaps = np.array(dimensions), np.ones(len(bases))
    proper = sizes < targets.shape[1]
    if gaps is not None and proper.any():
        support = np.asarray(gaps, np.float64)
        handicaps[proper & (support < support[proper].max())] = 2.0
    best = np.lexsort((-sizes, handicaps * scores))[0]
    return Choice(int(best), np.array(own_angles), np.array(chances))
