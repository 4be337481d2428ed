"""Operations that join entries: products of matrices, sums and maxima, softmax, normalization, attention."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jifv._aten.tensor import Tensor, elementwise, reduced, tensor


def _product(x: Tensor, y: Tensor) -> Tensor:
    return tensor(jnp.matmul(x.plain, y.plain))


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    last = len(x.order) - 1
    # Features may be last here without the other axes being as in the graph.
    order = x.order if x.order[-1] == last else tuple(range(last + 1))
    array = x.arranged(order) @ weight.plain.T
    return Tensor(array if bias is None else array + bias.plain, order)


def _add_product(bias: Tensor, x: Tensor, y: Tensor, beta: float = 1, alpha: float = 1) -> Tensor:
    product = jnp.matmul(x.plain, y.plain)
    return tensor((product if alpha == 1 else alpha * product) + (bias.plain if beta == 1 else beta * bias.plain))


def _variance(x: Tensor, dims: Any = None, correction: float | None = None, keepdim: bool = False) -> Tensor:
    ddof = 1 if correction is None else int(correction)
    return reduced(partial(jnp.var, ddof=ddof), x, dims, keepdim)


def _variance_and_mean(
    x: Tensor, dims: Any = None, correction: float | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    return _variance(x, dims, correction, keepdim), reduced(jnp.mean, x, dims, keepdim)


def _reduction(function: Callable) -> Callable:
    def reduce(x: Tensor, dims: Sequence[int] | int | None = None, keepdim: bool = False, **unused: Any) -> Tensor:
        return reduced(function, x, dims, keepdim)

    return reduce


def _softmax(x: Tensor, dim: int, half_to_float: bool = False) -> Tensor:
    return Tensor(jax.nn.softmax(x.array, x.axis(dim)), x.order)


def _log_softmax(x: Tensor, dim: int, half_to_float: bool = False) -> Tensor:
    return Tensor(jax.nn.log_softmax(x.array, x.axis(dim)), x.order)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0,
    causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if enable_gqa:
        raise NotImplementedError("attention whose heads share keys is not known")
    q, k, v = query.plain, key.plain, value.plain
    logits = jnp.matmul(q * (q.shape[-1] ** -0.5 if scale is None else scale), k.swapaxes(-1, -2))
    if causal:
        logits = jnp.where(np.tri(*logits.shape[-2:], dtype=bool), logits, -jnp.inf)
    if mask is not None:
        allowed = mask.plain
        logits = jnp.where(allowed, logits, -jnp.inf) if allowed.dtype == bool else logits + allowed
    return tensor(jnp.matmul(jax.nn.softmax(logits, -1), v))


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    momentum: float,
    epsilon: float,
) -> tuple[Tensor, None, None]:
    # Weights are NumPy's: gain and offset are numbers before anything is compiled.
    gain = 1 / np.sqrt(variance.array + epsilon) if isinstance(variance.array, np.ndarray) else None
    gain = lax.rsqrt(variance.array + epsilon) if gain is None else gain
    gain = gain if weight is None else gain * weight.array
    offset = -mean.array * gain + (0 if bias is None else bias.array)
    gain, offset = (_over_channels(x, part) for part in (gain, offset))
    return Tensor(x.array * gain + offset, x.order), None, None


def _over_channels(x: Tensor, values: Any) -> Any:
    """Return one number for each channel in the shape that broadcasts with x."""
    shape = [1] * len(x.order)
    shape[x.axis(1)] = len(values)
    return values.astype(x.array.dtype).reshape(shape)


def _layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> tuple[Tensor, None, None]:
    out = _standardized(x, range(-len(shape), 0), epsilon)
    if weight is not None:
        out = elementwise(jnp.multiply, out, weight)
    return (out if bias is None else elementwise(jnp.add, out, bias)), None, None


def _group_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    batch: int,
    channels: int,
    positions: int,
    groups: int,
    epsilon: float,
) -> tuple[Tensor, None, None]:
    shape = x.shape
    split = tensor(x.plain.reshape(batch, groups, -1))
    out = tensor(_standardized(split, (2,), epsilon).plain.reshape(shape))
    for function, part in ((jnp.multiply, weight), (jnp.add, bias)):
        if part is not None:
            out = Tensor(function(out.array, _over_channels(out, part.array)), out.order)
    return out, None, None


def _standardized(x: Tensor, dims: Sequence[int], epsilon: float) -> Tensor:
    axes = x.axes(dims)
    centred = x.array - jnp.mean(x.array, axes, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axes, keepdims=True)
    return Tensor(centred * lax.rsqrt(variance + epsilon), x.order)


JOINING: dict[str, Callable] = {
    "_log_softmax": _log_softmax,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "_softmax": _softmax,
    "addmm": _add_product,
    "amax": _reduction(jnp.max),
    "amin": _reduction(jnp.min),
    "any": _reduction(jnp.any),
    "any.dim": _reduction(jnp.any),
    "bmm": _product,
    "linear": _linear,
    "matmul": _product,
    "mean": _reduction(jnp.mean),
    "mean.dim": _reduction(jnp.mean),
    "mm": _product,
    "native_group_norm": _group_norm,
    "native_layer_norm": _layer_norm,
    "scaled_dot_product_attention": _attention,
    "sum": _reduction(jnp.sum),
    "sum.dim_IntList": _reduction(jnp.sum),
    "var.correction": _variance,
    "var_mean.correction": _variance_and_mean,
}
"""By the names of PyTorch's operators."""
