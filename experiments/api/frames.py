"""Frames of pandas, Arrow and Polars in and out; columns checked where they come in."""

import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from pandas.api import types
from scipy import stats

from hustings.experiments.api.arguments import level_of, name_text, usd_of
from hustings.features.arrays import Floats, Objects
from hustings.features.training_set import Arm


def as_pandas(frame: Any, argument: str) -> pd.DataFrame:
    """A frame of pandas, Arrow or Polars as one of pandas, never the caller's own.

    Args:
        frame: A data frame, or an array of shape (n, n_columns), whose columns are then
            called x0, x1, ...
        argument: Its name, for errors.

    Raises:
        TypeError: If it is neither.
        ValueError: If a column is there twice.
    """
    if isinstance(frame, np.ndarray) and frame.ndim == 2:
        return pd.DataFrame(frame, columns=[f"x{i}" for i in range(frame.shape[1])])
    _require_once(_column_names(frame), argument)
    try:
        eager = nw.from_native(frame, eager_only=True)
    except TypeError:
        shape = f" of shape {frame.shape}" if isinstance(frame, np.ndarray) else ""
        raise TypeError(
            f"{argument}: expected a data frame of pandas, Arrow or Polars, or an "
            f"array of shape (n, n_columns), got {type(frame).__name__}{shape}"
        ) from None
    rows: pd.DataFrame = eager.to_pandas().copy()
    return rows.rename(columns=str)


def _column_names(frame: Any) -> list[str]:
    """Names of the columns of a frame of pandas or Arrow; Polars has each once."""
    is_arrow = nw.dependencies.is_pyarrow_table(frame)
    if is_arrow or nw.dependencies.is_pandas_dataframe(frame):
        return [str(n) for n in (frame.column_names if is_arrow else frame.columns)]
    return []


