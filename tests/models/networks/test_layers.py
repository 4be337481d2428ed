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

from jifv.models.networks.layers import (
    Conv,
    Norm,
    average_pool,
    convolve,
    local_response_norm,
    max_pool,
    max_pool_ceil,
    moments,
    smooth_relu,
    strided_convolve,
)


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


MANY = 64
"""Channels from which a 3×3 convolution is computed by Winograd's algorithm on a CPU."""


@given(
    batch=st.integers(1, 2),
    height=st.integers(1, 5),
    width=st.integers(1, 10),
    channels=st.tuples(st.integers(MANY, MANY + 3), st.integers(MANY, MANY + 3)),
)
@settings(max_examples=8)
def test_winograd_is_the_convolution(batch, height, width, channels):
    """Value and gradients, whether or not four divides the width."""
    with jax.enable_x64(True):
        x, kernel = draw((batch, height, width, channels[0]), np.float64), draw((3, 3, *channels), np.float64, seed=1)
        ours, theirs = (
            jax.jit(partial(value_and_gradients, function))(x, kernel) for function in (convolve, automatic)
        )
        assert_close(ours, theirs, 1e-12)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_winograd_under_vmap_and_in_place(x64, axes):
    x = draw((2, 3, 6, MANY) if axes[0] is None else (3, 2, 3, 6, MANY), np.float64)
    kernel = draw((3, 3, MANY, MANY) if axes[1] is None else (3, 3, 3, MANY, MANY), np.float64, seed=1)
    ours, theirs = (jax.vmap(function, in_axes=axes)(x, kernel) for function in (convolve, automatic))
    assert_close(ours, theirs, 1e-12)


def test_winograd_keeps_the_accuracy_of_float32():
    x, kernel = draw((2, 32, 32, MANY)), draw((3, 3, MANY, MANY), seed=1)
    with jax.enable_x64(True):
        exact = np.asarray(automatic(np.asarray(x, np.float64), np.asarray(kernel, np.float64)))
    ours, direct = (np.sqrt(np.mean((f(x, kernel) - exact) ** 2) / np.mean(exact**2)) for f in (convolve, automatic))
    assert ours < 1.5e-6
    assert ours < 4 * direct


def test_where_winograd_is_used():
    """On CPUs, between many channels, unless the numbers have too few digits for it."""

    def windows(channels, features, dtype=np.float32, platform="cpu"):
        x, kernel = jnp.zeros((1, 4, 4, channels), dtype), jnp.zeros((3, 3, channels, features), dtype)
        text = jax.jit(convolve).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
        return re.findall(r"stablehlo.convolution.*tensor<(\dx\d)x\d+x\d+x\w+>\) ->", text)

    assert windows(MANY, MANY) == 6 * ["3x1"]
    assert windows(MANY, MANY - 1) == windows(MANY - 1, MANY) == ["3x3"]
    assert windows(MANY, MANY, jnp.bfloat16) == ["3x3"]
    assert windows(MANY, MANY, platform="cuda") == ["3x3"]


@pytest.mark.parametrize("window", [(2, 2), (3, 4), (2, 3)])
def test_even_windows_are_refused(window):
    with pytest.raises(ValueError, match="kernel must have odd sides"):
        convolve(jnp.zeros((1, 4, 4, 2)), jnp.zeros((*window, 2, 2)))


def automatic_at_stride(x, kernel, stride):
    half = kernel.shape[0] // 2
    padding = ((half, half),) * 2
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=layout)


@given(
    batch=st.integers(1, 2),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    window=st.sampled_from([1, 3, 5, 7]),
    stride=st.integers(1, 4),
)
@settings(max_examples=10)
def test_strided_gradient_is_the_automatic_one(batch, size, window, stride):
    """Where the window is larger than the image, and where windows leave entries out, too."""
    with jax.enable_x64(True):
        x, kernel = draw((batch, *size, 2), np.float64), draw((window, window, 2, 3), np.float64, seed=1)
        ours, theirs = (
            jax.jit(partial(value_and_gradients, lambda x, kernel, f=function: f(x, kernel, stride)))(x, kernel)
            for function in (strided_convolve, automatic_at_stride)
        )
        assert_close(ours, theirs, 1e-12)


