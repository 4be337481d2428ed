"""Command line: `jifv invert cat.jpg photos --network googlenet-bvlc --layer inception4c`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from jifv._core.devices import leads
from jifv.cli import machine, pictures
from jifv.cli.errors import told, warnings_told
from jifv.cli.interrupt import KEPT, interruptible
from jifv.experiments.pictures import Setting, find_pictures, invert_pictures
from jifv.experiments.pictures.inversions import FEW, STEPS
from jifv.experiments.problem import network_of


@pictures.with_setting_options(
    "dead_tolerance", "critical_samples", "batch_size", critical_samples="8 where there are no positions, else 0"
)
def invert(
    sources: pictures.Sources,
    network: pictures.Network = None,
    layer: pictures.Layer = None,
    *,
    options: Mapping[str, Any],
    crop: pictures.Crop = None,
    reoptimize_steps: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Steps of Adam by which each picture is optimized further, for what was found and for its response.",
            show_default=f"{STEPS} for at most {FEW} pictures, else 0",
        ),
    ] = None,
    prior: pictures.Priors = None,
    transformations: pictures.Transformations = None,
    draws: pictures.Draws = None,
    weights: pictures.Weights = None,
    devices: pictures.Devices = None,
    distributed: pictures.Distributed = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Compute the I-th of N parts, independent of the others.")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Only gather what the shards in the folder have found.")
    ] = False,
    out: pictures.Out = Path("runs/invert"),
    overwrite: pictures.Overwrite = False,
    quiet: pictures.Quiet = False,
) -> None:
    """Find the objective for which each picture is optimal, and say if there is none.

    Writes results.csv and results.json, report.html to look at, and all arrays (inverted.zarr). Pictures are cut and
    resized as the network was trained; one that has the network's size is left as it is. A photograph is optimal for
    nothing: then the answer says so, and names the nearest objective.

    A run that was stopped goes on from its last finished batch with the same command. Jobs with --shard 1/4 to
    --shard 4/4 and the same --out share the work; the same command without --shard gathers what they have found.
    """
    part = _part(shard)
    if part and merge:
        raise typer.BadParameter("gathers all shards; leave one of the two out", param_hint="--merge")
    pictures.check_crop(crop)
    others = {"layer": layer, **pictures.conditions(prior, transformations, draws)}
    setting = pictures.with_changes(Setting(network), options, **others) if network else None
    machine.prepare()
    if distributed:
        machine.join()
    mesh = machine.mesh_of(devices)
    with interruptible(KEPT), warnings_told(), told():
        found = find_pictures(sources)
        setting = setting or pictures.with_changes(pictures.run_setting(found), options, **others)
        result = invert_pictures(
            found,
            setting,
            network=network_of(setting, weights=weights),
            folder=out,
            crop=crop,
            shard=part,
            merge=merge,
            reoptimize_steps=reoptimize_steps,
            batch_size=options.get("batch_size", pictures.BATCH_SIZE),
            mesh=machine.of_use(mesh, len(found)),
            progress=not quiet,
            overwrite=overwrite,
        )
        if result is not None and leads() and not quiet:
            pictures.tell(result, out)


def _part(shard: str | None) -> tuple[int, int] | None:
    if shard is None:
        return None
    numbers = re.fullmatch(r"([0-9]+)/([0-9]+)", shard)
    if numbers is None or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise typer.BadParameter(f"must be I/N with 1 <= I <= N, got {shard}", param_hint="--shard")
    return int(numbers[1]), int(numbers[2])
