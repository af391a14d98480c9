"""What a channel says of its contacts, read back: who was reached, who answered what.

Every row of the file is accepted or set aside with a reason. Accepted rows become: what
came of each planned contact, answers as responses, who asked not to be contacted and
where somebody cannot be reached. A contact that nobody planned is told of, since it
belongs to no arm; one of somebody held out above all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd

from hustings.features.ingest.mapping import (
    TableSource,
    fault_rows,
    joined,
    map_with_faults,
    masked,
)
from hustings.features.ingest.reading import Folders, read_raw
from hustings.features.tables import (
    CONTACT_RESULTS,
    RESPONSES,
    TableError,
    check,
    problems,
)

KEY = list(CONTACT_RESULTS.unique or [])
RETURNED = ["voter_id", "message_id", "channel", "contacted_at", "result", "delivered",
            "n_attempts"]  # fmt: skip
UNPLANNED = ["voter_id", "channel", "contacted_at", "result", "held_out"]
CLOSED = ["voter_id", "channel", "since", "reason"]
SEVERAL = "the same attempt or answer again; the first is kept"
AGAIN = "answered again later; the last answer is kept"


class End(NamedTuple):
    """What an end of a contact means.

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
class Results:
    """What came back.

    Attributes:
        returned: A row per planned contact that was told of: voter_id, message_id,
            channel, contacted_at, result, delivered, n_attempts.
        responses: RESPONSES.
        withdrawn: voter_id, channel ("*" for any), since, reason: may not be contacted.
        unreachable: voter_id, channel, since, reason: has no such address any more.
        unplanned: voter_id, channel, contacted_at, result, held_out: nobody planned it.
        quarantine: row, column, value, reason.
        report: rows_in, accepted, quarantined, and counts; nobody's data.
    """

    returned: pd.DataFrame
    responses: pd.DataFrame
    withdrawn: pd.DataFrame
    unreachable: pd.DataFrame
    unplanned: pd.DataFrame
    quarantine: pd.DataFrame
    report: dict[str, int]


@dataclass
class _Sorted:
    """Rows that are left, and what was set aside."""

    frame: pd.DataFrame
    faults: list[pd.DataFrame] = field(default_factory=list)

    def add_faults(self, faults: pd.DataFrame) -> None:
        """Take rows out for faults that are known, such as values that were unread."""
        if len(faults):
            self.faults.append(faults)
            self.frame = self.frame[~self.frame.index.isin(faults["row"])]

    def quarantine(self) -> pd.DataFrame:
        """Every fault: row, column, value, reason."""
        return joined(self.faults)

    def set_aside(self, wrong: pd.Series, column: str, reason: str) -> None:
        """Take rows out, once each; values that may identify are not told."""
        rows = self.frame.index[wrong.to_numpy(dtype=bool)]
        if len(rows):
            self.faults.append(fault_rows(wrong, column, None, reason))
            self.frame = self.frame.drop(index=rows)


def read_results(
    source: TableSource,
    folders: Folders,
    plan: pd.DataFrame,
    known: pd.Series,
    held: pd.Series,
    answers: Mapping[str, Answers],
    *,
    experiment_id: str,
    at: pd.Timestamp,
) -> Results:
    """Read a file of contact results.

    Args:
        source: Where it lies and how its columns and codes are called.
        folders: What the prefixes of its path stand for.
        plan: PLAN that the contacts are of.
        known: Voter ids of the campaign.
        held: Voter ids of those held out.
        answers: Question → outcome and values.
        experiment_id: What responses are recorded under.
        at: Now: nothing can have happened later.

    Raises:
        TableError: If the file lacks a column.
    """
    raw = read_raw(source, CONTACT_RESULTS.name, folders)
    mapped = map_with_faults(raw.frame, source, CONTACT_RESULTS.name, file=raw.file)
    _require_columns(mapped.frame, raw.file)
    whole = _whole(mapped.frame)
    rows = _Sorted(whole)
    rows.add_faults(raw.broken)
    rows.add_faults(mapped.faults)
    rows.set_aside(rows.frame.duplicated(KEY), "voter_id", SEVERAL)
    rows.add_faults(masked(problems(CONTACT_RESULTS, rows.frame), CONTACT_RESULTS.name))
    _set_aside(rows, known, answers, at)
    n_in = len(raw.frame) + len(raw.broken)
    found = _results(rows, plan, held, answers, experiment_id, n_in)
    return replace(
        found, report=found.report | {"unread_withdrawals": _lost(whole, found)}
    )


