"""The first look at a voter file: what it places, what it names, what it never maps."""

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hustings.features.draft import (
    CampaignDraft,
    campaign_toml,
    draft_campaign,
    layouts,
    looks_special,
    suspicious_columns,
)
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


def drafted(path: Path) -> CampaignDraft:
    return draft_campaign([path], layout="")


def declared(path: Path) -> dict[str, Any]:
    return tomllib.loads(campaign_toml(drafted(path), None))


def test_every_column_of_a_made_up_file_is_told_of_exactly_once(made_up: Path) -> None:
    voters = drafted(made_up).voters
    told = [
        *(guess.theirs for guess in (*voters.columns, *voters.history)),
        *voters.contact, *voters.special, *voters.afterwards, *voters.unplaced,
        *voters.never,
    ]  # fmt: skip
    assert sorted(told) == sorted(MADE_UP.columns)


def test_columns_are_placed_by_name_and_value(made_up: Path) -> None:
    voters = drafted(made_up).voters
    assert {guess.ours: guess.theirs for guess in voters.columns} == {
        "voter_id": "Voter ID", "birth_year": "DOB", "sex": "Gender",
        "county_fips": "county_code", "postcode": "zip", "registered_on": "RegDate",
    }  # fmt: skip
    assert all(guess.reason for guess in voters.columns)
    expected = ["household_id", "cluster_id", "state", "precinct", "party"]
    assert list(voters.missing) == expected


def test_names_and_contact_details_are_never_mapped(made_up: Path) -> None:
    contact = drafted(made_up).voters.contact
    assert set(contact) == {"FirstName", "residence", "web", "CellPhone", "reach"}
    text = campaign_toml(drafted(made_up), None)
    voters = tomllib.loads(text)["tables"]["voters"]
    assert not any(column in str(voters) for column in contact)
    assert "Ann" not in text
    assert "a@b.org" not in text


def test_special_categories_are_found_by_name_and_by_value(made_up: Path) -> None:
    assert set(drafted(made_up).voters.special) == {"roots", "church_goer"}
    features = declared(made_up)["features"]
    assert features["special_categories"] == ["roots", "church_goer"]


def test_elections_get_their_day_where_the_name_gives_it_away(made_up: Path) -> None:
    voters = drafted(made_up).voters
    assert {guess.theirs: guess.ours for guess in voters.history} == {
        "G2018": "2018-11-06 general",
        "gen_20": "2020-11-03 general",
        "2016_primary": "2016-??-?? primary",
        "g_2022": "2022-11-08 general",
    }
    # letters that say how somebody voted need a person, as a day does
    asked = {guess.theirs for guess in voters.history if guess.question}
    assert asked == {"2016_primary", "g_2022"}
    assert len(declared(made_up)["tables"]["voters"]["history"]) == 2
    assert voters.unplaced == ("income",)


def test_the_drafted_mapping_reads_the_file_it_was_drafted_from(made_up: Path) -> None:
    voters = declared(made_up)["tables"]["voters"]
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
    assert declared(path)["tables"]["voters"]["encoding"] == "cp1252"


