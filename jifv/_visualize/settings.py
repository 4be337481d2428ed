"""Options of the optimizer."""

from dataclasses import dataclass
from typing import Any

from jifv._core.check import check_count, check_fraction, check_nonnegative, check_positive

PRECISIONS = ("default", "high", "highest")


def check_settings(settings: Any) -> None:
    """Raise unless `settings` are `Settings`.

    Raises:
        TypeError: They are something else, such as a dictionary.
    """
    if not isinstance(settings, Settings):
        raise TypeError(f"settings must be jifv.Settings, got {settings!r}")


@dataclass(frozen=True)
class Settings:
    """Options of the optimizer of `visualize`: Adam, then L-BFGS.

    By default there is Adam alone, with a large learning rate that falls for most of the time. With rounded kinks that
    takes the fewest gradients to a good prediction (benchmarks/gradients.py); L-BFGS after it shortens the gradient,
    and along soft directions leads away from the objective. `PAPER` has the paper's numbers of steps.

    Attributes:
        adam_steps: Steps of Adam.
        lbfgs_steps: Most iterations of L-BFGS after it. A sample stops earlier when it has converged, and when its
            line searches have taken 1.5 gradients for each of these iterations and ten more.
        learning_rate: Of Adam, in units of p. The first step of L-BFGS moves no entry of p further than this.
        anneal: Fraction of Adam's steps, in [0, 1], at their end, over which the learning rate falls linearly to 0.
            At a constant rate Adam keeps hopping across the kinks of ReLU and max pooling.
        redirected_steps: How many steps of Adam, the first ones, wake dead features by the gradient of redirected
            ReLUs, see `jifv.redirection`; 0 for none, Lucid takes 16. Samples whose objective has no dead feature take
            the same steps as without. A step with one costs two gradients.
        history: Number of past steps that L-BFGS keeps, each of the size of p, twice.
        tolerance: A sample has converged, and stops, when ‖∂d/∂p‖ ≤ tolerance · |d|. In L-BFGS also when no step
            improves d, in Adam not where every step draws its transformations anew.
        precision: Of matrix products and convolutions, "default", "high" or "highest". Only "highest" is float32 on
            accelerators; inversion needs more digits of the gradient than the others keep.
        adam_precision: The same for Adam's steps before it anneals; None for `precision`. These steps only bring p
            near: "default" leaves the predictions as good as they were (benchmarks/precision.py).

    Raises:
        TypeError: A count is not an integer, or a number is not one.
        ValueError: A value is outside its range.
    """

    adam_steps: int = 300
    lbfgs_steps: int = 0
    learning_rate: float = 0.2
    anneal: float = 0.7
    redirected_steps: int = 0
    history: int = 10
    tolerance: float = 1e-8
    precision: str = "highest"
    adam_precision: str | None = None

    def __post_init__(self) -> None:
        """Check every value."""
        for name in ("adam_steps", "lbfgs_steps", "redirected_steps"):
            check_count(name, getattr(self, name))
        check_positive("history", self.history)
        check_nonnegative("learning_rate", self.learning_rate)
        if self.learning_rate == 0:
            raise ValueError("learning_rate must be positive, got 0")
        check_fraction("anneal", self.anneal)
        check_nonnegative("tolerance", self.tolerance)
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {PRECISIONS}, got {self.precision!r}")
        if self.adam_precision not in (None, *PRECISIONS):
            raise ValueError(f"adam_precision must be None or one of {PRECISIONS}, got {self.adam_precision!r}")
        # Settings are the key under which a compiled step is found again, and arrays cannot be keys.
        for name in ("learning_rate", "anneal", "tolerance"):
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def steps_at_full_rate(self) -> int:
        """Steps of Adam before it anneals."""
        return self.adam_steps - round(self.anneal * self.adam_steps)

    @property
    def most_trials(self) -> int:
        """Gradients of the batch that L-BFGS may take.

        Where d is smooth an iteration takes 1.0 to 1.2, and the first one some more to find the length of a step.
        """
        return self.lbfgs_steps * 3 // 2 + 10 if self.lbfgs_steps else 0


PAPER = Settings(adam_steps=800, lbfgs_steps=300, learning_rate=0.05, anneal=0.25)
"""The numbers of steps that the paper takes for DenseNet and SRNet (section 3.2); for GoogLeNet it takes 3000 + 500."""
