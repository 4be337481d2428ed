"""Operations over windows of positions: convolution, pooling and resampling. Channels come last inside."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jifv._aten.tensor import CHANNELS_LAST, Tensor
from jifv._layers.convolution import convolve, strided_convolve
from jifv._layers.windows import local_response_norm, max_pool

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    if len(x.order) != 4:
        raise NotImplementedError(f"only convolutions of images are known, got an input of shape {x.shape}")
    array, stride, padding, dilation = _image(x), _pair(stride), _pair(padding), _pair(dilation)
    if transposed:
        out = _transposed(array, weight, stride, padding, dilation, _pair(output_padding), groups)
    else:
        out = _direct(array, weight.plain.transpose(2, 3, 1, 0), stride, padding, dilation, groups)
    return Tensor(out if bias is None else out + bias.plain, CHANNELS_LAST)


def _direct(x: Any, kernel: Any, stride: tuple, padding: tuple, dilation: tuple, groups: int) -> Any:
    """Choose the algorithm; the fast ones have a gradient of their own."""
    window = kernel.shape[:2]
    if groups == 1 and dilation == (1, 1):
        if all(side % 2 and side // 2 == margin for side, margin in zip(window, padding, strict=True)):
            if window == (1, 1):
                return x[:, :: stride[0], :: stride[1]] @ kernel[0, 0]
            if stride == (1, 1):
                return convolve(x, jnp.asarray(kernel))
            if stride[0] == stride[1] and window[0] == window[1]:
                return strided_convolve(x, jnp.asarray(kernel), stride[0])
        if window == stride and padding == (0, 0):
            return _patches(x, kernel)
    sides = [(margin, margin) for margin in padding]
    return lax.conv_general_dilated(
        x, kernel, stride, sides, rhs_dilation=dilation, dimension_numbers=_LAYOUT, feature_group_count=groups
    )


def _patches(x: Any, kernel: Any) -> Any:
    """Convolve windows side by side: they are the rows of a matrix."""
    height, width, channels, features = kernel.shape
    rows, columns = x.shape[1] // height, x.shape[2] // width
    x = x[:, : rows * height, : columns * width].reshape(-1, rows, height, columns, width, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows, columns, height * width * channels)
    return x @ kernel.reshape(-1, features)


def _transposed(
    x: Any, weight: Tensor, stride: tuple, padding: tuple, dilation: tuple, extra: tuple, groups: int
) -> Any:
    """Compute a convolution's gradient, as a forward function: the kernel is flipped, the input spread out."""
    kernel = weight.plain[:, :, ::-1, ::-1]
    inputs, outputs, height, width = kernel.shape
    kernel = kernel.reshape(groups, inputs // groups, outputs, height, width)
    kernel = kernel.transpose(3, 4, 1, 0, 2).reshape(height, width, inputs // groups, groups * outputs)
    reach = [scale * (side - 1) for scale, side in zip(dilation, (height, width), strict=True)]
    sides = [(all_ - margin, all_ - margin + more) for all_, margin, more in zip(reach, padding, extra, strict=True)]
    return lax.conv_general_dilated(
        x,
        jnp.asarray(kernel),
        (1, 1),
        sides,
        lhs_dilation=stride,
        rhs_dilation=dilation,
        dimension_numbers=_LAYOUT,
        feature_group_count=groups,
    )


def _max_pool(
    x: Tensor,
    window: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] | int = 0,
    dilation: Sequence[int] | int = 1,
    ceil: bool = False,
) -> tuple[Tensor, None]:
    """Return no positions of the maxima: whoever unpools needs more than this."""
    array, window, padding = _image(x), _pair(window), _pair(padding)
    stride = _pair(stride or window)
    if _pair(dilation) != (1, 1) or any(step > side for step, side in zip(stride, window, strict=True)):
        raise NotImplementedError("only maxima over windows without gaps, in them and between them, are known")
    return Tensor(max_pool(array, window, stride, padding, ceil=ceil), CHANNELS_LAST), None


def _average_pool(
    x: Tensor,
    window: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] | int = 0,
    ceil: bool = False,
    count_padding: bool = True,
    divisor: int | None = None,
) -> Tensor:
    window = tuple(window)
    rank = len(window)
    stride = tuple(stride) or window
    padding = (padding,) * rank if isinstance(padding, int) else tuple(padding) * (rank // len(padding))
    array = x.array
    for number, (side, step, margin) in enumerate(zip(window, stride, padding, strict=True)):
        if side > 1 or step > 1:
            axis = x.axis(number - rank)
            # Counts are separable.
            counts = None if divisor else _counts(array.shape[axis], side, step, margin, ceil, count_padding)
            array = _sum_along(array, axis, side, step, margin, ceil)
            if counts is not None:
                array = array / counts.astype(array.dtype).reshape((-1,) + (1,) * (array.ndim - 1 - axis))
    return Tensor(array / divisor if divisor else array, x.order)


def _number(size: int, window: int, stride: int, padding: int, ceil: bool) -> int:
    """Return how many windows there are along an axis."""
    rest = size + 2 * padding - window
    count = rest // stride + 1
    more = ceil and rest % stride and count * stride < size + padding
    return count + 1 if more else count


def _sum_along(x: Any, axis: int, window: int, stride: int, padding: int, ceil: bool) -> Any:
    size, count = x.shape[axis], _number(x.shape[axis], window, stride, padding, ceil)
    sides = [(0, 0, 0)] * x.ndim
    sides[axis] = (padding, (count - 1) * stride + window - padding - size, 0)
    x = lax.pad(x, np.asarray(0, x.dtype), sides)
    entries = [lax.slice_in_dim(x, i, i + (count - 1) * stride + 1, stride, axis) for i in range(window)]
    return reduce(jnp.add, entries)


def _counts(size: int, window: int, stride: int, padding: int, ceil: bool, count_padding: bool) -> np.ndarray:
    """Return how many entries each window has: the margin may count, what is beyond it does not."""
    starts = np.arange(_number(size, window, stride, padding, ceil)) * stride - padding
    low, high = (-padding, size + padding) if count_padding else (0, size)
    return np.minimum(starts + window, high) - np.maximum(starts, low)


def _response_norm(x: Tensor, window: int, alpha: float, offset: float) -> Tensor:
    return Tensor(local_response_norm(_image(x), window, alpha, offset), CHANNELS_LAST)


def _adaptive_average_pool(x: Tensor, sizes: Sequence[int]) -> Tensor:
    def matrix(old: int, new: int) -> np.ndarray:
        result = np.zeros((new, old))
        for row in range(new):
            start, end = row * old // new, -(-(row + 1) * old // new)
            result[row, start:end] = 1 / (end - start)
        return result

    return _along_sides(x, [matrix(old, new) for old, new in zip(x.shape[-len(sizes) :], sizes, strict=True)])


def _adaptive_max_pool(x: Tensor, sizes: Sequence[int]) -> tuple[Tensor, None]:
    old, new = x.shape[2:], _pair(sizes)
    if any(before % after for before, after in zip(old, new, strict=True)):
        raise NotImplementedError(f"only maxima over equal parts are known, got {new} parts of {old} positions")
    window = tuple(before // after for before, after in zip(old, new, strict=True))
    return _max_pool(x, window)


def _bilinear(x: Tensor, sizes: Sequence[int], corners: bool, *scales: float | None) -> Tensor:
    def matrix(old: int, new: int, scale: float | None) -> np.ndarray:
        if corners:
            places = np.arange(new) * ((old - 1) / max(new - 1, 1))
        else:
            places = np.maximum((np.arange(new) + 0.5) * (1 / scale if scale else old / new) - 0.5, 0)
        low = np.minimum(places.astype(int), old - 1)
        high, share = np.minimum(low + 1, old - 1), places - low
        result = np.zeros((new, old))
        np.add.at(result, (np.arange(new), low), 1 - share)
        np.add.at(result, (np.arange(new), high), share)
        return result

    factors = [*scales, None, None][:2]
    return _along_sides(x, [matrix(*each) for each in zip(x.shape[2:], _pair(sizes), factors, strict=True)])


def _nearest(x: Tensor, sizes: Sequence[int], *scales: float | None) -> Tensor:
    array = x.array
    for dim, (new, scale) in enumerate(zip(_pair(sizes), [*scales, None, None][:2], strict=True), 2):
        old = x.shape[dim]
        places = np.minimum((np.arange(new) * (1 / scale if scale else old / new)).astype(int), old - 1)
        array = jnp.take(array, places, x.axis(dim))
    return Tensor(array, x.order)


def _scaled(function: Callable) -> Callable:
    """Return the overload that may have factors in place of sizes."""

    def resample(x: Tensor, sizes: Sequence[int] | None, *options: Any) -> Tensor:
        *rest, factors = options
        if sizes is None:
            sizes = [int(side * factor) for side, factor in zip(x.shape[2:], factors, strict=True)]
        return function(x, sizes, *rest, *(factors or ()))

    return resample


def _along_sides(x: Tensor, matrices: Sequence[np.ndarray]) -> Tensor:
    """Multiply the last axes by matrices (new, old)."""
    array = x.array
    for dim, matrix in enumerate(matrices, -len(matrices)):
        axis = x.axis(dim)
        array = jnp.moveaxis(jnp.tensordot(array, matrix.astype(array.dtype), (axis, 1)), -1, axis)
    return Tensor(array, x.order)


def _image(x: Tensor) -> Array:
    return jnp.asarray(x.arranged(CHANNELS_LAST))


def _pair(sides: Sequence[int] | int) -> tuple[int, int]:
    sides = (sides,) if isinstance(sides, int) else tuple(sides)
    return (sides[0], sides[-1])


SPATIAL: dict[str, Callable] = {
    "_adaptive_avg_pool2d": _adaptive_average_pool,
    "adaptive_avg_pool1d": _adaptive_average_pool,
    "adaptive_max_pool2d": _adaptive_max_pool,
    "avg_pool2d": _average_pool,
    "avg_pool3d": _average_pool,
    "convolution": _convolution,
    "local_response_norm": _response_norm,
    "max_pool2d_with_indices": _max_pool,
    "upsample_bilinear2d": _bilinear,
    "upsample_bilinear2d.vec": _scaled(_bilinear),
    "upsample_nearest2d": _nearest,
    "upsample_nearest2d.vec": _scaled(_nearest),
}
"""By the names of PyTorch's operators."""
