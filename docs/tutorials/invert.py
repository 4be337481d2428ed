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
# # Invert it
#
# Given a picture, find the objective for which it is optimal. We make pictures for known objectives, forget the
# objectives, and compare.

# %%
import warnings

import jax
import matplotlib.pyplot as plt
import numpy as np

import jifv
from jifv import models

network = models.load("densenet", layer="dense1.5")
aggregate = jifv.max_mean()

# %% [markdown]
# Inversion needs a gradient that vanishes at the maximum. ReLU and max pooling have kinks, where it does not, so
# `smooth` rounds them off ([why](kinks.py)). It goes around the network *and* the aggregation, because that pools,
# too.

# %%
rounded = jifv.smooth(lambda x: aggregate(network.apply(x)), network.typical_inputs())
print(rounded)

phi = jifv.pixels(network.input_shape, std=0.5)
f = jifv.compose(phi.apply, rounded, jifv.identity)

targets = jifv.sparse_objectives(jax.random.key(0), 3, 12)
start = jax.vmap(phi.init)(jax.random.split(jax.random.key(1), 3))
settings = jifv.Settings(adam_steps=150)
realizations = jifv.visualize(f, start, targets, settings=settings)

# %% [markdown]
# One line inverts the batch. It knows the function f and the pictures, not the targets.

# %%
inversion = jifv.invert_batch(f, realizations)

response = realizations.response / np.linalg.norm(realizations.response, axis=1, keepdims=True)
print("prediction, degrees off:", np.round(jifv.angle(inversion.objective, targets), 2))
print("response, degrees off:  ", np.round(jifv.angle(response, targets), 2))

figure, axes = plt.subplots(3, 4, figsize=(8, 4), layout="constrained", width_ratios=(1, 2, 2, 2))
for row, image, *vectors in zip(
    axes, jax.vmap(phi.apply)(realizations.parameters), targets, response, inversion.objective, strict=True
):
    row[0].imshow(np.asarray(image), interpolation="nearest")
    row[0].axis("off")
    for axis, vector, colour in zip(row[1:], vectors, ("#009E73", "#D55E00", "#0072B2"), strict=True):
        axis.bar(range(12), np.asarray(vector), color=colour)
        axis.set(ylim=(-0.3, 1), xticks=[], yticks=[])
for axis, title in zip(axes[0], ("picture", "target", "response", "prediction"), strict=True):
    axis.set_title(title)
plt.show()

# %% [markdown]
# ## How sure is it?
#
# Two numbers come with every answer and need no target:
#
# - `gap`, 0 to 1: how much better the best direction is than the second best;
# - `stationarity`, 0 to 1: how far the picture is from a maximum even for that direction. Above 0.1 there is a warning.

# %%
print("gap:         ", np.round(inversion.gap, 2))
print("stationarity:", np.round(inversion.stationarity, 4))

# %% [markdown]
# ## A picture that is no visualization
#
# Noise was not optimized for anything, and a half-finished visualization not enough. Inversion returns a direction
# all the same, and says what it is worth. `significance` tells which objective function to invert; a `Visualization`
# carries its own, plain pictures do not.

# %%
short = jifv.Settings(adam_steps=10)
unfinished = jifv.visualize(f, start, targets, settings=short).parameters
for name, parameters in (("noise", start), ("10 steps", unfinished)):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = jifv.invert_batch(f, parameters, significance=jifv.Significance(power=2))
    print(name)
    print("  degrees off ", np.round(jifv.angle(found.objective, targets), 1))
    print("  stationarity", np.round(found.stationarity, 3))
    print("  warned:", [each.category.__name__ for each in caught])

# %% [markdown]
# ## Does the picture stay?
#
# The last check needs no target either: climb on from the picture for the predicted objective. If the prediction is
# right, the picture is at its maximum already and stays as it is.

# %%
again = jifv.reoptimize(f, realizations, inversion.objective, steps=20)
other = jifv.reoptimize(f, realizations, response, steps=20)
before = jax.vmap(phi.apply)(realizations.parameters)
print("SSIM, for the prediction:", np.round(jifv.ssim(jax.vmap(phi.apply)(again), before), 3))
print("SSIM, for the response:  ", np.round(jifv.ssim(jax.vmap(phi.apply)(other), before), 3))
