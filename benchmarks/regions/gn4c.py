"""docs/gn4c.md: with the kinks of the network and with rounded ones."""

from math import asin, sqrt
from math import degrees as to_degrees

from harness.numbers import degrees, fixed, significant, span
from harness.tables import markdown

from regions.registry import block, words

_DEAD = 0.5
"""Share of a target on dead features from which the sample has nothing to find."""


@block("gn4c-runs", "gn4c-112", "gn4c-smooth-112", "gn4c-contrast-112", "gn4c-redirected-112", "gn4c-smooth-224")
def runs(*results):
    """As it is and with rounded kinks."""
    columns = ("", "std", "redirected steps", "input", "samples", "steps of Adam", "median angle of the prediction")
    rows = []
    for result in results:
        (row,) = result.rows
        start = f"{row['std']:g}" if "std" in row else "", str(row.get("redirected_steps", 0))
        angles = [sample["angle_prediction"] for sample in result.samples]
        size = "×".join(map(str, row["input"][:2]))
        cells = (size, str(row["samples"]), f"{row['adam_steps']:,}", degrees(row["angles"]["prediction"]["median"]))
        response, rest = degrees(row["angles"]["response"]["median"]), significant(row["stationarity"]["median"], 2)
        gaps = span([sample["gap"] for sample in result.samples], fixed)
        rows.append((_smoothing(row), *start, *cells, span(angles, degrees), response, rest, gaps))
    return markdown((*columns, "from … to", "of the response", "‖JᵀBv*‖/σ₁", "gap"), rows)


@block("gn4c-samples", "gn4c-smooth-112", "gn4c-redirected-112", "gn4c-smooth-224")
def samples(*results):
    """Each sample with rounded kinks: what is wrong with its prediction, and what lies on dead features."""
    columns = ("input", "redirected steps", "objective", "angle of the prediction")
    columns += ("share of the target on dead features", "its angle", "gap", "SSIM after re-optimization")
    rows = []
    for result in results:
        size = "×".join(map(str, result.rows[0]["input"][:2]))
        redirected = str(result.rows[0].get("redirected_steps", 0))
        for sample in result.samples:
            share = sample["target_on_dead"]
            cells = (degrees(sample["angle_prediction"]), f"{100 * share:.1f} %", _angle_of(share))
            similar = fixed(sample["ssim_prediction"], 3)
            rows.append((size, redirected, sample["kind"], *cells, fixed(sample["gap"]), similar))
    return markdown(columns, rows, left=3)


@block("gn4c-kinks", "gn4c-kinks")
def kinks(result):
    """By number of features."""
    rows = sorted(result.rows, key=lambda row: (row["smoothing"], row["features"]))
    numbers = sorted({row["features"] for row in rows})
    kinds = [[row for row in rows if bool(row["smoothing"]) == smoothed] for smoothed in (False, True)]

    def lines(label, write):
        return [(f"{label}, {_smoothing(kind[0])}", *map(write, kind)) for kind in kinds]

    return markdown(
        ("n", *map(str, numbers)),
        [
            *lines("prediction", lambda row: degrees(row["angles"]["prediction"]["median"])),
            *lines("response", lambda row: degrees(row["angles"]["response"]["median"])),
            *lines("‖JᵀBv*‖/σ₁", lambda row: significant(row["stationarity"]["median"], 2)),
            *lines("gap", lambda row: fixed(row["gap"]["median"])),
            *lines("dead targets", lambda row: str(sum(_is_dead(one) for one in _of(result, row)))),
        ],
    )


@block("kinks-projected", "kinks", "kinks-gn4c")
def kinks_projected(*results):
    """Inversion without smoothing, with the gradients of active kinks projected away, and what must not help."""
    rows = []
    for row in (row for result in results for row in result.rows):
        angles = [degrees(row[name]) for name in ("as it is", "projected", "random")]
        gaps = [fixed(row[name]) for name in ("gap", "gap, projected", "gap, random")]
        pairs = [f"{angle}, {gap}" for angle, gap in zip(angles, gaps, strict=True)]
        rest = significant(row["rest"], 2), f"{100 * row['explained']:.0f} %", f"{row['directions']:.0f}"
        rows.append((row["case"], row["end"], *pairs, *rest))
    columns = ("", "", "as it is", "projected", "random directions", "‖JᵀBv*‖/σ₁", "explained", "directions")
    return markdown(columns, rows, left=2)


@words("gn4c-settings", "gn4c-kinks")
def settings(result):
    """What the runs by number of features have in common."""
    row = result.rows[0]
    size = "×".join(map(str, row["input"][:2]))
    return f"{row['samples']} objectives for each n, {size}, {row['adam_steps']:,} steps of Adam"


@words("gn4c-rest", "gn4c-112")
def rest(result):
    """How far from rest the network as it is ends, in percent of σ₁, of targets that are not dead."""
    return _percent(one["stationarity"] for one in result.samples if not _is_dead(one))


@words("gn4c-rest-smoothed", "gn4c-smooth-112", "gn4c-smooth-224")
def rest_smoothed(*results):
    """The same with rounded kinks, of targets that are not dead."""
    return _percent(one["stationarity"] for result in results for one in result.samples if not _is_dead(one))


@words("gn4c-gap-found", "gn4c-smooth-112", "gn4c-smooth-224", "gn4c-kinks")
def gap_found(*results):
    """Gaps where inversion succeeds: all 512 filters, rounded kinks, a target that is not dead."""
    return span([one["gap"] for one in _all_filters(results, smoothed=True) if not _is_dead(one)], fixed)


@words("gn4c-gap-missed", "gn4c-112", "gn4c-kinks")
def gap_missed(*results):
    """Gaps where it fails: all 512 filters of the network as it is."""
    return span([one["gap"] for one in _all_filters(results, smoothed=False)], fixed)


@words("gn4c-gap-dead", "gn4c-smooth-224", "gn4c-kinks")
def gap_dead(*results):
    """Gaps of dead targets, with rounded kinks."""
    found = [one["gap"] for result in results for one in result.samples if _is_dead(one) and _smoothed(result, one)]
    return span(found, fixed)


@words("gn4c-canonical", "gn4c-kinks")
def canonical(result):
    """The worst canonical objective at 512 filters, with rounded kinks."""
    found = _all_filters([result], smoothed=True)
    return degrees(max(one["angle_prediction"] for one in found if one["kind"] == "canonical"))


def _all_filters(results, *, smoothed):
    return [
        one
        for result in results
        for row in result.rows
        if row["features"] == 512 and bool(row["smoothing"]) == smoothed
        for one in _of(result, row)
    ]


def _of(result, row):
    return [sample for sample in result.samples if sample["experiment"] == row["experiment"]]


def _smoothed(result, sample):
    return any(row["smoothing"] for row in result.rows if row["experiment"] == sample["experiment"])


def _is_dead(sample):
    return sample["target_on_dead"] > _DEAD


def _smoothing(row):
    return f"smoothing {row['smoothing']:g}" if row["smoothing"] else "the network as it is"


def _angle_of(share):
    """The angle to a target that lacks this share of its squared length."""
    return degrees(to_degrees(asin(sqrt(min(share, 1.0)))))


def _percent(values):
    values = [100 * value for value in values]
    return f"{span(values, lambda value: significant(value, 2))} %"
