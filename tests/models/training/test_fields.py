from functools import cache

import jax
import numpy as np
import pytest

from jifv.models.training import fields

GENERATORS = {
    "marschner_lobb": lambda key, size: fields.marschner_lobb(size),
    "gyroid": lambda key, size: fields.gyroid(size, key=key),
    "metaballs": fields.metaballs,
    "fractal_noise": lambda key, size: fields.fractal_noise(key, size, octaves=2),
}
RANDOM = sorted(GENERATORS.keys() - {"marschner_lobb"})


def coordinates(size):
    """x, y, z of each voxel in float64, in grids [z, y, x]."""
    axis = np.linspace(-1, 1, size)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return x, y, z


@cache
def generated(name):
    """A compiled generator of grids of 9³ from keys."""
    return jax.jit(lambda key: GENERATORS[name](key, 9))


@pytest.mark.parametrize("name", GENERATORS)
def test_grids_are_float32_in_the_unit_interval(name):
    field = np.asarray(generated(name)(jax.random.key(1)))
    assert field.shape == (9, 9, 9)
    assert field.dtype == np.float32
    assert field.min() >= -1e-6
    assert field.max() <= 1 + 1e-6
    assert np.ptp(field) > 0.5


def test_grids_are_float32_under_x64(x64):
    for generate in GENERATORS.values():
        assert jax.eval_shape(lambda key, generate=generate: generate(key, 4), jax.random.key(1)).dtype == np.float32


@pytest.mark.parametrize("name", RANDOM)
def test_the_key_decides(name):
    first, again, other = (np.asarray(generated(name)(jax.random.key(seed))) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


@pytest.mark.parametrize(("frequency", "amplitude"), [(6.0, 0.25), (2.0, 1.0)])
def test_marschner_lobb_is_its_formula(frequency, amplitude):
    x, y, z = coordinates(12)
    ripples = np.cos(2 * np.pi * frequency * np.cos(np.pi * np.sqrt(x**2 + y**2) / 2))
    expected = (1 - np.sin(np.pi * z / 2) + amplitude * (1 + ripples)) / (2 * (1 + amplitude))
    actual = fields.marschner_lobb(12, frequency=frequency, amplitude=amplitude)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_gyroid_is_its_formula():
    x, y, z = (np.pi * 1.5 * axis for axis in coordinates(11))
    expected = 0.5 + (np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x)) / 3
    np.testing.assert_allclose(fields.gyroid(11, periods=1.5), expected, atol=1e-5)


def test_gyroid_repeats_whatever_its_phases():
    field = np.asarray(fields.gyroid(17, periods=2.0, key=jax.random.key(3)))
    for axis in range(3):
        np.testing.assert_allclose(np.take(field, range(9), axis), np.take(field, range(8, 17), axis), atol=1e-5)


def test_metaballs_are_a_sum_of_gaussians():
    """A Gaussian over a grid is one up to a factor if and only if its logarithm is a quadratic of one curvature."""
    field = np.asarray(fields.metaballs(jax.random.key(0), 33, count=1), np.float64)
    z, y, x = np.unravel_index(field.argmax(), field.shape)
    box = np.log(field[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3])
    curvatures = np.concatenate([np.diff(box, 2, axis=axis).ravel() for axis in range(3)])
    assert curvatures.max() < 0
    np.testing.assert_allclose(curvatures, curvatures.mean(), rtol=1e-3)
    mixed = np.diff(np.diff(box, axis=0), axis=1)
    np.testing.assert_allclose(mixed, 0, atol=1e-5)
    deviation = (2 / 32) / np.sqrt(-curvatures.mean())
    assert 0.1 <= deviation <= 0.25


def test_metaballs_grow_with_their_count():
    few, many = ((np.asarray(fields.metaballs(jax.random.key(0), 33, count=count)) > 0.2).mean() for count in (1, 40))
    assert many > 3 * few


def test_fractal_noise_of_one_octave_is_a_cubic_spline():
    """Of one cell along each axis: the fourth difference of a cubic is zero."""
    field = np.asarray(fields.fractal_noise(jax.random.key(0), 12, octaves=1, cells=1), np.float64)
    for axis in range(3):
        assert np.abs(np.diff(field, 1, axis=axis)).max() > 1e-2
        np.testing.assert_allclose(np.diff(field, 4, axis=axis), 0, atol=1e-5)


