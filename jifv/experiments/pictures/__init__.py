"""People's own pictures: visualize features, and find what pictures are optimal for.

    from jifv.experiments.pictures import Setting, invert_pictures, visualize_features

    setting = Setting("googlenet-bvlc", "inception4c")
    visualize_features(["42", "17"], setting, folder="runs/mine")
    print(invert_pictures(["runs/mine/realizations.zarr"]))
    print(invert_pictures(["cat.jpg", "photos"], setting))

`jifv visualize` and `jifv invert` do the same.
"""

from jifv.experiments.pictures.features import visualize_features
from jifv.experiments.pictures.inversions import invert_pictures
from jifv.experiments.pictures.judging import Verdict, verdict
from jifv.experiments.pictures.results import Inverted, Visualized
from jifv.experiments.pictures.sources import Pictures, find_pictures
from jifv.experiments.setting import Setting

__all__ = [
    "Inverted",
    "Pictures",
    "Setting",
    "Verdict",
    "Visualized",
    "find_pictures",
    "invert_pictures",
    "verdict",
    "visualize_features",
]
