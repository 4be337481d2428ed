import hashlib
import os
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from support import caffe_writer, googlenet_tensors
from support.full_disk import full_disk

from jifv.models import convert, load, read_weights, store
from jifv.models.files import cache
from jifv.models.files.convert import Converted, googlenet_from_caffe, googlenet_from_npz, googlenet_from_torchvision

TORCHVISION = googlenet_tensors.torchvision()
LAYERS, BVLC = googlenet_tensors.caffe()
CAFFE = googlenet_tensors.caffe2_names(LAYERS)
NPZ = googlenet_tensors.npz_names(LAYERS)
NAMINGS = {
    "torchvision": (googlenet_from_torchvision, *TORCHVISION),
    "caffe": (googlenet_from_caffe, CAFFE, BVLC),
    "npz": (googlenet_from_npz, NPZ, BVLC),
}


def assert_equal(variables, expected):
    found = flatten_dict(variables)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array, err_msg=str(name))


# Tensors.


@pytest.mark.parametrize("naming", NAMINGS)
def test_every_tensor_finds_its_place(naming):
    build, tensors, expected = NAMINGS[naming]
    assert_equal(build(tensors), expected)


WRONG = [
    ("torchvision", "inception4c.branch2.1.bn.running_var", None, "has missing tensors: inception4c.branch2.1.bn.runn"),
    (
        "torchvision",
        "fc.weight",
        np.zeros((1024, 1000)),
        "fc.weight must have shape (1000, 1024) in GoogLeNet (torchvision), got (1024, 1000)",
    ),
    ("torchvision", "inception6a.branch1.conv.weight", np.zeros(1), "has unknown tensors: inception6a.branch1.conv.w"),
    ("caffe", "inception_4c/3x3_reduce_b_0", None, "has missing tensors: inception_4c/3x3_reduce_b_0"),
    (
        "caffe",
        "conv1/7x7_s2_w_0",
        np.zeros((7, 7, 3, 64)),
        "must have shape (64, 3, 7, 7) in GoogLeNet (bvlc), got (7, 7, 3, 64)",
    ),
    ("caffe", "inception_4c/3x3_reduce_w_1", np.zeros(1), "has unknown tensors: inception_4c/3x3_reduce_w_1"),
    ("npz", "loss3.classifier.kernel", None, "has missing tensors: loss3.classifier.kernel"),
    (
        "npz",
        "inception_5b.5x5.bias",
        np.zeros((1, 128)),
        "inception_5b.5x5.bias must have shape (128,) in GoogLeNet (bvlc), got (1, 128)",
    ),
    ("npz", "conv3.kernel", np.zeros(1), "has unknown tensors: conv3.kernel"),
]


@pytest.mark.parametrize(("naming", "name", "value", "message"), WRONG)
def test_missing_left_over_and_misshapen_tensors_are_named(naming, name, value, message):
    build, tensors, _ = NAMINGS[naming]
    others = {other: tensor for other, tensor in tensors.items() if other != name}
    with pytest.raises(ValueError, match=re.escape(message)):
        build(others if value is None else {**others, name: value})


def test_many_missing_tensors_are_counted():
    few = {name: tensor for name, tensor in CAFFE.items() if name.startswith("conv")}
    with pytest.raises(
        ValueError, match=r"GoogLeNet \(bvlc\) has missing tensors: inception_3a/1x1_b_0, .* and 105 more"
    ):
        googlenet_from_caffe(few)


# Files.


def write_npz(path):
    np.savez(path, **NPZ)


def write_onnx(path, scope=""):
    onnx = pytest.importorskip("onnx", reason="writes the file that is read here")
    tensors = [onnx.numpy_helper.from_array(array, scope + name) for name, array in CAFFE.items()]
    tensors.append(onnx.numpy_helper.from_array(np.array([0, -1]), "OC2_DUMMY_0"))
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "net", [], [], initializer=tensors)), path)


