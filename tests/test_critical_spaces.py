"""Which critical spaces are returned, and in which order."""

import itertools

import jax
import mpmath
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from support.subspaces import largest_angle, orthonormal, planted

from jifv.critical import SingularPairs, critical_space, critical_spaces, singular_pairs
from jifv.jacobian import linearize
from jifv.models import load

# -- Nested intervals.


def graded(seed, samples=4, features=6, scales=(1, 0.9, 0.8, 3e-2, 1e-3, 0)):
    """Jacobians that nearly share directions of falling strength, and the directions."""
    rng = np.random.default_rng(seed)
    frame = orthonormal(rng, features, features)
    strengths = np.array(scales) * rng.uniform(0.7, 1.4, size=(samples, features))
    jacobians = np.stack([frame * row @ orthonormal(rng, 30, features).T for row in strengths])
    return jacobians + 1e-5 * rng.normal(size=jacobians.shape), frame


def test_a_space_for_every_shared_direction():
    jacobians, frame = graded(0)
    spaces = critical_spaces(jacobians.astype(np.float32))
    assert sorted(space.basis.shape[1] for space in spaces) == [3, 4, 5]
    assert [space.gap for space in spaces] == sorted((space.gap for space in spaces), reverse=True)
    for space in spaces:
        assert largest_angle(space.cokernel, frame[:, space.basis.shape[1] :]) < 0.02


@given(seed=st.integers(0, 2**31), samples=st.integers(1, 5), shared=st.booleans())
@settings(max_examples=20)
def test_interval_ends_are_exact(seed, samples, shared):
    rng = np.random.default_rng(seed)
    jacobians = graded(seed, samples)[0] if shared else rng.normal(size=(samples, 6, 30))
    pairs = singular_pairs(jacobians.astype(np.float32))
    spaces = critical_spaces(pairs, smallest_gap=0)
    assert len({space.basis.shape[1] for space in spaces}) == len(spaces)

    def dimension(threshold):
        return critical_space(pairs, threshold=threshold).basis.shape[1]

    for space in spaces:
        low, high, own = space.threshold_low, space.threshold_high, space.basis.shape[1]
        assert 1 <= own <= 5
        assert 0 < low < high <= 1
        assert dimension(low) == own
        assert dimension(np.nextafter(high, 0)) == own
        assert dimension(np.nextafter(low, 0)) != own
        assert dimension(high) != own
        np.testing.assert_array_equal(critical_space(pairs, threshold=low).cokernel, space.cokernel)


def test_the_widest_interval_against_trying_every_threshold():
    """Where the dimension falls with the threshold, nested intervals find what exhaustive search finds."""
    pairs = singular_pairs(graded(1)[0].astype(np.float32))
    steps = np.unique(pairs.values / pairs.values[:, :1])
    tried = [critical_space(pairs, threshold=step).basis.shape[1] for step in steps]
    assert tried == sorted(tried, reverse=True)
    spaces = critical_spaces(pairs, smallest_gap=0)
    assert {space.basis.shape[1] for space in spaces} == set(tried) - {0, 6}
    for space in spaces:
        own = [step for step, size in zip(steps, tried, strict=True) if size == space.basis.shape[1]]
        assert space.threshold_low == own[0]
        assert space.threshold_high == steps[np.searchsorted(steps, own[-1]) + 1]


@pytest.mark.parametrize("seed", [85, 225, 346, 692])
def test_of_two_intervals_the_wider(seed):
    """Unrelated cokernels, chosen because 3 dimensions come, go and come again as the threshold grows."""
    rng = np.random.default_rng(seed)
    vectors = np.stack([orthonormal(rng, 4, 4) for _ in range(3)])
    values = -np.sort(-rng.random((3, 4)), axis=1)
    values /= values[:, :1]
    pairs = SingularPairs(vectors, values)
    steps = np.unique(values)
    tried = [critical_space(pairs, threshold=step).basis.shape[1] for step in steps]
    runs = [list(run) for size, run in itertools.groupby(range(len(steps)), key=tried.__getitem__) if size == 3]
    assert len(runs) == 2
    expected = max(((steps[run[0]], steps[run[-1] + 1]) for run in runs), key=lambda ends: ends[1] / ends[0])
    (space,) = (space for space in critical_spaces(pairs, smallest_gap=0) if space.basis.shape[1] == 3)
    assert (space.threshold_low, space.threshold_high) == expected


