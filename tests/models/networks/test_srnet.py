from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from support.taps import FAST, primitives

from jifv.models.networks.srnet import INPUT_CHANNELS, OUTPUT_CHANNELS, SRNet, fold, upscale, variable_shapes

LAYERS = SRNet().layer_names
SMALL = SRNet(blocks=2, features=4)


def draw(shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def random_variables(model, seed=0):
    """Variables without a zero, so that nothing drops out of a comparison."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 5)))
    leaves, tree = jax.tree.flatten(shapes)
    return tree.unflatten([draw(leaf.shape, seed + index) / 8 for index, leaf in enumerate(leaves)])


# The whole network, layer by layer, against PyTorch.


MODELS = {"first frame": SRNet(), "later frame": SRNet(blocks=1)}
"""The whole network as experiments use it, and a shorter one after another frame."""


@cache
def both(which):
    """Every layer's activations as (ours, torch's)."""
    pytest.importorskip("torch", reason="the reference implementation of SRNet needs PyTorch")
    from support import torch_srnet

    model = MODELS[which]
    network = torch_srnet.random_network(blocks=model.blocks)
    variables = torch_srnet.flax_variables(network)
    frame = draw((2, 6, 8, 5))
    previous = draw((2, 24, 32, 6), 1) if which == "later frame" else None

    # One compilation: XLA merges what the taps have in common.
    @partial(jax.jit, compiler_options=FAST)
    def every(variables, *frames):
        return {layer: model.apply(variables, *frames, layer=layer) for layer in model.layer_names}

    ours = every(variables, frame) if previous is None else every(variables, frame, previous)
    zeros = np.zeros((2, 24, 32, 6), np.float32)
    return ours, torch_srnet.every_layer(network, frame, zeros if previous is None else previous)


@pytest.mark.parametrize(
    ("which", "layer"), [(which, layer) for which in MODELS for layer in MODELS[which].layer_names]
)
def test_every_layer_agrees_with_torch(which, layer):
    ours, theirs = np.asarray(both(which)[0][layer]), both(which)[1][layer]
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    scale = np.abs(theirs).max()
    assert 0.1 < scale < 1000  # the network has neither died nor exploded on the way
    np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("which", MODELS)
def test_every_layer_is_compared(which):
    assert set(both(which)[0]) == set(both(which)[1]) == set(MODELS[which].layer_names)


def test_upscaling_agrees_with_torch_up_to_the_borders():
    torch = pytest.importorskip("torch", reason="the reference implementation of bilinear upscaling is PyTorch's")
    x = draw((2, 3, 5, 2))
    for factor in (2, 4):
        theirs = torch.nn.functional.interpolate(
            torch.tensor(x).permute(0, 3, 1, 2), scale_factor=factor, mode="bilinear", align_corners=False
        )
        np.testing.assert_allclose(upscale(jnp.asarray(x), factor), theirs.permute(0, 2, 3, 1), rtol=0, atol=1e-6)


@settings(max_examples=5)
@given(height=st.integers(1, 4), width=st.integers(1, 4), channels=st.integers(1, 3), seed=st.integers(0, 99))
def test_folding(height, width, channels, seed):
    """Channel 16c + 4i + j of a folded pixel is channel c at row i and column j of its block."""
    x = draw((2, 4 * height, 4 * width, channels), seed)
    folded = np.asarray(fold(jnp.asarray(x)))
    assert folded.shape == (2, height, width, 16 * channels)
    for c in range(channels):
        for i in range(4):
            for j in range(4):
                np.testing.assert_array_equal(folded[..., 16 * c + 4 * i + j], x[:, i::4, j::4, c])


def test_upscaling_in_closed_form():
    """Between the centres of the pixels a ramp stays a ramp; beyond the outermost ones it is constant."""
    ramp = jnp.arange(4.0)[None, :, None, None]
    np.testing.assert_allclose(
        upscale(ramp, 2)[0, :, 0, 0], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3], rtol=0, atol=1e-6
    )
    expected = np.clip((np.arange(16) + 0.5) / 4 - 0.5, 0, 3)
    np.testing.assert_allclose(upscale(ramp, 4)[0, :, 0, 0], expected, rtol=0, atol=1e-6)


# What the network is.


def test_size_of_the_network():
    shapes = variable_shapes()
    assert sum(np.prod(shape) for shape in shapes.values()) == 911_046
    assert len(shapes) == 2 * 25  # a kernel and a bias each
    assert shapes["params/conv1/kernel"] == (3, 3, 101, 64)
    assert shapes["params/block8/conv2/kernel"] == (3, 3, 64, 64)
    assert shapes["params/output/bias"] == (6,)
    assert ("conv1", *(f"block{i}" for i in range(1, 11)), "up1", "up2", "conv", "output") == LAYERS
    assert (len(INPUT_CHANNELS), len(OUTPUT_CHANNELS)) == (5, 6)


def test_shapes_of_the_taps():
    frame = jnp.zeros((3, 8, 12, 5))
    variables = jax.eval_shape(SRNet().init, jax.random.key(0), frame)
    for layer in LAYERS:
        out = jax.eval_shape(lambda v, layer=layer: SRNet().apply(v, frame, layer=layer), variables)
        scale = {"up1": 2, "up2": 4, "conv": 4, "output": 4}.get(layer, 1)
        assert out.shape == (3, 8 * scale, 12 * scale, 6 if layer == "output" else 64), layer


def test_nothing_past_the_tap_is_computed():
    variables, frame = random_variables(SMALL), draw((1, 8, 8, 5))
    found = {}  # convolutions, matrix products: those of the upscaling
    for layer in SMALL.layer_names:
        jaxpr = jax.make_jaxpr(lambda x, layer=layer: SMALL.apply(variables, x, layer=layer))(frame)
        count = primitives(jaxpr.jaxpr)
        found[layer] = count["conv_general_dilated"], count["dot_general"]
    each = found["up1"][1]
    assert each > 0
    expected = {"conv1": (1, 0), "block1": (3, 0), "block2": (5, 0)}
    expected |= {"up1": (6, each), "up2": (7, 2 * each), "conv": (8, 2 * each), "output": (9, 3 * each)}
    assert found == expected
    assert list(found) == list(expected)  # in the order of computation


def test_the_first_frame_does_not_compute_the_previous_one():
    """The same numbers as with an array of zeros, from 5 input channels instead of 101."""
    variables, frame = random_variables(SMALL), jnp.asarray(draw((2, 8, 8, 5)))
    zeros = jnp.zeros((2, 32, 32, 6))

    def tap(frame, *previous):
        return SMALL.apply(variables, frame, *previous, layer="conv1")

    np.testing.assert_allclose(jax.jit(tap)(frame), jax.jit(tap)(frame, zeros), rtol=1e-5, atol=1e-5)
    cost = lambda *frames: jax.jit(tap).lower(*frames).compile().cost_analysis()["flops"]  # noqa: E731
    difference = 2 * 96 * 4 * (3 * 8 - 2) ** 2 * 2  # products and sums that padding does not make zero
    assert cost(frame, zeros) - cost(frame) > 0.9 * difference
    # And the previous frame matters when there is one.
    assert not np.allclose(jax.jit(tap)(frame), jax.jit(tap)(frame, zeros + 1), rtol=1e-2)


def test_a_silent_network_upscales():
    """Without weights what is left is the bilinear path, and nothing for the ambient occlusion."""
    frame = jnp.asarray(draw((2, 4, 4, 5)))
    variables = jax.tree.map(np.zeros_like, random_variables(SMALL))
    out = jax.jit(SMALL.apply)(variables, frame)
    np.testing.assert_array_equal(out[..., :5], upscale(frame, 4))
    np.testing.assert_array_equal(out[..., 5], 0)


def test_initialization():
    init = jax.jit(SRNet(blocks=1, features=16).init, compiler_options=FAST)
    params = init(jax.random.key(0, impl="rbg"), jnp.zeros((1, 4, 4, 5)))["params"]
    for name, leaf in flatten_dict(params, sep="/").items():
        if name.endswith("bias"):
            np.testing.assert_array_equal(leaf, 0)
        elif name.startswith("block"):
            matrix = np.asarray(leaf, np.float64).reshape(-1, 16)
            np.testing.assert_allclose(matrix.T @ matrix, 2 * np.eye(16), atol=1e-5)
        else:
            fan_in = np.prod(leaf.shape[:3])
            assert np.var(leaf) == pytest.approx(1 / (3 * fan_in), rel=0.1)
            assert np.abs(leaf).max() <= 1 / np.sqrt(fan_in) + 1e-7
    assert not np.array_equal(params["block1"]["conv1"]["kernel"], params["block1"]["conv2"]["kernel"])


@pytest.mark.parametrize("layer", ["block0", "block11", "up3", "", "Conv1"])
def test_no_such_layer(layer):
    variables = jax.eval_shape(SMALL.init, jax.random.key(0), jnp.zeros((1, 4, 4, 5)))
    with pytest.raises(ValueError, match=rf"layer must be one of conv1, block1, .*output, got '{layer}'"):
        jax.eval_shape(lambda v: SMALL.apply(v, jnp.zeros((1, 4, 4, 5)), layer=layer), variables)


def test_a_batch_is_its_frames():
    model = SRNet(blocks=1, features=4)
    variables, frames = random_variables(model), jnp.asarray(draw((3, 4, 4, 5)))
    previous = jnp.asarray(draw((3, 16, 16, 6), 1))
    apply = jax.jit(model.apply)
    whole = apply(variables, frames, previous)
    for index in range(3):
        one = apply(variables, frames[index : index + 1], previous[index : index + 1])[0]
        np.testing.assert_allclose(one, whole[index], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.apply(variables, frames, previous), whole, rtol=1e-4, atol=1e-5)


def test_float64_stays_float64(x64):
    single = random_variables(SMALL)
    variables = jax.tree.map(np.float64, single)
    frame = draw((2, 4, 4, 5), dtype=np.float64)
    out = jax.jit(SMALL.apply)(variables, frame)
    assert out.dtype == np.float64
    rounded = jax.jit(SMALL.apply)(single, np.float32(frame))
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded, out, rtol=1e-4, atol=1e-4)
    assert np.any(np.asarray(out) != np.asarray(out, np.float32))


def test_gradient_against_finite_differences(x64):
    """With respect to the frame and to the weights: both pass through the convolution's own gradient."""
    model = SRNet(blocks=1, features=4)
    variables = jax.tree.map(np.float64, random_variables(model))
    frame, weights = draw((1, 4, 4, 5), dtype=np.float64), draw((1, 16, 16, 6), 2, np.float64)
    leaves, tree = jax.tree.flatten((variables, frame))
    direction = tree.unflatten([draw(leaf.shape, 50 + index, np.float64) for index, leaf in enumerate(leaves)])
    score = lambda point: jnp.sum(weights * model.apply(*point))  # noqa: E731
    shifted = lambda step: jax.tree.map(lambda a, b: a + step * b, (variables, frame), direction)  # noqa: E731
    step = 3e-7  # short: ReLU has kinks; and not shorter, for the values cancel
    value = jax.jit(score, compiler_options=FAST)
    difference = (value(shifted(step)) - value(shifted(-step))) / (2 * step)
    gradient = jax.jit(jax.grad(score), compiler_options=FAST)((variables, frame))
    product = sum(jnp.sum(a * b) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
    np.testing.assert_allclose(product, difference, rtol=1e-7)
    assert abs(difference) > 1
