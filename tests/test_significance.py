import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jifv

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
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    shape = draw(st.sampled_from([(1,), (4,), (2, 3), (2, 1, 5)]))
    entries = st.floats(-10, 10, width=32).map(lambda x: x + 0.125 if abs(x) < 0.1 else x)
    return tuple(draw(hnp.arrays(dtype, shape, elements=entries)) for _ in range(2))


@given(pairs(), st.floats(0, 4), st.none() | st.floats(0, 1))
@settings(max_examples=30)
def test_significance_is_the_reference(pair, power, floor):
    r, v = pair
    with jax.enable_x64(r.dtype == np.float64):
        result = jax.jit(jifv.significance)(jnp.asarray(r), jnp.asarray(v), power=power, floor=floor)
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
        result = jifv.cosine(jnp.asarray(r), jnp.asarray(v))
    assert result.dtype == r.dtype
    wide = r.astype(np.float64), v.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=-1)
    expected = np.sum(wide[0] * wide[1], -1) / lengths[0] / lengths[1]
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("power", POWERS)
def test_gradient_is_cos_power_times_b_v(x64, power):
    r, v = draw(0, 6), draw(1, 6)
    gradient = jax.grad(jifv.significance)(r, v, power=power)
    scale = jnp.abs(jifv.cosine(r, v)) ** power
    np.testing.assert_allclose(gradient, scale * jifv.gradient_matrix(r, power=power) @ v, rtol=1e-12)
    np.testing.assert_allclose(gradient, scale * jifv.gradient_product(r, v, power=power), rtol=1e-12)


@pytest.mark.parametrize("power", POWERS)
def test_gradient_matrix_is_the_derivative_of_the_definition(x64, power):
    # B maps v to (∂d/∂r) / s. Directions near r, where the cosine is positive and the definition unambiguous.
    r = draw(0, 5)
    gradient = jax.grad(lambda r, v: (r @ v) * (r @ v / jnp.linalg.norm(r) / jnp.linalg.norm(v)) ** power)
    directions = r + 0.1 * draw(1, 5, 5)
    cos = directions @ r / jnp.linalg.norm(r) / jnp.linalg.norm(directions, axis=-1)
    images = jax.vmap(gradient, (None, 0))(r, directions) / cos[:, None] ** power
    np.testing.assert_allclose(jifv.gradient_matrix(r, power=power) @ directions.T, images.T, rtol=1e-12)


@pytest.mark.parametrize("power", POWERS)
def test_gradient_matrix_eigenvalues(x64, power):
    values, vectors = np.linalg.eigh(jifv.gradient_matrix(draw(0, 5), power=power))
    np.testing.assert_allclose(values, [1] + 4 * [power + 1], rtol=1e-12)
    if power > 0:
        np.testing.assert_allclose(abs(jifv.cosine(jnp.asarray(vectors[:, 0]), draw(0, 5))), 1, rtol=1e-12)


@given(pairs(), st.floats(0, 6), st.integers(0, 3))
@settings(max_examples=25)
def test_product_and_solve_are_dense_linear_algebra(pair, power, columns):
    r, x = pair
    if columns:
        x = np.repeat(x[..., None], columns, axis=-1) * np.arange(1, columns + 1, dtype=x.dtype)
    with jax.enable_x64(r.dtype == np.float64):
        product = jax.jit(jifv.gradient_product)(jnp.asarray(r), jnp.asarray(x), power=power)
        solution = jax.jit(jifv.gradient_solve)(jnp.asarray(r), jnp.asarray(x), power=power)
    assert product.dtype == solution.dtype == r.dtype
    unit = r.astype(np.float64) / np.linalg.norm(r.astype(np.float64), axis=-1, keepdims=True)
    matrix = (power + 1) * np.eye(r.shape[-1]) - power * unit[..., :, None] * unit[..., None, :]
    wide = x.astype(np.float64) if columns else x.astype(np.float64)[..., None]
    tolerance = {"rtol": 1e-5, "atol": 1e-5 * (power + 1) * np.max(np.abs(wide))}
    np.testing.assert_allclose(product, (matrix @ wide).reshape(x.shape), **tolerance)
    np.testing.assert_allclose(solution, np.linalg.solve(matrix, wide).reshape(x.shape), **tolerance)


@pytest.mark.parametrize("power", POWERS)
def test_solve_inverts_product(x64, power):
    r, x = draw(0, 3, 5), draw(1, 3, 5, 4)
    there = jifv.gradient_product(r, x, power=power)
    np.testing.assert_allclose(jifv.gradient_solve(r, there, power=power), x, rtol=1e-12)


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("floor", [None, 0.0, 0.1])
def test_zero_response(power, floor):
    r, v = jnp.zeros(3), jnp.asarray([0.6, 0.0, 0.8])
    value, gradient = jax.value_and_grad(jifv.significance)(r, v, power=power, floor=floor)
    assert value == 0
    np.testing.assert_allclose(gradient, (0.0 if floor is None else floor) ** power * v, rtol=1e-6)
    np.testing.assert_array_equal(jifv.gradient_matrix(r, power=power), (power + 1) * np.eye(3))
    np.testing.assert_array_equal(jifv.gradient_product(r, v, power=power), (power + 1) * v)
    assert jifv.cosine(r, v) == 0


