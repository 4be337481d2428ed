import json
import re
import shutil
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from support.command import call, said
from support.toy import TOY, TOYS, load, network

import jifv.cli.reproduce
import jifv.experiments.report.figures
import jifv.experiments.run
from jifv.experiments.estimate import Step
from jifv.experiments.studies import STUDIES, Study, grid, smaller

reproduce = partial(call, "reproduce")
[SMALL] = smaller([TOY], adam_steps=2, lbfgs_steps=1, samples=4, canonical=1, reoptimize_steps=1, batch_size=2)


def put_in(monkeypatch):
    """Replace the studies by one of one and one of two experiments, on a network that needs no weights.

    Without figures, which take longer than the toys; those of such a run are drawn in test_summary.py.
    """
    studies = {
        "toy": Study("A toy", "3.5", "scatter", (TOY,), (SMALL,)),
        "powers": Study("Two toys", "3.6", "beta", (TOY,), grid(SMALL, power=(0, 2))),
    }
    monkeypatch.setattr(jifv.cli.reproduce, "STUDIES", studies)
    monkeypatch.setattr(jifv.cli.reproduce, "network_of", load)
    monkeypatch.setattr(jifv.experiments.report.figures, "for_study", lambda *_: {})
    return studies


@pytest.fixture
def toy(monkeypatch):
    return put_in(monkeypatch)


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """Each study computed once: what the commands printed, and their folders."""
    folder = tmp_path_factory.mktemp("computed")
    with pytest.MonkeyPatch.context() as monkeypatch:
        put_in(monkeypatch)
        return {name: (reproduce(name, "--out", folder / name), folder / name) for name in ("toy", "powers")}


@pytest.fixture
def done(toy, computed, tmp_path):
    """A folder for one test, with the results of the study `powers`."""
    shutil.copytree(computed["powers"][1], tmp_path / "done")
    return tmp_path / "done"


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(folder):
    return json.loads((folder / "summary.json").read_text())


