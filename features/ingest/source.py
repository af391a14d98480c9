"""Table sources of a campaign: where a table lies, and how its columns become ours.

`TableSource` is one `[tables.<name>]` of a campaign.toml. Nothing is read here.
"""

import codecs
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

import pandera.pandas as pa
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    model_validator,
)

from hustings.features.tables import (
    HISTORY_PREFIX,
    MAPPED_TABLES,
    TableError,
    is_derived,
)

Scalar = bool | int | float | datetime | date | str
Kind = Literal["text", "number", "time"]

ALL_BLOCKS = "all"
"""The `block` of a design that has only one."""
MOST_QUARANTINED = 0.02
"""Above this share of a table's rows set aside, nothing goes on."""
MOST_UNREAD = 0.2
"""Above this share of a column's values unread, the column is declared wrongly."""
_SECRETS = frozenset({"password", "passwd", "pwd", "token", "private_key"})
"""Parameters of a database's address that are kept nowhere."""
SECTIONS = {
    "identities": "link.voters",
    "provider_rows": "providers.<name>.table",
    "contact_results": "export.results.table",
    "answers": "answers.<name>",
    "linked_answers": "answers.<name>",
    "ballots": "ballots.table",
}
"""Tables that are declared elsewhere than under [tables]."""
_HISTORY_KEY = re.compile(r"^(\d{4})-(\d{2})-(\d{2}) ([a-z][a-z_]*)$")


# --- where a table lies and how its columns map onto ours -----------------------------


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


_Sign = Annotated[str, StringConstraints(strip_whitespace=False, min_length=1)]
"""A text of which a blank is a part: a tab, a space between thousands."""


class ColumnSource(_Declared):
    """Where the values of one of our columns come from.

    Attributes:
        column: Column of the source.
        value: A constant instead.
        row_number: A prefix instead: the row's number in the source after it.
        map: Source value → our value, "" standing for a blank; any other value is a
            fault.
        default: Our value where the map has none, a blank included.
        keep: Values that the map does not have stay as they are.
        missing: Texts that mean "no value" in this column, after the table's own.
        format: How times are written, as in strptime, or several such formats, the
            first that fits; ISO 8601 without. Of a number: the year of a date so
            written is taken, as for a year of birth.
        digits: Zeros are put before a shorter code, as in FIPS codes.
        decimal: Sign before the fraction of a number.
        thousands: Sign between the thousands of a number; none without.
        unit: Signs around a number that are no part of it, such as $ or %.
    """

    column: str | None = None
    value: Scalar | None = None
    row_number: str | None = None
    map: dict[str, Scalar] | None = None
    default: Scalar | None = None
    keep: bool = False
    missing: list[str] = []
    format: str | list[str] | None = None
    digits: int | None = Field(default=None, gt=0)
    decimal: Literal[".", ","] = "."
    thousands: Annotated[_Sign, Field(max_length=1)] | None = None
    unit: str = ""

    @property
    def formats(self) -> list[str]:
        """The formats of times, the first that fits first."""
        one = self.format if self.format is not None else []
        return [one] if isinstance(one, str) else one

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [self.column, self.value, self.row_number]
        if sum(origin is not None for origin in given) != 1:
            raise ValueError("expected exactly one of column, value, row_number")
        if (self.default is not None or self.keep) and self.map is None:
            raise ValueError("default and keep need a map")
        if self.default is not None and self.keep:
            raise ValueError("expected only one of default, keep")
        if self.thousands is not None and self.thousands == self.decimal:
            raise ValueError(f"expected thousands unlike decimal, got {self.decimal!r}")
        return self


def _column_source(given: Any) -> Any:
    return {"column": given} if isinstance(given, str) else given


_Column = Annotated[
    ColumnSource,
    BeforeValidator(_column_source, json_schema_input_type=str | ColumnSource),
]


