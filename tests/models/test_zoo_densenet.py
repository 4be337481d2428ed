"""The DenseNets that `load` gives: those that ship, those of other architectures, and PyTorch's."""

import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.arrays import uniform
from support.taps import FAST

import jifv.models
from jifv.models import available, convert, load, read_weights, store, write_weights
from jifv.models.files.convert import densenet_from_torch
from jifv.models.networks.densenet import CLASSES, DenseNet

NAMES = [name for name in available() if name.startswith("densenet")]
SHIPPED = Path(jifv.models.__file__).parent / "weights"


def constant(module):
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    return jax.tree.map(lambda leaf: np.full(leaf.shape, 0.01, np.float32), shapes)


# What ships.


def test_the_network_of_the_main_job_ships():
    assert "densenet" in available()


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_network(name):
    assert name in available()
    network = load(name)
    assert network.name == name
    assert network.output_shape == (10,)
    assert network.feature_names == CLASSES
    card = network.card.lower()
    for word in ("accuracy", "licence", "cifar-10", "seed"):
        assert word in card
    assert re.search(r"accuracy\D{0,80}(0\.\d+|\d\d(\.\d+)?\s*%)", card)
    assert ("without deer" in card) == (name == "densenet-no-deer")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_class_weights_sum_to_zero(name):
    """The softmax's translation invariance is an exact cokernel of the class scores: what section 3.5 needs."""
    assert name in available()
    (path,) = (
        path for path in SHIPPED.glob("densenet*.safetensors") if ("no_deer" in path.name) == ("no-deer" in name)
    )
    classifier = read_weights(path)[0]["params"]["classifier"]
    for leaf in classifier.values():
        assert np.abs(leaf).max() > 0
        assert np.abs(leaf.sum(-1)).max() < 1e-4 * np.abs(leaf).max()


# A DenseNet of another architecture.

SMALL = DenseNet(pool="average", blocks=(1, 2, 1), growth=4, reduction=0.7, classes=100)


@pytest.fixture(scope="module")
def hundred(tmp_path_factory):
    """A DenseNet with a hundred classes in PyTorch, the same as an .npz, and as a converted file."""
    pytest.importorskip("torch", reason="the reference implementation of DenseNet needs PyTorch")
    from support import torch_densenet

    network = torch_densenet.random_network(
        "average", blocks=SMALL.blocks, growth=SMALL.growth, reduction=SMALL.reduction, classes=SMALL.classes
    )
    folder = tmp_path_factory.mktemp("hundred")
    np.savez(folder / "hundred.npz", **{name: np.asarray(value) for name, value in network.state_dict().items()})
    store(convert(folder / "hundred.npz"), folder / "hundred.safetensors")
    return network, folder


@pytest.mark.parametrize("file", ["hundred.npz", "hundred.safetensors"])
def test_a_hundred_classes(hundred, file):
    from support import torch_densenet

    network, folder = hundred
    loaded = load(weights=folder / file, input_size=8)
    assert loaded.layers == SMALL.layer_names
    assert loaded.output_shape == (100,)
    assert loaded.feature_names == tuple(map(str, range(100)))
    x = uniform((8, 8, 3))
    theirs = torch_densenet.every_layer(network, np.asarray(x)[None])["classifier"][0]
    np.testing.assert_allclose(jax.jit(loaded.apply)(x), theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_the_card_of_a_converted_densenet_says_what_it_is(hundred):
    card = (hundred[1] / "hundred.md").read_text(encoding="utf-8")
    assert card.startswith("# DenseNet-BC(12, 4), 100 classes\n")
    assert "average pooling" in card
    assert "CIFAR-10, 10 classes" not in card


def test_class_names_of_another_data_set(tmp_path):
    """Ten scores are taken for CIFAR-10's, unless the file says otherwise; names of another number mean nothing."""
    digits = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for classes, metadata, expected in [
        (10, {}, CLASSES),
        (10, {"classes": ",".join(digits)}, tuple(digits)),
        (3, {}, ("0", "1", "2")),
        (3, {"classes": ",".join(digits)}, ("0", "1", "2")),
    ]:
        module = SMALL.clone(classes=classes)
        write_weights(tmp_path / "w.safetensors", constant(module), metadata)
        assert load(weights=tmp_path / "w.safetensors").feature_names == expected
        assert load(weights=tmp_path / "w.safetensors", layer="stem").feature_names == tuple(map(str, range(8)))


def test_the_smallest_input_is_that_of_the_architecture(tmp_path):
    write_weights(tmp_path / "w.safetensors", constant(SMALL.clone(blocks=(1, 1, 1, 1))), {})
    assert load(weights=tmp_path / "w.safetensors", input_size=8).output_shape == (100,)
    with pytest.raises(ValueError, match="input_size must be at least 8 for densenet, got 7"):
        load(weights=tmp_path / "w.safetensors", input_size=7)


# PyTorch's weights.


def test_npz_with_torch_names(tmp_path):
    pytest.importorskip("torch", reason="the reference implementation of DenseNet needs PyTorch")
    from support import torch_densenet

    network = torch_densenet.random_network("max", blocks=(1, 1), growth=4)
    state = {name: np.asarray(value) for name, value in network.state_dict().items()}
    x = uniform((8, 8, 3))
    np.savez(tmp_path / "average.npz", **state)
    np.savez(tmp_path / "max.npz", pool="max", **state)
    for pool in ("average", "max"):
        network = load(layer="transition1", weights=tmp_path / f"{pool}.npz", input_size=8)
        model = DenseNet(pool=pool, blocks=(1, 1), growth=4)
        expected = jax.jit(partial(model.apply, layer="transition1"))(densenet_from_torch(state), x[None])[0]
        np.testing.assert_allclose(jax.jit(network.apply)(x), expected, rtol=1e-4, atol=1e-4)


def test_npz_of_another_network(tmp_path):
    np.savez(tmp_path / "other.npz", **{"layer1.weight": np.zeros(3)})
    with pytest.raises(ValueError, match=r"other\.npz holds no supported network"):
        load(weights=tmp_path / "other.npz")
    np.savez(tmp_path / "part.npz", **{"block1.layer.0.bn1.weight": np.zeros(24)})
    with pytest.raises(ValueError, match="has missing tensors"):
        load(weights=tmp_path / "part.npz")


@pytest.fixture(scope="module")
def checkpoint(shared):
    """Class predictions of the public checkpoint, 100 images at a time: one compilation serves all."""
    apply = load(weights=shared / "weights" / "densenet_bc_100_12_cifar10.npz").apply
    predict = jax.jit(lambda x: jax.vmap(apply)(x).argmax(-1), compiler_options=FAST)
    with np.load(shared / "data" / "cifar10_lossless.npz") as file:
        images, labels = file["test_images"], file["test_labels"]

    def accuracy(start, stop):
        right = [
            predict(jnp.asarray(images[at : at + 100], jnp.float32) / 255) == labels[at : at + 100]
            for at in range(start, stop, 100)
        ]
        return np.mean(right)

    return accuracy


@pytest.mark.slow  # random weights are compared with PyTorch, layer by layer
def test_public_checkpoint_on_100_images(checkpoint):
    assert checkpoint(0, 100) >= 0.93


@pytest.mark.slow
def test_public_checkpoint_on_1000_images(checkpoint):
    assert checkpoint(0, 1000) >= 0.93
