"""The evidence of a plan for a regulator or a lawyer, as a folder that verifies itself.

The folder holds the recipients, the criteria, the data sources with their legal basis,
the money, the sponsor, the notices to recipients, the model card, and the ledger's
entries from the plan's draft to its end. Every entry holds the digest of the entry
before it, so the digest of the end, obtained elsewhere, proves that none was altered. A
plan can also be computed again from its stored inputs and compared byte for byte.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from hustings.experiments.declaration import Campaign
from hustings.experiments.plans import (
    APPROVED,
    COLUMNS,
    RETURNED,
    SENT,
    PlanRecord,
    folder_of,
    n_forgotten,
    plan_faults,
    record_of,
    spent,
)
from hustings.experiments.plans.folder import write_table
from hustings.experiments.plans.ledger import (
    START,
    LedgerEntry,
    digest_of,
    open_ledger,
    pseudonym,
)
from hustings.experiments.plans.planner_inputs import tables_again
from hustings.experiments.plans.steps import REASONS
from hustings.experiments.plans.whole_places import places_of_plan, taken_places
from hustings.experiments.stages.persons import voter_keys
from hustings.features.atomic import whole_folder, write_json, write_text
from hustings.features.checksums import sha256
from hustings.features.tables import no_places
from hustings.serving import rules
from hustings.serving.export.formulas import without_formulas

Json = dict[str, Any]

MANIFEST, EXTRACT, RECIPIENTS = "manifest.json", "ledger.ndjson", "recipients.csv"
_AT_ONCE = 50_000
_NOT_KEPT = "not kept: the run that made it is gone"
_READ_ME = """\
Evidence of plan {plan}

recipients.csv   who was assigned what: role, why, message, channel, day, probability,
                 cost, the batch it was handed over in, and whether it failed
plan.json        the plan's steps, who approved it, criteria, terms, shadow prices
places.csv       which place gets what whole, and which are held out; only of a plan
                 that offers something to places
money.csv        planned, committed, spent, failed and invoiced, by channel and day
sources.json     the data: who made them, on which basis, for which use
notices.json     sponsor, period and what every message told its recipients
model_card.json  which model, what it learnt from, its verdict, what it did not use
rules/           the rules that said who may be sent what
ledger.ndjson    the ledger's entries from the draft to its end; `digest` is SHA-256 of
                 the digest before and of every field after its length
manifest.json    SHA-256 of every file, and the ledger's end

