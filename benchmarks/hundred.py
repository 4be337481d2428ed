"""A hundred class scores, inverted on the critical space that is found, with kinks and with rounded ones.

    python benchmarks/hundred.py --out benchmarks/results

No network with so many classes ships, so one is made: DenseNet-BC(100, 12) as it ships, with another last layer. Ten
clusters (k-means) of the pooled features of each class of CIFAR-10 are its classes; multinomial regression from zero
fits it to them, which leaves the columns of weights with sum zero, as any training by softmax does. Training images
come from ../shared. A row is a median over samples that share objectives, starts and steps; angles are measured on V,
`worst` is the largest. `V` lists dimension and gap of every space that `jifv.critical_spaces` returns.
"""

import tempfile
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from harness import pairs, realizations
from harness.tables import Table
from scipy.cluster.vq import kmeans2

import jifv
from jifv.jacobian import linearize_batch
from jifv.models import listings, load, read_weights, write_weights
from jifv.models.training.cifar10 import read_jpeg_pack

CLUSTERS = 10
COLUMNS = ("smoothing", "samples", "steps", "accuracy", "V", "prediction", "90 %", "worst", "response", "gap")


def pooled(images, size=250):
    """What reaches the last layer, for every image."""
    network = load("densenet", layer="pool")
    apply = jax.jit(jax.vmap(network.apply))
    chunks = [apply(images[first : first + size]) for first in range(0, len(images), size)]
    return np.concatenate([np.asarray(chunk).reshape(len(chunk), -1) for chunk in chunks])


def clusters(features, labels):
    """A class for each image: ten of every label."""
    classes = np.empty(len(labels), int)
    for label in range(10):
        own = labels == label
        found = kmeans2(features[own].astype(np.float64), CLUSTERS, seed=label, minit="++")[1]
        classes[own] = CLUSTERS * label + found
    return classes


def fitted(features, classes, steps=500, decay=1e-4):
    """Weights and biases of the last layer, and their accuracy on the images they were fitted to."""
    spread = features.std(axis=0) + 1e-6
    inputs = jnp.asarray((features - features.mean(axis=0)) / spread)
    optimizer = optax.adam(0.05)

    def loss(layer):
        scores = inputs @ layer["kernel"] + layer["bias"]
        entropy = optax.softmax_cross_entropy_with_integer_labels(scores, classes).mean()
        return entropy + decay * jnp.sum(layer["kernel"] ** 2), scores

    @jax.jit
    def step(layer, state):
        gradient, scores = jax.grad(loss, has_aux=True)(layer)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(layer, updates), state, scores

    count = 10 * CLUSTERS
    layer = {"kernel": jnp.zeros((features.shape[1], count)), "bias": jnp.zeros(count)}
    state = optimizer.init(layer)
    for _ in range(steps):
        layer, state, scores = step(layer, state)
    # Adam divides each gradient by its own size, so that their sum need not stay zero; a common shift means nothing.
    layer = jax.tree.map(lambda leaf: leaf - leaf.mean(axis=-1, keepdims=True), layer)
    kernel = np.asarray(layer["kernel"]) / spread[:, None]
    bias = np.asarray(layer["bias"]) - features.mean(axis=0) @ kernel
    return {"kernel": kernel, "bias": bias}, float(np.mean(np.argmax(scores, axis=1) == classes))


def inverted(network, smoothing, samples, steps):
    """Spaces, and medians over the samples."""
    phi = jifv.pixels(network.input_shape, std=0.01)
    function = network.apply
    if smoothing:
        function = jifv.smooth(network.apply, network.typical_inputs(), smoothing)
    f = jifv.compose(phi.apply, function, jifv.identity)
    targets = jifv.sparse_objectives(jax.random.key(0), samples, features=10 * CLUSTERS)
    start = jax.vmap(phi.init)(jax.random.split(jax.random.key(1), samples))
    settings = jifv.Settings(adam_steps=steps, anneal=0.7)
    made = jifv.visualize(f, start, targets, settings=settings, progress=True)
    jacobians = [
        jifv.compress(linearize_batch(f, made.parameters[row : row + 1]).jacobian) for row in range(len(start))
    ]
    jacobian = jnp.concatenate(jacobians)
    spaces = jifv.critical_spaces(jacobian)
    basis = spaces[0].basis
    found = jifv.invert(made.response, jacobian, significance=made.significance, basis=basis)
    prediction = np.asarray(jifv.angle(found.objective, targets, basis=basis))
    response = np.asarray(jifv.angle(made.response, targets, basis=basis))
    said = ", ".join(f"{space.basis.shape[1]} ({space.gap:.3g})" for space in spaces)
    return said, *map(float, (*np.quantile(prediction, (0.5, 0.9, 1)), np.median(response), np.median(found.gap)))


def main():
    parser = pairs.parser(__doc__, rounds=1)
    parser.add_argument("--images", type=int, default=10_000, help="of the training set, for the last layer")
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--steps", type=int, nargs="+", default=[400], help="of Adam")
    options = parser.parse_args()
    split = read_jpeg_pack(realizations.SHARED / "data" / "cifar10_jpeg_train.npz")
    features = pooled(split.images[: options.images].astype(np.float32) / 255)
    layer, accuracy = fitted(features, clusters(features, split.labels[: options.images]))
    table = Table("hundred", COLUMNS, threads=options.threads, out=options.out)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hundred.safetensors"
        (shipped,) = (listing.path for listing in listings() if listing.name == "densenet")
        variables, metadata = read_weights(shipped)
        variables["params"]["classifier"] = layer
        write_weights(path, variables, {name: text for name, text in metadata.items() if name != "classes"})
        network = load(weights=path)
        for smoothing, steps in product((0.0, 0.1), options.steps):
            found = inverted(network, smoothing, options.samples, steps)
            table.row(smoothing, options.samples, steps, accuracy, *found)


if __name__ == "__main__":
    main()
