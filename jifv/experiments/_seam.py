"""The path API of the contract over the one that is there; goes away once main has it."""

from dataclasses import dataclass
from typing import NamedTuple

import jifv.evaluate as _evaluate
import jifv.inversion as _inversion
import jifv.visualization as _visualization
from jifv import jacobian


@dataclass(frozen=True)
class Significance:
    power: float = 2.0
    floor: float | None = 0.1

    def __post_init__(self):
        from jifv._core.check import check_power

        check_power(self.power)
        object.__setattr__(self, "power", float(self.power))


@dataclass(frozen=True)
class Settings:
    adam_steps: int = 800
    lbfgs_steps: int = 300
    learning_rate: float = 0.05
    anneal: float = 0.25
    history: int = 10
    tolerance: float = 1e-8
    precision: str = "highest"
    adam_precision: str | None = None


def _old(settings, significance):
    names = ("adam_steps", "lbfgs_steps", "learning_rate", "history", "tolerance", "precision", "adam_precision")
    return _visualization.Settings(
        **{name: getattr(settings, name) for name in names},
        cooldown=settings.anneal,
        power=significance.power,
        floor=significance.floor,
    )


class Visualization(NamedTuple):
    parameters: object
    response: object
    value: object
    cosine: object
    gradient_norm: object
    adam_steps: object
    lbfgs_steps: object
    on_floor: object
    finite: object


def visualize(f, parameters, objectives, *, significance, settings, **options):
    return Visualization(
        *_visualization.visualize(f, parameters, objectives, settings=_old(settings, significance), **options)
    )


def reoptimize(f, parameters, objectives, *, significance, steps, settings, **options):
    return _evaluate.reoptimize(
        f, parameters, objectives, steps=steps, settings=_old(settings, significance), **options
    )


class Inversion(NamedTuple):
    objective: object
    singular_values: object
    singular_vectors: object
    gap: object
    dead: object


def invert(response, jacobian, *, significance, basis=None, dead_tolerance=0.0):
    return Inversion(
        *_inversion.invert(response, jacobian, power=significance.power, basis=basis, silence=dead_tolerance)
    )


def compress(jacobian):
    return _inversion.triangle(jacobian).T


def linearize(f, p, *, row_batch_size=None):
    return jacobian.linearize(f, p, chunk=row_batch_size)


def angle(a, b, *, basis=None):
    return _evaluate.angle(a, b) if basis is None else _evaluate.angle_on(basis, a, b)
