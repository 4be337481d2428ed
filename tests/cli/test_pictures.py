"""`jifv visualize` and `jifv invert`, on a network that needs no weights; the one's output is the other's input."""

import json
import shutil

import numpy as np
import pytest
import zarr
from PIL import Image
from support.command import call, check_refused, rows
from support.toy import FEATURES

VISUALIZE = ("--network", "toy", "--adam-steps", 120, "--batch-size", 2)
INVERT = ("--network", "toy", "--batch-size", 2, "--reoptimize-steps", 2)

pytestmark = pytest.mark.usefixtures("toys")


def arrays(store, stage="invert"):
    group = zarr.open_group(store / stage, mode="r")
    return {name: group[name][...] for name in group.array_keys()}


@pytest.fixture(scope="module")
def made(toys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    direction = np.zeros((1, FEATURES))
    direction[0, 1:3] = 3
    np.save(folder / "mine.npy", direction)
    arguments = ("--feature", 0, "--feature", "feature 3", "--direction", folder / "mine.npy")
    result = call("visualize", *VISUALIZE, *arguments, "--out", folder / "run")
    assert result.exit_code == 0, result.output
    return folder / "run", result


@pytest.fixture(scope="module")
def mixed(made, tmp_path_factory):
    """A visualization as a picture, and two that are optimal for nothing."""
    folder = tmp_path_factory.mktemp("mixed")
    Image.open(made[0] / "1-feature-3.png").save(folder / "a.png")
    noise = np.random.default_rng(0).integers(0, 256, (2, 20, 16, 3), dtype=np.uint8)
    np.save(folder / "noise.npy", noise)
    return folder


@pytest.fixture(scope="module")
def inverted(mixed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inverted")
    result = call("invert", mixed, *INVERT, "--out", folder)
    assert result.exit_code == 0, result.output
    return folder, result


def explained(folder):
    """Return the terms that a page explains, and the labels of the numbers that it shows."""
    page = (folder / "report.html").read_text()
    data = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    labels = {
        label.removesuffix(", prediction").removesuffix(", response")
        for card in data["cards"]
        for label, _ in card["numbers"]
    }
    return {term for term, _ in data["terms"]}, labels


@pytest.mark.parametrize("folder", ["made", "inverted"])
def test_pages_explain_their_numbers(folder, request):
    terms, labels = explained(request.getfixturevalue(folder)[0])
    assert len(labels) > 1
    assert labels <= terms
    assert ("stationarity" in terms) == (folder == "inverted")


# Visualize.


def test_visualize_writes_pictures_a_page_and_a_run(made):
    folder, result = made
    names = {path.name for path in folder.iterdir()}
    assert {"0-feature-0.png", "1-feature-3.png", "2-mine.png", "report.html", "realizations.zarr"} <= names
    assert [row["objective"] for row in rows(folder)] == ["feature 0", "feature 3", "mine"]
    assert "to invert: jifv invert" in result.output.replace("\n", " ")
    found = arrays(folder / "realizations.zarr", "realize")
    written = np.asarray(Image.open(folder / "1-feature-3.png")) / 255
    np.testing.assert_allclose(written, found["images"][1], atol=0.51 / 255)
    unit = found["response"] / np.linalg.norm(found["response"], axis=1, keepdims=True)
    np.testing.assert_allclose(np.sum(unit * found["objectives"], 1), found["cosine"], atol=1e-5)
    np.testing.assert_allclose(found["objectives"][2], [0, 0.5**0.5, 0.5**0.5, 0, 0], atol=1e-6)


def test_the_same_command_goes_on_and_another_is_refused(made):
    folder, _ = made
    before = (folder / "realizations.zarr" / "zarr.json").read_bytes()
    again = ("--feature", 0, "--feature", "feature 3", "--direction", folder.parent / "mine.npy", "--out", folder)
    assert call("visualize", *VISUALIZE, *again, "--quiet").output == ""
    assert (folder / "realizations.zarr" / "zarr.json").read_bytes() == before
    refused = call("visualize", *VISUALIZE, *again, "--seed", 1)
    assert refused.exit_code == 1
    assert "holds another run: setting.seed is 0, not 1" in refused.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "name at least one"),
        (("--feature", 5), 1, "feature must be an index from 0 to 4 or a name (feature 0, "),
        (("--feature", "dog"), 1, "got 'dog'"),
        (("--feature", 0, "--prior", "tv=1"), 2, "is none of total_variation"),
        (("--feature", 0, "--prior", "l2=-1"), 2, "must be finite and >= 0"),
        (("--feature", 0, "--prior", "l2=x"), 2, "l2=x"),
        (("--feature", 0, "--transformations", "turn"), 2, "is none of shift"),
        (("--feature", 0, "--adam-steps", -1), 2, "--adam-steps"),
        (("--feature", 0, "--aggregation", "mean"), 1, "activations must have shape"),
        (("--direction", "gone.npy"), 1, "gone.npy"),
    ],
)
def test_visualize_refuses_before_any_work(unchecked, tmp_path, arguments, code, message):
    result = call("visualize", "--network", "toy", *arguments, "--out", tmp_path / "a")
    check_refused(result, code, message, tmp_path / "a")


