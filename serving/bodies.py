"""Bodies of the endpoint's requests, and what is said of one that is refused.

Each body is declared once: it is read by its declaration, and described by it in the
OpenAPI document. An error never repeats an identifying value.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from hustings.features.ingest.mapping import MASK

MAX_VOTERS = 10_000
MAX_DECISIONS = 10_000
MAX_MESSAGES = 1_000
MAX_ID = 1_000
MAX_REQUEST_NAME = 200
MAX_WORDS = 500
NO_NUL = r"^[^\x00]*$"
"""PostgreSQL keeps the character NUL in no text."""
_WORDS = r"^[^\x00]*[^\x00\s][^\x00]*$"
_EXPECTED = {
    NO_NUL: "expected a text without the character NUL",
    _WORDS: "expected words, without the character NUL",
}
_BY_VOTER = ("permitted_channels", "withdrawn_channels")
"""Fields whose keys are voters' ids."""


def _stripped(text: str) -> str:
    words = text.strip()
    if not words:
        raise ValueError("expected words, got blanks")
    return words


Channel = Literal["mail", "sms", "phone", "email", "door", "social", "web", "survey"]
Row = dict[str, Any]
Rows = Annotated[list[Row], Field(min_length=1, max_length=MAX_VOTERS)]
Id = Annotated[str, Field(max_length=MAX_ID, pattern=NO_NUL)]
RequestName = Annotated[
    str, Field(min_length=1, max_length=MAX_REQUEST_NAME, pattern=NO_NUL)
]
Words = Annotated[
    str,
    Field(min_length=1, max_length=MAX_WORDS, pattern=_WORDS),
    AfterValidator(_stripped),
]
Channels = Annotated[
    dict[Id, Annotated[list[Channel], Field(max_length=20)]],
    # a key that is no id: else the schema says nothing of its value
    Field(max_length=MAX_VOTERS, json_schema_extra={"additionalProperties": False}),
]


class _Request(BaseModel):
    # a text is no number, and no field goes unread
    model_config = ConfigDict(extra="forbid", strict=True)

    takes_nan: ClassVar[bool] = False
    """Whether NaN stands for null; else it is no JSON."""


_Body = TypeVar("_Body", bound=_Request)


class ScoreRequest(_Request):
    """Body of `POST /score`.

    Attributes:
        voters: Rows in the columns of the campaign's voter file. A column that a row
            lacks counts as unknown; one that no mapping names is ignored, and named in
            the answer.
        messages: Which messages; all of them without.
    """

    voters: Rows
    messages: (
        Annotated[list[Id], Field(min_length=1, max_length=MAX_MESSAGES)] | None
    ) = None


class DataframeSplit(_Request):
    """A table by columns and rows, as `DataFrame.to_dict("split")` writes it.

    Attributes:
        columns: Names, each once.
        data: Rows of values in the order of the columns.
        index: Of the rows; not read.
    """

    columns: Annotated[list[str], Field(min_length=1, max_length=10_000)]
    data: Annotated[list[list[Any]], Field(min_length=1, max_length=MAX_VOTERS)]
    index: list[Any] = []

    def rows(self, path: str) -> list[Row]:
        """The rows as objects."""
        repeated = [c for c, n in Counter(self.columns).items() if n > 1]
        if repeated:
            refuse(f"{path}.columns", f"expected each column once, got {repeated[0]!r}")
        n = len(self.columns)
        faults = [
            RequestFault(
                path=f"{path}.data[{i}]",
                message=f"expected {n} values, one for each column, got {len(row)}",
            )
            for i, row in enumerate(self.data)
            if len(row) != n
        ]
        if faults:
            raise RequestError(faults)
        return [dict(zip(self.columns, row, strict=True)) for row in self.data]


_Columns = Annotated[
    dict[str, Annotated[list[Any], Field(min_length=1, max_length=MAX_VOTERS)]],
    Field(min_length=1),
]
_NOT_GIVEN: Any = Field(default_factory=lambda: None)
"""Of a field that is left out, and is never null."""
_FORMATS = ("dataframe_split", "dataframe_records", "inputs", "instances")


