"""What the commands for people's own pictures share: their options, what these become, and how results are told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console

from jifv.cli.options import with_options
from jifv.experiments.options import BY_NAME
from jifv.experiments.pictures import Audited, Compared, Inverted, Pictures
from jifv.experiments.pictures.reading import own_setting
from jifv.experiments.registry import PRIORS, TRANSFORMATIONS
from jifv.experiments.setting import Setting
from jifv.priors import Prior
from jifv.significance import Significance
from jifv.visualization import Settings

Sources: TypeAlias = Annotated[
    list[Path],
    typer.Argument(metavar="PICTURES...", help="Pictures, folders of them, .npy, .npz, .zarr; or a run of jifv."),
]
Network: TypeAlias = Annotated[
    str | None, typer.Option("--network", help="Name in `jifv models list`; not needed for a run, which knows it.")
]
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
Out: TypeAlias = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Start again where a run is in the folder.")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", help="No progress bars and no results.")]

STEPS = ("adam_steps", "lbfgs_steps", "learning_rate", "anneal", "redirected_steps")
"""Options of the optimizer, by their names in `jifv.experiments.options`."""

BATCH_SIZE = 16
"""Pictures computed and stored at a time unless told otherwise."""

_SETTING = ("aggregation", "parametrization", "input_size", "smoothing", "power", "floor", "seed")
"""Options of a setting that all commands have."""

_HELP = {
    "power": "Power k of the cosine in what is maximized.",
    "smoothing": "Round the kinks of network and aggregation over this width, relative to their inputs; 0 for none.",
    "critical_samples": "Invert on the critical space of the Jacobians of so many random inputs; 0 for Rⁿ.",
    "batch_size": "Pictures computed and stored at a time.",
}
"""What options of experiments do here, where that is something else."""


def with_setting_options(*others: str, **defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that replaces a command's parameter `options`, see `with_options`.

    Args:
        *others: Options besides those that all commands have, by their names in `jifv.experiments.options`.
        **defaults: What the help says is used where an option is not given, where that is something else here.
    """
    options = [replace(BY_NAME[name], help=_HELP.get(name, BY_NAME[name].help)) for name in (*_SETTING, *others)]
    return with_options(options, panel="Options", defaults=_defaults() | defaults)


def _defaults() -> dict[str, Any]:
    blank = Setting("")
    return {
        **{each.name: getattr(blank, each.name) for each in fields(Setting)},
        **asdict(blank.significance),
        **asdict(Settings()),
        "aggregation": "max_mean, or identity where there are no positions",
        "parametrization": "pixels, or geometry for srnet",
        "input_size": "the network's own",
        "batch_size": BATCH_SIZE,
    }


def with_changes(setting: Setting, options: Mapping[str, Any], **others: Any) -> Setting:
    """Apply what was given on the command line; what is None stays.

    Raises:
        typer.BadParameter: The options contradict one another.
    """
    if "std" in options and options.get("parametrization", setting.parametrization) == "maco":
        raise typer.BadParameter("has no meaning for maco, whose phases begin uniform", param_hint="--std")
    changes = {name: value for name, value in {**options, **others}.items() if value is not None}
    significance = replace(setting.significance, **_fields_of(Significance, changes))
    try:
        return replace(setting, **_fields_of(Setting, changes), significance=significance)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def run_setting(pictures: Pictures) -> Setting:
    """Return what the realizations of a run were made with.

    Raises:
        typer.BadParameter: The pictures are no realizations of one run, so a network has to be named.
    """
    if pictures.run is None:
        raise typer.BadParameter("is needed, but for the realizations of one run", param_hint="--network")
    return own_setting(pictures)


def settings_of(options: Mapping[str, Any]) -> Settings:
    """Make the optimizer's options of those that were given."""
    return Settings(**_fields_of(Settings, options))


def _fields_of(kind: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Select from what was given the fields of a dataclass."""
    return {each.name: given[each.name] for each in fields(kind) if each.name in given}


def conditions(prior: Sequence[str] | None, transformations: str | None, draws: int | None) -> dict[str, Any]:
    """Read under which priors and transformations d is optimal, as fields of a setting; None where nothing was given.

    Raises:
        typer.BadParameter: There is no such prior, no such weight, or there are no such transformations.
    """
    if transformations not in (None, *TRANSFORMATIONS):
        known = ", ".join(TRANSFORMATIONS)
        raise typer.BadParameter(f"{transformations!r} is none of {known}", param_hint="--transformations")
    priors = tuple(map(_prior, prior)) if prior else None
    return {"priors": priors, "transformations": transformations, "draws": draws}


def _prior(text: str) -> tuple[str, float]:
    """Read NAME=WEIGHT."""
    name, _, weight = text.partition("=")
    if name not in PRIORS:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(PRIORS)}", param_hint="--prior")
    try:
        prior: Prior = PRIORS[name](float(weight or 1))
    except ValueError as error:
        raise typer.BadParameter(f"{text}: {error}", param_hint="--prior") from error
    return name, prior.weight


def check_crop(crop: float | None) -> None:
    """Raise unless there is such a part of a picture, or None.

    Raises:
        typer.BadParameter: There is none.
    """
    if crop is not None and not 0 < crop <= 1:
        raise typer.BadParameter(f"must be in (0, 1], got {crop}", param_hint="--crop")


def tell(result: Inverted | Audited | Compared, out: Path) -> None:
    """Print what was found, a line for each picture, and where the files are."""
    console = Console(soft_wrap=True)
    console.print(repr(result), markup=False, highlight=False)
    console.print(f"results in {out}, to look at in {out / 'report.html'}", markup=False)
