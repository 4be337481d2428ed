"""What the commands for people's own pictures share: their options, and how these become a setting."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from jifv.experiments.options import BY_NAME, Option
from jifv.experiments.registry import PRIORS, TRANSFORMATIONS
from jifv.experiments.setting import Setting
from jifv.priors import Prior
from jifv.significance import Significance

SETTING = ("aggregation", "parametrization", "input_size", "smoothing", "power", "floor", "seed")
"""Options of a setting that all of them have, by their names in `jifv.experiments.options`."""

PANEL = "Options"

Layer: TypeAlias = Annotated[
    str | None, typer.Option("--layer", help="The tapped layer, see `jifv models show`; the last one by default.")
]
Weights: TypeAlias = Annotated[
    Path | None, typer.Option("--weights", help="Other weights for the network: any convertible file.")
]
Priors: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--prior",
        metavar="NAME=WEIGHT",
        help=f"A prior, once or several times: {', '.join(PRIORS)}. Inversion finds the weights itself.",
    ),
]
Transformations: TypeAlias = Annotated[
    str | None,
    typer.Option("--transformations", help=f"Average over random transformations: {', '.join(TRANSFORMATIONS)}."),
]
Draws: TypeAlias = Annotated[int | None, typer.Option("--draws", min=1, help="How many transformations.")]
Devices: TypeAlias = Annotated[
    int | None, typer.Option("--devices", min=1, help="Devices that share the work; all by default.")
]
Distributed: TypeAlias = Annotated[
    bool, typer.Option("--distributed", help="This is one of several processes, as Slurm starts them.")
]
Crop: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--crop", help="Part of a picture's shorter side that is used; by default as the network was trained."
    ),
]
Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Start again where a run is in the folder.")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", help="No progress bars and no results.")]

KEPT = "jifv: interrupted; finished batches are kept, and the same command goes on from there"
"""What to say after Ctrl-C."""


_HELP = {
    "power": "Power k of the cosine in what is maximized.",
    "smoothing": "Round the kinks of network and aggregation over this width, relative to their inputs; 0 for none.",
    "critical_samples": "Invert on the critical space of the Jacobians of so many random inputs; 0 for Rⁿ.",
    "batch_size": "Pictures computed and stored at a time.",
}
"""What options of experiments do here, where that is something else."""


def options_named(*names: str) -> list[Option]:
    """List options by their names."""
    return [replace(BY_NAME[name], help=_HELP.get(name, BY_NAME[name].help)) for name in names]


def defaults() -> dict[str, Any]:
    """List the defaults of a setting, to show in the help."""
    blank = Setting("")
    return {each.name: getattr(blank, each.name) for each in fields(Setting)} | {
        "power": blank.significance.power,
        "floor": blank.significance.floor,
        "aggregation": "max_mean, or identity where there are no positions",
        "parametrization": "pixels, or geometry for srnet",
        "input_size": "the network's own",
    }


def with_changes(setting: Setting, options: Mapping[str, Any], **others: Any) -> Setting:
    """Apply what was given on the command line; what is None stays.

    Raises:
        typer.BadParameter: The options contradict one another.
    """
    changes = {name: value for name, value in {**options, **others}.items() if value is not None}
    known = {each.name for each in fields(Setting)}
    aims = {name: changes[name] for name in ("power", "floor") if name in changes}
    significance = Significance(**{"power": setting.significance.power, "floor": setting.significance.floor} | aims)
    mine = {name: value for name, value in changes.items() if name in known}
    try:
        return replace(setting, **mine, significance=significance)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def parse_priors(given: Sequence[str] | None) -> tuple[tuple[str, float], ...] | None:
    """Read NAME=WEIGHT; None where nothing was given.

    Raises:
        typer.BadParameter: There is no such prior, or no such weight.
    """
    if not given:
        return None
    parsed = []
    for text in given:
        name, _, weight = text.partition("=")
        if name not in PRIORS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(PRIORS)}", param_hint="--prior")
        try:
            prior: Prior = PRIORS[name](float(weight or 1))
        except ValueError as error:
            raise typer.BadParameter(f"{text}: {error}", param_hint="--prior") from error
        parsed.append((name, prior.weight))
    return tuple(parsed)


def check_crop(crop: float | None) -> None:
    """Raise unless there is such a part of a picture, or None.

    Raises:
        typer.BadParameter: There is none.
    """
    if crop is not None and not 0 < crop <= 1:
        raise typer.BadParameter(f"must be in (0, 1], got {crop}", param_hint="--crop")


def check_transformations(name: str | None) -> None:
    """Raise unless there are transformations of this name, or None.

    Raises:
        typer.BadParameter: There are none.
    """
    if name not in (None, *TRANSFORMATIONS):
        raise typer.BadParameter(f"{name!r} is none of {', '.join(TRANSFORMATIONS)}", param_hint="--transformations")
