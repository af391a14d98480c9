"""Identity fields: how each is normalised and compared, and which values are bad.

Identities come as raw columns; `tidy` gives them one spelling and makes values that no
such field can have missing, counted but never shown.
"""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from hustings.features.persons.names import plain_names, root_names, split_names

Kind = Literal["name", "date", "year", "code", "category", "text", "email", "key"]

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
    "phone": "code",
    "email": "email",
    "email_sha256": "key",
    "declared_id": "key",
}
"""Fields that are known by name, and how each is compared. A key is equal or says
nothing: people have several addresses."""

ROOT = "first_root"
"""The first name without its nickname, added next to `first_name`."""
EARLIEST_YEAR, LATEST_YEAR = 1890, 2025
_POSTCODE = re.compile(r"(?=.*\d)[a-z0-9]{3,10}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNSAID = frozenset({"", "nan", "none", "null", "unknown", "n/a", "na", "-"})


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


def tidy(raw: pd.DataFrame) -> Tidied:
    """Identities in one spelling.

    Args:
        raw: Columns named as in `FIELDS`; a `name` is split where no last name is.
    """
    given = _with_split_names(raw)
    tidied, bad = {}, {}
    for name in known_fields(given):
        text = _text(given[name])
        tidied[name] = _tidied(name, text)
        bad[name] = int((text.notna() & tidied[name].isna()).sum())
    frame = pd.DataFrame(tidied, index=raw.index)
    if "first_name" in frame:
        frame[ROOT] = root_names(frame["first_name"])
    return Tidied(frame, bad)


def _with_split_names(raw: pd.DataFrame) -> pd.DataFrame:
    if "name" not in raw or "last_name" in raw:
        return raw
    parts = split_names(raw["name"].astype("str"))
    return raw.drop(columns="name").assign(**parts)


def _text(values: pd.Series) -> pd.Series:
    """Values as texts: whole numbers without '.0', empty ones as missing."""
    if pd.api.types.is_datetime64_any_dtype(values):
        days: pd.Series = values.dt.strftime("%Y-%m-%d").astype("str")
        return days
    text = values.astype("str").str.strip().str.removesuffix(".0")
    return text.mask(text.str.lower().isin(_UNSAID))


def _tidied(name: str, text: pd.Series) -> pd.Series:
    kind = FIELDS[name]
    if kind in ("name", "text"):
        return _plain_text(text) if kind == "text" else plain_names(text)
    lower = text.str.lower()
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
    digits = text.str.replace(r"\D", "", regex=True)
    parsed = pd.to_datetime(digits, format="%Y%m%d", errors="coerce")
    good = parsed.dt.year.between(EARLIEST_YEAR, LATEST_YEAR)
    return parsed.where(good).dt.strftime("%Y-%m-%d").astype("str")


def share_filled(frame: pd.DataFrame) -> dict[str, float]:
    """Share of people whose field is known."""
    return {name: float(np.mean(frame[name].notna())) for name in known_fields(frame)}
