"""Many pictures: CIFAR images through `jifv invert`, once as it is and once in two shards at a time.

    python benchmarks/bulk.py --shared ../shared --count 10000 --out /tmp/bulk

Prints the seconds of each, and whether both found the same. Each process has one core per shard. Compilation is part of
the time, but for what the first, short run has left in the cache.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image


def command(pictures, out, layer, shard=None):
    part = ["--shard", shard] if shard else []
    options = ["--network", "densenet", "--layer", layer, "--reoptimize-steps", "0", "--out", str(out), "--quiet"]
    return [sys.executable, "-m", "jifv", "invert", str(pictures), *options, *part]


def seconds(commands, **environment):
    began = time.perf_counter()
    running = [subprocess.Popen(each, env=os.environ | environment) for each in commands]
    for each in running:
        assert each.wait() == 0
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--layer", default="classifier")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    shutil.rmtree(asked.out, ignore_errors=True)
    asked.out.mkdir(parents=True)
    with np.load(asked.shared / "data" / "cifar10_jpeg_train.npz") as file:
        data, offsets = file["bytes"].tobytes(), file["offsets"]
    pictures = asked.out / "pictures.npy"
    bounds = pairwise(offsets[: asked.count + 1])
    images = [np.asarray(Image.open(io.BytesIO(data[start:end]))) for start, end in bounds]
    np.save(pictures, np.stack(images))
    np.save(asked.out / "few.npy", np.stack(images[:16]))

    one = {"JAX_NUM_CPU_DEVICES": "1"}
    seconds([command(asked.out / "few.npy", asked.out / "warm", asked.layer)], **one)
    whole = seconds([command(pictures, asked.out / "whole", asked.layer)], **one)
    print(f"one process of one device: {whole:.1f} s, {1e3 * whole / asked.count:.1f} ms per picture")
    parts = [command(pictures, asked.out / "parts", asked.layer, shard) for shard in ("1/2", "2/2")]
    both = seconds(parts, **one)
    print(f"two shards at a time: {both:.1f} s, {whole / both:.2f} times as fast")
    merge = seconds([[*command(pictures, asked.out / "parts", asked.layer), "--merge"]], **one)
    same = [(asked.out / name / "results.csv").read_bytes() for name in ("whole", "parts")]
    print(f"merged in {merge:.1f} s, {'to the same bytes' if same[0] == same[1] else 'TO OTHER RESULTS'}")


if __name__ == "__main__":
    main()
