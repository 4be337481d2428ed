import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jifv.significance import Significance, check_invertible, cosine

POWERS = [0, 0.5, 1, 2.0, 4]


def draw(seed, *shape, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def reference(r, v, power, floor=None):
    """The definition, written so that nothing guards it."""
    cos = r @ v / np.linalg.norm(r) / np.linalg.norm(v)
    cos = abs(cos) if floor is None else max(cos, floor)
    return r @ v * cos**power


@st.composite
def pairs(draw):
    # Few, because every operation is compiled for each.
    dtype, shape = draw(st.sampled_from([(np.float32, (1,)), (np.float32, (2, 1, 3)), (np.float64, (2, 1, 3))]))
    entries = st.floats(-10, 10, width=32).map(lambda x: x + 0.125 if abs(x) < 0.1 else x)
    return tuple(draw(hnp.arrays(dtype, shape, elements=entries)) for _ in range(2))


# The objective function


@given(pairs(), st.floats(0, 4), st.none() | st.floats(0, 1, width=32, allow_subnormal=False))
@settings(max_examples=30)
def test_significance_is_the_reference(pair, power, floor):
    r, v = pair
    with jax.enable_x64(r.dtype == np.float64):
        result = Significance(power, floor)(jnp.asarray(r), jnp.asarray(v))
    assert result.dtype == r.dtype
    assert result.shape == r.shape[:-1]
    rows = zip(*(x.reshape(-1, x.shape[-1]).astype(np.float64) for x in (r, v)), strict=True)
    expected = np.reshape([reference(a, b, power, floor) for a, b in rows], result.shape)
    scale = np.max(np.abs(r)) * np.max(np.abs(v)) * r.shape[-1]
    # |cos|^k changes fast at 0 for small k, but it is multiplied by ⟨r, v⟩ there.
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-5 * scale)


@given(pairs())
@settings(max_examples=20)
def test_cosine_is_the_reference(pair):
    r, v = pair
    with jax.enable_x64(r.dtype == np.float64):
        result = cosine(jnp.asarray(r), jnp.asarray(v))
    assert result.dtype == r.dtype
    wide = r.astype(np.float64), v.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=-1)
    expected = np.sum(wide[0] * wide[1], -1) / lengths[0] / lengths[1]
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("power", POWERS)
def test_gradient_is_cos_power_times_b_v(x64, power):
    d, r, v = Significance(power, None), draw(0, 5), draw(1, 5)
    gradient = jax.grad(d)(r, v)
    scale = jnp.abs(cosine(r, v)) ** power
    np.testing.assert_allclose(gradient, scale * d.gradient_matrix(r) @ v, rtol=1e-12)
    np.testing.assert_allclose(gradient, scale * d.gradient_product(r, v), rtol=1e-12)


@pytest.mark.parametrize("power", POWERS)
def test_gradient_matrix_is_the_derivative_of_the_definition(x64, power):
    # B maps v to (∂d/∂r) / s. Directions near r, where the cosine is positive and the definition unambiguous.
    r = draw(0, 5)
    gradient = jax.grad(lambda r, v: (r @ v) * (r @ v / jnp.linalg.norm(r) / jnp.linalg.norm(v)) ** power)
    directions = r + 0.1 * draw(1, 5, 5)
    cos = directions @ r / jnp.linalg.norm(r) / jnp.linalg.norm(directions, axis=-1)
    images = jax.vmap(gradient, (None, 0))(r, directions) / cos[:, None] ** power
    np.testing.assert_allclose(Significance(power).gradient_matrix(r) @ directions.T, images.T, rtol=1e-12)


@pytest.mark.parametrize("power", POWERS)
def test_gradient_matrix_eigenvalues(x64, power):
    values, vectors = np.linalg.eigh(Significance(power).gradient_matrix(draw(0, 5)))
    np.testing.assert_allclose(values, [1] + 4 * [power + 1], rtol=1e-12)
    if power > 0:
        np.testing.assert_allclose(abs(cosine(jnp.asarray(vectors[:, 0]), draw(0, 5))), 1, rtol=1e-12)


