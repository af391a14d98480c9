"""What `/recommend` handed out: contacts and money of the campaign that no plan made.

The endpoint keeps its decisions in the store of the campaign's reactions. A decision
counts once `POST /sent` has reported it as sent. An open one reserves its money until
it expires. What a plan had decided is a contact of that plan, whoever carried it out.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hustings.features.arrays import Bools
from hustings.features.asof import naive_utc
from hustings.features.tables import ASSIGNMENTS, UNDECIDED, check
from hustings.serving.decided import SERVING
from hustings.serving.decisions import HELD_OUT, ONLINE, OnlineDecisions
from hustings.serving.reactions.http import store_of_bundle

PREFIX = "online-"
"""Begins the plan_id of what was sent online on a day."""
RESERVED = f"{PREFIX}reserved"
"""Stands for the offers that are open in a table of money."""
SENT, OPEN = "sent", "open"
"""States of the two in a table of money."""
NOBODY = ""
"""The voter_id of a contact of a person who was forgotten: its money stays spent."""


@dataclass(frozen=True)
class Online:
    """What was handed out online, as of a moment.

    Attributes:
        contacts: What was sent and no plan had decided: ASSIGNMENTS with plan_id (one
            for each day of sending), decided_on, sent_at and cost_usd. No chance was
            drawn: propensities are 1, and no block of a design holds them.
        of_forgotten: The same contacts of persons who were forgotten since: plan_id,
            message_id, channel, decided_on and cost_usd.
        open: Offers that were neither sent nor expired: voter_id, channel, decided_on
            and cost_usd.
        of_plans: Contacts of plans that were carried out online: voter_id, plan_id and
            sent_at.
        open_of_plans: Contacts of plans that are on offer: voter_id and plan_id.
        first_offered_at: When each voter was first offered anything that no plan had
            decided, or would have been if not held out; by voter_id.
    """

    contacts: pd.DataFrame
    of_forgotten: pd.DataFrame
    open: pd.DataFrame
    of_plans: pd.DataFrame
    open_of_plans: pd.DataFrame
    first_offered_at: pd.Series

    @property
    def paid(self) -> pd.DataFrame:
        """Every contact that no plan had decided, those of the forgotten included."""
        columns = ["plan_id", "message_id", "channel", "decided_on", "cost_usd"]
        parts = [self.contacts[columns], self.of_forgotten[columns]]
        return pd.concat([p for p in parts if len(p)] or parts[:1], ignore_index=True)

    @property
    def sent_usd(self) -> float:
        """Money of the contacts that no plan had decided."""
        return float(self.paid["cost_usd"].sum())

    @property
    def reserved_usd(self) -> float:
        """Money of the open offers."""
        return float(self.open["cost_usd"].sum())

    @property
    def taken_usd(self) -> float:
        """Money that nobody else may spend."""
        return self.sent_usd + self.reserved_usd

    def taken_on(self, day: pd.Timestamp) -> dict[str, int]:
        """Contacts that were sent or are offered on a day, by channel."""
        columns = ["channel", "decided_on"]
        rows = pd.concat([self.paid[columns], self.open[columns]], ignore_index=True)
        counts = rows.loc[rows["decided_on"] == day, "channel"].value_counts()
        return {str(channel): int(n) for channel, n in counts.items()}


def is_online(plan_id: str) -> bool:
    """Whether a plan_id is that of a day's online contacts.

    >>> is_online("online-2026-12-01"), is_online("day-2026-12-01")
    (True, False)
    """
    return plan_id.startswith(PREFIX)


def online_so_far(home: Path, at: pd.Timestamp | None = None) -> Online:
    """What was handed out online by a moment.

    Args:
        home: The campaign's folder.
        at: The moment; without it, all that was ever sent, and no offer is open.
    """
    rows = OnlineDecisions.read(store_of_bundle(home / SERVING))
    sent = rows[rows["sent_at"].notna() & _by(rows["sent_at"], at)]
    sent = sent.sort_values(["sent_at", "decision_id"], kind="stable")
    by_none = sent["plan_id"] == ONLINE
    of_nobody = sent["voter_id"] == NOBODY
    contacts = _with_days(sent[by_none])
    return Online(
        _assignments(contacts[contacts["voter_id"] != NOBODY]),
        contacts[contacts["voter_id"] == NOBODY].reset_index(drop=True),
        _open(rows, at),
        sent.loc[~by_none & ~of_nobody, ["voter_id", "plan_id", "sent_at"]],
        _open_of_plans(rows, at),
        rows[(rows["plan_id"] == ONLINE) & _by(rows["decided_at"], at)]
        .groupby("voter_id")["decided_at"].min(),
    )  # fmt: skip


def _by(times: pd.Series, at: pd.Timestamp | None) -> Bools:
    if at is None:
        return np.ones(len(times), dtype=bool)
    return (times <= naive_utc(at)).to_numpy(dtype=bool)


def _with_days(sent: pd.DataFrame) -> pd.DataFrame:
    """Contacts with plan_id and decided_on."""
    day = sent["sent_at"].dt.normalize()
    name = PREFIX + day.dt.strftime("%Y-%m-%d")
    # a voter is seldom sent two offers on a day: of an expired one, say
    again = sent.assign(name=name).groupby(["name", "voter_id"]).cumcount()
    again = again.where(sent["voter_id"] != NOBODY, 0)
    suffix = ("-" + (again + 1).astype("str")).where(again > 0, "")
    return sent.assign(plan_id=(name + suffix).astype("str"), decided_on=day)


def _assignments(contacts: pd.DataFrame) -> pd.DataFrame:
    rows = contacts.assign(
        block=UNDECIDED,
        pool_probability=1.0,
        intended_message_id=contacts["message_id"],
        intended_channel=contacts["channel"],
    )
    columns = [*ASSIGNMENTS.columns, "plan_id", "decided_on", "sent_at", "cost_usd"]
    for _, of_day in rows.groupby("plan_id"):
        check(ASSIGNMENTS, of_day[list(ASSIGNMENTS.columns)])
    return rows[columns].reset_index(drop=True)


def _open(rows: pd.DataFrame, at: pd.Timestamp | None) -> pd.DataFrame:
    """Offers that reserve their money at a moment."""
    columns = ["voter_id", "channel", "decided_on", "cost_usd"]
    rows = rows.assign(decided_on=rows["decided_at"].dt.normalize())
    is_open = _is_open(rows, at)
    reserves = (rows["plan_id"] == ONLINE) & (rows["role"] != HELD_OUT)
    return rows.loc[is_open & reserves, columns].reset_index(drop=True)


def _open_of_plans(rows: pd.DataFrame, at: pd.Timestamp | None) -> pd.DataFrame:
    of_plan = _is_open(rows, at) & (rows["plan_id"] != ONLINE)
    return rows.loc[of_plan, ["voter_id", "plan_id"]].reset_index(drop=True)


def _is_open(rows: pd.DataFrame, at: pd.Timestamp | None) -> Bools:
    """Whether each decision is neither sent nor expired, shape (n,)."""
    if at is None:
        return np.zeros(len(rows), dtype=bool)
    now = naive_utc(at)
    unsent = rows["sent_at"].isna() | (rows["sent_at"] > now)
    is_open = unsent & (rows["decided_at"] <= now) & (rows["expires_at"] > now)
    return np.asarray(is_open, dtype=bool)
