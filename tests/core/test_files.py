import errno
import os
import re
import stat
from pathlib import Path

import pytest

from jifv._core.files import PARTIAL, naming, replace_durably, sync


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"\x00\xff", b"\x00\xff"),
        ("β\r\nγ\n", "β\r\nγ\n".encode()),
        (lambda path: path.write_bytes(b"by a function"), b"by a function"),
    ],
)
def test_file_is_written_and_replaced(tmp_path, content, wanted):
    for _ in range(2):
        replace_durably(tmp_path / "a.bin", content)
        assert (tmp_path / "a.bin").read_bytes() == wanted
    assert os.listdir(tmp_path) == ["a.bin"]


def test_function_is_given_a_name_with_the_same_ending_in_the_same_folder(tmp_path):
    seen = []
    replace_durably(tmp_path / "figure.png", lambda path: (seen.append(path), path.write_text("")))
    [beside] = seen
    assert beside.parent == tmp_path
    assert re.fullmatch(PARTIAL + r"figure\.png", beside.name)


@pytest.mark.parametrize("error", [ValueError("no figure"), KeyboardInterrupt()])
def test_what_was_there_stays_if_the_function_fails(tmp_path, error):
    (tmp_path / "a.txt").write_text("old")

    def fail(path):
        path.write_text("half")
        raise error

    with pytest.raises(type(error)):
        replace_durably(tmp_path / "a.txt", fail)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_was_there_stays_until_the_new_file_is_on_the_disk(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append(_kind(descriptor)), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("replace"), replace(*paths)))
    replace_durably(tmp_path / "a.txt", "new")
    assert order == ["file", "replace", "folder"]


def _kind(descriptor):
    return "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"


def test_full_disk_is_told_with_the_name_of_the_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/a\.txt'$") as caught:
        replace_durably(tmp_path / "a.txt", b"new")
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "a.txt").read_text() == "old"


def test_folder_that_is_not_there_is_told_by_the_name_of_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"directory: '.*/nowhere/a\.txt'$"):
        replace_durably(tmp_path / "nowhere" / "a.txt", "new")


def test_errors_about_other_files_keep_their_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.bin"):
        replace_durably(tmp_path / "a.txt", lambda path: Path("missing.bin").read_bytes())
    with pytest.raises(OSError, match="as it is"), naming(tmp_path):
        raise OSError("as it is")


def test_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "b.txt").write_text("old")
    (tmp_path / "a.txt").symlink_to("there/b.txt")
    replace_durably(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").is_symlink()
    assert (tmp_path / "there" / "b.txt").read_text() == "new"


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    replace_durably(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_folder_that_cannot_be_synced_is_no_error_but_a_file_is(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(errno.EINVAL, "Invalid argument")

    (tmp_path / "a.txt").write_text("")
    monkeypatch.setattr(os, "fsync", refuse)
    sync(tmp_path)
    with pytest.raises(OSError, match=r"Invalid argument: '.*a\.txt'"):
        sync(tmp_path / "a.txt")
