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
    return f"{estimate} ({number_text(low, decimals)} to {number_text(high, decimals)})"


def _decimals(*values: float) -> int:
    sizes = [abs(value) for value in values if math.isfinite(value)]
    largest = max(sizes, default=0)
    if largest >= 100:
        return 0
    # a bound of 0.04 must not read as zero: zero is what decides
    vanishes = any(0.005 <= size < 0.05 for size in sizes)
    return 2 if largest < 1 or vanishes else 1
