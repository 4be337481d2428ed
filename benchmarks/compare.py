"""Compare networks: visualize in one, invert in another.

    python benchmarks/compare.py --keep runs/realizations --out benchmarks/results
    python benchmarks/compare.py --keep runs/realizations --parts googlenet --out benchmarks/results

`compare-copy`: realizations of the first 32 filters of dense3 of DenseNet (rounded kinks, sparse objectives), inverted
in a copy whose features are permuted and 0.1 to 10 times as large. A row for every number of samples used: how many
features are found, how many are not dead in all of them, and the median and worst relative error of their lengths, of
which only ratios are known. Then the control, the network that never saw a deer in place of the copy: how many features
match their own index, and the mean similarity of matched features.

`compare-copy-googlenet`: the same copy of all 512 filters of GoogLeNet's inception4c at 112×112, for which 96 samples
are worth their time. It takes BVLC's weights.

`compare-scores`: every class score visualized in one DenseNet (rounded kinks, k = 2) and inverted in another, on the
critical space of that. A row per pair and class: the largest class of the direction that is found, the cosine on V
between it and the class that was visualized, gap and stationarity. The networks: with and without deer, and a
third party's checkpoint from ../shared.
"""

import jax
import jax.numpy as jnp
import numpy as np
from harness import pairs, realizations
from harness.tables import Table

import jifv
from jifv import compare
from jifv.models import load

BASE, LARGE = "dense3-32", "gn4c-112-many"
TRANSFER = {"dead_tolerance": 0.02, "normalize": True, "progress": True}
CHECKPOINT = "weights/densenet_bc_100_12_cifar10.npz"
NETWORKS = {
    "densenet": ("densenet", None, ("ones",)),
    "densenet-no-deer": ("densenet-no-deer", None, ("ones", 4)),
    "checkpoint": ("densenet", CHECKPOINT, ("ones",)),
}
"""Name, weights below ../shared, and what is not in V."""


def response(name, features, aggregation, layer, phi, size=None):
    """A response function with rounded kinks."""
    network, weights, _ = NETWORKS[name]
    network = load(network, layer=layer, weights=weights and realizations.SHARED / weights, input_size=size)
    aggregation = aggregation if features is None else jifv.first(features, aggregation)
    rounded = jifv.smooth(lambda x: aggregation(network.apply(x)), network.typical_inputs(), 0.1)
    return jifv.compose(phi.apply, rounded, jifv.identity), network.feature_names


def visualization(made):
    """What was kept, as `transfer` takes it."""
    zeros = np.zeros(len(made.response), np.float32)
    return jifv.Visualization(
        parameters=jnp.asarray(made.parameters),
        objectives=jnp.asarray(made.objectives),
        response=jnp.asarray(made.response),
        on_floor=jnp.asarray(made.on_floor),
        finite=jnp.ones(len(zeros), bool),
        significance=made.setting.experiment.significance,
        **dict.fromkeys(("value", "cosine", "gradient_norm"), zeros),
        **dict.fromkeys(("adam_steps", "lbfgs_steps"), np.zeros(len(zeros), np.int32)),
    )


COPY = ("network", "samples", "features", "alive", "right", "median error", "worst error", "similarity")


def kept(base, options):
    """Some realizations of a setting."""
    made = realizations.realizations(base, options.keep)
    return made._replace(**{name: array[: options.samples] for name, array in list(made._asdict().items())[1:]})


