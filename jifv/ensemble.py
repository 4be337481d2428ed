"""Ensembles of transformations: which are drawn, and the responses to images that they change.

What makes transformations is `jifv.transform`, from where all of this can be imported as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray, UInt32

from jifv._core.check import check_positive
from jifv.response import Composition, Response

Transformation: TypeAlias = Callable[[PRNGKeyArray, Float[Array, "H W C"]], Float[Array, "H W C"]]
"""τ: (key, x) -> x of the same shape."""


@dataclass(frozen=True, eq=False)
class Uniform:
    """A transformation drawn from a few uniform numbers, which `spread` can therefore draw evenly.

    Attributes:
        dimension: How many numbers.
        at: (u, x) -> x, u in the unit cube.
    """

    dimension: int
    at: Callable[[Float[Array, " d"], Float[Array, "H W C"]], Float[Array, "H W C"]]

    def __call__(self, key: PRNGKeyArray, x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        """Transform an image at random."""
        return self.at(jax.random.uniform(key, (self.dimension,), x.dtype), x)


@dataclass(frozen=True)
class Ensemble:
    """Transformations to average over, made by `fixed`, `spread` or `anew`. Equal ones are found again by `jax.jit`.

    Attributes:
        transformation: τ.
        words: The bits of the keys, or the points of the unit cube.
        draws: Transformations at a time.
        anew: Whether every step draws others.
        points: Whether these are points.
    """

    transformation: Transformation
    words: tuple[tuple[float, ...], ...]
    draws: int
    anew: bool = False
    points: bool = False

    def __repr__(self) -> str:
        tau = getattr(self.transformation, "__qualname__", type(self.transformation).__name__).split(".<locals>")[0]
        return f"Ensemble({self.draws} of {tau}, {'anew in every step' if self.anew else 'fixed'})"

    def bits(self) -> np.ndarray:
        """Return what the words are as an array, to pass to what is compiled."""
        return np.asarray(self.words, np.float32 if self.points else np.uint32)

    def keys(self, bits: Array, step: Array | int = 0) -> Array:
        """Return the keys of a step, or the points."""
        if self.points:
            return bits
        keys = jax.random.wrap_key_data(bits, impl="threefry2x32")
        return jax.random.split(jax.random.fold_in(keys[0], step), self.draws) if self.anew else keys


def fixed(transformation: Transformation, keys: Key[Array, " draws"] | UInt32[Array, "draws 2"]) -> Ensemble:
    """Draw transformations once, one for each key.

    Raises:
        TypeError: `transformation` is not a function.
        ValueError: `keys` is not a vector of one key or more.
    """
    words = _words("keys", keys, 1)
    _check_transformation(transformation)
    return Ensemble(transformation, words, len(words))


def spread(transformation: Transformation, key: PRNGKeyArray, count: int) -> Ensemble:
    """Draw transformations once, evenly: a shifted Sobol sequence in place of independent numbers.

    To invert where every step drew others, it estimates the expectation better than `fixed` with as many keys.

    Args:
        transformation: Any of this module or a chain of them, but for `noise`.
        key: A single key, for the shift.
        count: Transformations; a power of two is best.

    Raises:
        TypeError: `transformation` is not a `Uniform`, or `count` is not an integer.
        ValueError: `key` is not a single key, or `count` < 1.
    """
    check_positive("count", count)
    if not isinstance(transformation, Uniform):
        raise TypeError(f"transformation must be drawn from a few uniform numbers, got {transformation!r}")
    from scipy.stats import qmc  # not needed by anything else, and slow to import

    (word,) = _words("key", key, 0)
    power = (count - 1).bit_length()
    points = qmc.Sobol(max(1, transformation.dimension), scramble=False).random_base2(power)[:count]
    points = (points + np.random.default_rng(word).random(points.shape[1])) % 1
    words = tuple(tuple(float(number) for number in np.minimum(row, 1 - 2**-24)) for row in points)
    return Ensemble(transformation, words, count, points=True)


def anew(transformation: Transformation, key: PRNGKeyArray, *, draws: int = 1) -> Ensemble:
    """Draw other transformations in every step of `jifv.visualize`; which ones, key and number of the step decide.

    Args:
        transformation: τ.
        key: A single key.
        draws: Transformations in a step, each as expensive as a step without any.

    Raises:
        TypeError: `transformation` is not a function, or `draws` is not an integer.
        ValueError: `key` is not a single key, or `draws` < 1.
    """
    check_positive("draws", draws)
    _check_transformation(transformation)
    return Ensemble(transformation, _words("key", key, 0), draws, anew=True)


def mean_response(f: Response, ensemble: Ensemble) -> Response:
    """Return the mean response f̄(p) = mean over τ of A(N(τφ(p))), over a fixed set.

    It is computed one transformation after the other, and again for its gradient: its memory is that of f. Both
    `visualize` and inversion take it as any response function; make it once.

    Raises:
        ValueError: f was not made by `jifv.compose`, or the transformations are not fixed.
    """
    check_ensemble(f, ensemble)
    if ensemble.anew:
        raise ValueError("ensemble must be made by transform.fixed: a response function has no steps")

    def mean(parameters: Float[Array, "..."]) -> Float[Array, " n"]:
        one = jax.checkpoint(lambda key: respond(f, ensemble, key, parameters))
        return jnp.mean(jax.lax.map(one, ensemble.keys(jnp.asarray(ensemble.bits()))), axis=0)

    return mean


def respond(f: Response, ensemble: Ensemble, key: Array, parameters: Float[Array, "..."]) -> Float[Array, " n"]:
    """Compute the response to one transformed image."""
    assert isinstance(f, Composition)
    x = f.apply(parameters)
    tau = ensemble.transformation
    moved = tau.at(key.astype(x.dtype), x) if ensemble.points and isinstance(tau, Uniform) else tau(key, x)
    if moved.shape != x.shape:
        raise ValueError(f"a transformation must keep the shape of the image, {x.shape}, got {moved.shape}")
    return f.respond(moved)


def check_ensemble(f: Response, ensemble: Any) -> None:
    """Raise unless these are transformations that can be put between the φ and the network of f.

    Raises:
        TypeError: They are not an `Ensemble`.
        ValueError: f was not made by `jifv.compose`.
    """
    if not isinstance(ensemble, Ensemble):
        raise TypeError(f"transformations must be made by transform.fixed, spread or anew, got {ensemble!r}")
    if not isinstance(f, Composition):
        raise ValueError(f"f must be made by jifv.compose for transformations of its image, got {f!r}")


def _words(name: str, keys: Array, axes: int) -> tuple[tuple[int, ...], ...]:
    typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    if keys.ndim - (not typed) != axes or keys.size == 0:
        raise ValueError(f"{name} must be {'a vector of keys' if axes else 'a single key'}, got shape {keys.shape}")
    # Two words of each, whatever the generator: the draws are those of threefry.
    each = keys.reshape(-1) if typed else keys.reshape(-1, keys.shape[-1])
    words = jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32))(each)
    return tuple(tuple(int(word) for word in row) for row in np.asarray(words))


def _check_transformation(transformation: object) -> None:
    if not callable(transformation):
        raise TypeError(f"transformation must be a function (key, x) -> x, got {transformation!r}")
