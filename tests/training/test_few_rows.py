"""Columns of few rows, computed at once, are those that many rows get, bit by bit."""

from itertools import combinations

import numpy as np
import pytest

from hustings.training.learners import basis, ridge
from hustings.training.learners.basis import Basis, Shape, raw_columns
from hustings.training.learners.ridge import RidgeFeature


def features(seed: int) -> np.ndarray:
    """Numbers, codes, counts of something rare and constants, some of them missing."""
    rng, n = np.random.default_rng(seed), 700
    X = np.column_stack(
        [
            rng.normal(size=n), rng.lognormal(10, 1, n), rng.integers(0, 9, n),
            rng.integers(0, 2, n), rng.integers(0, 30, n), np.zeros(n),
            rng.poisson(0.05, n), 1e6 + rng.random(n), rng.integers(0, 4, n),
            np.full(n, np.nan),
        ]
    ).astype(np.float32)  # fmt: skip
    X[rng.random(X.shape) < 0.05] = np.nan
    return X


@pytest.mark.parametrize("seed", range(4))
def test_products_of_a_basis(seed):
    X = features(seed)
    shapes = tuple(
        Shape.of(X[:, j], categorical=j in (2, 8)) for j in range(X.shape[1])
    )
    n = len(shapes)
    terms = (
        *((j,) for j in range(n)), *combinations(range(n), 2), (0, 2, 3), (1, 4, 8)
    )  # fmt: skip
    every = raw_columns(shapes, terms, X)
    varying = np.random.default_rng(seed).random(len(every)) < 0.7
    of = Basis(shapes, terms, np.zeros(0), np.zeros(0), varying)
    for rows in (X[:1], X[5:6], X[: basis.FEW_ROWS]):
        few, expected = of.raw(rows), raw_columns(shapes, terms, rows)[varying]
        assert few.dtype == expected.dtype
        assert np.array_equal(few, expected)
    assert len(every) > 300


@pytest.mark.parametrize("seed", range(4))
def test_columns_of_a_ridge(seed):
    X = features(seed)
    shapes = [
        RidgeFeature.of(X[:, j], categorical=j in (2, 8)) for j in range(X.shape[1])
    ]
    for rows in (X[:1], X[5:6], X[: ridge.FEW_ROWS], X[:0]):
        few, expected = (
            ridge._AtOnce(shapes).columns(rows),
            ridge._columns(shapes, rows),
        )
        assert few.dtype == expected.dtype
        assert np.array_equal(few, expected)
