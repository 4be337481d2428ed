import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from support import googlenet_tensors
from support.arrays import uniform
from typer.testing import CliRunner

from jifv.models import GoogLeNet, SRNet, available, listings, load, write_weights, zoo
from jifv.models.networks.densenet import CLASSES, DenseNet
from jifv.models.networks.frames import OUTPUT_CHANNELS

NET = DenseNet(blocks=(2, 1, 1))
EARLY = "dense1.0"  # a cheap layer, for what does not depend on the layer


@pytest.fixture(scope="module")
def variables():
    """Weights of a shorter network, as random as it takes for no layer to die or to overflow."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(NET.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))

    def random(leaf):
        values = rng.uniform(0.1, 1, leaf.shape) if len(leaf.shape) == 1 else rng.normal(size=leaf.shape)
        return (values / max(1, np.prod(leaf.shape[:-1])) ** 0.5).astype(np.float32)

    return jax.tree.map(random, shapes)


@pytest.fixture(scope="module")
def weights(variables, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    write_weights(path, variables, {"pool": "max"})
    return path


@pytest.fixture(scope="module")
def early(weights):
    return load(layer=EARLY, weights=weights)


@pytest.fixture(scope="module")
def small(weights):
    return load(layer=EARLY, weights=weights, input_size=(8, 12))


# The network as a function.


def test_what_a_network_says_of_itself(early, weights):
    assert early.input_shape == (32, 32, 3)
    assert early.output_shape == (32, 32, 12)
    assert early.features == 12
    assert early.layer == EARLY
    assert early.layers == NET.layer_names
    assert early.feature_names == tuple(str(index) for index in range(12))
    assert early.card == ""
    scores = load("densenet-no-deer", weights=str(weights))
    assert scores.name == "densenet-no-deer"
    assert (scores.layer, scores.output_shape, scores.features) == ("classifier", (10,), 10)
    assert scores.feature_names == CLASSES


def test_the_default_layer_is_the_last_one(weights):
    assert load(weights=weights).layer == "classifier"


def test_the_digest_is_that_of_the_weights_and_what_they_are_for(weights, variables, early, tmp_path):
    def digest(variables, pool="max"):
        write_weights(tmp_path / "w.safetensors", variables, {"pool": pool, "note": str(np.random.random())})  # noqa: NPY002
        return load(layer=EARLY, weights=tmp_path / "w.safetensors").digest

    assert re.fullmatch("[0-9a-f]{64}", early.digest)
    assert digest(variables) == early.digest
    assert load("densenet-no-deer", layer="stem", weights=weights).digest == early.digest
    bias = np.asarray(variables["params"]["classifier"]["bias"])
    other = changed(variables, "params/classifier/bias", bias + np.eye(10, dtype=np.float32)[3])
    assert digest(other) != early.digest
    assert digest(variables, pool="average") != early.digest


@pytest.mark.parametrize(("size", "shape"), [(16, (16, 16)), ((8, 20), (8, 20)), (4, (4, 4))])
def test_another_input_size(weights, variables, size, shape):
    network = load(layer="dense1.0", weights=weights, input_size=size)
    assert network.input_shape == (*shape, 3)
    assert network.output_shape == (*shape, 12)
    x = uniform((*shape, 3))
    expected = NET.apply(variables, x[None], layer="dense1.0")[0]
    np.testing.assert_allclose(network.apply(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [3, 0, -32, (32, 3)])
def test_input_size_too_small(weights, size):
    with pytest.raises(ValueError, match=re.escape(f"input_size must be at least 4 for densenet, got {size!r}")):
        load(weights=weights, input_size=size)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("size", [32.0, "32", (32,), (32, 32, 3), (32, None), [32, 32]])
def test_input_size_of_another_kind(weights, size):
    with pytest.raises(TypeError, match=r"input_size must be an integer or a pair \(height, width\), got "):
        load(weights=weights, input_size=size)


def test_apply_is_the_module_on_one_image(early, variables):
    x = uniform((2, 32, 32, 3))
    expected = NET.apply(variables, x, layer=EARLY)
    assert early.apply(x[0]).shape == early.output_shape
    np.testing.assert_allclose(early.apply(x[1]), expected[1], rtol=1e-5, atol=1e-5)


def test_under_jit_vmap_and_grad(small):
    x = uniform((3, 8, 12, 3))
    alone = np.stack([small.apply(image) for image in x])
    np.testing.assert_allclose(jax.jit(jax.vmap(small.apply))(x), alone, rtol=1e-5, atol=1e-5)

    def total(x):
        return jnp.sum(small.apply(x)[..., 3])

    one = jax.grad(total)(x[2])
    assert one.shape == (8, 12, 3)
    assert np.abs(one).max() > 0
    many = jax.jit(jax.vmap(jax.grad(total)))(x)
    np.testing.assert_allclose(many[2], one, rtol=1e-4, atol=1e-5)


def test_gradient_in_float64(x64, small):
    x, direction = uniform((8, 12, 3), np.float64), uniform((8, 12, 3), np.float64, seed=1) - 0.5
    apply = jax.jit(small.apply)
    out = apply(x)
    assert out.dtype == np.float64
    np.testing.assert_allclose(out, apply(x.astype(np.float32)), rtol=1e-4, atol=1e-4)

    @jax.jit
    def value(x):
        return jnp.sum(small.apply(x) * jnp.arange(12.0))

    step = 1e-7  # short: ReLU has kinks
    difference = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    np.testing.assert_allclose(jnp.sum(jax.jit(jax.grad(value))(x) * direction), difference, rtol=1e-6)


def test_the_pool_is_that_of_the_weights(variables, weights, tmp_path):
    write_weights(tmp_path / "average.safetensors", variables, {"pool": "average"})
    write_weights(tmp_path / "silent.safetensors", variables, {})
    x = uniform((32, 32, 3))
    maximum, average, silent = (
        load(layer="transition1", weights=path).apply
        for path in (weights, tmp_path / "average.safetensors", tmp_path / "silent.safetensors")
    )
    # A maximum over a window is never below the mean over it.
    highest, mean = jax.jit(maximum)(x), jax.jit(average)(x)
    assert np.all(highest >= mean - 1e-4)
    assert np.mean(highest > mean + 1e-3) > 0.5
    np.testing.assert_array_equal(jax.jit(silent)(x), highest)


# Errors.


@pytest.mark.parametrize("name", ["inception", "", "Densenet"])
def test_no_such_network(name):
    known = "densenet, densenet-no-deer, googlenet, googlenet-bvlc, srnet"
    with pytest.raises(ValueError, match=f"name must be one of {known}, got '{name}'"):
        load(name)


def test_no_such_layer(weights):
    with pytest.raises(ValueError, match=r"layer must be one of stem, dense1\.0, .*, classifier, got 'inception4c'"):
        load(layer="inception4c", weights=weights)


@pytest.mark.parametrize("name", ["there_is_none.safetensors", "there_is_none.npz"])
def test_no_such_file(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=f"no weights at .*{name}"):
        load(weights=tmp_path / name)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 32, 32, 3), (32, 32), (32, 32, 1), (224, 224, 3)])
def test_input_of_another_shape(early, shape):
    message = rf"x must have shape \(32, 32, 3\) for densenet, got {re.escape(str(shape))}; use jax.vmap for a batch"
    for apply in (early.apply, jax.jit(early.apply)):
        with pytest.raises(ValueError, match=message):
            apply(jnp.zeros(shape))


def test_bytes_are_no_input(early):
    with pytest.raises(TypeError, match=r"x must hold floats, RGB in \[0, 1\], for densenet, got uint8"):
        early.apply(jnp.zeros((32, 32, 3), jnp.uint8))


def changed(variables, name, value):
    return unflatten_dict({**flatten_dict(variables, sep="/"), name: value}, sep="/")


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("params/classifier/kernel", (30, 100), "must have shape (30, 10), got (30, 100) (1 of 57 entries differ)"),
        ("batch_stats/norm/var", (29,), "must have shape (30,), got (29,)"),
        ("params/head/kernel", (3,), "is unknown"),
    ],
)
def test_weights_of_another_network(variables, tmp_path, name, shape, message):
    path = tmp_path / "other.safetensors"
    write_weights(path, changed(variables, name, np.zeros(shape, np.float32)), {})
    with pytest.raises(
        ValueError, match=re.escape(f"other.safetensors are not those of a DenseNet-BC: {name} {message}")
    ):
        load(weights=path)


def test_weights_with_a_part_missing(variables, tmp_path):
    path = tmp_path / "part.safetensors"
    write_weights(path, {"params": variables["params"]}, {})
    with pytest.raises(
        ValueError, match=r"part\.safetensors are not those of a DenseNet-BC: batch_stats/.* is missing"
    ):
        load(weights=path)


@pytest.mark.usefixtures("unchecked")
def test_weights_with_an_unknown_pool(variables, tmp_path):
    path = tmp_path / "pool.safetensors"
    write_weights(path, variables, {"pool": "median"})
    with pytest.raises(ValueError, match="pool must be one of max, average, got 'median'"):
        load(weights=path)


# Damaged files.


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JIFV_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """The folder of shipped files, to damage."""
    for name in ("srnet.safetensors", "srnet.md"):
        shutil.copy(zoo._SHIPPED / name, tmp_path)
    monkeypatch.setattr(zoo, "_SHIPPED", tmp_path)
    return tmp_path / "srnet.safetensors"


def test_a_flipped_bit_in_what_ships_is_noticed(shipped):
    expected = load("srnet", layer="conv1").digest
    content = bytearray(shipped.read_bytes())
    content[len(content) // 2] ^= 1  # the last digit of some weight
    shipped.write_bytes(content)
    with pytest.raises(ValueError, match=rf"srnet\.safetensors are damaged: their sha256 must be {expected}, got "):
        load("srnet", layer="conv1")


def test_a_truncated_file_is_told_in_one_line(shipped, cache):
    """By `jifv models show`, from the package or from the cache."""
    from jifv.cli.models import app  # the command, which imports everything

    shipped.write_bytes(shipped.read_bytes()[:-1000])
    cache.mkdir()
    (cache / "googlenet.safetensors").write_bytes(b"\x10")
    (cache / "googlenet.md").write_bytes(b"- Accuracy: \xff\xfe")
    for name in ("srnet", "googlenet"):
        result = CliRunner().invoke(app, ["show", name])
        assert result.exit_code == 1
        assert re.fullmatch(rf"jifv: \S*{name}\.safetensors cannot be read as safetensors: [^\n]*\n", result.stderr)
    assert CliRunner().invoke(app, ["list"]).exit_code == 0


# The other networks.


def zeros(module, channels):
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, channels)))
    return jax.tree.map(lambda leaf: np.full(leaf.shape, 0.01, np.float32), shapes)


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    modules = {
        "googlenet": (GoogLeNet("torchvision"), 3),
        "googlenet-bvlc": (GoogLeNet("bvlc"), 3),
        "srnet": (SRNet(), 5),
    }
    for name, (module, channels) in modules.items():
        write_weights(folder / f"{name}.safetensors", zeros(module, channels), {})
    return folder


@pytest.mark.parametrize(
    ("name", "layer", "input_shape", "output_shape"),
    [
        ("googlenet", "inception4c", (224, 224, 3), (14, 14, 512)),
        ("googlenet-bvlc", "inception4c", (224, 224, 3), (14, 14, 512)),
        ("googlenet-bvlc", None, (224, 224, 3), (1000,)),
        ("srnet", "block8", (32, 32, 5), (32, 32, 64)),
        ("srnet", None, (32, 32, 5), (128, 128, 6)),
    ],
)
def test_shapes_of_the_other_networks(other_weights, name, layer, input_shape, output_shape):
    network = load(name, layer=layer, weights=other_weights / f"{name}.safetensors")
    assert (network.input_shape, network.output_shape) == (input_shape, output_shape)
    assert network.layer == (layer or network.layers[-1])
    output = (name, layer) == ("srnet", None)
    assert network.feature_names == (OUTPUT_CHANNELS if output else tuple(map(str, range(output_shape[-1]))))


def test_srnets_apply_is_the_module(other_weights):
    network = load("srnet", layer="block1", weights=other_weights / "srnet.safetensors", input_size=(4, 6))
    x = uniform((4, 6, 5))
    expected = SRNet().apply(zeros(SRNet(), 5), x[None], layer="block1")[0]
    np.testing.assert_allclose(network.apply(x), expected, rtol=1e-5)
    with pytest.raises(TypeError, match=r"x must hold floats, mask in \[-1, 1\], normal and depth, for srnet"):
        network.apply(x.astype(np.uint8))


def test_googlenet_has_a_smallest_size(other_weights):
    with pytest.raises(ValueError, match="input_size must be at least 32 for googlenet, got 31"):
        load("googlenet", weights=other_weights / "googlenet.safetensors", input_size=31)


def test_weights_of_the_other_version(other_weights, tmp_path):
    with pytest.raises(ValueError, match=r"bvlc\.safetensors are not those of a GoogLeNet \(torchvision\): "):
        load("googlenet", weights=other_weights / "googlenet-bvlc.safetensors")
    np.savez(tmp_path / "bvlc.npz", **googlenet_tensors.npz_names(googlenet_tensors.caffe()[0]))
    with pytest.raises(ValueError, match=r"bvlc\.npz are those of googlenet-bvlc: load them by that name, not by goog"):
        load("googlenet", weights=tmp_path / "bvlc.npz")


def test_googlenet_is_loaded_from_the_cache(other_weights, cache):
    with pytest.raises(FileNotFoundError, match="no weights of googlenet here: run `jifv models fetch googlenet`, or "):
        load("googlenet")
    with pytest.raises(FileNotFoundError, match="run `jifv models convert googlenet-bvlc --from FILE`") as caught:
        load("googlenet-bvlc")
    assert "is there" not in str(caught.value)
    cache.mkdir()
    shutil.copy(other_weights / "googlenet-bvlc.safetensors", cache)
    with pytest.raises(FileNotFoundError, match=r"convert googlenet --from \S*`; googlenet-bvlc is there$"):
        load("googlenet")
    assert load("googlenet-bvlc", layer="conv1").card == ""
    (cache / "googlenet-bvlc.md").write_text("# The card", encoding="utf-8")
    assert load("googlenet-bvlc", layer="conv1").card == "# The card"


def test_available_and_listings(cache):
    assert "googlenet" not in available()
    listed = {listing.name: listing for listing in listings()}
    assert list(listed) == ["densenet", "densenet-no-deer", "googlenet", "googlenet-bvlc", "srnet"]
    for name, listing in listed.items():
        assert (listing.path is None) == (name not in available()) == bool(listing.missing)
    assert "fetch googlenet" in listed["googlenet"].missing
    assert listed["googlenet"].accuracy.startswith("69.8% top-1, 89.5% top-5")
    assert listed["googlenet-bvlc"].licence.startswith("unrestricted use (BVLC)")
    assert listed["densenet"].licence.startswith("Apache-2.0")
    assert re.match(r"\d\d\.\d%", listed["densenet"].accuracy)
    assert listed["densenet"].source == "this project"
    cache.mkdir()
    (cache / "googlenet.safetensors").write_bytes(b"")
    (cache / "googlenet.md").write_text("- Accuracy: **1%**\n- Licence: mine\n- Source: here", encoding="utf-8")
    (listing,) = (listing for listing in listings() if listing.name == "googlenet")
    assert listing[1:] == (cache / "googlenet.safetensors", "", "here", "mine", "1%")
    assert "googlenet" in available()


def test_negative_smoothing_is_refused(weights):
    with pytest.raises(ValueError, match="smoothing must be"):
        load("densenet", weights=weights, smoothing=-1.0)


def test_a_smoothed_network_is_another_one(weights):
    options = {"layer": EARLY, "weights": weights, "input_size": 8}
    plain, smooth, smoother = (load("densenet", **options, smoothing=width) for width in (0.0, 0.1, 0.2))
    assert len({plain.digest, smooth.digest, smoother.digest}) == 3
    sites = [network.apply.sites for network in (smooth, smoother)]
    assert len(sites[0]) == len(sites[1]) > 0
    for narrow, wide in zip(*sites, strict=True):
        assert wide.width == pytest.approx(2 * narrow.width)


@pytest.mark.parametrize("name", ["densenet", "srnet"])
def test_every_network_can_be_smoothed(name):
    layer = {"densenet": "dense1.1", "srnet": "block1"}[name]
    smooth = load(name, layer=layer, input_size=8, smoothing=0.1)
    assert len(smooth.apply.sites) == {"densenet": 4, "srnet": 2}[name]
    x = smooth.typical_inputs()[0]
    assert x.shape == smooth.input_shape
    plain = jax.jit(load(name, layer=layer, input_size=8).apply)(x)
    assert 0 < np.linalg.norm(smooth.apply(x) - plain) < 0.5 * np.linalg.norm(plain)
