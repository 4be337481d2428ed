"""How sure an answer is: cones, intervals and likely features against NumPy, and how often they hold the objective."""

import jax
import numpy as np
import pytest
from support.inverse_problem import generator, normalize, orthonormal

import jifv
from jifv.confidence import WIDE, Calibration, calibrate, cone, summarize
from jifv.inversion import Inversion

KEY = jax.random.key(0)
FEATURES, ROWS = 5, 400
"""Of every batch, so that there is one program, and another one for critical spaces."""

DRAWS = {"draws": 200, "top": 2}


def inversion(values, seed=0):
    """An answer for each row of singular values, over and over, without a network."""
    rng, values = generator(seed), np.resize(np.float32(values), (ROWS, len(values[0])))
    vectors = np.array([orthonormal(rng, values.shape[1], values.shape[1]) for _ in values], np.float32)
    last = values[:, -1]
    return Inversion(
        objective=vectors[..., -1],
        singular_values=values,
        singular_vectors=vectors,
        gap=1 - last / values[:, -2],
        dead=np.zeros(values.shape, bool),
        stationarity=last / values[:, 0],
        cosine=np.ones(ROWS, np.float32),
    )


def off(inversion, degrees, seed=1):
    """Objectives that are so far from the answers, more along the small singular values: the model."""
    goals = []
    for vectors, values, angle in zip(*inversion[2:0:-1], np.radians(degrees), strict=True):
        across = normalize(vectors[:, :-1] @ (generator(seed, len(goals)).normal(size=FEATURES - 1) / values[:-1]))
        goals.append(np.cos(angle) * vectors[:, -1] + np.sin(angle) * across)
    return np.array(goals, np.float32)


@pytest.fixture(scope="module")
def model():
    """Inversions, and objectives that are off by ρ² times a number that is exponential; known ones, and others."""

    def some(seed):
        rng = generator(seed)
        values = np.geomspace(1, 0.1, FEATURES - 1) * np.ones((ROWS, 1))
        found = inversion(np.concatenate([values, 0.1 * rng.uniform(0.2, 0.9, (ROWS, 1))], axis=1), seed)
        return found, off(found, 20 * rng.exponential(size=ROWS) * (1 - found.gap) ** 2, seed)

    return some(2), some(3)


@pytest.mark.parametrize(
    ("level", "rank"), [(0.0, 1), (0.5, 10), (0.9, 18), (0.9001, 19), (0.95, 19)]
)  # ⌈20·level⌉ of 19
def test_a_cone_is_an_order_statistic_times_the_squared_ratio(level, rank):
    found = inversion([[1, 0.5, 0.25], [1, 0.5, 0.05]])
    known = Calibration(np.arange(1, 20, dtype=np.float32))
    np.testing.assert_allclose(cone(found, known, level=level)[:2], [rank * 0.25, rank * 0.01], rtol=1e-5)


def test_too_few_known_realizations_promise_nothing():
    found = inversion([[1, 0.5, 0.25]])
    assert (cone(found, Calibration(np.ones(19, np.float32)), level=0.96) == 180).all()
    assert (cone(found, Calibration(np.full(19, 1e4, np.float32))) == 180).all()


def test_a_calibration_has_the_angles_over_the_squared_ratio():
    found = inversion([[1, 0.5, 0.3, 0.2, last] for last in (0.1, 0.02, 1e-6)])
    goals = off(found, np.resize([10, 3, 0.02], ROWS))
    known = calibrate(found, goals)
    # A ratio counts as 0.01 at least: below, rounding decides.
    np.testing.assert_allclose(known.quotients, np.sort(np.resize([10 / 0.25, 300, 200], ROWS)), rtol=5e-3)
    assert repr(known) == "Calibration(400 samples, median 200° for ρ = 1)"
    lost = found._replace(objective=np.where(np.arange(ROWS)[:, None] % 3 == 1, np.nan, found.objective))
    np.testing.assert_array_equal(np.unique(np.round(calibrate(lost, goals).quotients, -1)), [40, 200])


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_sets_hold_the_objectives_of_others_as_often_as_they_say(model, level):
    known, (others, goals) = calibrate(*model[0]), model[1]
    said = summarize(KEY, others, known, level=level, **DRAWS)
    assert abs(np.mean(jifv.angle(others.objective, goals) <= said.cone) - level) < 0.1
    assert abs(np.mean((said.lower <= goals) & (goals <= said.upper)) - level) < 0.06


def test_intervals_and_likely_features_are_those_of_the_model():
    one = jax.tree.map(lambda leaf: leaf[0], inversion([[1, 0.6, 0.3, 0.2, 0.14]]))
    found = jax.tree.map(lambda leaf: np.stack([leaf] * ROWS), one)
    known = Calibration(np.resize(np.float32([20, 60, 120]), ROWS))
    said = summarize(KEY, found, known, level=0.8, **DRAWS)
    rng = generator(3)
    across = rng.normal(size=(20_000, 4)) / one.singular_values[:-1] @ one.singular_vectors[:, :-1].T
    angles = np.radians(rng.choice(known.quotients[:3], (20_000, 1)) * 0.49)
    drawn = np.cos(angles) * one.objective
    drawn += np.sin(angles) * across / np.linalg.norm(across, axis=1, keepdims=True)
    np.testing.assert_allclose(np.mean(said.lower, 0), np.quantile(drawn, 0.1, axis=0), atol=0.01)
    np.testing.assert_allclose(np.mean(said.upper, 0), np.quantile(drawn, 0.9, axis=0), atol=0.01)
    ranks = np.argsort(np.argsort(-drawn, axis=1), axis=1)
    np.testing.assert_allclose(np.mean(said.top, 0), np.mean(ranks < 2, axis=0), atol=0.01)
    assert np.ptp(said.lower, axis=0).min() > 0  # samples are independent


