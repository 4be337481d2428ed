"""Command line: `jifv audit deer.png --claim deer --network densenet`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from jifv.cli import machine, pictures
from jifv.cli.errors import told, warnings_told
from jifv.cli.interrupt import interruptible
from jifv.experiments.pictures import Setting, audit_pictures, find_pictures
from jifv.experiments.pictures.audits import RANDOM
from jifv.experiments.problem import network_of


@pictures.with_setting_options()
def audit(
    sources: pictures.Sources,
    claim: Annotated[
        list[str] | None,
        typer.Option(help="Feature that every picture is claimed to visualize, by index or name; may be repeated."),
    ] = None,
    direction: Annotated[
        list[Path] | None, typer.Option(help="A .npy or .npz file with such a direction in feature space, or several.")
    ] = None,
    network: pictures.Network = None,
    layer: pictures.Layer = None,
    *,
    options: Mapping[str, Any],
    crop: pictures.Crop = None,
    random: Annotated[
        int, typer.Option(min=1, help="Random claims to compare with, besides every feature and the response.")
    ] = RANDOM,
    weights: pictures.Weights = None,
    out: pictures.Out = Path("runs/audit"),
    quiet: pictures.Quiet = False,
) -> None:
    """Check whether pictures visualize what somebody says.

    A claim is false if the picture is no maximum of it, or no more than of other directions. Writes results.csv,
    results.json, and report.html to look at. A network that was manipulated is not exposed: its pictures are maxima.
    """
    if not claim and not direction:
        raise typer.BadParameter("make at least one, or a --direction", param_hint="--claim")
    pictures.check_crop(crop)
    setting = pictures.with_changes(Setting(network), options, layer=layer) if network else None
    machine.prepare()
    with interruptible("jifv: interrupted; nothing is kept"), warnings_told(), told():
        found = find_pictures(sources)
        setting = setting or pictures.with_changes(pictures.run_setting(found), options, layer=layer)
        result = audit_pictures(
            found,
            claim or [],
            setting,
            directions=direction or [],
            network=network_of(setting, weights=weights),
            folder=out,
            crop=crop,
            random=random,
            progress=not quiet,
        )
        if not quiet:
            pictures.tell(result, out)
