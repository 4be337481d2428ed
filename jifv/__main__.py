"""`python -m jifv` is the command `jifv`."""

from jifv.cli import app

app()
