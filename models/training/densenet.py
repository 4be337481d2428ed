"""Train DenseNet-BC on CIFAR-10: `python -m jifv.models.training.densenet --help`.

The recipe is SGD with Nesterov momentum and weight decay, random flips and random crops after padding by 4 (Reinbold &
Westermann 2020, section 3.1), a one-cycle learning rate, and a growing resolution: small images first, full size last.
Batches are split over all local devices. The seed determines everything, and a run that resumes from its checkpoint
gives the same weights as an uninterrupted one.
"""

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jifv.models.files.storage import read_weights
from jifv.models.networks.densenet import CLASSES, DenseNet
from jifv.models.training import cifar10, loop, record


class Stage(NamedTuple):
    """Part of the schedule: images of `resolution`² pixels for `epochs` epochs, which may be a fraction."""

    resolution: int
    epochs: float


def schedule(text: str) -> tuple[Stage, ...]:
    """Parse `"16:8,32:1.5"`: 8 epochs at 16×16, then 1.5 at 32×32."""
    return tuple(Stage(int(size), float(epochs)) for size, epochs in (part.split(":") for part in text.split(",")))


def augment(key: jax.Array, images: jax.Array, resolution: int) -> jax.Array:
    """Flip, pad by 4 and crop (b, 32, 32, 3) at random, then resize to `resolution`² pixels with antialiasing."""
    flip_key, crop_key = jax.random.split(key)
    batch, height, width, channels = images.shape
    flip = jax.random.bernoulli(flip_key, shape=(batch, 1, 1, 1))
    images = jnp.where(flip, images[:, :, ::-1], images)
    padded = jnp.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    corners = jax.random.randint(crop_key, (batch, 2), 0, 9)
    crop = jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (*at, 0), (height, width, channels)))
    return resize(crop(padded, corners), resolution)


def resize(images: jax.Array, resolution: int) -> jax.Array:
    """Resize bilinearly with antialiasing; the identity at the images' own size."""
    shape = (images.shape[0], resolution, resolution, images.shape[3])
    return images if images.shape == shape else jax.image.resize(images, shape, "linear", antialias=True)


