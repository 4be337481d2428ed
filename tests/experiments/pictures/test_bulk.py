"""Two hundred pictures, killed on the way, in shards, and undisturbed: the same bits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from support.toy import network, scores
from jifv.experiments.pictures import Setting, invert_pictures
i, n = map(int, sys.argv[4].split("/"))
setting = Setting("toy", "scores", smoothing=0)
print("ready", flush=True)
invert_pictures(
    [sys.argv[2]], setting, network=network(scores), folder=sys.argv[3], shard=(i, n) if n else None, batch_size=10
)
"""


def process(pictures, folder, shard="0/0"):
    """All of them share what they compile."""
    support = str(Path(__file__).parents[2])
    environment = os.environ | {
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(pictures.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-c", RUN, support, str(pictures), str(folder), shard]
    started = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert started.stdout.readline() == "ready\n"
    return started


def finish(*processes):
    for each in processes:
        assert each.wait(timeout=300) == 0
        each.stdout.close()


def chunks(folder):
    """What a store holds but for its journal, which has times."""
    found = [path for path in folder.rglob("*") if path.is_file() and "c" in path.relative_to(folder).parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.slow
def test_killed_runs_and_shards_end_with_the_same_bits(tmp_path):
    pictures = tmp_path / "pictures.npy"
    np.save(pictures, np.random.default_rng(0).integers(0, 256, (200, 12, 12, 3), dtype=np.uint8))
    finish(process(pictures, tmp_path / "whole"))
    wanted = chunks(tmp_path / "whole" / "inverted.zarr")
    assert len(wanted) == 20 * len(list((tmp_path / "whole" / "inverted.zarr" / "invert").glob("*/c")))

    kills = 0
    while kills < 2:
        running, store = process(pictures, tmp_path / "killed"), tmp_path / "killed" / "inverted.zarr"
        before = len(chunks(store)) if store.exists() else 0
        while running.poll() is None and not (store.exists() and len(chunks(store)) > before + 20):
            time.sleep(0.005)
        running.kill()
        assert running.wait() == -signal.SIGKILL, "it ended before it could be killed"
        running.stdout.close()
        kills += 1
    assert 0 < len(chunks(tmp_path / "killed" / "inverted.zarr")) < len(wanted)
    finish(process(pictures, tmp_path / "killed"))
    assert chunks(tmp_path / "killed" / "inverted.zarr") == wanted

    finish(process(pictures, tmp_path / "parts", "1/2"), process(pictures, tmp_path / "parts", "2/2"))
    parts = [chunks(tmp_path / "parts" / f"inverted-{i}-of-2.zarr") for i in (1, 2)]
    assert not parts[0].keys() & parts[1].keys()
    assert parts[0] | parts[1] == wanted
    finish(process(pictures, tmp_path / "parts"))
    for name in ("results.csv", "results.json", "report.html"):
        found = [(tmp_path / folder / name).read_bytes() for folder in ("whole", "killed", "parts")]
        assert found[0] == found[1] == found[2]
    stored = zarr.open_group(tmp_path / "whole" / "inverted.zarr" / "invert", mode="r")
    assert stored["singular_vectors"].shape[2] <= 8
