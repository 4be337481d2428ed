"""Prepare the process for long work: devices, memory, and compiled programs that the next run finds again."""

import ctypes
import os
import sys
from contextlib import suppress

import jax

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
