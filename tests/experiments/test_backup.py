"""A lost campaign comes back from its backup, and nobody forgotten does.

A small campaign begins by commands: a voter file, a first wave that is locked, an event
store that an endpoint has open.
"""

import json
import shutil
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from hustings.experiments.cli import BAD_INPUT, FAILED, app
from hustings.experiments.plans.backups import BACKED_UP, tombstones_beside
from hustings.experiments.plans.folder import LOCK, one_command
from hustings.experiments.plans.ledger import open_ledger
from hustings.features import atomic
from hustings.features.persons.keys import KEYS, TOMBSTONES_COPY
from hustings.serving.reactions.payload import EventBatch
from hustings.serving.reactions.store import Events
from hustings.training.registry.register import (
    champion_version,
    download,
    open_store,
)
from tests.experiments.test_day import SURVEY, small_text
from tests.story import Story

AT = pd.Timestamp("2026-09-08T08:00:00Z")
ACCOUNT = "8c1f5e0b77aa41d2"
"""Of a voter on a platform, as the store of events has accounts."""


@dataclass(frozen=True)
class Begun:
    """A campaign after its first day, and its backup.

    Attributes:
        folder: Of campaign.toml.
        data: Folder of runs.
        backups: Folder of the backup.
        voter: A voter of the locked plan, whom the event store knows, too.
        first: A backup that the ledger names and that was moved away since.
    """

    folder: Path
    data: Path
    backups: Path
    voter: str
    first: Path = Path()

    @property
    def home(self) -> Path:
        return self.data / "small"

    @property
    def backup(self) -> Path:
        (file,) = self.backups.glob("*.tar")
        return file

    def said(self, *words: str, code: int = 0) -> str:
        where = ["--campaign", str(self.folder), "--data", str(self.data)]
        store = ["--store", str(self.data / "mlflow")]
        has_store = words[0] in {"backup", "restore", "forget"}
        result = CliRunner().invoke(app, [*words, *where, *has_store * store])
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())

    def lose(self) -> None:
        shutil.rmtree(self.home)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Begun:
    base = tmp_path_factory.mktemp("backup")
    folder, backups = base / "declared" / "small", base / "backups"
    folder.mkdir(parents=True)
    backups.mkdir()
    (folder / "campaign.toml").write_text(small_text() + SURVEY)
    begun = Begun(folder, base / "data", backups, "")
    begun.said("ingest")
    begun.said("day", "--date", "2026-09-08", "--approve-by", "Ada Pell")
    rows = assignments(begun.home)
    begun = Begun(folder, base / "data", backups, str(rows["voter_id"].iloc[0]))
    with opened(begun.home) as events:
        people = pd.DataFrame({"person": [ACCOUNT], "voter_id": [begun.voter]})
        events.link(people)
        # its rows are in its journal alone: an endpoint is at work
        told = begun.said("backup", str(backups))
    assert "with checksums" in told
    assert "Not in it: campaign.toml" in told
    first = begun.backup
    first.rename(base / "moved.tar")
    return replace(begun, first=first)


@pytest.fixture
def begun(once: Begun, tmp_path: Path) -> Begun:
    """The same, to be spoilt: with a backup that is named by its ledger."""
    shutil.copytree(once.data, tmp_path / "data")
    (tmp_path / "backups").mkdir()
    copy = replace(once, data=tmp_path / "data", backups=tmp_path / "backups")
    copy.said("backup", str(copy.backups))
    return copy


def opened(home: Path) -> Any:
    return closing(Events.open(home / "events.db"))


def assignments(home: Path) -> pd.DataFrame:
    return pd.read_parquet(home / "plans" / "day-2026-09-08" / "assignments.parquet")


def files(home: Path) -> dict[str, bytes]:
    """What a campaign keeps, but for what a restore adds to it or writes anew."""
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file()
        and not path.name.startswith((".", "ledger.db", "events.db"))
        and path.name not in {KEYS, TOMBSTONES_COPY}
    }


