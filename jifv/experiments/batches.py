"""What every stage of a run needs for its batches: equal sizes, usable objectives, times, an identity, and how."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any, TypedDict

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from jifv._core.provenance import commit
from jifv.models import Network
from jifv.models.networks import frames


class Circumstances(TypedDict):
    """How a batch was computed."""

    devices: int
    commit: str | None


def surroundings(network: Network) -> dict[str, Any]:
    """List what decides the numbers of a run besides its options: the weights, and what computes. See `Store.open`.

    The commit is not part of it: a fix elsewhere must not strand a long run. Every batch carries its own instead.
    """
    return {
        "weights": network.digest,
        "versions": {name: metadata.version(name) for name in ("jifv", "jax", "jaxlib")},
        "device": jax.devices()[0].device_kind,
        "float64": jax.dtypes.canonicalize_dtype(np.float64) == np.float64,
    }


def circumstances(mesh: Mesh | None) -> Circumstances:
    """Say how a batch is computed: on how many devices, and by which version of the code. See `Store.write`."""
    code = commit()
    return {"devices": 1 if mesh is None else mesh.size, "commit": str(code) if code else None}


def padded(size: int, *arrays: Any) -> tuple[Any, ...]:
    """Repeat the last row of each array up to a number of rows: one shape, and so one compilation."""
    rows = np.minimum(np.arange(size), len(arrays[0]) - 1)
    return tuple(array[rows] for array in arrays)


def usable(wanted: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    """Normalize objectives; replace those that are zero or not finite by the fallback, whose result is discarded."""
    length = np.linalg.norm(wanted, axis=-1, keepdims=True)
    good = np.isfinite(length) & (length > 0)
    return np.where(good, wanted / np.where(good, length, 1), fallback)


def in_unit_range(images: Array) -> Array:
    """Map inputs to images with values in [0, 1]."""
    return frames.to_unit_range(images) if frames.is_frame(images.shape[-1]) else images


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Write down the wall-clock seconds of the `with` block under a name."""
    began = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - began
