"""Pages to write, and how to read them back."""

import base64
import io
import json
import re

import numpy as np
from PIL import Image
from support.fake_results import CLASSES, changed, field_of

from jifv.experiments.experiment import Experiment
from jifv.experiments.report import page

EVIL = "</script><b onclick='hacked = 1'>&amp;<!--"

NAMES = (EVIL, "<img src=x onerror='hacked = 1'>", *CLASSES[2:])

FIGURE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 40"><circle cx="20" cy="20" r="9"/></svg>'

TABLE = page.Table(
    "median, degrees", ("of the", "angle", "n"), [("prediction", "3.10", "10"), ("response", "–", "7 %")]
)

LONE = Experiment(
    "dncl", "densenet", "classifier", samples=75, canonical=10, critical_samples=8, aggregation="identity"
)

NOT_FINITE = (4, 66)

DEAD, OFF_V = 6, 9


def with_flags(results):
    """One sample of every flag, and names of features that a page must not take for markup."""
    flags = {name: field_of(results, name).copy() for name in ("dead", "on_floor", "off_v", "objectives", "response")}
    flags["dead"][DEAD, :3] = True
    flags["on_floor"][8] = True
    flags["off_v"][OFF_V] = 0.999
    flags["objectives"][OFF_V] = 10**-0.5
    flags["response"][NOT_FINITE[1]] = (np.inf, -np.inf, *[1] * 8)
    return changed(results, **flags, feature_names=NAMES)


def written(folder, cells, *, title="dncl: <i>scores</i>", tables=(TABLE,), figures=None):
    path = folder / "report.html"
    page.write(path, title=title, cells=cells, tables=tables, figures=figures or {"Fig. <2>": FIGURE})
    return path


def data_of(path):
    """The embedded data, as a browser that knows nothing of JSON finds it: up to the next end of a script."""
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script', text, re.S)[1])


def pixels(encoded):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))
