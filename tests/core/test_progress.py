import re
import sys
import time
from types import SimpleNamespace

import pytest

import jifv._core.progress
from jifv._core.progress import bar


def test_disabled_bar_is_silent(capsys):
    with bar("stage", 3, enabled=False) as advance:
        advance()
        advance(2)
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_there_is_one_line_at_the_end(capsys):
    with bar("stage", 5) as advance:
        advance()
        advance(3)
        assert capsys.readouterr().err == ""
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"stage: 4/5 in \d+\.\d s\n", err)


def wait_for(text, capsys):
    seen = ""
    end = time.monotonic() + 20
    while text not in seen:
        assert time.monotonic() < end, seen
        time.sleep(0.005)
        seen += capsys.readouterr().err
    return seen


def test_what_takes_long_shows_that_it_lives(capsys, monkeypatch):
    monkeypatch.setattr(jifv._core.progress, "EVERY", 0.01)
    with bar("stage", 5) as advance:
        assert "left" not in wait_for("stage: 0/5 in ", capsys)  # of nothing done, nothing can be said
        advance(2)
        assert re.search(r"stage: 2/5 in \d+\.\d s, \d+ s left\n", wait_for(" left\n", capsys))
    assert re.search(r"stage: 2/5 in \d+\.\d s\n$", capsys.readouterr().err)


class ZMQInteractiveShell:
    """As a notebook's kernel is called."""


def test_in_a_notebook_one_line_is_replaced(capsys, monkeypatch):
    shown = []

    def display(data, *, raw, display_id):
        assert raw
        assert display_id
        shown.append([data["text/plain"]])
        return SimpleNamespace(update=lambda data, *, raw: shown[-1].append(data["text/plain"]))

    fake = SimpleNamespace(get_ipython=ZMQInteractiveShell, display=SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "IPython.display", fake.display)
    with bar("stage", 5) as advance:
        advance(5)
    assert capsys.readouterr() == ("", "")
    [lines] = shown
    assert lines[0].startswith("stage: 0/5")
    assert lines[-1].startswith("stage: 5/5")


def test_on_a_terminal_there_is_a_bar(capsys, monkeypatch):
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    with bar("stage", 5) as advance:
        advance(4)
    out, err = capsys.readouterr()
    assert out == ""
    assert "stage" in err
    assert "4/5" in err


@pytest.mark.parametrize("enabled", [True, False])
def test_errors_pass_through(capsys, enabled):
    def stage():
        with bar("stage", 5, enabled) as advance:
            advance(2)
            raise KeyError

    with pytest.raises(KeyError):
        stage()
    assert ("stage: 2/5" in capsys.readouterr().err) is enabled
