"""State of a campaign before a day, from the record of its plans."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from hustings.experiments.declaration import LoopSection, RepeatRule
from hustings.experiments.loop.declared import LoopSettings
from hustings.experiments.plans import PLANS, plans
from hustings.experiments.plans.checks import decided
from hustings.experiments.plans.money import committed_usd, total_usd
from hustings.experiments.plans.online import Online, online_so_far
from hustings.experiments.plans.record import APPROVED, DRAFT, LIVE, PlanRecord
from hustings.experiments.record import present_id_of
from hustings.experiments.stages.persons import read_identity
from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.features.persons.identity import with_present_ids
from hustings.features.tables import CONTROL, UNDECIDED

DAY = "day-"
"""Names of a day's plans begin so."""
NEVER = np.iinfo(np.int64).min // 2


def plan_of_day(date: pd.Timestamp) -> str:
    """Name of a day's plan."""
    return f"{DAY}{date:%Y-%m-%d}"


@dataclass(frozen=True)
class Yesterday:
    """Where the campaign stands on the morning of a day; axis 0 is the voter.

    Attributes:
        n_decisions: Decisions of each voter so far, shape (n,).
        last_day: Day of the last one, from 0; `NEVER` without, shape (n,).
        pool_probability: Probability that a voter who is not held out is still in
            the pool, shape (n,).
        spent_usd: Money that plans have taken, was sent online or is reserved by open
            offers, of forgotten persons included.
        contacts: Column `voter` (position) and `message_id` of every contact so far.
        online: What was sent and is offered online.
        has_offer: Voters with an offer that is open: who may be contacted online at any
            moment is not planned, shape (n,).
    """

    n_decisions: Ints
    last_day: Ints
    pool_probability: Floats
    spent_usd: float
    contacts: pd.DataFrame
    online: Online
    has_offer: Bools

    def in_pool(self, day: int, loop: LoopSection) -> Bools:
        """Whether each voter may be decided on a day, shape (n,)."""
        free = RepeatRule.of(loop).allows(self.n_decisions, day - self.last_day)
        return np.asarray(free & ~self.has_offer, dtype=bool)


class _Plan(NamedTuple):
    """A plan that may decide voters, or what was sent online on a day.

    Attributes:
        rows: Decided ASSIGNMENTS with decided_on.
        day: Of its contacts, from 0.
        explored: Probability to explore of a pool member who is not held out; 0 of what
            was sent online.
    """

    rows: pd.DataFrame
    day: int
    explored: float


def yesterday(
    home: Path,
    voter_id: Objects,
    settings: LoopSettings,
    date: pd.Timestamp,
    *,
    at: pd.Timestamp,
) -> Yesterday:
    """The state before a day, from plans, their ledger and what was sent online.

    Plans of days count from their draft on, since a day must not be drawn twice;
    others once they are locked. A contact that was sent online counts as any other.

    Args:
        home: The campaign's folder.
        voter_id: Present voters, shape (n,); rows of others are left out.
        settings: Of the loop.
        date: The day.
        at: Now: what was sent online by then counts, and the offers that are open.

    Raises:
        ValueError: If a later day was made already: days go forward.
    """
    n, records = len(voter_id), plans(home)
    counted = {
        name: record
        for name, record in records.items()
        if record.state not in (DRAFT, APPROVED) or name.startswith(DAY)
    }
    _refuse_later(counted, date)
    identity = read_identity(home)
    index = pd.Index(voter_id)
    present = present_id_of(home)
    seen_on = _first_seen(identity, index, settings)
    n_decisions, last_day = np.zeros(n, dtype=np.int64), np.full(n, NEVER)
    chance, contacts = np.ones(n), list[pd.DataFrame]()
    online, rule = online_so_far(home, at), RepeatRule.of(settings.loop)
    planned = [
        *_decided_plans(home, counted, settings),
        *_days_online(online, settings),
    ]
    for plan in sorted(planned, key=lambda plan: plan.day):
        ids = with_present_ids(plan.rows["voter_id"], present)
        row = index.get_indexer(pd.Index(ids))
        rows, row = plan.rows[row >= 0], row[row >= 0]
        pool = rule.allows(n_decisions, plan.day - last_day)
        pool &= seen_on <= plan.day
        chance = chance * np.where(pool, 1.0 - plan.explored, 1.0)
        # a voter who was decided comes back after the window as everybody once was
        chance[row] = 1.0
        last_day = last_day.copy()
        last_day[row] = (rows["decided_on"] - settings.start_on).dt.days.to_numpy()
        n_decisions = n_decisions + np.bincount(row, minlength=n)
        sent = (rows["message_id"] != CONTROL).to_numpy(dtype=bool)
        message = rows["message_id"].to_numpy(dtype=object)[sent]
        contacts.append(pd.DataFrame({"voter": row[sent], "message_id": message}))
    spent = sum(_money(record) for record in counted.values()) + online.taken_usd
    had = pd.concat(contacts, ignore_index=True) if contacts else _NO_CONTACTS
    open_to = with_present_ids(online.open["voter_id"], present)
    has_offer = np.asarray(index.isin(open_to), dtype=bool)
    return Yesterday(n_decisions, last_day, chance, spent, had, online, has_offer)


