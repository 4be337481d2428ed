import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from support.subspaces import largest_angle, orthonormal, planted

from jifv.critical import SingularPairs, critical_space, critical_spaces, merge, principal_vectors, singular_pairs

# -- Singular pairs.


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 8), (3, 5, 5), (2, 6, 4)])
def test_singular_pairs_against_scipy(x64, shape):
    jacobians = np.random.default_rng(0).normal(size=shape)
    pairs = singular_pairs(jacobians)
    assert pairs.vectors.shape == (shape[0], shape[1], shape[1])
    for jacobian, vectors, values in zip(jacobians, *pairs, strict=True):
        expected = np.pad(scipy.linalg.svdvals(jacobian), (0, shape[1] - min(shape[1:])))
        np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(shape[1]), atol=1e-14)
        np.testing.assert_allclose(np.linalg.norm(jacobian.T @ vectors, axis=0), expected, atol=1e-13)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float32])
def test_singular_pairs_are_orthonormal_in_float64_for_every_dtype(dtype):
    pairs = singular_pairs(jnp.asarray(np.random.default_rng(1).normal(size=(2, 6, 20)), dtype))
    for vectors in pairs.vectors:
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(6), atol=1e-14)


# -- Merging two subspaces.


def spaces_at(rng, angles, features=None):
    """Two subspaces with these principal angles, in random bases, and their principal vectors."""
    count = len(angles)
    frame = orthonormal(rng, features or 2 * count, 2 * count)
    first, normal = frame[:, :count], frame[:, count:]
    second = first * np.cos(angles) + normal * np.sin(angles)
    return first @ orthonormal(rng, count, count), second @ orthonormal(rng, count, count), first, normal


@given(features=st.integers(1, 8), first=st.integers(0, 8), second=st.integers(0, 8), seed=st.integers(0, 2**31))
@settings(max_examples=100)
def test_angles_are_those_of_scipy_below_45_degrees(features, first, second, seed):
    rng = np.random.default_rng(seed)
    first, second = (orthonormal(rng, features, min(size, features)) for size in (first, second))
    in_first, in_second, angles = principal_vectors(first, second)
    expected = np.zeros(0)
    if first.size and second.size:
        expected = scipy.linalg.subspace_angles(first, second)
    # SciPy (1.17) takes the cosine form for some small angles when a large one is among them, so 0 may be 1.5e-8.
    np.testing.assert_allclose(angles, expected[expected < np.pi / 4], atol=3e-8)
    for vectors, basis in ((in_first, first), (in_second, second)):
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(angles)), atol=1e-12)
        np.testing.assert_allclose(basis @ (basis.T @ vectors), vectors, atol=1e-12)
    np.testing.assert_allclose(in_first.T @ in_second, np.diag(np.cos(angles)), atol=1e-12)


