import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import jifv
from jifv._smoothing import rounded
from jifv.smoothing import Site, Smoothed, rounded_by, smooth

WIDTH = 0.3
"""Large, so that a good part of what is computed is inside of it."""


def draw(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(dtype)


def rms(x):
    x = np.asarray(x, np.float64)
    return np.sqrt(np.mean(np.square(x[np.isfinite(x)])))


# The closed forms, in NumPy and float64.


def ramp(x, w):
    return np.where(x <= 0, 0, np.where(x >= w, x - w / 2, x**2 / (2 * w)))


def cap(x, w):
    return x - ramp(x, w)


def huber(x, w):
    return np.where(np.abs(x) >= w, np.abs(x) - w / 2, x**2 / (2 * w))


def log_mean_exp(entries, w, axis=0):
    """w·log(mean(exp(x / w))) over the finite entries."""
    entries = np.moveaxis(np.asarray(entries, np.float64), axis, 0)
    top = np.max(entries, 0)
    return top + w * np.log(np.exp((entries - top) / w).sum(0) / np.isfinite(entries).sum(0))


def windows(x, size, stride, padding=(0, 0), fill=-np.inf):
    """Entries of each window of the first two axes, along a new first axis."""
    x = np.pad(x, (padding, padding, (0, 0)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, (size, size), (0, 1))[::stride, ::stride]
    return np.moveaxis(view.reshape(*view.shape[:3], -1), -1, 0)


def hard_sigmoid(x, w):
    inner = ramp(x + 3, w * rms(x + 3))
    return 6 + cap(inner - 6, w * rms(np.maximum(x + 3, 0)))


POINTWISE = {
    "relu": (jax.nn.relu, lambda x, w: ramp(x, w * rms(x))),
    "maximum": (lambda x: jnp.maximum(0.5, x), lambda x, w: 0.5 + ramp(x - 0.5, w * rms(x))),
    "minimum": (lambda x: jnp.minimum(x, -0.25), lambda x, w: -0.25 + cap(x + 0.25, w * rms(x))),
    "relu6": (
        lambda x: jax.nn.relu6(4 * x),
        lambda x, w: 6 + cap(ramp(4 * x, w * rms(4 * x)) - 6, w * rms(np.maximum(4 * x, 0))),
    ),
    "clip": (
        lambda x: jnp.clip(x, -0.5, 1),
        lambda x, w: 1 + cap(ramp(x + 0.5, w * rms(x)) - 1.5, w * rms(np.maximum(x, -0.5))),
    ),
    "clamp": (
        lambda x: lax.clamp(jnp.asarray(-0.5, x.dtype), x, jnp.asarray(1, x.dtype)),
        lambda x, w: 1 + cap(ramp(x + 0.5, w * rms(x)) - 1.5, w * rms(x)),
    ),
    "abs": (jnp.abs, lambda x, w: huber(x, w * rms(x))),
    "leaky_relu": (jax.nn.leaky_relu, lambda x, w: 0.01 * x + 0.99 * ramp(x, w * rms(x))),
    "prelu": (lambda x: jnp.where(x >= 0, x, 0.25 * x), lambda x, w: 0.25 * x + 0.75 * ramp(x, w * rms(x))),
    "where": (lambda x: jnp.where(x > 0, x, 0), lambda x, w: ramp(x, w * rms(x))),
    "where of a shifted value": (lambda x: jnp.where(x + 1 <= 0, 0, x + 1), lambda x, w: ramp(x + 1, w * rms(x + 1))),
    "where not": (lambda x: jnp.where(~(x > 0), -x, x), lambda x, w: -x + 2 * ramp(x, w * rms(x))),
    "hard_sigmoid": (lambda x: jax.nn.hard_sigmoid(3 * x), lambda x, w: hard_sigmoid(3 * x, w) / 6),
    "hard_swish": (lambda x: jax.nn.hard_swish(3 * x), lambda x, w: 3 * x * hard_sigmoid(3 * x, w) / 6),
    "hard_tanh": (
        jax.nn.hard_tanh,
        # Two kinks apart, each taken out of the function as it is.
        lambda x, w: np.clip(x, -1, 1) + sum(
            s * (ramp(x - c, w * rms(x)) - np.maximum(x - c, 0)) for s, c in ((1, -1), (-1, 1))
        ),
    ),
    "hard swish by cases": (
        lambda x: jnp.where(x <= -3, 0, jnp.where(x >= 3, x, x * (x + 3) / 6)),
        lambda x, w: np.where(x <= -3, 0, np.where(x >= 3, x, x * (x + 3) / 6)) + sum(
            -0.5 * (ramp(x - c, w * rms(x)) - np.maximum(x - c, 0)) for c in (-3, 3)
        ),
    ),
    "selu": (
        jax.nn.selu,
        lambda x, w: 1.0507009873554805 * (
            np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
            + (1 - 1.6732632423543772) * (ramp(x, w * rms(x)) - np.maximum(x, 0))
        ),
    ),
}  # fmt: skip

REDUCTIONS = {
    "max over axes": (lambda x: jnp.max(x, (0, 1)), lambda x, w: log_mean_exp(x.reshape(-1, 3), w * rms(x))),
    "min over an axis": (lambda x: jnp.min(x, -1), lambda x, w: -log_mean_exp(-x, w * rms(x), -1)),
    "maximum of three": (
        lambda x: jnp.maximum(jnp.maximum(x[:-2], x[1:-1]), x[2:]),
        lambda x, w: log_mean_exp([x[:-2], x[1:-1], x[2:]], w * rms([x[:-2], x[1:-1], x[2:]])),
    ),
    "minimum of two": (
        lambda x: jnp.minimum(x[:-1], 2 * x[1:]),
        lambda x, w: -log_mean_exp([-x[:-1], -2 * x[1:]], w * rms([x[:-1], 2 * x[1:]])),
    ),
    "larger by cases": (
        lambda x: jnp.where(x[0] > x[1], x[0], x[1]),
        lambda x, w: log_mean_exp(x[:2], w * rms(x[:2])),
    ),
    "smaller by cases": (
        lambda x: jnp.where(x[0] > x[1], x[1], x[0]),
        lambda x, w: -log_mean_exp(-x[:2], w * rms(x[:2])),
    ),
    "windows": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (3, 3, 1), (2, 2, 1), "VALID"),
        lambda x, w: log_mean_exp(windows(x, 3, 2), w * rms(x)),
    ),
    "windows with a margin": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (3, 3, 1), (2, 2, 1), ((1, 1), (1, 1), (0, 0))),
        lambda x, w: log_mean_exp(windows(x, 3, 2, (1, 1)), w * rms(x)),
    ),
    "windows after a pad": (
        lambda x: lax.reduce_window(
            jnp.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf),
            -jnp.inf, lambda a, b: jnp.maximum(a, b), (3, 3, 1), (2, 2, 1), "VALID",
        ),
        lambda x, w: log_mean_exp(windows(x, 3, 2, (1, 1)), w * rms(x)),
    ),
    "smallest in windows": (
        lambda x: lax.reduce_window(x, jnp.inf, lax.min, (2, 2, 1), (1, 1, 1), "VALID"),
        lambda x, w: -log_mean_exp(-windows(x, 2, 1), w * rms(x)),
    ),
    "dilated windows": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 1, 1), (1, 1, 1), "VALID", window_dilation=(3, 1, 1)),
        lambda x, w: log_mean_exp([x[:-3], x[3:]], w * rms(x)),
    ),
    "windows of the whole": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (7, 6, 1), (1, 1, 1), "VALID"),
        lambda x, w: log_mean_exp(x.reshape(-1, 3), w * rms(x))[None, None],
    ),
    "a mask": (
        lambda x: jnp.max(jnp.where(jnp.arange(7)[:, None, None] % 2 == 0, x, -jnp.inf), 0),
        lambda x, w: log_mean_exp(x[::2], w * rms(x[::2])),
    ),
}  # fmt: skip
KINDS = POINTWISE | REDUCTIONS
kinds = pytest.mark.parametrize("name", KINDS)
several = pytest.mark.parametrize(
    "name", ["relu", "clip", "abs", "leaky_relu", "max over axes", "maximum of three", "windows with a margin"]
)


