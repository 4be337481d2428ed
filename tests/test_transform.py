import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from support.responses import assert_same

import jifv
from jifv import transform
from jifv.transform import anew, chain, fixed, mean_response
from jifv.visualization import advance, finish, load_state, save_state, start

# Some are inverted without what they were made with, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::jifv.inversion.NotStationaryWarning")

KEY = jax.random.key(3)
SHAPE = (6, 7, 2)


def image():
    return np.random.default_rng(0).uniform(size=SHAPE)


def resampled(x, matrix, offset):
    """By SciPy: the value at each pixel is that at matrix · pixel + offset, the border repeated."""
    channels = [scipy.ndimage.affine_transform(x[..., c], matrix, offset, order=1, mode="nearest") for c in (0, 1)]
    return np.stack(channels, axis=-1)


def shifted(x, key):
    by = np.asarray(jax.random.uniform(key, (2,), x.dtype, -1.5, 1.5))
    return resampled(x, np.eye(2), -by)


def scaled(x, key):
    factor = float(jax.random.uniform(key, (1,), x.dtype, 0.7, 1.4)[0])
    centre = (np.array(x.shape[:2]) - 1) / 2
    return resampled(x, np.eye(2) / factor, centre - centre / factor)


def rotated(x, key):
    angle = float(jax.random.uniform(key, (1,), x.dtype, -np.deg2rad(40), np.deg2rad(40))[0])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = (np.array(x.shape[:2]) - 1) / 2
    return resampled(x, turn, centre - turn @ centre)


@pytest.mark.parametrize(
    ("transformation", "reference"),
    [(transform.shift(1.5), shifted), (transform.scale(0.7, 1.4), scaled), (transform.rotate(40), rotated)],
)
def test_resampling_against_scipy(transformation, reference, x64):
    x = image()
    for key in jax.random.split(KEY, 4):
        found = jax.jit(transformation)(key, x)
        np.testing.assert_allclose(found, reference(x, key), atol=1e-6)


def float32_image():
    return jnp.asarray(image(), jnp.float32)


def test_jitter_shifts_by_whole_pixels():
    x = float32_image()
    padded = np.pad(x, ((2, 2), (2, 2), (0, 0)), mode="edge")
    windows = {(i, j): padded[i : i + 6, j : j + 7] for i in range(5) for j in range(5)}
    found = jax.jit(jax.vmap(transform.jitter(2), in_axes=(0, None)))(jax.random.split(KEY, 200), x)
    where = [next(at for at, window in windows.items() if np.array_equal(window, one)) for one in np.asarray(found)]
    assert set(where) == set(windows)


def test_crops_are_enlarged_windows():
    x = float32_image()
    key = jax.random.key(4)
    found = np.asarray(jax.jit(transform.crop(0.7))(key, x))
    windows = np.stack([np.asarray(x)[i : i + 4, j : j + 5] for i, j in np.ndindex(3, 3)])
    enlarged = np.asarray(jax.jit(lambda windows: jax.image.resize(windows, (9, *SHAPE), "linear"))(windows))
    assert min(np.abs(found - one).max() for one in enlarged) < 1e-6
    np.testing.assert_allclose(jax.jit(transform.crop(1.0))(key, x), x, atol=1e-6)


def test_noise_and_brightness():
    x = float32_image()
    both = jax.jit(lambda key: (transform.noise(0.1)(key, x), transform.brightness(0.2)(key, x)))
    added, lighter = (np.asarray(each) - x for each in jax.vmap(both)(jax.random.split(KEY, 300)))
    np.testing.assert_allclose(np.std(added), 0.1, rtol=0.02)
    np.testing.assert_allclose(np.mean(added), 0, atol=0.003)
    np.testing.assert_allclose(np.ptp(lighter, axis=(1, 2, 3)), 0, atol=1e-6)
    assert np.abs(lighter).max() <= 0.2
    np.testing.assert_allclose(np.std(lighter[:, 0, 0, 0]), 0.2 / np.sqrt(3), rtol=0.1)


