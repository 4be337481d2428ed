"""Training data of SRNet: fields, views of them, pairs of frames, and augmentation.

A pair is a low-resolution frame and the high-resolution frame that the network should make of it. `isosurface` renders
the pairs from the `fields` once; they are kept in a file.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jifv._core.check import check_nonnegative, check_positive
from jifv.models.networks.frames import MASK
from jifv.models.networks.srnet import SCALE
from jifv.models.training import fields
from jifv.models.training.isosurface import (
    HIGH_SIZE,
    LOW_SIZE,
    Camera,
    check_field,
    check_range,
    random_camera,
    render,
    render_batch,
    render_surface,
)

HELD_OUT = ("c60", "marschner_lobb")
"""Fields that training does not see by default."""

_CANDIDATES = 16


class Pairs(NamedTuple):
    """Low-resolution frames (n, 32, 32, 5), high-resolution frames (n, 128, 128, 6), and the name of each field."""

    low: np.ndarray
    high: np.ndarray
    names: np.ndarray


# Fields and files.


def all_fields(key: PRNGKeyArray, volumes: Path | None = None) -> dict[str, np.ndarray]:
    """Return the analytic fields and the volumes of a file, if given, with at most 128 voxels per side."""
    keys = jax.random.split(key, 6)
    analytic = {
        "marschner_lobb": fields.marschner_lobb(),
        "gyroid": fields.gyroid(key=keys[0], periods=1.5),
        "fine_gyroid": fields.gyroid(key=keys[1], periods=3.0),
        "metaballs": fields.metaballs(keys[2]),
        "many_metaballs": fields.metaballs(keys[3], count=40),
        "fractal_noise": fields.fractal_noise(keys[4]),
        "smooth_noise": fields.fractal_noise(keys[5], octaves=2),
    }
    measured = fields.read_volumes(volumes, longest=128) if volumes else {}
    return {name: np.asarray(field) for name, field in (measured | analytic).items()}


def render_pairs(
    key: PRNGKeyArray, sources: dict[str, np.ndarray], held_out: tuple[str, ...], count: int, test_count: int
) -> dict[str, Pairs]:
    """Render pairs to train on, `training`, and two sets of others, `cameras` and `fields`.

    Args:
        key: Draws isovalues and cameras.
        sources: Name → field.
        held_out: Names of the fields that only `fields` shows. `cameras` shows the other fields from new cameras.
        count: Number of pairs to train on.
        test_count: Number of pairs in each of the other sets.

    Raises:
        ValueError: If no field is left to train on, or no field is held out.
    """
    seen = {name: field for name, field in sources.items() if name not in held_out}
    unseen = {name: field for name, field in sources.items() if name in held_out}
    if not seen or not unseen:
        raise ValueError(f"held_out must name some of the fields {', '.join(sources)}, not all, got {held_out}")
    parts = {"training": (seen, count), "cameras": (seen, test_count), "fields": (unseen, test_count)}
    result = {}
    for index, (part, (chosen, number)) in enumerate(parts.items()):
        low, high, names = dataset(jax.random.fold_in(key, index), chosen, number)
        result[part] = Pairs(low, high, np.array(names))
    return result


def cached(path: Path, options: str, make) -> dict[str, Pairs]:
    """Return what `make` returns, from the file if it exists.

    Raises:
        ValueError: If the file was made with other options.
    """
    if path.is_file():
        with np.load(path) as file:
            if str(file["options"]) != options:
                raise ValueError(f"pairs in {path} must be of options {options}, got {file['options']}")
            parts = {name.split(".")[0] for name in file.files if "." in name}
            return {part: Pairs(*(file[f"{part}.{leaf}"] for leaf in Pairs._fields)) for part in parts}
    result = make()
    arrays = {f"{part}.{leaf}": getattr(pairs, leaf) for part, pairs in result.items() for leaf in Pairs._fields}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, options=options, **arrays)
    return result


# Views and frames.


def pair(
    field: Float[ArrayLike, "d h w"], isovalue: Float[ArrayLike, ""], camera: Camera
) -> tuple[Float[Array, "32 32 5"], Float[Array, "128 128 6"]]:
    """Render a low-resolution frame and the high-resolution frame that a network should make of it.

    The low-resolution frame is no average: it has its own rays, through the centres of its larger pixels.
    """
    return render_surface(field, isovalue, camera, size=LOW_SIZE), render(field, isovalue, camera, size=HIGH_SIZE)


def random_views(
    key: PRNGKeyArray,
    field: Float[ArrayLike, "d h w"],
    count: int,
    *,
    isovalues: tuple[float, float] | None = None,
    filled: float = 0.5,
    tries: int = 1000,
) -> tuple[Float[Array, " count"], Camera]:
    """Draw isovalues and cameras that see the surface in at least a given share of the low-resolution frame.

    Args:
        key: Draws both. A smaller `count` gives the first views of a larger one.
        field: The scalar field.
        count: Number of views.
        isovalues: Range of the uniform isovalues; by default from the 30 % to the 95 % quantile of the field.
        filled: Smallest share of the low-resolution frame's pixels that must show the surface.
        tries: Largest number of batches of 16 candidates.

    Returns:
        The isovalues (count,) and the cameras, with a first axis of `count`.

    Raises:
        TypeError: `count` or `tries` is not an integer, or `filled` is not a number.
        ValueError: `count` or `tries` is not positive, `filled` is not in [0, 1], `isovalues` is not a range, or the
            field is not three-dimensional with at least two voxels along each axis.
        RuntimeError: Too few candidates show enough of the surface.
    """
    check_positive("count", count)
    check_positive("tries", tries)
    check_nonnegative("filled", filled)
    if filled > 1:
        raise ValueError(f"filled must be at most 1, a share of the pixels, got {filled}")
    check_field(field)
    field = jnp.asarray(field)
    low, high = map(float, np.quantile(field, (0.3, 0.95)) if isovalues is None else isovalues)
    check_range("isovalues", (low, high))
    kept, total = [], 0
    for attempt in range(tries):
        candidates, shares = _candidates(jax.random.fold_in(key, attempt), field, low, high)
        accepted = np.asarray(shares) >= filled
        kept.append(jax.tree.map(lambda leaf, accepted=accepted: np.asarray(leaf)[accepted], candidates))
        total += accepted.sum()
        if total >= count:
            return jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)[:count]), *kept)
    raise RuntimeError(
        f"only {total} of {tries * _CANDIDATES} views show the surface in {filled:.0%} of the pixels, and {count} are "
        f"needed; the isovalues were drawn from [{low:.3g}, {high:.3g}]"
    )


def dataset(
    key: PRNGKeyArray,
    sources: Mapping[str, Float[ArrayLike, "d h w"]],
    count: int,
    *,
    filled: float = 0.5,
    batch: int = 8,
    dtype: DTypeLike = np.float16,
) -> tuple[Float[np.ndarray, "count 32 32 5"], Float[np.ndarray, "count 128 128 6"], list[str]]:
    """Render pairs for training, equally many of every field; the first fields get one more if they must.

    Args:
        key: Draws isovalues and cameras.
        sources: Name → scalar field.
        count: Number of pairs.
        filled: Smallest share of pixels that must show the surface, as in `random_views`.
        batch: Number of pairs rendered at once; the result does not depend on it.
        dtype: Type of the result.

    Returns:
        Low-resolution frames, high-resolution frames, and the field's name for each; fields follow one another.

    Raises:
        TypeError: `count` or `batch` is not an integer.
        ValueError: `sources` is empty, `count` or `batch` not positive, or `filled` or a field as in `random_views`.
        RuntimeError: A field has too few views that are filled, see `random_views`.
    """
    if not sources:
        raise ValueError("sources must name at least one field, got none")
    check_positive("count", count)
    check_positive("batch", batch)
    low = np.empty((count, LOW_SIZE, LOW_SIZE, 5), dtype)
    high = np.empty((count, HIGH_SIZE, HIGH_SIZE, 6), dtype)
    names, start = [], 0
    for index, (name, field) in enumerate(sources.items()):
        share = count // len(sources) + (index < count % len(sources))
        if not share:
            continue
        field = jnp.asarray(field)
        # Whole batches, so that each function is compiled once per field shape; the surplus is dropped.
        isovalues, cameras = random_views(
            jax.random.fold_in(key, index), field, -(-share // batch) * batch, filled=filled
        )
        for first in range(0, share, batch):
            views = jax.tree.map(lambda leaf, first=first: leaf[first : first + batch], (isovalues, cameras))
            kept = min(batch, share - first)
            rows = slice(start + first, start + first + kept)
            low[rows] = _render_surfaces(field, *views)[:kept]
            high[rows] = render_batch(field, *views)[:kept]
        names += [name] * share
        start += share
    return low, high, names


@jax.jit
def _candidates(key, field, low, high):
    key_isovalues, key_cameras = jax.random.split(key)
    isovalues = jax.random.uniform(key_isovalues, (_CANDIDATES,), field.dtype, low, high)
    cameras = jax.vmap(lambda key: random_camera(key, dtype=field.dtype))(jax.random.split(key_cameras, _CANDIDATES))
    found = jax.lax.map(lambda view: render_surface(field, *view)[..., MASK] > 0, (isovalues, cameras))
    return (isovalues, cameras), found.mean((1, 2))


@jax.jit
def _render_surfaces(field, isovalues, cameras):
    return jax.vmap(lambda isovalue, camera: render_surface(field, isovalue, camera))(isovalues, cameras)


# Augmentation.


def augment(
    key: PRNGKeyArray, low: Float[Array, "b h w 5"], high: Float[Array, "b 4*h 4*w 6"], crop: int
) -> tuple[Float[Array, "b crop crop 5"], Float[Array, "b 4*crop 4*crop 6"]]:
    """Crop both frames of each pair at the same place, then flip and transpose them at random, in float32."""
    crop_key, turn_key = jax.random.split(key)
    batch, height, width, _ = low.shape
    corners = jax.random.randint(crop_key, (batch, 2), 0, jnp.array([height, width]) - crop + 1)
    turns = jax.random.bernoulli(turn_key, shape=(batch, 3))

    def cut(frame, corner, side):
        return jax.lax.dynamic_slice(frame, (*corner, 0), (side, side, frame.shape[-1]))

    low = jax.vmap(partial(cut, side=crop))(low, corners).astype(jnp.float32)
    high = jax.vmap(partial(cut, side=SCALE * crop))(high, SCALE * corners).astype(jnp.float32)
    return jax.vmap(turn)(low, turns), jax.vmap(turn)(high, turns)


def turn(frame: Float[Array, "s s c"], which: Bool[Array, "3"]) -> Float[Array, "s s c"]:
    """Mirror the geometry left to right, mirror it upside down, and exchange rows and columns, as `which` says.

    These operations generate the eight symmetries of the square. The normals turn with the image.
    """
    channels = frame.shape[-1]
    left_right = frame[:, ::-1] * jnp.ones(channels).at[1].set(-1)
    frame = jnp.where(which[0], left_right, frame)
    upside_down = frame[::-1] * jnp.ones(channels).at[2].set(-1)
    frame = jnp.where(which[1], upside_down, frame)
    # Right becomes down: (x, y) → (-y, -x).
    exchanged = frame.swapaxes(0, 1)
    exchanged = exchanged.at[..., 1].set(-exchanged[..., 2]).at[..., 2].set(-exchanged[..., 1])
    return jnp.where(which[2], exchanged, frame)
