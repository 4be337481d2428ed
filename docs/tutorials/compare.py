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
# # Compare two networks
#
# Visualize a feature in one network, and invert the picture in another: what the picture is optimal for there is what
# the second network makes of the first one's feature.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np

import jifv
from jifv import models
from jifv.compare import match_features, transfer

# %% [markdown]
# ## A copy, to begin with
#
# To see that it works we need a case with a known answer. So take a network whose features are those of another, but
# in a different order and 0.1 to 10 times as large.

# %%
network = models.load("densenet", layer="dense1.5")
aggregate = jifv.max_mean()
phi = jifv.pixels(network.input_shape, std=0.5)
rounded = jifv.smooth(lambda x: aggregate(network.apply(x)), network.typical_inputs())
f = jifv.compose(phi.apply, rounded, jifv.identity)

rng = np.random.default_rng(0)
order, lengths = rng.permutation(12), np.exp(rng.uniform(np.log(0.1), np.log(10), 12))


def copy(p):
    """The same features, permuted and rescaled."""
    return f(p)[order] * jax.numpy.asarray(lengths, p.dtype)


# %% [markdown]
# Each picture gives one direction of either network. Twelve features need about as many pictures.

# %%
targets = jifv.sparse_objectives(jax.random.key(0), 12, 12)
start = jax.vmap(phi.init)(jax.random.split(jax.random.key(1), 12))
realizations = jifv.visualize(f, start, targets, settings=jifv.Settings(adam_steps=150))

seen = transfer(copy, realizations, normalize=True)
match = match_features(seen.gradients, seen.seen)
truth = np.argsort(order)
expected = lengths[truth] / np.exp(np.mean(np.log(lengths)))
print("features found:", int(np.sum(match.feature == truth)), "of 12")
print("their lengths, relative error:", np.round(np.abs(match.scale / expected - 1), 3))

# %% [markdown]
# `match_features` compares gradients, because objectives do not carry over: the response of each network bends its own.
# With `normalize` the inversion does not see how long the features are, and so finds short ones as surely as long ones.
#
# Another network, trained on other data from another start, has other features. The warning says that the pictures
# are optimal for none of its directions, and the similarities show no diagonal.

# %%
other = models.load("densenet-no-deer", layer="dense1.5")
others = jifv.smooth(lambda x: aggregate(other.apply(x)), other.typical_inputs())
elsewhere = transfer(jifv.compose(phi.apply, others, jifv.identity), realizations, normalize=True)
no_match = match_features(elsewhere.gradients, elsewhere.seen)

figure, axes = plt.subplots(1, 2, figsize=(6, 3), layout="constrained")
for axis, found, title in zip(axes, (match, no_match), ("the copy", "another network"), strict=True):
    axis.imshow(found.similarity[:, found.feature], vmin=-1, vmax=1, cmap="RdBu_r")
    axis.set(title=title, xlabel="its features, as matched", ylabel="features", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## What does a network without deer make of deer?
#
# Class scores have names in both networks. We visualize two classes in a network that knows ten, and invert the
# pictures in one that has never seen a deer. All its scores may shift together without any effect, and its score for
# deer is a dead weight, so we look for the answer beside these two directions ([trivial solutions](critical.py)).

# %%
a, b = models.load("densenet"), models.load("densenet-no-deer")
names = a.feature_names
classes = [names.index("deer"), names.index("ship")]
phi = jifv.pixels(a.input_shape, std=0.01)
f_a, f_b = (jifv.compose(phi.apply, jifv.smooth(each.apply, each.typical_inputs()), jifv.identity) for each in (a, b))

trivial = np.stack([np.ones(10), np.eye(10)[names.index("deer")]], axis=1)
basis = np.linalg.svd(trivial)[0][:, 2:].astype(np.float32)

start = jax.vmap(phi.init)(jax.random.split(jax.random.key(2), 2))
goals = jifv.canonical_objectives(np.array(classes), 10)
pictures = jifv.visualize(f_a, start, goals, settings=jifv.Settings(adam_steps=100))
seen = transfer(f_b, pictures, basis=basis)
directions = np.asarray(seen.inversion.objective) @ basis @ basis.T  # what lies beside V changes nothing

figure, axes = plt.subplots(2, 2, figsize=(7, 4), layout="constrained", width_ratios=(1, 2.5))
for row, index, image, found, rest in zip(
    axes, classes, jax.vmap(phi.apply)(pictures.parameters), directions, seen.inversion.stationarity, strict=True
):
    row[0].imshow(np.asarray(image), interpolation="nearest")
    row[0].set_title(names[index])
    row[0].axis("off")
    row[1].bar(names, found, color="#0072B2")
    row[1].tick_params(axis="x", rotation=60)
    row[1].set_title(f"without deer, stationarity {float(rest):.2f}", fontsize=9)
plt.show()

# %% [markdown]
# `transfer` warns, and rightly: a quarter of the gradient is left even for the best direction. The bars are the nearest
# answer. A picture that is optimal for "ship" in one network is optimal for no mixture of classes in the other; the
# two tell ships by different things. So read the stationarity first, the direction second.
#
# From the command line, with a page to look at:
#
# ```bash
# jifv compare densenet densenet-no-deer --feature deer --feature ship
# ```