ALL = {
    "jitter": transform.jitter(1),
    "shift": transform.shift(1),
    "scale": transform.scale(0.9, 1.2),
    "rotate": transform.rotate(10),
    "crop": transform.crop(0.8),
    "noise": transform.noise(0.1),
    "brightness": transform.brightness(0.1),
    "chain": chain(transform.shift(1), transform.noise(0.1)),
    "nothing": chain(),
}


@jax.jit
def all_of_them(key, x):
    """All at once: a program of one of them takes as long to compile."""
    return {name: tau(key, x) for name, tau in ALL.items()}


def test_what_every_transformation_keeps():
    x = float32_image()
    slopes = jax.jit(
        lambda x: {
            name: jax.value_and_grad(lambda x, tau=tau: jnp.sum(tau(KEY, x) ** 2))(x) for name, tau in ALL.items()
        }
    )(x)
    keys = jax.random.split(KEY, 3)
    alone, again = [all_of_them(key, x) for key in keys], all_of_them(keys[0], x)
    many = jax.jit(jax.vmap(all_of_them, in_axes=(0, None)))(keys, x)
    for name in ALL:
        assert all(np.isfinite(leaf).all() for leaf in slopes[name]), name
        assert (again[name].shape, again[name].dtype) == (x.shape, x.dtype), name
        assert_same(alone[0][name], again[name])
        for one, each in zip(alone, many[name], strict=True):
            np.testing.assert_allclose(one[name], each, atol=1e-6, err_msg=name)
        if name != "nothing":
            assert np.abs(many[name][0] - many[name][1]).max() > 1e-4, name


def test_a_chain_is_applied_in_order():
    first, second = jax.random.split(KEY)
    x = float32_image()
    expected = transform.noise(0.1)(second, transform.shift(1)(first, x))
    np.testing.assert_array_equal(ALL["chain"](KEY, x), expected)
    np.testing.assert_array_equal(chain()(KEY, x), x)


# Ensembles


def draws(ensemble, step=0):
    return np.asarray(jax.random.key_data(ensemble.keys(jnp.asarray(ensemble.bits()), step)))


def test_which_transformations_are_drawn():
    tau = transform.shift(1)
    same, other = anew(tau, KEY, draws=3), anew(tau, jax.random.key(4), draws=3)
    assert same == anew(tau, KEY, draws=3)
    assert hash(same) == hash(anew(tau, KEY, draws=3))
    assert same != other
    np.testing.assert_array_equal(draws(same, 5), draws(same, 5))
    each = [row.tobytes() for step in range(4) for row in np.concatenate([draws(same, step), draws(other, step)])]
    assert len(set(each)) == 24
    keys = jax.random.split(KEY, 5)
    once = fixed(tau, keys)
    np.testing.assert_array_equal(draws(once, 0), draws(once, 9))
    assert once.draws == len(draws(once)) == 5
    assert once == fixed(tau, jax.random.key_data(keys))


def test_points_are_spread_evenly():
    tau = chain(transform.shift(1), transform.scale(0.9, 1.1))
    ensemble = transform.spread(tau, KEY, 16)
    points = ensemble.bits()
    assert points.shape == (16, 3)
    for column in np.sort(points, axis=0).T:  # independent ones leave gaps of a fifth
        assert np.diff(np.append(column, column[0] + 1)).max() < 2.5 / 16
    assert ensemble == transform.spread(tau, KEY, 16) != transform.spread(tau, jax.random.key(9), 16)
    with pytest.raises(TypeError, match="transformation must be drawn from a few uniform numbers"):
        transform.spread(chain(tau, transform.noise(1)), KEY, 16)


def test_points_say_which_transformations():
    x, u = float32_image(), jnp.asarray([0.3, 0.8, 0.6])
    tau = chain(transform.shift(1), transform.scale(0.9, 1.1))
    expected = transform.scale(0.9, 1.1).at(u[2:], transform.shift(1).at(u[:2], x))
    np.testing.assert_array_equal(tau.at(u, x), expected)
    np.testing.assert_array_equal(tau(KEY, x), tau.at(jax.random.uniform(KEY, (3,)), x))


