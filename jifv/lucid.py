"""The objectives of the field, by Lucid's definitions, as functions of a layer's activations.

Lucid (tensorflow/lucid, optvis/objectives.py) evaluates an objective on the activations of a batch of images, of shape
(batch, h, w, n) or, without positions, (batch, n); some compare the images of a batch. Objectives can be added,
subtracted and multiplied:

    goal = channel(3) + 0.5 * channel(7) - 1e-2 * diversity()
    f, target = maximized(goal, phi.apply, network, batch=4)
    visualize(f, start, target, significance=Significance(0))  # start: (samples, 4, *p), images to compare per sample

The names of axes are Lucid's, whose x is the row. Lucent (greentfrapp/lucent) has the same objectives, negated to be
losses, apart from `direction_neuron`, which there is the cosine alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jifv.response import Composition, compose

Activations: TypeAlias = Any
"""Of a batch: one array, or arrays by the names of their layers."""


@dataclass(frozen=True, eq=False)
class Goal:
    """An objective of the field: activations of a batch to the number to maximize.

    Attributes:
        function: The number, of activations.
        name: What it is, in words.
    """

    function: Callable[[Activations], Any]
    name: str

    def __call__(self, activations: Activations) -> Any:
        """Evaluate the objective."""
        return self.function(activations)

    def __add__(self, other: "Goal | float") -> "Goal":
        return _combined(self, other, lambda a, b: a + b, "+")

    def __mul__(self, other: "Goal | float") -> "Goal":
        return _combined(self, other, lambda a, b: a * b, "·")

    def __neg__(self) -> "Goal":
        return self * -1

    def __sub__(self, other: "Goal | float") -> "Goal":
        return self + -1 * other

    def __rsub__(self, other: float) -> "Goal":
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__


def maximized(
    goal: Goal,
    apply: Callable[[Float[Array, "..."]], Float[Array, "..."]],
    network: Callable[[Float[Array, "..."]], Activations],
    *,
    batch: int = 1,
) -> tuple[Composition, Float[Array, "1 1"]]:
    """Return a response function with one feature, the goal, and the target to maximize it with.

    Args:
        goal: What to maximize.
        apply: Parametrization φ of one image.
        network: One image to its activations, or to arrays by the names of layers.
        batch: Images that the goal sees together. p has the shape (batch, *p of one image).

    Returns:
        f, of p to r of shape (1,), with images (batch, H, W, C); and the target [[1]]. With `Significance(0)`,
        `visualize` maximizes the goal.
    """
    many = compose(jax.vmap(apply), jax.vmap(network), lambda a: jnp.reshape(goal(a), (1,)))
    return many, jnp.ones((1, 1))


def neuron(channel: int, x: int | None = None, y: int | None = None, *, layer: str | None = None) -> Goal:
    """Maximize a channel at one position, by default at row h // 2 and column w // 2; the mean over the batch."""

    def value(a: Array) -> Array:
        return jnp.mean(_position(a, x, y)[:, channel])

    return _goal(value, layer, f"neuron {channel}")


def channel(channel: int, *, layer: str | None = None) -> Goal:
    """Maximize the mean of a channel."""
    return _goal(lambda a: jnp.mean(a[..., channel]), layer, f"channel {channel}")


def direction(vector: Float[Array | np.ndarray, " n"], *, power: float = 0, layer: str | None = None) -> Goal:
    """Maximize the mean over positions of ⟨a, v⟩ · max(cos(a, v), 0.1)^power."""
    return _goal(lambda a: _dot_cossim(a, jnp.asarray(vector, a.dtype), power), layer, "direction")


def direction_neuron(
    vector: Float[Array | np.ndarray, " n"],
    x: int | None = None,
    y: int | None = None,
    *,
    power: float = 0,
    layer: str | None = None,
) -> Goal:
    """Maximize `direction` at one position, by default at the centre."""

    def value(a: Array) -> Array:
        return _dot_cossim(_position(a, x, y), jnp.asarray(vector, a.dtype), power)

    return _goal(value, layer, "direction of a neuron")


def direction_cossim(vector: Float[Array | np.ndarray, " n"], *, layer: str | None = None) -> Goal:
    """Maximize the cosine with a direction: its mean over positions, divided by n, which Lucid's mean does too."""

    def value(a: Array) -> Array:
        v = jnp.asarray(vector, a.dtype)
        return jnp.mean(a * v / (jnp.linalg.norm(a, axis=-1, keepdims=True) * jnp.linalg.norm(v)))

    return _goal(value, layer, "cosine with a direction")


def deepdream(*, layer: str | None = None) -> Goal:
    """Maximize the mean square of a layer (Mordvintsev et al., 2015)."""
    return _goal(lambda a: jnp.mean(a**2), layer, "deepdream")


