"""Audit claims and pictures: how well honest ones are told from false ones.

    python benchmarks/audit.py --keep runs/realizations --out benchmarks/results

Realizations of the first 32 filters of DenseNet's dense3, with rounded kinks, and what people do to pictures. Claims
("this picture visualizes direction v"): honest ones against the objective of another picture, a picture of another
network (the one that never saw a deer), one that was stopped after a tenth of the steps, one with a grey square of 8×8
pixels, one stored as JPEG of quality 75. AUROC is the chance that an honest picture ranks
before a false one: by the stationarity of the claim, by its p-value among other claims, and by two baselines, the
response of the claim's largest feature relative to the largest response, and cos(r, v). `called` is the share that
`jifv.experiments.pictures.judgement` calls false.

Pictures ("is it optimal for anything?"): realizations against CIFAR-10's test images, uniform noise and noise with the
spectrum of natural images. `called` is the share that `jifv.experiments.pictures.verdict` calls optimal for nothing,
beside the AUROC of each number that it may go by. Test images come from ../shared.

Pictures are kept in the folder `--keep`, a file for each kind, and made only where that is missing.
"""

import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from harness import pairs, realizations
from harness.tables import Table
from PIL import Image

import jifv
from jifv.audit import audit_claim
from jifv.experiments.pictures import judgement, verdict
from jifv.models import load
from jifv.models.training.cifar10 import read_jpeg_pack

_ROWS = ("parameters", "objectives", "response", "jacobian")
BASE, SHORT = "dense3-32", "dense3-32-short"
KEY = jax.random.key(0)


def auroc(good, bad):
    """The chance that one of `good` is above one of `bad`, ties half."""
    good, bad = np.asarray(good)[:, None], np.asarray(bad)[None]
    return float(np.mean((good > bad) + 0.5 * (good == bad)))


def as_file(images, kind, **options):
    """Store images and read them again."""

    def one(image):
        buffer = io.BytesIO()
        Image.fromarray(np.round(255 * image).astype(np.uint8)).save(buffer, kind, **options)
        return np.asarray(Image.open(buffer), np.float32) / 255

    return np.stack([one(image) for image in np.asarray(images)])


def retouched(images):
    """A grey square of 8×8 pixels somewhere."""
    rng, images = np.random.default_rng(0), np.array(images)
    for image in images:
        row, column = rng.integers(0, 25, size=2)
        image[row : row + 8, column : column + 8] = 0.5
    return images


class Pictures:
    """Responses and Jacobians of pictures, kept in files."""

    def __init__(self, folder):
        self.folder, self.made = Path(folder), realizations.realizations(BASE, folder)
        self.phi = jifv.pixels((32, 32, 3))
        self.problem = realizations.problem(self.made.setting)
        self.compressed = jax.jit(self._compressed, static_argnums=0)

    @staticmethod
    def _compressed(f, p):
        response, jacobian = jifv.linearize(f, p)
        return response, jifv.compress(jacobian)

    def linearized(self, name, images, f=None):
        """Response and compressed Jacobian of each image."""
        path = self.folder / f"pictures-{name}.npz"
        if path.exists():
            with np.load(path) as file:
                return file["response"], file["jacobian"]
        # No pixel at the end of the range, where the sigmoid is flat.
        images = np.clip(images, 0.5 / 255, 1 - 0.5 / 255).astype(np.float32)
        both = [self.compressed(f or self.problem.f, self.phi.invert(jnp.asarray(image))) for image in images]
        response, jacobian = (np.stack(each) for each in zip(*both, strict=True))
        np.savez(path, response=response, jacobian=jacobian)
        print(f"{name}: {len(images)} pictures", flush=True)
        return response, jacobian

    def other_network(self):
        """The response function of the network that never saw a deer, for the same features."""
        network, aggregation = load("densenet-no-deer", layer="dense3"), jifv.first(32, jifv.max_mean())
        rounded = jifv.smooth(lambda x: aggregation(network.apply(x)), network.typical_inputs(), 0.1)
        return jifv.compose(self.phi.apply, rounded, jifv.identity)


def natural_noise(shape, count):
    """Noise whose amplitudes fall with the frequency, at the contrast of photographs."""
    phi = jifv.fourier(shape, decay=1.0, std=1.0)
    images = np.asarray(jax.vmap(lambda key: phi.apply(phi.init(key)))(jax.random.split(jax.random.key(1), count)))
    return np.clip(0.5 + (images - images.mean()) * 0.25 / images.std(), 0, 1)


