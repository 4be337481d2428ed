import gc
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from support.stores import IDENTITY, fill, full_disk

from jifv.experiments.store import Store

# What happens to files.


def reopened(folder, message):
    with pytest.warns(UserWarning, match=message):
        return Store.open(folder, IDENTITY, 7, 3)


def is_whole(store):
    for stage in ("realize", "reoptimize"):
        fill(store, stage)
        np.testing.assert_array_equal(store.read(stage)["values"], np.arange(7)[:, None, None] + np.zeros((3, 2)))


@pytest.mark.parametrize("name", ["values", "flags"])
def test_chunk_that_is_gone_is_computed_again(finished, name):
    chunk = finished / "realize" / name / "c" / "1"
    shutil.rmtree(chunk) if chunk.is_dir() else chunk.unlink()
    store = reopened(finished, rf"realize/{name}/c/1.* is not there, so batch 1 of realize is missing again")
    assert (store.missing("realize"), store.missing("reoptimize")) == ([1], [])
    is_whole(store)
    is_whole(Store.open(finished, IDENTITY, 7, 3))  # and no warning


def test_zeros_are_a_chunk_too(tmp_path):
    store = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    for batch in store.missing("zeros"):
        store.write("zeros", batch, {"x": np.zeros(len(store.rows(batch)))}, {})
    assert not Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3).missing("zeros")


def test_every_bit_of_a_chunk_counts(finished):
    chunk = finished / "realize" / "values" / "c" / "0" / "0" / "0"
    content = chunk.read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        chunk.write_bytes(flipped)
        with pytest.raises(ValueError, match="checksum"):  # as anybody reads it with Zarr
            zarr.open_group(finished / "realize", mode="r")["values"][...]
    store = reopened(finished, r"values/c/0/0/0 is damaged \(.*checksum.*\), so batch 0 of realize is missing again")
    assert store.missing("realize") == [0]
    is_whole(store)


def test_whole_chunk_in_the_wrong_place_is_damage(finished):
    chunks = finished / "realize" / "values" / "c"
    shutil.copy(chunks / "0" / "0" / "0", chunks / "1" / "0" / "0")
    store = reopened(finished, r"c/1/0/0 is damaged \(it holds other numbers than were written\)")
    assert store.missing("realize") == [1]
    is_whole(store)


@pytest.mark.parametrize("path", ["realize/zarr.json", "realize/values/zarr.json"])
@pytest.mark.parametrize("how", ["gone", "cut", "other"])
def test_descriptions_are_repaired(finished, path, how):
    file = finished / path
    content = file.read_text()
    if how == "gone":
        file.unlink()
    else:
        file.write_text(content[:-9] if how == "cut" else content.replace("float32", "int32").replace('"group"', "1"))
    store = reopened(finished, f"{path} was damaged and is repaired")
    assert store.missing("realize") == []
    is_whole(store)
    assert file.read_text() == content


def test_damage_after_opening_is_an_error_and_not_zeros(finished):
    store = Store.open(finished, IDENTITY, 7, 3)
    shutil.rmtree(finished / "realize" / "values" / "c" / "1")
    with pytest.raises(OSError, match=r"values/c/1/0/0 is not there\. Start again"):
        store.read("realize")


def test_much_damage_is_told_in_short(finished):
    for stage in ("realize", "reoptimize"):
        shutil.rmtree(finished / stage / "values" / "c")
    reopened(finished, r"(is not there.*){5}; and 1 more")


def test_file_that_may_not_be_read_is_no_damage(finished, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "values")

    monkeypatch.setattr("zarr.storage._local._get", refuse)
    with pytest.raises(PermissionError):
        Store.open(finished, IDENTITY, 7, 3)
    monkeypatch.undo()
    assert Store.open(finished, IDENTITY, 7, 3).missing("realize") == []


def test_zarr_has_nothing_to_say_about_a_store(finished):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(finished, mode="r")
        assert sorted(name for name, _ in group.members()) == ["realize", "reoptimize"]
        assert sorted(name for name, _ in group["realize"].arrays()) == ["flags", "values"]


