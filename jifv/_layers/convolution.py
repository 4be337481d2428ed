"""Convolutions that are fast on CPUs, and so are their gradients. NHWC activations, HWIO kernels.

The gradients are written by hand: they equal the automatic ones and are faster. Differentiable in reverse mode only.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import custom_vjp_primal_tree_values
from jaxtyping import Array, Float

_LAYOUT = ("NHWC", "HWIO", "NHWC")


@jax.custom_vjp
def convolve(x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c d"]) -> Float[Array, "b h w d"]:
    """Convolve at stride 1 with zero padding that keeps the spatial size ("SAME", odd windows).

    The gradient with respect to `x` is a forward convolution with the flipped and transposed kernel. The automatic
    gradient has the same value but leaves the transposition to the convolution (kernel layout HWOI). XLA's CPU backend
    then leaves its fast path unless the kernel is a constant of the program, which it is in no loop: `lax.scan` is six
    times slower. Differentiable in reverse mode only.

    On CPUs, 3×3 windows between 64 or more channels take half the products by Winograd's algorithm, which is 1.5 to 1.8
    times faster. The rounding error is about twice that of the definition, 1e-6 of the output in float32.

    Raises:
        ValueError: If a side of the window is even: the flipped kernel would need another padding.
    """
    if kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
        raise ValueError(f"kernel must have odd sides, got a window of {kernel.shape[:2]}")
    # With fewer channels the additional sums take as long as the products that they save.
    if kernel.shape[:2] == (3, 3) and min(kernel.shape[2:]) >= 64 and x.dtype.itemsize >= 4:
        return lax.platform_dependent(x, kernel, cpu=_winograd, default=_direct)
    return _direct(x, kernel)


def _direct(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=_LAYOUT)


def _convolve_forward(x, kernel):
    trained = kernel.perturbed
    x, kernel = custom_vjp_primal_tree_values((x, kernel))
    # Without x there is no gradient of the kernel: to trace it takes longer than all else, and most networks are fixed.
    return convolve(x, kernel), (x if trained else None, kernel)


def _convolve_backward(saved, cotangent):
    x, kernel = saved
    of_kernel = None if x is None else kernel_gradient(x, cotangent, kernel.shape[:2])
    return convolve(cotangent, flipped(kernel)), of_kernel


convolve.defvjp(_convolve_forward, _convolve_backward, symbolic_zeros=True)


def kernel_gradient(
    x: Float[Array, "b h w c"], cotangent: Float[Array, "b h w d"], window: tuple[int, int]
) -> Float[Array, "kh kw c d"]:
    """Return the gradient of `convolve` with respect to a kernel with this window."""
    automatic = partial(_kernel_gradient, window=window)
    product = partial(_kernel_gradient_as_product, window=window)
    return lax.platform_dependent(x, cotangent, cpu=product, default=automatic)


def _kernel_gradient(x, cotangent, window, convolution=_direct):
    kernel = jnp.zeros((*window, x.shape[-1], cotangent.shape[-1]), x.dtype)
    _, pull = jax.vjp(lambda kernel: convolution(x, kernel), kernel)
    return pull(cotangent)[0]


def _kernel_gradient_as_product(x, cotangent, window):
    """Take one matrix product over all positions, of one array and the shifts of the other.

    The automatic gradient is a convolution whose window is the image. XLA's CPU backend takes two to four times as long
    for it. Shifted is the array with fewer channels.
    """
    height, width = window
    rows, columns = x.shape[1:3]

    def shifted(array):
        sides = ((0, 0), (height // 2, height // 2), (width // 2, width // 2), (0, 0))
        array = jnp.pad(array, sides)
        shifts = [array[:, i : i + rows, j : j + columns] for i in range(height) for j in range(width)]
        return jnp.concatenate(shifts, -1)

    def product(left, right):
        return left.reshape(-1, left.shape[-1]).T @ right.reshape(-1, right.shape[-1])

    channels, features = x.shape[-1], cotangent.shape[-1]
    if channels < features:
        return product(shifted(x), cotangent).reshape(height, width, channels, features)
    gradient = product(x, shifted(cotangent)).reshape(channels, height, width, features)
    return gradient.transpose(1, 2, 0, 3)[::-1, ::-1]


def flipped(kernel: Float[Array, "kh kw c d"]) -> Float[Array, "kh kw d c"]:
    """Return the kernel of a convolution's gradient with respect to its input."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


