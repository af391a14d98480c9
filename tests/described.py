"""Whether answers are as the OpenAPI document of a server describes them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
import jsonschema_rs
from hypothesis import strategies as st

Json = dict[str, Any]

_OF_SHAPE = re.compile(
    r"^(Input|Field required|Extra inputs|List|Dictionary|String|Invalid JSON) "
)
"""How pydantic says that a body has another shape than its declaration."""


@dataclass(frozen=True)
class Described:
    """The description of a server.

    Attributes:
        document: Its OpenAPI document.
    """

    document: Json

    def operation(self, method: str, path: str) -> Json:
        found: Json = self.document["paths"][path][method.lower()]
        return found

    def posts(self) -> list[str]:
        """Routes that take a body."""
        return [path for path, methods in self.document["paths"].items()
                if "post" in methods]  # fmt: skip

    def examples(self, path: str) -> dict[str, Any]:
        content = self.operation("POST", path)["requestBody"]["content"]
        examples: Json = content["application/json"]["examples"]
        return {name: example["value"] for name, example in examples.items()}

    def admits(self, path: str, body: bytes) -> bool:
        """Whether a body is JSON that the description of its route admits."""
        try:
            value = json.loads(body.decode(), parse_constant=_no_constant)
            json.dumps(value, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            return False
        content = self.operation("POST", path)["requestBody"]["content"]
        validator = self._validator(content["application/json"]["schema"])
        return bool(validator.is_valid(value))

    def flaw(self, answer: httpx.Response, method: str, path: str) -> str:
        """What of an answer is not as described; '' for nothing."""
        responses = self.operation(method, path)["responses"]
        described = responses.get(str(answer.status_code))
        if described is None:
            return f"status {answer.status_code} is not described"
        kind = answer.headers["content-type"].partition(";")[0]
        content = described["content"].get(kind)
        if content is None:
            return f"{kind} is not described"
        if kind == "application/json":
            validator = self._validator(content["schema"])
            return "; ".join(
                e.message[:200] for e in validator.iter_errors(answer.json())
            )
        return ""

    def flaw_of_post(self, path: str, body: bytes, answer: httpx.Response) -> str:
        """What is wrong with the answer to a body; '' for nothing."""
        if answer.status_code >= 500:
            return f"status {answer.status_code}: {answer.text[:300]}"
        flaw = self.flaw(answer, "POST", path)
        if flaw:
            return flaw
        if not self.admits(path, body):
            refused = 400 <= answer.status_code < 500
            return "" if refused else "answered a body that the description refuses"
        if answer.status_code == 400:
            return f"refused an admitted body as no JSON: {answer.text[:300]}"
        if answer.status_code == 422:
            faults = [f["message"] for f in answer.json()["faults"]]
            of_shape = [m for m in faults if _OF_SHAPE.match(m)]
            return f"refused an admitted shape: {of_shape[:3]}" if of_shape else ""
        return ""

    def _validator(self, schema: Mapping[str, Any]) -> Any:
        return _validator(json.dumps({**schema, "components": self._components}))

    @property
    def _components(self) -> Json:
        found: Json = self.document["components"]
        return found


@cache
def _validator(schema: str) -> Any:
    return jsonschema_rs.Draft202012Validator(json.loads(schema))


def _no_constant(name: str) -> Any:
    raise ValueError(name)


# --- bodies that are nearly those of the examples -------------------------------------

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False,
                                                          allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


@st.composite
def altered(draw: st.DrawFn, example: Any) -> Any:
    """An example with up to two of its places replaced, left out or added to."""
    body = json.loads(json.dumps(example))
    for _ in range(draw(st.integers(0, 2))):
        node = body
        while isinstance(node, dict | list) and node:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = draw(st.sampled_from(keys))
            inner = node[key]
            if isinstance(inner, dict | list) and inner and draw(st.booleans()):
                node = inner
                continue
            action = draw(st.sampled_from(("replace", "replace", "remove", "add")))
            if action == "replace":
                node[key] = draw(JSON_VALUES)
            elif action == "remove":
                del node[key]
            elif isinstance(node, dict):
                node[draw(st.text(max_size=6))] = draw(JSON_VALUES)
            else:
                node.append(draw(JSON_VALUES))
            break
    return body
