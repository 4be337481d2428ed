"""Visualizations as people make them, and their inversion: priors, transformations, files of eight bits.

    python benchmarks/priors.py --out benchmarks/results --name priors --cases priors zero transformations
    python benchmarks/priors.py --network googlenet-bvlc --weights bvlc_googlenet.npz --size 112 --features 128 \
        --steps 2000 --cases priors --out benchmarks/results --name priors-gn4c

Eight objectives, sparseness uniform, seed 0, k = 2, pixels, Adam alone with the rate falling over the last 70 % of the
steps; kinks rounded at width 0.1 unless `--width 0`. A row is a case, inverted in one way: the median and the worst
angle between prediction and target, that of the response, the median gap, how many realizations end on the floor of the
cosine, where inversion does not hold and which the worst leaves out, and for priors the relative error of the weights,
the worse one of each sample, its median and its worst, and the smallest of how distinct they are.

Cases: `priors` (smoothness and l2), `zero` (the same ones asked for where there are none), `each` (one prior of every
kind at a time), `transformations` (a fixed set), `anew` (others in every step), `stored` (PNG and JPEG).
"""

import io

from harness import pairs
from harness.tables import Table

WIDTH = 0.1
SEED = 0


def problem(options, features):
    """The response function, φ, targets and where to start."""
    import jax

    import jifv
    from jifv.models import load

    size = {"input_size": options.size} if options.size else {}
    network = load(options.network, layer=options.layer, weights=options.weights, **size)
    phi = jifv.pixels(network.input_shape, std=0.5)
    aggregate = jifv.first(features, jifv.max_mean())
    if options.width:
        rounded = jifv.smooth(lambda x: aggregate(network.apply(x)), network.typical_inputs(), options.width)
        f = jifv.compose(phi.apply, rounded, jifv.identity)
    else:
        f = jifv.compose(phi.apply, network.apply, aggregate)
    target, start = jax.random.split(jax.random.key(SEED))
    targets = jifv.sparse_objectives(target, options.objectives, features)
    return f, phi, targets, jax.vmap(phi.init)(jax.random.split(start, options.objectives))


class Rows:
    """The table of a run."""

    def __init__(self, options, features, targets):
        columns = ("case", "n", "steps", "inverted", "median", "worst", "response", "gap")
        columns += ("on the floor", "weights", "worst weight", "distinct")
        self.options, self.features, self.targets = options, features, targets
        Rows.table = getattr(Rows, "table", None) or Table(
            options.name or "priors", columns, threads=options.threads, out=options.out
        )

    def add(self, case, steps, way, realizations, inversion):
        """Add what one inversion found."""
        import numpy as np

        import jifv

        angles = np.asarray(jifv.angle(inversion.objective, self.targets))
        response = np.median(jifv.angle(realizations.response, self.targets))
        off = ~np.asarray(realizations.on_floor)
        error = worst = sine = float("nan")
        if inversion.weights is not None:
            truth = np.array([prior.weight for prior in realizations.priors])
            sine = float(np.min(inversion.weights.distinct))
            if len(truth):
                errors = np.max(np.abs(np.asarray(inversion.weights.value) / truth - 1), axis=1)
                error, worst = float(np.median(errors)), float(np.max(errors[off]))
        numbers = (np.median(angles), np.max(angles[off]), response, np.median(inversion.gap))
        row = (*map(float, numbers), int(np.sum(~off)), error, worst, sine)
        self.table.row(case, self.features, steps, way, *row)
        print("angles", np.round(np.sort(angles), 3), "on the floor", np.flatnonzero(~off))


def settings(options):
    import jifv

    return jifv.Settings(
        adam_steps=options.steps,
        lbfgs_steps=0,
        learning_rate=options.rate,
        anneal=0.7,
        redirected_steps=options.redirected_steps,
    )


def invert(f, realizations, **how):
    import jifv

    return jifv.invert_batch(f, realizations, dead_tolerance=0.02, progress=True, **how)


def usual(options):
    from jifv import priors

    return (priors.smoothness(100 * options.strength), priors.l2(30 * options.strength))


def with_priors(options, features):
    import jifv

    f, _, targets, start = problem(options, features)
    rows = Rows(options, features, targets)
    found = jifv.visualize(f, start, targets, priors=usual(options), settings=settings(options), progress=True)
    rows.add("priors", options.steps, "with the priors", found, invert(f, found))
    rows.add("priors", options.steps, "priors ignored", found, invert(f, found, priors=()))


def zero(options, features):
    import jifv

    f, _, targets, start = problem(options, features)
    rows = Rows(options, features, targets)
    found = jifv.visualize(f, start, targets, settings=settings(options), progress=True)
    rows.add("no priors", options.steps, "none", found, invert(f, found))
    rows.add("no priors", options.steps, "asked for two", found, invert(f, found, priors=usual(options)))


def each(options, features):
    import jax
    import jax.numpy as jnp

    import jifv
    from jifv import priors

    f, phi, targets, start = problem(options, features)
    rows = Rows(options, features, targets)
    seed = phi.apply(2 * jax.random.normal(jax.random.key(7), start.shape[1:]))
    for prior in (
        priors.total_variation(10),
        priors.smoothness(100),
        priors.l2(30),
        priors.l1(10),
        priors.l_infinity(10),
        priors.energy(100),
        priors.distance(2, f.network, seed),
        priors.Prior(lambda x: jnp.mean((x[..., :1] - x[..., 1:]) ** 2), 30, name="colour"),
    ):
        found = jifv.visualize(f, start, targets, priors=[prior], settings=settings(options), progress=True)
        rows.add(prior.name, options.steps, "with the prior", found, invert(f, found))
        rows.add(prior.name, options.steps, "prior ignored", found, invert(f, found, priors=()))


