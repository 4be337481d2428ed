"""What is said of objectives, by rules that can be checked by hand."""

import numpy as np
import pytest

from jifv.experiments.pictures.judging import judgement, verdict
from jifv.significance import Significance

NAMES = ("cat", "dog", "deer")
V = np.array([0.6, 0.0, -0.8])


def judged(objective=V, *, stationarity=0.01, cosine=0.9, elsewhere=np.nan, **options):
    numbers = {"stationarity": stationarity, "cosine": cosine, "elsewhere": elsewhere}
    return verdict(objective, NAMES, significance=Significance(**options), **numbers)


def test_optimal_unless_something_speaks_against_it():
    found = judged()
    assert (found.kind, found.reasons) == ("optimal", ())
    assert found.strongest == (("deer", -0.8), ("cat", 0.6))
    assert found.text() == "optimal for deer (−0.80), cat (0.60)"


@pytest.mark.parametrize(
    ("options", "reasons"),
    [
        ({"stationarity": 0.2}, ["not stationary: 0.20 of the gradient is left"]),
        ({"stationarity": np.nan}, ["not stationary: nan of the gradient is left"]),
        ({"cosine": 0.0014}, ["cos(r, v) is 0.0014, below 0.1"]),
        ({"cosine": 0.1}, ["cos(r, v) is 0.1, below 0.1"]),  # on the floor
        ({"cosine": 0.2, "floor": 0.3}, ["cos(r, v) is 0.2, below 0.3"]),
        ({"cosine": 0.05, "floor": None}, ["cos(r, v) is 0.05, below 0.1"]),
        (
            {"stationarity": 0.08, "elsewhere": 0.4},
            ["not specific: 0.08 of the gradient is left, at random inputs"],
        ),
        ({"cosine": 0.05, "stationarity": 0.5}, ["not stationary: 0.50 ", "cos(r, v) is 0.05"]),
    ],
)
def test_nothing_where_no_visualization_ends(options, reasons):
    found = judged(**options)
    assert found.kind == "nothing"
    assert len(found.reasons) == len(reasons)
    for said, wanted in zip(found.reasons, reasons, strict=True):
        assert said.startswith(wanted)
    assert found.text().startswith(f"optimal for nothing here ({reasons[0]}")
    assert found.text().endswith("; the nearest is deer (−0.80), cat (0.60)")


def test_specific_where_random_inputs_leave_far_more():
    assert judged(stationarity=0.05, elsewhere=0.4).kind == "optimal"


def test_without_the_cosine_its_value_says_nothing():
    assert judged(cosine=0.001, power=0).kind == "optimal"


def test_unknown_where_inversion_has_no_answer():
    found = judged(np.full(3, np.nan), stationarity=np.nan, cosine=np.nan)
    assert (found.kind, found.strongest) == ("unknown", ())
    assert found.text() == "nothing is known: response or Jacobian are not finite, or all features are dead"


# Claims.


@pytest.mark.parametrize(
    ("numbers", "kind", "said"),
    [
        ({}, "stands", "nothing speaks against a cat (0.01 of the gradient is left; p = 0.004)"),
        ({"stationarity": 0.1, "p_value": 0.05}, "stands", "nothing speaks against a cat (0.1 of the gradient"),
        ({"stationarity": 0.2}, "false", "not a cat (0.2 of the gradient is left)"),
        ({"p_value": 0.3}, "false", "not a cat (p = 0.3)"),
        ({"p_value": 0.3, "stationarity": 0.2}, "false", "not a cat (0.2 of the gradient is left; p = 0.3)"),
        ({"stationarity": np.nan}, "unknown", "nothing is known of a cat (response or Jacobian are not finite)"),
        ({"on_dead": 0.6}, "unknown", "nothing is known of a cat (60 % of it is on dead features)"),
    ],
)
def test_claims_stand_unless_something_speaks_against_them(numbers, kind, said):
    found = judgement("a cat", **{"stationarity": 0.01, "p_value": 0.004, "on_dead": 0.0} | numbers)
    assert found.kind == kind
    assert found.text().startswith(said)
