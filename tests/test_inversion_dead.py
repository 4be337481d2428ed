"""Dead features, which inversion leaves out, and what is degenerate or not known."""

from functools import partial

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
)

from jifv.inversion import invert
from jifv.significance import Significance

# -- Features with r = 0 and a row of zeros.


@pytest.mark.parametrize(("power", "jit"), [(0.0, True), (2.0, False)])
def test_dead_features_are_left_out(x64, power, jit):
    rng = generator(3)
    response, jacobian = kill(rng.random(9), rng.normal(size=(9, 50)), [0, 4, 8])
    alive = [1, 2, 3, 5, 6, 7]
    solve = partial(invert, significance=Significance(power))
    result = (jax.jit(solve) if jit else solve)(response, jacobian)
    alone = invert(response[alive], jacobian[alive], significance=Significance(power))
    np.testing.assert_array_equal(np.flatnonzero(result.dead), [0, 4, 8])
    np.testing.assert_array_equal(np.asarray(result.objective)[[0, 4, 8]], 0)
    np.testing.assert_allclose(np.asarray(result.objective)[alive], alone.objective, atol=1e-12)
    np.testing.assert_array_equal(result.singular_values[:3], np.inf)
    np.testing.assert_allclose(result.singular_values[3:], alone.singular_values, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(result.singular_vectors)[alive, :3], 0, atol=1e-13)
    np.testing.assert_allclose(result.singular_vectors.T @ result.singular_vectors, np.eye(9), atol=1e-13)
    np.testing.assert_allclose(result.gap, alone.gap, rtol=1e-10)
    np.testing.assert_allclose(result.stationarity, alone.stationarity, rtol=1e-10)


@pytest.mark.parametrize(("power", "alignment"), [(2.0, "inside"), (0.0, "outside"), (2.0, "oblique")])
def test_dead_features_with_a_basis(x64, power, alignment):
    """Feature 2 is dead, and e₂ lies in V, in its complement, or in neither."""
    rng = generator(4)
    response, jacobian = kill(rng.random(8), rng.normal(size=(8, 40)), [2])
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

    result = invert(
        response, jacobian, significance=Significance(power), basis=basis @ orthonormal(rng, *[basis.shape[1]] * 2)
    )
    taken = basis.shape[1] - len(values)
    assert taken == (alignment != "outside")
    np.testing.assert_array_equal(result.singular_values[:taken], np.inf)
    np.testing.assert_allclose(result.singular_values[taken:], values, rtol=1e-10)
    assert result.objective[2] == 0
    assert sine(result.objective, feasible @ left[:, -1]) < 1e-10


def test_a_rounded_critical_space_loses_no_direction_to_a_dead_feature():
    rng = generator(5)
    response, jacobian = kill(rng.random(8), rng.normal(size=(8, 40)), [2])
    basis = scipy.linalg.null_space(normalize(np.eye(8)[[2]] + 1e-6 * rng.normal(size=(1, 8))))
    result = invert_two(response.astype(np.float32), jacobian.astype(np.float32), basis=basis)
    alive = [0, 1, 3, 4, 5, 6, 7]
    assert np.all(np.isfinite(result.singular_values))
    assert result.objective[2] == 0
    objective, _, _ = reference(response[alive], jacobian[alive], 2.0)
    np.testing.assert_allclose(np.asarray(result.objective)[alive], objective, atol=1e-4)


