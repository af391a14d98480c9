"""What else could be done with the same money in the same world.

None keeps a holdout. The greedy one learns every day from all it sent and sends what
looks best; the single best message is chosen once, after a test of the same size as the
loop's first wave; the random one sends anything to anybody; the oracle knows the truth.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hustings.experiments.loop.decisions import (
    EXPLORE,
    PLAN,
    Audience,
    Decisions,
    State,
)
from hustings.experiments.loop.one_day import Learned, LoopTerms, learn, money_on
from hustings.experiments.simulation.world import World
from hustings.features.arrays import Floats, Ints
from hustings.serving.plan import choose_options, limits_of
from hustings.training.estimators.spend_path import NOTHING

Chooser = Callable[[State, Ints, float, int], Ints]
"""State, positions of the pool, money, day → arm of every pool member, -1 nothing."""


def best_within(
    value: Floats,
    audience: Audience,
    pool: Ints,
    money: float,
    rng: np.random.Generator,
) -> Ints:
    """The best plan for the money, shape (n_pool,)."""
    limits = limits_of(
        audience.arms, audience.cost, budget_usd=money, capacity={},
        total_capacity=None,
    )  # fmt: skip
    reach = audience.allowed[pool].astype(np.float64)
    return choose_options(value, reach, limits, rng).option


def assigned(
    audience: Audience, pool: Ints, option: Ints, role: int, day: int
) -> Decisions:
    """Decisions without known chances: nobody drew them."""
    rows = (
        np.flatnonzero(option >= -1) if role == EXPLORE else np.flatnonzero(option >= 0)
    )
    k = len(rows)
    none = np.full((k, 1 + len(audience.arms)), np.nan)
    zero = np.zeros(k, dtype=np.int64)
    return Decisions(
        pool[rows], zero + day, zero + role, option[rows] + 1, option[rows], none,
        np.full(k, np.nan), zero,
    )  # fmt: skip


def random_order(
    audience: Audience, pool: Ints, option: Ints, money: float, rng: np.random.Generator
) -> Ints:
    """Options of people in random order, as many as the money pays for."""
    order = rng.permutation(len(pool))
    cost = np.where(option >= 0, audience.cost[np.maximum(option, 0)], 0.0)[order]
    paid = np.cumsum(cost) <= money + 1e-9
    found = np.full(len(pool), NOTHING, dtype=np.int64)
    found[order[paid]] = option[order[paid]]
    return found


def rival_month(
    world: World, terms: LoopTerms, choose: Chooser, *, wave: bool
) -> State:
    """A month of a policy that keeps no holdout and no chances.

    Args:
        world: The truth.
        terms: Money, days, and the first wave where there is one.
        choose: What a day sends.
        wave: Whether a randomised test comes first.
    """
    audience, state = world.audience, State.new(world.audience)
    quiet = terms.wave_days + terms.wait_days if wave else 0
    for day in range(terms.days):
        state = world.hear(state, day)
        pool = np.flatnonzero(state.in_pool(day, window_days=None, contacts=1))
        if wave and day < terms.wave_days:
            made = _test(audience, terms, pool, day)
        elif day < quiet:
            continue
        else:
            money = money_on(terms, state.spent_usd(audience.cost), day)
            option = choose(state, pool, money, day)
            made = assigned(audience, pool, option, PLAN, day)
        state = state.decided(made, state.pool_probability)
    return state


def _test(audience: Audience, terms: LoopTerms, pool: Ints, day: int) -> Decisions:
    """A day of a one-off test: nothing and every arm alike."""
    rng = np.random.default_rng([terms.seed, day, 2])
    n = round(terms.wave_voters / terms.wave_days)
    few = rng.permutation(pool)[:n]
    option = rng.integers(-1, len(audience.arms), len(few))
    return assigned(audience, few, option, EXPLORE, day)


def greedy(world: World, terms: LoopTerms) -> tuple[State, Learned]:
    """The same learner on whatever was sent, no exploration, no holdout."""
    audience = world.audience
    learned = [Learned.nothing(audience.phi.shape[1], len(audience.arms))]

    def choose(state: State, pool: Ints, money: float, day: int) -> Ints:
        if day - learned[0].day >= terms.retrain_every_days or not learned[0].model:
            learned[0] = learn(
                learned[0], state, audience, world.columns, repeats="first", day=day,
                learn_from="all",
            )  # fmt: skip
        model = learned[0].model
        if model is None:
            return np.full(len(pool), NOTHING, dtype=np.int64)
        value = model.lift(audience.phi[pool])
        rng = np.random.default_rng([terms.seed, day, 3])
        return best_within(value, audience, pool, money, rng)

    return rival_month(world, terms, choose, wave=True), learned[0]


def single_best(world: World, terms: LoopTerms) -> State:
    """The arm with the best mean per dollar after the test, to random people."""
    audience = world.audience
    # its test is over before anything else is sent
    patient = replace(terms, wait_days=int(world.lag.max()))
    chosen: list[int] = []

    def choose(state: State, pool: Ints, money: float, day: int) -> Ints:
        if not chosen:
            chosen.append(_best_tested(state, audience))
        option = np.full(len(pool), chosen[0], dtype=np.int64)
        rng = np.random.default_rng([terms.seed, day, 4])
        return random_order(audience, pool, option, money, rng)

    return rival_month(world, patient, choose, wave=True)


def _best_tested(state: State, audience: Audience) -> int:
    """The arm whose people answered best against those who got nothing, per dollar."""
    seen = np.isfinite(state.outcome)
    arm, y = state.decisions.arm[seen], state.outcome[seen]
    means = np.array([y[arm == k].mean() for k in range(1 + len(audience.arms))])
    return int(((means[1:] - means[0]) / audience.cost).argmax())


def anything(world: World, terms: LoopTerms) -> State:
    """A random arm to random people."""
    audience = world.audience

    def choose(state: State, pool: Ints, money: float, day: int) -> Ints:
        del state
        rng = np.random.default_rng([terms.seed, day, 5])
        option = rng.integers(0, len(audience.arms), len(pool))
        return random_order(audience, pool, option, money, rng)

    return rival_month(world, terms, choose, wave=False)


def oracle_gain(world: World, terms: LoopTerms) -> float:
    """True gain of the best plan for the whole budget, everybody and no test."""
    pool = np.arange(len(world.audience))
    rng = np.random.default_rng(terms.seed)
    option = best_within(world.lift, world.audience, pool, terms.budget_usd, rng)
    sent = np.flatnonzero(option >= 0)
    return float(world.lift[sent, option[sent]].sum())


def true_gain(world: World, state: State) -> float:
    """Sum of the true lifts of all contacts, in outcome units."""
    made = state.decisions
    sent = made.arm > 0
    return float(world.lift[made.voter[sent], made.arm[sent] - 1].sum())
