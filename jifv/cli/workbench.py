"""Command line: `jifv app`, pictures and their objectives in the browser."""

import importlib.util
import socket
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from jifv.cli import machine
from jifv.cli.errors import told

PAGE = Path(__file__).with_name("workbench_page.py")
"""The page, a notebook of marimo."""

_HOST = "127.0.0.1"


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any that is free.")] = 2718,
    headless: Annotated[bool, typer.Option("--headless", help="Open no browser.")] = False,
) -> None:
    """See in the browser for which objective a picture is optimal, how surely, and why.

    Begins with an example that needs no picture. Serves this computer only; Ctrl-C ends it. Needs the extra `app`.
    """
    with told():
        if importlib.util.find_spec("marimo") is None:
            raise ImportError('marimo is not installed: python -m pip install "jifv[app]"')
        machine.prepare()
        listening = listen(port)
        address = f"http://{_HOST}:{listening.getsockname()[1]}"
        typer.echo(f"{address} (Ctrl-C ends it)")
        if not headless:
            webbrowser.open(address)  # waits until the server answers
        server().run(sockets=[listening])


def listen(port: int) -> socket.socket:
    """Listen on a port of this computer.

    Raises:
        OSError: It is taken.
    """
    try:
        return socket.create_server((_HOST, port))
    except OSError as error:
        raise OSError(f"port must be free, got {port}, which another program has: try --port 0") from error


def server() -> Any:
    """Make the server, whose sessions are threads of this process and share what is compiled."""
    import marimo  # pyright: ignore[reportMissingImports]
    import uvicorn  # pyright: ignore[reportMissingImports]

    pages = marimo.create_asgi_app(quiet=True, include_code=True).with_app(path="/", root=str(PAGE))
    return uvicorn.Server(uvicorn.Config(pages.build(), log_level="warning"))
