"""Keys and tombstones: who is recognised, who is not, and what is left of a key."""

import hashlib
import hmac
import sqlite3
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hustings.features.persons.keys import (
    KEYS,
    SCHEMA_VERSION,
    TOMBSTONES_COPY,
    Forgotten,
    Keyring,
    KeysError,
    digests,
    open_keys,
    restore_keys,
    voter_key,
)

P1, P2, P3 = "01" * 16, "01" * 15 + "ff", "fe" * 16
"""Two whose keys lie in one block, and one in another."""


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    found = open_keys(tmp_path / "keys.db")
    found.add([P1, P2])
    return found


def test_a_digest_is_the_hmac_that_anybody_with_the_key_can_make() -> None:
    key = hmac.digest(b"campaign", b"voter", "sha256")
    expected = hmac.digest(key, b"V001", "sha256")[:16].hex()
    assert digests(b"campaign", "voter", [" V001 "]) == [expected]


def test_keys_are_made_once_and_readable_by_their_owner_alone(keys: Keyring) -> None:
    before = keys.keys()
    keys.add([P1, P2, P3])
    assert open_keys(keys.path).campaign_key == keys.campaign_key
    after = keys.keys()
    assert {p: after[p] for p in before} == before
    assert len(set(after.values())) == 3
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600


def test_keys_of_some_persons_are_those_of_all(keys: Keyring) -> None:
    persons = [f"{i * 0x9E3779B97F4A7C15 % 2**128:032x}" for i in range(2_000)]
    keys.add(persons)
    keys.add(persons[:3])  # of two keys of a person the first holds
    everybody = keys.keys()
    some = persons[::7]
    assert keys.keys_of([*some, "f" * 32]) == {p: everybody[p] for p in some}
    assert keys.keys_of([]) == {}


def test_a_destroyed_key_is_nowhere_in_the_file(keys: Keyring) -> None:
    gone, stays = keys.keys()[P1], keys.keys()[P2]
    assert gone in keys.path.read_bytes()
    # drawn again, as after a run that was cut off: both keys go
    keys.add([P1])
    keys.destroy([P1])
    assert keys.keys() == {P2: stays}
    left = b"".join(path.read_bytes() for path in keys.path.parent.iterdir())
    assert gone not in left
    assert bytes.fromhex(P1) not in left


def test_keys_that_an_older_version_wrote_row_by_row_are_kept(keys: Keyring) -> None:
    with sqlite3.connect(keys.path) as store:
        store.execute("CREATE TABLE persons (person TEXT PRIMARY KEY, key BLOB)")
        store.execute("INSERT INTO persons VALUES (?, ?)", (P3, b"k" * 32))
    store.close()
    before = keys.keys()
    for _ in range(2):
        assert open_keys(keys.path).keys() == {**before, P3: b"k" * 32}
    keys.destroy([P3])
    assert b"k" * 32 not in keys.path.read_bytes()


def rows_of(keys: Keyring, frame: pd.DataFrame) -> list[bool]:
    return list(keys.forgotten().rows(frame))


def test_a_forgotten_id_is_recognised_however_it_is_padded(keys: Keyring) -> None:
    keys.bury([("voter", "V1")], batch="one")
    table = pd.DataFrame({"voter_id": ["V1", " V1 ", "V10", "v1", None]})
    assert rows_of(keys, table) == [True, True, False, False, False]


def test_a_reactor_is_recognised_by_address_hash_name_or_pseudonym(
    keys: Keyring,
) -> None:
    address = hashlib.sha256(b"ann@example.org").hexdigest()
    keys.bury(
        [("email", address), ("name", "ann lee\x1f1950\x1f48201"), ("reactor", "r7")],
        batch="one",
    )
    emails = pd.DataFrame({"email": ["Ann@Example.org ", "bob@example.org", None]})
    assert rows_of(keys, emails) == [True, False, False]
    assert rows_of(keys, pd.DataFrame({"email_sha256": [address]})) == [True]
    named = pd.DataFrame(
        {
            "name": ["Lee, Änn", "Ann Lee", "Ann Lee"],
            "birth_year": [1950.0, 1950.0, 1951.0],
            "postcode": ["48201", None, "48201"],
        }
    )
    assert rows_of(keys, named) == [True, False, False]
    assert rows_of(keys, pd.DataFrame({"person": ["r7", "r8"]})) == [True, False]


def test_a_blank_is_nobodys_key(keys: Keyring) -> None:
    # as a forgotten person's own rows would have them
    blank = [("reactor", ""), ("email", ""), ("name", "\x1f1950\x1f48201")]
    keys.bury(blank, batch="one")
    for column in ("person", "email"):
        assert rows_of(keys, pd.DataFrame({column: ["", " ", None]})) == [False] * 3
    nameless = {
        "name": ["", "-"],
        "birth_year": [1950, 1950],
        "postcode": ["48201"] * 2,
    }
    assert rows_of(keys, pd.DataFrame(nameless)) == [False, False]


def test_a_couple_that_shares_an_address_is_not_forgotten_together(
    keys: Keyring,
) -> None:
    keys.bury([("voter", "V1"), ("email", "cafe")], batch="one")
    table = pd.DataFrame({"voter_id": ["V1", "V2"], "email_sha256": ["cafe", "cafe"]})
    assert rows_of(keys, table) == [True, False]
    nobody_named = pd.DataFrame({"voter_id": [None], "email_sha256": ["cafe"]})
    assert rows_of(keys, nobody_named) == [True]


