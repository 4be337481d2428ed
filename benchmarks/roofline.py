"""FV step and Jacobian beside the machine's peak, and what a million inversions would cost at that rate.

    python benchmarks/roofline.py --out benchmarks/results/roofline

The peak is that of a large matrix product, measured in the same run. FLOP are those of the program as it was traced,
by XLA's cost analysis, with every loop over chunks laid out. On a GPU "highest" is float32 and "default" TF32.
"""

import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import networks
import pairs

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


def peak(precision, rounds, side):
    """FLOP a second of a product of square matrices."""
    import jax
    import jax.numpy as jnp

    a = jax.random.normal(jax.random.key(0), (side, side))
    product = jax.jit(partial(jnp.matmul, precision=precision))
    return 2 * side**3 / seconds(lambda: product(a, a), rounds)


def measure(name, path, batch, rounds):
    """Seconds and FLOP of a step of a batch at both precisions, and of a Jacobian."""
    import jax
    import jax.numpy as jnp

    import jifv
    from jifv.visualize import _evaluate, _response_and_gradient

    f = networks.ours(name, path, networks.TAPS[name].size)
    p, v = map(jnp.asarray, networks.inputs(name, batch, networks.TAPS[name].size))
    rows = []
    for precision in ("highest", "default"):
        settings = jifv.Settings(precision=precision)
        options = {"mesh": None, "power": 2.0, "floor": 0.1, "precision": precision}
        flop = _response_and_gradient.lower(f, p[:1], v[:1], **options).cost_analysis()["flops"] * batch
        rows.append(
            (f"FV step, batch {batch}", precision, flop, seconds(lambda s=settings: _evaluate(f, s, p, v), rounds))
        )
    features = networks.TAPS[name].features
    flop = jax.jit(partial(jifv.linearize, f, chunk=features)).lower(p[0]).cost_analysis()["flops"]
    linearize = jax.jit(partial(jifv.linearize, f))
    rows.append((f"Jacobian, n = {features}", "highest", flop, seconds(lambda: linearize(p[0]), max(1, rounds // 3))))
    return rows


def main():
    parser = pairs.parser(__doc__)
    parser.add_argument("--networks", nargs="+", choices=networks.TAPS, default=list(networks.TAPS))
    parser.add_argument("--batch", type=int, help="samples of a step, if not those of `jifv reproduce --preset paper`")
    parser.add_argument("--matrix", type=int, default=4096, help="side of the matrices of the peak")
    options = parser.parse_args()
    import jax

    lines = ["# roofline", "", f"- device: {jax.devices()[0].device_kind}"]
    lines += [f"- {key}: {value}" for key, value in pairs.environment(options.threads).items()]
    peaks = {precision: peak(precision, options.rounds, options.matrix) for precision in ("highest", "default")}
    lines += [f"- peak, {precision}: {rate / 1e9:.0f} GFLOP/s" for precision, rate in peaks.items()]
    lines += ["", "| network | part | precision | GFLOP | ms | GFLOP/s | of the peak |"]
    lines += ["| --- | --- | --- | --: | --: | --: | --: |"]
    plans = ["", "| network | gradients | TFLOP an inversion | s an inversion | device-hours a million |"]
    plans += ["| --- | --: | --: | --: | --: |"]
    content = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            batch = options.batch or BATCH[name]
            rows = measure(name, networks.weights(name, folder), batch, options.rounds)
            for part, precision, flop, took in rows:
                rate = flop / took
                lines.append(
                    f"| {name} | {part} | {precision} | {flop / 1e9:.1f} | {1e3 * took:.1f} | {rate / 1e9:.0f} | "
                    f"{rate / peaks[precision]:.0%} |"
                )
                content.append({"network": name, "part": part, "precision": precision, "flop": flop, "seconds": took})
            (_, _, step_flop, step), _, (_, _, jacobian_flop, jacobian) = rows
            flop, took = (
                STEPS[name] / batch * each + one for each, one in ((step_flop, jacobian_flop), (step, jacobian))
            )
            plans.append(f"| {name} | {STEPS[name]} | {flop / 1e12:.2f} | {took:.2f} | {took * 1e6 / 3600:.0f} |")
    text = "\n".join(lines + plans) + "\n"
    print(text)
    if options.out is not None:
        folder = Path(options.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "roofline.md").write_text(text, encoding="utf-8")
        content = {"environment": pairs.environment(options.threads), "peaks": peaks, "rows": content}
        (folder / "roofline.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
