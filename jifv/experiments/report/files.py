"""What a study leaves behind: `summary.json`, `samples.csv`, tables, figures and `report.html`."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jifv._core.files import replace_durably
from jifv.experiments.report import page
from jifv.experiments.report.summary import samples, summary
from jifv.experiments.report.tables import Table, csv_text, markdown, settings, tables, timings
from jifv.experiments.results import Results
from jifv.experiments.studies import Preset, Study

_CAPTIONS = {
    "figure": "Main result",
    "angles": "Angles to the target by condition",
    "gallery": "Realizations with the weights of target, prediction and response",
}


def write(
    study: Study,
    cells: Sequence[Results],
    folder: str | Path,
    *,
    name: str,
    preset: Preset,
    weights: Mapping[str, str],
) -> dict[str, Any]:
    """Write all files of a study, each replaced only once it is complete.

    Args:
        study: What was run.
        cells: What `jifv.experiments.run.run` returned for each of its experiments.
        folder: Where to; made if it does not exist.
        name: The study's name on the command line.
        preset: Which size of it was run, before options changed that.
        weights: Digest of the weights of each network.

    Returns:
        The summary, as in `summary.json`.
    """
    # Matplotlib is slow to import, and `jifv --help` need not wait for it.
    from jifv.experiments.report import figures

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    report = summary(study, cells, name=name, preset=preset, weights=weights)
    replace_durably(folder / "summary.json", json.dumps(report, indent=2) + "\n")
    replace_durably(folder / "samples.csv", csv_text([row for results in cells for row in samples(results)]))
    shown = tables(report)
    facts, varied = settings(report["cells"])
    asked = [Table("settings", ("option", "value"), facts), *varied]
    replace_durably(folder / "tables.md", "\n".join(markdown(table) for table in [*shown, *asked]))
    if study.figure == "timings":
        replace_durably(folder / "table1.csv", csv_text(timings(report)))
    pictures = {}
    for stem, figure in figures.for_study(study.figure, cells).items():
        for ending in ("png", "pdf"):
            replace_durably(folder / f"{stem}.{ending}", partial(figures.save, figure))
        pictures[_caption(stem)] = figures.svg(figure)
    heading = f"{name}: {study.title} (section {study.section})"
    replace_durably(
        folder / "report.html",
        lambda path: page.write(path, title=heading, cells=cells, tables=shown, figures=pictures),
    )
    return report


def _caption(stem: str) -> str:
    """Make a figure's caption from the name of its file, which may end in an experiment's name."""
    for start, caption in _CAPTIONS.items():
        if stem.startswith(start):
            return f"{caption} {stem.removeprefix(start).removeprefix('-')}".strip()
    return stem
