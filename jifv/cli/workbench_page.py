"""The page of `jifv app`, and a tutorial: a notebook of marimo, to be read and changed with `marimo edit`."""

import marimo  # pyright: ignore[reportMissingImports]

app = marimo.App(app_title="jifv")


@app.cell
def _():
    import base64
    import io

    import marimo as mo  # pyright: ignore[reportMissingImports]
    import numpy as np
    from matplotlib import figure

    from jifv import angle, models
    from jifv.experiments.pictures import desk, html, judging
    from jifv.experiments.report.figures_images import weights
    from jifv.models.files import pictures

    return angle, base64, desk, figure, html, io, judging, mo, models, np, pictures, weights


@app.cell
def _(mo):
    mo.md("""
    # For which objective is this picture optimal?

    *Feature visualization* makes a picture that a network answers with a given direction of its features, the
    *objective*. Here it is the other way round: the picture is given, and the objective is sought. Not what the picture
    excites, its *response*, but what it could not excite more.

    The example was made with this network, from noise. Or open a picture of yours. Only a visualization of this network
    can be optimal for something in it; a photograph is not, and the answer says so.
    """)
    return


@app.cell
def _(mo, models):
    networks = models.available()
    network = mo.ui.dropdown(networks, value=networks[0], label="Network")
    return network, networks


@app.cell
def _(desk, mo, network, pictures):
    layers, first = desk.layers_of(network.value)
    style = "display:flex; flex-wrap:wrap; gap:0.75rem 2rem; align-items:center"
    form = (
        mo.Html(f'<div style="{style}">{{layer}} {{picture}} {{example}}</div>')
        .batch(
            layer=mo.ui.dropdown(layers, value=first, label="Layer"),
            picture=mo.ui.file([*pictures.ENDINGS, ".npy"], label="Open a picture"),
            example=mo.ui.number(1, desk.KNOWN, value=1, label="or take example"),
        )
        .form(submit_button_label="Invert")
    )
    mo.vstack([network, form])
    return first, form


@app.cell
def _(desk, first, form, mo, network, networks):
    mo.stop(form.value is None and network.value != networks[0], mo.md("*Choose a layer and a picture: Invert.*"))
    chosen = form.value or {"layer": first, "picture": (), "example": 1}
    example = None if chosen["picture"] else chosen["example"] - 1
    waiting = "The first time this takes a minute; a deep layer, or a large network, takes longer."
    with mo.status.spinner("Preparing the network" if chosen["picture"] else "Making examples", waiting) as spinner:
        try:
            at = desk.desk_of(network.value, chosen["layer"])
            if example is None:
                parameters = at.parameters(chosen["picture"][0].name, chosen["picture"][0].contents)
            elif at.quick:
                parameters = at.known.parameters[[example]]
            else:
                raise ValueError("There are no examples of so large a network: open a picture")
        except (TypeError, ValueError, OSError) as error:
            mo.stop(True, mo.callout(str(error), "danger"))
        spinner.update("Inverting")
        found = at.answer(parameters)
    return at, example, found, parameters


@app.cell
def _(angle, at, example, found, html, judging, mo):
    _lines = [f"## This picture is {found.verdict.text()}"]
    if found.verdict.kind == "unknown":
        _lines = [f"## Of this picture {found.verdict.text()}"]
    if example is not None:
        _target = at.known.objectives[example]
        _off = angle(found.objective, _target, basis=at.question.basis)
        _said = ", ".join(f"{name} ({entry:.2f})" for name, entry in judging.strongest(_target, at.names, 4))
        _lines.append(f"It was made for {_said}: the answer is {_off:.2f}° off, over all features.")
    _numbers = [
        mo.stat(f"{found.inversion.stationarity[0]:.2g}", "stationarity", "part of the gradient that is left"),
        mo.stat(f"{found.inversion.gap[0]:.2g}", "gap", "1: one answer, 0: several"),
        mo.stat(f"{found.cosine:.2g}", "cos(r, v)", "of response and objective"),
    ]
    mo.vstack(
        [
            mo.md("\n\n".join(_lines)),
            mo.hstack([mo.Html(html.strip(found.image[None], [""])), *_numbers], justify="start", wrap=True, gap=0),
            mo.md("""
            At a maximum the gradient vanishes, and the gradient is linear in the objective. So the objective is a null
            vector of a matrix that can be computed. **Stationarity** says how well it is one: above 0.1 this is no
            maximum of anything, and the objective means nothing. The **gap** says whether another objective would do
            nearly as well. If **cos(r, v)** is on its floor, nobody has maximized this.
            """),
        ]
    )
    return


