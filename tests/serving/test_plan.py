"""Plans: never over a limit, fair among equals, and randomised as they say.

Small campaigns are drawn at random. Optima come from an independent linear programme
(HiGHS), probabilities from drawing the same plan over and over.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import highspy
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, kstest

from hustings.experiments.plans.designs import Belief, designed
from hustings.features.arrays import Floats
from hustings.features.tables import (
    ASSIGNMENTS,
    CONTROL,
    DESIGNS,
    NO_CHANNEL,
    PLAN,
    check,
)
from hustings.features.training_set import Arm
from hustings.serving.plan import (
    Limits,
    Plan,
    PlanSettings,
    choose_options,
    held_out,
    limits_of,
    plan_contacts,
)
from hustings.training.estimators.spend_path import (
    NOTHING,
    contacts_by_row,
    pooled_rows,
)

ARMS = tuple(
    Arm(message, channel)
    for message in ("schools", "taxes", "roads")
    for channel in ("mail", "sms")
)
COST = np.array([0.6, 0.3, 0.6, 0.3, 0.9, 0.45])
CENT = 1e-6
"""Sums of prices are only as exact as doubles."""
NEVER = 1e-6
"""A test over fixed draws that fails one time in a million for a sound plan."""


@dataclass(frozen=True)
class Case:
    """A campaign small enough to look at."""

    voter_id: npt.NDArray[np.object_]
    unit_id: npt.NDArray[np.object_]
    lift: Floats
    allowed: npt.NDArray[np.bool_]
    terms: PlanSettings
    arms: tuple[Arm, ...] = ARMS
    cost: Floats = field(default_factory=COST.copy)

    def plan(self, seed: int = 0, **terms: Any) -> Plan:
        return plan_contacts(
            self.voter_id, self.unit_id, self.lift, self.allowed, self.arms, self.cost,
            replace(self.terms, **terms), np.random.default_rng(seed),
        )  # fmt: skip

    def take(self, rows: npt.NDArray[np.int64]) -> "Case":
        return replace(
            self, voter_id=self.voter_id[rows], unit_id=self.unit_id[rows],
            lift=self.lift[rows], allowed=self.allowed[rows],
        )  # fmt: skip


TERMS = PlanSettings(
    salt="tiny-1",
    holdout_share=0.2,
    explore_share=0.1,
    budget_usd=20.0,
    start_on=pd.Timestamp("2026-09-08"),
    days=4,
    capacity={},
    capacity_per_day=None,
)


def case(seed: int = 0, n: int = 80, *, household: bool = True, **terms: Any) -> Case:
    """Voters in households of about two, lifts of either sign, some not reachable."""
    rng = np.random.default_rng(seed)
    voters = np.array([f"v{i:05d}" for i in rng.permutation(n)], dtype=object)
    homes = [f"h{h:05d}" for h in rng.integers(0, max(n // 2, 1), n)]
    units = np.array(homes, dtype=object) if household else voters
    return Case(
        voters,
        units,
        rng.normal(1.0, 1.5, (n, len(ARMS))),
        rng.random((n, len(ARMS))) < 0.7,
        replace(TERMS, **terms),
    )


def flat(n: int = 4_000, lift: float = 2.0, **terms: Any) -> Case:
    """Everybody is worth the same, and ids come in order."""
    voters = np.array([f"v{i:06d}" for i in range(n)], dtype=object)
    units = np.array([f"h{i // 2:06d}" for i in range(n)], dtype=object)
    arms, cost = (Arm("schools", "mail"),), np.array([0.5])
    ones = np.ones((n, 1))
    made = Case(voters, units, lift * ones, ones > 0, TERMS, arms, cost)
    return replace(made, terms=replace(TERMS, budget_usd=n / 8, **terms))


CASES = st.builds(
    case,
    seed=st.integers(0, 10_000),
    n=st.integers(1, 120),
    household=st.booleans(),
    budget_usd=st.sampled_from([0.25, 3.0, 10.0, 1_000.0]),
    holdout_share=st.sampled_from([0.01, 0.2, 0.7]),
    explore_share=st.sampled_from([0.0, 0.1, 0.6]),
    days=st.integers(1, 5),
    capacity=st.sampled_from([{}, {"mail": 2.0}, {"mail": 6.0, "sms": 1.0}]),
    capacity_per_day=st.sampled_from([None, 3.0, 7.0]),
)
few = settings(max_examples=25)


# --- limits ---------------------------------------------------------------------------


@few
@given(CASES, st.integers(0, 99))
def test_a_plan_is_never_over_its_budget(of: Case, seed: int) -> None:
    assert of.plan(seed).contacts["cost_usd"].sum() <= of.terms.budget_usd + CENT


@few
@given(CASES, st.integers(0, 99))
def test_no_day_is_over_the_capacity_of_a_channel_or_of_all(
    of: Case, seed: int
) -> None:
    contacts = of.plan(seed).contacts
    by_channel = contacts.groupby(["send_on", "channel"]).size()
    for day_and_channel, n in by_channel.items():
        channel = str(day_and_channel[1])  # type: ignore[index]
        assert n <= of.terms.capacity.get(channel, np.inf)
    if of.terms.capacity_per_day is not None:
        per_day = contacts.groupby("send_on").size()
        assert (per_day <= of.terms.capacity_per_day).all()


@few
@given(CASES, st.integers(0, 99))
def test_every_contact_lies_within_the_days_of_the_plan(of: Case, seed: int) -> None:
    contacts, start = of.plan(seed).contacts, of.terms.start_on
    assert (contacts["send_on"] >= start).all()
    assert (contacts["send_on"] < start + pd.Timedelta(days=of.terms.days)).all()


@few
@given(CASES, st.integers(0, 99))
def test_plan_and_assignments_keep_their_declarations(of: Case, seed: int) -> None:
    plan = of.plan(seed)
    check(PLAN, plan.contacts)
    belief = Belief(("test",) * len(of.arms), "none")
    made = designed(plan, of.arms, belief, holdout=of.terms.holdout_share)
    check(DESIGNS, made.designs)
    check(ASSIGNMENTS, made.assignments)
    assert sorted(made.assignments["voter_id"]) == sorted(of.voter_id)


@few
@given(CASES, st.integers(0, 99))
def test_a_voter_gets_at_most_one_message_and_only_an_allowed_one(
    of: Case, seed: int
) -> None:
    contacts = of.plan(seed).contacts
    assert contacts["voter_id"].is_unique
    at = pd.Index(of.voter_id).get_indexer(pd.Index(contacts["voter_id"]))
    arm = arms_of(of, contacts)
    assert of.allowed[at, arm].all()
    assert (contacts["cost_usd"] == of.cost[arm]).all()
    assert (contacts["lift"] == of.lift[at, arm]).all()


def arms_of(of: Case, contacts: pd.DataFrame) -> npt.NDArray[np.int64]:
    pairs = zip(contacts["message_id"], contacts["channel"], strict=True)
    return np.array([of.arms.index(Arm(*pair)) for pair in pairs], dtype=np.int64)


@few
@given(CASES, st.integers(0, 99))
def test_a_household_gets_one_message_on_one_day_or_none(of: Case, seed: int) -> None:
    plan = of.plan(seed)
    unit = pd.Series(of.unit_id, index=of.voter_id)
    contacts = plan.contacts.assign(unit=plan.contacts["voter_id"].map(unit))
    for home, sent in contacts.groupby("unit"):
        assert len(sent.drop_duplicates(["message_id", "channel", "send_on"])) == 1
        # every member who may get it does
        arm = arms_of(of, sent)[0]
        may = (of.unit_id == home) & of.allowed[:, arm]
        assert set(sent["voter_id"]) == set(of.voter_id[may])
    roles = plan.assignments.assign(unit=plan.assignments["voter_id"].map(unit))
    assert len(roles.drop_duplicates(["unit", "role"])) == len(set(of.unit_id))


@few
@given(CASES, st.integers(0, 99))
def test_a_lift_at_or_below_zero_is_never_bought(of: Case, seed: int) -> None:
    alone = replace(of, unit_id=of.voter_id, lift=np.round(of.lift - 0.5))
    contacts = alone.plan(seed).contacts
    assert (contacts.loc[contacts["role"] == "plan", "lift"] > 0).all()


def test_nothing_is_bought_where_no_message_helps() -> None:
    of = replace(case(explore_share=0.0), lift=np.zeros((80, len(ARMS))))
    assert of.plan().contacts.empty
    harmful = replace(of, lift=of.lift - 1.0, terms=replace(of.terms, budget_usd=1e9))
    assert harmful.plan().contacts.empty


def test_a_plan_without_anybody_eligible_is_empty() -> None:
    of = case()
    barred = replace(of, allowed=np.zeros_like(of.allowed)).plan()
    assert barred.contacts.empty
    assert (barred.assignments["message_id"] == CONTROL).all()


@few
@given(CASES, st.integers(0, 99))
def test_assignments_and_contacts_say_the_same(of: Case, seed: int) -> None:
    plan = of.plan(seed)
    sent = plan.assignments.query("message_id != @CONTROL")
    columns = ["voter_id", "message_id", "channel", "propensity", "role"]
    pd.testing.assert_frame_equal(
        sent[columns].reset_index(drop=True), plan.contacts[columns]
    )
    unsent = plan.assignments.query("message_id == @CONTROL")
    assert (unsent["channel"] == NO_CHANNEL).all()
    planned = plan.assignments.query("role == 'plan'")
    assert (planned["message_id"] == planned["intended_message_id"]).all()
    assert (planned["channel"] == planned["intended_channel"]).all()


# --- holdout --------------------------------------------------------------------------


def holdout_of(plan: Plan) -> set[str]:
    held = plan.assignments[plan.assignments["role"] == "holdout"]
    assert (held["message_id"] == CONTROL).all()
    return set(held["voter_id"])


@few
@given(CASES, st.integers(0, 99))
def test_the_holdout_is_never_contacted(of: Case, seed: int) -> None:
    plan = of.plan(seed)
    assert not holdout_of(plan) & set(plan.contacts["voter_id"])


@given(st.integers(0, 500))
def test_the_holdout_is_the_same_whoever_else_is_in_the_file(seed: int) -> None:
    of, rng = case(seed), np.random.default_rng(seed)
    held = holdout_of(of.plan())
    some = rng.permutation(len(of.voter_id))[:50]
    smaller = of.take(some)
    assert holdout_of(smaller.plan(seed)) == held & set(smaller.voter_id)


def test_the_holdout_outlives_dates_money_chance_and_lifts() -> None:
    of = case()
    held = holdout_of(of.plan())
    later = of.plan(7, start_on=pd.Timestamp("2026-10-01"), days=1, budget_usd=1.0)
    assert holdout_of(later) == held
    assert holdout_of(replace(of, lift=-of.lift).plan(explore_share=0.5)) == held


def test_another_campaign_holds_out_others() -> None:
    ids = np.array([f"v{i}" for i in range(20_000)], dtype=object)
    one = held_out(ids, salt="one", share=0.3)
    other = held_out(ids, salt="other", share=0.3)
    assert one.mean() == pytest.approx(0.3, abs=0.015)
    # independent: held out by both as often as chance has it
    assert (one & other).mean() == pytest.approx(0.09, abs=0.01)


def test_a_larger_holdout_keeps_those_of_a_smaller_one() -> None:
    ids = np.array([f"v{i}" for i in range(2_000)], dtype=object)
    small, large = (held_out(ids, salt="s", share=s) for s in (0.05, 0.3))
    assert small.any()
    assert (large | ~small).all()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_plan_without_a_holdout_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"holdout_share must lie in \(0, 1\)"):
        case().plan(holdout_share=share)


# --- chance ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tight", "capacity"])
def test_dividing_by_stated_probabilities_gives_back_every_voter(kind: str) -> None:
    # E[1(role) / P(role)] = 1 for every voter: the weights add up to everybody
    of = case(5, 60, explore_share=0.3, holdout_share=0.3)
    if kind == "capacity":
        of = replace(of, terms=replace(of.terms, capacity={"mail": 9.0, "sms": 7.0}))
    n = 120
    weights = np.zeros((n, 2))
    for seed in range(n):
        told = of.plan(seed, salt=f"campaign-{seed}").assignments
        for r, role in enumerate(("plan", "holdout")):
            mine = told[told["role"] == role]
            weights[seed, r] = (1 / mine["propensity"]).sum() / len(told)
    error = weights.std(axis=0) / np.sqrt(n)
    assert (np.abs(weights.mean(axis=0) - 1) < 4 * error).all()


def test_exploration_keeps_within_its_share_of_the_budget_on_average() -> None:
    of = case(11, 200, explore_share=0.5, budget_usd=30.0)
    spent = np.array(
        [
            of.plan(s).contacts.query("role == 'explore'")["cost_usd"].sum()
            for s in range(200)
        ]
    )
    error = spent.std() / np.sqrt(len(spent))
    assert spent.mean() <= 0.5 * 30.0 + 4 * error
    assert spent.mean() >= 0.3 * 30.0


def test_exploration_keeps_within_its_share_of_each_capacity_on_average() -> None:
    of = case(12, 200, explore_share=0.5, budget_usd=1e6, capacity={"sms": 5.0})
    sent = np.array(
        [
            len(of.plan(s).contacts.query("role == 'explore' and channel == 'sms'"))
            for s in range(100)
        ]
    )
    assert 2 < sent.mean() <= 0.5 * 5.0 * of.terms.days + 4 * sent.std() / 10


def test_who_explores_is_drawn_with_the_same_chance_for_all() -> None:
    of = case(13, 60, household=False, explore_share=0.3, budget_usd=1e6)
    n = 300
    counts: Counter[str] = Counter()
    for seed in range(n):
        roles = of.plan(seed).assignments.set_index("voter_id")["role"]
        counts.update(roles.index[roles == "explore"])
    share = of.plan().explored
    free = sorted(set(of.voter_id) - holdout_of(of.plan()))
    seen = np.array([counts[voter] for voter in free])
    assert set(counts) <= set(free)
    spread = n * share * (1 - share)
    assert chi2.sf(float(((seen - n * share) ** 2 / spread).sum()), len(free)) > NEVER


def test_exploration_reaches_every_allowed_message() -> None:
    of = case(14, 200, explore_share=0.5, budget_usd=1e6)
    seen = pd.concat([of.plan(s).contacts.query("role == 'explore'") for s in range(5)])
    assert set(arms_of(of, seen)) == set(range(len(ARMS)))


def test_the_same_seed_gives_the_same_plan() -> None:
    of = case(capacity={"mail": 4.0})
    one, two = of.plan(3), of.plan(3)
    pd.testing.assert_frame_equal(one.contacts, two.contacts)
    pd.testing.assert_frame_equal(one.assignments, two.assignments)


def test_what_would_have_been_sent_is_alike_in_plan_and_holdout() -> None:
    # or a comparison of the two by what was intended compares different people
    for of in (flat(holdout_share=0.3), replace(case(2, 4_000), terms=TERMS)):
        roomy = replace(of.terms, holdout_share=0.3, budget_usd=len(of.voter_id) / 8)
        told = replace(of, terms=roomy).plan().assignments
        intended = told["intended_message_id"] != CONTROL
        shares = intended.groupby(told["role"]).agg(["mean", "size"])
        planned, held = shares.loc["plan"], shares.loc["holdout"]
        mean = intended.mean()
        # members of a household share their fate: twice the variance
        sizes = 1 / planned["size"] + 1 / held["size"]
        error = np.sqrt(2 * mean * (1 - mean) * sizes)
        assert abs(planned["mean"] - held["mean"]) < 5 * error


# --- ties -----------------------------------------------------------------------------

FLAT_LIMITS: list[dict[str, Any]] = [
    {},
    {"capacity": {"mail": 100.0}, "days": 5},
    {"capacity_per_day": 150.0, "days": 3},
]


@pytest.mark.parametrize("limits", FLAT_LIMITS)
def test_among_equals_the_plan_takes_random_people(limits: dict[str, Any]) -> None:
    of = flat(**limits)
    contacts = of.plan(5).contacts
    places = contacts["voter_id"].str[1:].astype(int) / len(of.voter_id)
    # one of each household: its members stand side by side
    firsts = places[::2]
    assert len(firsts) > 200
    assert kstest(firsts, "uniform").pvalue > NEVER


@pytest.mark.parametrize("limits", FLAT_LIMITS)
def test_the_day_of_a_contact_has_nothing_to_do_with_the_id(
    limits: dict[str, Any],
) -> None:
    contacts = flat(**limits).plan(5).contacts
    place = contacts["voter_id"].str[1:].astype(int)
    early = contacts["send_on"] == contacts["send_on"].min()
    assert 0 < early.mean() < 1
    assert kstest(place[early][::2], place[~early][::2]).pvalue > NEVER


@pytest.mark.parametrize("limits", FLAT_LIMITS)
def test_among_equals_money_or_capacity_is_used_up(limits: dict[str, Any]) -> None:
    of = flat(**limits)
    plan = of.plan(6)
    most = min(
        of.terms.budget_usd / 0.5,
        of.terms.days * of.terms.capacity.get("mail", np.inf),
        of.terms.days * (of.terms.capacity_per_day or np.inf),
    )
    assert len(plan.contacts) > 0.98 * most
    assert plan.chosen.gap < 0.02
    assert 0 <= plan.over_everybody.gap < 0.02


def test_equal_options_of_several_channels_fill_every_channel() -> None:
    rng = np.random.default_rng(0)
    n, cost = 5_000, np.array([0.5, 0.5, 0.5])
    arms = [Arm("schools", c) for c in ("mail", "sms", "phone")]
    limits = limits_of(
        arms, cost, budget_usd=1_500.0, capacity={"mail": 900.0, "sms": 700.0},
        total_capacity=2_500.0,
    )  # fmt: skip
    chosen = choose_options(np.full((n, 3), 1.0), np.ones((n, 3)), limits, rng)
    assert chosen.gap < 0.02
    assert (chosen.option != NOTHING).sum() > 0.98 * 2_500


# --- optimality -----------------------------------------------------------------------


def lp_optimum(value: Floats, reach: Floats, limits: Limits) -> float:
    """Optimum of the linear relaxation by HiGHS' interior point."""
    row, arm = np.nonzero((reach > 0) & (value > 0))
    if len(row) == 0:
        return 0.0
    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("solver", "ipm")
    for worth in value[row, arm]:
        solver.addCol(-worth, 0.0, 1.0, 0, [], [])
    for i in np.unique(row):
        mine = np.flatnonzero(row == i)
        solver.addRow(-np.inf, 1.0, len(mine), mine, np.ones(len(mine)))
    for use, most in zip(limits.use, limits.most, strict=True):
        need = use[arm] * reach[row, arm]
        who = np.flatnonzero(need > 0)
        solver.addRow(-np.inf, most, len(who), who, need[who])
    solver.run()
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return -float(solver.getInfo().objective_function_value)


