"""Voter features as of a date, and their encoding as a numeric matrix.

`voter_features` turns the checked voter file into one row of features per voter;
`Encoding` turns that row into numbers. Both are the same code in training and behind
the scoring endpoint, so a voter gets the same score in both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from hustings.features.arrays import Floats32, Objects, Values
from hustings.features.tables import HISTORY_PREFIX

HISTORY_SHARE = "history_share"
"""Share of the past elections on file in which the voter voted."""
TENURE_YEARS = "tenure_years"
"""Years since registration, at the as-of date."""
MAX_LEVELS = 64
DAYS_A_YEAR = 365.25


def history_columns(columns: Sequence[str], as_of: pd.Timestamp) -> list[str]:
    """Vote-history columns of elections held strictly before a date.

    Args:
        columns: Column names of a voter file.
        as_of: The date; an election on that very day is not history yet.

    >>> history_columns(["age", "voted_20041102_general"], pd.Timestamp("2006-08-08"))
    ['voted_20041102_general']
    """
    dated = [name for name in columns if name.startswith(HISTORY_PREFIX)]
    day = as_of.strftime("%Y%m%d")
    return [name for name in dated if name.removeprefix(HISTORY_PREFIX)[:8] < day]


def voter_features(
    voters: pd.DataFrame, columns: Sequence[str], *, as_of: pd.Timestamp
) -> pd.DataFrame:
    """One row of features per voter, from what was known before a date.

    Args:
        voters: VOTERS table.
        columns: Columns of it that may be features.
        as_of: Elections on or after this date are left out.

    Returns:
        The columns that are history by then, plus age where only a birth year is
        known, the share of past elections voted in and years since registration;
        indexed by voter_id.
    """
    past = set(history_columns(list(voters.columns), as_of))
    feature_columns = [
        c for c in columns if not c.startswith(HISTORY_PREFIX) or c in past
    ]
    feature_columns = [
        c for c in feature_columns if c not in {"birth_year", "registered_on"}
    ]
    features = voters[feature_columns].copy()
    # a file may hold an age that is no feature; it must not come back by the year
    if "age" not in voters and "birth_year" in voters:
        features["age"] = as_of.year - voters["birth_year"]
    voted = [c for c in feature_columns if c in past]
    if voted:
        features[HISTORY_SHARE] = voters[voted].mean(axis=1)
    if "registered_on" in columns:
        days = (as_of - voters["registered_on"]).dt.days
        features[TENURE_YEARS] = days.where(days >= 0) / DAYS_A_YEAR
    return features.set_index(voters["voter_id"].to_numpy())


@dataclass(frozen=True)
class Encoding:
    """How feature columns become numbers: levels of the categories, order of columns.

    Attributes:
        names: Feature columns, in the order of the matrix.
        levels: Known levels of each categorical column; any other level is missing.
    """

    names: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]

    @classmethod
    def fit(cls, features: pd.DataFrame) -> Self:
        """Learn the levels of the categorical columns, the most frequent first."""
        levels = {}
        for name in features.columns:
            if not _is_number(features[name]):
                counts = features[name].dropna().astype(str).value_counts()
                levels[name] = tuple(counts.index[:MAX_LEVELS])
        return cls(tuple(features.columns), levels)

    @property
    def categorical(self) -> list[int]:
        """Positions of the categorical columns in the matrix."""
        return [i for i, name in enumerate(self.names) if name in self.levels]

    def transform(self, features: pd.DataFrame) -> Floats32:
        """Features as a matrix.

        Args:
            features: One row per voter with at least the columns `names`.

        Returns:
            Shape (n_voters, n_features); a missing value or an unseen level is NaN.
        """
        matrix = np.empty((len(features), len(self.names)), dtype=np.float32)
        for i, name in enumerate(self.names):
            matrix[:, i] = self._column(features[name])
        return matrix

    def _column(self, column: pd.Series) -> Floats32:
        if column.name not in self.levels:
            return column.to_numpy(dtype=np.float32, na_value=np.nan)
        levels = pd.Index(self.levels[str(column.name)], dtype=object)
        text = column.astype(object).map(str, na_action="ignore")
        codes = levels.get_indexer(pd.Index(text, dtype=object)).astype(np.float32)
        codes[codes < 0] = np.nan
        return codes

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        levels = {name: list(values) for name, values in self.levels.items()}
        return {"names": list(self.names), "levels": levels}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        levels = {name: tuple(values) for name, values in stored["levels"].items()}
        return cls(tuple(stored["names"]), levels)


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)


AGE_BINS = [0.0, 35.0, 50.0, 65.0, 200.0]
AGE_LABELS = ["under 35", "35-49", "50-64", "65 and over"]
HISTORY_BINS = [-0.01, 0.34, 0.67, 1.01]
HISTORY_LABELS = ["votes seldom", "votes sometimes", "votes often"]
_FIXED_BINS = {
    "age": (AGE_BINS, AGE_LABELS, False),
    HISTORY_SHARE: (HISTORY_BINS, HISTORY_LABELS, True),
}
N_BINS = 3
EVERYONE, UNKNOWN, SEGMENT_JOINT = "everyone", "unknown", " · "


SegmentEdges = Mapping[str, tuple[float, ...]]
"""Edges of the bins of numeric columns, by name; none where each value is a bin."""
NO_EDGES: SegmentEdges = MappingProxyType({})


def segment_edges(
    features: pd.DataFrame, columns: Sequence[str]
) -> dict[str, tuple[float, ...]]:
    """Edges of the bins into which these voters' numbers are cut, by column.

    Bins follow the values that are there: other voters, cut by their own, would be in
    other segments of the same name. Age and vote history have bins of their own.

    Args:
        features: From `voter_features`.
        columns: As of `segments`.
    """
    edges: dict[str, tuple[float, ...]] = {}
    for name in _segment_columns(features, columns):
        column = features[name]
        if name in _FIXED_BINS or not _is_number(column):
            continue
        if column.nunique() <= N_BINS:
            edges[name] = ()
        else:
            cuts = column.astype(np.float64).quantile(np.linspace(0, 1, N_BINS + 1))
            edges[name] = tuple(float(cut) for cut in cuts.unique())
    return edges


class SegmentBins(NamedTuple):
    """The bin of each voter in every column that makes a segment.

    Attributes:
        n: Voters.
        of_column: Column → bin in words, shape (n,).
    """

    n: int
    of_column: Mapping[str, Objects]

    def label(self) -> Objects:
        """The segment of each voter in words, such as "35-49 · F", shape (n,)."""
        if not self.of_column:
            return np.full(self.n, EVERYONE, dtype=object)
        rows = list(zip(*(b.tolist() for b in self.of_column.values()), strict=True))
        # few segments, many voters: each label is one text
        labels = {row: SEGMENT_JOINT.join(row) for row in dict.fromkeys(rows)}
        return _objects([labels[row] for row in rows])


def segment_bins(
    features: pd.DataFrame | Mapping[str, Values],
    columns: Sequence[str],
    edges: SegmentEdges = NO_EDGES,
    *,
    n: int,
) -> SegmentBins:
    """The bin of each voter in every column that makes a segment.

    Args:
        features: From `voter_features`, or arrays: numbers, or texts with None.
        columns: As of `segments`.
        edges: Bins of numbers, from `segment_edges`; those of these voters without.
        n: Voters.
    """
    names = _segment_columns(features, columns)
    values = {name: _values_of(features[name]) for name in names}
    without = [n for n in names if n not in edges and _has_cuts(n, values[n])]
    cuts = {**segment_edges(pd.DataFrame(values), without), **edges} if without else (
        edges
    )  # fmt: skip
    return SegmentBins(
        n, {name: _binned(name, values[name], cuts.get(name)) for name in names}
    )


def segment_parts(
    features: pd.DataFrame, columns: Sequence[str], edges: SegmentEdges = NO_EDGES
) -> pd.DataFrame:
    """`segment_bins` as a table.

    Args:
        features: From `voter_features`.
        columns: As of `segments`.
        edges: Bins of numbers, from `segment_edges`; those of these voters without.

    Returns:
        One column of labels for each that is there, with the voter's index.
    """
    bins = segment_bins(features, columns, edges, n=len(features))
    return pd.DataFrame(bins.of_column, index=features.index, dtype="str")


def segments(
    features: pd.DataFrame, columns: Sequence[str], edges: SegmentEdges = NO_EDGES
) -> pd.Series:
    """The segment of each voter: declared bins of at most three columns.

    Args:
        features: From `voter_features`.
        columns: Any of its columns; "history" means the share of elections voted in.
        edges: See `segment_bins`.

    Returns:
        A label per voter, such as "35-49 · F · votes often", with the voter's index.
    """
    bins = segment_bins(features, columns, edges, n=len(features))
    return pd.Series(bins.label(), index=features.index, dtype="str")


def _segment_columns(
    features: pd.DataFrame | Mapping[str, Values], columns: Sequence[str]
) -> list[str]:
    declared = [HISTORY_SHARE if c == "history" else c for c in columns]
    return [name for name in dict.fromkeys(declared) if name in features]


def _values_of(column: pd.Series | Values) -> Values:
    """Numbers with NaN, or texts with None, shape (n,)."""
    if isinstance(column, np.ndarray):
        return column
    if _is_number(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    texts = column.astype(object)
    return texts.where(texts.notna(), None).to_numpy(dtype=object)


def _has_cuts(name: str, values: Values) -> bool:
    return values.dtype != object and name not in _FIXED_BINS


def _binned(name: str, values: Values, edges: tuple[float, ...] | None) -> Objects:
    """The bin of each value in words, shape (n,)."""
    if values.dtype == object:
        texts = [UNKNOWN if value is None else str(value) for value in values.tolist()]
        return _objects(texts)
    if name in _FIXED_BINS:
        bins, labels, right = _FIXED_BINS[name]
        code = np.searchsorted(bins, values, side="left" if right else "right")
        # what lies outside, and what is NaN, is in no bin
        names = [UNKNOWN, *labels, UNKNOWN]
        return _objects(names)[code]
    is_value = ~np.isnan(values)
    if not edges:
        distinct, code = np.unique(values, return_inverse=True)
        names = [f"{name} {value:g}" for value in distinct.tolist()]
    else:
        names = [f"{name} {a:g}-{b:g}" for a, b in pairwise(edges)]
        # what lies beyond the edges belongs to the outermost bins
        code = np.searchsorted(edges[1:-1], values)
    return _objects([*names, UNKNOWN])[np.where(is_value, code, len(names))]


def _objects(values: Sequence[str]) -> Objects:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
