from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ellipsoids import ellipsoid, tiny_pairs

from jifv.models.training import pairs
from jifv.models.training.isosurface import render_surface
from jifv.models.training.pairs import (
    all_fields,
    augment,
    cached,
    dataset,
    pair,
    random_views,
    render_pairs,
    turn,
)

# Augmentation.

# What `turn` does to the geometry: mirror x, mirror y, then right ↔ down.
_SYMMETRIES = (np.diag([-1, 1, 1]), np.diag([1, -1, 1]), np.array([[0, -1, 0], [-1, 0, 0], [0, 0, 1]]))


turned = jax.jit(turn)


@settings(max_examples=16)
@given(
    which=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    seed=st.integers(0, 99),
    channels=st.sampled_from([5, 6]),
)
def test_turning_the_frame_turns_the_geometry(which, seed, channels):
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    symmetry = np.eye(3)
    for applied, matrix in zip(which, _SYMMETRIES, strict=True):
        symmetry = matrix @ symmetry if applied else symmetry
    frame = ellipsoid(16, rotation, channels=channels)
    assert 0.05 < (frame[..., 0] > 0).mean() < 0.9
    expected = ellipsoid(16, symmetry @ rotation, channels=channels)
    np.testing.assert_allclose(turned(frame, np.array(which)), expected, rtol=0, atol=1e-5)


def test_the_eight_turns_differ():
    frame = ellipsoid(8, np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0])
    eight = [np.asarray(turned(frame, np.array(which, bool))) for which in np.ndindex(2, 2, 2)]
    assert len({frame.tobytes() for frame in eight}) == 8


@pytest.mark.parametrize("crop", [4, 8])
def test_augmentation_treats_both_frames_alike(crop):
    """Each result is some crop and one of the eight turns of the pair, the same in both, and all of them occur."""
    pair = tiny_pairs(1, seed=3)
    count = 200
    low, high = (jnp.asarray(np.repeat(frames, count, 0)) for frames in pair[:2])
    out_low, out_high = jax.jit(augment, static_argnums=3)(jax.random.key(0), low, high, crop)
    assert out_low.shape == (count, crop, crop, 5)
    assert out_high.shape == (count, 4 * crop, 4 * crop, 6)
    assert out_low.dtype == out_high.dtype == np.float32
    known = {}
    for row in range(9 - crop):
        for column in range(9 - crop):
            for which in np.ndindex(2, 2, 2):
                cut = pair.low[0, row : row + crop, column : column + crop].astype(np.float32)
                fine = pair.high[0, 4 * row :, 4 * column :][: 4 * crop, : 4 * crop].astype(np.float32)
                cut, fine = (np.asarray(turned(frame, np.array(which, bool))) for frame in (cut, fine))
                known[fine.tobytes()] = cut
    seen = set()
    for cut, fine in zip(np.asarray(out_low), np.asarray(out_high), strict=True):
        np.testing.assert_array_equal(cut, known[fine.tobytes()])
        seen.add(fine.tobytes())
    assert len(seen) > 0.5 * len(known)
    again = jax.jit(augment, static_argnums=3)(jax.random.key(0), low, high, crop)
    np.testing.assert_array_equal(again[1], out_high)
    other = jax.jit(augment, static_argnums=3)(jax.random.key(1), low, high, crop)
    assert not np.array_equal(other[1], out_high)


# Data.


def test_fields(monkeypatch):
    analytic = all_fields(jax.random.key(0))
    for name, field in analytic.items():
        assert field.shape == (64, 64, 64), name
        assert -1e-6 < field.min() < field.max() < 1 + 1e-6, name
    assert len({field.tobytes() for field in analytic.values()}) == len(analytic)
    volume = np.zeros((2, 2, 2), np.float32)
    monkeypatch.setattr(pairs.fields, "read_volumes", lambda path, longest: {"c60": volume, path: longest})
    everything = all_fields(jax.random.key(0), Path("file.npz"))
    assert everything.keys() - analytic.keys() == {"c60", Path("file.npz")}
    assert everything[Path("file.npz")] == 128
    assert set(pairs.HELD_OUT) < set(everything)


def test_held_out_fields_are_not_trained_on(monkeypatch):
    calls = []

    def pretend(key, fields, count):
        calls.append((tuple(jax.random.key_data(key).tolist()), sorted(fields), count))
        return np.zeros((count, 32, 32, 5)), np.zeros((count, 128, 128, 6)), ["x"] * count

    monkeypatch.setattr(pairs, "dataset", pretend)
    sources = {name: np.zeros((2, 2, 2)) for name in "abc"}
    parts = render_pairs(jax.random.key(0), sources, ("b", "z"), 5, 3)
    assert [call[1:] for call in calls] == [(["a", "c"], 5), (["a", "c"], 3), (["b"], 3)]
    assert len({call[0] for call in calls}) == 3
    assert {name: len(part.low) for name, part in parts.items()} == {"training": 5, "cameras": 3, "fields": 3}
    for held_out in (("z",), ("a", "b", "c")):
        with pytest.raises(ValueError, match=r"held_out must name some of the fields a, b, c, not all, got \('"):
            render_pairs(jax.random.key(0), sources, held_out, 5, 3)