def sample(name):
    """Values on both sides of every kink, and on some."""
    x = 2 * draw(7, 6, 3)
    if name in POINTWISE:
        x[:, 0, 0] = 0, 0.5, -0.25, -0.5, 1, -1, 3
    return x


@kinds
def test_values_and_derivatives(name, x64):
    function, expected = KINDS[name]
    x = sample(name)
    smoothed = smooth(function, x[None], WIDTH)
    assert smoothed.sites
    direction, weights, step = draw(*x.shape, seed=1), draw(*np.shape(expected(x, WIDTH)), seed=2), 1e-6
    value, slope = jax.jit(lambda x: jax.jvp(smoothed, (x,), (direction,)))(x)
    np.testing.assert_allclose(value, expected(x, WIDTH), rtol=1e-6, atol=2e-7)
    up, down = smoothed(x + step * direction), smoothed(x - step * direction)
    np.testing.assert_allclose(slope, (np.asarray(up) - np.asarray(down)) / (2 * step), rtol=1e-6, atol=2e-5)
    gradient = jax.jit(jax.grad(lambda x: jnp.vdot(weights, smoothed(x))))
    np.testing.assert_allclose(np.vdot(gradient(x), direction), np.vdot(weights, slope), rtol=1e-10)
    # It does not jump, wherever x is near a kink.
    np.testing.assert_allclose(gradient(x - 1e-9), gradient(x + 1e-9), atol=1e-6)


