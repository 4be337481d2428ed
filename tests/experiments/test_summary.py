import csv
import json

import jax
import numpy as np
import pytest
import scipy.stats
from support.fake_results import changed
from support.toy import FEATURES, TOY

from jifv.experiments.report import figures, files, tables
from jifv.experiments.report import summary as report
from jifv.experiments.results import OBJECTIVES
from jifv.experiments.studies import Study, grid, smaller

SHORT = {"adam_steps": 5, "lbfgs_steps": 2}


def study(cells, figure="scatter"):
    return Study("A toy", "3.5", figure, tuple(cells), tuple(cells))


def write(results, folder, figure="scatter"):
    cells = [result.experiment for result in results]
    return files.write(study(cells, figure), results, folder, name="toy", preset="quick", weights={"toy": "0"})


@pytest.fixture
def undrawn(monkeypatch):
    """No figures, which take most of the time."""
    monkeypatch.setattr(figures, "for_study", lambda *_: {})


@pytest.fixture(scope="module")
def written(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "new"
    return folder, write([results], folder)


def test_summary_is_the_file_and_has_no_number_that_is_none(written):
    folder, summary = written
    read = json.loads((folder / "summary.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert read == summary
    assert {"study", "section", "preset", "weights", "provenance", "device", "cells"} <= read.keys()


def test_summary_of_an_experiment_has_what_it_promises(written):
    [cell] = written[1]["cells"]
    promised = (
        "experiment network layer features samples power parametrization aggregation adam_steps lbfgs_steps seed "
        "seconds_per_sample angles beta critical_spaces chosen_dimension ssim outlier_filter counts listed stationarity"
    )
    assert set(promised.split()) <= cell.keys()
    for name in ("prediction", "prediction_on_v", "response", "response_on_v", "random"):
        assert {"median", "p90"} <= cell["angles"][name].keys()
    assert len(cell["beta"]) == FEATURES
    assert sum(cell["beta"]) == pytest.approx(1, abs=1e-5)
    assert {"dimension", "threshold_low", "threshold_high", "median_angle"} <= cell["critical_spaces"][0].keys()
    assert cell["ssim"].keys() == set(OBJECTIVES)
    assert cell["chosen_dimension"] == FEATURES - 1


def test_files(written):
    folder, _ = written
    assert {path.name for path in folder.iterdir()} == {
        "summary.json",
        "samples.csv",
        "tables.md",
        "report.html",
        "figure.png",
        "figure.pdf",
        "gallery.png",
        "gallery.pdf",
    }
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_csv_holds_every_sample(written, results):
    with open(written[0] / "samples.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == TOY.samples
    np.testing.assert_allclose(
        [float(row["angle_prediction"]) for row in rows], results.evaluation.angles["prediction"]
    )
    assert [row["kind"] for row in rows] == ["sampled"] * 6 + ["canonical"] * 2


def test_angles_in_the_summary_are_those_of_numpy(written, results):
    prediction = results.realized.prediction.astype(float)
    angles = np.degrees(np.arccos(np.sum(prediction * results.objectives, -1)))
    [cell] = written[1]["cells"]
    assert cell["angles"]["prediction"]["median"] == pytest.approx(np.median(angles), rel=1e-3)
    assert cell["angles"]["prediction"]["p90"] == pytest.approx(np.percentile(angles, 90), rel=1e-3)


def test_interval_of_a_median():
    """Its ends are order statistics, at the ranks between which a fair coin falls 95 times of a hundred."""
    angles = np.random.default_rng(0).permutation(np.arange(1.0, 102))
    ranks = scipy.stats.binom.ppf([0.025, 0.975], 101, 0.5)
    assert report._interval(np.append(angles, np.nan)) == pytest.approx(ranks, abs=2)


def test_no_interval_of_one_sample():
    assert report._interval(np.array([np.nan, 3.0])) is None


def test_outlier_filter_counts_what_it_keeps_and_loses(results):
    ssim = np.array([0.99, 0.99, 0.7, 0.7, 0.99, np.nan, 0.99, 0.99])
    angle = np.array([1.0, 50.0, 2.0, 60.0, 3.0, 4.0, 5.0, 6.0])
    other = changed(
        results,
        ssim=results.evaluation.ssim | {"prediction": ssim},
        angles=results.evaluation.angles | {"prediction_on_v": angle},
    )
    row = report.cell_summary(other)["outlier_filter"][1]
    assert row["ssim_at_least"] == 0.9
    assert (row["kept"], row["good_dropped"], row["bad_kept"]) == (5, 2, 1)
    assert row["angle"]["median"] == 5


def test_samples_to_know_of_are_counted_and_listed(results):
    flags = np.arange(TOY.samples) == 3
    dead = np.zeros_like(results.realized.dead)
    dead[6] = results.objectives[6] > 0.5  # a canonical target on a dead feature
    other = changed(
        results,
        finite=~flags,
        on_floor=flags,
        off_v=np.where(flags, 0.95, 0.1),
        stationarity_on_v=np.where(np.arange(TOY.samples) == 5, 0.2, 0.05),
        dead=dead,
        objectives=results.objectives,
    )
    cell = report.plain(report.cell_summary(other))
    assert cell["counts"] == {"not_finite": 1, "on_floor": 1, "far": 1, "lost": 1, "dead": 1, "with_dead_features": 1}
    assert cell["listed"]["far"] == [5]
    assert cell["listed"]["lost"] == [3]
    assert cell["listed"]["dead"] == [6]
    remarks = tables.remarks({"cells": [cell]})
    assert len(remarks) == 6
    assert all(remark.startswith("1 of 8 samples: ") for remark in remarks)


def test_dead_features_have_no_part_in_the_last_singular_value(results):
    values = results.realized.singular_values.copy()
    values[:, 0] = np.inf
    cell = report.cell_summary(changed(results, singular_values=values))
    assert cell["last_singular_value"]["median"] == pytest.approx(np.median(values[:, -1] / values[:, 1]))


def test_samples_that_are_not_finite_are_missing_and_not_averaged(undrawn, partly_finite, tmp_path):
    some = partly_finite
    lost = ~some.realized.finite
    [summary] = write([some], tmp_path)["cells"]
    assert 0 < lost.sum() == summary["counts"]["not_finite"] == summary["angles"]["prediction"]["missing"]
    assert summary["listed"]["not_finite"] == np.flatnonzero(lost).tolist()


def test_several_experiments_are_a_line_each(undrawn, results, tmp_path):
    cells = grid(smaller([TOY], **SHORT)[0], features=(3, 5), power=(0, 2))
    several = [changed(results, experiment=cell) for cell in cells]
    summary = write(several, tmp_path, "beta")
    assert [cell["experiment"] for cell in summary["cells"]] == [cell.name for cell in cells]
    table, seconds = tables.tables(summary)
    assert len(table.rows) == len(seconds.rows) == 4
    assert len((tmp_path / "samples.csv").read_text().splitlines()) == 1 + 4 * TOY.samples
    assert "| toy-n3-k0 |" in (tmp_path / "tables.md").read_text()


def test_table_1(results, tmp_path):
    write([results], tmp_path, "timings")
    with open(tmp_path / "table1.csv", newline="") as file:
        [row] = csv.DictReader(file)
    assert list(row) == [
        "experiment",
        "n",
        "m",
        "FV",
        "Jacobian",
        "Opt. 3",
        "Algorithm 1",
        "re-optimization",
        "device",
    ]
    assert float(row["FV"]) == pytest.approx(results.seconds["visualize"])
    assert (row["n"], row["m"]) == ("5", "432")
    assert row["device"] == f"1 × {jax.devices()[0].device_kind}"
