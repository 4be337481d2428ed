"""README and benchmarks/results: speed beside PyTorch, NumPy and SciPy, and what was decided."""

import re

from harness.numbers import duration, milliseconds, ratio, significant, span
from harness.tables import markdown

from regions.registry import block

_NETWORKS = {"densenet": "DenseNet dense3", "srnet": "SRNet block8", "googlenet": "GoogLeNet inception4c"}
_CASE = re.compile(r"(densenet|srnet|googlenet)\S* \d+×\d+, (.*)")
_STEPS = ("fv_step",)
_JACOBIANS = ("jacobian", "jacobian-googlenet")
_ALTERNATIVES = ("alternatives-single", "alternatives-batch", "alternatives-batch-googlenet")
_INVERSIONS = {
    "1 × (64 × 3072)": "64 × 3072",
    "64 × (64 × 3072)": "64 × 3072, 64 of them",
    "1 × (342 × 3072)": "342 × 3072",
    "8 × (342 × 3072)": "342 × 3072, 8 of them",
    "1 × (1024 × 3072)": "1024 × 3072",
    "1 × (512 × 37632)": "512 × 37,632",
    "1 × (512 × 150528)": "512 × 150,528",
}


@block("speed", *_STEPS, *_JACOBIANS, packages=("jax", "torch"))
def speed(*results):
    """README: how many times as fast as PyTorch's best."""
    steps, jacobians = _cases(results[:1]), _cases(results[1:])

    def of_steps(network, ours):
        faster = [_best(sides) / ours(sides) for (name, _), sides in steps.items() if name == network and ours(sides)]
        return span(faster, lambda value: significant(value, 2))

    def of_jacobian(network, ours):
        (sides,) = (sides for (name, _), sides in jacobians.items() if name == network)
        return significant(_starting(sides, "torch.func") / ours(sides), 2)

    return markdown(
        ("times as fast as PyTorch", *(title.split()[0] for title in _NETWORKS.values())),
        [
            ("step of feature visualization", *(of_steps(network, _as_it_is) for network in _NETWORKS)),
            ("the same, each core a device", *(of_steps(network, _on_devices) for network in _NETWORKS)),
            ("Jacobian of all features", *(of_jacobian(network, _as_it_is) for network in _NETWORKS)),
            ("the same, a sample on each core", *(of_jacobian(network, _on_devices) for network in _NETWORKS)),
        ],
    )


@block("steps", *_STEPS, packages=("jax", "torch"))
def steps(result):
    """A step of feature visualization."""
    rows = []
    for network, title in _NETWORKS.items():
        for (name, rest), sides in _cases([result]).items():
            if name != network:
                continue
            best, one, two = _best(sides), _as_it_is(sides), _on_devices(sides)
            times = (duration(one), _or_empty(duration, two), duration(best))
            faster = (ratio(best / one), ratio(best / two) if two else "")
            rows.append((title, rest, *times, *faster))
            title = ""
    columns = ("", "", "one device", "each core a device", "PyTorch's best", "faster, one device")
    return markdown((*columns, "faster, each core a device"), rows, left=2)


@block("peers", "peers", "peers-horama", packages=("jax", "torch", "torch-lucent", "horama"))
def peers(*results):
    """A step beside Lucent's and Horama's."""
    rows, measured = [], [row for result in results for row in result.rows]
    for case in dict.fromkeys(row["case"] for row in measured):
        sides = {row["side"]: row["median"] for row in measured if row["case"] == case and row.get("median")}
        ours, command = sides["ours"], _starting(sides, "ours, memory kept")
        alike = min(sides[side] for side in sides if side.startswith(("Lucent, no padding", "Horama")))
        as_it_is = sides.get("Lucent")
        whole = sides.get("Lucent, whole network")
        times = (duration(ours), duration(command), duration(alike), _or_empty(duration, as_it_is))
        times += (_or_empty(duration, whole),)
        rows.append((case, *times, ratio(alike / ours), ratio(alike / command)))
    columns = ("", "ours", "ours, as the command", "theirs, as many pixels", "Lucent", "Lucent, whole network")
    return markdown((*columns, "faster", "faster, as the command"), rows)


@block("jacobians", *_JACOBIANS, packages=("jax", "torch"))
def jacobians(*results):
    """The Jacobian of all features, per sample."""
    cases = {case[0]: (case[1], sides) for case, sides in _cases(results).items()}
    rows = []
    for network, title in _NETWORKS.items():
        features, sides = cases[network]
        one, two = _as_it_is(sides), _on_devices(sides)
        others = _starting(sides, "torch.func"), _starting(sides, "PyTorch, loop")
        faster = [" and ".join(ratio(other / ours) for other in others) for ours in (one, two)]
        rows.append((title, features, *map(duration, (one, two, *others)), *faster))
    columns = ("", "", "one device", "each core a device", "`torch.func`", "a loop", "faster, one device")
    return markdown((*columns, "faster, each core a device"), rows, left=2)


