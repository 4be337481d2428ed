import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from jifv.models.training import fields
from jifv.models.training.isosurface import (
    Camera,
    random_camera,
    render,
    render_batch,
    render_surface,
    sample,
)

SIZE = 24
RADIUS = 3**0.5  # of the sphere around the box, over which depth runs
FRONT = Camera(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), np.float32(1))
ABOVE = Camera(np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32), np.zeros(3, np.float32), np.float32(1))


def grid(function, size=SIZE, dtype=np.float32):
    """The field of a function of x, y, z."""
    axis = np.linspace(-1, 1, size)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return function(x, y, z).astype(dtype)


def rays(camera, size=SIZE):
    """Screen coordinates of each pixel in units of the world, from the image's middle: to the right and up."""
    offset = (2 * (np.arange(size) + 0.5) / size - 1) / np.float64(camera.zoom)
    return np.meshgrid(offset, -offset)


def depth_of(z):
    return (1 - z / RADIUS) / 2


def degrees(a, b):
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))


def camera_of(seed, **options):
    return jax.tree.map(np.asarray, random_camera(jax.random.key(seed), **options))


def points_of(frame, camera):
    """Hit points in the world (size, size, 3), from the frame's depth."""
    u, v = rays(camera, len(frame))
    orientation, target = np.float64(camera.orientation), np.float64(camera.target)
    z = RADIUS * (1 - 2 * np.float64(frame[..., 4]))
    right, up = orientation[0] @ target + u, orientation[1] @ target + v
    return np.stack([right, up, z], -1) @ orientation


# The trilinear field.


