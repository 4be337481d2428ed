"""The page of `jifv app`: a picture, and the objective for which it is optimal. A notebook of marimo."""

import marimo  # pyright: ignore[reportMissingImports]

app = marimo.App(app_title="jifv")


@app.cell
def _():
    import marimo as mo  # pyright: ignore[reportMissingImports]
    import matplotlib.pyplot as plt
    import numpy as np

    from jifv import models
    from jifv.cli import workbench

    return mo, models, np, plt, workbench


@app.cell
def _(mo):
    mo.md("""
    # For which objective is this picture optimal?

    Open a picture, or let the network make one, and press *Invert*. Only a finished visualization by *this* network
    has an objective; the verdict tells. Kinks are rounded here: a picture has to be made with rounded kinks, too.
    """)


@app.cell
def _(mo, models):
    usable = [name for name in models.available() if name != "srnet"]
    network = mo.ui.dropdown(usable, value=usable[0], label="network")
    picture = mo.ui.file(filetypes=[".png", ".jpg", ".jpeg"], label="Open a picture")
    seed = mo.ui.number(0, 99, value=0, label="or make example number")
    return network, picture, seed


@app.cell
def _(mo, models, network):
    layers = models.load(network.value).layers
    middle = next((name for name in layers if name in ("dense1.5", "inception4c")), layers[len(layers) // 2])
    layer = mo.ui.dropdown(layers, value=middle, label="layer")
    run = mo.ui.run_button(label="Invert")
    return layer, run


@app.cell
def _(layer, mo, network, picture, run, seed):
    mo.vstack([mo.hstack([network, layer], justify="start"), mo.hstack([picture, seed, run], justify="start")])


@app.cell
def _(layer, mo, network, picture, run, seed, workbench):
    mo.stop(not run.value, mo.md("*Press Invert. An example takes about a minute, most of it compilation.*"))
    with mo.status.spinner(title="Visualizing and inverting"):
        at = workbench.bench(network.value, layer.value)
        content = picture.contents()
        p = workbench.read_picture(content, at) if content else workbench.example(at, seed.value)
        found = workbench.answer(at, p)
    return at, found, p


@app.cell
def _(at, found, mo, np, plt):
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained", width_ratios=(1, 2, 2))
    axes[0].imshow(np.clip(found.picture, 0, 1), interpolation="nearest")
    axes[0].axis("off")
    for axis, vector, colour, title in (
        (axes[1], found.inversion.objective, "#0072B2", "objective: what it could not excite more"),
        (axes[2], found.response, "#D55E00", "response: what it excites"),
    ):
        axis.bar(range(at.features), np.asarray(vector), color=colour)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("feature")
    strongest = np.argsort(-np.asarray(found.inversion.objective))[:5]
    rows = [
        {"feature": at.network.feature_names[i], "objective": f"{found.inversion.objective[i]:.2f}",
         "response": f"{found.response[i]:.2f}"}
        for i in strongest
    ]  # fmt: skip
    mo.vstack(
        [
            mo.md(f"## {found.verdict}"),
            mo.hstack(
                [
                    mo.stat(f"{float(found.inversion.gap):.2f}", label="gap", caption="1: one candidate, 0: several"),
                    mo.stat(
                        f"{float(found.inversion.stationarity):.4f}",
                        label="stationarity",
                        caption="above 0.1: no maximum",
                    ),
                ],
                justify="start",
            ),
            figure,
            mo.ui.table(rows, selection=None, label="strongest features of the objective"),
        ]
    )


@app.cell
def _(at, found, mo, np, p, plt, workbench):
    random = np.random.default_rng(0).uniform(size=at.features).astype(np.float32)
    objectives = {
        "prediction": found.inversion.objective,
        "response": found.response,
        "random": random / np.linalg.norm(random),
    }
    again = workbench.changed(at, p, objectives)
    after, places = plt.subplots(1, 4, figsize=(9, 2.6), layout="constrained")
    shown = {"before": (found.picture, 1.0), **again}
    for place, (name, (image, similar)) in zip(places, shown.items(), strict=True):
        place.imshow(np.clip(image, 0, 1), interpolation="nearest")
        place.set_title(name if name == "before" else f"for the {name}: SSIM {similar:.3f}", fontsize=9)
        place.axis("off")
    mo.vstack([mo.md("## Does it stay? 25 more steps for each objective"), after])


if __name__ == "__main__":
    app.run()
