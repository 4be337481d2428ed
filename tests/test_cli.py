import json

import pytest
from toy import TOY, network, scores
from typer.testing import CliRunner

import jifv.cli
import jifv.experiment
from jifv.cli import app


@pytest.fixture
def toy(monkeypatch):
    """The experiment `toy` on a network that needs no weights."""
    monkeypatch.setitem(jifv.experiment.EXPERIMENTS, "toy", TOY)
    monkeypatch.setattr(jifv.cli, "load", lambda name, *, layer, weights: network(scores))


def call(*arguments):
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


def test_help_names_every_option():
    text = CliRunner().invoke(app, ["reproduce", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    options = "samples adam-steps lbfgs-steps reoptimize-steps power seed batch-size weights out quiet"
    for option in options.split():
        assert f"--{option}" in text
    assert "dncl" in text


def test_prints_tables_and_writes_files(toy, tmp_path):
    size = ("--adam-steps", 10, "--lbfgs-steps", 5, "--samples", 4, "--reoptimize-steps", 2)
    result = call("toy", "--out", tmp_path / "a", *size, "--power", 1, "--seed", 3, "--batch-size", 2)
    assert result.exit_code == 0, result.output
    for words in ("angle to the target", "critical spaces", "β0", "SSIM"):
        assert words in result.output
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert (summary["samples"], summary["canonical"], summary["power"], summary["seed"]) == (4, 1, 1.0, 3)
    assert (summary["adam_steps"], summary["lbfgs_steps"], summary["reoptimize_steps"]) == (10, 5, 2)


def test_quiet_prints_nothing(toy, tmp_path):
    result = call("toy", "--out", tmp_path, "--quiet", "--adam-steps", 2, "--lbfgs-steps", 0, "--reoptimize-steps", 1)
    assert (result.exit_code, result.output) == (0, "")


def test_default_folder_is_that_of_the_experiment(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call("toy", "--quiet", "--adam-steps", 1, "--lbfgs-steps", 0, "--reoptimize-steps", 1)
    assert (tmp_path / "runs" / "toy" / "summary.json").is_file()


def test_unknown_experiment_is_named_with_the_known_ones():
    result = call("nothing")
    assert result.exit_code == 2
    assert "nothing" in result.output
    assert "dncl" in result.output


@pytest.mark.parametrize("arguments", [("--samples", 1), ("--power", -1), ("--adam-steps", -1), ("--batch-size", 0)])
def test_bad_numbers_are_refused(toy, arguments):
    result = call("toy", *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.output


def test_missing_weights_are_named_without_a_traceback(tmp_path):
    result = call("dncl", "--weights", tmp_path / "none.safetensors", "--out", tmp_path)
    assert result.exit_code == 1
    assert "none.safetensors" in result.output.replace("\n", "")
    assert "Traceback" not in result.output


def test_folder_that_cannot_be_made_is_an_error_before_the_work(toy, tmp_path):
    (tmp_path / "file").write_text("")
    result = call("toy", "--out", tmp_path / "file" / "sub")
    assert result.exit_code == 1
    assert "Traceback" not in result.output


@pytest.mark.slow
def test_dncl_shows_what_the_paper_shows(tmp_path):
    """The acceptance of the main job, on the shipped network with default settings."""
    result = call("dncl", "--out", tmp_path, "--quiet")
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["beta"][0] + summary["beta"][1] >= 0.95
    assert summary["beta"][1] >= 0.2
    assert summary["chosen_dimension"] == 9
    chosen = next(space for space in summary["critical_spaces"] if space["dimension"] == 9)
    assert chosen["median_angle"] <= 3
    assert summary["angles"]["response_on_v"]["median"] >= 3 * chosen["median_angle"]
