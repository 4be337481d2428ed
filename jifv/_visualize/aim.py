"""What an optimization is asked for fits together, before any compilation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jifv._core.check import check_objectives, concrete
from jifv._visualize.flat import check_dependence
from jifv._visualize.settings import Settings, check_settings
from jifv.ensemble import Ensemble, check_ensemble
from jifv.priors import Prior, check_priors
from jifv.response import Response, feature_count
from jifv.significance import Objective, Significance


def check_aim(
    f: Response,
    parameters: Array,
    objectives: Array,
    significance: Objective,
    priors: tuple[Prior, ...],
    transformations: Ensemble | None,
    settings: Settings,
) -> None:
    """Raise unless an optimization can begin; see `jifv.visualize` for the errors."""
    check_settings(settings)
    for name, function in (("f", f), ("significance", significance)):
        if not callable(function):
            raise TypeError(f"{name} must be a function, got {function!r}")
        try:
            hash(function)
        except TypeError:
            raise TypeError(f"{name} must be hashable to be compiled once: wrap it in a function") from None
    if parameters.ndim == 0 or parameters.shape[0] == 0:
        raise ValueError(f"parameters must hold at least one sample on the first axis, got shape {parameters.shape}")
    sample = jax.ShapeDtypeStruct(parameters.shape[1:], parameters.dtype)
    features = feature_count(f, sample)
    check_dependence(f, sample)
    check_priors(f, priors, sample)
    if transformations is not None:
        check_ensemble(f, transformations)
        if transformations.anew and settings.lbfgs_steps:
            raise ValueError(
                "settings must have lbfgs_steps=0 where every step draws transformations anew, because a line search "
                f"compares values of one function, got {settings.lbfgs_steps}"
            )
    check_objectives(objectives, features)
    if objectives.shape != (parameters.shape[0], features):
        raise ValueError(
            f"objectives must have shape {(parameters.shape[0], features)}, one for each of the parameters, "
            f"got {objectives.shape}"
        )
    if concrete(parameters) and not _all_finite(parameters):
        raise ValueError("parameters must be finite, got NaN or infinite entries")
    if not isinstance(significance, Significance):
        vector = jax.ShapeDtypeStruct((features,), parameters.dtype)
        value = jax.eval_shape(significance, vector, vector)
        if getattr(value, "shape", None) != () or not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(f"significance must return one real number for a response and an objective, got {value}")


@jax.jit
def _all_finite(parameters: Array) -> Array:
    return jnp.isfinite(parameters).all()
