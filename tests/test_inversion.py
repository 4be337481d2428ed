import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from support.inverse_problem import (
    TWO,
    generator,
    gradient_matrix,
    invert_two,
    kill,
    normalize,
    orthonormal,
    reference,
    sine,
    with_singular_values,
)

from jifv._core.linalg import triangle
from jifv.inversion import invert, invert_at
from jifv.significance import Significance, cosine

# -- Against SciPy.


# Each pair compiles a program, half a second: every shape and every k, and the same ones in the tests below.
SQUARE, TALL, WIDE, LARGE = (5, 5), (7, 6), (5, 40), (30, 200)


@pytest.mark.parametrize(
    ("shape", "power"),
    [((1, 9), 2.0), (SQUARE, 2.0), (TALL, 2.0), (WIDE, 2.0), (LARGE, 0.0), (SQUARE, 0.0), (WIDE, 1.0), (SQUARE, 4.0)],
)
def test_full_space_against_scipy(x64, shape, power):
    rng = generator(*shape)
    response, jacobian = rng.normal(size=shape[0]), rng.normal(size=shape)
    result = invert(response, jacobian, significance=Significance(power))
    objective, values, vectors = reference(response, jacobian, power)
    np.testing.assert_allclose(result.objective, objective, atol=1e-10)
    np.testing.assert_allclose(result.singular_values, values, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(np.abs(np.sum(result.singular_vectors * vectors, axis=0)), 1, rtol=1e-10)
    np.testing.assert_allclose(result.stationarity, values[-1] / values[0], rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(result.cosine, objective @ response / np.linalg.norm(response), atol=1e-10)
    assert not np.any(result.dead)
    expected_gap = 1 if shape[0] == 1 else (values[-2] - values[-1]) / values[-2]
    np.testing.assert_allclose(result.gap, expected_gap, rtol=1e-10)


@pytest.mark.parametrize(
    ("shape", "dimension", "power"),
    [((3, 3), 1, 1.0), ((6, 2), 2, 4.0), ((6, 4), 6, 2.0), ((8, 100), 5, 2.0), ((5, 30), 4, 0.0)],
)
def test_critical_space_against_scipy(x64, shape, dimension, power):
    rng = generator(*shape)
    response, jacobian = rng.normal(size=shape[0]), rng.normal(size=shape)
    basis = orthonormal(rng, shape[0], dimension)
    result = invert(response, jacobian, significance=Significance(power), basis=basis)
    objective, values, _ = reference(response, jacobian, power, basis)
    np.testing.assert_allclose(result.singular_values, values, rtol=1e-10, atol=1e-13)
    # B v lies in V, and the gradient has the length of the last singular value.
    gradient = gradient_matrix(response, power) @ result.objective
    np.testing.assert_allclose(basis @ (basis.T @ gradient), gradient, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(jacobian.T @ gradient), values[-1], atol=1e-12)
    np.testing.assert_allclose(result.stationarity, values[-1] / values[0], rtol=1e-10, atol=1e-13)
    if np.count_nonzero(values < 1e-10) < 2:  # otherwise any vector of the null space is a solution
        np.testing.assert_allclose(result.objective, objective, atol=1e-10)


@pytest.mark.parametrize("nullity", [1, 2, 4])
@pytest.mark.parametrize("shape", [SQUARE, WIDE, TALL])
def test_rank_deficient(x64, shape, nullity):
    rng = generator(*shape, nullity)
    values = np.concatenate([np.linspace(3, 1, min(shape) - nullity), np.zeros(nullity)])
    jacobian = orthonormal(rng, shape[0], min(shape)) * values @ orthonormal(rng, shape[1], min(shape)).T
    response = rng.normal(size=shape[0])
    result = invert(response, jacobian, significance=TWO)
    null = shape[0] - min(shape) + nullity
    np.testing.assert_allclose(result.singular_values[-null:], 0, atol=1e-13)
    assert result.singular_values[-null - 1] > 0.5
    gradients = jacobian.T @ gradient_matrix(response, 2.0) @ result.singular_vectors[:, -null:]
    np.testing.assert_allclose(gradients, 0, atol=1e-13)
    np.testing.assert_allclose(result.singular_vectors.T @ result.singular_vectors, np.eye(shape[0]), atol=1e-13)
    # Two equally good candidates are no reason for confidence, whatever rounding makes of 0/0.
    np.testing.assert_allclose(result.gap, 1 if null == 1 else 0, atol=1e-12)


@pytest.mark.parametrize("shape", [SQUARE, LARGE])
def test_condition_number_of_1e8(x64, shape):
    """The Gram matrix would have condition 1e16 and lose the answer."""
    rng = generator(*shape)
    values = np.geomspace(1, 1e-8, shape[0])
    jacobian = with_singular_values(rng, values, shape[1])
    response = rng.normal(size=shape[0])
    result = invert(response, jacobian, significance=Significance(0))
    np.testing.assert_allclose(result.singular_values, values, rtol=1e-6)
    assert sine(result.objective, reference(response, jacobian, 0.0)[0]) < 1e-6


def test_float32_keeps_what_a_gram_matrix_loses():
    rng = generator(1)
    jacobian = with_singular_values(rng, np.array([1, 0.5, 1e-4, 1e-5]), 60)
    left = np.linalg.svd(jacobian)[0]
    result = invert(np.ones(4, np.float32), jacobian.astype(np.float32), significance=Significance(0))
    np.testing.assert_allclose(result.singular_values, [1, 0.5, 1e-4, 1e-5], rtol=0.05)
    assert sine(result.objective, left[:, -1]) < 0.01
    np.testing.assert_allclose(result.gap, 0.9, atol=0.01)


# -- Wide matrices, whose triangle is found by blocks.


@pytest.mark.parametrize("columns", [1, 4095, 4096, 9001])
def test_triangle(x64, columns):
    matrices = generator(columns).normal(size=(2, 3, columns))
    triangles = np.asarray(jax.vmap(triangle)(matrices))
    assert triangles.shape == (2, min(3, columns), 3)
    np.testing.assert_array_equal(np.tril(triangles, -1), 0)
    np.testing.assert_allclose(triangles.mT @ triangles, matrices @ matrices.mT, rtol=1e-12, atol=1e-12 * columns)


@pytest.mark.parametrize("restrict", [False, True])
def test_wide_jacobian_in_float32(restrict):
    """As accurate as an SVD of the whole matrix in float32, of two samples, one of them with a dead feature."""
    rng = generator(14)
    response = rng.random((2, 12))
    jacobian = np.stack([with_singular_values(rng, np.geomspace(1, 1e-4, 12), 9001) for _ in range(2)])
    response[1], jacobian[1] = kill(response[1], jacobian[1], [3])
    basis = orthonormal(rng, 12, 11) if restrict else None
    with jax.enable_x64(True):
        expected = invert_two(response, jacobian, basis=basis)
    result = invert_two(*(jnp.asarray(x, jnp.float32) for x in (response, jacobian)), basis=basis)
    for objective, exact in zip(result.objective, np.asarray(expected.objective), strict=True):
        assert sine(objective, exact) < 1e-4
    np.testing.assert_allclose(result.singular_values, expected.singular_values, atol=1e-6)
    np.testing.assert_array_equal(result.dead, np.arange(12) == [[-1], [3]])


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="accelerators take a QR of the whole matrix")
def test_memory_is_a_part_of_the_jacobians():
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 16), (2, 16, 100_000))]
    memory = jax.jit(invert_two).lower(*shapes).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 0.25 * shapes[1].size * 4


