import gc
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zarr

from jifv.experiments import journal
from jifv.experiments.store import Store

IDENTITY = {"experiment": {"name": "a", "steps": 3}, "weights": "abc", "shape": (1, 2)}


def arrays(store, batch):
    rows = store.rows(batch)
    return {
        "values": np.stack([np.full((3, 2), row, np.float32) for row in rows]),
        "flags": rows % 2 == 0,
    }


def fill(store, stage="realize"):
    for batch in store.missing(stage):
        store.write(stage, batch, arrays(store, batch), {"work": 1.0 + batch})


@pytest.fixture(params=["memory", "disk"])
def store(request, tmp_path):
    return Store.in_memory(7, 3) if request.param == "memory" else Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)


def test_batches_come_back_in_the_order_of_the_samples(store):
    for batch in reversed(store.missing("realize")):
        store.write("realize", batch, arrays(store, batch), {})
    read = store.read("realize")
    assert store.missing("realize") == []
    np.testing.assert_array_equal(read["values"][:, 0, 0], np.arange(7))
    assert read["values"].dtype == np.float32
    assert read["flags"].tolist() == [True, False] * 3 + [True]


def test_last_batch_is_what_is_left(store):
    assert [store.rows(batch).tolist() for batch in store.missing("realize")] == [[0, 1, 2], [3, 4, 5], [6]]


def test_number_of_devices_is_that_of_every_batch(store):
    for stage, batch, devices in [("realize", 0, 8), ("realize", 1, 2), ("reoptimize", 0, 8)]:
        store.write(stage, batch, arrays(store, batch), {}, devices=devices)
    assert store.devices() == [2, 8]


def test_not_a_number_and_infinity_come_back(store):
    odd = np.array([[np.nan, np.inf], [-np.inf, 0.0], [1.0, 2.0]])
    for batch in store.missing("odd"):
        store.write("odd", batch, {"x": odd[: len(store.rows(batch))]}, {})
    np.testing.assert_array_equal(store.read("odd")["x"][:3], odd)


def test_stages_are_apart(store):
    fill(store)
    assert store.missing("reoptimize") == [0, 1, 2]


def test_seconds_are_a_sample_and_without_compilation(store):
    fill(store)  # 1 s for three samples with compilation, then 2 s for three and 3 s for one
    assert store.seconds() == {"work": pytest.approx(5 / 4)}
    assert store.total_seconds() == pytest.approx(6)


def test_seconds_of_a_single_batch_include_compilation():
    store = Store.in_memory(2, 2)
    fill(store)
    assert store.seconds() == {"work": pytest.approx(0.5)}


def test_reopened_store_goes_on(tmp_path):
    first = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    first.write("realize", 1, arrays(first, 1), {"work": 1.0})
    again = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    assert again.missing("realize") == [0, 2]
    fill(again)
    np.testing.assert_array_equal(again.read("realize")["values"][:, 0, 0], np.arange(7))


def test_anybody_can_open_the_arrays(tmp_path):
    fill(Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3))
    assert zarr.open_group(tmp_path / "a.zarr" / "realize", mode="r")["values"].shape == (7, 3, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "xyz"}, "weights is abc, not xyz"),
        ({"experiment": {"name": "a", "steps": 4}}, r"experiment\.steps is 3, not 4"),
        ({"new": 1}, "new is not there, not 1"),
    ],
)
def test_store_of_another_run_is_refused_by_what_differs(tmp_path, change, message):
    Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    with pytest.raises(ValueError, match=message):
        Store.open(tmp_path / "a.zarr", IDENTITY | change, 7, 3)


def test_folder_with_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds no run"):
        Store.open(tmp_path, IDENTITY, 7, 3)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_batch_that_did_not_reach_the_journal_does_not_count(tmp_path, monkeypatch):
    store = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    store.write("realize", 0, arrays(store, 0), {})
    monkeypatch.setattr("jifv.experiments.journal.replace_durably", full_disk)
    with pytest.raises(OSError, match="No space"):
        store.write("realize", 1, arrays(store, 1), {})
    monkeypatch.undo()
    assert store.missing("realize") == [1, 2]
    again = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    assert again.missing("realize") == [1, 2]


