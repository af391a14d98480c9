"""Forgetting: a search of every byte finds nobody, and the others keep what is theirs.

A small simulated campaign is read by the real stages; what later stages and other parts
would keep of a person is planted beside it, in every form in which it may lie.
"""

import gzip
import hashlib
import json
import shutil
import sqlite3
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from hustings.experiments import plans
from hustings.experiments.cli import MISSING, app
from hustings.experiments.declaration import load_campaign
from hustings.experiments.handover.evidence import write_evidence
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.plans.online import online_so_far
from hustings.experiments.plans.recorded_files import (
    checked,
    record_folders,
    record_outside,
)
from hustings.experiments.privacy import personal_data
from hustings.experiments.privacy.forget import (
    ErasureReport,
    erasure_text,
    forget,
    residue,
    resume,
)
from hustings.experiments.privacy.personal_data import CampaignStores
from hustings.experiments.privacy.show import held, held_text
from hustings.experiments.record import keep_answers
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.persons import (
    IDENTITY,
    known_persons,
    read_identity,
    voter_keys,
)
from hustings.experiments.stages.tables import stage_features, stage_ingest
from hustings.features.persons.keys import (
    KEYS,
    TOMBSTONES_COPY,
    Keyring,
    KeysError,
    Never,
    voter_key,
)
from hustings.serving.decisions import HandedOut, OnlineDecisions, microseconds
from hustings.serving.reactions.http import STORE_VARIABLE
from hustings.serving.reactions.payload import read_events
from hustings.serving.reactions.store import Events
from tests.experiments.drafts import whole

AT = pd.Timestamp("2026-09-02T08:00:00Z")
REACTOR, EMAIL = "fb-9f3a77c1", "Quentina.Zwickau@example.org"
FIRST, LAST = "Quentina", "Zwickau"
TEXT = "I once wrote this, says Quentina"


@dataclass(frozen=True)
class Planted:
    """A campaign that holds a person in every form, and what tells of the person."""

    run: Run
    voter_id: str
    mate: str
    key: bytes
    words: tuple[str, ...]

    @property
    def home(self) -> Path:
        return self.run.home

    @property
    def where(self) -> CampaignStores:
        return CampaignStores(self.run.campaign, self.home, self.run.store)

    def forget(self) -> ErasureReport:
        return forget(self.where, self.voter_id, at=AT, batch="b1")


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    base = tmp_path_factory.mktemp("forget")
    campaign = load_campaign("sample")
    assert campaign.simulate is not None
    campaign.simulate = campaign.simulate.model_copy(update={"n_voters": 600})
    home = base / "sample"
    run = Run(campaign, home, home / "r1", "r1", base / "mlflow", at=AT)
    stage_ingest(run)
    stage_features(run)
    return planted(run)


@pytest.fixture
def campaign(once: Planted, tmp_path: Path) -> Planted:
    """The campaign, to be spoilt."""
    home = tmp_path / "sample"
    shutil.copytree(once.home, home)
    store = tmp_path / "mlflow"
    store.mkdir()
    run = replace(once.run, home=home, folder=home / "r1", store=store)
    return replace(once, run=run)


def planted(run: Run) -> Planted:
    voters = run.table("voters")
    trained = set(run.read("training_set")["voter_id"])
    sizes = voters.groupby("household_id")["voter_id"].transform("size")
    known = voters["voter_id"].isin(trained) & voters["birth_year"].notna()
    alone = voters[(sizes == 1) & known & voters["postcode"].notna()].iloc[0]
    voter = str(alone["voter_id"])
    mate = str(voters[sizes == 2].iloc[0]["voter_id"])
    _tables(run, voters, alone)
    _texts(run, voter)
    _events(run.home, voter, mate)
    key = _ledger(run, voters, voter)
    digest = hashlib.sha256(EMAIL.lower().encode()).hexdigest()
    household = str(alone["household_id"])
    words = (voter, household, REACTOR, EMAIL, digest, TEXT, FIRST, LAST)
    return Planted(run, voter, mate, key, words)


