"""A table larger than memory → the same checked rows and quarantine, out of core.

The same declaration of the campaign and the same checks of `features.tables`, written
as expressions that DuckDB runs over Parquet in pieces, within a limit of memory and
with a folder to spill to. The file is read a few times; only the rows at fault are
ever looked at one by one. A test holds it against `features.ingest`, row by row.

It takes Parquet files, and the tables that grow large: voters and reactions. A time
that is text has to name its day, such as 2026-04-06 or 2026-04-06T12:00:00Z.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import ibis
import ibis.expr.types as ir
import pandas as pd
import pandera.pandas as pa
import pyarrow.parquet as pq

from hustings.features.derived import Derivation, derived
from hustings.features.ingest.mapping import (
    MASK,
    ColumnSource,
    RowFilter,
    TableSource,
    is_history,
    kind_of,
    our_columns,
    require_columns,
    resolved,
    scalar_text,
    time_expected,
)
from hustings.features.reaction import NEUTRAL, VALENCE, VALENCES
from hustings.features.tables import (
    CONTROL,
    RAW_TABLES,
    TableError,
    identifying_columns,
)

TABLES = ("voters", "reactions")
MEMORY_LIMIT = "4GB"
"""Of DuckDB alone; the process needs up to a gigabyte more."""
N_THREADS = 2

_ROW = "row__"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_LEADING_ZERO = r"^[+-]?0\d"
_DAY = r"^\d{4}-\d{2}-\d{2}"
_TIME = _DAY + r"([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?)?$"
_SIGN = "\x1f"


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]
def try_strptime(text: str, written: str) -> "ibis.expr.datatypes.timestamp":
    """DuckDB's own: a time as it is written, none where it is not."""


class LargeIngest(NamedTuple):
    """What became of a table.

    Attributes:
        accepted: Parquet file of the rows that keep the declaration.
        quarantine: Parquet file in QUARANTINE's columns.
        report: rows_in, accepted, quarantined and reasons, as `ingest` tells them.
    """

    accepted: Path
    quarantine: Path
    report: dict[str, Any]


@contextmanager
def engine(
    spill: Path, *, memory_limit: str = MEMORY_LIMIT, n_threads: int = N_THREADS
) -> Iterator["ibis.BaseBackend"]:
    """DuckDB within a limit of memory, spilling to a folder.

    Args:
        spill: Folder for what does not fit; made where it is not there.
        memory_limit: Such as "4GB".
        n_threads: At most so many.
    """
    spill.mkdir(parents=True, exist_ok=True)
    connection = ibis.duckdb.connect(
        memory_limit=memory_limit,
        threads=n_threads,
        temp_directory=str(spill),
        preserve_insertion_order=False,
    )
    # without the extension that knows time zones, times are in UTC anyway
    with suppress(duckdb.Error):
        connection.raw_sql("SET TimeZone = 'UTC'")
    try:
        yield connection
    finally:
        connection.disconnect()


def ingest_large(
    connection: "ibis.BaseBackend",
    source: TableSource,
    table_name: str,
    path: Path,
    out: Path,
    *,
    known_messages: Sequence[str] = (),
) -> LargeIngest:
    """Read, map and check one large table.

    Args:
        connection: From `engine`.
        source: The table's declaration.
        table_name: One of `TABLES`.
        path: The Parquet file.
        out: Folder of what comes out, made where it is not there.
        known_messages: Accepted message ids, that reactions have to be to.

    Raises:
        TableError: If a column is missing, or the table is of another kind.
    """
    if table_name not in TABLES or path.suffix not in {".parquet", ".pq"}:
        raise TableError(
            f"expected a Parquet file of {' or '.join(TABLES)} to read out of core, "
            f"got {path.name} of {table_name}; features.ingest reads the others"
        )
    out.mkdir(parents=True, exist_ok=True)
    raw = connection.read_parquet(path, table_name="raw__", file_row_number=True)
    raw = raw.mutate(**{_ROW: raw["file_row_number"] + 1}).drop("file_row_number")
    there = list(pq.read_schema(path).names)
    mapping = resolved(source, there, table_name, file=path.name)
    require_columns(mapping, there, table_name, file=path.name)
    rows = raw if mapping.where is None else raw.filter(_belongs(raw, mapping.where))
    kinds = _kinds(rows, mapping, table_name)
    reading = _Reading(table_name, mapping, kinds, tuple(known_messages))
    reading.require_ours()
    return _sorted_out(connection, reading, rows, out)


