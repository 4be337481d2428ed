"""Invert pictures of people's own, a few or a million: the function behind `jifv invert`.

    found = invert_pictures(["cat.jpg", "folder"], Setting("googlenet-bvlc", "inception4c"), folder="runs/mine")
    print(found)

A run is stored batch by batch. Stopped, it goes on from its last finished batch; divided into shards, each computes
some of the batches, in a store of its own in the same folder, and who comes without a shard gathers them.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from jifv._core.check import check_count, check_positive
from jifv._core.devices import leads
from jifv._core.progress import bar
from jifv.experiments.batches import circumstances, surroundings, timed
from jifv.experiments.pictures import files
from jifv.experiments.pictures.question import Question, question_of
from jifv.experiments.pictures.reading import Reader, is_exact, limited, own_setting
from jifv.experiments.pictures.results import Inverted
from jifv.experiments.pictures.sources import Pictures, find_pictures
from jifv.experiments.problem import check, network_of
from jifv.experiments.setting import Setting
from jifv.experiments.store import Store
from jifv.models import Network

FEW = 64
"""Pictures up to which re-optimization is done unless told otherwise."""

STEPS = 100
"""Steps of that."""

_NAME = "inverted"
_STORE = re.compile(rf"{_NAME}(-[0-9]+-of-[0-9]+)?\.zarr")


def invert_pictures(
    pictures: Iterable[str | Path | np.ndarray] | Pictures,
    setting: Setting | None = None,
    *,
    network: Network | None = None,
    folder: str | Path | None = None,
    crop: float | None = None,
    shard: tuple[int, int] | None = None,
    merge: bool = False,
    reoptimize_steps: int | None = None,
    batch_size: int = 16,
    mesh: Mesh | None = None,
    progress: bool = False,
    overwrite: bool = False,
) -> Inverted | None:
    """Find the objective for which each picture is optimal, and what speaks against that.

    Args:
        pictures: Files, folders or arrays, see `find_pictures`.
        setting: The network up to a layer, and so on. For the realizations of one run it may be left out: they are
            inverted with what they were made with.
        network: The network, if it is loaded already.
        folder: Where to write `results.csv`, `results.json`, `report.html` and the arrays (Zarr); None writes nothing.
        crop: See `jifv.models.load_picture`; None for that of the network.
        shard: (i, n) computes the i-th of n parts, i from 1 to n, and writes nothing but a store in `folder`. Call
            once more without, to gather what the shards have found.
        merge: Only gather: compute nothing.
        reoptimize_steps: Steps of Adam by which each picture is optimized further for the objective that was found, and
            for its response, to look at; 0 leaves that out. None for `STEPS`, or 0 for more than `FEW` pictures.
        batch_size: Pictures stored at a time.
        mesh: Devices that share the pictures, see `jifv.sample_mesh`.
        progress: Whether to show progress on standard error.
        overwrite: Whether to start again where the folder holds a run; of a shard, that shard.

    Returns:
        What was found; None for a shard.

    Raises:
        TypeError: A number is of another type.
        ValueError: A picture is damaged or does not fit, the setting does not fit the network, the folder holds another
            run, or to `merge` something is missing. All before anything is compiled.
        OSError: A file cannot be read or written, or another process uses the folder.
    """
    found = pictures if isinstance(pictures, Pictures) else find_pictures(pictures)
    _check_shard(shard, merge, folder)
    if setting is None:
        setting = own_setting(found)
    network = network or network_of(setting)
    setting = setting.resolved(network)
    check(setting, network)
    if reoptimize_steps is None:
        reoptimize_steps = STEPS if len(found) <= FEW else 0
    check_count("reoptimize_steps", reoptimize_steps)
    check_positive("batch_size", batch_size)
    crop = network.crop if crop is None else crop
    identity = {"setting": asdict(setting), "crop": crop, "pictures": found.digest(), **surroundings(network)}
    exact = is_exact(found, setting, network)
    reader = Reader(found, network, crop, exact=exact, limited=limited(setting, network))
    fresh = not merge and (folder is None or not (Path(folder) / _name(shard)).exists())
    if fresh:  # before there is a folder
        reader.check(_rows(range(-(-len(found) // batch_size)), batch_size, len(found), shard))
    with ExitStack() as stack:
        stores = [
            stack.enter_context(store)
            for store in _stores(folder, shard, merge, identity, len(found), batch_size, overwrite=overwrite)
        ]
        stages = {"invert": _left(stores, "invert", shard)}
        if reoptimize_steps:
            stages[f"reoptimize-{reoptimize_steps}"] = _left(stores, f"reoptimize-{reoptimize_steps}", shard)
        if merge and any(stages.values()):
            missing = sorted({batch for left in stages.values() for batch in left})
            raise ValueError(f"folder must hold all batches to be merged, got none of {missing[:8]}")
        if any(stages.values()):
            if not fresh:
                reader.check(
                    _rows(sorted({batch for left in stages.values() for batch in left}), batch_size, len(found))
                )
            with bar("prepare the network", 1, progress and leads()) as advance:  # it may take minutes by itself
                question = question_of(setting, network, mesh)
                advance()
            _compute(question, reader, stores, stages, steps=reoptimize_steps, progress=progress and leads())
        if shard is not None:
            return None
        result = _gathered(stores, list(stages), found, setting, network, Path(folder) if folder else None)
        if result.folder and leads():
            origin = own_setting(found) if found.run else None
            files.write_inverted(result, result.folder, reader.image, _images(stores, list(stages)), origin)
    return result


def _check_shard(shard: tuple[int, int] | None, merge: bool, folder: str | Path | None) -> None:
    if shard is None and not merge:
        return
    if folder is None:
        raise ValueError("folder must be given for shards, which meet there")
    if shard is not None and merge:
        raise ValueError("shard must be None to merge")
    if shard is not None and not 1 <= shard[0] <= shard[1]:
        raise ValueError(f"shard must be (i, n) with 1 <= i <= n, got {shard}")


def _stores(
    folder: str | Path | None,
    shard: tuple[int, int] | None,
    merge: bool,
    identity: dict[str, Any],
    samples: int,
    batch_size: int,
    *,
    overwrite: bool,
) -> Iterator[Store]:
    """Open the store to write to, and those of the shards to read from as well."""
    if folder is None:
        yield Store.in_memory(samples, batch_size)
        return
    name = _name(shard)
    there = sorted(path.name for path in Path(folder).glob(f"{_NAME}*.zarr") if _STORE.fullmatch(path.name))
    if overwrite:
        old = [Path(folder) / each for each in (there if shard is None else [name])]
        for path in old:  # all of them before any is removed
            Store.check_removal(path)
        for path in old:
            Store.remove(path)
        there = []
    if merge and not there:
        raise ValueError(f"folder must hold what shards have found to be merged, got none in {folder}")
    others = [each for each in there if each != name] if shard is None else []
    for each in ([] if merge and name not in there else [name]) + others:
        yield Store.open(Path(folder) / each, identity, samples, batch_size)


def _name(shard: tuple[int, int] | None) -> str:
    return f"{_NAME}.zarr" if shard is None else f"{_NAME}-{shard[0]}-of-{shard[1]}.zarr"


def _rows(batches: Iterable[int], size: int, count: int, shard: tuple[int, int] | None = None) -> list[int]:
    """List the pictures of batches, of a shard its own."""
    mine = [batch for batch in batches if shard is None or batch % shard[1] == shard[0] - 1]
    return [row for batch in mine for row in range(batch * size, min((batch + 1) * size, count))]


def _left(stores: Sequence[Store], stage: str, shard: tuple[int, int] | None) -> list[int]:
    """List the batches that no store has, of a shard its own."""
    left = sorted(set.intersection(*(set(store.missing(stage)) for store in stores)))
    return left if shard is None else [batch for batch in left if batch % shard[1] == shard[0] - 1]


def _compute(
    question: Question,
    reader: Reader,
    stores: Sequence[Store],
    stages: dict[str, list[int]],
    *,
    steps: int,
    progress: bool,
) -> None:
    """Compute and store what is left."""
    store, how = stores[0], circumstances(question.mesh)
    for stage, left in stages.items():
        count = sum(len(store.rows(batch)) for batch in left)
        label, total = f"invert {count}", question.work(count)
        if stage != "invert":
            label, total = f"re-optimize {count} for prediction and response", 2 * count
        with bar(label, total, progress and total > 0) as advance:
            for batch in left:
                seconds: dict[str, float] = {}
                parameters = reader.parameters(store.rows(batch).tolist(), question)
                with timed(seconds, stage):
                    if stage == "invert":
                        arrays = question.invert(parameters, advance)
                    else:
                        found = _batch(stores, "invert", batch)
                        wanted = {"prediction": found["objective"], "response": found["response"]}
                        size = len(store.rows(0))
                        arrays = question.reoptimize(parameters, wanted, steps=steps, size=size, advance=advance)
                store.write(stage, batch, arrays, seconds, **how)


def _batch(stores: Sequence[Store], stage: str, batch: int, without: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read a batch from the store that has it."""
    return next(s for s in stores if batch not in s.missing(stage)).read_batch(stage, batch, without=without)