@pytest.mark.parametrize(
    ("features", "columns", "batch", "dimension", "power", "dtype"),
    [
        (1, 1, (30,), None, 5.0, np.float64),
        (4, 9, (5, 6), None, 0.5, np.float32),
        (6, 2, (30,), None, 3.3, np.float64),
        (6, 9, (30,), 4, 2.5, np.float64),
        (6, 9, (30,), 4, 2.5, np.float32),
        (3, 1, (30,), 1, 0, np.float32),
    ],
)
def test_properties(features, columns, batch, dimension, power, dtype):
    """Of random samples, thirty for each program that is compiled."""
    rng = generator(features, columns)
    response = rng.normal(size=(*batch, features)).astype(dtype)
    jacobian = rng.normal(size=(*batch, features, columns)).astype(dtype)
    basis = orthonormal(rng, features, dimension).astype(dtype) if dimension else None
    size = dimension or features
    tolerance = 1e-4 if dtype == np.float32 else 1e-12
    with jax.enable_x64(True):
        result = jax.device_get(invert(response, jacobian, significance=Significance(power), basis=basis))
    assert result.objective.shape == (*batch, features)
    assert result.singular_values.shape == (*batch, size)
    assert result.singular_vectors.shape == (*batch, features, size)
    assert result.gap.shape == result.stationarity.shape == result.cosine.shape == batch
    assert result.objective.dtype == result.singular_values.dtype == result.gap.dtype == dtype
    np.testing.assert_allclose(np.linalg.norm(result.objective, axis=-1), 1, atol=tolerance)
    assert np.all(np.sum(result.objective * response, axis=-1) >= -tolerance)
    assert np.all((result.gap >= 0) & (result.gap <= 1))
    assert np.all((result.stationarity >= 0) & (result.stationarity <= 1))
    assert np.all(np.diff(result.singular_values, axis=-1) <= 0)
    for index in np.ndindex(batch):
        _, values, _ = reference(response[index], jacobian[index], power, basis)
        np.testing.assert_allclose(result.singular_values[index], values, atol=20 * tolerance)
        gradients = jacobian[index].T @ gradient_matrix(response[index], power) @ result.singular_vectors[index]
        np.testing.assert_allclose(np.linalg.norm(gradients, axis=0), values, atol=20 * tolerance)


