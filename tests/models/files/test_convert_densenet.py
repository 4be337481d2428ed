import re

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from jifv.models.files.convert import densenet_from_torch
from jifv.models.networks.densenet import DenseNet, from_shapes, variable_shapes

# Names and shapes, without PyTorch.


def torch_shapes(blocks=(16, 16, 16), growth=12, reduction=0.5, classes=10):
    """Names and shapes of a public checkpoint, written down from its architecture."""

    def norm(name, channels):
        return {f"{name}.{leaf}": (channels,) for leaf in ("weight", "bias", "running_mean", "running_var")}

    shapes, channels = {"conv1.weight": (2 * growth, 3, 3, 3)}, 2 * growth
    for block, depth in enumerate(blocks, 1):
        for index in range(depth):
            name = f"block{block}.layer.{index}"
            shapes |= norm(f"{name}.bn1", channels) | {f"{name}.conv1.weight": (4 * growth, channels, 1, 1)}
            shapes |= norm(f"{name}.bn2", 4 * growth) | {f"{name}.conv2.weight": (growth, 4 * growth, 3, 3)}
            channels += growth
        if block < len(blocks):
            kept = int(channels * reduction)
            shapes |= norm(f"trans{block}.bn1", channels)
            shapes |= {f"trans{block}.conv1.weight": (kept, channels, 1, 1)}
            channels = kept
    return shapes | norm("bn1", channels) | {"fc.weight": (classes, channels), "fc.bias": (classes,)}


def zeros(shapes):
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def state():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in torch_shapes().items()}


def test_the_public_checkpoint_has_these_names(shared):
    with np.load(shared / "weights" / "densenet_bc_100_12_cifar10.npz") as file:
        assert {name: file[name].shape for name in file.files} == torch_shapes()


def test_every_tensor_arrives_once(state):
    counters = {"bn1.num_batches_tracked": np.int64(7), "block1.layer.0.bn2.num_batches_tracked": np.int64(7)}
    arrays = flatten_dict(densenet_from_torch(state | counters), sep="/")
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
    lacking = ["block3.layer.15.bn1.running_var", "conv1.weight", "fc.bias", "trans2.conv1.weight"]
    with pytest.raises(ValueError, match=f"missing tensors: {re.escape(', '.join(lacking))}$"):
        densenet_from_torch({name: value for name, value in state.items() if name not in lacking})


def test_unknown_tensors_are_named(state):
    """Whether the name means nothing, almost something, or a part that this depth does not have."""
    more = ["block9999.layer.0.conv1.weight", "conv1.bias", "head.weight", "module.conv2.weight", "trans3.bn1.weight"]
    with pytest.raises(ValueError, match=f"unknown tensors: {re.escape(', '.join(more))}$"):
        densenet_from_torch({**state, **{name: np.zeros(3, np.float32) for name in reversed(more)}})


@pytest.mark.parametrize(
    ("name", "shape"),
    [("block2.layer.3.conv2.weight", (12, 47, 3, 3)), ("fc.weight", (100, 342)), ("conv1.weight", (24, 3))],
)
def test_a_tensor_of_the_wrong_shape_is_named(state, name, shape):
    message = f"{name} must have shape {torch_shapes()[name]} in DenseNet-BC(100, 12), got {shape}"
    with pytest.raises(ValueError, match=re.escape(message)):
        densenet_from_torch({**state, name: np.zeros(shape, np.float32)})


# Any architecture.

ARCHITECTURES = st.fixed_dictionaries(
    {
        "blocks": st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple),
        "growth": st.integers(1, 48),
        "reduction": st.sampled_from([0.5, 1.0, 0.25, 1 / 3, 2 / 3, 0.1]) | st.floats(0.2, 1),
        "classes": st.integers(2, 1000),
    }
).filter(lambda architecture: all(all(shape) for shape in torch_shapes(**architecture).values()))


@settings(max_examples=60)
@given(architecture=ARCHITECTURES)
def test_shapes_tell_the_architecture(architecture):
    """All but the reduction itself: what a transition keeps is rounded down, and several reductions keep the same."""
    model = DenseNet(**architecture)
    shapes = variable_shapes(model)
    found = from_shapes(shapes, pool="average")
    assert variable_shapes(found) == shapes
    assert (found.blocks, found.growth, found.classes) == (model.blocks, model.growth, model.classes)
    assert found.pool == "average"


def test_the_default_is_found_as_it_is():
    assert from_shapes(variable_shapes()) == DenseNet()
    assert from_shapes({}) == DenseNet()


@settings(max_examples=20)
@given(architecture=ARCHITECTURES)
def test_any_architecture_is_converted(architecture):
    """The tensors arrive under the names and shapes of the module, which `variable_shapes` knows without tracing it."""
    arrays = flatten_dict(densenet_from_torch(zeros(torch_shapes(**architecture))), sep="/")
    assert {name: array.shape for name, array in arrays.items()} == variable_shapes(DenseNet(**architecture))


LONG = {"blocks": (3, 4, 3), "growth": 5, "reduction": 0.7, "classes": 100}


@settings(max_examples=40)
@given(data=st.data())
def test_one_wrong_tensor_is_named_in_any_architecture(data):
    shapes = torch_shapes(**LONG)
    # A bias is as good a witness as the class weights: there, the other one may be named.
    name = data.draw(st.sampled_from(sorted(shapes.keys() - {"fc.bias"})))
    axis = data.draw(st.integers(0, len(shapes[name]) - 1))
    wrong = list(shapes[name])
    wrong[axis] += data.draw(st.sampled_from([-1, 1]))
    with pytest.raises(ValueError, match=re.escape(f"{name} must have shape {shapes[name]} in DenseNet-BC(24, 5), g")):
        densenet_from_torch(zeros({**shapes, name: tuple(wrong)}))
    with pytest.raises(ValueError, match=f"missing tensors: {re.escape(name)}$"):
        densenet_from_torch(zeros({other: shape for other, shape in shapes.items() if other != name}))


@pytest.mark.parametrize(
    "architecture",
    [
        {"blocks": (1, 2, 1), "growth": 4, "reduction": 0.5, "classes": 100},
        {"blocks": (2, 1), "growth": 3, "reduction": 0.7, "classes": 10},
        {"blocks": (1, 1, 1, 1), "growth": 2, "reduction": 1.0, "classes": 3},
    ],
)
def test_scores_of_other_architectures_agree_with_torch(architecture):
    pytest.importorskip("torch", reason="the reference implementation of DenseNet needs PyTorch")
    from support import torch_densenet

    network = torch_densenet.random_network("average", **architecture)
    images = np.random.default_rng(0).uniform(size=(2, 16, 8, 3)).astype(np.float32)
    variables = densenet_from_torch(network.state_dict())
    model = from_shapes({name: leaf.shape for name, leaf in flatten_dict(variables, sep="/").items()}, pool="average")
    ours = jax.jit(model.apply)(variables, images)
    theirs = torch_densenet.every_layer(network, images)["classifier"]
    assert theirs.shape == (2, architecture["classes"])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
