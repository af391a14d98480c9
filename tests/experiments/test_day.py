"""Days of a campaign that begins with nothing: voters, messages, prices and beliefs.

The campaign is the shipped month, small: 2,400 simulated voters, three messages, a wave
on the first day, a day that waits for answers. Voters answer by the planted truth.
"""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments.cli import BAD_INPUT, app
from hustings.experiments.declaration import Campaign, CampaignError, load_campaign
from hustings.experiments.loop.run_day import NO_PLAN, DaySummary, run_day, terms_of
from hustings.experiments.loop.yesterday import NEVER, plan_of_day, yesterday
from hustings.experiments.plans import LIVE, PLANS, decided_so_far, plan_faults, plans
from hustings.experiments.plans.checks import decided
from hustings.experiments.plans.designs import Belief, designed
from hustings.experiments.plans.folder import one_command
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.plans.planner_inputs import tables_again
from hustings.experiments.record import decisions_so_far, designs_so_far
from hustings.experiments.simulation.month import LoopInWorld, simulated_run
from hustings.experiments.simulation.world import world_of
from hustings.experiments.stages.context import Run
from hustings.features.tables import CONTROL, NO_MODEL
from hustings.features.training_set import Arm
from hustings.serving.plan import PlanSettings, plan_contacts
from tests.experiments.commands import Commands

FIRST = pd.Timestamp("2026-09-08")
N = 2_400
SMALL = {
    "n_voters = 24_000": f"n_voters = {N}",
    "n_messages = 8": "n_messages = 3",
    "days = 30": "days = 8",
    "wave_days = 3": "wave_days = 1\nwave_voters = 250",
    "wait_days = 3": "wait_days = 1",
    "outcome_first_days = 2": "outcome_first_days = 1",
    "outcome_last_days = 6": "outcome_last_days = 2",
    '"sex", "party", "homeowner", "college", "children_at_home", "urbanicity"': (
        '"party", "homeowner"'
    ),
    'name = "30_days"': 'name = "small"',
}
SURVEY = """
[answers.survey]
path = "survey.csv"
source = "a panel"
licence = "its own"
permitted_use = "any"
"""


def small_text() -> str:
    """The declaration of the small campaign."""
    text = load_campaign("30_days").file.read_text()
    for shipped, small in SMALL.items():
        assert shipped in text
        text = text.replace(shipped, small)
    return text


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    folder = tmp_path_factory.mktemp("campaign") / "small"
    folder.mkdir()
    (folder / "campaign.toml").write_text(small_text() + SURVEY)
    return load_campaign(folder)


@pytest.fixture(scope="module")
def played(campaign: Campaign, tmp_path_factory: pytest.TempPathFactory) -> LoopInWorld:
    """Four days: the wave, one that waits, two that plan."""
    home = tmp_path_factory.mktemp("played") / "small"
    run = simulated_run(campaign, home, seed=campaign.campaign.seed)
    loop = LoopInWorld(run, world_of(run))
    for day in range(4):
        loop.play(day)
    return loop


@pytest.fixture
def after_wave(played: LoopInWorld, tmp_path: Path) -> Run:
    """A copy of the campaign on the morning of its fourth day, drafts and all."""
    home = tmp_path / "small"
    shutil.copytree(played.run.home, home)
    return replace(played.run, home=home, folder=home / played.run.run_id)


def rows_of(run: Run, day: int, name: str = "assignments") -> pd.DataFrame:
    plan = plan_of_day(FIRST + pd.Timedelta(days=day))
    return pd.read_parquet(run.home / PLANS / plan / f"{name}.parquet")


# --- from nothing, by commands alone --------------------------------------------------