def write_caffe(path):
    pytest.importorskip("google.protobuf", reason="reads .caffemodel")
    layers = [caffe_writer.layer(name, map(caffe_writer.blob, blobs)) for name, blobs in LAYERS.items()]
    path.write_bytes(b"".join(layers))


def write_torch(path, state=TORCHVISION[0], zipped=False):
    torch = pytest.importorskip("torch", reason="writes the file that is read here")
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in state.items()}
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)


@pytest.mark.parametrize(
    ("write", "file", "name", "version", "expected"),
    [
        (write_torch, "googlenet-1378be20.pth", "googlenet", "torchvision", TORCHVISION[1]),
        (write_onnx, "bvlcgooglenet-3.onnx", "googlenet-bvlc", "bvlc", BVLC),
        (write_caffe, "bvlc_googlenet.caffemodel", "googlenet-bvlc", "bvlc", BVLC),
        (write_npz, "bvlc_googlenet.npz", "googlenet-bvlc", "bvlc", BVLC),
    ],
)
def test_network_and_version_are_recognised(tmp_path, write, file, name, version, expected):
    write(tmp_path / file)
    converted = convert(tmp_path / file)
    assert converted.name == name
    assert_equal(converted.variables, expected)
    licence = converted.metadata.pop("licence")
    assert ("BSD-3-Clause" in licence) == (version == "torchvision")
    digest = hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()
    assert converted.metadata == {"version": version, "file": file, "sha256": digest}


def test_a_scope_in_front_of_all_names_is_dropped(tmp_path):
    write_onnx(tmp_path / "net.onnx", scope="googlenet/")
    assert_equal(convert(tmp_path / "net.onnx").variables, BVLC)


def densenet_state():
    pytest.importorskip("torch", reason="the reference implementation of DenseNet needs PyTorch")
    from support import torch_densenet

    return {name: np.asarray(value) for name, value in torch_densenet.random_network("max").state_dict().items()}


