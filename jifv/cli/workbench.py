"""Command line: `jifv app`, pictures and their objectives in the browser."""

import importlib.util
import runpy
import sys
from pathlib import Path
from typing import Annotated

import typer

from jifv.cli import machine
from jifv.cli.errors import told

PAGE = Path(__file__).with_name("workbench_page.py")
"""The page, a notebook of marimo."""


def serve(
    port: Annotated[int | None, typer.Option(help="Port to listen on; by default one that is free.")] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Open no browser.")] = False,
) -> None:
    """See in the browser for which objective a picture is optimal, how surely, and why.

    Begins with an example, which needs no picture. Serves this computer only; Ctrl-C ends it. Needs the extra `app`.
    """
    with told():
        if importlib.util.find_spec("marimo") is None:
            raise ImportError('marimo is not installed: python -m pip install "jifv[app]"')
    machine.prepare()
    # In this process, whose devices and compiled programs all sessions share; marimo runs each in a thread.
    options = [*(["--port", str(port)] if port else []), *(["--headless"] if headless else [])]
    sys.argv = ["marimo", "run", str(PAGE), "--include-code", *options]
    runpy.run_module("marimo", run_name="__main__", alter_sys=True)