def test_what_kills_leave_is_swept(finished):
    left = [finished / ".partial-0123abcd-zarr.json", finished / "realize" / f"zarr.{'a' * 32}.partial"]
    left.append(finished / "realize" / "values" / "c" / f"0.{'b' * 32}.partial")
    for path in left:
        path.write_text("{")
    Store.open(finished, IDENTITY, 7, 3)
    assert not any(path.exists() for path in left)


def test_kill_before_the_first_journal_is_no_obstacle(tmp_path):
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    fill(Store.open(folder, IDENTITY, 7, 3))  # an empty folder
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / ".partial-0123abcd-zarr.json").write_text('{"zarr_for')
    store = Store.open(folder, IDENTITY, 7, 3)
    fill(store)
    assert store.missing("realize") == []


def test_store_without_checksums_is_refused(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "journal.json").write_text('{"identity": {}, "stages": {}}')
    with pytest.raises(ValueError, match="is of an older jifv, which kept no checksums"):
        Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)


def test_store_of_other_sizes_is_refused(tmp_path):
    Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    with pytest.raises(ValueError, match="samples is 7, not 8; batch_size is 3, not 4"):
        Store.open(tmp_path / "a.zarr", IDENTITY, 8, 4)


@pytest.mark.parametrize("arguments", [(IDENTITY, 0, 3), (IDENTITY, 7, 0), ({"a": object()}, 7, 3)])
def test_early_errors_leave_no_folder(tmp_path, arguments):
    with pytest.raises((ValueError, TypeError)):
        Store.open(tmp_path / "b" / "a.zarr", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_first_file_leave_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("jifv.experiments.journal.replace_durably", full_disk)
    with pytest.raises(OSError, match="No space"):
        Store.open(tmp_path / "b" / "a.zarr", IDENTITY, 7, 3)
    gc.collect()
    assert list(tmp_path.rglob("*.zarr")) == []


# Removal.


def test_removal_leaves_nothing(finished):
    (finished / ".partial-0123abcd-zarr.json").write_text("")
    (finished / "realize" / "values" / "c" / "0" / "0" / f"0.{'b' * 32}.partial").write_text("")
    Store.remove(finished)
    assert list(finished.parent.iterdir()) == []
    Store.remove(finished)  # there is none


@pytest.mark.parametrize(
    "path",
    [
        "mine.txt",
        "realize/mine.txt",
        "realize/values/mine.txt",
        "realize/values/c/mine.txt",
        "other.json",
        "a/b/c/0",
    ],
)
def test_removal_refuses_and_names_what_no_run_wrote(finished, path):
    (finished / path).parent.mkdir(parents=True, exist_ok=True)
    (finished / path).write_text("years of work")
    before = sorted(finished.rglob("*"))
    with pytest.raises(
        ValueError, match=rf"holds what no run wrote: .*a\.zarr/{path.removesuffix('/b/c/0')}.* Nothing was removed"
    ):
        Store.remove(finished)
    assert sorted(finished.rglob("*")) == before


def test_removal_does_not_follow_links(finished, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "0").write_text("years of work")
    (finished / "realize" / "values" / "c" / "9").symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match="values/c/9"):
        Store.remove(finished)
    assert (tmp_path / "mine" / "0").exists()


def test_removal_refuses_what_is_no_run(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds no run"):
        Store.remove(tmp_path)
    (tmp_path / "zarr.json").write_text("{}")
    with pytest.raises(ValueError, match="is not the journal of a run"):
        Store.remove(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_removal_that_was_killed_leaves_a_run(finished, monkeypatch):
    rmdir, left = Path.rmdir, iter(range(3))

    def killed(path):
        if next(left, None) is None:
            raise KeyboardInterrupt
        rmdir(path)

    monkeypatch.setattr(Path, "rmdir", killed)
    with pytest.raises(KeyboardInterrupt):
        Store.remove(finished)
    monkeypatch.undo()
    is_whole(reopened(finished, "missing again"))
