"""README and docs/paper.md: the paper's claims."""

from harness.numbers import degrees, fixed, scientific, significant, span
from harness.tables import markdown

from regions.registry import block, words

_LABELS = {"densenet": "DNde", "googlenet-bvlc": "GN4c", "srnet": "SRNet"}
_PARAMETRIZATIONS = {
    "pixels": "pixels",
    "fourier": "Fourier",
    "fourier_decorrelated": "Fourier, decorrelated colours",
    "geometry": "geometry, mask fixed",
    "geometry_with_mask": "geometry, mask free",
}
_DEER = 4
"""CIFAR-10's number of the class that DN4cl has never seen."""


@block("dncl", "dncl")
def dncl(result):
    """README: the angles of the main example."""
    as_it_is, rounded = _kinked(result), _rounded(result)
    features, dimension = as_it_is["features"], as_it_is["chosen_dimension"]
    if rounded["chosen_dimension"] != dimension:
        raise ValueError("the two networks have critical spaces of other dimensions: write a table for each")
    cells = [
        (f"prediction in R{_superscript(features)}", "prediction"),
        (f"prediction in V (dimension {dimension}), on V", "prediction_on_v"),
        ("response, on V", "response_on_v"),
        ("random objective, on V", "random_on_v"),
    ]
    table = markdown(
        ("median angle to the target (90th percentile)", "network as it is", "rounded kinks"),
        [(label, *map(_spread(name), (as_it_is, rounded))) for label, name in cells],
    )
    steps = f"{_steps(as_it_is)} steps, rounded {_steps(rounded)}"
    return f"{table}\n\n{as_it_is['samples']} objectives, {steps}, seed {as_it_is['seed']}."


@block("paper-gn4c", "gn4c-112", "gn4c-redirected-112", "gn4c-smooth-224")
def gn4c(*results):
    """Section 3.4: all filters of inception4c."""
    columns = ("", "input", "samples", "steps", "prediction", "90th percentile", "response", "β₀")
    similarities = ("target", "prediction", "response", "random")
    rows = []
    for row in (row for result in results for row in result.rows):
        label = f"kinks rounded, smoothing {row['smoothing']:g}" if row["smoothing"] else "the network as it is"
        cells = (_interval(row, "prediction"), degrees(row["angles"]["prediction"]["p90"]), _interval(row, "response"))
        similar = (fixed(row["ssim"][name]["median"], 3) for name in similarities)
        rows.append((label, _size(row), str(row["samples"]), _steps(row), *cells, fixed(row["beta"][0]), *similar))
    return markdown((*columns, *(f"SSIM, {name}" for name in similarities)), rows)


@block("paper-classes", "dncl", "dn4cl")
def classes(*results):
    """Section 3.5: class scores in Rⁿ and on V."""
    columns = ("", "kinks", "samples", "steps", "prediction in R¹⁰", "on V", "90th percentile on V", "response on V")
    rows = []
    for row in (row for result in results for row in result.rows):
        on_v = (_interval(row, "prediction_on_v"), degrees(row["angles"]["prediction_on_v"]["p90"]))
        shares = (fixed(share) for share in row["beta"][:3])
        cells = (degrees(row["angles"]["prediction"]["median"]), *on_v, _interval(row, "response_on_v"), *shares)
        rows.append((_title(row), _kinks(row), str(row["samples"]), _steps(row), *cells))
    return markdown((*columns, "β₀", "β₁", "β₂"), rows, left=2)


@block("paper-spaces", "dncl", "dn4cl")
def spaces(*results):
    """Section 3.5: what Algorithm 1 finds."""
    columns = ("", "kinks", "dimension of V", "threshold ε from", "to", "gap", "prediction on V", "by chance", "")
    rows = []
    for row in (row for result in results for row in result.rows):
        for space in row["critical_spaces"]:
            chosen = "chosen" if space["dimension"] == row["chosen_dimension"] else ""
            low, high = space["threshold_low"], space["threshold_high"]
            thresholds = (scientific(low) if low < 1e-3 else fixed(low), fixed(high))
            angles = map(degrees, (space["median_angle"], space["median_angle_of_chance"]))
            cells = (str(space["dimension"]), *thresholds, significant(space["gap"], 2), *angles)
            rows.append((_title(row), _kinks(row), *cells, chosen))
    return markdown(columns, rows, left=2)


