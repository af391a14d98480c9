"""Limits of any kind: kept, near the best, and refused where they contradict.

Small markets are drawn at random; their optima come from HiGHS as whole programmes with
all rows and all yes-or-no decisions, which our planner never forms.
"""

from typing import Any, NamedTuple

import highspy
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from hustings.features.arrays import Floats
from hustings.features.training_set import Arm
from hustings.serving.plan import (
    ChannelCharges,
    Chosen,
    FixedCharge,
    GroupBound,
    Limit,
    Limits,
    PlanError,
    PlanSettings,
    backlash,
    by_message,
    cap,
    choose_options,
    choose_with_charges,
    floor,
    least_budget,
    limits_of,
    plan_contacts,
    share_bounds,
    valued,
)
from hustings.serving.plan.constraints import SLACK
from hustings.training.estimators.spend_path import NOTHING, whole_budget_path
from hustings.training.estimators.split import unit_uniforms

ARMS = tuple(
    Arm(message, channel)
    for message in ("schools", "taxes", "roads")
    for channel in ("mail", "sms")
)
A = len(ARMS)
COST = np.array([0.6, 0.3, 0.6, 0.3, 0.9, 0.45])


class Market(NamedTuple):
    value: Floats
    reach: Floats
    limits: Limits
    ties: Floats

    def chosen(self) -> Chosen:
        return choose_options(self.value, self.reach, self.limits, ties=self.ties)


def market(
    n: int, seed: int, *, households: bool = False, tight: float = 1.0
) -> Market:
    """Ten limits: money, capacities, a total, caps, floors, shares and a place."""
    rng = np.random.default_rng(seed)
    value = rng.normal(0.5, 1.0, (n, A)) + rng.normal(0, 0.7, (n, 1))
    young, here = rng.random(n) < 0.3, rng.random(n) < 0.2
    reach = rng.integers(1, 4, (n, A)) if households else np.ones((n, A))
    size = float(reach.mean()) * n
    limits = limits_of(
        ARMS, COST, budget_usd=0.2 * size * tight,
        capacity={"mail": 0.25 * size, "sms": 0.2 * size}, total_capacity=0.4 * size,
        further_limits=[
            floor("schools", by_message(ARMS, "schools"), 0.1 * size * tight),
            cap("taxes", by_message(ARMS, "taxes"), 0.15 * size),
            *share_bounds("young", young.astype(float), A, 0.34, 0.45),
            Limit("here", np.ones(A), 0.04 * size, here.astype(float)),
            floor("roads", by_message(ARMS, "roads"), 0.05 * size * tight),
        ],
    )  # fmt: skip
    return Market(value, reach.astype(float), limits, rng.random(n))


def programme(of: Market, row: Any, arm: Any) -> tuple[Floats, Floats]:
    """What every pair uses of every limit, and who a row is."""
    use = of.limits.use_of(row, arm) * of.reach[row, arm]
    one = (row == np.arange(len(of.value))[:, None]).astype(float)
    return use, one


def whole_optimum(of: Market, entries: tuple[FixedCharge, ...] = ()) -> float | None:
    """The best whole plan by HiGHS, with a yes or no for every entry."""
    row, arm = np.nonzero((of.value > 0) & (of.reach > 0))
    use, one = programme(of, row, arm)
    k, e = len(row), len(entries)
    fees = np.zeros((len(use), e))
    fees[0] = [entry.setup_usd for entry in entries]
    rules = [
        LinearConstraint(np.hstack([use, fees]), -np.inf, of.limits.most + 1e-9),
        LinearConstraint(np.hstack([one, np.zeros((len(one), e))]), -np.inf, 1),
    ]
    large = float(of.reach.sum())
    for j, entry in enumerate(entries):
        sent = entry.arms[arm] * of.reach[row, arm]
        yes = np.eye(e)[j]
        rules.append(LinearConstraint(np.append(sent, -large * yes), -np.inf, 0))
        rules.append(
            LinearConstraint(np.append(sent, -entry.minimum_contacts * yes), 0, np.inf)
        )
    found = milp(
        np.append(-of.value[row, arm], np.zeros(e)), integrality=np.ones(k + e),
        bounds=Bounds(0, 1), constraints=rules, options={"mip_rel_gap": 1e-9},
    )  # fmt: skip
    return None if found.x is None else -float(found.fun)


