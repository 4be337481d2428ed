"""The studies of the paper (Reinbold & Westermann 2020, section 3) as data: one or several `Experiment`s each.

A new study takes a few lines: its cells at the paper's size, and what to make smaller for a laptop.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

from jifv.experiments.experiment import Experiment, with_options
from jifv.experiments.options import BY_NAME
from jifv.visualization import PAPER, Settings

Preset = Literal["quick", "paper"]


@dataclass(frozen=True)
class Study:
    """One study, what `jifv reproduce NAME` runs.

    Attributes:
        title: What it shows.
        section: Where in the paper.
        figure: Its main figure: "scatter" (Fig. 2, one per cell), "beta" (Fig. 3), "parametrizations" (Fig. 4) or
            "timings" (Table 1).
        paper: The cells at the paper's size.
        quick: The same path for two CPU cores and a few minutes, with fewer cells, samples and steps.
    """

    title: str
    section: str
    figure: Literal["scatter", "beta", "parametrizations", "timings"]
    paper: tuple[Experiment, ...]
    quick: tuple[Experiment, ...]

    def cells(self, preset: Preset) -> tuple[Experiment, ...]:
        """List the experiments of a preset."""
        return self.quick if preset == "quick" else self.paper


def grid(base: Experiment, **values: Iterable[Any]) -> tuple[Experiment, ...]:
    """Vary options of an experiment, in every combination of the given values.

    Args:
        base: The experiment to vary.
        **values: Values of each option, by its name in `jifv.experiments.options`.

    Returns:
        One experiment per combination, the last option varying fastest, named after its values.
    """
    cells = []
    for combination in product(*values.values()):
        changes = dict(zip(values, combination, strict=True))
        name = "-".join([base.name, *(_label(option, value) for option, value in changes.items())])
        cells.append(with_options(base, {"name": name, **changes}))
    return tuple(cells)


def smaller(cells: Iterable[Experiment], **changes: Any) -> tuple[Experiment, ...]:
    """Change options of every experiment, by their names in `jifv.experiments.options`."""
    return tuple(with_options(cell, changes) for cell in cells)


def with_rounded(cells: Iterable[Experiment], **changes: Any) -> tuple[Experiment, ...]:
    """Add a twin with rounded kinks to every experiment.

    Only with rounded kinks does the gradient vanish at the end of a visualization (see docs/gn4c.md). The twin has the
    same objectives, and the optimizer that then takes the fewest gradients (benchmarks/gradients.py).

    Args:
        cells: Experiments on the network as it is.
        **changes: What else the twins change, by the names in `jifv.experiments.options`.

    Returns:
        The experiments, followed by their twins, whose names end in "-rounded".
    """
    cells = tuple(cells)
    rounded = tuple(replace(cell, name=f"{cell.name}-rounded", settings=Settings(adam_steps=200)) for cell in cells)
    return cells + smaller(rounded, **{"smoothing": 0.1} | changes)


def _label(option: str, value: Any) -> str:
    symbol = BY_NAME[option].symbol
    return f"{symbol}{value:g}".replace(".", "_") if symbol else str(value)


_POWERS = (0, 1, 2, 4)
_LONG = replace(PAPER, adam_steps=3000, lbfgs_steps=500)

# From a grey start (0.01) a third of the features of inception4c are dead, and would stay dead.
_GN4C = Experiment(
    "gn4c",
    "googlenet-bvlc",
    "inception4c",
    samples=300,
    canonical=150,
    std=0.5,
    settings=_LONG,
    batch_size=20,
)
_DNCL = Experiment(
    "dncl",
    "densenet",
    "classifier",
    aggregation="identity",
    samples=300,
    canonical=10,
    settings=PAPER,
    critical_samples=32,
    batch_size=100,
)
_DN4CL = replace(_DNCL, name="dn4cl", network="densenet-no-deer")
_DNDE = Experiment("dnde", "densenet", "dense3", samples=64, settings=PAPER, batch_size=32)
_SRNET = Experiment("srnet", "srnet", "block8", samples=64, parametrization="geometry", settings=PAPER, batch_size=32)

# The kinks of ReLU and max pooling keep a realization from becoming stationary, see docs/gn4c.md.
_GN4C_SMOOTH = replace(
    _GN4C,
    name="gn4c-smooth",
    smoothing=0.1,
    dead_tolerance=0.02,
    settings=Settings(adam_steps=2000),
)
# A feature that dies on the way takes its share of the target with it, so the steps at full rate wake it again.
_GN4C_WOKEN = replace(_GN4C_SMOOTH, settings=Settings(adam_steps=2000, redirected_steps=600))
_GN4C_SMOOTH_QUICK = replace(
    _GN4C_WOKEN,
    samples=2,
    canonical=1,
    input_size=112,
    reoptimize_steps=5,
)

_DNCL_QUICK = {"adam_steps": 300, "lbfgs_steps": 100, "reoptimize_steps": 40, "samples": 16, "canonical": 4}
_DNDE_QUICK = {"adam_steps": 150, "lbfgs_steps": 60, "reoptimize_steps": 20, "samples": 8}
_GN4C_QUICK = {"adam_steps": 800, "lbfgs_steps": 100, "reoptimize_steps": 10, "samples": 4, "canonical": 2}
_GN4C_QUICK |= {"input_size": 112}
_SRNET_QUICK = {"adam_steps": 200, "lbfgs_steps": 100, "reoptimize_steps": 40, "samples": 8}

_DNDE_CELLS = grid(_DNDE, features=(8, 32, 128, 342), power=_POWERS) + grid(
    replace(_DNDE, features=32), aggregation=("mean", "pick"), power=_POWERS
)
_DNDE_QUICK_CELLS = grid(_DNDE, features=(8, 32), power=(0, 2)) + grid(
    replace(_DNDE, features=32), aggregation=("mean", "pick"), power=(0, 2)
)
_DNDE_QUICK_WHOLE = grid(_DNDE, features=(342,), power=(0, 2))
_GN4C_CELLS = grid(replace(_GN4C, samples=32, canonical=16), features=(16, 32, 64, 128, 256, 512), power=_POWERS)
_GN4C_KINKS_CELLS = grid(
    replace(_GN4C_SMOOTH, name="gn4c", samples=32, canonical=16),
    features=(16, 32, 64, 128, 256, 512),
    smoothing=(0.0, 0.1),
)
_GN4C_QUICK_CELLS = grid(_GN4C, features=(16, 64), power=(0, 2))
_PARAMETRIZATIONS = ("pixels", "fourier", "fourier_decorrelated")
_BY_PARAMETRIZATION = {
    "dnde": grid(replace(_DNDE, features=32), parametrization=_PARAMETRIZATIONS),
    "gn4c": grid(replace(_GN4C_SMOOTH, features=64, samples=32, canonical=16), parametrization=_PARAMETRIZATIONS),
}
_SRNET_CELLS = grid(_SRNET, parametrization=("geometry", "geometry_with_mask"), power=(0, 2))

STUDIES = {
    "gn4c": Study(
        "The 512 filters of inception4c, V = Rⁿ", "3.4, Fig. 2a", "scatter", (_GN4C,), smaller([_GN4C], **_GN4C_QUICK)
    ),
    "gn4c-smooth": Study(
        "The 512 filters of inception4c with smoothed kinks, where inversion succeeds",
        "3.4",
        "scatter",
        (_GN4C_WOKEN,),
        (_GN4C_SMOOTH_QUICK,),
    ),
    "gn4c-kinks": Study(
        "How many filters of inception4c can be inverted, with the kinks of the network and with smoothed ones",
        "3.4",
        "beta",
        _GN4C_KINKS_CELLS,
        smaller(
            [cell for cell in _GN4C_KINKS_CELLS if cell.features in (16, 128)],
            **_GN4C_QUICK | {"adam_steps": 1000, "lbfgs_steps": 0},
        ),
    ),
    "dncl": Study(
        "The class scores of DenseNet, and the critical space",
        "3.5, Fig. 2b",
        "scatter",
        with_rounded([_DNCL]),
        with_rounded(smaller([_DNCL], **_DNCL_QUICK)),
    ),
    "dn4cl": Study(
        "The same for a network that never saw a deer",
        "3.5, Fig. 2c",
        "scatter",
        with_rounded([_DN4CL]),
        with_rounded(smaller([_DN4CL], **_DNCL_QUICK)),
    ),
    "dnde": Study(
        "The first n filters of dense3: power of the cosine and aggregation",
        "3.6, Fig. 3",
        "beta",
        with_rounded(_DNDE_CELLS),
        with_rounded(smaller(_DNDE_QUICK_CELLS, **_DNDE_QUICK), std=0.5)
        + with_rounded(smaller(_DNDE_QUICK_WHOLE, **_DNDE_QUICK), adam_steps=400, std=0.5),
    ),
    "gn4c-features": Study(
        "The first n filters of inception4c: power of the cosine",
        "3.6",
        "beta",
        _GN4C_CELLS,
        smaller(_GN4C_QUICK_CELLS, **_GN4C_QUICK),
    ),
    "parametrizations": Study(
        "Pixels, Fourier, and decorrelated Fourier",
        "3.7, Fig. 4",
        "parametrizations",
        _BY_PARAMETRIZATION["gn4c"] + _BY_PARAMETRIZATION["dnde"],
        smaller(_BY_PARAMETRIZATION["gn4c"], **_GN4C_QUICK | {"lbfgs_steps": 0})
        + smaller(_BY_PARAMETRIZATION["dnde"], **_DNDE_QUICK),
    ),
    "srnet": Study(
        "The 64 filters of SRNet's 8th residual block, with and without the cosine",
        "3.7",
        "beta",
        with_rounded(_SRNET_CELLS),
        with_rounded(smaller(_SRNET_CELLS, **_SRNET_QUICK)),
    ),
    "timings": Study(
        "Seconds per sample",
        "3.3, Table 1",
        "timings",
        tuple(replace(cell, samples=2 * cell.batch_size, canonical=0) for cell in (_GN4C, _DNCL, _DNDE, _SRNET)),
        smaller([replace(_GN4C, features=64)], **_DNDE_QUICK | {"samples": 2, "canonical": 0, "batch_size": 1})
        + smaller([_DNCL, replace(_DNDE, features=32), _SRNET], **_DNDE_QUICK | {"canonical": 0, "batch_size": 2}),
    ),
}
"""Studies by their names on the command line."""
