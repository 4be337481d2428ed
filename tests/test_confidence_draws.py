"""Draws from the posterior against closed forms and quadrature of the Bingham distribution."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ive
from support.inverse_problem import invert_two, kill, orthonormal, with_singular_values

from jifv.confidence import draw, posterior
from jifv.inversion import invert
from jifv.significance import Significance

COUNT = 4000


@cache
def drawing(count):
    return jax.jit(lambda key, given: draw(key, given, count=count))


def drawn(values, scales, seed=0):
    """Coordinates of draws along the singular vectors, for given singular values and τ."""
    values = np.asarray(values, np.float32)
    inversion = invert(np.ones_like(values), np.diag(values), significance=Significance(0))
    given = posterior(inversion, np.ones_like(values), 1.0)._replace(scales=jnp.asarray(scales, jnp.float32))
    return np.asarray(drawing(COUNT)(jax.random.key(seed), given))


def assert_mean(squares, expected):
    """Equal up to five standard errors."""
    error = 5 * squares.std(axis=0) / np.sqrt(len(squares)) + 1e-6
    assert np.all(np.abs(squares.mean(axis=0) - expected) < error), (squares.mean(axis=0), expected)


@settings(max_examples=10)
@given(st.floats(0, 1), st.floats(-4, 1))
def test_on_a_circle_the_mean_square_is_a_quotient_of_bessel_functions(second, exponent):
    tau = 10**exponent
    # exp(-u) in the angle is a von Mises distribution of twice the angle.
    kappa = (1 - second**2) / (4 * tau**2)
    assert_mean(drawn([1, second], [tau])[:, 0] ** 2, (1 - ive(1, kappa) / ive(0, kappa)) / 2)


def integrals(values, tau):
    """Normalizing constant and mean squares on the sphere, by quadrature in height and longitude."""
    height, weights = np.polynomial.legendre.leggauss(400)
    longitude = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    ring = np.sqrt(1 - height**2)[:, None]
    points = np.stack(np.broadcast_arrays(ring * np.cos(longitude), ring * np.sin(longitude), height[:, None]), -1)
    density = np.exp(-((points**2) @ np.asarray(values, float) ** 2) / (2 * tau**2)) * weights[:, None]
    total = density.sum() * 2 * np.pi / 400
    return total, np.einsum("ab,abi->i", density, points**2) / density.sum()


@settings(max_examples=10)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=2), st.floats(-1, 0.5))
def test_on_a_sphere_mean_squares_are_those_of_quadrature(others, exponent):
    values = [1, *sorted(others, reverse=True)]
    assert_mean(drawn(values, [10**exponent]) ** 2, integrals(values, 10**exponent)[1])


def test_several_scales_are_equally_frequent():
    values, scales = [1, 0.5, 0.3], [0.1, 0.4, 2.0]
    expected = np.mean([integrals(values, tau)[1] for tau in scales], axis=0)
    assert_mean(drawn(values, scales) ** 2, expected)


def test_a_common_factor_of_all_singular_values_changes_nothing():
    np.testing.assert_array_equal(drawn([1, 0.5, 0.25], [0.1]), drawn([4, 2, 1], [0.1]))


def test_far_from_the_bottom_coordinates_are_normal():
    tau, values = 1e-3, np.array([1, 0.3, 0.1, 0.05, 0])
    found = drawn(values, [tau])
    for index in range(4):
        scaled = found[:, index] * values[index] / tau
        assert scipy.stats.kstest(scaled, "norm").pvalue > 1e-3
    assert np.all(found[:, -1] > 0.9)  # on the side of the response


@pytest.mark.parametrize("features", [1, 2, 7, 60])
def test_without_a_gradient_draws_are_uniform_on_the_half_sphere(features):
    found = drawn(np.zeros(features), [0.1])
    assert_mean(found**2, 1 / features)
    height = found @ np.full(features, features**-0.5)
    assert np.all(height >= 0)
    if features > 1:
        # The square of a coordinate of a uniform point has a beta distribution.
        assert scipy.stats.kstest(height**2, "beta", (0.5, (features - 1) / 2)).pvalue > 1e-3


def test_all_directions_in_high_dimensions():
    rng = np.random.default_rng(0)
    values = np.sort(rng.uniform(0.2, 1, 40))[::-1]
    found = drawn(values, [0.1])
    # An independent sampler: Gibbs-like reweighting of normal draws, exp(-u) known up to the sphere's constraint.
    normals = rng.normal(size=(400_000, 40)) / np.sqrt(values**2 / 0.01 + 24)
    points = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    logs = -((points**2) @ values**2) / 0.02 + 20 * np.log((points**2) @ (values**2 / 0.01 + 24))
    weights = np.exp(logs - logs.max())
    expected = weights @ points**2 / weights.sum()
    np.testing.assert_allclose((found**2).mean(axis=0), expected, rtol=0.2)


def test_they_lie_in_the_search_space_and_are_zero_on_dead_features(x64):
    rng = np.random.default_rng(1)
    response, jacobian = kill(np.abs(rng.normal(size=6)), rng.normal(size=(6, 9)), [4])
    basis = orthonormal(rng, 6, 4)
    inversion = invert_two(response, jacobian, basis=basis)
    found = np.asarray(draw(jax.random.key(0), posterior(inversion, response, 0.5), count=50))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-10)
    np.testing.assert_array_equal(found[:, 4], 0)
    assert np.all(found @ response >= 0)
    # B v in V, as of the answer.
    bent = np.asarray(Significance(2).gradient_product(jnp.broadcast_to(response, found.shape), jnp.asarray(found)))
    np.testing.assert_allclose(bent @ basis @ basis.T, bent, atol=1e-8)


def test_samples_of_a_batch_are_independent_and_what_is_not_known_stays_unknown():
    rng = np.random.default_rng(2)
    jacobian = np.stack([with_singular_values(rng, [1, 0.5, 0.01], 5)] * 4).astype(np.float32)
    jacobian[1, 0, 0] = np.nan
    response = np.ones((4, 3), np.float32)
    response[2] = np.inf
    given = posterior(invert_two(response, jacobian), response, 0.05)
    found = np.asarray(drawing(20)(jax.random.key(0), given))
    assert found.shape == (4, 20, 3)
    assert np.isnan(found[1:3]).all()
    assert np.isfinite(found[[0, 3]]).all()
    assert not np.allclose(found[0], found[3])
    again = np.asarray(drawing(20)(jax.random.key(0), given))
    np.testing.assert_array_equal(found, again)


def test_one_sample_needs_no_batch_axis():
    inversion = invert_two(np.ones(3, np.float32), np.eye(3, dtype=np.float32))
    assert drawing(5)(jax.random.key(0), posterior(inversion, np.ones(3, np.float32), 0.1)).shape == (5, 3)


def test_scipy_integrates_to_the_same():
    """The quadrature of this file, against another."""
    values, tau = [1, 0.5, 0.3], 0.4

    def density(longitude, height):
        ring = np.sqrt(1 - height**2)
        point = np.array([ring * np.cos(longitude), ring * np.sin(longitude), height])
        return np.exp(-np.sum((point * values) ** 2) / (2 * tau**2))

    total, _ = scipy.integrate.dblquad(density, -1, 1, 0, 2 * np.pi)
    assert total == pytest.approx(integrals(values, tau)[0], rel=1e-6)
