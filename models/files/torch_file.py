"""Read the tensors in a file of `torch.save`, without PyTorch and without running what the file asks for.

Such a file is a pickle that refers to blocks of numbers stored beside it. Our unpickler knows ordered dictionaries,
tensors, parameters and storages of numbers, and refuses everything else by name. It returns descriptions of tensors.
Only then are the numbers read, within the bounds of their blocks.
"""

import collections
import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""First bytes of a file written by PyTorch before 1.6: its magic number, pickled."""

MOST_BYTES = 2**30
"""Limit on what an archive unpacks to and on the total size of a file's tensors; far above any network here."""

_MOST_PICKLED = 2**21
"""Limit on the length of a pickle. GoogLeNet's has 50,000 bytes; 400 MB would take minutes to unpickle."""

_DTYPES = {
    "torch.DoubleStorage": "f8",
    "torch.FloatStorage": "f4",
    "torch.HalfStorage": "f2",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}


class _Storage(NamedTuple):
    """A block of numbers: its key in the file, its type and its length."""

    key: str
    dtype: str
    count: int

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.count * np.dtype(self.dtype).itemsize


class _Tensor(NamedTuple):
    """Part of a storage: offset, shape and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of bytes as an array; an expanded tensor has more than its storage."""
        return math.prod(self.shape) * np.dtype(self.storage.dtype).itemsize


class _Unpickler(pickle.Unpickler):
    """Unpickler for containers, numbers, strings and tensors, and nothing else.

    A pickle may call whatever `find_class` returns and may try to set its attributes. Bound methods and types written
    in C have none to set.
    """

    def __init__(self, file: io.BufferedIOBase):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "collections.OrderedDict": collections.OrderedDict,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": self._parameter,
            **_DTYPES,
        }
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which weights do not need")
        return known[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or dtype not in _DTYPES.values() or any(view) or not 0 <= count < 2**40:
            raise pickle.UnpicklingError(f"it refers to {pid!r}, which is no storage")
        return self.storages.setdefault(key, _Storage(str(key), dtype, int(count)))

    def _tensor(self, storage, offset, shape, strides, requires_grad=False, hooks=(), metadata=None) -> _Tensor:
        return _Tensor(storage, offset, tuple(shape), tuple(strides))

    def _parameter(self, tensor, requires_grad=False, hooks=()) -> _Tensor:
        return tensor


def read_torch(path: str | Path) -> dict[str, np.ndarray]:
    """Read a network's state from a file of `torch.save`, zip or legacy.

    Args:
        path: A file with a state (name → tensor), or with a dictionary whose entry `state_dict` is one.

    Returns:
        Name → array, in torch's layouts (OIHW). Entries that are not tensors are left out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, is no file of `torch.save`, or asks for anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        with path.open("rb") as file:
            state, read = _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
            if not isinstance(state, dict):
                raise ValueError(f"it must hold a dictionary of tensors, got a {type(state).__name__}")
            state = state.get("state_dict", state)
            tensors = {name: value for name, value in state.items() if isinstance(value, _Tensor)}
            _check_size("its tensors", sum(tensor.size for tensor in tensors.values()))
            return {name: _array(tensor, read(tensor.storage)) for name, tensor in tensors.items()}
    except Exception as error:  # whatever a damaged or hostile pickle runs into
        raise ValueError(f"{path} cannot be read as a file of torch.save: {error}") from error


def _read_zip(file: io.BufferedReader) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    archive = zipfile.ZipFile(file)
    check_unpacked_size(archive)
    (index,) = (name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
    folder = index.removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist():
        with archive.open(f"{folder}byteorder") as entry:
            _check_byte_order(entry.read(16) == b"little")
    if (size := archive.getinfo(index).file_size) > _MOST_PICKLED:
        raise ValueError(_too_long(f"{size:,}"))
    state, _ = _unpickle(io.BytesIO(archive.read(index)))

    def read(storage: _Storage) -> np.ndarray:
        info = archive.getinfo(f"{folder}data/{storage.key}")
        if info.file_size != storage.size:
            raise ValueError(f"storage {storage.key} must have {storage.size} bytes, got {info.file_size}")
        return np.frombuffer(archive.read(info), f"<{storage.dtype}")

    return state, read


def _read_legacy(file: io.BufferedReader) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    file.seek(0)
    if file.read(len(LEGACY_MAGIC)) != LEGACY_MAGIC:
        raise ValueError("neither a zip archive nor a file with torch's magic number")
    _unpickle(file)  # the version of the protocol
    _check_byte_order(_unpickle(file)[0]["little_endian"])
    state, storages = _unpickle(file)
    blocks = {}
    for key in _unpickle(file)[0]:
        storage = storages[key]
        count = np.frombuffer(file.read(8), "<i8").item()
        if count != storage.count:
            raise ValueError(f"storage {key} must have {storage.count} numbers, got {count}")
        block = file.read(storage.size)
        if len(block) != storage.size:
            raise ValueError(f"it ends within storage {key}")
        blocks[storage.key] = np.frombuffer(block, f"<{storage.dtype}")
    return state, lambda storage: blocks[storage.key]


def _unpickle(file: io.BufferedIOBase) -> tuple[Any, dict[str, _Storage]]:
    """Unpickle from the file's position and move past the pickle. Return the object and the storages it refers to.

    The opcodes are checked first: a memo index of four bytes would make Python allocate gigabytes.
    """
    start = file.tell()
    content = file.read(_MOST_PICKLED + 1)
    stream = io.BytesIO(content)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(content):
                raise pickle.UnpicklingError(f"its pickle remembers {argument:,} objects in {len(content):,} bytes")
    except ValueError as error:
        if len(content) > _MOST_PICKLED and stream.tell() >= len(content):
            raise ValueError(_too_long("more")) from error
        raise
    length = stream.tell()
    file.seek(start + length)
    unpickler = _Unpickler(io.BytesIO(content[:length]))
    return unpickler.load(), unpickler.storages


def _too_long(size: str) -> str:
    return f"its pickle must have at most {_MOST_PICKLED:,} bytes, got {size}"


def check_unpacked_size(archive: zipfile.ZipFile) -> None:
    """Raise if an archive would unpack to more than weights ever need."""
    _check_size("what it unpacks to", sum(info.file_size for info in archive.infolist()))


def _check_size(what: str, size: int) -> None:
    if size > MOST_BYTES:
        raise ValueError(f"{what} must have at most {MOST_BYTES:,} bytes, got {size:,}")


def _check_byte_order(little: bool) -> None:
    if not little:
        raise ValueError("it was written on a big-endian machine")


def _array(tensor: _Tensor, block: np.ndarray) -> np.ndarray:
    sizes = (tensor.offset, *tensor.shape, *tensor.strides)
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    # Strides beyond the block would read other memory of the process.
    if not all(type(n) is int and n >= 0 for n in sizes) or (0 not in tensor.shape and last >= block.size):
        raise ValueError(f"a tensor of shape {tensor.shape} reaches beyond its storage {tensor.storage.key}")
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, block.dtype)
    strides = tuple(stride * block.itemsize for stride in tensor.strides)
    return np.lib.stride_tricks.as_strided(block[tensor.offset :], tensor.shape, strides, writeable=False)