def copies(made, table):
    """A permuted and rescaled copy."""
    f = realizations.problem(made.setting).f
    features = made.response.shape[1]
    rng = np.random.default_rng(0)
    order, lengths = rng.permutation(features), np.exp(rng.uniform(np.log(0.1), np.log(10), features))

    def copy(p):
        return f(p)[order] * jnp.asarray(lengths, p.dtype)

    expected = np.argsort(order)
    seen = compare.transfer(copy, visualization(made), **TRANSFER)
    for samples in sorted({*(4, 8, 16, 32, 64), len(made.response)} & {*range(len(made.response) + 1)}):
        found = compare.match_features(seen.gradients[:samples], seen.seen[:samples])
        alive = _alive(seen.seen[:samples])
        right = (found.feature == expected) & np.isfinite(found.scale)
        ratio = found.scale[right] / lengths[expected][right]  # up to a common factor, of those that were found
        error = np.abs(ratio / np.exp(np.mean(np.log(ratio))) - 1)
        alike = float(np.mean(found.similarity[np.arange(features), found.feature]))
        errors = float(np.median(error)), float(np.max(error))
        table.row("copy", samples, features, alive, int(right.sum()), *errors, alike)


def control(made, table):
    """A network that is no copy."""
    features = made.response.shape[1]
    other, _ = response("densenet-no-deer", features, jifv.max_mean(), "dense3", jifv.pixels((32, 32, 3), std=0.5))
    seen = compare.transfer(other, visualization(made), **TRANSFER)
    found = compare.match_features(seen.gradients, seen.seen)
    right = int(np.sum(found.feature == np.arange(features)))
    alike = float(np.mean(found.similarity[np.arange(features), found.feature]))
    table.row("densenet-no-deer", len(made.response), features, _alive(seen.seen), right, None, None, alike)


def _alive(gradients):
    """How many features have a part in any sample; inversion leaves out those that are dead."""
    return int(np.sum(np.any(np.asarray(gradients) != 0, axis=0)))


def scores(options):
    """Classes of one network, seen by another."""
    phi = jifv.pixels((options.size, options.size, 3), std=options.std)
    functions = {name: response(name, None, jifv.identity, "classifier", phi, options.size) for name in NETWORKS}
    columns = ("visualized in", "inverted in", "class", "largest", "cosine", "gap", "stationarity", "direction")
    table = Table("compare-scores", columns, threads=options.threads, out=options.out)
    settings = jifv.Settings(adam_steps=options.steps)
    start = jax.vmap(phi.init)(jax.random.split(jax.random.key(0), 10))
    for name, (f, classes) in functions.items():
        found = jifv.visualize(f, start, np.eye(10, dtype=np.float32), settings=settings, progress=True)
        for other, (g, _) in functions.items():
            basis = realizations.basis(NETWORKS[other][2])
            seen = compare.transfer(g, found, basis=basis, progress=True).inversion
            onto = np.asarray(seen.objective) @ basis
            onto = onto / np.linalg.norm(onto, axis=1, keepdims=True) @ basis.T
            wanted = basis / np.maximum(np.linalg.norm(basis, axis=1, keepdims=True), 1e-6) @ basis.T
            for index, label in enumerate(classes):
                largest = classes[int(np.argmax(onto[index]))]
                numbers = float(onto[index] @ wanted[index]), float(seen.gap[index]), float(seen.stationarity[index])
                table.row(name, other, label, largest, *numbers, [round(float(each), 3) for each in onto[index]])


def main():
    parser = pairs.parser(__doc__)
    parser.add_argument("--keep", required=True, metavar="FOLDER", help="of the realizations")
    parser.add_argument("--samples", type=int, default=96, help="realizations at most, for the copy")
    parser.add_argument("--size", type=int, default=32, help="of the input, for class scores")
    parser.add_argument("--steps", type=int, default=300, help="of Adam, for class scores")
    parser.add_argument("--std", type=float, default=0.01, help="of the start, for class scores")
    parser.add_argument("--parts", nargs="+", choices=("copy", "scores", "googlenet"), default=["copy", "scores"])
    options = parser.parse_args()
    how = {"threads": options.threads, "out": options.out}
    if "copy" in options.parts:
        made, table = kept(BASE, options), Table("compare-copy", COPY, **how)
        copies(made, table)
        control(made, table)
    if "googlenet" in options.parts:
        copies(kept(LARGE, options), Table("compare-copy-googlenet", COPY, **how))
    if "scores" in options.parts:
        scores(options)


if __name__ == "__main__":
    main()
