"""A day's plan of 100,000 contacts from 10,000,000 voters, lifts to lists.

`python -m pytest tests/speed/test_day.py -q -s -m speed` prints the time of every part;
figures stand in `month.md`.
"""

import resource
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hustings.experiments.loop.explore import uniform_odds
from hustings.experiments.plans.designs import Belief
from hustings.experiments.plans.planner_inputs import (
    designed_again,
    inputs_of,
    planned_again,
    tables_of,
)
from hustings.features.training_set import Arm
from hustings.serving.plan import PlanSettings, held_out

pytestmark = pytest.mark.speed

N_VOTERS, N_CONTACTS = 10_000_000, 100_000
LIMIT_S = 300.0
ARMS = tuple(Arm(m, "mail") for m in ("jobs", "health", "schools", "safety", "roads"))


def _scores(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and lifts as a score stage writes them."""
    rng = np.random.default_rng(1)
    ids = np.char.add("V", np.arange(n).astype("U8")).astype(object)
    lift = np.empty((n, len(ARMS)), dtype=np.float32)
    own = rng.standard_normal(n, dtype=np.float32)
    for a in range(len(ARMS)):
        lift[:, a] = 2.0 + own + 1.5 * rng.standard_normal(n, dtype=np.float32)
    return ids, lift


def _say(text: str) -> None:
    sys.stdout.write(f"\n{text}\n")


@pytest.mark.parametrize("n", [1_000_000, N_VOTERS])
def test_a_day_of_ten_million_voters_is_planned_in_minutes(
    n: int, tmp_path: Path
) -> None:
    ids, lift = _scores(n)
    clock, began = [time.perf_counter()], time.process_time()
    held = held_out(ids, salt="speed", share=0.1)
    clock.append(time.perf_counter())
    terms = PlanSettings(
        "speed", 0.1, 0.1, N_CONTACTS * 0.6, pd.Timestamp("2026-09-08"), 1,
        {"mail": N_CONTACTS}, None,
    )  # fmt: skip
    allowed = np.ones(lift.shape, dtype=bool)
    inputs = inputs_of(
        ids, ids, lift, allowed, ARMS, np.full(len(ARMS), 0.6), terms, [1, 0],
        Belief(("test",) * len(ARMS), "none/1"), decided_only=True, held_voters=held,
        explore_odds=uniform_odds(allowed), predicted=lift, pool_probability=np.ones(n),
    )  # fmt: skip
    plan = planned_again(inputs)
    clock.append(time.perf_counter())
    for name, frame in tables_of(
        [(plan.contacts, designed_again(inputs, plan))]
    ).items():
        frame.to_parquet(tmp_path / f"{name}.parquet", compression="zstd")
    for (day, channel), part in plan.contacts.groupby(["send_on", "channel"]):
        part.to_csv(tmp_path / f"{day:%Y-%m-%d}-{channel}.csv", index=False)
    clock.append(time.perf_counter())
    holdout_s, plan_s, lists_s = np.diff(clock)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    _say(
        f"{n:,} voters: {len(plan.contacts):,} contacts, holdout {holdout_s:.1f} s, "
        f"plan and draws {plan_s:.1f} s, lists {lists_s:.1f} s, in all "
        f"{clock[-1] - clock[0]:.1f} s, {time.process_time() - began:.1f} processor "
        f"seconds; peak {memory:.1f} GiB"
    )
    assert len(plan.contacts) > 0.9 * N_CONTACTS
    assert plan.contacts["cost_usd"].sum() <= terms.budget_usd + 1e-6
    assert clock[-1] - clock[0] < LIMIT_S
