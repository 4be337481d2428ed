"""Command line: `jifv compare densenet densenet-no-deer --feature deer`."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from jifv._core.devices import leads
from jifv.cli import machine, pictures
from jifv.cli.errors import told, warnings_told
from jifv.cli.interrupt import interruptible
from jifv.cli.options import with_options
from jifv.experiments.pictures import Setting, compare_networks
from jifv.experiments.problem import network_of
from jifv.visualization import Settings

_STEPS = ("adam_steps", "lbfgs_steps", "learning_rate", "anneal")
_BATCH = 16


@with_options(
    pictures.options_named(*pictures.SETTING, "std", "dead_tolerance", "critical_samples", *_STEPS, "batch_size"),
    panel=pictures.PANEL,
    defaults=pictures.defaults() | asdict(Settings()) | {"batch_size": _BATCH},
)
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Network in which to visualize, in `jifv models list`.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Network in which to invert.")],
    layer: pictures.Layer = None,
    second_layer: Annotated[str | None, typer.Option(help="That of B, if it is called otherwise there.")] = None,
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
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/compare"),
    overwrite: pictures.Overwrite = False,
    quiet: pictures.Quiet = False,
) -> None:
    """Visualize features of network A, and find what these pictures are optimal for in network B.

    Writes what `jifv invert` writes, and in the folder `visualized` what `jifv visualize` writes. A run that was
    stopped goes on from its last finished batch with the same command.
    """
    settings = replace(Settings(), **{name: options[name] for name in _STEPS if name in options})
    pair = (
        pictures.with_changes(Setting(first, layer), options),
        pictures.with_changes(Setting(second, second_layer or layer), options),
    )
    machine.prepare()
    mesh = machine.mesh_of(devices)
    with interruptible(pictures.KEPT), warnings_told(), told():
        found = compare_networks(
            *pair,
            features=feature or None,
            directions=direction or [],
            networks=(network_of(pair[0], weights=weights), network_of(pair[1], weights=second_weights)),
            settings=settings,
            folder=out,
            batch_size=options.get("batch_size", _BATCH),
            mesh=mesh if direction or not feature else machine.of_use(mesh, len(feature)),
            progress=not quiet,
            overwrite=overwrite,
        )
        if leads() and not quiet:
            console = Console(soft_wrap=True)
            console.print(repr(found), markup=False, highlight=False)
            console.print(f"results in {out}, to look at in {out / 'report.html'}", markup=False)
