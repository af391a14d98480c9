"""Voter file, messages, deliveries, responses → checked tables and a quarantine.

The only reader of raw files. `mapping` says where a table lies and how its columns
become ours, `reading` reads it; `ingest` reads every table of a campaign, sets aside
the rows that break a declaration, within a table or between two, and hands on the rest.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from hustings.features.arrays import Bools
from hustings.features.asof import file_before
from hustings.features.ingest.identities import (
    Identities,
    read_identities,
    read_provider_rows,
)
from hustings.features.ingest.mapping import (
    FAULT_COLUMNS,
    ColumnSource,
    Mapped,
    RowFilter,
    TableSource,
    as_text,
    fault_rows,
    history_column,
    is_history,
    joined,
    map_columns,
    map_with_faults,
    masked,
    resolved,
    scalar_text,
)
from hustings.features.ingest.reading import (
    DataMissing,
    Folders,
    Raw,
    file_sha256,
    numbered,
    raw_head,
    read_raw,
)
from hustings.features.persons.identity import present_ids, with_present_ids
from hustings.features.tables import (
    ANY_MESSAGE,
    CONTROL,
    HISTORY_PREFIX,
    NO_CHANNEL,
    QUARANTINE,
    RAW_TABLES,
    REACTION_COUNTS,
    REQUIRED_TABLES,
    SMALLEST_CELL,
    TEST_TABLES,
    TableError,
    check,
    off_scale,
    problems,
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
    "file_sha256",
    "history_column",
    "ingest",
    "map_columns",
    "map_with_faults",
    "mapped_rows",
    "raw_head",
    "read_identities",
    "read_provider_rows",
    "read_raw",
    "under_present_ids",
]

_FILLED = {
    ("deliveries", "propensity"), ("deliveries", "plan_id"), ("responses", "plan_id")
}  # fmt: skip
"""Columns that a file may leave out: joined from the designs, or the experiment."""
PROPENSITY_TOLERANCE = 1e-6
MAX_SPLIT_SHARE = 0.05
"""More split households than this: the declared unit is wrong, not the rows."""


# --- from rows to checked tables ------------------------------------------------------


def _nobody(frame: pd.DataFrame) -> Bools:
    return np.zeros(len(frame), dtype=bool)


def _as_declared(_voters: pd.DataFrame, declared: Mapping[str, str]) -> dict[str, str]:
    return dict(declared)


@dataclass(frozen=True)
class Persons:
    """Persons behind the ids, as known before the files are read.

    Attributes:
        forgotten: Rows of a table (of any table) that are of somebody who asked to be
            forgotten, shape (n_rows,): they are dropped and only counted.
        follow: From the accepted voters and the declared merges to every former id
            with the present one: rows under the former id become the present one's.
        earlier: Voter files of earlier deliveries, as Parquet, by the day on which they
            were observed: what was known of a voter before a delivery that came before
            the present file.
    """

    forgotten: Callable[[pd.DataFrame], Bools] = _nobody
    follow: Callable[[pd.DataFrame, Mapping[str, str]], Mapping[str, str]] = (
        _as_declared
    )
    earlier: Mapping[date, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Ingested:
    """Checked tables, and what became of every row.

    Attributes:
        tables: Canonical tables; an optional one that was not declared is absent.
        quarantine: QUARANTINE table.
        quarantined_voters: table, row, voter_id: whose the rows of the quarantine are.
        former: Former voter id → present one, as the tables were read by.
        report: Per table rows_in, accepted, quarantined, forgotten, left_the_file
            (rows of the campaign's own plans and answers whose voters are in the voter
            file no more, which are not among rows_in), reasons, types of provider
            columns, source, licence, permitted_use, read_from, sha256.
        sources: The declared sources with every column and type written out: what a
            request must be mapped by to read as the file did.
    """

    tables: dict[str, pd.DataFrame]
    quarantine: pd.DataFrame
    quarantined_voters: pd.DataFrame
    former: dict[str, str]
    report: dict[str, dict[str, Any]]
    sources: dict[str, TableSource]


@dataclass
class _Sorted:
    """A table on its way: the rows accepted so far and the faults of the others."""

    name: str
    source: TableSource
    frame: pd.DataFrame
    sha256: str
    rows_in: int
    faults: list[pd.DataFrame] = field(default_factory=list)
    forgotten: int = 0
    left_the_file: int = 0
    voters: list[pd.Series] = field(default_factory=list)

    def set_aside(self, faults: pd.DataFrame) -> None:
        """Take the rows at fault out of the frame."""
        if len(faults):
            self.faults.append(masked(faults, self.name))
            at_fault = self.frame.index.isin(faults["row"])
            if "voter_id" in self.frame:
                self.voters.append(self.frame.loc[at_fault, "voter_id"].dropna())
            self.frame = self.frame[~at_fault]

    def quarantined_voters(self) -> pd.DataFrame:
        """Row and voter_id of every row set aside that names a voter."""
        whose = pd.concat([pd.Series([], dtype="str"), *self.voters])
        return pd.DataFrame(
            {
                "table": pd.Series(self.name, index=range(len(whose)), dtype="str"),
                "row": whose.index.astype("int64"),
                "voter_id": whose.astype("str").to_numpy(),
            }
        )

    def quarantined(self) -> pd.DataFrame:
        """Every fault, as QUARANTINE has it."""
        faults = joined(self.faults)
        faults.insert(0, "table", pd.Series(self.name, index=faults.index, dtype="str"))
        return faults


_ReadTables = dict[str, _Sorted]


def ingest(
    sources: Mapping[str, TableSource],
    *,
    outcome: str,
    campaign_dir: Path,
    data_dir: Path,
    raw_dir: Path | None = None,
    outcome_kind: Literal["binary", "continuous"] = "continuous",
    outcome_scale: tuple[float, float] | None = None,
    on_table: Callable[[str], None] = lambda _name: None,
    persons: Persons | None = None,
    further: Callable[[str, pd.DataFrame], pd.DataFrame] | None = None,
) -> Ingested:
    """Read, map and check every table of a campaign.

    A row that breaks a declaration goes to the quarantine with each of its reasons and
    counts once. What no row can answer for stops the run: a missing column, designs
    that do not sum to 1 or have no control, features observed too late.

    Rows decided upon together: of equal rows with one key the first is kept, of
    differing ones none; where a household (or cluster) that was randomised as one got
    several arms, all its deliveries go, for nobody knows which is right.

    Args:
        sources: By table name.
        outcome: The outcome that the campaign asks about.
        campaign_dir: Folder of campaign.toml.
        data_dir: Folder of public data.
        raw_dir: Folder of generated sample data.
        outcome_kind: A binary outcome is 0 or 1.
        outcome_scale: Lowest and highest value of the outcome; None where unknown.
        on_table: Called with the name of each table before it is read.
        persons: Who is forgotten, and which ids became which.
        further: Name and rows of a table → rows that the campaign itself made, such as
            the days of its loop; they are checked like those of the file.

    Raises:
        TableError: Naming the table, what was expected, what came, where to mend it.
        DataMissing: If a declared file, package or database is not there.
    """
    untested = not set(TEST_TABLES) & set(sources)
    needed = set(REQUIRED_TABLES) - (set(TEST_TABLES) if untested else set())
    absent = [n for n in REQUIRED_TABLES if n in needed and n not in sources]
    if absent:
        raise TableError(f"expected a table {absent[0]}; add [tables.{absent[0]}]")
    folders = Folders(campaign=campaign_dir, data=data_dir, raw=raw_dir)
    read: _ReadTables = {}
    whose, former = persons or Persons(), dict[str, str]()
    for name in RAW_TABLES:
        if name in sources or (untested and name in TEST_TABLES):
            on_table(name)
            read[name] = (
                _read_table(name, sources[name], folders, whose.forgotten)
                if name in sources
                else _nothing_brought(name)
            )
            if further is not None:
                added = further(name, read[name].frame)
                _add_rows(read, name, added[~whose.forgotten(added)], former)
            _take_present_ids(read[name], former)
            _LINKS.get(name, _no_links)(read)
            if name == "deliveries":
                units = partial(_units_then, read, whose.earlier, former)
                read[name].set_aside(_split_units(read[name], units))
            _keep_declared(read[name])
        if name == "merges":
            former = _declared_merges(read)
        elif name == "voters":
            former = dict(whose.follow(read["voters"].frame, former))
    _check_responses(read, outcome, outcome_kind, outcome_scale)
    _check_experiments(read)
    _check_costs(read)
    _check_times(read, whose.earlier)
    tables = {name: _checked(table) for name, table in read.items()}
    report = {name: _table_report(table) for name, table in read.items()}
    faults = pd.concat([t.quarantined() for t in read.values()], ignore_index=True)
    at_fault = pd.concat(
        [t.quarantined_voters() for t in read.values()], ignore_index=True
    )
    return Ingested(
        tables=tables,
        quarantine=check(QUARANTINE, faults),
        quarantined_voters=at_fault,
        former=former,
        report=report,
        sources={name: table.source for name, table in read.items()},
    )


def mapped_rows(source: TableSource, name: str, folders: Folders) -> pd.DataFrame:
    """The rows of one table in our columns, checked by nobody.

    Args:
        source: Where they lie.
        name: Of the table.
        folders: Folders that the prefixes of a path name.
    """
    raw = read_raw(source, name, folders)
    rows = _belonging(raw.frame, source.where)
    return map_with_faults(rows, source, name, file=raw.file).frame


def _read_table(
    name: str,
    source: TableSource,
    folders: Folders,
    forgotten: Callable[[pd.DataFrame], Bools],
) -> _Sorted:
    raw = read_raw(source, name, folders)
    rows = _belonging(raw.frame, source.where)
    mapped = map_with_faults(rows, source, name, file=raw.file)
    frame = mapped.frame
    if source.estimate_by is not None:
        frame = _estimated(mapped, raw, rows[source.estimate_by])
    _require_ours(frame, source, name)
    if (name, "plan_id") in _FILLED and "plan_id" not in frame:
        # a test that ran elsewhere decides everybody once
        frame = frame.assign(plan_id=frame["experiment_id"])
    full_source = resolved(source, raw.there, name, file=raw.file)
    types = {extra: _kind_of(frame[extra]) for extra in full_source.extra}
    full_source = full_source.model_copy(update={"types": types}).located(source._lines)
    table = _Sorted(name, full_source, frame, raw.sha256, len(frame) + len(raw.broken))
    dropped = frame.index[forgotten(frame)]
    table.forgotten, table.frame = len(dropped), frame.drop(index=dropped)
    table.set_aside(raw.broken)
    table.set_aside(mapped.faults[~mapped.faults["row"].isin(dropped)])
    return table


def _nothing_brought(name: str) -> _Sorted:
    """An empty table for a campaign without earlier tests; its own rows follow."""
    columns = RAW_TABLES[name].columns.items()
    empty = pd.DataFrame({c: [] for c, declaration in columns if declaration.required})
    source = TableSource(
        rows=[], source="the campaign's own plans and answers", licence="its own",
        permitted_use="any",
    )  # fmt: skip
    frame = check(RAW_TABLES[name], empty)
    return _Sorted(name, source, frame, hashlib.sha256(b"").hexdigest(), 0)


def _add_rows(
    read: _ReadTables, name: str, rows: pd.DataFrame, former: Mapping[str, str]
) -> None:
    """Rows of the campaign's own after those of the file, numbered on from them.

    Voters who have left the voter file since have no features to learn from: their rows
    are no fault of the record, and are dropped and counted.
    """
    table = read[name]
    if len(rows) and "voter_id" in rows:
        present = with_present_ids(rows["voter_id"], former)
        there = present.isin(read["voters"].frame["voter_id"])
        table.left_the_file += int((~there).sum())
        rows = rows[there]
    if rows.empty:
        return
    start = table.rows_in + 1
    rows = rows.set_axis(range(start, start + len(rows)), axis="index")
    table.frame = pd.concat([table.frame, rows]) if len(table.frame) else rows
    table.rows_in += len(rows)


def _take_present_ids(table: _Sorted, former: Mapping[str, str]) -> None:
    """Move the rows of voters' former ids to their present ids.

    A voter file may still carry a merged id next to the other: that row is set aside.
    """
    if not former or "voter_id" not in table.frame or table.name == "merges":
        return
    frame = table.frame
    old = frame["voter_id"].isin(former)
    if table.name == "voters":
        has_both_ids = old & frame["voter_id"].map(former).isin(frame["voter_id"])
        reason = "merged into another id of this file"
        table.set_aside(fault_rows(has_both_ids, "voter_id", frame["voter_id"], reason))
        frame, old = table.frame, old[~has_both_ids]
    if table.name == "permissions":
        table.set_aside(_outvoted(frame, old, former))
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


def _declared_merges(read: _ReadTables) -> dict[str, str]:
    if "merges" not in read:
        return {}
    rows = read["merges"].frame
    return present_ids(dict(zip(rows["voter_id"], rows["merged_into"], strict=True)))


def _estimated(mapped: Mapped, raw: Raw, strata: pd.Series) -> pd.DataFrame:
    faults = joined([raw.broken, mapped.faults])
    if len(faults):
        raise TableError(
            f"table designs: expected only readable rows in {raw.file} to estimate the "
            f"design from, got row {faults['row'].iloc[0]}: {faults['reason'].iloc[0]}"
        )
    return estimated_design(mapped.frame, as_text(strata).fillna(""))


def _require_ours(frame: pd.DataFrame, source: TableSource, name: str) -> None:
    """Every column that the table must have, but for a propensity that is joined."""
    for column, declared in RAW_TABLES[name].columns.items():
        filled = (name, column) in _FILLED
        if declared.required and not filled and column not in frame:
            raise TableError(
                f"table {name}: expected a column {column!r} ({declared.description}), "
                f"got none; {source.mend(name, f'columns.{column}')}"
            )


def _belonging(frame: pd.DataFrame, where: RowFilter | None) -> pd.DataFrame:
    """The rows of the source that the table's filter lets through."""
    if where is None:
        return frame
    text = as_text(frame[where.column]).fillna("")
    if where.not_equals is not None:
        belongs = text != scalar_text(where.not_equals)
    else:
        wanted = [where.equals] if where.isin is None else where.isin
        belongs = text.isin([scalar_text(value) for value in wanted])
    rows: pd.DataFrame = frame[belongs]
    return rows


