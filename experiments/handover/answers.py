"""What comes back to a campaign: contact results of channels, and other outcomes.

One road for everything that comes back. A file is read row by row, every row accepted
or set aside with a reason; what is accepted becomes RESPONSES of the assignment that it
answers, and goes into the campaign's record as one folder and one entry of the ledger.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hustings.experiments.declaration import CampaignError, data_dir
from hustings.experiments.plans import folder_of
from hustings.experiments.plans.online import is_online, online_so_far
from hustings.experiments.plans.record import DRAFT, REJECTED
from hustings.experiments.plans.steps import record_of
from hustings.experiments.record import (
    OF_NO_PLAN,
    decisions_so_far,
    keep_answers,
    naive_utc,
    present_id_of,
    received,
)
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.persons import known_persons
from hustings.features.ingest import Folders, TableSource
from hustings.features.ingest.mapping import map_with_faults, masked
from hustings.features.ingest.reading import file_sha256, read_raw
from hustings.features.persons.identity import with_present_ids
from hustings.features.persons.keys import VOTER
from hustings.features.tables import (
    ANSWERS,
    RESPONSES,
    TableError,
    check,
    problems,
)
from hustings.serving.export import ExportError
from hustings.serving.export.results import (
    KEY,
    READ_BEFORE,
    SEVERAL,
    Answers,
    OfPlan,
    RemainingRows,
    Results,
    is_among,
    read_results,
    reasons_of,
    set_aside_strangers,
)

ANSWER_KEY = list(ANSWERS.unique or [])
NOBODY_DECIDED = "of a voter whom nothing had decided before it was observed"
NOT_BY_THIS_PLAN = "of a voter whom this plan had not decided when it was observed"


@dataclass(frozen=True)
class Outcomes:
    """What a file of outcomes came to.

    Attributes:
        responses: RESPONSES: an answer is of every assignment that it belongs to.
        rows: `ANSWER_KEY` of the rows accepted.
        quarantine: row, column, value, reason.
        report: rows_in, accepted, set_aside, answers; nobody's data.
    """

    responses: pd.DataFrame
    rows: pd.DataFrame
    quarantine: pd.DataFrame
    report: dict[str, int]

    @property
    def reasons(self) -> dict[str, int]:
        """Rows that were set aside by their reason, the most frequent first."""
        return reasons_of(self.quarantine)


# --- results of channels --------------------------------------------------------------


def read_back(run: Run, plan_id: str, file: Path, *, at: pd.Timestamp) -> Results:
    """Read a file of contact results of a plan, and take it into the record.

    Args:
        run: Whose voters and declaration.
        plan_id: The plan that the contacts are of.
        file: The file.
        at: Now.

    Raises:
        ExportError: If `[export.results]` is not declared, or the plan was not locked.
        ReadBeforeError: If the file was read before.
    """
    declared = run.campaign.export.results
    if declared is None:
        raise ExportError("expected [export.results] in campaign.toml, got none")
    former = present_id_of(run.home)
    results = read_results(
        declared.table.model_copy(update={"path": str(file.resolve())}),
        _folders(run),
        _plan_facts(run.home, plan_id, former),
        _known_voters(run, former),
        {q: Answers(a.outcome, a.values) for q, a in declared.answers.items()},
        former=former,
        at=naive_utc(at),
    )
    names = ("returned", "responses", "withdrawn", "unreachable", "unplanned", "rows",
             "quarantine")  # fmt: skip
    keep_answers(
        run.home, plan_id, file_sha256(file),
        {name: getattr(results, name) for name in names}, results.report, at=at,
    )  # fmt: skip
    return results


def _plan_facts(home: Path, plan_id: str, former: Mapping[str, str]) -> OfPlan:
    """The plan, or the day of online contacts, that results are of; present ids.

    Raises:
        ExportError: If its contacts never happened.
    """
    if is_online(plan_id):
        return _facts_online(home, plan_id, former)
    state = record_of(home, plan_id).state
    if state in (DRAFT, REJECTED):
        raise ExportError(
            f"plan {plan_id}: expected one that was locked, got one that is {state}: "
            "nothing of it can have come back"
        )
    folder = folder_of(home, plan_id)
    assignments = pd.read_parquet(folder / "assignments.parquet")
    held = assignments.loc[assignments["role"] == "holdout", "voter_id"]
    decided = decisions_so_far(home)
    decided = decided.loc[
        decided["plan_id"] == plan_id, ["voter_id", "experiment_id", "decided_on"]
    ]
    contacts = pd.read_parquet(folder / "plan.parquet")
    return OfPlan(
        plan_id,
        contacts.assign(voter_id=with_present_ids(contacts["voter_id"], former)),
        decided.assign(voter_id=with_present_ids(decided["voter_id"], former)),
        with_present_ids(held, former),
        _taken(home, plan_id, KEY),
    )


def _facts_online(home: Path, plan_id: str, former: Mapping[str, str]) -> OfPlan:
    contacts = online_so_far(home).contacts
    contacts = contacts[contacts["plan_id"] == plan_id].reset_index(drop=True)
    if contacts.empty:
        raise ExportError(
            f"plan {plan_id}: expected a day on which something was sent online, got "
            "none: nothing of it can have come back"
        )
    contacts = contacts.assign(
        voter_id=with_present_ids(contacts["voter_id"], former),
        send_on=contacts["decided_on"],
    )
    held = contacts["voter_id"].iloc[:0]
    taken = _taken(home, plan_id, KEY)
    return OfPlan(plan_id, contacts, contacts, held, taken)


def _taken(home: Path, plan_id: str, key: list[str]) -> pd.DataFrame:
    """Keys of the rows that earlier files of a plan brought."""
    paths = [r.folder / "rows.parquet" for r in received(home) if r.plan_id == plan_id]
    parts = [pd.read_parquet(path) for path in paths if path.is_file()]
    with_rows = [part for part in parts if len(part)]
    return pd.concat(with_rows) if with_rows else pd.DataFrame({c: [] for c in key})


def _known_voters(run: Run, former: Mapping[str, str]) -> pd.Series:
    """Voters of the present file and those whom a plan decided, but the forgotten.

    A voter who has left the file since keeps the assignment, and may answer it.
    """
    parts = [run.table("voters")["voter_id"], decisions_so_far(run.home)["voter_id"]]
    ids = with_present_ids(
        pd.concat(parts, ignore_index=True).astype("str"), former
    ).drop_duplicates(ignore_index=True)
    gone = known_persons(run.home).keys.forgotten(kind=VOTER)
    return ids[~gone.rows(pd.DataFrame({"voter_id": ids}))]


# --- other outcomes -------------------------------------------------------------------


def read_outcomes(
    run: Run, file: Path, *, source_name: str, at: pd.Timestamp
) -> Outcomes:
    """Read a file of outcomes that came through no channel, and take it in.

    An answer without a plan belongs to every assignment of the voter that was decided
    before it was observed.

    Args:
        run: Whose voters and declaration.
        file: The file.
        source_name: Which `[answers.<name>]`; empty where only one is declared.
        at: Now.

    Raises:
        CampaignError: If the campaign does not declare how the file is read.
        TableError: If the file lacks a column.
        ReadBeforeError: If the file was read before.
    """
    source = _declared_source(run, source_name)
    raw = read_raw(
        source.model_copy(update={"path": str(file.resolve())}), ANSWERS.name,
        _folders(run),
    )  # fmt: skip
    mapped = map_with_faults(raw.frame, source, ANSWERS.name, file=raw.file)
    former = present_id_of(run.home)
    frame = _complete(mapped.frame, raw.file)
    rows = RemainingRows(
        frame.assign(voter_id=with_present_ids(frame["voter_id"], former))
    )
    rows.add_faults(raw.broken)
    rows.add_faults(mapped.faults)
    rows.set_aside(rows.frame.duplicated(ANSWER_KEY), "voter_id", SEVERAL)
    rows.add_faults(masked(problems(ANSWERS, rows.frame), ANSWERS.name))
    set_aside_strangers(rows, _known_voters(run, former), "observed_at", at)
    _set_aside_values(rows, run)
    taken = _taken(run.home, OF_NO_PLAN, ANSWER_KEY)
    rows.set_aside(is_among(rows.frame, taken, ANSWER_KEY), "voter_id", READ_BEFORE)
    responses = _placed(rows, run.home, former)
    outcomes = Outcomes(
        responses,
        rows.frame[ANSWER_KEY].reset_index(drop=True),
        rows.quarantine(),
        rows.counts(len(raw.frame) + len(raw.broken)) | {"answers": len(responses)},
    )
    keep_answers(
        run.home, OF_NO_PLAN, file_sha256(file),
        {name: getattr(outcomes, name) for name in ("responses", "rows", "quarantine")},
        outcomes.report, at=at,
    )  # fmt: skip
    return outcomes


def _declared_source(run: Run, name: str) -> TableSource:
    declared = run.campaign.answers
    if not name and len(declared) == 1:
        (name,) = declared
    if name not in declared:
        there = ", ".join(declared) or "none declared"
        raise CampaignError(
            f"{run.campaign.file}: expected a section [answers.<name>] that says how "
            f"the file is read, got {name or 'no name'!r} ({there})"
        )
    return declared[name]


def _complete(frame: pd.DataFrame, file: str) -> pd.DataFrame:
    """The mapped rows with every column of ANSWERS.

    Raises:
        TableError: Naming the column that is not mapped.
    """
    for name, column in ANSWERS.columns.items():
        if column.required and name not in frame:
            raise TableError(
                f"{file}: expected a column {name!r} ({column.description}), got none; "
                f"mend [answers.<name>.columns] in campaign.toml"
            )
    if "plan_id" not in frame:
        frame = frame.assign(plan_id=pd.Series(None, index=frame.index, dtype="str"))
    return frame[list(ANSWERS.columns)]


def _set_aside_values(rows: RemainingRows, run: Run) -> None:
    declared = run.campaign.outcome
    if declared.kind == "binary":
        of_outcome = rows.frame["outcome"] == declared.name
        odd = of_outcome & ~rows.frame["value"].isin([0.0, 1.0])
        rows.set_aside(odd, "value", "expected 0 or 1 of a binary outcome")


def _placed(rows: RemainingRows, home: Path, former: Mapping[str, str]) -> pd.DataFrame:
    """RESPONSES of the assignments that the rows answer; sets aside what answers none.

    Args:
        rows: Answers.
        home: The campaign's folder.
        former: Former voter id → present one.
    """
    decided = decisions_so_far(home)[
        ["voter_id", "plan_id", "experiment_id", "decided_on"]
    ]
    decided = decided.assign(
        voter_id=with_present_ids(decided["voter_id"].astype("str"), former),
        decided_on=pd.to_datetime(decided["decided_on"]),
    ).rename(columns={"plan_id": "decided_by"})
    answers = rows.frame.assign(row=rows.frame.index)
    pairs = answers.merge(decided, on="voter_id", how="inner")
    whichever = pairs["plan_id"].isna()
    belongs = (whichever & (pairs["decided_on"] < pairs["observed_at"])) | (
        (pairs["plan_id"] == pairs["decided_by"])
        & (pairs["decided_on"] <= pairs["observed_at"])
    )
    pairs = pairs[belongs]
    placed = rows.frame.index.isin(pairs["row"])
    of_plan = rows.frame["plan_id"].notna()
    unplaced = pd.Series(~placed, index=rows.frame.index)
    rows.set_aside(unplaced & of_plan, "plan_id", NOT_BY_THIS_PLAN)
    rows.set_aside(unplaced[rows.frame.index], "voter_id", NOBODY_DECIDED)
    responses = pairs.assign(plan_id=pairs["decided_by"])
    columns = [name for name, column in RESPONSES.columns.items() if column.required]
    responses = responses[columns].drop_duplicates(RESPONSES.unique, ignore_index=True)
    return check(RESPONSES, responses)


def _folders(run: Run) -> Folders:
    return Folders(campaign=run.campaign.folder, data=data_dir(), raw=run.home / "raw")
