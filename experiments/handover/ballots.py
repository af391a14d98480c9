"""Ballots of a campaign: a file taken in, lists mended, and whom to chase.

Who has voted is a fact of the campaign, kept in its store of events. From then on every
plan, list and offer is without that voter: it saves contacts and is worth nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hustings.experiments.declaration import (
    BallotsSection,
    Campaign,
    CampaignError,
    load_campaign,
)
from hustings.experiments.handover.answers import folders_of, known_voters
from hustings.experiments.handover.lists import EXPORTS, export, stated
from hustings.experiments.plans import (
    BINDING,
    CANCELLED,
    PlanStepError,
    folder_of,
    plans,
)
from hustings.experiments.plans.folder import read_table
from hustings.experiments.plans.recorded_files import lists_outside
from hustings.experiments.record import (
    Received,
    decisions_so_far,
    keep_ballots,
    present_id_of,
    received_ballots,
)
from hustings.experiments.stages.audience import people_of
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.offers import holdout_of
from hustings.experiments.stages.persons import known_persons, on_file
from hustings.experiments.stages.reachable import export_settings
from hustings.experiments.stages.reactions import (
    ballots_so_far,
    permissions_now,
    store_of,
)
from hustings.features.arrays import Bools
from hustings.features.asof import naive_utc
from hustings.features.checksums import file_sha256
from hustings.features.ingest.mapping import masked
from hustings.features.ingest.rows import read_rows
from hustings.features.lock import LockedError
from hustings.features.membership import among
from hustings.features.persons.identity import with_present_ids
from hustings.features.persons.keys import VOTER
from hustings.features.tables import (
    BALLOT_STATUSES,
    BALLOTS,
    CONTROL,
    VOTED_STATUSES,
    TableError,
    check,
    problems,
)
from hustings.serving.decisions import OnlineDecisions, Turn
from hustings.serving.eligible import ALREADY_VOTED, refusals
from hustings.serving.export import ExportError
from hustings.serving.export.folder import (
    earlier_status,
    file_entry,
    write_manifest,
    write_table,
    written_whole,
)
from hustings.serving.export.places import require_place_lists
from hustings.serving.export.results import RemainingRows, is_among
from hustings.serving.export.settings import require_exportable
from hustings.serving.reactions.ballots import as_rows, standing, votes
from hustings.serving.reactions.payload import (
    MAX_EVENTS,
    EventBatch,
    ballot_day_fault,
    microseconds,
)
from hustings.serving.reactions.store import Events
from hustings.serving.rules import rule_set

CHASE = "_chase"
"""In place of a plan's id, for lists of ballots that are out."""
OUT = "sent"
STRANGER = "no voter of the file"
_KEY = ["voter_id", "status", "dated"]
_FEW = 8
"""Faults that are named one by one."""


@dataclass(frozen=True)
class BallotsRead:
    """Result of reading a file of ballots.

    Attributes:
        n_new: Ballots that say something new of a voter.
        n_repeated: Ballots that change nothing: reported before, or one of several of
            a voter and day.
        account: What became of every row, as `ingest.json` has it of a table.
    """

    n_new: int
    n_repeated: int
    account: Mapping[str, Any]


@dataclass(frozen=True)
class MendedLists:
    """Lists of one plan from which contacts were taken out.

    Attributes:
        plan_id: The plan.
        n_removed: Contacts to take out.
        n_of_past_days: Contacts whose voters have voted, on lists of days that are over
            and were not marked as sent: left as they are.
        folder: Of the files that name them; None where there are none.
        failure: Why the lists could not be looked at; empty where they could.
    """

    plan_id: str
    n_removed: int
    n_of_past_days: int
    folder: Path | None
    failure: str


# --- files ----------------------------------------------------------------------------


def read_before(home: Path, file: Path) -> Received | None:
    """When a file of ballots was taken in before, None where it is new."""
    sha256 = file_sha256(file)
    return next((r for r in received_ballots(home) if r.sha256 == sha256), None)


