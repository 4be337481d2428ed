import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from jifv.inversion import invert, invert_at, triangle

POWERS = [0.0, 1.0, 2.0, 4.0]


def generator(*seed):
    return np.random.default_rng(seed)


def normalize(vector):
    return vector / np.linalg.norm(vector)


def orthonormal(rng, rows, columns):
    return np.linalg.qr(rng.normal(size=(rows, columns)))[0]


def gradient_matrix(response, power):
    unit = normalize(response) if np.any(response) else response
    return (power + 1) * np.eye(len(response)) - power * np.outer(unit, unit)


def reference(response, jacobian, power, basis=None):
    """Opt. 3 by SciPy: objective, singular values and vectors; vectors of the search space without a triangle."""
    gradient = gradient_matrix(response, power)
    search = np.eye(len(response))
    if basis is not None:
        search = scipy.linalg.orth(np.linalg.inv(gradient) @ basis)
    left, values, _ = scipy.linalg.svd(search.T @ gradient @ jacobian)
    values = np.pad(values, (0, left.shape[0] - len(values)))
    vectors = search @ left
    objective = vectors[:, -1]
    return objective * (-1 if response @ objective < 0 else 1), values, vectors


def with_singular_values(rng, values, columns):
    """A random matrix with these singular values."""
    return orthonormal(rng, len(values), len(values)) * values @ orthonormal(rng, columns, len(values)).T


def sine(first, second):
    """Of the angle between two unit vectors, whatever their signs."""
    first = np.asarray(first, np.float64)
    return np.linalg.norm(first - second * (first @ second))


# -- Against SciPy.


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (5, 5), (4, 3), (6, 7), (7, 300), (40, 90)])
def test_full_space_against_scipy(x64, shape, power):
    rng = generator(*shape)
    response, jacobian = rng.normal(size=shape[0]), rng.normal(size=shape)
    result = invert(response, jacobian, power=power)
    objective, values, vectors = reference(response, jacobian, power)
    np.testing.assert_allclose(result.objective, objective, atol=1e-10)
    np.testing.assert_allclose(result.singular_values, values, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(np.abs(np.sum(result.singular_vectors * vectors, axis=0)), 1, rtol=1e-10)
    assert not np.any(result.silent)
    expected_gap = 1 if shape[0] == 1 else (values[-2] - values[-1]) / values[-2]
    np.testing.assert_allclose(result.gap, expected_gap, rtol=1e-10)


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize(("shape", "dimension"), [((3, 3), 1), ((6, 2), 2), ((6, 4), 6), ((8, 100), 5), ((5, 30), 4)])
def test_critical_space_against_scipy(x64, shape, dimension, power):
    rng = generator(*shape)
    response, jacobian = rng.normal(size=shape[0]), rng.normal(size=shape)
    basis = orthonormal(rng, shape[0], dimension)
    result = invert(response, jacobian, power=power, basis=basis)
    objective, values, _ = reference(response, jacobian, power, basis)
    np.testing.assert_allclose(result.singular_values, values, rtol=1e-10, atol=1e-13)
    # B v lies in V, and the gradient has the length of the last singular value.
    gradient = gradient_matrix(response, power) @ result.objective
    np.testing.assert_allclose(basis @ (basis.T @ gradient), gradient, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(jacobian.T @ gradient), values[-1], atol=1e-12)
    if np.count_nonzero(values < 1e-10) < 2:  # otherwise any vector of the null space is a solution
        np.testing.assert_allclose(result.objective, objective, atol=1e-10)


@pytest.mark.parametrize("nullity", [1, 2, 4])
@pytest.mark.parametrize("shape", [(5, 5), (5, 40), (9, 6)])
def test_rank_deficient(x64, shape, nullity):
    rng = generator(*shape, nullity)
    values = np.concatenate([np.linspace(3, 1, min(shape) - nullity), np.zeros(nullity)])
    jacobian = orthonormal(rng, shape[0], min(shape)) * values @ orthonormal(rng, shape[1], min(shape)).T
    response = rng.normal(size=shape[0])
    result = invert(response, jacobian, power=2.0)
    null = shape[0] - min(shape) + nullity
    np.testing.assert_allclose(result.singular_values[-null:], 0, atol=1e-13)
    assert result.singular_values[-null - 1] > 0.5
    gradients = jacobian.T @ gradient_matrix(response, 2.0) @ result.singular_vectors[:, -null:]
    np.testing.assert_allclose(gradients, 0, atol=1e-13)
    np.testing.assert_allclose(result.singular_vectors.T @ result.singular_vectors, np.eye(shape[0]), atol=1e-13)
    # Two equally good candidates are no reason for confidence, whatever rounding makes of 0/0.
    np.testing.assert_allclose(result.gap, 1 if null == 1 else 0, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 6), (6, 80), (30, 200)])
