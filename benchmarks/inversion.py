"""Inversion from a given Jacobian: `jifv.invert` and the SVD that one would write with NumPy or SciPy.

    python benchmarks/inversion.py --out benchmarks/results

All sides get r and J in float32 and look for the left-singular vector of BJ to the smallest singular value, k = 2.
NumPy computes the SVD of a float32 matrix in float64: it takes longer and is more accurate. The second table has the
largest angle of a batch to the vector in float64, for two spectra over four decades: with a gap, 1, …, 1e-3 and then
1e-4, and without one, 1, …, 1e-4.
"""

import math
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import scipy.linalg
from harness import pairs
from harness.tables import Table

CASES = [
    (1, 10, 3072),
    (64, 10, 3072),
    (1, 64, 3072),
    (64, 64, 3072),
    (1, 342, 3072),
    (8, 342, 3072),
    (1, 1024, 3072),
    (1, 64, 150528),
    (1, 512, 37632),
    (1, 512, 150528),
    (4, 512, 150528),
    (1, 1024, 150528),
]
"""Batch, n and m: class scores, SRNet, DenseNet and GoogLeNet, and beyond."""
NAME = "{} × ({} × {})"
POWER = 2

SPECTRA = {
    "gap": lambda n: np.append(np.geomspace(1, 1e-3, n - 1), 1e-4),
    "no gap": lambda n: np.geomspace(1, 1e-4, n),
}


def write_problem(folder, batch, features, columns, spectrum):
    """Write r and J, for which BJ has the spectrum but for rounding, and the objectives found in float64."""
    rng = np.random.default_rng(features)
    right, _ = scipy.linalg.qr(rng.standard_normal((columns, features), np.float32), mode="economic")
    responses = rng.uniform(0.5, 1.5, (batch, features)).astype(np.float32)
    jacobians, objectives = np.empty((batch, features, columns), np.float32), []
    for response, jacobian in zip(responses, jacobians, strict=True):
        left, _ = np.linalg.qr(rng.normal(size=(features, features)))
        left = np.linalg.solve(product(np.eye(features), response), left * SPECTRA[spectrum](features))
        np.matmul(left.astype(np.float32), right.T, out=jacobian)
        triangle = np.linalg.qr(jacobian.T.astype(float), mode="r")
        objectives.append(oriented(np.linalg.svd(product(triangle.T, response))[0][:, -1], response))
    np.save(folder / "response.npy", responses)
    np.save(folder / "jacobian.npy", jacobians)
    return np.stack(objectives)


def read_problem(folder):
    return np.load(folder / "response.npy"), np.load(folder / "jacobian.npy")


def product(matrix, response):
    """B M."""
    unit = response / np.linalg.norm(response)
    return (POWER + 1) * matrix - POWER * np.outer(unit, unit @ matrix)


def oriented(vector, response):
    return vector if vector @ response > 0 else -vector


def ours(folder):
    import jax
    import jax.numpy as jnp

    import jifv

    response, jacobian = map(jnp.asarray, read_problem(folder))
    d = jifv.Significance(power=POWER)
    return lambda: jax.block_until_ready(jifv.invert(response, jacobian, significance=d)).objective


def theirs(folder, solve):
    """`solve` takes BJ to U, one sample after the other: SciPy has no batches, NumPy a loop."""
    responses, jacobians = read_problem(folder)

    def step():
        samples = zip(responses, jacobians, strict=True)
        return np.stack([oriented(solve(product(j, r))[:, -1], r) for r, j in samples])

    return step


def numpy_svd(matrix):
    return np.linalg.svd(matrix, full_matrices=False)[0]


def scipy_svd(driver, matrix):
    return scipy.linalg.svd(matrix, full_matrices=False, lapack_driver=driver, check_finite=False)[0]


def scipy_qr(matrix):
    triangle = scipy.linalg.qr(matrix.T, mode="r", check_finite=False)[0][: len(matrix)]
    return scipy.linalg.svd(triangle.T, check_finite=False)[0]


SIDES = {
    "ours": (ours,),
    "NumPy, SVD": (theirs, numpy_svd),
    "SciPy, SVD, gesdd": (theirs, partial(scipy_svd, "gesdd")),
    "SciPy, SVD, gesvd": (theirs, partial(scipy_svd, "gesvd")),
    "SciPy, QR and SVD": (theirs, scipy_qr),
}


def angle(objectives, truth):
    """The largest of the batch, in degrees."""
    objectives = np.asarray(objectives, float)
    sines = np.linalg.norm(objectives - truth * np.sum(objectives * truth, axis=1, keepdims=True), axis=1)
    return float(np.degrees(np.arctan2(sines, np.abs(np.sum(objectives * truth, axis=1)))).max())


def main():
    parser = pairs.parser(__doc__, rounds=5)
    parser.add_argument(
        "--entries",
        type=float,
        default=2e7,
        help="of the largest batch of Jacobians; each takes up to 40 bytes (default: %(default)g; all cases: 4e8)",
    )
    options = parser.parse_args()
    cases = [case for case in CASES if math.prod(case) <= options.entries]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = pairs.Report("inversion", options)
        for case in cases:
            write_problem(folder, *case, "gap")
            report.compare(NAME.format(*case), [pairs.Side(side, b, (folder, *a)) for side, (b, *a) in SIDES.items()])

        columns = ("case", "spectrum", "side", "degrees")
        table = Table("inversion-accuracy", columns, threads=options.threads, out=options.out)
        for case in cases:
            for spectrum in SPECTRA:
                truth = write_problem(folder, *case, spectrum)
                for side, (build, *arguments) in SIDES.items():
                    table.row(NAME.format(*case), spectrum, side, angle(build(folder, *arguments)(), truth))


if __name__ == "__main__":
    main()
