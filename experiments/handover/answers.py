"""Answers to a campaign: contact results of channels, and other outcomes.

One road for everything that comes back. A file is read row by row, every row accepted
or set aside with a reason; what is accepted becomes RESPONSES of the assignment that it
answers, and goes into the campaign's record as one folder and one entry of the ledger.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pandera.pandas import DataFrameSchema

from hustings.experiments.declaration import CampaignError, LinkSection, data_dir
from hustings.experiments.plans import folder_of
from hustings.experiments.plans.online import is_online, online_so_far
from hustings.experiments.plans.record import DRAFT, REJECTED
from hustings.experiments.plans.steps import record_of
from hustings.experiments.record import (
    OF_NO_PLAN,
    decisions_so_far,
    keep_answers,
    present_id_of,
    received,
)
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.links import read_voters
from hustings.experiments.stages.persons import known_persons
from hustings.features.asof import naive_utc
from hustings.features.checksums import file_sha256
from hustings.features.ingest import Folders, TableSource
from hustings.features.ingest.mapping import masked
from hustings.features.ingest.rows import read_rows
from hustings.features.persons.identity import with_present_ids
from hustings.features.persons.keys import VOTER
from hustings.features.persons.link import BY_KEY, Linked, link_reactors
from hustings.features.persons.linked_reactions import linked_answers
from hustings.features.tables import (
    ANSWERS,
    IDENTITIES,
    LINKED_ANSWERS,
    RESPONSES,
    TableError,
    check,
    off_scale,
    problems,
)
from hustings.serving.export import ExportError
from hustings.serving.export.results import (
    KEY,
    READ_BEFORE,
    REPEATED,
    SEVERAL,
    Answers,
    OfPlan,
    RemainingRows,
    Results,
    is_among,
    read_results,
    set_aside_strangers,
)
from hustings.serving.rules import WORDS, rule_set

ANSWER_KEY = list(ANSWERS.unique or [])
NOBODY_DECIDED = "of a voter whom nothing had decided before it was observed"
LINK_COLUMNS = ["link_probability", "link_probability_se"]
NO_BASIS = "no basis on record that [link] declares: nobody was looked for"
NOT_LINKED = "linked to no voter at the declared threshold"
LESS_LIKELY = "another person is likelier to be this voter; that answer is kept"
NOT_BY_THIS_PLAN = "of a voter whom this plan had not decided when it was observed"
ORDINARY = REPEATED | {NOBODY_DECIDED, NO_BASIS, NOT_LINKED, LESS_LIKELY}
"""Reasons that are expected in ordinary life: a file of turnout has everybody, one of
all days those of yesterday, and few who answer can be looked for."""


@dataclass(frozen=True)
class Outcomes:
    """Result of reading a file of outcomes.

    Attributes:
        responses: RESPONSES: an answer is of every assignment that it belongs to.
        rows: `ANSWER_KEY` of the rows accepted.
        quarantine: row, column, value, reason.
        report: rows_in, accepted, set_aside, answers; nobody's data.
        account: What became of every row, as `ingest.json` has it of a table.
    """

    responses: pd.DataFrame
    rows: pd.DataFrame
    quarantine: pd.DataFrame
    report: dict[str, int]
    account: Mapping[str, Any]


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
        folders_of(run),
        _plan_facts(run.home, plan_id, former),
        known_voters(run, former),
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


def known_voters(run: Run, former: Mapping[str, str]) -> pd.Series:
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

    A file without ids says who people are instead, and their basis on record: they are
    linked as `[link]` declares, and an answer carries the probability of its link.

    Args:
        run: Whose voters and declaration.
        file: The file.
        source_name: Which `[answers.<name>]`; empty where only one is declared.
        at: Now.

    Raises:
        CampaignError: If the campaign does not declare how the file is read, or may not
            look for people.
        TableError: If the file lacks a column, or too much of it would be set aside:
            nothing is stored then. `ORDINARY` does not count.
        ReadBeforeError: If the file was read before.
    """
    source = _declared_source(run, source_name)
    linked = bool(source.columns) and "voter_id" not in source.columns
    contract = LINKED_ANSWERS if linked else ANSWERS
    read = read_rows(
        source.model_copy(update={"path": str(file.resolve())}), contract.name,
        folders_of(run),
    )  # fmt: skip
    former = present_id_of(run.home)
    rows = RemainingRows(_complete(read.frame, contract, read.table.raw.file), read)
    campaign_voters, counts = known_voters(run, former), dict[str, int]()
    if linked:
        counts = _link(rows, run, campaign_voters, former)
    else:
        present = with_present_ids(rows.frame["voter_id"], former)
        rows.frame = rows.frame.assign(voter_id=present)
    rows.set_aside(rows.frame.duplicated(ANSWER_KEY), "voter_id", SEVERAL)
    faults = problems(ANSWERS, rows.frame[list(ANSWERS.columns)])
    rows.add_faults(masked(faults, ANSWERS.name))
    set_aside_strangers(rows, campaign_voters, "observed_at", at)
    _set_aside_values(rows, run)
    taken = _taken(run.home, OF_NO_PLAN, ANSWER_KEY)
    rows.set_aside(is_among(rows.frame, taken, ANSWER_KEY), "voter_id", READ_BEFORE)
    responses = _placed(rows, run.home, former)
    scale = run.campaign.outcome.value_range
    # a code for no answer is no loss of the file
    rows.require_few(ORDINARY | ({off_scale(scale)} if scale else set()))
    outcomes = Outcomes(
        responses,
        rows.frame[ANSWER_KEY].reset_index(drop=True),
        rows.quarantine(),
        rows.counts() | {"answers": len(responses)} | counts,
        rows.account(),
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


def _complete(
    frame: pd.DataFrame, contract: DataFrameSchema, file: str
) -> pd.DataFrame:
    """The mapped rows with every column of ANSWERS, or with who people are.

    Raises:
        TableError: Naming the column that is not mapped.
    """
    for name, column in contract.columns.items():
        if column.required and name not in frame:
            raise TableError(
                f"{file}: expected a column {name!r} ({column.description}), got none; "
                f"mend [answers.<name>.columns] in campaign.toml"
            )
    if "plan_id" not in frame:
        frame = frame.assign(plan_id=pd.Series(None, index=frame.index, dtype="str"))
    return frame[[name for name in contract.columns if name in frame]]


# --- answers of people who are looked for in the voter file ---------------------------


def _link(
    rows: RemainingRows, run: Run, campaign_voters: pd.Series, former: Mapping[str, str]
) -> dict[str, int]:
    """Rows of people become rows of the voters they are linked to; the others go.

    Who people are is read here and is not in the rows any more when this returns.

    Args:
        rows: LINKED_ANSWERS.
        run: Whose declaration.
        campaign_voters: Present ids of the voters that may answer.
        former: Former voter id → present one.

    Returns:
        Links by exact key, by other fields, and how many of both should be wrong.

    Raises:
        CampaignError: If the campaign declares no linkage, or its rules forbid this.
    """
    declared = _declared_link(run)
    rows.add_faults(masked(problems(LINKED_ANSWERS, rows.frame), LINKED_ANSWERS.name))
    rows.set_aside(~rows.frame["basis"].isin(declared.bases), "basis", NO_BASIS)
    other = rows.frame["outcome"] != run.campaign.outcome.name
    rows.set_aside(other, "outcome", "expected the campaign's outcome of linked people")
    of_persons = [c for c in rows.frame if c in IDENTITIES.columns]
    person = rows.frame.groupby(of_persons, dropna=False, sort=False).ngroup()
    answers = rows.frame.assign(reaction_person=person.astype("str"))
    linkage = _linkage(
        answers[["reaction_person", *of_persons]],
        run,
        declared,
        campaign_voters,
        former,
    )
    check_of_keys = linkage.summary.check
    linked = linked_answers(
        answers, linkage.links,
        relative_error=0.0 if check_of_keys is None else check_of_keys.relative_error,
    )  # fmt: skip
    missed = pd.Series(~rows.frame.index.isin(linked.index), index=rows.frame.index)
    rows.set_aside(missed, "voter_id", NOT_LINKED)
    rows.frame = linked[[*ANSWERS.columns, *LINK_COLUMNS]]
    rows.set_aside(~linked["likeliest"], "voter_id", LESS_LIKELY)
    left = linkage.links["reaction_person"].isin(
        answers.loc[rows.frame.index, "reaction_person"]
    )
    links = linkage.links[left]
    return {
        "linked_by_key": int((links["linked_by"] == BY_KEY).sum()),
        "linked_by_other_fields": int((links["linked_by"] != BY_KEY).sum()),
        "expected_wrong_links": round(float((1.0 - links["probability"]).sum())),
    }


def _declared_link(run: Run) -> LinkSection:
    campaign = run.campaign
    if campaign.link is None:
        raise CampaignError(
            f"{campaign.file}: expected voter_id in [answers.<name>.columns], or a "
            "section [link] that says on which basis people may be looked for"
        )
    if campaign.outcome.absent == "zero":
        raise CampaignError(
            f'{campaign.file}: linked answers need [outcome].absent = "missing": of a '
            "voter who is not found nobody knows that the outcome is 0"
        )
    for rule in rule_set(campaign.campaign.rule_set).of("collected_from_person"):
        raise CampaignError(
            f"{campaign.file}: linked answers are {WORDS['linked_reactions']}: rule "
            f"set {campaign.campaign.rule_set!r} refuses them ({rule.code})"
        )
    return campaign.link


def _linkage(
    people: pd.DataFrame,
    run: Run,
    declared: LinkSection,
    campaign_voters: pd.Series,
    former: Mapping[str, str],
) -> Linked:
    identities = read_voters(
        run, declared.voters, folders_of(run), section="[link.voters]"
    ).frame
    present = with_present_ids(identities["voter_id"].astype("str"), former)
    of_voters = identities.assign(voter_id=present).drop_duplicates("voter_id")
    return link_reactors(
        people.drop_duplicates("reaction_person", ignore_index=True),
        of_voters[of_voters["voter_id"].isin(campaign_voters)].reset_index(drop=True),
        fields=declared.columns or None,
        rules=[tuple(rule) for rule in declared.rules],
        threshold=declared.threshold,
        calling_code=run.campaign.export.audience.calling_code,
        seed=run.campaign.campaign.seed,
    )


def _set_aside_values(rows: RemainingRows, run: Run) -> None:
    declared, value = run.campaign.outcome, rows.frame["value"]
    of_outcome = rows.frame["outcome"] == declared.name
    if declared.kind == "binary":
        odd = of_outcome & ~value.isin([0.0, 1.0])
        rows.set_aside(odd, "value", "expected 0 or 1 of a binary outcome")
    elif declared.value_range is not None:
        odd = of_outcome & ~value.between(*declared.value_range)
        rows.set_aside(odd, "value", off_scale(declared.value_range))


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
    columns += [name for name in LINK_COLUMNS if name in responses]
    responses = responses[columns].drop_duplicates(RESPONSES.unique, ignore_index=True)
    return check(RESPONSES, responses)


def folders_of(run: Run) -> Folders:
    """Folders that the prefixes of a file's path name."""
    return Folders(campaign=run.campaign.folder, data=data_dir(), raw=run.home / "raw")