def test_condition_number_of_1e8(x64, shape):
    """The Gram matrix would have condition 1e16 and lose the answer."""
    rng = generator(*shape)
    values = np.geomspace(1, 1e-8, shape[0])
    jacobian = with_singular_values(rng, values, shape[1])
    response = rng.normal(size=shape[0])
    result = invert(response, jacobian, power=0.0)
    np.testing.assert_allclose(result.singular_values, values, rtol=1e-6)
    assert sine(result.objective, reference(response, jacobian, 0.0)[0]) < 1e-6


def test_float32_keeps_what_a_gram_matrix_loses():
    rng = generator(1)
    jacobian = with_singular_values(rng, np.array([1, 0.5, 1e-4, 1e-5]), 60)
    left = np.linalg.svd(jacobian)[0]
    result = invert(np.ones(4, np.float32), jacobian.astype(np.float32), power=0.0)
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
    """As accurate as an SVD of the whole matrix in float32, of two samples, one of them with a silent feature."""
    rng = generator(14)
    response = rng.random((2, 12))
    jacobian = np.stack([with_singular_values(rng, np.geomspace(1, 1e-4, 12), 9001) for _ in range(2)])
    response[1], jacobian[1] = silence(response[1], jacobian[1], [3])
    basis = orthonormal(rng, 12, 11) if restrict else None
    with jax.enable_x64(True):
        expected = invert(response, jacobian, basis=basis)
    result = invert(*(jnp.asarray(x, jnp.float32) for x in (response, jacobian)), basis=basis)
    for objective, exact in zip(result.objective, np.asarray(expected.objective), strict=True):
        assert sine(objective, exact) < 1e-4
    np.testing.assert_allclose(result.singular_values, expected.singular_values, atol=1e-6)
    np.testing.assert_array_equal(result.silent, np.arange(12) == [[-1], [3]])


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="accelerators take a QR of the whole matrix")
def test_memory_is_a_part_of_the_jacobians():
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 16), (2, 16, 100_000))]
    memory = jax.jit(invert).lower(*shapes).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 0.25 * shapes[1].size * 4


@given(
    features=st.integers(1, 6),
    columns=st.integers(1, 9),
    batch=st.lists(st.integers(1, 3), max_size=2).map(tuple),
    power=st.floats(0, 5),
    restrict=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=8)
