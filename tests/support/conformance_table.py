"""The table of tests/test_conformance.py: every public function, and some of the modules."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from support.conformance import (
    FEW,
    GRADIENT_NAN,
    NAN,
    NAN_OBJECTIVE,
    THEIRS,
    TWO,
    Case,
    Passed,
    Refused,
    aggregation,
    frames,
    is_empty,
    is_nan,
    jacobians,
    linearized,
    normal,
    of_parameters,
    optimizer,
    pair,
    parametrization,
    respond,
    shares,
    uniform,
    unsigned,
)

import jifv
from jifv import critical, evaluate, maco, objectives, significance
from jifv.jacobian import linearize_batch

WHOLE = np.ones(3, int)
SPACES = [np.eye(3)[:, :2], np.eye(3)]


def choose(predictions, targets):
    return tuple(jifv.choose_space(SPACES, [predictions, predictions], targets))


def images(*batch):
    return np.ones((*batch, 12, 11, 2)), np.ones((*batch, 12, 11, 2))


KEY = jax.random.key(0)
MACO = maco.maco((4, 3, 3))


def by_phases():
    """Both directions of MaCo, whose phases are compared as the images that they make."""
    forward, backward = parametrization(MACO, (4, 3, 3), "image")
    return forward, replace(backward, compare=MACO.apply)


PHIS = {
    "pixels": parametrization(jifv.pixels((4, 3, 3), decorrelate_colors=True), (4, 3, 3), "image"),
    "fourier": parametrization(jifv.fourier((4, 3, 2), decay=1.0), (4, 3, 2), "image"),
    "maco.maco": by_phases(),
    "geometry": parametrization(jifv.geometry((4, 3), mask="continuous"), (4, 3, 5), "frame", frames),
}
SMOOTH_ON = np.random.default_rng(0).normal(size=(3, 4))


@cache
def smoothed():
    # Not when the table is imported, and not as a part of what is compiled.
    with jax.ensure_compile_time_eval():
        return jifv.smooth(lambda x: jnp.maximum(respond(x), 2.1), SMOOTH_ON.astype(np.float32))


WITHOUT_ARRAYS = {"from_torch", "sample_mesh", "compiler_options"}
CASES: dict[str, Case] = {
    "compress": Case(
        jifv.compress,
        normal((3, 5)),
        {
            "shape": Refused((np.ones(3),), ValueError, "jacobian must have shape"),
            "dtype": Refused((np.ones((3, 5), int),), TypeError, "jacobian must hold real floating-point numbers"),
            "nan": Passed(
                (np.full((3, 5), np.nan),),
                lambda r: np.isnan(r).any(),
                "as the Jacobian: only that sample is not known",
            ),
            "empty": Refused((np.ones((0, 3, 5)),), ValueError, "jacobian must have shape .* no empty axis"),
        },
        tolerance=1e-3,
    ),
    "first": aggregation(jifv.first(2, jifv.mean)),
    "identity": aggregation(jifv.identity, (4,)),
    "max_mean": aggregation(jifv.max_mean()),
    "mean": aggregation(jifv.mean),
    "pick": aggregation(jifv.pick),
    "compose": of_parameters(jifv.compose(lambda p: p, respond, lambda a: a), dtype=THEIRS),
    "smooth": of_parameters(
        lambda x: smoothed()(x),
        dtype=Refused(lambda: jifv.smooth(respond, np.ones((2, 4), int)), TypeError, "inputs must "),
        shape=Refused(lambda: jifv.smooth(respond, (4, 4)), ValueError, "inputs must "),
        nan=Refused(lambda: jifv.smooth(respond, SMOOTH_ON * np.nan), ValueError, "inputs must be finite"),
        empty=Refused(lambda: jifv.smooth(respond, SMOOTH_ON[:0]), ValueError, "inputs must "),
    ),
    "linearize": of_parameters(lambda p: tuple(jifv.linearize(respond, p))),
    "jacobian.linearize_batch": of_parameters(
        lambda p: tuple(linearize_batch(respond, p)),
        (2, 4),
        shape=Refused((np.ones(()),), ValueError, "parameters must have a leading batch axis"),
        empty=Passed((np.ones((0, 4)),), is_empty, "a batch of no samples has no results"),
    ),
    "invert_at": of_parameters(lambda p: jifv.invert_at(respond, p, significance=TWO), grad=(), compare=unsigned),
    "invert_batch": of_parameters(
        lambda p: jifv.invert_batch(respond, p, significance=TWO),
        (2, 4),
        shape=Refused((np.ones(()),), ValueError, "realizations must hold at least one sample"),
        empty=Refused((np.ones((0, 4)),), ValueError, "realizations must hold at least one sample"),
        jit=False,
        grad=(),
        compare=unsigned,
    ),
    "invert": linearized(lambda r, j: jifv.invert(r, j, significance=TWO)),
    "stationarity": linearized(lambda r, j, v: jifv.stationarity(r, j, v, significance=TWO), np.ones(3)),
    "Significance": pair(TWO, "r", "objectives", nan=NAN_OBJECTIVE),
    "Significance.gradient_product": pair(TWO.gradient_product, "r", "x", nan=GRADIENT_NAN),
    "Significance.gradient_solve": pair(TWO.gradient_solve, "r", "x", nan=GRADIENT_NAN),
    "Significance.gradient_matrix": Case(
        TWO.gradient_matrix,
        normal((3,)),
        {
            "shape": Refused((np.ones(()),), ValueError, "r must have a last axis of at least one feature"),
            "dtype": Refused((WHOLE,), TypeError, "r must hold real floating-point numbers"),
            "nan": Passed((NAN,), is_nan, "differentiated through; invert gives NaN to the sample"),
            "empty": Passed((np.ones((0, 3)),), is_empty, "a batch of no samples has no results"),
        },
    ),
    "significance.cosine": pair(significance.cosine, "r", "v", nan=GRADIENT_NAN),
    "angle": pair(jifv.angle, "a", "b", nan=Passed((NAN, np.ones(3)), is_nan, "documented: there is none")),
    "beta_profile": shares(jifv.beta_profile),
    "evaluate.beta": shares(evaluate.beta),
    "ssim": Case(
        jifv.ssim,
        uniform((12, 11, 2), (12, 11, 2)),
        {
            "shape": Refused((images()[0], images(1)[0]), ValueError, "x and y must share one shape"),
            "dtype": Refused((images()[0], images()[1].astype(np.uint8)), TypeError, "y must hold real floating-point"),
            "nan": Passed((images()[0], images()[1] * np.nan), is_nan, "of a batch, only that image"),
            "empty": Passed(images(0), is_empty, "a batch of no samples has no results"),
        },
        grad=(0, 1),
    ),
    "choose_space": Case(
        choose,
        uniform((4, 3), (4, 3)),
        {
            "shape": Refused((np.ones((3, 3)), np.ones((4, 3))), ValueError, "basis and predictions 0 must"),
            "dtype": Refused((np.ones((4, 3)) * 1j, np.ones((4, 3))), TypeError, "predictions must be real"),
            "nan": Passed((np.full((4, 3), np.nan), np.eye(4)[:, :3] + 1), lambda r: (r[1] == 180).all(), "documented"),
            "empty": Refused((np.ones((0, 3)), np.ones((0, 3))), ValueError, "objectives must have shape .* 2 samples"),
        },
        jit=False,
        grad=(),
        keeps=False,
    ),
    "visualize": optimizer(lambda p, v: jifv.visualize(respond, p, v, settings=FEW)),
    "reoptimize": optimizer(lambda p, v: jifv.reoptimize(respond, p, v, significance=TWO, steps=2)),
    "critical_space": jacobians(lambda j: tuple(jifv.critical_space(j, threshold=0.5))[:2]),
    "critical_spaces": jacobians(
        lambda j: [space.cokernel @ space.cokernel.T for space in jifv.critical_spaces(j, smallest_gap=0)]
    ),
    "critical.singular_pairs": jacobians(lambda j: np.abs(critical.singular_pairs(j).vectors)),
    "sparse_objectives": Case(
        lambda x: jifv.sparse_objectives(KEY, 2, 3, dtype=x.dtype) * x[0],
        normal((3,)),
        {
            "shape": Refused(lambda: jifv.sparse_objectives(KEY, 2, 0), ValueError, "features must be at least 1"),
            "dtype": Refused(lambda: jifv.sparse_objectives(KEY, 2.0, 3), TypeError, "count must be a positive int"),
            "nan": "takes no floats",
            "empty": Refused(lambda: jifv.sparse_objectives(KEY, 0, 3), ValueError, "count must be at least 1"),
        },
        compare=lambda rows: jnp.linalg.norm(rows, axis=-1),  # another type draws other numbers
    ),
    "canonical_objectives": Case(
        lambda x: jifv.canonical_objectives(np.array([2, 0]), 3, dtype=x.dtype) * x,
        normal((3,)),
        {
            "shape": Refused(
                lambda: jifv.canonical_objectives(np.array([[0]]), 3), ValueError, "indices must be a vector"
            ),
            "dtype": Refused(lambda: jifv.canonical_objectives(np.ones(1), 3), TypeError, "indices must be integers"),
            "nan": "takes no floats",
            "empty": "a batch of no objectives",
        },
    ),
    "objectives.project": Case(
        lambda v: objectives.project(v, 0.5),
        normal((6,)),
        {
            "shape": Refused((np.ones(()),), ValueError, "v must have a last axis"),
            "dtype": Refused((np.ones(3, int),), TypeError, "v must hold real floating-point numbers"),
            "nan": Refused((NAN,), ValueError, "v must be finite"),
            "empty": Passed((np.ones((0, 3)),), is_empty, "a batch of no samples has no results"),
        },
    ),
    "objectives.sparseness": Case(
        objectives.sparseness,
        normal((6,)),
        {
            "shape": Refused((np.ones(()),), ValueError, "v must have a last axis"),
            "dtype": Refused((np.ones(3, int),), TypeError, "v must hold real floating-point numbers"),
            "nan": Passed((NAN,), is_nan, "as for the zero vector: there is none"),
            "empty": Passed((np.ones((0, 3)),), is_empty, "a batch of no samples has no results"),
        },
    ),
}
for name, (apply, invert) in PHIS.items():
    CASES |= {f"{name}.apply": apply, f"{name}.invert": invert}
