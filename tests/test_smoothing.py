import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.kinks import (
    KINDS,
    POINTWISE,
    WIDTH,
    cap,
    draw,
    huber,
    ramp,
    rms,
    sample,
)

import jifv
from jifv._smoothing import rounded
from jifv.smoothing import Site, Smoothed, smooth

kinds = pytest.mark.parametrize("name", KINDS)
SEVERAL = ["relu", "clip", "abs", "leaky_relu", "max over axes", "maximum of three", "windows with a margin"]


# A program of one kind takes as long to compile as one of all of them: each has a row of the argument.


def together(names):
    return lambda x: {name: KINDS[name][0](row) for name, row in zip(names, x, strict=True)}


def samples(names, dtype=np.float64):
    return jnp.asarray([sample(name) for name in names], dtype)


def by_name(x):
    return dict(zip(KINDS, np.asarray(x), strict=True))


@pytest.fixture(scope="module")
def derived():
    """Values, slopes, gradients and finite differences of all kinds, by name."""
    with jax.enable_x64(True):
        x = samples(KINDS)
        smoothed = smooth(together(KINDS), x[None], WIDTH)
        direction, step = draw(*x.shape, seed=1), 1e-6
        up, down = smoothed(x + step * direction), smoothed(x - step * direction)
        value, slope = jax.jit(lambda x: jax.jvp(smoothed, (x,), (direction,)))(x)
        weights = {name: draw(*result.shape, seed=2) for name, result in value.items()}
        total = lambda x: sum(jnp.vdot(weights[name], result) for name, result in smoothed(x).items())  # noqa: E731
        gradient = jax.jit(jax.grad(total))
        difference = jax.tree.map(lambda up, down: (np.asarray(up) - np.asarray(down)) / (2 * step), up, down)
        return {
            "value": value,
            "slope": slope,
            "difference": difference,
            "weights": weights,
            "direction": by_name(direction),
            "gradient": by_name(gradient(x)),
            "before": by_name(gradient(x - 1e-9)),
            "after": by_name(gradient(x + 1e-9)),
        }


@kinds
def test_values_and_derivatives(name, derived):
    value, slope, gradient = (derived[key][name] for key in ("value", "slope", "gradient"))
    np.testing.assert_allclose(value, KINDS[name][1](sample(name), WIDTH), rtol=1e-6, atol=2e-7)
    np.testing.assert_allclose(slope, derived["difference"][name], rtol=1e-6, atol=2e-5)
    pulled = np.vdot(derived["weights"][name], slope)
    np.testing.assert_allclose(np.vdot(gradient, derived["direction"][name]), pulled, rtol=1e-10)
    # It does not jump, wherever x is near a kink.
    np.testing.assert_allclose(derived["before"][name], derived["after"][name], atol=1e-6)


def test_derivative_of_the_function_itself_jumps(x64):
    names = ["relu", "clip", "abs", "leaky_relu", "hard_tanh", "selu"]
    x = samples(names)
    slope = jax.jit(jax.grad(lambda x: sum(result.sum() for result in together(names)(x).values())))
    assert (np.abs(slope(x - 1e-9) - slope(x + 1e-9)).max((1, 2, 3)) > 0.1).all()


@pytest.fixture(scope="module")
def narrow():
    """What all kinds are themselves, and rounded over two widths, by name."""
    with jax.enable_x64(True):
        x = samples(KINDS)
        return jax.jit(together(KINDS))(x), {
            width: smooth(together(KINDS), x[None], width)(x) for width in (1e-2, 1e-6)
        }


@kinds
def test_converges_to_the_function(name, narrow):
    exact, rounded_over = narrow
    errors = []
    for width, found in rounded_over.items():
        np.testing.assert_allclose(found[name], KINDS[name][1](sample(name), width), rtol=1e-6, atol=2e-7)
        errors.append(np.abs(found[name] - exact[name]).max())
    assert 0 < errors[0] < 0.2
    assert errors[1] <= 1.1e-4 * errors[0]


def test_types_are_kept():
    for dtype in (jnp.float32, jnp.bfloat16):
        x = samples(SEVERAL, dtype)
        smoothed = smooth(together(SEVERAL), x[None], WIDTH)
        total = lambda x, f=smoothed: sum(each.sum().astype(jnp.float32) for each in f(x).values())  # noqa: E731
        assert {each.dtype for each in jax.eval_shape(smoothed, x).values()} == {jnp.dtype(dtype)}
        assert jax.eval_shape(jax.grad(total), x).dtype == dtype
    other = jax.eval_shape(smoothed, x.astype(jnp.float32))
    assert {each.dtype for each in other.values()} == {jnp.dtype(jnp.float32)}


@pytest.fixture(scope="module")
def broken():
    """Where results of all kinds, smoothed and not, are NaN: for an argument with NaN and one with infinities."""
    x = np.array(samples(KINDS, np.float32))
    smoothed, exact = smooth(together(KINDS), x[None], WIDTH), jax.jit(together(KINDS))
    nan, extreme = x.copy(), x.copy()
    nan[:, 0, 1, 1] = np.nan
    extreme[:, 0, 0, :2] = np.inf, -np.inf
    return [jax.tree.map(np.isnan, jax.device_get((smoothed(x), exact(x)))) for x in (nan, extreme)]


