"""The campaign's record: what was decided and what came back, as of a moment.

What happened is a fact of the campaign and lies in its folder: plans with their ledger,
what was sent online, answers, contact results. A run holds only what was computed and
may be deleted. Every reader (train, lift, day, plan, export, week) asks here, and says
as of when.

A file of answers is a folder `results/<plan>/<digest>/`, or `results/_answers/<digest>`
where the file is of no single plan, and one entry of the ledger. A folder that the
ledger does not name was cut off while it was written, and counts for nothing.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hustings.experiments.plans import BINDING, LOCKED, folder_of, plans
from hustings.experiments.plans.designs import as_deliveries, block_name
from hustings.experiments.plans.folder import IDENTITY, alone, read_table
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.plans.online import online_so_far
from hustings.experiments.plans.queries import decided_so_far
from hustings.features.arrays import Bools
from hustings.features.asof import naive_utc
from hustings.features.atomic import whole_folder
from hustings.features.persons.identity import (
    former_ids,
    present_ids,
    with_present_ids,
)
from hustings.features.tables import (
    ASSIGNMENTS,
    DELIVERIES,
    DESIGNS,
    DO_NOT_CONTACT,
    RESPONSES,
    check,
)

RESULTS = "results"
"""Folder of what channels reported and what was answered, by plan and file."""
OF_NO_PLAN = "_answers"
"""In place of a plan's id, for a file that is of no single plan."""
ANSWERS_READ = "answers read"
"""Kind of the ledger's entry of a file of answers."""
OF_BALLOTS = "_ballots"
"""In place of a plan's id, for a file of ballots."""
BALLOTS_READ = "ballots read"
"""Kind of the ledger's entry of a file of ballots."""
CONTACTS = ["voter_id", "plan_id", "message_id", "channel", "contacted_at", "result",
            "delivered", "n_attempts"]  # fmt: skip
"""Columns of what came of a contact."""
_RESPONSES = [name for name, column in RESPONSES.columns.items() if column.required]
_DIGITS = 16


class ReadBeforeError(ValueError):
    """A file of answers that the campaign has taken in already."""


# --- what was decided -----------------------------------------------------------------


def binding_plans(home: Path) -> list[str]:
    """Plans whose contacts happen: locked, sent or returned, in the order of drafts."""
    return [name for name, plan in plans(home).items() if plan.state in BINDING]


def decisions_so_far(home: Path) -> pd.DataFrame:
    """Who was decided: by the plans that bind, in their order, and then online.

    Args:
        home: The campaign's folder.

    Returns:
        ASSIGNMENTS with plan_id and decided_on (the day of the contact; of a voter who
        gets none, the plan's first), blocks named as in `designs_so_far`. A voter has
        a row for every plan, and for every contact that was sent online: in no block
        of a design, since no chance was drawn.
    """
    planned = _planned(home)
    online = online_so_far(home).contacts[planned.columns]
    parts = [rows for rows in (planned, online) if len(rows)]
    return pd.concat(parts, ignore_index=True) if parts else planned


def drawn_so_far(home: Path) -> pd.DataFrame:
    """The decisions whose chances are known, by which voters may be compared.

    Who was sent something online has left the pool of later plans, by no chance that
    anybody knows, and none of those held out has. So the decisions of a plan take no
    part here of voters who, before it was locked, had been offered anything online or
    would have been if not held out: neither depends on what the plan drew.

    Returns:
        As `decisions_so_far`, of plans alone.
    """
    planned = _planned(home)
    return planned[~_offered_before(home, planned)].reset_index(drop=True)


def n_offered_before(home: Path) -> int:
    """Decisions of plans that `drawn_so_far` leaves aside."""
    return int(_offered_before(home, _planned(home)).sum())


def _offered_before(home: Path, planned: pd.DataFrame) -> Bools:
    """Decisions of voters who had had an offer online when the plan was locked."""
    offered = online_so_far(home).first_offered_at
    if offered.empty or planned.empty:
        return np.zeros(len(planned), dtype=bool)
    former = present_id_of(home)
    first = offered.groupby(
        with_present_ids(offered.index.to_series(), former).to_numpy()
    ).min()
    locked = {
        name: naive_utc(pd.Timestamp(plan.of(LOCKED)[0].at))
        for name, plan in plans(home).items()
        if plan.of(LOCKED)
    }
    offered_at = with_present_ids(planned["voter_id"], former).map(first)
    locked_at = pd.to_datetime(planned["plan_id"].map(locked))
    return np.asarray(pd.to_datetime(offered_at) < locked_at, dtype=bool)


def _planned(home: Path) -> pd.DataFrame:
    """Whom the plans that bind have decided."""
    decided = decided_so_far(home)
    names = binding_plans(home)
    rows = decided[decided["plan_id"].isin(names)]
    if rows.empty:
        columns = [*ASSIGNMENTS.columns, "plan_id", "decided_on"]
        return pd.DataFrame({c: [] for c in columns})
    block_names = [
        block_name(p, b)
        for p, b in zip(rows.plan_id.tolist(), rows.block.tolist(), strict=True)
    ]
    return rows.assign(block=block_names).reset_index(drop=True)


