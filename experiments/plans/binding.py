"""File of the plans that bind, and of their committed money, for serving.

`plans/binding.json` holds names of plans, their states and money, and nobody's id. It
says what the ledger says, is written after every step, and may be written again at any
time; `serving.decided` reads it with the plans' own files.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hustings.experiments.plans.checks import day_of
from hustings.experiments.plans.money import spend
from hustings.experiments.plans.record import CANCELLED, SENT, PlanRecord
from hustings.features.atomic import write_text
from hustings.serving.decided import BINDING

Json = dict[str, Any]


def export_binding(home: Path, plans: Mapping[str, PlanRecord]) -> None:
    """Write what the ledger says of the plans that bind, if it is not written yet.

    Args:
        home: The campaign's folder.
        plans: All of its plans, as the ledger has them.
    """
    text = json.dumps(_binding(plans), indent=1)
    path = home / BINDING
    if not path.exists() or path.read_bytes() != text.encode():
        write_text(path, text)


def _binding(plans: Mapping[str, PlanRecord]) -> Json:
    binding = {n: r for n, r in plans.items() if r.binds or _was_sent(r)}
    money = spend(binding)
    columns = ["channel", "send_on", "n_committed", "usd_committed"]
    return {
        "plans": [_plan(record) for record in binding.values()],
        "committed": [
            {"channel": channel, "send_on": day, "n": int(n), "usd": float(usd)}
            for channel, day, n, usd in money[columns].to_numpy().tolist()
            if n or usd
        ],
    }


def _was_sent(record: PlanRecord) -> bool:
    """Whether a cancelled plan was sent in part: that part stays sent."""
    return record.state == CANCELLED and bool(record.of(SENT))


def _plan(record: PlanRecord) -> Json:
    return {
        "plan_id": record.plan_id,
        "state": record.state,
        "day": f"{day_of(record):%Y-%m-%d}",
        "window_days": record.draft_body["window_days"],
        "sent": sorted(name for s in record.of(SENT) for name in s.body["files"]),
        "only_sent": record.state == CANCELLED,
    }
