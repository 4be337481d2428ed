"""Files that are replaced in one step: whoever reads them finds the old file or the new one, never half of one."""

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

PARTIAL = r"\.partial-[0-9a-f]{8}-"
"""How the names of unfinished files begin, as a regular expression. Only a killed process leaves one behind."""


def replace_durably(path: str | os.PathLike[str], content: bytes | str | Callable[[Path], object]) -> None:
    """Write a file, or replace it, so that it is whole and on the disk when this returns.

    The content goes to a file beside it first, whose name ends as the file's own does. A process that is killed may
    leave that one behind; the file itself is then as it was. Several processes may write the same file: the last one
    wins. A symbolic link stays, and what it points to is replaced.

    Args:
        path: The file. Its folder exists.
        content: Bytes, text (written as UTF-8, line ends as they are), or a function that writes to the path it is
            given.

    Raises:
        OSError: The file cannot be written; the error names it. What was there before stays.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".partial-{secrets.token_hex(4)}-{target.name}")
    with naming(path, beside):
        try:
            if callable(content):
                content(beside)
            else:
                beside.write_bytes(content.encode() if isinstance(content, str) else content)
            sync(beside)
            os.replace(beside, target)
        except BaseException:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        sync(target.parent)


def read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays of a safetensors file by name, and its metadata.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged, or of another format.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except OSError:
        raise
    except Exception as error:  # safetensors and NumPy each have errors of their own
        raise ValueError(f"{path} cannot be read as safetensors: {error}") from error


def digest(arrays: Mapping[str, Any], salt: str = "") -> str:
    """Compute the SHA-256 of a text followed by arrays with their names, types and shapes."""
    result = hashlib.sha256(salt.encode())
    for name, array in sorted(arrays.items()):
        result.update(f"{name} {array.dtype} {array.shape}".encode())
        result.update(np.ascontiguousarray(array).tobytes())
    return result.hexdigest()


def check_digest(path: str | os.PathLike[str], found: str, expected: str) -> None:
    """Raise unless the weights in a file still have the digest that they were written with."""
    if found != expected:
        raise ValueError(f"weights in {path} are damaged: their sha256 must be {expected}, got {found}")


def sync(path: str | os.PathLike[str]) -> None:
    """Wait until a file or the entries of a folder are on the disk and not only in memory."""
    folder = os.path.isdir(path)
    if folder and os.name != "posix":
        return  # only POSIX has open folders
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if not folder or error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
                raise
        finally:
            os.close(descriptor)


@contextmanager
def naming(path: str | os.PathLike[str], unfinished: Path | None = None) -> Iterator[None]:
    """Let errors of the file system name a file: "No space left on device" does not say where.

    Args:
        path: The file that the user knows.
        unfinished: The file that is written in its place, which the user has never heard of.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, unfinished, str(unfinished)):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
