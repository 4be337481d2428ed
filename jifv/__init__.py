"""Inverse feature visualization: from an input back to the objective it was optimized for.

The data's path is the table of contents: parametrize → network → aggregate → response → significance → objectives →
smoothing → visualization → jacobian → inversion → critical → evaluate. Each step is a module of that name, with more
than what is here; networks with weights are in `jifv.models`.
"""

from jifv._core.devices import sample_mesh
from jifv._core.tuning import compiler_options
from jifv.aggregate import first, identity, max_mean, mean, pick
from jifv.critical import CriticalSpace, critical_space, critical_spaces
from jifv.evaluate import angle, beta_profile, choose_space, reoptimize, ssim
from jifv.inversion import Inversion, invert, invert_at, invert_batch, stationarity
from jifv.jacobian import compress, linearize
from jifv.network import from_torch
from jifv.objectives import canonical_objectives, sparse_objectives
from jifv.parametrize import Parametrization, fourier, geometry, pixels
from jifv.response import compose
from jifv.significance import Significance
from jifv.smoothing import smooth
from jifv.visualization import Settings, Visualization, visualize

__all__ = [
    "CriticalSpace",
    "Inversion",
    "Parametrization",
    "Settings",
    "Significance",
    "Visualization",
    "angle",
    "beta_profile",
    "canonical_objectives",
    "choose_space",
    "compiler_options",
    "compose",
    "compress",
    "critical_space",
    "critical_spaces",
    "first",
    "fourier",
    "from_torch",
    "geometry",
    "identity",
    "invert",
    "invert_at",
    "invert_batch",
    "linearize",
    "max_mean",
    "mean",
    "pick",
    "pixels",
    "reoptimize",
    "sample_mesh",
    "smooth",
    "sparse_objectives",
    "ssim",
    "stationarity",
    "visualize",
]


def __getattr__(name: str) -> str:
    # Asked for seldom, and reading the metadata of a package takes milliseconds.
    if name == "__version__":
        from importlib.metadata import version

        return version("jifv")
    raise AttributeError(f"module 'jifv' has no attribute {name!r}")