def _tables(run: Run, voters: pd.DataFrame, person: pd.Series) -> None:
    raw, voter = run.home / "raw", str(person["voter_id"])
    others = voters.head(40)
    known = others.assign(
        first_name="Ann", last_name="Lee", email=others["voter_id"] + "@example.org"
    )
    mine = voters[voters["voter_id"] == voter].assign(
        first_name=FIRST, last_name=LAST, email=EMAIL
    )
    both = pd.concat([known[known["voter_id"] != voter], mine])
    both["email_sha256"] = [
        hashlib.sha256(e.lower().encode()).hexdigest() for e in both["email"]
    ]
    columns = ["voter_id", "first_name", "last_name", "birth_year", "postcode", "email",
               "email_sha256"]  # fmt: skip
    both[columns].to_parquet(raw / "identities.parquet", index=False)
    reactions = pd.read_parquet(raw / "reactions.parquet")
    reacted = reactions.head(2).assign(
        reaction_id=["x1", "x2"], person=[REACTOR, "other-account"],
        name=[None, f"{LAST.upper()}, {FIRST}"], birth_year=person["birth_year"],
        postcode=person["postcode"],
    )  # fmt: skip
    pd.concat([reactions, reacted]).to_parquet(raw / "reactions.parquet", index=False)
    run.write(
        "links",
        pd.DataFrame(
            {
                "reaction_person": [REACTOR, "fb-somebody", "fb-hardly"],
                "voter_id": [voter, str(others["voter_id"].iloc[1]), voter],
                "probability": [0.97, 0.9, 0.2],
            }
        ),
    )
    rows = pd.DataFrame(
        {"voter_id": voters["voter_id"], "lift__m": 0.5, "lift__n": 0.5}
    )
    run.write("scores", rows)
    plan = pd.DataFrame(
        {
            "voter_id": voters["voter_id"], "message_id": "m", "channel": "mail",
            "send_on": pd.Timestamp("2026-09-08"), "role": "plan",
        }
    )  # fmt: skip
    run.write("plan", plan)
    run.write("assignments", plan.drop(columns="send_on"))
    faults = [
        ("voters", 7, "age", "430", "too old"),
        ("voters", 7, "sex", "Q", "no sex"),
        ("deliveries", 9, "voter_id, experiment_id", f"{voter}, e", "duplicate"),
        ("deliveries", 9, "channel", "pigeon", "no channel"),
        ("deliveries", 10, "channel", "owl", "no channel"),
    ]
    columns = ["table", "row", "column", "value", "reason"]
    run.write("quarantine", pd.DataFrame(faults, columns=columns))
    whose = pd.DataFrame({"table": ["voters"], "row": [7], "voter_id": [voter]})
    run.write("quarantined_voters", whose)
    # what a run that was cut off leaves
    cut_off = run.home / ".r0.partial"
    cut_off.mkdir()
    plan.to_parquet(cut_off / "plan.partial")


def _texts(run: Run, voter: str) -> None:
    serving = run.home / "serving"
    serving.mkdir()
    never = Never.of(known_persons(run.home).keys.campaign_key, ["V9999999"])
    terms = {"odd": [voter, f"{voter}1"], "never": never.to_json()}
    (serving / "plan.json").write_text(json.dumps(terms))
    (run.folder / "report.html").write_text(f"<p>{voter}, {EMAIL}; 1.{voter[1:]}</p>")
    (run.home / "tuning.journal").write_text(f'{{"who": "{REACTOR}"}}\n')


def _events(home: Path, voter: str, mate: str) -> None:
    """An event store whose last rows are still in its journal only."""
    Events.open(home / "events.db").close()
    store = sqlite3.connect(home / "events.db", isolation_level=None)
    store.execute("PRAGMA wal_autocheckpoint = 0")
    hashed, other = "8c1f5e0b77aa", "1111222233aa"
    said = [(hashed, TEXT), (other, "well"), (None, "crowd"), (REACTOR, TEXT)] * 300
    store.executemany(
        "INSERT INTO reaction_events (event_id, platform, kind, occurred_at, "
        "received_at, count, person, text) VALUES (?, 'x', 'reply', 0, 0, 1, ?, ?)",
        [(f"e{i}", *row) for i, row in enumerate(said)],
    )
    store.executemany(
        "INSERT INTO withdrawals (voter_id, channel, at) VALUES (?, 'sms', 0)",
        [(voter,), (mate,)],
    )
    links = [(hashed, voter), (other, mate)]
    store.executemany("INSERT INTO person_links VALUES (?, ?)", links)
    store.executemany(
        "INSERT INTO reaction_quarantine (payload, reason, received_at) "
        "VALUES (?, 'odd', 0)",
        [(json.dumps({"voter": voter}),), ("{}",)],
    )
    # copied while open: closing would write the journal back
    for name in ("events.db", "events.db-wal"):
        shutil.copy(home / name, home / f"copy-{name}")
    store.close()
    for name in ("events.db", "events.db-wal"):
        (home / f"copy-{name}").replace(home / name)


def _ledger(run: Run, voters: pd.DataFrame, voter: str) -> bytes:
    identity = read_identity(run.home).set_index("voter_id")["person"]
    keys = known_persons(run.home).keys.keys()
    rows = [(keys[identity[v]], '["plan","m","mail"]') for v in voters["voter_id"]]
    head = open_ledger(run.home).append_persons("assignment", {}, rows, at=AT)
    run.note(ledger=head._asdict(), mlflow_run_id="m1")
    return keys[identity[voter]]


