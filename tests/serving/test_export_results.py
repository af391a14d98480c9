"""Contact results come back whole: each row is accepted, or set aside with a reason."""

from pathlib import Path

import pandas as pd
import pytest

from hustings.features.ingest import Folders, TableSource
from hustings.features.tables import CONTACT_ENDS, TableError
from hustings.serving.export.formulas import without_formulas
from hustings.serving.export.results import (
    ENDS,
    KEY,
    READ_BEFORE,
    Answers,
    OfPlan,
    Results,
    read_results,
)

AT = pd.Timestamp("2026-09-12")
HEADER = "VoterID,Date,Type,Outcome,Question,Answer"
ANSWERS = {"Q1": Answers("support", {"Strong yes": 100.0, "Strong no": 0.0})}
PLAN = pd.DataFrame(
    {
        "voter_id": ["v1", "v2", "v3", "v4", "v5"],
        "channel": ["door", "door", "phone", "phone", "mail"],
        "message_id": ["jobs", "trade", "jobs", "trade", "jobs"],
        "send_on": pd.Timestamp("2026-09-08"),
    }
)
KNOWN = pd.Series([f"v{i}" for i in range(1, 10)])
DECIDED = pd.DataFrame(
    {
        "voter_id": [*PLAN["voter_id"], "v9"],
        "experiment_id": "spring",
        "decided_on": pd.Timestamp("2026-09-08"),
    }
)
"""Whom the plan decided: its contacts, and one held out."""
OF_PLAN = OfPlan(
    "p1", PLAN, DECIDED, pd.Series(["v9"]), pd.DataFrame({c: [] for c in KEY})
)


def source_of(**changed: object) -> TableSource:
    """How the system calls its columns and codes."""
    columns = {
        "voter_id": "VoterID",
        "contacted_at": "Date",
        "channel": {
            "column": "Type", "map": {"Walk": "door", "Phone": "phone", "Mail": "mail"}
        },
        "result": {
            "column": "Outcome",
            "map": {
                "Canvassed": "canvassed", "Not Home": "not_home", "Refused": "refused",
                "Wrong Number": "wrong_number", "Deceased": "deceased",
                "Moved": "moved", "Do Not Call": "do_not_contact",
            },
        },
        "question": "Question",
        "answer": "Answer",
    }  # fmt: skip
    return TableSource.model_validate(
        {
            "path": "results.csv", "source": "the field", "licence": "own",
            "permitted_use": "any", "columns": columns | changed,
            "most_quarantined": 1.0,
        }
    )  # fmt: skip


def came_back(
    folder: Path,
    *lines: str,
    source: TableSource | None = None,
    plan: OfPlan = OF_PLAN,
    former: dict[str, str] | None = None,
) -> Results:
    """What rows of a file come to."""
    (folder / "results.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    return read_results(
        source or source_of(), Folders(folder, folder), plan, KNOWN, ANSWERS,
        former=former or {}, at=AT,
    )  # fmt: skip


def test_every_end_has_a_meaning() -> None:
    assert set(ENDS) == set(CONTACT_ENDS)


def test_a_contact_is_delivered_if_any_attempt_was(tmp_path: Path) -> None:
    found = came_back(
        tmp_path,
        "v1,2026-09-08,Walk,Not Home,,",
        "v1,2026-09-09,Walk,Canvassed,,",
        "v1,2026-09-10,Walk,Not Home,,",
        "v2,2026-09-09,Walk,Not Home,,",
        "v2,2026-09-10,Walk,Refused,,",
    )
    told = found.returned.set_index("voter_id")
    assert told["delivered"].to_dict() == {"v1": True, "v2": False}
    assert told["result"].to_dict() == {"v1": "canvassed", "v2": "refused"}
    assert told["n_attempts"].to_dict() == {"v1": 3, "v2": 2}
    assert told["message_id"].to_dict() == {"v1": "jobs", "v2": "trade"}


