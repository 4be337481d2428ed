"""The figure of a claim: what it shows is what the audit says."""

import numpy as np
import pytest

from jifv.audit import Audit
from jifv.experiments.report import figures
from jifv.experiments.report.figures_audit import claim

OTHERS = np.array([0.3, 0.2, np.nan, 0.5, 0.1, np.nan, 0.4, 0.25])  # four random, three features, the response


def audit(**changes):
    numbers = {"stationarity": np.float32(0.01), "p_value": np.float32(1 / 7), "on_dead": np.float32(0)}
    return Audit(**({"others": OTHERS.astype(np.float32)} | numbers | changes))


def test_a_claim_beside_others(tmp_path):
    figure = claim(audit(), 3, "filter 3")
    (axes,) = figure.axes
    assert axes.get_title() == "filter 3"
    lines = {line.get_label(): line.get_xdata()[0] for line in axes.lines}
    assert lines == {"response": pytest.approx(0.25), "the claim (p = 0.14)": pytest.approx(0.01)}
    counted = sum(bar.get_height() for bar in axes.containers[0])
    assert counted == 3
    figures.save(figure, tmp_path / "claim.png")


def test_what_is_zero_stands_at_the_left_end():
    (axes,) = claim(audit(stationarity=np.float32(0)), 3).axes
    assert axes.lines[-1].get_xdata()[0] == 1e-6
    assert axes.get_xlim()[0] <= 1e-6


@pytest.mark.parametrize(
    ("changes", "features"),
    [({"stationarity": np.float32(np.nan)}, 3), ({"others": OTHERS[None].astype(np.float32)}, 3), ({}, 8)],
)
@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_drawn(changes, features):
    with pytest.raises(ValueError, match="audit must be that of one picture"):
        claim(audit(**changes), features)
