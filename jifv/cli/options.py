"""The options of an experiment as options of a command, generated from their declarations."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Annotated, Any, Literal

import typer

from jifv.experiments.options import OPTIONS, Option

SHOWN = tuple(option for option in OPTIONS if option.on_command_line)
"""The options that a command offers."""

_SHORTER = {"input_size": ("--size",)}
"""Further names of options."""


def with_experiment_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter `options` by one parameter for each of `SHOWN`. See `with_options`."""
    return with_options(SHOWN, panel="Experiment (unless given, as in the paper or the preset)")(command)


def with_options(
    shown: Sequence[Option], *, panel: str, defaults: Mapping[str, Any] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that replaces a command's parameter `options` by one parameter for each option.

    The command gets a dictionary of those that were given.

    Args:
        shown: The options.
        panel: Their heading in the help.
        defaults: What the help says is used where an option is not given, by its name.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def generated(**arguments: Any) -> None:
            given = {option.name: arguments.pop(option.name) for option in shown}
            command(**arguments, options={name: value for name, value in given.items() if value is not None})

        signature = inspect.signature(command)
        before = list(signature.parameters.values())
        place = [parameter.name for parameter in before].index("options")
        made = [_parameter(option, panel, (defaults or {}).get(option.name)) for option in shown]
        parameters = [*before[:place], *made, *before[place + 1 :]]
        keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
        generated.__signature__ = signature.replace(parameters=keyword)  # pyright: ignore[reportAttributeAccessIssue]
        generated.__annotations__ = {parameter.name: parameter.annotation for parameter in keyword}
        return generated

    return decorate


def _parameter(option: Option, panel: str, default: Any) -> inspect.Parameter:
    kind: Any = option.type if option.choices is None else Literal[*option.choices]
    names = (f"--{option.name.replace('_', '-')}", *_SHORTER.get(option.name, ()))
    declaration = typer.Option(
        *names,
        help=option.help,
        min=option.least,
        max=option.most if option.below is None else option.below,
        callback=_checked(option),
        rich_help_panel=panel,
        show_default=False if default is None else str(default),
    )
    annotation = Annotated[kind | None, declaration]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _checked(option: Option) -> Callable[[Any], Any]:
    """Check what the bounds of the command line let through, such as infinity."""

    def check(value: Any) -> Any:
        try:
            if value is not None:
                option.check(value)
        except (TypeError, ValueError) as error:
            raise typer.BadParameter(str(error)) from error
        return value

    return check
