"""What the page of `jifv app` computes, on a toy network, and that the page is a notebook that runs."""

import importlib.util
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import jifv
from jifv.cli import app, workbench


class Network:
    """As much of `jifv.models.Network` as the page needs."""

    name = "toy"
    input_shape = (12, 14, 3)
    output_shape = (10, 12, 5)
    features = 5


@pytest.fixture(scope="module")
def bench():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 3, 5)) / 2

    def network(x):  # bounded, so that pixels do not run into black and white
        layout = ("NHWC", "HWIO", "NHWC")
        return (
            jnp.sin(2 * jax.lax.conv_general_dilated(x[None], kernel, (1, 1), "VALID", dimension_numbers=layout)[0])
            ** 2
        )

    phi = jifv.pixels(Network.input_shape, std=0.5)
    return workbench.Bench(Network(), phi, jifv.compose(phi.apply, network, jifv.mean), 5)


@pytest.fixture(scope="module")
def found(bench):
    p = workbench.example(bench)
    return p, workbench.answer(bench, p)


def test_an_example_is_explained_by_its_objective(bench, found):
    target = jifv.sparse_objectives(jax.random.split(jax.random.key(0))[0], 1, 5)[0]
    _, answer = found
    assert answer.picture.shape == Network.input_shape
    assert np.linalg.norm(answer.response) == pytest.approx(1, abs=1e-6)
    assert jifv.angle(answer.inversion.objective, target) < jifv.angle(answer.response, target)
    assert answer.verdict.startswith("One objective explains")


def test_noise_is_told_to_be_no_visualization(bench):
    assert "no visualization" in workbench.answer(bench, bench.phi.init(jax.random.key(3))).verdict


@pytest.mark.parametrize(
    ("gap", "rest", "words"), [(0.1, 0.01, "Several"), (0.5, 0.01, "One"), (0.9, np.nan, "no visual")]
)
def test_the_verdict_follows_gap_and_stationarity(gap, rest, words, found):
    assert words in workbench._verdict(found[1].inversion._replace(gap=np.float32(gap), stationarity=np.float32(rest)))


def test_the_picture_stays_for_its_objective_and_changes_for_another(bench, found):
    p, answer = found
    other = np.roll(np.asarray(answer.inversion.objective), 2)
    after = workbench.changed(bench, p, {"prediction": answer.inversion.objective, "other": other}, steps=10)
    assert list(after) == ["prediction", "other"]
    assert after["prediction"][0].shape == Network.input_shape
    assert after["prediction"][1] > after["other"][1]


@pytest.mark.parametrize("size", [(14, 12), (40, 30)])
def test_a_file_becomes_parameters_of_the_networks_input(bench, size):
    stored = io.BytesIO()
    Image.new("RGB", size, (51, 102, 204)).save(stored, "PNG")
    image = bench.phi.apply(workbench.read_picture(stored.getvalue(), bench))
    np.testing.assert_allclose(image, np.broadcast_to(np.array([0.2, 0.4, 0.8]), Network.input_shape), atol=1e-5)


def test_files_that_are_no_pictures_and_networks_of_no_images_are_refused(bench):
    with pytest.raises(OSError, match="cannot identify"):
        workbench.read_picture(b"nothing", bench)

    class Frames(Network):
        input_shape = (12, 14, 5)

    with pytest.raises(ValueError, match="network must take RGB images, got toy, which takes 5 channels"):
        workbench.read_picture(b"", bench._replace(network=Frames()))


def test_without_marimo_the_command_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "marimo" else find(name))
    result = CliRunner().invoke(app, ["app"])
    assert result.exit_code == 1
    assert 'pip install "jifv[app]"' in result.output


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_page_runs_up_to_its_button():
    pytest.importorskip("marimo", reason="the extra `app` brings it")
    from jifv.cli.workbench_page import app as page

    _, definitions = page.run()
    assert definitions["layer"].value in definitions["models"].load(definitions["network"].value).layers
    assert "found" not in definitions
