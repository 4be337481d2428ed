"""What may be said of a picture's objective: optimal for it, or optimal for nothing here."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from jifv.inversion import FAR
from jifv.significance import Significance

LEAST_COSINE = 0.1
"""Floor of the cosine where a significance has none. No visualization ends below, and photographs do."""


class Verdict(NamedTuple):
    """What may be said of one picture.

    Attributes:
        kind: "optimal" if nothing speaks against the objective, which proves little (see `Inversion.gap`); "nothing" if
            the picture is hardly optimal for any objective; "unknown" where response or Jacobian are not finite, or all
            features are dead.
        reasons: What speaks against it, each in a few words.
        strongest: The largest entries of the objective by size, with the names of their features.
    """

    kind: Literal["optimal", "nothing", "unknown"]
    reasons: tuple[str, ...]
    strongest: tuple[tuple[str, float], ...]

    def text(self, most: int = 4) -> str:
        """Say it in a line."""
        largest = ", ".join(f"{name} ({f'{entry:.2f}'.replace('-', '−')})" for name, entry in self.strongest[:most])
        if self.kind == "optimal":
            return f"optimal for {largest}"
        if self.kind == "unknown":
            return "nothing is known: " + "; ".join(self.reasons)
        return f"optimal for nothing here ({'; '.join(self.reasons)}); the nearest is {largest}"


def verdict(
    objective: Float[np.ndarray, " n"],
    names: Sequence[str],
    *,
    stationarity: float,
    cosine: float,
    significance: Significance,
    most: int = 10,
) -> Verdict:
    """Judge the objective that inversion found for a picture.

    Two things speak against it. The gradient does not vanish even for this objective: `stationarity` above
    `jifv.inversion.FAR`. Or the response is nearly perpendicular to it: cos(r, v) on the floor, or below `LEAST_COSINE`
    where there is none. No visualization that maximizes cos(r, v)^k ends there, and inversion does not hold.

    Args:
        objective: The objective.
        names: Name of each feature.
        stationarity: `Inversion.stationarity`.
        cosine: cos(r, v).
        significance: What was inverted; for k = 0 the cosine says nothing.
        most: How many entries to list.
    """
    if not np.isfinite(objective).all():
        return Verdict("unknown", ("response or Jacobian are not finite, or all features are dead",), ())
    reasons = []
    if not stationarity <= FAR:
        reasons.append(f"not stationary: {stationarity:.2f} of the gradient is left")
    least = significance.floor or LEAST_COSINE
    if significance.power and not cosine > least:
        reasons.append(f"cos(r, v) is {cosine:.2g}, below {least:g}")
    return Verdict("nothing" if reasons else "optimal", tuple(reasons), strongest(objective, names, most))


def strongest(vector: Float[np.ndarray, " n"], names: Sequence[str], most: int) -> tuple[tuple[str, float], ...]:
    """List the largest entries by size, with the names of their features; neither zeros nor what is not finite."""
    sizes = np.abs(np.where(np.isfinite(vector), vector, 0))
    order = np.argsort(-sizes, kind="stable")[:most]
    return tuple((str(names[index]), float(vector[index])) for index in order.tolist() if sizes[index] > 0)
