"""A day of a campaign on its own files: what came in → plan → lots → a plan's folder.

What the loop did before is read from the folders of its plans, and what came of it from
the responses that were handed in. A day that was made is read and never made again; one
that was cut off is made again from the same rows and seed, and comes out the same.

A plan's folder (`plans/`) holds plan, assignments and terms. Beside it (`loop/`) stands
the same day as an experiment: designs and deliveries, whose blocks carry the chances of
everybody who was decided, so that the next training reads it like any other test.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hustings.experiments.declaration import CampaignError
from hustings.experiments.loop.decisions import (
    EXPLORE,
    HOLDOUT,
    Audience,
    Decisions,
    State,
)
from hustings.experiments.loop.decisions import PLAN as PLANNED
from hustings.experiments.loop.declared import declared_loop, loop_terms
from hustings.experiments.loop.explore import share_on, uniform_odds
from hustings.experiments.loop.one_day import (
    NO_LIMITS,
    Asked,
    Day,
    DayLimits,
    Learned,
    LoopTerms,
    assign_day,
    money_on,
    plan_terms,
)
from hustings.experiments.plans import PLANS, Facts, approve, draft, lock
from hustings.experiments.plans.designs import Belief, arm_codes, designed, is_decided
from hustings.experiments.plans.planner_inputs import (
    INPUTS,
    PlanInputs,
    inputs_of,
    tables_of,
)
from hustings.experiments.plans.record import APPROVED, CANCELLED, DRAFT, REJECTED
from hustings.experiments.plans.steps import record_of
from hustings.experiments.stages.contacts import promoted
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.declared import (
    group_bounds,
    message_bounds,
)
from hustings.experiments.stages.offers import campaign_offer, moment_of
from hustings.experiments.stages.persons import held_voters, voter_keys
from hustings.features.arrays import Bools, Ints
from hustings.features.training_set import Arm, household
from hustings.serving.offer import Offer
from hustings.serving.plan.explain import bindings
from hustings.training.learners.daily import Moments

Json = dict[str, Any]

KEPT_AT_MOST = 50_000_000
"""Voters times arms up to which a day keeps its inputs, to be computed again."""
_CODES = {"plan": PLANNED, "explore": EXPLORE, "holdout": HOLDOUT}


@dataclass(frozen=True)
class DayOffer:
    """What the campaign can send to whom on a day, and what that is worth.

    Attributes:
        audience: Everybody who may be campaigned to.
        offer: Lifts, values and permissions of the audience.
        voters: VOTERS, in the order of the audience.
    """

    audience: Audience
    offer: Offer
    voters: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def experiment_id(self) -> str:
        """Whose outcomes the lifts are in."""
        return self.offer.experiment_of_arm[0]

    @property
    def belief(self) -> Belief:
        """Experiments of the arms, and the model."""
        return Belief(self.offer.experiment_of_arm, self.offer.model_version)


class AskedOfPool(NamedTuple):
    """What the planner is asked on a day, and of whom.

    Attributes:
        pool: Positions of who may be decided, shape (n_pool,).
        asked: Values and odds of the pool, money, share to explore.
    """

    pool: Ints
    asked: Asked


def run_day(
    run: Run, *, date: pd.Timestamp, at: pd.Timestamp, approve_by: str = ""
) -> Json:
    """Make the day's plan, or read it where it was made.

    Args:
        run: The campaign's latest run, whose champion's lifts are used.
        date: The day.
        at: Now, for the ledger.
        approve_by: Who answers for the plan, by name, which is then locked; it stays a
            draft without.

    Returns:
        The terms of the plan: counts, money, chances; no ids. And its state.

    Raises:
        CampaignError: If the date is outside the campaign, or the loop cannot be run.
        ValueError: If a later day was made already: days go forward.
        LifeError: If the plan cannot be approved or locked.
    """
    folder = day_folder(run.home, date)
    if not (folder / "terms.json").exists():
        offer = offered(run, date=date, at=at)
        terms = _terms(run, offer, date)
        state, spent = past_state(run.home, offer.audience, terms, before=date)
        day = (date - terms.start_on).days
        asked = asked_on(terms, offer, state, spent_usd=spent, day=day)
        limits = limits_on(run, offer, state, asked.pool, terms.days - day)
        made = planned_day(terms, offer, state, asked, day=day, limits=limits)
        inputs = inputs_on(terms, offer, state, asked, day=day, limits=limits)
        _drafted(folder, run, offer, terms, made, date, at, inputs)
    record = record_of(run.home, folder.name)
    if approve_by and record.state == DRAFT:
        record = approve(run.home, folder.name, by=approve_by, at=at)
    if approve_by and record.state == APPROVED:
        record = lock(run.home, folder.name, at=at)
    return {**day_terms(folder), "state": record.state}


def day_terms(folder: Path) -> Json:
    """What a day's plan was made from, and what it came to."""
    told: Json = json.loads((folder / "terms.json").read_text())["terms"]
    return told


