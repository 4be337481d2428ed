from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.arrays import uniform
from support.taps import FAST, apply_every_layer, primitives

from jifv.models.files.convert import googlenet_from_npz, googlenet_from_torchvision
from jifv.models.networks.googlenet import CAFFE_MEAN, SMALLEST, GoogLeNet, variable_shapes
from jifv.smoothing import smooth

VERSIONS = ("bvlc", "torchvision")
TAPS = [(version, layer) for version in VERSIONS for layer in GoogLeNet(version).layer_names]


@cache
def abstract_variables(version):
    return jax.eval_shape(GoogLeNet(version).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def shape_of(version, layer, *size):
    x, variables = jnp.zeros((1, *size, 3)), abstract_variables(version)
    return jax.eval_shape(lambda v, x: GoogLeNet(version).apply(v, x, layer=layer), variables, x).shape


# The whole network, layer by layer, against PyTorch.


def torch_and_flax(version):
    """A random network in PyTorch and the same weights as variables of ours."""
    pytest.importorskip("torch", reason="the reference implementation of GoogLeNet needs PyTorch")
    from support import torch_googlenet

    network = torch_googlenet.random_network(version)
    if version == "bvlc":
        return network, googlenet_from_npz(torch_googlenet.caffe_tensors(network))
    return network, googlenet_from_torchvision({name: t.numpy() for name, t in network.state_dict().items()})


@pytest.fixture(scope="module")
def both():
    """Every layer's activations as (ours, torch's), by version. The pools meet even and odd sizes."""
    found = {}
    for version in VERSIONS:
        network, variables = torch_and_flax(version)
        from support import torch_googlenet  # it is there, or the line above had skipped

        images = np.asarray(uniform((2, 75, 96, 3)))
        model = GoogLeNet(version)
        ours = jax.jit(apply_every_layer, static_argnums=0, compiler_options=FAST)(model, variables, images)
        found[version] = ours, torch_googlenet.every_layer(network, images, model.layer_names)
    return found


@pytest.mark.parametrize(("version", "layer"), TAPS)
def test_every_layer_agrees_with_torch(both, version, layer):
    ours, theirs = both[version][0][layer], both[version][1][layer]
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    scale = np.abs(theirs).max()
    assert scale > 0.1  # neither network has died on the way
    np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=1e-4)


@pytest.mark.parametrize("version", ["bvlc", pytest.param("torchvision", marks=pytest.mark.slow)])
def test_gradient_agrees_with_torch(version, x64):
    """In float64: in float32 a maximum or a ReLU may fall on the other side here and there."""
    torch = pytest.importorskip("torch")
    network, variables = torch_and_flax(version)
    variables = jax.device_put(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables))
    x = uniform((1, 45, 64, 3), np.float64)

    def activations(x):
        return GoogLeNet(version).apply(variables, x, layer="inception3b")

    @partial(jax.jit, compiler_options=FAST)
    def gradient(x):
        out, pull = jax.vjp(activations, x)
        return out, pull(uniform(out.shape, np.float64, seed=1))[0]

    out, ours = gradient(x)
    assert out.dtype == ours.dtype == np.float64

    images = torch.tensor(np.asarray(x)).permute(0, 3, 1, 2).requires_grad_(True)
    seen = []
    network.double().inception3b.register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    network(images)
    weights = torch.tensor(np.asarray(uniform(out.shape, np.float64, seed=1))).permute(0, 3, 1, 2)
    (seen[0] * weights).sum().backward()
    theirs = images.grad.permute(0, 2, 3, 1).numpy()
    scale = np.abs(theirs).max()
    assert scale > 1e-3
    np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=1e-10)


