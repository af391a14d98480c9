"""A day of a campaign: what came in → lifts → plan → random draws → a plan's folder.

`run_day` is the only road to a day's plan: `hustings day` takes it, and a simulated
month takes it thirty times. The state before the day is read from the record of plans,
and what came of them from the answers that were handed in. A day that was made is read
and never made again; one that was cut off is made again from the same rows and seed.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hustings.experiments.declaration import CampaignError
from hustings.experiments.loop.answered import loop_experiment
from hustings.experiments.loop.declared import (
    LoopSettings,
    declared_loop,
    loop_settings,
)
from hustings.experiments.loop.explore import share_on, thompson_odds, uniform_odds
from hustings.experiments.loop.gate import Gate
from hustings.experiments.loop.learners import (
    LearnedLifts,
    Morning,
    arms_of,
    learner_of,
)
from hustings.experiments.loop.retrain import retrained
from hustings.experiments.loop.yesterday import Yesterday, plan_of_day, yesterday
from hustings.experiments.plans import (
    APPROVED,
    DRAFT,
    PLANS,
    PlanFacts,
    approve,
    draft,
    lock,
    record_of,
    unaltered_plans,
)
from hustings.experiments.plans.designs import Belief
from hustings.experiments.plans.diff import counties_of
from hustings.experiments.plans.folder import FolderTable, one_command, read_table
from hustings.experiments.plans.planner_inputs import (
    INPUTS,
    PlanInputs,
    designed_again,
    inputs_of,
    planned_again,
    tables_of,
)
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.declared import group_bounds, message_bounds
from hustings.experiments.stages.persons import IDENTITY, held_voters, voter_keys
from hustings.features.arrays import Bools, Floats, Ints
from hustings.features.stored import Stored
from hustings.features.training_set import arm_costs, household
from hustings.serving.plan import GroupBound, Plan, PlanSettings, require_holdout
from hustings.serving.plan.explain import limits_used

KEPT_AT_MOST = 50_000_000
"""Voters times arms up to which a day keeps its inputs, to be computed again."""
WAVE_SHARE = 0.95
"""Of the first wave's money, what its expected contacts may use: the rest is margin."""
NO_PLAN = "no plan"
"""State of a day on which nothing is planned."""


@dataclass(frozen=True)
class DaySummary(Stored):
    """Summary of a day: counts, money and probabilities, no ids.

    Attributes:
        plan_id: The day's plan.
        state: Where the plan stands; `NO_PLAN` where nothing is planned.
        date: The day.
        day: The same, from 0.
        phase: `wave`, `waits` or `sends`.
        model: Whose lifts are used, as name/version.
        explore: Probability to explore of a pool member who is not held out.
        n_pool: Voters who could be decided.
        n_assigned: Voters who were decided, the holdout's shadows included.
        n_sent: Contacts.
        n_explored: Voters drawn to explore, those who get nothing included.
        n_taught: Decisions whose outcomes taught the daily learner.
        spent_usd: Cost of the contacts.
        predicted_gain: Sum of the predicted lift of the contacts, outcome units.
        explore_cost: Predicted gain forgone: what the money that exploring spends would
            bring at the plan's own rate, less what exploring is predicted to bring.
        gate: Whether personalising was shown to pay; None where nobody asks.
        retrained: The run that was trained for this day; empty for none.
        n_online: Contacts so far that were sent online, planned by none.
        online_usd: Their money, which is taken off the budget.
        n_open_offers: Offers that are open online; nobody with one is planned.
        reserved_usd: Their money, which is taken off the budget until they expire.
        why_no_plan: In words, where nothing is planned.
    """

    plan_id: str
    state: str
    date: str
    day: int
    phase: str
    model: str = "none"
    explore: float = 0.0
    n_pool: int = 0
    n_assigned: int = 0
    n_sent: int = 0
    n_explored: int = 0
    n_taught: int = 0
    spent_usd: float = 0.0
    predicted_gain: float = 0.0
    explore_cost: float = 0.0
    gate: Gate | None = None
    retrained: str = ""
    n_online: int = 0
    online_usd: float = 0.0
    n_open_offers: int = 0
    reserved_usd: float = 0.0
    why_no_plan: str = ""


