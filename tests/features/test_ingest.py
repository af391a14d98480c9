"""Ingest: what it accepts, what it sets aside and why, and what stops it."""

import gzip
import hashlib
import sqlite3
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hustings.features.ingest import (
    DataMissing,
    Ingested,
    Persons,
    TableSource,
    map_columns,
    map_with_faults,
)
from hustings.features.ingest.databases import warehouse_rows
from hustings.features.ingest.mapping import example_of
from hustings.features.ingest.reading import content_sha256
from hustings.features.tables import RAW_TABLES, TableError, check
from tests.taken import ingest_all

STATED: dict[str, Any] = {
    "source": "made up", "licence": "none", "permitted_use": "tests",
    # a row of four is a quarter of the table
    "most_quarantined": 1.0, "most_unread": 1.0,
}  # fmt: skip


def rows(*given: dict[str, Any], **more: Any) -> TableSource:
    return TableSource(rows=list(given), **STATED, **more)


def tiny(**changed: TableSource) -> dict[str, TableSource]:
    """Four voters in two households, one message against none."""
    arms = ["control", "a", "a", "control"]
    voters = [
        {"voter_id": f"v{i}", "household_id": f"h{i}", "age": 30 + i, "sex": "F"}
        for i in range(4)
    ]
    deliveries = [
        {
            "voter_id": f"v{i}",
            "experiment_id": "e",
            "message_id": arm,
            "channel": "none" if arm == "control" else "mail",
            "sent_on": date(2012, 9, 1),
            "randomised_by": "person",
        }
        for i, arm in enumerate(arms)
    ]
    responses = [
        {
            "voter_id": f"v{i}",
            "experiment_id": "e",
            "outcome": "y",
            "value": float(i % 2),
            "observed_at": date(2012, 10, 1),
        }
        for i in range(4)
    ]
    message = {"message_id": "a", "issue": "i", "text": "t", "discloses": "none"}
    half = {"experiment_id": "e", "probability": 0.5}
    return {
        "voters": rows(*voters, observed_on=date(2012, 8, 1)),
        "messages": rows(message),
        "designs": rows(
            {**half, "message_id": "control", "channel": "none"},
            {**half, "message_id": "a", "channel": "mail"},
        ),
        "deliveries": rows(*deliveries),
        "responses": rows(*responses),
        "costs": rows({"message_id": "*", "channel": "mail", "cost_usd": 0.5}),
        **changed,
    }


def changed(
    sources: dict[str, TableSource], table: str, row: int, **values: Any
) -> dict[str, TableSource]:
    """The sources with some values of one row changed."""
    given = [dict(r) for r in sources[table].rows or []]
    given[row].update(values)
    return {**sources, table: sources[table].model_copy(update={"rows": given})}


def added(
    sources: dict[str, TableSource], table: str, row: int, **values: Any
) -> dict[str, TableSource]:
    """The sources with a copy of one row at the end, some of its values changed."""
    given = [dict(r) for r in sources[table].rows or []]
    given.append({**given[row], **values})
    return {**sources, table: sources[table].model_copy(update={"rows": given})}


def taken(sources: dict[str, TableSource], folder: Path, **more: Any) -> Ingested:
    return ingest_all(
        sources, outcome="y", campaign_dir=folder, data_dir=folder, **more
    )


def reasons(found: Ingested, table: str) -> list[tuple[int, str, str]]:
    told = found.quarantine[found.quarantine["table"] == table]
    return list(told[["row", "column", "reason"]].itertuples(index=False, name=None))


# --- what is accepted -----------------------------------------------------------------


def test_own_rows_of_voters_who_left_the_file_are_dropped_and_counted(
    tmp_path: Path,
) -> None:
    delivery = {
        "experiment_id": "e", "plan_id": "day-1", "block": "day-1 b0",
        "message_id": "a", "channel": "mail", "sent_on": pd.Timestamp("2012-09-05"),
        "propensity": 0.25, "randomised_by": "person",
    }  # fmt: skip
    answer = {
        "experiment_id": "e", "plan_id": "day-1", "outcome": "y", "value": 1.0,
        "observed_at": pd.Timestamp("2012-09-06"),
    }  # fmt: skip
    arms = [("control", "none", 0.75), ("a", "mail", 0.25)]
    design = [
        {"experiment_id": "e", "block": "day-1 b0", "message_id": m, "channel": c,
         "probability": p} for m, c, p in arms
    ]  # fmt: skip
    own = {
        "designs": pd.DataFrame(design),
        "deliveries": pd.DataFrame([{"voter_id": v, **delivery} for v in ("v1", "x9")]),
        "responses": pd.DataFrame([{"voter_id": v, **answer} for v in ("v1", "x9")]),
    }

    def further(name: str, frame: pd.DataFrame) -> pd.DataFrame:
        return own.get(name, frame.iloc[:0])

    found = taken(tiny(), tmp_path, further=further)
    assert len(found.tables["deliveries"]) == 5
    assert len(found.tables["responses"]) == 5
    assert found.quarantine.empty
    left = {name: found.report[name]["left_the_file"] for name in own}
    assert left == {"designs": 0, "deliveries": 1, "responses": 1}


def test_a_clean_campaign_is_accepted_whole(tmp_path: Path) -> None:
    found = taken(tiny(), tmp_path)
    assert found.quarantine.empty
    assert {name: row["accepted"] for name, row in found.report.items()} == {
        "voters": 4, "messages": 1, "designs": 2, "deliveries": 4, "responses": 4,
        "costs": 1,
    }  # fmt: skip
    for name, frame in found.tables.items():
        pd.testing.assert_frame_equal(frame, check(RAW_TABLES[name], frame))


def test_an_optional_table_that_is_not_declared_is_absent(tmp_path: Path) -> None:
    assert "reactions" not in taken(tiny(), tmp_path).tables


def test_a_propensity_that_is_not_given_is_the_designs(tmp_path: Path) -> None:
    sources = tiny()
    uneven = changed(changed(sources, "designs", 0, probability=0.8), "designs", 1,
                     probability=0.2)  # fmt: skip
    deliveries = taken(uneven, tmp_path).tables["deliveries"]
    assert deliveries["propensity"].tolist() == [0.8, 0.2, 0.2, 0.8]


