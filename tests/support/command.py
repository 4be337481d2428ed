"""The command `jifv`, called in this process, and what it says and writes."""

import csv

from typer.testing import CliRunner

from jifv.cli import app


def call(*arguments, charset="utf-8", env=None):
    return CliRunner(charset=charset).invoke(app, list(map(str, arguments)), env=env)


def check_refused(result, code, message, folder):
    """Before any work, so that there is no folder."""
    assert result.exit_code == code, result.output
    assert message in said(result), said(result)
    assert not folder.exists(), folder


def said(result):
    """What was printed as running text, without the frames around errors."""
    return " ".join(result.output.replace("│", " ").split())


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))
