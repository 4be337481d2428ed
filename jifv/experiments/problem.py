"""What all stages of an experiment share: its network, its response function, and everything that is random."""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jifv import aggregate
from jifv import objectives as sample
from jifv._core.devices import one_by_one, over_samples
from jifv._core.tuning import compiler_options
from jifv.experiments.experiment import Experiment
from jifv.experiments.registry import AGGREGATIONS, PARAMETRIZATIONS
from jifv.experiments.setting import Setting
from jifv.inversion import Inversion, invert
from jifv.jacobian import compress, linearize
from jifv.models import Network, load
from jifv.parametrize import Parametrization
from jifv.response import Composition, Response, compose
from jifv.significance import Significance
from jifv.smoothing import Smoothed, smooth

_SSIM_WINDOW = 11

_KEPT = 8  # compiled functions, each with the weights of its network


class Problem(NamedTuple):
    """What all stages of an experiment share. Everything random is drawn here.

    Attributes:
        f: Response function of one sample.
        mesh: Devices that share each batch; None for one.
        to_images: φ of a batch.
        to_compressed: Compressed Jacobians of a batch, one sample per device.
        invert: Inversion in Rⁿ of a batch.
        objectives: Target objectives, the sampled ones first, then the canonical ones.
        canonical: Which objectives are canonical vectors.
        random: Random objectives, to compare with.
        start: Initial parameters.
    """

    f: Response
    mesh: Mesh | None
    to_images: Callable[[Array], Array]
    to_compressed: Callable[[Array], Array]
    invert: Callable[[Array, Array], Inversion]
    objectives: np.ndarray
    canonical: np.ndarray
    random: np.ndarray
    start: Array


def network_of(experiment: Experiment | Setting, *, weights: str | Path | None = None) -> Network:
    """Load the network of an experiment as it is; see `jifv.models.load`, which says what can go wrong."""
    return load(
        experiment.network,
        layer=experiment.layer,
        weights=weights,
        input_size=experiment.input_size,
    )


def check(experiment: Experiment | Setting, network: Network) -> None:
    """Raise unless the network fits the experiment. Computes nothing, so that it can precede all work.

    Raises:
        ValueError: The layer has fewer features than wanted, the aggregation or the parametrization does not fit, or
            the input is smaller than the window of SSIM.
    """
    _parts(experiment, network)


def problem_of(experiment: Experiment, network: Network, mesh: Mesh | None = None) -> Problem:
    """Set up an experiment: compose the response function, and draw everything that is random.

    Args:
        experiment: What to do.
        network: The network up to the layer.
        mesh: Devices that share each batch; None for one.

    Raises:
        ValueError: See `check`.
    """
    phi, f, features = response_of(experiment, network)
    objectives_key, start_key, random_key = jax.random.split(jax.random.key(experiment.seed), 3)
    objectives, canonical = _objectives(objectives_key, experiment, features)
    return Problem(
        f=f,
        mesh=mesh,
        to_images=to_images(phi.apply),
        to_compressed=to_compressed(f, experiment.row_batch_size, mesh),
        invert=_inverter(experiment.significance, experiment.dead_tolerance, mesh),
        objectives=objectives,
        canonical=canonical,
        random=np.asarray(sample.sparse_objectives(random_key, experiment.samples, features, dtype=objectives.dtype)),
        start=jax.vmap(phi.init)(jax.random.split(start_key, experiment.samples)),
    )


def response_of(experiment: Experiment | Setting, network: Network) -> tuple[Parametrization, Composition, int]:
    """Compose parametrization, network and aggregation, the last two with rounded kinks if that is wanted.

    Returns:
        φ, f and the number of features. Equal arguments give the same f, so that nothing is compiled twice.

    Raises:
        ValueError: See `check`.
    """
    phi, aggregation, features = _parts(experiment, network)
    if not experiment.smoothing:
        return phi, _response(phi.apply, network.apply, aggregation), features
    rounded = _smoothed(network, aggregation, float(experiment.smoothing))
    return phi, _response(phi.apply, rounded, aggregate.identity), features


