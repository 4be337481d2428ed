"""Does a store of a run survive what happens to it? Random damage, kills, and processes that meet.

    python benchmarks/fuzz_store.py damage --count 1000     # files are flipped, cut, swapped, deleted
    python benchmarks/fuzz_store.py kills --count 250       # a process that writes and removes is killed at any time
    python benchmarks/fuzz_store.py steps --every 1         # and before each of its calls to the file system
    python benchmarks/fuzz_store.py meet --count 50         # four processes at once

Prints how often what happened, and ends with an error at the first number that reads back wrong, and at every error
that does not name a file. Processes are forks of this one, which therefore computes nothing itself.
"""

import argparse
import collections
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np

from jifv.experiments.store import Store

SAMPLES, BATCH = 7, 3
IDENTITY = {"name": "fuzz"}
STAGES = ("realize", "reoptimize")


def values(stage, rows):
    """Numbers of a batch, which any process computes alike; zeros too, as a chunk of these is easily lost."""
    numbers = np.random.default_rng(STAGES.index(stage)).normal(size=(SAMPLES, 5, 2)).astype(np.float32)[rows]
    return {"values": numbers, "flags": rows % 2 == 0, "zeros": np.zeros((len(rows), 3))}


def finish(folder):
    """Open a store, compute what is missing, and compare all of it."""
    with Store.open(folder, IDENTITY, SAMPLES, BATCH) as store:
        for stage in STAGES:
            for batch in store.missing(stage):
                store.write(stage, batch, values(stage, store.rows(batch)), {"work": 1.0})
            found = store.read(stage)
            for name, wanted in values(stage, np.arange(SAMPLES)).items():
                if found[name].dtype != wanted.dtype or found[name].tobytes() != wanted.tobytes():
                    raise AssertionError(f"{stage}/{name} reads back wrong")


def fork(work, *arguments):
    """Do something in a process of its own: the number of that process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX: this process has nothing running yet
        process = os.fork()
    if process:
        return process
    code = 1
    try:
        warnings.simplefilter("ignore")
        work(*arguments)
        code = 0
    except OSError as error:
        code = 3 if "in use" in str(error) else 1
        if code == 1:
            traceback.print_exc()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(process):
    """How a process ended: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def succeed(work, *arguments):
    if code := ended(fork(work, *arguments)):
        raise SystemExit(f"{work.__name__}{arguments} ended with {code}")


def damage(folder, count, chance):
    """Opens a damaged store: what is told, and whether a number reads back wrong."""
    happened = collections.Counter()
    whole, hurt = folder / "whole.zarr", folder / "hurt.zarr"
    finish(whole)
    for index in range(count):
        shutil.rmtree(hurt, ignore_errors=True)
        shutil.copytree(whole, hurt)
        files = sorted(path for path in hurt.rglob("*") if path.is_file())
        path, how = chance.choice(files), chance.choice(list(HURT))
        HURT[how](path, files, chance)
        part = "journal" if path.parent == hurt else "description" if path.name == "zarr.json" else "chunk"
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                finish(hurt)
                what = "computed again" if any("missing again" in str(each.message) for each in told) else "repaired"
                what = f"told and {what}" if told else "nothing said, all numbers right"
            except (ValueError, OSError) as error:
                if str(hurt) not in str(error):
                    raise
                what = "refused by the file's name"
        # Another chunk may have the same numbers, but for those that lie beyond the last sample.
        if part == "chunk" and what != "told and computed again" and how != "another file":
            raise AssertionError(f"{index}: {how} of {path}: {what}")
        happened[f"{part}, {how}: {what}"] += 1
    return happened


def _flip(path, _, chance):
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def _cut(path, _, chance):
    os.truncate(path, chance.randrange(path.stat().st_size))


def _zeros(path, _, chance):
    path.write_bytes(bytes(path.stat().st_size))


def _longer(path, _, chance):
    path.write_bytes(path.read_bytes() + chance.randbytes(chance.randrange(1, 100)))


def _other(path, files, chance):
    path.write_bytes(chance.choice(files).read_bytes())


HURT = {
    "bit flipped": _flip,
    "cut": _cut,
    "zeroed": _zeros,
    "longer": _longer,
    "another file": _other,
    "gone": lambda path, *_: path.unlink(),
}


def kills(folder, count, chance):
    """Kills a process that writes, compares and removes a store again and again."""
    store, killed = folder / "a.zarr", 0
    for _ in range(count):
        process = fork(endlessly, store)
        time.sleep(0.3 + chance.expovariate(3))
        os.kill(process, signal.SIGKILL)
        if (code := ended(process)) != -signal.SIGKILL:
            raise SystemExit(f"ended with {code} before it was killed, after {killed} kills")
        killed += 1
    succeed(once, store)
    return {"killed, and went on": killed}


def once(folder):
    finish(folder)
    Store.remove(folder)
    if folder.exists():
        raise AssertionError("not removed")


def endlessly(folder):
    while True:
        once(folder)


def steps(folder, every):
    """Kills a process before its n-th call to the file system, for every n."""
    step, happened = 1, collections.Counter()
    while True:
        store = folder / str(step) / "a.zarr"
        code = ended(fork(until, store, step))
        succeed(once, store)
        left = sorted(path.name for path in store.parent.iterdir())
        happened["files left beside the store"] += len(left)
        happened["killed" if code else "not killed"] += 1
        if code == 0:
            return happened
        if code != -signal.SIGKILL:
            raise SystemExit(f"step {step} ended with {code}")
        step += every


def until(folder, step):
    left = [step]

    def hook(event, arguments):
        if event in EVENTS and any(str(folder.parent) in os.fsdecode(each) for each in arguments if _is_path(each)):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    once(folder)


EVENTS = ("open", "os.mkdir", "os.rmdir", "os.rename", "os.remove", "os.link", "os.truncate", "os.utime", "os.listdir")


def _is_path(value):
    return isinstance(value, str | bytes | os.PathLike)


def meet(folder, count, chance):
    """Starts four processes on one store, shortly after one another."""
    happened = collections.Counter()
    for index in range(count):
        store = folder / f"{index}.zarr"
        processes = []
        for _ in range(4):
            processes.append(fork(finish, store))
            time.sleep(chance.choice((0, 0, 0.1, 0.3)))
        codes = [ended(process) for process in processes]
        if 0 not in codes or set(codes) - {0, 3}:
            raise SystemExit(f"ended with {codes}")
        happened["finished"] += codes.count(0)
        happened["refused, as another one had it"] += codes.count(3)
        succeed(once, store)
    return happened


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("damage", "kills", "steps", "meet"))
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, chance = Path(name), random.Random(options.seed)
        if options.what == "steps":
            happened = steps(folder, options.every)
        else:
            happened = globals()[options.what](folder, options.count, chance)
    for what, number in sorted(happened.items()):
        print(f"{number:6} {what}")


if __name__ == "__main__":
    main()
