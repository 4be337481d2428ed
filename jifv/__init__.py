"""Inverse feature visualization: from an input back to the objective it was optimized for.

The data's path is the table of contents: parametrize → (network) → aggregate → response → significance → sample →
visualize → jacobian → invert → critical → evaluate. The networks are in `jifv.models`.
"""

from jifv._core.devices import compiler_options, sample_mesh
from jifv.aggregate import Aggregation, first, identity, max_mean, mean, pick
from jifv.critical import CriticalSpace, SingularPairs, critical_space, critical_spaces, merge, singular_pairs
from jifv.evaluate import (
    Choice,
    angle,
    angle_on,
    beta,
    beta_profile,
    choose_space,
    reoptimize,
    ssim,
)
from jifv.inversion import Inversion, invert, invert_at, invert_batch
from jifv.jacobian import Linearization, linearize, linearize_batch
from jifv.objectives import canonical_objectives, project, sparse_objectives, sparseness
from jifv.parametrize import Parametrization, fourier, geometry, pixels
from jifv.response import Response, compose, feature_count
from jifv.significance import cosine, gradient_matrix, gradient_product, gradient_solve, significance
from jifv.visualization import (
    Settings,
    State,
    Visualization,
    advance,
    finish,
    finished,
    load_state,
    save_state,
    start,
    visualize,
)

__all__ = [
    "Aggregation",
    "Choice",
    "CriticalSpace",
    "Inversion",
    "Linearization",
    "Parametrization",
    "Response",
    "Settings",
    "SingularPairs",
    "State",
    "Visualization",
    "advance",
    "angle",
    "angle_on",
    "beta",
    "beta_profile",
    "canonical_objectives",
    "choose_space",
    "compiler_options",
    "compose",
    "cosine",
    "critical_space",
    "critical_spaces",
    "feature_count",
    "finish",
    "finished",
    "first",
    "fourier",
    "geometry",
    "gradient_matrix",
    "gradient_product",
    "gradient_solve",
    "identity",
    "invert",
    "invert_at",
    "invert_batch",
    "linearize",
    "linearize_batch",
    "load_state",
    "max_mean",
    "mean",
    "merge",
    "pick",
    "pixels",
    "project",
    "reoptimize",
    "sample_mesh",
    "save_state",
    "significance",
    "singular_pairs",
    "sparse_objectives",
    "sparseness",
    "ssim",
    "start",
    "visualize",
]
