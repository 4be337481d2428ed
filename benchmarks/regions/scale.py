"""docs/scale.md: fewer digits, memory, and what a million inversions cost."""

from harness.numbers import degrees, fixed, percent, significant, span
from harness.tables import markdown

from regions.registry import block, words

_FORMATS = {"tf32": "TF32", "bfloat16": "bfloat16"}
_CASES = {
    "dncl": "DNcl, on V",
    "srnet-geometry-k2": "SRNet, k = 2",
    "gn4c-smooth-pixels": "GN4c, rounded kinks, first 64 filters",
}
_PLANNED = {"googlenet-bvlc": "GN4c", "densenet": "DNde", "srnet": "SRNet"}


@block("precision", "precision")
def precision(result):
    """Median angles of the predictions, by the steps whose factors are rounded."""
    stages = ("Adam before it anneals", "Adam", "Adam and L-BFGS")
    found = {(row["case"], row["format"], row["rounded steps"]): row["prediction"] for row in result.rows}
    titles = {"Adam": "all of Adam"}
    columns = [f"{title}, {titles.get(stage, stage)}" for title in _FORMATS.values() for stage in stages]
    return markdown(
        ("prediction", "float32", *columns),
        [
            (
                title,
                degrees(found[case, "float32", "none"]),
                *(degrees(found.get((case, kind, stage))) for kind in _FORMATS for stage in stages),
            )
            for case, title in _CASES.items()
        ],
    )


@block("million", "million", "roofline")
def million(plans, roofline):
    """What an inversion takes, and a million of them."""
    peak = _peak(roofline)
    table = markdown(
        ("", "gradients", "TFLOP per inversion", "seconds per inversion", "device-hours per million"),
        [
            (
                title,
                f"{row['gradients']:,}",
                significant(row["TFLOP per inversion"]),
                significant(row["s per inversion"]),
                significant(row["device-hours per million"]),
            )
            for name, title in _PLANNED.items()
            for row in plans.rows
            if row["network"] == name
        ],
    )
    shares = [
        span([row["% of the peak"] for row in _measured(roofline, part)], lambda share: f"{share:.0f} %")
        for part in ("FV step", "Jacobian")
    ]
    return (
        f"{table}\n\nThe peak, that of a product of large matrices, is {significant(peak)} GFLOP/s. Steps reach "
        f"{shares[0]} of it, Jacobians {shares[1]}."
    )


@block("bulk", "bulk")
def bulk(result):
    """Many pictures through the command, killed, in shards, and undisturbed."""
    return _runs(result)


@block("bulk-shards", "bulk-shards")
def bulk_shards(result):
    """The same with more pictures, in shards that are killed."""
    return _runs(result)


def _runs(result):
    rows = []
    for row in result.rows:
        counts = (f"{row['pictures']:,}", str(row["processes"]), str(row["cores"]), str(row["kills"]))
        seconds = [significant(row[name]) for name in ("seconds", "per second")]
        ratios = [fixed(row[name]) for name in ("faster", "at work")]
        same = {True: "yes", False: "no", None: ""}[row["same"]]
        rows.append((row["run"], *counts, *seconds, *ratios, same))
    columns = ("run", "pictures", "processes", "cores", "kills", "seconds", "pictures per second at work")
    return markdown((*columns, "times as fast", "at work", "same bytes"), rows)


@block("roofline", "roofline")
def roofline(result):
    """All rows."""
    return markdown(
        ("", "precision", "GFLOP", "ms", "GFLOP/s", "of the peak"),
        [
            (
                row["part"] if row["network"] == "–" else f"{row['network']}, {row['part']}",
                row["precision"],
                *(significant(row[name]) for name in ("GFLOP", "ms", "GFLOP/s")),
                percent(row["% of the peak"] / 100),
            )
            for row in result.rows
        ],
        left=2,
    )


@words("share-of-gradients", "million", "roofline")
def share_of_gradients(plans, roofline):
    """Share of GN4c's FLOP that its gradients take."""
    (plan,) = (row for row in plans.rows if row["network"] == "googlenet-bvlc")
    (jacobian,) = (row for row in _measured(roofline, "Jacobian") if row["network"] == "googlenet-bvlc")
    return percent(1 - jacobian["GFLOP"] / (1000 * plan["TFLOP per inversion"]))


@words("memory-whole", "growth-whole")
def memory_whole(result):
    """Memory of GN4c's Jacobian and inversion, of one sample."""
    (row,) = (row for row in result.rows if row["stage"].endswith("googlenet-bvlc, default"))
    return f"{row['memory, MiB'] / 1024:.2f} GiB"


@words("memory-kept-single", "alternatives-single")
def memory_kept_single(result):
    """What a step of one sample of GoogLeNet saves where memory is kept."""
    return _saved(result, "")


@words("memory-kept-batch", "alternatives-batch-googlenet")
def memory_kept_batch(result):
    """The same of eight samples, on two devices."""
    return _saved(result, ", 2 devices")


def _saved(result, suffix):
    seconds = {row["side"]: row["median"] for row in result.rows if row["case"].startswith("googlenet")}
    return percent(1 - seconds[f"memory kept{suffix}"] / seconds[f"ours{suffix}"])


def _peak(result):
    (row,) = (row for row in result.rows if row["network"] == "–" and row["precision"] == "highest")
    return row["GFLOP/s"]


def _measured(result, part):
    return [row for row in result.rows if row["part"].startswith(part) and row["precision"] == "highest"]
