import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.responses import N, samples

import jifv
from jifv import priors
from jifv.priors import Prior, check_priors, prior_gradients

# Some are inverted without what they were made with, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::jifv.inversion.NotStationaryWarning")


def image(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape)


def neighbours(x):
    """Differences down and right at each pixel, 0 where there is no neighbour."""
    height, width, channels = x.shape
    for i in range(height):
        for j in range(width):
            for c in range(channels):
                down = x[i + 1, j, c] - x[i, j, c] if i + 1 < height else 0
                right = x[i, j + 1, c] - x[i, j, c] if j + 1 < width else 0
                yield down, right


def energy_of_waves(x, exponent):
    """By the sum that defines a Fourier coefficient."""
    height, width, _ = x.shape
    rows, columns = np.mgrid[:height, :width]
    largest = np.hypot(height // 2 / height, width // 2 / width)
    total = 0
    for u in range(height):
        for v in range(width):
            wave = np.exp(-2j * np.pi * (u * rows / height + v * columns / width))
            coefficient = np.sum(wave[..., None] * x, axis=(0, 1)) / np.sqrt(height * width)
            frequency = np.hypot(min(u, height - u) / height, min(v, width - v) / width)
            weight = 0 if u == v == 0 else (frequency / largest) ** exponent
            total += weight * np.sum(np.abs(coefficient) ** 2)
    return total / x.size


REFERENCES = {
    "total variation": (
        priors.total_variation(1),
        lambda x: sum(np.sqrt(a**2 + b**2 + 1e-6) for a, b in neighbours(x)) / x.size,
    ),
    "smoothness": (
        priors.smoothness(1),
        lambda x: np.mean((x[1:] - x[:-1]) ** 2) + np.mean((x[:, 1:] - x[:, :-1]) ** 2),
    ),
    "l2": (priors.l2(1, 0.3), lambda x: np.mean((x - 0.3) ** 2)),
    "l1": (priors.l1(1), lambda x: np.mean(np.sqrt((x - 0.5) ** 2 + 1e-6))),
    "l_infinity": (priors.l_infinity(1, power=16), lambda x: np.mean(np.abs(x - 0.5) ** 16) ** (1 / 16)),
    "energy": (priors.energy(1, 1.5), lambda x: energy_of_waves(x, 1.5)),
    "whole energy": (priors.energy(1, 0), lambda x: np.mean(x**2) - np.mean(np.mean(x, axis=(0, 1)) ** 2)),
}


def test_penalties_against_numpy(x64):
    together = jax.jit(lambda x: {name: prior.penalty(x) for name, (prior, _) in REFERENCES.items()})
    for x in (image(5, 4, 3), image(6, 7, 1, seed=1)):
        found = together(x)
        for name, (_, reference) in REFERENCES.items():
            np.testing.assert_allclose(found[name], reference(x), rtol=1e-10, err_msg=name)


def test_a_flat_image_has_a_finite_gradient():
    penalties = {name: prior.penalty for name, (prior, _) in REFERENCES.items()}
    together = jax.jit(lambda x: {name: jax.value_and_grad(each)(x) for name, each in penalties.items()})
    for value in (0.0, 0.5, 1.0):
        x = np.full((4, 4, 3), value, np.float32)
        for name, (found, gradient) in together(x).items():
            assert np.isfinite(found), name
            assert np.isfinite(gradient).all(), name
            assert gradient.dtype == x.dtype, name


def test_the_largest_distance_is_that_in_the_limit():
    x = image(8, 8, 3)
    largest = np.abs(x - 0.5).max()
    np.testing.assert_allclose(priors.l_infinity(1, power=512).penalty(jnp.asarray(x)), largest, rtol=0.02)
    tiny = priors.l_infinity(1, power=64).penalty(jnp.asarray(0.5 + 1e-4 * (x - 0.5), jnp.float32))
    np.testing.assert_allclose(tiny, 1e-4 * priors.l_infinity(1, power=64).penalty(jnp.asarray(x)), rtol=1e-2)


def test_distance_to_a_seed_in_a_layer():
    matrix, seed, x = image(3, 2), image(4, 4, 3), image(4, 4, 3, seed=1)
    prior = priors.distance(2, lambda x: x @ matrix, seed)
    expected = np.sum(((x - seed) @ matrix) ** 2) / np.sum((seed @ matrix) ** 2)
    np.testing.assert_allclose(prior.penalty(jnp.asarray(x)), expected, rtol=1e-5)
    np.testing.assert_allclose(prior.penalty(jnp.asarray(seed)), 0, atol=1e-12)
    with pytest.raises(ValueError, match="seed must have finite activations that are not all 0"):
        priors.distance(2, lambda x: 0 * x, seed)


def test_equal_options_share_a_program():
    assert priors.l2(1).penalty is priors.l2(7).penalty
    assert priors.l2(1).penalty is not priors.l2(1, 0.2).penalty
    assert priors.energy(1, 2).penalty is priors.energy(1, 2.0).penalty
    assert priors.total_variation(3) == priors.total_variation(3.0)


def square(p):
    return jnp.sum(p**2)


def composed(apply=jnp.tanh):
    return jifv.compose(apply, lambda x: 1 + x, lambda a: a[:N])


def test_gradients_are_of_the_image_or_of_the_parameters(x64):
    p = jnp.asarray(image(6))
    both = (Prior(square, 3), Prior(square, 4, of="parameters"))
    rows = prior_gradients(composed(), both, p)
    np.testing.assert_allclose(rows[0], 2 * np.tanh(p) * (1 - np.tanh(p) ** 2), rtol=1e-12)
    np.testing.assert_allclose(rows[1], 2 * np.asarray(p), rtol=1e-12)
    assert prior_gradients(composed(), (), p).shape == (0, 6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Prior(3), TypeError, "penalty must be a function, got 3"),
        (lambda: Prior(square, -1), ValueError, "weight must be finite and >= 0, got -1"),
        (lambda: Prior(square, of="picture"), ValueError, "of must be 'image' or 'parameters', got 'picture'"),
        (lambda: priors.l_infinity(1, power=3), ValueError, "power must be even, got 3"),
        (lambda: priors.energy(1, -1), ValueError, "exponent must be finite and >= 0"),
        (lambda: priors.distance(1, 3, image(2)), TypeError, "layer must be a function, got 3"),
    ],
)
def test_bad_priors_are_named(make, error, message, unchecked):
    with pytest.raises(error, match=message):
        make()


