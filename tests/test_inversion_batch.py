import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.toy_response import FEATURES, response

import jifv
from jifv.jacobian import linearize_batch

TWO = jifv.Significance(2)

pytestmark = pytest.mark.filterwarnings("ignore::jifv.inversion.NotStationaryWarning")  # nothing was optimized


@pytest.fixture(scope="module")
def parameters():
    return jax.random.normal(jax.random.key(0), (5, 12, 12, 3))


def assert_same(found, expected):
    for name in ("objective", "singular_values", "gap", "stationarity", "cosine"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-3, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(found.dead, expected.dead)


def oriented(inversion):
    """The toy has a trivial solution, orthogonal to the response, whose sign rounding decides."""
    sign = np.sign(np.asarray(inversion.objective)[:, :1])
    return inversion._replace(objective=sign * np.asarray(inversion.objective))


@pytest.mark.parametrize(
    ("mesh", "reduced", "rows"), [(None, False, None), ("one", True, None), ("one", False, 2), (None, True, 2)]
)
def test_is_the_inversion_of_each(parameters, mesh, reduced, rows):
    basis = np.linalg.qr(np.eye(FEATURES)[:, 1:] - 1 / FEATURES)[0].astype(np.float32) if reduced else None
    options = {"significance": jifv.Significance(1), "basis": basis, "dead_tolerance": 0.01}
    mesh = mesh and jifv.sample_mesh(1)
    found = jifv.invert_batch(response, parameters, row_batch_size=rows, mesh=mesh, **options)
    expected = jifv.invert(*linearize_batch(response, parameters), **options)
    assert_same(*((found, expected) if reduced else map(oriented, (found, expected))))
    assert all(isinstance(array, jax.Array) for array in jax.tree.leaves(found))
    assert found.singular_vectors.shape == (5, FEATURES, FEATURES - reduced)


def test_compiles_once_for_a_function_and_an_option(parameters):
    count = 0

    def counted(p):
        nonlocal count
        count += 1
        return response(p)

    for _ in range(3):
        jifv.invert_batch(counted, parameters, significance=TWO)
    traced = count
    jifv.invert_batch(counted, parameters[:2], significance=TWO)
    assert count == traced


def test_shows_progress_if_asked_for(parameters, capsys):
    jifv.invert_batch(response, parameters, significance=TWO)
    assert capsys.readouterr() == ("", "")
    jifv.invert_batch(response, parameters, significance=TWO, progress=True, description="stage")
    assert "stage: 5/5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parameters", "options", "message"),
    [
        (jnp.zeros((0, 12, 12, 3)), {}, "realizations must hold at least one sample"),
        (jnp.float32(1), {}, "realizations must hold at least one sample"),
        (jnp.zeros((2, 12, 12, 3)), {"dead_tolerance": 1.0}, "dead_tolerance must be below 1"),
        (jnp.zeros((2, 12, 12, 3)), {"basis": np.ones((3, 1))}, "basis must have shape"),
        (jnp.zeros((2, 12, 12, 3)), {"row_batch_size": 0}, "row_batch_size must be at least 1"),
    ],
)
def test_bad_input_is_named(parameters, options, message, unchecked):
    with pytest.raises(ValueError, match=message):
        jifv.invert_batch(response, parameters, significance=TWO, **options)
