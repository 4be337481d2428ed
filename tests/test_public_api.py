"""What a user sees first: names, docstrings, signatures, a quiet import."""

import importlib.metadata
import inspect
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import jifv

ROOT = Path(__file__).resolve().parent.parent
NAMES = list(jifv.__all__)
FUNCTIONS = [name for name in NAMES if inspect.isfunction(getattr(jifv, name, None))]
CLASSES = [name for name in NAMES if inspect.isclass(getattr(jifv, name, None))]


def import_in_a_fresh_process(code, **environment):
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_no_name_twice():
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_public_name_exists(name):
    assert hasattr(jifv, name)


def test_every_name_in_the_namespace_is_declared():
    undeclared = [
        name
        for name, value in vars(jifv).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name not in NAMES
    ]
    assert undeclared == []


@pytest.mark.parametrize("name", FUNCTIONS + CLASSES)
def test_docstring(name):
    doc = inspect.getdoc(getattr(jifv, name))
    assert doc
    # What dataclass and NamedTuple write where the author wrote nothing.
    assert not doc.startswith(f"{name}(")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_and_the_result_carry_a_type(name):
    signature = inspect.signature(getattr(jifv, name))
    bare = [p.name for p in signature.parameters.values() if p.annotation is inspect.Parameter.empty]
    assert bare == []
    assert signature.return_annotation is not inspect.Signature.empty


def test_anything_else_is_a_module_or_an_alias_of_a_type():
    others = {name: getattr(jifv, name) for name in NAMES if name not in [*FUNCTIONS, *CLASSES]}
    values = [name for name, it in others.items() if not inspect.ismodule(it) and typing.get_origin(it) is None]
    assert values == []


def test_import_leaves_the_filters_of_warnings_alone():
    # Importing JAX and the others first, so that only jifv's own doing is seen.
    code = (
        "import warnings, jax, flax.linen, optax, dm_pix\n"
        "before = list(warnings.filters)\n"
        "import jifv\n"
        "assert warnings.filters == before"
    )
    result = import_in_a_fresh_process(code)
    assert result.returncode == 0, result.stderr


def test_import_is_quiet_and_touches_no_device_and_leaves_the_heavy_ones_out():
    # An array made at import time would start the backend: memory of a GPU taken, JAX no longer configurable.
    code = """if True:
        import sys, jifv
        print([m for m in ("torch", "matplotlib", "typer", "PIL", "jaxopt", "scipy.optimize") if m in sys.modules])
        import jifv.cli
        print([m for m in ("torch", "matplotlib", "jaxopt", "scipy.optimize") if m in sys.modules])
    """
    result = import_in_a_fresh_process(code, JAX_PLATFORMS="there_is_no_such_platform")
    assert (result.returncode, result.stdout, result.stderr) == (0, "[]\n[]\n", "")
    # The check above is only worth something while JAX fails for such a platform as soon as it is used.
    used = import_in_a_fresh_process("import jax.numpy; jax.numpy.zeros(1)", JAX_PLATFORMS="there_is_no_such_platform")
    assert used.returncode != 0


def test_version_is_that_of_the_package():
    assert jifv.__version__ == importlib.metadata.version("jifv")
    with pytest.raises(AttributeError, match="'jifv' has no attribute 'nothing'"):
        _ = jifv.nothing
