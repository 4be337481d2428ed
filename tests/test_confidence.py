"""How sure an answer is: calibration, intervals, cones, and what cannot be told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ive
from support.inverse_problem import (
    TWO,
    generator,
    gradient_matrix,
    invert_two,
    kill,
    normalize,
    orthonormal,
    with_singular_values,
)

import jifv
from jifv._invert.calibrating import likeliest_scales, relative_scales, uncalibrated
from jifv.confidence import WIDE, Solved, calibrate, draw, posterior, reachable, summarize
from jifv.significance import Significance

KEY = jax.random.key(0)
PLAIN = Significance(0)
FEATURES = 5


def problems(rng, tau, samples):
    """Targets and Jacobians with Jᵀv = ε of standard deviation τ and σ₁ about 1: the model, with k = 0."""
    targets = np.abs(rng.normal(size=(samples, FEATURES)))
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    scales = np.geomspace(1, 0.1, FEATURES)
    jacobians = []
    for target in targets:
        free = with_singular_values(rng, scales, FEATURES)
        residue = tau * rng.normal(size=FEATURES)
        jacobians.append(free + np.outer(target, residue - free.T @ target))
    return targets.astype(np.float32), np.array(jacobians, np.float32)


@pytest.fixture(scope="module")
def known():
    """300 of the model, τ = 0.02."""
    targets, jacobians = problems(generator(0), 0.02, 300)
    responses = targets + 0.1
    return Solved(jifv.invert(responses, jacobians, significance=PLAIN), responses, targets, PLAIN)


def some(known, rows):
    return known._replace(
        inversion=jax.tree.map(lambda leaf: leaf[rows], known.inversion),
        response=known.response[rows],
        objectives=known.objectives[rows],
    )


def share_inside(known, calibration, level=0.9):
    given = posterior(known.inversion, known.response, calibration)
    found = summarize(KEY, given, level=level, draws=400)
    held = np.mean(jifv.angle(known.inversion.objective, known.objectives) <= found.cone)
    return held, np.mean((found.lower <= known.objectives) & (known.objectives <= found.upper))


def test_the_scale_of_a_model_comes_back(known):
    found = np.asarray(likeliest_scales(known))
    # σ₁ is about 1. Each is an estimate from four numbers, the middle of them one from all.
    np.testing.assert_allclose(np.sqrt(np.mean(found**2)), 0.02, rtol=0.2)


@pytest.mark.parametrize("degrees", [0.01, 1, 10])
def test_the_likeliest_scale_is_that_of_the_largest_density(degrees):
    """On a circle, where the density is known; the saddlepoint is worst there, and exact for small angles."""
    target = np.array([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])
    inversion = jifv.invert(np.ones((1, 2)), np.diag([1.0, 0.3])[None], significance=PLAIN)
    found = float(likeliest_scales(Solved(inversion, np.ones((1, 2)), target[None], PLAIN))[0])
    taus = np.geomspace(0.2, 5, 2000) * target[0]
    kappa = (1 - 0.3**2) / (4 * taus**2)
    # exp(-0.91 c₁²/2τ²) over its integral, 2π exp(-κ) I₀(κ).
    density = -(1 - 0.3**2) * target[0] ** 2 / (2 * taus**2) - np.log(ive(0, kappa))
    np.testing.assert_allclose(found, taus[np.argmax(density)], rtol=0.1)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_sets_hold_as_many_targets_as_they_say_of_others(known, level):
    calibration = calibrate(KEY, some(known, slice(0, None, 2)))
    cones, entries = share_inside(some(known, slice(1, None, 2)), calibration, level)
    assert abs(cones - level) < 0.1
    assert abs(entries - level) < 0.05


def test_levels_correct_a_wrong_scale(known):
    """Where τ is ten times too large, cones hold too many, unless their level is calibrated."""
    wrong = calibrate(KEY, some(known, slice(0, None, 2)))
    wrong = wrong._replace(scales=wrong.scales[-1:] * 10)
    plain, _ = share_inside(known, uncalibrated(wrong.scales))
    assert plain > 0.99


def test_several_settings_count_together(known):
    small, large = some(known, slice(0, 20)), some(known, slice(20, 60))
    both = calibrate(KEY, [small, large], scales=60)
    each = np.concatenate([relative_scales(small), relative_scales(large)])
    np.testing.assert_allclose(np.median(both.scales), np.median(each), rtol=0.2)
    assert repr(both).startswith("Calibration(60 scales, ")


def test_an_interval_a_cone_and_a_top_are_those_of_the_draws():
    rng = generator(1)
    response = np.ones(4, np.float32)
    inversion = invert_two(response, with_singular_values(rng, [1, 0.5, 0.2, 0.05], 6).astype(np.float32))
    given = posterior(inversion, response, 0.1)
    found = summarize(KEY, given, level=0.8, top=2, draws=4000)
    drawn = np.asarray(draw(jax.random.key(9), given, count=4000))
    np.testing.assert_allclose(found.lower, np.quantile(drawn, 0.1, axis=0), atol=0.05)
    np.testing.assert_allclose(found.upper, np.quantile(drawn, 0.9, axis=0), atol=0.05)
    angles = np.degrees(np.arccos(np.clip(drawn @ np.asarray(inversion.objective), -1, 1)))
    np.testing.assert_allclose(found.cone, np.quantile(angles, 0.8), rtol=0.05)
    ranks = np.argsort(np.argsort(-drawn, axis=1), axis=1)
    np.testing.assert_allclose(found.top, np.mean(ranks < 2, axis=0), atol=0.05)
    assert float(np.sum(found.top)) == pytest.approx(2, abs=1e-3)
    shares = np.mean((drawn @ np.asarray(inversion.singular_vectors)) ** 2, axis=0)
    np.testing.assert_allclose(found.candidates, 1 / np.sum(shares**2), rtol=0.1)


def test_it_cannot_tell_where_several_values_lie_below_tau():
    rng, response = generator(2), np.ones((2, 4), np.float32)
    jacobian = np.stack([with_singular_values(rng, values, 6) for values in ([1, 0.5, 0.2, 0.001], [1, 1, 0.002, 0])])
    inversion = invert_two(response, jacobian.astype(np.float32))
    found = summarize(KEY, posterior(inversion, response, 0.01))
    np.testing.assert_array_equal(found.undecided, [False, True])
    assert found.cone[0] < 15 < WIDE < found.cone[1]
    np.testing.assert_allclose(found.candidates, [1, 2], atol=0.1)
    # Of more features than are asked for, all are at the top.
    np.testing.assert_allclose(found.top, 1, rtol=1e-3)


def test_scales_of_a_calibration_are_in_units_of_the_stationarity():
    response, rng = np.ones((3, 3), np.float32), generator(3)
    axes = orthonormal(rng, 3, 3)
    jacobian = np.stack([axes * values for values in ([1, 0.6, 1e-3], [1, 0.6, 0.2], [1, 1, 0])]).astype(np.float32)
    inversion = jifv.invert(response, jacobian, significance=PLAIN)
    given = posterior(inversion, response, uncalibrated(jnp.asarray([0.5, 2.0])))
    np.testing.assert_allclose(given.scales[:2], [[0.5e-3, 2e-3], [0.1, 0.4]], rtol=1e-3)
    assert 0 < given.scales[2, 0] < 1e-6
    np.testing.assert_allclose(posterior(inversion, response, 0.1).scales, 0.1)


def test_dead_features_have_no_interval_and_no_place():
    rng = generator(4)
    response, jacobian = kill(np.ones(4, np.float32), rng.normal(size=(4, 7)).astype(np.float32), [1])
    found = summarize(KEY, posterior(invert_two(response, jacobian), response, 0.1), draws=50)
    for name in ("lower", "upper", "top"):
        np.testing.assert_array_equal(np.isnan(getattr(found, name)), [False, True, False, False])
    assert 1 <= float(found.candidates) <= 3
    assert np.isfinite(found.cone)


def test_of_a_sample_that_is_not_finite_nothing_is_known():
    jacobian = np.stack([np.eye(3), np.full((3, 3), np.nan)]).astype(np.float32)
    response = np.ones((2, 3), np.float32)
    found = summarize(KEY, posterior(invert_two(response, jacobian), response, 0.1), draws=20)
    assert np.isfinite(found.cone[0])
    assert np.isnan(found.cone[1])
    assert np.isnan(found.top[1]).all()
    assert bool(found.undecided[1])
    assert repr(found) == "Confidence(batch (2,), 3 features)"


def test_on_a_critical_space(x64):
    rng = generator(5)
    basis = orthonormal(rng, 4, 3)
    jacobian = basis @ rng.normal(size=(3, 8))
    response = np.abs(rng.normal(size=4))
    inversion = invert_two(response, jacobian, basis=basis)
    given = posterior(inversion, response, 0.05)
    found = summarize(KEY, given, basis=basis, draws=2000)
    drawn = np.asarray(draw(jax.random.key(1), given, count=2000)) @ basis
    answer = np.asarray(inversion.objective) @ basis
    cosines = drawn @ answer / np.linalg.norm(drawn, axis=1) / np.linalg.norm(answer)
    np.testing.assert_allclose(found.cone, np.degrees(np.arccos(np.quantile(cosines, 0.1))), rtol=0.1)
    onto = drawn / np.linalg.norm(drawn, axis=1, keepdims=True) @ basis.T
    np.testing.assert_allclose(found.lower, np.quantile(onto, 0.05, axis=0), atol=0.05)


def test_what_can_be_reached_is_the_projection_in_gradients(x64):
    rng = generator(6)
    response, objective, basis = rng.normal(size=4), rng.normal(size=4), orthonormal(rng, 4, 2)
    bent = gradient_matrix(response, 2)
    expected = normalize(np.linalg.solve(bent, basis @ basis.T @ bent @ objective))
    found = reachable(jnp.asarray(objective), jnp.asarray(response), basis, significance=TWO)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused():
    response = np.ones((2, 3), np.float32)
    inversion = invert_two(response, np.stack([np.eye(3)] * 2).astype(np.float32))
    good = posterior(inversion, response, 0.1)
    assert repr(good) == "Posterior(batch (2,), 3 features, V of dimension 3)"
    for scale in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="calibration must have positive and finite"):
            posterior(inversion, response, scale)
    with pytest.raises(ValueError, match="calibration must hold at least one"):
        posterior(inversion, response, uncalibrated(jnp.ones(0)))
    with pytest.raises(ValueError, match=r"response must have shape \(2, 3\)"):
        posterior(inversion, response[0], 0.1)
    for options, message in (
        ({"level": 1.0}, "level must be below 1"),
        ({"top": 0}, "top must be at least 1"),
        ({"draws": 0}, "draws must be at least 1"),
        ({"basis": np.ones((3, 1), np.float32)}, "basis must have orthonormal columns"),
    ):
        with pytest.raises(ValueError, match=message):
            summarize(KEY, good, **options)
    known = Solved(inversion, response, response, TWO)
    for changed, message in (
        ({"objectives": response[0]}, r"objectives must have shape \(samples, n\)"),
        ({"response": response[0]}, r"response must have shape \(samples, n\)"),
        ({"objectives": response * 0}, "objectives must be nonzero"),
        ({"inversion": jax.tree.map(lambda leaf: leaf[:1], inversion)}, "objectives must have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            calibrate(KEY, known._replace(**changed))
    with pytest.raises(ValueError, match="scales must be at least 1"):
        calibrate(KEY, known, scales=0)
    with pytest.raises(TypeError, match="significance must be"):
        calibrate(KEY, known._replace(significance=None))
    unknown = invert_two(response * np.nan, np.stack([np.eye(3)] * 2).astype(np.float32))
    with pytest.raises(ValueError, match="known must hold at least 2"):
        calibrate(KEY, known._replace(inversion=unknown))