@app.cell
def _(at, base64, example, figure, found, io, mo, weights):
    _vectors = {"prediction": found.objective, "response": found.response}
    if example is not None:
        _vectors = {"target": at.known.objectives[example], **_vectors}
    _figure = figure.Figure(figsize=(4, 2.6), layout="constrained")
    _axes = _figure.subplots()
    weights(_axes, _vectors, at.names, 12)
    _axes.legend(fontsize=5.5, frameon=False)
    _axes.set_ylabel("feature", fontsize=5.5)
    _file = io.BytesIO()
    _figure.savefig(_file, format="svg")
    _drawn = base64.b64encode(_file.getvalue()).decode()
    mo.vstack(
        [
            mo.md("""
            ## Objective and response

            The *prediction* is the objective that was found. The *response* is what the picture excites: a picture of
            stripes excites a detector of crosses, too, but crosses would excite it more.
            """),
            mo.image(f"data:image/svg+xml;base64,{_drawn}", alt="Bars for the strongest features", width="100%"),
        ]
    )
    return


@app.cell
def _(at, found, html, mo, np, parameters):
    mo.stop(not np.isfinite(found.objective).all())
    with mo.status.spinner("Optimizing further"):
        _again = at.reoptimize(parameters, found)
    _names = ("before", *(f"for {name}: SSIM {similar:.2f}" for name, (_, similar) in _again.items()))
    mo.vstack(
        [
            mo.md("""
            ## Does it stay?

            If this picture is a maximum of the prediction, further steps towards that change little. Towards its
            response, or another objective, it moves. SSIM is the similarity with the picture before: 1 is the same.
            """),
            mo.Html(html.strip(np.stack([found.image, *(image for image, _ in _again.values())]), _names)),
        ]
    )
    return


@app.cell
def _(at, desk, found, mo):
    mo.stop(found.verdict.kind != "optimal")
    compare = mo.ui.run_button(label=f"Make {desk.KNOWN} pictures whose objectives are known")
    _text = mo.md("""
    ## How sure is that?

    Pictures of the same network whose objectives are known tell how far off such answers are. What they say holds for a
    picture that was made as they were.
    """)
    mo.vstack([_text] if at.quick else [_text, mo.md("For so large a network this takes a while."), compare])
    return (compare,)


@app.cell
def _(at, compare, example, found, html, judging, mo):
    mo.stop(not at.quick and not compare.value)
    with mo.status.spinner("Making pictures whose objectives are known"):
        sure = at.confidence(found, without=example)
    _rows = []
    for _name, _entry in judging.strongest(found.objective, at.names, 6):
        _at = at.names.index(_name)
        _interval = f"{sure.lower[_at]:.2f} to {sure.upper[_at]:.2f}"
        _rows.append((_name, f"{_entry:.2f}", _interval, f"{100 * sure.top[_at]:.0f} %"))
    _open = " That is undecided." if sure.undecided else ""
    mo.vstack(
        [
            mo.md(f"With 90 % the objective is within **{float(sure.cone):.2g}°** of the prediction.{_open}"),
            mo.Html(html.table("", ("feature", "entry", "with 90 %", "among the three largest"), _rows)),
        ]
    )
    return


@app.cell
def _(at, mo):
    mo.md(f"""
    ## The same for many pictures

    ```bash
    jifv visualize --network {at.network.name} --layer {at.network.layer} --feature 0 --out runs/mine
    jifv invert runs/mine/realizations.zarr
    jifv invert cat.jpg photos --network {at.network.name} --layer {at.network.layer}
    ```

    The code of this page is in its menu: *Show code*.
    """)
    return


if __name__ == "__main__":
    app.run()
