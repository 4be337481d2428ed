import re

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jifv.models.networks.densenet import from_torch

# Conversion from PyTorch, without PyTorch.


def torch_shapes():
    """Names and shapes of the public checkpoint, written down from its architecture."""

    def norm(name, channels):
        return {f"{name}.{leaf}": (channels,) for leaf in ("weight", "bias", "running_mean", "running_var")}

    shapes, channels = {"conv1.weight": (24, 3, 3, 3)}, 24
    for block in (1, 2, 3):
        for index in range(16):
            name = f"block{block}.layer.{index}"
            shapes |= norm(f"{name}.bn1", channels) | {f"{name}.conv1.weight": (48, channels, 1, 1)}
            shapes |= norm(f"{name}.bn2", 48) | {f"{name}.conv2.weight": (12, 48, 3, 3)}
            channels += 12
        if block < 3:
            shapes |= norm(f"trans{block}.bn1", channels)
            shapes |= {f"trans{block}.conv1.weight": (channels // 2, channels, 1, 1)}
            channels //= 2
    return shapes | norm("bn1", channels) | {"fc.weight": (10, channels), "fc.bias": (10,)}


@pytest.fixture(scope="module")
def state():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in torch_shapes().items()}


def test_the_public_checkpoint_has_these_names(shared):
    with np.load(shared / "weights" / "densenet_bc_100_12_cifar10.npz") as file:
        assert {name: file[name].shape for name in file.files} == torch_shapes()


def test_every_tensor_arrives_once(state):
    counters = {"bn1.num_batches_tracked": np.int64(7), "block1.layer.0.bn2.num_batches_tracked": np.int64(7)}
    arrays = flatten_dict(from_torch(state | counters), sep="/")
    assert len(arrays) == len(state)
    where = {
        "params/stem/kernel": state["conv1.weight"].transpose(2, 3, 1, 0),
        "params/dense2.7/conv2/kernel": state["block2.layer.7.conv2.weight"].transpose(2, 3, 1, 0),
        "params/dense3.15/norm2/scale": state["block3.layer.15.bn2.weight"],
        "params/transition1.conv/kernel": state["trans1.conv1.weight"].transpose(2, 3, 1, 0),
        "params/transition2.norm/bias": state["trans2.bn1.bias"],
        "batch_stats/transition2.norm/var": state["trans2.bn1.running_var"],
        "batch_stats/dense1.0/norm1/mean": state["block1.layer.0.bn1.running_mean"],
        "batch_stats/norm/mean": state["bn1.running_mean"],
        "params/classifier/kernel": state["fc.weight"].T,
        "params/classifier/bias": state["fc.bias"],
    }
    for name, expected in where.items():
        np.testing.assert_array_equal(arrays[name], expected, err_msg=name)
    total = sum(np.sum(value, dtype=np.float64) for value in state.values())
    assert sum(np.sum(value, dtype=np.float64) for value in arrays.values()) == pytest.approx(total, rel=1e-9)


def test_missing_tensors_are_named(state):
    lacking = {"conv1.weight", "block3.layer.15.bn1.running_var", "trans2.conv1.weight", "fc.bias"}
    names = ["batch_stats/dense3.15/norm1/var", "params/classifier/bias", "params/stem/kernel"]
    names = re.escape(", ".join([*names, "params/transition2.conv/kernel"]))
    with pytest.raises(ValueError, match=f"missing tensors: {names}$"):
        from_torch({name: value for name, value in state.items() if name not in lacking})


def test_unknown_tensors_are_named(state):
    """Whether the name means nothing, almost something, or a part that this depth does not have."""
    more = ["block4.layer.0.conv1.weight", "conv1.bias", "head.weight", "module.conv2.weight", "trans3.bn1.weight"]
    with pytest.raises(ValueError, match=f"unknown tensors: {re.escape(', '.join(more))}$"):
        from_torch({**state, **{name: np.zeros(3, np.float32) for name in reversed(more)}})


@pytest.mark.parametrize(
    ("name", "shape"),
    [("block2.layer.3.conv2.weight", (12, 47, 3, 3)), ("fc.weight", (100, 342)), ("conv1.weight", (24, 3))],
)
def test_a_tensor_of_the_wrong_shape_is_named(state, name, shape):
    message = f"state has {name} of shape {shape}; expected ("
    with pytest.raises(ValueError, match=re.escape(message)):
        from_torch({**state, name: np.zeros(shape, np.float32)})