def test_tiny_angles_keep_their_digits():
    """Rotated subspaces have rounding errors of 1e-16, that is 1e-5 of 1e-11; arccos would return 0 for each."""
    expected = np.array([0.5, 1e-3, 1e-8, 1e-10, 1e-11])
    first, second, _, _ = spaces_at(np.random.default_rng(2), expected)
    _, _, angles = principal_vectors(first, second)
    np.testing.assert_allclose(angles, expected, rtol=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_merge_goes_along_great_circles(share):
    angles = np.array([0.0, 1e-10, 1e-4, 0.3, 0.78])
    first, second, start, normal = spaces_at(np.random.default_rng(3), angles, features=12)
    merged = merge(first, second, share=share)
    expected = start * np.cos(share * angles) + normal * np.sin(share * angles)
    np.testing.assert_allclose(merged.T @ merged, np.eye(5), atol=1e-14)
    assert largest_angle(merged, expected) < 1e-13
    # The angles to either side are the shares of the angle, also of the tiny one.
    if share in (0.25, 0.5, 0.9):
        np.testing.assert_allclose(principal_vectors(first, merged)[2][:4], share * angles[:0:-1], rtol=1e-4)
        np.testing.assert_allclose(principal_vectors(merged, second)[2][:4], (1 - share) * angles[:0:-1], rtol=1e-4)


def test_merge_drops_pairs_45_degrees_apart():
    degrees = np.radians([10, 44.9, 45.1, 90])
    first, second, start, normal = spaces_at(np.random.default_rng(4), degrees)
    merged = merge(first, second, share=0.5)
    expected = (start * np.cos(degrees / 2) + normal * np.sin(degrees / 2))[:, :2]
    assert largest_angle(merged, expected) < 1e-12


def test_merge_of_nothing_in_common_is_empty():
    identity = np.eye(4)
    assert merge(identity[:, :2], identity[:, 2:], share=0.5).shape == (4, 0)
    assert merge(identity[:, :0], identity, share=0.5).shape == (4, 0)
    assert merge(identity, identity[:, :0], share=0.5).shape == (4, 0)


def test_merge_with_the_whole_space():
    basis = orthonormal(np.random.default_rng(5), 5, 2)
    for share in (0.0, 0.3, 1.0):
        assert largest_angle(merge(basis, np.eye(5), share=share), basis) < 1e-14


# -- Algorithm 1.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dimension", [1, 3, 7])
@pytest.mark.parametrize("samples", [1, 2, 5, 8])
def test_a_planted_cokernel_is_found(dtype, dimension, samples):
    jacobians, cokernel = planted(np.random.default_rng(6), samples, 8, 30, dimension)
    with jax.enable_x64(dtype == np.float64):
        space = critical_space(jacobians.astype(dtype), threshold=1e-3)
        (found,) = (s for s in critical_spaces(jacobians.astype(dtype)) if s.basis.shape[1] == 8 - dimension)
    for result in (space, found):
        assert largest_angle(result.cokernel, cokernel) < (1e-5 if dtype == np.float32 else 1e-12)
        complete = np.hstack([result.basis, result.cokernel])
        np.testing.assert_allclose(complete.T @ complete, np.eye(8), atol=1e-14)


def test_a_planted_cokernel_is_found_in_every_order():
    jacobians, cokernel = planted(np.random.default_rng(7), 4, 6, 20, 2)
    noisy = jacobians + 1e-3 * np.random.default_rng(8).normal(size=jacobians.shape)
    pairs, noisy_pairs = singular_pairs(jacobians.astype(np.float32)), singular_pairs(noisy.astype(np.float32))
    for order in itertools.permutations(range(4)):
        for candidates, tolerance in ((pairs, 1e-3), (noisy_pairs, 1e-2)):
            permuted = SingularPairs(*(array[list(order)] for array in candidates))
            space = critical_space(permuted, threshold=0.02)
            assert largest_angle(space.cokernel, cokernel) < tolerance


def test_the_key_permutes_the_samples():
    jacobians, cokernel = planted(np.random.default_rng(9), 5, 6, 20, 2, noise=1e-2)
    pairs = singular_pairs(jacobians.astype(np.float32))
    seeded = critical_space(pairs, threshold=0.05, key=jax.random.key(3))
    order = np.asarray(jax.random.permutation(jax.random.key(3), 5))
    by_hand = critical_space(SingularPairs(pairs.vectors[order], pairs.values[order]), threshold=0.05)
    np.testing.assert_array_equal(seeded.basis, by_hand.basis)
    by_index = critical_space(pairs, threshold=0.05)
    assert 0 < largest_angle(by_index.cokernel, seeded.cokernel) < 0.01
    assert largest_angle(by_index.cokernel, cokernel) < 0.03


def test_merging_averages_the_noise_away():
    """Each sample has the same weight, so 64 samples are about 8 times better than one."""
    rng = np.random.default_rng(10)
    jacobians, cokernel = planted(rng, 64, 6, 20, 1, noise=0.02)
    pairs = singular_pairs(jacobians.astype(np.float32))
    single = [largest_angle(vectors[:, -1:], cokernel) for vectors in pairs.vectors]
    merged = critical_space(SingularPairs(pairs.vectors, np.tile([1, 1, 1, 1, 1, 0.0], (64, 1))), threshold=0.5)
    assert largest_angle(merged.cokernel, cokernel) < np.mean(single) / 4


def lines(*angles):
    """Samples with two features whose cokernels are lines at these angles."""
    vectors = np.stack([[[-np.sin(a), np.cos(a)], [np.cos(a), np.sin(a)]] for a in angles])
    return SingularPairs(vectors, np.tile([1.0, 0.0], (len(angles), 1)))


def test_every_sample_has_the_same_weight():
    """0 and 0.1 merge to 0.05, which then counts twice."""
    space = critical_space(lines(0.0, 0.1, 0.5), threshold=0.5)
    assert largest_angle(space.cokernel, np.array([[np.cos(0.2)], [np.sin(0.2)]])) < 1e-12


def test_merging_is_balanced():
    """0 and 20 give 10, 48 and 66 give 57, too far apart; one after the other they would give 10, 22.7 and 33.5."""
    assert critical_space(lines(*np.radians([0, 20, 48, 66])), threshold=0.5).cokernel.shape == (2, 0)


def test_nothing_planted():
    jacobians = np.random.default_rng(11).normal(size=(4, 5, 40)).astype(np.float32)
    space = critical_space(jacobians, threshold=1e-3)
    assert space.basis.shape == (5, 5)
    assert space.cokernel.shape == (5, 0)
    assert space.threshold_low == 0
    assert all(space.threshold_low > 0.1 for space in critical_spaces(jacobians))


def test_everything_planted():
    jacobians = np.zeros((3, 4, 6), np.float32)
    space = critical_space(jacobians, threshold=1e-3)
    assert space.basis.shape == (4, 0)
    assert space.cokernel.shape == (4, 4)
    assert space.threshold_high == np.inf
    assert critical_spaces(jacobians) == []


def test_one_zero_jacobian_does_not_matter():
    jacobians, cokernel = planted(np.random.default_rng(12), 3, 5, 20, 2)
    jacobians[1] = 0
    assert largest_angle(critical_space(jacobians.astype(np.float32), threshold=1e-3).cokernel, cokernel) < 1e-5


def test_fewer_parameters_than_features():
    """Every Jacobian has a cokernel then, but nothing is common to them."""
    jacobians = np.random.default_rng(13).normal(size=(6, 8, 3)).astype(np.float32)
    for jacobian in jacobians:
        assert critical_space(jacobian[None], threshold=1e-3).basis.shape == (8, 3)
    assert critical_space(jacobians, threshold=1e-3).basis.shape[1] > 3


def test_one_feature():
    jacobians = np.ones((2, 1, 3), np.float32)
    assert critical_spaces(jacobians) == []
    assert critical_space(jacobians, threshold=0.5).basis.shape == (1, 1)
    assert critical_space(jacobians, threshold=1.0).basis.shape == (1, 0)


# -- Bad input.


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.1, np.nan])
def test_thresholds_must_be_in_range(threshold):
    jacobians = np.ones((2, 3, 4), np.float32)
    with pytest.raises(ValueError, match=r"threshold must be in \(0, 1\]"):
        critical_space(jacobians, threshold=threshold)
    with pytest.raises(ValueError, match=r"largest_threshold must be in \(0, 1\]"):
        critical_spaces(jacobians, largest_threshold=threshold)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [(3, 4), (0, 3, 4), (2, 0, 4), (2, 3, 0), (1, 2, 3, 4)])