def rows_of(of: Case) -> tuple[Floats, Floats]:
    row = np.unique(of.unit_id.astype(str), return_inverse=True)[1]
    value, _, _ = pooled_rows(of.lift, of.cost, of.allowed, row)
    return value, contacts_by_row(of.allowed, row)


def limits_in(of: Case) -> Limits:
    days = of.terms.days
    total = of.terms.capacity_per_day
    return limits_of(
        of.arms, of.cost, budget_usd=of.terms.budget_usd,
        capacity={c: k * days for c, k in of.terms.capacity.items()},
        total_capacity=None if total is None else total * days,
    )  # fmt: skip


@settings(max_examples=30)
@given(CASES, st.integers(0, 99))
def test_value_and_bound_enclose_the_linear_optimum(of: Case, seed: int) -> None:
    value, reach = rows_of(of)
    limits = limits_in(of)
    chosen = choose_options(value, reach, limits, np.random.default_rng(seed))
    best = lp_optimum(value, reach, limits)
    tolerance = 1e-6 * (1 + best)
    assert chosen.value <= best + tolerance <= chosen.bound + 2 * tolerance
    taken = np.flatnonzero(chosen.option != NOTHING)
    arm = chosen.option[taken]
    assert chosen.value == pytest.approx(value[taken, arm].sum())
    used = limits.use[:, arm] @ reach[taken, arm] if len(taken) else 0.0
    assert np.all(used <= limits.most + CENT)


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"capacity": {"mail": 20.0, "sms": 15.0}},
        {"capacity": {"sms": 10.0}, "capacity_per_day": 60.0},
    ],
)
def test_a_plan_of_some_hundreds_is_within_one_percent_of_the_optimum(
    terms: dict[str, Any],
) -> None:
    of = case(4, 900, budget_usd=70.0, **terms)
    value, reach = rows_of(of)
    limits = limits_in(of)
    chosen = choose_options(value, reach, limits, np.random.default_rng(1))
    best = lp_optimum(value, reach, limits)
    assert chosen.value > 0.99 * best
    assert chosen.bound < 1.01 * best