def test_the_report_states_origin_licence_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "voters.csv"
    path.write_text("voter_id,age\nv0,30\nv1,31\nv2,32\nv3,33\n")
    source = TableSource(path="voters.csv", observed_on=date(2012, 8, 1), **STATED)
    told = taken(tiny(voters=source), tmp_path).report["voters"]
    assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (told["source"], told["licence"], told["permitted_use"]) == (
        "made up", "none", "tests",
    )  # fmt: skip
    assert told["read_from"] == "voters.csv"


@pytest.mark.parametrize("key", ["source", "licence", "permitted_use"])
@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_table_that_does_not_state_its_terms_is_refused(
    key: str, value: str | None
) -> None:
    stated = {k: v for k, v in {**STATED, key: value}.items() if v is not None}
    with pytest.raises(ValidationError, match=key):
        TableSource(path="voters.csv", **stated)


# --- what goes to the quarantine ------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "values", "column", "reason"),
    [
        ("voters", {"age": 7}, "age", "younger than 16"),
        ("voters", {"voter_id": ""}, "voter_id", "expected a value, got none"),
        ("deliveries", {"sent_on": "soon"}, "sent_on", "expected a date"),
        ("deliveries", {"message_id": "b"}, "message_id", "unknown message"),
        ("deliveries", {"voter_id": "v9"}, "voter_id", "unknown voter"),
        ("deliveries", {"channel": "sms"}, "message_id", "not an arm of the designs"),
        ("deliveries", {"channel": "none"}, "channel", "expected channel 'none' for"),
        ("deliveries", {"propensity": 0.4}, "propensity", "propensity unlike"),
        ("deliveries", {"propensity": 0.0}, "propensity", "probability in (0, 1]"),
        ("deliveries", {"propensity": 1.5}, "propensity", "probability in (0, 1]"),
        ("responses", {"voter_id": "v9"}, "voter_id", "response without a delivery"),
        ("responses", {"observed_at": date(2012, 8, 31)}, "observed_at", "before"),
        ("responses", {"value": None}, "value", "expected a value, got none"),
        ("responses", {"value": 0.5}, "value", "expected 0 or 1"),
    ],
)
def test_a_bad_value_sets_its_row_aside_with_the_reason(
    tmp_path: Path, table: str, values: dict[str, Any], column: str, reason: str
) -> None:
    found = taken(changed(tiny(), table, 1, **values), tmp_path, outcome_kind="binary")
    ((row, at, told),) = reasons(found, table)
    assert (row, at) == (2, column)
    assert reason in told
    assert found.report[table]["quarantined"] == 1


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"age": 118}, "age: expected an age of at most 115"),
        ({"age": "old"}, "age: expected a number"),
        ({"age": "inf"}, "age: stands for no value"),
        ({"age": 999}, "age: stands for no value"),
        ({"sex": "X"}, "sex: expected one of F, M, U"),
        ({"household_id": 0}, "household_id: stands for no value"),
    ],
)
def test_a_bad_value_of_an_optional_column_costs_the_value_alone(
    tmp_path: Path, values: dict[str, Any], reason: str
) -> None:
    found = taken(changed(tiny(), "voters", 1, **values), tmp_path)
    (column,) = values
    assert found.quarantine.empty
    assert found.tables["voters"][column].isna().tolist() == [False, True, False, False]
    assert found.report["voters"]["values_lost"] == {
        reason: {"n": 1, "examples": [example_of(2, column, values[column])]}
    }


def test_a_column_that_is_read_wrongly_stops(tmp_path: Path) -> None:
    given = changed(tiny(), "voters", 1, age="31 years")
    strict = given["voters"].model_copy(update={"most_unread": 0.2})
    with pytest.raises(TableError, match=r"'age' could not be read in 1 of 4 rows"):
        taken({**given, "voters": strict}, tmp_path)


def test_a_row_with_two_faults_counts_once(tmp_path: Path) -> None:
    wrong = {"value": "much", "observed_at": "soon"}
    found = taken(changed(tiny(), "responses", 1, **wrong), tmp_path)
    columns = [column for _, column, _ in reasons(found, "responses")]
    assert columns == ["value", "observed_at"]
    assert found.report["responses"]["quarantined"] == 1
    assert found.report["responses"]["accepted"] == 3


def test_more_rows_set_aside_than_a_table_may_lose_stop(tmp_path: Path) -> None:
    given = changed(tiny(), "responses", 1, value="much")
    strict = given["responses"].model_copy(update={"most_quarantined": 0.02})
    with pytest.raises(TableError, match=r"1 of 4 rows .*1 × value: expected a number"):
        taken({**given, "responses": strict}, tmp_path)


def test_what_hangs_on_a_quarantined_voter_follows_it(tmp_path: Path) -> None:
    found = taken(changed(tiny(), "voters", 1, age=7), tmp_path)
    assert "unknown voter" in reasons(found, "deliveries")[0][2]
    assert reasons(found, "responses") == [
        (2, "voter_id", "response without a delivery")
    ]


def test_of_equal_rows_with_one_key_the_first_is_kept(tmp_path: Path) -> None:
    found = taken(added(tiny(), "voters", 0), tmp_path)
    ((row, column, reason),) = reasons(found, "voters")
    assert (row, column) == (5, "voter_id")
    assert "equal and the first is kept" in reason
    assert len(found.tables["voters"]) == 4


def test_of_differing_rows_with_one_key_none_is_kept(tmp_path: Path) -> None:
    found = taken(added(tiny(), "voters", 0, age=77), tmp_path)
    assert [row for row, _, _ in reasons(found, "voters")] == [1, 5]
    assert "v0" not in set(found.tables["voters"]["voter_id"])


def test_values_of_identifying_columns_are_masked(tmp_path: Path) -> None:
    born = changed(tiny(), "voters", 1, birth_year="Nineteen-Fifty")
    (lost,) = taken(born, tmp_path).report["voters"]["values_lost"].values()
    assert lost["examples"] == ["row 2: ***"]
    child = changed(tiny(), "voters", 1, birth_year=2011)
    told = taken(child, tmp_path).quarantine.iloc[0]
    assert (told["column"], told["value"]) == ("birth_year", "***")


