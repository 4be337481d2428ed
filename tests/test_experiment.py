import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import FEATURES, TOY, network, scores

from jifv import report
from jifv.experiment import EXPERIMENTS, OBJECTIVES, resized, run
from jifv.visualize import Settings


@pytest.fixture(scope="module")
def results():
    return run(TOY, network(scores), progress=False)


def test_trivial_direction_is_found_and_removed(results):
    share = results.beta.mean(0)
    assert share[:2].sum() > 0.95  # the whole target is in the trivial direction and the one after
    assert share[1] > 0.2
    assert results.basis.shape == (FEATURES, FEATURES - 1)
    np.testing.assert_allclose(
        np.abs(results.spaces[0].cokernel[:, 0]), np.ones(FEATURES) / np.sqrt(FEATURES), atol=1e-3
    )
    assert np.median(results.angles["prediction"]) > 20
    assert np.median(results.angles["prediction_on_v"]) < 2
    assert np.median(results.angles["response_on_v"]) > 3 * np.median(results.angles["prediction_on_v"])


def test_share_off_v_is_that_of_the_mean(results):
    mean = results.objectives.mean(-1) * np.sqrt(FEATURES)
    np.testing.assert_allclose(results.off_v, mean**2, atol=1e-3)


def test_objectives_are_sampled_and_canonical(results):
    assert results.canonical.tolist() == [False] * 6 + [True] * 2
    np.testing.assert_allclose(np.linalg.norm(results.objectives, axis=-1), 1, rtol=1e-5)
    assert np.count_nonzero(results.objectives[-2:]) == 2
    assert len({tuple(row) for row in results.objectives.round(4)}) == 8


def test_batches_change_nothing_but_rounding(results):
    again = run(TOY, network(scores), batch_size=3, progress=False)
    np.testing.assert_array_equal(again.objectives, results.objectives)
    assert np.median(again.angles["prediction_on_v"]) < 2  # two hundred steps from a rounding error are another optimum


def test_same_seed_gives_the_same_numbers(results):
    short = resized(TOY, settings=Settings(adam_steps=5, lbfgs_steps=5))
    first, second = (report.arrays(run(short, network(scores), progress=False)) for _ in range(2))
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    other = run(resized(short, seed=1), network(scores), progress=False)
    assert not np.array_equal(other.objectives, first["objectives"])


def test_samples_that_are_not_finite_are_reported_and_left_out(tmp_path):
    def broken(x):
        return jnp.where(jnp.mean(x) > 0.502, jnp.nan, scores(x))

    short = resized(TOY, settings=Settings(adam_steps=5, lbfgs_steps=2))
    some = run(short, network(broken), progress=False)
    lost = ~some.visualization.finite
    assert 0 < lost.sum() < len(lost)
    assert np.isnan(some.angles["prediction"][lost]).all()
    assert np.isnan(some.ssim["prediction"][lost]).all()
    assert np.isfinite(some.angles["prediction"][~lost]).all()
    summary = report.write(some, tmp_path, feature_names=network(broken).feature_names, weights="none")
    assert summary["counts"]["not_finite"] == lost.sum()
    assert summary["angles"]["prediction"]["missing"] == lost.sum()
    assert any("NaN" in remark for remark in report.remarks(summary))


def test_network_that_is_never_finite_is_an_error():
    with pytest.raises(FloatingPointError, match="only 0 realizations are finite"):
        run(
            resized(TOY, settings=Settings(adam_steps=2, lbfgs_steps=0)),
            network(lambda x: scores(x) * jnp.nan),
            progress=False,
        )


def test_summary_has_what_it_promises(results, tmp_path):
    summary = report.write(results, tmp_path / "new", feature_names=network(scores).feature_names, weights="none")
    read = json.loads((tmp_path / "new" / "summary.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert read == summary
    promised = (
        "experiment network layer features samples power parametrization aggregation adam_steps lbfgs_steps seed "
        "versions device seconds angles beta critical_spaces chosen_dimension ssim"
    )
    assert set(promised.split()) <= read.keys()
    for name in ("prediction", "prediction_on_v", "response", "response_on_v", "random"):
        assert {"median", "p90"} <= read["angles"][name].keys()
    assert len(read["beta"]) == FEATURES
    assert sum(read["beta"]) == pytest.approx(1, abs=1e-5)
    assert {"dimension", "threshold_low", "threshold_high", "median_angle"} <= read["critical_spaces"][0].keys()
    assert read["ssim"].keys() == set(OBJECTIVES)
    assert read["chosen_dimension"] == FEATURES - 1


def test_files_hold_every_sample(results, tmp_path):
    report.write(results, tmp_path, feature_names=network(scores).feature_names, weights="none")
    lines = (tmp_path / "samples.csv").read_text().splitlines()
    assert len(lines) == 1 + TOY.samples
    with np.load(tmp_path / "results.npz") as arrays:
        np.testing.assert_array_equal(arrays["objectives"], results.objectives)
        np.testing.assert_array_equal(arrays["inversion_on_v_objective"], results.inversion_on_v.objective)
        assert all(arrays[name].dtype != object for name in arrays.files)
    for name in ("figure.png", "gallery.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["summary.json", "samples.csv", "results.npz", "figure.png", "gallery.png"]
    )


def test_angles_in_the_summary_are_those_of_numpy(results):
    summary = report.summary(results, weights="none")
    prediction = results.inversion.objective.astype(float)
    angles = np.degrees(np.arccos(np.sum(prediction * results.objectives, -1)))
    assert summary["angles"]["prediction"]["median"] == pytest.approx(np.median(angles), rel=1e-3)
    assert summary["angles"]["prediction"]["p90"] == pytest.approx(np.percentile(angles, 90), rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 1}, "samples must be at least 2"),
        ({"samples": 0}, "samples must be at least 1"),
        ({"seed": 0, "canonical": 9}, "canonical must be between 0 and samples"),
        ({"reoptimize_steps": 0}, "reoptimize_steps must be at least 1"),
        ({"jacobians": -1}, "jacobians must be at least 1"),
    ],
)
def test_bad_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        resized(TOY, **changes)


def test_dncl_is_that_of_the_paper():
    dncl = EXPERIMENTS["dncl"]
    assert (dncl.network, dncl.layer, dncl.aggregation) == ("densenet", "classifier", "identity")
    assert (dncl.samples, dncl.canonical) == (16, 4)
    assert resized(dncl, samples=300).canonical == 75
    assert dncl.settings.power == 2


def test_no_more_canonical_objectives_than_features():
    tiny = Settings(adam_steps=1, lbfgs_steps=0)
    many = run(resized(TOY, samples=40, settings=tiny, reoptimize_steps=1), network(scores), progress=False)
    assert many.canonical.sum() == FEATURES  # and not a quarter of 40
    np.testing.assert_array_equal(many.objectives[-FEATURES:], np.eye(FEATURES))


def test_float64_runs(x64):
    exact = run(resized(TOY, settings=Settings(adam_steps=20, lbfgs_steps=20)), network(scores), progress=False)
    assert exact.objectives.dtype == np.float64
    assert jax.config.jax_enable_x64
    assert exact.inversion.objective.dtype == np.float64
