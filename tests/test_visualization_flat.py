import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jifv
from jifv.visualization import FlatResponseWarning, start, visualize

P = jnp.linspace(-1, 1, 12).reshape(3, 4)
V = jnp.eye(3)
SHORT = jifv.Settings(adam_steps=2, lbfgs_steps=2)


def steep(p):
    return jnp.tanh(p[:3])


CONSTANT = [
    lambda p: jnp.ones(3),
    lambda p: steep(jax.lax.stop_gradient(p)),
    lambda p: jax.jit(lambda q: jnp.ones(3))(p),
    lambda p: jax.jit(lambda q, c: c * 2)(p, jnp.ones(3)),
]


@pytest.mark.parametrize("f", CONSTANT)
@pytest.mark.parametrize("function", [visualize, start])
def test_response_that_does_not_depend_on_p_is_refused(function, f):
    with pytest.raises(ValueError, match="f must depend on its parameters, got a response that no gradient reaches"):
        function(f, P, V)


def rounded(p):
    return jnp.round(p[:3]) + 1


def dead(p):
    return jax.nn.relu(p[:3] - 10)


@pytest.mark.parametrize("settings", [SHORT, jifv.Settings(adam_steps=0, lbfgs_steps=2)])
@pytest.mark.parametrize("f", [rounded, dead])
def test_gradient_of_zero_everywhere_is_warned_of_once(f, settings):
    with pytest.warns(
        FlatResponseWarning, match=rf"f \({f.__name__}\) has a gradient of exactly 0 for all 2"
    ) as caught:
        result = visualize(f, P, V, settings=settings, batch_size=2)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(result.parameters, P)


def test_one_sample_with_a_gradient_is_enough():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        visualize(dead, P.at[1].set(20.0), V, settings=SHORT)
        visualize(steep, P, V, settings=SHORT)


def test_realizations_at_their_optimum_are_not_flat():
    """No entry moves, and yet there is a gradient."""
    far = jnp.full((1, 4), 1e9)  # where a step is below rounding
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = visualize(lambda p: p[:3] * 1e-9 + jnp.arange(3.0), far, V[:1], settings=SHORT)
    np.testing.assert_array_equal(result.parameters, far)


def test_samples_that_are_not_finite_are_not_flat():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = visualize(lambda p: p[:3] / 0, P, V, settings=SHORT)
    assert not result.finite.any()
