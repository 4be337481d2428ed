"""Decompositions of wide matrices: the triangle that replaces one, and the singular values of triangles."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jifv._core.tuning import block_width


@jax.jit
def triangle(matrix: Float[Array, "n m"]) -> Float[Array, "k n"]:
    """Return the triangle T in Mᵀ = U T, UᵀU = I, k = min(n, m). Its right-singular vectors are M's left ones."""
    # QR works on a copy. Blocks of the matrix keep that small and in the cache; an accelerator would only wait for
    # one after the other.
    return lax.platform_dependent(matrix, cpu=_triangle_by_blocks, default=_triangle_at_once)


def right_singular(matrix: Float[Array, "b k q"]) -> tuple[Float[Array, "b l"], Float[Array, "b l q"]]:
    """Return the singular values, l = min(k, q), and the rows Vᵀ of a batch of finite matrices.

    Divide and conquer, LAPACK's fast way, at times does not converge in float32, mostly where singular values lie
    close together. It depends on rounding, even on the number of threads (OpenBLAS issue 3044), and leaves NaN. QR
    iteration converges, but takes four times as long at n = 342 and twenty times at n = 1024. So it has its turn only
    if the other fails (under `vmap`, where there is no branching, always: hence the batch).
    """
    _, values, rows = jnp.linalg.svd(matrix, full_matrices=False)

    def again() -> tuple[Array, Array]:
        algorithm = lax.linalg.SvdAlgorithm.QR
        _, values, rows = lax.linalg.svd(matrix, full_matrices=False, algorithm=algorithm)
        return values, rows

    return lax.cond(jnp.all(jnp.isfinite(values)), lambda: (values, rows), again)


def _triangle_at_once(matrix: Float[Array, "n m"]) -> Float[Array, "k n"]:
    return jnp.linalg.qr(matrix.T, mode="r")


def _triangle_by_blocks(matrix: Float[Array, "n m"]) -> Float[Array, "k n"]:
    """Compute the triangle of the triangles of blocks of columns (TSQR)."""
    features, columns = matrix.shape
    width = block_width(features)
    blocks = columns // width
    if blocks < 2:
        return _triangle_at_once(matrix)
    start = columns - (blocks - 1) * width  # the first block takes the remainder as well

    def one(index: Int[Array, ""]) -> Float[Array, "n n"]:
        return _triangle_at_once(lax.dynamic_slice_in_dim(matrix, start + index * width, width, axis=1))

    # All of them first, and not each below the triangle so far, which would be rounded again with every block.
    others = lax.map(one, jnp.arange(blocks - 1)).reshape(-1, features)
    return jnp.linalg.qr(jnp.concatenate([_triangle_at_once(matrix[:, :start]), others]), mode="r")