# --- an independent search ------------------------------------------------------------


def contents(path: Path) -> Iterator[bytes]:
    """A file's bytes, and those packed in it."""
    data = path.read_bytes()
    yield data
    if data.startswith(b"PAR1"):
        table = pq.read_table(path)
        yield str(table.schema.metadata).encode()
        for column in table.itercolumns():
            for chunk in column.chunks:
                yield "\n".join(map(str, chunk.to_pylist())).encode()
                if hasattr(chunk, "dictionary"):
                    yield "\n".join(map(str, chunk.dictionary.to_pylist())).encode()
    elif data.startswith(b"SQLite"):
        # its journal is a file of its own, and stays as it is
        copy = sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)
        yield "\n".join(copy.iterdump()).encode()
        copy.close()
    elif data.startswith(b"\x1f\x8b"):
        yield gzip.decompress(data)
    elif data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())


def traces(home: Path, words: tuple[str, ...]) -> dict[str, set[str]]:
    """Files that hold a word, not as the beginning of a longer id."""
    found: dict[str, set[str]] = {word: set() for word in words}
    for path in sorted(home.rglob("*")):
        for data in contents(path) if path.is_file() else ():
            for word in words:
                wanted = word.encode()
                rest = data.replace(wanted + b"1", b"") if word[0] == "V" else data
                if wanted in rest:
                    found[word].add(str(path.relative_to(home)))
    return found


def found_in(home: Path, word: str) -> set[str]:
    return traces(home, (word,))[word]


# --- what is gone ---------------------------------------------------------------------


def test_a_search_of_every_byte_finds_the_person_before_and_nothing_after(
    campaign: Planted,
) -> None:
    before = traces(campaign.home, campaign.words)
    assert all(before.values())
    assert len(before[campaign.voter_id]) > 15
    assert {"events.db-wal", "serving/plan.json", "r1/report.html"} <= before[
        campaign.voter_id
    ]
    told = campaign.forget()
    assert told.left == []
    after = traces(campaign.home, campaign.words)
    assert after == {word: set() for word in campaign.words}
    left = b"".join(p.read_bytes() for p in campaign.home.rglob("keys.db*"))
    assert campaign.key not in left


def test_the_endpoint_refuses_a_forgotten_person_by_a_digest(
    campaign: Planted,
) -> None:
    def never() -> list[bool]:
        terms = json.loads((campaign.home / "serving" / "plan.json").read_text())
        found = Never.from_json(terms["never"], voter_key(campaign.home))
        return found.holds(["V9999999", campaign.voter_id, campaign.mate]).tolist()

    assert never() == [True, False, False]
    campaign.forget()
    assert never() == [True, True, False]


def test_what_is_told_names_nobody(campaign: Planted) -> None:
    text = erasure_text(campaign.forget())
    assert not [word for word in campaign.words if word in text]
    assert "m by mail on 2026-09-08" in text


def rows_of_others(planted: Planted) -> dict[str, pd.DataFrame]:
    """Every table of the campaign without the person's rows, by file."""
    found = {}
    for path in sorted(planted.home.rglob("*.parquet")):
        frame = pd.read_parquet(path)
        if "voter_id" in frame:
            frame = frame[frame["voter_id"].astype("str") != planted.voter_id]
            frame["voter_id"] = frame["voter_id"].astype("str")
        name = str(path.relative_to(planted.home)).rsplit("-", 1)[0]
        found[name] = frame.reset_index(drop=True)
    return found


OWN_RULE = {
    "raw/reactions.parquet", "r1/features.parquet", "r1/quarantine.parquet",
}  # fmt: skip


def test_the_rows_of_all_others_are_unchanged(campaign: Planted) -> None:
    before = rows_of_others(campaign)
    campaign.forget()
    after = rows_of_others(campaign)
    assert set(before) == set(after)
    for name in set(before) - OWN_RULE:
        pd.testing.assert_frame_equal(before[name], after[name], obj=name)
    reactions = "raw/reactions.parquet"
    assert len(before[reactions]) == len(after[reactions]) + 2
    faults = after["r1/quarantine.parquet"]
    assert list(faults["value"]) == ["owl"]
    store = sqlite3.connect(campaign.home / "events.db")
    events = store.execute("SELECT text, count(*) FROM reaction_events GROUP BY 1")
    assert dict(events) == {"well": 300, "crowd": 300}
    for table in ("withdrawals", "person_links"):
        ids = store.execute(f"SELECT voter_id FROM {table}").fetchall()
        assert ids == [(campaign.mate,)]
    assert store.execute("SELECT payload FROM reaction_quarantine").fetchall() == [
        ("{}",)
    ]
    store.close()
    served = json.loads((campaign.home / "serving" / "plan.json").read_text())
    assert served["odd"] == ["(forgotten)", f"{campaign.voter_id}1"]


