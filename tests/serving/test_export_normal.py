"""Contact details as platforms hash them; digests are those that platforms publish."""

import unicodedata

import pandas as pd
import pytest

from hustings.serving.export.normal import FIELDS, hashed, normalised

PUBLISHED = [
    ("email", "  Test@Example.COM ",
     "973dfe463ec85785f5f95af5ba3906eedb2d931c24e69824a89ea65dba4e813b"),
    ("email", "John_Smith@gmail.com",
     "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"),
    ("first_name", "Mary",
     "6915771be1c5aa0c886870b6951b03d7eafc121fea0e80a5ea83beb7c449f4ec"),
    ("first_name", "Valéry",
     "08e1996b5dd49e62a4b4c010d44e4345592a863bb9f8e3976219bac29417149c"),
    ("sex", "Female",
     "252f10c83610ebca1a059c0bae8255eba2f95be4d1d7bcfa89d7248a82d9f111"),
    ("country", "US",
     "79adb2a2fce5c6ba215fe5f27f532d4e7edbac4b6a5e09e1ef3a08084a904621"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "written", "digest"), PUBLISHED)
def test_fields_hash_as_platforms_publish(
    field: str, written: str, digest: str
) -> None:
    assert hashed(normalised(pd.Series([written]), field)).tolist() == [digest]


def test_a_telephone_hashes_as_published_without_its_plus() -> None:
    written = pd.Series(["(650)555-1212", "1 650 555 1212", "+1-650-555-1212"])
    digits = normalised(written, "phone").str.removeprefix("+")
    assert set(hashed(digits)) == {
        "e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176"
    }


@pytest.mark.parametrize(
    ("written", "code", "e164"),
    [
        ("650.555.1212 ext. 12", "1", "+16505551212"),
        ("0044 844 412 4653", "1", "+448444124653"),
        ("030 901820", "49", "+4930901820"),
        ("+49 30 901820", "1", "+4930901820"),
        ("555-1212", "1", None),  # no area code
        ("1-800-FLOWERS", "1", None),
        ("(012) 555-1212", "1", None),  # no area begins with 0
        ("+123456789012345678", "1", None),
        ("44844412465", "1", None),  # of another country, and it does not say so
        ("unknown", "1", None),
    ],
)
def test_telephones_become_e164_or_no_value(
    written: str, code: str, e164: str | None
) -> None:
    found = normalised(pd.Series([written]), "phone", calling_code=code).iloc[0]
    assert (found if e164 else pd.isna(found)) == (e164 or True)


def test_composed_and_decomposed_letters_are_one_name() -> None:
    two = [unicodedata.normalize(form, "José-María") for form in ("NFC", "NFD")]
    assert set(normalised(pd.Series(two), "last_name")) == {"josémaría"}


@pytest.mark.parametrize(
    ("field", "written", "normal"),
    [
        ("birth_date", "1970-03-09", "19700309"),
        ("birth_date", "1970-13-09", None),
        ("birth_date", "03/09/1970", None),  # or the ninth of March: nobody knows
        ("postcode", "94035-1234", "94035"),
        ("postcode", "SW1A 1AA", "sw1a1aa"),
        ("city", "St. Paul", "stpaul"),
        ("email", "nobody", None),
        ("sex", "U", None),
    ],
)
def test_other_fields(field: str, written: str, normal: str | None) -> None:
    found = normalised(pd.Series([written]), field).iloc[0]
    assert (found if normal else pd.isna(found)) == (normal or True)


@pytest.mark.parametrize("field", FIELDS)
def test_what_is_missing_stays_missing_and_normal_values_stay(field: str) -> None:
    once = normalised(pd.Series([None, "", "A.b@c.de", "+4930901820", "12"]), field)
    assert once.iloc[:2].isna().all()
    again = normalised(once, field)
    assert (again.fillna("-") == once.fillna("-")).all()
    assert hashed(once.iloc[:2]).isna().all()


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a field that platforms match by"):
        normalised(pd.Series(["x"]), "shoe_size")
