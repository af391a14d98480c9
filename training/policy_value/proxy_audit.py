"""Proxy audit: whether scores or the plan predict a special category of personal data.

The special category is used in this audit only. If the scores or the plan predict it
well, they are a proxy for it, whatever columns they were computed from.
"""

from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
from scipy import stats

from hustings.features.arrays import Bools, Floats, Objects
from hustings.training.estimators.metrics import Interval
from hustings.training.estimators.split import unit_folds

AUDITED_AT_MOST = 40_000
MIN_OF_EACH = 50
"""Fewer people with, or without, a category say nothing about it."""
N_FOLDS = 4
_PARAMS = {
    "objective": "binary", "learning_rate": 0.1, "num_leaves": 8,
    "min_data_in_leaf": 50, "verbosity": -1, "num_threads": 1, "deterministic": True,
    "force_row_wise": True,
}  # fmt: skip
_N_TREES = 60


@dataclass(frozen=True)
class Proxy:
    """How well scores and plan predict one special category.

    Attributes:
        auc: Area under the ROC curve of held-out households, with its 95 % interval.
        n_with: People who have it.
        limit: What it must stay below.
    """

    auc: Interval
    n_with: int
    limit: float

    @property
    def ok(self) -> bool:
        """Whether the AUC is not shown to exceed the limit."""
        return self.auc.low <= self.limit


def audit_proxy(
    seen: Floats,
    category: Bools,
    unit_id: Objects,
    *,
    limit: float,
    seed: int = 0,
) -> Proxy | None:
    """Predict a category from scores and plan, on households never seen.

    Args:
        seen: What would be acted on: lifts of every message, the message planned,
            shape (n, k).
        category: Who has it, shape (n,).
        unit_id: Household of each, shape (n,).
        limit: Of the AUC.
        seed: Folds and trees.

    Returns:
        None where too few people have it, or have it not, for any statement.
    """
    if min(category.sum(), (~category).sum()) < MIN_OF_EACH:
        return None
    fold = unit_folds(unit_id, N_FOLDS, salt=f"proxy-{seed}")
    predicted = np.zeros(len(category))
    for k in range(N_FOLDS):
        rest = fold != k
        data = lgb.Dataset(seen[rest], category[rest].astype(float))
        booster = lgb.train({**_PARAMS, "seed": seed}, data, _N_TREES)
        predicted[~rest] = np.asarray(booster.predict(seen[~rest], num_threads=1))
    # folds are compared within themselves: each has a model of its own
    parts = [_auc(predicted[fold == k], category[fold == k], unit_id[fold == k])
             for k in range(N_FOLDS)]  # fmt: skip
    value = float(np.mean([auc for auc, _ in parts]))
    se = float(np.sqrt(np.sum([v for _, v in parts])) / N_FOLDS)
    return Proxy(Interval.of(value, se=se), int(category.sum()), limit)


def _auc(predicted: Floats, category: Bools, unit_id: Objects) -> tuple[float, float]:
    """AUC and its variance, clustered by household.

    Source: Obuchowski (1997), Biometrics 53; placements as in DeLong et al. (1988).
    """
    with_it, without = predicted[category], predicted[~category]
    n, m = len(with_it), len(without)
    if min(n, m) < 2:
        return 0.5, 0.25
    rank = stats.rankdata(np.concatenate([with_it, without]))
    of_with = (rank[:n] - stats.rankdata(with_it)) / m
    of_without = 1.0 - (rank[n:] - stats.rankdata(without)) / n
    auc = float(of_with.mean())
    influence = np.zeros(len(predicted))
    influence[category] = (of_with - auc) / n
    influence[~category] = (of_without - auc) / m
    cluster = np.unique(unit_id, return_inverse=True)[1]
    totals = np.bincount(cluster, weights=influence)
    return auc, float((totals**2).sum())
