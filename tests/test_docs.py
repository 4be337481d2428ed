"""The documentation: nothing public is missing, links lead somewhere, examples and tutorials run, the site builds."""

import importlib.util
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import zlib
from functools import partial
from pathlib import Path

import jax
import pytest

import jifv
import jifv.models

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TUTORIALS = sorted((DOCS / "tutorials").glob("*.py"))

_spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)


# The reference.


def public_modules():
    """Every module that a user may import, but the laboratory, the command and the recipes of training."""
    below = (jifv.models.__path__, "jifv.models.")
    found = [f"jifv.{it.name}" for it in pkgutil.iter_modules(jifv.__path__)] + ["jifv.models"]
    assert [it.name for it in pkgutil.iter_modules(*below)]  # its modules are private in all but name: see its __all__
    hidden = ("jifv._", "jifv.experiments", "jifv.cli")
    return sorted({name for name in found if not name.startswith(hidden)})


def public_values(module):
    """What of a module a user may use and what was made there, by looking at the module and not at its source."""
    loaded = importlib.import_module(module)
    for name in getattr(loaded, "__all__", dir(loaded)):
        value = getattr(loaded, name)
        made_here = getattr(value, "__module__", None) == module
        if not name.startswith("_") and (hasattr(loaded, "__all__") or made_here) and not inspect.ismodule(value):
            yield name, value


def test_the_reference_has_every_public_module():
    assert sorted(reference.modules()) == public_modules()


def test_the_reference_has_every_public_name():
    documented = reference.documented()
    assert {f"jifv.{name}" for name in jifv.__all__} <= set(documented)
    ids = {
        id(getattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2])) for name in documented
    }
    missing = [f"{module}.{name}" for module in public_modules() for name, value in public_values(module)
               if f"{module}.{name}" not in documented and id(value) not in ids]  # fmt: skip
    assert missing == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("`angle` of (*batch, n)", r":py:obj:`angle <jifv.angle>` of (\*batch, n)"),
        ("where |d| is `None`", r"where \|d\| is ``None``"),
        ("`jifv.inversion.FAR`", ":py:obj:`jifv.inversion.FAR <jifv.inversion.FAR>`"),
        ("    *transformations: Each τ.", "    *transformations: Each τ."),
    ],
)
def test_docstrings_are_no_markup(line, expected):
    assert reference._escaped(line, "jifv.smooth") == expected


def test_signatures_are_those_of_the_source():
    signature, returns = reference._signature(None, "function", "", jifv.angle, None, "", "")
    assert signature.startswith("(a: Float[Array | np.ndarray, '*#batch n'], b: ")
    assert returns == "Float[Array, '*batch']"
    signature, _ = reference._signature(None, "class", "", jifv.Significance, None, "", "")
    assert signature == "(power: float = 2.0, floor: float | None = 0.1)"


# Links.


def links(text):
    code = re.sub(r"^(`{3,}).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", code))


def anchors(path):
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^(`{3,}).*?^\1", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES, *TUTORIALS], ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    for link in links(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        path = page.parent / target if target else page
        assert path.is_file(), link
        if anchor:
            assert anchor in set(anchors(path)), link


def test_every_page_and_tutorial_is_in_the_contents():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    contents = "\n".join(re.findall(r"^```{toctree}\n(.*?)^```", index, re.MULTILINE | re.DOTALL))
    entries = {line for line in contents.splitlines() if line and not line.startswith(":")}
    pages = {path.stem for path in PAGES} - {"index"}
    assert pages | {f"tutorials/{path.stem}" for path in TUTORIALS} <= entries


# Examples.


def blocks(page, kind=""):
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```python{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """What the pages take for granted, small; optimizers stop after two steps unless told otherwise."""
    monkeypatch.chdir(tmp_path)
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 3, 5)) / 5

    def network(x):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.nn.softplus(
            jax.lax.conv_general_dilated(x[None], kernel, (1, 1), "VALID", dimension_numbers=layout)[0]
        )

    short = partial(jifv.visualize, settings=jifv.Settings(adam_steps=2, lbfgs_steps=0))
    phi = jifv.pixels((12, 12, 3), std=0.5)
    f = jifv.compose(phi.apply, network, jifv.mean)
    targets = jifv.sparse_objectives(jax.random.key(1), 3, 5)
    start = jax.vmap(phi.init)(jax.random.split(jax.random.key(2), 3))
    realizations = short(f, start, targets)
    monkeypatch.setattr(jifv, "visualize", short)
    return {
        "jax": jax, "jifv": jifv, "phi": phi, "f": f, "network": network, "targets": targets, "start": start,
        "parameters": start, "realizations": realizations,
    }  # fmt: skip


