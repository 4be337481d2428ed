import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy.ndimage import correlate1d
from scipy.stats import ortho_group

from jifv.evaluate import angle, beta, beta_profile, choose_space, reoptimize, ssim
from jifv.significance import Significance
from jifv.visualization import Settings, visualize

DTYPES = [np.float32, np.float64]


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def orthonormal(seed, n, q):
    return np.linalg.qr(normal(seed, n, q))[0]


# Angles


def exact_angle(a, b):
    """The arccosine, with digits enough for it."""
    with mpmath.workdps(60):
        a, b = ([mpmath.mpf(float(x)) for x in y] for y in (a, b))
        dot, aa, bb = (mpmath.fdot(x, y) for x, y in ((a, b), (a, a), (b, b)))
        return float(mpmath.degrees(mpmath.acos(dot / mpmath.sqrt(aa * bb))))


@given(st.integers(0, 10**6), st.sampled_from([2, 5]), st.sampled_from(DTYPES), st.floats(-8, 0), st.booleans())
@examples(max_examples=40)
def test_angle_is_exact_also_near_0_and_180(seed, n, dtype, exponent, opposite):
    a = normal(seed, n).astype(dtype)
    b = ((-a if opposite else a) + 10**exponent * normal(seed + 1, n)).astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        result = angle(jnp.asarray(a), jnp.asarray(b))
    assert result.dtype == dtype
    assert abs(float(result) - exact_angle(a, b)) < 500 * np.finfo(dtype).eps


def test_arccosine_would_fail_the_test_above():
    a, b = np.array([1, 0], np.float32), np.array([1, 1e-4], np.float32)
    arccosine = np.degrees(np.arccos(np.float32(a @ b / np.linalg.norm(a) / np.linalg.norm(b))))
    assert abs(arccosine - exact_angle(a, b)) > 500 * np.finfo(np.float32).eps


def test_angle_of_one_entry():
    assert angle(jnp.array([2.0]), jnp.array([3.0])) == 0
    assert angle(jnp.array([2.0]), jnp.array([-3.0])) == 180


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_angle_does_not_depend_on_length(scale):
    result = angle(jnp.array([1.0, 0.0]) * scale, jnp.array([1.0, 1.0]))
    np.testing.assert_allclose(result, 45, rtol=1e-6)


def test_angle_broadcasts_and_compiles():
    a, b = jnp.asarray(normal(0, 3, 1, 5)), jnp.asarray(normal(1, 4, 5))
    result = jax.jit(angle)(a, b)
    assert result.shape == (3, 4)
    np.testing.assert_allclose(result[2, 1], exact_angle(a[2, 0], b[1]), rtol=1e-5)


def test_angle_with_zero_is_nan():
    result = angle(jnp.array([[0.0, 0.0], [1.0, 0.0]]), jnp.array([1.0, 0.0]))
    np.testing.assert_array_equal(result, [np.nan, 0])


def test_angle_on_a_space_projects():
    basis, a, b = orthonormal(0, 6, 3), normal(1, 4, 6), normal(2, 4, 6)
    on, first, second = (jnp.asarray(x, jnp.float32) for x in (basis, a, b))
    result = angle(first, second, basis=on)
    projection = basis @ basis.T
    expected = [exact_angle(projection @ x, projection @ y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    assert not np.allclose(result, angle(jnp.asarray(a), jnp.asarray(b)), rtol=0.1)


def test_angle_on_a_space_that_misses_a_vector_is_nan():
    basis = jnp.eye(3)[:, :2]
    assert np.isnan(angle(jnp.array([0.0, 0.0, 1.0]), jnp.array([1.0, 0.0, 0.0]), basis=basis))


def test_angle_errors(unchecked):
    with pytest.raises(ValueError, match=r"basis must have 3 rows, one per feature, got shape \(2, 2\)"):
        angle(jnp.ones(3), jnp.ones(3), basis=jnp.eye(2))
    with pytest.raises(ValueError, match="dimension 0"):
        angle(jnp.ones(3), jnp.ones(3), basis=jnp.zeros((3, 0)))


# β


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 5]), st.data())
@examples(max_examples=20)
def test_beta_sums_to_one(seed, n, data):
    q = data.draw(st.integers(1, n))
    vectors = np.stack([orthonormal(seed + i, n, q) for i in range(3)])
    targets = normal(seed + 3, 3, n)
    shares = beta(jnp.asarray(vectors, jnp.float32), jnp.asarray(targets, jnp.float32))
    assert shares.shape == (3, q)
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)
    if q == n:
        expected = np.einsum("snq,sn->sq", vectors, targets)[:, ::-1] ** 2
        np.testing.assert_allclose(shares, expected / (targets**2).sum(-1, keepdims=True), atol=1e-5)