def read_ballots(run: Run, file: Path, *, at: pd.Timestamp) -> BallotsRead:
    """Read a file of ballots, and take it into the campaign's store and record.

    Args:
        run: Whose voters and declaration.
        file: The file.
        at: Now.

    Raises:
        CampaignError: If the campaign does not declare how the file is read.
        TableError: If the file lacks a column, or too much of it would be set aside:
            nothing is stored then. Voters of no campaign and ballots of earlier
            elections do not count.
        ReadBeforeError: If the file was read before.
    """
    declared = _declared(run.campaign)
    source = declared.table.model_copy(update={"path": str(file.resolve())})
    read = read_rows(source, BALLOTS.name, folders_of(run))
    frame = _complete(read.frame, read.table.raw.file)
    former = present_id_of(run.home)
    frame = frame.assign(voter_id=with_present_ids(frame["voter_id"], former))
    rows = RemainingRows(frame, read)
    rows.add_faults(masked(problems(BALLOTS, rows.frame), BALLOTS.name))
    stranger = ~rows.frame["voter_id"].isin(known_voters(run, former))
    rows.set_aside(stranger, "voter_id", STRANGER)
    earlier = _set_aside_days(rows, declared, at)
    rows.require_few(frozenset({STRANGER, *earlier}))
    ballots = check(BALLOTS, rows.frame)
    sha256 = file_sha256(file)
    n_new = _stored(run, ballots, sha256, at)
    account = rows.account()
    counts = {**rows.counts(), "new": n_new, "repeated": len(ballots) - n_new}
    keep_ballots(
        run.home, sha256, {"ballots": ballots, "quarantine": rows.quarantine()},
        counts, at=at,
    )  # fmt: skip
    return BallotsRead(n_new, len(ballots) - n_new, account)


def _declared(campaign: Campaign) -> BallotsSection:
    if campaign.ballots is None:
        raise CampaignError(
            f"{campaign.file}: expected a section [ballots] with first_day, and "
            "[ballots.table] that says how a file of ballots is read, got none"
        )
    return campaign.ballots


def _complete(frame: pd.DataFrame, file: str) -> pd.DataFrame:
    """The mapped rows with every column of BALLOTS.

    Raises:
        TableError: Naming the column that is not mapped.
    """
    for name, column in BALLOTS.columns.items():
        if column.required and name not in frame:
            raise TableError(
                f"{file}: expected a column {name!r} ({column.description}), got none; "
                "mend [ballots.table.columns] in campaign.toml"
            )
    if "method" not in frame:
        frame = frame.assign(method=pd.Series(None, index=frame.index, dtype="str"))
    dated = frame["dated"].dt.normalize()
    return frame[list(BALLOTS.columns)].assign(dated=dated)


def _set_aside_days(
    rows: RemainingRows, declared: BallotsSection, at: pd.Timestamp
) -> set[str]:
    """Set aside ballots of no day that can be; reasons of those of other elections."""
    said = rows.frame[["status", "dated"]].drop_duplicates()
    now = naive_utc(at).tz_localize("UTC").to_pydatetime()
    fault_of = {
        (status, day): ballot_day_fault(status, day.date(), now, declared.first_day)
        for status, day in said.itertuples(index=False, name=None)
    }
    pairs = zip(rows.frame["status"], rows.frame["dated"], strict=True)
    fault = pd.Series([fault_of[pair] for pair in pairs], rows.frame.index, dtype="str")
    earlier = set()
    for reason in sorted(set(fault) - {""}):
        stated_reason = f"expected {reason}"
        wrong = fault[rows.frame.index] == reason
        rows.set_aside(wrong, "dated", stated_reason)
        if "first_day" in reason:
            earlier.add(stated_reason)
    return earlier


def _stored(run: Run, ballots: pd.DataFrame, sha256: str, at: pd.Timestamp) -> int:
    """Ballots that are new to the store, once they are in it."""
    one_a_day = _one_a_day(ballots)
    names = [f"{sha256[:16]}-{row}" for row in one_a_day.index]
    rows = as_rows(one_a_day, names, microseconds(at.to_pydatetime()))
    events, n_new = Events.open(store_of(run.campaign, run.home)), 0
    try:
        # an endpoint that decides meanwhile waits for one part, never for all
        for start in range(0, len(rows), MAX_EVENTS):
            part = EventBatch(ballots=rows[start : start + MAX_EVENTS])
            n_new += events.append(part).accepted
    finally:
        events.close()
    return n_new


