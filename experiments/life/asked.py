"""What can be asked of a campaign's plans."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from experiments.ledger import open_ledger
from experiments.life.checks import decided
from experiments.life.folder import faults
from experiments.life.money import spend
from experiments.life.record import (
    BINDING,
    LifeError,
    PlanRecord,
    known_plans,
    named,
)


def plans(home: Path) -> dict[str, PlanRecord]:
    """Plans of a campaign, in the order of their drafts."""
    return known_plans(open_ledger(home))


def find(home: Path, name: str = "") -> str:
    """Name of a plan by its beginning; the latest one without.

    Raises:
        LifeError: If there is none, or the beginning is that of several.
    """
    known = plans(home)
    near = [n for n in known if n.startswith(name)] if name not in known else [name]
    if not name and known:
        return near[-1]
    if len(near) != 1:
        there = ", ".join(near or list(known)[-5:]) or "none yet"
        raise LifeError(f"expected one of the plans ({there}), got {name!r}")
    return near[0]


def state(home: Path, plan_id: str) -> str:
    """Where a plan stands.

    Raises:
        LifeError: If there is none of this name.
    """
    return named(plans(home), plan_id).state


def spent(home: Path) -> pd.DataFrame:
    """Money by plan, channel and day; see `experiments.life.money.spend`."""
    return spend(plans(home))


def decided_so_far(home: Path, states: Iterable[str] = BINDING) -> pd.DataFrame:
    """Whom plans have decided: ASSIGNMENTS with plan_id and decided_on.

    Args:
        home: The campaign's folder.
        states: Whose assignments count; `LIVE` for drafts too.
    """
    return decided(home, plans(home), states)


def plan_faults(home: Path) -> list[str]:
    """Files of plans that are not what the ledger says; empty where all are."""
    return faults(home, plans(home))
