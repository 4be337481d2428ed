"""What experiments refer to by name: aggregations and parametrizations."""

from collections.abc import Callable
from functools import partial

from jifv import aggregate, parametrize

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
    "geometry": lambda shape, **options: parametrize.geometry(shape[:2], **options),
    "geometry_with_mask": lambda shape, **options: parametrize.geometry(shape[:2], mask="continuous", **options),
}
"""Parametrizations by name, for the shape of an input and `std`."""
