import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jifv.models import load, read_weights, write_weights


def draw(shape, dtype=np.float32, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(size=shape), dtype)


# The file of weights.


def test_weights_round_trip(tmp_path):
    path = tmp_path / "new" / "folder" / "weights.safetensors"
    tree = {
        "params": {
            "a.0": {"kernel": np.asfortranarray(draw((2, 3, 4)))},
            "b": {"scale": jnp.arange(3, dtype=jnp.float32), "step": np.int32(7), "half": np.float16([1.5])},
        },
        "batch_stats": {"b": {"mean": np.float64([[1 / 3]])}},
    }
    write_weights(path, tree, {"pool": "max", "note": "æ"})
    back, metadata = read_weights(str(path))
    assert metadata == {"pool": "max", "note": "æ"}
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(tree), strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(ours, theirs)


def test_weights_without_metadata(tmp_path):
    write_weights(tmp_path / "w.safetensors", {"a": np.zeros(1)}, {})
    assert read_weights(tmp_path / "w.safetensors")[1] == {}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(tmp_path, value):
    path = tmp_path / "bad.safetensors"
    leaf = np.zeros((2, 3), np.float32)
    leaf[1, 2] = value
    write_weights(path, {"params": {"fine": np.ones(3), "dense1.0": {"kernel": leaf}}}, {})
    with pytest.raises(ValueError, match=r"weights in .*bad\.safetensors are not finite: params/dense1\.0/kernel$"):
        read_weights(path)
    with pytest.raises(ValueError, match=r"not finite: params/dense1\.0/kernel$"):
        load(weights=path)


def test_no_file_of_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights at .*none\.safetensors"):
        read_weights(tmp_path / "none.safetensors")
