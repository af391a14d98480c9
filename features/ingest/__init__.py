"""Voter file, messages, deliveries, responses → checked tables and a quarantine.

The only reader of raw files. `source` declares where a table lies and how its columns
become ours, `reading` gives its rows in blocks, `mapping` maps them, `rows` and
`voters` take a table in, `sorting` keeps account of every row, `links` checks one table
against another; `ingest` does so for every table of a campaign.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from hustings.features.arrays import Bools
from hustings.features.engine import ONE_MACHINE, Engine
from hustings.features.ingest.databases import DataMissing
from hustings.features.ingest.expressions import NO_VALUE
from hustings.features.ingest.identities import (
    Identities,
    read_identities,
    read_provider_rows,
)
from hustings.features.ingest.links import (
    LINKS,
    check_costs,
    check_experiments,
    check_responses,
    check_times,
    no_links,
    set_aside_off_scale,
    split_units,
    under_present_ids,
    units_then,
)
from hustings.features.ingest.mapping import (
    Mapped,
    fault_rows,
    map_columns,
    map_with_faults,
    scalar_text,
)
from hustings.features.ingest.reading import (
    Folders,
    first_rows,
    raw_head,
)
from hustings.features.ingest.rows import RowsRead, open_table, read_rows
from hustings.features.ingest.sorting import (
    ReadTables,
    SortedTable,
    account_of,
    repeated_keys,
)
from hustings.features.ingest.source import ColumnSource, TableSource, history_column
from hustings.features.ingest.voters import (
    VoterPart,
    map_voters,
    merged_twice,
    rows_of,
    rows_of_repeated_ids,
    store_voters,
    with_row_numbers,
)
from hustings.features.persons.identity import present_ids, with_present_ids
from hustings.features.persons.on_disk import literal, quoted
from hustings.features.tables import (
    QUARANTINE,
    RAW_TABLES,
    REQUIRED_TABLES,
    TEST_TABLES,
    VOTERS,
    TableError,
    check,
)

__all__ = [
    "ColumnSource",
    "DataMissing",
    "Folders",
    "Identities",
    "Ingested",
    "Mapped",
    "Persons",
    "TableSource",
    "account_of",
    "first_rows",
    "history_column",
    "ingest",
    "map_columns",
    "map_with_faults",
    "mapped_rows",
    "raw_head",
    "read_identities",
    "read_provider_rows",
    "read_rows",
    "under_present_ids",
]

_FILLED = {
    ("deliveries", "propensity"), ("deliveries", "plan_id"), ("responses", "plan_id")
}  # fmt: skip
"""Columns that a file may leave out: joined from the designs, or the experiment."""
_REFERRED_TO = {"merges", "voters", "messages", "designs", "deliveries"}
"""Tables without which the others cannot be checked against them."""
_BINDS_UNDATED = {"permissions": "withdrawn_at", "do_not_contact": "since"}
"""When somebody asked to be left alone: a row is never lost for such a day."""
_BEGINNING = pd.Timestamp(1970, 1, 1)
MAX_LEVELS = 100
"""A provider column of more texts than this, most of them different, is no category."""
MOSTLY_DIFFERENT = 0.5


def _nobody(frame: pd.DataFrame) -> Bools:
    return np.zeros(len(frame), dtype=bool)


def _as_declared(_voters: Path, declared: Mapping[str, str]) -> dict[str, str]:
    return dict(declared)


@dataclass(frozen=True)
class Persons:
    """Persons behind the ids, as known before the files are read.

    Attributes:
        forgotten: Rows of a table (of any table) that are of somebody who asked to be
            forgotten, shape (n_rows,): they are dropped and only counted.
        follow: From the file of accepted voters and the declared merges to every former
            id with the present one: rows under the former id become the present one's.
        earlier: Voter files of earlier deliveries, as Parquet, by the day on which they
            were observed: what was known of a voter before a delivery that came before
            the present file.
    """

    forgotten: Callable[[pd.DataFrame], Bools] = _nobody
    follow: Callable[[Path, Mapping[str, str]], Mapping[str, str]] = _as_declared
    earlier: Mapping[date, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Ingested:
    """Checked tables, and what became of every row.

    Attributes:
        tables: Canonical tables but the voters; an optional one that was not declared
            is absent.
        voters: The checked voters, a Parquet file.
        quarantine: QUARANTINE table.
        quarantined_voters: table, row, voter_id: whose the rows of the quarantine are.
        former: Former voter id → present one, as the tables were read by.
        report: What became of the rows of each table, as `SortedTable.report` has it.
        sources: The declared sources with every column and type written out: what a
            request must be mapped by to read as the file did.
        stops: Why a run would stop, a sentence each; empty unless they are collected.
        complete: Whether all tables were read and stand to each other as they should;
            without that there are no tables, and perhaps no voters.
    """

    tables: dict[str, pd.DataFrame]
    voters: Path
    quarantine: pd.DataFrame
    quarantined_voters: pd.DataFrame
    former: dict[str, str]
    report: dict[str, dict[str, Any]]
    sources: dict[str, TableSource]
    stops: tuple[str, ...]
    complete: bool


class _Stops:
    """Faults that stop a run: raised at once, or collected.

    Attributes:
        sentences: Those collected.
        at_fault: Tables that cannot be used for them; "" for several together.
    """

    def __init__(self, *, collect: bool) -> None:
        self._collect = collect
        self.sentences: list[str] = []
        self.at_fault: set[str] = set()

    @contextmanager
    def stopping(self, *at_fault: str) -> Iterator[None]:
        """Collect what is wrong; go on after it.

        Args:
            at_fault: The table that cannot be used then.
        """
        try:
            yield
        except TableError as failure:
            if not self._collect:
                raise
            self.sentences.append(str(failure))
            self.at_fault.update(at_fault)


def ingest(
    sources: Mapping[str, TableSource],
    *,
    outcome: str,
    campaign_dir: Path,
    data_dir: Path,
    voters_path: Path,
    raw_dir: Path | None = None,
    outcome_kind: Literal["binary", "continuous"] = "continuous",
    outcome_scale: tuple[float, float] | None = None,
    on_table: Callable[[str], None] = lambda _name: None,
    persons: Persons | None = None,
    further: Callable[[str, pd.DataFrame], pd.DataFrame] | None = None,
    collect: bool = False,
    on: Engine = ONE_MACHINE,
) -> Ingested:
    """Read, map and check every table of a campaign; the voters are never in memory.

    A row that breaks a declaration goes to the quarantine with each of its reasons and
    counts once; a value that cannot be read is lost alone where its column is optional.
    What no row can answer for stops the run: a missing column, more losses than the
    table may have, designs that do not sum to 1 or have no control, features observed
    too late.

    Rows decided upon together: of equal rows with one key the first is kept, of
    differing ones none; where a household (or cluster) that was randomised as one got
    several arms, all its deliveries go, for nobody knows which is right.

    Args:
        sources: By table name.
        outcome: The outcome that the campaign asks about.
        campaign_dir: Folder of campaign.toml.
        data_dir: Folder of public data.
        voters_path: Where the checked voters are written, as Parquet.
        raw_dir: Folder of generated sample data.
        outcome_kind: A binary outcome is 0 or 1.
        outcome_scale: Lowest and highest value of the outcome; None where unknown.
        on_table: Called with the name of each table before it is read.
        persons: Who is forgotten, and which ids became which.
        further: Name and rows of a table → rows that the campaign itself made, such as
            the days of its loop; they are checked like those of the file.
        collect: Go on after a fault that stops a run, to find the others too: they are
            in `stops`.
        on: The engine that maps the rows.

    Raises:
        TableError: Naming the table, what was expected, what came, where to mend it.
        DataMissing: If a declared file, package or database is not there.
    """
    untested = not set(TEST_TABLES) & set(sources)
    needed = set(REQUIRED_TABLES) - (set(TEST_TABLES) if untested else set())
    stops = _Stops(collect=collect)
    for name in REQUIRED_TABLES:
        if name in needed and name not in sources:
            with stops.stopping(name):
                raise TableError(f"expected a table {name}; add [tables.{name}]")
    folders = Folders(campaign=campaign_dir, data=data_dir, raw=raw_dir)
    read: ReadTables = {}
    person_facts, former = persons or Persons(), dict[str, str]()
    for name in RAW_TABLES:
        if name not in sources and not (untested and name in TEST_TABLES):
            continue
        on_table(name)
        with stops.stopping(name):
            if name == "voters":
                read[name] = _take_voters(
                    sources[name], folders, person_facts, former, voters_path, on
                )
                former = dict(person_facts.follow(voters_path, former))
                continue
            read[name] = (
                _take_table(name, sources[name], folders, person_facts, on)
                if name in sources
                else _nothing_brought(name)
            )
            if stops.at_fault & _REFERRED_TO:
                continue
            _sort(read, name, person_facts, former, further)
            if name == "merges":
                former = _declared_merges(read)
    if not stops.at_fault:
        with stops.stopping("responses"):
            check_responses(read, outcome)
    for table in read.values():
        with stops.stopping():
            table.check_share()
    if not stops.at_fault:
        set_aside_off_scale(read, outcome, outcome_kind, outcome_scale)
        with stops.stopping(""):
            check_experiments(read)
        with stops.stopping(""):
            check_costs(read)
        with stops.stopping(""):
            check_times(read, person_facts.earlier)
    complete = not stops.at_fault
    nothing = [pd.DataFrame()] if not read else []
    faults = pd.concat(
        [*nothing, *(t.quarantined() for t in read.values())], ignore_index=True
    )
    at_fault = pd.concat(
        [*nothing, *(t.quarantined_voters() for t in read.values())], ignore_index=True
    )
    return Ingested(
        tables={
            n: t.checked() for n, t in read.items() if complete and t.stored is None
        },
        voters=voters_path,
        quarantine=check(QUARANTINE, faults) if read else faults,
        quarantined_voters=at_fault,
        former=former,
        report={name: table.report() for name, table in read.items()},
        sources={name: table.source for name, table in read.items()},
        stops=tuple(stops.sentences),
        complete=complete,
    )


def mapped_rows(source: TableSource, name: str, folders: Folders) -> pd.DataFrame:
    """The rows of one table in our columns, checked by nobody.

    Args:
        source: Where they lie.
        name: Of the table.
        folders: Folders that the prefixes of a path name.
    """
    return read_rows(source, name, folders).frame


# --- the voters -----------------------------------------------------------------------


def _take_voters(
    source: TableSource,
    folders: Folders,
    person_facts: Persons,
    former: Mapping[str, str],
    path: Path,
    on: Engine,
) -> SortedTable:
    """Read the voter file into its checked form, block by block."""
    table = open_table(source, VOTERS.name, folders, on)
    _require_ours(list(table.source.columns), source, VOTERS.name)
    mapped = path.with_name(f"{path.name}.mapped")
    try:
        part = map_voters(table, mapped, person_facts.forgotten)
        return _stored(part, person_facts, former, path)
    finally:
        mapped.unlink(missing_ok=True)


def _stored(
    part: VoterPart, person_facts: Persons, former: Mapping[str, str], path: Path
) -> SortedTable:
    table = part.table
    settled = table.settled()
    sorted_voters = SortedTable(
        VOTERS.name, settled, pd.DataFrame(), table.raw.digest(), table.rows_in,
        losses=table.losses, faults=table.broken,
        forgotten=part.forgotten, not_belonging=table.not_belonging,
        lines=None if table.raw.scanned is None else table.raw.scanned.lines,
        notes=table.raw.notes,
    )  # fmt: skip
    if part.path.exists():
        old = rows_of(part, list(former))
        part.set_aside(merged_twice(part, old, former), with_row_numbers(old))
        repeated = rows_of_repeated_ids(part)
        part.set_aside(repeated_keys(VOTERS.name, repeated), with_row_numbers(repeated))
        sorted_voters.faults += part.faults
        for ids in part.ids:
            sorted_voters.name_voters(ids)
        sorted_voters.left_out = _no_categories(part, settled)
        sorted_voters.source = _without(settled, sorted_voters.left_out)
        sorted_voters.stored = store_voters(
            part, settled, former, list(sorted_voters.left_out), path,
            tuple(person_facts.earlier.values()),
        )  # fmt: skip
    sorted_voters.check_any_left()
    return sorted_voters


def _no_categories(part: VoterPart, settled: TableSource) -> dict[str, str]:
    """Provider columns that are neither a number nor a category, with the reason."""
    texts = [n for n in part.table.kinds.unknown if settled.types[n] == "text"]
    if not texts:
        return {}
    counts = ", ".join(
        f"approx_count_distinct({quoted(n)}), count({quoted(n)})" for n in texts
    )
    counts_by_column = part.connection.execute(
        f"SELECT {counts} FROM read_parquet({literal(part.path)})"
    ).fetchone()
    left_out = {}
    for k, name in enumerate(texts):
        n_levels, n_values = counts_by_column[2 * k : 2 * k + 2]
        if n_levels > MAX_LEVELS and n_levels > MOSTLY_DIFFERENT * n_values:
            left_out[name] = (
                f"about {n_levels:,} different texts in {n_values:,} rows are neither "
                f"a number nor a category; [tables.voters.types] {name} = "
                '"text" keeps it'
            )
    return left_out


def _without(source: TableSource, left_out: Mapping[str, str]) -> TableSource:
    if not left_out:
        return source
    extra = {n: c for n, c in source.extra.items() if n not in left_out}
    types = {n: t for n, t in source.types.items() if n not in left_out}
    return source.model_copy(update={"extra": extra, "types": types}).located(
        source._lines
    )


# --- the other tables -----------------------------------------------------------------


def _take_table(
    name: str, source: TableSource, folders: Folders, person_facts: Persons, on: Engine
) -> SortedTable:
    rows = read_rows(source, name, folders, on)
    frame, table = rows.frame, rows.table
    if source.estimate_by is not None:
        frame = _estimated(rows)
    _require_ours([str(c) for c in frame], source, name)
    if (name, "plan_id") in _FILLED and "plan_id" not in frame:
        # a test that ran elsewhere decides everybody once
        frame = frame.assign(plan_id=frame["experiment_id"])
    n_broken = sum(len(part) for part in table.broken)
    taken = SortedTable(
        name, table.settled(), frame, table.raw.digest(), len(frame) + n_broken,
        losses=table.losses, not_belonging=table.not_belonging,
        lines=None if table.raw.scanned is None else table.raw.scanned.lines,
        notes=table.raw.notes,
    )  # fmt: skip
    dropped = frame.index[person_facts.forgotten(frame)]
    taken.forgotten, taken.frame = len(dropped), frame.drop(index=dropped)
    faults = rows.faults[~rows.faults["row"].isin(dropped)]
    # what is joined later has no value yet
    filled = [column for table_name, column in _FILLED if table_name == name]
    joined_later = faults["column"].isin(filled) & (faults["reason"] == NO_VALUE)
    faults = faults[~joined_later]
    undated = faults["column"] == _BINDS_UNDATED.get(name)
    if undated.any():
        _bind_undated(taken, faults[undated], _BINDS_UNDATED[name])
    taken.set_aside(faults[~undated])
    return taken


def _bind_undated(taken: SortedTable, faults: pd.DataFrame, column: str) -> None:
    """A wish to be left alone whose day cannot be read holds from the beginning."""
    taken.frame.loc[faults["row"], column] = _BEGINNING
    if "granted_at" in taken.frame:
        taken.frame.loc[faults["row"], column] = taken.frame["granted_at"].fillna(
            _BEGINNING
        )
    taken.notes.append(
        f"{len(faults):,} rows of {taken.name} have a day in {column} that cannot be "
        f"read (row {faults['row'].iloc[0]}): they hold from the beginning"
    )


def _sort(
    read: ReadTables,
    name: str,
    person_facts: Persons,
    former: Mapping[str, str],
    further: Callable[[str, pd.DataFrame], pd.DataFrame] | None,
) -> None:
    """Add the campaign's own rows, and check the table against those before it."""
    if further is not None:
        added = further(name, read[name].frame)
        _add_rows(read, name, added[~person_facts.forgotten(added)], former)
    _take_present_ids(read[name], former)
    LINKS.get(name, no_links)(read)
    if name == "deliveries":
        units = partial(units_then, read, person_facts.earlier, former)
        read[name].set_aside(split_units(read[name], units))
    read[name].keep_declared()


