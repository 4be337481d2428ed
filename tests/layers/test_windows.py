from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.arrays import normal

from jifv._layers import windows
from jifv._layers.windows import local_response_norm, max_pool, max_pool_ceil

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
        x = normal((2, height, width, 2))
        x = jnp.round(x) if ties else x
        for one, other in zip(our_pool(x, *pool), torch_pool(x, *pool), strict=True):
            assert one.shape == other.shape
            np.testing.assert_array_equal(one, other)


@given(height=st.integers(2, 9), width=st.integers(2, 9), pool=st.sampled_from(CEIL_POOLS[:3]))
@settings(max_examples=10)
def test_ceil_pool_is_the_maximum_of_its_windows(height, width, pool):
    window, stride, padding = pool
    batch, x = 2, np.asarray(normal((2, height, width, 2)))
    rows, columns = (-(-(side + 2 * padding - window) // stride) + 1 for side in (height, width))
    expected = np.zeros((batch, rows, columns, 2), np.float32)
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride - padding, column * stride - padding
            part = x[:, max(top, 0) : top + window, max(left, 0) : left + window]
            expected[:, row, column] = part.max((1, 2))
    np.testing.assert_array_equal(pooled(jnp.asarray(x), *pool), expected)


def test_ceil_pool_under_jit_and_vmap():
    x = normal((3, 5, 6, 2))
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
    x = jnp.maximum(normal((2, 7, 8, 3)), 0)
    out, gradient = our_pool(x, *pool)
    assert jnp.sum(gradient) == out.size * (out.size + 1) // 2


def test_ceil_pool_passes_on_what_is_not_a_number():
    x = normal((1, 4, 4, 1)).at[0, 1, 1, 0].set(jnp.nan)
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


FLOOR_POOLS = [((3, 3), (2, 2), (1, 1)), ((2, 2), (2, 2), (0, 0)), ((3, 2), (2, 1), (0, 1)), ((5, 1), (1, 1), (2, 0))]
"""ResNet's first; the others leave entries behind the last window, or differ from side to side."""


@pytest.mark.parametrize("pool", FLOOR_POOLS)
def test_pool_without_windows_over_the_edge_against_torch(pool):
    torch = pytest.importorskip("torch")
    x = jnp.round(normal((2, 8, 9, 2)))
    image = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2)).requires_grad_(True)
    expected = torch.nn.functional.max_pool2d(image, *pool).permute(0, 2, 3, 1)
    expected.mul(torch.arange(1.0, expected.numel() + 1).reshape(expected.shape)).sum().backward()
    out, pull = jax.vjp(lambda x: max_pool(x, *pool), x)
    np.testing.assert_array_equal(out, expected.detach())
    gradient = jax.jit(pull)(jnp.arange(1.0, out.size + 1).reshape(out.shape))[0]
    np.testing.assert_array_equal(gradient, image.grad.permute(0, 2, 3, 1))


def test_pool_refuses_what_no_window_fits_into():
    with pytest.raises(ValueError, match=r"x must have sides of at least 3 for this window and stride, got \(2, 8\)"):
        max_pool(jnp.zeros((1, 2, 8, 1)), (3, 3), (2, 2), (0, 0))


# Rounded kinks.


@partial(jax.jit, static_argnums=(2, 3, 4))
def rounded(width, x, window, stride, padding):
    return windows._smooth_max_pool(width, x, (window,) * 2, (stride,) * 2, (padding,) * 2, True)


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


# Local response normalization.


@given(window=st.sampled_from([1, 3, 5, 7]), channels=st.sampled_from([1, 4, 9]), alpha=st.floats(1e-4, 3))
@settings(max_examples=10)
def test_response_norm_is_its_formula(window, channels, alpha):
    """Also where the window is wider than there are channels."""
    x = 3 * np.asarray(normal((2, 3, 2, channels)), np.float64)
    expected = np.zeros_like(x)
    for channel in range(channels):
        neighbours = x[..., max(channel - window // 2, 0) : channel + window // 2 + 1]
        expected[..., channel] = x[..., channel] / (2 + alpha / window * np.sum(neighbours**2, -1)) ** 0.75
    ours = local_response_norm(jnp.asarray(x, np.float32), window, alpha, 2.0)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha", [1e-4, 0.5])
def test_response_norm_and_its_gradient_against_torch(x64, alpha):
    torch = pytest.importorskip("torch")
    x, weight = 100 * normal((2, 3, 4, 7), np.float64), normal((2, 3, 4, 7), np.float64, seed=1)

    @jax.jit
    def ours(x):
        out, pull = jax.vjp(partial(local_response_norm, alpha=alpha), x)
        return out, pull(weight)[0]

    image = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2)).requires_grad_(True)
    out = torch.nn.LocalResponseNorm(5, alpha=alpha, beta=0.75, k=1)(image)
    out.backward(torch.tensor(np.asarray(weight).transpose(0, 3, 1, 2)))
    theirs = (tensor.detach().permute(0, 2, 3, 1).numpy() for tensor in (out, image.grad))
    for one, other in zip(ours(x), theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12 * np.abs(other).max())
    assert np.abs(np.asarray(ours(x)[0]) / x - 1).max() > 0.01  # it does something


def test_response_norm_in_place_and_under_vmap():
    x = 50 * normal((3, 2, 2, 6))
    single = jax.vmap(lambda image: local_response_norm(image[None])[0])
    np.testing.assert_allclose(single(x), jax.jit(local_response_norm)(x), rtol=1e-6)
    np.testing.assert_array_equal(local_response_norm(jnp.zeros((1, 1, 1, 4))), 0)


def test_response_norm_refuses_an_even_window():
    with pytest.raises(ValueError, match="window must be odd, got 4"):
        local_response_norm(jnp.zeros((1, 2, 2, 4)), 4)
