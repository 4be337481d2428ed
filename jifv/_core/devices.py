"""Batches over many devices, with JAX's own sharding: a mesh with the samples along its only axis.

Samples do not depend on one another, so each device computes its own share of a batch and nothing is exchanged but
the results. Results depend on the number of devices as they depend on the batch size: by rounding.

Over several processes (`jax.distributed`) every process runs the same program on the same arrays, and has all results.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int, PyTree

from jifv._core.check import check_positive

_T = TypeVar("_T")
_SAMPLES = "samples"


def sample_mesh(devices: int | Sequence[Any] | None = None) -> Mesh:
    """Choose the devices that share the samples of a batch, for the argument `mesh` of other functions.

    Args:
        devices: The devices, or how many of all there are, or None for all of them: those of every process if
            `jax.distributed.initialize` was called.

    Returns:
        A mesh with one axis.

    Raises:
        TypeError: The number is not an integer, or a sequence holds something else than devices.
        ValueError: There are fewer devices, or none is given; or of several processes one would have no device.
    """
    everyone = jax.devices()
    if devices is None:
        devices = everyone
    elif not isinstance(devices, Sequence):
        check_positive("devices", devices)
        if devices > len(everyone):
            raise ValueError(f"devices must be at most the {len(everyone)} there are, got {devices}")
        devices = everyone[:devices]
    if not all(isinstance(device, jax.Device) for device in devices):
        raise TypeError(f"devices must be a number or those of jax.devices(), got {devices!r}")
    if not devices:
        raise ValueError("devices must be at least one, got an empty sequence")
    if without := set(range(jax.process_count())) - {device.process_index for device in devices}:
        raise ValueError(f"devices must include some of every process, got none of process {min(without)}")
    return Mesh(np.array(devices), (_SAMPLES,))


def check_mesh(mesh: Any) -> None:
    """Raise unless `mesh` is None or divides samples, as that of `sample_mesh` does.

    Raises:
        TypeError: It is no mesh.
        ValueError: It has other axes.
    """
    if mesh is None:
        return
    if not isinstance(mesh, Mesh):
        raise TypeError(f"mesh must be None or a mesh such as that of sample_mesh, got {mesh!r}")
    if mesh.axis_names != (_SAMPLES,):
        raise ValueError(f"mesh must have the one axis {_SAMPLES!r}, as that of sample_mesh, got {mesh.axis_names}")


def mesh_of(array: Any) -> Mesh | None:
    """Return the mesh over which the samples of an array are divided, None if they are not."""
    sharding = getattr(array, "sharding", None)
    mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
    return mesh if isinstance(mesh, Mesh) and mesh.axis_names == (_SAMPLES,) else None


def divisible(rows: Int[np.ndarray, " rows"], mesh: Mesh | None) -> Int[np.ndarray, " more"]:
    """Repeat the last sample number until the devices can divide the samples evenly."""
    missing = -len(rows) % (mesh.size if mesh is not None else 1)
    return np.concatenate([rows, np.repeat(rows[-1:], missing)])


def scatter(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Divide the first axis of every array over the devices; scalars go to all. Without a mesh, nothing changes."""
    if mesh is None or mesh.size == 1:
        return tree if mesh is None else jax.device_put(tree, mesh.devices.item())

    def put(leaf: Any) -> jax.Array:
        leaf = np.asarray(leaf)
        sharding = NamedSharding(mesh, PartitionSpec(_SAMPLES) if leaf.ndim else PartitionSpec())
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(put, tree)


def gather(tree: PyTree) -> PyTree:
    """Return arrays as NumPy arrays, whole on every process, wherever their parts are."""

    def get(leaf: Any) -> np.ndarray:
        here = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated
        return np.asarray(leaf if here else multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(get, tree)


def over_samples(function: Callable, mesh: Mesh | None) -> Callable:
    """Return a function of batches of which each device computes its own part, whatever its operations.

    Args:
        function: Of arrays with the samples along their first axis, to such arrays.
        mesh: See `sample_mesh`; None leaves the function as it is.
    """
    if mesh is None or mesh.size == 1:
        return function
    samples = PartitionSpec(_SAMPLES)
    # Unchecked, as networks are anybody's functions: the check rejects every loop that starts from a constant.
    return jax.shard_map(function, mesh=mesh, in_specs=samples, out_specs=samples, check_vma=False)


def one_by_one(function: Callable, mesh: Mesh | None) -> Callable:
    """Return a function of batches that takes one sample after the other on several CPU devices, for `over_samples`.

    For decompositions. LAPACK's of a batch wait for threads of XLA's pool. Where those of all devices do so at the same
    time, no thread is left to work, and they wait for ever (jaxlib 0.10).
    """
    if mesh is None or mesh.size == 1 or mesh.devices.flat[0].platform != "cpu":
        return function

    def one(sample: tuple[jax.Array, ...]) -> PyTree:
        return jax.tree.map(lambda leaf: leaf[0], function(*(array[None] for array in sample)))

    return lambda *arrays: jax.lax.map(one, arrays)


def together(function: Callable, mesh: Mesh | None, *arrays: np.ndarray | jax.Array) -> PyTree:
    """Compute a function for all samples of a batch at once; results are NumPy arrays.

    Args:
        function: Of arrays with the samples along their first axis. Compiled, made with `over_samples`.
        mesh: The devices, None for the default one.
        arrays: The function's arguments. The number of samples is free.
    """
    count = len(arrays[0])
    rows = divisible(np.arange(count), mesh)
    results = gather(function(*scatter(tuple(array[rows] for array in arrays), mesh)))
    return jax.tree.map(lambda leaf: leaf[:count], results)


def in_turn(function: Callable, mesh: Mesh | None, *arrays: np.ndarray | jax.Array) -> Iterator[PyTree]:
    """Compute a function for one sample per device at a time, which bounds the memory.

    Yields:
        The result of each sample.
    """
    at_a_time = mesh.size if mesh is not None else 1
    for first in range(0, len(arrays[0]), at_a_time):
        some = [array[first : first + at_a_time] for array in arrays]
        results = together(function, mesh, *some)
        for row in range(len(some[0])):
            yield jax.tree.map(lambda leaf, row=row: leaf[row], results)


def leads() -> bool:
    """Tell whether this process writes the files; of several, one does."""
    return jax.process_index() == 0


def by_leader(action: Callable[[], _T]) -> _T | None:
    """Let the process that leads do something while the others wait.

    An error there is an error in all of them: nobody waits in vain.

    Returns:
        What the action returned; None in the other processes.
    """
    if jax.process_count() > 1:
        # The others may still be reading what the last action wrote, and would find what this one writes.
        multihost_utils.sync_global_devices("before the leader acts")
    result = error = None
    if leads():
        try:
            result = action()
        except Exception as raised:
            error = raised
    if jax.process_count() > 1 and multihost_utils.broadcast_one_to_all(np.int32(error is not None)) and not leads():
        raise OSError("the process that writes the files failed; its own message says why")
    if error is not None:
        try:
            raise error
        finally:
            del error  # it knows this frame: what its traceback holds, such as locks, would outlive it
    return result
