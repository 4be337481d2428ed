"""`--parametrization maco`: its own pictures are inverted, and those of another spectrum refused."""

import numpy as np
import pytest
from PIL import Image
from support.command import call, check_refused, rows

MACO = ("--network", "toy", "--parametrization", "maco", "--batch-size", 2)

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture(scope="module")
def made(toys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("maco")
    features = ("--feature", 0, "--feature", 3, "--adam-steps", 120)
    result = call("visualize", *MACO, *features, "--out", folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.mark.slow
def test_its_own_pictures_are_inverted(made, tmp_path):
    pictures = [made / "0-feature-0.png", made / "1-feature-3.png"]
    for name, arguments in (("run", [made / "realizations.zarr"]), ("files", [*pictures, *MACO])):
        out = tmp_path / name
        result = call("invert", *arguments, "--reoptimize-steps", 0, "--batch-size", 2, "--out", out)
        assert result.exit_code == 0, result.output
        assert [row["feature_1"] for row in rows(out)] == ["feature 0", "feature 3"]


@pytest.mark.parametrize("command", [("invert",), ("audit", "--claim", 0)])
def test_other_pictures_are_refused_before_any_work(tmp_path, command):
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    arguments = MACO if command[0] == "invert" else MACO[:4]
    result = call(*command, tmp_path / "noise.png", *arguments, "--out", tmp_path / "a")
    check_refused(result, 1, "noise.png must have the spectrum of the parametrization", tmp_path / "a")


def test_a_standard_deviation_is_refused(tmp_path):
    result = call("visualize", *MACO, "--feature", 0, "--std", 0.1, "--out", tmp_path / "a")
    check_refused(result, 2, "has no meaning for maco", tmp_path / "a")
