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
# # Trivial solutions and critical spaces
#
# Some directions of the features cannot be changed by any input. Inversion then finds such a direction in place of
# the objective, for every picture the same. The class scores of a classifier are the simplest case, and one that has
# never seen one of its classes has two such directions (paper, section 3.5).

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np

import jifv
from jifv import models
from jifv.jacobian import linearize_batch

network = models.load("densenet-no-deer")  # ten scores, trained on nine classes
print(network.layer, network.feature_names)

rounded = jifv.smooth(network.apply, network.typical_inputs())
phi = jifv.pixels(network.input_shape, std=0.5)
f = jifv.compose(phi.apply, rounded, jifv.identity)  # scores have no positions: nothing to aggregate

targets = jifv.sparse_objectives(jax.random.key(0), 6, 10)
start = jax.vmap(phi.init)(jax.random.split(jax.random.key(1), 6))
settings = jifv.Settings(adam_steps=100)
realizations = jifv.visualize(f, start, targets, settings=settings)

# %% [markdown]
# ## In all of ℝ¹⁰ inversion fails

# %%
inversion = jifv.invert_batch(f, realizations)
print("degrees off:", np.round(jifv.angle(inversion.objective, targets)))
print("the answer, for each picture:")
print(np.round(np.asarray(inversion.objective), 2))

# %% [markdown]
# The rows are alike up to the sign: all entries are equal. The softmax does not see a common
# shift of all scores, so training has removed it from the weights, and Jᵀ(1, …, 1) = 0 whatever the picture shows.
#
# The β profile shows it as well: how much of the target lies on the last singular vector, the one before, and so on.

# %%
profile = np.asarray(jifv.beta_profile(inversion.singular_vectors, targets))
print("β₀, β₁, β₂:", np.round(profile[:3], 2))

# %% [markdown]
# ## Find what no input changes
#
# `critical_spaces` compares the Jacobians of some pictures. It needs no known objectives. `compress` makes each of
# them 10×10.

# %%
jacobians = jifv.compress(linearize_batch(f, realizations.parameters).jacobian)
spaces = jifv.critical_spaces(jacobians)
for space in spaces:
    print(f"dimension {space.basis.shape[1]}, gap {space.gap:.3g}: {space.reason}")

# %%
figure, axes = plt.subplots(1, len(spaces), figsize=(4 * len(spaces), 2.6), squeeze=False, layout="constrained")
for axis, space in zip(axes[0], spaces, strict=True):
    axis.imshow(space.cokernel.T, cmap="RdBu", vmin=-1, vmax=1)
    axis.set_xticks(range(10), network.feature_names, rotation=90)
    axis.set_yticks([])
    axis.set_title(f"left out of V, dimension {space.basis.shape[1]}")
plt.show()

# %% [markdown]
# The best supported space leaves out (1, …, 1). If there is another, it leaves out a second direction: mostly the
# deer, the class that this network has never seen. No input can raise its score, because its weights have learned
# nothing but to keep it down.
#
# ## On V it succeeds
#
# The objective is found only up to what was left out, so angles are measured on V, after projecting both.

# %%
for space in spaces:
    found = jifv.invert_batch(f, realizations, basis=space.basis)
    angles = jifv.angle(found.objective, targets, basis=space.basis)
    response = jifv.angle(realizations.response, targets, basis=space.basis)
    print(f"dimension {space.basis.shape[1]}: prediction {np.median(angles):.2f}°, response {np.median(response):.1f}°")

# %% [markdown]
# Which space is the right one? With objectives that one knows, `choose_space` decides, relative to chance, because
# angles shrink with the dimension. [critical.md](../critical.md) is the recipe.

# %%
bases = [np.eye(10), *(space.basis for space in spaces)]
predictions = [jifv.invert_batch(f, realizations, basis=basis).objective for basis in bases]
choice = jifv.choose_space(bases, predictions, targets, gaps=[1, *(space.gap for space in spaces)])
for number, basis in enumerate(bases):
    chosen = " ← chosen" if number == choice.index else ""
    print(f"dimension {basis.shape[1]}: {choice.angle[number]:.2f}°, by chance {choice.chance[number]:.0f}°{chosen}")