def _kind_of(values: pd.Series) -> Literal["number", "text"]:
    return "number" if pd.api.types.is_numeric_dtype(values) else "text"


def estimated_design(rows: pd.DataFrame, strata: pd.Series) -> pd.DataFrame:
    """Arm probabilities of a design that was published without them.

    Every arm of a stratum is given one weight, the mean number of people per arm of the
    stratum over all experiments; an arm's probability is its share of the weight in its
    experiment and block. So few parameters are estimated, from many people each.

    Args:
        rows: One row per person: experiment_id, block, message_id, channel.
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
    people = rows.assign(stratum=strata).groupby([*arm, "stratum"], sort=True).size()
    arms = people.rename("people").reset_index()
    weight = arms.groupby("stratum")["people"].transform("mean")
    total = weight.groupby([arms["experiment_id"], arms["block"]]).transform("sum")
    arms["probability"] = weight / total
    return numbered(arms[[*arm, "probability"]])


def _keep_declared(table: _Sorted) -> None:
    """Set aside duplicates and the rows that break the table's own declaration."""
    table.set_aside(_duplicates(table))
    faults = problems(RAW_TABLES[table.name], table.frame)
    table_faults = faults[faults["row"] == -1]
    if len(table_faults):
        column, reason = table_faults.iloc[0][["column", "reason"]]
        raise TableError(f"table {table.name}, column {column!r}: {reason}")
    table.set_aside(faults[FAULT_COLUMNS])
    brought = table.name in REQUIRED_TABLES and table.source.rows != []
    if table.frame.empty and brought:
        raise TableError(_nothing_left(table))


