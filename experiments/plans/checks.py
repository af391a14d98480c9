"""Checks before a step of a plan: contacts, decisions, money, deliveries, invoices."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import pandas as pd

from hustings.experiments.plans.designs import is_decided
from hustings.experiments.plans.folder import (
    IDENTITY,
    N_TABLES,
    PLANS,
    file_faults,
    read_table,
)
from hustings.experiments.plans.money import amounts, committed_usd, total_usd
from hustings.experiments.plans.record import (
    BINDING,
    CANCELLED,
    RETURNED,
    SENT,
    Json,
    PlanRecord,
    PlanStepError,
    Step,
)
from hustings.features.persons.identity import person_of_each_id

CENT = 0.01
FAILED = ("voter_id", "reason")
INVOICES = ("invoice", "channel", "send_on", "amount_usd")


def contacts_assigned(
    plan_id: str, plan: pd.DataFrame, assignments: pd.DataFrame
) -> None:
    """Contacts are the assignments of a message, with the same propensities.

    Raises:
        PlanStepError: If a contact is no assignment, or the other way round.
    """
    columns = ["voter_id", "role", "message_id", "channel", "propensity"]
    sent = assignments[assignments["channel"] != "none"]
    matched = plan[columns].merge(
        sent[columns], on=columns, how="outer", indicator=True
    )
    n = int((matched["_merge"] != "both").sum())
    if n:
        raise PlanStepError(
            f"plan {plan_id}: expected every contact among the assignments with its "
            "role, message, channel and propensity, and every assignment of a message "
            f"among the contacts, got {n} that are not"
        )


def unaltered(home: Path, record: PlanRecord) -> None:
    """Refuse a plan whose files are not those that the ledger names.

    Raises:
        PlanStepError: Naming the first file.
    """
    faults = file_faults(home, record)
    if faults:
        raise PlanStepError(f"{faults[0]}; nothing was done")


def has_run(home: Path, record: PlanRecord) -> bool:
    """Whether the run that made a plan is there: finished, and not removed."""
    run_id = record.draft_body.get("run_id")
    return not run_id or (home / run_id).is_dir()


def require_run(home: Path, record: PlanRecord) -> None:
    """Refuse a plan whose run was cut off or removed.

    Raises:
        PlanStepError: Naming the run.
    """
    if not has_run(home, record):
        raise PlanStepError(
            f"plan {record.plan_id}: expected its run {record.draft_body['run_id']}, "
            "which was cut off or removed; `hustings plan` makes another plan"
        )


# --- voters ---------------------------------------------------------------------------


def decided(
    home: Path,
    records: Mapping[str, PlanRecord],
    states: Iterable[str] = BINDING,
) -> pd.DataFrame:
    """Voters whom plans have decided: sent to, or kept back for good.

    Args:
        home: The campaign's folder.
        records: Plans.
        states: Whose assignments count. Of a cancelled plan those count that were sent.

    Returns:
        ASSIGNMENTS with plan_id and decided_on (the day of the contact; of voters who
        get none, the plan's first), a row for each time. Who was left in the pool,
        meant for nothing and not drawn to explore, is not decided.
    """
    parts = []
    for record in records.values():
        if record.state in set(states):
            parts.append(_decided_by(home, record))
        elif record.state == CANCELLED and record.of(SENT):
            rows = _decided_by(home, record)
            sent = sent_ids(home / PLANS / record.plan_id, record.of(SENT))
            parts.append(rows[rows["voter_id"].isin(sent)])
    return pd.concat(parts, ignore_index=True) if parts else _nobody()


def _decided_by(home: Path, record: PlanRecord) -> pd.DataFrame:
    folder = home / PLANS / record.plan_id
    written = tuple(
        (folder / f"{name}.parquet").stat().st_mtime_ns
        for name in ("assignments", "plan")
    )
    return _decided_in(folder, written, day_of(record)).copy(deep=False)


@lru_cache(maxsize=N_TABLES)
def _decided_in(
    folder: Path, _written_ns: tuple[int, ...], day: pd.Timestamp
) -> pd.DataFrame:
    """Decided rows of a plan; read once in a process while its files stay."""
    rows = pd.read_parquet(folder / "assignments.parquet")
    rows = rows[is_decided(rows)]
    contacts = pd.read_parquet(folder / "plan.parquet", columns=["voter_id", "send_on"])
    send_on = contacts.set_index("voter_id")["send_on"].reindex(rows["voter_id"])
    sent = pd.to_datetime(send_on.set_axis(rows.index))
    decided_on = sent.dt.as_unit("us").fillna(day)
    return rows.assign(plan_id=folder.name, decided_on=decided_on)


def _nobody() -> pd.DataFrame:
    columns = {"voter_id": "str", "role": "str", "plan_id": "str"}
    days = {"decided_on": pd.Series(dtype="datetime64[us]")}
    return pd.DataFrame({c: pd.Series(dtype=t) for c, t in columns.items()} | days)


def day_of(record: PlanRecord) -> pd.Timestamp:
    """First day of its contacts; of a plan without any, the day of its draft."""
    days = [row["send_on"] for row in record.draft_body["amounts"] if row["send_on"]]
    return pd.Timestamp(min(days) if days else record.drafted_at[:10]).as_unit("us")


def decided_once(
    home: Path, record: PlanRecord, records: Mapping[str, PlanRecord]
) -> None:
    """Refuse a plan with a voter whom another plan has decided within the window.

    Raises:
        PlanStepError: Saying how many, and by which plan.
    """
    other_plans = {n: r for n, r in records.items() if n != record.plan_id}
    before, now = decided(home, other_plans), _decided_by(home, record)
    # an id may change from one voter file to the next, the person does not
    decided_twice = pd.DataFrame(
        {"person": persons_of(home, now["voter_id"]), "day": now["decided_on"]}
    ).merge(
        pd.DataFrame(
            {
                "person": persons_of(home, before["voter_id"]),
                "before": before["decided_on"],
                "plan_id": before["plan_id"],
            }
        ),
        on="person",
    )
    window = record.draft_body["window_days"]
    if window is not None:
        apart = (decided_twice["before"] - decided_twice["day"]).abs()
        decided_twice = decided_twice[apart < pd.Timedelta(days=window)]
    if len(decided_twice):
        raise PlanStepError(
            f"plan {record.plan_id}: expected voters whom no plan has decided "
            f"{'before' if window is None else f'within {window} days'}, got "
            f"{decided_twice['person'].nunique()} whom plan "
            f"{decided_twice['plan_id'].iloc[0]} has; "
            "cancel that one, or plan without them"
        )


def persons_of(home: Path, voter_ids: pd.Series) -> list[str]:
    """The person behind each id, present or former; the id where none is known."""
    path = home / IDENTITY
    person_of = person_of_each_id(read_table(path)) if path.exists() else {}
    return [person_of.get(voter, voter) for voter in voter_ids.tolist()]


# --- money ----------------------------------------------------------------------------


def money_lasts(
    record: PlanRecord, records: Mapping[str, PlanRecord], *, online_usd: float
) -> None:
    """Refuse a plan whose money, with that of all locked ones, exceeds the campaign's.

    Args:
        record: The plan.
        records: All of them.
        online_usd: Money that was sent or is offered online.

    Raises:
        PlanStepError: Saying how much there is.
    """
    budget = record.draft_body["budget_usd"]
    if budget is None:
        return
    committed = sum(
        committed_usd(other) for n, other in records.items() if n != record.plan_id
    )
    needed_usd, left_usd = total_usd(record.draft_body["amounts"]), budget - committed
    if needed_usd > left_usd - online_usd + CENT:
        online = (
            f" and {online_usd:,.2f} online (sent, or reserved by open offers)"
            if online_usd
            else ""
        )
        raise PlanStepError(
            f"plan {record.plan_id}: expected at most {left_usd - online_usd:,.2f} "
            f"USD, what locked plans{online} have left of {budget:,.2f}, got "
            f"{needed_usd:,.2f}"
        )


def money_returns(
    freed_usd: float,
    record: PlanRecord,
    records: Mapping[str, PlanRecord],
    *,
    online_usd: float,
) -> None:
    """Refuse to commit again what was freed, where other plans have taken it since.

    Args:
        freed_usd: What the plan would commit again.
        record: The plan.
        records: All of them.
        online_usd: Money that was sent or is offered online.

    Raises:
        PlanStepError: Saying how much there is.
    """
    budget = record.draft_body["budget_usd"]
    if budget is None or freed_usd <= 0:
        return
    committed = sum(map(committed_usd, records.values()))
    left_usd = max(budget - online_usd - committed, 0.0)
    if freed_usd > left_usd + CENT:
        raise PlanStepError(
            f"plan {record.plan_id}: expected at most {left_usd:,.2f} USD, what is "
            f"left of {budget:,.2f}, got {freed_usd:,.2f}, which were withheld and "
            "would be committed again"
        )


# --- deliveries -----------------------------------------------------------------------


def batch_name(batch: str) -> str:
    """A batch's name, as a file may have it.

    Raises:
        PlanStepError: If it could lead elsewhere.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", batch):
        raise PlanStepError(
            f"expected a batch's name of letters, digits, dots, - and _, got {batch!r}"
        )
    return batch


def contacts_of(folder: Path, plan_id: str, voter_ids: pd.Series) -> pd.DataFrame:
    """The plan's contacts of some voters.

    Raises:
        PlanStepError: If a voter is named twice, or is none of the plan's contacts.
    """
    plan = pd.read_parquet(folder / "plan.parquet")
    rows = plan[plan["voter_id"].isin(voter_ids)].reset_index(drop=True)
    if len(rows) != len(voter_ids):
        raise PlanStepError(
            f"plan {plan_id}: expected contacts of the plan, each once, got "
            f"{len(voter_ids) - len(rows)} of {len(voter_ids)} that are not"
        )
    return rows


def sent_ids(folder: Path, batches: Iterable[Step]) -> pd.Series:
    """Voters whose contacts were handed to those who deliver them, in some batches."""
    paths = [name for step in batches for name in step.body["files"]]
    parts = [pd.read_parquet(folder / p, columns=["voter_id"]) for p in paths]
    return pd.concat(parts)["voter_id"] if parts else pd.Series(dtype="str")


def sent_once(folder: Path, record: PlanRecord, rows: pd.DataFrame) -> None:
    """Refuse a contact that was handed over before.

    Raises:
        PlanStepError: Saying how many.
    """
    n = int(rows["voter_id"].isin(sent_ids(folder, record.of(SENT))).sum())
    if n:
        raise PlanStepError(
            f"plan {record.plan_id}: expected contacts that were not handed over yet, "
            f"got {n} that were; nothing was spent again"
        )


def withheld_of(
    folder: Path,
    record: PlanRecord,
    voter_ids: pd.Series,
    withheld: pd.DataFrame | None,
) -> Json:
    """Contacts of a batch not handed over: `withheld` amounts, `refused` by reason.

    Raises:
        PlanStepError: If such a contact is handed over, in this batch or another.
    """
    if withheld is None or withheld.empty:
        return {"withheld": [], "refused": {}}
    _has(withheld, FAILED, "contacts that are withheld")
    rows = contacts_of(folder, record.plan_id, withheld["voter_id"])
    sent_once(folder, record, rows)
    n = int(rows["voter_id"].isin(voter_ids).sum())
    if n:
        raise PlanStepError(
            f"plan {record.plan_id}: expected contacts either handed over or withheld, "
            f"got {n} that are both"
        )
    counts = withheld["reason"].astype("str").value_counts().sort_index()
    return {"withheld": amounts(rows), "refused": counts.to_dict()}


def failures_of(folder: Path, record: PlanRecord, failed: pd.DataFrame) -> pd.DataFrame:
    """The contacts that failed, with their reason.

    Raises:
        PlanStepError: If a voter was not sent anything, or failed before.
    """
    _has(failed, FAILED, "deliveries that failed")
    failed = failed[list(FAILED)].astype("str")
    sent = sent_ids(folder, record.of(SENT))
    stray = ~failed["voter_id"].isin(sent) | failed["voter_id"].duplicated()
    names = [name for step in record.of(RETURNED) for name in step.body["files"]]
    for name in names:
        before = pd.read_parquet(folder / name, columns=["voter_id"])["voter_id"]
        stray |= failed["voter_id"].isin(before)
    if stray.any():
        raise PlanStepError(
            f"plan {record.plan_id}: expected failures of what was sent, each once, "
            f"got {int(stray.sum())} that were not sent or failed before"
        )
    rows = contacts_of(folder, record.plan_id, failed["voter_id"])
    return rows.merge(failed, on="voter_id", validate="one_to_one")


def new_invoices(record: PlanRecord, invoices: pd.DataFrame) -> list[Json]:
    """Invoices as JSON.

    Raises:
        PlanStepError: If one came before, or names a channel that the plan has not.
    """
    _has(invoices, INVOICES, "invoices")
    before = {i["invoice"] for s in record.of(RETURNED) for i in s.body["invoices"]}
    channels = {row["channel"] for row in record.draft_body["amounts"]}
    days = pd.to_datetime(invoices["send_on"]).dt.strftime("%Y-%m-%d").fillna("")
    rows: list[Json] = [
        {"invoice": str(i), "channel": str(c), "send_on": d, "usd": float(usd)}
        for i, c, d, usd in zip(
            invoices["invoice"], invoices["channel"], days, invoices["amount_usd"],
            strict=True,
        )
    ]  # fmt: skip
    for row in rows:
        if row["channel"] not in channels:
            raise PlanStepError(
                f"invoice {row['invoice']}: expected one of the plan's channels "
                f"{', '.join(sorted(channels))}, got {row['channel']!r}"
            )
        if row["invoice"] in before:
            raise PlanStepError(
                f"invoice {row['invoice']}: expected one that is new, got one that is "
                "booked; take it out of the file"
            )
        if not row["usd"] >= 0.0:
            raise PlanStepError(
                f"invoice {row['invoice']}: expected an amount of 0 or more USD, got "
                f"{row['usd']}"
            )
    return rows


def _has(frame: pd.DataFrame, columns: Iterable[str], what: str) -> None:
    absent = [c for c in columns if c not in frame]
    if absent:
        raise PlanStepError(
            f"{what}: expected columns {', '.join(columns)}, got none named "
            f"{', '.join(absent)}"
        )


def content_digest(made_from: Json, *frames: pd.DataFrame) -> str:
    """Digest of a plan's content, eight hex digits.

    Args:
        made_from: What it was made from: a plan of the same contacts by another model
            is another plan.
        frames: Its tables.
    """
    text = json.dumps(made_from, sort_keys=True, default=str).encode()
    parts = [pd.util.hash_pandas_object(frame).to_numpy().tobytes() for frame in frames]
    return hashlib.sha256(b"".join([text, *parts])).hexdigest()[:8]


def key_of(*frames: pd.DataFrame) -> str:
    """Digest of what a file of results says."""
    texts = [frame.to_json(orient="records", date_format="iso") for frame in frames]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
