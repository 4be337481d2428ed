"""Self-contained pages: a template with its style and script, and data, among them thumbnails, as JSON within."""

import base64
import io
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from jifv.experiments.report.picture import picture

PIXEL_ART = 48
"""Images up to this size keep every pixel."""

SIDE = 96
"""Of a thumbnail, in pixels."""

_PARTS = {"@STYLE@": "style.css", "@COMMON@": "common.js"}
"""What all pages share, by its placeholder."""


def write(path: str | Path, template: str, data: Mapping[str, Any]) -> None:
    """Write a page: a template of this folder with its data."""
    folder = resources.files("jifv.experiments.report")
    text = folder.joinpath(template).read_text(encoding="utf-8")
    for placeholder, name in _PARTS.items():
        text = text.replace(placeholder, folder.joinpath(name).read_text(encoding="utf-8"), 1)
    before, _, after = text.partition("@DATA@")
    # Within <script> nothing but "<" can end the element or open a comment.
    inside = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    Path(path).write_text(before + inside + after, encoding="utf-8", newline="")


def encoded(image: Float[np.ndarray, "h w c"], coarseness: float = 1.0, *, side: int = SIDE) -> str | None:
    """Encode an image as WebP in base64; None where it is not finite.

    Args:
        image: An image, or a frame.
        coarseness: 1 or more, which costs small images depth of colour, and the others size.
        side: Largest side that is not small.
    """
    if not np.isfinite(image).all():
        return None
    values = np.clip(picture(image), 0, 1)
    longest = max(image.shape[:2])
    file = io.BytesIO()
    if longest <= PIXEL_ART:
        levels = 2 ** max(3, int(8 / coarseness)) - 1
        _image(np.round(values * levels) / levels).save(file, "WEBP", lossless=True)
    else:
        scale = min(1, max(32, side / coarseness**0.5) / longest)
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        _image(values).resize(size, Image.Resampling.LANCZOS).save(file, "WEBP", quality=84)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _image(values: Float[np.ndarray, "h w 3"]) -> Image.Image:
    return Image.fromarray(np.round(values * 255).astype(np.uint8))


def numbers(values: Float[np.ndarray, " s"], *, digits: int = 6) -> list[float | None]:
    """Shorten numbers; what is not finite becomes null."""
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in values]