People are named by {naming}.
"""


class Replayed(NamedTuple):
    """Result of computing a plan again.

    Attributes:
        same: Whether every table is the same, byte for byte.
        lines: A line for each table.
    """

    same: bool
    lines: list[str]


# --- computing it again ---------------------------------------------------------------


def replay(home: Path, plan_id: str) -> Replayed:
    """Compute a plan again from its inputs and compare it byte for byte.

    Args:
        home: The campaign's folder.
        plan_id: Which.

    Raises:
        FileNotFoundError: If its inputs were not kept.
        PlanStepError: If there is none of this name.
    """
    record, folder = record_of(home, plan_id), folder_of(home, plan_id)
    files, lines = record.draft_body["files"], []
    if n_forgotten(record):
        lines.append(
            f"{n_forgotten(record)} requests to be forgotten took rows out of its "
            "inputs: it cannot be computed again exactly"
        )
    with tempfile.TemporaryDirectory() as aside:
        for name, frame in tables_again(folder).items():
            path = Path(aside) / f"{name}.parquet"
            write_table(path, frame)
            same = sha256(path) == files[path.name]
            lines.append(f"{path.name}: {_compared(folder / path.name, frame, same)}")
    return Replayed(all("the same" in line for line in lines), lines)


def _compared(stored: Path, again: pd.DataFrame, same: bool) -> str:  # noqa: FBT001
    if same:
        return f"the same, byte for byte ({len(again):,} rows)"
    before = pd.read_parquet(stored)
    matched = before.merge(again, how="outer", indicator=True)
    n = int((matched["_merge"] != "both").sum())
    return f"differs: {n:,} rows are in one of the two alone"


# --- the bundle -----------------------------------------------------------------------


def write_evidence(
    campaign: Campaign,
    home: Path,
    plan_id: str,
    out: Path,
    *,
    by_id: bool,
    at: pd.Timestamp,
) -> Path:
    """Write the bundle of a plan; the folder appears whole or not at all.

    Args:
        campaign: The declaration.
        home: The campaign's folder.
        plan_id: Which.
        out: A folder that is not there yet.
        by_id: Name people by their voter id; else by the ledger's pseudonyms.
        at: When.

    Raises:
        FileExistsError: If the folder is there.
        PlanStepError: If there is no such plan, or the files are not the ledger's.
        ValueError: If the ledger was altered.
    """
    if out.exists():
        raise FileExistsError(f"{out}: expected a folder that is not there yet")
    record = record_of(home, plan_id)
    _require_unaltered(home, plan_id)
    naming = (
        "their voter ids" if by_id else "pseudonyms that the campaign's keys resolve"
    )
    with whole_folder(out) as aside:
        run = home / str(record.draft_body["run_id"] or "-")
        _csv(recipients(home, record, by_id=by_id), aside / RECIPIENTS)
        money = spent(home)
        _csv(money[money["plan_id"] == plan_id], aside / "money.csv")
        documents = {
            "plan": _plan_json(home, record),
            "sources": _sources(campaign, run),
            "notices": _notices(campaign, home, record, run),
            "model_card": _model_card(home, record, run),
        }
        for name, value in documents.items():
            write_json(aside / f"{name}.json", value)
        places = places_of_plan(folder_of(home, plan_id), record)
        if places is not None:
            _csv(places, aside / "places.csv")
        _copy_rules(aside / "rules", str(record.draft_body["rule_set"]))
        _extract(home, record, aside / EXTRACT)
        read_me = _READ_ME.format(plan=plan_id, naming=naming)
        write_text(aside / "README.txt", read_me)
        _manifest(home, aside, plan_id, at)
    body = {"of": plan_id, "manifest": sha256(out / MANIFEST), "by_id": by_id}
    open_ledger(home).append("evidence", body, at=at)
    return out


def _csv(frame: pd.DataFrame, path: Path) -> None:
    without_formulas(frame).to_csv(path, index=False)


def _require_unaltered(home: Path, plan_id: str) -> None:
    """Nothing is proved by a ledger or files that were altered."""
    fault = open_ledger(home).verify().fault
    faults_of_plan = [
        line for line in plan_faults(home) if line.startswith(f"plans/{plan_id}/")
    ]
    if fault or faults_of_plan:
        raise ValueError(f"{fault or faults_of_plan[0]}; no evidence was written")


def recipients(home: Path, record: PlanRecord, *, by_id: bool) -> pd.DataFrame:
    """Every assignment of a plan, and what came of it.

    Args:
        home: The campaign's folder.
        record: The plan.
        by_id: Whether people are named by voter id, or by the ledger's pseudonyms.

    Returns:
        Columns person, role, why, message_id, channel, send_on, propensity, cost_usd,
        intended_message_id, intended_channel, batch and failed, a row for each.
    """
    folder = folder_of(home, record.plan_id)
    rows = pd.read_parquet(folder / "assignments.parquet")
    plan = pd.read_parquet(folder / "plan.parquet").set_index("voter_id")
    ids = rows["voter_id"]
    batch, failed = _batches(folder, record), _failures(folder, record)
    rows = rows.assign(
        why=rows["role"].map(REASONS),
        send_on=ids.map(plan["send_on"]),
        cost_usd=ids.map(plan["cost_usd"]),
        batch=_values_of(ids, batch),
        failed=_values_of(ids, failed),
        person=ids if by_id else _pseudonyms(home, record, ids),
    )
    columns = [c for c in COLUMNS if c in rows]
    return rows[["person", *columns[:1], "why", *columns[1:], "batch", "failed"]]


def _pseudonyms(home: Path, record: PlanRecord, ids: pd.Series) -> pd.Series:
    """What the ledger calls people in this plan's entries, in hex; empty for nobody."""
    (opening,) = open_ledger(home).store.after(record.steps[0].seq - 1, 1)
    keys = voter_keys(home, ids)
    names = {v: pseudonym(key, opening.digest).hex() for v, key in keys.items()}
    return _values_of(ids, names)


def _values_of(ids: pd.Series, value_of_voter: Mapping[str, str]) -> pd.Series:
    """Value of each voter, empty where there is none."""
    return pd.Series(
        [value_of_voter.get(voter, "") for voter in ids], ids.index, dtype="str"
    )


