"""What must hold of the arguments of inversion, before anything is compiled."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from jifv._core.check import check_fraction
from jifv._invert.solve import check_basis
from jifv.ensemble import check_ensemble
from jifv.response import Response
from jifv.significance import check_invertible


def check_linearization(response: Array, jacobian: Array) -> None:
    """Raise unless r and J are floating-point arrays that fit each other."""
    for name, array in (("response", response), ("jacobian", jacobian)):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"{name} must be of floating point, got {array.dtype}")
    if response.ndim == 0 or jacobian.ndim < 2:
        raise ValueError(
            f"response and jacobian must have shapes (*batch, n) and (*batch, n, m), "
            f"got {response.shape} and {jacobian.shape}"
        )
    if jacobian.shape[:-1] != response.shape:
        raise ValueError(
            f"jacobian must have the shape of response and one axis more, (*batch, n, m), "
            f"got {jacobian.shape} for a response of {response.shape}"
        )
    if 0 in jacobian.shape:
        raise ValueError(f"jacobian must have no empty axis, got shape {jacobian.shape}")


def check_options(significance: object, basis: ArrayLike | None, dead_tolerance: float, features: int) -> None:
    """Raise unless the options of `invert` are right for so many features."""
    check_invertible(significance)
    check_fraction("dead_tolerance", dead_tolerance, below_one=True)
    if basis is not None:
        check_basis(basis, features)


def check_gradients(gradients: Array, jacobian: Array) -> None:
    """Raise unless gradients of priors fit a Jacobian.

    Raises:
        TypeError: They are not of floating point.
        ValueError: Their shape is not that of the Jacobian, up to the number of rows.
    """
    if not jnp.issubdtype(gradients.dtype, jnp.floating):
        raise TypeError(f"prior_gradients must be of floating point, got {gradients.dtype}")
    if gradients.ndim != jacobian.ndim or gradients.shape[:-2] + gradients.shape[-1:] != (
        jacobian.shape[:-2] + jacobian.shape[-1:]
    ):
        raise ValueError(
            f"prior_gradients must have the shape of jacobian with a row for each prior, (*batch, j, m), "
            f"got {gradients.shape} for {jacobian.shape}"
        )


def check_fixed(f: Response, transformations: Any, basis: ArrayLike | None) -> None:
    """Raise unless these are transformations to invert with.

    Raises:
        TypeError: They are not an `Ensemble`.
        ValueError: They are drawn anew, there is a critical space, or f was not made by `jifv.compose`.
    """
    check_ensemble(f, transformations)
    if transformations.anew:
        raise ValueError(
            "transformations must be given, such as transform.fixed(tau, jax.random.split(key, 64)): the realizations "
            "were made with others in every step"
        )
    if basis is not None:
        raise ValueError("basis must be None with transformations, each of which has a B of its own")