def features_large(
    connection: "ibis.BaseBackend",
    voters: Path,
    asked: Derivation,
    out: Path,
    *,
    reactions: Path | None = None,
    links: Path | None = None,
) -> Path:
    """The voters with what is derived of the file and of their own reactions.

    Args:
        connection: From `engine`.
        voters: Parquet file of accepted voters.
        asked: What to derive.
        out: File to write.
        reactions: Parquet file of accepted reactions.
        links: Parquet file of person, voter_id and probability: whose reactions they
            may be; reactions of anybody else are nobody's here.
    """
    table = connection.read_parquet(voters, table_name="voters__")
    staged = out.with_suffix(".staged")

    def hold(own: ir.Table) -> ir.Table:
        path = _write(connection, own, staged, compression="snappy")
        return connection.read_parquet(path, table_name="own__")

    whole = derived(table, asked, hold=hold)
    if reactions is not None and links is not None:
        said = connection.read_parquet(reactions, table_name="reactions__")
        linked = connection.read_parquet(links, table_name="links__")
        sums = reaction_sums(said, linked, as_of=asked.as_of)
        # small enough to hold, so that the voters need not be sorted by it
        sums = connection.create_table("sums__", sums, temp=True, overwrite=True)
        met = whole.left_join(sums, "voter_id").drop("voter_id_right")
        counts = {name: met[name].fill_null(0.0) for name in _REACTED.values()}
        whole = met.mutate(**counts)
    _write(connection, whole, out)
    staged.unlink(missing_ok=True)
    return out


_REACTED = {valence: f"reactions__{valence}" for valence in VALENCES}


def reaction_sums(
    reactions: ir.Table, links: ir.Table, *, as_of: pd.Timestamp
) -> ir.Table:
    """How many reactions of each valence every linked voter is expected to have made.

    Args:
        reactions: REACTIONS, on any engine.
        links: person, voter_id and probability.
        as_of: Only reactions strictly before it.

    Returns:
        voter_id and a sum of link probabilities for each valence.
    """
    earlier = reactions.filter(reactions["reacted_at"] < as_of)
    met = earlier.inner_join(links, "person")
    told = met["kind"].lower().cases(*VALENCE.items(), else_=NEUTRAL)
    sums = {
        name: ibis.ifelse(told == valence, met["probability"], 0.0).sum()
        for valence, name in _REACTED.items()
    }
    return met.group_by("voter_id").agg(**sums)


# --- reading a row --------------------------------------------------------------------


class _Fault(NamedTuple):
    """One thing that may be wrong with a row.

    Attributes:
        stage: 1 unread, 2 unknown elsewhere, 4 against the declaration (3 is a
            duplicate); a row is told the faults of the first stage that meets any.
        column: At fault.
        where: Whether it is.
        shown: What came, None for nothing.
        reason: What was expected.
    """

    stage: int
    column: str
    where: ir.BooleanValue
    shown: ir.StringValue | None
    reason: str


