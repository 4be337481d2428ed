"""The numbers of a study that matter: what `summary.json` and `samples.csv` hold."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jifv._core.provenance import provenance
from jifv.experiments.experiment import options_of
from jifv.experiments.results import OBJECTIVES, Results, flags
from jifv.experiments.studies import Preset, Study
from jifv.objectives import sparseness

GOOD = 10.0
"""Degrees below which a prediction counts as good, to say what the outlier filter loses."""
CONFIDENCE = 0.95
"""How often the bootstrap's interval of a median is meant to hold it."""
STABLE = (0.8, 0.9, 0.95)
"""SSIM after re-optimization for the prediction below which the outlier filter drops a sample. The threshold of the
paper is not known."""


def summary(
    study: Study, cells: Sequence[Results], *, name: str, preset: Preset, weights: Mapping[str, str]
) -> dict[str, Any]:
    """Summarize a study, ready for JSON: NaN and infinity, which JSON does not have, become null.

    Args:
        study: What was run.
        cells: Results of each of its experiments.
        name: The study's name on the command line.
        preset: Which size of it was run, before options changed that.
        weights: Digest of the weights of each network.
    """
    return plain(
        {
            "study": name,
            "title": study.title,
            "section": study.section,
            "preset": preset,
            "weights": weights,
            "provenance": provenance()._asdict(),
            "device": jax.devices()[0].device_kind,
            "cells": [cell_summary(results) for results in cells],
        }
    )


def settings_of(results: Results) -> dict[str, Any]:
    """Say what was run: every option by name, as it turned out where the experiment left it open, and with what."""
    options = options_of(results.experiment)
    height, width, _ = results.realized.images.shape[1:]
    return {
        "experiment": options.pop("name"),
        **options,
        "features": results.features,
        "canonical": int(results.canonical.sum()),
        "input_size": height if height == width else f"{height}×{width}",
        "input": results.realized.images.shape[1:],
        "parameters": int(np.prod(results.realized.parameters.shape[1:])),
        "chosen_dimension": results.calibrated.basis.shape[1],
        "devices": results.devices,
        "commits": results.commits,
    }


def cell_summary(results: Results) -> dict[str, Any]:
    """Summarize one experiment."""
    realized, evaluation = results.realized, results.evaluation
    found = flags(results)
    last = realized.last_singular_value
    return {
        **settings_of(results),
        "seconds_per_sample": results.seconds,
        "angles": {
            name: _median_and_p90(degrees) | {"interval": _interval(degrees)}
            for name, degrees in evaluation.angles.items()
        },
        "beta": realized.mean_beta,
        "last_singular_value": {"median": np.nanmedian(last), "largest": np.nanmax(last)},
        "stationarity": {
            "median": np.nanmedian(realized.stationarity),
            "largest": np.nanmax(realized.stationarity),
        },
        "gap": {"median": np.nanmedian(realized.gap)},
        "critical_spaces": [
            {
                "dimension": space.basis.shape[1],
                "threshold_low": space.threshold_low,
                "threshold_high": min(space.threshold_high, 1.0),
                "gap": space.gap,
                "reason": space.reason,
                "median_angle": results.calibrated.choice.angle[index],
                "median_angle_of_chance": results.calibrated.choice.chance[index],
                "cokernel": space.cokernel.T,
            }
            for index, space in enumerate(results.calibrated.spaces, 1)
        ],
        "ssim": {
            name: {"median": np.nanmedian(evaluation.ssim[name]), "interval": _interval(evaluation.ssim[name])}
            for name in OBJECTIVES
        },
        "outlier_filter": [_filtered(results, least) for least in STABLE],
        "counts": {name: int(flag.sum()) for name, flag in found.items()},
        "listed": {name: np.flatnonzero(flag).tolist() for name, flag in found.items()},
    }


def samples(results: Results) -> list[dict[str, Any]]:
    """List one row per sample: how it was made, how it ended, and its angles and similarities."""
    realized, evaluation = results.realized, results.evaluation
    count = len(results.objectives)
    columns = {
        "experiment": [results.experiment.name] * count,
        "sample": np.arange(count),
        "kind": np.where(results.canonical, "canonical", "sampled"),
        "sparseness": np.asarray(sparseness(jnp.asarray(results.objectives))),
        "off_v": evaluation.off_v,
        "significance": realized.value,
        "cosine": realized.cosine,
        "gradient_norm": realized.gradient_norm,
        "stationarity": realized.stationarity,
        "adam_steps": realized.adam_steps,
        "lbfgs_steps": realized.lbfgs_steps,
        "on_floor": realized.on_floor,
        "finite": realized.finite,
        "dead_features": realized.dead.sum(-1),
        "target_on_dead": results.on_dead,
        "gap": realized.gap,
        "gap_on_v": results.calibrated.gap,
        **{f"angle_{name}": degrees for name, degrees in evaluation.angles.items()},
        **{
            f"beta_{index}": realized.beta[:, index] if index < results.features else np.full(count, np.nan)
            for index in range(3)
        },
        **{f"ssim_{name}": evaluation.ssim[name] for name in OBJECTIVES},
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def plain(value: Any) -> Any:
    """Convert to Python's own types, with None for NaN and infinity."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim):
        return [plain(entry) for entry in value]
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _filtered(results: Results, least: float) -> dict[str, Any]:
    """Summarize what the paper's outlier filter keeps and loses at one threshold."""
    angle = results.evaluation.angles["prediction_on_v"]
    kept = results.evaluation.ssim["prediction"] >= least
    return {
        "ssim_at_least": least,
        "kept": int(kept.sum()),
        "angle": _median_and_p90(angle[kept]),
        "good_dropped": int(((angle < GOOD) & ~kept).sum()),
        "bad_kept": int(((angle >= GOOD) & kept).sum()),
    }


def _interval(values: np.ndarray) -> list[float] | None:
    """Return where the median of all samples of this kind lies, as far as these tell, or None if they are too few."""
    from scipy import stats  # slow to import

    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        return None
    options = {"confidence_level": CONFIDENCE, "n_resamples": 1000, "method": "percentile", "rng": 0}
    return [float(end) for end in stats.bootstrap((finite,), np.median, **options).confidence_interval]


def _median_and_p90(values: np.ndarray) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {"median": math.nan, "p90": math.nan, "missing": len(values)}
    return {
        "median": np.median(finite),
        "p90": np.percentile(finite, 90),
        "missing": len(values) - len(finite),
    }
