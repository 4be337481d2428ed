"""A network as data: its operations in order, and which results are the outputs of which module."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple


class Ref(NamedTuple):
    """An earlier result, the image or a weight, as an argument."""

    name: str


class Dtype(NamedTuple):
    """A type of entries as an argument, such as `"float32"`; any of floats stands for that of the image."""

    name: str


class Node(NamedTuple):
    """An operation and its arguments.

    Attributes:
        name: Of the result, unique.
        operation: PyTorch's name of it, such as `"add.Tensor"`.
        arguments: By position: numbers, truth values, texts, None, `Ref`, `Dtype`, and tuples of these.
        options: By name.
        shape: Of the result; None for several results.
        module: Path of the module that it is in.
    """

    name: str
    operation: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    shape: tuple[int, ...] | None
    module: str


class Graph(NamedTuple):
    """A network of one image, in PyTorch's layout (1, C, H, W).

    Attributes:
        nodes: The operations, each after those whose results it takes.
        layers: Name of the node that each layer's output is, in the order of computation.
        input: Name of the image.
        input_shape: (1, C, H, W).
    """

    nodes: tuple[Node, ...]
    layers: dict[str, str]
    input: str
    input_shape: tuple[int, int, int, int]

    def needed(self, target: str) -> tuple[Node, ...]:
        """Return the operations that a result takes, in order, its own the last one."""
        wanted, found = {target}, []
        for node in reversed(self.nodes):
            if node.name in wanted:
                wanted.update(references(node))
                found.append(node)
        return tuple(reversed(found))


def references(node: Node) -> Iterator[str]:
    """Yield the names of all results, weights and images that a node takes."""

    def visit(argument: Any) -> Iterator[str]:
        if isinstance(argument, Ref):
            yield argument.name
        elif isinstance(argument, tuple) and not isinstance(argument, Dtype):
            for entry in argument:
                yield from visit(entry)

    yield from visit((*node.arguments, *node.options.values()))


def dumps(graph: Graph) -> str:
    """Write a graph as JSON."""
    nodes = [[*node[:2], _plain(node.arguments), _plain(node.options), *node[4:]] for node in graph.nodes]
    return json.dumps({**graph._asdict(), "nodes": nodes}, separators=(",", ":"))


def loads(text: str) -> Graph:
    """Read what `dumps` has written.

    Raises:
        ValueError: It is something else.
    """
    try:
        fields = json.loads(text)
        nodes = []
        for name, operation, arguments, options, shape, module in fields.pop("nodes"):
            arguments = tuple(map(_read, arguments))
            options = {key: _read(value) for key, value in options.items()}
            nodes.append(Node(name, operation, arguments, options, None if shape is None else tuple(shape), module))
        fields["input_shape"] = tuple(fields["input_shape"])
        return Graph(tuple(nodes), **fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"text must be a graph that was written by jifv, got {text[:40]!r}: {error}") from error


def _plain(argument: Any) -> Any:
    if isinstance(argument, (Ref, Dtype)):
        return {type(argument).__name__: argument.name}
    if isinstance(argument, dict):
        return {key: _plain(value) for key, value in argument.items()}
    return [_plain(entry) for entry in argument] if isinstance(argument, tuple) else argument


def _read(argument: Any) -> Any:
    if isinstance(argument, dict):
        ((kind, name),) = argument.items()
        return {"Ref": Ref, "Dtype": Dtype}[kind](name)
    return tuple(map(_read, argument)) if isinstance(argument, list) else argument
