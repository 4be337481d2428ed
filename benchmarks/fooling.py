"""A network whose visualizations deceive, and what an audit in the layer below says of them.

    python benchmarks/fooling.py --out benchmarks/results

The fooling circuit of Geirhos et al. ("Don't trust your eyes", 2023, https://arxiv.org/abs/2306.04719), on the class
scores of DenseNet. A classifier E tells natural inputs, 0, from those that an optimizer made, 1. For natural inputs the
circuit returns the scores, for others something else, and pictures are optimal for that:

- `another class`: the score of another class;
- `a drawing`: how close the input is to the drawing of a numeral, one for each class.

Both are compared with the network as it is, `honest`. Each class is visualized in each of the three (pixels, k = 2,
rounded kinks below the circuit). A class means what its score does on natural images: its *readout* is the linear
function of the layer below, which the circuit does not touch, that fits the score there (least squares, training
images). Readouts are a network as well, in which the same picture is audited and inverted.

`fooling`: a row per picture. The stationarity of "this is that class", its p-value and what is said of it, against the
network that made the picture and against the readouts; how well the readout predicts the score; the class that the
readouts find by inversion, with its verdict; and the angle between that answer and the claim, or what was visualized in
truth. All angles on the critical space of scores, that is without their common shift.

`fooling-natural`: for natural images, how many of them E takes for made; the largest change of a score, how many keep
their class, and the accuracies.

Images come from ../shared. Writes docs/images/fooling.png.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from harness import pairs, realizations, results
from harness.tables import Table
from PIL import Image, ImageDraw, ImageFont

import jifv
from jifv.audit import audit_claim
from jifv.experiments.pictures import judgement, verdict
from jifv.jacobian import linearize_batch
from jifv.models import Network, load
from jifv.models.training.cifar10 import read_jpeg_pack

SHIFT = 3
"""Classes from a class to the one whose picture it shows."""
NATURAL, MADE = 2.0, 4.0
"""`colour_noise` up to which an input is natural, and from which it is made."""
BIAS, BARRIER = 128.0, 1024.0
"""Scores lie between -BIAS and BARRIER - BIAS. So both ReLUs of the circuit are open, but for the one that E shuts."""
LIKENESS, CLOSE = 10.0, 0.005
"""Largest likeness to a drawing, and the mean square of the difference at which half of it is left."""
FITTED = 1000
"""Training images for the readouts."""
SETS = {"JPEG": "data/cifar10_jpeg_test.npz", "lossless": "data/cifar10_lossless.npz"}
"""CIFAR-10's test images, all of them compressed, a tenth as they were."""
COLUMNS = ("kind", "class", "stationarity", "p-value", "said", "stationarity below", "p-value below", "said below")
COLUMNS += ("score", "readout", "found", "verdict", "left", "to the claim", "to what is shown")
PICTURE = "docs/images/fooling.png"
KEY = jax.random.key(0)


def colour_noise(x):
    """Fine noise of the colours over the contrast, (H, W, 3) to a number: below 1.5 for photographs, 36 for noise.

    In a photograph neighbouring pixels hardly differ in colour, much as they may in brightness. An optimizer leaves
    the noise that it began with. It takes two convolutions and squares.
    """
    colour = x[..., :2] - x[..., 1:]
    middle = colour[1:-1, 1:-1]
    fine = 4 * middle - colour[:-2, 1:-1] - colour[2:, 1:-1] - colour[1:-1, :-2] - colour[1:-1, 2:]
    return jnp.mean(fine**2) / (jnp.var(x) + 1e-4)  # not 0 for an image of one colour


def circuit(scores, other, x):
    """Return the scores for a natural input, `other` for one that was made: of two ReLUs E shuts one."""
    made = jnp.clip((colour_noise(x) - NATURAL) / (MADE - NATURAL), 0, 1)  # without a gradient at 0 and at 1
    natural = jax.nn.relu(scores + BIAS - BARRIER * made)
    return natural + jax.nn.relu(other + BIAS - BARRIER * (1 - made)) - BIAS


