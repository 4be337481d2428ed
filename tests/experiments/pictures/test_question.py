"""Inversion some rows at a time, against that of the whole Jacobian."""

import jax
import numpy as np
import pytest
from support.toy import FEATURES, network, scores

import jifv
from jifv.experiments.pictures import Setting, question
from jifv.experiments.pictures.question import question_of
from jifv.jacobian import linearize_batch

TOY = network(scores)
PARAMETERS = np.random.default_rng(0).normal(size=(2, 12, 12, 3)).astype(np.float32)


def asked(**options):
    setting = Setting("toy", smoothing=0, critical_samples=0, **options).resolved(TOY)
    return question_of(setting, TOY, None)


@pytest.mark.filterwarnings("ignore::jifv.inversion.NotStationaryWarning")  # nothing was optimized
@pytest.mark.parametrize("rows", [2, 64])
@pytest.mark.parametrize("priors", [(), (("l2", 3.0), ("smoothness", 1.0))])
def test_rows_at_a_time_make_no_difference(monkeypatch, rows, priors):
    monkeypatch.setattr(question, "_ROWS", rows)
    mine, done = asked(priors=priors), []
    found = mine.invert(PARAMETERS, done.append)
    assert sum(done) == mine.work(2) == 2 * FEATURES
    wanted = jifv.invert_batch(
        mine.f, PARAMETERS, significance=jifv.Significance(), dead_tolerance=0.02, priors=mine.priors
    )
    np.testing.assert_allclose(found["response"], jax.vmap(mine.f)(PARAMETERS), rtol=1e-5, atol=1e-5)
    for name in ("objective", "singular_values", "stationarity", "gap"):
        np.testing.assert_allclose(found[name], getattr(wanted, name), atol=2e-4, rtol=1e-3, err_msg=name)
    assert ("weights" in found) == bool(priors)
    if priors:
        np.testing.assert_allclose(found["weights"], wanted.weights.value, rtol=1e-2, atol=1e-3)
    unit = found["response"] / np.linalg.norm(found["response"], axis=1, keepdims=True)
    np.testing.assert_allclose(found["cosine"], np.sum(unit * found["objective"], 1), atol=1e-5)


@pytest.mark.filterwarnings("ignore::jifv.inversion.NotStationaryWarning")  # nothing was optimized
def test_transformations_are_averaged_over():
    mine, done = asked(transformations="shift", draws=2), []
    found = mine.invert(PARAMETERS[:1], done.append)
    assert sum(done) == mine.work(1) == 1
    wanted = jifv.invert_batch(
        mine.f, PARAMETERS[:1], significance=jifv.Significance(), dead_tolerance=0.02, transformations=mine.ensemble
    )
    np.testing.assert_allclose(found["objective"], wanted.objective, atol=1e-4)
    np.testing.assert_allclose(found["response"][0], jax.vmap(mine.mean)(PARAMETERS[:1])[0], rtol=1e-4, atol=1e-5)


def test_critical_space_of_random_inputs_is_that_of_the_scores():
    setting = Setting("toy", smoothing=0).resolved(TOY)
    found = question_of(setting, TOY, None).invert(PARAMETERS, lambda n: None)
    np.testing.assert_allclose(found["objective"].sum(1), 0, atol=1e-3)
    assert found["singular_values"].shape == (2, FEATURES - 1)


def test_elsewhere_is_the_median_at_random_inputs():
    mine = question_of(Setting("toy", smoothing=0, critical_samples=3).resolved(TOY), TOY, None)
    found = mine.invert(PARAMETERS, lambda n: None)
    key = jax.random.fold_in(jax.random.key(0), 2)
    start = jax.vmap(mine.phi.init)(jax.random.split(key, 3))
    response, jacobian = linearize_batch(mine.f, start)
    for objective, elsewhere in zip(found["objective"], found["elsewhere"], strict=True):
        same = np.tile(objective, (3, 1))
        rests = jifv.stationarity(response, jacobian, same, significance=mine.setting.significance)
        np.testing.assert_allclose(elsewhere, np.median(rests), rtol=1e-3)
    assert np.isnan(asked().invert(PARAMETERS, lambda n: None)["elsewhere"]).all()


def test_what_is_not_finite_is_unknown_and_re_optimized_for_anything():
    mine = asked()
    broken = PARAMETERS.copy()
    broken[0, 0, 0, 0] = np.nan
    found = mine.invert(broken, lambda n: None)
    assert np.isnan(found["objective"][0]).all()
    assert np.isfinite(found["objective"][1]).all()
    wanted = {"prediction": found["objective"]}
    after = mine.reoptimize(PARAMETERS, wanted, steps=2, size=3, advance=lambda n: None)
    assert after["images_prediction"].shape == (2, 12, 12, 3)
    assert np.isnan(after["ssim_prediction"]).tolist() == [True, False]
    assert after["ssim_prediction"][1] > 0.9


def test_re_optimization_is_that_of_the_library():
    mine = asked()
    wanted = np.eye(2, FEATURES, dtype=np.float32)
    after = mine.reoptimize(PARAMETERS, {"prediction": wanted}, steps=3, size=2, advance=lambda n: None)
    expected = jifv.reoptimize(mine.f, PARAMETERS, wanted, significance=jifv.Significance(), steps=3)
    np.testing.assert_allclose(after["images_prediction"], jax.vmap(mine.phi.apply)(expected), atol=1e-5)
