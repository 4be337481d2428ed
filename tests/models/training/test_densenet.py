import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.special import log_softmax

from jifv.models.networks.densenet import CLASSES, DenseNet
from jifv.models.training import densenet as train_densenet
from jifv.models.training.cifar10 import Split
from jifv.models.training.densenet import (
    Stage,
    augment,
    make_step,
    optimizer,
    plan,
    predict,
    resize,
    schedule,
    to_unit,
    train,
)

MODEL = DenseNet(blocks=(1, 1, 1), growth=4, classes=3)
OPTIONS = {
    "stages": (Stage(4, 1.5), Stage(8, 1)),
    "batch_size": 8,
    "peak": 0.1,
    "warmup": 0.2,
    "final": 0.0,
    "weight_decay": 5e-4,
    "seed": 1,
}


def draw_bytes(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def tiny(count=24, size=8, seed=0):
    """Noise around a grey of 96, with the channel of the class brighter by 64: learnable, but not at once."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count).astype(np.uint8)
    images = rng.normal(96, 40, (count, size, size, 3)) + 64 * np.eye(3)[labels][:, None, None]
    return Split(np.clip(images, 0, 255).astype(np.uint8), labels)


@pytest.fixture(scope="module")
def variables():
    return jax.device_get(jax.jit(MODEL.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3))))


def cross_entropy(variables, data):
    scores = predict(MODEL, variables, data.images, resolution=8, batch_size=len(data.labels))
    return -np.mean(log_softmax(np.float64(scores), -1)[np.arange(len(scores)), data.labels])


# The whole of it.


@pytest.fixture(scope="module")
def trained(variables):
    return train(MODEL, variables, tiny(), **OPTIONS | {"stages": (Stage(8, 30),), "peak": 0.05})


@pytest.mark.slow  # trains a network
def test_the_loss_falls(variables, trained):
    unseen = tiny(count=30, seed=1)
    assert cross_entropy(variables, unseen) == pytest.approx(np.log(3))  # class weights start at zero
    assert cross_entropy(trained, unseen) < 0.5
    scores = predict(MODEL, trained, unseen.images, resolution=8, batch_size=30)
    assert np.mean(scores.argmax(-1) == unseen.labels) > 0.8


@pytest.mark.slow  # trains a network
def test_class_weights_keep_summing_to_zero(trained):
    """Their gradient does, weight decay scales it, momentum adds it up: the softmax's cokernel stays exact."""
    classifier = trained["params"]["classifier"]
    assert np.abs(classifier["kernel"]).max() > 0.01
    assert np.abs(classifier["bias"]).max() > 1e-3
    np.testing.assert_allclose(classifier["kernel"].sum(-1), 0, atol=1e-5)
    np.testing.assert_allclose(classifier["bias"].sum(), 0, atol=1e-5)


@pytest.mark.slow  # trains a network
def test_the_tree_stays_the_same(variables, trained):
    assert jax.tree.map(jnp.shape, trained) == jax.tree.map(jnp.shape, variables)
    assert all(isinstance(leaf, np.ndarray) and leaf.dtype == np.float32 for leaf in jax.tree.leaves(trained))
    moved = jax.tree.map(lambda new, old: not np.array_equal(new, old), trained, variables)
    assert all(jax.tree.leaves(moved))


def assert_identical(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


class PowerCut(BaseException):
    pass


def test_checkpoint_of_another_run_is_refused(variables, tmp_path, monkeypatch):
    step = lambda state, *_, **__: (state, jnp.float32(1), jnp.float32(0))  # noqa: E731
    monkeypatch.setattr(train_densenet, "make_step", lambda *_: step)
    data, checkpoint = tiny(), tmp_path / "state"
    train(MODEL, variables, data, **OPTIONS, checkpoint=checkpoint, checkpoint_every=0.0)
    with pytest.raises(ValueError, match="must be of a run with options"):
        train(MODEL, variables, data, **OPTIONS | {"seed": 12345}, checkpoint=checkpoint)


def test_fewer_images_than_a_batch_are_refused(variables):
    with pytest.raises(ValueError, match="batch_size must be at most"):
        train(MODEL, variables, tiny(), **OPTIONS | {"batch_size": 10_000})


def test_continued_is_uninterrupted_bit_for_bit(variables, tmp_path, monkeypatch):
    """Stopped in the middle of the second epoch, where the resolution is about to change: 7 steps, 3 an epoch."""
    data, checkpoint = tiny(), tmp_path / "state"
    step = make_step(MODEL, optimizer(0.1, 7, warmup=0.2, final=0.0, weight_decay=5e-4))
    resolutions, stop_at = [], [None]

    def counted(state, images, labels, key, *, resolution):
        if len(resolutions) == stop_at[0]:
            raise PowerCut
        resolutions.append(resolution)
        return step(state, images, labels, key, resolution=resolution)

    monkeypatch.setattr(train_densenet, "make_step", lambda *_: counted)  # one compilation for all three
    uninterrupted = train(MODEL, variables, data, **OPTIONS)
    assert resolutions == [4, 4, 4, 4, 8, 8, 8]
    resolutions.clear()
    stop_at[0] = 4
    with pytest.raises(PowerCut):
        train(MODEL, variables, data, **OPTIONS, checkpoint=checkpoint, checkpoint_every=0.0)
    assert checkpoint.is_file()
    stop_at[0] = None
    resolutions.clear()
    continued = train(MODEL, variables, data, **OPTIONS, checkpoint=checkpoint)
    assert resolutions == [8, 8, 8]
    assert_identical(continued, uninterrupted)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    # Another seed is another network, or the comparison would mean nothing.
    other = train(MODEL, variables, data, **OPTIONS | {"seed": 2})
    assert not np.array_equal(other["params"]["stem"]["kernel"], uninterrupted["params"]["stem"]["kernel"])


def test_every_image_once_an_epoch(variables, monkeypatch):
    data = tiny(count=26)  # 2 images are left over in each epoch
    data.images[:, 0, 0, 0] = np.arange(26)
    epochs = []

    def spy(state, images, labels, key, *, resolution):
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(labels, data.labels[np.asarray(images)[:, 0, 0, 0]])
        epochs.append((np.asarray(images)[:, 0, 0, 0].tolist(), jax.random.key_data(key).tolist()))
        return state, jnp.float32(1), jnp.float32(0)

    monkeypatch.setattr(train_densenet, "make_step", lambda *_: spy)
    train(MODEL, variables, data, **OPTIONS | {"stages": (Stage(8, 24 / 26 * 2),)})
    assert len(epochs) == 6
    orders = [[row for rows, _ in epochs[at : at + 3] for row in rows] for at in (0, 3)]
    for order in orders:
        assert len(set(order)) == 24
    assert orders[0] != orders[1]
    assert orders[0] != sorted(orders[0])
    assert len({tuple(key) for _, key in epochs}) == 6


def test_a_diverging_loss_is_an_error(variables, monkeypatch):
    step = lambda state, *_, **__: (state, jnp.float32(np.nan), jnp.float32(0))  # noqa: E731
    monkeypatch.setattr(train_densenet, "make_step", lambda *_: step)
    with pytest.raises(FloatingPointError, match="the loss is nan at step 7: lower the learning rate"):
        train(MODEL, variables, tiny(), **OPTIONS)


def test_prediction_in_batches(variables):
    images = draw_bytes((7, 8, 8, 3))
    random = jax.tree.map(lambda leaf: np.random.default_rng(0).normal(size=leaf.shape) ** 2, variables)
    random = jax.tree.map(np.float32, random)
    apply = jax.jit(MODEL.apply)
    whole = np.asarray(apply(random, np.float32(images) / 255))
    assert whole.shape == (7, 3)
    np.testing.assert_allclose(predict(MODEL, random, images, resolution=8, batch_size=3), whole, rtol=1e-4)
    halved = np.asarray(apply(random, resize(to_unit(jnp.asarray(images)), 4)))
    np.testing.assert_allclose(predict(MODEL, random, images, resolution=4), halved, rtol=1e-4)
    assert not np.allclose(halved, whole, rtol=1e-2)


# The schedule.


def test_schedule():
    assert schedule("16:8,32:1.5") == (Stage(16, 8.0), Stage(32, 1.5))
    assert schedule("32:30") == (Stage(32, 30.0),)
    for wrong in ("", "32", "32:1:2", "a:1", "32:b", "32:1,"):
        with pytest.raises(ValueError):  # noqa: PT011  (argparse writes the message)
            schedule(wrong)


@given(
    stages=st.lists(st.builds(Stage, st.integers(1, 64), st.floats(0, 9)), max_size=4).map(tuple),
    count=st.integers(1, 200),
    batch_size=st.integers(1, 64),
)
def test_plan(stages, count, batch_size):
    resolutions = plan(stages, count, batch_size)
    exact = sum(stage.epochs for stage in stages) * count / batch_size
    assert abs(len(resolutions) - exact) <= 0.5 * len(stages) + 1e-9
    expected = [stage.resolution for stage in stages if round(stage.epochs * count / batch_size)]
    changes = [r for at, r in enumerate(resolutions) if at == 0 or r != resolutions[at - 1]]
    assert changes == [r for at, r in enumerate(expected) if at == 0 or r != expected[at - 1]]


@pytest.mark.parametrize(("warmup", "final"), [(0.3, 0.1), (0.0, 0.0), (0.5, 1.0)])
def test_optimizer_against_nesterov_in_numpy(x64, warmup, final):
    """v ← 0.9 v + g, w ← w − rate (g + 0.9 v), where g has the decay of kernels in it (Sutskever et al. 2013)."""
    steps, peak, decay = 10, 0.2, 0.03
    rising = round(warmup * steps)
    rates = [
        peak * at / rising if at < rising else peak + (final - 1) * peak * (at - rising) / (steps - rising)
        for at in range(steps)
    ]
    transform = optimizer(peak, steps, warmup=warmup, final=final, weight_decay=decay)
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(rng.normal(size=(2, 3))), "scale": jnp.asarray(rng.normal(size=3))}
    expected = jax.tree.map(np.asarray, params)
    velocity = {"kernel": 0, "scale": 0}
    state, update = transform.init(params), jax.jit(transform.update)
    for rate in rates:
        gradient = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), params)
        updates, state = update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        for name, old in expected.items():
            g = np.asarray(gradient[name]) + (decay * old if name == "kernel" else 0)
            velocity[name] = 0.9 * velocity[name] + g
            expected[name] = old - rate * (g + 0.9 * velocity[name])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), params, expected)