def relaxed_optimum(of: Market) -> float:
    """The relaxation by HiGHS' interior point, its status checked."""
    row, arm = np.nonzero((of.value > 0) & (of.reach > 0))
    use, one = programme(of, row, arm)
    both = np.vstack([use, one])
    most = np.append(of.limits.most, np.ones(len(one)))
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(row), len(most)
    lp.col_cost_, lp.col_lower_ = -of.value[row, arm], np.zeros(len(row))
    lp.col_upper_ = np.ones(len(row))
    lp.row_lower_, lp.row_upper_ = np.full(len(most), -highspy.kHighsInf), most
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.arange(len(row) + 1) * len(most)
    lp.a_matrix_.index_ = np.tile(np.arange(len(most)), len(row))
    lp.a_matrix_.value_ = both.T.ravel()
    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.silent()
    solver.setOptionValue("solver", "ipm")
    solver.passModel(lp)
    solver.run()
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return -float(solver.getInfo().objective_function_value)


def assert_keeps(of: Market, chosen: Chosen) -> None:
    """No limit exceeded, recounted pair by pair; nothing worthless bought."""
    at = np.flatnonzero(chosen.option != NOTHING)
    arm = chosen.option[at]
    used = (of.limits.use_of(at, arm) * of.reach[at, arm]).sum(axis=1)
    assert (used <= of.limits.most + 1e-6 * of.limits.scale()).all()
    assert (of.value[at, arm] > 0).all()
    assert chosen.value == pytest.approx(of.value[at, arm].sum())
    assert chosen.value <= chosen.bound * (1 + 1e-9)


# --- exact ----------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 60), st.booleans(), st.booleans())
def test_ten_limits_are_kept_and_the_bound_lies_above_the_relaxation(
    seed: int, n: int, households: bool, loose: bool
) -> None:
    of = market(n, seed, households=households, tight=0.7 if loose else 1.0)
    try:
        chosen = of.chosen()
    except PlanError:
        assert whole_optimum(of) is None
        return
    assert_keeps(of, chosen)
    best = relaxed_optimum(of)
    assert chosen.value <= best + 1e-6 * (1 + best)
    assert chosen.bound >= best - 1e-6 * (1 + best)


@pytest.mark.parametrize("seed", range(4))
def test_a_small_market_is_solved_as_well_as_by_a_whole_programme(seed: int) -> None:
    of = market(60, seed, tight=0.8)
    best = whole_optimum(of)
    assert best is not None
    assert of.chosen().value >= best * (1 - 5e-3)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_bound_is_the_optimum_of_the_relaxation(seed: int) -> None:
    of = market(1_500, seed)
    chosen = of.chosen()
    assert_keeps(of, chosen)
    assert chosen.bound == pytest.approx(relaxed_optimum(of), rel=1e-6)
    assert chosen.gap < 2e-3


def test_many_rows_and_ten_limits_leave_a_gap_of_less_than_a_ten_thousandth() -> None:
    of = market(30_000, 3)
    chosen = of.chosen()
    assert_keeps(of, chosen)
    assert chosen.gap < 1e-4
    floors = of.limits.floors
    used = of.limits.used(chosen.option, of.reach)
    # floors cost something here: without them the plan would be worth more
    assert (used[floors] <= of.limits.most[floors] + SLACK).all()
    assert (chosen.price[floors] > 0).any()


def test_one_budget_leaves_a_gap_of_a_millionth() -> None:
    of = market(30_000, 4)
    one = of._replace(limits=Limits(of.limits.use[:1], of.limits.most[:1]))
    assert_keeps(one, one.chosen())
    assert one.chosen().gap < 1e-6


def test_equals_are_counted_as_groups_and_split_between_options() -> None:
    """Everybody alike, three channels of which two are scarce."""
    n, ties = 50_000, np.random.default_rng(0).random(50_000)
    arms = [Arm("schools", c) for c in ("mail", "sms", "phone")]
    limits = limits_of(
        arms, np.full(3, 0.5), budget_usd=1e6, capacity={"mail": 9e3, "sms": 7e3},
        total_capacity=25_000.0,
    )  # fmt: skip
    chosen = choose_options(np.ones((n, 3)), np.ones((n, 3)), limits, ties=ties)
    assert chosen.value == pytest.approx(25_000)
    assert chosen.gap < 1e-9


# --- ties and stability ---------------------------------------------------------------


def test_the_order_of_rows_changes_nothing() -> None:
    of = market(2_500, 6)
    turned = np.random.default_rng(1).permutation(2_500)
    limits = of.limits.rows(turned)
    same = choose_options(
        of.value[turned], of.reach[turned], limits, ties=of.ties[turned]
    )
    np.testing.assert_array_equal(of.chosen().option[turned], same.option)


@pytest.mark.parametrize("flat", [True, False])
def test_one_voter_more_changes_few_others(*, flat: bool) -> None:
    of = market(4_000, 7)
    value = np.full_like(of.value, 1.0) + COST if flat else of.value
    limits = limits_of(
        ARMS, COST, budget_usd=600.0, capacity={"mail": 500.0}, total_capacity=1_500.0
    )
    ids = np.array([f"v{i}" for i in range(4_000)], dtype=object)
    ties = unit_uniforms(ids, salt="ties")
    one = choose_options(value, of.reach, limits, ties=ties)
    two = choose_options(value[1:], of.reach[1:], limits, ties=ties[1:])
    assert (one.option[1:] != two.option).mean() < 0.01


