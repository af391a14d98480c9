"""The ledger: an append-only, hash-chained record of what was decided and for whom.

Every entry holds the digest of itself and of the entry before it, so altering, removing
or inserting an entry breaks every digest after it. An entry refers to a person by a
pseudonym under the person's own key, a different one in every batch. While the key
exists, the person's entries can be found. Once the key is destroyed, the entries
identify nobody, cannot be linked to each other, and the chain still verifies. The rest
of an entry (message, channel, propensity) is not personal data and stays readable.
"""

import hashlib
import hmac
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd

Json = dict[str, Any]

LEDGER = "ledger.db"
VARIABLE = "HUSTINGS_LEDGER"
"""Address of a PostgreSQL database that keeps the ledgers instead."""
START = bytes(32)
"""What stands before the first entry."""
PSEUDONYM_BYTES = 16
SCHEMA = 1
"""Version of what bodies say, in each of them; those before it have none. An entry is
never rewritten: whoever changes what bodies say reads the earlier versions, too."""
OPENED = "opened"
"""Suffix of the kind of an entry that opens a batch about persons."""
_READ_AT_ONCE = 50_000
_CACHE_KIB = 262_144
"""Memory for the pages of a SQLite ledger while a batch is written."""
_SCHEMA_OF = re.compile(r'"schema":(\d+)')
_DIGEST = re.compile("[0-9a-f]{64}")
_UNREADABLE = (sqlite3.DatabaseError, UnicodeError, TypeError, AttributeError)
"""What reading a damaged file ends with."""


_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}


class LedgerError(ValueError):
    """The ledger is not what was written; the message names the first fault."""


class LedgerMovedError(RuntimeError):
    """Somebody wrote meanwhile: what was to be written must be decided again."""


class LedgerEntry(NamedTuple):
    """One row.

    Attributes:
        seq: From 1, without gaps.
        at: When, ISO 8601 in UTC.
        kind: What it tells of.
        subject: Pseudonym of the person it is about; None for nobody.
        body: What it says, as JSON.
        digest: SHA-256 of the digest before it and of all the above.
    """

    seq: int
    at: str
    kind: str
    subject: bytes | None
    body: str
    digest: bytes


class Head(NamedTuple):
    """The end of a ledger: what is kept elsewhere to show that none was cut off."""

    seq: int
    digest: str


BEGINNING = Head(0, START.hex())
"""The end of a ledger without entries."""


class Verified(NamedTuple):
    """Result of `verify`.

    Attributes:
        n_entries: Entries up to the end, or to the first fault.
        fault: What is wrong with the first altered entry; empty where nothing is.
        head: The end of the ledger.
    """

    n_entries: int
    fault: str
    head: Head


def digest_of(
    before: bytes, seq: int, at: str, kind: str, subject: bytes | None, body: str
) -> bytes:
    """SHA-256 of an entry and the digest before it.

    Every field goes in with its length, so that no two entries give the same bytes.
    """
    n, on, of, says = str(seq).encode(), at.encode(), kind.encode(), body.encode()
    about = b"-" if subject is None else b"+" + subject
    # one format: this is done for every assignment of every voter
    entry_bytes = b"%b%d:%b%d:%b%d:%b%d:%b%d:%b" % (
        before, len(n), n, len(on), on, len(of), of, len(about), about,
        len(says), says,
    )  # fmt: skip
    return hashlib.sha256(entry_bytes).digest()


def pseudonym(person_key: bytes, batch: bytes) -> bytes:
    """A person's name in one batch: HMAC-SHA256 of the batch under the person's key."""
    return hmac.digest(person_key, batch, "sha256")[:PSEUDONYM_BYTES]


# --- where it is kept -----------------------------------------------------------------


class _Store(Protocol):
    """Rows in the order of seq; append in one transaction that excludes others."""

    def head(self) -> tuple[int, bytes]: ...

    def extend(self, follow: Callable[[int, bytes], Iterable[LedgerEntry]]) -> None: ...

    def after(self, seq: int, limit: int) -> list[LedgerEntry]: ...

    def of_kind(self, suffix: str) -> list[LedgerEntry]: ...

    def of_subjects(self, subjects: Sequence[bytes]) -> list[LedgerEntry]: ...

    def damage(self) -> str: ...