class RowFilter(_Declared):
    """Condition on the rows of the source that belong to the table.

    Attributes:
        column: Column of the source.
        equals: Value that a row must have.
        not_equals: Value that it must not have.
        isin: Values of which it must have one; written `in`.
    """

    column: str
    equals: Scalar | None = None
    not_equals: Scalar | None = None
    isin: list[Scalar] | None = Field(default=None, alias="in")

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        given = [self.equals, self.not_equals, self.isin]
        if sum(condition is not None for condition in given) != 1:
            raise ValueError("expected exactly one of equals, not_equals, in")
        return self


_Stated = Annotated[str, Field(min_length=1)]


class TableSource(_Declared):
    """One `[tables.<name>]` of a campaign.

    Attributes:
        path: File, plain or packed by gzip or zip, relative to the campaign's folder,
            absolute, or under a prefix: `package:` (inside an installed package),
            `data:` (the folder of public data), `raw:` (the folder of generated sample
            data).
        database: `duckdb:///file`, `sqlite:///file`, `postgresql://host/name`, or the
            address of a warehouse that ibis knows: bigquery, snowflake, redshift.
        table: Table in that database.
        rows: The rows themselves, in our columns.
        format: parquet, csv, excel or fixed; by the file's ending without.
        encoding: Encoding of a text file; that of its byte order mark without, else
            UTF-8.
        delimiter: Of a text file; as the beginning of the file shows without.
        quoting: Whether quotation marks quote fields. They do without, and records
            over many lines are refused.
        names: Columns of a file without a header, in their order.
        member: The file inside a zip archive, or the sheet of a workbook.
        fixed: Column → [first, last] position of a fixed-width file, from 1, both
            included, as record layouts are written.
        missing: Texts that mean "no value"; an empty one always does.
        where: Which rows belong to the table.
        most_quarantined: Share of the rows that may be set aside; above it nothing
            goes on.
        most_unread: Share of the values of a column that may be unreadable.
        source: Who made the data.
        licence: Under which licence it is used.
        permitted_use: What it may be used for.
        published: Where in the literature it was published.
        observed_on: When the columns of the voter file were observed.
        collected_from: Where the data come from: the person, a public register, a
            broker, or what was observed of the person.
        columns: Ours → theirs. Without it, the source has our column names.
        history: "<date> <kind>" of an election → theirs.
        extra: Provider columns to keep, ours → theirs.
        extra_names: Provider columns kept under their own names; globs allowed.
        types: Of provider columns, number or text; by their values without.
        estimate_by: Designs only: see `estimated_design`.
        other_posts: Reactions only: keep reactions to posts that are no message of
            the campaign.
    """

    path: str | None = None
    database: str | None = None
    table: str | None = None
    rows: list[dict[str, Scalar]] | None = None
    format: Literal["parquet", "csv", "excel", "fixed"] | None = None
    encoding: str | None = None
    delimiter: Annotated[_Sign, Field(max_length=1)] | None = None
    quoting: bool | None = None
    names: list[str] | None = Field(default=None, min_length=1)
    member: str = ""
    fixed: dict[str, tuple[int, int]] | None = None
    missing: list[str] = []
    where: RowFilter | None = None
    most_quarantined: float = Field(default=MOST_QUARANTINED, ge=0, le=1)
    most_unread: float = Field(default=MOST_UNREAD, ge=0, le=1)
    source: _Stated
    licence: _Stated
    permitted_use: _Stated
    published: str = ""
    observed_on: date | None = None
    collected_from: Literal["person", "register", "broker", "observed"] | None = None
    columns: dict[str, _Column] = {}
    history: dict[str, _Column] = {}
    extra: dict[str, _Column] = {}
    extra_names: list[str] = []
    types: dict[str, Literal["number", "text"]] = {}
    estimate_by: str | None = None
    other_posts: bool = False

    # key, such as "columns.age" → line of campaign.toml, for errors
    _lines: dict[str, int] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _names_of_extra(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "names" not in (given.get("extra") or {}):
            return given
        extra = dict(given["extra"])
        return {**given, "extra_names": extra.pop("names"), "extra": extra}

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [self.path, self.database, self.rows]
        if sum(origin is not None for origin in given) != 1:
            raise ValueError("expected exactly one of path, database, rows")
        if (self.database is None) != (self.table is None):
            raise ValueError("database and table come together")
        if self.database is not None:
            refuse_password(self.database)
        if self.encoding is not None:
            _known_encoding(self.encoding)
        return self

    @model_validator(mode="after")
    def _elections(self) -> Self:
        for key in self.history:
            history_column(key)
        return self

    def located(self, lines: Mapping[str, int]) -> Self:
        """The same source, its keys with their lines in campaign.toml for errors."""
        self._lines = dict(lines)
        return self

    def mend(self, table_name: str, key: str) -> str:
        """Where to mend a key of this source."""
        group = key.partition(".")[0]
        near = (key, f"{group}.names", group)
        line = next((self._lines[k] for k in near if k in self._lines), None)
        at = f", line {line}" if line else ""
        section = SECTIONS.get(table_name, f"tables.{table_name}")
        return f"mend [{section}] {key} in campaign.toml{at}"

    @property
    def read_from(self) -> str:
        """The origin as declared."""
        if self.database is not None:
            return f"{self.database} table {self.table}"
        return self.path or "campaign.toml"


def refuse_password(database: str) -> None:
    """Refuse an address with a password, before the @ or among its parameters.

    Raises:
        ValueError: Without the address.
    """
    address = urlsplit(database)
    secret = {name.lower() for name, _ in parse_qsl(address.query)} & _SECRETS
    if address.password is not None or secret:
        raise ValueError(
            "expected no password in the address, which is kept with the campaign; "
            "give it by PGPASSWORD or a password file"
        )


def _known_encoding(encoding: str) -> None:
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise ValueError(f"expected a known encoding, got {encoding!r}") from None


def history_column(key: str) -> str:
    """Our column of an election.

    >>> history_column("2004-11-02 general")
    'voted_20041102_general'
    """
    parts = _HISTORY_KEY.match(key)
    if parts is None:
        raise ValueError(f'expected an election as "2004-11-02 general", got {key!r}')
    year, month, day, kind = parts.groups()
    date(int(year), int(month), int(day))
    return f"{HISTORY_PREFIX}{year}{month}{day}_{kind}"


# --- the mapping written out, and what it asks of a source ---------------------------


def resolved(
    source: TableSource,
    there: Sequence[str],
    table_name: str,
    *,
    file: str = "the rows given",
) -> TableSource:
    """The source with its globs and own-name columns written out.

    Raises:
        TableError: If an extra column has the name of one of ours, or a glob of
            `extra.names` meets no column.
    """
    columns = source.columns or _same_names(there, table_name)
    extra = dict(source.extra)
    taken = _sources_of(columns.values()) | _sources_of(source.history.values())
    for pattern in source.extra_names:
        is_glob = any(sign in pattern for sign in "*?[")
        matching = (
            [c for c in there if fnmatchcase(c, pattern)] if is_glob else [pattern]
        )
        if is_glob and not matching:
            raise TableError(
                f"{file}: expected columns like {pattern!r}, got none; "
                + source.mend(table_name, "extra.names")
            )
        free = [c for c in matching if not (is_glob and (c in taken or is_history(c)))]
        extra.update({c: ColumnSource(column=c) for c in free if c not in extra})
    ours = MAPPED_TABLES[table_name].columns
    clash = sorted(c for c in extra if c in ours or is_history(c) or is_derived(c))
    if clash:
        raise TableError(
            f"table {table_name}: extra column {clash[0]!r} has the name of one of "
            f"ours; {source.mend(table_name, 'extra')}: put it under columns, or "
            "give it another name"
        )
    written_out = source.model_copy(
        update={"columns": columns, "extra": extra, "extra_names": []}
    )
    return written_out.located(source._lines)


def is_history(name: str) -> bool:
    """Whether a column of the voters holds the vote in an election."""
    return name.startswith(HISTORY_PREFIX)


def _same_names(there: Sequence[str], table_name: str) -> dict[str, ColumnSource]:
    ours = MAPPED_TABLES[table_name].columns
    history = table_name == "voters"
    same = [c for c in there if c in ours or (history and is_history(c))]
    return {c: ColumnSource(column=c) for c in same}


def _sources_of(columns: Iterable[ColumnSource]) -> set[str]:
    return {origin.column for origin in columns if origin.column is not None}


def require_columns(
    source: TableSource, there: Sequence[str], table_name: str, *, file: str
) -> None:
    """Refuse a mapping that names a column which the source, or our table, lacks.

    Raises:
        TableError: Naming the file, the column, those that are there, and the key.
    """
    for key, column in wanted_columns(source):
        if column not in there:
            raise TableError(
                _missing_column(source, key, column, there, table_name, file)
            )
    ours = MAPPED_TABLES[table_name].columns
    for name in source.columns:
        if name not in ours and not (table_name == "voters" and is_history(name)):
            near = get_close_matches(name, list(ours), n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise TableError(
                f"table {table_name} has no column {name!r}{hint}; its columns: "
                f"{', '.join(ours)}; {source.mend(table_name, f'columns.{name}')}"
            )


def wanted_columns(source: TableSource) -> list[tuple[str, str]]:
    """Key of the mapping and the source column that it names."""
    groups = [
        ("columns", source.columns),
        ("history", source.history),
        ("extra", source.extra),
    ]
    source_columns = [
        (f"{group}.{ours}", origin.column)
        for group, columns in groups
        for ours, origin in columns.items()
        if origin.column is not None
    ]
    if source.where is not None:
        source_columns.append(("where.column", source.where.column))
    if source.estimate_by is not None:
        source_columns.append(("estimate_by", source.estimate_by))
    return source_columns


def mapping_of_given_rows(voters: TableSource) -> TableSource:
    """The mapping of voters whose rows are given, by a request or to the model.

    A row's number in the file says nothing of a row that is given, so each brings its
    `voter_id`; and whoever is asked about belongs to the table, whatever its filter.
    """
    voter_id = voters.columns["voter_id"]
    if voter_id.column is None:
        voter_id = ColumnSource(column="voter_id")
    columns = {**voters.columns, "voter_id": voter_id}
    return voters.model_copy(update={"columns": columns, "where": None})


def _missing_column(
    source: TableSource,
    key: str,
    column: str,
    there: Sequence[str],
    table_name: str,
    file: str,
) -> str:
    lower = {name.lower(): name for name in there}
    near = get_close_matches(column.lower(), list(lower), n=1)
    hint = f" (did you mean {lower[near[0]]!r}?)" if near else ""
    available = ", ".join(there)
    return (
        f"{file}: expected a column {column!r}{hint}, got the columns {available}; "
        + source.mend(table_name, key)
    )


def our_columns(
    source: TableSource, table_name: str
) -> Iterable[tuple[str, Kind | None, ColumnSource]]:
    """Name, kind (unknown for provider columns) and origin of every column of ours."""
    ours = MAPPED_TABLES[table_name].columns
    for name, origin in source.columns.items():
        yield name, "number" if is_history(name) else kind_of(ours[name]), origin
    for key, origin in source.history.items():
        yield history_column(key), "number", origin
    for name, origin in source.extra.items():
        yield name, None, origin


def kind_of(column: pa.Column) -> Kind:
    """Text, number or time, as a declaration types it."""
    dtype = str(column.dtype)
    if dtype.startswith("datetime"):
        return "time"
    return "number" if dtype.startswith(("float", "int")) else "text"
