"""Scalar fields for isosurfaces: float32 grids (d, h, w), indexed [z, y, x], with values in [0, 1].

The analytic fields sample the box [-1, 1]³, with the outermost voxels on its faces: data can be rendered without a
download. `read_volumes` reads measured fields from a file.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jifv._core.check import check_nonnegative, check_positive


def marschner_lobb(size: int = 64, *, frequency: float = 6.0, amplitude: float = 0.25) -> Float[Array, "s s s"]:
    """Sample the test signal of Marschner and Lobb ("An Evaluation of Reconstruction Filters", 1994, equation 3).

    ρ(x, y, z) = (1 - sin(πz/2) + α (1 + cos(2π f cos(π √(x² + y²) / 2)))) / (2 (1 + α)): rings of ripples.

    Args:
        size: Voxels along each axis.
        frequency: Frequency f of the ripples.
        amplitude: Amplitude α of the ripples.

    Raises:
        TypeError: `size` is not an integer, or another argument not a number.
        ValueError: `size` is less than 2, or another argument negative or not finite.
    """
    _check_size(size)
    check_nonnegative("frequency", frequency)
    check_nonnegative("amplitude", amplitude)
    x, y, z = _coordinates(size)
    ripples = jnp.cos(2 * jnp.pi * frequency * jnp.cos(jnp.pi * jnp.hypot(x, y) / 2))
    return (1 - jnp.sin(jnp.pi * z / 2) + amplitude * (1 + ripples)) / (2 * (1 + amplitude))


def gyroid(size: int = 64, *, periods: float = 2.0, key: PRNGKeyArray | None = None) -> Float[Array, "s s s"]:
    """Sample the gyroid (Schoen, NASA TN D-5541, 1970) by its trigonometric approximation; its isovalue is 1/2.

    ½ + (sin u cos v + sin v cos w + sin w cos u) / 3 with (u, v, w) = π · periods · (x, y, z) + phases.

    Args:
        size: Voxels along each axis.
        periods: Number of periods along each side of the box.
        key: Draws the three phases; None for phases of zero.

    Raises:
        TypeError: `size` is not an integer, or `periods` not a number.
        ValueError: `size` is less than 2, or `periods` negative or not finite.
    """
    _check_size(size)
    check_nonnegative("periods", periods)
    phases = jnp.zeros(3) if key is None else jax.random.uniform(key, (3,), jnp.float32, 0, 2 * jnp.pi)
    u, v, w = (
        jnp.pi * periods * axis + phase.astype(jnp.float32)
        for axis, phase in zip(_coordinates(size), phases, strict=True)
    )
    return 0.5 + (jnp.sin(u) * jnp.cos(v) + jnp.sin(v) * jnp.cos(w) + jnp.sin(w) * jnp.cos(u)) / 3


def metaballs(key: PRNGKeyArray, size: int = 64, *, count: int = 12) -> Float[Array, "s s s"]:
    """Sample random blobs (Blinn, "A Generalization of Algebraic Surface Drawing", 1982).

    Σᵢ exp(-|x - cᵢ|² / (2σᵢ²)), divided by its maximum over the voxels. The centres cᵢ are uniform in [-0.8, 0.8]³, the
    radii σᵢ in [0.1, 0.25].

    Args:
        key: Draws centres and radii.
        size: Voxels along each axis.
        count: Number of blobs.

    Raises:
        TypeError: `size` or `count` is not an integer.
        ValueError: `size` is less than 2, or `count` less than 1.
    """
    _check_size(size)
    check_positive("count", count)
    key_centers, key_radii = jax.random.split(key)
    centers = jax.random.uniform(key_centers, (count, 3), jnp.float32, -0.8, 0.8)
    radii = jax.random.uniform(key_radii, (count,), jnp.float32, 0.1, 0.25)
    # A Gaussian is a product over the axes: three small factors instead of `count` grids.
    axis = jnp.linspace(-1, 1, size, dtype=jnp.float32)
    factors = jnp.exp(-((axis - centers[..., None]) ** 2) / (2 * radii[:, None, None] ** 2))
    total = jnp.einsum("ix,iy,iz->zyx", factors[:, 0], factors[:, 1], factors[:, 2], precision="highest")
    return total / total.max()


def fractal_noise(
    key: PRNGKeyArray, size: int = 64, *, octaves: int = 4, cells: int = 3, persistence: float = 0.5
) -> Float[Array, "s s s"]:
    """Sample fractional Brownian motion: octaves of lattice noise (Ebert et al., "Texturing and Modeling", chapter 2).

    Octave i is a uniform random lattice of cells · 2ⁱ cells along each axis, interpolated by cubic B-splines and
    weighted by persistenceⁱ. The sum is stretched to [0, 1].

    Args:
        key: Draws the lattices.
        size: Voxels along each axis.
        octaves: Number of octaves.
        cells: Cells of the coarsest lattice along each axis.
        persistence: Weight of each octave relative to the previous one.

    Raises:
        TypeError: `size`, `octaves` or `cells` is not an integer, or `persistence` not a number.
        ValueError: `size` is less than 2, `octaves` or `cells` less than 1, or `persistence` negative or not finite.
    """
    _check_size(size)
    check_positive("octaves", octaves)
    check_positive("cells", cells)
    check_nonnegative("persistence", persistence)
    return _fractal_noise(key, persistence, size=size, octaves=octaves, cells=cells)


def read_volumes(path: str | Path, *, longest: int | None = None) -> dict[str, Float[np.ndarray, "d h w"]]:
    """Read an `.npz` of uint8 volumes, scaled by 1 / 255.

    Args:
        path: The file, with one volume (d, h, w) per name.
        longest: Maximum number of voxels along an axis. A larger volume is reduced by the smallest sufficient integer
            factor; each voxel is then the mean of a block, which avoids aliasing. None keeps every voxel.

    Returns:
        Name → float32 grid.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: `longest` is not an integer, or a volume not uint8.
        ValueError: `longest` is less than 1, an array does not have three axes, or the factor does not divide one.
    """
    if longest is not None:
        check_positive("longest", longest)
    with np.load(path, allow_pickle=False) as pack:
        return {name: _reduce(name, pack[name], longest) for name in pack.files}


@partial(jax.jit, static_argnames=("size", "octaves", "cells"))
def _fractal_noise(key, persistence, *, size, octaves, cells):
    lengths = [cells * 2**octave + 3 for octave in range(octaves)]  # a cell's cubic reaches one node beyond its two
    # All numbers at once: random numbers take longer to compile than everything else.
    stops = np.cumsum([nodes**3 for nodes in lengths])
    numbers = jnp.split(jax.random.uniform(key, (int(stops[-1]),), jnp.float32), stops[:-1])
    total = jnp.zeros((size,) * 3, jnp.float32)
    for octave, (nodes, lattice) in enumerate(zip(lengths, numbers, strict=True)):
        smooth = lattice.reshape((nodes,) * 3)
        position = jnp.linspace(1, nodes - 2, size, dtype=jnp.float32)
        weights = _cubic_b_spline(position[:, None] - jnp.arange(nodes, dtype=jnp.float32))
        for _ in range(3):  # each pass interpolates the first axis and moves it to the end
            smooth = jnp.einsum("zi,ijk->jkz", weights, smooth, precision="highest")
        total = total + persistence**octave * smooth
    return (total - total.min()) / (total.max() - total.min())


def _reduce(name: str, volume: np.ndarray, longest: int | None) -> np.ndarray:
    if volume.dtype != np.uint8:
        raise TypeError(f"volume {name} must be uint8, got {volume.dtype}")
    if volume.ndim != 3:
        raise ValueError(f"volume {name} must have three axes, got shape {volume.shape}")
    factor = 1 if longest is None else -(-max(volume.shape) // longest)
    if any(length % factor for length in volume.shape):
        raise ValueError(
            f"volume {name} must have axes that {factor} divides, to be reduced to longest = {longest}, "
            f"got shape {volume.shape}"
        )
    d, h, w = (length // factor for length in volume.shape)
    blocks = volume.reshape(d, factor, h, factor, w, factor)
    return (blocks.mean((1, 3, 5), dtype=np.float32) / np.float32(255)).astype(np.float32)


def _check_size(size: int) -> None:
    check_positive("size", size)
    if size < 2:
        raise ValueError(f"size must be at least 2, one voxel on each face of the box, got {size}")


def _coordinates(size: int):
    """Return x, y and z of the voxels, in shapes that broadcast to the grid."""
    axis = jnp.linspace(-1, 1, size, dtype=jnp.float32)
    return axis, axis[:, None], axis[:, None, None]


def _cubic_b_spline(t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    t = jnp.abs(t)
    return jnp.where(t < 1, 2 / 3 - t**2 + t**3 / 2, jnp.maximum(2 - t, 0) ** 3 / 6)
