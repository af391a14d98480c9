"""A small exact ridge regression, cross-fitted: what few people can tell of an outcome.

Trees need a hundred people a leaf; a straight line in a handful of features needs
two. A number is one column, cut off at its outer percentiles so that nobody's
prediction runs away; a category is one column a level; whatever is missing has a column
that says so. All fits share one set of sums, so that a fold more costs nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np

from hustings.features.arrays import Bools, Floats, Floats32, Ints

PERCENTILES = (0.01, 0.99)
"""A number counts as its outer percentiles beyond them."""
MIN_LEVEL_SHARE = 0.01
MAX_LEVELS = 12
MISSING_SHARE = 0.01
"""A feature missing more often than this gets a column that says so."""
PENALTIES = np.geomspace(1e-4, 1e2, 31)
"""Penalties tried, as shares of the (effective) number of people."""
MIN_ROWS = 8
"""Fewer people than this tell no more than their mean."""
CHUNK = 16_384
FEW_ROWS = 512
"""So few rows have all columns computed at once: the calls cost more than the sums."""


class RidgeFeature(NamedTuple):
    """How one feature becomes columns.

    Attributes:
        levels: Values with a column of their own; empty for a number.
        low: Least value that a number counts as.
        high: Greatest value that a number counts as.
        missing: Whether a column says that the value is missing.
    """

    levels: tuple[float, ...]
    low: float
    high: float
    missing: bool

    @classmethod
    def of(cls, x: Floats32, *, categorical: bool) -> Self:
        """Build from the values of a feature, shape (n,), NaN where missing."""
        present = x[~np.isnan(x)].astype(np.float64)
        missing = MISSING_SHARE * len(x) < len(present) < (1 - MISSING_SHARE) * len(x)
        if not categorical:
            low, high = np.quantile(present, PERCENTILES) if len(present) else (0, 0)
            return cls((), float(low), float(high), missing)
        values, counts = np.unique(present, return_counts=True)
        often = counts >= MIN_LEVEL_SHARE * len(x)
        order = np.argsort(-counts[often], kind="stable")[:MAX_LEVELS]
        # the commonest level is what the others are compared with
        return cls(tuple(float(v) for v in values[often][order][1:]), 0.0, 0.0, missing)

    def columns(self, x: Floats32) -> list[Floats32]:
        """Columns of a feature, shape (n,) each; a missing number is in the middle."""
        present = ~np.isnan(x)
        if self.levels:
            parts = [(x == level).astype(np.float32) for level in self.levels]
        elif self.high > self.low:
            middle = (self.low + self.high) / 2
            # about the middle, so that float32 resolves even a narrow range
            inside = np.clip(np.where(present, x, middle), self.low, self.high)
            parts = [((inside - middle) / (self.high - self.low)).astype(np.float32)]
        else:
            parts = []
        if self.missing:
            parts.append((~present).astype(np.float32))
        return parts


@dataclass(frozen=True)
class FoldRidges:
    """One ridge regression a fold, each fitted on the other folds, and one of all.

    Attributes:
        features: Of every column of X.
        mean: Mean target of the fit without each fold, and of all, (n_folds + 1,).
        centre: Mean of every column in those fits, shape (n_folds + 1, p).
        slopes: Shape (n_folds + 1, p).
    """

    features: tuple[RidgeFeature, ...]
    mean: Floats
    centre: Floats
    slopes: Floats

    @classmethod
    def fit(
        cls,
        X: Floats32,
        categorical: Sequence[int],
        rows: Bools,
        target: Floats,
        weight: Floats,
        fold: Ints,
        n_folds: int,
    ) -> Self:
        """Cross-fit: fold k is predicted by what was learnt on the others.

        The penalty of each fit is chosen by generalised cross-validation.

        Args:
            X: Features, shape (n, n_features).
            categorical: Columns of X that hold category codes.
            rows: Which rows to learn from, shape (n,).
            target: Shape (n,).
            weight: Shape (n,).
            fold: Shape (n,).
            n_folds: How many folds, one of which may be empty.

        Source: Golub, Heath & Wahba (1979).
        """
        features = tuple(
            RidgeFeature.of(X[:, j], categorical=j in set(categorical))
            for j in range(X.shape[1])
        )
        sums = [
            _sums(features, X, np.flatnonzero(rows & (fold == k)), target, weight)
            for k in range(n_folds)
        ]
        # added, not subtracted from all: a fit must not even round by its own fold
        without = [_added(sums[:k] + sums[k + 1 :]) for k in range(n_folds)]
        fits = [_solved(part) for part in (*without, _added(sums))]
        mean, centre, slopes = (np.array(part) for part in zip(*fits, strict=True))
        return cls(features, mean, centre, slopes)

    def predict(self, X: Floats32, fold: Ints | None) -> Floats:
        """Prediction of every voter by the fit of its fold, shape (n,).

        Args:
            X: Shape (n, n_features).
            fold: Shape (n,); None for voters that no fit saw: the fit of all.
        """
        constant = self.mean - (self.centre * self.slopes).sum(axis=1)
        predicted = np.empty(len(X))
        for rows in _chunks(len(X)):
            # all fits at once: one product of matrices
            fits = slice(-1, None) if fold is None else slice(None)
            each = constant[fits, None] + self.slopes[fits] @ self._columns(X[rows])
            at = 0 if fold is None else fold[rows]
            predicted[rows] = each[at, np.arange(each.shape[1])]
        return predicted

    def _columns(self, X: Floats32) -> Floats32:
        if len(X) <= FEW_ROWS:
            return self._at_once.columns(X)
        return _columns(self.features, X)

    @cached_property
    def _at_once(self) -> "_AtOnce":
        return _AtOnce(self.features)

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        return {
            "features": [feature._asdict() for feature in self.features],
            "mean": self.mean.tolist(),
            "centre": self.centre.tolist(),
            "slopes": self.slopes.tolist(),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        n_fits = len(stored["mean"])
        return cls(
            tuple(
                RidgeFeature(**{**feature, "levels": tuple(feature["levels"])})
                for feature in stored["features"]
            ),
            np.array(stored["mean"], dtype=np.float64),
            np.array(stored["centre"], dtype=np.float64).reshape(n_fits, -1),
            np.array(stored["slopes"], dtype=np.float64).reshape(n_fits, -1),
        )


def _columns(features: Sequence[RidgeFeature], X: Floats32) -> Floats32:
    """Columns of all features, transposed: shape (p, n)."""
    parts = [
        column for j, feature in enumerate(features)
        for column in feature.columns(X[:, j])
    ]  # fmt: skip
    return np.array(parts, dtype=np.float32).reshape(len(parts), len(X))


class _AtOnce:
    """`_columns` of few rows by one operation for the columns of all features.

    Args:
        features: Of every column of X.
    """

    def __init__(self, features: Sequence[RidgeFeature]) -> None:
        numbers: list[tuple[float, ...]] = []
        levels: list[tuple[int, float]] = []
        missing: list[int] = []
        order: list[tuple[int, int]] = []
        for j, feature in enumerate(features):
            if feature.levels:
                for level in feature.levels:
                    order.append((1, len(levels)))
                    levels.append((j, level))
            elif feature.high > feature.low:
                order.append((0, len(numbers)))
                middle = (feature.low + feature.high) / 2
                numbers.append((j, feature.low, feature.high, middle))
            if feature.missing:
                order.append((2, len(missing)))
                missing.append(j)
        offset = (0, len(numbers), len(numbers) + len(levels))
        self._order = np.array([offset[k] + row for k, row in order], dtype=np.int64)
        table = np.array(numbers, dtype=np.float64).reshape(-1, 4)
        self._number = table[:, 0].astype(np.int64)
        self._low, self._high, self._middle = (
            table[:, 1:, None].astype(np.float32).transpose(1, 0, 2)
        )
        self._width = (table[:, 2] - table[:, 1])[:, None].astype(np.float32)
        self._level = np.array([j for j, _ in levels], dtype=np.int64)
        self._value = np.array([v for _, v in levels], dtype=np.float32)[:, None]
        self._missing = missing

    def columns(self, X: Floats32) -> Floats32:
        """Shape (p, n)."""
        features = X.T
        x = features[self._number]
        inside = np.where(np.isnan(x), self._middle, x)
        np.maximum(inside, self._low, out=inside)
        np.minimum(inside, self._high, out=inside)
        parts = np.concatenate(
            [
                (inside - self._middle) / self._width,
                (features[self._level] == self._value).astype(np.float32),
                np.isnan(features[self._missing]).astype(np.float32),
            ]
        )
        return np.asarray(parts[self._order])


def _chunks(n: int) -> Iterator[slice]:
    for start in range(0, n, CHUNK):
        yield slice(start, min(start + CHUNK, n))


class _Sums(NamedTuple):
    """Weighted sums of products of (1, columns, target), and of squared weights."""

    products: Floats  # (p + 2, p + 2)
    squared_weight: float


def _sums(
    features: Sequence[RidgeFeature],
    X: Floats32,
    index: Ints,
    target: Floats,
    weight: Floats,
) -> _Sums:
    p = len(_columns(features, X[:0]))
    products = np.zeros((p + 2, p + 2))
    for chunk in _chunks(len(index)):
        rows = index[chunk]
        columns = np.vstack(
            [np.ones(len(rows)), _columns(features, X[rows]), target[rows]]
        )
        products += (columns * weight[rows]) @ columns.T
    return _Sums(products, float((weight[index] ** 2).sum()))


def _added(sums: Sequence[_Sums]) -> _Sums:
    return _Sums(
        np.sum([part.products for part in sums], axis=0),
        sum(part.squared_weight for part in sums),
    )


def _solved(sums: _Sums) -> tuple[float, Floats, Floats]:
    """Mean of the target, means of the columns and slopes of one fit."""
    total, p = sums.products[0, 0], len(sums.products) - 2
    nothing = np.zeros(p)
    if total <= 0:
        return 0.0, nothing, nothing
    mean, moments = sums.products[0, 1:] / total, sums.products[1:, 1:] / total
    moments = moments - np.outer(mean, mean)
    variance = np.maximum(np.diag(moments)[:-1], 0.0)
    n = total**2 / max(sums.squared_weight, 1e-300)
    varying = variance > 1e-8
    if n < MIN_ROWS or moments[-1, -1] <= 0 or not varying.any():
        return float(mean[-1]), mean[:-1], nothing
    scale = np.sqrt(variance[varying])
    gram = moments[:-1, :-1][np.ix_(varying, varying)] / np.outer(scale, scale)
    slopes = nothing.copy()
    slopes[varying] = (
        _ridge(gram, moments[:-1, -1][varying] / scale, float(moments[-1, -1]), n)
        / scale
    )
    return float(mean[-1]), mean[:-1], slopes


def _ridge(gram: Floats, cross: Floats, variance: float, n: float) -> Floats:
    """Slopes of the penalty with the least generalised cross-validation error.

    Args:
        gram: Correlations of the columns, shape (p, p).
        cross: Covariances with the target, shape (p,).
        variance: Of the target.
        n: Effective number of people.
    """
    eigenvalues, vectors = np.linalg.eigh(gram)
    eigenvalues = np.maximum(eigenvalues, 0.0)
    along = vectors.T @ cross
    shrunken = 1.0 / (eigenvalues + PENALTIES[:, None])
    explained = along**2 * (2 * shrunken - eigenvalues * shrunken**2)
    residual = np.maximum(variance - explained.sum(axis=1), 0.0)
    freedom = 1.0 + (eigenvalues * shrunken).sum(axis=1)
    left = 1.0 - freedom / n
    # a fit with as many slopes as people says nothing of its error
    error = np.where(left > 0.05, residual / np.maximum(left, 0.05) ** 2, np.inf)
    best = int(np.argmin(error))
    if error[best] >= variance / (1.0 - 1.0 / n) ** 2:
        return np.zeros(len(cross))
    return np.asarray(vectors @ (along * shrunken[best]))
