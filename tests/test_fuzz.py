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

HERE, HELPERS = Path(jifv.__file__).parent, Path(__file__).parent / "support"


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


REFUSED = set(list(BAD)[:2] + list(BAD)[3:9]) | {"complex numbers"}
"""What is no array of numbers, or loses its imaginary part, is never taken."""


WITHOUT = {"canonical_objectives", "sparse_objectives", "compose"}
"""Cases whose arrays only carry a seed or a type, or go to the function that was given."""


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", sorted(set(CASES) - WITHOUT))
def test_what_is_no_argument(name, bad):
    case = CASES[name]
    good = tuple(np.asarray(array, np.float32) for array in case.draw(np.random.default_rng(0)))
    for index, array in enumerate(good):
        value = BAD[bad](array)
        arguments = (*good[:index], value, *good[index + 1 :])
        try:
            result = case.call(*arguments)
        except Exception as raised:
            error = raised
        else:
            assert bad not in REFUSED, f"argument {index} was accepted"
            kinds = {np.asarray(leaf).dtype.kind for leaf in jax.tree.leaves(result)}
            assert kinds <= set("fbiu"), f"argument {index} gave {kinds}"
            continue
        frames = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
        ours = [index for index, frame in enumerate(frames) if HERE in frame.parents]
        if not ours or any(HELPERS in frame.parents for frame in frames[ours[0] :]):
            continue  # on the way to our function, or within the one that was given
        if isinstance(error, UserWarning | RuntimeWarning):
            continue
        said = f"argument {index}: {type(error).__name__}: {error}"
        assert isinstance(error, (TypeError, ValueError)), said
        assert HERE in frames[-1].parents, f"{said} (raised by {frames[-1].name})"
        assert str(error)[0].islower(), said  # the name of the argument
