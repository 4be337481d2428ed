"""Render isosurfaces of scalar fields as frames of screen-space features, by ray marching.

The field (d, h, w), indexed [z, y, x], fills the box [-1, 1]³. Its outermost voxels lie on the faces, and it is
trilinear in between. Points and directions are arrays (3, …) in the order x, y, z. In screen space x points right, y up
and z toward the viewer.

The channels of a frame are those of `jifv.models.networks.frames`. Depth 0 and 1 are the near and the far end of the
box's circumsphere. The surface is where the field crosses the isovalue in either direction: a surface that the box cuts
open shows its inside.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from jifv._core.check import check_nonnegative, check_positive

LOW_SIZE, HIGH_SIZE = 32, 128
"""Side of the low- and the high-resolution frame of a pair, in pixels."""

_RADIUS = 3**0.5
_BISECTIONS = 12
_LEAST_NORMAL_Z = 1e-3
_CAMERA_SHAPES = {"orientation": (3, 3), "target": (3,), "zoom": ()}


class Camera(NamedTuple):
    """An orthographic camera: exactly what has a normal with z > 0 faces it.

    Attributes:
        orientation: Rotation from the world to the screen: its rows are the directions right, up and toward the viewer.
        target: Point of the world at the centre of the image.
        zoom: The image shows a square of side 2 / zoom.
    """

    orientation: Float[ArrayLike, "*batch 3 3"]
    target: Float[ArrayLike, "*batch 3"]
    zoom: Float[ArrayLike, " *batch"]


def random_camera(
    key: PRNGKeyArray, *, zoom: tuple[float, float] = (0.8, 2.0), offset: float = 0.5, dtype: DTypeLike = jnp.float32
) -> Camera:
    """Draw a camera: uniform orientation, target uniform in [-offset, offset]³, log-uniform zoom.

    Args:
        key: Draws all three.
        zoom: Smallest and largest zoom, positive.
        offset: Largest distance of the target from the centre of the box along each axis.
        dtype: Type of the camera's arrays.

    Raises:
        TypeError: `offset` is not a number.
        ValueError: `zoom` is not a positive range, or `offset` negative or not finite.
    """
    check_range("zoom", zoom, positive=True)
    check_nonnegative("offset", offset)
    keys = jax.random.split(key, 3)
    quaternion = jax.random.normal(keys[0], (4,), dtype)
    w, x, y, z = quaternion / jnp.linalg.norm(quaternion)
    orientation = jnp.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    target = jax.random.uniform(keys[1], (3,), dtype, -offset, offset)
    low, high = np.log(zoom)
    return Camera(orientation, target, jnp.exp(jax.random.uniform(keys[2], (), dtype, low, high)))


def sample(field: Float[Array, "d h w"], points: Float[Array, "3 *points"]) -> Float[Array, " *points"]:
    """Interpolate the field at points of the box, trilinearly; points outside take the value of the nearest inside.

    A point is (x, y, z) in [-1, 1]³, along the first axis.
    """
    size = field.shape[::-1]
    cells, fractions = [], []
    for coordinate, length in zip(points, size, strict=True):
        position = jnp.clip((coordinate + 1) * ((length - 1) / 2), 0, length - 1)
        cell = jnp.minimum(position.astype(jnp.int32), length - 2)
        cells.append(cell)
        fractions.append(position - cell)
    # Flat indices: XLA's gather on CPUs is several times faster with them than with triples.
    flat, base = field.reshape(-1), (cells[2] * size[1] + cells[1]) * size[0] + cells[0]

    def interpolate(offset, axis):
        if axis < 0:
            return flat.at[base + offset].get(mode="promise_in_bounds")
        stride = (1, size[0], size[0] * size[1])[axis]
        left, right = interpolate(offset, axis - 1), interpolate(offset + stride, axis - 1)
        return left + (right - left) * fractions[axis]

    return interpolate(0, 2)


def render(
    field: Float[ArrayLike, "d h w"],
    isovalue: Float[ArrayLike, ""],
    camera: Camera,
    *,
    size: int = HIGH_SIZE,
    occlusion_radius: float = 0.4,
    occlusion_directions: int = 32,
    occlusion_steps: int = 12,
) -> Float[Array, "size size 6"]:
    """Render the frame of one camera, with one ray through the centre of each pixel.

    A ray advances by at most half a voxel per step, and 12 bisections refine the first crossing. The normal is the
    gradient by central differences of one voxel. Ambient occlusion is the cosine-weighted share of directions in which
    no surface lies within a radius. Every pixel uses the same directions relative to its normal, a Fibonacci lattice.
    So the occlusion is deterministic and free of noise, in steps of 1 / directions.

    Args:
        field: The scalar field, with at least two voxels along each axis.
        isovalue: The field's value on the surface.
        camera: The camera.
        size: Side of the frame, in pixels.
        occlusion_radius: Largest distance at which the surface occludes, in units of half the box.
        occlusion_directions: Number of rays of the ambient occlusion.
        occlusion_steps: Number of samples along each of these rays.

    Returns:
        The frame, with the channels of `frames`.

    Raises:
        TypeError: The field does not hold floats, a size or a count is not an integer, or the radius is not a number.
        ValueError: The field is not three-dimensional or has an axis of one voxel, the isovalue or the camera has the
            wrong shape, a size or a count is not positive, or the radius is negative or not finite.
    """
    _check_scene(field, isovalue, camera)
    options = _checked_options(size, occlusion_radius, occlusion_directions, occlusion_steps)
    return _render(jnp.asarray(field), isovalue, camera, **options)


def render_batch(
    field: Float[ArrayLike, "d h w"],
    isovalues: Float[ArrayLike, " b"],
    cameras: Camera,
    *,
    size: int = HIGH_SIZE,
    occlusion_radius: float = 0.4,
    occlusion_directions: int = 32,
    occlusion_steps: int = 12,
) -> Float[Array, "b size size 6"]:
    """Render several isovalues, each with its camera: the arrays of `cameras` have a first axis of b."""
    _check_scenes(field, isovalues, cameras)
    options = _checked_options(size, occlusion_radius, occlusion_directions, occlusion_steps)
    return _render_batch(jnp.asarray(field), isovalues, cameras, **options)


def render_surface(
    field: Float[ArrayLike, "d h w"], isovalue: Float[ArrayLike, ""], camera: Camera, *, size: int = LOW_SIZE
) -> Float[Array, "size size 5"]:
    """Render without ambient occlusion, which takes most of the time."""
    _check_scene(field, isovalue, camera)
    check_positive("size", size)
    return _render_surface(jnp.asarray(field), isovalue, camera, size=size)


# What is compiled. Arguments have been checked.


class _Hit(NamedTuple):
    """Where the rays meet the surface; values of the other rays are arbitrary."""

    found: Array
    points: Array
    normals: Array  # in screen space
    above: Array  # whether the field on the viewer's side is above the isovalue


@partial(jax.jit, static_argnames="size")
def _render_surface(field, isovalue, camera, *, size):
    return _frame(_trace(field, isovalue, camera, size), camera)


@partial(jax.jit, static_argnames=("size", "directions", "steps"))
def _render(field, isovalue, camera, *, size, radius, directions, steps):
    hit = _trace(field, isovalue, camera, size)
    openness = _openness(field, isovalue, camera, hit, radius, directions, steps)
    return jnp.concatenate([_frame(hit, camera), jnp.where(hit.found, openness, 1)[..., None]], -1)


@partial(jax.jit, static_argnames=("size", "directions", "steps"))
def _render_batch(field, isovalues, cameras, **options):
    return jax.vmap(lambda isovalue, camera: _render(field, isovalue, camera, **options))(isovalues, cameras)


def _trace(field, isovalue, camera, size) -> _Hit:
    orientation, target, zoom = (jnp.asarray(leaf, field.dtype) for leaf in camera)
    right, up, toward = (axis[:, None, None] for axis in orientation)
    offset = ((jnp.arange(size, dtype=field.dtype) + 0.5) * (2 / size) - 1) / zoom
    origins = target[:, None, None] + right * offset - up * offset[:, None]

    # The interval of each ray in the box: t grows away from the viewer.
    direction = jnp.where(jnp.abs(toward) < 1e-6, 1e-6, -toward)
    faces = jnp.stack([(-1 - origins) / direction, (1 - origins) / direction])
    near, far = faces.min(0).max(0), faces.max(0).min(0)
    longest = max(field.shape)
    steps = int(np.ceil(2 * _RADIUS * (longest - 1)))
    step = jnp.maximum(far - near, 0) / steps

    def above(t):
        return sample(field, origins - toward * t) >= isovalue

    start = above(near)

    def march(index, first):
        crossed = above(near + index * step) != start
        return jnp.where(crossed, jnp.minimum(first, index), first)

    first = jax.lax.fori_loop(1, steps + 1, march, jnp.full((size, size), steps + 1))
    found = (first <= steps) & (far > near)

    def bisect(_, ends):
        before, after = ends
        middle = (before + after) / 2
        crossed = above(middle) != start
        return jnp.where(crossed, before, middle), jnp.where(crossed, middle, after)

    ends = near + (first - 1) * step, near + first * step
    before, after = jax.lax.fori_loop(0, _BISECTIONS, bisect, ends)
    points = origins - toward * ((before + after) / 2)

    gradient = jnp.einsum("ij,jhw->ihw", orientation, _gradient(field, points), precision="highest")
    return _Hit(found, points, _facing(jnp.where(start, gradient, -gradient)), start)


def _gradient(field, points):
    """Return the central differences over one voxel; at the box's faces the differences are one-sided."""
    voxels = 2 / (np.array(field.shape[::-1]) - 1)
    shifts = np.diag(voxels)[:, :, None, None].astype(field.dtype)
    shifted = jnp.clip(jnp.stack([points[:, None] - shifts, points[:, None] + shifts], 1), -1, 1)
    behind, ahead = sample(field, shifted)
    distances = jnp.diagonal(shifted[:, 1] - shifted[:, 0], axis1=0, axis2=1)
    return (ahead - behind) / jnp.moveaxis(distances, -1, 0)


