"""The response and its Jacobian at a realization: J = ∂f/∂p, one row a feature, one column an entry of p.

A Jacobian has n × m entries, and its rows come from n backward passes. `chunk` says how many of them run at
once: memory for activations grows with it, while the result does not depend on it. Unless told otherwise it is
4 on a CPU, where more only outgrow the caches (all at once, SRNet takes 1.4 and DenseNet 1.9 times as long), and
64 elsewhere.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jifv._core.check import check_positive
from jifv.response import Response, feature_count


class Linearization(NamedTuple):
    """The linear part of a response function, f(p + h) ≈ r + J h.

    Attributes:
        response: r = f(p), shape (*batch, n).
        jacobian: J, shape (*batch, n, m), m the number of entries of p in row-major order.
    """

    response: Float[Array, "*batch n"]
    jacobian: Float[Array, "*batch n m"]


def linearize(f: Response, parameters: Float[Array, "..."], *, chunk: int | None = None) -> Linearization:
    """Response and Jacobian of one realization: one forward pass and n backward passes (Sec. 2.1).

    Call it under `jax.jit` where `f` is a network. r has the dtype of f(p), J that of p.

    Args:
        f: response function, p of any shape to r of shape (n,).
        parameters: p, of any shape with m entries.
        chunk: how many backward passes run at once; None chooses by the device.

    Returns:
        r of shape (n,) and J of shape (n, m).

    Raises:
        TypeError: `chunk` is not an integer, or p or f(p) is not one array of floats.
        ValueError: `chunk` is not positive, or f(p) does not have the shape (n,).
    """
    if chunk is None:
        chunk = 4 if jax.default_backend() == "cpu" else 64
    check_positive("chunk", chunk)
    features = feature_count(f, parameters)
    chunk = min(chunk, features)

    # The answer lies in the smallest singular values, four orders of magnitude below the largest. The TF32
    # products that a GPU uses by default keep three digits and would lose it.
    with jax.default_matmul_precision("highest"):
        response, pullback = jax.vjp(f, parameters)

        def row(cotangent: Float[Array, " n"]) -> Float[Array, " m"]:
            return pullback(cotangent)[0].ravel()

        # Rows of zeros fill the last chunk: a shorter one would be compiled as another program.
        cotangents = jnp.eye(-(-features // chunk) * chunk, features, dtype=response.dtype)
        jacobian = jax.lax.map(row, cotangents, batch_size=chunk)[:features]
    return Linearization(response, jacobian)


def linearize_batch(f: Response, parameters: Float[Array, "batch ..."], *, chunk: int | None = None) -> Linearization:
    """`linearize` for one realization after the other, in one compiled loop.

    Besides the result, b · n · m entries, memory is that of a single realization.

    Args:
        f: response function, p of any shape to r of shape (n,).
        parameters: b parameter vectors along the first axis, shape (b, *p).
        chunk: how many backward passes run at once; None chooses by the device.

    Returns:
        r of shape (b, n) and J of shape (b, n, m).

    Raises:
        TypeError: as `linearize`.
        ValueError: as `linearize`, or `parameters` has no batch axis.
    """
    if jnp.ndim(parameters) == 0:
        raise ValueError("parameters must have a leading batch axis, got a scalar")
    return jax.lax.map(lambda single: linearize(f, single, chunk=chunk), parameters)
