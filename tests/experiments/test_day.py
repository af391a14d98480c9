import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hustings.experiments.declaration import CampaignError, LoopSection
from hustings.experiments.loop.run_day import day_folder, run_day
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.plans.record import OPENING
from hustings.experiments.record import deliveries_so_far, designs_so_far
from hustings.features.tables import CONTROL

AT = pd.Timestamp("2026-09-08 06:00", tz="UTC")
FIRST = pd.Timestamp("2026-09-08")


@pytest.fixture(scope="module")
def run(story: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The story's run in a home of its own, with a loop declared."""
    home = tmp_path_factory.mktemp("loop") / "spread"
    shutil.copytree(story.run.home, home)
    loop = LoopSection(channels=["mail", "sms"], wave_voters=0, explore_share=0.2)
    campaign = story.run.campaign.model_copy(update={"loop": loop})
    folder = home / story.run.run_id
    return replace(story.run, campaign=campaign, home=home, folder=folder)


@pytest.fixture(scope="module")
def days(run: Any) -> list[dict[str, Any]]:
    return [
        run_day(run, date=FIRST + pd.Timedelta(days=k), at=AT + pd.Timedelta(days=k))
        for k in range(2)
    ]


def _rows(run: Any, k: int, name: str = "assignments") -> pd.DataFrame:
    folder = day_folder(run.home, FIRST + pd.Timedelta(days=k))
    if name in {"designs", "deliveries"}:
        folder = run.home / "loop" / folder.name
    return pd.read_parquet(folder / f"{name}.parquet")


def test_a_day_made_twice_is_one_day(run: Any, days: list[dict[str, Any]]) -> None:
    before = {p: p.read_bytes() for p in (run.home / "plans").rglob("*") if p.is_file()}
    head = open_ledger(run.home).head
    again = run_day(run, date=FIRST, at=AT + pd.Timedelta(days=9))
    assert again == days[0]
    assert {p: p.read_bytes() for p in before} == before
    assert open_ledger(run.home).head == head


def test_nobody_is_decided_on_two_days_and_the_money_holds(
    run: Any, days: list[dict[str, Any]]
) -> None:
    one, two = (_rows(run, k) for k in range(2))
    assert not set(one["voter_id"]) & set(two["voter_id"])
    plan = run.campaign.plan
    most = plan.spend_per_voter_usd * len(run.table("voters")) / plan.days
    for told, k in zip(days, range(2), strict=True):
        spent = _rows(run, k, "plan")["cost_usd"].sum()
        assert spent == pytest.approx(told["spent_usd"])
        assert 0 < spent <= most * (1 + 1e-9)


def test_the_holdout_of_the_days_is_that_of_the_campaign(
    run: Any,
    days: list[dict[str, Any]],  # noqa: ARG001 - made before
) -> None:
    planned = run.read("assignments").set_index("voter_id")["role"] == "holdout"
    for k in range(2):
        rows = _rows(run, k).set_index("voter_id")
        held = rows["role"] == "holdout"
        assert held.any()
        assert (held == planned.loc[held.index]).all()
        assert (rows.loc[held, "message_id"] == CONTROL).all()
        assert (rows.loc[held, "intended_message_id"] != CONTROL).all()


def test_a_day_cut_off_before_its_draft_comes_out_the_same(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "spread"
    left_out = shutil.ignore_patterns("plans", "ledger*")
    shutil.copytree(run.home, home, ignore=left_out)
    alone = replace(run, home=home, folder=home / run.run_id)

    def cut(*_args: Any, **_kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("hustings.experiments.loop.run_day.draft", cut)
        with pytest.raises(KeyboardInterrupt):
            run_day(alone, date=FIRST, at=AT)
    assert deliveries_so_far(home).empty
    assert run_day(alone, date=FIRST, at=AT)["state"] == "draft"
    entries = open_ledger(home).store.of_kind(OPENING)
    assert len(entries) == 1


def test_a_named_person_locks_the_day_once(
    run: Any,
    days: list[dict[str, Any]],  # noqa: ARG001 - made before
) -> None:
    told = run_day(run, date=FIRST, at=AT, approve_by="Dana Field")
    assert told["state"] == "locked"
    head = open_ledger(run.home).head
    assert run_day(run, date=FIRST, at=AT, approve_by="Dana Field") == told
    assert open_ledger(run.home).head == head


def test_the_days_are_a_randomised_experiment_that_ingest_reads(
    run: Any, days: list[dict[str, Any]]
) -> None:
    # a draft was sent to nobody
    assert len(deliveries_so_far(run.home)) < sum(d["n_assigned"] for d in days)
    for k in range(2):
        on = pd.Timedelta(days=k)
        run_day(run, date=FIRST + on, at=AT + on, approve_by="Dana Field")
    designs, deliveries = designs_so_far(run.home), deliveries_so_far(run.home)
    sums = designs.groupby("block")["probability"].sum()
    assert sums.to_numpy() == pytest.approx(np.ones(len(sums)))
    assert set(deliveries["block"]) <= set(sums.index)
    assert len(deliveries) == sum(d["n_assigned"] for d in days)
    assert deliveries["voter_id"].is_unique
    # a plan is one more randomised test, beside the one in the files
    tested = run.table("deliveries")["voter_id"]
    assert deliveries["voter_id"].isin(tested).any()


def test_days_go_forward_and_stay_within_the_campaign(
    run: Any,
    days: list[dict[str, Any]],  # noqa: ARG001 - made before
) -> None:
    with pytest.raises(CampaignError, match="expected a date of the campaign"):
        run_day(run, date=FIRST - pd.Timedelta(days=1), at=AT)
    shutil.rmtree(day_folder(run.home, FIRST))
    with pytest.raises(ValueError, match="expected days in order"):
        run_day(run, date=FIRST, at=AT)
