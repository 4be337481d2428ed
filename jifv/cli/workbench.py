"""Command line: `jifv app`, which opens a picture's objective in the browser, and what its page computes."""

import importlib.util
import io
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import typer
from jaxtyping import Array, Float

from jifv import (
    Inversion,
    Parametrization,
    Settings,
    Significance,
    compose,
    first,
    identity,
    invert_batch,
    max_mean,
    pixels,
    reoptimize,
    smooth,
    sparse_objectives,
    ssim,
    visualize,
)
from jifv.cli.errors import told
from jifv.inversion import FAR, NotStationaryWarning
from jifv.models import Network, load
from jifv.response import Composition

PAGE = Path(__file__).with_name("workbench_page.py")
"""The page, a notebook of marimo."""

SETTINGS = Settings(adam_steps=150)
"""Of the example: enough for a few dozen features with rounded kinks."""


def serve(
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 2718,
    headless: Annotated[bool, typer.Option("--headless", help="Open no browser.")] = False,
) -> None:
    """Open a picture in the browser and see for which objective it is optimal. Needs the extra `app`."""
    with told():
        if importlib.util.find_spec("marimo") is None:
            raise ImportError('marimo is not installed: python -m pip install "jifv[app]"')
        options = ["--port", str(port), *(["--headless"] if headless else [])]
        raise typer.Exit(subprocess.call([sys.executable, "-m", "marimo", "run", str(PAGE), *options]))


class Bench(NamedTuple):
    """A network up to a layer, with rounded kinks, ready to visualize and invert.

    Attributes:
        network: The network as it is.
        phi: Parametrization of its input, by pixels.
        f: Response function of its first channels.
        features: How many they are.
    """

    network: Network
    phi: Parametrization
    f: Composition
    features: int


class Answer(NamedTuple):
    """What is found for one picture.

    Attributes:
        picture: x, (H, W, C).
        response: r, of unit length.
        inversion: The objective and how sure it is, without a batch axis.
        verdict: The same in words.
    """

    picture: Float[np.ndarray, "H W C"]
    response: Float[np.ndarray, " n"]
    inversion: Inversion
    verdict: str


@cache
def bench(name: str, layer: str, most: int = 16) -> Bench:
    """Load a network up to a layer, with its first channels, `most` at most, as features."""
    network = load(name, layer=layer)
    phi = pixels(network.input_shape, std=0.5)
    features = min(most, network.features)
    aggregate = first(features, max_mean() if _has_windows(network) else _over_positions(network))
    rounded = smooth(lambda x: aggregate(network.apply(x)), network.typical_inputs())
    return Bench(network, phi, compose(phi.apply, rounded, identity), features)


def example(at: Bench, seed: int = 0) -> Float[Array, "..."]:
    """Make a visualization of a random objective, and return its parameters."""
    target, start = jax.random.split(jax.random.key(seed))
    targets = sparse_objectives(target, 1, at.features)
    return visualize(at.f, at.phi.init(start)[None], targets, settings=SETTINGS).parameters[0]


def read_picture(content: bytes, at: Bench) -> Float[Array, "..."]:
    """Read a picture file, scale it to the network's input, and return its parameters.

    Raises:
        ValueError: The network's input is no RGB image.
        OSError: The file is no picture.
    """
    from PIL import Image

    height, width, channels = at.network.input_shape
    if channels != 3:
        raise ValueError(f"network must take RGB images, got {at.network.name}, which takes {channels} channels")
    image = Image.open(io.BytesIO(content)).convert("RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return at.phi.invert(jnp.asarray(np.asarray(image)))


def answer(at: Bench, parameters: Float[Array, "..."]) -> Answer:
    """Invert one picture, and say what the answer is worth."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotStationaryWarning)  # the verdict says it
        found = invert_batch(at.f, parameters[None], significance=Significance())
    found = jax.tree.map(lambda leaf: leaf[0], found)
    response = np.asarray(at.f(parameters))
    response = response / max(np.linalg.norm(response), np.finfo(response.dtype).tiny)
    return Answer(np.asarray(at.phi.apply(parameters)), response, found, _verdict(found))


def changed(at: Bench, parameters: Float[Array, "..."], objectives: dict[str, Array], steps: int = 25) -> dict:
    """Climb on from a picture for each objective; return the new pictures and their SSIM with the old one, by name."""
    rows = jnp.stack([jnp.asarray(objective) for objective in objectives.values()])
    copies = jnp.repeat(parameters[None], len(rows), axis=0)
    after = reoptimize(at.f, copies, rows, significance=Significance(), steps=steps)
    images, before = jax.vmap(at.phi.apply)(after), jax.vmap(at.phi.apply)(copies)
    return {
        name: (np.asarray(image), float(each))
        for name, image, each in zip(objectives, images, ssim(images, before), strict=True)
    }


def _verdict(found: Inversion) -> str:
    gap, rest = float(found.gap), float(found.stationarity)
    if not rest <= FAR:
        return "This picture is no visualization by this network, or not a finished one: no objective explains it."
    if gap < 0.3:
        return "Several objectives explain this picture about equally well."
    return "One objective explains this picture" + (" clearly better than all others." if gap > 0.7 else ".")


def _has_windows(network: Network) -> bool:
    return len(network.output_shape) == 3 and min(network.output_shape[:2]) >= 3


def _over_positions(network: Network):
    from jifv import mean

    return mean if len(network.output_shape) == 3 else identity
