"""Realizations as `visualize` returns them: with the objective function that they maximize."""

from dataclasses import dataclass
from functools import partial
from typing import Any, no_type_check

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jifv._core.check import check_array
from jifv._core.html import ROWS, known, strongest, table
from jifv.ensemble import Ensemble
from jifv.priors import Prior
from jifv.significance import Objective


@partial(
    jax.tree_util.register_dataclass,
    data_fields=(
        "parameters",
        "objectives",
        "response",
        "value",
        "cosine",
        "gradient_norm",
        "adam_steps",
        "lbfgs_steps",
        "on_floor",
        "finite",
    ),
    meta_fields=("significance", "priors", "transformations"),
)
@no_type_check  # of its construction: JAX puts together trees of anything, such as one sample, or NumPy's arrays
@dataclass(frozen=True)
class Visualization:
    """Realizations, what they realize, and how they ended. A pytree of arrays.

    Attributes:
        parameters: Realizations p.
        objectives: Target objectives v.
        response: r = f(p); with transformations, the mean over those of the last step.
        value: d(r, v), with the floor, less the priors.
        cosine: cos(r, v), without it.
        gradient_norm: ‖∂d/∂p‖, less the priors' gradients.
        adam_steps: Steps of Adam taken.
        lbfgs_steps: Iterations of L-BFGS taken.
        on_floor: Whether the cosine is on its floor, where inversion does not hold. False for k = 0, and for an
            objective function of the user's.
        finite: Whether everything was finite. A sample that was not keeps its last parameters that were.
        significance: The objective function d that was maximized, which `invert_batch` and `reoptimize` take from here.
        priors: What was subtracted from d, with the true weights, which inversion does not use.
        transformations: What d was averaged over; None for the image as it is.
    """

    parameters: Float[Array, "batch *p"]
    objectives: Float[Array, "batch n"]
    response: Float[Array, "batch n"]
    value: Float[Array, " batch"]
    cosine: Float[Array, " batch"]
    gradient_norm: Float[Array, " batch"]
    adam_steps: Int[Array, " batch"]
    lbfgs_steps: Int[Array, " batch"]
    on_floor: Bool[Array, " batch"]
    finite: Bool[Array, " batch"]
    significance: Objective
    priors: tuple[Prior, ...] = ()
    transformations: Ensemble | None = None

    def __repr__(self) -> str:
        """Say what is there; the arrays are too long to print."""
        # A tree may hold anything: what `jax.eval_shape` returns, or a single sample.
        *batch, features = np.shape(self.response) or (0,)
        there = known(self.value) and self.value.size
        values = f"d {np.min(self.value):.3g} to {np.max(self.value):.3g}" if there else "d unknown"
        samples = f"{batch[0]} samples" if len(batch) == 1 else f"batch {tuple(batch)}"
        return f"Visualization({samples}, {features} features, {values}, {self.significance})"

    def _repr_html_(self) -> str | None:
        if np.ndim(self.value) != 1 or not known(self.value, self.objectives, self.response):
            return None
        columns = ("", "objective", "response", "d", "cos(r, v)", "steps", "")
        remarks = np.where(self.finite, np.where(self.on_floor, "on the cosine's floor", ""), "not finite")
        rows = [
            (
                str(index),
                strongest(self.objectives[index]),
                strongest(self.response[index]),
                f"{self.value[index]:.3g}",
                f"{self.cosine[index]:.3f}",
                f"{self.adam_steps[index]} + {self.lbfgs_steps[index]}",
                str(remarks[index]),
            )
            for index in range(min(len(self.value), ROWS))
        ]
        return table(repr(self), columns, rows)


def unpacked(
    realizations: Visualization | Array | np.ndarray, significance: Objective | None
) -> tuple[Array | np.ndarray, Objective, dict[str, Any]]:
    """Return the parameters of realizations and what they maximize; the two must not contradict each other.

    Returns:
        p, the objective function, and `priors` and `transformations` by these names.

    Raises:
        TypeError: Parameters alone, without `significance`.
        ValueError: `significance` is not that of the realizations.
    """
    if not isinstance(realizations, Visualization):
        if significance is None:
            raise TypeError(
                "significance must be given for parameters alone, such as Significance(power=2); only what visualize "
                "returns carries its own"
            )
        check_array("realizations", realizations)
        return realizations, significance, {"priors": (), "transformations": None}
    own = realizations.significance
    if significance not in (None, own):
        raise ValueError(f"significance must be that of the realizations, {own}, got {significance}")
    kept = {"priors": realizations.priors, "transformations": realizations.transformations}
    return realizations.parameters, own, kept
