import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zarr
from support.stores import IDENTITY, arrays, fill

from jifv.experiments.store import Store

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


# Kills.


@pytest.mark.parametrize(
    "arguments",
    [
        ("steps", "--every", "60"),
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
    """A process that is about to begin its run. All of them share what they compile."""
    command = [sys.executable, "-c", RUN, str(folder), str(Path(__file__).parents[1])]
    cache = {
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with subprocess.Popen(command, env=os.environ | cache, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process


@pytest.mark.slow  # every process begins by importing and loading all it needs; the fuzzing above is quick
@pytest.mark.parametrize("kills", [20])
def test_run_that_is_killed_at_random_moments_ends_with_the_same_bits(tmp_path, kills):
    with runner(tmp_path / "compiling.zarr") as process:
        assert process.wait() == 0
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
