"""Keep what `jifv reproduce` measured: from a folder of a run to a file in benchmarks/results, and its pictures.

    python benchmarks/collect.py runs/dncl dncl --picture figure.png=dncl.png

The numbers of the tables are kept, and with `--samples` also what a document says of single samples. Fill the documents
by generate.py afterwards.
"""

import argparse
import csv
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

from harness import results

PICTURES = results.ROOT / "docs" / "images"

_FIELDS = (
    *("experiment", "network", "layer", "input", "n", "m", "samples", "canonical", "power", "floor", "smoothing"),
    *(
        "dead_tolerance",
        "parametrization",
        "std",
        "aggregation",
        "learning_rate",
        "adam_steps",
        "anneal",
        "lbfgs_steps",
    ),
    *(
        "adam_precision",
        "reoptimize_steps",
        "batch_size",
        "seed",
        "devices",
        "seconds_per_sample",
        "counts",
        "dimension",
    ),
)
"""Of each experiment, as they are."""
_OTHER_NAMES = {
    "n": "features",
    "m": "parameters",
    "seconds_per_sample": "seconds_a_sample",
    "dimension": "chosen_dimension",
    "dead_tolerance": "silence",
    "anneal": "cooldown",
}
"""What the summary calls some of them."""
_SPACE = {
    "dimension": "dimension",
    "low": "threshold_low",
    "high": "threshold_high",
    "angle": "median_angle",
    "chance": "median_angle_of_chance",
    "cokernel": "cokernel",
}
_SAMPLE = {
    "angle_prediction": "angle_prediction_on_v",
    "angle_response": "angle_response_on_v",
    "stationarity": "stationarity",
    "gap": "gap_on_v",
    "target_on_dead": "target_on_dead",
    "ssim_prediction": "ssim_prediction",
}
_SHARES = 5
"""Shares β of the target that are kept."""


def collect(folder: Path, name: str, *, samples: bool = False, pictures: dict[str, str] | None = None) -> Path:
    """Write what a run measured as a result.

    Args:
        folder: Where `jifv reproduce` wrote.
        name: The result's.
        samples: Whether to keep each sample as well.
        pictures: New names of the pictures to keep, by their names in the folder.

    Returns:
        The result's file.

    Raises:
        ValueError: The run had no commit, or uncommitted changes.
    """
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    if not summary.get("commit") or summary["dirty"]:
        raise ValueError(f"{folder} must be the run of a commit without changes, got {summary.get('commit')}")
    pictures = pictures or {}
    for old, new in pictures.items():
        PICTURES.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / old, PICTURES / new)
    result = results.Result(
        name,
        summary["commit"],
        summary["dirty"],
        summary["machine"],
        summary["versions"],
        summary["command"],
        datetime.fromtimestamp((folder / "summary.json").stat().st_mtime, UTC).date().isoformat(),
        [row(cell) for cell in summary["cells"]],
        list(each_sample(folder / "samples.csv")) if samples else [],
        [(PICTURES / new).relative_to(results.ROOT).as_posix() for new in pictures.values()],
    )
    return results.write(result, results.RESULTS)


def row(cell: dict) -> dict:
    """What the tables need of an experiment's summary."""
    kept = {name: cell.get(name, cell.get(_OTHER_NAMES.get(name, name))) for name in _FIELDS}
    kept["counts"] = {flag: count for flag, count in kept["counts"].items() if count}
    kept["angles"] = {
        name: {which: angle[which] for which in ("median", "p90")} for name, angle in cell["angles"].items()
    }
    kept["beta"] = cell["beta"][:_SHARES]
    kept |= {name: cell[name]["median"] for name in ("stationarity", "gap")}
    kept["spaces"] = [{new: space[old] for new, old in _SPACE.items()} for space in cell["critical_spaces"]]
    kept["ssim"] = {name: similarity["median"] for name, similarity in cell["ssim"].items()}
    return {name: value for name, value in kept.items() if value not in (None, [], {})}


def each_sample(path: Path):
    """What a document may say of a sample."""
    with path.open(encoding="utf-8", newline="") as file:
        for sample in csv.DictReader(file):
            numbers = {new: float(sample[old]) for new, old in _SAMPLE.items()}
            yield {
                "experiment": sample["experiment"],
                "sample": int(sample["sample"]),
                "kind": sample["kind"],
            } | numbers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the run")
    parser.add_argument("name", help="name of the result")
    parser.add_argument("--samples", action="store_true", help="keep each sample as well")
    parser.add_argument(
        "--picture", action="append", default=[], metavar="OLD=NEW", help="picture to keep in docs/images"
    )
    options = parser.parse_args()
    pictures = dict(picture.split("=", 1) for picture in options.picture)
    print(collect(options.folder, options.name, samples=options.samples, pictures=pictures))


if __name__ == "__main__":
    main()
