"""FV step and Jacobian beside the machine's peak, and what a million inversions would cost at that rate.

    python benchmarks/roofline.py --out benchmarks/results

The peak is that of a large matrix product, measured in the same run. XLA's cost analysis counts the FLOP of the program
as it was traced, with every loop over rows or samples laid out. On a GPU "highest" is float32 and "default" TF32.
"""

import statistics
import tempfile
import time
from functools import partial

from harness import networks, pairs
from harness.tables import Table

STEPS = {"densenet": 800 + 300, "googlenet-bvlc": 3000 + 500, "srnet": 800 + 300}
"""Gradients of a realization at the paper's size, Adam and L-BFGS."""
BATCH = {"densenet": 32, "googlenet-bvlc": 20, "srnet": 32}


def seconds(function, rounds):
    """Median seconds of a call, after one that compiles."""
    import jax

    jax.block_until_ready(function())
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def product(side, precision):
    """Of square matrices."""
    import jax
    import jax.numpy as jnp

    matrix = jax.random.normal(jax.random.key(0), (side, side))
    multiply = jax.jit(partial(jnp.matmul, precision=precision))
    return lambda: multiply(matrix, matrix)


def measure(name, path, batch, rounds):
    """Seconds and FLOP of a step of a batch at both precisions, and of a Jacobian."""
    import jax
    import jax.numpy as jnp

    import jifv
    from jifv._visualize.gradient import evaluate

    f, d = networks.ours(name, path, networks.TAPS[name].size), jifv.Significance()
    p, v = map(jnp.asarray, networks.inputs(name, batch, networks.TAPS[name].size))
    gradient = jax.jit(jax.value_and_grad(lambda p, v: -d(f(p), v)))
    flop = gradient.lower(p[0], v[0]).cost_analysis()["flops"] * batch
    rows = []
    for precision in ("highest", "default"):
        took = seconds(lambda precision=precision: evaluate(f, d, precision, p, v), rounds)
        rows.append((f"FV step, batch {batch}", precision, flop, took))
    features = networks.TAPS[name].features
    flop = jax.jit(partial(jifv.linearize, f, row_batch_size=features)).lower(p[0]).cost_analysis()["flops"]
    linearize = jax.jit(partial(jifv.linearize, f), compiler_options=jifv.compiler_options())
    rows.append((f"Jacobian, n = {features}", "highest", flop, seconds(lambda: linearize(p[0]), max(1, rounds // 3))))
    return rows


def main():
    parser = pairs.parser(__doc__)
    parser.add_argument("--networks", nargs="+", choices=networks.TAPS, default=list(networks.TAPS))
    parser.add_argument("--batch", type=int, help="samples of a step, if not those of `jifv reproduce --preset paper`")
    parser.add_argument("--matrix", type=int, default=4096, help="side of the matrices of the peak")
    options = parser.parse_args()

    columns = ("network", "part", "precision", "GFLOP", "ms", "GFLOP/s", "% of the peak")
    table = Table("roofline", columns, threads=options.threads, out=options.out)
    peaks, plans = {}, []
    for precision in ("highest", "default"):
        flop = 2 * options.matrix**3
        took = seconds(product(options.matrix, precision), options.rounds)
        peaks[precision] = flop / took
        table.row(
            "–", f"product of {options.matrix}² matrices", precision, flop / 1e9, 1e3 * took, flop / took / 1e9, 100.0
        )
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            batch = options.batch or BATCH[name]
            rows = measure(name, networks.weights(name, folder), batch, options.rounds)
            for part, precision, flop, took in rows:
                rate = flop / took
                table.row(name, part, precision, flop / 1e9, 1e3 * took, rate / 1e9, 100 * rate / peaks[precision])
            (_, _, *step), _, (_, _, *jacobian) = rows
            plans.append((name, *(STEPS[name] / batch * each + one for each, one in zip(step, jacobian, strict=True))))
    columns = ("network", "gradients", "TFLOP per inversion", "s per inversion", "device-hours per million")
    table = Table("million", columns, threads=options.threads, out=options.out)
    for name, flop, took in plans:
        table.row(name, STEPS[name], flop / 1e12, took, took * 1e6 / 3600)


if __name__ == "__main__":
    main()
