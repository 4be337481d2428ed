"""What is chosen by the device and not by the mathematics: every constant of it, and the one way to ask for the device.

Each number was measured by the benchmark that its comment names.
"""

import os
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jifv._core.devices import check_mesh

# Backward passes of one Jacobian at once: on a CPU more only outgrow the caches. All at once, SRNet takes 1.4 and
# DenseNet 1.9 times as long (benchmarks/jacobian.py).
_ROWS_ON_CPU, _ROWS_ELSEWHERE = 4, 64

# Samples whose network is computed at once on a CPU, and entries of p in all of them; more outgrow its caches. Of 1, 2,
# 4, 8 and all, 4 are best at 32×32 (DenseNet takes 0.8 of the time that all of 32 take at once) and 64×64, 2 at
# 112×112, 1 at 224×224 (benchmarks/fv_step.py).
_SAMPLES_ON_CPU = 4
_ENTRIES_ON_CPU = 80_000

# Columns of a block in the QR decomposition of a wide matrix with n rows on a CPU: the triangles to be decomposed again
# are so many times smaller than the matrix (benchmarks/inversion.py).
_BLOCK_PER_ROW = 16
_LEAST_BLOCK = 2048

_PRODUCTS_BY_EIGEN = {"xla_cpu_experimental_ynn_fusion_type": ""}

# Sums by YNNPACK are wrong in JAX 0.10, under `jax.vmap` at least: in the Jacobian of two layer normalizations in a row
# four rows and more lose a digit, all but the first, and those of a whole transformer are off by a third.
_PRODUCTS = ("LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT", "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION")
_SUMS_BY_XLA = {"xla_cpu_experimental_ynn_fusion_type": ",".join(_PRODUCTS)}
_SUMS_ARE_WRONG = jax.__version_info__ < (0, 11)


def platform(mesh: Mesh | None = None) -> str:
    """Return the name of the platform that computes, such as "cpu" or "gpu".

    Args:
        mesh: The devices; None for the default one, also within `jax.default_device`, which `jax.default_backend`
            does not see.
    """
    device: Any = jax.config.jax_default_device if mesh is None else mesh.devices.flat[0]  # pyright: ignore
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


def rows_at_once() -> int:
    """Return the number of backward passes of one Jacobian to run at once."""
    return _ROWS_ON_CPU if platform() == "cpu" else _ROWS_ELSEWHERE


def samples_at_once(samples: int, entries: int) -> int:
    """Return the number of samples of a batch to compute at once, each with so many entries of p."""
    if platform() != "cpu":
        return samples
    return max(1, min(samples, _SAMPLES_ON_CPU, _ENTRIES_ON_CPU // max(1, entries)))


def block_width(rows: int) -> int:
    """Return the columns of a block in the QR decomposition of a wide matrix on a CPU."""
    return max(_BLOCK_PER_ROW * rows, _LEAST_BLOCK)


def usable_cores() -> int:
    """Count the machine's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compiler_options(mesh: Mesh | None = None) -> dict[str, str] | None:
    """Return XLA's compiler options for these devices, for the argument `compiler_options` of `jax.jit`.

    Where a CPU has more cores than these devices, Eigen computes matrix products and convolutions. YNNPACK, XLA's
    choice, shares them between cores only if their sums have some thousand terms; those of our networks mostly stay
    on one core. A step of one sample then takes two cores 1.4 to 1.5 times as long with JAX 0.10, and 1.05 to 1.2
    times with 0.12 (benchmarks/fv_step.py). With as many devices as cores YNNPACK is as fast or faster.

    On CPUs JAX 0.10 needs these options for right results, too: its YNNPACK makes mistakes in the sums of a Jacobian,
    as in `jax.jit(jax.jacrev(f))`, of networks with layer normalization.

    Args:
        mesh: The devices, see `sample_mesh`; None for the default one.

    Returns:
        The options; None for XLA's defaults, also where this XLA does not know the options.
    """
    check_mesh(mesh)
    devices = jax.local_devices()[:1] if mesh is None else mesh.local_devices
    if devices[0].platform != "cpu":
        return None
    if len(devices) >= usable_cores():
        return _SUMS_BY_XLA if _SUMS_ARE_WRONG and _known_to_xla() else None
    return _PRODUCTS_BY_EIGEN if _known_to_xla() else None


@cache
def _known_to_xla() -> bool:
    try:
        jax.jit(jnp.negative, compiler_options=_PRODUCTS_BY_EIGEN).lower(1.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
