"""Command line: `jifv models list`, `show`, `fetch` and `convert`."""

import re
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

import jifv.models as models
from jifv.cli.errors import told

app = typer.Typer(help="List the networks, and fetch or convert weights.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """List the networks, with the source, licence and accuracy of their weights and where these are."""
    console = Console(soft_wrap=True)
    table = Table("name", "MB", "source", "licence", "accuracy", box=box.SIMPLE_HEAD, pad_edge=False)
    table.columns[0].no_wrap = True
    for listing in models.listings():
        size = f"{listing.path.stat().st_size / 1e6:.1f}" if listing.path else "not here"
        facts = (listing.source, listing.licence, listing.accuracy)
        table.add_row(listing.name, size, *map(_first_words, facts))
    Console().print(table)
    for listing in models.listings():
        console.print(f"{listing.name}: {listing.path or listing.missing}", highlight=False, markup=False)


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name in `jifv models list`.")]) -> None:
    """Show a network's model card, and its layers with their numbers of channels."""
    with told():
        card, shapes = models.load(name).card, models.layer_shapes(name)
        console = Console()
        console.print(Markdown(card))
        layers = ", ".join(f"{layer} ({shape[-1]})" for layer, shape in shapes.items())
        console.print(f"\nLayers, with their channels: {layers}", highlight=False)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="googlenet: torchvision's weights, 50 MB.")],
    url: Annotated[str | None, typer.Option(help="Another address of the same file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Download a network's public weights, check them, and convert them to the cache folder (JIFV_CACHE)."""
    with told():
        _say(name, models.fetch(name, url=url, progress=not quiet))


@app.command()
def convert(
    name: Annotated[str, typer.Argument(help="googlenet (either version), googlenet-bvlc or densenet.")],
    source: Annotated[Path, typer.Option("--from", help="The file: .pth of torchvision, .caffemodel, .onnx or .npz.")],
    to: Annotated[Path | None, typer.Option(help="File to write, .safetensors (in the cache folder).")] = None,
) -> None:
    """Convert a file of weights; format and version are recognised. Nothing in the file is run."""
    with told():
        converted = models.convert(source)
        if converted.name not in (name, f"{name}-bvlc"):
            raise ValueError(f"{source} holds {converted.name}, not {name}")
        if converted.name == "densenet" and to is None:
            raise ValueError("--to FILE is needed: jifv has a densenet; load the other one with weights=FILE")
        _say(converted.name, models.store(converted, to))


def _first_words(fact: str) -> str:
    return re.split(r"[,;] |[,;.]$| of ", fact)[0]


def _say(name: str, path: Path) -> None:
    Console(soft_wrap=True).print(f"{name}: {path}", highlight=False)
