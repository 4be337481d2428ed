"""Warnings that point to the line of the user's code from which jifv was called."""

import sys
import warnings

_INSIDE = ("jifv", "jaxtyping", "beartype")  # checks of types wrap functions


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the place where code outside jifv called it, however deep the warning arises."""
    frame, level = sys._getframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
