"""Visualize in one network, invert in another: the function behind `jifv compare`.

    print(compare_networks(Setting("densenet"), Setting("densenet-no-deer"), features=["cat", "deer"]))

Features of the first are found in the second by `Compared.match`, see `jifv.compare`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from jax.sharding import Mesh

from jifv.experiments.pictures.features import STORE, visualize_features
from jifv.experiments.pictures.inversions import invert_pictures
from jifv.experiments.pictures.results import Compared
from jifv.experiments.pictures.sources import find_pictures
from jifv.experiments.problem import check, network_of
from jifv.experiments.setting import Setting
from jifv.models import Network
from jifv.visualization import Settings

VISUALIZED = "visualized"
"""Folder, in that of the run, of what was visualized."""


def compare_networks(
    first: Setting,
    second: Setting,
    *,
    features: Sequence[str | int] | None = None,
    directions: Iterable[str | Path] = (),
    networks: tuple[Network, Network] | None = None,
    settings: Settings = Settings(),
    folder: str | Path | None = None,
    batch_size: int = 16,
    mesh: Mesh | None = None,
    progress: bool = False,
    overwrite: bool = False,
) -> Compared:
    """Visualize features of one network, and find what these pictures are optimal for in another.

    Args:
        first: In which to visualize.
        second: In which to invert.
        features: Of the first, by index or name; None for all, unless there are `directions`.
        directions: Files of directions in the first, see `visualize_features`.
        networks: Both networks, if they are loaded already. They have to take inputs of the same shape.
        settings: Options of the optimizer.
        folder: Where to write what `invert_pictures` writes, and in its folder `visualized` what `visualize_features`
            writes; None writes nothing. A run that was stopped goes on from its last finished batch.
        batch_size: Pictures optimized, inverted and stored at a time.
        mesh: Devices that share each batch, see `jifv.sample_mesh`.
        progress: Whether to show progress on standard error.
        overwrite: Whether to start again where the folder holds a run.

    Raises:
        ValueError: See `visualize_features` and `invert_pictures`; or the networks take inputs of different shapes. All
            before anything is compiled.
        OSError: A file cannot be read or written, or another process uses the folder.
    """
    one, other = networks or (network_of(first), network_of(second))
    first, second = first.resolved(one), second.resolved(other)
    for setting, network in ((first, one), (second, other)):
        check(setting, network)
    if one.input_shape != other.input_shape:
        raise ValueError(
            f"networks must take inputs of the same shape, got {one.input_shape} for {first.network} and "
            f"{other.input_shape} for {second.network}"
        )
    directions = list(directions)
    if features is None:
        features = () if directions else range(first.features or one.features)
    made = visualize_features(
        features,
        first,
        directions=directions,
        network=one,
        settings=settings,
        folder=Path(folder) / VISUALIZED if folder else None,
        batch_size=batch_size,
        mesh=mesh,
        progress=progress,
        overwrite=overwrite,
    )
    pictures = find_pictures([made.folder / STORE] if made.folder else list(made.images))
    pictures.names = made.names
    found = invert_pictures(
        pictures,
        second,
        network=other,
        folder=folder,
        reoptimize_steps=0,
        batch_size=batch_size,
        mesh=mesh,
        progress=progress,
        overwrite=overwrite,
    )
    assert found is not None  # of a shard only
    return Compared(made, found)
