"""L-BFGS: gradients of the whole batch that an iteration costs, ours against JAXopt's own line searches under vmap.

    python benchmarks/lbfgs.py

Every evaluation of the response function on the batch is counted by a callback from inside the compiled program. Both
sides start from the same realizations, 200 steps of Adam in, and run until as many iterations are done.
"""

import argparse
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import jifv

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import jaxopt


class Counter:
    """Counts how often a vmapped function is evaluated, on the whole batch at a time."""

    def __init__(self):
        self.count = 0

    def __call__(self, p):
        """Zero, and one more evaluation."""
        zero = jax.ShapeDtypeStruct((), p.dtype)
        seen = jax.lax.stop_gradient(p.ravel()[0])
        return jax.pure_callback(self._add, zero, seen, vmap_method="broadcast_all")

    def _add(self, seen):
        self.count += 1
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=60)
    arguments = parser.parse_args()

    counter = Counter()
    phi = jifv.pixels((24, 24, 3))
    plain = jifv.compose(phi.apply, network, jifv.max_mean())

    def counted(p):
        return plain(p) + counter(p)

    objectives = jifv.sparse_objectives(jax.random.key(0), arguments.batch, 16)
    start = jax.vmap(phi.init)(jax.random.split(jax.random.key(1), arguments.batch))
    adam = jifv.Settings(adam_steps=200, lbfgs_steps=0)
    start = jifv.visualize(plain, start, objectives, settings=adam, progress=False).parameters

    print(
        f"batch {arguments.batch}, {arguments.iterations} iterations; {jax.devices()[0].device_kind}, "
        f"jax {jax.__version__}"
    )
    print("| line search | gradients an iteration | mean significance |")
    print("| --- | --- | --- |")
    ours = jifv.Settings(adam_steps=0, lbfgs_steps=arguments.iterations)
    counter.count = 0
    result = jifv.visualize(counted, start, objectives, settings=ours, progress=False)
    iterations = int(result.lbfgs_steps.max())
    print(f"| ours | {counter.count / iterations:.2f} | {float(result.significance.mean()):.5f} |")

    def loss(p, v):
        return -jifv.significance(counted(p), v, power=2.0, floor=0.1)

    for search in ("zoom", "backtracking", "hager-zhang"):
        solver = jaxopt.LBFGS(
            loss, linesearch=search, maxiter=arguments.iterations, tol=0.0, unroll=False, implicit_diff=False
        )
        counter.count = 0
        parameters = jax.jit(jax.vmap(lambda p, v, solver=solver: solver.run(p, v).params))(start, objectives)
        jax.block_until_ready(parameters)
        significance = jifv.significance(jax.vmap(plain)(parameters), objectives, power=2.0, floor=0.1)
        print(
            f"| jaxopt, {search} | {counter.count / arguments.iterations:.2f} | {float(jnp.mean(significance)):.5f} |"
        )


if __name__ == "__main__":
    main()
