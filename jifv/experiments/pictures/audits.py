"""Check what is said of pictures: the function behind `jifv audit`.

    print(audit_pictures(["deer.png"], ["deer", "cat"], Setting("densenet")))

A claim is put beside other claims on the same picture, see `jifv.audit`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jifv._core.check import check_positive
from jifv._core.progress import bar
from jifv.audit import audit_claim
from jifv.experiments.pictures import files
from jifv.experiments.pictures.features import objectives_of
from jifv.experiments.pictures.question import question_of
from jifv.experiments.pictures.reading import Reader, is_exact, limited, own_setting
from jifv.experiments.pictures.results import Audited
from jifv.experiments.pictures.sources import Pictures, find_pictures
from jifv.experiments.problem import check, network_of
from jifv.experiments.setting import Setting
from jifv.jacobian import compress
from jifv.models import Network

RANDOM = 256
"""Random claims beside which a claim is put unless told otherwise."""


def audit_pictures(
    pictures: Iterable[str | Path | np.ndarray] | Pictures,
    claims: Sequence[str | int],
    setting: Setting | None = None,
    *,
    directions: Iterable[str | Path] = (),
    network: Network | None = None,
    folder: str | Path | None = None,
    crop: float | None = None,
    random: int = RANDOM,
    progress: bool = False,
) -> Audited:
    """Put claims of the kind "this picture visualizes that feature" beside other claims on the same picture.

    Args:
        pictures: Files, folders or arrays, see `find_pictures`.
        claims: Features that every picture is said to visualize: the index of each, or its name; none for `directions`
            alone.
        setting: See `invert_pictures`. May be left out for the realizations of one run.
        directions: Files of directions, see `visualize_features`.
        network: The network, if it is loaded already.
        folder: Where to write `results.csv`, `results.json` and `report.html`; None writes nothing.
        crop: See `jifv.models.load_picture`; None for that of the network.
        random: Number of random claims to compare with. Further ones are every feature and the response.
        progress: Whether to show progress on standard error.

    Raises:
        TypeError: A number is of another type.
        ValueError: A picture is damaged or does not fit, there is no such feature, a direction does not fit, or the
            setting does not fit the network, or has priors or transformations. All before anything is compiled.
        OSError: A file cannot be read or written.
    """
    found = pictures if isinstance(pictures, Pictures) else find_pictures(pictures)
    check_positive("random", random)
    setting = own_setting(found) if setting is None else setting
    network = network or network_of(setting)
    setting = setting.resolved(network)
    check(setting, network)
    if setting.priors or setting.transformations:
        raise ValueError("setting must have no priors and no transformations, of which an audit knows nothing")
    features = setting.features or network.features
    names, goals = objectives_of(claims, directions, network.feature_names[:features])
    crop = network.crop if crop is None else crop
    exact = is_exact(found, setting, network)
    reader = Reader(found, network, crop, exact=exact, limited=limited(setting, network))
    reader.check(range(len(found)))
    with bar("prepare the network", 1, progress) as advance:
        question = question_of(setting, network, None)
        advance()
    each = []
    with bar(f"audit {len(found)}", question.work(len(found)), progress) as advance:
        for row in range(len(found)):
            response, jacobian = question.linearize(reader.parameters([row], question), advance)
            each.append(_audited(response[0], np.asarray(compress(jnp.asarray(jacobian[0]))), goals, setting, random))
    kept = {name: np.stack([part[name] for part in each]) for name in each[0]}
    result = Audited(
        setting, found.names, names, network.feature_names[:features], goals, **kept,
        folder=Path(folder) if folder else None,
    )  # fmt: skip
    if result.folder:
        files.write_audited(result, result.folder, reader.image)
    return result


def _audited(
    response: Float[np.ndarray, " n"],
    jacobian: Float[np.ndarray, "n n"],
    goals: Float[np.ndarray, "c n"],
    setting: Setting,
    random: int,
) -> dict[str, np.ndarray]:
    """Audit the claims on one picture."""
    count = len(goals)
    audit = audit_claim(
        jax.random.key(setting.seed),
        np.broadcast_to(response, (count, *response.shape)),
        np.broadcast_to(jacobian, (count, *jacobian.shape)),
        goals,
        significance=setting.significance,
        random=random,
    )
    return {name: np.asarray(found) for name, found in audit._asdict().items()} | {"response": response}