@given(pairs(), st.floats(0, 6), st.sampled_from([0, 2]))
@settings(max_examples=25)
def test_product_and_solve_are_dense_linear_algebra(pair, power, columns):
    r, x = pair
    if columns:
        x = np.repeat(x[..., None], columns, axis=-1) * np.arange(1, columns + 1, dtype=x.dtype)
    d = Significance(power)
    with jax.enable_x64(r.dtype == np.float64):
        product = d.gradient_product(jnp.asarray(r), jnp.asarray(x))
        solution = d.gradient_solve(jnp.asarray(r), jnp.asarray(x))
    assert product.dtype == solution.dtype == r.dtype
    unit = r.astype(np.float64) / np.linalg.norm(r.astype(np.float64), axis=-1, keepdims=True)
    matrix = (power + 1) * np.eye(r.shape[-1]) - power * unit[..., :, None] * unit[..., None, :]
    wide = x.astype(np.float64) if columns else x.astype(np.float64)[..., None]
    tolerance = {"rtol": 1e-5, "atol": 1e-5 * (power + 1) * np.max(np.abs(wide))}
    np.testing.assert_allclose(product, (matrix @ wide).reshape(x.shape), **tolerance)
    np.testing.assert_allclose(solution, np.linalg.solve(matrix, wide).reshape(x.shape), **tolerance)


@pytest.mark.parametrize("power", POWERS)
def test_solve_inverts_product(x64, power):
    d, r, x = Significance(power), draw(0, 2, 1, 3), draw(1, 2, 1, 3, 2)
    np.testing.assert_allclose(d.gradient_solve(r, d.gradient_product(r, x)), x, rtol=1e-12)


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("floor", [None, 0.0, 0.1])
def test_zero_response(power, floor):
    d, r, v = Significance(power, floor), jnp.zeros(3), jnp.asarray([0.6, 0.0, 0.8])
    value, gradient = jax.value_and_grad(d)(r, v)
    assert value == 0
    np.testing.assert_allclose(gradient, (0.0 if floor is None else floor) ** power * v, rtol=1e-6)
    np.testing.assert_array_equal(d.gradient_matrix(r), (power + 1) * np.eye(3))
    np.testing.assert_array_equal(d.gradient_product(r, v), (power + 1) * v)
    assert cosine(r, v) == 0


@pytest.mark.parametrize("power", POWERS)
def test_perpendicular_response(power):
    r, v = jnp.asarray([0.0, 2.0, 0.0]), jnp.asarray([1.0, 0.0, 0.0])
    value, gradient = jax.value_and_grad(Significance(power, None))(r, v)
    assert value == 0
    np.testing.assert_array_equal(gradient, v if power == 0 else 0 * v)


def test_floor_holds_where_the_cosine_is_below():
    r, v = jnp.asarray([-1.0, 2.0, 0.0]), jnp.asarray([1.0, 0.0, 0.0])
    value, gradient = jax.value_and_grad(Significance(2, 0.1))(r, v)
    np.testing.assert_allclose(value, -0.01, rtol=1e-6)
    np.testing.assert_allclose(gradient, 0.01 * v, rtol=1e-6)
    above = jnp.asarray([1.0, 2.0, 0.0])
    np.testing.assert_allclose(Significance(2, 0.1)(above, v), Significance(2, None)(above, v), rtol=1e-6)


@pytest.mark.parametrize(("power", "floor", "expected"), [(2, 0.1, [1, 1, 0]), (2, None, [0] * 3), (0, 0.1, [0] * 3)])
def test_where_the_floor_replaces_the_cosine(power, floor, expected):
    result = Significance(power, floor).on_floor(jnp.asarray([-0.5, 0.1, 0.11]))
    np.testing.assert_array_equal(result, np.array(expected, bool))


