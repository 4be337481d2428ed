"""Pictures as a network takes them: files or arrays of any size to floats (H, W, C) in the network's range.

The largest centred window of the network's proportions is cut out, and resized with antialiasing. `crop` is the side of
that window relative to the largest one: networks for ImageNet are used with 224 / 256. What has the network's size
already is left as it is, so that a visualization that was written to a file comes back pixel by pixel.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError

from jifv._core.check import check_nonnegative, check_range
from jifv.models.networks import frames

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings of the files that `read_picture` reads."""

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Those whose decoders start no other program."""


def load_picture(path: str | Path, shape: tuple[int, int, int], *, crop: float = 1.0) -> Float[np.ndarray, "H W C"]:
    """Read a picture as a network takes it: `load_picture("cat.jpg", network.input_shape, crop=network.crop)`.

    Args:
        path: A picture (PNG, JPEG, WebP, TIFF, BMP, GIF, PPM), or a `.npy` file with one array, see `fit_picture`. The
            orientation in its EXIF data is applied, what is transparent becomes white, grey becomes three equal
            channels, and of several pictures in a file the first one is taken.
        shape: (H, W, C) of the network's input.
        crop: See `fit_picture`.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no picture, is damaged or too large (`PIL.Image.MAX_IMAGE_PIXELS`), or see `fit_picture`.
    """
    if Path(path).suffix.lower() == ".npy":
        try:
            found = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} must hold an array of numbers: {error}") from None
        return fit_picture(found, shape, crop=crop, name=str(path))
    return fit_picture(read_picture(path), shape, crop=crop, name=str(path))


def fit_picture(
    picture: np.ndarray, shape: tuple[int, int, int], *, crop: float = 1.0, name: str = "picture"
) -> Float[np.ndarray, "H W C"]:
    """Cut and resize an array to the input of a network.

    Args:
        picture: (h, w, C), or grey (h, w) or (h, w, 1): bytes, or floats in the range of the network. A frame of SRNet
            must have its size, because the mean of normals is no normal.
        shape: (H, W, C) of the network's input.
        crop: Side of the window over that of the largest one, in (0, 1]. A picture of the network's size is left whole.
        name: How errors call the picture.

    Returns:
        Float32, (H, W, C).

    Raises:
        TypeError: The array holds something else than bytes and floats.
        ValueError: Its shape does not fit, a value is NaN or out of range, or `crop` is out of range.
    """
    check_nonnegative("crop", crop)
    if not 0 < crop <= 1:
        raise ValueError(f"crop must be in (0, 1], got {crop}")
    height, width, channels = shape
    kept: Any = picture[..., None] if picture.ndim == 2 else picture
    if kept.ndim == 3 and kept.shape[-1] == 1 and channels == 3:
        kept = np.repeat(kept, 3, -1)
    if kept.ndim != 3 or 0 in kept.shape or kept.shape[-1] != channels:
        what = "a frame" if frames.is_frame(channels) else "a picture"
        raise ValueError(f"{name} must be {what} of shape (h, w, {channels}), got {picture.shape}")
    values = _floats(kept, name, least=-1 if frames.is_frame(channels) else 0)
    if values.shape == shape:
        return values
    if frames.is_frame(channels):
        raise ValueError(
            f"{name} must have the network's size {height}×{width}, got {values.shape[0]}×{values.shape[1]}"
        )
    box = _window(values.shape[1], values.shape[0], width, height, crop)
    planes = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR, box))
        for plane in np.moveaxis(values, -1, 0)
    ]
    return np.clip(np.stack(planes, -1), 0, 1)


def read_picture(path: str | Path) -> np.ndarray:
    """Read a file as it is, upright and with three channels: bytes (h, w, 3), or floats for more than eight bits.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no picture, is damaged or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as file:
                file.load()
                return _upright(file)
    except UnidentifiedImageError:
        raise ValueError(f"{path} must be a picture ({', '.join(_FORMATS)}), got something else") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        most = Image.MAX_IMAGE_PIXELS
        raise ValueError(f"{path} must have at most {most} pixels (PIL.Image.MAX_IMAGE_PIXELS), got more") from None
    except MemoryError:
        raise
    except Exception as error:  # each decoder has errors of its own
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path} is damaged: {error}") from error


def _upright(image: Image.Image) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey
        return np.asarray(image).astype(np.float32) / 65535
    if image.mode == "F":
        return np.asarray(image)
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def _floats(values: np.ndarray, name: str, *, least: int) -> Float[np.ndarray, "h w c"]:
    if values.dtype == np.uint8:
        return values.astype(np.float32) / 255
    if values.dtype.kind != "f":
        raise TypeError(f"{name} must hold bytes or floats, got {values.dtype}")
    check_range(name, values, least, 1, "; divide bytes by 255")
    return np.clip(values.astype(np.float32), least, 1)


def _window(width: int, height: int, to_width: int, to_height: int, crop: float) -> tuple[float, float, float, float]:
    """Return the left, upper, right and lower edge of the centred window."""
    scale = min(width / to_width, height / to_height) * crop
    across, down = to_width * scale, to_height * scale
    left, top = (width - across) / 2, (height - down) / 2
    return max(0.0, left), max(0.0, top), min(float(width), left + across), min(float(height), top + down)
