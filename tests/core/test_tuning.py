import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import jifv
from jifv import inversion
from jifv._core import tuning
from jifv._visualize import gradient

YNNPACK = "__ynn_fusion"
"""In the text of a program that multiplies by it."""


def test_the_platform_is_that_of_the_default_device(monkeypatch):
    cpu = jax.devices("cpu")[0]
    assert tuning.platform(Mesh(np.array([cpu]), ("samples",))) == "cpu"
    # As on a machine with an accelerator, where the CPU computes all the same if it is asked to.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert tuning.platform() == "gpu"
    for device in (cpu, "cpu"):
        with jax.default_device(device):
            assert tuning.platform() == "cpu"
            assert tuning.rows_at_once() == 4
            assert tuning.samples_at_once(100, 10) == 4
    assert tuning.rows_at_once() == 64
    assert tuning.samples_at_once(100, 10) == 100
    assert tuning.platform(Mesh(np.array([cpu]), ("samples",))) == "cpu"


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other devices take the whole batch at once")
@pytest.mark.parametrize(
    ("samples", "entries", "expected"), [(1, 10, 1), (9, 10, 4), (9, 20_001, 3), (9, 80_001, 1), (9, 0, 4)]
)
def test_a_cpu_takes_as_many_samples_as_its_caches_hold(samples, entries, expected):
    assert tuning.samples_at_once(samples, entries) == expected


def convolution(x):
    kernel = jnp.full((3, 3, 64, 64), 0.01)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize("mesh", [None, "one"])
def test_spare_cores_multiply_by_eigen(mesh, monkeypatch):
    mesh = mesh and jifv.sample_mesh(1)
    monkeypatch.setattr(tuning, "usable_cores", lambda: 2)
    options = jifv.compiler_options(mesh)
    assert options is not None
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 64))
    program = jax.jit(convolution, compiler_options=options).lower(x).compile()
    assert YNNPACK not in program.as_text()
    np.testing.assert_allclose(program(x), jax.jit(convolution)(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cores", [1, 2])
def test_steps_and_inversions_are_compiled_so(cores, monkeypatch):
    def f(x):
        return convolution(x[None])[0].mean((0, 1))

    monkeypatch.setattr(tuning, "usable_cores", lambda: cores)
    p, v = jnp.ones((1, 8, 8, 64)), jnp.ones((1, 64))
    expected = cores == 1 and YNNPACK in jax.jit(f).lower(p[0]).compile().as_text()
    both = {"mesh": None, "significance": jifv.Significance()}
    step, inverse = {"precision": "highest"}, {"tolerance": 0.0, "rows": None, "priors": ()}
    for module, arguments, options in (
        (gradient, (f, p, v, jnp.ones(1, bool)), step),
        (inversion, (f, None, None, p), inverse),
    ):
        compiled = module._compiled
        compiled.cache_clear()
        try:
            program = compiled(None).lower(*arguments, **both, **options).compile().as_text()
        finally:
            compiled.cache_clear()
        assert (YNNPACK in program) == expected


def test_as_many_devices_as_cores_multiply_as_xla_likes(monkeypatch):
    expected = tuning._SUMS_BY_XLA if jax.__version_info__ < (0, 11) else None
    monkeypatch.setattr(tuning, "usable_cores", lambda: 1)
    assert jifv.compiler_options() == expected
    monkeypatch.setattr(tuning, "usable_cores", lambda: 2)
    assert jifv.compiler_options(Mesh(np.array(jax.devices()[:1] * 2), ("samples",))) == expected


@pytest.mark.parametrize("cores", [1, 2])
def test_sums_of_a_jacobian_are_right(cores, monkeypatch):
    """Of two normalizations in a row, in more rows than are summed one by one."""

    def normalized(x):
        centred = x - x.mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5)

    def rows(x, cotangents):
        return jax.vmap(jax.vjp(lambda x: normalized(normalized(x)), x)[1])(cotangents)[0]

    monkeypatch.setattr(tuning, "usable_cores", lambda: cores)
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(1024, 96)), rng.normal(size=(4, 1024, 96))
    found = jax.jit(rows, compiler_options=jifv.compiler_options())(*(each.astype(np.float32) for each in arrays))
    with jax.enable_x64(True):
        expected = np.asarray(rows(*(jnp.asarray(each.astype(np.float32), jnp.float64) for each in arrays)))
    assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


def test_an_xla_that_does_not_know_the_option_is_not_given_it(monkeypatch):
    monkeypatch.setattr(tuning, "usable_cores", lambda: 2)
    monkeypatch.setattr(tuning, "_PRODUCTS_BY_EIGEN", {"xla_cpu_no_such_option": ""})
    tuning._known_to_xla.cache_clear()
    try:
        assert jifv.compiler_options() is None
    finally:
        tuning._known_to_xla.cache_clear()
