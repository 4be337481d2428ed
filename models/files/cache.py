"""Where converted networks are kept: the user's cache folder, or the one that `JIFV_CACHE` names."""

import os
from contextlib import suppress
from pathlib import Path

import pooch

from jifv._core.files import replace_durably
from jifv.models.files.convert import Converted, card
from jifv.models.files.storage import write_weights


def folder() -> Path:
    """Return the cache folder, which may not exist yet."""
    return Path(os.environ.get("JIFV_CACHE") or pooch.os_cache("jifv")).expanduser()


def cached(name: str) -> Path:
    """Return the file of a converted network, which may not exist yet. The model card lies beside it, as `.md`."""
    return folder() / f"{name}.safetensors"


def store(converted: Converted, path: str | Path | None = None) -> Path:
    """Write a converted network and, beside it, its model card: both or neither.

    Args:
        converted: The network.
        path: File to write, `.safetensors`; by default the one that `load` finds by the network's name.

    Returns:
        The path.

    Raises:
        ValueError: If the path does not end in `.safetensors`.
        OSError: If a file cannot be written; the message names it, and what was there before stays.
    """
    path = Path(path) if path else cached(converted.name)
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".md")
    before = beside.read_bytes() if beside.is_file() else None
    replace_durably(beside, card(converted))
    try:
        write_weights(path, converted.variables, converted.metadata)
    except BaseException:
        with suppress(OSError):
            beside.unlink() if before is None else replace_durably(beside, before)
        raise
    return path