def _nothing_brought(name: str) -> SortedTable:
    """An empty table for a campaign without earlier tests; its own rows follow."""
    columns = RAW_TABLES[name].columns.items()
    empty = pd.DataFrame({c: [] for c, declaration in columns if declaration.required})
    source = TableSource(
        rows=[], source="the campaign's own plans and answers", licence="its own",
        permitted_use="any",
    )  # fmt: skip
    frame = check(RAW_TABLES[name], empty)
    return SortedTable(name, source, frame, hashlib.sha256(b"").hexdigest(), 0)


def _add_rows(
    read: ReadTables, name: str, rows: pd.DataFrame, former: Mapping[str, str]
) -> None:
    """Rows of the campaign's own after those of the file, numbered on from them.

    Voters who have left the voter file since have no features to learn from: their rows
    are no fault of the record, and are dropped and counted.
    """
    table = read[name]
    if len(rows) and "voter_id" in rows:
        present = with_present_ids(rows["voter_id"], former)
        there = read["voters"].voters.is_known(present)
        table.left_the_file += int((~there).sum())
        rows = rows[there]
    if rows.empty:
        return
    start = table.rows_in + 1
    rows = rows.set_axis(range(start, start + len(rows)), axis="index")
    table.frame = pd.concat([table.frame, rows]) if len(table.frame) else rows
    table.rows_in += len(rows)