def _lost(whole: pd.DataFrame, found: Results) -> int:
    """Rows set aside that ask for no contact any more: for a person to read."""
    repeated = found.quarantine["reason"] == SEVERAL
    out = whole.index.isin(found.quarantine.loc[~repeated, "row"])
    asks = [name for name, end in ENDS.items() if end.withdraws]
    return int((whole["result"].isin(asks) & out).sum())


def _require_columns(frame: pd.DataFrame, file: str) -> None:
    """Refuse a file that says nothing of who, how, when and what.

    Raises:
        TableError: Naming the column.
    """
    needed = [n for n, c in CONTACT_RESULTS.columns.items() if c.required]
    absent = [name for name in needed if name not in frame]
    some = {"result", "question"} & set(frame)
    if absent or not some:
        raise TableError(
            f"{file}: expected a column {(absent or ['result or question'])[0]!r}, got "
            f"none; mend [export.results.table.columns] in campaign.toml"
        )
    if "question" in frame and "answer" not in frame:
        raise TableError(f"{file}: expected a column 'answer' beside 'question'")


def _whole(frame: pd.DataFrame) -> pd.DataFrame:
    missing = [c for c in ("result", "question", "answer") if c not in frame]
    nothing = pd.Series(index=frame.index, dtype="str")
    return frame.assign(**dict.fromkeys(missing, nothing))[
        list(CONTACT_RESULTS.columns)
    ]


def _set_aside(
    rows: _Sorted, known: pd.Series, answers: Mapping[str, Answers], at: pd.Timestamp
) -> None:
    """Rows that are of nobody, of the future, or say nothing that can be read."""
    frame = rows.frame
    rows.set_aside(~frame["voter_id"].isin(known), "voter_id", "no voter of the file")
    now = at.tz_convert("UTC").tz_localize(None) if at.tzinfo else at
    late = rows.frame["contacted_at"] > now
    rows.set_aside(late, "contacted_at", "expected a time that has passed")
    frame = rows.frame
    silent = frame["result"].isna() & frame["question"].isna()
    rows.set_aside(silent, "result", "expected a result or a question, got neither")
    asked = rows.frame["question"]
    strange = asked.notna() & ~asked.isin(list(answers))
    rows.set_aside(strange, "question", "expected a question that is declared")
    frame = rows.frame
    unread = frame["question"].notna() & values_of(frame, answers).isna()
    rows.set_aside(unread, "answer", "expected an answer that is declared")
    _keep_last_answers(rows, answers)


def values_of(frame: pd.DataFrame, answers: Mapping[str, Answers]) -> pd.Series:
    """The value of every answer; missing where there is none or it is not declared."""
    value = pd.Series(np.nan, index=frame.index)
    for question, declared in answers.items():
        mine = frame["question"] == question
        value = value.mask(mine, frame["answer"].map(declared.values))
    return value.astype("float64")


def _outcomes(frame: pd.DataFrame, answers: Mapping[str, Answers]) -> pd.Series:
    return frame["question"].map({q: a.outcome for q, a in answers.items()})


def _keep_last_answers(rows: _Sorted, answers: Mapping[str, Answers]) -> None:
    """One answer of a voter about an outcome, which two questions may ask for."""
    asked = rows.frame[rows.frame["question"].notna()]
    ordered = asked.assign(outcome=_outcomes(asked, answers)).sort_values(
        "contacted_at", kind="stable"
    )
    again = ordered.duplicated(["voter_id", "outcome"], keep="last")
    earlier = pd.Series(rows.frame.index.isin(again.index[again]), rows.frame.index)
    rows.set_aside(earlier, "answer", AGAIN)


# --- what accepted rows come to -------------------------------------------------------