@dataclass(frozen=True)
class _Reading:
    """How rows of the source become ours, and what may be wrong with them."""

    table_name: str
    mapping: TableSource
    kinds: Mapping[str, str]
    known_messages: tuple[str, ...]

    @property
    def declared(self) -> pa.DataFrameSchema:
        return RAW_TABLES[self.table_name]

    @property
    def names(self) -> list[str]:
        """Our columns, the declared ones first, as `ingest` orders them."""
        own = list(self.declared.columns)
        empty = [
            n
            for n, column in self.declared.columns.items()
            if n not in self.kinds and column.required and column.nullable
        ]
        ordered = [c for c in own if c in self.kinds or c in empty]
        return [*ordered, *(c for c in self.kinds if c not in own)]

    def require_ours(self) -> None:
        for name, column in self.declared.columns.items():
            if column.required and not column.nullable and name not in self.kinds:
                raise TableError(
                    f"table {self.table_name}: expected a column {name!r} "
                    f"({column.description}), got none; "
                    + self.mapping.mend(self.table_name, f"columns.{name}")
                )

    def values(self, rows: ir.Table) -> tuple[dict[str, ir.Value], list[_Fault]]:
        """Our columns of some rows, and the faults of reading them."""
        found: dict[str, ir.Value] = {}
        faults: list[_Fault] = []
        for name, _, origin in our_columns(self.mapping, self.table_name):
            given, unmapped = _given(rows, origin, self.mapping.missing)
            if unmapped is not None:
                faults.append(_Fault(1, name, *unmapped))
            typed, unread = _typed(given, name, self.kinds[name], origin.format)
            found[name] = typed
            faults += [_Fault(1, name, where, _text(given), r) for where, r in unread]
        for name in self.names:
            if name not in found:
                kind = kind_of(self.declared.columns[name])
                found[name] = ibis.null(_SQL_KINDS[kind])
        return found, faults

    def faults(self, rows: ir.Table) -> list[_Fault]:
        """Every fault but duplicates, over rows that have our columns too."""
        _, found = self.values(rows)
        return [*found, *self._unknown(rows), *self._against_declaration(rows)]

    def mapped(self, rows: ir.Table) -> ir.Table:
        """The rows with our columns beside theirs, under names of their own."""
        values, _ = self.values(rows)
        return rows.mutate(**{_ours(name): value for name, value in values.items()})

    def _unknown(self, rows: ir.Table) -> list[_Fault]:
        if self.table_name != "reactions" or self.mapping.other_posts:
            return []
        message = rows[_ours("message_id")]
        known = message.isin([*self.known_messages, CONTROL])
        reason = "unknown message: expected one of the table messages"
        return [_Fault(2, "message_id", message.notnull() & ~known, message, reason)]

    def _against_declaration(self, rows: ir.Table) -> list[_Fault]:
        found = []
        for name, column in self.declared.columns.items():
            if name not in self.names:
                continue
            value = rows[_ours(name)]
            if not column.nullable:
                reason = "expected a value, got none"
                found.append(_Fault(4, name, value.isnull(), None, reason))
            for check in column.checks:
                kept = passes(check, value)
                where = value.notnull() & ~kept
                found.append(
                    _Fault(4, name, where, value.cast("string"), str(check.error))
                )
        return found


def passes(check: pa.Check, value: ir.Value) -> ir.BooleanValue:
    """A check of `features.tables` as an expression.

    Args:
        check: As pandera has it.
        value: Of a column; where it is missing, nobody asks.

    Raises:
        TableError: If it is of a kind that no table declares yet.
    """
    told = check.statistics or {}
    if check.name == "isin":
        return value.isin(list(told["allowed_values"]))
    if check.name == "str_matches":
        return value.re_search(f"^(?:{told['pattern'].removeprefix('^')})")
    if check.name == "str_length" and told["max_value"] is told["exact_value"] is None:
        return value.length() >= told["min_value"]
    if check.name == "greater_than":
        return value > told["min_value"]
    if check.name == "greater_than_or_equal_to":
        return value >= told["min_value"]
    if check.name == "in_range":
        low, high = told["min_value"], told["max_value"]
        above = value >= low if told["include_min"] else value > low
        return above & (value <= high if told["include_max"] else value < high)
    raise TableError(f"no expression is known for the check {check.name!r}")


_SQL_KINDS = {"text": "string", "number": "float64", "time": "timestamp(6)"}


def _ours(name: str) -> str:
    return f"ours__{name}"


def _kinds(rows: ir.Table, mapping: TableSource, table_name: str) -> dict[str, str]:
    """Text, number or time of every column; of undeclared ones, by all its values."""
    found: dict[str, str] = {}
    asked = {}
    for name, kind, origin in our_columns(mapping, table_name):
        given, _ = _given(rows, origin, mapping.missing)
        declared = kind or mapping.types.get(name)
        found[name] = declared or ("number" if given.type().is_numeric() else "text")
        if declared is None and origin.value is not None:
            text = str(scalar_text(origin.value))
            is_code = re.match(_LEADING_ZERO, text)
            found[name] = (
                "number" if re.match(_NUMBER, text) and not is_code else "text"
            )
        elif declared is None and given.type().is_string():
            asked[name] = _looks_like_number(given)
    if asked:
        numbers = rows.agg(**asked).to_pyarrow().to_pylist()[0]
        found |= {name: "number" for name, all_are in numbers.items() if all_are}
        found |= {
            name: "number" for name, all_are in numbers.items() if all_are is None
        }
    return found


