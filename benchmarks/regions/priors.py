"""docs/priors.md: what inversion finds with priors, under transformations, and of stored pictures."""

from harness.numbers import degrees, fixed, significant
from harness.tables import markdown

from regions.registry import block


@block("priors", "priors-dnde", "priors-dnde-342")
def priors(*results):
    """With the priors and without, by number of features."""
    columns = ("n", "priors", "median angle of the prediction", "worst", "of the response", "gap")
    rows = [
        (str(row["n"]), row["inverted"].removeprefix("priors "), *_angles(row), *_weights(row))
        for result in results
        for row in result.rows
        if row["case"] == "priors"
    ]
    return markdown((*columns, "error of the weights", "worst", "on the floor"), rows, left=2)


@block("transformations", "transformations-dnde")
def transformations(result):
    """Ways to invert under transformations."""
    rows = [(row["inverted"], *_angles(row)) for row in result.rows]
    return markdown(("transformations", "median angle of the prediction", "worst", "of the response", "gap"), rows)


@block("stored", "stored-dnde")
def stored(result):
    """Files."""
    rows = [(row["inverted"], *_angles(row)) for row in result.rows]
    return markdown(("stored as", "median angle of the prediction", "worst", "of the response", "gap"), rows)


def _angles(row):
    return (*(degrees(row[name]) for name in ("median", "worst", "response")), fixed(row["gap"]))


def _weights(row):
    return (*(_percent(row[name]) for name in ("weights", "worst weight")), str(row["on the floor"]))


def _percent(value):
    return significant(None if value is None else 100 * value, 2) + ("" if value is None else " %")
