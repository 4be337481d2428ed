import gc
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from jifv._core import lock as module
from jifv._core.lock import hold

HOLD = """
import sys, time
from jifv._core.lock import hold
lock = hold(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def holder(path):
    """Another process that holds the lock."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_lock_is_a_file_beside_until_nobody_refers_to_it(tmp_path):
    lock = hold(tmp_path / "a.zarr")
    assert os.listdir(tmp_path) == ["a.zarr.lock"]
    said = json.loads((tmp_path / "a.zarr.lock").read_text())
    assert said["process"] == os.getpid()
    lock.check()
    del lock
    gc.collect()
    assert os.listdir(tmp_path) == []


def test_same_process_has_the_same_lock_by_any_name(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    assert hold(tmp_path / "a") is (other := hold(tmp_path / "link" / "a"))
    assert other is not hold(tmp_path / "b")


def test_another_process_is_refused_and_told_by_whom(tmp_path):
    with holder(tmp_path / "a") as process:
        with pytest.raises(OSError, match=rf"a is in use by process {process.pid} on .* since 20\d\d-"):
            hold(tmp_path / "a")
        process.kill()
        process.wait()
        hold(tmp_path / "a").check()


def test_dead_process_that_nobody_waited_for_holds_nothing(tmp_path):
    with holder(tmp_path / "a") as process:
        process.kill()
        while module._started(process.pid) is not None:  # it becomes a zombie
            time.sleep(0.01)
        hold(tmp_path / "a").check()


def pretend(tmp_path, age=0.0, **changes):
    """The lock of another process, on another machine if not told otherwise."""
    said = {"process": os.getpid(), "started": "1", "host": "node7", "place": "elsewhere", "since": "2020-01-01"}
    file = tmp_path / "a.lock"
    file.write_text(json.dumps(said | changes))
    os.utime(file, (time.time() - age,) * 2)
    return file


def test_lock_of_another_machine_is_void_some_minutes_after_its_last_sign_of_life(tmp_path):
    file = pretend(tmp_path, age=200)
    with pytest.raises(OSError, match=r"on node7 since 2020-01-01, which gave a sign of life 20\d s ago.*5 minutes"):
        hold(tmp_path / "a")
    assert "node7" in file.read_text()
    pretend(tmp_path, age=400)
    hold(tmp_path / "a").check()


def test_number_of_a_process_that_is_used_again_is_another_process(tmp_path):
    pretend(tmp_path, place=module._place(), started="another time")
    hold(tmp_path / "a").check()


def test_process_of_this_machine_keeps_its_lock_however_long_it_was_suspended(tmp_path):
    with holder(tmp_path / "a") as process:
        os.utime(tmp_path / "a.lock", (0, 0))
        with pytest.raises(OSError, match=f"in use by process {process.pid}"):
            hold(tmp_path / "a")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"place": 3}', '{"process": "x"}'])
def test_lock_that_says_nothing_of_its_holder_is_respected_for_a_while(tmp_path, content):
    (tmp_path / "a.lock").write_text(content)
    with pytest.raises(OSError, match="is in use by"):
        hold(tmp_path / "a")
    os.utime(tmp_path / "a.lock", (0, 0))
    hold(tmp_path / "a").check()


def test_lock_that_was_lost_is_told(tmp_path):
    lock = hold(tmp_path / "a")
    (tmp_path / "a.lock").unlink()
    with pytest.raises(OSError, match=r"no longer locked by this process: .*a\.lock is gone"):
        lock.check()
    pretend(tmp_path)
    with pytest.raises(OSError, match=r"is held by process \d+ on node7"):
        lock.check()
    del lock
    gc.collect()
    assert (tmp_path / "a.lock").exists()  # another's


def test_lock_is_touched_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_TOUCH", 0.02)
    lock = hold(tmp_path / "a")
    os.utime(tmp_path / "a.lock", (0, 0))
    deadline = time.monotonic() + 10
    while (tmp_path / "a.lock").stat().st_mtime < 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (tmp_path / "a.lock").stat().st_mtime > 1
    lock.check()


def test_lock_works_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    hold(tmp_path / "a").check()
    assert hold(tmp_path / "b")
    pretend(tmp_path)
    with pytest.raises(OSError, match="in use by"):
        hold(tmp_path / "a")


def test_fresh_lock_that_was_renamed_by_mistake_is_given_back(tmp_path, monkeypatch):
    file = pretend(tmp_path, age=400)
    rename = os.rename

    def late(source, target):
        if source == file:
            pretend(tmp_path, host="node8")  # who was faster
        monkeypatch.undo()
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(OSError, match="on node8"):
        hold(tmp_path / "a")
    assert os.listdir(tmp_path) == ["a.lock"]


def test_what_killed_processes_left_is_swept(tmp_path):
    (tmp_path / ".partial-01234567-a.lock").write_text("")
    os.utime(tmp_path / ".partial-01234567-a.lock", (0, 0))
    (tmp_path / ".partial-89abcdef-a.lock").write_text("")
    lock = hold(tmp_path / "a")
    assert sorted(os.listdir(tmp_path)) == [".partial-89abcdef-a.lock", "a.lock"]
    lock.check()


def test_lock_that_cannot_be_written_names_its_file(tmp_path):
    with pytest.raises(OSError, match=r"nowhere/a\.lock"):
        hold(tmp_path / "nowhere" / "a")