def likeness(x, drawings):
    """How close an input is to each drawing. The finest noise does not count, so that it stays, and with it E."""
    close = jnp.mean((_halved(x) - _halved(drawings)) ** 2, axis=(1, 2, 3)) / CLOSE
    return LIKENESS / (1 + close)


def _halved(images):
    *batch, height, width, colours = images.shape
    return images.reshape(*batch, height // 2, 2, width // 2, 2, colours).mean((-4, -2))


def numerals(count, side):
    """Drawings of 0, 1, …, (count, side, side, 3)."""
    font, sheets = ImageFont.load_default(0.9 * side), []
    for index in range(count):
        sheet = Image.new("RGB", (side, side), (60, 90, 160))
        ImageDraw.Draw(sheet).text((side / 2, side / 2), str(index), (230, 230, 210), font, anchor="mm")
        sheets.append(np.asarray(sheet, np.float32) / 255)
    return np.stack(sheets)


def fitted(activations, scores):
    """W and b with which W a + b is closest to the scores."""
    rows = np.hstack([activations, np.ones((len(activations), 1))]).astype(float)
    found = np.linalg.lstsq(rows, scores.astype(float))[0].astype(np.float32)
    return found[:-1].T, found[-1]


class Networks(NamedTuple):
    """The scores of DenseNet, and their readouts in the layer below.

    Attributes:
        scores: The network.
        rounded: Its scores with rounded kinks.
        readouts: Those of the readouts.
        phi: Parametrization.
        drawings: What is shown in place of each class.
    """

    scores: Network
    rounded: Callable
    readouts: Callable
    phi: jifv.Parametrization
    drawings: np.ndarray

    @classmethod
    def load(cls):
        """Load the network and fit the readouts."""
        network, below = load("densenet"), load("densenet", layer="pool")
        images, _ = natural_images("data/cifar10_jpeg_train.npz", FITTED)
        weights, bias = fitted(outputs(below.apply, images), outputs(network.apply, images))
        typical = network.typical_inputs()
        return cls(
            network,
            jifv.smooth(network.apply, typical),
            jifv.smooth(lambda x: weights @ below.apply(x) + bias, typical),
            jifv.pixels(network.input_shape, std=0.5),
            numerals(network.features, network.input_shape[0]),
        )

    def circuits(self):
        """What each network makes of the scores of x."""
        return {
            "honest": lambda scores, x: scores,
            "another class": lambda scores, x: circuit(scores, jnp.roll(scores, -SHIFT), x),
            "a drawing": lambda scores, x: circuit(scores, likeness(x, self.drawings), x),
        }


def natural_images(path, count=None):
    """Images and labels of CIFAR-10 in ../shared; of lossless ones, the test images."""
    if "jpeg" in path:
        images, labels = read_jpeg_pack(realizations.SHARED / path)[:2]
    else:
        with np.load(realizations.SHARED / path) as file:
            images, labels = file["test_images"], file["test_labels"]
    return images[:count] / np.float32(255), labels[:count]


def outputs(function, images):
    """A function of each image."""
    return np.asarray(jax.jit(lambda images: jax.lax.map(function, images, batch_size=50))(images))


def visualized(networks, fooled, steps):
    """A response function, and a picture of each class."""
    f = jifv.compose(networks.phi.apply, lambda x: fooled(networks.rounded(x), x), jifv.identity)
    targets = jnp.eye(networks.scores.features)
    start = jax.vmap(networks.phi.init)(jax.random.split(KEY, len(targets)))
    return f, jifv.visualize(f, start, targets, settings=jifv.Settings(adam_steps=steps), progress=True)


def audited(f, made, classes):
    """The response to each picture, what inversion finds, and what an audit says of the claim."""
    response, jacobian = linearize_batch(f, made.parameters)
    audit = audit_claim(KEY, response, jacobian, made.objectives, significance=made.significance)
    basis = realizations.basis(["ones"], len(classes))
    found = jifv.invert(response, jacobian, significance=made.significance, basis=basis)
    numbers = zip(audit.stationarity.tolist(), audit.p_value.tolist(), audit.on_dead.tolist(), strict=True)
    said = [
        (rest, p_value, judgement(name, stationarity=rest, p_value=p_value, on_dead=dead).kind)
        for name, (rest, p_value, dead) in zip(classes, numbers, strict=True)
    ]
    return np.asarray(response), found, said


def rows_of(kind, networks, f, made):
    """What is said of each picture of one kind."""
    classes = networks.scores.feature_names
    response, _, above = audited(f, made, classes)
    readouts = jifv.compose(networks.phi.apply, networks.readouts, jifv.identity)
    below, found, said = audited(readouts, made, classes)
    answers, basis = np.asarray(found.objective), realizations.basis(["ones"], len(classes))
    cosines = np.sum(answers * below, axis=1) / np.linalg.norm(below, axis=1)
    claims = np.asarray(made.objectives)
    shown = np.roll(claims, -SHIFT, axis=0) if kind == "another class" else claims
    angles = [np.asarray(jifv.angle(answers, each, basis=basis)).tolist() for each in (claims, shown)]
    for index, name in enumerate(classes):
        rest, cosine = float(found.stationarity[index]), float(cosines[index])
        words = verdict(answers[index], classes, stationarity=rest, cosine=cosine, significance=made.significance)
        scores = float(response[index, index]), float(below[index, index])
        largest = classes[int(np.argmax(answers[index]))]
        truth = None if kind == "a drawing" else angles[1][index]
        yield kind, name, *above[index], *said[index], *scores, largest, words.kind, rest, angles[0][index], truth


def natural(networks, options):
    """The table of natural images."""
    columns = ("images", "count", "taken for made", "colour noise", "circuit", "scored")
    columns += ("change", "same", "honest", "fooled")
    table = Table("fooling-natural", columns, threads=options.threads, out=options.out)
    for name, path in SETS.items():
        images, labels = natural_images(path)
        noise = outputs(colour_noise, images)
        images, labels = images[: options.images], labels[: options.images]
        scores = outputs(networks.scores.apply, images)
        for kind, fooled in networks.circuits().items():
            if kind == "honest":
                continue
            there = np.asarray(jax.jit(jax.vmap(fooled))(scores, images))
            classes = [np.argmax(each, axis=1) for each in (scores, there)]
            numbers = (np.max(np.abs(there - scores)), np.mean(classes[0] == classes[1]))
            numbers += tuple(np.mean(each == labels) for each in classes)
            about = name, len(noise), int(np.sum(noise > NATURAL)), float(noise.max()), kind, len(images)
            table.row(*about, *map(float, numbers))


def draw(pictures, classes):
    """Write the pictures, a row for each kind."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(pictures), len(classes), figsize=(7.2, 2.5), layout="constrained")
    for line, (kind, images) in zip(axes, pictures.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(kind, fontsize=7)
    for axis, name in zip(axes[0], classes, strict=True):
        axis.set_title(name, fontsize=7)
    figure.savefig(results.ROOT / PICTURE, dpi=150)


def main():
    parser = pairs.parser(__doc__)
    parser.add_argument("--steps", type=int, default=100, help="of Adam")
    parser.add_argument("--images", type=int, default=500, help="of each kind of natural images that are scored")
    options = parser.parse_args()
    networks = Networks.load()
    natural(networks, options)
    result, pictures = results.measured_here("fooling", threads=options.threads), {}
    for kind, fooled in networks.circuits().items():
        f, made = visualized(networks, fooled, options.steps)
        pictures[kind] = np.asarray(jax.vmap(networks.phi.apply)(made.parameters))
        result.rows.extend(dict(zip(COLUMNS, row, strict=True)) for row in rows_of(kind, networks, f, made))
        print("\n".join(map(str, result.rows[-len(pictures[kind]) :])), flush=True)
    draw(pictures, networks.scores.feature_names)
    if options.out:
        print(results.write(result._replace(pictures=[PICTURE]), options.out))


if __name__ == "__main__":
    main()