def _batches(folder: Path, record: PlanRecord) -> dict[str, str]:
    return {
        str(voter): step.key
        for step in record.of(SENT)
        for name in step.body["files"]
        for voter in pd.read_parquet(folder / name)["voter_id"]
    }


def _failures(folder: Path, record: PlanRecord) -> dict[str, str]:
    names = [name for step in record.of(RETURNED) for name in step.body["files"]]
    parts = (pd.read_parquet(folder / name) for name in names)
    return {
        str(voter): str(reason)
        for part in parts
        for voter, reason in zip(part["voter_id"], part["reason"], strict=True)
    }


def _plan_json(home: Path, record: PlanRecord) -> Json:
    terms = json.loads((folder_of(home, record.plan_id) / "terms.json").read_text())
    return {
        "plan": record.plan_id,
        "state": record.state,
        "approved_by": [step.body["by"] for step in record.of(APPROVED)],
        "criteria": {
            "rule_set": record.draft_body["rule_set"],
            "reasons": record.draft_body["reasons"],
            "shadow_prices": record.draft_body["prices"],
        },
        "n_assigned": record.draft_body["n_assigned"],
        "n_contacts": record.draft_body["n_contacts"],
        "n_requests_to_be_forgotten_since": n_forgotten(record),
        "steps": [step._asdict() for step in record.steps],
        "terms": terms,
    }


def _sources(campaign: Campaign, run: Path) -> Json:
    """The declared tables, and every column that a model may have seen."""
    tables = {
        name: {
            "source": source.source,
            "licence": source.licence,
            "permitted_use": source.permitted_use,
            "observed_on": str(source.observed_on) if source.observed_on else None,
        }
        for name, source in campaign.tables.items()
    }
    return {"tables": tables, "columns": _stored_json(run / "dictionary.json")}


def _notices(campaign: Campaign, home: Path, record: PlanRecord, run: Path) -> Json:
    """Period, sponsor and the disclaimer of every message."""
    folder = folder_of(home, record.plan_id)
    plan, places = pd.read_parquet(folder / "plan.parquet"), no_places()
    if (of_plan := places_of_plan(folder, record)) is not None:
        places = taken_places(of_plan)
    days = pd.concat([plan["send_on"], places["send_on"]])
    period = [f"{days.min():%Y-%m-%d}", f"{days.max():%Y-%m-%d}"] if len(days) else []
    path, segment = run / "tables" / "messages.parquet", campaign.features.segment
    messages: Json | str = _NOT_KEPT
    if path.is_file():
        rows = pd.read_parquet(path)
        sent = {*plan["message_id"], *places["message_id"]}
        rows = rows[rows["message_id"].isin(sent)]
        messages = {
            str(row["message_id"]): _notice(row, campaign, period)
            for row in _dicts(rows)
        }
    why_targeted = (
        "Who gets a message is decided by its predicted effect on each eligible voter "
        "and its cost; a share is drawn at random to measure it."
    )
    return {
        "campaign": campaign.campaign.title,
        "period": period,
        "why_targeted": why_targeted,
        "told_apart_by": segment,
        "messages": messages,
    }


def _notice(row: Mapping[str, Any], campaign: Campaign, period: list[str]) -> Json:
    """Sponsor and disclaimer as the message has them; what is absent says so."""
    columns = ("issue", "stance", "sponsor", "disclaimer", "discloses", "text")
    notice: Json = {name: row.get(name) or "none stated" for name in columns}
    used = ", ".join(campaign.features.columns)
    source = campaign.tables["voters"].source
    notice["notice"] = (
        f"Political advertisement on {notice['issue']}, sponsor: {notice['sponsor']}. "
        f"{notice['disclaimer']} Sent {' to '.join(period) or 'to nobody yet'}. Who "
        "gets it was decided by the effect that a model expects of it, from "
        f"{used} ({source}), or by a random draw that measures this effect. You may "
        "ask what is held on you, object, withdraw a permission, and be forgotten."
    )
    return notice


def _dicts(frame: pd.DataFrame) -> list[Json]:
    plain = frame.astype(object).where(frame.notna(), None)
    names = [str(name) for name in plain.columns]
    return [dict(zip(names, row, strict=True)) for row in plain.itertuples(index=False)]