def full_disk(*_, **__):
    raise OSError(28, "No space left on device")


def test_full_disk_names_the_chunk_and_keeps_what_was_finished(tmp_path, monkeypatch):
    store = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    store.write("realize", 0, arrays(store, 0), {})
    monkeypatch.setattr("zarr.storage._local._put", full_disk)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.zarr/realize/values/c/1/0/0'"):
        store.write("realize", 1, arrays(store, 1), {})
    monkeypatch.undo()
    fill(store)
    np.testing.assert_array_equal(store.read("realize")["values"][:, 0, 0], np.arange(7))


def test_half_made_arrays_of_a_first_batch_are_no_obstacle(tmp_path):
    store = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    (tmp_path / "a.zarr" / "realize" / "values").mkdir(parents=True)
    (tmp_path / "a.zarr" / "realize" / "values" / "zarr.json").write_text('{"zarr_fo')
    fill(store)
    np.testing.assert_array_equal(store.read("realize")["values"][:, 0, 0], np.arange(7))


def test_half_written_chunk_of_a_later_batch_is_written_again(tmp_path):
    store = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    store.write("realize", 0, arrays(store, 0), {})
    chunk = tmp_path / "a.zarr" / "realize" / "values" / "c" / "1" / "0" / "0"
    chunk.parent.mkdir(parents=True)
    chunk.write_bytes(b"torn")
    again = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    fill(again)
    np.testing.assert_array_equal(again.read("realize")["values"][:, 0, 0], np.arange(7))


@pytest.mark.parametrize(("samples", "batch_size"), [(0, 1), (1, 0)])
def test_sizes_must_be_positive(samples, batch_size):
    with pytest.raises(ValueError, match="must be at least 1"):
        Store.in_memory(samples, batch_size)


# What the caller may get wrong.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"x": np.zeros((2, 2))}, r"arrays must hold 3 rows of numbers, got float64 of shape \(2, 2\) for x"),
        ({"x": np.array(1, np.float32)}, r"got float32 of shape \(\) for x"),
        ({"x": np.array(["a", "b", "c"])}, "got <U1 of shape"),
        ({"../x": np.zeros(3)}, r"named by letters, digits, _ and -, got '\.\./x'"),
        ({"x": np.zeros(3), "y": np.zeros(3)}, "as in the other batches of realize: y is not there"),
        ({"x": np.zeros(3, np.int32)}, r"x\.dtype is <f8, not <i4"),
        ({"x": np.zeros((3, 1))}, r"x\.shape is \[\], not \[1\]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(store, values, message):
    store.write("realize", 0, {"x": np.zeros(3)}, {})
    with pytest.raises(ValueError, match=message):
        store.write("realize", 1, values, {})
    assert store.missing("realize") == [1, 2]


def test_batch_is_written_once(store):
    store.write("realize", 0, arrays(store, 0), {})
    for batch in (0, 3, -1):
        with pytest.raises(ValueError, match=rf"a missing one of realize, \[1, 2\], got {batch}"):
            store.write("realize", batch, arrays(store, 0), {})


def test_stage_is_read_once_it_is_finished(store):
    store.write("realize", 0, arrays(store, 0), {})
    with pytest.raises(ValueError, match=r"got realize, which lacks the batches \[1, 2\]"):
        store.read("realize")


def test_numbers_come_back_whatever_their_type(store):
    kinds = {name: np.array([0, 1, 2], name) for name in ("bool", "int8", "uint16", "float16", "float64", "complex64")}
    kinds |= {"big": np.array([0, 1, 2], ">f4"), "strided": np.arange(6.0)[::2], "empty": np.zeros((3, 0))}
    for batch in store.missing("types"):
        count = len(store.rows(batch))
        store.write("types", batch, {name: value[:count] for name, value in kinds.items()}, {})
    for name, value in store.read("types").items():
        np.testing.assert_array_equal(value[:3], kinds[name])
        assert value.dtype == kinds[name].dtype.newbyteorder("=")


def test_journal_keeps_how_each_batch_was_computed(tmp_path):
    store = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    store.write("realize", 0, arrays(store, 0), {"work": 2.0}, devices=4, commit="abc")
    store.write("realize", 1, arrays(store, 1), {"work": 1.0}, devices=4, commit="def")
    store.write("realize", 2, arrays(store, 2), {"work": 1.0})
    entries = journal.read(tmp_path / "a.zarr")["stages"]["realize"]["batches"]
    assert [(each["batch"], each["devices"], each["commit"], each["compiled"]) for each in entries] == [
        (0, 4, "abc", True),
        (1, 4, "def", False),
        (2, 1, None, False),
    ]
    assert [each["seconds"] for each in entries] == [{"work": 2.0}, {"work": 1.0}, {"work": 1.0}]
    assert store.commits() == ["abc", "def"]


# What happens to files.


@pytest.fixture
def finished(tmp_path):
    with Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3) as store:
        fill(store)
        fill(store, "reoptimize")
    return tmp_path / "a.zarr"


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


