"""Command line: `jifv visualize --network densenet --feature cat`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from jifv._core.devices import leads
from jifv.cli import machine, pictures
from jifv.cli.errors import told, warnings_told
from jifv.cli.interrupt import KEPT, interruptible
from jifv.cli.output import show
from jifv.experiments.pictures import Visualized, visualize_features
from jifv.experiments.problem import network_of
from jifv.experiments.report.tables import Table
from jifv.experiments.setting import Setting


@pictures.with_setting_options("std", *pictures.STEPS, "adam_precision", "batch_size", adam_precision="highest")
def visualize(
    network: Annotated[str, typer.Option(help="Name in `jifv models list`.")],
    layer: pictures.Layer = None,
    feature: Annotated[
        list[str] | None, typer.Option(help="Index of a feature, or its name, such as a class; once or several times.")
    ] = None,
    direction: Annotated[
        list[Path] | None, typer.Option(help="A .npy or .npz file with one direction in feature space, or several.")
    ] = None,
    *,
    options: Mapping[str, Any],
    prior: pictures.Priors = None,
    transformations: pictures.Transformations = None,
    draws: pictures.Draws = None,
    weights: pictures.Weights = None,
    devices: pictures.Devices = None,
    distributed: pictures.Distributed = False,
    out: pictures.Out = Path("runs/visualize"),
    overwrite: pictures.Overwrite = False,
    quiet: pictures.Quiet = False,
) -> None:
    """Visualize features, classes or directions of a network.

    Writes a picture (PNG) for each, report.html to look at, results.csv, and realizations.zarr, from which
    `jifv invert` finds the objectives again. The defaults round the kinks of the network, because only so the picture
    comes to rest and can be inverted; --smoothing 0 takes the network as it is.

    A run that was stopped goes on from its last finished batch with the same command.
    """
    if not feature and not direction:
        raise typer.BadParameter("name at least one, or a --direction", param_hint="--feature")
    setting = pictures.with_changes(
        Setting(network, layer), options, **pictures.conditions(prior, transformations, draws)
    )
    settings = pictures.settings_of(options)
    machine.prepare()
    if distributed:
        machine.join()
    mesh = machine.mesh_of(devices)
    with interruptible(KEPT), warnings_told(), told():
        batch_size = options.get("batch_size", pictures.BATCH_SIZE)
        made = visualize_features(
            feature or [],
            setting,
            directions=direction or [],
            network=network_of(setting, weights=weights),
            settings=settings,
            folder=out,
            batch_size=batch_size,
            mesh=mesh if direction else machine.of_use(mesh, min(batch_size, len(feature or []))),
            progress=not quiet,
            overwrite=overwrite,
        )
        if leads() and not quiet:
            _tell(made, out)


def _tell(made: Visualized, out: Path) -> None:
    rows = [
        (name, f"{made.value[index]:.3g}", f"{made.cosine[index]:.3f}", _remark(made, index))
        for index, name in enumerate(made.names[:40])
    ]
    show(Table("visualizations", ("objective", "d", "cos(r, v)", ""), rows))
    console = Console(soft_wrap=True)
    console.print(
        f"to look at in {out / 'report.html'}; to invert: jifv invert {out / 'realizations.zarr'}", markup=False
    )


def _remark(made: Visualized, index: int) -> str:
    if not made.finite[index]:
        return "not finite"
    return "on the cosine's floor, where inversion does not hold" if made.on_floor[index] else ""