_SQLITE = """
CREATE TABLE IF NOT EXISTS ledger (
    seq INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, subject BLOB,
    body TEXT NOT NULL, digest BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS ledger_subject ON ledger (subject);
CREATE TRIGGER IF NOT EXISTS ledger_no_update BEFORE UPDATE ON ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS ledger_no_delete BEFORE DELETE ON ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS ledger_no_replace BEFORE INSERT ON ledger
    WHEN EXISTS (SELECT 1 FROM ledger WHERE seq = NEW.seq)
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""
_ROW = "seq, at, kind, subject, body, digest"


class _DamagedError(LedgerError, sqlite3.DatabaseError):
    """The ledger's file is not a database any more, or half of one."""


@dataclass(frozen=True)
class _Sqlite:
    path: Path

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        store = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        try:
            store.executescript(_SQLITE)
            yield store
        # an error that quotes damaged text is no UTF-8 either
        except (sqlite3.DatabaseError, UnicodeDecodeError) as fault:
            if _code_of(fault) not in _DAMAGE:
                raise
            raise _DamagedError(
                f"{self.path.name}: expected it as written, {fault}; put it back "
                "from a backup"
            ) from fault
        finally:
            store.close()

    def head(self) -> tuple[int, bytes]:
        if not self.path.exists():
            return 0, START
        with self._opened() as store:
            return _head(store)

    def extend(self, follow: Callable[[int, bytes], Iterable[LedgerEntry]]) -> None:
        with self._opened() as store:
            store.execute("PRAGMA synchronous = FULL")
            # pseudonyms are random: their index is written all over
            store.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            store.execute("BEGIN IMMEDIATE")
            try:
                entries = follow(*_head(store))
                store.executemany(
                    "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?)", entries
                )
            except BaseException:
                store.execute("ROLLBACK")
                raise
            store.execute("COMMIT")

    def after(self, seq: int, limit: int) -> list[LedgerEntry]:
        query = f"SELECT {_ROW} FROM ledger WHERE seq > ? ORDER BY seq LIMIT ?"
        return self._rows(query, (seq, limit))

    def of_kind(self, suffix: str) -> list[LedgerEntry]:
        query = f"SELECT {_ROW} FROM ledger WHERE subject IS NULL AND kind LIKE ?"
        return self._rows(query, (f"%{suffix}",))

    def of_subjects(self, subjects: Sequence[bytes]) -> list[LedgerEntry]:
        query = f"SELECT {_ROW} FROM ledger WHERE subject = ?"
        return [row for s in subjects for row in self._rows(query, (s,))]

    def damage(self) -> str:
        """Damage that the database itself finds in its file; empty for none."""
        if not self.path.exists():
            return ""
        try:
            with self._opened() as store:
                row = store.execute("PRAGMA integrity_check(1)").fetchone()
                integrity = str(row[0])
        except sqlite3.DatabaseError as fault:
            integrity = str(fault)
        if integrity == "ok" or integrity.startswith(self.path.name):
            return integrity.removeprefix("ok")
        return f"{self.path.name}: {integrity}"

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[LedgerEntry]:
        # who only reads makes no file
        if not self.path.exists():
            return []
        with self._opened() as store:
            return [LedgerEntry(*row) for row in store.execute(query, values)]