# Several processes.

OTHER = """
import sys
from jifv.experiments.store import Store
store = Store.open(sys.argv[1], {"a": 1}, 7, 3)
print("open", flush=True)
sys.stdin.read()
"""


def test_second_process_is_refused_until_the_first_ends_or_is_killed(tmp_path):
    folder = tmp_path / "runs" / "a.zarr"
    command = [sys.executable, "-c", OTHER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "open\n"
        before = (folder / "zarr.json").read_bytes()
        for use in (lambda: Store.open(folder, {"a": 1}, 7, 3), lambda: Store.remove(folder)):
            with pytest.raises(OSError, match=rf"a\.zarr is in use by process {process.pid} on .* since"):
                use()
        assert (folder / "zarr.json").read_bytes() == before
        process.kill()
    fill(Store.open(folder, {"a": 1}, 7, 3))


TOGETHER = """
import sys
import jax
import numpy as np
jax.distributed.initialize(f"127.0.0.1:{sys.argv[2]}", 2, int(sys.argv[3]))
from jifv.experiments.store import Store
try:
    Store.open(sys.argv[1] + "/used.zarr", {}, 40, 2)
except OSError as error:
    print(error)
with Store.open(sys.argv[1] + "/a.zarr", {}, 40, 2) as store:
    for batch in store.missing("x"):
        store.write("x", batch, {"x": store.rows(batch)}, {})
    assert store.read("x")["x"].tolist() == list(range(40))
Store.remove(sys.argv[1] + "/a.zarr")
"""


def test_of_two_processes_of_one_run_one_writes_both_read_and_both_fail(tmp_path):
    (tmp_path / "used.zarr.lock").write_text("{}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", TOGETHER, str(tmp_path), str(port)]
    other = subprocess.Popen([*command, "1"], stdout=subprocess.PIPE, text=True)
    try:
        one = subprocess.run([*command, "0"], stdout=subprocess.PIPE, text=True, timeout=300, check=True).stdout
        two = other.communicate(timeout=300)[0]
    finally:
        other.kill()
    assert other.returncode == 0
    assert "used.zarr is in use by a process that did not say its name" in one
    assert "the process that writes the files failed" in two
    assert [path.name for path in tmp_path.iterdir()] == ["used.zarr.lock"]


def test_store_is_free_once_it_is_closed(tmp_path):
    with Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3) as store:
        assert (tmp_path / "a.zarr.lock").exists()
        fill(store)
    assert not (tmp_path / "a.zarr.lock").exists()
    assert store.read("realize")["values"].shape == (7, 3, 2)
    with pytest.raises(ValueError, match=r"the store .*a\.zarr was closed"):
        fill(store, "reoptimize")


