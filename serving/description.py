"""The OpenAPI document of an endpoint, and the schema that BentoML's client reads.

Both come from the declarations by which bodies are read, with what the campaign adds:
the columns of its voter file, its messages and audiences. The examples are read by the
endpoint's own reader, so each can be sent as it stands.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from hustings.features.ingest.source import ColumnSource
from hustings.serving import answers, bodies
from hustings.serving.bodies import NO_NUL, RequestError
from hustings.serving.endpoint import Endpoint
from hustings.serving.gate import (
    BODY_WITHIN_S,
    LIMITS,
    MAX_DEPTH,
    QUEUE_BYTES,
    QUEUE_REQUESTS,
    TURN_WITHIN_S,
    WORDS_LIMITS,
)
from hustings.serving.keys import ROLES
from hustings.serving.reactions.payload import MAX_EVENTS, BallotEvent, Reaction
from hustings.serving.voter_rows import MAX_TEXT

Json = dict[str, Any]

_SCHEMAS = "#/components/schemas/"
_TEXT, _HTML, _STREAM = "text/plain", "text/html", "text/event-stream"
_ERRORS = {
    400: "No JSON.",
    401: "No key, or a wrong one.",
    403: "The key has no role that opens the route.",
    404: "There is no such message, event or wish.",
    408: "The body did not come in time.",
    409: "Another request was answered under this request_id.",
    413: "The body is above a limit.",
    422: "A field is not as expected: its path and what was expected.",
    429: "Too many requests; `Retry-After` says when to come again.",
    503: "Not now; `Retry-After` says when to come again.",
}
_OF_KEY, _OF_BODY = (401, 403, 429), (400, 408, 413, 422, 503)


class Operation(NamedTuple):
    """One route.

    Attributes:
        method: GET or POST.
        path: The route.
        summary: What it answers.
        answer: Declaration of the answer, or its media type.
        body: Declaration of the body; None for none.
        errors: Statuses beside those of the key and of every body.
    """

    method: str
    path: str
    summary: str
    answer: type[BaseModel] | str
    body: type[BaseModel] | None = None
    errors: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Its name, for clients."""
        words = self.path.strip("/").replace("/", "_").replace(".", "_") or "page"
        is_listed = self.method == "GET" and self.path == "/reactions/review"
        return f"list_{words}" if is_listed else words


class ReactionBatch(BaseModel):
    """Body of `POST /reactions`: events, or one event alone.

    Attributes:
        events: Each as `Reaction` or `BallotEvent`; what cannot be read is set aside
            and said.
    """

    events: list[Any]


OPERATIONS = (
    Operation("POST", "/score", "Lift, interval and response of each message for each "
              "voter.", answers.ScoreAnswer, bodies.ScoreRequest),
    Operation("POST", "/invocations", "The same scores by the protocol of MLflow.",
              answers.InvocationAnswer, bodies.InvocationRequest),
    Operation("POST", "/recommend", "What each voter may be offered now, or nothing "
              "and why.", answers.RecommendAnswer, bodies.RecommendRequest, (409,)),
    Operation("POST", "/sent", "Recommendations that were carried out.",
              answers.SentAnswer, bodies.SentRequest),
    Operation("POST", "/reactions", "Reactions: kept, or set aside with the reason.",
              answers.ReactionReceipt, ReactionBatch),
    Operation("GET", "/reactions/review", "Replies that may ask to be left alone.",
              answers.Wishes, None, (503,)),
    Operation("POST", "/reactions/review", "A person's answer to such a reply.",
              answers.WishAnswered, bodies.WishAnswer, (404,)),
    Operation("GET", "/monitor", "The monitor's view; as server-sent events to a "
              "client that accepts them.", answers.MonitorView, None, (503,)),
    Operation("GET", "/monitor/stream", "Every new view, as server-sent events.",
              _STREAM, None, (503,)),
    Operation("POST", "/pause", "Pause a message at once.", answers.Paused,
              bodies.PauseRequest, (404,)),
    Operation("POST", "/resume", "End a pause.", answers.Resumed, bodies.PauseRequest,
              (404,)),
    Operation("GET", "/model", "The exact version that answers.", answers.ServedModel),
    Operation("GET", "/metrics", "Counts for Prometheus.", _TEXT),
    Operation("GET", "/docs", "This description as a page.", _HTML),
    Operation("GET", "/docs.json", "This description.", "application/json"),
    Operation("GET", "/schema.json", "The routes, as BentoML's client reads them.",
              "application/json"),
    Operation("GET", "/", "The monitor's page, without any data.", _HTML),
    Operation("GET", "/healthz", "Health.", _TEXT),
    Operation("GET", "/livez", "Health.", _TEXT),
    Operation("GET", "/readyz", "Whether a recommendation would be answered now.",
              _TEXT, None, (503,)),
    Operation("GET", "/ping", "Health, where MLflow's client asks for it.", _TEXT),
)  # fmt: skip
_OPEN = frozenset({"/", "/healthz", "/livez", "/readyz", "/ping"})


