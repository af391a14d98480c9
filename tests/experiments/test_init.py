"""`hustings init` over the layouts that states and vendors publish; the guardrail.

All people are invented. Every file is written here, as the published records are.
"""

import csv
import json
import random
import re
import tomllib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hustings.experiments.cli import BAD_INPUT, OK, app

NAMES = ("Quillmark", "Trebbins", "Ostavar", "O'Darrow", "Avelda", "Borwin")
"""Surnames and first names of nobody: none may stand in a draft."""
N = 60


def hustings(*arguments: str | Path) -> Result:
    nowhere = {"MLFLOW_TRACKING_URI": None}
    return CliRunner().invoke(app, [str(a) for a in arguments], env=nowhere)


def write(path: Path, rows: Iterable[Sequence[object]], **how: Any) -> Path:
    """A delimited file as given: delimiter, encoding and quoting are the caller's."""
    encoding = how.pop("encoding", "utf-8")
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, **how).writerows(rows)
    return path


def table(
    columns: Mapping[str, Sequence[object] | object], n: int = N
) -> list[list[object]]:
    """A header and n rows; a column is its values, again and again, or one value."""
    listed = {
        name: values if isinstance(values, list | range) else [values]
        for name, values in columns.items()
    }
    rows = [[v[k % len(v)] for v in listed.values()] for k in range(n)]
    return [list(listed), *rows]


def drafted(*arguments: str | Path) -> dict[str, Any]:
    done = hustings("init", *arguments, "--print")
    assert done.exit_code == OK, done.output
    for name in NAMES:
        assert name not in done.output
    return tomllib.loads(done.stdout)


def placed(declared: Mapping[str, Any]) -> dict[str, str]:
    """Ours → the file's column, or the constant."""
    columns = declared["tables"]["voters"]["columns"]
    return {
        ours: given
        if isinstance(given, str)
        else given.get("column", given.get("value"))
        for ours, given in columns.items()
    }


# --- states ---------------------------------------------------------------------------

FLORIDA = [
    ["ALA", 100000000 + k, NAMES[k % 3], "", NAMES[4 + k % 2], "", "N",
     f"{k + 1} Marrow Ln", "", "OSTAVA", "FL", 32600 + k % 40, "", "", "", "", "", "",
     "", "FM"[k % 2], 5, f"0{k % 9 + 1}/1{k % 9}/19{50 + k % 40}", "05/06/2008",
     ("DEM", "REP", "NPA")[k % 3], 12, "", "12.1", "", "ACT", 3, 22, 8, 1, 2, "", "",
     "", ""]
    for k in range(N)
]  # fmt: skip


def test_florida_has_no_header_and_its_names_are_shipped(tmp_path: Path) -> None:
    path = write(tmp_path / "ALA_20260101.txt", FLORIDA, delimiter="\t")
    declared = drafted(path)
    voters = declared["tables"]["voters"]
    assert placed(declared) == {
        "voter_id": "Voter_ID", "birth_year": "Birth_Date", "sex": "Gender",
        "state": "FL", "county_fips": "County_Code",
        "precinct": "Precinct", "postcode": "Residence_Zipcode",
        "registered_on": "Registration_Date", "party": "Party_Affiliation",
    }  # fmt: skip
    assert len(voters["names"]) == 38
    assert voters["delimiter"] == "\t"
    assert voters["columns"]["county_fips"]["map"]["DAD"] == "12086"
    assert "Race" in declared["features"]["special_categories"]
    # another width is no Florida: no line of data is taken for names
    for width in (37, 5):
        short = write(tmp_path / "x.txt", [row[:width] for row in FLORIDA])
        done = hustings("init", short)
        assert done.exit_code == BAD_INPUT
        said = " ".join(done.output.split())
        assert "expected a header of column names, got a line of data" in said
        assert "names = [...]" in said
        assert "--layout florida" in said
        assert not any(name in done.output for name in NAMES)


