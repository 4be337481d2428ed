"""Lucid's objectives beside their definitions, written out in NumPy and float64."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jifv
from jifv import lucid


def activations(batch=3, height=4, width=5, channels=6, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, height, width, channels))


VECTOR = np.random.default_rng(1).normal(size=6)
TARGET = activations(1, seed=2)[0]


def dot_cossim(x, y, power):
    dot = np.sum(x * y, -1)
    if power == 0:
        return np.mean(dot)
    cossim = dot / (1e-4 + np.sqrt(np.sum(x * x, -1))) / (1e-4 + np.sqrt(np.sum(y * y, -1)))
    return np.mean(dot * np.maximum(0.1, cossim) ** power)


def cosines(a):
    norms = np.sqrt(np.sum(a**2, -1, keepdims=True)) * np.sqrt(np.sum(VECTOR**2))
    return np.mean(a * VECTOR.reshape(1, 1, 1, -1) / norms)


def alike(a):
    grams = [sum(np.outer(v, v) for v in one.reshape(-1, 6)) for one in a]
    grams = [gram / np.sqrt(max(np.sum(gram**2), 1e-10)) for gram in grams]
    pairs = [(i, j) for i in range(len(a)) for j in range(len(a)) if i != j]
    return sum(np.sum(grams[i] * grams[j]) for i, j in pairs) / len(a)


def aligned(a, ratio):
    total = 0
    for d in (1, 2, 3, 4):
        for i in range(len(a) - d):
            total += np.mean((a[i] - a[i + d]) ** 2) / ratio ** float(d)
    return -total


def interpolated(a):
    weights = np.arange(len(a)) / (len(a) - 1)
    return sum((1 - w) * np.mean(one[..., 1]) + w * np.mean(one[..., 4]) for w, one in zip(weights, a, strict=True))


def exaggerated(a, power):
    values = []
    for one in a:
        dot = np.sum(one * TARGET)
        values.append(dot * max(0.1, dot / (1e-6 + np.sqrt(np.sum(TARGET**2)))) ** power)
    return np.mean(values)


CASES = {
    "neuron": (lucid.neuron(2), lambda a: np.mean(a[:, 2, 2, 2])),
    "neuron elsewhere": (lucid.neuron(2, 3, 0), lambda a: np.mean(a[:, 3, 0, 2])),
    "channel": (lucid.channel(5), lambda a: np.mean(a[..., 5])),
    "direction": (lucid.direction(VECTOR), lambda a: dot_cossim(a, VECTOR, 0)),
    "direction, power 2": (lucid.direction(VECTOR, power=2), lambda a: dot_cossim(a, VECTOR, 2)),
    "of a neuron": (lucid.direction_neuron(VECTOR, power=1), lambda a: dot_cossim(a[:, 2, 2], VECTOR, 1)),
    "cosine": (lucid.direction_cossim(VECTOR), cosines),
    "deepdream": (lucid.deepdream(), lambda a: np.mean(a**2)),
    "interpolate": (lucid.channel_interpolate(1, 4), interpolated),
    "alignment": (lucid.alignment(decay_ratio=3), lambda a: aligned(a, 3)),
    "diversity": (lucid.diversity(), alike),
    "caricature": (lucid.caricature(TARGET), lambda a: exaggerated(a, 0)),
    "caricature, power 2": (lucid.caricature(TARGET, power=2), lambda a: exaggerated(a, 2)),
    "combined": (
        2 * lucid.channel(1) - 0.5 * lucid.deepdream() + 3,
        lambda a: 2 * np.mean(a[..., 1]) - 0.5 * np.mean(a**2) + 3,
    ),
    "multiplied": (1 - lucid.channel(1) * lucid.deepdream(), lambda a: 1 - np.mean(a[..., 1]) * np.mean(a**2)),
    "negated": (-lucid.channel(0), lambda a: -np.mean(a[..., 0])),
}


# All goals at once: a program of one takes as long to compile.


@cache
def values(batch):
    with jax.enable_x64(True):
        return jax.jit(lambda a: {name: goal(a) for name, (goal, _) in CASES.items()})(activations(batch))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch", [2, 6])
def test_values_against_numpy(name, batch):
    np.testing.assert_allclose(values(batch)[name], CASES[name][1](activations(batch)), rtol=1e-10)


def test_class_scores(x64):
    scores = np.random.default_rng(3).normal(size=(4, 10))
    np.testing.assert_allclose(lucid.class_logit(7)(jnp.asarray(scores)), np.sum(scores[:, 7]), rtol=1e-12)


def test_gradients_are_finite_where_nothing_is_active():
    goals = {name: goal for name, (goal, _) in CASES.items() if name != "cosine"}  # Lucid's has none there either
    total = jax.jit(jax.grad(lambda arrays: sum(goal(arrays[name]) for name, goal in goals.items())))
    for name, gradient in total({name: np.zeros((2, 4, 5, 6), np.float32) for name in goals}).items():
        assert np.isfinite(gradient).all(), name


def test_layers_by_name(x64):
    named = {"a": jnp.asarray(activations()), "b": jnp.asarray(activations(seed=5))}
    goal = lucid.channel(2, layer="a") - lucid.deepdream(layer="b")
    expected = np.mean(named["a"][..., 2]) - np.mean(named["b"] ** 2)
    np.testing.assert_allclose(goal(named), expected, rtol=1e-12)
    both = lucid.channel_interpolate(1, 4, first_layer="a", second_layer="b")
    weights = np.arange(3) / 2
    means = np.mean(named["a"][..., 1], (1, 2)), np.mean(named["b"][..., 4], (1, 2))
    np.testing.assert_allclose(both(named), np.sum((1 - weights) * means[0] + weights * means[1]), rtol=1e-12)
    with pytest.raises(ValueError, match=r"layer must be one of \['a', 'b'\], got 'c'"):
        lucid.channel(1, layer="c")(named)
    with pytest.raises(ValueError, match="the network must return arrays by the names of layers"):
        lucid.channel(1, layer="a")(named["a"])
    assert goal.name == "(channel 2 of a + (deepdream of b · -1))"


def test_only_numbers_and_goals_can_be_combined(unchecked):
    with pytest.raises(TypeError, match="a goal must be combined with a goal or a number, got 'x'"):
        lucid.channel(1) + "x"


def test_a_goal_is_maximized():
    phi = jifv.pixels((4, 4, 3), std=0.5)

    def network(x):
        return jnp.tanh(x @ jnp.asarray(np.random.default_rng(0).normal(size=(3, 6)), x.dtype))

    goal = lucid.channel(2) - 0.1 * lucid.diversity()
    f, target = lucid.maximized(goal, phi.apply, network, batch=3)
    start = jax.vmap(phi.init)(jax.random.split(jax.random.key(0), 3))[None]
    found = jifv.visualize(
        f,
        start,
        target,
        significance=jifv.Significance(0),
        settings=jifv.Settings(adam_steps=40, lbfgs_steps=0),
    )
    value = jax.jit(lambda p: goal(jax.vmap(lambda p: network(phi.apply(p)))(p)))
    np.testing.assert_allclose(found.value[0], value(found.parameters[0]), rtol=1e-5)
    assert found.value[0] > value(start[0]) + 0.1
