"""Redirected ReLUs beside Lucid's definition, and dead features that they wake."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jifv
from jifv import visualization
from jifv._visualize import redirected as waking
from jifv.redirection import redirect
from jifv.transform import fixed, jitter
from jifv.visualization import FlatResponseWarning, Settings, visualize

INF = np.inf
SITES = {
    "relu": (jax.nn.relu, 0, INF),
    "maximum": (lambda x: jnp.maximum(0.5, x), 0.5, INF),
    "clamp": (lambda x: jax.lax.clamp(-0.5, x, 0.5), -0.5, 0.5),
    "minimum": (lambda x: jnp.minimum(x, 0.25), -INF, 0.25),
    "where": (lambda x: jnp.where(x > 0, x, 0), 0, INF),
    "scan": (lambda x: jax.lax.scan(lambda c, row: (c, jax.nn.relu(row)), 0.0, x[None])[1][0], 0, INF),
}
"""Functions that are flat below a bound and above another."""


def lucid(x, g, low, high):
    """The gradient of each sample as lucid/misc/redirected_relu_grad.py defines it; g is that of a loss."""
    passed = np.where((x < low) | (x > high), 0, g)
    away = ((x < low) & (g > 0)) | ((x > high) & (g < 0))
    blocked = ~np.any(passed.reshape(len(x), -1), axis=1)
    return np.where(blocked[:, None, None], np.where(away, 0, g), passed)


@pytest.fixture(scope="module")
def pulled_back():
    """Values and gradients of all sites for a batch, each sample alone: one program."""

    def function(x, g):
        return {name: jax.vjp(redirect(site), x)[1](g)[0] for name, (site, *_) in SITES.items()}

    return jax.jit(jax.vmap(function))


@given(st.integers(0, 999))
@settings(max_examples=8)
def test_gradient_is_that_of_lucid(pulled_back, seed):
    rng = np.random.default_rng(seed)
    # Some samples are blocked throughout, below or above, some in part, and some have no gradient to begin with.
    x = rng.normal(rng.choice([-9.0, 0.0, 9.0], (12, 1, 1)), 1, (12, 3, 2)).astype(np.float32)
    g = (rng.normal(size=x.shape) * (rng.random(x.shape) < 0.5)).astype(np.float32)
    for name, found in pulled_back(x, g).items():
        np.testing.assert_array_equal(found, lucid(x, g, *SITES[name][1:]), err_msg=name)


def test_values_are_those_of_the_function():
    x = jax.random.normal(jax.random.key(0), (3, 2))
    for site, *_ in SITES.values():
        np.testing.assert_array_equal(jax.jit(redirect(site))(x), site(x))


def test_layers_follow_each_other():
    """Each ReLU decides by what comes back to it: the second one is blocked, the first only where it is anyway."""
    rng = np.random.default_rng(0)
    x, one, two = (rng.normal(size=shape).astype(np.float32) for shape in (5, (7, 5), (3, 7)))
    bias = np.float32(-50)
    f = redirect(lambda x: jax.nn.relu(two @ jax.nn.relu(one @ x) + bias))
    g = np.array([-1, 1, 0], np.float32)
    above = two.T @ np.array([-1, 0, 0], np.float32)
    expected = one.T @ np.where(one @ x > 0, above, 0)
    np.testing.assert_allclose(jax.vjp(f, jnp.asarray(x))[1](g)[0], expected, rtol=1e-5)


def test_what_cannot_be_redirected_is_as_it_was():
    def f(x):
        return jnp.stack([jnp.max(jnp.abs(x)), jax.nn.leaky_relu(x)[0], jnp.maximum(x[0], x[1])])

    x, g = jnp.asarray([-3.0, -2.0, 1.0, 4.0]), jnp.arange(3.0)
    own, other = jax.jit(lambda x: (jax.vjp(f, x)[1](g)[0], jax.vjp(redirect(f), x)[1](g)[0]))(x)
    np.testing.assert_allclose(other, own, rtol=1e-6)


def test_functions_are_found_again_and_must_be_functions(unchecked):
    f = jifv.compose(jnp.sin, jax.nn.relu, jifv.identity)
    assert redirect(f) is redirect(f)
    assert (redirect(f).apply, redirect(f).aggregate) == (f.apply, f.aggregate)
    with pytest.raises(TypeError, match="function must be callable, got 3"):
        redirect(3)


# Visualizations. Of six features of a small network the second is dead at the start, and the fourth for good.

SHAPE = (6, 6, 3)
KERNEL = np.random.default_rng(3).normal(0, 1 / 3, (3, 3, 3, 6)).astype(np.float32)
BIASES = np.array([0.5, -1.2, 0.3, -1e4, 0.4, 0.2], np.float32)
STEPS = Settings(adam_steps=12, anneal=0.25)
TARGETS = np.stack([*np.eye(6, dtype=np.float32)[[0, 1, 3]], np.array([0.6, 0.8, 0, 0, 0, 0], np.float32)])
PHI = jifv.pixels(SHAPE, std=0.01)


def before_relu(x):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x[None] - 0.5, KERNEL, (1, 1), "VALID", dimension_numbers=layout)[0] + BIASES


def network(x):
    return jax.nn.relu(before_relu(x))


@pytest.fixture(scope="module")
def f():
    return jifv.compose(PHI.apply, network, jifv.mean)


@pytest.fixture(scope="module")
def start():
    return jax.vmap(PHI.init)(jax.random.split(jax.random.key(0), 4))


def check_that_a_feature_wakes(f, start, **options):
    before = visualize(f, start, TARGETS, settings=STEPS, **options)
    after = visualize(f, start, TARGETS, settings=replace(STEPS, redirected_steps=8), **options)
    assert before.adam_steps.tolist() == [12, 0, 0, 12]
    assert after.adam_steps.tolist() == [12, 12, 8, 12]
    # What is alive takes the same steps to the bit; what no step wakes stays, and is no error.
    np.testing.assert_array_equal(after.parameters[0], before.parameters[0])
    assert np.all(before.response[1, 1] == 0)
    assert after.response[1, 1] > 1e-5
    assert after.response[3, 1] > before.response[3, 1]
    assert np.all(after.finite)
    return after


def test_a_dead_feature_wakes(f, start):
    after = check_that_a_feature_wakes(f, start)
    # What is returned is that of f itself.
    np.testing.assert_allclose(after.response, jax.vmap(f)(after.parameters), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_dead_feature_wakes_where_kinks_are_rounded(start):
    rounded = jifv.smooth(lambda x: jifv.max_mean(2, 1)(network(x)), SHAPE)
    check_that_a_feature_wakes(jifv.compose(PHI.apply, rounded, jifv.identity), start)


@pytest.mark.slow
def test_a_dead_feature_wakes_under_transformations(f, start):
    some = fixed(jitter(1), jax.random.split(jax.random.key(1), 2))
    check_that_a_feature_wakes(f, start, transformations=some)


def test_the_first_step_is_that_of_the_layer_before_its_relu(f, start):
    state = visualization.start(f, start, TARGETS, settings=replace(STEPS, redirected_steps=8))
    moved = visualization.advance(f, state, 1).parameters[1] - start[1]
    uphill = jax.grad(lambda p: jnp.mean(before_relu(PHI.apply(p))[..., 1]))(start[1])
    # Adam's first step has the length of the rate and the sign of the gradient.
    np.testing.assert_allclose(moved, STEPS.learning_rate * np.sign(uphill), rtol=1e-2)


def test_a_run_goes_on_in_the_middle_of_these_steps(f, start):
    state = visualization.start(f, start, TARGETS, settings=replace(STEPS, redirected_steps=5))
    whole, parts = visualization.advance(f, state, 8), visualization.advance(f, visualization.advance(f, state, 3), 5)
    np.testing.assert_array_equal(parts.parameters, whole.parameters)
    assert not np.array_equal(whole.parameters[1], start[1])


def test_nothing_is_redirected_where_nothing_is_dead(f, start, monkeypatch):
    monkeypatch.setattr(waking, "redirect", lambda f: pytest.fail("there is nothing to wake"))
    visualize(f, start, TARGETS[[0, 0, 0, 0]], settings=replace(STEPS, redirected_steps=2))


def test_reoptimization_wakes_nothing(f, start, monkeypatch):
    monkeypatch.setattr(waking, "redirect", lambda f: pytest.fail("a dead feature must stay dead"))
    options = {"significance": jifv.Significance(), "settings": Settings(redirected_steps=5)}
    after = jifv.reoptimize(f, start, TARGETS, steps=2, **options)
    np.testing.assert_array_equal(after[1], start[1])


def test_the_warning_says_what_helps(f, start):
    with pytest.warns(FlatResponseWarning, match=r"Settings\(redirected_steps=16\)"):
        visualize(f, start, TARGETS[[1, 1, 1, 1]], settings=STEPS)
