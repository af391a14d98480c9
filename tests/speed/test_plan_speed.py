"""Speed, gap and memory of the planner; `plan.md` holds the figures."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hustings.features.arrays import Floats
from hustings.features.training_set import Arm
from hustings.serving.plan import (
    Limit,
    Limits,
    PlanSettings,
    by_message,
    cap,
    choose_options,
    floor,
    limits_of,
    plan_contacts,
    share_bounds,
)
from hustings.training.estimators.spend_path import whole_budget_path
from tests.speed.gift_wrapping import gift_wrapped_path

pytestmark = pytest.mark.speed


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def told(line: str) -> None:
        with capsys.disabled():
            print(f"\n  {line}")  # noqa: T201 - this is what a benchmark is for

    return told


def seconds(work: Callable[[], Any], *, best_of: int = 1) -> tuple[float, Any]:
    times, found = [], None
    for _ in range(best_of):
        started = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - started)
    return min(times), found


@pytest.mark.parametrize("shared", [True, False])
def test_a_path_of_a_million_rows_takes_half_the_time_of_gift_wrapping(
    say: Callable[[str], None], *, shared: bool
) -> None:
    rng = np.random.default_rng(0)
    n = 1_000_000
    value, ties = rng.normal(0.5, 1, (n, 5)), rng.random(n)
    cost = np.array([1.0, 2.0, 3.0, 5.0, 8.0])
    if not shared:
        cost = cost * rng.integers(1, 4, (n, 1))
    ours_s, ours = seconds(
        lambda: whole_budget_path(value, cost, tie_break=ties), best_of=3
    )
    theirs_s, theirs = seconds(lambda: gift_wrapped_path(value, cost, ties), best_of=3)
    budgets = np.linspace(0, float(theirs.spend[-1]), 100)
    apart = max(
        abs(ours.value_at(b) - theirs.value_at(b)) / max(theirs.value_at(b), 1.0)
        for b in budgets
    )
    costs = "one price list" if shared else "prices of each row"
    say(
        f"whole-budget path, 1,000,000 x 5, {costs}: {ours_s:.2f} s, gift wrapping "
        f"{theirs_s:.2f} s ({theirs_s / ours_s:.1f} x), gains apart by {apart:.0e}"
    )
    assert apart <= 1e-12
    assert ours_s <= 0.5 * theirs_s


def ten_limits(n: int, n_arms: int, seed: int) -> tuple[Floats, Limits]:
    rng = np.random.default_rng(seed)
    channels = ("mail", "sms", "phone")
    arms = [Arm(f"m{a // 3}", channels[a % 3]) for a in range(n_arms)]
    cost = np.array([{"mail": 0.6, "sms": 0.3, "phone": 1.1}[a.channel] for a in arms])
    value = rng.normal(0.5, 1.0, (n, n_arms)) + rng.normal(0, 1.0, (n, 1))
    young, here = rng.random(n) < 0.3, rng.random(n) < 0.2
    limits = limits_of(
        arms, cost, budget_usd=0.25 * n, capacity={"sms": 0.2 * n, "phone": 0.05 * n},
        total_capacity=0.5 * n,
        further_limits=[
            floor("m0", by_message(arms, "m0"), 0.08 * n),
            cap("m1", by_message(arms, "m1"), 0.02 * n),
            *share_bounds("young", young.astype(float), n_arms, 0.32, 0.36),
            Limit("here", np.ones(n_arms), 0.03 * n, here.astype(float)),
            floor("m2", by_message(arms, "m2"), 0.06 * n),
        ],
    )  # fmt: skip
    return value, limits


@pytest.mark.parametrize("seed", [0, 5])
def test_ten_limits_on_200_000_rows(seed: int, say: Callable[[str], None]) -> None:
    value, limits = ten_limits(200_000, 24, seed)
    reach, ties = np.ones_like(value), np.random.default_rng(1).random(len(value))
    taken, chosen = seconds(lambda: choose_options(value, reach, limits, ties=ties))
    binds = int((chosen.price > 0).sum())
    say(
        f"200,000 x 24, {len(limits.most)} limits of which {binds} bind: {taken:.1f} s,"
        f" gap {chosen.gap:.1e}"
    )
    assert limits.are_kept(limits.used(chosen.option, reach))
    assert chosen.gap < 1e-4


def test_one_budget_on_200_000_rows(say: Callable[[str], None]) -> None:
    value, limits = ten_limits(200_000, 24, 0)
    one = Limits(limits.use[:1], limits.most[:1])
    reach, ties = np.ones_like(value), np.random.default_rng(1).random(len(value))
    taken, chosen = seconds(lambda: choose_options(value, reach, one, ties=ties))
    say(f"200,000 x 24, one budget: {taken:.1f} s, gap {chosen.gap:.1e}")
    assert chosen.gap < 3e-6


def test_a_days_plan_with_lots(say: Callable[[str], None]) -> None:
    n, n_arms = 200_000, 24
    value, limits = ten_limits(n, n_arms, 0)
    channels = ("mail", "sms", "phone")
    arms = [Arm(f"m{a // 3}", channels[a % 3]) for a in range(n_arms)]
    ids = np.array([f"V{i:07d}" for i in range(n)], dtype=object)
    terms = PlanSettings(
        salt="bench", holdout_share=0.1, explore_share=0.05, budget_usd=0.05 * n,
        start_on=pd.Timestamp("2026-09-08"), days=1,
        capacity={"sms": 0.04 * n, "phone": 0.01 * n}, capacity_per_day=0.1 * n,
    )  # fmt: skip
    taken, plan = seconds(
        lambda: plan_contacts(
            ids, ids, value, np.ones(value.shape, dtype=bool), arms, limits.use[0],
            terms, np.random.default_rng(2),
        )
    )  # fmt: skip
    spare = plan.left()[plan.chosen.price > 0] / plan.limits.most[plan.chosen.price > 0]
    say(
        f"a day's plan, 200,000 x 24, holdout and exploration: {taken:.1f} s, "
        f"{len(plan.contacts):,} contacts, gap of the optimiser "
        f"{plan.over_everybody.gap:.1e}, "
        f"of what was sent {plan.chosen.gap:.1e}, at most {spare.max():.2%} of a "
        "limit that binds is left"
    )