def test_journal_that_changed_behind_our_back_is_not_overwritten(tmp_path):
    first, second = (Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3) for _ in range(2))
    first.write("realize", 0, arrays(first, 0), {})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for stage, batch in (("realize", 1), ("other", 0)):
        with pytest.raises(OSError, match=r"zarr\.json was changed behind our back; start again"):
            second.write(stage, batch, {"x": np.zeros(3)}, {})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    shutil.rmtree(tmp_path / "a.zarr")
    with pytest.raises(ValueError, match="holds no run"):
        first.write("realize", 1, arrays(first, 1), {})
    assert not (tmp_path / "a.zarr").exists()


def test_lost_lock_stops_the_run_before_it_writes(tmp_path):
    store = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    (tmp_path / "a.zarr.lock").write_text("another")
    with pytest.raises(OSError, match="no longer locked by this process"):
        store.write("realize", 0, arrays(store, 0), {})
    assert sorted(path.name for path in (tmp_path / "a.zarr").iterdir()) == ["zarr.json"]


def test_attributes_of_others_stay(tmp_path):
    store = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    zarr.open_group(tmp_path / "a.zarr", mode="r+").attrs["note"] = "mine"
    fill(store)
    assert zarr.open_group(tmp_path / "a.zarr", mode="r").attrs["note"] == "mine"


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


# Kills.


@pytest.mark.parametrize(
    "arguments",
    [
        ("steps", "--every", "60"),
        ("kills", "--count", "2"),
        pytest.param(("steps",), marks=pytest.mark.slow),
        pytest.param(("kills", "--count", "100"), marks=pytest.mark.slow),
        pytest.param(("meet", "--count", "20"), marks=pytest.mark.slow),
        pytest.param(("damage", "--count", "500"), marks=pytest.mark.slow),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_fuzzing_finds_nothing(arguments):
    script = Path(__file__).parents[2] / "benchmarks" / "fuzz_store.py"
    result = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


RUN = """
import sys
sys.path.insert(0, sys.argv[2])
from support.toy import TOY, network, scores
from jifv.experiments.run import identity, run
from jifv.experiments.studies import smaller
from jifv.experiments.store import Store
[cell] = smaller([TOY], adam_steps=30, lbfgs_steps=10, batch_size=1)
net = network(scores)
print("ready", flush=True)
run(cell, net, store=Store.open(sys.argv[1], identity(cell, net), cell.samples, cell.batch_size), progress=False)
"""


@contextmanager
def runner(folder):
    """A process that is about to begin its run."""
    command = [sys.executable, "-c", RUN, str(folder), str(Path(__file__).parents[1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_run_that_is_killed_at_random_moments_ends_with_the_same_bits(tmp_path, kills):
    whole = tmp_path / "whole.zarr"
    with runner(whole) as process:
        began = time.monotonic()
        assert process.wait() == 0
        duration = time.monotonic() - began

    chance = random.Random(kills)
    killed = tmp_path / "killed.zarr"
    count = 0
    while count < kills:
        with runner(killed) as process:
            time.sleep(chance.uniform(0, 1.1 * duration / (1 if count % 2 else 4)))
            process.kill()
        if process.returncode:
            assert process.returncode == -signal.SIGKILL
            count += 1
        else:
            compare(killed, whole)
            shutil.rmtree(killed)
    with runner(killed) as process:
        assert process.wait() == 0
    compare(killed, whole)


def compare(folder, reference):
    for stage in ("realize", "reoptimize"):
        found, wanted = (zarr.open_group(each / stage, mode="r") for each in (folder, reference))
        assert sorted(found.array_keys()) == sorted(wanted.array_keys())
        for name in wanted.array_keys():
            np.testing.assert_array_equal(found[name][...], wanted[name][...], err_msg=name)
