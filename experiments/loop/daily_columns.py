"""Columns of the daily learner, made from the voter file by the learner itself."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from hustings.experiments.declaration import answered_feature_columns
from hustings.experiments.stages.context import Run
from hustings.features.arrays import Floats
from hustings.features.voter import Encoding, voter_features
from hustings.training.learners.daily import (
    ColumnTerms,
    columns,
    lift_columns,
    terms_of,
)

MAX_COEFFICIENTS = 2_000
"""Columns times one and the arms, up to which products of two features are columns."""
ELECTIONS = "voted_"
"""Single elections are left to the share of elections voted in."""


class LearnerColumns(NamedTuple):
    """Columns of voters that the daily learner reads.

    Attributes:
        phi: Columns, the constant first, shape (n, p).
        terms: What the columns belong to.
        features: From `voter_features`, one row a voter, for segments.
    """

    phi: Floats
    terms: ColumnTerms
    features: pd.DataFrame

    @property
    def main(self) -> Floats:
        """Columns of single features, without the constant, shape (n, p_main)."""
        return self.phi[:, 1:][:, ~self.terms.product[1:]]


_KEPT: dict[tuple[Path, str, pd.Timestamp, int], LearnerColumns] = {}


def columns_of(
    run: Run, voters: pd.DataFrame, *, n_arms: int, as_of: pd.Timestamp
) -> LearnerColumns:
    """Columns of the voters of a run; computed once in a process.

    Args:
        run: Whose voter file it is.
        voters: VOTERS of that run.
        n_arms: Arms whose lifts are learned.
        as_of: What was known before it may be a feature.
    """
    key = (run.folder, run.record().snapshot or "", as_of, n_arms)
    if key not in _KEPT:
        names = answered_feature_columns(run.campaign, voters)
        _KEPT.clear()
        _KEPT[key] = learner_columns(voters, names, n_arms=n_arms, as_of=as_of)
    return _KEPT[key]


def learner_columns(
    voters: pd.DataFrame, names: list[str], *, n_arms: int, as_of: pd.Timestamp
) -> LearnerColumns:
    """Features and, where they are few enough, their products of two, as columns.

    Args:
        voters: VOTERS, n of them.
        names: Columns that may be features.
        n_arms: Arms whose lifts are learned.
        as_of: What was known before it may be a feature.
    """
    features = voter_features(voters, names, as_of=as_of)
    read = features[[c for c in features if not str(c).startswith(ELECTIONS)]]
    encoding = Encoding.fit(read)
    X = encoding.transform(read)
    most = MAX_COEFFICIENTS // (1 + n_arms)
    basis = lift_columns(X, encoding.categorical, most=most)
    return LearnerColumns(columns(basis, X), terms_of(basis), features)