def _nothing_left(table: _Sorted) -> str:
    reason_counts = [
        f"{n} × {reason}" for reason, n in list(_reasons(table).items())[:3]
    ]
    return (
        f"table {table.name}: expected rows, got none out of {table.rows_in} in "
        f"{table.source.read_from}: {'; '.join(reason_counts) or 'it is empty'}"
    )


def _reasons(table: _Sorted) -> dict[str, int]:
    """How often each reason was given, the most frequent first."""
    faults = table.quarantined()
    if faults.empty:
        return {}
    counts = (faults["column"] + ": " + faults["reason"]).value_counts()
    return {str(reason): int(n) for reason, n in counts.items()}


def _duplicates(table: _Sorted) -> pd.DataFrame:
    frame = table.frame
    key = list(RAW_TABLES[table.name].unique or [])
    if not set(key) <= set(frame.columns):
        return joined([])
    again = frame[frame.duplicated(key, keep=False) & frame[key].notna().all(axis=1)]
    if again.empty:
        return joined([])
    differing = again.drop_duplicates().duplicated(key, keep=False)
    differs = pd.MultiIndex.from_frame(again[key]).isin(
        pd.MultiIndex.from_frame(again.loc[differing.index[differing], key])
    )
    if table.name == "responses":
        # a new answer never removes an old one
        differs &= again.duplicated(key).to_numpy()
    repeats = again.duplicated(key).to_numpy() & ~differs
    name, key_texts = ", ".join(key), again[key].astype("str").agg(", ".join, axis=1)
    equal = fault_rows(
        pd.Series(repeats, again.index), name, key_texts,
        "duplicate key: the rows are equal and the first is kept",
    )  # fmt: skip
    unequal = fault_rows(
        pd.Series(differs, again.index), name, key_texts,
        "duplicate key: the rows differ and "
        + ("the first" if table.name == "responses" else "none")
        + " is kept",
    )  # fmt: skip
    return joined([equal, unequal])