def test_features_still_stand_beside_the_rows_they_are_of(campaign: Planted) -> None:
    read = campaign.run.read
    mine = read("training_set")["voter_id"] != campaign.voter_id
    expected = read("features")[mine.to_numpy()].reset_index(drop=True)
    campaign.forget()
    assert len(read("training_set")) == len(expected)
    pd.testing.assert_frame_equal(read("features"), expected)


def test_who_lives_with_a_forgotten_person_keeps_everything(campaign: Planted) -> None:
    voters = campaign.run.table("voters").set_index("voter_id")["household_id"]
    household = voters[campaign.mate]
    (other,) = set(voters.index[voters == household]) - {campaign.mate}
    before = found_in(campaign.home, household)
    forget(campaign.where, other, at=AT, batch="b2")
    after = found_in(campaign.home, household)
    assert {n for n in after if "snapshots" not in n} == {
        n for n in before if "snapshots" not in n
    }
    left = campaign.run.table("voters")
    assert set(left.loc[left["household_id"] == household, "voter_id"]) == {
        campaign.mate
    }


# --- what stays -----------------------------------------------------------------------


def test_the_ledger_still_verifies_and_names_the_person_no_more(
    campaign: Planted,
) -> None:
    ledger, known = open_ledger(campaign.home), [open_ledger(campaign.home).head]
    assert len(ledger.of_person([campaign.key])) == 1
    n = ledger.head.seq
    told = campaign.forget()
    found = ledger.verify(known)
    assert (found.fault, found.n_entries) == ("", n + 1)
    assert told.ledger_seq == n + 1
    keys = known_persons(campaign.home).keys.keys()
    assert campaign.key not in keys.values()
    assert len(keys) == len(read_identity(campaign.home)["person"].unique())
    last = ledger.store.after(n, 1)[0]
    assert (last.kind, last.subject) == ("forgotten", None)


def again(planted: Planted) -> Run:
    run = replace(planted.run, folder=planted.home / "r2", run_id="r2")
    stage_ingest(run)
    return run


@pytest.mark.parametrize("drawn_anew", [False, True])
def test_the_next_file_brings_nobody_back(
    campaign: Planted, *, drawn_anew: bool
) -> None:
    campaign.forget()
    if drawn_anew:
        (campaign.home / "raw" / "simulated.json").unlink()
    run = again(campaign)
    assert found_in(campaign.home, campaign.voter_id) == set()
    assert campaign.voter_id not in set(read_identity(campaign.home)["voter_id"])
    assert len(run.table("voters")) == 599


def test_a_file_of_the_users_own_is_told_and_dropped_at_ingest(
    campaign: Planted, tmp_path: Path
) -> None:
    brought = tmp_path / "brought"
    brought.mkdir()
    raw = pd.read_parquet(campaign.home / "raw" / "voters.parquet")
    raw.to_parquet(brought / "voters.parquet")
    declared = campaign.run.campaign.model_copy(deep=True)
    source = declared.tables["voters"]
    moved = source.model_copy(update={"path": str(brought / "voters.parquet")})
    declared.tables["voters"] = moved
    outside = replace(campaign, run=replace(campaign.run, campaign=declared))
    digest = (brought / "voters.parquet").read_bytes()
    told = outside.forget()
    assert [(t["table"], t["rows"]) for t in told.outside] == [("voters", 1)]
    assert "delete the rows there" in erasure_text(told)
    assert (brought / "voters.parquet").read_bytes() == digest
    run = again(outside)
    report = run.read_json("ingest")["voters"]
    assert (report["rows_in"], report["forgotten"]) == (600, 1)
    assert report["accepted"] + report["quarantined"] + report["forgotten"] == 600
    assert found_in(campaign.home, campaign.voter_id) == set()


def test_keys_that_were_lost_bring_nobody_back(campaign: Planted) -> None:
    """The next ingest refuses; restored from the copy, it forgets as before."""
    campaign.forget()
    keys = campaign.home / KEYS
    keys.unlink()
    with pytest.raises(KeysError, match="hustings keys restore"):
        again(campaign)
    restored = by_command(campaign, "keys", "restore")
    assert restored.exit_code == 0, restored.output
    assert "599 persons have new keys" in restored.output
    again(campaign)
    assert found_in(campaign.home, campaign.voter_id) == set()
    verified = by_command(campaign, "verify")
    assert "599 keys of persons and" in verified.output, verified.output


