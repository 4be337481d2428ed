"""What an experiment leaves behind: `summary.json`, `samples.csv`, `results.npz`, two figures, and a table."""

import csv
import json
import math
import os
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from jifv import figures
from jifv.experiment import LOST, OBJECTIVES, Results
from jifv.sample import sparseness

_PACKAGES = ("jifv", "jax", "jaxlib", "flax", "optax", "jaxopt", "numpy", "dm-pix")
_ANGLES = {
    "prediction": "prediction in Rⁿ",
    "prediction_on_v": "prediction in V, on V",
    "response": "response in Rⁿ",
    "response_on_v": "response, on V",
    "random": "random in Rⁿ",
    "random_on_v": "random, on V",
}


def write(results: Results, folder: str | Path, *, feature_names: tuple[str, ...], weights: str) -> dict:
    """Writes all files of an experiment, each replaced only once it is complete.

    Args:
        results: What `jifv.experiment.run` returned.
        folder: Where to; made if it does not exist.
        feature_names: Name of each feature, for the gallery.
        weights: Which weights were used, for the summary.

    Returns:
        The summary, as in `summary.json`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    report = summary(results, weights=weights)
    _replace(folder / "summary.json", lambda path: path.write_text(json.dumps(report, indent=2) + "\n"))
    _replace(folder / "samples.csv", lambda path: _write_csv(path, samples(results)))
    _replace(folder / "results.npz", lambda path: np.savez_compressed(path, **arrays(results)))  # pyright: ignore[reportArgumentType]
    _replace(folder / "figure.png", lambda path: figures.save(figures.overview(results), path))
    gallery = figures.gallery(results, feature_names)
    _replace(folder / "gallery.png", lambda path: figures.save(gallery, path))
    return report


def summary(results: Results, *, weights: str) -> dict:
    """The numbers that matter, ready for JSON: no NaN, which JSON does not have, but null."""
    experiment, settings = results.experiment, results.experiment.settings
    features = results.objectives.shape[1]
    last = results.inversion.singular_values[:, -1] / results.inversion.singular_values[:, 0]
    return _plain(
        {
            "experiment": experiment.name,
            "network": experiment.network,
            "weights": weights,
            "layer": experiment.layer,
            "features": features,
            "parameters": int(np.prod(results.visualization.parameters.shape[1:])),
            "samples": experiment.samples,
            "canonical": int(results.canonical.sum()),
            "power": settings.power,
            "floor": settings.floor,
            "parametrization": experiment.parametrization,
            "aggregation": experiment.aggregation,
            "learning_rate": settings.learning_rate,
            "adam_steps": settings.adam_steps,
            "lbfgs_steps": settings.lbfgs_steps,
            "reoptimize_steps": experiment.reoptimize_steps,
            "seed": experiment.seed,
            "versions": {name: metadata.version(name) for name in _PACKAGES},
            "device": f"{jax.device_count()} × {jax.devices()[0].device_kind}",
            "seconds": results.seconds,
            "angles": {name: _median_and_p90(values) for name, values in results.angles.items()},
            "beta": results.mean_beta,
            "last_singular_value": {"median": np.median(last), "largest": np.max(last)},
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
            "counts": {
                "not_finite": int((~results.visualization.finite).sum()),
                "on_floor": int(results.visualization.on_floor.sum()),
                "lost": int((results.off_v > LOST).sum()),
                "with_silent_features": int(results.inversion.silent.any(-1).sum()),
            },
        }
    )


def samples(results: Results) -> list[dict]:
    """One row a sample: how it was made, how it ended, and its angles and similarities."""
    run, inversion = results.visualization, results.inversion
    silent = inversion.silent
    columns = {
        "sample": np.arange(len(results.objectives)),
        "kind": np.where(results.canonical, "canonical", "sampled"),
        "sparseness": np.asarray(sparseness(jnp.asarray(results.objectives))),
        "off_v": results.off_v,
        "significance": run.significance,
        "cosine": run.cosine,
        "gradient_norm": run.gradient_norm,
        "adam_steps": run.adam_steps,
        "lbfgs_steps": run.lbfgs_steps,
        "on_floor": run.on_floor,
        "finite": run.finite,
        "silent_features": silent.sum(-1),
        "target_on_silent": np.sum(np.where(silent, results.objectives, 0) ** 2, -1),
        "gap": inversion.gap,
        "gap_on_v": results.inversion_on_v.gap,
        **{f"angle_{name}": values for name, values in results.angles.items()},
        **{f"beta_{index}": results.beta[:, index] for index in range(min(3, results.beta.shape[1]))},
        **{f"ssim_{name}": results.ssim[name] for name in OBJECTIVES},
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def arrays(results: Results) -> dict[str, np.ndarray]:
    """Every array of the results under one flat name."""
    return {
        "objectives": results.objectives,
        "canonical": results.canonical,
        "images": results.images,
        "random": results.random,
        "beta": results.beta,
        "off_v": results.off_v,
        "basis": results.basis,
        **results.visualization._asdict(),
        **{f"inversion_{name}": leaf for name, leaf in results.inversion._asdict().items()},
        **{f"inversion_on_v_{name}": leaf for name, leaf in results.inversion_on_v._asdict().items()},
        **{f"angle_{name}": values for name, values in results.angles.items()},
        **{f"ssim_{name}": values for name, values in results.ssim.items()},
        **{f"reoptimized_{name}": images for name, images in results.reoptimized.items()},
        **{f"space_{space.basis.shape[1]}": space.basis for space in results.spaces},
    }


def tables(report: dict) -> list[Table]:
    """The summary as tables for a terminal."""
    dimension, features = report["chosen_dimension"], report["features"]
    angles = Table(title="angle to the target, degrees", title_justify="left")
    for column in ("", "median", "90th percentile"):
        angles.add_column(column, justify="right" if column else "left")
    for name, label in _ANGLES.items():
        label = label.replace("Rⁿ", f"R^{features}").replace("V", f"V (dimension {dimension})", 1)
        row = report["angles"][name]
        angles.add_row(label, _number(row["median"]), _number(row["p90"]))

    spaces = Table(title="critical spaces", title_justify="left")
    for column in ("dimension", "threshold ε from", "to", "median angle on V", "of chance", ""):
        spaces.add_column(column, justify="right")
    for space in report["critical_spaces"]:
        spaces.add_row(
            str(space["dimension"]),
            f"{space['threshold_low']:.2g}",
            f"{space['threshold_high']:.2g}",
            _number(space["median_angle"]),
            _number(space["median_angle_of_chance"]),
            "chosen" if space["dimension"] == dimension else "",
        )

    shares = report["beta"][:5]
    beta = Table(title="share of the target in the last singular vectors of BJ", title_justify="left")
    for index in range(len(shares)):
        beta.add_column(f"β{index}", justify="right")
    beta.add_row(*(f"{share:.3f}" for share in shares))

    ssim = Table(title="SSIM after re-optimization for the", title_justify="left")
    for name in OBJECTIVES:
        ssim.add_column(name, justify="right")
    ssim.add_row(*(_number(report["ssim"][name]["median"], 3) for name in OBJECTIVES))
    return [angles, spaces, beta, ssim]


def remarks(report: dict) -> list[str]:
    """What a reader of the tables must know: samples that count but could not have been recovered."""
    words = {
        "not_finite": "NaN or infinity on the way, so no angle",
        "on_floor": "ended on the floor of the cosine, where inversion does not hold",
        "lost": "the target is nearly all off V, which nothing can recover; counted all the same",
        "with_silent_features": "silent features, of which the gradient says nothing",
    }
    return [
        f"{count} of {report['samples']} samples: {words[name]}" for name, count in report["counts"].items() if count
    ]


def _median_and_p90(values: np.ndarray) -> dict:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {"median": math.nan, "p90": math.nan, "missing": len(values)}
    return {
        "median": np.median(finite),
        "p90": np.percentile(finite, 90),
        "missing": len(values) - len(finite),
    }


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _plain(value: Any) -> Any:
    """Python's own types, with None for NaN and infinity."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value):
        return [_plain(entry) for entry in value]
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_csv(path: Path, rows: Iterable[dict]) -> None:
    rows = list(rows)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _replace(path: Path, write_to: Callable[[Path], object]) -> None:
    """Writes beside the file and then renames, so that a run that is killed leaves the old file or the new one."""
    beside = path.with_name(f"partial-{path.name}")
    write_to(beside)
    os.replace(beside, path)
