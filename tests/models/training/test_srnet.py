import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.ellipsoids import tiny_pairs
from support.srnet_record import RECORD

from jifv.models.files.storage import read_weights
from jifv.models.networks.srnet import SRNet
from jifv.models.training import loop
from jifv.models.training import srnet as train_srnet
from jifv.models.training.record import srnet_card
from jifv.models.training.srnet import (
    Stage,
    bilinear,
    evaluation,
    loss_of,
    make_step,
    optimizer,
    picture,
    predict,
    schedule,
    scores,
    terms,
    train,
)

MODEL = SRNet(blocks=1, features=8)
OPTIONS = {
    "stages": (Stage(4, 4), Stage(8, 3)),
    "batch_size": 4,
    "peak": 3e-3,
    "warmup": 0.2,
    "halve_every": None,
    "clip": 5.0,
    "seed": 1,
}


@pytest.fixture(scope="module")
def variables():
    """Random ones; the initialization proper takes longer to compile than all else here."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), jnp.zeros((1, 4, 4, 5)))
    draw = lambda leaf: rng.normal(size=leaf.shape) / np.prod(leaf.shape[:-1]) ** 0.5  # noqa: E731
    return jax.tree.map(lambda leaf: np.float32(draw(leaf) if len(leaf.shape) > 1 else np.zeros(leaf.shape)), shapes)


def reference_terms(predicted, truth):
    """Pixel by pixel."""
    sums = dict.fromkeys(("mask", "normal", "depth", "occlusion"), 0.0)
    for one, other in zip(predicted.reshape(-1, 6).tolist(), truth.reshape(-1, 6).tolist(), strict=True):
        sums["mask"] += abs(one[0] - other[0])
        if other[0] > 0:
            sums["normal"] += sum(abs(one[i] - other[i]) for i in (1, 2, 3)) / 3
            sums["depth"] += abs(one[4] - other[4])
            sums["occlusion"] += abs(one[5] - other[5])
    return {name: value / (predicted.size / 6) for name, value in sums.items()}


# The loss.


def random_frames(seed=0, shape=(2, 4, 4)):
    rng = np.random.default_rng(seed)
    predicted, truth = rng.normal(size=(2, *shape, 6)).astype(np.float32)
    truth[..., 0] = np.where(truth[..., 0] > 0, 1, -1)
    return predicted, truth


def test_loss_against_numpy():
    predicted, truth = random_frames()
    found = jax.jit(terms)(predicted, truth)
    expected = reference_terms(predicted, truth)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)
    total = expected["mask"] + 10 * expected["normal"] + 10 * expected["depth"] + expected["occlusion"]
    np.testing.assert_allclose(loss_of(found), total, rtol=1e-5)


def test_only_the_mask_counts_outside():
    predicted, truth = map(jnp.asarray, random_frames())
    gradient = np.asarray(jax.grad(lambda x: loss_of(terms(x, truth)))(predicted))
    inside = np.asarray(truth[..., 0]) > 0
    assert 0 < inside.sum() < inside.size
    assert np.all(gradient[..., 0] != 0)
    assert np.all(gradient[inside] != 0)
    np.testing.assert_array_equal(gradient[~inside][:, 1:], 0)


# The whole of it.


@pytest.fixture(scope="module")
def trained(variables):
    return train(MODEL, variables, tiny_pairs(), **OPTIONS | {"stages": (Stage(8, 150),), "peak": 1e-2})


@pytest.mark.slow  # trains a network
def test_the_loss_falls_below_that_of_bilinear_upscaling(variables, trained):
    unseen = tiny_pairs(8, seed=1)
    losses = [
        float(loss_of(terms(jnp.asarray(frames), jnp.asarray(unseen.high, jnp.float32))))
        for frames in (
            predict(MODEL, variables, unseen.low, batch_size=8),
            bilinear(unseen.low, 0.5),
            predict(MODEL, trained, unseen.low, batch_size=8),
        )
    ]
    assert losses[2] < 0.8 * losses[1] < 0.8 * losses[0]


@pytest.mark.slow  # trains a network
def test_the_tree_stays_the_same(variables, trained):
    assert trained.keys() == {"params"}
    assert jax.tree.map(jnp.shape, trained) == jax.tree.map(jnp.shape, variables)
    assert all(isinstance(leaf, np.ndarray) and leaf.dtype == np.float32 for leaf in jax.tree.leaves(trained))
    moved = jax.tree.map(lambda new, old: not np.array_equal(new, old), trained, variables)
    assert all(jax.tree.leaves(moved))


class PowerCut(BaseException):
    pass


@pytest.mark.slow  # DenseNet's does the same
def test_continued_is_uninterrupted_bit_for_bit(variables, tmp_path, monkeypatch):
    """Stopped in the middle of an epoch of 3 steps, one step after the crop has changed."""
    pairs, checkpoint = tiny_pairs(), tmp_path / "state"
    step = make_step(MODEL, optimizer(3e-3, 7, warmup=0.2, halve_every=None, clip=5.0))
    crops, stop_at = [], [None]

    def counted(state, low, high, key, crop):
        if len(crops) == stop_at[0]:
            raise PowerCut
        crops.append(crop)
        return step(state, low, high, key, crop)

    monkeypatch.setattr(train_srnet, "make_step", lambda *_: counted)  # one compilation for all
    uninterrupted = train(MODEL, variables, pairs, **OPTIONS)
    assert crops == [4, 4, 4, 4, 8, 8, 8]
    crops.clear()
    stop_at[0] = 5
    with pytest.raises(PowerCut):
        train(MODEL, variables, pairs, **OPTIONS, checkpoint=checkpoint, checkpoint_every=0.0)
    assert checkpoint.is_file()
    stop_at[0] = None
    crops.clear()
    continued = train(MODEL, variables, pairs, **OPTIONS, checkpoint=checkpoint)
    assert crops == [8, 8]
    assert jax.tree.structure(continued) == jax.tree.structure(uninterrupted)
    jax.tree.map(np.testing.assert_array_equal, continued, uninterrupted)
    # Another seed is another network, or the comparison would mean nothing; and it may not use the checkpoint.
    other = train(MODEL, variables, pairs, **OPTIONS | {"seed": 2})
    assert not np.array_equal(other["params"]["up1"]["kernel"], uninterrupted["params"]["up1"]["kernel"])
    with pytest.raises(ValueError, match="must be of a run with options"):
        train(MODEL, variables, pairs, **OPTIONS | {"seed": 2}, checkpoint=checkpoint)


def test_every_pair_once_an_epoch(variables, monkeypatch):
    pairs = tiny_pairs(14)  # 2 are left over in each epoch
    pairs.low[:, 0, 0, 0] = pairs.high[:, 0, 0, 0] = np.arange(14)
    seen = []

    def spy(state, low, high, key, crop):
        np.testing.assert_array_equal(low[:, 0, 0, 0], high[:, 0, 0, 0])
        seen.append(np.asarray(low)[:, 0, 0, 0].tolist())
        return state, {"loss": jnp.float32(1)}

    monkeypatch.setattr(train_srnet, "make_step", lambda *_: spy)
    train(MODEL, variables, pairs, **OPTIONS | {"stages": (Stage(8, 6),)})
    epochs = np.reshape(seen, (2, 12)).tolist()
    assert [len(set(epoch)) for epoch in epochs] == [12, 12]
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("crop", [0, 9])
def test_crops_that_do_not_fit_are_refused(variables, crop):
    with pytest.raises(ValueError, match=f"stages must have crops from 1 to 8, the side of the frames, got {crop}"):
        train(MODEL, variables, tiny_pairs(), **OPTIONS | {"stages": (Stage(4, 1), Stage(crop, 1))})


def test_fewer_pairs_than_a_batch_are_refused(variables):
    with pytest.raises(ValueError, match="batch_size must be at most 12, the number of training images, got 16"):
        train(MODEL, variables, tiny_pairs(), **OPTIONS | {"batch_size": 16})


def test_batch_size_must_fit_the_devices(variables, monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: [jax.devices()[0]] * 3)
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 3 local devices, got 4"):
        train(MODEL, variables, tiny_pairs(), **OPTIONS)


def test_a_diverging_loss_is_an_error(variables, monkeypatch):
    step = lambda state, *_: (state, {"mask": jnp.float32(0), "loss": jnp.float32(np.inf)})  # noqa: E731
    monkeypatch.setattr(train_srnet, "make_step", lambda *_: step)
    with pytest.raises(FloatingPointError, match="the loss is inf at step 7: lower the learning rate"):
        train(MODEL, variables, tiny_pairs(), **OPTIONS)


def test_report(capsys):
    """Means since the last report, under the names of the metrics; the caller's keys differ from step to step."""
    keys = []

    def step(state, rows, key, side):
        keys.append(tuple(jax.random.key_data(key).tolist()))
        return state + 1, {"loss": jnp.float32(len(keys)), "other": jnp.float32(0.5)}

    state = loop.run(step, 0, (np.arange(8),), [3] * 5, batch_size=4, seed=0, options="")
    assert state == 5
    assert len(set(keys)) == 5
    assert capsys.readouterr().out.startswith("step 5/5 at 3²: loss 3.000, other 0.500, ")


