"""Command line: `jifv compare densenet densenet-no-deer --feature deer`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from jifv._core.devices import leads
from jifv.cli import machine, pictures
from jifv.cli.errors import told, warnings_told
from jifv.cli.interrupt import KEPT, interruptible
from jifv.experiments.pictures import Setting, compare_networks
from jifv.experiments.problem import network_of


@pictures.with_setting_options("std", "dead_tolerance", "critical_samples", *pictures.STEPS, "batch_size")
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Network in which to visualize, in `jifv models list`.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Network in which to invert.")],
    layer: pictures.Layer = None,
    second_layer: Annotated[str | None, typer.Option(help="That of B, if it has another name there.")] = None,
    feature: Annotated[
        list[str] | None, typer.Option(help="Feature of A, by index or name; once or several times. All by default.")
    ] = None,
    direction: Annotated[
        list[Path] | None, typer.Option(help="A .npy or .npz file with one direction in A's feature space, or several.")
    ] = None,
    *,
    options: Mapping[str, Any],
    weights: pictures.Weights = None,
    second_weights: Annotated[Path | None, typer.Option(help="Other weights for B.")] = None,
    devices: pictures.Devices = None,
    out: pictures.Out = Path("runs/compare"),
    overwrite: pictures.Overwrite = False,
    quiet: pictures.Quiet = False,
) -> None:
    """Visualize features of network A, and find what these pictures are optimal for in network B.

    Writes what `jifv invert` writes, and in the folder `visualized` what `jifv visualize` writes. A run that was
    stopped goes on from its last finished batch with the same command.
    """
    settings = pictures.settings_of(options)
    pair = (
        pictures.with_changes(Setting(first, layer), options),
        pictures.with_changes(Setting(second, second_layer or layer), options),
    )
    machine.prepare()
    mesh = machine.mesh_of(devices)
    with interruptible(KEPT), warnings_told(), told():
        found = compare_networks(
            *pair,
            features=feature or None,
            directions=direction or [],
            networks=(network_of(pair[0], weights=weights), network_of(pair[1], weights=second_weights)),
            settings=settings,
            folder=out,
            batch_size=options.get("batch_size", pictures.BATCH_SIZE),
            mesh=mesh if direction or not feature else machine.of_use(mesh, len(feature)),
            progress=not quiet,
            overwrite=overwrite,
        )
        if leads() and not quiet:
            pictures.tell(found, out)
