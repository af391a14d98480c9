"""Exports of a page become events, each count once."""

from pathlib import Path

import pandas as pd
import pytest

from hustings.features.insights import CountFault, ExportFormat, read_insights
from hustings.features.tables import TableError

WIDE = """Post ID,Publish time,Title,num_likes,num_angrys,num_reactions,Age group
p1,2016-06-01T10:00:00,Pensions,"1,200",0,1230,18-29
p2,2016-06-01T11:00:00,Borders,7,30,37,30-44
"""
LONG = """post_id,kind,date,value,gender
p1,love,2016-06-01,3,F
p1,love,2016-06-02,4,F
p1,love,2016-06-02,5,M
p1,wow,2016-06-02,many,M
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "export.csv"
    path.write_text(text)
    return path


def test_a_column_for_each_kind_and_no_sum_of_them(tmp_path):
    events = list(read_insights(write(tmp_path, WIDE)).events())
    counted = {(e["post_id"], e["kind"]): e["count"] for e in events}
    assert counted == {
        ("p1", "like"): 1200, ("p2", "like"): 7, ("p2", "angry"): 30,
    }  # fmt: skip
    assert events[0]["age_band"] == "18-29"
    assert events[0]["post_text"] == "Pensions"
    assert events[0]["occurred_at"] == "2016-06-01T10:00:00"


def test_rows_of_kind_and_count_by_time_and_breakdown(tmp_path):
    events = list(read_insights(write(tmp_path, LONG)).events())
    assert [e["count"] for e in events] == [3, 4, 5, "many"]
    ids = [e["event_id"] for e in events]
    # the same count is the same event, another day or breakdown another one
    assert len(set(ids)) == 4
    again = read_insights(write(tmp_path, LONG)).events()
    assert ids == [e["event_id"] for e in again]


def test_rows_told_apart_by_a_breakdown_of_theirs_are_added_up(tmp_path):
    text = (
        "post_id,date,county,state,num_likes,num_angrys\n"
        "p1,2016-06-01,Washington,OH,30,x\np1,2016-06-01,Washington,PA,40,2\n"
        "p1,2016-06-01,Washington,PA,40,2\n"
    )
    events = list(read_insights(write(tmp_path, text)).events())
    counted = sorted((e["kind"], str(e["count"])) for e in events)
    # a row that is there twice is one; what is no number is handed on
    assert counted == [("angry", "2"), ("angry", "x"), ("like", "70")]


def test_a_campaign_names_columns_that_nobody_knows(tmp_path):
    path = write(tmp_path, "beitrag,wann,daumen\np1,2016-06-01,3\n")
    with pytest.raises(TableError, match="'post_id', got beitrag, wann, daumen"):
        read_insights(path)
    named = {"post_id": "beitrag", "occurred_at": "wann"}
    (event,) = read_insights(path, columns=named, counts={"daumen": "like"}).events()
    assert (event["post_id"], event["kind"], event["count"]) == ("p1", "like", 3)
    with pytest.raises(TableError, match="'hand'"):
        read_insights(path, columns=named, counts={"hand": "like"})


def test_parquet_is_read_as_csv_is(tmp_path):
    path = tmp_path / "export.parquet"
    frame = pd.DataFrame(
        {"status_id": ["p1"], "status_published": pd.to_datetime(["2016-06-01 10:00"]),
         "num_likes": [3]}
    )  # fmt: skip
    frame.to_parquet(path)
    (event,) = read_insights(path).events()
    assert event["occurred_at"] == "2016-06-01T10:00:00"
    assert event["count"] == 3
