"""Networks of PyTorch are saved, smoothed, visualized and inverted as ours are, and agree with ours."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from support.taps import FAST

import jifv
import jifv.models
from jifv.network import from_torch, load

torch = pytest.importorskip("torch", reason="the networks are PyTorch's")

from support import torch_families  # noqa: E402
from support.torch_densenet import TorchDenseNet  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


def image(network):
    return np.random.default_rng(0).uniform(0, 1, network.input_shape).astype(np.float32)


# Files.


@pytest.fixture(scope="module")
def mobile():
    """All kinds of arguments are in its graph."""
    module = torch_families.random_network("mobilenetv3")
    return from_torch(module, (24, 24, 3), resize=32, mean=0.5, std=(0.2, 0.3, 0.4), layer="features.1")


def test_saved_and_loaded_without_pytorch(mobile, tmp_path):
    path = tmp_path / "mobile.safetensors"
    mobile.save(path)
    x = image(mobile)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, jifv.network\n"
        f"network = jifv.network.load({str(path)!r})\n"
        "print(network)\n"
        f"np.save({str(tmp_path / 'y.npy')!r}, network(np.load({str(tmp_path / 'x.npy')!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "TorchNetwork('features.1', (24, 24, 3) -> (16, 16, 8))\n"
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), mobile(x))
    again = load(path, layer="output")
    assert again.graph == mobile.graph
    assert again.layers() == mobile.layers()
    assert (again.layer, again.mean, again.std) == ("output", mobile.mean, mobile.std)


def test_files_that_are_no_networks(mobile, tmp_path):
    path = tmp_path / "file.safetensors"
    with pytest.raises(FileNotFoundError, match="no network at"):
        load(path)
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        load(path)
    save_file({"a": np.zeros(2)}, path)
    with pytest.raises(ValueError, match="must be a network of jifv, got format None"):
        load(path)
    save_file({"a": np.zeros(2)}, path, {"format": "jifv.network 2", "graph": "{}"})
    with pytest.raises(ValueError, match="must be a network of jifv, got metadata"):
        load(path)
    mobile.save(path)
    with pytest.raises(ValueError, match=r"layer must be one of .*features.1, .*got 'nowhere'"):
        load(path, layer="nowhere")


def test_a_flipped_bit_in_a_saved_network_is_noticed(mobile, tmp_path):
    path = tmp_path / "mobile.safetensors"
    mobile.save(path)
    whole = path.read_bytes()
    # Of the names, the graph and the preprocessing, and of the weights.
    for place in (*np.random.default_rng(0).integers(len(whole), size=20), len(whole) - 2):
        content = bytearray(whole)
        content[place] ^= 4
        path.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            load(path)


def test_values_beyond_the_range_of_the_preprocessing_are_refused(mobile):
    for wrong in (255 * image(mobile), image(mobile) * np.nan):
        with pytest.raises(
            ValueError, match=r"x must have values in \[0, 1\], got .* for mean and std; divide bytes by 255"
        ):
            mobile(wrong)
    mobile(np.clip(image(mobile), 0, 0) - 5e-4)  # which a resampling may do


def test_pytorch_is_imported_by_from_torch_alone():
    code = "import sys, jifv.network; assert 'torch' not in sys.modules and 'keras' not in sys.modules"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=120)


# Smoothing.

KINKS = {
    "mobilenetv3": ("features.2", {"max", "min"}),
    "inception": ("block", {"max", "_max_pool"}),
    "densenet": ("stages.1", {"max", "_max_pool"}),
    "efficientnet": ("features.2", set()),
}
KINKS_OF_OTHERS = {
    "resnet": ("resnet.encoder.stages.0", {"max", "_max_pool"}),
    "convnext": ("convnext.encoder.stages.0", set()),
    "vit": ("vit.layers.0", set()),
    "swin": ("swin.encoder.layers.0.blocks.0", set()),
}


def check_smoothed(module, layer, kinds, size):
    network = from_torch(module, (size, size, 3), layer=layer)
    smoothed = jifv.smooth(network, (size, size, 3))
    assert {site.kind for site in smoothed.sites} == kinds
    assert not smoothed.replaced
    # A softmax subtracts its maximum for safety.
    assert {each.reason for each in smoothed.left_alone} <= {"its derivative is stopped"}
    return network, smoothed


def test_smoothed():
    network, smoothed = check_smoothed(torch_families.random_network("inception"), "block", {"max", "_max_pool"}, 40)
    x = image(network)
    plain, rounded = (jax.jit(f, compiler_options=FAST)(x) for f in (network, smoothed))
    assert 1e-4 < np.abs(plain - rounded).max() / np.abs(plain).max() < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("name", KINKS)
def test_smoothed_family(name):
    check_smoothed(torch_families.random_network(name), *KINKS[name], 40)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in KINKS_OF_OTHERS])
def test_smoothed_family_of_hugging_face(name):
    pytest.importorskip("transformers", reason="the network is one of Hugging Face's")
    check_smoothed(torch_families.hugging_face(name), *KINKS_OF_OTHERS[name], 32)


# The whole path, and our own networks.


@pytest.mark.slow
def test_visualized_and_inverted():
    module = torch_families.random_network("vgg")
    network = from_torch(module, (16, 16, 3), layer="features.3")
    phi = jifv.pixels((16, 16, 3))
    f = jifv.compose(phi.apply, network, jifv.max_mean())
    targets = jifv.sparse_objectives(jax.random.key(0), 2, features=8)
    start = jax.vmap(phi.init)(jax.random.split(jax.random.key(1), 2))
    realizations = jifv.visualize(f, start, targets, settings=jifv.Settings(adam_steps=4, lbfgs_steps=0))
    inversion = jifv.invert_batch(f, realizations)
    assert inversion.objective.shape == (2, 8)
    assert np.isfinite(inversion.objective).all()


def agree(network, ours):
    """Values and gradients of two functions of an image."""
    x = image(network)
    weights = np.random.default_rng(1).normal(size=network.output_shape).astype(np.float32)
    run = lambda f: jax.jit(jax.value_and_grad(lambda x: jnp.vdot(weights, f(x))))(x)  # noqa: E731
    (one, slope), (other, expected) = run(network), run(ours)
    np.testing.assert_allclose(one, other, rtol=1e-4)
    assert np.linalg.norm(slope - expected) < 1e-4 * np.linalg.norm(expected)


@pytest.mark.slow
def test_trained_densenet_is_ours_and_goes_through_dncl(shared):
    path = shared / "weights" / "densenet_bc_100_12_cifar10.pth.tar"
    if not path.is_file():
        pytest.skip(f"no reference data: {path.name}")
    module = TorchDenseNet("average")
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
    network = from_torch(module.eval(), (32, 32, 3))
    ours = jifv.models.load("densenet", weights=path)
    agree(network, ours.apply)
    agree(network.tap("block3"), jifv.models.load("densenet", weights=path, layer="dense3").apply)

    phi = jifv.pixels((32, 32, 3))
    targets = jifv.sparse_objectives(jax.random.key(0), 2, features=10)
    start = jax.vmap(phi.init)(jax.random.split(jax.random.key(1), 2))
    settings = jifv.Settings(adam_steps=20, lbfgs_steps=0)
    f, g = (jifv.compose(phi.apply, each, jifv.identity) for each in (network, ours.apply))
    realizations = jifv.visualize(f, start, targets, settings=settings)
    one = jifv.invert_batch(f, realizations)
    other = jifv.invert_batch(g, realizations.parameters, significance=realizations.significance)
    # The smallest is that of the common shift of all scores: rounding error.
    np.testing.assert_allclose(one.singular_values[:, :-1], other.singular_values[:, :-1], rtol=2e-3)
    assert (np.abs(np.sum(one.objective * other.objective, 1)) > 0.999).all()


@pytest.mark.slow
def test_googlenet_is_ours(tmp_path, monkeypatch):
    from harness import networks

    monkeypatch.setenv("JIFV_CACHE", str(tmp_path))  # random weights, wherever this runs
    path = networks.weights("googlenet-bvlc", tmp_path)
    module = networks.torch_network("googlenet-bvlc", path).eval()
    network = from_torch(module, (64, 64, 3), layer="inception4c")
    ours = jifv.models.load("googlenet-bvlc", weights=path, layer="inception4c", input_size=64)
    assert network.output_shape == ours.output_shape
    agree(network, ours.apply)


def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    namespace = {}
    exec(compile(code, "docs/networks.md", "exec"), namespace)
    assert namespace["network"].output_shape == (15, 15, 16)
    assert namespace["other"].output_shape == (13, 13, 24)
