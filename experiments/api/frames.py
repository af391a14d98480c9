"""Frames of pandas, Arrow and Polars in and out; columns checked where they come in."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from hustings.features.arrays import Objects
from hustings.features.training_set import Arm


def as_pandas(frame: Any, argument: str) -> pd.DataFrame:
    """A frame of pandas, Arrow or Polars as one of pandas, never the caller's own.

    Args:
        frame: A data frame, or an array of shape (n, n_columns), whose columns are then
            called x0, x1, ...
        argument: Its name, for errors.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(frame, np.ndarray) and frame.ndim == 2:
        return pd.DataFrame(frame, columns=[f"x{i}" for i in range(frame.shape[1])])
    try:
        eager = nw.from_native(frame, eager_only=True)
    except TypeError:
        shape = f" of shape {frame.shape}" if isinstance(frame, np.ndarray) else ""
        raise TypeError(
            f"{argument}: expected a data frame of pandas, Arrow or Polars, or an "
            f"array of shape (n, n_columns), got {type(frame).__name__}{shape}"
        ) from None
    rows: pd.DataFrame = eager.to_pandas().copy()
    twice = rows.columns[rows.columns.duplicated()]
    if len(twice):
        raise ValueError(
            f"{argument}: expected each column once, got {twice[0]!r} twice"
        )
    return rows.rename(columns=str)


def like(rows: pd.DataFrame, given: Any) -> Any:
    """A result as a frame of the kind that was given; pandas for an array."""
    if isinstance(given, np.ndarray):
        return rows
    kind = nw.from_native(given, eager_only=True).implementation
    result = nw.from_native(rows, eager_only=True)
    if kind.is_pyarrow():
        return result.to_arrow()
    return result.to_polars() if kind.is_polars() else rows


def column(values: Any, argument: str, n: int) -> pd.Series:
    """One value of every voter, with a fresh index.

    Args:
        values: A series, list or array.
        argument: Its name, for errors.
        n: Voters.

    Raises:
        ValueError: If there are not n of them.
    """
    series = nw.from_native(values, series_only=True, pass_through=True)
    if isinstance(series, nw.Series):
        given = series.to_pandas().reset_index(drop=True)
    else:
        array = np.asarray(values)
        if array.ndim != 1:
            raise ValueError(
                f"{argument}: expected one value of each of {n:,} voters, got an array "
                f"of shape {array.shape}"
            )
        given = pd.Series(array)
    if len(given) != n:
        raise ValueError(
            f"{argument}: expected one value of each of the {n:,} rows of X, got "
            f"{len(given):,}"
        )
    return given


def names_of(values: Any, argument: str, n: int) -> Objects:
    """`column` of names, as text.

    Raises:
        ValueError: If one is missing.
    """
    given = column(values, argument, n)
    missing = np.flatnonzero(given.isna())
    if len(missing):
        raise ValueError(
            f"{argument}: expected a name in every row, got none in {len(missing):,} "
            f"rows, row {missing[0]} first"
        )
    return np.asarray(given.astype(object).map(str), dtype=object)


def numbers_of(values: Any, argument: str, n: int) -> pd.Series:
    """`column` of numbers; missing ones stay missing.

    Raises:
        ValueError: If one is no number, or infinite.
    """
    given = column(values, argument, n)
    numbers = pd.to_numeric(given, errors="coerce").astype(np.float64)
    wrong = np.flatnonzero((numbers.isna() & given.notna()) | np.isinf(numbers))
    if len(wrong):
        raise ValueError(
            f"{argument}: expected finite numbers, got "
            f"{str(given.iloc[wrong[0]])!r} in row {wrong[0]} ({len(wrong):,} such "
            "rows)"
        )
    return numbers


def voter_ids(frame: Any, given: Any, n: int) -> Objects:
    """Names of voters: those given, else the index of a pandas frame, else row numbers.

    Raises:
        ValueError: If two voters have one name.
    """
    if given is not None:
        names = names_of(given, "voter_id", n)
    else:
        index = frame.index if isinstance(frame, pd.DataFrame) else pd.RangeIndex(n)
        names = np.asarray(index.map(str), dtype=object)
    twice = pd.Series(names)[pd.Series(names).duplicated()]
    if len(twice):
        raise ValueError(
            f"voter_id: expected each voter once, got a name twice ({len(twice):,} "
            f"such rows, row {twice.index[0]} first)"
        )
    return names


def features_of(frame: Any, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """X as features: numbers, booleans and categories, with a fresh index.

    Args:
        frame: See `as_pandas`.
        columns: That have to be there and no others; any without.

    Raises:
        ValueError: If a column is of another kind, infinite, or not as expected.
    """
    rows = as_pandas(frame, "X").reset_index(drop=True)
    if rows.empty:
        raise ValueError(f"X: expected rows and columns, got a frame of {rows.shape}")
    for name in rows.columns:
        dtype = rows[name].dtype
        if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(
            dtype
        ):
            infinite = np.flatnonzero(np.isinf(numbers_or_nan(rows[name])))
            if len(infinite):
                raise ValueError(
                    f"X: expected finite numbers in column {name!r}, got "
                    f"{rows[name].iloc[infinite[0]]} in row {infinite[0]} "
                    f"({len(infinite):,} such rows)"
                )
        elif pd.api.types.is_datetime64_any_dtype(dtype):
            raise ValueError(
                f"X: expected numbers, booleans or categories in column {name!r}, got "
                f"{dtype}: say it as a number, such as days before the test"
            )
    if columns is not None and set(rows.columns) != set(columns):
        missing = sorted(set(columns) - set(rows.columns))
        strange = sorted(set(rows.columns) - set(columns))
        raise ValueError(
            f"X: expected the columns of fit, {', '.join(columns)}; "
            + "; ".join(
                f"{what} {', '.join(names)}"
                for what, names in (("missing:", missing), ("not in fit:", strange))
                if names
            )
        )
    return rows if columns is None else rows[list(columns)]


def numbers_or_nan(numbers: pd.Series) -> Any:
    """Numbers as doubles, shape (n,)."""
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def costs_of(cost: Any, arms: Sequence[Arm]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """USD of one contact by every arm, shape (A,).

    Args:
        cost: One price, or a price by message, by channel, or by (message, channel);
            the narrowest that names an arm counts.
        arms: What could be sent, length A.

    Raises:
        ValueError: If an arm has no price, a price names no arm, or it is not above 0.

    >>> costs_of({"mail": 0.5, ("jobs", "mail"): 0.6}, [Arm("jobs", "mail")])
    array([0.6])
    """
    prices = dict(cost) if isinstance(cost, dict) else dict.fromkeys(arms, cost)
    usd, priced = [], set()
    for arm in arms:
        keys = [key for key in (tuple(arm), *arm) if key in prices]
        if not keys:
            raise ValueError(
                f"cost: expected a price of message {arm.message_id!r} by "
                f"{arm.channel!r}, got prices of "
                f"{', '.join(map(str, prices)) or 'none'}"
            )
        priced |= set(keys)
        usd.append(float(prices[keys[0]]))
    strange = [key for key in prices if key not in priced]
    if strange:
        raise ValueError(
            f"cost: expected messages or channels of the test "
            f"({', '.join(f'{a.message_id} by {a.channel}' for a in arms)}), got "
            f"{strange[0]!r}"
        )
    wrong = [price for price in usd if not (np.isfinite(price) and price > 0)]
    if wrong:
        raise ValueError(f"cost: expected prices above 0 USD, got {wrong[0]}")
    return np.array(usd, dtype=np.float64)
