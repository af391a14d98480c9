"""Days killed at twenty random moments; how long drafting many assignments takes."""

import random
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hustings.experiments import plans
from hustings.experiments.plans.ledger import open_ledger
from tests.experiments.test_kill import AT, holds, killed_often, work

pytestmark = pytest.mark.speed
N = 200_000


def test_twenty_random_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    rng, hit = random.Random(11), 0
    for nth in range(4):
        home = tmp_path / str(nth)
        hit += killed_often(home, rng, kills=7, longest_s=0.8)
        work(home)
        holds(home)
    print(f"\n28 kills, {hit} of them at work: every campaign holds")  # noqa: T201
    assert hit >= 20


def test_drafting_and_verifying_take_seconds(tmp_path: Path) -> None:
    ids = np.array([f"V{i:07}" for i in range(N)], dtype=object)
    sent = np.arange(N) % 2 == 0
    assigned = pd.DataFrame(
        {
            "voter_id": ids, "role": "plan",
            "message_id": np.where(sent, "trade", "control"),
            "channel": np.where(sent, "mail", "none"), "propensity": 0.855,
            "intended_message_id": np.where(sent, "trade", "control"),
            "intended_channel": np.where(sent, "mail", "none"),
        }
    )  # fmt: skip
    plan = assigned.loc[
        sent, ["voter_id", "message_id", "channel", "propensity", "role"]
    ].assign(
        send_on=pd.Timestamp("2026-09-01").as_unit("us"), cost_usd=0.5, lift=0.01
    )  # fmt: skip
    keys = {voter: i.to_bytes(32, "big") for i, voter in enumerate(ids)}
    steps = {
        "draft": lambda: plans.draft(
            tmp_path, "one", plan.reset_index(drop=True), assigned,
            plans.PlanFacts("m/1", "us_default"), keys=keys, at=AT,
        ),
        "approve": lambda: plans.approve(tmp_path, "one", by="R. Approver", at=AT),
        "lock": lambda: plans.lock(tmp_path, "one", at=AT),
        "send": lambda: plans.send(tmp_path, "one", "all", plan["voter_id"], at=AT),
        "verify": lambda: open_ledger(tmp_path).verify(),
        "files": lambda: plans.plan_faults(tmp_path),
    }  # fmt: skip
    for name, step in steps.items():
        started = time.perf_counter()
        step()
        print(f"{name}: {time.perf_counter() - started:.2f} s")  # noqa: T201
    assert open_ledger(tmp_path).verify().n_entries == N + 4
