"""The first stage by itself, beside Adam in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
from support.responses import N, bounded, run, samples

from jifv.significance import Significance
from jifv.visualization import Settings


def test_adam_is_optax_with_the_rate_falling_at_the_end():
    parameters, objectives = samples(2, N)
    settings = Settings(adam_steps=8, anneal=0.5, lbfgs_steps=0, learning_rate=0.1)
    result = run(bounded, parameters, objectives, settings)
    gradient = jax.vmap(jax.grad(lambda p, v: -Significance()(bounded(p), v)))
    p, first, second = (np.asarray(x, np.float64) for x in (parameters, 0 * parameters, 0 * parameters))
    for t, rate in enumerate([0.1, 0.1, 0.1, 0.1, 0.1, 0.075, 0.05, 0.025], start=1):
        g = np.asarray(gradient(jnp.asarray(p, jnp.float32), objectives), np.float64)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        p = p - rate * first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(result.parameters, p, atol=1e-5)
    assert (result.adam_steps == 8).all()


def test_a_sample_stops_adam_once_its_gradient_is_small():
    parameters, objectives = samples(6, N)
    settings = Settings(adam_steps=60, anneal=1, lbfgs_steps=0, learning_rate=0.1, tolerance=0.2)
    result = run(bounded, parameters, objectives, settings)
    objective = jax.jit(jax.value_and_grad(lambda p, v: Significance()(bounded(p), v)))
    for index, v in enumerate(objectives):
        p = np.asarray(parameters[index])
        first = second = np.zeros(N)
        for t in range(60):
            value, g = map(np.asarray, objective(p, v))
            if np.linalg.norm(g) <= 0.2 * abs(value):
                break
            first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
            step = first / (1 - 0.9 ** (t + 1)) / (np.sqrt(second / (1 - 0.999 ** (t + 1))) + 1e-8)
            p = (p + 0.1 * (1 - t / 60) * step).astype(np.float32)
        else:
            t = 60
        assert result.adam_steps[index] == t
        np.testing.assert_allclose(result.parameters[index], p, atol=1e-5)
    assert 0 < result.adam_steps.min() < result.adam_steps.max() < 60
