import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jifv.models.networks.frames import (
    DEPTH,
    INPUT_CHANNELS,
    MASK,
    NORMAL,
    OCCLUSION,
    OUTPUT_CHANNELS,
    RANGES,
    is_frame,
    to_unit_range,
)
from jifv.parametrize import geometry


def test_indices_name_the_channels():
    assert OUTPUT_CHANNELS[MASK] == "mask"
    assert OUTPUT_CHANNELS[NORMAL] == ("normal x", "normal y", "normal z")
    assert OUTPUT_CHANNELS[DEPTH] == "depth"
    assert OUTPUT_CHANNELS[OCCLUSION] == "ambient occlusion"
    assert OUTPUT_CHANNELS[:5] == INPUT_CHANNELS
    assert len(OUTPUT_CHANNELS) == len(RANGES) == 6
    assert [channels for channels in range(10) if is_frame(channels)] == [5, 6]


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_to_unit_range(array, dtype):
    frames = np.array([[-1, -1, -1, -1, 0, 0], [0, 0, 0, 0, 0.5, 0.25], [1, 1, 1, 1, 1, 1]], dtype)
    expected = np.array([[0] * 6, [0.5] * 5 + [0.25], [1] * 6])
    for channels in (5, 6):
        found = to_unit_range(array(frames[:, :channels]))
        assert isinstance(found, type(array(frames)))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected[:, :channels])
    np.testing.assert_array_equal(jax.jit(to_unit_range)(jnp.asarray(frames)), expected)


def test_images_are_no_frames():
    with pytest.raises(ValueError, match=r"frames must have 5 or 6 channels, got shape \(2, 2, 3\)"):
        to_unit_range(np.zeros((2, 2, 3)))


@pytest.mark.parametrize("mask", ["fixed", "continuous"])
def test_the_parametrization_of_geometry_makes_such_frames(mask):
    """The path knows the channels too, and may not import them from here: its frames keep to the table."""
    phi = geometry((3, 4), mask=mask)
    rng = np.random.default_rng(0)
    shape = phi.init(jax.random.key(0)).shape
    frames = np.stack([phi.apply(jnp.asarray(5 * rng.normal(size=shape), jnp.float32)) for _ in range(20)])
    assert frames.shape[-1] == len(INPUT_CHANNELS)
    for channel, (low, high) in zip(np.moveaxis(frames, -1, 0), RANGES, strict=False):
        assert low <= channel.min() <= channel.max() <= high
    np.testing.assert_allclose(np.linalg.norm(frames[..., NORMAL], axis=-1), 1, atol=1e-5)
    assert (frames[..., NORMAL][..., 2] > 0).all()
    assert frames[..., DEPTH].max() > 0.9
    assert (frames[..., MASK] == 1).all() == (mask == "fixed")
