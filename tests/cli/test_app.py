import os
import re
import subprocess
import sys
from importlib import metadata

import pytest
from support.command import call

from jifv._core.provenance import commit


def test_version_is_that_of_the_package_and_of_the_checkout():
    result = call("--version")
    found = commit()
    assert result.exit_code == 0
    assert result.output == f"jifv {metadata.version('jifv')}" + (f", commit {found}\n" if found else "\n")


def test_without_arguments_there_is_help():
    output = call(env={"COLUMNS": "120", "NO_COLOR": "1"}).output
    assert re.search(r"reproduce +Reproduce an experiment of the paper", output)
    assert re.search(r"models +List the networks", output)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_help_and_errors_are_told_in_any_encoding(encoding):
    for arguments in (["reproduce", "--help"], ["reproduce", "nothing"], ["models", "list"]):
        result = call(*arguments, charset=encoding, env={"COLUMNS": "80", "NO_COLOR": "1"})
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert "?" not in result.output.replace("Try", "")


def test_module_is_the_command():
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    command = [sys.executable, "-m", "jifv", "reproduce", "dncl", "--power", "inf"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 2
    assert "power must be finite and >= 0, got inf" in result.stderr
