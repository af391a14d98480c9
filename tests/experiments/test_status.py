"""`hustings status`, the version, and words that are no command."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import hustings
from hustings.experiments.cli import app
from hustings.serving.monitor.pauses import Pauses
from hustings.serving.reactions.store import FILE
from tests.experiments.test_plan_steps import AT, drafted
from tests.story import Story


def said(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def where(tmp_path: Path) -> tuple[str, ...]:
    return ("--campaign", "sample", "--data", str(tmp_path))


def test_before_anything_was_run_it_says_what_runs_it(where: tuple[str, ...]) -> None:
    page = said("status", *where)
    assert "hustings run --campaign sample" in page
    assert "Run:     none yet" in page
    assert "Alarms:  none" in page


def test_a_plan_waits_for_whom_its_state_says(
    where: tuple[str, ...], tmp_path: Path
) -> None:
    drafted(tmp_path / "sample")
    page = said("status", *where)
    assert "day1: draft of 8 contacts for 3.36 USD to approve" in page
    assert "waits for a named person" in page
    approved = said("plans", "approve", "day1", "--by", "R. A.", "--yes", *where)
    assert approved.splitlines()[-1] == (
        "Next: hustings plans lock day1 --campaign sample "
        "(approved, 8 contacts for 3.36 USD to lock)"
    )
    locked = said("plans", "lock", "day1", *where)
    assert "Next: hustings export day1" in locked.splitlines()[-1]
    page = said("status", *where)
    assert "3.36 committed" in page
    sent = said("plans", "sent", "day1", *where)
    assert "Next: hustings results FILE --plan day1" in sent.splitlines()[-1]
    stands = json.loads(said("status", "--json", *where))
    assert stands["spent_usd"] == pytest.approx(3.36)
    assert [one["waits_for"] for one in stands["due"][:1]] == ["the channels"]
    # the ledger's first entry is of a later day than this
    long_ago = json.loads(said("status", "--json", "--as-of", "2020-01-01", *where))
    assert long_ago["due"][0]["command"] == "hustings run --campaign sample"
    assert long_ago["spent_usd"] == 0


def test_a_paused_message_is_an_alarm(where: tuple[str, ...], tmp_path: Path) -> None:
    drafted(tmp_path / "sample")
    pauses = Pauses.open(tmp_path / "sample" / FILE)
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
