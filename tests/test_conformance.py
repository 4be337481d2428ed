"""What holds of every public function: compiled or not, one sample or many, float32 or float64, and of bad input.

The table is tests/support/conformance_table.py; a public function that is missing there fails here.
"""

import inspect
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.conformance import KINDS, Passed, Refused
from support.conformance_table import CASES, WITHOUT_ARRAYS

import jifv

pytestmark = pytest.mark.filterwarnings("ignore::jifv.inversion.NotStationaryWarning")  # nothing was optimized

FUNCTIONS = {name for name in jifv.__all__ if inspect.isfunction(getattr(jifv, name))}
METHODS = {name for name, value in vars(jifv.Significance).items() if inspect.isfunction(value) and name[0] != "_"}
JITTABLE = [name for name, case in CASES.items() if case.jit]


def arguments(case, seed, dtype):
    return tuple(jnp.asarray(array, dtype) for array in case.draw(np.random.default_rng(seed)))


@cache
def compiled(name):
    """What a case computes, compiled where that can be."""
    case = CASES[name]

    def function(*arrays):
        return case.compare(case.call(*arrays))

    return jax.jit(function) if case.jit else function


def assert_close(found, expected, tolerance):
    found, expected = ([np.asarray(leaf) for leaf in jax.tree.leaves(tree)] for tree in (found, expected))
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.max(np.abs(b), initial=1e-30))


def floating(tree):
    dtypes = {np.asarray(leaf).dtype for leaf in jax.tree.leaves(tree)}
    return {dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)}


def test_every_public_function_is_in_the_table():
    names = {name.split(".")[0] for name in CASES}
    assert names | WITHOUT_ARRAYS >= FUNCTIONS
    assert {f"Significance.{name}" for name in METHODS - {"on_floor"}} <= CASES.keys()
    assert all(set(case.bad) == set(KINDS) for case in CASES.values())
    assert not names & WITHOUT_ARRAYS


@pytest.mark.parametrize("name", JITTABLE)
def test_compiled_is_eager_and_a_batch_is_its_samples(name):
    case, function = CASES[name], compiled(name)
    samples = [arguments(case, seed, jnp.float32) for seed in range(3)]
    single = [function(*sample) for sample in samples]
    assert_close(single[0], case.compare(case.call(*samples[0])), case.tolerance)
    batch = jax.jit(jax.vmap(function))(*(jnp.stack(each) for each in zip(*samples, strict=True)))
    assert_close(batch, jax.tree.map(lambda *each: jnp.stack(each), *single), case.tolerance)


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_and_float64_works(name, x64):
    """Float64 is on, so that a constant of that type would show."""
    case, function = CASES[name], compiled(name)
    single = function(*arguments(case, 0, jnp.float32))
    double = function(*arguments(case, 0, jnp.float64))
    assert floating(single) == ({np.dtype(np.float32)} if case.keeps else {np.dtype(np.float64)})
    assert floating(double) == {np.dtype(np.float64)}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(double))
    assert_close(single, double, case.tolerance)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.grad])
def test_gradient_is_finite(name):
    case = CASES[name]

    def total(*arrays):
        # Not the plain sum, which is constant where shares add up to 1.
        leaves = jax.tree.leaves(case.call(*arrays))
        return sum(jnp.sum(leaf * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape)) for leaf in leaves)

    sample = arguments(case, 0, jnp.float32)
    gradients = jax.jit(jax.grad(total, argnums=case.grad))(*sample)
    for argument, gradient in zip(case.grad, gradients, strict=True):
        assert gradient.shape == sample[argument].shape
        assert gradient.dtype == jnp.float32
        assert np.isfinite(gradient).all()
        assert np.any(gradient)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_named(name, kind, unchecked):
    case, bad = CASES[name], CASES[name].bad[kind]
    if isinstance(bad, str):
        return  # a reason why there is no such input
    if isinstance(bad, Passed):
        assert bad.holds(jax.device_get(case.call(*map(jnp.asarray, bad.arguments))))
        return
    assert isinstance(bad, Refused)
    # NumPy's arrays as well as JAX's: an argument is looked at before it is converted.
    for convert in (jnp.asarray, np.asarray):
        with pytest.raises(bad.error, match=f"^{bad.message}"):
            bad.arguments() if callable(bad.arguments) else case.call(*map(convert, bad.arguments))