def _take_present_ids(table: SortedTable, former: Mapping[str, str]) -> None:
    """Move the rows of voters' former ids to their present ids."""
    if not former or "voter_id" not in table.frame or table.name == "merges":
        return
    frame = table.frame
    if table.name == "permissions":
        table.set_aside(_outvoted(frame, frame["voter_id"].isin(former), former))
        frame = table.frame
    present = frame["voter_id"].map(former).fillna(frame["voter_id"])
    table.frame = frame.assign(voter_id=present.astype(frame["voter_id"].dtype))


def _outvoted(
    frame: pd.DataFrame, old: pd.Series, former: Mapping[str, str]
) -> pd.DataFrame:
    """Permissions under two ids of one person: a withdrawal under either holds."""
    present = frame["voter_id"].mask(old, frame["voter_id"].map(former))
    rows = frame.assign(voter_id=present).sort_values(
        ["withdrawn_at", "granted_at"], na_position="last", kind="stable"
    )
    key = ["voter_id", "channel"]
    several = rows[rows[key].notna().all(axis=1) & rows.duplicated(key, keep=False)]
    mixed = several["voter_id"].isin(present[old])
    over = several[mixed].duplicated(key).reindex(frame.index, fill_value=False)
    reason = "another permission of the merged voter holds: a withdrawal comes first"
    return fault_rows(over, "voter_id", frame["voter_id"], reason)


