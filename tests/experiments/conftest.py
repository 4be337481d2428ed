"""What several files test: results of the toy experiment, and fake ones to draw."""

from dataclasses import replace

import jax.numpy as jnp
import pytest
from support.drawn import CELLS, DNCL, DNDE, fakes
from support.fake_results import fake
from support.pages import LONE, NOT_FINITE, with_flags, written
from support.stores import IDENTITY, fill
from support.toy import TOY, network, scores

from jifv.experiments.experiment import Experiment, with_options
from jifv.experiments.run import run
from jifv.experiments.store import Store
from jifv.experiments.studies import grid


@pytest.fixture(scope="session")
def results():
    """Results of the toy experiment, on one device."""
    return run(TOY, network(scores))


@pytest.fixture(scope="session")
def partly_finite():
    """The same of a network that returns NaN for some inputs, after few steps."""

    def broken(x):
        return jnp.where(jnp.mean(x) > 0.502, jnp.nan, scores(x))

    return run(with_options(TOY, {"adam_steps": 5, "lbfgs_steps": 2}), network(broken))


@pytest.fixture(scope="session")
def few():
    return fake(DNCL, side=12, not_finite=(2,))


@pytest.fixture(scope="session")
def cells():
    return fakes(CELLS)


@pytest.fixture(scope="session")
def lone():
    return with_flags(fake(LONE, side=16, not_finite=NOT_FINITE))


@pytest.fixture(scope="session")
def several():
    base = Experiment("dnde", "densenet", "dense3", samples=9, features=12)
    cells = [replace(base, name=f"dnde-k{k}", significance=replace(base.significance, power=k)) for k in (0, 2)]
    return [fake(cell, seed=seed, side=12) for seed, cell in enumerate(cells)]


@pytest.fixture(scope="session")
def lone_path(lone, tmp_path_factory):
    return written(tmp_path_factory.mktemp("lone"), [lone])


@pytest.fixture(scope="session")
def parametrized():
    names = ("pixels", "fourier", "fourier_decorrelated")
    other = replace(DNDE, name="gn4c", network="googlenet-bvlc", layer="inception4c", features=16)
    other = replace(other, samples=2, canonical=1)
    return fakes(grid(other, parametrization=names) + grid(DNDE, parametrization=names))


@pytest.fixture
def finished(tmp_path):
    with Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3) as store:
        fill(store)
        fill(store, "reoptimize")
    return tmp_path / "a.zarr"