@pytest.mark.parametrize(
    ("value", "look"),
    [
        ("Pat Rivera", "aaa aaaaaa"), ("pat@example.org", "aaa@aaaaaaa.aaa"),
        ("+1 (555) 010-9999", "+9 (999) 999-9999"), ("12 Main St", "99 aaaa aa"),
        ("n/k", "n/k"),
    ],
)  # fmt: skip
def test_what_looks_like_a_persons_is_masked_in_any_column(
    value: str, look: str, tmp_path: Path
) -> None:
    """Names, addresses and numbers that stand in a field that is declared otherwise."""
    wrong = changed(tiny(), "responses", 1, value=value)
    found = taken(wrong, tmp_path).quarantine
    assert set(found["value"]) == {look}
    assert value == look or not found.map(lambda cell: value in str(cell)).any(
        axis=None
    )


def twenty_households() -> dict[str, TableSource]:
    """Twenty-one households of two, each sent one arm."""
    sources = tiny()
    first = (sources["deliveries"].rows or [])[0]
    voters, deliveries, responses = [], [], []
    for i in range(42):
        household, arm = i // 2, ["control", "a"][i // 2 % 2]
        channel = "none" if arm == "control" else "mail"
        voters.append({"voter_id": f"v{i}", "household_id": f"h{household}"})
        deliveries.append(
            {**first, "voter_id": f"v{i}", "message_id": arm, "channel": channel,
             "randomised_by": "household"}
        )  # fmt: skip
        responses.append({**(sources["responses"].rows or [])[0], "voter_id": f"v{i}"})
    return {
        **sources,
        "voters": rows(*voters, observed_on=date(2012, 8, 1)),
        "deliveries": rows(*deliveries),
        "responses": rows(*responses),
    }


def test_a_split_household_is_set_aside_whole(tmp_path: Path) -> None:
    split = changed(
        twenty_households(), "deliveries", 1, message_id="a", channel="mail"
    )
    found = taken(split, tmp_path)
    assert [row for row, _, _ in reasons(found, "deliveries")] == [1, 2]
    assert "household split between arms" in reasons(found, "deliveries")[0][2]


def test_many_split_households_mean_that_the_declared_unit_is_wrong(
    tmp_path: Path,
) -> None:
    sources = twenty_households()
    for household in (0, 2):
        row = 2 * household
        sources = changed(sources, "deliveries", row, message_id="a", channel="mail")
    with pytest.raises(TableError, match=r"2 of 21 households got several arms"):
        taken(sources, tmp_path)


def test_a_reaction_to_a_foreign_post_needs_to_be_declared(tmp_path: Path) -> None:
    reaction = {
        "reaction_id": "r", "message_id": "post-1", "platform": "x", "kind": "like",
        "reacted_at": date(2012, 9, 2),
    }  # fmt: skip
    strict = taken(tiny(reactions=rows(reaction)), tmp_path)
    assert "unknown message" in reasons(strict, "reactions")[0][2]
    lenient = taken(tiny(reactions=rows(reaction, other_posts=True)), tmp_path)
    assert len(lenient.tables["reactions"]) == 1


def test_a_permission_withdrawn_before_it_was_granted_is_set_aside(
    tmp_path: Path,
) -> None:
    permission = {
        "voter_id": "v0", "channel": "mail", "basis": "consent",
        "granted_at": date(2012, 2, 1), "withdrawn_at": date(2012, 1, 1),
    }  # fmt: skip
    found = taken(tiny(permissions=rows(permission)), tmp_path)
    assert reasons(found, "permissions")[0][1:] == (
        "withdrawn_at", "withdrawn before it was granted",
    )  # fmt: skip


FAULTS = st.tuples(
    st.sampled_from(["voters", "deliveries", "responses"]),
    st.integers(0, 7),
    st.sampled_from(
        ["voter_id", "age", "sex", "message_id", "channel", "value", "sent_on",
         "propensity", "observed_at", "experiment_id", "outcome"]
    ),
    st.sampled_from(["", "v0", "v1", "a", "control", "none", 0, 1, -5, 0.5, 999,
                     "2012-08-01", "nan", "é", "1e400"]),
)  # fmt: skip


@settings(max_examples=15)
@given(st.lists(FAULTS, max_size=8), st.lists(st.integers(0, 3), max_size=4))
def test_rows_in_are_accepted_or_quarantined_whatever_is_wrong(
    tmp_path_factory: pytest.TempPathFactory,
    faults: list[tuple[str, int, str, Any]],
    repeated: list[int],
) -> None:
    sources = tiny()
    for row in repeated:
        sources = added(sources, "voters", row)
        sources = added(sources, "responses", row)
    for table, row, column, value in faults:
        if column in RAW_TABLES[table].columns:
            place = row % len(sources[table].rows or [])
            sources = changed(sources, table, place, **{column: value})
    n_rows = {name: len(source.rows or []) for name, source in sources.items()}
    try:
        found = taken(sources, tmp_path_factory.getbasetemp())
    except TableError:
        return  # nothing left, no control or no answer: told, not crashed
    for name, told in found.report.items():
        aside = found.quarantine[found.quarantine["table"] == name]["row"]
        assert told["rows_in"] == n_rows[name]
        assert told["accepted"] == len(found.tables[name])
        assert told["quarantined"] == aside.nunique()
        assert told["rows_in"] == told["accepted"] + told["quarantined"]


