import io
import pickle
import re
from collections import OrderedDict

import numpy as np
import pytest
from PIL import Image

from jifv.models.networks.densenet import CLASSES
from jifv.models.training import cifar10


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote for the official batches: byte strings, and NumPy's modules by their old names."""

    def save_string(self, value):
        value = value.encode() if isinstance(value, str) else value
        short = len(value) < 256
        self.write(pickle.SHORT_BINSTRING if short else pickle.BINSTRING)
        self.write(len(value).to_bytes(1 if short else 4, "little") + value)

    dispatch = pickle._Pickler.dispatch | {bytes: save_string, str: save_string}


def write_official(path, images, labels):
    """An official batch: (count, 3072) bytes, the red plane first, then green, then blue."""
    batch = {
        "batch_label": "training batch 1 of 5",
        "labels": [int(label) for label in labels],
        "data": np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), 3072),
        "filenames": [f"{index}.png" for index in range(len(images))],
    }
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(batch)
    path.write_bytes(file.getvalue().replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"))


def write_modern(path, images, labels):
    """The same, written by Python 3 under the names that reading with ``encoding="bytes"`` gives."""
    data = images.transpose(0, 3, 1, 2).reshape(len(images), 3072)
    path.write_bytes(pickle.dumps({b"data": data, b"labels": [int(label) for label in labels]}))


def random_split(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, 10, count).astype(np.uint8)


def test_the_helper_writes_the_official_format(tmp_path):
    """Python's documented way of reading it, as on CIFAR-10's own page."""
    write_official(tmp_path / "batch", *random_split(2))
    raw = (tmp_path / "batch").read_bytes()
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in raw
    with (tmp_path / "batch").open("rb") as file:
        batch = pickle.load(file, encoding="bytes")
    assert set(batch) == {b"batch_label", b"labels", b"data", b"filenames"}
    assert batch[b"data"].shape == (2, 3072)


@pytest.mark.parametrize("write", [write_official, write_modern])
def test_official_batch(tmp_path, write):
    images, labels = random_split(3)
    write(tmp_path / "batch", images, labels)
    split = cifar10.read_batch(tmp_path / "batch")
    assert split.images.dtype == split.labels.dtype == np.uint8
    assert split.images.flags.c_contiguous
    np.testing.assert_array_equal(split.images, images)
    np.testing.assert_array_equal(split.labels, labels)


def test_official_folder(tmp_path):
    images, labels = random_split(18)
    for index in range(5):  # batches of different sizes: the order shows
        rows = slice(index * (index + 1) // 2, (index + 1) * (index + 2) // 2)
        write_official(tmp_path / f"data_batch_{index + 1}", images[rows], labels[rows])
    write_official(tmp_path / "test_batch", images[15:], labels[15:])
    train, test = cifar10.read(str(tmp_path))
    np.testing.assert_array_equal(train.images, images[:15])
    np.testing.assert_array_equal(train.labels, labels[:15])
    np.testing.assert_array_equal(test.images, images[15:])
    np.testing.assert_array_equal(test.labels, labels[15:])


class Touch:
    """Unpickled without care, it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_in_a_pickle_is_refused(tmp_path):
    mark, batch = tmp_path / "mark", tmp_path / "batch"
    batch.write_bytes(pickle.dumps({b"data": Touch(mark), b"labels": []}))
    with pytest.raises(pickle.UnpicklingError, match=r"refused to load _?io\.open: a CIFAR-10 batch holds arrays"):
        cifar10.read_batch(batch)
    assert not mark.exists()
    pickle.loads(batch.read_bytes())[b"data"].close()
    assert mark.exists()  # it would have run


@pytest.mark.parametrize("value", [OrderedDict(), np.float64(1), pickle.Unpickler, eval])
def test_other_objects_are_refused(tmp_path, value):
    (tmp_path / "batch").write_bytes(pickle.dumps({b"data": value, b"labels": []}))
    with pytest.raises(pickle.UnpicklingError, match="refused to load"):
        cifar10.read_batch(tmp_path / "batch")


def test_objects_hidden_in_an_array_are_refused(tmp_path):
    mark = tmp_path / "mark"
    hidden = np.array([Touch(mark)], object)
    (tmp_path / "batch").write_bytes(pickle.dumps({b"data": hidden, b"labels": []}))
    with pytest.raises(pickle.UnpicklingError, match="refused to load"):
        cifar10.read_batch(tmp_path / "batch")
    assert not mark.exists()


def write_pack(path, images, labels, **options):
    files = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", **options)
        files.append(file.getvalue())
    np.savez(
        path,
        bytes=np.frombuffer(b"".join(files), np.uint8),
        offsets=np.cumsum([0] + [len(file) for file in files]),
        labels=labels,
    )


def test_jpeg_pack(tmp_path):
    """JPEG keeps a smooth image to within a few levels; one with another content, or shifted, is far off."""
    ramp = np.linspace(0, 255, 32)
    smooth = np.stack([np.add.outer(ramp * a, ramp * (1 - a)) for a in np.linspace(0, 1, 15)])
    images = smooth.reshape(5, 3, 32, 32).transpose(0, 2, 3, 1).astype(np.uint8)
    labels = np.array([3, 1, 4, 1, 5], np.int64)
    write_pack(tmp_path / "pack.npz", images, labels, quality=100, subsampling=0)
    split = cifar10.read_jpeg_pack(tmp_path / "pack.npz")
    assert split.images.dtype == split.labels.dtype == np.uint8
    assert split.images.shape == images.shape
    assert np.abs(split.images.astype(int) - images).max() <= 4
    np.testing.assert_array_equal(split.labels, labels)


def test_folder_of_packs(tmp_path):
    images, labels = random_split(5)
    write_pack(tmp_path / "cifar10_jpeg_train.npz", images[:3], labels[:3])
    write_pack(tmp_path / "cifar10_jpeg_test.npz", images[3:], labels[3:])
    train, test = cifar10.read(tmp_path)
    np.testing.assert_array_equal(train.labels, labels[:3])
    np.testing.assert_array_equal(test.labels, labels[3:])
    assert (len(train.images), len(test.images)) == (3, 2)


def test_nothing_there(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileNotFoundError, match=rf"no CIFAR-10 in {re.escape(str(folder))}: expected .*npz"):
            cifar10.read(folder)


def test_half_of_it_is_not_enough(tmp_path):
    write_pack(tmp_path / "cifar10_jpeg_train.npz", *random_split(1))
    with pytest.raises(FileNotFoundError, match=r"cifar10_jpeg_test\.npz"):
        cifar10.read(tmp_path)
    write_official(tmp_path / "data_batch_1", *random_split(1))
    with pytest.raises(FileNotFoundError, match="data_batch_2"):
        cifar10.read(tmp_path)


@pytest.fixture(scope="module")
def jpegs(shared):
    return cifar10.read_jpeg_pack(shared / "data" / "cifar10_jpeg_test.npz")


def test_test_images_of_cifar10(shared, jpegs):
    assert jpegs.images.shape == (10_000, 32, 32, 3)
    np.testing.assert_array_equal(np.bincount(jpegs.labels), [1000] * 10)
    with np.load(shared / "data" / "cifar10_jpeg_test.npz") as pack:
        assert tuple(pack["classes"]) == CLASSES


def test_channel_moments_are_those_of_cifar10(jpegs):
    from jifv.models.networks.densenet import CHANNEL_MEAN

    np.testing.assert_allclose(jpegs.images.mean((0, 1, 2)) / 255, CHANNEL_MEAN, atol=0.01)


@pytest.mark.slow
def test_training_images_of_cifar10(shared):
    train, _ = cifar10.read(shared / "data")
    assert train.images.shape == (50_000, 32, 32, 3)
    np.testing.assert_array_equal(np.bincount(train.labels), [5000] * 10)
