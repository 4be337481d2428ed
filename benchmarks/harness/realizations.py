"""Realizations of known objectives, in settings where inversion succeeds and in others where it fails.

They take most of the time of `confidence.py` and `audit.py`, so each setting is kept in a file, NAME.npz, and computed
only where that is missing, of another setting, or of other weights.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

import jifv
from jifv.experiments.batches import in_unit_range
from jifv.experiments.experiment import Experiment
from jifv.experiments.problem import Problem, network_of, problem_of
from jifv.models import load
from jifv.significance import Significance
from jifv.visualization import Settings

SHARED = Path(os.environ.get("JIFV_SHARED", Path(__file__).resolve().parents[3] / "shared"))


def basis(removed: Sequence[str | int], features: int = 10) -> np.ndarray:
    """An orthonormal basis of what is left of Rⁿ without "ones", (1, …, 1), and some features, by index."""
    rows = [np.ones(features) if each == "ones" else np.eye(features)[each] for each in removed]
    return np.linalg.svd(np.array(rows))[2][len(rows) :].T.astype(np.float32)


class Setting(NamedTuple):
    """Where realizations come from.

    Attributes:
        experiment: Network, layer, features, steps; only its visualization is run.
        removed: Directions of Rⁿ that are not in V, see `basis`.
        weights: File below ../shared with the network's weights; None for those of the package.
    """

    experiment: Experiment
    removed: tuple = ()
    weights: str | None = None

    @property
    def basis(self) -> np.ndarray | None:
        """Orthonormal basis of V; None for Rⁿ."""
        return basis(self.removed) if self.removed else None


def _setting(
    name, *, samples, steps, smoothing=0.1, power=2.0, rate=0.05, removed=(), weights=None, **changes
) -> Setting:
    options = {"network": "densenet", "layer": "dense3", "std": 0.5, "dead_tolerance": 0.02, "batch_size": 16}
    experiment = Experiment(
        name,
        samples=samples,
        smoothing=smoothing,
        significance=Significance(power),
        settings=Settings(adam_steps=steps, lbfgs_steps=0, learning_rate=rate, anneal=0.7),
        **options | changes,
    )
    return Setting(experiment, removed, weights)


_SMALL = {"input_size": 16}
"""A quarter of the time, and another input than what the networks were trained on."""
_SCORES = {"layer": "classifier", "aggregation": "identity", "std": 0.01, "input_size": 16}
_SRNET = {"network": "srnet", "layer": "block8", "parametrization": "geometry", "input_size": 16}
_GN4C = {
    "network": "googlenet-bvlc",
    "layer": "inception4c",
    "input_size": 64,
    "weights": "weights/bvlc_googlenet.npz",
}

SETTINGS = {
    setting.experiment.name: setting
    for setting in (
        _setting("dense3-32", samples=32, steps=300, features=32),
        _setting("dense3-32-short", samples=48, steps=30, features=32),
        _setting("dense3-32-kinks", samples=32, steps=200, features=32, smoothing=0.0, **_SMALL),
        _setting("scores", samples=32, steps=150, removed=("ones",), **_SCORES),
        _setting("dense3-16-short-kinks", samples=48, steps=50, features=16, smoothing=0.0, **_SMALL),
        _setting("dense3-8", samples=32, steps=200, features=8, **_SMALL),
        _setting("gn4c-64-kinks", samples=16, steps=200, features=64, smoothing=0.0, **_GN4C),
        _setting("dense3-32-k0", samples=24, steps=200, features=32, power=0.0, **_SMALL),
        _setting(
            "scores-no-deer-kinks",
            samples=32,
            steps=100,
            smoothing=0.0,
            removed=("ones", 4),
            **_SCORES | {"network": "densenet-no-deer"},
        ),
        _setting("dense2-32", samples=24, steps=150, features=32, **_SMALL | {"layer": "dense2"}),
        _setting("dense3-16-mean", samples=24, steps=150, features=16, aggregation="mean", **_SMALL),
        _setting("srnet-64", samples=16, steps=150, **_SRNET),
        # Settings that fail often: all features with kinks, half-finished ones, and features that a ReLU has shut.
        _setting("gn4c-512-kinks", samples=16, steps=200, smoothing=0.0, **_GN4C),
        _setting("dense3-342-kinks", samples=24, steps=150, smoothing=0.0, **_SMALL),
        _setting("dense3-342-short", samples=24, steps=40, **_SMALL),
        _setting(
            "features-64-kinks", samples=24, steps=150, features=64, smoothing=0.0, **_SMALL | {"layer": "features"}
        ),
    )
}
"""By their names, in the order in which they are worth their time."""

LARGE = {
    name: _setting(name, samples=samples, steps=400, rate=0.2, **_GN4C | {"input_size": side})
    for name, side, samples in (("gn4c-112", 112, 16), ("gn4c-112-many", 112, 96), ("gn4c-224", 224, 8))
}
"""All features of GoogLeNet's inception4c, for photographs and for a copy of the network."""


