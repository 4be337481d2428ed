"""The response and its Jacobian at a realization: J = ∂f/∂p, one row per feature, one column per entry of p.

A Jacobian has n × m entries, and its rows come from n backward passes. `row_batch_size` says how many of them run at
once: memory for activations grows with it, while the result does not depend on it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jifv._core.check import check_array, check_floats, check_positive
from jifv._core.linalg import triangle
from jifv._core.tuning import rows_at_once
from jifv.response import Response, feature_count


class Linearization(NamedTuple):
    """The linear part of a response function, f(p + h) ≈ r + J h.

    Attributes:
        response: r = f(p), shape (*batch, n).
        jacobian: J, shape (*batch, n, m), m the number of entries of p in row-major order.
    """

    response: Float[Array, "*batch n"]
    jacobian: Float[Array, "*batch n m"]

    def __repr__(self) -> str:
        """Say what is there; the arrays are too long to print."""
        *batch, features, entries = (0, 0, *np.shape(self.jacobian))[-max(2, np.ndim(self.jacobian)) :]
        return f"Linearization(batch {tuple(batch)}, {features} features, {entries} entries of p)"


def linearize(f: Response, parameters: Float[Array, "..."], *, row_batch_size: int | None = None) -> Linearization:
    """Compute response and Jacobian of one realization: one forward pass and n backward passes (Sec. 2.1).

    Call it under `jax.jit` where `f` is a network. r has the dtype of f(p), J that of p.

    Args:
        f: Response function, p of any shape to r of shape (n,).
        parameters: p, of any shape with m entries.
        row_batch_size: Number of backward passes that run at once; None chooses by the device.

    Returns:
        r of shape (n,) and J of shape (n, m).

    Raises:
        TypeError: `row_batch_size` is not an integer, or p or f(p) is not one array of floats.
        ValueError: `row_batch_size` is not positive, or f(p) does not have the shape (n,).
    """
    if row_batch_size is not None:
        check_positive("row_batch_size", row_batch_size)
    features = feature_count(f, parameters)
    rows = min(row_batch_size or rows_at_once(), features)

    # The answer lies in the smallest singular values, four orders of magnitude below the largest. The TF32
    # products that a GPU uses by default keep three digits and would lose it.
    with jax.default_matmul_precision("highest"):
        response, pullback = jax.vjp(f, parameters)

        def row(cotangent: Float[Array, " n"]) -> Float[Array, " m"]:
            return pullback(cotangent)[0].ravel()

        # Rows of zeros fill the last chunk: a shorter one would be compiled as another program.
        cotangents = jnp.eye(-(-features // rows) * rows, features, dtype=response.dtype)
        jacobian = jax.lax.map(row, cotangents, batch_size=rows)[:features]
    return Linearization(response, jacobian)


def linearize_batch(
    f: Response, parameters: Float[Array, "batch ..."], *, row_batch_size: int | None = None
) -> Linearization:
    """Apply `linearize` to one realization after the other, in one compiled loop.

    Besides the result, b · n · m entries, memory is that of a single realization.

    Args:
        f: Response function, p of any shape to r of shape (n,).
        parameters: b parameter vectors along the first axis, shape (b, *p).
        row_batch_size: Number of backward passes that run at once; None chooses by the device.

    Returns:
        r of shape (b, n) and J of shape (b, n, m).

    Raises:
        TypeError: As `linearize`.
        ValueError: As `linearize`, or `parameters` has no batch axis.
    """
    check_array("parameters", parameters)
    if parameters.ndim == 0:
        raise ValueError("parameters must have a leading batch axis, got a scalar")
    return jax.lax.map(lambda single: linearize(f, single, row_batch_size=row_batch_size), parameters)


def compress(jacobian: Float[Array, "*batch n m"]) -> Float[Array, "*batch n k"]:
    """Remove the long side of a Jacobian: k = min(n, m) columns with the same left-singular vectors and values.

    With the QR decomposition Jᵀ = U T, UᵀU = I, the compressed Jacobian is C = Tᵀ, so that J = C Uᵀ. For any matrix A,
    A C and A J have the same left-singular vectors and singular values, and ‖Cᵀ x‖ = ‖Jᵀ x‖ for any x. So `invert`,
    `stationarity` and `critical_spaces` take C in place of J: n × n numbers per sample in place of n × m.

    Raises:
        TypeError: `jacobian` does not hold real floating-point numbers.
        ValueError: `jacobian` has fewer than two axes, or an empty one.
    """
    check_array("jacobian", jacobian)
    if jacobian.ndim < 2 or 0 in jacobian.shape:
        raise ValueError(f"jacobian must have shape (*batch, n, m) with no empty axis, got {jacobian.shape}")
    check_floats("jacobian", jacobian)
    flat = jacobian.reshape(-1, *jacobian.shape[-2:])
    compressed = jax.vmap(triangle)(flat).mT
    return compressed.reshape(*jacobian.shape[:-1], compressed.shape[-1])
