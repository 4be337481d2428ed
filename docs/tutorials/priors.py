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
# # Priors and transformations
#
# Nobody publishes a picture that maximizes the significance alone. Regularizers keep it smooth, and random shifts
# keep it from drawing noise. Both change where the gradient vanishes; inversion has to know of them.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np

import jifv
from jifv import models
from jifv.priors import l2, smoothness
from jifv.transform import chain, fixed, scale, shift

network = models.load("densenet", layer="dense1.5")
aggregate = jifv.max_mean()
rounded = jifv.smooth(lambda x: aggregate(network.apply(x)), network.typical_inputs())
phi = jifv.pixels(network.input_shape, std=0.5)
f = jifv.compose(phi.apply, rounded, jifv.identity)

targets = jifv.sparse_objectives(jax.random.key(0), 3, 12)
start = jax.vmap(phi.init)(jax.random.split(jax.random.key(1), 3))
settings = jifv.Settings(adam_steps=300)


def show(title, realizations):
    """Draw the pictures."""
    figure, axes = plt.subplots(1, 3, figsize=(6, 2.2), layout="constrained")
    figure.suptitle(title)
    for axis, p in zip(axes, realizations.parameters, strict=True):
        axis.imshow(np.asarray(phi.apply(p)), interpolation="nearest")
        axis.axis("off")
    plt.show()


# %% [markdown]
# ## Priors
#
# `visualize` subtracts them with their weights: a penalty on differences of neighbours, and one on the distance from
# grey.

# %%
plain = jifv.visualize(f, start, targets, settings=settings)
smooth = jifv.visualize(f, start, targets, settings=settings, priors=[smoothness(1), l2(10)])
show("without priors", plain)
show("with priors", smooth)

# %% [markdown]
# Inversion is told which priors there were. It finds the objective *and* their weights: the gradient is linear in
# both. Without them, a part of the gradient is unexplained, and the answer is bent.

# %%
knowing = jifv.invert_batch(f, smooth)
ignoring = jifv.invert_batch(f, smooth, priors=())
print("ignoring the priors, degrees off:", np.round(jifv.angle(ignoring.objective, targets), 2))
print("knowing them:                    ", np.round(jifv.angle(knowing.objective, targets), 2))
print("weights found, truth 1 and 10:")
print(np.round(np.asarray(knowing.weights.value), 2))
print("by how much the gradient that is left could have moved them:")
print(np.round(np.asarray(knowing.weights.error), 1))
print("can be told apart from all else, 0 to 1:")
print(np.round(np.asarray(knowing.weights.distinct), 2))

# %% [markdown]
# ## Transformations
#
# Now the mean over six shifts and scales is maximized, so that the picture has to work for all of them. It becomes
# coarser.

# %%
six = fixed(chain(shift(2), scale(0.95, 1.05)), jax.random.split(jax.random.key(5), 6))
few = jifv.Settings(adam_steps=100)
robust = jifv.visualize(f, start, targets, settings=few, transformations=six)
show("for six transformations", robust)

knowing = jifv.invert_batch(f, robust)
ignoring = jifv.invert_batch(f, robust.parameters, significance=robust.significance)
print("ignoring them, degrees off:", np.round(jifv.angle(ignoring.objective, targets), 1))
print("knowing them:              ", np.round(jifv.angle(knowing.objective, targets), 2))

# %% [markdown]
# The warning is right: without the transformations no objective makes the gradient vanish.
#
# ## From a file
#
# A PNG has eight bits. That moves the picture off its maximum a little. A picture is inverted by its parameters,
# `phi.invert(image)`, and one has to say what it maximizes.

# %%
images = np.round(255 * np.asarray(jax.vmap(phi.apply)(plain.parameters))).astype(np.uint8)
parameters = jax.vmap(phi.invert)(images)
stored = jifv.invert_batch(f, parameters, significance=jifv.Significance(power=2))
exact = jifv.invert_batch(f, plain)
print("as computed, degrees off:", np.round(jifv.angle(exact.objective, targets), 2))
print("eight bits:              ", np.round(jifv.angle(stored.objective, targets), 2))

# %% [markdown]
# [priors.md](../priors.md) has the equations, transformations that are drawn anew in every step, JPEG, and measured
# tables.
