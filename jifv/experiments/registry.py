"""What experiments refer to by name: aggregations, parametrizations, priors and transformations."""

from collections.abc import Callable
from functools import partial

from jifv import aggregate, maco, parametrize, priors, transform

AGGREGATIONS: dict[str, aggregate.Aggregation] = {
    "max_mean": aggregate.max_mean(),
    "mean": aggregate.mean,
    "pick": aggregate.pick,
    "identity": aggregate.identity,
}
"""Aggregations by name."""

PARAMETRIZATIONS: dict[str, Callable[..., parametrize.Parametrization]] = {
    "pixels": parametrize.pixels,
    "fourier": parametrize.fourier,
    "fourier_decorrelated": partial(parametrize.fourier, decay=1.0),
    "maco": lambda shape, std: maco.maco(shape),  # whose start is uniform: it has no std
    "geometry": lambda shape, **options: parametrize.geometry(shape[:2], **options),
    "geometry_with_mask": lambda shape, **options: parametrize.geometry(shape[:2], mask="continuous", **options),
}
"""Parametrizations by name, for the shape of an input and `std`."""

LIMITED = frozenset({"maco"})
"""Those that show the pictures of one spectrum alone, so that a photograph has no parameters."""

PRIORS: dict[str, Callable[[float], priors.Prior]] = {
    "total_variation": priors.total_variation,
    "smoothness": priors.smoothness,
    "l2": priors.l2,
    "l1": priors.l1,
    "l_infinity": priors.l_infinity,
    "energy": priors.energy,
}
"""Priors of the image by name, for a weight."""

TRANSFORMATIONS: dict[str, Callable[[int], transform.Transformation]] = {
    "shift": lambda side: transform.shift(side / 16),
    "standard": lambda side: transform.chain(transform.shift(side / 16), transform.scale(0.95, 1.05)),
    "rotating": lambda side: transform.chain(
        transform.shift(side / 16), transform.scale(0.9, 1.1), transform.rotate(10)
    ),
}
"""Transformations by name, for the shorter side of an input in pixels."""