def test_beta_starts_with_the_last_vector():
    vectors = jnp.eye(3)
    np.testing.assert_allclose(beta(vectors, jnp.array([1.0, 0.0, 2.0])), [0.8, 0.0, 0.2], atol=1e-6)


def test_profile_is_the_mean_of_what_is_finite():
    vectors = jnp.stack([jnp.eye(2), jnp.eye(2), jnp.full((2, 2), jnp.nan)])
    targets = jnp.array([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    np.testing.assert_allclose(beta_profile(vectors, targets), [0.25, 0.75], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(beta_profile)(vectors[0], targets[0]), [0, 1])
    assert np.isnan(beta_profile(vectors[2], targets[2])).all()


# SSIM


def reference_ssim(x, y):
    """Wang et al. 2004 in NumPy float64: Gaussian window 11×11, σ = 1.5, positions fully inside."""
    window = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window /= window.sum()

    def smooth(z):
        return correlate1d(correlate1d(z, window, axis=0), window, axis=1)[5:-5, 5:-5]

    x, y = x.astype(np.float64), y.astype(np.float64)
    mean_x, mean_y = smooth(x), smooth(y)
    var_x, var_y, cov = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2, smooth(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * (2 * cov + c2) / (var_x + var_y + c2)).mean()


compiled_ssim = jax.jit(ssim)


@given(st.integers(0, 10**6), st.sampled_from([(11, 11, 1), (18, 14, 3)]), st.floats(0, 1))
@examples(max_examples=8)
def test_ssim_is_the_reference(seed, shape, noise):
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(2, *shape)).astype(np.float32)
    y = ((1 - noise) * x + noise * rng.uniform(size=x.shape)).astype(np.float32)
    result = compiled_ssim(x, y)
    np.testing.assert_allclose(result, [reference_ssim(a, b) for a, b in zip(x, y, strict=True)], atol=2e-4)


def test_ssim_of_equal_and_of_inverted_images():
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 1, 16, 16, 3)), jnp.float32)
    result = jax.jit(ssim)(x, x)
    assert result.shape == (2, 1)
    np.testing.assert_allclose(result, 1, rtol=1e-5)
    assert (ssim(x, 1 - x) < -0.8).all()
    assert ssim(x[0, 0], x[0, 0]).shape == ()


def test_ssim_in_float64(x64):
    x, y = np.random.default_rng(0).uniform(size=(2, 13, 12, 3))
    np.testing.assert_allclose(ssim(jnp.asarray(x), jnp.asarray(y)), reference_ssim(x, y), rtol=1e-9)


def test_ssim_errors(unchecked):
    with pytest.raises(ValueError, match="at least 11×11"):
        ssim(jnp.ones((10, 12, 3)), jnp.ones((10, 12, 3)))


# Re-optimization

ROTATION = jnp.asarray(ortho_group.rvs(4, random_state=0), jnp.float32)


def bounded(p):
    """Response with the optimum p = √2 · rotationᵀ v / ‖v‖ for every k > 0."""
    return ROTATION @ p / (1 + p @ p / 2)


def test_reoptimization_leaves_an_optimum_only_for_another_objective():
    targets = jnp.asarray(np.abs(normal(1, 3, 4)), jnp.float32)
    targets /= jnp.linalg.norm(targets, axis=1, keepdims=True)
    optima = jnp.sqrt(2) * targets @ ROTATION
    same = reoptimize(bounded, optima, targets, significance=Significance(), steps=300)
    np.testing.assert_allclose(same, optima, atol=0.02)
    other = reoptimize(bounded, optima, targets[::-1], significance=Significance(), steps=300)
    np.testing.assert_allclose(other, optima[::-1], atol=0.02)


