"""Where a campaign stands: what is due, what waits for whom, money, days, alarms.

Every figure is that of the command that is about it: plans and money of `hustings
plans`, budget and alarms of `hustings week`, the verdict of `hustings run`.
"""

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from hustings.experiments.declaration import Campaign
from hustings.experiments.handover.lists import EXPORTS
from hustings.experiments.lift.files import lift_measured
from hustings.experiments.loop.yesterday import DAY, plan_of_day
from hustings.experiments.plans import (
    APPROVED,
    DRAFT,
    LOCKED,
    RETURNED,
    SENT,
    PlanRecord,
    batches_of,
    folder_of,
    place_batches_of,
    plans,
)
from hustings.experiments.plans.money import spend, total_usd
from hustings.experiments.plans.online import online_so_far
from hustings.experiments.record import received
from hustings.experiments.results import LiftSummary, record_of_run
from hustings.experiments.stages.context import Run, latest
from hustings.experiments.stages.monitor_config import paused_messages
from hustings.experiments.stages.persons import on_file
from hustings.experiments.stages.plannable import EVALUATION, latest_evaluated
from hustings.experiments.stages.reactions import ballots_so_far
from hustings.experiments.week_facts import alarms_of, declared_budget, with_held
from hustings.features.asof import naive_utc
from hustings.features.stored import Stored
from hustings.serving.export.folder import exports_of
from hustings.serving.reactions.ballots import votes

NAMED_PERSON = "a named person"
EXPORTER, SENDER, FIELD = "whoever exports", "whoever sends", "the channels"
ANALYST = "whoever plans"
_SQLITE = "sqlite:///"


class CampaignAddress(NamedTuple):
    """How a command line says which campaign is meant, and where it lies.

    Attributes:
        campaign: As commands are given it: a name, a folder or a file.
        data: Folder of runs; None for the one that commands use without an option.
        default_store: Folder of the store that commands use without an option.
    """

    campaign: str
    data: Path | None
    default_store: Path

    @property
    def options(self) -> str:
        """Options of a command that reads no model."""
        said = [f"--campaign {shlex.quote(self.campaign)}"]
        if self.data is not None:
            said.append(f"--data {shlex.quote(str(self.data))}")
        return " ".join(said)

    def with_store(self, home: Path) -> str:
        """Options of a command that reads or writes models: those of the latest run.

        A server that the environment names needs no option, and gets none: its address
        may hold a password, which a run does not keep.

        Args:
            home: Folder of the campaign's runs.
        """
        run = latest(home)
        uri = "" if run is None else record_of_run(home / run).mlflow_uri or ""
        if uri.startswith(_SQLITE):
            folder = Path(uri.removeprefix(_SQLITE)).parent
            if folder == self.default_store.resolve():
                return self.options
            return f"{self.options} --store {shlex.quote(str(folder))}"
        # MLflow takes seconds to import
        from hustings.training.registry.register import without_user

        if not uri or without_user(os.environ.get("MLFLOW_TRACKING_URI", "")) == uri:
            return self.options
        address = shlex.quote(uri) if "://" in uri else "ADDRESS"
        return f"{self.options} --mlflow {address}"


@dataclass(frozen=True)
class Due(Stored):
    """One thing to do next.

    Attributes:
        plan_id: The plan that it is about; empty for none.
        waits_for: Who is to act.
        why: What waits, with its figures.
        command: What does it.
    """

    plan_id: str
    waits_for: str
    why: str
    command: str


@dataclass(frozen=True)
class CampaignStatus(Stored):
    """Where a campaign stands at a moment.

    Attributes:
        campaign: Its name.
        as_of: The moment, ISO 8601.
        run: The latest run; None before any.
        verdict: The answer of the last run judged; None before any.
        due: What is to be done, plans in the order of their drafts.
        alarms: Paused messages, and what forbids to read the measured lift.
        budget_usd: As declared, or of the latest run's spend per voter.
        committed_usd: Taken by locked plans, sent online or reserved there.
        spent_usd: Of contacts that were sent.
        left_usd: Budget less what is committed; None without a budget.
        last_day: Last day that the loop has planned, ISO date; None before any.
        next_day: The day after it, within the declared days; None where none is left.
        holdout_share: Declared.
        n_held_out: Voters held out of plans that bind; None where none does.
        n_voted: Voters who have voted already, as far as ballots say.
    """

    campaign: str
    as_of: str
    run: str | None
    verdict: str | None
    due: tuple[Due, ...]
    alarms: tuple[str, ...]
    budget_usd: float | None
    committed_usd: float
    spent_usd: float
    left_usd: float | None
    last_day: str | None
    next_day: str | None
    holdout_share: float
    n_held_out: int | None
    n_voted: int


