r"""Many pictures: CIFAR-10's training images through `jifv invert`, killed on the way, in shards, and undisturbed.

    python benchmarks/bulk.py --folder runs/bulk --count 1800 --out benchmarks/results
    python benchmarks/bulk.py --folder runs/bulk --out benchmarks/results --table bulk-shards --layer dense2.0 \
        --runs "one core" "killed shards"

A process may use the cores that are written beside it, and no others. `one core`: one process. `all cores`: one process
with a device per core, as the command runs by default. `killed`: the same, killed by SIGKILL after a third and after
two thirds of the batches, and begun again. `shards`: one process per core, each with its part, then gathered by
`--merge`. `killed shards`: the same, each killed twice. `same` says whether results and arrays are those of the
undisturbed run of such processes, to the byte. Seconds are those of the whole command, so that some are spent on
starting and on the critical space; programs come from the cache, which a first, short run fills. The fewer pictures,
the larger that part of the time; `per second` is how many are inverted while batches are computed, by the journals.
`faster` and `at work` compare seconds and that with one core.

Images come from ../shared. The folder is removed first.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from harness import pairs, realizations
from harness.tables import Table

from jifv.experiments import journal
from jifv.models.training.cifar10 import read_jpeg_pack

_BATCH = 16  # pictures in a batch of `jifv invert`, unless told otherwise
FILES = ("results.csv", "results.json", "report.html")


def start(pictures, out, layer, cores, *more):
    """Start `jifv invert` on some cores, a device each."""
    options = ["--network", "densenet", "--layer", layer, "--reoptimize-steps", "0", "--out", str(out), "--quiet"]
    command = [sys.executable, "-m", "jifv", "invert", str(pictures), *options, *more]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(len(cores))}
    return subprocess.Popen(command, env=environment, preexec_fn=lambda: os.sched_setaffinity(0, cores))


def finish(*processes):
    """Wait for the end of processes, and for nothing else than success."""
    codes = [each.wait() for each in processes]
    if any(codes):
        raise RuntimeError(f"jifv invert ended with {codes}")


def finished(store):
    """Batches that a store holds."""
    try:
        return journal.read(store)["stages"].get("invert", {"batches": []})["batches"]
    except ValueError:  # not yet there
        return []


def kill(process, store, batches):
    """Kill a process once so many batches are there."""
    while len(finished(store)) < batches:
        if process.poll() is not None:
            raise RuntimeError(f"the run ended with {process.returncode} before it could be killed")
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL


def contents(folder):
    """All that a run has found, by where it is, but for its journals, which have times."""
    chunks = {}
    for path in folder.rglob("*"):
        inside = path.relative_to(folder).parts
        if path.is_file() and "c" in inside:
            chunks[inside[1:]] = path.read_bytes()  # whatever the store is called
    return chunks, [(folder / name).read_bytes() for name in FILES]


def job(pictures, out, layer, cores, store, *more, kills, batches):
    """One job to its end, killed on the way."""
    for number in range(1, kills + 1):
        kill(start(pictures, out, layer, cores, *more), out / store, number * batches // (kills + 1))
    finish(start(pictures, out, layer, cores, *more))


def run(pictures, out, layer, cores, *, kills=0, parts=1):
    """One of the runs, to its end.

    Returns:
        Seconds, and pictures per second while batches are computed.
    """
    count = len(np.load(pictures, mmap_mode="r"))
    part = partial(job, pictures, out, layer, kills=kills, batches=-(-count // _BATCH) // parts)
    began = time.perf_counter()
    if parts == 1:
        part(set(cores), "inverted.zarr")
    else:
        with ThreadPoolExecutor(parts) as pool:
            shards = [
                pool.submit(part, {core}, f"inverted-{index}-of-{parts}.zarr", "--shard", f"{index}/{parts}")
                for index, core in enumerate(cores, 1)
            ]
            for each in shards:
                each.result()
        finish(start(pictures, out, layer, set(cores), "--merge"))
    seconds = time.perf_counter() - began
    busy = sum(batch["seconds"]["invert"] for store in out.glob("*.zarr") for batch in finished(store))
    return seconds, parts * count / busy


class How(NamedTuple):
    """On one core or on all, in a shard per core or not, with how many kills, and the run it must be the same as."""

    all_cores: bool = True
    shards: bool = False
    kills: int = 0
    like: str | None = None


RUNS = {
    "one core": How(all_cores=False),
    "all cores": How(),
    "killed": How(kills=2, like="all cores"),
    "shards": How(shards=True, like="one core"),
    "killed shards": How(shards=True, kills=2, like="one core"),
}


def main():
    parser = pairs.parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of the runs")
    parser.add_argument("--count", type=int, default=10_000, help="of pictures")
    parser.add_argument("--layer", default="classifier")
    parser.add_argument("--runs", nargs="+", choices=tuple(RUNS), default=list(RUNS)[:-1])
    parser.add_argument("--table", default="bulk")
    options = parser.parse_args()
    cores, folder = pairs.cores()[: options.threads], options.folder
    if len(cores) < 2:
        parser.error("there must be two cores or more")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    images = read_jpeg_pack(realizations.SHARED / "data" / "cifar10_jpeg_train.npz").images[: options.count]
    np.save(folder / "pictures.npy", images)
    np.save(folder / "few.npy", images[:_BATCH])
    for some in (cores[:1], cores):
        finish(start(folder / "few.npy", folder / f"warm-{len(some)}", options.layer, set(some)))

    columns = ("run", "pictures", "processes", "cores", "kills", "seconds", "per second", "faster", "at work", "same")
    table = Table(options.table, columns, threads=options.threads, out=options.out)
    first = None
    for name in options.runs:
        how, out = RUNS[name], folder / name.replace(" ", "-")
        some, parts = cores if how.all_cores else cores[:1], len(cores) if how.shards else 1
        seconds, rate = run(folder / "pictures.npy", out, options.layer, some, kills=how.kills, parts=parts)
        first = first or (seconds, rate)
        like = folder / how.like.replace(" ", "-") if how.like in options.runs else None
        same = None if like is None else contents(out) == contents(like)
        counts = len(images), parts, len(some), parts * how.kills
        table.row(name, *counts, seconds, rate, first[0] / seconds, rate / first[1], same)


if __name__ == "__main__":
    main()
