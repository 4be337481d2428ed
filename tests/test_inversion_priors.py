"""Objectives and weights of priors together, by linear algebra alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from support.inverse_problem import POWERS, TWO, generator, gradient_matrix, normalize, sine

import jifv
from jifv.inversion import invert
from jifv.significance import Significance

FEATURES, ENTRIES = 6, 40


def stationary(rng, weights, power=2.0, gradients=None):
    """A response, a Jacobian with s·JᵀBv = Σ λ∇R, the ∇R and v."""
    v = normalize(rng.uniform(size=FEATURES))
    response = normalize(v + 0.3 * rng.normal(size=FEATURES)) * 5
    gradients = rng.normal(size=(len(weights), ENTRIES)) if gradients is None else gradients
    scale = (normalize(response) @ v) ** power
    product = gradient_matrix(response, power) @ v
    jacobian = rng.normal(size=(FEATURES, ENTRIES))
    left = np.asarray(weights) @ gradients / scale - jacobian.T @ product
    return response, jacobian + np.outer(product, left) / (product @ product), gradients, v


@pytest.mark.parametrize("power", POWERS)
def test_objective_and_weights_are_exact(x64, power):
    response, jacobian, gradients, v = stationary(generator(1), [0.3, 2.0], power)
    found = invert(response, jacobian, significance=Significance(power), prior_gradients=gradients)
    # What is left of JᵀBv, a thousandth, to be preferred to objectives with large weights.
    assert sine(found.objective, v) < 1e-5
    np.testing.assert_allclose(found.weights.value, [0.3, 2.0], rtol=1e-4)
    assert found.weights.plausible.all()
    assert (np.abs(found.weights.value - np.array([0.3, 2.0])) < found.weights.error).all()
    assert found.gap > 0.9
    ignored = invert(response, jacobian, significance=Significance(power))
    assert sine(ignored.objective, v) > 0.05


def test_how_distinct_a_weight_is_against_scipy(x64):
    response, jacobian, gradients, v = stationary(generator(2), [1.0, 0.5])
    found = invert(response, jacobian, significance=TWO, prior_gradients=gradients).weights
    across = scipy.linalg.null_space(v[None])
    rows = across.T @ gradient_matrix(response, 2.0) @ jacobian
    for own, other in ((0, 1), (1, 0)):
        space = np.vstack([rows, gradients[other]]).T
        angle = scipy.linalg.subspace_angles(space, gradients[own][:, None])[0]
        np.testing.assert_allclose(found.distinct[own], np.sin(angle), rtol=1e-3)


def test_the_sign_of_a_weight_is_checked(x64):
    response, jacobian, gradients, _ = stationary(generator(3), [-0.7, 1.0])
    found = invert(response, jacobian, significance=TWO, prior_gradients=gradients)
    np.testing.assert_allclose(found.weights.value, [-0.7, 1.0], rtol=1e-3)
    np.testing.assert_array_equal(found.weights.plausible, [False, True])


def test_a_prior_without_a_gradient_changes_nothing(x64):
    rng = generator(4)
    response, jacobian, _, _ = stationary(rng, [], gradients=np.zeros((0, ENTRIES)))
    flat = invert(response, jacobian, significance=TWO, prior_gradients=np.zeros((1, ENTRIES)))
    plain = invert(response, jacobian, significance=TWO)
    np.testing.assert_allclose(flat.objective, plain.objective, atol=1e-12)
    np.testing.assert_allclose(flat.singular_values, plain.singular_values, atol=1e-12)
    assert np.isnan(flat.weights.value).all()
    assert flat.weights.distinct[0] == 0
    assert not flat.weights.plausible.any()


def test_a_weight_of_zero_is_zero(x64):
    response, jacobian, gradients, v = stationary(generator(5), [0.0, 1.0])
    found = invert(response, jacobian, significance=TWO, prior_gradients=gradients)
    assert sine(found.objective, v) < 1e-5
    np.testing.assert_allclose(found.weights.value, [0, 1], atol=1e-4)


def test_a_prior_that_an_objective_explains_is_no_trivial_solution(x64):
    """The weight is 0, and ∇R is what the gradient for another objective would be."""
    response, jacobian, _, v = stationary(generator(6), [], gradients=np.zeros((0, ENTRIES)))
    other = scipy.linalg.null_space(v[None])[:, 1]
    gradient = (jacobian.T @ gradient_matrix(response, 2.0) @ other)[None]
    found = invert(response, jacobian, significance=TWO, prior_gradients=gradient)
    assert sine(found.objective, v) < 1e-6
    assert found.weights.distinct[0] < 1e-6
    assert np.isnan(found.weights.value).all()


def test_equal_priors_cannot_be_told_apart(x64):
    twice = np.repeat(generator(7).normal(size=(1, ENTRIES)), 2, axis=0)
    response, jacobian, gradients, v = stationary(generator(8), [0.4, 0.4], gradients=twice)
    found = invert(response, jacobian, significance=TWO, prior_gradients=gradients)
    assert sine(found.objective, v) < 1e-5
    assert (found.weights.distinct < 1e-6).all()
    assert np.isnan(found.weights.value).all()


def test_batches_and_compressed_jacobians(x64):
    cases = [stationary(generator(9, index), [0.3, 2.0]) for index in range(4)]
    response, jacobian, gradients, _ = (np.stack(each) for each in zip(*cases, strict=True))
    together = jax.jit(lambda *arrays: invert(*arrays[:2], significance=TWO, prior_gradients=arrays[2]))
    batch = together(response, jacobian, gradients)
    compressed = jifv.compress(jnp.concatenate([jacobian, gradients], axis=1))
    small = invert(response, compressed[:, :FEATURES], significance=TWO, prior_gradients=compressed[:, FEATURES:])
    for index, (r, j, g, _) in enumerate(cases):
        alone = invert(r, j, significance=TWO, prior_gradients=g)
        for found in (batch, small):
            np.testing.assert_allclose(found.objective[index], alone.objective, atol=1e-10)
            np.testing.assert_allclose(found.weights.value[index], alone.weights.value, rtol=1e-8)
            np.testing.assert_allclose(found.weights.distinct[index], alone.weights.distinct, rtol=1e-8)


def test_no_priors_are_the_same_to_the_bit():
    rng = generator(10)
    response, jacobian = rng.normal(size=(2, FEATURES)), rng.normal(size=(2, FEATURES, ENTRIES))
    plain = invert(response, jacobian, significance=TWO)
    none = invert(response, jacobian, significance=TWO, prior_gradients=np.zeros((2, 0, ENTRIES)))
    assert plain.weights is none.weights is None
    for first, second in zip(jax.tree.leaves(plain), jax.tree.leaves(none), strict=True):
        np.testing.assert_array_equal(first, second)


def test_what_is_not_finite_stays_in_its_sample():
    cases = [stationary(generator(11, index), [0.3, 2.0]) for index in range(2)]
    response, jacobian, gradients, v = (np.stack(each) for each in zip(*cases, strict=True))
    gradients[0, 1, 3] = np.nan
    found = invert(response, jacobian, significance=TWO, prior_gradients=gradients)
    assert np.isnan(found.objective[0]).all()
    assert np.isnan(found.weights.value[0]).all()
    assert not found.weights.plausible[0].any()
    assert sine(found.objective[1], v[1]) < 1e-3
    np.testing.assert_allclose(found.weights.value[1], [0.3, 2.0], rtol=1e-2)


def test_dead_features_stay_out_of_it(x64):
    response, jacobian, gradients, v = stationary(generator(12), [0.3, 2.0])
    response, jacobian = np.append(response, 0), np.vstack([jacobian, np.zeros(ENTRIES)])
    found = invert(response, jacobian, significance=TWO, prior_gradients=gradients)
    assert found.objective[-1] == 0
    assert sine(found.objective[:-1], v) < 1e-5
    np.testing.assert_allclose(found.weights.value, [0.3, 2.0], rtol=1e-4)
    assert (found.weights.distinct > 0.3).all()


def test_scales_do_not_matter():
    response, jacobian, gradients, v = stationary(generator(13), [0.3, 2.0])
    scaled = gradients * np.array([[1e-12], [1e15]])
    found = invert(response, jacobian, significance=TWO, prior_gradients=scaled)
    assert sine(found.objective, v) < 1e-3
    np.testing.assert_allclose(found.weights.value * np.array([1e-12, 1e15], np.float32), [0.3, 2.0], rtol=1e-2)


@pytest.mark.parametrize("shape", [(2, ENTRIES + 1), (ENTRIES,), (1, 2, ENTRIES)])
def test_gradients_that_do_not_fit_are_named(shape, unchecked):
    response, jacobian, _, _ = stationary(generator(14), [1.0])
    with pytest.raises(ValueError, match="prior_gradients must have the shape of jacobian"):
        invert(response, jacobian, significance=TWO, prior_gradients=np.ones(shape))
    with pytest.raises(TypeError, match="prior_gradients must be of floating point"):
        invert(response, jacobian, significance=TWO, prior_gradients=np.ones((2, ENTRIES), int))