def status_of(
    run: Run, at: pd.Timestamp, *, address: CampaignAddress
) -> CampaignStatus:
    """Where a campaign stands.

    Args:
        run: Declares the campaign and its folder, begun or not.
        at: The moment: later steps, answers and money do not count.
        address: As commands are given it.
    """
    home, declared = run.home, run.campaign
    records = records_by(home, at)
    money = spend(records, online_so_far(home, at))
    committed = float(money["usd_committed"].sum())
    budget = declared_budget(home, declared)
    last_day, next_day = _days(declared, records)
    return CampaignStatus(
        campaign=declared.campaign.name,
        as_of=at.isoformat(),
        run=latest(home),
        verdict=_verdict(home),
        due=tuple(_due(declared, home, records, at, address)),
        alarms=tuple(
            alarm.text for alarm in alarms_of(paused_messages(run), _lift(home))
        ),
        budget_usd=budget,
        committed_usd=committed,
        spent_usd=float(money["usd_spent"].sum()),
        left_usd=None if budget is None else budget - committed,
        last_day=None if last_day is None else f"{last_day:%Y-%m-%d}",
        next_day=None if next_day is None else f"{next_day:%Y-%m-%d}",
        holdout_share=declared.plan.holdout_share,
        n_held_out=_n_held_out(home, records),
        n_voted=_n_voted(declared, home, at),
    )


def next_step(
    declared: Campaign,
    home: Path,
    at: pd.Timestamp,
    plan_id: str,
    *,
    address: CampaignAddress,
) -> Due | None:
    """What to do after a command: with the plan that it was about, else with any.

    Args:
        declared: The campaign.
        home: Its folder.
        at: The moment.
        plan_id: The plan; empty for none: then what concerns the whole campaign comes
            first, and of several plans the last drafted.
        address: As commands are given it.

    Returns:
        None where nothing is due.
    """
    due = tuple(_due(declared, home, records_by(home, at), at, address))
    first = [one for one in due if one.plan_id == plan_id]
    return first[0] if first else due[-1] if due else None


def records_by(home: Path, at: pd.Timestamp) -> dict[str, PlanRecord]:
    """Plans with the steps that they had taken by a moment."""
    moment = naive_utc(at)
    by_then = {
        name: tuple(s for s in r.steps if naive_utc(pd.Timestamp(s.at)) <= moment)
        for name, r in plans(home).items()
    }
    return {name: PlanRecord(name, steps) for name, steps in by_then.items() if steps}


def _verdict(home: Path) -> str | None:
    try:
        path = home / latest_evaluated(home) / EVALUATION
    except FileNotFoundError:
        return None
    sentence: str = json.loads(path.read_text())["headline"]["sentence"]
    return sentence


def _lift(home: Path) -> LiftSummary | str:
    return lift_measured(home) or "not measured yet"


def _n_held_out(home: Path, records: Mapping[str, PlanRecord]) -> int | None:
    binding = [name for name, record in records.items() if record.binds]
    held: set[str] | None = set()
    for name in binding:
        held = with_held(held, folder_of(home, name) / "assignments.parquet")
    return len(held) if binding and held is not None else None


def _n_voted(declared: Campaign, home: Path, at: pd.Timestamp) -> int:
    ballots = ballots_so_far(declared, home)
    voted = votes(ballots[ballots["received_at"] <= naive_utc(at)])
    # a ballot over HTTP may be of nobody on file
    return int(on_file(home, voted["voter_id"]).sum())


def _days(
    declared: Campaign, records: Mapping[str, PlanRecord]
) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    """The last day that the loop has planned, and the next."""
    planned = [
        pd.Timestamp(name.removeprefix(DAY)) for name in records if name.startswith(DAY)
    ]
    first = pd.Timestamp(declared.plan.start_on)
    last = max(planned, default=None)
    following = first if last is None else last + pd.Timedelta(days=1)
    end = first + pd.Timedelta(days=declared.plan.days)
    is_left = declared.loop is not None and following < end
    return last, following if is_left else None


# --- what is due ---