def test_pairs_are_rendered_once(tmp_path):
    path, calls = tmp_path / "folder" / "pairs.npz", []

    def make():
        calls.append(1)
        return {"training": tiny_pairs(3), "fields": tiny_pairs(2, seed=1)}

    first, again = cached(path, "options", make), cached(path, "options", make)
    assert len(calls) == 1
    assert first.keys() == again.keys() == {"training", "fields"}
    for part in first:
        for one, other in zip(first[part], again[part], strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="must be of options other, got options"):
        cached(path, "other", make)


def grid(function, size=8):
    """The field of a function of x, y, z."""
    axis = np.linspace(-1, 1, size)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return function(x, y, z).astype(np.float32)


VIEWED = grid(lambda x, y, z: np.exp(-((x - 0.3) ** 2) - y**2 - 2 * z**2))


def test_views_are_filled_and_decided_by_the_key():
    isovalues, cameras = random_views(jax.random.key(0), VIEWED, 12, isovalues=(0.2, 0.5))
    assert isovalues.shape == (12,)
    assert cameras.orientation.shape == (12, 3, 3)
    assert isovalues.min() >= 0.2
    assert isovalues.max() <= 0.5
    assert np.ptp(isovalues) > 0.05
    shares = []
    for index in range(12):
        camera = jax.tree.map(lambda leaf, index=index: leaf[index], cameras)
        shares.append((np.asarray(render_surface(VIEWED, isovalues[index], camera))[..., 0] > 0).mean())
    assert min(shares) >= 0.5
    fewer, _ = random_views(jax.random.key(0), VIEWED, 5, isovalues=(0.2, 0.5))
    np.testing.assert_array_equal(fewer, isovalues[:5])
    other, _ = random_views(jax.random.key(1), VIEWED, 5, isovalues=(0.2, 0.5))
    assert not np.isin(other, isovalues).any()


def test_views_have_isovalues_between_quantiles():
    isovalues, _ = random_views(jax.random.key(2), VIEWED, 30, filled=0.0)
    low, high = np.quantile(VIEWED, [0.3, 0.95])
    assert low <= isovalues.min()
    assert isovalues.max() <= high
    assert np.ptp(isovalues) > 0.7 * (high - low)


def test_views_that_cannot_be_filled():
    with pytest.raises(RuntimeError, match=r"only 0 of 32 views show the surface in 50% .* and 3 are needed.*\[2, 3\]"):
        random_views(jax.random.key(0), VIEWED, 3, isovalues=(2.0, 3.0), tries=2)


@pytest.mark.slow  # what it is made of has tests above
def test_dataset():
    scenes = {"blob": VIEWED, "waves": grid(lambda x, y, z: np.sin(2 * x + y) * np.cos(3 * z))}
    low, high, names = dataset(jax.random.key(0), scenes, 3, batch=2, dtype=np.float32)
    assert low.shape == (3, 32, 32, 5)
    assert high.shape == (3, 128, 128, 6)
    assert low.dtype == high.dtype == np.float32
    assert names == ["blob", "blob", "waves"]
    assert ((low[..., 0] > 0).mean((1, 2)) >= 0.5).all()
    isovalues, cameras = random_views(jax.random.fold_in(jax.random.key(0), 0), VIEWED, 2)
    expected_low, expected_high = pair(VIEWED, isovalues[1], jax.tree.map(lambda leaf: leaf[1], cameras))
    assert np.isclose(low[1], expected_low, atol=1e-4).mean() > 0.995
    assert np.isclose(high[1], expected_high, atol=1e-4).mean() > 0.995
    assert np.abs(high[0] - high[2]).max() > 0.1
    one = dataset(jax.random.key(0), scenes, 1, batch=2)
    assert one[2] == ["blob"]
    assert one[0].dtype == one[1].dtype == np.float16
    np.testing.assert_array_equal(one[0][0], low[0].astype(np.float16))
    np.testing.assert_array_equal(one[1][0], high[0].astype(np.float16))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: random_views(jax.random.key(0), VIEWED, 0), ValueError, "count must be at least 1"),
        (lambda: random_views(jax.random.key(0), VIEWED, 1, tries=0), ValueError, "tries must be at least 1"),
        (lambda: random_views(jax.random.key(0), VIEWED, 1, filled=2), ValueError, "filled must be at most 1"),
        (lambda: random_views(jax.random.key(0), VIEWED[0], 1), ValueError, "field must be a grid"),
        (
            lambda: random_views(jax.random.key(0), VIEWED, 1, isovalues=(0.6, 0.5)),
            ValueError,
            r"isovalues must be a range \(low, high\), got \(0.6, 0.5\)",
        ),
        (lambda: dataset(jax.random.key(0), {}, 4), ValueError, "sources must name at least one field"),
        (lambda: dataset(jax.random.key(0), {"a": VIEWED}, 0), ValueError, "count must be at least 1"),
        (lambda: dataset(jax.random.key(0), {"a": VIEWED}, 4, batch=0), ValueError, "batch must be at least 1"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
