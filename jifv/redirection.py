"""Redirecting the gradient of ReLUs, so that a visualization can leave where its feature is dead.

Where a ReLU is negative at every position nothing of the gradient passes, and a picture stays as grey as it began.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jifv._smoothing.flatten import program_of
from jifv._smoothing.redirecting import evaluate
from jifv.response import Composition
from jifv.smoothing import Smoothed

_KEPT = 8


@dataclass(frozen=True, eq=False, repr=False)
class Redirected:
    """A function whose ReLUs redirect the gradient, made by `redirect`. It is hashed by its identity.

    Attributes:
        function: With the same values.
    """

    function: Callable[[Float[Array, "..."]], Any]

    def __call__(self, x: Float[Array | np.ndarray, "..."]) -> Any:
        """Evaluate the function for one sample; batch it with `jax.vmap`."""
        x = jnp.asarray(x)
        if isinstance(self.function, Smoothed):
            program, widths, tree = self.function.program(x)
        else:
            program, tree, _ = program_of(self.function, x)
            widths = (None,) * len(tuple(program.kinks()))
        return jax.tree.unflatten(tree, evaluate(program, widths, x))

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", None) or repr(self.function)
        return f"Redirected({name})"


@lru_cache(_KEPT)
def redirect(function: Callable[[Float[Array, "..."]], Any]) -> Callable[[Float[Array, "..."]], Any]:
    """Return the function with another gradient: that of redirected ReLUs (lucid/misc/redirected_relu_grad.py).

    Each ReLU looks at the gradient that comes back to it. If none of it passes on, because wherever there is some the
    ReLU is flat, it passes all of it but what would push a value further into the flat part. That is Lucid's rule. The
    gradient must be that of a loss, of which descent goes the other way: `jax.grad(lambda p: -d(redirect(f)(p)))`.

    A ReLU is any maximum, minimum or choice between cases of a value and a bound, ReLU6, clipping and those rounded by
    `jifv.smooth` too. They are found where `smooth` finds them. A ReLU of a whole batch looks at all samples together;
    under `jax.vmap` at each alone.

    Args:
        function: From one sample to any pytree of arrays; of a composition φ and A stay as they are.

    Returns:
        A function with the same values that has derivatives in reverse mode only; of a composition another one. The
        same object for the same function, for the last few.

    Raises:
        TypeError: `function` is not callable, or is not hashable; once called, if it closes over traced values.
    """
    if not callable(function):
        raise TypeError(f"function must be callable, got {function!r}")
    if isinstance(function, Composition):
        return Composition(function.apply, Redirected(function.network), function.aggregate)
    return Redirected(function)
