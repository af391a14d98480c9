"""Error messages of a `campaign.toml`: key, line, expected and actual value."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel

from hustings.experiments.declaration.campaign import Campaign

_Key = tuple[str, ...]
_NAMED = re.compile(r"\[([\w.]+)\](?:\.(\w+))?")


def toml_lines(text: str) -> dict[_Key, int]:
    r"""The line, from 1, on which each key of a TOML text stands.

    Keys inside an inline table or an array count as on the line of their outer key.

    >>> toml_lines("[plan]\ndays = 3")
    {('plan',): 1, ('plan', 'days'): 2}
    """
    lines: dict[_Key, int] = {}
    section: _Key = ()
    for number, statement in _statements(text):
        if statement.startswith("["):
            section = _key(statement.strip("[] "))
            lines.setdefault(section, number)
        else:
            lines[section + _key(_left_side(statement))] = number
    return lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Line and start of every TOML statement, those that run over lines only once."""
    pending: list[str] = []
    start = 0
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.strip()
        if not pending and (not bare or bare.startswith("#")):
            continue
        start = start if pending else number
        pending.append(line)
        if bare.startswith("[") and len(pending) == 1:
            yield start, bare.split("#")[0].strip()
            pending = []
        elif not bare.endswith(",") and _is_whole("\n".join(pending)):
            yield start, pending[0].strip()
            pending = []


def _is_whole(statement: str) -> bool:
    try:
        tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _left_side(statement: str) -> str:
    """What stands before the first '=' that is not inside quotes."""
    ends = [i for i, sign in enumerate(statement) if sign == "="]
    return next(statement[:end] for end in ends if _is_whole(f"{statement[:end]} = 0"))


def _key(dotted: str) -> _Key:
    """The parts of a key as written, quotes resolved."""
    nested: Any = tomllib.loads(f"{dotted} = 0")
    parts = []
    while isinstance(nested, dict):
        ((part, nested),) = nested.items()
        parts.append(part)
    return tuple(parts)


def lines_below(lines: Mapping[_Key, int], section: _Key) -> dict[str, int]:
    """The lines of the keys of one section, by the rest of their name."""
    n = len(section)
    return {".".join(k[n:]): v for k, v in lines.items() if k[:n] == section and k[n:]}


def _line_of(lines: Mapping[_Key, int], key: _Key) -> int | None:
    """The line of a key, or of the nearest key around it."""
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key)


def fault_text(fault: Any, lines: Mapping[_Key, int]) -> str:
    """Message of a fault, with key and line."""
    key = tuple(str(part) for part in fault["loc"])
    if fault["type"] == "missing":
        message = f"expected the key {key[-1]!r}, got none"
    elif fault["type"] == "extra_forbidden":
        message = _unknown_key(key)
    else:
        message = _in_our_words(fault["msg"])
        got = f", got {fault['input']!r}"
        if not isinstance(fault["input"], dict | BaseModel) and got not in message:
            message += got
    line = _line_of(lines, key or _first_key_in(message))
    at = f" (line {line})" if line else ""
    return f"{_key_text(key)}{at}: {message}"


def _first_key_in(message: str) -> _Key:
    """The key that a rule between sections names first, as [section].key."""
    match = _NAMED.search(message)
    return tuple(".".join(filter(None, match.groups())).split(".")) if match else ()


def _key_text(key: _Key) -> str:
    """A key as one finds it in the file: [plan].budget_usd, [tables.voters].path."""
    depth = 2 if key and key[0] in {"tables", "experiments"} else 1
    section = ".".join(key[:depth])
    return ".".join([f"[{section}]" if section else "the campaign", *key[depth:]])


def _in_our_words(message: str) -> str:
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.replace("Input should be", "expected")
    return message.replace("String should have at least 1 character", "expected a text")


def _unknown_key(key: _Key) -> str:
    section: type[BaseModel] = Campaign
    for part in key[:-1]:
        # what is no field is the name of one of several, such as a table's
        if part in section.model_fields:
            section = _model_of(section.model_fields[part].annotation)
    fields = list(section.model_fields)
    near = get_close_matches(key[-1], fields, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    homes = _sections_with(key[-1])
    if not near and homes:
        hint = f"; it belongs to {' or '.join(homes)}"
    return f"not a key of a campaign{hint}; expected one of {', '.join(fields)}"


def _sections_with(name: str) -> list[str]:
    """Sections of a campaign that have a key."""
    return [
        f"[{section}]"
        for section, field in Campaign.model_fields.items()
        if name in _model_of(field.annotation).model_fields
        and _model_of(field.annotation) is not Campaign
    ]


def _model_of(annotation: Any) -> type[BaseModel]:
    """The section that a key of a campaign holds, alone or by name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inside = [a for a in get_args(annotation) if a is not type(None)]
    return _model_of(inside[-1]) if inside else Campaign