def _code_of(fault: Exception) -> int:
    """SQLite's code; text that is no UTF-8 is an error without one."""
    code: int = getattr(fault, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF


def _head(store: sqlite3.Connection) -> tuple[int, bytes]:
    row = store.execute(
        "SELECT seq, digest FROM ledger ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    return (0, START) if row is None else (row[0], row[1])


_POSTGRES = """
CREATE TABLE IF NOT EXISTS hustings_ledger (
    campaign text NOT NULL, seq bigint NOT NULL, at text NOT NULL, kind text NOT NULL,
    subject bytea, body text NOT NULL, digest bytea NOT NULL,
    PRIMARY KEY (campaign, seq));
CREATE INDEX IF NOT EXISTS hustings_ledger_subject
    ON hustings_ledger (campaign, subject);
CREATE OR REPLACE FUNCTION hustings_ledger_refuse() RETURNS trigger AS
    $$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$ LANGUAGE plpgsql;
CREATE OR REPLACE TRIGGER hustings_ledger_keep BEFORE UPDATE OR DELETE
    ON hustings_ledger FOR EACH ROW EXECUTE FUNCTION hustings_ledger_refuse();
CREATE OR REPLACE TRIGGER hustings_ledger_keep_all BEFORE TRUNCATE
    ON hustings_ledger FOR EACH STATEMENT EXECUTE FUNCTION hustings_ledger_refuse();
"""
_OF_CAMPAIGN = f"SELECT {_ROW} FROM hustings_ledger WHERE campaign = %s"


@dataclass(frozen=True)
class _Postgres:
    url: str
    campaign: str

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        import psycopg

        # one transaction, committed at the end of the block
        with psycopg.connect(self.url, client_encoding="utf8") as store:
            # whoever comes second waits: there is one head
            store.execute(
                "SELECT pg_advisory_xact_lock(hashtext(%s))",
                (f"hustings-ledger-{self.campaign}",),
            )
            (there,) = store.execute(
                "SELECT to_regclass('hustings_ledger')"
            ).fetchone() or (None,)
            if there is None:
                store.execute(_POSTGRES)
            yield store

    def head(self) -> tuple[int, bytes]:
        with self._opened() as store:
            return self._head(store)

    def _head(self, store: Any) -> tuple[int, bytes]:
        row = store.execute(
            f"{_OF_CAMPAIGN} ORDER BY seq DESC LIMIT 1", (self.campaign,)
        ).fetchone()
        return (0, START) if row is None else (row[0], bytes(row[5]))

    def extend(self, follow: Callable[[int, bytes], Iterable[LedgerEntry]]) -> None:
        with self._opened() as store:
            into = f"COPY hustings_ledger (campaign, {_ROW}) FROM STDIN"
            entries = follow(*self._head(store))
            with store.cursor().copy(into) as copy:
                for entry in entries:
                    copy.write_row((self.campaign, *entry))

    def after(self, seq: int, limit: int) -> list[LedgerEntry]:
        query = f"{_OF_CAMPAIGN} AND seq > %s ORDER BY seq LIMIT %s"
        return self._rows(query, (self.campaign, seq, limit))

    def of_kind(self, suffix: str) -> list[LedgerEntry]:
        query = f"{_OF_CAMPAIGN} AND subject IS NULL AND kind LIKE %s ORDER BY seq"
        return self._rows(query, (self.campaign, f"%{suffix}"))

    def of_subjects(self, subjects: Sequence[bytes]) -> list[LedgerEntry]:
        query = f"{_OF_CAMPAIGN} AND subject = ANY(%s) ORDER BY seq"
        return self._rows(query, (self.campaign, list(subjects)))

    def damage(self) -> str:
        """Nothing: the server looks after its files."""
        return ""

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[LedgerEntry]:
        with self._opened() as store:
            return [
                LedgerEntry(
                    seq, at, kind, None if s is None else bytes(s), body, bytes(d)
                )
                for seq, at, kind, s, body, d in store.execute(query, values)
            ]


# --- what is done with it -------------------------------------------------------------


@dataclass(frozen=True)
class Ledger:
    """The ledger of one campaign; `open_ledger` gives it."""

    store: _Store

    @property
    def head(self) -> Head:
        """End of the ledger."""
        seq, digest = self.store.head()
        return Head(seq, digest.hex())

    def append(
        self,
        kind: str,
        body: Mapping[str, Any],
        *,
        at: pd.Timestamp,
        after: Head | None = None,
    ) -> Head:
        """One entry about nobody in particular.

        Args:
            kind: What it tells of.
            body: What it says; no id, name or address of anybody.
            at: When.
            after: The end that the ledger must still have; None for any.

        Raises:
            LedgerMovedError: If it has another end by now; nothing is written.
        """

        def follow(seq: int, before: bytes) -> Iterator[LedgerEntry]:
            _unmoved(after, seq, before)
            said = {**body, "schema": SCHEMA}
            yield from _chained(seq, before, at, [(kind, None, said)])

        self.store.extend(follow)
        return self.head

    def of_nobody(self, suffix: str = "") -> list[LedgerEntry]:
        """Entries about nobody in particular whose kind ends so, in their order.

        Raises:
            LedgerError: If a later version of Hustings wrote one of them.
        """
        entries = sorted(self.store.of_kind(suffix), key=lambda entry: entry.seq)
        for entry in entries:
            version = _SCHEMA_OF.search(entry.body)
            if version is not None and int(version[1]) > SCHEMA:
                raise LedgerError(
                    f"entry {entry.seq} ({entry.kind}): expected version {SCHEMA} of "
                    f"what it says or an earlier one, got {version[1]}: it was written "
                    "by a later version of Hustings, which is to be installed"
                )
        return entries

    def append_persons(
        self,
        kind: str,
        body: Mapping[str, Any],
        rows: Iterable[tuple[bytes, str]],
        *,
        at: pd.Timestamp,
        after: Head | None = None,
    ) -> Head:
        """A batch: an entry that opens it, and one about each of many persons.

        All of them are there or none.

        Args:
            kind: What the batch tells of.
            body: Of the entry that opens it.
            rows: Key of a person, and what is said as JSON text.
            at: When.
            after: The end that the ledger must still have; None for any.

        Raises:
            LedgerMovedError: If it has another end by now; nothing is written.
        """

        def follow(seq: int, before: bytes) -> Iterator[LedgerEntry]:
            _unmoved(after, seq, before)
            opening = (f"{kind} {OPENED}", None, {**body, "schema": SCHEMA})
            (first,) = _chained(seq, before, at, [opening])
            yield first
            persons = ((kind, pseudonym(k, first.digest), text) for k, text in rows)
            yield from _chained(first.seq, first.digest, at, persons)

        self.store.extend(follow)
        return self.head

    def of_kind(self, kind: str) -> list[LedgerEntry]:
        """Entries of a kind that are about nobody in particular, in their order."""
        return [e for e in self.of_nobody(kind) if e.kind == kind]

    def of_person(self, person_keys: Iterable[bytes]) -> list[LedgerEntry]:
        """Every entry about a person, found by the person's keys."""
        keys, batches = list(person_keys), self.store.of_kind(OPENED)
        names = [pseudonym(key, batch.digest) for key in keys for batch in batches]
        return sorted(self.store.of_subjects(names)) if names else []

    def verify(
        self, noted_ends: Sequence[Head] = (), *, since: Head = BEGINNING
    ) -> Verified:
        """Walk the chain, and compare it with heads that were kept elsewhere.

        Args:
            noted_ends: Heads that this ledger had.
            since: A head that was verified and kept elsewhere: entries up to it are
                taken as they were then, and neither they nor the database's file are
                read again.
        """
        seq, before = since.seq, bytes.fromhex(since.digest)
        wanted = {head.seq: head.digest for head in (*noted_ends, since)}
        try:
            for noted in sorted(n for n in wanted if 0 < n <= since.seq):
                there = self.store.after(noted - 1, 1)
                fault = _unlike(there[0], wanted) if there else _cut_off(noted, noted)
                if fault:
                    return Verified(noted - 1, fault, self.head)
            while entries := self.store.after(seq, _READ_AT_ONCE):
                for entry in entries:
                    fault = _fault(entry, seq, before) or _unlike(entry, wanted)
                    if fault:
                        return Verified(seq, fault, Head(seq, before.hex()))
                    seq, before = entry.seq, entry.digest
        except _UNREADABLE as damage:
            unreadable = f"entry {seq + 1}, or one after it, cannot be read: {damage}"
            return Verified(seq, unreadable, Head(seq, before.hex()))
        cut = [head.seq for head in noted_ends if head.seq > seq]
        fault = "" if since.seq else self.store.damage()
        if cut:
            fault = _cut_off(seq + 1, max(cut))
        return Verified(seq, fault, Head(seq, before.hex()))


def _cut_off(first: int, last: int) -> str:
    return (
        f"entry {first}: expected entries up to {last}, as a run noted, got none: the "
        "end was cut off"
    )


def _unmoved(after: Head | None, seq: int, before: bytes) -> None:
    if after is not None and after != Head(seq, before.hex()):
        raise LedgerMovedError(
            f"expected the ledger to end at entry {after.seq}, got {seq} by now: "
            "somebody else wrote; try again"
        )


def _chained(
    seq: int,
    before: bytes,
    at: pd.Timestamp,
    contents: Iterable[tuple[str, bytes | None, Mapping[str, Any] | str]],
) -> Iterator[LedgerEntry]:
    when = at.isoformat()
    for kind, subject, said in contents:
        seq += 1
        text = said if isinstance(said, str) else _canonical(said)
        digest = digest_of(before, seq, when, kind, subject, text)
        yield LedgerEntry(seq, when, kind, subject, text, digest)
        before = digest


def _canonical(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), default=str)


def _fault(entry: LedgerEntry, seq: int, before: bytes) -> str:
    if entry.seq != seq + 1:
        return f"entry {seq + 1}: expected it after entry {seq}, got {entry.seq}"
    expected = digest_of(before, *entry[:5])
    if not hmac.compare_digest(expected, entry.digest):
        return (
            f"entry {entry.seq} ({entry.kind}, {entry.at}): its digest does not match: "
            "it, or its link to the entry before it, was altered"
        )
    return ""


def _unlike(entry: LedgerEntry, wanted: Mapping[int, str]) -> str:
    noted = wanted.get(entry.seq)
    if noted is None or noted == entry.digest.hex():
        return ""
    return (
        f"entry {entry.seq} ({entry.kind}, {entry.at}): a run noted another digest: "
        "the ledger was written anew up to here or further"
    )


STORES: Mapping[str, Callable[[Path, str], Ledger]] = {
    "sqlite": lambda home, _address: Ledger(_Sqlite(home / LEDGER)),
    "postgresql": lambda home, address: Ledger(_Postgres(address, home.name)),
}
"""Ledgers by the kind of their store, from the campaign's folder and an address."""


def head_of(text: str) -> Head:
    """The end of a ledger as `hustings verify` tells it: entry and digest.

    Raises:
        ValueError: If it is not of that form.

    >>> head_of("12 " + 64 * "0").seq
    12
    """
    seq, _, digest = text.strip().partition(" ")
    if not seq.isdigit() or not _DIGEST.fullmatch(digest):
        raise ValueError(
            "expected the end of a ledger as `hustings verify` tells it, a number and "
            f"64 hexadecimal digits, got {text!r}"
        )
    return Head(int(seq), digest)


def noted_heads(home: Path) -> list[Head]:
    """Ends of the ledger that the runs of a campaign noted in their run.json."""
    heads = []
    for path in sorted(home.glob("*/run.json")):
        noted = json.loads(path.read_text()).get("ledger")
        if noted:
            heads.append(Head(int(noted["seq"]), str(noted["digest"])))
    return heads


def open_ledger(home: Path) -> Ledger:
    """The ledger of a campaign.

    Args:
        home: The campaign's folder, which holds it where `HUSTINGS_LEDGER` names no
            database of PostgreSQL.

    Raises:
        ValueError: If the address is of another kind of database.
    """
    address = os.environ.get(VARIABLE, "")
    if not address:
        return STORES["sqlite"](home, address)
    if not address.startswith(("postgresql://", "postgres://")):
        raise ValueError(
            f"{VARIABLE}: expected an address that begins with postgresql://, got "
            f"{address.partition(':')[0]!r}"
        )
    return STORES["postgresql"](home, address)