def holdout_shares(home: Path) -> dict[str, float]:
    """Share of voters that each plan that binds holds out, by plan."""
    shares = {}
    for name in binding_plans(home):
        facts = json.loads((folder_of(home, name) / "terms.json").read_text())
        shares[name] = float(facts["terms"]["holdout_share"])
    return shares


def designs_so_far(home: Path) -> pd.DataFrame:
    """DESIGNS of all plans that bind, blocks named by their plan."""
    parts = []
    for name in binding_plans(home):
        designs = read_table(folder_of(home, name) / "designs.parquet")
        parts.append(designs.assign(block=[block_name(name, b) for b in designs.block]))
    if not parts:
        return check(DESIGNS, pd.DataFrame({c: [] for c in DESIGNS.columns}))
    return check(DESIGNS, pd.concat(parts, ignore_index=True))


def deliveries_so_far(home: Path) -> pd.DataFrame:
    """DELIVERIES of all plans that bind: who got what, held-out voters as controls.

    A table to learn from: of the decisions of `drawn_so_far`. What was sent online was
    drawn by no design, and is in none.
    """
    decided = decided_so_far(home)
    decided = decided[decided["plan_id"].isin(binding_plans(home))]
    decided = decided[~_offered_before(home, decided)]
    parts = []
    for name in binding_plans(home):
        designs = read_table(folder_of(home, name) / "designs.parquet")
        rows = decided[decided["plan_id"] == name]
        parts.append(as_deliveries(name, rows, designs, rows["decided_on"]))
    if not parts:
        return check(DELIVERIES, pd.DataFrame({c: [] for c in DELIVERIES.columns}))
    return check(DELIVERIES, pd.concat(parts, ignore_index=True))


def present_id_of(home: Path) -> dict[str, str]:
    """Former voter id → present id of the same person."""
    return present_ids(former_ids(home / IDENTITY))


def record_digest(home: Path, at: pd.Timestamp) -> str:
    """Digest of the campaign's own plans and answers as of a moment.

    Args:
        home: The campaign's folder.
        at: The moment.

    Returns:
        A SHA-256; empty where nothing was decided.
    """
    records = plans(home)
    bound = [
        [name, records[name].files.get("designs.parquet")]
        for name in binding_plans(home)
    ]
    if not bound:
        return ""
    files = [[file.plan_id, file.sha256] for file in received(home, at)]
    n_aside = n_offered_before(home)
    record = [bound, files, *([n_aside] if n_aside else [])]
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


# --- what came back -------------------------------------------------------------------


@dataclass(frozen=True)
class Received:
    """A file of answers that was taken in.

    Attributes:
        plan_id: The plan that it is of, or `OF_NO_PLAN`.
        sha256: Of the file.
        received_at: When it was taken in, UTC without a zone.
        folder: Where its rows lie.
    """

    plan_id: str
    sha256: str
    received_at: pd.Timestamp
    folder: Path


def received(home: Path, at: pd.Timestamp | None = None) -> list[Received]:
    """Files of answers that were taken in, in the order in which they came.

    Args:
        home: The campaign's folder.
        at: Only those that were there by then; all without.
    """
    return _received(home, ANSWERS_READ, at)


def received_ballots(home: Path) -> list[Received]:
    """Files of ballots that were taken in, in the order in which they came."""
    return _received(home, BALLOTS_READ, None)


def _received(home: Path, kind: str, at: pd.Timestamp | None) -> list[Received]:
    files = []
    for entry in open_ledger(home).of_kind(kind):
        body, when = json.loads(entry.body), naive_utc(pd.Timestamp(entry.at))
        if at is None or when <= naive_utc(at):
            plan_id, digest = str(body["plan"]), str(body["sha256"])
            folder = _folder(home, plan_id, digest)
            files.append(Received(plan_id, digest, when, folder))
    return files


def keep_answers(
    home: Path,
    plan_id: str,
    sha256: str,
    tables: Mapping[str, pd.DataFrame],
    counts: Mapping[str, int],
    *,
    at: pd.Timestamp,
) -> Path:
    """Take in what a file of answers says: its folder, then its entry in the ledger.

    Of two processes that take in one file at once, the second is refused.

    Args:
        home: The campaign's folder.
        plan_id: The plan that the file is of, or `OF_NO_PLAN`.
        sha256: Digest of the file.
        tables: By name: `responses` (RESPONSES), `returned` (`CONTACTS`), `withdrawn`
            and `unreachable` (voter_id, channel, since, reason), and others.
        counts: Rows of the file by what became of them; nobody's data.
        at: When it was received.

    Returns:
        The folder.

    Raises:
        ReadBeforeError: If the file was taken in before.
    """
    return _keep(home, ANSWERS_READ, plan_id, sha256, tables, counts, at)


