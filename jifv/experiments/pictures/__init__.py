"""People's own pictures: visualize features, find what pictures are optimal for, check claims, compare networks.

    from jifv.experiments.pictures import Setting, audit_pictures, compare_networks, invert_pictures, visualize_features

    setting = Setting("googlenet-bvlc", "inception4c")
    visualize_features(["42", "17"], setting, folder="runs/mine")
    print(invert_pictures(["runs/mine/realizations.zarr"]))
    print(invert_pictures(["cat.jpg", "photos"], setting))
    print(audit_pictures(["cat.jpg"], ["42"], setting))
    print(compare_networks(Setting("densenet"), Setting("densenet-no-deer")))

`jifv visualize`, `invert`, `audit` and `compare` do the same.
"""

from jifv.experiments.pictures.audits import audit_pictures
from jifv.experiments.pictures.comparisons import compare_networks
from jifv.experiments.pictures.features import visualize_features
from jifv.experiments.pictures.inversions import invert_pictures
from jifv.experiments.pictures.judging import Judgement, Verdict, judgement, verdict
from jifv.experiments.pictures.results import Audited, Compared, Inverted, Visualized
from jifv.experiments.pictures.sources import Pictures, find_pictures
from jifv.experiments.setting import Setting

__all__ = [
    "Audited",
    "Compared",
    "Inverted",
    "Judgement",
    "Pictures",
    "Setting",
    "Verdict",
    "Visualized",
    "audit_pictures",
    "compare_networks",
    "find_pictures",
    "invert_pictures",
    "judgement",
    "verdict",
    "visualize_features",
]
