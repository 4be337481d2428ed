"""How far a realization is from stationary, and the compressed Jacobian that is enough to tell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.inverse_problem import TWO, generator, gradient_matrix, invert_two, kill, orthonormal

from jifv.inversion import stationarity
from jifv.jacobian import compress
from jifv.significance import Significance, cosine


def reference(response, jacobian, objective, power):
    """‖JᵀBv‖/σ₁(BJ) for v of unit length."""
    product = gradient_matrix(response, power) @ jacobian
    largest = np.linalg.svd(product, compute_uv=False)[0]
    return np.linalg.norm(product.T @ objective) / np.linalg.norm(objective) / largest


@pytest.mark.parametrize(
    ("shape", "power", "compressed"),
    [
        ((1, 1), 2.0, False),
        ((5, 3), 1.0, True),
        ((6, 9001), 2.0, True),
        ((6, 9001), 0.0, False),
        ((6, 40), 4.0, False),
        ((6, 40), 0.0, True),
    ],
)
def test_it_is_the_definition(x64, shape, power, compressed):
    rng = generator(*shape)
    response, objectives, jacobian = *rng.normal(size=(2, 3, shape[0])), rng.normal(size=(3, *shape))
    given = compress(jnp.asarray(jacobian)) if compressed else jacobian
    found = stationarity(response, given, objectives, significance=Significance(power))
    expected = [reference(*sample, power) for sample in zip(response, jacobian, objectives, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    alone = stationarity(response[0], given[0], objectives[0], significance=Significance(power))
    assert alone.shape == ()
    np.testing.assert_allclose(alone, expected[0], rtol=1e-12)


def test_of_its_own_answer_it_is_what_inversion_says(x64):
    rng = generator(1)
    response, jacobian = rng.normal(size=(2, 2, 6)), rng.normal(size=(2, 2, 6, 20))
    inversion = invert_two(response, jacobian)
    own = stationarity(response, jacobian, inversion.objective, significance=TWO)
    np.testing.assert_allclose(own, inversion.stationarity, rtol=1e-10)
    # Of all objectives it is the one of the smallest number, and the singular vectors give all between.
    for column in range(6):
        other = stationarity(response, jacobian, inversion.singular_vectors[..., column], significance=TWO)
        expected = inversion.singular_values[..., column] / inversion.singular_values[..., 0]
        np.testing.assert_allclose(other, expected, rtol=1e-9)


def test_it_depends_on_no_length_and_no_sign():
    rng = generator(2)
    response, jacobian, objective = (
        jnp.asarray(x, jnp.float32) for x in (rng.normal(size=4), rng.normal(size=(4, 9)), rng.normal(size=4))
    )
    plain = stationarity(response, jacobian, objective, significance=TWO)
    for factor in (-1e-30, 1e30):
        scaled = stationarity(response * factor, jacobian * factor, objective * factor, significance=TWO)
        np.testing.assert_allclose(scaled, plain, rtol=1e-5)


def test_half_precision_is_computed_in_single():
    response, objective = (jnp.asarray(x, jnp.bfloat16) for x in generator(7).normal(size=(2, 3)))
    jacobian = jnp.asarray(generator(8).normal(size=(3, 5)), jnp.bfloat16)
    found = stationarity(response, jacobian, objective, significance=TWO)
    assert found.dtype == jnp.float32
    wide = (np.asarray(x, np.float64) for x in (response, jacobian, objective))
    np.testing.assert_allclose(found, reference(*wide, 2), rtol=1e-5)


def test_dead_features_say_nothing(x64):
    rng = generator(3)
    response, jacobian = kill(rng.normal(size=5), rng.normal(size=(5, 12)), [1, 3])
    objective = rng.normal(size=5)
    expected = reference(response, jacobian, objective, 2)
    np.testing.assert_allclose(stationarity(response, jacobian, objective, significance=TWO), expected, rtol=1e-12)
    only = stationarity(response, jacobian, np.eye(5)[1], significance=TWO)
    np.testing.assert_allclose(only, 0, atol=1e-15)


def test_nothing_moves_where_the_jacobian_is_zero_and_nothing_is_known_where_it_is_not_finite():
    rng = generator(4)
    response, jacobian = rng.random((4, 3)).astype(np.float32), rng.normal(size=(4, 3, 7)).astype(np.float32)
    alone = stationarity(response[3], jacobian[3], np.ones(3, np.float32), significance=TWO)
    jacobian[0] = 0
    jacobian[1, 1, 2] = np.nan
    response[2, 0] = np.inf
    found = stationarity(response, jacobian, np.ones((4, 3), np.float32), significance=TWO)
    np.testing.assert_allclose(found, [0, np.nan, np.nan, alone], rtol=1e-5)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"objectives": np.ones((2, 3))}, ValueError, r"objectives must have the shape of response, \(3,\)"),
        ({"objectives": np.ones(4)}, ValueError, "objectives must have a last axis of 3 features"),
        ({"objectives": np.zeros(3)}, ValueError, "objectives must be nonzero"),
        ({"objectives": np.full(3, np.nan)}, ValueError, "objectives must be finite"),
        ({"objectives": np.ones(3) * 1j}, TypeError, "objectives must be real"),
        ({"jacobian": np.ones((3, 0))}, ValueError, "jacobian must have no empty axis"),
        ({"jacobian": np.ones((4, 5))}, ValueError, "jacobian must have the shape of response"),
        ({"response": np.ones(3, int)}, TypeError, "response must be of floating point"),
        ({"significance": cosine}, TypeError, r"significance must be the jifv\.Significance"),
    ],
)
def test_what_is_refused(changed, error, message):
    good = {"response": np.ones(3), "jacobian": np.ones((3, 5)), "objectives": np.ones(3), "significance": TWO}
    arguments = good | changed
    significance = arguments.pop("significance")
    with pytest.raises(error, match=message):
        stationarity(*arguments.values(), significance=significance)


# The compressed Jacobian


@pytest.mark.parametrize("shape", [(1, 1), (6, 4), (4, 4), (5, 60), (3, 9001), (2, 3, 5, 60)])
def test_compressed_jacobians_have_the_same_left_side(x64, shape):
    jacobian = generator(*shape).normal(size=shape)
    compressed = compress(jnp.asarray(jacobian))
    assert compressed.shape == (*shape[:-1], min(shape[-2:]))
    (left, values, _), (own, same, _) = (np.linalg.svd(x, full_matrices=False) for x in (jacobian, compressed))
    np.testing.assert_allclose(same, values, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(np.abs(np.sum(left * own, axis=-2)), 1, rtol=1e-10)
    # The Gram matrix is all that the left side is made of, so that every product A J is kept as well.
    np.testing.assert_allclose(compressed @ compressed.mT, jacobian @ jacobian.swapaxes(-1, -2), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("restrict", [False, True])
def test_inversion_takes_compressed_jacobians(x64, restrict):
    rng = generator(5)
    response, jacobian = kill(rng.normal(size=(2, 5)), rng.normal(size=(2, 5, 40)), [2])
    basis = orthonormal(rng, 5, 3) if restrict else None
    whole = invert_two(response, jacobian, basis=basis)
    small = invert_two(response, compress(jnp.asarray(jacobian)), basis=basis)
    for name in ("objective", "singular_values", "gap", "stationarity", "cosine"):
        np.testing.assert_allclose(getattr(small, name), getattr(whole, name), rtol=1e-9, atol=1e-12, err_msg=name)
    np.testing.assert_array_equal(small.dead, whole.dead)


def test_compressing_again_changes_nothing_but_signs():
    once = compress(jnp.asarray(generator(6).normal(size=(4, 30)), jnp.float32))
    assert once.dtype == jnp.float32
    np.testing.assert_allclose(np.abs(compress(once)), np.abs(once), atol=1e-5)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (4, 0), (0, 2, 3)])
def test_what_cannot_be_compressed(shape):
    with pytest.raises(ValueError, match=r"jacobian must have shape \(\*batch, n, m\) with no empty axis, got"):
        jax.jit(compress)(jnp.ones(shape))
