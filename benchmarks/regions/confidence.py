"""docs/confidence.md: how sure an answer is, and audits."""

from functools import partial
from statistics import median

from harness.numbers import degrees, fixed, scientific, significant
from harness.tables import markdown

from regions.registry import block, words


@block("confidence", "confidence")
def confidence(result):
    """Coverage in each setting."""
    shares = {name: name for name in ("above 30°", "undecided", "in the cone", "in intervals")}
    shares |= {"alike": "known: alike", "others": "known: all others"}
    shown = {name: title for name, title in shares.items() if name in result.rows[0]}
    rows = []
    for row in result.rows:
        kinks = {True: "kinks", False: "rounded", None: ""}[row["kinks"]]
        numbers = [str(row["samples"]), degrees(row["angle"]), degrees(row["cone"])]
        numbers += [_percent(row[name]) for name in shown]
        quotient = "" if row["quotient"] is None else degrees(row["quotient"])
        rows.append((row["setting"], kinks, *numbers, quotient))
    columns = ("setting", "network", "samples", "median angle", "median cone", *shown.values(), "median angle/ρ²")
    return markdown(columns, rows, left=2)


@words("confidence-quotients", "confidence")
def quotients(result):
    """Least and largest median quotient."""
    found = [row["quotient"] for row in result.rows if row["quotient"] is not None]
    return f"{degrees(min(found))} to {degrees(max(found))}"


@words("confidence-failures", "confidence")
def failures(result):
    """Answers that are more than 30° off."""
    whole = result.rows[-1]
    return f"{round(whole['above 30°'] * whole['samples'])} of {whole['samples']}"


@block("confidence-risk", "confidence-risk")
def risk(result):
    """What is left if the least sure are dropped."""
    names = list(dict.fromkeys(row["sorted by"] for row in result.rows))
    kept = sorted({row["kept"] for row in result.rows}, reverse=True)
    found = {(row["sorted by"], row["kept"]): row for row in result.rows}
    gone = [each for each in ("errors gone", "failures gone") if each in result.rows[0]]
    rows = []
    for name in names:
        shares = [_percent(found[name, each]["above 10°"]) for each in kept]
        rows.append((name, *shares, *(_percent(found[name, 0.8][each]) for each in gone)))
    columns = ("sorted by", *(f"{_percent(each)} kept" for each in kept))
    return markdown((*columns, *(f"{each}, at 80 %" for each in gone)), rows)


@block("audit-claims", "audit-claims")
def claims(result):
    """Honest claims and others."""
    ranks = ("by stationarity", "by p-value", "by response", "by cosine")
    rows = []
    for row in result.rows:
        shown = ["" if row["kind"] == "honest" else fixed(row[name]) for name in ranks]
        rest, p_value = (significant(row[name], 2) for name in ("stationarity", "p-value"))
        called = _percent(row["p above 0.05"]), _percent(row["called"])
        rows.append((row["kind"], str(row["pictures"]), rest, p_value, *called, *shown))
    columns = ("claim", "pictures", "median stationarity", "median p", "p above 0.05", "called false")
    return markdown((*columns, *(f"AUROC {name}" for name in ranks)), rows)


@block("audit-pictures", "audit-pictures")
def pictures(result):
    """Realizations and what is none."""
    return _told_apart(result, {})


@block("audit-photographs", "audit-photographs")
def photographs(result):
    """Realizations of GoogLeNet and what is none, by the side of the input."""
    return _told_apart(result, {"input": lambda row: f"{row['side']}×{row['side']}"})


def _told_apart(result, first):
    """How well each number tells realizations from other pictures, behind some columns of their own."""
    ranks = ("by stationarity", "by cosine", "by gap", "by negative")
    rows = []
    for row in result.rows:
        shown = ["" if row["kind"] == "realizations" else fixed(row[name]) for name in ranks]
        numbers = significant(row["stationarity"], 2), _percent(row["called"])
        rows.append((*(write(row) for write in first.values()), row["kind"], str(row["pictures"]), *numbers, *shown))
    columns = (*first, "picture", "pictures", "median stationarity", "called optimal for nothing")
    return markdown((*columns, *(f"AUROC {name}" for name in ranks)), rows, left=1 + len(first))