def _model_card(home: Path, record: PlanRecord, run: Path) -> Json:
    promoted = _stored_json(run / "promoted.json")
    tags = promoted.get("tags", {}) if isinstance(promoted, dict) else {}
    training_folder = home / str(tags.get("hustings_run") or run.name)
    evaluation = _stored_json(training_folder / "evaluation.json")
    headline = (
        evaluation.get("headline") if isinstance(evaluation, dict) else evaluation
    )
    columns = _stored_json(training_folder / "dictionary.json")
    return {
        "model": record.draft_body["model"],
        "registered": promoted,
        "training_data_sha256": tags.get("data_hash", _NOT_KEPT),
        "verdict": tags.get("verdict", _NOT_KEPT),
        "headline": headline,
        "columns": _used(columns),
    }


def _used(columns: Json | str) -> Json | str:
    """Columns by whether they tell of a special category of personal data."""
    if isinstance(columns, str):
        return columns
    entries = columns["entries"]
    names_of_kind: dict[str, list[str]] = {}
    for entry in entries:
        kind = str(entry.get("special_category", "unknown"))
        names_of_kind.setdefault(f"special category: {kind}", []).append(entry["name"])
    return names_of_kind


def _copy_rules(into: Path, name: str) -> None:
    """The rules as they are in this version."""
    into.mkdir()
    path = Path(rules.__file__).parent / f"{name}.toml"
    if path.is_file():
        shutil.copyfile(path, into / path.name)
    else:
        (into / f"{name}.txt").write_text(f"Rule set {name}, kept in the program.\n")


# --- the chain ------------------------------------------------------------------------


def _extract(home: Path, record: PlanRecord, path: Path) -> None:
    """Entries from before the draft to the end, one a line."""
    store, seq = open_ledger(home).store, record.steps[0].seq - 1
    before = store.after(seq - 1, 1)[0].digest if seq else START
    with path.open("w") as file:
        file.write(json.dumps({"seq": seq, "digest": before.hex()}) + "\n")
        while entries := store.after(seq, _AT_ONCE):
            file.writelines(json.dumps(_line(entry)) + "\n" for entry in entries)
            seq = entries[-1].seq


def _line(entry: LedgerEntry) -> Json:
    subject = None if entry.subject is None else entry.subject.hex()
    return {**entry._asdict(), "subject": subject, "digest": entry.digest.hex()}


def check_bundle(out: Path) -> list[str]:
    """Faults of a bundle, from nothing but its files; empty for none.

    Args:
        out: The bundle's folder.

    Raises:
        FileNotFoundError: If it is no bundle.
    """
    if not (out / MANIFEST).is_file():
        raise FileNotFoundError(f"{out / MANIFEST}: expected a bundle, found none")
    manifest = json.loads((out / MANIFEST).read_text())
    altered_files = [
        f"{name}: expected the file of the manifest"
        for name, digest in manifest["files"].items()
        if not (out / name).is_file() or sha256(out / name) != digest
    ]
    with (out / EXTRACT).open() as file:
        fault, end = _chain_fault(map(json.loads, file))
    if not fault and end != manifest["ledger_end"]["digest"]:
        fault = f"{EXTRACT}: its end is not the one of the manifest"
    return [*altered_files, *([fault] if fault else [])]


def _chain_fault(lines: Iterable[Json]) -> tuple[str, str]:
    """The first entry that does not follow from the one before; the end's digest."""
    start, *rest = lines
    seq, before = start["seq"], bytes.fromhex(start["digest"])
    for line in rest:
        subject = None if line["subject"] is None else bytes.fromhex(line["subject"])
        fields = (line["seq"], line["at"], line["kind"], subject, line["body"])
        digest = digest_of(before, *fields)
        if line["seq"] != seq + 1 or digest.hex() != line["digest"]:
            return f"{EXTRACT}: entry {seq + 1} was altered", ""
        seq, before = line["seq"], digest
    return "", before.hex()


def _manifest(home: Path, aside: Path, plan_id: str, at: pd.Timestamp) -> None:
    files = sorted(path for path in aside.rglob("*") if path.is_file())
    write_json(
        aside / MANIFEST,
        {
            "plan": plan_id,
            "written_at": at.isoformat(),
            "ledger_end": open_ledger(home).head._asdict(),
            "files": {str(p.relative_to(aside)): sha256(p) for p in files},
        },
    )


def _stored_json(path: Path) -> Json | str:
    """What a run wrote; a line that says so where the run is gone."""
    return json.loads(path.read_text()) if path.is_file() else _NOT_KEPT