def holding(home: Path, word: str) -> Iterator[str]:
    """Files that hold a word, in their bytes or in a column of a table."""
    for path in home.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if data.startswith(b"PAR1"):
                data = repr(pq.read_table(path).to_pydict()).encode()
            if word.encode() in data:
                yield str(path.relative_to(home))


def stop(home: Path, voter_id: str) -> None:
    with opened(home) as events:
        events.append(EventBatch(withdrawals=[stop_row(voter_id)]))


def stop_row(voter_id: str) -> dict[str, Any]:
    at = AT.value // 1_000
    return {"voter_id": voter_id, "person": "", "channel": "sms", "at": at,
            "event_id": f"stop-{voter_id}"}  # fmt: skip


def stopped(home: Path) -> set[str]:
    with opened(home) as events:
        return set(events.withdrawals()["voter_id"])


def digests_in(backup: Path) -> set[str]:
    rows = json.loads(tombstones_beside(backup).read_text())["tombstones"]
    return {digest for digest, *_ in rows}


def killed(*_args: object) -> None:
    raise KeyError("killed")


def named(home: Path) -> list[str]:
    entries = open_ledger(home).of_kind(BACKED_UP)
    return [json.loads(entry.body)["file"] for entry in entries]


def test_a_lost_campaign_comes_back_whole_and_goes_on(begun: Begun) -> None:
    assert begun.backup.stat().st_mode & 0o777 == 0o600
    before, day = files(begun.home), assignments(begun.home)
    begun.lose()
    told = begun.said("restore", str(begun.backup))
    assert "0 tombstones were set since: 0 rows" in told
    assert "as do the files of 1 plans" in begun.said("verify")
    assert files(begun.home) == before
    modes = {n: (begun.home / n).stat().st_mode & 0o077 for n in before}
    assert set(modes.values()) == {0}, modes
    assert not begun.home.stat().st_mode & 0o077
    with opened(begun.home) as events:
        links = pd.read_sql("SELECT * FROM person_links", events.engine)
    assert links.to_numpy().tolist() == [[ACCOUNT, begun.voter]]
    # the next days: everybody of the first message says more, by far
    best = sorted(set(day["message_id"]) - {"control"})[0]
    survey = begun.data / "survey.csv"
    value = 50.0 + 30.0 * (day["message_id"] == best)
    rows = {"voter_id": day["voter_id"], "outcome": "support", "value": value}
    pd.DataFrame({**rows, "observed_at": "2026-09-09 12:00"}).to_csv(survey)
    assert "waits for answers" in begun.said("day", "--date", "2026-09-09")
    begun.said("responses", str(survey))
    words = ("--date", "2026-09-10", "--approve-by", "Ada Pell")
    assert "model daily/2026-09-10" in begun.said("day", *words)
    assert "as do the files of 2 plans" in begun.said("verify")


