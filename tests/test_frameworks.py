"""A network of any framework goes through `compose` as the function it is, and gives what NumPy gives.

Every framework builds the same net, in its own layout and with its own way to say "inference": convolution, batch
normalization with running statistics (Equinox: dropout), ReLU, convolution. Each returns the function x -> a and its
weights in one layout, and a reference in NumPy, float64, says what response, Jacobian and inversion must be.
"""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jifv
from jifv.jacobian import linearize_batch
from jifv.response import feature_count

ROOT = Path(__file__).parent.parent
PAGES = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/networks.md"))
EXAMPLES = re.findall(r"^```python (torch|linen|nnx|equinox|haiku)\n(.*?)^```", PAGES, re.MULTILINE | re.DOTALL)
SIZE, HIDDEN, FEATURES = 9, 5, 4
STATISTICS = {"mean": np.linspace(-0.3, 0.4, HIDDEN), "var": np.linspace(0.5, 2, HIDDEN)}
EPSILON = 1e-3


def normalization(scale, shift, mean, var):
    """Batch normalization with running statistics as factor and summand, in float64."""
    scale, shift, mean, var = (np.asarray(part, np.float64).ravel() for part in (scale, shift, mean, var))
    factor = scale / np.sqrt(var + EPSILON)
    return {"factor": factor, "summand": shift - factor * mean}


def flax_linen():
    nn = pytest.importorskip("flax.linen")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.Conv(HIDDEN, (3, 3), padding="VALID")(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, epsilon=EPSILON)(x))
            return nn.Conv(FEATURES, (2, 2), padding="VALID")(x)

    net = Net()
    variables = net.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), train=False)
    variables["batch_stats"]["BatchNorm_0"] = {name: jnp.float32(value) for name, value in STATISTICS.items()}
    params, norm = variables["params"], variables["params"]["BatchNorm_0"]
    weights = {
        "first": (params["Conv_0"]["kernel"], params["Conv_0"]["bias"]),
        "second": (params["Conv_1"]["kernel"], params["Conv_1"]["bias"]),
        **normalization(norm["scale"], norm["bias"], **STATISTICS),
    }
    return lambda x: net.apply(variables, x[None], train=False)[0], weights


def flax_nnx():
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Conv(3, HIDDEN, (3, 3), padding="VALID", rngs=rngs)
            self.norm = nnx.BatchNorm(HIDDEN, epsilon=EPSILON, rngs=rngs)
            self.second = nnx.Conv(HIDDEN, FEATURES, (2, 2), padding="VALID", rngs=rngs)

        def __call__(self, x):
            return self.second(nnx.relu(self.norm(self.first(x))))

    net = Net(nnx.Rngs(0))
    net.norm.mean[...] = jnp.float32(STATISTICS["mean"])
    net.norm.var[...] = jnp.float32(STATISTICS["var"])
    net.eval()
    weights = {
        "first": (net.first.kernel[...], net.first.bias[...]),
        "second": (net.second.kernel[...], net.second.bias[...]),
        **normalization(net.norm.scale[...], net.norm.bias[...], **STATISTICS),
    }
    return lambda x: net(x[None])[0], weights


def equinox():
    eqx = pytest.importorskip("equinox")
    keys = jax.random.split(jax.random.key(0), 2)
    layers = [
        eqx.nn.Conv2d(3, HIDDEN, 3, key=keys[0]),
        eqx.nn.Dropout(0.5),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.Conv2d(HIDDEN, FEATURES, 2, key=keys[1]),
    ]
    net = eqx.nn.inference_mode(eqx.nn.Sequential(layers))
    first, second = ((net[index].weight.transpose(2, 3, 1, 0), net[index].bias.ravel()) for index in (0, 3))
    weights = {"first": first, "second": second, "factor": np.ones(HIDDEN), "summand": np.zeros(HIDDEN)}
    return lambda x: jnp.moveaxis(net(jnp.moveaxis(x, -1, 0)), 0, -1), weights


def haiku():
    hk = pytest.importorskip("haiku", reason="dm-haiku is not installed")

    def forward(x, is_training):
        x = hk.Conv2D(HIDDEN, 3, padding="VALID", name="first")(x)
        x = hk.BatchNorm(True, True, decay_rate=0.9, eps=EPSILON, name="norm")(x, is_training)
        return hk.Conv2D(FEATURES, 2, padding="VALID", name="second")(jax.nn.relu(x))

    net = hk.without_apply_rng(hk.transform_with_state(forward))
    params, state = net.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), is_training=True)
    for name, values in (("norm/~/mean_ema", STATISTICS["mean"]), ("norm/~/var_ema", STATISTICS["var"])):
        state[name]["average"] = jnp.float32(values).reshape(1, 1, 1, HIDDEN)
    weights = {
        "first": (params["first"]["w"], params["first"]["b"]),
        "second": (params["second"]["w"], params["second"]["b"]),
        **normalization(params["norm"]["scale"], params["norm"]["offset"], **STATISTICS),
    }
    return lambda x: net.apply(params, state, x[None], is_training=False)[0][0], weights