def test_tombstones_that_the_ledger_has_seen_are_missed(campaign: Planted) -> None:
    """Store and copy from before the request, as a wrong backup has them."""
    before = {name: (campaign.home / name) for name in (KEYS, TOMBSTONES_COPY)}
    forget(campaign.where, "V7777777", at=AT, batch="b0")
    stored = {name: path.read_bytes() for name, path in before.items()}
    campaign.forget()
    for name, path in before.items():
        path.write_bytes(stored[name])
    with pytest.raises(KeysError, match="tombstones that the ledger has seen"):
        again(campaign)
    verified = by_command(campaign, "verify")
    assert verified.exit_code == 1
    assert "that the ledger has seen" in verified.output.replace("\n", " ")


def test_without_the_tombstone_the_next_file_does_bring_the_person_back(
    campaign: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Keyring, "bury", lambda *_args, **_kwargs: None)
    campaign.forget()
    (campaign.home / "raw" / "simulated.json").unlink()
    again(campaign)
    assert found_in(campaign.home, campaign.voter_id)


def test_who_is_on_no_file_gets_a_tombstone(campaign: Planted) -> None:
    told = forget(campaign.where, "V7777777", at=AT, batch="b3")
    assert (told.removed, told.left) == ({}, [])
    gone = known_persons(campaign.home).keys.forgotten()
    assert gone.rows(pd.DataFrame({"voter_id": ["V7777777", "V7777778"]})).tolist() == [
        True, False,
    ]  # fmt: skip


# --- what is cut off ------------------------------------------------------------------


class CutError(Exception):
    """The machine stops here."""


