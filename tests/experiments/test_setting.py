"""Settings: what is refused, what a network fills in, and what comes back from a run."""

from dataclasses import asdict

import jax
import jax.numpy as jnp
import pytest
from support.toy import TOY, network, scores

from jifv.experiments.setting import Setting, setting_of
from jifv.significance import Significance


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation": "median"}, "aggregation must be one of"),
        ({"parametrization": "wavelets"}, "parametrization must be one of"),
        ({"smoothing": -1}, "smoothing must be"),
        ({"dead_tolerance": 1.0}, "dead_tolerance must be below 1"),
        ({"input_size": 5}, "input_size must be at least 11"),
        ({"priors": (("tv", 1.0),)}, "priors must be some of total_variation"),
        ({"priors": (("l2", -1.0),)}, "weight must be"),
        ({"transformations": "turn"}, "transformations must be one of shift"),
        ({"transformations": "shift", "critical_samples": 4}, "critical_samples must be 0"),
    ],
)
def test_options_out_of_bounds_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Setting("toy", **options)


def test_a_network_fills_in_what_is_left_open():
    flat = network(scores)
    filled = Setting("toy").resolved(flat)
    assert (filled.layer, filled.aggregation, filled.parametrization) == ("scores", "identity", "pixels")
    assert filled.critical_samples == 8
    pooled = Setting("toy").resolved(flat._replace(output_shape=(3, 3, 5), input_shape=(12, 12, 5)))
    assert (pooled.aggregation, pooled.parametrization, pooled.critical_samples) == ("max_mean", "geometry", 0)
    assert Setting("toy", transformations="shift").resolved(flat).critical_samples == 0
    assert filled.resolved(flat) == filled


def test_it_comes_back_from_the_identity_of_a_run():
    setting = Setting("toy", priors=(("l2", 3),), transformations="shift", significance=Significance(1, None))
    assert setting_of({"setting": asdict(setting)}) == setting
    found = setting_of({"experiment": asdict(TOY)})
    assert (found.network, found.layer, found.aggregation) == ("toy", "scores", "identity")
    assert (found.smoothing, found.std, found.significance) == (TOY.smoothing, TOY.std, TOY.significance)
    with pytest.raises(ValueError, match="a run must say its network"):
        setting_of({"something": 1})


def test_transformations_are_those_of_the_seed():
    toy = network(scores)
    assert Setting("toy").ensemble(toy) is None
    some = Setting("toy", transformations="standard", draws=3).ensemble(toy)
    assert some == Setting("toy", transformations="standard", draws=3, std=0.1).ensemble(toy)
    assert some != Setting("toy", transformations="standard", draws=3, seed=1).ensemble(toy)
    x = jnp.ones((12, 12, 3))
    assert some.transformation(jax.random.key(0), x).shape == x.shape
    [prior] = Setting("toy", priors=(("l2", 2),)).prior_functions()
    assert (prior.name, prior.weight) == ("l2", 2)
