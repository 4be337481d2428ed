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
# # Kinks, and why rounding them matters
#
# At a maximum the gradient vanishes, and inversion lives on that. A function with kinks has its maxima *on* kinks,
# where there is a slope on either side and no gradient vanishes.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np

import jifv
from jifv import models
from jifv.jacobian import linearize_batch

x = np.linspace(-1.5, 1.5, 301)


def roof(x):
    """A maximum on a kink."""
    return -jax.numpy.abs(x) - 0.3 * x


soft = jifv.smooth(roof, x[:, None].astype(np.float32), width=0.5)
print(soft.table())
plt.figure(figsize=(5, 2.4))
plt.plot(x, roof(x), color="#D55E00", label="slopes 0.7 and −1.3, never 0")
plt.plot(x, jax.vmap(soft)(x[:, None].astype(np.float32))[:, 0], color="#0072B2", label="rounded: the slope passes 0")
plt.legend(frameon=False)
plt.show()

# %% [markdown]
# `smooth` traced the function, found the kink, and replaced it over a width of 0.5 times the root mean square of what
# reaches it. It does the same to any JAX function, with 0.1 as the default.
#
# ## A network, with its kinks and without
#
# The same objectives, the same starting points, the same steps.

# %%
network = models.load("densenet", layer="dense1.5")
aggregate = jifv.max_mean()
phi = jifv.pixels(network.input_shape, std=0.5)
rounded = jifv.smooth(lambda x: aggregate(network.apply(x)), network.typical_inputs())
functions = {
    "with kinks": jifv.compose(phi.apply, network.apply, aggregate),
    "rounded": jifv.compose(phi.apply, rounded, jifv.identity),
}
targets = jifv.sparse_objectives(jax.random.key(0), 3, 12)
start = jax.vmap(phi.init)(jax.random.split(jax.random.key(1), 3))
settings = jifv.Settings(adam_steps=200)

spectra, pictures = {}, {}
for name, f in functions.items():
    realizations = jifv.visualize(f, start, targets, settings=settings)
    inversion = jifv.invert_batch(f, realizations)
    response, jacobian = linearize_batch(f, realizations.parameters)
    rest = jifv.stationarity(response, jacobian, targets, significance=realizations.significance)
    print(name)
    print("  ‖JᵀBv*‖/σ₁             ", np.round(rest, 4))
    print("  gap                    ", np.round(inversion.gap, 2))
    print("  prediction, degrees off", np.round(jifv.angle(inversion.objective, targets), 2))
    print("  response, degrees off  ", np.round(jifv.angle(response, targets), 1))
    spectra[name] = np.asarray(inversion.singular_values[0] / inversion.singular_values[0, 0]), float(rest[0])
    pictures[name] = np.asarray(phi.apply(realizations.parameters[0]))

# %% [markdown]
# What is left of the gradient, ‖JᵀBv\*‖, bends the answer: with kinks by degrees, with rounded ones by tenths of a
# degree. Twelve features forgive that, because all other singular values are far above it. The more features there
# are, the smaller those become; among hundreds the rest of the gradient lies in their midst, and inversion of the
# network with its kinks fails altogether ([GN4c](../gn4c.md)).

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 2.6), layout="constrained", width_ratios=(2, 1, 1))
for (name, (values, rest)), colour in zip(spectra.items(), ("#D55E00", "#0072B2"), strict=True):
    axes[0].semilogy(values, ".", color=colour, label=name)
    axes[0].axhline(rest, color=colour, linewidth=0.8)
axes[0].set_title("σᵢ/σ₁; lines: ‖JᵀBv*‖/σ₁", fontsize=9)
axes[0].legend(frameon=False)
for axis, (name, image) in zip(axes[1:], pictures.items(), strict=True):
    axis.imshow(image, interpolation="nearest")
    axis.set_title(name, fontsize=9)
    axis.axis("off")
plt.show()

# %% [markdown]
# ## Is the rounded network still the network?
#
# It is another one, and answers nearly alike. Here are the responses of both to images with the spectrum of natural
# ones:

# %%
images = network.typical_inputs()
for width in (0.05, 0.1, 0.3):
    other = jifv.smooth(lambda x: aggregate(network.apply(x)), images, width=width)
    a, b = (np.stack([np.asarray(g(x)) for x in images]) for g in (lambda x: aggregate(network.apply(x)), other))
    print(f"width {width}: correlation of the responses {np.corrcoef(a.ravel(), b.ravel())[0, 1]:.4f}")

# %% [markdown]
# A picture that somebody made *without* rounding lies on kinks, and rounding the network afterwards does not bring it
# back: [GN4c](../gn4c.md) has what was tried.
