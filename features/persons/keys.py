"""Keys of a campaign and of its persons, and the tombstones of the forgotten.

One small database a campaign: a key of the campaign, a random key for every person,
and a tombstone for every exact key (id, e-mail, ...) of somebody who asked to be
forgotten. Keys of persons lie in blocks of hundreds: a row for each would cost more
time than all else that is done for a new voter. What names a person in a record that
cannot be rewritten does so under the person's own key; destroying that key leaves the
record and its proof, and nobody named. A tombstone is a keyed digest: it recognises the
person in the next file and does not reveal who it was.

All of it fails closed: blocks, tombstones and the campaign's key carry checks, and the
tombstones and the campaign's key stand a second time in `tombstones.json`. A store that
is damaged, lost or older than that copy is an error and never an empty one, or the next
voter file would bring the forgotten back; `restore_keys` makes it anew from the copy.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
import sqlite3
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from hustings.features.arrays import Bools
from hustings.features.atomic import whole_file

PERSON_BYTES, KEY_BYTES = 16, 32
"""So many random bytes."""
_ENTRY = PERSON_BYTES + KEY_BYTES
_AT_ONCE = 250_000
"""Persons whose keys are written together."""
DIGEST_BYTES = 16
"""128 bits: two people out of a billion meet with a chance of 1e-21."""
ONLY_ME = 0o600
CHECK_BYTES = 8
"""At the end of a block: it tells a block that has been damaged."""
KEYS, TOMBSTONES_COPY = "keys.db", "tombstones.json"
"""The store in the campaign's folder, and beside it the campaign's key and tombstones
once more."""
VOTER_KEY_VARIABLE = "HUSTINGS_VOTER_KEY"
"""Where a bundle is served away from its campaign: the key of digests of voters."""

VOTER, EMAIL, REACTOR, NAME, REGISTRATION = (
    "voter", "email", "reactor", "name", "registration",
)  # fmt: skip
EXACT_KEYS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    VOTER: (("voter_id",), ("former_id",), ("first_voter_id",), ("merged_into",)),
    EMAIL: (("email",), ("email_sha256",)),
    REACTOR: (("person",), ("reaction_person",)),
    NAME: (
        ("name", "birth_year", "postcode"),
        ("first_name", "last_name", "birth_year", "postcode"),
    ),
    REGISTRATION: (("registered_on", "birth_year", "sex", "postcode"),),
}
"""Columns whose values, taken together, are exactly one person's."""
SHARED = frozenset({EMAIL})
"""Keys that do not count in a row with a voter_id: couples share an address."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS campaign (id INTEGER PRIMARY KEY CHECK (id = 1), key BLOB);
CREATE TABLE IF NOT EXISTS blocks (prefix INTEGER NOT NULL, entries BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS of_prefix ON blocks (prefix);
CREATE TABLE IF NOT EXISTS tombstones
    (digest TEXT PRIMARY KEY, kind TEXT NOT NULL, batch TEXT NOT NULL,
     done INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS checks (part TEXT PRIMARY KEY, digest TEXT NOT NULL);
"""
SCHEMA_VERSION = 1
"""Of the tables, in the file's `user_version`; 0 where an earlier Hustings wrote it."""
_NOT_DAMAGE = frozenset(
    {
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_NOMEM,
    }
)  # fmt: skip
"""Errors of SQLite that say nothing of what is stored."""
_KEY, _TOMBSTONES = "campaign key", "tombstones"
"""Parts that `checks` speaks of."""


class _DamagedBlockError(Exception):
    """A block of keys is not what was written."""


class KeysError(RuntimeError):
    """The keys and tombstones of a campaign are lost or damaged."""


# --- how a value is written before it is compared -------------------------------------


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()


def _email(text: str) -> str:
    """The SHA-256 of an address in lower case; a digest stays as it is."""
    low = _plain(text).lower()
    return hashlib.sha256(low.encode()).hexdigest() if "@" in low else low


def _words(text: str) -> str:
    """Words without case and accents, in the order of the alphabet."""
    bare = unicodedata.normalize("NFKD", text).casefold()
    letters = "".join(c for c in bare if not unicodedata.combining(c))
    return " ".join(sorted(re.findall(r"\w+", letters)))


