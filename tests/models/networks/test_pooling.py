from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jifv.models.networks import layers
from jifv.models.networks.layers import average_pool, max_pool, max_pool_ceil, smooth_relu


def draw(shape, dtype=np.float32, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


@given(batch=st.integers(1, 3), height=st.integers(2, 9), width=st.integers(2, 9), channels=st.integers(1, 3))
@settings(max_examples=4)
def test_pooling_drops_an_odd_row_or_column(batch, height, width, channels):
    x = draw((batch, height, width, channels))
    rows, columns = height // 2, width // 2
    largest, mean = np.zeros((2, batch, rows, columns, channels), np.float32)
    for row in range(rows):
        for column in range(columns):
            window = np.asarray(x)[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            largest[:, row, column], mean[:, row, column] = window.max((1, 2)), window.mean((1, 2))
    np.testing.assert_array_equal(max_pool(x), largest)
    np.testing.assert_allclose(average_pool(x), mean, atol=1e-6)


@pytest.mark.parametrize("pool", [max_pool, average_pool])
def test_gradient_of_pooling(pool):
    """A maximum hands its gradient to one entry, a mean a quarter to each of four."""
    x = jnp.asarray(np.random.default_rng(0).permutation(36), jnp.float32).reshape(1, 6, 6, 1)
    gradient = np.asarray(jax.grad(lambda x: jnp.sum(pool(x)))(x))
    np.testing.assert_array_equal(np.unique(gradient), [0, 1] if pool is max_pool else [0.25])
    assert gradient.sum() == 9


CEIL_POOLS = [(3, 2, 0), (3, 1, 1), (2, 2, 0), (2, 2, 1), (3, 2, 1), (3, 3, 0), (5, 2, 2), (4, 3, 1), (1, 1, 0)]
"""Window, stride and padding: those of GoogLeNet first."""


def torch_pool(x, window, stride, padding):
    """Value and gradient in PyTorch, with weights that differ from entry to entry."""
    import torch

    image = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2)).requires_grad_(True)
    out = torch.nn.functional.max_pool2d(image, window, stride, padding, ceil_mode=True).permute(0, 2, 3, 1)
    weights = torch.arange(1.0, out.numel() + 1).reshape(out.shape)
    (out * weights).sum().backward()
    return out.detach().numpy(), image.grad.permute(0, 2, 3, 1).numpy()


@partial(jax.jit, static_argnums=(1, 2, 3))
def our_pool(x, window, stride, padding):
    out, pull = jax.vjp(lambda x: max_pool_ceil(x, window, stride, padding), x)
    return out, pull(jnp.arange(1.0, out.size + 1).reshape(out.shape))[0]


pooled = jax.jit(max_pool_ceil, static_argnums=(1, 2, 3))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("pool", CEIL_POOLS)
def test_ceil_pool_against_torch(pool, ties):
    """Even and odd sizes; among equal entries the same one gets the gradient, all of it."""
    pytest.importorskip("torch")
    smallest = max(pool[0] - 2 * pool[2], 1)  # below, PyTorch may have no window
    for height, width in [(smallest, 6), (7, 8)]:
        x = draw((2, height, width, 2))
        x = jnp.round(x) if ties else x
        for one, other in zip(our_pool(x, *pool), torch_pool(x, *pool), strict=True):
            assert one.shape == other.shape
            np.testing.assert_array_equal(one, other)


