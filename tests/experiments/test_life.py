"""The life of a plan: every step once, in its order, all of it in the ledger."""

import json
from pathlib import Path

import pandas as pd
import pytest

from experiments import life
from experiments.ledger import open_ledger
from features.tables import CONTROL, NO_CHANNEL

AT = pd.Timestamp("2026-09-01T06:00:00Z")
DAY = pd.Timestamp("2026-09-01")
N = 12
KEYS = {f"v{i:02}": bytes([i + 1]) * 32 for i in range(200)}


def drawn(start: int = 0, day: pd.Timestamp = DAY) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A day of twelve: six planned (4 mail, 2 sms), three explore (one nothing), three
    shadows of the holdout."""
    ids = [f"v{i:02}" for i in range(start, start + N)]
    roles = ["plan"] * 6 + ["explore"] * 3 + ["holdout"] * 3
    intended = ["trade"] * 4 + ["tax"] * 2 + ["trade"] * 6
    sent = intended[:8] + [CONTROL] * 4
    by = {"trade": "mail", "tax": "sms", CONTROL: NO_CHANNEL}
    assigned = pd.DataFrame(
        {
            "voter_id": ids, "role": roles, "message_id": sent,
            "channel": [by[m] for m in sent],
            "propensity": [0.9 * 0.95] * 6 + [0.9 * 0.05 / 3] * 3 + [0.1] * 3,
            "intended_message_id": intended,
            "intended_channel": [by[m] for m in intended],
        }
    )  # fmt: skip
    mine = assigned[assigned["channel"] != NO_CHANNEL]
    plan = mine[["voter_id", "message_id", "channel", "propensity", "role"]].assign(
        send_on=day.as_unit("us"), lift=0.02,
        cost_usd=mine["channel"].map({"mail": 0.55, "sms": 0.03}),
    )  # fmt: skip
    return plan.reset_index(drop=True), assigned


def facts(**changed: object) -> life.Facts:
    told = {"model": "hustings-x/3", "rule_set": "us_default", "terms": {"seed": 7},
            "prices": {"budget": 0.01}, "budget_usd": 100.0}  # fmt: skip
    return life.Facts(**{**told, **changed})  # type: ignore[arg-type]


def drafted(
    home: Path, plan_id: str = "day1", start: int = 0, **changed: object
) -> None:
    plan, assigned = drawn(start)
    life.draft(home, plan_id, plan, assigned, facts(**changed), keys=KEYS, at=AT)


def locked(
    home: Path, plan_id: str = "day1", start: int = 0, **changed: object
) -> None:
    drafted(home, plan_id, start, **changed)
    life.approve(home, plan_id, by="R. Approver", at=AT)
    life.lock(home, plan_id, at=AT)


def test_every_assignment_is_in_the_ledger_with_its_exact_propensity(
    tmp_path: Path,
) -> None:
    drafted(tmp_path)
    _, assigned = drawn()
    for row in assigned.itertuples():
        (entry,) = open_ledger(tmp_path).of_person([KEYS[row.voter_id]])
        told = dict(zip(life.COLUMNS, json.loads(entry.body), strict=True))
        assert told["propensity"] == row.propensity
        assert (told["role"], told["message_id"]) == (row.role, row.message_id)
        assert told["intended_message_id"] == row.intended_message_id
