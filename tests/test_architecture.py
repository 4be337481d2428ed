"""What reading the tree must show: imports that point one way, short files, one way to write.

The rules hold for every file of the packages.
"""

import ast
import re
from pathlib import Path

import pytest

import jifv

ROOT = Path(__file__).resolve().parent.parent


def module_name(path):
    """As Python imports it: the folder models/ is jifv.models."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    parts = ["jifv", *parts] if parts[0] == "models" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def python_files(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


MODULES = {module_name(path): path for path in python_files("jifv", "models")}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def is_path(name):
    """Whether a module is a step of the data's path, or below one."""
    return (name.count(".") <= 1 and MODULES[name].name != "__main__.py") or name.split(".")[1].startswith("_")


def complain(violations):
    """Fail with the violations, each of which begins with its module."""
    assert not violations, "\n".join(["", *sorted(violations)])


# Imports


def imports(name):
    """What a module imports, wherever in it, as names of modules; of the package's own, not what is in them."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package.split(".")[: 1 - node.level or None], *filter(None, [node.module])])
            base = base if node.level else node.module
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in MODULES else base


# From the bottom up: what a module imports is in a layer below its own, or in its own.
LAYERS = (
    r"jifv\._core(\..*)?",
    r"jifv\.(?!models|experiments|cli|__main__)\w+(\.\w+)?",
    r"jifv",
    r"jifv\.models\.networks(\..*)?",
    r"jifv\.models\.files(\..*)?",
    r"jifv\.models(\.zoo)?",
    r"jifv\.models\.training(\..*)?",
    r"jifv\.experiments(\..*)?",
    r"jifv\.cli(\..*)?",
    r"jifv\.__main__",
)


def layer(name):
    return next(level for level, pattern in enumerate(LAYERS) if re.fullmatch(pattern, name))


def own_imports(name):
    return sorted({found for found in imports(name) if found.split(".")[0] == "jifv"} - {name})


def test_every_module_is_in_a_layer_and_every_layer_holds_one():
    assert {layer(name) for name in MODULES} == set(range(len(LAYERS)))


def test_imports_point_one_way():
    wrong = [f"{name} imports {found}" for name in MODULES for found in own_imports(name) if layer(found) > layer(name)]
    complain(wrong)


def test_nothing_but_training_imports_training():
    wrong = [
        f"{name} imports {found}"
        for name in MODULES
        for found in own_imports(name)
        if ".training" in found and ".training" not in name
    ]
    complain(wrong)


def test_no_circles():
    """Python would allow some; nobody could say then what is below."""
    graph = {name: own_imports(name) for name in MODULES}
    finished, circles = set(), []

    def visit(name, above):
        if name in above:
            circles.append(" → ".join([*above[above.index(name) :], name]))
        elif name not in finished:
            for found in graph[name]:
                visit(found, [*above, name])
            finished.add(name)

    for name in MODULES:
        visit(name, [])
    complain(circles)


@pytest.mark.parametrize(
    ("package", "only"), [("jaxopt", {"jifv._visualize.lbfgs"}), ("dm_pix", {"jifv.evaluate", "jifv.transform"})]
)
def test_what_may_be_replaced_one_day_is_fenced_in(package, only):
    assert {name for name in MODULES if any(found.split(".")[0] == package for found in imports(name))} == only


# Sizes


def test_files_are_short():
    for_path = [path for name, path in MODULES.items() if is_path(name)]
    assert len(for_path) > 20
    wrong = []
    for path in python_files("jifv", "models", "tests", "benchmarks"):
        most = 300 if path in for_path else 400
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > most:
            wrong.append(f"{module_name(path)} has {lines} lines of at most {most}")
    complain(wrong)


def test_the_public_face_is_small():
    assert len(jifv.__all__) <= 35


def test_no_name_hides_a_module():
    wrong = []
    for name, path in MODULES.items():
        if path.name != "__init__.py":
            continue
        modules = {other.rpartition(".")[2] for other in MODULES if other.rpartition(".")[0] == name}
        for node in TREES[name].body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                given = {node.name}
            elif isinstance(node, ast.ImportFrom):
                given = {a.asname or a.name for a in node.names if f"{node.module}.{a.name}" not in MODULES}
            elif isinstance(node, ast.Assign):
                given = {target.id for target in node.targets if isinstance(target, ast.Name)}
            else:
                continue
            wrong += [f"{name}.{hidden} hides a module" for hidden in given & modules]
    complain(wrong)


# Language


def docstrings(kinds):
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                label = getattr(node, "name", "")
                yield f"{name}:{label}", text, node


PROPERTIES = {"property", "cached_property"}
NO_VERB = re.compile(
    r"(A|An|The|This|These|That|What|Which|Where|Whether|How|Who|When|If|One|All|Any|Each|Every|No|Number|Numbers|"
    r"Names|Of|In|On|At|As|With|From|For|By|Is|Are|It|There|Those|Nothing|Same|Only|Result|Results)\b"
)


def test_docstrings_of_functions_begin_with_an_imperative():
    wrong = []
    for place, text, node in docstrings((ast.FunctionDef, ast.AsyncFunctionDef)):
        decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
        if decorators & PROPERTIES:
            continue  # an attribute, so a noun
        first = text.split()[0]
        third_person = first.endswith("s") and not first.endswith("ss")
        symbol = not first.strip(".,:;").isalpha()
        if not symbol and (NO_VERB.match(text) or third_person or first.endswith(("ing", "ed")) or first.islower()):
            wrong.append(f"{place} begins with {text.splitlines()[0]!r}")
    complain(wrong)


def test_first_lines_are_sentences():
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    wrong = []
    for place, text, _ in docstrings(kinds):
        lines = text.splitlines()
        paragraph = " ".join(lines[: lines.index("")] if "" in lines else lines)
        if not re.search(r"[.:?!)`\"]$", paragraph) or (len(lines) > 1 and lines[1]):
            wrong.append(f"{place}: {lines[0]!r}")
    complain(wrong)


SECTIONS = ("Args:", "Returns:", "Yields:", "Raises:", "Attributes:", "Example:", "Examples:", "Note:", "Warns:")


def test_sections_of_docstrings_are_googles_and_capital():
    wrong = []
    for place, text, _ in docstrings((ast.ClassDef, ast.FunctionDef)):
        section = None
        for line in text.splitlines():
            if re.fullmatch(r"[A-Z]\w+:", line):
                section = line
                if line not in SECTIONS:
                    wrong.append(f"{place} has a section {line}")
            elif section in ("Args:", "Raises:", "Attributes:") and (it := re.match(r"    [\w*]+: ([a-z]\w+) ", line)):
                # Names of variables and mathematical symbols may begin in lower case.
                if it[1] not in ("jifv", "jaxopt", "x", "p", "r", "v", "key", "image") and len(it[1]) > 2:
                    wrong.append(f"{place}: {line.strip()!r} begins in lower case")
            elif line and not line.startswith(" "):
                section = None
    complain(wrong)


TEXT = {path: path.read_text(encoding="utf-8") for path in python_files("jifv", "models")}

RATES = re.compile(
    r"\b(seconds?|minutes?|hours?|m?s|bytes|[MG]iB|values?|numbers?|rows?|columns?|entry|entries|gradients?|pass(es)?|"
    r"samples?|images?|operations?|times?|angles?|vectors?|channels?|thresholds?|axis|ones?) "
    r"an? (sample|feature|step|pixel|second|minute|device|image|vector|row|column|class|iteration|layer|batch)\b"
)
LEFTOVERS = re.compile(
    r"\b(allows? to|informations|softwares|resp\.|i\. ?e\. |z\. ?B\.|in dependence o[fn]|a other|an other|"
    r"since \d+ (years|months|days)|in the moment|until now|Others than|other than others|"
    r"as good as (flat|all|no|nothing)|for others? one|how it looks like|different as)\b|\d,\d+ (s|ms|%)|[äöüßÄÖÜ]\w"
)
NAMES = re.compile(r"Fréchet|Schrödinger|Gödel|naïve")


@pytest.mark.parametrize(
    "pattern",
    [re.compile(r"(?<!`)``(?!`)"), RATES, LEFTOVERS],
    ids=["backticks", "rates", "leftovers"],
)
def test_words_that_should_not_be_there(pattern):
    wrong = []
    for path, text in TEXT.items():
        for number, line in enumerate(text.splitlines(), 1):
            if it := pattern.search(NAMES.sub("", line)):
                wrong.append(f"{module_name(path)}:{number} says {it[0]!r}")
    complain(wrong)


def messages():
    """The texts of all errors that are raised, with {} for what is filled in."""
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                text = node.exc.args[0]
                if isinstance(text, ast.JoinedStr):
                    yield name, "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in text.values)
                elif isinstance(text, ast.Constant) and isinstance(text.value, str):
                    yield name, text.value


def test_errors_say_what_must_be_and_what_was_got():
    found = list(messages())
    assert len(found) > 50
    wrong = []
    for name, text in found:
        got = re.search(r"(\S+) got\b", text)
        if got and not got[1].endswith(","):
            wrong.append(f"{name}: {text!r} has no comma before 'got'")
        if re.search(r"\bneeds to be\b|\bhas to be\b|\bshould be\b|\bmust be\b.*\bbut\b", text):
            wrong.append(f"{name}: {text!r} does not say 'must be …, got …'")
        if text[-1] in ".!" and not text.endswith("..."):
            wrong.append(f"{name}: {text!r} ends like a sentence")
    complain(wrong)
