"""Facts of the pages about the present: week, measured lift and power.

Commands write these pages as files, the web app shows them: both gather here, and the
same function renders them.
"""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from hustings.experiments.lift.files import lift_so_far, sent_online
from hustings.experiments.plans import plans, spent
from hustings.experiments.plans.online import is_online
from hustings.experiments.power import (
    Power,
    facts_of,
    power,
    power_page,
    shares_compared,
    with_changes,
)
from hustings.experiments.report import WeekFacts
from hustings.experiments.report.lift_page import LiftFacts
from hustings.experiments.report.power_page import PowerPage
from hustings.experiments.report.words import titles_of
from hustings.experiments.results import LiftSummary
from hustings.experiments.stages.context import Run, latest
from hustings.experiments.stages.monitor_config import paused_messages
from hustings.experiments.week_facts import counted, week_facts

NOT_MEASURED = "nothing was measured yet; `hustings lift` measures"
_MONEY = {
    "usd_planned": "planned_usd",
    "usd_committed": "committed_usd",
    "usd_spent": "spent_usd",
}


def message_titles(run: Run) -> dict[str, str]:
    """Titles of the latest run's messages, of those that have one, by message."""
    name = latest(run.home)
    path = run.home / (name or "") / "tables" / "messages.parquet"
    if name is None or not path.exists():
        return {}
    return titles_of(pd.read_parquet(path))


# --- the week ---


def week_of(run: Run, last_on: pd.Timestamp, lift: LiftSummary | str) -> WeekFacts:
    """The facts of a campaign's week.

    Args:
        run: Declares the campaign and its folder.
        last_on: Last day of the week.
        lift: What is measured so far, or why nothing can be.

    Raises:
        FileNotFoundError: If nothing is planned.
    """
    states = {name: plan.state for name, plan in plans(run.home).items()}
    money = spent(run.home, run.at).rename(columns=_MONEY)
    facts = week_facts(
        run.home, run.campaign, last_on=last_on, paused=paused_messages(run),
        spend=_spend(money, states), states=states, lift=lift,
        titles=message_titles(run),
    )  # fmt: skip
    online = sent_online(run.home, last_on + pd.Timedelta(days=1))
    return replace(facts, missing=[*facts.missing, *online.sentences()])


def _spend(money: pd.DataFrame, states: dict[str, str]) -> pd.DataFrame | None:
    """Money of the plans that a week tells of, by day."""
    counted_plans = counted([Path(name) for name in states], states)
    counts = money["plan_id"].isin(counted_plans) | money["plan_id"].map(is_online)
    spend_of_week = money[counts.astype(bool) & (money["send_on"] != "")]
    return spend_of_week if len(spend_of_week) else None


# --- the lift ---


def lift_now(run: Run) -> LiftSummary | str:
    """The lift as it is known now, or why there is none.

    Args:
        run: The latest run.
    """
    try:
        return lift_so_far(run, run.at.tz_localize(None))[1]
    except FileNotFoundError as failure:
        return str(failure)


def lift_facts(run: Run, lift: LiftSummary) -> LiftFacts:
    """What the page of a measured lift shows."""
    declared = run.campaign
    return LiftFacts(
        declared.campaign.title, declared.outcome, message_titles(run), lift
    )


# --- the power ---


def power_of_run(run: Run, *, days: int, holdouts: tuple[float, ...]) -> Power:
    """The power of a campaign before it spends.

    Args:
        run: The latest run.
        days: Days that remain; 0 for the plan's.
        holdouts: Shares to compare; none for the usual and the plan's own.

    Raises:
        ValueError: If a holdout is not a share.
        CampaignError: If there is no test and [loop] declares no beliefs.
    """
    shares = shares_compared(run.campaign, holdouts)
    facts = with_changes(facts_of(run), days=days or None)
    return power(facts, holdouts=shares, seed=run.campaign.campaign.seed)


def power_facts(run: Run) -> PowerPage:
    """What the page of the power shows, for all days of the plan.

    Args:
        run: The latest run.
    """
    return power_page(power_of_run(run, days=0, holdouts=()), run.campaign)
