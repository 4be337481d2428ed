"""One experiment: visualize known objectives, invert the realizations, and see how close the predictions are.

An `Experiment` is data. `run` takes it through the whole path, the same for every experiment, and returns `Results`;
`jifv.experiments.studies` has the paper's experiments, and `jifv.experiments.report` turns results into files. The
random numbers depend on the seed and on the number of samples, never on how these are divided into batches.
"""

from dataclasses import dataclass, field

from jifv._core.check import check_count, check_nonnegative, check_positive
from jifv.experiments.registry import AGGREGATIONS, PARAMETRIZATIONS
from jifv.inversion import check_silence
from jifv.visualization import Settings


@dataclass(frozen=True)
class Experiment:
    """One experiment, or one cell of an experiment over several conditions.

    Attributes:
        name: Its name, also that of its store.
        network: The network, by the name that `jifv.models.load` knows.
        layer: The tapped layer.
        samples: Number of objectives.
        canonical: How many of them are canonical vectors, though never more than there are features; the others are
            sampled with uniform Hoyer sparseness.
        features: Use the first so many channels of the layer; all of them if None.
        aggregation: Name of the aggregation, one of `AGGREGATIONS`.
        parametrization: Name of the parametrization, one of `PARAMETRIZATIONS`.
        std: Standard deviation of the initial parameters. Features that the start leaves silent stay so: their
            gradient is zero.
        input_size: Side of the network's input, None for its own.
        smoothing: Rounds off the network's kinks, see `jifv.models.load`, and those of the aggregation with them.
        silence: Features whose row in the Jacobian is as short as this count as silent, see `invert`.
        settings: Options of the visualization.
        reoptimize_steps: Steps of Adam for each of `OBJECTIVES` in re-optimization.
        jacobians: Algorithm 1 uses the Jacobians of the first so many samples; 0 leaves it out, V = Rⁿ.
        batch_size: Samples optimized at a time, and stored at a time. It bounds the memory, and decides the rounding.
        chunk: Backward passes that run at once in a Jacobian, see `linearize`.
        seed: Decides everything that is random.
    """

    name: str
    network: str
    layer: str
    samples: int
    canonical: int = 0
    features: int | None = None
    aggregation: str = "max_mean"
    parametrization: str = "pixels"
    std: float = 0.01
    input_size: int | None = None
    smoothing: float = 0.0
    silence: float = 0.0
    settings: Settings = field(default_factory=Settings)
    reoptimize_steps: int = 500
    jacobians: int = 0
    batch_size: int = 16
    chunk: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what the parts do not check themselves, or only after hours."""
        for name in ("samples", "reoptimize_steps", "batch_size"):
            check_positive(name, getattr(self, name))
        for name in ("features", "chunk", "input_size"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        check_count("jacobians", self.jacobians)
        for name in ("smoothing", "std"):
            check_nonnegative(name, getattr(self, name))
        check_silence(self.silence)
        if self.samples < 2:
            raise ValueError(f"samples must be at least 2, to compare them with one another, got {self.samples}")
        if not 0 <= self.canonical <= self.samples:
            raise ValueError(f"canonical must be between 0 and samples, {self.samples}, got {self.canonical}")
        for name, known in (("aggregation", AGGREGATIONS), ("parametrization", PARAMETRIZATIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}")
