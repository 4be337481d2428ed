from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.toy import FEATURES, TOY, network, scores

from jifv.experiments.experiment import with_options
from jifv.experiments.problem import check, problem_of
from jifv.experiments.results import OBJECTIVES
from jifv.experiments.run import identity, run
from jifv.experiments.store import Store


def short(adam_steps=5, lbfgs_steps=5, **changes):
    return with_options(TOY, {"adam_steps": adam_steps, "lbfgs_steps": lbfgs_steps, **changes})


def same(first, second):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), arrays(first), arrays(second))


def arrays(results):
    return {name: value for name, value in asdict(results).items() if name not in ("experiment", "seconds")}


@pytest.fixture(scope="module")
def brief():
    return run(short(), network(scores))


def test_trivial_direction_is_found_and_removed(results):
    share = results.realized.beta.mean(0)
    assert share[:2].sum() > 0.95  # the whole target is in the trivial direction and the one after
    assert share[1] > 0.2
    assert results.calibrated.basis.shape == (FEATURES, FEATURES - 1)
    np.testing.assert_allclose(
        np.abs(results.calibrated.spaces[0].cokernel[:, 0]), np.ones(FEATURES) / np.sqrt(FEATURES), atol=1e-3
    )
    assert np.median(results.evaluation.angles["prediction"]) > 20
    assert np.median(results.evaluation.angles["prediction_on_v"]) < 2
    assert np.median(results.evaluation.angles["response_on_v"]) > 3 * np.median(
        results.evaluation.angles["prediction_on_v"]
    )


def test_share_off_v_is_that_of_the_mean(results):
    mean = results.objectives.mean(-1) * np.sqrt(FEATURES)
    np.testing.assert_allclose(results.evaluation.off_v, mean**2, atol=1e-3)


def test_objectives_are_sampled_and_canonical(results):
    assert results.canonical.tolist() == [False] * 6 + [True] * 2
    np.testing.assert_allclose(np.linalg.norm(results.objectives, axis=-1), 1, rtol=1e-5)
    assert np.count_nonzero(results.objectives[-2:]) == 2
    assert len({tuple(row) for row in results.objectives.round(4)}) == 8


def test_stationarity_is_the_gradient_over_the_largest_singular_value(results):
    # The gradient of the significance is s·JᵀBv with s the power of the cosine, see `gradient_product`.
    size = results.realized.gradient_norm / results.realized.cosine**TOY.significance.power
    np.testing.assert_allclose(
        results.realized.stationarity, size / results.realized.singular_values[:, 0], rtol=1e-2, atol=1e-6
    )


def test_without_algorithm_1_the_space_is_the_ambient_one():
    plain = run(short(critical_samples=0), network(scores))
    assert plain.calibrated.spaces == []
    np.testing.assert_array_equal(plain.calibrated.basis, np.eye(FEATURES))
    np.testing.assert_array_equal(plain.calibrated.prediction, plain.realized.prediction)
    assert "critical" not in plain.seconds
    assert {"visualize", "jacobian", "invert", "reoptimize"} == plain.seconds.keys()


def test_first_features_are_those_of_the_layer(brief):
    def doubled(x):
        return jnp.concatenate([scores(x), 100 * scores(x)])

    twice = network(doubled)._replace(output_shape=(2 * FEATURES,), feature_names=tuple("abcdefghij"))
    first = run(short(features=FEATURES), twice)
    assert first.feature_names == tuple("abcde")
    np.testing.assert_allclose(first.realized.response, brief.realized.response, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "other", "message"),
    [
        ({"features": 6}, {}, "features must be at most the 5 of scores, got 6"),
        ({}, {"input_shape": (8, 8, 3)}, "input_size must be at least 11, the window of SSIM, got 8×8"),
        ({"parametrization": "geometry"}, {}, r"parametrization must make inputs of the shape \(12, 12, 3\)"),
        ({"aggregation": "mean"}, {}, r"activations must have shape \(h, w, n\)"),
    ],
)
def test_what_does_not_fit_the_network_is_refused_before_any_work(changes, other, message, unchecked):
    with pytest.raises(ValueError, match=message):
        check(short(**changes), network(None)._replace(**other))


