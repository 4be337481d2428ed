"""A network of PyTorch brought over by `jifv.from_torch`, beside our own of the same weights and beside PyTorch.

    python benchmarks/from_torch.py --out benchmarks/results

GoogLeNet (BVLC) up to inception4c, pixels, max-mean(3, 2). The step of feature visualization is that of fv_step.py, the
Jacobian of all features that of jacobian.py; times are compared with those of our own network, the first side. The aim
is 1.2 times that of a step and 1.3 times that of a Jacobian, at most.
"""

import tempfile
from functools import partial

import fv_step
import jacobian
from harness import networks, pairs

NAME = "googlenet-bvlc"


def response(name, path, size):
    """f of one sample: p in pixels, and max-mean of the layer of PyTorch's network."""
    import jifv

    module = networks.torch_network(name, path).eval()
    network = jifv.from_torch(module, (size, size, 3), layer=networks.TAPS[name].layer)
    return jifv.compose(jifv.pixels((size, size, 3)).apply, network, jifv.max_mean(3, 2))


def step(name, path, batch, size):
    import jax
    import jax.numpy as jnp

    import jifv
    from jifv._visualize.gradient import evaluate

    f, d = response(name, path, size), jifv.Significance()
    p, v = map(jnp.asarray, networks.inputs(name, batch, size))
    return lambda: jax.block_until_ready(evaluate(f, d, "highest", p, v))


def rows(name, path, size):
    import jax
    import jax.numpy as jnp

    import jifv

    f = response(name, path, size)
    p = jnp.asarray(networks.inputs(name, 1, size)[0][0])
    linearize = jax.jit(partial(jifv.linearize, f), compiler_options=jifv.compiler_options())
    return lambda: jax.block_until_ready(linearize(p))


def main():
    parser = pairs.parser(__doc__, named=True)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--size", type=int, default=networks.TAPS[NAME].size, help="side of the input")
    parser.add_argument("--torch-rows", type=int, default=32, help="rows that PyTorch computes, 32 or more")
    options = parser.parse_args()
    report = pairs.Report("from_torch", options)
    with tempfile.TemporaryDirectory() as folder:
        path, size = networks.weights(NAME, folder), options.size
        for batch in options.batches:
            case = (NAME, path, batch, size)
            sides = [
                pairs.Side("ours", fv_step.ours, case),
                pairs.Side("from_torch", step, case),
                pairs.Side("PyTorch, contiguous", fv_step.theirs, (*case, False)),
                pairs.Side("PyTorch, channels last", fv_step.theirs, (*case, True)),
            ]
            report.compare(f"step, {size}×{size}, batch {batch}", sides, tolerance=fv_step.TOLERANCE)
        count, features = options.torch_rows, networks.TAPS[NAME].features
        case = (NAME, path, size, count)
        note = f"{count} rows, time scaled to {features}"
        sides = [
            jacobian.side("ours", jacobian.ours, NAME, path, size, None),
            jacobian.side("from_torch", rows, NAME, path, size),
            # Not torch.func: without AVX-512 it takes minutes, on one core.
            jacobian.side("PyTorch, loop", jacobian.loop, *case, scale=features / count, note=note),
        ]
        turns = min(3, options.rounds)  # of ten seconds and more
        title = f"Jacobian, {size}×{size}, {features} features"
        report.compare(title, sides, rounds=turns, tolerance=jacobian.TOLERANCE)


if __name__ == "__main__":
    main()
