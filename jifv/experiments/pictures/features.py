"""Visualize features, classes or directions of a network: the function behind `jifv visualize`.

    made = visualize_features(["42", "17"], Setting("googlenet-bvlc", "inception4c"), folder="runs/mine")

writes pictures, a page, and `realizations.zarr`, which `invert_pictures` inverts with everything that it must know.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from jifv._core.devices import leads
from jifv._core.progress import bar
from jifv.experiments.batches import circumstances, padded, surroundings, timed
from jifv.experiments.pictures import files
from jifv.experiments.pictures.results import Visualized
from jifv.experiments.problem import network_of, response_of, to_images
from jifv.experiments.setting import Setting
from jifv.experiments.store import Store
from jifv.models import Network
from jifv.objectives import canonical_objectives
from jifv.visualization import Settings, visualize

STORE = "realizations.zarr"
"""Name of the store in the folder of a run."""


def visualize_features(
    features: Sequence[str | int],
    setting: Setting,
    *,
    directions: Iterable[str | Path] = (),
    network: Network | None = None,
    settings: Settings = Settings(),
    folder: str | Path | None = None,
    batch_size: int = 16,
    mesh: Mesh | None = None,
    progress: bool = False,
    overwrite: bool = False,
) -> Visualized:
    """Visualize features, and write what came out.

    Args:
        features: Index of each, or its name, such as that of a class; none for `directions` alone.
        setting: The network up to a layer, and so on.
        directions: Files of directions in feature space, `.npy` or `.npz` with one array (n,) or (k, n).
        network: The network, if it is loaded already.
        settings: Options of the optimizer.
        folder: Where to write pictures (PNG), `realizations.zarr`, `results.csv`, `results.json` and `report.html`;
            None writes nothing. A run that was stopped goes on from its last finished batch.
        batch_size: Samples optimized and stored at a time.
        mesh: Devices that share each batch, see `jifv.sample_mesh`.
        progress: Whether to show progress on standard error.
        overwrite: Whether to start again where the folder holds a run.

    Raises:
        ValueError: There is no such feature, a direction does not fit, the setting does not fit the network, or the
            folder holds another run. All before anything is compiled.
        OSError: A file cannot be read or written, or another process uses the folder.
    """
    network = network or network_of(setting)
    setting = setting.resolved(network)
    with bar("prepare the network", 1, progress and leads()) as advance:
        phi, f, count = response_of(setting, network)
        advance()
    known = network.feature_names[:count]
    names, objectives = objectives_of(features, directions, known)
    identity = {
        "setting": asdict(setting),
        "settings": asdict(settings),
        "names": list(names),
        "objectives": hashlib.sha256(np.asarray(objectives, "<f4").tobytes()).hexdigest(),
        **surroundings(network),
    }
    path = Path(folder) / STORE if folder is not None else None
    if path and overwrite:
        Store.remove(path)
    samples = len(objectives)
    opened = Store.open(path, identity, samples, batch_size) if path else Store.in_memory(samples, batch_size)
    how = circumstances(mesh)
    with opened as store:
        start = jax.vmap(phi.init)(jax.random.split(jax.random.key(setting.seed), samples))
        for batch in store.missing("realize"):
            rows, seconds = store.rows(batch), {}
            with timed(seconds, "visualize"):
                found = visualize(
                    f,
                    *padded(min(batch_size, samples), np.asarray(start)[rows], objectives[rows]),
                    significance=setting.significance,
                    priors=setting.prior_functions(),
                    transformations=setting.ensemble(network),
                    settings=settings,
                    mesh=mesh,
                    progress=progress and leads(),
                    description=_label(names, rows),
                )
            kept = ("parameters", "objectives", "response", "value", "cosine", "gradient_norm", "on_floor", "finite")
            arrays = {name: np.asarray(getattr(found, name))[: len(rows)] for name in kept}
            arrays["images"] = np.asarray(to_images(phi.apply)(jnp.asarray(arrays["parameters"])))
            store.write("realize", batch, arrays, seconds, **how)
        arrays = store.read("realize")
    shown = ("objectives", "images", "parameters", "response", "value", "cosine", "on_floor", "finite")
    made = Visualized(
        setting, names, known, **{name: arrays[name] for name in shown}, folder=Path(folder) if folder else None
    )
    if made.folder and leads():
        files.write_visualized(made, made.folder, settings)
    return made


def objectives_of(
    features: Sequence[str | int], directions: Iterable[str | Path], known: Sequence[str]
) -> tuple[tuple[str, ...], Float[np.ndarray, "s n"]]:
    """List objectives of unit length, and their names: features first, then directions.

    Args:
        features: Names, or indices.
        directions: Files, see `visualize_features`.
        known: Name of each of the n features.

    Raises:
        ValueError: There is no such feature, a direction does not fit, or there is none at all.
        OSError: A file cannot be read.
    """
    names, rows = [], []
    for feature in features:
        index = _index(feature, known)
        names.append(known[index])
        rows.append(np.asarray(canonical_objectives(np.array([index]), len(known)))[0])
    for path in map(Path, directions):
        found = _directions(path, len(known))
        names += [path.stem if len(found) == 1 else f"{path.stem}-{index}" for index in range(len(found))]
        rows += list(found)
    if not rows:
        raise ValueError("features must be at least one, or a direction, got none")
    return tuple(names), np.stack(rows).astype(np.float32)


def _index(feature: str | int, known: Sequence[str]) -> int:
    if feature in known:
        return known.index(feature)
    try:
        index = int(feature)
    except ValueError:
        index = -1
    if 0 <= index < len(known):
        return index
    named = f" or a name ({', '.join(known[:12])}{', …' if len(known) > 12 else ''})" if known[0] != "0" else ""
    raise ValueError(f"feature must be an index from 0 to {len(known) - 1}{named}, got {feature!r}")


def _directions(path: Path, count: int) -> Float[np.ndarray, "k n"]:
    try:
        with path.open("rb") as file:
            found: Any = np.load(file, allow_pickle=False)
            if isinstance(found, np.lib.npyio.NpzFile):
                if len(found.files) != 1:
                    raise ValueError(f"one array, got {', '.join(found.files) or 'none'}")
                found = found[found.files[0]]
    except OSError:
        raise
    except Exception as error:  # NumPy's and those of zip archives
        raise ValueError(f"{path} must hold an array of numbers: {error}") from error
    rows = found[None] if found.ndim == 1 else found
    if rows.ndim != 2 or rows.shape[1] != count or not len(rows) or rows.dtype.kind not in "iuf":
        raise ValueError(f"{path} must hold directions ({count},) or (k, {count}), got {found.dtype} {found.shape}")
    length = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if not (np.isfinite(length).all() and length.all()):
        raise ValueError(f"{path} must hold directions that are finite and not 0")
    return rows / length


def _label(names: Sequence[str], rows: np.ndarray) -> str:
    first, last = names[rows[0]], names[rows[-1]]
    return f"visualize {first}" if len(rows) == 1 else f"visualize {first} to {last}"
