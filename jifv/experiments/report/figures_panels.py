"""Panels for the cells of a study: one per network, power and kind of kinks, grouped by whatever else differs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jifv.experiments.results import Results

_WORDS = {
    "max_mean": "max-mean",
    "fourier": "Fourier",
    "fourier_decorrelated": "Fourier,\ndecorrelated",
    "geometry": "mask = 1",
    "geometry_with_mask": "mask free",
}


class Panel(NamedTuple):
    """Cells of one network, power and, where the groups differ otherwise, kind of kinks.

    Attributes:
        network: Network, layer and, where it is the same for all cells, the number of features.
        power: The power as a title, and whether kinks are rounded; "" where panels are not split by it.
        groups: Cells by the label of what differs between groups.
        by_features: Whether cells differ in their number of features.
    """

    network: str
    power: str
    groups: dict[str, list[Results]]
    by_features: bool


def listed(cells: Sequence[Results]) -> list[Results]:
    """Check that there are cells, and list them.

    Raises:
        ValueError: There are none, or `cells` is a single result.
    """
    if isinstance(cells, Results) or not len(cells):
        raise ValueError("cells must be a sequence of at least one Results")
    return list(cells)


def panels_of(cells: list[Results], *, split_by_power: bool = True) -> list[Panel]:
    """Divide cells into panels and groups, both in the order of the cells; within a group they go by their features."""
    together = _together(cells, split_by_power, kinks=False)

    def differ(value) -> bool:
        return any(len({value(cell) for cell in some}) > 1 for some in together.values())

    if differ(_kinks) and any(differ(option) for option in _OPTIONS if option is not _kinks):
        together = _together(cells, split_by_power, kinks=True)  # two things at once are too much for labels
    options = [option for option in _OPTIONS if differ(option)]
    by_features = differ(_features)
    panels = []
    for (network, layer, power, kinks), some in together.items():
        labels = ["\n".join(option(cell) for option in options) for cell in some]
        if len({(label, _features(cell)) for label, cell in zip(labels, some, strict=True)}) < len(some):
            labels = [cell.experiment.name for cell in some]
        groups: dict[str, list[Results]] = {}
        for label, cell in zip(labels, some, strict=True):
            groups.setdefault(label, []).append(cell)
        where = f"{network}, {layer}" + ("" if by_features else f", n = {_features(some[0])}")
        ordered = {label: sorted(group, key=_features) for label, group in groups.items()}
        title = "" if power is None else f"k = {power:g}"
        panels.append(Panel(where, "\n".join(filter(None, (title, kinks))), ordered, by_features))
    return panels


def _together(cells: list[Results], split_by_power: bool, *, kinks: bool) -> dict[Any, list[Results]]:
    together: dict[Any, list[Results]] = {}
    for cell in cells:
        experiment = cell.experiment
        power = experiment.significance.power if split_by_power else None
        key = (experiment.network, experiment.layer, power, _kinks(cell) if kinks else "")
        together.setdefault(key, []).append(cell)
    return together


def _kinks(cell: Results) -> str:
    return f"smoothing {cell.experiment.smoothing:g}" if cell.experiment.smoothing else "not smoothed"


def _features(cell: Results) -> int:
    return cell.features


def _word(name: str) -> str:
    return _WORDS.get(name, name)


_OPTIONS = (
    lambda cell: _word(cell.experiment.aggregation),
    lambda cell: _word(cell.experiment.parametrization),
    lambda cell: f"k = {cell.experiment.significance.power:g}",
    _kinks,
)
"""What divides a panel into groups where it differs, each as a label."""