# --- checks between tables ------------------------------------------------------------


def _no_links(read: _ReadTables) -> None:
    """A table that refers to no other."""


def _unknown(read: _ReadTables, name: str, column: str, of: str) -> pd.DataFrame:
    """Rows whose voter or message is in no accepted row of its own table."""
    frame = read[name].frame
    known_ids = pyarrow.array([*read[of].frame[column], CONTROL])
    is_known = pyarrow.compute.is_in(pyarrow.array(frame[column]), value_set=known_ids)
    unknown = frame[column].notna() & ~is_known.to_numpy(zero_copy_only=False)
    what = column.removesuffix("_id")
    reason = f"unknown {what}: expected one of the table {of}"
    return fault_rows(unknown, column, frame[column], reason)


def _link_designs(read: _ReadTables) -> None:
    designs = read["designs"]
    designs.set_aside(
        joined(
            [_unknown(read, "designs", "message_id", "messages"), _odd_channel(designs)]
        )
    )


def _odd_channel(table: _Sorted) -> pd.DataFrame:
    """Faults of controls with a channel and of messages without one."""
    frame = table.frame
    is_control = frame["message_id"] == CONTROL
    odd = is_control != (frame["channel"] == NO_CHANNEL)
    reason = f"expected channel {NO_CHANNEL!r} for {CONTROL!r} and only for it"
    return fault_rows(
        odd & frame["channel"].notna(), "channel", frame["channel"], reason
    )


