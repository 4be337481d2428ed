"""The summary of a study as tables, for the terminal, `tables.md` and the page."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jifv.experiments.options import OPTIONS
from jifv.experiments.report.summary import CONFIDENCE, GOOD
from jifv.experiments.results import FLAGS, OBJECTIVES, STAGES

_SHORT = {"Algorithm 1": "Alg. 1", "re-optimization": "re-opt."}
"""Headings that would make a table wider than a terminal."""

_ANGLES = {
    "prediction": "prediction in Rⁿ",
    "prediction_on_v": "prediction in V, on V",
    "response": "response in Rⁿ",
    "response_on_v": "response, on V",
    "random": "random in Rⁿ",
    "random_on_v": "random, on V",
}


class Table(NamedTuple):
    """A table of words and numbers, ready to print.

    Attributes:
        title: What it shows.
        columns: Headings.
        rows: One string per column.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(report: Mapping[str, Any]) -> list[Table]:
    """Make the tables of a summary: of one experiment in full, of several one line each."""
    cells = report["cells"]
    shown = _one(cells[0]) if len(cells) == 1 else [_several(cells)]
    rows = timings(report)
    devices = sorted({row.pop("device") for row in rows})
    columns = tuple(_SHORT.get(name, name) for name in rows[0])
    title = f"seconds per sample, on {' or '.join(devices)}"
    return [*shown, Table(title, columns, [tuple(map(_text, row.values())) for row in rows])]


def settings(cells: Sequence[Mapping[str, Any]]) -> tuple[list[tuple[str, str]], list[Table]]:
    """Describe what was run, by the labels of the options.

    Args:
        cells: What was run, as in the cells of `summary.json`.

    Returns:
        What all experiments share, and a table of what differs, if anything does.
    """
    described = [_described(cell) for cell in cells]
    shared = {label for label in described[0] if len({each[label] for each in described}) == 1}
    facts = [(label, text) for label, text in described[0].items() if label in shared]
    columns = [label for label in described[0] if label not in shared]
    rows = [[each[label] for label in columns] for each in described]
    return facts, [Table("what differs", columns, rows)] if columns else []


def _described(cell: Mapping[str, Any]) -> dict[str, str]:
    options = {"name": cell["experiment"], **cell}
    dimension = cell["chosen_dimension"]
    return {option.label: option.text(options[option.name]) for option in OPTIONS} | {
        "critical space V": "Rⁿ" if dimension == cell["features"] else f"dimension {dimension}",
        "commit": ", ".join(_short(commit) for commit in cell["commits"]) or "–",
    }


def _short(commit: str) -> str:
    name, *dirty = commit.split("-")
    return "-".join([name[:8], *dirty])


def timings(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the seconds per sample of each stage, one row per experiment (Table 1 of the paper)."""
    return [
        {"experiment": cell["experiment"], "n": cell["features"], "m": cell["parameters"]}
        | {label: cell["seconds_per_sample"].get(stage) for stage, label in STAGES.items()}
        | {"device": f"{' or '.join(map(str, cell['devices']))} × {report['device']}"}
        for cell in report["cells"]
    ]


def markdown(table: Table) -> str:
    """Write a table as Markdown."""
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return f"{table.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as CSV, with the keys of the first as headings."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def remarks(report: Mapping[str, Any]) -> list[str]:
    """Say what a reader of the tables must know: which samples to be wary of."""
    several = len(report["cells"]) > 1
    return [
        (f"{cell['experiment']}: " if several else "") + f"{count} of {cell['samples']} samples: {flag.remark}"
        for cell in report["cells"]
        for flag in FLAGS
        if (count := cell["counts"][flag.name])
    ]


def _one(cell: Mapping[str, Any]) -> list[Table]:
    dimension, features = cell["chosen_dimension"], cell["features"]
    reduced = dimension < features
    angles = [
        (
            label.replace("Rⁿ", f"R^{features}").replace("V", f"V (dimension {dimension})", 1),
            _text(cell["angles"][name]["median"]),
            _span(cell["angles"][name]["interval"]),
            _text(cell["angles"][name]["p90"]),
        )
        for name, label in _ANGLES.items()
        if reduced or not name.endswith("_on_v")
    ]
    shares = cell["beta"][:5]
    return [
        Table("angle to the target, degrees", ("", "median", f"{CONFIDENCE:.0%} interval", "90th percentile"), angles),
        *_spaces(cell),
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
        _outlier_filter(cell),
    ]


def _spaces(cell: Mapping[str, Any]) -> list[Table]:
    rows = [
        (
            str(space["dimension"]),
            f"{space['threshold_low']:.2g}",
            f"{space['threshold_high']:.2g}",
            f"{space['gap']:.3g}",
            _text(space["median_angle"]),
            _text(space["median_angle_of_chance"]),
            "chosen" if space["dimension"] == cell["chosen_dimension"] else "",
        )
        for space in cell["critical_spaces"]
    ]
    columns = ("dimension", "threshold ε from", "to", "gap", "median angle on V", "by chance", "")
    return [Table("critical spaces", columns, rows)] if rows else []


def _outlier_filter(cell: Mapping[str, Any]) -> Table:
    rows = [
        (row["ssim_at_least"], row["kept"], row["angle"]["median"], row["good_dropped"], row["bad_kept"])
        for row in cell["outlier_filter"]
    ]
    return Table(
        "outlier filter, by the SSIM after re-optimization for the prediction",
        ("SSIM at least", "kept", "median angle", f"dropped below {GOOD:g}°", f"kept from {GOOD:g}°"),
        [tuple(map(_text, row)) for row in rows],
    )


def _several(cells: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("experiment", "n", "k", "prediction", "90 %", "response", "random", "β0", "‖JᵀBv*‖ / σ₁", "SSIM")
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


def _span(interval: Sequence[float] | None) -> str:
    return "–" if interval is None else " to ".join(map(_text, interval))


def _text(value: Any, digits: int = 2) -> str:
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.{digits}f}" if abs(value) >= 10**-digits or value == 0 else f"{value:.1e}"