def test_thresholds_above_the_largest_are_not_tried():
    pairs = singular_pairs(graded(2)[0].astype(np.float32))
    (everything,) = (space for space in critical_spaces(pairs) if space.basis.shape[1] == 5)
    few = critical_spaces(pairs, largest_threshold=1e-4)
    assert [space.basis.shape[1] for space in few] == [5]
    np.testing.assert_array_equal(few[0].cokernel, everything.cokernel)
    assert few[0].threshold_low == everything.threshold_low
    assert critical_spaces(pairs, largest_threshold=1e-12) == []


def test_the_interval_of_one_threshold():
    pairs = singular_pairs(graded(3)[0].astype(np.float32))
    steps = np.unique(pairs.values / pairs.values[:, :1])
    space = critical_space(pairs, threshold=steps[5])
    assert (space.threshold_low, space.threshold_high) == (steps[5], steps[6])
    space = critical_space(pairs, threshold=np.nextafter(steps[5], 0))
    assert (space.threshold_low, space.threshold_high) == (steps[4], steps[5])


# -- What the spectrum supports.


@given(
    features=st.sampled_from([6, 15]),  # each shape is a compilation
    share=st.floats(0.05, 0.6),
    samples=st.sampled_from([4, 9]),
    double=st.booleans(),
    noise=st.sampled_from([0, 1e-5, 1e-3]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=25)
def test_the_planted_dimension_is_ranked_first(features, share, samples, double, noise, seed):
    dimension = max(1, int(share * features))
    jacobians, _ = planted(np.random.default_rng(seed), samples, features, 6 * features, dimension, noise)
    dtype = np.float64 if double else np.float32
    with jax.enable_x64(double):
        spaces = critical_spaces(jacobians.astype(dtype))
        shuffled = critical_spaces(jacobians.astype(dtype), key=jax.random.key(seed))
    assert [space.basis.shape[1] for space in spaces] == [features - dimension]
    # SciPy knows the common cokernel as the softest singular vectors, or the null space, of all samples together.
    stacked = np.concatenate([j.T / np.linalg.norm(j, 2) for j in jacobians]) / np.sqrt(samples)
    expected = scipy.linalg.svd(stacked)[2][-dimension:].T
    if noise == 0:
        assert largest_angle(expected, scipy.linalg.null_space(stacked, rcond=1e-10)) < 1e-7
    for space in (spaces[0], shuffled[0]):
        assert largest_angle(space.cokernel, expected) < max(3 * noise, 1e-12 if double else 1e-5)
        inside = scipy.linalg.svdvals(stacked @ space.cokernel)[0]
        outside = scipy.linalg.svdvals(stacked @ space.basis)[-1]
        if noise:
            np.testing.assert_allclose(space.gap, outside / inside, rtol=0.02)
        assert f"{dimension} of {features} directions are common: over {samples} samples" in space.reason


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_does_not_split_an_exact_cokernel(dtype):
    jacobians, cokernel = planted(np.random.default_rng(20), 6, 12, 40, 5)
    with jax.enable_x64(dtype == np.float64):
        pairs = singular_pairs(jacobians.astype(dtype))
    assert np.all(pairs.values[:, 7:] == 0)
    spaces = critical_spaces(pairs, smallest_gap=0)
    assert max(space.basis.shape[1] for space in spaces) == 7
    (exact,) = (space for space in spaces if space.basis.shape[1] == 7)
    assert exact.threshold_low == 0
    assert exact.gap == max(space.gap for space in spaces) > 1e4
    assert largest_angle(critical_space(pairs, threshold=1e-30).cokernel, cokernel) < 1e-5


def residual(features, samples):
    """Jacobians of unconverged realizations: (1, ..., 1) exact, softest directions at 0.008, objectives at 0.013."""
    rng = np.random.default_rng(21)
    ones = np.full((features, 1), features**-0.5)
    frame = np.hstack([orthonormal(rng, features, features - 1), ones])
    vectors, values = np.empty((samples, features, features)), np.empty((samples, features))
    for i in range(samples):
        soft = np.linalg.qr(np.hstack([ones, frame[:, :-1] + 0.1 * rng.normal(size=(features, features - 1))]))[0][
            :, 1:
        ]
        strengths = np.geomspace(1, 0.008, features - 1) * rng.uniform(0.9, 1.1, features - 1)
        objective = rng.uniform(size=features)
        objective -= objective.mean()
        objective /= np.linalg.norm(objective)
        rows = strengths[:, None] * soft.T
        rows += np.outer(0.013 * rng.normal(size=features - 1) / features**0.5 - rows @ objective, objective)
        left, sizes, _ = np.linalg.svd(rows.T)
        vectors[i], values[i] = left, np.append(sizes, 0)
    values[values < 1e-12] = 0
    return SingularPairs(vectors, values), ones


def test_a_hundred_scores_have_one_space():
    pairs, ones = residual(100, 12)
    (space,) = critical_spaces(pairs)
    assert space.basis.shape == (100, 99)
    assert largest_angle(space.cokernel, ones) < 1e-6


def test_a_class_that_is_nearly_dead_comes_second():
    jacobians, cokernel = planted(np.random.default_rng(22), 8, 10, 60, 2)
    weak = np.random.default_rng(23).normal(size=(8, 1, 60))
    jacobians += 0.2 * cokernel[:, :1] * weak
    first, second = critical_spaces(jacobians.astype(np.float32))
    assert (first.basis.shape[1], second.basis.shape[1]) == (9, 8)
    assert first.gap > 1e4 > second.gap > 2
    assert largest_angle(first.cokernel, cokernel[:, 1:]) < 1e-5
    assert largest_angle(second.cokernel, cokernel) < 0.05


def test_dead_neurons():
    jacobians = np.random.default_rng(24).normal(size=(5, 9, 40))
    jacobians[:, [2, 6]] = 0
    (space,) = critical_spaces(jacobians.astype(np.float32))
    assert largest_angle(space.cokernel, np.eye(9)[:, [2, 6]]) < 1e-12


def test_a_direction_soft_in_one_sample_is_not_common():
    rng = np.random.default_rng(25)
    jacobians = np.stack([planted(rng, 1, 10, 60, 1)[0][0] for _ in range(6)])
    assert critical_spaces(jacobians.astype(np.float32)) == []


def test_the_gap_of_a_closed_form():
    """Two samples diag(1, a) and diag(1, b): stiffness 1 and the root mean square of a and b."""
    jacobians = np.array([np.diag([2, 0.2]), np.diag([1, 0.05])])
    (space,) = critical_spaces(jacobians.astype(np.float32))
    expected = float(1 / mpmath.sqrt((mpmath.mpf("0.1") ** 2 + mpmath.mpf("0.05") ** 2) / 2))
    np.testing.assert_allclose(space.gap, expected, rtol=1e-6)
    assert critical_spaces(jacobians.astype(np.float32), smallest_gap=13) == []
    assert len(critical_spaces(jacobians.astype(np.float32), smallest_gap=12)) == 1


def test_nothing_is_separated_where_a_side_is_empty():
    jacobians = np.random.default_rng(26).normal(size=(3, 4, 9)).astype(np.float32)
    for threshold, reason in ((1e-6, "no direction is common"), (1.0, "every direction is common")):
        space = critical_space(jacobians, threshold=threshold)
        assert (space.gap, space.reason) == (1, reason)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dimensions"), [("densenet", [9]), ("densenet-no-deer", [9, 8])])
def test_class_scores(name, dimensions):
    """The softmax's direction comes first; the class that training never saw is not exactly dead."""
    network = load(name, layer="classifier")
    images = np.random.default_rng(27).uniform(size=(8, *network.input_shape)).astype(np.float32)
    jacobian = jax.jit(lambda x: linearize(network.apply, x).jacobian)
    jacobians = np.stack([jacobian(image) for image in images])
    spaces = critical_spaces(jacobians)
    assert [space.basis.shape[1] for space in spaces][: len(dimensions)] == dimensions
    assert largest_angle(spaces[0].cokernel, np.ones((10, 1)) / np.sqrt(10)) < 1e-5
    if len(dimensions) > 1:
        deer = np.eye(10)[:, 4]
        assert np.linalg.norm(spaces[1].cokernel.T @ deer) > 0.9


# -- Bad input.


@pytest.mark.parametrize("gap", [-0.1, np.nan])
def test_the_smallest_gap_must_be_a_number(gap):
    with pytest.raises(ValueError, match="smallest_gap must be at least 0"):
        critical_spaces(np.ones((2, 3, 4), np.float32), smallest_gap=gap)


def test_singular_pairs_must_be_finite():
    with pytest.raises(ValueError, match="singular pairs must be finite"):
        critical_spaces(SingularPairs(np.stack([np.eye(3)]), np.array([[1, np.nan, 0]])))