def _declared_merges(read: ReadTables) -> dict[str, str]:
    if "merges" not in read:
        return {}
    rows = read["merges"].frame
    return present_ids(dict(zip(rows["voter_id"], rows["merged_into"], strict=True)))


def _estimated(rows: RowsRead) -> pd.DataFrame:
    if len(rows.faults):
        raise TableError(
            "table designs: expected only readable rows in "
            f"{rows.table.raw.file} to estimate the design from, got row "
            f"{rows.faults['row'].iloc[0]}: {rows.faults['reason'].iloc[0]}"
        )
    assert rows.strata is not None  # the source declares estimate_by
    strata = rows.strata.map(scalar_text).fillna("").astype("str").str.strip()
    return estimated_design(rows.frame, strata)


def _require_ours(there: list[str], source: TableSource, name: str) -> None:
    """Every column that the table must have, but for a propensity that is joined."""
    for column, declared in RAW_TABLES[name].columns.items():
        filled = (name, column) in _FILLED
        if declared.required and not filled and column not in there:
            raise TableError(
                f"table {name}: expected a column {column!r} ({declared.description}), "
                f"got none; {source.mend(name, f'columns.{column}')}"
            )


def estimated_design(people_rows: pd.DataFrame, strata: pd.Series) -> pd.DataFrame:
    """Arm probabilities of a design that was published without them.

    Every arm of a stratum is given one weight, the mean number of people per arm of the
    stratum over all experiments; an arm's probability is its share of the weight in its
    experiment and block. So few parameters are estimated, from many people each.

    Args:
        people_rows: One row per person: experiment_id, block, message_id, channel.
        strata: Units that the design treated the same, such as the author of a message.

    Returns:
        DESIGNS table, one row per arm.

    >>> people = pd.DataFrame(
    ...     {"experiment_id": "e", "block": "all", "channel": "mail",
    ...      "message_id": ["control", "control", "a", "b", "b", "b"]})
    >>> author = pd.Series(["", "", "x", "x", "x", "x"])
    >>> estimated_design(people, author)["probability"].round(3).tolist()
    [0.333, 0.333, 0.333]
    """
    arm = ["experiment_id", "block", "message_id", "channel"]
    people = (
        people_rows.assign(stratum=strata).groupby([*arm, "stratum"], sort=True).size()
    )
    arms = people.rename("people").reset_index()
    weight = arms.groupby("stratum")["people"].transform("mean")
    total = weight.groupby([arms["experiment_id"], arms["block"]]).transform("sum")
    arms["probability"] = weight / total
    rows = arms[[*arm, "probability"]]
    return rows.set_axis(pd.RangeIndex(1, len(rows) + 1))
