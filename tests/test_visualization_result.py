"""What `visualize` returns carries the objective function, and users' own functions can be one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.responses import SHORT, N, assert_same, bounded, run, samples

import jifv
from jifv import transform
from jifv.evaluate import reoptimize
from jifv.inversion import invert_batch
from jifv.jacobian import linearize
from jifv.significance import Significance
from jifv.visualization import Settings, Visualization, visualize

ONE = Significance(1, None)


@pytest.fixture(scope="module")
def realizations():
    return run(bounded, *samples(4, N), significance=ONE)


# The objective function goes along


def test_it_is_carried_through_trees_vmap_jit_and_slices(realizations):
    assert realizations.significance is ONE
    for changed in (
        jax.tree.map(lambda x: x[1:3], realizations),
        jax.tree.map(lambda *x: jnp.concatenate(x), realizations, realizations),
        jax.vmap(lambda one: one)(realizations),
        jax.jit(lambda all: jax.tree.map(lambda x: x[::-1], all))(realizations),
        jax.device_get(realizations),
    ):
        assert isinstance(changed, Visualization)
        assert changed.significance == ONE


def test_realizations_of_different_functions_cannot_be_mixed(realizations):
    other = run(bounded, *samples(4, N), significance=Significance(2))
    with pytest.raises(ValueError, match="power"):
        jax.tree.map(lambda *x: jnp.concatenate(x), realizations, other)


def test_inversion_takes_it_from_there(realizations):
    found = invert_batch(bounded, realizations)
    assert_same(found, invert_batch(bounded, realizations.parameters, significance=ONE))
    assert_same(found, invert_batch(bounded, realizations, significance=Significance(1, None)))
    # With k = 2 the answer is another one: it matters.
    other = invert_batch(bounded, realizations.parameters, significance=Significance(2))
    assert not np.allclose(np.abs(found.singular_values), np.abs(other.singular_values), rtol=1e-3)


def test_reoptimization_takes_it_from_there(realizations):
    targets = realizations.objectives[::-1]
    found = reoptimize(bounded, realizations, targets, steps=5)
    assert_same(found, reoptimize(bounded, realizations.parameters, targets, significance=ONE, steps=5))
    other = reoptimize(bounded, realizations.parameters, targets, significance=Significance(0, None), steps=5)
    assert not np.allclose(found, other, atol=1e-4)


CALLS = {
    "invert_batch": lambda realizations, **options: invert_batch(bounded, realizations, **options),
    "reoptimize": lambda realizations, **options: reoptimize(bounded, realizations, jnp.ones((4, N)), **options),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_contradictions_and_gaps_are_refused(call, realizations):
    with pytest.raises(ValueError, match=r"significance must be that of the realizations, .*=1\.0.*, got .*=2\.0"):
        call(realizations, significance=Significance(2, None))
    with pytest.raises(ValueError, match=r"significance must be that of the realizations, .*=None.*, got .*=0\.1"):
        call(realizations, significance=Significance(1))
    with pytest.raises(TypeError, match="significance must be given for parameters alone"):
        call(realizations.parameters)


# Functions of the user's

MATRIX = np.random.default_rng(6).normal(size=(N, 2))


def linear(p):
    return jnp.asarray(MATRIX, p.dtype) @ p


def near(r, v):
    """Squared distance; 2 where there is none."""
    return 2 - jnp.sum((r - v) ** 2)


def log_cosine(r, v):
    return jnp.log((r @ v) / jnp.linalg.norm(r) / jnp.linalg.norm(v))


def test_the_negative_squared_distance_leads_to_least_squares(x64):
    parameters, objectives = samples(3, 2, dtype=jnp.float64)
    result = run(linear, parameters, objectives, significance=near)
    expected, residues, *_ = np.linalg.lstsq(MATRIX, np.asarray(objectives).T)
    np.testing.assert_allclose(result.parameters, expected.T, atol=1e-6)
    np.testing.assert_allclose(result.value, 2 - residues, rtol=1e-12)
    assert (result.gradient_norm < 1e-5).all()
    assert not result.on_floor.any()
    assert result.significance is near


def test_the_logarithm_of_the_cosine_leads_to_the_projection(x64):
    _, objectives = samples(3, 2, dtype=jnp.float64)
    # r may be any vector of the plane: the closest in angle is the projection of v, at a cosine of its length.
    plane = np.linalg.qr(MATRIX)[0]
    lengths = np.linalg.norm(np.asarray(objectives) @ plane, axis=1)
    begin = np.linalg.lstsq(MATRIX, np.asarray(objectives).T)[0].T + 0.1
    result = run(linear, jnp.asarray(begin), objectives, significance=log_cosine)
    np.testing.assert_allclose(result.value, np.log(lengths), rtol=1e-9)
    np.testing.assert_allclose(result.cosine, lengths, rtol=1e-9)
    assert np.std(np.linalg.norm(result.response, axis=1)) > 0.01  # the length is free


def test_a_significance_in_other_words_is_the_same_function():
    parameters, objectives = samples(3, N)
    written_out = run(bounded, parameters, objectives, significance=lambda r, v: r @ v)
    built_in = run(bounded, parameters, objectives, significance=Significance(0))
    np.testing.assert_allclose(written_out.value, built_in.value, rtol=1e-5)
    np.testing.assert_allclose(written_out.parameters, built_in.parameters, atol=1e-3)


def test_they_cannot_be_inverted(unchecked):
    result = run(bounded, *samples(4, N), Settings(adam_steps=1, lbfgs_steps=0), significance=near)
    with pytest.raises(TypeError, match=r"significance must be the jifv\.Significance"):
        invert_batch(bounded, result)
    with pytest.raises(TypeError, match=r"significance must be the jifv\.Significance"):
        invert_batch(bounded, result.parameters, significance=near)
    # But optimized further they can be.
    assert reoptimize(bounded, result, result.objectives, steps=1).shape == (4, N)


def test_they_must_be_hashable(unchecked):
    class Unhashable:
        __hash__ = None

        def __call__(self, r, v):
            return r @ v

    with pytest.raises(TypeError, match="significance must be hashable"):
        visualize(bounded, *samples(2, N), settings=SHORT, significance=Unhashable())


# In words


def test_results_are_told_in_a_line(realizations):
    low, high = np.min(realizations.value), np.max(realizations.value)
    expected = f"Visualization(4 samples, 4 features, d {low:.3g} to {high:.3g}, Significance(power=1.0, floor=None))"
    assert repr(realizations) == expected
    assert repr(invert_batch(bounded, realizations)) == "Inversion(batch (4,), 4 features, V of dimension 4)"
    assert repr(linearize(bounded, jnp.ones(N))) == "Linearization(batch (), 4 features, 4 entries of p)"


def test_functions_spaces_and_networks_are_told_in_a_line():
    ensemble = transform.fixed(transform.noise(0.1), jax.random.split(jax.random.key(0), 64))
    space = jifv.CriticalSpace(np.eye(4)[:, :3], np.eye(4)[:, 3:], 0.1, 0.5, 7.0, "why")
    f = jifv.compose(jifv.pixels((4, 4, 3)).apply, abs, jifv.max_mean())
    assert repr(f) == "Composition(max_mean ∘ abs ∘ pixels)"
    assert repr(space) == "CriticalSpace(dimension 3 of 4, gap 7)"
    assert repr(ensemble) == "Ensemble(64 of noise, fixed)"


def test_notebooks_show_the_strongest_features_and_nothing_of_other_trees(realizations):
    page = realizations._repr_html_()
    v = np.asarray(realizations.objectives[1])
    index = int(np.argmax(np.abs(v)))
    assert f"<td>{index}: {v[index] / np.linalg.norm(v):.2f}" in page
    inversion = invert_batch(bounded, realizations)
    assert inversion._repr_html_().count("<tr>") == 1 + len(v)
    lost = inversion._replace(objective=inversion.objective.at[0].set(np.nan))
    assert "nothing known" in lost._repr_html_()
    single = jax.tree.map(lambda x: x[0], inversion)
    assert single._repr_html_().count("<tr>") == 2
    for record in (realizations, inversion):
        assert jax.tree.map(lambda x: None, record)._repr_html_() is None
        assert jax.eval_shape(lambda x: x, record)._repr_html_() is None


def test_whatever_a_tree_of_results_holds_can_be_told(realizations):
    """An error message, or a debugger, may want to show what `jax.tree.map` and `jax.eval_shape` have made of one."""
    inversion, linearization = invert_batch(bounded, realizations), linearize(bounded, jnp.ones(N))
    for record in (realizations, inversion, linearization):
        name = type(record).__name__
        for change in (jnp.shape, jnp.sum, lambda x: None, lambda x: x[0], lambda x: x[:0], lambda x: "text"):
            assert repr(jax.tree.map(change, record)).startswith(f"{name}(")
        assert repr(jax.eval_shape(lambda x: x, record)).startswith(f"{name}(")
        told = []
        jax.jit(lambda x, told=told: told.append(repr(x)))(record)
        assert told[0].startswith(f"{name}(")
