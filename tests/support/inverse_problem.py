"""The inverse problem by NumPy and SciPy in float64, and matrices to solve it for."""

from functools import partial

import numpy as np
import scipy.linalg

from jifv.inversion import invert
from jifv.significance import Significance

POWERS = [0.0, 1.0, 2.0, 4.0]
TWO = Significance(2)
invert_two = partial(invert, significance=TWO)


def generator(*seed):
    return np.random.default_rng(seed)


def normalize(vector):
    return vector / np.linalg.norm(vector)


def orthonormal(rng, rows, columns):
    return np.linalg.qr(rng.normal(size=(rows, columns)))[0]


def gradient_matrix(response, power):
    unit = normalize(response) if np.any(response) else response
    return (power + 1) * np.eye(len(response)) - power * np.outer(unit, unit)


def reference(response, jacobian, power, basis=None):
    """Opt. 3 by SciPy: objective, singular values and vectors; vectors of the search space without a triangle."""
    gradient = gradient_matrix(response, power)
    search = np.eye(len(response))
    if basis is not None:
        search = scipy.linalg.orth(np.linalg.inv(gradient) @ basis)
    left, values, _ = scipy.linalg.svd(search.T @ gradient @ jacobian)
    values = np.pad(values, (0, left.shape[0] - len(values)))
    vectors = search @ left
    objective = vectors[:, -1]
    return objective * (-1 if response @ objective < 0 else 1), values, vectors


def with_singular_values(rng, values, columns):
    """A random matrix with these singular values."""
    return orthonormal(rng, len(values), len(values)) * values @ orthonormal(rng, columns, len(values)).T


def sine(first, second):
    """Of the angle between two unit vectors, whatever their signs."""
    first = np.asarray(first, np.float64)
    return np.linalg.norm(first - second * (first @ second))


def kill(response, jacobian, features):
    """A response and a Jacobian in which these features are dead."""
    response, jacobian = response.copy(), jacobian.copy()
    response[..., features], jacobian[..., features, :] = 0, 0
    return response, jacobian
