import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.toy_response import FEATURES, response

import jifv
from jifv._invert.doubt import warn_if_doubtful
from jifv.inversion import FAR, NotStationaryWarning

TWO = jifv.Significance(2)
V = np.linalg.qr(np.eye(FEATURES)[:, 1:] - 1 / FEATURES)[0].astype(np.float32)
"""The complement of the toy's trivial direction (1, …, 1)."""


@pytest.fixture(scope="module")
def start():
    return jax.random.normal(jax.random.key(0), (4, 12, 12, 3))


def test_noise_and_unfinished_realizations_are_warned_of_once_and_finished_ones_are_not(start):
    targets = jifv.sparse_objectives(jax.random.key(1), 4, FEATURES)
    with pytest.warns(NotStationaryWarning, match="4 of 4 realizations are far from stationary") as caught:
        noise = jifv.invert_batch(response, start, significance=TWO, basis=V)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert noise.stationarity.min() > FAR
    assert repr(noise).endswith("V of dimension 4; 4 far from stationary)")
    with pytest.warns(NotStationaryWarning, match="1 of 1 realizations are far from stationary") as caught:
        one = jifv.invert_at(response, start[0], significance=TWO, basis=V)
    assert caught[0].filename == __file__
    np.testing.assert_allclose(one.stationarity, noise.stationarity[0], rtol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotStationaryWarning)
        settings = jifv.Settings(adam_steps=150, lbfgs_steps=100)
        done = jifv.invert_batch(response, jifv.visualize(response, start, targets, settings=settings), basis=V)
    assert done.stationarity.max() < FAR / 2
    assert repr(done).endswith("V of dimension 4)")


def test_counts_those_above_the_limit_and_not_the_unknown():
    high = np.full(5, 0.9)
    with pytest.warns(NotStationaryWarning, match=r"2 of 5 .* \(Inversion\.stationarity is up to 0\.40\)"):
        warn_if_doubtful(jnp.array([0.0, FAR, 0.2, np.nan, 0.4]), high, TWO)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_doubtful(np.array([np.nan, 0.0]), high[:2], TWO)
        warn_if_doubtful(np.array([FAR]), high[:1], TWO)


def test_counts_those_on_the_floor_that_are_stationary():
    rest, cosine = np.array([0.0, 0.2, 0.0, np.nan, 0.0]), np.array([0.05, 0.0, 0.1, np.nan, 0.11])
    with pytest.warns(NotStationaryWarning, match=r"1 of 5 .* far .*; 2 of 5 .* at most 0\.1 ") as caught:
        warn_if_doubtful(rest, cosine, TWO)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_doubtful(np.zeros(5), cosine, jifv.Significance(0))  # no cosine in it
        warn_if_doubtful(np.zeros(5), cosine, jifv.Significance(2, floor=None))


def test_many_features_make_noise_stationary_but_not_responsive():
    """Of more features than parameters some direction leaves nothing of any gradient."""
    weights = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)

    def f(p):
        return jnp.tanh(weights @ p) + 1

    noise = jax.random.normal(jax.random.key(0), (3, 12))
    with pytest.warns(NotStationaryWarning, match=r"^3 of 3 realizations hardly respond"):
        found = jifv.invert_batch(f, noise, significance=TWO)
    assert found.stationarity.max() < 1e-5
    assert found.cosine.max() < 0.1
