"""Rival policies with the same money in the same world.

None keeps a holdout. The greedy one learns every day from all it sent and sends what
looks best; the single best message is chosen once, after a test of the same size as the
loop's first wave; the random one sends anything to anybody; the oracle knows the truth.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from hustings.experiments.loop.daily_columns import LearnerColumns
from hustings.experiments.loop.declared import LoopSettings
from hustings.experiments.simulation.world import World
from hustings.features.arrays import Floats, Ints
from hustings.serving.plan import choose_options, limits_of
from hustings.training.estimators.spend_path import NOTHING
from hustings.training.learners.daily import (
    DailyLift,
    Moments,
    ObservedRows,
    Size,
    fit_daily,
)

GROWTH = 1.25
"""All sizes of the prior are weighed again once the outcomes have grown by so much."""


@dataclass(frozen=True)
class RivalDecisions:
    """Decisions of a rival policy, whose probabilities are not known.

    Attributes:
        voter: Positions, shape (k,).
        day: From 0, shape (k,).
        arm: 0 for nothing, a for the a-th arm, shape (k,).
    """

    voter: Ints
    day: Ints
    arm: Ints

    @classmethod
    def nobody(cls) -> Self:
        """Before the first day."""
        return cls(*(np.zeros(0, dtype=np.int64) for _ in range(3)))

    def plus(self, voter: Ints, arm: Ints, day: int) -> Self:
        """Add the decisions of a day."""
        return replace(
            self,
            voter=np.concatenate([self.voter, voter]),
            day=np.concatenate([self.day, np.full(len(voter), day)]),
            arm=np.concatenate([self.arm, arm]),
        )

    def heard(self, world: World, day: int) -> Ints:
        """Decisions whose outcome is in on the morning of a day."""
        due = self.day + world.lag[self.voter] <= day
        return np.flatnonzero(due & world.answers[self.voter])


Chooser = Callable[[RivalDecisions, Ints, float, int], Ints]
"""Decisions so far, pool, money, day → arm of every pool member, `NOTHING` for none."""


def best_within(
    value: Floats, world: World, money_usd: float, rng: np.random.Generator
) -> Ints:
    """The best plan for the money, shape (n_pool,)."""
    limits = limits_of(
        world.arms, world.cost, budget_usd=money_usd, capacity={}, total_capacity=None
    )
    return choose_options(value, np.ones_like(value), limits, rng).option


def random_order(
    world: World, option: Ints, money_usd: float, rng: np.random.Generator
) -> Ints:
    """Options of voters in random order, as many as the money pays for."""
    order = rng.permutation(len(option))
    cost = np.where(option >= 0, world.cost[np.maximum(option, 0)], 0.0)[order]
    paid = np.cumsum(cost) <= money_usd + 1e-9
    chosen = np.full(len(option), NOTHING, dtype=np.int64)
    chosen[order[paid]] = option[order[paid]]
    return chosen


def rival_month(
    world: World, settings: LoopSettings, choose: Chooser, *, wave: bool
) -> RivalDecisions:
    """A month of a policy that keeps no holdout and no chances.

    Args:
        world: The truth.
        settings: Money, days, and the first wave where there is one.
        choose: What a day sends.
        wave: Whether a randomised test comes first.
    """
    decided = RivalDecisions.nobody()
    quiet = settings.first_planned_day if wave else 0
    for day in range(settings.days):
        pool = np.setdiff1d(np.arange(len(world)), decided.voter)
        if wave and day < settings.loop.wave_days:
            voter, option = _test(world, settings, pool, day)
            decided = decided.plus(voter, option + 1, day)
        elif day >= quiet:
            spent = float(world.cost[decided.arm[decided.arm > 0] - 1].sum())
            option = choose(decided, pool, settings.money_on(spent, day), day)
            sent = option >= 0
            decided = decided.plus(pool[sent], option[sent] + 1, day)
    return decided


def _test(
    world: World, settings: LoopSettings, pool: Ints, day: int
) -> tuple[Ints, Ints]:
    """A day of a one-off test, with equal odds of nothing and every arm."""
    rng = np.random.default_rng([settings.seed, day, 2])
    n = round(settings.wave_voters / settings.loop.wave_days)
    tested = rng.permutation(pool)[:n]
    return tested, rng.integers(-1, len(world.arms), len(tested))


class _Greedy:
    """Learns from all that was sent, voters of different chances compared."""

    def __init__(self, world: World, columns: LearnerColumns, settings: LoopSettings):
        self.world, self.columns, self.terms = world, columns, settings
        self.moments = Moments.nothing(columns.phi.shape[1], len(world.arms))
        self.taught = np.zeros(len(world), dtype=bool)
        self.model: DailyLift | None = None
        self.sizes: tuple[Size, ...] = ()
        self.n_sized = 0

    def __call__(
        self, decided: RivalDecisions, pool: Ints, money: float, day: int
    ) -> Ints:
        if self.terms.learned_on(day) == day or self.model is None:
            self._learn(decided, day)
        if self.model is None:
            return np.full(len(pool), NOTHING, dtype=np.int64)
        value = self.model.lift(self.columns.phi[pool])
        rng = np.random.default_rng([self.terms.seed, day, 3])
        return best_within(value, self.world, money, rng)

    def _learn(self, decided: RivalDecisions, day: int) -> None:
        heard = decided.heard(self.world, day)
        new = heard[~self.taught[decided.voter[heard]]]
        voter, arm = decided.voter[new], decided.arm[new]
        Y = self.world.outcomes(voter, arm)
        self.moments = self.moments.plus(
            ObservedRows(self.columns.phi[voter], arm, Y, None)
        )
        self.taught[voter] = True
        if self.moments.n == 0:
            return
        grown = self.moments.n >= GROWTH * self.n_sized
        sizes = () if grown else self.sizes
        self.model = fit_daily(self.moments, self.columns.terms, sizes=sizes)
        if grown:
            self.sizes, self.n_sized = self.model.sizes, self.moments.n


def greedy(
    world: World, columns: LearnerColumns, settings: LoopSettings
) -> RivalDecisions:
    """The same learner on whatever was sent, no exploration, no holdout."""
    return rival_month(world, settings, _Greedy(world, columns, settings), wave=True)


def single_best(world: World, settings: LoopSettings) -> RivalDecisions:
    """The arm with the best mean per dollar after the test, to random voters."""
    # its test is over before anything else is sent
    waiting = max(int(world.lag.max()), settings.loop.wait_days)
    loop = settings.loop.model_copy(update={"wait_days": waiting})
    patient = replace(settings, loop=loop)
    best: list[int] = []

    def choose(decided: RivalDecisions, pool: Ints, money: float, day: int) -> Ints:
        if not best:
            best.append(_best_tested(decided, world, day))
        option = np.full(len(pool), best[0], dtype=np.int64)
        rng = np.random.default_rng([settings.seed, day, 4])
        return random_order(world, option, money, rng)

    return rival_month(world, patient, choose, wave=True)


def _best_tested(decided: RivalDecisions, world: World, day: int) -> int:
    """The arm whose voters answered best against those who got nothing, per dollar."""
    heard = decided.heard(world, day)
    arm = decided.arm[heard]
    y = world.outcomes(decided.voter[heard], arm)
    means = np.array([y[arm == k].mean() for k in range(1 + len(world.arms))])
    return int(((means[1:] - means[0]) / world.cost).argmax())


def anything(world: World, settings: LoopSettings) -> RivalDecisions:
    """A random arm to random voters."""

    def choose(decided: RivalDecisions, pool: Ints, money: float, day: int) -> Ints:
        del decided
        rng = np.random.default_rng([settings.seed, day, 5])
        option = rng.integers(0, len(world.arms), len(pool))
        return random_order(world, option, money, rng)

    return rival_month(world, settings, choose, wave=False)


def oracle_gain(world: World, settings: LoopSettings) -> float:
    """True gain of the best plan for the whole budget, everybody and no test."""
    rng = np.random.default_rng(settings.seed)
    option = best_within(world.lift, world, settings.budget_usd, rng)
    sent = np.flatnonzero(option >= 0)
    return float(world.lift[sent, option[sent]].sum())


def true_gain(world: World, voter: Ints, arm: Ints) -> float:
    """Sum of the true lifts of contacts, outcome units.

    Args:
        world: The truth.
        voter: Positions, shape (k,).
        arm: 0 for nothing, a for the a-th arm, shape (k,).
    """
    sent = arm > 0
    return float(world.lift[voter[sent], arm[sent] - 1].sum())
