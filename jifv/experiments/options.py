"""The options of an experiment, each declared once.

`OPTIONS` is what the checks of `Experiment`, the command line, `summary.json`, the tables and `report.html` are made
from. To add an option, add a field to the class that owns it and its declaration here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from jifv._core.check import check_count, check_nonnegative
from jifv.experiments.registry import AGGREGATIONS, PARAMETRIZATIONS

Value: TypeAlias = int | float | str | None
"""What an option can be."""

_PRECISIONS = ("default", "high", "highest")
_LARGEST_SEED = 2**32 - 1  # JAX drops the bits beyond, and two seeds would give the same numbers


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of an experiment.

    Attributes:
        name: Name of the field, of the option on the command line, and of the entry in `summary.json`.
        type: What its values are, apart from None.
        label: Short name in tables and on the page.
        help: What it does, for the command line.
        owner: The field of `Experiment` whose object has the option; "experiment" for the experiment itself.
        least: Smallest value, None for any.
        most: Largest value, None for any.
        below: Bound that values must stay below, None for none.
        choices: The possible values, None for any.
        none: What None means; None where it is no value of the option.
        symbol: Its letter in the names of a study's cells, "" for none.
        on_command_line: Whether `jifv reproduce` offers it.
    """

    name: str
    type: type[int] | type[float] | type[str]
    label: str
    help: str
    owner: Literal["experiment", "settings", "significance"] = "experiment"
    least: float | int | None = None
    most: float | int | None = None
    below: float | int | None = None
    choices: Sequence[str] | None = None
    none: str | None = None
    symbol: str = ""
    on_command_line: bool = False

    def check(self, value: Any) -> None:
        """Raise unless `value` is one of this option.

        Raises:
            TypeError: `value` is of another type.
            ValueError: `value` is out of bounds, not finite, or none of the choices.
        """
        if value is None and self.none is not None:
            return
        if self.type is str:
            if not isinstance(value, str):
                raise TypeError(f"{self.name} must be a string, got {value!r}")
            if self.choices is not None and value not in self.choices:
                raise ValueError(f"{self.name} must be one of {', '.join(self.choices)}, got {value!r}")
            return
        if self.type is int:
            check_count(self.name, value)
        else:
            check_nonnegative(self.name, value)
        number: Any = value
        if self.least is not None and number < self.least:
            raise ValueError(f"{self.name} must be at least {self.least}, got {value}")
        if self.most is not None and number > self.most:
            raise ValueError(f"{self.name} must be at most {self.most}, got {value}")
        if self.below is not None and number >= self.below:
            raise ValueError(f"{self.name} must be below {self.below}, got {value}")

    def text(self, value: Value) -> str:
        """Write a value for a table or the page."""
        if value is None:
            return self.none or "–"
        if isinstance(value, float):
            return f"{value:g}"
        # Names from the registries are identifiers, and so would lines of a table break nowhere.
        return str(value).replace("_", " ") if self.choices is not None else str(value)


