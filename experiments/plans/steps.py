"""Draft → approved → locked → sent → returned: every step an entry in the ledger.

Every step is idempotent: after an interruption the same call is repeated. A step reads
the ledger up to its head and appends its entry only if the head has not moved.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from hustings.experiments.plans.binding import export_binding
from hustings.experiments.plans.checks import (
    batch_name,
    contacts_assigned,
    contacts_of,
    decided_once,
    failures_of,
    key_of,
    money_lasts,
    money_returns,
    new_invoices,
    persons_of,
    require_run,
    sent_ids,
    sent_once,
    unaltered,
    withheld_of,
)
from hustings.experiments.plans.diff import diff
from hustings.experiments.plans.folder import (
    FolderTable,
    alone,
    folder_of,
    read_table,
    recover,
    write_aside,
    write_file_aside,
)
from hustings.experiments.plans.ledger import Head, LedgerMovedError, open_ledger
from hustings.experiments.plans.money import amounts, total_usd, with_fees
from hustings.experiments.plans.online import PREFIX, online_so_far
from hustings.experiments.plans.record import (
    APPROVED,
    ASSIGNMENT,
    CANCELLED,
    LOCKED,
    REJECTED,
    RETURNED,
    SENT,
    UNDONE,
    Json,
    PlanRecord,
    PlanStepError,
    Step,
    kind_of,
    known_plans,
    plan_of_name,
)
from hustings.experiments.plans.whole_places import (
    N_PLACES,
    place_amounts,
    taken_places,
)
from hustings.features.blocks import BLOCK
from hustings.features.membership import positions
from hustings.features.tables import ASSIGNMENTS, DESIGNS, PLACES, PLAN, check

COLUMNS = (
    "role", "message_id", "channel", "propensity", "send_on", "cost_usd",
    "intended_message_id", "intended_channel", "arm_propensity", "experiment_id",
    "block", "pool_probability", "predicted_lift", "model_version",
)  # fmt: skip
"""What the ledger's entry about a person says of the assignment."""
REASONS: Mapping[str, str] = {
    "plan": "the plan's choice at its shadow prices",
    "explore": "drawn at random, so that every message goes on being measured",
    "holdout": "kept back at random, so that the gain can be measured",
}
"""Why an assignment is what it is, by its role."""


@dataclass(frozen=True)
class PlanFacts:
    """Facts that a plan was made from.

    Attributes:
        model: Name and version of the registered model.
        rule_set: Rules of eligibility.
        terms: All else that it takes to make it again; JSON values.
        prices: Shadow price by limit: what one unit more of it would bring.
        run_id: The run whose scores it used; empty for none.
        budget_usd: Money of the whole campaign that locked plans may take; None where
            it is not limited here.
        window_days: Days from an assignment of a voter to the next; None for the whole
            campaign.
        setup_usd: Fees of channels, besides the contacts' cost.
    """

    model: str
    rule_set: str
    terms: Json = field(default_factory=dict)
    prices: Mapping[str, float] = field(default_factory=dict)
    run_id: str = ""
    budget_usd: float | None = None
    window_days: int | None = None
    setup_usd: float = 0.0

    def to_json(self) -> Json:
        """Convert to JSON values."""
        return {**vars(self), "prices": dict(self.prices)}


