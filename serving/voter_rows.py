"""Rows of a request as VOTERS.

Rows come in the campaign's own columns and are read as `ingest` reads its voter file.
Nothing is logged, and an error never repeats an identifying value.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hustings.features.arrays import Values
from hustings.features.derived import FROM_THE_WHOLE_FILE
from hustings.features.ingest.expressions import MAX_EXACT
from hustings.features.ingest.mapping import (
    FAULT_COLUMNS,
    MASK,
    fault_rows,
    joined,
    map_with_faults,
    scalar_text,
)
from hustings.features.ingest.plain import PlainMapping, VoterArrays
from hustings.features.ingest.source import (
    TableSource,
    history_column,
    mapping_of_given_rows,
    wanted_columns,
)
from hustings.features.tables import VOTERS
from hustings.serving.bodies import RequestError, RequestFault, field_path

MAX_VALUE_SHOWN = 40
MAX_TEXT = 1_000
MAX_UNKNOWN = 100
"""So many unknown columns are named in an answer."""
IDS = frozenset({"voter_id", "household_id", "cluster_id"})
"""They identify, so no error repeats them either."""


class VoterRows(NamedTuple):
    """The voters of a request.

    Attributes:
        voters: VOTERS, in the request's order.
        missing: Columns of the voter file that none of the rows has.
        unknown: Columns of the rows that no mapping names, and nothing reads.
    """

    voters: VoterArrays
    missing: list[str]
    unknown: list[str]


@dataclass(frozen=True)
class VoterReader:
    """Reads a request's rows as `ingest` reads the campaign's voter file.

    Attributes:
        mapping: The campaign's own, except that a request always names its voters.
        theirs: Our column → the request's.
        columns: Columns that a request's row may have, each once.
        plain: The mapping as functions of single values; None where it has none.
        whole_file_columns: Columns that depend on the whole voter file, which every row
            has to bring along.
        joined: Columns that are joined to the voters from elsewhere: a row may bring
            them along, else the endpoint looks them up.
        texts: Those of `joined` that hold texts; the others hold numbers.
    """

    mapping: TableSource
    theirs: Mapping[str, str]
    columns: tuple[str, ...]
    plain: PlainMapping | None
    whole_file_columns: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    texts: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        mapping: TableSource,
        whole_file_columns: Sequence[str] = (),
        joined: Sequence[str] = (),
        texts: Collection[str] = (),
    ) -> "VoterReader":
        """Build from the campaign's [tables.voters], every column written out."""
        mapping = mapping_of_given_rows(mapping)
        history = {history_column(key): c for key, c in mapping.history.items()}
        ours = {**mapping.columns, **history, **mapping.extra}
        mapped = [column for _, column in wanted_columns(mapping)]
        return cls(
            mapping=mapping,
            theirs={name: origin.column or name for name, origin in ours.items()},
            columns=tuple(dict.fromkeys([*mapped, *whole_file_columns, *joined])),
            plain=PlainMapping.of(mapping, "voters"),
            whole_file_columns=tuple(whole_file_columns),
            joined=tuple(joined),
            texts=frozenset(texts),
        )

    def read(self, rows: Sequence[Mapping[str, Any]]) -> VoterRows:
        """VOTERS of a request.

        Raises:
            RequestError: With the path of every value that cannot be read.
        """
        given = self._given(rows)
        self._check_kinds(rows, given)
        voters = None if self.plain is None else self.plain.read(given, len(rows))
        if voters is None or len(set(voters["voter_id"])) < len(rows):
            voters = self._read_by_expressions(given)
        missing = [
            c
            for c, values in given.items()
            if values[0] is None and not any(c in row for row in rows)
        ]
        brought = {
            name: _text_array(given[name])
            if name in self.texts
            else _numbers(given[name])
            for name in (*self.whole_file_columns, *self.joined)
            if name in self.whole_file_columns or name not in missing
        }
        unknown: dict[str, None] = {}
        for row in rows:
            if not row.keys() <= self._column_set and len(unknown) < MAX_UNKNOWN:
                unknown |= dict.fromkeys(c for c in row if c not in self._column_set)
        return VoterRows(
            voters.with_columns(brought), missing, [*unknown][:MAX_UNKNOWN]
        )

    def _given(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Sequence[Any]]:
        """Values of the rows by column, None where a row has none."""
        try:
            values = zip(*map(self._pick, rows), strict=True)
            return dict(zip(self._picked, values, strict=True))
        except KeyError:
            return {c: [row.get(c) for row in rows] for c in self.columns}

    @cached_property
    def _pick(self) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
        """All columns of a row that has them all."""
        return itemgetter(*self._picked)

    @property
    def _picked(self) -> tuple[str, ...]:
        # of one column alone there would be no tuple
        return (*self.columns, self.columns[0])

    @cached_property
    def _column_set(self) -> frozenset[str]:
        return frozenset(self.columns)

    def _check_kinds(
        self, rows: Sequence[Mapping[str, Any]], given: Mapping[str, Sequence[Any]]
    ) -> None:
        """Refuse what is no scalar, and no number where a number is brought along."""
        kinds = {c: set(map(type, values)) for c, values in given.items()}
        if any(not kinds[c].isdisjoint((list, dict)) for c in self.columns):
            _check_scalars(rows, self.columns)
        _check_texts({c: v for c, v in given.items() if str in kinds[c]})
        _check_whole_file_columns(rows, self.whole_file_columns)
        _check_numbers(
            rows,
            [c for c in self.joined if c not in self.texts and kinds[c] - {type(None)}],
        )

    def _read_by_expressions(self, given: Mapping[str, Sequence[Any]]) -> VoterArrays:
        """VOTERS as `ingest` reads a file: says what is wrong with each value.

        Raises:
            RequestError: With the path of every value that cannot be read.
        """
        raw = pd.DataFrame({c: _texts(values) for c, values in given.items()})
        mapped = map_with_faults(raw, self.mapping, "voters", file="the request")
        again = mapped.frame.duplicated(VOTERS.unique, keep=False)
        key = mapped.frame["voter_id"]
        reason = "duplicate key: voter_id must be unique"
        faults = joined([mapped.faults, fault_rows(again, "voter_id", key, reason)])
        if len(faults):
            raise RequestError(self._faults(faults.drop_duplicates(["row", "column"])))
        return VoterArrays.of(mapped.frame)

    def _faults(self, faults: pd.DataFrame) -> list[RequestFault]:
        in_order = faults.sort_values("row", kind="stable").astype(object)
        return [
            RequestFault(
                path=field_path(("voters", int(row), self.theirs.get(column, column))),
                message=_message(column, reason, value),
            )
            for row, column, value, reason in in_order[FAULT_COLUMNS]
            .to_numpy()
            .tolist()
        ]


