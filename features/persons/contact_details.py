"""Telephones, e-mails and places as people write them → one spelling, or no value.

What is in doubt is no value: a wrong telephone reaches somebody else, and a wrong hash
matches nobody, or somebody else. Nothing is looked up in any network.

Source: ITU-T E.164 by Google's libphonenumber; RFC 5321 and 5322 by email-validator;
ISO 3166-1 alpha-2 for countries; ANSI INCITS 38 for states.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable

import pandas as pd
import phonenumbers
from email_validator import EmailNotValidError, validate_email

NO_REGION = ("ZZ", "001")
"""What the library calls a calling code of no country."""
_EXTENSION = re.compile(r"\s*[;,]?\s*(?:ext(?:ension)?\.?|x|#)\s*[:.]?\s*\d{1,7}$")
_LABEL = r"(?:tel|phone|mobile|cell|home|work|office)"
_LABELS = re.compile(rf"^{_LABEL}[\s.:]+|\s*\(?{_LABEL}\.?\)?$")
_EXPONENT = re.compile(r"^(\d)\.(\d+)e\+?(\d+)$")
_LETTER = re.compile(r"[^\W\d_]")
_QUANTITY = re.compile(r"\d{5,}\.\d+")
_NO_PERSON = frozenset(
    ["none", "noemail", "nomail", "na", "null", "nil", "unknown", "nobody", "refused",
     "notgiven", "declined", "invalid", "test", "email", "mail", "no", "noreply",
     "donotreply", "asdf"]
)  # fmt: skip
"""Words that stand in forms where an address should be."""

STATES = {
    code: name
    for code, _, name in (
        line.partition(" ")
        for line in """