def test_properties(features, columns, batch, power, restrict, dtype, seed):
    rng = generator(seed)
    dimension = int(rng.integers(1, features + 1))
    response = rng.normal(size=(*batch, features)).astype(dtype)
    jacobian = rng.normal(size=(*batch, features, columns)).astype(dtype)
    basis = orthonormal(rng, features, dimension).astype(dtype) if restrict else None
    size = dimension if restrict else features
    tolerance = 1e-4 if dtype == np.float32 else 1e-12
    with jax.enable_x64(True):
        result = invert(response, jacobian, power=power, basis=basis)
        assert result.objective.shape == (*batch, features)
        assert result.singular_values.shape == (*batch, size)
        assert result.singular_vectors.shape == (*batch, features, size)
        assert result.gap.shape == batch
        assert result.objective.dtype == result.singular_values.dtype == result.gap.dtype == dtype
        np.testing.assert_allclose(np.linalg.norm(result.objective, axis=-1), 1, atol=tolerance)
        assert np.all(np.sum(result.objective * response, axis=-1) >= -tolerance)
        assert np.all((result.gap >= 0) & (result.gap <= 1))
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


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-3), (np.float64, 1e-5)])
@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("shape", [(2, 5), (10, 200)])
def test_linear_response_gives_its_objective(dtype, tolerance, power, shape):
    weights, bias, parameters, _, target, _, _ = linear_problem(generator(*shape), power, *shape, free=0)
    with jax.enable_x64(dtype == np.float64):
        weights, bias, parameters = (jnp.asarray(x, dtype) for x in (weights, bias, parameters))
        result = jax.jit(lambda p: invert_at(lambda q: weights @ q + bias, p, power=power, chunk=3))(parameters)
        assert result.objective.dtype == dtype
        assert np.linalg.norm(result.objective - target) < tolerance
        assert result.gap > 0.99


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-3), (np.float64, 1e-5)])
@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize(("shape", "free"), [((4, 5), 1), ((10, 200), 4)])
def test_linear_response_gives_its_objective_modulo_the_complement(dtype, tolerance, power, shape, free):
    weights, bias, parameters, response, target, stationary, basis = linear_problem(
        generator(*shape), power, *shape, free
    )
    expected = normalize(np.linalg.solve(gradient_matrix(response, power), stationary))
    expected = expected if expected @ response >= 0 else -expected
    assert sine(expected, target) > 0.01  # it is not v* itself
    with jax.enable_x64(dtype == np.float64):
        weights, bias, parameters = (jnp.asarray(x, dtype) for x in (weights, bias, parameters))
        result = invert_at(lambda p: weights @ p + bias, parameters, power=power, basis=basis)
        assert np.linalg.norm(result.objective - expected) < tolerance
        # Without the critical space the trivial directions hide the objective.
        assert invert_at(lambda p: weights @ p + bias, parameters, power=power).gap < 0.01


# -- Silent features.


def silence(response, jacobian, features):
    response, jacobian = response.copy(), jacobian.copy()
    response[..., features], jacobian[..., features, :] = 0, 0
    return response, jacobian


@pytest.mark.parametrize("power", [0.0, 2.0])
@pytest.mark.parametrize("jit", [False, True])
def test_silent_features_are_left_out(x64, power, jit):
    rng = generator(3)
    response, jacobian = silence(rng.random(9), rng.normal(size=(9, 50)), [0, 4, 8])
    alive = [1, 2, 3, 5, 6, 7]
    solve = jax.jit(invert) if jit else invert
    result = solve(response, jacobian, power=power)
    alone = invert(response[alive], jacobian[alive], power=power)
    np.testing.assert_array_equal(np.flatnonzero(result.silent), [0, 4, 8])
    np.testing.assert_array_equal(np.asarray(result.objective)[[0, 4, 8]], 0)
    np.testing.assert_allclose(np.asarray(result.objective)[alive], alone.objective, atol=1e-12)
    np.testing.assert_array_equal(result.singular_values[:3], np.inf)
    np.testing.assert_allclose(result.singular_values[3:], alone.singular_values, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(result.singular_vectors)[alive, :3], 0, atol=1e-13)
    np.testing.assert_allclose(result.singular_vectors.T @ result.singular_vectors, np.eye(9), atol=1e-13)
    np.testing.assert_allclose(result.gap, alone.gap, rtol=1e-10)