def _results(
    rows: _Sorted,
    plan: pd.DataFrame,
    held: pd.Series,
    answers: Mapping[str, Answers],
    experiment_id: str,
    n_in: int,
) -> Results:
    told = rows.frame[rows.frame["result"].notna()]
    returned, unplanned = _matched(told, plan, held)
    closed = _closed(told)
    made = Results(
        returned=returned,
        responses=_responses(rows.frame, answers, experiment_id),
        withdrawn=closed[closed["withdraws"]].drop(columns="withdraws"),
        unreachable=closed[~closed["withdraws"]].drop(columns="withdraws"),
        unplanned=unplanned,
        quarantine=rows.quarantine(),
        report={},
    )
    n_out = made.quarantine["row"].nunique()
    if n_in != len(rows.frame) + n_out:
        raise TableError(
            f"expected {n_in:,} rows accepted or set aside, got {len(rows.frame):,} "
            f"and {n_out:,}"
        )
    report = {
        "rows_in": n_in,
        "accepted": len(rows.frame),
        "quarantined": n_out,
        "contacts_told": len(returned),
        "delivered": int(returned["delivered"].sum()),
        "answers": len(made.responses),
        "withdrawn": len(made.withdrawn),
        "unreachable": len(made.unreachable),
        "unplanned": len(unplanned),
        "unplanned_held_out": int(unplanned["held_out"].sum()),
    }
    return replace(made, report=report)


def _matched(
    told: pd.DataFrame, plan: pd.DataFrame, held: pd.Series
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What came of planned contacts, one row each; and attempts that nobody planned.

    An attempt is of a contact if voter and channel agree and it was not made before the
    day of the plan. A contact was delivered if any attempt was; else its last stands.
    """
    planned = plan[["voter_id", "channel", "message_id", "send_on"]]
    both = told.merge(planned, on=["voter_id", "channel"], how="left")
    mine = both["send_on"].notna() & (both["contacted_at"] >= both["send_on"])
    delivers = {name: end.delivered for name, end in ENDS.items()}
    ours = both[mine].assign(delivered=both.loc[mine, "result"].map(delivers))
    ours["delivered"] = ours["delivered"].astype(bool)
    ordered = ours.sort_values(["delivered", "contacted_at"], kind="stable")
    last = ordered.drop_duplicates(["voter_id", "channel"], keep="last")
    n = ours.groupby(["voter_id", "channel"], observed=True).size().rename("n_attempts")
    returned = last.join(n, on=["voter_id", "channel"]).sort_index()
    others = both[~mine].assign(held_out=both.loc[~mine, "voter_id"].isin(held))
    return (
        returned[RETURNED].reset_index(drop=True),
        others[UNPLANNED].reset_index(drop=True),
    )


def _responses(
    frame: pd.DataFrame, answers: Mapping[str, Answers], experiment_id: str
) -> pd.DataFrame:
    asked = frame[frame["question"].notna()]
    found = pd.DataFrame(
        {
            "voter_id": asked["voter_id"],
            "experiment_id": experiment_id,
            "plan_id": experiment_id,
            "outcome": _outcomes(asked, answers).astype("str"),
            "value": values_of(asked, answers),
            "observed_at": asked["contacted_at"],
        }
    )
    return check(RESPONSES, found.reset_index(drop=True))


def _closed(told: pd.DataFrame) -> pd.DataFrame:
    """Channels that are closed to somebody, since the first time that said so."""
    ends = told.assign(
        closed=told["result"].map({name: end.closes for name, end in ENDS.items()}),
        withdraws=told["result"].map(
            {name: end.withdraws for name, end in ENDS.items()}
        ),
    )
    rows = ends.drop(columns="channel").rename(columns={"closed": "channel"})
    each = rows.explode("channel").dropna(subset="channel")
    each = each.rename(columns={"contacted_at": "since", "result": "reason"})
    first = each.sort_values("since", kind="stable").drop_duplicates(
        ["voter_id", "channel", "withdraws"]
    )
    kept = first[[*CLOSED, "withdraws"]].astype({"withdraws": bool, "channel": "str"})
    return kept.reset_index(drop=True)
