"""What rounding the kinks of a network costs: a step of feature visualization, and tracing one.

    python benchmarks/smoothing.py --weights bvlc_googlenet.npz --out benchmarks/results

The step is that of fv_step.py, max-mean included, of the network as it is and as `jifv.smoothing.smooth` makes it. Both
return different numbers, so the only comparison is that all are finite; tests/test_smoothing.py compares the numbers.
Tracing is that of the step, from empty caches each time, without the calibration, which happens once.
"""

import dataclasses
import tempfile

from harness import networks, pairs

WIDTH = 0.1


def response(name, path, size, smoothed):
    """The response function, and what is rounded in it if it is to be smoothed."""
    import jifv
    from jifv.models import load
    from jifv.smoothing import smooth

    network = load(name, layer=networks.TAPS[name].layer, weights=path, input_size=size)
    phi = jifv.geometry((size, size)) if name == "srnet" else jifv.pixels((size, size, 3))
    aggregate = jifv.max_mean(3, 2)
    if not smoothed:
        return lambda: jifv.compose(phi.apply, network.apply, aggregate)
    # Of x, not of p: the parametrization has no kinks.
    rounded = smooth(lambda x: aggregate(network.apply(x)), network.input_shape, WIDTH)
    # A copy has not been traced yet.
    return lambda: jifv.compose(phi.apply, dataclasses.replace(rounded), jifv.identity)


def step(name, path, batch, size, smoothed):
    import jax
    import jax.numpy as jnp

    import jifv
    from jifv._visualize.gradient import evaluate

    f, d = response(name, path, size, smoothed)(), jifv.Significance()
    p, v = map(jnp.asarray, networks.inputs(name, batch, size))
    return lambda: jax.block_until_ready(evaluate(f, d, "highest", p, v))


def trace(name, path, batch, size, smoothed):
    import jax
    import jax.numpy as jnp

    import jifv
    from jifv._visualize import gradient

    gradient.compiler_options = lambda mesh=None: None  # nothing is compiled, and no nested program may have options
    build, d = response(name, path, size, smoothed), jifv.Significance()
    p, v = map(jnp.asarray, networks.inputs(name, batch, size))

    def run():
        jax.clear_caches()  # the network as it is would be found there, traced
        f = build()
        jax.make_jaxpr(lambda p, v: gradient.evaluate(f, d, "highest", p, v))(p, v)
        return [p]

    return run


def finite(results):
    import numpy as np

    return [np.isfinite(np.asarray(result)).all() for result in results]


def main():
    parser = pairs.parser(__doc__, named=True)
    parser.add_argument("--networks", nargs="+", choices=networks.TAPS, default=list(networks.TAPS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--size", type=int, help="side of the input, if not the network's own")
    parser.add_argument("--weights", help="BVLC's GoogLeNet, if neither cached nor random weights are to be used")
    options = parser.parse_args()
    report = pairs.Report("smoothing", options)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            given = options.weights if name.startswith("googlenet") else None
            path, size = given or networks.weights(name, folder), options.size or networks.TAPS[name].size
            for kind, build in (("step", step), ("tracing", trace)):
                for batch in options.batches if build is step else options.batches[:1]:
                    sides = [
                        pairs.Side(label, build, (name, path, batch, size, smoothed), finite)
                        for label, smoothed in (("as it is", False), ("smoothed", True))
                    ]
                    report.compare(f"{kind}, {name} {size}×{size}, batch {batch}", sides)


if __name__ == "__main__":
    main()
