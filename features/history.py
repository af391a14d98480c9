"""Vote-history features: turnout, recency and shares by kind of election.

They are expressions that any engine runs. An election counts for a voter who could have
voted in it: since the earlier of the day of registration and the first vote on file,
and from the year of the eighteenth birthday. An election without a value on file does
not count, nor does one held at or after the as-of date.

Notation, for voter i and election e, held h_e years before the as-of date:

    v_ie    1 voted, 0 did not, missing where not on file
    c_ie    1 where e counts for i
    share   sum_e c v / sum_e c
"""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from hustings.features.tables import HISTORY_DERIVED, HISTORY_PREFIX

# the endpoint reads this module and needs ibis only for models of this history
if TYPE_CHECKING:
    import ibis.expr.types as ir

ELECTIONS = f"{HISTORY_DERIVED}elections"
SHARE = f"{HISTORY_DERIVED}share"
LAST_VOTED_YEARS = f"{HISTORY_DERIVED}last_voted_years"
MISSED_SINCE = f"{HISTORY_DERIVED}missed_since"

DAYS_A_YEAR = 365.25
VOTING_AGE = 18
_NEVER = 1e6
"""Years; longer than any file remembers."""


class Election(NamedTuple):
    """One past election.

    Attributes:
        column: Of the voters.
        held: When.
        kind: general, primary ...
        years: How long before the as-of date.
    """

    column: str
    held: pd.Timestamp
    kind: str
    years: float


def elections(columns: Sequence[str], as_of: pd.Timestamp) -> list[Election]:
    """The elections among some columns that were held strictly before a date.

    >>> [e.kind for e in elections(["age", "voted_20041102_general"],
    ...                            pd.Timestamp("2006-08-08"))]
    ['general']
    """
    elections_on_file = []
    for column in columns:
        if column.startswith(HISTORY_PREFIX):
            day, _, kind = column.removeprefix(HISTORY_PREFIX).partition("_")
            held = pd.Timestamp(day)
            years = (as_of - held).days / DAYS_A_YEAR
            elections_on_file.append(Election(column, held, kind, years))
    return [
        election for election in elections_on_file if election.held < as_of.normalize()
    ]


def share_column(kind: str) -> str:
    """Column of the share of one kind of election.

    >>> share_column("primary")
    'history__share_primary'
    """
    return f"{SHARE}_{kind}"


def history_names(columns: Sequence[str], as_of: pd.Timestamp) -> list[str]:
    """Names of the columns that `history` gives."""
    past = elections(columns, as_of)
    kinds = sorted({election.kind for election in past})
    always = [ELECTIONS, SHARE, LAST_VOTED_YEARS, MISSED_SINCE]
    return [*always, *map(share_column, kinds)] if past else []


def history(
    voters: "ir.Table", columns: Sequence[str], *, as_of: pd.Timestamp
) -> "ir.Table":
    """Add the vote-history features to the voters.

    Args:
        voters: VOTERS, on any engine.
        columns: Columns that may be used.
        as_of: Only elections before it are history.

    Returns:
        The voters with number and share of the elections that count, years since the
        last vote, how many were missed since, and the share by kind of election.
    """
    past = elections(columns, as_of)
    if not past:
        return voters
    enriched = voters.mutate(**_first_and_last(voters, past))
    counts = {f"counts__{e.column}": _counts(enriched, e, columns, as_of) for e in past}
    enriched = enriched.mutate(**counts)
    enriched = enriched.mutate(**_sums(enriched, past))
    return enriched.drop("first__", "last__", *counts)


def _first_and_last(voters: "ir.Table", past: list[Election]) -> dict[str, "ir.Value"]:
    """Years since the first and the last vote; as if never voted without one."""
    import ibis

    first = [_when(voters, e, ibis.literal(e.years), -_NEVER) for e in past]
    last = [_when(voters, e, ibis.literal(e.years), _NEVER) for e in past]
    return {"first__": ibis.greatest(*first), "last__": ibis.least(*last)}


def _when(
    voters: "ir.Table", election: Election, then: "ir.Value", otherwise: float
) -> "ir.Value":
    import ibis

    voted = (voters[election.column] == 1).fill_null(False)
    return ibis.ifelse(voted, then.cast("float64"), ibis.literal(otherwise, "float64"))


def _counts(
    voters: "ir.Table", election: Election, columns: Sequence[str], as_of: pd.Timestamp
) -> "ir.Value":
    """1 where the election counts for the voter, else 0."""
    import ibis

    voted = voters[election.column]
    could = voters["first__"] > election.years
    if "registered_on" in columns:
        registered = voters["registered_on"]
        unknown = registered.isnull() | (registered >= as_of)
        # registered on the day itself counts, at whatever time of the day
        in_time = registered < election.held + pd.Timedelta(days=1)
        could = could | unknown | in_time.fill_null(False)
    else:
        could = ibis.literal(value=True)
    if "birth_year" in columns:
        of_age = election.held.year - voters["birth_year"] >= VOTING_AGE
        could = could & of_age.fill_null(True)
    counts = voted.notnull() & ((voted == 1) | could)
    return ibis.ifelse(counts.fill_null(False), 1, 0)


def _sums(voters: "ir.Table", past: list[Election]) -> dict[str, "ir.Value"]:
    import ibis

    never = voters["last__"] >= _NEVER
    missed = [
        ibis.ifelse(voters["last__"] > e.years, voters[f"counts__{e.column}"], 0)
        for e in past
    ]
    columns = {
        ELECTIONS: _total(voters, past).cast("float64"),
        SHARE: _share(voters, past),
        LAST_VOTED_YEARS: ibis.ifelse(never, ibis.null("float64"), voters["last__"]),
        MISSED_SINCE: reduce(add, missed).cast("float64"),
    }
    for kind in sorted({e.kind for e in past}):
        columns[share_column(kind)] = _share(
            voters, [e for e in past if e.kind == kind]
        )
    return columns


def _total(voters: "ir.Table", past: list[Election]) -> "ir.Value":
    return reduce(add, [voters[f"counts__{e.column}"] for e in past])


def _share(voters: "ir.Table", past: list[Election]) -> "ir.Value":
    """Share of the elections that count; null where none does."""
    import ibis

    votes = reduce(add, [_when(voters, e, ibis.literal(1.0), 0.0) for e in past])
    return votes / _total(voters, past).cast("float64").nullif(0.0)