def _looks_like_number(text: ir.StringValue) -> ir.BooleanValue:
    fits = _number_of(text).notnull() & ~text.re_search(_LEADING_ZERO)
    return (text.isnull() | fits).all()


def _belongs(rows: ir.Table, where: RowFilter) -> ir.BooleanValue:
    text = _text(rows[where.column]).fill_null("")
    if where.not_equals is not None:
        return text != scalar_text(where.not_equals)
    wanted = [where.equals] if where.isin is None else where.isin
    return text.isin([str(scalar_text(value)) for value in wanted])


_Unmapped = tuple[ir.BooleanValue, ir.StringValue, str]


def _given(
    rows: ir.Table, origin: ColumnSource, missing: Sequence[str]
) -> tuple[ir.Value, _Unmapped | None]:
    """Values after the column's map and zeros, and what the map does not have."""
    given = _origin(rows, origin, missing)
    unmapped = None
    if origin.map is not None:
        ours = {theirs: str(scalar_text(v)) for theirs, v in origin.map.items()}
        strange = given.notnull() & ~given.isin(list(ours))
        otherwise = ibis.null("string")
        if origin.keep:
            otherwise = given
        elif origin.default is not None:
            otherwise = ibis.literal(str(scalar_text(origin.default)))
        else:
            expected = f"expected one of {', '.join(ours)} (the map of {origin.column})"
            unmapped = (strange, given, expected)
        mapped = given.cases(*ours.items(), else_=otherwise)
        given = ibis.ifelse(given.isnull(), ibis.null("string"), mapped)
    if origin.digits is not None:
        short = given.length() < origin.digits
        given = ibis.ifelse(short, given.lpad(origin.digits, "0"), given)
    return given, unmapped


def _origin(rows: ir.Table, origin: ColumnSource, missing: Sequence[str]) -> ir.Value:
    if origin.column is not None:
        value = rows[origin.column]
        plain = origin.map is None and origin.digits is None and not missing
        if plain and (value.type().is_numeric() or value.type().is_timestamp()):
            return _without_nan(value)
        text = _text(value)
        return _unless(text.isin(list(missing)), text) if missing else text
    if origin.row_number is not None:
        return ibis.literal(origin.row_number) + rows[_ROW].cast("string")
    return ibis.literal(scalar_text(origin.value), "string")


def _without_nan(value: ir.Value) -> ir.Value:
    return _unless(value.isnan(), value) if value.type().is_floating() else value


def _unless(gone: ir.BooleanValue, value: ir.Value) -> ir.Value:
    return ibis.ifelse(gone, ibis.null(value.type()), value)


def _text(value: ir.Value) -> ir.StringValue:
    """As `ingest` writes a value: no blanks around it, whole numbers without '.0'."""
    text = value if value.type().is_string() else _without_nan(value).cast("string")
    if value.type().is_floating():
        text = text.re_replace(r"\.0$", "")
    return text.strip().nullif("")


def _typed(
    given: ir.Value, name: str, kind: str, written: str | None
) -> tuple[ir.Value, list[tuple[ir.BooleanValue, str]]]:
    """A column of its kind, and where it could not be read."""
    if kind == "text":
        return given if given.type().is_string() else _text(given), []
    if kind == "number" and written is None:
        typed, expected = _number_of(given), "expected a number"
    else:
        typed, expected = _time_of(given, written), time_expected(written)
        if kind == "number":
            typed = typed.year().cast("float64")
    unread = [(typed.isnull() & given.notnull(), expected)]
    if is_history(name):
        strange = typed.notnull() & ~typed.isin([0.0, 1.0])
        unread.append((strange, "expected 1 (voted) or 0 (did not)"))
    return typed, unread


