"""Parametrizations φ: map parameters p, any real array, to an input x of the network, of shape (H, W, C).

x is an image with values in (0, 1), or for `geometry` a frame of mask, normals and depth. Every function takes one
sample; use `jax.vmap` for a batch.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from jifv._core.check import check_floats, check_nonnegative, concrete
from jifv._core.images import COLORS, as_image, check_parameters, check_shape, check_sizes, logit, mix_colors


class Parametrization(NamedTuple):
    """A parametrization φ. For other kinds of input, write a triple of your own.

    Attributes:
        init: key -> p, random parameters to start from.
        apply: p -> x = φ(p), always a valid input of the network.
        invert: x -> p with φ(p) = x, to start from an input or to invert one. Images are floats in [0, 1], or bytes.
    """

    init: Callable[[PRNGKeyArray], Float[Array, "..."]]
    apply: Callable[[Float[Array, "..."]], Float[Array, "..."]]
    invert: Callable[[Float[Array, "..."]], Float[Array, "..."]]


def pixels(
    shape: Sequence[int], *, decorrelate_colors: bool = False, std: float = 0.01, dtype: DTypeLike = float
) -> Parametrization:
    """Make each pixel its own parameter: x = sigmoid(p), with p of shape (H, W, C).

    Args:
        shape: (H, W, C) of the image.
        decorrelate_colors: Whether the channels of p are decorrelated colours, x = sigmoid(p Sᵀ) with S the square
            root of the covariance of ImageNet's colours, scaled as Lucid does (Olah et al., "Feature Visualization",
            2017). The first, roughly brightness, keeps its strength; the others become weaker.
        std: Standard deviation of the normal initial parameters; a small one starts from a nearly grey image.
        dtype: Type of the initial parameters; `apply` and `invert` follow their argument's.

    Returns:
        The parametrization. `invert` clips x to [ε, 1 - ε], ε the machine epsilon, so that 0 and 1 have finite
        parameters. Sigmoid is all but flat there: clip more yourself to optimize such pixels.

    Raises:
        TypeError: A size is not an integer, or `std` not a number.
        ValueError: `shape` is not three positive sizes, `decorrelate_colors` for other than three channels, `std`
            is negative or not finite; later, parameters or an image of another shape, or an image that is not finite
            or leaves [0, 1].
    """
    shape = _image_shape(shape, decorrelate_colors)
    check_nonnegative("std", std)

    def init(key: PRNGKeyArray) -> Float[Array, "H W C"]:
        return std * jax.random.normal(key, shape, dtype)

    def apply(p: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        check_parameters(p, shape)
        return jax.nn.sigmoid(mix_colors(p, COLORS) if decorrelate_colors else p)

    def invert(x: Float[Array, "H W C"] | UInt8[Array, "H W C"]) -> Float[Array, "H W C"]:
        x = as_image(x, shape)
        return mix_colors(logit(x), np.linalg.inv(COLORS)) if decorrelate_colors else logit(x)

    return Parametrization(init, apply, invert)


def fourier(
    shape: Sequence[int],
    *,
    decay: float = 0.0,
    decorrelate_colors: bool = False,
    std: float = 0.01,
    dtype: DTypeLike = float,
) -> Parametrization:
    """Make the parameters a spectrum: x = sigmoid(irfft2(scale · (p₀ + i p₁))), p₀ and p₁ the last axis of p.

    p has the shape (H, W // 2 + 1, C, 2). The transform is orthonormal, over rows and columns. The scale of a
    coefficient is 1 / max(frequency, 1 / max(H, W)) ** decay; its frequency is the length of the vector of
    (vertical, horizontal) cycles per pixel, in [0, √½]. `decay` 1 is Lucid's decorrelation, the spectrum of
    natural images (Olah et al., "Feature Visualization", 2017); 0 leaves the spectrum white.

    Args:
        shape: (H, W, C) of the image.
        decay: Exponent of the decorrelation, >= 0.
        decorrelate_colors: Whether the channels are decorrelated colours, as for `pixels`.
        std: Standard deviation of the normal initial parameters.
        dtype: Type of the initial parameters, float32 or float64; `apply` and `invert` follow their argument's.

    Returns:
        The parametrization. φ is many to one, because p has more entries than x; `invert` returns one p of many. It
        clips x like that of `pixels`.

    Raises:
        TypeError: A size is not an integer, or `decay` or `std` not a number.
        ValueError: `shape` is not three positive sizes, `decorrelate_colors` for other than three channels,
            `decay` or `std` is negative or not finite; later, as `pixels`.
    """
    shape = _image_shape(shape, decorrelate_colors)
    check_nonnegative("decay", decay)
    check_nonnegative("std", std)
    height, width, channels = shape
    parameters_shape = (height, width // 2 + 1, channels, 2)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))[..., None]
    scale = np.maximum(frequency, 1 / max(height, width)) ** -float(decay)

    def init(key: PRNGKeyArray) -> Float[Array, "H W2 C 2"]:
        return std * jax.random.normal(key, parameters_shape, dtype)

    def apply(p: Float[Array, "H W2 C 2"]) -> Float[Array, "H W C"]:
        check_parameters(p, parameters_shape)
        spectrum = jax.lax.complex(p[..., 0], p[..., 1]) * scale.astype(p.dtype)
        logits = jnp.fft.irfft2(spectrum, s=(height, width), axes=(0, 1), norm="ortho")
        return jax.nn.sigmoid(mix_colors(logits, COLORS) if decorrelate_colors else logits)

    def invert(x: Float[Array, "H W C"] | UInt8[Array, "H W C"]) -> Float[Array, "H W2 C 2"]:
        x = as_image(x, shape)
        logits = mix_colors(logit(x), np.linalg.inv(COLORS)) if decorrelate_colors else logit(x)
        spectrum = jnp.fft.rfft2(logits, axes=(0, 1), norm="ortho") / scale.astype(x.dtype)
        return jnp.stack([spectrum.real, spectrum.imag], axis=-1)

    return Parametrization(init, apply, invert)


def geometry(
    shape: Sequence[int],
    *,
    mask: Literal["fixed", "continuous"] = "fixed",
    std: float = 0.01,
    dtype: DTypeLike = float,
) -> Parametrization:
    """Make frames of mask, normal and depth for SRNet, whose normals face the viewer (paper, section 3.7).

    A frame has five channels: mask in [-1, 1], unit normal (x, y, z) on the screen with z > 0, depth in [0, 1]. p has
    one channel for each of:

    - the azimuth φ of the normal in radians, unbounded, so that no border of an interval is in the way;
    - its polar angle, θ = π/2 · (ε + (1 - 2ε) · sigmoid(p)) with ε the machine epsilon, which bounds z away from 0
      whatever p is, also where sigmoid rounds to 1: the normal is (sin θ cos φ, sin θ sin φ, cos θ);
    - the depth, sigmoid(p);
    - the mask, 2 · sigmoid(p) - 1, an interval in place of a set because a set has no gradient. Only if it is
      continuous: a fixed mask is 1 everywhere, and p has three channels.

    At θ = 0 the azimuth has no effect, and its gradient, proportional to sin θ, vanishes. Sigmoid reaches that pole
    at p = -∞ only.

    Args:
        shape: (H, W) of the frame.
        mask: "fixed" to 1 or "continuous" in [-1, 1].
        std: Standard deviation of the normal initial parameters. They begin in the middle of every range, far from
            the pole: a nearly flat plane tilted by 45°, towards an azimuth that is random and the same for all
            pixels, so that no direction is preferred and neighbouring normals agree as those of a surface do.
        dtype: Type of the initial parameters; `apply` and `invert` follow their argument's.

    Returns:
        The parametrization, p of shape (H, W, 3) or (H, W, 4) to x of shape (H, W, 5). `invert` takes the direction
        of a normal and leaves its length; it moves a normal with z < 0 to the horizon, clips what is outside its
        range, and the borders by ε, as that of `pixels` does. A normal of zero, which background has, gets the
        middle of the polar range and azimuth 0; a fixed mask ignores the frame's.

    Raises:
        TypeError: A size is not an integer, or `std` not a number.
        ValueError: `shape` is not two positive sizes, `mask` is another word, `std` is negative or not finite;
            later, parameters or a frame of another shape.
    """
    shape = check_sizes(shape, ("height", "width"))
    if mask not in ("fixed", "continuous"):
        raise ValueError(f"mask must be 'fixed' or 'continuous', got {mask!r}")
    check_nonnegative("std", std)
    parameters_shape = (*shape, 3 if mask == "fixed" else 4)

    def init(key: PRNGKeyArray) -> Float[Array, "H W q"]:
        direction_key, noise_key = jax.random.split(key)
        direction = jax.random.uniform(direction_key, (), dtype, -np.pi, np.pi)
        return (std * jax.random.normal(noise_key, parameters_shape, dtype)).at[..., 0].add(direction)

    def apply(p: Float[Array, "H W q"]) -> Float[Array, "H W 5"]:
        check_parameters(p, parameters_shape)
        azimuth, polar = p[..., 0], p[..., 1]
        # cos θ as the sine of the complement: near the horizon the cosine has lost its digits.
        radius, z = jnp.sin(_quarter_turn(polar)), jnp.sin(_quarter_turn(-polar))
        depth = jax.nn.sigmoid(p[..., 2])
        surface = jnp.ones_like(depth) if mask == "fixed" else 2 * jax.nn.sigmoid(p[..., 3]) - 1
        return jnp.stack([surface, radius * jnp.cos(azimuth), radius * jnp.sin(azimuth), z, depth], axis=-1)

    def invert(x: Float[Array, "H W 5"]) -> Float[Array, "H W q"]:
        check_shape("frame", x, (*shape, 5))
        check_floats("frame", x)
        if concrete(x) and not np.isfinite(x).all():
            raise ValueError("frame must be finite, got NaN or infinite entries")
        surface, nx, ny, nz, depth = jnp.moveaxis(x, -1, 0)
        radius = jnp.hypot(nx, ny)
        polar = jnp.where((radius == 0) & (nz == 0), 0.5, jnp.arctan2(radius, nz) / (np.pi / 2))
        channels = [jnp.arctan2(ny, nx), logit(polar), logit(depth), logit((surface + 1) / 2)]
        return jnp.stack(channels[: parameters_shape[-1]], axis=-1)

    return Parametrization(init, apply, invert)


def _quarter_turn(p: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Map p to an angle between 0 and π/2, both excluded; that of -p is its complement."""
    epsilon = jnp.finfo(p.dtype).eps
    return np.pi / 2 * (epsilon + (1 - 2 * epsilon) * jax.nn.sigmoid(p))


def _image_shape(shape: Sequence[int], decorrelate_colors: bool) -> tuple[int, int, int]:
    sizes = check_sizes(shape, ("height", "width", "channels"))
    if decorrelate_colors and sizes[2] != 3:
        raise ValueError(f"decorrelate_colors needs 3 channels, red, green and blue, got {sizes[2]}")
    return sizes