def test_pennsylvania_new_york_and_texas_without_a_header(tmp_path: Path) -> None:
    home = [NAMES[0], NAMES[4], "", ""]
    pennsylvania = [
        [f"{k:09d}-02", "", *home[:2], "", "", "FMU"[k % 3], "02/03/1961", "10/01/1999",
         "A", "", "DR"[k % 2], k + 1, "", "MARROW LN", "", "", "OSTAVA", "PA", "16001",
         *[""] * 5, "11/03/2020", "0101", "", "01/02/2021", "", *["PN1"] * 40,
         *["AP", "D"] * 40, "", "BUTLER", ""]
        for k in range(N)
    ]  # fmt: skip
    path = write(tmp_path / "BUTLER FVE.txt", pennsylvania, delimiter="\t")
    columns = drafted(path)["tables"]["voters"]["columns"]
    assert columns["county_fips"]["map"]["BUTLER"] == "42019"
    assert columns["voter_id"] == "voter_id"
    assert columns["precinct"] == "precinct_code"
    assert columns["postcode"] == "zip"

    new_york = [
        [*home, k + 1, "", "", "", "MARROW LN", "", "OSTAVA", "14001", "", *[""] * 4,
         "19610203", "FM"[k % 2], "DEM", "", "50", 12, 3, "OSTAVA", "", 21, 57, 120,
         "20201103", "2018", "", "", "", f"C{k}", "19991001", "DMV", "N", "Y", "ACTIVE",
         "", "", "", f"NY{k:018d}", "2020 General Election"]
        for k in range(N)
    ]  # fmt: skip
    declared = drafted(write(tmp_path / "AllNYSVoters.txt", new_york))
    columns = declared["tables"]["voters"]["columns"]
    assert columns["voter_id"] == "sboeid"
    # St. Lawrence: the 50th by the alphabet, the 45th by FIPS
    assert columns["county_fips"]["map"]["50"] == "36089"
    assert columns["birth_year"]["format"] == "%Y%m%d"
    assert columns["state"] == {"value": "NY"}

    texas = [
        ["227", "101", 1100000000 + k, *home[:2], "", "", "", "FM"[k % 2], "19610203",
         k + 1, "", "", "MARROW", "LN", "", "", "", "OSTAVA", "73301", "", "", "", "",
         "", "19991001", "V", "N"]
        for k in range(N)
    ]  # fmt: skip
    declared = drafted(write(tmp_path / "tx.csv", texas))
    assert placed(declared)["voter_id"] == "VUID"
    counties = declared["tables"]["voters"]["columns"]["county_fips"]["map"]
    assert (counties["227"], counties["142"]) == ("48453", "48283")
    assert "Hispanic_Surname_Flag" in declared["features"]["special_categories"]


def test_ohio_county_numbers_and_elections_with_their_days(tmp_path: Path) -> None:
    rows = table({
        "SOS_VOTERID": [f"OH00{k:08d}" for k in range(N)], "COUNTY_NUMBER": "01",
        "COUNTY_ID": range(70000, 70000 + N), "LAST_NAME": NAMES[0],
        "FIRST_NAME": NAMES[4], "DATE_OF_BIRTH": "1961-02-03",
        "REGISTRATION_DATE": "1999-01-02", "VOTER_STATUS": "ACTIVE",
        "PARTY_AFFILIATION": ["", "D"], "RESIDENTIAL_ZIP": "45101",
        "MAILING_ZIP": "99999", "PRECINCT_CODE": "01AAA",
        "PRIMARY-03/07/2000": ["D", "", "R"], "GENERAL-11/07/2000": ["X", ""],
        "SPECIAL-05/08/2001": "",
    })  # fmt: skip
    voters = drafted(write(tmp_path / "SWVF.txt", rows))["tables"]["voters"]
    voted = {"map": {"": 0}, "default": 1}
    assert voters["history"] == {
        "2000-11-07 general": {"column": "GENERAL-11/07/2000", **voted},
        "2000-03-07 primary": {"column": "PRIMARY-03/07/2000", **voted},
        "2001-05-08 special": {"column": "SPECIAL-05/08/2001", **voted},
    }
    columns = voters["columns"]
    assert columns["county_fips"]["column"] == "COUNTY_NUMBER"
    assert columns["county_fips"]["map"]["88"] == "39175"
    assert columns["postcode"] == "RESIDENTIAL_ZIP"
    assert "COUNTY_ID" not in json.dumps(voters)


def test_north_carolina_tabs_latin_letters_and_masked_dates(tmp_path: Path) -> None:
    rows = table({
        "county_id": "1", "county_desc": "ALAMANCE",
        "voter_reg_num": [f"{k:012d}" for k in range(N)],
        "ncid": [*(f"EZ{k:06d}" for k in range(N - 1)), "EZ000000"],
        "last_name": "PEÑARQUE", "first_name": NAMES[4], "status_cd": ["A", "I"],
        "res_street_address": "984  TAMARISK ST   ", "state_cd": "NC",
        "zip_code": "28528", "mail_zipcode": "00000", "full_phone_number": "3365550000",
        "registr_dt": ["07/20/1990", "##/##/####", "07/21/1990"],
        "race_code": ["B", "W", "A"], "ethnic_code": ["HL", "NL"],
        "party_cd": ["UNA", "REP"], "gender_code": ["F", "M", "U"],
        "birth_year": range(1950, 1990), "age_at_year_end": range(30, 70),
        "birth_state": "NC", "precinct_abbrv": ["01", "03N"],
    })  # fmt: skip
    path = write(tmp_path / "ncvoter1.txt", rows, delimiter="\t", encoding="cp1252",
                 quoting=csv.QUOTE_ALL)  # fmt: skip
    done = hustings("init", path)
    declared = tomllib.loads(done.stdout)
    voters = declared["tables"]["voters"]
    assert (voters["encoding"], voters["delimiter"]) == ("cp1252", "\t")
    assert placed(declared) == {
        "voter_id": "ncid", "birth_year": "birth_year", "age": "age_at_year_end",
        "sex": "gender_code", "state": "state_cd", "county_fips": "county_id",
        "precinct": "precinct_abbrv", "postcode": "zip_code",
        "registered_on": "registr_dt", "party": "party_cd",
    }  # fmt: skip
    assert voters["columns"]["registered_on"]["missing"] == ["##/##/####"]
    special = declared["features"]["special_categories"]
    assert set(special) == {"race_code", "ethnic_code", "birth_state"}
    # one duplicate does not hide an id, and is said
    assert re.search(r'voter_id = "ncid" # .*2 of 60 rows share', done.stdout)
    assert "PEÑARQUE" not in done.output
    assert "TAMARISK" not in done.output