class InvocationRequest(_Request):
    """Body of `POST /invocations`, as a server of MLflow takes it.

    Exactly one of the four formats is given. MLflow's client writes what pandas has no
    value for as NaN.

    Attributes:
        dataframe_split: A table by columns and rows.
        dataframe_records: Rows.
        inputs: Rows, or columns of values.
        instances: Rows.
        params: The model has none.
    """

    takes_nan = True
    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [name]} for name in _FORMATS]}
    )

    dataframe_split: DataframeSplit = _NOT_GIVEN
    dataframe_records: Rows = _NOT_GIVEN
    inputs: Rows | _Columns = _NOT_GIVEN
    instances: Rows = _NOT_GIVEN
    params: Annotated[dict[str, Any], Field(max_length=0)] = {}

    def rows(self) -> tuple[str, list[Row]]:
        """The rows, and the path of the list that they stand in.

        Raises:
            RequestError: If there is not one table of rows of one length.
        """
        given = [name for name in _FORMATS if name in self.model_fields_set]
        if len(given) != 1:
            got = ", ".join(given) or "none"
            refuse("", f"expected exactly one of {', '.join(_FORMATS)}, got {got}")
        table = getattr(self, given[0])
        if isinstance(table, DataframeSplit):
            return f"{given[0]}.data", table.rows(given[0])
        if isinstance(table, dict):
            lengths = {len(values) for values in table.values()}
            if len(lengths) > 1:
                refuse(given[0], "expected columns of one length, got "
                       f"{min(lengths):,} to {max(lengths):,} values")  # fmt: skip
            rows = zip(*table.values(), strict=True)
            return given[0], [dict(zip(table, row, strict=True)) for row in rows]
        return given[0], table

    def place_of(self, path: str) -> str:
        """Where a field of a row stands in the body.

        Args:
            path: Of the field in the rows, such as `voters[3].AGE`.
        """
        name, _ = self.rows()
        place = path.removeprefix("voters")
        if isinstance(self.inputs, dict):
            # columns of values: the row comes last
            row, _, column = place.partition(".")
            return f"{name}.{column}{row}" if column else name
        return f"{name}{place}"


class RecommendRequest(_Request):
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

    voters: Rows
    permitted_channels: Channels = {}
    withdrawn_channels: Channels = {}
    audience: Id | None = None
    request_id: RequestName | None = None
    explain: bool = False


class SentRequest(_Request):
    """Body of `POST /sent`.

    Attributes:
        decision_ids: Of recommendations that were carried out.
    """

    decision_ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_DECISIONS)]


class PauseRequest(_Request):
    """Body of `POST /pause` and `POST /resume`.

    Attributes:
        message_id: The message.
        by: Who does it; a key that belongs to a person counts instead.
        reason: Why.
    """

    message_id: Words
    by: Words
    reason: Words


class WishAnswer(_Request):
    """Body of `POST /reactions/review`.

    Attributes:
        event_id: Of an open wish.
        answer: Whether it is a wish to be left alone, or none.
        by: Who answers; a key that belongs to a person counts instead.
    """

    event_id: RequestName
    answer: Literal["withdraw", "not"]
    by: Words


class RequestFault(BaseModel):
    """Fault of one field of a request.

    Attributes:
        path: The field, such as `voters[3].AGE`; empty for the whole request.
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
        if not kind.takes_nan and (b"NaN" in body or b"Infinity" in body):
            # pydantic takes them outside texts, and they are no JSON
            from_json(body, allow_inf_nan=False)
        return kind.model_validate_json(body)
    except ValidationError as failure:
        faults = failure.errors(include_url=False, include_input=False)
    except ValueError as failure:
        refuse("", f"expected JSON: {failure}", status=400)
    if any(fault["type"] == "json_invalid" for fault in faults):
        refuse("", faults[0]["msg"], status=400)
    raise RequestError(
        [
            RequestFault(path=field_path(_masked(f["loc"])), message=_expected(f))
            for f in faults
        ]
    )


def _masked(place: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The place of a fault, without a voter's id and pydantic's names of types."""
    if place[:1] == ("inputs",):
        # pydantic names which of the two forms it tried
        place = tuple(part for part in place if "[" not in str(part))
    names_voter = len(place) > 1 and place[0] in _BY_VOTER
    return (place[0], MASK, *place[2:]) if names_voter else place


def _expected(fault: Any) -> str:
    pattern = fault.get("ctx", {}).get("pattern")
    return str(_EXPECTED.get(pattern, fault["msg"]))