@pytest.mark.parametrize("at", [0, 1, 4, 9, 14])
def test_a_forget_that_was_cut_off_is_finished_by_the_next(
    at: int, campaign: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, n = Path.replace, 0

    def replace_or_stop(self: Path, target: Path) -> Path:
        nonlocal n
        n += self.name.endswith(personal_data.ASIDE)
        if n > at:
            raise CutError
        return whole(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace_or_stop)
        with pytest.raises(CutError):
            campaign.forget()
    keys = known_persons(campaign.home).keys
    assert keys.pending() == ["b1"]
    # it holds before anything else is done
    assert campaign.voter_id not in set(again(campaign).table("voters")["voter_id"])
    resume(campaign.where, at=AT)
    assert keys.pending() == []
    after = traces(campaign.home, campaign.words)
    assert after == {word: set() for word in campaign.words}
    assert len(campaign.run.read("features")) == len(campaign.run.read("training_set"))
    assert campaign.key not in keys.keys().values()
    assert open_ledger(campaign.home).verify().fault == ""


@pytest.mark.parametrize("step", ["destroy", "settle"])
def test_a_forget_cut_off_near_its_end_is_finished_too(
    step: str, campaign: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_args: Any, **_kwargs: Any) -> None:
        raise CutError

    with monkeypatch.context() as patch:
        patch.setattr(Keyring, step, stop)
        with pytest.raises(CutError):
            campaign.forget()
    resume(campaign.where, at=AT)
    assert known_persons(campaign.home).keys.pending() == []
    assert found_in(campaign.home, campaign.voter_id) == set()
    assert campaign.key not in known_persons(campaign.home).keys.keys().values()


# --- what else is looked at -----------------------------------------------------------


@pytest.mark.parametrize("packed", ["plain", "gzip", "zip", "parquet"])
def test_what_still_holds_the_person_is_named_and_keeps_the_request_open(
    packed: str, campaign: Planted
) -> None:
    path = campaign.run.store / f"artifact.{packed}"
    text = f"who: {campaign.voter_id}\n"
    if packed == "parquet":
        pd.DataFrame({"x": [text] * 9}).to_parquet(path)
    elif packed == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inside.txt", text * 100)
    else:
        data = text.encode()
        path.write_bytes(gzip.compress(data * 9) if packed == "gzip" else data)
    told = campaign.forget()
    assert told.left == [str(path)]
    assert known_persons(campaign.home).keys.pending() == ["b1"]
    path.unlink()
    resume(campaign.where, at=AT)
    assert known_persons(campaign.home).keys.pending() == []


def test_a_longer_id_or_the_decimals_of_a_number_are_no_trace(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"id": "V00000071", "x": 0.123456789}')
    assert residue([tmp_path], frozenset({"V0000007", "123456789"})) == []
    (tmp_path / "b.json").write_text('{"id": "V0000007"}')
    assert residue([tmp_path], frozenset({"V0000007"})) == [str(tmp_path / "b.json")]


def test_the_models_that_learnt_from_the_person_are_listed(
    campaign: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hustings.training.registry.register as register
    from hustings.training.registry.register import Version

    (campaign.run.store / "mlflow.db").write_bytes(b"")
    versions = [
        Version("hustings-sample", "1", "m0", {"hustings_run": "r0"}),
        Version("hustings-sample", "2", "m1", {"hustings_run": "r1"}),
    ]
    monkeypatch.setattr(register, "open_store", lambda *_: "")
    monkeypatch.setattr(register, "registered_versions", lambda _: versions)
    told = campaign.forget()
    assert [(m["version"], m["run"]) for m in told.trained] == [("2", "r1")]
    # whom no training set holds, no model learnt from
    rows, features = campaign.run.read("training_set"), campaign.run.read("features")
    others = (rows["voter_id"] != campaign.mate).to_numpy()
    campaign.run.write("features", features[others])
    campaign.run.write("training_set", rows[others])
    assert forget(campaign.where, campaign.mate, at=AT, batch="b4").trained == []


# --- an access request ----------------------------------------------------------------


def test_everything_held_on_a_person_is_shown_with_its_terms(campaign: Planted) -> None:
    found = held(campaign.where, campaign.voter_id)
    tables = {row["table"] for row in found["held"]}
    assert tables >= {
        "voters", "deliveries", "training_set", "features", "scores", "plan",
        "assignments", "links", "quarantine", "identities", "reactions", "identity",
        "reaction_events", "withdrawals", "person_links", "reaction_quarantine",
    }  # fmt: skip
    checked = next(r for r in found["held"] if r["file"] == "r1/tables/voters.parquet")
    assert checked["source"] == "simulated by features/sample.py"
    assert (checked["licence"], checked["permitted_use"]) == ("Apache-2.0", "any")
    assert [row["voter_id"] for row in checked["rows"]] == [campaign.voter_id]
    assert len(found["ledger"]) == 1
    assert found["handed_out"][0]["send_on"] == "2026-09-08"
    text = held_text(found)
    for word in (campaign.voter_id, EMAIL, TEXT, "Apache-2.0", "In the ledger"):
        assert word in text
    whole = json.dumps(found)
    assert campaign.mate not in whole
    assert "fb-somebody" not in whole


def test_nothing_is_held_once_a_person_is_forgotten(campaign: Planted) -> None:
    campaign.forget()
    found = held(campaign.where, campaign.voter_id)
    assert (found["held"], found["ledger"], found["handed_out"]) == ([], [], [])
    assert "Nothing is held" in held_text(found)
    assert (campaign.home / IDENTITY).exists()


# --- plans ----------------------------------------------------------------------------


def drafted(campaign: Planted) -> None:
    """A plan that sends the person and another a letter, locked and handed over."""
    contacts = pd.DataFrame(
        {
            "voter_id": [campaign.voter_id, campaign.mate], "message_id": "m",
            "channel": "mail", "send_on": pd.Timestamp("2026-09-08").as_unit("us"),
            "cost_usd": 0.5, "lift": 0.01, "propensity": 0.9, "role": "plan",
        }
    )  # fmt: skip
    drawn = contacts[["voter_id", "role", "message_id", "channel", "propensity"]]
    assigned = drawn.assign(intended_message_id="m", intended_channel="mail")
    plans.draft(
        campaign.home, "day1", whole(contacts, assigned),
        plans.PlanFacts("m/1", "us_default"),
        keys=voter_keys(campaign.home, contacts["voter_id"]), at=AT,
    )  # fmt: skip
    plans.approve(campaign.home, "day1", by="R. Approver", at=AT)
    plans.lock(campaign.home, "day1", at=AT)
    for batch, voters in plans.batches_of(campaign.home, "day1").items():
        plans.send(campaign.home, "day1", batch, voters, at=AT)


def test_a_person_leaves_plans_and_evidence_and_their_digests_still_hold(
    campaign: Planted,
) -> None:
    drafted(campaign)
    out = campaign.home / "evidence" / "day1"
    out.parent.mkdir()
    write_evidence(
        campaign.where.campaign, campaign.home, "day1", out, by_id=True, at=AT
    )
    found = held(campaign.where, campaign.voter_id)
    files = {row["file"] for row in found["held"]}
    assert {"plans/day1/plan.parquet", "plans/day1/assignments.parquet"} <= files
    told = {"plan": "day1", "state": "sent", "send_on": "2026-09-08"}
    assert told.items() <= found["handed_out"][-1].items()
    before = traces(campaign.home, campaign.words)[campaign.voter_id]
    assert "evidence/day1/recipients.csv" in before
    assert len([name for name in before if name.startswith("plans/day1/")]) == 3
    assert campaign.forget().left == []
    assert not traces(campaign.home, campaign.words)[campaign.voter_id]
    assert plans.plan_faults(campaign.home) == []
    assert open_ledger(campaign.home).verify().fault == ""
    kept = pd.read_parquet(campaign.home / "plans" / "day1" / "plan.parquet")
    assert kept["voter_id"].tolist() == [campaign.mate]
    assert plans.spent(campaign.home)["usd_spent"].sum() == 1.0


# --- lists and answers ----------------------------------------------------------------


def handed_over(campaign: Planted) -> None:
    """An export and a file of answers as their commands leave them."""
    drafted(campaign)
    ids = [campaign.voter_id, campaign.mate]
    lists = campaign.home / "exports" / "day1" / "20260902T080000Z"
    lists.mkdir(parents=True)
    text = "".join(f"{voter},1 Main St\n" for voter in ids)
    (lists / "mail-2026-09-08.csv").write_text(f"voter_id,address\n{text}")
    (lists / "manifest.json").write_text("{}")
    rows = pd.DataFrame(
        {"voter_id": ids, "channel": "mail", "since": pd.Timestamp("2026-09-08"),
         "reason": "moved"}
    )  # fmt: skip
    keep_answers(campaign.home, "day1", "ab" * 32, {"unreachable": rows}, {}, at=AT)
    record_folders(campaign.home, at=AT)


def test_lists_and_answers_lose_the_person_and_their_digests_still_hold(
    campaign: Planted,
) -> None:
    handed_over(campaign)
    assert checked(campaign.home).n_folders == 2
    campaign.forget()
    assert not traces(campaign.home, campaign.words)[campaign.voter_id]
    compared = checked(campaign.home)
    assert (compared.n_folders, compared.faults, compared.unchecked) == (2, [], [])
    (lists,) = (campaign.home / "exports").rglob("*.csv")
    assert campaign.mate in lists.read_text()
    # altered by anybody else, it is named
    lists.write_text(lists.read_text().replace("Main", "Side"))
    (fault,) = checked(campaign.home).faults
    assert fault.startswith("exports/day1/20260902T080000Z/mail-2026-09-08.csv")


def test_an_altered_list_is_not_explained_by_an_erasure(campaign: Planted) -> None:
    handed_over(campaign)
    (lists,) = (campaign.home / "exports").rglob("*.csv")
    lists.write_text(lists.read_text().replace("Main", "Side"))
    campaign.forget()
    (fault,) = checked(campaign.home).faults
    assert "altered" in fault


def test_what_the_ledger_does_not_name_is_said_to_be_unchecked(
    campaign: Planted, tmp_path: Path
) -> None:
    handed_over(campaign)
    late = campaign.home / "exports" / "day1" / "20260903T080000Z"
    late.mkdir()
    (late / "sms-2026-09-09.csv").write_text("voter_id\n")
    (tmp_path / "scores.csv").write_text("voter_id\n")
    record_outside(campaign.home, tmp_path, plan_id="", at=AT)
    compared = checked(campaign.home)
    assert compared.faults == []
    unnamed, outside = compared.unchecked
    assert unnamed.startswith("exports/day1/20260903T080000Z: the ledger holds no")
    assert "scores.csv" in outside
    (exported,) = campaign.forget().exported
    assert exported == {"on": "2026-09-02", "files": ["scores.csv"], "plan": ""}


def by_command(campaign: Planted, *words: str) -> Result:
    where = ("--campaign", "sample", "--data", str(campaign.home.parent))
    return CliRunner().invoke(app, [*words, *where])


def test_a_person_in_a_plan_is_forgotten_by_the_command_with_what_was_handed_out(
    campaign: Planted,
) -> None:
    handed_over(campaign)
    store = ("--store", str(campaign.run.store))
    done = by_command(campaign, "forget", campaign.voter_id, "--yes", *store)
    assert done.exit_code == 0, done.output
    said = " ".join(done.stderr.split())
    assert "plan day1, sent: m by mail on 2026-09-08 (plan)" in said
    assert "in exports/day1/20260902T080000Z/mail-2026-09-08.csv" in said
    data = campaign.home.parent
    serve = f"hustings serve --campaign sample --data {data}"
    assert f"restart `{serve}" in done.stdout
    assert not [word for word in campaign.words if word in done.output]
    assert by_command(campaign, "verify").exit_code == 0
    # a second call says what the first did, a third what both did
    for nth in (1, 2):
        again = by_command(campaign, "forget", campaign.voter_id, "--yes", *store)
        assert again.exit_code == 0, again.output
        assert again.stdout.count("Forgotten already on") == nth
    assert known_persons(campaign.home).keys.pending() == []


def test_what_was_handed_out_is_told_before_anything_is_deleted(
    campaign: Planted,
) -> None:
    drafted(campaign)

    def stop(report: ErasureReport) -> None:
        assert report.handed_out
        raise CutError

    with pytest.raises(CutError):
        forget(campaign.where, campaign.voter_id, at=AT, batch="b9", tell=stop)
    assert found_in(campaign.home, campaign.voter_id)
    assert known_persons(campaign.home).keys.pending() == []


# --- a store of events that is no file of the folder ----------------------------------


def said_in(store: str, voter: str, mate: str) -> None:
    """What two voters said and were sent, as the service keeps it."""
    events = Events.open(store)
    told = [
        event
        for who in (voter, mate)
        for event in (
            {"event_id": f"r-{who}", "kind": "reply", "platform": "sms",
             "voter_id": who, "message_id": "m", "text": "stop Elm Street",
             "occurred_at": "2026-08-01"},
            {"event_id": f"b-{who}", "kind": "ballot", "voter_id": who,
             "status": "returned", "dated": "2026-08-01"},
        )
    ]  # fmt: skip
    events.append(
        read_events(
            told,
            received_at=AT.to_pydatetime(),
            key=None,
            ballots_from=date(2026, 7, 1),
        )
    )
    at = pd.Timestamp("2026-08-01 11:00", tz="UTC")
    offers = [
        HandedOut(
            decision_id=who, voter_id=who, plan_id="", experiment_id="t", role="plan",
            message_id="m", channel="mail", propensity=1.0, arm_propensity=1.0,
            predicted_lift=0.1, model_version="m/1", cost_usd=0.6,
            decided_at=microseconds(at),
            expires_at=microseconds(at + pd.Timedelta(hours=1)),
        )
        for who in (voter, mate)
    ]  # fmt: skip
    decisions = OnlineDecisions.in_store_of(events)
    decisions.turn(lambda turn: turn.hand_out(offers, {}), at)
    decisions.report_sent([voter, mate], at)
    events.close()


def texts_of(store: str) -> str:
    """Every row of every table of a database, as another client reads it."""
    encoding = {"client_encoding": "utf8"} if store.startswith("postgresql") else {}
    engine = sa.create_engine(
        store.replace("postgresql:", "postgresql+psycopg:"), connect_args=encoding
    )
    with engine.connect() as connection:
        rows = [
            str(connection.execute(sa.text(f'SELECT * FROM "{name}"')).all())
            for name in sa.inspect(engine).get_table_names()
        ]
    engine.dispose()
    return "\n".join(rows)


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_a_store_of_events_elsewhere_is_shown_and_loses_the_person(
    campaign: Planted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    kind: str,
) -> None:
    address = f"sqlite:///{tmp_path}/elsewhere.db"
    if kind == "postgresql":
        address = request.getfixturevalue("postgres")
    monkeypatch.setenv(STORE_VARIABLE, address)
    voter, store = campaign.voter_id, ("--store", str(campaign.run.store))
    said_in(address, voter, campaign.mate)
    shown = json.loads(by_command(campaign, "show", voter, "--json", *store).stdout)
    rows = {row["table"]: row["rows"] for row in shown["held"] if kind in row["file"]}
    assert [row["status"] for row in rows["ballots"]] == ["returned"]
    assert [row["text"] for row in rows["wishes"]] == ["stop Elm Street"]
    assert {row["voter_id"] for row in rows["online_decisions"]} == {voter}
    paid_usd = online_so_far(campaign.home).sent_usd
    assert paid_usd == pytest.approx(1.2)
    # a store that does not answer: nothing is deleted anywhere
    nowhere = f"postgresql://reader@/name?host={tmp_path}"
    monkeypatch.setenv(STORE_VARIABLE, nowhere)
    refused = by_command(campaign, "forget", voter, "--yes", *store)
    assert refused.exit_code == MISSING
    said = " ".join(refused.output.split())
    assert "expected a database that answers, got OperationalError" in said
    assert known_persons(campaign.home).keys.pending() == []
    assert found_in(campaign.home, voter)
    monkeypatch.setenv(STORE_VARIABLE, address)
    done = by_command(campaign, "forget", voter, "--yes", *store)
    assert done.exit_code == 0, done.output
    assert "online_decisions: 1" in done.stdout
    left = texts_of(address)
    assert voter not in left
    assert campaign.mate in left
    # what was spent on the person stays spent
    assert online_so_far(campaign.home).sent_usd == pytest.approx(paid_usd)
    assert "Nothing is held" in by_command(campaign, "show", voter, *store).stdout