def run_day(
    run: Run, *, date: pd.Timestamp, at: pd.Timestamp, approve_by: str = ""
) -> DaySummary:
    """Make the day's plan, or read it where it was made.

    Args:
        run: The campaign's latest run, whose tables say who the voters are.
        date: The day.
        at: Now: answers that came in later do not count, and the ledger is dated by it.
        approve_by: Name of the person who answers for the plan, which is then locked;
            it stays a draft without.

    Returns:
        What the day came to.

    Raises:
        CampaignError: If the date is outside the campaign, or the loop cannot be run.
        LockedError: If another command is at work on the campaign.
        ValueError: If a later day was made already: days go forward.
        PlanStepError: If the plan cannot be approved or locked.
    """
    with one_command(run.home, "day", at=at):
        plan_id = plan_of_day(date)
        if plan_id not in unaltered_plans(run.home):
            summary = _planned_day(run, date=date, at=at)
            if summary.state == NO_PLAN:
                return summary
        record = record_of(run.home, plan_id)
        if approve_by and record.state == DRAFT:
            record = approve(run.home, plan_id, by=approve_by, at=at)
        if approve_by and record.state == APPROVED:
            record = lock(run.home, plan_id, at=at)
        return replace(day_summary(run.home / PLANS / plan_id), state=record.state)


def day_summary(folder: Path) -> DaySummary:
    """Read the summary of a day's plan."""
    stored = json.loads((folder / "terms.json").read_text())["terms"]
    return DaySummary.from_json({**stored, "state": DRAFT})


# --- making a day ---------------------------------------------------------------------


class _Request(NamedTuple):
    """A day's request to the planner.

    Attributes:
        value: Of every arm, 0 in a wave, shape (n, A).
        odds: Of every arm for a voter who explores, shape (n, A).
        money_usd: Of the day.
        share: Of the day's limits that is reserved to explore.
    """

    value: Floats
    odds: Floats
    money_usd: float
    share: float


def _planned_day(run: Run, *, date: pd.Timestamp, at: pd.Timestamp) -> DaySummary:
    """The day's plan as a draft; no plan where nothing is to be planned."""
    _refuse_fees(run)
    settings = terms_of(run)
    day = settings.day_of(date)
    phase = settings.phase(day)
    none = DaySummary(plan_of_day(date), NO_PLAN, f"{date:%Y-%m-%d}", day, phase)
    if phase == "waits":
        until = settings.start_on + pd.Timedelta(days=settings.first_planned_day)
        why = f"the campaign waits for answers to its first wave until {until:%Y-%m-%d}"
        return replace(none, why_no_plan=why)
    run, trained = retrained(run, settings, date, phase, at=at)
    morning = morning_of(run, settings, date, day, at)
    before = yesterday(run.home, _ids(morning), settings, date, at=at)
    none = _with_online(none, before)
    believed = learner_of(morning).believed(morning)
    pool = np.flatnonzero(before.in_pool(day, settings.loop))
    if believed is None or len(pool) == 0:
        why = "no outcome is in and no lift is believed, so there is nothing to plan by"
        return replace(
            none, n_pool=len(pool), retrained=trained,
            why_no_plan=why if believed is None else "every voter has been decided",
        )  # fmt: skip
    held = _held(morning)
    request = _request_of(morning, before, believed, pool, held)
    inputs = _inputs(morning, before, believed, request, pool, held)
    plan = planned_again(inputs)
    summary = _summary(none, plan, believed, pool, trained)
    return _drafted(morning, inputs, plan, summary, at)


def _with_online(summary: DaySummary, before: Yesterday) -> DaySummary:
    """The summary with what was sent and is offered online."""
    online = before.online
    return replace(
        summary, n_online=len(online.paid), online_usd=online.sent_usd,
        n_open_offers=len(online.open), reserved_usd=online.reserved_usd,
    )  # fmt: skip


def terms_of(run: Run) -> LoopSettings:
    """Terms of a campaign's loop over the voters of a run."""
    arms = arms_of(run, declared_loop(run.campaign).channels)
    return loop_settings(
        run.campaign, n_voters=len(voters_of(run)), n_arms=len(arms),
        mean_cost_usd=float(arm_costs(run.table("costs"), arms).mean()),
    )  # fmt: skip


def voters_of(run: Run) -> pd.DataFrame:
    """VOTERS of a run; read once in a process while the file stays as it is."""
    return read_table(run.folder / "tables" / "voters.parquet")