def test_reoptimization_is_adam_alone_at_a_constant_rate(capsys):
    targets, begin = jnp.asarray(np.abs(normal(1, 2, 4))), jnp.asarray(normal(2, 2, 4))
    options = {"significance": Significance(1), "batch_size": 1}
    settings = Settings(adam_steps=50, lbfgs_steps=20, learning_rate=0.01)
    result = reoptimize(bounded, begin, targets, steps=7, settings=settings, **options)
    plain = Settings(adam_steps=7, anneal=0, lbfgs_steps=0, learning_rate=0.01)
    expected = visualize(bounded, begin, targets, settings=plain, **options)
    np.testing.assert_array_equal(result, expected.parameters)
    assert capsys.readouterr().err == ""


def test_reoptimization_errors():
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        reoptimize(bounded, jnp.ones((1, 4)), jnp.ones((1, 4)), significance=Significance(), steps=0)


# Choosing the critical space


def candidates(n=5, samples=40):
    """R⁵, where e₀ is trivial and always predicted, then V = e₀^⊥ that works, then parts of V."""
    rng = np.random.default_rng(0)
    targets = rng.uniform(size=(samples, n))
    trivial = np.tile(np.eye(n)[0], (samples, 1))
    good = targets * (np.arange(n) > 0) + 0.02 * rng.normal(size=targets.shape)
    random = rng.uniform(size=targets.shape)
    identity = np.eye(n)
    bases = [identity, identity[:, 1:], identity[:, 2:], identity[:, 4:]]
    return bases, [trivial, good, random, targets], targets


def as_jax(*trees):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), trees)


def test_the_space_that_works_is_chosen():
    bases, predictions, targets = candidates()
    choice = choose_space(*as_jax(bases, predictions, targets))
    assert choice.index == 1
    for i, (basis, predicted) in enumerate(zip(bases, predictions, strict=True)):
        own = [exact_angle(basis.T @ a, basis.T @ b) for a, b in zip(predicted, targets, strict=True)]
        np.testing.assert_allclose(choice.angle[i], np.median(own), rtol=1e-4, atol=1e-4)
        others = [
            exact_angle(basis.T @ a, basis.T @ targets[j])
            for k, a in enumerate(predicted)
            for j in range(len(targets))
            if k != j
        ]
        np.testing.assert_allclose(choice.chance[i], np.median(others), rtol=1e-4, atol=1e-4)


def test_a_line_does_not_win_by_its_angle_of_zero():
    bases, predictions, targets = candidates()
    choice = choose_space(*as_jax(bases, predictions, targets))
    assert choice.angle[3] == 0 < choice.angle[1]
    # Not even where the sign of a target's part in it varies, so that chance is above zero.
    bases[3] = np.array([[0, 0, 0, 1, -1]]).T / np.sqrt(2)
    choice = choose_space(*as_jax(bases, predictions, targets))
    assert choice.angle[3] == 0 < choice.chance[3]
    assert choice.index == 1


def test_a_plane_in_which_the_targets_hardly_differ_does_not_win():
    bases, predictions, targets = candidates()
    rng = np.random.default_rng(1)
    narrow = np.array([1, 0.3]) + 0.01 * rng.normal(size=(len(targets), 2))
    targets[:, 3:] = narrow
    predictions[1][:, 1:] = targets[:, 1:] + 0.03 * rng.normal(size=(len(targets), 4))
    bases[3] = np.eye(5)[:, 3:]
    predictions[3] = np.tile([0, 0, 0, 1, 0.3], (len(targets), 1))
    choice = choose_space(*as_jax(bases, predictions, targets))
    assert choice.angle[3] < choice.angle[1]
    assert choice.index == 1


def test_of_equals_the_larger_space_is_chosen():
    bases, _, targets = candidates()
    choice = choose_space(*as_jax(bases[::-1], [targets] * 4, targets))
    np.testing.assert_allclose(choice.angle, 0, atol=1e-9)
    assert choice.index == 3


def spread(degrees, targets, basis, rng):
    """Targets turned by about so many degrees inside V."""
    noise = rng.normal(size=targets.shape) @ basis @ basis.T
    noise -= targets * np.sum(targets * noise, axis=1, keepdims=True) / np.sum(targets**2, axis=1, keepdims=True)
    lengths = np.linalg.norm(targets @ basis, axis=1) / np.linalg.norm(noise @ basis, axis=1)
    return targets + np.tan(np.radians(degrees)) * lengths[:, None] * noise


