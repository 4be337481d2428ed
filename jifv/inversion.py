"""Inversion: from a realization's response r and Jacobian J to the objective v with a vanishing gradient.

The gradient of the significance is, up to a positive factor, Jᵀ B v with B = (k+1)·I − k·r̂r̂ᵀ. Everything is
a singular value decomposition, never an eigendecomposition of a Gram matrix: squaring the condition number
would in float32 lose every singular value below 3e-4 of the largest, which is where the answer lives. The
Jacobian, by far the largest array, is read once, for the triangle T in Jᵀ = U T; the rest is n × n. A `batch`
may be any number of leading axes.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, ArrayLike, Bool, Float, Int, ScalarLike

from jifv._core.check import check_nonnegative, check_power, concrete
from jifv._core.devices import compiler_options, in_turn, over_samples
from jifv._core.progress import bar
from jifv.jacobian import linearize
from jifv.response import Response, feature_count
from jifv.significance import gradient_product, gradient_solve


class Inversion(NamedTuple):
    """The objective found for a realization, and how much to trust it.

    The dimension of the critical space is q, n without one. A direction is active unless the constraint v = 0
    on silent features takes it out.

    Attributes:
        objective: v, shape (*batch, n), unit length, ⟨r, v⟩ ≥ 0, exactly 0 on silent features. NaN where
            nothing is known: r or J not finite, or silent features leave no direction.
        singular_values: ‖Jᵀ B v‖ of each singular vector, shape (*batch, q), descending; inf for each
            direction taken out because of silent features.
        singular_vectors: the v that belong to them, shape (*batch, n, q), one a column, of free sign;
            orthonormal. The last one is the objective, up to sign.
        gap: (σ_{q−1} − σ_q)/σ_{q−1} over the active directions, shape (*batch,), in [0, 1]: confidence that
            the objective is the only candidate. 1 if one direction is active, 0 where σ_{q−1} is itself only
            rounding error, and where v is NaN.
        silent: features with rᵢ = 0 and a zero row in J, or one as short as `silence` says, shape (*batch, n).
            This gradient says nothing about them.
    """

    objective: Float[Array, "*batch n"]
    singular_values: Float[Array, "*batch q"]
    singular_vectors: Float[Array, "*batch n q"]
    gap: Float[Array, "*batch"]
    silent: Bool[Array, "*batch n"]


def invert(
    response: Float[ArrayLike, "*batch n"],
    jacobian: Float[ArrayLike, "*batch n m"],
    *,
    power: ScalarLike = 2.0,
    basis: Float[ArrayLike, "n q"] | None = None,
    silence: float = 0.0,
) -> Inversion:
    """Solve min ‖Jᵀ B v‖ subject to ‖v‖ = 1 and B v ∈ V (Opt. 3 of the paper).

    With V = Rⁿ the solution is the left-singular vector of BJ to the smallest singular value. Otherwise let R
    be an orthonormal basis of B⁻¹V; then v = R u with u the left-singular vector of RᵀBJ to the smallest
    singular value. Where the complement of V lies in J's cokernel, an objective v* with JᵀBv* = 0 is found as
    the normalized B⁻¹QQᵀBv*, Q the basis of V: only modulo that complement.

    A feature is silent where rᵢ = 0 and row i of J is zero. Then eᵢ would be a trivial solution, so such
    samples are solved with the further constraint vᵢ = 0. A realization is never quite stationary, and of a
    feature whose row is shorter than the gradient that is left it says nothing either: `silence` extends the
    constraint to those. For r = 0, r̂ is taken to be 0.

    Args:
        response: r, shape (*batch, n).
        jacobian: J, shape (*batch, n, m). Precision below float32 is raised to float32.
        power: k ≥ 0 of the cosine term in the significance that the realization was optimized for.
        basis: Q, orthonormal basis of the critical space V, shape (n, q), one for the whole batch; V = Rⁿ if
            None.
        silence: a feature counts as silent, too, if its row in J is at most so many times as long as the
            longest; in [0, 1).

    Returns:
        The objective with its singular values and vectors; see `Inversion`.

    Raises:
        TypeError: an array is not of floating point, or `power` is no number.
        ValueError: shapes do not fit, an axis is empty, `power` is negative or not finite, `silence` is
            outside [0, 1), or the columns of `basis` are not orthonormal to 1e-3 (checked where its values
            are known, that is, not while it is traced).
    """
    response, jacobian = jnp.asarray(response), jnp.asarray(jacobian)
    _check_linearization(response, jacobian)
    check_power(power)
    check_silence(silence)
    dtype = jnp.promote_types(jnp.result_type(response, jacobian), jnp.float32)
    if basis is not None:
        check_basis(basis, response.shape[-1])
        basis = jnp.asarray(basis, dtype)
    return _invert_batch(response.astype(dtype), jacobian.astype(dtype), power, basis, silence)


def invert_at(
    f: Response,
    parameters: Float[Array, "..."],
    *,
    power: ScalarLike = 2.0,
    basis: Float[ArrayLike, "n q"] | None = None,
    silence: float = 0.0,
    chunk: int | None = None,
) -> Inversion:
    """Invert one realization: `linearize`, then `invert`.

    Args:
        f: response function, p of any shape to r of shape (n,).
        parameters: p, of any shape.
        power: k ≥ 0 of the cosine term.
        basis: orthonormal basis of the critical space, shape (n, q); Rⁿ if None.
        silence: see `invert`.
        chunk: how many of the n backward passes run at once, all of them if None.

    Returns:
        The `Inversion`, without batch axes.

    Raises:
        TypeError: as `linearize` and `invert`.
        ValueError: as `linearize` and `invert`, before f is evaluated.
    """
    check_power(power)
    check_silence(silence)
    if basis is not None:
        check_basis(basis, feature_count(f, parameters))
    response, jacobian = linearize(f, parameters, chunk=chunk)
    return invert(response, jacobian, power=power, basis=basis, silence=silence)


def invert_batch(
    f: Response,
    parameters: Float[Array | np.ndarray, "batch *p"],
    *,
    power: float = 2.0,
    basis: Float[ArrayLike, "n q"] | None = None,
    silence: float = 0.0,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
    description: str = "invert",
) -> Inversion:
    """Invert many realizations, one a device at a time: no Jacobian outlives its inversion.

    Compiled once for each f, shape and set of options, so pass the same function object again.

    Args:
        f: response function of one sample, p of any shape to r of shape (n,).
        parameters: p of each sample, along the first axis.
        power: k ≥ 0 of the cosine term.
        basis: orthonormal basis of the critical space, shape (n, q); Rⁿ if None.
        silence: see `invert`.
        chunk: see `linearize`.
        mesh: devices that share the batch, see `sample_mesh`; None for the default one.
        progress: whether to show progress on standard error.
        description: name of the stage in the progress.

    Returns:
        The `Inversion`, in the order of the samples, its arrays NumPy's.

    Raises:
        TypeError: as `linearize` and `invert`.
        ValueError: as `linearize` and `invert`, or there are no samples; before f is evaluated.
    """
    shape, dtype = jnp.shape(parameters), jnp.result_type(parameters)
    if not shape or not shape[0]:
        raise ValueError(f"parameters must hold at least one sample on the first axis, got shape {shape}")
    check_power(power)
    check_silence(silence)
    features = feature_count(f, jax.ShapeDtypeStruct(shape[1:], dtype))
    if basis is not None:
        check_basis(basis, features)
    options = {"power": float(power), "silence": float(silence), "chunk": chunk, "mesh": mesh}
    inversions = []
    with bar(description, shape[0], progress) as advance:
        for inversion in in_turn(partial(_compiled(mesh), f, basis, **options), mesh, parameters):
            inversions.append(inversion)
            advance()
    return jax.tree.map(lambda *each: np.stack(each), *inversions)


def check_basis(basis: ArrayLike, features: int) -> None:
    """Raise unless `basis` is (n, q) with n = `features`, 1 ≤ q ≤ n and columns orthonormal to 1e-3.

    Raises:
        ValueError: the shape is another, or the columns are not finite and orthonormal (not checked while
            tracing).
    """
    shape = jnp.shape(basis)
    if len(shape) != 2 or shape[0] != features:
        raise ValueError(f"basis must have shape (n, q) with n = {features} features, got {shape}")
    if shape[1] == 0:
        raise ValueError("basis has no columns: V of dimension 0 leaves no objective to look for")
    if shape[1] > features:
        raise ValueError(f"basis has more columns than rows, {shape}: its columns cannot be orthonormal")
    if concrete(basis):
        columns = np.asarray(basis, np.float64)
        error = np.max(np.abs(columns.T @ columns - np.eye(shape[1])))
        if not error <= 1e-3:  # `not <=`, so that NaN is an error as well
            raise ValueError(f"basis must have orthonormal columns: QᵀQ differs from the identity by {error:.3g}")


def triangle(matrix: Float[Array, "n m"]) -> Float[Array, "k n"]:
    """The triangle T in Mᵀ = U T, UᵀU = I, k = min(n, m). Its right-singular vectors are M's left ones."""
    # QR works on a copy. Blocks of the matrix keep that small and in the cache; an accelerator would only wait for
    # one after the other.
    return lax.platform_dependent(matrix, cpu=_triangle_by_blocks, default=_triangle_at_once)


