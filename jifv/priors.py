"""Priors: what practice subtracts from the significance, so that visualizations look natural or stay near something.

`jifv.visualize` maximizes d(f(p), v) − Σ λⱼ Rⱼ, and `jifv.invert_batch` finds v and the weights λⱼ together. A penalty
R is a pure function of one image x = φ(p), or of the parameters p, to one number. Any function will do:

    visualize(f, start, targets, priors=[total_variation(100), Prior(lambda x: jnp.mean((x - 0.3) ** 2), 30)])

Penalties are means over pixels and channels, so that a weight means the same at every size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jifv._core.check import check_nonnegative, check_positive
from jifv.response import Composition, Response

Penalty: TypeAlias = Callable[[Float[Array, "..."]], Float[Array, ""]]
"""R: one image, or the parameters of one, to a number."""

_SMALL = 1e-6
"""Below it |x| is rounded off, so that the penalties have a gradient everywhere."""


@dataclass(frozen=True)
class Prior:
    """A penalty R and its weight λ.

    Attributes:
        penalty: R, a pure function of one sample. Programs are compiled once for each function, so pass the same
            object again; weights may change.
        weight: λ ≥ 0.
        of: What R is a function of: "image", x = φ(p), for which f must be made by `jifv.compose`; or "parameters", p.
        name: To tell priors apart in errors.

    Raises:
        TypeError: `penalty` is not a hashable function, or `weight` is not a number.
        ValueError: `weight` is negative or not finite, or `of` is another word.
    """

    penalty: Penalty
    weight: float = 1.0
    of: Literal["image", "parameters"] = "image"
    name: str = ""

    def __post_init__(self) -> None:
        """Check everything."""
        if not callable(self.penalty):
            raise TypeError(f"penalty must be a function, got {self.penalty!r}")
        hash(self.penalty)
        check_nonnegative("weight", self.weight)
        object.__setattr__(self, "weight", float(self.weight))
        if self.of not in ("image", "parameters"):
            raise ValueError(f"of must be 'image' or 'parameters', got {self.of!r}")
        if not self.name:
            object.__setattr__(self, "name", getattr(self.penalty, "__name__", type(self.penalty).__name__))


def total_variation(weight: float) -> Prior:
    """Penalize differences of neighbours, R = mean √(Δx² + Δy²), over pixels and channels (Rudin et al., 1992).

    Kinks at 0 are rounded off over 1e-3. What is smooth has a small R, and edges cost no more than slopes.
    """
    return Prior(_total_variation, weight, name="total variation")


def smoothness(weight: float) -> Prior:
    """Penalize squared differences of neighbours, R = mean Δx² + mean Δy²: edges cost more than slopes."""
    return Prior(_smoothness, weight, name="smoothness")


def l2(weight: float, towards: float = 0.5) -> Prior:
    """Penalize squared distance from grey, R = mean (x − towards)²."""
    check_nonnegative("towards", towards)
    return Prior(_power(2, float(towards)), weight, name="l2")


def l1(weight: float, towards: float = 0.5) -> Prior:
    """Penalize distance from grey, R = mean |x − towards|, its kink rounded off over 1e-3. Few pixels leave it."""
    check_nonnegative("towards", towards)
    return Prior(_power(1, float(towards)), weight, name="l1")


def l_infinity(weight: float, towards: float = 0.5, *, power: int = 16) -> Prior:
    """Penalize the largest distance from grey, R = (mean (x − towards)^power)^(1/power).

    The maximum itself has a gradient in one pixel only; a high power has one in all of those that are near.

    Raises:
        ValueError: `power` is odd.
    """
    check_nonnegative("towards", towards)
    check_positive("power", power)
    if power % 2:
        raise ValueError(f"power must be even, got {power}")
    return Prior(_root_of_power(power, float(towards)), weight, name="l_infinity")


def energy(weight: float, exponent: float = 2.0) -> Prior:
    """Penalize energy by frequency, R = mean of (frequency / largest)^exponent · |Fourier coefficient|².

    The transform is orthonormal, so that with exponent 0 R is the mean square of x; the constant part is free.

    Args:
        weight: λ.
        exponent: ≥ 0; the higher, the more of it is on high frequencies alone.
    """
    check_nonnegative("exponent", exponent)
    return Prior(_energy(float(exponent)), weight, name="energy")


def distance(
    weight: float,
    layer: Callable[[Float[Array, "..."]], Float[Array, "..."]],
    seed: Float[Array | np.ndarray, "..."],
) -> Prior:
    """Penalize distance to a seed image in a layer's space: feature accentuation (Hamblin et al., 2024).

    R = ‖layer(x) − layer(seed)‖² / ‖layer(seed)‖². Call it once and keep the result: it holds the layer's activations.

    Args:
        weight: λ.
        layer: The network up to a layer, one image to activations of any shape.
        seed: The image to stay near.

    Raises:
        TypeError: `layer` is not a function.
        ValueError: The seed's activations are all 0 or not finite.
    """
    if not callable(layer):
        raise TypeError(f"layer must be a function, got {layer!r}")
    kept = np.asarray(jax.jit(layer)(jnp.asarray(seed)))
    scale = float(np.sum(kept.astype(np.float64) ** 2))
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"seed must have finite activations that are not all 0, got squares that sum to {scale}")

    def distance_to_seed(x: Float[Array, "..."]) -> Float[Array, ""]:
        return jnp.sum((layer(x) - kept.astype(x.dtype)) ** 2) / scale

    return Prior(distance_to_seed, weight, name="distance")


def check_priors(f: Response, priors: Sequence[Prior], parameters: Float[Array, "..."] | jax.ShapeDtypeStruct) -> None:
    """Raise unless each prior is one, of what f knows, and returns one real number.

    Raises:
        TypeError: One is not a `Prior`, or its penalty does not return one real number.
        ValueError: One is of the image, and f was not made by `jifv.compose`.
    """
    for prior in priors:
        if not isinstance(prior, Prior):
            raise TypeError(f"priors must be jifv.priors.Prior, got {prior!r}")
        if prior.of == "image" and not isinstance(f, Composition):
            raise ValueError(
                f"f must be made by jifv.compose for the prior {prior.name!r} of the image, got {f!r}; "
                "or write it as a function of p, with of='parameters'"
            )
        value = jax.eval_shape(lambda p, prior=prior: penalty_of(f, prior.penalty, prior.of, p), parameters)
        if getattr(value, "shape", None) != () or not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(f"the penalty of the prior {prior.name!r} must return one real number, got {value}")


def penalty_of(f: Response, penalty: Penalty, of: str, parameters: Float[Array, "..."]) -> Float[Array, ""]:
    """Compute R(p), or R(φ(p)) with the φ of f."""
    return penalty(f.apply(parameters) if of == "image" and isinstance(f, Composition) else parameters)


def prior_gradients(f: Response, priors: Sequence[Prior], parameters: Float[Array, "..."]) -> Float[Array, "j m"]:
    """Compute ∇R(p) of each prior, without its weight, one row each."""
    with jax.default_matmul_precision("highest"):
        rows = [jax.grad(lambda p, r=r: penalty_of(f, r.penalty, r.of, p))(parameters).ravel() for r in priors]
    return jnp.stack(rows) if rows else jnp.zeros((0, parameters.size), parameters.dtype)


def _differences(x: Float[Array, "H W C"]) -> tuple[Array, Array]:
    if x.ndim != 3:
        raise ValueError(f"x must be an image of shape (H, W, C), got {x.shape}")
    return x[1:] - x[:-1], x[:, 1:] - x[:, :-1]


def _total_variation(x: Float[Array, "H W C"]) -> Float[Array, ""]:
    down, right = _differences(x)
    squares = jnp.pad(down**2, ((0, 1), (0, 0), (0, 0))) + jnp.pad(right**2, ((0, 0), (0, 1), (0, 0)))
    return jnp.mean(jnp.sqrt(squares + _SMALL))


def _smoothness(x: Float[Array, "H W C"]) -> Float[Array, ""]:
    down, right = _differences(x)
    return jnp.mean(down**2) + jnp.mean(right**2)


# Cached, so that the same options give the same function, and JAX finds what it has compiled for it.


@cache
def _power(power: int, towards: float) -> Penalty:
    def penalty(x: Float[Array, "..."]) -> Float[Array, ""]:
        squares = (x - towards) ** 2
        return jnp.mean(squares) if power == 2 else jnp.mean(jnp.sqrt(squares + _SMALL))

    return penalty


@cache
def _root_of_power(power: int, towards: float) -> Penalty:
    def penalty(x: Float[Array, "..."]) -> Float[Array, ""]:
        squares = (x - towards) ** 2
        # R does not depend on what is divided out, so it is a constant to the gradient.
        largest = jax.lax.stop_gradient(jnp.max(squares))
        scale = jnp.where(largest > 0, largest, 1)
        mean = jnp.where(largest > 0, jnp.mean((squares / scale) ** (power // 2)), 1)
        return jnp.where(largest > 0, jnp.sqrt(scale) * mean ** (1 / power), 0)

    return penalty


@cache
def _energy(exponent: float) -> Penalty:
    def penalty(x: Float[Array, "H W C"]) -> Float[Array, ""]:
        height, width, _ = x.shape
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
        weights = (frequency / max(frequency.max(), np.finfo(float).tiny)) ** exponent
        weights[0, 0] = 0
        spectrum = jnp.fft.fft2(x, axes=(0, 1), norm="ortho")
        return jnp.mean(weights[..., None].astype(x.dtype) * (spectrum.real**2 + spectrum.imag**2))

    return penalty