def _facing(normals):
    """Return unit normals with z > 0.

    The sign of a normal follows from the crossing, not from z. At a silhouette a normal, which is an average over a few
    voxels, may point slightly away from the viewer. Its mirror image would be wrong by 180°, so it is tilted instead.
    """
    tiny = jnp.finfo(normals.dtype).tiny
    viewer = jnp.array([0, 0, 1], normals.dtype)
    length = jnp.linalg.norm(normals, axis=0)
    normals = jnp.where(length > tiny, normals / jnp.maximum(length, tiny), viewer[:, None, None])
    normals = normals.at[2].set(jnp.maximum(normals[2], _LEAST_NORMAL_Z))
    return normals / jnp.linalg.norm(normals, axis=0)


def _frame(hit: _Hit, camera: Camera):
    toward = jnp.asarray(camera.orientation, hit.points.dtype)[2]
    depth = 0.5 - jnp.einsum("i,ihw->hw", toward, hit.points, precision="highest") / (2 * _RADIUS)
    mask = jnp.where(hit.found, 1, -1).astype(depth.dtype)
    return jnp.stack([mask, *jnp.where(hit.found, jnp.stack([*hit.normals, depth]), 0)], -1)


def _openness(field, isovalue, camera, hit: _Hit, radius, directions, steps):
    x, y, z = hit.normals
    # A basis around each normal that is smooth for z > -1 (Duff et al., "Building an Orthonormal Basis, Revisited").
    a = 1 / (1 + z)
    tangent = jnp.stack([1 - x * x * a, -x * y * a, -x])
    bitangent = jnp.stack([-x * y * a, 1 - y * y * a, -y])
    basis = jnp.stack([tangent, bitangent, hit.normals])
    basis = jnp.einsum("ji,kjhw->kihw", jnp.asarray(camera.orientation, field.dtype), basis, precision="highest")
    voxel = 2 / (min(field.shape) - 1)
    # One voxel above the surface: closer, the facets of the trilinear cells would shadow one another.
    starts = hit.points + voxel * basis[2]

    def occluded(direction):
        ray = jnp.einsum("k,kihw->ihw", direction, basis, precision="highest") * (radius / steps)

        def march(index, blocked):
            points = starts + index * ray
            inside = (jnp.abs(points) <= 1).all(0)
            return blocked | (inside & ((sample(field, points) >= isovalue) != hit.above))

        return jax.lax.fori_loop(1, steps + 1, march, jnp.zeros_like(hit.found))

    def add(count, direction):
        return count + occluded(direction), None

    count, _ = jax.lax.scan(add, jnp.zeros_like(z), jnp.asarray(_cosine_directions(directions), field.dtype))
    return 1 - count / directions