def _link_deliveries(read: _ReadTables) -> None:
    deliveries = read["deliveries"]
    faults = [
        _unknown(read, "deliveries", "voter_id", "voters"),
        _unknown(read, "deliveries", "message_id", "messages"),
        _odd_channel(deliveries),
    ]
    deliveries.set_aside(joined(faults))
    deliveries.set_aside(_fill_propensity(deliveries, read["designs"].frame))


def _fill_propensity(deliveries: _Sorted, designs: pd.DataFrame) -> pd.DataFrame:
    """Join the design's probability, or compare the one given with it."""
    arm = ["experiment_id", "block", "message_id", "channel"]
    frame = deliveries.frame
    design = designs.drop_duplicates(arm)[[*arm, "probability"]]
    offered = frame[arm].merge(design, on=arm, how="left")
    expected = offered["probability"].set_axis(frame.index)
    no_arm = expected.isna() & frame[arm].notna().all(axis=1)
    arm_texts = frame.loc[no_arm, arm].agg(" / ".join, axis=1) if no_arm.any() else None
    faults = [fault_rows(no_arm, "message_id", arm_texts, "not an arm of the designs")]
    given = frame.get("propensity", expected)
    unlike = (given - expected).abs() > PROPENSITY_TOLERANCE
    unlike &= given.between(0, 1, inclusive="right")
    reason = "propensity unlike the probability of this arm in the designs"
    faults.append(fault_rows(unlike, "propensity", given, reason))
    deliveries.frame = frame.assign(propensity=given.fillna(expected))
    return joined(faults)


_UnitsThen = Callable[[pd.DataFrame, str], pd.Series]
"""Unit of every delivery, of a kind such as household, missing where none is known."""


