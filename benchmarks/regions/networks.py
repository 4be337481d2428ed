"""docs/models.md and docs/networks.md: accuracy by the model cards, and what `from_torch` reaches."""

import re
from functools import partial

from harness.numbers import degrees, duration, fixed, ratio
from harness.tables import markdown

from regions.registry import block, words


@block("torch-inversion", "torch_inversion", packages=("jax", "torch"))
def torch_inversion(result):
    """Inversion on two modules of PyTorch, as they are and with rounded kinks."""
    titles = {"densenet": "DenseNet-BC, trained on CIFAR-10", "vit": "ViT, random weights"}
    rows = []
    for row in result.rows:
        kinks = f"{row['kinks']} sites" if row["rounded"] else "none"
        angles = map(degrees, (row["prediction"], row["response"]))
        rows.append((titles[row["network"]], f"`{row['layer']}`", kinks, *angles, fixed(row["gap"])))
    return markdown(("medians", "layer", "rounded", "prediction", "response", "gap"), rows, left=3)


@block("torch-speed", "from_torch", packages=("jax", "torch"))
def torch_speed(result):
    """GoogLeNet by `from_torch`, beside our own port and PyTorch."""
    cases = {}
    for row in result.rows:
        cases.setdefault(row["case"], {})[row["side"]] = row["median"]
    rows = []
    for case, sides in cases.items():
        ours, brought = sides["ours"], sides["from_torch"]
        best = min(seconds for side, seconds in sides.items() if "PyTorch" in side or "torch.func" in side)
        times = map(duration, (ours, brought, best))
        rows.append((case, *times, ratio(brought / ours), ratio(best / brought)))
    columns = ("GoogLeNet", "our port", "`from_torch`", "PyTorch's best", "times our port", "as fast as PyTorch")
    return markdown(columns, rows)


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