@block("alternatives", *_ALTERNATIVES)
def alternatives(*results):
    """A step with one decision changed, in milliseconds."""
    columns = {
        "as it is": "ours",
        "XLA's products (YNNPACK)": "XLA's choice of products",
        "memory kept": "memory kept",
        "in `lax.scan`": "in a loop",
        "all samples at once": "all at once",
    }
    rows = []
    for (network, rest), sides in _cases(results).items():
        for suffix in ("", ", 2 devices"):
            names = [side + suffix for side in columns.values()]
            if names[0] in sides:
                label = f"{_NETWORKS[network].split()[0]}, {rest}{suffix}"
                rows.append((label, *(_or_empty(milliseconds, sides.get(name)) for name in names)))
    return markdown(("ms", *columns), rows)


@block("inversions", "inversion", "inversion-accuracy", packages=("jax", "numpy", "scipy"))
def inversions(speeds, angles):
    """Inversion from a given Jacobian."""
    rows = []
    for case, title in _INVERSIONS.items():
        seconds = {row["side"]: row["median"] for row in speeds.rows if row["case"] == case}
        count, found = int(case.split()[0]), {}
        for row in angles.rows:
            if row["case"] == case and row["spectrum"] == "no gap":
                found[row["side"]] = row["degrees"]
        ours = seconds["ours"] / count
        others = (
            seconds["SciPy, QR and SVD"] / count,
            min(seconds[f"SciPy, SVD, {driver}"] for driver in ("gesdd", "gesvd")) / count,
            seconds["NumPy, SVD"] / count,
        )
        times = (milliseconds(ours), *(f"{milliseconds(other)} ({ratio(other / ours)})" for other in others))
        errors = (found[side] for side in ("ours", "SciPy, QR and SVD", "NumPy, SVD"))
        rows.append((title, *times, *(significant(error, 2) + "°" for error in errors)))
    columns = ("n × m", "ours, ms", "SciPy, QR and SVD", "SciPy, SVD", "NumPy, SVD")
    return markdown((*columns, "error, ours", "SciPy, QR and SVD", "NumPy"), rows)


@block("growth", "growth", "growth-whole")
def growth(parts, whole):
    """Time, compilation and memory by n, m and batch."""
    rows = [row for row in parts.rows] + [row for row in whole.rows if row["stage"].endswith(", default")]
    return markdown(
        ("", "n", "m", "batch", "ms", "to compile, s", "memory, MiB"),
        [
            (
                row["stage"].replace("googlenet-bvlc", "googlenet").replace(", default", ""),
                f"{row['n']}",
                f"{row['m']:,}",
                f"{row['batch']}",
                significant(row["ms"]),
                significant(row["to compile, s"], 2),
                f"{row['memory, MiB']:,}",
            )
            for row in rows
        ],
    )


@block("lbfgs", "lbfgs")
def lbfgs(result):
    """Gradients that an iteration of L-BFGS costs."""
    batches = sorted({row["batch"] for row in result.rows})
    found = {(row["line search"], row["batch"]): row["gradients per iteration"] for row in result.rows}
    searches = list(dict.fromkeys(row["line search"] for row in result.rows))
    return markdown(
        ("gradients per iteration", *(f"batch {batch}" for batch in batches)),
        [(search, *(significant(found.get((search, batch))) for batch in batches)) for search in searches],
    )


@block("training", "training", packages=("jax", "torch"))
def training(result):
    """A gradient of DenseNet's training, by the size of the images."""
    cases = {}
    for row in result.rows:
        cases.setdefault(row["case"], {})[row["side"]] = row["median"]
    rows = []
    for case, sides in cases.items():
        ours, automatic, best = sides["in parts"], sides["automatic"], _best(sides)
        rows.append((case, *map(duration, (ours, automatic, best)), ratio(automatic / ours), ratio(best / ours)))
    columns = ("", "in parts", "automatic", "PyTorch's best", "faster than automatic", "faster than PyTorch")
    return markdown(columns, rows)


@block("timings", "timings")
def timings(result):
    """The paper's Table 1."""
    stages = {
        "visualize": "FV",
        "jacobian": "Jacobian",
        "invert": "inversion",
        "critical": "Algorithm 1",
        "reoptimize": "re-optimization",
    }
    return markdown(
        ("seconds per sample", "n", "m", "steps", *stages.values()),
        [
            (
                row["experiment"],
                str(row["features"]),
                f"{row['parameters']:,}",
                f"{row['adam_steps']} + {row['lbfgs_steps']}",
                *(significant(row["seconds_per_sample"].get(stage), 2) for stage in stages),
            )
            for row in result.rows
        ],
    )


def _cases(results):
    """Median seconds of each side, by the network and the rest of the case."""
    cases = {}
    for row in (row for result in results for row in result.rows):
        if "one turn" not in row["case"] and row.get("median") is not None:
            cases.setdefault(_CASE.fullmatch(row["case"]).groups(), {})[row["side"]] = row["median"]
    return cases


def _best(sides):
    return min(seconds for side, seconds in sides.items() if "orch" in side)


def _starting(sides, name):
    """The best of the sides that begin like this."""
    return min(seconds for side, seconds in sides.items() if side.startswith(name))


def _as_it_is(sides):
    return next(sides[side] for side in ("ours", "ours, default") if side in sides)


def _on_devices(sides):
    """With each core a device; None for a single sample."""
    found = (seconds for side, seconds in sides.items() if re.fullmatch(r"ours,.* \d+ devices", side))
    return next(found, None)


def _or_empty(write, value):
    return "" if value is None else write(value)
