"""Inversion on networks of PyTorch, as they are and with rounded kinks: a DenseNet-BC, and a ViT on its patches.

    python benchmarks/torch_inversion.py --out benchmarks/results

The DenseNet is the checkpoint in ../shared (or `--weights`), its layer the third block. The ViT is Hugging Face's with
random weights: 4 layers of 48 features, patches of 4×4 in images of 32×32; its layer is the third, and a feature is the
mean over the patches without the class token. Pixels with standard deviation 0.5, Adam with annealing, k = 2; medians
over the samples, angles in degrees. A ViT has no kinks, so there is nothing to round.
"""

import argparse
import os
import sys
from pathlib import Path

from harness import results
from harness.tables import Table

COLUMNS = ("network", "layer", "weights", "features", "rounded", "kinks", "samples", "steps", "prediction", "response")
COLUMNS = (*COLUMNS, "gap", "stationarity")


def densenet(path):
    """The module of the tests with the weights of a public checkpoint."""
    import torch

    tests = str(results.ROOT / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    from support.torch_densenet import TorchDenseNet

    module = TorchDenseNet("average")
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
    return module.eval()


def vit():
    """Random weights, with a larger spread than at the start of a training, so that layers do something."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 96}
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=4, initializer_range=0.15)
    return transformers.ViTModel(config).eval()


def inverted(network, aggregate, features, rounded, options):
    """Kinks that were rounded, and medians over the samples."""
    import jax
    import numpy as np

    import jifv

    phi = jifv.pixels(network.input_shape, std=0.5)
    pooled = jifv.first(features, aggregate)
    f, count = jifv.compose(phi.apply, network, pooled), 0
    if rounded:
        smoothed = jifv.smooth(lambda x: pooled(network(x)), network.input_shape)
        f, count = jifv.compose(phi.apply, smoothed, jifv.identity), len(smoothed.sites)
    targets = jifv.sparse_objectives(jax.random.key(1), options.samples, features=features)
    start = jax.vmap(phi.init)(jax.random.split(jax.random.key(2), options.samples))
    settings = jifv.Settings(adam_steps=options.steps, lbfgs_steps=0, learning_rate=0.05, anneal=0.7)
    realizations = jifv.visualize(f, start, targets, settings=settings)
    inversion = jifv.invert_batch(f, realizations)
    responses = jax.vmap(f)(realizations.parameters)
    angles = jifv.angle(inversion.objective, targets), jifv.angle(responses, targets)
    medians = [float(np.median(each)) for each in (*angles, inversion.gap, inversion.stationarity)]
    return count, medians


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("JIFV_SHARED") or results.ROOT.parent / "shared")
    parser.add_argument("--weights", type=Path, default=shared / "weights" / "densenet_bc_100_12_cifar10.pth.tar")
    parser.add_argument("--networks", nargs="+", choices=("densenet", "vit"), default=["densenet", "vit"])
    parser.add_argument("--features", type=int, default=32, help="the first so many of the layer")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", help="folder for torch_inversion.json")
    options = parser.parse_args()
    import jifv

    table = Table("torch_inversion", COLUMNS, threads=len(results.cores()), out=options.out)
    for name in options.networks:
        if name == "densenet":
            layer, said, aggregate = "block3", "CIFAR-10", jifv.max_mean()
            network = jifv.from_torch(densenet(options.weights), (32, 32, 3), layer=layer)
        else:
            layer, said, aggregate = "layers.2", "random", jifv.mean
            network = jifv.from_torch(vit(), (32, 32, 3), layer=layer, mean=0.5, std=0.5)
        for rounded in (False, True) if name == "densenet" else (False,):
            kinks, medians = inverted(network, aggregate, options.features, rounded, options)
            cells = (name, layer, said, options.features, rounded, kinks, options.samples, options.steps)
            table.row(*cells, *medians)


if __name__ == "__main__":
    main()
