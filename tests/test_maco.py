from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

import jifv
from jifv import maco, transform
from jifv.visualization import start

# Lucid's (lucid/optvis/param/color.py), one row each for red, green and blue.
COLORS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
COLORS /= np.max(np.linalg.norm(COLORS, axis=0))

sizes = st.integers(1, 9)
shapes = st.tuples(sizes, sizes, st.integers(1, 3))
dtypes = st.sampled_from([np.float32, np.float64])


def spectrum(shape, seed=0):
    """Magnitudes as an FFT of real images has them: the same at a frequency and at its negative."""
    rng = np.random.default_rng(seed)
    return np.abs(np.fft.fft2(rng.normal(size=shape), axes=(0, 1))) + 0.1


def phases(shape, seed=0):
    return np.random.default_rng(seed).normal(0, 2, (shape[0], shape[1] // 2 + 1, shape[2]))


def standardized(x):
    deviation = np.std(x)
    return (x - np.mean(x)) / (deviation if deviation > 1e-100 else 1)


def logits(magnitude, p, width):
    """The inverse of a real FFT, summed up frequency by frequency, and standardized."""
    height, columns, _ = p.shape
    rows, across = np.arange(height), np.arange(width)
    y = np.zeros((height, width, p.shape[2]))
    for k in range(height):
        for j in range(columns):
            # All columns stand for their mirror images as well, but for those that are their own.
            twice = 1 if j == 0 or 2 * j == width else 2
            turns = np.exp(2j * np.pi * (k * rows[:, None] / height + j * across / width))
            y += twice * np.real(turns[..., None] * magnitude[k, j] * np.exp(1j * p[k, j]))
    return standardized(y)


def there_and_back(phi):
    """To the image, back to phases and to the image again, in one program."""

    @jax.jit
    def function(p):
        x = phi.apply(p)
        again = phi.invert(x)
        return x, again, phi.apply(again)

    return function


def unmixed(x):
    values = special.logit(np.asarray(x, np.float64))
    return values @ np.linalg.inv(COLORS).T if x.shape[-1] == 3 else values


@given(shapes, st.booleans(), st.integers(0, 99))
@settings(max_examples=5)
def test_apply_is_the_reference(shape, standardize, seed):
    with jax.enable_x64(True):
        given_, p = spectrum(shape, seed), phases(shape, seed)
        x = jax.jit(maco.maco(shape, given_, standardize_phases=standardize).apply)(jnp.asarray(p))
        expected = logits(given_, standardized(p) if standardize else p, shape[1])
        expected = special.expit(expected @ COLORS.T if shape[2] == 3 else expected)
        assert x.shape == shape
        np.testing.assert_allclose(x, expected, atol=1e-11)


@pytest.mark.parametrize("shape", [(5, 7, 3), (4, 6, 2)])
def test_the_image_has_the_spectrum(x64, shape):
    given_ = spectrum(shape)
    x = maco.maco(shape, given_).apply(jnp.asarray(phases(shape)))
    ratio = np.abs(np.fft.fft2(unmixed(x), axes=(0, 1))) / given_
    inner = np.array([j for j in range(shape[1]) if j != 0 and 2 * j != shape[1]])
    np.testing.assert_allclose(ratio[:, inner], ratio[0, 1, 0], rtol=1e-9)
    assert (ratio[1:] <= ratio[0, 1, 0] * (1 + 1e-9)).all()  # in the mirrored columns at most
    assert (ratio[1:, 0] < 0.99 * ratio[0, 1, 0]).any()


@given(shapes, dtypes, st.integers(0, 99))
@settings(max_examples=6)
def test_round_trip(shape, dtype, seed):
    with jax.enable_x64(dtype == np.float64):
        given_ = spectrum(shape, seed)
        given_[given_ < np.quantile(given_, 0.2)] = 0  # as a filter leaves them
        phi = maco.maco(shape, given_)
        x, p, again = there_and_back(phi)(jnp.asarray(phases(shape, seed), dtype))
        assert p.dtype == dtype
        np.testing.assert_allclose(again, x, atol=1e-4 if dtype == np.float32 else 1e-7)


def test_of_other_images_the_phases_stay(x64):
    shape = (6, 7, 3)
    x = np.random.default_rng(0).uniform(0.05, 0.95, shape)
    phi = maco.maco(shape, spectrum(shape))
    nearest = jax.jit(lambda x: phi.apply(phi.invert(x)))
    again = nearest(jnp.asarray(x))
    before, after = (np.fft.rfft2(unmixed(image), axes=(0, 1))[:, 1:] for image in (x, again))
    np.testing.assert_allclose(after / np.abs(after), before / np.abs(before), atol=1e-9)
    assert np.max(np.abs(again - x)) > 0.1
    np.testing.assert_allclose(nearest(again), again, atol=1e-9)


def test_a_factor_has_no_effect_and_standardized_phases_have_neither_origin_nor_scale(x64):
    shape, p = (4, 5, 3), jnp.asarray(phases((4, 5, 3)))
    phi = maco.maco(shape, spectrum(shape), standardize_phases=True)
    scaled = maco.maco(shape, 1e6 * spectrum(shape), standardize_phases=True)
    three = jax.jit(lambda p: (phi.apply(p), phi.apply(3 * p - 1), scaled.apply(p)))(p)
    np.testing.assert_allclose(three[1], three[0], atol=1e-12)
    np.testing.assert_allclose(three[2], three[0], atol=1e-12)
    assert np.isfinite(jax.jit(jax.grad(lambda p: phi.apply(p)[0, 0, 0]))(jnp.ones_like(p))).all()
    with pytest.raises(ValueError, match="standardize_phases must be False to invert an image, got True"):
        phi.invert(three[0])


def test_starts_are_uniform_phases():
    phi = maco.maco((32, 32, 3))
    p = np.asarray(phi.init(jax.random.key(0)))
    assert p.shape == (32, 17, 3)
    assert p.dtype == np.float32
    counts = np.histogram(p, bins=4, range=(-np.pi, np.pi))[0]
    assert counts.sum() == p.size
    assert counts.min() > 0.22 * p.size
    np.testing.assert_array_equal(phi.init(jax.random.key(0)), p)
    assert jax.eval_shape(maco.maco((4, 4, 1), dtype=np.float16).init, jax.random.key(0)).dtype == np.float16


# The spectrum.


def test_spectrum_of_images_is_the_mean_magnitude():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3)).astype(np.uint8)
    rows = np.exp(-2j * np.pi * np.outer(range(4), range(4)) / 4)
    columns = np.exp(-2j * np.pi * np.outer(range(5), range(5)) / 5)
    values = (images / 255 - 0.5) @ np.linalg.inv(COLORS).T
    magnitudes = np.abs(np.einsum("kh,jw,bhwc->bkjc", rows, columns, values)) / np.sqrt(20)
    np.testing.assert_allclose(maco.spectrum_of(images), magnitudes.mean(0), rtol=1e-9)
    np.testing.assert_allclose(maco.spectrum_of(jnp.asarray(images / np.float32(255))), magnitudes.mean(0), rtol=1e-5)
    grey = maco.spectrum_of(images[..., :1])
    np.testing.assert_allclose(grey[0, 0, 0], np.abs((images[..., 0] / 255 - 0.5).sum((1, 2))).mean() / np.sqrt(20))