def test_a_file_that_is_absent_or_empty_is_told(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such file"):
        drafted(tmp_path / "no.csv")
    (tmp_path / "v.csv").write_text("voter_id,age\n")
    with pytest.raises(TableError, match="expected rows below a header"):
        drafted(tmp_path / "v.csv")


@pytest.mark.parametrize(
    "name",
    ["RACE", "NH_AA", "HISP", "RELIGIOUSM", "ethnicity", "health_plan", "is_catholic",
     "Ethnic_Description", "EthnicGroups_EthnicGroup1Desc", "Religions_Description",
     "CountryOfOrigin", "Languages_Description", "CountyEthnic_LALEthnicCode",
     "Voters_PlaceOfBirth", "ts_tsmart_catholic_raw_score", "ts_tsmart_gun_owner_score",
     "ts_tsmart_prochoice_score", "vb_voterbase_race", "Hispanic_Surname_Flag",
     "UnionMember", "EthnicityName", "sexual_orientation", "covid_vaccinated",
     "birth_state", "ethnic_code", "NRA_member", "disability_flag"],
)  # fmt: skip
def test_names_of_special_categories_are_recognised(name: str) -> None:
    assert looks_special(name)


@pytest.mark.parametrize(
    "name",
    ["GARDENINGM", "MED_HH_INC", "trace", "age", "party", "county_desc", "REG_DAYS",
     "credit_union", "MEDIANEDUC", "environmental_score", "drivers_lic", "embrace",
     "school_dist_desc", "FEMALEORIE", "voted_20201103_general"],
)  # fmt: skip
def test_ordinary_names_are_not_special(name: str) -> None:
    assert not looks_special(name)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["W", "B", "H", "A", "O"], "race"), (["White", "Black", "Other"], "race"),
        (["WH", "BH", "HP", "OT"], "race"), (["NL", "HL", "UN"], "race"),
        (["European", "Likely African-American", "Hispanic and Portuguese"], "race"),
        (["Catholic", "Protestant", ""], "religion"), (["Jewish", ""], "religion"),
        (["Spanish", "English"], "language"), (["EN", "ES", "ZH"], "language"),
        (["Mexico", "Cuba", "USA"], "origin"), (["gay", "straight"], "orientation"),
        (["pro-life", "pro-choice"], "opinions"), (["diabetes", "asthma"], "health"),
    ],
)  # fmt: skip
def test_values_speak_of_special_categories(values: list[str], kind: str) -> None:
    assert kind in suspicious_columns({"x7": pd.Series(values)})["x7"]


@pytest.mark.parametrize(
    "values",
    [["DEM", "REP", "UNA"], ["F", "M", "X"], ["A", "E", "P", "B"], ["Y", "N", ""],
     ["White Oak 1", "Black Creek 2", *(f"Precinct {k}" for k in range(20))],
     ["Married", "Single"], ["ACTIVE", "INACTIVE"], ["mail", "phone", "none"]],
)  # fmt: skip
def test_ordinary_values_are_not_suspicious(values: list[str]) -> None:
    assert suspicious_columns({"x7": pd.Series(values)}) == {}
    assert suspicious_columns({"x7": pd.Series([0, 1, 2])}) == {}


def test_every_shipped_layout_names_its_source_and_knows_its_own_header() -> None:
    for layout in layouts().values():
        assert layout.reference
        assert layout.of_header([*layout.header, *layout.header_any])
        assert "voter_id" in layout.columns
    unverified = {name for name, layout in layouts().items() if not layout.verified}
    assert unverified == {"pdi", "aristotle", "i360"}


@pytest.fixture
def voter_persuasion() -> Path:
    found = importlib.util.find_spec("dmba")
    if found is None or not found.submodule_search_locations:
        pytest.skip("dmba is not installed: pip install 'hustings[examples]'")
    root = Path(next(iter(found.submodule_search_locations)))
    return root / "csvFiles/Voter-Persuasion.csv.gz"


def test_the_columns_of_a_real_voter_file_are_placed(voter_persuasion: Path) -> None:
    voters = drafted(voter_persuasion).voters
    assert {guess.ours: guess.theirs for guess in voters.columns} == {
        "voter_id": "VOTER_ID", "age": "AGE", "sex": "GENDER_F",
    }  # fmt: skip
    assert {guess.theirs for guess in voters.history} == {
        "VPP_08", "VPP_12", "VPR_08", "VPR_10", "VPR_12",
        "VG_04", "VG_06", "VG_08", "VG_10", "VG_12",
    }  # fmt: skip
    assert set(voters.special) == {
        "NH_WHITE", "NH_AA", "NH_ASIAN", "NH_MULT", "HISP",
        "RELIGIOUSM", "RELIGIOUSC", "HEALTHFITN",
    }  # fmt: skip
    afterwards = set(voters.afterwards)
    assert {"MESSAGE_A", "MOVED_A", "MOVED_AD", "Partition"} <= afterwards
    # nothing that may be an answer is mapped without a person's word
    assert declared(voter_persuasion)["tables"]["voters"]["extra"]["names"] == []