def draft(
    home: Path,
    plan_id: str,
    tables: Mapping[str, pd.DataFrame],
    facts: PlanFacts,
    *,
    keys: Mapping[str, bytes],
    at: pd.Timestamp,
    further_tables: Mapping[str, FolderTable] | None = None,
) -> PlanRecord:
    """Draft a plan: its folder, and every assignment in the ledger.

    Args:
        home: The campaign's folder.
        plan_id: Its name; a daily plan has its day's.
        tables: `plan` (PLAN: the contacts), `assignments` (ASSIGNMENTS: everybody who
            was decided, the holdout included), `designs` (DESIGNS of its blocks), and
            `places` (PLACES) where something is offered to whole places.
        facts: What it was made from.
        keys: Key of the person behind a voter id; a voter without one stands in the
            ledger as nobody.
        at: When.
        further_tables: Further tables of the folder, by name, whole or block by block:
            `inputs`, `counties`.

    Returns:
        What the ledger says of it. Drafting the same again does nothing.

    Raises:
        PlanStepError: If there is another plan of this name, or the tables contradict.
    """
    folder = folder_of(home, plan_id)
    plan = check(PLAN, tables["plan"])
    assignments = check(ASSIGNMENTS, tables["assignments"])
    contacts_assigned(plan_id, plan, assignments)
    folder_tables: dict[str, FolderTable] = {
        "plan": plan,
        "assignments": assignments,
        "designs": check(DESIGNS, tables["designs"]),
        **(further_tables or {}),
    }
    places = check(PLACES, tables["places"]) if "places" in tables else None
    if places is not None:
        folder_tables["places"] = places
    with alone(home):
        recover(home, known_plans(open_ledger(home)))
        files = write_aside(folder, folder_tables, {"terms": facts.to_json()})
        body = {
            **_opening(facts, plan, places), "plan": plan_id,
            "files": files, "n_assigned": len(assignments),
        }  # fmt: skip
        _opened(home, plan_id, body, lambda: _rows(plan, assignments, keys), at)
        recover(home, known_plans(open_ledger(home)))
    return record_of(home, plan_id)


def _opening(facts: PlanFacts, plan: pd.DataFrame, places: pd.DataFrame | None) -> Json:
    """What the entry that opens a plan says of its making and its money."""
    facts_json, of_places = facts.to_json(), []
    if places is not None:
        of_places = place_amounts(places)
        facts_json[N_PLACES] = len(taken_places(places))
    return {
        **{
            name: facts_json[name]
            for name in facts_json
            if name not in {"terms", "setup_usd"}
        },
        "reasons": dict(REASONS),
        "columns": list(COLUMNS),
        "n_contacts": len(plan),
        "amounts": with_fees([*amounts(plan), *of_places], facts.setup_usd),
    }


def _opened(
    home: Path,
    plan_id: str,
    body: Json,
    rows: Callable[[], Iterator[tuple[bytes, str]]],
    at: pd.Timestamp,
) -> None:
    ledger = open_ledger(home)
    while True:
        head = ledger.head
        drafted = known_plans(ledger).get(plan_id)
        if drafted is not None:
            # a person who was forgotten since is no longer in the files
            if drafted.draft_body["files"] != body["files"]:
                raise PlanStepError(
                    f"plan {plan_id}: expected the plan drafted on "
                    f"{drafted.drafted_at}, got another of this name; reject that one "
                    "and draft this under another name"
                )
            return
        try:
            ledger.append_persons(ASSIGNMENT, body, rows(), at=at, after=head)
        except LedgerMovedError:
            continue
        return


def _rows(
    plan: pd.DataFrame, assignments: pd.DataFrame, keys: Mapping[str, bytes]
) -> Iterator[tuple[bytes, str]]:
    """Key of a person and the assignment as JSON, some assignments at a time."""
    of_contact = positions(assignments["voter_id"], plan["voter_id"])
    send_on, cost_usd = plan["send_on"], plan["cost_usd"]
    for start in range(0, len(assignments), BLOCK):
        at = of_contact[start : start + BLOCK]
        rows = assignments.iloc[start : start + BLOCK]
        sent, there = at >= 0, np.maximum(at, 0)
        day = np.full(len(rows), np.datetime64("NaT"), dtype="datetime64[D]")
        usd = np.full(len(rows), np.nan)
        if sent.any():
            day[sent] = send_on.to_numpy()[there[sent]].astype("datetime64[D]")
            usd[sent] = cost_usd.to_numpy()[there[sent]]
        days = pd.Series(np.datetime_as_string(day), index=rows.index)
        block = rows.assign(send_on=days.where(sent), cost_usd=usd)
        texts = map(", ".join, zip(*(_json(block[c]) for c in COLUMNS), strict=True))
        # of whom nothing is known, the propensity is kept all the same, as nobody's
        for voter, text in zip(rows["voter_id"].tolist(), texts, strict=True):
            yield keys.get(voter, b""), f"[{text}]"


def _json(column: pd.Series) -> list[str]:
    """Every value as JSON; nothing as null."""
    if column.dtype == np.float64:
        return ["null" if x != x else float.__repr__(x) for x in column.tolist()]
    code, values = pd.factorize(column)
    texts = np.array([*map(json.dumps, values.tolist()), "null"], dtype=object)
    json_texts: list[str] = texts[code].tolist()
    return json_texts


