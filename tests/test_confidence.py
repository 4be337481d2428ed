"""How sure an answer is: cones, intervals and likely features against NumPy, and how often they hold the objective."""

import jax
import numpy as np
import pytest
from support.inverse_problem import generator, normalize, orthonormal

import jifv
from jifv.confidence import WIDE, Calibration, calibrate, cone, summarize
from jifv.inversion import Inversion

KEY = jax.random.key(0)
FEATURES = 5


def inversion(values, seed=0):
    """An answer for each row of singular values, without a network."""
    rng, values = generator(seed), np.asarray(values, np.float32)
    vectors = np.array([orthonormal(rng, values.shape[1], values.shape[1]) for _ in values], np.float32)
    last = values[:, -1]
    return Inversion(
        objective=vectors[..., -1],
        singular_values=values,
        singular_vectors=vectors,
        gap=1 - last / values[:, -2],
        dead=np.zeros(values.shape, bool),
        stationarity=last / values[:, 0],
    )


def off(inversion, degrees, seed=1):
    """Objectives that are so far from the answers, more along the small singular values: the model."""
    goals = []
    for vectors, values, angle in zip(*inversion[2:0:-1], np.radians(degrees), strict=True):
        across = normalize(vectors[:, :-1] @ (generator(seed, len(goals)).normal(size=FEATURES - 1) / values[:-1]))
        goals.append(np.cos(angle) * vectors[:, -1] + np.sin(angle) * across)
    return np.array(goals, np.float32)


def some(tree, rows):
    return jax.tree.map(lambda leaf: leaf[rows], tree)


@pytest.fixture(scope="module")
def model():
    """200 inversions, and objectives that are off by ρ² times a number that is exponential."""
    rng = generator(2)
    values = np.geomspace(1, 0.1, FEATURES - 1) * np.ones((200, 1))
    found = inversion(np.concatenate([values, 0.1 * rng.uniform(0.2, 0.9, (200, 1))], axis=1))
    return found, off(found, 20 * rng.exponential(size=200) * (1 - found.gap) ** 2)


@pytest.mark.parametrize(
    ("level", "rank"), [(0.0, 1), (0.5, 10), (0.9, 18), (0.9001, 19), (0.95, 19)]
)  # ⌈20·level⌉ of 19
def test_a_cone_is_an_order_statistic_times_the_squared_ratio(level, rank):
    found = inversion([[1, 0.5, 0.25], [1, 0.5, 0.05]])
    known = Calibration(np.arange(1, 20, dtype=np.float32))
    np.testing.assert_allclose(cone(found, known, level=level), [rank * 0.25, rank * 0.01], rtol=1e-5)


def test_too_few_known_realizations_promise_nothing():
    found = inversion([[1, 0.5, 0.25]])
    assert cone(found, Calibration(np.ones(19, np.float32)), level=0.96) == 180
    assert cone(found, Calibration(np.full(19, 1e4, np.float32))) == 180


def test_a_calibration_has_the_angles_over_the_squared_ratio():
    found = inversion([[1, 0.5, 0.3, 0.2, 0.1], [1, 0.5, 0.3, 0.2, 0.02], [1, 0.5, 0.3, 0.2, 1e-6]])
    known = calibrate(found, off(found, [10, 3, 0.02]))
    # A ratio counts as 0.01 at least: below, rounding decides.
    np.testing.assert_allclose(known.quotients, [10 / 0.25, 200, 300], rtol=5e-3)
    assert repr(known) == "Calibration(3 samples, median 200° for ρ = 1)"
    lost = found._replace(objective=np.where(np.arange(3)[:, None] == 1, np.nan, found.objective))
    assert calibrate(lost, off(found, [10, 3, 0.02])).quotients.shape == (2,)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_sets_hold_the_objectives_of_others_as_often_as_they_say(model, level):
    found, goals = model
    known = calibrate(some(found, slice(0, None, 2)), goals[::2])
    others, goals = some(found, slice(1, None, 2)), goals[1::2]
    said = summarize(KEY, others, known, level=level, draws=300)
    assert abs(np.mean(jifv.angle(others.objective, goals) <= said.cone) - level) < 0.1
    assert abs(np.mean((said.lower <= goals) & (goals <= said.upper)) - level) < 0.06