def _cosine_directions(count: int) -> Float[np.ndarray, "count 3"]:
    """Return cosine-weighted directions around +z: a Fibonacci lattice on the disc, projected up (Malley's method)."""
    index = np.arange(count)
    square, turn = (index + 0.5) / count, index * np.pi * (3 - 5**0.5)
    return np.stack([np.sqrt(square) * np.cos(turn), np.sqrt(square) * np.sin(turn), np.sqrt(1 - square)], -1)


def _checked_options(size, radius, directions, steps) -> dict:
    check_positive("size", size)
    check_nonnegative("occlusion_radius", radius)
    check_positive("occlusion_directions", directions)
    check_positive("occlusion_steps", steps)
    return {"size": size, "radius": radius, "directions": directions, "steps": steps}


def check_field(field) -> None:
    """Raise unless `field` is a grid (d, h, w) of floats with at least two voxels along each axis."""
    if not jnp.issubdtype(jnp.result_type(field), jnp.floating):
        raise TypeError(f"field must hold floats, got {jnp.result_type(field)}")
    if np.ndim(field) != 3 or min(np.shape(field)) < 2:
        raise ValueError(f"field must be a grid (d, h, w) of at least 2 voxels per axis, got shape {np.shape(field)}")


def check_range(name: str, values: tuple[float, float], *, positive: bool = False) -> None:
    """Raise unless `values` are (low, high) with low <= high, finite and, if asked for, positive."""
    low, high = values
    if not (low <= high and np.isfinite(high - low) and (low > 0 or not positive)):
        raise ValueError(f"{name} must be a {'positive ' if positive else ''}range (low, high), got {values}")


def _check_scene(field, isovalue, camera: Camera) -> None:
    check_field(field)
    _check_shape("isovalue", isovalue, ())
    for name, shape in _CAMERA_SHAPES.items():
        _check_shape(f"camera.{name}", getattr(camera, name), shape)


def _check_scenes(field, isovalues, cameras: Camera) -> None:
    check_field(field)
    batch = np.shape(isovalues)[:1] or ("b",)
    _check_shape("isovalues", isovalues, batch)
    for name, shape in _CAMERA_SHAPES.items():
        _check_shape(f"cameras.{name}", getattr(cameras, name), (*batch, *shape))


def _check_shape(name: str, value, shape: tuple) -> None:
    if np.shape(value) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {np.shape(value)}")
