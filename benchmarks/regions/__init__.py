"""What is generated in the documents, a module for each of them."""

from regions import confidence, figures, gn4c, index, networks, paper, priors, scale, smoothing, speed
from regions.registry import REGIONS

__all__ = [
    "REGIONS",
    "confidence",
    "figures",
    "gn4c",
    "index",
    "networks",
    "paper",
    "priors",
    "scale",
    "smoothing",
    "speed",
]
