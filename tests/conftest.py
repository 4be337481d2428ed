"""What every test file shares: run-time checks of shapes, float64 on request, reference data if any."""

import gc
import importlib.abc
import importlib.metadata
import os
import sys
import tempfile
from pathlib import Path

# The workers of pytest -n share the cores: threads of BLAS and OpenMP would wait for one another, spinning. PyTorch's
# forward pass of DenseNet took fifty times the processor's seconds. Before NumPy is imported, which reads this.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

# Nearly all the time of a test is that of compiling it, once, for a handful of numbers: LLVM need not optimize, and a
# program in one part on the emitters from before MLIR compiles in a third of the time. JAX 0.11 has these no more, and
# XLA ends a process that names an unknown flag. Before JAX is imported, and for the processes that tests start as well.
# What XLA_FLAGS says already comes last and wins, to run the tests with the programs of users:
# XLA_FLAGS="--xla_backend_optimization_level=3 --xla_cpu_use_fusion_emitters=true".
_QUICK = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    _QUICK.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([*_QUICK, os.environ.get("XLA_FLAGS", "")]).strip()

import hypothesis
import jax
import jaxtyping
import matplotlib
import pytest

ROOT = Path(__file__).resolve().parent.parent

matplotlib.use("Agg")
# Nothing that a test compiles goes into the user's cache, nor comes from it: not in the processes that tests start, and
# this one has a cache of its own, as toy experiments make functions anew that were compiled before.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
_compiled = tempfile.TemporaryDirectory(prefix="jifv-tests-")
jax.config.update("jax_enable_compilation_cache", True)
jax.config.update("jax_compilation_cache_dir", _compiled.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
# One device in every process, whichever test is its first: the command would make one of each core.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")
jax.config.update("jax_num_cpu_devices", int(os.environ["JAX_NUM_CPU_DEVICES"]))


# Shapes and types in signatures are checked at run time, in jifv and in jifv.models. As PEP 484 has it, and not as
# beartype does by itself, an int will do where a float is asked for. Not in the two interpreters: they hand programs
# about, hardly ever an array, so often that the checks would take a quarter of the time of all tests.

_CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
_CHECKED = [path.stem for path in (ROOT / "jifv").iterdir() if path.stem not in ("__init__", "_smoothing", "_aten")]
_hook = jaxtyping.install_import_hook([f"jifv.{name}" for name in [*_CHECKED, "models"]], _CHECKER).hook


class _ModelsFromTheTree(importlib.abc.MetaPathFinder):
    """Finds jifv.models in the folder models/.

    An editable install finds it as well, but by a finder of its own, and jaxtyping instruments only what
    Python's finder of files returns: without this class the models' signatures would silently go unchecked.
    """

    def find_spec(self, fullname, path=None, target=None):
        return _hook.find_spec(fullname, [str(ROOT)], target) if fullname == "jifv.models" else None


sys.meta_path.insert(0, _ModelsFromTheTree())


# Compilation makes a first example slow, so there is no deadline. CI draws the same examples every time.

_EXPECTED = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture]
hypothesis.settings.register_profile("local", deadline=None, suppress_health_check=_EXPECTED)
hypothesis.settings.register_profile(
    "ci", deadline=None, suppress_health_check=_EXPECTED, derandomize=True, database=None, print_blob=True
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_finish(session):
    """Leave what was imported and collected out of every later collection of garbage: a seventh of a test's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


def pytest_configure(config):
    # Tests make equal functions anew on purpose; tests/core/test_anew.py expects the warning. Ignored here and not
    # in pyproject.toml, where pytest would import jifv, to find the category, before its types are checked.
    config.addinivalue_line("filterwarnings", "ignore::jifv._core.anew.RecompilationWarning")


@pytest.fixture
def x64():
    """Float64 within one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def unchecked(monkeypatch):
    """No run-time types, so that jifv's own messages are reached as they are for users."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository; JIFV_SHARED names another one."""
    override = os.environ.get("JIFV_SHARED")
    folder = Path(override) if override else ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no reference data: there is no folder ../shared, and JIFV_SHARED names none")
    return folder