_NO_CONTACTS = pd.DataFrame(
    {"voter": pd.Series(dtype="int64"), "message_id": pd.Series(dtype="object")}
)


def _refuse_later(counted: dict[str, PlanRecord], date: pd.Timestamp) -> None:
    later = [
        name
        for name, record in counted.items()
        if name.startswith(DAY) and name > plan_of_day(date) and record.state in LIVE
    ]
    if later:
        raise ValueError(
            f"expected days in order: {later[0].removeprefix(DAY)} was made already, "
            f"got {date:%Y-%m-%d}; its pool would not be the one that was drawn from"
        )


def _money(record: PlanRecord) -> float:
    if record.state in (DRAFT, APPROVED):
        return total_usd(record.draft_body["amounts"])
    return committed_usd(record)


def _decided_plans(
    home: Path, counted: dict[str, PlanRecord], settings: LoopSettings
) -> Iterator[_Plan]:
    """The plans that have decided voters."""
    rows = decided(home, counted, LIVE)
    if rows.empty:
        return
    of_plan = {str(name): part for name, part in rows.groupby("plan_id", sort=False)}
    for name, part in of_plan.items():
        if name.startswith(DAY):
            part = part.assign(decided_on=pd.Timestamp(name.removeprefix(DAY)))
        first = int((part["decided_on"].min() - settings.start_on).days)
        share = explored_share(home / PLANS / name, settings.holdout_share)
        yield _Plan(part, first, share)


def _days_online(online: Online, terms: LoopSettings) -> Iterator[_Plan]:
    """What was sent online, day by day."""
    for day, rows in online.contacts.groupby("decided_on"):
        yield _Plan(rows, int((pd.Timestamp(str(day)) - terms.start_on).days), 0.0)


def explored_share(folder: Path, holdout_share: float) -> float:
    """Probability to explore under a plan, of a pool member who is not held out.

    A day's settings state it. A plan of several days states the total probability of
    every voter whom it left undecided: (1 − h) P(in the pool) (1 − ε).
    """
    stated = json.loads((folder / "terms.json").read_text())["terms"].get("explore")
    if stated is not None:
        return float(stated)
    rows = pd.read_parquet(folder / "assignments.parquet")
    left = rows[(rows["block"] == UNDECIDED) & (rows["role"] == "plan")]
    if left.empty:
        return 0.0
    free = (1.0 - holdout_share) * left["pool_probability"]
    return float(1.0 - (left["propensity"] / free).median())


def _first_seen(
    identity: pd.DataFrame, index: pd.Index, settings: LoopSettings
) -> Ints:
    """Day on which each voter was first in the file, below 0 before the campaign."""
    first = identity.drop_duplicates("voter_id")
    days = (first["since"] - settings.start_on).dt.days.to_numpy(dtype=np.int64)
    at = pd.Index(first["voter_id"].to_numpy(dtype=object)).get_indexer(index)
    return np.asarray(np.where(at >= 0, days[np.maximum(at, 0)], NEVER))
