"""Audit claims and pictures: how well honest ones are told from false ones.

    python benchmarks/audit.py --keep runs/realizations --out benchmarks/results
    python benchmarks/audit.py --keep runs/realizations --parts photographs --out benchmarks/results

Realizations of the first 32 filters of DenseNet's dense3, with rounded kinks, and what people do to pictures. Claims
("this picture visualizes direction v"): honest ones against the objective of another picture, a picture of another
network (the one that never saw a deer), one that was stopped after a tenth of the steps, one with a grey square of 8×8
pixels, one stored as JPEG of quality 75. AUROC is the chance that an honest picture ranks
before a false one: by the stationarity of the claim, by its p-value among other claims, and by two baselines, the
response of the claim's largest feature relative to the largest response, and cos(r, v). `called` is the share that
`jifv.experiments.pictures.judgement` calls false.

Pictures ("is it optimal for anything?"): realizations against CIFAR-10's test images, uniform noise and noise with the
spectrum of natural images. `called` is the share that `jifv.experiments.pictures.verdict` calls optimal for nothing,
beside the AUROC of each number that it may go by; "specific" is the stationarity over that of the same objective at
random inputs. Test images come from ../shared.

Photographs: the same for all 512 filters of GoogLeNet's inception4c at 112×112 and 224×224, with windows of the
photographs in ../shared. They take BVLC's weights, and most of the time, so they are a part of their own.

Pictures are kept in the folder `--keep`, a file for each kind, and made only where that is missing, so that a run that
was stopped goes on.
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
from jifv._invert.stationary import gradient_left
from jifv.audit import audit_claim
from jifv.experiments.pictures import judgement, verdict
from jifv.models import fit_picture, load
from jifv.models.files.pictures import read_picture
from jifv.models.training.cifar10 import read_jpeg_pack

_ROWS = ("parameters", "objectives", "response", "jacobian")
BASE, SHORT = "dense3-32", "dense3-32-short"
KEY = jax.random.key(0)
RANDOM = 4
"""Random inputs."""


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
    """Responses and Jacobians of pictures in the setting of some realizations, kept in files."""

    def __init__(self, folder, base):
        self.folder, self.base, self.made = Path(folder), base, realizations.realizations(base, folder)
        self.experiment, self.shape = self.made.setting.experiment, self.made.parameters.shape[1:]
        self.phi = jifv.pixels(self.shape, std=self.experiment.std)
        self.problem = realizations.problem(self.made.setting)
        self.compressed = jax.jit(self._compressed, static_argnums=0)
        self.other = load("densenet-no-deer", layer="dense3")

    @staticmethod
    def _compressed(f, p):
        response, jacobian = jifv.linearize(f, p)
        return response, jifv.compress(jacobian)

    def linearized(self, name, images, f=None):
        """Response and compressed Jacobian of each image."""

        def compute():
            # No pixel at the end of the range, where the sigmoid is flat.
            inside = np.clip(images, 0.5 / 255, 1 - 0.5 / 255).astype(np.float32)
            both = [self.compressed(f or self.problem.f, self.phi.invert(jnp.asarray(image))) for image in inside]
            response, jacobian = (np.stack(each) for each in zip(*both, strict=True))
            print(f"{name}: {len(images)} pictures", flush=True)
            return {"response": response, "jacobian": jacobian}

        of = f"{realizations.identity(self.made.setting)} {self.other.digest if f else ''} {len(images)}"
        found = realizations.kept(self.folder / f"{self.base}-{name}.npz", of, compute)
        return found["response"], found["jacobian"]

    def other_network(self):
        """The response function of the network that never saw a deer, for the same features."""
        network, aggregation = self.other, jifv.first(32, jifv.max_mean())
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


def others(pictures, natural, count):
    """Realizations and what is none: natural images by their name, noise, and noise with the spectrum of images."""
    made, shape = pictures.made, pictures.shape
    noise = np.random.default_rng(0).uniform(size=(count, *shape)).astype(np.float32)
    images = natural | {"noise": noise, "natural noise": natural_noise(shape, count)}
    linearized = {name: pictures.linearized(name.replace(" ", "-").lower(), each) for name, each in images.items()}
    return {"realizations": (made.response, made.jacobian)} | linearized


def windows(shape, count):
    """Parts of the photographs in ../shared: of each what the network is meant to see, then corners."""
    crop, taken = load("googlenet-bvlc", layer="inception4c").crop, []
    files = [path for path in sorted((realizations.SHARED / "data" / "photos").iterdir()) if path.suffix]
    for corner in (None, (0, 0), (1, 1), (0, 1), (1, 0)):
        for path in files[: max(count - len(taken), 0)]:
            picture = read_picture(path)
            side = 3 * min(picture.shape[:2]) // 5
            if corner is None:
                taken.append(fit_picture(picture, shape, crop=crop))
                continue
            top, left = ((size - side) * at for size, at in zip(picture.shape[:2], corner, strict=True))
            taken.append(fit_picture(picture[top : top + side, left : left + side], shape))
    return np.stack(taken)


def optimal(pictures, kinds):
    """Rows: how well realizations are told from what is none."""
    options = {"significance": pictures.experiment.significance, "dead_tolerance": pictures.experiment.dead_tolerance}
    starts = jax.vmap(pictures.phi.init)(jax.random.split(jax.random.key(2), RANDOM))
    random = pictures.linearized("random", np.asarray(jax.vmap(pictures.phi.apply)(starts)))
    measured = {}
    for kind, (response, jacobian) in kinds.items():
        found = jifv.invert(response, jacobian, **options)
        objective, rest = np.asarray(found.objective), np.asarray(found.stationarity)
        cosine = np.sum(response * objective, axis=1) / np.linalg.norm(response, axis=1)
        everywhere = jnp.broadcast_to(found.objective, (RANDOM, *objective.shape))
        elsewhere = gradient_left(*map(jnp.asarray, random), everywhere, options["significance"])
        names = [f"filter {index}" for index in range(response.shape[1])]
        said = [
            verdict(v, names, stationarity=float(left), cosine=float(c), significance=options["significance"])
            for v, left, c in zip(objective, rest, cosine, strict=True)
        ]
        print(f"{kind}: {said[0].text()}", flush=True)
        measured[kind] = {"stationarity": -rest, "cosine": cosine, "gap": np.asarray(found.gap)}
        measured[kind] |= {"negative": -np.sum(np.minimum(objective, 0) ** 2, axis=1)}
        measured[kind] |= {"specific": -rest / np.median(elsewhere, axis=0)}
        measured[kind]["called"] = [each.kind == "nothing" for each in said]
    for kind, scores in measured.items():
        called = float(np.mean(scores.pop("called")))
        ranks = [auroc(measured["realizations"][name], score) for name, score in scores.items()]
        yield kind, len(scores["gap"]), float(-np.median(scores["stationarity"])), *ranks, called


def main():
    parser = pairs.parser(__doc__)
    parser.add_argument("--keep", required=True, metavar="FOLDER", help="of the realizations")
    parser.add_argument("--samples", type=int, default=32, help="of each kind of claims")
    parser.add_argument("--pictures", type=int, default=48, help="of each kind that is optimal for nothing")
    parser.add_argument(
        "--parts", nargs="+", choices=("claims", "pictures", "photographs"), default=["claims", "pictures"]
    )
    parser.add_argument("--sizes", nargs="+", type=int, choices=(112, 224), default=[112, 224], help="of photographs")
    parser.add_argument("--windows", type=int, default=18, help="of photographs, and so many of each kind of noise")
    options = parser.parse_args()
    how = {"threads": options.threads, "out": options.out}
    small = None if options.parts == ["photographs"] else Pictures(options.keep, BASE)
    if "claims" in options.parts:
        columns = ("kind", "pictures", "stationarity", "p-value")
        columns += ("by stationarity", "by p-value", "by response", "by cosine", "p above 0.05", "called")
        claims(small, options.samples, Table("audit-claims", columns, **how))
    columns = ("kind", "pictures", "stationarity")
    columns += ("by stationarity", "by cosine", "by gap", "by negative", "by specific", "called")
    if "pictures" in options.parts:
        path = realizations.SHARED / "data" / "cifar10_jpeg_test.npz"
        natural = {"CIFAR-10": read_jpeg_pack(path).images[: options.pictures] / np.float32(255)}
        rows = list(optimal(small, others(small, natural, options.pictures)))
        table = Table("audit-pictures", columns, **how)
        for row in rows:
            table.row(*row)
    if "photographs" in options.parts:
        table = Table("audit-photographs", ("side", *columns), **how)
        for side in options.sizes:
            large = Pictures(options.keep, f"gn4c-{side}")
            natural = {"photographs": windows(large.shape, options.windows)}
            for row in optimal(large, others(large, natural, options.windows)):
                table.row(side, *row)


if __name__ == "__main__":
    main()