@pytest.mark.parametrize("restrict", [False, True])
def test_dead_features_differ_within_a_batch(restrict):
    rng = generator(6)
    response = rng.random((5, 6)).astype(np.float32)
    jacobian = rng.normal(size=(5, 6, 30)).astype(np.float32)
    sets = [[], [0], [1, 5], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]]
    for index, dead in enumerate(sets):
        response[index], jacobian[index] = kill(response[index], jacobian[index], dead)
    basis = np.eye(6, dtype=np.float32)[:, 1:] if restrict else None
    result = jax.jit(lambda r, j: invert_two(r, j, basis=basis))(response, jacobian)
    for index, dead in enumerate(sets):
        np.testing.assert_array_equal(np.flatnonzero(result.dead[index]), dead)
        alone = invert_two(response[index], jacobian[index], basis=basis)
        np.testing.assert_allclose(result.objective[index], alone.objective, atol=1e-5)
        np.testing.assert_array_equal(np.isinf(result.singular_values[index]), np.isinf(alone.singular_values))
    np.testing.assert_allclose(result.objective[3], np.eye(6)[5], atol=1e-6)
    assert result.gap[3] == 1
    assert np.all(np.isnan(result.objective[4]))
    assert result.gap[4] == 0
    assert np.isnan(result.stationarity[4])
    assert np.isnan(result.cosine[4])


@pytest.mark.parametrize("rank", [0, 1])
def test_dead_features_do_not_mix_with_the_others_where_there_is_little_else(rank):
    """M = 0, and M of rank one, whose only singular value is its Frobenius norm."""
    rng = generator(13)
    response, jacobian = kill(rng.random(4), rank * np.outer(rng.random(4), rng.random(9)), [1, 2])
    result = invert_two(response.astype(np.float32), jacobian.astype(np.float32))
    np.testing.assert_array_equal(result.singular_values[:2], np.inf)
    np.testing.assert_allclose(np.asarray(result.singular_vectors)[[0, 3], :2], 0, atol=1e-6)
    np.testing.assert_allclose(np.asarray(result.singular_vectors)[[1, 2], 2:], 0, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(result.objective)[[1, 2]], 0)
    np.testing.assert_allclose(result.gap, rank, atol=1e-6)


def test_dead_needs_a_zero_response_and_a_zero_row():
    rng = generator(7)
    response, jacobian = rng.random(3).astype(np.float32), rng.normal(size=(3, 9)).astype(np.float32)
    response[0] = 0
    jacobian[1] = 0
    assert not np.any(invert_two(response, jacobian).dead)


# -- What is degenerate, and what is not known.


@pytest.mark.parametrize("power", [0.0, 2.0])
def test_no_jacobian_at_all(power):
    result = invert(np.array([1, 2], np.float32), np.zeros((2, 5), np.float32), significance=Significance(power))
    np.testing.assert_array_equal(result.singular_values, 0)
    assert result.gap == result.stationarity == 0
    np.testing.assert_allclose(np.linalg.norm(result.objective), 1, rtol=1e-6)


