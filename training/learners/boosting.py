"""LightGBM as the lift models use it: one binned data set, many targets, folds."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

# OpenMP threads that wait by spinning make a busy machine several times slower
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import lightgbm as lgb
import numpy as np

from hustings.features.arrays import Bools, Floats, Floats32, Ints

N_THREADS = 2
N_FOLDS = 4
"""Folds of every cross-fit; with few units one of them may be empty."""
FEW_ROWS = 256
_FIXED: dict[str, Any] = {
    "objective": "regression",
    "verbosity": -1,
    "num_threads": N_THREADS,
    "deterministic": True,
    "force_row_wise": True,
    "max_bin": 63,
    "feature_pre_filter": False,
    "max_cat_threshold": 16,
    "cat_smooth": 50.0,
}


def binned(X: Floats32, categorical: Sequence[int]) -> lgb.Dataset:
    """Features binned once, for every target, arm and fold.

    Args:
        X: Shape (n, n_features).
        categorical: Columns that hold category codes.
    """
    data = lgb.Dataset(
        X,
        label=np.zeros(len(X)),
        categorical_feature=list(categorical),
        params={k: _FIXED[k] for k in ("max_bin", "verbosity", "feature_pre_filter")},
        free_raw_data=False,
    )
    return data.construct()


def categorical_columns(data: lgb.Dataset) -> list[int]:
    """Columns that a data set from `binned` takes for category codes."""
    return [int(column) for column in data.categorical_feature]


def boost(
    data: lgb.Dataset,
    rows: Bools,
    target: Floats,
    weight: Floats,
    params: Mapping[str, Any],
    *,
    seed: int,
) -> lgb.Booster:
    """One booster on some rows of a binned data set.

    Args:
        data: From `binned`, n rows.
        rows: Which rows to learn from, shape (n,).
        target: Shape (n,).
        weight: Shape (n,).
        params: `n_trees` and LightGBM's own; "model" names the kind and is not read.
        seed: For feature sampling.
    """
    index = np.flatnonzero(rows)
    # constructed first: a subset takes its labels from the parent when it is built
    part = data.subset(index.tolist()).construct()
    part.set_label(target[index])
    part.set_weight(weight[index])
    learned = {k: v for k, v in params.items() if k not in ("model", "n_trees")}
    settings = {**_FIXED, **learned, "seed": seed}
    return lgb.train(settings, part, num_boost_round=int(params["n_trees"]))


@dataclass(frozen=True)
class FoldBoosters:
    """One booster per fold, each fitted on the other folds; a voter meets its own.

    Attributes:
        boosters: `boosters[k]` never saw fold k.
    """

    boosters: tuple[lgb.Booster, ...]

    @classmethod
    def fit(
        cls,
        data: lgb.Dataset,
        rows: Bools,
        target: Floats,
        weight: Floats,
        fold: Ints,
        params: Mapping[str, Any],
        *,
        seed: int,
    ) -> Self:
        """Cross-fit: fold k is predicted by what was learnt on the others."""
        alone = {**params, "num_threads": 1}

        def one(k: int) -> lgb.Booster:
            return boost(data, rows & (fold != k), target, weight, alone, seed=seed + k)

        # a fold a thread: LightGBM's own threads wait for each other at every split
        with ThreadPoolExecutor(N_THREADS) as pool:
            return cls(tuple(pool.map(one, range(max(N_FOLDS, fold.max() + 1)))))

    def predict(self, X: Floats32, fold: Ints | None) -> Floats:
        """Prediction for every voter by the booster of its fold, shape (n,).

        Args:
            X: Shape (n, n_features).
            fold: Shape (n,); None for voters that no booster saw: the mean of all.
        """
        prediction = np.zeros(len(X))
        if fold is None:
            for booster in self.boosters:
                prediction += predicted(booster, X) / len(self.boosters)
            return prediction
        for k, booster in enumerate(self.boosters):
            in_fold = fold == k
            if in_fold.all():
                return predicted(booster, X)
            if in_fold.any():
                prediction[in_fold] = predicted(booster, X[in_fold])
        return prediction

    def save(self, folder: Path, name: str) -> None:
        """Write LightGBM's own text format, a file per fold: nothing executable."""
        for k, booster in enumerate(self.boosters):
            (folder / f"{name}.{k}.lgb.txt").write_text(booster.model_to_string())

    @classmethod
    def load(cls, folder: Path, name: str) -> Self | None:
        """Read what `save` wrote; None where nothing was written."""
        files = sorted(folder.glob(f"{name}.*.lgb.txt"))
        texts = [file.read_text() for file in files]
        return cls(tuple(lgb.Booster(model_str=t) for t in texts)) if texts else None


def predicted(booster: lgb.Booster, X: Floats32) -> Floats:
    """Prediction of one booster, shape (n,)."""
    # waking a second thread costs more than a few rows do
    threads = N_THREADS if len(X) > FEW_ROWS else 1
    return np.asarray(booster.predict(X, num_threads=threads), dtype=np.float64)
