"""Pictures as networks take them, against what they were written from, and Pillow's two steps of torchvision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jifv.models import fit_picture, load, load_picture

SHAPE = (12, 12, 3)
BYTES = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)


def saved(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tiff", ".ppm", ".webp"])
def test_picture_of_the_networks_size_comes_back_to_the_bit(tmp_path, ending):
    options = {"lossless": True} if ending == ".webp" else {}
    found = load_picture(saved(tmp_path / f"a{ending}", BYTES, **options), SHAPE, crop=0.5)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, BYTES.astype(np.float32) / 255)


def two_steps(array, side, before):
    """As torchvision: the shorter side to `before`, then the centre."""
    image = Image.fromarray(array)
    scale = before / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side))) / 255


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (32, 32), (320, 320)])
def test_shorter_side_is_resized_and_the_centre_cut_out(size):
    array = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = fit_picture(array, (28, 28, 3), crop=28 / 32)
    np.testing.assert_allclose(found, two_steps(array, 28, 32), atol=1.01 / 255)  # it rounds twice


@settings(max_examples=15)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.05, 1))
def test_any_size_fits_and_no_value_leaves_the_range(height, width, crop):
    array = np.random.default_rng(height).uniform(size=(height, width, 3)).astype(np.float32)
    found = fit_picture(array, (7, 9, 3), crop=crop)
    assert found.shape == (7, 9, 3)
    assert array.min() - 1e-6 <= found.min()
    assert found.max() <= array.max() + 1e-6


def test_window_is_centred_and_undistorted():
    array = np.zeros((30, 90, 3), np.float32)
    array[10:20, 40:50] = 1  # a square in the middle
    found = fit_picture(array, (30, 30, 3))[..., 0]
    np.testing.assert_array_equal(found, array[:, 30:60, 0])
    half = fit_picture(array, (30, 30, 3), crop=0.5)[..., 0]
    np.testing.assert_array_equal(half, half.T)
    assert half.mean() == pytest.approx(4 / 9, abs=0.02)


def test_orientation_of_the_camera_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    turned = load_picture(saved(tmp_path / "a.png", BYTES, exif=exif), SHAPE)
    np.testing.assert_array_equal(turned, np.rot90(BYTES, -1) / np.float32(255))


def test_grey_becomes_three_equal_channels_also_of_sixteen_bits(tmp_path):
    eight = load_picture(saved(tmp_path / "a.png", BYTES[..., 0]), SHAPE)
    deep = BYTES[..., 0].astype(np.uint16) * 257
    sixteen = load_picture(saved(tmp_path / "b.png", deep), SHAPE)
    for found in (eight, sixteen, fit_picture(BYTES[..., 0], SHAPE), fit_picture(BYTES[..., :1], SHAPE)):
        np.testing.assert_allclose(found, np.repeat(BYTES[..., :1], 3, -1) / 255, atol=1e-6)


def test_what_is_transparent_becomes_white(tmp_path):
    alpha = np.full((12, 12, 1), 255, np.uint8)
    alpha[:6] = 0
    found = load_picture(saved(tmp_path / "a.png", np.concatenate([BYTES, alpha], -1)), SHAPE)
    np.testing.assert_array_equal(found[:6], 1)
    np.testing.assert_allclose(found[6:], BYTES[6:] / 255, atol=1e-6)


def test_arrays_are_read_like_pictures(tmp_path):
    np.save(tmp_path / "a.npy", BYTES / 255)
    np.testing.assert_allclose(load_picture(tmp_path / "a.npy", SHAPE), BYTES / 255, atol=1e-6)


def test_networks_say_how_much_of_a_photograph_they_are_meant_to_see():
    assert load("densenet", layer="stem").crop == 1


# What is refused, by name.


def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(ValueError, match=r"a\.png must be a picture \(BMP, .*\), got something else"):
        load_picture(tmp_path / "a.png", SHAPE)
    (tmp_path / "a.npy").write_text("hello")
    with pytest.raises(ValueError, match=r"a\.npy must hold an array of numbers"):
        load_picture(tmp_path / "a.npy", SHAPE)
    with pytest.raises(FileNotFoundError):
        load_picture(tmp_path / "b.png", SHAPE)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp", ".webp"])
def test_truncated_picture_is_refused(tmp_path, ending):
    path = saved(tmp_path / f"a{ending}", BYTES)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=rf"a\{ending} is damaged"):
        load_picture(path, SHAPE)


@pytest.mark.parametrize("most", [100, 40])
def test_decompression_bomb_is_refused(tmp_path, monkeypatch, most):
    path = saved(tmp_path / "a.png", BYTES)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    with pytest.raises(ValueError, match=rf"a\.png must have at most {most} pixels"):
        load_picture(path, SHAPE)


def test_formats_that_start_other_programs_are_not_tried(tmp_path):
    Image.fromarray(BYTES).save(tmp_path / "a.eps")
    with pytest.raises(ValueError, match="must be a picture"):
        load_picture(tmp_path / "a.eps", SHAPE)


@pytest.mark.parametrize(
    ("picture", "error", "message"),
    [
        (np.full((12, 12, 3), np.nan), ValueError, r"mine must have values in \[0, 1\], got nan to nan"),
        (BYTES.astype(float), ValueError, r"mine must have values in \[0, 1\], got .* divide bytes by 255"),
        (BYTES.astype(int), TypeError, "mine must hold bytes or floats, got int64"),
        (BYTES[..., :2], ValueError, r"mine must be a picture of shape \(h, w, 3\), got \(12, 12, 2\)"),
        (BYTES[None], ValueError, r"mine must be a picture of shape \(h, w, 3\), got \(1, 12, 12, 3\)"),
        (BYTES[:0], ValueError, r"mine must be a picture of shape"),
    ],
)
def test_other_arrays_are_refused(picture, error, message):
    with pytest.raises(error, match=message):
        fit_picture(picture, SHAPE, name="mine")


@pytest.mark.parametrize("crop", [0, 1.1, -1, float("nan")])
def test_crops_that_are_no_part_are_refused(crop):
    with pytest.raises(ValueError, match="crop must be"):
        fit_picture(BYTES, SHAPE, crop=crop)


def test_frames_keep_their_units_and_their_size():
    frame = np.random.default_rng(0).uniform(-1, 1, (8, 8, 5)).astype(np.float32)
    np.testing.assert_array_equal(fit_picture(frame, (8, 8, 5)), frame)
    with pytest.raises(ValueError, match="frame must have the network's size 4×4, got 8×8"):
        fit_picture(frame, (4, 4, 5), name="frame")
    with pytest.raises(ValueError, match=r"picture must be a frame of shape \(h, w, 5\), got \(12, 12, 3\)"):
        fit_picture(BYTES, (12, 12, 5))
