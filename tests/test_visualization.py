import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from support.responses import ROTATION, SHORT, N, assert_same, bounded, kinked, run, samples

from jifv._visualize.gradient import evaluate
from jifv.significance import Significance
from jifv.visualization import FlatResponseWarning, Settings, advance, finish, finished, start, visualize

# Optima in closed form


def test_the_optimum_is_reached_and_samples_that_cannot_be_improved_stop():
    parameters, objectives = samples(3, N)
    settings = Settings(adam_steps=100, lbfgs_steps=1000, tolerance=0)
    result = run(bounded, parameters, objectives, settings, significance=Significance(0.5))
    assert (result.lbfgs_steps < 200).all()
    np.testing.assert_allclose(result.value, 1 / np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(result.parameters, np.sqrt(2) * objectives @ ROTATION, atol=1e-3)
    np.testing.assert_allclose(result.cosine, 1, rtol=1e-6)
    assert (result.gradient_norm < 1e-6).all()
    assert result.finite.all()
    assert not result.on_floor.any()


def test_the_optimum_is_reached_in_float64(x64):
    parameters, objectives = samples(3, N, dtype=jnp.float64)
    result = run(bounded, parameters, objectives, Settings(adam_steps=30, lbfgs_steps=100))
    assert result.value.dtype == result.parameters.dtype == jnp.float64
    np.testing.assert_allclose(result.value, 1 / np.sqrt(2), rtol=1e-14)
    np.testing.assert_allclose(result.parameters, np.sqrt(2) * objectives @ ROTATION, atol=1e-7)
    # Converged to the tolerance, and long before the steps were used up.
    assert (result.gradient_norm <= 1e-8 * result.value).all()
    assert (result.lbfgs_steps < 60).all()


CENTRES = np.random.default_rng(1).normal(size=(N, 30))
STIFFNESS = np.logspace(-3, 1, 30)


# Settings are compiled into a step, as the shape of a batch is, so tests have them in common.
WITHOUT_ADAM = Settings(adam_steps=0, lbfgs_steps=4, tolerance=1e-5)


def quadratic(p):
    """r_i = 10 - (p - c_i)ᵀ H (p - c_i) / 2: for k = 0 the optimum is the mean of the c_i weighted by v."""
    offset = p - jnp.asarray(CENTRES, p.dtype)
    return 10 - jnp.sum(jnp.asarray(STIFFNESS, p.dtype) * offset**2, axis=1) / 2


def test_lbfgs_converges_where_adam_does_not(x64):
    parameters, objectives = samples(3, 30, dtype=jnp.float64)
    settings = Settings(adam_steps=100, lbfgs_steps=200)
    begin = start(quadratic, parameters, objectives, significance=Significance(0), settings=settings)
    state = advance(quadratic, begin, 100)
    adam = finish(quadratic, state)
    both = finish(quadratic, advance(quadratic, state))
    optimum = objectives @ CENTRES / objectives.sum(1, keepdims=True)
    expected = (objectives * jax.vmap(quadratic)(optimum)).sum(1)
    np.testing.assert_allclose(both.value, expected, rtol=1e-10)
    np.testing.assert_allclose(both.parameters, optimum, atol=1e-3)
    assert (both.gradient_norm < 1e-3 * adam.gradient_norm).all()
    assert (adam.lbfgs_steps == 0).all()


def test_smooth_networks_end_where_scipy_ends(x64):
    parameters, objectives = samples(3, 3, 2, dtype=jnp.float64)

    def f(p):
        return jnp.tanh(jnp.asarray(np.random.default_rng(2).normal(size=(N, 6))) @ jnp.sin(p.reshape(-1))) + 1

    settings = Settings(adam_steps=10, lbfgs_steps=300, learning_rate=0.01)
    state = advance(f, start(f, parameters, objectives, settings=settings), 10)
    begin = np.asarray(state.parameters)
    result = finish(f, advance(f, state))
    for i in range(3):
        v = np.asarray(objectives[i])

        def loss(p, v=v):
            r = np.asarray(f(jnp.asarray(p)))
            return -(r @ v) * max(r @ v / np.linalg.norm(r), 0.1) ** 2

        reference = minimize(loss, begin[i].ravel(), method="BFGS", options={"gtol": 1e-6})
        np.testing.assert_allclose(result.value[i], -reference.fun, rtol=1e-6)
    assert (result.gradient_norm < 1e-7).all()


# What is reported


def test_report_is_that_of_the_parameters(x64):
    parameters, objectives = samples(3, 3, 2, dtype=jnp.float64)
    result = finish(kinked, start(kinked, parameters, objectives, settings=SHORT))
    np.testing.assert_array_equal(result.parameters, parameters)
    r = np.asarray(jax.vmap(kinked)(result.parameters), np.float64)
    v = np.asarray(objectives, np.float64)
    inner = (r * v).sum(1)
    cos = inner / np.linalg.norm(r, axis=1)
    np.testing.assert_allclose(result.response, r, rtol=1e-12)
    np.testing.assert_allclose(result.cosine, cos, rtol=1e-12)
    np.testing.assert_allclose(result.value, inner * np.maximum(cos, 0.1) ** 2, rtol=1e-12)
    # ∂d/∂p = cos² · Jᵀ B v, and floor² · Jᵀ v on the floor, where one of the samples is.
    assert result.on_floor.sum() == 1
    jacobians = np.asarray(jax.vmap(jax.jacrev(kinked))(result.parameters), np.float64).reshape(3, N, -1)
    for i in range(3):
        unit = r[i] / np.linalg.norm(r[i])
        product = 0.01 * v[i] if cos[i] <= 0.1 else cos[i] ** 2 * (3 * v[i] - 2 * unit * (unit @ v[i]))
        np.testing.assert_allclose(result.gradient_norm[i], np.linalg.norm(jacobians[i].T @ product), rtol=1e-9)


@pytest.mark.parametrize(("floor", "power", "expected"), [(0.1, 2, True), (None, 2, False)])
def test_samples_on_the_floor_are_reported(floor, power, expected):
    def opposed(p):
        return jnp.where(p[0] > 0, 1.0, -1.0) * (2 + jnp.tanh(p[:N]))

    parameters, objectives = samples(2, N)
    parameters = parameters.at[:, 0].set(jnp.array([-3.0, 3.0]))
    result = finish(opposed, start(opposed, parameters, objectives, significance=Significance(power, floor)))
    np.testing.assert_array_equal(result.on_floor, [expected, False])
    assert (result.cosine[0] < 0) & (result.cosine[1] > 0)


def test_steps_are_counted_for_each_sample():
    noise, objectives = samples(3, N)
    # The first starts at its optimum, where there is nothing left to do.
    parameters = jnp.sqrt(2) * objectives @ jnp.asarray(ROTATION, jnp.float32) + noise.at[0].set(0)
    result = run(bounded, parameters, objectives, WITHOUT_ADAM)
    np.testing.assert_array_equal(result.lbfgs_steps, [0, 4, 4])
    np.testing.assert_array_equal(result.adam_steps, [0, 0, 0])
    np.testing.assert_array_equal(result.parameters[0], parameters[0])


def test_a_gradient_of_zero_moves_nothing():
    parameters, objectives = samples(2, N)
    with pytest.warns(FlatResponseWarning):
        result = run(lambda p: jax.nn.relu(-1 - p**2), parameters, objectives)
    np.testing.assert_array_equal(result.parameters, parameters)
    np.testing.assert_array_equal(result.value, 0)
    np.testing.assert_array_equal(result.lbfgs_steps, 0)
    assert result.finite.all()


# Cost


def test_an_iteration_of_lbfgs_costs_little_more_than_one_gradient():
    count = 0

    def tally(_):
        nonlocal count
        count += 1

    def f(p):
        jax.debug.callback(tally, p[0])
        return bounded(jnp.sin(p)) + 0.1 * jnp.cos(p)

    parameters, objectives = samples(8, N)
    settings = Settings(adam_steps=0, lbfgs_steps=40, tolerance=1e-4)
    solved = advance(f, start(f, parameters, objectives, settings=settings)).parameters
    jax.effects_barrier()
    count = 0
    # One half of the batch has converged before, every second; the other takes its iterations.
    parameters = jnp.where((jnp.arange(8) % 2 == 0)[:, None], solved, parameters)
    state = advance(f, start(f, parameters, objectives, settings=settings))
    jax.effects_barrier()
    slowest = int(state.lbfgs_steps.max())
    assert (state.lbfgs_steps[::2] == 0).all()
    assert slowest >= 5
    # The callback runs once a sample: once for all, and then for those that go on. Ten are for the first length of a
    # step. Devices other than CPUs take the whole batch.
    going = 4 if jax.default_backend() == "cpu" else 8
    assert slowest < (count - 8) / going <= 10 + 1.5 * slowest


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other devices take the whole batch at once")
@pytest.mark.parametrize(("count", "entries", "most"), [(1, 6, 4), (5, 6, 4), (7, 30_000, 2), (4, 90_000, 1)])
def test_few_samples_are_computed_at_once(count, entries, most):
    seen = []

    def see(p):
        seen.append(p.size)
        return np.ones_like(p)

    def f(p):
        entry = jax.lax.stop_gradient(p[0])
        one = jax.pure_callback(see, jax.ShapeDtypeStruct((), p.dtype), entry, vmap_method="broadcast_all")
        return bounded(p[:N]) * one

    parameters, objectives = samples(count, entries)
    response, _, _ = evaluate(f, Significance(), "highest", parameters, objectives)
    p = np.asarray(parameters)[:, :N]
    np.testing.assert_allclose(response, p @ ROTATION.T / (1 + np.sum(p * p, 1, keepdims=True) / 2), rtol=1e-5)
    assert max(seen) <= most


def test_the_end_game_of_a_sample_cannot_cost_more_than_its_share(x64):
    parameters, objectives = samples(3, 3, 2, dtype=jnp.float64)
    state = advance(kinked, start(kinked, parameters, objectives, settings=SHORT))
    assert int(state.step) <= 15 + 1.5 * 25 + 10
    assert finished(state)


def test_steps_are_compiled_once():
    traces = 0

    def f(p):
        nonlocal traces
        traces += 1
        return bounded(p)

    parameters, objectives = samples(5, N)
    run(f, parameters, objectives, batch_size=2)
    first, traces = traces, 0
    run(f, parameters + 1, objectives[::-1], Settings(**vars(SHORT)), batch_size=2)
    # One trace may be for the shape of the response.
    assert traces <= 1 < first


# Batches


def test_batches_do_not_matter():
    parameters, objectives = samples(5, N)
    whole = run(bounded, parameters, objectives)
    for size in (2, 50):
        result = run(bounded, parameters, objectives, batch_size=size)
        for name in ("parameters", "response", "value", "cosine"):
            np.testing.assert_allclose(getattr(result, name), getattr(whole, name), atol=2e-3, err_msg=name)
        leaves = zip(*map(jax.tree.leaves, (result, whole)), strict=True)
        assert all(x.shape == y.shape and x.dtype == y.dtype for x, y in leaves)


def test_one_sample_one_feature_and_parameters_of_any_shape():
    def f(p):
        return 1 / (1 + jnp.sum((p - 1) ** 2)).reshape(1)

    result = run(f, jnp.zeros((1, 2, 1, 3)), jnp.ones((1, 1)))
    np.testing.assert_allclose(result.parameters, 1, atol=1e-3)
    np.testing.assert_allclose(result.response, [[1]], rtol=1e-5)


# Values that are not finite


def broken(p):
    return jnp.where(p[0] > 1.2, jnp.nan, bounded(p))


@pytest.mark.parametrize("settings", [SHORT, WITHOUT_ADAM])
def test_a_network_that_gives_nan_for_a_sample_leaves_the_others_as_they_are(settings):
    parameters, objectives = samples(3, N)
    bad = parameters.at[1, 0].set(100.0)
    result, clean = run(broken, bad, objectives, settings), run(broken, parameters, objectives, settings)
    np.testing.assert_array_equal(result.finite, [True, False, True])
    assert_same(*(jax.tree.map(lambda x: x[jnp.array([0, 2])], x) for x in (result, clean)))
    np.testing.assert_array_equal(result.parameters[1], bad[1])
    assert result.adam_steps[1] == result.lbfgs_steps[1] == 0
    assert np.isnan(result.response[1]).all()
    assert not result.on_floor[1]


def broken_beyond_one(p):
    return jnp.where(p[0] > 1, jnp.nan, 2 + p)


def test_a_sample_keeps_its_last_finite_parameters():
    parameters, objectives = jnp.zeros((2, N)).at[1, 0].set(-100.0), jnp.ones((2, N))
    settings = Settings(adam_steps=30, anneal=0, lbfgs_steps=5, learning_rate=0.15)
    result = run(broken_beyond_one, parameters, objectives, settings)
    np.testing.assert_array_equal(result.finite, [False, True])
    # Steps of 0.15: the seventh leads beyond 1, where the sample returns to the sixth.
    np.testing.assert_allclose(result.parameters[0], 0.9, rtol=1e-3)
    np.testing.assert_array_equal(result.adam_steps, [7, 30])
    assert np.isfinite(result.response[0]).all()


def test_a_sample_whose_last_step_of_adam_is_not_finite_returns():
    settings = Settings(adam_steps=7, anneal=0, lbfgs_steps=0, learning_rate=0.15)
    result = run(broken_beyond_one, jnp.zeros((2, N)), jnp.ones((2, N)), settings)
    np.testing.assert_allclose(result.parameters, 0.9, rtol=1e-3)
    np.testing.assert_array_equal(result.finite, [False, False])


def test_line_searches_step_back_from_nan():
    parameters, objectives = samples(3, N)
    settings = Settings(adam_steps=0, lbfgs_steps=20, learning_rate=5)
    # The first step of the search, by 5, leads beyond.
    assert (jax.vmap(jax.grad(lambda p, v: broken(p) @ v))(parameters, objectives)[:, 0] > 0).any()
    result = run(broken, parameters, objectives, settings)
    assert result.finite.all()
    assert np.isfinite(result.value).all()
    assert (result.lbfgs_steps > 0).all()


# Progress


def test_progress_is_shown_if_asked_for(capsys):
    parameters, objectives = samples(3, N)
    visualize(bounded, parameters, objectives, settings=SHORT, batch_size=2)
    assert capsys.readouterr() == ("", "")
    visualize(bounded, parameters, objectives, settings=SHORT, batch_size=2, progress=True)
    assert capsys.readouterr().err.startswith("visualize: 186/186 in ")


# Errors


@pytest.mark.parametrize("function", [visualize, start])
def test_argument_errors(function, unchecked):
    parameters, objectives = samples(3, N)
    with pytest.raises(ValueError, match=r"at least one sample on the first axis, got shape \(\)"):
        function(bounded, parameters[0, 0], objectives)
    with pytest.raises(ValueError, match=r"objectives must have shape \(3, 4\), .* got \(2, 4\)"):
        function(bounded, parameters, objectives[:2])
    with pytest.raises(ValueError, match="last axis of 4"):
        function(bounded, parameters, objectives[:, :3])
    with pytest.raises(ValueError, match="objectives must be nonzero"):
        function(bounded, parameters, objectives.at[1].set(0))
    with pytest.raises(ValueError, match="objectives must be finite"):
        function(bounded, parameters, objectives.at[1, 0].set(jnp.nan))
    with pytest.raises(ValueError, match="parameters must be finite"):
        function(bounded, parameters.at[1, 0].set(jnp.inf), objectives)
    with pytest.raises(ValueError, match="one value per feature"):
        function(lambda p: p.sum(), parameters, objectives)
    with pytest.raises(TypeError, match="f must be a function, got 3"):
        function(3, parameters, objectives)

    class Unhashable:
        __hash__ = None

        def __call__(self, p):
            return bounded(p)

    with pytest.raises(TypeError, match="f must be hashable"):
        function(Unhashable(), parameters, objectives)


@pytest.mark.parametrize("function", [visualize, start])
@pytest.mark.parametrize(
    ("significance", "message"),
    [
        (2.0, "significance must be a function, got 2.0"),
        (lambda r, v: r * v, "significance must return one real number"),
        (lambda r, v: (r @ v).astype(complex), "significance must return one real number"),
        (lambda r, v: jnp.argmax(r), "significance must return one real number"),
        (lambda r, v: (r @ v, v), "significance must return one real number"),
    ],
)
def test_objective_functions_that_are_none(function, significance, message, unchecked):
    with pytest.raises(TypeError, match=message):
        function(bounded, *samples(2, N), significance=significance)


def test_batch_size_must_be_positive():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        run(bounded, *samples(3, N), batch_size=0)
