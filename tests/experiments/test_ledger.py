"""The ledger: whatever is altered is named, and a destroyed key names nobody."""

import hashlib
import hmac
import json
import random
import sqlite3
import time
from pathlib import Path

import pandas as pd
import pytest

from hustings.experiments.plans.ledger import (
    LEDGER,
    SCHEMA,
    START,
    STORES,
    VARIABLE,
    Head,
    Ledger,
    LedgerError,
    LedgerMovedError,
    _chained,
    noted_heads,
    open_ledger,
)

AT = pd.Timestamp("2026-09-01T12:00:00Z")
KEYS = {f"p{i}": bytes([i]) * 32 for i in range(4)}


@pytest.fixture(params=sorted(STORES))
def ledger(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Ledger:
    """A new ledger in every kind of store that there is."""
    if request.param != "sqlite":
        monkeypatch.setenv(VARIABLE, request.getfixturevalue("postgres"))
    return open_ledger(tmp_path)


def filled(ledger: Ledger) -> list[Head]:
    """Two batches of four persons and an entry about nobody between: 11 entries."""
    heads = [
        ledger.append_persons(
            "assignment", {"run_id": "one"},
            [(key, json.dumps(["plan", who])) for who, key in KEYS.items()], at=AT,
        ),
        ledger.append("note", {"what": "nobody"}, at=AT),
    ]  # fmt: skip
    rows = [(key, json.dumps(["explore", who])) for who, key in KEYS.items()]
    return [*heads, ledger.append_persons("assignment", {"run_id": "two"}, rows, at=AT)]


def meddled(home: Path, statement: str) -> None:
    """What somebody who holds the file can do: take the triggers off and write."""
    store = sqlite3.connect(home / LEDGER)
    store.execute("DROP TRIGGER ledger_no_update")
    store.execute("DROP TRIGGER ledger_no_delete")
    store.execute(statement)
    store.commit()
    store.close()


def test_what_was_written_holds(ledger: Ledger) -> None:
    heads = filled(ledger)
    found = ledger.verify(heads)
    assert (found.n_entries, found.fault) == (11, "")
    assert found.head == heads[-1] == ledger.head


def test_a_digest_is_of_the_one_before_and_of_every_field(ledger: Ledger) -> None:
    head = ledger.append("note", {"b": 1, "a": "ü"}, at=AT)
    told = b"1:1,25:2026-09-01T12:00:00+00:00,4:note,1:-,31:"
    told += b'{"a":"\\u00fc","b":1,"schema":1}'
    fields = b"".join(told.split(b",", 4))
    assert head == Head(1, hashlib.sha256(START + fields).hexdigest())


def test_entries_say_their_version_and_earlier_ones_stay_as_they_are(
    ledger: Ledger,
) -> None:
    # as the version before wrote it, without a version
    ledger.store.extend(
        lambda seq, before: _chained(seq, before, AT, [("note", None, {"a": 1})])
    )
    (old,) = ledger.of_nobody()
    ledger.append("note", {"a": 2}, at=AT)
    ledger.append_persons("assignment", {"a": 3}, [(KEYS["p1"], "[]")], at=AT)
    assert ledger.of_nobody()[0] == old
    assert json.loads(old.body) == {"a": 1}
    assert [json.loads(e.body).get("schema") for e in ledger.of_nobody()] == [
        None, SCHEMA, SCHEMA,
    ]  # fmt: skip
    assert ledger.verify().fault == ""
    later = {"a": 4, "schema": SCHEMA + 1}
    ledger.store.extend(
        lambda seq, before: _chained(seq, before, AT, [("note", None, later)])
    )
    with pytest.raises(LedgerError, match=r"entry 5 \(note\).*later version"):
        ledger.of_kind("note")


@pytest.mark.parametrize(
    ("statement", "first"),
    [
        ("UPDATE ledger SET body = replace(body, 'plan', 'gone') WHERE seq = 4", 4),
        ("UPDATE ledger SET at = '2020-01-01' WHERE seq = 2", 2),
        ("UPDATE ledger SET kind = 'other' WHERE seq = 6", 6),
        ("UPDATE ledger SET subject = x'00' WHERE seq = 3", 3),
        ("UPDATE ledger SET subject = NULL WHERE seq = 3", 3),
        ("UPDATE ledger SET digest = zeroblob(32) WHERE seq = 5", 5),
        ("DELETE FROM ledger WHERE seq = 7", 7),
        ("DELETE FROM ledger WHERE seq = 1", 1),
        ("DELETE FROM ledger WHERE seq > 9", 10),
        ("INSERT INTO ledger VALUES (12, 'x', 'x', NULL, 'x', zeroblob(32))", 12),
        (
            "UPDATE ledger SET body = (SELECT body FROM ledger b WHERE b.seq = "
            "CASE ledger.seq WHEN 3 THEN 4 ELSE 3 END) WHERE seq IN (3, 4)", 3,
        ),
    ],
)  # fmt: skip
def test_the_first_altered_entry_is_named(
    statement: str, first: int, tmp_path: Path
) -> None:
    ledger = open_ledger(tmp_path)
    heads = filled(ledger)
    meddled(tmp_path, statement)
    found = ledger.verify(heads)
    assert found.fault.startswith(f"entry {first}")
    assert found.n_entries == first - 1


def test_what_is_altered_after_the_end_that_was_kept_is_named(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    heads = filled(ledger)
    meddled(tmp_path, "UPDATE ledger SET kind = 'other' WHERE seq IN (3, 8)")
    assert ledger.verify(heads).fault.startswith("entry 3 ")
    assert ledger.verify(heads, since=heads[1]).fault.startswith("entry 8 ")


def test_a_ledger_written_anew_is_unlike_the_end_that_a_run_noted(
    tmp_path: Path,
) -> None:
    heads = filled(open_ledger(tmp_path))
    (tmp_path / LEDGER).unlink()
    other = open_ledger(tmp_path)
    other.append("note", {"what": "somebody"}, at=AT)
    filled(other)
    assert other.verify().fault == ""
    assert "a run noted another digest" in other.verify(heads).fault


def test_a_later_verification_begins_at_an_end_that_was_kept(ledger: Ledger) -> None:
    heads = filled(ledger)
    found = ledger.verify(heads, since=heads[1])
    assert (found.n_entries, found.fault, found.head) == (11, "", heads[-1])
    other = heads[1]._replace(digest="0" * 64)
    assert ledger.verify(heads, since=other).fault.startswith("entry 6 ")
    later = heads[-1]._replace(seq=12)
    assert "got none" in ledger.verify(heads, since=later).fault


@pytest.mark.parametrize("seed", range(20))
def test_a_byte_flipped_anywhere_in_the_file_is_named_or_changes_nothing(
    seed: int, tmp_path: Path
) -> None:
    ledger, rng = open_ledger(tmp_path), random.Random(seed)
    heads = filled(ledger)
    entries = ledger.store.after(0, 100)
    path = tmp_path / LEDGER
    data = bytearray(path.read_bytes())
    # where something is written: free space holds nothing to alter
    place = rng.choice([i for i, byte in enumerate(data) if byte])
    data[place] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))
    fault = ledger.verify(heads).fault
    if not fault:
        assert ledger.store.after(0, 100) == entries
        assert len(ledger.of_person([KEYS["p2"]])) == 2
    else:
        assert fault.startswith(("entry ", f"{LEDGER}: "))