# --- the steps of people --------------------------------------------------------------


def approve(home: Path, plan_id: str, *, by: str, at: pd.Timestamp) -> PlanRecord:
    """Approve a plan in the name of a person who has seen what it changes.

    Args:
        home: The campaign's folder.
        plan_id: Which.
        by: The person's name.
        at: When.

    Raises:
        PlanStepError: If nobody is named, the plan is no draft, or its files were
            altered.
    """
    if not by.strip():
        raise PlanStepError(
            f"plan {plan_id}: expected the name of who approves, got none"
        )

    def step_body(record: PlanRecord, plan_records: Mapping[str, PlanRecord]) -> Json:
        require_run(home, record)
        unaltered(home, record)
        return {"by": by.strip(), "diff": diff(home, plan_records, plan_id).counts()}

    return _stepped(home, plan_id, APPROVED, step_body, at=at)


def reject(
    home: Path, plan_id: str, *, by: str, why: str, at: pd.Timestamp
) -> PlanRecord:
    """Reject a draft: none of its voters is decided."""
    return _stepped(home, plan_id, REJECTED, lambda *_: {"by": by, "why": why}, at=at)


def cancel(
    home: Path, plan_id: str, *, by: str, why: str, at: pd.Timestamp
) -> PlanRecord:
    """Cancel what a plan has not sent yet; what was sent stays sent."""
    return _stepped(home, plan_id, CANCELLED, lambda *_: {"by": by, "why": why}, at=at)


def lock(home: Path, plan_id: str, *, at: pd.Timestamp, by: str = "") -> PlanRecord:
    """Lock a plan: its contacts are decided and its money is committed.

    Args:
        home: The campaign's folder.
        plan_id: Which.
        at: When.
        by: Name of the person who locks it; empty for a program.

    Raises:
        PlanStepError: If it is not approved, its files were altered, a voter of it is
            decided by another plan within the window, or the money does not last.
    """

    def step_body(record: PlanRecord, plan_records: Mapping[str, PlanRecord]) -> Json:
        require_run(home, record)
        unaltered(home, record)
        decided_once(home, record, plan_records)
        online_usd = online_so_far(home, at).taken_usd
        money_lasts(record, plan_records, online_usd=online_usd)
        person = {"by": by} if by else {}
        return {"amounts": record.draft_body["amounts"], **person}

    return _stepped(home, plan_id, LOCKED, step_body, at=at)


def send(
    home: Path,
    plan_id: str,
    batch: str,
    voter_ids: pd.Series,
    *,
    at: pd.Timestamp,
    withheld: pd.DataFrame | None = None,
    list_sha256: str = "",
) -> PlanRecord:
    """Record that a batch of contacts was handed over: its money is spent.

    Args:
        home: The campaign's folder.
        plan_id: Which.
        batch: Its name: one a channel and day, say.
        voter_ids: Whose contacts.
        at: When.
        withheld: Contacts of the batch that were not handed over: columns voter_id and
            reason. Their money is free again.
        list_sha256: Of the list that was handed over.

    Raises:
        PlanStepError: If a contact is not the plan's, or was handed over before; or the
            batch was, with others.
    """
    folder = folder_of(home, plan_id)

    def step_body(record: PlanRecord, _: Mapping[str, PlanRecord]) -> Json:
        unaltered(home, record)
        rows = contacts_of(folder, plan_id, voter_ids)
        sent_once(folder, record, rows)
        name = _file_of(record, batch_name(batch))
        digest = write_file_aside(folder / name, rows)
        return {
            "amounts": amounts(rows),
            "list_sha256": list_sha256,
            **withheld_of(folder, record, voter_ids, withheld),
            "files": {name: digest},
        }

    sent_record = _stepped(home, plan_id, SENT, step_body, at=at, key=batch_name(batch))
    steps = [step for step in sent_record.of(SENT) if step.key == batch_name(batch)]
    before = sent_ids(folder, steps)
    if set(before) != set(voter_ids):
        raise PlanStepError(
            f"plan {plan_id}: batch {batch} was handed over with {len(before)} "
            f"contacts, expected the same again, got {len(voter_ids)}"
        )
    return sent_record


