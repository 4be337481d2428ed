from dataclasses import replace

import pytest
from support.toy import FEATURES, TOY, network, response, scores

import jifv
from jifv.experiments import estimate as cost
from jifv.experiments.estimate import Cost, Step, estimate, measure_step, programs
from jifv.experiments.experiment import with_options
from jifv.experiments.problem import problem_of

SAMPLE = 12 * 12 * 3 * 4  # bytes of p
STEP = Step(0.5, 3.0, 2.0**30, devices=1, rows=2, sample_bytes=SAMPLE)


def test_time_is_that_of_all_gradients():
    settings = replace(TOY.settings, adam_steps=100, lbfgs_steps=50)
    experiment = replace(TOY, settings=settings, reoptimize_steps=7)
    found = estimate(experiment, STEP, features=FEATURES, realize=3, reoptimize=2)
    visualized, rows, again = 100 + 1.2 * 50, FEATURES * 2 / 3, 4 * 7
    assert found.seconds == pytest.approx(0.5 * (3 * (visualized + rows) + 2 * again))
    waking = replace(experiment, settings=replace(settings, redirected_steps=16))
    more = estimate(waking, STEP, features=FEATURES, realize=3, reoptimize=2).seconds - found.seconds
    assert more == pytest.approx(0.5 * 3 * 16)
    assert estimate(TOY, STEP, features=FEATURES, realize=0, reoptimize=0).seconds == 0
    assert estimate(TOY, STEP, features=FEATURES, realize=0, reoptimize=0, compilations=2).seconds == 2 * 3


def test_programs_are_those_of_response_step_and_jacobian():
    assert len(programs(TOY)) == 2
    assert len(programs(TOY, jacobians=False)) == 1

    def anew(**changes):
        return len(programs(with_options(TOY, changes)) - programs(TOY))

    assert anew(seed=3, adam_steps=7, reoptimize_steps=2, name="other") == 0
    assert anew(power=1) == 1  # a step alone
    assert anew(adam_precision="default") == 1
    assert anew(redirected_steps=16) == 1
    for change in ({"features": 3}, {"smoothing": 0.1}, {"std": 0.5}, {"parametrization": "fourier"}):
        assert anew(**change) == 2


def test_memory_is_that_of_the_largest_stage():
    def beyond(step, features):
        return estimate(TOY, step, features=features, realize=1, reoptimize=1).bytes - step.bytes

    assert beyond(STEP, FEATURES) == max(3 * FEATURES * SAMPLE, 2 * SAMPLE * (8 + 2 * TOY.settings.history))
    assert beyond(STEP, 1000) == 3 * 1000 * SAMPLE
    assert beyond(STEP._replace(devices=2), 1000) == 2 * 3 * 1000 * SAMPLE


def test_measuring_compiles_what_visualization_uses():
    problem, traced = problem_of(TOY, network(scores)), []

    def counted(p):
        traced.append(1)
        return response(p)

    experiment = replace(TOY, settings=replace(TOY.settings, adam_steps=2, lbfgs_steps=0))
    step = measure_step(experiment, problem._replace(f=counted))
    assert step.seconds > 0
    assert step.compilation > 0
    assert step.bytes > 2**20
    assert (step.devices, step.rows, step.sample_bytes) == (1, min(TOY.batch_size, TOY.samples), SAMPLE)
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
