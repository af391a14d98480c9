"""The facts of a campaign's week, from its plans, spend and measured lift.

Reads, under the campaign's home:

    plans/<plan_id>/plan.parquet         PLAN table of a day
    plans/<plan_id>/assignments.parquet  ASSIGNMENTS table, the holdout included
    plans/<plan_id>/terms.json           may hold `limits`: uses of the limits
    lift.json                            what `hustings lift` measured, see
                                         `experiments.results.LiftSummary`

Without a plan in `plans/`, the latest run's plan is used. Files that are missing are
listed in `WeekFacts.missing`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from hustings.experiments.declaration import Campaign
from hustings.experiments.plans import BINDING, CANCELLED, PLANS, REJECTED
from hustings.experiments.report import WeekFacts
from hustings.experiments.report.lift_page import (
    ALL,
    LiftOfMessage,
    lift_by_message,
)
from hustings.experiments.report.week import (
    AlarmOfWeek,
    MessageOfWeek,
    OutcomesIn,
    SpendOfDay,
    VotesGained,
)
from hustings.experiments.results import LiftSummary, StatedInterval, record_of_run
from hustings.features.tables import ASSIGNMENTS, PLAN, TableError, check
from hustings.serving.plan.explain import LimitUse

Json = dict[str, Any]

STOP = "STOP"
ENDED = (REJECTED, CANCELLED)
"""States of plans that were not and will not be sent."""
WEEK = pd.Timedelta(days=7)
MONEY = ("planned_usd", "committed_usd", "spent_usd")
PER_VOTE = 100.0
"""Points of one voter that count as one vote."""


@dataclass(frozen=True)
class _Sent:
    """Contacts planned until a day, over all counted plans."""

    contacts: pd.DataFrame
    n_holdout: int | None
    limits: tuple[LimitUse, ...]
    missing: tuple[str, ...]


def week_facts(
    home: Path,
    campaign: Campaign,
    *,
    last_on: pd.Timestamp,
    spend: pd.DataFrame | None,
    states: Mapping[str, str],
    paused: Mapping[str, str],
    lift: LiftSummary | str,
    titles: Mapping[str, str],
) -> WeekFacts:
    """Gather the facts for the page of a week.

    Args:
        home: The campaign's folder.
        campaign: Its declaration.
        last_on: Last day of the week.
        spend: A row a plan, channel or day: `send_on` and any of `planned_usd`,
            `committed_usd`, `spent_usd`; None where no spend is on record.
        states: State of every plan by id. Plans that ended are left out; drafts are
            left out where another plan is binding.
        paused: Reason of each paused message, by message.
        lift: What is measured so far, or why nothing can be.
        titles: Of the messages that have one, by message.

    Raises:
        FileNotFoundError: If the campaign has no plan at all.
        TableError: If a plan is not what its table declares.
    """
    sent, outcome = _sent(home, last_on, states), campaign.outcome.as_valued()
    missing = list(sent.missing)
    if isinstance(lift, str):
        missing.append(f"Measured lift: {lift}.")
    if spend is None:
        missing.append("Money committed and spent: no plan's life is on record.")
    rows = () if isinstance(lift, str) else lift_by_message(lift)
    return WeekFacts(
        title=campaign.campaign.title,
        last_on=last_on,
        outcome=outcome,
        messages=_messages(sent, last_on, paused),
        spend=_by_day(sent.contacts, spend, last_on),
        budget_usd=declared_budget(home, campaign),
        lift=rows,
        holdout=sent.n_holdout,
        outcomes=None
        if isinstance(lift, str)
        else OutcomesIn(lift.n_due, lift.n_in, lift.n_decided - lift.n_due),
        alarms=alarms_of(paused, lift),
        limits=sent.limits,
        votes_needed=campaign.report.votes_needed,
        votes_gained=_votes(sent.contacts, rows, campaign),
        missing=missing,
        titles=titles,
    )


def alarms_of(paused: Mapping[str, str], lift: LiftSummary | str) -> list[AlarmOfWeek]:
    """Paused messages, and what forbids to read the measured lift."""
    pauses = [AlarmOfWeek("paused", f"{m}: {why}") for m, why in paused.items()]
    if isinstance(lift, str):
        return pauses
    return pauses + [
        AlarmOfWeek("measured lift", text, lift.as_of)
        for text in lift.sentences
        if text.startswith(STOP)
    ]


# --- plans ---


def _sent(home: Path, last_on: pd.Timestamp, states: Mapping[str, str]) -> _Sent:
    folders = sorted(path for path in (home / PLANS).glob("*") if path.is_dir())
    plan_folders = [path for path in folders if path.name in counted(folders, states)]
    missing = []
    if (
        plan_folders
        and states
        and not any(states.get(p.name) in BINDING for p in plan_folders)
    ):
        missing.append("Nothing has gone out yet: the drafts stand for it.")
    if not plan_folders:
        plan_folders = [_latest_run(home)]
        missing.append(
            f"Plans by day: {PLANS}/ is empty, the latest run's plan stands for them."
        )
    parts: list[pd.DataFrame] = []
    limits: tuple[LimitUse, ...] = ()
    held: set[str] | None = set()
    for path in plan_folders:
        plan = _table(path / "plan.parquet", PLAN)
        parts.append(plan[plan["send_on"] <= last_on])
        if parts[-1].empty:
            continue
        terms = _json(path / "terms.json").get("terms", {})
        limits = tuple(map(LimitUse.from_json, terms.get("limits", [])))
        held = with_held(held, path / "assignments.parquet")
    if held is None:
        missing.append("The holdout: a plan is without its assignments.")
    contacts = pd.concat(parts, ignore_index=True)
    return _Sent(contacts, None if held is None else len(held), limits, tuple(missing))


def counted(folders: Sequence[Path], states: Mapping[str, str]) -> frozenset[str]:
    """Ids of the plans that a week counts: binding plans, or drafts without any.

    Drafts and binding plans may hold the same contacts: counting both would count some
    of them twice.
    """
    live = {p.name for p in folders if states.get(p.name) not in ENDED}
    binding = {name for name in live if states.get(name) in BINDING}
    return frozenset(binding or live)


def last_planned_on(home: Path) -> pd.Timestamp:
    """The last day for which anything is planned.

    Raises:
        FileNotFoundError: If nothing is.
    """
    last_day = _sent(home, pd.Timestamp.max, {}).contacts["send_on"].max()
    if pd.isna(last_day):
        raise FileNotFoundError(f"{home}: expected a planned contact, found none")
    return pd.Timestamp(last_day)


def _latest_run(home: Path) -> Path:
    pointer = home / "latest"
    if not pointer.exists():
        raise FileNotFoundError(
            f"{home}: expected plans in {PLANS}/ or a run, found neither; `hustings "
            "run` or `hustings day` makes one"
        )
    return home / pointer.read_text().strip()


def with_held(held: set[str] | None, path: Path) -> set[str] | None:
    """Voters held out so far; None once a plan lacks its assignments."""
    if held is None or not path.exists():
        return None
    assigned = _table(path, ASSIGNMENTS)
    return held | set(assigned.loc[assigned["role"] == "holdout", "voter_id"])


def _table(path: Path, table: Any) -> pd.DataFrame:
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a plan's table, found none")
    try:
        return check(table, pd.read_parquet(path))
    except TableError as failure:
        raise TableError(f"{path}: {failure}") from None


def _json(path: Path) -> Json:
    if not path.exists():
        return {}
    value: Json = json.loads(path.read_text())
    return value


# --- what changed ---


def _messages(
    sent: _Sent, last_on: pd.Timestamp, paused: Mapping[str, str]
) -> list[MessageOfWeek]:
    contacts = sent.contacts
    now = _by_message(contacts[contacts["send_on"] > last_on - WEEK])
    earlier = contacts["send_on"].between(
        last_on - 2 * WEEK, last_on - WEEK, inclusive="right"
    )
    before = _by_message(contacts[earlier])
    full = {limit.channel for limit in sent.limits if limit.channel and limit.binds}
    rows = []
    for message in sorted({*now, *before}):
        this_week, old = now.get(message, _NONE_SENT), before.get(message, _NONE_SENT)
        rows.append(
            MessageOfWeek(
                message, this_week.n, old.n, this_week.cost, old.cost, this_week.lift,
                old.lift, message in paused, tuple(sorted(full & this_week.channels)),
            )
        )  # fmt: skip
    return rows


class _ContactsOf(NamedTuple):
    """Count, mean cost and lift of the planned contacts of a message."""

    n: int
    cost: float | None
    lift: float | None
    channels: frozenset[str]


_NONE_SENT = _ContactsOf(0, None, None, frozenset())


def _by_message(contacts: pd.DataFrame) -> dict[str, _ContactsOf]:
    """Planned contacts by message; explorers only count."""
    by_message = {}
    for message, rows in contacts.groupby("message_id"):
        chosen = rows[rows["role"] == "plan"]
        averaged = chosen if len(chosen) else rows
        by_message[str(message)] = _ContactsOf(
            len(rows), float(averaged["cost_usd"].mean()),
            float(averaged["lift"].mean()), frozenset(rows["channel"]),
        )  # fmt: skip
    return by_message


# --- money and votes ---


def _by_day(
    contacts: pd.DataFrame, spend: pd.DataFrame | None, last_on: pd.Timestamp
) -> list[SpendOfDay]:
    planned = contacts.groupby("send_on")["cost_usd"].sum().rename("planned_usd")
    table = planned.to_frame()
    if spend is not None:
        money_columns = [name for name in MONEY if name in spend]
        day = pd.to_datetime(spend["send_on"])
        ledger = spend[day <= last_on].groupby(day)[money_columns].sum(min_count=1)
        table = table.drop(columns=[n for n in money_columns if n in table])
        table = ledger.join(table, how="outer")
    if table.empty:
        return []
    # a day on which nothing was sent cost nothing; what nobody recorded stays unknown
    every = pd.date_range(table.index.min(), max(last_on, table.index.max()))
    table = table.reindex(every, fill_value=0.0).reindex(columns=list(MONEY))
    return [
        SpendOfDay(f"{day:%Y-%m-%d}", *(_none_if_missing(row[k]) for k in MONEY))
        for day, row in table.iterrows()
    ]


def _none_if_missing(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def declared_budget(home: Path, campaign: Campaign) -> float | None:
    """Budget as declared, or of the latest run's spend per voter."""
    if campaign.plan.budget_usd is not None or not (home / "latest").exists():
        return campaign.plan.budget_usd
    plan = record_of_run(_latest_run(home)).plan
    return None if plan is None else plan.budget_usd


def _votes(
    contacts: pd.DataFrame, lift: Sequence[LiftOfMessage], campaign: Campaign
) -> VotesGained:
    scale = PER_VOTE * campaign.outcome.as_valued().unit_per_point
    predicted = float(contacts["lift"].sum()) / scale
    total = next((row for row in lift if row.message_id == ALL), None)
    measured = None
    if total is not None and total.measured.value is not None:
        measured = _scaled(total.measured, len(contacts) / scale)
    return VotesGained(
        StatedInterval(predicted, None, None),
        measured,
        "A vote is support times the chance to vote."
        if campaign.outcome.value == "votes"
        else "A point gained of a hundred voters is counted as one vote.",
    )


def _scaled(interval: StatedInterval, by: float) -> StatedInterval:
    """Multiply an interval by a number; unknown parts stay None."""
    ends = (interval.value, interval.low, interval.high)
    return StatedInterval(*(None if end is None else end * by for end in ends))