OPTIONS = (
    Option(
        name="name",
        type=str,
        label="experiment",
        help="Name of the experiment, and of its store.",
    ),
    Option(
        name="network",
        type=str,
        label="network",
        help="Another network by name, for example googlenet instead of googlenet-bvlc.",
        on_command_line=True,
    ),
    Option(
        name="layer",
        type=str,
        label="layer",
        help="The tapped layer.",
    ),
    Option(
        name="samples",
        type=int,
        label="samples",
        help="Number of objectives; the share of canonical ones stays.",
        least=2,
        on_command_line=True,
    ),
    Option(
        name="canonical",
        type=int,
        label="canonical samples",
        help="Number of objectives that are canonical vectors, but never more than there are features.",
        least=0,
    ),
    Option(
        name="features",
        type=int,
        label="features n",
        help="Number of channels to use, the first ones of the layer.",
        least=1,
        symbol="n",
        none="all",
    ),
    Option(
        name="aggregation",
        type=str,
        label="aggregation",
        help="Aggregation of the layer's positions.",
        choices=tuple(AGGREGATIONS),
    ),
    Option(
        name="parametrization",
        type=str,
        label="parametrization",
        help="Parametrization of the input.",
        choices=tuple(PARAMETRIZATIONS),
    ),
    Option(
        name="std",
        type=float,
        label="std of the start",
        help="Standard deviation of the initial parameters; 0.5 wakes most features.",
        least=0,
        on_command_line=True,
    ),
    Option(
        name="input_size",
        type=int,
        label="input size",
        help="Side of the network's input in pixels.",
        least=11,  # the window of SSIM
        none="the network's own",
        on_command_line=True,
    ),
    Option(
        name="smoothing",
        type=float,
        label="smoothing",
        help="Round the kinks of network and aggregation over this width, relative to their inputs; 0.1, say.",
        least=0,
        symbol="s",
        on_command_line=True,
    ),
    Option(
        name="dead_tolerance",
        type=float,
        label="dead tolerance",
        help="Length of a feature's row in the Jacobian, relative to the longest, below which it counts as dead.",
        least=0,
        below=1,
        on_command_line=True,
    ),
    Option(
        name="power",
        type=float,
        label="power k",
        help="Power k of the cosine, where the study has only one.",
        owner="significance",
        least=0,
        symbol="k",
        on_command_line=True,
    ),
    Option(
        name="floor",
        type=float,
        label="floor of the cosine",
        help="Least value of the cosine.",
        owner="significance",
        least=0,
        most=1,
        none="none",
    ),
    Option(
        name="adam_steps",
        type=int,
        label="Adam steps",
        help="Steps of Adam per sample.",
        owner="settings",
        least=0,
        on_command_line=True,
    ),
    Option(
        name="learning_rate",
        type=float,
        label="learning rate",
        help="Learning rate of Adam.",
        owner="settings",
        least=0,
    ),
    Option(
        name="anneal",
        type=float,
        label="anneal",
        help="Part of Adam's steps, at their end, over which its rate falls to 0.",
        owner="settings",
        least=0,
        most=1,
        on_command_line=True,
    ),
    Option(
        name="redirected_steps",
        type=int,
        label="redirected steps",
        help="First steps of Adam, in which redirected ReLUs wake dead features; Lucid takes 16.",
        owner="settings",
        least=0,
        on_command_line=True,
    ),
    Option(
        name="adam_precision",
        type=str,
        label="Adam precision",
        help="Precision of products before Adam anneals; default is TF32 on an NVIDIA GPU.",
        owner="settings",
        choices=_PRECISIONS,
        none="as precision",
        on_command_line=True,
    ),
    Option(
        name="lbfgs_steps",
        type=int,
        label="L-BFGS steps",
        help="Iterations of L-BFGS per sample, at most.",
        owner="settings",
        least=0,
        on_command_line=True,
    ),
    Option(
        name="history",
        type=int,
        label="L-BFGS history",
        help="Number of past steps that L-BFGS keeps.",
        owner="settings",
        least=1,
    ),
    Option(
        name="tolerance",
        type=float,
        label="tolerance",
        help="Relative size of the gradient at which a sample has converged.",
        owner="settings",
        least=0,
    ),
    Option(
        name="precision",
        type=str,
        label="precision",
        help="Precision of products.",
        owner="settings",
        choices=_PRECISIONS,
    ),
    Option(
        name="reoptimize_steps",
        type=int,
        label="re-optimization steps",
        help="Steps of Adam in re-optimization.",
        least=1,
        on_command_line=True,
    ),
    Option(
        name="critical_samples",
        type=int,
        label="samples for Algorithm 1",
        help="Number of samples from whose Jacobians critical spaces are found; 0 skips Algorithm 1.",
        least=0,
    ),
    Option(
        name="batch_size",
        type=int,
        label="batch size",
        help="Samples optimized and stored at a time, which bounds the memory.",
        least=1,
        on_command_line=True,
    ),
    Option(
        name="row_batch_size",
        type=int,
        label="row batch size",
        help="Backward passes of one Jacobian that run at a time.",
        least=1,
        none="chosen by jifv",
    ),
    Option(
        name="seed",
        type=int,
        label="seed",
        help="Seed of everything random: the same seed gives the same numbers.",
        least=0,
        most=_LARGEST_SEED,
        on_command_line=True,
    ),
)
"""Every option, in the order in which they are listed."""

BY_NAME = {option.name: option for option in OPTIONS}
"""The same by name."""
