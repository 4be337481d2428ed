"""Write what is generated in the documents: tables and numbers between markers, from the JSON in benchmarks/results.

    python benchmarks/generate.py            # after a measurement, or a change of what a table has
    python benchmarks/generate.py --check    # exit with 1, and show the difference, if a document is not up to date

A region begins with `<!-- begin: NAME -->` and ends with `<!-- end: NAME -->`; `regions/` says what is in it. On
lines of their own the markers enclose a block, within a line a few words.
"""

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.results import ROOT
from regions import REGIONS

_MARKER = re.compile(r"<!-- (begin|end): (\S+) -->")


def documents(root: Path = ROOT) -> list[Path]:
    """The files that have regions."""
    return [root / "README.md", root / "benchmarks" / "results" / "README.md", *sorted((root / "docs").glob("*.md"))]


def filled(text: str, regions: Mapping[str, Callable[[], str]]) -> str:
    """Replace what is between the markers.

    Args:
        text: Of a document.
        regions: What is in a region, by its name.

    Returns:
        The new text.

    Raises:
        ValueError: A marker is without the other one, or inside of another region, or nobody knows its name.
    """
    parts, position, opened = [], 0, None
    for marker in _MARKER.finditer(text):
        kind, name = marker.groups()
        if name not in regions:
            raise ValueError(f"no region is called {name}")
        if kind == "begin" and opened is None:
            parts.append(text[position : marker.end()])
            opened = marker
        elif kind == "end" and opened is not None and opened[2] == name:
            content = regions[name]().strip()
            block = text[opened.end() :].startswith("\n")
            parts.append(f"\n\n{content}\n\n" if block else content)
            position, opened = marker.start(), None
        else:
            raise ValueError(f"marker {marker[0]} has no counterpart")
    if opened is not None:
        raise ValueError(f"marker {opened[0]} has no counterpart")
    return "".join([*parts, text[position:]])


def used(texts: list[str]) -> set[str]:
    """Names of the regions in documents."""
    return {name for text in texts for _, name in _MARKER.findall(text)}


def main() -> int:
    """Write or check the documents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if something would change")
    check = parser.parse_args().check
    changed = False
    for path in documents():
        before = path.read_text(encoding="utf-8")
        after = filled(before, REGIONS)
        if before == after:
            continue
        changed = True
        if check:
            name = str(path.relative_to(ROOT))
            lines = difflib.unified_diff(before.splitlines(), after.splitlines(), name, "generated", lineterm="", n=1)
            print("\n".join(lines))
        else:
            path.write_text(after, encoding="utf-8")
    return int(check and changed)


if __name__ == "__main__":
    sys.exit(main())
