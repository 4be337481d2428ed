import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy import special

from jifv import parametrize

SHAPES = [(4, 4, 3), (5, 4, 1), (4, 7, 2), (5, 7, 3), (1, 1, 1), (1, 6, 2), (6, 1, 2)]
BOTH = {
    "pixels": parametrize.pixels,
    "fourier": parametrize.fourier,
    "decorrelated": lambda shape, **options: parametrize.fourier(shape, decay=1.0, **options),
}
shapes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3))


def image(shape, dtype, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(0.01, 0.99, shape), dtype)


def lucid_frequencies(height, width):
    """Lengths of the frequencies of an rfft2, written out index by index."""
    rows = [row if row <= (height - 1) // 2 else row - height for row in range(height)]
    columns = range(width // 2 + 1)
    return np.array([[np.sqrt((r / height) ** 2 + (c / width) ** 2) for c in columns] for r in rows])


@pytest.mark.parametrize("build", BOTH.values(), ids=BOTH)
@given(shapes, st.sampled_from([np.float32, np.float64]), st.integers(0, 99))
@settings(max_examples=10)
def test_round_trip(build, shape, dtype, seed):
    with jax.enable_x64(dtype == np.float64):
        x = image(shape, dtype, seed)
        parametrization = build(shape)
        p = jax.jit(parametrization.invert)(x)
        again = jax.jit(parametrization.apply)(p)
        assert p.dtype == again.dtype == dtype
        assert jax.eval_shape(parametrization.init, jax.random.key(0)).shape == p.shape
        np.testing.assert_allclose(again, x, atol=1e-5 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("build", BOTH.values(), ids=BOTH)
@pytest.mark.parametrize("shape", SHAPES)
def test_images_are_real_and_in_range(build, shape):
    parametrization = build(shape, std=1.0)
    x = parametrization.apply(parametrization.init(jax.random.key(0)))
    assert x.shape == shape
    assert x.dtype == jnp.float32
    assert (x > 0).all()
    assert (x < 1).all()


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_fourier_is_the_reference(x64, shape, decay):
    height, width, _ = shape
    p = parametrize.fourier(shape, std=1.0).init(jax.random.key(0))
    scale = 1 / np.maximum(lucid_frequencies(height, width), 1 / max(height, width)) ** decay
    spectrum = scale[..., None] * (np.asarray(p[..., 0]) + 1j * np.asarray(p[..., 1]))
    # Lucid's factor √(H W) on the default transform is the orthonormal one.
    logits = np.sqrt(height * width) * np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1))
    np.testing.assert_allclose(parametrize.fourier(shape, decay=decay).apply(p), special.expit(logits), atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 6, 1), (5, 7, 1)])
def test_decorrelation_scales_single_coefficients(x64, shape):
    height, width, _ = shape
    frequencies = lucid_frequencies(height, width)
    white, decorrelated = parametrize.fourier(shape), parametrize.fourier(shape, decay=1.0)
    for row, column in [(0, 0), (1, 0), (0, 1), (height - 1, 2), (height // 2, width // 2)]:
        p = jnp.zeros((height, width // 2 + 1, 1, 2)).at[row, column, 0, 0].set(0.01)
        expected = special.logit(white.apply(p)) / max(frequencies[row, column], 1 / max(height, width))
        np.testing.assert_allclose(special.logit(decorrelated.apply(p)), expected, atol=1e-14)
        assert np.max(np.abs(expected)) > 1e-3


def test_fourier_preserves_energy(x64):
    parametrization = parametrize.fourier((4, 5, 2))
    x = image((4, 5, 2), np.float64)
    full = parametrization.invert(x)
    weights = np.array([1, 2, 2])[:, None, None]  # an odd width: all but column 0 stand for two
    np.testing.assert_allclose(np.sum(weights * full**2), np.sum(special.logit(x) ** 2), rtol=1e-12)


@pytest.mark.parametrize("build", BOTH.values(), ids=BOTH)
def test_initial_parameters(build):
    parametrization = build((64, 64, 3), std=0.5)
    p = parametrization.init(jax.random.key(0))
    np.testing.assert_allclose([jnp.mean(p), jnp.std(p)], [0, 0.5], atol=0.02)
    np.testing.assert_array_equal(p, parametrization.init(jax.random.key(0)))
    assert not np.array_equal(p, parametrization.init(jax.random.key(1)))


@pytest.mark.parametrize("build", BOTH.values(), ids=BOTH)
def test_default_start_is_nearly_grey(build):
    parametrization = build((32, 32, 3))
    np.testing.assert_allclose(parametrization.apply(parametrization.init(jax.random.key(0))), 0.5, atol=0.15)


@pytest.mark.parametrize("build", BOTH.values(), ids=BOTH)
def test_dtype_of_the_parameters(x64, build):
    assert build((4, 4, 1)).init(jax.random.key(0)).dtype == jnp.float64
    parametrization = build((4, 4, 1), dtype=jnp.float32)
    p = parametrization.init(jax.random.key(0))
    assert p.dtype == jnp.float32
    assert parametrization.apply(p).dtype == jnp.float32


@pytest.mark.parametrize("build", BOTH.values(), ids=BOTH)
def test_black_and_white_have_finite_parameters(build):
    x = jnp.asarray([[0.0, 1.0], [1.0, 1.0]])[..., None]
    parametrization = build((2, 2, 1))
    p = parametrization.invert(x)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(parametrization.apply(p), x, atol=1e-4)


@pytest.mark.parametrize("build", BOTH.values(), ids=BOTH)
def test_jit_vmap_and_grad(x64, build):
    parametrization = build((4, 5, 2), std=1.0)
    p = jax.vmap(parametrization.init)(jax.random.split(jax.random.key(0), 3))
    single = jnp.stack([parametrization.apply(q) for q in p])
    np.testing.assert_allclose(jax.jit(jax.vmap(parametrization.apply))(p), single, rtol=1e-12)
    inverted = jnp.stack([parametrization.invert(x) for x in single])
    np.testing.assert_allclose(jax.jit(jax.vmap(parametrization.invert))(single), inverted, atol=1e-12)
    check_grads(jax.jit(parametrization.apply), (p[0],), order=1, modes=["fwd", "rev"])


@pytest.mark.parametrize("build", BOTH.values(), ids=BOTH)
def test_bad_image_shapes(unchecked, build):
    with pytest.raises(ValueError, match=r"shape must be \(height, width, channels\), got"):
        build((4, 4))
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        build((4, 0, 3))
    with pytest.raises(TypeError, match="height must be a positive integer"):
        build((4.0, 4, 3))


@pytest.mark.parametrize("build", BOTH.values(), ids=BOTH)
def test_bad_parameters_and_images(unchecked, build):
    parametrization = build((4, 4, 3))
    p = parametrization.init(jax.random.key(0))
    for bad in (p[None], p[:3], p.ravel()):
        with pytest.raises(ValueError, match="parameters must have shape"):
            jax.jit(parametrization.apply)(bad)
    with pytest.raises(ValueError, match=r"image must have shape \(4, 4, 3\), got \(2, 4, 4, 3\)"):
        jax.jit(parametrization.invert)(jnp.zeros((2, 4, 4, 3)))


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
def test_bad_options(bad):
    with pytest.raises(ValueError, match="std must be finite and >= 0"):
        parametrize.pixels((4, 4, 3), std=bad)
    with pytest.raises(ValueError, match="std must be finite and >= 0"):
        parametrize.fourier((4, 4, 3), std=bad)
    with pytest.raises(ValueError, match="decay must be finite and >= 0"):
        parametrize.fourier((4, 4, 3), decay=bad)
