"""Realizations that are optimal for nothing: told, and not inverted without a word."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jifv._core.caller import warn_caller
from jifv.significance import Significance

FAR = 0.1
"""`Inversion.stationarity` above which a realization counts as far from stationary.

Measured with k = 2 on 32 filters of DenseNet's dense3, its class scores on V, and 16 and 32 filters of a random
convolution, with and without rounded kinks: at most 0.08 for realizations that were optimized as long as the quick
experiments do and whose prediction is less than 10° off. On DenseNet it is 0.09 to 0.16 after 20 steps of Adam and 5 of
L-BFGS, and 0.13 to 0.21 for photographs. A small number proves nothing: where features are weak, photographs have less
(0.0006 to 0.17 on the convolution), and so does a trivial solution.

With few features and k = 0 the singular values lie closer together, and all of these numbers are larger. Measured on
the first 8 filters of dense3, 6 objectives, as the quick study `dnde` does: 0.04 to 0.08 (angles 0.3° to 1.0°) with
rounded kinks; 0.08 to 0.34 (2° to 18°) with kinks, where most are told, and rightly: 20 photographs have 0.21 to 0.49.
Unfinished ones have 0.30 to 0.50 (12° to 29°) after 20 steps of Adam, and 0.21 to 0.35 (2° to 9°) after 50. With k = 2
it is 0.02 to 0.03 with rounded kinks and 0.05 to 0.10 (2° to 7°) with kinks.
"""


class NotStationaryWarning(UserWarning):
    """Realizations are optimal for no objective, so that what was found for them says little."""


def warn_if_doubtful(
    stationarity: Float[Array | np.ndarray, " batch"],
    cosine: Float[Array | np.ndarray, " batch"],
    significance: Significance,
) -> None:
    """Warn once if samples of a batch can be no visualization of the objectives that were found for them.

    Args:
        stationarity: `Inversion.stationarity` of each sample; NaN counts as nothing known.
        cosine: `Inversion.cosine` of each sample, likewise.
        significance: What was inverted.
    """
    values = np.asarray(stationarity)
    far = values > FAR
    flat = np.asarray(significance.on_floor(jnp.asarray(cosine))) & ~far
    said = []
    if far.any():
        said.append(
            f"{far.sum()} of {len(values)} realizations are far from stationary: no objective brings the gradient "
            f"below {FAR:g} of the length that it can have (Inversion.stationarity is up to {np.nanmax(values):.2f})"
        )
    if flat.any():
        said.append(
            f"{flat.sum()} of {len(values)} realizations hardly respond to what was found for them: cos(r, v) is at "
            f"most {significance.floor:g} (Inversion.cosine), where no visualization ends"
        )
    if said:
        warn_caller(
            f"{'; '.join(said)}. So predictions may be far off. The realizations are not converged, or of another "
            "network, or no optimum of anything",
            NotStationaryWarning,
        )