def test_who_is_forgotten_after_a_backup_does_not_come_back_with_it(
    begun: Begun,
) -> None:
    # one copy with the tombstones of its day, and one that was moved without any
    stale, moved = begun.data / "stale.tar", begun.data / "moved.tar"
    shutil.copy(begun.backup, stale)
    shutil.copy(begun.backup, moved)
    shutil.copy(tombstones_beside(begun.backup), tombstones_beside(stale))
    earlier = begun.data / "earlier"
    shutil.copytree(begun.home, earlier)
    place = "plans/day-2026-09-08/assignments.parquet"
    assert place in set(holding(begun.home, begun.voter))
    told = begun.said("forget", begun.voter, "--yes")
    assert f"{begun.backup}: the person is in it, and is taken out" in told
    assert f"{begun.first}: it is no longer there" in told
    later = begun.data / "later.json"
    shutil.copy(begun.home / TOMBSTONES_COPY, later)
    # the keys are lost, the ledger is not: it has seen more tombstones
    for name in (KEYS, TOMBSTONES_COPY):
        (begun.home / name).unlink()
    before = files(begun.home)
    beside = tombstones_beside(begun.backup)
    beside.rename(begun.data / "hidden")
    told = begun.said("restore", str(stale), "--replace", code=FAILED)
    assert "tombstones that its ledger has seen" in told
    (begun.data / "hidden").rename(beside)
    assert files(begun.home) == before
    # all is lost, and nobody can know who was forgotten
    begun.lose()
    told = begun.said("restore", str(moved), code=FAILED)
    assert "the backup would bring them back" in told
    assert not list(begun.data.glob(".*"))
    assert not begun.home.exists()
    # the last has tombstones of its day beside it, and names a backup with later ones
    given = (
        (str(moved), "--tombstones", str(later)),
        (str(begun.backup),),
        (str(stale),),
    )
    for words in given:
        told = begun.said("restore", *words)
        assert "rows of these people are taken out again" in told
        assert "0 rows of these" not in told
        assert not list(holding(begun.home, begun.voter))
        # the backup's ledger had no entry of the request: now it has one, and holds
        assert " 0 tombstones hold" not in begun.said("verify")
        begun.lose()
    # a folder that knows of none of them takes none away
    earlier.rename(begun.home)
    tarred, digests = begun.backup, digests_in(begun.backup)
    tarred.unlink()
    begun.said("backup", str(tarred))
    assert digests_in(tarred) == digests
    assert digests