def _number_of(given: ir.Value) -> ir.FloatingValue:
    """A finite number; true and false are one and zero."""
    number = given
    if not given.type().is_numeric():
        fits = given.re_search(_NUMBER)
        spoken = given.lower().cases(("true", 1.0), ("false", 0.0), else_=None)
        number = ibis.ifelse(fits, given.try_cast("float64"), spoken.cast("float64"))
    number = number.cast("float64")
    return _unless(number.isinf(), number)


def _time_of(given: ir.Value, written: str | None) -> ir.TimestampValue:
    """A time in UTC; one with an offset becomes UTC."""
    if given.type().is_timestamp():
        return given.cast("timestamp('UTC')").cast("timestamp(6)")
    text = _text(given)
    if written is not None:
        return try_strptime(text, written).cast("timestamp(6)")
    time = text.try_cast("timestamp('UTC')").cast("timestamp(6)")
    return ibis.ifelse(text.re_search(_TIME), time, ibis.null("timestamp(6)"))


# --- sorting rows out -----------------------------------------------------------------


def _sorted_out(
    connection: "ibis.BaseBackend", reading: _Reading, rows: ir.Table, out: Path
) -> LargeIngest:
    """Accepted rows to one file, the faults of the others to another."""
    flagged = _flagged(reading, rows)
    staged = _write(connection, flagged, out / "staged.parquet", compression="snappy")
    mapped = connection.read_parquet(staged, table_name="mapped__")
    repeated = _repeated(connection, reading, mapped)
    sound = mapped.filter(~mapped["early__"] & ~mapped["late__"])
    kept = sound.anti_join(repeated, _ROW)
    ours = {name: kept[_ours(name)] for name in reading.names}
    accepted = _write(connection, kept.select(**ours), out / "accepted.parquet")

    wrong = mapped.filter(mapped["early__"] | mapped["late__"]).select(_ROW)
    wrong = wrong.union(repeated.select(_ROW), distinct=True)
    faulty = reading.mapped(rows.semi_join(wrong, _ROW))
    aside = connection.create_table("faulty__", faulty, temp=True, overwrite=True)
    told = _faults_told(reading, aside, repeated)
    quarantine = _write(connection, told, out / "quarantine.parquet")
    report = _report(connection, staged, accepted, quarantine)
    staged.unlink()
    (out / "report.json").write_text(json.dumps(report, indent=1))
    return LargeIngest(accepted, quarantine, report)


def _flagged(reading: _Reading, rows: ir.Table) -> ir.Table:
    """Our columns, each value read once, and what the rows are sorted by.

    Whether a row fails before, or after, duplicates are looked for; and a hash of its
    key where it has one and is looked at.
    """
    mapped = reading.mapped(rows)
    faults = reading.faults(mapped)
    flagged = mapped.mutate(
        early__=_any([fault.where for fault in faults if fault.stage < 3]),
        late__=_any([fault.where for fault in faults if fault.stage > 3]),
    )
    key = [_ours(name) for name in reading.declared.unique or []]
    whole = ~_any([flagged["early__"], *(flagged[name].isnull() for name in key)])
    hashed = ibis.ifelse(whole, _joined_text(flagged, key).hash(), ibis.null("int64"))
    ours = [_ours(name) for name in reading.names]
    return flagged.select(_ROW, *ours, "early__", "late__", hash__=hashed)


def _any(conditions: Sequence[ir.BooleanValue]) -> ir.BooleanValue:
    found = ibis.literal(value=False)
    for condition in conditions:
        found = found | condition.fill_null(False)
    return found


def _repeated(
    connection: "ibis.BaseBackend", reading: _Reading, mapped: ir.Table
) -> ir.Table:
    """Rows whose key is another's: of equal ones all but the first, else all.

    Hashes tell which rows to look at, so that not every key has to be held.
    """
    key = [_ours(name) for name in reading.declared.unique or []]
    known = mapped.filter(mapped["hash__"].notnull())
    counts = known.group_by("hash__").agg(n__=known.count())
    several = connection.create_table(
        "several__", counts.filter(counts["n__"] > 1), temp=True, overwrite=True
    )
    looked_at = mapped.semi_join(several, "hash__")
    rows = looked_at.select(
        _ROW,
        key__=_joined_text(looked_at, key),
        all__=_joined_text(looked_at, [_ours(name) for name in reading.names]),
    )
    rows = connection.create_table("alike__", rows, temp=True, overwrite=True)
    same = ibis.window(group_by="key__")
    rows = rows.mutate(
        n__=rows.count().over(same),
        differs__=rows["all__"].min().over(same) != rows["all__"].max().over(same),
        first__=rows[_ROW].min().over(same) == rows[_ROW],
    )
    told = rows.filter((rows["n__"] > 1) & (rows["differs__"] | ~rows["first__"]))
    return connection.create_table(
        "repeated__", told.select(_ROW, "key__", "differs__"), temp=True, overwrite=True
    )


