"""The figures that explain: docs/images/explain-*.png, and the numbers that the text beside them has.

    python benchmarks/figures.py --out benchmarks/results

The networks are those that come with the package, seed 0, k = 2. Rows: `inverted`, three objectives on the first 16
filters of DenseNet's dense3, of one filter, two and many, and what inversion finds; `rest`, ‖JᵀBv*‖/σ₁ while Adam
climbs, of two objectives on the first 32 filters, with the kinks of the network and with rounded ones; `spectrum`, the
last singular values of BJ of one realization and the shares of the target on them, for 16 filters and for the class
scores.
"""

import argparse
from pathlib import Path

import numpy as np
from harness import results

PICTURES = results.ROOT / "docs" / "images"
NAMES = ("explain-ifv.png", "explain-significance.png", "explain-kinks.png", "explain-spectrum.png")
BLUE, GREEN, ORANGE, GREY = "#0072B2", "#009E73", "#D55E00", "#8C8C8C"  # prediction, target, response, the rest


def problem(layer, features, *, rounded, image=False):
    """The response function and φ."""
    import jifv
    from jifv.models import load

    network = load("densenet", layer=layer)
    phi = jifv.pixels(network.input_shape, std=0.5)
    if image:
        phi = jifv.fourier(network.input_shape, decay=1.0, decorrelate_colors=True)
    aggregate = jifv.identity if layer == "classifier" else jifv.first(features, jifv.max_mean())
    if not rounded:
        return jifv.compose(phi.apply, network.apply, aggregate), phi
    smooth = jifv.smooth(lambda x: aggregate(network.apply(x)), network.typical_inputs())
    return jifv.compose(phi.apply, smooth, jifv.identity), phi


def realized(f, phi, targets, steps):
    """Visualizations by Adam alone."""
    import jax

    import jifv

    start = jax.vmap(phi.init)(jax.random.split(jax.random.key(2), len(targets)))
    settings = jifv.Settings(adam_steps=steps, lbfgs_steps=0, learning_rate=0.05, anneal=0.7)
    return jifv.visualize(f, start, targets, settings=settings, progress=True)


def inverted(steps):
    """Draw what a target, a visualization, the response and the prediction are: one feature, two, and many."""
    import jax
    import jax.numpy as jnp
    import matplotlib.pyplot as plt

    import jifv

    f, phi = problem("dense3", 16, rounded=True, image=True)
    one, other = jnp.eye(16)[jnp.array([4, 11])]
    targets = jnp.stack([one, 0.6 * one + 0.8 * other, jifv.sparse_objectives(jax.random.key(3), 3, 16)[2]])
    found = realized(f, phi, targets, steps)
    prediction = jifv.invert_batch(f, found).objective
    response = found.response / np.linalg.norm(found.response, axis=1, keepdims=True)
    images = jax.vmap(phi.apply)(found.parameters)
    rows = []
    figure, axes = plt.subplots(3, 4, figsize=(7.2, 3.6), width_ratios=(1.6, 1, 1.6, 1.6), layout="constrained")
    for index, line in enumerate(axes):
        angles = {name: float(jifv.angle(v[index], targets[index])) for name, v in
                  (("prediction", prediction), ("response", response))}  # fmt: skip
        rows.append({"figure": "inverted", "sample": index, **angles})
        bars(line[0], targets[index], GREEN, "target objective v*" if index == 0 else "")
        line[1].imshow(np.asarray(images[index]), interpolation="nearest")
        line[1].axis("off")
        line[1].set_title("visualization x" if index == 0 else "", fontsize=8)
        bars(line[2], response[index], ORANGE, "response r, what x excites" if index == 0 else "", angles["response"])
        bars(line[3], prediction[index], BLUE, "prediction v, by inversion" if index == 0 else "", angles["prediction"])
    save(figure, "explain-ifv.png")
    return rows


def bars(axes, values, colour, title, angle=None):
    """Draw a vector of features."""
    axes.bar(range(len(values)), values, color=colour)
    axes.axhline(0, color="black", linewidth=0.5)
    axes.set(ylim=(-0.1, 1.05), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=8)
    if angle is not None:
        axes.text(0.98, 0.8, f"{angle:.2g}° off", transform=axes.transAxes, ha="right", fontsize=8)


