"""What an experiment computed: a record per stage, the evaluation, and the samples to be wary of.

Arrays are NumPy's. Their first axis is the sample, s of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jifv.critical import CriticalSpace
from jifv.evaluate import Choice, angle
from jifv.experiments.experiment import Experiment
from jifv.inversion import FAR

OBJECTIVES = ("prediction", "target", "response", "random")
"""What realizations are compared with and re-optimized for."""

STAGES = {
    "visualize": "FV",
    "jacobian": "Jacobian",
    "invert": "Opt. 3",
    "critical": "Algorithm 1",
    "reoptimize": "re-optimization",
}
"""Parts of the work that are timed, and their labels: those of the paper's Table 1."""

LOST = 0.9
"""A target with more than this share of its squared length off V, or on dead features, counts as lost: it is within
18° of what nothing can recover."""

Arrays = Mapping[str, np.ndarray]
"""Arrays of a stage by name, as the store has them."""


@dataclass(frozen=True, eq=False, repr=False)
class Realized:
    """Visualization and inversion in Rⁿ.

    Attributes:
        parameters: Realizations p.
        images: x = φ(p), the inputs of the network.
        response: r = f(p).
        value: d(r, v*), the significance reached.
        cosine: cos(r, v*).
        gradient_norm: ‖∂d/∂p‖.
        adam_steps: Steps of Adam taken.
        lbfgs_steps: Iterations of L-BFGS taken.
        on_floor: Whether the cosine is on its floor, where inversion does not hold.
        finite: Whether the realization has met finite values only.
        prediction: Objective predicted in Rⁿ.
        singular_values: Singular values of BJ, descending; inf for dead features.
        gap: Confidence in the prediction, see `jifv.Inversion`.
        dead: Features that the realization says nothing of.
        beta: Share of each left-singular vector of BJ in the target, the last one first. NaN where not finite.
        stationarity: ‖JᵀBv*‖/σ₁(BJ): how far the realization is from being optimal for its target.
        compressed: Jacobians without their long side; None where Algorithm 1 does not need them.
    """

    parameters: Float[np.ndarray, "s *p"]
    images: Float[np.ndarray, "s h w c"]
    response: Float[np.ndarray, "s n"]
    value: Float[np.ndarray, " s"]
    cosine: Float[np.ndarray, " s"]
    gradient_norm: Float[np.ndarray, " s"]
    adam_steps: Int[np.ndarray, " s"]
    lbfgs_steps: Int[np.ndarray, " s"]
    on_floor: Bool[np.ndarray, " s"]
    finite: Bool[np.ndarray, " s"]
    prediction: Float[np.ndarray, "s n"]
    singular_values: Float[np.ndarray, "s n"]
    gap: Float[np.ndarray, " s"]
    dead: Bool[np.ndarray, "s n"]
    beta: Float[np.ndarray, "s n"]
    stationarity: Float[np.ndarray, " s"]
    compressed: Float[np.ndarray, "s n k"] | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """List the arrays by name, for the store."""
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: array for name, array in named.items() if array is not None}

    @property
    def last_singular_value(self) -> Float[np.ndarray, " s"]:
        """The smallest singular value of BJ in units of the largest: the `stationarity` for the prediction."""
        largest = np.where(np.isfinite(self.singular_values), self.singular_values, 0).max(-1)
        last = self.singular_values[:, -1] / np.where(largest > 0, largest, np.nan)
        return np.where(np.isfinite(last), last, np.nan)

    @property
    def usable(self) -> Bool[np.ndarray, " s"]:
        """Which samples are finite and have a prediction."""
        return self.finite & np.isfinite(self.prediction).all(-1)

    @property
    def mean_beta(self) -> Float[np.ndarray, " n"]:
        """The mean of `beta` over the samples that have one."""
        return self.beta[np.isfinite(self.beta).all(-1)].mean(0)