def test_a_ledger_that_is_no_database_any_more_is_named_by_whoever_reads_it(
    tmp_path: Path,
) -> None:
    filled(open_ledger(tmp_path))
    path = tmp_path / LEDGER
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"nobody", b"nobo\xff\xff"))
    with pytest.raises(LedgerError, match=f"{LEDGER}: .* from a backup"):
        open_ledger(tmp_path).of_kind("note")
    path.write_bytes(whole.replace(b"CREATE TRIGGER", b"CREATE TRIGGEX"))
    for read in (
        lambda: open_ledger(tmp_path).of_kind("note"),
        lambda: open_ledger(tmp_path).of_person([KEYS["p2"]]),
        lambda: open_ledger(tmp_path).append("note", {}, at=AT),
    ):
        with pytest.raises(LedgerError, match=f"{LEDGER}: .* from a backup"):
            read()


def test_nothing_can_be_changed_by_mistake(tmp_path: Path) -> None:
    filled(open_ledger(tmp_path))
    store = sqlite3.connect(tmp_path / LEDGER)
    again = "INTO ledger SELECT seq, at, 'gone', subject, body, digest FROM ledger"
    for statement in (
        "DELETE FROM ledger",
        "UPDATE ledger SET body = ''",
        f"INSERT OR REPLACE {again}",
        f"REPLACE {again}",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            store.execute(statement)
    store.close()


def test_a_batch_that_fails_leaves_nothing(ledger: Ledger) -> None:
    filled(ledger)

    def rows() -> list[tuple[bytes, str]]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        ledger.append_persons("assignment", {}, (r for r in rows()), at=AT)
    assert ledger.verify().n_entries == 11
    assert ledger.head.seq == 11


def test_nothing_is_written_after_an_end_that_is_no_longer(ledger: Ledger) -> None:
    *_, head = filled(ledger)
    now = ledger.append("note", {"n": 1}, at=AT, after=head)
    rows = [(KEYS["p1"], "[]")]
    for other in (head, Head(now.seq, head.digest)):
        with pytest.raises(LedgerMovedError, match="somebody else wrote"):
            ledger.append("note", {"n": 2}, at=AT, after=other)
        with pytest.raises(LedgerMovedError):
            ledger.append_persons("assignment", {}, rows, at=AT, after=other)
    assert ledger.head == now


def test_a_person_is_found_by_the_key_and_by_nothing_else(ledger: Ledger) -> None:
    filled(ledger)
    found = ledger.of_person([KEYS["p2"]])
    assert [json.loads(e.body) for e in found] == [["plan", "p2"], ["explore", "p2"]]
    assert ledger.of_person([b"another key"]) == []
    # without the key nobody can tell that two entries are of one person
    subjects = [e.subject for e in ledger.store.after(0, 100) if e.subject]
    assert len(set(subjects)) == len(subjects) == 8
    batch = ledger.store.of_kind("opened")[0].digest
    expected = hmac.digest(KEYS["p2"], batch, "sha256")[:16]
    assert found[0].subject == expected


def test_heads_are_read_from_the_runs_that_noted_them(tmp_path: Path) -> None:
    for name, told in (("a", {"ledger": {"seq": 3, "digest": "ff"}}), ("b", {})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps(told))
    assert noted_heads(tmp_path) == [Head(3, "ff")]


def test_another_kind_of_address_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "mysql://user:secret@host/db")
    with pytest.raises(ValueError, match="begins with postgresql://, got 'mysql'"):
        open_ledger(tmp_path)


