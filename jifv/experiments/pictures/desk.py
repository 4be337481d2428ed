"""One picture after the other, with all that can be said of it: what the page of `jifv app` shows.

    at = desk_of("densenet", "dense1.8")
    parameters = at.known.parameters[:1]  # or at.parameters("cat.jpg", content)
    found = at.answer(parameters)
    print(found.verdict.text(), at.confidence(found, without=0))

All of it is what the commands compute, in their words.
"""

import math
from functools import cached_property, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from jifv import confidence
from jifv._core.devices import sample_mesh
from jifv.experiments.pictures.inversions import STEPS
from jifv.experiments.pictures.judging import Verdict, verdict
from jifv.experiments.pictures.question import Question, question_of
from jifv.experiments.pictures.reading import Reader
from jifv.experiments.pictures.sources import find_pictures
from jifv.experiments.problem import network_of
from jifv.experiments.setting import Setting
from jifv.inversion import Inversion
from jifv.models import Network
from jifv.objectives import sparse_objectives
from jifv.visualization import Settings, visualize

KNOWN = 10
"""Pictures with known objectives. One of them left out, the others just suffice for 90 %, see `jifv.confidence`."""

SETTINGS = Settings(adam_steps=150)
"""How they are made, within a minute for a network of small pictures."""

_SMALL = 64
"""Side of what counts as a small picture."""

_FIRST = ("dense1.8", "inception4c", "block8")
"""Layers to begin with, in networks that have one of them."""


class Known(NamedTuple):
    """Visualizations of random objectives.

    Attributes:
        objectives: v, of unit length.
        parameters: p.
        inversion: What inversion finds for them.
    """

    objectives: Float[np.ndarray, "s n"]
    parameters: Float[np.ndarray, "s *p"]
    inversion: Inversion


class Answer(NamedTuple):
    """What inversion finds for one picture.

    Attributes:
        image: x = φ(p).
        response: r = f(p), of unit length.
        inversion: With a batch axis of length 1.
        cosine: cos(r, v).
        verdict: What may be said of it.
    """

    image: Float[np.ndarray, "h w c"]
    response: Float[np.ndarray, " n"]
    inversion: Inversion
    cosine: float
    verdict: Verdict

    @property
    def objective(self) -> Float[np.ndarray, " n"]:
        """The objective v."""
        return np.asarray(self.inversion.objective)[0]


class Desk:
    """A network up to a layer, and what is asked of every picture, as `jifv invert` asks it.

    Attributes:
        network: The network.
        question: The question.
    """

    def __init__(self, network: Network, question: Question) -> None:
        """See `desk_of`."""
        self.network, self.question = network, question

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each feature."""
        return self.network.feature_names[: self.question.features]

    @property
    def quick(self) -> bool:
        """Whether `known` takes minutes at most, on a CPU as well."""
        return math.prod(self.network.input_shape[:2]) <= _SMALL**2

    @cached_property
    def known(self) -> Known:
        """Visualizations of this network whose objectives are known, made when they are asked for."""
        asked = self.question
        targets, starts = jax.random.split(jax.random.key(asked.setting.seed))
        objectives = sparse_objectives(targets, KNOWN, asked.features)
        parameters = visualize(
            asked.f,
            jax.vmap(asked.phi.init)(jax.random.split(starts, KNOWN)),
            objectives,
            significance=asked.setting.significance,
            settings=SETTINGS,
            mesh=sample_mesh(min(KNOWN, jax.local_device_count())),
        ).parameters
        parameters = np.asarray(parameters)
        found = [inversion for inversion, _ in asked.inversions(parameters, _nothing)]
        return Known(np.asarray(objectives), parameters, jax.tree.map(lambda *rows: np.concatenate(rows), *found))

    def parameters(self, name: str, content: bytes) -> Float[np.ndarray, "1 *p"]:
        """Read a picture, cut and resized as the network takes it.

        Args:
            name: Of its file.
            content: Of its file; see `find_pictures`. Of several pictures the first is taken.

        Raises:
            TypeError: It holds something else than bytes and floats.
            ValueError: It is no picture, is damaged, or does not fit.
        """
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = Path(folder) / Path(name).name
            path.write_bytes(content)
            reader = Reader(find_pictures([path]), self.network, self.network.crop, exact=False)
            return reader.parameters([0], self.question)

    def answer(self, parameters: Float[np.ndarray, "1 *p"]) -> Answer:
        """Find the objective for which a picture is optimal, and what speaks against that."""
        ((found, response),) = self.question.inversions(parameters, _nothing)
        row = {name: array[0] for name, array in self.question.arrays(found, response).items()}
        said = verdict(
            row["objective"],
            self.names,
            stationarity=float(row["stationarity"]),
            cosine=float(row["cosine"]),
            elsewhere=float(row["elsewhere"]),
            significance=self.question.setting.significance,
        )
        unit = row["response"] / (np.linalg.norm(row["response"]) or 1)
        return Answer(self.question.images(parameters)[0], unit, found, float(row["cosine"]), said)

    def reoptimize(
        self, parameters: Float[np.ndarray, "1 *p"], found: Answer
    ) -> dict[str, tuple[Float[np.ndarray, "h w c"], float]]:
        """Optimize a picture further for the objective that was found, for its response, and for a random objective.

        Returns:
            By these names, the picture and its structural similarity to the one before.
        """
        key = jax.random.fold_in(jax.random.key(self.question.setting.seed), 3)
        random = np.asarray(sparse_objectives(key, 1, self.question.features))
        wanted = {"prediction": found.objective[None], "response": found.response[None], "random": random}
        arrays = self.question.reoptimize(parameters, wanted, steps=STEPS, size=1, advance=_nothing)
        return {name: (arrays[f"images_{name}"][0], float(arrays[f"ssim_{name}"][0])) for name in wanted}

    def confidence(self, found: Answer, *, without: int | None = None, top: int = 3) -> confidence.Confidence:
        """Say how sure an answer is, at 90 %, by the pictures whose objectives are known.

        Args:
            found: The answer.
            without: The one of `known` that it is about; None for another picture.
            top: How many entries of v count as the largest.
        """
        rows = np.arange(KNOWN) != without
        inversion = jax.tree.map(lambda leaf: leaf[rows], self.known.inversion)
        basis = self.question.basis
        calibration = confidence.calibrate(inversion, self.known.objectives[rows], basis=basis)
        said = confidence.summarize(jax.random.key(0), found.inversion, calibration, top=top, basis=basis)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[0], said)


@lru_cache(4)
def desk_of(network: str, layer: str) -> Desk:
    """Load a network up to a layer, with the defaults of `Setting`. Desks are kept, with all that they have compiled.

    Raises:
        ValueError: There is no such network or layer.
        OSError: Its weights are not there, or cannot be read.
    """
    setting = Setting(network, layer)
    loaded = network_of(setting)
    return Desk(loaded, question_of(setting.resolved(loaded), loaded, None))


@lru_cache(4)
def layers_of(network: str) -> tuple[tuple[str, ...], str]:
    """List the layers of a network, and name one to begin with."""
    layers = network_of(Setting(network)).layers
    return layers, next((layer for layer in _FIRST if layer in layers), layers[len(layers) // 2])


def _nothing(_: int) -> None:
    """Report no progress."""
