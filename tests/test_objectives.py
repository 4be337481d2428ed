import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from jifv import objectives as sample


def reference_sparseness(v):
    v = np.asarray(v, np.float64)
    root = np.sqrt(v.shape[-1])
    return (root - np.abs(v).sum(-1) / np.sqrt((v**2).sum(-1))) / (root - 1)


def reference_project(x, sparseness):
    """Hoyer (2004), the iteration as published, in float64."""
    n = len(x)
    norm1 = np.sqrt(n) - sparseness * (np.sqrt(n) - 1)
    zero = np.zeros(n, bool)
    v = np.asarray(x, np.float64)
    v = v + (norm1 - v.sum()) / n
    while True:
        middle = np.where(zero, 0, norm1 / (n - zero.sum()))
        w = v - middle
        a, b, c = w @ w, 2 * w @ middle, middle @ middle - 1
        v = middle + (-b + np.sqrt(max(b**2 - 4 * a * c, 0))) / (2 * a) * w
        if (v >= 0).all():
            return v
        zero |= v < 0
        v = np.where(zero, 0, v)
        v = np.where(zero, 0, v + (norm1 - v.sum()) / (n - zero.sum()))


@st.composite
def vectors(draw):
    # Few, because every operation is compiled for each.
    dtype, shape = draw(st.sampled_from([(np.float64, (1,)), (np.float64, (6,)), (np.float32, (2, 4))]))
    # Small integers make many ties.
    entries = draw(st.sampled_from([st.integers(-2, 2), st.floats(-1e6, 1e6, width=32)]))
    return draw(hnp.arrays(np.float32, shape, elements=entries.map(np.float32))).astype(dtype)


@pytest.mark.parametrize("n", [2, 342])
def test_sampled_sparseness_is_uniform(n):
    objectives = sample.sparse_objectives(jax.random.key(n), 4000, n)
    assert objectives.shape == (4000, n)
    assert stats.kstest(reference_sparseness(objectives), "uniform").pvalue > 0.01
    np.testing.assert_allclose(np.linalg.norm(objectives, axis=-1), 1, rtol=1e-6)
    assert np.min(objectives) >= 0


def test_every_feature_is_the_largest_equally_often():
    largest = np.argmax(sample.sparse_objectives(jax.random.key(0), 4000, 5), axis=-1)
    assert stats.chisquare(np.bincount(largest, minlength=5)).pvalue > 0.01


def test_one_feature():
    np.testing.assert_array_equal(sample.sparse_objectives(jax.random.key(0), 3, 1), np.ones((3, 1)))
    np.testing.assert_array_equal(sample.project(jnp.asarray([-3.0]), 0.3), [1])
    assert sample.sparseness(jnp.asarray([-3.0])) == 1


def test_samples_depend_on_the_key_alone():
    first = sample.sparse_objectives(jax.random.key(1), 4, 6)
    np.testing.assert_array_equal(first, sample.sparse_objectives(jax.random.key(1), 4, 6))
    assert not np.array_equal(first, sample.sparse_objectives(jax.random.key(2), 4, 6))
    jitted = jax.jit(sample.sparse_objectives, static_argnums=(1, 2))(jax.random.key(1), 4, 6)
    np.testing.assert_allclose(jitted, first, atol=1e-6)


def test_dtypes(x64):
    key = jax.random.key(0)
    assert sample.sparse_objectives(key, 2, 3).dtype == jnp.float64
    assert sample.sparse_objectives(key, 2, 3, dtype=jnp.float32).dtype == jnp.float32
    assert sample.canonical_objectives(jnp.asarray([0]), 3).dtype == jnp.float64
    assert sample.canonical_objectives(jnp.asarray([0]), 3, dtype=jnp.float32).dtype == jnp.float32
    assert sample.project(jnp.ones(3, jnp.float32), jnp.asarray(0.5, jnp.float64)).dtype == jnp.float32


@given(vectors())
@settings(max_examples=30)
def test_sparseness_is_the_reference(v):
    v = np.where(v == 0, 1, v)
    with jax.enable_x64(v.dtype == np.float64):
        result = sample.sparseness(jnp.asarray(v))
    assert result.dtype == v.dtype
    expected = reference_sparseness(v) if v.shape[-1] > 1 else np.ones(v.shape[:-1])
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_sparseness_by_hand():
    v = jnp.asarray([[0.0, -2.0, 0.0, 0.0], [3.0, 3.0, -3.0, 3.0], [1e-30, 1e-30, 0.0, 0.0]])
    np.testing.assert_allclose(sample.sparseness(v), [1, 0, 2 - np.sqrt(2)], rtol=1e-6, atol=1e-6)
    assert np.isnan(sample.sparseness(jnp.zeros(4)))
    assert np.isnan(sample.sparseness(jnp.zeros(1)))


