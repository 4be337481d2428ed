"""benchmarks/results, docs/critical.md: what rounding kinks costs and gains, and how many gradients it takes."""

import re

from harness.numbers import degrees, duration, fixed, ratio
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


@block("hundred", "hundred")
def hundred(result):
    """A classifier of a hundred classes."""
    rows = []
    for row in result.rows:
        kinks = f"rounded, {row['smoothing']:g}" if row["smoothing"] else "as they are"
        angles = (degrees(row[name]) for name in ("prediction", "90 %", "worst", "response"))
        rows.append((kinks, str(row["samples"]), str(row["steps"]), row["V"], *angles, fixed(row["gap"])))
    columns = ("kinks", "samples", "steps", "V (gap in the spectrum)", "prediction on V", "90th percentile", "worst")
    return markdown((*columns, "response on V", "gap"), rows)


_GRADIENTS = ("dncl", "srnet", "fast", "dnde", "gn4c", "gn4c-fast")
_ANNEAL = 0.7


@block("gradients", *(f"gradients-{part}" for part in _GRADIENTS))
def gradients(*results):
    """Median angles by the number of steps of Adam."""
    found = {}
    for row in (row for result in results for row in result.rows if row["anneal"] == _ANNEAL):
        found.setdefault((row["case"], row["learning rate"]), {})[row["steps"]] = row["prediction"]
    steps = sorted({step for angles in found.values() for step in angles})
    cases = list(dict.fromkeys(case for case, _ in found))
    rows = [
        (case, f"{rate:g}", *(degrees(angles[step]) if step in angles else "" for step in steps))
        for (case, rate), angles in sorted(found.items(), key=lambda item: (cases.index(item[0][0]), item[0][1]))
    ]
    return markdown(("", "learning rate", *(f"{step:,}" for step in steps)), rows)
