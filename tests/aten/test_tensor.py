"""Axes in another order: what is computed does not depend on it. NumPy arrays, so nothing is compiled."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jifv._aten.tensor import Tensor, elementwise, reduced, tensor, viewed, without

ORDERS = st.integers(1, 4).flatmap(lambda rank: st.permutations(range(rank)))


def drawn(order, seed=0):
    """A tensor with sides of 1 to 3 whose axes lie in an order, and the array that it is."""
    rng = np.random.default_rng(seed)
    array = rng.normal(size=rng.integers(1, 4, len(order)))
    return Tensor(array.transpose(order), tuple(order)), array


def factorized(size, rng):
    """A shape with so many entries."""
    shape = [1]
    for prime in (2, 3):
        while size % prime == 0:
            size //= prime
            shape.append(prime)
    shape = [int(side) for side in rng.permutation(shape)]
    while len(shape) > 1 and rng.random() < 0.6:  # merge two neighbours
        at = rng.integers(len(shape) - 1)
        shape[at : at + 2] = [shape[at] * shape[at + 1]]
    return shape


@given(order=ORDERS, seed=st.integers(0, 10**6))
@settings(max_examples=60)
def test_views(order, seed):
    x, array = drawn(order, seed)
    shape = factorized(array.size, np.random.default_rng(seed))
    found = viewed(x, shape)
    assert found.shape == tuple(shape)
    np.testing.assert_array_equal(found.plain, array.reshape(shape))
    np.testing.assert_array_equal(viewed(x, [-1, *shape[1:]]).plain, array.reshape(shape))


def test_a_view_keeps_channels_last():
    """Positions of a map become tokens: no entry is moved."""
    entries = np.arange(24.0).reshape(1, 2, 4, 3)
    tokens = viewed(Tensor(entries, (0, 2, 3, 1)), (1, 3, 8))
    assert np.shares_memory(tokens.array, entries)
    assert tokens.order == (0, 2, 1)
    np.testing.assert_array_equal(tokens.array, entries.reshape(1, 8, 3))


@given(order=ORDERS, other=ORDERS, seed=st.integers(0, 10**6))
@settings(max_examples=40)
def test_broadcasting(order, other, seed):
    x, array = drawn(order, seed)
    rank = min(len(order), len(other))
    shape = [side if np.random.default_rng(seed).random() < 0.5 else 1 for side in array.shape[len(order) - rank :]]
    small = np.random.default_rng(seed + 1).normal(size=shape)
    axes = [axis for axis in other if axis < rank]
    y = Tensor(small.transpose(axes), tuple(axes))
    np.testing.assert_array_equal(elementwise(np.subtract, x, y).plain, array - small)
    np.testing.assert_array_equal(elementwise(np.subtract, y, x).plain, small - array)


@given(order=ORDERS, seed=st.integers(0, 10**6), keep=st.booleans())
@settings(max_examples=40)
def test_reductions(order, seed, keep):
    x, array = drawn(order, seed)
    rng = np.random.default_rng(seed)
    dims = tuple(int(dim) for dim in range(array.ndim) if rng.random() < 0.5)
    largest = lambda *args, **options: np.asarray(np.max(*args, **options))  # noqa: E731
    found = reduced(largest, x, [dim - array.ndim if rng.random() < 0.5 else dim for dim in dims] or None, keep)
    np.testing.assert_array_equal(found.plain, array.max(dims or None, keepdims=keep))


def test_orders_without_some_axes():
    assert without((0, 2, 3, 1), {2}) == (0, 2, 1)
    assert without((0, 2, 3, 1), {0, 3}) == (1, 0)


@pytest.mark.parametrize("value", [2.5, True, np.zeros((2, 3))])
def test_tensors_of_values(value):
    assert tensor(value).shape == np.shape(value)
