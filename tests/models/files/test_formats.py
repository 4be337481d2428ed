import io
import sys
import zipfile

import numpy as np
import pytest
from support.caffe_writer import blob, field, layer, varint

from jifv.models.files.formats import caffe_message, read, read_caffe, read_npz, read_onnx


def draw(*shape):
    return np.random.default_rng(sum(shape)).random(shape, np.float32)


# NumPy.


def test_npz(tmp_path):
    arrays = {"a.kernel": draw(3, 2), "b": np.arange(3)}
    np.savez(tmp_path / "w.npz", **arrays)
    for found in (read(tmp_path / "w.npz"), read_npz(tmp_path / "w.npz")):
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)


def test_npz_with_objects_is_refused(tmp_path):
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"objects\.npz cannot be read as an \.npz: Object arrays cannot be loaded"):
        read(tmp_path / "objects.npz")


def test_damaged_npz_is_refused(tmp_path):
    np.savez(tmp_path / "w.npz", a=draw(100))
    content = bytearray((tmp_path / "w.npz").read_bytes())
    content[200] ^= 1
    (tmp_path / "w.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.npz cannot be read as an \.npz: Bad CRC-32"):
        read(tmp_path / "w.npz")
    (tmp_path / "w.npz").write_bytes(content[:-30])
    with pytest.raises(ValueError, match=r"w\.npz is damaged: the end of the zip archive is missing"):
        read(tmp_path / "w.npz")
    (tmp_path / "w.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"w\.npz cannot be read as an \.npz"):
        read_npz(tmp_path / "w.npz")


def test_every_flipped_bit_of_an_npz_is_noticed(tmp_path):
    """Or it makes no difference to the arrays: one in the time of a file, or in a name, which then is no network's."""
    path = tmp_path / "w.npz"
    np.savez_compressed(path, a=np.arange(5.0), b=np.float32([1, 2]))
    content = path.read_bytes()
    expected = read(path)
    for index in range(4, len(content)):
        for bit in (0, 5):
            path.write_bytes(content[:index] + bytes([content[index] ^ 1 << bit]) + content[index + 1 :])
            try:
                found = read(path)
            except ValueError as error:
                assert "w.npz" in str(error)  # noqa: PT017
            else:
                for array in found.values():
                    assert any(np.array_equal(array, other) for other in expected.values())


def patched(path, signature_offsets):
    """The archive with bytes replaced in the header of each file, local (PK34) and central (PK12)."""
    content = bytearray(path.read_bytes())
    for signature, offset, value in signature_offsets:
        start = content.find(signature)
        assert start >= 0
        while start >= 0:
            content[start + offset : start + offset + 2] = value.to_bytes(2, "little")
            start = content.find(signature, start + 4)
    path.write_bytes(content)
    return path


def test_an_encrypted_npz_is_refused(tmp_path):
    np.savez(tmp_path / "w.npz", a=draw(100))
    path = patched(tmp_path / "w.npz", [(b"PK\3\4", 6, 1), (b"PK\1\2", 8, 1)])
    with pytest.raises(ValueError, match=r"w\.npz cannot be read as an \.npz: .*encrypted"):
        read(path)


def test_an_unknown_compression_is_refused(tmp_path):
    np.savez(tmp_path / "w.npz", a=draw(100))
    path = patched(tmp_path / "w.npz", [(b"PK\3\4", 8, 99), (b"PK\1\2", 10, 99)])
    with pytest.raises(ValueError, match=r"w\.npz cannot be read as an \.npz: .*compression"):
        read(path)


@pytest.mark.parametrize("shape", [(10**11,), (10**30, 4), (99,), (101,)])
def test_a_header_that_claims_another_size_is_refused_before_allocation(tmp_path, monkeypatch, shape):
    """The first claims 373 GiB."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("kernel.npy", file.getvalue() + bytes(400))
    monkeypatch.setattr(np.lib.format, "read_array", None)
    with pytest.raises(ValueError, match=r"w\.npz cannot be read as an \.npz: kernel\.npy must have [\d,]+ bytes for"):
        read(tmp_path / "w.npz")


@pytest.mark.parametrize("file", ["w.npz", "w.pth"])
def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, file):
    """A bomb: 2 GB of zeros in a few bytes, by its own word."""
    name = {"w.npz": "a.npy", "w.pth": "archive/data.pkl"}[file]
    with zipfile.ZipFile(tmp_path / file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(100_000))
    patched(tmp_path / file, [(b"PK\1\2", 26, 2**15)])  # the upper half of the unpacked size
    with pytest.raises(ValueError, match=r"w\..* what it unpacks to must have at most 1,073,741,824 bytes, got 2,147,"):
        read(tmp_path / file)


# ONNX.


@pytest.fixture
def onnx():
    return pytest.importorskip("onnx", reason="writes the files that are read here")


def graph(onnx, *initializers):
    return onnx.helper.make_model(onnx.helper.make_graph([], "net", [], [], initializer=initializers))


def test_onnx_gives_the_floats_among_the_initializers(onnx, tmp_path):
    arrays = {"w": draw(4, 3, 2, 2), "half": draw(3).astype(np.float16), "double": draw(2).astype(np.float64)}
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    tensors.append(onnx.helper.make_tensor("unpacked", onnx.TensorProto.FLOAT, (2, 1), [1.5, 2.5]))
    tensors.append(onnx.numpy_helper.from_array(np.array([0, -1]), "OC2_DUMMY_0"))
    onnx.save(graph(onnx, *tensors), tmp_path / "net.onnx")
    arrays["unpacked"] = np.float32([[1.5], [2.5]])
    for found in (read(tmp_path / "net.onnx"), read_onnx(tmp_path / "net.onnx")):
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


def test_onnx_with_its_tensors_elsewhere_is_refused(onnx, tmp_path):
    model = graph(onnx, onnx.numpy_helper.from_array(draw(1000), "w"))
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    with pytest.raises(
        ValueError, match=r"net\.onnx cannot be read as ONNX: it keeps 1 tensors in another file, such as w"
    ):
        read(tmp_path / "net.onnx")


@pytest.mark.usefixtures("onnx")
@pytest.mark.parametrize("read_it", [read, read_onnx])
def test_no_onnx(tmp_path, read_it):
    (tmp_path / "page.onnx").write_text("<html><body>Not found</body></html>")
    with pytest.raises(ValueError, match=r"page\.onnx cannot be read as ONNX"):
        read_it(tmp_path / "page.onnx")


# Caffe. Files are written by hand here, after https://protobuf.dev/programming-guides/encoding and caffe.proto.


@pytest.fixture
def kernel_and_bias():
    pytest.importorskip("google.protobuf", reason="reads .caffemodel")
    return draw(4, 3, 2, 2), draw(4)


@pytest.mark.parametrize("v1", [True, False])
@pytest.mark.parametrize("legacy", [True, False])
def test_caffemodel(tmp_path, kernel_and_bias, v1, legacy):
    kernel, bias = kernel_and_bias
    dense = draw(5, 7)
    layers = [layer("data", [], v1=v1), layer("conv1/7x7_s2", [blob(kernel, legacy=legacy), blob(bias, legacy=legacy)])]
    layers.append(layer("loss3/classifier", [blob(dense, legacy=legacy), blob(bias, legacy=legacy)], v1=v1))
    (tmp_path / "net.caffemodel").write_bytes(field(1, b"GoogleNet") + b"".join(layers))
    expected = {
        "conv1/7x7_s2_w_0": kernel,
        "conv1/7x7_s2_b_0": bias,
        "loss3/classifier_w_0": dense,
        "loss3/classifier_b_0": bias,
    }
    for found in (read(tmp_path / "net.caffemodel"), read_caffe(tmp_path / "net.caffemodel")):
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            assert found[name].dtype == np.float32
            np.testing.assert_array_equal(found[name], array)


def test_caffemodel_in_double(tmp_path, kernel_and_bias):
    kernel = kernel_and_bias[0].astype(np.float64)
    (tmp_path / "net.caffemodel").write_bytes(layer("a", [blob(kernel, data=8)]))
    np.testing.assert_array_equal(read(tmp_path / "net.caffemodel")["a_w_0"], kernel)


def test_caffemodel_with_a_shape_that_its_numbers_do_not_fill(tmp_path, kernel_and_bias):
    content = field(7, field(1, varint(5))) + field(5, kernel_and_bias[1].tobytes())
    (tmp_path / "net.caffemodel").write_bytes(layer("a", [content]))
    with pytest.raises(ValueError, match=r"net\.caffemodel cannot be read as a \.caffemodel: .*reshape"):
        read(tmp_path / "net.caffemodel")


def test_no_caffemodel(tmp_path, kernel_and_bias):
    whole = layer("a", [blob(kernel_and_bias[0])])
    for content in (b"<html><body>Not found</body></html>", whole[:-10]):
        (tmp_path / "net.caffemodel").write_bytes(content)
        with pytest.raises(ValueError, match=r"net\.caffemodel cannot be read as a \.caffemodel"):
            read(tmp_path / "net.caffemodel")


@pytest.mark.usefixtures("kernel_and_bias")
def test_caffes_message_leaves_the_process_alone():
    from google.protobuf import descriptor_pool

    caffe_message()
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("caffe.NetParameter")


# Any file.


def test_torch_is_told_by_its_content(tmp_path):
    torch = pytest.importorskip("torch", reason="writes the files that are read here")
    for zipped in (True, False):
        torch.save({"a": torch.ones(3)}, tmp_path / "weights.bin", _use_new_zipfile_serialization=zipped)
        np.testing.assert_array_equal(read(tmp_path / "weights.bin")["a"], np.ones(3))


@pytest.mark.parametrize("content", [b"", b"<html><body>Not found", bytes(100)])
def test_unknown_format(tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"weights\.pth must be a file of torch\.save, .*, got one that begins with b'"
    ):
        read(tmp_path / "weights.pth")


def test_another_zip_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("photo.jpg", b"")
    with pytest.raises(ValueError, match=r"photos\.zip cannot be read"):
        read(tmp_path / "photos.zip")


@pytest.mark.parametrize("read_it", [read, read_npz, read_onnx, read_caffe])
def test_no_file(tmp_path, read_it):
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"no weights at {path}"):
            read_it(path)


@pytest.mark.parametrize("name", ["net.onnx", "net.caffemodel"])
def test_without_onnx_the_error_says_what_to_install(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(b"")
    for module in ("onnx", "google.protobuf.message"):
        monkeypatch.setitem(sys.modules, module, None)
    ending = name.removeprefix("net")
    with pytest.raises(ImportError, match=rf'{ending} files need the package onnx: .*install "jifv\[convert\]"'):
        read(tmp_path / name)