EXAMPLES = [
    ("confidence", ""),
    ("critical", ""),
    ("networks", " compose"),
    pytest.param("priors", "", marks=pytest.mark.slow),
]


@pytest.mark.filterwarnings("ignore::jifv.inversion.NotStationaryWarning")
@pytest.mark.parametrize(("page", "kind"), EXAMPLES, ids=("confidence", "critical", "networks", "priors"))
def test_examples_run(page, kind, toy):
    code = "\n".join(blocks(DOCS / f"{page}.md", kind))
    assert code
    if page == "networks":
        code = code.replace("32, 32", "12, 12")
    if page == "critical":
        code = code.replace("spaces[0].basis", "bases[0]").replace("inversion =", "bases = [np.eye(5)]\ninversion =", 1)
    exec(compile(code, f"docs/{page}.md", "exec"), toy)


def test_example_of_resuming_runs(toy):
    _, code = blocks(DOCS / "results.md")
    exec(compile(code.replace("adam_steps=200", "adam_steps=4"), "docs/results.md", "exec"), toy)
    assert toy["realizations"].adam_steps.tolist() == [4, 4, 4]


@pytest.mark.filterwarnings("ignore::jifv.inversion.NotStationaryWarning")
def test_examples_of_devices_run(toy):
    first, second = blocks(DOCS / "scale.md")
    exec(compile(f"{first}\n{second}", "docs/scale.md", "exec"), toy)
    assert toy["linearize"](toy["start"][0]).jacobian.shape == (5, 12 * 12 * 3)


@pytest.mark.slow
def test_example_of_the_first_page_finds_the_objectives(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    (code,) = blocks(DOCS / "index.md")
    exec(compile(code, "docs/index.md", "exec"), namespace)
    assert (jifv.angle(namespace["inversion"].objective, namespace["targets"]) < 5).all()


# Tutorials and the site.


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(path, tmp_path):
    environment = {**os.environ, "MPLBACKEND": "Agg", "JIFV_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "degrees off" in done.stdout or "cosine" in done.stdout


def test_tutorials_keep_no_outputs():
    assert [path.name for path in (DOCS / "tutorials").iterdir() if path.suffix not in (".py", ".ipynb")] == []
    for path in TUTORIALS:
        assert path.read_text(encoding="utf-8").startswith("# ---\n# jupyter:\n")


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_has_every_public_name(tmp_path):
    for package in ("sphinx", "myst_nb", "sphinx_book_theme", "jupytext"):
        pytest.importorskip(package, reason="the site needs the extra `docs`")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-n", "--keep-going", "-c", "docs", "-d", tmp_path / "trees"]
    environment = {**os.environ, "JIFV_DOCS_EXECUTE": "off"}
    done = subprocess.run(
        [*command, ".", tmp_path / "site"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    inventory = (tmp_path / "site" / "objects.inv").read_bytes()
    lines = zlib.decompress(inventory.split(b"\n", 4)[4]).decode().splitlines()
    names = {line.split()[0] for line in lines if line.split()[1].startswith("py:")}
    assert set(reference.documented()) <= names
    assert (tmp_path / "site" / "index.html").is_file()