def test_two_hundred_thousand_assignments_take_seconds(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    body = '["plan", "m1", "mail", 0.123456789, "2026-09-08"]'
    rows = ((i.to_bytes(32, "big"), body) for i in range(40_000))
    began = time.process_time()
    ledger.append_persons("assignment", {}, rows, at=AT)
    appended = time.process_time() - began
    assert ledger.verify().n_entries == 40_001
    # a fifth of them; generous, for a machine that does other things too
    assert appended < 4


def test_campaigns_share_a_database_and_nothing_in_it_is_altered_unnoticed(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    monkeypatch.setenv(VARIABLE, postgres)
    there, other = open_ledger(tmp_path / "c"), open_ledger(tmp_path / "other")
    filled(there)
    other.append("note", {}, at=AT)
    with psycopg.connect(postgres) as store, pytest.raises(psycopg.Error):
        store.execute("TRUNCATE hustings_ledger")
    with psycopg.connect(postgres) as store, pytest.raises(psycopg.Error):
        store.execute("DELETE FROM hustings_ledger")
    with psycopg.connect(postgres) as store:
        store.execute("ALTER TABLE hustings_ledger DISABLE TRIGGER ALL")
        store.execute("UPDATE hustings_ledger SET body = '{}' WHERE seq = 6")
    assert there.verify().fault.startswith("entry 6 (note")
    assert other.verify().fault == ""
