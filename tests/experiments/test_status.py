"""`hustings status`, the version, and words that are no command."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import hustings
from hustings.experiments.cli import app
from hustings.experiments.status import CampaignAddress
from hustings.serving.monitor.pauses import Pauses
from hustings.serving.reactions.store import FILE
from tests.experiments.test_plan_steps import AT, drafted
from tests.story import Story


def said(*words: str, code: int = 0, answers: str = "") -> str:
    result = CliRunner().invoke(app, list(words), input=answers)
    assert result.exit_code == code, result.output
    return result.output


def pasted(command: str, **how: Any) -> str:
    """What a command that was said says, run as it stands."""
    program, *words = shlex.split(command)
    assert program == "hustings"
    return said(*words, **how)


def next_command(page: str) -> str:
    """The command of the line `Next: ...`, which is the last."""
    following = re.fullmatch(r"Next: (.*?) \(.*\)", page.splitlines()[-1])
    assert following, page
    return following[1]


def due_commands(*where: str) -> list[str]:
    """Every command that `status` says."""
    return [
        one["command"] for one in json.loads(said("status", "--json", *where))["due"]
    ]


@pytest.fixture
def where(tmp_path: Path) -> tuple[str, ...]:
    return ("--campaign", "sample", "--data", str(tmp_path / "my runs"))


def test_before_anything_was_run_it_says_what_runs_it(where: tuple[str, ...]) -> None:
    page = said("status", *where)
    assert "hustings run --campaign sample" in page
    assert "Run:     none yet" in page
    assert "Alarms:  none" in page


def test_a_plan_waits_for_whom_its_state_says(
    where: tuple[str, ...], tmp_path: Path
) -> None:
    drafted(tmp_path / "my runs" / "sample")
    page = said("status", *where)
    assert "day1: draft of 8 contacts for 3.36 USD to approve" in page
    assert "waits for a named person" in page
    approved = pasted(due_commands(*where)[0], answers="y\n")
    assert approved.splitlines()[-1] == (
        f"Next: hustings plans lock day1 {shlex.join(where)} "
        "(approved, 8 contacts for 3.36 USD to lock)"
    )
    locked = pasted(next_command(approved))
    assert next_command(locked) == f"hustings export day1 {shlex.join(where)}"
    page = said("status", *where)
    assert "3.36 committed" in page
    sent = said("plans", "sent", "day1", *where)
    to_read = f"hustings results FILE --plan day1 {shlex.join(where)}"
    assert next_command(sent) == to_read
    # as far as the data are there: no option is refused, no other folder is read
    lacking = f"{Path(where[-1]) / 'sample'}: expected a run".replace(" ", "")
    (day,) = [command for command in due_commands(*where) if " day " in command]
    for command in (to_read, day):
        # an error is broken into lines
        assert lacking in "".join(pasted(command, code=3).split())
    stands = json.loads(said("status", "--json", *where))
    assert stands["spent_usd"] == pytest.approx(3.36)
    assert [one["waits_for"] for one in stands["due"][:1]] == ["the channels"]
    # the ledger's first entry is of a later day than this
    long_ago = json.loads(said("status", "--json", "--as-of", "2020-01-01", *where))
    assert long_ago["due"][0]["command"] == f"hustings run {shlex.join(where)}"
    assert long_ago["spent_usd"] == 0


def test_a_paused_message_is_an_alarm(where: tuple[str, ...], tmp_path: Path) -> None:
    drafted(tmp_path / "my runs" / "sample")
    pauses = Pauses.open(tmp_path / "my runs" / "sample" / FILE)
    pauses.pause("trade", reason="backlash", by="R. A.", at=AT)
    pauses.close()
    assert "ALARM:   trade: " in said("status", *where)


def test_a_run_stands_with_its_verdict(story: Story) -> None:
    where = ("--campaign", str(story.folder), "--data", str(story.run.home.parent))
    page = said("status", *where)
    evaluation = story.run.read_json("evaluation")
    assert evaluation["headline"]["sentence"] in page
    assert "Run:     first" in page
    budget = story.run.record().plan.budget_usd
    assert f"of {budget:,.2f} left" in page


def test_commands_of_models_are_said_with_the_store_of_the_run(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    # mlflow leaves the store of an earlier test in the environment
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home, store = story.run.home, story.run.store.resolve()
    address = CampaignAddress(str(story.folder), home.parent, Path(".mlflow"))
    said_of = f"--campaign {story.folder} --data {home.parent}"
    assert address.options == said_of
    assert address.with_store(home) == f"{said_of} --store {store}"
    there = said("runs", "list", "--json", *shlex.split(address.with_store(home)))
    assert json.loads(there)[0]["is_champion"]
    assert address._replace(default_store=store).with_store(home) == said_of


def test_runs_are_listed_with_verdict_and_the_champion_s_own_is_marked(
    story: Story,
) -> None:
    where = ("--campaign", str(story.folder), "--data", str(story.run.home.parent))
    store = ("--store", str(story.run.store))
    (row,) = json.loads(said("runs", "list", "--json", *where, *store))
    evaluation = story.run.read_json("evaluation")
    assert row["verdict"] == evaluation["headline"]["verdict"]
    assert (row["run"], row["is_latest"], row["is_champion"]) == ("first", True, True)
    assert row["began_at"].startswith(f"{story.run.at:%Y-%m-%dT%H:%M}")
    assert row["plan_id"] == story.run.record().plan_id
    assert row["model"] == "hustings-spread/1"
    line = said("runs", "list", *where, *store)
    assert line.rstrip().endswith("hustings-spread/1     latest, champion")


def test_a_campaign_without_runs_says_so(
    where: tuple[str, ...], tmp_path: Path
) -> None:
    store = ("--store", str(tmp_path / "mlflow"))
    assert "expected a run, found none" in said("runs", "list", *where, *store, code=3)


def test_a_day_that_is_none_is_refused(where: tuple[str, ...]) -> None:
    assert "--as-of as YYYY-MM-DD" in said("status", "--as-of", "8.9.", *where, code=2)


def test_the_version_is_the_package_s() -> None:
    assert said("--version") == f"hustings {hustings.__version__}\n"


@pytest.mark.parametrize(
    ("words", "meant"),
    [(["evalute"], "evaluate"), (["plans", "aprove"], "approve"),
     (["status", "--campain", "x"], "--campaign")],
)  # fmt: skip
def test_a_word_that_is_no_command_meets_the_one_that_was_meant(
    words: list[str], meant: str
) -> None:
    assert meant in said(*words, code=2)
