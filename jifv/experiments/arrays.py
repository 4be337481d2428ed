"""The arrays of a store: Zarr's, with a chunk per batch, and checksums against what disks do to them.

Each chunk has one, which everybody who reads it with Zarr compares. Another one, of the numbers themselves, is for the
journal: it also tells a chunk that is gone, which Zarr would read as zeros, and a whole one in the wrong place.
"""

import errno
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore, MemoryStore

from jifv._core.files import PARTIAL, naming, sync
from jifv.experiments.journal import FILE

Forms = dict[str, dict[str, Any]]
"""Type and shape per sample of each array of a stage, as the journal has them."""

_ZARRS_PARTIAL = r"\.[0-9a-f]{32}\.partial"
_META = rf"({PARTIAL})?zarr\.json|zarr{_ZARRS_PARTIAL}"
_LEFTOVER = rf"{PARTIAL}zarr\.json|(zarr|[0-9]+){_ZARRS_PARTIAL}"
"""What a killed process leaves: our partial files and Zarr's."""


class DamagedError(Exception):
    """A batch is not what was written; the message names the file."""


class Arrays:
    """The arrays of some samples, in a folder or in memory."""

    def __init__(self, folder: Path | None, samples: int, batch_size: int) -> None:
        """Remember where and how large they are; nothing is written yet."""
        self._folder, self._samples, self._batch_size = folder, samples, batch_size
        self._zarr = MemoryStore() if folder is None else LocalStore(folder)

    def rows(self, batch: int) -> np.ndarray:
        """List the samples of a batch."""
        return np.arange(batch * self._batch_size, min((batch + 1) * self._batch_size, self._samples))

    def describe(self, stage: str, forms: Forms) -> list[str]:
        """Create the group and the arrays of a stage, and replace those whose metadata are damaged.

        Returns:
            Paths of all that was created.
        """
        made = []
        try:
            zarr.open_group(self._zarr, path=stage, mode="r")
        except Exception as error:
            _reraise_unless_broken(error)
            made.append(stage)
            self._forget(stage)
            zarr.open_group(self._zarr, path=stage, mode="a")
        for name, form in forms.items():
            options: dict[str, Any] = {
                "shape": (self._samples, *form["shape"]),
                "chunks": (self._batch_size, *(max(size, 1) for size in form["shape"])),
                "dtype": np.dtype(form["dtype"]),
                "fill_value": 0,
                "compressors": [ZstdCodec(), Crc32cCodec()],
            }
            wanted = zarr.create_array(MemoryStore(), **options).metadata
            try:
                good = self._open(stage, name).metadata == wanted
            except Exception as error:
                _reraise_unless_broken(error)
                good = False
            if not good:
                made.append(f"{stage}/{name}")
                self._forget(f"{stage}/{name}")
                zarr.create_array(self._zarr, name=f"{stage}/{name}", **options)
        return made

    def write(self, stage: str, batch: int, values: dict[str, np.ndarray]) -> dict[str, int]:
        """Write a batch, through to the disk.

        Returns:
            The checksum of each array.
        """
        rows = self.rows(batch)
        for name, value in values.items():
            chunk = self._chunk(stage, name, batch, value.ndim)
            with naming(chunk):
                if self._folder is not None:
                    chunk.unlink(missing_ok=True)  # it may be broken, and Zarr may want to read it first
                self._open(stage, name)[rows[0] : rows[-1] + 1] = value
        if self._folder is not None:
            stages = self._folder / stage
            files = {stages / FILE, *(stages / name / FILE for name in values)}
            files |= {self._chunk(stage, name, batch, value.ndim) for name, value in values.items() if value.size}
            folders = {above for file in files for above in file.parents if self._folder in (above, *above.parents)}
            for path in files | folders:
                sync(path)
        return {name: _checksum(value) for name, value in values.items()}

    def read(self, stage: str, name: str, batch: int, form: dict[str, Any], checksum: int) -> np.ndarray:
        """Read the rows of a batch.

        Raises:
            DamagedError: They are not what was written.
            OSError: They cannot be read, although they may be whole.
        """
        chunk, rows = self._chunk(stage, name, batch, 1 + len(form["shape"])), self.rows(batch)
        if self._folder is not None and 0 not in form["shape"] and not chunk.exists():
            raise DamagedError(f"{chunk} is not there")
        try:
            value = little_endian(self._open(stage, name)[rows[0] : rows[-1] + 1])
        except Exception as error:
            _reraise_unless_broken(error)
            raise DamagedError(f"{chunk} is damaged ({error})") from error
        if _checksum(value) != checksum:
            raise DamagedError(f"{chunk} is damaged (it holds other numbers than were written)")
        return value

    def remove(self, stage: str, forms: Forms) -> None:
        """Remove what is left of a first batch that was killed."""
        for name in forms:
            self._forget(f"{stage}/{name}")
            if self._folder is not None:
                shutil.rmtree(self._folder / stage / name / "c", ignore_errors=True)

    def _open(self, stage: str, name: str) -> Any:
        with zarr.config.set({"array.write_empty_chunks": True}):  # so that a chunk that is not there was lost
            return zarr.open_array(self._zarr, path=f"{stage}/{name}", mode="r+")

    def _chunk(self, stage: str, name: str, batch: int, axes: int) -> Path:
        return (self._folder or Path()).joinpath(stage, name, "c", str(batch), *["0"] * (axes - 1))

    def _forget(self, path: str) -> None:
        if self._folder is not None:
            (self._folder / path / FILE).unlink(missing_ok=True)


