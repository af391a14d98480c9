"""The files of a new campaign → a draft of its campaign.toml, for a person to correct.

What only a person can know (the question, the budget, who made a file, the chance of an
arm) stands as a question with what was seen: an empty text, or a comment with a ?.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hustings.features.draft.heads import N_ROWS, FileHead, named_like, read_head
from hustings.features.draft.looks import date_formats, no_values
from hustings.features.draft.other_tables import (
    VOTER_NAMES,
    VOTES,
    MappedColumn,
    channel_of,
    is_control,
    kind_of_file,
    map_table,
)
from hustings.features.draft.voters import VoterColumns, place_columns, text
from hustings.features.tables import CONTROL, NO_CHANNEL, TableError

SUFFIXES = frozenset(
    [".csv", ".tsv", ".txt", ".tab", ".psv", ".dat", ".gz", ".zip", ".parquet", ".pq",
     ".xlsx"]
)  # fmt: skip
LEAST_HOUSEHOLDS = 20
VOTERS_TABLE = "voters"


@dataclass(frozen=True)
class ArmCount:
    """How many deliveries of the rows looked at had an arm.

    Attributes:
        experiment_id: As drafted.
        message_id: Ours.
        channel: Ours; empty where the file does not say it.
        n: Deliveries.
        n_arms: Arms of the experiment.
        total: Deliveries of the experiment.
    """

    experiment_id: str
    message_id: str
    channel: str
    n: int
    n_arms: int
    total: int


@dataclass(frozen=True)
class Outcome:
    """What the responses look like.

    Attributes:
        name: Of the outcome; empty where there are no responses.
        kind: binary or continuous; empty where that is not clear.
        measures: support or turnout by its name; else empty.
        unit_per_point: 0 where that is not clear.
        last_seen: The last day in the rows looked at.
    """

    name: str = ""
    kind: str = ""
    measures: str = ""
    unit_per_point: float = 0.0
    last_seen: pd.Timestamp | None = None


@dataclass(frozen=True)
class CampaignDraft:
    """What the files of a campaign seem to be.

    Attributes:
        heads: The beginning of each file by the table that it fills.
        voters: Columns of the voter file.
        tables: Columns of the other files, by table.
        arms: What was delivered, counted.
        outcome: What the responses look like.
        unknown: Other files → why they fill no table.
        remarks: What a person should look into, by table.
    """

    heads: dict[str, FileHead]
    voters: VoterColumns
    tables: dict[str, tuple[MappedColumn, ...]]
    arms: tuple[ArmCount, ...]
    outcome: Outcome
    unknown: dict[Path, str]
    remarks: dict[str, list[str]]


def files_of(folder: Path) -> list[Path]:
    """Files of a folder that may be tables, in the order of their names."""
    return sorted(
        p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES
    )


def draft_campaign(files: Sequence[Path], *, layout: str) -> CampaignDraft:
    """Look at the first rows of files and draft the campaign that they make.

    Args:
        files: The voter file, and what else there is.
        layout: Name of the voter file's shipped layout; empty to know it by its look.

    Raises:
        TableError: If a file cannot be read, or none of them is a voter file.
    """
    heads, unknown = _sorted_by_table(files, layout)
    if VOTERS_TABLE not in heads:
        there = ", ".join(f"{h.path.name} ({name})" for name, h in heads.items())
        raise TableError(
            f"expected a voter file among the files, got {there or 'none that is one'}"
        )
    voters = place_columns(heads[VOTERS_TABLE])
    outcome = _outcome(heads.get("responses"))
    tables = {
        name: tuple(_mapped(name, head, heads, voters, outcome))
        for name, head in heads.items()
        if name != VOTERS_TABLE
    }
    return CampaignDraft(
        heads, voters, tables, _arms(heads.get("deliveries")), outcome, unknown,
        _remarks(heads, voters),
    )  # fmt: skip


def _sorted_by_table(
    files: Sequence[Path], layout: str
) -> tuple[dict[str, FileHead], dict[Path, str]]:
    heads: dict[str, FileHead] = {}
    unknown: dict[Path, str] = {}
    for path in files:
        head = _read(path, layout)
        kind = kind_of_file(head)
        if len(files) == 1:
            kind = VOTERS_TABLE  # it is given as one
        if kind == VOTES:
            unknown[path] = (
                "past votes, one row for each: [tables.voters.history] has a column "
                "for each election"
            )
        elif not kind:
            unknown[path] = "no table that is known by its columns"
        elif kind in heads:
            other = heads[kind].path
            unknown[path] = f"{kind}, as {other.name} is: only one can be"
            if len(head.columns) > len(heads[kind].columns):
                unknown[other] = unknown.pop(path).replace(other.name, path.name)
                heads[kind] = head
        else:
            heads[kind] = head
    return heads, unknown


def _read(path: Path, layout: str) -> FileHead:
    """A file's head; the layout is the voter file's, and others go without it."""
    if not layout:
        return read_head(path)
    try:
        return read_head(path, layout=layout)
    except TableError:
        without = read_head(path)
        if kind_of_file(without) in {VOTERS_TABLE, ""}:
            raise
        return without


def _mapped(
    name: str,
    head: FileHead,
    heads: Mapping[str, FileHead],
    voters: VoterColumns,
    outcome: Outcome,
) -> Iterable[MappedColumn]:
    for column in map_table(name, head):
        if column.ours == "outcome" and column.entry.startswith("{ value"):
            yield MappedColumn(
                column.ours, f'{{ value = "{outcome.name}" }}', column.reason
            )
        elif column.ours == "experiment_id" and column.entry.startswith("{ value"):
            yield _experiment(column, heads.get("deliveries"))
        elif column.ours == "randomised_by" and column.question:
            yield _unit(head, heads[VOTERS_TABLE], voters) or column
        else:
            yield column


def _experiment(column: MappedColumn, deliveries: FileHead | None) -> MappedColumn:
    """The experiment of rows that name none: that of the deliveries."""
    theirs = _column_of("deliveries", "experiment_id", deliveries) if deliveries else ""
    if deliveries is None or not theirs:
        return column
    tests = sorted(deliveries.filled(theirs).unique())
    if len(tests) == 1:
        reason = f"no column names it: that of {deliveries.path.name}"
        return MappedColumn(column.ours, f"{{ value = {text(tests[0])} }}", reason)
    question = f"which of the experiments of {deliveries.path.name}?"
    return MappedColumn(column.ours, column.entry, "no such column", question)


def _unit(
    deliveries: FileHead, voter_head: FileHead, voters: VoterColumns
) -> MappedColumn | None:
    """Household, where every household had one arm; person, where they differ."""
    theirs = {g.ours: g.theirs for g in voters.columns}
    ids = _voter_column(deliveries)
    arm = _column_of("deliveries", "message_id", deliveries)
    if not {"voter_id", "household_id"} <= set(theirs) or not ids or not arm:
        return None
    household = pd.Series(
        voter_head.columns[theirs["household_id"]].to_numpy(),
        index=voter_head.columns[theirs["voter_id"]],
    )
    household = household[~household.index.duplicated()]
    of_row = deliveries.columns[ids].map(household)
    n_arms = deliveries.columns[arm].groupby(of_row).agg(["nunique", "size"])
    several = n_arms[n_arms["size"] > 1]
    if len(several) < LEAST_HOUSEHOLDS:
        return None
    unit = "household" if (several["nunique"] == 1).all() else "person"
    seen = int((several["nunique"] == 1).sum())
    reason = f"{seen} of {len(several)} households of several had one arm"
    return MappedColumn("randomised_by", f'{{ value = "{unit}" }}', reason)


def _column_of(table: str, ours: str, head: FileHead) -> str:
    """Column of a file that fills one of ours; "" for none."""
    drafted_entry = next(
        (c.entry for c in map_table(table, head) if c.ours == ours), ""
    )
    match = re.match(r'^(?:\{ column = )?"((?:[^"\\]|\\.)*)"', drafted_entry)
    return match[1] if match and match[1] in head.columns else ""


def _voter_column(head: FileHead) -> str:
    return _column_of("deliveries", "voter_id", head)


def _arms(head: FileHead | None) -> tuple[ArmCount, ...]:
    """Arms of the deliveries with their counts, by experiment."""
    arm = _column_of("deliveries", "message_id", head) if head is not None else ""
    if head is None or not arm:
        return ()
    channel = _column_of("deliveries", "channel", head)
    experiment = _column_of("deliveries", "experiment_id", head)
    messages = head.columns[arm].map(lambda v: CONTROL if is_control(v) else v)
    channels = (
        head.columns[channel].map(channel_of)
        if channel
        else messages.map(lambda m: NO_CHANNEL if m == CONTROL else "")
    )
    tests = head.columns[experiment] if experiment else messages.map(lambda _: "test")
    sizes = Counter(zip(tests, messages, channels, strict=True))
    n_arms, totals = Counter[str](), Counter[str]()
    for (test, _, _), n in sizes.items():
        n_arms[test] += 1
        totals[test] += n
    return tuple(
        ArmCount(test, message, channel, n, n_arms[test], totals[test])
        for (test, message, channel), n in sorted(sizes.items())
    )


def _outcome(head: FileHead | None) -> Outcome:
    if head is None:
        return Outcome()
    value = _column_of("responses", "value", head)
    outcome_column = _column_of("responses", "outcome", head)
    name = ""
    if outcome_column:
        name = str(head.filled(outcome_column).value_counts().index[0])
    elif value:
        name = re.sub(r"\W+", "_", value).strip("_").lower()
        name = "outcome" if name in {"value", "y", "response", "answer"} else name
    numbers = (
        pd.to_numeric(head.filled(value), errors="coerce") if value else pd.Series()
    )
    numbers = numbers.dropna()
    binary = bool(len(numbers)) and set(numbers.unique()) <= {0, 1}
    on_100 = bool(len(numbers)) and numbers.between(0, 100).all() and numbers.max() > 10
    measures = (
        "turnout"
        if re.search(r"turnout|vote", name)
        else ("support" if re.search(r"support|favo|approv|agree", name) else "")
    )
    return Outcome(
        name or "outcome",
        "binary" if binary else ("continuous" if len(numbers) else ""),
        measures,
        0.01 if binary else (1.0 if on_100 else 0.0),
        _last_day(head, _column_of("responses", "observed_at", head)),
    )


def _last_day(head: FileHead, column: str) -> pd.Timestamp | None:
    if not column:
        return None
    values = head.filled(column)
    values = values[~values.isin(no_values(values))]
    days = [
        pd.to_datetime(values, format=written, errors="coerce").max()
        for written in date_formats(values)
    ]
    return max((d for d in days if not pd.isna(d)), default=None)


def _remarks(
    heads: Mapping[str, FileHead], voters: VoterColumns
) -> dict[str, list[str]]:
    """Ids of other files that are not in the voter file, where all of it was read."""
    remarks: dict[str, list[str]] = {}
    if not voters.ids or heads[VOTERS_TABLE].n_rows >= N_ROWS:
        return remarks
    for name, head in heads.items():
        column = "" if name == VOTERS_TABLE else named_like(head, *VOTER_NAMES)
        if not column:
            continue
        outside = ~head.filled(column).isin(voters.ids)
        if outside.any():
            remarks.setdefault(name, []).append(
                f"{int(outside.sum())} of {len(outside)} ids are not in "
                f"{heads[VOTERS_TABLE].path.name}: is {column} the voter's id there?"
            )
    return remarks