def _one_a_day(ballots: pd.DataFrame) -> pd.DataFrame:
    """Of several ballots of a voter and day the one that is farthest stands."""
    rank = ballots["status"].map({s: k for k, s in enumerate(BALLOT_STATUSES)})
    ordered = ballots.assign(rank=rank).sort_values("rank", kind="stable")
    return ordered.drop_duplicates(["voter_id", "dated"], keep="last").sort_index()


def ballot_faults(campaign: Campaign, home: Path) -> list[str]:
    """Files of ballots of which the store of events lacks a row; empty where none.

    Args:
        campaign: The declaration.
        home: The campaign's folder.
    """
    files = received_ballots(home)
    if not files:
        return []
    stored, lines = ballots_so_far(campaign, home), []
    for file in files:
        path = file.folder / "ballots.parquet"
        if not path.is_file():
            continue  # the digests of the folder say so
        ballots = _one_a_day(pd.read_parquet(path))
        n = int((~is_among(ballots, stored, _KEY)).sum())
        if n:
            lines.append(
                f"{path.parent.relative_to(home)}: expected its {len(ballots):,} "
                f"ballots in the store of events, which lacks {n:,}"
            )
    return lines[:_FEW]


# --- offers and lists -----------------------------------------------------------------


def ended_offers(run: Run, *, at: pd.Timestamp) -> int:
    """End the open offers to voters who have voted: their money is free at once.

    Args:
        run: Its campaign's store is written.
        at: Now.

    Returns:
        How many there were.
    """
    voted = votes(ballots_so_far(run.campaign, run.home))["voter_id"]
    if voted.empty:
        return 0
    events = Events.open(store_of(run.campaign, run.home))
    try:
        decisions = OnlineDecisions.in_store_of(events)
        return decisions.turn(partial(_end_open, voter_ids=voted.tolist()), at)
    finally:
        events.close()


def _end_open(turn: Turn, *, voter_ids: list[str]) -> int:
    still_open = [one for one in turn.of_voters(voter_ids) if one.sent_at is None]
    turn.release(still_open)
    return len(still_open)


def mended_lists(run: Run, *, at: pd.Timestamp) -> list[MendedLists]:
    """Name to the channels who is to be taken out of the lists that have left.

    Args:
        run: Whose tables say who the voters are.
        at: Now.

    Returns:
        Of each plan whose lists have left; a plan that fails does not stop the others.
    """
    mended = []
    voted = votes(ballots_so_far(run.campaign, run.home))["voter_id"]
    for name, record in plans(run.home).items():
        if record.state not in (*BINDING, CANCELLED):
            continue
        outside = lists_outside(run.home, name)
        if outside and _has_voters_of(run.home, name, voted):
            mended.append(
                MendedLists(name, 0, 0, None, _to_mend_outside(name, outside))
            )
        left = earlier_status(run.home / EXPORTS / name)
        if left.empty:
            continue
        channels = sorted(left["channel"].astype(str).unique())
        try:
            exported = export(
                run, stated(run.home, name, record.state), at=at, channels=channels
            )
        except (ExportError, PlanStepError, FileNotFoundError, LockedError) as failure:
            mended.append(MendedLists(name, 0, 0, None, str(failure)))
        else:
            n, n_past = exported.n_removed, exported.n_of_past_days
            mended.append(MendedLists(name, n, n_past, exported.folder, ""))
    return mended


def _has_voters_of(home: Path, plan_id: str, voter_ids: pd.Series) -> bool:
    contacts = read_table(folder_of(home, plan_id) / "plan.parquet")["voter_id"]
    present = with_present_ids(contacts, present_id_of(home))
    return bool(among(present, voter_ids).any())


def _to_mend_outside(plan_id: str, files: Sequence[str]) -> str:
    return (
        f"its contacts lie outside the campaign's folder ({', '.join(files[:3])}): "
        f"`hustings export {plan_id}` with the same --out or --to takes voters out "
        "there"
    )


def voters_by_plan_ids(campaign: str, home: Path) -> Callable[[pd.Series], pd.Series]:
    """Whether each of some voters has voted, where the rules ask for it.

    Args:
        campaign: As a command is given it.
        home: Its folder.

    Returns:
        Of ids as plans have them, present or former, a truth value each.
    """
    declared, former = load_campaign(campaign), present_id_of(home)
    voted = votes(ballots_so_far(declared, home))["voter_id"]
    asks = bool(rule_set(declared.campaign.rule_set).of("not_voted"))
    return lambda ids: with_present_ids(ids, former).isin(voted) & asks


