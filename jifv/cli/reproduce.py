"""Command line: `jifv reproduce dncl` and its siblings."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import jax
import typer
from jax.sharding import Mesh
from rich.console import Console
from rich.table import Table

from jifv._core.devices import leads, sample_mesh
from jifv.cli import machine
from jifv.cli.errors import complain
from jifv.experiments.experiment import Experiment
from jifv.experiments.report import files, tables
from jifv.experiments.run import identity, network_of, run
from jifv.experiments.store import Store
from jifv.experiments.studies import STUDIES, Preset, Study


def reproduce(
    name: Annotated[str, typer.Argument(help=f"The experiment: {', '.join(STUDIES)}, or all of them: all.")],
    preset: Annotated[
        Preset, typer.Option(help="quick takes minutes on two CPU cores; paper has the paper's counts, for a GPU.")
    ] = "quick",
    samples: Annotated[
        int | None, typer.Option(min=2, help="Number of objectives; the share of canonical ones stays.")
    ] = None,
    adam_steps: Annotated[int | None, typer.Option(min=0, help="Steps of Adam a sample.")] = None,
    lbfgs_steps: Annotated[int | None, typer.Option(min=0, help="Most iterations of L-BFGS a sample.")] = None,
    reoptimize_steps: Annotated[int | None, typer.Option(min=1, help="Steps of Adam in re-optimization.")] = None,
    power: Annotated[
        float | None, typer.Option(min=0, help="Power k of the cosine, where the experiment has only one.")
    ] = None,
    cooldown: Annotated[
        float | None, typer.Option(min=0, max=1, help="Part of Adam's steps over which its rate falls to 0.")
    ] = None,
    adam_precision: Annotated[
        Literal["default", "high", "highest"] | None,
        typer.Option(help="Of products in Adam's steps before its cooldown: default is TF32 on an NVIDIA GPU."),
    ] = None,
    smoothing: Annotated[
        float | None, typer.Option(min=0, help="Rounds off the kinks of GoogLeNet and of the aggregation: 0.1, say.")
    ] = None,
    silence: Annotated[
        float | None, typer.Option(min=0, max=0.999, help="Leave out features with so short a row in the Jacobian.")
    ] = None,
    std: Annotated[
        float | None, typer.Option(min=0, help="Standard deviation of the initial parameters: 0.5 wakes most features.")
    ] = None,
    input_size: Annotated[int | None, typer.Option(min=1, help="Side of the network's input, in pixels.")] = None,
    seed: Annotated[int, typer.Option(help="Decides everything random: the same seed, the same numbers.")] = 0,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Samples optimized and stored at a time, which bounds the memory.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="Another network by its name, such as googlenet in place of googlenet-bvlc.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Other weights, where the experiment has one network: any convertible file.")
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(
            min=1, help="Devices that share each batch; all there are if not given. On a CPU, each core is one."
        ),
    ] = None,
    distributed: Annotated[
        bool, typer.Option("--distributed", help="This is one of several processes, as Slurm starts them.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the results (runs/NAME, runs/NAME-paper).")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again where a run is in the folder.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars and no tables.")] = False,
) -> None:
    """Reproduce an experiment of the paper: visualize known objectives, invert, compare.

    Samples target objectives, optimizes an image for each (feature visualization), inverts the images, looks for the
    critical space by Algorithm 1 where the paper does, and re-optimizes the images for prediction, target, response
    and a random objective. Prints the angles to the targets, and writes summary.json, samples.csv, tables.md, figures
    (PNG and PDF), report.html to look at, and all arrays (a Zarr store an experiment).

    A run that was stopped, whatever stopped it, goes on from its last finished batch with the same command.
    """
    if name not in (*STUDIES, "all"):
        raise typer.BadParameter(f"{name!r} is none of {', '.join(STUDIES)}, all", param_hint="NAME")
    steps = {"adam_steps": adam_steps, "lbfgs_steps": lbfgs_steps, "power": power, "cooldown": cooldown}
    steps |= {"adam_precision": adam_precision}
    other = {"network": network, "batch_size": batch_size, "reoptimize_steps": reoptimize_steps, "seed": seed}
    other |= {"smoothing": smoothing, "silence": silence, "std": std, "input_size": input_size}
    chosen = {each: study for each, study in STUDIES.items() if name in (each, "all")}
    changed = {
        each: [_changed(cell, samples, steps, other) for cell in study.cells(preset)] for each, study in chosen.items()
    }
    for each, study in chosen.items():  # all of them before any work
        if power is not None and len({cell.settings.power for cell in study.cells(preset)}) > 1:
            raise typer.BadParameter(f"{each} is about several powers; leave it out", param_hint="--power")
        if weights is not None and len({cell.network for cell in changed[each]}) > 1:
            raise typer.BadParameter(f"{each} uses several networks; leave it out", param_hint="--weights")
    machine.prepare()
    if distributed:
        _join()
    mesh = _mesh(devices)
    failed = False
    for each, study in chosen.items():
        folder = (out / each if name == "all" else out) if out else Path("runs") / _folder_name(each, preset)
        try:
            _reproduce(each, study, changed[each], preset, folder, weights, mesh, overwrite=overwrite, quiet=quiet)
        except (ValueError, OSError, ImportError, FloatingPointError) as error:
            complain(f"jifv: {each}: {error}")
            failed = True
    if failed:
        raise typer.Exit(1)


def _reproduce(
    name: str,
    study: Study,
    cells: list[Experiment],
    preset: Preset,
    folder: Path,
    weights: Path | None,
    mesh: Mesh,
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    console = Console()
    folder.mkdir(parents=True, exist_ok=True)
    results, digests, seconds = [], {}, 0.0
    for cell in cells:
        network = network_of(cell, weights=weights)
        digests[cell.network] = network.digest
        path = folder / f"{cell.name}.zarr"
        if overwrite and path.exists() and leads():
            shutil.rmtree(path)
        store = Store.open(path, identity(cell, network), cell.samples, cell.batch_size)
        results.append(run(cell, network, store=store, mesh=_of_use(mesh, cell), progress=not quiet))
        seconds += store.total_seconds()
    if not leads():
        return
    summary = files.write(study, results, folder, name=name, preset=preset, weights=digests)
    if quiet:
        return
    for table in tables.tables(summary):
        shown = Table(title=table.title, title_justify="left")
        for index, column in enumerate(table.columns):
            shown.add_column(column, justify="right" if index else "left")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    for remark in tables.remarks(summary):
        console.print(remark)
    console.print(f"{seconds:.0f} s; results in {folder}, to look at in {folder / 'report.html'}")


def _join() -> None:
    """Find the other processes."""
    try:
        jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise typer.BadParameter(
            f"the environment does not say how to find the other processes ({error}); under Slurm, start with srun",
            param_hint="--distributed",
        ) from error


def _mesh(devices: int | None) -> Mesh:
    try:
        return sample_mesh(devices)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--devices") from error


def _of_use(mesh: Mesh, cell: Experiment) -> Mesh:
    """No more devices than a batch has samples: the others would compute one of them again."""
    batch = min(cell.batch_size, cell.samples)
    if jax.process_count() > 1 or batch >= mesh.size:
        return mesh
    return sample_mesh(mesh.devices.flat[:batch].tolist())


def _changed(cell: Experiment, samples: int | None, steps: dict, other: dict) -> Experiment:
    """The experiment with the options that were given."""
    steps = {option: value for option, value in steps.items() if value is not None}
    other = {option: value for option, value in other.items() if value is not None}
    if samples is not None:
        other |= {"samples": samples, "canonical": cell.canonical * samples // cell.samples}
    return replace(cell, settings=replace(cell.settings, **steps), **other)


def _folder_name(name: str, preset: Preset) -> str:
    return name if preset == "quick" else f"{name}-{preset}"
