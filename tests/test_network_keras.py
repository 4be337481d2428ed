"""Models of Keras 3 on its JAX backend are functions of an image, up to a layer."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported
keras = pytest.importorskip("keras", reason="Keras is not installed")
if keras.backend.backend() != "jax":
    pytest.skip("Keras runs on another backend here", allow_module_level=True)

import jifv  # noqa: E402
from jifv.network import from_keras  # noqa: E402

# Keras itself.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((12, 10, 3))
    x = layers.Conv2D(5, 3, padding="same", name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dropout(0.5, name="dropout")(layers.ReLU(name="relu")(x))
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    result = keras.Model(image, layers.Dense(4, name="scores")(x), name="small")
    mean, variance = result.get_layer("norm").non_trainable_variables
    mean.assign(np.linspace(-0.2, 0.3, 5))
    variance.assign(np.linspace(0.5, 2, 5))
    return result


def image():
    return np.random.default_rng(0).uniform(0, 1, (12, 10, 3)).astype(np.float32)


def reference(model, x):
    """The layer `relu` by NumPy, in float64."""
    kernel, bias = (np.asarray(each, np.float64) for each in model.get_layer("conv").get_weights())
    scale, shift, mean, variance = (np.asarray(each, np.float64) for each in model.get_layer("norm").get_weights())
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((1, 1), (1, 1), (0, 0))), (3, 3), axis=(0, 1))
    y = np.einsum("hwcij,ijcd->hwd", windows, kernel) + bias
    return np.maximum((y - mean) / np.sqrt(variance + model.get_layer("norm").epsilon) * scale + shift, 0)


def test_layer_of_a_functional_model(model):
    network = from_keras(model, layer="relu")
    x = image()
    expected = reference(model, x)
    assert network.layers() == ("input_layer", "conv", "norm", "relu", "dropout", "pool", "mean", "scores")
    np.testing.assert_allclose(network(x), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.vmap(network))(x[None])[0], expected, rtol=1e-4, atol=1e-5)
    scores = from_keras(model)
    np.testing.assert_allclose(scores(x), np.asarray(model(x[None], training=False))[0], rtol=1e-5)
    assert repr(scores) == "KerasNetwork('small', 'scores')"
    gradient = jax.grad(lambda x: jnp.sum(scores(x)))(jnp.asarray(x))
    step = 0.05 * gradient / np.linalg.norm(gradient)
    change = np.sum(scores(x + step) - scores(x - step)) / 2
    np.testing.assert_allclose(np.vdot(gradient, step), change, rtol=0.05)


@pytest.mark.slow
def test_the_whole_path(model):
    network = from_keras(model).tap("pool")
    phi = jifv.pixels((12, 10, 3))
    f = jifv.compose(phi.apply, jifv.smooth(lambda x: jifv.mean(network(x)), (12, 10, 3)), jifv.identity)
    targets = jifv.sparse_objectives(jax.random.key(0), 1, features=5)
    start = jax.vmap(phi.init)(jax.random.split(jax.random.key(1), 1))
    realizations = jifv.visualize(f, start, targets, settings=jifv.Settings(adam_steps=3, lbfgs_steps=0))
    assert np.isfinite(jifv.invert_batch(f, realizations).objective).all()


def test_weights_are_copies(model):
    network, x = from_keras(model, layer="scores"), image()
    before = network(x)
    kernel, bias = model.get_layer("scores").get_weights()
    model.get_layer("scores").set_weights([0 * kernel, bias])
    np.testing.assert_array_equal(network(x), before)
    model.get_layer("scores").set_weights([kernel, bias])


def test_sequential_model_and_tokens():
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 2, 2), keras.layers.Reshape((16, 4), name="tokens")]
    network = from_keras(keras.Sequential(layers))
    assert network(np.ones((8, 8, 3), np.float32)).shape == (16, 1, 4)


def test_refused(model, unchecked):
    with pytest.raises(TypeError, match=r"model must be a keras.Model, got function"):
        from_keras(lambda x: x)
    with pytest.raises(ValueError, match=r"layer must be one of input_layer, conv, .*, got 'nowhere'"):
        from_keras(model, layer="nowhere")
    with pytest.raises(ValueError, match="model must be functional or sequential, and built"):
        from_keras(keras.Sequential([keras.layers.Dense(3)]))
    network = from_keras(model)
    with pytest.raises(ValueError, match=r"x must have shape \(H, W, C\), got \(1, 12, 10, 3\)"):
        network(np.zeros((1, 12, 10, 3), np.float32))
    with pytest.raises(TypeError, match="x must hold real floating-point numbers"):
        network(np.zeros((12, 10, 3), int))