# -- Closed forms: responses f(p) = W p + b of which the objective is known.


def linear_problem(rng, power, features, columns, free):
    """W, b, p, v* and Q with Wᵀ B v* = 0 where p is a realization of v*; V has dimension features − free.

    v* and r are chosen first, which fixes B v*. W is then made blind to the part of B v* on V and to V's complement.
    """
    target = normalize(rng.random(features))
    response = 3 * normalize(target + 0.5 * normalize(rng.random(features)))
    complement = orthonormal(rng, features, free)
    basis = scipy.linalg.null_space(complement.T)
    stationary = basis @ (basis.T @ gradient_matrix(response, power) @ target)
    blind = np.column_stack([complement, normalize(stationary)])
    weights = rng.normal(size=(features, columns))
    weights -= blind @ (blind.T @ weights)
    parameters = rng.normal(size=columns)
    return weights, response - weights @ parameters, parameters, response, target, stationary, basis


CASES = [
    ((4, 5), 1, 0.0, np.float32, 1e-3),
    ((4, 5), 1, 1.0, np.float64, 1e-5),
    ((10, 200), 4, 2.0, np.float32, 1e-3),
    ((10, 200), 4, 4.0, np.float64, 1e-5),
]


@pytest.mark.parametrize(("shape", "power", "dtype", "tolerance"), [(case[0], *case[2:]) for case in CASES])
def test_linear_response_gives_its_objective(shape, power, dtype, tolerance):
    weights, bias, parameters, _, target, _, _ = linear_problem(generator(*shape), power, *shape, free=0)
    with jax.enable_x64(dtype == np.float64):
        weights, bias, parameters = (jnp.asarray(x, dtype) for x in (weights, bias, parameters))
        options = {"significance": Significance(power), "row_batch_size": 3}
        result = jax.jit(lambda p: invert_at(lambda q: weights @ q + bias, p, **options))(parameters)
        assert result.objective.dtype == dtype
        assert np.linalg.norm(result.objective - target) < tolerance
        assert result.gap > 0.99


