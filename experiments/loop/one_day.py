"""One day of the loop: what came in → lifts → plan → lots → assignments.

A day is a function of what was decided before, the outcomes that are in, the terms and
the seed: the same rows give the same day, whoever computes it and however often.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from hustings.experiments.loop.chances import decisions_of
from hustings.experiments.loop.decisions import EXPLORE, Audience, Decisions, State
from hustings.experiments.loop.explore import (
    Exploring,
    share_on,
    thompson_odds,
    uniform_odds,
)
from hustings.features.arrays import Bools, Floats, Ints
from hustings.features.training_set import Prior
from hustings.serving.plan import GroupBound, Plan, PlanTerms, plan_contacts
from hustings.training.learners.daily import (
    DailyLift,
    Moments,
    Seen,
    Size,
    Terms,
    fit_daily,
)

GROWN = 1.25
"""The prior's size is chosen again once the rows have grown by so much."""
WAVE_SHARE = 0.95
"""Of the first wave's money, what its expected contacts may use: the rest is margin."""


@dataclass(frozen=True)
class LoopTerms:
    """What the loop is run under.

    Attributes:
        salt: Of the campaign: fixes the holdout and the order of equals.
        seed: Of the lots.
        holdout_share: h.
        budget_usd: For all days.
        start_on: Day 0.
        days: How many.
        exploring: How much is explored, and with which odds.
        wave_voters: Size of the first randomised wave, those who get nothing included;
            0 where a test came before.
        wave_days: Days over which it goes out.
        wait_days: Days after it on which nothing is sent, until answers are in.
        front_load: Money of a day in parts of an even share of what is left.
        window_days: From a contact to the next of the same voter; None: never.
        contacts_per_voter: At most.
        repeats: Which decisions teach: `first` or `each`.
        learn_from: What the planner's lifts compare: `design` only people who had the
            same chances, `all` also those whom the plan made differ, by what the
            features say of them. Measured lifts (`experiments.loop.coverage`) compare
            by design in either case.
        retrain_every_days: Lifts are learned again after so many days.
        gate: `shrinkage`: lifts are shrunken as far as the data ask, and personalise
            from the first day; `verdict`: the plan is the best untargeted mix until
            personalising is shown to pay.
        evaluate_every_days: The verdict is asked again after so many days.
        capacity: Contacts a day of a channel.
        capacity_per_day: Of all channels; None for no limit.
    """

    salt: str
    seed: int
    holdout_share: float
    budget_usd: float
    start_on: pd.Timestamp
    days: int
    exploring: Exploring
    wave_voters: int = 0
    wave_days: int = 1
    wait_days: int = 0
    front_load: float = 1.0
    window_days: int | None = None
    contacts_per_voter: int = 1
    repeats: str = "first"
    learn_from: str = "design"
    retrain_every_days: int = 1
    gate: str = "shrinkage"
    evaluate_every_days: int = 7
    capacity: dict[str, float] = field(default_factory=dict)
    capacity_per_day: float | None = None


class DayLimits(NamedTuple):
    """What a day may use beside money and capacities.

    Attributes:
        caps: At most so many contacts by a message.
        floors: At least so many contacts by a message.
        bounds: Limits on groups of voters, members over the pool.
    """

    caps: dict[str, float]
    floors: dict[str, float]
    bounds: tuple[GroupBound, ...]


NO_LIMITS = DayLimits({}, {}, ())


@dataclass(frozen=True)
class Learned:
    """What is believed, and the sums that it came from.

    Attributes:
        model: None before the first outcome, and without any prior.
        moments: Sums over the rows that have taught.
        taught: Which decisions are in the sums, shape (k,) of those at the time.
        n_sized: Rows when the prior's size was chosen.
        day: When it was learned.
    """

    model: DailyLift | None
    moments: Moments
    taught: Bools
    n_sized: int = 0
    day: int = -1

    @classmethod
    def nothing(cls, p: int, n_arms: int, past: Seen | None = None) -> "Learned":
        """Before the first day.

        Args:
            p: Columns of the learner.
            n_arms: A.
            past: Deliveries of the past. Where their propensities are unknown (NaN),
                they inform the baseline and no lift.
        """
        moments = Moments.nothing(p, n_arms)
        if past is not None:
            moments = moments.plus(past)
        return cls(None, moments, np.zeros(0, dtype=bool))


