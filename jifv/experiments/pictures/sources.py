"""Pictures of people's own, wherever they are: files, folders, arrays, and runs of `jifv visualize` or `reproduce`.

Nothing is read before it is asked for, so that there may be more pictures than fit into memory.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from jifv.experiments import journal as journals
from jifv.experiments.arrays import Kept
from jifv.models.files.pictures import ENDINGS, read_picture

_ARRAYS = ("images", "pictures", "x")
"""Names that an array of pictures may have among others."""


@dataclass(frozen=True)
class _Source:
    """Some pictures: their names, one to read, and a digest of all."""

    names: Sequence[str]
    read: Callable[[int], np.ndarray]
    digest: Callable[[], str]
    run: Path | None = None


class Pictures:
    """Pictures to be read by their index, from `find_pictures`: arrays (h, w, C) of bytes or floats, of any size.

    Attributes:
        names: What to call each.
        run: The store, if all of them are the realizations of one run; None otherwise.
    """

    def __init__(self, sources: Sequence[_Source]) -> None:
        """See `find_pictures`."""
        self._sources = sources
        self._ends = list(accumulate(len(source.names) for source in sources))
        self.names = tuple(name for source in sources for name in source.names)
        self.run = sources[0].run if len(sources) == 1 else None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> np.ndarray:
        """Read a picture.

        Raises:
            OSError: Its file cannot be read.
            ValueError: It is damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        which = int(np.searchsorted(self._ends, index, side="right"))
        return self._sources[which].read(index - (self._ends[which - 1] if which else 0))

    def digest(self) -> str:
        """Compute the SHA-256 of all contents, in order. Names do not count."""
        each = [source.digest() for source in self._sources]
        return hashlib.sha256("".join(each).encode()).hexdigest()

    def parameters(self) -> Any:
        """Open the parameters of the run's realizations, an array (samples, *p) to read rows from; see `Kept`.

        Raises:
            ValueError: These are no realizations of a run.
        """
        if self.run is None:
            raise ValueError("run must be one store of realizations, got other pictures")
        return Kept(self.run, journals.read(self.run), "realize", "parameters")


def find_pictures(paths: Iterable[str | Path | np.ndarray]) -> Pictures:
    """Find pictures.

    Args:
        paths: Each an array of one picture or several, or one of

            - a picture, see `jifv.models.load_picture`;
            - a folder, whose pictures and `.npy` files are taken in the order of their names;
            - `.npy` or `.npz`: one picture (h, w, C), or several along the first axis; of several arrays in a file,
              that named `images`;
            - `.zarr`: an array, a group with an array `images`, or a finished run of `jifv visualize` or `reproduce`.

    Raises:
        OSError: There is no such file.
        ValueError: There are no pictures, or something is none of these.
    """
    sources: list[_Source] = []
    for number, path in enumerate(paths):
        if isinstance(path, np.ndarray):
            sources.append(_array(Path(f"array {number}"), path, lambda array=path: _digest_of_array(array)))
        else:
            sources += _sources(Path(path))
    if not sources:
        raise ValueError("pictures must be at least one, got none")
    return Pictures(sources)


def _sources(path: Path) -> Iterator[_Source]:
    if not path.exists():
        raise FileNotFoundError(f"no picture at {path}")
    kind = path.suffix.lower()
    if kind == ".zarr":
        yield _zarr(path)
    elif path.is_dir():
        inside = [each for each in sorted(path.iterdir()) if each.suffix.lower() in (*ENDINGS, ".npy")]
        if not inside:
            raise ValueError(f"{path} holds no pictures ({', '.join((*ENDINGS, '.npy'))})")
        for each in inside:
            yield from _sources(each)
    elif kind in (".npy", ".npz"):
        yield _array(path, _load(path), lambda: _digest_of_file(path))
    elif kind in ENDINGS:
        yield _Source([str(path)], lambda _: read_picture(path), lambda: _digest_of_file(path))
    else:
        endings = ", ".join((*ENDINGS, ".npy", ".npz", ".zarr"))
        raise ValueError(f"{path} must be a folder or end in one of {endings}")


def _array(path: Path, array: Any, digest: Callable[[], str]) -> _Source:
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise ValueError(f"{path} must hold pictures (h, w, C) or (samples, h, w, C), got shape {array.shape}")
    if array.ndim < 4:
        return _Source([str(path)], lambda _: np.asarray(array), digest)
    count = array.shape[0]
    digits = len(str(count - 1))
    names = [f"{path}:{index:0{digits}}" for index in range(count)]
    if not isinstance(array, zarr.Array):
        return _Source(names, lambda index: np.asarray(array[index]), digest)
    # Zarr would decode a whole chunk anew for each of its rows.
    step, kept = array.chunks[0], {}

    def read(index: int) -> np.ndarray:
        first = index - index % step
        if first not in kept:
            kept.clear()
            kept[first] = np.asarray(array[first : first + step])
        return kept[first][index - first]

    return _Source(names, read, digest)


def _load(path: Path) -> Any:
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return arrays[_chosen(path, arrays.files)]
    except (ValueError, EOFError, AttributeError) as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path} must hold an array of numbers: {error}") from None
    except Exception as error:  # the errors of zip archives
        if isinstance(error, OSError):
            raise
        raise ValueError(f"{path} is damaged: {error}") from error


def _zarr(path: Path) -> _Source:
    if (path / "realize").is_dir() and (path / journals.FILE).is_file():
        journal = journals.read(path)
        stage = journal["stages"].get("realize", {"batches": []})
        if len(stage["batches"]) * journal["batch_size"] < journal["samples"]:
            raise ValueError(f"{path} is not finished; the command that began it goes on with it")
        images = Kept(path, journal, "realize", "images")  # Zarr would read a chunk that is gone as zeros
        if images.ndim != 4:
            raise ValueError(f"{path} must hold images (samples, h, w, C), got shape {images.shape}")
        made = [entry["checksums"] for entry in stage["batches"]]
        source = _array(path, images, lambda: hashlib.sha256(repr(made).encode()).hexdigest())
        return _Source(source.names, source.read, source.digest, path)
    try:
        found: Any = zarr.open(path, mode="r")
    except Exception as error:
        raise ValueError(f"{path} cannot be read as Zarr: {error}") from error
    if isinstance(found, zarr.Group):
        found = found[_chosen(path, list(found.array_keys()))]
    return _array(path, found, lambda: _digest_of_folder(path))


def _chosen(path: Path, names: Sequence[str]) -> str:
    """Choose the array that holds pictures."""
    for name in _ARRAYS:
        if name in names:
            return name
    if len(names) != 1:
        raise ValueError(f"{path} must hold one array, or one named images, got {', '.join(names) or 'none'}")
    return names[0]


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_array(array: np.ndarray) -> str:
    return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


def _digest_of_folder(path: Path) -> str:
    files = sorted(each for each in path.rglob("*") if each.is_file())
    return hashlib.sha256("".join(map(_digest_of_file, files)).encode()).hexdigest()
