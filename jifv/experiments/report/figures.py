"""The paper's figures, of one experiment or of all cells of a study, for print and for a page.

Each function returns a Matplotlib figure at the size at which it is printed, at most 7.2 inches wide, and touches no
global state. The colours are those of Okabe and Ito, and nothing is told by colour alone: place, marker or hatching say
the same. Medians are of the samples that are finite.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, MultipleLocator, NullFormatter

from jifv.experiments.experiment import LOST, OBJECTIVES, Experiment, Results

_COLOURS = {
    "ambient": "#56B4E9",
    "prediction": "#0072B2",
    "target": "#009E73",
    "response": "#D55E00",
    "random": "#8C8C8C",
}
_LINES: dict[str, dict[str, Any]] = {
    "prediction": {"marker": "o", "linestyle": "-"},
    "response": {"marker": "s", "linestyle": "--"},
    "random": {"marker": "D", "linestyle": ":"},
}
_SHARES = (
    (0, 1, "$\\beta_0$", "#0072B2", ""),
    (1, 2, "$\\beta_1$", "#E69F00", "////"),
    (2, 3, "$\\beta_2$", "#009E73", r"\\\\"),
    (3, 4, "$\\beta_3$", "#CC79A7", "xxxx"),
    (4, 16, "$\\beta_4$ to $\\beta_{15}$", "#56B4E9", ""),
    (16, None, "rest", "#DDDDDD", ""),
)
"""First β, the one after the last, name, colour and hatching of each part of a stacked bar."""

_STAGES = {
    "visualize": ("FV", "#0072B2", "", "o"),
    "jacobian": ("Jacobian", "#E69F00", "////", "s"),
    "invert": ("Opt. 3", "#009E73", r"\\\\", "^"),
    "critical": ("Algorithm 1", "#CC79A7", "xxxx", "D"),
    "reoptimize": ("re-optimization", "#999999", "", "v"),
}
_WORDS = {
    "max_mean": "max-mean",
    "fourier": "Fourier",
    "fourier_decorrelated": "Fourier,\ndecorrelated",
    "geometry": "mask = 1",
    "geometry_with_mask": "mask free",
}
_FEW = 40  # so many samples are drawn one by one
_WIDE = 7.2  # inches
_SMALL, _LETTERS = 6.5, 7.5  # points
_EDGE = {"edgecolor": "white", "linewidth": 0.5}  # hatching has the edge's colour
_LEGEND = {"fontsize": _SMALL, "frameon": False, "borderpad": 0.2, "columnspacing": 1.2, "handletextpad": 0.5}


def for_study(figure: str, cells: Sequence[Results]) -> dict[str, Figure]:
    """All figures of a study, by the name of their file.

    Args:
        figure: The study's main figure, see `jifv.experiments.studies.Study`.
        cells: Results of its cells.

    Raises:
        ValueError: There are no cells, or no such figure.
    """
    cells = _listed(cells)
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
    """Write a figure; the same figure gives the same bytes.

    Args:
        figure: The figure.
        path: Its file. The ending says the format: .png, .pdf or .svg, whose letters stay text.
        dpi: Resolution of PNG, and of images within the others.

    Raises:
        ValueError: The ending is none of those.
    """
    metadata = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    ending = Path(path).suffix.lower()
    if ending not in metadata:
        raise ValueError(f"path must end in {', '.join(metadata)}, got {Path(path).name!r}")
    with rc_context({"svg.hashsalt": "jifv", "svg.fonttype": "none", "pdf.fonttype": 42}):
        figure.savefig(path, dpi=dpi, metadata=metadata[ending])


def scatter(results: Results) -> Figure:
    """Similarity after re-optimization over angle to the target, with both distributions in the margins (Fig. 2).

    A ring marks a target of which too little is left to recover, a square a realization on the cosine's floor, and a
    number an outlier. The bar below shows the mean share β of the target in the singular vectors of BJ, the last one
    first.
    """
    features, dimension = results.basis.shape
    reduced = dimension < features
    space = f"$\\mathbf{{R}}^{{{features}}}$"
    ambient = (f"prediction\nin {space}", "prediction", "ambient" if reduced else "prediction")
    on_v = (f"prediction\nin $V$, dim {dimension}", "prediction_on_v", "prediction")
    series = [
        *([ambient, on_v] if reduced else [ambient]),
        *((name + ("\non $V$" if reduced else ""), f"{name}_on_v", name) for name in ("response", "random")),
    ]
    figure = Figure(figsize=(5.6, 5.3 + 0.3 * len(series)), layout="constrained")
    axes = figure.subplot_mosaic(
        [["angles", "legend"], ["scatter", "ssim"], ["beta", "beta"]],
        width_ratios=(3, 1.4),
        height_ratios=(0.34 * len(series), 3, 0.22),
    )
    main, top, right = axes["scatter"], axes["angles"], axes["ssim"]
    top.sharex(main)
    right.sharey(main)
    stable = results.ssim["prediction"]
    for _, name, colour in series[: 1 + reduced]:
        hollow = reduced and name == "prediction"
        for marker, kind in (("o", ~results.canonical), ("^", results.canonical)):
            main.scatter(
                results.angles[name][kind],
                stable[kind],
                s=26 if len(stable) <= _FEW else 14,
                marker=marker,
                facecolor="none" if hollow else _COLOURS[colour],
                edgecolor=_COLOURS[colour] if hollow else "white",
                linewidth=0.8 if hollow else 0.3,
                alpha=0.85,
                zorder=3,
            )
    place = np.stack([results.angles[series[reduced][1]], stable], -1)
    lost = (results.off_v > LOST) | (results.on_silent > LOST)
    rings = {"target lost": ("o", lost), "on the cosine's floor": ("s", results.on_floor)}
    for marker, marked in rings.values():
        main.scatter(*place[marked].T, s=80, marker=marker, facecolor="none", edgecolor="black", linewidth=0.7)

    widest = max(95.0, *(_finite(results.angles[name]).max(initial=0) for _, name, _ in series))
    lowest = min(0.9, *(_finite(values).min(initial=1) for values in results.ssim.values()))
    margin = 0.04 * (1 - lowest)
    main.set_xlim(-0.03 * widest, 1.04 * widest)
    main.set_ylim(lowest - margin, 1 + margin)
    main.xaxis.set_major_locator(MultipleLocator(15 if widest < 120 else 30))
    main.set_xlabel("angle to the target, degrees", fontsize=_LETTERS)
    main.set_ylabel("SSIM, re-optimized for the prediction", fontsize=_LETTERS)
    low, high = np.array([main.get_xlim(), main.get_ylim()]).T
    around = np.stack([results.angles["prediction"], stable], -1)
    _label_outliers(main, (place - low) / (high - low), (np.concatenate([place, around]) - low) / (high - low))
    _plain(main, "both")

    _distributions(top, [(results.angles[name], _COLOURS[colour]) for _, name, colour in series], main.get_xlim())
    top.set_yticks(-np.arange(len(series)), [label for label, _, _ in series])
    top.tick_params(labelbottom=False)
    medians = [_degrees(_median(results.angles[name])) for _, name, _ in series]
    for row, text in zip((0.62, *range(0, -len(series), -1)), ("median", *medians), strict=True):
        top.text(1.015, row, text, transform=top.get_yaxis_transform(), va="center", fontsize=_SMALL)
    _plain(top, "x")

    _distributions(right, [(results.ssim[name], _COLOURS[name]) for name in OBJECTIVES], main.get_ylim(), upright=True)
    right.set_xticks(range(len(OBJECTIVES)), list(OBJECTIVES), rotation=90)
    right.tick_params(labelleft=False)
    medians = [f"{_median(results.ssim[name]):.2f}" for name in OBJECTIVES]
    for column, text in zip((-1.05, *range(len(OBJECTIVES))), ("median", *medians), strict=True):
        right.text(column, 1.02, text, transform=right.get_xaxis_transform(), ha="center", fontsize=_SMALL)
    right.set_title("SSIM, re-optimized for", fontsize=_LETTERS, pad=13)
    _plain(right, "y")

    drawn = np.isfinite(place).all(-1)
    missing = (~drawn).sum()
    grey: dict[str, Any] = {"color": "#333333", "linestyle": "none", "markersize": 4.5}
    ring: dict[str, Any] = {**grey, "fillstyle": "none", "markersize": 8}
    entries = [
        ((~results.canonical).any(), Line2D([], [], marker="o", label="sampled", **grey)),
        (results.canonical.any(), Line2D([], [], marker="^", label="canonical", **grey)),
        (reduced, Line2D([], [], marker="o", fillstyle="none", label=f"hollow: in {space}", **grey)),
        *(
            ((marked & drawn).any(), Line2D([], [], marker=marker, label=label, **ring))
            for label, (marker, marked) in rings.items()
        ),
        (missing, Line2D([], [], linestyle="none", label=f"NaN: {missing} of {len(place)}")),
    ]
    handles = [handle for wanted, handle in entries if wanted]
    axes["legend"].axis("off")
    axes["legend"].legend(handles=handles, loc="upper left", fontsize=_SMALL, frameon=False, borderpad=0)
    _beta_bar(axes["beta"], results)
    figure.suptitle(_title(results.experiment, features), fontsize=_LETTERS)
    return figure


def gallery(results: Results, *, shown: int = 10, most: int = 24) -> Figure:
    """Each realization beside the weights of its target, of the prediction and of the response, all three on V.

    Args:
        results: The experiment.
        shown: Number of features in the bars, those with the largest weight in target or prediction.
        most: Number of samples at most, evenly spread over the samples.
    """
    chosen = _spread(len(results.images), most)
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(_WIDE / 3 * max(columns, 2), 1.22 * rows + 0.35), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.02, wspace=0.02)  # pyright: ignore[reportOptionalMemberAccess, reportCallIssue]
    grid = figure.subplots(rows, 2 * columns, squeeze=False, width_ratios=(1.1, 1) * columns)
    on = " on $V$" if results.basis.shape[1] < len(results.basis) else ""
    vectors = results.directions
    for image, bars in grid.reshape(-1, 2)[len(chosen) :]:
        image.axis("off")
        bars.axis("off")
    for (image, bars), index in zip(grid.reshape(-1, 2), chosen, strict=False):
        angle = _degrees(float(results.angles["prediction_on_v"][index]))
        _show(image, results.images[index], f"#{index}: {angle}{on}")
        _weights(bars, {name: each[index] for name, each in vectors.items()}, results.feature_names, shown)
    handles = [Patch(color=_COLOURS[name], label=name + (", projected onto $V$" if on else "")) for name in vectors]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=_LETTERS, frameon=False)
    return figure


def beta_bars(cells: Sequence[Results]) -> Figure:
    """Mean share β of the target in the last singular vectors of BJ, a stacked bar a cell (Fig. 3).

    One panel a network and power k, in which bars are grouped by what differs between the cells, and lie by the number
    of features within a group. Over each bar is the median angle of the prediction in Rⁿ.

    Args:
        cells: The cells of a study.

    Raises:
        ValueError: There are no cells.
    """
    panels = _panels(_listed(cells))
    figure, grid = _grid(panels, height=2.15)
    for axes, panel in zip(grid, panels, strict=False):
        places = _places(panel, gap=1.5)
        for place, cell in places:
            for name, share, colour, hatch, bottom in _shares(cell):
                axes.bar(place, share, 0.82, bottom, color=colour, hatch=hatch, label=name, **_EDGE)
            angle = _degrees(_median(cell.angles["prediction"]))
            axes.annotate(angle, (place, 1), (0, 2), textcoords="offset points", ha="center", fontsize=_SMALL)
        axes.set_title(axes.get_title(), fontsize=_LETTERS, pad=13)
        axes.set_ylim(0, 1)
        _label_places(axes, panel, places)
        _plain(axes, None)
    handles = [
        Patch(facecolor=colour, hatch=hatch, label=name, **_EDGE)
        for first, _, name, colour, hatch in _SHARES
        if first < max(cell.beta.shape[1] for cell in cells)
    ]
    _legend(figure, panels, handles)
    figure.supylabel("mean share β of the target", fontsize=_LETTERS)
    notes = ["number of features n"] * panels[0].by_features + ["median angle of the prediction over each bar"]
    figure.supxlabel(("; " if figure.get_figwidth() > 4 else "\n").join(notes), fontsize=_LETTERS)
    return figure


def angles_by_condition(cells: Sequence[Results]) -> Figure:
    """Median and quartiles of the angles of prediction, response and random vectors to the target, for each cell.

    Panels and groups are those of `beta_bars`. The number of features has a logarithmic axis. Angles are on V.

    Args:
        cells: The cells of a study.

    Raises:
        ValueError: There are no cells.
    """
    panels = _panels(_listed(cells))
    figure, grid = _grid(panels, height=1.75)
    small = {"markersize": 3.5, "linewidth": 1}
    styles = {name: {"color": _COLOURS[name], **small, **style} for name, style in _LINES.items()}
    highest = 95.0
    for axes, panel in zip(grid, panels, strict=False):
        places = _places(panel, gap=1.2, logarithmic=True)
        ends = np.cumsum([len(group) for group in panel.groups.values()])[:-1]
        for shift, (name, style) in zip((-0.12, 0.0, 0.12), styles.items(), strict=True):
            across = np.array([place for place, _ in places]) + shift
            low, median, high = np.array([_quartiles(cell.angles[f"{name}_on_v"]) for _, cell in places]).T
            for rows in np.split(np.arange(len(places)), ends):  # a line a group
                error = (median - low)[rows], (high - median)[rows]
                axes.errorbar(across[rows], median[rows], error, capsize=1.5, label=name, **style)
            highest = max(highest, _finite(high).max(initial=0) + 5)
        axes.axhline(90, color="black", linewidth=0.5, zorder=0)
        _label_places(axes, panel, places)
        _plain(axes, "y")
    for axes in grid:
        axes.set_ylim(0, highest)
        axes.yaxis.set_major_locator(MultipleLocator(15 if highest < 120 else 30))
    handles = [Line2D([], [], label=name, **style) for name, style in styles.items()]
    _legend(figure, panels, handles)
    figure.supylabel("angle to the target, degrees", fontsize=_LETTERS)
    note = "medians and quartiles"
    figure.supxlabel(("number of features n, logarithmic; " if panels[0].by_features else "") + note, fontsize=_LETTERS)
    return figure


def by_parametrization(cells: Sequence[Results], *, shown: int = 4) -> Figure:
    """Realizations of the same targets under several parametrizations, with the angle of the prediction (Fig. 4).

    A block a network, a column a cell, a row a target.

    Args:
        cells: The cells of a study.
        shown: Number of targets at most for each network, evenly spread over those with a finite realization in
            every cell.

    Raises:
        ValueError: There are no cells, or those of a network have different targets.
    """
    panels = _panels(_listed(cells), split_by_power=False)
    blocks = [[cell for group in panel.groups.values() for cell in group] for panel in panels]
    chosen = []
    for panel, block in zip(panels, blocks, strict=True):
        if any(not np.array_equal(cell.objectives, block[0].objectives) for cell in block):
            raise ValueError(f"cells of one network must have the same targets, those of {panel.network} differ")
        finite = np.flatnonzero(np.logical_and.reduce([cell.finite for cell in block]))
        chosen.append(finite[_spread(len(finite), shown)])
    rows, columns = max(1, *map(len, chosen)), sum(map(len, blocks))
    side = min(1.15, (_WIDE - 0.4 * len(blocks)) / columns)
    figure = Figure(figsize=((side + 0.06) * columns + 0.4 * len(blocks), (side + 0.2) * rows + 0.6))
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    parts = figure.subfigures(1, len(blocks), width_ratios=[0.3 + len(block) for block in blocks], squeeze=False)
    for part, panel, block, samples in zip(parts.flat, panels, blocks, chosen, strict=True):
        part.suptitle(panel.network, fontsize=_LETTERS)
        grid = part.subplots(rows, len(block), squeeze=False)
        labels = [label for label, group in panel.groups.items() for _ in group]
        for column, (label, cell) in enumerate(zip(labels, block, strict=True)):
            for row, axes in enumerate(grid[:, column]):
                if row >= len(samples):
                    axes.axis("off")
                    continue
                index = samples[row]
                angle = _degrees(float(cell.angles["prediction_on_v"][index]))
                _show(axes, cell.images[index], f"{label}\n{angle}" if row == 0 else angle)
                if column == 0:
                    kind = "canonical" if cell.canonical[index] else "sampled"
                    axes.set_ylabel(f"#{index}, {kind}", fontsize=_SMALL)
    return figure


def timings(cells: Sequence[Results]) -> Figure:
    """Seconds a sample of each stage, and each stage's share of their sum, a row a cell (Table 1).

    Args:
        cells: The cells of a study.

    Raises:
        ValueError: There are no cells.
    """
    cells = _listed(cells)
    figure = Figure(figsize=(_WIDE, 0.75 + 0.33 * len(cells)), layout="constrained")
    shares, seconds = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.25))
    for row, cell in enumerate(cells):
        spent = {stage: cell.seconds[stage] for stage in _STAGES if cell.seconds.get(stage, 0) > 0}
        total, left = sum(spent.values()), 0.0
        for stage, each in spent.items():
            _, colour, hatch, marker = _STAGES[stage]
            shares.barh(row, each / total, 0.62, left, color=colour, hatch=hatch, **_EDGE)
            seconds.plot(each, row, marker, color=colour, markeredgecolor="black", markeredgewidth=0.4, markersize=5.5)
            left += each / total
        shares.text(1.02, row, f"{total:.3g} s", va="center", fontsize=_SMALL)
    shares.set_yticks(range(len(cells)), [f"{cell.experiment.name}, n = {cell.objectives.shape[1]}" for cell in cells])
    shares.set_ylim(len(cells) - 0.5, -0.5)
    shares.set_xlim(0, 1)
    shares.set_xlabel("share of the time; beside it the sum", fontsize=_LETTERS)
    seconds.set_xscale("log")
    seconds.xaxis.set_major_locator(LogLocator(10, numticks=20))
    seconds.xaxis.set_minor_formatter(NullFormatter())
    seconds.set_xlabel("seconds a sample, logarithmic", fontsize=_LETTERS)
    seconds.tick_params(left=False, labelleft=False)
    _plain(shares, None)
    _plain(seconds, "both")
    edge = {"markeredgecolor": "black", "markeredgewidth": 0.4}
    handles: list[Any] = [
        (
            Patch(facecolor=colour, hatch=hatch, **_EDGE),
            Line2D([], [], color=colour, marker=marker, markersize=5, linestyle="none", **edge),
        )
        for _, colour, hatch, marker in _STAGES.values()
    ]
    labels = [label for label, *_ in _STAGES.values()]
    style = _LEGEND | {"handlelength": 2.6, "handler_map": {tuple: HandlerTuple(ndivide=None)}}
    figure.legend(handles, labels, loc="outside upper center", ncols=5, **style)
    return figure


def picture(images: Float[np.ndarray, "*batch h w c"]) -> Float[np.ndarray, "*batch h w 3"]:
    """Inputs of a network as something to look at.

    Args:
        images: Images (…, h, w, c): grey (c = 1) or RGB (3) in [0, 1], or frames of SRNet (5 or 6 channels: mask in
            [-1, 1], normal in [-1, 1] and further ones, which are not shown).

    Returns:
        RGB (…, h, w, 3) in [0, 1]: images as they are; of frames the normals, x to red, y to green and z to blue,
        the darker the less the mask covers a pixel. NaN is black.

    Raises:
        ValueError: There is another number of channels.
    """
    channels = images.shape[-1] if images.ndim >= 3 else 0
    if channels not in (1, 3, 5, 6):
        raise ValueError(f"images must have shape (…, h, w, c) with 1, 3, 5 or 6 channels, got {images.shape}")
    shown = np.repeat(images, 3, -1) if channels == 1 else images
    if channels >= 5:
        shown = (images[..., 1:4] + 1) / 2 * (np.clip(images[..., :1], -1, 1) + 1) / 2
    return np.clip(np.nan_to_num(shown), 0, 1)


class _Panel(NamedTuple):
    """Cells of one network and power, by what else differs between them."""

    network: str
    power: str
    groups: dict[str, list[Results]]
    by_features: bool


def _listed(cells: Sequence[Results]) -> list[Results]:
    if isinstance(cells, Results) or not len(cells):
        raise ValueError("cells must be a sequence of at least one Results")
    return list(cells)


def _panels(cells: list[Results], *, split_by_power: bool = True) -> list[_Panel]:
    """Panels in the order of the cells; in each, groups in that order, and cells by the number of features."""
    together: dict[Any, list[Results]] = {}
    for cell in cells:
        experiment = cell.experiment
        power = experiment.settings.power if split_by_power else None
        together.setdefault((experiment.network, experiment.layer, power), []).append(cell)

    def differ(value) -> bool:
        return any(len({value(cell) for cell in some}) > 1 for some in together.values())

    options = [option for option in _OPTIONS if differ(option)]
    by_features = differ(_features)
    panels = []
    for (network, layer, power), some in together.items():
        labels = ["\n".join(option(cell) for option in options) for cell in some]
        if len({(label, _features(cell)) for label, cell in zip(labels, some, strict=True)}) < len(some):
            labels = [cell.experiment.name for cell in some]
        groups: dict[str, list[Results]] = {}
        for label, cell in zip(labels, some, strict=True):
            groups.setdefault(label, []).append(cell)
        where = f"{network}, {layer}" + ("" if by_features else f", n = {_features(some[0])}")
        ordered = {label: sorted(group, key=_features) for label, group in groups.items()}
        panels.append(_Panel(where, "" if power is None else f"k = {power:g}", ordered, by_features))
    return panels


def _features(cell: Results) -> int:
    return cell.objectives.shape[1]


def _word(name: str) -> str:
    return _WORDS.get(name, name)


_OPTIONS = (
    lambda cell: _word(cell.experiment.aggregation),
    lambda cell: _word(cell.experiment.parametrization),
    lambda cell: f"k = {cell.experiment.settings.power:g}",
    lambda cell: f"smoothing {cell.experiment.smoothing:g}" if cell.experiment.smoothing else "not smoothed",
)
"""What groups the cells of a panel, where it differs, each as a label."""


def _places(panel: _Panel, *, gap: float, logarithmic: bool = False) -> list[tuple[float, Results]]:
    """Where each cell lies, one unit, or one doubling of the features, apart, and groups further."""
    places, start = [], 0.0
    for group in panel.groups.values():
        for index, cell in enumerate(group):
            step = np.log2(_features(cell) / _features(group[0])) if logarithmic else index
            places.append((start + float(step), cell))
        start = places[-1][0] + gap
    return places


def _grid(panels: list[_Panel], *, height: float) -> tuple[Figure, list[Axes]]:
    bars = max(sum(map(len, panel.groups.values())) for panel in panels)
    columns = min(len(panels), 2 if bars > 4 else 4)
    rows = -(-len(panels) // columns)
    several = len({panel.network for panel in panels}) > 1
    width = np.clip(columns * max(0.5 + 0.34 * bars, 2.6 * several), 3.4, _WIDE)
    figure = Figure(figsize=(width, 0.8 + height * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, panel in zip(grid, panels, strict=False):
        axes.set_title(f"{panel.network}\n{panel.power}" if several else panel.power, fontsize=_LETTERS)
    return figure, grid[: len(panels)]


def _legend(figure: Figure, panels: list[_Panel], handles: list) -> None:
    """In one row above the panels, below the name of the network where there is one."""
    networks = {panel.network for panel in panels}
    legend = figure.legend(
        handles=handles,
        title=networks.pop() if len(networks) == 1 else None,
        loc="outside upper center",
        ncols=len(handles),
        **_LEGEND,
    )
    legend.get_title().set_fontsize(_LETTERS)


def _label_places(axes: Axes, panel: _Panel, places: list[tuple[float, Results]]) -> None:
    """Below the cells the number of features, if it differs, and the name of the group."""
    positions = np.array([place for place, _ in places])
    axes.set_xlim(positions.min() - 0.6, positions.max() + 0.6)
    if not panel.by_features:
        axes.set_xticks(positions, list(panel.groups))
        return
    close = len(positions) > 1 and np.diff(positions).min() < 0.8
    axes.set_xticks(positions, [str(_features(cell)) for _, cell in places], rotation=90 if close else 0)
    if len(panel.groups) > 1:
        ends = np.cumsum([len(group) for group in panel.groups.values()])
        middles = [(some[0] + some[-1]) / 2 for some in np.split(positions, ends[:-1])]
        below = axes.secondary_xaxis(0)
        below.set_xticks(middles, [("\n\n" if close else "\n") + label for label in panel.groups])
        below.tick_params(length=0, labelsize=_SMALL, pad=5)
        below.spines["bottom"].set_visible(False)


def _shares(cell: Results) -> list[tuple[str, float, str, str, float]]:
    """Name, share, colour, hatching and bottom of each part of the stacked bar; none if no sample is finite."""
    if not np.isfinite(cell.beta).all(-1).any():
        return []
    mean, parts = cell.mean_beta, []
    for first, end, name, colour, hatch in _SHARES:
        if first < len(mean):
            name = name.replace("{15}", f"{{{min(15, len(mean) - 1)}}}")
            parts.append((name, float(mean[first:end].sum()), colour, hatch, float(mean[:first].sum())))
    return parts


def _beta_bar(axes: Axes, results: Results) -> None:
    """The mean of β as one bar, whose legend has the numbers: no part is too thin for that."""
    parts = _shares(results)
    for name, share, colour, hatch, left in parts:
        axes.barh(0, share, 0.8, left, color=colour, hatch=hatch, label=f"{name}: {share:.2f}", **_EDGE)
    axes.set_xlim(0, 1)
    axes.set_yticks([])
    axes.set_xlabel("mean share of the target in the singular vectors of $BJ$, the last one first", fontsize=_LETTERS)
    if parts:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(parts), **_LEGEND)
    _plain(axes, None)


def _distributions(
    axes: Axes, rows: list[tuple[np.ndarray, str]], limits: tuple[float, float], *, upright: bool = False
) -> None:
    """For each row points, or a histogram of its own scale if they are many, and the median as a line.

    Rows lie at 0, -1, …, or if upright at 0, 1, ….
    """
    for row, (values, colour) in enumerate(rows):
        place, finite = row if upright else -row, _finite(values)
        if not len(finite):
            continue
        if len(finite) <= _FEW:
            beside = place + 0.25 * np.sin(2.4 * np.arange(len(finite)))  # spread evenly, the same each time
            points = (beside, finite) if upright else (finite, beside)
            axes.scatter(*points, s=9, color=colour, alpha=0.8, linewidth=0)
        else:
            counts, edges = np.histogram(finite, np.linspace(*limits, 61))
            heights = place - 0.4 + 0.8 * counts / counts.max()
            orientation = "horizontal" if upright else "vertical"
            axes.stairs(heights, edges, baseline=place - 0.4, fill=True, color=colour, orientation=orientation)
        line = ([place - 0.42, place + 0.42], [np.median(finite)] * 2)
        axes.plot(*(line if upright else line[::-1]), color="black", linewidth=1.2)
    limits_of_rows = (-0.55, len(rows) - 0.45)
    if upright:
        axes.set_xlim(limits_of_rows)
    else:
        axes.set_ylim(-limits_of_rows[1], -limits_of_rows[0])


def _label_outliers(axes: Axes, place: np.ndarray, obstacles: np.ndarray, most: int = 8) -> None:
    """The numbers of the samples furthest from the others, where no point is in the way; all in shares of the axes."""
    finite = np.flatnonzero(np.isfinite(place).all(-1))
    if not len(finite):
        return
    low, high = np.percentile(place[finite], (25, 75), axis=0)
    far = (np.max((place - high, low - place), 0) / np.maximum(high - low, 0.02)).max(-1)
    furthest = finite[np.argsort(-far[finite], kind="stable")[:most]]
    labelled: list[np.ndarray] = []
    for index in furthest[far[furthest] > 3]:
        side = 1 if place[index, 0] < 0.88 else -1
        beside = place[index] + (0.065 * side, 0)
        on_points = (np.abs(obstacles - beside) < (0.055, 0.03)).all(-1).any()
        if not on_points and all((np.abs(beside - other) > (0.11, 0.035)).any() for other in labelled):
            labelled.append(beside)
            axes.annotate(
                f"#{index}",
                tuple(place[index]),
                (4 * side, -2),
                "axes fraction",
                "offset points",
                ha="left" if side > 0 else "right",
                fontsize=_SMALL - 0.5,
            )


def _weights(axes: Axes, vectors: dict[str, np.ndarray], names: tuple[str, ...], shown: int) -> None:
    """Grouped horizontal bars of the features that weigh most in target or prediction, the largest first if not all."""
    weight = np.maximum(np.abs(vectors["target"]), np.abs(np.nan_to_num(vectors["prediction"])))
    features = np.argsort(-weight, kind="stable")[:shown] if len(weight) > shown else np.arange(len(weight))
    places = np.arange(len(features))
    for offset, (name, values) in zip((-0.27, 0.0, 0.27), vectors.items(), strict=True):
        axes.barh(places + offset, values[features], 0.27, color=_COLOURS[name], label=name)
    axes.axvline(0, color="black", linewidth=0.5)
    axes.set_yticks(places, [names[feature] for feature in features])
    axes.invert_yaxis()
    axes.margins(x=0.03)
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=(1, 2, 5, 10)))
    _plain(axes, "x")
    axes.tick_params(labelsize=5.5)


def _show(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(picture(image))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=_SMALL, pad=2)


def _plain(axes: Axes, grid: Literal["x", "y", "both"] | None) -> None:
    axes.tick_params(labelsize=_SMALL, length=2, width=0.6)
    axes.spines[:].set_linewidth(0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    if grid is not None:
        axes.grid(axis=grid, alpha=0.3, linewidth=0.5)


def _title(experiment: Experiment, features: int) -> str:
    settings = experiment.settings
    return (
        f"{experiment.name}: {experiment.network}, {experiment.layer} ({features} features), k = {settings.power:g}\n"
        f"{experiment.samples} samples, {settings.adam_steps} Adam + {settings.lbfgs_steps} L-BFGS steps"
    )


def _degrees(angle: float) -> str:
    return "NaN" if np.isnan(angle) else f"{angle:.1f}°" if angle < 9.95 else f"{angle:.0f}°"


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _quartiles(values: np.ndarray) -> np.ndarray:
    finite = _finite(values)
    return np.percentile(finite, (25, 50, 75)) if len(finite) else np.full(3, np.nan)


def _median(values: np.ndarray) -> float:
    return float(_quartiles(values)[1])


def _spread(count: int, most: int) -> np.ndarray:
    """At most so many of the numbers 0 to count - 1, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)) if count else np.arange(0)
