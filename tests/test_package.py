"""What the wheel holds, and that the folder models/ is jifv.models and nothing else once installed."""

import configparser
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PIP = [sys.executable, "-m", "pip"]
BESIDE = ("README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "SECURITY.md")
"""What belongs to the source distribution beside the code."""


def installed(name):
    """The major version of a distribution, 0 where there is none. Asked without importing it."""
    try:
        return int(importlib.metadata.version(name).split(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return 0


pytestmark = [
    pytest.mark.skipif(installed("pip") < 23, reason="the wheel is built with pip >= 23"),
    pytest.mark.skipif(installed("setuptools") < 77, reason="the wheel is built with setuptools >= 77"),
]


def run(*command, cwd, check=True):
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1"}
    environment.pop("PYTHONPATH", None)
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    if check and result.returncode:
        pytest.fail(f"{command} failed:\n{result.stdout}\n{result.stderr}")
    return result


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what the wheel is built from: pip writes into the folder that it builds in."""
    copy = tmp_path_factory.mktemp("source")
    for name in ["pyproject.toml", "MANIFEST.in", *BESIDE]:
        shutil.copy(ROOT / name, copy)
    for name in ["jifv", "models"]:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ".", cwd=source)
    (path,) = folder.iterdir()
    return path


def files_of(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata_of(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [entry for entry in archive.namelist() if entry.endswith(f".dist-info/{name}")]
        return archive.read(path).decode()


def test_the_wheel_holds_every_module_and_every_weight(source, wheel):
    expected = {"jifv/py.typed"}
    for ending in ("html", "css", "js"):
        expected |= {path.relative_to(source).as_posix() for path in source.glob(f"jifv/**/*.{ending}")}
    for path in source.glob("jifv/**/*.py"):
        expected.add(path.relative_to(source).as_posix())
    for path in [*source.glob("models/**/*.py"), *source.glob("models/weights/*.*")]:
        expected.add("jifv/" + path.relative_to(source).as_posix())
    assert "jifv/models/__init__.py" in expected
    assert {name for name in files_of(wheel) if ".dist-info/" not in name} == expected


def test_the_wheel_has_one_top_level_name(wheel):
    assert {name.split("/")[0] for name in files_of(wheel)} == {
        "jifv",
        f"jifv-{PROJECT['version']}.dist-info",
    }


def test_the_wheel_carries_the_licence(wheel):
    licence = metadata_of(wheel, "licenses/LICENSE")
    assert licence == (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence
    assert "License-Expression: Apache-2.0" in metadata_of(wheel, "METADATA")


def test_the_wheel_declares_the_command(wheel):
    scripts = configparser.ConfigParser()
    scripts.read_string(metadata_of(wheel, "entry_points.txt"))
    assert dict(scripts["console_scripts"]) == {"jifv": "jifv.cli:app"}


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    code = f"import setuptools.build_meta as backend; backend.build_sdist({str(folder)!r})"
    # What lies about in the tree must not get in.
    for name in (
        "tests/test_one.py",
        "benchmarks/results/one.json",
        "docs/conf.py",
        "runs/dncl/report.html",
        ".ci/run",
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("")
    (source / "jifv" / "__pycache__").mkdir()
    (source / "jifv" / "__pycache__" / "one.cpython-311.pyc").write_text("")
    run(sys.executable, "-c", code, cwd=source)
    (path,) = folder.iterdir()
    return path


def test_the_source_distribution_holds_what_the_wheel_is_built_from(sdist, wheel):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if not archive.getmember(name).isdir()}
    code = {name for name in files_of(wheel) if ".dist-info/" not in name}
    expected = {name.replace("jifv/models/", "models/") for name in code}
    made = {"PKG-INFO", "setup.cfg"}
    found = {name for name in names if ".egg-info/" not in name}
    assert found == expected | {"pyproject.toml", "MANIFEST.in", *BESIDE} | made


@pytest.mark.slow
def test_the_wheel_of_the_source_distribution_is_that_of_the_tree(sdist, wheel, tmp_path):
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, sdist, cwd=tmp_path)
    (other,) = tmp_path.glob("*.whl")
    assert files_of(other) == files_of(wheel)


@pytest.mark.slow
def test_twine_accepts_both(sdist, wheel):
    pytest.importorskip("twine", reason="the extra `release` brings it")
    checked = run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel, cwd=ROOT).stdout
    assert checked.count("PASSED") == 2


@pytest.mark.parametrize("path", sorted((ROOT / "models" / "weights").glob("*.safetensors")), ids=lambda it: it.stem)
def test_each_weight_has_a_card_that_says_what_one_must_know(path):
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    for subject in ("Accuracy", "Data", "Recipe", "Licence"):
        assert re.search(rf"^- {subject}: \S", card, re.MULTILINE), subject
    assert "Apache-2.0" in re.search(r"^- Licence: (.*)$", card, re.MULTILINE)[1]


def test_the_citation_is_of_this_version_and_of_the_paper():
    yaml = pytest.importorskip("yaml", reason="Zarr brings it")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    paper = citation["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == ["Reinbold", "Westermann"]
    assert paper["title"].startswith("Inverting the Feature Visualization Process")


def test_the_changelog_knows_this_version():
    assert f"\n## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_lowest_versions_are_the_lower_bounds():
    # Tools that neither jifv nor a test imports have no part in the lowest set.
    tools = ("ruff", "pyright", "setuptools")
    required = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]
    bounds = dict(line.split(">=") for line in required if not line.startswith(tools))
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert pinned.pop("jaxlib") == pinned["jax"]

    def release(version):
        return [*map(int, version.split(".")), 0, 0][:3]

    def releases(versions):
        return {name: release(version) for name, version in versions.items()}

    assert releases(pinned) == releases(bounds)


@pytest.mark.parametrize(("extra", "file"), [("test", "requirements-dev.txt"), ("docs", "requirements-docs.txt")])
def test_pinned_requirements_are_whole_hashed_and_within_the_bounds(extra, file):
    """They are refreshed by `.ci/pin`, also when a dependency is added; they name no index."""
    text = (ROOT / file).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.+!]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    assert "://" not in text
    pinned = dict(line.split()[0].split("==") for line in lines)
    assert lines == sorted(lines)
    assert len(pinned) == len(lines)
    for each in PROJECT["dependencies"] + PROJECT["optional-dependencies"][extra]:
        wanted = Requirement(each)
        assert wanted.specifier.contains(pinned[wanted.name]), each


@pytest.fixture(scope="module", params=["wheel", "editable"])
def binaries(request, source, wheel, tmp_path_factory):
    """A fresh environment that has jifv, and borrows everything else from the one that runs the tests."""
    folder = tmp_path_factory.mktemp(request.param)
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    binaries = folder / ("Scripts" if os.name == "nt" else "bin")
    python = binaries / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).stdout.strip())
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "borrowed.pth").write_text("\n".join(sorted(borrowed)))
    what = [wheel] if request.param == "wheel" else ["--no-build-isolation", "--editable", source]
    # --ignore-installed: the borrowed environment may have jifv as well, and that one must stay as it is.
    run(*PIP, "--python", python, "install", "--no-deps", "--ignore-installed", *what, cwd=folder)
    return binaries


@pytest.mark.slow
def test_models_import_as_part_of_jifv(binaries, tmp_path):
    code = "import jifv, jifv.models; print(jifv.__file__); print(jifv.models.__file__)"
    package, models = run(binaries / "python", "-c", code, cwd=tmp_path).stdout.split()
    assert ROOT not in Path(package).parents
    assert ROOT not in Path(models).parents
    assert Path(models).parent.name == "models"


@pytest.mark.slow
def test_no_top_level_name_models(binaries, tmp_path):
    result = run(binaries / "python", "-c", "import models", cwd=tmp_path, check=False)
    assert "ModuleNotFoundError: No module named 'models'" in result.stderr


@pytest.mark.slow
def test_the_weights_are_beside_the_models(binaries, source, tmp_path):
    code = (
        "import importlib.resources as r\n"
        "print(*sorted(f.name for f in (r.files('jifv.models') / 'weights').iterdir()), sep='\\n')"
    )
    found = run(binaries / "python", "-c", code, cwd=tmp_path).stdout.split()
    assert found == sorted(path.name for path in source.glob("models/weights/*.*"))


@pytest.mark.slow
def test_the_command_runs(binaries, tmp_path):
    result = run(binaries / "jifv", "--help", cwd=tmp_path)
    assert "Usage" in result.stdout
