"""As-of joins: what was known at a moment is what was observed strictly before it.

The same rule holds for reactions, history and voter files. `before` cuts a table at one
moment; `file_before` finds for each row the last voter file that was observed before
its own moment. A row without a time counts as not observed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from hustings.features.arrays import Ints
from hustings.features.tables import TableError


def naive_utc(at: pd.Timestamp) -> pd.Timestamp:
    """A moment in UTC, without its zone, as tables hold times.

    >>> naive_utc(pd.Timestamp("2026-09-08T06:00+02:00"))
    Timestamp('2026-09-08 04:00:00')
    """
    return at.tz_convert("UTC").tz_localize(None) if at.tzinfo else at


def naive_utc_times(times: pd.Series) -> pd.Series:
    """`naive_utc` of every moment; one that cannot be read is missing.

    Args:
        times: Moments, days or texts of ISO 8601; without a zone they are UTC.

    >>> naive_utc_times(pd.Series(["2026-09-08T06:00+02:00", "soon"])).tolist()
    [Timestamp('2026-09-08 04:00:00'), NaT]
    """
    # how texts are written is not guessed from the first of them
    is_written = not pd.api.types.is_datetime64_any_dtype(times.dtype)
    read = pd.to_datetime(
        times, errors="coerce", utc=True, format="ISO8601" if is_written else None
    )
    return read.dt.tz_localize(None)


def first_delivery(deliveries: pd.DataFrame) -> pd.Timestamp:
    """The day on which anything was first sent, or not sent to a control.

    Args:
        deliveries: DELIVERIES table.
    """
    first: pd.Timestamp = deliveries["sent_on"].min().normalize()
    return first


class VoterFile(NamedTuple):
    """A voter file, and the day on which its columns were observed.

    Attributes:
        observed_on: The day.
        voters: VOTERS.
    """

    observed_on: pd.Timestamp
    voters: pd.DataFrame


def file_before(moments: pd.Series, observed_on: Sequence[pd.Timestamp]) -> Ints:
    """Position of the last file observed strictly before each moment, shape (n,).

    Args:
        moments: Such as the days of deliveries, n of them.
        observed_on: Day of every file, in any order; of equal days the last counts.

    Returns:
        -1 where every file was observed later.

    >>> days = [pd.Timestamp("2026-04-01"), pd.Timestamp("2026-04-08")]
    >>> file_before(pd.Series([*days, pd.Timestamp("2026-04-09")]), days).tolist()
    [-1, 0, 1]
    """
    days = np.array([pd.Timestamp(day) for day in observed_on], dtype="datetime64[ns]")
    order = np.argsort(days, kind="stable")
    times = moments.to_numpy(dtype="datetime64[ns]")
    place = np.searchsorted(days[order], times, side="left") - 1
    position: Ints = np.append(order, -1)[place].astype(np.int64)
    return position


def before(
    frame: pd.DataFrame, time_column: str, as_of: pd.Timestamp | str
) -> pd.DataFrame:
    """The rows observed strictly before a moment.

    Args:
        frame: Rows with a column of times, in UTC without an offset.
        time_column: That column; a row without a time was never observed.
        as_of: The moment.

    Raises:
        TableError: If the column is not there or holds no times.

    >>> said = pd.DataFrame({"at": pd.to_datetime(["2026-04-05", "2026-04-06"])})
    >>> len(before(said, "at", "2026-04-06"))
    1
    """
    got = frame.dtypes.get(time_column, "no such column")
    if not pd.api.types.is_datetime64_dtype(got):
        raise TableError(
            f"expected a column {time_column!r} of times in UTC without an offset, to "
            f"tell what was known by {as_of}; got {got}"
        )
    earlier: pd.DataFrame = frame[frame[time_column] < pd.Timestamp(as_of)]
    return earlier
