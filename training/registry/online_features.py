"""Features of a request's voters as a matrix, without a table.

`Reader.features` and `Encoding.transform` make them of tables, whole electorates at a
time. Here the same columns are put together from arrays, which for one voter is a
hundred times as fast; a test holds both against each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Self

import numpy as np
import pandas as pd

from hustings.features.affinity import CellAffinities, band_starts
from hustings.features.arrays import Floats, Floats32, Values
from hustings.features.derived import FROM_THE_WHOLE_FILE, Query, with_columns
from hustings.features.ingest.plain import VoterArrays
from hustings.features.partner import LIFT_PREFIX
from hustings.features.persons.linked_reactions import REACTED_PREFIX
from hustings.features.tables import PROVIDER_PREFIX, SEXES, TIMESTAMP, TableError
from hustings.features.voter import (
    DAYS_A_YEAR,
    HISTORY_SHARE,
    TENURE_YEARS,
    Encoding,
    history_columns,
)

_ELSEWHERE = "\0"
"""A place that no cell has."""
_NO_COLUMN = "?"
"""Sex where the voter file has no such column; where it is blank it is unknown."""
_DAY_US = 86_400_000_000
_Cell = tuple[str, str | None, str | None]


@dataclass(frozen=True)
class CellRows:
    """Affinities of every cell, looked up by the parts of a cell.

    Attributes:
        place: The voters' column of the place; empty for none.
        as_of: Gives the age where only a year of birth is on file.
        bands: First and last age of every band.
        rows: Band, sex and place → affinities.
    """

    place: str
    as_of: pd.Timestamp
    bands: Mapping[str, tuple[int, int]]
    rows: Mapping[_Cell, Floats] = field(repr=False)

    @classmethod
    def of(cls, affinities: CellAffinities, as_of: pd.Timestamp) -> Self:
        """Ask for every cell that there is, once."""
        cells = affinities.log_odds.index
        bands = band_starts([b for b in cells.unique("age_band") if b])
        ages = {band: float(first) for band, (first, _) in bands.items()} | {"": np.nan}
        sexes: list[str | None] = [*SEXES, None, _NO_COLUMN]
        places: list[str | None] = [_ELSEWHERE, None]
        if affinities.place:
            places += [name for name in cells.unique("place") if name]
        keys = list(product(ages, sexes, places))
        voters = pd.DataFrame(
            {
                "age": [ages[band] for band, _, _ in keys],
                "sex": pd.Series([sex for _, sex, _ in keys], dtype="str"),
            }
        )
        if affinities.place:
            place = pd.Series([place for _, _, place in keys], dtype="str")
            voters[affinities.place] = place
        joined = affinities.joined_to(voters, as_of=as_of)[affinities.names]
        rows = dict(zip(keys, joined.to_numpy(dtype=np.float64), strict=True))
        return cls(affinities.place, as_of, bands, rows)

    def of_voters(self, voters: VoterArrays) -> Floats:
        """Affinities of voters, shape (n, n_issues)."""
        age = np.full(voters.n, np.nan)
        if "birth_year" in voters:
            age = self.as_of.year - voters["birth_year"]
        if "age" in voters:
            age = np.where(np.isnan(voters["age"]), age, voters["age"])
        band = np.full(voters.n, "", dtype=object)
        for name, (first, last) in self.bands.items():
            band[(age >= first) & (age < last + 1)] = name
        nothing = [None] * voters.n
        sex = voters["sex"] if "sex" in voters else [_NO_COLUMN] * voters.n
        place = voters.columns.get(self.place, nothing)
        return np.array(
            [self._row(cell) for cell in zip(band.tolist(), sex, place, strict=True)]
        ).reshape(voters.n, -1)

    def _row(self, cell: _Cell) -> Floats:
        row, (band, sex, _) = self.rows.get(cell), cell
        return self.rows[band, sex, _ELSEWHERE] if row is None else row


@dataclass(frozen=True)
class OnlineFeatures:
    """How columns of voters become features.

    Attributes:
        encoding: Order of the matrix, levels of the categories.
        feature_columns: Columns of voters that may be features.
        as_of: What is known strictly before it counts.
        whole_file_columns: Features that a row must bring along.
        counting: How a row's own past elections are counted; None for not at all.
        cells: Of the affinities; None where nothing is known.
        affinity_columns: Their names, in the order of the cells' values.
    """

    encoding: Encoding
    feature_columns: tuple[str, ...]
    as_of: pd.Timestamp
    whole_file_columns: tuple[str, ...]
    counting: Query | None
    cells: CellRows | None
    affinity_columns: tuple[str, ...]

    def matrix(self, voters: VoterArrays) -> Floats32:
        """Features as the models read them, shape (n, n_features).

        Args:
            voters: VOTERS, n of them.

        Raises:
            TableError: If the rows come without what only the whole file can tell.
        """
        columns = self.columns(voters, self.encoding.names)
        matrix = np.empty((voters.n, len(self.encoding.names)), dtype=np.float32)
        for i, name in enumerate(self.encoding.names):
            levels = self._codes.get(name)
            if levels is None:
                matrix[:, i] = columns[name]
            else:
                matrix[:, i] = [levels.get(v, np.nan) for v in _texts(columns[name])]
        return matrix

    def unknown_values(self, voters: VoterArrays) -> dict[str, list[str]]:
        """Texts of each column that nobody had whom the models learned from.

        They count as missing.

        Args:
            voters: VOTERS, n of them.
        """
        unknown = {
            name: set(_texts(voters[name])) - levels.keys() - {None}
            for name, levels in self._codes.items()
            if name in voters
        }
        return {
            name: sorted(map(str, values)) for name, values in unknown.items() if values
        }

    @cached_property
    def _codes(self) -> dict[str, dict[str | None, float]]:
        return {
            name: {level: float(k) for k, level in enumerate(levels)}
            for name, levels in self.encoding.levels.items()
        }

    def columns(self, voters: VoterArrays, wanted: Sequence[str]) -> dict[str, Values]:
        """Columns of features by name; those that there are not are left out.

        Args:
            voters: VOTERS, n of them.
            wanted: Which.

        Raises:
            TableError: If the rows come without what only the whole file can tell.
        """
        for name in self.whole_file_columns:
            if name not in voters:
                raise TableError(f"expected a column {name!r}: {FROM_THE_WHOLE_FILE}")
        names, values = set(wanted), dict[str, Values]()
        if self.cells is not None and names & set(self.affinity_columns):
            affinities = self.cells.of_voters(voters)
            values |= dict(zip(self.affinity_columns, affinities.T, strict=True))
        if self.counting is not None and names & set(self.counting.names):
            values |= self._counted(voters, self.counting)
        for name in names - values.keys():
            column = self._column(voters, name)
            if column is not None:
                values[name] = column
        return {name: values[name] for name in wanted if name in values}

    def _column(self, voters: VoterArrays, name: str) -> Values | None:
        if name == HISTORY_SHARE and self._voted(voters):
            return _mean([voters[c] for c in self._voted(voters)])
        if name == TENURE_YEARS and "registered_on" in self.feature_columns:
            return self._tenure(voters["registered_on"])
        # a file may hold an age that is no feature; it must not come back by the year
        if name == "age" and "age" not in voters and "birth_year" in voters:
            years: Values = self.as_of.year - voters["birth_year"]
            return years
        if name not in self.feature_columns or name in ("birth_year", "registered_on"):
            return None
        if name in voters:
            values = voters[name]
            return np.nan_to_num(values) if name.startswith(REACTED_PREFIX) else values
        if name.startswith(REACTED_PREFIX):
            return np.zeros(voters.n)
        if name.startswith((LIFT_PREFIX, PROVIDER_PREFIX)):
            return np.full(voters.n, np.nan)
        return None

    def _voted(self, voters: VoterArrays) -> list[str]:
        return [name for name in self._past_elections if name in voters]

    @cached_property
    def _past_elections(self) -> list[str]:
        return history_columns(self.feature_columns, self.as_of)

    def _tenure(self, registered_on: Values) -> Values:
        ticks = registered_on.astype(TIMESTAMP).view(np.int64)
        days = (np.datetime64(self.as_of, "us").view(np.int64) - ticks) // _DAY_US
        is_past = ~np.isnat(registered_on) & (days >= 0)
        return np.where(is_past, days, np.nan) / DAYS_A_YEAR

    def _counted(self, voters: VoterArrays, counting: Query) -> dict[str, Values]:
        present = [name for name in counting.names if name in voters]
        read = [*dict.fromkeys([*counting.columns, *present])]
        counted = with_columns(voters.frame(read), counting)
        return {name: counted[name].to_numpy() for name in counting.names}


def _mean(columns: Sequence[Values]) -> Values:
    """Mean of what is known of each row, NaN where nothing is."""
    table = np.column_stack(columns)
    is_value = ~np.isnan(table)
    n = is_value.sum(axis=1)
    total = np.where(is_value, table, 0.0).sum(axis=1)
    mean: Values = np.divide(total, n, out=np.full(len(table), np.nan), where=n > 0)
    return mean


def _texts(column: Values) -> list[str | None]:
    if column.dtype == object:
        return column.tolist()  # type: ignore[no-any-return]
    return [None if np.isnan(value) else str(value) for value in column.tolist()]
