"""Read CIFAR-10 (Krizhevsky 2009) from the official Python batches or from `.npz` files of packed JPEGs."""

import io
import pickle
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image


class Split(NamedTuple):
    """Images (uint8 RGB, 0–255) and their class indices (0–9, see `densenet.CLASSES`)."""

    images: UInt8[np.ndarray, "count 32 32 3"]
    labels: UInt8[np.ndarray, " count"]


def read(folder: str | Path) -> tuple[Split, Split]:
    """Read the training and the test split from a folder.

    Args:
        folder: Either the extracted official archive (`data_batch_1` … `data_batch_5`, `test_batch`), or a
            folder with `cifar10_jpeg_train.npz` and `cifar10_jpeg_test.npz` (`read_jpeg_pack`).

    Raises:
        FileNotFoundError: If the folder is neither; the message says which files were expected.
    """
    folder = Path(folder)
    if (folder / "data_batch_1").is_file():
        batches = [read_batch(folder / f"data_batch_{index}") for index in range(1, 6)]
        train = Split(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))
        return train, read_batch(folder / "test_batch")
    packs = folder / "cifar10_jpeg_train.npz", folder / "cifar10_jpeg_test.npz"
    if all(pack.is_file() for pack in packs):
        train, test = (read_jpeg_pack(pack) for pack in packs)
        return train, test
    raise FileNotFoundError(
        f"no CIFAR-10 in {folder}: expected the official data_batch_1 … data_batch_5 and test_batch, or "
        "cifar10_jpeg_train.npz and cifar10_jpeg_test.npz"
    )


def read_batch(path: str | Path) -> Split:
    """Read one official Python batch: a pickled dictionary with `data` (count, 3072) and `labels`."""
    with open(path, "rb") as file:
        batch = _ArrayUnpickler(file, encoding="bytes").load()
    images = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Split(np.ascontiguousarray(images), np.asarray(batch[b"labels"], np.uint8))


def read_jpeg_pack(path: str | Path) -> Split:
    """Read packed JPEG images: image i is `bytes[offsets[i]:offsets[i+1]]`, of class `labels[i]`."""
    with np.load(path) as pack:
        data, offsets, labels = pack["bytes"], pack["offsets"], pack["labels"]
    files = (data[start:stop].tobytes() for start, stop in pairwise(offsets))
    images = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    return Split(np.stack(images), labels.astype(np.uint8))


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler for NumPy arrays, numbers and strings. It refuses all other objects: a pickle can run any code."""

    _ALLOWED = frozenset(
        {
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module, name):
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"refused to load {module}.{name}: a CIFAR-10 batch holds arrays only")
        return super().find_class(module, name)