@dataclass(frozen=True, eq=False, repr=False)
class Calibrated:
    """The critical spaces, the one that predicts the known objectives best, and the predictions with it.

    Attributes:
        spaces: The critical spaces that Algorithm 1 found, the best supported one first.
        choice: Which space predicts best; index 0 is Rⁿ, i + 1 is `spaces[i]`.
        basis: Orthonormal basis of the chosen space V.
        prediction: Objective predicted with it; that of `Realized` if V = Rⁿ.
        gap: Confidence in that.
        stationarity: How far the realization is from being optimal for that, see `jifv.Inversion`.
    """

    spaces: list[CriticalSpace]
    choice: Choice
    basis: Float[np.ndarray, "n q"]
    prediction: Float[np.ndarray, "s n"]
    gap: Float[np.ndarray, " s"]
    stationarity: Float[np.ndarray, " s"]

    @property
    def reduced(self) -> bool:
        """Whether V is smaller than Rⁿ."""
        return self.basis.shape[1] < self.basis.shape[0]


@dataclass(frozen=True, eq=False, repr=False)
class Reoptimized:
    """Realizations optimized further, for each of `OBJECTIVES`.

    Attributes:
        images: Images after re-optimization for each objective.
        ssim: Their structural similarity to those before. A number also where it means nothing, see `Evaluation`.
    """

    images: dict[str, Float[np.ndarray, "s h w c"]]
    ssim: dict[str, Float[np.ndarray, " s"]]

    def arrays(self) -> dict[str, np.ndarray]:
        """List the arrays by name, for the store."""
        parts = {"images": self.images, "ssim": self.ssim}
        return {f"{part}_{name}": rows for part, named in parts.items() for name, rows in named.items()}

    @classmethod
    def of(cls, arrays: Arrays) -> "Reoptimized":
        """Take the arrays that `arrays` listed."""
        images, ssim = ({name: arrays[f"{part}_{name}"] for name in OBJECTIVES} for part in ("images", "ssim"))
        return cls(images, ssim)


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How close predictions, responses and random objectives are to the targets.

    Attributes:
        angles: Degrees to the target, of `OBJECTIVES` but the target itself, in Rⁿ and (name + "_on_v") on V. NaN for
            a realization that met NaN: it is no optimum of anything.
        off_v: Share of the target's squared length that lies off V, in [0, 1], and cannot be recovered.
        ssim: Structural similarity after re-optimization for each of `OBJECTIVES`; NaN where the realization or the
            objective is not finite.
    """

    angles: dict[str, Float[np.ndarray, " s"]]
    off_v: Float[np.ndarray, " s"]
    ssim: dict[str, Float[np.ndarray, " s"]]


@dataclass(frozen=True, eq=False, repr=False)
class Results:
    """All that an experiment computed.

    Attributes:
        experiment: What was run.
        feature_names: Name of each of the n features.
        objectives: Target objectives v*, the sampled ones first, then the canonical ones.
        canonical: Which objectives are canonical vectors.
        random: Random objectives, to compare with.
        realized: Visualization and inversion.
        calibrated: The critical space, and predictions with it.
        reoptimized: Realizations optimized further.
        evaluation: How close everything is to the targets.
        seconds: Wall-clock seconds per sample of each part of the work. Batches that had to compile do not count if
            there are others.
        devices: Numbers of devices that shared the batches: one number, unless the run was continued with another.
        commits: Commits of the code that computed the batches, with "-dirty" where files differed: one, unless the run
            was continued with other code. None at all where jifv was not in a checkout.
    """

    experiment: Experiment
    feature_names: tuple[str, ...]
    objectives: Float[np.ndarray, "s n"]
    canonical: Bool[np.ndarray, " s"]
    random: Float[np.ndarray, "s n"]
    realized: Realized
    calibrated: Calibrated
    reoptimized: Reoptimized
    evaluation: Evaluation
    seconds: dict[str, float]
    devices: list[int]
    commits: list[str]

    def __repr__(self) -> str:
        angle = np.nanmedian(self.evaluation.angles["prediction_on_v"])
        samples = f"{len(self.objectives)} samples of {self.features} features"
        return f"Results({self.experiment.name}, {samples}, median angle of the prediction {angle:.3g}°)"

    @property
    def features(self) -> int:
        """The number of features n."""
        return self.objectives.shape[1]

    @property
    def on_dead(self) -> Float[np.ndarray, " s"]:
        """Share of the target's squared length on features that are dead in its realization."""
        return np.sum(np.where(self.realized.dead, self.objectives, 0) ** 2, -1)

    @property
    def directions(self) -> dict[str, Float[np.ndarray, "s n"]]:
        """Target, prediction and response as the angles see them: projected onto V, of unit length.

        Of a target off V nothing is left but rounding, which stays as short as it is.
        """
        vectors = {
            "target": self.objectives,
            "prediction": self.calibrated.prediction,
            "response": self.realized.response,
        }
        basis, directions = self.calibrated.basis, {}
        for name, rows in vectors.items():
            projected = rows @ basis @ basis.T
            length = np.linalg.norm(projected, axis=-1, keepdims=True)
            least = 1e-3 if name == "target" else 0
            directions[name] = projected / np.where(length > least, length, 1)
        return directions


