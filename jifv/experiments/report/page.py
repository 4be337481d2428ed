"""`report.html`: one self-contained file to look at the samples of a study, offline.

Python collects the data, as JSON; everything that is drawn, page.html draws. Numbers keep six digits, and NaN and
infinity are null. With more samples than `_FULL` the pictures get coarser instead of the file larger.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from jifv.experiments.report.figures_images import picture
from jifv.experiments.results import LOST, Results
from jifv.objectives import sparseness

ENTRIES = 8
"""Bars of a sample: the features with the largest entries of target, prediction and response."""

_PLACEHOLDER = "@DATA@"
_SIDE = 96  # of a thumbnail, in pixels
_PIXEL_ART = 48  # images up to this size keep their pixels, without loss
_FULL = 1500  # samples with pictures of full quality: 16 MB of CIFAR-10's size, and as much of larger ones


class Table(NamedTuple):
    """A table of words and numbers, ready to print.

    Attributes:
        title: What it shows.
        columns: Their headings.
        rows: One string a column.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def write(
    path: str | Path, *, title: str, cells: Sequence[Results], tables: Sequence[Table], figures: Mapping[str, str]
) -> None:
    """Write the page: what was run, tables, figures, a scatter to point at, and a gallery to sort and filter.

    A sample takes about 10 KB at 32×32 and less from larger images, of which there are thumbnails.

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
                raise ValueError(f"tables must have {len(table.columns)} strings a row in {table.title!r}, got {row}")
    facts, varied = _what_was_run(cells)
    coarseness = max(1.0, sum(len(results.images) for results in cells) / _FULL)
    data = {
        "title": title,
        "facts": facts,
        "tables": [table._asdict() for table in [*varied, *tables]],
        "figures": list(figures.items()),
        "flags": list(_flags(cells[0])),
        "entries": ENTRIES,
        "cells": [_cell(results, coarseness) for results in cells],
    }
    template = resources.files("jifv.experiments.report").joinpath("page.html").read_text(encoding="utf-8")
    before, _, after = template.partition(_PLACEHOLDER)
    # Within <script> nothing but "<" can end the element or open a comment.
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    Path(path).write_text(before + text + after, encoding="utf-8", newline="")


def _what_was_run(cells: Sequence[Results]) -> tuple[list[tuple[str, str]], list[Table]]:
    """What all experiments share, by name; and a table of what differs, if anything does."""
    described = [_describe(results) for results in cells]
    shared = {name for name in described[0] if len({each[name] for each in described}) == 1}
    facts = [(name, value) for name, value in described[0].items() if name in shared]
    columns = [name for name in described[0] if name not in shared]
    rows = [[each[name] for name in columns] for each in described]
    return facts, [Table("What was run", columns, rows)] if columns else []


def _describe(results: Results) -> dict[str, str]:
    experiment, settings = results.experiment, results.experiment.settings
    features, dimension = results.basis.shape
    canonical = int(results.canonical.sum())
    return {
        "experiment": experiment.name,
        "network": experiment.network,
        "layer": experiment.layer,
        "features n": str(features),
        "critical space V": "Rⁿ" if dimension == features else f"dimension {dimension}",
        "power k": f"{settings.power:g}",
        "floor of the cosine": "–" if settings.floor is None else f"{settings.floor:g}",
        "input": "×".join(map(str, results.images.shape[1:])),
        "parametrization": experiment.parametrization.replace("_", " "),
        "smoothing, silence": f"{experiment.smoothing:g}, {experiment.silence:g}",
        "aggregation": experiment.aggregation.replace("_", " "),
        "steps": f"{settings.adam_steps} Adam, {settings.lbfgs_steps} L-BFGS",
        "re-optimization": f"{experiment.reoptimize_steps} Adam",
        "samples": f"{experiment.samples}" + (f", {canonical} canonical" if canonical else ""),
        "seed": str(experiment.seed),
    }


def _cell(results: Results, coarseness: float) -> dict[str, Any]:
    """One experiment: a list a quantity, one entry a sample."""
    names = results.feature_names
    with np.errstate(invalid="ignore"):  # where a response is infinite
        vectors = results.directions
    entries = _largest(vectors)
    drawn = {name: np.take_along_axis(rows, entries, -1) for name, rows in vectors.items()}
    extremes = np.concatenate([rows[np.isfinite(rows)] for rows in drawn.values()])
    flags = np.stack(list(_flags(results).values()), -1)
    return {
        "name": results.experiment.name,
        "features": list(names),
        "dimension": results.basis.shape[1],
        "reduced": results.basis.shape[1] < len(names),
        "pixelated": max(results.images.shape[1:3]) <= _PIXEL_ART,
        "scale": [min(0.0, float(extremes.min(initial=0))), max(0.01, float(extremes.max(initial=0)))],
        "index": list(range(len(results.images))),
        "canonical": [
            names[np.argmax(objective)] if canonical else None
            for objective, canonical in zip(results.objectives, results.canonical, strict=True)
        ],
        "angle": _numbers(results.angles["prediction_on_v"]),
        "angle_in_rn": _numbers(results.angles["prediction"]),
        "angle_response": _numbers(results.angles["response_on_v"]),
        "angle_random": _numbers(results.angles["random_on_v"]),
        "ssim": _numbers(results.ssim["prediction"]),
        "ssim_response": _numbers(results.ssim["response"]),
        "ssim_random": _numbers(results.ssim["random"]),
        "sparseness": _numbers(np.asarray(sparseness(jnp.asarray(results.objectives)))),
        "gap": _numbers(results.gap_on_v),
        "off_v": _numbers(results.off_v),
        "silent": results.silent.sum(-1).tolist(),
        "on_silent": _numbers(results.on_silent),
        "flags": (flags @ (1 << np.arange(flags.shape[-1]))).tolist(),
        "entries": entries.tolist(),
        **{name: [_numbers(row, digits=3) for row in rows] for name, rows in drawn.items()},
        "images": [
            [_encode(image, coarseness) for image in images]
            for images in zip(
                results.images, results.reoptimized["prediction"], results.reoptimized["response"], strict=True
            )
        ],
    }


def _flags(results: Results) -> dict[str, Bool[np.ndarray, " s"]]:
    """What a sample can be marked with; the page knows that the first one says how it was drawn."""
    return {
        "canonical": results.canonical,
        "not finite": ~results.finite,
        "on the floor": results.on_floor,
        "target off V": np.greater(results.off_v, LOST),
        "target on silent features": np.greater(results.on_silent, LOST),
        "silent features": np.any(results.silent, -1),
    }


def _largest(vectors: dict[str, Float[np.ndarray, "s n"]]) -> Int[np.ndarray, "s e"]:
    """The features with the largest entry in any of the vectors, from the target's largest entry to its least."""
    weight = np.nan_to_num(np.abs(np.stack(list(vectors.values())))).max(0)
    chosen = np.sort(np.argsort(-weight, axis=-1, kind="stable")[:, :ENTRIES], axis=-1)
    target = np.take_along_axis(vectors["target"], chosen, -1)
    return np.take_along_axis(chosen, np.argsort(-target, axis=-1, kind="stable"), -1)


def _encode(image: Float[np.ndarray, "h w c"], coarseness: float) -> str | None:
    """An image as WebP in base64; None where it is not finite.

    Small images lose depth of colour to coarseness, the others size.
    """
    if not np.isfinite(image).all():
        return None
    values = np.clip(picture(image), 0, 1)
    side = max(image.shape[:2])
    file = io.BytesIO()
    if side <= _PIXEL_ART:
        levels = 2 ** max(3, int(8 / coarseness)) - 1
        _image(np.round(values * levels) / levels).save(file, "WEBP", lossless=True)
    else:
        scale = min(1, max(32, _SIDE / coarseness**0.5) / side)
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        _image(values).resize(size, Image.Resampling.LANCZOS).save(file, "WEBP", quality=84)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _image(values: Float[np.ndarray, "h w 3"]) -> Image.Image:
    return Image.fromarray(np.round(values * 255).astype(np.uint8))


def _numbers(values: Float[np.ndarray, " s"], *, digits: int = 6) -> list[float | None]:
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in values]