@pytest.mark.parametrize(("shape", "free", "power", "dtype", "tolerance"), CASES)
def test_linear_response_gives_its_objective_modulo_the_complement(shape, free, power, dtype, tolerance):
    weights, bias, parameters, response, target, stationary, basis = linear_problem(
        generator(*shape), power, *shape, free
    )
    expected = normalize(np.linalg.solve(gradient_matrix(response, power), stationary))
    expected = expected if expected @ response >= 0 else -expected
    assert sine(expected, target) > 0.01  # it is not v* itself
    with jax.enable_x64(dtype == np.float64):
        weights, bias, parameters = (jnp.asarray(x, dtype) for x in (weights, bias, parameters))
        f, d = lambda p: weights @ p + bias, Significance(power)
        both = jax.jit(lambda p: [invert_at(f, p, significance=d, basis=each) for each in (basis, None)])
        result, hidden = both(parameters)
        assert np.linalg.norm(result.objective - expected) < tolerance
        # Without the critical space the trivial directions hide the objective.
        assert hidden.gap < 0.01


# -- Bad input, refused before anything is compiled.


def good():
    rng = generator(12)
    return rng.random(3).astype(np.float32), rng.normal(size=(3, 5)).astype(np.float32)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("response", "jacobian", "message"),
    [
        (np.ones(()), np.ones((3, 5)), r"shapes \(\*batch, n\) and \(\*batch, n, m\)"),
        (np.ones(3), np.ones(3), r"shapes \(\*batch, n\) and \(\*batch, n, m\)"),
        (np.ones(4), np.ones((3, 5)), "jacobian must have the shape of response and one axis more"),
        (np.ones((2, 3)), np.ones((3, 5)), "jacobian must have the shape of response and one axis more"),
        (np.ones(3), np.ones((3, 0)), "no empty axis"),
        (np.ones(0), np.ones((0, 5)), "no empty axis"),
    ],
)
def test_shapes_must_fit(response, jacobian, message):
    with pytest.raises(ValueError, match=message):
        invert_two(response, jacobian)
    with pytest.raises(ValueError, match=message):
        jax.jit(invert_two)(response, jacobian)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("significance", [None, 2.0, cosine])
def test_what_was_maximized_must_be_a_significance(significance):
    with pytest.raises(TypeError, match=r"significance must be the jifv\.Significance"):
        invert(*good(), significance=significance)
    with pytest.raises(TypeError, match=r"significance must be the jifv\.Significance"):
        invert_at(untouched, jnp.ones(2), significance=significance)


@pytest.mark.usefixtures("unchecked")
def test_complex_bases_are_refused():
    with pytest.raises(TypeError, match="basis must be real, got complex numbers"):
        invert_two(*good(), basis=np.eye(3) * 1j)


def untouched(parameters):
    assert isinstance(parameters, jax.core.Tracer), "f was evaluated"
    return jnp.tile(parameters, 2)[:3]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("basis", "message"),
    [
        (np.ones(3), r"basis must have shape \(n, q\) with n = 3"),
        (np.eye(4), r"basis must have shape \(n, q\) with n = 3"),
        (np.zeros((3, 0)), "V of dimension 0"),
        (np.ones((3, 4)), "more columns than rows"),
        (np.eye(3) * 1.01, "orthonormal columns"),
        (np.eye(3)[:, :2] + 0.1, "orthonormal columns"),
        (np.full((3, 1), np.nan), "orthonormal columns"),
    ],
)
def test_basis_must_be_orthonormal(basis, message):
    with pytest.raises(ValueError, match=message):
        invert_two(*good(), basis=basis)
    with pytest.raises(ValueError, match=message):
        invert_at(untouched, jnp.ones(2), basis=basis, significance=TWO)


def test_row_batch_size_must_be_positive():
    with pytest.raises(ValueError, match="row_batch_size must be at least 1"):
        invert_at(untouched, jnp.ones(2), row_batch_size=0, significance=TWO)


@pytest.mark.parametrize("bad", [-0.1, 1.0, np.nan])
def test_dead_tolerance_outside_its_range_is_refused(bad):
    with pytest.raises(ValueError, match="dead_tolerance must be"):
        invert_two(np.ones(2), np.ones((2, 3)), dead_tolerance=bad)
    with pytest.raises(ValueError, match="dead_tolerance must be"):
        invert_at(lambda p: p, jnp.ones(2), significance=TWO, dead_tolerance=bad)
