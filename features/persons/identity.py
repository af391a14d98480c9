"""The identity map: voter ids → persons, from one voter file to the next.

A person keeps everything that depends on them (holdout, permissions, history) when they
move or when the file gives them another id. The map is only ever added to (and taken
from when somebody asks to be forgotten); a holdout is drawn by the household in which a
person was first seen, so that no move changes it.
"""

import secrets
from collections.abc import Mapping

import pandas as pd

from hustings.features.tables import TIMESTAMP, TableError

COLUMNS: Mapping[str, str] = {
    "voter_id": "str",
    "person": "str",
    "since": TIMESTAMP,
    "reason": "str",
    "former_id": "str",
    "first_voter_id": "str",
    "first_household_id": "str",
}
"""One row a voter id and person: two where two persons were merged into one id."""
FIRST_SEEN, RENAMED, MERGED = "first seen", "renamed", "merged"
_INHERITED = ["person", "first_voter_id", "first_household_id"]


def nobody() -> pd.DataFrame:
    """The map before the first voter file."""
    return pd.DataFrame({n: pd.Series([], dtype=kind) for n, kind in COLUMNS.items()})


def random_persons(n: int) -> list[str]:
    """Names for n persons that say nothing of them."""
    text = secrets.token_hex(16 * n)
    return [text[32 * i : 32 * (i + 1)] for i in range(n)]


def present_ids(former: Mapping[str, str]) -> dict[str, str]:
    """Every former id with its present id.

    Args:
        former: Former id → the id it became, which may have become another since.

    Raises:
        TableError: If ids became each other in a circle.

    >>> present_ids({"a": "b", "b": "c"})
    {'a': 'c', 'b': 'c'}
    """
    last_ids = {}
    for start in former:
        seen, at = {start}, former[start]
        while at in former:
            if at in seen:
                raise TableError(
                    f"table merges: expected ids that end in one that lasts, got a "
                    f"circle through {at!r}; mend the rows of [tables.merges]"
                )
            seen.add(at)
            at = former[at]
        last_ids[start] = at
    return last_ids


def with_present_ids(voter_id: pd.Series, former: Mapping[str, str]) -> pd.Series:
    """Voter ids with each that another has replaced since as the present one."""
    if not former:
        return voter_id
    return voter_id.map(dict(former)).fillna(voter_id)


def former_ids(identity: pd.DataFrame) -> dict[str, str]:
    """Former id → the id it became, as the map has them."""
    rows = identity.dropna(subset="former_id")
    return dict(zip(rows["former_id"], rows["voter_id"], strict=True))


def extended(
    identity: pd.DataFrame,
    voters: pd.DataFrame,
    former: Mapping[str, str],
    *,
    since: pd.Timestamp,
) -> pd.DataFrame:
    """The map with a new voter file; what it holds stays as it is.

    An id that another became inherits the person and the first household of that
    other; if it was a person's already, it is both. A new voter joins the household in
    the sense of the holdout: of those who live there already.

    Args:
        identity: The map so far.
        voters: VOTERS of the new file.
        former: Former id → present id, from declared merges and from exact keys.
        since: When the file was observed.
    """
    moved_on = _inherited(identity, voters, former, since)
    mapped_ids = set(identity["voter_id"]) | set(moved_on["voter_id"])
    fresh = voters[~voters["voter_id"].isin(mapped_ids)]
    added = pd.DataFrame(
        {
            "voter_id": fresh["voter_id"].to_numpy(),
            "person": random_persons(len(fresh)),
            "since": since,
            "reason": FIRST_SEEN,
            "former_id": None,
            "first_voter_id": fresh["voter_id"].to_numpy(),
            "first_household_id": _joined_households(identity, voters, fresh),
        }
    )
    parts = [identity, *(p.astype(dict(COLUMNS)) for p in (moved_on, added) if len(p))]
    return pd.concat(parts, ignore_index=True)


def _inherited(
    identity: pd.DataFrame,
    voters: pd.DataFrame,
    former: Mapping[str, str],
    since: pd.Timestamp,
) -> pd.DataFrame:
    """Rows of ids that take over what another id had."""
    there, mapped_ids = set(voters["voter_id"]), set(identity["voter_id"])
    new = {
        old: now for old, now in former.items() if now in there and old in mapped_ids
    }
    rows = identity[identity["voter_id"].isin(new)]
    rows = rows.assign(
        former_id=rows["voter_id"],
        voter_id=rows["voter_id"].map(new),
        since=since,
    )
    rows["reason"] = [MERGED if v in mapped_ids else RENAMED for v in rows["voter_id"]]
    had = pd.MultiIndex.from_frame(identity[["voter_id", "person"]])
    again = pd.MultiIndex.from_frame(rows[["voter_id", "person"]]).isin(had)
    return rows.loc[~again, list(COLUMNS)]


def _joined_households(
    identity: pd.DataFrame, voters: pd.DataFrame, fresh: pd.DataFrame
) -> pd.Series:
    """First household of new voters: that of the people they now live with.

    It is the household's own id, unless none of those who live there began in it: then
    the id was given anew, and the one that most of them began in counts.
    """
    if "household_id" not in voters:
        return pd.Series([None] * len(fresh), dtype="str")
    first = identity.drop_duplicates("voter_id").set_index("voter_id")
    mates = voters[voters["household_id"].isin(fresh["household_id"].dropna())]
    mates = mates.assign(began=mates["voter_id"].map(first["first_household_id"]))
    mates = mates.dropna(subset="began")
    at_home = mates.loc[mates["began"] == mates["household_id"], "household_id"]
    strangers = mates[~mates["household_id"].isin(at_home)]
    counted = strangers.groupby(["household_id", "began"]).size().rename("n")
    ordered = counted.reset_index().sort_values(["n", "began"], ascending=[False, True])
    before = ordered.drop_duplicates("household_id").set_index("household_id")["began"]
    household = fresh["household_id"]
    joined: pd.Series = household.map(before).astype("str").fillna(household)
    return joined.reset_index(drop=True)


def holdout_units(
    identity: pd.DataFrame, voters: pd.DataFrame, *, by_household: bool
) -> pd.DataFrame:
    """The units by which voters are held out: those in which they were first seen.

    Args:
        identity: The map.
        voters: VOTERS.
        by_household: Whether households are drawn, or voters.

    Returns:
        Columns voter_id, unit; one row a voter, more where persons were merged: who
        is held out as one of them is held out.
    """
    rows = identity[identity["voter_id"].isin(voters["voter_id"])]
    unit = rows["first_voter_id"]
    if by_household:
        unit = rows["first_household_id"].fillna(unit)
    return pd.DataFrame({"voter_id": rows["voter_id"], "unit": unit})


def ids_of(identity: pd.DataFrame, voter_id: str) -> frozenset[str]:
    """Every id that a person has had, the given one included."""
    person_ids, grown = {voter_id}, True
    while grown:
        matching = identity[
            identity["voter_id"].isin(person_ids)
            | identity["former_id"].isin(person_ids)
        ]
        persons = identity[identity["person"].isin(matching["person"])]
        ids = set(persons["voter_id"]) | set(persons["former_id"].dropna())
        grown = not ids <= person_ids
        person_ids |= ids
    return frozenset(person_ids)


def persons_of(identity: pd.DataFrame, ids: frozenset[str]) -> frozenset[str]:
    """The persons behind ids."""
    return frozenset(identity.loc[identity["voter_id"].isin(ids), "person"])
