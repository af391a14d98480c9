"""Counties as voter files write them → their five FIPS digits.

`counties.csv` has the names and codes of the Census Bureau's county adjacency file of
2010, which is in the public domain.
"""

from functools import cache
from pathlib import Path
from typing import Literal

import pandas as pd

from hustings.features.ingest import raw_head

Writing = Literal["number", "fips_order", "name", "fips3", "letters"]
MOST_COUNTIES = 4_000
_FILE = Path(__file__).with_name("counties.csv")
_KIND_OF_PLACE = (
    " county",
    " parish",
    " borough",
    " census area",
    " city",
    " municipality",
)


@cache
def _rows() -> pd.DataFrame:
    return raw_head(_FILE, n_rows=MOST_COUNTIES)


def state_of(fips: pd.Series) -> str:
    """The one state that all five-digit codes are of; "" where there is none."""
    prefixes = fips.str.zfill(5).str[:2].unique()
    rows = _rows()
    states = rows.loc[rows["fips"].str[:2].isin(prefixes), "state"].unique()
    is_read = bool(len(fips)) and bool(fips.str.fullmatch(r"\d{4,5}").all())
    return str(states[0]) if is_read and len(prefixes) == len(states) == 1 else ""


@cache
def counties(state: str) -> tuple[tuple[str, str], ...]:
    """Name in capitals without "County", and FIPS code, of a state in its order."""
    rows = _rows()
    return tuple(
        (plain_county(name), fips)
        for name, fips in rows.loc[rows["state"] == state, ["name", "fips"]].to_numpy()
    )


def plain_county(name: str) -> str:
    """A county's name as most files write it.

    >>> plain_county("St. Lawrence County")
    'ST. LAWRENCE'
    """
    small = name.strip().lower()
    for kind in _KIND_OF_PLACE:
        small = small.removesuffix(kind)
    return small.upper()


def _loose(name: str) -> str:
    return "".join(c for c in plain_county(name).replace("SAINT", "ST") if c.isalnum())


def county_codes(
    values: pd.Series, state: str, writing: Writing, letters: dict[str, str]
) -> dict[str, str]:
    """What a file writes for a county → FIPS, for every county of the state.

    Args:
        values: Of the file's column, without blanks: how they are written counts.
        state: Two letters.
        writing: number (by the alphabet), fips_order (a number in the order of the
            FIPS codes), name, fips3 (the last three digits) or letters.
        letters: The state's own code by county, for letters.

    Returns:
        Empty where a value of the file is none of them.
    """
    rows = counties(state)
    if writing == "fips3":
        codes = {fips[2:]: fips for _, fips in rows}
    elif writing == "number":
        by_alphabet = sorted(rows, key=lambda row: row[0].casefold())
        codes = {str(k + 1): fips for k, (_, fips) in enumerate(by_alphabet)}
    elif writing == "fips_order":
        codes = {str(k + 1): fips for k, (_, fips) in enumerate(rows)}
    elif writing == "letters":
        by_name = {_loose(name): fips for name, fips in rows}
        codes = {code: by_name[_loose(name)] for code, name in letters.items()}
    else:
        return _by_name(values, rows)
    padded = values[values.str.startswith("0")]
    width = int(padded.str.len().max()) if len(padded) else 0
    as_written = {_padded(code, width): fips for code, fips in codes.items()}
    return as_written if set(values.unique()) <= set(as_written) else {}


def _padded(code: str, width: int) -> str:
    """A number with as many zeros before it as the file writes: none where 0."""
    return code.lstrip("0").zfill(width) if code.isdigit() else code


def _by_name(values: pd.Series, rows: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Names as the file writes them, for those counties that it has."""
    by_name = {_loose(name): fips for name, fips in rows}
    written = sorted(values.unique())
    if not all(_loose(name) in by_name for name in written):
        return {}
    sample = written[0] if written else ""
    suffix = (
        sample[len(sample.strip()) - 7 :] if sample.lower().endswith(" county") else ""
    )
    style = str.upper if sample.isupper() else str.title
    every = {style(name) + suffix: fips for name, fips in rows}
    return every | {name: by_name[_loose(name)] for name in written}
