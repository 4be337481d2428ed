import re
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from scipy.signal import correlate

from jifv.models.layers import Conv, Norm, average_pool, convolve, max_pool, moments


def draw(shape, dtype=np.float32, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


# Convolution.

automatic = partial(
    lax.conv_general_dilated,
    window_strides=(1, 1),
    padding="SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
)


def value_and_gradients(function, x, kernel):
    """The value, and the gradients of a function of it that weighs every entry differently."""

    def scalar(x, kernel):
        out = function(x, kernel)
        return jnp.sum(jnp.sin(out + jnp.arange(out.size, dtype=out.dtype).reshape(out.shape))), out

    (_, out), gradients = jax.value_and_grad(scalar, (0, 1), has_aux=True)(x, kernel)
    return out, gradients


def assert_close(ours, theirs, tolerance):
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        scale = np.abs(other).max() + 1e-30
        np.testing.assert_allclose(one / scale, other / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("window", [1, 3, 5])
def test_convolution_against_scipy(window):
    x, kernel = draw((2, 6, 5, 3)), draw((window, window, 3, 4), seed=1)
    expected = np.zeros((2, 6, 5, 4))
    for image in range(2):
        for output in range(4):
            for channel in range(3):
                expected[image, :, :, output] += correlate(
                    np.float64(x[image, :, :, channel]), np.float64(kernel[:, :, channel, output]), "same"
                )
    np.testing.assert_allclose(convolve(x, kernel), expected, atol=1e-4)


@given(
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    window=st.sampled_from([(1, 1), (3, 3), (5, 5), (7, 7), (1, 3), (5, 3)]),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dtype=st.sampled_from([np.float32, np.float64]),
)
@settings(max_examples=8)
def test_gradient_is_the_automatic_one(batch, size, window, channels, dtype):
    """Also where the window is larger than the image."""
    with jax.enable_x64(True):
        x, kernel = draw((batch, *size, channels[0]), dtype), draw((*window, *channels), dtype, seed=1)
        ours, theirs = (
            jax.jit(partial(value_and_gradients, function))(x, kernel) for function in (convolve, automatic)
        )
        assert_close(ours, theirs, 1e-4 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_gradient_under_vmap(x64, axes):
    lanes = 3
    x = draw((2, 4, 5, 2) if axes[0] is None else (lanes, 2, 4, 5, 2), np.float64)
    kernel = draw((3, 3, 2, 3) if axes[1] is None else (lanes, 3, 3, 2, 3), np.float64, seed=1)
    ours, theirs = (
        jax.jit(jax.vmap(partial(value_and_gradients, function), in_axes=axes))(x, kernel)
        for function in (convolve, automatic)
    )
    assert ours[0].shape == (lanes, 2, 4, 5, 3)
    assert_close(ours, theirs, 1e-12)


@pytest.mark.parametrize("window", [1, 3, 5])
def test_gradient_in_a_loop(x64, window):
    """The kernel is carried by the loop, as in training, and the gradient is taken through and inside of it."""

    def run(function, x, kernel):
        def body(carried, _):
            x, kernel = carried
            value, (x_gradient, kernel_gradient) = value_and_gradients(function, x, kernel)
            return (jnp.tanh(value + 0.1 * x_gradient), kernel - 0.01 * kernel_gradient), jnp.sum(value)

        return lax.scan(body, (x, kernel), length=3)

    x, kernel = draw((1, 4, 4, 2), np.float64), draw((window, window, 2, 2), np.float64, seed=1)
    inside = [jax.jit(partial(run, function))(x, kernel) for function in (convolve, automatic)]
    assert_close(*inside, 1e-12)
    through = [
        jax.jit(jax.grad(lambda x, kernel, f=function: jnp.sum(run(f, x, kernel)[1]), (0, 1)))(x, kernel)
        for function in (convolve, automatic)
    ]
    assert_close(*through, 1e-11)


def test_gradient_is_a_plain_convolution():
    """What the custom gradient is for: a kernel in the layout HWOI is what XLA's CPU backend is slow with in a loop."""

    def layouts(function):
        def total(x, kernel):
            return jnp.sum(jnp.sin(function(x, kernel)))

        text = jax.jit(jax.grad(total)).lower(jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 2, 3))).as_text()
        return re.findall(r"convolution\(.*?x\[(.*?)\]", text)

    assert layouts(automatic) == ["0, 1, i, o", "0, 1, o, i"]
    assert layouts(convolve) == ["0, 1, i, o", "0, 1, i, o"]


@pytest.mark.parametrize("window", [(2, 2), (3, 4), (2, 3)])
def test_even_windows_are_refused(window):
    with pytest.raises(ValueError, match="kernel must have odd sides"):
        convolve(jnp.zeros((1, 4, 4, 2)), jnp.zeros((*window, 2, 2)))


@pytest.mark.parametrize("window", [1, 3])
def test_conv_is_the_convolution_with_its_kernel(window):
    """A window of 1 is a matrix product, which must not make a difference."""
    x = draw((2, 4, 3, 5))
    module = Conv(6, window=window)
    variables = module.init(jax.random.key(0), x)
    kernel = variables["params"]["kernel"]
    assert jax.tree.map(jnp.shape, variables) == {"params": {"kernel": (window, window, 5, 6)}}
    np.testing.assert_allclose(module.apply(variables, x), automatic(x, kernel), atol=1e-5)


def test_initialization_keeps_the_variance_through_relu():
    kernel = Conv(400, window=3).init(jax.random.key(0), jnp.zeros((1, 3, 3, 50)))["params"]["kernel"]
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (9 * 50)), rel=0.01)  # 180,000 draws
    assert np.mean(kernel) == pytest.approx(0, abs=1e-3)


