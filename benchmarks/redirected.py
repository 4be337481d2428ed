"""Dead starts: how many features of a grey start are dead at the end, with redirected ReLUs and without.

    python benchmarks/redirected.py --out benchmarks/results

Channels of GoogLeNet's inception4c, spread evenly over the layer, from a start of little contrast: the Fourier basis
with decorrelated colours, the mean response of the channel (k = 0), Adam, no transformations. A channel is dead where
its response is 0, as then its gradient is, too. With `--objectives` as many sampled objectives in all 512 features as
well (pixels, k = 2): the median share of the target's squared length on features that are dead.

A row is a number of redirected steps; the same starts for each. Seconds are those of the processor, with compiling.
"""

import time

from harness import pairs
from harness.tables import Table

LAYER = "inception4c"


def channels(options, network):
    """Response function, objectives and starts of channels, and what is maximized."""
    import jax
    import numpy as np

    import jifv

    phi = jifv.fourier(network.input_shape, decay=1.0, decorrelate_colors=True, std=options.std)
    f = jifv.compose(phi.apply, network.apply, jifv.mean)
    features = network.output_shape[-1]
    chosen = np.arange(options.channels) * features // options.channels
    start = jax.vmap(phi.init)(jax.random.split(jax.random.key(0), options.channels))
    settings = {"adam_steps": options.steps, "learning_rate": 0.05, "anneal": 0.3}
    return f, start, jifv.canonical_objectives(chosen, features), jifv.Significance(0), settings


def sampled(options, network):
    """The same of objectives in all features."""
    import jax

    import jifv

    phi = jifv.pixels(network.input_shape, std=options.std)
    f = jifv.compose(phi.apply, network.apply, jifv.max_mean())
    target, start = jax.random.split(jax.random.key(0))
    objectives = jifv.sparse_objectives(target, options.objectives, network.output_shape[-1])
    start = jax.vmap(phi.init)(jax.random.split(start, options.objectives))
    return f, start, objectives, jifv.Significance(), {"adam_steps": options.steps}


def row(case, problem, redirected):
    """Visualize, and count what is dead."""
    import jax
    import numpy as np

    import jifv

    f, start, objectives, significance, settings = problem
    before = np.asarray(jax.jit(lambda p: jax.lax.map(f, p))(start))
    began = time.process_time()
    settings = jifv.Settings(**settings, redirected_steps=redirected)
    made = jifv.visualize(f, start, objectives, significance=significance, settings=settings, progress=True)
    response = np.asarray(made.response)
    seconds = time.process_time() - began
    squares = np.asarray(objectives) ** 2
    first, last = (np.sum(squares * (r == 0), axis=1) for r in (before, response))
    dead = int(np.sum(first == 1)), int(np.sum(last == 1))
    shares = float(np.median(first)), float(np.median(last))
    return (case, len(objectives), redirected, *dead, *shares, float(np.median(made.value)), seconds)


def main():
    parser = pairs.parser(__doc__, named=True)
    parser.add_argument("--weights", help="file of GoogLeNet's weights, if not those in the cache")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--objectives", type=int, default=0, help="sampled ones")
    parser.add_argument("--std", type=float, default=0.01)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--redirected", nargs="+", type=int, default=[0, 16], help="steps; Lucid takes 16")
    options = parser.parse_args()

    from jifv.models import load

    network = load("googlenet-bvlc", layer=LAYER, weights=options.weights, input_size=options.size)
    columns = ("case", "objectives", "redirected", "dead before", "dead", "share before", "share", "d", "seconds")
    table = Table(options.name or "redirected", columns, threads=options.threads, out=options.out)
    problems = {"channels": channels} | ({"sampled": sampled} if options.objectives else {})
    for case, problem in problems.items():
        made = problem(options, network)
        for redirected in options.redirected:
            table.row(*row(case, made, redirected))


if __name__ == "__main__":
    main()