def day_folder(home: Path, date: pd.Timestamp) -> Path:
    """The folder of a day's plan."""
    return home / PLANS / f"day-{date:%Y-%m-%d}"


def offered(run: Run, *, date: pd.Timestamp, at: pd.Timestamp) -> DayOffer:
    """Voters, arms, permissions and the champion's lifts of a run.

    Args:
        run: The campaign's latest run.
        date: The day.
        at: Now: the law asks about the later of both.

    Raises:
        CampaignError: If several experiments measure the campaign's outcome: their
            lifts are in units of their own.
    """
    loop = declared_loop(run.campaign)
    model, version = promoted(run)
    if len(model.lifts) != 1:
        raise CampaignError(
            f"{run.campaign.file}: expected one experiment for a loop, got "
            f"{', '.join(model.lifts)}; lifts of several are in units of their own"
        )
    (name,) = model.lifts
    voters = run.table("voters")
    if not any(arm.channel in loop.channels for arm in model.arms[name]):
        raise CampaignError(
            f"[loop].channels: expected channels of the experiment, got {loop.channels}"
        )
    _refuse_fees(run)
    by_household = bool((run.table("deliveries")["randomised_by"] != "person").any())
    found, _, _ = campaign_offer(
        run, model, voters, (name,), at=moment_of(date, at), by_household=by_household,
        model_version=f"{version.name}/{version.version}", channels=loop.channels,
    )  # fmt: skip
    audience = Audience(
        voter_id=found.voter_id,
        household=pd.factorize(household(voters))[0],
        phi=np.zeros((len(voters), 0)),
        segment=np.zeros(len(voters), dtype=np.int64),
        held=_held(run, voters),
        allowed=found.allowed,
        arms=found.arms,
        cost=found.cost,
    )
    return DayOffer(audience, found, voters)