def _file_of(record: PlanRecord, batch: str) -> str:
    """File of a batch; another one where it was marked as sent before, and undone."""
    n = sum(step.to == SENT and step.key == batch for step in record.steps)
    return f"sent/{batch}.parquet" if n == 0 else f"sent/{batch}.again-{n}.parquet"


def send_places(
    home: Path,
    plan_id: str,
    batch: str,
    places: pd.DataFrame,
    *,
    at: pd.Timestamp,
    withheld: pd.DataFrame | None = None,
    list_sha256: str = "",
) -> PlanRecord:
    """A batch of whole places is handed over: its money is spent.

    Args:
        home: The campaign's folder.
        plan_id: Which.
        batch: Its name, as `place_batches` has it.
        places: PLACES rows of the batch.
        at: When.
        withheld: Places of the batch that were not handed over: columns place and
            reason. Their money is free again.
        list_sha256: Of the list that was handed over.
    """

    def step_body(record: PlanRecord, _: Mapping[str, PlanRecord]) -> Json:
        unaltered(home, record)
        reasons = pd.Series(dtype="str") if withheld is None else withheld["reason"]
        kept_back = withheld is not None and places["place"].isin(withheld["place"])
        stays = pd.Series(kept_back, index=places.index, dtype=bool)
        return {
            "amounts": place_amounts(places[~stays]),
            N_PLACES: int((~stays).sum()),
            "list_sha256": list_sha256,
            "withheld": place_amounts(places[stays]),
            "refused": reasons.value_counts().sort_index().to_dict(),
            "files": {},
        }

    return _stepped(home, plan_id, SENT, step_body, at=at, key=batch_name(batch))


def send_online(home: Path, plan_id: str, *, at: pd.Timestamp) -> int:
    """Hand over, as a batch, the plan's contacts that were carried out online.

    They are the plan's contacts: their money is spent, whatever becomes of the rest.

    Args:
        home: The campaign's folder.
        plan_id: Which.
        at: When: what was reported as sent by then.

    Returns:
        How many there were that had not been handed over before.
    """
    record = record_of(home, plan_id)
    if not record.binds:
        return 0
    of_plans = online_so_far(home, at).of_plans
    carried_out = of_plans.loc[of_plans["plan_id"] == plan_id, "voter_id"]
    voters = _not_handed_over(home, record, carried_out.drop_duplicates())
    if len(voters):
        send(home, plan_id, f"{PREFIX}{at:%Y-%m-%dT%H%M%S.%f}", voters, at=at)
    return len(voters)


def sent_online(home: Path, plan_id: str) -> pd.Series:
    """Voters of a plan whose contacts were handed over by `send_online`."""
    record = record_of(home, plan_id)
    batches = [s for s in record.of(SENT) if s.key.startswith(PREFIX)]
    return sent_ids(folder_of(home, plan_id), batches)


def _not_handed_over(home: Path, record: PlanRecord, voter_ids: pd.Series) -> pd.Series:
    """Voters of the plan's contacts that nobody was given yet, under the plan's ids."""
    contacts = read_table(folder_of(home, record.plan_id) / "plan.parquet")
    ids = contacts["voter_id"]
    persons = pd.Series(persons_of(home, ids), ids.index, dtype=object)
    theirs = persons.isin(persons_of(home, voter_ids))
    gone = ids.isin(sent_ids(folder_of(home, record.plan_id), record.of(SENT)))
    return ids[theirs & ~gone]


def returned(
    home: Path,
    plan_id: str,
    *,
    failed: pd.DataFrame,
    invoices: pd.DataFrame,
    at: pd.Timestamp,
) -> PlanRecord:
    """Record deliveries that failed, and what was really paid.

    Args:
        home: The campaign's folder.
        plan_id: Which.
        failed: Columns voter_id and reason.
        invoices: Columns invoice, channel, send_on (NaT for several days) and
            amount_usd.
        at: When.

    Raises:
        PlanStepError: If somebody was not sent anything, failed already, or an invoice
            came before.
    """
    folder = folder_of(home, plan_id)
    key = key_of(failed, invoices)
    name = f"returned/{key}.parquet"

    def step_body(record: PlanRecord, _: Mapping[str, PlanRecord]) -> Json:
        unaltered(home, record)
        rows = failures_of(folder, record, failed)
        digest = write_file_aside(folder / name, rows)
        return {"amounts": amounts(rows), "invoices": new_invoices(record, invoices),
                "files": {name: digest}}  # fmt: skip

    return _stepped(home, plan_id, RETURNED, step_body, at=at, key=key)


