"""A step of visualization as people make it, ours beside Lucent's and Horama's: transformations, priors, and Adam.

    python -m pip install torch torchvision
    python -m pip install --no-deps torch-lucent==0.1.8 kornia==0.4.1 horama==0.3.0
    python -m pip install einops tqdm ipython decorator
    python benchmarks/peers.py --out benchmarks/results
    python benchmarks/peers.py --peers horama --name peers-horama --out benchmarks/results    # one alone

All have GoogLeNet (BVLC) with the same weights up to the same layer, and maximize a channel's mean in float32, in the
Fourier basis with decorrelated colours. The difference that is told is that of the layer's responses to one image. What
a step is made of is each library's own; the few lines that put it together are those of its documentation.

- Lucent's transformations: shifts, a scale of 0.9 to 1.1, a rotation of up to 10°, shifts again. Lucent pads the image
  by 12 pixels before, and computes so much more; of two sides the padding is left out. Lucent runs a module to its end;
  one side does that, and the others have one that ends at the layer. With the prior, the mean squared difference of
  neighbours is subtracted in both.
- Horama's: six crops of half the image's side, each enlarged, with noise, in every step. It has no priors.

Ours is the step of `jifv.visualize`; with more than one sample also on each core as a device. "Memory kept" is the
allocator as the command `jifv visualize` sets it.
"""

import tempfile

from fv_step import MEMORY_KEPT
from harness import networks, pairs

NETWORK, CHANNEL = "googlenet-bvlc", 100
WEIGHT = 10.0
CROPS, SHARE, NOISE = 6, 0.5, 0.05
TOLERANCE = 1e-4


def probe(size):
    """The image whose responses are compared."""
    import numpy as np

    return np.random.default_rng(0).random((size, size, 3)).astype(np.float32)


def ours(path, size, batch, kind, prior, devices=1):
    import jax
    import numpy as np

    import jifv
    from jifv import priors, transform, visualization
    from jifv._core.devices import scatter
    from jifv.models import load

    mesh = networks.cores_as_devices(devices)
    network = load(NETWORK, layer=networks.TAPS[NETWORK].layer, weights=path, input_size=size)
    phi = jifv.fourier((size, size, 3), decay=1.0, decorrelate_colors=True)
    f = jifv.compose(phi.apply, network.apply, jifv.mean)
    lucents = transform.chain(transform.jitter(8), transform.scale(0.9, 1.1), transform.rotate(10), transform.jitter(4))
    horamas = transform.chain(transform.crop(SHARE), transform.noise(NOISE))
    tau, draws = (lucents, 1) if kind == "lucent" else (horamas, CROPS)
    state = visualization.start(
        f,
        jax.vmap(phi.init)(jax.random.split(jax.random.key(0), batch)),
        jifv.canonical_objectives(np.full(batch, CHANNEL), network.output_shape[-1]),
        significance=jifv.Significance(0),
        priors=[priors.smoothness(WEIGHT)] if prior else [],
        transformations=transform.anew(tau, jax.random.key(1), draws=draws),
        settings=jifv.Settings(adam_steps=2**30, learning_rate=0.05, anneal=0),
    )
    state = scatter(state, mesh)
    check = np.asarray(jax.jit(lambda x: jifv.mean(network.apply(x)))(probe(size)))

    def step():
        nonlocal state
        state = visualization.advance(f, state, 1)
        jax.block_until_ready(state.parameters)
        return check

    return step


