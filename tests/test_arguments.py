"""What is no argument is refused by name, by every public function alike: lists, dictionaries, numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import jifv

pytestmark = pytest.mark.usefixtures("unchecked")

P = jnp.linspace(-1, 1, 8).reshape(2, 4)
V = jnp.eye(2, 3)
D = jifv.Significance()


def f(p):
    return jnp.tanh(p[:3] * p[1:])


OPTIMIZING = {
    "visualize": lambda **options: jifv.visualize(f, P, V, **options),
    "reoptimize": lambda **options: jifv.reoptimize(f, P, V, significance=D, **options),
}


@pytest.mark.parametrize("settings", [{}, None, 3])
@pytest.mark.parametrize("function", [*OPTIMIZING.values(), lambda **o: jifv.visualization.start(f, P, V, **o)])
def test_settings_that_are_none(function, settings):
    with pytest.raises(TypeError, match=r"settings must be jifv\.Settings, got"):
        function(settings=settings)


MESHES = {
    **OPTIMIZING,
    "invert_batch": lambda mesh: jifv.invert_batch(f, P, significance=D, mesh=mesh),
    "compiler_options": jifv.compiler_options,
}


@pytest.mark.parametrize("function", MESHES)
def test_meshes_that_are_none(function):
    with pytest.raises(TypeError, match="mesh must be None or a mesh such as that of sample_mesh, got 2"):
        MESHES[function](mesh=2)
    with pytest.raises(ValueError, match=r"mesh must have the one axis 'samples', .* got \('x',\)"):
        MESHES[function](mesh=Mesh(np.array(jax.devices()[:1]), ("x",)))


def test_devices_that_are_none():
    with pytest.raises(TypeError, match=r"devices must be a number or those of jax.devices\(\), got \[1\]"):
        jifv.sample_mesh([1])


IMAGE = np.zeros((12, 12, 3)).tolist()
LISTS = {
    "a": lambda: jifv.angle([1.0, 2.0], V[0]),
    "b": lambda: jifv.angle(V[0], [1.0, 2.0, 0.0]),
    "basis": lambda: jifv.angle(V[0], V[1], basis=[[1.0], [0.0], [0.0]]),
    "basis of invert": lambda: jifv.invert(V[0], jnp.ones((3, 4)), significance=D, basis=[[1.0], [0.0], [0.0]]),
    "singular_vectors": lambda: jifv.beta_profile([[1.0, 0.0], [0.0, 1.0]], V[0, :2]),
    "objectives": lambda: jifv.beta_profile(jnp.eye(2), [1.0, 0.0]),
    "x": lambda: jifv.ssim(IMAGE, np.zeros((12, 12, 3))),
    "y": lambda: jifv.ssim(np.zeros((12, 12, 3)), IMAGE),
    "jacobian": lambda: jifv.compress([[1.0, 2.0], [3.0, 4.0]]),
    "realizations": lambda: jifv.invert_batch(f, P.tolist(), significance=D),
    "activations": lambda: jifv.max_mean()(IMAGE),
    "activations of mean": lambda: jifv.mean(IMAGE),
    "activations of identity": lambda: jifv.identity([1.0, 2.0]),
    "activations of first": lambda: jifv.first(2, jifv.mean)(IMAGE),
    "r": lambda: D([1.0, 2.0, 3.0], V[0]),
    "v": lambda: jifv.significance.cosine(V[0], [1.0, 2.0, 3.0]),
    "v of sparseness": lambda: jifv.objectives.sparseness([1.0, 2.0, 3.0]),
    "parameters": lambda: jifv.pixels((12, 12, 3)).apply(IMAGE),
    "image": lambda: jifv.pixels((12, 12, 3)).invert(IMAGE),
    "frame": lambda: jifv.geometry((12, 12)).invert(IMAGE),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_where_arrays_are_meant(name):
    with pytest.raises(TypeError, match=f"{name.split()[0]} must be an array, got list"):
        LISTS[name]()


def test_shapes_may_be_lists():
    assert jifv.pixels([2, 2, 3]).apply(jnp.zeros((2, 2, 3))).shape == (2, 2, 3)
    assert jifv.fourier([2, 2, 3]).apply(jnp.zeros((2, 2, 3, 2))).shape == (2, 2, 3)
    assert jifv.geometry([2, 4]).apply(jnp.zeros((2, 4, 3))).shape == (2, 4, 5)


@pytest.mark.parametrize("shape", [3, "abc", (2, 2), None])
def test_shapes_that_are_none(shape):
    kind = TypeError if shape == "abc" else ValueError
    with pytest.raises(kind, match="must be"):
        jifv.pixels(shape)


def test_indices_may_be_a_list():
    np.testing.assert_array_equal(jifv.canonical_objectives([2, 0], 3), np.eye(3)[[2, 0]])
    with pytest.raises(ValueError, match=r"indices must be in \[0, 5\), got 7 to 7"):
        jifv.canonical_objectives([7], 5)
    for wrong in ([1.5], [True], [[1], [2, 3]]):
        with pytest.raises(TypeError, match="indices must be an integer"):
            jifv.canonical_objectives(wrong, 5)
