"""Claims about pictures: true ones must pass, false ones not; and pictures that are optimal for nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.inverse_problem import TWO, generator, gradient_matrix, kill
from support.smooth_network import FEATURES, SAMPLES, linearized, realizations

import jifv
from jifv.audit import audit_claim

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def made():
    return realizations()


def audit(claims, *, linearization=None, random=64):
    response, jacobian = linearization or linearized()
    return audit_claim(KEY, response, jacobian, claims, significance=TWO, random=random)


def test_true_claims_stand_out_and_false_ones_do_not(made):
    true = audit(made.objectives)
    false = audit(jnp.roll(made.objectives, 1, axis=0))
    assert np.median(true.p_value) < 0.03
    assert np.median(false.p_value) > 0.2
    assert np.median(true.stationarity) < 0.1 * np.median(false.stationarity)


def test_the_numbers_are_those_of_stationarity(made):
    response, jacobian = linearized()
    found = audit(made.objectives, random=5)
    expected = jifv.stationarity(response, jacobian, made.objectives, significance=TWO)
    np.testing.assert_allclose(found.stationarity, expected, rtol=1e-3, atol=1e-6)
    assert found.others.shape == (SAMPLES, 5 + FEATURES + 1)
    claims = np.concatenate([jifv.sparse_objectives(KEY, 5, FEATURES), np.eye(FEATURES), response[:1]])
    near = np.asarray(jifv.angle(claims, made.objectives[:1])) < 30
    every = jifv.stationarity(*(jnp.stack([each[0]] * 12) for each in (response, jacobian)), claims, significance=TWO)
    np.testing.assert_allclose(found.others[0], np.where(near, np.nan, every), rtol=1e-4)
    assert repr(found) == f"Audit(batch ({SAMPLES},), 12 other claims)"


def test_the_p_value_is_the_rank(made):
    found = audit(made.objectives)
    for rest, others, p_value in zip(found.stationarity, found.others, found.p_value, strict=True):
        others = np.asarray(others)[np.isfinite(others)]
        np.testing.assert_allclose(p_value, (1 + np.sum(others <= rest)) / (1 + len(others)), rtol=1e-6)


def test_dead_features_are_no_claims(x64):
    rng = generator(0)
    response, jacobian = kill(np.abs(rng.normal(size=5)), rng.normal(size=(5, 9)), [2])
    claim = np.array([0.6, 0, 0.8, 0, 0])
    found = audit_claim(KEY, response, jacobian, claim, significance=TWO, random=3)
    assert np.isnan(found.others[3 + 2])
    np.testing.assert_allclose(found.on_dead, 0.64)
    # What lies on the dead feature is left out of the others, whose length is then one again.
    drawn = np.asarray(jifv.sparse_objectives(KEY, 3, 5)) * [1, 1, 0, 1, 1]
    product = gradient_matrix(response, 2) @ jacobian
    rests = np.linalg.norm(drawn @ product, axis=1) / np.linalg.norm(drawn, axis=1) / np.linalg.norm(product, 2)
    others = np.asarray(found.others[:3])
    np.testing.assert_allclose(others, np.where(np.isnan(others), np.nan, rests), rtol=1e-6)
    assert np.isfinite(others).any()


def test_of_a_batch_only_what_is_not_finite_is_unknown(made):
    response, jacobian = (np.array(each) for each in linearized())
    jacobian[1, 0, 0], response[2, 0] = np.nan, np.inf
    found = audit(made.objectives, linearization=(response, jacobian))
    whole = audit(made.objectives)
    unknown = np.isin(np.arange(SAMPLES), [1, 2])
    for name in ("stationarity", "p_value"):
        np.testing.assert_array_equal(np.isnan(getattr(found, name)), unknown)
        np.testing.assert_allclose(getattr(found, name)[~unknown], getattr(whole, name)[~unknown], rtol=1e-5)


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused():
    response, jacobian = np.ones(3), np.ones((3, 4))
    with pytest.raises(ValueError, match="claims must have the shape of response"):
        audit_claim(KEY, response, jacobian, np.ones((2, 3)), significance=TWO)
    with pytest.raises(ValueError, match="random must be at least 1"):
        audit_claim(KEY, response, jacobian, response, significance=TWO, random=0)
    with pytest.raises(TypeError, match="significance must be the"):
        audit_claim(KEY, response, jacobian, response, significance=None)
