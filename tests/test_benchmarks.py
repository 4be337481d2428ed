import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fv_step
import jacobian
import jax
import numpy as np
import pytest
from harness import networks, pairs, results, tables
from support import toy_sides

from jifv.models import read_weights
from jifv.models.files.convert import densenet_from_torch

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"

# The harness, on steps that NumPy computes. Every side costs a process.


def test_table_and_files(tmp_path, capsys):
    options = pairs.parser("").parse_args(["--rounds", "2", "--threads", "1", "--out", str(tmp_path)])
    report = pairs.Report("toy", options)
    sides = [
        pairs.Side("missing", toy_sides.missing),
        pairs.Side("whole", toy_sides.square, (8,), values=toy_sides.upper_half),
        pairs.Side("part", toy_sides.upper_rows, (8,), scale=1000.0, note="4 rows"),
        pairs.Side("absent", toy_sides.absent),
        pairs.Side("killed", toy_sides.killed),
    ]
    missed, whole, part, nowhere, dead = report.compare("size 8", sides)
    assert missed.unavailable == "not on Mondays"
    assert "a_package_that_nobody_has" in nowhere.unavailable
    assert "code -9" in dead.unavailable
    assert len(whole.seconds) == len(part.seconds) == 2
    assert whole.differences == part.differences == (0,)
    assert whole.ratio == 1
    assert part.ratio == part.median / whole.median
    assert min(part.seconds) >= 1  # a thousand times the millisecond that it sleeps
    assert whole.first > 0
    assert whole.resident > 2**20

    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| size 8 |")]
    assert len(rows) == 5
    assert {row.count("|") for row in rows} == {9}
    assert "| missing | not available: not on Mondays |" in rows[0]
    assert "| part (4 rows) |" in rows[2]
    written = results.read(tmp_path / "toy.json")
    assert (written.commit, written.dirty) == results.checkout()
    assert len(written.commit) == 40
    assert "1 of" in written.machine
    assert written.versions["python"] == platform.python_version()
    assert [row["side"] for row in written.rows] == ["missing", "whole", "part", "absent", "killed"]
    assert written.rows[0] == {"case": "size 8", "side": "missing", "unavailable": "not on Mondays"}
    assert written.rows[1]["seconds"] == results.plain(whole.seconds)
    assert written.rows[2]["ratio"] == pytest.approx(part.ratio, rel=1e-5)
    assert not written.samples


def test_a_table_is_printed_and_written(tmp_path, capsys):
    table = tables.Table("toy", ("name", "number"), threads=1, out=str(tmp_path))
    table.row("third", 1 / 3)
    table.row("NaN", float("nan"))
    assert capsys.readouterr().out.splitlines()[-2:] == ["| third | 0.333 |", "| NaN | nan |"]
    assert results.read(tmp_path / "toy.json").rows == [
        {"name": "third", "number": 0.333333},
        {"name": "NaN", "number": None},
    ]


def test_changes_of_documents_and_results_leave_a_tree_clean(tmp_path, monkeypatch):
    def git(*command):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(results, "ROOT", tmp_path)
    assert results.checkout() == (None, None)
    files = [tmp_path / name for name in ("README.md", "docs/a.png", "benchmarks/results/a.json", "code.py")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("before")
    git("init", "--quiet")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "--message=one")
    for file in files:
        assert results.checkout()[1] is False
        file.write_text("after")
    commit, dirty = results.checkout()
    assert dirty is True
    assert len(commit) == 40


@pytest.mark.parametrize(
    "other",
    [
        pairs.Side("other", toy_sides.square, (8, 1.01)),
        pairs.Side("other", toy_sides.square, (7,)),
        pairs.Side("other", toy_sides.not_a_number),
    ],
)
def test_different_values_are_an_error(other):
    with pytest.raises(ValueError, match="other and whole return different values"):
        pairs.compare([pairs.Side("whole", toy_sides.square, (8,)), other], rounds=1, threads=1)


def test_broken_side_is_an_error_with_its_traceback():
    with pytest.raises(RuntimeError, match=r"(?s)broken failed.*lambda: 1 / 0.*ZeroDivisionError"):
        pairs.compare([pairs.Side("broken", toy_sides.broken)], threads=1)


