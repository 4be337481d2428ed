from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from support.arrays import uniform
from support.taps import FAST, primitives

from jifv.models.files.convert import densenet_from_torch
from jifv.models.networks import densenet
from jifv.models.networks.densenet import (
    CHANNEL_MEAN,
    CHANNEL_STD,
    DenseNet,
    FoldedLayer,
    dense_block,
    variable_shapes,
)

SMALL = DenseNet(blocks=(1, 2, 1), growth=4, classes=3)


def random_variables(model, size=8, seed=0):
    """Variables without a zero or a one, so that nothing drops out of a comparison."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.1, 1, leaf.shape), leaf.dtype), shapes)


# The full network, layer by layer, against PyTorch.


MODELS = {"max": DenseNet(), "average": DenseNet(pool="average", blocks=(2, 1, 2), growth=6)}
"""The whole network, and a small one with the other pooling."""


@cache
def both(pool):
    """Every layer's activations as (ours, torch's). A bottleneck layer's are taken from its block."""
    pytest.importorskip("torch", reason="the reference implementation of DenseNet needs PyTorch")
    from support import torch_densenet

    model = MODELS[pool]
    network = torch_densenet.random_network(pool, blocks=model.blocks, growth=model.growth)
    images = np.asarray(uniform((2, 16, 20, 3)))
    variables = densenet_from_torch(network.state_dict())
    layers = [layer for layer in model.layer_names if "." not in layer]

    @partial(jax.jit, compiler_options=FAST)
    def every(x):
        return {layer: model.apply(variables, x, layer=layer) for layer in layers}

    ours = every(images)
    for block, depth in enumerate(model.blocks, 1):
        pieces = np.split(ours[f"dense{block}"][..., -depth * model.growth :], depth, -1)
        ours |= {f"dense{block}.{index}": piece for index, piece in enumerate(pieces)}
    return ours, torch_densenet.every_layer(network, images)


@pytest.mark.parametrize(("pool", "layer"), [(pool, layer) for pool in MODELS for layer in MODELS[pool].layer_names])
def test_every_layer_agrees_with_torch(pool, layer):
    ours, theirs = both(pool)[0][layer], both(pool)[1][layer]
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    scale = np.abs(theirs).max()
    assert scale > 0.1  # neither network has died on the way
    np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=1e-4)


@pytest.mark.parametrize("pool", MODELS)
def test_every_layer_is_compared(pool):
    assert set(both(pool)[0]) == set(both(pool)[1]) == set(MODELS[pool].layer_names)


def test_size_of_the_network():
    """Huang et al. 2017 give 0.8M parameters for depth 100; the exact count is that of their architecture."""
    shapes = jax.eval_shape(DenseNet().init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == 769_162
    convolutions = [name for name in flatten_dict(shapes["params"], sep="/") if name.endswith("kernel")]
    assert len(convolutions) == 100  # the classifier counts as a layer
    out = jax.eval_shape(lambda v, x: DenseNet().apply(v, x, layer="dense3"), shapes, jnp.zeros((1, 32, 32, 3)))
    assert out.shape == (1, 8, 8, 342)


# Taps.


def test_nothing_past_the_tap_is_computed():
    expected = {"stem": (1, 0, 0)}  # 3×3 convolutions, matrix products, normalizations
    spatial, products, norms = 1, 0, 0
    for block, depth in enumerate(SMALL.blocks, 1):
        for index in range(depth):
            spatial, products, norms = spatial + 1, products + 1, norms + 2
            expected[f"dense{block}.{index}"] = (spatial, products, norms)
        expected[f"dense{block}"] = (spatial, products, norms)
        if block < len(SMALL.blocks):
            products, norms = products + 1, norms + 1
            expected[f"transition{block}"] = (spatial, products, norms)
    expected["features"] = expected["pool"] = (spatial, products, norms + 1)
    expected["classifier"] = (spatial, products + 1, norms + 1)

    variables = random_variables(SMALL)
    found = {}
    for layer in SMALL.layer_names:
        jaxpr = jax.make_jaxpr(lambda x, layer=layer: SMALL.apply(variables, x, layer=layer))(uniform((1, 8, 8, 3)))
        count = primitives(jaxpr.jaxpr)
        found[layer] = count["conv_general_dilated"], count["dot_general"], count["rsqrt"]
    assert found == expected
    assert list(found) == list(expected)  # in the order of computation


def test_shapes_of_the_taps():
    x = jnp.zeros((5, 12, 8, 3))
    variables = jax.eval_shape(SMALL.init, jax.random.key(0), x)
    shapes = {
        layer: jax.eval_shape(lambda v, x, layer=layer: SMALL.apply(v, x, layer=layer), variables, x).shape
        for layer in SMALL.layer_names
    }
    assert shapes == {
        "stem": (5, 12, 8, 8),
        "dense1.0": (5, 12, 8, 4),
        "dense1": (5, 12, 8, 12),
        "transition1": (5, 6, 4, 6),
        "dense2.0": (5, 6, 4, 4),
        "dense2.1": (5, 6, 4, 4),
        "dense2": (5, 6, 4, 14),
        "transition2": (5, 3, 2, 7),
        "dense3.0": (5, 3, 2, 4),
        "dense3": (5, 3, 2, 11),
        "features": (5, 3, 2, 11),
        "pool": (5, 11),
        "classifier": (5, 3),
    }


def test_a_block_is_the_concatenation_of_its_layers():
    variables, x = random_variables(SMALL), uniform((2, 8, 8, 3))
    tap = jax.jit(lambda layer: SMALL.apply(variables, x, layer=layer), static_argnums=0)
    parts = [tap("transition1"), tap("dense2.0"), tap("dense2.1")]
    np.testing.assert_allclose(np.concatenate(parts, -1), tap("dense2"), rtol=1e-5)


def concatenated(x, layers):
    """A dense block by its definition."""
    for layer in layers:
        inner = jax.nn.relu(jax.nn.relu(x * layer.gain + layer.offset) @ layer.squeeze + layer.bias)
        new = lax.conv_general_dilated(inner, layer.kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jnp.concatenate([x, new], -1)
    return x


def random_layers(channels, growth, depth, dtype=np.float64):
    rng = np.random.default_rng(1)
    shapes = [
        FoldedLayer((width,), (width,), (width, 2 * growth), (2 * growth,), (3, 3, 2 * growth, growth))
        for width in range(channels, channels + depth * growth, growth)
    ]
    return [FoldedLayer(*(jnp.asarray(rng.normal(size=shape), dtype) for shape in layer)) for layer in shapes]


@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4)),
    growth=st.integers(1, 3),
    depth=st.integers(1, 3),
)
@settings(max_examples=5)
def test_dense_block_and_its_gradients_are_the_automatic_ones(shape, growth, depth):
    """With respect to the input and to the weights."""
    with jax.enable_x64(True):
        x, layers = uniform(shape, np.float64), random_layers(shape[-1], growth, depth)

        @partial(jax.jit, static_argnums=0)
        def value_and_gradients(block, x, layers):
            out, pull = jax.vjp(block, x, layers)
            return out, pull(jnp.sin(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape))

        ours, theirs = (value_and_gradients(block, x, layers) for block in (dense_block, concatenated))
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10), ours, theirs)