def test_help_names_every_option_and_experiment():
    text = reproduce("--help", env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    options = "preset samples adam-steps lbfgs-steps reoptimize-steps power seed batch-size network weights out quiet "
    options += "overwrite anneal adam-precision smoothing dead-tolerance std input-size devices distributed"
    for option in options.split():
        assert f"--{option}" in text
    for name in STUDIES:
        assert name in text


def test_prints_tables_and_writes_files(toy, computed, tmp_path):
    # Other numbers than the preset's, and those of the study `powers`: compiled before.
    size = ("--adam-steps", 2, "--lbfgs-steps", 1, "--reoptimize-steps", 1, "--samples", 10, "--batch-size", 2)
    result = reproduce("toy", "--preset", "paper", "--out", tmp_path / "a", *size, "--power", 0, "--seed", 3)
    assert result.exit_code == 0, result.output
    for words in ("angle to the target", "β0", "SSIM", "seconds per sample", "report.html"):
        assert words in result.output.replace("\n", "")
    summary = read(tmp_path / "a")
    [cell] = summary["cells"]
    assert (summary["study"], summary["preset"]) == ("toy", "paper")
    assert summary["weights"] == {"toy": TOYS["toy"].digest}
    assert (cell["samples"], cell["canonical"], cell["power"], cell["seed"]) == (10, 2, 0.0, 3)
    assert (cell["adam_steps"], cell["lbfgs_steps"], cell["reoptimize_steps"], cell["batch_size"]) == (2, 1, 1, 2)
    assert (tmp_path / "a" / "toy.zarr" / "realize").is_dir()


def test_same_command_again_goes_on_and_another_is_refused(toy, computed, tmp_path):
    shutil.copytree(computed["toy"][1], tmp_path, dirs_exist_ok=True)
    before = tree(tmp_path / "toy.zarr")
    assert reproduce("toy", "--quiet", "--out", tmp_path).exit_code == 0
    assert tree(tmp_path / "toy.zarr") == before
    refused = reproduce("toy", "--quiet", "--out", tmp_path, "--power", 1, "--seed", 1)
    assert refused.exit_code == 1
    differences = "experiment.significance.power is 2.0, not 1.0; experiment.seed is 0, not 1"
    assert differences in refused.output.replace("\n", " ")
    assert tree(tmp_path / "toy.zarr") == before
    assert reproduce("toy", "--quiet", "--out", tmp_path, "--seed", 1, "--overwrite").exit_code == 0
    assert read(tmp_path)["cells"][0]["seed"] == 1


def test_nothing_is_removed_if_something_may_not_be(done):
    mine = done / "toy-k2.zarr" / "mine.txt"
    mine.write_text("mine")
    before = tree(done)
    result = reproduce("powers", "--quiet", "--overwrite", "--out", done)
    assert result.exit_code == 1
    assert "mine.txt. Nothing was removed" in result.output
    assert tree(done) == before


def test_several_experiments(computed):
    result, folder = computed["powers"]
    assert result.exit_code == 0, result.output
    assert [cell["power"] for cell in read(folder)["cells"]] == [0, 2]
    assert "toy-k0" in result.output
    assert {"toy-k0.zarr", "toy-k2.zarr"} <= {path.name for path in folder.iterdir()}


def test_all_runs_every_one_and_says_which_failed(done, tmp_path):
    done.rename(tmp_path / "powers")
    (tmp_path / "powers" / "summary.json").unlink()
    (tmp_path / "toy").write_text("in the way")
    result = reproduce("all", "--quiet", "--out", tmp_path)
    assert result.exit_code == 1
    assert "jifv: toy: " in result.output
    assert read(tmp_path / "powers")["study"] == "powers"


def test_seconds_told_are_those_of_all_re_optimizations(toy, tmp_path, monkeypatch):
    def write(store, stage, batch, arrays, seconds, **options):
        return written(store, stage, batch, arrays, dict.fromkeys(seconds, 10.0), **options)

    written = jifv.experiments.run.Store.write
    monkeypatch.setattr(jifv.experiments.run.Store, "write", write)
    result = reproduce("toy", "--out", tmp_path)
    # Two batches, each of visualizing, Jacobians, inverting, and four times re-optimizing.
    assert f"{2 * (3 + 4) * 10} s; results in" in result.output


def test_quiet_prints_nothing_and_the_number_of_devices_is_in_the_summary(toy, tmp_path):
    result = reproduce("toy", "--quiet", "--devices", 1, "--out", tmp_path)
    assert (result.exit_code, result.output) == (0, "")
    assert [cell["devices"] for cell in read(tmp_path)["cells"]] == [[1]]


def test_default_folder_is_that_of_the_experiment_and_its_size(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    steps = ("--adam-steps", 2, "--lbfgs-steps", 1, "--reoptimize-steps", 1)  # those of the small one: compiled before
    reproduce("toy", "--quiet")
    reproduce("toy", "--quiet", "--preset", "paper", "--samples", 4, "--batch-size", 2, *steps)
    assert read(tmp_path / "runs" / "toy")["preset"] == "quick"
    assert read(tmp_path / "runs" / "toy-paper")["preset"] == "paper"


def test_unknown_experiment_is_named_with_the_known_ones():
    result = reproduce("nothing")
    assert result.exit_code == 2
    assert "nothing" in result.output
    assert "dncl" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--samples", 1),
        ("--power", -1),
        ("--power", "inf"),
        ("--std", "nan"),
        ("--adam-steps", -1),
        ("--batch-size", 0),
        ("--preset", "huge"),
        ("--seed", "12345678901234567890"),
        ("--input-size", 8),
        ("--dead-tolerance", 1),
    ],
)
def test_bad_options_are_refused_before_any_work(toy, tmp_path, arguments):
    result = reproduce("toy", *arguments, "--out", tmp_path / "a")
    assert result.exit_code == 2
    assert arguments[0] in result.output
    assert not (tmp_path / "a").exists()