def _joined_text(rows: ir.Table, names: Sequence[str]) -> ir.StringValue:
    """Values as one text that tells any two rows apart."""
    parts = [rows[name].cast("string").fill_null(_SIGN * 2) for name in names]
    return ibis.literal(_SIGN).join(parts)


def _faults_told(reading: _Reading, faulty: ir.Table, repeated: ir.Table) -> ir.Table:
    """QUARANTINE of the rows at fault, each with the reasons of its first stage."""
    faults = reading.faults(faulty)
    hidden = identifying_columns(reading.declared)
    parts = []
    for fault in faults:
        masked = fault.column in hidden and fault.shown is not None
        shown = ibis.literal(MASK) if masked else fault.shown
        rows = faulty.filter(fault.where.fill_null(False))
        shown = ibis.null("string") if shown is None else shown
        parts.append(_told(rows, fault.stage, fault.column, shown, fault.reason))
    parts += _repeats_told(reading, repeated)
    every = ibis.union(*parts, distinct=True)
    first = every.group_by("row").mutate(first__=every["stage__"].min())
    kept = first.filter(first["stage__"] == first["first__"])
    told = kept.select("row", "column", "value", "reason").order_by("row")
    return told.mutate(table=ibis.literal(reading.table_name)).select(
        "table", "row", "column", "value", "reason"
    )


def _repeats_told(reading: _Reading, repeated: ir.Table) -> list[ir.Table]:
    name = ", ".join(reading.declared.unique or [])
    shown = repeated["key__"].replace(_SIGN, ", ")
    reasons = {
        False: "duplicate key: the rows are equal and the first is kept",
        True: "duplicate key: the rows differ and none is kept",
    }
    return [
        _told(
            repeated.mutate(shown__=shown).filter(repeated["differs__"] == differs),
            3, name, "shown__", reason,
        )
        for differs, reason in reasons.items()
    ]  # fmt: skip


def _told(
    rows: ir.Table, stage: int, column: str, shown: ir.Value | str, reason: str
) -> ir.Table:
    value = rows[shown] if isinstance(shown, str) else shown
    return rows.select(
        row=rows[_ROW].cast("int64"),
        column=ibis.literal(column),
        value=value.cast("string"),
        reason=ibis.literal(reason),
        stage__=ibis.literal(stage),
    )


def _write(
    connection: "ibis.BaseBackend",
    rows: ir.Table,
    path: Path,
    *,
    compression: str = "zstd",
) -> Path:
    """Aside, then renamed."""
    aside = path.with_suffix(".partial")
    connection.to_parquet(rows, aside, compression=compression)
    aside.replace(path)
    return path


def _report(
    connection: "ibis.BaseBackend", staged: Path, accepted: Path, quarantine: Path
) -> dict[str, Any]:
    """As `ingest` tells it; rows in are rows accepted and rows quarantined."""
    told = connection.read_parquet(quarantine)
    counts = told.group_by("column", "reason").agg(n=told.count()).to_pandas()
    counts = counts.sort_values("n", ascending=False)
    found = {
        "rows_in": pq.read_metadata(staged).num_rows,
        "accepted": pq.read_metadata(accepted).num_rows,
        "quarantined": int(told["row"].nunique().to_pyarrow().as_py()),
        "reasons": {f"{r.column}: {r.reason}": int(r.n) for r in counts.itertuples()},
    }
    if found["rows_in"] != found["accepted"] + found["quarantined"]:
        raise TableError(
            f"{accepted.name}: {found['rows_in']} rows in, but {found['accepted']} "
            f"accepted and {found['quarantined']} quarantined"
        )
    return found