@words("deer-component", "dn4cl")
def deer_component(result):
    """How much of the direction that the chosen V leaves out, besides the common shift, is the class never seen."""
    return fixed(max(abs(vector[_DEER]) for vector in _left_out(result)))


@words("deer-others", "dn4cl")
def deer_others(result):
    """The other classes' components of that direction, with the sign that makes the deer's positive."""
    vector = max(_left_out(result), key=lambda vector: abs(vector[_DEER]))
    sign = 1 if vector[_DEER] > 0 else -1
    others = [sign * value for index, value in enumerate(vector) if index != _DEER]
    return f"{fixed(min(others))} to {fixed(max(others))}"


@words("deer-plane", "dn4cl")
def deer_plane(result):
    """Share of the deer's unit vector in what V leaves out."""
    return f"{100 * sum(vector[_DEER] ** 2 for vector in _left_out(result)):.0f} %"


@block("paper-features", "dnde", "gn4c-features")
def features(*results):
    """Section 3.6: number of features, aggregation, power of the cosine."""
    columns = ("", "kinks", "features", "aggregation", "k", "steps", "samples")
    rows = []
    for row in (row for result in results for row in result.rows):
        cells = (str(row["features"]), row["aggregation"].replace("_", "-"), f"{row['power']:g}", _steps(row))
        rows.append((_LABELS[row["network"]], _kinks(row), *cells, str(row["samples"]), *_outcome(row)))
    return markdown((*columns, *_OUTCOME), rows, left=2)


@block("paper-parametrizations", "parametrizations", "srnet")
def parametrizations(*results):
    """Section 3.7: other parametrizations, and SRNet."""
    columns = ("", "kinks", "parametrization", "features", "k", "steps", "samples")
    rows = []
    for row in (row for result in results for row in result.rows):
        label = (_LABELS[row["network"]], _kinks(row))
        cells = (_PARAMETRIZATIONS[row["parametrization"]], str(row["features"]), f"{row['power']:g}", _steps(row))
        rows.append((*label, *cells, str(row["samples"]), *_outcome(row)))
    return markdown((*columns, *_OUTCOME), rows, left=3)


_OUTCOME = ("prediction", "90th percentile", "response", "β₀", "‖JᵀBv*‖/σ₁")


def _outcome(row):
    angles = (_interval(row, "prediction_on_v"), degrees(row["angles"]["prediction_on_v"]["p90"]))
    return (
        *angles,
        _interval(row, "response_on_v"),
        fixed(row["beta"][0], 3),
        significant(row["stationarity"]["median"], 2),
    )


def _median_and_p90(row, name):
    return tuple(degrees(row["angles"][name][which]) for which in ("median", "p90"))


def _interval(row, name):
    """The median with the bootstrap's interval of it, where the run has one."""
    angle = row["angles"][name]
    return degrees(angle["median"]) + (f" ({span(angle['interval'], degrees)})" if angle.get("interval") else "")


def _steps(row):
    """Steps of the optimizer, as the documents say it."""
    adam, lbfgs = f"{row['adam_steps']:,} Adam", f"{row['lbfgs_steps']:,} L-BFGS"
    return f"{adam} + {lbfgs}" if row["lbfgs_steps"] else adam


def _size(row):
    return "×".join(map(str, row["input"][:2]))


def _title(row):
    return {"densenet": "DNcl", "densenet-no-deer": "DN4cl"}[row["network"]]


def _kinks(row):
    return "rounded" if row["smoothing"] else "as they are"


def _kinked(result):
    (row,) = (row for row in result.rows if not row["smoothing"])
    return row


def _rounded(result):
    (row,) = (row for row in result.rows if row["smoothing"])
    return row


def _spread(name):
    return lambda row: "{} ({})".format(*_median_and_p90(row, name))


def _superscript(number):
    return str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _left_out(result):
    """An orthonormal basis of what the space without the class never seen leaves out, with rounded kinks."""
    row = _rounded(result)
    (space,) = (space for space in row["critical_spaces"] if space["dimension"] == row["features"] - 2)
    return space["cokernel"]