@pytest.mark.parametrize("power", [0.0, 2.0])
@pytest.mark.parametrize("alignment", ["inside", "outside", "oblique"])
def test_silent_features_with_a_basis(x64, power, alignment):
    """Feature 2 is silent, and e₂ lies in V, in its complement, or in neither."""
    rng = generator(4)
    response, jacobian = silence(rng.random(8), rng.normal(size=(8, 40)), [2])
    basis = orthonormal(rng, 8, 5)
    if alignment != "oblique":
        basis[2] = 0
        basis = scipy.linalg.orth(basis)
    if alignment == "inside":
        basis = np.column_stack([basis, np.eye(8)[2]])
    gradient = gradient_matrix(response, power)
    search = scipy.linalg.orth(np.linalg.inv(gradient) @ basis)
    feasible = search  # v₂ = 0 and B v ∈ V
    if alignment != "outside":
        feasible = search @ scipy.linalg.null_space(search[[2]])
    left, values, _ = np.linalg.svd(feasible.T @ gradient @ jacobian)

    result = invert(response, jacobian, power=power, basis=basis @ orthonormal(rng, *[basis.shape[1]] * 2))
    taken = basis.shape[1] - len(values)
    assert taken == (alignment != "outside")
    np.testing.assert_array_equal(result.singular_values[:taken], np.inf)
    np.testing.assert_allclose(result.singular_values[taken:], values, rtol=1e-10)
    assert result.objective[2] == 0
    assert sine(result.objective, feasible @ left[:, -1]) < 1e-10


def test_a_rounded_critical_space_loses_no_direction_to_a_dead_feature():
    rng = generator(5)
    response, jacobian = silence(rng.random(8), rng.normal(size=(8, 40)), [2])
    basis = scipy.linalg.null_space(normalize(np.eye(8)[[2]] + 1e-6 * rng.normal(size=(1, 8))))
    result = invert(response.astype(np.float32), jacobian.astype(np.float32), basis=basis)
    alive = [0, 1, 3, 4, 5, 6, 7]
    assert np.all(np.isfinite(result.singular_values))
    assert result.objective[2] == 0
    objective, _, _ = reference(response[alive], jacobian[alive], 2.0)
    np.testing.assert_allclose(np.asarray(result.objective)[alive], objective, atol=1e-4)


@pytest.mark.parametrize("restrict", [False, True])
def test_silent_features_differ_within_a_batch(restrict):
    rng = generator(6)
    response = rng.random((5, 6)).astype(np.float32)
    jacobian = rng.normal(size=(5, 6, 30)).astype(np.float32)
    sets = [[], [0], [1, 5], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]]
    for index, silent in enumerate(sets):
        response[index], jacobian[index] = silence(response[index], jacobian[index], silent)
    basis = np.eye(6, dtype=np.float32)[:, 1:] if restrict else None
    result = jax.jit(lambda r, j: invert(r, j, basis=basis))(response, jacobian)
    for index, silent in enumerate(sets):
        np.testing.assert_array_equal(np.flatnonzero(result.silent[index]), silent)
        alone = invert(response[index], jacobian[index], basis=basis)
        np.testing.assert_allclose(result.objective[index], alone.objective, atol=1e-5)
        np.testing.assert_array_equal(np.isinf(result.singular_values[index]), np.isinf(alone.singular_values))
    np.testing.assert_allclose(result.objective[3], np.eye(6)[5], atol=1e-6)
    assert result.gap[3] == 1
    assert np.all(np.isnan(result.objective[4]))
    assert result.gap[4] == 0


@pytest.mark.parametrize("rank", [0, 1])
def test_silent_features_do_not_mix_with_the_others_where_there_is_little_else(rank):
    """M = 0, and M of rank one, whose only singular value is its Frobenius norm."""
    rng = generator(13)
    response, jacobian = silence(rng.random(4), rank * np.outer(rng.random(4), rng.random(9)), [1, 2])
    result = invert(response.astype(np.float32), jacobian.astype(np.float32))
    np.testing.assert_array_equal(result.singular_values[:2], np.inf)
    np.testing.assert_allclose(np.asarray(result.singular_vectors)[[0, 3], :2], 0, atol=1e-6)
    np.testing.assert_allclose(np.asarray(result.singular_vectors)[[1, 2], 2:], 0, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(result.objective)[[1, 2]], 0)
    np.testing.assert_allclose(result.gap, rank, atol=1e-6)


def test_silent_needs_a_zero_response_and_a_zero_row():
    rng = generator(7)
    response, jacobian = rng.random(3).astype(np.float32), rng.normal(size=(3, 9)).astype(np.float32)
    response[0] = 0
    jacobian[1] = 0
    assert not np.any(invert(response, jacobian).silent)