def test_gradients_of_the_rounded_dense_block(x64):
    """Those of the automatic derivative: of the input alone, with which the weights' is not traced, and of a weight."""
    x, layers, widths = uniform((1, 4, 3, 2), np.float64), random_layers(2, 2, 2), (0.3, 0.2, 0.5, 0.1)

    def loss(block, x, kernel):
        return jnp.sin(block(widths, x, [layers[0]._replace(kernel=kernel), layers[1]])).sum()

    def automatic(widths, x, layers):
        return densenet._grow_rounded(widths, x, layers)[0]

    for argument in (0, 1):
        ours, theirs = (
            jax.jit(jax.grad(partial(loss, block), argument))(x, layers[0].kernel)
            for block in (densenet.rounded_dense_block, automatic)
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_rows_of_the_jacobian_of_a_dense_block(x64):
    x, layers = uniform((1, 3, 4, 2), np.float64), random_layers(2, 2, 3)
    ours, theirs = (
        jax.jit(jax.jacrev(lambda x, f=f: f(x, layers).sum((0, 1, 2))))(x) for f in (dense_block, concatenated)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_a_dense_block_saves_memory():
    """Its purpose: a growing concatenation is a new array for each layer."""
    x, layers = uniform((2, 16, 16, 8)), random_layers(8, 4, 8, np.float32)

    def temporary_bytes(block):
        gradient = jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(block(x, layers)))), compiler_options=FAST)
        return gradient.lower(x).compile().memory_analysis().temp_size_in_bytes

    assert temporary_bytes(dense_block) < 0.6 * temporary_bytes(concatenated)


def test_training_and_evaluation_are_the_same_layers(x64):
    """With the batch's own moments as the running ones, the two ways to compute a network agree.

    So the running moments are those of the batch, too: from zero, a step takes a tenth of them.
    """
    model = DenseNet(blocks=(2, 1), growth=3, classes=3)
    variables = jax.tree.map(lambda leaf: leaf.astype(np.float64), random_variables(model))
    x = uniform((3, 6, 6, 3), np.float64)
    nothing = {"params": variables["params"], "batch_stats": jax.tree.map(jnp.zeros_like, variables["batch_stats"])}
    trained, updated = jax.jit(lambda v: model.apply(v, x, train=True, mutable=["batch_stats"]))(nothing)

    def of_the_batch(path, running):
        count = 3 * (36 if path[0].key.startswith(("dense1", "transition1")) else 9)
        return 10 * running * ((count - 1) / count if path[-1].key == "var" else 1)

    statistics = jax.tree.map_with_path(of_the_batch, updated["batch_stats"])
    scores = jax.jit(model.apply)({"params": variables["params"], "batch_stats": statistics}, x)
    np.testing.assert_allclose(scores, trained, rtol=1e-9)
    assert not np.allclose(trained, jax.jit(model.apply)(variables, x), rtol=1e-2)


