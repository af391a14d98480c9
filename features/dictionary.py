"""The data dictionary: meaning, source, licence and permitted use of every column.

It is generated from the declarations that the stages themselves use: `features.tables`,
the campaign's mapping and `features.derived`. A caller that adds other kinds of
features passes their entries as `more`.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import pandas as pd

from hustings.features.affinity import AFFINITY_PREFIX
from hustings.features.derived import Derivation, derived_columns
from hustings.features.draft import looks_special
from hustings.features.ingest import ColumnSource, TableSource, history_column
from hustings.features.partner import LIFT_PREFIX, WIDTH_PREFIX
from hustings.features.tables import HISTORY_PREFIX, RAW_TABLES
from hustings.features.voter import HISTORY_SHARE, TENURE_YEARS

DECLARED, BY_NAME, NO = "declared", "by its name", "no"
NOT_DESCRIBED = "not described"
VOTERS, FEATURES = "voters", "features"


@dataclass(frozen=True)
class ColumnEntry:
    """One column of the data dictionary.

    Attributes:
        table: Its table; "features" for a column that only the model's table has.
        name: Name of the column.
        meaning: What it says.
        unit: Its unit, empty where it has none.
        made_of: Columns it is computed from, or the source's own column.
        source: Who made the data.
        as_of: By when it has to be known.
        special_category: Whether it is a special category of personal data: as
            the campaign declares, or as its name suggests.
        licence: Under which licence it is used.
        permitted_use: What it may be used for.
        is_feature: Whether the run's models read it.
    """

    table: str
    name: str
    meaning: str
    unit: str
    made_of: str
    source: str
    as_of: str
    special_category: str
    licence: str
    permitted_use: str
    is_feature: bool = False


@dataclass(frozen=True)
class Described:
    """The declarations of a run from which its dictionary is generated.

    Attributes:
        columns: Of every table.
        sources: Of every table: source, licence and permitted_use.
        voters: The voter file's mapping, every column written out.
        derivation: What is derived from it.
        special: Columns that the campaign declares a special category.
        features: Columns that the models read.
    """

    columns: Mapping[str, Sequence[str]]
    sources: Mapping[str, Mapping[str, Any]]
    voters: TableSource
    derivation: Derivation
    special: frozenset[str]
    features: Sequence[str]


def entries(
    described: Described, added_entries: Sequence[ColumnEntry] = ()
) -> list[ColumnEntry]:
    """Every column of the tables and every feature, each once.

    Args:
        described: Declarations of the run.
        added_entries: Entries of columns that other modules added; they replace
            generated ones.

    Returns:
        Entries in the order of the tables; a column without a description has the
        meaning `NOT_DESCRIBED`.
    """
    given = {(entry.table, entry.name): entry for entry in added_entries}
    all_entries = [
        given.get((table, name)) or _entry(described, table, name)
        for table, columns in described.columns.items()
        for name in columns
    ]
    voter_columns = {entry.name for entry in all_entries if entry.table == VOTERS}
    further_features = [
        name for name in described.features if name not in voter_columns
    ]
    all_entries += [
        given.get((FEATURES, name)) or _feature(described, name)
        for name in dict.fromkeys(further_features)
    ]
    return all_entries


def undescribed(column_entries: Sequence[ColumnEntry]) -> list[str]:
    """Names of columns without a description."""
    return [entry.name for entry in column_entries if entry.meaning == NOT_DESCRIBED]


def _entry(described: Described, table: str, name: str) -> ColumnEntry:
    declared = RAW_TABLES[table].columns.get(name)
    if table == VOTERS:
        return _of_voters(described, name)
    meaning = NOT_DESCRIBED if declared is None else str(declared.description)
    unit = "" if declared is None else _unit(declared.metadata)
    as_of = "strictly before the moment it is asked for"
    return _with_provenance(described, table, name, meaning, unit=unit, as_of=as_of)


def _unit(metadata: Any) -> str:
    return str((metadata or {}).get("unit", ""))


def _of_voters(described: Described, name: str) -> ColumnEntry:
    """A column of the voter file, of a partner, or derived of the whole file."""
    derived = {column.name: column for column in derived_columns(described.derivation)}
    if name in derived:
        column = derived[name]
        return _with_provenance(
            described,
            VOTERS,
            name,
            column.about,
            unit=column.unit,
            made_of=column.made_of,
        )
    if name.startswith((LIFT_PREFIX, WIDTH_PREFIX)):
        return _of_partner(described, name)
    observed = described.voters.observed_on
    as_of = f"as observed on {observed}, before the first delivery"
    declared = RAW_TABLES[VOTERS].columns.get(name)
    origin = _origins(described.voters).get(name)
    if declared is not None:
        meaning, unit = str(declared.description), _unit(declared.metadata)
    elif name.startswith(HISTORY_PREFIX):
        day, _, kind = name.removeprefix(HISTORY_PREFIX).partition("_")
        meaning = f"Voted in the {kind} election of {pd.Timestamp(day).date()}."
        unit, as_of = "1 or 0", _before(described)
    elif origin is not None:
        meaning, unit = f"As the provider's column {_origin_text(origin)} has it.", ""
    else:
        meaning, unit = NOT_DESCRIBED, ""
    made_of = (_origin_text(origin),) if origin is not None else ()
    return _with_provenance(
        described, VOTERS, name, meaning, unit=unit, made_of=made_of, as_of=as_of
    )


def _of_partner(described: Described, name: str) -> ColumnEntry:
    provider, _, message = name.split("__", 1)[1].partition("__")
    what = (
        "Lift" if name.startswith(LIFT_PREFIX) else "Width of the interval of the lift"
    )
    meaning = f"{what} of message {message} as {provider} predicts it."
    as_of = "delivered before the first delivery"
    entry = _with_provenance(
        described, VOTERS, name, meaning, unit="outcome unit", as_of=as_of
    )
    provenance = _of_source(described, "partner_scores")
    return ColumnEntry(**{**asdict(entry), **provenance})


def _origins(voters: TableSource) -> dict[str, ColumnSource]:
    history = {history_column(key): origin for key, origin in voters.history.items()}
    return {**voters.columns, **history, **voters.extra}


def _origin_text(origin: ColumnSource) -> str:
    if origin.column is not None:
        return origin.column
    return "row number" if origin.row_number is not None else f"always {origin.value}"


def _feature(described: Described, name: str) -> ColumnEntry:
    """A feature that the models' table has and the voter file has not."""
    voted = tuple(c for c in described.features if c.startswith(HISTORY_PREFIX))
    descriptions = {
        "age": ("Age in the year of the first delivery.", "years", ("birth_year",)),
        HISTORY_SHARE: ("Share of the past elections on file voted in.", "1", voted),
        TENURE_YEARS: ("Years since registration.", "years", ("registered_on",)),
    }
    if name.startswith(AFFINITY_PREFIX):
        issue = name.removeprefix(AFFINITY_PREFIX)
        what = f"Share of the voter's cell that reacts well to {issue}, as predicted."
        entry = _with_provenance(
            described, FEATURES, name, what, unit="1", as_of=_before(described)
        )
        return ColumnEntry(
            **{**asdict(entry), **_of_source(described, "reaction_counts")}
        )
    meaning, unit, made_of = descriptions.get(name, (NOT_DESCRIBED, "", ()))
    return _with_provenance(
        described, FEATURES, name, meaning, unit=unit, made_of=made_of
    )