def _gathered(
    stores: Sequence[Store],
    stages: Sequence[str],
    pictures: Pictures,
    setting: Setting,
    network: Network,
    folder: Path | None,
) -> Inverted:
    """Gather what all stores have found, batch by batch, without what is large."""
    batches = range(-(-len(pictures) // len(stores[0].rows(0))))
    found = [_batch(stores, "invert", batch, without=("singular_vectors",)) for batch in batches]
    each = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    similarities = None
    for stage in stages[1:]:
        parts = [_batch(stores, stage, batch, without=("images_prediction", "images_response")) for batch in batches]
        similarities = {
            name: np.concatenate([part[f"ssim_{name}"] for part in parts]) for name in ("prediction", "response")
        }
    fields = ("objective", "response", "cosine", "gap", "stationarity", "negative", "dead", "elsewhere")
    return Inverted(
        setting,
        pictures.names,
        network.feature_names[: each["objective"].shape[1]],
        dimension=each["singular_values"].shape[1],
        **{name: each[name] for name in fields},
        weights=each.get("weights", np.zeros((len(pictures), 0), np.float32)),
        ssim=similarities,
        folder=folder,
    )


def _images(stores: Sequence[Store], stages: Sequence[str]) -> Callable[[int], Sequence[np.ndarray]]:
    """Return a function that reads what became of a picture by re-optimization: no image, or two."""
    size = len(stores[0].rows(0))
    kept: dict[int, dict[str, np.ndarray]] = {}

    def images(row: int) -> Sequence[np.ndarray]:
        batch = row // size
        for stage in stages[1:]:
            if batch not in kept:
                kept.clear()
                kept[batch] = _batch(stores, stage, batch)
            return [kept[batch][f"images_{name}"][row % size] for name in ("prediction", "response")]
        return []

    return images
