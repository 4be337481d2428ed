"""Pictures as a network takes them, and the parameters that give them."""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float

from jifv.experiments import journal as journals
from jifv.experiments.pictures.question import Question
from jifv.experiments.pictures.sources import Pictures
from jifv.experiments.problem import parametrization_of
from jifv.experiments.registry import LIMITED
from jifv.experiments.setting import Setting, setting_of
from jifv.models import Network, fit_picture
from jifv.parametrize import Parametrization

_FAR = 0.05
"""Root mean square between a picture and the nearest one that φ shows, above which it is another. With MaCo its own
pictures are at 0.001 when stored as PNG and at 0.03 as JPEG of quality 75, photographs at 0.14 and more."""


class Reader:
    """The pictures as the network takes them, and their parameters."""

    def __init__(
        self,
        pictures: Pictures,
        network: Network,
        crop: float,
        *,
        exact: bool,
        limited: Parametrization | None = None,
    ) -> None:
        """See `is_exact`, which tells whether the run's own parameters serve, and `limited`."""
        self._pictures, self._network, self._crop = pictures, network, crop
        self._limited = None if exact or limited is None else jax.jit(lambda x: limited.apply(limited.invert(x)))
        self._parameters = pictures.parameters() if exact else None

    def image(self, row: int) -> Float[np.ndarray, "h w c"]:
        """Read a picture."""
        picture, name = self._pictures[row], self._pictures.names[row]
        return fit_picture(picture, self._network.input_shape, crop=self._crop, name=name)

    def parameters(self, rows: Sequence[int], question: Question) -> Float[np.ndarray, "b *p"]:
        """Find the parameters of pictures: their own, or some that give them."""
        if self._parameters is not None:
            return self._parameters[rows[0] : rows[-1] + 1]
        return question.parameters(np.stack([self.image(row) for row in rows]))

    def check(self, rows: Sequence[int]) -> None:
        """Read all pictures that are still to be inverted, so that none turns out to be damaged after hours.

        Raises:
            ValueError: Some cannot be read or do not fit.
        """
        wrong = []
        for row in rows:
            try:
                self._check_shown(self.image(row), self._pictures.names[row])
                if self._parameters is not None:
                    self._parameters[row]
            except (ValueError, TypeError, OSError) as error:
                wrong.append(str(error))
        if wrong:
            more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise ValueError("; ".join(wrong[:3]) + more)

    def _check_shown(self, image: Float[np.ndarray, "h w c"], name: str) -> None:
        if self._limited is None:
            return
        distance = float(np.sqrt(np.mean((np.asarray(self._limited(image)) - image) ** 2)))
        if not distance <= _FAR:
            raise ValueError(
                f"{name} must have the spectrum of the parametrization, as pictures that were made with it, got one "
                f"whose nearest such picture is {distance:.2f} away (root mean square); pixels shows any picture"
            )


def own_setting(pictures: Pictures) -> Setting:
    """Return what the realizations of a run were made with.

    Raises:
        ValueError: The pictures are no realizations of one run.
    """
    if pictures.run is None:
        raise ValueError("setting must be given for pictures that are not the realizations of one run")
    return setting_of(journals.read(pictures.run)["identity"])


def is_exact(pictures: Pictures, setting: Setting, network: Network) -> bool:
    """Tell whether the parameters that a run has kept are those of this setting's φ."""
    if pictures.run is None:
        return False
    same = pictures.parameters().shape[0] == len(pictures) and pictures[0].shape == network.input_shape
    return same and own_setting(pictures).parametrization == setting.parametrization


def limited(setting: Setting, network: Network) -> Parametrization | None:
    """Return φ of a setting if it shows some pictures alone; None if it shows any."""
    return parametrization_of(setting, network) if setting.parametrization in LIMITED else None