class DayRecord(NamedTuple):
    """What a day must be able to say afterwards.

    Attributes:
        day: From 0.
        explore: ε: probability to explore of a pool member who is not held out.
        n_pool: Voters in the pool.
        n_sent: Contacts.
        n_explored: Who explored, those who got nothing included.
        spent_usd: Money.
        predicted_gain: Sum of the predicted lift of the contacts, in outcome units.
        explore_cost: Predicted gain forgone: what the money that exploring spent would
            have brought at the plan's own rate, less what exploring is predicted to
            bring.
    """

    day: int
    explore: float
    n_pool: int
    n_sent: int
    n_explored: int
    spent_usd: float
    predicted_gain: float
    explore_cost: float


class Day(NamedTuple):
    """What a day came to."""

    state: State
    learned: Learned
    plan: Plan | None
    decisions: Decisions
    record: DayRecord


def learn(
    learned: Learned,
    state: State,
    audience: Audience,
    terms: Terms,
    *,
    repeats: str,
    day: int,
    prior: Prior | None = None,
    learn_from: str = "design",
) -> Learned:
    """Lifts from all that is in; what has taught already is not read again.

    Args:
        learned: Before.
        state: With outcomes.
        audience: Its columns.
        terms: Of these columns.
        repeats: See `State.teaching`.
        day: Of the campaign.
        prior: Mean effects known from elsewhere, by arm.
        learn_from: See `LoopTerms`.
    """
    known = np.zeros(len(state.outcome), dtype=bool)
    known[: len(learned.taught)] = learned.taught
    teaching = state.teaching(repeats)
    new, moments = np.flatnonzero(teaching & ~known), learned.moments
    if len(new):
        made = state.decisions.take(new)
        design = made.design if learn_from == "design" else None
        phi = audience.phi[made.voter]
        moments = moments.plus(Seen(phi, made.arm, state.outcome[new], design))
    if moments.n == 0 and prior is None:
        return replace(learned, day=day)
    size: Size | None = None
    if learned.model is not None and moments.n < GROWN * learned.n_sized:
        size = learned.model.size
    model = fit_daily(moments, terms, prior=prior, size=size)
    sized = learned.n_sized if size else moments.n
    return Learned(model, moments, teaching | known, sized, day)


def wave_odds(audience: Audience, pool: Ints) -> Floats:
    """Odds of the first wave: nothing and every allowed arm alike, (n_pool, A)."""
    return uniform_odds(audience.allowed[pool])


def money_on(terms: LoopTerms, spent_usd: float, day: int) -> float:
    """Money of a day after the first wave: an even share of what is left, or more.

    >>> terms = LoopTerms("s", 1, 0.1, 100.0, pd.Timestamp("2026-09-01"), 11,
    ...     Exploring())
    >>> money_on(terms, 50.0, 1)
    5.0
    """
    left = max(terms.budget_usd - spent_usd, 0.0)
    return min(left, terms.front_load * left / max(terms.days - day, 1))


def one_day(
    terms: LoopTerms,
    columns: Terms,
    audience: Audience,
    state: State,
    learned: Learned,
    *,
    day: int,
    prior: Prior | None = None,
    personalise: bool = True,
) -> Day:
    """What came in → lifts → plan → lots → assignments.

    Args:
        terms: Of the loop.
        columns: Terms of the audience's columns.
        audience: Everybody.
        state: Before the day, with the outcomes that are in.
        learned: What was believed before.
        day: From 0.
        prior: Mean effects known from elsewhere, by arm.
        personalise: Whether personalising is held to pay; else everybody is worth an
            arm's mean lift and equals are ordered by hash: the best untargeted mix.
    """
    pool = np.flatnonzero(
        state.in_pool(
            day, window_days=terms.window_days, contacts=terms.contacts_per_voter
        )
    )
    wave = day < terms.wave_days and terms.wave_voters > 0
    # what a prior says of a message is known on the first day; outcomes come later
    if not wave and day - learned.day >= terms.retrain_every_days:
        learned = learn(
            learned, state, audience, columns, repeats=terms.repeats, day=day,
            prior=prior, learn_from=terms.learn_from,
        )  # fmt: skip
    waits = terms.wave_voters > 0 and (
        terms.wave_days <= day < terms.wave_days + terms.wait_days
    )
    if waits or len(pool) == 0 or (learned.model is None and not wave):
        return _idle(state, learned, audience, day, len(pool))
    asked = (
        wave_asked(terms, audience, pool)
        if wave
        else _asked(terms, audience, pool, state, learned, day, personalise)
    )
    return assign_day(terms, audience, state, learned, pool, asked, day)


class Asked(NamedTuple):
    """What the planner is asked on a day."""

    value: Floats
    odds: Floats
    money: float
    share: float
    predicted: Floats | None = None


def wave_asked(terms: LoopTerms, audience: Audience, pool: Ints) -> Asked:
    """A wave plans nothing; its money is what the expected contacts cost."""
    odds = wave_odds(audience, pool)
    free = ~audience.held[pool]
    each = float((odds[free] @ audience.cost).mean())
    money = each * terms.wave_voters / terms.wave_days / WAVE_SHARE
    return Asked(np.zeros_like(odds), odds, money, WAVE_SHARE)


