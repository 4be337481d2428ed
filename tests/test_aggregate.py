import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jifv import aggregate

DTYPES = st.sampled_from([np.float32, np.float64])


@st.composite
def layers(draw):
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4)))
    return draw(hnp.arrays(draw(DTYPES), shape, elements=st.floats(-100, 100, width=32)))


def reference_max_mean(a, window, stride):
    windows = np.lib.stride_tricks.sliding_window_view(a.astype(np.float64), (window, window), axis=(0, 1))
    return windows[::stride, ::stride].max((-2, -1)).mean((0, 1))


@given(layers(), st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=25)
def test_max_mean_is_the_reference(a, window, stride):
    assume(min(a.shape[:2]) >= window)
    with jax.enable_x64(a.dtype == np.float64):
        result = jax.jit(aggregate.max_mean(window, stride))(jnp.asarray(a))
    assert result.dtype == a.dtype
    np.testing.assert_allclose(result, reference_max_mean(a, window, stride), rtol=1e-5, atol=1e-4)


@given(layers())
@settings(max_examples=20)
def test_mean_and_pick_are_the_reference(a):
    with jax.enable_x64(a.dtype == np.float64):
        mean, pick = aggregate.mean(jnp.asarray(a)), aggregate.pick(jnp.asarray(a))
    assert mean.dtype == pick.dtype == a.dtype
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
def test_jit_vmap_and_grad(aggregation):
    a = jax.random.normal(jax.random.key(1), (3, 5, 6, 4))
    single = jnp.stack([aggregation(x) for x in a])
    np.testing.assert_allclose(jax.jit(jax.vmap(aggregation))(a), single, rtol=1e-5, atol=1e-6)
    jacobian = jax.jit(jax.jacrev(aggregation))(a[0])
    # All these are positively homogeneous, so that J a = A(a).
    np.testing.assert_allclose(jnp.tensordot(jacobian, a[0], 3), single[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 4, 4, 5), (0, 4, 5), (4, 4, 0)])
@pytest.mark.parametrize("aggregation", [aggregate.max_mean(), aggregate.mean, aggregate.pick])
def test_wrong_shapes(unchecked, aggregation, shape):
    with pytest.raises(ValueError, match=r"activations must have shape \(h, w, n\)"):
        jax.jit(aggregation)(jnp.zeros(shape))


@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (2, 2, 3)])
def test_identity_rejects_positions(unchecked, shape):
    with pytest.raises(ValueError, match=r"activations must have shape \(n,\)"):
        jax.jit(aggregate.identity)(jnp.zeros(shape))


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


@given(layers(), st.integers(1, 4), st.integers(1, 3), st.floats(0.01, 100))
@settings(max_examples=25)
def test_smooth_max_mean_is_the_reference(a, window, stride, smoothing):
    assume(min(a.shape[:2]) >= window)
    with jax.enable_x64(True):
        found = aggregate._smooth_pool(smoothing, jnp.asarray(a, jnp.float64), window, stride).mean((0, 1))
    windows = np.lib.stride_tricks.sliding_window_view(a.astype(np.float64), (window, window), axis=(0, 1))
    windows = windows[::stride, ::stride]
    peak = windows.max((-2, -1))
    smooth = peak + smoothing * np.log(np.exp((windows - peak[..., None, None]) / smoothing).mean((-2, -1)))
    np.testing.assert_allclose(found, smooth.mean((0, 1)), rtol=1e-9, atol=1e-9)


def test_smooth_maximum_lies_between_mean_and_maximum():
    a = jnp.asarray(np.random.default_rng(0).normal(size=(7, 7, 4)), jnp.float32)
    values = [aggregate.max_mean()(a)]
    values += [aggregate._smooth_pool(width, a, 3, 2).mean((0, 1)) for width in (1e-3, 0.1, 1.0, 1e4)]
    for sharper, smoother in itertools.pairwise(values):
        assert (sharper > smoother).all()
    np.testing.assert_allclose(values[1], values[0], atol=3e-3)
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(a), (3, 3), axis=(0, 1))[::2, ::2]
    np.testing.assert_allclose(values[-1], windows.mean((-2, -1)).mean((0, 1)), atol=2e-3)


def test_smooth_maximum_of_equal_entries_is_the_entry():
    np.testing.assert_allclose(aggregate._smooth_pool(0.5, jnp.full((5, 5, 2), 3.0), 3, 2), 3, rtol=1e-6)