def _units_then(
    read: _ReadTables,
    earlier: Mapping[date, Path],
    former: Mapping[str, str],
    drawn: pd.DataFrame,
    column: str,
) -> pd.Series:
    """The unit that each voter was in when a delivery was drawn.

    It is that of the last file observed before the delivery, so that voters who have
    moved since do not look like a household that was split.
    """
    voters = read["voters"]
    present = voters.frame
    if column not in present:
        unit = column.removesuffix("_id")
        raise TableError(
            f"table deliveries: randomised by {unit}, but voters has no {column}; map "
            f"[tables.voters.columns] {column} in campaign.toml"
        )
    units = drawn["voter_id"].map(present.set_index("voter_id")[column])
    days = sorted(day for day in earlier if day != voters.source.observed_on)
    observed = [*days, voters.source.observed_on or date.max]
    file = file_before(drawn["sent_on"], [pd.Timestamp(day) for day in observed])
    for k in sorted(set(file.tolist()) - {-1, len(days)}):
        then = _earlier_column(earlier[days[k]], column, former)
        of_drawn = then.reindex(drawn["voter_id"]).set_axis(drawn.index)
        units = units.mask(file == k, of_drawn.fillna(units))
    return units


def _earlier_column(path: Path, column: str, former: Mapping[str, str]) -> pd.Series:
    """A column of an earlier voter file by present voter id; empty without it."""
    if column not in pyarrow.parquet.read_schema(path).names:
        return pd.Series([], index=pd.Index([], dtype="str"), dtype="str")
    rows = pd.read_parquet(path, columns=["voter_id", column])
    present = under_present_ids(rows, former)
    return present.set_index("voter_id")[column]


def under_present_ids(voters: pd.DataFrame, former: Mapping[str, str]) -> pd.DataFrame:
    """Rows of an earlier voter file under the present ids of its voters.

    Where a file had both ids of a person, the row of the present id counts.

    Args:
        voters: VOTERS, or columns of it.
        former: Former voter id → present one.
    """
    was_former = voters["voter_id"].isin(former).to_numpy(dtype=bool)
    present = with_present_ids(voters["voter_id"], former).astype("str")
    rows = voters.assign(voter_id=present)
    ordered = pd.concat([rows[~was_former], rows[was_former]])
    return ordered.drop_duplicates("voter_id").reset_index(drop=True)


def _split_units(deliveries: _Sorted, units_then: _UnitsThen) -> pd.DataFrame:
    """Faults of deliveries whose household or cluster got more than one arm."""
    faults = []
    for unit in ("household", "cluster"):
        drawn = deliveries.frame[deliveries.frame["randomised_by"] == unit]
        if len(drawn):
            units = units_then(drawn, f"{unit}_id").fillna(drawn["voter_id"])
            faults.append(_split(deliveries, drawn.assign(unit_id=units), unit))
    return joined(faults)


def _split(deliveries: _Sorted, rows: pd.DataFrame, unit: str) -> pd.DataFrame:
    same_unit = ["experiment_id", "plan_id", "unit_id"]
    arms = rows.drop_duplicates([*same_unit, "message_id", "channel"])
    several = arms[arms.duplicated(same_unit)].drop_duplicates(same_unit)
    n_units = len(arms.drop_duplicates(same_unit))
    if len(several) > MAX_SPLIT_SHARE * n_units:
        raise TableError(
            f"table deliveries: declared as randomised by {unit}, but {len(several)} "
            f"of {n_units} {unit}s got several arms; "
            + deliveries.source.mend("deliveries", "columns.randomised_by")
        )
    keys = pd.MultiIndex.from_frame(rows[same_unit])
    split = pd.Series(
        keys.isin(pd.MultiIndex.from_frame(several[same_unit])), rows.index
    )
    reason = f"{unit} split between arms, though randomised as one"
    return fault_rows(split, "message_id", rows["message_id"], reason)


def _link_responses(read: _ReadTables) -> None:
    responses = read["responses"]
    key = ["voter_id", "experiment_id", "plan_id"]
    frame = responses.frame
    sent = read["deliveries"].frame[[*key, "sent_on"]]
    sent_on = (
        frame[key].merge(sent, on=key, how="left")["sent_on"].set_axis(frame.index)
    )
    none = sent_on.isna() & frame[key].notna().all(axis=1)
    early = frame["observed_at"] < sent_on
    faults = [
        fault_rows(none, "voter_id", frame["voter_id"], "response without a delivery"),
        fault_rows(
            early, "observed_at", frame["observed_at"], "observed before delivery"
        ),
    ]
    responses.set_aside(joined(faults))


def _link_reactions(read: _ReadTables) -> None:
    if not read["reactions"].source.other_posts:
        read["reactions"].set_aside(
            _unknown(read, "reactions", "message_id", "messages")
        )


