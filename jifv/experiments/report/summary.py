"""The numbers of a study that matter."""

import math
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jifv.experiments.results import LOST, OBJECTIVES, Results
from jifv.experiments.studies import Preset, Study
from jifv.objectives import sparseness

GOOD = 10.0
"""Degrees below which a prediction counts as good, to say what the outlier filter loses."""

STABLE = (0.8, 0.9, 0.95)
"""SSIM after re-optimization for the prediction below which the outlier filter drops a sample (the paper's threshold
is not known)."""

_PACKAGES = ("jifv", "jax", "jaxlib", "flax", "optax", "jaxopt", "numpy", "dm-pix")


def summary(study: Study, cells: Sequence[Results], *, name: str, preset: Preset, weights: dict[str, str]) -> dict:
    """The numbers that matter, ready for JSON: no NaN, which JSON does not have, but null."""
    return plain(
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


def plain(value: Any) -> Any:
    """Python's own types, with None for NaN and infinity."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim):
        return [plain(entry) for entry in value]
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