# Normalization.


@pytest.fixture
def normalization():
    """Input, our variables and the same for flax.linen.BatchNorm; float64."""
    x = 2 * draw((3, 4, 5, 6), np.float64) + 1
    params = {"scale": draw(6, np.float64, 1), "bias": draw(6, np.float64, 2)}
    statistics = {"mean": draw(6, np.float64, 3), "var": jnp.abs(draw(6, np.float64, 4)) + 0.5}
    return x, {"params": params, "batch_stats": statistics}


def test_norm_in_training_against_flax(x64, normalization):
    x, variables = normalization
    reference = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5)
    ours, updated = Norm().apply(variables, x, moments(x), mutable=["batch_stats"])
    theirs, expected = reference.apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], expected["batch_stats"]["mean"], atol=1e-12)
    # Flax's running variance is biased; PyTorch's, and ours, is not.
    old = variables["batch_stats"]["var"]
    unbiased = 0.9 * old + (expected["batch_stats"]["var"] - 0.9 * old) * (60 / 59)
    np.testing.assert_allclose(updated["batch_stats"]["var"], unbiased, atol=1e-12)
    np.testing.assert_allclose(
        updated["batch_stats"]["var"], 0.9 * old + 0.1 * np.var(x, (0, 1, 2), ddof=1), atol=1e-12
    )


def test_gradient_of_norm_in_training_against_flax(x64, normalization):
    x, variables = normalization
    reference = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5)
    weight = draw(x.shape, np.float64, seed=5)

    def ours(params, x):
        out, _ = Norm().apply({**variables, "params": params}, x, moments(x), mutable=["batch_stats"])
        return jnp.sum(weight * jnp.sin(out))

    def theirs(params, x):
        out, _ = reference.apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return jnp.sum(weight * jnp.sin(out))

    assert_close(*(jax.grad(f, (0, 1))(variables["params"], x) for f in (ours, theirs)), 1e-12)


def test_norm_in_evaluation(x64, normalization):
    x, variables = normalization
    known = jax.tree.map(np.asarray, variables["params"] | variables["batch_stats"])
    expected = (np.asarray(x) - known["mean"]) / np.sqrt(known["var"] + 1e-5) * known["scale"] + known["bias"]
    ours, updated = Norm().apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(ours, expected, atol=1e-12)
    jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], variables["batch_stats"])


def test_initializing_in_training_mode_counts_no_batch():
    x = draw((2, 3, 3, 4)) + 5
    statistics = Norm().init(jax.random.key(0), x, moments(x))["batch_stats"]
    np.testing.assert_array_equal(statistics["mean"], 0)
    np.testing.assert_array_equal(statistics["var"], 1)


def test_moments(x64):
    x = 3 * draw((2, 3, 4, 5), np.float64) + 1
    mean, variance = moments(x)
    np.testing.assert_allclose(mean, np.mean(x, (0, 1, 2)), atol=1e-12)
    np.testing.assert_allclose(variance, np.var(x, (0, 1, 2)), atol=1e-12)


def test_channels_that_hardly_vary_stay_finite():
    """E[x²] − E[x]² of a large constant is rounding error of either sign: hundreds where x is 1e5, in float32."""
    x = jnp.broadcast_to(jnp.asarray(np.geomspace(1e2, 1e5, 64), jnp.float32), (4, 7, 7, 64))
    assert np.any(np.mean(np.square(x), (0, 1, 2)) < np.square(np.mean(x, (0, 1, 2))))  # it does happen
    mean, variance = jax.jit(moments)(x)
    assert np.all(np.asarray(variance) >= 0)
    np.testing.assert_allclose(mean, x[0, 0, 0], rtol=1e-5)

    @jax.jit
    def total(x):
        variables = Norm().init(jax.random.key(0), x)
        return jnp.sum(Norm().apply(variables, x, moments(x), mutable=["batch_stats"])[0])

    assert np.isfinite(total(x))
    assert np.all(np.isfinite(jax.grad(total)(x)))


# Pooling.


@given(batch=st.integers(1, 3), height=st.integers(2, 9), width=st.integers(2, 9), channels=st.integers(1, 3))
@settings(max_examples=5)
def test_pooling_drops_an_odd_row_or_column(batch, height, width, channels):
    x = draw((batch, height, width, channels))
    rows, columns = height // 2, width // 2
    largest, mean = np.zeros((2, batch, rows, columns, channels), np.float32)
    for row in range(rows):
        for column in range(columns):
            window = np.asarray(x)[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            largest[:, row, column], mean[:, row, column] = window.max((1, 2)), window.mean((1, 2))
    np.testing.assert_array_equal(max_pool(x), largest)
    np.testing.assert_allclose(average_pool(x), mean, atol=1e-6)


@pytest.mark.parametrize("pool", [max_pool, average_pool])
def test_gradient_of_pooling(pool):
    """A maximum hands its gradient to one entry, a mean a quarter to each of four."""
    x = jnp.asarray(np.random.default_rng(0).permutation(36), jnp.float32).reshape(1, 6, 6, 1)
    gradient = np.asarray(jax.grad(lambda x: jnp.sum(pool(x)))(x))
    np.testing.assert_array_equal(np.unique(gradient), [0, 1] if pool is max_pool else [0.25])
    assert gradient.sum() == 9