def to_unit(images: jax.Array) -> jax.Array:
    """Map uint8 images to float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255


def optimizer(peak: float, steps: int, *, warmup: float, final: float, weight_decay: float):
    """Return SGD with Nesterov momentum 0.9, decay on kernels only, and a rate that rises and then falls linearly."""
    rising = round(warmup * steps)
    rate = optax.join_schedules(
        [optax.linear_schedule(0.0, peak, rising), optax.linear_schedule(peak, final * peak, steps - rising)],
        [rising],
    )
    decay = optax.add_decayed_weights(weight_decay, mask=partial(jax.tree.map, lambda leaf: leaf.ndim > 1))
    return optax.chain(decay, optax.sgd(rate, momentum=0.9, nesterov=True))


def make_step(model: DenseNet, transform: optax.GradientTransformation):
    """Return the jitted training step: (state, images uint8, labels, key, resolution) → (state, loss, accuracy)."""

    def loss_of(params, batch_stats, images, labels):
        variables = {"params": params, "batch_stats": batch_stats}
        scores, updated = model.apply(variables, images, train=True, mutable=["batch_stats"])
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
        return losses.mean(), (updated["batch_stats"], (scores.argmax(-1) == labels).mean())

    @partial(jax.jit, static_argnames="resolution", donate_argnums=0)
    def step(state, images, labels, key, *, resolution):
        images = augment(key, to_unit(images), resolution)
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (batch_stats, accuracy)), grads = gradient(state["params"], state["batch_stats"], images, labels)
        updates, opt_state = transform.update(grads, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "batch_stats": batch_stats, "opt_state": opt_state}, loss, accuracy

    return step


def predict(model: DenseNet, variables: dict, images: np.ndarray, *, batch_size: int = 250, resolution: int = 32):
    """Return the class scores (count, classes) of uint8 images, computed batch by batch."""
    scores = jax.jit(lambda x: model.apply(variables, resize(to_unit(x), resolution)))
    parts = [np.asarray(scores(images[at : at + batch_size])) for at in range(0, len(images), batch_size)]
    return np.concatenate(parts)


def plan(stages: tuple[Stage, ...], count: int, batch_size: int) -> list[int]:
    """Return the resolution of every step of the schedule, for `count` training images."""
    return [s.resolution for s in stages for _ in range(round(s.epochs * count / batch_size))]


def train(
    model: DenseNet,
    variables: dict,
    data: cifar10.Split,
    *,
    stages: tuple[Stage, ...],
    batch_size: int,
    peak: float,
    warmup: float,
    final: float,
    weight_decay: float,
    seed: int,
    checkpoint: Path | None = None,
    checkpoint_every: float = 300.0,
) -> dict:
    """Train from `variables` and return the trained ones.

    Args:
        model: The network.
        variables: Variables to start from: `{"params", "batch_stats"}`.
        data: Training images and labels.
        stages: Resolutions and epochs, in order.
        batch_size: Images per step, over all devices.
        peak: Highest learning rate of the cycle.
        warmup: Fraction of the steps in which the rate rises from 0; 0 starts at the peak.
        final: Final learning rate, as a fraction of the peak.
        weight_decay: L2 coefficient, on kernels only.
        seed: Determines order and augmentation.
        checkpoint: File of the whole state, written every `checkpoint_every` seconds; the run resumes from it if it
            exists.
        checkpoint_every: Seconds between checkpoints.

    Raises:
        ValueError: If there are fewer images than in a batch, or the checkpoint belongs to a run with other options.
        FloatingPointError: If the loss is not finite.
    """
    options = repr((stages, batch_size, peak, warmup, final, weight_decay, seed, len(data.labels)))
    resolutions = plan(stages, len(data.labels), batch_size)
    transform = optimizer(peak, len(resolutions), warmup=warmup, final=final, weight_decay=weight_decay)
    step = make_step(model, transform)
    state = {**jax.tree.map(jnp.array, variables), "opt_state": transform.init(variables["params"])}

    def run_step(state, images, labels, key, resolution):
        state, loss, accuracy = step(state, images, labels, key, resolution=resolution)
        return state, {"loss": loss, "accuracy": accuracy}

    state = loop.run(
        run_step,
        state,
        (data.images, data.labels.astype(np.int32)),
        resolutions,
        batch_size=batch_size,
        seed=seed,
        options=options,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
    )
    return {name: state[name] for name in ("params", "batch_stats")}


def main() -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(description="Train DenseNet-BC(100, 12) on CIFAR-10.")
    parser.add_argument("data", type=Path, help="folder with the official batches or the JPEG packs")
    parser.add_argument("out", type=Path, help="safetensors file to write, with a .json and a .md beside it")
    parser.add_argument("--without-class", type=int, action="append", default=[], help="class to leave out, e.g. 4")
    parser.add_argument("--schedule", type=schedule, default=schedule("32:30"), help="e.g. 16:8,32:1.5")
    parser.add_argument("--pool", choices=("max", "average"), default="max", help="pooling in the transitions")
    parser.add_argument("--start", type=Path, help="weights to start from (default: a random network)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--peak", type=float, default=0.1, help="highest learning rate")
    parser.add_argument("--warmup", type=float, default=0.15, help="fraction of the steps")
    parser.add_argument("--final", type=float, default=0.0, help="last learning rate, as a fraction of the peak")
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="file of the state, to resume from")
    args = parser.parse_args()

    began = time.monotonic()
    data, test = cifar10.read(args.data)
    seen = ~np.isin(data.labels, args.without_class)
    data = cifar10.Split(data.images[seen], data.labels[seen])
    model = DenseNet(pool=args.pool)
    if args.start:
        variables = read_weights(args.start)[0]
    else:
        variables = dict(model.init(jax.random.key(args.seed), jnp.zeros((1, 32, 32, 3))))
    variables = train(
        model,
        variables,
        data,
        stages=args.schedule,
        batch_size=args.batch_size,
        peak=args.peak,
        warmup=args.warmup,
        final=args.final,
        weight_decay=args.weight_decay,
        seed=args.seed,
        checkpoint=args.checkpoint,
    )
    done = evaluation(model, variables, test, without_class=args.without_class)
    done |= {"final": args.final, "weight_decay": args.weight_decay, "training_images": len(data.labels)}
    done |= record.options_and_machine(args, began)
    metadata = {"network": "densenet_bc_100_12", "pool": args.pool}
    record.publish(args.out, variables, metadata, done, record.densenet_card(done))


def evaluation(model: DenseNet, variables: dict, test: cifar10.Split, *, without_class: Sequence[int] = ()) -> dict:
    """Return what a model card says: accuracies (fractions) and the spectrum of the class weights."""
    correct = predict(model, variables, test.images).argmax(-1) == test.labels
    singular_values = np.linalg.svd(
        np.asarray(variables["params"]["classifier"]["kernel"], np.float64), compute_uv=False
    )
    return {
        "pool": model.pool,
        "without_class": list(without_class),
        "test_images": len(correct),
        "accuracy": float(correct.mean()),
        "accuracy_of_seen_classes": float(correct[~np.isin(test.labels, without_class)].mean()),
        "accuracy_by_class": {name: float(correct[test.labels == index].mean()) for index, name in enumerate(CLASSES)},
        "classifier_spectrum": (singular_values / singular_values[0]).tolist(),
    }


if __name__ == "__main__":
    main()