def _link_reaction_counts(read: _ReadTables) -> None:
    """Counts of known messages; a cell has one reach, and no more reactors than it."""
    table = read["reaction_counts"]
    table.frame, frame = _cells_named(table.frame), table.frame
    cell = [c for c in REACTION_COUNTS.unique or [] if c != "kind"]
    reach = table.frame.groupby(cell, dropna=False)["reach"]
    several = reach.transform("nunique") > 1
    too_many = frame["n"] > frame["reach"]
    # never the reach itself: it may be of a handful of people
    faults = [
        fault_rows(
            several, "reach", frame["message_id"],
            "expected one reach of all kinds of a cell, got several",
        ),
        fault_rows(
            too_many & (frame["reach"] >= SMALLEST_CELL), "n", frame["n"],
            "expected at most one reaction of a kind from each who was shown it",
        ),
    ]  # fmt: skip
    if not table.source.other_posts:
        faults.append(_unknown(read, "reaction_counts", "message_id", "messages"))
    table.set_aside(joined(faults))


def _cells_named(frame: pd.DataFrame) -> pd.DataFrame:
    """The counts with every column of a cell; one that nobody gave is missing."""
    absent = [c for c in REACTION_COUNTS.unique or [] if c not in frame]
    return frame.assign(**{c: pd.Series(None, frame.index, "str") for c in absent})


def _link_permissions(read: _ReadTables) -> None:
    permissions = read["permissions"]
    frame = permissions.frame
    reversed_ = frame["withdrawn_at"] < frame["granted_at"]
    reason = "withdrawn before it was granted"
    permissions.set_aside(
        joined(
            [
                _unknown(read, "permissions", "voter_id", "voters"),
                fault_rows(reversed_, "withdrawn_at", frame["withdrawn_at"], reason),
            ]
        )
    )


def _link_costs(read: _ReadTables) -> None:
    costs = read["costs"]
    unknown = _unknown(read, "costs", "message_id", "messages")
    costs.set_aside(unknown[unknown["value"] != ANY_MESSAGE])


def _link_priors(read: _ReadTables) -> None:
    priors = read["priors"]
    priors.set_aside(_unknown(read, "priors", "message_id", "messages"))


def _link_panel(read: _ReadTables) -> None:
    panel = read["panel"]
    panel.set_aside(_unknown(read, "panel", "message_id", "messages"))


def _link_partner_scores(read: _ReadTables) -> None:
    """Lifts of known voters and messages, delivered before anything was sent."""
    scores = read["partner_scores"]
    if read["deliveries"].frame.empty:
        return
    first = read["deliveries"].frame["sent_on"].min().normalize()
    late = scores.frame["observed_on"] >= first
    reason = (
        f"expected observed_on before the first delivery, {first.date()}: a score made "
        "later may have seen the outcomes"
    )
    faults = [
        _unknown(read, "partner_scores", "voter_id", "voters"),
        _unknown(read, "partner_scores", "message_id", "messages"),
        fault_rows(late, "observed_on", scores.frame["observed_on"], reason),
    ]
    scores.set_aside(joined(faults))


_LINKS: dict[str, Callable[[_ReadTables], None]] = {
    "designs": _link_designs,
    "deliveries": _link_deliveries,
    "responses": _link_responses,
    "reactions": _link_reactions,
    "reaction_counts": _link_reaction_counts,
    "permissions": _link_permissions,
    "costs": _link_costs,
    "priors": _link_priors,
    "panel": _link_panel,
    "partner_scores": _link_partner_scores,
}


def _check_responses(
    read: _ReadTables, outcome: str, kind: str, scale: tuple[float, float] | None
) -> None:
    responses = read["responses"]
    of_outcome = responses.frame["outcome"] == outcome
    if not of_outcome.any() and responses.rows_in:
        outcome_names = sorted(responses.frame["outcome"].unique())
        raise TableError(
            f"table responses: expected rows with outcome {outcome!r}, got "
            f"{outcome_names}; mend [outcome].name in campaign.toml"
        )
    value = responses.frame["value"]
    if kind == "binary":
        odd = of_outcome & ~value.isin([0.0, 1.0])
        reason = "expected 0 or 1 of a binary outcome"
    elif scale is not None:
        odd = of_outcome & ~value.between(*scale)
        reason = off_scale(scale)
    else:
        return
    responses.set_aside(fault_rows(odd, "value", value, reason))


