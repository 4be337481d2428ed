"""For which objective is a picture optimal: all that is needed to answer that, for batch after batch."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, ArrayLike, Float

from jifv._core.devices import in_turn, over_samples, together
from jifv._core.tuning import compiler_options
from jifv._invert.stationary import gradient_left
from jifv.critical import critical_spaces
from jifv.ensemble import Ensemble, mean_response
from jifv.evaluate import ssim
from jifv.experiments.batches import in_unit_range, padded, usable
from jifv.experiments.problem import response_of, to_compressed, to_images
from jifv.experiments.setting import Setting
from jifv.inversion import Inversion, NotStationaryWarning, invert, invert_batch
from jifv.jacobian import linearize
from jifv.models import Network
from jifv.parametrize import Parametrization
from jifv.priors import Prior, prior_gradients
from jifv.response import Composition, Response
from jifv.significance import Significance
from jifv.visualization import PAPER, visualize

_ROWS = 64
"""Rows of a Jacobian at a time. Each time costs a forward pass, and a backward pass for each row."""

VECTORS = 8
"""Singular vectors that are kept of each picture, the last ones, so that storage does not grow with n²."""


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of every picture.

    Attributes:
        setting: The setting, resolved.
        phi: The parametrization.
        f: Response function of the image as it is.
        mean: That which is inverted for r: f, or its mean over transformations.
        priors: The priors.
        ensemble: The transformations; None without any.
        features: Number of features n.
        basis: Of the critical space; None for Rⁿ.
        random: Responses and compressed Jacobians of random inputs; None without `Setting.critical_samples`.
        solve: Inversion of responses, Jacobians and parameters.
        mesh: Devices that share the pictures.
    """

    setting: Setting
    phi: Parametrization
    f: Composition
    mean: Response
    priors: tuple[Prior, ...]
    ensemble: Ensemble | None
    features: int
    basis: Float[np.ndarray, "n q"] | None
    random: tuple[Float[np.ndarray, "c n"], Float[np.ndarray, "c n k"]] | None
    solve: Callable[..., Inversion]
    mesh: Mesh | None

    def parameters(self, images: Float[np.ndarray, "b h w c"]) -> Float[np.ndarray, "b *p"]:
        """Find p with φ(p) = x."""
        return np.stack([np.asarray(_inverter(self.phi)(image)) for image in images])

    def images(self, parameters: Float[np.ndarray, "b *p"]) -> Float[np.ndarray, "b h w c"]:
        """Compute x = φ(p)."""
        return np.concatenate([np.asarray(to_images(self.phi.apply)(each[None])) for each in parameters])

    def work(self, pictures: int) -> int:
        """Count the units of work that `invert` reports for so many pictures: the rows of their Jacobians."""
        return pictures * (1 if self.ensemble is not None else self.features)

    def invert(self, parameters: Float[np.ndarray, "b *p"], advance: Callable[..., None]) -> dict[str, np.ndarray]:
        """Invert pictures, one per device at a time.

        Args:
            parameters: The pictures.
            advance: Reports units of `work` as done.

        Returns:
            A row per picture, see `arrays`.
        """
        parts = [self.arrays(found, response) for found, response in self.inversions(parameters, advance)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def inversions(
        self, parameters: Float[np.ndarray, "b *p"], advance: Callable[..., None]
    ) -> Iterator[tuple[Inversion, Float[np.ndarray, "d n"]]]:
        """Yield inversions and responses r, those of one picture per device at a time; see `invert`."""
        at_a_time = self.mesh.size if self.mesh is not None else 1
        for first in range(0, len(parameters), at_a_time):
            some = parameters[first : first + at_a_time]
            response = together(_responder(self.mean, self.mesh), self.mesh, some)
            if self.ensemble is not None:
                found = self._reweighted(some)
                advance(len(some))
            else:
                found = self._solved(some, response, advance)
            yield found, response

    def arrays(self, found: Inversion, response: Float[np.ndarray, "b n"]) -> dict[str, np.ndarray]:
        """List what is kept of inversions.

        Returns:
            Fields of `Inversion`, of its singular vectors the last `VECTORS`; `response`, `cosine`, and `negative`, the
            share of v's squared length on negative entries; `elsewhere`, the median stationarity of v at the random
            inputs, NaN where there are none. The weights of priors are `weights`, `weight_errors` and `plausible`.
        """
        return _arrays_of(found, response) | {"elsewhere": self._elsewhere(found.objective)}

    def _elsewhere(self, objectives: ArrayLike) -> Float[np.ndarray, " b"]:
        if self.random is None:
            return np.full(len(np.asarray(objectives)), np.nan, np.float32)
        return np.asarray(_median_left(*self.random, jnp.asarray(objectives), self.setting.significance))

    def linearize(
        self, parameters: Float[np.ndarray, "b *p"], advance: Callable[..., None]
    ) -> tuple[Float[np.ndarray, "b n"], Float[np.ndarray, "b n m"]]:
        """Compute responses and Jacobians of f, of one picture per device.

        Args:
            parameters: The pictures.
            advance: Reports units of `work` as done.
        """
        response = together(_responder(self.f, self.mesh), self.mesh, parameters)
        return response, self._jacobian(parameters, response.dtype, advance)

    def _solved(
        self, parameters: Float[np.ndarray, "b *p"], response: Float[np.ndarray, "b n"], advance: Callable[..., None]
    ) -> Inversion:
        jacobian = self._jacobian(parameters, response.dtype, advance)
        return together(self.solve, self.mesh, response, jacobian, parameters)

    def _jacobian(
        self, parameters: Float[np.ndarray, "b *p"], dtype: np.dtype, advance: Callable[..., None]
    ) -> Float[np.ndarray, "b n m"]:
        """Compute the Jacobian some rows at a time, because it takes minutes and somebody is waiting."""
        size = min(_ROWS, self.features)
        parts = []
        for first in range(0, self.features, size):
            # Rows of zeros fill the last part, which would be another shape.
            some = np.eye(size, self.features, first, dtype=dtype)
            each = np.broadcast_to(some, (len(parameters), *some.shape))
            parts.append(together(_to_rows(self.f, self.mesh), self.mesh, parameters, each))
            advance(min(size, self.features - first) * len(parameters))
        return np.concatenate(parts, axis=1)[:, : self.features]

    def _reweighted(self, parameters: Float[np.ndarray, "b *p"]) -> Inversion:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotStationaryWarning)  # the verdict says it, of each picture
            return invert_batch(
                self.f,
                parameters,
                significance=self.setting.significance,
                dead_tolerance=self.setting.dead_tolerance,
                mesh=self.mesh,
                priors=self.priors,
                transformations=self.ensemble,
            )

    def reoptimize(
        self,
        parameters: Float[np.ndarray, "b *p"],
        wanted: dict[str, Float[np.ndarray, "b n"]],
        *,
        steps: int,
        size: int,
        advance: Callable[..., None],
    ) -> dict[str, np.ndarray]:
        """Optimize pictures further for objectives, by Adam.

        Args:
            parameters: The pictures.
            wanted: Objectives by name. Where one is not finite, its results are discarded.
            steps: Steps of Adam.
            size: Number of pictures in a full batch.
            advance: Reports pictures as done.

        Returns:
            For each name, `images_NAME` and `ssim_NAME` to those before.
        """
        before = in_unit_range(jnp.asarray(self.images(parameters)))
        arrays = {}
        for name, objectives in wanted.items():
            anything = np.eye(1, objectives.shape[1], dtype=objectives.dtype)
            found = visualize(
                self.f,
                *padded(size, parameters, usable(objectives, anything)),
                significance=self.setting.significance,
                priors=self.priors,
                transformations=self.ensemble,
                settings=replace(PAPER, adam_steps=steps, lbfgs_steps=0, anneal=0.0),
                mesh=self.mesh,
            )
            images = self.images(np.asarray(found.parameters)[: len(parameters)])
            known = np.isfinite(objectives).all(-1)
            arrays[f"images_{name}"] = images
            arrays[f"ssim_{name}"] = np.where(known, ssim(before, in_unit_range(jnp.asarray(images))), np.nan)
            advance(len(parameters))
        return arrays


