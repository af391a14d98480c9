"""Table sources of a campaign, and the mapping of their columns to ours.

`TableSource` is one `[tables.<name>]` of a campaign.toml; `map_columns` applies it to
a whole file and to the one row of a request, so that both are read the same way.
"""

import codecs
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow
import pyarrow.compute
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    model_validator,
)

from hustings.features.tables import (
    HISTORY_PREFIX,
    MAPPED_TABLES,
    TIMESTAMP,
    TableError,
    identifying_columns,
    is_derived,
)

Scalar = bool | int | float | datetime | date | str
Kind = Literal["text", "number", "time"]

ALL_BLOCKS = "all"
"""The `block` of a design that has only one."""
MASK = "***"
SECTIONS = {
    "identities": "link.voters",
    "provider_rows": "providers.<name>.table",
    "contact_results": "export.results.table",
    "answers": "answers.<name>",
}
"""Tables that are declared elsewhere than under [tables]."""
FAULT_COLUMNS = ["row", "column", "value", "reason"]
_HISTORY_KEY = re.compile(r"^(\d{4})-(\d{2})-(\d{2}) ([a-z][a-z_]*)$")
_TRUTH = {"true": 1.0, "false": 0.0}


# --- where a table lies and how its columns map onto ours -----------------------------


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class ColumnSource(_Declared):
    """Where the values of one of our columns come from.

    Attributes:
        column: Column of the source.
        value: A constant instead.
        row_number: A prefix instead: the row's number in the source after it.
        map: Source value → our value; any other value is a fault.
        default: Our value where the map has none.
        keep: Values that the map does not have stay as they are.
        format: How times are written, as in strptime; ISO 8601 without. Of a number:
            the year of a date so written is taken, as for a year of birth.
        digits: Zeros are put before a shorter code, as in FIPS codes.
    """

    column: str | None = None
    value: Scalar | None = None
    row_number: str | None = None
    map: dict[str, Scalar] | None = None
    default: Scalar | None = None
    keep: bool = False
    format: str | None = None
    digits: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [self.column, self.value, self.row_number]
        if sum(origin is not None for origin in given) != 1:
            raise ValueError("expected exactly one of column, value, row_number")
        if (self.default is not None or self.keep) and self.map is None:
            raise ValueError("default and keep need a map")
        if self.default is not None and self.keep:
            raise ValueError("expected only one of default, keep")
        return self


def _column_source(given: Any) -> Any:
    return {"column": given} if isinstance(given, str) else given


_Column = Annotated[ColumnSource, BeforeValidator(_column_source)]


class RowFilter(_Declared):
    """Condition on the rows of the source that belong to the table."""

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
        path: File, relative to the campaign's folder, absolute, or under a prefix:
            `package:` (inside an installed package), `data:` (the folder of public
            data), `raw:` (the folder of generated sample data).
        database: `duckdb:///file`, `sqlite:///file` or `postgresql://host/name`.
        table: Table in that database.
        rows: The rows themselves, in our columns.
        format: parquet, csv or fixed; by the file's ending without.
        encoding: Encoding of a text file.
        delimiter: Of a CSV file.
        fixed: Column → [first, last] position of a fixed-width file, from 1, both
            included, as record layouts are written.
        missing: Texts that mean "no value"; an empty one always does.
        where: Which rows belong to the table.
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
    format: Literal["parquet", "csv", "fixed"] | None = None
    encoding: str = "utf-8"
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    fixed: dict[str, tuple[int, int]] | None = None
    missing: list[str] = []
    where: RowFilter | None = None
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
            _refuse_password(self.database)
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


def _refuse_password(database: str) -> None:
    if urlsplit(database).password is not None:
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


# --- from source columns to ours ------------------------------------------------------


@dataclass(frozen=True)
class Mapped:
    """Rows in our columns, and the values that could not be read.

    Attributes:
        frame: Our columns, with the source's row labels as its index.
        faults: Columns row, column, value, reason.
    """

    frame: pd.DataFrame
    faults: pd.DataFrame


def map_columns(
    raw: pd.DataFrame, source: TableSource, table_name: str = "voters"
) -> pd.DataFrame:
    """Source columns → ours; a value that cannot be read becomes missing.

    Args:
        raw: Rows as the source has them.
        source: The mapping.
        table_name: Which of our tables it fills.

    Raises:
        TableError: If a column of the source is not there.
    """
    return map_with_faults(raw, source, table_name).frame


