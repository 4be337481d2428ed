import collections
import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from jifv.models.files import torch_file
from jifv.models.files.torch_file import read_torch

torch = pytest.importorskip("torch", reason="PyTorch writes the files that are read here")

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(path, what, zipped):
    torch.save(what, path, _use_new_zipfile_serialization=zipped)
    return path


def state():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, generator=generator)
    return collections.OrderedDict(
        {
            "kernel": torch.randn(2, 3, 5, 5, generator=generator),
            "double": torch.randn(3, generator=generator, dtype=torch.float64),
            "half": torch.randn(3, generator=generator).half(),
            "steps": torch.tensor(7),
            "mask": torch.tensor([True, False]),
            "bytes": torch.arange(5, dtype=torch.uint8),
            "empty": torch.zeros(0, 3),
            "base": base,
            "transposed": base.T,
            "part": base[1:3, ::2],
            "expanded": torch.tensor([1.5]).expand(4),
            "parameter": torch.nn.Parameter(torch.ones(2)),
        }
    )


@FORMATS
def test_tensors_are_those_that_torch_saved(tmp_path, zipped):
    tensors = state()
    found = read_torch(save(tmp_path / "state.pth", tensors, zipped))
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        expected = tensor.detach().numpy()
        assert (found[name].dtype, found[name].shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(found[name], expected)


@FORMATS
def test_state_of_a_module_and_of_a_checkpoint(tmp_path, zipped):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    checkpoint = {"epoch": 3, "best": 0.5, "arch": "tiny", "state_dict": module.state_dict()}
    for what in (module.state_dict(), checkpoint):
        found = read_torch(save(tmp_path / "state.pth", what, zipped))
        assert found.keys() == module.state_dict().keys()
        np.testing.assert_array_equal(found["0.weight"], module[0].weight.detach().numpy())


def test_public_checkpoint(shared):
    path = shared / "weights" / "densenet_bc_100_12_cifar10.pth.tar"
    expected = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    found = read_torch(path)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


# What is refused.


class Malicious:
    """Unpickled by the book, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@FORMATS
def test_a_pickle_that_runs_something_is_refused_and_not_run(tmp_path, zipped):
    mark = tmp_path / "mark"
    path = save(tmp_path / "bad.pth", {"weight": torch.ones(2), "more": Malicious(mark)}, zipped)
    with pytest.raises(ValueError, match=r"bad\.pth cannot be read as a file of torch\.save: it asks for \w+\.mkdir"):
        read_torch(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # the file does what it is said to do


@FORMATS
def test_a_whole_module_is_refused_by_its_name(tmp_path, zipped):
    path = save(tmp_path / "module.pth", torch.nn.Linear(2, 2), zipped)
    with pytest.raises(ValueError, match=r"it asks for torch\.nn\.modules\.linear\.Linear, which weights do not need"):
        read_torch(path)


@FORMATS
def test_an_unknown_type_of_number_is_refused_by_its_name(tmp_path, zipped):
    path = save(tmp_path / "b.pth", {"a": torch.zeros(2, dtype=torch.bfloat16)}, zipped)
    with pytest.raises(ValueError, match=r"torch\.BFloat16Storage"):
        read_torch(path)


@FORMATS
def test_a_file_without_a_dictionary_is_refused(tmp_path, zipped):
    path = save(tmp_path / "list.pth", [torch.ones(2)], zipped)
    with pytest.raises(ValueError, match="it must hold a dictionary of tensors, got a list"):
        read_torch(path)


def rewritten(path, changes):
    """The zip archive with other contents for some of its entries, None to leave it out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            content = changes.get(name.partition("/")[2], old.read(name))
            if content is not None:
                new.writestr(name, content)
    path.write_bytes(buffer.getvalue())
    return path


class PersistentPickler(pickle.Pickler):
    def persistent_id(self, it):
        return it.pid if isinstance(it, Storage) else None


class Storage:
    def __init__(self, *pid):
        self.pid = pid


class Call:
    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


def pickled(what):
    buffer = io.BytesIO()
    PersistentPickler(buffer, 2).dump(what)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (3,), (1,)), (1, (2,), (1,)), (0, (2, 2), (1, 1)), (0, (2,), (10**9,)), (1, (2,), (-1,)), (-1, (1,), (1,))],
)
def test_a_tensor_beyond_its_storage_is_refused(tmp_path, offset, shape, strides):
    path = save(tmp_path / "t.pth", {"a": torch.ones(2)}, True)
    storage = Storage("storage", torch.FloatStorage, "0", "cpu", 2)
    assert read_torch(rewritten(path, {"data.pkl": pickled({"a": Call(storage, 0, (2,), (1,))})}))["a"].sum() == 2
    path = rewritten(path, {"data.pkl": pickled({"a": Call(storage, offset, shape, strides)})})
    with pytest.raises(ValueError, match="reaches beyond its storage 0"):
        read_torch(path)


