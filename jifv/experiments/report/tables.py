"""The summary of a study as tables."""

from collections.abc import Sequence
from typing import Any

from jifv.experiments.report.page import Table
from jifv.experiments.report.summary import GOOD
from jifv.experiments.results import OBJECTIVES

_STAGES = {
    "visualize": "FV",
    "jacobian": "Jacobian",
    "invert": "Opt. 3",
    "critical": "Algorithm 1",
    "reoptimize": "re-optimization",
}

_ANGLES = {
    "prediction": "prediction in Rⁿ",
    "prediction_on_v": "prediction in V, on V",
    "response": "response in Rⁿ",
    "response_on_v": "response, on V",
    "random": "random in Rⁿ",
    "random_on_v": "random, on V",
}

_REMARKS = {
    "not_finite": "NaN or infinity on the way, so no angle",
    "on_floor": "ended on the floor of the cosine, where inversion does not hold",
    "lost": "the target is nearly all off V, which nothing can recover; counted all the same",
    "dead": "the target is nearly all on features that the realization leaves silent; counted all the same",
    "with_silent_features": "silent features, of which the gradient says nothing",
}


def tables(report: dict) -> list[Table]:
    """The summary as tables: of one experiment in full, of several a line each."""
    cells = report["cells"]
    shown = _one(cells[0]) if len(cells) == 1 else [_several(cells)]
    rows = timings(report)
    return [*shown, Table("seconds a sample", tuple(rows[0]), [tuple(map(_text, row.values())) for row in rows])]


def timings(report: dict) -> list[dict]:
    """The paper's Table 1: seconds a sample of each stage, one row an experiment."""
    return [
        {"experiment": cell["experiment"], "n": cell["features"], "m": cell["parameters"]}
        | {label: cell["seconds_a_sample"].get(stage) for stage, label in _STAGES.items()}
        | {"device": f"{' or '.join(map(str, cell['devices']))} × {report['device']}"}
        for cell in report["cells"]
    ]


def markdown(table: Table) -> str:
    """A table as Markdown."""
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return f"{table.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def remarks(report: dict) -> list[str]:
    """What a reader of the tables must know: samples that count but could not have been recovered."""
    several = len(report["cells"]) > 1
    return [
        (f"{cell['experiment']}: " if several else "") + f"{count} of {cell['samples']} samples: {_REMARKS[name]}"
        for cell in report["cells"]
        for name, count in cell["counts"].items()
        if count
    ]


def _one(cell: dict) -> list[Table]:
    dimension, features = cell["chosen_dimension"], cell["features"]
    reduced = dimension < features
    angles = [
        (
            label.replace("Rⁿ", f"R^{features}").replace("V", f"V (dimension {dimension})", 1),
            _text(cell["angles"][name]["median"]),
            _text(cell["angles"][name]["p90"]),
        )
        for name, label in _ANGLES.items()
        if reduced or not name.endswith("_on_v")
    ]
    spaces = [
        (
            str(space["dimension"]),
            f"{space['threshold_low']:.2g}",
            f"{space['threshold_high']:.2g}",
            _text(space["median_angle"]),
            _text(space["median_angle_of_chance"]),
            "chosen" if space["dimension"] == dimension else "",
        )
        for space in cell["critical_spaces"]
    ]
    shares = cell["beta"][:5]
    columns = ("SSIM at least", "kept", "median angle", f"dropped below {GOOD:g}°", f"kept from {GOOD:g}°")
    kept = [
        tuple(
            map(
                _text, (row["ssim_at_least"], row["kept"], row["angle"]["median"], row["good_dropped"], row["bad_kept"])
            )
        )
        for row in cell["outlier_filter"]
    ]
    columns_of_spaces = ("dimension", "threshold ε from", "to", "median angle on V", "of chance", "")
    return [
        Table("angle to the target, degrees", ("", "median", "90th percentile"), angles),
        *([Table("critical spaces", columns_of_spaces, spaces)] if spaces else []),
        Table(
            "share of the target in the last singular vectors of BJ",
            tuple(f"β{index}" for index in range(len(shares))),
            [tuple(f"{share:.3f}" for share in shares)],
        ),
        Table(
            "SSIM after re-optimization for the",
            OBJECTIVES,
            [tuple(_text(cell["ssim"][name]["median"], 3) for name in OBJECTIVES)],
        ),
        Table("outlier filter, by the SSIM after re-optimization for the prediction", columns, kept),
    ]


def _several(cells: Sequence[dict]) -> Table:
    columns = (
        "experiment",
        "n",
        "k",
        "prediction",
        "90 %",
        "response",
        "random",
        "β0",
        "‖JᵀBv*‖/σ₁",
        "SSIM prediction",
    )
    rows = [
        (
            cell["experiment"],
            str(cell["features"]),
            f"{cell['power']:g}",
            _text(cell["angles"]["prediction_on_v"]["median"]),
            _text(cell["angles"]["prediction_on_v"]["p90"]),
            _text(cell["angles"]["response_on_v"]["median"]),
            _text(cell["angles"]["random_on_v"]["median"]),
            _text(cell["beta"][0], 3),
            _text(cell["stationarity"]["median"], 4),
            _text(cell["ssim"]["prediction"]["median"], 3),
        )
        for cell in cells
    ]
    return Table("median angle to the target, degrees", columns, rows)


def _text(value: Any, digits: int = 2) -> str:
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.{digits}f}" if abs(value) >= 10**-digits or value == 0 else f"{value:.1e}"