def morning_of(
    run: Run, settings: LoopSettings, date: pd.Timestamp, day: int, at: pd.Timestamp
) -> Morning:
    """Inputs of a learner on the morning of a day."""
    drawn = run.table("deliveries")["randomised_by"]
    return Morning(
        run, voters_of(run), arms_of(run, settings.loop.channels),
        loop_experiment(run, run.campaign.campaign.name), settings, date, day, at,
        by_household=bool((drawn != "person").any()),
    )  # fmt: skip


def _refuse_fees(run: Run) -> None:
    """Fees, minimum orders and places are of a whole plan: a day would pay them anew.

    Raises:
        CampaignError: If any is declared.
    """
    plan = run.campaign.plan
    if plan.channels or plan.minimum_audience:
        raise CampaignError(
            f"{run.campaign.file}, [plan]: expected no set-up fees, minimum orders or "
            "minimum audiences in a campaign that is planned day by day: they hold for "
            "a whole plan (`hustings plan`)"
        )
    if plan.places is not None:
        raise CampaignError(
            f"{run.campaign.file}, [plan.places]: expected no whole places in a "
            "campaign that is planned day by day, whose draws are of persons; plan "
            "them by `hustings plan`, in a campaign of their own"
        )


def _ids(morning: Morning) -> Any:
    return morning.voters["voter_id"].to_numpy(dtype=object)


def _held(morning: Morning) -> Bools:
    """Whether each voter is held out; computed once for a file and its identities."""
    run, voters, path = morning.run, morning.voters, morning.run.home / IDENTITY
    written = path.stat().st_mtime_ns if path.exists() else 0
    key = (run.folder, written, morning.by_household, morning.settings.salt)
    unit = household(voters) if morning.by_household else voters["voter_id"]
    if key not in _HELD:
        _HELD.clear()
        _HELD[key] = held_voters(
            run.home, voters, unit.to_numpy(dtype=object),
            by_household=morning.by_household, salt=morning.settings.salt,
            share=morning.settings.holdout_share,
        )  # fmt: skip
    require_holdout(_HELD[key], unit.to_numpy(), morning.settings.holdout_share)
    return _HELD[key]


_HELD: dict[tuple[Path, int, bool, str], Bools] = {}


def _request_of(
    morning: Morning,
    before: Yesterday,
    believed: LearnedLifts,
    pool: Ints,
    held: Bools,
) -> _Request:
    """Values and odds of the pool, money and share to explore."""
    settings, offer = morning.settings, believed.offer
    loop, allowed = settings.loop, offer.allowed[pool]
    odds = uniform_odds(allowed)
    if loop.explore == "thompson":
        rng = np.random.default_rng([settings.seed, morning.day, 1])
        odds = thompson_odds(
            believed.segment_draws(rng), believed.segment[pool], allowed,
            floor=loop.explore_floor,
        )  # fmt: skip
    if settings.phase(morning.day) == "wave":
        # a wave plans nothing; its money is what the expected contacts cost
        free = ~held[pool]
        each = float((odds[free] @ offer.cost).mean())
        wanted = each * settings.wave_voters / loop.wave_days / WAVE_SHARE
        money = min(wanted, max(settings.budget_usd - before.spent_usd, 0.0))
        return _Request(np.zeros_like(odds), odds, money, WAVE_SHARE)
    money = settings.money_on(before.spent_usd, morning.day)
    share = share_on(loop, morning.day - settings.first_planned_day)
    return _Request(offer.value[pool], odds, money, share)


def _inputs(
    morning: Morning,
    before: Yesterday,
    believed: LearnedLifts,
    request: _Request,
    pool: Ints,
    held: Bools,
) -> PlanInputs:
    """The arguments of the planner for the pool of a day."""
    settings, offer, run = morning.settings, believed.offer, morning.run
    ids = _ids(morning)[pool]
    caps, floors, bounds = _limits(morning, before, offer.arms, pool)
    costs = run.table("costs").dropna(subset="capacity_per_day")
    capacity = costs.groupby("channel")["capacity_per_day"].max()
    used = {arm.channel for arm in offer.arms}
    taken, in_all = before.online.taken_on(morning.date), settings.capacity_per_day
    plan_terms = PlanSettings(
        salt=settings.salt,
        holdout_share=settings.holdout_share,
        explore_share=request.share,
        budget_usd=request.money_usd,
        start_on=morning.date,
        days=1,
        capacity={
            str(c): max(float(n) - taken.get(str(c), 0), 0.0)
            for c, n in capacity.items()
            if c in used
        },
        capacity_per_day=None
        if in_all is None
        else max(in_all - sum(taken.values()), 0),
        caps=caps,
        floors=floors,
    )
    return inputs_of(
        ids, ids, request.value, offer.allowed[pool], offer.arms, offer.cost,
        plan_terms, [settings.seed, morning.day],
        Belief(offer.experiment_of_arm, offer.model_version),
        decided_only=True, bounds=bounds, held_voters=held[pool],
        explore_odds=request.odds, predicted=offer.lift[pool],
        pool_probability=before.pool_probability[pool],
    )  # fmt: skip


