import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from jifv import parametrize

SHAPES = [(4, 4, 3), (5, 4, 1), (4, 7, 2), (5, 7, 3), (1, 1, 1), (1, 6, 2), (6, 1, 2)]
BOTH = {
    "pixels": parametrize.pixels,
    "fourier": parametrize.fourier,
    "decorrelated": lambda shape, **options: parametrize.fourier(shape, decay=1.0, **options),
}
COLORFUL = {
    "pixels": lambda shape, **options: parametrize.pixels(shape, decorrelate_colors=True, **options),
    "fourier": lambda shape, **options: parametrize.fourier(shape, decay=1.0, decorrelate_colors=True, **options),
}
MASKS = ("fixed", "continuous")
sizes = st.integers(1, 9)
shapes = st.tuples(sizes, sizes, st.integers(1, 3))
dtypes = st.sampled_from([np.float32, np.float64])


def image(shape, dtype, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(0.01, 0.99, shape), dtype)


def lucid_frequencies(height, width):
    """Lengths of the frequencies of an rfft2, written out index by index."""
    rows = [row if row <= (height - 1) // 2 else row - height for row in range(height)]
    columns = range(width // 2 + 1)
    return np.array([[np.sqrt((r / height) ** 2 + (c / width) ** 2) for c in columns] for r in rows])


@pytest.mark.parametrize("build", BOTH.values(), ids=BOTH)
@given(shapes, dtypes, st.integers(0, 99))
@settings(max_examples=6)
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
def test_bytes_are_images_and_other_values_beyond_the_range_are_not(build, unchecked):
    phi, image = build((2, 3, 1)), np.array([0, 1, 128, 200, 254, 255], np.uint8).reshape(2, 3, 1)
    np.testing.assert_allclose(phi.apply(phi.invert(image)), image / 255, atol=1e-5)
    phi.invert(np.full((2, 3, 1), 1 + 5e-4, np.float32))  # as a resampling may round
    for wrong in (image.astype(np.float32), np.full((2, 3, 1), 1.01), np.full((2, 3, 1), -0.01)):
        with pytest.raises(ValueError, match=r"image must have values in \[0, 1\], got .*; divide bytes by 255"):
            phi.invert(wrong)
    with pytest.raises(TypeError, match=r"image must hold floats in \[0, 1\] or bytes \(uint8\), got int64"):
        phi.invert(image.astype(np.int64))


@pytest.mark.parametrize("build", BOTH.values(), ids=BOTH)
@pytest.mark.parametrize("shape", SHAPES)
def test_images_are_real_and_in_range(build, shape):
    parametrization = build(shape, std=1.0)
    x = np.asarray(jax.jit(lambda key: parametrization.apply(parametrization.init(key)))(jax.random.key(0)))
    assert x.shape == shape
    assert x.dtype == jnp.float32
    assert (x > 0).all()
    assert (x < 1).all()


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_fourier_is_the_reference(x64, shape, decay):
    height, width, _ = shape
    p = np.random.default_rng(0).normal(size=(height, width // 2 + 1, shape[2], 2))
    scale = 1 / np.maximum(lucid_frequencies(height, width), 1 / max(height, width)) ** decay
    spectrum = scale[..., None] * (p[..., 0] + 1j * p[..., 1])
    # Lucid's factor √(H W) on the default transform is the orthonormal one.
    logits = np.sqrt(height * width) * np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1))
    x = jax.jit(parametrize.fourier(shape, decay=decay).apply)(p)
    np.testing.assert_allclose(x, special.expit(logits), atol=1e-12)


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


def test_colors_are_those_of_lucid(x64):
    # lucid/optvis/param/color.py: t_flat = t_flat @ color_correlation_normalized.T, before the sigmoid.
    root = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    root = root / np.max(np.linalg.norm(root, axis=0))
    p = np.random.default_rng(0).normal(size=(2, 4, 3))
    expected = special.expit((p.reshape(-1, 3) @ root.T).reshape(p.shape))
    np.testing.assert_allclose(COLORFUL["pixels"](p.shape).apply(jnp.asarray(p)), expected, rtol=1e-12)
    # Column by column: the first colour is about brightness and has unit length.
    logits = special.logit(COLORFUL["pixels"]((1, 1, 3)).apply(jnp.asarray([[[1.0, 0.0, 0.0]]])))[0, 0]
    np.testing.assert_allclose(logits, np.array([0.26, 0.27, 0.27]) / np.sqrt(0.26**2 + 2 * 0.27**2), rtol=1e-12)


def test_colors_follow_the_spectrum(x64):
    p = parametrize.fourier((4, 5, 3), std=1.0).init(jax.random.key(0))
    white = parametrize.fourier((4, 5, 3), decay=1.0).apply(p)
    mixed = COLORFUL["pixels"]((4, 5, 3)).apply(parametrize.pixels((4, 5, 3)).invert(white))
    np.testing.assert_allclose(COLORFUL["fourier"]((4, 5, 3)).apply(p), mixed, rtol=1e-10)
    assert np.max(np.abs(mixed - white)) > 0.1


@pytest.mark.parametrize("build", COLORFUL.values(), ids=COLORFUL)
@given(sizes, sizes, dtypes, st.integers(0, 99))
@settings(max_examples=4)
def test_round_trip_with_colors(build, height, width, dtype, seed):
    with jax.enable_x64(dtype == np.float64):
        x = image((height, width, 3), dtype, seed)
        p = jax.jit(build(x.shape).invert)(x)
        again = jax.jit(build(x.shape).apply)(p)
        assert p.dtype == again.dtype == dtype
        np.testing.assert_allclose(again, x, atol=1e-5 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("build", COLORFUL.values(), ids=COLORFUL)
def test_colors_need_three_channels(build):
    with pytest.raises(ValueError, match="decorrelate_colors needs 3 channels, red, green and blue, got 4"):
        build((4, 4, 4))


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
def test_bad_image_shapes(unchecked, build):
    with pytest.raises(ValueError, match=r"shape must be \(height, width, channels\), got"):
        build((4, 4))
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        build((4, 0, 3))
    with pytest.raises(TypeError, match="height must be a positive integer"):
        build((4.0, 4, 3))


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
def test_bad_options(bad):
    with pytest.raises(ValueError, match="std must be finite and >= 0"):
        parametrize.pixels((4, 4, 3), std=bad)
    with pytest.raises(ValueError, match="std must be finite and >= 0"):
        parametrize.fourier((4, 4, 3), std=bad)
    with pytest.raises(ValueError, match="decay must be finite and >= 0"):
        parametrize.fourier((4, 4, 3), decay=bad)


def frame(shape, mask, dtype, seed=0):
    """A valid frame, by NumPy: normals uniform on the half of the sphere with z > 0."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(*shape, 3))
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    normal[..., 2] = np.abs(normal[..., 2])
    surface = np.ones(shape) if mask == "fixed" else rng.uniform(-0.99, 0.99, shape)
    return np.concatenate([surface[..., None], normal, rng.uniform(0.01, 0.99, (*shape, 1))], axis=-1).astype(dtype)


@pytest.mark.parametrize("mask", MASKS)
def test_geometry_is_the_closed_form(x64, mask):
    p = np.random.default_rng(0).normal(size=(5, 4, 3 if mask == "fixed" else 4)) * 4
    x = parametrize.geometry((5, 4), mask=mask).apply(jnp.asarray(p))
    azimuth, polar, depth = p[..., 0], np.pi / 2 * special.expit(p[..., 1]), special.expit(p[..., 2])
    surface = np.ones((5, 4)) if mask == "fixed" else np.tanh(p[..., 3] / 2)
    normal = np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)
    np.testing.assert_allclose(x, np.stack([surface, *normal, depth], axis=-1), atol=1e-14)


@pytest.mark.parametrize("mask", MASKS)
@given(sizes, sizes, dtypes, st.integers(0, 99))
@settings(max_examples=4)
def test_geometry_round_trip_of_frames(mask, height, width, dtype, seed):
    with jax.enable_x64(dtype == np.float64):
        x = frame((height, width), mask, dtype, seed)
        parametrization = parametrize.geometry((height, width), mask=mask)
        p = jax.jit(parametrization.invert)(jnp.asarray(x))
        again = jax.jit(parametrization.apply)(p)
        assert p.shape == (height, width, 3 if mask == "fixed" else 4)
        assert p.dtype == again.dtype == dtype
        np.testing.assert_allclose(again, x, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_geometry_round_trip_of_parameters(mask, dtype):
    with jax.enable_x64(dtype == np.float64):
        parametrization = parametrize.geometry((6, 7), mask=mask)
        p = np.random.default_rng(0).normal(0, 1.5, (6, 7, 3 if mask == "fixed" else 4)).astype(dtype)
        again = np.asarray(jax.jit(lambda p: parametrization.invert(parametrization.apply(p)))(p))
        turns = (again[..., 0] - p[..., 0]) / (2 * np.pi)
        np.testing.assert_allclose(turns, np.round(turns), atol=1e-5 if dtype == np.float32 else 1e-13)
        np.testing.assert_allclose(again[..., 1:], p[..., 1:], atol=1e-3 if dtype == np.float32 else 1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_geometry_is_valid_for_extreme_parameters(dtype):
    with jax.enable_x64(dtype == np.float64):
        values = np.array([-1e30, -1e3, -90.0, -20.0, 0.0, 20.0, 90.0, 1e3, 1e30], dtype)
        p = np.stack(np.meshgrid([-1e4, -1.0, 0.0, 1e4], values, indexing="ij"), axis=-1)
        p = np.concatenate([p, p[..., 1:], p[..., 1:]], axis=-1).astype(dtype)
        parametrization = parametrize.geometry(p.shape[:2], mask="continuous")
        x = np.asarray(jax.jit(parametrization.apply)(jnp.asarray(p)))
        assert (x[..., 3] > 0).all()
        epsilon = np.finfo(dtype).eps
        complement = epsilon + (1 - 2 * epsilon) * special.expit(-np.float64(p[..., 1]))
        np.testing.assert_allclose(x[..., 3], np.sin(np.pi / 2 * complement), rtol=8 * epsilon)
        assert (x[..., 1:3] != 0).any(axis=-1).all()
        np.testing.assert_allclose(np.linalg.norm(x[..., 1:4], axis=-1), 1, rtol=4 * epsilon)
        assert ((x[..., 4] >= 0) & (x[..., 4] <= 1)).all()
        assert ((x[..., 0] >= -1) & (x[..., 0] <= 1)).all()
        np.testing.assert_array_equal(x[0, [0, -1], 0], [-1, 1])
        slope = jax.jit(jax.grad(lambda p: parametrization.apply(p).sum()))(jnp.asarray(p))
        assert np.isfinite(slope).all()


def test_geometry_frames_at_the_borders():
    normals = [[0, 0, 1], [0, 0, 5], [1, 0, 0], [0, -2, 0], [0.6, 0, -0.8], [0, 0, -1], [0, 0, 0], [3, 0, 4]]
    expected = [[0, 0, 1], [0, 0, 1], [1, 0, 0], [0, -1, 0], [1, 0, 0], [1, 0, 0], [np.sqrt(0.5), 0, np.sqrt(0.5)]]
    normals, expected = np.array([normals], np.float32), np.array([[*expected, [0.6, 0, 0.8]]], np.float32)
    border = np.array([[0, 1, -1, 2, 0, 1, 0, 1]], np.float32)[..., None]
    x = jnp.asarray(np.concatenate([2 * border - 1, normals, border], axis=-1))
    parametrization = parametrize.geometry((1, 8), mask="continuous")
    p = np.asarray(jax.jit(parametrization.invert)(x))
    assert np.isfinite(p).all()
    again = np.array(jax.jit(parametrization.apply)(p))
    np.testing.assert_allclose(again[..., 1:4], expected, atol=1e-6)
    assert (again[..., 3] > 0).all()
    np.testing.assert_allclose(again[..., 4:], np.clip(border, 0, 1), atol=1e-6)
    np.testing.assert_allclose(again[..., :1], np.clip(2 * border - 1, -1, 1), atol=1e-6)
    fixed = parametrize.geometry((1, 8))
    again[..., 0] = 1
    np.testing.assert_allclose(jax.jit(lambda x: fixed.apply(fixed.invert(x)))(x), again, atol=1e-6)


def test_geometry_gradient_of_the_azimuth_vanishes_at_the_pole_only(x64):
    # ∂n/∂φ has the length sin θ: exact at every θ, down to a pole that no parameter reaches.
    polar = np.array([-30.0, -15.0, -5.0, 0.0, 5.0, 50.0])
    p = jnp.asarray(np.stack([np.full(6, 0.7), polar, np.zeros(6)], axis=-1)[None])
    _, pushed = jax.jvp(parametrize.geometry((1, 6)).apply, (p,), (jnp.zeros_like(p).at[..., 0].set(1),))
    expected = np.sin(np.pi / 2 * (2.0**-52 + special.expit(polar)))
    np.testing.assert_allclose(np.linalg.norm(pushed, axis=-1)[0], expected, rtol=1e-12)


def test_geometry_begins_as_a_tilted_plane_without_preferred_direction():
    parametrization = parametrize.geometry((16, 16), mask="continuous", std=0.01)
    keys = jax.random.split(jax.random.key(0), 200)
    start = jax.jit(jax.vmap(lambda key: parametrization.apply(parametrization.init(key))))
    frames = np.asarray(start(keys))
    normals = frames[..., 1:4]
    np.testing.assert_allclose(normals[..., 2], np.sqrt(0.5), atol=0.05)
    np.testing.assert_allclose(frames[..., 4], 0.5, atol=0.02)
    np.testing.assert_allclose(frames[..., 0], 0, atol=0.03)
    assert normals.std(axis=(1, 2)).max() < 0.02
    assert (normals[..., :2].std(axis=(1, 2)) > 1e-3).any(axis=-1).all()
    azimuths = np.arctan2(*normals.mean(axis=(1, 2)).T[1::-1])
    counts = np.histogram(azimuths, bins=4, range=(-np.pi, np.pi))[0]
    assert counts.min() > 30  # of 50 expected
    np.testing.assert_array_equal(start(keys), frames)


def test_geometry_without_noise_begins_as_a_plane():
    p = np.asarray(parametrize.geometry((3, 3), std=0.0).init(jax.random.key(0)))
    np.testing.assert_array_equal(p, np.broadcast_to([p[0, 0, 0], 0, 0], (3, 3, 3)))
    assert p[0, 0, 0] != 0


def test_geometry_dtype_of_the_parameters(x64):
    assert jax.eval_shape(parametrize.geometry((4, 4)).init, jax.random.key(0)).dtype == jnp.float64
    parametrization = parametrize.geometry((4, 4), dtype=jnp.float32)
    p = jax.eval_shape(parametrization.init, jax.random.key(0))
    assert p.dtype == jnp.float32
    assert jax.eval_shape(parametrization.apply, p).dtype == jnp.float32


def test_geometry_errors(unchecked):
    with pytest.raises(ValueError, match=r"shape must be \(height, width\), got \(4, 4, 5\)"):
        parametrize.geometry((4, 4, 5))
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        parametrize.geometry((4, 0))
    with pytest.raises(TypeError, match="height must be a positive integer"):
        parametrize.geometry((4.0, 4))
    with pytest.raises(ValueError, match="mask must be 'fixed' or 'continuous', got 'binary'"):
        parametrize.geometry((4, 4), mask="binary")
    with pytest.raises(ValueError, match="std must be finite and >= 0"):
        parametrize.geometry((4, 4), std=np.nan)
    parametrization = parametrize.geometry((4, 4), mask="continuous")
    for bad in (jnp.zeros((4, 4, 3)), jnp.zeros((2, 4, 4, 4)), jnp.zeros(64)):
        with pytest.raises(ValueError, match=r"parameters must have shape \(4, 4, 4\), got"):
            jax.jit(parametrization.apply)(bad)
    with pytest.raises(ValueError, match=r"frame must have shape \(4, 4, 5\), got \(4, 4, 6\)"):
        jax.jit(parametrization.invert)(jnp.zeros((4, 4, 6)))