def test_no_response(x64):
    """At r = 0, B is a multiple of the identity."""
    jacobian = generator(8).normal(size=(4, 9))
    result = invert(np.zeros(4), jacobian, significance=TWO)
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
    result = invert_two(response, jacobian, basis=basis)
    assert np.all(np.isnan(result.objective[0]))
    assert np.all(np.isnan(result.singular_values[0]))
    assert np.all(np.isnan(result.singular_vectors[0]))
    assert result.gap[0] == 0
    assert np.isnan(result.stationarity[0])
    np.testing.assert_allclose(result.objective[1], invert_two(*alone, basis=basis).objective, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_scale_does_not_matter(scale):
    rng = generator(10)
    response, jacobian = kill(rng.random(5), rng.normal(size=(5, 20)), [1])
    objective, values, _ = reference(response[[0, 2, 3, 4]], jacobian[[0, 2, 3, 4]], 2.0)
    result = invert_two((response * scale).astype(np.float32), (jacobian * scale).astype(np.float32))
    np.testing.assert_allclose(np.asarray(result.objective)[[0, 2, 3, 4]], objective, atol=1e-5)
    np.testing.assert_allclose(result.singular_values[1:] / scale, values, rtol=1e-5)


def test_half_precision_is_computed_in_single():
    rng = generator(11)
    response = jnp.asarray(rng.random(3), jnp.bfloat16)
    jacobian = jnp.asarray(rng.normal(size=(3, 5)), jnp.bfloat16)
    result = invert_two(response, jacobian)
    assert result.objective.dtype == np.float32
    expected, _, _ = reference(np.asarray(response, np.float64), np.asarray(jacobian, np.float64), 2.0)
    np.testing.assert_allclose(result.objective, expected, atol=1e-5)


def test_products_run_at_full_precision():
    arguments = np.ones(4, np.float32), np.ones((4, 9), np.float32), np.eye(4, dtype=np.float32)[:, :2]
    text = jax.jit(lambda r, j, q: invert_two(r, j, basis=q)).lower(*arguments).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert products
    assert all("HIGHEST" in line for line in products)


@pytest.mark.parametrize("restrict", [False, True])
def test_svd_that_does_not_converge_is_done_again(monkeypatch, restrict):
    """As LAPACK's fast one returns it, for one sample of three."""
    rng = generator(16)
    response, jacobian = rng.random((3, 5)), rng.normal(size=(3, 5, 17))
    response[1], jacobian[1] = kill(response[1], jacobian[1], [3])
    basis = orthonormal(rng, 5, 4).astype(np.float32) if restrict else None
    arguments = response.astype(np.float32), jacobian.astype(np.float32)
    expected = invert_two(*arguments, basis=basis)
    svd, calls = jnp.linalg.svd, []

    def fails(matrix, **options):
        calls.append(1)
        result = svd(matrix, **options)
        return jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), result)

    monkeypatch.setattr(jnp.linalg, "svd", fails)
    # A power of its own, so that it is traced and what it leaves in the caches is nobody else's.
    result = invert(*arguments, significance=Significance(2 + 1e-9), basis=basis)
    assert calls
    np.testing.assert_allclose(result.singular_values, expected.singular_values, rtol=1e-5)
    np.testing.assert_allclose(result.objective, expected.objective, atol=1e-5)


def test_many_equal_singular_values():
    """Where LAPACK's fast SVD gave up, on two threads. Rows of J are orthogonal and equally long, so that v = r̂."""
    waves = np.sin(np.outer(np.arange(1, 343), np.linspace(0, np.pi, 3072))).astype(np.float32)
    result = invert_two(np.ones((2, 342), np.float32), np.stack([waves, waves]))
    np.testing.assert_allclose(result.objective, 342**-0.5, atol=1e-5)
    np.testing.assert_allclose(result.gap, 2 / 3, atol=1e-4)


def test_dead_tolerance_takes_out_features_with_short_rows():
    """The same as leaving them away, with v = 0 there."""
    rng = np.random.default_rng(5)
    response, jacobian = rng.uniform(0.5, 2, 6), rng.normal(size=(6, 40))
    jacobian[[1, 4]] *= 1e-3
    with_all = invert_two(jnp.asarray(response), jnp.asarray(jacobian))
    without = invert_two(jnp.asarray(response), jnp.asarray(jacobian), dead_tolerance=0.01)
    assert not with_all.dead.any()
    assert without.dead.tolist() == [False, True, False, False, True, False]
    matrix = 3 * np.eye(6) - 2 * np.outer(response, response) / (response @ response)
    kept = [0, 2, 3, 5]
    vectors, values, _ = np.linalg.svd((matrix @ jacobian)[kept])
    expected = np.zeros(6)
    expected[kept] = vectors[:, -1] * np.sign(vectors[:, -1] @ response[kept])
    np.testing.assert_allclose(without.objective, expected, atol=1e-5)
    np.testing.assert_allclose(without.singular_values[2:], values, rtol=1e-5)
    assert np.isinf(without.singular_values[:2]).all()


def test_dead_tolerance_is_relative_and_zero_leaves_everything():
    rng = np.random.default_rng(6)
    response, jacobian = rng.uniform(0.5, 2, (3, 5)), rng.normal(size=(3, 5, 9))
    plain = invert_two(response, jacobian)
    for factor in (1e-20, 1e20):
        scaled = invert_two(response, jacobian * factor, dead_tolerance=1e-3)
        np.testing.assert_allclose(scaled.objective, plain.objective, atol=1e-4)
        assert not scaled.dead.any()
