"""Every option is declared once, and reaches everything that is made from the declarations."""

from dataclasses import fields, replace

import pytest
from support.fake_results import fake
from support.pages import data_of, written
from typer.testing import CliRunner

import jifv.cli.reproduce
from jifv.cli import app
from jifv.cli.options import SHOWN
from jifv.experiments.experiment import Experiment, options_of, with_options
from jifv.experiments.options import BY_NAME, OPTIONS
from jifv.experiments.report import summary, tables
from jifv.significance import Significance
from jifv.visualization import Settings

BASE = Experiment("a", "densenet", "dense3", samples=4, features=8)
OTHER = {
    "name": "b",
    "network": "srnet",
    "layer": "block8",
    "samples": 6,
    "canonical": 2,
    "features": 9,
    "aggregation": "mean",
    "parametrization": "fourier_decorrelated",
    "std": 0.125,
    "input_size": 20,
    "smoothing": 0.375,
    "dead_tolerance": 0.0625,
    "power": 3.5,
    "floor": 0.25,
    "adam_steps": 1234,
    "learning_rate": 0.0625,
    "anneal": 0.875,
    "redirected_steps": 16,
    "adam_precision": "high",
    "lbfgs_steps": 567,
    "history": 13,
    "tolerance": 0.03125,
    "precision": "default",
    "reoptimize_steps": 89,
    "critical_samples": 3,
    "batch_size": 17,
    "row_batch_size": 19,
    "seed": 4321,
}
"""Another value of each option."""


@pytest.fixture
def cells(monkeypatch):
    """The experiments that the command would have run."""
    ran = []

    def plans(name, preset, options, weights, out):
        ran.append(with_options(BASE, options))
        return []

    monkeypatch.setattr(jifv.cli.reproduce, "_plans", plans)
    monkeypatch.setattr(jifv.cli.reproduce.machine, "prepare", lambda: None)
    return ran


def results_with(name, value):
    """Fake results of an experiment with one other option."""
    layer = {"layer": "dense3"} if name == "layer" else {}
    made = fake(with_options(BASE, {name: value} | layer), side=20 if name == "input_size" else 12)
    return replace(made, experiment=with_options(BASE, {name: value}))


def test_every_field_is_declared_and_every_declaration_is_a_field():
    owned = {each.name for each in fields(Experiment)} - {"settings", "significance"}
    owned |= {each.name for each in (*fields(Settings), *fields(Significance))}
    assert owned == BY_NAME.keys() == OTHER.keys()
    assert len(BY_NAME) == len(OPTIONS) == len({option.label for option in OPTIONS})


def test_defaults_are_allowed():
    for name, value in options_of(BASE).items():
        BY_NAME[name].check(value)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_option_reaches_summary_tables_and_page(option, tmp_path):
    value = OTHER[option.name]
    assert value != options_of(BASE)[option.name]
    results = results_with(option.name, value)
    cell = summary.cell_summary(results)
    assert cell["experiment" if option.name == "name" else option.name] == value
    facts, _ = tables.settings([cell])
    assert dict(facts)[option.label] == option.text(value)
    page = data_of(written(tmp_path, [results]))
    assert dict(page["facts"])[option.label] == option.text(value)
    _, (varied,) = tables.settings([cell, summary.cell_summary(fake(BASE, side=12))])
    assert option.label in varied.columns


@pytest.mark.parametrize("option", SHOWN, ids=lambda option: option.name)
def test_option_of_the_command_reaches_the_experiment(option, cells):
    value = OTHER[option.name]
    flag = f"--{option.name.replace('_', '-')}"
    result = CliRunner().invoke(app, ["reproduce", "dncl", flag, str(value)])
    assert result.exit_code == 0, result.output
    assert cells == [with_options(BASE, {option.name: value})]


@pytest.mark.parametrize("columns", [80, 200])
def test_help_has_every_option_with_its_text(columns):
    output = CliRunner().invoke(app, ["reproduce", "--help"], env={"COLUMNS": str(columns), "NO_COLOR": "1"}).output
    words = " ".join(output.replace("│", " ").split())
    for option in SHOWN:
        assert f"--{option.name.replace('_', '-')}" in output
        if columns == 200:
            assert option.help in words
    hidden = {option.name for option in OPTIONS} - {option.name for option in SHOWN}
    assert not [name for name in hidden if f"--{name.replace('_', '-')} " in output]


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("power", float("inf"), ValueError, "power must be finite and >= 0, got inf"),
        ("std", "wide", TypeError, "std must be a number >= 0, got 'wide'"),
        ("samples", 2.5, TypeError, "samples must be an integer >= 0, got 2.5"),
        ("anneal", 1.5, ValueError, "anneal must be at most 1, got 1.5"),
        ("dead_tolerance", 1, ValueError, "dead_tolerance must be below 1, got 1"),
        ("seed", 10**19, ValueError, "seed must be at most 4294967295, got 10"),
        ("network", None, TypeError, "network must be a string, got None"),
        ("precision", "low", ValueError, "precision must be one of default, high, highest, got 'low'"),
    ],
)
def test_wrong_values_are_refused_by_name(name, value, error, message):
    with pytest.raises(error, match=message):
        with_options(BASE, {name: value})


def test_what_none_means_is_told():
    assert BY_NAME["features"].text(None) == "all"
    assert BY_NAME["floor"].text(None) == "none"
    for option in OPTIONS:
        if option.none is not None:
            option.check(None)


def test_equal_numbers_of_another_type_are_equal_experiments():
    assert with_options(BASE, {"power": 1, "std": 1}) == with_options(BASE, {"power": 1.0, "std": 1.0})
