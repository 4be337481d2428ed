"""The response function f = A∘N∘φ: the parameters p of one sample to one value per feature, r of shape (n,)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Response: TypeAlias = Callable[[Float[Array, "..."]], Float[Array, " n"]]


@dataclass(frozen=True, eq=False, repr=False)
class Composition:
    """A response function f = A∘N∘φ that keeps its parts, made by `compose`. It is hashed by its identity.

    Priors of the image and transformations act on x = φ(p), so they need to know φ.

    Attributes:
        apply: Parametrization φ, p -> x.
        network: Network N up to the tapped layer, x -> a.
        aggregate: Aggregation A, a -> r.
    """

    apply: Callable[[Float[Array, "..."]], Float[Array, "..."]]
    network: Callable[[Float[Array, "..."]], Float[Array, "..."]]
    aggregate: Callable[[Float[Array, "..."]], Float[Array, " n"]]

    def __call__(self, parameters: Float[Array, "..."]) -> Float[Array, " n"]:
        """Compute r = f(p)."""
        return self.respond(self.apply(parameters))

    def __repr__(self) -> str:
        parts = (self.aggregate, self.network, self.apply)
        return f"Composition({' ∘ '.join(_name(part) for part in parts)})"

    def respond(self, x: Float[Array, "..."]) -> Float[Array, " n"]:
        """Compute r = A(N(x)) of an image."""
        return self.aggregate(self.network(x))


def compose(
    apply: Callable[[Float[Array, "..."]], Float[Array, "..."]],
    network: Callable[[Float[Array, "..."]], Float[Array, "..."]],
    aggregate: Callable[[Float[Array, "..."]], Float[Array, " n"]],
) -> Composition:
    """Return f = A∘N∘φ, the function p -> aggregate(network(apply(p))).

    Args:
        apply: Parametrization φ, p -> x.
        network: Network N up to the tapped layer, x -> a, with a of shape (h, w, n) or (n,). It gets images in [0, 1]
            from φ: scale them where the network takes 0 to 255 or other units, `lambda x: network(255 * x)`.
        aggregate: Aggregation A, a -> r.

    Returns:
        The response function of one sample; use `jax.vmap` for a batch.

    Raises:
        TypeError: An argument is not callable.
    """
    for name, function in (("apply", apply), ("network", network), ("aggregate", aggregate)):
        if not callable(function):
            raise TypeError(f"{name} must be a function, got {function!r}")

    return Composition(apply, network, aggregate)


def _name(function: Callable) -> str:
    """Name a function, or that which made it."""
    return getattr(function, "__qualname__", type(function).__name__).split(".<locals>")[0]


def feature_count(f: Response, parameters: Float[Array, "..."] | jax.ShapeDtypeStruct) -> int:
    """Count the features of r = f(p) by tracing f, without computing anything.

    Args:
        f: Response function.
        parameters: One sample's p, of any shape, or its shape and dtype.

    Returns:
        n >= 1.

    Raises:
        TypeError: p or r is not one array of real floating-point numbers.
        ValueError: r does not have the shape (n,) with n >= 1.
    """
    if not hasattr(parameters, "dtype") or not jnp.issubdtype(parameters.dtype, jnp.floating):
        kind = getattr(parameters, "dtype", type(parameters).__name__)
        raise TypeError(f"parameters must be an array of floats, got {kind}")
    response = jax.eval_shape(f, parameters)
    if not isinstance(response, jax.ShapeDtypeStruct) or not jnp.issubdtype(response.dtype, jnp.floating):
        raise TypeError(f"f must return one array of floats, got {response}")
    if len(response.shape) != 1 or response.shape[0] == 0:
        raise ValueError(f"f must return one value per feature, shape (n,), got shape {response.shape}")
    return response.shape[0]
