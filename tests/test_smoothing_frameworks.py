"""Networks of any framework are rounded as functions, and ours by their twins."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jifv
from jifv import aggregate
from jifv._layers import windows
from jifv.models.networks import densenet
from jifv.smoothing import smooth

SIZE, FEATURES, WIDTH = 8, 5, 0.3


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape)


# A convolution, a ReLU and a max pool of each framework, against NumPy in float64.


def flax_linen():
    nn = pytest.importorskip("flax.linen")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.max_pool(nn.relu(nn.Conv(FEATURES, (3, 3), padding="VALID")(x)), (3, 3), (2, 2), padding="SAME")

    net = Net()
    variables = net.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))
    conv = variables["params"]["Conv_0"]
    return lambda x: net.apply(variables, x[None])[0], conv["kernel"], conv["bias"]


def flax_nnx():
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, FEATURES, (3, 3), padding="VALID", rngs=rngs)

        def __call__(self, x):
            return nnx.max_pool(nnx.relu(self.conv(x)), (3, 3), (2, 2), padding="SAME")

    net = Net(nnx.Rngs(0))
    return lambda x: net(x[None])[0], net.conv.kernel[...], net.conv.bias[...]


def equinox():
    eqx = pytest.importorskip("equinox")
    net = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(3, FEATURES, 3, key=jax.random.key(0)),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.MaxPool2d(3, 2, padding=((0, 1), (0, 1))),
        ]
    )
    conv = net[0]
    kernel, bias = conv.weight.transpose(2, 3, 1, 0), conv.bias.ravel()
    return lambda x: jnp.moveaxis(net(jnp.moveaxis(x, -1, 0)), 0, -1), kernel, bias


def haiku():
    hk = pytest.importorskip("haiku", reason="dm-haiku is not installed")

    def forward(x):
        x = jax.nn.relu(hk.Conv2D(FEATURES, 3, padding="VALID", name="conv")(x))
        return hk.MaxPool((3, 3, 1), (2, 2, 1), "SAME")(x)

    net = hk.without_apply_rng(hk.transform(forward))
    params = net.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))
    return lambda x: net.apply(params, x[None])[0], params["conv"]["w"], params["conv"]["b"]


def plain_function():
    kernel, bias = jnp.asarray(draw(3, 3, 3, FEATURES) / 4, jnp.float32), jnp.zeros(FEATURES)

    def network(x):
        x = lax.conv_general_dilated(x[None], kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]
        return lax.reduce_window(jax.nn.relu(x + bias), -jnp.inf, lax.max, (3, 3, 1), (2, 2, 1), "SAME")

    return network, kernel, bias


def reference(x, kernel, bias, widths):
    """The network with these widths; and what its kinks see without any."""
    view = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (0, 1))
    before = np.einsum("hwcij,ijcd->hwd", view, np.asarray(kernel, np.float64)) + np.asarray(bias, np.float64)
    w = widths[0]
    rounded = np.where(before <= 0, 0, np.where(before >= w, before - w / 2, before**2 / (2 * w)))
    # "SAME" puts the odd line of the margin behind.
    padded = np.pad(rounded, ((0, 1), (0, 1), (0, 0)), constant_values=-np.inf)
    entries = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (0, 1))[::2, ::2].reshape(3, 3, FEATURES, 9)
    top, w = entries.max(-1), widths[1]
    sums = np.exp((entries - top[..., None]) / w).sum(-1) / np.isfinite(entries).sum(-1)
    return top + w * np.log(sums), before, np.maximum(before, 0)


@pytest.mark.parametrize("build", [flax_linen, flax_nnx, equinox, haiku, plain_function], ids=lambda f: f.__name__)
def test_network_of_any_framework(build):
    network, kernel, bias = build()
    x = draw(4, SIZE, SIZE, 3)
    smoothed = smooth(network, np.float32(x), WIDTH)
    assert [site.kind for site in smoothed.sites] == ["max", "reduce_window_max"]
    assert smoothed.sites[0].shape[-3:] in ((6, 6, FEATURES), (FEATURES, 6, 6))
    seen = [reference(sample, kernel, bias, (1, 1))[1:] for sample in x]
    widths = [site.width for site in smoothed.sites]
    expected = [WIDTH * np.sqrt(np.mean(np.square(each))) for each in zip(*seen, strict=True)]
    np.testing.assert_allclose(widths, expected, rtol=1e-5)
    value = reference(x[0], kernel, bias, widths)[0]
    np.testing.assert_allclose(smoothed(jnp.float32(x[0])), value, rtol=1e-4, atol=1e-5)

    direction, step = draw(SIZE, SIZE, 3, seed=1), 1e-5
    up, down = (reference(x[0] + sign * step * direction, kernel, bias, widths)[0] for sign in (1, -1))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(smoothed(x))))(jnp.float32(x[0]))
    np.testing.assert_allclose(np.vdot(gradient, direction), np.sum(up - down) / (2 * step), rtol=1e-3)


def test_normalizations_keep_their_variance():
    nn = pytest.importorskip("flax.linen")
    eqx = pytest.importorskip("equinox")
    x = draw(2, 6, 6, 4)

    def apply(module, x):
        return module.apply(module.init(jax.random.key(0), x), x)

    for module in (nn.LayerNorm(), nn.GroupNorm(2), nn.RMSNorm(), nn.LayerNorm(use_fast_variance=False)):
        smoothed = smooth(lambda x, module=module: apply(module, x), x)
        assert not smoothed.sites, smoothed.table()
    norm = eqx.nn.LayerNorm((6, 6, 4))
    assert not smooth(norm, x).sites
    assert not smooth(eqx.nn.GroupNorm(2, 6), x).sites


# Our own networks.


@cache
def small_densenet(pool="max"):
    net = densenet.DenseNet(pool=pool, blocks=(2, 1), growth=4)
    variables = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    noise = lambda leaf: leaf + 0.3 * jnp.asarray(draw(*leaf.shape, seed=leaf.size), leaf.dtype)  # noqa: E731
    variables = {"params": jax.tree.map(noise, variables["params"]), "batch_stats": variables["batch_stats"]}

    def apply(x):
        return net.apply(jax.tree.map(lambda leaf: leaf.astype(x.dtype), variables), x[None], layer="transition1")[0]

    return apply


def test_dense_block_twin_is_what_the_automatic_rounding_makes(x64, monkeypatch):
    apply, x = small_densenet(), np.random.default_rng(0).uniform(0, 1, (3, 8, 8, 3))
    by_twin = smooth(apply, x)
    # The block without its declaration and without its hand-written gradient.
    monkeypatch.setattr(densenet, "dense_block", lambda x, layers: densenet._grow(x, layers)[0])
    automatic = smooth(lambda x: apply(x), x)
    assert not by_twin.replaced
    assert [(site.kind, site.shape) for site in by_twin.sites] == [(site.kind, site.shape) for site in automatic.sites]
    np.testing.assert_allclose(
        [site.width for site in by_twin.sites], [site.width for site in automatic.sites], rtol=1e-6
    )
    assert len(by_twin.sites) == 2 * 2 + 2  # of each layer two, of the transition ReLU and pool
    for site in by_twin.sites:
        assert "densenet.py" in site.source or "layers.py" in site.source
    weights = draw(*by_twin(x[0]).shape, seed=2)
    (one, ours), (two, theirs) = (
        jax.jit(jax.value_and_grad(lambda x, f=f: jnp.sum(weights * f(x))))(x[0]) for f in (by_twin, automatic)
    )
    np.testing.assert_allclose(one, two, rtol=1e-6)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-9)
    step, direction = 1e-6, draw(8, 8, 3, seed=3)
    up, down = (jnp.sum(weights * by_twin(x[0] + sign * step * direction)) for sign in (1, -1))
    np.testing.assert_allclose(np.vdot(ours, direction), (up - down) / (2 * step), rtol=1e-5)


def test_hand_written_convolutions_survive():
    smoothed = smooth(small_densenet("average"), np.random.default_rng(0).uniform(0, 1, (1, 8, 8, 3)))
    program = str(jax.make_jaxpr(smoothed)(jnp.zeros((8, 8, 3))))
    assert program.count("bwd=_convolve_backward") >= 3
    assert "bwd=_rounded_backward" in program
    assert "bwd=_dense_backward" not in program


@pytest.mark.parametrize(("size", "padding"), [(7, 0), (8, 0), (7, 1)])
def test_pools_with_twins(size, padding, x64):
    x = draw(2, size, size, 3)
    smoothed = smooth(lambda x: windows.max_pool_ceil(x[None], padding=padding), x)
    (site,) = smoothed.sites
    np.testing.assert_allclose(site.width, 0.1 * np.sqrt(np.mean(np.square(x))), rtol=1e-6)
    twin = jax.jit(lambda x: windows._smooth_max_pool(site.width, x, (3, 3), (2, 2), (padding,) * 2, True))
    np.testing.assert_allclose(smoothed(x[0]), twin(x[:1]), rtol=1e-12)


def test_max_mean_is_the_mean_of_its_twin(x64):
    x = draw(2, 7, 6, 3)
    smoothed = smooth(jifv.max_mean(), x)
    (site,) = smoothed.sites
    np.testing.assert_allclose(site.width, 0.1 * np.sqrt(np.mean(np.square(x))), rtol=1e-6)
    np.testing.assert_allclose(
        smoothed(x[0]), aggregate._smooth_pool(site.width, jnp.asarray(x[0]), 3, 2).mean((0, 1)), rtol=1e-12
    )
