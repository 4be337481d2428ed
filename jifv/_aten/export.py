"""From a module of PyTorch to a graph. The only module here that needs PyTorch."""

import operator
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from jifv._aten.fusing import fused
from jifv._aten.graph import Dtype, Graph, Node, Ref

OUTPUT = "output"
"""Layer that is the result of the whole network."""
_KEPT = ("adaptive_avg_pool1d", "hardswish", "linear", "roll", "scaled_dot_product_attention", "silu")
"""Operations that would be decomposed into more or slower ones."""


def export(module: Any, shape: tuple[int, int, int, int]) -> tuple[Graph, dict[str, np.ndarray]]:
    """Trace a module with an image of a shape (1, C, H, W).

    Returns:
        The graph of all that is computed, with the output of every module, and the weights by their names in PyTorch.

    Raises:
        ImportError: PyTorch is not installed.
        TypeError: `module` is not a `torch.nn.Module`.
        ValueError: `module` is not in inference mode.
    """
    import torch  # pyright: ignore[reportMissingImports]

    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    if training := [name for name, part in module.named_modules() if part.training]:
        raise ValueError(f"module must be in inference mode, got {training[0] or 'all of it'} in training: call eval()")
    tensor = next((each for each in module.parameters() if each.is_floating_point()), torch.zeros(()))
    example = torch.zeros(shape, dtype=tensor.dtype, device=tensor.device)
    with warnings.catch_warnings(), torch.no_grad(), _tapped(torch, module) as (tapped, names):
        # PyTorch warns of itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.export.export(tapped, (example,), strict=False)
        layers = list(names)
        program = program.run_decompositions(_decompositions(torch))
    return _graph(torch, program, layers, shape), _weights(torch, program)


@contextmanager
def _tapped(torch: Any, module: Any) -> Iterator[tuple[Any, list[str]]]:
    """Return a module that returns the outputs of all modules in it, and the names of these once it was called."""
    # Not attributes of the module: the exporter puts those back.
    names: list[str] = []
    calls: list[tuple[str, list[Any]]] = []

    class Tapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, x: Any) -> Any:
            calls.clear()
            result = _tensors(torch, self.network(x))
            taps = _named([*calls, (OUTPUT, result)])
            names[:] = [name for name, _ in taps]
            return tuple(tensor.clone() for _, tensor in taps)

    def watch(name: str) -> Any:
        def hook(part: Any, arguments: Any, result: Any) -> None:
            # A copy, as the next operation may work in place.
            calls.append((name, [each.clone() for each in _tensors(torch, result)]))

        return hook

    hooks = [part.register_forward_hook(watch(name)) for name, part in module.named_modules() if name]
    try:
        yield Tapped().eval(), names
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(torch: Any, result: Any) -> list[Any]:
    leaves = torch.utils._pytree.tree_leaves(result)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]


def _named(calls: list[tuple[str, list[Any]]]) -> list[tuple[str, Any]]:
    """Name outputs by their modules, with numbers where there are several.

    `relu#2` is the output of a module's second call, `block[1]` its second result.
    """
    counts = defaultdict(int)
    for name, _ in calls:
        counts[name] += 1
    turns, taps = defaultdict(int), []
    for name, tensors in calls:
        turns[name] += 1
        label = f"{name}#{turns[name]}" if counts[name] > 1 else name
        several = len(tensors) > 1
        taps += [(f"{label}[{index}]" if several else label, each) for index, each in enumerate(tensors)]
    return taps


def _decompositions(torch: Any) -> Any:
    table = torch.export.default_decompositions()
    for name in _KEPT:
        table.pop(getattr(torch.ops.aten, name).default, None)
    return table


def _graph(torch: Any, program: Any, names: list[str], shape: tuple[int, int, int, int]) -> Graph:
    weights = _placeholders(program)
    nodes, image = [], ""
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name not in weights:
            image = node.name
        elif node.op == "call_function":
            nodes.append(_node(torch, node, weights))
    (output,) = [node for node in program.graph.nodes if node.op == "output"]
    # Results may follow others that were written to.
    results = [spec.arg.name for spec in program.graph_signature.output_specs if spec.kind.name == "USER_OUTPUT"]
    known = {node.name for node in output.args[0] if hasattr(node, "name")}
    layers = {name: result for name, result in zip(names, results, strict=True) if result in known}
    return Graph(fused(tuple(nodes)), layers, image, shape)


def _placeholders(program: Any) -> dict[str, str]:
    """Return the name of the weight that each placeholder is."""
    signature = program.graph_signature
    return {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }


def _node(torch: Any, node: Any, weights: dict[str, str]) -> Node:
    target = node.target
    if target is operator.getitem:
        operation = "getitem"
    elif isinstance(target, torch._ops.OpOverload):
        operation = str(target).removeprefix("aten.").removesuffix(".default")
    else:
        operation = str(target)
    value = node.meta.get("val")
    return Node(
        node.name,
        operation,
        tuple(_argument(torch, each, weights) for each in node.args),
        {key: _argument(torch, each, weights) for key, each in node.kwargs.items()},
        tuple(value.shape) if isinstance(value, torch.Tensor) else None,
        _module(node),
    )


def _argument(torch: Any, argument: Any, weights: dict[str, str]) -> Any:
    if isinstance(argument, torch.fx.Node):
        return Ref(_weight_name(weights[argument.name]) if argument.name in weights else argument.name)
    if isinstance(argument, (list, tuple)):
        return tuple(_argument(torch, each, weights) for each in argument)
    if isinstance(argument, torch.dtype):
        return Dtype(str(argument).removeprefix("torch."))
    if isinstance(argument, (torch.device, torch.layout, torch.memory_format)):
        return None
    if argument is None or isinstance(argument, (bool, int, float, str)):
        return argument
    return str(argument)


def _module(node: Any) -> str:
    """Return the path of the innermost module that a node comes from."""
    stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    path = stack[-1] if stack else ""
    return path.removeprefix("L['self'].").removeprefix("network").removeprefix(".")


def _weights(torch: Any, program: Any) -> dict[str, np.ndarray]:
    arrays = {}
    for name in _placeholders(program).values():
        found = program.state_dict[name] if name in program.state_dict else program.constants[name]
        found = found.detach().cpu()
        if found.is_floating_point() and found.dtype not in (torch.float32, torch.float64):
            found = found.float()  # NumPy has no bfloat16
        # A copy: PyTorch may go on training.
        arrays[_weight_name(name)] = np.array(found.numpy())
    return arrays


def _weight_name(name: str) -> str:
    return "weights." + name.removeprefix("network.")
