"""Requests of the endpoint: their bodies, and their rows as VOTERS.

Rows come in the campaign's own columns and are read as `ingest` reads its voter file.
Nothing is logged, and an error never repeats an identifying value.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, TypeVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

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
from hustings.features.ingest.plain import PlainMapping, Values, VoterArrays
from hustings.features.ingest.source import (
    ColumnSource,
    TableSource,
    history_column,
    wanted_columns,
)
from hustings.features.tables import VOTERS

MAX_VOTERS = 10_000
MAX_DECISIONS = 10_000
MAX_REQUEST_ID = 200
MAX_VALUE_SHOWN = 40
MAX_TEXT = 1_000
MAX_UNKNOWN = 100
"""So many unknown columns are named in an answer."""
IDS = frozenset({"voter_id", "household_id", "cluster_id"})
"""They identify, so no error repeats them either."""


# --- what a request may hold ----------------------------------------------------------

Channel = Literal["mail", "sms", "phone", "email", "door", "social", "web", "survey"]
_Rows = Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_VOTERS)]
_Id = Annotated[str, Field(max_length=MAX_REQUEST_ID)]
_Channels = Annotated[
    dict[_Id, Annotated[list[Channel], Field(max_length=20)]],
    Field(max_length=MAX_VOTERS),
]
_Body = TypeVar("_Body", bound=BaseModel)


class ScoreRequest(BaseModel):
    """Body of `POST /score`.

    Attributes:
        voters: Rows in the columns of the campaign's voter file. A column that a row
            lacks counts as unknown; one that no mapping names is ignored.
        messages: Which messages; all of them without.
    """

    model_config = ConfigDict(extra="forbid")

    voters: _Rows
    messages: Annotated[list[_Id], Field(min_length=1, max_length=1_000)] | None = None


class RecommendRequest(BaseModel):
    """Body of `POST /recommend`.

    Attributes:
        voters: As in `ScoreRequest`. Where the plan decides by household, the voters
            of a household that come together decide together.
        permitted_channels: By voter_id, channels with a permission on record now, of
            the kind that the rule set asks for. SMS,
            phone and email are offered to nobody without one.
        withdrawn_channels: By voter_id, channels that the voter has refused: offered
            in no case.
        audience: Which plan, where the campaign has several.
        request_id: Names the request: asked again under the same name, the endpoint
            gives the same answer and reserves nothing anew.
        explain: Whether to say, for each voter, why this and not that.
    """

    model_config = ConfigDict(extra="forbid")

    voters: _Rows
    permitted_channels: _Channels = {}
    withdrawn_channels: _Channels = {}
    audience: _Id | None = None
    request_id: Annotated[
        str | None, Field(min_length=1, max_length=MAX_REQUEST_ID)
    ] = None
    explain: bool = False


class SentRequest(BaseModel):
    """Body of `POST /sent`.

    Attributes:
        decision_ids: Of recommendations that were carried out.
    """

    model_config = ConfigDict(extra="forbid")

    decision_ids: Annotated[list[_Id], Field(min_length=1, max_length=MAX_DECISIONS)]


class RequestFault(BaseModel):
    """Fault of one field of a request.

    Attributes:
        path: The field, such as `voters[3].AGE`.
        message: What was expected and what came.
    """

    path: str
    message: str


class RequestError(ValueError):
    """A request that cannot be answered.

    Attributes:
        faults: One for each field at fault.
        status: HTTP status.
    """

    def __init__(self, faults: Sequence[RequestFault], *, status: int = 422) -> None:
        super().__init__(f"{len(faults)} faults")
        self.faults = list(faults)
        self.status = status


def refuse(path: str, message: str, *, status: int = 422) -> NoReturn:
    """Refuse a request for one field.

    Raises:
        RequestError: Always.
    """
    raise RequestError([RequestFault(path=path, message=message)], status=status)


def field_path(place: Sequence[str | int]) -> str:
    """A place in a JSON document.

    >>> field_path(("voters", 3, "AGE"))
    'voters[3].AGE'
    """
    parts = [f"[{p}]" if isinstance(p, int) else f".{p}" for p in place]
    return "".join(parts).removeprefix(".")


def parsed(kind: type[_Body], body: bytes) -> _Body:
    """A request's body.

    Raises:
        RequestError: 400 where it is no JSON, else 422 with the fields' paths.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as failure:
        faults = failure.errors(include_url=False, include_input=False)
    if any(fault["type"] == "json_invalid" for fault in faults):
        refuse("", faults[0]["msg"], status=400)
    # the keys under these are voters' ids
    by_voter = ("permitted_channels", "withdrawn_channels")
    raise RequestError(
        [
            RequestFault(
                path=field_path(
                    (*f["loc"][:1], MASK, *f["loc"][2:])
                    if f["loc"][:1] and f["loc"][0] in by_voter and len(f["loc"]) > 1
                    else f["loc"]
                ),
                message=f["msg"],
            )
            for f in faults
        ]
    )


# --- rows of a request → VOTERS -------------------------------------------------------


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
        voter_id = mapping.columns["voter_id"]
        if voter_id.column is None:
            # a row's number in the file says nothing of a row in a request
            voter_id = ColumnSource(column="voter_id")
        columns = {**mapping.columns, "voter_id": voter_id}
        # whoever is asked about belongs to the table: no filter
        mapping = mapping.model_copy(update={"columns": columns, "where": None})
        history = {history_column(key): c for key, c in mapping.history.items()}
        ours = {**columns, **history, **mapping.extra}
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
        given = {c: [row.get(c) for row in rows] for c in self.columns}
        self._check_kinds(rows, given)
        voters = None if self.plain is None else self.plain.read(given, len(rows))
        if voters is None or len(set(voters["voter_id"])) < len(rows):
            voters = self._read_by_expressions(given)
        missing = [
            c
            for c, values in given.items()
            if all(value is None for value in values)
            and not any(c in row for row in rows)
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
        _check_lengths(given)
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


def _check_lengths(given: Mapping[str, Sequence[Any]]) -> None:
    """No value of a voter file is as long as a letter."""
    faults = [
        RequestFault(
            path=field_path(("voters", i, column)),
            message=f"expected a text of at most {MAX_TEXT:,} letters",
        )
        for column, values in given.items()
        for i, value in enumerate(values)
        if type(value) is str and len(value) > MAX_TEXT
    ]
    if faults:
        raise RequestError(faults)


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
