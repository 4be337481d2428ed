"""Numbers as the tables write them. Every function rounds once, from the number in the file."""

from math import floor, log10

DASH = "–"
"""In place of what was not measured."""
_MINUS = "−"


def significant(value: float | None, digits: int = 3, *, decimals: int | None = None) -> str:
    """Round to significant digits, without an exponent: 0.0039, 14.1, 1,060.

    Args:
        value: The number; None is a dash.
        digits: How many of its digits are significant.
        decimals: How many to write behind the point at most.
    """
    if value is None:
        return DASH
    if value == 0:
        return "0"
    behind = digits - 1 - floor(log10(abs(value)))
    if abs(round(value, behind)) >= 10 ** (digits - behind):  # 9.996 has a digit more once it is rounded
        behind -= 1
    if decimals is not None:
        behind = min(behind, decimals)
    text = f"{round(value, behind):,.{max(behind, 0)}f}"
    return text.replace("-", _MINUS)


def fixed(value: float | None, decimals: int = 2) -> str:
    """Round to digits behind the point."""
    return DASH if value is None else f"{value:,.{decimals}f}".replace("-", _MINUS)


def degrees(value: float | None) -> str:
    """An angle: 1.19°, 14.1°, 90.0°, and below a tenth two digits: 0.0039°."""
    if value is None:
        return DASH
    return significant(value, 2 if abs(value) < 0.1 else 3, decimals=None if abs(value) < 0.1 else 2) + "°"


def scientific(value: float | None) -> str:
    """A power of ten with two digits: 2.0e-7."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def milliseconds(seconds: float | None) -> str:
    """Three significant digits, without the unit."""
    return DASH if seconds is None else significant(1000 * seconds)


def duration(seconds: float | None) -> str:
    """Three significant digits: 15.2 ms, 1.84 s."""
    if seconds is None:
        return DASH
    return f"{significant(seconds)} s" if seconds >= 0.9995 else f"{milliseconds(seconds)} ms"


def ratio(value: float | None) -> str:
    """Two significant digits: 1.8×, 13×."""
    return DASH if value is None else significant(value, 2) + "×"


def percent(share: float | None) -> str:
    """A share as whole percent."""
    return DASH if share is None else fixed(100 * share, 0) + " %"


def mebibytes(size: float | None) -> str:
    """Bytes as whole MiB, without the unit."""
    return DASH if size is None else f"{size / 2**20:,.0f}"


def span(values, write) -> str:
    """The smallest and the largest, as `write` has them: "1.3× to 2.5×"; one if they are written the same."""
    low, high = write(min(values)), write(max(values))
    return low if low == high else f"{low} to {high}"


def listed(words) -> str:
    """Words in a row: "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