def test_a_densenet_is_recognised(tmp_path):
    state = densenet_state()
    write_torch(tmp_path / "model_best.pth.tar", {f"module.{name}": array for name, array in state.items()})
    np.savez(tmp_path / "max.npz", pool="max", **state)
    for file, pool in (("model_best.pth.tar", "average"), ("max.npz", "max")):
        converted = convert(tmp_path / file)
        assert (converted.name, converted.metadata["pool"]) == ("densenet", pool)
        kernel = converted.variables["params"]["dense1.0"]["conv2"]["kernel"]
        np.testing.assert_array_equal(kernel, np.einsum("oihw->hwio", state["block1.layer.0.conv2.weight"]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_named(tmp_path, value):
    bias = NPZ["inception_4c.3x3.bias"].copy()
    bias[3] = value
    np.savez(tmp_path / "bad.npz", **{**NPZ, "inception_4c.3x3.bias": bias})
    with pytest.raises(
        ValueError, match=r"bad\.npz must be finite, got NaN or infinity in params/inception4c/3x3/bias"
    ):
        convert(tmp_path / "bad.npz")


def test_an_unknown_network(tmp_path):
    np.savez(tmp_path / "other.npz", **{"layer1.weight": np.zeros(3), "fc": np.zeros(1)})
    with pytest.raises(ValueError, match=r"other\.npz holds no supported network .* 2 tensors .* fc, layer1\.weight"):
        convert(tmp_path / "other.npz")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights at .*none\.pth"):
        convert(tmp_path / "none.pth")


def test_reference_file(shared):
    """The layer-wise npz of BVLC's weights: as many numbers as GoogLeNet has, and each where it belongs."""
    path = shared / "weights" / "bvlc_googlenet.npz"
    converted = convert(path)
    assert converted.name == "googlenet-bvlc"
    assert sum(leaf.size for leaf in flatten_dict(converted.variables).values()) == 6_998_552
    with np.load(path) as file:
        kernel = file["inception_4c.3x3_reduce.kernel"]
    np.testing.assert_array_equal(converted.variables["params"]["inception4c"]["3x3_reduce"]["kernel"], kernel)


# Storing.


SMALL = Converted("googlenet", {"params": {"a": np.ones(2, np.float32)}}, {"file": "g.pth", "sha256": "12ab"})


def test_the_cache_is_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv("JIFV_CACHE", str(tmp_path / "mine"))
    assert cache.folder() == tmp_path / "mine"
    assert cache.cached("googlenet") == tmp_path / "mine" / "googlenet.safetensors"
    monkeypatch.setenv("JIFV_CACHE", "")
    assert cache.folder().name == "jifv"
    monkeypatch.setenv("JIFV_CACHE", "~/mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "mine"


def test_what_is_stored(tmp_path, monkeypatch):
    monkeypatch.setenv("JIFV_CACHE", str(tmp_path / "mine"))
    for path in (store(SMALL), store(SMALL, tmp_path / "other" / "g.safetensors")):
        variables, metadata = read_weights(path)
        np.testing.assert_array_equal(variables["params"]["a"], [1, 1])
        assert metadata == SMALL.metadata
        card = path.with_suffix(".md").read_text(encoding="utf-8")
        assert card.endswith("- Converted from g.pth, sha256 12ab.\n")
        for word in ("Accuracy", "Licence", "Source", "ImageNet"):
            assert word in card
        assert sorted(path.parent.iterdir()) == [path.with_suffix(".md"), path]
    assert path == tmp_path / "other" / "g.safetensors"


def test_a_url_is_in_the_card(tmp_path):
    path = store(SMALL._replace(metadata={**SMALL.metadata, "url": "https://a.b/g"}), tmp_path / "g.safetensors")
    assert "from g.pth, from https://a.b/g, sha256" in path.with_suffix(".md").read_text(encoding="utf-8")


def test_storing_that_fails_leaves_the_old_file(tmp_path):
    path = store(SMALL, tmp_path / "g.safetensors")
    before = path.read_bytes()
    with pytest.raises(Exception):  # noqa: B017, PT011
        store(SMALL._replace(metadata={"file": 3, "sha256": ""}), path)  # pyright: ignore[reportArgumentType]
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [path.with_suffix(".md"), path]


LARGE = SMALL._replace(variables={"params": {"a": np.zeros(10_000, np.float32)}})


@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_both_files_as_they_were(tmp_path, there):
    path = tmp_path / "g.safetensors"
    before = {}
    if there:
        store(SMALL, path)
        before = {file: file.read_bytes() for file in tmp_path.iterdir()}
        assert len(before) == 2
    with full_disk(2000), pytest.raises(OSError, match=r"File too large: '.*g\.safetensors'"):
        store(LARGE._replace(metadata={"file": "other.pth", "sha256": "34"}), path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    with full_disk(10), pytest.raises(OSError, match=r"File too large: '.*g\.md'"):
        store(SMALL, path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_folder_that_is_read_only_is_named(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir(mode=0o500)
    folder = tmp_path / "cache" if os.geteuid() else Path("/proc/jifv")  # the superuser may write anywhere but there
    monkeypatch.setenv("JIFV_CACHE", str(folder))
    with pytest.raises(OSError, match=re.escape(str(folder))):
        store(SMALL)
    assert not list((tmp_path / "cache").iterdir())


def test_only_safetensors_are_written(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in \.safetensors, got .*g\.npz"):
        store(SMALL, tmp_path / "g.npz")


def test_the_way_to_the_network(tmp_path, monkeypatch):
    """From somebody's file over the cache to activations, the same as from the file itself."""
    monkeypatch.setenv("JIFV_CACHE", str(tmp_path))
    write_npz(tmp_path / "file.npz")
    store(convert(tmp_path / "file.npz"))
    cached = load("googlenet-bvlc", layer="conv2", input_size=32)
    direct = load("googlenet-bvlc", layer="conv2", input_size=32, weights=tmp_path / "file.npz")
    x = jnp.asarray(np.random.default_rng(0).random((32, 32, 3), np.float32))
    assert cached.digest == direct.digest
    assert "bvlc_googlenet" in cached.card
    np.testing.assert_array_equal(cached.apply(x), direct.apply(x))
