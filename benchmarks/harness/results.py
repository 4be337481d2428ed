"""Results as data: one JSON file for each measurement, with all that one needs to judge it.

Every file in `benchmarks/results` has the same fields, those of `Result`. Tables in the documents come from these files
alone (`generate.py`), so that nobody types a number.
"""

import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
"""The repository."""
RESULTS = ROOT / "benchmarks" / "results"

_PACKAGES = ("jifv", "jax", "jaxlib", "numpy", "scipy", "torch", "torchvision", "torch-lucent", "kornia", "horama")
_WRITINGS = (":!benchmarks/results", ":!docs", ":!*.md")
"""Files that no measurement depends on. Whoever measures twice in a row changes them in between."""
_DIGITS = 6
"""Significant digits of the numbers in a file. No time and no angle is known better."""


class Result(NamedTuple):
    """What one command measured.

    Attributes:
        name: The file's, without its ending.
        commit: The code that ran, 40 hexadecimal digits; None outside of a git checkout.
        dirty: Whether tracked code differed from it; None outside of a checkout.
        machine: Processor, cores in use and operating system.
        versions: Of Python and of the packages that matter, by name.
        command: What was typed.
        when: The day, as YYYY-MM-DD.
        rows: What was measured, a dictionary for each row.
        samples: What was measured of each sample, where a document says it.
        pictures: Paths of the pictures of this run, from the repository's root.
        note: What a reader of the numbers must know.
        collected: Options of `collect.py`, for a run of `jifv reproduce`.
    """

    name: str
    commit: str | None
    dirty: bool | None
    machine: str
    versions: dict[str, str]
    command: str
    when: str
    rows: list[dict[str, Any]]
    samples: Sequence[dict[str, Any]] = ()
    pictures: Sequence[str] = ()
    note: str = ""
    collected: str = ""


def measured_here(name: str, *, threads: int | None = None) -> Result:
    """A result without rows, of this process, on this machine, now.

    Args:
        name: The result's.
        threads: Cores in use; None for all that this process may use.
    """
    commit, dirty = checkout()
    command = re.sub(r" --out[ =]\S+", "", shlex.join(["python", *sys.argv]))
    command = re.sub(r"(?<=[ =])/\S*/", "", command)  # folders of this machine
    when = datetime.now(UTC).date().isoformat()
    return Result(name, commit, dirty, machine(threads), versions(), command, when, [])


def write(result: Result, folder: str | Path) -> Path:
    """Write a result as NAME.json, a line for each row. Empty optional fields are left out.

    Returns:
        The file.
    """
    path = Path(folder) / f"{result.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_dumped(result), encoding="utf-8")
    return path


def read(path: str | Path) -> Result:
    """Read a file that `write` has written."""
    path = Path(path)
    return Result(path.stem, **json.loads(path.read_text(encoding="utf-8")))


def checkout() -> tuple[str | None, bool | None]:
    """The commit of this checkout, and whether tracked code differs from it."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *_WRITINGS)
    return commit, None if changes is None else bool(changes)


def same_code(commit: str | None) -> bool:
    """Whether what can change a number is at HEAD as it was at a commit; False if that is unknown here."""
    return commit is not None and _git("diff", "--quiet", commit, "HEAD", "--", ".", *_WRITINGS) is not None


def machine(threads: int | None = None) -> str:
    """The processor with its vector instructions, the cores in use and the operating system."""
    return f"{_processor()}, {len(cores()[:threads])} of {os.cpu_count()} cores, {platform.system()}"


def versions() -> dict[str, str]:
    """Of Python and of the packages that are installed."""
    result = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            result[name] = version(name)
        except PackageNotFoundError:
            continue
    return result


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def plain(value: Any) -> Any:
    """As JSON has it: six significant digits, and None for what is not finite."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value


def _dumped(result: Result) -> str:
    fields = {name: value for name, value in result._asdict().items() if name != "name"}
    for name in Result._field_defaults:
        if not fields[name]:
            del fields[name]
    lines = (f' "{name}": {_value(value)}' for name, value in fields.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _value(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join("\n  " + json.dumps(plain(row), ensure_ascii=False) for row in value) + "\n ]"
    return json.dumps(value, ensure_ascii=False)


def _git(*command: str) -> str | None:
    try:
        done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    # Virtual machines often name the maker only. The vector instructions tell its generations apart.
    try:
        text = Path("/proc/cpuinfo").read_text()
        name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)[1].strip()  # pyright: ignore
    except (OSError, TypeError):
        return platform.processor() or platform.machine()
    widest = next((label for flag, label in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if f" {flag} " in text), "")
    return f"{name} ({widest})" if widest else name
