"""MaCo beside Horama's: the objective after the same steps, from the same start, with the same spectrum.

    python -m pip install --no-deps horama tqdm einops
    python benchmarks/maco.py --out benchmarks/results

A small network of PyTorch with random weights, which `jifv.from_torch` brings over; the mean of a channel is maximized,
without transformations, in float32. Horama's parametrization is its own function; the steps are those of PyTorch's
Adam, at the same rate as ours, and of NAdam, which Horama's command takes. Ours runs as Horama does, with standardized
phases, and with free ones. The ratio is our objective over that of Horama with Adam; where both are negative, less than
1 is higher.
"""

import argparse
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
from harness import results

import jifv
from jifv import maco

SIZE, CHANNELS = 32, 16


def horama():
    """Horama's φ. Its modules import torchvision, for crops and for a download, of which nothing is used here."""
    for name in ("torchvision", "torchvision.ops", "torchvision.datasets", "torchvision.datasets.utils"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torchvision.ops"].roi_align = None
    sys.modules["torchvision.datasets.utils"].download_url = None
    from horama.maco_fv import maco_preconditioner

    return maco_preconditioner


def network(seed):
    import torch

    torch.manual_seed(seed)
    layers = [torch.nn.Conv2d(3, 16, 5, 2), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 3, 2), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Conv2d(32, CHANNELS, 3)).eval()


def theirs(module, phi, magnitude, phases, channel, optimizer, settings):
    """Horama's loop, without its crops and its noise."""
    import torch

    p = torch.from_numpy(np.moveaxis(phases, -1, 0).copy()).requires_grad_()
    half = torch.from_numpy(np.moveaxis(magnitude[:, : SIZE // 2 + 1], -1, 0).astype(np.float32))
    steps = getattr(torch.optim, optimizer)([p], lr=settings.learning_rate)

    def value():
        return module(phi(half, p, (0.0, 1.0), "cpu")[None])[0, channel].mean()

    for _ in range(settings.adam_steps):
        steps.zero_grad()
        (-value()).backward()
        steps.step()
    return float(value().detach())


def ours(module, magnitude, phases, channels, settings, *, standardize_phases):
    phi = maco.maco((SIZE, SIZE, 3), magnitude, standardize_phases=standardize_phases)
    f = jifv.compose(phi.apply, jifv.from_torch(module, (SIZE, SIZE, 3)), jifv.mean)
    targets = jifv.canonical_objectives(np.arange(channels), CHANNELS)
    start = jnp.repeat(jnp.asarray(phases)[None], channels, axis=0)
    made = jifv.visualize(f, start, targets, significance=jifv.Significance(0), settings=settings)
    return np.asarray(made.value)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1.0, help="Horama's by default")
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="folder for maco.json")
    options = parser.parse_args()
    key = jax.random.key(options.seed)
    phases = np.asarray(jax.random.normal(key, (SIZE, SIZE // 2 + 1, 3)))  # Horama's start
    magnitude = maco.spectrum_of(np.asarray(jax.random.uniform(key, (64, SIZE, SIZE, 3))))
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.fftfreq(SIZE))
    magnitude = magnitude / np.maximum(frequency, 1 / SIZE)[..., None]  # of noise, made natural
    settings = jifv.Settings(adam_steps=options.steps, learning_rate=options.learning_rate, anneal=0)
    module, phi = network(options.seed), horama()
    alike, free = (
        ours(module, magnitude, phases, options.channels, settings, standardize_phases=yes) for yes in (True, False)
    )
    rows = []
    print("| channel | Horama, Adam | Horama, NAdam | ours, standardized phases | ratio | ours, free phases | ratio |")
    print("| --: | --: | --: | --: | --: | --: | --: |")
    for channel in range(options.channels):
        adam, nadam = (theirs(module, phi, magnitude, phases, channel, name, settings) for name in ("Adam", "NAdam"))
        row = {"channel": channel, "adam": adam, "nadam": nadam, "alike": alike[channel], "free": free[channel]}
        rows.append({name: float(value) for name, value in row.items()} | {"channel": channel})
        cells = (adam, nadam, alike[channel], alike[channel] / adam, free[channel], free[channel] / adam)
        print(f"| {channel} | " + " | ".join(f"{cell:.4f}" for cell in cells) + " |", flush=True)
    if options.out:
        results.write(results.measured_here("maco")._replace(rows=rows), options.out)


if __name__ == "__main__":
    main()
