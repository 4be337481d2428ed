"""The options of an experiment as options of a command, generated from their declarations."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Literal

import typer

from jifv.experiments.options import OPTIONS, Option

SHOWN = tuple(option for option in OPTIONS if option.on_command_line)
"""The options that a command offers."""


def with_experiment_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter `options` by one parameter for each of `SHOWN`.

    The command gets a dictionary of those that were given.
    """

    @wraps(command)
    def generated(**arguments: Any) -> None:
        given = {option.name: arguments.pop(option.name) for option in SHOWN}
        command(**arguments, options={name: value for name, value in given.items() if value is not None})

    signature = inspect.signature(command)
    before = list(signature.parameters.values())
    place = [parameter.name for parameter in before].index("options")
    parameters = [*before[:place], *map(_parameter, SHOWN), *before[place + 1 :]]
    keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    generated.__signature__ = signature.replace(parameters=keyword)  # pyright: ignore[reportAttributeAccessIssue]
    generated.__annotations__ = {parameter.name: parameter.annotation for parameter in keyword}
    return generated


def _parameter(option: Option) -> inspect.Parameter:
    kind: Any = option.type if option.choices is None else Literal[*option.choices]
    declaration = typer.Option(
        help=option.help,
        min=option.least,
        max=option.most if option.below is None else option.below,
        callback=_checked(option),
        rich_help_panel="Experiment (unless given, as in the paper or the preset)",
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
