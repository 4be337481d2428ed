"""A Sphinx extension: the reference of the public modules, from their docstrings.

Sphinx evaluates annotations, and jaxtyping's are unreadable then: aliases are gone, and
`Float[Array | np.ndarray, "batch n"]` has become a union of classes. So signatures are taken from the source, as they
were written. Docstrings are the plain text of this project, not reStructuredText: what would be markup is escaped, and
names in backticks become links.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import jifv

PAGES = Path(__file__).parent / "reference"
_SECTION = re.compile(r"\s*(Args|Returns|Yields|Raises|Attributes|Examples?|Note|Warns):$")


def modules() -> list[str]:
    """Names of the modules that the reference has: the steps of the path, what is beside them, and the networks."""
    return [f"jifv.{it.name}" for it in pkgutil.iter_modules(jifv.__path__) if _is_public(it.name)] + ["jifv.models"]


def _is_public(name: str) -> bool:
    """Whether the reference has a module of the package. The laboratory and the command have pages of their own."""
    return not name.startswith("_") and name not in ("models", "experiments", "cli")


@cache
def names(module: str) -> tuple[str, ...]:
    """Public names of a module, in the order of its source: `__all__`, or what it defines or imports as itself."""
    loaded = importlib.import_module(module)
    if hasattr(loaded, "__all__"):
        return tuple(loaded.__all__)
    found: list[str] = []
    for node in ast.parse(inspect.getsource(loaded)).body:
        if isinstance(node, ast.ImportFrom):
            found += [alias.name for alias in node.names if alias.name == alias.asname]
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.append(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.append(node.target.id)
        elif isinstance(node, ast.Assign):
            found += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return tuple(name for name in found if not name.startswith("_"))


@cache
def documented() -> dict[str, str]:
    """Where each public name is documented: `jifv.NAME` if the package itself has it, `jifv.MODULE.NAME` otherwise."""
    places: dict[str, str] = {}
    known: set[tuple[int, str]] = set()
    for module in sorted(modules(), key=lambda name: name == "jifv.ensemble"):  # what jifv.transform has as well
        for name in names(module):
            value = getattr(importlib.import_module(module), name)
            if not isinstance(value, (int, float, str)):
                if (id(value), name) in known:
                    continue
                known.add((id(value), name))
            short = name in jifv.__all__ and getattr(jifv, name) is value
            places[f"jifv.{name}" if short else f"{module}.{name}"] = module
    for name in jifv.__all__:
        places.setdefault(f"jifv.{name}", "jifv")
    return places


def write_pages() -> None:
    """Write a page for each module, and one for the command; leave alone those that are up to date."""
    PAGES.mkdir(exist_ok=True)
    wanted = {}
    for module in [*modules(), "jifv"]:
        own = [name for name, place in documented().items() if place == module]
        title = module if module != "jifv" else "Devices and compilation"
        lines = [title, "=" * len(title), ""]
        if module != "jifv":
            lines += [f".. automodule:: {module}", "   :no-members:", ""]
        for name in own:
            lines += _directive(name)
        wanted[f"{module.partition('.')[2] or 'devices'}.rst"] = "\n".join(lines)
    wanted["command.md"] = _command()
    for path in PAGES.iterdir():
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        path = PAGES / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _directive(name: str) -> list[str]:
    module, _, own = name.rpartition(".")
    value = getattr(importlib.import_module(module), own)
    if inspect.isclass(value):
        kind = "autoexception" if issubclass(value, Exception) else "autoclass"
        members = [] if kind == "autoexception" else ["   :members:", "   :special-members: __call__"]
        return [f".. {kind}:: {name}", *members, ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {name}", ""]
    return _alias(name)


def _alias(name: str) -> list[str]:
    """An alias of a type or a constant, as the source has it, with the string below it."""
    module, _, own = name.rpartition(".")
    body = ast.parse(inspect.getsource(importlib.import_module(module))).body
    imported = [it.module for it in body if isinstance(it, ast.ImportFrom) and own in [each.name for each in it.names]]
    if imported:
        body = ast.parse(inspect.getsource(importlib.import_module(str(imported[0])))).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if [getattr(it, "id", None) for it in targets] == [own]:
            said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and after.value.value
            text = [_escaped(line, name) for line in inspect.cleandoc(str(said)).splitlines()] if said else []
            value = _plain(ast.unparse(node.value))  # pyright: ignore
            constant = isinstance(getattr(node, "value", None), (ast.Constant, ast.Call))
            lines = [f".. py:{'data' if constant else 'type'}:: {own}", f"   :module: {module}"]
            lines += [f"   :{'value' if constant else 'canonical'}: {value}", ""]
            return [*lines, *(f"   {line}" for line in text), ""]
    return [f".. autodata:: {name}", ""]


def _command() -> str:
    """What `jifv --help` says, of every subcommand."""
    from typer.main import get_command

    from jifv.cli import app

    lines = ["# The command", ""]

    def add(command: Any, words: str, parent: Any = None) -> None:
        context = type(command).context_class(command, info_name=words.split()[-1], parent=parent)
        lines.extend([f"## `{words}`", "", inspect.cleandoc(command.help or ""), ""])
        options = [it for it in command.params if getattr(it, "help", None) and it.name != "help"]
        for it in options:
            name = ", ".join([*it.opts, *it.secondary_opts]) if it.opts[0].startswith("-") else it.name.upper()
            lines.append(f"- `{name}`: {' '.join(it.help.split())}")
        lines.append("")
        for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
            add(command.get_command(context, name), f"{words} {name}", context)

    add(get_command(app), "jifv")
    return "\n".join(lines)


# Signatures


def _signature(app: Any, what: str, name: str, value: Any, options: Any, signature: str, returns: str) -> Any:
    if what in ("function", "method"):
        node = _definition(value)
        if isinstance(node, ast.FunctionDef):
            return _arguments(node, bound=what == "method"), node.returns and _plain(ast.unparse(node.returns))
    if what == "class":
        node = _definition(value)
        if isinstance(node, ast.ClassDef) and (hasattr(value, "_fields") or hasattr(value, "__dataclass_fields__")):
            parts = []
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and not field.target.id.startswith("_"):  # pyright: ignore
                    default = f" = {ast.unparse(field.value)}" if field.value else ""
                    parts.append(f"{ast.unparse(field.target)}: {ast.unparse(field.annotation)}{default}")
            return _plain(f"({', '.join(parts)})"), None
    return None


def _definition(value: Any) -> ast.AST | None:
    try:
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(value)))
    except (OSError, TypeError):
        return None
    return ast.parse(source).body[0]


def _arguments(node: ast.FunctionDef, *, bound: bool) -> str:
    arguments = node.args
    if bound and not any(getattr(it, "id", "") == "staticmethod" for it in node.decorator_list):
        (arguments.posonlyargs or arguments.args).pop(0)
    return f"({_plain(ast.unparse(arguments))})"


def _plain(text: str) -> str:
    """Without the space in shapes of one axis, which is there for linters only."""
    return re.sub(r"' (\w+)'", r"'\1'", text)


# Docstrings


def _docstring(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    lines[:] = _with_results(_as_literal_blocks(lines))
    literal = False
    for index, line in enumerate(lines):
        literal = literal and (not line.strip() or line.startswith("    "))
        if not literal:
            lines[index] = _escaped(line, name)
        literal = literal or line.endswith("::")


def _as_literal_blocks(lines: list[str]) -> list[str]:
    """Mark code: what is indented below a line that ends with a colon and is no section."""
    result = list(lines)
    for index in range(len(lines) - 2):
        line = lines[index]
        starts = line.endswith(":") and not _SECTION.match(line) and not lines[index + 1].strip()
        if starts and lines[index + 2].startswith("    ") and not line.startswith(" "):
            result[index] = line + ":"
    return result


def _with_results(lines: list[str]) -> list[str]:
    """Write what is returned as a field. Napoleon would take what is before a colon in it for a type."""
    result, inside = [], False
    for line in lines:
        if line == "Returns:":
            inside = True
            continue
        if inside and line.strip():
            result.append(f":returns: {line.strip()}")
            inside = False
        else:
            result.append(line)
    return result


def _escaped(line: str, place: str) -> str:
    argument = re.match(r"\s*\*{1,2}\w+:", line)  # Napoleon escapes these
    start = argument.end() if argument else 0
    parts = re.split(r"`([^`]+)`", line[start:])
    for index, part in enumerate(parts):
        if index % 2:
            parts[index] = f":py:obj:`{part} <{target}>`" if (target := _target(part, place)) else f"``{part}``"
        else:
            part = re.sub(r"^(\s*(?::returns: )?\w)\. ", r"\1\. ", part) if index == start == 0 else part  # no list
            parts[index] = re.sub(r"[*|]|(?<=\w)_(?=\W|$)", lambda it: "\\" + it[0], part)
    return line[:start] + "".join(parts)


def _target(text: str, place: str) -> str | None:
    """What a name in a docstring means, if the reference has it and it is not the place itself."""
    if not re.fullmatch(r"[\w.]+", text):
        return None
    own = text.removeprefix("jifv.")
    candidates = [f"jifv.{own}", *(f"{module}.{own}" for module in _nearest(place))]
    found = next((it for it in candidates if it in documented()), None)
    return found if found != place else None


def _nearest(place: str) -> list[str]:
    first = documented().get(place) or place
    return sorted(modules(), key=lambda module: not first.startswith(module))


def _resolve(app: Any, env: Any, node: Any, contents: Any) -> Any:
    """Find names of annotations, which are those that the module imported."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].rpartition(".")[2]
    found = next((it for it in documented() if it.rpartition(".")[2] == target and target[0].isupper()), None)
    if found is None:
        return None
    return env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, "obj", found, node, contents)


def _skip(app: Any, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Leave out fields: the list of attributes has them."""
    fields = getattr(getattr(value, "__objclass__", None), "_fields", ())
    if name in fields or type(value).__name__ == "_tuplegetter":
        return True
    # Values and descriptors of data are fields of dataclasses, with defaults.
    if what == "class" and not callable(value) and not isinstance(value, (property, staticmethod, classmethod)):
        return True
    return None


def _complete(app: Any, env: Any) -> None:
    """Warn of public names that did not get in, which fails a build by `-W`."""
    from sphinx.util import logging

    for name in sorted(set(documented()) - set(env.get_domain("py").objects)):
        logging.getLogger(__name__).warning("the reference has no %s", name)


def setup(app: Any) -> dict[str, bool]:
    """Connect it."""
    from sphinx.domains.python import PyObject

    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.connect("builder-inited", lambda app: write_pages(), priority=100)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _docstring, priority=100)
    app.connect("autodoc-skip-member", _skip)
    app.connect("missing-reference", _resolve)
    app.connect("env-check-consistency", _complete)
    return {"parallel_read_safe": True}
