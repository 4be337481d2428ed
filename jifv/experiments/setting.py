"""What people's own pictures are visualized and inverted with: a network up to a layer, and what decides f and d."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from typing import Any

import jax

from jifv.ensemble import Ensemble
from jifv.experiments.options import BY_NAME
from jifv.experiments.registry import PRIORS, TRANSFORMATIONS
from jifv.models import Network
from jifv.models.networks import frames
from jifv.priors import Prior
from jifv.significance import Significance
from jifv.transform import Transformation, fixed

_CRITICAL = 8


@dataclass(frozen=True)
class Setting:
    """What a realization is optimal in, and inverted with.

    By default kinks are rounded, the start has contrast and nearly dead features are left out, because only that gives
    realizations that can be inverted (docs/gn4c.md).

    Attributes:
        network: A name that `jifv.models.load` knows.
        layer: The tapped layer; None for the last one.
        features: See `Experiment`.
        aggregation: See `Experiment`; None for `"max_mean"`, or `"identity"` where the layer has no positions.
        parametrization: See `Experiment`; None for `"pixels"`, or `"geometry"` for SRNet.
        std: See `Experiment`.
        input_size: See `Experiment`.
        smoothing: See `Experiment`.
        dead_tolerance: See `Experiment`.
        significance: The objective function d.
        priors: Names in `jifv.experiments.registry.PRIORS`, each with its weight, which inversion does not use.
        transformations: Name in `jifv.experiments.registry.TRANSFORMATIONS`, over which d is averaged; None for none.
        draws: How many of them.
        critical_samples: Invert on the critical space that the Jacobians of so many random inputs have; 0 for Rⁿ. None
            for 8 where the layer has no positions, as class scores, which a common shift may leave unchanged.
        seed: Decides the transformations and the random inputs.

    Raises:
        TypeError: An option is of another type than declared.
        ValueError: An option is out of its bounds, or a name is none.
    """

    network: str
    layer: str | None = None
    features: int | None = None
    aggregation: str | None = None
    parametrization: str | None = None
    std: float | int = 0.5
    input_size: int | None = None
    smoothing: float | int = 0.1
    dead_tolerance: float | int = 0.02
    significance: Significance = field(default_factory=Significance)
    priors: tuple[tuple[str, float], ...] = ()
    transformations: str | None = None
    draws: int = 8
    critical_samples: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every option."""
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in BY_NAME and not (value is None and each.default is None):
                BY_NAME[each.name].check(value)
                if BY_NAME[each.name].type is float:
                    object.__setattr__(self, each.name, float(value))  # pyright: ignore[reportArgumentType]
        for name, value in asdict(self.significance).items():
            BY_NAME[name].check(value)
        for name, _ in self.priors:
            if name not in PRIORS:
                raise ValueError(f"priors must be some of {', '.join(PRIORS)}, got {name!r}")
        object.__setattr__(self, "priors", tuple((name, PRIORS[name](weight).weight) for name, weight in self.priors))
        if self.transformations not in (None, *TRANSFORMATIONS):
            known = ", ".join(TRANSFORMATIONS)
            raise ValueError(f"transformations must be one of {known}, got {self.transformations!r}")
        if self.transformations and self.critical_samples:
            raise ValueError("critical_samples must be 0 with transformations, each of which has a B of its own")

    def resolved(self, network: Network) -> "Setting":
        """Fill in what depends on the network, so that nothing is None but `features`, `input_size` and the like."""
        positions, channels = len(network.output_shape) > 1, network.input_shape[2]
        chosen: dict[str, Any] = {
            "layer": network.layer,
            "aggregation": "max_mean" if positions else "identity",
            "parametrization": "geometry" if frames.is_frame(channels) else "pixels",
            "critical_samples": 0 if positions or self.transformations else _CRITICAL,
        }
        return replace(self, **{name: value for name, value in chosen.items() if getattr(self, name) is None})

    def prior_functions(self) -> tuple[Prior, ...]:
        """Make the priors."""
        return tuple(PRIORS[name](weight) for name, weight in self.priors)

    def ensemble(self, network: Network) -> Ensemble | None:
        """Draw the transformations; None without any."""
        if self.transformations is None:
            return None
        key = jax.random.fold_in(jax.random.key(self.seed), 1)
        tau = _transformation(self.transformations, min(network.input_shape[:2]))
        return fixed(tau, jax.random.split(key, self.draws))


def setting_of(identity: Mapping[str, Any]) -> Setting:
    """Read the setting of a run from the identity in its store, whichever command made it.

    Raises:
        ValueError: The run is of another kind, or of a version with other options.
    """
    try:
        found = dict(identity.get("setting") or identity["experiment"])
        known = {each.name: found[each.name] for each in fields(Setting) if each.name in found}
        known["significance"] = Significance(**found["significance"])
        known["priors"] = tuple(map(tuple, found.get("priors", ())))
        known["critical_samples"] = found.get("critical_samples")
        return Setting(**known)
    except (KeyError, TypeError) as error:
        raise ValueError(f"a run must say its network, layer and options to be inverted, got {error!r}") from error


@cache
def _transformation(name: str, side: int) -> Transformation:
    """Return the same object again, for which programs are compiled."""
    return TRANSFORMATIONS[name](side)
