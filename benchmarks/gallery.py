"""The gallery in the README: channels of GoogLeNet at 224×224, as a reader of Distill knows them.

    python benchmarks/gallery.py --out benchmarks/results

What makes them: the Fourier basis with decorrelated colours, a small shift, rotation and scale drawn anew in every
step, the mean response of a channel (k = 0), Adam. The channels were chosen among some forty, the starts were not: seed
0, one try for each. Some channels are dead at that start, and stay grey. The weights are those of BVLC, see `jifv
models convert`. Writes docs/images/gallery.jpg; a row is a picture.
"""

import argparse

import jax
import numpy as np
from harness import results
from PIL import Image

import jifv
from jifv.models import load
from jifv.transform import anew, chain, jitter, rotate, scale

CHANNELS = {
    "inception3b": (95, 320),
    "inception4b": (50, 95, 185),
    "inception4c": (13, 77, 100),
    "inception4d": (5, 140, 185, 230),
}
"""What is shown, by layer, from left to right."""
PICTURE = "docs/images/gallery.jpg"
COLUMNS = 6
GAP = 6
"""Pixels between pictures."""


def visualized(layer, channels, steps):
    """Pictures of some channels, and their responses."""
    network = load("googlenet-bvlc", layer=layer)
    phi = jifv.fourier(network.input_shape, decay=1.0, decorrelate_colors=True)
    f = jifv.compose(phi.apply, network.apply, jifv.mean)
    targets = jifv.canonical_objectives(np.array(channels), network.output_shape[-1])
    start = jax.vmap(phi.init)(jax.random.split(jax.random.key(0), len(channels)))
    tau = anew(chain(jitter(8), scale(0.9, 1.1), rotate(5), jitter(4)), jax.random.key(1), draws=1)
    made = jifv.visualize(
        f,
        start,
        targets,
        transformations=tau,
        significance=jifv.Significance(0),
        settings=jifv.Settings(adam_steps=steps, learning_rate=0.05, anneal=0.3),
        progress=True,
        description=layer,
    )
    return np.asarray(jax.vmap(phi.apply)(made.parameters)), np.asarray(made.response)[range(len(channels)), channels]


def sheet(pictures):
    """All pictures side by side."""
    side = pictures[0].shape[0] + GAP
    canvas = np.ones((side * -(-len(pictures) // COLUMNS) - GAP, side * COLUMNS - GAP, 3), np.float32)
    for index, image in enumerate(pictures):
        top, left = side * (index // COLUMNS), side * (index % COLUMNS)
        canvas[top : top + side - GAP, left : left + side - GAP] = image
    return Image.fromarray(np.round(canvas * 255).astype(np.uint8))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--out", help="folder for gallery.json")
    options = parser.parse_args()
    result, pictures = results.measured_here("gallery"), []
    for layer, channels in CHANNELS.items():
        images, responses = visualized(layer, channels, options.steps)
        pictures.extend(images)
        for channel, response in zip(channels, responses.tolist(), strict=True):
            result.rows.append({"layer": layer, "channel": channel, "steps": options.steps, "response": response})
    sheet(pictures).save(results.ROOT / PICTURE, quality=88)
    if options.out:
        print(results.write(result._replace(pictures=[PICTURE]), options.out))


if __name__ == "__main__":
    main()