@settings(max_examples=15)
@given(shape=st.sampled_from([(2, 2, 2), (3, 5, 4), (7, 2, 6)]), seed=st.integers(0, 1000))
def test_sampling_is_that_of_scipy(shape, seed):
    rng = np.random.default_rng(seed)
    field = rng.uniform(size=shape)
    points = rng.uniform(-1.2, 1.2, (3, 20))
    points[:, :3] = rng.choice([-1, 1], (3, 3))  # corners of the box
    indices = (np.clip(points[::-1], -1, 1) + 1) / 2 * (np.array(shape)[:, None] - 1)
    expected = scipy.ndimage.map_coordinates(field, indices, order=1, mode="nearest")
    with jax.enable_x64(True), jax.disable_jit():
        np.testing.assert_allclose(sample(jnp.asarray(field), jnp.asarray(points)), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_have_the_dtype_of_the_field(x64, dtype):
    field, points = np.ones((2, 3, 4), dtype), np.zeros((3, 5, 1, 2), dtype)
    values = jax.eval_shape(sample, field, points)
    assert values.shape == (5, 1, 2)
    assert values.dtype == dtype
    assert jax.eval_shape(lambda: render(field, 0.5, FRONT, size=4)).dtype == dtype
    assert jax.eval_shape(lambda: render_batch(field, np.ones(2), stacked(2), size=4)).dtype == dtype


# Closed forms.

CENTER = np.array([0.2, -0.15, 0.1])
BALL = 0.5
SPHERE = grid(lambda x, y, z: 1 - ((x - CENTER[0]) ** 2 + (y - CENTER[1]) ** 2 + (z - CENTER[2]) ** 2) / 4)
SPHERE_ISOVALUE = np.float32(1 - BALL**2 / 4)


@pytest.mark.parametrize("hollow", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sphere(seed, hollow):
    """Off the middle, so that a mirrored or transposed image would show.

    Trilinear interpolation errs by up to 3 h² / 16 on this field, h a voxel, and depth at 0.8 radii by 0.0027 then.
    """
    camera = camera_of(seed, offset=0.2, zoom=(1.2, 1.4))
    field, isovalue = (-SPHERE, -SPHERE_ISOVALUE) if hollow else (SPHERE, SPHERE_ISOVALUE)
    frame = np.asarray(render(field, isovalue, camera, size=SIZE))
    mask, normal, depth, occlusion = frame[..., 0], frame[..., 1:4], frame[..., 4], frame[..., 5]

    u, v = rays(camera)
    middle = camera.orientation @ (CENTER - camera.target)
    squares = (u - middle[0]) ** 2 + (v - middle[1]) ** 2
    assert (mask[squares < (0.98 * BALL) ** 2] == 1).all()
    assert (mask[squares > (1.02 * BALL) ** 2] == -1).all()
    assert (squares < BALL**2).sum() > 100

    hit = squares < (0.8 * BALL) ** 2
    z = np.sqrt(BALL**2 - squares[hit])
    expected = np.stack([u[hit] - middle[0], v[hit] - middle[1], z], -1) / BALL
    assert degrees(normal[hit], expected).max() < 1
    middle_z = (camera.orientation @ CENTER)[2]
    np.testing.assert_allclose(depth[hit], depth_of(middle_z + z), atol=3e-3)
    np.testing.assert_array_equal(occlusion, 1)  # convex from outside


def test_outside_the_mask():
    frame = np.asarray(render(np.full((SIZE,) * 3, 0.3, np.float32), 0.5, FRONT, size=SIZE))
    np.testing.assert_array_equal(frame, np.broadcast_to(np.float32([-1, 0, 0, 0, 0, 1]), frame.shape))


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_plane(seed):
    """Linear, so that only the bisection errs."""
    rng = np.random.default_rng(seed)
    slope, level = rng.normal(size=3), rng.uniform(-0.2, 0.2)
    slope /= np.linalg.norm(slope)
    field = grid(lambda x, y, z: slope[0] * x + slope[1] * y + slope[2] * z)
    camera = camera_of(seed, offset=0.1, zoom=(1.5, 1.5))
    frame = np.asarray(render(field, np.float32(level), camera, size=SIZE))
    normal = camera.orientation @ slope
    assert abs(normal[2]) > 0.15  # or there would be nothing to see

    u, v = rays(camera)
    right, up, _ = camera.orientation @ camera.target
    z = (level - normal[0] * (right + u) - normal[1] * (up + v)) / normal[2]
    world = np.stack([right + u, up + v, z], -1) @ camera.orientation
    outside = np.abs(world).max(-1)
    assert (frame[..., 0][outside < 0.999] == 1).all()
    assert (frame[..., 0][outside > 1.001] == -1).all()
    hit = outside < 0.999
    assert hit.mean() > 0.3
    np.testing.assert_allclose(frame[hit][:, 4], depth_of(z[hit]), atol=2e-5)
    assert degrees(frame[hit][:, 1:4], normal * np.sign(normal[2])).max() < 0.1
    np.testing.assert_array_equal(frame[..., 5], 1)


def test_screen_axes():
    """Uphill to the right, to the top, and toward the viewer."""
    for axis, expected in enumerate(np.eye(3)):
        tilt = 0.3 * expected
        field = grid(lambda x, y, z, tilt=tilt: -z - tilt[0] * x - tilt[1] * y)
        frame = np.asarray(render_surface(field, 0.0, FRONT, size=SIZE))
        normal = np.array([tilt[0], tilt[1], 1]) / np.linalg.norm([tilt[0], tilt[1], 1])
        assert degrees(frame[12, 12, 1:4], normal) < 0.1, axis
    columns = frame[12, :, 4], frame[:, 12, 4]
    for line in columns:
        np.testing.assert_allclose(line, 0.5, atol=1e-4)


def test_nearer_is_less_deep():
    near, far = (
        np.asarray(render_surface(grid(lambda x, y, z, level=level: level - z), 0.0, FRONT, size=SIZE))[..., 4]
        for level in (0.5, -0.5)
    )
    np.testing.assert_allclose(near, depth_of(0.5), atol=1e-4)
    np.testing.assert_allclose(far, depth_of(-0.5), atol=1e-4)
    assert near.max() < far.min()


def test_occlusion_in_a_corner():
    """A wall at distance d blocks ω with d / ω_x < R. Projected on the floor, cosine-weighted directions are uniform in
    the unit disc, and those blocked fill its segment beyond d / R, of share (acos a - a √(1 - a²)) / π."""
    radius, edge = 0.8, -0.5
    field = grid(lambda x, y, z: np.maximum(edge - x, edge - y))
    options = {"occlusion_radius": radius, "occlusion_directions": 200, "occlusion_steps": 40}
    frame = np.asarray(render(field, 0.0, ABOVE, size=SIZE, **options))
    u, _ = rays(ABOVE)
    distance = u[0] - edge
    row = frame[SIZE // 2]  # through the middle: far from the ends of the wall
    floor = distance > 0.1
    assert (row[floor, 0] == 1).all()
    np.testing.assert_allclose(row[floor, 4], depth_of(edge), atol=1e-4)

    a = np.clip(distance / radius, 0, 1)
    expected = 1 - (np.arccos(a) - a * np.sqrt(1 - a**2)) / np.pi
    np.testing.assert_allclose(row[floor, 5], expected[floor], atol=0.03)
    assert expected[floor].min() < 0.6
    assert (expected[floor] == 1).any()


# Any field, against another renderer.

ROUGH = np.asarray(fields.fractal_noise(jax.random.key(7), SIZE, octaves=2))


@pytest.mark.parametrize("seed", [0, 1])
def test_first_crossing_is_that_of_a_fine_march(seed):
    camera = camera_of(seed)
    frame = np.asarray(render_surface(ROUGH, 0.5, camera, size=SIZE))
    u, v = rays(camera)
    orientation = np.float64(camera.orientation)
    t = np.linspace(RADIUS, -RADIUS, 3000)
    x, y = orientation[0] @ camera.target + u, orientation[1] @ camera.target + v
    screen = np.stack(np.broadcast_arrays(x[..., None], y[..., None], t), -1)
    points = screen @ orientation
    values = scipy.ndimage.map_coordinates(np.float64(ROUGH), (points[..., ::-1].T + 1) / 2 * (SIZE - 1), order=1).T
    inside = (np.abs(points) <= 1).all(-1)
    crossed = (np.diff(values > 0.5, axis=-1)) & inside[..., 1:] & inside[..., :-1]
    mask = crossed.any(-1)
    depth = depth_of(t[1:][crossed.argmax(-1)])
    assert 0.2 < mask.mean() < 1
    assert ((frame[..., 0] > 0) == mask).mean() > 0.99
    close = np.abs(frame[..., 4] - depth)[mask] < 1e-3
    assert close.mean() > 0.98


def test_the_surface_is_at_the_isovalue(x64):
    """To what 12 bisections of half a voxel leave."""
    field = np.float64(ROUGH)
    camera = jax.tree.map(np.float64, camera_of(2))
    frame = np.asarray(render_surface(field, 0.55, camera, size=SIZE))
    assert frame.dtype == np.float64
    hit = frame[..., 0] > 0
    assert hit.mean() > 0.2
    points = points_of(frame, camera)[hit]
    assert np.abs(points).max() < 1 + 1e-9
    values = scipy.ndimage.map_coordinates(field, (points[:, ::-1].T + 1) / 2 * (SIZE - 1), order=1, mode="nearest")
    steepest = max(np.abs(np.diff(field, axis=axis)).max() for axis in range(3)) * 3**0.5  # a voxel
    assert np.abs(values - 0.55).max() < steepest * 0.5 / 2**12


def test_the_surface_has_two_sides():
    camera = camera_of(3)
    frame, turned = (np.asarray(render(f, i, camera, size=SIZE)) for f, i in ((ROUGH, 0.5), (-ROUGH, -0.5)))
    assert (frame[..., 0] > 0).mean() > 0.1
    np.testing.assert_allclose(frame, turned, atol=1e-4)


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), isovalue=st.floats(0.3, 0.7))
def test_ranges_of_the_channels(seed, isovalue):
    frame = np.asarray(render(ROUGH, np.float32(isovalue), camera_of(seed), size=SIZE))
    assert np.isfinite(frame).all()
    hit = frame[..., 0] > 0
    assert set(np.unique(frame[..., 0])) <= {-1, 1}
    np.testing.assert_allclose(np.linalg.norm(frame[hit][:, 1:4], axis=-1), 1, atol=1e-5)
    assert (frame[hit][:, 3] > 0).all()
    assert ((frame[..., 4:] >= 0) & (frame[..., 4:] <= 1)).all()
    assert (frame[~hit][:, 1:5] == 0).all()
    assert (frame[~hit][:, 5] == 1).all()


def test_a_pixel_is_the_ray_through_its_middle():
    camera = camera_of(1)
    fine, coarse = (np.asarray(render_surface(ROUGH, 0.5, camera, size=size)) for size in (SIZE, SIZE // 3))
    np.testing.assert_allclose(fine[1::3, 1::3], coarse, atol=1e-3)


def test_an_axis_may_have_another_length():
    """A plane in a grid of one voxel's difference along x."""
    z, y, x = np.meshgrid(np.linspace(-1, 1, 4), np.linspace(-1, 1, 9), np.linspace(-1, 1, 2), indexing="ij")
    frame = np.asarray(render_surface((0.4 * x - 0.2 * y - z).astype(np.float32), 0.1, FRONT, size=4))
    u, v = rays(FRONT, 4)
    np.testing.assert_allclose(frame[..., 4], depth_of(0.4 * u - 0.2 * v - 0.1), atol=1e-4)
    normal = np.array([-0.4, 0.2, 1])
    assert degrees(frame[..., 1:4], normal).max() < 0.1


# Batches, compilation, keys.


def test_a_batch_is_its_single_frames():
    isovalues = np.float32([0.4, 0.5, 0.6])
    cameras = [camera_of(seed) for seed in range(3)]
    batch = render_batch(ROUGH, isovalues, jax.tree.map(lambda *leaves: np.stack(leaves), *cameras), size=SIZE)
    assert batch.shape == (3, SIZE, SIZE, 6)
    for index in range(3):
        single = np.asarray(render(ROUGH, isovalues[index], cameras[index], size=SIZE))
        # Rounding decides the few rays that graze the surface.
        assert np.isclose(batch[index], single, atol=1e-4).mean() > 0.995


def test_the_frame_begins_with_the_surface():
    camera = camera_of(2)
    surface, frame = render_surface(ROUGH, 0.5, camera, size=SIZE), render(ROUGH, 0.5, camera, size=SIZE)
    assert surface.shape == (SIZE, SIZE, 5)
    np.testing.assert_allclose(frame[..., :5], surface, atol=1e-4)


def test_within_another_function():
    """Jitted by its caller, with everything an argument."""
    camera = camera_of(0)
    frame = jax.jit(lambda *scene: render_surface(*scene, size=SIZE))(ROUGH, 0.5, camera)
    assert (frame[..., 0] > 0).any()
    np.testing.assert_allclose(frame, render_surface(ROUGH, 0.5, camera, size=SIZE), atol=1e-4)


def test_random_cameras():
    draw = jax.jit(jax.vmap(lambda key: random_camera(key, zoom=(0.5, 2.0), offset=0.25)))
    cameras = draw(jax.random.split(jax.random.key(0), 400))
    products = np.einsum("bij,bkj->bik", cameras.orientation, cameras.orientation)
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(3), products.shape), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(cameras.orientation), 1, atol=1e-5)
    np.testing.assert_allclose(np.mean(cameras.orientation, 0), 0, atol=0.12)  # uniform: 4 standard deviations
    assert np.abs(cameras.target).max() <= 0.25
    assert np.ptp(cameras.target) > 0.45
    assert 0.5 <= np.min(cameras.zoom) < 0.55
    assert 1.8 < np.max(cameras.zoom) <= 2
    assert abs(np.mean(np.log(cameras.zoom))) < 0.08


# Errors.


def stacked(count):
    return jax.tree.map(lambda leaf: np.stack([leaf] * count), FRONT)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: render(ROUGH[0], 0.5, FRONT), ValueError, r"field must be a grid.*got shape \(24, 24\)"),
        (lambda: render(ROUGH[:1], 0.5, FRONT), ValueError, "field must be a grid.*at least 2 voxels"),
        (lambda: render(ROUGH > 0.5, 0.5, FRONT), TypeError, "field must hold floats, got bool"),
        (lambda: render(ROUGH, np.zeros(2), FRONT), ValueError, r"isovalue must have shape \(\), got \(2,\)"),
        (lambda: render(ROUGH, 0.5, stacked(2)), ValueError, r"camera.orientation must have shape \(3, 3\)"),
        (lambda: render(ROUGH, 0.5, FRONT._replace(zoom=np.ones(3))), ValueError, "camera.zoom must have shape"),
        (lambda: render(ROUGH, 0.5, FRONT, size=0), ValueError, "size must be at least 1"),
        (lambda: render(ROUGH, 0.5, FRONT, occlusion_radius=-1), ValueError, "occlusion_radius must be finite"),
        (lambda: render(ROUGH, 0.5, FRONT, occlusion_directions=0), ValueError, "occlusion_directions must be at"),
        (lambda: render(ROUGH, 0.5, FRONT, occlusion_steps=1.5), TypeError, "occlusion_steps must be a positive"),
        (lambda: render_batch(ROUGH, 0.5, FRONT), ValueError, r"isovalues must have shape \('b',\), got \(\)"),
        (
            lambda: render_batch(ROUGH, np.zeros(3), stacked(2)),
            ValueError,
            r"cameras.orientation must have shape \(3, 3, 3\), got \(2, 3, 3\)",
        ),
        (lambda: render_surface(ROUGH, 0.5, FRONT, size=-3), ValueError, "size must be at least 1"),
        (lambda: random_camera(jax.random.key(0), zoom=(0, 1)), ValueError, "zoom must be a positive range"),
        (lambda: random_camera(jax.random.key(0), zoom=(2, 1)), ValueError, "zoom must be a positive range"),
        (lambda: random_camera(jax.random.key(0), offset=-1), ValueError, "offset must be finite and >= 0"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