class Kept:
    """An array of a finished stage, to read rows from: whatever is read is compared with its checksum."""

    def __init__(self, folder: Path, journal: dict[str, Any], stage: str, name: str) -> None:
        """Look it up in the journal of the store.

        Raises:
            ValueError: The stage has no such array.
        """
        known = journal["stages"][stage]
        if name not in known["arrays"]:
            raise ValueError(f"{folder} must have an array {stage}/{name}, got {', '.join(known['arrays']) or 'none'}")
        self._stage, self._name, self._form = stage, name, known["arrays"][name]
        self._checksums = {entry["batch"]: entry["checksums"][name] for entry in known["batches"]}
        self._arrays = Arrays(folder, journal["samples"], journal["batch_size"])
        self._last: tuple[int, np.ndarray] | None = None
        self.batch_size = journal["batch_size"]
        self.shape = (journal["samples"], *self._form["shape"])
        self.ndim = len(self.shape)

    def __getitem__(self, rows: int | slice) -> np.ndarray:
        """Read a row, or those of a slice.

        Raises:
            ValueError: A file is damaged, or gone; the message names it.
            OSError: It cannot be read, although it may be whole.
        """
        if not isinstance(rows, slice):
            return self._batch(rows // self.batch_size)[rows % self.batch_size]
        found = [self[row] for row in range(*rows.indices(self.shape[0]))]
        return np.stack(found) if found else np.empty((0, *self.shape[1:]), self._form["dtype"])

    def _batch(self, batch: int) -> np.ndarray:
        if self._last is None or self._last[0] != batch:  # a chunk would be decoded anew for each of its rows
            try:
                value = self._arrays.read(self._stage, self._name, batch, self._form, self._checksums[batch])
            except DamagedError as error:
                raise ValueError(f"{error}; the command that made the run computes it anew") from error
            self._last = batch, value
        return self._last[1]


def is_leftover(name: str) -> bool:
    """Tell by its name whether a file was left by a killed process."""
    return re.fullmatch(_LEFTOVER, name) is not None


def sweep(folder: Path) -> None:
    """Remove what killed processes left, about which Zarr would warn."""
    for pattern in (".partial-*", "*.partial"):
        for path in folder.rglob(pattern):
            if is_leftover(path.name):
                path.unlink()


def strangers(folder: Path, stages: dict[str, Forms]) -> list[Path]:
    """List what is in a folder without belonging to these stages or the journal; a folder stands for its content."""
    ours = rf"({_META})"
    for stage, forms in stages.items():
        array = rf"({'|'.join(forms)})(/({_META}|c(/[0-9]+)*({_ZARRS_PARTIAL})?))?"
        ours += rf"|{stage}(/({_META}|{array}))?"
    found: list[Path] = []
    for path in sorted(folder.rglob("*")):
        known = re.fullmatch(ours, path.relative_to(folder).as_posix()) and not path.is_symlink()
        if not known and not (found and found[-1] in path.parents):
            found.append(path)
    return found


def little_endian(value: Any) -> np.ndarray:
    """Convert an array to the form in which it is stored, so that checksums agree on every machine."""
    value = np.asarray(value)
    return np.asarray(value, value.dtype.newbyteorder("<"), order="C")


def _reraise_unless_broken(error: Exception) -> None:
    """Raise the error again unless it means that a file is broken.

    Zarr lets through whatever a broken file leads to. A file that merely cannot be read now, for want of rights, may be
    intact.
    """
    broken = not isinstance(error, OSError | MemoryError) or isinstance(error, FileNotFoundError)
    if not broken and getattr(error, "errno", None) != errno.EIO:
        raise error


def _checksum(value: np.ndarray) -> int:
    return zlib.crc32(memoryview(value))  # pyright: ignore[reportArgumentType]