def of_torch(path, size, *, channels_last=False, whole=False):
    """The module, ending at the layer unless it is wanted whole, the device, and the responses that are compared."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.allow_tf32 = False  # our default is float32
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = networks.torch_network(NETWORK, path).eval().requires_grad_(False).to(device, memory_format=layout)
    activations = networks._ACTIVATIONS[NETWORK](network)
    module = network
    if not whole:
        module = torch.nn.Module()
        module.network = network
        module.forward = activations
    image = torch.from_numpy(probe(size)).permute(2, 0, 1)[None].to(device)
    with torch.no_grad():
        check = activations(image).mean((2, 3))[0].cpu()
    return module, activations, device, check


def waited(device):
    """A function that waits for the device."""
    import torch

    return torch.cuda.synchronize if device == "cuda" else lambda: None


def lucent(path, size, batch, prior, padded=True, channels_last=False, whole=False):
    import torch
    from lucent.optvis import objectives, param, render, transform

    module, _, device, check = of_torch(path, size, channels_last=channels_last, whole=whole)
    parameters, image = param.image(size, batch=batch)
    transformed = transform.compose(transform.standard_transforms[0 if padded else 1 :])
    layer = networks.TAPS[NETWORK].layer
    goal = objectives.channel(layer if whole else f"network_{layer}", CHANNEL)
    if prior:
        goal = goal + WEIGHT * objectives.Objective(lambda layers: _smoothness(layers("input")))
    layers = render.hook_model(module, image)
    optimizer, wait = torch.optim.Adam(parameters, lr=0.05), waited(device)

    def step():
        optimizer.zero_grad()
        module(transformed(image()))
        goal(layers).backward()
        optimizer.step()
        wait()
        return check

    return step


def _smoothness(x):
    down, right = x[:, :, 1:] - x[:, :, :-1], x[..., 1:] - x[..., :-1]
    return (down**2).mean() + (right**2).mean()


def horama(path, size, channels_last=False):
    import torch
    from horama import common, fourier_fv

    _, activations, device, check = of_torch(path, size, channels_last=channels_last)
    spectrum = fourier_fv.init_lucid_buffer(size, size).to(device).requires_grad_()
    scale = fourier_fv.get_fft_scale(size, size, 1.0).to(device)
    optimizer, wait = torch.optim.NAdam([spectrum], lr=1.0), waited(device)

    def goal(images):
        return activations(images)[:, CHANNEL].mean()

    def step():
        optimizer.zero_grad()
        image = fourier_fv.fourier_preconditionner(spectrum, scale, (0.0, 1.0), device)
        loss, _ = common.optimization_step(goal, image, (SHARE, SHARE), NOISE, CROPS, size)
        loss.backward()
        optimizer.step()
        wait()
        return check

    return step


def our_sides(path, size, batch, kind, prior, threads):
    """Ours, as it is and as the command runs it."""
    case, devices = (path, size, batch, kind, prior), min(threads, batch)
    sides = [pairs.Side("ours", ours, case), pairs.Side("ours, memory kept", ours, case, environment=MEMORY_KEPT)]
    if devices > 1:
        sides.append(
            pairs.Side(f"ours, memory kept, {devices} devices", ours, (*case, devices), environment=MEMORY_KEPT)
        )
    return sides


def lucent_sides(path, size, batch, prior):
    """Lucent as it is, and with less to compute."""
    case = (path, size, batch, prior)
    return [
        pairs.Side("Lucent, no padding", lucent, (*case, False)),
        pairs.Side("Lucent, no padding, channels last", lucent, (*case, False, True)),
        pairs.Side("Lucent", lucent, case),
        pairs.Side("Lucent, whole network", lucent, (*case, True, False, True)),
    ]


def main():
    parser = pairs.parser(__doc__, rounds=15, named=True)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4], help="samples; Horama has one")
    parser.add_argument("--size", type=int, default=networks.TAPS[NETWORK].size, help="side of the image")
    parser.add_argument("--peers", nargs="+", choices=("lucent", "horama"), default=["lucent", "horama"])
    parser.add_argument("--quick", action="store_true", help="small images, few cases, one round: does it run?")
    options = parser.parse_args()
    if options.quick:
        options.size, options.rounds, options.batches = 64, 1, options.batches[:1]
    report = pairs.Report("peers", options)
    with tempfile.TemporaryDirectory() as folder:
        path, size = networks.weights(NETWORK, folder), options.size
        for batch in options.batches if "lucent" in options.peers else ():
            for prior in (True,) if options.quick else (False, True):
                case = f"Lucent's transformations{' and a prior' if prior else ''}, batch {batch}"
                mine = our_sides(path, size, batch, "lucent", prior, options.threads)
                report.compare(case, [*mine, *lucent_sides(path, size, batch, prior)], tolerance=TOLERANCE)
        if "horama" not in options.peers:
            return
        mine = our_sides(path, size, 1, "horama", False, options.threads)
        layouts = {"Horama": False, "Horama, channels last": True}
        theirs = [pairs.Side(name, horama, (path, size, last)) for name, last in layouts.items()]
        report.compare("Horama's crops, batch 1", [*mine, *theirs], tolerance=TOLERANCE)


if __name__ == "__main__":
    main()
