"""Every kind of kink: the function, and its rounded form in NumPy and float64."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

WIDTH = 0.3
"""Large, so that a good part of what is computed is inside of it."""


def draw(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(dtype)


def rms(x):
    x = np.asarray(x, np.float64)
    return np.sqrt(np.mean(np.square(x[np.isfinite(x)])))


# The closed forms, in NumPy and float64.


def ramp(x, w):
    return np.where(x <= 0, 0, np.where(x >= w, x - w / 2, x**2 / (2 * w)))


def cap(x, w):
    return x - ramp(x, w)


def huber(x, w):
    return np.where(np.abs(x) >= w, np.abs(x) - w / 2, x**2 / (2 * w))


def log_mean_exp(entries, w, axis=0):
    """w·log(mean(exp(x / w))) over the finite entries."""
    entries = np.moveaxis(np.asarray(entries, np.float64), axis, 0)
    top = np.max(entries, 0)
    return top + w * np.log(np.exp((entries - top) / w).sum(0) / np.isfinite(entries).sum(0))


def windows(x, size, stride, padding=(0, 0), fill=-np.inf):
    """Entries of each window of the first two axes, along a new first axis."""
    x = np.pad(x, (padding, padding, (0, 0)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, (size, size), (0, 1))[::stride, ::stride]
    return np.moveaxis(view.reshape(*view.shape[:3], -1), -1, 0)


def hard_sigmoid(x, w):
    inner = ramp(x + 3, w * rms(x + 3))
    return 6 + cap(inner - 6, w * rms(np.maximum(x + 3, 0)))


POINTWISE = {
    "relu": (jax.nn.relu, lambda x, w: ramp(x, w * rms(x))),
    "maximum": (lambda x: jnp.maximum(0.5, x), lambda x, w: 0.5 + ramp(x - 0.5, w * rms(x))),
    "minimum": (lambda x: jnp.minimum(x, -0.25), lambda x, w: -0.25 + cap(x + 0.25, w * rms(x))),
    "relu6": (
        lambda x: jax.nn.relu6(4 * x),
        lambda x, w: 6 + cap(ramp(4 * x, w * rms(4 * x)) - 6, w * rms(np.maximum(4 * x, 0))),
    ),
    "clip": (
        lambda x: jnp.clip(x, -0.5, 1),
        lambda x, w: 1 + cap(ramp(x + 0.5, w * rms(x)) - 1.5, w * rms(np.maximum(x, -0.5))),
    ),
    "clamp": (
        lambda x: lax.clamp(jnp.asarray(-0.5, x.dtype), x, jnp.asarray(1, x.dtype)),
        lambda x, w: 1 + cap(ramp(x + 0.5, w * rms(x)) - 1.5, w * rms(x)),
    ),
    "abs": (jnp.abs, lambda x, w: huber(x, w * rms(x))),
    "leaky_relu": (jax.nn.leaky_relu, lambda x, w: 0.01 * x + 0.99 * ramp(x, w * rms(x))),
    "prelu": (lambda x: jnp.where(x >= 0, x, 0.25 * x), lambda x, w: 0.25 * x + 0.75 * ramp(x, w * rms(x))),
    "where": (lambda x: jnp.where(x > 0, x, 0), lambda x, w: ramp(x, w * rms(x))),
    "where of a shifted value": (lambda x: jnp.where(x + 1 <= 0, 0, x + 1), lambda x, w: ramp(x + 1, w * rms(x + 1))),
    "where not": (lambda x: jnp.where(~(x > 0), -x, x), lambda x, w: -x + 2 * ramp(x, w * rms(x))),
    "hard_sigmoid": (lambda x: jax.nn.hard_sigmoid(3 * x), lambda x, w: hard_sigmoid(3 * x, w) / 6),
    "hard_swish": (lambda x: jax.nn.hard_swish(3 * x), lambda x, w: 3 * x * hard_sigmoid(3 * x, w) / 6),
    "hard_tanh": (
        jax.nn.hard_tanh,
        # Two kinks apart, each taken out of the function as it is.
        lambda x, w: np.clip(x, -1, 1) + sum(
            s * (ramp(x - c, w * rms(x)) - np.maximum(x - c, 0)) for s, c in ((1, -1), (-1, 1))
        ),
    ),
    "hard swish by cases": (
        lambda x: jnp.where(x <= -3, 0, jnp.where(x >= 3, x, x * (x + 3) / 6)),
        lambda x, w: np.where(x <= -3, 0, np.where(x >= 3, x, x * (x + 3) / 6)) + sum(
            -0.5 * (ramp(x - c, w * rms(x)) - np.maximum(x - c, 0)) for c in (-3, 3)
        ),
    ),
    "selu": (
        jax.nn.selu,
        lambda x, w: 1.0507009873554805 * (
            np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
            + (1 - 1.6732632423543772) * (ramp(x, w * rms(x)) - np.maximum(x, 0))
        ),
    ),
}  # fmt: skip

REDUCTIONS = {
    "max over axes": (lambda x: jnp.max(x, (0, 1)), lambda x, w: log_mean_exp(x.reshape(-1, 3), w * rms(x))),
    "min over an axis": (lambda x: jnp.min(x, -1), lambda x, w: -log_mean_exp(-x, w * rms(x), -1)),
    "maximum of three": (
        lambda x: jnp.maximum(jnp.maximum(x[:-2], x[1:-1]), x[2:]),
        lambda x, w: log_mean_exp([x[:-2], x[1:-1], x[2:]], w * rms([x[:-2], x[1:-1], x[2:]])),
    ),
    "minimum of two": (
        lambda x: jnp.minimum(x[:-1], 2 * x[1:]),
        lambda x, w: -log_mean_exp([-x[:-1], -2 * x[1:]], w * rms([x[:-1], 2 * x[1:]])),
    ),
    "larger by cases": (
        lambda x: jnp.where(x[0] > x[1], x[0], x[1]),
        lambda x, w: log_mean_exp(x[:2], w * rms(x[:2])),
    ),
    "smaller by cases": (
        lambda x: jnp.where(x[0] > x[1], x[1], x[0]),
        lambda x, w: -log_mean_exp(-x[:2], w * rms(x[:2])),
    ),
    "windows": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (3, 3, 1), (2, 2, 1), "VALID"),
        lambda x, w: log_mean_exp(windows(x, 3, 2), w * rms(x)),
    ),
    "windows with a margin": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (3, 3, 1), (2, 2, 1), ((1, 1), (1, 1), (0, 0))),
        lambda x, w: log_mean_exp(windows(x, 3, 2, (1, 1)), w * rms(x)),
    ),
    "windows after a pad": (
        lambda x: lax.reduce_window(
            jnp.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf),
            -jnp.inf, lambda a, b: jnp.maximum(a, b), (3, 3, 1), (2, 2, 1), "VALID",
        ),
        lambda x, w: log_mean_exp(windows(x, 3, 2, (1, 1)), w * rms(x)),
    ),
    "smallest in windows": (
        lambda x: lax.reduce_window(x, jnp.inf, lax.min, (2, 2, 1), (1, 1, 1), "VALID"),
        lambda x, w: -log_mean_exp(-windows(x, 2, 1), w * rms(x)),
    ),
    "dilated windows": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 1, 1), (1, 1, 1), "VALID", window_dilation=(3, 1, 1)),
        lambda x, w: log_mean_exp([x[:-3], x[3:]], w * rms(x)),
    ),
    "windows of the whole": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (7, 6, 1), (1, 1, 1), "VALID"),
        lambda x, w: log_mean_exp(x.reshape(-1, 3), w * rms(x))[None, None],
    ),
    "a mask": (
        lambda x: jnp.max(jnp.where(jnp.arange(7)[:, None, None] % 2 == 0, x, -jnp.inf), 0),
        lambda x, w: log_mean_exp(x[::2], w * rms(x[::2])),
    ),
}  # fmt: skip
KINDS = POINTWISE | REDUCTIONS


def sample(name):
    """Values on both sides of every kink, and on some."""
    x = 2 * draw(7, 6, 3)
    if name in POINTWISE:
        x[:, 0, 0] = 0, 0.5, -0.25, -0.5, 1, -1, 3
    return x
