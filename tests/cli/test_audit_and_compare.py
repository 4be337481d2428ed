"""`jifv compare` and `jifv audit` on a network and its copy without weights; the one's output is the other's input."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from support.command import call, check_refused, rows
from support.toy import COPY, FEATURES, ORDER

import jifv
from jifv.experiments.pictures import Setting, audit_pictures, compare_networks, find_pictures
from jifv.experiments.problem import response_of
from jifv.significance import Significance
from jifv.visualization import Settings

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture(scope="module")
def compared(toys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    result = call("compare", "toy", "copy", "--adam-steps", 120, "--smoothing", 0, "--out", folder)
    assert result.exit_code == 0, result.output
    return folder, result


def test_features_of_a_copy_are_found_at_their_new_places(compared):
    folder, result = compared
    found = rows(folder)
    assert [row["picture"] for row in found] == [f"feature {index}" for index in range(FEATURES)]
    assert [row["feature_1"] for row in found] == COPY
    assert f"feature 0: optimal for {COPY[0]} (" in result.output
    assert (folder / "visualized" / "report.html").is_file()
    assert '["visualized in","toy, scores"]' in (folder / "report.html").read_text()
    again = call("compare", "toy", "copy", "--adam-steps", 120, "--smoothing", 0, "--out", folder, "--quiet")
    assert (again.exit_code, again.output) == (0, "")


def test_the_function_finds_the_order_of_a_copy(compared, toys):
    made = {"settings": Settings(adam_steps=120), "networks": tuple(toys.values()), "folder": compared[0]}
    found = compare_networks(Setting("toy", smoothing=0), Setting("copy", smoothing=0), **made)
    np.testing.assert_array_equal(found.match().feature, np.argsort(ORDER))
    assert repr(found).startswith(f"Compared(toy, copy, 5 pictures)\nfeature 0: optimal for {COPY[0]} (")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--feature", 5), 1, "feature must be an index from 0 to 4"),
        (("--adam-steps", -1), 2, "--adam-steps"),
        (("--direction", "gone.npy"), 1, "gone.npy"),
        (("--aggregation", "mean"), 1, "activations must have shape"),
    ],
)
def test_compare_refuses_before_any_work(unchecked, tmp_path, arguments, code, message):
    result = call("compare", "toy", "copy", *arguments, "--out", tmp_path / "a")
    check_refused(result, code, message, tmp_path / "a")


def test_networks_must_see_the_same_pictures(toys, tmp_path):
    larger = toys["copy"]._replace(input_shape=(16, 16, 3))
    with pytest.raises(ValueError, match="networks must take inputs of the same shape"):
        compare_networks(Setting("toy"), Setting("copy"), networks=(toys["toy"], larger), folder=tmp_path / "a")
    assert not (tmp_path / "a").exists()


# Audit.


@pytest.fixture(scope="module")
def audited(compared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audited")
    store = compared[0] / "visualized" / "realizations.zarr"
    result = call("audit", store, "--claim", 0, "--claim", "feature 3", "--random", 32, "--out", folder)
    assert result.exit_code == 0, result.output
    return folder, result


def test_true_claims_stand_and_false_ones_do_not(audited):
    folder, result = audited
    found = rows(folder)
    assert len(found) == 2 * FEATURES
    standing = [(Path(row["picture"]).name, row["claim"]) for row in found if row["verdict"] == "stands"]
    assert standing == [("realizations.zarr:0", "feature 0"), ("realizations.zarr:3", "feature 3")]
    assert "realizations.zarr:0: nothing speaks against feature 0 (" in result.output
    assert "realizations.zarr:0: not feature 3 (" in result.output
    document = json.loads((folder / "results.json").read_text())
    assert document["setting"]["network"] == "toy"  # that of the run
    page = (folder / "report.html").read_text()
    assert page.count(r"\u003csvg") == 2 * FEATURES
    assert "share of other claims" in page
    assert page.count("--claim: #") == 2  # its bars have a colour, in the light and in the dark
    assert {path.name for path in folder.iterdir()} == {"results.csv", "results.json", "report.html"}


def test_numbers_are_those_of_the_claim(compared, audited, toys):
    pictures = find_pictures([compared[0] / "visualized" / "realizations.zarr"])
    _, f, _ = response_of(Setting("toy", smoothing=0).resolved(toys["toy"]), toys["toy"])
    response, jacobian = jifv.linearize(f, jnp.asarray(pictures.parameters()[1]))
    said = jifv.stationarity(response, jacobian, np.eye(FEATURES)[0], significance=Significance())
    assert float(rows(audited[0])[2]["stationarity"]) == pytest.approx(float(said), rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--network", "toy"), 2, "make at least one"),
        (("--claim", 0), 2, "is needed"),
        (("--claim", 0, "--network", "toy", "--crop", 0), 2, "must be in (0, 1]"),
        (("--claim", 0, "--network", "toy", "--random", 0), 2, "--random"),
        (("--claim", "dog", "--network", "toy"), 1, "got 'dog'"),
        (("--direction", "gone.npy", "--network", "toy"), 1, "gone.npy"),
    ],
)
def test_audit_refuses_before_any_work(tmp_path, arguments, code, message):
    np.save(tmp_path / "a.npy", np.zeros((12, 12, 3), np.uint8))
    result = call("audit", tmp_path / "a.npy", *arguments, "--out", tmp_path / "a")
    check_refused(result, code, message, tmp_path / "a")


def test_audits_know_nothing_of_priors(toys):
    setting = Setting("toy", priors=(("l2", 1.0),))
    with pytest.raises(ValueError, match="setting must have no priors and no transformations"):
        audit_pictures([np.zeros((12, 12, 3))], [0], setting, network=toys["toy"])