def _due(
    declared: Campaign,
    home: Path,
    records: Mapping[str, PlanRecord],
    at: pd.Timestamp,
    address: CampaignAddress,
) -> Iterator[Due]:
    """What is to be done, in the order of the plans; the next day comes last."""
    with_store = address.with_store(home)
    last_day, next_day = _days(declared, records)
    if latest(home) is None and not records:
        yield Due("", ANALYST, "nothing was run yet", f"hustings run {with_store}")
        return
    files = received(home, at)
    answered = {file.plan_id for file in files}
    for record in records.values():
        yield from _due_of(home, record, answered, address.options)
    if files and _is_measured_before(_lift(home), files[-1].received_at):
        yield Due(
            "", ANALYST, "answers came in since the lift was measured",
            f"hustings lift {with_store}",
        )  # fmt: skip
    # a day is planned once the one before is decided
    before = None if last_day is None else records[plan_of_day(last_day)].state
    if next_day is not None and before not in (DRAFT, APPROVED):
        yield Due(
            "", ANALYST, f"{next_day:%Y-%m-%d} is the next day to plan",
            f"hustings day --date {next_day:%Y-%m-%d} {with_store}",
        )  # fmt: skip


def _is_measured_before(lift: LiftSummary | str, moment: pd.Timestamp) -> bool:
    """Whether the lift was measured on an earlier day, or never."""
    return isinstance(lift, str) or pd.Timestamp(lift.as_of) < moment.normalize()


def _due_of(
    home: Path, record: PlanRecord, answered: set[str], options: str
) -> Iterator[Due]:
    """What a plan waits for, by its state."""
    name, state = record.plan_id, record.state
    contacts = int(record.draft_body["n_contacts"])
    usd = total_usd(record.draft_body["amounts"])
    size = f"{contacts:,} contacts for {usd:,.2f} USD"
    if state == DRAFT:
        yield Due(
            name, NAMED_PERSON, f"draft of {size} to approve",
            f'hustings plans approve {name} --by "NAME" {options}',
        )  # fmt: skip
    elif state == APPROVED:
        yield Due(
            name, EXPORTER, f"approved, {size} to lock",
            f"hustings plans lock {name} {options}",
        )  # fmt: skip
    elif state in (LOCKED, SENT, RETURNED):
        yield from _due_of_binding(home, record, answered, size, options)


def _due_of_binding(
    home: Path, record: PlanRecord, answered: set[str], size: str, options: str
) -> Iterator[Due]:
    """Of a locked plan: lists to write, batches to mark as sent, results to come."""
    name = record.plan_id
    sent = {step.key for step in record.of(SENT)}
    every = [*batches_of(home, name), *place_batches_of(home, name)]
    unsent = [batch for batch in every if batch not in sent]
    if unsent and not exports_of(home / EXPORTS / name):
        yield Due(
            name, EXPORTER, f"locked, {size} to export",
            f"hustings export {name} {options}",
        )  # fmt: skip
    elif unsent:
        yield Due(
            name, SENDER,
            f"exported, {len(unsent)} of {len(every)} batches to be marked as sent",
            f"hustings plans sent {name} {options}",
        )  # fmt: skip
    if sent and name not in answered and not record.of(RETURNED):
        yield Due(
            name, FIELD, f"sent ({len(sent)} batches), no results are in",
            f"hustings results FILE --plan {name} {options}",
        )  # fmt: skip


# --- in words ---


def status_text(status: CampaignStatus) -> str:
    """The screen."""
    lines = [f"{status.campaign}, {status.as_of[:16].replace('T', ' ')}"]
    run = status.run or "none yet"
    lines.append(f"Run:     {run}")
    if status.verdict is not None:
        lines.append(f"Verdict: {status.verdict}")
    money = f"{status.spent_usd:,.2f} USD spent, {status.committed_usd:,.2f} committed"
    if status.budget_usd is not None and status.left_usd is not None:
        money += f", {status.left_usd:,.2f} of {status.budget_usd:,.2f} left"
    lines.append(f"Money:   {money}")
    days = [
        f"{what} {day}"
        for what, day in (("last", status.last_day), ("next", status.next_day))
        if day is not None
    ]
    if days:
        lines.append(f"Days:    {', '.join(days)}")
    held = "" if status.n_held_out is None else f", {status.n_held_out:,} voters so far"
    lines.append(f"Holdout: {100 * status.holdout_share:g} %{held}")
    if status.n_voted:
        lines.append(f"Voted:   {status.n_voted:,} voters, who get nothing more")
    lines += [f"ALARM:   {text}" for text in status.alarms] or ["Alarms:  none"]
    lines.append("Due:" if status.due else "Due:     nothing")
    for one in status.due:
        plan = f"{one.plan_id}: " if one.plan_id else ""
        lines.append(f"  {plan}{one.why}; waits for {one.waits_for}")
        lines.append(f"    {one.command}")
    return "\n".join(lines)
