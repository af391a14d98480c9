"""Snapshots and diffs on two files whose changes are planted one by one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest

from hustings.features.atomic import write_parquet
from hustings.features.persons import snapshot
from hustings.features.persons.snapshot import (
    SnapshotDiff,
    diff_text,
    find,
    listed,
    rows_text,
)

N = 60


def voters() -> pd.DataFrame:
    """Sixty people like nobody else, thirty in each of two counties."""
    i = range(N)
    return pd.DataFrame(
        {
            "voter_id": [f"V{k:03d}" for k in i],
            "household_id": [f"H{k // 2:03d}" for k in i],
            "birth_year": [1940.0 + k for k in i],
            "sex": ["F" if k % 2 else "M" for k in i],
            "county_fips": ["26001" if k < N // 2 else "26003" for k in i],
            "registered_on": pd.to_datetime(["1990-01-01"] * N)
            + pd.to_timedelta([37 * k for k in i], unit="D"),
            "party": ["D" if k % 3 else None for k in i],
            "voted_20241105_general": [float(k % 2) for k in i],
        }
    )


def take(folder: Path, table: pd.DataFrame, *, observed_on: str) -> snapshot.Snapshot:
    """A snapshot of a table, which lies under another name elsewhere."""
    with TemporaryDirectory(dir=folder) as aside:
        path = Path(aside) / "voters.parquet"
        table.to_parquet(path, index=False, row_group_size=17)
        return snapshot.take(folder, path, observed_on=observed_on)


def diff(
    old: pd.DataFrame, new: pd.DataFrame, former: Mapping[str, str] | None = None
) -> tuple[SnapshotDiff, pd.DataFrame, list[str]]:
    """The diff of two tables, its rows and their lines."""
    with TemporaryDirectory() as aside:
        folder = Path(aside)
        paths = folder / "old.parquet", folder / "new.parquet"
        for table, path in zip((old, new), paths, strict=True):
            table.to_parquet(path, index=False)
        rows = folder / "rows.parquet"
        changes = snapshot.diff(*paths, former or {}, folder=folder, rows=rows)
        return changes, pd.read_parquet(rows), list(rows_text(rows))


def renamed_ids(old: pd.DataFrame, new: pd.DataFrame) -> dict[str, str]:
    with TemporaryDirectory() as aside:
        paths = Path(aside) / "old.parquet", Path(aside) / "new.parquet"
        for table, path in zip((old, new), paths, strict=True):
            table.to_parquet(path, index=False)
        return snapshot.renamed_ids(*paths)


def changed(table: pd.DataFrame, who: str, /, **values: object) -> pd.DataFrame:
    found = table.copy()
    for column, value in values.items():
        found.loc[table["voter_id"] == who, column] = value
    return found


def next_week() -> pd.DataFrame:
    """One voter of every kind of change, and two new ones."""
    found = voters()
    found = found[found["voter_id"] != "V000"]
    found = changed(found, "V001", household_id="H999", county_fips="26003")
    found = changed(found, "V002", party="R")
    found = changed(found, "V005", party=None)
    found = changed(found, "V004", voter_id="W004")
    new = voters().head(2).assign(voter_id=["N000", "N001"], birth_year=2008.0)
    return pd.concat([found, new], ignore_index=True)


def test_a_diff_names_every_change_that_was_made_and_no_other() -> None:
    found, rows, lines = diff(voters(), next_week(), {"V004": "W004"})
    assert list(rows["voter_id"]) == [
        "N000", "N001", "V000", "V001", "W004", "V002", "V005",
    ]  # fmt: skip
    assert lines[3:5] == [
        "moved    V001: household_id, county_fips", "merged   W004 (was V004)",
    ]  # fmt: skip
    rows = rows.set_index("voter_id")
    assert rows["kind"].to_dict() == {
        "N000": "new", "N001": "new", "V000": "gone", "V001": "moved",
        "W004": "merged", "V002": "changed", "V005": "changed",
    }  # fmt: skip
    assert rows.loc["V001", "columns"] == "household_id, county_fips"
    assert rows.loc["W004", "was"] == "V004"
    assert (found.n_old, found.n_new) == (N, N + 1)
    counts = {"new": 2, "gone": 1, "moved": 1, "merged": 1, "changed": 2}
    assert found.counts() == counts


def test_a_voter_merged_into_another_is_compared_with_both() -> None:
    merged = changed(voters(), "V002", party="R")
    merged = merged[merged["voter_id"] != "V001"]
    _, rows, _ = diff(voters(), merged, {"V001": "V002", "V009": "V002", "X": "V002"})
    assert sorted(rows[["kind", "columns"]].itertuples(index=False, name=None)) == [
        ("changed", "birth_year, sex, registered_on, party, voted_20241105_general"),
        ("changed", "party"), ("merged", ""), ("moved", "household_id"),
    ]  # fmt: skip
    assert set(rows["voter_id"]) == {"V002"}


def test_a_diff_is_empty_between_a_file_and_itself_in_another_order() -> None:
    _, rows, _ = diff(voters(), voters().iloc[::-1])
    assert rows.empty


def test_a_column_that_came_is_told_and_is_no_change_of_anybody() -> None:
    found, rows, _ = diff(voters(), voters().assign(voted_20260804_primary=1.0))
    assert found.columns_new == ("voted_20260804_primary",)
    assert rows.empty


def test_a_diff_is_read_by_county_and_tells_no_count_of_few_people() -> None:
    moved = voters()
    moved.loc[moved.index[:25], "household_id"] = "H998"
    moved.loc[moved.index[-3:], "party"] = "X"
    changes, _, lines = diff(voters(), moved)
    text = diff_text(changes, "old", "new")
    assert "moved           25" in text
    (first,) = (line for line in text.splitlines() if line.strip().startswith("26001"))
    assert first.split() == ["26001", "0", "0", "25", "0", "0"]
    (second,) = (line for line in text.splitlines() if line.strip().startswith("26003"))
    assert second.split() == ["26003", "0", "0", "0", "0", "<20"]
    assert "V000" not in text
    assert lines[0] == "moved    V000: household_id"


def test_a_voter_with_another_id_is_found_by_exact_keys() -> None:
    assert renamed_ids(voters(), next_week()) == {"V004": "W004"}


@pytest.mark.parametrize(
    "doubtful",
    [
        {"birth_year": 1999.0},
        {"sex": "U"},
        {"county_fips": "26099"},
        {"registered_on": pd.Timestamp("2001-01-01")},
        {"registered_on": pd.NaT},
        {"voted_20241105_general": 1.0},
    ],
)
def test_no_id_is_taken_for_another_where_an_exact_key_differs(
    doubtful: dict[str, object],
) -> None:
    assert renamed_ids(voters(), changed(next_week(), "W004", **doubtful)) == {}


def test_no_id_is_taken_for_another_where_a_third_person_is_alike() -> None:
    twin = voters()[voters()["voter_id"] == "V004"].assign(voter_id="T004")
    both = pd.concat([next_week(), twin], ignore_index=True)
    assert renamed_ids(voters(), both) == {}


def test_no_id_is_taken_for_another_without_the_day_of_registration() -> None:
    without = next_week().drop(columns="registered_on")
    assert renamed_ids(voters(), without) == {}


def test_a_file_that_comes_again_makes_no_snapshot(tmp_path: Path) -> None:
    first = take(tmp_path, voters(), observed_on="2026-03-01")
    columns = list(voters().columns)[::-1]
    again = take(tmp_path, voters().loc[::-1, columns], observed_on="2026-03-01")
    second = take(tmp_path, next_week(), observed_on="2026-03-08")
    assert again == first
    assert [s.name for s in listed(tmp_path)] == [first.name, second.name]
    kept = pd.read_parquet(first.path)
    pd.testing.assert_frame_equal(kept, voters(), check_dtype=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: changed(table, "V007", party=None),
        lambda table: changed(table, "V007", birth_year=np.nan),
        lambda table: table.assign(party=table["party"].to_numpy()[::-1]),
        lambda table: table.rename(columns={"party": "parties"}),
        lambda table: pd.concat([table, table.tail(1)]),
    ],
)
def test_a_file_that_differs_in_anything_makes_a_snapshot(
    change: Callable[[pd.DataFrame], pd.DataFrame], tmp_path: Path
) -> None:
    first = take(tmp_path, voters(), observed_on="2026-03-01")
    second = take(tmp_path, change(voters()), observed_on="2026-03-01")
    assert (first.number, second.number) == (1, 2)
    assert first.sha256 != second.sha256


def test_equal_cells_are_equal_however_a_file_stores_them(tmp_path: Path) -> None:
    other = voters().astype(
        {"birth_year": "int16", "registered_on": "datetime64[ms]", "sex": "category"}
    )
    first = take(tmp_path, voters(), observed_on="2026-03-01")
    assert take(tmp_path, other, observed_on="2026-03-01") == first
    assert diff(voters(), other)[1].empty
    assert renamed_ids(voters(), changed(other, "V004", voter_id="W004")) == {
        "V004": "W004"
    }


def test_a_snapshot_stays_when_its_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "tables" / "voters.parquet"
    write_parquet(path, voters())
    kept = snapshot.take(tmp_path / "snapshots", path, observed_on="2026-03-01")
    assert kept.path.samefile(path)
    write_parquet(path, voters().assign(joined=1.0))
    assert list(pd.read_parquet(kept.path)) == list(voters())


def test_snapshots_are_found_by_number_day_and_name(tmp_path: Path) -> None:
    taken = [
        take(tmp_path, table, observed_on=day)
        for table, day in (
            (voters(), "2026-03-01"), (next_week(), "2026-03-08"),
            (voters().head(50), "2026-03-15"),
        )
    ]  # fmt: skip
    assert find(tmp_path, []) == (taken[1], taken[2])
    assert find(tmp_path, ["1", "2026-03-15"]) == (taken[0], taken[2])
    assert find(tmp_path, [taken[1].name, "1"]) == (taken[1], taken[0])
    with pytest.raises(FileNotFoundError, match="expected a snapshot '9'"):
        find(tmp_path, ["9", "1"])
    with pytest.raises(FileNotFoundError, match="expected two snapshots"):
        find(tmp_path / "none", [])
