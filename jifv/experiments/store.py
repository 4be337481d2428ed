"""A run on disk: Zarr arrays, written batch by batch, so that nothing that was computed is ever lost.

A stage is a group of arrays with the sample as first axis and one chunk per batch. A batch counts once the journal
names it, and the journal is replaced in one step, only after the batch's arrays have reached the disk. So a run that
was killed at any moment has whole batches, and at most one that is written again. The journal has a checksum of what
each batch holds: opening a store compares them, and what is damaged is missing again.

One process at a time has a store open, see `jifv._core.lock`. Of several processes of one run (`jax.distributed`) the
first one writes and all read: they need a file system that they share.
"""

import json
import time
import warnings
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from jifv._core.devices import by_leader, leads
from jifv._core.lock import Lock, hold
from jifv.experiments import arrays as disk
from jifv.experiments import journal as journals
from jifv.experiments.arrays import Arrays, DamagedError, little_endian
from jifv.experiments.journal import FILE, NAME


class Store:
    """The finished batches of one run, from `open` or `in_memory`; `close` or the end of a `with` ends its use."""

    def __init__(self, folder: Path | None, journal: dict[str, Any], lock: Lock | None = None) -> None:
        """See `open` and `in_memory`."""
        self._folder, self._journal, self._lock = folder, journal, lock
        self._arrays = Arrays(folder, journal["samples"], journal["batch_size"])
        self._fresh: set[str] = set()

    @classmethod
    def in_memory(cls, samples: int, batch_size: int) -> "Store":
        """Make a store that is gone with the process."""
        return cls(None, journals.new({}, samples, batch_size))

    @classmethod
    def open(cls, folder: str | Path, identity: dict[str, Any], samples: int, batch_size: int) -> "Store":
        """Make a store, or continue the one that is there.

        Every finished batch is read and compared with its checksum. A warning names what is damaged, and missing again.

        Args:
            folder: The store, by convention with the ending .zarr.
            identity: What decides the numbers of the run, ready for JSON.
            samples: Number of samples.
            batch_size: Samples per batch.

        Raises:
            ValueError: The folder has a store of another identity, or something that is none; the message says
                what differs.
            OSError: It cannot be written, or another process has it open.
        """
        folder = Path(folder)
        journal = journals.new(json.loads(json.dumps(identity)), samples, batch_size)  # as it will be read back
        lock = by_leader(lambda: _begin(folder, journal))
        return cls(folder, journals.read_same(folder, journal), lock)

    @staticmethod
    def remove(folder: str | Path) -> None:
        """Remove a store, if there is one.

        Raises:
            ValueError: The folder holds no run, or files that no run wrote. Nothing was removed.
            OSError: It cannot be removed, or another process has it open.
        """
        by_leader(lambda: _remove(Path(folder)))

    @staticmethod
    def check_removal(folder: str | Path) -> None:
        """Raise as `remove` would, and remove nothing.

        Raises:
            ValueError: As `remove`.
            OSError: Another process has it open.
        """
        by_leader(lambda: _removable(Path(folder)))

    def close(self) -> None:
        """Let other processes write. What is there can still be read."""
        self._lock = None

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rows(self, batch: int) -> Int[np.ndarray, " rows"]:
        """List the samples of a batch; the last batch may have fewer than the others."""
        return self._arrays.rows(batch)

    def missing(self, stage: str) -> list[int]:
        """List the batches of a stage that are not finished."""
        done = {entry["batch"] for entry in self._batches(stage)}
        return [
            batch for batch in range(-(-self._journal["samples"] // self._journal["batch_size"])) if batch not in done
        ]

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
            stage: Name of the stage: letters, digits, _ and -, as for names of arrays.
            batch: Number of the batch.
            arrays: Numbers, one row per sample of the batch. Every batch of a stage has the same names, shapes and
                types.
            seconds: Wall-clock time of each part of the work.
            devices: Number of devices that shared the batch.
            commit: The version of the code that computed it, as Git names it.

        Raises:
            ValueError: The batch is finished already, the arrays do not fit it, or the store was closed.
            OSError: The disk is full or not writable, or another process has changed the store. What was finished
                before stays.
        """
        if batch not in self.missing(stage):
            raise ValueError(f"batch must be a missing one of {stage}, {self.missing(stage)}, got {batch}")
        for name in (stage, *arrays):
            if not NAME.fullmatch(name):
                raise ValueError(f"stage and arrays must be named by letters, digits, _ and -, got {name!r}")
        values = {name: little_endian(value) for name, value in arrays.items()}
        for name, value in values.items():
            if value.dtype.kind not in "biufc" or value.shape[:1] != self.rows(batch).shape:
                got = f"{value.dtype} of shape {value.shape}"
                raise ValueError(f"arrays must hold {len(self.rows(batch))} rows of numbers, got {got} for {name}")
        entry = {"batch": int(batch), "seconds": seconds, "devices": devices, "commit": commit}
        entry |= {"compiled": stage not in self._fresh}
        if self._folder is None:
            self._add(stage, values, entry)
        else:
            by_leader(lambda: self._add(stage, values, entry))
            if not leads():
                self._journal = journals.read(self._folder)
        self._fresh.add(stage)

    def _add(self, stage: str, values: dict[str, np.ndarray], entry: dict[str, Any]) -> None:
        self._check()
        forms = {name: {"dtype": value.dtype.str, "shape": list(value.shape[1:])} for name, value in values.items()}
        if self._forms(stage) != forms:
            if self._batches(stage):
                what = "; ".join(journals.differences(self._forms(stage), forms))
                raise ValueError(f"arrays must be as in the other batches of {stage}: {what}")
            self._arrays.remove(stage, self._forms(stage))  # what a killed first batch left, of other code
            self._replace(stage, forms, [])  # before it is there, so that `remove` knows that it is the run's
        if stage not in self._fresh:
            self._arrays.describe(stage, forms)
        checksums = self._arrays.write(stage, entry["batch"], values)
        self._replace(stage, forms, [*self._batches(stage), entry | {"at": time.time(), "checksums": checksums}])

    def read(self, stage: str) -> dict[str, np.ndarray]:
        """Read all arrays of a finished stage, in the order of the samples.

        Raises:
            ValueError: The stage is not finished.
            OSError: An array was damaged since the store was opened.
        """
        if missing := self.missing(stage):
            raise ValueError(f"stage must be finished to be read, got {stage}, which lacks the batches {missing}")
        arrays = {}
        for name, form in sorted(self._forms(stage).items()):
            arrays[name] = np.empty((self._journal["samples"], *form["shape"]), form["dtype"])
            for entry in self._batches(stage):
                arrays[name][self.rows(entry["batch"])] = self._value(stage, name, entry)
        return arrays

    def read_batch(self, stage: str, batch: int, *, without: Collection[str] = ()) -> dict[str, np.ndarray]:
        """Read the arrays of one finished batch but for some.

        Raises:
            ValueError: The batch is not finished.
            OSError: An array was damaged since the store was opened.
        """
        for entry in self._batches(stage):
            if entry["batch"] == batch:
                return {
                    name: self._value(stage, name, entry) for name in sorted(self._forms(stage)) if name not in without
                }
        raise ValueError(f"batch must be a finished one of {stage}, got {batch}")

    def _value(self, stage: str, name: str, entry: dict[str, Any]) -> np.ndarray:
        try:
            return self._arrays.read(stage, name, entry["batch"], self._forms(stage)[name], entry["checksums"][name])
        except DamagedError as error:
            raise OSError(f"{error}. Start again, and it is computed anew") from error

    def seconds(self) -> dict[str, float]:
        """Average the wall-clock seconds per sample of each part of the work.

        The first batch of a stage in each process has to compile. It counts only where there is no other.
        """
        total: dict[str, float] = {}
        for stage in self._journal["stages"]:
            entries = self._batches(stage)
            chosen = [entry for entry in entries if not entry["compiled"]] or entries
            samples = sum(len(self.rows(entry["batch"])) for entry in chosen)
            for part in chosen[0]["seconds"] if chosen else ():
                total[part] = sum(entry["seconds"].get(part, 0.0) for entry in chosen) / samples
        return total

    def devices(self) -> list[int]:
        """List the numbers of devices that shared the batches; a run may have been continued with another number."""
        return sorted({entry["devices"] for entry in self._entries()})

    def commits(self) -> list[str]:
        """List the versions of the code that computed the batches, where they are known."""
        return sorted({entry["commit"] for entry in self._entries()} - {None})

    def total_seconds(self, times: Mapping[str, int] | None = None) -> float:
        """Add up the wall-clock seconds of all batches, compilation included.

        Args:
            times: How often a part was done of which the batches keep the seconds of one; 1 for the others.
        """
        spent = [part for entry in self._entries() for part in entry["seconds"].items()]
        return sum(seconds * (times or {}).get(part, 1) for part, seconds in spent)

    def verify(self) -> list[str]:
        """Compare all batches with their checksums, and take the damaged ones out of the journal.

        Returns:
            What was damaged, a line each.
        """
        lines = []
        for stage, known in self._journal["stages"].items():
            forms, whole = known["arrays"], []
            if known["batches"]:
                repaired = self._arrays.describe(stage, forms)
                lines += [f"{self._folder}/{path}/{FILE} was damaged and is repaired" for path in repaired]
            for entry in known["batches"]:
                try:
                    for name, form in forms.items():
                        self._arrays.read(stage, name, entry["batch"], form, entry["checksums"][name])
                    whole.append(entry)
                except DamagedError as error:
                    lines.append(f"{error}, so batch {entry['batch']} of {stage} is missing again")
            if whole != known["batches"]:
                self._replace(stage, forms, whole)
        return lines

    def _forms(self, stage: str) -> dict[str, dict[str, Any]]:
        return self._journal["stages"].get(stage, {}).get("arrays", {})

    def _batches(self, stage: str) -> list[dict[str, Any]]:
        return self._journal["stages"].get(stage, {}).get("batches", [])

    def _entries(self) -> list[dict[str, Any]]:
        return [entry for stage in self._journal["stages"] for entry in self._batches(stage)]

    def _check(self) -> None:
        """Make sure that the store is still ours and unchanged, before anything is removed or added."""
        if self._folder is None:
            return
        if self._lock is None:
            raise ValueError(f"the store {self._folder} was closed")
        self._lock.check()
        if journals.checksum(journals.read(self._folder)) != journals.checksum(self._journal):
            raise OSError(f"{self._folder / FILE} was changed behind our back; start again to go on from there")

    def _replace(self, stage: str, forms: dict[str, Any], batches: list[dict[str, Any]]) -> None:
        """Replace a stage in the journal."""
        self._check()
        stages = self._journal["stages"] | {stage: {"arrays": forms, "batches": batches}}
        journal = self._journal | {"stages": stages}
        if self._folder is not None:
            journals.write(self._folder, journal)
        self._journal = journal


def _begin(folder: Path, journal: dict[str, Any]) -> Lock:
    """Make the store if there is none, or check the one that is there."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = hold(folder)
        if not (folder / FILE).is_file():
            if (folder / "journal.json").is_file():
                raise ValueError(f"{folder} is of an older jifv, which kept no checksums; choose another folder")
            folder.mkdir(exist_ok=True)
            if not all(disk.is_leftover(path.name) for path in folder.iterdir()):
                raise ValueError(f"{folder} is not empty and holds no run; choose another folder")
            journals.write(folder, journal)
        store = Store(folder, journals.read_same(folder, journal), lock)
        disk.sweep(folder)
        if lines := store.verify():
            more = f"; and {len(lines) - 5} more" if len(lines) > 5 else ""
            warnings.warn("; ".join(lines[:5]) + more, stacklevel=5)
    except BaseException:
        for each in made:  # from the inside
            with suppress(OSError):
                each.rmdir()
        raise
    return lock


def _removable(folder: Path) -> tuple[Lock | None, list[Path]]:
    """List what a store holds, contents before their folders, once it is ours alone and a run wrote all of it."""
    if not folder.exists():
        return None, []
    lock = hold(folder)
    paths = sorted(folder.rglob("*"), reverse=True)
    stages = {}
    if not all(disk.is_leftover(path.name) for path in paths):
        stages = {stage: known["arrays"] for stage, known in journals.read(folder)["stages"].items()}
    if strangers := disk.strangers(folder, stages):
        some = ", ".join(map(str, strangers[:3])) + (f" and {len(strangers) - 3} more" if len(strangers) > 3 else "")
        raise ValueError(f"{folder} holds what no run wrote: {some}. Nothing was removed; move that elsewhere first")
    lock.check()
    return lock, paths


def _remove(folder: Path) -> None:
    lock, paths = _removable(folder)
    if lock is None:
        return
    for path in sorted(paths, key=lambda path: path == folder / FILE):  # the journal last: until then it is a run
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    if not folder.is_symlink():
        folder.rmdir()