def check_silence(silence: float) -> None:
    """Raise unless `silence` is in [0, 1), see `invert`."""
    check_nonnegative("silence", silence)
    if silence >= 1:
        raise ValueError(f"silence must be below 1, or every feature were silent; got {silence}")


def _triangle_at_once(matrix: Float[Array, "n m"]) -> Float[Array, "k n"]:
    return jnp.linalg.qr(matrix.T, mode="r")


def _triangle_by_blocks(matrix: Float[Array, "n m"]) -> Float[Array, "k n"]:
    """The triangle of the triangles of blocks of columns (TSQR)."""
    features, columns = matrix.shape
    width = max(16 * features, 2048)  # 16: the triangles to be done again are so many times smaller than the matrix
    blocks = columns // width
    if blocks < 2:
        return _triangle_at_once(matrix)
    start = columns - (blocks - 1) * width  # the first block takes the remainder as well

    def one(index: Int[Array, ""]) -> Float[Array, "n n"]:
        return _triangle_at_once(lax.dynamic_slice_in_dim(matrix, start + index * width, width, axis=1))

    # All of them first, and not each below the triangle so far, which would be rounded again with every block.
    others = lax.map(one, jnp.arange(blocks - 1)).reshape(-1, features)
    return jnp.linalg.qr(jnp.concatenate([_triangle_at_once(matrix[:, :start]), others]), mode="r")