def plain_function():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(3, 3, 3, HIDDEN)).astype(np.float32) / 4, np.zeros(HIDDEN, np.float32)
    second = rng.normal(size=(2, 2, HIDDEN, FEATURES)).astype(np.float32) / 4, np.zeros(FEATURES, np.float32)
    layout = ("NHWC", "HWIO", "NHWC")

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=layout)

    def network(x):
        return convolve(jax.nn.relu(convolve(x[None], first[0])), second[0])[0]

    weights = {"first": first, "second": second, "factor": np.ones(HIDDEN), "summand": np.zeros(HIDDEN)}
    return network, weights


FRAMEWORKS = [flax_linen, flax_nnx, equinox, haiku, plain_function]


def convolution(x, kernel, bias):
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(0, 1))
    return np.einsum("hwcij,ijcd->hwd", windows, np.asarray(kernel, np.float64)) + np.asarray(bias, np.float64)


def reference(weights, p):
    """The response of the whole composition, A∘N∘φ, by NumPy in float64."""
    x = convolution(1 / (1 + np.exp(-p)), *weights["first"])
    x = convolution(np.maximum(x * weights["factor"] + weights["summand"], 0), *weights["second"])
    pooled = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(0, 1))[::2, ::2].max(axis=(-1, -2))
    return pooled.mean(axis=(0, 1))


def reference_jacobian(weights, p, step=1e-6):
    """Central differences of the reference."""
    columns = []
    for index in np.ndindex(p.shape):
        up, down = p.copy(), p.copy()
        up[index] += step
        down[index] -= step
        columns.append((reference(weights, up) - reference(weights, down)) / (2 * step))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("build", FRAMEWORKS, ids=lambda build: build.__name__)
def test_network_is_visualized_and_inverted(build):
    network, weights = build()
    phi = jifv.pixels((SIZE, SIZE, 3), std=0.5)
    f = jifv.compose(phi.apply, network, jifv.max_mean())
    start = jnp.asarray(np.random.default_rng(1).normal(0, 0.5, (2, SIZE, SIZE, 3)), jnp.float32)
    targets = np.array([[1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]], np.float32)
    steps = jifv.Settings(adam_steps=8, lbfgs_steps=0)
    realizations = jifv.visualize(f, start, targets, settings=steps)

    initial = np.stack([reference(weights, np.float64(p)) for p in start])
    cosines = np.sum(initial * targets, axis=1) / np.linalg.norm(initial, axis=1)
    before = np.sum(initial * targets, axis=1) * np.maximum(cosines, 0.1) ** 2
    assert (realizations.value > before + 1e-4).all()

    response, jacobian = jax.jit(lambda p: linearize_batch(f, p))(realizations.parameters)
    inversion = jifv.invert(response, jacobian, significance=realizations.significance)
    for index, p in enumerate(np.float64(realizations.parameters)):
        r, j = reference(weights, p), reference_jacobian(weights, p)
        np.testing.assert_allclose(response[index], r, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(jacobian[index], j, atol=1e-4 * np.abs(j).max())
        unit = r / np.linalg.norm(r)
        values = np.linalg.svd((3 * np.eye(FEATURES) - 2 * np.outer(unit, unit)) @ j)
        expected = values.U[:, -1] * np.sign(values.U[:, -1] @ r)
        assert jifv.angle(inversion.objective[index], expected) < 0.1
        np.testing.assert_allclose(inversion.singular_values[index], values.S, rtol=1e-3)


def test_the_readme_shows_each_framework():
    assert [name for name, _ in EXAMPLES] == ["torch", "linen", "nnx", "equinox", "haiku"]


@pytest.mark.parametrize(("name", "code"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_example_runs(name, code):
    for line in re.findall(r"^(?:from|import) (torch|equinox|haiku)", code, re.MULTILINE):
        pytest.importorskip(line)
    namespace = {"jax": jax, "jifv": jifv}
    exec(compile(code, f"example, {name}", "exec"), namespace)
    activations = namespace["network"](jnp.full((32, 32, 3), 0.5))
    assert activations.shape == (28, 28, 16)
    assert (activations >= 0).all()
    if "hidden" in namespace:  # here the layer before ReLU
        before = namespace["hidden"](jnp.full((32, 32, 3), 0.5))
        np.testing.assert_allclose(jax.nn.relu(before), activations, atol=1e-6)
    f = jifv.compose(jifv.fourier((32, 32, 3), decay=1.0).apply, namespace["network"], jifv.max_mean())
    assert feature_count(f, jax.ShapeDtypeStruct((32, 17, 3, 2), jnp.float32)) == 16