def test_an_id_that_left_with_an_apostrophe_comes_back_as_itself(
    tmp_path: Path,
) -> None:
    (left,) = without_formulas(pd.DataFrame({"voter_id": ["-v1"]}))["voter_id"]
    assert left == "'-v1"
    line = f"{left},2026-09-09,Walk,Canvassed,,"
    found = came_back(tmp_path, line, former={"-v1": "v1"})
    assert found.returned["voter_id"].tolist() == ["v1"]


def test_answers_become_responses_of_the_assignment_and_none_removes_another(
    tmp_path: Path,
) -> None:
    found = came_back(
        tmp_path,
        "v1,2026-09-10,Walk,Canvassed,Q1,Strong yes",
        "v1,2026-09-09,Walk,Canvassed,Q1,Strong no",
        "v2,2026-09-09,Walk,,Q1,Strong no",
    )
    rows = found.responses.sort_values(["voter_id", "observed_at"])
    assert rows["voter_id"].tolist() == ["v1", "v1", "v2"]
    assert rows["value"].tolist() == [0.0, 100.0, 0.0]
    assert set(rows["outcome"]) == {"support"}
    assert set(rows["experiment_id"]) == {"spring"}
    assert set(rows["plan_id"]) == {"p1"}
    assert found.report["set_aside"] == 0


def test_an_answer_of_nobody_decided_is_set_aside_and_its_contact_stays(
    tmp_path: Path,
) -> None:
    found = came_back(
        tmp_path,
        "v9,2026-09-09,Phone,,Q1,Strong yes",  # held out: a control
        "v8,2026-09-09,Phone,,Q1,Strong yes",  # decided by nobody
        "v1,2026-09-07,Walk,,Q1,Strong yes",  # before its day
        "v2,2026-09-07,Walk,Not Home,Q1,Strong yes",
    )
    assert found.responses["voter_id"].tolist() == ["v9"]
    assert found.report["set_aside"] == 2
    assert found.report["answers_unplaced"] == 1
    assert found.report["accepted"] == 2
    assert sorted(found.account["reasons"].values()) == [1, 1]


def test_a_file_that_holds_an_earlier_one_counts_no_attempt_twice(
    tmp_path: Path,
) -> None:
    lines = ["v1,2026-09-09,Walk,Not Home,,", "v2,2026-09-09,Walk,,Q1,Strong no"]
    first = came_back(tmp_path, *lines)
    more = OfPlan(OF_PLAN.plan_id, OF_PLAN.contacts, DECIDED, OF_PLAN.held, first.rows)
    again = came_back(tmp_path, *lines, "v1,2026-09-10,Walk,Canvassed,,", plan=more)
    assert again.report["set_aside"] == 2
    assert set(again.quarantine["reason"]) == {READ_BEFORE}
    assert again.returned["n_attempts"].tolist() == [1]
    assert again.responses.empty


def test_a_voter_who_has_another_id_by_now_is_the_same_person(tmp_path: Path) -> None:
    found = came_back(
        tmp_path, "old1,2026-09-09,Walk,Canvassed,Q1,Strong yes",
        former={"old1": "v1"},
    )  # fmt: skip
    assert found.returned["voter_id"].tolist() == ["v1"]
    assert found.responses["voter_id"].tolist() == ["v1"]


def test_who_asks_not_to_be_contacted_is_told_of_for_every_channel(
    tmp_path: Path,
) -> None:
    found = came_back(
        tmp_path,
        "v3,2026-09-09,Phone,Do Not Call,,",
        "v3,2026-09-10,Phone,Do Not Call,,",
        "v1,2026-09-09,Walk,Deceased,,",
    )
    told = found.withdrawn.sort_values("voter_id").to_numpy().tolist()
    assert told == [
        ["v1", "*", pd.Timestamp("2026-09-09"), "deceased"],
        ["v3", "*", pd.Timestamp("2026-09-09"), "do_not_contact"],
    ]
    assert found.unreachable.empty