def test_strided_convolution_against_torch():
    """The stem of GoogLeNet on an odd size, eagerly and under vmap."""
    torch = pytest.importorskip("torch")
    x, kernel = draw((3, 9, 12, 3)), draw((7, 7, 3, 4), seed=1)
    images, weights = (torch.tensor(np.asarray(array)) for array in (x, kernel))
    out = torch.nn.functional.conv2d(images.permute(0, 3, 1, 2), weights.permute(3, 2, 0, 1), stride=2, padding=3)
    expected = out.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(strided_convolve(x, kernel, 2), expected, atol=1e-4)
    single = jax.vmap(lambda image: strided_convolve(image[None], kernel, 2)[0])
    np.testing.assert_allclose(single(x), expected, atol=1e-4)


def test_strided_gradient_dilates_nothing():
    def dilations(function):
        def total(x):
            return jnp.sum(jnp.sin(function(x, jnp.ones((7, 7, 2, 3)), 2)))

        return re.findall(r"lhs_dilate = \[(.*?)\]", jax.jit(jax.grad(total)).lower(jnp.zeros((1, 8, 8, 2))).as_text())

    assert dilations(automatic_at_stride)[-1] == "2, 2"
    assert "2, 2" not in dilations(strided_convolve)


def test_even_windows_are_refused_at_a_stride():
    with pytest.raises(ValueError, match="kernel must have odd sides"):
        strided_convolve(jnp.zeros((1, 4, 4, 2)), jnp.zeros((2, 2, 2, 2)), 2)


@pytest.mark.parametrize(("window", "stride", "bias"), [(1, 1, False), (3, 1, True), (3, 2, False), (1, 2, True)])
def test_conv_is_the_convolution_with_its_kernel(window, stride, bias):
    """A window of 1 is a matrix product, which must not make a difference."""
    x = draw((2, 4, 3, 5))
    module = Conv(6, window=window, stride=stride, use_bias=bias)
    params = module.init(jax.random.key(0), x)["params"]
    assert jax.tree.map(jnp.shape, params) == {"kernel": (window, window, 5, 6)} | ({"bias": (6,)} if bias else {})
    expected = automatic_at_stride(x, params["kernel"], stride)
    if bias:
        np.testing.assert_array_equal(params["bias"], 0)
        params["bias"] = jnp.arange(6.0)
        expected += params["bias"]
    np.testing.assert_allclose(module.apply({"params": params}, x), expected, atol=1e-5)


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


# Local response normalization.


@given(window=st.sampled_from([1, 3, 5, 7]), channels=st.integers(1, 9), alpha=st.floats(1e-4, 3))
@settings(max_examples=10)
def test_response_norm_is_its_formula(window, channels, alpha):
    """Also where the window is wider than there are channels."""
    x = 3 * np.asarray(draw((2, 3, 2, channels)), np.float64)
    expected = np.zeros_like(x)
    for channel in range(channels):
        neighbours = x[..., max(channel - window // 2, 0) : channel + window // 2 + 1]
        expected[..., channel] = x[..., channel] / (2 + alpha / window * np.sum(neighbours**2, -1)) ** 0.75
    ours = local_response_norm(jnp.asarray(x, np.float32), window, alpha, 2.0)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha", [1e-4, 0.5])
def test_response_norm_and_its_gradient_against_torch(x64, alpha):
    torch = pytest.importorskip("torch")
    x, weight = 100 * draw((2, 3, 4, 7), np.float64), draw((2, 3, 4, 7), np.float64, seed=1)

    @jax.jit
    def ours(x):
        out, pull = jax.vjp(partial(local_response_norm, alpha=alpha), x)
        return out, pull(weight)[0]

    image = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2)).requires_grad_(True)
    out = torch.nn.LocalResponseNorm(5, alpha=alpha, beta=0.75, k=1)(image)
    out.backward(torch.tensor(np.asarray(weight).transpose(0, 3, 1, 2)))
    theirs = (tensor.detach().permute(0, 2, 3, 1).numpy() for tensor in (out, image.grad))
    for one, other in zip(ours(x), theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12 * np.abs(other).max())
    assert np.abs(np.asarray(ours(x)[0]) / x - 1).max() > 0.01  # it does something


