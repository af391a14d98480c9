"""Voter features as of a date, and their encoding as a numeric matrix.

`voter_features` turns the checked voter file into one row of features per voter;
`Encoding` turns that row into numbers. Both are the same code in training and behind
the scoring endpoint, so a voter gets the same score in both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from hustings.features.arrays import Floats32
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
N_BINS = 3


def segments(features: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """The segment of each voter: declared bins of at most three columns.

    Args:
        features: From `voter_features`.
        columns: Any of its columns; "history" means the share of elections voted in.

    Returns:
        A label per voter, such as "35-49 · F · votes often", with the voter's index.
    """
    segment_columns = [HISTORY_SHARE if c == "history" else c for c in columns]
    parts = [_binned(features[c]) for c in segment_columns if c in features]
    if not parts:
        return pd.Series("everyone", index=features.index)
    label = parts[0]
    for part in parts[1:]:
        label = label + " · " + part
    return label


def _binned(column: pd.Series) -> pd.Series:
    if not _is_number(column):
        return column.astype(object).fillna("unknown").astype(str)
    if column.name == "age":
        binned = pd.cut(column, AGE_BINS, right=False, labels=AGE_LABELS)
    elif column.name == HISTORY_SHARE:
        binned = pd.cut(column, HISTORY_BINS, labels=HISTORY_LABELS)
    elif column.nunique() <= N_BINS:
        binned = column.map(
            lambda value: f"{column.name} {value:g}", na_action="ignore"
        )
    else:
        edges = column.quantile(np.linspace(0, 1, N_BINS + 1)).unique().tolist()
        binned = pd.cut(column, edges, include_lowest=True, precision=3)
        binned = binned.map(lambda cut: f"{column.name} {cut.left:g}-{cut.right:g}")
    return binned.astype(object).fillna("unknown").astype(str)
