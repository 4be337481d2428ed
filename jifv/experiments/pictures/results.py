"""What was visualized or inverted of people's own, as arrays of NumPy whose first axis is the sample."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from jifv.experiments.pictures import html
from jifv.experiments.pictures.judging import Verdict, verdict
from jifv.experiments.setting import Setting

SHOWN = 24
"""Most samples that are printed."""


@dataclass(frozen=True, eq=False, repr=False)
class Visualized:
    """What `visualize_features` made.

    Attributes:
        setting: With what, every option filled in.
        names: Name of each objective.
        feature_names: Name of each feature.
        objectives: v, of unit length.
        images: x = φ(p).
        parameters: p.
        response: r = f(p).
        value: d(r, v), less the priors.
        cosine: cos(r, v).
        on_floor: Whether the cosine is on its floor.
        finite: Whether everything was finite.
        folder: Where the files are; None if there are none.
    """

    setting: Setting
    names: tuple[str, ...]
    feature_names: tuple[str, ...]
    objectives: Float[np.ndarray, "s n"]
    images: Float[np.ndarray, "s h w c"]
    parameters: Float[np.ndarray, "s *p"]
    response: Float[np.ndarray, "s n"]
    value: Float[np.ndarray, " s"]
    cosine: Float[np.ndarray, " s"]
    on_floor: Bool[np.ndarray, " s"]
    finite: Bool[np.ndarray, " s"]
    folder: Path | None

    def __repr__(self) -> str:
        """Say what is there; the arrays are too long to print."""
        names = _listed(self.names, most=8)
        return f"Visualized({names}{f' in {self.folder}' if self.folder else ''})"

    def _repr_html_(self) -> str:
        return html.strip(self.images, self.names)


@dataclass(frozen=True, eq=False, repr=False)
class Inverted:
    """What `invert_pictures` found. Print it for a line per picture.

    Attributes:
        setting: With what, every option filled in.
        names: Name of each picture.
        feature_names: Name of each feature.
        dimension: Dimension of the critical space V; the number of features for Rⁿ.
        objective: v, of unit length, ⟨r, v⟩ ≥ 0; NaN where nothing is known.
        response: r = f(p).
        cosine: cos(r, v).
        gap: See `jifv.Inversion`.
        stationarity: See `jifv.Inversion`.
        negative: Share of the squared length of v on negative entries, in [0, 1]. Objectives that people write have
            none.
        dead: Features that the picture says nothing of.
        weights: Those of the priors, a column each; see `jifv.Inversion`.
        ssim: Structural similarity of the picture before and after re-optimization for the "prediction" and for the
            "response"; None where it was not re-optimized.
        folder: Where the files are; None if there are none.
    """

    setting: Setting
    names: tuple[str, ...]
    feature_names: tuple[str, ...]
    dimension: int
    objective: Float[np.ndarray, "s n"]
    response: Float[np.ndarray, "s n"]
    cosine: Float[np.ndarray, " s"]
    gap: Float[np.ndarray, " s"]
    stationarity: Float[np.ndarray, " s"]
    negative: Float[np.ndarray, " s"]
    dead: Bool[np.ndarray, "s n"]
    weights: Float[np.ndarray, "s j"]
    ssim: dict[str, Float[np.ndarray, " s"]] | None
    folder: Path | None

    def __len__(self) -> int:
        return len(self.names)

    def verdict(self, index: int) -> Verdict:
        """Judge the objective of a picture: optimal for it, or for nothing here."""
        return verdict(
            self.objective[index],
            self.feature_names,
            stationarity=float(self.stationarity[index]),
            cosine=float(self.cosine[index]),
            significance=self.setting.significance,
        )

    def __repr__(self) -> str:
        """Say a line about each picture, of the first ones."""
        lines = [f"{name}: {self.verdict(index).text()}" for index, name in enumerate(self.names[:SHOWN])]
        more = [f"and {len(self) - SHOWN} more"] if len(self) > SHOWN else []
        return "\n".join([f"Inverted({len(self)} pictures, {self.objective.shape[1]} features)", *lines, *more])

    def _repr_html_(self) -> str:
        columns = ("picture", "objective", "gap", "stationarity", "cos(r, v)")
        rows = [
            (
                name,
                self.verdict(index).text(),
                *(f"{each[index]:.2g}" for each in (self.gap, self.stationarity, self.cosine)),
            )
            for index, name in enumerate(self.names[:SHOWN])
        ]
        return html.table(f"{len(self)} pictures", columns, rows)


def _listed(names: Iterable[str], *, most: int) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