def test_fractal_noise_roughens_with_octaves_and_persistence():
    def roughness(**options):
        field = np.asarray(fields.fractal_noise(jax.random.key(4), 24, **options))
        return np.abs(np.diff(field, 2, axis=0)).mean()

    assert roughness(octaves=1) < roughness(octaves=3, persistence=0.3) < roughness(octaves=3, persistence=0.8)


@pytest.mark.parametrize("generate", [fields.marschner_lobb, fields.gyroid])
def test_size_is_checked(generate, unchecked):
    with pytest.raises(ValueError, match=r"size must be at least 2.*got 1"):
        generate(1)
    with pytest.raises(TypeError, match="size must be a positive integer"):
        generate(8.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda key: fields.marschner_lobb(8, frequency=-1.0), "frequency must be finite and >= 0"),
        (lambda key: fields.marschner_lobb(8, amplitude=float("nan")), "amplitude must be finite and >= 0"),
        (lambda key: fields.gyroid(8, periods=-2.0), "periods must be finite and >= 0"),
        (lambda key: fields.metaballs(key, 1), "size must be at least 2"),
        (lambda key: fields.metaballs(key, 8, count=0), "count must be at least 1"),
        (lambda key: fields.fractal_noise(key, 1), "size must be at least 2"),
        (lambda key: fields.fractal_noise(key, 8, octaves=0), "octaves must be at least 1"),
        (lambda key: fields.fractal_noise(key, 8, cells=0), "cells must be at least 1"),
        (lambda key: fields.fractal_noise(key, 8, persistence=-0.5), "persistence must be finite and >= 0"),
    ],
)
def test_arguments_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call(jax.random.key(0))


# Volumes of a file.


def write(path, **volumes):
    np.savez_compressed(path, **volumes)
    return path


def test_volumes_are_values_over_255(tmp_path):
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (4, 5, 6), np.uint8), rng.integers(0, 256, (2, 2, 2), np.uint8)
    volumes = fields.read_volumes(write(tmp_path / "v.npz", first=first, second=second))
    assert list(volumes) == ["first", "second"]
    np.testing.assert_allclose(volumes["first"], first / 255, rtol=1e-6)
    assert volumes["second"].dtype == np.float32


def test_volumes_are_reduced_by_the_mean_of_blocks(tmp_path):
    rng = np.random.default_rng(0)
    large, small = rng.integers(0, 256, (12, 6, 9), np.uint8), rng.integers(0, 256, (5, 4, 3), np.uint8)
    volumes = fields.read_volumes(write(tmp_path / "v.npz", large=large, small=small), longest=5)
    expected = np.empty((4, 2, 3))
    for z, y, x in np.ndindex(4, 2, 3):
        expected[z, y, x] = large[3 * z : 3 * z + 3, 3 * y : 3 * y + 3, 3 * x : 3 * x + 3].mean() / 255
    np.testing.assert_allclose(volumes["large"], expected, rtol=1e-6)
    assert volumes["small"].shape == (5, 4, 3)


def test_a_constant_volume_stays_constant(tmp_path):
    volumes = fields.read_volumes(write(tmp_path / "v.npz", ones=np.full((8, 8, 8), 255, np.uint8)), longest=2)
    np.testing.assert_array_equal(volumes["ones"], np.ones((2, 2, 2), np.float32))


def test_unfit_volumes_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        fields.read_volumes(tmp_path / "none.npz")
    path = write(tmp_path / "float.npz", density=np.zeros((2, 2, 2)))
    with pytest.raises(TypeError, match="volume density must be uint8, got float64"):
        fields.read_volumes(path)
    path = write(tmp_path / "flat.npz", flat=np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"volume flat must have three axes, got shape \(2, 2\)"):
        fields.read_volumes(path)
    path = write(tmp_path / "odd.npz", odd=np.zeros((8, 8, 7), np.uint8))
    with pytest.raises(ValueError, match=r"volume odd must have axes that 2 divides, .* got shape \(8, 8, 7\)"):
        fields.read_volumes(path, longest=4)
    with pytest.raises(ValueError, match="longest must be at least 1"):
        fields.read_volumes(path, longest=0)


def test_a_pickle_is_refused(tmp_path):
    path = write(tmp_path / "pickle.npz", volume=np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle"):
        fields.read_volumes(path)


def test_the_reference_volumes(shared):
    volumes = fields.read_volumes(shared / "data" / "volumes.npz", longest=64)
    assert {name: volume.shape for name, volume in volumes.items()} == {
        "richtmyer_meshkov": (64, 64, 64),
        "c60": (64, 64, 64),
    }
    for volume in volumes.values():
        assert 0 <= volume.min() < 0.1
        assert 0.8 < volume.max() <= 1
