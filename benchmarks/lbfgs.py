"""L-BFGS: gradients of the whole batch that an iteration costs, ours against JAXopt's own line searches under vmap.

    python benchmarks/lbfgs.py --out benchmarks/results

A callback from inside the compiled program counts every evaluation of the response function. All start from the same
realizations: 200 steps of Adam, and for every second sample L-BFGS until it stops. There a line search has little left
to find and must not hold up the others. Most of the time goes to the line searches of JAXopt.
"""

import warnings
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from harness import pairs
from harness.tables import Table

import jifv
from jifv.visualization import PAPER

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import jaxopt


SIGNIFICANCE = jifv.Significance()


class Counter:
    """Counts the samples for which a vmapped function is evaluated, however many at a time."""

    def __init__(self):
        self.count = 0

    def __call__(self, p):
        """Zero, and one more sample."""
        zero = jax.ShapeDtypeStruct((), p.dtype)
        seen = jax.lax.stop_gradient(p.ravel()[0])
        return jax.pure_callback(self._add, zero, seen, vmap_method="broadcast_all")

    def _add(self, seen):
        self.count += seen.size
        return np.zeros_like(seen)


def network(x):
    """Two layers of convolution and ReLU, random weights: (24, 24, 3) to (20, 20, 16)."""
    first = jax.random.normal(jax.random.key(10), (3, 3, 3, 12)) / 3
    second = jax.random.normal(jax.random.key(11), (3, 3, 12, 16)) / 8
    convolve = partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return jax.nn.relu(convolve(jax.nn.relu(convolve(x[None] - 0.5, first)), second))[0]


def starts(f, phi, batch):
    """Realizations, every second one converged, and objectives."""
    objectives = jifv.sparse_objectives(jax.random.key(0), batch, 16)
    start = jax.vmap(phi.init)(jax.random.split(jax.random.key(1), batch))
    adam, both = (replace(PAPER, adam_steps=200, lbfgs_steps=steps) for steps in (0, 1000))
    fresh, converged = (jifv.visualize(f, start, objectives, settings=settings).parameters for settings in (adam, both))
    mixed = jnp.where((jnp.arange(batch) % 2 == 0)[:, None, None, None], fresh, converged)
    return mixed, objectives


def ours(f, start, objectives, iterations):
    """Realizations and the number of iterations of the sample that took most."""
    settings = replace(PAPER, adam_steps=0, lbfgs_steps=iterations)
    result = jifv.visualize(f, start, objectives, settings=settings)
    return result.parameters, int(result.lbfgs_steps.max())


def theirs(search, f, start, objectives, iterations):
    """The same with JAXopt, where all samples take an iteration together."""

    def loss(p, v):
        return -SIGNIFICANCE(f(p), v)

    solver = jaxopt.LBFGS(loss, linesearch=search, maxiter=iterations, tol=0.0, unroll=False, implicit_diff=False)
    run = jax.jit(jax.vmap(lambda p, v: solver.run(p, v).params))
    return jax.block_until_ready(run(start, objectives)), iterations


SIDES = {
    "ours": ours,
    **{f"jaxopt, {search}": partial(theirs, search) for search in ("zoom", "backtracking", "hager-zhang")},
}


def main():
    parser = pairs.parser(__doc__)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--iterations", type=int, default=60)
    options = parser.parse_args()

    counter = Counter()
    phi = jifv.pixels((24, 24, 3))
    plain = jifv.compose(phi.apply, network, jifv.max_mean())

    def counted(p):
        return plain(p) + counter(p)

    columns = ("batch", "line search", "gradients per iteration", "mean significance")
    table = Table("lbfgs", columns, threads=options.threads, out=options.out)
    for batch in options.batches:
        start, objectives = starts(plain, phi, batch)
        for name, run in SIDES.items():
            counter.count = 0
            parameters, iterations = run(counted, start, objectives, options.iterations)
            gradients = counter.count / batch / iterations
            values = SIGNIFICANCE(jax.vmap(plain)(parameters), objectives)
            table.row(batch, name, gradients, float(values.mean()))


if __name__ == "__main__":
    main()
