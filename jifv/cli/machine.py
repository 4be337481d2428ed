"""Prepare the process for long work: devices, memory, and compiled programs that the next run finds again."""

import ctypes
import os
import sys
from contextlib import suppress

import jax
import typer
from jax.sharding import Mesh

from jifv._core.devices import sample_mesh
from jifv._core.tuning import usable_cores
from jifv.models.files import cache

_MOST_COMPILED = 2**30
"""Bytes of compiled programs to keep. Each holds the weights of its network."""
_TO_KEEP_MEMORY = ((-4, 0), (-1, 2**31 - 1), (-2, 2**28))
"""M_MMAP_MAX, M_TRIM_THRESHOLD and M_TOP_PAD of malloc.h: map no array on its own, keep all memory, and ask for this
many bytes more each time."""


def prepare() -> None:
    """Keep compiled programs and memory, and make every core a device. Call it before JAX computes anything."""
    _keep_compiled()
    _keep_memory()
    _make_devices_of_cores()


def join() -> None:
    """Find the other processes of `--distributed`.

    Raises:
        typer.BadParameter: The environment does not say where they are.
    """
    try:
        jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise typer.BadParameter(
            f"the environment does not say how to find the other processes ({error}); under Slurm, start with srun",
            param_hint="--distributed",
        ) from error


def mesh_of(devices: int | None) -> Mesh:
    """Choose the devices of `--devices`.

    Raises:
        typer.BadParameter: There are fewer.
    """
    try:
        return sample_mesh(devices)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--devices") from error


def of_use(mesh: Mesh, samples: int) -> Mesh:
    """Limit the devices to the samples of a batch: further ones would compute a sample again."""
    if jax.process_count() > 1 or samples >= mesh.size:
        return mesh
    return sample_mesh(mesh.devices.flat[:samples].tolist())


def _keep_compiled() -> None:
    """Keep compiled programs for the next run, unless the user keeps them elsewhere."""
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(cache.folder() / "compiled"))
        jax.config.update("jax_compilation_cache_max_size", _MOST_COMPILED)


def _keep_memory() -> None:
    """Let glibc keep the memory of arrays for the next ones, unless the user has configured it.

    By default it returns large pieces at once, and the kernel clears every page of the next ones: a step of GoogLeNet
    then takes 1.15 times as long for a batch of 8, and 1.6 to 2.2 times for a single sample (benchmarks/fv_step.py).
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    with suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _TO_KEEP_MEMORY:
            mallopt(parameter, value)


def _make_devices_of_cores() -> None:
    """Make every core a device if JAX finds nothing but a CPU.

    As one device, a CPU runs little more than one operation at a time, and most operations on one core. One device of
    two cores takes 1.4 to 1.8 times as long for a step of a batch as two devices (benchmarks/fv_step.py).
    """
    chosen = jax.config.jax_num_cpu_devices >= 0  # pyright: ignore[reportAttributeAccessIssue]
    if chosen or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    with suppress(RuntimeError):  # JAX has started before, in a notebook, say
        jax.config.update("jax_num_cpu_devices", usable_cores())