def test_any_generator_will_do():
    ensemble = fixed(transform.shift(1), jax.random.split(jax.random.key(0, impl="rbg"), 2))
    assert draws(ensemble).shape == (2, 2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fixed(3, jax.random.split(KEY, 2)), TypeError, "transformation must be a function"),
        (lambda: fixed(abs, KEY), ValueError, "keys must be a vector of keys"),
        (lambda: anew(abs, jax.random.split(KEY, 2)), ValueError, "key must be a single key"),
        (lambda: anew(abs, KEY, draws=0), ValueError, "draws must be at least 1, got 0"),
        (lambda: transform.scale(0, 1), ValueError, "scale must be positive and rise, got 0 to 1"),
        (lambda: transform.crop(1.2), ValueError, "share must be positive and rise, got 1.2"),
        (lambda: transform.jitter(1.5), TypeError, "pixels must be a positive integer, got 1.5"),
        (lambda: mean_response(F, anew(abs, KEY)), ValueError, r"ensemble must be made by transform\.fixed"),
        (lambda: mean_response(abs, fixed(abs, KEY[None])), ValueError, r"f must be made by jifv\.compose"),
    ],
)
def test_bad_ensembles_are_named(make, error, message, unchecked):
    with pytest.raises(error, match=message):
        make()


# Visualization and inversion under transformations, of a small smooth network.

PHI = jifv.pixels(SHAPE, std=0.5)
WEIGHTS = np.random.default_rng(0).normal(size=(20, 84)) / 9, np.random.default_rng(1).normal(size=(4, 20)) / 5


def network(x):
    hidden = jnp.asarray(WEIGHTS[0], x.dtype) @ x.ravel()
    mix = jnp.asarray(WEIGHTS[1], x.dtype)
    return 1 + jnp.tanh(mix @ jnp.sin(3 * hidden)) + jnp.sin(mix @ jnp.cos(2 * hidden)) / 2


F = jifv.compose(PHI.apply, network, jifv.identity)
TAU = chain(transform.shift(1), transform.scale(0.9, 1.1))
FOUR = fixed(TAU, jax.random.split(jax.random.key(5), 4))
MANY = anew(TAU, KEY, draws=2)
FEW = jifv.Settings(adam_steps=6, lbfgs_steps=0)


def problem(count=2):
    targets = jifv.sparse_objectives(jax.random.key(1), count, 4)
    return jax.vmap(PHI.init)(jax.random.split(jax.random.key(2), count)), targets


def responses(p, ensemble=FOUR, step=0):
    """r_τ, one after the other."""
    keys = ensemble.keys(jnp.asarray(ensemble.bits()), step)
    return np.stack([transformed(key, p) for key in keys])


@jax.jit
def transformed(key, p):
    return network(TAU(key, PHI.apply(p)))


def test_the_mean_response(x64):
    (p, *_), _ = problem()
    mean = mean_response(F, FOUR)
    response, jacobian = jax.jit(lambda p: jifv.linearize(mean, p))(p)
    for found in (jax.jit(mean)(p), response):
        np.testing.assert_allclose(found, responses(p).mean(0), rtol=1e-10)
    slow = jax.jit(jax.jacobian(transformed, argnums=1))
    expected = np.mean([slow(key, p) for key in FOUR.keys(jnp.asarray(FOUR.bits()))], 0)
    np.testing.assert_allclose(jacobian, expected.reshape(4, -1), rtol=1e-8, atol=1e-12)


def test_what_is_maximized_is_the_mean_over_the_draws(x64):
    parameters, targets = problem()
    d = jifv.Significance()
    for ensemble in (FOUR, MANY):
        state = start(F, parameters, targets, transformations=ensemble, settings=FEW)
        for step in (0, 2):
            found = finish(F, advance(F, state, step))
            for i in range(2):
                r = jnp.asarray(responses(found.parameters[i], ensemble, step))
                np.testing.assert_allclose(found.value[i], np.mean([d(one, targets[i]) for one in r]), rtol=1e-6)
                np.testing.assert_allclose(found.response[i], r.mean(0), rtol=1e-6)


@pytest.fixture(scope="module")
def realized():
    with jax.enable_x64(True):
        parameters, targets = problem()
        settings = jifv.Settings(adam_steps=60, lbfgs_steps=200)
        return targets, jifv.visualize(F, parameters, targets, transformations=FOUR, settings=settings)


