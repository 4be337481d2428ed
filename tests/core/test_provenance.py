import subprocess
from importlib import metadata

import pytest

from jifv._core.provenance import Commit, commit, cpu, provenance


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def test_commit_is_the_one_that_git_names(checkout):
    found = commit(checkout / "code.py")
    assert found == Commit(git(checkout, "rev-parse", "HEAD").strip(), False)
    assert str(found) == found.commit


def test_changed_files_are_dirty_and_new_ones_are_not(checkout):
    (checkout / "notes.txt").write_text("new")
    (checkout / "same.py").write_text("2")
    git(checkout, "add", "same.py")
    git(checkout, "commit", "-m", "second")
    assert not commit(checkout / "same.py").dirty
    (checkout / "code.py").write_text("3")
    found = commit(checkout / "code.py")
    assert found.dirty
    assert str(found).endswith("-dirty")


def test_installed_copy_in_the_checkout_of_somebody_else_has_no_commit(checkout):
    installed = checkout / ".venv" / "jifv" / "provenance.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("")
    assert commit(installed) is None


@pytest.mark.parametrize("path", ["", "/nowhere"])
def test_without_git_or_a_checkout_there_is_no_commit(tmp_path, monkeypatch, path):
    monkeypatch.setenv("PATH", path)  # no git there
    assert commit(tmp_path / f"{len(path)}.py") is None


def test_provenance_says_what_runs():
    found = provenance()
    assert found.version == metadata.version("jifv")
    assert found.packages["jax"] == metadata.version("jax")
    assert found.cpu == cpu() != ""
    assert (found.commit is None) == (found.dirty is None)
