"""Results are data: complete, from clean trees, shown by what is generated, each picture once."""

import hashlib
import json
import math
import re
from pathlib import Path

import again
import collect
import generate
import pytest
from harness import numbers, results
from regions import REGIONS

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(results.RESULTS.glob("*.json"))
PICTURES = [
    path
    for folder in ("docs", "benchmarks")
    for ending in ("png", "jpg", "svg", "pdf")
    for path in (ROOT / folder).rglob(f"*.{ending}")
]
DOCUMENTS = {path: path.read_text(encoding="utf-8") for path in generate.documents()}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents_are_up_to_date(path):
    assert generate.filled(DOCUMENTS[path], REGIONS) == DOCUMENTS[path], "run `python benchmarks/generate.py`"


def test_every_region_is_shown():
    assert generate.used(list(DOCUMENTS.values())) == set(REGIONS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_result_says_where_it_comes_from(path):
    result = results.read(path)
    assert re.fullmatch("[0-9a-f]{40}", result.commit)
    assert result.dirty is False
    assert "cores" in result.machine
    assert {"python", "jax", "jaxlib", "numpy"} <= set(result.versions)
    assert result.command.startswith(("jifv reproduce ", "python benchmarks/"))
    assert " /" not in result.command
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", result.when)
    assert result.rows
    # As it was written, so that a new measurement changes what was measured and nothing else.
    assert path.read_text(encoding="utf-8") == results._dumped(result)


def test_there_is_nothing_else_beside_the_results():
    others = {path.name for path in results.RESULTS.iterdir()} - {path.name for path in FILES}
    assert others == {"README.md"}


def test_every_picture_is_kept_once_shown_and_of_one_result():
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in PICTURES}) == len(PICTURES) > 0
    owners = [picture for path in FILES for picture in results.read(path).pictures]
    assert sorted(owners) == sorted(path.relative_to(ROOT).as_posix() for path in PICTURES)
    shown = {
        (document.parent / target).resolve()
        for document, text in DOCUMENTS.items()
        for target in re.findall(r"\]\(([^)#:]+\.\w+)\)", text)
    }
    assert set(PICTURES) <= shown
    assert all(path.is_file() for path in shown)


# Rounding. What is written is the number in the file, to half a unit of the last digit.


def all_numbers():
    def found(value):
        if isinstance(value, dict):
            yield from found(list(value.values()))
        elif isinstance(value, list):
            for entry in value:
                yield from found(entry)
        elif isinstance(value, float):
            yield value

    return [number for path in FILES for number in found(results.read(path).rows)]


@pytest.mark.parametrize(
    ("write", "unit", "digits"),
    [
        (numbers.significant, 1, 3),
        (numbers.degrees, 1, 3),
        (numbers.milliseconds, 1e-3, 3),
        (numbers.ratio, 1, 2),
        (numbers.fixed, 1, None),
        (numbers.percent, 1e-2, None),
        (numbers.mebibytes, 2**20, None),
    ],
)
def test_rounds_right(write, unit, digits):
    values = all_numbers()
    assert len(values) > 1000
    for value in values:
        text = re.search(r"−?[\d,]+(\.\d+)?", write(value))[0].replace(",", "").replace("−", "-")
        last = -len(text.partition(".")[2])  # the power of ten of the last digit
        if digits and not last and value:
            last = max(0, math.floor(math.log10(abs(float(text)))) + 1 - digits)
        assert abs(float(text) - value / unit) <= 0.5 * 10.0**last * (1 + 1e-9), (value, write(value))


def test_keeps_the_digits_it_should():
    assert [numbers.significant(x) for x in (0, None, 9.996, 0.0012345, 1064.4, -14.06)] == [
        "0", "–", "10.0", "0.00123", "1,060", "−14.1",
    ]  # fmt: skip
    assert [numbers.degrees(x) for x in (1.192, 14.084, 89.99998, 145.68, 0.00386)] == [
        "1.19°", "14.1°", "90.0°", "146°", "0.0039°",
    ]  # fmt: skip
    assert [numbers.duration(x) for x in (0.0152, 0.9994, 0.9996, 1.839)] == ["15.2 ms", "999 ms", "1.00 s", "1.84 s"]
    assert numbers.scientific(2.61609e-07) == "2.6e-7"
    assert numbers.span([1.49, 1.51], numbers.ratio) == "1.5×"
    assert numbers.listed("abc") == "a, b and c"


# The script that fills the documents.

TOY = {"one": lambda: "| 1 |\n", "two": lambda: "2"}


def test_fills_blocks_and_words_whatever_was_there():
    text = "a\n<!-- begin: one -->\nold\n<!-- end: one -->\nb <!-- begin: two -->0<!-- end: two --> c\n"
    expected = "a\n<!-- begin: one -->\n\n| 1 |\n\n<!-- end: one -->\nb <!-- begin: two -->2<!-- end: two --> c\n"
    assert generate.filled(text, TOY) == expected
    assert generate.filled(expected, TOY) == expected


@pytest.mark.parametrize(
    "text",
    [
        "<!-- begin: one -->",
        "<!-- end: one -->",
        "<!-- begin: one --><!-- begin: two --><!-- end: two --><!-- end: one -->",
        "<!-- begin: one --><!-- end: two -->",
        "<!-- begin: three --><!-- end: three -->",
    ],
)
def test_markers_that_do_not_match_are_an_error(text):
    with pytest.raises(ValueError, match=r"counterpart|no region is called three"):
        generate.filled(text, TOY)


