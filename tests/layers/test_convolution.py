import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from scipy.signal import correlate
from support.arrays import assert_close, normal

from jifv._layers.convolution import convolve, strided_convolve
from jifv.models.networks.layers import Conv

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


@pytest.mark.parametrize("window", [1, 3, 5])
def test_convolution_against_scipy(window):
    x, kernel = normal((2, 6, 5, 3)), normal((window, window, 3, 4), seed=1)
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
@settings(max_examples=5)
def test_gradient_is_the_automatic_one(batch, size, window, channels, dtype):
    """Also where the window is larger than the image."""
    with jax.enable_x64(True):
        x, kernel = normal((batch, *size, channels[0]), dtype), normal((*window, *channels), dtype, seed=1)
        ours, theirs = (
            jax.jit(partial(value_and_gradients, function))(x, kernel) for function in (convolve, automatic)
        )
        assert_close(ours, theirs, 1e-4 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_gradient_under_vmap(x64, axes):
    lanes = 3
    x = normal((2, 4, 5, 2) if axes[0] is None else (lanes, 2, 4, 5, 2), np.float64)
    kernel = normal((3, 3, 2, 3) if axes[1] is None else (lanes, 3, 3, 2, 3), np.float64, seed=1)
    ours, theirs = (
        jax.jit(jax.vmap(partial(value_and_gradients, function), in_axes=axes))(x, kernel)
        for function in (convolve, automatic)
    )
    assert ours[0].shape == (lanes, 2, 4, 5, 3)
    assert_close(ours, theirs, 1e-12)


@pytest.mark.parametrize(
    "window", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(5, marks=pytest.mark.slow)]
)
def test_gradient_in_a_loop(x64, window):
    """The kernel is carried by the loop, as in training, and the gradient is taken through and inside of it."""

    def run(function, x, kernel):
        def body(carried, _):
            x, kernel = carried
            value, (x_gradient, kernel_gradient) = value_and_gradients(function, x, kernel)
            return (jnp.tanh(value + 0.1 * x_gradient), kernel - 0.01 * kernel_gradient), jnp.sum(value)

        return lax.scan(body, (x, kernel), length=3)

    x, kernel = normal((1, 4, 4, 2), np.float64), normal((window, window, 2, 2), np.float64, seed=1)

    def inside_and_through(function, x, kernel):
        def total(x, kernel):
            result = run(function, x, kernel)
            return jnp.sum(result[1]), result

        (_, inside), through = jax.value_and_grad(total, (0, 1), has_aux=True)(x, kernel)
        return inside, through

    ours, theirs = (jax.jit(partial(inside_and_through, function))(x, kernel) for function in (convolve, automatic))
    assert_close(ours[0], theirs[0], 1e-12)
    assert_close(ours[1], theirs[1], 1e-11)


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


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(1, 1, (MANY, MANY)), (5, 4, (MANY, MANY + 3)), (2, 10, (MANY + 1, MANY))]
)
def test_winograd_is_the_convolution(x64, height, width, channels):
    """Value and gradients, whether or not four divides the width."""
    x, kernel = normal((2, height, width, channels[0]), np.float64), normal((3, 3, *channels), np.float64, seed=1)
    ours, theirs = (jax.jit(partial(value_and_gradients, function))(x, kernel) for function in (convolve, automatic))
    assert_close(ours, theirs, 1e-12)


@pytest.mark.parametrize("width", range(1, 11))
def test_winograd_at_every_width(x64, width):
    x, kernel = normal((1, 2, width, MANY), np.float64), normal((3, 3, MANY, MANY), np.float64, seed=1)
    assert_close(*(function(x, kernel) for function in (convolve, automatic)), 1e-12)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_winograd_under_vmap_and_in_place(x64, axes):
    x = normal((2, 3, 6, MANY) if axes[0] is None else (3, 2, 3, 6, MANY), np.float64)
    kernel = normal((3, 3, MANY, MANY) if axes[1] is None else (3, 3, 3, MANY, MANY), np.float64, seed=1)
    ours, theirs = (jax.jit(jax.vmap(function, in_axes=axes))(x, kernel) for function in (convolve, automatic))
    assert_close(ours, theirs, 1e-12)
    if axes == (0, None):
        assert_close(*(function(x[0], kernel) for function in (convolve, automatic)), 1e-12)


def test_winograd_keeps_the_accuracy_of_float32():
    x, kernel = normal((2, 32, 32, MANY)), normal((3, 3, MANY, MANY), seed=1)
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
@settings(max_examples=6)
def test_strided_gradient_is_the_automatic_one(batch, size, window, stride):
    """Where the window is larger than the image, and where windows leave entries out, too."""
    with jax.enable_x64(True):
        x, kernel = normal((batch, *size, 2), np.float64), normal((window, window, 2, 3), np.float64, seed=1)
        ours, theirs = (
            jax.jit(partial(value_and_gradients, lambda x, kernel, f=function: f(x, kernel, stride)))(x, kernel)
            for function in (strided_convolve, automatic_at_stride)
        )
        assert_close(ours, theirs, 1e-12)


def test_strided_convolution_against_torch():
    """The stem of GoogLeNet on an odd size, eagerly and under vmap."""
    torch = pytest.importorskip("torch")
    x, kernel = normal((3, 9, 12, 3)), normal((7, 7, 3, 4), seed=1)
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
    x = normal((2, 4, 3, 5))
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