@pytest.mark.parametrize("name", ["relu", "clip", "abs", "leaky_relu", "hard_tanh", "selu"])
def test_derivative_of_the_function_itself_jumps(name, x64):
    x = jnp.asarray(sample(name))
    slope = jax.grad(lambda x: KINDS[name][0](x).sum())
    assert jnp.abs(slope(x - 1e-9) - slope(x + 1e-9)).max() > 0.1


@kinds
def test_converges_to_the_function(name, x64):
    function, expected = KINDS[name]
    x = sample(name)
    exact = np.asarray(function(jnp.asarray(x)))
    errors = []
    for width in (1e-2, 1e-6):
        found = np.asarray(smooth(function, x[None], width)(x))
        np.testing.assert_allclose(found, expected(x, width), rtol=1e-6, atol=2e-7)
        errors.append(np.abs(found - exact).max())
    assert 0 < errors[0] < 0.2
    assert errors[1] <= 1.1e-4 * errors[0]


@several
def test_types_are_kept(name):
    function, _ = KINDS[name]
    for dtype in (jnp.float32, jnp.bfloat16):
        x = jnp.asarray(sample(name), dtype)
        smoothed = smooth(function, x[None], WIDTH)
        assert smoothed(x).dtype == jax.grad(lambda x, f=smoothed: f(x).sum().astype(jnp.float32))(x).dtype == dtype
    assert smoothed(jnp.asarray(sample(name), jnp.float32)).dtype == jnp.float32


@kinds
def test_values_that_are_not_finite(name):
    function, _ = KINDS[name]
    x = jnp.asarray(sample(name), jnp.float32)
    smoothed, exact = smooth(function, x[None], WIDTH), jax.jit(function)
    broken = x.at[0, 1, 1].set(jnp.nan)
    # A comparison hides NaN, a rounded one does not.
    assert (jnp.isnan(smoothed(broken)) >= jnp.isnan(exact(broken))).all()
    assert jnp.isnan(smoothed(broken)).any()
    if name in POINTWISE:
        extreme = x.at[0, 0, :2].set(jnp.asarray([jnp.inf, -jnp.inf]))
        np.testing.assert_array_equal(jnp.isnan(smoothed(extreme)), jnp.isnan(exact(extreme)))