@kinds
def test_values_that_are_not_finite(name, broken):
    (found, exact), (found_extreme, exact_extreme) = broken
    # A comparison hides NaN, a rounded one does not.
    assert (found[name] >= exact[name]).all()
    assert found[name].any()
    if name in POINTWISE:
        np.testing.assert_array_equal(found_extreme[name], exact_extreme[name])


def test_transformations_agree():
    batch = np.stack([samples(SEVERAL, np.float32), draw(len(SEVERAL), 7, 6, 3, seed=3, dtype=np.float32)])
    smoothed = smooth(together(SEVERAL), batch, WIDTH)
    total = lambda x: sum(jnp.sum(jnp.sin(each)) for each in smoothed(x).values())  # noqa: E731
    stack = lambda trees: jax.tree.map(lambda *leaves: np.stack(leaves), *trees)  # noqa: E731

    def assert_close(found, expected):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)

    gradient = jax.jit(jax.grad(total))
    one_by_one, gradients = stack([smoothed(x) for x in batch]), np.stack([gradient(x) for x in batch])
    assert_close(jax.jit(jax.vmap(smoothed))(batch), one_by_one)
    mesh = jifv.sample_mesh(1)
    spec = jax.sharding.PartitionSpec("samples")
    sharded = [
        jax.shard_map(jax.vmap(jax.grad(total)), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=check)
        for check in (True, False)
    ]
    for function in (jax.vmap(jax.grad(total)), *sharded):
        assert_close(jax.jit(function)(batch), gradients)
    rows = jax.device_get(jax.jit(jax.jacrev(smoothed))(batch[0]))
    assert_close(rows, jax.jit(jax.jacfwd(smoothed))(batch[0]))
    first = {name: np.cos(each[0]) for name, each in one_by_one.items()}
    assert_close(sum(np.tensordot(first[name], rows[name], first[name].ndim) for name in SEVERAL), gradients[0])


@given(st.floats(-3, 3), st.floats(1e-3, 2))
def test_ramp_cap_and_absolute_by_pieces(x, width):
    with jax.enable_x64(True):
        for function, expected in ((rounded.ramp, ramp), (rounded.cap, cap), (rounded.absolute, huber)):
            np.testing.assert_allclose(function(jnp.asarray(x), width), expected(x, width), atol=1e-12)
        both = rounded.above(jnp.asarray(x), 0.5, width) + rounded.below(jnp.asarray(x), 0.5, width)
        assert float(both) == pytest.approx(x + 0.5, abs=1e-12)


def test_maximum_of_large_numbers_is_finite():
    x = np.float32([[1e30, -1e30, 0.0], [-np.inf, 3.0, 3.0], [-np.inf, -np.inf, -np.inf]]).T

    @jax.jit
    def pulled(entries):
        value, pull = jax.vjp(lambda *entries: rounded.largest(entries, 1e-3), *entries)
        return value, jnp.stack(pull(jnp.ones(3)))

    for entries in (x, -x):
        value, cotangents = pulled(list(entries))
        assert not np.isnan(value).any()
        assert np.isfinite(cotangents[:, 0]).all()
    value, pull = jax.vjp(jax.jit(lambda x: rounded.largest([x, x], 1.0)), jnp.asarray([-jnp.inf, 1.0]))
    np.testing.assert_array_equal(value, [-jnp.inf, 1])
    np.testing.assert_allclose(pull(jnp.ones(2))[0], [0, 1])


# The report and the object.


def nonlinear(x):
    x = jnp.abs(x)
    return jnp.sort(jax.nn.relu(x - 1)), {"a": x.sum()}


def test_report():
    x = draw(4, 5)
    smoothed = smooth(nonlinear, x)
    line = nonlinear.__code__.co_firstlineno
    one, two = smoothed.sites
    assert isinstance(one, Site)
    assert (one.kind, one.shape, two.kind, two.shape) == ("abs", (5,), "max", (5,))
    assert f"test_smoothing.py:{line + 1}" in one.source
    assert f"test_smoothing.py:{line + 2}" in two.source
    np.testing.assert_allclose(one.width, 0.1 * rms(x), rtol=1e-6)
    np.testing.assert_allclose(two.width, 0.1 * rms(np.abs(x) - 1), rtol=1e-6)
    assert repr(smoothed) == "Smoothed(nonlinear, width=0.1, 2 kinks, 1 left alone)"
    table = smoothed.table().splitlines()
    assert len(table) == 4
    assert re.search(r"rounded +abs \[5\] .*width 0\.\d+", table[1])
    assert re.search(r"left alone sort \[5\] .*: it orders", table[3])
    value, rest = smoothed(jnp.ones(5))
    assert value.shape == (5,)
    assert rest["a"].shape == ()


