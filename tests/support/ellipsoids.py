"""Frames of ellipsoids in closed form, and pairs of them to train on."""

import numpy as np

from jifv.models.training.pairs import Pairs


def ellipsoid(side, orientation, radii=(0.9, 0.6, 0.4), centre=(0.2, -0.1, 0.0), channels=6):
    """An orthographic frame of an ellipsoid in float64, in closed form; ``orientation`` acts on the geometry first.

    The image shows [-1, 1]², x to the right and y up. Instead of ambient occlusion the last channel holds a number that
    sticks to the surface and differs between all of its symmetric points.
    """
    grid = (np.arange(side) + 0.5) * 2 / side - 1
    x, y = np.meshgrid(grid, -grid)
    matrix = orientation @ np.diag(np.power(radii, -2.0)) @ orientation.T
    x0, y0, z0 = orientation @ np.asarray(centre)
    dx, dy = x - x0, y - y0
    # matrix quadratic form = 1, solved for z.
    a = matrix[2, 2]
    b = 2 * (matrix[0, 2] * dx + matrix[1, 2] * dy)
    c = matrix[0, 0] * dx**2 + 2 * matrix[0, 1] * dx * dy + matrix[1, 1] * dy**2 - 1
    inside = b**2 - 4 * a * c > 0
    dz = (-b + np.sqrt(np.where(inside, b**2 - 4 * a * c, 0))) / (2 * a)
    points = np.stack([dx, dy, dz], -1)
    normals = points @ matrix
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    body = points @ orientation
    frame = np.stack(
        [
            np.where(inside, 1, -1),
            *np.where(inside, np.moveaxis(normals, -1, 0), 0),
            np.where(inside, 0.5 - (dz + z0) / 4, 0),
            np.where(inside, 0.5 + body @ [0.2, 0.1, 0.05], 1),
        ],
        -1,
    )
    return np.float32(frame[..., :channels])


def tiny_pairs(count=12, side=8, seed=0):
    """Ellipsoids from all sides, 8×8 → 32×32."""
    rng = np.random.default_rng(seed)
    rotations = [np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(count)]
    low = np.stack([ellipsoid(side, rotation, channels=5) for rotation in rotations])
    high = np.stack([ellipsoid(4 * side, rotation) for rotation in rotations])
    return Pairs(low.astype(np.float16), high.astype(np.float16), np.array([f"field{i % 2}" for i in range(count)]))