# -- What is degenerate, and what is not known.


@pytest.mark.parametrize("power", [0.0, 2.0])
def test_no_jacobian_at_all(power):
    result = invert(np.array([1, 2], np.float32), np.zeros((2, 5), np.float32), power=power)
    np.testing.assert_array_equal(result.singular_values, 0)
    assert result.gap == 0
    np.testing.assert_allclose(np.linalg.norm(result.objective), 1, rtol=1e-6)


def test_no_response(x64):
    """At r = 0, B is a multiple of the identity."""
    jacobian = generator(8).normal(size=(4, 9))
    result = invert(np.zeros(4), jacobian, power=2.0)
    assert sine(result.objective, np.linalg.svd(jacobian)[0][:, -1]) < 1e-12


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["response", "jacobian"])
@pytest.mark.parametrize("restrict", [False, True])
def test_what_is_not_finite_gives_nan_to_its_sample_alone(value, where, restrict):
    rng = generator(9)
    response = rng.random((2, 4)).astype(np.float32)
    jacobian = rng.normal(size=(2, 4, 7)).astype(np.float32)
    alone = response[1], jacobian[1]
    (response if where == "response" else jacobian)[0].flat[1] = value
    basis = orthonormal(rng, 4, 3).astype(np.float32) if restrict else None
    result = invert(response, jacobian, basis=basis)
    assert np.all(np.isnan(result.objective[0]))
    assert np.all(np.isnan(result.singular_values[0]))
    assert np.all(np.isnan(result.singular_vectors[0]))
    assert result.gap[0] == 0
    np.testing.assert_allclose(result.objective[1], invert(*alone, basis=basis).objective, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_scale_does_not_matter(scale):
    rng = generator(10)
    response, jacobian = silence(rng.random(5), rng.normal(size=(5, 20)), [1])
    objective, values, _ = reference(response[[0, 2, 3, 4]], jacobian[[0, 2, 3, 4]], 2.0)
    result = invert((response * scale).astype(np.float32), (jacobian * scale).astype(np.float32))
    np.testing.assert_allclose(np.asarray(result.objective)[[0, 2, 3, 4]], objective, atol=1e-5)
    np.testing.assert_allclose(result.singular_values[1:] / scale, values, rtol=1e-5)


def test_half_precision_is_computed_in_single():
    rng = generator(11)
    response = jnp.asarray(rng.random(3), jnp.bfloat16)
    jacobian = jnp.asarray(rng.normal(size=(3, 5)), jnp.bfloat16)
    result = invert(response, jacobian)
    assert result.objective.dtype == np.float32
    expected, _, _ = reference(np.asarray(response, np.float64), np.asarray(jacobian, np.float64), 2.0)
    np.testing.assert_allclose(result.objective, expected, atol=1e-5)


def test_products_run_at_full_precision():
    arguments = np.ones(4, np.float32), np.ones((4, 9), np.float32), np.eye(4, dtype=np.float32)[:, :2]
    text = jax.jit(lambda r, j, q: invert(r, j, basis=q)).lower(*arguments).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert products
    assert all("HIGHEST" in line for line in products)


@pytest.mark.parametrize("restrict", [False, True])
def test_svd_that_does_not_converge_is_done_again(monkeypatch, restrict):
    """As LAPACK's fast one returns it, for one sample of three."""
    rng = generator(16)
    response, jacobian = rng.random((3, 5)), rng.normal(size=(3, 5, 17))
    response[1], jacobian[1] = silence(response[1], jacobian[1], [3])
    basis = orthonormal(rng, 5, 4).astype(np.float32) if restrict else None
    arguments = response.astype(np.float32), jacobian.astype(np.float32)
    expected = invert(*arguments, basis=basis)
    svd = jnp.linalg.svd

    def fails(matrix, **options):
        result = svd(matrix, **options)
        return jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), result)

    jax.clear_caches()
    with monkeypatch.context() as patched:
        patched.setattr(jnp.linalg, "svd", fails)
        result = invert(*arguments, basis=basis)
    jax.clear_caches()
    np.testing.assert_allclose(result.singular_values, expected.singular_values, rtol=1e-5)
    np.testing.assert_allclose(result.objective, expected.objective, atol=1e-5)