# --- what stops the run ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "row", "values", "message"),
    [
        ("designs", 1, {"probability": 0.4}, "sum to 1, got 0.9"),
        ("designs", 0, {"message_id": "a", "channel": "sms"}, "an arm 'control'"),
        ("designs", 1, {"message_id": "b"}, "sum to 1, got 0.5.*unknown message"),
        ("costs", 0, {"channel": "sms"}, "a price of message 'a' by channel 'mail'"),
        ("messages", 0, {"text": ""}, "expected rows, got none out of 1"),
    ],
)
def test_a_design_that_does_not_hold_stops_the_run(
    tmp_path: Path, table: str, row: int, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(TableError, match=message):
        taken(changed(tiny(), table, row, **values), tmp_path)


def test_an_experiment_whose_controls_never_appear_is_refused(tmp_path: Path) -> None:
    sources = tiny()
    for row in (0, 3):
        sources = changed(sources, "deliveries", row, message_id="a", channel="mail")
    with pytest.raises(TableError, match="expected controls in experiment 'e'"):
        taken(sources, tmp_path)


@pytest.mark.parametrize("day", [date(2012, 9, 1), date(2012, 9, 2)])
def test_nothing_observed_at_or_after_the_delivery_is_a_feature(
    tmp_path: Path, day: date
) -> None:
    late = tiny()["voters"].model_copy(update={"observed_on": day})
    with pytest.raises(TableError, match=r"before the first delivery, 2012-09-01"):
        taken(tiny(voters=late), tmp_path)
    name = f"voted_{day:%Y%m%d}_primary"
    voters = rows({"voter_id": "v0", name: 1}, observed_on=date(2012, 8, 1))
    sources = tiny(voters=voters)
    sources["deliveries"] = rows(*(tiny()["deliveries"].rows or [])[:1])
    sources["responses"] = rows(*(tiny()["responses"].rows or [])[:1])
    with pytest.raises(TableError, match=f"got {name}"):
        taken(sources, tmp_path)


def test_an_election_the_day_before_the_delivery_is_history(tmp_path: Path) -> None:
    voters = [{**r, "voted_20120831_primary": 1} for r in tiny()["voters"].rows or []]
    source = rows(*voters, observed_on=date(2012, 8, 31))
    found = taken(tiny(voters=source), tmp_path)
    assert found.tables["voters"]["voted_20120831_primary"].tolist() == [1, 1, 1, 1]


def test_a_missing_column_names_file_columns_and_key(tmp_path: Path) -> None:
    (tmp_path / "voters.csv").write_text("ID,AGE\nv0,30\n")
    source = TableSource(
        path="voters.csv", columns={"voter_id": "ID", "age": "AGES"}, **STATED
    ).located({"columns.age": 31})
    with pytest.raises(TableError) as failure:
        taken(tiny(voters=source), tmp_path)
    told = str(failure.value)
    assert told == (
        "voters.csv: expected a column 'AGES' (did you mean 'AGE'?), got the columns "
        "ID, AGE; mend [tables.voters] columns.age in campaign.toml, line 31"
    )


def test_a_mapping_onto_no_column_of_ours_is_refused(tmp_path: Path) -> None:
    source = rows({"voter_id": "v0", "aeg": 1}, columns={"voter_id": "voter_id",
                                                        "aeg": "aeg"})  # fmt: skip
    with pytest.raises(TableError, match=r"no column 'aeg' \(did you mean 'age'\?\)"):
        taken(tiny(voters=source), tmp_path)


def test_a_table_without_a_column_it_must_have_is_refused(tmp_path: Path) -> None:
    bare = [{k: v for k, v in r.items() if k != "channel"}
            for r in tiny()["deliveries"].rows or []]  # fmt: skip
    with pytest.raises(
        TableError, match="table deliveries: expected a column 'channel'"
    ):
        taken(tiny(deliveries=rows(*bare)), tmp_path)


def test_an_absent_file_tells_what_it_is_and_where_it_was_published(
    tmp_path: Path,
) -> None:
    source = TableSource(path="data:x/voters.parquet", published="Doe (1999), APSR 1:2",
                         observed_on=date(2012, 8, 1), **STATED)  # fmt: skip
    with pytest.raises(DataMissing, match=r"HUSTINGS_DATA.*Doe \(1999\), APSR 1:2"):
        taken(tiny(voters=source), tmp_path)
    absent = source.model_copy(update={"path": "package:no_such_package/voters.csv"})
    with pytest.raises(DataMissing, match=r"pip install 'hustings\[examples\]'"):
        taken(tiny(voters=absent), tmp_path)


# --- files ----------------------------------------------------------------------------


def as_read(path: Path, **declared: Any) -> Ingested:
    source = TableSource(
        path=str(path), observed_on=date(2012, 8, 1), **STATED, **declared
    )
    return taken(tiny(voters=source), path.parent)


def test_a_csv_keeps_leading_zeros_and_reads_any_quoting(tmp_path: Path) -> None:
    path = tmp_path / "v.csv.gz"
    text = (
        '\ufeffvoter_id,county_fips,precinct\n"v0",01001,"a, ""b""\nc"\nv1, 01003 ,\n'
    )
    path.write_bytes(gzip.compress((text + "v2,06037,d\nv3,,e\n").encode()))
    voters = as_read(path).tables["voters"]
    assert voters["county_fips"].fillna("-").tolist() == [
        "01001",
        "01003",
        "06037",
        "-",
    ]
    assert voters["precinct"].fillna("-").tolist() == ['a, "b"\nc', "-", "d", "e"]


def test_a_csv_row_with_a_field_too_many_is_set_aside_with_its_number(
    tmp_path: Path,
) -> None:
    path = tmp_path / "v.csv"
    path.write_text("voter_id,age\nv0,30\nv1,31,x\nv2,32\nv3,33\n")
    found = as_read(path)
    assert reasons(found, "voters") == [(2, "(row)", "expected 2 fields, got 3")]
    assert found.report["voters"]["rows_in"] == 4
    assert found.tables["voters"]["voter_id"].tolist() == ["v0", "v2", "v3"]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "txt"])
