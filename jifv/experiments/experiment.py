"""One experiment: visualize known objectives, invert the realizations, and see how close the predictions are.

An `Experiment` is data. `jifv.experiments.run` takes it through the whole path and returns
`jifv.experiments.results.Results`, `jifv.experiments.studies` has the experiments of the paper, and
`jifv.experiments.report` turns results into files. Random numbers depend on the seed and on the number of samples,
never on the batch size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jifv.experiments.options import BY_NAME, OPTIONS
from jifv.significance import Significance
from jifv.visualization import PAPER, Settings


@dataclass(frozen=True)
class Experiment:
    """One experiment, or one cell of a study with several conditions.

    The labels, bounds and help texts of all options are in `jifv.experiments.options`.

    Attributes:
        name: Its name, also that of its store.
        network: The network, by a name that `jifv.models.load` knows.
        layer: The tapped layer.
        samples: Number of objectives.
        canonical: How many of them are canonical vectors, though never more than there are features. The others are
            sampled with uniform Hoyer sparseness.
        features: Use the first so many channels of the layer; all of them if None.
        aggregation: Name in `jifv.experiments.registry.AGGREGATIONS`.
        parametrization: Name in `jifv.experiments.registry.PARAMETRIZATIONS`.
        std: Standard deviation of the initial parameters. Features that are dead at the start stay dead, because their
            gradient is zero.
        input_size: Side of the network's input in pixels; the network's own if None.
        smoothing: Width over which the kinks of the network and of the aggregation are rounded, relative to their
            inputs; see `jifv.smooth`.
        dead_tolerance: Features whose row in the Jacobian is at most this long, relative to the longest, count as dead;
            see `jifv.invert`.
        significance: The objective function, which visualization maximizes and inversion inverts.
        settings: Options of the optimizer.
        reoptimize_steps: Steps of Adam for each of `jifv.experiments.results.OBJECTIVES` in re-optimization.
        critical_samples: Algorithm 1 uses the Jacobians of the first so many samples. 0 leaves it out, so that V = Rⁿ.
        batch_size: Samples optimized and stored at a time. It bounds the memory, and results depend on it by rounding.
        row_batch_size: Backward passes of one Jacobian that run at a time, see `jifv.linearize`.
        seed: Decides everything that is random.

    Raises:
        TypeError: An option is of another type than declared.
        ValueError: An option is out of its bounds, or there are more canonical objectives than samples.
    """

    name: str
    network: str
    layer: str
    samples: int
    canonical: int = 0
    features: int | None = None
    aggregation: str = "max_mean"
    parametrization: str = "pixels"
    std: float | int = 0.01
    input_size: int | None = None
    smoothing: float | int = 0.0
    dead_tolerance: float | int = 0.0
    significance: Significance = field(default_factory=Significance)
    settings: Settings = PAPER
    reoptimize_steps: int = 500
    critical_samples: int = 0
    batch_size: int = 16
    row_batch_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every option, now and not after hours."""
        for name, value in options_of(self).items():
            BY_NAME[name].check(value)
        if self.canonical > self.samples:
            raise ValueError(f"canonical must be at most samples, {self.samples}, got {self.canonical}")


def options_of(experiment: Experiment) -> dict[str, Any]:
    """List the value of every option by name, in the order of `OPTIONS`."""
    owners = {"experiment": experiment, "settings": experiment.settings, "significance": experiment.significance}
    return {option.name: getattr(owners[option.owner], option.name) for option in OPTIONS}


def with_options(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """Change options by name, whichever object has them.

    Args:
        experiment: The experiment to start from.
        changes: New values by the names of `OPTIONS`.

    Returns:
        The changed experiment.

    Raises:
        KeyError: There is no such option.
        TypeError: As `Experiment`.
        ValueError: As `Experiment`.
    """
    owned: dict[str, dict[str, Any]] = {"experiment": {}, "settings": {}, "significance": {}}
    for name, value in changes.items():
        option = BY_NAME[name]
        option.check(value)
        # Equal experiments must have equal stores, whether somebody writes 1 or 1.0.
        owned[option.owner][name] = float(value) if option.type is float and value is not None else value
    return replace(
        experiment,
        settings=replace(experiment.settings, **owned["settings"]),
        significance=replace(experiment.significance, **owned["significance"]),
        **owned["experiment"],
    )