def test_known_keys_and_digests_recognise_the_same_rows(keys: Keyring) -> None:
    keys.bury([("voter", "V1"), ("voter", "V3")], batch="one")
    table = pd.DataFrame({"voter_id": [f"V{i}" for i in range(5)]})
    by_digest = keys.forgotten()
    known = Forgotten(
        by_digest.campaign_key, by_digest.digests, {"voter": frozenset({"V1", "V3"})}
    )
    assert list(known.rows(table)) == list(by_digest.rows(table))
    assert sum(known.rows(table)) == 2


def test_a_batch_is_pending_until_it_is_settled_and_holds_all_the_time(
    keys: Keyring,
) -> None:
    table = pd.DataFrame({"voter_id": ["V1"]})
    assert keys.pending() == []
    keys.bury([("voter", "V1")], batch="one")
    assert keys.pending() == ["one"]
    assert rows_of(keys, table) == [True]
    keys.settle("one")
    assert keys.pending() == []
    assert rows_of(keys, table) == [True]


def test_a_tombstone_tells_nobody_who_it_was(keys: Keyring) -> None:
    keys.bury([("voter", "V-secret-77")], batch="one")
    left = b"".join(path.read_bytes() for path in keys.path.parent.iterdir())
    assert b"V-secret-77" not in left
    other = Forgotten(b"another campaign", keys.forgotten().digests)
    assert not other.rows(pd.DataFrame({"voter_id": ["V-secret-77"]})).any()


# --- what is lost or damaged is an error and never an empty store ---------------------


def _buried(keys: Keyring) -> Keyring:
    keys.bury([("voter", f"V{i}") for i in range(40)], batch="one")
    keys.settle("one")
    return keys


def _answers(path: Path) -> object:
    """Everything that a store says; an error counts as one answer."""
    try:
        ring = open_keys(path, made_before=True)
        ring.check()
        return ring.campaign_key, ring.forgotten().digests, ring.keys(), ring.pending()
    except KeysError as refusal:
        said = str(refusal)
        return "refused" if path.name in said else said


def test_no_flipped_bit_changes_what_the_store_says(keys: Keyring) -> None:
    """A bit anywhere: an error, or no effect."""
    _buried(keys)
    expected, whole = _answers(keys.path), keys.path.read_bytes()
    rng, answers = np.random.default_rng(1), []
    for at in rng.integers(8 * len(whole), size=400):
        broken = bytearray(whole)
        broken[at // 8] ^= 1 << (at % 8)
        keys.path.write_bytes(bytes(broken))
        answers.append(_answers(keys.path))
    assert all(answer in ("refused", expected) for answer in answers)
    assert answers.count("refused") >= 20


def test_tombstones_that_were_taken_out_are_missed(keys: Keyring) -> None:
    _buried(keys)
    with sqlite3.connect(keys.path) as store:
        store.execute("DELETE FROM tombstones WHERE rowid = 7")
    store.close()
    with pytest.raises(KeysError, match=r"tombstones were lost or altered.*restore"):
        keys.forgotten()


def test_a_store_from_before_a_request_is_refused(keys: Keyring) -> None:
    before = keys.path.read_bytes()
    _buried(keys)
    keys.path.write_bytes(before)
    with pytest.raises(KeysError, match="40 tombstones of its copy are missing"):
        open_keys(keys.path).forgotten()


def test_a_store_that_has_gone_is_not_begun_anew(keys: Keyring) -> None:
    _buried(keys)
    keys.path.unlink()
    with pytest.raises(KeysError, match="found none; put it back from a backup"):
        open_keys(keys.path)
    keys.path.write_bytes(b"")
    with pytest.raises(KeysError, match="no key of the campaign"):
        voter_key(keys.path.parent)
    again = restore_keys(keys.path)
    names = {path.name for path in keys.path.parent.iterdir()}
    assert names == {"keys.db", TOMBSTONES_COPY}
    assert again.campaign_key == keys.campaign_key
    gone = pd.DataFrame({"voter_id": ["V1", "V41"]})
    assert rows_of(open_keys(keys.path), gone) == [True, False]
    # nobody was forgotten, but there are persons
    keys.path.unlink()
    keys.path.with_name(TOMBSTONES_COPY).unlink()
    with pytest.raises(KeysError, match="found none"):
        open_keys(keys.path, made_before=True)


def test_the_copy_is_private_and_checked_and_written_again(keys: Keyring) -> None:
    _buried(keys)
    copy = keys.path.with_name(TOMBSTONES_COPY)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    text = copy.read_text()
    copy.write_text(text.replace("voter", "votes", 1))
    with pytest.raises(KeysError, match=r"tombstones\.json: .* it was altered"):
        keys.forgotten()
    copy.unlink()
    keys.forgotten()
    assert copy.read_text() == text


def test_keys_of_a_later_version_are_refused_and_stay_as_they_are(
    tmp_path: Path,
) -> None:
    path = tmp_path / KEYS
    open_keys(path)
    store = sqlite3.connect(path)
    assert store.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    store.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    store.close()
    before = path.read_bytes()
    with pytest.raises(KeysError, match="a later version of Hustings"):
        open_keys(path, made_before=True)
    assert path.read_bytes() == before