@pytest.mark.parametrize("shape", [(8, 8, 2), (12, 9, 2), (5, 20, 2)])
def test_natural_spectra_stay_natural_at_other_sizes(x64, shape):
    height, width, _ = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    law = 1 / np.maximum(frequency, 1 / max(height, width))[..., None] * np.ones(2)
    small = 1 / np.maximum(np.hypot(np.fft.fftfreq(8)[:, None], np.fft.fftfreq(8)), 1 / 8)[..., None] * np.ones(2)
    p = jnp.asarray(phases(shape))
    images = [maco.maco(shape, given_).apply(p) for given_ in (law, small, None)]
    np.testing.assert_allclose(images[1], images[0], atol=1e-12)
    np.testing.assert_allclose(images[2], images[0], atol=1e-12)


def test_a_frequency_keeps_its_place_at_other_sizes(x64):
    stripes = np.zeros((8, 8, 1))
    stripes[2, 0] = stripes[6, 0] = stripes[1, 3] = stripes[7, 5] = 1  # 1/4 down; (1/8, 3/8)
    x = maco.maco((16, 24, 1), stripes).apply(jnp.zeros((16, 13, 1)))
    found = np.abs(np.fft.fft2(unmixed(x)[..., 0]))
    np.testing.assert_allclose(found[[4, 12, 2, 14], [0, 0, 9, 15]], found[4, 0], rtol=1e-9)
    np.testing.assert_array_less(found[[3, 5, 4, 2, 2], [0, 0, 1, 8, 10]], 0.9 * found[4, 0])
    assert found[8:].max() == pytest.approx(found[12, 0], rel=0.3)


