"""Ballots of voters as counties report them, and who has voted by a day.

A ballot is a fact of the campaign: events in the order in which they came, none ever
rewritten. Where a voter stands is the event of the latest day; of several of one day
the one that came last, so that a later correction takes a vote back.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd
import sqlalchemy as sa

from hustings.features.tables import VOTED_STATUSES

Row = dict[str, Any]

META = sa.MetaData()
BALLOT_EVENTS = sa.Table(
    "ballots",
    META,
    sa.Column(
        "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True,
        autoincrement=True,
    ),
    sa.Column("event_id", sa.Text, nullable=False, unique=True),
    sa.Column("voter_id", sa.Text, nullable=False, index=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("method", sa.Text),
    sa.Column("dated", sa.Text, nullable=False),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sqlite_autoincrement=True,
)  # fmt: skip
"""`dated` is the day since when the ballot stands there, YYYY-MM-DD."""
_AT_ONCE = 10_000
"""A statement takes only so many values."""


def ballots_to_add(connection: sa.Connection, rows: Sequence[Row]) -> list[Row]:
    """Events that say something new; what is there already changes nothing.

    An event is a repeat where its id is there, or where the last event of the voter on
    that day says the same: counties report every ballot again every day.

    Args:
        connection: A transaction, in which nobody else writes.
        rows: Of `ballots`, in the order in which they came.
    """
    ids = _taken_ids(connection, [row["event_id"] for row in rows])
    last = _last_of_days(connection, {row["voter_id"] for row in rows})
    new = []
    for row in rows:
        of_day = row["voter_id"], row["dated"]
        if row["event_id"] not in ids and last.get(of_day) != row["status"]:
            new.append(row)
            last[of_day] = row["status"]
        ids.add(row["event_id"])
    return new


def _taken_ids(connection: sa.Connection, event_ids: Sequence[str]) -> set[str]:
    c = BALLOT_EVENTS.c
    return {
        event_id
        for start in range(0, len(event_ids), _AT_ONCE)
        for (event_id,) in connection.execute(
            sa.select(c.event_id).where(
                c.event_id.in_(event_ids[start : start + _AT_ONCE])
            )
        )
    }


def _last_of_days(
    connection: sa.Connection, voter_ids: Collection[str]
) -> dict[tuple[str, str], str]:
    """Voter and day → status of the last event."""
    c, ids = BALLOT_EVENTS.c, sorted(voter_ids)
    return {
        (row.voter_id, row.dated): row.status
        for start in range(0, len(ids), _AT_ONCE)
        for row in connection.execute(
            sa.select(c.voter_id, c.dated, c.status)
            .where(c.voter_id.in_(ids[start : start + _AT_ONCE]))
            .order_by(c.seq)
        )
    }


@cache
def ballots_by(links: sa.Table, *, of_voters: bool) -> sa.Select[Any]:
    """Events by the voter's id, or by the present one where an id became another.

    Args:
        links: Former ids (`person`) and what they became (`voter_id`).
        of_voters: Whether only of the voters of a parameter `ids`.
    """
    c, link = BALLOT_EVENTS.c, links.c
    stated = (c.status, c.method, c.dated, c.received_at, c.seq)
    direct = sa.select(c.voter_id.label("voter_id"), *stated)
    linked = sa.select(link.voter_id.label("voter_id"), *stated).where(
        c.voter_id == link.person
    )
    if not of_voters:
        # one row a person: an id that became another has none of its own
        direct = direct.where(c.voter_id.not_in(sa.select(link.person)))
    else:
        ids = sa.bindparam("ids", type_=sa.Text, expanding=True)
        direct = direct.where(c.voter_id.in_(ids))
        linked = linked.where(link.voter_id.in_(ids))
    either = sa.union_all(direct, linked).subquery()
    return sa.select(either).order_by(either.c.seq)


def ballots_frame(rows: Sequence[Any]) -> pd.DataFrame:
    """Events as a table.

    Args:
        rows: Of `ballots_by`.

    Returns:
        voter_id, status, method, dated (a day), received_at (UTC without a zone) and
        seq, in the order in which they came.
    """
    names = ["voter_id", "status", "method", "dated", "received_at", "seq"]
    frame = pd.DataFrame(rows, columns=names)
    texts = dict.fromkeys(("voter_id", "status", "method"), "str")
    return frame.astype({**texts, "seq": "int64"}).assign(
        dated=pd.to_datetime(frame["dated"], format="%Y-%m-%d").dt.as_unit("us"),
        received_at=frame["received_at"].astype("int64").astype("datetime64[us]"),
    )


def standing(ballots: pd.DataFrame) -> pd.DataFrame:
    """Where the ballot of each voter stands: one row a voter, columns as they are.

    Args:
        ballots: Events as `ballots_frame` gives them, those of the time asked about.
    """
    ordered = ballots.sort_values(["dated", "seq"], kind="stable")
    return ordered.drop_duplicates("voter_id", keep="last").reset_index(drop=True)


def votes(ballots: pd.DataFrame) -> pd.DataFrame:
    """Of `standing`, the ballots that are a vote."""
    stands = standing(ballots)
    voted = stands["status"].isin(VOTED_STATUSES)
    return stands[voted].reset_index(drop=True)


def votes_before(ballots: pd.DataFrame, day: pd.Timestamp) -> pd.DataFrame:
    """Votes by what had happened on the days before one.

    Args:
        ballots: Events, of any time.
        day: What is dated that day, or later, does not count.
    """
    return votes(ballots[ballots["dated"] < day.normalize()])


def as_rows(
    ballots: pd.DataFrame, event_ids: Sequence[str], received_at: int
) -> list[Row]:
    """Rows of the store for the ballots of a file.

    Args:
        ballots: BALLOTS, each voter once a day.
        event_ids: One for each.
        received_at: Microseconds since 1970, UTC.
    """
    method = ballots["method"].astype(object)
    columns: Mapping[str, Sequence[Any]] = {
        "event_id": event_ids,
        "voter_id": ballots["voter_id"].tolist(),
        "status": ballots["status"].tolist(),
        "method": method.where(method.notna(), None).tolist(),
        "dated": ballots["dated"].dt.strftime("%Y-%m-%d").tolist(),
        "received_at": [received_at] * len(ballots),
    }
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]