def question_of(setting: Setting, network: Network, mesh: Mesh | None) -> Question:
    """Make a question of a setting: compose f, and find the critical space if it asks for one.

    Raises:
        ValueError: The setting does not fit the network.
    """
    phi, f, features = response_of(setting, network)
    ensemble, priors = setting.ensemble(network), setting.prior_functions()
    random = _random(setting, phi, f, mesh) if setting.critical_samples else None
    spaces = critical_spaces(random[1]) if random else []
    basis = spaces[0].basis.astype(random[1].dtype) if random and spaces else None
    options: dict[str, Any] = {"significance": setting.significance, "dead_tolerance": setting.dead_tolerance}

    def solve(response: Float[Array, "b n"], jacobian: Float[Array, "b n m"], parameters: Array) -> Inversion:
        gradients = jax.vmap(lambda p: prior_gradients(f, priors, p))(parameters) if priors else None
        return invert(response, jacobian, basis=basis, prior_gradients=gradients, **options)

    return Question(
        setting=setting,
        phi=phi,
        f=f,
        mean=f if ensemble is None else mean_response(f, ensemble),
        priors=priors,
        ensemble=ensemble,
        features=features,
        basis=basis,
        random=random,
        solve=jax.jit(over_samples(solve, mesh)),
        mesh=mesh,
    )


