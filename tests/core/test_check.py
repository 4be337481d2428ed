import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jifv._core import check as _check


def test_concrete_tells_arrays_from_traced_arguments():
    seen = []
    constant = jnp.ones(2)

    @jax.jit
    def traced(x):
        seen.extend([_check.concrete(x), _check.concrete(constant)])
        return x

    traced(jnp.ones(2))
    assert seen == [False, True]
    assert _check.concrete(jnp.ones(2))
    assert _check.concrete(2.0)


@pytest.mark.parametrize("value", [1, 3, np.int32(2), np.uint8(1)])
def test_positive_integers_pass(value):
    _check.check_positive("count", value)


@pytest.mark.parametrize("value", [0, -1, np.int64(-5)])
def test_positive_rejects_other_integers(value):
    with pytest.raises(ValueError, match=rf"count must be at least 1, got {value}"):
        _check.check_positive("count", value)


@pytest.mark.parametrize("value", [1.0, "1", True, np.True_, None, (1,)])
def test_positive_rejects_other_types(value):
    with pytest.raises(TypeError, match="count must be a positive integer, got"):
        _check.check_positive("count", value)


@pytest.mark.parametrize("value", [0, 0.0, 2.5, np.float32(1), jnp.asarray(3.0)])
def test_nonnegative_numbers_pass(value):
    _check.check_nonnegative("std", value)


@pytest.mark.parametrize("value", [-1e-9, -1, np.nan, np.inf])
def test_nonnegative_rejects_other_numbers(value):
    with pytest.raises(ValueError, match="std must be finite and >= 0, got"):
        _check.check_nonnegative("std", value)


@pytest.mark.parametrize("value", ["2", None, 1j])
def test_nonnegative_rejects_other_types(value):
    with pytest.raises(TypeError, match="std must be a number >= 0, got"):
        _check.check_nonnegative("std", value)


def test_nonnegative_rejects_arrays_also_while_tracing():
    message = r"std must be a scalar, got shape \(2,\)"
    with pytest.raises(ValueError, match=message):
        _check.check_nonnegative("std", np.ones(2))
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda std: _check.check_nonnegative("std", std))(jnp.ones(2))


def test_values_are_not_looked_at_while_tracing():
    jax.jit(lambda std: _check.check_nonnegative("std", std))(-1.0)
    jax.jit(_check.check_objectives, static_argnums=1)(jnp.zeros(3), 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3), (0, 3)])
def test_objectives_of_any_batch_pass(shape, dtype):
    _check.check_objectives(np.ones(shape, dtype), 3)
    _check.check_objectives(-jnp.ones(shape, jnp.float32), 3)


@pytest.mark.parametrize("shape", [(), (2,), (3, 2)])
def test_objectives_reject_a_wrong_last_axis_also_while_tracing(shape):
    with pytest.raises(ValueError, match="objectives must have a last axis of 3"):
        _check.check_objectives(np.ones(shape), 3)
    with pytest.raises(ValueError, match="objectives must have a last axis of 3"):
        jax.jit(_check.check_objectives, static_argnums=1)(jnp.ones(shape), 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_objectives_reject_nonfinite_entries(bad):
    with pytest.raises(ValueError, match="objectives must be finite"):
        _check.check_objectives(jnp.asarray([[1.0, 0.0], [1.0, bad]]), 2)


def test_objectives_reject_a_zero_row():
    with pytest.raises(ValueError, match="objectives must be nonzero"):
        _check.check_objectives(jnp.asarray([[1.0, 0.0], [0.0, 0.0]]), 2)


def test_objectives_reject_complex_numbers():
    with pytest.raises(TypeError, match="objectives must be real, got complex numbers"):
        _check.check_objectives(np.ones(2, np.complex64), 2)


@pytest.mark.parametrize(("value", "below_one"), [(0, True), (0.5, True), (1, False), (np.float32(1), False)])
def test_fractions_pass(value, below_one):
    _check.check_fraction("share", value, below_one=below_one)


@pytest.mark.parametrize(
    ("value", "below_one", "message"),
    [
        (1.01, False, "share must be at most 1, got 1.01"),
        (1.0, True, "share must be below 1, got 1.0"),
        (-0.1, False, "share must be finite and >= 0, got -0.1"),
        (np.nan, True, "share must be finite and >= 0, got nan"),
    ],
)
def test_other_than_fractions_are_named(value, below_one, message):
    with pytest.raises(ValueError, match=message):
        _check.check_fraction("share", value, below_one=below_one)


@pytest.mark.parametrize("value", [0, 1, np.int32(5)])
def test_counts_pass(value):
    _check.check_count("steps", value)


@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (1.0, TypeError), (True, TypeError), ("2", TypeError)])
def test_other_than_counts_are_named(value, error):
    with pytest.raises(error, match="steps must be"):
        _check.check_count("steps", value)
