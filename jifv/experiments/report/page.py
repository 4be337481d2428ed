"""`report.html`: one self-contained file to look at the samples of a study, offline.

This module collects the data, as JSON, and page.html draws it. Numbers keep six digits, and NaN and infinity become
null. With more samples than `_FULL` the pictures get coarser, so that the file does not grow.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jifv.experiments.report import embed
from jifv.experiments.report.summary import settings_of
from jifv.experiments.report.tables import Table, settings
from jifv.experiments.results import FLAGS, Results, flags
from jifv.objectives import sparseness

ENTRIES = 8
"""Bars of a sample: the features with the largest entries of target, prediction and response."""

_FULL = 1500  # samples with pictures of full quality, which take 16 MB at 32×32, and no more if they are larger


def write(
    path: str | Path, *, title: str, cells: Sequence[Results], tables: Sequence[Table], figures: Mapping[str, str]
) -> None:
    """Write the page: what was run, tables, figures, a scatter to point at, and a gallery to sort and filter.

    A sample takes about 10 KB at 32×32, and less where images are larger, because the page has thumbnails of those.

    Args:
        path: Where to.
        title: Heading of the page.
        cells: The experiments.
        tables: The summary.
        figures: Each figure as the text of an SVG file, by its caption.

    Raises:
        ValueError: There is no experiment, or a row of a table does not fit its columns.
    """
    if not cells:
        raise ValueError("cells must hold the results of at least one experiment, got none")
    for table in tables:
        for row in table.rows:
            if len(row) != len(table.columns):
                raise ValueError(f"tables must have {len(table.columns)} strings per row in {table.title!r}, got {row}")
    facts, varied = settings([settings_of(results) for results in cells])
    coarseness = max(1.0, sum(len(results.objectives) for results in cells) / _FULL)
    data = {
        "title": title,
        "facts": facts,
        "tables": [table._asdict() for table in [*varied, *tables]],
        "figures": list(figures.items()),
        "flags": list(_marks(cells[0])),
        "entries": ENTRIES,
        "cells": [_cell(results, coarseness) for results in cells],
    }
    embed.write(path, "page.html", data)


def _cell(results: Results, coarseness: float) -> dict[str, Any]:
    """Collect the data of one experiment: a list per quantity, with one entry per sample."""
    names, realized, calibrated = results.feature_names, results.realized, results.calibrated
    angles, ssim = results.evaluation.angles, results.evaluation.ssim
    with np.errstate(invalid="ignore"):  # where a response is infinite
        vectors = results.directions
    entries = _largest(vectors)
    drawn = {name: np.take_along_axis(rows, entries, -1) for name, rows in vectors.items()}
    extremes = np.concatenate([rows[np.isfinite(rows)] for rows in drawn.values()])
    marks = np.stack(list(_marks(results).values()), -1)
    pictures = (realized.images, results.reoptimized.images["prediction"], results.reoptimized.images["response"])
    return {
        "name": results.experiment.name,
        "features": list(names),
        "dimension": calibrated.basis.shape[1],
        "reduced": calibrated.reduced,
        "pixelated": max(realized.images.shape[1:3]) <= embed.PIXEL_ART,
        "scale": [min(0.0, float(extremes.min(initial=0))), max(0.01, float(extremes.max(initial=0)))],
        "index": list(range(len(results.objectives))),
        "canonical": [
            names[np.argmax(objective)] if canonical else None
            for objective, canonical in zip(results.objectives, results.canonical, strict=True)
        ],
        "angle": embed.numbers(angles["prediction_on_v"]),
        "angle_in_rn": embed.numbers(angles["prediction"]),
        "angle_response": embed.numbers(angles["response_on_v"]),
        "angle_random": embed.numbers(angles["random_on_v"]),
        "ssim": embed.numbers(ssim["prediction"]),
        "ssim_response": embed.numbers(ssim["response"]),
        "ssim_random": embed.numbers(ssim["random"]),
        "sparseness": embed.numbers(np.asarray(sparseness(jnp.asarray(results.objectives)))),
        "gap": embed.numbers(calibrated.gap),
        "off_v": embed.numbers(results.evaluation.off_v),
        "dead": realized.dead.sum(-1).tolist(),
        "on_dead": embed.numbers(results.on_dead),
        "flags": (marks @ (1 << np.arange(marks.shape[-1]))).tolist(),
        "entries": entries.tolist(),
        **{name: [embed.numbers(row, digits=3) for row in rows] for name, rows in drawn.items()},
        "images": [[embed.encoded(image, coarseness) for image in images] for images in zip(*pictures, strict=True)],
    }


def _marks(results: Results) -> dict[str, Bool[np.ndarray, " s"]]:
    """Collect the marks of all samples by label. The page relies on the first one being the kind of sample."""
    found = flags(results)
    return {"canonical": results.canonical} | {flag.label: found[flag.name] for flag in FLAGS}


def _largest(vectors: dict[str, Float[np.ndarray, "s n"]]) -> Int[np.ndarray, "s e"]:
    """Find the features with the largest entries in any of the vectors, in descending order of the target's entries."""
    weight = np.nan_to_num(np.abs(np.stack(list(vectors.values())))).max(0)
    chosen = np.sort(np.argsort(-weight, axis=-1, kind="stable")[:, :ENTRIES], axis=-1)
    target = np.take_along_axis(vectors["target"], chosen, -1)
    return np.take_along_axis(chosen, np.argsort(-target, axis=-1, kind="stable"), -1)