def test_response_norm_in_place_and_under_vmap():
    x = 50 * draw((3, 2, 2, 6))
    single = jax.vmap(lambda image: local_response_norm(image[None])[0])
    np.testing.assert_allclose(single(x), jax.jit(local_response_norm)(x), rtol=1e-6)
    np.testing.assert_array_equal(local_response_norm(jnp.zeros((1, 1, 1, 4))), 0)


def test_response_norm_refuses_an_even_window():
    with pytest.raises(ValueError, match="window must be odd; got 4"):
        local_response_norm(jnp.zeros((1, 2, 2, 4)), 4)


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


CEIL_POOLS = [(3, 2, 0), (3, 1, 1), (2, 2, 0), (2, 2, 1), (3, 2, 1), (3, 3, 0), (5, 2, 2), (4, 3, 1), (1, 1, 0)]
"""Window, stride and padding: those of GoogLeNet first."""


def torch_pool(x, window, stride, padding):
    """Value and gradient in PyTorch, with weights that differ from entry to entry."""
    import torch

    image = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2)).requires_grad_(True)
    out = torch.nn.functional.max_pool2d(image, window, stride, padding, ceil_mode=True).permute(0, 2, 3, 1)
    weights = torch.arange(1.0, out.numel() + 1).reshape(out.shape)
    (out * weights).sum().backward()
    return out.detach().numpy(), image.grad.permute(0, 2, 3, 1).numpy()


@partial(jax.jit, static_argnums=(1, 2, 3))
def our_pool(x, window, stride, padding):
    out, pull = jax.vjp(lambda x: max_pool_ceil(x, window, stride, padding), x)
    return out, pull(jnp.arange(1.0, out.size + 1).reshape(out.shape))[0]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("pool", CEIL_POOLS)
def test_ceil_pool_against_torch(pool, ties):
    """Even and odd sizes; among equal entries the same one gets the gradient, all of it."""
    pytest.importorskip("torch")
    smallest = max(pool[0] - 2 * pool[2], 1)  # below, PyTorch may have no window
    for height, width in [(smallest, 6), (7, 8)]:
        x = draw((2, height, width, 2))
        x = jnp.round(x) if ties else x
        for one, other in zip(our_pool(x, *pool), torch_pool(x, *pool), strict=True):
            assert one.shape == other.shape
            np.testing.assert_array_equal(one, other)