def test_priors_are_checked_before_anything_is_compiled(unchecked):
    p, v = samples(1, 6)
    for f, prior, error, message in (
        (
            lambda p: p[:N],
            Prior(square, name="mine"),
            ValueError,
            "f must be made by jifv.compose for the prior 'mine'",
        ),
        (composed(), Prior(lambda x: x), TypeError, "the prior '<lambda>' must return one real number"),
        (composed(), square, TypeError, "priors must be jifv.priors.Prior, got"),
        (composed(), Prior(jnp.argmax), TypeError, "must return one real number"),
    ):
        with pytest.raises(error, match=message):
            jifv.visualize(f, p, v, priors=[prior])
    check_priors(lambda p: p[:N], [Prior(square, of="parameters")], p[0])


# Visualization: the optimum in closed form.

CENTRES = np.random.default_rng(1).normal(size=(N, 30))
STIFFNESS = np.logspace(-1, 1, 30)
ANCHOR = np.random.default_rng(2).normal(size=30)


def quadratic(p):
    """r_i = 200 - (p - c_i)ᵀ H (p - c_i) / 2."""
    offset = p - jnp.asarray(CENTRES, p.dtype)
    return 200 - jnp.sum(jnp.asarray(STIFFNESS, p.dtype) * offset**2, axis=1) / 2


def from_the_anchor(x):
    return jnp.sum((x - jnp.asarray(ANCHOR, x.dtype)) ** 2) / 2


PULLED = jifv.compose(lambda p: p, quadratic, jifv.identity)
LINEAR = jifv.Significance(0)


@pytest.fixture(scope="module")
def pulled():
    """Realizations for k = 0 that a prior pulls to an anchor, of the image and of the parameters alike."""
    with jax.enable_x64(True):
        parameters, objectives = samples(3, 30, dtype=jnp.float64)
        settings = jifv.Settings(adam_steps=50, lbfgs_steps=200)
        found = [
            jifv.visualize(PULLED, parameters, objectives, significance=LINEAR, settings=settings, priors=[prior])
            for prior in (Prior(from_the_anchor, 0.5), Prior(from_the_anchor, 0.5, of="parameters"))
        ]
        return objectives, found


def test_a_prior_moves_the_optimum(pulled, x64):
    objectives, found = pulled
    v = np.asarray(objectives)
    mass = v.sum(1, keepdims=True) * STIFFNESS
    optimum = ((v @ CENTRES) * STIFFNESS + 0.5 * ANCHOR) / (mass + 0.5)
    for realizations in found:
        np.testing.assert_allclose(realizations.parameters, optimum, atol=1e-5)
        value = (v * np.asarray(jax.vmap(quadratic)(jnp.asarray(optimum)))).sum(1)
        value -= 0.25 * np.sum((optimum - ANCHOR) ** 2, axis=1)
        np.testing.assert_allclose(realizations.value, value, rtol=1e-9)
        assert (realizations.gradient_norm < 1e-4).all()
        assert realizations.priors[0].weight == 0.5


def test_objective_and_weight_come_back(pulled, x64):
    objectives, found = pulled
    for realizations in found:
        inversion = jifv.invert_batch(PULLED, realizations)
        np.testing.assert_allclose(inversion.weights.value, 0.5, rtol=1e-4)
        assert (np.abs(inversion.weights.value - 0.5) <= inversion.weights.error).all()
        assert inversion.weights.plausible.all()
        assert (jifv.angle(inversion.objective, objectives) < 0.01).all()
        ignored = jifv.invert_batch(PULLED, realizations, priors=())
        assert ignored.weights is None
        assert (jifv.angle(ignored.objective, objectives) > 1).all()


def test_re_optimization_keeps_the_priors(pulled, x64):
    objectives, (realizations, _) = pulled
    settings = jifv.Settings(learning_rate=0.01)
    moved = jifv.reoptimize(PULLED, realizations, objectives, steps=5, settings=settings)
    assert np.abs(moved - realizations.parameters).max() < 0.01
    plain = jifv.reoptimize(
        PULLED, realizations.parameters, objectives, significance=LINEAR, steps=5, settings=settings
    )
    assert np.abs(plain - realizations.parameters).max() > 0.02


def test_another_weight_compiles_no_network_again():
    count = 0

    def counted(x):
        nonlocal count
        count += 1
        return 1 + jnp.tanh(x[:N])

    f = jifv.compose(lambda p: p, counted, jifv.identity)
    parameters, objectives = samples(2, 6)
    few = jifv.Settings(adam_steps=2, lbfgs_steps=0)
    jifv.visualize(f, parameters, objectives, settings=few, priors=[Prior(square, 0.1)])
    traced = count
    other = jifv.visualize(f, parameters, objectives, settings=few, priors=[Prior(square, 50)])
    assert count <= traced + 1  # to count the features
    assert np.isfinite(other.value).all()