def significance():
    """Draw d by the angle between r and v, for some powers, and what B does to v."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.6), layout="constrained")
    degrees = np.linspace(-90, 90, 361)
    cos = np.cos(np.radians(degrees))
    for power, colour in zip((0, 1, 2, 4), (GREY, GREEN, BLUE, ORANGE), strict=True):
        left.plot(degrees, cos ** (power + 1), color=colour, label=f"k = {power}")
    left.set(xlabel="angle between r and v, degrees", ylabel="d / ‖r‖", xticks=(-90, -45, 0, 45, 90))
    left.legend(frameon=False, fontsize=8)
    turn = np.radians(35)
    v = np.array([np.cos(turn), np.sin(turn)])
    for vector, colour, label in (((1, 0), ORANGE, "r̂"), (v, GREEN, "v"), ((v[0], 3 * v[1]), BLUE, "Bv")):
        right.annotate("", vector, (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.5})
        right.text(vector[0] + 0.04, vector[1], label, color=colour)
    right.plot(np.cos(np.linspace(0, np.pi / 2)), np.sin(np.linspace(0, np.pi / 2)), color=GREY, linewidth=0.6)
    right.set(xlim=(-0.1, 1.3), ylim=(-0.1, 1.9), aspect="equal", title="k = 2: B stretches what is across r̂ by 3")
    right.title.set_fontsize(8)
    save(figure, "explain-significance.png")


def rest(steps):
    """Draw how far from stationary a visualization is while Adam climbs, with kinks and with rounded ones."""
    import jax
    import matplotlib.pyplot as plt

    import jifv
    from jifv.jacobian import linearize_batch
    from jifv.visualization import advance, finished, start

    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.4), layout="constrained")
    x, width = np.linspace(-2, 2, 401), 1.0
    axes[0].plot(x, np.maximum(x, 0), color=ORANGE, label="ReLU")
    quadratic = np.where(x < width, np.maximum(x, 0) ** 2 / (2 * width), x - width / 2)
    axes[0].plot(x, quadratic, color=BLUE, label="rounded, w = 1")
    axes[0].legend(frameon=False, fontsize=7)
    axes[0].set_title("a kink", fontsize=8)
    slopes = np.linspace(-1.5, 1.5, 401)
    axes[1].plot(slopes, -np.abs(slopes) - 0.3 * slopes, color=ORANGE)
    h = np.where(np.abs(slopes) < 0.5, slopes**2, np.abs(slopes) - 0.25)
    axes[1].plot(slopes, -h - 0.3 * slopes, color=BLUE)
    axes[1].set_title("its maximum: a slope on either side", fontsize=8)
    axes[1].set(xticks=[], yticks=[])
    targets = jifv.sparse_objectives(jax.random.key(0), 2, 32)
    rows = []
    for rounded, colour, label in ((False, ORANGE, "with its kinks"), (True, BLUE, "rounded")):
        f, phi = problem("dense3", 32, rounded=rounded)
        p = jax.vmap(phi.init)(jax.random.split(jax.random.key(2), 2))
        settings = jifv.Settings(adam_steps=steps, lbfgs_steps=0, learning_rate=0.05, anneal=0.7)
        state, taken, values = start(f, p, targets, settings=settings), [], []
        while True:
            at = linearize_batch(f, state.parameters)
            values.append(jifv.stationarity(*at, targets, significance=state.significance))
            taken.append(int(state.step))
            print(label, taken[-1], values[-1], flush=True)
            if finished(state):
                break
            state = advance(f, state, max(steps // 10, 1))
            if int(state.step) >= steps:
                state = advance(f, state)
        axes[2].semilogy(taken, np.array(values)[:, 0], color=colour, label=label)
        axes[2].semilogy(taken, np.array(values)[:, 1], color=colour)
        last = [float(value) for value in values[-1]]
        rows.append({"figure": "rest", "kinks": label, "steps": steps, "least": min(last), "most": max(last)})
    axes[2].set_title("‖JᵀBv*‖ / σ₁ by steps of Adam", fontsize=8)
    axes[2].tick_params(which="minor", labelleft=False)
    axes[2].legend(frameon=False, fontsize=7)
    save(figure, "explain-kinks.png")
    return rows


def spectrum(steps):
    """Draw the singular values of BJ and the share of the target on each, without and with a trivial solution."""
    import jax
    import matplotlib.pyplot as plt

    import jifv
    from jifv.evaluate import beta

    rows = []
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.6), layout="constrained")
    for ax, (layer, n, title) in zip(
        axes, (("dense3", 16, "16 filters of dense3"), ("classifier", 10, "10 class scores")), strict=True
    ):
        f, phi = problem(layer, n, rounded=True)
        targets = jifv.sparse_objectives(jax.random.key(0), 2, n)
        inversion = jifv.invert_batch(f, realized(f, phi, targets, steps))
        values = np.asarray(inversion.singular_values[0] / inversion.singular_values[0, 0], float)
        shares = np.asarray(beta(inversion.singular_vectors, targets)[0], float)[::-1]
        ax.semilogy(range(1, n + 1), values, "o", color=GREY, markersize=4)
        ax.set(
            xlabel="i",
            ylim=(values[-1] / 3, 2),
            xticks=range(1, n + 1, 3),
            title=f"{title}: σᵢ / σ₁, and the target's share",
        )
        ax.title.set_fontsize(8)
        for index, share in enumerate(shares):
            if share > 0.01:
                ax.plot(index + 1, values[index], "o", color=GREEN, markersize=4 + 10 * share)
                ax.annotate(f"{100 * share:.0f} %", (index + 1, values[index]), (-8, 0), textcoords="offset points",
                            ha="right", va="center", fontsize=8, color=GREEN)  # fmt: skip
        rows.append({"figure": "spectrum", "layer": layer, "n": n, "last": values[-1], "before": values[-2],
                     "share of the last": shares[-1], "share of both": shares[-1] + shares[-2]})  # fmt: skip
    save(figure, "explain-spectrum.png")
    return rows


def save(figure, name):
    """Write a picture without the day it was made on."""
    PICTURES.mkdir(exist_ok=True)
    figure.savefig(PICTURES / name, dpi=160, metadata={"Software": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="of Adam; three times as many for `rest`")
    parser.add_argument("--out", type=Path, help="folder for figures.json")
    options = parser.parse_args()

    import matplotlib

    matplotlib.use("Agg")
    result = results.measured_here("figures")
    significance()
    for part, steps in ((inverted, options.steps), (rest, 3 * options.steps), (spectrum, options.steps)):
        result.rows.extend(part(steps))
        print(result.rows, flush=True)
    if options.out:
        result = result._replace(pictures=[f"docs/images/{name}" for name in NAMES])
        print(results.write(result, options.out))


if __name__ == "__main__":
    main()