# Images.


def test_to_unit():
    out = to_unit(jnp.asarray([0, 51, 255], jnp.uint8))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, [0, 0.2, 1], rtol=1e-6)


def test_resize_at_the_same_size_is_the_identity():
    images = jnp.asarray(draw_bytes((2, 8, 8, 3)), jnp.float32)
    np.testing.assert_array_equal(resize(images, 8), images)


@pytest.mark.parametrize("resolution", [4, 16, 24, 40])
def test_resize_against_pillow(resolution):
    """Pillow's bilinear filter is antialiased as well."""
    images = draw_bytes((2, 32, 32, 3)) / np.float32(255)
    expected = np.empty((2, resolution, resolution, 3), np.float32)
    for at in np.ndindex(2, 3):
        plane = Image.fromarray(np.ascontiguousarray(images[at[0], :, :, at[1]]))
        expected[at[0], :, :, at[1]] = plane.resize((resolution, resolution), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(resize(jnp.asarray(images), resolution), expected, atol=1e-5)


def test_augmentation_flips_and_crops():
    """Each image is one of the 162 there are, each image its own, and all parts of the range are reached."""
    images = draw_bytes((200, 8, 8, 3)).astype(np.float32) + 1  # no zero: the padding shows
    out = np.asarray(jax.jit(augment, static_argnums=2)(jax.random.key(0), jnp.asarray(images), 8))
    assert out.shape == images.shape
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    mirrored = np.pad(images[:, :, ::-1], ((0, 0), (4, 4), (4, 4), (0, 0)))
    found = np.full((200, 3), -1)
    for flip, source in enumerate((padded, mirrored)):
        for y, x in np.ndindex(9, 9):
            same = np.all(out == source[:, y : y + 8, x : x + 8], (1, 2, 3))
            found[same] = flip, y, x
    assert np.all(found >= 0)
    assert 0.35 < found[:, 0].mean() < 0.65
    for column in (1, 2):
        np.testing.assert_array_equal(np.unique(found[:, column]), np.arange(9))
    assert abs(np.corrcoef(found.T)[np.triu_indices(3, 1)]).max() < 0.3
    # The same key gives the same images, another key others.
    np.testing.assert_array_equal(jax.jit(augment, static_argnums=2)(jax.random.key(0), images, 8), out)
    assert not np.array_equal(jax.jit(augment, static_argnums=2)(jax.random.key(1), images, 8), out)


@settings(max_examples=5)
@given(level=st.floats(0, 1, width=32), resolution=st.sampled_from([2, 4, 8]))
def test_augmentation_at_another_resolution(level, resolution):
    """A grey image stays grey where no padding came in, and nothing leaves the range."""
    out = np.asarray(augment(jax.random.key(3), jnp.full((4, 8, 8, 3), level), resolution))
    assert out.shape == (4, resolution, resolution, 3)
    assert out.min() >= 0
    assert out.max() <= level * (1 + 1e-6)


# Devices and the command line.


def test_batch_size_must_fit_the_devices(variables, monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: [jax.devices()[0]] * 3)
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 3 local devices, got 8"):
        train(MODEL, variables, tiny(), **OPTIONS)


def test_command_line(tmp_path, monkeypatch, capsys, variables):
    """What is written, and that the class that must not be seen is not."""
    import jifv.models.training.cifar10 as cifar10

    images, labels = draw_bytes((40, 32, 32, 3)), np.arange(40, dtype=np.uint8) % 10
    seen = {}

    def pretend(model, start, data, **options):
        seen.update(options, labels=set(data.labels.tolist()), pool=model.pool)
        seen["shape"] = data.images.shape
        return {"params": {"classifier": {"kernel": kernel}}}

    kernel = np.random.default_rng(0).normal(size=(342, 10)).astype(np.float32)
    split = Split(images, labels)
    monkeypatch.setattr(cifar10, "read", lambda folder: (split, split))
    monkeypatch.setattr(train_densenet, "train", pretend)
    monkeypatch.setattr(DenseNet, "init", lambda *_, **__: variables)
    monkeypatch.setattr(train_densenet, "predict", lambda *_, **__: np.eye(10)[np.where(labels == 4, 3, labels)])
    out = tmp_path / "w.safetensors"
    options = "--without-class 4 --schedule 16:2,24:1 --pool average --seed 5"
    monkeypatch.setattr(sys, "argv", ["train_densenet", "data", str(out), *options.split()])
    train_densenet.main()
    assert seen["labels"] == set(range(10)) - {4}
    assert seen["shape"] == (36, 32, 32, 3)
    assert (seen["pool"], seen["seed"], seen["stages"]) == ("average", 5, (Stage(16, 2), Stage(24, 1)))
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["accuracy"] == pytest.approx(0.9)
    assert record["accuracy_of_seen_classes"] == 1
    assert record["accuracy_by_class"] == {name: float(name != "deer") for name in CLASSES}
    assert (record["without_class"], record["pool"], record["seed"]) == ([4], "average", 5)
    assert (record["test_images"], record["training_images"]) == (40, 36)
    assert record["schedule"] == [[16, 2], [24, 1]]
    assert record["started_from"] is None
    spectrum = np.linalg.svd(kernel, compute_uv=False)
    np.testing.assert_allclose(record["classifier_spectrum"], spectrum / spectrum[0], rtol=1e-6)
    card = out.with_suffix(".md").read_text(encoding="utf-8")
    assert card.strip() == capsys.readouterr().out.strip()
    for words in (
        "# DenseNet-BC(100, 12), CIFAR-10, without deer\n",
        "average pooling",
        "Accuracy: **90.0%** (100.0% on the classes it was trained on) of 40 test images",
        "36 training images as JPEG, none of them of deer.",
        "from random weights; SGD",
        "2 epochs at 16×16, then 1 epochs at 24×24.",
        "Seed 5;",
        "| deer | 0.0% |\n| dog | 100.0% |",
    ):
        assert words in card
    weights, metadata = train_densenet.read_weights(out)
    assert metadata == {"network": "densenet_bc_100_12", "pool": "average"}
    assert weights["params"]["classifier"]["kernel"].shape == (342, 10)