def test_errors(unchecked):
    with pytest.raises(ValueError, match=r"spectrum must have shape \(h, w, 3\), got \(4, 4, 1\)"):
        maco.maco((4, 4, 3), np.ones((4, 4, 1)))
    for wrong in (-1, np.nan, 0):
        with pytest.raises(ValueError, match="spectrum must be finite, not negative and not zero throughout"):
            maco.maco((4, 4, 1), np.full((4, 4, 1), wrong, float))
    with pytest.raises(ValueError, match="spectrum must be the same at a frequency and at its negative"):
        maco.maco((4, 4, 1), spectrum((4, 4, 1))[:, :3])
    with pytest.raises(TypeError, match="spectrum must be an array, got list"):
        maco.maco((4, 4, 1), [1.0])
    with pytest.raises(ValueError, match=r"shape must be \(height, width, channels\), got"):
        maco.maco((4, 4))
    with pytest.raises(ValueError, match=r"images must have shape \(count, height, width, channels\), got \(4, 4, 3\)"):
        maco.spectrum_of(np.ones((4, 4, 3)))
    with pytest.raises(ValueError, match=r"images must have values in \[0, 1\], got .*; divide bytes by 255"):
        maco.spectrum_of(np.full((1, 4, 4, 3), 200.0))
    with pytest.raises(TypeError, match=r"images must hold floats in \[0, 1\] or bytes"):
        maco.spectrum_of(np.ones((1, 4, 4, 3), int))


# Importance.

WEIGHTS = np.random.default_rng(5).normal(size=(6, 5, 3, 4)).astype(np.float32)
PHI = maco.maco((6, 5, 3))
F = jifv.compose(PHI.apply, lambda x: jnp.tanh(jnp.einsum("hwc,hwcn->n", x, WEIGHTS)), jifv.identity)


@pytest.mark.parametrize("drawn", [False, True])
def test_importance_is_the_gradient_of_the_image(drawn):
    tau = transform.brightness(0.2)
    made = transform.anew(tau, jax.random.key(3), draws=2) if drawn else None
    p = jax.vmap(PHI.init)(jax.random.split(jax.random.key(0), 2))
    v = jifv.sparse_objectives(jax.random.key(1), 2, 4)
    power = jifv.Significance(2)
    # As after two steps, which draw what the step's number says.
    state = replace(start(F, p, v, significance=power, transformations=made), step=jnp.int32(2))
    found = maco.importance(F, state)

    def value(x, v):
        seen = [tau(key, x) for key in made.keys(jnp.asarray(made.bits()), 2)] if drawn else [x]
        return jnp.mean(jnp.stack([power(F.respond(each), v) for each in seen]))

    expected = jnp.abs(jax.jit(jax.vmap(jax.grad(value)))(jax.jit(jax.vmap(PHI.apply))(p), v))
    assert found.shape == (2, 6, 5, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    assert np.max(found) > 1e-3


def test_importance_needs_the_image():
    state = start(F, PHI.init(jax.random.key(0))[None], np.ones((1, 4), np.float32))
    with pytest.raises(ValueError, match=r"f must be made by jifv\.compose"):
        maco.importance(lambda p: F(p), state)


def test_opacity_is_cut_off_and_in_range(unchecked):
    seen = np.random.default_rng(0).exponential(size=(9, 8, 3))
    mean = seen.mean(-1)
    expected = np.minimum(mean, np.percentile(mean, 80))
    np.testing.assert_allclose(maco.opacity(seen), expected / expected.max(), rtol=1e-5)
    assert np.max(maco.opacity(seen, share=1)) == 1
    assert np.sum(maco.opacity(seen, share=1) == 1) == 1
    np.testing.assert_array_equal(maco.opacity(np.zeros((2, 2, 3))), 0)
    with pytest.raises(ValueError, match="share must be at most 1"):
        maco.opacity(seen, share=80)