@pytest.mark.parametrize("version", VERSIONS)
def test_shapes_at_the_size_of_training(version):
    """Also those of the pools, where Caffe rounds up and a framework that rounds down is one row short."""
    model = GoogLeNet(version)
    sides = {"conv1": 112, "pool1": 56, "norm1": 56, "conv2": 56, "conv3": 56, "norm2": 56, "pool2": 28, "pool3": 14}
    sides |= {"inception3a": 28, "inception3b": 28, "pool4": 7, "inception5a": 7, "inception5b": 7}
    sides |= {f"inception4{letter}": 14 for letter in "abcde"}
    channels = {"conv1": 64, "pool1": 64, "norm1": 64, "conv2": 64, "conv3": 192, "norm2": 192, "pool2": 192}
    channels |= {"inception3a": 256, "inception3b": 480, "pool3": 480, "inception4d": 528, "inception4e": 832}
    channels |= {f"inception4{letter}": 512 for letter in "abc"}
    channels |= {"pool4": 832, "inception5a": 832, "inception5b": 1024}
    expected = {layer: (1, sides[layer], sides[layer], channels[layer]) for layer in model.layer_names[:-2]}
    expected |= {"pool": (1, 1024), "classifier": (1, 1000)}
    taps = partial(apply_every_layer, model)
    found = jax.eval_shape(taps, abstract_variables(version), jnp.zeros((1, 224, 224, 3)))
    assert {layer: out.shape for layer, out in found.items()} == expected


def test_sizes_of_the_networks():
    """The counts that torchvision documents (without auxiliary heads) and that Caffe's file has."""
    for version, count in (("torchvision", 6_624_904), ("bvlc", 6_998_552)):
        shapes = variable_shapes(version)
        assert sum(np.prod(shape) for name, shape in shapes.items() if name.startswith("params")) == count
        assert sum(name.endswith("kernel") for name in shapes) == 58


def test_names_of_the_variables():
    bvlc, torchvision = variable_shapes(), variable_shapes("torchvision")
    assert bvlc["params/inception4c/5x5/kernel"] == (5, 5, 24, 64)
    assert bvlc["params/inception4c/5x5/bias"] == (64,)
    assert torchvision["params/inception4c/5x5/kernel"] == (3, 3, 24, 64)
    assert torchvision["params/inception4c/5x5/norm/scale"] == (64,)
    assert torchvision["batch_stats/conv1/norm/var"] == (64,)
    assert not any(name.startswith("batch_stats") for name in bvlc)
    assert not any(name.endswith("pool_proj/bias") for name in torchvision)


# Taps.


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_past_the_tap_is_computed(version):
    model = GoogLeNet(version)
    spatial, products, joins, roots, expected = 0, 0, 0, 0, {}
    per_unit = int(version == "torchvision")  # a square root in each batch normalization
    for layer in model.layer_names:
        if layer.startswith("inception"):
            spatial, products, joins, roots = spatial + 2, products + 4, joins + 1, roots + 6 * per_unit
        elif layer.startswith("conv"):
            spatial, products, roots = spatial + (layer != "conv2"), products + (layer == "conv2"), roots + per_unit
        elif layer.startswith("norm"):
            roots += 1
        elif layer == "classifier":
            products += 1
        expected[layer] = spatial, products, joins, roots

    if version == "torchvision":  # the same loop: its beginning, middle and end will do
        expected = {layer: expected[layer] for layer in ("conv1", "inception4c", "classifier")}
    found = {}
    for layer in expected:
        tap = partial(model.apply, layer=layer)
        jaxpr = jax.make_jaxpr(tap)(abstract_variables(version), jnp.zeros((1, 32, 32, 3)))
        count = primitives(jaxpr.jaxpr)
        count["conv_general_dilated"] += count["cond"]  # those that depend on the platform
        found[layer] = tuple(count[name] for name in ("conv_general_dilated", "dot_general", "concatenate", "rsqrt"))
    assert found == expected
    assert expected["classifier"][:3] == (20, 38, 9)


def test_the_versions_differ_in_their_layers():
    bvlc, torchvision = (GoogLeNet(version).layer_names for version in VERSIONS)
    assert [layer for layer in bvlc if layer not in torchvision] == ["norm1", "norm2"]
    assert bvlc.index("pool1") + 1 == bvlc.index("norm1")  # Caffe: first the pool, then the normalization,
    assert bvlc.index("norm2") + 1 == bvlc.index("pool2")  # and the other way round