def test_many_equal_singular_values():
    """Where LAPACK's fast SVD gave up, on two threads. Rows of J are orthogonal and equally long, so that v = r̂."""
    waves = np.sin(np.outer(np.arange(1, 343), np.linspace(0, np.pi, 3072))).astype(np.float32)
    result = invert(np.ones((2, 342), np.float32), np.stack([waves, waves]))
    np.testing.assert_allclose(result.objective, 342**-0.5, atol=1e-5)
    np.testing.assert_allclose(result.gap, 2 / 3, atol=1e-4)


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
        invert(response, jacobian)
    with pytest.raises(ValueError, match=message):
        jax.jit(invert)(response, jacobian)


@pytest.mark.usefixtures("unchecked")
def test_arrays_must_be_of_floating_point():
    with pytest.raises(TypeError, match="response must be of floating point"):
        invert(np.ones(3, np.int32), np.ones((3, 5)))
    with pytest.raises(TypeError, match="jacobian must be of floating point"):
        invert(np.ones(3), np.ones((3, 5), np.int32))


@pytest.mark.parametrize("power", [-1.0, np.nan, np.inf])
def test_power_must_not_be_negative(power):
    with pytest.raises(ValueError, match="power must be finite and >= 0"):
        invert(*good(), power=power)
    with pytest.raises(ValueError, match="power must be finite and >= 0"):
        invert_at(untouched, jnp.ones(2), power=power)


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
        invert(*good(), basis=basis)
    with pytest.raises(ValueError, match=message):
        invert_at(untouched, jnp.ones(2), basis=basis)


def test_chunk_must_be_positive():
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        invert_at(untouched, jnp.ones(2), chunk=0)


def test_silence_takes_out_features_with_short_rows():
    """The same as leaving them away, with v = 0 there."""
    rng = np.random.default_rng(5)
    response, jacobian = rng.uniform(0.5, 2, 6), rng.normal(size=(6, 40))
    jacobian[[1, 4]] *= 1e-3
    with_all = invert(jnp.asarray(response), jnp.asarray(jacobian))
    without = invert(jnp.asarray(response), jnp.asarray(jacobian), silence=0.01)
    assert not with_all.silent.any()
    assert without.silent.tolist() == [False, True, False, False, True, False]
    matrix = 3 * np.eye(6) - 2 * np.outer(response, response) / (response @ response)
    kept = [0, 2, 3, 5]
    vectors, values, _ = np.linalg.svd((matrix @ jacobian)[kept])
    expected = np.zeros(6)
    expected[kept] = vectors[:, -1] * np.sign(vectors[:, -1] @ response[kept])
    np.testing.assert_allclose(without.objective, expected, atol=1e-5)
    np.testing.assert_allclose(without.singular_values[2:], values, rtol=1e-5)
    assert np.isinf(without.singular_values[:2]).all()


def test_silence_is_relative_and_zero_leaves_everything():
    rng = np.random.default_rng(6)
    response, jacobian = rng.uniform(0.5, 2, (3, 5)), rng.normal(size=(3, 5, 9))
    plain = invert(response, jacobian)
    for factor in (1e-20, 1e20):
        scaled = invert(response, jacobian * factor, silence=1e-3)
        np.testing.assert_allclose(scaled.objective, plain.objective, atol=1e-4)
        assert not scaled.silent.any()


@pytest.mark.parametrize("silence", [-0.1, 1.0, np.nan])
def test_silence_outside_its_range_is_refused(silence):
    with pytest.raises(ValueError, match="silence must be"):
        invert(np.ones(2), np.ones((2, 3)), silence=silence)
    with pytest.raises(ValueError, match="silence must be"):
        invert_at(lambda p: p, jnp.ones(2), silence=silence)
