"""Contact results of a channel, read back: voters reached, and their answers.

Every row of the file is accepted or set aside with a reason. Accepted rows become: what
came of each planned contact, answers as responses, who asked not to be contacted and
where somebody cannot be reached. A contact that nobody planned is reported, since it
belongs to no arm; one of somebody held out above all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hustings.features.asof import naive_utc
from hustings.features.ingest.mapping import fault_rows, joined, masked
from hustings.features.ingest.reading import Folders
from hustings.features.ingest.rows import RowsRead, read_rows
from hustings.features.ingest.sorting import (
    examples_in,
    largest_in,
    reasons_in,
    require_few,
)
from hustings.features.ingest.source import TableSource
from hustings.features.membership import among
from hustings.features.persons.identity import with_present_ids
from hustings.features.tables import (
    CONTACT_RESULTS,
    RESPONSES,
    TableError,
    check,
    problems,
)
from hustings.serving.export.formulas import as_exported

KEY = list(CONTACT_RESULTS.unique or [])
RETURNED = ["voter_id", "plan_id", "message_id", "channel", "contacted_at", "result",
            "delivered", "n_attempts"]  # fmt: skip
UNPLANNED = ["voter_id", "channel", "contacted_at", "result", "held_out"]
CLOSED = ["voter_id", "channel", "since", "reason"]
SEVERAL = "the same attempt or answer again; the first is kept"
READ_BEFORE = "read in an earlier file of this plan; that one is kept"
AT_ONCE = "two answers about one outcome at one moment; the first is kept"
UNDECIDED_VOTER = "answered by a voter whom the plan did not decide"
TOO_EARLY = "answered before the plan decided the voter"
REPEATED = frozenset({SEVERAL, READ_BEFORE, AT_ONCE})
"""Reasons that are expected in ordinary life: a system exports all attempts again every
day. They do not count towards `most_quarantined`."""


class End(NamedTuple):
    """Meaning of one way in which a contact ends.

    Attributes:
        delivered: Whether the message was.
        final: Whether another attempt is of no use.
        closes: Channels by which the person cannot be reached any more.
        withdraws: Whether the person may not be contacted by any of `closes`.
    """

    delivered: bool
    final: bool = False
    closes: tuple[str, ...] = ()
    withdraws: bool = False


ANY_CHANNEL = "*"
ENDS: Mapping[str, End] = MappingProxyType(
    {
        "delivered": End(delivered=True),
        "canvassed": End(delivered=True),
        "left_message": End(delivered=True),
        "not_home": End(delivered=False),
        "refused": End(delivered=False, final=True),
        "other_language": End(delivered=False, final=True),
        "failed": End(delivered=False),
        "bounced": End(delivered=False, final=True, closes=("email",)),
        "wrong_number": End(delivered=False, final=True, closes=("phone", "sms")),
        "moved": End(delivered=False, final=True, closes=("mail", "door")),
        "deceased": End(
            delivered=False, final=True, closes=(ANY_CHANNEL,), withdraws=True
        ),
        "do_not_contact": End(
            delivered=False, final=True, closes=(ANY_CHANNEL,), withdraws=True
        ),
    }
)
"""Refusing at the door is no delivery: the message was not heard. A request not to be
contacted holds for every channel, which is more than the law asks."""


@dataclass(frozen=True)
class Answers:
    """How answers to a question become an outcome.

    Attributes:
        outcome: Name of the outcome.
        values: Answer, as it is written → value. Any other is set aside.
    """

    outcome: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class OfPlan:
    """The plan of a file of results.

    Attributes:
        plan_id: Its name.
        contacts: PLAN.
        decided: Whom it decided: voter_id, experiment_id, decided_on.
        held: Voter ids of those held out.
        taken: `KEY` of the rows that earlier files of this plan brought.
    """

    plan_id: str
    contacts: pd.DataFrame
    decided: pd.DataFrame
    held: pd.Series
    taken: pd.DataFrame


@dataclass(frozen=True)
class Results:
    """Contact results of a plan.

    Attributes:
        returned: A row per planned contact that the file speaks of: voter_id, plan_id,
            message_id, channel, contacted_at, result, delivered, n_attempts.
        responses: RESPONSES, by experiment and plan of the assignment.
        withdrawn: voter_id, channel ("*" for any), since, reason: may not be contacted.
        unreachable: voter_id, channel, since, reason: has no such address any more.
        unplanned: voter_id, channel, contacted_at, result, held_out: nobody planned it.
        rows: `KEY` of the rows accepted.
        quarantine: row, column, value, reason.
        report: rows_in, accepted, set_aside, and counts; nobody's data.
        account: What became of every row, as `ingest.json` has it of a table.
    """

    returned: pd.DataFrame
    responses: pd.DataFrame
    withdrawn: pd.DataFrame
    unreachable: pd.DataFrame
    unplanned: pd.DataFrame
    rows: pd.DataFrame
    quarantine: pd.DataFrame
    report: dict[str, int]
    account: Mapping[str, Any]


@dataclass
class RemainingRows:
    """Rows that are left of a file, and what was set aside.

    Attributes:
        frame: The rows that are left, by their number in the file.
        read: The file.
    """

    frame: pd.DataFrame
    read: RowsRead
    faults: list[pd.DataFrame] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.add_faults(self.read.faults)

    def add_faults(self, faults: pd.DataFrame) -> None:
        """Take rows out for faults that are known, such as values that were unread."""
        if len(faults):
            self.faults.append(faults)
            self.frame = self.frame[~self.frame.index.isin(faults["row"])]

    def quarantine(self) -> pd.DataFrame:
        """Every fault: row, column, value, reason."""
        return joined(self.faults)

    def set_aside(self, wrong: pd.Series, column: str, reason: str) -> None:
        """Take rows out, once each; values that may identify are not repeated."""
        rows = self.frame.index[wrong.to_numpy(dtype=bool)]
        if len(rows):
            self.faults.append(fault_rows(wrong, column, None, reason))
            self.frame = self.frame.drop(index=rows)

    def counts(self) -> dict[str, int]:
        """Rows in, accepted and set aside.

        Raises:
            TableError: If a row is neither, or both.
        """
        n_in, n_out = self.read.rows_in, self.quarantine()["row"].nunique()
        if n_in != len(self.frame) + n_out:
            raise TableError(
                f"expected {n_in:,} rows accepted or set aside, got "
                f"{len(self.frame):,} and {n_out:,}"
            )
        return {"rows_in": n_in, "accepted": len(self.frame), "set_aside": n_out}

    def account(self) -> dict[str, Any]:
        """What became of every row, as `ingest.json` has it of a table."""
        table, faults, counts = self.read.table, self.quarantine(), self.counts()
        return {
            "rows_in": counts["rows_in"],
            "accepted": counts["accepted"],
            "quarantined": counts["set_aside"],
            "forgotten": 0,
            "not_belonging": table.not_belonging,
            "reasons": reasons_in(faults),
            "examples": examples_in(faults),
            "values_lost": table.losses.as_json(),
            "left_out": {},
            "notes": table.raw.notes,
        }

    def require_few(self, ordinary: frozenset[str]) -> None:
        """Refuse a file of which too much was set aside, or nothing is left.

        Args:
            ordinary: Reasons that are expected in ordinary life. Nothing is left of a
                file that came before, and that is no fault.

        Raises:
            TableError: With the largest reasons and an example row of each.
        """
        faults, table = self.quarantine(), self.read.table
        require_few(
            table.name, table.source, faults, rows_in=self.read.rows_in,
            ordinary=ordinary,
        )  # fmt: skip
        is_repeated = faults["reason"].isin(REPEATED).any()
        if self.frame.empty and len(faults) and not is_repeated:
            raise TableError(
                f"table {table.name}: expected rows, got none out of "
                f"{self.read.rows_in:,} in {table.source.read_from}: "
                f"{largest_in(faults)}"
            )


def read_results(
    source: TableSource,
    folders: Folders,
    plan: OfPlan,
    campaign_voters: pd.Series,
    answers: Mapping[str, Answers],
    *,
    former: Mapping[str, str],
    at: pd.Timestamp,
) -> Results:
    """Read a file of contact results.

    Args:
        source: Where it lies and how its columns and codes are called.
        folders: Folders that the prefixes of its path name.
        plan: The plan that the contacts are of.
        campaign_voters: Voter ids of the campaign.
        answers: Question → outcome and values.
        former: Former voter id → present one; all other ids given are present ones.
        at: Now: nothing can have happened later.

    Raises:
        TableError: If the file lacks a column, or too much of it would be set aside:
            rows that came before (`REPEATED`) do not count.
    """
    read = read_rows(source, CONTACT_RESULTS.name, folders)
    _require_columns(read.frame, read.table.raw.file)
    complete = _with_all_columns(read.frame)
    voter_ids = as_exported(complete["voter_id"])
    complete["voter_id"] = with_present_ids(voter_ids, former)
    rows = RemainingRows(complete, read)
    rows.set_aside(rows.frame.duplicated(KEY), "voter_id", SEVERAL)
    rows.add_faults(masked(problems(CONTACT_RESULTS, rows.frame), CONTACT_RESULTS.name))
    set_aside_strangers(rows, campaign_voters, "contacted_at", at)
    _set_aside_unread(rows, answers)
    rows.set_aside(is_among(rows.frame, plan.taken, KEY), "voter_id", READ_BEFORE)
    keys = rows.frame[KEY]
    n_unplaced = _set_aside_unplaced(rows, plan, answers)
    _require_few(rows, complete)
    results = _results(rows, plan, answers)
    results = replace(results, rows=keys.loc[rows.frame.index].reset_index(drop=True))
    unread_counts = {
        "answers_unplaced": n_unplaced,
        "unread_withdrawals": _unread_withdrawals(complete, results),
    }
    return replace(results, report=results.report | unread_counts)


def _require_few(rows: RemainingRows, complete: pd.DataFrame) -> None:
    """Refuse a file of which too much was set aside; wishes to be left alone are said.

    Raises:
        TableError: With the largest reasons, and how many rows ask for no contact.
    """
    try:
        rows.require_few(REPEATED)
    except TableError as failure:
        n_asking = int(_asks_for_no_contact(complete).sum())
        if not n_asking:
            raise
        raise TableError(
            f"{failure}. Nothing is stored, and {n_asking:,} of its rows ask for no "
            "contact: act on them by hand until the file can be read"
        ) from None


def _asks_for_no_contact(complete: pd.DataFrame) -> pd.Series:
    asks = [name for name, end in ENDS.items() if end.withdraws]
    return complete["result"].isin(asks)


def _unread_withdrawals(complete: pd.DataFrame, results: Results) -> int:
    """Rows set aside that ask for no contact any more: for a person to read."""
    repeated = results.quarantine["reason"].isin([SEVERAL, READ_BEFORE])
    out = complete.index.isin(results.quarantine.loc[~repeated, "row"])
    return int((_asks_for_no_contact(complete) & out).sum())


def _require_columns(frame: pd.DataFrame, file: str) -> None:
    """Refuse a file that says nothing of who, how, when and what.

    Raises:
        TableError: Naming the column.
    """
    needed = [n for n, c in CONTACT_RESULTS.columns.items() if c.required]
    absent = [name for name in needed if name not in frame]
    said = {"result", "question"} & set(frame)
    if absent or not said:
        raise TableError(
            f"{file}: expected a column {(absent or ['result or question'])[0]!r}, got "
            f"none; mend [export.results.table.columns] in campaign.toml"
        )
    if "question" in frame and "answer" not in frame:
        raise TableError(f"{file}: expected a column 'answer' beside 'question'")


def _with_all_columns(frame: pd.DataFrame) -> pd.DataFrame:
    missing = [c for c in ("result", "question", "answer") if c not in frame]
    nothing = pd.Series(index=frame.index, dtype="str")
    return frame.assign(**dict.fromkeys(missing, nothing))[
        list(CONTACT_RESULTS.columns)
    ]


def set_aside_strangers(
    rows: RemainingRows, campaign_voters: pd.Series, time: str, at: pd.Timestamp
) -> None:
    """Set aside rows of unknown voters, and of the future.

    Args:
        rows: With voter_id and a column of times.
        campaign_voters: Voter ids of the campaign.
        time: That column.
        at: Now.
    """
    is_known = among(rows.frame["voter_id"], campaign_voters)
    strange = pd.Series(~is_known, index=rows.frame.index)
    rows.set_aside(strange, "voter_id", "no voter of the file")
    rows.set_aside(
        rows.frame[time] > naive_utc(at), time, "expected a time that has passed"
    )


def _set_aside_unread(rows: RemainingRows, answers: Mapping[str, Answers]) -> None:
    """Set aside rows that say nothing that can be read."""
    frame = rows.frame
    silent = frame["result"].isna() & frame["question"].isna()
    rows.set_aside(silent, "result", "expected a result or a question, got neither")
    question = rows.frame["question"]
    strange = question.notna() & ~question.isin(list(answers))
    rows.set_aside(strange, "question", "expected a question that is declared")
    frame = rows.frame
    unread = frame["question"].notna() & values_of(frame, answers).isna()
    rows.set_aside(unread, "answer", "expected an answer that is declared")


def values_of(frame: pd.DataFrame, answers: Mapping[str, Answers]) -> pd.Series:
    """The value of every answer; missing where there is none or it is not declared."""
    value = pd.Series(np.nan, index=frame.index)
    for question, declared in answers.items():
        of_question = frame["question"] == question
        value = value.mask(of_question, frame["answer"].map(declared.values))
    return value.astype("float64")


def _outcomes(frame: pd.DataFrame, answers: Mapping[str, Answers]) -> pd.Series:
    return frame["question"].map({q: a.outcome for q, a in answers.items()})


def is_among(frame: pd.DataFrame, taken: pd.DataFrame, key: list[str]) -> pd.Series:
    """Whether rows have the key of one that was taken in before."""
    if taken.empty or frame.empty:
        return pd.Series(data=False, index=frame.index)
    keys, before = (
        pd.MultiIndex.from_frame(f[key].astype(object).where(f[key].notna(), ""))
        for f in (frame, taken)
    )
    return pd.Series(keys.isin(before), index=frame.index)


def _set_aside_unplaced(
    rows: RemainingRows, plan: OfPlan, answers: Mapping[str, Answers]
) -> int:
    """Set aside answers that belong to no assignment of the plan.

    A row that also says what came of a contact stays, without its answer.

    Returns:
        Answers taken out of rows that stay.
    """
    since = plan.decided.drop_duplicates("voter_id").set_index("voter_id")["decided_on"]
    n_taken_out = 0
    for reason in (UNDECIDED_VOTER, TOO_EARLY, AT_ONCE):
        frame = rows.frame
        decided_on = pd.to_datetime(frame["voter_id"].map(since))
        answered = frame["question"].notna()
        if reason == UNDECIDED_VOTER:
            wrong = answered & decided_on.isna()
        elif reason == TOO_EARLY:
            wrong = answered & (frame["contacted_at"] < decided_on)
        else:
            again = frame.assign(outcome=_outcomes(frame, answers)).duplicated(
                ["voter_id", "outcome", "contacted_at"]
            )
            wrong = answered & again
        bare = wrong & frame["result"].isna()
        n_taken_out += int((wrong & ~bare).sum())
        nothing = frame[["question", "answer"]].mask(wrong & ~bare)
        rows.frame = frame.assign(
            question=nothing["question"], answer=nothing["answer"]
        )
        rows.set_aside(bare, "answer", reason)
    return n_taken_out


# --- what accepted rows come to -------------------------------------------------------


def _results(
    rows: RemainingRows, plan: OfPlan, answers: Mapping[str, Answers]
) -> Results:
    with_result = rows.frame[rows.frame["result"].notna()]
    returned, unplanned = _matched(with_result, plan)
    closed = _closed(with_result)
    results = Results(
        returned=returned,
        responses=_responses(rows.frame, answers, plan),
        withdrawn=closed[closed["withdraws"]].drop(columns="withdraws"),
        unreachable=closed[~closed["withdraws"]].drop(columns="withdraws"),
        unplanned=unplanned,
        rows=rows.frame[KEY].reset_index(drop=True),
        quarantine=rows.quarantine(),
        report={},
        account=rows.account(),
    )
    report = {
        **rows.counts(),
        "contacts_told": len(returned),
        "delivered": int(returned["delivered"].sum()),
        "answers": len(results.responses),
        "withdrawn": len(results.withdrawn),
        "unreachable": results.unreachable["voter_id"].nunique(),
        "unplanned": len(unplanned),
        "unplanned_held_out": int(unplanned["held_out"].sum()),
    }
    return replace(results, report=report)


def _matched(
    with_result: pd.DataFrame, plan: OfPlan
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What came of planned contacts, one row each; and attempts that nobody planned.

    An attempt is of a contact if voter and channel agree and it was not made before the
    day of the plan. A contact was delivered if any attempt was; else its last stands.
    """
    planned = plan.contacts[["voter_id", "channel", "message_id", "send_on"]]
    joint = with_result.merge(planned, on=["voter_id", "channel"], how="left")
    is_planned = joint["send_on"].notna() & (joint["contacted_at"] >= joint["send_on"])
    delivers = {name: end.delivered for name, end in ENDS.items()}
    attempts = joint[is_planned].assign(
        delivered=joint.loc[is_planned, "result"].map(delivers).astype(bool),
        plan_id=plan.plan_id,
    )
    ordered = attempts.sort_values(["delivered", "contacted_at"], kind="stable")
    last = ordered.drop_duplicates(["voter_id", "channel"], keep="last")
    n = attempts.groupby(["voter_id", "channel"], observed=True).size()
    returned = last.join(n.rename("n_attempts"), on=["voter_id", "channel"])
    rest = joint[~is_planned]
    rest = rest.assign(held_out=among(rest["voter_id"], plan.held))
    return (
        returned.sort_index()[RETURNED].reset_index(drop=True),
        rest[UNPLANNED].reset_index(drop=True),
    )