def _check_linearization(response: Array, jacobian: Array) -> None:
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


@cache
def _compiled(mesh: Mesh | None) -> Callable:
    fixed = ("f", "power", "silence", "chunk", "mesh")
    return jax.jit(_invert_rows, static_argnames=fixed, compiler_options=compiler_options(mesh))


def _invert_rows(
    f: Response,
    basis: Float[Array, "n q"] | None,
    parameters: Float[Array, "devices *p"],
    *,
    mesh: Mesh | None,
    **options: Any,
) -> Inversion:
    """Inversions of as many realizations as there are devices."""

    def one(alone: Float[Array, "1 *p"]) -> Inversion:
        return jax.tree.map(lambda leaf: leaf[None], invert_at(f, alone[0], basis=basis, **options))

    return over_samples(one, mesh)(parameters)


@jax.jit
def _invert_batch(
    response: Float[Array, "*batch n"],
    jacobian: Float[Array, "*batch n m"],
    power: ScalarLike,
    basis: Float[Array, "n q"] | None,
    silence: ScalarLike,
) -> Inversion:
    *batch, features, columns = jacobian.shape
    samples = response.reshape(-1, features), jacobian.reshape(-1, features, columns)
    # Full float32 products: TF32, a GPU's default, has three digits, and the answer lies below them.
    with jax.default_matmul_precision("highest"):
        inversion = _solve(*samples, power, basis, silence)
    return jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), inversion)


def _solve(
    response: Float[Array, "b n"],
    jacobian: Float[Array, "b n m"],
    power: ScalarLike,
    basis: Float[Array, "n q"] | None,
    silence: ScalarLike,
) -> Inversion:
    factor = jax.vmap(triangle)(jacobian)
    # The columns of T are as long as the rows of J. Lengths in units of the largest entry, so that their
    # squares neither over- nor underflow.
    silent = (response == 0) & jnp.all(factor == 0, axis=1)
    peak = jnp.max(jnp.abs(factor), axis=(1, 2), keepdims=True)
    lengths = jnp.linalg.norm(factor / jnp.where(peak > 0, peak, 1), axis=1)
    silent |= (lengths <= silence * jnp.max(lengths, axis=1, keepdims=True)) & (jnp.asarray(silence) > 0)
    finite = jnp.all(jnp.isfinite(response), axis=1, keepdims=True)
    response = jnp.where(finite, response, 0)

    # Mᵀ = Jᵀ B R = U T B R. `stiff` marks the columns of R that the constraint v = 0 on silent features takes out.
    if basis is None:
        search, stiff = _for_each(jnp.eye(response.shape[1], dtype=response.dtype), response), silent
    else:
        search, _ = jnp.linalg.qr(gradient_solve(response, _for_each(basis, response), power=power))
        search, stiff = _split_silent(search, silent)
    reduced = jnp.where(stiff[:, None], 0, factor @ gradient_product(response, search, power=power))

    # QR carries any NaN of J into the triangle. An SVD must not see it: not every LAPACK returns from that.
    finite &= jnp.all(jnp.isfinite(reduced), axis=(1, 2))[:, None]
    reduced = jnp.where(finite[..., None], reduced, 0)

    values, vectors = _left_singular(reduced, stiff)
    known = finite & ~jnp.all(stiff, axis=1, keepdims=True)
    vectors = search @ vectors

    objective = jnp.where(silent, 0, vectors[..., -1])
    objective = objective / jnp.linalg.norm(objective, axis=1, keepdims=True)
    opposed = jnp.sum(response * objective, axis=1, keepdims=True) < 0
    objective = jnp.where(opposed, -objective, objective)
    return Inversion(
        objective=jnp.where(known, objective, jnp.nan),
        singular_values=jnp.where(finite, values, jnp.nan),
        singular_vectors=jnp.where(finite[..., None], vectors, jnp.nan),
        gap=jnp.where(known[:, 0], _gap(values), 0),
        silent=silent,
    )


