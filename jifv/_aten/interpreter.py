"""Evaluating a graph up to one of its results, as a function that JAX can trace."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import Array

from jifv._aten.graph import Dtype, Graph, Node, Ref
from jifv._aten.table import TABLE
from jifv._aten.tensor import CHANNELS_LAST, Tensor, tensor


def check_known(nodes: tuple[Node, ...]) -> None:
    """Raise unless every operation is in the table.

    Raises:
        NotImplementedError: One is not. The message names all of them, with a module that each is in.
    """
    unknown: dict[str, str] = {}
    for node in nodes:
        if node.operation not in TABLE:
            unknown.setdefault(node.operation, node.module)
    if unknown:
        said = ", ".join(f"{name} in {_place(module)}" for name, module in unknown.items())
        raise NotImplementedError(f"operations that jifv does not know: {said}")


def evaluate(graph: Graph, nodes: tuple[Node, ...], weights: Mapping[str, np.ndarray], x: Array) -> Tensor:
    """Return the result of the last of some nodes.

    Args:
        graph: The network.
        nodes: What `Graph.needed` returns for that result.
        weights: By name; those of floats are cast to the type of `x`.
        x: Images (1, H, W, C).

    Raises:
        NotImplementedError: An operation is not known in this form; the message names the module that it is in.
    """
    values: dict[str, Any] = {graph.input: Tensor(x, CHANNELS_LAST)}

    def read(argument: Any) -> Any:
        if isinstance(argument, Ref):
            if argument.name not in values:
                values[argument.name] = tensor(_cast(weights[argument.name], x.dtype))
            return values[argument.name]
        if isinstance(argument, Dtype):
            return x.dtype if "float" in argument.name else jax.dtypes.canonicalize_dtype(argument.name)
        return tuple(map(read, argument)) if isinstance(argument, tuple) else argument

    result = values[graph.input]
    for node in nodes:
        options = {name: read(option) for name, option in node.options.items()}
        try:
            result = TABLE[node.operation](*map(read, node.arguments), **options)
        except NotImplementedError as error:
            raise NotImplementedError(f"{error} ({node.operation} in {_place(node.module)})") from None
        values[node.name] = result
    return result


def _cast(weight: np.ndarray, dtype: Any) -> np.ndarray:
    floats = np.issubdtype(weight.dtype, np.floating)
    return weight.astype(dtype if floats else jax.dtypes.canonicalize_dtype(weight.dtype), copy=False)


def _place(module: str) -> str:
    return f"module {module!r}" if module else "the module itself"
