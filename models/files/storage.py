"""Weights as safetensors: a tree of arrays under names like `params/dense1.0/conv1/kernel`."""

import json
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save

from jifv._core import files
from jifv._core.files import check_digest, read_safetensors, replace_durably

_DIGEST = "digest"


def write_weights(path: str | Path, variables: dict, metadata: dict[str, str]) -> None:
    """Write a network's variables and metadata to a safetensors file, with a digest that `read_weights` checks.

    Raises:
        OSError: If the file cannot be written; the message names it, and what was there before stays.
    """
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in flatten_dict(variables, sep="/").items()}
    content = save(arrays, metadata | {_DIGEST: _digest_of_file(arrays, metadata)})
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    replace_durably(path, content)


def read_weights(path: str | Path) -> tuple[dict, dict[str, str]]:
    """Read the variables and the metadata of a file of `write_weights`, or of any safetensors file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, or an entry is not finite; the message names both.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}")
    arrays, metadata = read_safetensors(path)
    for name, leaf in arrays.items():
        if not np.isfinite(leaf).all():
            raise ValueError(f"weights in {path} must be finite, got NaN or infinity in {name}")
    expected = metadata.pop(_DIGEST, None)
    if expected is not None:
        check_digest(path, _digest_of_file(arrays, metadata), expected)
    try:
        return unflatten_dict(arrays, sep="/"), metadata
    except (AttributeError, IndexError, TypeError) as error:
        raise ValueError(f"{path} must hold arrays with names of a tree, got {', '.join(sorted(arrays))}") from error


def digest(variables: dict, salt: str = "") -> str:
    """Return the sha256 of a text followed by a tree of arrays with their names, types and shapes."""
    return files.digest(flatten_dict(variables, sep="/"), salt)


def _digest_of_file(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    return digest(arrays, json.dumps(metadata, sort_keys=True))