@dataclass(frozen=True)
class Description:
    """Description of one endpoint.

    Attributes:
        endpoint: The endpoint.
    """

    endpoint: Endpoint

    @cached_property
    def openapi(self) -> Json:
        """The OpenAPI 3.1 document."""
        schemas = dict(_schemas())
        schemas |= {"Voter": self._voter(), "RecommendedVoter": self._recommended()}
        self._narrow(schemas)
        paths: Json = {}
        for operation in OPERATIONS:
            method = operation.method.lower()
            paths.setdefault(operation.path, {})[method] = self._described(operation)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": f"Hustings: {self.endpoint.model.campaign}",
                "version": self.endpoint.version["version"],
                "description": _LIMITS_OF_ALL,
            },
            "servers": [{"url": "/"}],
            "security": [{"ApiKey": []}, {"Bearer": []}],
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {
                    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                    "Bearer": {"type": "http", "scheme": "bearer"},
                },
            },
        }

    def _described(self, operation: Operation) -> Json:
        is_open = operation.path in _OPEN
        errors = {*operation.errors}
        errors |= set() if is_open else {*_OF_KEY}
        errors |= {*_OF_BODY} if operation.body is not None else set()
        described: Json = {
            "operationId": operation.name,
            "summary": operation.summary,
            "responses": {
                "200": {"description": "Answered.", "content": _content(operation)},
                **{str(status): _error(status) for status in sorted(errors)},
            },
        }
        if is_open:
            described["security"] = []
        role = ROLES.get(f"{operation.method} {operation.path}")
        if role is not None:
            described["description"] = f"Needs a key with the role `{role}`."
        if operation.body is not None:
            limits = LIMITS.get(operation.path, WORDS_LIMITS)
            described["x-limits"] = {
                "bytes": limits.n_bytes,
                "values": limits.values,
                "objects_and_lists": limits.brackets,
                "levels": MAX_DEPTH,
                "body_within_s": BODY_WITHIN_S,
                "turn_within_s": TURN_WITHIN_S,
            }
            described["description"] += (
                f" The body has at most {limits.n_bytes:,} bytes, {limits.values:,} "
                f"values, {limits.brackets:,} objects and lists and {MAX_DEPTH} levels."
            )
            described["requestBody"] = {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"$ref": _SCHEMAS + operation.body.__name__},
                        "examples": {
                            name: {"value": value}
                            for name, value in self._examples(operation.path).items()
                        },
                    }
                },
            }
        return described

    # --- what the campaign adds ---

    def _voter(self) -> Json:
        """A row of the campaign's voter file."""
        reader = self.endpoint.reader
        ours = {theirs: name for name, theirs in reader.theirs.items()}
        kinds = {} if reader.plain is None else {
            column.theirs: column.kind for column in reader.plain.columns
        }  # fmt: skip
        properties: Json = {}
        for name in reader.columns:
            is_number = name in reader.whole_file_columns or (
                name in reader.joined and name not in reader.texts
            )
            value: Json = {"anyOf": [{"type": "number"}, {"type": "null"}]}
            if not is_number:
                kind = kinds.get(name, "text")
                value = {
                    "anyOf": [_SHORT_TEXT, *_SCALARS],
                    "description": f"Read as a {kind}: {ours.get(name, name)}.",
                }
            properties[name] = value
        voter_id = reader.theirs["voter_id"]
        properties[voter_id] = {"anyOf": [_SHORT_TEXT | {"minLength": 1}, _NUMBER]}
        brought = [*reader.whole_file_columns]
        if self.endpoint.joined is None:
            brought += [n for n in reader.joined if self.endpoint.must_bring(n)]
        return {
            "type": "object",
            "description": "A row in the columns of the campaign's voter file. A "
            "column that is left out counts as unknown; others are named in "
            "unknown_columns.",
            "properties": properties,
            "required": [voter_id, *brought],
            "additionalProperties": True,
        }

    def _recommended(self) -> Json:
        """A row of `/recommend`: where households decide, it names its own."""
        household = self.endpoint.reader.theirs.get("household_id")
        decide = any(a.settings.by_household for a in self.endpoint.audiences.values())
        required = [household] if decide and household is not None else []
        return {"allOf": [_VOTER, {"required": required}]}

    def _narrow(self, schemas: Json) -> None:
        """Put the campaign's columns, messages and audiences into the bodies."""
        score, recommend = schemas["ScoreRequest"], schemas["RecommendRequest"]
        score["properties"]["voters"]["items"] = _VOTER
        messages = score["properties"]["messages"]["anyOf"][0]
        messages["items"] = {"enum": self.endpoint.model.messages}
        recommend["properties"]["voters"]["items"] = {
            "$ref": f"{_SCHEMAS}RecommendedVoter"
        }
        audiences = list(self.endpoint.audiences)
        if len(audiences) > 1:
            recommend["properties"]["audience"] = {"enum": audiences}
            recommend["required"].append("audience")
        else:
            recommend["properties"]["audience"] = {"enum": [*audiences, None]}
        invocation = schemas["InvocationRequest"]["properties"]
        for name in ("dataframe_records", "instances"):
            invocation[name]["items"] = _VOTER
        invocation["inputs"]["anyOf"][0]["items"] = _VOTER
        kinds = [{"$ref": f"{_SCHEMAS}{name}"} for name in ("Reaction", "BallotEvent")]
        batch = schemas["ReactionBatch"]
        batch["properties"]["events"] = {
            "type": "array", "maxItems": MAX_EVENTS, "items": {"anyOf": [*kinds, {}]},
        }  # fmt: skip
        batch["additionalProperties"] = False
        other = {
            "type": "object",
            "not": {"required": ["events"]},
            "description": "One event alone; what cannot be read is set aside, and "
            "refused where nothing of it is taken.",
        }
        schemas["ReactionBatch"] = {"anyOf": [batch, *kinds, other]}

    # --- examples ---

    @cached_property
    def example_row(self) -> Json:
        """A row that looks like the campaign's voter file and is nobody's."""
        reader = self.endpoint.reader
        row: Json = {reader.theirs["voter_id"]: "V1"}
        row |= dict.fromkeys([*reader.whole_file_columns, *reader.joined])
        ours = {theirs: name for name, theirs in reader.theirs.items()}
        for column in reader.columns:
            for value in self._candidates(ours.get(column, column), column):
                if column in row:
                    break
                if self._is_read({**row, column: value}):
                    row[column] = value
        return row

    def _is_read(self, row: Json) -> bool:
        try:
            self.endpoint.reader.read([row])
        except RequestError:
            return False
        return True

    def _candidates(self, name: str, column: str) -> Iterator[Any]:
        """Values that a column may take, the likeliest first."""
        reader = self.endpoint.reader
        levels = [
            str(v) for v in self.endpoint.model.reader.encoding.levels.get(name, ())
        ]
        origins = [
            origin
            for group in (reader.mapping.columns, reader.mapping.history,
                          reader.mapping.extra)
            for origin in group.values()
            if isinstance(origin, ColumnSource) and origin.column == column
        ]  # fmt: skip
        for origin in origins:
            mapped = origin.map or {}
            yield from (
                k for k, v in mapped.items() if k and (not levels or v in levels)
            )
            yield from (_EXAMPLE_DAY.strftime(f) for f in origin.formats)
        if name in _EXAMPLE_VALUES:
            yield _EXAMPLE_VALUES[name]
        yield from levels[:1]
        yield from (1, "1", f"{_EXAMPLE_DAY:%Y-%m-%d}", "A", None)

    def _examples(self, path: str) -> Json:
        """Bodies that are answered as they stand, but for ids of other answers."""
        row, message = self.example_row, self.endpoint.model.messages[0]
        voter = row[self.endpoint.reader.theirs["voter_id"]]
        household = self.endpoint.reader.theirs.get("household_id")
        recommended = row if household is None else {household: None, **row}
        by = {"message_id": message, "by": "Ada", "reason": "angry replies"}
        audience = next(iter(self.endpoint.audiences))
        event = {
            "event_id": "e-1", "message_id": message, "platform": "facebook",
            "kind": "like", "occurred_at": f"{_EXAMPLE_DAY:%Y-%m-%d}T12:00:00Z",
        }  # fmt: skip
        split = {"columns": list(row), "data": [list(row.values())]}
        examples: dict[str, Json] = {
            "/score": {
                "every message": {"voters": [row]},
                "one message": {"voters": [row], "messages": [message]},
            },
            "/invocations": {
                "split": {"dataframe_split": split},
                "records": {"dataframe_records": [row]},
                "columns": {"inputs": {name: [value] for name, value in row.items()}},
                "instances": {"instances": [row]},
            },
            "/recommend": {
                "with a permission": {
                    "voters": [recommended],
                    "permitted_channels": {str(voter): ["sms"]},
                    "audience": audience,
                    "explain": True,
                }
            },
            "/sent": {
                "a decision of /recommend": {"decision_ids": ["0123456789abcdef"]}
            },
            "/reactions": {"a batch": {"events": [event]}, "one event": event},
            "/reactions/review": {
                "an open wish": {"event_id": "e-1", "answer": "not", "by": "Ada"}
            },
            "/pause": {"a message": by},
            "/resume": {"a message": by},
        }
        return examples[path]

    @cached_property
    def client_schema(self) -> Json:
        """The routes as `bentoml.SyncHTTPClient` reads them."""
        return {
            "name": "hustings",
            "type": "service",
            "routes": [
                {
                    "name": operation.name,
                    "route": operation.path,
                    "doc": operation.summary,
                    "batchable": False,
                    "is_task": False,
                    "input": _inlined(operation.body.model_json_schema()),
                    "output": _inlined(
                        operation.answer.model_json_schema(mode="serialization")
                    ),
                }
                for operation in OPERATIONS
                if operation.body is not None and not isinstance(operation.answer, str)
            ],
        }


