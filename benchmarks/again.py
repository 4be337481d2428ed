"""Measure results again: run the commands that they name, and put what comes out in their place.

    python benchmarks/again.py dncl dn4cl dnde      # these
    python benchmarks/again.py --but timings        # all others
    python benchmarks/generate.py

Each command runs once, one after the other, on a tree without changes. A result of this very code is left out, so the
same line goes on where it was stopped, and `jifv reproduce` from the last finished batch.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterable

from harness import results

RUNS = results.ROOT / "runs" / "again"
"""With a folder for each commit: batches of other code would be resumed, and the mixture refused."""


def commands(names: Iterable[str]) -> dict[str, list[str]]:
    """Return what to run for results, as typed, with the results that each makes; those of this code are left out."""
    found: dict[str, list[str]] = {}
    for name in names:
        result = results.read(results.RESULTS / f"{name}.json")
        if not results.same_code(result.commit):
            found.setdefault(result.command, []).append(name)
    return found


def steps(command: str, names: list[str]) -> list[list[str]]:
    """Return the processes, one after the other, that a command and the files of its results take."""
    program, *arguments = shlex.split(command)
    if program == "python":
        return [[sys.executable, *arguments, "--out", str(results.RESULTS)]]
    if program != "jifv":
        raise ValueError(f"command must be of python or jifv, got {command}")
    (name,) = names
    run = str(RUNS / str(results.checkout()[0]) / name)
    kept = shlex.split(results.read(results.RESULTS / f"{name}.json").collected)
    collect = [sys.executable, "benchmarks/collect.py", run, name, "--command", command, *kept]
    return [[sys.executable, "-m", "jifv", *arguments, "--quiet", "--out", run], collect]


def main():
    known = sorted(path.stem for path in results.RESULTS.glob("*.json"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="results (default: all)")
    parser.add_argument("--but", nargs="+", default=[], metavar="NAME", help="results to leave as they are")
    parser.add_argument("--dry", action="store_true", help="say what would run")
    options = parser.parse_args()
    for name in options.names + options.but:
        if name not in known:
            parser.error(f"there is no result {name}: expected one of {', '.join(known)}")
    if results.checkout()[1]:
        parser.error("the tree has changes: what it measures would be nobody's")
    failed = []
    for command, names in commands(name for name in options.names or known if name not in options.but).items():
        print(f"{', '.join(names)}: {command}", flush=True)
        for step in [] if options.dry else steps(command, names):
            if subprocess.run(step, cwd=results.ROOT).returncode != 0:
                failed += names
                break
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