def _random(
    setting: Setting, phi: Parametrization, f: Response, mesh: Mesh | None
) -> tuple[Float[np.ndarray, "c n"], Float[np.ndarray, "c n k"]]:
    """Linearize f at random inputs."""
    key = jax.random.fold_in(jax.random.key(setting.seed), 2)
    start = jax.vmap(phi.init)(jax.random.split(key, setting.critical_samples or 0))
    responses = np.stack(list(in_turn(_responder(f, mesh), mesh, start)))
    return responses, np.stack(list(in_turn(to_compressed(f, None, mesh), mesh, start)))


@partial(jax.jit, static_argnames="significance")
def _median_left(
    responses: Float[Array, "c n"],
    compressed: Float[Array, "c n k"],
    objectives: Float[Array, "b n"],
    significance: Significance,
) -> Float[Array, " b"]:
    directions = jnp.broadcast_to(objectives, (len(responses), *objectives.shape))
    return jnp.median(gradient_left(responses, compressed, directions, significance), axis=0)


def _arrays_of(found: Inversion, response: Float[np.ndarray, "b n"]) -> dict[str, np.ndarray]:
    v = np.asarray(found.objective)
    arrays = {
        "objective": v,
        "response": response,
        "cosine": found.cosine,
        "negative": np.sum(np.where(v < 0, v, 0) ** 2, -1),
        "gap": found.gap,
        "stationarity": found.stationarity,
        "dead": found.dead,
        "singular_values": found.singular_values,
        "singular_vectors": found.singular_vectors[..., -VECTORS:],
    }
    if found.weights is not None:
        weights = found.weights
        arrays |= {"weights": weights.value, "weight_errors": weights.error, "plausible": weights.plausible}
    return {name: np.asarray(array) for name, array in arrays.items()}


@lru_cache(8)
def _to_rows(f: Response, mesh: Mesh | None) -> Callable[[Array, Array], Array]:
    def rows(parameters: Float[Array, "1 *p"], some: Float[Array, "1 k n"]) -> Float[Array, "1 k m"]:
        return linearize(lambda p: some[0] @ f(p), parameters[0]).jacobian[None]

    return jax.jit(over_samples(rows, mesh), compiler_options=compiler_options(mesh))


@lru_cache(8)
def _responder(f: Response, mesh: Mesh | None) -> Callable[[Array], Array]:
    def responses(parameters: Float[Array, "b *p"]) -> Float[Array, "b n"]:
        with jax.default_matmul_precision("highest"):
            return jax.vmap(f)(parameters)

    return jax.jit(over_samples(responses, mesh))


@lru_cache(8)
def _inverter(phi: Parametrization) -> Callable[[Any], Array]:
    return jax.jit(phi.invert)
