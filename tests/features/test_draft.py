"""The first look at a voter file: what it places, what it names, what it never maps."""

import importlib.util
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from hustings.features.draft import draft_mapping, looks_special
from hustings.features.ingest import TableSource, map_with_faults, raw_head
from hustings.features.tables import TableError

MADE_UP = pd.DataFrame(
    {
        "Voter ID": ["0001", "0002", "0003", "0004"],
        "FirstName": ["Ann", "Bob", "Cem", "Dee"],
        "residence": ["1 Elm St", "22 Oak Ave", "3 Fir Rd", "4 Ash Ln"],
        "web": ["a@b.org", "c@d.org", "e@f.org", "g@h.org"],
        "CellPhone": ["", "555", "", ""],
        "reach": ["555-123-4567", "(555) 123 4567", "555.123.4567", "555 123 4567"],
        "DOB": ["05/17/1980", "12/31/1951", "01/01/1990", "02/03/1944"],
        "Gender": ["F", "M", "M", "U"],
        "county_code": ["1001", "26081", "6037", "36061"],
        "zip": ["02138", "48109", "94704", "10001"],
        "RegDate": ["1999-01-02", "2001-05-06", "2008-10-01", "2011-11-11"],
        "G2018": ["Y", "N", "Y", "Y"],
        "gen_20": ["1", "0", "1", "1"],
        "2016_primary": ["1", "0", "", "1"],
        "g_2022": ["A", "E", "", "P"],
        "roots": ["White", "Black", "Asian", "White"],
        "church_goer": ["1", "0", "0", "1"],
        "treatment": ["1", "0", "1", "0"],
        "income": ["10", "20", "30", "40"],
    },
    dtype="str",
)


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    path = tmp_path / "voters.csv"
    MADE_UP.to_csv(path, sep=";", index=False, encoding="cp1252")
    return path


def test_every_column_of_a_made_up_file_is_told_of_exactly_once(made_up: Path) -> None:
    draft = draft_mapping(made_up)
    told = [
        *(guess.theirs for guess in (*draft.columns, *draft.history)),
        *draft.contact, *draft.special, *draft.afterwards, *draft.unplaced,
    ]  # fmt: skip
    assert sorted(told) == sorted(MADE_UP.columns)


def test_columns_are_placed_by_name_and_value(made_up: Path) -> None:
    draft = draft_mapping(made_up)
    assert {guess.ours: guess.theirs for guess in draft.columns} == {
        "voter_id": "Voter ID", "birth_year": "DOB", "sex": "Gender",
        "county_fips": "county_code", "postcode": "zip", "registered_on": "RegDate",
    }  # fmt: skip
    assert all(guess.reason for guess in draft.columns)
    assert draft.missing == ("household_id", "cluster_id", "state", "precinct", "party")


def test_names_and_contact_details_are_never_mapped(made_up: Path) -> None:
    draft = draft_mapping(made_up)
    assert set(draft.contact) == {"FirstName", "residence", "web", "CellPhone", "reach"}
    declared = tomllib.loads(draft.toml())["tables"]["voters"]
    assert not any(column in str(declared) for column in draft.contact)
    assert "Ann" not in draft.toml()
    assert "a@b.org" not in draft.toml()


def test_special_categories_are_found_by_name_and_by_value(made_up: Path) -> None:
    draft = draft_mapping(made_up)
    assert set(draft.special) == {"roots", "church_goer"}
    declared = tomllib.loads(draft.toml())
    assert declared["features"]["special_categories"] == ["roots", "church_goer"]


def test_elections_get_their_day_where_the_name_gives_it_away(made_up: Path) -> None:
    draft = draft_mapping(made_up)
    assert {guess.theirs: guess.ours for guess in draft.history} == {
        "G2018": "2018-11-06 general",
        "gen_20": "2020-11-03 general",
        "2016_primary": "2016-??-?? primary",
    }
    # letters that say how somebody voted need a person
    assert set(draft.unplaced) == {"g_2022", "income"}


def test_the_drafted_mapping_reads_the_file_it_was_drafted_from(made_up: Path) -> None:
    draft = draft_mapping(made_up)
    voters = tomllib.loads(draft.toml())["tables"]["voters"]
    voters |= {
        "source": "s", "licence": "l", "permitted_use": "u",
        "observed_on": "2021-01-01",
    }  # fmt: skip
    source = TableSource.model_validate(voters)
    raw = raw_head(made_up, n_rows=10)
    mapped = map_with_faults(raw, source)
    assert mapped.faults.empty
    assert mapped.frame["voter_id"].tolist() == ["0001", "0002", "0003", "0004"]
    assert mapped.frame["birth_year"].tolist() == [1980, 1951, 1990, 1944]
    assert mapped.frame["county_fips"].tolist() == ["01001", "26081", "06037", "36061"]
    assert mapped.frame["voted_20181106_general"].tolist() == [1, 0, 1, 1]


def test_an_old_encoding_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_bytes("voter_id,precinct\n1,Montréal\n2,Zürich\n".encode("cp1252"))
    assert draft_mapping(path).encoding == "cp1252"


def test_a_file_that_is_absent_or_empty_is_told(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such file"):
        draft_mapping(tmp_path / "no.csv")
    (tmp_path / "v.csv").write_text("voter_id,age\n")
    with pytest.raises(TableError, match="expected rows below a header"):
        draft_mapping(tmp_path / "v.csv")


@pytest.mark.parametrize(
    "name",
    ["RACE", "NH_AA", "HISP", "RELIGIOUSM", "ethnicity", "health_plan", "is_catholic"],
)
def test_names_of_special_categories_are_recognised(name: str) -> None:
    assert looks_special(name)


@pytest.mark.parametrize("name", ["GARDENINGM", "MED_HH_INC", "trace", "age", "party"])
def test_ordinary_names_are_not_special(name: str) -> None:
    assert not looks_special(name)


@pytest.fixture
def voter_persuasion() -> Path:
    found = importlib.util.find_spec("dmba")
    if found is None or not found.submodule_search_locations:
        pytest.skip("dmba is not installed: pip install 'hustings[examples]'")
    root = Path(next(iter(found.submodule_search_locations)))
    return root / "csvFiles/Voter-Persuasion.csv.gz"


def test_the_columns_of_a_real_voter_file_are_placed(voter_persuasion: Path) -> None:
    draft = draft_mapping(voter_persuasion)
    assert {guess.ours: guess.theirs for guess in draft.columns} == {
        "voter_id": "VOTER_ID", "age": "AGE", "sex": "GENDER_F",
    }  # fmt: skip
    assert {guess.theirs for guess in draft.history} == {
        "VPP_08", "VPP_12", "VPR_08", "VPR_10", "VPR_12",
        "VG_04", "VG_06", "VG_08", "VG_10", "VG_12",
    }  # fmt: skip
    assert set(draft.special) == {
        "NH_WHITE", "NH_AA", "NH_ASIAN", "NH_MULT", "HISP",
        "RELIGIOUSM", "RELIGIOUSC", "HEALTHFITN",
    }  # fmt: skip
    assert {"MESSAGE_A", "MOVED_A", "MOVED_AD", "Partition"} <= set(draft.afterwards)
    # nothing that may be an answer is mapped without a person's word
    declared = tomllib.loads(draft.toml())["tables"]["voters"]
    assert declared["extra"]["names"] == []