def test_the_gap_is_that_of_the_plan_which_is_sent() -> None:
    # households of two, three contacts a day: one contact of every day stays unused
    of = flat(400, capacity_per_day=3.0, days=10, explore_share=0.0)
    plan = of.plan()
    assert plan.chosen.value == pytest.approx(plan.contacts["lift"].sum())


def test_hand_worked_plan_buys_the_two_best_bargains() -> None:
    # per dollar: b 9, a 5, c 4; two dollars buy b and a
    limits = Limits(np.array([[1.0]]), np.array([2.0]))
    value = np.array([[5.0], [9.0], [4.0], [-1.0]])
    chosen = choose_options(value, np.ones((4, 1)), limits, np.random.default_rng(0))
    assert chosen.option.tolist() == [0, 0, NOTHING, NOTHING]
    assert chosen.value == pytest.approx(14.0)
    assert chosen.bound == pytest.approx(14.0)
    assert chosen.price[0] == pytest.approx(4.0)


# --- persons who moved ----------------------------------------------------------------


def test_who_is_held_out_gets_nothing_wherever_they_live() -> None:
    # a mover who is held out lives with three who are not, and three who are with one
    n = 400
    voter_id = np.array([f"v{i}" for i in range(n)], dtype=object)
    unit_id = np.array([f"h{i // 4}" for i in range(n)], dtype=object)
    held = np.arange(n) % 4 == 0
    held[200:] = np.arange(200) % 4 != 0
    made = plan_contacts(
        voter_id, unit_id, np.full((n, len(ARMS)), 5.0),
        np.ones((n, len(ARMS)), dtype=bool), ARMS, COST,
        PlanSettings("s", 0.1, 0.05, 1e6, pd.Timestamp("2026-09-08"), 5, {}, None),
        np.random.default_rng(1), held_voters=held,
    )  # fmt: skip
    assigned = made.assignments.set_index("voter_id")
    assert ((assigned["role"] == "holdout") == held).all()
    assert not set(made.contacts["voter_id"]) & set(voter_id[held])
    # the others of a unit still decide as one
    sent = assigned[~held].groupby(unit_id[~held])["message_id"].nunique()
    assert (sent == 1).all()
    assert len(made.contacts) > 150


def test_naming_who_the_units_hold_out_changes_no_plan() -> None:
    rng = np.random.default_rng(3)
    n = 300
    unit_id = np.array([f"h{i}" for i in rng.integers(0, 120, n)], dtype=object)
    given = (
        np.array([f"v{i}" for i in range(n)], dtype=object), unit_id,
        rng.normal(1, 1, (n, len(ARMS))), rng.random((n, len(ARMS))) < 0.8, ARMS, COST,
        PlanSettings("s", 0.2, 0.1, 60.0, pd.Timestamp("2026-09-08"), 5, {}, None),
    )  # fmt: skip
    one = plan_contacts(*given, np.random.default_rng(1))
    two = plan_contacts(
        *given, np.random.default_rng(1),
        held_voters=held_out(unit_id, salt="s", share=0.2),
    )  # fmt: skip
    pd.testing.assert_frame_equal(one.assignments, two.assignments)
    pd.testing.assert_frame_equal(one.contacts, two.contacts)