def test_unconverged_realizations_do_not_outweigh_the_spectrum():
    """A hundred scores: 95 dimensions have the smaller angle, but only the 99 without (1, ..., 1) a gap."""
    rng = np.random.default_rng(0)
    targets = rng.uniform(size=(40, 100))
    frame = np.linalg.qr(np.hstack([np.ones((100, 1)), rng.normal(size=(100, 99))]))[0]
    bases = [np.eye(100), frame[:, 1:], frame[:, 5:]]
    trivial = np.ones_like(targets) * rng.choice([-1, 1], size=(40, 1))
    predictions = [trivial, spread(17.6, targets, bases[1], rng), spread(11.3, targets, bases[2], rng)]
    choice = choose_space(bases, predictions, targets)
    assert choice.angle[2] < choice.angle[1] < choice.chance[1]
    assert choice.index == 2
    assert choose_space(bases, predictions, targets, gaps=[1, 1e5, 1.2]).index == 1


@pytest.mark.parametrize(("nine", "expected"), [(60, 2), (2.5, 1)])
def test_a_dead_class_is_left_out_where_it_spoils_the_predictions(nine, expected):
    """Ten scores without one class: 9 dimensions have the larger gap, and lose where they fail."""
    rng = np.random.default_rng(1)
    targets = rng.uniform(size=(40, 10))
    frame = np.linalg.qr(np.hstack([np.ones((10, 1)), np.eye(10)[:, 4:5], rng.normal(size=(10, 8))]))[0]
    bases = [np.eye(10), frame[:, 1:], frame[:, 2:]]
    trivial = np.ones_like(targets) * rng.choice([-1, 1], size=(40, 1))
    predictions = [trivial, spread(nine, targets, bases[1], rng), spread(2, targets, bases[2], rng)]
    gaps = [1, 8e5, 2.8]
    assert choose_space(bases, predictions, targets, gaps=gaps).index == expected
    reverse = choose_space(bases[::-1], predictions[::-1], targets, gaps=gaps[::-1])
    assert reverse.index == 2 - expected


def test_the_whole_space_needs_no_gap():
    bases, _, targets = candidates()
    rng = np.random.default_rng(2)
    good, better = targets + 0.02 * rng.normal(size=targets.shape), targets + 0.01 * rng.normal(size=targets.shape)
    assert choose_space(bases[:2], [better, good], targets, gaps=[1, 1e6]).index == 0
    assert choose_space(bases[:2], [targets, targets], targets, gaps=[1, 1e6]).index == 0
    assert choose_space(bases[:1], [good], targets, gaps=[1]).index == 0


def test_predictions_that_failed_count_against_a_space():
    bases, predictions, targets = candidates()
    predictions[1] = np.full_like(targets, np.nan)
    predictions[2] = targets
    choice = choose_space(*as_jax(bases, predictions, targets))
    assert choice.index == 2
    assert choice.angle[1] == 180
    assert np.isnan(choice.chance[1])


def test_choice_errors(unchecked):
    eye, ones = jnp.eye(3), jnp.ones((2, 3))
    with pytest.raises(ValueError, match="bases must be at least one, with predictions for each, got 0 bases"):
        choose_space([], [], ones)
    with pytest.raises(ValueError, match="got 1 bases and 2 sets"):
        choose_space([eye], [ones, ones], ones)
    with pytest.raises(ValueError, match="at least 2 samples"):
        choose_space([eye], [ones[:1]], ones[:1])
    with pytest.raises(ValueError, match="basis and predictions 1 must have shapes"):
        choose_space([eye, eye], [ones, ones[:1]], ones)
    with pytest.raises(ValueError, match="basis and predictions 0 must have shapes"):
        choose_space([jnp.eye(4)], [ones], ones)
    for gaps in ([1.0, 2.0], [np.nan]):
        with pytest.raises(ValueError, match="gaps must be a number for each of 1 bases"):
            choose_space([eye], [ones], ones, gaps=gaps)


def test_numpy_arrays_are_taken_at_the_precision_of_jax():
    bases, predictions, targets = candidates()
    assert choose_space(bases, predictions, targets).index == 1
    images = np.random.default_rng(0).uniform(size=(12, 12, 3))
    results = angle(targets, targets), angle(targets, targets, basis=bases[1]), beta(bases[0], targets[0])
    for result in (*results, ssim(images, images)):
        assert result.dtype == jnp.float32
    again = reoptimize(bounded, np.ones((1, 4)), np.ones((1, 4)), significance=Significance(), steps=1)
    assert again.dtype == jnp.float32
