"""Exports of a page become events, each count once."""

from pathlib import Path
from typing import Any

import pandas as pd

from hustings.features.insights import CountFault, ExportFormat, read_insights

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


def events_of(path: Path) -> list[dict[str, Any]]:
    counts = read_insights(path, ExportFormat()).post_counts()
    return [{**count.event, "id": count.count_id} for count in counts]


def test_a_column_for_each_kind_and_no_sum_of_them(tmp_path):
    events = events_of(write(tmp_path, WIDE))
    counted = {(e["post_id"], e["kind"]): e["count"] for e in events}
    assert counted == {
        ("p1", "like"): 1200, ("p2", "like"): 7, ("p2", "angry"): 30,
    }  # fmt: skip
    assert events[0]["age_band"] == "18-29"
    assert events[0]["post_text"] == "Pensions"
    assert events[0]["occurred_at"] == "2016-06-01T10:00:00+00:00"


def test_rows_of_kind_and_count_by_time_and_breakdown(tmp_path):
    events = events_of(write(tmp_path, LONG))
    assert [e["count"] for e in events] == [3, 4, 5]
    # another day or breakdown is another count
    assert len({e["id"] for e in events}) == 3
    assert events == events_of(write(tmp_path, LONG))
    rows = read_insights(write(tmp_path, LONG), ExportFormat()).rows
    fault = CountFault("expected a whole number", "a text of 4 characters")
    counts = [(row.number, *row.counts) for row in rows]
    assert counts[-1] == (5, ("value", "wow", fault))


def test_rows_told_apart_by_a_breakdown_of_theirs_are_added_up(tmp_path):
    text = (
        "post_id,date,county,state,num_likes,num_angrys\n"
        "p1,2016-06-01,Washington,OH,30,x\np1,2016-06-01,Washington,PA,40,2\n"
        "p1,2016-06-01,Washington,PA,40,2\n"
    )
    events = events_of(write(tmp_path, text))
    counted = sorted((e["kind"], str(e["count"])) for e in events)
    # a row that is there twice is one
    assert counted == [("angry", "2"), ("like", "70")]


def test_parquet_is_read_as_csv_is(tmp_path):
    path = tmp_path / "export.parquet"
    frame = pd.DataFrame(
        {"status_id": ["p1"], "status_published": pd.to_datetime(["2016-06-01 10:00"]),
         "num_likes": [3]}
    )  # fmt: skip
    frame.to_parquet(path)
    (event,) = events_of(path)
    assert event["occurred_at"] == "2016-06-01T10:00:00+00:00"
    assert event["count"] == 3
