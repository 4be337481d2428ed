"""What may be said of a picture's objective, and of a claim about it."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from jifv.inversion import FAR
from jifv.significance import Significance

LEAST_COSINE = 0.1
"""Floor of the cosine where a significance has none. No visualization ends below, and photographs do."""

SPECIFIC = 0.15
"""Stationarity relative to that at random inputs above which an objective says little about the picture.

Class scores can have a direction that hardly any input changes, such as that of a class never seen, and any picture is
nearly optimal for it. On DenseNet without deer photographs have 0.2 to 0.4, visualizations 0.02 to 0.08.
"""

LIKELY = 0.05
"""p-value of a claim above which other claims do as well."""

HALF = 0.5
"""Share of a claim on dead features from which on the picture says nothing of it."""


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
    elsewhere: float = np.nan,
    most: int = 10,
) -> Verdict:
    """Judge the objective that inversion found for a picture.

    Three things speak against it. The gradient does not vanish even for this objective: `stationarity` above
    `jifv.inversion.FAR`. Or the response is nearly perpendicular to it: cos(r, v) on the floor, or below `LEAST_COSINE`
    where there is none. No visualization that maximizes cos(r, v)^k ends there, and inversion does not hold. Or random
    inputs are nearly as optimal for it, see `SPECIFIC`.

    Args:
        objective: The objective.
        names: Name of each feature.
        stationarity: `Inversion.stationarity`.
        cosine: cos(r, v).
        significance: What was inverted; for k = 0 the cosine says nothing.
        elsewhere: Median stationarity of the same objective at random inputs; NaN where that is not known.
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
    if stationarity > SPECIFIC * elsewhere:
        reasons.append(f"not specific: {stationarity:.2g} of the gradient is left, at random inputs {elsewhere:.2g}")
    return Verdict("nothing" if reasons else "optimal", tuple(reasons), strongest(objective, names, most))


class Judgement(NamedTuple):
    """What may be said of a claim about a picture.

    Attributes:
        claim: What is claimed.
        kind: "stands" if nothing speaks against the claim, "false" if something does, "unknown" where response or
            Jacobian are not finite, or most of the claim is on dead features.
        reasons: What speaks against it; of a claim that stands, what speaks for it.
    """

    claim: str
    kind: Literal["stands", "false", "unknown"]
    reasons: tuple[str, ...]

    def text(self) -> str:
        """Say it in a line."""
        said = {"stands": "nothing speaks against", "false": "not", "unknown": "nothing is known of"}[self.kind]
        return f"{said} {self.claim} ({'; '.join(self.reasons)})"


def judgement(claim: str, *, stationarity: float, p_value: float, on_dead: float) -> Judgement:
    """Judge a claim by the gradient that it leaves, and by how many other claims leave as little.

    Two things speak against it: a `stationarity` above `jifv.inversion.FAR`, for the picture is then no maximum of what
    is claimed; and a p-value above `LIKELY`, for then it might as well be a maximum of something else.

    Args:
        claim: What to call it.
        stationarity: See `jifv.audit.Audit`, as the others.
        p_value: How likely another claim does as well.
        on_dead: Share of the claim on dead features.
    """
    if not np.isfinite(stationarity):
        return Judgement(claim, "unknown", ("response or Jacobian are not finite",))
    if on_dead > HALF:
        return Judgement(claim, "unknown", (f"{100 * on_dead:.0f} % of it is on dead features",))
    numbers = (f"{stationarity:.2g} of the gradient is left", f"p = {p_value:.2g}")
    wrong = [number for number, bad in zip(numbers, (stationarity > FAR, p_value > LIKELY), strict=True) if bad]
    return Judgement(claim, "false" if wrong else "stands", tuple(wrong) or numbers)


def strongest(vector: Float[np.ndarray, " n"], names: Sequence[str], most: int) -> tuple[tuple[str, float], ...]:
    """List the largest entries by size, with the names of their features; neither zeros nor what is not finite."""
    sizes = np.abs(np.where(np.isfinite(vector), vector, 0))
    order = np.argsort(-sizes, kind="stable")[:most]
    return tuple((str(names[index]), float(vector[index])) for index in order.tolist() if sizes[index] > 0)