@several
def test_transformations_agree(name):
    function, _ = KINDS[name]
    batch = jnp.stack([jnp.asarray(sample(name), jnp.float32), jnp.asarray(draw(7, 6, 3, seed=3), jnp.float32)])
    smoothed = smooth(function, batch, WIDTH)
    one_by_one = jnp.stack([smoothed(x) for x in batch])
    options = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(jax.jit(jax.vmap(smoothed))(batch), one_by_one, **options)
    total = lambda x: jnp.sum(jnp.sin(smoothed(x)))  # noqa: E731
    gradients = jnp.stack([jax.grad(total)(x) for x in batch])
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(total)))(batch), gradients, **options)
    mesh = jifv.sample_mesh(1)
    spec = jax.sharding.PartitionSpec("samples")
    for check in (True, False):
        shared = jax.shard_map(jax.vmap(jax.grad(total)), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=check)
        np.testing.assert_allclose(jax.jit(shared)(batch), gradients, **options)
    rows = jax.jacrev(smoothed)(batch[0])
    np.testing.assert_allclose(rows, jax.jacfwd(smoothed)(batch[0]), **options)
    np.testing.assert_allclose(jnp.tensordot(jnp.cos(one_by_one[0]), rows, one_by_one[0].ndim), gradients[0], **options)


@given(st.floats(-3, 3), st.floats(1e-3, 2))
def test_ramp_cap_and_absolute_by_pieces(x, width):
    with jax.enable_x64(True):
        for function, expected in ((rounded.ramp, ramp), (rounded.cap, cap), (rounded.absolute, huber)):
            np.testing.assert_allclose(function(jnp.asarray(x), width), expected(x, width), atol=1e-12)
        both = rounded.above(jnp.asarray(x), 0.5, width) + rounded.below(jnp.asarray(x), 0.5, width)
        assert float(both) == pytest.approx(x + 0.5, abs=1e-12)


def test_maximum_of_large_numbers_is_finite():
    x = jnp.asarray([[1e30, -1e30, 0.0], [-jnp.inf, 3.0, 3.0], [-jnp.inf, -jnp.inf, -jnp.inf]]).T
    for entries in (list(x), list(-x)):
        value, pull = jax.vjp(lambda *entries: rounded.largest(entries, 1e-3), *entries)
        assert not jnp.isnan(value).any()
        assert jnp.isfinite(jnp.stack(pull(jnp.ones(3)))[:, 0]).all()
    value, pull = jax.vjp(lambda x: rounded.largest([x, x], 1.0), jnp.asarray([-jnp.inf, 1.0]))
    np.testing.assert_array_equal(value, [-jnp.inf, 1])
    np.testing.assert_allclose(pull(jnp.ones(2))[0], [0, 1])


# Inside of other functions.


def relu_by_hand(x):
    return jnp.maximum(x, 0)