def test_an_altered_backup_is_named_and_replaces_nothing(begun: Begun) -> None:
    whole = begun.backup.read_bytes()
    at = whole.index(b"PAR1") + 100
    begun.backup.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    before = files(begun.home)
    told = begun.said("restore", str(begun.backup), "--replace", code=BAD_INPUT)
    assert "is not what was written, by its checksum" in told
    begun.backup.write_bytes(whole[: len(whole) // 2])
    told = begun.said("restore", str(begun.backup), "--replace", code=BAD_INPUT)
    assert "expected a backup as it was written" in told
    with tarfile.open(begun.backup, "w") as archive:
        archive.add(begun.folder / "campaign.toml", "campaign/../../campaign.toml")
    begun.said("restore", str(begun.backup), "--replace", code=BAD_INPUT)
    assert files(begun.home) == before


def test_nothing_is_replaced_unless_said_nor_while_somebody_is_at_work(
    begun: Begun,
) -> None:
    words = ("restore", str(begun.backup))
    assert "--replace" in begun.said(*words, code=BAD_INPUT)
    # a lock is a thread's
    with one_command(begun.home, "day", at=AT), ThreadPoolExecutor(1) as another:
        backup = ("backup", str(begun.data / "other.tar"))
        for given in ((*words, "--replace"), backup):
            told = another.submit(begun.said, *given, code=BAD_INPUT).result()
            assert "is at work" in told
    with opened(begun.home):
        told = begun.said(*words, "--replace", code=BAD_INPUT)
        assert "stop `hustings serve" in told
    begun.said("backup", str(begun.home / "inside.tar"), code=BAD_INPUT)
    begun.said("backup", str(begun.backup), code=BAD_INPUT)
    # an entry that the backup has not
    begun.said("backup", str(begun.data / "other.tar"))
    assert "no longer there: 1." in begun.said(*words, "--replace")
    begun.said("verify")


def test_a_restore_that_was_killed_is_removed_by_the_next_command(
    begun: Begun,
) -> None:
    left = begun.data / ".small.restore-0a1b2c3d.partial"
    left.mkdir()
    (left / LOCK).touch()
    (left / "voters.parquet").touch()
    begun.said("backup", str(begun.data / "other.tar"))
    assert not left.exists()


def test_who_stopped_since_the_backup_stays_stopped(begun: Begun) -> None:
    # the backup has one who stopped, the folder another: as after a store made anew
    early, late = assignments(begun.home)["voter_id"].iloc[[1, 2]]
    stop(begun.home, early)
    other = begun.data / "other.tar"
    begun.said("backup", str(other))
    (begun.home / "events.db").unlink()
    stop(begun.home, late)
    told = begun.said("restore", str(other), "--replace")
    assert "store of events of the folder that was there stays" in told
    assert stopped(begun.home) == {early, late}
    # damaged: the backup's is restored, and what is lost is said
    (begun.home / "events.db").write_bytes(b"damaged" * 1000)
    told = begun.said("restore", str(other), "--replace")
    assert "withdrawals (STOP), ballots, pauses" in told
    assert stopped(begun.home) == {early}


def test_a_backup_that_was_killed_is_known_and_swept(
    begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        # nothing is tidied up by a process that is gone
        patched.setattr(shutil, "rmtree", lambda *_args, **_given: None)
        patched.setattr(Path, "unlink", lambda *_args, **_given: None)
        patched.setattr("hustings.experiments.backup.archive._head", killed)
        begun.said("backup", str(begun.data / "killed.tar"), code=FAILED)
    assert list(begun.data.glob(".killed.tar.*"))
    begun.said("backup", str(begun.data / "other.tar"))
    assert not list(begun.data.glob(".killed.tar.*"))
    assert "killed.tar" in {Path(file).name for file in named(begun.home)}


def test_what_is_no_tar_is_refused_and_links_are_named(begun: Begun) -> None:
    told = begun.said("backup", str(begun.data / "nowhere"), code=BAD_INPUT)
    assert "expected a folder that is there, or a file that ends in .tar" in told
    (begun.home / "linked.csv").symlink_to(begun.folder / "campaign.toml")
    told = begun.said("backup", str(begun.data / "other.tar"))
    assert "linked.csv, a link to" in told


def test_a_linked_home_is_restored_where_it_leads(
    begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "RENAME_EXCHANGE", 1 << 30)  # no file system can
    there = begun.data.parent / "elsewhere"
    begun.home.rename(there)
    begun.home.symlink_to(there)
    before = files(there)
    begun.said("restore", str(begun.backup), "--replace")
    assert begun.home.is_symlink()
    assert files(there) == before
    assert not list(there.parent.glob(".*"))


def test_a_campaign_named_as_the_store_is_comes_back(begun: Begun) -> None:
    text = (begun.folder / "campaign.toml").read_text()
    folder = begun.data.parent / "mlflow"
    folder.mkdir()
    (folder / "campaign.toml").write_text(text.replace('"small"', '"mlflow"', 1))
    moved = replace(begun, folder=folder)
    (begun.data / "mlflow").mkdir(exist_ok=True)
    shutil.rmtree(begun.data / "mlflow")
    begun.home.rename(begun.data / "mlflow")
    before = files(begun.data / "mlflow")
    backup = begun.data / "named.tar"
    moved.said("backup", str(backup))
    shutil.rmtree(begun.data / "mlflow")
    moved.said("restore", str(backup))
    assert files(begun.data / "mlflow") == before


def test_the_champion_comes_back_in_another_place(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # MLflow notes there which store it was given last
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    data = tmp_path / "runs"
    shutil.copytree(story.run.home.parent, data)
    words = ["--campaign", str(story.folder), "--data", str(data)]
    store, moved = ["--store", str(story.run.store)], tmp_path / "elsewhere"
    backup = tmp_path / "spread.tar"
    home = data / story.run.home.name
    plan = (home / "first" / "plan.parquet").read_bytes()

    def said(*given: str) -> str:
        result = CliRunner().invoke(app, [*given, *words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    said("backup", str(backup), *store)
    shutil.rmtree(home)
    told = said("restore", str(backup), "--store", str(moved))
    assert "The MLflow store is restored, too." in told
    assert (home / "first" / "plan.parquet").read_bytes() == plan
    said("verify")
    open_store("", moved)
    version = champion_version(home.name)
    assert version is not None
    promoted = json.loads((home / "first" / "promoted.json").read_text())
    assert version.version == promoted["version"]
    # its files are those of the new place
    assert (download(version, tmp_path / "model") / "model.json").is_file()