def tau():
    from jifv import transform

    return transform.chain(transform.shift(2), transform.scale(0.95, 1.05))


def transformations(options, features):
    import jax

    import jifv
    from jifv import transform

    f, _, targets, start = problem(options, features)
    rows = Rows(options, features, targets)
    six = transform.fixed(tau(), jax.random.split(jax.random.key(5), 6))
    found = jifv.visualize(f, start, targets, transformations=six, settings=settings(options), progress=True)
    plain = {"significance": found.significance}
    rows.add("6 fixed", options.steps, "ignored", found, invert(f, found.parameters, **plain))
    mean = transform.mean_response(f, six)
    rows.add("6 fixed", options.steps, "mean response", found, invert(mean, found.parameters, **plain))
    rows.add("6 fixed", options.steps, "reweighted", found, invert(f, found))


def anew(options, features):
    import jax

    import jifv
    from jifv import transform

    f, _, targets, start = problem(options, features)
    rows = Rows(options, features, targets)
    many = transform.anew(tau(), jax.random.key(5), draws=options.draws)
    found = jifv.visualize(f, start, targets, transformations=many, settings=settings(options), progress=True)
    case = f"{options.draws} in every step"
    rows.add(case, options.steps, "ignored", found, invert(f, found.parameters, significance=found.significance))
    for draws in options.inverted_with:
        evenly = transform.spread(tau(), jax.random.key(6), draws)
        rows.add(case, options.steps, f"{draws} spread evenly", found, invert(f, found, transformations=evenly))
        if options.independent:
            others = transform.fixed(tau(), jax.random.split(jax.random.key(6), draws))
            rows.add(case, options.steps, f"{draws} independent", found, invert(f, found, transformations=others))


def stored(options, features):
    import jax
    import jax.numpy as jnp
    import numpy as np
    from PIL import Image

    import jifv
    from jifv import transform

    f, phi, targets, start = problem(options, features)
    rows = Rows(options, features, targets)
    found = jifv.visualize(f, start, targets, settings=settings(options), progress=True)
    plain = {"significance": found.significance}
    rows.add("stored", options.steps, "float32", found, invert(f, found))
    images = np.asarray(jax.vmap(phi.apply)(found.parameters))

    def read_again(kind, **how):
        def one(image):
            buffer = io.BytesIO()
            Image.fromarray(np.round(255 * image).astype(np.uint8)).save(buffer, kind, **how)
            return np.asarray(Image.open(buffer))

        return np.stack([one(image) for image in images])

    for label, kind, how in (
        ("PNG", "PNG", {}),
        ("JPEG 95", "JPEG", {"quality": 95, "subsampling": 0}),
        ("JPEG 75", "JPEG", {"quality": 75}),
    ):
        parameters = jax.vmap(phi.invert)(jnp.asarray(read_again(kind, **how)))
        rows.add("stored", options.steps, label, found, invert(f, parameters, **plain))
        nearby = transform.fixed(within_rounding, jax.random.split(jax.random.key(8), options.rounding_draws))
        averaged = invert(f, parameters, transformations=nearby, rounds=1, **plain)
        rows.add("stored", options.steps, f"{label}, mean over what rounds to it", found, averaged)


def within_rounding(key, x):
    import jax

    return x + jax.random.uniform(key, x.shape, x.dtype, -0.5 / 255, 0.5 / 255)


CASES = {
    "priors": with_priors,
    "zero": zero,
    "each": each,
    "transformations": transformations,
    "anew": anew,
    "stored": stored,
}


def main():
    parser = pairs.parser(__doc__, named=True)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["priors", "zero", "transformations"])
    parser.add_argument("--network", default="densenet")
    parser.add_argument("--layer", help="the default is that of the paper's experiments")
    parser.add_argument("--weights", help="file of the network's weights")
    parser.add_argument("--size", type=int, help="side of the input, if not the network's own")
    parser.add_argument("--features", nargs="+", type=int, default=[32])
    parser.add_argument("--objectives", type=int, default=8)
    parser.add_argument("--steps", type=int, default=300, help="of Adam")
    parser.add_argument("--strength", type=float, default=1.0, help="factor of the priors' weights")
    parser.add_argument("--rate", type=float, default=0.05, help="learning rate of Adam")
    parser.add_argument("--redirected-steps", type=int, default=0, help="of them with gradients for dead features, too")
    parser.add_argument("--draws", type=int, default=2, help="in every step, of the case `anew`")
    parser.add_argument("--inverted-with", nargs="+", type=int, default=[4, 8, 16, 32, 64], help="draws, of `anew`")
    parser.add_argument("--independent", action="store_true", help="draws as well, of `anew`")
    parser.add_argument("--rounding-draws", type=int, default=8, help="for the mean, of `stored`")
    parser.add_argument("--width", type=float, default=WIDTH, help="of the rounded kinks; 0 for the network as it is")
    options = parser.parse_args()
    options.layer = options.layer or {"densenet": "dense3"}.get(options.network, "inception4c")
    for features in options.features:
        for case in options.cases:
            CASES[case](options, features)


if __name__ == "__main__":
    main()