@given(height=st.integers(SMALLEST, 70), width=st.integers(SMALLEST, 70), version=st.sampled_from(VERSIONS))
@settings(max_examples=5)
def test_any_size_has_positions(height, width, version):
    shape = shape_of(version, "inception5b", height, width)
    assert min(shape) >= 1
    assert shape[3] == 1024


def test_one_image_under_vmap():
    """As `jifv.models.load` applies it."""
    x = uniform((3, 33, 32, 3))
    rng = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda leaf: np.float32(rng.uniform(-0.1, 0.1, leaf.shape)), abstract_variables("torchvision")["params"]
    )
    variables = {"params": variables, "batch_stats": abstract_variables("torchvision")["batch_stats"]}
    variables["batch_stats"] = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), variables["batch_stats"])
    tap = partial(GoogLeNet("torchvision").apply, variables, layer="pool2")
    expected = jax.jit(tap)(x)
    assert np.asarray(expected).std() > 0.01
    single = jax.jit(jax.vmap(lambda image: tap(image[None])[0]))
    np.testing.assert_allclose(single(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", ["inception4f", "inception4", "softmax", "", "Conv1"])
def test_no_such_layer(layer):
    with pytest.raises(ValueError, match=r"layer must be one of conv1, pool1, norm1, .*classifier, got '" + layer):
        shape_of("bvlc", layer, 32, 32)


def test_torchvision_has_no_response_normalization():
    with pytest.raises(ValueError, match=r"layer must be one of conv1, pool1, conv2, .*, got 'norm1'"):
        shape_of("torchvision", "norm1", 32, 32)


@pytest.mark.usefixtures("unchecked")
def test_no_such_version():
    with pytest.raises(ValueError, match="version must be 'bvlc' or 'torchvision', got 'caffe'"):
        shape_of("caffe", "conv1", 32, 32)


@pytest.mark.parametrize("size", [(31, 224), (224, 31), (8, 8)])
def test_too_small(size):
    with pytest.raises(ValueError, match=f"x must have sides of at least 32 pixels, got {size[0]}×{size[1]}"):
        shape_of("bvlc", "conv1", *size)


# Preprocessing.


@pytest.mark.parametrize("version", VERSIONS)
def test_preprocessing(version):
    """A colour that is zero to the network, and what one step in each channel of RGB adds."""
    zero, step = (np.flip(CAFFE_MEAN) / 255, 1 / 255) if version == "bvlc" else (np.full(3, 0.5), 1 / 2)
    channels = (2, 1, 0) if version == "bvlc" else (0, 1, 2)
    kernel = np.zeros((7, 7, 3, 64), np.float32)
    for channel in range(3):
        kernel[3, 3, channels[channel], channel] = 1
    variables = {"params": {"conv1": {"kernel": kernel, "bias": np.full(64, 5, np.float32)}}}
    expected = 5 + np.eye(3, 64)
    if version == "torchvision":
        rest = {"scale": np.ones(64, np.float32), "bias": variables["params"]["conv1"].pop("bias")}
        variables["params"]["conv1"]["norm"] = rest
        variance = np.full(64, 1 - 1e-3, np.float32)
        variables["batch_stats"] = {"conv1": {"norm": {"mean": np.zeros(64, np.float32), "var": variance}}}
    colours = zero + step * np.eye(3)
    images = np.broadcast_to(np.float32(colours)[:, None, None], (3, 32, 32, 3))
    out = GoogLeNet(version).apply(variables, jnp.asarray(images), layer="conv1")
    np.testing.assert_allclose(out[:, 8, 8], expected, atol=1e-4)


# With trained weights.

ANIMALS = {"bird": [*range(7, 25), *range(80, 101), *range(127, 147)], "cat_720p": range(281, 286)}
ACCEPTED = ANIMALS | {
    "dragonfly": [319, 320],  # and damselfly
    "grace_hopper": [652],  # military uniform
    "hot_dog": [934],
    "owl": [24],  # great grey owl, the only owl of the thousand
    "parrot": range(87, 91),
    "pets": [*range(151, 269), *range(281, 286)],  # dogs and cats
    "sunflower": [985],  # daisy: there is no sunflower
}
"""Classes of ILSVRC-2012 that the name of each photograph stands for."""


def centre_crop(path: Path):
    """The shorter side to 256, then the middle 224×224."""
    with Image.open(path) as image:
        scale = 256 / min(image.size)
        size = tuple(round(scale * side) for side in image.size)
        image = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    left, top = ((side - 224) // 2 for side in size)
    return np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255


@pytest.mark.slow  # the layers below are compared with PyTorch already
def test_photographs(shared):
    with np.load(shared / "weights" / "bvlc_googlenet.npz") as file:
        variables = googlenet_from_npz(dict(file))
    paths = sorted(path for path in (shared / "data" / "photos").iterdir() if path.suffix in (".bmp", ".jpg"))
    assert [path.stem for path in paths] == sorted(ACCEPTED)
    images = np.stack([centre_crop(path) for path in paths])
    probabilities = np.asarray(
        jax.nn.softmax(jax.jit(lambda x: GoogLeNet().apply(variables, x), compiler_options=FAST)(images))
    )
    right = 0
    for path, row in zip(paths, probabilities, strict=True):
        best = np.argsort(-row)[:5]
        right += bool({*best.tolist()} & {*ACCEPTED[path.stem]})
        print(f"{path.stem:12}", "  ".join(f"{index:3} {100 * row[index]:5.1f} %" for index in best))
    assert right >= 7


def test_the_tree_of_variables_is_the_modules(shared):
    with np.load(shared / "weights" / "bvlc_googlenet.npz") as file:
        variables = googlenet_from_npz(dict(file))
    assert jax.tree.map(np.shape, flatten_dict(variables, sep="/")) == variable_shapes("bvlc")


# Rounded kinks.


@pytest.fixture(scope="module", params=["bvlc"])
def tapped(request):
    """A random network up to inception3a, its input, and its variables."""
    rng = np.random.default_rng(3)
    shapes = variable_shapes(request.param)
    values = {
        name: np.abs(rng.normal(size=shape))
        if name.endswith("var")
        else rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))
        for name, shape in shapes.items()
        if "4" not in name and "5a" not in name and "5b" not in name and "3b" not in name and "classifier" not in name
    }
    variables = unflatten_dict({name: jnp.asarray(value, jnp.float32) for name, value in values.items()}, sep="/")
    return request.param, variables, uniform((2, 48, 48, 3))


def activations(tapped, dtype=jnp.float32):
    version, variables, _ = tapped
    variables = jax.tree.map(lambda leaf: leaf.astype(dtype), variables)
    return lambda x: GoogLeNet(version).apply(variables, x[None], layer="inception3a")[0]


def test_every_kink_is_rounded(tapped):
    smoothed = smooth(activations(tapped), tapped[2])
    # Two pools, three convolutions, inception3a's six and its pool.
    assert len(smoothed.sites) == 2 + 3 + 6 + 1
    assert smoothed.replaced == ()


def test_widths_are_those_of_the_network_itself(tapped):
    version, variables, images = tapped
    pools = [site for site in smooth(activations(tapped), images, 1.0).sites if site.kind == "_max_pool"]
    operand = GoogLeNet(version).apply(variables, images, layer="pool2")
    np.testing.assert_allclose(pools[-1].width, np.sqrt(np.mean(np.square(operand))), rtol=1e-5)


def test_gradient_of_a_smooth_network_does_not_jump(tapped, x64):
    """The change of the gradient along a line halves with the step; at a kink it would stay."""
    x, direction = tapped[2][0].astype(jnp.float64), uniform((48, 48, 3), np.float64, seed=9) - 0.5
    smoothed = smooth(activations(tapped, jnp.float64), x[None], 0.3)
    gradient = jax.jit(jax.grad(lambda x: smoothed(x).sum()))
    changes = [np.linalg.norm(gradient(x + step * direction) - gradient(x)) for step in (1e-5, 5e-6)]
    assert changes[1] == pytest.approx(changes[0] / 2, rel=0.05)
