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
DIFFERENTIABLE = [name for name, case in CASES.items() if case.grad]


def arguments(case, seed, dtype):
    return tuple(jax.device_put(array.astype(dtype)) for array in case.draw(np.random.default_rng(seed)))


def result(name, arrays):
    return CASES[name].compare(CASES[name].call(*arrays))


# A program of one function takes as long to compile as one of all of them: they are compiled together.


@jax.jit
def together(samples):
    """What each function that can be compiled gives for its arguments, by name."""
    return {name: result(name, arrays) for name, arrays in samples.items()}


@cache
def singles():
    """Three samples of each function's arguments, and the results, by name."""
    samples = [{name: arguments(CASES[name], seed, np.float32) for name in JITTABLE} for seed in range(3)]
    return samples, [jax.device_get(together(each)) for each in samples]


@cache
def in_x64(dtype):
    return jax.device_get(together({name: arguments(CASES[name], 0, dtype) for name in JITTABLE}))


@cache
def batches():
    samples = jax.tree.map(lambda *each: np.stack(each), *singles()[0])
    return jax.device_get(jax.jit(jax.vmap(together))(samples))


@cache
def gradients():
    """The gradient of a sum of each function's results by its arguments, by name."""

    def total(samples):
        # Not the plain sum, which is constant where shares add up to 1.
        leaves = [leaf for name, arrays in samples.items() for leaf in jax.tree.leaves(CASES[name].call(*arrays))]
        weights = [np.cos(np.arange(leaf.size, dtype=np.float32)).reshape(leaf.shape) for leaf in leaves]
        return sum(jnp.sum(leaf * weight) for leaf, weight in zip(leaves, weights, strict=True))

    return jax.device_get(jax.jit(jax.grad(total))({name: singles()[0][0][name] for name in DIFFERENTIABLE}))


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
    samples, found = singles()
    single = [each[name] for each in found]
    assert_close(single[0], result(name, samples[0][name]), CASES[name].tolerance)
    assert_close(batches()[name], jax.tree.map(lambda *each: np.stack(each), *single), CASES[name].tolerance)


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_and_float64_works(name, x64):
    """Float64 is on, so that a constant of that type would show."""
    case = CASES[name]
    single, double = (
        in_x64(dtype)[name] if case.jit else result(name, arguments(case, 0, dtype))
        for dtype in (np.float32, np.float64)
    )
    assert floating(single) == ({np.dtype(np.float32)} if case.keeps else {np.dtype(np.float64)})
    assert floating(double) == {np.dtype(np.float64)}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(double))
    assert_close(single, double, case.tolerance)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient_is_finite(name):
    sample, found = arguments(CASES[name], 0, np.float32), gradients()[name]
    for argument in CASES[name].grad:
        gradient = found[argument]
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
