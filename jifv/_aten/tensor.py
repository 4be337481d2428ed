"""Arrays whose axes lie in another order than the graph says.

So channels can be last where PyTorch has them first. An operation that only renames axes costs nothing then, and one
that treats all entries alike keeps the order.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

CHANNELS_LAST = (0, 2, 3, 1)
"""Order of the axes batch, channels, height and width for convolutions."""


class Tensor(NamedTuple):
    """An array, and what its axes are in the graph.

    Weights are NumPy arrays, so that they are rearranged while tracing and not by the compiled program.

    Attributes:
        array: The entries.
        order: Axis in the graph of each axis of `array`.
    """

    array: Array | np.ndarray
    order: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the graph."""
        return tuple(self.array.shape[self.axis(dim)] for dim in range(len(self.order)))

    def axis(self, dim: int) -> int:
        """Return the axis of `array` that an axis of the graph is; negative ones count from the end."""
        return self.order.index(dim % len(self.order))

    def axes(self, dims: Sequence[int]) -> tuple[int, ...]:
        """Return the axes of `array` that some axes of the graph are."""
        return tuple(self.axis(dim) for dim in dims)

    def arranged(self, order: Sequence[int]) -> Array | np.ndarray:
        """Return the entries with the axes in another order."""
        order = tuple(order)
        return self.array if order == self.order else self.array.transpose(self.axes(order))

    @property
    def plain(self) -> Array | np.ndarray:
        """The entries with the axes as in the graph."""
        return self.arranged(range(len(self.order)))


def tensor(array: Any) -> Tensor:
    """Return a tensor whose axes are as in the graph."""
    array = array if hasattr(array, "ndim") else jnp.asarray(array)
    return Tensor(array, tuple(range(array.ndim)))


def elementwise(function: Callable, *operands: Any) -> Tensor:
    """Apply a function of arrays that broadcast, and of numbers, in the order of the largest tensor."""
    tensors = [operand for operand in operands if isinstance(operand, Tensor)]
    order = max(tensors, key=lambda operand: (len(operand.order), operand.array.size)).order
    rank = len(order)

    def aligned(operand: Any) -> Any:
        if not isinstance(operand, Tensor) or operand.order == order:
            return operand.array if isinstance(operand, Tensor) else operand
        if not operand.order:
            return operand.array
        missing = rank - len(operand.order)
        plain = operand.plain
        return Tensor(plain.reshape((1,) * missing + plain.shape), tuple(range(rank))).arranged(order)

    return Tensor(function(*map(aligned, operands)), order)


def reduced(function: Callable, x: Tensor, dims: Sequence[int] | int | None, keep: bool = False) -> Tensor:
    """Apply a reduction of NumPy's over some axes, over all of them if none are given."""
    rank = len(x.order)
    dims = range(rank) if dims is None or dims == () else (dims,) if isinstance(dims, int) else dims
    gone = {dim % rank for dim in dims} if rank else set()
    array = function(x.array, axis=x.axes(sorted(gone)), keepdims=keep)
    return Tensor(array, x.order if keep else without(x.order, gone))


def without(order: tuple[int, ...], dims: set[int]) -> tuple[int, ...]:
    """Return an order after some axes of the graph are gone."""
    return tuple(dim - sum(gone < dim for gone in dims) for dim in order if dim not in dims)


def viewed(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Reshape. Axes that stay, or split, or merge with neighbours that are adjacent also here, keep their places."""
    shape, size = list(shape), x.array.size
    if -1 in shape:
        shape[shape.index(-1)] = size // int(-np.prod(shape))
    if not (size and shape and x.order):
        return tensor(x.plain.reshape(shape))
    parts, order = {}, []
    for old, new in _groups(x.shape, shape):
        places = [x.axis(dim) for dim in old]
        if places != list(range(places[0], places[0] + len(old))):
            return tensor(x.plain.reshape(shape))
        parts[places[0]] = new
    for place in sorted(parts):
        order += parts[place]
    return Tensor(x.array.reshape([shape[dim] for dim in order]), tuple(order))


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Return the smallest runs of axes of two shapes that have the same number of entries."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        olds, news, before, after = [i], [j], old[i], new[j]
        i, j = i + 1, j + 1
        while before != after:
            if before < after:
                olds.append(i)
                before, i = before * old[i], i + 1
            else:
                news.append(j)
                after, j = after * new[j], j + 1
        groups.append((olds, news))
    if groups:  # what is left has one entry
        groups[-1][0].extend(range(i, len(old)))
        groups[-1][1].extend(range(j, len(new)))
    else:
        groups.append((list(range(len(old))), list(range(len(new)))))
    return groups