@given(height=st.integers(2, 9), width=st.integers(2, 9), pool=st.sampled_from(CEIL_POOLS[:3]))
@settings(max_examples=10)
def test_ceil_pool_is_the_maximum_of_its_windows(height, width, pool):
    window, stride, padding = pool
    batch, x = 2, np.asarray(draw((2, height, width, 2)))
    rows, columns = (-(-(side + 2 * padding - window) // stride) + 1 for side in (height, width))
    expected = np.zeros((batch, rows, columns, 2), np.float32)
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride - padding, column * stride - padding
            part = x[:, max(top, 0) : top + window, max(left, 0) : left + window]
            expected[:, row, column] = part.max((1, 2))
    np.testing.assert_array_equal(pooled(jnp.asarray(x), *pool), expected)


def test_ceil_pool_under_jit_and_vmap():
    x = draw((3, 5, 6, 2))
    out, gradient = our_pool(x, 3, 2, 0)
    np.testing.assert_array_equal(max_pool_ceil(x), out)

    @jax.jit
    def one_by_one(x):
        single, pull = jax.vjp(jax.vmap(lambda image: max_pool_ceil(image[None])[0]), x)
        every = jax.vmap(jax.vjp(max_pool_ceil, x)[1])(jnp.eye(out.size).reshape(out.size, *out.shape))[0]
        return single, pull(jnp.arange(1.0, out.size + 1).reshape(out.shape))[0], every

    single, pulled, rows = one_by_one(x)
    np.testing.assert_array_equal(single, out)
    np.testing.assert_array_equal(pulled, gradient)
    np.testing.assert_allclose(jnp.tensordot(jnp.arange(1.0, out.size + 1), rows, 1), gradient)


@pytest.mark.parametrize("pool", CEIL_POOLS[:4])
def test_ceil_pool_loses_no_gradient(pool):
    """Whatever is equal: a ReLU before the pool leaves many zeros."""
    x = jnp.maximum(draw((2, 7, 8, 3)), 0)
    out, gradient = our_pool(x, *pool)
    assert jnp.sum(gradient) == out.size * (out.size + 1) // 2


def test_ceil_pool_passes_on_what_is_not_a_number():
    x = draw((1, 4, 4, 1)).at[0, 1, 1, 0].set(jnp.nan)
    assert np.isnan(max_pool_ceil(x)).sum() == 1


@pytest.mark.parametrize(
    ("pool", "size", "message"),
    [
        ((3, 4, 0), 8, "stride must be between 1 and the window, 3, got 4"),
        ((3, 0, 0), 8, "stride must be between 1 and the window, 3, got 0"),
        ((3, 2, 2), 8, "padding must be between 0 and half of the window, 3, got 2"),
        ((3, 2, -1), 8, "padding must be between 0 and half of the window, 3, got -1"),
        ((3, 2, 0), 1, r"x must have sides of at least 2 for this window and stride, got \(1, 8\)"),
    ],
)
def test_ceil_pool_refuses(pool, size, message):
    with pytest.raises(ValueError, match=message):
        max_pool_ceil(jnp.zeros((1, size, 8, 1)), *pool)


# Rounded kinks.

rounded = jax.jit(layers._smooth_max_pool_ceil, static_argnums=(2, 3, 4))


@pytest.mark.parametrize("width", [0.1, 2.0])
def test_smooth_relu_by_pieces(width):
    x = np.linspace(-3, 5, 81)
    expected = np.where(x <= 0, 0, np.where(x <= width, x**2 / (2 * width), x - width / 2))
    value_and_slope = jax.jit(jax.vmap(jax.value_and_grad(lambda x: smooth_relu(x, width))))
    value, slope = value_and_slope(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(value, expected, atol=1e-6)
    np.testing.assert_allclose(slope, np.clip(x / width, 0, 1), atol=1e-6)


@pytest.mark.parametrize(("window", "stride", "padding"), [(3, 2, 0), (3, 1, 1), (2, 2, 0)])
@pytest.mark.parametrize("smoothing", [0.05, 3.0])
def test_the_rounded_ceil_pool_is_the_reference(window, stride, padding, smoothing):
    """The twin that `jifv.smooth` takes."""
    x = np.random.default_rng(1).normal(size=(2, 7, 8, 3))
    sharp = pooled(jnp.asarray(x, jnp.float32), window, stride, padding)
    found = rounded(smoothing, jnp.asarray(x, jnp.float32), window, stride, padding)
    expected = np.zeros(sharp.shape)
    for row, column in np.ndindex(sharp.shape[1:3]):
        top, left = row * stride - padding, column * stride - padding
        part = x[:, max(top, 0) : top + window, max(left, 0) : left + window]
        expected[:, row, column] = smoothing * np.log(np.exp(part / smoothing).mean((1, 2)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found < sharp + 1e-6).all()


def test_the_rounded_ceil_pool_of_large_numbers_is_finite():
    x = 1e4 * jnp.asarray(np.random.default_rng(2).normal(size=(2, 7, 8, 3)), jnp.float32)
    np.testing.assert_allclose(rounded(1e-3, x, 3, 2, 0), pooled(x, 3, 2, 0), rtol=1e-5)
    assert np.isfinite(jax.jit(jax.grad(lambda x: rounded(1e-3, x, 3, 2, 0).sum()))(x)).all()
