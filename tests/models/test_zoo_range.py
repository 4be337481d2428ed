"""Inputs of networks: other units are refused, as far as values can be seen; typical ones; the shapes they lead to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.arrays import uniform

from jifv.models import layer_shapes, load


@pytest.fixture(scope="module")
def stem():
    return load("densenet", layer="stem", input_size=8)


AROUND = {
    "nothing": lambda f: f,
    "grad": jax.grad,
    "vmap of grad": lambda f: lambda x: jax.vmap(jax.grad(f))(x[None]),
}
WRONG = {
    r"0\.\d+ to 25\d": uniform((8, 8, 3)) * 255,
    r"-0\.\d+ to 0": uniform((8, 8, 3)) - 0.5,
    "nan": jnp.full((8, 8, 3), jnp.nan),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("found", WRONG)
def test_values_in_other_units_are_refused_by_name(stem, around, found):
    message = rf"x must have values in \[0, 1\], got {found}.* for densenet, which takes RGB in \[0, 1\]"
    with pytest.raises(ValueError, match=message):
        AROUND[around](lambda x: stem.apply(x).sum())(WRONG[found])


def test_values_beyond_the_range_by_rounding_are_an_input(stem):
    assert jnp.isfinite(stem.apply(uniform((8, 8, 3)) * 1.001 - 0.0005)).all()


def test_what_is_traced_has_no_values_to_refuse(stem):
    assert jax.jit(stem.apply)(WRONG["nan"]).shape == stem.output_shape


def test_frames_have_a_range_of_their_own():
    network = load("srnet", layer="conv1", input_size=4)
    x = uniform((4, 4, 5))
    assert jnp.isfinite(network.apply(2 * x - 1)).all()
    with pytest.raises(ValueError, match=r"x must have values in \[-1, 1\], got .* for srnet"):
        network.apply(4 * x - 2)


@pytest.mark.parametrize("name", ["densenet", "srnet"])
def test_typical_inputs_are_those_of_the_network_at_its_own_size(name):
    """Also where a colour of the random image is black or white to float32, which has no finite logit."""
    x = np.asarray(load(name).typical_inputs())
    assert x.shape == (4, 32, 32, 3 if name == "densenet" else 5)
    assert np.isfinite(x).all()
    if name == "srnet":
        np.testing.assert_allclose(np.linalg.norm(x[..., 1:4], axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("size", [None, (12, 20)])
def test_shapes_of_all_layers_are_those_of_each(size):
    found = layer_shapes("srnet", input_size=size)
    networks = [load("srnet", layer=layer, input_size=size) for layer in ("conv1", "up1", "output")]
    assert tuple(found) == networks[0].layers
    for network in networks:
        assert found[network.layer] == network.output_shape
    with pytest.raises(ValueError, match="name must be one of densenet, "):
        layer_shapes("nothing")