# Schedule and optimizer.


def test_schedule():
    assert schedule("16:3000,32:300") == (Stage(16, 3000), Stage(32, 300))
    assert schedule("32:7") == (Stage(32, 7),)
    for wrong in ("", "32", "32:1:2", "a:1", "32:1.5", "32:1,"):
        with pytest.raises((ValueError, TypeError)):
            schedule(wrong)


@pytest.mark.parametrize(("warmup", "halve_every"), [(0.3, None), (0.0, None), (0.0, 4), (0.2, 3)])
def test_optimizer_against_adam_in_numpy(x64, warmup, halve_every):
    steps, peak, clip = 10, 0.2, 1.5
    rising = round(warmup * steps)
    rates = []
    for at in range(steps):
        since = at - rising
        if since < 0:
            rates.append(peak * at / rising)
        elif halve_every:
            rates.append(peak * 0.5 ** (since // halve_every))
        else:
            rates.append(peak * (1 + np.cos(np.pi * since / (steps - rising))) / 2)
    transform = optimizer(peak, steps, warmup=warmup, halve_every=halve_every, clip=clip)
    rng = np.random.default_rng(0)
    theirs = {"a": rng.normal(size=3), "b": rng.normal(size=(2, 2))}
    ours = jax.tree.map(jnp.asarray, theirs)
    state = transform.init(ours)
    first = {name: np.zeros_like(value) for name, value in theirs.items()}
    second = {name: np.zeros_like(value) for name, value in theirs.items()}
    lengths = []
    for at, rate in enumerate(rates):
        gradient = {name: rng.normal(size=value.shape) * rng.uniform(0, 2) for name, value in theirs.items()}
        updates, state = transform.update(jax.tree.map(jnp.asarray, gradient), state, ours)
        ours = optax.apply_updates(ours, updates)
        lengths.append(np.sqrt(sum(np.sum(g**2) for g in gradient.values())))
        for name, g in gradient.items():
            g = g * min(1, clip / lengths[-1])
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g**2
            mean, square = first[name] / (1 - 0.9 ** (at + 1)), second[name] / (1 - 0.999 ** (at + 1))
            theirs[name] = theirs[name] - rate * mean / (np.sqrt(square) + 1e-8)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, theirs)
    assert min(lengths) < clip < max(lengths)


# Evaluation.


def test_scores_of_known_errors():
    truth = np.zeros((1, 2, 2, 6), np.float32)
    truth[0, 0, :] = [1, 0, 0, 1, 0.5, 1]
    truth[0, 1, :] = [-1, 0, 0, 0, 0, 1]
    predicted = truth.copy()
    predicted[0, 0, 0] = [0.5, 0, 3, 3, 0.7, 0.5]  # 45°, of any length
    predicted[0, 0, 1, 1:4] = [0.9, 0, 0]  # 90°
    predicted[0, 1, 0] = [1, 9, 9, 9, 9, 9]  # outside: only the mask counts
    interior = np.array([[[True, False], [True, True]]])
    found = scores(predicted, truth, interior)
    expected = {"mask": 2.5 / 4, "normal": (5 / 3 + 1.9 / 3) / 2, "angle": 67.5, "interior_angle": 45}
    expected |= {"depth": 0.1, "occlusion": 0.25}
    assert found == pytest.approx(expected, rel=1e-5)
    predicted[0, 0, 0, 1:4] = 0
    assert scores(predicted, truth, interior)["interior_angle"] == pytest.approx(90)


def test_what_ours_is_compared_with():
    low = tiny_pairs(2).low
    frames = bilinear(low, 0.7)
    assert frames.shape == (2, 32, 32, 6)
    np.testing.assert_array_equal(frames[..., 5], np.float32(0.7))
    expected = np.asarray(train_srnet.upscale(jnp.asarray(low, jnp.float32), 4))
    np.testing.assert_array_equal(frames[..., :5], expected)


def test_prediction_in_batches(variables):
    low = tiny_pairs(5).low
    whole = np.asarray(jax.jit(MODEL.apply)(variables, jnp.asarray(low, jnp.float32)))
    np.testing.assert_allclose(predict(MODEL, variables, low, batch_size=3), whole, rtol=1e-4, atol=1e-5)


def test_evaluation(variables):
    """Of a network that is right about the normals alone, on two fields of different difficulty."""
    data = {"training": tiny_pairs(4), "cameras": tiny_pairs(2, seed=1), "fields": tiny_pairs(6, seed=2)}
    occlusion = np.float32(data["training"].high[data["training"].high[..., 0] > 0][:, 5])
    silent = jax.tree.map(np.zeros_like, variables)
    result = evaluation(MODEL, silent, data)
    assert result["median_occlusion"] == pytest.approx(np.median(occlusion))
    assert result["fields"].keys() == result["cameras"].keys() == {"all", "field0", "field1"}
    for part in ("cameras", "fields"):
        pairs = data[part]
        low, truth = bilinear(pairs.low, result["median_occlusion"]), np.float32(pairs.high)
        for name, score in result[part].items():
            chosen = np.arange(len(pairs.low)) % 2 == int(name[-1]) if name != "all" else slice(None)
            inside = truth[chosen][..., 0] > 0
            error = np.abs(low[chosen] - truth[chosen])[..., 5][inside].mean()
            assert score["bilinear"]["occlusion"] == pytest.approx(error, rel=1e-5)
            # A silent network upscales too; its ambient occlusion is 0.
            for key in ("mask", "normal", "angle", "interior_angle", "depth"):
                assert score["ours"][key] == pytest.approx(score["bilinear"][key], rel=1e-4)
            assert score["ours"]["occlusion"] == pytest.approx(truth[chosen][..., 5][inside].mean(), rel=1e-5)
            assert score["bilinear"]["interior_angle"] < score["bilinear"]["angle"]
    assert result["fields"]["field0"] != result["fields"]["field1"]


@pytest.mark.slow  # draws
def test_picture(variables, tmp_path):
    from PIL import Image

    picture(tmp_path / "p.png", MODEL, variables, tiny_pairs(5), examples=2)
    with Image.open(tmp_path / "p.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] > pixels.shape[0] > 400
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100


# The command line and the card.


def test_command_line(variables, tmp_path, monkeypatch, capsys):
    """What is written, and that rendering, training and evaluation get the same data."""
    data = {"training": tiny_pairs(4), "cameras": tiny_pairs(2, seed=1), "fields": tiny_pairs(3, seed=2)}
    seen = {}

    def pretend_render(key, sources, held_out, count, test_count):
        seen.update(sources=set(sources), held_out=held_out, counts=(count, test_count))
        return data

    def pretend_train(model, start, pairs, **options):
        seen.update(options, pairs=pairs)
        return variables

    fields = {name: np.zeros((2, 2, 2)) for name in ("gyroid", "c60")}
    monkeypatch.setattr(train_srnet, "all_fields", lambda key, volumes: fields)
    monkeypatch.setattr(train_srnet, "render_pairs", pretend_render)
    monkeypatch.setattr(train_srnet, "train", pretend_train)
    measured = {key: RECORD[key] for key in ("median_occlusion", "cameras", "fields")}

    def pretend_evaluation(model, trained, parts):
        seen.update(evaluated=parts)
        return measured

    def pretend_picture(path, model, trained, pairs):
        seen.update(pictured=(path, pairs))

    monkeypatch.setattr(train_srnet, "evaluation", pretend_evaluation)
    monkeypatch.setattr(train_srnet, "picture", pretend_picture)
    monkeypatch.setattr(train_srnet, "SRNet", lambda: MODEL)
    monkeypatch.setattr(SRNet, "init", lambda *_, **__: variables)
    out = tmp_path / "s.safetensors"
    options = (
        "--held-out c60 --count 4 --test-count 3 --schedule 4:2,8:1 --peak 0.01 --warmup 0.1 --halve-every 0 --seed 5"
    )
    monkeypatch.setattr(sys, "argv", ["train_srnet", str(out), *options.split()])
    train_srnet.main()
    assert (seen["sources"], seen["held_out"], seen["counts"]) == ({"gyroid", "c60"}, ("c60",), (4, 3))
    assert (seen["stages"], seen["halve_every"], seen["seed"]) == ((Stage(4, 2), Stage(8, 1)), None, 5)
    assert seen["pairs"] is data["training"]
    assert seen["evaluated"] is data
    assert seen["pictured"] == (out.with_suffix(".png"), data["fields"])
    record = json.loads(out.with_suffix(".json").read_text())
    assert {key: record[key] for key in measured} == measured
    assert (record["training_pairs"], record["test_pairs"], record["trained_on"]) == (4, 3, ["field0", "field1"])
    text = out.with_suffix(".md").read_text(encoding="utf-8")
    assert text == srnet_card(record)
    assert text.strip() in capsys.readouterr().out
    weights, metadata = read_weights(out)
    assert metadata == {"network": "srnet"}
    jax.tree.map(np.testing.assert_array_equal, weights, variables)
    # The pairs were kept: another run reads them, one with other options refuses them.
    seen.pop("counts")
    train_srnet.main()
    assert "counts" not in seen
    monkeypatch.setattr(sys, "argv", ["train_srnet", str(out), *options.split(), "--seed", "6"])
    with pytest.raises(ValueError, match="must be of options"):
        train_srnet.main()
