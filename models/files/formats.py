"""Readers of weight files. Each returns the tensors under the file's own names and in its layouts.

Nothing in a file is ever run. The first bytes identify the format, except for `.onnx` and `.caffemodel`: these are bare
protocol buffers, are identified by their suffix, and need the package onnx (`pip install "jifv[convert]"`).
"""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jifv.models.files.torch_file import LEGACY_MAGIC, check_unpacked_size, read_torch


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Read a file of torch.save, ONNX, Caffe or NumPy (`.npz`).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file has another format or is damaged.
        ImportError: If the file needs the package onnx, which is not installed.
    """
    path = _existing(path)
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(LEGACY_MAGIC):
        return read_torch(path)
    if head.startswith(b"PK"):
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{path} is damaged: the end of the zip archive is missing")
        try:
            with zipfile.ZipFile(path) as archive:
                arrays = any(name.endswith(".npy") for name in archive.namelist())
        except Exception as error:
            raise ValueError(f"{path} cannot be read as a zip archive: {error}") from error
        return read_npz(path) if arrays else read_torch(path)
    if path.suffix == ".onnx":
        return read_onnx(path)
    if path.suffix == ".caffemodel":
        return read_caffe(path)
    raise ValueError(
        f"{path} must be a file of torch.save, .onnx, .caffemodel or .npz, got one that begins with {head!r}"
    )


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Read the arrays of an `.npz` file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, encrypted, larger than any network, holds Python objects or is no `.npz`.
    """
    path = _existing(path)
    try:
        with zipfile.ZipFile(path) as archive:
            check_unpacked_size(archive)
            entries = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            for info in entries:
                _check_npy(archive, info)
            return {info.filename.removesuffix(".npy"): _read_npy(archive, info) for info in entries}
    except Exception as error:  # whatever a damaged or hostile archive runs into
        raise ValueError(f"{path} cannot be read as an .npz: {error}") from error


def _check_npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Raise unless an array is as large as its header claims: NumPy allocates that much before it reads."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read_header:
            raise ValueError(f"{info.filename} has the unknown version {version} of NumPy's format")
        shape, _, dtype = read_header[version](file)
        size, claimed = info.file_size - file.tell(), math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and size != claimed:
        raise ValueError(f"{info.filename} must have {claimed:,} bytes for its shape {shape}, got {size:,}")


def _read_npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def read_onnx(path: str | Path) -> dict[str, np.ndarray]:
    """Read the floating-point initializers of an ONNX graph.

    The other initializers are target shapes and the like.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, is no ONNX file, or keeps its tensors in another file.
        ImportError: If the package onnx is not installed.
    """
    path = _existing(path)
    try:
        import onnx  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise _no_onnx(path) from error
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    try:
        model = onnx.load(path, load_external_data=False)
        tensors = [tensor for tensor in model.graph.initializer if tensor.data_type in floats]
        if elsewhere := [tensor.name for tensor in tensors if tensor.data_location == tensor.EXTERNAL]:
            raise ValueError(f"it keeps {len(elsewhere)} tensors in another file, such as {elsewhere[0]}")
        return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in tensors}
    except Exception as error:  # whatever a damaged file runs into, protobuf's DecodeError for one
        raise ValueError(f"{path} cannot be read as ONNX: {error}") from error


def read_caffe(path: str | Path) -> dict[str, np.ndarray]:
    """Read the first two blobs, kernel and bias, of each layer of a `.caffemodel`.

    Returns:
        `conv1/7x7_s2_w_0` (OIHW) and `conv1/7x7_s2_b_0` for the layer `conv1/7x7_s2`, the names of Caffe2 and ONNX.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or no `.caffemodel`.
        ImportError: If the package onnx (which brings protobuf) is not installed.
    """
    path = _existing(path)
    try:
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise _no_onnx(path) from error
    tensors = {}
    try:
        net = caffe_message().FromString(path.read_bytes())
        for layer in (*net.layer, *net.layers):
            for letter, blob in zip("wb", layer.blobs, strict=False):
                tensors[f"{layer.name}_{letter}_0"] = _blob(blob)
    except (DecodeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a .caffemodel: {error}") from error
    return tensors


def _blob(blob: Any) -> np.ndarray:
    data = np.asarray(blob.data or blob.double_data, np.float32)
    if blob.HasField("shape"):
        return data.reshape(tuple(blob.shape.dim))
    # Before blobs had shapes, Caffe wrote four sizes for each, padded with ones in front.
    shape = (blob.num, blob.channels, blob.height, blob.width)
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return data.reshape(shape)


_CAFFE = {
    "NetParameter": {"layers": ("V1LayerParameter", 2, "repeated"), "layer": ("LayerParameter", 100, "repeated")},
    "V1LayerParameter": {"name": ("string", 4, "optional"), "blobs": ("BlobProto", 6, "repeated")},
    "LayerParameter": {"name": ("string", 1, "optional"), "blobs": ("BlobProto", 7, "repeated")},
    "BlobProto": {
        "num": ("int32", 1, "optional"),
        "channels": ("int32", 2, "optional"),
        "height": ("int32", 3, "optional"),
        "width": ("int32", 4, "optional"),
        "data": ("float", 5, "packed"),
        "shape": ("BlobShape", 7, "optional"),
        "double_data": ("double", 8, "packed"),
    },
    "BlobShape": {"dim": ("int64", 1, "packed")},
}
"""The fields of `caffe.proto` that lead to the weights: type, number and label."""


def caffe_message() -> type:
    """Return a class for Caffe's message `NetParameter`, reduced to the layers' names and weights."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="weights.proto", package="caffe", syntax="proto2")
    for message, fields in _CAFFE.items():
        described = file.message_type.add(name=message)
        for name, (kind, number, label) in fields.items():
            field = described.field.add(name=name, number=number)
            field.label = field.LABEL_OPTIONAL if label == "optional" else field.LABEL_REPEATED
            field.options.packed = label == "packed"
            if kind in _CAFFE:
                field.type, field.type_name = field.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                field.type = field.Type.Value(f"TYPE_{kind.upper()}")
    # Not the process's pool, where another library may have its own package caffe.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    return path


def _no_onnx(path: Path) -> ImportError:
    return ImportError(f'{path.suffix} files need the package onnx: python -m pip install "jifv[convert]"')
