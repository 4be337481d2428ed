"""Random subspaces, and Jacobians with a known common cokernel."""

import numpy as np
import scipy.linalg


def orthonormal(rng, rows, columns):
    return np.linalg.qr(rng.normal(size=(rows, columns)))[0]


def largest_angle(first, second):
    """Between two subspaces; 90° if their dimensions differ."""
    if first.shape != second.shape:
        return np.pi / 2
    return np.max(scipy.linalg.subspace_angles(first, second), initial=0)


def planted(rng, samples, features, columns, dimension, noise=0.0):
    """Jacobians with a common cokernel of this dimension, and the cokernel."""
    cokernel = orthonormal(rng, features, dimension)
    jacobians = rng.normal(size=(samples, features, columns))
    jacobians -= cokernel @ (cokernel.T @ jacobians)
    return jacobians + noise * rng.normal(size=jacobians.shape), cokernel
