"""Where converted networks are kept: the user's cache folder, or the one that ``JIFV_CACHE`` names."""

import os
from pathlib import Path

import pooch

from jifv.models.files.convert import Converted, card
from jifv.models.files.storage import write_weights


def folder() -> Path:
    """The cache folder, which may not exist yet."""
    return Path(os.environ.get("JIFV_CACHE") or pooch.os_cache("jifv")).expanduser()


def cached(name: str) -> Path:
    """The file of a converted network, which may not exist yet; the model card is beside it, ending in ``.md``."""
    return folder() / f"{name}.safetensors"


def store(converted: Converted, path: str | Path | None = None) -> Path:
    """Writes a converted network, its model card beside it, so that nobody ever finds half a file.

    Args:
        converted: The network.
        path: File to write, ``.safetensors``; by default where ``load`` finds it by its name.

    Returns:
        The path.

    Raises:
        ValueError: If the path does not end in ``.safetensors``.
    """
    path = Path(path) if path else cached(converted.name)
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors; got {path}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_weights(temporary, converted.variables, converted.metadata)
        path.with_suffix(".md").write_text(card(converted), encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