def test_intervals_and_likely_features_are_those_of_the_model():
    found = some(inversion([[1, 0.6, 0.3, 0.2, 0.14]]), 0)
    known = Calibration(np.array([20, 60, 120], np.float32))
    said = summarize(KEY, found, known, level=0.8, top=2, draws=4000)
    rng = generator(3)
    across = rng.normal(size=(20_000, 4)) / found.singular_values[:-1] @ found.singular_vectors[:, :-1].T
    angles = np.radians(rng.choice(known.quotients, (20_000, 1)) * 0.49)
    drawn = np.cos(angles) * found.objective
    drawn += np.sin(angles) * across / np.linalg.norm(across, axis=1, keepdims=True)
    np.testing.assert_allclose(said.lower, np.quantile(drawn, 0.1, axis=0), atol=0.04)
    np.testing.assert_allclose(said.upper, np.quantile(drawn, 0.9, axis=0), atol=0.04)
    ranks = np.argsort(np.argsort(-drawn, axis=1), axis=1)
    np.testing.assert_allclose(said.top, np.mean(ranks < 2, axis=0), atol=0.04)
    np.testing.assert_allclose(said.cone, 180)  # of three known ones a level of 0.8 takes four
    assert bool(said.undecided)


def test_what_is_dead_or_unknown_stays_so_and_what_is_wide_is_undecided():
    found = inversion([[1, 0.6, 0.3, 0.2, 0.02], [1, 0.6, 0.3, 0.2, 0.19], [1, 0.6, 0.3, 0.2, 0.1], [1] * 5])
    values, gap, objective = (np.array(each) for each in (found.singular_values, found.gap, found.objective))
    dead = np.zeros_like(found.dead)
    # The first: one direction is taken out, and with it a feature. The last: nothing is finite.
    vectors = found.singular_vectors.copy()
    vectors[0] = np.eye(FEATURES)
    objective[0], objective[3], values[0, 0], dead[0, 0], gap[3] = vectors[0, -1], np.nan, np.inf, True, 0
    found = found._replace(singular_values=values, singular_vectors=vectors, objective=objective, dead=dead, gap=gap)
    said = summarize(KEY, found, Calibration(np.full(9, 60, np.float32)), top=7, draws=100)
    np.testing.assert_allclose(said.cone[:3], [0.6, 60 * 0.9025, 15], rtol=1e-3)
    assert np.isnan(said.cone[3])
    assert 15 < WIDE < 54
    np.testing.assert_array_equal(said.undecided, [False, True, False, True])
    for each in (said.lower, said.upper, said.top):
        np.testing.assert_array_equal(np.isnan(each), dead | np.array([[False], [False], [False], [True]]))
    np.testing.assert_allclose(said.top[1:3], 1, rtol=1e-3)  # of fewer features than are asked for, all
    assert repr(said) == "Confidence(batch (4,), 5 features)"


def test_on_a_critical_space_everything_is_said_on_it():
    rng, full = generator(5), inversion([[1, 0.5, 0.3, 0.2, 0.1]] * 30)
    vectors = np.array([orthonormal(rng, 5, 3) for _ in range(30)], np.float32)
    values = np.tile(np.float32([1, 0.5, 0.25]), (30, 1))
    found = full._replace(
        singular_vectors=vectors, singular_values=values, objective=vectors[..., -1], gap=np.full(30, 0.5)
    )
    basis = np.eye(5, 3, dtype=np.float32)
    goals = off(full, np.full(30, 30))
    known = calibrate(found, goals, basis=basis)
    assert float(known.quotients[-1]) == pytest.approx(4 * jifv.angle(vectors[..., -1], goals, basis=basis).max())
    said = summarize(KEY, found, known, draws=50, basis=basis)
    np.testing.assert_allclose(said.upper[:, 3:], 0, atol=1e-6)
    np.testing.assert_allclose(said.lower[:, 3:], 0, atol=1e-6)
    assert (said.upper[:, :3] > said.lower[:, :3]).all()
    # Almost no spread: the interval is at the answer, on V.
    said = summarize(KEY, found, Calibration(np.full(9, 1e-3, np.float32)), draws=50, basis=basis)
    answers = found.objective[:, :3] / np.linalg.norm(found.objective[:, :3], axis=1, keepdims=True)
    np.testing.assert_allclose(said.lower[:, :3], answers, atol=1e-4)


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused(model):
    found, goals = model
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
        (goals[0], r"objectives must have shape \(samples, n\), \(200, 5\), got \(5,\)"),
        (goals[:3], r"objectives must have shape \(samples, n\)"),
        (goals * 0, "objectives must be nonzero"),
    ):
        with pytest.raises(ValueError, match=message):
            calibrate(found, objectives)
    with pytest.raises(ValueError, match="inversion must be known of at least one sample, got none of 200"):
        calibrate(found._replace(objective=found.objective * np.nan), goals)