WRAPPED = {
    "jit": lambda x: jax.jit(relu_by_hand)(x),
    "jit in jit": lambda x: jax.jit(lambda x: jax.jit(relu_by_hand)(x))(x),
    "remat": lambda x: jax.checkpoint(relu_by_hand)(x),
    "remat with a policy": lambda x: jax.checkpoint(
        lambda x: relu_by_hand(jnp.sin(x) + x - jnp.sin(x)), policy=jax.checkpoint_policies.nothing_saveable
    )(x),
    "vmap": lambda x: jax.vmap(relu_by_hand)(x),
    "scan over rows": lambda x: lax.map(relu_by_hand, x),
    "scan with a carry": lambda x: lax.scan(lambda carry, _: (relu_by_hand(carry), None), x, None, 1)[0],
    "cond": lambda x: lax.cond(x.shape[0] > 1, relu_by_hand, jnp.sin, x),
    "cond on the input": lambda x: lax.cond(x[0, 0, 0] < 1e9, relu_by_hand, lambda x: x, x),
    "switch": lambda x: lax.switch(jnp.int32(1), [jnp.sin, relu_by_hand, jnp.cos], x),
    "fori_loop": lambda x: lax.fori_loop(0, 1, lambda _, x: relu_by_hand(x), x),
    "cond in a scan": lambda x: lax.map(lambda row: lax.cond(row[0, 0] > 1e9, jnp.sin, relu_by_hand, row), x),
    "custom_jvp": lambda x: jax.nn.relu(x),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_inside(name, x64):
    x = draw(5, 4, 3)
    smoothed = smooth(WRAPPED[name], x[None], WIDTH)
    (site,) = smoothed.sites
    assert site.kind == "max"
    np.testing.assert_allclose(site.width, WIDTH * rms(x), rtol=1e-6)
    np.testing.assert_allclose(smoothed(x), ramp(x, site.width), atol=1e-12)
    slope = jax.jit(jax.grad(lambda x: smoothed(x).sum()))(x)
    np.testing.assert_allclose(slope, np.clip(x / site.width, 0, 1), atol=1e-12)


def test_inside_a_while_loop(x64):
    x = draw(5, 4, 3)

    def function(x):
        return lax.while_loop(
            lambda state: state[0] < 2, lambda state: (state[0] + 1, jax.nn.relu(state[1] - 0.5)), (0, x)
        )

    smoothed = smooth(lambda x: function(x)[1], x[None], WIDTH)
    (site,) = smoothed.sites
    first = x - 0.5
    second = np.maximum(first, 0) - 0.5
    np.testing.assert_allclose(site.width, WIDTH * rms([first, second]), rtol=1e-6)
    expected = ramp(ramp(first, site.width) - 0.5, site.width)
    np.testing.assert_allclose(smoothed(x), expected, atol=1e-12)
    np.testing.assert_allclose(jax.jvp(smoothed, (x,), (np.ones_like(x),))[0], expected, atol=1e-12)


def test_a_loop_that_is_not_entered_leaves_its_kinks_alone():
    smoothed = smooth(lambda x: lax.while_loop(lambda x: x.sum() > 1e9, jax.nn.relu, x), draw(1, 3))
    assert not smoothed.sites
    assert smoothed.left_alone[0].reason == "no finite value reached it in the calibration"
    np.testing.assert_array_equal(smoothed(jnp.arange(3.0)), [0, 1, 2])


def test_both_branches_are_measured():
    def function(x):
        return lax.cond(x.sum() > 1e9, lambda x: jax.nn.relu(7 * x), lambda x: jnp.abs(x), x)

    x = draw(2, 4)
    smoothed = smooth(function, x)
    assert sorted((site.kind, round(site.width / rms(x), 5)) for site in smoothed.sites) == [("abs", 0.1), ("max", 0.7)]
    assert "branch" in smoothed.left_alone[0].reason


def test_a_loop_has_one_width_for_all_its_turns(x64):
    x = draw(3, 4)
    smoothed = smooth(
        lambda x: lax.scan(lambda carry, row: (carry, jnp.abs(row)), 0, x)[1], x[None] * [[[1], [2], [3]]]
    )
    (site,) = smoothed.sites
    np.testing.assert_allclose(site.width, 0.1 * rms(x * [[1], [2], [3]]), rtol=1e-6)
    assert site.shape == (4,)


# Hand-written derivatives.


def counting(function, calls):
    """A function with a hand-written gradient that counts how often it is traced."""

    @jax.custom_vjp
    def by_hand(x):
        return function(x)

    def backward(x, cotangent):
        calls.append(1)
        return (jax.vjp(function, x)[1](cotangent)[0],)

    by_hand.defvjp(lambda x: (by_hand(x), x), backward)
    return by_hand


def test_a_hand_written_gradient_without_kinks_survives():
    calls = []
    inner = counting(jnp.sin, calls)
    smoothed = smooth(lambda x: jax.nn.relu(inner(x)), draw(2, 3, dtype=np.float32))
    assert not calls
    jax.grad(lambda x: smoothed(x).sum())(jnp.ones(3))
    assert calls
    assert not smoothed.replaced


def test_a_kinked_one_is_replaced_by_the_automatic_one_and_reported():
    calls, inner_calls = [], []
    inner = counting(jnp.sin, inner_calls)
    outer = counting(lambda x: jax.nn.relu(inner(x)) + jnp.cos(x), calls)
    x = draw(2, 3)
    smoothed = smooth(outer, x.astype(np.float32))
    smoothed(jnp.float32(x[0]))
    before = len(calls)
    gradient = jax.grad(lambda x: smoothed(x).sum())(jnp.float32(x[0]))
    assert len(calls) == before, "the gradient of the unrounded function"
    assert inner_calls, "what is inside and has no kinks keeps its gradient"
    width = 0.1 * rms(np.sin(x))
    expected = np.clip(np.sin(x[0]) / width, 0, 1) * np.cos(x[0]) - np.sin(x[0])
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    (replaced,) = smoothed.replaced
    assert replaced.kind.endswith("by_hand")
    assert "automatic" in replaced.reason


def test_relu_is_not_reported_as_replaced():
    assert not smooth(lambda x: jax.nn.relu6(jax.nn.relu(x)), draw(2, 3)).replaced


@pytest.mark.parametrize(
    "function",
    [
        *(jax.nn.softplus, jax.nn.log_sigmoid, jax.nn.softmax, jax.nn.log_softmax, jax.nn.logsumexp, jax.nn.gelu),
        *(jax.nn.silu, jax.nn.sparse_plus, jax.nn.mish, jnp.tanh, jnp.linalg.norm),
        lambda x: jnp.logaddexp(x, x[::-1]),
    ],
)
def test_smooth_functions_are_left_alone(function):
    x = jnp.asarray(draw(3, 8), jnp.float32)
    smoothed = smooth(function, x)
    assert not smoothed.sites
    np.testing.assert_allclose(smoothed(x[0]), function(x[0]), rtol=1e-6)
    np.testing.assert_allclose(
        jax.grad(lambda x: smoothed(x).sum())(x[0]), jax.grad(lambda x: function(x).sum())(x[0]), rtol=1e-5, atol=1e-6
    )


def test_softmax_maximum_is_reported():
    smoothed = smooth(lambda x: jax.nn.relu(jax.nn.softmax(x) - 0.1), draw(3, 8))
    assert [site.kind for site in smoothed.sites] == ["max"]
    (left,) = smoothed.left_alone
    assert (left.kind, left.reason) == ("reduce_max", "its derivative is stopped")


@jax.custom_vjp
def straight_through(x):
    return jnp.round(jnp.clip(x, -1, 1))


straight_through.defvjp(lambda x: (straight_through(x), None), lambda _, cotangent: (cotangent,))


def test_a_derivative_that_does_not_jump_is_kept():
    smoothed = smooth(lambda x: jax.nn.relu(straight_through(x)), draw(3, 8))
    np.testing.assert_array_equal(jax.grad(lambda x: smoothed(x).sum())(jnp.full(8, 5.0)), np.ones(8))
    (left,) = smoothed.left_alone
    assert left.kind == "straight_through"
    assert "max, min, round" in left.reason


# Declared twins.


def pool_twin(width, x, window, *, axis):
    entries = jnp.stack([lax.slice_in_dim(x, i, x.shape[axis] - window + 1 + i, 1, axis) for i in range(window)])
    return width * (jax.nn.logsumexp(entries / width, axis=0) - jnp.log(window))


def make_pool(twin=pool_twin, **options):
    @jax.custom_vjp
    def slow(x):
        return jnp.maximum(x[1:], x[:-1])

    def backward(x, cotangent):
        later = x[1:] > x[:-1]
        return (jnp.pad(cotangent * later, (1, 0)) + jnp.pad(cotangent * ~later, (0, 1)),)

    slow.defvjp(lambda x: (slow(x), x), backward)

    @rounded_by(twin, **options)
    def pool(x, window, *, axis):
        assert (window, axis) == (2, 0)
        return slow(x)

    return pool


def test_a_twin_takes_the_place_of_the_function(x64):
    x = draw(2, 6)
    smoothed = smooth(lambda x: make_pool(whole=True)(2 * x, 2, axis=0), x, WIDTH)
    (site,) = smoothed.sites
    assert site.kind == "pool"
    assert "test_smoothing.py" in site.source
    np.testing.assert_allclose(site.width, WIDTH * rms(2 * x), rtol=1e-6)
    expected = log_mean_exp([2 * x[0, 1:], 2 * x[0, :-1]], site.width)
    np.testing.assert_allclose(smoothed(x[0]), expected, rtol=1e-6)
    assert not smoothed.replaced


def test_a_twin_gets_a_width_for_each_kink_in_the_body(x64):
    seen = []

    def twin(widths, weights, x):
        seen.append(widths)
        return rounded.ramp(rounded.absolute(weights["a"] * x, widths[0]) - 1, widths[1])

    @rounded_by(twin)
    def block(weights, x):
        assert isinstance(weights["b"], str)
        return jax.nn.relu(jnp.abs(weights["a"] * x) - 1)

    x = draw(2, 6)
    smoothed = smooth(lambda x: block({"a": jnp.asarray(3.0), "b": "a word"}, x), x)
    assert [site.kind for site in smoothed.sites] == ["abs", "max"]
    smoothed(x[0])
    assert seen == [tuple(site.width for site in smoothed.sites)]
    # What the automatic rounding makes of the same body.
    plain = smooth(lambda x: jax.nn.relu(jnp.abs(3.0 * x) - 1), x)
    np.testing.assert_allclose(smoothed(x[0]), plain(x[0]), rtol=1e-12)


def test_a_dead_kink_in_a_twin_has_a_tiny_width():
    seen = []

    def twin(widths, x):
        seen.append(widths)
        return x

    @rounded_by(twin)
    def block(x):
        return jax.nn.relu(0 * x) + jax.nn.relu(x)

    smooth(block, draw(1, 6))(jnp.ones(6))
    assert 0 < seen[0][0] < 1e-9 < seen[0][1]


def test_without_kinks_on_the_input_a_twin_is_not_used():
    @rounded_by(lambda widths, x, y: 1 / 0)
    def block(x, y):
        return x + jax.nn.relu(y)

    smoothed = smooth(lambda x: block(x, jnp.ones(6)), draw(1, 6))
    np.testing.assert_array_equal(smoothed(jnp.ones(6)), np.full(6, 2.0))


def test_a_twin_is_not_used_for_a_transformed_function(x64):
    pool = make_pool(whole=True)
    x = draw(3, 6)
    smoothed = smooth(lambda x: jax.vmap(lambda x: pool(x, 2, axis=0))(x), x[None])
    assert [site.kind for site in smoothed.sites] == ["max of several"]
    np.testing.assert_allclose(smoothed(x), log_mean_exp([x[:, 1:], x[:, :-1]], smoothed.sites[0].width), rtol=1e-6)
    assert smoothed.replaced


def test_a_twin_of_other_shapes_is_an_error():
    pool = make_pool(lambda width, x, window, axis: x, whole=True)
    smoothed = smooth(lambda x: pool(x, 2, axis=0), draw(2, 6))
    with pytest.raises(ValueError, match=r"the rounded twin of pool must return .*5.*, got .*6"):
        smoothed(jnp.ones(6))


def test_a_declared_function_is_what_it_was():
    pool = make_pool(whole=True)
    x = jnp.asarray(draw(6), jnp.float32)
    np.testing.assert_array_equal(pool(x, 2, axis=0), np.maximum(x[1:], x[:-1]))
    later = np.asarray(x[1:] > x[:-1], np.float32)
    gradient = np.pad(later, (1, 0)) + np.pad(1 - later, (0, 1))
    np.testing.assert_array_equal(jax.grad(lambda x: pool(x, 2, axis=0).sum())(x), gradient)
    np.testing.assert_array_equal(jax.vmap(lambda x: pool(x, 2, axis=0))(x[None])[0], np.maximum(x[1:], x[:-1]))
    assert pool.__name__ == "pool"


# What is left alone.


def reasons(function, x):
    smoothed = smooth(function, x)
    return [(left.kind, left.reason) for left in smoothed.left_alone]


@pytest.mark.parametrize("primitive", ["floor", "round", "sign", "sort", "argmax", "cummax"])
def test_what_cannot_be_rounded_is_reported(primitive):
    function = {"cummax": lax.cummax, "argmax": lambda x: x * jnp.argmax(x)}.get(
        primitive, getattr(jnp, primitive, None)
    )
    assert primitive in dict(reasons(lambda x: function(x) + x, draw(2, 5)))


def test_truth_values_as_numbers_are_reported():
    assert reasons(lambda x: x * (x > 0), draw(2, 5)) == [("convert_element_type", "a truth value is used as a number")]
    assert reasons(lambda x: x * x.astype(jnp.int32), draw(2, 5)) == [
        ("convert_element_type", "whole numbers have no derivative")
    ]


def test_cases_that_do_not_meet_are_left_alone():
    ((kind, reason),) = reasons(lambda x: jnp.where(x > 0, x + 1, x), draw(2, 5))
    assert kind == "select"
    assert reason == "its cases do not meet at the bound: they differ by 1"
    ((kind, reason),) = reasons(lambda x: jnp.where((x > -1) & (x < 1), x, 2), draw(2, 5))
    assert (kind, reason) == ("select_n", "its condition is not a comparison")
    ((kind, reason),) = reasons(lambda x: jnp.where(x[1:] > x[:-1], x[1:], 0), draw(2, 5))
    assert "two values" in reason


def test_kinks_of_the_weights_are_left_alone():
    weights = jnp.asarray(draw(5), jnp.float32)
    assert reasons(lambda x: x * jax.nn.relu(weights), draw(2, 5)) == [("max", "it does not depend on the input")]


def test_dead_code_is_not_even_looked_at():
    smoothed = smooth(lambda x: (jax.nn.relu(x / 0), x)[1], draw(2, 5))
    assert not smoothed.sites
    assert not smoothed.left_alone


def test_a_bound_below_what_is_nonnegative_is_no_kink():
    x = draw(2, 5)
    for function in (lambda x: jnp.maximum(jnp.exp(x), 0), lambda x: jnp.abs(jnp.square(x)), jax.nn.standardize):
        assert not smooth(function, x).sites
    smoothed = smooth(lambda x: x / jnp.maximum(jnp.linalg.norm(x), 1e-6), x)
    assert not smoothed.sites
    assert "nonnegative by construction" in smoothed.left_alone[0].reason
    assert len(smooth(lambda x: jnp.maximum(jnp.square(x), 1), x).sites) == 1
    assert len(smooth(lambda x: jnp.maximum(jnp.square(x.mean()) - jnp.square(x), 0), x).sites) == 1


def test_an_operand_that_was_0_is_left_alone():
    smoothed = smooth(lambda x: jax.nn.relu(0 * x) + jnp.abs(x), draw(2, 5))
    assert [site.kind for site in smoothed.sites] == ["abs"]
    assert smoothed.left_alone[0].reason == "its operand was 0 throughout the calibration"
    assert jnp.isfinite(jax.grad(lambda x: smoothed(x).sum())(jnp.zeros(5))).all()


def test_infinite_bounds_are_no_kinks():
    bounds = jnp.asarray([-jnp.inf, 0, 1])
    x = draw(2, 3)
    assert not smooth(lambda x: jnp.clip(x, -jnp.inf, jnp.inf), x).sites
    smoothed = smooth(lambda x: jnp.maximum(x, bounds), x)
    width = smoothed.sites[0].width
    x = jnp.asarray([-1.0, -1, 1])
    np.testing.assert_allclose(smoothed(x), [-1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda x: smoothed(x).sum())(x), [1, 0, 0])
    assert width > 0


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
    with pytest.raises(ValueError, match=r"x must lead through the same kinks .* 1; got 0 for float32\[7\]"):
        smoothed(jnp.ones(7))


def test_random_inputs_are_images():
    seen = {}

    def function(x):
        seen["shape"] = x.shape
        return jnp.abs(x - 0.5)

    expected = jax.vmap(lambda key: jifv.fourier((8, 6, 2), decay=1.0, std=1.0).apply(
        jifv.fourier((8, 6, 2), decay=1.0, std=1.0).init(key)
    ))(jax.random.split(jax.random.key(0), 4))  # fmt: skip
    for inputs in ((8, 6, 2), jax.ShapeDtypeStruct((8, 6, 2), jnp.float32)):
        smoothed = smooth(function, inputs)
        assert seen["shape"] == (8, 6, 2)
        np.testing.assert_allclose(smoothed.sites[0].width, 0.1 * rms(expected - 0.5), rtol=1e-5)


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