def inverter_on(experiment: Experiment, mesh: Mesh | None, basis: np.ndarray) -> Callable[[Array, Array], Inversion]:
    """Return `invert` on a critical space. Each call of this function costs a compilation."""
    options = {"significance": experiment.significance, "dead_tolerance": experiment.dead_tolerance}
    return jax.jit(over_samples(one_by_one(partial(invert, basis=basis, **options), mesh), mesh))


def _parts(experiment: Experiment | Setting, network: Network) -> tuple[Parametrization, aggregate.Aggregation, int]:
    """Make parametrization and aggregation, check them by shapes alone, and count the features."""
    if min(network.input_shape[:2]) < _SSIM_WINDOW:
        height, width = network.input_shape[:2]
        raise ValueError(f"input_size must be at least {_SSIM_WINDOW}, the window of SSIM, got {height}×{width}")
    features = experiment.features or network.features
    if features > network.features:
        raise ValueError(f"features must be at most the {network.features} of {network.layer}, got {features}")
    phi = parametrization_of(experiment, network)
    aggregation = _aggregation(experiment.aggregation, experiment.features)
    jax.eval_shape(aggregation, jax.ShapeDtypeStruct(network.output_shape, np.float32))
    made = jax.eval_shape(lambda key: phi.apply(phi.init(key)), jax.random.key(0)).shape
    if made != network.input_shape:
        raise ValueError(
            f"parametrization must make inputs of the shape {network.input_shape} that {network.name} takes, "
            f"got {made} from {experiment.parametrization}"
        )
    return phi, aggregation, features


def parametrization_of(experiment: Experiment | Setting, network: Network) -> Parametrization:
    """Return φ for the inputs of a network, the same object for the same options."""
    return _parametrization(experiment.parametrization, network.input_shape, experiment.std)


def _objectives(key: Array, experiment: Experiment, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the objectives: sampled ones, then canonical ones spread over the features; and mark which are canonical."""
    canonical = min(experiment.canonical, features)
    sampled = experiment.samples - canonical
    indices = np.arange(canonical) * features // max(canonical, 1)
    parts = [np.asarray(sample.sparse_objectives(key, sampled, features))] if sampled else []
    if canonical:
        parts.append(np.asarray(sample.canonical_objectives(indices, features)))
    return np.concatenate(parts), np.arange(experiment.samples) >= sampled


@lru_cache(_KEPT)
def _parametrization(name: str, shape: tuple[int, ...], std: float) -> Parametrization:
    return PARAMETRIZATIONS[name](shape, std=std)


@lru_cache(_KEPT)
def _aggregation(name: str, features: int | None) -> aggregate.Aggregation:
    whole = AGGREGATIONS[name]
    return whole if features is None else aggregate.first(features, whole)


@lru_cache(_KEPT)
def _smoothed(network: Network, aggregation: aggregate.Aggregation, width: float) -> Smoothed:
    # Network and aggregation together, for both have kinks; φ has none.
    return smooth(lambda x: aggregation(network.apply(x)), network.typical_inputs(), width)


@lru_cache(_KEPT)
def _response(apply: Callable, network: Callable, aggregation: aggregate.Aggregation) -> Composition:
    return compose(apply, network, aggregation)


@lru_cache(_KEPT)
def to_images(apply: Callable) -> Callable[[Array], Array]:
    """Return φ of a batch, compiled."""
    return jax.jit(jax.vmap(apply))


@lru_cache(_KEPT)
def to_compressed(f: Response, row_batch_size: int | None, mesh: Mesh | None) -> Callable[[Array], Array]:
    """Return the compressed Jacobians of a batch with one sample per device, compiled."""

    def compressed(one: Float[Array, "1 *p"]) -> Float[Array, "1 n k"]:
        return compress(linearize(f, one[0], row_batch_size=row_batch_size).jacobian)[None]

    return jax.jit(over_samples(compressed, mesh), compiler_options=compiler_options(mesh))


@lru_cache(_KEPT)
def _inverter(
    significance: Significance, dead_tolerance: float, mesh: Mesh | None
) -> Callable[[Array, Array], Inversion]:
    options = {"significance": significance, "dead_tolerance": dead_tolerance}
    return jax.jit(over_samples(one_by_one(partial(invert, **options), mesh), mesh))
