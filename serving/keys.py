"""Keys of the endpoint: each a person's or a program's, with roles and a rate.

`HUSTINGS_API_KEY` is the operator's key, which may do everything. The file that
`HUSTINGS_KEYS` names lists others by their SHA-256, so that it holds no key; it is read
again when it changes, so that a key is rotated without a restart: the new one is added,
then the old one is taken out.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

KEY_VARIABLE = "HUSTINGS_API_KEY"
KEYS_VARIABLE = "HUSTINGS_KEYS"
SHORTEST_KEY = 22
"""Letters of 128 random bits, as `secrets.token_urlsafe(16)` writes them."""
OPERATOR = "operator"
"""Name of the key in `HUSTINGS_API_KEY`: a person says who they are beside it."""
PER_SECOND = 1_000.0
"""Requests a second of one key, unless its line says otherwise."""
MOST_FAILURES, FAILURES_WITHIN_S = 200, 60.0
"""An address that tried so many wrong keys within so long has to wait."""

KEY_NAME = "hustings.key"
"""Of a request's scope: whose key it carries."""
Role = Literal[
    "score", "plan", "ingest", "watch", "pause", "approve", "privacy", "admin"
]
ROLES: Mapping[str, Role] = {
    "POST /score": "score",
    "POST /invocations": "score",
    "GET /model": "score",
    "POST /recommend": "plan",
    "POST /sent": "plan",
    "POST /reactions": "ingest",
    "GET /reactions/review": "watch",
    "POST /reactions/review": "pause",
    "GET /monitor": "watch",
    "GET /monitor/stream": "watch",
    "GET /metrics": "watch",
    "POST /pause": "pause",
    "POST /resume": "pause",
}
"""What each route asks for; any other needs a key, whatever its roles."""
_log = logging.getLogger(__name__)


class _KeyLine(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[\w .@-]{1,100}$")]
    roles: Annotated[list[Role], Field(min_length=1)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    per_second: Annotated[float, Field(gt=0)] = PER_SECOND


class _KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[_KeyLine]


class Key(NamedTuple):
    """One key.

    Attributes:
        name: Whose it is.
        roles: What it may do.
        per_second: Requests a second.
    """

    name: str
    roles: frozenset[str]
    per_second: float

    def may(self, method: str, path: str) -> bool:
        """Whether it opens a route."""
        role = ROLES.get(f"{'GET' if method == 'HEAD' else method} {path}")
        return role is None or self.has(role)

    def has(self, *roles: str) -> bool:
        """Whether it has one of some roles, or may do everything."""
        return not self.roles.isdisjoint({*roles, "admin"})


def acting(scope: MutableMapping[str, Any], said: str) -> str:
    """Who does what a request asks for: whoever the key belongs to.

    Args:
        scope: Of the request.
        said: The name that the request gives; it counts with the operator's key alone.
    """
    name = str(scope.get(KEY_NAME, OPERATOR))
    return said if name == OPERATOR else name


def operator_key() -> str:
    """The key in the environment.

    Raises:
        ValueError: If there is none, or it is short: nothing is served without one.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if len(key) < SHORTEST_KEY:
        got = f"one of {len(key)} letters" if key else "none"
        raise ValueError(
            f"expected an API key of at least {SHORTEST_KEY} letters in the "
            f"environment's {KEY_VARIABLE}, got {got}; "
            'make one: python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return key


@dataclass
class Keys:
    """The keys that are valid now, and how often each was used.

    Attributes:
        operator: The key in the environment.
        path: File of the other keys; None for none.
    """

    operator: str
    path: Path | None
    _read: tuple[int, dict[str, Key]] = (-1, {})
    _used: dict[str, tuple[float, float]] = field(default_factory=dict)
    _failures: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def of_environment(cls) -> "Keys":
        """Keys as the environment names them.

        Raises:
            ValueError: If the operator's key or the file is not as it has to be.
        """
        path = os.environ.get(KEYS_VARIABLE)
        keys = cls(operator_key(), Path(path) if path else None)
        keys._by_digest()
        return keys

    def of(self, given: bytes) -> Key | None:
        """The key that a request carries; None for an unknown one."""
        return self.of_digest(hashlib.sha256(given).hexdigest())

    def of_digest(self, sha256: str) -> Key | None:
        """The key with a digest, as hexadecimal text; None where none is valid now."""
        return self._by_digest().get(sha256)

    def _by_digest(self) -> dict[str, Key]:
        changed = 0 if self.path is None else _changed(self.path)
        if self._read[0] != changed:
            try:
                self._read = changed, self._from_file()
            except ValueError:
                if self._read[0] == -1:
                    raise
                # a file that is being written wrongly takes no key away
                _log.exception("the file of keys is not as expected: keys stay")
                self._read = changed, self._read[1]
        return self._read[1]

    def _from_file(self) -> dict[str, Key]:
        digest = hashlib.sha256(self.operator.encode()).hexdigest()
        operator = Key(OPERATOR, frozenset({"admin"}), PER_SECOND)
        if self.path is None:
            return {digest: operator}
        try:
            lines = _KeyFile.model_validate(json.loads(self.path.read_text())).keys
        except (OSError, ValueError) as failure:
            # what it holds is nobody's to read in a log
            faults = (
                [".".join(map(str, f["loc"])) for f in failure.errors()]
                if isinstance(failure, ValidationError)
                else [type(failure).__name__]
            )
            raise ValueError(
                f'{self.path}: expected {{"keys": [{{"name", "roles", '
                f'"sha256"}}]}}, got faults in {", ".join(faults)}'
            ) from None
        keys = {k.sha256: Key(k.name, frozenset(k.roles), k.per_second) for k in lines}
        return {**keys, digest: operator}

    def is_too_often(self, key: Key) -> bool:
        """Count one request of a key; whether it had too many in the last second."""
        now = time.monotonic()
        left, at = self._used.get(key.name, (key.per_second, now))
        left = min(key.per_second, left + (now - at) * key.per_second)
        is_over = left < 1.0
        self._used[key.name] = (left if is_over else left - 1.0), now
        return is_over

    def failed(self, address: str) -> bool:
        """Count a wrong key from an address; whether it has to wait now."""
        now = time.monotonic()
        since = now - FAILURES_WITHIN_S
        if len(self._failures) > 10_000:
            self._failures.clear()
        failures = [at for at in self._failures.get(address, ()) if at > since]
        failures.append(now)
        self._failures[address] = failures[-MOST_FAILURES - 1 :]
        _log.warning("a wrong key from %s: %d of late", address, len(failures))
        return len(failures) > MOST_FAILURES


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
