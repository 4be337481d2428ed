"""docs/priors.md: what inversion finds with priors, under transformations, and of stored pictures."""

from harness.numbers import degrees, fixed, significant
from harness.tables import markdown

from regions.registry import block

_INVERTED = {
    "with the priors": "with them",
    "priors ignored": "without",
    "none": "without",
    "asked for two": "as if with two",
}


_NETWORKS = {
    "priors-dnde": "DenseNet",
    "priors-dnde-342": "DenseNet",
    "priors-dnde-342-kinks": "DenseNet, with its kinks",
    "priors-gn4c-128": "GoogLeNet",
    "priors-gn4c-512": "GoogLeNet",
}


@block("priors", *_NETWORKS)
def priors(*results):
    """Made with priors or without, inverted with them or without."""
    rows = []
    for result in results:
        for row in result.rows:
            numbers = (degrees(row["median"]), degrees(row["response"]), fixed(row["gap"]), _percent(row["weights"]))
            made = (_NETWORKS[result.name], str(row["n"]), row["case"], _INVERTED[row["inverted"]])
            rows.append((*made, *numbers, str(row["on the floor"])))
    columns = ("network", "n", "made with", "inverted", "median angle of the prediction", "of the response", "gap")
    return markdown((*columns, "error of the weights", "on the floor"), rows, left=4)


@block("transformations", "transformations-dnde")
def transformations(result):
    """Ways to invert under transformations."""
    rows = [(row["inverted"], *_angles(row)) for row in result.rows]
    return markdown(("transformations", "median angle of the prediction", "worst", "of the response", "gap"), rows)


@block("anew", "anew-dnde")
def anew(result):
    """How many draws an inversion needs, where every step drew others."""
    (ignored,) = (row for row in result.rows if row["inverted"] == "ignored")
    drawn = sorted((int(row["inverted"].split()[0]), _angles(row)) for row in result.rows if row is not ignored)
    rows = [("ignored", *_angles(ignored)), *((str(draws), *angles) for draws, angles in drawn)]
    return markdown(("draws at inversion", "median angle of the prediction", "worst", "of the response", "gap"), rows)


@block("stored", "stored-dnde")
def stored(result):
    """Files."""
    rows = [(row["inverted"], *_angles(row)) for row in result.rows]
    return markdown(("stored as", "median angle of the prediction", "worst", "of the response", "gap"), rows)


@block("maco", "maco", packages=("jax", "torch", "horama"))
def maco(result):
    """The objective beside Horama's."""
    names = ("adam", "nadam", "alike", "free")
    rows = [(str(row["channel"]), *(fixed(row[name], 4) for name in names)) for row in result.rows]
    columns = ("channel", "Horama, Adam", "Horama, NAdam", "ours, standardized phases", "ours, free phases")
    return markdown(columns, rows)


@block("redirected", "redirected")
def redirected(result):
    """How many channels are dead."""
    rows = [(str(row["redirected"]), str(row["dead before"]), str(row["dead"])) for row in result.rows]
    return markdown(("redirected steps", "dead at the start", "dead in the end"), rows)


def _angles(row):
    return (*(degrees(row[name]) for name in ("median", "worst", "response")), fixed(row["gap"]))


def _percent(share):
    return "" if share is None else f"{significant(100 * share, 2)} %"