def test_limits_hold_for_the_sides_only(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    before = pairs.cores()
    side = pairs.Side("limits", toy_sides.limits, values=toy_sides.checked)
    (measured,) = pairs.compare([side], rounds=1, threads=1)
    assert not measured.unavailable
    assert pairs.cores() == before
    assert os.environ["OMP_NUM_THREADS"] == "77"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak on request")
def test_memory_is_that_of_the_step():
    (measured,) = pairs.compare([pairs.Side("large", toy_sides.large, (64,))], rounds=1, threads=1)
    assert 60 < measured.peak / 2**20 < 80


# The scripts.


@pytest.mark.parametrize(
    "name",
    ["critical", "from_torch", "fv_step", "gradients", "growth", "inversion", "jacobian", "roofline", "smoothing"],
)
def test_help(name):
    command = [sys.executable, BENCHMARKS / f"{name}.py", "--help"]
    assert "--rounds" in subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def assert_close(ours, theirs, tolerance):
    differences = pairs.differences([np.asarray(array) for array in theirs], [np.asarray(array) for array in ours])
    assert len(differences) == len(tolerance)
    assert np.all(np.array(differences) <= tolerance)


@pytest.fixture
def torch_alone():
    """PyTorch on one thread: where cores are shared, two spend their time waiting for each other."""
    torch = pytest.importorskip("torch", reason="the other side is PyTorch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def two_blocks(monkeypatch):
    """SRNet up to its second block, which compiles sooner; the test of the scripts has all of it."""
    monkeypatch.setitem(networks.TAPS, "srnet", networks.TAPS["srnet"]._replace(layer="block2"))


@pytest.mark.usefixtures("torch_alone")
def test_densenets_are_the_same(tmp_path):
    path = networks.weights("densenet", tmp_path)
    expected, _ = read_weights(path)
    jax.tree.map(
        np.testing.assert_array_equal,
        densenet_from_torch(networks.torch_network("densenet", path).state_dict()),
        expected,
    )
    theirs, parameters = networks.theirs("densenet", path)
    assert theirs(parameters(networks.inputs("densenet", 2, 16)[0])).shape == (2, networks.TAPS["densenet"].features)


@pytest.mark.slow  # every layer is compared with PyTorch in tests/models
@pytest.mark.usefixtures("torch_alone")
def test_googlenets_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("JIFV_CACHE", str(tmp_path))  # random weights, wherever this runs
    path = networks.weights("googlenet-bvlc", tmp_path)
    p, _ = networks.inputs("googlenet-bvlc", 2, 48)
    quickly_compiled = {"xla_backend_optimization_level": 0}
    ours = jax.jit(jax.vmap(networks.ours("googlenet-bvlc", path, 48)), compiler_options=quickly_compiled)(p)
    theirs, parameters = networks.theirs("googlenet-bvlc", path, channels_last=True)
    assert_close([ours], [theirs(parameters(p))], [1e-5])


@pytest.mark.usefixtures("torch_alone", "two_blocks")
def test_steps_are_the_same():
    case = ("srnet", networks.weights("srnet", ""), 2, 8)
    ours = fv_step.ours(*case)()
    assert [array.shape for array in ours] == [(2, 64), (2,), (2, 8, 8, 3)]
    for channels_last in (False, True):
        assert_close(ours, fv_step.theirs(*case, channels_last)(), fv_step.TOLERANCE)


@pytest.mark.usefixtures("torch_alone", "two_blocks")
def test_jacobians_are_the_same():
    case = ("srnet", networks.weights("srnet", ""), 8)
    expected = jacobian.some_rows(jacobian.ours(*case, None)())
    assert expected[1].shape == (32, 8 * 8 * 3)
    for channels_last in (False, True):
        for step in (jacobian.vmap_over_vjp(*case, 24, channels_last), jacobian.loop(*case, 32, channels_last)):
            assert_close(expected, jacobian.some_rows(step()), jacobian.TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("fv_step", ["--batches", "2"]), ("jacobian", ["--chunks", "16"])])
def test_script(name, options, tmp_path):
    pytest.importorskip("torch", reason="the other side is PyTorch")
    options = ["--networks", "srnet", "--size", "8", "--rounds", "1", "--out", tmp_path, *options]
    subprocess.run([sys.executable, BENCHMARKS / f"{name}.py", *options], check=True, timeout=600)
    rows = results.read(tmp_path / f"{name}.json").rows
    sides = [row for row in rows if row["case"] == rows[-1]["case"]]
    assert len(sides) == 5 + (len(pairs.cores()) > 1)
    assert not any("unavailable" in side for side in sides if "compile" not in side["side"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "written"),
    [
        ("critical", "--features 10", {"critical"}),
        ("fv_step", "--alternatives --networks srnet --size 8 --batches 2 --rounds 1", {"alternatives"}),
        ("growth", "--stages inversion --rounds 1 --name part", {"part"}),
        ("inversion", "--entries 4e4 --rounds 1", {"inversion", "inversion-accuracy"}),
        ("roofline", "--networks srnet --batch 1 --matrix 64 --rounds 1", {"roofline", "million"}),
        ("smoothing", "--networks srnet --size 8 --batches 1 --rounds 1", {"smoothing"}),
    ],
)
def test_script_without_pytorch(name, options, written, tmp_path):
    command = [sys.executable, BENCHMARKS / f"{name}.py", *options.split(), "--out", tmp_path]
    subprocess.run(command, check=True, timeout=1200)
    assert {path.stem for path in tmp_path.glob("*.json")} == written
    for path in tmp_path.glob("*.json"):
        assert not any("unavailable" in row for row in results.read(path).rows)


@pytest.mark.slow
def test_a_row_of_precision():
    import precision

    short = replace(precision.CASES["dncl"].settings, adam_steps=4, lbfgs_steps=2)
    cell = replace(precision.CASES["dncl"], samples=2, canonical=1, settings=short)
    assert list(precision.stages(short).values()) == [3, 4, None]
    problem, basis = precision.problem_of(cell, precision.network_of(cell)), precision.complement_of_ones(10)
    exact = precision.row(cell, problem, basis, 0)
    with precision.emulated("bfloat16"):
        rounded = precision.row(cell, problem, basis, 3)
    assert np.isfinite([exact, rounded]).all()
    assert exact != rounded
