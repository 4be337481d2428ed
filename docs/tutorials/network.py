# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A network of your own
#
# A network is any function from one image (H, W, C) to activations (h, w, n) or (n,). There is nothing to derive
# from. Two examples, one in Flax and one in PyTorch; [networks.md](../networks.md) has Equinox, Haiku, Keras and
# transformers.

# %%
import jax
import numpy as np
from flax import nnx

import jifv


def try_it(network, shape, features):
    """Make pictures for random objectives, and invert them."""
    aggregate = jifv.max_mean()
    rounded = jifv.smooth(lambda x: aggregate(network(x)), shape)  # measured on random images of this shape
    phi = jifv.fourier(shape, decay=1.0, std=0.3)
    f = jifv.compose(phi.apply, rounded, jifv.identity)
    targets = jifv.sparse_objectives(jax.random.key(1), 3, features)
    start = jax.vmap(phi.init)(jax.random.split(jax.random.key(2), 3))
    settings = jifv.Settings(adam_steps=150)
    found = jifv.visualize(f, start, targets, settings=settings)
    inversion = jifv.invert_batch(f, found)
    print(rounded.table())
    print("prediction, degrees off:", np.round(jifv.angle(inversion.objective, targets), 2))
    print("response, degrees off:  ", np.round(jifv.angle(found.response, targets), 2))
    print("gap:", np.round(inversion.gap, 2))


# %% [markdown]
# ## Flax
#
# Build or load the net, switch it to inference, remove the batch axis. Weights become constants of the compiled
# program.

# %%
net = nnx.Sequential(
    nnx.Conv(3, 16, (5, 5), padding="VALID", rngs=nnx.Rngs(0)),
    nnx.relu,
    lambda x: nnx.max_pool(x, (2, 2), (2, 2)),
    nnx.Conv(16, 12, (3, 3), padding="VALID", rngs=nnx.Rngs(1)),
    nnx.relu,
)
net.eval()
try_it(lambda x: net(x[None])[0], (24, 24, 3), features=12)

# %% [markdown]
# The table lists every kink that was rounded, how wide, and the line of code that it comes from; the ReLUs, the pool
# and the aggregation's pool are there.
#
# ## PyTorch
#
# `from_torch` exports a module up to a layer and runs it in JAX, with channels last. `mean` and `std` preprocess as
# the module wants.

# %%
try:
    import torch
except ImportError:
    torch = None
    print("PyTorch is not installed: this part is left out")

if torch is not None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Sequential(torch.nn.Conv2d(3, 16, 5), torch.nn.BatchNorm2d(16), torch.nn.ReLU()),
        torch.nn.MaxPool2d(2),
        torch.nn.Sequential(torch.nn.Conv2d(16, 12, 3), torch.nn.LeakyReLU(0.1)),
        torch.nn.Flatten(),
        torch.nn.Linear(12 * 8 * 8, 5),
    ).eval()
    network = jifv.from_torch(module, (24, 24, 3), layer="2", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    for name, shape in network.layers().items():
        print(f"{name:10} {shape}")
    try_it(network, (24, 24, 3), features=12)

# %% [markdown]
# Objectives that are drawn at random have no negative entries. After a leaky ReLU a response may have some, which
# does no harm: inversion does not look at signs.
#
# The converted network is plain data. It can be saved and loaded where PyTorch is not installed:

# %%
if torch is not None:
    import tempfile
    from pathlib import Path

    from jifv.network import load

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.safetensors"
        network.save(path)
        again = load(path, layer="0")
        print(again(np.full((24, 24, 3), 0.5, np.float32)).shape)