def _refuse_fees(run: Run) -> None:
    """Fees and minimum orders are of a whole plan: a day would pay them anew.

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


def _held(run: Run, voters: pd.DataFrame) -> Bools:
    by_household = bool((run.table("deliveries")["randomised_by"] != "person").any())
    unit = household(voters) if by_household else voters["voter_id"]
    return held_voters(
        run.home, voters, unit.to_numpy(dtype=object), by_household=by_household,
        salt=_salt(run), share=run.campaign.plan.holdout_share,
    )  # fmt: skip


def _salt(run: Run) -> str:
    return f"{run.campaign.campaign.name}-{run.campaign.campaign.seed}"


def _terms(run: Run, offer: DayOffer, date: pd.Timestamp) -> LoopTerms:
    audience = offer.audience
    terms = loop_terms(
        run.campaign, n_voters=len(audience), n_arms=len(audience.arms),
        mean_cost_usd=float(audience.cost.mean()), salt=_salt(run),
        seed=run.campaign.campaign.seed,
    )  # fmt: skip
    last = terms.start_on + pd.Timedelta(days=terms.days - 1)
    if not terms.start_on <= date <= last:
        raise CampaignError(
            f"expected a date of the campaign, {terms.start_on:%Y-%m-%d} to "
            f"{last:%Y-%m-%d}, got {date:%Y-%m-%d}; [plan].start_on and days say so"
        )
    costs = run.table("costs").dropna(subset="capacity_per_day")
    capacity = costs.groupby("channel")["capacity_per_day"].max()
    used = {a.channel for a in audience.arms}
    limits = {str(c): float(n) for c, n in capacity.items() if c in used}
    # a test came before: the champion's lifts stand in for a first wave
    return replace(terms, wave_voters=0, capacity=limits)


def asked_on(
    terms: LoopTerms, offer: DayOffer, state: State, *, spent_usd: float, day: int
) -> AskedOfPool:
    """Who is in the pool of a day, and what the planner is asked of them.

    Args:
        terms: Of the loop.
        offer: Audience and lifts.
        state: Who was decided before.
        spent_usd: So far, whoever was forgotten since included.
        day: From 0.
    """
    audience = offer.audience
    pool = np.flatnonzero(
        state.in_pool(
            day, window_days=terms.window_days, contacts=terms.contacts_per_voter
        )
    )
    asked = Asked(
        offer.offer.value[pool], uniform_odds(audience.allowed[pool]),
        money_on(terms, spent_usd, day), share_on(terms.exploring, day),
        offer.offer.lift[pool],
    )  # fmt: skip
    return AskedOfPool(pool, asked)


def planned_day(
    terms: LoopTerms,
    offer: DayOffer,
    state: State,
    asked: AskedOfPool,
    *,
    day: int,
    limits: DayLimits = NO_LIMITS,
) -> Day:
    """Plan, lots and decisions of a day by known lifts."""
    nothing = Learned(None, Moments.nothing(0, 0), np.zeros(0, dtype=bool))
    return assign_day(
        terms, offer.audience, state, nothing, asked.pool, asked.asked, day, limits
    )


def limits_on(
    run: Run, offer: DayOffer, state: State, pool: Ints, days_left: int
) -> DayLimits:
    """What messages and groups may still get: their limits less what they have had.

    Least numbers are spread over the days that are left; shares hold on each day.
    """
    audience, made = offer.audience, state.decisions
    sent = made.arm > 0
    message = np.array([arm.message_id for arm in audience.arms])
    had = pd.Series(message[made.arm[sent] - 1]).value_counts()
    caps, floors = message_bounds(run, audience.arms, 1.0)
    caps = {m: max(n - float(had.get(m, 0)), 0.0) for m, n in caps.items()}
    floors = {
        m: float(np.ceil(max(n - float(had.get(m, 0)), 0.0) / max(days_left, 1)))
        for m, n in floors.items()
    }
    bounds = []
    for bound in group_bounds(run, offer.voters, 1.0):
        so_far = float(bound.members[made.voter[sent]].sum())
        most = None if bound.most is None else max(bound.most - so_far, 0.0)
        bounds.append(bound._replace(members=bound.members[pool], most=most))
    return DayLimits(caps, floors, tuple(bounds))


def inputs_on(
    terms: LoopTerms,
    offer: DayOffer,
    state: State,
    asked: AskedOfPool,
    *,
    day: int,
    limits: DayLimits,
) -> PlanInputs | None:
    """What the day was computed from, kept with it; None where that is too large."""
    pool, audience = asked.pool, offer.audience
    if asked.asked.value.size > KEPT_AT_MOST:
        return None
    ids = audience.voter_id[pool]
    return inputs_of(
        ids, ids, asked.asked.value, audience.allowed[pool], audience.arms,
        audience.cost, plan_terms(terms, asked.asked, day, limits), [terms.seed, day],
        offer.belief,
        decided_only=True, bounds=limits.bounds, held_voters=audience.held[pool],
        explore_odds=asked.asked.odds, predicted=offer.offer.lift[pool],
        pool_probability=state.pool_probability[pool],
    )  # fmt: skip


# --- what was before ---


def past_state(
    home: Path, audience: Audience, terms: LoopTerms, *, before: pd.Timestamp
) -> tuple[State, float]:
    """The loop's state from the folders of its days, and the money spent.

    Args:
        home: The campaign's folder.
        audience: Present voters; rows of others (forgotten since) are left out.
        terms: Of the loop: who was in the pool of a day.
        before: Days before this one.

    Raises:
        ValueError: If a later day was made already.
    """
    state, spent = State.new(audience), 0.0
    position = pd.Series(np.arange(len(audience)), index=audience.voter_id)
    for folder in sorted((home / PLANS).glob("day-*")):
        # nobody of a plan that ended before it was sent was decided
        if record_of(home, folder.name).state in (REJECTED, CANCELLED):
            continue
        told = day_terms(folder)
        date = pd.Timestamp(told["date"])
        if date > before:
            raise ValueError(
                f"expected days in order: {date:%Y-%m-%d} was made already, got "
                f"{before:%Y-%m-%d}; its pool would not be the one that was drawn from"
            )
        pool = state.in_pool(
            int(told["day"]), window_days=terms.window_days,
            contacts=terms.contacts_per_voter,
        )  # fmt: skip
        state = _after(state, folder, told, position, audience.arms, pool)
        spent += float(told["spent_usd"])
    return state, spent


def _after(
    state: State,
    folder: Path,
    told: Json,
    position: pd.Series,
    arms: tuple[Arm, ...],
    pool: Bools,
) -> State:
    rows = pd.read_parquet(folder / "assignments.parquet")
    rows = rows[rows["voter_id"].isin(position.index)]
    k = len(rows)
    voter = position.loc[rows["voter_id"]].to_numpy(dtype=np.int64)
    before = np.bincount(state.decisions.voter, minlength=len(state.pool_probability))
    made = Decisions(
        voter=voter,
        day=np.full(k, int(told["day"])),
        role=np.array([_CODES[r] for r in rows["role"]], dtype=np.int64),
        arm=arm_codes(rows["message_id"], rows["channel"], arms),
        intended=arm_codes(rows["intended_message_id"], rows["intended_channel"], arms)
        - 1,
        # what teaches is read from designs and deliveries; the pool needs none of it
        design=np.full((k, 1 + len(arms)), np.nan),
        propensity=rows["propensity"].to_numpy(dtype=np.float64),
        repeat=before[voter],
    )
    chance = np.where(pool, 1.0 - float(told["explore"]), 1.0) * state.pool_probability
    chance[voter] = 1.0
    return state.decided(made, chance)


# --- what is written ---


def _drafted(
    folder: Path,
    run: Run,
    offer: DayOffer,
    terms: LoopTerms,
    made: Day,
    date: pd.Timestamp,
    at: pd.Timestamp,
    inputs: PlanInputs | None,
) -> None:
    """The day's plan as a draft, with its ledger's entries."""
    assert made.plan is not None
    result = designed(
        made.plan, offer.audience.arms, offer.belief, holdout=terms.holdout_share
    )
    assigned = result.assignments
    assigned = assigned[is_decided(assigned)].reset_index(drop=True)
    tables = tables_of([(made.plan.contacts, result._replace(assignments=assigned))])
    limits = made.plan.limits
    facts = Facts(
        model=offer.offer.model_version,
        rule_set=run.campaign.campaign.rule_set,
        terms={
            "plan_id": folder.name,
            "date": f"{date:%Y-%m-%d}",
            **made.record._asdict(),
            "holdout_share": terms.holdout_share,
            "seed": terms.seed,
            "model": offer.offer.model_version,
            "n_assigned": len(assigned),
            "limits": [
                limit.told()
                for limit in bindings(limits, made.plan.whole, made.plan.left())
            ],
            "audiences": {} if inputs is None else {"pool": inputs.terms},
        },
        prices={
            limits.name_of(k): float(price)
            for k, price in enumerate(made.plan.whole.price)
        },
        run_id=run.run_id,
        budget_usd=terms.budget_usd,
        window_days=terms.window_days,
    )
    draft(
        run.home, folder.name, tables, facts,
        keys=voter_keys(run.home, assigned["voter_id"]), at=at,
        more={} if inputs is None else {f"{INPUTS}pool": inputs.frame},
    )  # fmt: skip
