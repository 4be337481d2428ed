from dataclasses import replace

import pytest
from support.toy import TOY

from jifv.experiments.experiment import options_of
from jifv.experiments.studies import STUDIES, grid, smaller, with_rounded
from jifv.visualization import Settings


def cells(preset):
    return {name: study.cells(preset) for name, study in STUDIES.items()}


def test_every_experiment_of_the_paper_is_there():
    assert STUDIES.keys() == {
        "gn4c",
        "gn4c-smooth",
        "gn4c-kinks",
        "dncl",
        "dn4cl",
        "dnde",
        "gn4c-features",
        "parametrizations",
        "srnet",
        "timings",
    }


@pytest.mark.parametrize(
    ("name", "samples", "canonical", "adam_steps", "lbfgs_steps"),
    [("gn4c", 300, 150, 3000, 500), ("dncl", 300, 10, 800, 300), ("dn4cl", 300, 10, 800, 300)],
)
def test_paper_counts(name, samples, canonical, adam_steps, lbfgs_steps):
    cell, *twins = STUDIES[name].paper
    assert [twin.name for twin in twins] == ([] if name == "gn4c" else [f"{name}-rounded"])
    settings = cell.settings
    assert (cell.samples, cell.canonical) == (samples, canonical)
    assert (settings.adam_steps, settings.lbfgs_steps, cell.reoptimize_steps) == (adam_steps, lbfgs_steps, 500)
    assert cell.significance.power == 2


def test_algorithm_1_runs_where_the_paper_runs_it():
    for name, study in STUDIES.items():
        if name != "timings":
            assert {cell.critical_samples for cell in study.paper} == ({32} if name in ("dncl", "dn4cl") else {0}), name


def test_powers_and_aggregations_of_section_3_6():
    for name in ("dnde", "gn4c-features"):
        assert {cell.significance.power for cell in STUDIES[name].paper} == {0, 1, 2, 4}
    assert {cell.aggregation for cell in STUDIES["dnde"].paper} == {"max_mean", "mean", "pick"}
    assert {cell.features for cell in STUDIES["gn4c-features"].paper} >= {64, 512}
    assert {cell.significance.power for cell in STUDIES["srnet"].paper} == {0, 2}


@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_names_of_cells_are_unique_and_fit_for_files(preset):
    for study in cells(preset).values():
        names = [cell.name for cell in study]
        assert len(set(names)) == len(names)
        assert all(name.replace("-", "").replace("_", "").isalnum() for name in names)


def test_quick_is_a_smaller_version_of_the_same():
    for name, study in STUDIES.items():
        for cell in study.quick:
            assert cell.samples <= 16, name
            most = 2000 if cell.input_size == 112 else 1000 if cell.smoothing else 300
            assert cell.settings.adam_steps <= most, name
            assert cell.network in {paper.network for paper in study.paper}
            assert cell.layer in {paper.layer for paper in study.paper}


def test_kinks_are_the_only_difference_of_two_cells_of_gn4c_kinks():
    by_features = {}
    for cell in STUDIES["gn4c-kinks"].paper:
        by_features.setdefault(cell.features, []).append(replace(cell, name="", smoothing=0.0))
    assert list(by_features) == [16, 32, 64, 128, 256, 512]
    assert all(len(pair) == 2 and pair[0] == pair[1] for pair in by_features.values())


def test_grid_is_every_combination():
    found = grid(TOY, features=(2, 3), power=(0, 2.5))
    assert [cell.name for cell in found] == ["toy-n2-k0", "toy-n2-k2_5", "toy-n3-k0", "toy-n3-k2_5"]
    assert [(cell.features, cell.significance.power) for cell in found] == [(2, 0), (2, 2.5), (3, 0), (3, 2.5)]
    assert found[0].settings.adam_steps == TOY.settings.adam_steps


def test_smaller_changes_steps_and_what_is_named():
    [cell] = smaller([TOY], adam_steps=1, lbfgs_steps=2, samples=4)
    assert cell == replace(TOY, settings=replace(TOY.settings, adam_steps=1, lbfgs_steps=2), samples=4)


def test_the_twin_with_rounded_kinks_has_the_same_objectives_and_the_default_optimizer():
    assert with_rounded([TOY])[0] is TOY
    [_, twin] = with_rounded([TOY])
    before, after = options_of(TOY), options_of(twin)
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"name", "smoothing", "adam_steps", "lbfgs_steps", "learning_rate", "anneal"}
    assert (twin.name, twin.smoothing, twin.settings.lbfgs_steps) == (f"{TOY.name}-rounded", 0.1, 0)
    assert replace(twin.settings, adam_steps=0) == Settings(adam_steps=0)
    [_, other] = with_rounded([TOY], adam_steps=7, std=0.25)
    assert (other.settings.adam_steps, other.std, other.smoothing) == (7, 0.25, 0.1)


@pytest.mark.parametrize("preset", ["quick", "paper"])
@pytest.mark.parametrize("name", ["dncl", "dn4cl", "dnde", "srnet"])
def test_every_condition_is_shown_as_the_network_is_and_with_rounded_kinks(name, preset):
    found = STUDIES[name].cells(preset)
    kinked = {cell.name: cell for cell in found if not cell.smoothing}
    rounded = {cell.name.removesuffix("-rounded"): cell for cell in found if cell.smoothing}
    assert kinked.keys() == rounded.keys()
    same = {"network", "layer", "samples", "canonical", "features", "aggregation", "power", "parametrization", "seed"}
    for name in kinked:
        before, after = options_of(kinked[name]), options_of(rounded[name])
        assert {option for option in before if before[option] == after[option]} >= same
