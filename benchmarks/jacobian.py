"""The Jacobian of all features of one sample with respect to p: `jifv.linearize`, and two ways of PyTorch.

    python benchmarks/jacobian.py --out benchmarks/results

Pixels (SRNet: geometry), max-mean(3, 2). PyTorch's ways are `torch.func`, vmap over vjp, and a loop of one backward
pass per feature, as in the paper. Where several rows can run at once, each number and layout has one turn, and the best
is compared.
"""

import math
import tempfile
from functools import partial

import numpy as np
from harness import networks, pairs

TOLERANCE = (1e-5, 0.03)
"""Of r and of the rows of J, where a ReLU at a kink, where rounding decides, makes up to 1 %."""


def ours(name, path, size, rows):
    """So many rows at once; None is the default."""
    import jax
    import jax.numpy as jnp

    import jifv

    f = networks.ours(name, path, size)
    p = jnp.asarray(networks.inputs(name, 1, size)[0][0])
    linearize = jax.jit(partial(jifv.linearize, f, row_batch_size=rows), compiler_options=jifv.compiler_options())
    return lambda: jax.block_until_ready(linearize(p))


def ours_in_parallel(name, path, size, devices):
    """One sample on each device, as a batch is inverted; the result is that of the first."""
    import jax
    import jax.numpy as jnp

    import jifv
    from jifv._core.devices import over_samples, scatter
    from jifv.jacobian import linearize_batch

    mesh = networks.cores_as_devices(devices)
    f = networks.ours(name, path, size)
    p = np.repeat(networks.inputs(name, 1, size)[0], devices, axis=0)
    function = over_samples(partial(linearize_batch, f), mesh)
    linearize = jax.jit(function, compiler_options=jifv.compiler_options(mesh))
    p = scatter(jnp.asarray(p), mesh)
    return lambda: jax.block_until_ready(linearize(p))


def vmap_over_vjp(name, path, size, count, channels_last=False):
    import torch

    f, parameters = networks.theirs(name, path, channels_last=channels_last)
    p = parameters(networks.inputs(name, 1, size)[0])
    cotangents = torch.eye(networks.TAPS[name].features, device=p.device)

    def step():
        r, pullback = torch.func.vjp(lambda p: f(p)[0], p)
        (rows,) = torch.func.vmap(pullback, chunk_size=count)(cotangents)
        return _finished(r, rows[:, 0])

    return step


def loop(name, path, size, count, channels_last=False):
    import torch

    f, parameters = networks.theirs(name, path, channels_last=channels_last)
    p = parameters(networks.inputs(name, 1, size)[0]).requires_grad_()

    def step():
        r = f(p)[0]
        rows = p.new_empty((count, *p.shape[1:]))
        for row in range(count):
            (rows[row],) = torch.autograd.grad(r[row], p, retain_graph=True)
        return _finished(r.detach(), rows)

    return step


def _finished(r, rows):
    """r and J, its axes in our order."""
    import torch

    if rows.is_cuda:
        torch.cuda.synchronize()
    return r, rows.permute(0, 2, 3, 1)


def some_rows(result, count=32):
    """r and the first rows of J, for comparison."""
    r, rows = result
    return r, rows[:count].reshape(count, -1)


def first_sample(result):
    r, rows = result
    return some_rows((r[0], rows[0]))


def side(name, build, *arguments, **options):
    return pairs.Side(name, build, arguments, **{"values": some_rows} | options)


def fastest(report, case, candidates):
    """The side that is fastest when each has one turn alone, or the first one if none can run."""
    seconds = []
    for candidate in candidates:
        (measured,) = report.compare(f"{case}, one turn", [candidate], rounds=1, warmup=0)
        seconds.append(math.inf if measured.unavailable else measured.median)
    return candidates[seconds.index(min(seconds))]


def layouts(name, build, arguments, counts):
    """A side for each number of rows at once, in either layout."""
    return [
        side(f"{name}, {count} rows at once, {layout}", build, *arguments, count, layout == "channels last")
        for count in counts
        for layout in ("contiguous", "channels last")
    ]


def in_parallel(arguments, devices):
    """A sample on each core, where there are several."""
    if devices == 1:
        return []
    name, note = f"ours, {devices} samples on {devices} devices", "time of one sample"
    return [side(name, ours_in_parallel, *arguments, devices, values=first_sample, scale=1 / devices, note=note)]


def main():
    parser = pairs.parser(__doc__, rounds=3, named=True)
    parser.add_argument("--networks", nargs="+", choices=networks.TAPS, default=list(networks.TAPS))
    parser.add_argument(
        "--rows", nargs="+", type=int, default=[8, 16, 32, 64, 128], help="rows at once, to choose from"
    )
    parser.add_argument(
        "--loop-rows", type=int, default=64, help="rows that the loop computes of GoogLeNet's, 32 or more"
    )
    parser.add_argument("--size", type=int, help="side of the input, if not the network's own")
    options = parser.parse_args()
    report = pairs.Report("jacobian", options)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            path, size, features = networks.weights(name, folder), options.size, networks.TAPS[name].features
            arguments = name, path, size or networks.TAPS[name].size
            case = f"{path.stem} {arguments[2]}×{arguments[2]}, {features} features"
            count = options.loop_rows if name.startswith("googlenet") else features
            scale = features / count
            note = "" if count == features else f"{count} rows, time scaled to {features}"
            find = partial(fastest, report, case)
            report.compare(
                case,
                [
                    side("ours, default", ours, *arguments, None),
                    *in_parallel(arguments, options.threads),
                    find([side(f"ours, {rows} rows at once", ours, *arguments, rows) for rows in options.rows]),
                    find(layouts("torch.func", vmap_over_vjp, arguments, options.rows)),
                    *(
                        side(f"PyTorch, loop, {layout}", loop, *arguments, count, last, scale=scale, note=note)
                        for layout, last in (("contiguous", False), ("channels last", True))
                    ),
                ],
                tolerance=TOLERANCE,
            )


if __name__ == "__main__":
    main()