def keep_ballots(
    home: Path,
    sha256: str,
    tables: Mapping[str, pd.DataFrame],
    counts: Mapping[str, int],
    *,
    at: pd.Timestamp,
) -> Path:
    """Write down that a file of ballots was taken in; see `keep_answers`.

    Args:
        home: The campaign's folder.
        sha256: Digest of the file.
        tables: By name: `ballots` (BALLOTS, those accepted) and `quarantine`.
        counts: Rows of the file by what became of them; nobody's data.
        at: When it was received.

    Returns:
        The folder.

    Raises:
        ReadBeforeError: If the file was taken in before.
    """
    return _keep(home, BALLOTS_READ, OF_BALLOTS, sha256, tables, counts, at)


def _keep(
    home: Path,
    kind: str,
    plan_id: str,
    sha256: str,
    tables: Mapping[str, pd.DataFrame],
    counts: Mapping[str, int],
    at: pd.Timestamp,
) -> Path:
    folder = _folder(home, plan_id, sha256)
    with alone(home):
        before = [
            r
            for r in _received(home, kind, None)
            if (r.plan_id, r.sha256) == (plan_id, sha256)
        ]
        if before:
            raise ReadBeforeError(
                f"expected a file that is new, got one that was read before, on "
                f"{before[0].received_at:%Y-%m-%d %H:%M} UTC: see {folder}"
            )
        with whole_folder(folder) as aside:
            for name, frame in tables.items():
                frame.to_parquet(
                    aside / f"{name}.parquet", index=False, compression="zstd"
                )
            report = {"received_at": str(naive_utc(at)), **counts}
            (aside / "report.json").write_text(json.dumps(report, indent=1))
        body = {"plan": plan_id, "sha256": sha256, "counts": dict(counts)}
        open_ledger(home).append(kind, body, at=at)
    return folder


def responses_so_far(home: Path, at: pd.Timestamp) -> pd.DataFrame:
    """RESPONSES to the campaign's own plans that had come in by a moment.

    Args:
        home: The campaign's folder.
        at: The moment: neither observed nor received later.
    """
    rows = _tables(home, "responses", at)
    if rows.empty:
        return check(RESPONSES, pd.DataFrame({c: [] for c in _RESPONSES}))
    rows = rows[rows["observed_at"] <= naive_utc(at)]
    # two files may hold one answer: the file that came first stands
    rows = rows.drop_duplicates(RESPONSES.unique, ignore_index=True)
    return check(RESPONSES, rows)


def contacts_so_far(home: Path, at: pd.Timestamp) -> pd.DataFrame:
    """Results of the plans' contacts by a moment, one row a contact.

    A contact was delivered if any attempt was; else its last attempt stands.

    Args:
        home: The campaign's folder.
        at: The moment: neither made nor received later.

    Returns:
        Columns `CONTACTS`.
    """
    rows = _tables(home, "returned", at)
    if rows.empty:
        return pd.DataFrame({c: [] for c in CONTACTS})
    rows = rows[rows["contacted_at"] <= naive_utc(at)]
    key = ["voter_id", "plan_id", "channel"]
    attempts = rows.groupby(key, observed=True)["n_attempts"].transform("sum")
    ordered = rows.assign(n_attempts=attempts).sort_values(
        ["delivered", "contacted_at"], kind="stable"
    )
    last = ordered.drop_duplicates(key, keep="last").sort_index()
    return last[CONTACTS].reset_index(drop=True)


def closed_channels(home: Path) -> pd.DataFrame:
    """DO_NOT_CONTACT by what channels reported.

    Voters who have moved, or whose number is another's, are not reached by that channel
    any more; voters who asked not to be contacted, by none.
    """
    reported_tables = [_tables(home, name) for name in ("withdrawn", "unreachable")]
    parts = [
        rows[["voter_id", "channel", "since"]] for rows in reported_tables if len(rows)
    ]
    if not parts:
        return check(
            DO_NOT_CONTACT, pd.DataFrame({"voter_id": [], "channel": [], "since": []})
        )
    reported = pd.concat(parts, ignore_index=True).sort_values("since", kind="stable")
    # an id may have become another since: the person's wish goes with the person
    now = with_present_ids(reported["voter_id"], present_id_of(home))
    reported = reported.assign(voter_id=now)
    first = reported.drop_duplicates(["voter_id", "channel"], ignore_index=True)
    return check(DO_NOT_CONTACT, first)


def _tables(home: Path, name: str, at: pd.Timestamp | None = None) -> pd.DataFrame:
    """Rows of one table of all files, in the order in which they came."""
    paths = [r.folder / f"{name}.parquet" for r in received(home, at)]
    parts = [read_table(path) for path in paths if path.is_file()]
    with_rows = [part for part in parts if len(part)]
    return pd.concat(with_rows, ignore_index=True) if with_rows else pd.DataFrame()


def _folder(home: Path, plan_id: str, sha256: str) -> Path:
    return home / RESULTS / plan_id / sha256[:_DIGITS]
