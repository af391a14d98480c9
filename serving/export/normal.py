"""Contact details → the texts that platforms hash and match, and their SHA-256.

As platforms publish their matching rules: no blanks around, small letters, composed
Unicode (NFC), telephones in E.164, dates as yyyymmdd. What cannot be brought into that
form is no value: a wrong hash matches nobody, or somebody else.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping
from types import MappingProxyType

import pandas as pd

SHORTEST_PHONE, LONGEST_PHONE = 8, 15
"""Digits of an E.164 number with its country code (ITU-T E.164, 6.2.1: at most 15)."""
_EMAIL = re.compile(r"^[^@\s]+@[^@\s]+\.[^@\s]+$")
_NOT_A_WORD = re.compile(r"[\W_]+")
_POSTCODE_US = re.compile(r"^\d{5}(-?\d{4})?$")
_SEXES = {"f": "f", "female": "f", "m": "m", "male": "m"}


def normalised(values: pd.Series, field: str, *, calling_code: str = "1") -> pd.Series:
    """The values of a field as platforms compare them; missing where they cannot.

    Args:
        values: Texts.
        field: One of `FIELDS`.
        calling_code: Country code of telephones that are written without one.

    >>> normalised(pd.Series([" Test@Example.com "]), "email")[0]
    'test@example.com'
    >>> normalised(pd.Series(["(650) 555-1212"]), "phone")[0]
    '+16505551212'
    """
    if field not in FIELDS:
        raise ValueError(
            f"expected a field that platforms match by, one of {', '.join(FIELDS)}, "
            f"got {field!r}"
        )
    text = values.astype("str").str.strip()
    normal_forms = {
        value: _one(value, field, calling_code) for value in text.dropna().unique()
    }
    return text.map(normal_forms).astype("str")


def _one(value: str, field: str, calling_code: str) -> str | None:
    composed = unicodedata.normalize("NFC", value).strip().lower()
    if field == "phone":
        return _phone(composed, calling_code)
    return FIELDS[field](composed) or None


def _phone(written: str, calling_code: str) -> str | None:
    """A telephone in E.164.

    A number without "+" or "00" is national: a trunk prefix 0 is left out. In North
    America, where there is none, the country's own 1 may stand before ten digits.
    """
    bare = re.split(r"\s*(?:ext\.?|x|#)\s*\d+$", written)[0]
    if re.search(r"[a-z]", bare):
        return None
    digits = re.sub(r"\D", "", bare)
    if bare.startswith("+"):
        international = digits
    elif digits.startswith("00"):
        international = digits[2:]
    elif calling_code == "1":
        international = digits if re.match(r"^1\d{10}$", digits) else "1" + digits
    else:
        international = calling_code + digits.removeprefix("0")
    return "+" + international if _possible(international) else None


def _possible(digits: str) -> bool:
    if digits.startswith("1"):
        return bool(re.match(r"^1[2-9]\d{2}[2-9]\d{6}$", digits))
    return SHORTEST_PHONE <= len(digits) <= LONGEST_PHONE and digits[:1] != "0"


def _email(value: str) -> str:
    return value if _EMAIL.match(value) else ""


def _word(value: str) -> str:
    return _NOT_A_WORD.sub("", value)


def _date(value: str) -> str:
    """A day of birth as yyyymmdd, from ISO 8601 or that itself."""
    parts = re.match(r"^(\d{4})-?(\d{2})-?(\d{2})(?:$|[t ])", value)
    if parts is None or not 1 <= int(parts[2]) <= 12 or not 1 <= int(parts[3]) <= 31:
        return ""
    return "".join(parts.groups())


def _postcode(value: str) -> str:
    """The first five digits in the United States, without blanks elsewhere."""
    bare = re.sub(r"\s", "", value)
    return bare[:5] if _POSTCODE_US.match(bare) else bare


def _sex(value: str) -> str:
    return _SEXES.get(value, "")


FIELDS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "email": _email,
        "phone": _word,
        "first_name": _word,
        "last_name": _word,
        "birth_date": _date,
        "sex": _sex,
        "city": _word,
        "state": _word,
        "postcode": _postcode,
        "country": _word,
    }
)
"""What platforms match by; of a telephone see `_phone`."""


def hashed(values: pd.Series) -> pd.Series:
    """SHA-256 of texts in UTF-8, in small hexadecimal letters; missing stays missing.

    >>> hashed(pd.Series(["test@example.com"]))[0][:16]
    '973dfe463ec85785'
    """
    digests = [
        None if pd.isna(value) else hashlib.sha256(str(value).encode()).hexdigest()
        for value in values.to_numpy(dtype=object)
    ]
    return pd.Series(digests, index=values.index, dtype="str")