@block("fooling", "fooling")
def fooling(result):
    """Networks that deceive, seen by an audit of them and by one in the layer below."""
    rows = []
    for kind in dict.fromkeys(row["kind"] for row in result.rows):
        those = [row for row in result.rows if row["kind"] == kind]
        cells = [kind]
        for where in ("", " below"):
            rest = significant(median(row[f"stationarity{where}"] for row in those), 2)
            worst = significant(max(row[f"p-value{where}"] for row in those), 2)
            cells += [rest, worst, _of(those, f"said{where}", "stands")]
        cells.append(_of(those, "verdict", "optimal"))
        for name in ("to the claim", "to what is shown"):
            angles = [row[name] for row in those]
            cells.append("" if None in angles else degrees(median(angles)))
        rows.append(tuple(cells))
    columns = ("visualizations", "stationarity", "largest p", "claim stands")
    columns += ("below: stationarity", "below: largest p", "below: claim stands", "below: optimal for something")
    return markdown((*columns, "its angle to the claim", "to what is shown"), rows)


@block("fooling-natural", "fooling-natural")
def natural(result):
    """Natural images."""
    rows = []
    for row in result.rows:
        counts = (f"{row['count']:,}", str(row["taken for made"]), f"{row['scored']:,}")
        shares = (fixed(100 * row[name], 1) + " %" for name in ("same", "honest", "fooled"))
        rows.append((row["images"], row["circuit"], *counts, scientific(row["change"]), *shares))
    columns = ("test images", "circuit", "images", "taken for made", "scored", "largest change of a score")
    return markdown((*columns, "same class", "accuracy without", "accuracy with"), rows, left=2)


@block("compare-copy", "compare-copy")
def copies(result):
    """A permuted and rescaled copy, and a network that is none."""
    rows = []
    for row in result.rows:
        errors = (_percent(row[name]) for name in ("median error", "worst error"))
        found = f"{row['right']} of {row['features']}"
        rows.append((row["network"], str(row["samples"]), found, *errors, fixed(row["similarity"])))
    columns = ("inverted in", "samples", "features found", "median error of lengths", "worst", "mean similarity")
    return markdown(columns, rows)


@block("compare-copy-googlenet", "compare-copy-googlenet")
def googlenet_copies(result):
    """A permuted and rescaled copy of GoogLeNet."""
    rows = []
    for row in result.rows:
        errors = (_percent(row[name]) for name in ("median error", "worst error"))
        rows.append((str(row["samples"]), f"{row['right']} of {row['alive']}", *errors, fixed(row["similarity"])))
    columns = ("samples", "features found, of those alive", "median error of lengths", "worst", "mean similarity")
    return markdown(columns, rows)


@block("compare-scores", "compare-scores")
def scores(result):
    """Classes of one network, seen by another."""
    pairs = list(dict.fromkeys((row["visualized in"], row["inverted in"]) for row in result.rows))
    rows = []
    for pair in pairs:
        those = [row for row in result.rows if (row["visualized in"], row["inverted in"]) == pair]
        right = sum(row["class"] == row["largest"] for row in those)
        cosines = sorted(row["cosine"] for row in those)
        (deer,) = (row for row in those if row["class"] == "deer")
        middle = fixed((cosines[4] + cosines[5]) / 2)
        rest = significant(sorted(row["stationarity"] for row in those)[5], 2)
        rows.append((*pair, f"{right} of {len(those)}", middle, rest, f"{deer['largest']} ({fixed(deer['cosine'])})"))
    columns = ("visualized in", "inverted in", "right class", "median cosine", "median stationarity", "deer becomes")
    return markdown(columns, rows, left=2)


def _range(result, name):
    """Range of the coverage over the settings: in one that is known, of intervals, in those that are not known."""
    shares = [row[name] for row in result.rows if row["kinks"] is not None]
    return f"{_percent(min(shares))} to {_percent(max(shares))}"


def _of(rows, name, value):
    """How many rows have a value."""
    return f"{sum(row[name] == value for row in rows)} of {len(rows)}"


def _percent(share):
    return "" if share is None else f"{significant(100 * share, 2)} %"


for _name, _share in (
    ("own", "in the cone"),
    ("intervals", "in intervals"),
    ("alike", "alike"),
    ("others", "others"),
):
    words(f"confidence-{_name}", "confidence")(partial(_range, name=_share))
