"""Contact details → the texts that platforms hash and match.

As platforms publish their matching rules: no blanks around, small letters, composed
Unicode (NFC), telephones in E.164, dates as yyyymmdd, countries by ISO 3166-1 and
American states by their ANSI code. What cannot be brought into that form is no value: a
wrong hash matches nobody, or somebody else.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from types import MappingProxyType

import pandas as pd

from hustings.features.persons.contact_details import (
    countries,
    each_distinct,
    emails,
    states,
    telephones,
)

NORTH_AMERICA = "1"
_NOT_A_WORD = re.compile(r"[\W_]+")
_POSTCODE = re.compile(r"(?=.*[1-9])[a-z0-9]{3,10}")
_SEXES = {"f": "f", "female": "f", "m": "m", "male": "m"}


def normalised(values: pd.Series, field: str, *, calling_code: str) -> pd.Series:
    """The values of a field as platforms compare them; missing where they cannot.

    Args:
        values: Texts.
        field: One of `FIELDS`.
        calling_code: Of the country whose telephones are written without one.

    >>> normalised(pd.Series([" Test@Example.com "]), "email", calling_code="1")[0]
    'test@example.com'
    >>> normalised(pd.Series(["07911 123456"]), "phone", calling_code="44")[0]
    '+447911123456'
    """
    if field not in FIELDS:
        raise ValueError(
            f"expected a field that platforms match by, one of {', '.join(FIELDS)}, "
            f"got {field!r}"
        )
    return FIELDS[field](values, calling_code)


def _composed(values: pd.Series, of: Callable[[str], str | None]) -> pd.Series:
    """What every composed text in small letters becomes; nothing is no value."""
    return each_distinct(
        values, lambda text: of(unicodedata.normalize("NFC", text).strip().lower())
    )


def _words(values: pd.Series, _calling_code: str) -> pd.Series:
    return _composed(values, _word)


def _word(text: str) -> str | None:
    return _NOT_A_WORD.sub("", text) or None


def _states(values: pd.Series, calling_code: str) -> pd.Series:
    """American states by code; of other countries the name."""
    codes = states(values)
    if calling_code == NORTH_AMERICA:
        return codes
    return codes.fillna(_words(values, calling_code))


def _date(text: str) -> str | None:
    """A day of birth as yyyymmdd, from ISO 8601 or that itself."""
    parts = re.match(r"^(\d{4})-?(\d{2})-?(\d{2})(?:$|[t ])", text)
    try:
        day = None if parts is None else date(*(int(part) for part in parts.groups()))
    except ValueError:
        return None
    return None if day is None else f"{day:%Y%m%d}"


def _postcodes(values: pd.Series, calling_code: str) -> pd.Series:
    return _composed(values, partial(_postcode, calling_code=calling_code))


def _postcode(text: str, calling_code: str) -> str | None:
    """The first five digits in the United States, without blanks elsewhere."""
    bare = re.sub(r"[\s-]", "", text)
    if not _POSTCODE.fullmatch(bare):
        return None
    if calling_code != NORTH_AMERICA or not bare.isdigit():
        return bare
    # 2134 may be Boston's 02134 after a spreadsheet, or a slip of the pen
    return bare[:5] if len(bare) in (5, 9) else None


FIELDS: Mapping[str, Callable[[pd.Series, str], pd.Series]] = MappingProxyType(
    {
        "email": lambda values, _: emails(values),
        "phone": telephones,
        "first_name": _words,
        "last_name": _words,
        "birth_date": lambda values, _: _composed(values, _date),
        "sex": lambda values, _: _composed(values, _SEXES.get),
        "city": _words,
        "state": _states,
        "postcode": _postcodes,
        "country": lambda values, _: countries(values),
    }
)
"""What platforms match by, each with how its values are brought into one form."""
