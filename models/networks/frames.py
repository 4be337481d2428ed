"""The channels of a frame: what a renderer makes of a surface, and what SRNet takes and returns.

=====  =================  =====================================================  =======  ==========
index  channel            meaning                                                range    background
=====  =================  =====================================================  =======  ==========
0      mask               +1 where the ray of the pixel meets the surface        [-1, 1]  -1
1–3    normal x, y, z     unit vector in screen space, toward the viewer: z > 0  [-1, 1]  0
4      depth              0 at the near end of the scene, 1 at the far end       [0, 1]   0
5      ambient occlusion  cosine-weighted share of the sky that is open          [0, 1]   1
=====  =================  =====================================================  =======  ==========

In screen space x points right, y up and z toward the viewer. A low-resolution frame has the first five channels, a
high-resolution frame all six.
"""

from typing import TypeVar

import jax
import numpy as np

INPUT_CHANNELS = ("mask", "normal x", "normal y", "normal z", "depth")
"""Channels of a low-resolution frame."""
OUTPUT_CHANNELS = (*INPUT_CHANNELS, "ambient occlusion")
"""Channels of a high-resolution frame."""
RANGES = ((-1.0, 1.0), (-1.0, 1.0), (-1.0, 1.0), (-1.0, 1.0), (0.0, 1.0), (0.0, 1.0))
"""Lowest and highest value of each channel."""

MASK, NORMAL, DEPTH, OCCLUSION = 0, slice(1, 4), 4, 5
"""Indices along the last axis of a frame."""

Frames = TypeVar("Frames", np.ndarray, jax.Array)


def is_frame(channels: int) -> bool:
    """Return whether an input with this many channels is a frame rather than an image."""
    return channels in (len(INPUT_CHANNELS), len(OUTPUT_CHANNELS))


def to_unit_range(frames: Frames) -> Frames:
    """Map every channel to [0, 1], as images have it.

    Args:
        frames: Frames (…, 5) or (…, 6), NumPy's or JAX's.

    Raises:
        ValueError: If there is another number of channels.
    """
    if not is_frame(frames.shape[-1]):
        raise ValueError(f"frames must have 5 or 6 channels, got shape {frames.shape}")
    low, high = np.array(RANGES[: frames.shape[-1]], frames.dtype).T
    return (frames - low) / (high - low)
