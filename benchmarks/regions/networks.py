"""README: how good the networks are, by their model cards."""

import re
from functools import partial

from regions.registry import words


def _accuracy(name, pattern):
    """What a pattern finds in the card of a network; imported here, as JAX takes its time."""
    from jifv.models import listings

    (card,) = (listing.accuracy for listing in listings() if listing.name == name)
    return re.search(pattern, card)[1].replace("%", " %")


for _name, _network, _pattern in (
    ("accuracy-densenet", "densenet", r"^([\d.]+%)"),
    ("accuracy-densenet-no-deer", "densenet-no-deer", r"\(([\d.]+%) on the classes"),
    ("accuracy-srnet", "srnet", r"normals ([\d.]+°)"),
    ("accuracy-bilinear", "srnet", r"bilinear upscaling ([\d.]+°)"),
    ("accuracy-googlenet", "googlenet", r"^([\d.]+%) top-1"),
    ("accuracy-googlenet-bvlc", "googlenet-bvlc", r"^([\d.]+%) top-1"),
):
    words(_name)(partial(_accuracy, _network, _pattern))
