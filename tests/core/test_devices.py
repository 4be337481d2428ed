import gc
import os
import socket
import subprocess
import sys
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from support.toy import UNEVEN, network, scores

import jifv
from jifv._core.devices import by_leader, divisible, gather, in_turn, mesh_of, over_samples, scatter, together
from jifv.experiments.run import run

PROGRAM = Path(__file__).parents[1] / "support" / "many_devices.py"


def started(folder, *arguments, devices):
    """A process with so many devices, and what it prints."""
    path = os.pathsep.join([str(PROGRAM.parents[1]), str(PROGRAM.parents[2])])
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, PROGRAM, folder, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(*processes):
    """Wait for all, which need one another."""
    try:
        for process in processes:
            said, _ = process.communicate(timeout=300)
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def on_one_device():
    with jax.enable_x64(True):
        return run(UNEVEN, network(scores), progress=False)


def test_an_experiment_in_float64_is_float64(on_one_device, x64):
    assert on_one_device.objectives.dtype == np.float64
    assert on_one_device.realized.prediction.dtype == on_one_device.calibrated.prediction.dtype == np.float64
    assert on_one_device.realized.images.dtype == on_one_device.realized.singular_values.dtype == np.float64
    assert jax.config.jax_enable_x64


def assert_same_but_for_rounding(path, expected, devices):
    with np.load(path) as found:
        assert found["devices"] == devices
        for name in ("objectives", "random", "canonical"):
            np.testing.assert_array_equal(found[name], getattr(expected, name), err_msg=name)
        for name in ("adam_steps", "lbfgs_steps", "finite", "on_floor"):
            np.testing.assert_array_equal(found[name], getattr(expected.realized, name), err_msg=name)
        close = {
            name: getattr(expected.realized, name) for name in ("parameters", "images", "response", "value", "beta")
        }
        close |= {f"inverted_{name}": getattr(expected.realized, name) for name in ("singular_values", "gap", "dead")}
        close |= {"prediction_on_v": expected.calibrated.prediction}
        for name, value in close.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-7, err_msg=name)
        for name, value in expected.evaluation.ssim.items():
            np.testing.assert_allclose(found[f"ssim_{name}"], value, rtol=1e-6, err_msg=name)


def test_eight_devices_compute_what_one_computes(on_one_device, tmp_path):
    finished(started(tmp_path, devices=8))
    assert_same_but_for_rounding(tmp_path / "process0.npz", on_one_device, devices=8)


@pytest.mark.slow  # three processes that compile an experiment each
def test_two_processes_compute_what_one_computes_and_both_have_it(on_one_device, tmp_path):
    port = free_port()
    finished(*(started(tmp_path, str(process), "2", port, devices=2) for process in range(2)))
    for process in range(2):
        assert_same_but_for_rounding(tmp_path / f"process{process}.npz", on_one_device, devices=4)


def test_mesh_of_one_device():
    mesh = jifv.sample_mesh(1)
    assert mesh.devices.tolist() == jax.devices()[:1]
    assert jifv.sample_mesh(jax.devices()[:1]) == mesh
    assert jifv.sample_mesh().size == jax.device_count()


@pytest.mark.parametrize(
    ("devices", "error", "message"),
    [
        (0, ValueError, "devices must be at least 1, got 0"),
        (10_000, ValueError, "devices must be at most the"),
        ([], ValueError, "devices must be at least one, got an empty sequence"),
        (1.5, TypeError, "devices must be a positive integer, got 1.5"),
    ],
)
def test_wrong_devices(devices, error, message, unchecked):
    with pytest.raises(error, match=message):
        jifv.sample_mesh(devices)


@pytest.mark.parametrize(("size", "rows"), [(1, [0, 1, 2, 3, 4]), (2, [0, 1, 2, 3, 4, 4]), (8, [0, 1, 2, 3, *[4] * 4])])
def test_the_last_sample_is_repeated_until_devices_can_divide(size, rows):
    mesh = Mesh(np.array(jax.devices()[:1] * size), ("samples",))  # of one device, so that there is no need for eight
    np.testing.assert_array_equal(divisible(np.arange(5), mesh), rows)
    np.testing.assert_array_equal(divisible(np.arange(5), None), np.arange(5))


@pytest.mark.parametrize("mesh", [None, "one"])
def test_together_and_in_turn_are_the_function_itself(mesh):
    mesh = mesh and jifv.sample_mesh(1)
    x, y = np.arange(12.0, dtype=np.float32).reshape(4, 3), np.arange(4, dtype=np.float32)

    def function(x, y):
        return {"sum": x.sum(-1) + y, "square": x**2}

    expected = jax.tree.map(np.asarray, function(x, y))
    compiled = jax.jit(over_samples(function, mesh))
    jax.tree.map(np.testing.assert_array_equal, together(compiled, mesh, x, y), expected)
    each = list(in_turn(compiled, mesh, x, jnp.asarray(y)))
    assert len(each) == 4
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda *rows: np.stack(rows), *each), expected)


def test_an_error_of_the_leader_keeps_nothing_alive():
    class Held:
        pass

    seen = []

    def fail():
        held = Held()
        seen.append(weakref.ref(held))
        raise ValueError("no")

    gc.disable()  # which would hide it
    try:
        with pytest.raises(ValueError, match="no"):
            by_leader(fail)
        assert seen[0]() is None
    finally:
        gc.enable()


def test_what_is_not_divided_has_no_mesh():
    assert mesh_of(np.zeros(3)) is None
    assert mesh_of(jnp.zeros(3)) is None
    assert mesh_of(scatter(jnp.zeros(3), jifv.sample_mesh(1))) is None
    assert isinstance(gather(jnp.zeros(3)), np.ndarray)


def test_decompositions_on_several_devices_do_not_wait_for_one_another():
    """Batches of this size stopped two devices for ever, within a few attempts."""
    program = """
import numpy as np
import jifv
from jifv._core.devices import together
from jifv.experiments.problem import _inverter
mesh, rng = jifv.sample_mesh(2), np.random.default_rng(0)
jacobian, response = rng.normal(size=(8, 342, 342)).astype("f"), rng.normal(size=(8, 342)).astype("f")
for _ in range(12):
    found = together(_inverter(jifv.Significance(), 0.0, mesh), mesh, response, jacobian)
assert np.isfinite(found.gap).all()
"""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=240)