@given(vectors(), st.floats(0, 1) | st.sampled_from([0.0, 1.0]))
@settings(max_examples=30)
def test_project_meets_the_constraints_and_keeps_the_order(v, target):
    with jax.enable_x64(v.dtype == np.float64):
        result = sample.project(jnp.asarray(v), target)
    assert result.dtype == v.dtype
    result = np.asarray(result, np.float64)
    assert result.min() >= 0
    np.testing.assert_allclose(np.linalg.norm(result, axis=-1), 1, rtol=1e-6)
    if v.shape[-1] > 1:
        np.testing.assert_allclose(reference_sparseness(result), target, atol=1e-5)
    order = np.argsort(-v, axis=-1, kind="stable")
    assert (np.diff(np.take_along_axis(result, order, -1), axis=-1) <= 0).all()


@given(st.sampled_from([2, 6, 200]), st.integers(0, 2**32 - 1), st.floats(0.001, 0.999))
@settings(max_examples=30)
def test_project_is_hoyers_iteration(n, seed, target):
    v = np.abs(np.random.default_rng(seed).normal(size=n))
    with jax.enable_x64(True):
        result = sample.project(jnp.asarray(v), target)
    np.testing.assert_allclose(result, reference_project(v, target), atol=1e-7)


@pytest.mark.parametrize("target", [0.05, 0.5, 0.95])
def test_project_is_hoyers_iteration_in_float32(target):
    v = np.abs(np.random.default_rng(0).normal(size=(3, 1000))).astype(np.float32)
    expected = [reference_project(x, target) for x in v]
    np.testing.assert_allclose(sample.project(jnp.asarray(v), target), expected, atol=1e-5)


def test_project_is_the_closest():
    v, others = jax.random.normal(jax.random.key(0), (2, 50, 8))
    target = jnp.linspace(0, 1, 50)
    best = jnp.sum(v * sample.project(v, target), -1)
    assert (best >= jnp.sum(v * sample.project(others, target), -1) - 1e-6).all()
    np.testing.assert_allclose(sample.project(sample.project(v, target), target), sample.project(v, target), atol=1e-3)


def test_project_extremes():
    v = jnp.asarray([1.0, 3.0, 2.0, 0.0])
    np.testing.assert_array_equal(sample.project(v, 1.0), [0, 1, 0, 0])
    np.testing.assert_array_equal(sample.project(v, 0.0), [0.5, 0.5, 0.5, 0.5])
    np.testing.assert_array_equal(sample.project(jnp.zeros(4), 1.0), [1, 0, 0, 0])


def test_project_of_a_batch_and_its_derivative(x64):
    v = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6)))
    target = jnp.asarray([0.2, 0.5, 0.8])
    batch = sample.project(v, target)
    single = jnp.stack([sample.project(x, s) for x, s in zip(v, target, strict=True)])
    np.testing.assert_allclose(batch, single, rtol=1e-12, atol=1e-12)
    step = 1e-6 * jnp.asarray(np.random.default_rng(1).normal(size=6))
    difference = (sample.project(v[0] + step, 0.5) - sample.project(v[0] - step, 0.5)) / 2
    tangent = jax.jacrev(sample.project)(v[0], 0.5) @ step
    np.testing.assert_allclose(tangent, difference, atol=1e-11)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_project_gradient_is_finite_at_the_extremes(target):
    v = jnp.asarray([1.0, 3.0, 3.0, 0.0])
    for jacobian in jax.jacrev(sample.project, argnums=(0, 1))(v, target):
        assert np.isfinite(jacobian).all()


def test_canonical():
    np.testing.assert_array_equal(sample.canonical_objectives(jnp.asarray([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(sample.canonical_objectives(np.arange(4), 4), np.eye(4))
    traced = jax.jit(sample.canonical_objectives, static_argnums=1)(jnp.asarray([1]), 2)
    np.testing.assert_array_equal(traced, [[0, 1]])


@pytest.mark.parametrize("bad", [0, -1])
def test_nonpositive_counts(bad):
    with pytest.raises(ValueError, match="count must be at least 1"):
        sample.sparse_objectives(jax.random.key(0), bad, 3)
    with pytest.raises(ValueError, match="features must be at least 1"):
        sample.sparse_objectives(jax.random.key(0), 3, bad)
    with pytest.raises(ValueError, match="features must be at least 1"):
        sample.canonical_objectives(jnp.asarray([0]), bad)


@pytest.mark.parametrize("bad", [[-1], [0, 3]])
def test_indices_out_of_range(bad):
    with pytest.raises(ValueError, match=r"indices must be in \[0, 3\)"):
        sample.canonical_objectives(jnp.asarray(bad), 3)


@pytest.mark.parametrize("bad", [-0.01, 1.01, np.nan])
def test_sparseness_out_of_range(bad):
    with pytest.raises(ValueError, match=r"sparseness must be in \[0, 1\]"):
        sample.project(jnp.ones((2, 3)), jnp.asarray([0.5, bad]))


def test_wrong_shapes(unchecked):
    for shape in [(3,), (2, 1), (1, 2)]:
        with pytest.raises(ValueError, match=r"sparseness must be a scalar or have shape \(2,\)"):
            sample.project(jnp.ones((2, 3)), jnp.full(shape, 0.5))