# --- contradictions -------------------------------------------------------------------


def test_floors_that_nobody_can_pay_for_are_named_with_their_figures() -> None:
    of = market(400, 0)
    limits = limits_of(
        ARMS,
        COST,
        budget_usd=10.0,
        capacity={},
        total_capacity=None,
        further_limits=[
            floor("at least 100 of roads", by_message(ARMS, "roads"), 100.0)
        ],
    )
    with pytest.raises(PlanError, match=r"at least 100 of roads.*missed by.*budget"):
        choose_options(of.value, of.reach, limits, ties=of.ties)


def test_shares_that_exclude_each_other_are_refused_before_anything_is_planned() -> (
    None
):
    with pytest.raises(ValueError, match=r"0 <= low <= high <= 1, got low 0\.6"):
        share_bounds("young", np.ones(3), A, 0.6, 0.4)


# --- all or nothing -------------------------------------------------------------------


def entry(name: str, channel: str, fee: float, least: float) -> FixedCharge:
    arms = np.array([arm.channel == channel for arm in ARMS])
    return FixedCharge(name, arms, fee, least)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("fee", "least"), [(3.0, 0.0), (0.5, 0.0), (0.0, 8.0), (0.0, 30.0), (2.0, 10.0)]
)
def test_fees_and_minimum_orders_are_decided_as_well_as_by_a_whole_programme(
    seed: int, fee: float, least: float
) -> None:
    rng = np.random.default_rng(seed)
    n = 40
    limits = limits_of(
        ARMS, COST, budget_usd=8.0, capacity={"mail": 20.0}, total_capacity=25.0
    )
    of = Market(rng.normal(0.3, 1, (n, A)), np.ones((n, A)), limits, rng.random(n))
    entries = (
        entry("mail", "mail", fee, least), entry("sms", "sms", fee / 2, least / 2),
        FixedCharge("taxes", by_message(ARMS, "taxes") > 0, 0.0, least),
    )  # fmt: skip
    found = choose_with_charges(of.value, of.reach, limits, entries, of.ties)
    best = whole_optimum(of, entries)
    assert best is not None
    assert found.chosen.value <= best * (1 + 1e-6) <= found.chosen.bound * (1 + 2e-6)
    assert found.chosen.value >= best * 0.985
    sent = found.chosen.option[found.chosen.option != NOTHING]
    for e, used in zip(entries, found.used, strict=True):
        n_sent = e.arms[sent].sum()
        assert n_sent == 0 if not used else n_sent >= e.minimum_contacts
    paid = COST[sent].sum() + found.setup_usd
    assert paid <= 8.0 + 1e-6


def test_a_fee_that_is_more_than_it_brings_keeps_a_channel_shut() -> None:
    of = market(300, 2)
    limits = limits_of(ARMS, COST, budget_usd=50.0, capacity={}, total_capacity=None)
    dear = choose_with_charges(
        of.value, of.reach, limits, [entry("mail", "mail", 49.0, 0.0)], of.ties
    )
    cheap = choose_with_charges(
        of.value, of.reach, limits, [entry("mail", "mail", 0.1, 0.0)], of.ties
    )
    assert not dear.used[0]
    assert cheap.used[0]
    assert cheap.chosen.value > dear.chosen.value
    assert cheap.chosen.gap < 0.01


# --- the dual question ----------------------------------------------------------------


def test_least_money_buys_the_gain_and_no_less_money_could() -> None:
    of = market(2_000, 8)
    path = whole_budget_path(of.value, COST, tie_break=of.ties)
    wanted = path.value_at(150.0)
    found = least_budget(path.value_at, wanted=wanted, most_usd=1e4)
    assert path.value_at(found) >= wanted
    assert found == pytest.approx(150.0, rel=5e-3)


def test_least_money_keeps_every_other_limit_and_says_what_can_be_had() -> None:
    of = market(1_000, 9)

    def gain_at(budget: float) -> float:
        limits = limits_of(
            ARMS, COST, budget_usd=budget, capacity={"mail": 150.0},
            total_capacity=None,
        )  # fmt: skip
        return choose_options(of.value, of.reach, limits, ties=of.ties).value

    wanted = 0.8 * gain_at(400.0)
    found = least_budget(gain_at, wanted=wanted, most_usd=400.0)
    assert gain_at(found) >= wanted > gain_at(0.99 * found)
    with pytest.raises(PlanError, match="no more than"):
        least_budget(gain_at, wanted=10 * wanted, most_usd=400.0)


