"""A program for tests/core/test_devices.py, as the number of devices is fixed once JAX has started.

    python many_devices.py FOLDER [PROCESS PROCESSES PORT]

Runs the toy experiment on all devices that JAX_NUM_CPU_DEVICES asks for, alone or as one of several processes, each of
which writes what it has in the end.
"""

import sys
from pathlib import Path

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)


def main(folder, process="0", processes="1", port=""):
    if processes != "1":
        jax.distributed.initialize(f"127.0.0.1:{port}", int(processes), int(process))
    from support.toy import UNEVEN, network, response, scores

    from jifv import invert_batch, sample_mesh
    from jifv.experiments.run import identity, run
    from jifv.experiments.store import Store

    experiment, net, mesh = UNEVEN, network(scores), sample_mesh()
    store = Store.open(Path(folder) / "toy.zarr", identity(experiment, net), experiment.samples, experiment.batch_size)
    results = run(experiment, net, store=store, mesh=mesh, progress=False)
    arrays = {name: getattr(results, name) for name in ("objectives", "random", "canonical")}
    arrays |= {name: value for name, value in vars(results.realized).items() if isinstance(value, np.ndarray)}
    arrays |= {"prediction_on_v": results.calibrated.prediction}
    arrays |= {f"ssim_{name}": value for name, value in results.evaluation.ssim.items()}
    significance = experiment.significance
    inversion = invert_batch(response, results.realized.parameters, significance=significance, mesh=mesh)
    arrays |= {f"inverted_{name}": value for name, value in inversion._asdict().items() if value is not None}
    np.savez(Path(folder) / f"process{process}.npz", devices=mesh.size, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