def test_a_wrong_encoding_is_told_with_file_line_and_byte(
    tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"v.{ending}"
    data = b"voter_id,precinct\nv0,a\nv1,Montr\xe9al\nv2,b\nv3,c\n"
    path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    fixed = {"voter_id": (1, 2), "precinct": (4, 12)} if ending == "txt" else None
    with pytest.raises(TableError, match=r"line 3: expected utf-8.*0xE9"):
        as_read(path, fixed=fixed)
    found = as_read(path, fixed=fixed, encoding="cp1252")
    assert "Montréal" in set(found.tables["voters"]["precinct"])


def test_a_fixed_width_file_is_read_by_its_layout(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_bytes("v0 030Aß\r\nv1 031B\r\nv2 0xxC\r\nv3 033D\r\n".encode("latin-1"))
    layout = {"voter_id": (1, 2), "age": (4, 6), "precinct": (7, 8)}
    found = as_read(path, fixed=layout, encoding="latin-1")
    assert found.tables["voters"]["age"].fillna(-1).tolist() == [30, 31, -1, 33]
    assert found.tables["voters"]["precinct"].tolist() == ["Aß", "B", "C", "D"]
    assert list(found.report["voters"]["values_lost"]) == ["age: expected a number"]


def test_a_filter_keeps_the_rows_that_belong_and_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text("voter_id,age,kind\nx,1,0\nv0,30,1\nv1,31,1\nv2,9,1\nv3,33,1\n")
    found = as_read(path, where={"column": "kind", "equals": 1})
    assert found.report["voters"]["rows_in"] == 4
    assert found.report["voters"]["not_belonging"] == 1
    assert [row for row, _, _ in reasons(found, "voters")] == [4]
    others = as_read(path, where={"column": "kind", "not_equals": "0"})
    several = as_read(path, where={"column": "kind", "in": [1, 2]})
    assert len(others.tables["voters"]) == len(several.tables["voters"]) == 3


def test_parquet_ids_read_like_the_same_ids_as_text(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    frame = pd.DataFrame({"id": [7, 8, 9], "hh": [1.0, np.nan, 2.0]})
    frame.to_parquet(path)
    source = TableSource(path="v.parquet", **STATED,
                         columns={"voter_id": "id", "household_id": "hh"})  # fmt: skip
    mapped = map_columns(frame, source)
    assert mapped["voter_id"].tolist() == ["7", "8", "9"]
    assert mapped["household_id"].fillna("-").tolist() == ["1", "-", "2"]


# --- the mapping ----------------------------------------------------------------------

MAPPING = TableSource(
    path="v.csv",
    observed_on=date(2012, 8, 1),
    **STATED,
    columns={
        "voter_id": "id",
        "sex": {"column": "g", "map": {"1": "F", "0": "M"}},
        "birth_year": {"column": "dob", "format": "%m/%d/%Y"},
        "registered_on": {"column": "reg", "format": "%m/%d/%Y"},
        "county_fips": {"column": "fips", "digits": 5},
        "state": {"value": "MI"},
        "party": {"column": "p", "map": {"DEM": "D"}, "default": "other"},
    },
    history={"2008-11-04 general": {"column": "g08", "map": {"Y": 1, "N": 0}}},
    extra={"names": ["x*"], "wealth": "inc"},
)
RAW = pd.DataFrame(
    {
        "id": ["1", "2"],
        "g": ["1", "0"],
        "dob": ["05/17/1980", "12/31/1951"],
        "reg": ["01/02/1999", ""],
        "fips": ["1001", "26081"],
        "p": ["DEM", "GRN"],
        "g08": ["Y", "N"],
        "x1": ["3", "4.5"],
        "x2": ["007", "12"],
        "inc": ["10", ""],
        "email": ["a@b.org", "c@d.org"],
    },
    dtype="str",
)


def test_every_kind_of_entry_maps_as_declared() -> None:
    mapped = map_columns(RAW, MAPPING)
    assert mapped.drop(columns="registered_on").to_dict("list") == {
        "voter_id": ["1", "2"], "sex": ["F", "M"], "birth_year": [1980, 1951],
        "county_fips": ["01001", "26081"], "state": ["MI", "MI"],
        "party": ["D", "other"], "voted_20081104_general": [1, 0],
        "wealth": [10, pytest.approx(np.nan, nan_ok=True)], "x1": [3, 4.5],
        "x2": ["007", "12"],
    }  # fmt: skip
    assert mapped["registered_on"].tolist() == [pd.Timestamp(1999, 1, 2), pd.NaT]


def test_a_column_that_is_not_mapped_is_never_read(tmp_path: Path) -> None:
    RAW.to_csv(tmp_path / "v.csv", index=False)
    sources = tiny(voters=MAPPING)
    for table in ("deliveries", "responses"):
        for row in range(4):
            sources = changed(sources, table, row, voter_id=str(row + 1))
    sources["deliveries"] = rows(*(sources["deliveries"].rows or [])[:2])
    sources["responses"] = rows(*(sources["responses"].rows or [])[:2])
    assert "email" not in taken(sources, tmp_path).tables["voters"]


def test_a_value_outside_the_map_is_a_fault_with_its_reason() -> None:
    told = map_with_faults(RAW.assign(g=["1", "7"]), MAPPING).faults
    assert told[["row", "column", "value"]].to_dict("list") == {
        "row": [1], "column": ["sex"], "value": ["7"],
    }  # fmt: skip
    assert told["reason"].item() == "expected one of 1, 0 (the map of g)"


def test_one_row_of_json_reads_as_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text("voter_id,code,income\nv0,1,10\nv1,x,11\nv2,3,12.5\nv3,,13\n")
    found = as_read(path, extra={"names": ["code", "income"]},
                    columns={"voter_id": "voter_id"})  # fmt: skip
    stored = found.sources["voters"].model_dump(mode="json", by_alias=True)
    request = pd.DataFrame([{"voter_id": "v0", "code": 1, "income": 10}])
    online = map_columns(request, TableSource.model_validate(stored))
    offline = found.tables["voters"].iloc[[0]]
    pd.testing.assert_frame_equal(online, offline[list(online)])
    assert found.report["voters"]["types"] == {"code": "text", "income": "number"}


def test_mapping_changes_nothing_it_was_given() -> None:
    before = RAW.copy(deep=True)
    map_columns(RAW, MAPPING)
    pd.testing.assert_frame_equal(RAW, before)


def test_a_history_value_other_than_voted_or_not_is_a_fault() -> None:
    source = rows(
        {"voter_id": "v0"}, columns={"voter_id": "id"},
        history={"2008-11-04 general": "g08"},
    )  # fmt: skip
    raw = pd.DataFrame({"id": ["1", "2", "3"], "g08": [0, 2, None]})
    told = map_with_faults(raw, source).faults
    assert told["row"].tolist() == [1]
    assert told["reason"].item() == "expected 1 (voted) or 0 (did not)"


def test_times_with_an_offset_become_utc_and_impossible_days_are_faults() -> None:
    source = rows({"voter_id": "v"}, columns={"voter_id": "id", "registered_on": "t"})
    raw = pd.DataFrame(
        {"id": list("abc"), "t": ["2012-01-01T01:00+02:00", "2012-02-30", "20120301"]}
    )
    mapped = map_with_faults(raw, source)
    assert mapped.frame["registered_on"].tolist() == [
        pd.Timestamp("2011-12-31 23:00"), pd.NaT, pd.Timestamp("2012-03-01"),
    ]  # fmt: skip
    assert mapped.faults["row"].tolist() == [1]


@pytest.mark.parametrize(
    "entry",
    [{}, {"column": "a", "value": 1}, {"column": "a", "default": 1},
     {"column": "a", "map": {"1": 2}, "default": 1, "keep": True}],
)  # fmt: skip
def test_an_entry_needs_exactly_one_origin(entry: dict[str, Any]) -> None:
    with pytest.raises(
        ValidationError, match=r"expected exactly one|need a map|only one"
    ):
        TableSource(path="v.csv", columns={"voter_id": entry}, **STATED)


@pytest.mark.parametrize("key", ["2008 general", "2008-13-04 general", "general"])
def test_an_election_needs_its_day_and_kind(key: str) -> None:
    with pytest.raises(ValidationError, match=r"election|month"):
        TableSource(path="v.csv", history={key: "g08"}, **STATED)


# --- designs that were published without probabilities --------------------------------


def test_an_estimated_design_weighs_the_arms_of_a_stratum_alike(tmp_path: Path) -> None:
    # two messages of one author, 1 and 3 people: 2 each; control 4; so 1/2, 1/4, 1/4
    arms = ["control"] * 4 + ["a"] + ["b"] * 3
    people = pd.DataFrame({"e": "e", "m": arms})
    people["c"] = np.where(people["m"] == "control", "none", "mail")
    people["author"] = np.where(people["m"] == "control", "", "x")
    people.to_parquet(tmp_path / "p.parquet")
    sources = tiny()
    sources = added(sources, "messages", 0, message_id="b")
    sources["designs"] = TableSource(
        path="p.parquet", estimate_by="author", **STATED,
        columns={"experiment_id": "e", "message_id": "m", "channel": "c"},
    )  # fmt: skip
    designs = taken(sources, tmp_path).tables["designs"]
    by_arm = dict(zip(designs["message_id"], designs["probability"], strict=True))
    assert by_arm == pytest.approx({"control": 0.5, "a": 0.25, "b": 0.25})


# --- databases ------------------------------------------------------------------------

VOTERS = pd.DataFrame(
    {
        "voter_id": ["v0", "v1", "v2", "v3"],
        "county": ["01001", None, "26081", "06037"],
        "age": [30, 31, None, 9],
        "registered": ["1999-01-02", "2001-05-06", None, "2003-01-01"],
    }
)
COLUMNS = {
    "voter_id": "voter_id",
    "county_fips": "county",
    "age": "age",
    "registered_on": "registered",
}
CREATE = (
    'CREATE TABLE people."voter file" '
    "(voter_id TEXT, county TEXT, age INTEGER, registered DATE)"
)


def inserted() -> str:
    told = VOTERS.astype(object).where(VOTERS.notna(), None)
    rows_sql = []
    for voter, county, age, day in told.itertuples(index=False):
        texts = [f"'{v}'" if v is not None else "NULL" for v in (voter, county, day)]
        years = "NULL" if age is None else str(int(age))
        rows_sql.append(f"({texts[0]}, {texts[1]}, {years}, {texts[2]})")
    return 'INSERT INTO people."voter file" VALUES ' + ", ".join(rows_sql)


def check_database(address: str, table: str, folder: Path) -> None:
    source = TableSource(database=address, table=table, columns=COLUMNS,
                         observed_on=date(2012, 8, 1), **STATED)  # fmt: skip
    found = taken(tiny(voters=source), folder)
    voters = found.tables["voters"].fillna({"county_fips": "-", "age": -1})
    assert voters["voter_id"].tolist() == ["v0", "v1", "v2"]
    assert voters["county_fips"].tolist() == ["01001", "-", "26081"]
    assert voters["age"].tolist() == [30, 31, -1]
    assert voters["registered_on"].iloc[1] == pd.Timestamp("2001-05-06")
    assert reasons(found, "voters") == [(4, "age", "younger than 16")]
    assert len(found.report["voters"]["sha256"]) == 64
    wrong = source.model_copy(update={"table": "no_such_table"})
    with pytest.raises(TableError, match="expected a table"):
        taken(tiny(voters=wrong), folder)


def test_a_table_in_duckdb_is_read(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "v.duckdb")) as connection:
        connection.execute("CREATE SCHEMA people")
        connection.execute(CREATE)
        connection.execute(inserted())
    check_database("duckdb:///v.duckdb", "people.voter file", tmp_path)
    check_database(f"duckdb:///{tmp_path}/v.duckdb", "people.voter file", Path("/"))


def test_a_table_in_sqlite_is_read(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "v.sqlite")
    connection.execute(CREATE.replace("people.", ""))
    connection.execute(inserted().replace("people.", ""))
    connection.commit()
    connection.close()
    check_database("sqlite:///v.sqlite", "voter file", tmp_path)


def test_a_database_that_is_not_there_is_told(tmp_path: Path) -> None:
    source = TableSource(database="sqlite:///no.sqlite", table="t", **STATED)
    with pytest.raises(DataMissing, match=r"sqlite:///no\.sqlite"):
        taken(tiny(voters=source), tmp_path)


@pytest.mark.parametrize(
    "address", ["me:secret@host/db", "host/db?user=me&password=secret"]
)
def test_a_password_in_an_address_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="PGPASSWORD"):
        TableSource(database=f"postgresql://{address}", table="t", **STATED)


def test_the_digest_of_a_table_does_not_hang_on_the_order_of_its_rows() -> None:
    turned = VOTERS.iloc[::-1]
    assert content_sha256(VOTERS) == content_sha256(turned)
    assert content_sha256(VOTERS) != content_sha256(VOTERS.assign(age=1))


def test_a_table_in_postgresql_is_read(postgres: str, tmp_path: Path) -> None:
    import psycopg

    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE SCHEMA people")
        connection.execute(CREATE)
        connection.execute(inserted())
    check_database(postgres, "people.voter file", tmp_path)


@pytest.mark.parametrize("dialect", ["bigquery", "snowflake", "postgres", "redshift"])
def test_a_table_of_a_warehouse_is_asked_for_exact_texts(dialect: str) -> None:
    # no warehouse can be had here: what it is asked is looked at
    import ibis
    import sqlglot

    table = ibis.table(
        {"id": "int64", "dob": "date", "score": "decimal(9, 2)", "name": "string"},
        name="voters", catalog="project", database="files",
    )  # fmt: skip
    rows = warehouse_rows(table, ["id", "dob", "score"])
    sql = str(ibis.to_sql(rows, dialect=dialect.replace("redshift", "postgres")))
    (query,) = sqlglot.parse(sql, read=dialect)
    assert query is not None
    assert [column.alias_or_name for column in query.selects] == ["id", "dob", "score"]
    texts = {"VARCHAR", "TEXT", "STRING"}
    kinds = [cast.to.sql().upper() for cast in query.find_all(sqlglot.exp.Cast)]
    assert len(kinds) == 2
    assert set(kinds) <= texts
    assert "name" not in sql.replace("voters", "")


def test_a_warehouse_without_its_driver_is_told(tmp_path: Path) -> None:
    source = TableSource(database="bigquery://project/files", table="voters", **STATED)
    with pytest.raises(DataMissing, match=r"ibis-framework\[bigquery\]"):
        taken(tiny(voters=source), tmp_path)


@pytest.mark.parametrize("day", ["13/45/2011", "unknown", "yes"])
def test_a_wish_to_be_left_alone_whose_day_cannot_be_read_still_binds(
    day: str, tmp_path: Path
) -> None:
    permission = {"voter_id": "v1", "channel": "mail", "basis": "consent",
                  "granted_at": date(2011, 5, 1), "withdrawn_at": day}  # fmt: skip
    listed = {"voter_id": "v2", "channel": "mail", "since": day}
    found = taken(
        tiny(permissions=rows(permission), do_not_contact=rows(listed)), tmp_path
    )
    assert found.quarantine.empty
    withdrawn = found.tables["permissions"]["withdrawn_at"]
    assert withdrawn.tolist() == [pd.Timestamp("2011-05-01")]
    assert found.tables["do_not_contact"]["since"].tolist() == [
        pd.Timestamp(1970, 1, 1)
    ]
    for table in ("permissions", "do_not_contact"):
        assert "they hold from the beginning" in found.report[table]["notes"][0]


def test_a_child_is_set_aside_also_where_no_day_of_the_file_is_known() -> None:
    source = TableSource(
        rows=[], columns={"voter_id": "id", "birth_year": "born"}, **STATED
    )
    raw = pd.DataFrame({"id": ["a", "b"], "born": ["2015", "1950"]})
    faults = map_with_faults(raw, source).faults
    assert faults[["row", "reason"]].to_numpy().tolist() == [[0, "younger than 16"]]


def test_decimals_keep_the_zeros_before_the_point(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "v.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE v AS SELECT (100 * (i + 1))::DECIMAL(18, 0) AS voter_id, "
            "(10 * (i + 1))::DECIMAL(9, 2) AS precinct, 30.50::DECIMAL(9, 2) AS age "
            "FROM range(3) t(i)"
        )
    source = TableSource(database="duckdb:///v.duckdb", table="v",
                         observed_on=date(2012, 8, 1), **STATED)  # fmt: skip
    sent = [
        {**r, "voter_id": f"{100 * (k % 3 + 1)}"}
        for k, r in enumerate(tiny()["deliveries"].rows or [])
    ][:3]
    answers = [
        {**r, "voter_id": f"{100 * (k % 3 + 1)}"}
        for k, r in enumerate(tiny()["responses"].rows or [])
    ][:3]
    found = taken(
        tiny(voters=source, deliveries=rows(*sent), responses=rows(*answers)), tmp_path
    )
    voters = found.tables["voters"]
    assert voters["voter_id"].tolist() == ["100", "200", "300"]
    assert voters["precinct"].tolist() == ["10", "20", "30"]
    assert voters["age"].tolist() == [30.5] * 3


# --- what others estimated ------------------------------------------------------------


def prior(**values: Any) -> dict[str, Any]:
    known = {
        "message_id": "a", "source": "vendor", "kind": "topline", "effect": 0.02,
        "se": 0.01, "transport": 0.5, "transport_sd": 0.2,
    }  # fmt: skip
    return known | values


def test_priors_of_known_messages_with_an_error_are_accepted(tmp_path: Path) -> None:
    given = rows(
        prior(), prior(message_id="elsewhere"), prior(source="b", se=0.0),
        prior(source="c", kind="rumour"),
    )  # fmt: skip
    found = taken(tiny(priors=given), tmp_path)
    assert found.tables["priors"]["source"].tolist() == ["vendor"]
    assert sorted(reasons(found, "priors")) == [
        (2, "message_id", "unknown message: expected one of the table messages"),
        (3, "se", "expected a value above 0"),
        (4, "kind", "expected one of topline, panel"),
    ]


def partner_score(**values: Any) -> dict[str, Any]:
    known = {
        "provider": "acme", "voter_id": "v0", "message_id": "a", "lift": 0.02,
        "observed_on": date(2012, 8, 31),
    }  # fmt: skip
    return known | values


def test_a_partners_lifts_count_only_where_made_before_the_first_delivery(
    tmp_path: Path,
) -> None:
    given = rows(
        partner_score(), partner_score(voter_id="nobody"),
        partner_score(voter_id="v1", observed_on=date(2012, 9, 1)),
        partner_score(voter_id="v2", provider="a b"),
    )  # fmt: skip
    found = taken(tiny(partner_scores=given), tmp_path)
    assert found.tables["partner_scores"]["voter_id"].tolist() == ["v0"]
    told = sorted(reasons(found, "partner_scores"))
    assert [row[:2] for row in told] == [
        (2, "voter_id"), (3, "observed_on"), (4, "provider"),
    ]  # fmt: skip
    assert told[1][2].startswith(
        "expected observed_on before the first delivery, 2012-09-01"
    )


def test_a_panel_keeps_the_columns_it_shares_with_the_voters(tmp_path: Path) -> None:
    answer = {
        "source": "pretest", "message_id": "a", "value": 1.0, "weight": 2.0,
        "transport": 0.5, "transport_sd": 0.2, "years": 40,
    }  # fmt: skip
    given = rows(
        {**answer, "respondent_id": "r1"},
        {**answer, "respondent_id": "r2", "message_id": "control"},
        {**answer, "respondent_id": "r3", "weight": 0.0},
        {**answer, "respondent_id": "r4", "message_id": "elsewhere"},
        extra={"age": "years"},
    )
    found = taken(tiny(panel=given), tmp_path)
    assert found.tables["panel"]["age"].tolist() == [40, 40]
    told = reasons(found, "panel")
    assert sorted(row[:2] for row in told) == [(3, "weight"), (4, "message_id")]


# --- the persons behind the ids -------------------------------------------------------


def merged(*pairs: tuple[str, str], **tables: TableSource) -> dict[str, TableSource]:
    """A campaign whose voter file says which ids became which."""
    told = [{"voter_id": old, "merged_into": new} for old, new in pairs]
    return {**tiny(**tables), "merges": rows(*told)}


def test_what_hangs_on_a_former_id_is_read_as_of_the_present_one(
    tmp_path: Path,
) -> None:
    given = changed(merged(("old2", "v2"), ("older2", "old2")), "deliveries", 2,
                    voter_id="older2")  # fmt: skip
    given = changed(given, "responses", 2, voter_id="old2")
    found = taken(given, tmp_path)
    assert found.quarantine.empty
    assert found.former == {"old2": "v2", "older2": "v2"}
    for table in ("deliveries", "responses"):
        assert list(found.tables[table]["voter_id"]) == ["v0", "v1", "v2", "v3"]


def test_without_the_merge_the_former_id_is_unknown(tmp_path: Path) -> None:
    given = changed(tiny(), "deliveries", 2, voter_id="old2")
    assert reasons(taken(given, tmp_path), "deliveries") == [
        (3, "voter_id", "unknown voter: expected one of the table voters")
    ]


def test_a_voter_under_a_former_id_alone_gets_the_present_one(tmp_path: Path) -> None:
    given = changed(merged(("v2", "w2")), "voters", 2, voter_id="v2")
    found = taken(given, tmp_path)
    assert list(found.tables["voters"]["voter_id"]) == ["v0", "v1", "w2", "v3"]
    assert list(found.tables["responses"]["voter_id"]) == ["v0", "v1", "w2", "v3"]


def test_a_merged_id_that_the_file_still_holds_is_set_aside(tmp_path: Path) -> None:
    found = taken(added(merged(("old", "v2")), "voters", 2, voter_id="old"), tmp_path)
    assert reasons(found, "voters") == [
        (5, "voter_id", "merged into another id of this file")
    ]
    assert list(found.tables["voters"]["voter_id"]) == ["v0", "v1", "v2", "v3"]


@pytest.mark.parametrize("withdrawn_under", ["old2", "v2"])
def test_a_withdrawal_under_either_id_of_a_merged_voter_holds(
    withdrawn_under: str, tmp_path: Path
) -> None:
    def permission(voter: str, channel: str) -> dict[str, Any]:
        told = {
            "voter_id": voter, "channel": channel, "basis": "consent",
            "granted_at": date(2011, 1, 1), "withdrawn_at": date(2012, 1, 1),
        }  # fmt: skip
        if voter != withdrawn_under:
            del told["withdrawn_at"]
        return told

    given = merged(("old2", "v2")) | {
        "permissions": rows(
            permission("old2", "sms"), permission("v2", "sms"),
            permission("old2", "email"), permission("v0", "sms"),
        )
    }  # fmt: skip
    found = taken(given, tmp_path)
    table = found.tables["permissions"].set_index(["voter_id", "channel"])
    assert len(table) == 3
    assert table.loc[("v2", "sms"), "withdrawn_at"] == pd.Timestamp("2012-01-01")
    told = found.report["permissions"]
    assert (told["rows_in"], told["accepted"], told["quarantined"]) == (4, 3, 1)


def test_forgotten_rows_are_counted_and_named_nowhere(tmp_path: Path) -> None:
    def is_v2(frame: pd.DataFrame) -> Any:
        if "voter_id" not in frame:
            return np.zeros(len(frame), dtype=bool)
        return (frame["voter_id"] == "v2").to_numpy()

    given = changed(tiny(), "voters", 2, age=3)
    found = taken(given, tmp_path, persons=Persons(forgotten=is_v2))
    for name in ("voters", "deliveries", "responses"):
        told = found.report[name]
        assert (told["rows_in"], told["accepted"], told["quarantined"]) == (4, 3, 0)
        assert told["forgotten"] == 1
        assert "v2" not in set(found.tables[name]["voter_id"])
    assert found.quarantine.empty
    assert "v2" not in str(found.report)


def test_the_quarantine_knows_whose_its_rows_are(tmp_path: Path) -> None:
    given = changed(tiny(), "voters", 2, age=3)
    found = taken(given, tmp_path)
    rows_of = found.quarantined_voters.itertuples(index=False, name=None)
    assert list(rows_of) == [
        ("voters", 3, "v2"), ("deliveries", 3, "v2"), ("responses", 3, "v2"),
    ]  # fmt: skip
