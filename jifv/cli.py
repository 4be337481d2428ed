"""Command line: `jifv reproduce dncl` and its siblings."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from jifv import report
from jifv.experiment import EXPERIMENTS, resized, run
from jifv.models import load

app = typer.Typer(
    help="Inverse feature visualization: from an input back to the objective it was optimized for.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)


@app.callback()
def _commands() -> None:
    """Keeps `reproduce` a command of its own while it is the only one."""


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(help="The experiment. There is: dncl, the class scores of DenseNet (3.5).")],
    samples: Annotated[
        int | None, typer.Option(min=2, help="Number of objectives, a quarter of them canonical (dncl: 16).")
    ] = None,
    adam_steps: Annotated[int | None, typer.Option(min=0, help="Steps of Adam a sample (dncl: 300).")] = None,
    lbfgs_steps: Annotated[
        int | None, typer.Option(min=0, help="Most iterations of L-BFGS a sample (dncl: 100).")
    ] = None,
    reoptimize_steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of Adam in re-optimization (dncl: 40).")
    ] = None,
    power: Annotated[float | None, typer.Option(min=0, help="Power k of the cosine in the significance (2).")] = None,
    seed: Annotated[int, typer.Option(help="Decides everything random: the same seed, the same numbers.")] = 0,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Samples optimized at a time, which bounds the memory (all).")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Other weights: .safetensors, or .npz with torch's names.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results (runs/NAME).")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars and no tables.")] = False,
) -> None:
    """Reproduce an experiment of the paper: visualize known objectives, invert, compare.

    Samples target objectives, optimizes an image for each (feature visualization), inverts the images, looks for the
    critical space by Algorithm 1, inverts on it, and re-optimizes the images for prediction, target, response and a
    random objective. Prints the angles to the targets, and writes summary.json, samples.csv, results.npz, figure.png
    and gallery.png.

    With the defaults dncl takes a few minutes on a laptop. The paper's size:

    jifv reproduce dncl --samples 300 --adam-steps 800 --lbfgs-steps 300 --reoptimize-steps 500
    """
    if name not in EXPERIMENTS:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(EXPERIMENTS)}", param_hint="NAME")
    if out is None:
        out = Path("runs") / name
    chosen = EXPERIMENTS[name]
    changes = {"adam_steps": adam_steps, "lbfgs_steps": lbfgs_steps, "power": power}
    changes = {option: value for option, value in changes.items() if value is not None}
    chosen = resized(
        chosen,
        samples=samples,
        seed=seed,
        settings=replace(chosen.settings, **changes),
        reoptimize_steps=reoptimize_steps or chosen.reoptimize_steps,
    )
    console = Console()
    try:
        out.mkdir(parents=True, exist_ok=True)  # before the work and not after it, should that be impossible
        network = load(chosen.network, layer=chosen.layer, weights=weights)
        results = run(chosen, network, batch_size=batch_size, progress=not quiet)
    except (ValueError, OSError, FloatingPointError) as error:
        Console(stderr=True).print(f"jifv: {error}", style="red", highlight=False)
        raise typer.Exit(1) from error
    used = str(weights.name) if weights else f"{chosen.network} of jifv {report.metadata.version('jifv')}"
    summary = report.write(results, out, feature_names=network.feature_names, weights=used)
    if not quiet:
        for table in report.tables(summary):
            console.print(table)
        for remark in report.remarks(summary):
            console.print(remark)
        console.print(f"{sum(results.seconds.values()):.0f} s; results in {out}")


if __name__ == "__main__":
    app()
