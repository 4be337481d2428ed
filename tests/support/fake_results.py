"""Results that no network made: plausible numbers of every kind, for whatever consumes `Results`."""

from dataclasses import fields, replace
from typing import Any

import numpy as np

from jifv.critical import CriticalSpace
from jifv.evaluate import Choice
from jifv.experiments.experiment import Experiment
from jifv.experiments.results import OBJECTIVES, Calibrated, Evaluation, Realized, Reoptimized, Results
from jifv.experiments.studies import STUDIES, Preset

WIDTHS = {"classifier": 10, "dense3": 342, "inception4c": 512, "block8": 64}
"""Number of features of each layer."""

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def fake(
    experiment: Experiment,
    *,
    seed: int = 0,
    prediction: float = 3.0,
    response: float = 40.0,
    side: int = 32,
    not_finite: tuple[int, ...] = (),
) -> Results:
    """Results of an experiment as they could be.

    With Jacobians for Algorithm 1, V is what is perpendicular to (1, …, 1), and predictions in Rⁿ fail. One sample in
    fifty is an outlier: its angle is eight times that of others, its similarity low.

    Args:
        experiment: What was run.
        seed: Decides everything random but the objectives, which the experiment's own seed decides.
        prediction: Median angle of the prediction (on V), in degrees.
        response: The same for the response.
        side: Height and width of the images.
        not_finite: Samples that met NaN.
    """
    n, s = experiment.features or WIDTHS[experiment.layer], experiment.samples
    canonical = np.arange(s) >= s - min(experiment.canonical, n)
    objectives = _objectives(np.random.default_rng(experiment.seed), s, n)
    objectives[canonical] = np.eye(n)[np.arange(canonical.sum()) * n // max(canonical.sum(), 1)]
    rng = np.random.default_rng(seed + 1000)
    chosen, whole = _basis(n, reduced=experiment.critical_samples > 0), np.eye(n)
    q = chosen.shape[1]
    outlier = rng.uniform(size=s) < 0.02
    degrees = prediction * np.where(outlier, 8, 1) * rng.lognormal(0, 0.5, s)
    on_v = _turned(rng, objectives @ chosen, degrees) @ chosen.T
    ambient = on_v if q == n else _unit(on_v * 0.3 - rng.uniform(0, 1.5, (s, 1)) / np.sqrt(n))
    vectors = {
        "prediction": ambient,
        "response": _turned(rng, objectives, response * rng.lognormal(0, 0.25, s)) * rng.uniform(0.5, 4, (s, 1)),
        "random": _objectives(rng, s, n),
    }
    finite = ~np.isin(np.arange(s), not_finite)
    angles = {name: _angles(rows, objectives, whole) for name, rows in vectors.items()}
    angles |= {
        f"{name}_on_v": _angles(on_v if name == "prediction" else rows, objectives, chosen)
        for name, rows in vectors.items()
    }
    loss = {"prediction": 0.01, "target": 0.01, "response": 0.05, "random": 0.3}
    ssim = {name: 1 - np.clip(loss[name] * rng.lognormal(0, 0.5, s), 0, 0.95) for name in OBJECTIVES}
    ssim["prediction"][outlier] *= 0.8
    images = _images(rng, s, side, 5 if experiment.network == "srnet" else 3)
    beta = rng.exponential(np.exp(-np.arange(n) / 2.5), (s, n)) * prediction / 60
    beta[:, 0] += rng.uniform(0.4, 0.5, s) if q < n else np.cos(np.radians(prediction))
    beta[:, 1] += 0.5 if q < n else 0
    values = np.sort(rng.uniform(0.01, 3, (s, n)), -1)[:, ::-1].copy()
    values[:, -1] *= 1e-3
    realized = Realized(
        parameters=_single(images),
        images=_single(images),
        response=_single(vectors["response"]),
        value=_single(rng.uniform(1, 5, s)),
        cosine=_single(np.cos(np.radians(angles["response"]))),
        gradient_norm=_single(rng.lognormal(-4, 1, s)),
        adam_steps=np.full(s, experiment.settings.adam_steps),
        lbfgs_steps=rng.integers(0, experiment.settings.lbfgs_steps + 1, s),
        on_floor=np.zeros(s, bool),
        finite=finite,
        prediction=_single(vectors["prediction"]),
        singular_values=_single(values),
        gap=_single(rng.uniform(0.5, 1, s)),
        dead=np.zeros((s, n), bool),
        beta=_single(beta / beta.sum(-1, keepdims=True)),
        stationarity=_single(rng.lognormal(-4, 0.5, s)),
    )
    calibrated = Calibrated(
        spaces=[CriticalSpace(chosen, np.ones((n, 1)) / np.sqrt(n), 0.01, 0.4, 9.0, "fake")] if q < n else [],
        choice=Choice(int(q < n), np.array([88.0, prediction][: 1 + (q < n)]), np.array([85.0, 80.0][: 1 + (q < n)])),
        basis=_single(chosen),
        prediction=_single(on_v),
        gap=_single(rng.uniform(0.5, 1, s)),
        stationarity=_single(values[:, -1] / values[:, 0]),
    )
    reoptimized = {
        name: _single(np.clip(images + (1 - ssim[name])[:, None, None, None] * rng.normal(size=images.shape), 0, 1))
        for name in OBJECTIVES
    }
    similarities = {name: _single(rows) for name, rows in ssim.items()}
    results = Results(
        experiment=experiment,
        feature_names=CLASSES if n == 10 else tuple(str(index) for index in range(n)),
        objectives=_single(objectives),
        canonical=canonical,
        random=_single(vectors["random"]),
        realized=realized,
        calibrated=calibrated,
        reoptimized=Reoptimized(reoptimized, similarities),
        evaluation=Evaluation(
            angles={name: _single(rows) for name, rows in angles.items()},
            off_v=_single(1 - np.sum(np.square(objectives @ chosen), -1)),
            ssim=dict(similarities),
        ),
        seconds={"visualize": 4.0 * n / 64, "jacobian": 0.02 * n, "invert": 1e-6 * n**2, "reoptimize": 0.9}
        | ({"critical": 0.002} if experiment.critical_samples else {}),
        devices=[1],
        commits=["0123456789abcdef"],
    )
    return lose(results, not_finite)


def changed(results: Results, **changes: Any) -> Results:
    """The same results with other values of fields, of whichever record; `calibrated` has names of `realized`."""
    calibrated = {f"{name}_on_v": name for name in ("prediction", "gap", "stationarity")}
    owned: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        owner = "calibrated" if name in calibrated else _OWNERS[name]
        owned.setdefault(owner, {})[calibrated.get(name, name)] = value
    own = owned.pop("results", {})
    return replace(results, **own, **{name: replace(getattr(results, name), **some) for name, some in owned.items()})


def field_of(results: Results, name: str) -> Any:
    """A field of the results, of whichever record."""
    owner = _OWNERS[name]
    return getattr(results if owner == "results" else getattr(results, owner), name)


_RECORDS = {"calibrated": Calibrated, "evaluation": Evaluation, "realized": Realized}
_OWNERS = {each.name: "results" for each in fields(Results)} | {
    each.name: owner for owner, record in _RECORDS.items() for each in fields(record)
}


def lose(results: Results, samples: tuple[int, ...]) -> Results:
    """The same results with some samples that met NaN."""
    rows = list(samples)

    def without(record: Any) -> dict[str, Any]:
        changes = {}
        for each in fields(record):
            value = getattr(record, each.name)
            if isinstance(value, dict):
                changes[each.name] = {name: _filled(values, rows) for name, values in value.items()}
            elif isinstance(value, np.ndarray) and each.name not in ("basis", "off_v"):
                changes[each.name] = _filled(value, rows)
        return changes

    finite = results.realized.finite.copy()
    finite[rows] = False
    return replace(
        results,
        realized=replace(results.realized, **without(results.realized) | {"finite": finite}),
        calibrated=replace(results.calibrated, **without(results.calibrated)),
        reoptimized=replace(results.reoptimized, **without(results.reoptimized)),
        evaluation=replace(results.evaluation, **without(results.evaluation)),
    )


def _filled(values: np.ndarray, rows: list[int]) -> np.ndarray:
    """A copy with NaN in some rows, if it can hold NaN."""
    values = values.copy()
    if np.issubdtype(values.dtype, np.floating):
        values[rows] = np.nan
    return values


def fake_study(name: str, preset: Preset = "quick", *, samples: int | None = None, **options) -> list[Results]:
    """Fake results of all cells of a study; without the cosine, more features are harder."""
    cells = []
    for number, cell in enumerate(STUDIES[name].cells(preset)):
        if samples is not None:
            cell = replace(cell, samples=samples, canonical=min(cell.canonical, samples // 2))
        n = cell.features or WIDTHS[cell.layer]
        hard = cell.significance.power == 0 and (n > 32 or cell.aggregation in ("mean", "pick"))
        angle = min(88.0, (2 + n / 100) * (12 if hard else 1) / (1 + cell.significance.power / 8))
        cells.append(fake(cell, **{"seed": number, "prediction": angle, **options}))
    return cells


def _objectives(rng: np.random.Generator, s: int, n: int) -> np.ndarray:
    """Entries of no sign, some rows sparse and others dense."""
    return _unit(rng.uniform(size=(s, n)) ** rng.uniform(0.3, 30, (s, 1)))


def _basis(n: int, *, reduced: bool) -> np.ndarray:
    if not reduced:
        return np.eye(n)
    return np.linalg.svd(np.ones((1, n)))[2][1:].T


def _turned(rng: np.random.Generator, rows: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Unit vectors at these angles to the rows."""
    rows = _unit(rows)
    away = rng.normal(size=rows.shape)
    away = _unit(away - np.sum(away * rows, -1, keepdims=True) * rows)
    radians = np.radians(np.minimum(degrees, 170))[:, None]
    return np.cos(radians) * rows + np.sin(radians) * away


def _angles(rows: np.ndarray, targets: np.ndarray, basis: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip(np.sum(_unit(rows @ basis) * _unit(targets @ basis), -1), -1, 1)))


def _images(rng: np.random.Generator, s: int, side: int, channels: int) -> np.ndarray:
    """Waves and noise; for SRNet a disc with its mask, normals and depth."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    if channels == 3:
        frequency = rng.normal(size=(s, 2, 3)) * 4
        waves = np.sin(np.einsum("hwi,sic->shwc", np.stack([y, x], -1), frequency) + rng.uniform(0, 6, (s, 1, 1, 3)))
        return np.clip(0.5 + 0.3 * waves + rng.normal(0, 0.12, waves.shape), 0, 1)
    height = np.sqrt(np.maximum(0.02, 1 - x**2 - y**2))
    normal = np.stack(np.broadcast_arrays(x, y, height), -1) + rng.normal(0, 0.3, (s, side, side, 3))
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    mask = np.where(x**2 + y**2 < rng.uniform(0.4, 1.5, (s, 1, 1)), 1.0, -0.8)[..., None]
    return np.concatenate([mask, normal, rng.uniform(0, 1, (s, side, side, 1))], -1)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _single(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)