# --- what counts as value -------------------------------------------------------------


def test_caution_takes_the_lower_bound_at_the_declared_confidence() -> None:
    lift, low, high = np.array([2.0]), np.array([1.0]), np.array([3.0])
    assert valued(lift, low, high)[0] == 2.0
    assert valued(lift, low, high, confidence=0.975)[0] == pytest.approx(1.0)
    assert 1.0 < valued(lift, low, high, confidence=0.9)[0] < 2.0
    with pytest.raises(ValueError, match=r"in \[0\.5, 1\), got 0\.2"):
        valued(lift, low, high, confidence=0.2)


def test_backlash_is_what_a_whole_segment_shows_by_its_interval() -> None:
    low = np.array([[-3.0, -1.0], [-2.0, -1.0], [-3.0, 0.0]])
    high = np.array([[-1.0, 1.0], [0.5, 1.0], [2.0, 1.0]])
    told = backlash(low, high, np.array([0, 0, 1]))
    assert told.tolist() == [[True, False], [True, False], [False, False]]


# --- through plan_contacts ------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_limits_hold_for_what_is_sent_after_the_draw(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 3_000
    ids = np.array([f"v{i}" for i in range(n)], dtype=object)
    young, here = rng.random(n) < 0.3, rng.random(n) < 0.2
    terms = PlanSettings(
        f"s{seed}",
        0.1,
        0.05,
        400.0,
        pd.Timestamp("2026-09-08"),
        3,
        {"sms": 150.0},
        None,
        caps={"taxes": 200.0},
        floors={"roads": 120.0},
        entered={
            "mail": ChannelCharges(20.0, 100.0),
            "sms": ChannelCharges(390.0, 0.0),
        },
        minimum_audience=50.0,
    )
    plan = plan_contacts(
        ids, ids, rng.normal(0.5, 1, (n, A)), rng.random((n, A)) < 0.9, ARMS, COST,
        terms, rng, bounds=[
            GroupBound("young", young, 0.33, 0.4), GroupBound("here", here, most=60.0)
        ],
    )  # fmt: skip
    sent = plan.contacts
    assert sent["cost_usd"].sum() + plan.setup_usd <= 400.0 + 1e-6
    by_message_sent = sent.groupby("message_id").size()
    assert by_message_sent["roads"] >= 120
    assert by_message_sent.get("taxes", 0) <= 200
    assert set(sent["channel"]) == {"mail"}
    assert plan.closed == ("channel sms",)
    assert len(sent) >= 100
    share = sent["voter_id"].isin(ids[young]).mean()
    assert 0.33 <= share <= 0.4
    assert sent["voter_id"].isin(ids[here]).sum() <= 60
    assert plan.over_everybody.gap < 0.01


def test_a_limit_is_told_by_name_and_price() -> None:
    limits = limits_of(
        ARMS, COST, budget_usd=5.0, capacity={"sms": 3.0}, total_capacity=9.0,
        further_limits=[Limit("custom", np.ones(A), 4.0)],
    )  # fmt: skip
    assert [limits.name_of(k) for k in range(4)] == [
        "budget in USD", "contacts by sms", "contacts in all", "custom"
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_a_plan_of_equal_lifts_uses_what_its_limits_leave(seed: int) -> None:
    """Under an untargeted policy all voters are worth the same: most rows are tied."""
    rng, n = np.random.default_rng(seed), 3_000
    arms = [Arm(m, c) for m in ("a", "b") for c in ("mail", "sms", "phone")]
    household = np.repeat(np.arange(n), rng.integers(1, 5, n))[:n]
    allowed = np.ones((n, len(arms)), dtype=bool)
    allowed[:, [1, 4]] = (rng.random(n) < 0.6)[:, None]
    allowed[:, [2, 5]] = (rng.random(n) < 0.5)[:, None]
    terms = PlanSettings(
        salt="s", holdout_share=0.1, explore_share=0.05, budget_usd=0.3 * n,
        start_on=pd.Timestamp("2026-09-01"), days=1,
        capacity={"mail": 0.3 * n, "sms": 0.25 * n, "phone": 0.08 * n},
        capacity_per_day=0.4 * n,
    )  # fmt: skip
    plan = plan_contacts(
        np.array([f"v{i}" for i in range(n)], dtype=object),
        np.array([f"h{h}" for h in household], dtype=object),
        np.tile([1.2, 0.9, 3.0, 1.0, 0.8, 2.5], (n, 1)), allowed, arms,
        np.array([0.45, 0.05, 1.2] * 2), terms, rng,
    )  # fmt: skip
    # a fifth was left on the table where only the least decided rows were asked
    assert plan.over_everybody.value > (1 - 2e-3) * plan.over_everybody.bound
