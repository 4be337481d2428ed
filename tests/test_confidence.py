"""How sure an answer is: calibration, intervals, cones, and what cannot be told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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
from jifv.confidence import WIDE, Calibration, calibrate, draw, posterior, reachable, summarize
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
def calibrated():
    """Of the model: targets, responses, inversions and τ."""
    targets, jacobians = problems(generator(0), 0.02, 300)
    responses = targets + 0.1
    inversion = jifv.invert(responses, jacobians, significance=PLAIN)
    return targets, responses, inversion, calibrate(inversion, targets, single=True)


def test_the_scale_of_a_model_comes_back(calibrated):
    *_, calibration = calibrated
    assert calibration.scales.shape == (1,)
    # Relative to σ₁, which is a little below one.
    np.testing.assert_allclose(calibration.scales, 0.02, rtol=0.35)


def test_sets_hold_as_many_targets_as_they_say(calibrated):
    targets, responses, inversion, calibration = calibrated
    found = summarize(KEY, posterior(inversion, responses, calibration), draws=400)
    held = np.mean(jifv.angle(inversion.objective, targets) <= found.cone)
    assert 0.85 < held < 0.95
    inside = (found.lower <= targets) & (targets <= found.upper)
    assert 0.85 < np.mean(inside) < 0.95


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
    clear, not_clear = jax.tree.leaves(summarize(KEY, posterior(inversion, response, 0.01)).undecided)[0]
    assert (bool(clear), bool(not_clear)) == (False, True)
    found = summarize(KEY, posterior(inversion, response, 0.01))
    assert found.cone[0] < 15 < WIDE < found.cone[1]
    np.testing.assert_allclose(found.candidates, [1, 2], atol=0.1)
    # Of more features than are asked for, all are at the top.
    np.testing.assert_allclose(found.top, 1, rtol=1e-3)


def test_a_large_residue_rules_small_scales_out():
    """Of equal spectra the one far from rest has the wider cone, if τ may be either."""
    response, rng = np.ones((2, 3), np.float32), generator(3)
    axes = orthonormal(rng, 3, 3)
    jacobian = np.stack([axes * values for values in ([1, 0.6, 1e-3], [1, 0.6, 0.2])]).astype(np.float32)
    inversion = jifv.invert(response, jacobian, significance=PLAIN)
    mixed = summarize(KEY, posterior(inversion, response, Calibration(np.array([1e-3, 0.2], np.float32))))
    alone = summarize(KEY, posterior(inversion, response, 1e-3))
    assert mixed.cone[1] > 2 * mixed.cone[0]
    assert np.all(alone.cone < 1)


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


def test_several_scales_are_quantiles(calibrated):
    targets, _, inversion, single = calibrated
    several = np.asarray(calibrate(inversion, targets, scales=4).scales)
    assert several.shape == (4,)
    assert np.all(np.diff(several) > 0)
    assert several[0] < float(single.scales[0]) < several[-1]


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused():
    response = np.ones((2, 3), np.float32)
    inversion = invert_two(response, np.stack([np.eye(3)] * 2).astype(np.float32))
    good = posterior(inversion, response, 0.1)
    assert repr(good) == "Posterior(batch (2,), 3 features, V of dimension 3)"
    for scale in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="calibration must have positive and finite"):
            posterior(inversion, response, scale)
    with pytest.raises(ValueError, match="calibration must hold a vector"):
        posterior(inversion, response, Calibration(np.ones((0,))))
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
    with pytest.raises(ValueError, match=r"objectives must have shape \(samples, n\)"):
        calibrate(inversion, response[0])
    with pytest.raises(ValueError, match="scales must be at least 1"):
        calibrate(inversion, response, scales=0)
    unknown = invert_two(response * np.nan, np.stack([np.eye(3)] * 2).astype(np.float32))
    with pytest.raises(ValueError, match="inversion must be known for at least 2"):
        calibrate(unknown, response)
