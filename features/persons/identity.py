"""The identity map: voter ids → persons, from one voter file to the next.

A person keeps everything that depends on them (holdout, permissions, history) when they
move or when the file gives them another id. The map is only ever added to (and taken
from when somebody asks to be forgotten); a holdout is drawn by the household in which a
person was first seen, so that no move changes it.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.dataset import dataset, field

from hustings.features.atomic import whole_file, write_same
from hustings.features.membership import among
from hustings.features.persons.on_disk import (
    ROW_GROUP,
    columns_of,
    connected,
    enter_pairs,
    literal,
    view,
)
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
_SCHEMA = pa.schema(
    {
        name: pa.timestamp("us") if kind == TIMESTAMP else pa.string()
        for name, kind in COLUMNS.items()
    }
)


def nobody() -> pd.DataFrame:
    """The map before the first voter file."""
    return pd.DataFrame({n: pd.Series([], dtype=kind) for n, kind in COLUMNS.items()})


def random_persons(n: int) -> list[str]:
    """Names for n persons that say nothing of them: 32 hexadecimal digits each.

    They come from the system: DuckDB's `uuid()` may be foretold from a few of them.
    """
    text = os.urandom(16 * n).hex()
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


def former_ids(identity: Path) -> dict[str, str]:
    """Former id → the id it became, as the map has them; none before the first file."""
    if not identity.exists():
        return {}
    rows = dataset(identity).to_table(
        columns=["former_id", "voter_id"], filter=field("former_id").is_valid()
    )
    return dict(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def ids_in(voters: Path, ids: Iterable[str]) -> set[str]:
    """Those of some ids that a voter file has.

    Args:
        voters: VOTERS, Parquet.
        ids: Asked for.
    """
    wanted = field("voter_id").isin(pa.array(ids, pa.string()))
    rows = dataset(voters).scanner(columns=["voter_id"], filter=wanted)
    return {voter for batch in rows.to_batches() for voter in batch[0].to_pylist()}


# --- the map with a new voter file ----------------------------------------------------


def extend(
    identity: Path,
    voters: Path,
    former: Mapping[str, str],
    *,
    since: pd.Timestamp,
    into: Path,
) -> int:
    """Rows that a new voter file adds to the map; what it holds stays as it is.

    An id that another became inherits the person and the first household of that
    other; if it was a person's already, it is both. A new voter joins the household in
    the sense of the holdout: of those who live there already.

    Args:
        identity: The map so far, which need not be there.
        voters: VOTERS of the new file, Parquet.
        former: Former id → present id, from declared merges and from exact keys.
        since: When the file was observed.
        into: Parquet file that gets the rows: see `append`, `new_persons`.

    Returns:
        The number of rows.
    """
    with (
        connected(into.parent) as connection,
        pq.ParquetWriter(into, _SCHEMA, **_WRITTEN) as writer,
    ):
        view(connection, "voters", voters)
        has_household = "household_id" in columns_of(connection, "voters")
        household = "household_id" if has_household else "NULL::VARCHAR AS household_id"
        first_seen = f"SELECT voter_id, {household} FROM voters"
        n_inherited = 0
        if identity.exists():
            connection.execute(f"CREATE VIEW housed AS {first_seen}")
            connection.execute(_IDENTITY.format(literal(identity)))
            inherited = _inherited(connection, former, since)
            writer.write_table(inherited)
            n_inherited = inherited.num_rows
            connection.execute(_FRESH)
            connection.execute(_HOUSEMATES)
            first_seen = _JOINED
        n_first_seen = 0
        for batch in connection.execute(first_seen).to_arrow_reader(ROW_GROUP):
            writer.write_table(_new_rows(batch, since))
            n_first_seen += batch.num_rows
    return n_inherited + n_first_seen


_WRITTEN = {"compression": "zstd", "use_dictionary": ["since", "reason"]}
"""Ids hardly repeat: a dictionary of them costs time and saves nothing."""


def new_persons(added: Path) -> Iterator[str]:
    """The persons first seen among rows of `extend`."""
    with pq.ParquetFile(added) as file:
        for batch in file.iter_batches(ROW_GROUP, columns=["person", "reason"]):
            rows = batch.to_pydict()
            for person, reason in zip(rows["person"], rows["reason"], strict=True):
                if reason == FIRST_SEEN:
                    yield person


def append(identity: Path, added: Path) -> None:
    """Put the rows of `extend` after those of the map."""
    if not identity.exists():
        write_same(identity, added)
        return
    with (
        whole_file(identity) as aside,
        pq.ParquetWriter(aside, _SCHEMA, **_WRITTEN) as writer,
    ):
        for path in (identity, added):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(ROW_GROUP, columns=_SCHEMA.names):
                    table = pa.Table.from_batches([batch]).select(_SCHEMA.names)
                    writer.write_table(table.cast(_SCHEMA))


def _inherited(
    connection: duckdb.DuckDBPyConnection,
    former: Mapping[str, str],
    since: pd.Timestamp,
) -> pa.Table:
    """Rows of ids that take over what another id had, kept as table `inherited`."""
    enter_pairs(connection, "former", former)
    connection.execute(_PAIRS)
    connection.execute(_IDS)
    pairs = dict(connection.execute("FROM pairs").fetchall())
    mapped = connection.execute(_MAPPED).df()
    rows = mapped[mapped["voter_id"].isin(pairs)]
    rows = rows.assign(
        former_id=rows["voter_id"], voter_id=rows["voter_id"].map(pairs), since=since
    )
    had_before = rows["voter_id"].isin(mapped["voter_id"])
    rows["reason"] = had_before.map({True: MERGED, False: RENAMED})
    had = pd.MultiIndex.from_frame(mapped[["voter_id", "person"]])
    again = pd.MultiIndex.from_frame(rows[["voter_id", "person"]]).isin(had)
    table = pa.Table.from_pandas(rows[~again], _SCHEMA, preserve_index=False)
    connection.register("inherited", table)
    return table


_IDENTITY = """
CREATE VIEW identity AS SELECT *, file_row_number AS row FROM read_parquet({})
"""
_PAIRS = """
CREATE TEMP TABLE pairs AS
SELECT former.* FROM former SEMI JOIN voters ON former.now = voters.voter_id
"""
_IDS = "CREATE TEMP TABLE ids AS SELECT unnest([old, now]) AS voter_id FROM pairs"
_MAPPED = "SELECT identity.* FROM identity SEMI JOIN ids USING (voter_id) ORDER BY row"
_FRESH = """
CREATE TEMP TABLE fresh AS
FROM housed ANTI JOIN identity USING (voter_id) ANTI JOIN inherited USING (voter_id)
"""
_HOUSEMATES = """
CREATE TEMP TABLE housemates AS
WITH mates AS (FROM housed SEMI JOIN fresh USING (household_id))
SELECT mates.household_id, first(identity.first_household_id ORDER BY row) AS began
FROM mates JOIN identity USING (voter_id)
GROUP BY mates.voter_id, mates.household_id
"""
_JOINED = """
-- the household's own id, unless none of those who live there began in it: then the id
-- was given anew, and the one that most of them began in counts
WITH counted AS (
    SELECT household_id, began, count(*) AS n FROM housemates
    WHERE began IS NOT NULL GROUP BY ALL
), before AS (
    SELECT household_id, coalesce(
        first(began) FILTER (began = household_id), first(began ORDER BY n DESC, began)
    ) AS began FROM counted GROUP BY household_id
)
SELECT voter_id, coalesce(before.began, fresh.household_id) AS household_id
FROM fresh LEFT JOIN before USING (household_id)
"""


def _new_rows(voters: pa.RecordBatch, since: pd.Timestamp) -> pa.Table:
    """Rows of the map for voters who are seen first, with persons drawn for them."""
    n = voters.num_rows
    ids, households = voters["voter_id"], voters["household_id"]
    observed = pa.repeat(pa.scalar(since, pa.timestamp("us")), n)
    persons, nothing = pa.array(random_persons(n)), pa.nulls(n)
    columns = [
        ids,
        persons,
        observed,
        pa.repeat(FIRST_SEEN, n),
        nothing,
        ids,
        households,
    ]
    return pa.table(columns, names=_SCHEMA.names).cast(_SCHEMA)


# --- who is behind an id --------------------------------------------------------------


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
    rows = identity[among(identity["voter_id"], voters["voter_id"])]
    unit = rows["first_voter_id"]
    if by_household:
        unit = rows["first_household_id"].fillna(unit)
    return pd.DataFrame({"voter_id": rows["voter_id"], "unit": unit})


def person_of_each_id(identity: pd.DataFrame) -> dict[str, str]:
    """The person behind every id, present or former: the one answer to whose it is.

    Args:
        identity: Columns voter_id, person and former_id of the map.

    Returns:
        Id → one name of the person. Persons who were merged into one id are one, by
        the name of the person who had that id first.

    >>> person_of_each_id(pd.DataFrame({
    ...     "voter_id": ["a", "b", "b"], "person": ["p", "q", "p"],
    ...     "former_id": [None, None, "a"],
    ... }))
    {'a': 'q', 'b': 'q'}
    """
    ids, former = identity["voter_id"], identity["former_id"]
    renamed = former.notna()
    several = ids.duplicated(keep=False) | renamed | ids.isin(former[renamed])
    linked = identity[several]
    earlier_name: dict[str, str] = {}

    def name_of(person: str) -> str:
        while person in earlier_name:
            person = earlier_name[person]
        return person

    person_of_id: dict[str, str] = {}
    for column in ("voter_id", "former_id"):
        pairs = linked[[column, "person"]].dropna().itertuples(index=False, name=None)
        for voter, person in pairs:
            first = name_of(person_of_id.setdefault(voter, person))
            if name_of(person) != first:
                earlier_name[name_of(person)] = first
    names = {person: name_of(person) for person in earlier_name}
    person = with_present_ids(identity["person"], names)
    rows = pd.concat(
        [
            pd.DataFrame({"id": ids, "person": person}),
            pd.DataFrame({"id": former[renamed], "person": person[renamed]}),
        ]
    )
    return dict(zip(rows["id"].tolist(), rows["person"].tolist(), strict=True))


def ids_of_persons(person_of_id: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """All ids of persons who have had several, by person.

    Args:
        person_of_id: `person_of_each_id`.
    """
    n_ids = Counter(person_of_id.values())
    ids: dict[str, set[str]] = {}
    for voter, person in person_of_id.items():
        if n_ids[person] > 1:
            ids.setdefault(person, set()).add(voter)
    return {person: frozenset(of_person) for person, of_person in ids.items()}


def ids_of(identity: pd.DataFrame, voter_id: str) -> frozenset[str]:
    """Every id that a person has had, the given one included."""
    person_of_id = person_of_each_id(identity)
    person = person_of_id.get(voter_id)
    theirs = {voter for voter, who in person_of_id.items() if who == person}
    return frozenset({voter_id} | theirs)


def persons_of(identity: pd.DataFrame, ids: frozenset[str]) -> frozenset[str]:
    """The persons behind ids."""
    return frozenset(identity.loc[identity["voter_id"].isin(ids), "person"])
