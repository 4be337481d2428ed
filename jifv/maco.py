"""MaCo: images of a fixed spectrum, of which the phases alone are optimized, and importance maps.

Fel et al., "Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained Optimization", 2023. A
picture cannot become noisier than natural images are, because how much there is of each frequency is given. Of three
channels, red, green and blue, the spectrum is that of the decorrelated colours of `jifv.pixels`.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from jifv._core.check import check_array, check_fraction
from jifv._core.images import COLORS, as_image, check_parameters, check_sizes, check_units, logit, mix_colors
from jifv._visualize.gradient import evaluate
from jifv._visualize.state import State
from jifv.parametrize import Parametrization
from jifv.response import Composition, Response


def maco(
    shape: Sequence[int],
    spectrum: Float[Array | np.ndarray, "h w C"] | None = None,
    *,
    standardize_phases: bool = False,
    dtype: DTypeLike = float,
) -> Parametrization:
    """Make the parameters phases: x = sigmoid(C·standardize(irfft2(magnitude · exp(i p)))).

    p has the shape (H, W // 2 + 1, C), in radians. `standardize` brings all values of an image together to mean 0 and
    standard deviation 1; C correlates the colours of three channels. Columns of the spectrum that mirror themselves, 0
    and W / 2, have the given magnitude at most, as irfft2 averages the two phases of a frequency there.

    Args:
        shape: (H, W, C) of the image.
        spectrum: Magnitudes of a 2-D FFT, not negative, in the order of `numpy.fft.fft2`, such as `spectrum_of` returns
            them for images of any size; a common factor has no effect. For another size it is interpolated linearly
            over the frequencies, after division by 1 / frequency, which also continues it below the lowest one. By
            default 1 / max(frequency, 1 / max(H, W)) in all channels, roughly the spectrum of natural images.
        standardize_phases: Whether p is standardized, too, as Horama (serre-lab/Horama) does. Phases are then 1 radian
            apart on average, so that the picture keeps a spot in its corner, where equal phases meet, and the
            objective stays lower.
        dtype: Type of the initial parameters, float32 or float64; `apply` and `invert` follow their argument's.

    Returns:
        The parametrization. `init` draws uniform phases. `invert` returns a p with φ(p) = x for an image that has this
        spectrum, and for any other image its phases: φ(p) is another image then. With `standardize_phases` it raises.

    Raises:
        TypeError: A size is not an integer, or `spectrum` not an array of numbers.
        ValueError: `shape` is not three positive sizes, or `spectrum` not of shape (h, w, C), negative, not finite,
            zero, or not the same at a frequency and at its negative; later, as `jifv.pixels`.
    """
    height, width, channels = size = check_sizes(shape, ("height", "width", "channels"))
    parameters_shape = (height, width // 2 + 1, channels)
    magnitude = _resized(_natural(size) if spectrum is None else _checked(spectrum, channels), size)
    magnitude = magnitude[:, : width // 2 + 1] / magnitude.max()

    def init(key: PRNGKeyArray) -> Float[Array, "H W2 C"]:
        return jax.random.uniform(key, parameters_shape, dtype, -np.pi, np.pi)

    def apply(p: Float[Array, "H W2 C"]) -> Float[Array, "H W C"]:
        check_parameters(p, parameters_shape)
        phases = _standardized(p) if standardize_phases else p
        given = magnitude.astype(p.dtype)
        coefficients = jax.lax.complex(given * jnp.cos(phases), given * jnp.sin(phases))
        values = _standardized(jnp.fft.irfft2(coefficients, s=(height, width), axes=(0, 1), norm="ortho"))
        return jax.nn.sigmoid(mix_colors(values, COLORS) if channels == 3 else values)

    def invert(x: Float[Array, "H W C"] | UInt8[Array, "H W C"]) -> Float[Array, "H W2 C"]:
        x = as_image(x, size)
        if standardize_phases:
            raise ValueError("standardize_phases must be False to invert an image, got True")
        values = mix_colors(logit(x), np.linalg.inv(COLORS)) if channels == 3 else logit(x)
        coefficients = jnp.fft.rfft2(values, axes=(0, 1), norm="ortho")
        return _phases(coefficients, magnitude.astype(x.dtype), width)

    return Parametrization(init, apply, invert)


def spectrum_of(
    images: Float[Array | np.ndarray, "count H W C"] | UInt8[Array | np.ndarray, "count H W C"],
) -> Float[np.ndarray, "H W C"]:
    """Compute the mean magnitudes of the 2-D FFT of images, for `maco`. It runs in NumPy, in float64.

    Grey, ½, is subtracted before, and the colours of three channels are decorrelated. The values are not taken through
    the inverse of the sigmoid, which is infinite at black and white; near grey the two differ by a factor.

    Args:
        images: Images of one size, at least one: floats in [0, 1], or bytes.

    Returns:
        The spectrum, orthonormal, in the order of `numpy.fft.fft2`.

    Raises:
        TypeError: The images hold neither floats nor bytes.
        ValueError: `images` is not of four axes or empty, or a value leaves [0, 1].
    """
    check_array("images", images)
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"images must have shape (count, height, width, channels), got {images.shape}")
    bytes_ = images.dtype == np.uint8
    if not bytes_:
        check_units("images", images)
    total = np.zeros(images.shape[1:])
    for image in images:  # in the memory of one
        values = np.asarray(image, np.float64) / (255 if bytes_ else 1) - 0.5
        if values.shape[-1] == 3:
            values = values @ np.linalg.inv(COLORS).T
        total += np.abs(np.fft.fft2(values, axes=(0, 1), norm="ortho"))
    return total / len(images)


def importance(f: Response, state: State) -> Float[Array, "batch H W C"]:
    """Compute |∂d/∂x| of each sample at a state of a visualization: which pixels the objective listens to.

    Its sum over the steps is the importance map of Fel et al.; add up what you look at between calls of
    `jifv.visualization.advance`. The transformations are those of the state's next step; priors have no part in it.

    Args:
        f: The function that the state was started with, made by `jifv.compose`.
        state: The state. Nothing of it changes; this costs one more gradient of the batch.

    Returns:
        Magnitudes in the shape of the images.

    Raises:
        ValueError: f was not made by `jifv.compose`.
    """
    if not isinstance(f, Composition):
        raise ValueError(f"f must be made by jifv.compose to know its image, got {f!r}")
    _, _, gradient = evaluate(
        _of_images(f),
        state.significance,
        state.settings.precision,
        jax.vmap(f.apply)(state.parameters),
        state.objectives,
        transformations=state.transformations,
        step=state.step,
    )
    return jnp.abs(gradient)


def opacity(importance: Float[Array | np.ndarray, "H W C"], *, share: float = 0.8) -> Float[Array, "H W"]:
    """Make an importance map an alpha channel in [0, 1]: its mean over channels, cut off at a quantile, over the cut.

    Args:
        importance: What `importance` returned for one sample, or a sum of it.
        share: Share of the pixels below the cut, in [0, 1]; Horama's is 0.8.

    Raises:
        TypeError: `share` is not a number.
        ValueError: `share` is not in [0, 1].
    """
    check_fraction("share", share)
    mean = jnp.mean(jnp.asarray(importance), axis=-1)
    cut = jnp.minimum(mean, jnp.quantile(mean, float(share)))
    return cut / jnp.maximum(jnp.max(cut), jnp.finfo(cut.dtype).tiny)


@lru_cache(8)
def _of_images(f: Composition) -> Composition:
    """Return f without its parametrization; the same object again, so that it is compiled once."""
    return Composition(_itself, f.network, f.aggregate)


def _itself(x: Any) -> Any:
    return x


def _standardized(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    centred = x - jnp.mean(x)
    # Where all values are equal there is no deviation to divide by, and the gradient stays finite.
    return centred * jax.lax.rsqrt(jnp.maximum(jnp.mean(centred**2), jnp.finfo(x.dtype).eps ** 2))


def _phases(coefficients: Array, magnitude: np.ndarray, width: int) -> Float[Array, "H W2 C"]:
    """Find the phases of standardized coefficients, also where apply has averaged two or shifted the mean."""
    found = jnp.abs(coefficients)
    inner = slice(1, (width + 1) // 2)  # columns that keep their magnitude
    if magnitude[:, inner].any():
        scale = jnp.sum(found[:, inner] * magnitude[:, inner]) / np.sum(magnitude[:, inner] ** 2)
    else:
        scale = jnp.max(jnp.where(magnitude > 0, found / np.where(magnitude > 0, magnitude, 1), 0).at[0, 0].set(0))
    scale = jnp.maximum(scale, jnp.finfo(found.dtype).tiny)
    # The mean of all channels is gone; any is right that leaves each channel's below its magnitude.
    mean, most = coefficients[0, 0].real / scale, magnitude[0, 0]
    shift = (jnp.max(-most - mean) + jnp.min(most - mean)) / 2
    coefficients = coefficients.at[0, 0].add(scale * shift)
    ratio = jnp.abs(coefficients) / jnp.where(magnitude > 0, magnitude * scale, 1)
    less = (ratio < 1).at[:, inner].set(False)
    # (exp(i(θ + δ)) + exp(i(θ - δ))) / 2 = exp(iθ) cos δ
    apart = jnp.where(less, jnp.arccos(jnp.where(less, ratio, 0)), 0)
    return jnp.angle(coefficients) + apart


def _checked(spectrum: Any, channels: int) -> np.ndarray:
    check_array("spectrum", spectrum)
    spectrum = np.asarray(spectrum, np.float64)
    if spectrum.ndim != 3 or 0 in spectrum.shape or spectrum.shape[2] != channels:
        raise ValueError(f"spectrum must have shape (h, w, {channels}), got {spectrum.shape}")
    if not (np.isfinite(spectrum).all() and (spectrum >= 0).all() and spectrum.any()):
        raise ValueError("spectrum must be finite, not negative and not zero throughout, got other entries")
    negative = np.roll(spectrum[::-1, ::-1], 1, axis=(0, 1))
    if not np.allclose(spectrum, negative, rtol=1e-3, atol=1e-3 * spectrum.max()):
        raise ValueError("spectrum must be the same at a frequency and at its negative, as that of images, got another")
    return spectrum


def _natural(shape: tuple[int, ...]) -> np.ndarray:
    """Return 1 / max(frequency, 1 / max(H, W)), the same in each channel."""
    height, width, channels = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    return np.repeat(1 / np.maximum(frequency, 1 / max(height, width))[..., None], channels, axis=-1)


def _resized(spectrum: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Interpolate over frequencies in cycles per pixel, of what is flat for natural images."""
    flat = spectrum / _natural(spectrum.shape)
    for axis in (0, 1):
        old, new = np.fft.fftfreq(flat.shape[axis]), np.fft.fftfreq(shape[axis])
        weights = [np.interp(new, old, unit, period=1) for unit in np.eye(len(old))]
        flat = np.moveaxis(np.tensordot(np.array(weights), flat, axes=(0, axis)), 0, axis)
    return flat * _natural(shape)
