"""As-of joins: what was known at a moment is what was observed strictly before it.

The same rule holds for reactions, permissions and history. `before` cuts a table at one
moment; `events_before` and `sums_before` cut it at a moment for each row, so that a
delivery of March never reads a reaction of April. A row without a time counts as not
observed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from hustings.features.tables import TableError

# the endpoint reads this module and has no need of ibis
if TYPE_CHECKING:
    import ibis.expr.types as ir

EVENT_COLUMNS = ("voter_id", "at", "column", "amount")
"""A table of events: whose, when, which feature it adds to, and how much."""
_ROW = "row__"


def first_delivery(deliveries: pd.DataFrame) -> pd.Timestamp:
    """The day on which anything was first sent, or not sent to a control.

    Args:
        deliveries: DELIVERIES table.
    """
    first: pd.Timestamp = deliveries["sent_on"].min().normalize()
    return first


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


def permissions_before(
    permissions: pd.DataFrame, as_of: pd.Timestamp | str
) -> pd.DataFrame:
    """PERMISSIONS as they stood: what came later had not happened.

    Args:
        permissions: PERMISSIONS table.
        as_of: The moment; a permission granted at or after it is not there, and one
            withdrawn at or after it is not withdrawn yet. One without a date stands.
    """
    moment = pd.Timestamp(as_of)
    undated = permissions["granted_at"].isna()
    granted = permissions[undated | (permissions["granted_at"] < moment)]
    later = granted["withdrawn_at"] >= moment
    return granted.assign(withdrawn_at=granted["withdrawn_at"].mask(later))


def events_before(
    moments: "ir.Table",
    events: "ir.Table",
    *,
    by: Sequence[str] = ("voter_id",),
    moment: str = "sent_on",
    time: str = "at",
) -> "ir.Table":
    """Join every moment to its events that were observed strictly before it.

    Args:
        moments: One row a moment, such as deliveries.
        events: What was observed; has `by` and `time`.
        by: Columns that both tables share and that say whose a row is.
        moment: Column of the moment.
        time: Column of the event's time.

    Returns:
        Columns of both; a moment without events is not in it.
    """
    same = [moments[column] == events[column] for column in by]
    earlier = events[time] < moments[moment]
    return moments.inner_join(events, [*same, earlier], rname="{name}__event")


def last_before(
    moments: "ir.Table",
    events: "ir.Table",
    *,
    key: Sequence[str],
    by: Sequence[str] = ("voter_id",),
    moment: str = "sent_on",
    time: str = "at",
) -> "ir.Table":
    """The last event before every moment: an as-of join that every engine runs.

    Args:
        moments: As in `events_before`.
        events: As in `events_before`; of those at one time any may be taken.
        key: Columns that identify a moment.
        by: As in `events_before`.
        moment: Column of the moment.
        time: Column of the event's time.
    """
    import ibis

    earlier_events = events_before(moments, events, by=by, moment=moment, time=time)
    latest = ibis.window(group_by=list(key), order_by=earlier_events[time].desc())
    ranked = earlier_events.mutate(rank__=ibis.row_number().over(latest))
    return ranked.filter(ranked["rank__"] == 0).drop("rank__")


def sums_before(deliveries: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    """Sum the events before each delivery, one column for each kind of event.

    Args:
        deliveries: voter_id and sent_on, one row per delivery.
        events: `EVENT_COLUMNS`; an amount may be a probability.

    Returns:
        One row per delivery, in its order; every kind among the events is a column, 0
        where nothing had been observed, so that what comes later adds none.

    Raises:
        TableError: If the events lack a column.
    """
    absent = [name for name in EVENT_COLUMNS if name not in events]
    if absent:
        raise TableError(
            f"expected events with the columns {', '.join(EVENT_COLUMNS)}, got none "
            f"named {absent[0]!r}"
        )
    kinds = sorted(events["column"].unique())
    moments = deliveries[["voter_id", "sent_on"]].assign(
        **{_ROW: range(len(deliveries))}
    )
    event_pairs = moments.merge(events[list(EVENT_COLUMNS)], on="voter_id")
    earlier = event_pairs[event_pairs["at"] < event_pairs["sent_on"]]
    sums = earlier.pivot_table(
        index=_ROW, columns="column", values="amount", aggfunc="sum", observed=True
    )
    sums_per_delivery = sums.reindex(
        index=range(len(deliveries)), columns=pd.Index(kinds)
    )
    return sums_per_delivery.fillna(0.0).astype(float).set_axis(deliveries.index)
