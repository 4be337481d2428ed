import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.arrays import assert_close, normal

from jifv.models.networks.layers import Norm, moments

# Batch normalization.


@pytest.fixture
def normalization():
    """Input, our variables and the same for flax.linen.BatchNorm; float64."""
    x = 2 * normal((3, 4, 5, 6), np.float64) + 1
    params = {"scale": normal(6, np.float64, 1), "bias": normal(6, np.float64, 2)}
    statistics = {"mean": normal(6, np.float64, 3), "var": jnp.abs(normal(6, np.float64, 4)) + 0.5}
    return x, {"params": params, "batch_stats": statistics}


def test_norm_in_training_against_flax(x64, normalization):
    x, variables = normalization
    reference = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5)
    ours, updated = Norm().apply(variables, x, moments(x), mutable=["batch_stats"])
    theirs, expected = reference.apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], expected["batch_stats"]["mean"], atol=1e-12)
    # Flax's running variance is biased; PyTorch's, and ours, is not.
    old = variables["batch_stats"]["var"]
    unbiased = 0.9 * old + (expected["batch_stats"]["var"] - 0.9 * old) * (60 / 59)
    np.testing.assert_allclose(updated["batch_stats"]["var"], unbiased, atol=1e-12)
    np.testing.assert_allclose(
        updated["batch_stats"]["var"], 0.9 * old + 0.1 * np.var(x, (0, 1, 2), ddof=1), atol=1e-12
    )


def test_gradient_of_norm_in_training_against_flax(x64, normalization):
    x, variables = normalization
    reference = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5)
    weight = normal(x.shape, np.float64, seed=5)

    def ours(params, x):
        out, _ = Norm().apply({**variables, "params": params}, x, moments(x), mutable=["batch_stats"])
        return jnp.sum(weight * jnp.sin(out))

    def theirs(params, x):
        out, _ = reference.apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return jnp.sum(weight * jnp.sin(out))

    assert_close(*(jax.grad(f, (0, 1))(variables["params"], x) for f in (ours, theirs)), 1e-12)


def test_norm_in_evaluation(x64, normalization):
    x, variables = normalization
    known = jax.tree.map(np.asarray, variables["params"] | variables["batch_stats"])
    expected = (np.asarray(x) - known["mean"]) / np.sqrt(known["var"] + 1e-5) * known["scale"] + known["bias"]
    ours, updated = Norm().apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(ours, expected, atol=1e-12)
    jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], variables["batch_stats"])


def test_initializing_in_training_mode_counts_no_batch():
    x = normal((2, 3, 3, 4)) + 5
    statistics = Norm().init(jax.random.key(0), x, moments(x))["batch_stats"]
    np.testing.assert_array_equal(statistics["mean"], 0)
    np.testing.assert_array_equal(statistics["var"], 1)


def test_moments(x64):
    x = 3 * normal((2, 3, 4, 5), np.float64) + 1
    mean, variance = moments(x)
    np.testing.assert_allclose(mean, np.mean(x, (0, 1, 2)), atol=1e-12)
    np.testing.assert_allclose(variance, np.var(x, (0, 1, 2)), atol=1e-12)


def test_channels_that_hardly_vary_stay_finite():
    """E[x²] − E[x]² of a large constant is rounding error of either sign: hundreds where x is 1e5, in float32."""
    x = jnp.broadcast_to(jnp.asarray(np.geomspace(1e2, 1e5, 64), jnp.float32), (4, 7, 7, 64))
    assert np.any(np.mean(np.square(x), (0, 1, 2)) < np.square(np.mean(x, (0, 1, 2))))  # it does happen
    mean, variance = jax.jit(moments)(x)
    assert np.all(np.asarray(variance) >= 0)
    np.testing.assert_allclose(mean, x[0, 0, 0], rtol=1e-5)

    @jax.jit
    def total(x):
        variables = Norm().init(jax.random.key(0), x)
        return jnp.sum(Norm().apply(variables, x, moments(x), mutable=["batch_stats"])[0])

    assert np.isfinite(total(x))
    assert np.all(np.isfinite(jax.grad(total)(x)))