def test_input_smaller_than_the_window_of_ssim_is_refused_before_any_work(toy, tmp_path, monkeypatch):
    tiny = network(None)._replace(input_shape=(8, 8, 3))
    monkeypatch.setattr(jifv.cli.reproduce, "network_of", lambda cell, *, weights: tiny)
    result = reproduce("toy", "--out", tmp_path / "a")
    assert result.exit_code == 1
    assert "jifv: toy: input_size must be at least 11, the window of SSIM, got 8×8" in result.output
    assert not (tmp_path / "a").exists()


def test_network_that_lacks_features_in_a_late_cell_is_refused_before_any_work(toy, tmp_path, monkeypatch):
    toy["toy"] = Study("A toy", "3.6", "beta", (TOY,), grid(SMALL, features=(3, 6)))
    result = reproduce("toy", "--out", tmp_path / "a")
    assert result.exit_code == 1
    assert "features must be at most the 5 of scores, got 6" in result.output
    assert not (tmp_path / "a").exists()


def test_more_devices_than_there_are_are_refused(toy, tmp_path):
    result = reproduce("toy", "--devices", 1000, "--out", tmp_path / "a")
    assert result.exit_code == 2
    assert "devices must be at most the" in result.output.replace("\n", " ")
    assert not (tmp_path / "a").exists()


def test_one_of_several_processes_without_the_others_is_refused(toy, tmp_path, monkeypatch):
    def initialize():
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jifv.cli.machine.jax.distributed, "initialize", initialize)
    result = reproduce("toy", "--distributed", "--out", tmp_path / "a")
    assert result.exit_code == 2
    assert "coordinator_address should be defined" in said(result)


def test_no_more_devices_than_samples_in_a_batch():
    many = Mesh(np.array(jax.devices()[:1] * 8), ("samples",))  # of one device, so that there is no need for eight
    for batch_size, samples, devices in [(3, 20, 3), (20, 5, 5), (8, 8, 8), (16, 16, 8)]:
        cell = replace(SMALL, batch_size=batch_size, samples=samples)
        assert jifv.cli.reproduce._of_use(many, cell).size == devices


@pytest.mark.parametrize("charset", ["ascii", "cp1252"])
def test_tables_are_whole_in_any_encoding_at_80_columns(done, charset):
    environment = {"COLUMNS": "80", "NO_COLOR": "1"}
    result = reproduce("powers", "--out", done, charset=charset, env=environment)
    assert result.exit_code == 0, result.output
    # Remarks and the last line are not wrapped, so that a path can be copied.
    lines = [line for line in result.output.splitlines() if "results in" not in line and " samples: " not in line]
    assert max(map(len, lines)) <= 80
    assert not any(cut in result.output for cut in ("…", "...", "?"))
    for name in ("toy-k0", "toy-k2", "FV", "Jacobian", "Opt. 3", "Alg. 1", "re-opt.", "prediction", "response"):
        assert name in result.output
    seconds = [each["seconds_per_sample"]["visualize"] for each in read(done)["cells"]]
    # On a fast machine the toy takes less than a hundredth.
    written = [f"{each:.2f}" if each >= 0.01 else f"{each:.1e}" for each in seconds]
    assert all(f" {each} " in result.output for each in written)


def cost_of(result):
    return [line for line in result.stderr.splitlines() if ": about " in line]


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_cost_is_told_before_any_work_and_of_what_is_left_alone(toy, tmp_path, monkeypatch):
    visualize = jifv.experiments.run.visualize
    monkeypatch.setattr(jifv.experiments.run, "visualize", interrupted)
    (line,) = cost_of(reproduce("toy", "--out", tmp_path))
    assert re.fullmatch(r"toy: about \d+ s, \d+\.\d GiB for 4 samples of 5 features at 12×12", line)
    monkeypatch.setattr(jifv.experiments.run, "visualize", visualize)
    assert reproduce("toy", "--quiet", "--out", tmp_path).stderr == ""
    assert cost_of(reproduce("toy", "--out", tmp_path)) == []