@given(batch=st.integers(1, 2), height=st.integers(2, 9), width=st.integers(2, 9), pool=st.sampled_from(CEIL_POOLS[:3]))
@settings(max_examples=10)
def test_ceil_pool_is_the_maximum_of_its_windows(batch, height, width, pool):
    window, stride, padding = pool
    x = np.asarray(draw((batch, height, width, 2)))
    rows, columns = (-(-(side + 2 * padding - window) // stride) + 1 for side in (height, width))
    expected = np.zeros((batch, rows, columns, 2), np.float32)
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride - padding, column * stride - padding
            part = x[:, max(top, 0) : top + window, max(left, 0) : left + window]
            expected[:, row, column] = part.max((1, 2))
    np.testing.assert_array_equal(our_pool(jnp.asarray(x), *pool)[0], expected)


def test_ceil_pool_under_jit_and_vmap():
    x = draw((3, 5, 6, 2))
    out, gradient = our_pool(x, 3, 2, 0)
    np.testing.assert_array_equal(max_pool_ceil(x), out)
    single = jax.vmap(lambda image: max_pool_ceil(image[None])[0])
    np.testing.assert_array_equal(single(x), out)
    _, pull = jax.vjp(single, x)
    np.testing.assert_array_equal(pull(jnp.arange(1.0, out.size + 1).reshape(out.shape))[0], gradient)
    rows = jax.vmap(jax.vjp(max_pool_ceil, x)[1])(jnp.eye(out.size).reshape(out.size, *out.shape))[0]
    np.testing.assert_allclose(jnp.tensordot(jnp.arange(1.0, out.size + 1), rows, 1), gradient)


@pytest.mark.parametrize("pool", CEIL_POOLS[:4])
def test_ceil_pool_loses_no_gradient(pool):
    """Whatever is equal: a ReLU before the pool leaves many zeros."""
    x = jnp.maximum(draw((2, 7, 8, 3)), 0)
    out, gradient = our_pool(x, *pool)
    assert jnp.sum(gradient) == out.size * (out.size + 1) // 2


def test_ceil_pool_passes_on_what_is_not_a_number():
    x = draw((1, 4, 4, 1)).at[0, 1, 1, 0].set(jnp.nan)
    assert np.isnan(max_pool_ceil(x)).sum() == 1


@pytest.mark.parametrize(
    ("pool", "size", "message"),
    [
        ((3, 4, 0), 8, "stride must be between 1 and the window, 3; got 4"),
        ((3, 0, 0), 8, "stride must be between 1 and the window, 3; got 0"),
        ((3, 2, 2), 8, "padding must be between 0 and half of the window, 3; got 2"),
        ((3, 2, -1), 8, "padding must be between 0 and half of the window, 3; got -1"),
        ((3, 2, 0), 1, r"x must have sides of at least 2 for this window and stride; got \(1, 8\)"),
    ],
)
def test_ceil_pool_refuses(pool, size, message):
    with pytest.raises(ValueError, match=message):
        max_pool_ceil(jnp.zeros((1, size, 8, 1)), *pool)


# Rounded kinks.


@pytest.mark.parametrize("width", [0.1, 2.0])
def test_smooth_relu_by_pieces(width):
    x = np.linspace(-3, 5, 81)
    expected = np.where(x <= 0, 0, np.where(x <= width, x**2 / (2 * width), x - width / 2))
    np.testing.assert_allclose(smooth_relu(jnp.asarray(x), width), expected, atol=1e-6)
    slope = jax.vmap(jax.grad(lambda x: smooth_relu(x, width)))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(slope, np.clip(x / width, 0, 1), atol=1e-6)


@pytest.mark.parametrize(("window", "stride", "padding"), [(3, 2, 0), (3, 1, 1), (2, 2, 0)])
@pytest.mark.parametrize("smoothing", [0.05, 3.0])
def test_smooth_ceil_pool_is_the_reference(window, stride, padding, smoothing):
    x = np.random.default_rng(1).normal(size=(2, 7, 8, 3))
    sharp = max_pool_ceil(jnp.asarray(x, jnp.float32), window, stride, padding)
    found = max_pool_ceil(jnp.asarray(x, jnp.float32), window, stride, padding, smoothing)
    expected = np.zeros(sharp.shape)
    for row, column in np.ndindex(sharp.shape[1:3]):
        top, left = row * stride - padding, column * stride - padding
        part = x[:, max(top, 0) : top + window, max(left, 0) : left + window]
        expected[:, row, column] = smoothing * np.log(np.exp(part / smoothing).mean((1, 2)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found < sharp + 1e-6).all()


def test_smooth_ceil_pool_of_large_numbers_is_finite():
    x = 1e4 * jnp.asarray(np.random.default_rng(2).normal(size=(1, 6, 6, 2)), jnp.float32)
    value, pull = jax.vjp(lambda x: max_pool_ceil(x, smoothing=1e-3), x)
    np.testing.assert_allclose(value, max_pool_ceil(x), rtol=1e-5)
    assert np.isfinite(pull(jnp.ones_like(value))[0]).all()
