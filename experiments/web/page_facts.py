"""Results objects of the pages that no command has one for: plans, monitor, files."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hustings.experiments.lift.files import lift_measured
from hustings.experiments.plans import (
    APPROVED,
    DRAFT,
    LOCKED,
    REJECTED,
    PlanRecord,
    diff,
    find,
    offered,
    plans,
)
from hustings.experiments.plans.diff import BY, MOST_ROWS
from hustings.experiments.plans.money import total_usd
from hustings.experiments.plans.record import plan_of_name
from hustings.experiments.present_pages import message_titles
from hustings.experiments.report.lift_page import BADGES
from hustings.experiments.stages.context import Run, latest
from hustings.features.reaction import VALENCES
from hustings.features.stored import Stored
from hustings.features.tables import SMALLEST_CELL
from hustings.serving.monitor.http import STALLED
from hustings.serving.monitor.snapshot import MOST_MESSAGES
from hustings.serving.monitor.stream import BACKLASH, NEW_ACCOUNTS, OUTSIDE_AREA

REPORT = "report.html"
_WEEK = re.compile(r"week-(\d{4}-\d{2}-\d{2})\.html")
_NEXT = {DRAFT: (APPROVED, REJECTED), APPROVED: (LOCKED, REJECTED)}
"""Steps that a person may take from here; the others are those of commands."""
ALARMS: Mapping[str, str] = {
    BACKLASH: "Backlash",
    NEW_ACCOUNTS: "New accounts",
    OUTSIDE_AREA: "From outside the area",
}
"""Kinds of alarms in words."""
_COUNTS = ("before", "now", "added", "removed", "changed")


# --- a plan ---------------------------------------------------------------------------


@dataclass(frozen=True)
class DiffRow(Stored):
    """Contacts of one message, channel or county, rounded as `plans diff` has them.

    Attributes:
        value: The message's id, the channel or the county.
        before: Contacts of the other plan.
        now: Contacts of this one.
        added: Of voters whom the other has nothing for.
        removed: Of voters whom this one has nothing for.
        changed: Of voters who get something else.
    """

    value: str
    before: int
    now: int
    added: int
    removed: int
    changed: int


@dataclass(frozen=True)
class DiffPart(Stored):
    """The rows of a difference by one column.

    Attributes:
        by: message, channel or county.
        rows: The largest first.
        further: Those that `plans diff` sums up.
    """

    by: str
    rows: tuple[DiffRow, ...]
    further: tuple[DiffRow, ...]


@dataclass(frozen=True)
class DiffReason(Stored):
    """Why contacts were removed or changed.

    Attributes:
        reason: In words.
        n: Contacts, rounded down to twenties.
    """

    reason: str
    n: int


@dataclass(frozen=True)
class DiffFacts(Stored):
    """What a plan changes, as `plans diff` says it.

    Attributes:
        against: The plan that it is compared with; empty for none.
        usd_before: Money of the other, places included.
        usd: Money of this plan.
        before: Contacts of the other.
        now: Contacts of this plan.
        added: Of voters whom the other has nothing for, in twenties.
        removed: Of voters whom this plan has nothing for, in twenties.
        changed: Of voters who get something else, in twenties.
        places_before: Whole places of the other that get something.
        places: Whole places of this plan.
        parts: The same by message, channel and county.
        reasons: Why contacts were removed or changed.
        smallest: Counts of persons are multiples of it.
    """

    against: str
    usd_before: float
    usd: float
    before: int
    now: int
    added: int
    removed: int
    changed: int
    places_before: int
    places: int
    parts: tuple[DiffPart, ...]
    reasons: tuple[DiffReason, ...]
    smallest: int


@dataclass(frozen=True)
class PlanStep(Stored):
    """A step that a plan has taken.

    Attributes:
        entry: Number of the ledger's entry.
        at: When, ISO 8601.
        to: State that it leads to.
        by: Who took it; empty where the ledger names nobody.
        why: The reason; empty for none.
        key: The batch; empty for none.
    """

    entry: int
    at: str
    to: str
    by: str
    why: str
    key: str


@dataclass(frozen=True)
class PlanPage(Stored):
    """One plan.

    Attributes:
        plan_id: Its name.
        state: draft, approved, locked and so on.
        n_contacts: Contacts when it was drafted.
        usd: What they cost.
        model: Version that it was made with.
        steps: In the ledger's order.
        changes: What it changes.
        others: Plans that it may be compared with.
        may: States that a person may bring it to now.
        titles: Title of each message that has one, by message.
    """

    plan_id: str
    state: str
    n_contacts: int
    usd: float
    model: str
    steps: tuple[PlanStep, ...]
    changes: DiffFacts
    others: tuple[str, ...]
    may: tuple[str, ...]
    titles: Mapping[str, str]


def plan_page(run: Run, plan_id: str, against: str) -> PlanPage:
    """One plan with what it changes.

    Args:
        run: Declares the campaign and its folder.
        plan_id: Which.
        against: Another plan, by the beginning of its name; empty for the last one
            that somebody approved.

    Raises:
        PlanStepError: If there is none of these names.
    """
    records = offered(run.home)
    record = plan_of_name(records, plan_id)
    body = record.draft_body
    return PlanPage(
        plan_id=plan_id,
        state=record.state,
        n_contacts=int(body["n_contacts"]),
        usd=total_usd(body["amounts"]),
        model=str(body.get("model", "")),
        steps=tuple(_steps(record)),
        changes=diff_facts(run.home, plan_id, against),
        others=tuple(name for name in reversed(records) if name != plan_id),
        may=_NEXT.get(record.state, ()),
        titles=message_titles(run),
    )


def diff_facts(home: Path, plan_id: str, against: str) -> DiffFacts:
    """What a plan changes, every count as it may be shown.

    Args:
        home: The campaign's folder.
        plan_id: Which.
        against: See `plan_page`.
    """
    other = find(home, against) if against else ""
    changes = diff(home, plans(home), plan_id, other).shown()
    return DiffFacts(
        against=changes.against,
        usd_before=changes.usd[0],
        usd=changes.usd[1],
        **changes.n,
        places_before=changes.places[0],
        places=changes.places[1],
        parts=tuple(_part(name, changes.by[name]) for name in BY),
        reasons=tuple(
            DiffReason(reason, n)
            for reason, n in zip(
                changes.reasons["reason"].astype(str).tolist(),
                changes.reasons["n"].tolist(),
                strict=True,
            )
        ),
        smallest=SMALLEST_CELL,
    )


def _part(name: str, counted: pd.DataFrame) -> DiffPart:
    ranked = counted.sort_values(["now", "value"], ascending=[False, True])
    values = ranked.astype({"value": "str"})[["value", *_COUNTS]].to_numpy(object)
    rows = [DiffRow(*row) for row in values.tolist()]
    return DiffPart(
        name.removesuffix("_id"), tuple(rows[:MOST_ROWS]), tuple(rows[MOST_ROWS:])
    )


def _steps(record: PlanRecord) -> Iterable[PlanStep]:
    for step in record.steps:
        by, why = (str(step.body.get(name, "")) for name in ("by", "why"))
        yield PlanStep(step.seq, step.at, step.to, by, why, step.key)


# --- the monitor ----------------------------------------------------------------------


@dataclass(frozen=True)
class WellReceived(Stored):
    """Share of good among good and bad reactions, with its 95 % interval.

    Attributes:
        rate: The share.
        low: Lower end.
        high: Upper end.
    """

    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class PauseFacts(Stored):
    """A pause that holds now.

    Attributes:
        at: Since when, ISO 8601.
        by: Who paused it.
        reason: Why.
    """

    at: str
    by: str
    reason: str


@dataclass(frozen=True)
class ChangeFacts(Stored):
    """Share of good reactions of late, against what came before.

    Attributes:
        points: Percentage points.
        now: Share of late.
        before: Share before.
        hours: So many hours are of late.
    """

    points: float
    now: float
    before: float
    hours: int


@dataclass(frozen=True)
class SegmentFacts(Stored):
    """How a message goes down with a segment, as far as that may be shown.

    Attributes:
        segment: Its name.
        n: Reactions that are shown.
        rate: Share of good ones; None where neither good nor bad is shown.
    """

    segment: str
    n: int
    rate: WellReceived | None


@dataclass(frozen=True)
class AlarmFacts(Stored):
    """An alarm of a message.

    Attributes:
        kind: In words.
        text: What was heard.
        contradicts: What the randomised test says otherwise; empty for nothing.
        since: Hour in which it began, ISO 8601.
        n_sent: Voters who have been sent the message; None where that may not be
            shown.
        n_planned: Voters who are planned to get it; None where that may not be shown.
    """

    kind: str
    text: str
    contradicts: str
    since: str
    n_sent: int | None
    n_planned: int | None


@dataclass(frozen=True)
class MonitoredMessage(Stored):
    """A message and how it goes down, as far as that may be shown.

    Attributes:
        message_id: The message.
        title: Its title; empty for none.
        text: What it says; empty where the bundle does not know it.
        issue: Its issue; empty where nothing is heard of it.
        rate: Share of good reactions; None where neither good nor bad is shown.
        good: Good reactions.
        bad: Bad ones.
        neutral: Neutral ones.
        set_apart: From outside the area or of new accounts: they count in no rate.
        change: Of late; None where too few are heard to say.
        hours: Good and bad reactions by hour, the last hour last.
        segments: Its largest segments.
        alarms: Alarms that stand.
        pause: Its pause; None where it is not paused.
    """

    message_id: str
    title: str
    text: str
    issue: str
    rate: WellReceived | None
    good: int
    bad: int
    neutral: int
    set_apart: int
    change: ChangeFacts | None
    hours: tuple[tuple[int, int], ...]
    segments: tuple[SegmentFacts, ...]
    alarms: tuple[AlarmFacts, ...]
    pause: PauseFacts | None


@dataclass(frozen=True)
class MonitorPage(Stored):
    """The monitor at one look.

    Attributes:
        fault: Why there is no look; empty where there is one.
        heard_until: Hour up to which reactions are shown, ISO 8601; None for none.
        open_wishes: Replies that may ask to be left alone.
        messages: With an alarm or a pause first, then as the monitor lists them, then
            those that nothing is heard of.
        n_messages: Of all, before any were searched for.
        search: What was searched for; empty for nothing.
        smallest: A figure speaks of at least so many people.
        hour_minutes: Minutes that are counted together.
    """

    fault: str
    heard_until: str | None
    open_wishes: int
    messages: tuple[MonitoredMessage, ...]
    n_messages: int
    search: str
    smallest: int
    hour_minutes: int


def monitor_page(
    look_text: str,
    *,
    is_stalled: bool,
    message_ids: Iterable[str],
    texts: Mapping[str, str],
    titles: Mapping[str, str],
    search: str,
) -> MonitorPage:
    """The monitor's look as a page.

    Args:
        look_text: The look, as `/monitor` gives it.
        is_stalled: Whether it may be old.
        message_ids: Messages of the campaign.
        texts: By message.
        titles: By message, of those that have one.
        search: Words that the id, title, text or issue of a message must hold.
    """
    look: dict[str, Any] = json.loads(look_text)
    if is_stalled or "messages" not in look:
        fault = STALLED if is_stalled else "the reactions are still being counted"
        return MonitorPage(fault, None, 0, (), 0, search, SMALLEST_CELL, 0)
    heard = {row["message_id"]: row for row in look["messages"]}
    paused = {name: row["paused"] for name, row in heard.items() if row["paused"]}
    paused |= {row["message_id"]: row for row in look["paused_unheard"]}
    alarms: dict[str, list[AlarmFacts]] = {}
    for alarm in look["alarms"]:
        alarms.setdefault(alarm["message_id"], []).append(_alarm(alarm))
    first = [*alarms, *paused, *heard, *sorted(message_ids)]
    rows = [
        _monitored(name, heard.get(name), paused.get(name), alarms.get(name, ()),
                   titles.get(name, ""), texts.get(name, ""))
        for name in dict.fromkeys(first)
    ]  # fmt: skip
    wanted = search.casefold().split()
    matching = [row for row in rows if _holds(row, wanted)]
    return MonitorPage(
        fault="",
        heard_until=look["heard_until"],
        open_wishes=look["open_wishes"],
        messages=tuple(matching[:MOST_MESSAGES]),
        n_messages=len(rows),
        search=search,
        smallest=SMALLEST_CELL,
        hour_minutes=look["hour_minutes"],
    )


def _monitored(
    name: str,
    heard: Mapping[str, Any] | None,
    pause: Mapping[str, str] | None,
    alarms: Iterable[AlarmFacts],
    title: str,
    text: str,
) -> MonitoredMessage:
    counts: Mapping[str, Any] = heard or {}
    change = counts.get("change")
    return MonitoredMessage(
        message_id=name,
        title=title,
        text=text,
        issue=counts.get("issue", ""),
        rate=_rate(counts.get("rate")),
        good=counts.get("good", 0),
        bad=counts.get("bad", 0),
        neutral=counts.get("neutral", 0),
        set_apart=counts.get("outside_area", 0) + counts.get("new_accounts", 0),
        change=None if change is None else ChangeFacts(**change),
        hours=tuple((good, bad) for good, bad in counts.get("series", ())),
        segments=tuple(map(_segment, counts.get("segments", ()))),
        alarms=tuple(alarms),
        pause=None
        if pause is None
        else PauseFacts(pause["at"], pause["by"], pause["reason"]),
    )


def _alarm(alarm: Mapping[str, Any]) -> AlarmFacts:
    n_sent, n_planned = (
        (alarm[name] or {}).get("n") or None for name in ("sent", "planned")
    )
    return AlarmFacts(
        kind=ALARMS[alarm["kind"]],
        text=alarm["text"],
        contradicts=alarm["contradicts_lift"] or "",
        since=alarm["since"],
        n_sent=n_sent,
        n_planned=n_planned,
    )


def _segment(row: Mapping[str, Any]) -> SegmentFacts:
    n = sum(row[valence] for valence in VALENCES)
    return SegmentFacts(row["segment"], n, _rate(row["rate"]))


def _rate(rate: Mapping[str, float] | None) -> WellReceived | None:
    if rate is None:
        return None
    return WellReceived(rate["rate"], rate["low"], rate["high"])


def _holds(row: MonitoredMessage, words: Iterable[str]) -> bool:
    text = " ".join((row.message_id, row.title, row.text, row.issue)).casefold()
    return all(word in text for word in words)


# --- files ----------------------------------------------------------------------------


@dataclass(frozen=True)
class PagesOnFile(Stored):
    """Pages that commands have written.

    Attributes:
        run: The latest run; None before any.
        has_report: Whether it has a report.
        weeks: Last days of the weeks that have a page, the newest first, ISO dates.
        lift: Verdict of what was measured last; None where nothing was.
        lift_as_of: When it was looked at, ISO date; None where nothing was.
    """

    run: str | None
    has_report: bool
    weeks: tuple[str, ...]
    lift: str | None
    lift_as_of: str | None


def pages_on_file(run: Run) -> PagesOnFile:
    """Which pages there are in a campaign's folder."""
    name, lift = latest(run.home), lift_measured(run.home)
    week_names = (_WEEK.fullmatch(file.name) for file in run.home.glob("week-*.html"))
    return PagesOnFile(
        run=name,
        has_report=name is not None and (run.home / name / REPORT).exists(),
        weeks=tuple(sorted((week[1] for week in week_names if week), reverse=True)),
        lift=None if lift is None else BADGES[lift.verdict][1],
        lift_as_of=None if lift is None else lift.as_of,
    )


def page_file(run: Run, name: str) -> Path:
    """A page that a command has written: `report`, or `week-<date>`.

    Raises:
        FileNotFoundError: If there is none.
    """
    on_file = pages_on_file(run)
    if name == "report" and on_file.has_report:
        return run.home / str(on_file.run) / REPORT
    if name.removeprefix("week-") in on_file.weeks:
        return run.home / f"{name}.html"
    raise FileNotFoundError(f"{name}: expected a page that a command wrote, found none")