def test_cost_of_hours_is_a_warning(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(jifv.cli.reproduce, "measure_step", lambda *_: Step(1800.0, 3600.0, 2**30, 1, 2, 4))
    monkeypatch.setattr(jifv.experiments.run, "visualize", interrupted)
    (line,) = cost_of(reproduce("powers", "--out", tmp_path))
    # Twice: 2 batches of 2 + 1.2 · 1 steps and 5 · 2/3 rows, and as many of 4 re-optimizations of 1 step.
    # The first one's step has been compiled, its Jacobian not; both share it, but not the step, which has the power.
    hours = 2 * 2 * (2 + 1.2 + 5 * 2 / 3 + 4) / 2 + 2
    assert line.startswith(f"jifv: powers: about {hours:.0f} h, 1.0 GiB for 8 samples")
    assert "fewer --samples" in line


def test_stores_are_locked_until_the_report_is_written(done, monkeypatch):
    write, locked = jifv.cli.reproduce.files.write, []

    def watched(*arguments, **options):
        locked.extend(path.name for path in done.glob("*.lock"))
        return write(*arguments, **options)

    monkeypatch.setattr(jifv.cli.reproduce.files, "write", watched)
    reproduce("powers", "--quiet", "--out", done)
    assert sorted(locked) == ["toy-k0.zarr.lock", "toy-k2.zarr.lock"]
    assert not list(done.glob("*.lock"))


@pytest.mark.filterwarnings("default")
def test_damage_is_told_in_one_clean_line_and_computed_again(toy, computed, tmp_path):
    shutil.copytree(computed["toy"][1], tmp_path, dirs_exist_ok=True)
    chunk = tmp_path / "toy.zarr" / "realize" / "images" / "c" / "1" / "0" / "0" / "0"
    whole = chunk.read_bytes()
    chunk.unlink()
    result = reproduce("toy", "--quiet", "--out", tmp_path)
    assert result.exit_code == 0
    assert result.stderr == f"jifv: {chunk} is not there, so batch 1 of realize is missing again\n"
    assert chunk.read_bytes() == whole


def test_interrupted_run_keeps_what_is_finished_and_goes_on(toy, tmp_path, monkeypatch):
    visualize, calls = jifv.experiments.run.visualize, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return visualize(*arguments, **options)

    monkeypatch.setattr(jifv.experiments.run, "visualize", interrupted)
    result = reproduce("toy", "--quiet", "--out", tmp_path)
    assert result.exit_code == 130
    assert "finished batches are kept, and the same command goes on" in result.output.replace("\n", " ")
    assert "Traceback" not in result.output
    assert reproduce("toy", "--quiet", "--out", tmp_path).exit_code == 0
    assert len(calls) == 3  # the second batch alone


def test_one_power_for_an_experiment_about_powers_is_refused(toy, tmp_path):
    result = reproduce("powers", "--power", 1, "--out", tmp_path)
    assert result.exit_code == 2
    assert "several powers" in result.output


def test_missing_weights_are_named_without_a_traceback(tmp_path):
    result = reproduce("dncl", "--weights", tmp_path / "none.safetensors", "--out", tmp_path / "a")
    assert result.exit_code == 1
    assert "none.safetensors" in result.output.replace("\n", "")
    assert "Traceback" not in result.output
    assert not (tmp_path / "a").exists()


def test_folder_that_cannot_be_made_is_an_error_before_the_work(toy, tmp_path):
    (tmp_path / "file").write_text("")
    result = reproduce("toy", "--out", tmp_path / "file" / "sub")
    assert result.exit_code == 1
    assert "Traceback" not in result.output


@pytest.mark.slow
def test_dncl_shows_what_the_paper_shows(tmp_path):
    """The acceptance of the main job, on the shipped network with default settings."""
    result = reproduce("dncl", "--out", tmp_path, "--quiet")
    assert result.exit_code == 0, result.output
    [cell] = read(tmp_path)["cells"]
    assert cell["beta"][0] + cell["beta"][1] >= 0.95
    assert cell["beta"][1] >= 0.2
    assert cell["chosen_dimension"] == 9
    chosen = next(space for space in cell["critical_spaces"] if space["dimension"] == 9)
    assert chosen["median_angle"] <= 3
    assert cell["angles"]["response_on_v"]["median"] >= 3 * chosen["median_angle"]