def command(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_campaign_begins_from_nothing_by_commands_alone(
    campaign: Campaign, tmp_path: Path
) -> None:
    where = ["--campaign", str(campaign.folder), "--data", str(tmp_path)]
    command("ingest", *where)
    home = tmp_path / "small"
    power = command("power", *where)
    assert "what [loop] declares" in " ".join(power.split())
    told = command("day", *where, "--date", "2026-09-08", "--approve-by", "Ada Pell")
    assert "day-2026-09-08 (locked)" in told
    rows = pd.read_parquet(home / PLANS / "day-2026-09-08" / "assignments.parquet")
    assert set(rows["experiment_id"]) == {"small"}
    assert set(rows["model_version"]) == {NO_MODEL}
    assert set(rows["role"]) == {"explore"}
    sent = rows["message_id"] != CONTROL
    assert set(rows.loc[sent, "predicted_lift"]) == {2.0}
    assert set(rows.loc[~sent, "predicted_lift"]) == {0.0}
    assert "waits for answers" in command("day", *where, "--date", "2026-09-09")
    assert not (home / PLANS / "day-2026-09-09").exists()
    # everybody of the first message says more, by far
    best = sorted(set(rows["message_id"]) - {CONTROL})[0]
    value = 50.0 + 30.0 * (rows["message_id"] == best)
    survey = tmp_path / "survey.csv"
    pd.DataFrame(
        {"voter_id": rows["voter_id"], "outcome": "support", "value": value,
         "observed_at": "2026-09-09 12:00"}
    ).to_csv(survey, index=False)  # fmt: skip
    command("responses", *where, str(survey))
    told = command("day", *where, "--date", "2026-09-10", "--approve-by", "Ada Pell")
    assert "model daily/2026-09-10" in told
    assert f"{len(rows):,} outcomes" in told
    planned = pd.read_parquet(home / PLANS / "day-2026-09-10" / "plan.parquet")
    assert set(planned.query("role == 'plan'")["message_id"]) == {best}


def test_a_day_whose_draw_holds_out_nobody_is_refused_whenever_it_is_made(
    campaign: Campaign, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    text = campaign.file.read_text()
    assert text.count("\nholdout_share = 0.1\n") == 1
    share = text.replace("\nholdout_share = 0.1\n", "\nholdout_share = 1e-7\n")
    (small / "campaign.toml").write_text(share)
    where = ["--campaign", str(small), "--data", str(tmp_path / "data")]
    command("ingest", *where)
    expected = (
        "holdout_share: expected somebody of 2,400 voters (2,400 drawn apart) to be "
        "held out, got nobody by a share of 1e-07"
    )
    for words in (["check"], ["day", "--date", "2026-09-08"]):
        result = CliRunner().invoke(app, [*words, *where])
        assert result.exit_code == BAD_INPUT
        assert expected in " ".join(result.output.split())
    assert not (tmp_path / "data" / "small" / PLANS).exists()


def day_words(campaign: Campaign, data: Path) -> list[str]:
    """The command of the fifth day."""
    return [
        "day", "--campaign", str(campaign.folder), "--data", str(data),
        "--date", "2026-09-12", "--approve-by", "Ada Pell",
    ]  # fmt: skip


def test_two_days_at_once_are_one_day_and_the_other_command_is_refused(
    after_wave: Run, campaign: Campaign
) -> None:
    words = day_words(campaign, after_wave.home.parent)
    with one_command(after_wave.home, "day", at=after_wave.at):
        second = subprocess.run(
            [sys.executable, "-m", "hustings.experiments.cli", *words],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert second.returncode != 0
    assert "is at work" in second.stderr + second.stdout
    assert not (after_wave.home / PLANS / "day-2026-09-12").exists()


def test_a_day_that_is_killed_anywhere_is_made_once(
    after_wave: Run, campaign: Campaign, tmp_path: Path
) -> None:
    home = after_wave.home
    # the same day undisturbed, on a copy
    copy = home.parent / "copy" / "small"
    shutil.copytree(home, copy)
    rng = np.random.default_rng(8)
    with Commands(str(tmp_path / "said.txt")) as commands:
        began = time.monotonic()
        assert commands.done(*day_words(campaign, copy.parent)) == 0
        whole_s = time.monotonic() - began
        hit = 0
        # the later ones last: what has been made is not made again
        for part in np.sort(rng.uniform(0.0, 1.0, 10)):
            process = commands.begin(*day_words(campaign, home.parent))
            time.sleep(part * whole_s)
            hit += commands.kill(process)
        assert commands.done(*day_words(campaign, home.parent)) == 0
    assert hit >= 2
    assert open_ledger(home).verify().fault == ""
    assert plan_faults(home) == []
    assert decided_so_far(home)["voter_id"].is_unique
    one = pd.read_parquet(home / PLANS / "day-2026-09-12" / "assignments.parquet")
    same = pd.read_parquet(copy / PLANS / "day-2026-09-12" / "assignments.parquet")
    pd.testing.assert_frame_equal(one, same)


# --- what holds on every day ----------------------------------------------------------


def test_money_is_never_exceeded_and_nobody_is_decided_twice(
    played: LoopInWorld,
) -> None:
    run, terms = played.run, played.terms
    decided = decisions_so_far(run.home)
    assert decided["voter_id"].is_unique
    spent = [day.spent_usd for day in played.days]
    assert spent[0] > 0
    assert spent[1] == 0
    assert played.days[1].state == NO_PLAN
    assert all(usd > 0 for usd in spent[2:])
    for day in (2, 3):
        most = terms.money_on(sum(spent[:day]), day)
        assert rows_of(run, day, "plan")["cost_usd"].sum() <= most + 1e-9
    assert played.days[0].n_assigned == pytest.approx(250, rel=0.2)


def test_the_holdout_is_planned_as_a_shadow_and_sent_nothing(
    played: LoopInWorld,
) -> None:
    rows = pd.concat([rows_of(played.run, day) for day in (2, 3)])
    held = rows["role"] == "holdout"
    assert held.sum() > 5
    assert (rows.loc[held, "message_id"] == CONTROL).all()
    assert (rows.loc[held, "intended_message_id"] != CONTROL).all()


def test_propensities_follow_from_what_the_days_before_left_to_chance(
    played: LoopInWorld,
) -> None:
    run, h = played.run, played.terms.holdout_share
    free = np.prod([1 - played.days[day].explore for day in (0, 2)])
    rows, explore = rows_of(run, 3), played.days[3].explore
    assert rows["pool_probability"].to_numpy() == pytest.approx(free)
    planned = rows[rows["role"] == "plan"]
    expected = (1 - h) * free * (1 - explore)
    assert planned["propensity"].to_numpy() == pytest.approx(expected)
    assert (rows.loc[rows["role"] == "holdout", "propensity"] == h).all()
    sums = designs_so_far(run.home).groupby("block")["probability"].sum()
    assert sums.to_numpy() == pytest.approx(1.0)


def test_the_state_of_a_morning_is_read_from_the_plans(played: LoopInWorld) -> None:
    run, terms = played.run, played.terms
    ids = played.world.voter_id
    morning = FIRST + pd.Timedelta(days=4)
    before = yesterday(run.home, ids, terms, morning, at=morning)
    decided = decisions_so_far(run.home)
    position = pd.Series(np.arange(len(ids)), index=ids)
    at = position.loc[decided["voter_id"]].to_numpy()
    assert before.n_decisions.sum() == len(decided)
    day = (decided["decided_on"] - terms.start_on).dt.days.to_numpy()
    assert (before.last_day[at] == day).all()
    left = before.n_decisions == 0
    assert (before.last_day[left] == NEVER).all()
    free = np.prod([1 - played.days[k].explore for k in (0, 2, 3)])
    assert before.pool_probability[left] == pytest.approx(free)
    assert before.spent_usd == pytest.approx(sum(d.spent_usd for d in played.days))
    assert len(before.contacts) == sum(d.n_sent for d in played.days)


def test_a_day_made_twice_is_one_day_and_can_be_computed_again(
    played: LoopInWorld,
) -> None:
    run = played.run
    head = open_ledger(run.home).head
    again = run_day(run, date=FIRST, at=run.at + pd.Timedelta(days=9))
    assert replace(again, state=played.days[0].state) == played.days[0]
    assert open_ledger(run.home).head == head
    for day in (0, 2, 3):
        folder = run.home / PLANS / plan_of_day(FIRST + pd.Timedelta(days=day))
        pd.testing.assert_frame_equal(
            tables_again(folder)["assignments"], rows_of(run, day)
        )


def test_days_go_forward_and_stay_within_the_campaign(after_wave: Run) -> None:
    with pytest.raises(CampaignError, match="expected a date of the campaign"):
        run_day(after_wave, date=FIRST - pd.Timedelta(days=1), at=after_wave.at)
    later = FIRST + pd.Timedelta(days=5)
    run_day(after_wave, date=later, at=after_wave.at)
    with pytest.raises(ValueError, match="expected days in order"):
        run_day(after_wave, date=later - pd.Timedelta(days=1), at=after_wave.at)


def test_what_a_day_says_of_itself_is_read_back(played: LoopInWorld) -> None:
    for day in played.days:
        assert DaySummary.from_json(json.loads(json.dumps(day.to_json()))) == day


def test_what_was_assigned_has_the_frequency_that_its_design_says() -> None:
    """Many draws over one pool: observed less expected, in standard errors."""
    n, arms = 60, (Arm("a", "mail"), Arm("b", "mail"))
    rng = np.random.default_rng(1)
    value = np.column_stack([3 + rng.normal(size=n), 3 - rng.normal(size=n)])
    ids = np.array([f"v{i}" for i in range(n)], dtype=object)
    off, spread = np.zeros(3), np.zeros(3)
    for seed in range(40):
        held = np.random.default_rng([seed, 9]).random(n) < 0.2
        left, chance = np.arange(n), np.ones(n)
        for day in range(3):
            terms = PlanSettings("s", 0.2, 0.4, 12.0, FIRST, 1, {}, None)
            plan = plan_contacts(
                ids[left], ids[left], value[left], np.ones((len(left), 2), dtype=bool),
                arms, np.ones(2), terms, np.random.default_rng([seed, day]),
                held_voters=held[left], explore_odds=np.full((len(left), 2), 1 / 3),
                pool_probability=chance[left],
            )  # fmt: skip
            result = designed(
                plan, arms, Belief(("t", "t"), "m/1"), holdout=0.2, decided_only=True
            )
            design = result.designs.pivot_table(
                index="block", columns="message_id", values="probability",
                fill_value=0.0,
            )  # fmt: skip
            rows = result.assignments
            planned = rows[rows["intended_message_id"] != CONTROL]
            for k, of in enumerate(("nothing", "own", "other")):
                expected = _chance(planned, design, of)
                off[k] += (_got(planned, of) - expected).sum()
                spread[k] += (expected * (1 - expected)).sum()
            gone = np.isin(ids[left], rows["voter_id"].to_numpy(dtype=object))
            chance[left] *= 1.0 - plan.explored
            left = left[~gone]
    assert np.abs(off / np.sqrt(spread)).max() < 3.5


def _chance(rows: pd.DataFrame, design: pd.DataFrame, of: str) -> Any:
    table = design.loc[rows["block"]]
    intended = rows["intended_message_id"].to_numpy()
    if of == "nothing":
        return table[CONTROL].to_numpy()
    other = np.where(intended == "a", "b", "a")
    wanted = intended if of == "own" else other
    at = table.columns.get_indexer(pd.Index(wanted))
    return table.to_numpy()[np.arange(len(table)), at]


def _got(rows: pd.DataFrame, of: str) -> Any:
    sent, intended = rows["message_id"].to_numpy(), rows["intended_message_id"]
    if of == "nothing":
        return sent == CONTROL
    same = sent == intended.to_numpy()
    return same if of == "own" else ~same & (sent != CONTROL)


# --- every key of [loop] is obeyed ----------------------------------------------------


def made_under(run: Run, day: int, **changed: Any) -> pd.DataFrame | None:
    """Assignments of a day under a changed [loop]; None where nothing is planned."""
    assert run.campaign.loop is not None
    loop = run.campaign.loop.model_copy(update=changed)
    campaign = run.campaign.model_copy(update={"loop": loop})
    at = (FIRST + pd.Timedelta(days=day, hours=6)).tz_localize("UTC")
    summary = run_day(
        replace(run, campaign=campaign), date=FIRST + pd.Timedelta(days=day), at=at
    )
    return None if summary.state == NO_PLAN else rows_of(run, day)


@pytest.fixture(scope="module")
def fifth_day(played: LoopInWorld, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The fifth day as it is declared, with what the world had answered by then."""
    played.answer(4)
    home = tmp_path_factory.mktemp("fifth") / "small"
    shutil.copytree(played.run.home, home)
    run = replace(played.run, home=home, folder=home / played.run.run_id)
    return made_under(run, 4)


@pytest.mark.parametrize(
    "changed",
    [
        {"explore": "thompson", "explore_floor": 0.05},
        {"explore_share": 0.3},
        {"explore_half_life_days": 0.5},
        {"explore_least_share": 0.09},
        {"learn_from": "design"},
        {"retrain_every_days": 3},
        {"gate": "verdict"},
        {"front_load": 2.0},
        {"window_days": 1, "contacts_per_voter": 2},
        {"wait_days": 3},
        {"wave_days": 5},
        {"believed_lift": -3.0},
        {"believed_spread": 0.05},
        {"channels": ["sms"]},
        {"learner": "champion", "retrain_every_days": None},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_changed_key_changes_the_plan(
    played: LoopInWorld, fifth_day: Any, tmp_path: Path, changed: dict[str, Any]
) -> None:
    home = tmp_path / "small"
    shutil.copytree(played.run.home, home)
    run = replace(played.run, home=home, folder=home / played.run.run_id)
    if changed.get("learner") == "champion":
        with pytest.raises(CampaignError, match="expected a promoted model"):
            made_under(run, 4, **changed)
        return
    rows = made_under(run, 4, **changed)
    assert rows is None or not rows.equals(fifth_day)


def test_the_floor_of_thompson_odds_changes_the_plan(
    played: LoopInWorld, tmp_path: Path
) -> None:
    rows = []
    for floor in (0.02, 0.2):
        home = tmp_path / str(floor) / "small"
        shutil.copytree(played.run.home, home)
        run = replace(played.run, home=home, folder=home / played.run.run_id)
        rows.append(made_under(run, 4, explore="thompson", explore_floor=floor))
    assert rows[0] is not None
    assert not rows[0].equals(rows[1])


def test_the_wave_is_as_large_as_declared(campaign: Campaign, tmp_path: Path) -> None:
    sizes = []
    for wave in (120, 250):
        run = simulated_run(campaign, tmp_path / str(wave) / "small", seed=5)
        rows = made_under(run, 0, wave_voters=wave)
        assert rows is not None
        sizes.append(len(rows))
        assert len(rows) == pytest.approx(wave, rel=0.2)
    assert sizes[0] < sizes[1]


def test_what_is_sent_again_teaches_as_declared(
    campaign: Campaign, tmp_path: Path
) -> None:
    """Two contacts a voter: the second comes after the window, and `each` learns it."""
    assert campaign.loop is not None
    taught = {}
    for repeats in ("first", "each"):
        changed = {
            "window_days": 1, "contacts_per_voter": 2, "repeats": repeats,
            "front_load": 4.0,
        }  # fmt: skip
        loop = campaign.loop.model_copy(update=changed)
        again = campaign.model_copy(update={"loop": loop})
        run = simulated_run(again, tmp_path / repeats / "small", seed=5)
        world = LoopInWorld(run, world_of(run))
        for day in range(6):
            world.play(day)
        decided = decisions_so_far(run.home)
        days = decided.groupby("voter_id")["decided_on"]
        gap = days.diff().dropna()
        assert len(gap) > 0
        assert gap.min() >= pd.Timedelta(days=1)
        assert days.size().max() == 2
        taught[repeats] = world.days[-1].n_taught
    assert taught["each"] > taught["first"]


# --- the champion ---------------------------------------------------------------------


@pytest.mark.slow
def test_a_champion_is_trained_when_it_is_due_and_the_day_says_so(
    campaign: Campaign, tmp_path: Path
) -> None:
    assert campaign.loop is not None
    loop = campaign.loop.model_copy(
        update={"learner": "champion", "learn_from": "design", "retrain_every_days": 2}
    )
    run = simulated_run(
        campaign.model_copy(update={"loop": loop}), tmp_path / "small", seed=5
    )
    run = replace(run, model="linear", n_trials=1)
    world = LoopInWorld(run, world_of(run))
    for day in range(4):
        world.play(day)
    first, second = world.days[2:4]
    assert first.retrained == "20260910-retrained"
    assert first.model == "hustings-small/1"
    assert second.retrained == ""
    assert second.model == "hustings-small/1"
    assert (run.home / "latest").read_text().strip() == first.retrained
    assert len(decided(run.home, plans(run.home), LIVE)) > 0


def test_terms_are_those_of_the_voters(played: LoopInWorld) -> None:
    terms = terms_of(played.run)
    assert terms.budget_usd == pytest.approx(0.30 * N)
    assert terms.wave_voters == 250
