"""What computed a result: the version and commit of the code, the machine, and the packages."""

import os
import platform
import re
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("jifv", "jax", "jaxlib", "flax", "optax", "jaxopt", "numpy", "dm-pix")
"""Packages whose versions can change a number."""

_CODE = (":/", *(f":(top,exclude){path}" for path in ("docs", "benchmarks/results", "*.md")))
"""What can change a number, as Git names paths: everything but words and results."""


class Commit(NamedTuple):
    """The state of the checkout that jifv runs from.

    Attributes:
        commit: Hash of the commit.
        dirty: Whether tracked files differ from it.
    """

    commit: str
    dirty: bool

    def __str__(self) -> str:
        """Give the hash, and say where the files differ from it."""
        return self.commit + ("-dirty" if self.dirty else "")


class Provenance(NamedTuple):
    """What computed a result.

    Attributes:
        version: Version of jifv.
        commit: Hash of the commit that jifv runs from; None where it is not in a checkout.
        dirty: Whether tracked files differ from that commit; None where there is none.
        cpu: Model of the CPU.
        python: Version of Python.
        packages: Versions of `PACKAGES`.
    """

    version: str
    commit: str | None
    dirty: bool | None
    cpu: str
    python: str
    packages: dict[str, str]


def provenance() -> Provenance:
    """Describe this process: its code, its machine, its packages."""
    found = commit()
    return Provenance(
        version=metadata.version("jifv"),
        commit=found.commit if found else None,
        dirty=found.dirty if found else None,
        cpu=cpu(),
        python=platform.python_version(),
        packages={package: metadata.version(package) for package in PACKAGES},
    )


@cache
def commit(file: Path = Path(__file__)) -> Commit | None:
    """Find the commit of the checkout that tracks a file, as it is at the first call in a process.

    Args:
        file: A file of the code in question.

    Returns:
        The commit, or None if no checkout tracks the file: an installed copy may lie below somebody else's.
    """
    try:
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        changes = _git(file.parent, "status", "--porcelain", "--untracked-files=no", "--", *_CODE)
        return Commit(_git(file.parent, "rev-parse", "HEAD"), bool(changes))
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def cpu() -> str:
    """Name the model of the CPU, as precisely as the system tells."""
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> str:
    # Without optional locks: a run must not stand in the way of a commit in the same checkout.
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", *arguments]
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=10
    )
    return result.stdout.strip()
