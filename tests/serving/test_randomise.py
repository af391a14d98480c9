"""Lots on top of a plan: the stated probabilities are the true ones, to the letter.

The same small pool is drawn thousands of times with limits so tight that who still fits
hangs on chance. What was stated before each draw is summed and held against what came.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.stats import chi2, kstest, norm

from hustings.features.arrays import Floats
from hustings.features.training_set import Arm
from hustings.serving.plan import Limit, held_out, limits_of
from hustings.serving.plan.constraints import Limits
from hustings.serving.plan.randomise import (
    RandomDraws,
    SequentialAssignment,
    Spread,
    affordable_share,
    even_odds,
    expected_use,
    mixed,
    random_draws,
    sequential_assignment,
)
from hustings.serving.plan.tables import frames, roles_of
from hustings.training.estimators.spend_path import NOTHING

ARMS = tuple(Arm(m, c) for m in ("schools", "taxes") for c in ("mail", "sms"))
COST = np.array([0.6, 0.3, 0.7, 0.35])
HOLDOUT, SHARE = 0.25, 0.3
NEVER = 1e-6


class Pool(NamedTuple):
    wanted: npt.NDArray[np.int64]
    merit: Floats
    reach: Floats
    limits: Limits
    spread: Spread
    odds: Floats
    ties: Floats

    def draw(self, seed: int) -> tuple[RandomDraws, SequentialAssignment]:
        rng = np.random.default_rng(seed)
        held = rng.random(len(self.ties)) < HOLDOUT
        draws = random_draws(held, SHARE, self.odds, self.ties, rng)
        return draws, sequential_assignment(
            self.wanted, self.merit, self.reach, self.limits, self.spread, draws,
            self.odds, SHARE, self.ties,
        )  # fmt: skip


def pool(n: int = 24, *, days: int = 1, seed: int = 5) -> Pool:
    """Households of one to three, about twice as many wanted as there is room for."""
    rng = np.random.default_rng(seed)
    reach = rng.integers(0, 4, (n, len(ARMS))).astype(float)
    here = (np.arange(n) < n / 2).astype(float)
    limits = limits_of(
        ARMS, COST, budget_usd=0.28 * n, capacity={"mail": 0.4 * n, "sms": 0.35 * n},
        total_capacity=0.65 * n,
        further_limits=[Limit("few here", np.ones(len(ARMS)), 0.4 * n, here)],
    )  # fmt: skip
    wanted = np.where(rng.random(n) < 0.7, reach.argmax(axis=1), NOTHING)
    odds = 0.6 * even_odds(reach, limits)
    daily = np.array([False, days > 1, days > 1, False, False])
    return Pool(
        wanted, rng.random(n), reach, limits, Spread(days, daily), odds, rng.random(n)
    )  # fmt: skip


def surprise(of: Pool, n_draws: int) -> float:
    """Chance that frequencies lie so far from what was stated, if it is true."""
    n, n_arms = of.reach.shape
    seen = np.zeros((n, 2, n_arms + 1))
    stated, spread = np.zeros_like(seen), np.zeros_like(seen)
    rows = np.arange(n)
    for seed in range(n_draws):
        draws, done = of.draw(seed)
        role = draws.explores.astype(int)
        free = ~draws.held
        seen[rows[free], role[free], done.option[free]] += 1
        told = np.zeros_like(seen)
        told[rows, 0, done.intended] = (1 - HOLDOUT) * (1 - SHARE)
        q = np.where(done.open, of.odds, 0.0)
        told[:, 1, :n_arms] = (1 - HOLDOUT) * SHARE * q
        told[:, 1, n_arms] = (1 - HOLDOUT) * SHARE * (1 - q.sum(axis=1))
        stated += told
        spread += told * (1 - told)
    known = spread > 3
    assert not seen[stated == 0].any()
    z = (seen - stated)[known] / np.sqrt(spread[known])
    worst = 2 * norm.sf(np.abs(z).max()) * len(z)
    return float(min(worst, 1.0) * 0.5 + 0.5 * chi2.sf((z**2).sum(), len(z)))


@pytest.mark.parametrize(("days", "n_draws"), [(1, 2_000), (3, 800)])
def test_what_is_stated_before_the_lots_are_drawn_is_what_comes(
    days: int, n_draws: int
) -> None:
    assert surprise(pool(days=days), n_draws) > NEVER


@pytest.mark.parametrize("days", [1, 3])
def test_no_draw_exceeds_a_limit_on_any_day(days: int) -> None:
    of = pool(days=days)
    for seed in range(200):
        _, done = of.draw(seed)
        used = of.limits.used(done.option, of.reach)
        assert (used <= of.limits.most + 1e-6).all()
        assert ((done.day >= 0) == (done.option != NOTHING)).all()
        for day in range(days):
            today = np.where(done.day == day, done.option, NOTHING)
            used = of.limits.used(today, of.reach)[of.spread.daily]
            assert (used <= of.limits.most[of.spread.daily] / days + 1e-6).all()


@pytest.mark.parametrize("days", [1, 3])
def test_what_the_holdout_leaves_over_goes_to_the_next(days: int) -> None:
    of = pool(600, days=days)
    of = of._replace(odds=0.2 * of.odds)
    for seed in range(10):
        _, done = of.draw(seed)
        used = of.limits.used(done.option, of.reach)
        assert (used / of.limits.most).max() > 0.95


def test_who_is_held_out_gets_nothing_and_uses_nothing() -> None:
    of = pool()
    draws, done = of.draw(1)
    assert draws.held.any()
    assert (done.option[draws.held] == NOTHING).all()
    assert (done.intended[draws.held] != NOTHING).any()


def test_a_pool_without_room_states_that_nothing_can_be_drawn() -> None:
    of = pool()
    none = of._replace(limits=of.limits.with_most(np.zeros(len(of.limits.most))))
    _, done = none.draw(0)
    assert not done.open[of.reach.sum(axis=1) > 0].any()
    assert (done.option == NOTHING).all()


def test_lots_do_not_hang_on_the_order_of_the_rows() -> None:
    of = pool(200)
    turned = np.random.default_rng(1).permutation(200)
    one = random_draws(
        np.zeros(200, bool), SHARE, of.odds, of.ties, np.random.default_rng(3)
    )
    two = random_draws(
        np.zeros(200, bool), SHARE, of.odds[turned], of.ties[turned],
        np.random.default_rng(3),
    )  # fmt: skip
    np.testing.assert_array_equal(one.arm[turned], two.arm)
    np.testing.assert_array_equal(one.explores[turned], two.explores)


def test_mixed_numbers_are_uniform_and_know_nothing_of_each_other() -> None:
    ties = np.random.default_rng(0).random(20_000)
    one, two = mixed(ties, 12), mixed(ties, 13)
    assert kstest(one, "uniform").pvalue > NEVER
    for a, b in ((ties, one), (one, two)):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.04
        both = ((a < 0.1) & (b < 0.3)).mean()
        assert both == pytest.approx(0.03, abs=0.006)


def test_exploration_is_scaled_to_its_share_of_every_limit() -> None:
    of = pool(400)
    needed = expected_use(of.reach, of.odds, of.limits)
    share = affordable_share(needed, of.limits, SHARE)
    used = np.array([(of.reach * of.odds * use).sum() for use in of.limits.use[:-1]])
    assert share < SHARE
    assert (share * used <= SHARE * of.limits.most[:-1] + 1e-9).all()


def test_tables_state_the_probability_of_the_role_and_of_the_arm() -> None:
    """Worked by hand: three voters, the first two a household."""
    arms, cost = (Arm("schools", "mail"), Arm("taxes", "mail")), np.array([0.5, 0.5])
    row = np.array([0, 0, 1])
    allowed = np.array([[True, True], [True, False], [True, True]])
    odds = np.array([[0.4, 0.4], [0.25, 0.25]])
    made: dict[str, Any] = {}
    for name, option, explores in (
        ("planned", [1, NOTHING], [False, False]),
        ("drawn", [0, NOTHING], [True, True]),
    ):
        done = SequentialAssignment(
            np.array([1, NOTHING]), np.array(option), np.array([0, -1]),
            np.ones((2, 2), bool),
        )  # fmt: skip
        draws = RandomDraws(np.zeros(2, bool), np.array(explores), np.array(option))
        made[name] = frames(
            np.array(["a", "b", "c"], dtype=object), row, np.ones((3, 2)), allowed,
            arms, cost, pd.Timestamp("2026-09-08"), roles_of(done, draws), done,
            (0.2, 0.1), np.where(allowed, np.where(done.open, odds, 0.0)[row], 0.0),
            np.array([1.0, 1.0, 0.5]),
        )[1]  # fmt: skip
    free = np.array([0.8, 0.8, 0.4])
    np.testing.assert_allclose(made["planned"]["propensity"], free * 0.9)
    # a: taxes by plan or by lot; b may not get it; c is planned nothing
    np.testing.assert_allclose(
        made["planned"]["arm_propensity"],
        [0.8 * (0.9 + 0.1 * 0.4), 1 - 0.8 * 0.1 * 0.4, 1 - 0.4 * 0.1 * 0.5],
    )
    np.testing.assert_allclose(
        made["drawn"]["propensity"], free * 0.1 * np.array([0.4, 0.4, 0.5])
    )
    np.testing.assert_allclose(made["drawn"]["arm_propensity"][0], 0.8 * 0.1 * 0.4)


def test_a_holdout_is_the_same_whoever_asks() -> None:
    ids = np.array(["a", "b", "c"] * 40, dtype=object)
    assert len(set(held_out(ids, salt="s", share=0.5)[::3])) == 1
