"""One process at a time, also on a file system that several machines share.

A lock is a file beside what it locks. It says which process holds it, on which machine, since when, and the process
touches it every few seconds. On the same machine the lock of a process that has ended is free at once. What runs on
another machine cannot be seen, so there it is free after some minutes without a touch. Should a process lose its lock
in that way although it lives, because it was suspended, say, `Lock.check` tells it before it writes anything.
"""

import glob
import json
import os
import secrets
import socket
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from jifv._core.files import naming

_TOUCH, _EXPIRES = 20.0, 300.0  # seconds


class Lock:
    """A lock that this process holds until nothing refers to it or the process ends. Get one from `hold`."""

    def __init__(self, path: Path, file: Path) -> None:
        """See `hold`."""
        self.path, self.file = path, file
        self._text = json.dumps(
            {
                "process": os.getpid(),
                "started": _started(os.getpid()),
                "host": socket.gethostname(),
                "place": _place(),
                "since": time.strftime("%Y-%m-%d %H:%M:%S"),
                "token": secrets.token_hex(8),
            }
        )
        while (now := _create(file, self._text)) is not None:
            _take_over(path, file, now)
        _sweep(file)
        end = threading.Event()
        weakref.finalize(self, _release, file, self._text, end, os.getpid())  # also when the interpreter exits
        threading.Thread(target=_touch, args=(file, self._text, end), daemon=True, name=f"lock {file}").start()

    def check(self) -> None:
        """Make sure that the lock is still held.

        Raises:
            OSError: It is not. Another process may be writing.
        """
        found = _read(self.file)
        if found != self._text:
            who = "is gone" if found is None else f"is held by {_name(_parse(found))} by now"
            raise OSError(f"{self.path} is no longer locked by this process: {self.file} {who}. Nothing was written")


_held: weakref.WeakValueDictionary[Path, Lock] = weakref.WeakValueDictionary()
_one_at_a_time = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.clear)


def hold(path: str | os.PathLike[str]) -> Lock:
    """Lock a file or a folder, which need not exist yet, by a file beside it with the ending `.lock`.

    Within one process, whoever locks the same path has the same lock.

    Raises:
        OSError: Another process holds the lock, or the file cannot be written; the message says which one.
    """
    path = Path(os.path.realpath(path))
    file = path.with_name(f"{path.name}.lock")
    with _one_at_a_time:
        if (lock := _held.get(path)) is None:
            lock = _held[path] = Lock(path, file)
    return lock


def _create(file: Path, text: str) -> float | None:
    """Create a file with all its content in one step.

    Returns:
        None, or the time by the file system's clock if the file exists already.
    """
    beside = file.with_name(f".partial-{secrets.token_hex(4)}-{file.name}")
    with naming(file, beside):
        try:
            beside.write_text(text, encoding="utf-8")
            try:
                os.link(beside, file)
            except FileExistsError:
                # A server's answer can get lost, and the second attempt then finds the link of the first.
                return None if beside.stat().st_nlink == 2 else beside.stat().st_mtime
            except OSError:  # a file system without links
                try:
                    with open(file, "x", encoding="utf-8") as opened:
                        opened.write(text)
                except FileExistsError:
                    return beside.stat().st_mtime
            return None
        finally:
            beside.unlink(missing_ok=True)


def _take_over(path: Path, file: Path, now: float) -> None:
    """Remove the lock of a process that has ended.

    Raises:
        OSError: The process may still be running.
    """
    try:
        text, silent = _read(file), now - file.stat().st_mtime
    except FileNotFoundError:
        return
    if text is None:
        return
    holder = _parse(text)
    if holder.get("place") == _place() is not None and isinstance(holder.get("process"), int):
        if _started(holder["process"]) in ("unknown", holder.get("started")):
            raise OSError(f"{path} is in use by {_name(holder)}. Wait until it has ended")
    elif silent < _EXPIRES:
        raise OSError(
            f"{path} is in use by {_name(holder)}, which gave a sign of life {max(silent, 0):.0f} s ago. Wait until it "
            f"has ended; if it was killed, {file} is void {_EXPIRES / 60:.0f} minutes after the last one"
        )
    # Of several processes that come to this conclusion one can rename the file. It may be another file by now.
    grave = file.with_name(f".partial-{secrets.token_hex(4)}-{file.name}")
    with suppress(FileNotFoundError):
        os.rename(file, grave)
        if _read(grave) != text:
            with suppress(OSError):
                os.link(grave, file)
        grave.unlink()


def _sweep(file: Path) -> None:
    """Remove the files of processes that were killed while taking the lock."""
    with suppress(OSError):
        now = file.stat().st_mtime
        for path in file.parent.glob(f".partial-????????-{glob.escape(file.name)}"):
            if now - path.stat().st_mtime > _EXPIRES:
                path.unlink()


def _touch(file: Path, text: str, end: threading.Event) -> None:
    while not end.wait(_TOUCH):
        with suppress(OSError):  # a network may fail for a while
            if _read(file) != text:
                return
            os.utime(file)


def _release(file: Path, text: str, end: threading.Event, process: int) -> None:
    end.set()
    if os.getpid() == process:  # and not a fork of it
        with suppress(OSError):
            if _read(file) == text:
                file.unlink()


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _parse(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _name(holder: dict[str, Any]) -> str:
    if not holder:
        return "a process that did not say its name"
    return f"process {holder.get('process')} on {holder.get('host')} since {holder.get('since')}"


def _place() -> str | None:
    """Name the scope within which processes see one another: this boot, this container. None if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} {os.uname().sysname}" if os.name == "posix" else None


def _started(process: int) -> str | None:
    """Look up when a process of this machine began, because process numbers are reused.

    Returns:
        The time in some unit, "unknown" where the system does not tell, None if the process has ended.
    """
    if os.name != "posix":
        return "unknown"  # os.kill would end it
    try:
        fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # a zombie has ended
    except OSError:
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except (OSError, OverflowError):
        pass
    return "unknown"
