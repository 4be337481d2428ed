"""A run on disk: Zarr arrays, written batch by batch, so that nothing that was computed is ever lost.

A stage is a group of arrays with the sample as first axis and one chunk a batch. A batch counts once the journal names
it, and the journal is replaced, in one step of the file system, only after the batch's arrays have reached the disk. So
a run that was killed at any moment has whole batches, and at most one that is written again.

Of several processes one writes and all read: they need a file system that they share.
"""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Int
from zarr.storage import LocalStore, MemoryStore

from jifv._core.check import check_positive
from jifv._core.devices import leads, wait

_JOURNAL = "journal.json"


class Store:
    """The finished batches of one run. Open it with `open` or `in_memory`."""

    def __init__(self, folder: Path | None, journal: dict, samples: int, batch_size: int) -> None:
        """See `open` and `in_memory`."""
        check_positive("samples", samples)
        check_positive("batch_size", batch_size)
        self._folder, self._journal = folder, journal
        self._samples, self._batch_size = samples, batch_size
        self._arrays = MemoryStore() if folder is None else LocalStore(folder)
        self._fresh: set[str] = set()

    @classmethod
    def in_memory(cls, samples: int, batch_size: int) -> "Store":
        """A store that is gone with the process."""
        return cls(None, {"stages": {}}, samples, batch_size)

    @classmethod
    def open(cls, folder: str | Path, identity: dict[str, Any], samples: int, batch_size: int) -> "Store":
        """Make a store, or continue the one that is there.

        Args:
            folder: The store, by convention with the ending .zarr.
            identity: What decides the numbers of the run, ready for JSON.
            samples: Number of samples.
            batch_size: Samples a batch.

        Raises:
            ValueError: The folder has a store of another identity, or something that is none; the message says
                what differs.
            OSError: It cannot be written.
        """
        folder = Path(folder)
        identity = json.loads(json.dumps(identity))  # as it will be read back
        if leads() and not (folder / _JOURNAL).is_file():
            if folder.exists() and any(folder.iterdir()):
                raise ValueError(f"{folder} is not empty and holds no run; choose another folder")
            folder.mkdir(parents=True, exist_ok=True)
            _replace_durably(folder / _JOURNAL, json.dumps({"identity": identity, "stages": {}}, indent=1))
        wait(f"{folder} is there")
        journal = _read_journal(folder)
        if differences := _differences(journal["identity"], identity):
            raise ValueError(
                f"{folder} holds another run: {'; '.join(differences)}. Choose another folder, or delete this one "
                "to start again"
            )
        return cls(folder, journal, samples, batch_size)

    def rows(self, batch: int) -> Int[np.ndarray, " rows"]:
        """The samples of a batch; the last batch may have fewer than the others."""
        return np.arange(batch * self._batch_size, min((batch + 1) * self._batch_size, self._samples))

    def missing(self, stage: str) -> list[int]:
        """The batches of a stage that are not finished."""
        done = {entry["batch"] for entry in self._journal["stages"].get(stage, [])}
        return [batch for batch in range(-(-self._samples // self._batch_size)) if batch not in done]

    def write(
        self,
        stage: str,
        batch: int,
        arrays: dict[str, np.ndarray],
        seconds: dict[str, float],
        *,
        devices: int = 1,
        commit: str | None = None,
    ) -> None:
        """Add a finished batch.

        Args:
            stage: Name of the stage.
            batch: Number of the batch.
            arrays: One row a sample of the batch. Every batch of a stage has the same names, shapes and types.
            seconds: Wall-clock time of each part of the work.
            devices: Number of devices that shared the batch.

        Raises:
            OSError: The disk is full or not writable. What was finished before stays.
        """
        if self._folder is None or leads():
            self._add(stage, batch, arrays, {"seconds": seconds, "devices": devices, "commit": commit})
        if self._folder is not None:
            wait(f"{self._folder}: {stage} {batch}")
            self._journal = _read_journal(self._folder)

    def _add(self, stage: str, batch: int, arrays: dict[str, np.ndarray], how: dict[str, Any]) -> None:
        entries = self._journal["stages"].get(stage, [])
        if not entries and self._folder is not None:
            shutil.rmtree(self._folder / stage, ignore_errors=True)  # what a killed first batch left
        rows, began = self.rows(batch), time.time()
        group = zarr.open_group(self._arrays, path=stage, mode="a")
        for name, rows_of_batch in arrays.items():
            value = np.asarray(rows_of_batch)
            if name not in group:
                shape, chunks = (self._samples, *value.shape[1:]), (self._batch_size, *value.shape[1:])
                group.create_array(name, shape=shape, chunks=chunks, dtype=value.dtype)
            group[name][rows[0] : rows[-1] + 1] = value  # pyright: ignore[reportIndexIssue, reportArgumentType]
        entry = {"batch": batch} | how | {"compiled": stage not in self._fresh, "at": time.time()}
        self._fresh.add(stage)
        journal = self._journal | {"stages": self._journal["stages"] | {stage: [*entries, entry]}}
        if self._folder is not None:
            _reach_the_disk(self._folder / stage, since=began)
            _replace_durably(self._folder / _JOURNAL, json.dumps(journal, indent=1))
        self._journal = journal

    def read(self, stage: str) -> dict[str, np.ndarray]:
        """All arrays of a finished stage, in the order of the samples."""
        group = zarr.open_group(self._arrays, path=stage, mode="r")
        return {name: np.asarray(array[...]) for name, array in sorted(group.arrays())}

    def seconds(self) -> dict[str, float]:
        """Wall-clock seconds a sample of each part of the work.

        Of the batches that did not have to compile, which is the first of a stage in each process, if there are any.
        """
        total: dict[str, float] = {}
        for entries in self._journal["stages"].values():
            chosen = [entry for entry in entries if not entry["compiled"]] or entries
            samples = sum(len(self.rows(entry["batch"])) for entry in chosen)
            for part in chosen[0]["seconds"]:
                total[part] = sum(entry["seconds"][part] for entry in chosen) / samples
        return total

    def devices(self) -> list[int]:
        """Numbers of devices that shared the batches, each once: a run may have gone on with another number."""
        return sorted({entry["devices"] for stage in self._journal["stages"].values() for entry in stage})

    def commits(self) -> list[str]:
        """Commits that computed the batches, each once."""
        return sorted({entry["commit"] for stage in self._journal["stages"].values() for entry in stage} - {None})

    def total_seconds(self) -> float:
        """Wall-clock seconds of all batches together, compilation included."""
        entries = [entry for stage in self._journal["stages"].values() for entry in stage]
        return sum(sum(entry["seconds"].values()) for entry in entries)


def _read_journal(folder: Path) -> dict:
    return json.loads((folder / _JOURNAL).read_text())


def _differences(found: Any, wanted: Any, name: str = "") -> list[str]:
    """What differs between two trees of JSON, in words."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        prefix = f"{name}." if name else ""
        return [
            line
            for key in found | wanted
            for line in _differences(found.get(key, "not there"), wanted.get(key, "not there"), f"{prefix}{key}")
        ]
    return [] if found == wanted else [f"{name} is {found}, not {wanted}"]


def _reach_the_disk(folder: Path, *, since: float) -> None:
    """Waits until the files and folders written since a time are on the disk and not only in memory."""
    for path in (*folder.rglob("*"), folder):
        if path.stat().st_mtime >= since - 10:  # clocks of file systems are coarse
            _sync(path)


def _replace_durably(path: Path, text: str) -> None:
    beside = path.with_name(f"{path.name}.partial")
    beside.write_text(text)
    _sync(beside)
    os.replace(beside, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        return  # only POSIX has open folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
