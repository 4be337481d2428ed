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
# # Audit a claim
#
# "This picture visualizes that feature": papers, dashboards and model cards say it all the time. Whether it is true
# can be measured, and much more surely than the objective can be found.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jifv
from jifv import models
from jifv.audit import audit_claim
from jifv.jacobian import linearize_batch

network = models.load("densenet", layer="dense1.5")
aggregate = jifv.max_mean()
rounded = jifv.smooth(lambda x: aggregate(network.apply(x)), network.typical_inputs())
phi = jifv.pixels(network.input_shape, std=0.5)
f = jifv.compose(phi.apply, rounded, jifv.identity)

targets = jifv.sparse_objectives(jax.random.key(0), 3, 12)
start = jax.vmap(phi.init)(jax.random.split(jax.random.key(1), 3))
settings = jifv.Settings(adam_steps=150)
realizations = jifv.visualize(f, start, targets, settings=settings)

# %% [markdown]
# ## True claims and false ones
#
# At a maximum the gradient vanishes: ‖JᵀBv‖/σ₁, the *stationarity*, is small for the true v. How small is small? Put
# the claim beside others on the same picture: random ones, every single feature, and the response. The p-value is the
# share of them that does as well.

# %%
key = jax.random.key(2)


def audit(parameters, claims):
    """Audit a claim about each of three pictures."""
    response, jacobian = linearize_batch(f, parameters)
    return audit_claim(key, response, jacobian, claims, significance=realizations.significance)


true = audit(realizations.parameters, targets)
false = audit(realizations.parameters, jnp.roll(targets, 1, axis=0))
for name, found in (("true", true), ("false", false)):
    print(f"{name:6} stationarity", np.round(found.stationarity, 4), " p", np.round(found.p_value, 3))

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 2.4), layout="constrained", sharex=True)
for axis, others, right, wrong in zip(axes, true.others, true.stationarity, false.stationarity, strict=True):
    axis.hist(np.log10(others[np.isfinite(others)]), 30, color="#999999")
    axis.axvline(np.log10(right), color="#009E73", label="true claim")
    axis.axvline(np.log10(wrong), color="#D55E00", label="false claim")
    axis.set(xlabel="log₁₀ stationarity", yticks=[])
axes[0].legend(frameon=False, fontsize=7)
plt.show()

# %% [markdown]
# ## Is the largest response not enough?
#
# The obvious check is to look which feature answers most. It fails where objectives mix features, and where one
# answers to everything. Here are the three largest features by target and by response.

# %%
for target, response in zip(np.asarray(targets), np.asarray(realizations.response), strict=True):
    print("target:", np.argsort(-target)[:3].tolist(), " response:", np.argsort(-response)[:3].tolist())

# %% [markdown]
# ## What the p-value does not see
#
# A picture that was stopped early, or retouched, is still *nearest* to what it was made for: no other claim does
# better. But it is no maximum, and that shows in the stationarity. So read both numbers. `jifv audit` calls a claim
# false if more than 0.1 of the gradient is left, or p is above 0.05.

# %%
unfinished = jifv.visualize(f, start, targets, settings=jifv.Settings(adam_steps=10)).parameters
retouched = jax.vmap(phi.apply)(realizations.parameters).at[:, 12:20, 12:20].set(0.5)
retouched = jax.vmap(phi.invert)(retouched)
for name, parameters in (("as made", realizations.parameters), ("10 steps", unfinished), ("retouched", retouched)):
    found = audit(parameters, targets)
    print(f"{name:10} stationarity", np.round(found.stationarity, 3), " p", np.round(found.p_value, 3))

# %% [markdown]
# ## From the command line
#
# ```bash
# jifv audit cat.png --claim cat --claim dog --network densenet
# ```
#
# does the same for pictures in files, and writes a page with a figure for each claim. How often it is right, beside
# two baselines: [how sure](../confidence.md#is-it-true).
#
# One thing no audit of pictures exposes: a *network* that was manipulated so that its visualizations deceive. Its
# pictures are true maxima of what it computes.