def _require_once(names: Sequence[str], argument: str) -> None:
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ValueError(
            f"{argument}: expected each column once, got {twice[0]!r} twice"
        )


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
        # of a list, numbers and None stay what they are
        is_listed = isinstance(values, list | tuple)
        array = np.asarray(values, dtype=object if is_listed else None)
        if array.ndim != 1:
            raise ValueError(
                f"{argument}: expected one value of each of {n:,} voters, got an array "
                f"of shape {array.shape}"
            )
        given = pd.Series(array)
    if len(given) != n:
        raise ValueError(
            f"{argument}: expected one value of each of the {n:,} voters, got "
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
    return np.asarray(given.astype(object).map(name_text), dtype=object)


def numbers_of(values: Any, argument: str, n: int) -> pd.Series:
    """`column` of numbers; missing ones stay missing.

    Raises:
        ValueError: If one is no number, or infinite.
    """
    given = column(values, argument, n)
    if not _may_hold_numbers(given.dtype):
        raise ValueError(
            f"{argument}: expected finite numbers, got {given.dtype}, "
            f"{str(given.iloc[0])!r} in row 0"
        )
    parsed = pd.to_numeric(given, errors="coerce").astype(np.float64)
    wrong = np.flatnonzero((parsed.isna() & given.notna()) | np.isinf(parsed))
    if len(wrong):
        raise ValueError(
            f"{argument}: expected finite numbers, got "
            f"{str(given.iloc[wrong[0]])!r} in row {wrong[0]} ({len(wrong):,} such "
            "rows)"
        )
    return parsed


def _may_hold_numbers(dtype: Any) -> bool:
    """Whether values of a kind can be numbers: days and complex numbers are none."""
    if types.is_complex_dtype(dtype):
        return False
    return bool(
        types.is_bool_dtype(dtype)
        or types.is_numeric_dtype(dtype)
        or types.is_string_dtype(dtype)
        or types.is_object_dtype(dtype)
        or isinstance(dtype, pd.CategoricalDtype)
    )


def voter_ids(frame: Any, given: Any, n: int) -> Objects:
    """Names of voters: those given, else the index of a pandas frame, else row numbers.

    Raises:
        ValueError: If two voters have one name.
    """
    if given is not None:
        names = names_of(given, "voter_id", n)
    else:
        index = frame.index if isinstance(frame, pd.DataFrame) else pd.RangeIndex(n)
        names = names_of(
            pd.Series(index.to_flat_index(), dtype=object), "index of X", n
        )
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
        rows[name] = _feature(rows[name])
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


def _feature(given: pd.Series) -> pd.Series:
    """One column of X; objects that are all numbers are numbers.

    Raises:
        ValueError: Naming the column, what was expected and what came.
    """
    dtype, where = given.dtype, f"in column {given.name!r}"
    if types.is_bool_dtype(dtype) or isinstance(dtype, pd.CategoricalDtype):
        return given
    if types.is_object_dtype(dtype):
        return _feature_of_objects(given, where)
    if types.is_string_dtype(dtype):
        return given
    if not types.is_numeric_dtype(dtype) or types.is_complex_dtype(dtype):
        raise ValueError(
            f"X: expected numbers, booleans or categories {where}, got {dtype}: say it "
            "as a number, such as days before the test"
        )
    infinite = np.flatnonzero(np.isinf(given.to_numpy(np.float64, na_value=np.nan)))
    if len(infinite):
        raise ValueError(
            f"X: expected finite numbers {where}, got {given.iloc[infinite[0]]} in row "
            f"{infinite[0]} ({len(infinite):,} such rows)"
        )
    return given


def _feature_of_objects(given: pd.Series, where: str) -> pd.Series:
    present = given.dropna()
    is_number = present.map(lambda value: isinstance(value, numbers.Real))
    is_text = present.map(lambda value: isinstance(value, str))
    strange = present.index[~(is_number | is_text)]
    if len(strange):
        raise ValueError(
            f"X: expected numbers, booleans or text {where}, got "
            f"{type(given[strange[0]]).__name__} in row {strange[0]} "
            f"({len(strange):,} such rows)"
        )
    if is_number.any() and is_text.any():
        raise ValueError(
            f"X: expected numbers or text {where}, got both: a number in row "
            f"{is_number.idxmax()}, text in row {is_text.idxmax()}; make it one of them"
        )
    return given if is_text.any() else numbers_of(given, f"X, {given.name}", len(given))


def as_fitted(rows: pd.DataFrame, categorical: Iterable[str]) -> pd.DataFrame:
    """Features of new voters as the tested had them: numbers where there were numbers.

    Args:
        rows: From `features_of`.
        categorical: Columns that were no numbers.

    Raises:
        ValueError: If another column holds what is no number, naming its first row.
    """
    numeric = [name for name in rows.columns if name not in set(categorical)]
    return rows.assign(
        **{
            name: numbers_of(
                rows[name], f"X, column {name!r}, in `fit` a number", len(rows)
            )
            for name in numeric
        }
    )


def mapping_of(values: Any, argument: str) -> dict[Any, Any] | None:
    """Values by name, from a mapping or a series of pandas; None of anything else.

    Keys are names as text, or tuples of them, so that 1 and "1" are one message.

    Raises:
        ValueError: If a name is there twice.
    """
    if not isinstance(values, Mapping | pd.Series):
        return None
    value_of: dict[Any, Any] = {}
    for key, value in values.items():
        name = tuple(map(name_text, key)) if isinstance(key, tuple) else name_text(key)
        if name in value_of:
            raise ValueError(f"{argument}: expected each name once, got {name!r} twice")
        value_of[name] = value
    return value_of


def long_lifts(
    ids: Objects,
    names: Mapping[str, Sequence[str]],
    lift: Floats,
    error: Floats,
    level: float,
) -> pd.DataFrame:
    """A row for each voter and arm, with intervals.

    Args:
        ids: Voters, shape (n,).
        names: Of the arms, by column of the result, length A each.
        lift: Shape (n, A).
        error: Standard error, shape (n, A).
        level: Of the intervals, in (0, 1).

    Returns:
        Columns voter_id, those of the names, lift, se, low, high.

    Raises:
        ValueError: If the level is none.
    """  # fmt: skip
    width = float(stats.norm.isf((1 - level_of(level)) / 2)) * error
    n, n_arms = lift.shape
    return pd.DataFrame(
        {
            "voter_id": np.repeat(ids, n_arms),
            **{name: np.tile(values, n) for name, values in names.items()},
            "lift": lift.ravel(), "se": error.ravel(),
            "low": (lift - width).ravel(), "high": (lift + width).ravel(),
        }
    ).astype(dict.fromkeys(("voter_id", *names), "str"))  # fmt: skip


def costs_of(cost: Any, arms: Sequence[Arm]) -> Floats:
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
    prices = mapping_of(cost, "cost")
    if prices is None:
        return np.full(len(arms), usd_of(cost, "cost"))
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
        usd.append(usd_of(prices[keys[0]], f"cost of {keys[0]!r}"))
    strange = [key for key in prices if key not in priced]
    if strange:
        raise ValueError(
            f"cost: expected messages or channels of the test "
            f"({', '.join(f'{a.message_id} by {a.channel}' for a in arms)}), got "
            f"{strange[0]!r}"
        )
    return np.array(usd, dtype=np.float64)
