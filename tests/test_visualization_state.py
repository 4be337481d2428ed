"""Optimization in parts: interrupted, saved, loaded and continued as if nothing had happened."""

import os
import re
import zlib
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization
from support.responses import SHORT, N, assert_same, bounded, kinked, run, samples

from jifv.significance import Significance
from jifv.visualization import advance, finish, finished, load_state, save_state, start

# Saving and continuing


@pytest.mark.parametrize("splits", [[1] * 40, [7, 8, 3, 2, 20], [15, 25], [0, 16, 24]])
def test_interrupted_runs_are_the_same_to_the_bit(splits, tmp_path):
    parameters, objectives = samples(3, 3, 2)
    begin = start(kinked, parameters, objectives, settings=SHORT)
    whole = advance(kinked, begin, sum(splits))
    assert (whole.lbfgs_steps > 3).all()  # it ends within L-BFGS
    assert whole.active.any()
    state = begin
    for steps in splits:
        state = advance(kinked, state, steps)
        save_state(tmp_path / "state", state)
        state = load_state(tmp_path / "state", begin)
    assert_same(state, whole)
    end = advance(kinked, whole)
    assert_same(advance(kinked, state), end)
    assert_same(finish(kinked, end), run(kinked, parameters, objectives, SHORT))


@pytest.mark.parametrize("splits", [[1] * 30, [4, 26], [16, 14]])
def test_samples_that_stop_by_themselves_are_the_same_to_the_bit(splits):
    """Some in Adam and some in L-BFGS; steps that no sample takes are none."""
    parameters, objectives = samples(4, N)
    settings = replace(SHORT, adam_steps=20, anneal=1.0, tolerance=0.1)
    begin = start(bounded, parameters, objectives, settings=settings)
    whole = advance(bounded, begin, sum(splits))
    assert whole.adam_steps.min() < 20
    assert finished(whole)
    state = begin
    for steps in splits:
        state = advance(bounded, state, steps)
    assert_same(state, whole)


def test_states_are_never_changed():
    parameters, objectives = samples(3, 3, 2)
    state = advance(kinked, start(kinked, parameters, objectives, settings=SHORT), 20)
    before = jax.tree.map(np.array, state)
    first = advance(kinked, state, 5)
    assert_same(state, before)
    assert_same(advance(kinked, state, 5), first)


def test_continuing_compiles_nothing(tmp_path):
    traces = 0

    def f(p):
        nonlocal traces
        traces += 1
        return bounded(p)

    begin = start(f, *samples(2, N), settings=SHORT)
    advance(f, begin, 18)
    traces = 0
    save_state(tmp_path / "state", begin)
    advance(f, load_state(tmp_path / "state", begin))
    assert traces == 0


def test_finished():
    state = start(bounded, *samples(2, N), settings=SHORT)
    assert not finished(state)
    state = advance(bounded, state, 15)
    assert not finished(state)
    state = advance(bounded, state)
    assert finished(state)
    assert_same(advance(bounded, state), state)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    state = start(bounded, *samples(2, N), settings=SHORT)
    path = tmp_path / "state"
    save_state(path, state)
    content = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_state(path, advance(bounded, state, 3))
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["state"]


def test_loading_errors(tmp_path):
    state = start(bounded, *samples(2, N), settings=SHORT)
    path = tmp_path / "state"
    with pytest.raises(FileNotFoundError):
        load_state(path, state)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="does not hold the state of a visualization"):
        load_state(path, state)
    save_state(path, state)
    with pytest.raises(ValueError, match=r"has float32\(2, 4\) for \.parameters, expected float32\(3, 4\)"):
        load_state(path, start(bounded, *samples(3, N), settings=SHORT))


def test_every_flipped_bit_of_a_state_is_noticed(tmp_path):
    state, path = start(bounded, *samples(2, N), settings=SHORT), tmp_path / "state"
    save_state(path, state)
    whole = path.read_bytes()
    for bit in np.random.default_rng(0).choice(8 * len(whole), 300, replace=False):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            load_state(path, state)


@pytest.mark.parametrize("parts", [[], {"run": 3, "leaves": {}}, {"run": {}, "leaves": []}, {"run": {}}])
def test_states_in_another_form_are_refused(tmp_path, parts):
    content = serialization.msgpack_serialize(parts)
    kept = {"checksum": zlib.crc32(content), "content": content}
    (tmp_path / "state").write_bytes(serialization.msgpack_serialize(kept))
    with pytest.raises(ValueError, match="state does not hold the state of a visualization"):
        load_state(tmp_path / "state", start(bounded, *samples(2, N), settings=SHORT))


def test_steps_must_not_be_negative():
    state = start(bounded, *samples(2, N), settings=SHORT)
    with pytest.raises(ValueError, match="steps must be at least 0, got -1"):
        advance(bounded, state, -1)


def near(r, v):
    return -jnp.sum((r - v) ** 2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"settings": replace(SHORT, history=3)}, r"written with settings\.history 10, not 3"),
        ({"settings": replace(SHORT, learning_rate=0.2)}, r"written with settings\.learning_rate 0\.1, not 0\.2"),
        (
            {"significance": Significance(1)},
            r"written with significance Significance\(power=2\.0.*, not Sig.*power=1\.0",
        ),
        ({"significance": near}, r"written with significance Significance\(power=2\.0.*, not near"),
    ],
)
def test_states_of_other_runs_are_refused(changed, message, tmp_path):
    save_state(tmp_path / "state", start(bounded, *samples(2, N), settings=SHORT))
    template = start(bounded, *samples(2, N), **({"settings": SHORT} | changed))
    with pytest.raises(ValueError, match=message):
        load_state(tmp_path / "state", template)


def test_a_state_of_other_objectives_is_refused(tmp_path):
    parameters, objectives = samples(2, N)
    save_state(tmp_path / "state", start(bounded, parameters, objectives, settings=SHORT))
    with pytest.raises(ValueError, match="was written with other objectives"):
        load_state(tmp_path / "state", start(bounded, parameters, objectives[::-1], settings=SHORT))
    # Other parameters are no other run: they are what changes.
    load_state(tmp_path / "state", start(bounded, parameters + 1, objectives, settings=SHORT))


def test_a_run_goes_on_with_what_it_was_started_with(tmp_path):
    parameters, objectives = samples(2, N)
    options = {"significance": near, "settings": replace(SHORT, adam_steps=4, lbfgs_steps=6)}
    begin = start(bounded, parameters, objectives, **options)
    save_state(tmp_path / "state", advance(bounded, begin, 6))
    state = load_state(tmp_path / "state", begin)
    assert (state.significance, state.settings) == (near, options["settings"])
    assert_same(finish(bounded, advance(bounded, state)), run(bounded, parameters, objectives, **options))


def test_a_state_is_told_in_a_line():
    text = repr(start(bounded, *samples(2, N), settings=SHORT))
    assert text == f"State(2 samples, step 0, Significance(power=2.0, floor=0.1), {SHORT})"
