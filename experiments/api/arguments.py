"""Arguments of one value each: checked once, with what was expected and what came."""

import numbers
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from hustings.features.asof import naive_utc

BINARY_POINT = 0.01
"""One point of an outcome of 0 and 1 is one per cent of the voters."""


def number_of(
    value: Any, argument: str, expected: str, is_expected: Callable[[float], bool]
) -> float:
    """A finite number of Python or NumPy, as a float.

    Args:
        value: As it was given.
        argument: Its name, for errors.
        expected: In words.
        is_expected: Whether a finite number is what was expected.

    Raises:
        ValueError: If it is none, or not as expected.

    >>> number_of(np.float32(0.5), "share", "one in (0, 1)", lambda x: 0 < x < 1)
    0.5
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not np.isfinite(value) or not is_expected(float(value)):
        raise ValueError(f"{argument}: expected {expected}, got {_given(value)}")
    return float(value)


def whole_number(value: Any, argument: str, least: int) -> int:
    """A whole number of Python or NumPy, as an int.

    Raises:
        ValueError: If it is none, or below the least.

    >>> whole_number(np.int64(3), "days", 1)
    3
    """
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or value < least:
        raise ValueError(
            f"{argument}: expected a whole number, at least {least}, got "
            f"{_given(value)}"
        )
    return int(value)


def level_of(value: Any) -> float:
    """Level of intervals, in (0, 1).

    Raises:
        ValueError: If it is none; of 95 it says that .95 is meant.
    """
    return number_of(
        value, "level", "a share in (0, 1), such as .95 for 95 %", lambda x: 0 < x < 1
    )


def confidence_of(value: Any) -> float:
    """Certainty at which a lift is valued, in [.5, 1).

    Raises:
        ValueError: If it is none.
    """
    return number_of(value, "confidence", "one in [.5, 1)", lambda x: 0.5 <= x < 1)


def usd_of(value: Any, argument: str) -> float:
    """An amount of money above 0.

    Raises:
        ValueError: If it is none.
    """
    return number_of(value, argument, "USD above 0", lambda x: x > 0)


def unit_per_point_of(value: Any, *, is_binary: bool) -> float:
    """Outcome units in a point.

    Args:
        value: As it was given; None for .01 of an outcome of 0 and 1, else 1.
        is_binary: Whether the outcome is 0 or 1.

    Raises:
        ValueError: If it is not above 0.

    >>> unit_per_point_of(None, is_binary=True), unit_per_point_of(5, is_binary=True)
    (0.01, 5.0)
    """
    if value is None:
        return BINARY_POINT if is_binary else 1.0
    return number_of(value, "unit_per_point", "outcome units above 0", lambda x: x > 0)


def seed_of(random_state: Any) -> int:
    """The seed itself, or one drawn as scikit-learn draws.

    Raises:
        ValueError: If it is a number below 0, or nothing that scikit-learn takes.
    """
    if isinstance(random_state, numbers.Integral):
        return whole_number(random_state, "random_state", 0)
    return int(check_random_state(random_state).randint(2**31 - 1))


def moment_of(value: Any, argument: str) -> pd.Timestamp:
    """A day or moment, in UTC, without its zone, as tables hold times.

    Raises:
        ValueError: If it is none: a number has no unit.

    >>> moment_of("2026-09-08T06:00+02:00", "as_of")
    Timestamp('2026-09-08 04:00:00')
    """
    moment = None
    with suppress(TypeError, ValueError):
        moment = None if isinstance(value, numbers.Number) else pd.Timestamp(value)
    if not isinstance(moment, pd.Timestamp):
        raise ValueError(
            f"{argument}: expected a day or moment, such as '2026-09-08', got "
            f"{_given(value)}"
        )
    return naive_utc(moment)


def day_of(value: Any, argument: str) -> pd.Timestamp:
    """A day.

    Raises:
        ValueError: If it is none, or has a zone: it would be another day elsewhere.
    """
    moment = moment_of(value, argument)
    if pd.Timestamp(value).tzinfo is not None:
        raise ValueError(f"{argument}: expected a day without a time zone, got {value}")
    return moment.normalize()


def name_text(value: Any) -> str:
    """How a message, a channel or a voter is called: 1, 1.0 and "1" are one name.

    >>> name_text(1.0), name_text(np.int64(1)), name_text("1"), name_text(1.5)
    ('1', '1', '1', '1.5')
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _given(value: Any) -> str:
    """What came, in short; a number of NumPy as one of Python."""
    plain = value.item() if isinstance(value, np.generic) else value
    text = repr(plain)
    return text if len(text) <= 80 else f"{text[:80]}..."