def _for_each(matrix: Float[Array, "n q"], samples: Float[Array, "b n"]) -> Float[Array, "b n q"]:
    return jnp.broadcast_to(matrix, (len(samples), *matrix.shape))


def _split_silent(
    search: Float[Array, "b n q"], silent: Bool[Array, "b n"]
) -> tuple[Float[Array, "b n q"], Bool[Array, "b q"]]:
    """Rotate the basis R so that each column either has v = 0 on the silent features or is marked as stiff.

    The right-singular vectors of the silent rows of R do that: singular value 0 means no silent part. A
    silent feature that is also dead in every sample lies in the complement of V, up to the rounding errors of
    V; the tolerance keeps these from taking out a direction of V that has nothing to do with it.
    """
    sizes, rotation = _right_singular(jnp.where(silent[..., None], search, 0))
    return search @ rotation.mT, sizes > jnp.sqrt(jnp.finfo(search.dtype).eps)


def _left_singular(
    reduced: Float[Array, "b k q"], stiff: Bool[Array, "b q"]
) -> tuple[Float[Array, "b q"], Float[Array, "b q q"]]:
    """Singular values and left-singular vectors of M from UᵀMᵀ, the stiff directions first, with value inf.

    M has zero rows in stiff directions, which would make them the softest. Under jit their number is unknown
    and they cannot be cut out. Instead each gets a column of its own in M (a row here), longer than any
    singular value of M; being orthogonal to everything else it changes nothing else. The scaling avoids
    overflow in the norm.
    """
    peak = jnp.max(jnp.abs(reduced), axis=(1, 2), keepdims=True)
    peak = jnp.where(peak > 0, peak, 1)
    reduced = reduced / peak
    # The factor 2 keeps it apart from σ₁ where M has rank one and σ₁ is the norm; the 1 is for M = 0.
    stiffness = jnp.maximum(2 * jnp.linalg.norm(reduced, axis=(1, 2), keepdims=True), 1)
    columns = stiffness * (stiff[..., None] * jnp.eye(stiff.shape[1], dtype=reduced.dtype))
    stacked = jnp.concatenate([reduced, columns], axis=1)
    # QR first: otherwise the SVD computes a large factor on the other side, which nobody asks for.
    values, rows = _right_singular(jnp.linalg.qr(stacked, mode="r"))
    taken_out = jnp.arange(stiff.shape[1]) < jnp.sum(stiff, axis=1, keepdims=True)
    return jnp.where(taken_out, jnp.inf, values * peak[..., 0]), rows.mT


def _right_singular(matrix: Float[Array, "b k q"]) -> tuple[Float[Array, "b l"], Float[Array, "b l q"]]:
    """Singular values, l = min(k, q), and the rows Vᵀ of a batch of finite matrices.

    Divide and conquer, LAPACK's fast way, at times does not converge in float32, mostly where singular values
    lie close together. It depends on rounding, even on the number of threads (OpenBLAS issue 3044), and leaves
    NaN. QR iteration converges, but takes four times as long at n = 342 and twenty times at n = 1024. So it has
    its turn only if the other fails (under `vmap`, where there is no branching, always: `invert` takes batches).
    """
    _, values, rows = jnp.linalg.svd(matrix, full_matrices=False)

    def again() -> tuple[Array, Array]:
        algorithm = lax.linalg.SvdAlgorithm.QR
        _, values, rows = lax.linalg.svd(matrix, full_matrices=False, algorithm=algorithm)
        return values, rows

    return lax.cond(jnp.all(jnp.isfinite(values)), lambda: (values, rows), again)


def _gap(values: Float[Array, "b q"]) -> Float[Array, " b"]:
    if values.shape[1] == 1:
        return jnp.ones_like(values[:, 0])
    second, last = values[:, -2], values[:, -1]
    largest = jnp.max(jnp.where(jnp.isfinite(values), values, 0), axis=1)
    rounding = values.shape[1] * jnp.finfo(values.dtype).eps * largest
    relative = 1 - last / jnp.where(second > rounding, second, 1)
    # With one active direction `second` is inf, and the quotient 0.
    return jnp.where(second > rounding, relative, 0)
