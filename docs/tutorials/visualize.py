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
# # Visualize a channel
#
# Feature visualization climbs from noise to a picture that a network answers with a given direction of its features.
# Here the network is a small DenseNet, trained on CIFAR-10, that comes with jifv.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jifv
from jifv import models

network = models.load("densenet", layer="dense1.5")
print(network.input_shape, "→", network.output_shape)
print(", ".join(network.layers))

# %% [markdown]
# A *feature* is a channel of the layer. Its value is pooled over the positions: `max_mean` takes the maximum over
# windows of 3×3, then the mean. This layer has twelve channels.
#
# The parameters p are a spectrum with decorrelated colours, as in Lucid. `phi.apply` makes an image of them whose
# values are in (0, 1) whatever p is. Everything takes one sample; `jax.vmap` makes a batch.

# %%
phi = jifv.fourier(network.input_shape, decay=1.0, decorrelate_colors=True)
f = jifv.compose(phi.apply, network.apply, jifv.max_mean())

channels = [1, 4, 7, 10]
targets = jnp.eye(12)[jnp.array(channels)]  # one unit vector per channel
start = jax.vmap(phi.init)(jax.random.split(jax.random.key(0), len(channels)))

# %% [markdown]
# `visualize` maximizes d(r, v) = ⟨r, v⟩ · cos(r, v)²: answer strongly along v, and with little else. It takes Adam,
# here 100 steps, with a rate that falls to 0 over the last 70 % of them.

# %%
settings = jifv.Settings(adam_steps=100)
found = jifv.visualize(f, start, targets, settings=settings)
images = np.asarray(jax.vmap(phi.apply)(found.parameters))

figure, axes = plt.subplots(1, len(channels), figsize=(8, 2.4))
for axis, image, channel in zip(axes, images, channels, strict=True):
    axis.imshow(image, interpolation="nearest")
    axis.set_title(f"channel {channel}")
    axis.axis("off")
plt.show()

# %% [markdown]
# ## What else do they excite?
#
# Each picture was made for one channel. The layer answers with others, too: `cosine` is how much of the response lies
# along the target, and the rest is what cannot be avoided. A picture does not tell its objective by what it excites.

# %%
for channel, response, cosine in zip(channels, np.asarray(found.response), np.asarray(found.cosine), strict=True):
    strongest = np.argsort(-response)[:4]
    print(f"made for {channel}: cosine {cosine:.2f}, strongest features {strongest.tolist()}")

figure, axes = plt.subplots(len(channels), 1, figsize=(8, 4), sharex=True, layout="constrained")
for axis, response, channel in zip(axes, np.asarray(found.response), channels, strict=True):
    axis.bar(range(12), response / np.linalg.norm(response), color="#D55E00", label="response")
    axis.plot(channel, 1, "v", color="#009E73", label="target")
    axis.set_yticks([])
axes[0].legend(frameon=False, ncols=2)
axes[-1].set_xlabel("feature")
plt.show()

# %% [markdown]
# ## Directions
#
# An objective is any direction, not only a channel. `sparse_objectives` draws some at random, from one channel to
# nearly all of them.

# %%
targets = jifv.sparse_objectives(jax.random.key(1), 4, 12)
found = jifv.visualize(f, start, targets, settings=settings)
figure, axes = plt.subplots(1, 4, figsize=(8, 2.4))
for axis, image, target in zip(axes, jax.vmap(phi.apply)(found.parameters), targets, strict=True):
    axis.imshow(np.asarray(image), interpolation="nearest")
    axis.set_title(f"{int((target > 0.1).sum())} features above 0.1", fontsize=9)
    axis.axis("off")
plt.show()

# %% [markdown]
# Which direction was each of them made for? [The next tutorial](invert.py) finds out from the pictures.
