"""Critical spaces: from Jacobians to the spaces that the spectrum supports, for a few to hundreds of features.

    python benchmarks/critical.py --out benchmarks/results

Except for the direction (1, …, 1), which all share as behind a softmax, the Jacobians have full rank: n scores are a
random readout, with columns that sum to zero, of 3 n inner features with a spectrum over two decades. They are float32.
Processor seconds tell how much of the wall-clock time belongs to other processes. The first call compiles and does not
count. The last column has the dimension of each V found, and its gap: n − 1 alone is right.
"""

import time
from functools import partial

import numpy as np
from harness import pairs
from harness.tables import Table

CASES = [(32, 10), (32, 100), (32, 256), (32, 512)]
"""Samples and features."""


def jacobians(samples, features):
    rng = np.random.default_rng(features)
    readout = rng.normal(size=(features, 3 * features))
    readout -= readout.mean(axis=0)
    inner = rng.normal(size=(3 * features, 2 * features))
    strengths = np.geomspace(1, 1e-2, 2 * features)

    def one():
        own = inner + rng.normal(size=inner.shape)
        return (readout @ (own * strengths)).astype(np.float32)

    return np.stack([one() for _ in range(samples)])


def timed(step):
    """Seconds of the wall clock and of all processors, and the result."""
    wall, processor = time.perf_counter(), time.process_time()
    result = step()
    return time.perf_counter() - wall, time.process_time() - processor, result


def main():
    parser = pairs.parser(__doc__, rounds=1)
    parser.add_argument("--features", type=int, default=512, help="leave out cases with more (default: %(default)s)")
    options = parser.parse_args()

    from jifv.critical import critical_spaces, singular_pairs

    columns = ("samples", "n", "stage", "s", "processor s", "V, gap")
    table = Table("critical", columns, threads=options.threads, out=options.out)
    for samples, features in CASES:
        if features > options.features:
            continue
        batch = jacobians(samples, features)
        singular_pairs(batch)
        for _ in range(options.rounds):
            *seconds, found = timed(partial(singular_pairs, batch))
            table.row(samples, features, "singular pairs", *seconds, "")
            *seconds, spaces = timed(partial(critical_spaces, found))
            text = ", ".join(f"{space.basis.shape[1]} ({space.gap:.2g})" for space in spaces)
            table.row(samples, features, "critical spaces", *seconds, text)


if __name__ == "__main__":
    main()
