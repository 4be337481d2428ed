"""Networks compared: a permuted and rescaled copy must come back, and what no copy is must not look like one."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import smooth_network
from support.inverse_problem import TWO, generator, gradient_matrix
from support.smooth_network import FEATURES, HIDDEN, SAMPLES, network

import jifv
from jifv import compare
from jifv.compare import match_features, transfer

ORDER = np.array([3, 0, 5, 1, 4, 2])
LENGTHS = np.array([0.2, 1.5, 3, 0.7, 8, 1])


def network_or_copy(p):
    """The network, or where the last entry of p is 1 its copy: feature i is ORDER[i], LENGTHS[i] times as large.

    One program for both. Nothing depends smoothly on that entry, so that it adds a column of zeros to J.
    """
    r = network(p[:-1])
    return jnp.where(p[-1] == 1, r[ORDER] * jnp.asarray(LENGTHS, p.dtype), r)


def with_entry(realizations, value):
    parameters = jnp.pad(realizations.parameters, ((0, 0), (0, 1)), constant_values=value)
    return replace(realizations, parameters=parameters)


def other(p):
    return 2 + jnp.asarray(generator(7).normal(size=(4, 16)), p.dtype) @ jnp.tanh(jnp.asarray(HIDDEN, p.dtype) @ p)


@pytest.fixture(scope="module")
def realizations():
    return smooth_network.realizations()


@pytest.fixture(scope="module")
def seen(realizations):
    return transfer(network_or_copy, with_entry(realizations, 1))


def test_the_permutation_of_a_copy_comes_back_with_its_lengths(seen):
    found = match_features(seen.gradients, seen.seen)
    expected = np.argsort(ORDER)  # where in the copy each feature went
    np.testing.assert_array_equal(found.feature, expected)
    lengths = LENGTHS[expected]
    np.testing.assert_allclose(found.scale, lengths / np.exp(np.mean(np.log(lengths))), rtol=0.02)


def test_normalized_the_answer_is_the_same_whatever_the_lengths(realizations, seen):
    """Of the network and of its copy: what inversion finds, feature by feature, and so the lengths."""
    own, copy = (transfer(network_or_copy, with_entry(realizations, each), normalize=True) for each in (0, 1))
    np.testing.assert_allclose(copy.inversion.objective, own.inversion.objective[:, ORDER], atol=1e-3)
    np.testing.assert_allclose(copy.inversion.gap, own.inversion.gap, rtol=1e-3)
    expected = np.argsort(ORDER)
    lengths = LENGTHS[expected] / np.exp(np.mean(np.log(LENGTHS)))
    found = match_features(copy.gradients, copy.seen)
    np.testing.assert_array_equal(found.feature, expected)
    np.testing.assert_allclose(found.scale, lengths, rtol=5e-3)
    np.testing.assert_allclose(copy.response, seen.response, rtol=1e-6)


def test_normalized_there_is_no_basis(realizations):
    with pytest.raises(ValueError, match="basis must be None with normalize"):
        transfer(network_or_copy, with_entry(realizations, 1), basis=np.eye(FEATURES, 2), normalize=True)


def test_of_the_same_network_the_answer_is_its_own_objective(realizations):
    own = transfer(network_or_copy, with_entry(realizations, 0))
    assert np.median(jifv.angle(own.inversion.objective, realizations.objectives)) < 0.5
    np.testing.assert_allclose(own.response, realizations.response, rtol=1e-5)
    found = match_features(own.gradients, own.seen)
    np.testing.assert_array_equal(found.feature, np.arange(FEATURES))
    np.testing.assert_allclose(found.scale, 1, rtol=0.02)
    assert repr(own) == f"Transfer({SAMPLES} samples, from {FEATURES} features to {FEATURES})"


def test_gradients_are_those_of_the_significance(realizations, seen):
    response, objective = (np.asarray(each[3], np.float64) for each in (seen.response, seen.inversion.objective))
    expected = gradient_matrix(response, 2) @ objective
    np.testing.assert_allclose(seen.seen[3], expected / np.linalg.norm(expected), atol=1e-5)
    response, objective = (np.asarray(e[3], np.float64) for e in (realizations.response, realizations.objectives))
    expected = gradient_matrix(response, 2) @ objective
    np.testing.assert_allclose(seen.gradients[3], expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.filterwarnings("ignore::jifv.inversion.NotStationaryWarning")
def test_another_network_may_have_fewer_features(realizations):
    found = transfer(other, realizations)
    assert found.seen.shape == (SAMPLES, 4)
    match = match_features(found.gradients, found.seen)
    assert sorted(match.feature) == [-1, -1, 0, 1, 2, 3]
    assert np.isnan(match.scale[match.feature < 0]).all()
    # Nothing is as similar as a feature is to its copy.
    assert match.similarity.shape == (FEATURES, 4)
    assert np.median(np.max(match.similarity, axis=1)) < 0.9


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 9))
def test_gradients_of_a_copy_are_matched_whatever_the_factors_of_samples(seed, features):
    rng = generator(seed)
    a = rng.normal(size=(30, features))
    order, lengths, factors = rng.permutation(features), rng.lognormal(size=features), rng.lognormal(size=(30, 1)) / 4
    found = match_features(a, factors * (a / lengths)[:, order])
    np.testing.assert_array_equal(found.feature, np.argsort(order))
    np.testing.assert_allclose(found.scale, lengths / np.exp(np.mean(np.log(lengths))), rtol=1e-3)


def test_samples_that_are_not_finite_are_left_out():
    a = generator(0).normal(size=(8, 3)).astype(np.float32)
    b = a.copy()
    b[2, 1] = np.nan
    np.testing.assert_allclose(match_features(a, b).scale, 1, rtol=1e-5)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ((np.ones((2, 3)), np.ones((3, 3))), ValueError, "gradients and seen must be matrices"),
        ((np.ones(3), np.ones(3)), ValueError, "gradients and seen must be matrices"),
        ((np.ones((2, 3), int), np.ones((2, 3))), TypeError, "gradients must hold real floating-point numbers"),
        ((np.full((2, 3), np.nan), np.ones((2, 3))), ValueError, "gradients and seen must be finite"),
    ],
)
def test_what_is_refused(arrays, error, message):
    with pytest.raises(error, match=message):
        match_features(*arrays)


def test_what_was_maximized_must_be_known(realizations):
    with pytest.raises(TypeError, match=r"significance must be the jifv\.Significance"):
        transfer(network_or_copy, replace(realizations, significance=TWO.gradient_product))


def test_normalized_each_picture_is_evaluated_once(realizations, monkeypatch):
    calls, evaluate = [], compare._responses
    monkeypatch.setattr(compare, "_responses", lambda *given: calls.append(given) or evaluate(*given))
    transfer(network_or_copy, with_entry(realizations, 1), normalize=True)
    assert len(calls) == 1
