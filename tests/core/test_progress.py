import re

import pytest

from jifv._core.progress import bar


def test_disabled_bar_is_silent(capsys):
    with bar("stage", 3, enabled=False) as advance:
        advance()
        advance(2)
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_there_is_one_line(capsys):
    with bar("stage", 5) as advance:
        advance()
        advance(3)
        assert capsys.readouterr().err == ""
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"stage: 4/5 in \d+\.\d s\n", err)


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