def test_a_wrong_number_or_a_move_closes_a_channel_and_withdraws_nothing(
    tmp_path: Path,
) -> None:
    found = came_back(
        tmp_path,
        "v3,2026-09-09,Phone,Wrong Number,,",
        "v1,2026-09-09,Walk,Moved,,",
    )
    assert found.withdrawn.empty
    closed = set(
        zip(found.unreachable["voter_id"], found.unreachable["channel"], strict=True)
    )
    assert closed == {("v3", "phone"), ("v3", "sms"), ("v1", "mail"), ("v1", "door")}


def test_contacts_that_nobody_planned_are_told_those_of_the_holdout_above_all(
    tmp_path: Path,
) -> None:
    found = came_back(
        tmp_path,
        "v9,2026-09-09,Walk,Canvassed,,",  # held out
        "v5,2026-09-09,Walk,Canvassed,,",  # planned by mail
        "v1,2026-09-07,Walk,Canvassed,,",  # before its day
    )
    assert found.returned.empty
    told = found.unplanned.set_index("voter_id")["held_out"]
    assert told.to_dict() == {"v9": True, "v5": False, "v1": False}
    assert found.report["unplanned_held_out"] == 1


BAD = {
    "v8x,2026-09-09,Walk,Canvassed,,": "no voter of the file",
    ",2026-09-09,Walk,Canvassed,,": "expected a value, got none",
    "v1,9 Sept,Walk,Canvassed,,": "expected a date",
    "v1,2026-09-13,Walk,Canvassed,,": "expected a time that has passed",
    "v1,2026-09-09,Fax,Canvassed,,": "expected one of Walk, Phone, Mail",
    "v1,2026-09-09,Walk,Vanished,,": "expected one of Canvassed",
    "v1,2026-09-09,Walk,,,": "expected a result or a question, got neither",
    "v1,2026-09-09,Walk,,Q2,Strong yes": "expected a question that is declared",
    "v1,2026-09-09,Walk,,Q1,Maybe": "expected an answer that is declared",
    "v2,2026-09-09,Walk,Canvassed,,": "the same attempt or answer again",
    "v1,2026-09-09": "expected 6 fields, got 2",
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_row_is_set_aside_with_its_reason(tmp_path: Path, line: str) -> None:
    found = came_back(tmp_path, "v2,2026-09-09,Walk,Canvassed,,", line)
    assert found.quarantine["row"].unique().tolist() == [2]
    assert found.quarantine["reason"].str.contains(BAD[line], regex=False).any()
    assert found.report["rows_in"] == 2
    assert (found.report["accepted"], found.report["set_aside"]) == (1, 1)
    assert len(found.returned) == 1


def test_all_bad_rows_at_once_are_counted_once_each(tmp_path: Path) -> None:
    found = came_back(tmp_path, "v2,2026-09-09,Walk,Canvassed,,", *BAD)
    assert found.report["rows_in"] == 1 + len(BAD)
    assert found.report["set_aside"] == len(BAD)
    assert found.report["accepted"] == 1


def test_an_answer_that_cannot_be_read_is_not_told(tmp_path: Path) -> None:
    unread = "v1,2026-09-09,Walk,,Q1,my phone is 650 555 1212"
    found = came_back(tmp_path, unread, "v2,2026-09-09,Walk,Canvassed,,")
    assert "555" not in found.quarantine.to_csv()


def test_a_withdrawal_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    found = came_back(
        tmp_path, "v3,9 Sept,Phone,Do Not Call,,", "v2,2026-09-09,Walk,Canvassed,,"
    )
    assert found.withdrawn.empty
    assert found.report["unread_withdrawals"] == 1


def test_a_file_without_the_columns_it_needs_is_refused(tmp_path: Path) -> None:
    lacking = source_of()
    del lacking.columns["result"]
    del lacking.columns["question"]
    with pytest.raises(TableError, match="expected a column 'result or question'"):
        came_back(tmp_path, "v1,2026-09-09,Walk,Canvassed,,", source=lacking)