STATES: dict[str, tuple[Any, dict[str, str], str]] = {
    "michigan": (
        {"LAST_NAME": NAMES[0], "YEAR_OF_BIRTH": range(1950, 1990),
         "GENDER": ["F", "M"],
         "REGISTRATION_DATE": "1999-01-02", "STREET_NUMBER": range(1, 30),
         "STREET_NAME": "MARROW", "CITY": "OSTAVA", "STATE": "MI", "ZIP_CODE": "48001",
         "MAILING_ADDRESS_LINE_ONE": "", "VOTER_IDENTIFICATION_NUMBER": range(7, 999),
         "COUNTY_CODE": "74", "COUNTY_NAME": "ST. CLAIR", "JURISDICTION_CODE": "1",
         "JURISDICTION_NAME": "OSTAVA", "PRECINCT": ["1", "2"],
         "VOTER_STATUS_TYPE_CODE": "A"},
        {"voter_id": "VOTER_IDENTIFICATION_NUMBER", "birth_year": "YEAR_OF_BIRTH",
         "sex": "GENDER", "state": "STATE", "county_fips": "COUNTY_NAME",
         "precinct": "PRECINCT", "postcode": "ZIP_CODE",
         "registered_on": "REGISTRATION_DATE"},
        "26147",
    ),
    "wisconsin": (
        {"Voter Reg Number": range(7000001, 7001000), "LastName": NAMES[0],
         "Address1": "1 Marrow Ln", "MailingAddress1": "", "HouseNumber": "1",
         "StreetName": "MARROW", "ZipCode": "53001", "Jurisdiction": "CITY OF OSTAVA",
         "DistrictCombo": "1", "Ward": ["WARD 1", "WARD 2"], "County": "DANE COUNTY",
         "Voter Status": "Active", "ApplicationDate": "1/2/1999",
         "November2020": ["At Polls", "", "Absentee"], "August2018": ["", "At Polls"],
         "April2019": ["At Polls", ""]},
        {"voter_id": "Voter Reg Number", "precinct": "Ward", "postcode": "ZipCode",
         "registered_on": "ApplicationDate", "county_fips": "County", "state": "WI"},
        "55025",
    ),
    "washington": (
        {"StateVoterID": [f"WA{k:08d}" for k in range(N)], "FName": NAMES[4],
         "LName": NAMES[0], "Birthdate": "02/03/1961", "Gender": ["F", "M", "O", "X"],
         "RegStNum": "1", "RegStName": "MARROW", "RegCity": "OSTAVA", "RegState": "WA",
         "RegZipCode": "98001", "CountyCode": ["KI", "WL"], "PrecinctCode": "11",
         "MailZip": "", "Registrationdate": "01/02/1999", "LastVoted": "11/03/2020",
         "StatusCode": "Active"},
        {"voter_id": "StateVoterID", "birth_year": "Birthdate", "sex": "Gender",
         "state": "RegState", "county_fips": "CountyCode", "precinct": "PrecinctCode",
         "postcode": "RegZipCode", "registered_on": "Registrationdate"},
        "53033",
    ),
    "georgia": (
        {"County": "FULTON", "Voter Registration Number": range(1000001, 1001000),
         "Status": "Active", "Last Name": NAMES[0], "First Name": NAMES[4],
         "Birth Year": range(1950, 1990), "Residence Street Number": "1",
         "Residence City": "OSTAVA", "Residence Zipcode": "30301",
         "County Precinct": "01A", "County Precinct Description": "OSTAVA",
         "Registration Date": "01/02/1999", "Race": ["White not of Hispanic Origin"],
         "Gender": ["FEMALE", "MALE", "OTHER"], "Last Party Voted": "D",
         "Last Vote Date": "11/03/2020",
         "Mailing Zipcode": ""},
        {"voter_id": "Voter Registration Number", "birth_year": "Birth Year",
         "sex": "Gender", "state": "GA", "county_fips": "County",
         "precinct": "County Precinct", "postcode": "Residence Zipcode",
         "registered_on": "Registration Date"},
        "13121",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STATES)
def test_states_with_a_header_are_known_by_it(tmp_path: Path, name: str) -> None:
    columns, expected, county = STATES[name]
    path = write(tmp_path / "voters.csv", table(columns))
    done = hustings("init", path)
    declared = tomllib.loads(done.stdout)
    assert placed(declared) == expected
    assert f"layout {name}" in done.output
    assert not any(person in done.output for person in NAMES)
    fips = declared["tables"]["voters"]["columns"]["county_fips"]["map"]
    first = next(iter(fips.values()))
    assert county in fips.values()
    assert first[:2] == county[:2]
    if name == "wisconsin":
        assert set(declared["tables"]["voters"]["history"]) == {
            "2020-11-03 general", "2018-08-14 primary", "2019-04-02 spring",
        }  # fmt: skip
    if name == "georgia":
        # not of a person's name, and not the party of registration: for a person
        assert '#   "Last Vote Date",' in done.stdout
        assert '#   "Last Party Voted",' in done.stdout
    if name == "washington":
        mapped = declared["tables"]["voters"]["columns"]["sex"]["map"]
        assert mapped == {"F": "F", "M": "M", "O": "U", "X": "U"}
    # the same by name, and another layout is refused
    assert placed(drafted(path, "--layout", name)) == expected
    other = "ohio" if name != "ohio" else "l2"
    refused = hustings("init", path, "--layout", other)
    assert refused.exit_code == BAD_INPUT
    assert f"expected columns of the layout {other}" in " ".join(refused.output.split())


# --- vendors --------------------------------------------------------------------------

VENDORS: dict[str, tuple[Any, dict[str, str], set[str], set[str]]] = {
    "l2": (
        {"SEQUENCE": range(1, N + 1), "LALVOTERID": [f"LALMA{k}" for k in range(N)],
         "Voters_StateVoterID": range(500, 560),
         "VoterTelephones_CellPhoneFormatted": "",
         "Voters_FirstName": NAMES[4], "Residence_Addresses_AddressLine": "1 Marrow Ln",
         "Residence_Addresses_State": "MA", "Residence_Addresses_Zip": "01850",
         "Residence_Families_FamilyID": [f"R{k // 2}" for k in range(N)],
         "Mailing_Addresses_Zip": "99999",
         "Mailing_Families_FamilyID": [f"M{k // 2}" for k in range(N)],
         "Voters_Age": range(20, 80), "Voters_BirthDate": "06/20/1941",
         "Voters_Gender": ["F", "M"], "Parties_Description": ["Democratic", "Other"],
         "Religions_Description": ["Catholic", ""], "Ethnic_Description": "Italian",
         "EthnicGroups_EthnicGroup1Desc": "European", "CountryOfOrigin": "",
         "Languages_Description": "English", "Voters_OfficialRegDate": "09/23/1994",
         "Voters_FIPS": "017", "Precinct": "LOWELL 6-2", "Voters_Active": "A",
         "General_2020": ["Y", ""], "Primary_2018_09_04": ["", "Y"],
         "PresidentialPrimary_2016": ["Y", ""], "AnyElection_2019": ["", "Y"]},
        {"voter_id": "LALVOTERID", "household_id": "Residence_Families_FamilyID",
         "birth_year": "Voters_BirthDate", "age": "Voters_Age", "sex": "Voters_Gender",
         "state": "Residence_Addresses_State", "postcode": "Residence_Addresses_Zip",
         "county_fips": "Voters_FIPS", "precinct": "Precinct",
         "registered_on": "Voters_OfficialRegDate", "party": "Parties_Description"},
        {"2020-11-03 general", "2018-09-04 primary"},
        {"Religions_Description", "Ethnic_Description", "EthnicGroups_EthnicGroup1Desc",
         "CountryOfOrigin", "Languages_Description"},
    ),
    "targetsmart": (
        {"vb.voterbase_id": [f"AZ-{k}" for k in range(N)],
         "vb.voterbase_household_id": [k // 2 for k in range(N)],
         "vb.tsmart_last_name": NAMES[0], "vb.voterbase_gender": ["Male", "Female",
                                                                  "Unknown"],
         "vb.voterbase_dob": "19610203", "vb.voterbase_age": range(20, 80),
         "vb.voterbase_race": ["Caucasian", "African-American"],
         "vb.vf_source_state": "AZ", "vb.tsmart_county_code": "013",
         "vb.vf_reg_zip": "85001", "vb.voterbase_mailing_zip": "99999",
         "vb.vf_precinct_id": "12", "vb.vf_registration_date": "19991001",
         "vb.vf_party": "Democrat", "vb.vf_g2020": ["P", "E", ""],
         "vb.vf_p2020": ["", "A"], "vb.tsmart_partisan_score": range(1, 60),
         "ts.tsmart_gun_owner_score": range(1, 60)},
        {"voter_id": "vb.voterbase_id", "household_id": "vb.voterbase_household_id",
         "birth_year": "vb.voterbase_dob", "age": "vb.voterbase_age",
         "sex": "vb.voterbase_gender", "state": "vb.vf_source_state",
         "county_fips": "vb.tsmart_county_code", "postcode": "vb.vf_reg_zip",
         "precinct": "vb.vf_precinct_id", "party": "vb.vf_party",
         "registered_on": "vb.vf_registration_date"},
        {"2020-11-03 general"},
        {"vb.voterbase_race", "ts.tsmart_gun_owner_score"},
    ),
    "van": (
        {"Voter File VANID": range(5000, 5000 + N), "LastName": NAMES[0],
         "FirstName": NAMES[4], "Sex": ["M", "F", "U"], "Age": range(20, 80),
         "DOB": ["10/5/1973", "6/17/1940"], "mAddress": "27 Old Quarry Rd",
         "mState": "NC", "mZip5": "99999", "Address": "27 Old Quarry Rd",
         "Zip5": "28735", "Party": ["R", "D"], "CountyName": ["Wake", "New Hanover"],
         "PrecinctName": "01-01", "General20": ["", "E", "Y"], "G18": ["Y", ""],
         "Primary20": ["", "Y"], "Preferred Phone": "9195550101",
         "UnionMember": ["Y", ""]},
        {"voter_id": "Voter File VANID", "birth_year": "DOB", "age": "Age",
         "sex": "Sex", "state": "mState", "county_fips": "CountyName",
         "precinct": "PrecinctName", "postcode": "Zip5", "party": "Party"},
        {"2020-11-03 general", "2018-11-06 general"},
        {"UnionMember"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VENDORS)
def test_vendors_files_are_placed_by_their_headers(tmp_path: Path, name: str) -> None:
    columns, expected, elections, special = VENDORS[name]
    # Excel's "Unicode text": UTF-16 with a byte order mark, tabs
    path = write(tmp_path / "export.txt", table(columns), delimiter="\t",
                 encoding="utf-16")  # fmt: skip
    declared = drafted(path)
    assert placed(declared) == expected
    voters = declared["tables"]["voters"]
    assert (voters["encoding"], voters["delimiter"]) == ("utf-16", "\t")
    assert set(voters["history"]) == elections
    general = voters["history"]["2020-11-03 general"]
    assert general["map"] == {"": 0}
    assert general["default"] == 1
    assert set(declared["features"]["special_categories"]) == special


def test_unverified_layouts_are_called_so_in_the_draft(tmp_path: Path) -> None:
    for name, id_column in (("pdi", "PDIID"), ("aristotle", "AristotleID"),
                            ("i360", "SvID")):  # fmt: skip
        rows = table({id_column: range(900, 960), "Gender": ["F", "M"],
                      "Age": range(20, 80), "VH20G": ["Y", ""]})  # fmt: skip
        done = hustings("init", write(tmp_path / f"{name}.csv", rows))
        declared = tomllib.loads(done.stdout)
        assert "(unverified: no public layout)" in done.stdout
        assert placed(declared)["voter_id"] == id_column
        assert set(declared["tables"]["voters"]["history"]) == {"2020-11-03 general"}


# --- headers, archives, ids, sexes ----------------------------------------------------


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (["voter_id", "age", "age"], "'age' twice"), (["voter_id", "", ""], "'' twice"),
        (["voter_id", "age ", " age"], "'age' twice"),
        (["voter_id", "sex", "sex"], "'sex' twice"),
    ],
)  # fmt: skip
def test_a_name_twice_is_refused_by_its_name(
    tmp_path: Path, header: list[str], said: str
) -> None:
    rows: list[Sequence[object]] = [header, *([f"V{k}", 30 + k, 30] for k in range(9))]
    done = hustings("init", write(tmp_path / "v.csv", rows))
    assert done.exit_code == BAD_INPUT
    expected = f"expected a header of column names, got {said}"
    assert expected in " ".join(done.output.split())


def test_a_zip_archive_and_a_padded_header_are_read(tmp_path: Path) -> None:
    rows = table({"voter_id ": [f"V{k}" for k in range(N)], " age": range(20, 80),
                  " sex ": ["F", "M", "X", "O"], " g2018": [1, 0],
                  " county": "Wake County", "state": "NC"})  # fmt: skip
    inner = write(tmp_path / "voters.csv", rows)
    with zipfile.ZipFile(tmp_path / "voters.zip", "w") as archive:
        archive.write(inner, "voters.csv")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.write(inner, "voters.csv")
        archive.write(inner, "other.csv")
    for path in (inner, tmp_path / "voters.zip"):
        columns = drafted(path)["tables"]["voters"]["columns"]
        assert columns["voter_id"] == "voter_id"
        assert columns["age"] == "age"
        mapped = {"F": "F", "M": "M", "O": "U", "X": "U"}
        assert columns["sex"] == {"column": "sex", "map": mapped}
        assert columns["county_fips"]["map"]["Wake County"] == "37183"
    for suffix in (".zip", ".gz", ".parquet"):
        (tmp_path / f"bad{suffix}").write_bytes(b"voter_id,age\nV1,30\n" * 9)
        done = hustings("init", tmp_path / f"bad{suffix}")
        assert done.exit_code == BAD_INPUT
        assert "one that cannot be read" in " ".join(done.output.split())
    done = hustings("init", tmp_path / "two.zip")
    assert done.exit_code == BAD_INPUT
    assert "expected one file in the archive" in " ".join(done.output.split())


def test_a_row_number_or_a_countys_number_is_never_the_voters_id(
    tmp_path: Path,
) -> None:
    rows = table({"id": range(1, N + 1), "county_voter_id": range(90, 90 + N),
                  "": range(N), "age": range(20, 80), "sex": ["f", "m", "non-binary"],
                  "StateVoterID": [f"S{k}" for k in range(N)],
                  "county": range(10001, 10001 + N)})  # fmt: skip
    done = hustings("init", write(tmp_path / "v.csv", rows))
    columns = tomllib.loads(done.stdout)["tables"]["voters"]["columns"]
    assert columns["voter_id"] == "StateVoterID"
    assert columns["sex"]["map"]["non-binary"] == "U"
    assert "county_fips" not in columns
    assert "a row number" in done.stdout
    rows = table({"id": range(1, N + 1), "age": range(20, 80)})
    done = hustings("init", write(tmp_path / "w.csv", rows))
    assert "voter_id" not in tomllib.loads(done.stdout)["tables"]["voters"]["columns"]


def test_special_categories_by_other_names_all_stand_in_the_draft(
    tmp_path: Path,
) -> None:
    names = ["mormon", "Hindu", "Cath", "mosque_attend", "Native", "citizenship",
             "country_of_birth", "union_member", "obesity", "vaccine", "abortion_score",
             "planned_parenthood_donor", "primary_language", "hiv", "gay_rights",
             "tribal_member", "AFL_CIO", "second_amendment"]  # fmt: skip
    rows = table({"voter_id": [f"V{k}" for k in range(N)], "age": range(20, 80),
                  **{name: [0, 1] for name in names}})  # fmt: skip
    declared = drafted(write(tmp_path / "voters.csv", rows))
    assert declared["features"]["special_categories"] == names


# --- a whole campaign -----------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a small campaign as they come: other headers, other words."""
    home, rng = tmp_path_factory.mktemp("town_hall"), random.Random(5)
    n = 240
    ids = [f"V{k:05d}" for k in range(n)]
    arm = [rng.choice(["No mailer", "jobs", "schools"]) for _ in ids]
    arm = [a if a != "No mailer" else "Control" for a in arm]
    write(home / "voter file.csv", table({
        "Voter ID": ids, "HHID": [f"H{k // 2}" for k in range(n)],
        "Last Name": list(NAMES), "Sex": ["F", "M", "X"], "DOB": ["02/03/1961",
                                                                  "11/30/1988"],
        "County FIPS": ["37001", "37183"], "Zip": "27601", "Party": ["DEM", "REP"],
        "General_2020": ["Y", ""], "Primary_2022": ["", "Y"], "tint": ["W", "B", "H"],
        "income": range(20_000, 90_000, 500),
    }, n))  # fmt: skip
    write(home / "mailers.csv", table({
        "Voter ID": ids, "Treatment": arm,
        "Method": ["No" if a == "Control" else "Direct mail" for a in arm],
        "Mail Date": "02/01/2026",
    }, n))  # fmt: skip
    write(home / "survey.csv", table({
        "Voter ID": ids, "Support": [round(rng.gauss(50, 15), 1) for _ in ids],
        "Interview Date": "2026-02-15",
    }, n))  # fmt: skip
    write(home / "messages.csv", table({
        "Message": ["jobs", "schools"], "Issue": ["economy", "education"],
        "Text": ["We will bring work back to this town.",
                 "We will mend the roofs of our schools."],
        "Paid By": "Friends of the Town",
    }, 2))  # fmt: skip
    write(home / "consent.csv", table({
        "Voter ID": ids[:50], "Channel": "Email", "Basis": "consent",
        "Granted": "2025-05-01",
    }, 50))  # fmt: skip
    write(home / "prices.csv", table({"Channel": "mail", "Unit Cost": 0.5}, 1))
    write(home / "do_not_contact.csv", table({
        "Voter ID": ids[50:60], "Date": "2025-06-01",
    }, 10))  # fmt: skip
    write(home / "ncvhis.txt", table({
        "ncid": ids, "election_lbl": "11/03/2020", "voting_method": "IN-PERSON",
    }, n), delimiter="\t")  # fmt: skip
    (home / "readme.txt").write_text("from the printer\nask for Ana\n")
    return home


ANSWERS = {
    'title = ""': 'title = "Mail or none"',
    'question = ""': 'question = "Does it pay?"',
    'budget_usd = ""': "budget_usd = 300.0",
    'start_on = ""': "start_on = 2026-03-02",
    'source = ""': 'source = "the county"',
    'licence = ""': 'licence = "public record"',
    'permitted_use = ""': 'permitted_use = "campaigns"',
    'observed_on = ""': "observed_on = 2026-01-01",
    "# discloses = ": "discloses = ",
    "# { experiment_id": "{ experiment_id",
    '# "2022-??-?? primary"': '"2022-05-17 primary"',
    '#   "income",': '    "income",',
}
"""What only a person can say, and how it stands in the draft."""


def filled_in(text: str) -> str:
    for asked, answer in ANSWERS.items():
        text = text.replace(asked, answer)
    return text


def bare(text: str) -> list[str]:
    """Lines that declare something, without comments beside them."""
    lines = (re.sub(r"\s+#.*$", "", line).strip() for line in text.splitlines())
    return [line.strip() for line in lines if line and not line.startswith("#")]


def test_a_folder_becomes_a_campaign_but_for_what_only_a_person_knows(
    folder: Path, tmp_path: Path
) -> None:
    done = hustings("init", folder)
    assert done.exit_code == OK, done.output
    for taken in ("voter file.csv: voters", "mailers.csv: deliveries",
                  "survey.csv: responses", "messages.csv: messages",
                  "consent.csv: permissions", "prices.csv: costs",
                  "do_not_contact.csv: do_not_contact", "readme.txt: not used",
                  "ncvhis.txt: not used: past votes, one row for each"):  # fmt: skip
        assert taken in done.output
    text = (folder / "campaign.toml").read_text()
    declared = tomllib.loads(text)
    tables = declared["tables"]
    assert tables["voters"]["path"] == "voter file.csv"
    assert tables["voters"]["columns"]["state"] == {"value": "NC"}
    assert declared["features"]["special_categories"] == ["tint"]
    deliveries = tables["deliveries"]["columns"]
    assert deliveries["message_id"]["map"] == {"Control": "control"}
    assert deliveries["channel"]["map"] == {"No": "none", "Direct mail": "mail"}
    assert tables["do_not_contact"]["columns"]["channel"] == {"value": "*"}
    assert deliveries["sent_on"]["format"] == "%m/%d/%Y"
    # a probability is known to whoever drew it: it is asked, with what was counted
    assert tables["designs"]["rows"] == []
    asked = re.findall(r"# \{ experiment_id.*probability = 0\.33\d+ \}, # (\d+) of 240",
                       text)  # fmt: skip
    assert sum(map(int, asked)) == 240
    assert declared["outcome"]["name"] == "support"
    assert str(declared["campaign"]["as_of"]) == "2026-02-16"
    assert not any(name in text for name in NAMES)
    # nothing is overwritten
    again = hustings("init", folder)
    assert again.exit_code == BAD_INPUT
    assert "never overwrites" in " ".join(again.output.split())
    assert (folder / "campaign.toml").read_text() == text
    # four fifths of what runs stood in the draft
    final = filled_in(text)
    stood = set(bare(text))
    n_final = bare(final)
    assert sum(line in stood for line in n_final) >= 0.8 * len(n_final)
    (folder / "campaign.toml").write_text(final)
    ran = hustings("ingest", "--campaign", folder, "--data", tmp_path)
    (folder / "campaign.toml").unlink()
    assert ran.exit_code == OK, ran.output


def test_single_files_are_printed_or_written_where_it_is_said(
    folder: Path, tmp_path: Path
) -> None:
    files = [folder / "voter file.csv", folder / "survey.csv"]
    printed = hustings("init", *files)
    assert printed.exit_code == OK
    assert tomllib.loads(printed.stdout)["tables"]["responses"]["path"] == str(files[1])
    done = hustings("init", *files, "--into", tmp_path / "new")
    assert done.exit_code == OK
    assert (tmp_path / "new/campaign.toml").exists()
    alone = hustings("init", *files[1:], folder / "prices.csv")
    assert alone.exit_code == BAD_INPUT
    assert "expected a voter file among the files" in " ".join(alone.output.split())


# --- the guardrail: what is there is answered, whatever was declared ------------------

TERMS = 'source = "s"\nlicence = "l"\npermitted_use = "p"\n'
PLAIN = """
[campaign]
name = "guarded"
title = "t"
question = "q"
rule_set = "us_default"
as_of = 2026-03-01
seed = 1
[outcome]
name = "support"
label = "support"
kind = "continuous"
measures = "support"
higher_is_better = true
absent = "missing"
unit_per_point = 1.0
[plan]
budget_usd = 300.0
start_on = 2026-03-02
days = 3
holdout_share = 0.1
explore_share = 0.05
[features]
columns = ["*"]
segment = ["age"]
{answers}
[tables.voters]
path = "voters.csv"
observed_on = 2026-01-01
{terms}
[tables.voters.columns]
voter_id = "voter_id"
age = "age"
{columns}
[tables.voters.extra]
{extra}
[tables.messages]
{terms}
rows = [{{ message_id = "a", issue = "jobs", text = "Text", discloses = "none" }}]
[tables.designs]
{terms}
rows = [
{{ experiment_id = "e", message_id = "control", channel = "none", probability = 0.5 }},
{{ experiment_id = "e", message_id = "a", channel = "mail", probability = 0.5 }},
]
[tables.deliveries]
path = "deliveries.csv"
{terms}
[tables.deliveries.columns]
voter_id = "voter_id"
experiment_id = {{ value = "e" }}
message_id = "arm"
channel = {{ column = "arm", map = {{ control = "none", a = "mail" }} }}
sent_on = {{ value = 2026-02-01 }}
randomised_by = {{ value = "person" }}
[tables.responses]
path = "deliveries.csv"
{terms}
[tables.responses.columns]
voter_id = "voter_id"
experiment_id = {{ value = "e" }}
outcome = {{ value = "support" }}
value = "value"
observed_at = {{ value = 2026-02-15 }}
[tables.costs]
{terms}
rows = [{{ message_id = "*", channel = "mail", cost_usd = 0.5 }}]
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Voters with columns that may tell of a special category, ingested."""
    home = tmp_path_factory.mktemp("guarded")
    n = 120
    ids = [f"V{k:05d}" for k in range(n)]
    write(home / "voters.csv", table({
        "voter_id": ids, "age": range(20, 80), "RACE": ["1", "2", "5"],
        "x7": ["W", "B", "H", "A"], "worship": ["Catholic", "Protestant"],
        "home_tongue": ["Spanish", "English"], "union_member": [0, 1],
        "abortion_score": range(1, 60), "income": range(20_000, 90_000, 500),
    }, n))  # fmt: skip
    write(home / "deliveries.csv", table({
        "voter_id": ids, "arm": ["control", "a"], "value": range(30, 70),
    }, n))  # fmt: skip
    return home


def features(home: Path, *, answers: str, columns: str = "") -> Result:
    extra = 'tint = "RACE"\nnames = ["x7", "worship", "home_tongue", "union_member", ' \
            '"abortion_score", "income"]'  # fmt: skip
    text = PLAIN.format(answers=answers, terms=TERMS, columns=columns, extra=extra)
    (home / "campaign.toml").write_text(text)
    ran = hustings("ingest", "--campaign", home, "--data", home / "runs")
    assert ran.exit_code == OK, ran.output
    return hustings("features", "--campaign", home, "--data", home / "runs")


SUSPICIOUS = ("tint", "x7", "worship", "home_tongue", "union_member", "abortion_score")


def test_every_suspicious_column_is_refused_until_it_is_answered(guarded: Path) -> None:
    refused = features(guarded, answers='special_categories = ["income"]')
    assert refused.exit_code == BAD_INPUT
    said = " ".join(refused.output.split())
    for name in SUSPICIOUS:
        assert f"'{name}' (its " in said
    # by the file's own name, though it is kept under another
    assert "'tint' (its name speaks of race or ethnicity)" in said
    assert "'x7' (its values speak of race or ethnicity)" in said
    assert "special_categories" in said
    assert "not_special" in said
    assert "'income'" not in said
    # one that is left is enough; patterns answer
    left = features(guarded, answers=(
        'special_categories = ["tint", "wor*", "home_tongue", "x7"]\n'
        'not_special = ["union_*"]'
    ))  # fmt: skip
    assert left.exit_code == BAD_INPUT
    assert "'abortion_score'" in " ".join(left.output.split())
    assert "'union_member'" not in " ".join(left.output.split())
    both = hustings_text(guarded, 'special_categories = ["x7"]\nnot_special = ["x7"]')
    assert both.exit_code == BAD_INPUT
    assert "got it in both" in " ".join(both.output.split())


def hustings_text(home: Path, answers: str) -> Result:
    text = PLAIN.format(answers=answers, terms=TERMS, columns="", extra="names = []")
    (home / "campaign.toml").write_text(text)
    return hustings("features", "--campaign", home, "--data", home / "runs")


def test_answered_columns_are_features_or_left_out_as_said(guarded: Path) -> None:
    done = features(guarded, answers=(
        'special_categories = ["tint", "x7", "worship", "home_tongue"]\n'
        'not_special = ["union_member", "abortion_score"]'
    ))  # fmt: skip
    assert done.exit_code == OK, done.output
    run = next((guarded / "runs").rglob("features.parquet")).parent
    entries = json.loads((run / "reader.json").read_text())["feature_columns"]
    assert {"age", "union_member", "abortion_score", "income"} <= set(entries)
    assert not {"tint", "x7", "worship", "home_tongue"} & set(entries)
    # mapped onto a column of ours it is looked at all the same
    refused = features(guarded, columns='party = "x7"', answers=(
        f"special_categories = {json.dumps(SUSPICIOUS)}"
    ))  # fmt: skip
    assert refused.exit_code == BAD_INPUT
    assert "'party' (its values speak of race" in " ".join(refused.output.split())
