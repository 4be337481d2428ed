"""What accelerators do to products, emulated (benchmarks/tensor_cores.py), and that jifv does not let them."""

from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.tensor_cores import BITS, emulated

import jifv
from jifv import visualization
from jifv.experiments.experiment import Experiment
from jifv.experiments.problem import network_of
from jifv.experiments.run import run
from jifv.models import load
from jifv.visualization import Settings


def rounded(x, bits):
    """Round to so many bits behind the leading one, half to even, by NumPy's own arithmetic in float64."""
    mantissa, exponent = np.frexp(x.astype(float))
    return np.ldexp(np.rint(np.ldexp(mantissa, bits + 1)), exponent - bits - 1)


def product(a, b):
    return jnp.einsum("ij,jk->ik", a, b)


def convolution(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def convolution_in_numpy(x, kernel):
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    return np.einsum("bhwcij,ijcd->bhwd", windows, kernel)


@pytest.mark.parametrize("kind", BITS)
@pytest.mark.parametrize(
    ("function", "reference", "shapes"),
    [(product, np.matmul, ((3, 20), (20, 4))), (convolution, convolution_in_numpy, ((2, 5, 6, 7), (3, 3, 7, 4)))],
)
def test_factors_are_rounded_and_sums_are_not(function, reference, shapes, kind):
    factors = [np.random.default_rng(seed).normal(size=shape).astype(np.float32) for seed, shape in enumerate(shapes)]
    exact = reference(*(factor.astype(float) for factor in factors))
    coarse = reference(*(rounded(factor, BITS[kind]) for factor in factors))
    assert abs(coarse - exact).max() > 1e-4
    function = jax.jit(function)
    for context, expected in (("default", coarse), ("highest", exact)):
        with emulated(kind), jax.default_matmul_precision(context):
            np.testing.assert_allclose(function(*factors), expected, atol=1e-5)
    np.testing.assert_allclose(function(*factors), exact, atol=1e-5)  # and afterwards as ever


EXPERIMENT = Experiment(
    "srnet",
    "srnet",
    "conv1",
    features=8,
    samples=2,
    input_size=12,
    parametrization="geometry",
    settings=Settings(adam_steps=3, lbfgs_steps=3),
    reoptimize_steps=2,
    critical_samples=2,
)


def test_an_experiment_is_float32_throughout():
    """To the bit, on a device that rounds the factors of every product unless it is told not to."""
    network = network_of(EXPERIMENT)
    expected = arrays(run(EXPERIMENT, network))
    with emulated("tf32"):
        actual = arrays(run(EXPERIMENT, network))
    assert len(expected) > 30
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def arrays(results):
    return [leaf for leaf in jax.tree.leaves(asdict(results)) if isinstance(leaf, np.ndarray)]


@pytest.fixture
def convolved():
    """A response function, where to start and an objective."""
    phi = jifv.pixels((12, 12, 3))
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype(np.float32)
    f = jifv.compose(phi.apply, lambda x: convolution(x[None], kernel)[0], jifv.max_mean())
    return f, phi.init(jax.random.key(0))[None], np.full((1, 4), 0.5, np.float32)


def test_default_precision_is_not(convolved):
    """Otherwise the test above could not fail."""
    settings = Settings(adam_steps=2, lbfgs_steps=0)
    with emulated("tf32"):
        fine, coarse = (
            jifv.visualize(*convolved, settings=replace(settings, precision=precision))
            for precision in ("highest", "default")
        )
    assert not np.array_equal(fine.response, coarse.response)


def test_precision_of_adam_is_that_of_its_steps_before_it_anneals(convolved):
    f, parameters, objectives = convolved
    fine = Settings(adam_steps=6, anneal=1 / 3, lbfgs_steps=3)
    mixed, coarse = replace(fine, adam_precision="default"), replace(fine, precision="default")

    def after(steps, settings, state):
        return visualization.advance(f, replace(state, settings=settings), steps)

    with emulated("tf32"):
        begun = visualization.start(f, parameters, objectives, significance=jifv.Significance(), settings=fine)
        expected = after(None, fine, after(4, coarse, begun))
        other = after(None, fine, begun)
        for interrupted in (0, 2, 4, 5):
            actual = after(None, mixed, after(interrupted, mixed, begun))
            same = jax.tree.map(np.array_equal, replace(actual, settings=fine), expected)
            assert all(jax.tree.leaves(same)), (interrupted, same)
            assert not np.array_equal(actual.parameters, other.parameters)


def test_precision_of_adam_is_not_that_of_reoptimization(convolved):
    settings = Settings(adam_precision="default")
    with emulated("tf32"):
        fine, mixed, coarse = (
            jifv.reoptimize(*convolved, steps=2, significance=jifv.Significance(), settings=each)
            for each in (Settings(), settings, Settings(precision="default"))
        )
    np.testing.assert_array_equal(mixed, fine)
    assert not np.array_equal(coarse, fine)


def test_smoothing_is_the_same_on_every_device():
    options = {"layer": "dense1.1", "input_size": 12, "smoothing": 0.1}
    expected = load("densenet", **options)
    with emulated("tf32"):
        actual = load("densenet", **options)
    assert actual.apply.sites == expected.apply.sites
    x = np.random.default_rng(0).uniform(size=(12, 12, 3)).astype(np.float32)
    np.testing.assert_array_equal(jax.jit(actual.apply)(x), jax.jit(expected.apply)(x))
