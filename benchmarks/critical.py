"""Critical spaces: from Jacobians to the spaces that the spectrum supports, for a few to hundreds of features.

    python benchmarks/critical.py --out benchmarks/results/critical

The Jacobians have full rank but for the direction (1, ..., 1), common to all, as that of a softmax is: n scores are a
random readout, with columns that sum to zero, of 3 n inner features with a spectrum over two decades. They are
float32. The processor's seconds, of all threads, tell how much of the wall clock's belongs to other processes; the
first call, which compiles, is not counted. The last column is the dimension of each V found, with its gap: n − 1 alone
is right.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pairs
from tables import Table

CASES = [(32, 10), (32, 100), (32, 256), (32, 512)]
"""Samples and features."""


def write_jacobians(path, samples, features):
    rng = np.random.default_rng(features)
    readout = rng.normal(size=(features, 3 * features))
    readout -= readout.mean(axis=0)
    inner = rng.normal(size=(3 * features, 2 * features))
    strengths = np.geomspace(1, 1e-2, 2 * features)
    batch = [readout @ ((inner + rng.normal(size=inner.shape)) * strengths) for _ in range(samples)]
    np.save(path / "jacobians.npy", np.stack(batch).astype(np.float32))


def ours(folder, whole):
    """The singular pairs; `whole` for what follows from them alone. A step leaves processor seconds and spaces."""
    import jifv

    folder = Path(folder)
    batch = np.load(folder / "jacobians.npy")
    argument = jifv.singular_pairs(batch) if whole else batch

    def step():
        start = time.process_time()
        result = jifv.critical_spaces(argument) if whole else jifv.singular_pairs(argument)
        seconds = time.process_time() - start
        spaces = [f"{space.basis.shape[1]} ({space.gap:.2g})" for space in result] if whole else []
        (folder / "last.json").write_text(json.dumps([seconds, ", ".join(spaces)]))
        return np.zeros(1)  # there is nothing to compare with

    return step


def main():
    parser = pairs.parser(__doc__, rounds=1)
    parser.add_argument("--features", type=int, default=512, help="leave out cases with more (default: %(default)s)")
    options = parser.parse_args()
    columns = ("samples", "n", "stage", "s", "processor s", "V (gap)")
    table = Table("critical", columns, threads=options.threads, out=options.out)
    with tempfile.TemporaryDirectory() as folder:
        for samples, features in CASES:
            if features > options.features:
                continue
            write_jacobians(Path(folder), samples, features)
            for stage, whole in (("singular pairs", False), ("critical spaces", True)):
                side = pairs.Side(stage, ours, (folder, whole))
                (measured,) = pairs.compare([side], rounds=options.rounds, warmup=0, threads=options.threads)
                table.row(
                    samples, features, stage, measured.median, *json.loads((Path(folder) / "last.json").read_text())
                )


if __name__ == "__main__":
    main()