_VOTER: Json = {"$ref": f"{_SCHEMAS}Voter"}
_NUMBER: Json = {"type": "number"}
_SHORT_TEXT: Json = {"type": "string", "maxLength": MAX_TEXT, "pattern": NO_NUL}
_SCALARS: tuple[Json, ...] = (_NUMBER, {"type": "boolean"}, {"type": "null"})
_EXAMPLE_DAY = date(2024, 1, 31)
_EXAMPLE_VALUES: Mapping[str, Any] = {
    "household_id": "H1", "age": 47, "birth_year": 1977, "sex": "F", "party": "I",
    "state": "MI", "county_fips": "26163", "precinct": "P1", "postcode": "48201",
    "registered_on": "2004-05-06",
}  # fmt: skip
"""Values of our own columns that nobody is known by."""
_LIMITS_OF_ALL = (
    f"At most {QUEUE_REQUESTS} requests of {QUEUE_BYTES // 2**20} MiB in all that need "
    "the store of the campaign, and as many that do not, are inside at a time; more "
    "get 503 with `Retry-After`. A body has to be there within "
    f"{BODY_WITHIN_S:g} s and gets its turn within {TURN_WITHIN_S:g} s. Whatever is "
    "refused has the one shape `Refusal`."
)
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Hustings endpoint</title>
<link rel="stylesheet" href="static_content/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="static_content/swagger-ui-bundle.js"></script>
<script src="static_content/swagger-ui-standalone-preset.js"></script>
<script src="static_content/swagger-initializer.js"></script>
</body>
</html>
"""
"""BentoML's copy of Swagger, which fetches `docs.json`, and nothing from elsewhere."""
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def _schemas() -> Iterator[tuple[str, Json]]:
    """Declarations of bodies and answers by their names."""
    declared: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        (answers.Refusal, "serialization"), (Reaction, "validation"),
        (BallotEvent, "validation"),
    ]  # fmt: skip
    for operation in OPERATIONS:
        if operation.body is not None:
            declared.append((operation.body, "validation"))
        if not isinstance(operation.answer, str):
            declared.append((operation.answer, "serialization"))
    for model, mode in declared:
        schema = model.model_json_schema(ref_template=_SCHEMAS + "{model}", mode=mode)
        yield from schema.pop("$defs", {}).items()
        yield model.__name__, schema


def _content(operation: Operation) -> Json:
    if isinstance(operation.answer, str):
        return {operation.answer: {"schema": {}}}
    schema = {"$ref": _SCHEMAS + operation.answer.__name__}
    content: Json = {"application/json": {"schema": schema}}
    if operation.path == "/monitor":
        content[_STREAM] = {"schema": {"type": "string"}}
    return content


def _error(status: int) -> Json:
    schema = {"$ref": f"{_SCHEMAS}Refusal"}
    return {
        "description": _ERRORS[status],
        "content": {"application/json": {"schema": schema}},
    }


def _inlined(schema: Json) -> Json:
    """A schema without references: BentoML's client follows none."""
    definitions = schema.get("$defs", {})

    def inlined(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return inlined(definitions[node["$ref"].rpartition("/")[2]])
            return {k: inlined(v) for k, v in node.items() if k != "$defs"}
        return [inlined(part) for part in node] if isinstance(node, list) else node

    without_references: Json = inlined(schema)
    return without_references