@pytest.mark.parametrize("layer", ["dense4", "dense1.1", "softmax", "", "Stem"])
def test_no_such_layer(layer):
    variables = jax.eval_shape(SMALL.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    with pytest.raises(ValueError, match=r"layer must be one of stem, dense1\.0, .*classifier, got '" + layer):
        jax.eval_shape(lambda v: SMALL.apply(v, jnp.zeros((1, 8, 8, 3)), layer=layer), variables)


@pytest.mark.usefixtures("unchecked")
def test_no_such_pool():
    with pytest.raises(ValueError, match="pool must be one of max, average, got 'mean'"):
        jax.eval_shape(DenseNet(pool="mean").init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_images_are_standardized():
    """An image of CIFAR-10's mean colour is zero to the network; one standard deviation more is one."""
    model = DenseNet(blocks=(1,), growth=4)
    variables = random_variables(model)
    kernel = np.asarray(variables["params"]["stem"]["kernel"])

    def tap(colour):
        image = jnp.broadcast_to(jnp.asarray(colour, jnp.float32), (1, 3, 3, 3))
        return model.apply(variables, image, layer="stem")

    np.testing.assert_allclose(tap(CHANNEL_MEAN), 0, atol=1e-5)
    centre = tap(np.add(CHANNEL_MEAN, CHANNEL_STD))[0, 1, 1]
    np.testing.assert_allclose(centre, kernel.sum((0, 1, 2)), rtol=1e-5)


def test_float64_stays_float64(x64):
    variables = jax.tree.map(lambda leaf: leaf.astype(np.float64), random_variables(SMALL))
    x = uniform((2, 8, 8, 3), np.float64)
    scores = jax.jit(SMALL.apply)(variables, x)
    assert scores.dtype == np.float64
    single = jax.tree.map(lambda leaf: leaf.astype(np.float32), (variables, x))
    rounded = jax.jit(SMALL.apply)(*single)
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded, scores, rtol=1e-4)
    assert np.any(np.asarray(scores) != np.asarray(scores, np.float32))


def test_gradient_against_finite_differences(x64):
    model = DenseNet(blocks=(1, 1), growth=2, classes=3, pool="max")
    variables = jax.tree.map(lambda leaf: leaf.astype(np.float64), random_variables(model, size=4))
    x, direction = uniform((1, 4, 4, 3), np.float64), uniform((1, 4, 4, 3), np.float64, seed=1) - 0.5
    score = jax.jit(lambda x: model.apply(variables, x)[0, 1])
    step = 1e-7  # short: max pooling and ReLU have kinks
    difference = (score(x + step * direction) - score(x - step * direction)) / (2 * step)
    np.testing.assert_allclose(jnp.sum(jax.jit(jax.grad(score))(x) * direction), difference, rtol=1e-6)
    assert abs(difference) > 1e-3


# Training mode.


def test_old_moments_keep_nine_tenths():
    model = DenseNet(blocks=(1,), growth=2, classes=3)
    variables, x = random_variables(model), uniform((3, 4, 4, 3))
    step = jax.jit(lambda v: model.apply(v, x, train=True, mutable=["batch_stats"])[1]["batch_stats"])
    nothing = {"params": variables["params"], "batch_stats": jax.tree.map(jnp.zeros_like, variables["batch_stats"])}
    jax.tree.map(
        lambda new, old, added: np.testing.assert_allclose(new, 0.9 * old + added, rtol=1e-5),
        step(variables), variables["batch_stats"], step(nothing),
    )  # fmt: skip


def test_evaluation_changes_no_statistics():
    variables = random_variables(SMALL)
    _, updated = jax.jit(lambda x: SMALL.apply(variables, x, mutable=["batch_stats"]))(uniform((2, 8, 8, 3)))
    jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], variables["batch_stats"])


def test_a_fresh_classifier_is_zero():
    model = DenseNet(blocks=(1,), growth=2)
    variables = jax.jit(model.init)(jax.random.key(0, impl="rbg"), jnp.zeros((1, 4, 4, 3)))
    assert not np.any(variables["params"]["classifier"]["kernel"])
    assert not np.any(variables["params"]["classifier"]["bias"])
    assert np.all(np.std(variables["params"]["stem"]["kernel"], (0, 1, 2)) > 0)


@given(
    blocks=st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple),
    growth=st.integers(1, 6),
    reduction=st.sampled_from([0.5, 1.0]),
)
@settings(max_examples=4)
def test_channels_of_any_architecture(blocks, growth, reduction):
    model = DenseNet(blocks=blocks, growth=growth, reduction=reduction, classes=5)
    x = jnp.zeros((1, 16, 16, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    assert flatten_dict(jax.tree.map(jnp.shape, variables), sep="/") == variable_shapes(model)
    channels = 2 * growth
    for block, depth in enumerate(blocks):
        channels += depth * growth
        if block + 1 < len(blocks):
            channels = int(channels * reduction)
    pooled = jax.eval_shape(lambda v: model.apply(v, x, layer="pool"), variables)
    assert pooled.shape == (1, channels)
    assert jax.eval_shape(lambda v: model.apply(v, x), variables).shape == (1, 5)