def to_undo(record: PlanRecord, batch: str = "") -> list[Step]:
    """Steps that `undo` would take back: what was marked as sent last, else the lock.

    Args:
        record: The plan.
        batch: Only this batch of what was marked as sent; the last ones without.

    Raises:
        PlanStepError: If there is nothing that can be taken back.
    """
    record.require(UNDONE)
    # what was carried out online was sent, whatever anybody marked
    sent = [step for step in record.of(SENT) if not step.key.startswith(PREFIX)]
    if batch:
        sent = [step for step in sent if step.key == batch]
        if not sent:
            raise PlanStepError(
                f"plan {record.plan_id}: expected a batch that is marked as sent, got "
                f"{batch!r}"
            )
        return sent
    if sent:
        return [step for step in sent if step.at == sent[-1].at]
    return record.of(LOCKED)


def undo(
    home: Path,
    plan_id: str,
    *,
    by: str,
    why: str,
    batch: str,
    objection: Callable[[PlanRecord, Sequence[Step]], str],
    at: pd.Timestamp,
) -> PlanRecord:
    """Take back what was marked as sent last, else the lock, by a further entry.

    Args:
        home: The campaign's folder.
        plan_id: Which.
        by: The person's name.
        why: The reason.
        batch: See `to_undo`.
        objection: Why some steps may not be taken back; empty where they may.
        at: When.

    Raises:
        PlanStepError: If nobody is named or no reason is given, nothing can be taken
            back, its files were altered, there is an objection, or what was withheld
            is committed by other plans since.
    """
    if not by.strip() or not why.strip():
        raise PlanStepError(
            f"plan {plan_id}: expected the name of who takes it back and the reason, "
            f"got {by!r} and {why!r}"
        )

    def step_body(record: PlanRecord, plan_records: Mapping[str, PlanRecord]) -> Json:
        unaltered(home, record)
        steps = to_undo(record, batch)
        reason = objection(record, steps)
        if reason:
            what = ", ".join(f"{step.to} {step.key}".strip() for step in steps)
            raise PlanStepError(f"plan {plan_id}: {what} stays: {reason}")
        freed_usd = sum(
            total_usd(step.body["withheld"]) for step in steps if step.to == SENT
        )
        online_usd = online_so_far(home, at).taken_usd
        money_returns(freed_usd, record, plan_records, online_usd=online_usd)
        return {
            "by": by.strip(), "why": why.strip(),
            "undoes": [step.seq for step in steps],
            "batches": [step.key for step in steps if step.key],
        }  # fmt: skip

    return _stepped(home, plan_id, UNDONE, step_body, at=at)


def _stepped(
    home: Path,
    plan_id: str,
    to: str,
    step_body: Callable[[PlanRecord, Mapping[str, PlanRecord]], Json],
    *,
    at: pd.Timestamp,
    key: str = "",
) -> PlanRecord:
    """Take a step unless it was taken."""
    with alone(home):
        ledger = open_ledger(home)
        while True:
            head, plan_records = ledger.head, known_plans(ledger)
            recover(home, plan_records)
            record = plan_of_name(plan_records, plan_id)
            # what is undone twice are two steps
            if to != UNDONE and record.has(to, key):
                return record
            record.require(to)
            body = {"plan": plan_id, "key": key, **step_body(record, plan_records)}
            if _appended(home, kind_of(to), body, at=at, after=head):
                plan_records = known_plans(ledger)
                recover(home, plan_records)
                export_binding(home, plan_records)
                return record_of(home, plan_id)


def _appended(
    home: Path, kind: str, body: Json, *, at: pd.Timestamp, after: Head
) -> bool:
    try:
        open_ledger(home).append(kind, body, at=at, after=after)
    except LedgerMovedError:
        return False
    return True


def record_of(home: Path, plan_id: str) -> PlanRecord:
    """Record of a plan in the ledger.

    Raises:
        PlanStepError: If there is none of this name.
    """
    return plan_of_name(known_plans(open_ledger(home)), plan_id)
