"""Weights as safetensors: a tree of arrays under names like ``params/dense1.0/conv1/kernel``."""

from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import safe_open
from safetensors.numpy import save_file


def write_weights(path: str | Path, variables: dict, metadata: dict[str, str]) -> None:
    """Writes a network's variables, with a few words about them, to a safetensors file."""
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in flatten_dict(variables, sep="/").items()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file(arrays, path, metadata)


def read_weights(path: str | Path) -> tuple[dict, dict[str, str]]:
    """Reads variables and metadata back.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If an entry is not finite; the message names it.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}")
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    for name, leaf in arrays.items():
        if not np.isfinite(leaf).all():
            raise ValueError(f"weights in {path} are not finite: {name}")
    return unflatten_dict(arrays, sep="/"), metadata
