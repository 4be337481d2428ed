"""What was visualized or inverted of people's own, as arrays of NumPy whose first axis is the sample."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jifv.compare import Match, match_features
from jifv.experiments.pictures import html
from jifv.experiments.pictures.judging import Judgement, Verdict, judgement, verdict
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
        elsewhere: Median stationarity of v at random inputs; NaN without `Setting.critical_samples`.
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
    elsewhere: Float[np.ndarray, " s"]
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
            elsewhere=float(self.elsewhere[index]),
            significance=self.setting.significance,
        )

    def __repr__(self) -> str:
        """Say a line about each picture, of the first ones."""
        head = f"Inverted({counted(len(self), 'picture')}, {counted(self.objective.shape[1], 'feature')})"
        return _lines(head, self.names, lambda index: self.verdict(index).text())

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


@dataclass(frozen=True, eq=False, repr=False)
class Audited:
    """What `audit_pictures` found. Print it for a line per picture and claim.

    Attributes:
        setting: With what, every option filled in.
        names: Name of each picture.
        claims: Name of each claim.
        feature_names: Name of each feature.
        goals: Direction that each claim says, of unit length.
        stationarity: See `jifv.audit.Audit`, as the next three.
        others: Of other claims.
        p_value: How likely another claim does as well.
        on_dead: Share of the claim on dead features.
        response: r = f(p).
        folder: Where the files are; None if there are none.
    """

    setting: Setting
    names: tuple[str, ...]
    claims: tuple[str, ...]
    feature_names: tuple[str, ...]
    goals: Float[np.ndarray, "c n"]
    stationarity: Float[np.ndarray, "s c"]
    others: Float[np.ndarray, "s c m"]
    p_value: Float[np.ndarray, "s c"]
    on_dead: Float[np.ndarray, "s c"]
    response: Float[np.ndarray, "s n"]
    folder: Path | None

    def judgement(self, picture: int, claim: int) -> Judgement:
        """Say whether a claim on a picture stands."""
        return judgement(
            self.claims[claim],
            stationarity=float(self.stationarity[picture, claim]),
            p_value=float(self.p_value[picture, claim]),
            on_dead=float(self.on_dead[picture, claim]),
        )

    def __repr__(self) -> str:
        """Say a line about each claim on each picture, of the first ones."""
        pairs = [(picture, claim) for picture in range(len(self.names)) for claim in range(len(self.claims))]
        head = f"Audited({counted(len(self.names), 'picture')}, {counted(len(self.claims), 'claim')})"
        names = [self.names[picture] for picture, _ in pairs]
        return _lines(head, names, lambda index: self.judgement(*pairs[index]).text())


@dataclass(frozen=True, eq=False, repr=False)
class Compared:
    """What `compare_networks` found. Print it for a line per picture.

    Attributes:
        visualized: What was made in the first network.
        inverted: What that is optimal for in the second.
    """

    visualized: Visualized
    inverted: Inverted

    def match(self) -> Match:
        """Find the features of the first network in the second. It takes as many pictures as features, or more."""
        made, found = self.visualized, self.inverted
        pairs = ((made, made.objectives), (found, found.objective))
        gradients = [
            each.setting.significance.gradient_product(jnp.asarray(each.response), jnp.asarray(v)) for each, v in pairs
        ]
        return match_features(*map(np.asarray, gradients))

    def __repr__(self) -> str:
        """Say a line about each picture, of the first ones."""
        made, found = self.visualized, self.inverted
        head = f"Compared({made.setting.network}, {found.setting.network}, {counted(len(made.names), 'picture')})"
        return _lines(head, made.names, lambda index: found.verdict(index).text())


def _lines(head: str, names: Sequence[str], said: Callable[[int], str]) -> str:
    """Say a line about each of the first, by its index, and how many more there are."""
    lines = [f"{name}: {said(index)}" for index, name in enumerate(names[:SHOWN])]
    more = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return "\n".join([head, *lines, *more])


def counted(number: int, noun: str) -> str:
    """Say how many there are."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _listed(names: Iterable[str], *, most: int) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
