"""Results as frozen dataclasses that know their JSON: one way in and out."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Self, cast

import numpy as np
from pydantic import TypeAdapter


@dataclass(frozen=True)
class Stored:
    """Base of a frozen dataclass whose JSON holds its fields by their names.

    >>> @dataclass(frozen=True)
    ... class Count(Stored):
    ...     n: int
    >>> @dataclass(frozen=True)
    ... class Counts(Stored):
    ...     by_name: Mapping[str, Count]
    >>> Counts({"a": Count(1)}).to_json()
    {'by_name': {'a': {'n': 1}}}
    >>> Counts.from_json({"by_name": {"a": {"n": 1}}, "more": 2})
    Counts(by_name={'a': Count(n=1)})
    """

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        return {f.name: plain_json(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave, whatever else stands beside it.

        Raises:
            ValueError: If a field is missing or of another type; names it.
        """
        result: Self = _adapter(cast("Hashable", cls)).validate_python(stored)
        return result


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    # the cache asks for what can be hashed, which a type can
    return TypeAdapter(cast("type", kind))


def plain_json(value: Any) -> Any:
    """Dataclasses and named tuples as objects, other tuples as lists."""
    if isinstance(value, Stored):
        return value.to_json()
    if is_dataclass(value):
        return {f.name: plain_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain_json(value._asdict())
    if isinstance(value, Mapping):
        return {key: plain_json(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value
