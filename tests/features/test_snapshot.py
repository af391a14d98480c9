"""Snapshots and diffs on two files whose changes are planted one by one."""

from pathlib import Path

import pandas as pd
import pytest

from hustings.features.persons.snapshot import (
    diff,
    diff_text,
    find,
    listed,
    renamed_ids,
    take,
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
    found = diff(voters(), next_week(), {"V004": "W004"})
    rows = found.rows.set_index("voter_id")
    assert rows["kind"].to_dict() == {
        "N000": "new", "N001": "new", "V000": "gone", "V001": "moved",
        "W004": "merged", "V002": "changed", "V005": "changed",
    }  # fmt: skip
    assert rows.loc["V001", "columns"] == "household_id, county_fips"
    assert rows.loc["W004", "was"] == "V004"
    assert (found.n_old, found.n_new) == (N, N + 1)


def test_a_diff_is_empty_between_a_file_and_itself_in_another_order() -> None:
    assert diff(voters(), voters().iloc[::-1]).rows.empty


def test_a_column_that_came_is_told_and_is_no_change_of_anybody() -> None:
    found = diff(voters(), voters().assign(voted_20260804_primary=1.0))
    assert found.columns_new == ("voted_20260804_primary",)
    assert found.rows.empty


def test_a_diff_is_read_by_county_and_tells_no_count_of_few_people() -> None:
    moved = voters()
    moved.loc[moved.index[:25], "household_id"] = "H998"
    moved.loc[moved.index[-3:], "party"] = "X"
    text = diff_text(diff(voters(), moved), "old", "new")
    assert "moved           25" in text
    (first,) = (line for line in text.splitlines() if line.strip().startswith("26001"))
    assert first.split() == ["26001", "0", "0", "25", "0", "0"]
    (second,) = (line for line in text.splitlines() if line.strip().startswith("26003"))
    assert second.split() == ["26003", "0", "0", "0", "0", "<20"]
    assert "V000" not in text
    assert "V000" in diff_text(diff(voters(), moved), "old", "new", ids=True)


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
    again = take(tmp_path, voters().iloc[::-1], observed_on="2026-03-01")
    second = take(tmp_path, next_week(), observed_on="2026-03-08")
    assert again == first
    assert [s.name for s in listed(tmp_path)] == [first.name, second.name]
    kept = pd.read_parquet(first.path)
    pd.testing.assert_frame_equal(kept, voters(), check_dtype=False)


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
