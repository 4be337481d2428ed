import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zarr

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
    store.write("odd", 0, {"x": odd}, {})
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
    monkeypatch.setattr("jifv.experiments.store._replace_durably", full_disk)
    with pytest.raises(OSError, match="No space"):
        store.write("realize", 1, arrays(store, 1), {})
    monkeypatch.undo()
    again = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    assert again.missing("realize") == [1, 2]


def full_disk(*_):
    raise OSError(28, "No space left on device")


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
    fill(Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3))
    np.testing.assert_array_equal(store.read("realize")["values"][:, 0, 0], np.arange(7))


@pytest.mark.parametrize(("samples", "batch_size"), [(0, 1), (1, 0)])
def test_sizes_must_be_positive(samples, batch_size):
    with pytest.raises(ValueError, match="must be at least 1"):
        Store.in_memory(samples, batch_size)


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
