"""Memory and compile time of a step of FV, the Jacobian and the inversion, and how they grow with n, m and batch.

    python benchmarks/growth.py --out benchmarks/results

Each row is a process of its own. Memory is the most that was resident above what libraries, weights and arguments
need, results and compilation included. The time to compile is by how much the first call is slower than the others.
"""

import tempfile
from functools import partial
from operator import itemgetter

import fv_step
from harness import networks, pairs
from harness.tables import Table


def jacobian(name, path, size, features, rows, invert):
    """Of the first features, so many rows at once; `invert` for what follows from it as well."""
    import jax
    import jax.numpy as jnp

    import jifv

    f = networks.ours(name, path, size)
    p = jnp.asarray(networks.inputs(name, 1, size)[0][0])
    call = partial(jifv.invert_at, significance=jifv.Significance()) if invert else jifv.linearize
    function = partial(call, lambda p: f(p)[:features], row_batch_size=rows)
    step = jax.jit(function, compiler_options=jifv.compiler_options())
    return lambda: jax.block_until_ready(step(p))


def inversion(batch, features, columns):
    import jax
    import jax.numpy as jnp

    import jifv

    @jax.jit
    def arguments():
        # Not random numbers, whose intermediate arrays would leave room for those of the inversion.
        waves = jnp.sin(jnp.outer(jnp.arange(1, features + 1), jnp.linspace(0, jnp.pi, columns)))
        waves *= jnp.geomspace(1, 1e-3, features)[:, None]  # equally long, they would be the hard case of an SVD
        return jnp.ones((batch, features)), jnp.broadcast_to(waves, (batch, features, columns))

    response, jacobian = jax.block_until_ready(arguments())
    return lambda: jax.block_until_ready(jifv.invert(response, jacobian, significance=jifv.Significance()))


def fv_cases(path):
    sizes = [(name, networks.TAPS[name].size, batch) for name in ("densenet", "srnet") for batch in (1, 8, 32)]
    sizes += [("googlenet-bvlc", *size) for size in ((56, 1), (112, 1), (224, 1), (224, 8))]
    for name, size, batch in sizes:
        entries = 3 * size**2
        yield (
            (f"FV step, {name}", networks.TAPS[name].features, entries, batch),
            fv_step.ours,
            (name, path(name), batch, size),
        )


def jacobian_cases(path):
    sizes = [("densenet", 32, n) for n in (32, 128, 342)] + [("srnet", 32, n) for n in (16, 64)]
    sizes += [("googlenet-bvlc", size, 64) for size in (56, 112, 224)]
    for name, size, features in sizes:
        yield (f"Jacobian, {name}", features, 3 * size**2, 1), jacobian, (name, path(name), size, features, None, False)


def inversion_cases(path):
    sizes = [(1, n, 3072) for n in (10, 64, 342, 1024)] + [(b, 342, 3072) for b in (8, 32)]
    sizes += [(1, 64, m) for m in (37632, 150528)] + [(1, 512, m) for m in (37632, 150528)]
    for batch, features, entries in sizes:
        yield ("inversion", features, entries, batch), inversion, (batch, features, entries)


def whole_cases(path):
    """All features of the three networks, with several numbers of rows at once: what one sample takes."""
    for name, tap in networks.TAPS.items():
        for rows in (None, 64, 16):
            case = f"Jacobian and inversion, {name}, {f'{rows} rows at once' if rows else 'default'}"
            arguments = (name, path(name), tap.size, tap.features, rows, True)
            yield (case, tap.features, 3 * tap.size**2, 1), jacobian, arguments


STAGES = {"fv": fv_cases, "jacobian": jacobian_cases, "inversion": inversion_cases, "whole": whole_cases}


def main():
    parser = pairs.parser(__doc__, rounds=3, named=True)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    options = parser.parse_args()
    columns = ("stage", "n", "m", "batch", "ms", "to compile, s", "memory, MiB")
    table = Table(options.name or "growth", columns, threads=options.threads, out=options.out)
    with tempfile.TemporaryDirectory() as folder:
        for stage in options.stages:
            for case, build, arguments in STAGES[stage](lambda name: networks.weights(name, folder)):
                side = pairs.Side(stage, build, arguments, values=itemgetter(0))  # there is nothing to compare with
                (measured,) = pairs.compare([side], rounds=options.rounds, warmup=0, threads=options.threads)
                seconds = measured.median
                memory = measured.peak if measured.device_peak is None else measured.device_peak
                table.row(*case, 1000 * seconds, measured.first - seconds, round(memory / 2**20))


if __name__ == "__main__":
    main()
