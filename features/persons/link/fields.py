"""Identity fields: how each is normalised and compared, and which values are bad.

Identities come as raw columns; `tidy` gives them one spelling and makes values that no
such field can have missing, counted but never shown. `with_equivalents` brings fields
together that say the same: a date of birth and a year, an e-mail and its hash.
"""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from hustings.features.persons.contact_details import hashed, telephones
from hustings.features.persons.names import plain_names, root_names, split_names

Kind = Literal[
    "name", "date", "year", "code", "category", "text", "phone", "email", "key"
]  # fmt: skip

FIELDS: dict[str, Kind] = {
    "first_name": "name",
    "last_name": "name",
    "birth_date": "date",
    "birth_year": "year",
    "sex": "category",
    "postcode": "code",
    "street_number": "category",
    "street": "text",
    "address": "text",
    "city": "text",
    "state": "category",
    "national_id": "code",
    "phone": "phone",
    "email": "email",
    "email_sha256": "key",
    "declared_id": "key",
}
"""Fields that are known by name, and how each is compared. A key is equal or says
nothing: people have several addresses."""

ROOT = "first_root"
"""The first name without its nickname, added next to `first_name`."""
NEARLY_UNIQUE = ("national_id", "phone", "email")
"""Fields that find people by themselves: two people seldom share one."""
EQUIVALENTS = {"birth_date": "birth_year", "email": "email_sha256"}
"""Field → what it says too."""
EARLIEST_YEAR, LATEST_YEAR = 1000, 2025
"""Years of birth. Whoever is born later is too young to vote before 2041."""
_DATE = re.compile(r"^(\d{4})[-/.]?(\d{2})[-/.]?(\d{2})(?:$|[T ])")
_POSTCODE = re.compile(r"(?=.*\d)[a-z0-9]{3,10}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NO_NAME = frozenset(
    ["n/a", "#n/a", "unknown", "(null)", "<null>", "not given", "no name", "unnamed"]
)
_NO_VALUE = _NO_NAME | {"nan", "none", "null", "na", "nil"}
"""Texts that stand for no value. People are called Na, Nan, Nil, None, Null and True:
of a name these are values."""


@dataclass(frozen=True)
class Tidied:
    """Comparable identities.

    Attributes:
        frame: The fields that were there, every value a text or missing.
        bad: Field → values that no such field can have, which count as missing.
    """

    frame: pd.DataFrame
    bad: dict[str, int]


def known_fields(frame: pd.DataFrame) -> list[str]:
    """Fields that a frame of identities has, in the order of `FIELDS`."""
    return [name for name in FIELDS if name in frame]


def tidy(raw: pd.DataFrame, *, calling_code: str = "1") -> Tidied:
    """Identities in one spelling.

    Args:
        raw: Columns named as in `FIELDS`; a `name` is split where no last name is.
        calling_code: Of telephones that are written without one.
    """
    bad: dict[str, int] = {}
    given = _with_split_names(raw, bad)
    tidied = {}
    for name in known_fields(given):
        text = _text(given[name])
        tidied[name] = _tidied(name, text, calling_code)
        bad[name] = int((text.notna() & tidied[name].isna()).sum())
    if "name" in bad:  # the parts are counted as one
        del bad["first_name"], bad["last_name"]
    frame = pd.DataFrame(tidied, index=raw.index)
    if "first_name" in frame:
        frame[ROOT] = root_names(frame["first_name"])
    return Tidied(frame, bad)


def _with_split_names(raw: pd.DataFrame, bad: dict[str, int]) -> pd.DataFrame:
    if "name" not in raw or "last_name" in raw:
        return raw
    text = _text(raw["name"])
    parts = split_names(text.mask(text.str.lower().isin(_NO_NAME)))
    bad["name"] = int((text.notna() & parts["last_name"].isna()).sum())
    return raw.drop(columns="name").assign(**parts)


def with_equivalents(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """One side with what its fields say too, where the other side says only that.

    Args:
        one: Tidied identities.
        other: Of the other side.
    """
    added = {}
    for field, derived in EQUIVALENTS.items():
        if field in one and derived in other:
            says = (
                hashed(one[field]) if field == "email" else one[field].str[:4]
            )  # fmt: skip
            added[derived] = one[derived].fillna(says) if derived in one else says
    return one.assign(**added)


def _text(values: pd.Series) -> pd.Series:
    """Values as texts: whole numbers without '.0', empty ones as missing."""
    if pd.api.types.is_datetime64_any_dtype(values):
        days: pd.Series = values.dt.strftime("%Y-%m-%d").astype("str")
        return days
    text = values.astype("str").str.strip().str.removesuffix(".0")
    return text.mask(text == "")


def _tidied(name: str, text: pd.Series, calling_code: str) -> pd.Series:
    kind = FIELDS[name]
    lower = text.str.lower()
    if kind == "name":
        return plain_names(text.mask(lower.isin(_NO_NAME)))
    text, lower = (values.mask(lower.isin(_NO_VALUE)) for values in (text, lower))
    if kind == "text":
        return _plain_text(text)
    if kind == "phone":
        return telephones(text, calling_code)
    if kind == "date":
        return _dates(text)
    if kind == "year":
        number = pd.to_numeric(text, errors="coerce")
        good = number.between(EARLIEST_YEAR, LATEST_YEAR)
        return text.where(good.to_numpy(dtype=bool))
    if kind == "email":
        return lower.where(lower.str.contains(r"^[^@\s]+@[^@\s]+$", na=False))
    if name == "email_sha256":
        return lower.where(lower.str.fullmatch(_SHA256, na=False))
    bare = lower.str.replace(r"[\W_]+", "", regex=True)
    bare = bare.mask(bare == "")
    if name == "postcode":
        # the four further digits of an American code are of a street, not a place
        bare = bare.mask(bare.str.fullmatch(r"\d{9}", na=False), bare.str[:5])
        bare = bare.where(bare.str.fullmatch(_POSTCODE, na=False))
        return bare.mask(bare.str.fullmatch(r"0+", na=False))
    if name == "sex":
        return bare.str[:1].where(bare.str[:1].isin(["f", "m"]))
    return bare


def _plain_text(text: pd.Series) -> pd.Series:
    plain_of_text = {
        v: re.sub(r"[^a-z0-9]+", " ", v.lower()).strip() for v in text.dropna()
    }
    return text.map({v: bare or None for v, bare in plain_of_text.items()}).astype(
        "str"
    )


def _dates(text: pd.Series) -> pd.Series:
    """ISO dates of those that are real days, whether written 19081209 or 1908-12-09."""
    parts = text.str.extract(_DATE)
    digits = parts[0] + parts[1] + parts[2]
    parsed = pd.to_datetime(digits, format="%Y%m%d", errors="coerce")
    good = parsed.dt.year.between(EARLIEST_YEAR, LATEST_YEAR)
    return parsed.where(good).dt.strftime("%Y-%m-%d").astype("str")


def share_filled(frame: pd.DataFrame) -> dict[str, float]:
    """Share of people whose field is known."""
    return {name: float(np.mean(frame[name].notna())) for name in known_fields(frame)}