@pytest.mark.parametrize("power", POWERS)
def test_a_negative_cosine_without_floor_keeps_the_sign(power):
    d, r, v = Significance(power, None), draw(0, 3, dtype=np.float32), draw(1, 3, dtype=np.float32)
    np.testing.assert_allclose(d(r, -v), -d(r, v), rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_the_squares_of_a_response_may_leave_the_range_of_float32(factor):
    d, r, v = Significance(2, None), draw(0, 3, dtype=np.float32), draw(1, 3, dtype=np.float32)
    scaled = factor * r
    np.testing.assert_allclose(cosine(scaled, v), cosine(r, v), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(d)(scaled, v), jax.grad(d)(r, v), rtol=1e-4)
    np.testing.assert_allclose(d.gradient_matrix(scaled), d.gradient_matrix(r), rtol=1e-5, atol=1e-6)


def test_batches_broadcast():
    d, r, v = Significance(2, None), draw(0, 2, 1, 3, dtype=np.float32), draw(1, 2, 1, 3, dtype=np.float32)
    np.testing.assert_allclose(d(r, v[0]), d(r, jnp.tile(v[0], (2, 1, 1))), rtol=1e-6)


# The object


def test_defaults_are_those_of_the_paper_and_of_lucid():
    assert (Significance().power, Significance().floor) == (2.0, 0.1)
    assert repr(Significance()) == "Significance(power=2.0, floor=0.1)"


def test_it_is_frozen_and_equal_ones_hash_alike(unchecked):
    d = Significance(2, 0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        d.power = 3.0
    same = [Significance(np.float32(2), np.float64(0.5)), Significance(jnp.asarray(2), jnp.asarray(0.5))]
    assert all(other == d and hash(other) == hash(d) for other in same)
    assert len({d, *same, Significance(2, None), Significance(1, 0.5)}) == 3


def test_it_is_a_static_node_of_a_pytree():
    leaves, structure = jax.tree.flatten({"d": Significance(3), "x": 1})
    assert leaves == [1]
    assert jax.tree.unflatten(structure, leaves)["d"] == Significance(3)
    assert structure != jax.tree.structure({"d": Significance(2), "x": 1})


def test_equal_ones_compile_once():
    traces = []

    @jax.jit
    def value(d, r, v):
        traces.append(d)
        return d(r, v)

    r = jnp.asarray([3.0, 4.0])
    for d in (Significance(1, None), Significance(1.0, None), Significance(np.float64(1), None)):
        np.testing.assert_allclose(value(d, r, jnp.asarray([1.0, 0.0])), 3 * 0.6, rtol=1e-6)
    assert traces == [Significance(1, None)]
    np.testing.assert_allclose(value(Significance(2, None), r, jnp.asarray([1.0, 0.0])), 3 * 0.36, rtol=1e-6)
    assert len(traces) == 2


@pytest.mark.parametrize("other", [None, 2.0, lambda r, v: r @ v])
def test_only_a_significance_can_be_inverted(other):
    check_invertible(Significance())
    with pytest.raises(TypeError, match=r"significance must be the jifv\.Significance that .*, got"):
        check_invertible(other)


# Errors


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"power": -0.1}, ValueError, "power must be finite and >= 0, got -0.1"),
        ({"power": np.nan}, ValueError, "power must be finite and >= 0, got nan"),
        ({"power": np.inf}, ValueError, "power must be finite and >= 0, got inf"),
        ({"power": "2"}, TypeError, "power must be a number >= 0, got '2'"),
        ({"power": np.ones(2)}, ValueError, "power must be a scalar"),
        ({"power": None}, TypeError, "power must be a number >= 0, got None"),
        ({"floor": -0.1}, ValueError, "floor must be finite and >= 0, got -0.1"),
        ({"floor": np.nan}, ValueError, "floor must be finite and >= 0, got nan"),
        ({"floor": 1.1}, ValueError, "floor must be at most 1, got 1.1"),
        ({"floor": "0"}, TypeError, "floor must be a number >= 0, got '0'"),
    ],
)
def test_bad_options(options, error, message, unchecked):
    with pytest.raises(error, match=message):
        Significance(**options)


@pytest.mark.parametrize("name", ["power", "floor"])
def test_options_cannot_be_traced(name, unchecked):
    """They are part of what is compiled."""
    with pytest.raises(jax.errors.ConcretizationTypeError):
        jax.jit(lambda x: Significance(**{name: x})(jnp.ones(2), jnp.ones(2)))(0.5)


def test_an_objective_must_not_be_zero():
    with pytest.raises(ValueError, match="objectives must be nonzero"):
        Significance()(jnp.ones(3), jnp.zeros(3))


def test_wrong_shapes(unchecked):
    d = Significance()
    for shape in [(), (4,), (4, 3), (3, 2, 2)]:
        for function in (d.gradient_product, d.gradient_solve):
            with pytest.raises(ValueError, match=r"x must have shape \(3,\) or that and one axis more"):
                jax.jit(function)(jnp.ones(3), jnp.ones(shape))