def test_check_fails_and_shows_the_difference(tmp_path, monkeypatch, capsys):
    document = tmp_path / "README.md"
    document.write_text("<!-- begin: two -->3<!-- end: two -->\n")
    monkeypatch.setattr(generate, "documents", lambda: [document])
    monkeypatch.setattr(generate, "REGIONS", TOY)
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["generate.py", "--check"])
    assert generate.main() == 1
    shown = capsys.readouterr().out
    assert "-<!-- begin: two -->3" in shown
    assert "+<!-- begin: two -->2" in shown
    monkeypatch.setattr("sys.argv", ["generate.py"])
    assert generate.main() == 0
    monkeypatch.setattr("sys.argv", ["generate.py", "--check"])
    assert generate.main() == 0


# From a run to a result.


def test_the_command_names_no_folder_of_the_machine(monkeypatch):
    given = ["benchmarks/toy.py", "--folder", "/home/me/runs", "--out", "/home/me", "--cases", "a, 1"]
    monkeypatch.setattr("sys.argv", given)
    assert results.measured_here("toy").command == "python benchmarks/toy.py --folder runs --cases 'a, 1'"


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of one experiment with two samples, and an empty repository for its result."""
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(collect, "PICTURES", tmp_path / "images")
    cell = {
        "experiment": "toy",
        "features": 8,
        "smoothing": 0.0,
        "adam_precision": None,
        "commits": [COMMIT],
        "devices": [1],
        "angles": {"prediction": {"median": 1 / 3, "interval": [0.25, 0.5], "p90": 2.0, "missing": 1}},
        "beta": [0.5, 0.2, 0.1, 0.1, 0.05, 0.05],
        "stationarity": {"median": 0.1, "largest": 0.2},
        "gap": {"median": 0.9},
        "counts": {"lost": 0, "dead": 1},
        "critical_spaces": [],
        "listed": {"dead": [1]},
    }
    code = {"commit": COMMIT, "dirty": False, "python": "3.12.1", "packages": {"jax": "0.10.2"}}
    folder = tmp_path / "run"
    folder.mkdir()
    columns = ("experiment", "sample", "kind", *collect._SAMPLE.values())
    lines = [",".join(columns), *(f"toy,{index},sampled" + f",{index}.5" * len(collect._SAMPLE) for index in (0, 1))]
    (folder / "samples.csv").write_text("\n".join(lines) + "\n")
    (folder / "figure.png").write_bytes(b"a picture")

    def write(**changes):
        summary = {"provenance": code | changes, "cells": [cell]}
        (folder / "summary.json").write_text(json.dumps(summary))
        return folder

    return write


def test_a_run_becomes_a_result(run, tmp_path):
    pictures = {"figure.png": "toy.png"}
    path = collect.collect(run(), "toy", command="jifv reproduce toy", samples=True, pictures=pictures)
    result = results.read(path)
    assert (result.name, result.commit, result.dirty, result.command) == ("toy", COMMIT, False, "jifv reproduce toy")
    assert result.versions == {"python": "3.12.1", "jax": "0.10.2"}
    assert result.rows == [
        {
            "experiment": "toy",
            "features": 8,
            "smoothing": 0.0,
            "devices": [1],
            "angles": {"prediction": {"median": 0.333333, "interval": [0.25, 0.5], "p90": 2.0}},
            "beta": [0.5, 0.2, 0.1, 0.1, 0.05],
            "stationarity": {"median": 0.1},
            "gap": {"median": 0.9},
            "counts": {"dead": 1},
        }
    ]
    assert [sample["sample"] for sample in result.samples] == [0, 1]
    assert result.samples[1]["gap"] == 1.5
    assert result.pictures == ["images/toy.png"]
    assert result.collected == "--samples --picture=figure.png=toy.png"
    assert (tmp_path / "images" / "toy.png").read_bytes() == b"a picture"


@pytest.mark.parametrize("change", [{"dirty": True}, {"dirty": None, "commit": None}, {"commit": "f" * 40}])
def test_a_run_of_changed_code_is_refused(run, change):
    with pytest.raises(ValueError, match="must be the run of one commit"):
        collect.collect(run(**change), "toy", command="jifv reproduce toy")


def test_what_measures_again(monkeypatch, tmp_path):
    """A command for all of its results; one of `jifv` is collected as it was."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(results, "same_code", lambda commit: commit == "1" * 40)
    toy = results.Result("a", COMMIT, False, "", {}, "python benchmarks/toy.py --case 'DNde, 8'", "2026-01-01", [])
    run = toy._replace(name="b", command="jifv reproduce toy", collected="--samples --picture=figure.png=toy.png")
    for result in (toy, toy._replace(name="a-part"), run, toy._replace(name="new", commit="1" * 40)):
        results.write(result, tmp_path)
    found = again.commands(["a", "b", "a-part", "new"])
    assert found == {toy.command: ["a", "a-part"], run.command: ["b"]}
    (script,) = again.steps(toy.command, ["a", "a-part"])
    assert script[1:] == ["benchmarks/toy.py", "--case", "DNde, 8", "--out", str(tmp_path)]
    measure, collect_it = again.steps(run.command, ["b"])
    assert measure[1:5] == ["-m", "jifv", "reproduce", "toy"]
    assert measure[-1] == collect_it[2] == str(again.RUNS / str(results.checkout()[0]) / "b")
    assert collect_it[3:] == ["b", "--command", run.command, "--samples", "--picture=figure.png=toy.png"]