def test_jacobians_must_have_three_axes(shape):
    with pytest.raises(ValueError, match=r"jacobians must have shape \(s, n, m\)"):
        critical_space(np.ones(shape, np.float32), threshold=0.1)
    with pytest.raises(ValueError, match=r"jacobians must have shape \(s, n, m\)"):
        critical_spaces(np.ones(shape, np.float32))


@pytest.mark.usefixtures("unchecked")
def test_jacobians_must_be_finite_floats():
    with pytest.raises(TypeError, match="jacobians must hold real floating-point numbers"):
        singular_pairs(np.ones((2, 3, 4), np.int32))
    for value in (np.nan, np.inf):
        jacobians = np.ones((2, 3, 4), np.float32)
        jacobians[1, 2, 3] = value
        with pytest.raises(ValueError, match="jacobians must be finite"):
            critical_space(jacobians, threshold=0.1)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("vectors", "values"), [((2, 3, 4), (2, 3)), ((2, 3, 3), (2, 4)), ((3, 3), (3,)), ((0, 3, 3), (0, 3))]
)
def test_singular_pairs_must_fit(vectors, values):
    with pytest.raises(ValueError, match="singular pairs must have shapes"):
        critical_spaces(SingularPairs(np.ones(vectors), np.ones(values)))


@pytest.mark.usefixtures("unchecked")
def test_merge_needs_two_subspaces_of_one_space():
    with pytest.raises(ValueError, match=r"bases must have shapes \(n, a\) and \(n, b\)"):
        merge(np.eye(3), np.eye(4), share=0.5)
    with pytest.raises(ValueError, match=r"bases must have shapes \(n, a\) and \(n, b\)"):
        merge(np.ones(3), np.eye(3), share=0.5)


@pytest.mark.parametrize("share", [-0.1, 1.1, np.nan])
def test_share_must_be_in_range(share):
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\]"):
        merge(np.eye(3), np.eye(3), share=share)
