"""Guardrails judged together: hand-worked rows, false harms, rare events."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hustings.features.training_set import Arm, MessageTest
from hustings.features.voter import SegmentBins
from hustings.training.estimators.metrics import Interval
from hustings.training.policy_value.guardrails import (
    ClosedGroup,
    Direction,
    GroupEffect,
    Guardrail,
    closed_arms,
    closed_by,
    group_effects,
    judge_guardrail,
)

FALL = Guardrail("turnout", "fall", 0.01, 0.05, bars_unproven=False)


def effect(value: float, se: float, **where: str) -> GroupEffect:
    return GroupEffect("e", "m", where, 500, Interval.of(value, se=se), 10**6)


@pytest.mark.parametrize(
    ("direction", "value", "status"),
    [
        # one message, .8 x .05 / 2 one-sided: 2.05 standard errors of .004
        ("fall", -0.0083, "harms"), ("fall", -0.0081, "not_shown"),
        ("fall", -0.0019, "not_shown"), ("fall", -0.0017, "within_margin"),
        ("fall", 0.05, "within_margin"), ("rise", 0.0083, "harms"),
        ("rise", 0.0017, "within_margin"), ("rise", -0.05, "within_margin"),
        # any change: 2.33 standard errors each way
        ("either", 0.0094, "harms"), ("either", 0.0092, "not_shown"),
        ("either", 0.0006, "within_margin"), ("either", -0.0008, "not_shown"),
    ],
)  # fmt: skip
def test_one_message_is_judged_as_worked_by_hand(
    direction: Direction, value: float, status: str
) -> None:
    guardrail = Guardrail("x", direction, 0.01, 0.05, bars_unproven=False)
    (row,) = judge_guardrail(guardrail, [effect(value, 0.004)], [])
    assert row.status == status


def test_averages_do_not_pay_for_many_groups_and_groups_do() -> None:
    # 2.1 standard errors: a harm as one of one, none as one of twenty
    groups = [effect(-0.021, 0.01, age=str(k)) for k in range(20)]
    average, *rest = judge_guardrail(FALL, [effect(-0.021, 0.01), *groups], [])
    assert average.status == "harms"
    assert {row.status for row in rest} == {"not_shown"}
    # what harms everybody is closed once
    assert closed_by(FALL, [average, *rest]) == [
        ClosedGroup("m", {}, "turnout", "lowers turnout")
    ]


def test_a_closed_group_is_of_its_bins_alone() -> None:
    age, sex = (np.array(b, object) for b in (["young", "young", "old"], [*"FMF"]))
    parts = SegmentBins(3, {"age": age, "sex": sex})
    arms = (Arm("m", "mail"), Arm("m", "sms"), Arm("k", "mail"))
    closed = closed_arms([ClosedGroup("m", {"age": "young"}, "g", "r")], parts, arms)
    assert closed.tolist() == [[True, True, False]] * 2 + [[False] * 3]
    both = [ClosedGroup("k", {"age": "young", "sex": "M"}, "g", "r")]
    assert closed_arms(both, parts, arms)[:, 2].tolist() == [False, True, False]
    # a column that the voters lack closes nothing, for nobody is known to be inside
    assert not closed_arms(
        [ClosedGroup("m", {"zip": "1"}, "g", "r")], parts, arms
    ).any()


@pytest.mark.parametrize("direction", ["fall", "either"])
def test_where_nothing_harms_a_family_is_accused_in_five_of_a_hundred(
    direction: Direction,
) -> None:
    rng = np.random.default_rng(0)
    guardrail = Guardrail("x", direction, 0.01, 0.05, bars_unproven=False)
    n_worlds, accused = 600, 0
    for _ in range(n_worlds):
        # three messages that share a control, over everybody and in eight groups
        noise = (rng.normal(size=(9, 3)) + rng.normal(size=(9, 1))) / np.sqrt(2)
        noise[0] = noise[1:].sum(axis=0) / np.sqrt(8)
        effects = [
            GroupEffect(
                "e", f"m{m}", {"g": str(g)} if g else {}, 500,
                Interval.of(noise[g, m], se=1.0), 10**6,
            )
            for g in range(9) for m in range(3)
        ]  # fmt: skip
        accused += any(
            row.status == "harms" for row in judge_guardrail(guardrail, effects, [])
        )
    assert accused / n_worlds <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n_worlds)
    assert accused > 0


def test_what_an_experiment_shows_by_itself_stays_whatever_the_days_add() -> None:
    shown, faded = effect(-0.009, 0.004), effect(-0.004, 0.003)
    (row,) = judge_guardrail(FALL, [shown], [faded])
    assert (row.status, row.effect.value) == ("harms", -0.004)
    # and what only the days show needs more than a single look would
    (single,) = judge_guardrail(FALL, [effect(-0.0083, 0.004)], [])
    (daily,) = judge_guardrail(FALL, [effect(0.0, 0.02)], [effect(-0.0083, 0.004)])
    assert (single.status, daily.status) == ("harms", "not_shown")
    assert daily.low < single.low
    (daily,) = judge_guardrail(FALL, [effect(0.0, 0.02)], [effect(-0.02, 0.004)])
    assert daily.status == "harms"


def test_many_looks_at_days_that_harm_nobody_close_no_more_than_one_look() -> None:
    """Judged as single looks, they close something far oftener."""
    rng, n_days, n_worlds = np.random.default_rng(3), 30, 120
    guardrail = Guardrail("x", "rise", 0.01, 0.05, bars_unproven=False)
    closed, closed_by_single_looks = 0, 0
    for _ in range(n_worlds):
        # three messages beside one control; every day as many people again
        daily = rng.normal(size=(n_days, 3)) + rng.normal(size=(n_days, 1))
        so_far = daily.cumsum(axis=0) / np.arange(1, n_days + 1)[:, None]
        is_closed = is_closed_singly = False
        for day in range(0, n_days, 2):
            se = 0.03 / np.sqrt(day + 1)
            effects = [
                GroupEffect("e", f"m{m}", {}, 500, Interval.of(v, se=se), 10**6)
                for m, v in enumerate(so_far[day] * 0.03 / np.sqrt(2))
            ]
            rows = judge_guardrail(guardrail, [], effects)
            is_closed |= any(row.status == "harms" for row in rows)
            rows = judge_guardrail(guardrail, effects, [])
            is_closed_singly |= any(row.status == "harms" for row in rows)
        closed += is_closed
        closed_by_single_looks += is_closed_singly
    assert closed / n_worlds <= 0.05
    assert closed_by_single_looks > 3 * closed
    assert closed_by_single_looks / n_worlds > 0.05


def measured(seed: int, rate: float, control: float) -> list[GroupEffect]:
    """A test of three messages that do nothing; control has a share of the people."""
    rng, n = np.random.default_rng(seed), 4_000
    chance = np.array([control, *[(1 - control) / 3] * 3])
    age, woman = rng.integers(20, 90, n), rng.integers(0, 2, n)
    code, ids = np.arange(n), np.array([f"v{i}" for i in range(n)], dtype=object)
    test = MessageTest(
        "e", tuple(Arm(f"m{k}", "mail") for k in range(3)), ids, code, ids, code, code,
        np.zeros(n, dtype=np.int64), np.column_stack([age, woman]).astype(np.float32),
        rng.choice(4, n, p=chance), (rng.random(n) < rate).astype(np.float64),
        np.tile(chance, (n, 1)),
    )  # fmt: skip
    parts = pd.DataFrame({"age": np.where(age < 40, "young", "old"),
                          "sex": np.where(woman, "F", "M")})  # fmt: skip
    issue_of = dict.fromkeys(test.messages, "i")
    return group_effects(test, test.Y, parts, [1], issue_of, seed=seed)


@pytest.mark.parametrize(
    ("rate", "control"),
    [(0.5, 0.25), pytest.param(0.005, 0.06, id="one event in 200, few controls")],
)
def test_errors_are_honest_where_events_are_rare_and_controls_are_few(
    rate: float, control: float
) -> None:
    effects = [e.effect for k in range(8) for e in measured(k, rate, control)]
    z = np.array([e.value / e.se for e in effects])
    assert np.sqrt(np.mean(z**2)) < 1.15
    # a control without a single event is no certainty
    assert np.abs(z).max() < stats.norm.isf(0.001 / len(z))
