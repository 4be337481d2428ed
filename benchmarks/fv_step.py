"""A step of feature visualization: value and gradient of the significance with respect to p, ours and PyTorch's.

    python benchmarks/fv_step.py --out benchmarks/results

Pixels (SRNet: geometry), max-mean(3, 2), k = 2, floor 0.1. Ours is the function that `jifv.visualize` calls in each
step. It runs on one device, as without `mesh`, and where a CPU has several cores also with each of them as a device, as
the command does. All sides have the same weights, realizations and objectives, in float32.

`--alternatives` leaves PyTorch out and compares with what jifv decided against: XLA's choice of who multiplies
matrices, other numbers of samples at a time, and a compiled loop; and with an allocator that gives no memory back,
which the command chooses.
"""

import tempfile

from harness import networks, pairs

TOLERANCE = (1e-5, 1e-5, 0.03)
"""Of r, d and its gradient. In a gradient a ReLU at a kink, where rounding decides, makes up to 1 %."""


def ours(name, path, batch, size, devices=1):
    import jax
    import jax.numpy as jnp

    import jifv
    from jifv._core.devices import scatter
    from jifv._visualize.gradient import evaluate

    mesh = networks.cores_as_devices(devices)
    f, d = networks.ours(name, path, size), jifv.Significance()
    p, v = scatter(tuple(map(jnp.asarray, networks.inputs(name, batch, size))), mesh)
    return lambda: jax.block_until_ready(evaluate(f, d, "highest", p, v))


ALTERNATIVES = ("XLA's choice of products", "1 at a time", "2 at a time", "8 at a time", "all at once", "memory kept")
MEMORY_KEPT = (("MALLOC_MMAP_MAX_", "0"), ("MALLOC_TRIM_THRESHOLD_", str(2**31 - 1)), ("MALLOC_TOP_PAD_", str(2**28)))
"""What the command tells the C library, as docs/scale.md has it for one's own code."""


def alternative(change, *case):
    """Ours with one decision changed, in this process only."""
    from jifv._visualize import gradient

    if change.startswith("XLA"):
        gradient.compiler_options = lambda mesh=None: None
    elif change.endswith(("at a time", "at once")):
        most = None if change.startswith("all") else int(change.split()[0])
        gradient.samples_at_once = lambda samples, entries: min(samples, most or samples)
    return ours(*case)


LOOP = 8
"""Steps of a compiled loop."""


def in_a_loop(name, path, batch, size):
    """Several steps in one `lax.scan`, whose loop variables are the weights; the result is the last one's."""
    import jax
    import jax.numpy as jnp

    import jifv
    from jifv._visualize import gradient

    gradient.compiler_options = lambda mesh=None: None  # those of the outer program hold for all of it
    f, d = networks.ours(name, path, size), jifv.Significance()
    p, v = map(jnp.asarray, networks.inputs(name, batch, size))

    def body(carry, _):
        p, *_ = carry
        r, value, slope = gradient.evaluate(f, d, "highest", p, v)
        return (p - 0 * slope, r, value, slope), None  # the same step again, which XLA cannot know

    def loop(p):
        first = (p, jnp.zeros_like(v), jnp.zeros(batch), p)
        return jax.lax.scan(body, first, None, LOOP)[0][1:]

    run = jax.jit(loop, compiler_options=jifv.compiler_options())
    return lambda: jax.block_until_ready(run(p))


def theirs(name, path, batch, size, channels_last, compiled=False):
    import torch

    f, parameters = networks.theirs(name, path, channels_last=channels_last)
    p, v = networks.inputs(name, batch, size)
    p = parameters(p).requires_grad_()
    v = torch.from_numpy(v).to(p.device)

    def loss(p, v):
        r = f(p)
        product = (r * v).sum(1)
        cosine = product / (r.norm(dim=1) * v.norm(dim=1))
        return r, -product * cosine.clamp(min=0.1) ** 2

    forward = torch.compile(loss) if compiled else loss

    def step():
        r, values = forward(p, v)
        (gradient,) = torch.autograd.grad(values.sum(), p)
        if gradient.is_cuda:
            torch.cuda.synchronize()
        return r.detach(), values.detach(), gradient.permute(0, 2, 3, 1)

    return _or_unavailable(step) if compiled else step


def _or_unavailable(step):
    """Inductor needs a C++ compiler, which it looks for at the first call."""
    from torch._dynamo.exc import TorchDynamoException

    def attempt():
        try:
            return step()
        except TorchDynamoException as error:
            raise pairs.Unavailable(str(error).strip().splitlines()[0]) from error

    return attempt


def sides(name, path, batch, size, threads, alternatives):
    """Ours and all that PyTorch offers, or all that we could do."""
    case = (name, path, batch, size)
    devices = min(threads, batch)
    runs = [("", case), *([(f", {devices} devices", (*case, devices))] if devices > 1 else [])]
    as_they_are = [pairs.Side(f"ours{said}", ours, run) for said, run in runs]
    if alternatives:
        changes = [change for change in ALTERNATIVES if batch > 1 or " at " not in change]
        changed = [
            pairs.Side(each + said, alternative, (each, *run), environment=MEMORY_KEPT if "kept" in each else ())
            for said, run in runs
            for each in changes
        ]
        loop = pairs.Side("in a loop", in_a_loop, case, scale=1 / LOOP, note=f"{LOOP} steps, time of one")
        return [*as_they_are, loop, *changed]
    return [
        *as_they_are,
        pairs.Side("PyTorch, contiguous", theirs, (*case, False)),
        pairs.Side("PyTorch, channels last", theirs, (*case, True)),
        pairs.Side("torch.compile, contiguous", theirs, (*case, False, True)),
        pairs.Side("torch.compile, channels last", theirs, (*case, True, True)),
    ]


def main():
    parser = pairs.parser(__doc__, named=True)
    parser.add_argument("--networks", nargs="+", choices=networks.TAPS, default=list(networks.TAPS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--size", type=int, help="side of the input, if not the network's own")
    parser.add_argument("--alternatives", action="store_true", help="ours beside what it could be, without PyTorch")
    options = parser.parse_args()
    report = pairs.Report("alternatives" if options.alternatives else "fv_step", options)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            path, size = networks.weights(name, folder), options.size or networks.TAPS[name].size
            for batch in options.batches:
                case = f"{path.stem} {size}×{size}, batch {batch}"
                compared = sides(name, path, batch, size, options.threads, options.alternatives)
                report.compare(case, compared, tolerance=TOLERANCE)


if __name__ == "__main__":
    main()
