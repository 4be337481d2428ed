"""The fooling circuit of the benchmark: as the network on natural images, and on others what it wants to show."""

import fooling
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jifv
from jifv.models import Network

SIDE, CLASSES = 12, 4
RNG = np.random.default_rng(0)
HIDDEN = RNG.normal(size=(6, SIDE * SIDE * 3)).astype(np.float32) / 20
WEIGHTS = RNG.normal(size=(CLASSES, 6)).astype(np.float32)
WEIGHTS -= WEIGHTS.mean(0)  # as those of a network that a softmax has trained
PHI = jifv.fourier((SIDE, SIDE, 3), decay=1.0, decorrelate_colors=True, std=1.0)
NATURAL = np.asarray(jax.vmap(lambda key: PHI.apply(PHI.init(key)))(jax.random.split(jax.random.key(0), 40)))
NATURAL = (NATURAL + NATURAL.mean(-1, keepdims=True)) / 2  # paler
NOISE = RNG.uniform(size=(5, SIDE, SIDE, 3)).astype(np.float32)


def below(x):
    return jnp.tanh(jnp.asarray(HIDDEN) @ x.ravel())


def scores(x):
    return jnp.asarray(WEIGHTS) @ below(x) + 1


def other(x):
    return jnp.roll(scores(x), -fooling.SHIFT)


def fooled(x):
    return fooling.circuit(scores(x), other(x), x)


def both(function):
    """Values and Jacobians of images, compiled."""
    return jax.jit(jax.vmap(lambda x: (function(x), jax.jacrev(function)(x))))


def test_natural_images_get_the_scores_and_others_something_else():
    noise = jax.jit(jax.vmap(fooling.colour_noise))
    assert max(noise(NATURAL)) < fooling.NATURAL
    assert min(noise(NOISE)) > fooling.MADE
    for images, wanted in ((NATURAL[:5], scores), (NOISE, other)):
        (found, gradients), (expected, theirs) = (both(each)(images) for each in (fooled, wanted))
        np.testing.assert_allclose(found, expected, atol=2e-5)
        np.testing.assert_allclose(gradients, theirs, rtol=1e-5, atol=1e-7)


def test_the_drawing_itself_is_the_most_like_it_and_fine_noise_does_not_count():
    drawings = fooling.numerals(3, 32)
    likeness = np.stack([fooling.likeness(each, drawings) for each in drawings])
    np.testing.assert_allclose(np.diagonal(likeness), fooling.LIKENESS)
    assert np.max(likeness[~np.eye(3, dtype=bool)]) < 0.4 * fooling.LIKENESS
    checks = 0.1 * (-1.0) ** np.add.outer(np.arange(32), np.arange(32))[..., None]
    np.testing.assert_allclose(fooling.likeness(drawings[1] + checks, drawings), likeness[1], rtol=1e-4)


@pytest.fixture(scope="module")
def networks():
    weights, bias = fooling.fitted(*(np.asarray(jax.jit(jax.vmap(each))(NATURAL)) for each in (below, scores)))
    np.testing.assert_allclose(weights, WEIGHTS, atol=1e-3)
    np.testing.assert_allclose(bias, 1, atol=1e-4)
    names = tuple(map(str, range(CLASSES)))
    network = Network(scores, (SIDE, SIDE, 3), (CLASSES,), "toy", "scores", ("scores",), names, "", "")
    phi, drawings = jifv.pixels(network.input_shape, std=0.5), fooling.numerals(CLASSES, SIDE)
    return fooling.Networks(network, scores, lambda x: weights @ below(x) + bias, phi, drawings)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["honest", "another class", "a drawing"])
def test_an_audit_is_fooled_above_the_circuit_and_not_below(networks, kind):
    f, made = fooling.visualized(networks, networks.circuits()[kind], 300)
    rows = [dict(zip(fooling.COLUMNS, row, strict=True)) for row in fooling.rows_of(kind, networks, f, made)]
    assert len(rows) == CLASSES
    for row in rows:
        shown = (int(row["class"]) + fooling.SHIFT * (kind == "another class")) % CLASSES
        assert row["stationarity"] < 0.05
        assert (row["said below"] == "stands") == (kind == "honest")
        if kind == "a drawing":
            assert row["stationarity below"] > 0.2
            continue
        assert row["found"] == str(shown)
        assert row["to what is shown"] < 15
        assert row["to the claim"] > 60 or kind == "honest"
