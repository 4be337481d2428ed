import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.kinks import WIDTH, draw, log_mean_exp, ramp, rms

from jifv._smoothing import rounded
from jifv.smoothing import rounded_by, smooth

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


def test_smooth_functions_are_left_alone():
    functions = [
        *(jax.nn.softplus, jax.nn.log_sigmoid, jax.nn.softmax, jax.nn.log_softmax, jax.nn.logsumexp, jax.nn.gelu),
        *(jax.nn.silu, jax.nn.sparse_plus, jax.nn.mish, jnp.tanh, jnp.linalg.norm),
        lambda x: jnp.logaddexp(x, x[::-1]),
    ]

    # One program of all of them: each has a row.
    def together(x):
        return [function(row) for function, row in zip(functions, x, strict=True)]

    x = np.repeat(draw(3, 1, 8, dtype=np.float32), len(functions), 1)
    smoothed = smooth(together, x)
    assert not smoothed.sites

    def both(x):
        return smoothed(x), together(x)

    values = zip(*jax.jit(both)(x[0]), strict=True)
    total = lambda x, which: sum(each.sum() for each in both(x)[which])  # noqa: E731
    gradients = zip(*(jax.jit(jax.grad(total), static_argnums=1)(x[0], which) for which in (0, 1)), strict=True)
    for function, (value, exact), (gradient, expected) in zip(functions, values, gradients, strict=True):
        np.testing.assert_allclose(value, exact, rtol=1e-6, err_msg=str(function))
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6, err_msg=str(function))


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
    assert "test_smoothing_functions.py" in site.source
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
