"""Affinities by demographic cell, joined to the voters as columns.

The training part estimates which cells react well to which issue and returns a table by
cell (AFFINITIES); this module finds each voter's cell and joins its affinities. A cell
is an age band, a sex and a place and nothing else: it holds no trait that the law
protects and describes no person.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pandas as pd

from hustings.features.tables import SEXES, SMALLEST_CELL, TableError

AFFINITY_PREFIX = "affinity__"
"""`affinity__<issue>`: log odds with which the voter's cell reacts well."""
ANY = ""
"""In a cell: whatever the value."""
CELL = ["age_band", "sex", "place"]
PLACES = ("county_fips", "state")
"""Columns that can be the place of a cell, the finest first."""
MARGINS = ((1, 1, 1), (1, 1, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0))
"""Combinations of cell parts that AFFINITIES has rows for. A voter whose full cell has
no row gets the first of these margins that has one."""
_DIGITS = 4


def affinity_column(issue: str) -> str:
    """Column of an issue.

    >>> affinity_column("health care")
    'affinity__health care'
    """
    return f"{AFFINITY_PREFIX}{issue}"


def place_kind(counts: pd.DataFrame) -> str:
    """The finest place column with a value in the counts; empty if none has one."""
    counted_places = (
        name for name in PLACES if name in counts and counts[name].notna().any()
    )
    return next(counted_places, "")


def band_starts(bands: Sequence[str]) -> dict[str, tuple[int, int]]:
    """First and last age of every band, in their order.

    Raises:
        TableError: If two bands overlap, so that an age has two cells.

    >>> band_starts(["65+", "18-64"])
    {'18-64': (18, 64), '65+': (65, 200)}
    """
    ends = {band: _ends(band) for band in bands}
    ordered = dict(sorted(ends.items(), key=lambda item: item[1]))
    for one, other in pairwise(ordered.items()):
        if one[1][1] >= other[1][0]:
            raise TableError(
                f"table reaction_counts: expected age bands that do not overlap, got "
                f"{one[0]!r} and {other[0]!r}; map both to one under "
                "[tables.reaction_counts.columns] age_band in campaign.toml"
            )
    return ordered


def _ends(band: str) -> tuple[int, int]:
    first, _, last = band.removesuffix("+").partition("-")
    return int(first), int(last) if last else 200


def voter_cells(
    voters: pd.DataFrame, bands: Sequence[str], place: str, *, as_of: pd.Timestamp
) -> pd.DataFrame:
    """The cell of every voter.

    Args:
        voters: VOTERS table.
        bands: Age bands to distinguish.
        place: Column that is the place; empty for none.
        as_of: Gives the age where only a year of birth is on file.

    Returns:
        Columns age_band, sex and place, empty where unknown, with the voters' index.
    """
    nothing = pd.Series(ANY, index=voters.index, dtype="str")
    sex = voters["sex"].fillna("U") if "sex" in voters else nothing
    parts = {
        "age_band": _banded(_ages(voters, as_of), bands),
        "sex": sex.map({value: value for value in SEXES}).fillna(ANY),
        "place": voters[place].fillna(ANY) if place in voters else nothing,
    }
    return pd.DataFrame(parts).astype("str")


def _ages(voters: pd.DataFrame, as_of: pd.Timestamp) -> pd.Series:
    age = pd.Series(np.nan, index=voters.index)
    if "birth_year" in voters:
        age = as_of.year - voters["birth_year"]
    return voters["age"].fillna(age) if "age" in voters else age


def _banded(age: pd.Series, bands: Sequence[str]) -> pd.Series:
    ends = band_starts(bands)
    label = pd.Series(ANY, index=age.index, dtype="str")
    for band, (first, last) in ends.items():
        label = label.mask((age >= first) & (age < last + 1), band)
    return label


def margin(cells: pd.DataFrame, keeps_part: Sequence[int]) -> pd.DataFrame:
    """Replace the parts of cells that are not kept by `ANY`, in the order of `CELL`.

    >>> margin(pd.DataFrame([["18-24", "F", "MI"]], columns=CELL), (1, 0, 0)).iloc[0, 1]
    ''
    """
    dropped = [c for c, keep in zip(CELL, keeps_part, strict=True) if not keep]
    return cells.assign(**dict.fromkeys(dropped, ANY))


