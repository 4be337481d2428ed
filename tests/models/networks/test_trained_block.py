"""The block of training against its definition, differentiated automatically."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from support.arrays import uniform

from jifv.models.networks import trained_block
from jifv.models.networks.layers import moments
from jifv.models.networks.trained_block import TrainedLayer, trained_dense_block


def defined(x, _, layers):
    """Return the block by its definition, with moments computed anew for every normalization."""
    inner = []

    def normalize(x, scale, bias):
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + bias

    for layer in layers:
        squeezed = jax.nn.relu(normalize(x, layer.scale, layer.bias)) @ layer.squeeze
        inner.append((squeezed.mean((0, 1, 2)), squeezed.var((0, 1, 2))))
        hidden = jax.nn.relu(normalize(squeezed, layer.inner_scale, layer.inner_bias))
        new = lax.conv_general_dilated(hidden, layer.kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jnp.concatenate([x, new], -1)
    return x, (x.mean((0, 1, 2)), x.var((0, 1, 2))), inner


def random_layers(channels, growth, depth):
    rng = np.random.default_rng(1)
    shapes = [
        TrainedLayer((width,), (width,), (width, 2 * growth), (2 * growth,), (2 * growth,), (3, 3, 2 * growth, growth))
        for width in range(channels, channels + depth * growth, growth)
    ]
    return [TrainedLayer(*(jnp.asarray(rng.normal(size=shape)) for shape in layer)) for layer in shapes]


@partial(jax.jit, static_argnums=0)
def value_and_gradients(block, x, layers):
    """The gradient of a function of all channels and of their moments, but not of those within the layers."""

    def loss(x, layers):
        *out, inner = block(x, moments(x), layers)
        weights = jax.tree.map(lambda leaf: jnp.sin(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), out)
        return sum(jnp.sum(a * b) for a, b in zip(*map(jax.tree.leaves, (out, weights)), strict=True)), (out, inner)

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(x, layers)


@given(
    shape=st.tuples(st.integers(2, 4), st.integers(1, 4), st.integers(2, 4), st.integers(1, 4)),
    growth=st.integers(1, 3),
    depth=st.integers(1, 3),
    positions=st.sampled_from((1, 30, 1000)),
)
@settings(max_examples=5)
def test_values_moments_and_gradients(shape, growth, depth, positions):
    """In parts of an image, of several, and all at once."""
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained_block, "_POSITIONS", positions)
        x, layers = uniform(shape, np.float64), random_layers(shape[-1], growth, depth)
        ours, theirs = (
            value_and_gradients(block, x, layers) for block in (lambda *a: trained_dense_block(*a), defined)
        )
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8), ours, theirs)


@pytest.mark.parametrize(("batch", "positions", "parts"), [(6, 1, 6), (6, 16, 6), (6, 33, 3), (6, 48, 2), (7, 96, 7)])
def test_parts(monkeypatch, batch, positions, parts):
    """As many images as there is room for, as long as they divide the batch."""
    monkeypatch.setattr(trained_block, "_POSITIONS", positions)
    x = uniform((batch, 4, 4, 2))
    split = trained_block._in_parts(x)
    assert split.shape == (parts, batch // parts, 4, 4, 2)
    np.testing.assert_array_equal(split.reshape(x.shape), x)


def test_several_devices_share_the_batch(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert trained_block._in_parts(jnp.zeros((64, 32, 32, 3))).shape == (1, 64, 32, 32, 3)
