"""benchmarks/results: what rounding kinks costs, and how many gradients a prediction takes."""

import re

from harness.numbers import degrees, duration, ratio, significant
from harness.tables import markdown

from regions.registry import block

_CASE = re.compile(r"(step|tracing), (\S+) (\d+×\d+), batch (\d+)")


@block("rounded-cost", "smoothing")
def rounded_cost(result):
    """A step with rounded kinks beside one without, and tracing it."""
    cases = {}
    for row in result.rows:
        cases.setdefault(_CASE.fullmatch(row["case"]).groups(), {})[row["side"]] = row["median"]
    rows = []
    for (what, network, size, batch), sides in cases.items():
        if what == "step":
            before, after = sides["as it is"], sides["smoothed"]
            rows.append((network, size, batch, duration(before), duration(after), ratio(after / before)))
    added = [
        (network, size, "to trace", duration(sides["as it is"]), duration(sides["smoothed"]), "")
        for (what, network, size, _), sides in cases.items()
        if what == "tracing"
    ]
    return markdown(("", "input", "batch", "as it is", "rounded", "times"), sorted(rows + added), left=3)


@block("gradients", "gradients")
def gradients(result):
    """Steps of Adam, and the angles that they leave."""
    return markdown(
        ("", "learning rate", "anneal", "gradients per sample", "prediction", "90th percentile"),
        [
            (
                row["case"],
                f"{row['learning rate']:g}",
                f"{row['anneal']:g}",
                significant(row["gradients"]),
                degrees(row["prediction"]),
                degrees(row["90 %"]),
            )
            for row in result.rows
        ],
    )