def _written(column: str, value: object) -> str:
    """One value of an exact key, written so that the same is the same."""
    if isinstance(value, pd.Timestamp):
        return value.date().isoformat()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    if column in {"email", "email_sha256"}:
        return _email(text)
    if column in {"name", "first_name", "last_name"}:
        return _words(text)
    return _plain(text).upper() if column == "postcode" else _plain(text)


def exact_values(frame: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """The exact key of every row, missing where any of its columns is.

    A blank is no key of anybody, however it came to stand where nothing should.

    Args:
        frame: Rows.
        columns: One of `EXACT_KEYS`, all of them in the frame.
    """
    if len(columns) == 1:
        codes, distinct = pd.factorize(frame[columns[0]])
        text = [_written(columns[0], value) or None for value in distinct]
        return pd.Series(np.array([*text, None], dtype=object)[codes], frame.index)
    complete = frame[list(columns)].notna().all(axis=1)
    distinct_rows = frame.loc[complete, list(columns)].drop_duplicates()
    rows = distinct_rows.itertuples(index=False, name=None)
    written_rows = [
        [_written(c, v) for c, v in zip(columns, row, strict=True)] for row in rows
    ]
    names = [c for c in columns if c in {"first_name", "last_name"}]
    if names:
        written_rows = [
            [_words(" ".join(row[: len(names)])), *row[len(names) :]]
            for row in written_rows
        ]
    exact = ["\x1f".join(row) if all(row) else None for row in written_rows]
    keyed = distinct_rows.assign(
        exact=pd.Series(exact, distinct_rows.index, dtype="str")
    )
    exact_key = frame[list(columns)].merge(keyed, on=list(columns), how="left")["exact"]
    return exact_key.where(complete.to_numpy()).set_axis(frame.index)


def keys_of_rows(frame: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """Every kind of exact key that the columns of a table give, row by row."""
    for kind, choices in EXACT_KEYS.items():
        for columns in choices:
            if set(columns) <= set(frame.columns):
                values = exact_values(frame, columns)
                if kind in SHARED and "voter_id" in frame:
                    values = values.where(frame["voter_id"].isna())
                yield kind, values


# --- who is forgotten -----------------------------------------------------------------


@dataclass(frozen=True)
class Forgotten:
    """Recognises rows of those who asked to be forgotten.

    Attributes:
        campaign_key: What tombstones are made with.
        digests: Of all exact keys.
        exact_keys: Exact keys of a kind, where they are at hand: then no digest is
            made.
    """

    campaign_key: bytes
    digests: frozenset[str]
    exact_keys: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def has(self, kind: str, values: pd.Series) -> Bools:
        """Whether each exact key is of somebody forgotten, shape (n,)."""
        if kind in self.exact_keys:
            return values.isin(list(self.exact_keys[kind])).to_numpy(dtype=bool)
        codes, distinct = pd.factorize(values)
        key = kind_key(self.campaign_key, kind)
        hit = [_digest(key, str(value)) in self.digests for value in distinct]
        # a missing value has the code -1 and is nobody's
        return np.array([*hit, False], dtype=bool)[codes]

    def rows(self, frame: pd.DataFrame) -> Bools:
        """Whether each row of a table is of a forgotten person, shape (n_rows,)."""
        is_forgotten = np.zeros(len(frame), dtype=bool)
        if self.digests or self.exact_keys:
            for kind, values in keys_of_rows(frame):
                is_forgotten |= self.has(kind, values)
        return is_forgotten


def kind_key(campaign_key: bytes, kind: str) -> bytes:
    """The key of one kind of digest: who holds it can make no other kind."""
    return hmac.digest(campaign_key, kind.encode(), "sha256")


def _digest(key: bytes, value: str) -> str:
    return hmac.digest(key, value.encode(), "sha256")[:DIGEST_BYTES].hex()


def digests(campaign_key: bytes, kind: str, values: Iterable[str]) -> list[str]:
    """HMAC-SHA256 of exact keys under the campaign's key, hexadecimal."""
    key = kind_key(campaign_key, kind)
    return [_digest(key, _written(f"{kind}_id", value)) for value in values]


@dataclass(frozen=True)
class Never:
    """Voters who are never contacted, by keyed digest: held out, or forgotten.

    Goes with a plan to wherever it is carried out, without any id and without the key:
    whoever had both could try ids until one answers.

    Attributes:
        key: What digests of voter ids are made with.
        digests: Of the voters.
    """

    key: bytes = b""
    digests: frozenset[str] = frozenset()

    @classmethod
    def of(cls, campaign_key: bytes, voter_ids: Iterable[str]) -> Self:
        """The digests of some voters of a campaign."""
        voter_digests = frozenset(digests(campaign_key, VOTER, voter_ids))
        return cls(kind_key(campaign_key, VOTER), voter_digests)

    def holds(self, voter_id: Iterable[str]) -> Bools:
        """Whether each voter is one of them, shape (n_voters,)."""
        if not self.digests:
            return np.zeros(len(list(voter_id)), dtype=bool)
        return np.array([d in self.digests for d in self.digests_of(voter_id)], bool)

    def digests_of(self, voter_id: Iterable[str]) -> list[str]:
        """The digest of each voter, whether or not it is one of these."""
        return [_digest(self.key, _written("voter_id", v)) for v in voter_id]

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values, without the key."""
        return {"key_id": key_id(self.key), "digests": sorted(self.digests)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], key: bytes) -> Self:
        """Read what `to_json` gave.

        Args:
            stored: What it gave.
            key: What the digests were made with.

        Raises:
            KeysError: If they were made with another key.
        """
        if "key" in stored:
            raise KeysError(
                "expected a bundle without its key, got one of an earlier version; "
                "`hustings plan` writes it anew"
            )
        if stored["key_id"] != key_id(key):
            raise KeysError(
                "expected the key that the bundle's digests of voters were made with, "
                "got another; `hustings keys voters` prints the campaign's"
            )
        return cls(key, frozenset(stored["digests"]))


def key_id(key: bytes) -> str:
    """What a key is recognised by; it says nothing of the key."""
    return hashlib.sha256(key).hexdigest()[:16]


NOBODY = Never()


# --- the store ------------------------------------------------------------------------


@dataclass(frozen=True)
class Keyring:
    """The keys of one campaign.

    Attributes:
        path: Database, readable by its owner alone.
        campaign_key: Of the campaign; made once.
    """

    path: Path
    campaign_key: bytes = field(repr=False)

    def add(self, persons: Iterable[str]) -> None:
        """A random key for every person who has none.

        Args:
            persons: 32 hexadecimal digits each, as `identity.random_persons` draws.
        """
        remaining = iter(persons)
        with _opened(self.path) as store:
            while batch := list(islice(remaining, _AT_ONCE)):
                keys = os.urandom(KEY_BYTES * len(batch))
                _write_blocks(store, bytes.fromhex("".join(batch)), keys)

    def keys(self) -> dict[str, bytes]:
        """Key of every person who has one, by person."""
        keys: dict[str, bytes] = {}
        with _opened(self.path) as store:
            # of two keys of a person the first holds: records name them under it
            for (block,) in store.execute("SELECT entries FROM blocks ORDER BY rowid"):
                for person, key in _entries(block):
                    keys.setdefault(person.hex(), key)
        return keys

    def keys_of(self, persons: Collection[str]) -> dict[str, bytes]:
        """Key of each of some persons who has one, by person.

        Args:
            persons: 32 hexadecimal digits each.
        """
        wanted = np.sort(_beginnings(bytes.fromhex("".join(persons)), PERSON_BYTES))
        asked, keys = frozenset(persons), dict[str, bytes]()
        with _opened(self.path) as store:
            for (stored,) in store.execute("SELECT entries FROM blocks ORDER BY rowid"):
                block = _proven(stored)
                if not block:
                    continue
                beginnings = _beginnings(block, _ENTRY)
                # all persons of a block begin with one byte
                low, high = np.searchsorted(
                    wanted, [beginnings.min(), beginnings.max()]
                )
                near = wanted[low : high + 1]
                for entry in np.flatnonzero(np.isin(beginnings, near)).tolist():
                    start = entry * _ENTRY
                    person = block[start : start + PERSON_BYTES].hex()
                    if person in asked:
                        key = block[start + PERSON_BYTES : start + _ENTRY]
                        keys.setdefault(person, key)
        return keys

    def destroy(self, persons: Iterable[str]) -> None:
        """Destroy keys for good: overwritten in the file, not only let go."""
        doomed = {bytes.fromhex(person) for person in persons}
        with _opened(self.path) as store:
            for prefix in sorted({person[0] for person in doomed}):
                blocks = store.execute(
                    "SELECT rowid, entries FROM blocks WHERE prefix = ?", (prefix,)
                ).fetchall()
                for row, block in blocks:
                    entries = list(_entries(block))
                    left = [p + k for p, k in entries if p not in doomed]
                    if len(left) < len(entries):
                        store.execute(
                            "UPDATE blocks SET entries = ? WHERE rowid = ?",
                            (_checked(b"".join(left)), row),
                        )
        with _opened(self.path) as store:
            store.execute("VACUUM")

    def bury(self, exact_keys: Iterable[tuple[str, str]], *, batch: str) -> None:
        """Set tombstones; they hold at once, and the batch is pending until settled.

        Args:
            exact_keys: Kind and exact key.
            batch: Names the request.
        """
        rows = [
            (_digest(kind_key(self.campaign_key, kind), value), kind, batch)
            for kind, value in exact_keys
        ]
        with _opened(self.path) as store:
            store.executemany(
                "INSERT INTO tombstones VALUES (?, ?, ?, 0) "
                "ON CONFLICT (digest) DO UPDATE SET batch = excluded.batch, done = 0",
                rows,
            )
            tombstones = self._note_tombstones(store)
        self._write_copy(tombstones, self.path.with_name(TOMBSTONES_COPY))

    def batches_of(self, kind: str, value: str) -> list[str]:
        """Requests that set the tombstone of an exact key; the last one stands."""
        digest = _digest(kind_key(self.campaign_key, kind), value)
        return [t.batch for t in self._tombstones() if t.digest == digest]

    def pending(self) -> list[str]:
        """Batches that were begun and not finished."""
        return sorted({t.batch for t in self._tombstones() if not t.done})

    def settle(self, batch: str) -> None:
        """Mark a batch of tombstones as finished."""
        with _opened(self.path) as store:
            store.execute("UPDATE tombstones SET done = 1 WHERE batch = ?", (batch,))
            tombstones = self._note_tombstones(store)
        self._write_copy(tombstones, self.path.with_name(TOMBSTONES_COPY))

    def forgotten(self, *, batch: str = "", kind: str = "") -> Forgotten:
        """Everybody forgotten, or those of one batch or kind of key.

        Raises:
            KeysError: If tombstones were lost or altered.
        """
        chosen = frozenset(
            t.digest
            for t in self._tombstones()
            if batch in ("", t.batch) and kind in ("", t.kind)
        )
        return Forgotten(self.campaign_key, chosen)

    def end(self) -> tuple[int, str]:
        """Number of tombstones and a digest of them all, for the ledger.

        Raises:
            KeysError: If tombstones were lost or altered.
        """
        tombstones = self._tombstones()
        text = "\n".join(t.digest for t in tombstones)
        return len(tombstones), hashlib.sha256(text.encode()).hexdigest()

    def check(self) -> int:
        """Check the store whole, every block of keys included.

        Returns:
            Persons who have a key.

        Raises:
            KeysError: Naming what is lost or damaged.
        """
        self._tombstones()
        with _opened(self.path) as store:
            fault = store.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if fault != "ok":
                raise KeysError(_damaged(self.path, str(fault)))
            blocks = store.execute("SELECT entries FROM blocks")
            return sum(len(list(_entries(block))) for (block,) in blocks)

    def _tombstones(self) -> "list[Tombstone]":
        """Every tombstone, checked against its check and its copy."""
        with _opened(self.path) as store:
            tombstones = _read_tombstones(store)
            noted = _noted(store, _TOMBSTONES)
        copied = _read_copy(self.path)
        if noted != self._check_of(tombstones):
            raise KeysError(_damaged(self.path, "tombstones were lost or altered"))
        if copied is not None:
            there = {t.digest for t in tombstones}
            lacking = sum(t.digest not in there for t in copied.tombstones)
            if lacking:
                raise KeysError(
                    _damaged(self.path, f"{lacking} tombstones of its copy are missing")
                )
        elif tombstones:
            # a copy that has gone is written again: the store itself holds
            self._write_copy(tombstones, self.path.with_name(TOMBSTONES_COPY))
        return tombstones

    def _note_tombstones(self, store: sqlite3.Connection) -> "list[Tombstone]":
        """Write the check of the tombstones, in the transaction that changes them."""
        tombstones = _read_tombstones(store)
        _note(store, _TOMBSTONES, self._check_of(tombstones))
        return tombstones

    def _check_of(self, tombstones: "Sequence[Tombstone]") -> str:
        text = "\n".join("\t".join(map(str, t)) for t in tombstones)
        return hmac.digest(self.campaign_key, text.encode(), "sha256").hex()

    def copy_tombstones(self, to: Path) -> None:
        """Write the campaign's key and all tombstones into a file of their own.

        Tombstones that the file has already stay in it, whether or not this store has
        them.

        Args:
            to: The file, readable by its owner alone.

        Raises:
            FileExistsError: If the file holds tombstones of another campaign.
            KeysError: If tombstones were lost or altered.
        """
        tombstones = {t.digest: t for t in self._tombstones()}
        # of a file that was altered nothing can be read, by a restore neither
        with suppress(FileNotFoundError, KeysError):
            copied = read_tombstones(to)
            if copied.campaign_key != self.campaign_key:
                raise FileExistsError(
                    f"{to}: expected tombstones of this campaign or no file, got those "
                    "of another"
                )
            tombstones = {t.digest: t for t in copied.tombstones} | tombstones
        self._write_copy([tombstones[digest] for digest in sorted(tombstones)], to)

    def take_tombstones(self, copied: "TombstonesCopy") -> int:
        """Set tombstones that were set after this store was copied.

        Their batches are pending: what the store's campaign holds of these people is
        still to be taken out.

        Args:
            copied: Of the same campaign.

        Returns:
            How many were not set yet.

        Raises:
            KeysError: If the copy is of another campaign.
        """
        if copied.campaign_key != self.campaign_key:
            raise KeysError(
                f"{self.path}: expected tombstones of the same campaign, got those of "
                "another: they were made with another key"
            )
        present = {t.digest for t in self._tombstones()}
        lacking = [t._replace(done=0) for t in copied.tombstones
                   if t.digest not in present]  # fmt: skip
        with _opened(self.path) as store:
            store.executemany("INSERT INTO tombstones VALUES (?, ?, ?, ?)", lacking)
            tombstones = self._note_tombstones(store)
        self._write_copy(tombstones, self.path.with_name(TOMBSTONES_COPY))
        return len(lacking)

    def _write_copy(self, tombstones: "Sequence[Tombstone]", to: Path) -> None:
        rows = [list(t) for t in tombstones]
        copy = {
            "campaign_key": self.campaign_key.hex(),
            "tombstones": rows,
            "check": self._check_of(tombstones),
        }
        with whole_file(to) as aside:
            aside.touch(mode=ONLY_ME)
            aside.write_text(json.dumps(copy))


class Tombstone(NamedTuple):
    """An exact key of somebody forgotten.

    Attributes:
        digest: Keyed.
        kind: Of the key.
        batch: The request.
        done: 1 once the request has been carried out.
    """

    digest: str
    kind: str
    batch: str
    done: int


class TombstonesCopy(NamedTuple):
    """A campaign's key and tombstones, as they stand in a file beside their store.

    Attributes:
        campaign_key: Of the campaign.
        tombstones: In the order of their digests.
        check: Keyed digest of them all.
    """

    campaign_key: bytes
    tombstones: list[Tombstone]
    check: str


def open_keys(path: Path, *, made_before: bool = False) -> Keyring:
    """The keys of a campaign, made where there have never been any.

    Args:
        path: Database.
        made_before: Whether the campaign has persons, so that keys must be there.

    Raises:
        KeysError: If keys that were there are lost or damaged.
    """
    if not path.exists():
        if made_before or path.with_name(TOMBSTONES_COPY).exists():
            raise KeysError(
                f"{path}: expected the keys and tombstones of a campaign that has "
                f"persons, found none; {RESTORE}"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=ONLY_ME)
    with _opened(path) as store:
        if made_before and not _has_campaign(store):
            raise KeysError(_damaged(path, "it holds no key of the campaign"))
        _require_version(path, store)
        store.executescript(_SCHEMA)
        store.execute(
            "INSERT OR IGNORE INTO campaign VALUES (1, ?)",
            (secrets.token_bytes(KEY_BYTES),),
        )
        store.commit()
        _take_single_rows(store)
        store.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        campaign_keys = [row[0] for row in store.execute("SELECT key FROM campaign")]
        if len(campaign_keys) != 1 or not isinstance(campaign_keys[0], bytes):
            raise KeysError(_damaged(path, "it holds no key of the campaign"))
        key = campaign_keys[0]
        check = hashlib.sha256(key).hexdigest()
        noted = _noted(store, _KEY)
        if noted is None:
            _note(store, _KEY, check)
        elif noted != check:
            raise KeysError(_damaged(path, "the campaign's key was altered"))
        keyring, copied = Keyring(path, key), _read_copy(path)
        if copied is None and _noted(store, _TOMBSTONES) is None:
            # a new store, or one of an earlier version
            keyring._note_tombstones(store)
    if copied is not None and copied.campaign_key != key:
        raise KeysError(_damaged(path, "its key is not that of its copy"))
    return keyring


def voter_key(home: Path | None) -> bytes:
    """The key that digests of a campaign's voters are made with.

    Args:
        home: The campaign's folder; None where a bundle is served away from it, and the
            environment's HUSTINGS_VOTER_KEY has the key.

    Raises:
        KeysError: If there is none, or it is no key.
    """
    if home is not None and (home / KEYS).exists():
        return kind_key(open_keys(home / KEYS, made_before=True).campaign_key, VOTER)
    written = os.environ.get(VOTER_KEY_VARIABLE, "").strip()
    try:
        key = bytes.fromhex(written)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeysError(
            "expected the key of the voters' digests, beside the bundle or in the "
            f"environment's {VOTER_KEY_VARIABLE} ({2 * KEY_BYTES} hexadecimal digits), "
            f"got {'none' if not written else 'something else'}; `hustings keys "
            "voters` prints it where the campaign's folder lies"
        )
    return key


def restore_keys(path: Path) -> Keyring:
    """Make a store anew from the copy: the campaign's key and all tombstones.

    The old one goes, whatever of it could still be read: kept beside, its keys would
    name in the ledger whoever is forgotten later. Keys of persons are drawn anew by
    whoever asks for them: what the ledger wrote under the old ones names nobody more.

    Args:
        path: Database.

    Raises:
        KeysError: If there is no copy, or it was altered.
    """
    copied = _read_copy(path)
    if copied is None:
        raise KeysError(
            f"{path.with_name(TOMBSTONES_COPY)}: expected the copy of the tombstones, "
            "found none; put the campaign's folder back from a backup"
        )
    with whole_file(path) as aside:
        aside.touch(mode=ONLY_ME)
        keyring = Keyring(aside, copied.campaign_key)
        with _opened(aside) as store:
            store.executescript(_SCHEMA)
            store.execute("INSERT INTO campaign VALUES (1, ?)", (copied.campaign_key,))
            _note(store, _KEY, hashlib.sha256(copied.campaign_key).hexdigest())
            store.executemany(
                "INSERT INTO tombstones VALUES (?, ?, ?, ?)", copied.tombstones
            )
            keyring._note_tombstones(store)
    return open_keys(path, made_before=True)


RESTORE = (
    "put it back from a backup, or make it anew with `hustings keys restore`; an empty "
    "one would bring those back who were forgotten"
)


def _damaged(path: Path, fault: str) -> str:
    return f"{path}: expected the keys and tombstones as written, {fault}; {RESTORE}"


def _require_version(path: Path, store: sqlite3.Connection) -> None:
    version = store.execute("PRAGMA user_version").fetchone()[0]
    if not 0 <= version <= SCHEMA_VERSION:
        raise KeysError(
            f"{path}: expected keys of version {SCHEMA_VERSION} or earlier, got "
            f"{version}: a later version of Hustings wrote them, which is to be "
            "installed, or the file was altered; nothing was changed"
        )


def _has_campaign(store: sqlite3.Connection) -> bool:
    tables = store.execute("SELECT 1 FROM sqlite_master WHERE name = 'campaign'")
    if tables.fetchone() is None:
        return False
    return store.execute("SELECT 1 FROM campaign").fetchone() is not None


def _read_tombstones(store: sqlite3.Connection) -> list[Tombstone]:
    rows = store.execute(
        "SELECT digest, kind, batch, done FROM tombstones ORDER BY digest"
    )
    return [Tombstone(*row) for row in rows]


def _noted(store: sqlite3.Connection, part: str) -> str | None:
    row = store.execute("SELECT digest FROM checks WHERE part = ?", (part,)).fetchone()
    return None if row is None else str(row[0])


def _note(store: sqlite3.Connection, part: str, digest: str) -> None:
    store.execute("INSERT OR REPLACE INTO checks VALUES (?, ?)", (part, digest))


def _read_copy(path: Path) -> TombstonesCopy | None:
    """The copy beside a store, None where there is none.

    Raises:
        KeysError: If the copy was altered.
    """
    file = path.with_name(TOMBSTONES_COPY)
    if not file.exists():
        return None
    try:
        return read_tombstones(file)
    except KeysError as fault:
        raise KeysError(
            f"{fault}; delete it, and the next command writes it again from the store"
        ) from None


def read_tombstones(file: Path) -> TombstonesCopy:
    """What `Keyring.copy_tombstones` wrote.

    Raises:
        KeysError: If it was altered.
    """
    try:
        stored = json.loads(file.read_text())
        key = bytes.fromhex(stored["campaign_key"])
        tombstones = [Tombstone(*row) for row in stored["tombstones"]]
        is_whole = stored["check"] == Keyring(file, key)._check_of(tombstones)
    except (ValueError, KeyError, TypeError):
        is_whole = False
    if not is_whole:
        raise KeysError(
            f"{file}: expected the copy of the tombstones as written, it was altered"
        )
    return TombstonesCopy(key, tombstones, stored["check"])


def _checked(entries: bytes) -> bytes:
    """Entries with their check behind."""
    return entries + hashlib.blake2b(entries, digest_size=CHECK_BYTES).digest()


def _write_blocks(store: sqlite3.Connection, persons: bytes, keys: bytes) -> None:
    """Add persons and their keys, in blocks of those that begin with one byte."""
    entries = np.hstack(
        [
            np.frombuffer(persons, np.uint8).reshape(-1, PERSON_BYTES),
            np.frombuffer(keys, np.uint8).reshape(-1, KEY_BYTES),
        ]
    )
    entries = entries[np.argsort(entries[:, 0], kind="stable")]
    prefixes, starts = np.unique(entries[:, 0], return_index=True)
    blocks = np.split(entries, starts[1:])
    store.executemany(
        "INSERT INTO blocks VALUES (?, ?)",
        [
            (int(p), _checked(b.tobytes()))
            for p, b in zip(prefixes, blocks, strict=True)
        ],
    )


def _beginnings(entries: bytes, size: int) -> npt.NDArray[np.uint64]:
    """The first eight bytes of entries of a size, as numbers in the order of bytes."""
    first = np.frombuffer(entries, np.uint8).reshape(-1, size)[:, :8]
    return np.ascontiguousarray(first).view(">u8").ravel().astype(np.uint64)


def _proven(block: bytes) -> bytes:
    """The entries of a block, without their check.

    Raises:
        _DamagedBlockError: If it was damaged. Blocks of earlier versions have no check.
    """
    n_checked = len(block) % _ENTRY
    entries = block[: len(block) - n_checked]
    if n_checked and _checked(entries) != block:
        raise _DamagedBlockError
    return entries


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Person and key of every entry of a block.

    Raises:
        _DamagedBlockError: As `_proven`.
    """
    entries = _proven(block)
    for start in range(0, len(entries), _ENTRY):
        middle = start + PERSON_BYTES
        yield entries[start:middle], entries[middle : start + _ENTRY]


def _take_single_rows(store: sqlite3.Connection) -> None:
    """Move keys into blocks that an older version kept in a row each."""
    if store.execute("SELECT 1 FROM sqlite_master WHERE name = 'persons'").fetchone():
        rows = store.execute("SELECT person, key FROM persons").fetchall()
        persons, keys = ([row[i] for row in rows] for i in (0, 1))
        _write_blocks(store, bytes.fromhex("".join(persons)), b"".join(keys))
        store.execute("DROP TABLE persons")


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The store, committed at the end; what is deleted is overwritten."""
    store = sqlite3.connect(path, timeout=30)
    try:
        store.execute("PRAGMA secure_delete = ON")
        # durable before the caller goes on: a tombstone holds before the first deletion
        store.execute("PRAGMA synchronous = FULL")
        with store:
            yield store
    except _DamagedBlockError as fault:
        text = "a block of keys of persons was damaged"
        raise KeysError(_damaged(path, text)) from fault
    except sqlite3.DatabaseError as fault:
        # text that is no UTF-8 is an error without a code
        code = getattr(fault, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
        if code & 0xFF in _NOT_DAMAGE:
            raise
        raise KeysError(_damaged(path, str(fault))) from fault
    finally:
        store.close()