def map_with_faults(
    raw: pd.DataFrame,
    source: TableSource,
    table_name: str = "voters",
    *,
    file: str = "the rows given",
) -> Mapped:
    """Map as `map_columns`, with a list of the values that could not be read.

    Args:
        raw: Rows as the source has them.
        source: The mapping.
        table_name: Which of our tables it fills.
        file: Where the rows came from, for errors.

    Raises:
        TableError: If a column of the source is not there.
    """
    mapping = resolved(source, list(raw.columns), table_name, file=file)
    require_columns(mapping, list(raw.columns), table_name, file=file)
    faults: list[pd.DataFrame] = []
    typed_columns: dict[str, pd.Series] = {}
    for name, kind, origin in our_columns(mapping, table_name):
        given = _origin_values(raw, origin, mapping.missing)
        given = _mapped_values(given, name, origin, faults)
        kind = kind or mapping.types.get(name) or _guessed_kind(given)
        typed_columns[name] = _typed(given, name, kind, origin.format, faults)
    frame = pd.DataFrame(typed_columns, index=raw.index)
    frame = _with_defaults(frame, table_name)
    return Mapped(frame, masked(joined(faults), table_name))


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


def _origin_values(
    raw: pd.DataFrame, origin: ColumnSource, missing: Sequence[str]
) -> pd.Series:
    if origin.column is not None:
        values = raw[origin.column]
        plain = origin.map is None and origin.digits is None and not missing
        if plain and _is_number_or_time(values):
            return values
        text = as_text(values)
        return text.mask(text.isin(list(missing))) if missing else text
    if origin.row_number is not None:
        numbers = pd.Series(raw.index, index=raw.index).astype("str")
        return origin.row_number + numbers
    constant = as_text(pd.Series([origin.value], dtype=object)).iloc[0]
    return pd.Series(constant, index=raw.index, dtype="str")


def _is_number_or_time(values: pd.Series) -> bool:
    if pd.api.types.is_datetime64_any_dtype(values):
        return True
    return pd.api.types.is_numeric_dtype(values) and not _is_bool(values)


def _is_bool(values: pd.Series) -> bool:
    return pd.api.types.is_bool_dtype(values)


def as_text(values: pd.Series) -> pd.Series:
    """Values as texts without blanks around them; whole numbers without '.0'."""
    if _is_bool(values) or values.dtype == object:
        text = values.map(scalar_text).astype("str")
    elif pd.api.types.is_numeric_dtype(values):
        text = values.astype("str").str.removesuffix(".0")
    else:
        text = values.astype("str")
    text = text.str.strip()
    return text.mask(text == "")


def scalar_text(value: Any) -> Any:
    """One value as `as_text` writes it; None where there is none."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else str(value).removesuffix(".0")
    return str(value)


def _mapped_values(
    given: pd.Series, name: str, origin: ColumnSource, faults: list[pd.DataFrame]
) -> pd.Series:
    """The values after the column's map and its leading zeros."""
    if origin.map is not None:
        ours = {theirs: scalar_text(value) for theirs, value in origin.map.items()}
        unmapped = given.notna() & ~given.isin(list(ours))
        mapped = given.map(ours).astype("str")
        if origin.keep:
            mapped = mapped.mask(unmapped, given)
        elif origin.default is not None:
            mapped = mapped.mask(unmapped, str(scalar_text(origin.default)))
        else:
            expected = f"expected one of {', '.join(ours)} (the map of {origin.column})"
            faults.append(fault_rows(unmapped, name, given, expected))
        given = mapped
    return given if origin.digits is None else given.str.zfill(origin.digits)


def _guessed_kind(given: pd.Series) -> Kind:
    """Number where every value is one and no code loses its leading zero."""
    if _is_number_or_time(given):
        return "number" if pd.api.types.is_numeric_dtype(given) else "text"
    present = given.dropna()
    if present.str.match(r"^[+-]?0\d").any():
        return "text"
    return "number" if _as_number(present).notna().all() else "text"


