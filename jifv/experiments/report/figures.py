"""All figures of a study, as Matplotlib figures and as files.

`figures_scatter`, `figures_images` and `figures_conditions` draw them: each function returns a figure at the size at
which it is printed, at most 7.2 inches wide, and touches no global state. The colours are those of Okabe and Ito, and
nothing is told by colour alone: place, marker or hatching say the same. Medians are of the finite samples.
"""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from jifv.experiments.report.figures_conditions import angles_by_condition, beta_bars, timings
from jifv.experiments.report.figures_images import by_parametrization, gallery
from jifv.experiments.report.figures_panels import listed
from jifv.experiments.report.figures_scatter import scatter
from jifv.experiments.results import Results

_METADATA = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
"""What a file must not hold, for the same figure to give the same bytes."""


def for_study(figure: str, cells: Sequence[Results]) -> dict[str, Figure]:
    """Draw all figures of a study, by the names of their files.

    Args:
        figure: The study's main figure, see `jifv.experiments.studies.Study`.
        cells: Results of its cells.

    Raises:
        ValueError: There are no cells, or no such figure.
    """
    cells = listed(cells)
    if figure == "scatter":
        endings = [f"-{cell.experiment.name}" if len(cells) > 1 else "" for cell in cells]
        named = {f"figure{ending}": scatter(cell) for ending, cell in zip(endings, cells, strict=True)}
        return named | {f"gallery{ending}": gallery(cell) for ending, cell in zip(endings, cells, strict=True)}
    if figure == "beta":
        return {"figure": beta_bars(cells), "angles": angles_by_condition(cells)}
    if figure == "parametrizations":
        return {"figure": by_parametrization(cells), "angles": angles_by_condition(cells)}
    if figure == "timings":
        return {"figure": timings(cells)}
    raise ValueError(f"figure must be scatter, beta, parametrizations or timings, got {figure!r}")


def save(figure: Figure, path: str | Path, *, dpi: int = 150) -> None:
    """Write a figure to a file. The same figure gives the same bytes.

    Args:
        figure: The figure.
        path: The file. Its ending chooses the format: .png, .pdf or .svg, where letters stay text.
        dpi: Resolution of a PNG file, and of images in the others.

    Raises:
        ValueError: The ending is none of those.
    """
    ending = Path(path).suffix.lower()
    if ending not in _METADATA:
        raise ValueError(f"path must end in {', '.join(_METADATA)}, got {Path(path).name!r}")
    _save(figure, path, ending, dpi)


def svg(figure: Figure) -> str:
    """Return a figure as the text of an SVG file, to be embedded in a page."""
    file = io.StringIO()
    _save(figure, file, ".svg", dpi=150)
    return file.getvalue()


def _save(figure: Figure, file: str | Path | io.StringIO, ending: str, dpi: int) -> None:
    with rc_context({"svg.hashsalt": "jifv", "svg.fonttype": "none", "pdf.fonttype": 42}):
        figure.savefig(file, dpi=dpi, format=ending[1:], metadata=_METADATA[ending])
