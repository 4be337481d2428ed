import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.arrays import normal

from jifv.models.networks.layers import average_pool, max_pool, smooth_relu


@given(batch=st.integers(1, 3), height=st.integers(2, 9), width=st.integers(2, 9), channels=st.integers(1, 3))
@settings(max_examples=4)
def test_pooling_drops_an_odd_row_or_column(batch, height, width, channels):
    x = normal((batch, height, width, channels))
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


@pytest.mark.parametrize("width", [0.1, 2.0])
def test_smooth_relu_by_pieces(width):
    x = np.linspace(-3, 5, 81)
    expected = np.where(x <= 0, 0, np.where(x <= width, x**2 / (2 * width), x - width / 2))
    value_and_slope = jax.jit(jax.vmap(jax.value_and_grad(lambda x: smooth_relu(x, width))))
    value, slope = value_and_slope(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(value, expected, atol=1e-6)
    np.testing.assert_allclose(slope, np.clip(x / width, 0, 1), atol=1e-6)
