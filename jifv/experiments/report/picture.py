"""Inputs of a network as pictures, for figures, pages and files."""

import numpy as np
from jaxtyping import Float

from jifv.models.networks import frames


def picture(images: Float[np.ndarray, "*batch h w c"]) -> Float[np.ndarray, "*batch h w 3"]:
    """Turn inputs of a network into pictures.

    Args:
        images: Images (…, h, w, c): grey (c = 1) or RGB (c = 3) in [0, 1], or frames of SRNet (c = 5 or 6: mask and
            normal in [-1, 1], and channels that are not shown).

    Returns:
        RGB (…, h, w, 3) in [0, 1]: images as they are, and the normals of frames (x is red, y green, z blue), darker
        where the mask covers less of a pixel. NaN is black.

    Raises:
        ValueError: There is another number of channels.
    """
    channels = images.shape[-1] if images.ndim >= 3 else 0
    if channels not in (1, 3) and not frames.is_frame(channels):
        raise ValueError(f"images must have shape (…, h, w, c) with 1, 3, 5 or 6 channels, got {images.shape}")
    shown = np.repeat(images, 3, -1) if channels == 1 else images
    if frames.is_frame(channels):
        unit = frames.to_unit_range(images)
        shown = unit[..., frames.NORMAL] * np.clip(unit[..., frames.MASK, None], 0, 1)
    return np.clip(np.nan_to_num(shown), 0, 1)