def _check_scalars(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    faults = [
        RequestFault(
            path=field_path(("voters", i, column)),
            message="expected a text, a number, true, false or null",
        )
        for i, row in enumerate(rows)
        for column in columns
        if isinstance(row.get(column), list | dict)
    ]
    if faults:
        raise RequestError(faults)


def _check_texts(given: Mapping[str, Sequence[Any]]) -> None:
    """No value of a voter file is as long as a letter, or holds what no store keeps."""
    faults = [
        RequestFault(
            path=field_path(("voters", i, column)),
            message=f"expected a text of at most {MAX_TEXT:,} letters, without the "
            "character NUL",
        )
        for column, values in given.items()
        if _holds_unfit_text(values)
        for i, value in enumerate(values)
        if type(value) is str and (len(value) > MAX_TEXT or "\x00" in value)
    ]
    if faults:
        raise RequestError(faults)


def _holds_unfit_text(values: Sequence[Any]) -> bool:
    texts = [value for value in values if type(value) is str]
    return max(map(len, texts)) > MAX_TEXT or "\x00" in "".join(texts)


def _check_whole_file_columns(
    rows: Sequence[Mapping[str, Any]], whole_file_columns: Sequence[str]
) -> None:
    """A column of the whole file is never taken for unknown: it would change scores."""
    faults = [
        RequestFault(path=field_path(("voters", i, name)), message=f"expected {wanted}")
        for i, row in enumerate(rows)
        for name in whole_file_columns
        for wanted in [_unfit(row, name)]
        if wanted
    ]
    if faults:
        raise RequestError(faults)


def _check_numbers(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """A column that a row may bring along holds numbers."""
    faults = [
        RequestFault(
            path=field_path(("voters", i, name)), message="expected a number or null"
        )
        for i, row in enumerate(rows)
        for name in columns
        if row.get(name) is not None and not _is_plain_number(row[name])
    ]
    if faults:
        raise RequestError(faults)


def _unfit(row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        return f"a number or null: {FROM_THE_WHOLE_FILE}"
    value = row[name]
    return "" if value is None or _is_plain_number(value) else "a number or null"


def _texts(values: Sequence[Any]) -> pd.Series:
    """A column of a request as texts, so that a row reads the same in any company."""
    return pd.Series([scalar_text(value) for value in values], dtype="str")


def _text_array(values: Sequence[Any]) -> Values:
    """A column of texts, None where there is none."""
    column = np.empty(len(values), dtype=object)
    column[:] = [scalar_text(value) for value in values]
    return column


def _numbers(values: Sequence[Any]) -> Values:
    """A column of numbers that were checked, NaN where there is none."""
    return np.array(values, dtype=np.float64)


def _is_plain_number(value: object) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < MAX_EXACT)


def _message(column: str, reason: str, value: object) -> str:
    masked = column in IDS or pd.isna(value) or value == MASK  # type: ignore[call-overload]
    if masked or "got" in reason:
        return reason
    text = str(value)
    shortened = text if len(text) <= MAX_VALUE_SHOWN else text[:MAX_VALUE_SHOWN] + "..."
    return f"{reason}, got {shortened!r}"
