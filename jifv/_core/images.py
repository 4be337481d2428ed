"""Images of parametrizations: their colours, their range, and checks of shapes."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jifv._core.check import check_array, check_floats, check_positive, check_range

# Square root of the covariance of ImageNet's colours, from Lucid (lucid/optvis/param/color.py): one row each for red,
# green and blue, one column per decorrelated colour, the longest of unit length.
COLORS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
COLORS /= np.linalg.norm(COLORS, axis=0).max()


def mix_colors(x: Float[Array, "H W 3"], matrix: np.ndarray) -> Float[Array, "H W 3"]:
    """Multiply the colour of each pixel by a matrix."""
    # The products that accelerators use by default keep three digits, and `invert` would not be exact.
    return jnp.matmul(x, matrix.T.astype(x.dtype), precision="highest")


def logit(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Invert the sigmoid, of values clipped to [ε, 1 - ε] with ε the machine epsilon."""
    epsilon = jnp.finfo(x.dtype).eps
    return jax.scipy.special.logit(jnp.clip(x, epsilon, 1 - epsilon))


def as_image(x: Array | np.ndarray, shape: tuple[int, int, int]) -> Float[Array, "H W C"]:
    """Return an image as floats in [0, 1].

    Raises:
        TypeError: It holds neither floats nor bytes.
        ValueError: It has another shape, or leaves [0, 1].
    """
    check_shape("image", x, shape)
    if jnp.issubdtype(x.dtype, jnp.uint8):
        return jnp.asarray(x) / 255
    check_units("image", x)
    return jnp.asarray(x)


def check_units(name: str, x: Any) -> None:
    """Raise unless an array, which does not hold bytes, holds floats in [0, 1].

    Raises:
        TypeError: It holds something else.
        ValueError: A value is outside.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name} must hold floats in [0, 1] or bytes (uint8), got {x.dtype}")
    check_range(name, x, 0, 1, "; divide bytes by 255")


def check_sizes(shape: Sequence[int], names: tuple[str, ...]) -> Any:
    """Return a shape as a tuple of integers, after checking that it has a positive size for each name.

    Raises:
        TypeError: A size is not an integer.
        ValueError: There are not as many sizes as names, or one is not positive.
    """
    if not isinstance(shape, Sequence) or len(shape) != len(names):
        raise ValueError(f"shape must be ({', '.join(names)}), got {shape}")
    for name, size in zip(names, shape, strict=True):
        check_positive(name, size)
    return tuple(map(int, shape))


def check_parameters(p: Array, shape: tuple[int, ...]) -> None:
    """Raise unless parameters are floats of a shape.

    Raises:
        TypeError: They are no floats.
        ValueError: They have another shape.
    """
    check_shape("parameters", p, shape)
    check_floats("parameters", p)


def check_shape(name: str, array: Array | np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise unless an array has a shape.

    Raises:
        TypeError: It is not an array.
        ValueError: It has another shape.
    """
    check_array(name, array)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}; use jax.vmap for a batch")
