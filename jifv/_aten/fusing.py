"""Recognizing what PyTorch writes with many operations and we have a fast function for."""

from collections.abc import Mapping

from jifv._aten.graph import Node, Ref

_RESPONSE_NORM = ("pow.Tensor_Scalar", "add.Tensor", "mul.Tensor", "avg_pool3d", "constant_pad_nd", "mul.Tensor")
_SHAPING = ("view", "squeeze.dim", "squeeze.dims", "unsqueeze")


def fused(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Put one operation in the place of a local response normalization; what it was made of stays, for its taps."""
    known = {node.name: node for node in nodes}
    return tuple(_response_norm(node, known) or node for node in nodes)


def _response_norm(node: Node, known: Mapping[str, Node]) -> Node | None:
    """Return x / (offset + alpha · mean x²)^¾ over a window of channels as one operation, None for anything else."""
    if node.operation != "div.Tensor" or not all(isinstance(each, Ref) for each in node.arguments):
        return None
    x, divisor = node.arguments
    chain = []
    while divisor.name in known and len(chain) < len(_RESPONSE_NORM):
        before = known[divisor.name]
        if before.operation not in _SHAPING:
            chain.append(before)
        if not before.arguments or not isinstance(before.arguments[0], Ref):
            break
        divisor = before.arguments[0]
    if tuple(each.operation for each in chain) != _RESPONSE_NORM:
        return None
    power, added, scaled, pooled, padded, squared = chain
    window = pooled.arguments[1][0]
    half = window // 2
    fits = (
        node.shape is not None
        and len(node.shape) == 4
        and squared.arguments == (x, x)
        and window % 2 == 1
        and pooled.arguments[1:] in (((window, 1, 1), 1), ((window, 1, 1), (1, 1, 1)), ((window, 1, 1), (1,)))
        and padded.arguments[1] == (0, 0, 0, 0, half, half)
        and padded.arguments[2:] in ((), (0,))
        and power.arguments[1] == 0.75
        and not added.options
        and all(isinstance(each.arguments[1], (int, float)) for each in (added, scaled))
    )
    if not fits:
        return None
    arguments = (x, window, scaled.arguments[1], added.arguments[1])
    return node._replace(operation="local_response_norm", arguments=arguments, options={})
