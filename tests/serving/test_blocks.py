"""A plan block by block, in files, is the plan in one piece in memory."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from hustings.features import spilled
from hustings.features.training_set import Arm
from hustings.serving.plan import Plan, PlanSettings, plan_contacts, randomise

ARMS = [Arm(m, c) for m in ("jobs", "taxes") for c in ("mail", "sms", "phone")]
COST = np.array([0.6, 0.3, 1.1] * 2)
N = 4_000


def plan(dtype: Any = np.float64, *, by_household: bool = True, **changed: Any) -> Plan:
    """Four thousand voters, in households whose members stand far apart in the file."""
    rng = np.random.default_rng(4)
    lift = rng.normal(0.5, 1.0, (N, 6)) + rng.normal(0.0, 1.0, (N, 1))
    allowed = rng.random(lift.shape) < 0.8
    ids = np.array([f"V{i:05}" for i in range(N)], dtype=object)
    units = np.array([f"H{i % 1_500:05}" for i in range(N)], dtype=object)
    settings = {
        "salt": "blocks", "holdout_share": 0.1, "explore_share": 0.1,
        "budget_usd": 0.3 * N, "start_on": pd.Timestamp("2026-09-08"), "days": 3,
        "capacity": {"sms": 0.1 * N, "phone": 0.02 * N}, "capacity_per_day": None,
    }  # fmt: skip
    return plan_contacts(
        ids, units if by_household else ids, lift.astype(dtype), allowed, ARMS, COST,
        PlanSettings(**settings | changed), np.random.default_rng(5),
    )  # fmt: skip


@pytest.mark.parametrize("by_household", [True, False])
@pytest.mark.parametrize("changed", [{}, {"capacity": {}}])
def test_blocks_in_files_give_the_plan_in_memory(
    by_household: bool, changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = plan(by_household=by_household, **changed)
    monkeypatch.setattr(spilled, "SMALL_BYTES", 0)
    for module in (spilled, randomise):
        monkeypatch.setattr(module, "ROWS", 37)
    in_blocks = plan(by_household=by_household, **changed)
    assert isinstance(in_blocks.odds, np.memmap)
    # sums are the same but for the order of their terms
    pd.testing.assert_frame_equal(in_blocks.contacts, whole.contacts)
    pd.testing.assert_frame_equal(in_blocks.assignments, whole.assignments)
    assert in_blocks.over_everybody.value == pytest.approx(whole.over_everybody.value)
    assert in_blocks.over_everybody.bound == pytest.approx(whole.over_everybody.bound)


def test_single_precision_gives_the_same_plan_but_for_ties() -> None:
    double, single = plan(), plan(np.float32)
    assert single.over_everybody.value == pytest.approx(
        double.over_everybody.value, rel=1e-6
    )
    columns = ["role", "message_id", "channel"]
    same = (double.assignments[columns] == single.assignments[columns]).all(axis=1)
    assert same.mean() > 0.999
    assert single.over_everybody.gap < 1e-3


def test_money_alone_is_not_followed_where_another_limit_plainly_binds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many rows: prices of a random part say so, and the plan is the same."""
    from hustings.serving.plan import choose

    whole = plan(by_household=False)
    monkeypatch.setattr(choose, "N_SAMPLED", 500)
    asked: list[int] = []
    path_of = choose._budget_path

    def counted(market: Any) -> Any:
        asked.append(len(market.ties))
        return path_of(market)

    monkeypatch.setattr(choose, "_budget_path", counted)
    sampled = plan(by_household=False)
    assert asked
    assert max(asked) == 500
    assert sampled.over_everybody.value == pytest.approx(
        whole.over_everybody.value, rel=1e-5
    )


def test_an_array_in_a_file_holds_what_was_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spilled, "SMALL_BYTES", 0)
    array = spilled.blank((1_000, 3), np.float32)
    array[10:20] = 7.0
    spilled.let_go(array, np.zeros(3))
    assert array.sum() == 210.0