def class_logit(label: int, *, layer: str | None = None) -> Goal:
    """Maximize a class score, of activations (batch, n): the sum over the batch."""
    return _goal(lambda a: jnp.sum(a[:, label]), layer, f"class {label}")


def channel_interpolate(
    first: int, second: int, *, first_layer: str | None = None, second_layer: str | None = None
) -> Goal:
    """Maximize one channel in the first image of a batch, another in the last, and a mixture of both in between."""

    def value(activations: Activations) -> Array:
        one, other = (
            _mean(_at(activations, name)[..., index]) for name, index in ((first_layer, first), (second_layer, second))
        )
        weights = jnp.linspace(0, 1, len(one), dtype=one.dtype)
        return jnp.sum((1 - weights) * one + weights * other)

    return Goal(value, f"channel {first} to {second}")


def alignment(*, decay_ratio: float = 2, layer: str | None = None) -> Goal:
    """Keep neighbours in the batch similar: minus their mean squared differences, up to four images apart."""

    def value(a: Array) -> Array:
        near = [_mean((a[d:] - a[:-d]) ** 2).sum() / decay_ratio**d for d in range(1, min(5, len(a)))]
        return -sum(near, jnp.zeros((), a.dtype))

    return _goal(value, layer, "alignment")


def diversity(*, layer: str | None = None) -> Goal:
    """Measure how alike the images of a batch are, to be subtracted: the cosines between their Gram matrices, summed.

    The sum is over ordered pairs, divided by the batch.
    """

    def value(a: Array) -> Array:
        flat = a.reshape(len(a), -1, a.shape[-1])
        grams = jnp.einsum("bpi,bpj->bij", flat, flat, precision="highest").reshape(len(a), -1)
        grams = grams * jax.lax.rsqrt(jnp.maximum(jnp.sum(grams**2, axis=1, keepdims=True), 1e-10))
        # ‖Σ g‖² has each ordered pair, and each with itself.
        return (jnp.sum(jnp.sum(grams, axis=0) ** 2) - jnp.sum(grams**2)) / len(a)

    return _goal(value, layer, "diversity")


def caricature(target: Float[Array | np.ndarray, "..."], *, power: float = 0, layer: str | None = None) -> Goal:
    """Maximize the product with the activations of a picture, times max(product / ‖target‖, 0.1)^power.

    It is feature inversion that exaggerates (lucid/recipes/caricature.py); the mean over the batch.

    Args:
        target: Activations of the picture, of the shape of one image's.
        power: Of the cosine, which Lucid divides by the length of the target alone.
        layer: Name of the layer.
    """

    def value(a: Array) -> Array:
        wanted = jnp.asarray(target, a.dtype)
        dot = jnp.sum((a * wanted).reshape(len(a), -1), axis=1)
        cossim = jnp.maximum(0.1, dot / (1e-6 + jnp.linalg.norm(wanted.ravel())))
        return jnp.mean(dot * cossim**power)

    return _goal(value, layer, "caricature")


def _goal(value: Callable[[Array], Array], layer: str | None, name: str) -> Goal:
    return Goal(lambda activations: value(_at(activations, layer)), f"{name} of {layer}" if layer else name)


def _at(activations: Activations, layer: str | None) -> Array:
    if isinstance(activations, Mapping):
        if layer not in activations:
            raise ValueError(f"layer must be one of {sorted(activations)}, got {layer!r}")
        return activations[layer]
    if layer is not None:
        raise ValueError(f"the network must return arrays by the names of layers for the layer {layer!r}, got an array")
    return activations


def _combined(one: Goal, other: Any, operation: Callable, sign: str) -> Goal:
    if isinstance(other, Goal):
        return Goal(lambda a: operation(one(a), other(a)), f"({one.name} {sign} {other.name})")
    if not isinstance(other, (int, float)):
        raise TypeError(f"a goal must be combined with a goal or a number, got {other!r}")
    return Goal(lambda a: operation(one(a), other), f"({one.name} {sign} {other:g})")


def _position(a: Array, x: int | None, y: int | None) -> Array:
    _, height, width, _ = a.shape
    return a[:, height // 2 if x is None else x, width // 2 if y is None else y]


def _mean(a: Array) -> Array:
    """Average over all but the batch."""
    return jnp.mean(a.reshape(len(a), -1), axis=1)


def _dot_cossim(a: Array, v: Array, power: float) -> Array:
    dot = jnp.sum(a * v, axis=-1)
    if power == 0:
        return jnp.mean(dot)
    # The root is kept from 0, where it has no gradient; Lucid's value is the same up to its own 1e-4.
    lengths = [jnp.sqrt(jnp.maximum(jnp.sum(x**2, axis=-1), 1e-12)) for x in (a, v)]
    cossim = dot / (1e-4 + lengths[0]) / (1e-4 + lengths[1])
    return jnp.mean(dot * jnp.maximum(0.1, cossim) ** power)
