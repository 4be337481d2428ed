"""Parametrizations φ: parameters p, any real array, to an image x of shape (H, W, C) with values in (0, 1).

Every function takes one sample; use `jax.vmap` for a batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from jifv._check import check_nonnegative, check_positive


class Parametrization(NamedTuple):
    """A parametrization φ. Replace it by a triple of your own for inputs that are not images.

    Attributes:
        init: key -> p, random parameters to start from.
        apply: p -> x = φ(p), always a valid input of the network.
        invert: x -> p with φ(p) = x, to start from an image or to invert one.
    """

    init: Callable[[PRNGKeyArray], Float[Array, "..."]]
    apply: Callable[[Float[Array, "..."]], Float[Array, "..."]]
    invert: Callable[[Float[Array, "..."]], Float[Array, "..."]]


def pixels(shape: tuple[int, int, int], *, std: float = 0.01, dtype: DTypeLike = float) -> Parametrization:
    """Each pixel is its own parameter: x = sigmoid(p), with p of shape (H, W, C).

    Args:
        shape: (H, W, C) of the image.
        std: Standard deviation of the normal initial parameters; a small one starts from a nearly grey image.
        dtype: Of the initial parameters; `apply` and `invert` follow their argument's.

    Returns:
        The parametrization. `invert` clips x to [ε, 1 - ε], ε the machine epsilon, so that 0 and 1 have
        finite parameters; sigmoid is as good as flat there, so clip more yourself to optimize such pixels.

    Raises:
        TypeError: a size is not an integer, or `std` not a number.
        ValueError: `shape` is not three positive sizes, `std` is negative or not finite; later, parameters or
            an image of another shape.
    """
    _check_image_shape(shape)
    check_nonnegative("std", std)

    def init(key: PRNGKeyArray) -> Float[Array, "H W C"]:
        return std * jax.random.normal(key, shape, dtype)

    def apply(p: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        _check_shape("parameters", p, shape)
        return jax.nn.sigmoid(p)

    def invert(x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        _check_shape("image", x, shape)
        return _logit(x)

    return Parametrization(init, apply, invert)


def fourier(
    shape: tuple[int, int, int], *, decay: float = 0.0, std: float = 0.01, dtype: DTypeLike = float
) -> Parametrization:
    """The parameters are a spectrum: x = sigmoid(irfft2(scale · (p₀ + i p₁))), p₀ and p₁ the last axis of p.

    p has the shape (H, W // 2 + 1, C, 2). The transform is orthonormal, over rows and columns. The scale of a
    coefficient is 1 / max(frequency, 1 / max(H, W)) ** decay; its frequency is the length of the vector of
    (vertical, horizontal) cycles a pixel, in [0, √½]. `decay` 1 is Lucid's decorrelation, the spectrum of
    natural images (Olah et al., "Feature Visualization", 2017); 0 leaves the spectrum white.

    Args:
        shape: (H, W, C) of the image.
        decay: Exponent of the decorrelation, >= 0.
        std: Standard deviation of the normal initial parameters.
        dtype: Of the initial parameters, float32 or float64; `apply` and `invert` follow their argument's.

    Returns:
        The parametrization. φ is many to one, because p has more entries than x, and `invert` returns one p
        of many. It clips x as that of `pixels` does.

    Raises:
        TypeError: a size is not an integer, or `decay` or `std` not a number.
        ValueError: `shape` is not three positive sizes, `decay` or `std` is negative or not finite; later,
            parameters or an image of another shape.
    """
    _check_image_shape(shape)
    check_nonnegative("decay", decay)
    check_nonnegative("std", std)
    height, width, channels = shape
    parameters_shape = (height, width // 2 + 1, channels, 2)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))[..., None]
    scale = np.maximum(frequency, 1 / max(height, width)) ** -float(decay)

    def init(key: PRNGKeyArray) -> Float[Array, "H W2 C 2"]:
        return std * jax.random.normal(key, parameters_shape, dtype)

    def apply(p: Float[Array, "H W2 C 2"]) -> Float[Array, "H W C"]:
        _check_shape("parameters", p, parameters_shape)
        spectrum = jax.lax.complex(p[..., 0], p[..., 1]) * scale.astype(p.dtype)
        return jax.nn.sigmoid(jnp.fft.irfft2(spectrum, s=(height, width), axes=(0, 1), norm="ortho"))

    def invert(x: Float[Array, "H W C"]) -> Float[Array, "H W2 C 2"]:
        _check_shape("image", x, shape)
        spectrum = jnp.fft.rfft2(_logit(x), axes=(0, 1), norm="ortho") / scale.astype(x.dtype)
        return jnp.stack([spectrum.real, spectrum.imag], axis=-1)

    return Parametrization(init, apply, invert)


def _logit(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    epsilon = jnp.finfo(x.dtype).eps
    return jax.scipy.special.logit(jnp.clip(x, epsilon, 1 - epsilon))


def _check_image_shape(shape: tuple[int, int, int]) -> None:
    if len(shape) != 3:
        raise ValueError(f"shape must be (height, width, channels), got {shape}")
    for name, size in zip(("height", "width", "channels"), shape, strict=True):
        check_positive(name, size)


def _check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if jnp.shape(array) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {jnp.shape(array)}; use jax.vmap for a batch")