@pytest.mark.parametrize("wrong", [np.zeros((1, 4)), np.zeros(FEATURES), np.full(FEATURES, np.nan), np.array("x")])
def test_directions_that_are_none_are_refused(tmp_path, wrong):
    np.save(tmp_path / "a.npy", wrong)
    result = call("visualize", "--network", "toy", "--direction", tmp_path / "a.npy", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "a.npy must hold directions" in result.output.replace("\n", " ")


# Invert.


def test_a_run_is_inverted_with_what_it_was_made_with(made, tmp_path):
    folder, _ = made
    result = call("invert", folder / "realizations.zarr", "--out", tmp_path, "--batch-size", 2, "--reoptimize-steps", 2)
    assert result.exit_code == 0, result.output
    found = rows(tmp_path)
    assert [row["verdict"] for row in found] == ["optimal"] * 3
    assert [row["feature_1"] for row in found[:2]] == ["feature 0", "feature 3"]
    targets = arrays(folder / "realizations.zarr", "realize")["objectives"]
    found = arrays(tmp_path / "inverted.zarr")["objective"]
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-3)  # on V, which is what is known of them
    targets = targets - targets.mean(1, keepdims=True)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    assert np.sum(found * targets, 1).min() > 0.99


@pytest.mark.parametrize("name", ["images", "parameters"])
def test_a_run_with_a_chunk_that_is_gone_is_refused_before_any_work(made, tmp_path, name):
    run = tmp_path / "realizations.zarr"
    shutil.copytree(made[0] / "realizations.zarr", run)
    chunk = run / "realize" / name / "c" / "1" / "0" / "0" / "0"
    chunk.unlink()
    result = call("invert", run, "--batch-size", 2, "--out", tmp_path / "a")
    assert result.exit_code == 1
    assert f"{chunk} is not there" in result.output.replace("\n", "")
    assert not (tmp_path / "a").exists()


def test_pictures_are_told_from_noise(inverted):
    folder, result = inverted
    found = rows(folder)
    assert [row["verdict"] for row in found] == ["optimal", "nothing", "nothing"]
    assert found[0]["feature_1"] == "feature 3"
    assert "a.png: optimal for feature 3 (" in result.output
    assert "optimal for nothing here (not stationary: " in result.output
    document = json.loads((folder / "results.json").read_text())
    assert document["setting"]["aggregation"] == "identity"
    assert document["dimension"] == 4
    assert [row["verdict"] for row in document["pictures"]] == ["optimal", "nothing", "nothing"]


def test_storage_per_picture_is_bounded(inverted):
    folder, _ = inverted
    found = arrays(folder / "inverted.zarr")
    assert found["singular_vectors"].shape == (3, FEATURES, 4)
    v = found["objective"]
    np.testing.assert_allclose(found["negative"], np.sum(np.minimum(v, 0) ** 2, 1), rtol=1e-5)
    np.testing.assert_allclose(np.abs(np.sum(found["singular_vectors"][..., -1] * v, 1)), 1, rtol=1e-5)
    assert {"images_prediction", "images_response"} < set(arrays(folder / "inverted.zarr", "reoptimize-2"))


def test_same_command_again_computes_nothing(inverted, mixed):
    folder, _ = inverted
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert call("invert", mixed, *INVERT, "--out", folder, "--quiet").exit_code == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_other_pictures_are_another_run(inverted, mixed):
    folder, _ = inverted
    refused = call("invert", mixed / "noise.npy", mixed / "a.png", *INVERT, "--out", folder)
    assert refused.exit_code == 1
    assert "holds another run: pictures is" in refused.output


def test_shards_are_gathered_and_agree_with_one_run(inverted, mixed, tmp_path):
    whole, _ = inverted
    assert call("invert", mixed, *INVERT, "--out", tmp_path, "--shard", "2/2").exit_code == 0
    early = call("invert", mixed, *INVERT, "--out", tmp_path, "--merge")
    assert early.exit_code == 1
    assert "must hold all batches to be merged, got none of [0]" in early.output.replace("\n", " ")
    assert not (tmp_path / "results.csv").exists()
    assert call("invert", mixed, *INVERT, "--out", tmp_path, "--shard", "1/2").exit_code == 0
    assert call("invert", mixed, *INVERT, "--out", tmp_path, "--merge").exit_code == 0
    for name in ("results.csv", "results.json", "report.html"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()
    assert {path.name for path in tmp_path.glob("*.zarr")} == {"inverted-1-of-2.zarr", "inverted-2-of-2.zarr"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--network", "toy", "--shard", "3/2"), 2, "must be I/N"),
        (("--network", "toy", "--shard", "1/2", "--merge"), 2, "gathers all shards"),
        (("--network", "toy", "--crop", 2), 2, "must be in (0, 1]"),
        (("--network", "toy", "--merge"), 1, "folder must hold what shards have found"),
        ((), 2, "is needed"),
    ],
)
def test_invert_refuses_before_any_work(mixed, tmp_path, arguments, code, message):
    result = call("invert", mixed, *arguments, "--out", tmp_path / "a")
    check_refused(result, code, message, tmp_path / "a")


def test_damaged_pictures_are_named_before_any_work(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "abcd":
        (tmp_path / "in" / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    result = call("invert", tmp_path / "in", *INVERT, "--out", tmp_path / "out")
    assert result.exit_code == 1
    text = result.output.replace("\n", "")
    assert "c.png" in text, repr(result.exception)
    assert "and 1 more" in text
    assert not (tmp_path / "out").exists()
    nothing = call("invert", tmp_path / "gone", *INVERT, "--out", tmp_path / "out")
    assert nothing.exit_code == 1
    assert "no picture at" in nothing.output