def comparable_cells(cells: pd.DataFrame, other_cells: pd.DataFrame) -> pd.DataFrame:
    """Voter cells reduced to the parts in which another table of cells differs.

    >>> other_cells = pd.DataFrame([["18-24", "", "MI"]], columns=CELL)
    >>> cells = pd.DataFrame([["65+", "F", "OH"]], columns=CELL)
    >>> comparable_cells(cells, other_cells).iloc[0].tolist()
    ['65+', '', 'OH']
    """
    return margin(cells, [bool((other_cells[c] != ANY).any()) for c in CELL])


@dataclass(frozen=True)
class CellAffinities:
    """AFFINITIES in the form that joins to voter rows: aggregates, no person's data.

    Attributes:
        place: The voters' column of the place; empty for none.
        log_odds: Indexed by age_band, sex and place; a column an issue.
    """

    place: str
    log_odds: pd.DataFrame

    @classmethod
    def of(cls, affinities: pd.DataFrame) -> Self:
        """Build from an AFFINITIES table."""
        share = affinities["affinity"].clip(1e-6, 1 - 1e-6)
        logit = np.log(share / (1 - share)).round(_DIGITS)
        wide = affinities.assign(logit=logit).pivot_table(
            index=CELL, columns="issue", values="logit"
        )
        wide.columns.name = None
        kind = affinities["place_kind"].iloc[0] if len(affinities) else ANY
        return cls(str(kind), wide)

    @property
    def names(self) -> list[str]:
        """Columns that a voter gets."""
        return [affinity_column(issue) for issue in self.log_odds.columns]

    def joined_to(self, voters: pd.DataFrame, *, as_of: pd.Timestamp) -> pd.DataFrame:
        """Add a column `affinity__<issue>` to the voters for every issue.

        Args:
            voters: VOTERS rows.
            as_of: As in `voter_cells`.
        """
        bands = [b for b in self.log_odds.index.unique("age_band") if b != ANY]
        of_voter = voter_cells(voters, bands, self.place, as_of=as_of)
        of_voter = comparable_cells(of_voter, self.log_odds.index.to_frame())
        # there are far fewer cells than voters
        group = of_voter.groupby(CELL, sort=False).ngroup().to_numpy()
        cells = of_voter.drop_duplicates(ignore_index=True)
        row = np.full(len(cells), -1)
        for margin_parts in MARGINS:
            margin_cells = margin(cells, margin_parts)
            margin_rows = self.log_odds.index.get_indexer(
                pd.MultiIndex.from_frame(margin_cells)
            )
            # everybody comes last, whichever part of the cell is unknown
            nothing = (margin_cells == ANY).all(axis=1).to_numpy() & any(margin_parts)
            row = np.where((row < 0) & ~nothing, margin_rows, row)
        # a table without its last margin knows nothing of such a voter
        values = np.vstack([self.log_odds.to_numpy(), np.full(len(self.names), np.nan)])
        columns = dict(zip(self.names, values[row][group].T, strict=True))
        return voters.assign(**columns)

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        return {
            "place": self.place,
            "issues": list(self.log_odds.columns),
            "cells": [list(cell) for cell in self.log_odds.index],
            "log_odds": self.log_odds.to_numpy().tolist(),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        cells = pd.MultiIndex.from_tuples(map(tuple, stored["cells"]), names=CELL)
        values = np.array(stored["log_odds"], dtype=np.float64)
        return cls(
            stored["place"], pd.DataFrame(values, cells, columns=stored["issues"])
        )


def without(counts: pd.DataFrame, barred: Sequence[str]) -> pd.DataFrame:
    """Reaction counts without the breakdowns that may not be features.

    Args:
        counts: REACTION_COUNTS table.
        barred: Voters' columns that may be no feature; a birth year counts as age.
    """
    names = {"age": "age_band", "birth_year": "age_band"}
    hidden = {names.get(c, c) for c in barred} & {"age_band", "sex", *PLACES}
    return counts.assign(
        **{c: pd.Series(None, counts.index, "str") for c in hidden if c in counts}
    )


def is_small(n: pd.Series) -> pd.Series:
    """Whether each group has fewer people than the privacy floor, `SMALLEST_CELL`."""
    return n < SMALLEST_CELL
