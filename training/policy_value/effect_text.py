"""Numbers and effects in words, the same in the answer and on every page."""

import math

MINUS = "\N{MINUS SIGN}"


def number_text(value: float | None, decimals: int = 0, *, sign: bool = False) -> str:
    """A number with thousands set off, and a true minus sign.

    >>> number_text(-1234.5), number_text(0.04, 1, sign=True), number_text(None)
    ('−1,234', '0.0', 'unknown')
    """
    if value is None or not math.isfinite(value):
        return "unknown"
    rounded = round(float(value), decimals) + 0.0
    text = f"{rounded:{'+' if sign and rounded else ''},.{decimals}f}"
    return text.replace("-", MINUS)


def effect_text(value: float, low: float, high: float, unit: str = "points") -> str:
    """An effect with its interval, all three to the same decimals.

    Args:
        value: In points, as all.
        low: Lower end; not finite where the effect has no interval.
        high: Upper end.
        unit: Named after the value; empty for none.

    >>> effect_text(2.1, 1.6, 2.62)
    '+2.1 points (1.6 to 2.6)'
    >>> effect_text(2.1, 0.004, 4.196)
    '+2.100 points (0.004 to 4.196)'
    >>> effect_text(2.1, 1e-6, 4.2)
    '+2.1 points (just above 0 to 4.2)'
    >>> effect_text(0.31, math.nan, math.nan)
    '+0.31 points'
    """
    if not math.isfinite(value):
        return "unknown"
    if value == low == high == 0:
        return f"0 {unit}".rstrip()
    decimals = _decimals(value, low, high)
    estimate = f"{number_text(value, decimals, sign=True)} {unit}".rstrip()
    if not (math.isfinite(low) and math.isfinite(high)):
        return estimate
    return f"{estimate} ({_end_text(low, decimals)} to {_end_text(high, decimals)})"


MOST_DECIMALS = 4
ROUNDING = 1e-12
"""What is smaller is an error of the computer's arithmetic."""


def _decimals(value: float, *ends: float) -> int:
    sizes = [abs(number) for number in (value, *ends) if math.isfinite(number)]
    largest = max(sizes, default=0)
    decimals = (
        0 if largest >= 100 else 2 if largest < 1 or 0.005 <= sizes[0] < 0.05 else 1
    )
    # an end of 0.04 must not read as zero: zero is what decides
    readable = [end for end in ends if not _vanishes(end, MOST_DECIMALS)]
    while any(_vanishes(end, decimals) for end in readable):
        decimals += 1
    return decimals


def _vanishes(end: float, decimals: int) -> bool:
    """Whether an end that is not zero would read as zero."""
    return abs(end) >= ROUNDING and not round(abs(end), decimals)


def _end_text(end: float, decimals: int) -> str:
    if _vanishes(end, decimals):
        return "just above 0" if end > 0 else "just below 0"
    return number_text(end, decimals)