@pytest.mark.parametrize("power", POWERS)
def test_perpendicular_response(power):
    r, v = jnp.asarray([0.0, 2.0]), jnp.asarray([1.0, 0.0])
    value, gradient = jax.value_and_grad(jifv.significance)(r, v, power=power)
    assert value == 0
    np.testing.assert_array_equal(gradient, v if power == 0 else 0 * v)


def test_floor_holds_where_the_cosine_is_below():
    r, v = jnp.asarray([-1.0, 2.0]), jnp.asarray([1.0, 0.0])
    value, gradient = jax.value_and_grad(jifv.significance)(r, v, power=2, floor=0.1)
    np.testing.assert_allclose(value, -0.01, rtol=1e-6)
    np.testing.assert_allclose(gradient, 0.01 * v, rtol=1e-6)
    above = jnp.asarray([1.0, 2.0])
    np.testing.assert_allclose(jifv.significance(above, v, floor=0.1), jifv.significance(above, v), rtol=1e-6)


@pytest.mark.parametrize("power", POWERS)
def test_a_negative_cosine_without_floor_keeps_the_sign(power):
    r, v = draw(0, 4, dtype=np.float32), draw(1, 4, dtype=np.float32)
    np.testing.assert_allclose(jifv.significance(r, -v, power=power), -jifv.significance(r, v, power=power), rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_the_squares_of_a_response_may_leave_the_range_of_float32(factor):
    r, v = draw(0, 4, dtype=np.float32), draw(1, 4, dtype=np.float32)
    scaled = factor * r
    np.testing.assert_allclose(jifv.cosine(scaled, v), jifv.cosine(r, v), rtol=1e-5)
    gradient = jax.grad(jifv.significance)(scaled, v)
    np.testing.assert_allclose(gradient, jax.grad(jifv.significance)(r, v), rtol=1e-4)
    np.testing.assert_allclose(jifv.gradient_matrix(scaled), jifv.gradient_matrix(r), rtol=1e-5, atol=1e-6)


def test_batches_jit_vmap_and_broadcasting():
    r, v = draw(0, 3, 5, dtype=np.float32), draw(1, 3, 5, dtype=np.float32)
    for function in (
        jifv.significance,
        jifv.gradient_product,
        jifv.gradient_solve,
        jifv.cosine,
        lambda r, v: jifv.gradient_matrix(r),
    ):
        single = jnp.stack([function(a, b) for a, b in zip(r, v, strict=True)])
        np.testing.assert_allclose(function(r, v), single, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(jax.jit(jax.vmap(function))(r, v), single, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jifv.significance(r, v[0]), jifv.significance(r, jnp.tile(v[0], (3, 1))), rtol=1e-6)


def test_power_and_floor_may_be_traced():
    r, v = draw(0, 4, dtype=np.float32), draw(1, 4, dtype=np.float32)
    traced = jax.jit(lambda k, c: jifv.significance(r, v, power=k, floor=c))
    np.testing.assert_allclose(traced(3.0, 0.2), jifv.significance(r, v, power=3.0, floor=0.2), rtol=1e-6)


@pytest.mark.parametrize("power", [-0.1, -2, np.nan, np.inf])
def test_bad_powers(power):
    r = jnp.ones(3)
    for call in (
        lambda: jifv.significance(r, r, power=power),
        lambda: jifv.gradient_matrix(r, power=power),
        lambda: jifv.gradient_product(r, r, power=power),
        lambda: jifv.gradient_solve(r, r, power=power),
    ):
        with pytest.raises(ValueError, match="power must be finite and >= 0"):
            call()


def test_power_of_another_type(unchecked):
    with pytest.raises(TypeError, match="power must be a number >= 0"):
        jifv.significance(jnp.ones(3), jnp.ones(3), power="2")
    with pytest.raises(ValueError, match="power must be a scalar"):
        jifv.gradient_matrix(jnp.ones(3), power=jnp.ones(2))


@pytest.mark.parametrize(("floor", "message"), [(-0.1, ">= 0"), (np.nan, "finite"), (1.1, "at most 1")])
def test_bad_floors(floor, message):
    with pytest.raises(ValueError, match=f"floor must be .*{message}"):
        jifv.significance(jnp.ones(3), jnp.ones(3), floor=floor)


@pytest.mark.parametrize(("bad", "message"), [(0.0, "nonzero"), (np.nan, "finite"), (np.inf, "finite")])
def test_bad_objectives(bad, message):
    with pytest.raises(ValueError, match=f"objectives must be {message}"):
        jifv.significance(jnp.ones(3), jnp.full(3, bad))


def test_wrong_shapes(unchecked):
    with pytest.raises(ValueError, match="objectives must have a last axis of 3"):
        jax.jit(jifv.significance)(jnp.ones(3), jnp.ones(4))
    with pytest.raises(ValueError, match="r and v must share their last axis"):
        jax.jit(jifv.cosine)(jnp.ones(3), jnp.ones(4))
    for function in (jifv.significance, jifv.gradient_product, jifv.gradient_solve):
        with pytest.raises(ValueError, match="r must have the features as its last axis"):
            function(jnp.ones(()), jnp.ones(3))
    for shape in [(), (4,), (4, 3), (3, 2, 2)]:
        with pytest.raises(ValueError, match=r"x must have shape \(3,\) or that and one axis more"):
            jax.jit(jifv.gradient_product)(jnp.ones(3), jnp.ones(shape))
        with pytest.raises(ValueError, match=r"x must have shape \(3,\) or that and one axis more"):
            jax.jit(jifv.gradient_solve)(jnp.ones(3), jnp.ones(shape))