def _limits(
    morning: Morning, before: Yesterday, arms: Any, pool: Ints
) -> tuple[dict[str, float], dict[str, float], tuple[GroupBound, ...]]:
    """What messages and groups may still get: their limits less what they have had.

    Least numbers are spread over the days that are left; shares hold on each day.
    """
    days_left = max(morning.settings.days - morning.day, 1)
    had = before.contacts["message_id"].value_counts()
    caps, floors = message_bounds(morning.run, arms, 1.0)
    caps = {m: max(n - float(had.get(m, 0)), 0.0) for m, n in caps.items()}
    floors = {
        m: float(np.ceil(max(n - float(had.get(m, 0)), 0.0) / days_left))
        for m, n in floors.items()
    }
    bounds = []
    for bound in group_bounds(morning.run, morning.voters, 1.0):
        so_far = float(bound.members[before.contacts["voter"]].sum())
        most = None if bound.most is None else max(bound.most - so_far, 0.0)
        bounds.append(bound._replace(members=bound.members[pool], most=most))
    return caps, floors, tuple(bounds)


def _summary(
    none: DaySummary,
    plan: Plan,
    believed: LearnedLifts,
    pool: Ints,
    trained: str,
) -> DaySummary:
    contacts, rows = plan.contacts, plan.assignments
    explored = (contacts["role"] == "explore").to_numpy()
    cost, lift = contacts["cost_usd"].to_numpy(), contacts["lift"].to_numpy()
    planned_usd = float(cost[~explored].sum())
    rate = float(lift[~explored].sum()) / planned_usd if planned_usd else 0.0
    forgone = rate * float(cost[explored].sum()) - float(lift[explored].sum())
    return replace(
        none,
        state=DRAFT,
        model=believed.offer.model_version,
        explore=float(plan.explored),
        n_pool=len(pool),
        n_sent=len(contacts),
        n_explored=int((rows["role"] == "explore").sum()),
        n_taught=believed.n_taught,
        spent_usd=float(cost.sum()),
        predicted_gain=float(lift.sum()),
        explore_cost=forgone if planned_usd else 0.0,
        gate=believed.gate,
        retrained=trained,
    )


def _drafted(
    morning: Morning,
    inputs: PlanInputs,
    plan: Plan,
    summary: DaySummary,
    at: pd.Timestamp,
) -> DaySummary:
    """The day's plan as a draft, with its ledger's entries."""
    run, settings = morning.run, morning.settings
    result = designed_again(inputs, plan)
    summary = replace(summary, n_assigned=len(result.assignments))
    keeps_inputs = len(inputs) * plan.limits.use.shape[1] <= KEPT_AT_MOST
    stated = summary.to_json()
    del stated["state"]
    facts = PlanFacts(
        model=summary.model,
        rule_set=run.campaign.campaign.rule_set,
        terms={
            **stated,
            "holdout_share": settings.holdout_share,
            "seed": settings.seed,
            "limits": [
                limit.to_json()
                for limit in limits_used(plan.limits, plan.over_everybody, plan.left())
            ],
            "audiences": {"pool": inputs.terms} if keeps_inputs else {},
        },
        prices={
            plan.limits.name_of(k): float(price)
            for k, price in enumerate(plan.over_everybody.price)
        },
        run_id=run.run_id,
        budget_usd=settings.budget_usd,
        window_days=settings.loop.window_days,
    )
    further_tables: dict[str, FolderTable] = {}
    further_tables |= counties_of(morning.voters, plan.contacts)
    if keeps_inputs:
        further_tables[f"{INPUTS}pool"] = inputs.frames()
    draft(
        run.home, summary.plan_id, tables_of([(plan.contacts, result)]), facts,
        keys=voter_keys(run.home, result.assignments["voter_id"]), at=at,
        further_tables=further_tables,
    )  # fmt: skip
    return summary
