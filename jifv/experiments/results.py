"""What an experiment computed."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jifv.critical import CriticalSpace
from jifv.evaluate import Choice
from jifv.experiments.experiment import Experiment

OBJECTIVES = ("prediction", "target", "response", "random")
"""What realizations are compared with and re-optimized for."""

LOST = 0.9
"""A target with more than this share of its squared length off V, or on silent features, counts as lost: it is within
18° of what nothing can recover."""


class Results(NamedTuple):
    """All that an experiment computed, in NumPy. The first axis of arrays is the sample, s of them.

    Attributes:
        experiment: What was run.
        feature_names: Name of each of the n features.
        objectives: Target objectives v*, the sampled ones first, then the canonical ones.
        canonical: Which objectives are canonical vectors.
        random: Random objectives, to compare with.
        parameters: Realizations p.
        images: x = φ(p), the inputs of the network.
        response: r = f(p).
        significance: See `Visualization`, as for the next six.
        cosine: cos(r, v*).
        gradient_norm: ‖∂d/∂p‖.
        adam_steps: Steps of Adam taken.
        lbfgs_steps: Iterations of L-BFGS taken.
        on_floor: Whether the cosine is on its floor.
        finite: Whether the realization has met finite values only.
        prediction: Objective predicted in Rⁿ.
        singular_values: Singular values of BJ, descending; inf for silent features.
        gap: Confidence in the prediction, see `Inversion`.
        silent: Features of which the realization says nothing.
        beta: Share of each left-singular vector of BJ in the target, the last one first. NaN where not finite.
        stationarity: ‖JᵀBv*‖/σ₁(BJ): how far the realization is from being optimal for its target.
        spaces: The critical spaces that Algorithm 1 found, from the largest dimension to the smallest.
        choice: Which space predicts best; index 0 is Rⁿ, i + 1 is `spaces[i]`.
        basis: Orthonormal basis of the chosen space V.
        prediction_on_v: Objective predicted with it; `prediction` if V = Rⁿ.
        gap_on_v: Confidence in that.
        angles: Degrees to the target, of `OBJECTIVES` but the target itself, in Rⁿ and (name + "_on_v") on V.
        off_v: Share of the target's squared length that lies off V, in [0, 1], and cannot be recovered.
        reoptimized: Images after re-optimization for each of `OBJECTIVES`.
        ssim: Their structural similarity to `images`.
        seconds: Wall-clock seconds a sample of each stage; of the batches after the first in a process, which
            compiles, or of that one if there is no other.
        devices: Numbers of devices that shared the batches: one number, unless the run was continued with another.
    """

    experiment: Experiment
    feature_names: tuple[str, ...]
    objectives: Float[np.ndarray, "s n"]
    canonical: Bool[np.ndarray, " s"]
    random: Float[np.ndarray, "s n"]
    parameters: Float[np.ndarray, "s *p"]
    images: Float[np.ndarray, "s h w c"]
    response: Float[np.ndarray, "s n"]
    significance: Float[np.ndarray, " s"]
    cosine: Float[np.ndarray, " s"]
    gradient_norm: Float[np.ndarray, " s"]
    adam_steps: Int[np.ndarray, " s"]
    lbfgs_steps: Int[np.ndarray, " s"]
    on_floor: Bool[np.ndarray, " s"]
    finite: Bool[np.ndarray, " s"]
    prediction: Float[np.ndarray, "s n"]
    singular_values: Float[np.ndarray, "s n"]
    gap: Float[np.ndarray, " s"]
    silent: Bool[np.ndarray, "s n"]
    beta: Float[np.ndarray, "s n"]
    stationarity: Float[np.ndarray, " s"]
    spaces: list[CriticalSpace]
    choice: Choice
    basis: Float[np.ndarray, "n q"]
    prediction_on_v: Float[np.ndarray, "s n"]
    gap_on_v: Float[np.ndarray, " s"]
    angles: dict[str, Float[np.ndarray, " s"]]
    off_v: Float[np.ndarray, " s"]
    reoptimized: dict[str, Float[np.ndarray, "s h w c"]]
    ssim: dict[str, Float[np.ndarray, " s"]]
    seconds: dict[str, float]
    devices: list[int]

    @property
    def mean_beta(self) -> Float[np.ndarray, " n"]:
        """The mean of `beta` over the samples that have one."""
        return self.beta[np.isfinite(self.beta).all(-1)].mean(0)

    @property
    def on_silent(self) -> Float[np.ndarray, " s"]:
        """Share of the target's squared length on features that are silent in its realization."""
        return np.sum(np.where(self.silent, self.objectives, 0) ** 2, -1)

    @property
    def directions(self) -> dict[str, Float[np.ndarray, "s n"]]:
        """Target, prediction and response as the angles see them: projected onto V, of unit length.

        Of a target off V nothing is left but rounding, which stays as short as it is.
        """
        vectors = {"target": self.objectives, "prediction": self.prediction_on_v, "response": self.response}
        directions = {}
        for name, rows in vectors.items():
            projected = rows @ self.basis @ self.basis.T
            length = np.linalg.norm(projected, axis=-1, keepdims=True)
            least = 1e-3 if name == "target" else 0
            directions[name] = projected / np.where(length > least, length, 1)
        return directions
