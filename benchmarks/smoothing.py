"""What rounding the kinks of a network costs: a step of feature visualization, and tracing one.

    python benchmarks/smoothing.py --weights bvlc_googlenet.npz --out benchmarks/results/smoothing

The step is that of fv_step.py, max-mean included, of the network as it is and as `jifv.smooth` makes it; of GoogLeNet
also as its module smooths itself (`load(..., smoothing=0.1)`). Sides that are smoothed return other numbers than the
network, so that only their being finite is compared; tests/test_smoothing.py compares the numbers. Tracing is that of
the step, anew each time, without the calibration, which happens once.
"""

import dataclasses
import tempfile

import networks
import pairs

WIDTH = 0.1


def network(name, path, size, how):
    """What makes f anew, of the network as it is, smoothed by its module, or by `smooth`; and the smoothed network."""
    import jifv
    from jifv.models import load
    from jifv.smoothing import smooth

    tap = networks.TAPS[name]
    loaded = load(name, layer=tap.layer, weights=path, input_size=size, smoothing=WIDTH if how == "module" else 0)
    aggregate = jifv.max_mean(3, 2, smoothing=loaded.smoothing_width)
    phi = jifv.geometry((size, size)) if name == "srnet" else jifv.pixels((size, size, 3))
    if how == "smooth":
        # Of x, not of p: the parametrization has no kinks.
        smoothed = smooth(lambda x: aggregate(loaded.apply(x)), loaded.input_shape, WIDTH)
        return lambda smoothed=smoothed: jifv.compose(phi.apply, smoothed, jifv.identity), smoothed
    return lambda _=None: jifv.compose(phi.apply, loaded.apply, aggregate), None


def step(name, path, batch, size, how):
    import jax
    import jax.numpy as jnp

    import jifv
    from jifv.visualize import _evaluate

    build, _ = network(name, path, size, how)
    f, settings = build(), jifv.Settings()
    p, v = map(jnp.asarray, networks.inputs(name, batch, size))
    return lambda: jax.block_until_ready(_evaluate(f, settings, p, v))


def trace(name, path, batch, size, how):
    import jax
    import jax.numpy as jnp

    from jifv.visualize import _response_and_gradient

    build, smoothed = network(name, path, size, how)
    p, v = map(jnp.asarray, networks.inputs(name, batch, size))
    options = {"mesh": None, "power": 2.0, "floor": 0.1, "precision": "highest"}

    def run():
        jax.clear_caches()
        # A copy has not been traced yet.
        f = build() if smoothed is None else build(dataclasses.replace(smoothed, _traced={}))
        jax.make_jaxpr(lambda p, v: _response_and_gradient(f, p, v, **options))(p, v)
        return [p]

    return run


def finite(results):
    import numpy as np

    return [np.isfinite(np.asarray(result)).all() for result in results]


def main():
    parser = pairs.parser(__doc__)
    parser.add_argument("--networks", nargs="+", choices=networks.TAPS, default=list(networks.TAPS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--size", type=int, help="side of the input, if not the network's own")
    parser.add_argument("--weights", help="BVLC's GoogLeNet; the cached or random weights without")
    options = parser.parse_args()
    report = pairs.Report("smoothing", options)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            of_file = options.weights if name.startswith("googlenet") else None
            path, size = of_file or networks.weights(name, folder), options.size or networks.TAPS[name].size
            hows = ["plain", "smooth", *(["module"] if name.startswith("googlenet") else [])]
            names = {"plain": "as it is", "smooth": "smoothed", "module": "smoothed by its module"}
            for kind, build in (("step", step), ("tracing", trace)):
                for batch in options.batches if build is step else options.batches[:1]:
                    sides = [pairs.Side(names[how], build, (name, path, batch, size, how), finite) for how in hows]
                    report.compare(f"{kind}, {name} {size}×{size}, batch {batch}", sides)


if __name__ == "__main__":
    main()