def _asked(
    terms: LoopTerms,
    audience: Audience,
    pool: Ints,
    state: State,
    learned: Learned,
    day: int,
    personalise: bool,  # noqa: FBT001
) -> Asked:
    assert learned.model is not None
    allowed, policy = audience.allowed[pool], terms.exploring
    value = learned.model.lift(audience.phi[pool])
    if not personalise:
        everybody = learned.model.lift(audience.phi.mean(axis=0)[None])
        value = np.repeat(everybody, len(pool), axis=0)
    odds = uniform_odds(allowed)
    if policy.kind == "thompson":
        odds = thompson_odds(
            learned.model, audience.phi[pool], audience.segment[pool], allowed,
            floor=policy.floor, rng=np.random.default_rng([terms.seed, day, 1]),
        )  # fmt: skip
    money = money_on(terms, state.spent_usd(audience.cost), day)
    since = day - (terms.wave_days + terms.wait_days if terms.wave_voters else 0)
    return Asked(value, odds, money, share_on(policy, since))


def assign_day(
    terms: LoopTerms,
    audience: Audience,
    state: State,
    learned: Learned,
    pool: Ints,
    asked: Asked,
    day: int,
    limits: DayLimits = NO_LIMITS,
) -> Day:
    """The plan of a pool, its lots, and who is decided by them.

    Args:
        terms: Of the loop.
        audience: Everybody.
        state: Before the day.
        learned: What was believed; handed on.
        pool: Positions of who may be decided, shape (n_pool,).
        asked: Values and odds of the pool, money, share to explore.
        day: From 0.
        limits: Of messages and groups.
    """
    ids = audience.voter_id[pool]
    plan = plan_contacts(
        ids, ids, asked.value, audience.allowed[pool], audience.arms, audience.cost,
        plan_terms(terms, asked, day, limits),
        np.random.default_rng([terms.seed, day]),
        held_voters=audience.held[pool], explore_odds=asked.odds,
        predicted=asked.predicted,
        pool_probability=state.pool_probability[pool], bounds=limits.bounds,
    )  # fmt: skip
    before = np.bincount(state.decisions.voter, minlength=len(audience))
    decided = decisions_of(
        plan, pool, audience.arms, day=day, holdout=terms.holdout_share,
        repeat=before[pool],
    )  # fmt: skip
    chance = state.pool_probability.copy()
    chance[pool] *= 1.0 - plan.explored
    # who was decided comes back after the window, if at all, as everybody once was
    chance[decided.voter] = 1.0
    record = _record(audience, asked, plan, decided, pool, day)
    return Day(state.decided(decided, chance), learned, plan, decided, record)


def plan_terms(
    terms: LoopTerms, asked: Asked, day: int, limits: DayLimits = NO_LIMITS
) -> PlanTerms:
    """What the planner is told of a day."""
    return PlanTerms(
        salt=terms.salt, holdout_share=terms.holdout_share,
        explore_share=asked.share, budget_usd=asked.money,
        start_on=terms.start_on + pd.Timedelta(days=day), days=1,
        capacity=terms.capacity, capacity_per_day=terms.capacity_per_day,
        caps=limits.caps, floors=limits.floors,
    )  # fmt: skip


def _record(
    audience: Audience,
    asked: Asked,
    plan: Plan,
    decided: Decisions,
    pool: Ints,
    day: int,
) -> DayRecord:
    row = np.empty(len(audience), dtype=np.int64)
    row[pool] = np.arange(len(pool))
    sent = decided.arm > 0
    at, arm = row[decided.voter[sent]], decided.arm[sent] - 1
    worth, cost = asked.value[at, arm], audience.cost[arm]
    explored = decided.role[sent] == EXPLORE
    planned_usd = float(cost[~explored].sum())
    rate = float(worth[~explored].sum()) / planned_usd if planned_usd else 0.0
    forgone = rate * float(cost[explored].sum()) - float(worth[explored].sum())
    return DayRecord(
        day, float(plan.explored), len(pool), int(sent.sum()),
        int((decided.role == EXPLORE).sum()), float(cost.sum()), float(worth.sum()),
        forgone,
    )  # fmt: skip


def _idle(
    state: State, learned: Learned, audience: Audience, day: int, n_pool: int
) -> Day:
    """A day on which nothing is sent."""
    record = DayRecord(day, 0.0, n_pool, 0, 0, 0.0, 0.0, 0.0)
    none = Decisions.none(len(audience.arms))
    return Day(state, learned, None, none, record)
