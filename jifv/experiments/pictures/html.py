"""Pictures and tables for notebooks."""

from collections.abc import Sequence
from html import escape

import numpy as np
from jaxtyping import Float

from jifv._core.html import table
from jifv.experiments.report.embed import PIXEL_ART, encoded

__all__ = ["strip", "table"]

_MOST = 32


def strip(images: Float[np.ndarray, "s h w c"], names: Sequence[str]) -> str:
    """Show images side by side, with their names below."""
    figures = []
    for image, name in zip(images[:_MOST], names, strict=False):
        data = encoded(image)
        how = ' style="image-rendering:pixelated"' if max(image.shape[:2]) <= PIXEL_ART else ""
        shown = f'<img src="data:image/webp;base64,{data}" width="112"{how}>' if data else "not finite"
        caption = f"<figcaption>{escape(name)}</figcaption>"
        figures.append(f'<figure style="display:inline-block;margin:4px 16px 4px 4px">{shown}{caption}</figure>')
    more = f"<p>and {len(images) - _MOST} more</p>" if len(images) > _MOST else ""
    return f"<div>{''.join(figures)}{more}</div>"