@pytest.mark.parametrize(
    "pid",
    [
        ("module", torch.FloatStorage, "0", "cpu", 2),
        ("storage", torch.FloatStorage, "0", "cpu", 2, ("1", 0, 2)),
        ("storage", "O", "0", "cpu", 2),
        ("storage", torch.FloatStorage, "0", "cpu", -1),
    ],
)
def test_what_is_no_storage_is_refused(tmp_path, pid):
    path = save(tmp_path / "t.pth", {"a": torch.ones(2)}, True)
    path = rewritten(path, {"data.pkl": pickled({"a": Call(Storage(*pid), 0, (2,), (1,))})})
    with pytest.raises(ValueError, match="which is no storage"):
        read_torch(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"byteorder": b"big"}, "big-endian"),
        ({"data/0": b"1234"}, "storage 0 must have 8 bytes, got 4"),
        ({"data/0": None}, "data/0"),
        ({"data.pkl": b"\x80\x02}"}, "cannot be read"),
        ({"data.pkl": b""}, "cannot be read"),
        ({"data.pkl": None}, "cannot be read"),
    ],
)
def test_a_damaged_archive_is_refused(tmp_path, changes, message):
    path = rewritten(save(tmp_path / "t.pth", {"a": torch.ones(2)}, True), changes)
    with pytest.raises(ValueError, match=message):
        read_torch(path)


def test_a_legacy_file_of_a_big_endian_machine_is_refused(tmp_path):
    path = save(tmp_path / "t.pth", {"a": torch.ones(2)}, False)
    content = path.read_bytes()
    little = b"little_endianq\x02\x88"
    assert content.count(little) == 1
    path.write_bytes(content.replace(little, little[:-1] + b"\x89"))
    with pytest.raises(ValueError, match="big-endian"):
        read_torch(path)


@FORMATS
def test_every_cut_is_noticed(tmp_path, zipped):
    path = save(tmp_path / "t.pth", {"a": torch.ones(20)}, zipped)
    content = path.read_bytes()
    for length in [0, 1, 20, *range(30, len(content), 41), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"t\.pth cannot be read as a file of torch\.save"):
            read_torch(path)


def test_a_legacy_storage_of_another_size_is_refused(tmp_path):
    path = save(tmp_path / "t.pth", {"a": torch.ones(20)}, False)
    content = path.read_bytes()
    size = (20).to_bytes(8, "little")
    assert content.count(size) == 1
    path.write_bytes(content.replace(size, (19).to_bytes(8, "little")))
    with pytest.raises(ValueError, match="must have 20 numbers, got 19"):
        read_torch(path)


@FORMATS
def test_a_pickle_bomb_is_refused_before_it_is_unpickled(tmp_path, zipped, monkeypatch):
    """Tens of megabytes of a pickle that packs to nothing."""
    path = tmp_path / "bomb.pth"
    bomb = b"\x80\x02" + b"N0" * 5_000_000 + b"}."  # None, and away with it
    if zipped:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bomb)
        assert path.stat().st_size < 100_000
    else:
        content = save(path, {}, False).read_bytes()
        *start, _, keys = content.split(b"\x80\x02")
        path.write_bytes(b"\x80\x02".join(start) + bomb + b"\x80\x02" + keys)
    monkeypatch.setattr(torch_file._Unpickler, "persistent_load", None)
    with pytest.raises(ValueError, match=r"bomb\.pth .*: its pickle must have at most 2,097,152 bytes, got "):
        read_torch(path)


def test_a_memo_of_gigabytes_is_refused(tmp_path):
    path = save(tmp_path / "memo.pth", {"a": torch.ones(2)}, True)
    path = rewritten(path, {"data.pkl": b"\x80\x02}r\xff\xff\xff\x7f."})
    with pytest.raises(ValueError, match=r"its pickle remembers 2,147,483,647 objects in 9 bytes"):
        read_torch(path)


@FORMATS
def test_an_expanded_tensor_of_terabytes_is_refused(tmp_path, zipped):
    path = save(tmp_path / "wide.pth", {"a": torch.ones(1).expand(10**6, 10**6)}, zipped)
    with pytest.raises(ValueError, match=r"its tensors must have at most 1,073,741,824 bytes, got 4,000,000,000,000"):
        read_torch(path)


def test_neither_zip_nor_legacy(tmp_path):
    (tmp_path / "page.pth").write_text("<html>")
    with pytest.raises(ValueError, match=r"page\.pth .* neither a zip archive nor a file with torch's magic number"):
        read_torch(tmp_path / "page.pth")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights at .*none\.pth"):
        read_torch(tmp_path / "none.pth")
