"""JAX compiles once per function object: who passes an equal function anew, and waits again, is told so."""

import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jifv
from jifv._core import anew
from jifv._core.anew import RecompilationWarning, warn_if_anew

FEW = jifv.Settings(adam_steps=1, lbfgs_steps=0)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(anew, "_known", type(anew._known)())


def warned(*functions):
    """For each of the functions, passed one after the other, whether there was a warning."""
    answers = []
    for function in functions:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warn_if_anew("f", function)
        answers.append([warning.category for warning in caught] == [RecompilationWarning])
    return answers


def scaled(factor, offset=None):
    return lambda p: p * factor if offset is None else p * factor + offset


def test_an_equal_function_is_warned_of_once_each_time_it_is_made():
    first, second, third = scaled(2), scaled(2), scaled(2)
    assert warned(first, first, second, second, third, third) == [False, False, True, False, True, False]


def test_what_is_in_the_closure_and_the_defaults_tells_functions_apart():
    weights, equal = np.ones(2), np.ones(2)
    assert warned(scaled(2), scaled(3), scaled(2, weights), scaled(2, equal)) == [False] * 4
    assert warned(scaled(2, weights)) == [True]
    assert warned(*((lambda p, factor=factor: p * factor) for factor in (4, 5, 4))) == [False, False, True]
    assert warned(*((lambda p, *, factor=factor: p * factor) for factor in (6, 7, 6))) == [False, False, True]


def test_a_composition_of_the_same_parts_is_equal():
    # As `jifv.compose` and `jifv.pixels` are written; the run-time types of the tests would be in the way of those.
    def compose(apply, network):
        return lambda p: network(apply(p))

    def pixels(shape):
        return lambda p: p.reshape(shape)

    def network(x):
        return x.mean((0, 1))

    assert warned(*(compose(pixels((2, 2, 3)), network) for _ in range(2))) == [False, True]
    assert warned(compose(pixels((2, 3, 2)), network)) == [False]
    assert warned(compose(pixels((2, 2, 3)), lambda x: x.max((0, 1)))) == [False]


def test_so_is_one_that_jifv_makes():
    def network(x):
        return x.mean((0, 1))

    assert warned(*(jifv.compose(jnp.tanh, network, abs) for _ in range(2))) == [False, True]
    assert warned(jifv.compose(jnp.sinh, network, abs)) == [False]


def test_any_callable_will_do():
    class Network:
        def __call__(self, p):
            return p

        def method(self, p):
            return p

    network = Network()
    assert warned(network, network, Network(), jnp.tanh, jnp.tanh, abs) == [False] * 6
    # Bound methods are equal, and JAX finds what it has compiled for them.
    assert warned(network.method, network.method) == [False, False]


def test_functions_that_refer_to_themselves_or_to_nothing():
    def recursive():
        def f(p, depth=2):
            return p if depth == 0 else f(p, depth - 1)

        return f

    def mutual():
        def f(p):
            return g(p)

        def g(p):
            return p if p.ndim else f(p)

        return f

    def empty():
        def f(p):
            return p if p.ndim else later

        return f
        later = 1

    for make in (recursive, mutual, empty):
        assert warned(make(), make()) == [False, True]


def test_only_so_many_are_remembered():
    functions = [scaled(factor) for factor in range(100)]
    warned(*functions)
    assert len(anew._known) == 64
    assert warned(scaled(99), scaled(0)) == [True, False]


def respond():
    return lambda p: 1 + jnp.tanh(p)


@pytest.mark.filterwarnings("ignore::jifv.inversion.NotStationaryWarning")  # after two steps
def test_what_compiles_for_a_function_warns():
    start, options = jnp.ones((1, 3)), {"significance": jifv.Significance(), "steps": 1}
    realizations = jifv.visualize(respond(), start, start, settings=FEW)
    for call in (
        lambda f: jifv.visualize(f, start, start, settings=FEW),
        lambda f: jifv.invert_batch(f, realizations),
        lambda f: jifv.reoptimize(f, start, start, **options),
    ):
        f = respond()
        with pytest.warns(RecompilationWarning, match=r"f \(.*respond.*\) equals a function that was passed") as caught:
            call(f)
        (warning,) = (each for each in caught if each.category is RecompilationWarning)
        # It points to whoever called, not into jifv. (Here to the wrapper that checks types.)
        assert Path(jifv.__file__).parent not in Path(warning.filename).parents
        with warnings.catch_warnings():
            warnings.simplefilter("error", RecompilationWarning)
            call(f)


def test_so_does_an_objective_function_of_the_users():
    start = jnp.ones((1, 3))

    def distance():
        return lambda r, v: -jnp.sum((r - v) ** 2)

    f = respond()
    jifv.visualize(f, start, start, significance=distance(), settings=FEW)
    with pytest.warns(RecompilationWarning, match=r"significance \(.*distance.*\) equals a function that was passed"):
        jifv.visualize(f, start, start, significance=distance(), settings=FEW)
