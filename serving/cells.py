"""Cells of place, age band and sex, for channels that take no lists of people."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.tables import SMALLEST_CELL

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

AGE_BANDS = (18, 25, 35, 45, 55, 65)
"""First years of the bands that platforms offer."""
KEYS = ("place", "age_band", "sex")
UNKNOWN, APART = "unknown", " | "


def cells_for(
    voters: pd.DataFrame, keys: Sequence[str], *, place: str = "county_fips"
) -> pd.Series:
    """The cell of every voter by what a channel lets one choose by.

    Args:
        voters: VOTERS.
        keys: place, age_band, sex.
        place: The column of the place.

    Returns:
        A label by voter_id; '' in a cell of fewer than 20 people.

    Raises:
        ValueError: If a key is none of these.
    """
    strange = [key for key in keys if key not in KEYS]
    if strange:
        raise ValueError(f"expected keys of {', '.join(KEYS)}, got {strange[0]!r}")
    columns = [_told(voters, key, place) for key in keys]
    label = columns[0]
    for column in columns[1:]:
        label = label + APART + column
    size = label.map(label.value_counts())
    kept = label.where(size >= SMALLEST_CELL, "")
    return pd.Series(kept.to_numpy(dtype=object), index=voters["voter_id"])


def _told(voters: pd.DataFrame, key: str, place: str) -> pd.Series:
    if key == "age_band":
        return _age_band(voters["age"])
    column, unknown = (place, UNKNOWN) if key == "place" else ("sex", "U")
    return voters[column].astype(object).fillna(unknown).astype(str)


def _age_band(age: pd.Series) -> pd.Series:
    ends = [*(str(b - 1) for b in AGE_BANDS[1:]), ""]
    names = [f"{a}-{b}" if b else f"{a}+" for a, b in zip(AGE_BANDS, ends, strict=True)]
    band = np.searchsorted(AGE_BANDS, age.to_numpy(dtype=np.float64), side="right") - 1
    known = age.notna().to_numpy() & (band >= 0)
    told = np.where(known, np.array(names, dtype=object)[np.maximum(band, 0)], UNKNOWN)
    return pd.Series(told, index=age.index, dtype=object)


def averaged(value: Floats, allowed: Bools, cell: pd.Series) -> tuple[Floats, Bools]:
    """Values that are alike within a cell, for arms that a cell gets as a whole.

    Args:
        value: Of every voter and arm, shape (n, A).
        allowed: Shape (n, A).
        cell: From `cells_for`, shape (n,).

    Returns:
        Mean value of those of the cell who may get the arm, and permission without
        those in cells that are too small; shape (n, A) each.
    """
    code, names = pd.factorize(cell.to_numpy(dtype=object))
    there = allowed & (cell.to_numpy(dtype=object) != "")[:, None]
    found = np.zeros_like(value)
    for a in range(value.shape[1]):
        n = np.bincount(code, weights=there[:, a], minlength=len(names))
        total = np.bincount(
            code, weights=np.where(there[:, a], value[:, a], 0.0), minlength=len(names)
        )
        mean = np.divide(total, n, out=np.zeros(len(names)), where=n > 0)
        found[:, a] = mean[code]
    return found, there