def _typed(
    given: pd.Series,
    name: str,
    kind: Kind,
    time_format: str | None,
    faults: list[pd.DataFrame],
) -> pd.Series:
    typed: pd.Series
    if kind == "number" and time_format is not None:
        typed = _as_time(given, time_format).dt.year.astype("float64")
    elif kind == "number":
        typed = _as_number(given)
    elif kind == "time":
        typed = _as_time(given, time_format)
    else:
        return as_text(given)
    plain = kind == "number" and time_format is None
    expected = "expected a number" if plain else time_expected(time_format)
    # what came typed was read already
    unread = typed.isna() & (given.notna() if typed is not given else False)
    faults.append(fault_rows(unread, name, given, expected))
    if is_history(name):
        number = typed.to_numpy()
        strange = pd.Series(
            ~(np.isnan(number) | (number == 0.0) | (number == 1.0)), index=typed.index
        )
        faults.append(
            fault_rows(strange, name, given, "expected 1 (voted) or 0 (did not)")
        )
    return typed


def _as_number(given: pd.Series) -> pd.Series:
    if given.dtype == np.float64 and not np.isinf(given.to_numpy()).any():
        return given
    numbers = _numbers_at_once(given)
    if numbers is None:
        numbers = pd.to_numeric(given, errors="coerce").astype("float64")
    unread = numbers.isna() & given.notna()
    if unread.any():
        numbers = numbers.mask(unread, given[unread].str.lower().map(_TRUTH))
    return numbers.mask(np.isinf(numbers))


def _numbers_at_once(given: pd.Series) -> pd.Series | None:
    """A column of texts that are all numbers, ten times as fast; else None."""
    if not isinstance(given.dtype, pd.StringDtype):
        return None
    try:
        cast = pyarrow.compute.cast(pyarrow.array(given), pyarrow.float64())
    except pyarrow.ArrowInvalid:
        return None
    return pd.Series(cast.to_numpy(zero_copy_only=False), index=given.index)


def _as_time(given: pd.Series, time_format: str | None) -> pd.Series:
    """Times; one with an offset becomes UTC."""
    if pd.api.types.is_datetime64_any_dtype(given):
        times = pd.to_datetime(given, utc=True)
    else:
        written = time_format or "ISO8601"
        text = as_text(given)
        times = pd.to_datetime(text, format=written, errors="coerce", utc=True)
    naive: pd.Series = times.dt.tz_localize(None).astype("datetime64[us]")
    return naive


def time_expected(time_format: str | None) -> str:
    """The format of a time that an error message asks for."""
    if time_format is None:
        return "expected a date such as 2012-11-06; give its format otherwise"
    return f"expected a date written as {time_format}"


def _with_defaults(frame: pd.DataFrame, table_name: str) -> pd.DataFrame:
    """One block where none is named, and no value where one may be missing."""
    ours = MAPPED_TABLES[table_name].columns
    if "block" in ours and "block" not in frame:
        frame["block"] = pd.Series(ALL_BLOCKS, index=frame.index, dtype="str")
    for name, column in ours.items():
        if name not in frame and column.required and column.nullable:
            frame[name] = pd.Series(index=frame.index, dtype=_empty_dtype(column))
    return frame


def _empty_dtype(column: pa.Column) -> str:
    return {"text": "str", "number": "float64", "time": TIMESTAMP}[kind_of(column)]


def fault_rows(
    where: pd.Series, column: str, values: pd.Series | None, reason: str
) -> pd.DataFrame:
    """One fault per marked row."""
    if not where.any():
        return _NO_FAULTS
    rows = where.index[where.to_numpy(dtype=bool)]
    value_texts = None if values is None else values.loc[rows].astype("str").to_numpy()
    faults = pd.DataFrame({"row": rows, "column": column, "reason": reason})
    faults["value"] = pd.Series(value_texts, index=faults.index, dtype="str")
    return faults[FAULT_COLUMNS]


_NO_FAULTS = pd.DataFrame(
    {
        "row": pd.Series(dtype="int64"),
        "column": pd.Series(dtype="str"),
        "value": pd.Series(dtype="str"),
        "reason": pd.Series(dtype="str"),
    }
)


def joined(faults: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Several tables of faults as one, each fault once."""
    non_empty = [f for f in faults if len(f)]
    if not non_empty:
        return _NO_FAULTS.copy()
    joined = pd.concat(non_empty, ignore_index=True)
    return joined.drop_duplicates(["row", "column", "reason"], ignore_index=True)


def masked(faults: pd.DataFrame, table_name: str) -> pd.DataFrame:
    """The faults, without the values of identifying columns."""
    identifying = list(identifying_columns(MAPPED_TABLES[table_name]))
    if faults.empty:
        return faults
    hidden = faults["column"].isin(identifying) & faults["value"].notna()
    return faults.assign(value=faults["value"].mask(hidden, MASK))