def test_one_sample_needs_no_batch_axis():
    one = jax.tree.map(lambda leaf: leaf[0], inversion([[1, 0.6, 0.3, 0.2, 0.14]]))
    said = jax.eval_shape(lambda one: summarize(KEY, one, Calibration(np.ones(9, np.float32)), top=9), one)
    assert [leaf.shape for leaf in said] == [(), (), (FEATURES,), (FEATURES,), (FEATURES,)]


def test_what_is_dead_or_unknown_stays_so_and_what_is_wide_is_undecided():
    found = inversion([[1, 0.6, 0.3, 0.2, 0.02], [1, 0.6, 0.3, 0.2, 0.19], [1, 0.6, 0.3, 0.2, 0.1], [1] * 5])
    # The first: one direction is taken out, and with it a feature. The fourth: nothing is finite.
    for name in ("singular_values", "singular_vectors", "gap", "objective", "dead"):
        found = found._replace(**{name: np.array(getattr(found, name))})
    found.singular_vectors[0], found.singular_values[0, 0], found.dead[0, 0] = np.eye(FEATURES), np.inf, True
    found.objective[0], found.objective[3], found.gap[3] = np.eye(FEATURES)[-1], np.nan, 0
    said = summarize(KEY, found, Calibration(np.full(ROWS, 60, np.float32)), **DRAWS)
    np.testing.assert_allclose(said.cone[:3], [0.6, 60 * 0.9025, 15], rtol=1e-3)
    assert np.isnan(said.cone[3])
    assert 15 < WIDE < 54
    np.testing.assert_array_equal(said.undecided[:4], [False, True, False, True])
    for each in (said.lower, said.upper, said.top):
        np.testing.assert_array_equal(np.isnan(each[:4]), found.dead[:4] | (np.arange(4) == 3)[:, None])
    np.testing.assert_allclose(np.sum(said.top[1:3], axis=1), 2, rtol=1e-3)
    assert repr(said) == "Confidence(batch (400,), 5 features)"


def test_on_a_critical_space_everything_is_said_on_it():
    rng, full = generator(5), inversion([[1, 0.5, 0.3, 0.2, 0.1]])
    vectors = np.array([orthonormal(rng, 5, 3) for _ in range(ROWS)], np.float32)
    values = np.tile(np.float32([1, 0.5, 0.25]), (ROWS, 1))
    found = full._replace(singular_vectors=vectors, singular_values=values, objective=vectors[..., -1])
    basis = np.eye(5, 3, dtype=np.float32)
    goals = off(full, np.full(ROWS, 30))
    known = calibrate(found, goals, basis=basis)
    far = jifv.angle(vectors[..., -1], goals, basis=basis)
    np.testing.assert_allclose(known.quotients, np.sort(4 * far), rtol=1e-5)
    said = summarize(KEY, found, known, basis=basis, **DRAWS)
    np.testing.assert_allclose(said.upper[:, 3:], 0, atol=1e-6)
    np.testing.assert_allclose(said.lower[:, 3:], 0, atol=1e-6)
    assert (said.upper[:, :3] > said.lower[:, :3]).all()
    # Almost no spread: the interval is at the answer, on V.
    said = summarize(KEY, found, Calibration(np.full(ROWS, 1e-3, np.float32)), basis=basis, **DRAWS)
    answers = found.objective[:, :3] / np.linalg.norm(found.objective[:, :3], axis=1, keepdims=True)
    np.testing.assert_allclose(said.lower[:, :3], answers, atol=1e-4)


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused(model):
    found, goals = model[0]
    known = Calibration(np.ones(9, np.float32))
    for options, message in (
        ({"level": 1.0}, "level must be below 1"),
        ({"top": 0}, "top must be at least 1"),
        ({"draws": 0}, "draws must be at least 1"),
        ({"basis": np.ones((FEATURES, 1), np.float32)}, "basis must have orthonormal columns"),
    ):
        with pytest.raises(ValueError, match=message):
            summarize(KEY, found, known, **options)
    for objectives, message in (
        (goals[0], r"objectives must have shape \(samples, n\), \(400, 5\), got \(5,\)"),
        (goals[:3], r"objectives must have shape \(samples, n\)"),
        (goals * 0, "objectives must be nonzero"),
    ):
        with pytest.raises(ValueError, match=message):
            calibrate(found, objectives)
    with pytest.raises(ValueError, match="inversion must be known of at least one sample, got none of 400"):
        calibrate(found._replace(objective=found.objective * np.nan), goals)
