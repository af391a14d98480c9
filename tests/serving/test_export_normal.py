"""Contact details as platforms hash them; digests are those that platforms publish."""

import unicodedata

import pandas as pd
import pytest

from hustings.features.persons.contact_details import hashed
from hustings.serving.export.formats import FORMATS, PlatformName
from hustings.serving.export.normal import FIELDS, normalised
from hustings.serving.export.settings import ExportSettings

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
    plain = normalised(pd.Series([written]), field, calling_code="1")
    assert hashed(plain).tolist() == [digest]


def test_a_telephone_hashes_as_published_without_its_plus() -> None:
    written = pd.Series(["(650)555-1212", "1 650 555 1212", "+1-650-555-1212"])
    digits = normalised(written, "phone", calling_code="1").str.removeprefix("+")
    assert set(hashed(digits)) == {
        "e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176"
    }


def test_composed_and_decomposed_letters_are_one_name() -> None:
    two = [unicodedata.normalize(form, "José-María") for form in ("NFC", "NFD")]
    found = normalised(pd.Series(two), "last_name", calling_code="1")
    assert set(found) == {"josémaría"}


@pytest.mark.parametrize(
    ("field", "written", "normal"),
    [
        ("birth_date", "1970-03-09", "19700309"),
        ("birth_date", "1970-02-30", None),
        ("state", "California", "ca"),
        ("state", "N.Y.", "ny"),
        ("state", "Calif", None),
        ("country", "United States", "us"),
        ("country", "Freedonia", None),
        ("postcode", "2134", None),  # Boston's after a spreadsheet, or a slip
        ("postcode", "00000", None),
        ("birth_date", "03/09/1970", None),  # or the ninth of March: nobody knows
        ("postcode", "94035-1234", "94035"),
        ("postcode", "SW1A 1AA", "sw1a1aa"),
        ("city", "St. Paul", "stpaul"),
        ("email", "nobody", None),
        ("sex", "U", None),
    ],
)
def test_other_fields(field: str, written: str, normal: str | None) -> None:
    found = normalised(pd.Series([written]), field, calling_code="1").iloc[0]
    assert (found if normal else pd.isna(found)) == (normal or True)


@pytest.mark.parametrize("field", FIELDS)
def test_what_is_missing_stays_missing_and_normal_values_stay(field: str) -> None:
    values = pd.Series([None, "", "A.b@c.de", "+4930901820", "12"])
    once = normalised(values, field, calling_code="1")
    assert once.iloc[:2].isna().all()
    again = normalised(once, field, calling_code="1")
    assert (again.fillna("-") == once.fillna("-")).all()
    assert hashed(once.iloc[:2]).isna().all()


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a field that platforms match by"):
        normalised(pd.Series(["x"]), "shoe_size", calling_code="1")


# --- platforms ------------------------------------------------------------------------


def test_a_state_of_another_country_is_its_name() -> None:
    found = normalised(pd.Series(["Nordrhein-Westfalen"]), "state", calling_code="49")
    assert found.tolist() == ["nordrheinwestfalen"]


@pytest.mark.parametrize(
    ("platform", "email", "phone"),
    [
        ("google", "annlee@gmail.com", "+16505551212"),
        ("uid2", "annlee@gmail.com", "+16505551212"),
        ("tiktok", "ann.lee@gmail.com", "+16505551212"),
        ("meta", "ann.lee+news@gmail.com", "16505551212"),
        ("snapchat", "ann.lee+news@gmail.com", "16505551212"),
    ],
)
def test_platforms_compare_as_each_documents(
    platform: PlatformName, email: str, phone: str
) -> None:
    compared = FORMATS[platform].compared
    assert compared(pd.Series(["ann.lee+news@gmail.com"]), "email").tolist() == [email]
    assert compared(pd.Series(["+16505551212"]), "phone").tolist() == [phone]


def test_a_tag_of_another_provider_stays_where_the_platform_reads_it() -> None:
    address = pd.Series(["user.name+nyc@example.com"])
    kept = FORMATS["google"].compared(address, "email")
    assert kept.tolist() == address.tolist()
    cut = FORMATS["tiktok"].compared(address, "email")
    assert cut.tolist() == ["user.name@example.com"]


def test_uid2_takes_the_bytes_of_a_digest_in_base64() -> None:
    found = FORMATS["uid2"].written(pd.Series(["user@example.com"]), "email")
    assert found.tolist() == ["tMmiiTI7IaAcPpQPFQ65uMVCWH8av9jw4cwf/F5HVRQ="]


@pytest.mark.parametrize(
    ("names", "plain"),
    [
        ({"country": "Country", "postcode": "Zip", "email": "Email"}, True),
        ({"country": "country", "postcode": "zip", "email": "email"}, False),
        ({}, False),
    ],
)
def test_columns_called_as_google_calls_them_are_taken_for_googles(
    names: dict[str, str], plain: bool
) -> None:
    settings = ExportSettings(
        "us_default", audience_fields=("email", "country", "postcode"),
        audience_columns=names,
    )  # fmt: skip
    zips = pd.Series(["27006"])
    written = settings.audience_format.written(zips, "postcode")
    assert (written.tolist() == ["27006"]) == plain
