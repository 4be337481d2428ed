import os
import platform
import subprocess
import sys
import textwrap

import jax
import pytest

from jifv.cli import machine

KEPT = ("jax_compilation_cache_dir", "jax_compilation_cache_max_size")


@pytest.mark.parametrize(
    ("chosen", "devices", "kept"),
    [
        ({}, 3, True),
        ({"JAX_NUM_CPU_DEVICES": "2", "MALLOC_ARENA_MAX": "4"}, 2, False),
        pytest.param({"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}, 4, True, marks=pytest.mark.slow),
    ],
)
def test_memory_is_kept_and_each_core_is_a_device_unless_the_user_says_otherwise(chosen, devices, kept):
    """Both in one process, because it takes seconds to start."""
    program = """
        import os, resource
        os.sched_getaffinity = lambda process: {0, 1, 2}
        import numpy as np, jax, jifv.cli.machine
        def pages():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            np.ones(2**23)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        jifv.cli.machine._keep_memory()
        pages()
        print(pages())
        jifv.cli.machine._make_devices_of_cores()
        print(jax.device_count())
        jifv.cli.machine._make_devices_of_cores()  # too late, and no error
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS") and not name.startswith("MALLOC_")
    }
    # NumPy asks for pages of 2 MiB, of which an array has too few to count.
    environment |= {"JAX_PLATFORMS": "cpu", "NUMPY_MADVISE_HUGEPAGE": "0"} | chosen
    command = [sys.executable, "-c", textwrap.dedent(program)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    faults, count = map(int, result.stdout.split())
    assert count == devices
    if platform.libc_ver()[0] == "glibc":  # and not the memory of another C library
        assert (faults < 100) == kept


@pytest.mark.parametrize("own", [None, "elsewhere"])
def test_compiled_programs_are_kept_beside_the_networks_unless_the_user_keeps_them(own, tmp_path, monkeypatch):
    monkeypatch.setenv("JIFV_CACHE", str(tmp_path))
    before = {option: getattr(jax.config, option) for option in KEPT}
    jax.config.update("jax_compilation_cache_dir", own)
    try:
        machine.prepare()
        assert jax.config.jax_compilation_cache_dir == (own or str(tmp_path / "compiled"))
    finally:
        for option, value in before.items():
            jax.config.update(option, value)
