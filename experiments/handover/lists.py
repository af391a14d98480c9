"""A plan of a campaign → the files of its channels.

What `serving.export` is given: the declaration, the run's tables, where addresses lie,
and what has changed since the plan was made.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from hustings.experiments.declaration import RepeatRule
from hustings.experiments.plans import PLANS, SENT, record_of
from hustings.experiments.plans.checks import unaltered
from hustings.experiments.plans.online import Online, online_so_far
from hustings.experiments.plans.signing import signed_texts
from hustings.experiments.plans.whole_places import places_of_plan
from hustings.experiments.record import decisions_so_far, present_id_of
from hustings.experiments.stages.audience import lowers_turnout, people_of
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.monitor_config import paused_messages
from hustings.experiments.stages.offers import holdout_of
from hustings.experiments.stages.persons import known_persons
from hustings.experiments.stages.reachable import contact_details, export_settings
from hustings.experiments.stages.reactions import permissions_now
from hustings.features.asof import naive_utc
from hustings.features.membership import among
from hustings.features.persons.identity import with_present_ids
from hustings.features.persons.keys import VOTER
from hustings.features.tables import ANY_MESSAGE, no_places
from hustings.serving.eligible import (
    ALREADY_VOTED,
    CurrentFacts,
    recheck,
    stopped_messages,
)
from hustings.serving.export import (
    ExportChannel,
    Exported,
    ExportError,
    Planned,
    export_plan,
)
from hustings.serving.export.folder import (
    earlier_status,
    exports_of,
    in_time,
    read_manifest,
)
from hustings.serving.export.places import require_place_lists
from hustings.serving.export.scores import Slot, System, Universe, export_scores
from hustings.serving.export.settings import FileFormat, require_exportable
from hustings.serving.export.warehouse import contact_rows, write_contacts
from hustings.serving.export.whole_places import LIST_STEM, earlier_places
from hustings.serving.rules import rule_set
from hustings.serving.score import SE

EXPORTS = "exports"


@dataclass(frozen=True)
class StatedPlan:
    """A plan and where it stands.

    Attributes:
        plan_id: Its name.
        state: draft, approved, locked, sent, returned or cancelled.
        plan: PLAN.
        assignments: ASSIGNMENTS.
        places: PLACES; no rows where nothing is offered to whole places.
    """

    plan_id: str
    state: str
    plan: pd.DataFrame
    assignments: pd.DataFrame
    places: pd.DataFrame = field(default_factory=no_places)


def stated(home: Path, plan_id: str, state: str) -> StatedPlan:
    """A plan as it lies in the campaign's folder.

    Raises:
        FileNotFoundError: If there is none.
        PlanStepError: If a file of it is not what the ledger says.
    """
    folder = home / PLANS / plan_id
    if not (folder / "plan.parquet").is_file():
        there = sorted(p.parent.name for p in (home / PLANS).glob("*/plan.parquet"))
        raise FileNotFoundError(
            f"plan {plan_id!r}: expected one of {', '.join(there[-5:]) or 'none yet'}"
        )
    record = record_of(home, plan_id)
    unaltered(home, record)
    places = places_of_plan(folder, record)
    return StatedPlan(
        plan_id, state, pd.read_parquet(folder / "plan.parquet"),
        pd.read_parquet(folder / "assignments.parquet"),
        no_places() if places is None else places,
    )  # fmt: skip


# --- what leaves ----------------------------------------------------------------------


def export(
    run: Run,
    stated_plan: StatedPlan,
    *,
    at: pd.Timestamp,
    file_format: FileFormat = "csv",
    channels: Sequence[str] = (),
    out: Path | None = None,
) -> Exported:
    """Write the lists of a locked plan, or the contacts to remove from them.

    Args:
        run: Whose tables say who the voters are.
        stated_plan: The plan.
        at: Now.
        file_format: Of lists.
        channels: Only these; all without.
        out: Folder instead of the campaign's own. What lies there cannot be found when
            somebody has to be forgotten.

    Raises:
        ExportError: See `serving.export.export_plan`.
    """
    campaign = run.campaign
    require_exportable(campaign.campaign.rule_set, stated_plan.state, before=True)
    plan_id = stated_plan.plan_id
    planned = Planned(
        plan_id,
        stated_plan.state,
        stated_plan.plan,
        stated_plan.assignments,
        run.table("messages"),
        run.table("voters"),
        stated_plan.places,
        contact_details(run),
        frozenset(step.key for step in record_of(run.home, plan_id).of(SENT)),
        frozenset({ALREADY_VOTED}),
    )
    facts = facts_now(run, naive_utc(at))
    parent = (out or run.home / EXPORTS) / plan_id
    return export_plan(
        planned,
        export_settings(campaign, file_format),
        parent,
        _stamp(at),
        recheck=lambda contacts, when: _first_code(
            online_codes(run, plan_id, contacts, when),
            recheck(contacts, facts, when),
        ),
        stopped=stopped_messages(facts),
        at=naive_utc(at),
        channels=channels,
    )


def contacts_to_database(
    run: Run, plan_id: str, address: str, table: str, *, out: Path | None
) -> pd.DataFrame:
    """Write what has left of a plan, and may still go, into a table of a database.

    Args:
        run: Whose plan.
        plan_id: The plan.
        address: Of the database.
        table: As of `write_contacts`.
        out: Folder of the exports instead of the campaign's own.

    Returns:
        The rows.

    Raises:
        ExportError: If nothing has left, or it is no address of a database.
        DataMissing: If the database does not answer, or its driver is not installed.
    """
    status = earlier_status((out or run.home / EXPORTS) / plan_id)
    if status.empty:
        raise ExportError(f"plan {plan_id!r}: expected contacts on its lists, got none")
    rows = contact_rows(plan_id, status)
    write_contacts(rows, plan_id, address, table)
    return rows


def _first_code(code: pd.Series, other: pd.Series) -> pd.Series:
    """The first reason of each contact, the second where it has none."""
    return code.where(code != "", other)


def online_codes(
    run: Run, plan_id: str, contacts: pd.DataFrame, at: pd.Timestamp
) -> pd.Series:
    """Why contacts of a plan may not go after what was sent online by now.

    Args:
        run: Declares how often a voter may be contacted.
        plan_id: The plan.
        contacts: Its PLAN rows.
        at: Now.

    Returns:
        Reason code of every contact, '' for one that may go; index as in `contacts`.
    """
    online = online_so_far(run.home, at)
    former = present_id_of(run.home)
    person = with_present_ids(contacts["voter_id"], former)
    of_plan = online.of_plans.loc[online.of_plans["plan_id"] == plan_id, "voter_id"]
    code = pd.Series("", index=contacts.index, dtype=object)
    if len(online.contacts):
        too_soon = _too_soon(run, plan_id, contacts.assign(person=person), online)
        code = code.mask(too_soon, "contacted_online")
    return code.mask(person.isin(with_present_ids(of_plan, former)), "sent_online")


def _too_soon(
    run: Run, plan_id: str, contacts: pd.DataFrame, online: Online
) -> pd.Series:
    """Contacts of voters who were sent something online, and not long enough ago."""
    former = present_id_of(run.home)
    decided = decisions_so_far(run.home)
    decided = decided[decided["plan_id"] != plan_id]
    n = with_present_ids(decided["voter_id"], former).value_counts()
    sent_to = with_present_ids(online.contacts["voter_id"], former)
    last = online.contacts.groupby(sent_to)["decided_on"].max()
    reached = contacts[contacts["person"].isin(sent_to)]
    since = reached["send_on"] - reached["person"].map(last)
    again = RepeatRule.of(run.campaign.loop).allows(
        np.asarray(reached["person"].map(n), dtype=np.int64),
        np.asarray(since.dt.days, dtype=np.int64),
    )
    too_soon = pd.Series(data=False, index=contacts.index)
    too_soon.loc[reached.index[~again]] = True
    return too_soon


class ExportBatch(NamedTuple):
    """A channel's batch of a day, as it was exported.

    Attributes:
        withheld: voter_id (or place), reason: what of the plan was not handed out, or
            taken out by the day it was for.
        list_sha256: Of the file that left first, or of the digests of its files.
    """

    withheld: pd.DataFrame
    list_sha256: str


def batches(parent: Path) -> dict[str, ExportBatch]:
    """Batches of a plan as its exports state them, by day and channel.

    Args:
        parent: Of the plan's exports.

    Returns:
        As `send` takes them; none where nothing was exported.
    """
    exports = exports_of(parent)
    if not exports:
        return {}
    files, status = read_manifest(exports[0])["files"], in_time(parent)
    batch_by_name, day = {}, status["send_on"].dt.strftime("%Y-%m-%d")
    for (send_on, channel), batch_rows in status.groupby(
        [day, "channel"], observed=True
    ):
        name = f"-{channel}-{send_on}"
        digests = [str(f["sha256"]) for f in files if name in f"-{f['file']}"]
        out = batch_rows.loc[batch_rows["code"] != "", ["voter_id", "code"]]
        batch_by_name[f"{send_on}-{channel}"] = ExportBatch(
            out.rename(columns={"code": "reason"}).reset_index(drop=True),
            digests[0] if len(digests) == 1 else _digest_of(digests),
        )
    return batch_by_name


def place_handovers(parent: Path) -> dict[str, ExportBatch]:
    """What exports of a plan said of every batch of whole places; see `batches`.

    Returns:
        Columns place and reason of what was not handed out, or taken out since.
    """
    exports = exports_of(parent)
    if not exports:
        return {}
    status, batch_by_name = earlier_places(parent), {}
    digests = {
        str(row["file"]): str(row["sha256"])
        for folder in exports
        for row in read_manifest(folder)["files"]
    }
    for (day, channel), rows in status.groupby(["send_on", "channel"], observed=True):
        batch = f"{day:%Y-%m-%d}-{channel}"
        stem = f"{LIST_STEM}-{channel}-{day:%Y-%m-%d}."
        sha256 = next((d for file, d in digests.items() if file.startswith(stem)), "")
        out = rows.loc[rows["code"] != "", ["place", "code"]]
        batch_by_name[batch] = ExportBatch(
            out.rename(columns={"code": "reason"}).reset_index(drop=True), sha256
        )
    return batch_by_name


def _digest_of(digests: list[str]) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def facts_now(run: Run, at: pd.Timestamp) -> CurrentFacts:
    """Present facts that may refuse a planned contact."""
    voters = run.table("voters")
    gone = known_persons(run.home).keys.forgotten(kind=VOTER).rows(voters)
    return CurrentFacts(
        messages=run.table("messages"),
        permissions=permissions_now(run, run.optional_table("permissions"), at),
        rules=rule_set(run.campaign.campaign.rule_set),
        people=people_of(run),
        known_voters=voters.loc[~gone, "voter_id"],
        lowers_turnout=lowers_turnout(run),
        paused=paused_messages(run),
        signed=signed_texts(run.home),
    )


# --- scores ---------------------------------------------------------------------------


def export_system(
    run: Run, stated_plan: StatedPlan, out: Path, *, at: pd.Timestamp
) -> Path:
    """Write the scores file and universes of `[export.van]`.

    Args:
        run: Whose scores.
        stated_plan: The plan: a universe is of those with a contact. Nobody held out of
            the campaign is in either file.
        out: Folder; the files are the voter-contact system's, not the campaign's.
        at: Now.

    Raises:
        ExportError: If none is declared, nothing of persons may leave, or a score is
            not as declared.
    """
    campaign, van = run.campaign, run.campaign.export.van
    require_exportable(campaign.campaign.rule_set, stated_plan.state, before=False)
    if van is None:
        raise ExportError("expected [export.van] in campaign.toml, got none")
    system = System(
        van.id_column,
        [Slot(**slot.model_dump()) for slot in van.slots],
        van.max_slots,
        [Universe(**universe.model_dump()) for universe in van.universes],
    )
    require_place_lists(
        campaign.campaign.rule_set, {"the voter-contact system": ExportChannel()}
    )
    scores = wide_scores(run)
    held = _held_out(run, stated_plan)
    facts = facts_now(run, naive_utc(at))
    code = pd.Series("", index=scores.index, dtype="str")
    known_voters = () if facts.known_voters is None else facts.known_voters
    code = code.mask(~among(scores["voter_id"], known_voters), "unknown_person")
    do_not_contact = facts.people.do_not_contact
    if do_not_contact is not None:
        never = do_not_contact.loc[do_not_contact["channel"] == ANY_MESSAGE, "voter_id"]
        code = code.mask(among(scores["voter_id"], never), "do_not_contact")
    code = code.mask(among(scores["voter_id"], held), "held_out")
    may = recheck(stated_plan.plan, facts, naive_utc(at)) == ""
    return export_scores(
        scores, system, out, _stamp(at), code=code,
        planned=stated_plan.plan.loc[may, "voter_id"], at=naive_utc(at),
    )  # fmt: skip


def _held_out(run: Run, stated_plan: StatedPlan) -> pd.Series:
    """Voter ids of everybody held out, whether the plan has decided them or not.

    A day's plan holds decided rows alone: most of the holdout is in none of them.
    """
    voters, assigned = run.table("voters"), stated_plan.assignments
    of_plan = assigned.loc[assigned["role"] == "holdout", "voter_id"]
    held: pd.Series = pd.concat(
        [voters.loc[holdout_of(run, voters), "voter_id"], of_plan]
    )
    return held


def wide_scores(run: Run) -> pd.DataFrame:
    """A row per voter: lift__<message>, response__<message>, turnout, support."""
    scores = run.read("scores")
    scores = scores.drop(columns=[c for c in scores if str(c).startswith(SE)])
    chances = run.optional("chances")
    if chances is None:
        return scores
    means = chances.groupby("voter_id")[["turnout", "support"]].mean()
    return scores.join(means, on="voter_id")


def _stamp(at: pd.Timestamp) -> str:
    return f"{naive_utc(at):%Y%m%dT%H%M%SZ}"
