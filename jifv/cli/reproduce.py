"""Command line: `jifv reproduce dncl` and its siblings."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from jax.sharding import Mesh
from rich.console import Console

from jifv._core.devices import leads
from jifv._core.progress import bar
from jifv.cli import machine
from jifv.cli.errors import complain, warnings_told
from jifv.cli.interrupt import KEPT, interruptible
from jifv.cli.options import with_experiment_options
from jifv.cli.output import show
from jifv.experiments import journal
from jifv.experiments.estimate import Cost, Step, estimate, measure_step, programs, text
from jifv.experiments.experiment import Experiment, with_options
from jifv.experiments.problem import check, network_of, problem_of
from jifv.experiments.report import files, tables
from jifv.experiments.run import TIMES, identity, run
from jifv.experiments.store import Store
from jifv.experiments.studies import STUDIES, Preset, Study
from jifv.models import Network

_EXPECTED = (ValueError, OSError, ImportError, FloatingPointError)
"""Errors that the user can act on."""

_LONG = 3600.0
"""Seconds beyond which the cost is a warning."""


class _Plan(NamedTuple):
    """What to run for one study, and where to."""

    name: str
    study: Study
    cells: list[Experiment]
    folder: Path


@with_experiment_options
def reproduce(
    name: Annotated[str, typer.Argument(help=f"The experiment: {', '.join(STUDIES)}, or all of them: all.")],
    preset: Annotated[
        Preset, typer.Option(help="quick takes minutes on two CPU cores; paper has the paper's counts, for a GPU.")
    ] = "quick",
    *,
    options: Mapping[str, Any],
    weights: Annotated[
        Path | None, typer.Option(help="Other weights, where the experiment has one network: any convertible file.")
    ] = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="Devices that share each batch; all by default. Each CPU core is one.")
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
    (PNG and PDF), report.html to look at, and all arrays (a Zarr store per experiment).

    A run that was stopped, whatever stopped it, goes on from its last finished batch with the same command.
    """
    plans = _plans(name, preset, options, weights, out)
    machine.prepare()
    if distributed:
        machine.join()
    mesh = machine.mesh_of(devices)
    with interruptible(KEPT), warnings_told():
        networks: dict[tuple, Network] = {}
        ready = [plan for plan in plans if _succeeds(plan.name, _check, plan, weights, networks, overwrite=overwrite)]
        done = [
            plan
            for plan in ready
            if _succeeds(plan.name, _run, plan, preset, networks, mesh, overwrite=overwrite, quiet=quiet)
        ]
    if len(done) < len(plans):
        raise typer.Exit(1)


def _succeeds(name: str, action: Callable[..., None], *arguments: Any, **options: Any) -> bool:
    """Report errors that the user can act on in one line, so that the next study can run."""
    try:
        action(*arguments, **options)
    except _EXPECTED as error:
        complain(f"jifv: {name}: {error}")
        return False
    return True


def _plans(
    name: str, preset: Preset, options: Mapping[str, Any], weights: Path | None, out: Path | None
) -> list[_Plan]:
    """List what to run, after all checks that need no network."""
    if name not in (*STUDIES, "all"):
        raise typer.BadParameter(f"{name!r} is none of {', '.join(STUDIES)}, all", param_hint="NAME")
    plans = []
    for each, study in STUDIES.items():
        if name not in (each, "all"):
            continue
        folder = (out / each if name == "all" else out) if out else Path("runs") / _folder_name(each, preset)
        try:
            cells = [_changed(cell, options) for cell in study.cells(preset)]
        except ValueError as error:
            raise typer.BadParameter(f"{each}: {error}") from error
        if "power" in options and len({cell.significance.power for cell in study.cells(preset)}) > 1:
            raise typer.BadParameter(f"{each} is about several powers; leave it out", param_hint="--power")
        if weights is not None and len({cell.network for cell in cells}) > 1:
            raise typer.BadParameter(f"{each} uses several networks; leave it out", param_hint="--weights")
        plans.append(_Plan(each, study, cells, folder))
    return plans