def _responses(
    frame: pd.DataFrame, answers: Mapping[str, Answers], plan: OfPlan
) -> pd.DataFrame:
    answered = frame[frame["question"].notna()]
    decided = plan.decided.drop_duplicates("voter_id").set_index("voter_id")
    responses = pd.DataFrame(
        {
            "voter_id": answered["voter_id"],
            "experiment_id": answered["voter_id"].map(decided["experiment_id"]),
            "plan_id": plan.plan_id,
            "outcome": _outcomes(answered, answers).astype("str"),
            "value": values_of(answered, answers),
            "observed_at": answered["contacted_at"],
        }
    )
    return check(RESPONSES, responses.reset_index(drop=True))


def _closed(with_result: pd.DataFrame) -> pd.DataFrame:
    """Channels that are closed to somebody, since the first time that said so."""
    ends = with_result.assign(
        closed=with_result["result"].map({n: end.closes for n, end in ENDS.items()}),
        withdraws=with_result["result"].map(
            {n: end.withdraws for n, end in ENDS.items()}
        ),
    )
    rows = ends.drop(columns="channel").rename(columns={"closed": "channel"})
    each = rows.explode("channel").dropna(subset="channel")
    each = each.rename(columns={"contacted_at": "since", "result": "reason"})
    first = each.sort_values("since", kind="stable").drop_duplicates(
        ["voter_id", "channel", "withdraws"]
    )
    closed = first[[*CLOSED, "withdraws"]]
    return closed.astype({"withdraws": bool, "channel": "str"}).reset_index(drop=True)
