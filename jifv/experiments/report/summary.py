"""What a study leaves behind: `summary.json`, `samples.csv`, tables, figures and `report.html`."""

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jifv.experiments.experiment import LOST, OBJECTIVES, Results
from jifv.experiments.report import figures, page
from jifv.experiments.report.page import Table
from jifv.experiments.studies import Preset, Study
from jifv.objectives import sparseness

GOOD = 10.0
"""Degrees below which a prediction counts as good, to say what the outlier filter loses."""
STABLE = (0.8, 0.9, 0.95)
"""SSIM after re-optimization for the prediction below which the outlier filter drops a sample (the paper's threshold
is not known)."""

_PACKAGES = ("jifv", "jax", "jaxlib", "flax", "optax", "jaxopt", "numpy", "dm-pix")
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
_CAPTIONS = {
    "figure": "What the study shows",
    "angles": "Angles to the target by condition",
    "gallery": "Realizations beside target, prediction and response",
}
_REMARKS = {
    "not_finite": "NaN or infinity on the way, so no angle",
    "on_floor": "ended on the floor of the cosine, where inversion does not hold",
    "lost": "the target is nearly all off V, which nothing can recover; counted all the same",
    "dead": "the target is nearly all on features that the realization leaves silent; counted all the same",
    "with_silent_features": "silent features, of which the gradient says nothing",
}


