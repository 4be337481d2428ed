import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.arrays import uniform
from support.full_disk import full_disk

from jifv.models import load, read_weights, write_weights

# The file of weights.


def test_weights_round_trip(tmp_path):
    path = tmp_path / "new" / "folder" / "weights.safetensors"
    tree = {
        "params": {
            "a.0": {"kernel": np.asfortranarray(uniform((2, 3, 4)))},
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
    with pytest.raises(
        ValueError,
        match=r"weights in .*bad\.safetensors must be finite, got NaN or infinity in params/dense1\.0/kernel$",
    ):
        read_weights(path)
    with pytest.raises(ValueError, match=r"must be finite, got NaN or infinity in params/dense1\.0/kernel$"):
        load(weights=path)


def test_no_file_of_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights at .*none\.safetensors"):
        read_weights(tmp_path / "none.safetensors")


# Damaged files.


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "small.safetensors"
    write_weights(path, {"params": {"a": np.float32([1.5, 2.5]), "b": np.float64([[3]])}}, {"pool": "max"})
    return path, path.read_bytes()


def test_every_cut_is_noticed(written):
    path, content = written
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"small\.safetensors cannot be read as safetensors: "):
            read_weights(path)


def test_every_flipped_bit_is_noticed(written):
    """Or it makes no difference: spaces that fill the header, or the name of the digest itself."""
    path, content = written
    expected, _ = read_weights(path)
    unnoticed = 0
    for index in range(len(content)):
        for bit in (0, 3, 6):
            path.write_bytes(content[:index] + bytes([content[index] ^ 1 << bit]) + content[index + 1 :])
            try:
                found, _ = read_weights(path)
            except ValueError as error:
                assert "small.safetensors" in str(error)  # noqa: PT017
            else:
                jax.tree.map(np.testing.assert_array_equal, found, expected)
                unnoticed += 1
    assert unnoticed < 0.05 * 3 * len(content)


def test_a_changed_number_is_called_damage(written):
    path, content = written
    number = np.float32(2.5).tobytes()
    assert content.count(number) == 1
    path.write_bytes(content.replace(number, np.float32(2.5000002).tobytes()))
    with pytest.raises(ValueError, match=r"small\.safetensors are damaged: their sha256 must be [0-9a-f]{64}, got "):
        read_weights(path)
    with pytest.raises(ValueError, match=r"small\.safetensors are damaged"):
        load(weights=path)


def test_files_without_a_digest_are_read(tmp_path):
    from safetensors.numpy import save_file

    save_file({"params/a": np.ones(2, np.float32)}, tmp_path / "w.safetensors", {"pool": "max"})
    variables, metadata = read_weights(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(variables["params"]["a"], [1, 1])
    assert metadata == {"pool": "max"}


# Files that cannot be written.


def test_a_full_disk_is_told_with_the_file_and_leaves_the_old_one(written):
    path, content = written
    with full_disk(), pytest.raises(OSError, match=r"File too large: '.*small\.safetensors'"):
        write_weights(path, {"a": np.zeros(10_000)}, {})
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_told(written):
    path, _ = written
    with pytest.raises(OSError, match=r"small\.safetensors"):
        write_weights(path / "below" / "w.safetensors", {"a": np.zeros(1)}, {})
