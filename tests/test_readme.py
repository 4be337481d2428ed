"""The README's Python examples run, and the inversion in them succeeds."""

import re
from pathlib import Path

import numpy as np
import pytest

import jifv

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_there_are_examples():
    assert len(BLOCKS) == 2


@pytest.mark.parametrize("block", BLOCKS, ids=("library", "networks"))
def test_example_runs(block):
    namespace = {}
    exec(compile(block, "README.md", "exec"), namespace)
    if "inversion" in namespace:
        angles = jifv.angle(namespace["inversion"].objective, namespace["targets"])
        assert np.median(angles) < 10


def test_every_file_it_shows_or_links_to_exists():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (Path(__file__).parent.parent / target).is_file(), target
