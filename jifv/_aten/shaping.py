"""Operations that make arrays, or take and move entries without changing them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jifv._aten.tensor import Tensor, tensor, viewed, without


def _permute(x: Tensor, dims: Sequence[int]) -> Tensor:
    rank = len(dims)
    new = {dim % rank: position for position, dim in enumerate(dims)}
    return Tensor(x.array, tuple(new[dim] for dim in x.order))


def _transpose(x: Tensor, first: int, second: int) -> Tensor:
    dims = list(range(len(x.order)))
    dims[first], dims[second] = dims[second], dims[first]
    return _permute(x, dims)


def _unsqueeze(x: Tensor, dim: int) -> Tensor:
    dim %= len(x.order) + 1
    # First in memory, wherever it is in the graph: the order of the others stays.
    return Tensor(x.array[None], (dim, *(other + (other >= dim) for other in x.order)))


def _squeeze(x: Tensor, dims: Sequence[int] | int | None = None) -> Tensor:
    rank, shape = len(x.order), x.shape
    dims = range(rank) if dims is None else (dims,) if isinstance(dims, int) else dims
    gone = {dim % rank for dim in dims if shape[dim] == 1}
    return Tensor(x.array.squeeze(x.axes(sorted(gone))), without(x.order, gone))


def _expand(x: Tensor, sizes: Sequence[int], implicit: bool = False) -> Tensor:
    missing = len(sizes) - len(x.order)
    for _ in range(missing):
        x = _unsqueeze(x, 0)
    shape = [old if new == -1 else new for old, new in zip(x.shape, sizes, strict=True)]
    return Tensor(jnp.broadcast_to(x.array, [shape[dim] for dim in x.order]), x.order)


def _repeat(x: Tensor, counts: Sequence[int]) -> Tensor:
    return tensor(jnp.tile(x.plain, counts))


def _bounds(size: int, start: int | None, end: int | None) -> tuple[int, int]:
    """Return start and end of a slice in [0, size]; PyTorch has a huge number for the end."""
    start, end, _ = slice(start, end).indices(size)
    return start, max(start, end)


def _slice(x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Tensor:
    axis = x.axis(dim)
    start, end = _bounds(x.array.shape[axis], start, end)
    return Tensor(x.array[(slice(None),) * axis + (slice(start, end, step),)], x.order)


def _slice_scatter(
    x: Tensor, new: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    axis = x.axis(dim)
    start, end = _bounds(x.array.shape[axis], start, end)
    where = (slice(None),) * axis + (slice(start, end, step),)
    return Tensor(jnp.asarray(x.array).at[where].set(new.arranged(x.order)), x.order)


def _select(x: Tensor, dim: int, index: int) -> Tensor:
    axis = x.axis(dim)
    dim %= len(x.order)
    return Tensor(x.array[(slice(None),) * axis + (index,)], without(x.order, {dim}))


def _select_scatter(x: Tensor, new: Tensor, dim: int, index: int) -> Tensor:
    axis = x.axis(dim)
    order = without(x.order, {dim % len(x.order)})
    return Tensor(jnp.asarray(x.array).at[(slice(None),) * axis + (index,)].set(new.arranged(order)), x.order)


def _split(x: Tensor, sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    ends = np.cumsum(sizes).tolist()
    return tuple(_slice(x, dim, end - size, end) for size, end in zip(sizes, ends, strict=True))


def _split_equally(x: Tensor, size: int, dim: int = 0) -> tuple[Tensor, ...]:
    total = x.shape[dim]
    return _split(x, [min(size, total - start) for start in range(0, total, size)], dim)


def _unbind(x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    return tuple(_select(x, dim, index) for index in range(x.shape[dim]))


def _concatenate(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    order = max(tensors, key=lambda x: x.array.size).order
    axis = order.index(dim % len(order))
    return Tensor(jnp.concatenate([x.arranged(order) for x in tensors], axis), order)


def _stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    return _concatenate([_unsqueeze(x, dim) for x in tensors], dim)


def _flip(x: Tensor, dims: Sequence[int]) -> Tensor:
    return Tensor(jnp.flip(x.array, x.axes(dims)), x.order)


def _roll(x: Tensor, shifts: Sequence[int], dims: Sequence[int] = ()) -> Tensor:
    if not dims:
        return tensor(jnp.roll(x.plain, shifts[0]))
    return Tensor(jnp.roll(x.array, tuple(shifts), x.axes(dims)), x.order)


def _pad(x: Tensor, sides: Sequence[int], value: float = 0) -> Tensor:
    """Pad; the first pair of `sides` is that of the last axis, and negative ones crop."""
    widths = [(0, 0, 0)] * len(x.order)
    for pair in range(len(sides) // 2):
        widths[x.axis(-1 - pair)] = (sides[2 * pair], sides[2 * pair + 1], 0)
    return Tensor(lax.pad(x.array, np.asarray(value, x.array.dtype), widths), x.order)


def _index(x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    where = tuple(slice(None) if index is None else index.plain for index in indices)
    array = x.plain
    # Weights stay NumPy's where the positions are known.
    known = all(isinstance(each, (slice, np.ndarray)) for each in where)
    return tensor((array if known else jnp.asarray(array))[where])


def _index_put(x: Tensor, indices: Sequence[Tensor | None], new: Tensor, accumulate: bool = False) -> Tensor:
    where = tuple(slice(None) if index is None else index.plain for index in indices)
    at = jnp.asarray(x.plain).at[where]
    return tensor(at.add(new.plain) if accumulate else at.set(new.plain))


def _index_select(x: Tensor, dim: int, index: Tensor) -> Tensor:
    return Tensor(jnp.take(x.array, index.plain, x.axis(dim)), x.order)


def _embedding(weight: Tensor, index: Tensor, *unused: Any) -> Tensor:
    return _index(weight, [index])


def _copy(x: Tensor, new: Tensor, *unused: Any) -> Tensor:
    return _expand(Tensor(new.array.astype(x.array.dtype), new.order), x.shape)


def _full(sizes: Sequence[int], value: float, dtype: Any = None, **unused: Any) -> Tensor:
    return tensor(jnp.full(tuple(sizes), value, dtype))


def _full_like(x: Tensor, value: float, dtype: Any = None, **unused: Any) -> Tensor:
    return Tensor(jnp.full(x.array.shape, value, dtype or x.array.dtype), x.order)


def _arange(start: float, end: float, step: float = 1, dtype: Any = None, **unused: Any) -> Tensor:
    return tensor(np.arange(start, end, step).astype(dtype) if dtype else np.arange(start, end, step))


SHAPING: dict[str, Callable] = {
    "_unsafe_view": viewed,
    "arange.start_step": _arange,
    "cat": _concatenate,
    "constant_pad_nd": _pad,
    "copy": _copy,
    "embedding": _embedding,
    "expand": _expand,
    "flip": _flip,
    "full": _full,
    "full_like": _full_like,
    "getitem": lambda values, index: values[index],
    "index.Tensor": _index,
    "index_put": _index_put,
    "index_select": _index_select,
    "permute": _permute,
    "repeat": _repeat,
    "reshape": viewed,
    "roll": _roll,
    "scalar_tensor": lambda value, dtype=None, **unused: _full((), value, dtype),
    "select.int": _select,
    "select_scatter": _select_scatter,
    "slice.Tensor": _slice,
    "slice_scatter": _slice_scatter,
    "split.Tensor": _split_equally,
    "split_with_sizes": _split,
    "squeeze.dim": _squeeze,
    "squeeze.dims": _squeeze,
    "stack": _stack,
    "transpose.int": _transpose,
    "unbind.int": _unbind,
    "unsqueeze": _unsqueeze,
    "view": viewed,
}
"""By the names of PyTorch's operators."""
