"""Pictures from wherever they are, against the arrays that were written there."""

import re

import numpy as np
import pytest
import zarr
from PIL import Image
from support.stores import fill

from jifv.experiments.pictures import find_pictures
from jifv.experiments.store import Store

MANY = np.random.default_rng(0).integers(0, 256, (11, 6, 5, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    Image.fromarray(MANY[0]).save(tmp_path / "b.png")
    np.save(tmp_path / "a.npy", MANY[1:3])
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def test_a_folder_is_read_in_the_order_of_names(folder):
    found = find_pictures([folder])
    assert len(found) == 3
    assert [name.removeprefix(str(folder)) for name in found.names] == ["/a.npy:0", "/a.npy:1", "/b.png"]
    for index, wanted in enumerate((MANY[1], MANY[2], MANY[0])):
        np.testing.assert_array_equal(found[index], wanted)


@pytest.mark.parametrize("kind", ["npy", "npz", "npz of several", "zarr", "group", "array"])
def test_arrays_of_every_kind_hold_the_same(tmp_path, kind):
    path = tmp_path / f"a.{'zarr' if kind == 'group' else kind.split()[0]}"
    if kind == "npy":
        np.save(path, MANY)
    elif kind == "npz":
        np.savez(path, anything=MANY)
    elif kind == "npz of several":
        np.savez(path, labels=np.arange(11), images=MANY)
    elif kind == "array":
        path = MANY
    else:
        name = "images" if kind == "group" else None
        zarr.create_array(path, name=name, data=MANY, chunks=(4, 6, 5, 3))
    found = find_pictures([path])
    assert len(found) == 11
    assert found.names[3].endswith(":03")
    for index in (10, 0, 5, 4, 3):
        np.testing.assert_array_equal(found[index], MANY[index])
    with pytest.raises(IndexError):
        found[11]


def test_digest_depends_on_contents_and_their_order_not_on_names(folder, tmp_path):
    both = [folder / "a.npy", folder / "b.png"]
    digest = find_pictures(both).digest()
    assert find_pictures([folder]).digest() == digest
    assert find_pictures(both[::-1]).digest() != digest
    (folder / "a.npy").rename(folder / "c.npy")
    assert find_pictures([folder / "c.npy", folder / "b.png"]).digest() == digest
    Image.fromarray(MANY[1]).save(folder / "b.png")
    assert find_pictures([folder / "c.npy", folder / "b.png"]).digest() != digest


def test_one_picture_needs_no_axis_of_samples():
    assert len(find_pictures([MANY[0], MANY[0, ..., 0]])) == 2


def test_what_is_none_is_refused_by_name(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "two.npz", a=MANY, b=MANY)
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 broken")
    (tmp_path / "broken.npy").write_bytes(b"broken")
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("text")
    for name, message in {
        "one.npy": "must hold pictures",
        "two.npz": "must hold one array, or one named images, got a, b",
        "broken.npz": "broken.npz",
        "broken.npy": "must hold an array of numbers",
        "broken.zarr": "cannot be read as Zarr",
        "empty": "holds no pictures",
        "text.txt": "must be a folder or end in one of",
    }.items():
        with pytest.raises(ValueError, match=message):
            find_pictures([tmp_path / name])
    with pytest.raises(FileNotFoundError, match="no picture at"):
        find_pictures([tmp_path / "gone.png"])
    with pytest.raises(ValueError, match="pictures must be at least one"):
        find_pictures([])


def test_a_run_must_be_finished(tmp_path):
    with Store.open(tmp_path / "a.zarr", {"a": 1}, 7, 3) as store:
        rows = store.rows(0)
        store.write("realize", 0, {"images": MANY[rows], "parameters": MANY[rows] / 255}, {})
        with pytest.raises(ValueError, match="is not finished"):
            find_pictures([tmp_path / "a.zarr"])
        for batch in (1, 2):
            rows = store.rows(batch)
            store.write("realize", batch, {"images": MANY[rows], "parameters": MANY[rows] / 255}, {})
    found = find_pictures([tmp_path / "a.zarr"])
    assert found.run == tmp_path / "a.zarr"
    np.testing.assert_array_equal(found[6], MANY[6])
    np.testing.assert_array_equal(found.parameters()[2:4], MANY[2:4] / 255)
    with pytest.raises(ValueError, match="must be one store of realizations"):
        find_pictures([MANY]).parameters()


@pytest.mark.parametrize("name", ["images", "parameters"])
@pytest.mark.parametrize("how", ["gone", "flipped", "of another batch"])
def test_a_damaged_run_is_refused_and_not_read_as_something_else(tmp_path, name, how):
    with Store.open(tmp_path / "a.zarr", {"a": 1}, 7, 3) as store:
        for batch in store.missing("realize"):
            rows = store.rows(batch)
            store.write("realize", batch, {"images": MANY[rows], "parameters": MANY[rows] / 255}, {})
    chunk = tmp_path / "a.zarr" / "realize" / name / "c" / "1" / "0" / "0" / "0"
    if how == "gone":
        chunk.unlink()
    elif how == "flipped":
        content = bytearray(chunk.read_bytes())
        content[len(content) // 2] ^= 1
        chunk.write_bytes(content)
    else:
        chunk.write_bytes((chunk.parents[3] / "0" / "0" / "0" / "0").read_bytes())
    found = find_pictures([tmp_path / "a.zarr"])
    rows = found if name == "images" else found.parameters()
    for row in (2, 6):  # of the other batches
        np.testing.assert_array_equal(rows[row], MANY[row] / (1 if name == "images" else 255))
    with pytest.raises(ValueError, match=f"{re.escape(str(chunk))} is .*; the command that made the run computes"):
        rows[3]


def test_a_run_without_pictures_is_refused_by_name(tmp_path):
    for name, kept, message in (
        ("a.zarr", {"values": np.zeros((2, 3))}, "a.zarr must have an array realize/images, got values"),
        (
            "b.zarr",
            {"images": np.zeros((2, 3, 3))},
            r"b.zarr must hold images \(samples, h, w, C\), got shape \(2, 3, 3\)",
        ),
    ):
        with Store.open(tmp_path / name, {"a": 1}, 2, 2) as store:
            store.write("realize", 0, kept, {})
        with pytest.raises(ValueError, match=message):
            find_pictures([tmp_path / name])


def test_a_batch_of_a_store_is_read_alone(tmp_path):
    with Store.open(tmp_path / "a.zarr", {"a": 1}, 7, 3) as store:
        fill(store)
        whole = store.read("realize")
        found = store.read_batch("realize", 1, without=("flags",))
        assert found.keys() == {"values"}
        np.testing.assert_array_equal(found["values"], whole["values"][3:6])
        with pytest.raises(ValueError, match="batch must be a finished one of other, got 0"):
            store.read_batch("other", 0)