def _before(described: Described) -> str:
    return f"strictly before the first delivery, {described.derivation.as_of.date()}"


def _with_provenance(
    described: Described,
    table: str,
    name: str,
    meaning: str,
    *,
    unit: str = "",
    made_of: Sequence[str] = (),
    as_of: str = "",
) -> ColumnEntry:
    source = _of_source(described, VOTERS if table == FEATURES else table)
    return ColumnEntry(
        table=table,
        name=name,
        meaning=meaning,
        unit=unit,
        made_of=", ".join(made_of),
        as_of=as_of or _before(described),
        special_category=_special(described, {name, *made_of}),
        is_feature=table in {VOTERS, FEATURES} and name in described.features,
        **source,
    )


def _of_source(described: Described, table: str) -> dict[str, str]:
    provenance = described.sources.get(table, {})
    return {
        key: str(provenance.get(key, ""))
        for key in ("source", "licence", "permitted_use")
    }


def _special(described: Described, names: set[str]) -> str:
    if names & described.special:
        return DECLARED
    return BY_NAME if any(looks_special(name) for name in names) else NO


# --- as people read it ----------------------------------------------------------------


def as_json(column_entries: Sequence[ColumnEntry]) -> str:
    """Entries as JSON, for programs."""
    return json.dumps([asdict(entry) for entry in column_entries], indent=1)


def as_csv(column_entries: Sequence[ColumnEntry]) -> str:
    """Entries as CSV, for spreadsheets."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(ColumnEntry)])
    writer.writeheader()
    writer.writerows(asdict(entry) for entry in column_entries)
    return text.getvalue()


def as_markdown(column_entries: Sequence[ColumnEntry]) -> str:
    """Entries as Markdown, for people: one table of columns for each table."""
    field_names = [f.name for f in fields(ColumnEntry) if f.name != "table"]
    lines = []
    for table in dict.fromkeys(entry.table for entry in column_entries):
        lines += ["", f"## {table}", "", f"| {' | '.join(field_names)} |"]
        lines.append("|---" * len(field_names) + "|")
        rows = [asdict(entry) for entry in column_entries if entry.table == table]
        lines += [
            f"| {' | '.join(_cell(row[name]) for name in field_names)} |"
            for row in rows
        ]
    return "\n".join(["# Data dictionary", *lines]) + "\n"


def _cell(value: object) -> str:
    text = (
        {True: "yes", False: "no"}.get(value, value)
        if isinstance(value, bool)
        else value
    )
    return str(text).replace("|", r"\|")


FORMATS = {"markdown": as_markdown, "csv": as_csv, "json": as_json}


def read_entries(stored: Sequence[Mapping[str, Any]]) -> list[ColumnEntry]:
    """Read entries from what `as_json` wrote."""
    return [ColumnEntry(**row) for row in stored]
