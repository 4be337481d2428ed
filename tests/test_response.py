import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jifv import aggregate, parametrize, response


def network(x):
    return jax.nn.relu(x[::2, ::2] @ jnp.arange(-3.0, 9.0, dtype=x.dtype).reshape(3, 4))


@pytest.fixture
def f():
    return response.compose(parametrize.pixels((6, 8, 3)).apply, network, aggregate.max_mean(2, 1))


@pytest.fixture
def parameters():
    return jax.random.normal(jax.random.key(0), (2, 6, 8, 3))


def test_compose_applies_in_order():
    f = response.compose(lambda p: p + 1, lambda x: 10 * x, lambda a: a[:2])
    np.testing.assert_array_equal(f(jnp.asarray([1.0, 2.0, 3.0])), [20, 30])


def test_compose_is_the_reference(f, parameters):
    x = 1 / (1 + np.exp(-np.asarray(parameters[0], np.float64)))
    a = np.maximum(x[::2, ::2] @ np.arange(-3.0, 9.0).reshape(3, 4), 0)
    pooled = np.lib.stride_tricks.sliding_window_view(a, (2, 2), axis=(0, 1)).max((-2, -1))
    np.testing.assert_allclose(f(parameters[0]), pooled.mean((0, 1)), rtol=1e-5)


def test_feature_count_without_computing(f, parameters):
    assert response.feature_count(f, parameters[0]) == 4
    assert response.feature_count(f, jax.ShapeDtypeStruct((6, 8, 3), jnp.float32)) == 4
    assert response.feature_count(lambda p: p.ravel()[:7], parameters) == 7


def test_feature_count_of_a_layer_larger_than_memory():
    assert response.feature_count(lambda p: jnp.broadcast_to(p, (10**12,)), jnp.zeros(1)) == 10**12


def test_compose_rejects_what_is_no_function(unchecked):
    functions = {"apply": abs, "network": abs, "aggregate": abs}
    for name in functions:
        with pytest.raises(TypeError, match=f"{name} must be a function, got 3"):
            response.compose(**(functions | {name: 3}))


@pytest.mark.parametrize("shape", [(), (0,), (2, 4), (3, 3, 4)])
def test_feature_count_rejects_other_shapes(unchecked, shape):
    with pytest.raises(ValueError, match=r"f must return one value per feature, shape \(n,\), got"):
        response.feature_count(lambda p: jnp.zeros(shape), jnp.zeros(3))


@pytest.mark.parametrize("result", [(jnp.zeros(3),), {"r": jnp.zeros(3)}, jnp.zeros(3, jnp.int32)])
def test_feature_count_rejects_other_results(unchecked, result):
    with pytest.raises(TypeError, match="f must return one array of floats"):
        response.feature_count(lambda p: result, jnp.zeros(3))


@pytest.mark.parametrize("parameters", [jnp.zeros(3, jnp.int32), [1.0, 2.0], (jnp.zeros(3),)])
def test_feature_count_rejects_other_parameters(unchecked, parameters):
    with pytest.raises(TypeError, match="parameters must be an array of floats"):
        response.feature_count(lambda p: p, parameters)