class Realizations(NamedTuple):
    """What is kept of a setting.

    Attributes:
        setting: Where they come from.
        parameters: p, one per sample.
        objectives: Targets v.
        response: r.
        jacobian: J, compressed.
        on_floor: Where the cosine ends on its floor, so that inversion does not hold.
    """

    setting: Setting
    parameters: np.ndarray
    objectives: np.ndarray
    response: np.ndarray
    jacobian: np.ndarray
    on_floor: np.ndarray


def problem(setting: Setting) -> Problem:
    """The response function of a setting, its objectives and where to start."""
    weights = None if setting.weights is None else SHARED / setting.weights
    return problem_of(setting.experiment, network_of(setting.experiment, weights=weights))


def realizations(name: str, folder: str | Path, *, compute: bool = True) -> Realizations | None:
    """Read a setting's realizations, or make and keep them; None if they are not there and not to be made."""
    setting = (SETTINGS | LARGE)[name]
    found = kept(Path(folder) / f"{name}.npz", identity(setting), (lambda: _made(setting)) if compute else None)
    return found and Realizations(setting, *(found[field] for field in Realizations._fields[1:]))


def ssim(made: Realizations, folder: str | Path, *, steps: int, compute: bool = True) -> np.ndarray | None:
    """How much of each picture stays when it is optimized further for the objective that inversion finds."""
    experiment = made.setting.experiment
    path = Path(folder) / f"{experiment.name}-ssim.npz"
    found = kept(path, f"{identity(made.setting)} {steps}", (lambda: _reoptimized(made, steps)) if compute else None)
    return found and found["ssim"]


def inverted(made: Realizations) -> jifv.Inversion:
    """What inversion finds for the realizations of a setting."""
    experiment = made.setting.experiment
    options = {"significance": experiment.significance, "dead_tolerance": experiment.dead_tolerance}
    return jax.device_get(jifv.invert(made.response, made.jacobian, basis=made.setting.basis, **options))


def kept(path: Path, identity: str, compute: Callable[[], dict] | None) -> dict[str, np.ndarray] | None:
    """Read arrays, or make and keep them where a file is missing or of something else; None without `compute`."""
    if path.exists():
        with np.load(path) as file:
            if str(file["identity"]) == identity:
                return dict(file)
    if compute is None:
        return None
    found = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, identity=identity, **found)
    part.replace(path)
    return found


def identity(setting: Setting) -> str:
    """What decides the arrays of a setting: the weights as well."""
    experiment = setting.experiment
    parts = [asdict(experiment), _digest(experiment.network, setting.weights), jax.__version__]
    return json.dumps(parts, sort_keys=True)


@cache
def _digest(network: str, weights: str | None) -> str:
    return load(network, weights=weights and SHARED / weights).digest


def _made(setting: Setting) -> dict[str, np.ndarray]:
    given = problem(setting)
    found = jifv.visualize(
        given.f,
        given.start,
        given.objectives,
        significance=setting.experiment.significance,
        settings=setting.experiment.settings,
        batch_size=setting.experiment.batch_size,
        progress=True,
        description=setting.experiment.name,
    )
    jacobian = np.concatenate([np.asarray(given.to_compressed(each[None])) for each in found.parameters])
    arrays = (found.parameters, given.objectives, found.response, jacobian, found.on_floor)
    jax.clear_caches()
    return dict(zip(Realizations._fields[1:], map(np.asarray, arrays), strict=True))


def _reoptimized(made: Realizations, steps: int) -> dict[str, np.ndarray]:
    experiment, given = made.setting.experiment, problem(made.setting)
    after = jifv.reoptimize(
        given.f,
        made.parameters,
        inverted(made).objective,
        significance=experiment.significance,
        steps=steps,
        settings=experiment.settings,
        batch_size=experiment.batch_size,
        progress=True,
        description=f"{experiment.name}, further",
    )
    images = [in_unit_range(given.to_images(each)) for each in (jax.numpy.asarray(made.parameters), after)]
    similarity = np.asarray(jifv.ssim(*images))
    jax.clear_caches()
    return {"ssim": similarity}
