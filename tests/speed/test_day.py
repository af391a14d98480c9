"""A day's plan of 100,000 contacts from 10,000,000 voters, scores to lists.

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

from hustings.experiments.loop.chances import decided_rows
from hustings.experiments.loop.decisions import Audience, State
from hustings.experiments.loop.explore import Exploring
from hustings.experiments.loop.one_day import LoopTerms
from hustings.experiments.loop.run_day import (
    Offer,
    as_experiment,
    asked_on,
    planned_day,
)
from hustings.features.tables import ASSIGNMENTS, PLAN, check
from hustings.features.training_set import Arm
from hustings.serving.plan import held_out

pytestmark = pytest.mark.speed

N_VOTERS, N_CONTACTS = 10_000_000, 100_000
LIMIT_S = 300.0
ARMS = tuple(Arm(m, "mail") for m in ("jobs", "health", "schools", "safety", "roads"))


def _scores(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and lifts as a score stage writes them."""
    rng = np.random.default_rng(1)
    ids = np.char.add("V", np.arange(n).astype("U8")).astype(object)
    lift = rng.normal(size=(n, 1)) + rng.normal(2.0, 1.5, size=(n, len(ARMS)))
    return ids, lift


def _say(text: str) -> None:
    sys.stdout.write(f"\n{text}\n")


@pytest.mark.parametrize("n", [1_000_000, N_VOTERS])
def test_a_day_of_ten_million_voters_is_planned_in_minutes(
    n: int, tmp_path: Path
) -> None:
    ids, lift = _scores(n)
    clock = [time.perf_counter()]
    terms = LoopTerms(
        "speed", 1, 0.1, N_CONTACTS * 0.6, pd.Timestamp("2026-09-08"), 1,
        Exploring(share=0.1), capacity={"mail": N_CONTACTS},
    )  # fmt: skip
    audience = Audience(
        voter_id=ids,
        household=np.zeros(0, dtype=np.int64),
        phi=np.zeros((n, 0)),
        segment=np.zeros(0, dtype=np.int64),
        held=held_out(ids, salt=terms.salt, share=terms.holdout_share),
        allowed=np.ones(lift.shape, dtype=bool),
        arms=ARMS,
        cost=np.full(len(ARMS), 0.6),
    )
    clock.append(time.perf_counter())
    offer = Offer(audience, lift, "test", "none/1")
    state = State.new(audience)
    asked = asked_on(terms, offer, state, spent_usd=0.0, day=0)
    made = planned_day(terms, offer, state, asked, day=0)
    clock.append(time.perf_counter())
    assert made.plan is not None
    rows = made.plan.assignments
    kept = check(ASSIGNMENTS, rows[decided_rows(rows)].reset_index(drop=True))
    contacts = check(PLAN, made.plan.contacts)
    for name, frame in {
        "plan": contacts,
        "assignments": kept,
        **as_experiment(made.decisions, offer, terms.start_on),
    }.items():
        frame.to_parquet(tmp_path / f"{name}.parquet", compression="zstd")
    for (day, channel), part in contacts.groupby(["send_on", "channel"]):
        part.to_csv(tmp_path / f"{day:%Y-%m-%d}-{channel}.csv", index=False)
    clock.append(time.perf_counter())
    held, plan, written = np.diff(clock)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    _say(
        f"{n:,} voters: {len(contacts):,} contacts, holdout {held:.1f} s, plan "
        f"and lots {plan:.1f} s, lists {written:.1f} s, in all "
        f"{clock[-1] - clock[0]:.1f} s; peak {memory:.1f} GiB"
    )
    assert len(contacts) > 0.9 * N_CONTACTS
    assert contacts["cost_usd"].sum() <= terms.budget_usd + 1e-6
    assert clock[-1] - clock[0] < LIMIT_S
