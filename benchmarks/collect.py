"""Keep what `jifv reproduce` measured: from the folder of a run to a file in benchmarks/results, with its pictures.

    python benchmarks/collect.py runs/dncl dncl --command "jifv reproduce dncl" --picture figure.png=dncl.png
    python benchmarks/generate.py

What the tables need is kept, and with `--samples` also what a document says of single samples.
"""

import argparse
import csv
import json
import shlex
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from harness import results

PICTURES = results.ROOT / "docs" / "images"

_LEFT_OUT = {"commits", "last_singular_value", "listed", "outlier_filter", "input_size"}
"""Of the summary of an experiment."""
_SHARES = 5
"""Shares β of the target that are kept."""
_SAMPLE = {
    "angle_prediction": "angle_prediction_on_v",
    "angle_response": "angle_response_on_v",
    "stationarity": "stationarity",
    "gap": "gap_on_v",
    "target_on_dead": "target_on_dead",
    "ssim_prediction": "ssim_prediction",
}
"""Columns of samples.csv, by the names that they have here."""


def collect(
    folder: Path, name: str, *, command: str, samples: bool = False, pictures: dict[str, str] | None = None
) -> Path:
    """Write what a run measured as a result.

    Args:
        folder: Where `jifv reproduce` wrote, on this machine.
        name: The result's.
        command: What was typed.
        samples: Whether to keep each sample as well.
        pictures: New names of the pictures to keep, by their names in the folder.

    Returns:
        The result's file.

    Raises:
        ValueError: The run is not that of a single commit without changes.
    """
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    code = summary["provenance"]
    commits = {commit for cell in summary["cells"] for commit in cell["commits"]}
    if code["dirty"] is not False or commits != {code["commit"]}:
        raise ValueError(f"{folder} must be the run of one commit without changes, got {', '.join(sorted(commits))}")
    pictures = pictures or {}
    for old, new in pictures.items():
        PICTURES.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / old, PICTURES / new)
    devices = max(max(cell["devices"]) for cell in summary["cells"])
    result = results.Result(
        name,
        code["commit"],
        code["dirty"],
        results.machine(devices),
        {"python": code["python"]} | code["packages"],
        command,
        datetime.fromtimestamp((folder / "summary.json").stat().st_mtime, UTC).date().isoformat(),
        [row(cell) for cell in summary["cells"]],
        list(_each_sample(folder / "samples.csv")) if samples else [],
        [(PICTURES / new).relative_to(results.ROOT).as_posix() for new in pictures.values()],
        collected=shlex.join([*["--samples"] * samples, *(f"--picture={old}={new}" for old, new in pictures.items())]),
    )
    return results.write(result, results.RESULTS)


def row(cell: dict) -> dict:
    """What is kept of the summary of an experiment."""
    kept = {name: value for name, value in cell.items() if name not in _LEFT_OUT}
    kept["beta"] = cell["beta"][:_SHARES]
    kept["counts"] = {flag: count for flag, count in cell["counts"].items() if count}
    kept["stationarity"] = {"median": cell["stationarity"]["median"]}
    kept["angles"] = {
        name: {which: angle[which] for which in ("median", "interval", "p90")} for name, angle in cell["angles"].items()
    }
    return {name: value for name, value in kept.items() if value not in (None, [], {})}


def _each_sample(path: Path) -> Iterator[dict]:
    with path.open(encoding="utf-8", newline="") as file:
        for sample in csv.DictReader(file):
            which = {"experiment": sample["experiment"], "sample": int(sample["sample"]), "kind": sample["kind"]}
            yield which | {new: float(sample[old]) for new, old in _SAMPLE.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the run")
    parser.add_argument("name", help="of the result")
    parser.add_argument("--command", required=True, help="that was run")
    parser.add_argument("--samples", action="store_true", help="keep each sample as well")
    parser.add_argument("--picture", action="append", default=[], metavar="OLD=NEW", help="to keep in docs/images")
    options = parser.parse_args()
    pictures = dict(picture.split("=", 1) for picture in options.picture)
    kept = {"command": options.command, "samples": options.samples, "pictures": pictures}
    print(collect(options.folder, options.name, **kept))


if __name__ == "__main__":
    main()