# F(4, 3) of Lavin & Gray 2015 (https://arxiv.org/abs/1509.09308) along the rows: four outputs need six products instead
# of twelve, each the product of a sum of six entries and a sum of three weights. Along the columns the convolution
# stays as it is: there the sums would cost more than they save, and a digit of accuracy.
_OF_ENTRIES = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_OF_WEIGHTS = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OF_PRODUCTS = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def _winograd(x, kernel):
    batch, height, width, _ = x.shape
    tiles = -(-width // 4)
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 4 * tiles + 1 - width), (0, 0)))
    entries = [x[:, :, i : i + 4 * tiles - 3 : 4] for i in range(6)]
    weights = [kernel[:, i : i + 1] for i in range(3)]
    products = [
        _direct(_weighted_sum(of_entries, entries), _weighted_sum(of_weights, weights))
        for of_entries, of_weights in zip(_OF_ENTRIES, _OF_WEIGHTS, strict=True)
    ]
    outputs = jnp.stack([_weighted_sum(of_products, products) for of_products in _OF_PRODUCTS], 3)
    return outputs.reshape(batch, height, 4 * tiles, -1)[:, :, :width]


def _weighted_sum(factors, arrays):
    return sum(factor * array for factor, array in zip(factors, arrays, strict=True) if factor)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def strided_convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c d"], stride: int
) -> Float[Array, "b p q d"]:
    """Convolve at a stride with zero padding of half a window on every side: ⌈h / stride⌉ × ⌈w / stride⌉ outputs.

    The automatic gradient with respect to `x` dilates the cotangent with zeros. Here it is one convolution of stride 1
    that computes the stride×stride block of the gradient below each output as channels. For 7×7 at stride 2 that takes
    a third of the operations; in a loop on XLA's CPU backend value and gradient take a quarter of the time.
    Differentiable in reverse mode only.

    Raises:
        ValueError: If the window is even: its centre would be between two entries.
    """
    if kernel.shape[0] % 2 == 0:
        raise ValueError(f"kernel must have odd sides, got a window of {kernel.shape[:2]}")
    return _strided(x, kernel, stride)


def _strided(x, kernel, stride):
    padding = ((kernel.shape[0] // 2, kernel.shape[0] // 2),) * 2
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=_LAYOUT)


def _strided_forward(x, kernel, stride):
    trained = () if kernel.perturbed else None
    x, kernel = custom_vjp_primal_tree_values((x, kernel))
    return strided_convolve(x, kernel, stride), (x, kernel, trained)


def _strided_backward(stride, saved, cotangent):
    x, kernel, trained = saved
    of_kernel = None
    if trained is not None:
        of_kernel = _kernel_gradient(x, cotangent, kernel.shape[:2], partial(_strided, stride=stride))
    batch, height, width, channels = x.shape
    window, _, _, features = kernel.shape
    half = window // 2
    # Entry stride·m + r of x reaches the outputs m − after to m + before, by the kernel's entries of phase r.
    before, after = -(-half // stride), half // stride
    taps = before + after + 1
    front = stride * before - half
    sides = (front, stride * taps - front - window)
    phases = jnp.pad(kernel, (sides, sides, (0, 0), (0, 0))).reshape(taps, stride, taps, stride, channels, features)
    flipped = phases[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4).reshape(taps, taps, features, -1)
    padding = ((after, before),) * 2
    blocks = lax.conv_general_dilated(cotangent, flipped, (1, 1), padding, dimension_numbers=_LAYOUT)
    rows, columns = cotangent.shape[1:3]
    blocks = blocks.reshape(batch, rows, columns, stride, stride, channels).transpose(0, 1, 3, 2, 4, 5)
    gradient = blocks.reshape(batch, rows * stride, columns * stride, channels)[:, :height, :width]
    return gradient, of_kernel


strided_convolve.defvjp(_strided_forward, _strided_backward, symbolic_zeros=True)
