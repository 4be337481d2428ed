"""Transformations τ: random changes of an image that a visualization shall survive, such as shifts and rotations.

Each is a pure function of a key and one image, (key, x) -> x of the same shape, with a gradient; at the border the last
row or column is repeated. `chain` applies several. `fixed` and `anew` say which are drawn:

    tau = chain(shift(2), scale(0.95, 1.05))
    visualize(f, start, targets, transformations=fixed(tau, jax.random.split(key, 6)))

maximizes the mean of d(f(τx), v) over six of them; with `anew(tau, key, draws=2)` over two others in every step. With
f̄ = `mean_response(f, fixed(…))` in place of f it is the significance of the mean response, d(mean r_τ, v).
"""

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jifv._core.check import check_nonnegative, check_positive
from jifv.ensemble import Ensemble, Transformation, Uniform, anew, fixed, mean_response, spread

__all__ = [
    "Ensemble",
    "Transformation",
    "Uniform",
    "anew",
    "brightness",
    "chain",
    "crop",
    "fixed",
    "jitter",
    "mean_response",
    "noise",
    "rotate",
    "scale",
    "shift",
    "spread",
]


def chain(*transformations: Transformation) -> Transformation:
    """Apply one transformation after the other, each with numbers or a key of its own."""
    parts = [one for one in transformations if isinstance(one, Uniform)]
    if len(parts) == len(transformations):
        ends = np.cumsum([part.dimension for part in parts], dtype=int)

        def at(u: Float[Array, " d"], x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
            for part, end in zip(parts, ends, strict=True):
                x = part.at(u[end - part.dimension : end], x)
            return x

        return Uniform(int(sum(part.dimension for part in parts)), at)

    def chained(key: PRNGKeyArray, x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        for one, own in zip(transformations, jax.random.split(key, len(transformations)), strict=True):
            x = one(own, x)
        return x

    return chained


def jitter(pixels: int) -> Uniform:
    """Shift by whole pixels, uniform in −pixels, …, pixels, down and right independently."""
    check_positive("pixels", pixels)
    return Uniform(2, lambda u, x: _window(_padded(x, pixels), u, x.shape))


def shift(pixels: float) -> Uniform:
    """Shift by a real number of pixels, uniform in [−pixels, pixels), down and right, with linear interpolation."""
    check_nonnegative("pixels", pixels)

    def at(u: Float[Array, " 2"], x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        return _resampled(x, jnp.ones(2, x.dtype), (2 * u - 1) * pixels, int(np.ceil(pixels)))

    return Uniform(2, at)


def scale(low: float, high: float) -> Uniform:
    """Scale about the centre by a factor uniform in [low, high), with linear interpolation.

    Raises:
        ValueError: `low` is not positive, or above `high`.
    """
    _check_range("scale", low, high)

    def at(u: Float[Array, " 1"], x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        border = int(np.ceil(max(x.shape[:2]) * max(0.0, 1 / low - 1) / 2)) + 1
        return _resampled(x, jnp.tile(low + u * (high - low), 2), jnp.zeros(2, x.dtype), border)

    return Uniform(1, at)


def crop(share: float) -> Uniform:
    """Cut out a window and enlarge it to the size of the image, with linear interpolation.

    Args:
        share: Side of the window over that of the image, in (0, 1]; its place is uniform.

    Raises:
        ValueError: `share` is outside (0, 1].
    """
    _check_range("share", share, 1.0)

    def at(u: Float[Array, " 2"], x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        height, width, channels = x.shape
        window = (max(1, round(share * height)), max(1, round(share * width)), channels)
        return jax.image.resize(_window(x, u, window), x.shape, "linear")

    return Uniform(2, at)


def rotate(degrees: float) -> Uniform:
    """Rotate about the centre by an angle uniform in [−degrees, degrees), with linear interpolation."""
    check_nonnegative("degrees", degrees)
    most = float(np.deg2rad(degrees))

    def at(u: Float[Array, " 1"], x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        angle = (2 * u[0] - 1) * most
        with jax.default_matmul_precision("highest"):  # of coordinates: TF32 would move them by pixels
            return jnp.asarray(dm_pix.rotate(x, angle), x.dtype)  # pyright: ignore[reportArgumentType]

    return Uniform(1, at)


def brightness(most: float) -> Uniform:
    """Add one number to all entries, uniform in [−most, most). What leaves [0, 1] is not clipped."""
    check_nonnegative("most", most)
    return Uniform(1, lambda u, x: x + (2 * u - 1) * most)


def noise(std: float) -> Transformation:
    """Add independent normal noise to every entry. What leaves [0, 1] is not clipped."""
    check_nonnegative("std", std)

    def noisy(key: PRNGKeyArray, x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        return x + std * jax.random.normal(key, x.shape, x.dtype)

    return noisy


def _resampled(x: Array, factors: Array, by: Array, border: int) -> Array:
    """Scale about the centre, then shift down and right, repeating the border."""
    padded = _padded(x, border)
    # A pixel's centre is at its index plus a half.
    centre = jnp.asarray(x.shape[:2], x.dtype) / 2
    translation = centre - factors * (centre + border) + by
    return jax.image.scale_and_translate(padded, x.shape, (0, 1), factors, translation, "linear", antialias=False)


def _window(x: Array, u: Array, shape: tuple[int, ...]) -> Array:
    """Cut out a window of this shape, u its place among those possible."""
    places = np.array(x.shape[:2]) - np.array(shape[:2]) + 1
    start = jnp.minimum((u * places).astype(jnp.int32), places - 1)
    return jax.lax.dynamic_slice(x, (start[0], start[1], 0), shape)


def _padded(x: Array, border: int) -> Array:
    if x.ndim != 3:
        raise ValueError(f"x must be an image of shape (H, W, C), got {x.shape}")
    return jnp.pad(x, ((border, border), (border, border), (0, 0)), mode="edge")


def _check_range(name: str, low: float, high: float) -> None:
    for number in (low, high):
        check_nonnegative(name, number)
    if not 0 < low <= high:
        raise ValueError(f"{name} must be positive and rise, got {low} to {high}")