al alabama
ak alaska
az arizona
ar arkansas
ca california
co colorado
ct connecticut
de delaware
dc district of columbia
fl florida
ga georgia
hi hawaii
id idaho
il illinois
in indiana
ia iowa
ks kansas
ky kentucky
la louisiana
me maine
md maryland
ma massachusetts
mi michigan
mn minnesota
ms mississippi
mo missouri
mt montana
ne nebraska
nv nevada
nh new hampshire
nj new jersey
nm new mexico
ny new york
nc north carolina
nd north dakota
oh ohio
ok oklahoma
or oregon
pa pennsylvania
ri rhode island
sc south carolina
sd south dakota
tn tennessee
tx texas
ut utah
vt vermont
va virginia
wa washington
wv west virginia
wi wisconsin
wy wyoming
as american samoa
gu guam
mp northern mariana islands
pr puerto rico
vi virgin islands
""".strip().splitlines()
    )
}
"""ANSI code of a state, district or territory of the United States → its name."""
_CODE_OF_STATE = {name: code for code, name in STATES.items()}
_CODE_OF_COUNTRY = {
    "usa": "us", "united states": "us", "united states of america": "us",
    "america": "us", "uk": "gb", "united kingdom": "gb", "great britain": "gb",
    "england": "gb", "scotland": "gb", "wales": "gb", "northern ireland": "gb",
    "can": "ca", "canada": "ca", "deutschland": "de", "germany": "de", "deu": "de",
    "france": "fr", "fra": "fr", "italy": "it", "italia": "it", "ita": "it",
    "spain": "es", "ireland": "ie", "irl": "ie", "gbr": "gb", "mexico": "mx",
    "australia": "au", "aus": "au", "austria": "at", "netherlands": "nl",
}  # fmt: skip


def region_of(calling_code: str) -> str:
    """The country, ISO 3166-1 alpha-2, whose telephones are written without a code.

    Args:
        calling_code: Digits: 1 for North America, 44 for the United Kingdom.

    Raises:
        ValueError: If no country has it.

    >>> region_of("44")
    'GB'
    """
    region = phonenumbers.region_code_for_country_code(int(calling_code))
    if region in NO_REGION:
        raise ValueError(f"expected a country's calling code, got {calling_code!r}")
    return str(region)


def telephones(values: pd.Series, calling_code: str) -> pd.Series:
    """Telephones in E.164; missing where a value is no number that can be dialled.

    Args:
        values: As written.
        calling_code: Of telephones that are written without one.

    >>> telephones(pd.Series(["(650) 555-1212", "6505551212.0", "555-1212"]), "1")
    0    +16505551212
    1    +16505551212
    2             NaN
    dtype: str
    """
    region = region_of(calling_code)
    return each_distinct(values, lambda text: _telephone(text, region))


def _telephone(written: str, region: str) -> str | None:
    plain = unicodedata.normalize("NFKC", written).strip().lower().removeprefix("tel:")
    bare = _EXTENSION.sub("", _without_spreadsheet(_LABELS.sub("", plain).strip()))
    if _LETTER.search(bare) or _QUANTITY.fullmatch(bare):
        return None
    if re.match(r"^\W*00\d", bare):
        # international by the commonest prefix, whatever the country's own is
        bare = "+" + re.sub(r"^\W*00", "", bare)
    try:
        number = phonenumbers.parse(bare, region)
    except phonenumbers.NumberParseException:
        return None
    digits = str(number.national_number)
    if not phonenumbers.is_valid_number(number) or _is_placeholder(digits):
        return None
    e164: str = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return e164


def _without_spreadsheet(text: str) -> str:
    """A number that a spreadsheet took for a quantity, where no digit of it is lost.

    >>> _without_spreadsheet("6.505551212e9"), _without_spreadsheet("6.5e9")
    ('6505551212', '6.5e9')
    """
    exponent = _EXPONENT.match(text)
    if exponent is not None and len(exponent[2]) == int(exponent[3]):
        return exponent[1] + exponent[2]
    return re.sub(r"^(\+?\d{7,})\.0+$", r"\1", text)


def _is_placeholder(digits: str) -> bool:
    """Whether a number was typed where one had to stand: 8888888888, 1234567890."""
    return len(set(digits)) == 1 or digits in "01234567890123456789"


def emails(values: pd.Series) -> pd.Series:
    """E-mail addresses in small letters; missing where a value is none.

    Whether the address exists is not asked.

    >>> emails(pd.Series([" Test@Example.com ", "N/A", "none@none.com"])).tolist()
    ['test@example.com', nan, nan]
    """
    return each_distinct(values, _email)


def _email(written: str) -> str | None:
    text = unicodedata.normalize("NFC", written).strip().strip("<>\"'").lower()
    try:
        valid = validate_email(
            text.removeprefix("mailto:"), check_deliverability=False, strict=True
        )
    except EmailNotValidError:
        return None
    local = re.sub(r"\W", "", valid.local_part)
    if {local, valid.domain.partition(".")[0]} <= _NO_PERSON:
        return None
    return valid.normalized


def states(values: pd.Series) -> pd.Series:
    """Codes of American states in small letters, by code or name; else missing.

    >>> states(pd.Series(["N.C.", "North Carolina", "Nowhere"])).tolist()
    ['nc', 'nc', nan]
    """
    return each_distinct(values, _state)


def _state(written: str) -> str | None:
    words = " ".join(re.sub(r"[^\w\s]", "", written).lower().split())
    code = re.sub(r"^us\W*(?=[a-z]{2}$)", "", words)
    return code if code in STATES else _CODE_OF_STATE.get(words)


def countries(values: pd.Series) -> pd.Series:
    """ISO 3166-1 alpha-2 codes of countries in small letters; else missing.

    >>> countries(pd.Series(["US", "U.S.A.", "United Kingdom", "xx"])).tolist()
    ['us', 'us', 'gb', nan]
    """
    return each_distinct(values, _country)


def _country(written: str) -> str | None:
    words = " ".join(re.sub(r"[^\w\s]", "", written).lower().split())
    code = _CODE_OF_COUNTRY.get(words, words)
    return code if code.upper() in phonenumbers.SUPPORTED_REGIONS else None


def hashed(values: pd.Series) -> pd.Series:
    """SHA-256 of texts in UTF-8, in small hexadecimal letters; missing stays missing.

    >>> hashed(pd.Series(["test@example.com"]))[0][:16]
    '973dfe463ec85785'
    """
    return each_distinct(values, lambda text: hashlib.sha256(text.encode()).hexdigest())


def each_distinct(values: pd.Series, of: Callable[[str], str | None]) -> pd.Series:
    """What every distinct text becomes, of those that are not missing."""
    text = values.astype("str")
    results = {value: of(value) for value in text.dropna().unique()}
    return text.map(results).astype("str")
