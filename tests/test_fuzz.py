"""Every array argument of every public function, replaced by what is none: an error of ours, or a result that says so.

The search of which tests/test_arguments.py and the table of conformance keep the findings.
"""

import traceback
from pathlib import Path

import jax
import numpy as np
import pytest
from support.conformance_table import CASES

import jifv

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::jifv.inversion.NotStationaryWarning"),
    pytest.mark.usefixtures("unchecked"),
]

HERE = Path(jifv.__file__).parent


class Unprintable:
    def __repr__(self):
        return "<something>"


BAD = {
    "nothing": lambda array: None,
    "a text": lambda array: "text",
    "a number": lambda array: 3,
    "a list": lambda array: array.tolist(),
    "a dictionary": lambda array: {"a": array},
    "an object": lambda array: Unprintable(),
    "a function": lambda array: len,
    "objects": lambda array: np.full(array.shape, None),
    "texts": lambda array: np.full(array.shape, "a"),
    "integers": lambda array: np.ones(array.shape, int),
    "truths": lambda array: np.ones(array.shape, bool),
    "complex numbers": lambda array: array + 1j,
    "a scalar": lambda array: array.reshape(-1)[0],
    "an axis more": lambda array: array[None, None, None],
    "an axis less": lambda array: array[0],
    "an entry more": lambda array: np.concatenate([array, array[-1:]]),
    "no entries": lambda array: array[:0],
    "NaN": lambda array: np.full_like(array, np.nan),
    "infinity": lambda array: np.full_like(array, np.inf),
    "zeros": np.zeros_like,
    "large numbers": lambda array: np.full_like(array, 3e38),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", CASES)
def test_what_is_no_argument(name, bad):
    case = CASES[name]
    good = tuple(np.asarray(array, np.float32) for array in case.draw(np.random.default_rng(0)))
    for index, array in enumerate(good):
        value = BAD[bad](array)
        arguments = (*good[:index], value, *good[index + 1 :])
        try:
            result = case.call(*arguments)
        except (TypeError, ValueError) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            assert HERE in Path(last.filename).parents, f"argument {index}: {error} is raised by {last.filename}"
            assert str(error)[0].islower(), error  # which begins with the name of the argument
            continue
        kinds = {np.asarray(leaf).dtype.kind for leaf in jax.tree.leaves(result)}
        assert kinds <= set("fbiu"), f"argument {index} gave {kinds}"
        if bad in ("nothing", "a text", "a dictionary", "an object", "a function", "objects", "texts", "a list"):
            pytest.fail(f"argument {index} was accepted")
        if bad == "complex numbers":
            pytest.fail(f"argument {index} lost its imaginary part")