class Flag(NamedTuple):
    """A reason to be wary of a sample.

    Attributes:
        name: Its name in `summary.json`.
        label: Its name in figures and on the page.
        remark: What a reader of the tables must know of such samples.
    """

    name: str
    label: str
    remark: str


FLAGS = (
    Flag("not_finite", "not finite", "NaN or infinity on the way, so no angle"),
    Flag("on_floor", "on the cosine's floor", "ended on the floor of the cosine, where inversion does not hold"),
    Flag(
        "far", "far from stationary", f"no objective brings the gradient below {FAR:g} of what it can be: not converged"
    ),
    Flag("lost", "target off V", "target almost entirely off V, so nothing can recover it; counted all the same"),
    Flag("dead", "target on dead features", "target almost entirely on dead features; counted all the same"),
    Flag("with_dead_features", "dead features", "some features dead, so the gradient says nothing of them"),
)
"""Every reason to be wary of a sample."""


def flags(results: Results) -> dict[str, Bool[np.ndarray, " s"]]:
    """Find the samples to be wary of, by the names of `FLAGS`."""
    realized = results.realized
    return {
        "not_finite": ~realized.finite,
        "on_floor": realized.on_floor,
        "far": np.greater(results.calibrated.stationarity, FAR),
        "lost": np.greater(results.evaluation.off_v, LOST),
        "dead": np.greater(results.on_dead, LOST),
        "with_dead_features": np.any(realized.dead, -1),
    }


def evaluated(
    objectives: Float[np.ndarray, "s n"],
    random: Float[np.ndarray, "s n"],
    realized: Realized,
    calibrated: Calibrated,
    reoptimized: Reoptimized,
) -> Evaluation:
    """Compare predictions, responses and random objectives with the targets.

    Args:
        objectives: Target objectives.
        random: Random objectives.
        realized: The first stage.
        calibrated: The second stage.
        reoptimized: The third stage.
    """
    finite, basis = realized.finite, calibrated.basis
    on_v = candidates(objectives, random, realized, calibrated)
    in_ambient = on_v | {"prediction": realized.prediction}
    angles = {}
    for name in ("prediction", "response", "random"):
        angles[name] = np.where(finite, angle(in_ambient[name], objectives), np.nan)
        angles[f"{name}_on_v"] = np.where(finite, angle(on_v[name], objectives, basis=basis), np.nan)
    return Evaluation(
        angles=angles,
        off_v=np.maximum(0, 1 - np.sum(np.square(objectives @ basis), -1)),
        ssim={
            name: np.where(finite & np.isfinite(on_v[name]).all(-1), reoptimized.ssim[name], np.nan)
            for name in OBJECTIVES
        },
    )


def candidates(
    objectives: Float[np.ndarray, "s n"],
    random: Float[np.ndarray, "s n"],
    realized: Realized,
    calibrated: Calibrated,
) -> dict[str, Float[np.ndarray, "s n"]]:
    """List the objectives that realizations are re-optimized for, by the names of `OBJECTIVES`."""
    return {
        "prediction": calibrated.prediction,
        "target": objectives,
        "response": realized.response,
        "random": random,
    }