def already_voted(voter_ids: pd.Series) -> pd.DataFrame:
    """Contacts withheld since their voters have voted: voter_id and reason."""
    return pd.DataFrame({"voter_id": voter_ids, "reason": ALREADY_VOTED})


def chase(run: Run, channel: str, *, at: pd.Timestamp) -> pd.DataFrame:
    """Voters whose ballot is out and not back, who may be contacted by a channel.

    Nobody held out is on it, nor who was drawn to explore and to be sent nothing: both
    are what the lift of plans is measured against; nor anybody whom `[plan.only]`
    leaves out.

    Args:
        run: Whose voters, permissions and ballots.
        channel: The channel.
        at: Now.

    Returns:
        voter_id, sent_on (the day since when the ballot is out) and method, sorted.

    Raises:
        ExportError: If the rule set lets no list of persons leave.
    """
    rules = rule_set(run.campaign.campaign.rule_set)
    # no plan goes with it: what may leave of a locked one may leave here
    require_exportable(rules.name, "locked", before=False)
    settings = export_settings(run.campaign, "csv")
    require_place_lists(rules.name, {channel: settings.channel(channel)})
    stands = standing(ballots_so_far(run.campaign, run.home))
    out = stands[stands["status"] == OUT]
    voters = run.table("voters")
    gone = known_persons(run.home).keys.forgotten(kind=VOTER).rows(voters)
    voters = voters[voters["voter_id"].isin(out["voter_id"]) & ~gone]
    may = ~holdout_of(run, voters) & ~_drawn_nothing(run, voters)
    only = run.campaign.plan.only
    if only is not None:
        may &= voters[only.column].astype(str).isin(only.values).to_numpy(dtype=bool)
    moment = naive_utc(at)
    refused = refusals(
        voters["voter_id"], channel,
        permissions_now(run, run.optional_table("permissions"), moment),
        people_of(run), rules, moment,
    )  # fmt: skip
    for who in refused.values():
        may &= ~who
    ids = voters.loc[np.asarray(may, dtype=bool), "voter_id"]
    listed = out[out["voter_id"].isin(ids)].rename(columns={"dated": "sent_on"})
    listed = listed.sort_values("voter_id")[["voter_id", "sent_on", "method"]]
    day = listed["sent_on"].dt.strftime("%Y-%m-%d")
    return listed.assign(sent_on=day).reset_index(drop=True)


def _drawn_nothing(run: Run, voters: pd.DataFrame) -> Bools:
    """Voters who explore and were drawn to be sent nothing."""
    decided = decisions_so_far(run.home)
    explores = (decided["role"] == "explore") & (decided["message_id"] == CONTROL)
    former = present_id_of(run.home)
    ids = with_present_ids(decided.loc[explores, "voter_id"], former)
    return among(voters["voter_id"], ids)


def write_chase(
    run: Run, lists: Mapping[str, pd.DataFrame], *, at: pd.Timestamp
) -> Path:
    """Write lists to chase, one file a channel; their folder.

    Args:
        run: Whose campaign.
        lists: Channel → `chase`.
        at: Now.
    """
    parent, stamp = run.home / EXPORTS / CHASE, f"{naive_utc(at):%Y%m%dT%H%M%SZ}"
    with written_whole(parent, stamp) as (aside, folder):
        files = [
            file_entry(write_table(frame, aside / f"chase-{channel}", "csv"))
            | {"rows": len(frame)}
            for channel, frame in lists.items()
        ]
        write_manifest(aside, {"stamp": folder.name, "at": str(at), "files": files})
    return folder


def standing_counts(run: Run) -> dict[str, int]:
    """Voters by where their ballots stand, and `voted` in all."""
    stands = standing(ballots_so_far(run.campaign, run.home))
    # a ballot over HTTP may be of nobody on file
    of_file = on_file(run.home, stands["voter_id"])
    stands, n_strangers = stands[of_file], int((~of_file).sum())
    by_status = stands["status"].value_counts()
    n_by_status = {s: int(by_status[s]) for s in BALLOT_STATUSES if s in by_status}
    n_voted = int(stands["status"].isin(VOTED_STATUSES).sum())
    strangers = {STRANGER: n_strangers} if n_strangers else {}
    return {"have_voted": n_voted, **n_by_status, **strangers}