def _check(plan: _Plan, weights: Path | None, networks: dict[tuple, Network], *, overwrite: bool) -> None:
    """Check the folder, what it holds, and the networks, before any work."""
    there = next(folder for folder in (plan.folder, *plan.folder.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is not a folder, so {plan.folder} cannot be made")
    if leads() and not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{there} is not writable, so no results can go to {plan.folder}")
    for cell in plan.cells:
        key = _key(cell)
        if key not in networks:
            networks[key] = network_of(cell, weights=weights)
        check(cell, networks[key])
        if overwrite:  # all of them before any is removed
            Store.check_removal(_path(plan, cell))
        else:
            _check_same_run(_path(plan, cell), cell, networks[key])


def _run(
    plan: _Plan, preset: Preset, networks: dict[tuple, Network], mesh: Mesh, *, overwrite: bool, quiet: bool
) -> None:
    results, digests, seconds = [], {}, 0.0
    with ExitStack() as stack:
        # All of them before any work, one may be in use by another process; and until all files are written.
        stores = [stack.enter_context(_store(plan, cell, networks[_key(cell)], overwrite)) for cell in plan.cells]
        if not quiet:
            _tell_cost(plan, stores, networks, mesh)
        for cell, store in zip(plan.cells, stores, strict=True):
            network = networks[_key(cell)]
            digests[cell.network] = network.digest
            results.append(run(cell, network, store=store, mesh=_of_use(mesh, cell), progress=not quiet))
            seconds += store.total_seconds(TIMES)
        if not leads():
            return
        summary = files.write(plan.study, results, plan.folder, name=plan.name, preset=preset, weights=digests)
    if quiet:
        return
    for table in tables.tables(summary):
        show(table)
    console = Console(soft_wrap=True)
    for remark in tables.remarks(summary):
        console.print(remark, markup=False)
    page = plan.folder / "report.html"
    console.print(f"{seconds:.0f} s; results in {plan.folder}, to look at in {page}", markup=False)


def _tell_cost(plan: _Plan, stores: list[Store], networks: dict[tuple, Network], mesh: Mesh) -> None:
    """Tell what the work that is left will cost. A step is measured once for all experiments that share it."""
    steps: dict[tuple, Step] = {}
    compiled: set[tuple] = set()
    seconds = memory = 0.0
    for cell, store in zip(plan.cells, stores, strict=True):
        left = {stage: len(store.missing(stage)) for stage in ("realize", "reoptimize")}
        if not any(left.values()):
            continue
        network = networks[_key(cell)]
        key = (*_key(cell), cell.smoothing, cell.parametrization, min(cell.batch_size, cell.samples))
        needed = programs(cell, jacobians=left["realize"] > 0) - compiled
        compiled |= needed
        if fresh := key not in steps:
            with bar(f"{cell.name}: prepare the network", 1, leads()) as advance:  # it may take minutes by itself
                steps[key] = measure_step(cell, problem_of(cell, network, _of_use(mesh, cell)))
                advance()
        left |= {"compilations": len(needed) - fresh}
        cost = estimate(cell, steps[key], features=cell.features or network.features, **left)
        seconds, memory = seconds + cost.seconds, max(memory, cost.bytes)
    if not steps or not leads():
        return
    sides = max(network.input_shape[:2] for network in map(networks.__getitem__, map(_key, plan.cells)))
    features = max(cell.features or networks[_key(cell)].features for cell in plan.cells)
    size = f"{sum(cell.samples for cell in plan.cells)} samples of {features} features at {sides[0]}×{sides[1]}"
    line = f"{plan.name}: {text(Cost(seconds, memory))} for {size}"
    if seconds > _LONG:
        complain(f"jifv: {line}; fewer --samples or --adam-steps, or a smaller --input-size, take less")
    else:
        Console(stderr=True, soft_wrap=True).print(line, markup=False, highlight=False)


def _store(plan: _Plan, cell: Experiment, network: Network, overwrite: bool) -> Store:
    path = _path(plan, cell)
    if overwrite:
        Store.remove(path)
    return Store.open(path, identity(cell, network), cell.samples, cell.batch_size)


def _check_same_run(path: Path, cell: Experiment, network: Network) -> None:
    """Raise if the folder holds another run."""
    if (path / journal.FILE).exists():
        wanted = json.loads(json.dumps(identity(cell, network)))  # as it was written
        journal.read_same(path, journal.new(wanted, cell.samples, cell.batch_size))


def _path(plan: _Plan, cell: Experiment) -> Path:
    return plan.folder / f"{cell.name}.zarr"


def _key(cell: Experiment) -> tuple:
    """List what the network of an experiment depends on. Cells that agree on it load and compile it once."""
    return (cell.network, cell.layer, cell.input_size)


def _of_use(mesh: Mesh, cell: Experiment) -> Mesh:
    return machine.of_use(mesh, min(cell.batch_size, cell.samples))


def _changed(cell: Experiment, options: Mapping[str, Any]) -> Experiment:
    """Apply the given options; the share of canonical objectives stays."""
    changes = dict(options)
    if "samples" in changes:
        changes["canonical"] = cell.canonical * changes["samples"] // cell.samples
    return with_options(cell, changes)


def _folder_name(name: str, preset: Preset) -> str:
    return name if preset == "quick" else f"{name}-{preset}"