def test_objectives_come_back(realized, x64):
    targets, found = realized
    ignored = jifv.invert_batch(F, found.parameters, significance=found.significance)
    assert (jifv.angle(ignored.objective, targets) > 1).all()
    angles = [np.max(jifv.angle(jifv.invert_batch(F, found, rounds=n).objective, targets)) for n in (1, 2, 4)]
    assert angles[0] > angles[1] > angles[2]
    assert angles[2] < 0.05
    # Given as transformations, not carried: the same.
    again = jifv.invert_batch(F, found.parameters, significance=found.significance, transformations=FOUR)
    np.testing.assert_allclose(again.objective, jifv.invert_batch(F, found).objective, atol=1e-10)


def test_the_mean_response_has_an_inversion_of_its_own(x64):
    parameters, targets = problem()
    mean = mean_response(F, FOUR)
    found = jifv.visualize(mean, parameters, targets, settings=jifv.Settings(adam_steps=60, lbfgs_steps=200))
    assert (jifv.angle(jifv.invert_batch(mean, found).objective, targets) < 0.05).all()


def test_priors_and_transformations_together(x64):
    parameters, targets = problem()
    prior = jifv.priors.smoothness(2)
    options = {"transformations": FOUR, "priors": [prior], "settings": jifv.Settings(adam_steps=60, lbfgs_steps=200)}
    found = jifv.visualize(F, parameters, targets, **options)
    inversion = jifv.invert_batch(F, found, rounds=4)
    assert (jifv.angle(inversion.objective, targets) < 0.1).all()
    np.testing.assert_allclose(inversion.weights.value, 2, rtol=0.01)


def test_a_run_that_draws_anew_goes_on_as_if_not_interrupted(tmp_path, x64):
    parameters, targets = problem()
    begin = start(F, parameters, targets, transformations=MANY, settings=FEW)
    whole = finish(F, advance(F, begin))
    save_state(tmp_path / "state", advance(F, begin, 3))
    assert_same(finish(F, advance(F, load_state(tmp_path / "state", begin))), whole)
    assert_same(whole, jifv.visualize(F, parameters, targets, transformations=MANY, settings=FEW))
    other = start(F, parameters, targets, transformations=anew(TAU, jax.random.key(8), draws=2), settings=FEW)
    with pytest.raises(ValueError, match="was written with transformations"):
        load_state(tmp_path / "state", other)
    with pytest.raises(ValueError, match="was written with transformations"):
        load_state(tmp_path / "state", start(F, parameters, targets, settings=FEW))
    assert np.abs(finish(F, advance(F, other)).parameters - whole.parameters).max() > 1e-3
    # Samples have the same draws, whatever the batch.
    alone = jifv.visualize(F, parameters[1:], targets[1:], transformations=MANY, settings=FEW)
    np.testing.assert_allclose(alone.parameters[0], whole.parameters[1], atol=1e-4)


def test_what_cannot_be_done_is_refused_before_anything_is_compiled(unchecked):
    parameters, targets = problem()
    many = anew(TAU, KEY)

    def visualize(f=F, **options):
        return jifv.visualize(f, parameters, targets, **options)

    with pytest.raises(ValueError, match="settings must have lbfgs_steps=0 where every step draws"):
        visualize(transformations=many, settings=jifv.visualization.PAPER)
    with pytest.raises(ValueError, match=r"f must be made by jifv\.compose for transformations"):
        visualize(lambda p: F(p), transformations=FOUR)
    with pytest.raises(TypeError, match=r"transformations must be made by transform\.fixed, spread or anew"):
        visualize(transformations=TAU)
    with pytest.raises(ValueError, match="a transformation must keep the shape of the image"):
        visualize(transformations=fixed(lambda key, x: x[1:], KEY[None]))
    given = {"significance": jifv.Significance()}
    with pytest.raises(ValueError, match="transformations must be given, such as"):
        jifv.invert_batch(F, parameters, transformations=many, **given)
    with pytest.raises(ValueError, match="basis must be None with transformations"):
        jifv.invert_batch(F, parameters, transformations=FOUR, basis=np.eye(4), **given)
    with pytest.raises(ValueError, match="rounds must be at least 1"):
        jifv.invert_batch(F, parameters, transformations=FOUR, rounds=0, **given)