def test_object():
    smoothed = smooth(jax.nn.relu, draw(4, 5))
    assert hash(smoothed) == hash(smoothed)
    assert smoothed != smooth(jax.nn.relu, draw(4, 5))
    assert isinstance(smoothed, Smoothed)
    with pytest.raises(AttributeError):
        smoothed.smoothing = 1.0
    assert len(jax.tree.leaves(smoothed)) == 1


def test_traced_once_for_each_type_and_shape():
    traces = []

    def function(x):
        traces.append(x.shape)
        return jax.nn.relu(x)

    smoothed = smooth(function, draw(4, 5))
    calibration = len(traces)
    for _ in range(2):
        smoothed(jnp.ones(5))
        jax.jit(jax.vmap(jax.grad(lambda x: smoothed(x).sum())))(jnp.ones((2, 5)))
    assert len(traces) == calibration + 1
    assert smoothed(jnp.ones(7)).shape == (7,)
    assert traces[calibration:] == [(5,), (7,)]


def test_precision_is_that_of_the_caller():
    weights = jnp.ones((5, 5))
    smoothed = smooth(lambda x: jax.nn.relu(x @ weights), draw(4, 5))
    for precision in ("default", "highest", "default"):
        with jax.default_matmul_precision(precision):
            program = str(jax.make_jaxpr(smoothed)(jnp.ones(5)))
        assert ("HIGHEST" in program) == (precision == "highest")


def test_float64_in_and_out(x64):
    weights = jnp.asarray(draw(5, 5), jnp.float32)
    smoothed = smooth(lambda x: jax.nn.relu(x @ weights.astype(x.dtype)), draw(4, 5, dtype=np.float32))
    assert smoothed(jnp.ones(5, jnp.float32)).dtype == jnp.float32
    assert smoothed(jnp.ones(5)).dtype == jnp.float64
    np.testing.assert_allclose(smoothed(draw(5)), ramp(draw(5) @ np.float64(weights), smoothed.sites[0].width))


def test_another_path_is_an_error():
    smoothed = smooth(lambda x: jax.nn.relu(x) if x.size < 6 else x, draw(4, 5))
    with pytest.raises(ValueError, match=r"x must lead through the same kinks .* 1, got 0 for float32\[7\]"):
        smoothed(jnp.ones(7))


def test_random_inputs_are_images():
    seen = {}

    def function(x):
        seen["shape"] = x.shape
        return jnp.abs(x - 0.5)

    phi = jifv.fourier((8, 6, 2), decay=1.0, std=1.0)
    expected = jax.jit(jax.vmap(lambda key: phi.apply(phi.init(key))))(jax.random.split(jax.random.key(0), 4))
    for inputs in ((8, 6, 2), jax.ShapeDtypeStruct((8, 6, 2), jnp.float32)):
        smoothed = smooth(function, inputs)
        assert seen["shape"] == (8, 6, 2)
        np.testing.assert_allclose(smoothed.sites[0].width, 0.1 * rms(np.asarray(expected) - 0.5), rtol=1e-5)


# Errors, before anything is compiled.


@pytest.mark.parametrize("width", [-0.1, 0, 0.0, np.nan, np.inf])
def test_width_out_of_range(width):
    with pytest.raises(ValueError, match="width must be"):
        smooth(lambda x: 1 / 0, draw(2, 3), width)


def test_arguments_of_other_types(unchecked):
    with pytest.raises(TypeError, match="function must be callable, got 3"):
        smooth(3, draw(2, 3))
    with pytest.raises(TypeError, match="width must be a number"):
        smooth(jnp.sin, draw(2, 3), "0.1")
    with pytest.raises(TypeError, match="inputs must be an array of floats, got int64"):
        smooth(jnp.sin, np.arange(3))
    with pytest.raises(TypeError, match="inputs must be an array of floats, got str"):
        smooth(jnp.sin, "inputs")
    with pytest.raises(ValueError, match="inputs must be samples unless they are images"):
        smooth(jnp.sin, (3, 3))
    with pytest.raises(TypeError, match="x must be an array of floats, got int32"):
        smooth(jnp.abs, draw(2, 3))(jnp.arange(3))


def test_inputs_without_values(unchecked):
    with pytest.raises(ValueError, match="inputs must be one sample or more"):
        smooth(jnp.sin, np.zeros((0, 3)))
    with pytest.raises(ValueError, match="inputs must be finite"):
        smooth(jnp.sin, np.full((2, 3), np.nan))
    with pytest.raises(TypeError, match="inputs must have values"):
        jax.jit(lambda x: smooth(jnp.abs, x)(x[0]))(jnp.ones((2, 3)))
    with pytest.raises(TypeError, match="function must not close over"):
        jax.jit(lambda weights: smooth(lambda x: jnp.abs(weights * x), draw(2, 3))(jnp.ones(3)))(jnp.ones(3))


def test_activations_that_are_nan():
    with pytest.raises(ValueError, match="inputs must lead to finite activations, got NaN at abs"):
        smooth(lambda x: jnp.abs(jnp.log(x)), -np.ones((2, 3)))