def write(
    study: Study,
    cells: Sequence[Results],
    folder: str | Path,
    *,
    name: str,
    preset: Preset,
    weights: dict[str, str],
) -> dict:
    """Writes all files of a study, each replaced only once it is complete.

    Args:
        study: What was run.
        cells: What `jifv.experiments.experiment.run` returned for each of its experiments.
        folder: Where to; made if it does not exist.
        name: The study's name on the command line.
        preset: Which size of it was run, before options changed that.
        weights: Digest of the weights of each network.

    Returns:
        The summary, as in `summary.json`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    report = summary(study, cells, name=name, preset=preset, weights=weights)
    _replace(folder / "summary.json", json.dumps(report, indent=2) + "\n")
    _replace(folder / "samples.csv", _csv(row for results in cells for row in samples(results)))
    shown = tables(report)
    _replace(folder / "tables.md", "\n".join(markdown(table) for table in shown))
    if study.figure == "timings":
        _replace(folder / "table1.csv", _csv(timings(report)))
    pictures = {}
    for stem, figure in figures.for_study(study.figure, cells).items():
        for ending in ("png", "pdf"):
            _replace_by(folder / f"{stem}.{ending}", partial(figures.save, figure))
        vector = folder / f"partial-{stem}.svg"
        figures.save(figure, vector)
        pictures[_caption(stem)] = vector.read_text(encoding="utf-8")
        vector.unlink()
    heading = f"{name}: {study.title} (section {study.section})"
    _replace_by(
        folder / "report.html",
        lambda path: page.write(path, title=heading, cells=cells, tables=shown, figures=pictures),
    )
    return report


def summary(study: Study, cells: Sequence[Results], *, name: str, preset: Preset, weights: dict[str, str]) -> dict:
    """The numbers that matter, ready for JSON: no NaN, which JSON does not have, but null."""
    return _plain(
        {
            "study": name,
            "title": study.title,
            "section": study.section,
            "preset": preset,
            "weights": weights,
            "versions": {package: metadata.version(package) for package in _PACKAGES},
            "device": jax.devices()[0].device_kind,
            "cells": [cell_summary(results) for results in cells],
        }
    )


def cell_summary(results: Results) -> dict:
    """The numbers of one experiment."""
    experiment, settings = results.experiment, results.experiment.settings
    flags = _flags(results)
    values = np.where(np.isfinite(results.singular_values), results.singular_values, 0)
    last = results.singular_values[:, -1] / np.where(values.max(-1) > 0, values.max(-1), np.nan)
    angle, stable = results.angles["prediction_on_v"], results.ssim["prediction"]
    return {
        "experiment": experiment.name,
        "network": experiment.network,
        "layer": experiment.layer,
        "features": results.objectives.shape[1],
        "parameters": int(np.prod(results.parameters.shape[1:])),
        "samples": experiment.samples,
        "canonical": int(results.canonical.sum()),
        "power": settings.power,
        "floor": settings.floor,
        "input": results.images.shape[1:],
        "smoothing": experiment.smoothing,
        "silence": experiment.silence,
        "parametrization": experiment.parametrization,
        "std": experiment.std,
        "aggregation": experiment.aggregation,
        "learning_rate": settings.learning_rate,
        "adam_steps": settings.adam_steps,
        "cooldown": settings.cooldown,
        "lbfgs_steps": settings.lbfgs_steps,
        "adam_precision": settings.adam_precision,
        "reoptimize_steps": experiment.reoptimize_steps,
        "batch_size": experiment.batch_size,
        "seed": experiment.seed,
        "devices": results.devices,
        "seconds_a_sample": results.seconds,
        "angles": {name: _median_and_p90(degrees) for name, degrees in results.angles.items()},
        "beta": results.mean_beta,
        "last_singular_value": {"median": np.nanmedian(last), "largest": np.nanmax(last)},
        "stationarity": {"median": np.nanmedian(results.stationarity), "largest": np.nanmax(results.stationarity)},
        "gap": {"median": np.nanmedian(results.gap)},
        "critical_spaces": [
            {
                "dimension": space.basis.shape[1],
                "threshold_low": space.threshold_low,
                "threshold_high": min(space.threshold_high, 1.0),
                "median_angle": results.choice.angle[index],
                "median_angle_of_chance": results.choice.chance[index],
                "cokernel": space.cokernel.T,
            }
            for index, space in enumerate(results.spaces, 1)
        ],
        "chosen_dimension": results.basis.shape[1],
        "ssim": {name: {"median": np.nanmedian(results.ssim[name])} for name in OBJECTIVES},
        "outlier_filter": [
            {
                "ssim_at_least": least,
                "kept": int((stable >= least).sum()),
                "angle": _median_and_p90(angle[stable >= least]),
                "good_dropped": int(((angle < GOOD) & ~(stable >= least)).sum()),
                "bad_kept": int(((angle >= GOOD) & (stable >= least)).sum()),
            }
            for least in STABLE
        ],
        "counts": {name: int(flag.sum()) for name, flag in flags.items()},
        "listed": {name: np.flatnonzero(flag).tolist() for name, flag in flags.items()},
    }


def samples(results: Results) -> list[dict]:
    """One row a sample: how it was made, how it ended, and its angles and similarities."""
    count = len(results.objectives)
    columns = {
        "experiment": [results.experiment.name] * count,
        "sample": np.arange(count),
        "kind": np.where(results.canonical, "canonical", "sampled"),
        "sparseness": np.asarray(sparseness(jnp.asarray(results.objectives))),
        "off_v": results.off_v,
        "significance": results.significance,
        "cosine": results.cosine,
        "gradient_norm": results.gradient_norm,
        "stationarity": results.stationarity,
        "adam_steps": results.adam_steps,
        "lbfgs_steps": results.lbfgs_steps,
        "on_floor": results.on_floor,
        "finite": results.finite,
        "silent_features": results.silent.sum(-1),
        "target_on_silent": results.on_silent,
        "gap": results.gap,
        "gap_on_v": results.gap_on_v,
        **{f"angle_{name}": degrees for name, degrees in results.angles.items()},
        **{
            f"beta_{index}": results.beta[:, index] if index < results.beta.shape[1] else np.full(count, np.nan)
            for index in range(3)
        },
        **{f"ssim_{name}": results.ssim[name] for name in OBJECTIVES},
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


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


def _caption(stem: str) -> str:
    """A figure's caption from the name of its file, which an experiment's name may follow."""
    for start, caption in _CAPTIONS.items():
        if stem.startswith(start):
            return f"{caption} {stem.removeprefix(start).removeprefix('-')}".strip()
    return stem


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


def _flags(results: Results) -> dict[str, np.ndarray]:
    """The samples that a reader must know of."""
    return {
        "not_finite": ~results.finite,
        "on_floor": results.on_floor,
        "lost": np.greater(results.off_v, LOST),
        "dead": np.greater(results.on_silent, LOST),
        "with_silent_features": np.any(results.silent, -1),
    }


def _median_and_p90(values: np.ndarray) -> dict:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {"median": math.nan, "p90": math.nan, "missing": len(values)}
    return {
        "median": np.median(finite),
        "p90": np.percentile(finite, 90),
        "missing": len(values) - len(finite),
    }


def _text(value: Any, digits: int = 2) -> str:
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.{digits}f}" if abs(value) >= 10**-digits or value == 0 else f"{value:.1e}"


def _plain(value: Any) -> Any:
    """Python's own types, with None for NaN and infinity."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim):
        return [_plain(entry) for entry in value]
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(rows: Iterable[dict]) -> str:
    rows = list(rows)
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _replace(path: Path, text: str) -> None:
    _replace_by(path, lambda beside: beside.write_text(text, encoding="utf-8", newline=""))


def _replace_by(path: Path, write_to: Callable[[Path], object]) -> None:
    """Writes beside the file and then renames, so that a run that is killed leaves the old file or the new one."""
    beside = path.with_name(f"partial-{path.name}")
    write_to(beside)
    os.replace(beside, path)
