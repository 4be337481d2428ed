import numpy as np
import pytest
from typer.testing import CliRunner

from jifv.cli.models import app
from jifv.models import read_weights
from jifv.models.files.convert import Converted


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JIFV_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def converted(monkeypatch):
    """What `convert` gives for any file: one small array."""

    def set_name(name):
        variables = {"params": {"a": np.ones(2, np.float32)}}
        result = Converted(name, variables, {"file": "file.pth", "sha256": "12ab"})
        monkeypatch.setattr("jifv.models.convert", lambda path: result)

    return set_name


def call(*arguments, columns=120):
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": str(columns), "NO_COLOR": "1"})
    assert "Traceback" not in result.output
    return result


@pytest.mark.parametrize("columns", [80, 200])
def test_list(cache, columns):
    result = call("list", columns=columns)
    assert result.exit_code == 0, result.output
    for name in ("densenet", "densenet-no-deer", "googlenet", "googlenet-bvlc", "srnet"):
        assert f" {name} " in result.output
    for words in ("not here", "Apache-2.0", "BVLC", "69.8% top-1", "3.2"):
        assert words in result.output
    assert "googlenet: run `jifv models fetch googlenet`, or `jifv models convert googlenet --from" in result.output


def test_list_says_where_the_weights_are(cache):
    cache.mkdir()
    (cache / "googlenet.safetensors").write_bytes(bytes(12_345_678))
    output = call("list").output
    assert f"googlenet: {cache / 'googlenet.safetensors'}\n" in output
    assert "12.3" in output


def test_show():
    result = call("show", "densenet")
    assert result.exit_code == 0
    layers = "Layers, with their channels: stem (24), dense1.0 (12), "
    for words in ("Accuracy", "Licence", layers, "transition2 (150)", ", classifier (10)"):
        assert words in " ".join(result.output.split())


@pytest.mark.parametrize(("name", "message"), [("googlenet", "fetch googlenet"), ("nothing", "name must be one of")])
def test_show_what_is_not_there(name, message):
    result = call("show", name)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("asked", "found"), [("googlenet", "googlenet"), ("googlenet", "googlenet-bvlc"), ("googlenet-bvlc",) * 2]
)
def test_convert_into_the_cache(cache, converted, asked, found):
    converted(found)
    result = call("convert", asked, "--from", "file.pth")
    assert result.exit_code == 0, result.output
    assert result.output == f"{found}: {cache / found}.safetensors\n"
    assert read_weights(cache / f"{found}.safetensors")[1]["file"] == "file.pth"


def test_convert_to_a_file(tmp_path, cache, converted):
    converted("densenet")
    result = call("convert", "densenet", "--from", "file.pth", "--to", tmp_path / "mine.safetensors")
    assert (result.exit_code, result.output) == (0, f"densenet: {tmp_path / 'mine.safetensors'}\n")
    assert read_weights(tmp_path / "mine.safetensors")
    assert not cache.exists()


@pytest.mark.parametrize(
    ("found", "arguments", "message"),
    [
        ("densenet", ["googlenet", "--from", "f"], "f holds densenet, not googlenet"),
        ("googlenet", ["googlenet-bvlc", "--from", "f"], "f holds googlenet, not googlenet-bvlc"),
        ("densenet", ["densenet", "--from", "f"], "--to FILE is needed"),
        ("googlenet", ["googlenet", "--from", "f", "--to", "f.npz"], "path must end in .safetensors, got f.npz"),
    ],
)
def test_what_convert_refuses(cache, converted, found, arguments, message):
    converted(found)
    result = call("convert", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not cache.exists()


def test_convert_of_a_file_that_is_not_there(tmp_path):
    result = call("convert", "googlenet", "--from", tmp_path / "none.pth")
    assert result.exit_code == 1
    assert f"jifv: no weights at {tmp_path / 'none.pth'}" in result.stderr


def test_fetch(cache, monkeypatch):
    seen = {}

    def fetch(name, **options):
        seen.update(options, name=name)
        return cache / "googlenet.safetensors"

    monkeypatch.setattr("jifv.models.fetch", fetch)
    result = call("fetch", "googlenet", "--url", "http://mirror/g.pth", "--quiet")
    assert (result.exit_code, result.output) == (0, f"googlenet: {cache / 'googlenet.safetensors'}\n")
    assert seen == {"name": "googlenet", "url": "http://mirror/g.pth", "progress": False}
    call("fetch", "googlenet")
    assert seen == {"name": "googlenet", "url": None, "progress": True}


def test_fetch_without_a_network():
    result = call("fetch", "googlenet", "--url", "http://127.0.0.1:1/googlenet-1378be20.pth", "--quiet")
    assert result.exit_code == 1
    assert "cannot download http://127.0.0.1:1/" in result.stderr
    assert "jifv models convert googlenet --from googlenet-1378be20.pth" in result.stderr


def test_fetch_of_what_is_not_published():
    result = call("fetch", "densenet")
    assert result.exit_code == 1
    assert "name must be one of googlenet" in result.stderr


def test_help():
    for command, words in {"fetch": "--url", "convert": "--from", "list": "list", "show": "NAME"}.items():
        result = call(command, "--help")
        assert result.exit_code == 0
        assert words.lower() in result.output.lower()