@pytest.mark.slow  # tests/test_visualization.py has each stage's batches
def test_batches_change_nothing_but_rounding(results):
    # One size of batch, one program: the batches of the resumed run below have two.
    again = run(replace(TOY, batch_size=4), network(scores))
    np.testing.assert_array_equal(again.objectives, results.objectives)
    assert (
        np.median(again.evaluation.angles["prediction_on_v"]) < 2
    )  # two hundred steps from a rounding error are another optimum


def test_same_seed_gives_the_same_numbers(brief):
    same(run(short(), network(scores)), brief)
    other = problem_of(short(seed=1), network(scores))
    assert not np.array_equal(other.objectives, brief.objectives)


def test_resumed_run_gives_the_same_numbers(tmp_path):
    cell, net = short(batch_size=3), network(scores)

    def store():
        return Store.open(tmp_path / "run.zarr", identity(cell, net), cell.samples, cell.batch_size)

    whole = run(cell, net)
    stopped = store()
    stopped.write = _stop_after(stopped.write, 4)  # three batches of the first stage and one of the second
    with pytest.raises(KeyboardInterrupt):
        run(cell, net, store=stopped)
    same(run(cell, net, store=store()), whole)
    same(run(cell, net, store=store()), whole)  # and once more, with nothing left to do
    np.testing.assert_array_equal(store().read("realize")["objectives"], whole.objectives)


def _stop_after(write, count):
    calls = iter(range(count))

    def stopping(*arguments, **options):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        write(*arguments, **options)

    return stopping


def test_identity_has_what_decides_the_numbers():
    first = identity(TOY, network(scores))
    assert first != identity(with_options(TOY, {"power": 1}), network(scores))
    assert first != identity(TOY, network(scores)._replace(digest="1" * 64))
    assert first["versions"].keys() == {"jifv", "jax", "jaxlib"}


def test_samples_that_are_not_finite_are_left_out(partly_finite):
    some = partly_finite
    lost = ~some.realized.finite
    assert 0 < lost.sum() < len(lost)
    for values in (*some.evaluation.angles.values(), some.evaluation.ssim["prediction"], some.realized.stationarity):
        assert np.isnan(values[lost]).all()
        assert np.isfinite(values[~lost]).all()
    assert np.isfinite(some.realized.mean_beta).all()


def test_network_that_is_never_finite_is_an_error():
    with pytest.raises(FloatingPointError, match="only 0 realizations are finite"):
        run(short(2, 0), network(lambda x: scores(x) * jnp.nan))


def test_results_are_arrays_of_the_samples(results):
    found = arrays(results)
    del found["calibrated"]["basis"], found["calibrated"]["spaces"], found["calibrated"]["choice"]
    leaves = jax.tree_util.tree_leaves_with_path(found)
    of_samples = [(place, leaf) for place, leaf in leaves if isinstance(leaf, np.ndarray)]
    assert len(of_samples) > 30
    for place, leaf in of_samples:
        assert len(leaf) == TOY.samples, place
    assert results.reoptimized.images.keys() == results.evaluation.ssim.keys() == set(OBJECTIVES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 1}, "samples must be at least 2"),
        ({"samples": 0}, "samples must be at least 2"),
        ({"canonical": 9}, "canonical must be at most samples, 8, got 9"),
        ({"reoptimize_steps": 0}, "reoptimize_steps must be at least 1"),
        ({"critical_samples": -1}, "critical_samples must be at least 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"row_batch_size": 0}, "row_batch_size must be at least 1"),
        ({"features": 0}, "features must be at least 1"),
        ({"input_size": 8}, "input_size must be at least 11, got 8"),
        ({"dead_tolerance": 1.0}, "dead_tolerance must be below 1, got 1.0"),
        ({"smoothing": float("inf")}, "smoothing must be finite and >= 0, got inf"),
        ({"seed": 2**32}, "seed must be at most 4294967295"),
        ({"aggregation": "median"}, "aggregation must be one of max_mean, mean, pick, identity, got 'median'"),
        ({"parametrization": "jpeg"}, "parametrization must be one of pixels, .*, got 'jpeg'"),
    ],
)
def test_bad_sizes_and_names_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TOY, **changes)


def test_no_more_canonical_objectives_than_features():
    many = problem_of(short(samples=40, canonical=10), network(scores))
    assert many.canonical.sum() == FEATURES  # and not a quarter of 40
    np.testing.assert_array_equal(many.objectives[-FEATURES:], np.eye(FEATURES))
