"""Transformations τ: random changes of an image that a visualization shall survive, such as shifts and rotations.

Each is a pure function of a key and one image, (key, x) -> x of the same shape, with a gradient; at the border the last
row or column is repeated. `chain` applies several. `fixed` and `anew` say which are drawn:

    tau = chain(shift(2), scale(0.95, 1.05))
    visualize(f, start, targets, transformations=fixed(tau, jax.random.split(key, 6)))

maximizes the mean of d(f(τx), v) over six of them; with `anew(tau, key, draws=2)` over two others in every step. With
f̄ = `mean_response(f, fixed(…))` in place of f it is the significance of the mean response, d(mean r_τ, v).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray, UInt32

from jifv._core.check import check_nonnegative, check_positive
from jifv.response import Composition, Response

Transformation: TypeAlias = Callable[[PRNGKeyArray, Float[Array, "H W C"]], Float[Array, "H W C"]]
"""τ: (key, x) -> x of the same shape."""


def chain(*transformations: Transformation) -> Transformation:
    """Apply one transformation after the other, each with a key of its own."""

    def chained(key: PRNGKeyArray, x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        for one, own in zip(transformations, jax.random.split(key, max(len(transformations), 1)), strict=False):
            x = one(own, x)
        return x

    return chained


def jitter(pixels: int) -> Transformation:
    """Shift by whole pixels, uniform in −pixels, …, pixels, down and right independently."""
    check_positive("pixels", pixels)

    def jittered(key: PRNGKeyArray, x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        return jnp.asarray(dm_pix.random_crop(key, _padded(x, pixels), x.shape))

    return jittered


def shift(pixels: float) -> Transformation:
    """Shift by a real number of pixels, uniform in [−pixels, pixels), down and right, with linear interpolation."""
    check_nonnegative("pixels", pixels)

    def shifted(key: PRNGKeyArray, x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        by = jax.random.uniform(key, (2,), x.dtype, -pixels, pixels)
        return _resampled(x, jnp.ones(2, x.dtype), by, int(np.ceil(pixels)))

    return shifted


def scale(low: float, high: float) -> Transformation:
    """Scale about the centre by a factor uniform in [low, high), with linear interpolation.

    Raises:
        ValueError: `low` is not positive, or above `high`.
    """
    _check_range("scale", low, high)

    def scaled(key: PRNGKeyArray, x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        factor = jax.random.uniform(key, (), x.dtype, low, high)
        border = int(np.ceil(max(x.shape[:2]) * max(0.0, 1 / low - 1) / 2)) + 1
        return _resampled(x, jnp.stack([factor, factor]), jnp.zeros(2, x.dtype), border)

    return scaled


def crop(share: float) -> Transformation:
    """Cut out a window and enlarge it to the size of the image, with linear interpolation.

    Args:
        share: Side of the window over that of the image, in (0, 1]; its place is uniform.

    Raises:
        ValueError: `share` is outside (0, 1].
    """
    _check_range("share", share, 1.0)

    def cropped(key: PRNGKeyArray, x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        height, width, channels = x.shape
        window = (max(1, round(share * height)), max(1, round(share * width)), channels)
        return jax.image.resize(dm_pix.random_crop(key, x, window), x.shape, "linear")

    return cropped


def rotate(degrees: float) -> Transformation:
    """Rotate about the centre by an angle uniform in [−degrees, degrees), with linear interpolation."""
    check_nonnegative("degrees", degrees)
    most = float(np.deg2rad(degrees))

    def rotated(key: PRNGKeyArray, x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        angle = jax.random.uniform(key, (), x.dtype, -most, most)
        with jax.default_matmul_precision("highest"):  # of coordinates: TF32 would move them by pixels
            return jnp.asarray(dm_pix.rotate(x, angle), x.dtype)  # pyright: ignore[reportArgumentType]

    return rotated


def noise(std: float) -> Transformation:
    """Add independent normal noise to every entry. What leaves [0, 1] is not clipped."""
    check_nonnegative("std", std)

    def noisy(key: PRNGKeyArray, x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        return x + std * jax.random.normal(key, x.shape, x.dtype)

    return noisy


def brightness(most: float) -> Transformation:
    """Add one number to all entries, uniform in [−most, most). What leaves [0, 1] is not clipped."""
    check_nonnegative("most", most)

    def brightened(key: PRNGKeyArray, x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        return jnp.asarray(dm_pix.random_brightness(key, x, most), x.dtype)

    return brightened


@dataclass(frozen=True)
class Ensemble:
    """Transformations to average over, made by `fixed` or `anew`. Equal ones are found again by `jax.jit`.

    Attributes:
        transformation: τ.
        words: The bits of the keys.
        draws: Transformations at a time.
        anew: Whether every step draws others.
    """

    transformation: Transformation
    words: tuple[tuple[int, ...], ...]
    draws: int
    anew: bool

    def bits(self) -> UInt32[np.ndarray, "keys 2"]:
        """Return the bits of the keys as an array, to pass to what is compiled."""
        return np.asarray(self.words, np.uint32)

    def keys(self, bits: UInt32[Array, "keys 2"], step: Array | int = 0) -> Key[Array, " draws"]:
        """Return the keys of a step."""
        keys = jax.random.wrap_key_data(bits, impl="threefry2x32")
        return jax.random.split(jax.random.fold_in(keys[0], step), self.draws) if self.anew else keys


def fixed(transformation: Transformation, keys: Key[Array, " draws"] | UInt32[Array, "draws 2"]) -> Ensemble:
    """Draw transformations once, one for each key.

    Raises:
        TypeError: `transformation` is not a function.
        ValueError: `keys` is not a vector of one key or more.
    """
    words = _words("keys", keys, 1)
    _check_transformation(transformation)
    return Ensemble(transformation, words, len(words), anew=False)


def anew(transformation: Transformation, key: PRNGKeyArray, *, draws: int = 1) -> Ensemble:
    """Draw other transformations in every step of `jifv.visualize`; which ones, key and number of the step decide.

    Args:
        transformation: τ.
        key: A single key.
        draws: Transformations in a step, each as expensive as a step without any.

    Raises:
        TypeError: `transformation` is not a function, or `draws` is not an integer.
        ValueError: `key` is not a single key, or `draws` < 1.
    """
    check_positive("draws", draws)
    _check_transformation(transformation)
    return Ensemble(transformation, _words("key", key, 0), draws, anew=True)


def mean_response(f: Response, ensemble: Ensemble) -> Response:
    """Return the mean response f̄(p) = mean over τ of A(N(τφ(p))), over a fixed set.

    It is computed one transformation after the other, and again for its gradient: its memory is that of f. Both
    `visualize` and inversion take it as any response function; make it once.

    Raises:
        ValueError: f was not made by `jifv.compose`, or the transformations are not fixed.
    """
    check_ensemble(f, ensemble)
    if ensemble.anew:
        raise ValueError("ensemble must be made by transform.fixed: a response function has no steps")

    def mean(parameters: Float[Array, "..."]) -> Float[Array, " n"]:
        one = jax.checkpoint(lambda key: respond(f, ensemble, key, parameters))
        return jnp.mean(jax.lax.map(one, ensemble.keys(jnp.asarray(ensemble.bits()))), axis=0)

    return mean


def respond(f: Response, ensemble: Ensemble, key: PRNGKeyArray, parameters: Float[Array, "..."]) -> Float[Array, " n"]:
    """Compute the response to one transformed image."""
    assert isinstance(f, Composition)
    x = f.apply(parameters)
    moved = ensemble.transformation(key, x)
    if moved.shape != x.shape:
        raise ValueError(f"a transformation must keep the shape of the image, {x.shape}, got {moved.shape}")
    return f.respond(moved)


def check_ensemble(f: Response, ensemble: Any) -> None:
    """Raise unless these are transformations that can be put between the φ and the network of f.

    Raises:
        TypeError: They are not an `Ensemble`.
        ValueError: f was not made by `jifv.compose`.
    """
    if not isinstance(ensemble, Ensemble):
        raise TypeError(f"transformations must be made by transform.fixed or transform.anew, got {ensemble!r}")
    if not isinstance(f, Composition):
        raise ValueError(f"f must be made by jifv.compose for transformations of its image, got {f!r}")


def _resampled(x: Array, factors: Array, by: Array, border: int) -> Array:
    """Scale about the centre, then shift down and right, repeating the border."""
    padded = _padded(x, border)
    # A pixel's centre is at its index plus a half.
    centre = jnp.asarray(x.shape[:2], x.dtype) / 2
    translation = centre - factors * (centre + border) + by
    return jax.image.scale_and_translate(padded, x.shape, (0, 1), factors, translation, "linear", antialias=False)


def _padded(x: Array, border: int) -> Array:
    if x.ndim != 3:
        raise ValueError(f"x must be an image of shape (H, W, C), got {x.shape}")
    return jnp.pad(x, ((border, border), (border, border), (0, 0)), mode="edge")


def _words(name: str, keys: Array, axes: int) -> tuple[tuple[int, ...], ...]:
    typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    if keys.ndim - (not typed) != axes or keys.size == 0:
        raise ValueError(f"{name} must be {'a vector of keys' if axes else 'a single key'}, got shape {keys.shape}")
    # Two words of each, whatever the generator: the draws are those of threefry.
    each = keys.reshape(-1) if typed else keys.reshape(-1, keys.shape[-1])
    words = jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32))(each)
    return tuple(tuple(int(word) for word in row) for row in np.asarray(words))


def _check_transformation(transformation: object) -> None:
    if not callable(transformation):
        raise TypeError(f"transformation must be a function (key, x) -> x, got {transformation!r}")


def _check_range(name: str, low: float, high: float) -> None:
    for number in (low, high):
        check_nonnegative(name, number)
    if not 0 < low <= high:
        raise ValueError(f"{name} must be positive and rise, got {low} to {high}")
