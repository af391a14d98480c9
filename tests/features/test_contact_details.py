"""Contact details as people and spreadsheets write them."""

import pandas as pd
import pytest

from hustings.features.persons.contact_details import (
    countries,
    emails,
    region_of,
    states,
    telephones,
)


@pytest.mark.parametrize(
    ("code", "e164", "written"),
    [
        ("44", "+447911123456",
         ["+44 (0)7911 123456", "447911123456", "07911 123456", "0044 7911 123456"]),
        ("33", "+33612345678",
         ["33612345678", "+33 (0)6 12 34 56 78", "06 12 34 56 78"]),
        ("39", "+390612345678", ["06 1234 5678", "+39 06 1234 5678"]),
        ("49", "+4930901820", ["030 901820", "+49 (0)30 901820", "0049 30 901820"]),
        ("1", "+447911123456", ["011 44 7911 123456", "+44 7911 123456"]),
        ("1", "+448444124653", ["0044 844 412 4653"]),
        ("1", "+16505551212",
         ["6505551212", "(650) 555-1212", "1-650-555-1212", "+1 650.555.1212",
          "6505551212.0", "16505551212.0", "6.505551212E9", "6.505551212E+09",
          "650.555.1212 ext. 12", "650 555 1212 x3", "Cell: 650-555-1212",
          "650-555-1212 (mobile)", "tel:+1-650-555-1212"]),
    ],
)  # fmt: skip
def test_telephones_in_any_writing_are_one_number(
    code: str, e164: str, written: list[str]
) -> None:
    assert telephones(pd.Series(written), code).tolist() == [e164] * len(written)


@pytest.mark.parametrize(
    "written",
    [
        "9999999999", "0000000000", "8888888888", "1234567890", "555-1212", "6.5E9",
        "6.50555E9", "N/A", "none", "unknown", "", "-", "1-800-FLOWERS",
        "(012) 555-1212", "+123456789012345678", "44844412465", "447911123456",
        "650-555-1212 / 650-555-1313", "6,505,551,212", "65055512.12",
    ],
)  # fmt: skip
def test_a_telephone_in_doubt_is_none(written: str) -> None:
    assert telephones(pd.Series([written]), "1").isna().all()


def test_addresses_are_in_small_letters_and_what_is_none_is_missing() -> None:
    written = pd.Series(
        [" Ann.Lee@Example.COM ", "mailto:ann@x.org", "<ann@x.org>", "o'neil@x.org",
         "none", "N/A", "ann@", "ann@x", "ann@x..org", "a@x.org; b@x.org",
         "none@none.com", "na@na.com", "noemail@noemail.com", "ann@x.invalid", None]
    )  # fmt: skip
    found = emails(written)
    assert found[:4].tolist() == [
        "ann.lee@example.com", "ann@x.org", "ann@x.org", "o'neil@x.org",
    ]  # fmt: skip
    assert found[4:].isna().all()


def test_places_are_their_codes() -> None:
    found = states(pd.Series(["NC", "north carolina", "D.C.", "US-TX", "Bavaria"]))
    assert found.fillna("").tolist() == ["nc", "nc", "dc", "tx", ""]
    found = countries(pd.Series(["US", "usa", "U.K.", "Deutschland", "CA", "ZZ", "X"]))
    assert found.fillna("").tolist() == ["us", "us", "gb", "de", "ca", "", ""]


def test_a_calling_code_is_of_a_country() -> None:
    assert [region_of(code) for code in ("1", "44", "39")] == ["US", "GB", "IT"]
    for wrong in ("999", "800"):
        with pytest.raises(ValueError, match="expected a country's calling code"):
            region_of(wrong)
