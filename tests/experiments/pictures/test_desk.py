"""One picture after the other, on a toy network whose critical space is not all of Rⁿ."""

import io

import numpy as np
import pytest
from PIL import Image
from support.toy import FEATURES, network, scores

import jifv
from jifv.experiments.pictures import Setting, desk, invert_pictures
from jifv.experiments.pictures.desk import KNOWN, desk_of

TOY = network(scores)


@pytest.fixture(scope="module")
def at():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(desk, "network_of", lambda setting: TOY)
        patch.setattr(desk, "SETTINGS", jifv.Settings(adam_steps=60))
        made = desk_of("toy", "scores")
        assert made is desk_of("toy", "scores")
        made.known  # noqa: B018
        yield made
        desk_of.cache_clear()


def test_objectives_that_are_known_are_found(at):
    off = jifv.angle(at.known.inversion.objective, at.known.objectives, basis=at.question.basis)
    assert at.known.parameters.shape == (KNOWN, 12, 12, 3)
    assert np.median(off) < 15
    found = at.answer(at.known.parameters[[3]])
    assert jifv.angle(found.objective, at.known.inversion.objective[3]) < 0.1
    assert np.linalg.norm(found.response) == pytest.approx(1, abs=1e-5)


def test_the_picture_in_question_does_not_calibrate(at):
    """With nine others the cone at 90 % is the worst of their quotients, by its definition."""
    found = at.answer(at.known.parameters[[3]])
    off = np.asarray(jifv.angle(at.known.inversion.objective, at.known.objectives, basis=at.question.basis))
    ratios = 1 - at.known.inversion.gap
    worst = np.max(np.delete(off / np.maximum(ratios, 0.01) ** 2, 3))
    sure = at.confidence(found, without=3)
    assert sure.cone == pytest.approx(min(worst * max(ratios[3], 0.01) ** 2, 180), rel=1e-2)
    assert sure.lower.shape == (FEATURES,)
    assert (sure.lower <= sure.upper).all()
    assert sure.top.sum() == pytest.approx(3, abs=1e-3)


def test_a_file_is_judged_as_invert_judges_it(at, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    stored = io.BytesIO()
    Image.fromarray(noise).save(stored, "PNG")
    (tmp_path / "noise.png").write_bytes(stored.getvalue())
    wanted = invert_pictures([tmp_path / "noise.png"], Setting("toy"), network=TOY, reoptimize_steps=0)
    assert at.answer(at.parameters("noise.png", stored.getvalue())).verdict == wanted.verdict(0)
    with pytest.raises(ValueError, match=r"nothing\.png must be a picture"):
        at.parameters("nothing.png", b"nothing")


@pytest.mark.slow
def test_it_is_re_optimized_as_invert_does_it(at, tmp_path, monkeypatch):
    monkeypatch.setattr(desk, "STEPS", 2)
    image = np.random.default_rng(1).uniform(size=(12, 12, 3)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    wanted = invert_pictures([image], Setting("toy"), network=TOY, reoptimize_steps=2)
    parameters = at.parameters("image.npy", (tmp_path / "image.npy").read_bytes())
    again = at.reoptimize(parameters, at.answer(parameters))
    assert list(again) == ["prediction", "response", "random"]
    for name in ("prediction", "response"):
        assert again[name][1] == pytest.approx(wanted.ssim[name][0], abs=1e-3)


def test_large_networks_are_not_quick(at):
    assert at.quick
    assert not desk.Desk(TOY._replace(input_shape=(224, 224, 3)), at.question).quick
