"""The JSON Schema of a campaign.toml, every key with what its section says of it."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from hustings.experiments.declaration.campaign import CAMPAIGN_FILE, Campaign

Json = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_KEY = re.compile(r"^    (\w+): (.*)$")
_WRITTEN = re.compile(r"(?:One )?`(\[[^`]*\])`")


def campaign_schema() -> Json:
    """JSON Schema of a campaign.toml, for editors and for programs that write one."""
    schema = Campaign.model_json_schema(by_alias=True)
    models = {model.__name__: model for model in _models(Campaign)}
    definitions = {"Campaign": schema, **schema["$defs"]}
    for name, definition in definitions.items():
        if name in models:
            _describe(definition, models[name])
    _with_names(schema["$defs"]["TableSource"]["properties"])
    return {"$schema": DIALECT, "title": CAMPAIGN_FILE} | {
        key: value for key, value in schema.items() if key != "title"
    }


def described_keys(model: type[BaseModel]) -> dict[str, str]:
    """What the docstring of a section says of each of its keys, in one line each."""
    lines = inspect.cleandoc(model.__doc__ or "").splitlines()
    if "Attributes:" not in lines:
        return {}
    texts: dict[str, str] = {}
    name = ""
    for line in lines[lines.index("Attributes:") + 1 :]:
        key = _KEY.match(line)
        if key:
            name, texts[key[1]] = key[1], key[2]
        elif name and line.startswith("     "):
            texts[name] += f" {line.strip()}"
        elif line.strip():
            break
    return texts


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A section and all sections below it."""
    waiting, seen = [model], set()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        yield one
        for field in one.model_fields.values():
            waiting += _models_in(field.annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    parts = getattr(annotation, "__args__", ())
    return [model for part in parts for model in _models_in(part)]


def _describe(definition: Json, model: type[BaseModel]) -> None:
    """Set the descriptions of a section and its keys from the docstring."""
    texts = described_keys(model)
    definition["description"] = _summary(model)
    for name, field in model.model_fields.items():
        key = field.alias or name
        if key in definition.get("properties", {}) and name in texts:
            definition["properties"][key]["description"] = texts[name]


def _with_names(table: Json) -> None:
    """`extra` as it is written: with a list of `names` among its columns."""
    names = table.pop("extra_names")
    table["extra"]["properties"] = {"names": names}


def _summary(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def keys_of(schema: Json) -> Iterator[tuple[str, str, Json]]:
    """Every key of a schema: its section's title, its name, what is said of it."""
    for section in (schema, *schema["$defs"].values()):
        for name, key in section.get("properties", {}).items():
            yield section.get("title", ""), name, key


# --- the reference page ---


def schema_page(schema: Json) -> str:
    """The reference of every section and key, as Markdown.

    Args:
        schema: From `campaign_schema`.
    """
    definitions = schema["$defs"]
    order = list(dict.fromkeys(_sections_in(schema, definitions)))
    sections = {n: definitions[n] for n in order if "properties" in definitions[n]}
    headings = {name: _heading(section) for name, section in sections.items()}
    parts = [PAGE_HEAD, _section_text(schema, headings)]
    parts += [_section_text(section, headings) for section in sections.values()]
    return "\n\n".join(parts) + "\n"


def _sections_in(part: Any, definitions: Mapping[str, Json]) -> Iterator[str]:
    """Names of the sections that a part of a schema speaks of, in its order.

    A section is followed by those below it.
    """
    if isinstance(part, list):
        for item in part:
            yield from _sections_in(item, definitions)
    elif isinstance(part, dict):
        if "$ref" in part:
            name = part["$ref"].rpartition("/")[2]
            yield name
            yield from _sections_in(definitions[name], definitions)
        for key, value in part.items():
            if key != "$defs":
                yield from _sections_in(value, definitions)


PAGE_HEAD = f"""# {CAMPAIGN_FILE}: every section and key

[1 The data](1-data.md) · [3 The plan](3-plan.md) · [README](../../README.md)

Written by `hustings schema --format markdown`; do not edit. `hustings schema` writes
the same as a JSON Schema, by which an editor completes and checks a {CAMPAIGN_FILE}.
Rules between keys are checked when a campaign is read."""


def _heading(section: Json) -> str:
    """How a section is written, where its description begins with that."""
    written = _WRITTEN.match(section["description"])
    return f"`{written[1]}`" if written else str(section["title"])


def _section_text(section: Json, headings: Mapping[str, str]) -> str:
    head = f"## {_heading(section)}\n\n{section['description']}"
    required = set(section.get("required", ()))
    cells = (
        (
            f"`{name}`", _kind(key, headings), _default(key, required=name in required),
            key["description"].replace("|", "\\|"),
        )
        for name, key in section["properties"].items()
    )  # fmt: skip
    rows = [f"| {' | '.join(row)} |" for row in cells]
    table = ["| key | value | without | |", "|---|---|---|---|", *rows]
    return "\n".join([f"{head}\n", *table])


def _kind(key: Json, headings: Mapping[str, str]) -> str:
    """What a key takes, in short."""
    if "$ref" in key:
        name = key["$ref"].rpartition("/")[2]
        return headings.get(name, name)
    if "enum" in key or "const" in key:
        values = key.get("enum", [key.get("const")])
        return ", ".join(f"`{value}`" for value in values)
    if "anyOf" in key:
        kinds = (
            _kind(one, headings) for one in key["anyOf"] if one.get("type") != "null"
        )
        return " or ".join(dict.fromkeys(kinds))
    kind = str(key.get("type", "any value"))
    if kind == "array":
        items = key.get("items") or {}
        return f"list of {_kind(items, headings)}" if items else "list"
    if kind == "object":
        values = key.get("additionalProperties")
        # names of a table that have to be written in some way
        for by_pattern in key.get("patternProperties", {}).values():
            values = by_pattern
        return (
            f"table of {_kind(values, headings)}"
            if isinstance(values, dict)
            else "table"
        )
    name_of_type = {"string": key.get("format", "text"), "integer": "whole number"}
    return str(name_of_type.get(kind, "true or false" if kind == "boolean" else kind))


def _default(key: Json, *, required: bool) -> str:
    if required:
        return "**required**"
    default = key.get("default")
    if default in (None, "", [], {}) or isinstance(default, dict):
        return ""
    return f"`{json.dumps(default, ensure_ascii=False)}`"
