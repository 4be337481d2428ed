"""Cases of tests/test_conformance.py: what to call a function with, and what it refuses. The table is beside it.

A case has one sample's arguments; three of them make a batch. What a function refuses is said for each of four kinds of
bad input, "shape", "dtype", "nan" and "empty": the arguments that are wrong and the error, or what becomes of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jifv

KINDS = ("shape", "dtype", "nan", "empty")
TWO = jifv.Significance(2)


@dataclass(frozen=True)
class Refused:
    """Arguments, or a call, that raise an error whose message begins with the name of what is wrong."""

    arguments: tuple | Callable
    error: type[Exception]
    message: str


@dataclass(frozen=True)
class Passed:
    """Arguments that are no error, a condition that the result meets, and why it is so."""

    arguments: tuple
    holds: Callable[[Any], bool]
    why: str


@dataclass(frozen=True)
class Case:
    """How to call a public function.

    Attributes:
        call: The function, of arrays alone.
        draw: From NumPy's generator, arguments of one sample, in float64.
        bad: For each of `KINDS`, a `Refused`, a `Passed`, or a reason why there is no such thing.
        jit: Whether it can be compiled and mapped: not what runs in NumPy, or compiles by itself.
        grad: Arguments to differentiate by.
        tolerance: Of float32, relative to the largest entry.
        keeps: Whether the result has the precision of the arguments: float64 for what is documented to run in NumPy.
        compare: What to compare of a result, as signs of singular vectors are free.
    """

    call: Callable
    draw: Callable[[np.random.Generator], tuple]
    bad: dict[str, Refused | Passed | str]
    jit: bool = True
    grad: tuple[int, ...] = (0,)
    tolerance: float = 1e-4
    keeps: bool = True
    compare: Callable[[Any], Any] = lambda result: result


def normal(*shapes):
    return lambda rng: tuple(rng.normal(size=shape) for shape in shapes)


def uniform(*shapes):
    return lambda rng: tuple(rng.uniform(0.2, 1, size=shape) for shape in shapes)


def is_nan(result):
    return bool(np.isnan(np.asarray(result, float)).all())


def is_empty(result):
    return all(0 in leaf.shape for leaf in jax.tree.leaves(result))


def same_nan(argument):
    """NaN in, NaN out: inside a network nobody can raise, and `visualize` sees it."""
    return Passed((argument,), lambda result: bool(np.isnan(result).any()), "inside a network nobody can raise")


PER_SAMPLE = "takes one sample, so there is no batch that could be empty"
THEIRS = "is said by the function that was given"
COMPLEX, WHOLE = np.ones(3) * 1j, np.ones(3, int)
NAN = np.full(3, np.nan)


def aggregation(call, shape=(5, 6, 4), grad=(0,)):
    return Case(
        call,
        normal(shape),
        {
            "shape": Refused((np.ones((2, *shape)),), ValueError, r"activations must have shape \(.*n,?\), got"),
            "dtype": Refused((np.ones(shape, int),), TypeError, "activations must hold real floating-point numbers"),
            "nan": same_nan(np.full(shape, np.nan)),
            "empty": Refused((np.ones((0, *shape[1:])),), ValueError, r"activations must have shape \(.*n,?\), got"),
        },
        grad=grad,
    )


def parametrization(phi, shape, name, values=uniform):
    """Both directions of φ."""
    p = np.shape(jax.eval_shape(phi.init, jax.random.key(0)))
    forward = {
        "shape": Refused((np.ones((2, *p)),), ValueError, "parameters must have shape"),
        "dtype": Refused((np.ones(p, int),), TypeError, "parameters must hold real floating-point numbers, got int"),
        "nan": same_nan(np.full(p, np.nan)),
        "empty": Refused((np.ones((0, *p)),), ValueError, "parameters must have shape"),
    }
    nan = "must be finite" if name == "frame" else r"must have values in \[0, 1\]"
    backward = {
        "shape": Refused((np.ones((2, *shape)),), ValueError, f"{name} must have shape"),
        "dtype": Refused((np.ones(shape, int),), TypeError, f"{name} must hold"),
        "nan": Refused((np.full(shape, np.nan),), ValueError, f"{name} {nan}, got"),
        "empty": Refused((np.ones((0, *shape)),), ValueError, f"{name} must have shape"),
    }
    return Case(phi.apply, normal(p), forward), Case(phi.invert, values(shape), backward)


def frames(shape):
    """A mask, unit normals that face the viewer, a depth."""

    def draw(rng):
        x = rng.uniform(0.2, 0.9, size=shape)
        x[..., 1:4] /= np.linalg.norm(x[..., 1:4], axis=-1, keepdims=True)
        return (x,)

    return draw


def pair(call, first, second, *, nan, empty=None, grad=(0, 1)):
    """Two arguments, (3,) each, that share their last axis."""
    dtype = Refused((COMPLEX, np.ones(3)), TypeError, f"{first} must ")
    shape = Refused((np.ones(3), np.ones(2)), ValueError, f"({first} and )?{second} must ")
    empty = empty or Passed((np.ones((0, 3)), np.ones((0, 3))), is_empty, "a batch of no samples has no results")
    return Case(call, normal((3,), (3,)), {"shape": shape, "dtype": dtype, "nan": nan, "empty": empty}, grad=grad)


NAN_OBJECTIVE = Refused((np.ones(3), NAN), ValueError, "objectives must be finite")
GRADIENT_NAN = Passed((NAN, np.ones(3)), is_nan, "differentiated through; invert gives NaN to the sample")


# Responses with the arguments of one sample: p of shape (4,), r of shape (3,).

WEIGHTS = np.random.default_rng(0).normal(size=(3, 4))


def respond(p):
    return 2 + jnp.tanh(jnp.asarray(WEIGHTS, p.dtype) @ p)


FEW = jifv.Settings(adam_steps=2, lbfgs_steps=1)


def optimizer(call):
    """Of a batch of parameters and objectives; compiles by itself."""
    good_p, good_v = np.ones((2, 4)), np.ones((2, 3))
    return Case(
        call,
        uniform((2, 4), (2, 3)),
        {
            "shape": Refused((good_p, np.ones((3, 3))), ValueError, r"objectives must have shape \(2, 3\)"),
            "dtype": Refused((np.ones((2, 4), int), good_v), TypeError, "parameters must be an array of floats"),
            "nan": Refused((good_p * np.nan, good_v), ValueError, "parameters must be finite"),
            "empty": Refused((good_p[:0], good_v[:0]), ValueError, "parameters must hold at least one sample"),
        },
        jit=False,
        grad=(),
        tolerance=1e-3,
    )


# The inverse problem, n = 3 and m = 5; signs of singular vectors are free.

GOOD_R, GOOD_J = np.ones(3), np.arange(15.0).reshape(3, 5) ** 0.5


def unsigned(inversion):
    return inversion._replace(singular_vectors=jnp.abs(inversion.singular_vectors))


def linearized(call, *more, jit=True):
    """Of a response and a Jacobian, and more."""
    return Case(
        call,
        lambda rng: (rng.uniform(0.5, 1, 3), rng.normal(size=(3, 5)), *(rng.uniform(0.2, 1, 3) for _ in more)),
        {
            "shape": Refused((np.ones(4), GOOD_J, *more), ValueError, "jacobian must have the shape of response"),
            "dtype": Refused((WHOLE, GOOD_J, *more), TypeError, "response must be of floating point"),
            "nan": Passed(
                (NAN, GOOD_J, *more),
                lambda result: is_nan(getattr(result, "objective", result)),
                "of a batch, only that sample is not known",
            ),
            "empty": Refused(
                (np.ones((0, 3)), np.ones((0, 3, 5)), *(np.ones((0, 3)) for _ in more)), ValueError, "jac"
            ),
        },
        jit=jit,
        grad=(),
        tolerance=1e-3,
        compare=lambda result: unsigned(result) if isinstance(result, jifv.Inversion) else result,
    )


def of_parameters(call, size=(4,), **bad):
    """Of p alone, through a response."""
    options = {name: bad.pop(name) for name in ("jit", "grad", "compare") if name in bad}
    kinds = {
        "shape": THEIRS,
        "dtype": Refused((np.ones(size, int),), TypeError, "parameters must be an array of floats"),
        "nan": Passed(
            (np.full(size, np.nan),), lambda r: is_nan(jax.tree.leaves(r)[0]), "of a batch, only that sample"
        ),
        "empty": PER_SAMPLE,
    }
    return Case(call, normal(size), kinds | bad, tolerance=1e-3, **options)


def jacobians(call):
    """Of several Jacobians, in NumPy."""
    good = np.random.default_rng(0).normal(size=(2, 3, 5))
    return Case(
        call,
        normal((2, 3, 5)),
        {
            "shape": Refused((good[0],), ValueError, r"jacobians must have shape \(s, n, m\)"),
            "dtype": Refused((np.ones((2, 3, 5), int),), TypeError, "jacobians must hold real floating-point numbers"),
            "nan": Refused((good * np.nan,), ValueError, "jacobians must be finite"),
            "empty": Refused((good[:0],), ValueError, r"jacobians must have shape \(s, n, m\)"),
        },
        jit=False,
        grad=(),
        keeps=False,
    )


def shares(call):
    """Of singular vectors and objectives."""
    good = np.ones((3, 2)), np.ones(3)
    return Case(
        call,
        normal((3, 2), (3,)),
        {
            "shape": Refused((good[0], np.ones(2)), ValueError, "objectives must have the shape of singular_vectors"),
            "dtype": Refused((good[0] * 1j, good[1]), TypeError, "singular_vectors must be real"),
            "nan": Passed((good[0], NAN), is_nan, "documented: where there is none"),
            "empty": Passed(
                (np.ones((0, 3, 2)), np.ones((0, 3))), lambda r: is_empty(r) or is_nan(r), "as the mean of nothing"
            ),
        },
        grad=(0, 1),
    )
