import io
import re
import sys

import pytest

from jifv.cli.output import show
from jifv.experiments.report.tables import Table

NAMES = ("dnde-n32-pick-k2", "gn4c-fourier_decorrelated-k2")
MANY = Table(
    "median angle to the target, degrees",
    ("experiment", "n", "k", "prediction", "90 %", "response", "random", "β0", "‖JᵀBv*‖ / σ₁", "SSIM"),
    [(name, "342", "0.5", "123.45", "–", "17.60", "90.12", "0.123", "1.2e-05", "0.998") for name in NAMES],
)


def printed(table, encoding, width, monkeypatch):
    """What a table looks like in a terminal of some encoding and width."""
    stream = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(stream, encoding=encoding, errors="jifv.spelled", newline=""))
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    show(table)
    sys.stdout.flush()
    return stream.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_wide_table_fits_80_columns_in_any_encoding_with_every_number_in_one_line(encoding, monkeypatch):
    title, *lines = printed(MANY, encoding, 80, monkeypatch).splitlines()
    assert title.rstrip() == MANY.title
    assert max(map(len, lines)) <= 80
    assert "?" not in "".join(lines)
    rows = [line.split() for line in lines if "342" in line]
    dash = {"ascii": "-"}.get(encoding, "–")
    numbers = ["342", "0.5", "123.45", dash, "17.60", "90.12", "0.123", "1.2e-05", "0.998"]
    assert [row[1:] for row in rows] == [numbers] * 2
    names = "".join(line.partition("  ")[0].strip() for line in lines)
    assert all(name in names for name in NAMES)
    assert {"prediction", "response", "random"} <= set(" ".join(lines).split())


def test_there_is_no_wrapping_where_there_is_room(monkeypatch):
    lines = printed(MANY, "utf-8", 120, monkeypatch).splitlines()
    assert re.split("  +", lines[1].strip()) == list(MANY.columns)
    assert len(lines) == 3 + len(MANY.rows) + 1  # title, headings and a line; and an empty one at the end


def test_nothing_is_cut_in_a_terminal_too_narrow_for_the_numbers(monkeypatch):
    lines = printed(MANY, "utf-8", 40, monkeypatch).splitlines()
    assert max(map(len, lines)) <= 40
    assert "…" not in "".join(lines)
    assert sum(line.count("9") for line in lines) == sum("".join(row).count("9") for row in MANY.rows) + 1  # 90 %
