import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.arrays import normal

from jifv.jacobian import linearize, linearize_batch

FEATURES = 7


def network(parameters):
    """Smooth, nonlinear, and different in every feature and parameter."""
    size = parameters.size
    weights = jnp.sin(jnp.arange(FEATURES * size, dtype=parameters.dtype)).reshape(FEATURES, size)
    return jnp.tanh(weights @ parameters.ravel()) + jnp.sum(parameters**2)


@pytest.fixture(scope="module")
def derivatives():
    """Response and Jacobian at one place, by forward differentiation and by differences."""
    with jax.enable_x64(True):
        parameters, step = normal((2, 3), np.float64), 1e-6
        ends = parameters.ravel() + step * np.concatenate([np.eye(6), -np.eye(6)])
        response = jax.jit(jax.vmap(network))(ends)
        differences = (response[:6] - response[6:]).T / (2 * step)
        return parameters, network(parameters), jax.jacfwd(network)(parameters).reshape(FEATURES, 6), differences


@pytest.mark.parametrize("rows", [None, 1, 3, 7, 100])
def test_every_row_batch_size_gives_jacfwd_and_finite_differences(x64, derivatives, rows):
    parameters, expected, forward, differences = derivatives
    response, jacobian = linearize(network, parameters, row_batch_size=rows)
    np.testing.assert_array_equal(response, expected)
    np.testing.assert_allclose(jacobian, forward, rtol=1e-12)
    np.testing.assert_allclose(jacobian, differences, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("shape", "rows", "dtype"),
    [
        ((), 3, np.float32),
        ((1,), None, np.float64),
        ((3, 1, 2), 1, np.float32),
        ((2, 2), 7, np.float64),
        ((4,), 9, np.float32),
    ],
)
def test_any_shape_and_dtype(x64, shape, rows, dtype):
    parameters = normal(shape, dtype)
    linearization = jax.jit(lambda p: linearize(network, p, row_batch_size=rows))(parameters)
    assert linearization.response.dtype == linearization.jacobian.dtype == dtype
    assert linearization.jacobian.shape == (FEATURES, parameters.size)
    expected = jax.jit(jax.jacfwd(network))(parameters).reshape(FEATURES, -1)
    np.testing.assert_allclose(linearization.jacobian, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("batch", "rows"), [(1, None), (4, 3)])
def test_a_batch_is_its_samples(batch, rows):
    parameters = normal((batch, 2, 3))
    together = jax.jit(lambda p: linearize_batch(network, p, row_batch_size=rows))(parameters)
    assert together.response.shape == (batch, FEATURES)
    assert together.jacobian.shape == (batch, FEATURES, 6)
    for index in range(batch):
        alone = linearize(network, parameters[index], row_batch_size=rows)
        np.testing.assert_allclose(together.response[index], alone.response, rtol=1e-6)
        np.testing.assert_allclose(together.jacobian[index], alone.jacobian, rtol=1e-5, atol=1e-6)


def test_dtypes_of_response_and_parameters_may_differ(x64):
    response, jacobian = linearize(lambda p: network(p.astype(jnp.float64)), normal(5, np.float32))
    assert response.dtype == np.float64
    assert jacobian.dtype == np.float32


def wide(parameters):
    """64 features, 64 parameters, and two matrix products with 8192 activations between them."""
    weights = normal((8192, 64))
    return jnp.tanh(weights @ parameters) @ weights


def temporary_bytes(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def test_memory_grows_with_the_rows_at_once():
    parameters = normal(64)
    sizes = [temporary_bytes(lambda p, c=c: linearize(wide, p, row_batch_size=c), parameters) for c in (1, 8, 64)]
    activations = 8192 * 4
    assert 4 * activations < sizes[1] - sizes[0] < 32 * activations
    assert 40 * activations < sizes[2] - sizes[0]


def test_memory_of_a_batch_is_that_of_one_sample():
    one = temporary_bytes(lambda p: linearize_batch(wide, p, row_batch_size=8), normal((1, 64)))
    assert one > 8 * 8192 * 4
    sixteen = temporary_bytes(lambda p: linearize_batch(wide, p, row_batch_size=8), normal((16, 64)))
    assert sixteen < 2 * one + 16 * 64 * 64 * 4  # the result may be held twice


def test_products_run_at_full_precision():
    matrix = normal((FEATURES, 6))
    text = jax.jit(lambda p: linearize(lambda q: matrix @ jnp.tanh(q), p)).lower(normal(6)).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert products
    assert all("HIGHEST" in line for line in products)


@pytest.mark.parametrize("rows", [0, -1])
def test_row_batch_size_must_be_positive(rows):
    with pytest.raises(ValueError, match="row_batch_size must be at least 1"):
        linearize(network, normal(3), row_batch_size=rows)
    with pytest.raises(ValueError, match="row_batch_size must be at least 1"):
        linearize_batch(network, normal((2, 3)), row_batch_size=rows)


@pytest.mark.usefixtures("unchecked")
def test_row_batch_size_must_be_an_integer():
    with pytest.raises(TypeError, match="row_batch_size must be a positive integer"):
        linearize(network, normal(3), row_batch_size=2.5)


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_response_function():
    with pytest.raises(ValueError, match="one value per feature"):
        linearize(lambda p: jnp.outer(p, p), normal(3))
    with pytest.raises(TypeError, match="one array of floats"):
        linearize(lambda p: (p, p), normal(3))
