from dataclasses import replace

import numpy as np
import pytest
from support.toy import FEATURES, TOY, network, response, scores

import jifv
from jifv.experiments import estimate as cost
from jifv.experiments.estimate import Cost, estimate, measure_step
from jifv.experiments.problem import problem_of

STEP = Cost(0.5, 2.0**30)


@pytest.fixture(scope="module")
def problem():
    return problem_of(TOY, network(scores))


def test_time_is_that_of_all_gradients(problem):
    settings = replace(TOY.settings, adam_steps=100, lbfgs_steps=50)
    found = estimate(replace(TOY, settings=settings, reoptimize_steps=7), problem, STEP, realize=3, reoptimize=2)
    visualized, rows, again = 100 + 1.2 * 50, FEATURES * 2 / 3, 4 * 7
    assert found.seconds == pytest.approx(0.5 * (3 * (visualized + rows) + 2 * again))
    assert estimate(TOY, problem, STEP, realize=0, reoptimize=0).seconds == 0


def test_memory_is_that_of_the_largest_stage(problem):
    entries = 12 * 12 * 3 * 4  # bytes of p
    jacobian = estimate(replace(TOY, samples=2), problem, STEP, realize=1, reoptimize=1).bytes - STEP.bytes
    assert jacobian == max(3 * FEATURES * entries, 2 * entries * (8 + 2 * TOY.settings.history))
    wide = problem._replace(objectives=np.zeros((8, 1000)))
    assert estimate(TOY, wide, STEP, realize=1, reoptimize=1).bytes - STEP.bytes == 3 * 1000 * entries


def test_measuring_compiles_what_visualization_uses(problem):
    traced = []

    def counted(p):
        traced.append(1)
        return response(p)

    experiment = replace(TOY, settings=replace(TOY.settings, adam_steps=2, lbfgs_steps=0))
    step = measure_step(experiment, problem._replace(f=counted))
    assert step.seconds > 0
    assert step.bytes > 2**20
    before = len(traced)
    batch = slice(None, min(TOY.batch_size, TOY.samples))
    jifv.visualize(
        counted,
        problem.start[batch],
        problem.objectives[batch],
        significance=experiment.significance,
        settings=experiment.settings,
    )
    assert len(traced) - before == 1  # by the checks of shapes


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.1, "about 1 s"), (119, "about 119 s"), (120, "about 2 min"), (7200, "about 2 h")]
)
def test_in_words(seconds, words):
    assert cost.text(Cost(seconds, 1.5 * 2**30)) == f"{words}, 1.5 GiB"
