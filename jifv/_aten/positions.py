"""Which axis of a layer holds its features, and which tokens are positions of the image."""

from jifv._aten.graph import Graph, Node, references

_MOST_EXTRA = 16
"""Tokens that are no patches: of classes, of distillation, registers."""
_FIRST = ("convolution", "batch_norm", "group_norm", "pool2d", "upsample")
_LAST = ("linear", "layer_norm")


def feature_axis(graph: Graph, name: str) -> int:
    """Return the axis of features of a result with four axes: 1, or 3 where channels come last.

    Convolutions and pools have it second, products and normalizations of layers last. Other operations have it where
    what they are computed of has it.
    """
    nodes = {node.name: node for node in graph.nodes}
    seen: set[str] = set()

    def visit(name: str) -> int | None:
        """Return the axis, None if nothing tells."""
        node = nodes.get(name)
        if node is None or name in seen:
            return 1 if name == graph.input else None
        seen.add(name)
        if any(part in node.operation for part in _FIRST):
            return 1
        if any(part in node.operation for part in _LAST):
            return 3
        if node.operation in ("view", "_unsafe_view"):
            (before,) = references(node)
            shape = nodes[before].shape if before in nodes else None
            if shape and len(shape) == 3:  # tokens with their features, (1, t, n), or features with their positions
                return 3 if node.shape is not None and shape[-1] == node.shape[-1] else 1
        for before in references(node):
            if before not in nodes or nodes[before].shape is None or len(nodes[before].shape or ()) == 4:
                axis = visit(before)
                if axis is not None:
                    return _moved(node, axis)
        return None

    axis = visit(name)
    return 1 if axis is None else axis


def _moved(node: Node, axis: int) -> int:
    """Return where an operation brings an axis."""
    if node.operation == "permute":
        dims = [dim % 4 for dim in node.arguments[1]]
        return dims.index(axis)
    if node.operation == "transpose.int":
        first, second = (dim % 4 for dim in node.arguments[1:3])
        return {first: second, second: first}.get(axis, axis)
    return axis


def patch_grid(graph: Graph, name: str, tokens: int) -> tuple[int, int] | None:
    """Return height and width of the grid that a layer's last tokens are, None if they are none.

    It is that of the last convolution before, halved as often as patches were merged. More tokens come before.
    """
    shapes = [node.shape or () for node in graph.needed(name) if node.operation == "convolution"]
    grids = [shape[2:] for shape in shapes if len(shape) == 4]
    if not grids:
        return None
    height, width = grids[-1]
    while height * width > tokens and (height, width) != (1, 1):
        height, width = -(-height // 2), -(-width // 2)
    return (height, width) if 0 <= tokens - height * width <= _MOST_EXTRA else None