def _check_experiments(read: _ReadTables) -> None:
    """Every experiment sums to 1, offers a control, and has some among its people."""
    designs, deliveries = read["designs"], read["deliveries"].frame
    groups = designs.frame.groupby(["experiment_id", "block"], sort=True)
    for (experiment, block), arms in groups:
        where = f"table designs: experiment {experiment!r}, block {block!r}"
        total = arms["probability"].sum()
        if abs(total - 1) > PROPENSITY_TOLERANCE:
            raise TableError(
                f"{where}: expected probabilities that sum to 1, got {total:.6f}"
                + _set_aside_reasons(designs)
            )
        if CONTROL not in set(arms["message_id"]):
            raise TableError(f"{where}: expected an arm {CONTROL!r}, got none")
    controls = deliveries.loc[deliveries["message_id"] == CONTROL, "experiment_id"]
    bare = sorted(set(deliveries["experiment_id"]) - set(controls))
    if bare:
        raise TableError(
            f"table deliveries: expected controls in experiment {bare[0]!r}, got none: "
            "people who were sent nothing are rows with message_id 'control'"
        )


def _set_aside_reasons(table: _Sorted) -> str:
    reasons = list(_reasons(table))
    return f"; rows were set aside: {'; '.join(reasons[:3])}" if reasons else ""


def _check_costs(read: _ReadTables) -> None:
    """Every arm has a price, its own or its channel's."""
    arms = read["designs"].frame.query("message_id != @CONTROL")
    priced = read["costs"].frame
    priced_arms = set(zip(priced["message_id"], priced["channel"], strict=True))
    pairs = arms[["message_id", "channel"]].drop_duplicates()
    for message, channel in pairs.itertuples(index=False):
        if (message, channel) not in priced_arms and (
            ANY_MESSAGE,
            channel,
        ) not in priced_arms:
            raise TableError(
                f"table costs: expected a price of message {message!r} by channel "
                f"{channel!r}, got none; add a row to [tables.costs], or one with "
                f"message_id {ANY_MESSAGE!r} for every message of the channel"
            )


def _check_times(read: _ReadTables, earlier: Mapping[date, Path]) -> None:
    """Nothing is a feature that was observed at or after the first delivery.

    A file observed later is scored and planned by; what a delivery teaches is learnt
    from the file before it, which must have been there.
    """
    voters = read["voters"]
    if read["deliveries"].frame.empty:
        return
    first = read["deliveries"].frame["sent_on"].min().date()
    observed = voters.source.observed_on
    if observed is None or (
        observed >= first and not any(day < first for day in earlier)
    ):
        raise TableError(
            f"table voters: expected observed_on before the first delivery, {first}, "
            f"got {observed or 'none'}, and no voter file of this campaign was read "
            f"before; {voters.source.mend('voters', 'observed_on')}"
        )
    last, what = (
        (observed, f"the file was observed, {observed}")
        if observed >= first
        else (first, f"the first delivery, {first}")
    )
    for name in filter(is_history, voters.frame.columns):
        held = datetime.strptime(name.removeprefix(HISTORY_PREFIX)[:8], "%Y%m%d").date()  # noqa: DTZ007
        if held >= last:
            raise TableError(
                f"table voters: expected elections before {what}, "
                f"got {name}: what was observed at or after it is no history; "
                + voters.source.mend("voters", "history")
            )


def _checked(table: _Sorted) -> pd.DataFrame:
    schema = RAW_TABLES[table.name]
    ordered = [c for c in schema.columns if c in table.frame]
    undeclared = [c for c in table.frame if c not in schema.columns]
    return check(schema, table.frame[ordered + undeclared].reset_index(drop=True))


def _table_report(table: _Sorted) -> dict[str, Any]:
    quarantined = int(table.quarantined()["row"].nunique())
    accepted = len(table.frame)
    if table.rows_in != accepted + quarantined + table.forgotten:
        raise TableError(
            f"table {table.name}: {table.rows_in} rows in, but {accepted} accepted, "
            f"{quarantined} quarantined and {table.forgotten} forgotten"
        )
    return {
        "rows_in": table.rows_in,
        "accepted": accepted,
        "quarantined": quarantined,
        "forgotten": table.forgotten,
        "left_the_file": table.left_the_file,
        "reasons": _reasons(table),
        "types": dict(table.source.types),
        "source": table.source.source,
        "licence": table.source.licence,
        "permitted_use": table.source.permitted_use,
        "read_from": table.source.read_from,
        "sha256": table.sha256,
    }