def claims(pictures, count, table):
    """The rows of claims."""
    made = pictures.made._replace(**{name: getattr(pictures.made, name)[:count] for name in _ROWS})
    targets = made.objectives
    images = np.asarray(jax.vmap(pictures.phi.apply)(jnp.asarray(made.parameters)))
    short = realizations.realizations(SHORT, pictures.folder)
    own = (made.response, made.jacobian)
    kinds = {
        "honest": (*own, targets),
        "another objective": (*own, np.roll(targets, 1, axis=0)),
        "another network": (*pictures.linearized("other", images, pictures.other_network()), targets),
        "a tenth of the steps": (short.response, short.jacobian, short.objectives),
        "retouched": (*pictures.linearized("retouched", retouched(images)), targets),
        "JPEG 75": (*pictures.linearized("jpeg", as_file(images, "JPEG", quality=75)), targets),
    }
    measured, called = {}, {}
    for kind, (response, jacobian, claimed) in kinds.items():
        found = audit_claim(KEY, response, jacobian, claimed, significance=made.setting.experiment.significance)
        largest = np.take_along_axis(response, np.argmax(claimed, axis=1)[:, None], axis=1)[:, 0]
        measured[kind] = {
            "stationarity": -np.asarray(found.stationarity),
            "p": -np.asarray(found.p_value),
            "response": largest / np.max(response, axis=1),
            "cosine": np.sum(response * claimed, axis=1) / np.linalg.norm(response, axis=1),
        }
        numbers = zip(found.stationarity.tolist(), found.p_value.tolist(), found.on_dead.tolist(), strict=True)
        said = [judgement("", stationarity=rest, p_value=p_value, on_dead=dead) for rest, p_value, dead in numbers]
        called[kind] = float(np.mean([each.kind == "false" for each in said]))
    for kind, scores in measured.items():
        ranks = {name: auroc(measured["honest"][name], score) for name, score in scores.items()}
        rest, p_value = (float(-np.median(scores[name])) for name in ("stationarity", "p"))
        table.row(
            kind, len(scores["p"]), rest, p_value, *ranks.values(), float(np.mean(-scores["p"] > 0.05)), called[kind]
        )


def photographs(pictures, count, table):
    """The rows of pictures."""
    made = pictures.made
    shape = made.parameters.shape[1:]
    experiment = made.setting.experiment
    options = {"significance": experiment.significance, "dead_tolerance": experiment.dead_tolerance}
    tests = read_jpeg_pack(realizations.SHARED / "data" / "cifar10_jpeg_test.npz").images[:count] / np.float32(255)
    noise = np.random.default_rng(0).uniform(size=(count, *shape)).astype(np.float32)
    kinds = {
        "realizations": (made.response, made.jacobian),
        "CIFAR-10": pictures.linearized("cifar", tests),
        "noise": pictures.linearized("noise", noise),
        "natural noise": pictures.linearized("natural", natural_noise(shape, count)),
    }
    measured = {}
    for kind, (response, jacobian) in kinds.items():
        found = jifv.invert(response, jacobian, **options)
        objective, rest = np.asarray(found.objective), np.asarray(found.stationarity)
        cosine = np.sum(response * objective, axis=1) / np.linalg.norm(response, axis=1)
        names = [f"filter {index}" for index in range(response.shape[1])]
        aim = experiment.significance
        said = [
            verdict(v, names, stationarity=float(left), cosine=float(c), significance=aim)
            for v, left, c in zip(objective, rest, cosine, strict=True)
        ]
        if kind == "CIFAR-10":
            print(said[0].text())
        measured[kind] = {"stationarity": -rest, "cosine": cosine, "gap": np.asarray(found.gap)}
        measured[kind] |= {"negative": -np.sum(np.minimum(objective, 0) ** 2, axis=1)}
        measured[kind]["called"] = [each.kind == "nothing" for each in said]
    for kind, scores in measured.items():
        called = float(np.mean(scores.pop("called")))
        ranks = {name: auroc(measured["realizations"][name], score) for name, score in scores.items()}
        table.row(kind, len(scores["gap"]), float(-np.median(scores["stationarity"])), *ranks.values(), called)


def main():
    parser = pairs.parser(__doc__)
    parser.add_argument("--keep", required=True, metavar="FOLDER", help="of the realizations")
    parser.add_argument("--samples", type=int, default=32, help="of each kind of claims")
    parser.add_argument("--pictures", type=int, default=48, help="of each kind that is optimal for nothing")
    options = parser.parse_args()
    pictures = Pictures(options.keep)
    columns = (
        "kind",
        "pictures",
        "stationarity",
        "p-value",
        "by stationarity",
        "by p-value",
        "by response",
        "by cosine",
    )
    how = {"threads": options.threads, "out": options.out}
    claims(pictures, options.samples, Table("audit-claims", (*columns, "p above 0.05", "called"), **how))
    columns = ("kind", "pictures", "stationarity", "by stationarity", "by cosine", "by gap", "by negative", "called")
    photographs(pictures, options.pictures, Table("audit-pictures", columns, **how))


if __name__ == "__main__":
    main()
