"""docs/index.md and docs/method.md: the numbers beside the figures that explain."""

from harness.numbers import significant, span

from regions.registry import words


def _angles(result, name):
    angles = [row[name] for row in result.rows if row["figure"] == "inverted"]
    return f"{significant(min(angles), 2)}° to {significant(max(angles), 2)}°"


@words("figures-response", "figures")
def response(result):
    """Angles of the responses."""
    return _angles(result, "response")


@words("figures-prediction", "figures")
def prediction(result):
    """Angles of the predictions."""
    return _angles(result, "prediction")


def _rest(result, kinks):
    (row,) = (row for row in result.rows if row.get("kinks") == kinks)
    return f"{span([100 * row['least'], 100 * row['most']], lambda share: significant(share, 2))} %"


@words("figures-rest", "figures")
def rest(result):
    """The gradient that is left with kinks."""
    return _rest(result, "with its kinks")


@words("figures-rest-rounded", "figures")
def rest_rounded(result):
    """The gradient that is left with rounded kinks."""
    return _rest(result, "rounded")
