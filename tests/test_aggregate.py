import itertools
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jifv import aggregate

# Shape, window, stride and type: a program each, for any number of examples.
POOLS = [
    ((6, 6, 3), 3, 2, np.float32),
    ((5, 4, 2), 2, 1, np.float64),
    ((4, 6, 1), 4, 3, np.float32),
    ((1, 3, 2), 1, 1, np.float64),
]


@cache
def compiled(function):
    return jax.jit(function)


pooling = {(window, stride): aggregate.max_mean(window, stride) for _, window, stride, _ in POOLS}


def layers(shape, dtype):
    return hnp.arrays(dtype, shape, elements=st.floats(-100, 100, width=32))


def windows_of(a, window, stride):
    return np.lib.stride_tricks.sliding_window_view(a.astype(np.float64), (window, window), axis=(0, 1))[
        ::stride, ::stride
    ]


@pytest.mark.parametrize(("shape", "window", "stride", "dtype"), POOLS)
@given(st.data())
@settings(max_examples=7)
def test_max_mean_is_the_reference(shape, window, stride, dtype, data):
    a = data.draw(layers(shape, dtype))
    with jax.enable_x64(dtype == np.float64):
        result = compiled(pooling[window, stride])(jnp.asarray(a))
    assert result.dtype == dtype
    np.testing.assert_allclose(result, windows_of(a, window, stride).max((-2, -1)).mean((0, 1)), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((6, 5, 3), np.float32), ((1, 4, 2), np.float64), ((3, 2, 1), np.float32)]
)
@given(st.data())
@settings(max_examples=7)
def test_mean_and_pick_are_the_reference(shape, dtype, data):
    a = data.draw(layers(shape, dtype))
    with jax.enable_x64(dtype == np.float64):
        mean, pick = compiled(aggregate.mean)(jnp.asarray(a)), compiled(aggregate.pick)(jnp.asarray(a))
    assert mean.dtype == pick.dtype == dtype
    np.testing.assert_allclose(mean, a.astype(np.float64).mean((0, 1)), rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(pick, a[a.shape[0] // 2, a.shape[1] // 2])


def test_max_mean_by_hand():
    a = jnp.arange(36.0).reshape(6, 6, 1)  # windows start at 0 and 2 only: maxima 14, 16, 26, 28
    assert aggregate.max_mean()(a) == jnp.asarray([21.0])


def test_max_mean_gradient_goes_to_each_maximum():
    a = jnp.arange(36.0).reshape(6, 6, 1)
    gradient = jax.grad(lambda a: aggregate.max_mean()(a)[0])(a)[..., 0]
    expected = np.zeros((6, 6))
    expected[np.ix_([2, 4], [2, 4])] = 1 / 4
    np.testing.assert_array_equal(gradient, expected)


def test_identity_changes_nothing():
    a = jnp.asarray([1.0, -2.0, 3.0])
    np.testing.assert_array_equal(aggregate.identity(a), a)


@pytest.mark.parametrize(
    "aggregation", [aggregate.max_mean(), aggregate.max_mean(2, 1), aggregate.mean, aggregate.pick]
)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_first_is_a_slice_of_all_features(aggregation, count):
    a = jax.random.normal(jax.random.key(0), (4, 5, 5))
    np.testing.assert_allclose(aggregate.first(count, aggregation)(a), aggregation(a)[:count], rtol=1e-5)


def test_first_without_positions():
    np.testing.assert_array_equal(aggregate.first(2, aggregate.identity)(jnp.arange(3.0)), [0, 1])


@pytest.mark.parametrize(
    "aggregation",
    [aggregate.max_mean(), aggregate.mean, aggregate.pick, aggregate.first(2, aggregate.max_mean())],
)
def test_gradients_are_those_of_homogeneous_functions(aggregation):
    """All these are positively homogeneous, so that J a = A(a)."""
    a = jax.random.normal(jax.random.key(1), (5, 6, 4))
    jacobian = jax.jit(jax.jacrev(aggregation))(a)
    np.testing.assert_allclose(jnp.tensordot(jacobian, a, 3), aggregation(a), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 5, 3), (5, 2, 3)])
def test_window_larger_than_the_layer(shape):
    with pytest.raises(ValueError, match=r"window must fit the layer, got 3 for \(\d, \d\) positions"):
        jax.jit(aggregate.max_mean(3, 2))(jnp.zeros(shape))


def test_count_larger_than_the_layer(unchecked):
    with pytest.raises(ValueError, match="count must not exceed the features, got 4"):
        jax.jit(aggregate.first(4, aggregate.mean))(jnp.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match="count must not exceed"):
        aggregate.first(1, aggregate.identity)(jnp.zeros(()))


@pytest.mark.parametrize("bad", [0, -2])
def test_nonpositive_counts(bad):
    with pytest.raises(ValueError, match="window must be at least 1"):
        aggregate.max_mean(bad)
    with pytest.raises(ValueError, match="stride must be at least 1"):
        aggregate.max_mean(3, bad)
    with pytest.raises(ValueError, match="count must be at least 1"):
        aggregate.first(bad, aggregate.mean)


def test_fractional_counts(unchecked):
    with pytest.raises(TypeError, match="window must be a positive integer"):
        aggregate.max_mean(2.5)
    with pytest.raises(TypeError, match="stride must be a positive integer"):
        aggregate.max_mean(3, 2.0)
    with pytest.raises(TypeError, match="count must be a positive integer"):
        aggregate.first(1.0, aggregate.mean)


@partial(jax.jit, static_argnums=(2, 3))
def smooth_pool(width, a, window, stride):
    return aggregate._smooth_pool(width, a, window, stride).mean((0, 1))


@pytest.mark.parametrize(("shape", "window", "stride"), [pool[:3] for pool in POOLS])
@given(st.data(), st.floats(0.01, 100))
@settings(max_examples=7)
def test_smooth_max_mean_is_the_reference(x64, shape, window, stride, data, smoothing):
    a = data.draw(layers(shape, np.float64))
    found = smooth_pool(smoothing, jnp.asarray(a), window, stride)
    windows = windows_of(a, window, stride)
    peak = windows.max((-2, -1))
    smooth = peak + smoothing * np.log(np.exp((windows - peak[..., None, None]) / smoothing).mean((-2, -1)))
    np.testing.assert_allclose(found, smooth.mean((0, 1)), rtol=1e-9, atol=1e-9)


def test_smooth_maximum_lies_between_mean_and_maximum():
    a = jnp.asarray(np.random.default_rng(0).normal(size=(7, 7, 4)), jnp.float32)
    values = [aggregate.max_mean()(a)]
    values += [smooth_pool(width, a, 3, 2) for width in (1e-3, 0.1, 1.0, 1e4)]
    for sharper, smoother in itertools.pairwise(values):
        assert (sharper > smoother).all()
    np.testing.assert_allclose(values[1], values[0], atol=3e-3)
    windows = windows_of(np.asarray(a), 3, 2)
    np.testing.assert_allclose(values[-1], windows.mean((-2, -1)).mean((0, 1)), atol=2e-3)


def test_smooth_maximum_of_equal_entries_is_the_entry():
    np.testing.assert_allclose(smooth_pool(0.5, jnp.full((7, 7, 4), 3.0), 3, 2), 3, rtol=1e-6)
