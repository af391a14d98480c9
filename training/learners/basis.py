"""Columns of a linear lift model: features, and products of two or three of them.

A feature becomes a few columns: hats over quantiles where it is a number with many
values, one column a level where it has few. A product takes a coarser set of hats. The
columns of a term are scaled together, so that one prior variance is the variance of
lift that the term adds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple, Self

import numpy as np

from hustings.features.arrays import Bools, Floats, Floats32, Ints

Term = tuple[int, ...]
"""Features that are multiplied; one feature is a main effect."""

MOST_FACTORS = 3
FINE = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
COARSE = (0.0, 0.33, 0.67, 1.0)
FEW_VALUES = 6
"""A number with at most so many values is read value by value."""
MIN_LEVEL_SHARE = 0.01
MAX_LEVELS, MAX_COARSE_LEVELS = 12, 6
SMALLEST_VARIANCE = 1e-8
MISSING_SHARE = 0.002
"""A feature missing more often than this gets a column that says so."""
RAREST_SHARE, FEWEST_PEOPLE = 0.01, 50
"""A term of which fewer people, or a smaller share of them, differ from the others is
none: scaled to variance 1 it would give those few a lift that nothing bounds."""
FEW_ROWS = 512
"""So few rows have all columns computed at once: the calls cost more than the sums."""
LARGEST_SHARE = 0.2
"""However few people there are, a term that sets apart so many of them is one."""


class Shape(NamedTuple):
    """How one feature becomes columns.

    Attributes:
        levels: Values with a column of their own; empty for a number.
        fine: Knots of the hats, empty for levels.
        coarse: Knots of the hats in products.
        missing: Whether a column says that the value is missing.
    """

    levels: tuple[float, ...]
    fine: tuple[float, ...]
    coarse: tuple[float, ...]
    missing: bool

    @classmethod
    def of(cls, x: Floats32, *, categorical: bool) -> Self:
        """Build from the values of a feature, shape (n,), NaN where missing."""
        present = x[~np.isnan(x)].astype(np.float64)
        missing = len(present) < (1 - MISSING_SHARE) * len(x)
        values, counts = np.unique(present, return_counts=True)
        if categorical or len(values) <= FEW_VALUES:
            often = counts >= MIN_LEVEL_SHARE * len(x)
            order = np.argsort(-counts[often], kind="stable")[:MAX_LEVELS]
            levels = tuple(float(v) for v in values[often][order])
            # two levels that are never missing are one contrast
            coded_levels = levels[1:] if len(levels) == 2 and not missing else levels
            return cls(coded_levels, (), (), missing)
        return cls((), _knots(present, FINE), _knots(present, COARSE), missing)

    def n_columns(self, *, coarse: bool) -> int:
        """How many columns the feature has."""
        n = len(self.levels or self.fine)
        if coarse and self.levels:
            n = max(1, min(n, MAX_COARSE_LEVELS) - 1)
        elif coarse:
            n = max(0, len(self.coarse) - 1)
        return n + (self.missing and not coarse)

    def columns(self, x: Floats32, *, coarse: bool) -> Floats32:
        """Columns of a feature, shape (k, n); a missing value is 0 in all but one.

        In products the commonest level and the first hat are left out: the features
        by themselves say what they would.
        """
        if self.levels or not self.fine:
            levels = self.levels[1:MAX_COARSE_LEVELS] if coarse else self.levels
            levels = self.levels if len(self.levels) == 1 else levels
            parts = [x == level for level in levels]
        else:
            parts = list(_hats(x, self.coarse)[1:] if coarse else _hats(x, self.fine))
        if self.missing and not coarse:
            parts.append(np.isnan(x))
        return np.array(parts, dtype=np.float32).reshape(len(parts), len(x))


def _knots(present: Floats, quantiles: Sequence[float]) -> tuple[float, ...]:
    """Quantiles of the values that differ; of a number that few have, its usual size.

    Where nearly all have the same value (counts of something rare), a hat that reached
    to the largest would hardly see the others.
    """
    knots = np.unique(np.quantile(present, quantiles))
    if len(knots) == 2 and (present > knots[0]).any():
        knots[1] = np.median(present[present > knots[0]])
    return tuple(float(knot) for knot in knots)


def _hats(x: Floats32, knots: Sequence[float]) -> Floats32:
    """Linear B-splines at the knots, flat beyond the outer ones, shape (k, n)."""
    present = ~np.isnan(x)
    k = np.array(knots, dtype=np.float64)
    # from the middle knot on, so that float32 resolves even a narrow range
    origin = k[len(k) // 2]
    inside = (np.clip(np.where(present, x, origin), k[0], k[-1]) - origin).astype(
        np.float32
    )
    k = k - origin
    hats = np.zeros((len(k), len(x)), dtype=np.float32)
    for j in range(len(k)):
        # a hat is the lower of its two slopes; an outer one has one
        rising = falling = np.float32(1.0)
        if j > 0:
            rising = (inside - np.float32(k[j - 1])) * np.float32(1 / (k[j] - k[j - 1]))
        if j < len(k) - 1:
            falling = (np.float32(k[j + 1]) - inside) * np.float32(
                1 / (k[j + 1] - k[j])
            )
        hats[j] = np.clip(np.minimum(rising, falling), 0.0, 1.0)
    hats *= present
    return hats


@dataclass(frozen=True)
class Basis:
    """Terms of a linear model and the scale of their columns.

    Attributes:
        shapes: Of every feature.
        terms: In the order of the columns.
        centre: Mean of every column, shape (p,).
        scale: Shape (p,); the same for all columns of a term.
        varying: Which raw columns vary at all, shape (p_raw,).
    """

    shapes: tuple[Shape, ...]
    terms: tuple[Term, ...]
    centre: Floats
    scale: Floats
    varying: Bools

    @cached_property
    def group(self) -> Ints:
        """Term of every column, shape (p,)."""
        widths = [self._width(term) for term in self.terms]
        group: Ints = np.repeat(np.arange(len(self.terms)), widths)[self.varying]
        return group

    def _width(self, term: Term) -> int:
        return term_width(self.shapes, term)

    def raw(self, X: Floats32) -> Floats32:
        """Columns as they are, transposed: shape (p, n)."""
        if len(X) <= FEW_ROWS:
            return self._at_once.columns(X)
        columns = raw_columns(self.shapes, self.terms, X)
        return columns if self.varying.all() else columns[self.varying]

    @cached_property
    def _at_once(self) -> "_AtOnce":
        return _AtOnce(self.shapes, self.terms, self.varying)

    def only(self, terms: Sequence[int]) -> Self:
        """The basis of some of its terms, by their position."""
        column = np.isin(self.group, terms)
        raw = np.repeat(
            np.isin(np.arange(len(self.terms)), terms),
            [self._width(term) for term in self.terms],
        )
        return replace(
            self,
            terms=tuple(t for i, t in enumerate(self.terms) if i in set(terms)),
            centre=self.centre[column],
            scale=self.scale[column],
            varying=self.varying[raw],
        )

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        return {
            "shapes": [shape._asdict() for shape in self.shapes],
            "terms": self.terms,
            "centre": self.centre.tolist(),
            "scale": self.scale.tolist(),
            "kept": self.varying.tolist(),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        return cls(
            tuple(
                Shape(
                    tuple(s["levels"]),
                    tuple(s["fine"]),
                    tuple(s["coarse"]),
                    s["missing"],
                )
                for s in stored["shapes"]
            ),
            tuple(tuple(term) for term in stored["terms"]),
            np.array(stored["centre"], dtype=np.float64),
            np.array(stored["scale"], dtype=np.float64),
            np.array(stored["kept"], dtype=bool),
        )


def term_width(shapes: Sequence[Shape], term: Term) -> int:
    """How many columns a term has."""
    width = 1
    for feature in term:
        width *= shapes[feature].n_columns(coarse=len(term) > 1)
    return width


def usable_columns(
    variance: Floats, shapes: Sequence[Shape], terms: Sequence[Term], n: float
) -> Bools:
    """Which raw columns vary and belong to a term that enough people carry, (p_raw,).

    A raw column lies between 0 and 1, and a voter's columns of a term sum to at most 1:
    the variances of a term sum to at most twice the share of voters whom it sets apart.

    Args:
        variance: Of every raw column, shape (p_raw,).
        shapes: Of every feature.
        terms: In the order of the columns.
        n: Voters, or the sum of their weights.
    """
    widths = [term_width(shapes, term) for term in terms]
    term = np.repeat(np.arange(len(terms)), widths)
    carried = np.bincount(term, variance, minlength=len(terms))
    share = min(max(RAREST_SHARE, FEWEST_PEOPLE / max(n, 1.0)), LARGEST_SHARE)
    # 0 or 1 of whom the share is 1 have this variance
    enough = carried >= share * (1.0 - share)
    usable: Bools = (variance > SMALLEST_VARIANCE) & enough[term]
    return usable


def raw_columns(
    shapes: Sequence[Shape], terms: Sequence[Term], X: Floats32
) -> Floats32:
    """Columns of all terms as they are, transposed: shape (p_raw, n)."""
    widths = [term_width(shapes, term) for term in terms]
    out = np.empty((sum(widths), len(X)), dtype=np.float32)
    coarse: dict[int, Floats32] = {}
    for feature in {f for term in terms if len(term) > 1 for f in term}:
        coarse[feature] = shapes[feature].columns(X[:, feature], coarse=True)
    start = 0
    for term, width in zip(terms, widths, strict=True):
        rows = out[start : start + width]
        start += width
        if len(term) == 1:
            rows[:] = shapes[term[0]].columns(X[:, term[0]], coarse=False)
            continue
        left = coarse[term[0]]
        for feature in term[1:-1]:
            left = (left[:, None] * coarse[feature]).reshape(-1, len(X))
        right = coarse[term[-1]]
        np.multiply(
            left[:, None], right, out=rows.reshape(len(left), len(right), len(X))
        )
    return out


class _AtOnce:
    """`raw_columns` of few rows by one operation for the columns of all features.

    Args:
        shapes: Of every feature.
        terms: In the order of the columns.
        varying: Which raw columns are wanted, shape (p_raw,).
    """

    def __init__(
        self, shapes: Sequence[Shape], terms: Sequence[Term], varying: Bools
    ) -> None:
        parts = {(f, len(term) > 1) for term in terms for f in term}
        self._hats, self._levels = _Hats(), _Levels()
        self._missing: list[int] = []
        place: dict[tuple[int, bool], list[tuple[int, int]]] = {}
        for feature, coarse in sorted(parts):
            place[feature, coarse] = self._add(feature, shapes[feature], coarse=coarse)
        offset = (
            0,
            len(self._hats.rows),
            len(self._hats.rows) + len(self._levels.rows),
        )
        at = {
            part: [offset[kind] + row for kind, row in rows]
            for part, rows in place.items()
        }
        n = offset[2] + len(self._missing)
        # a row of ones stands for the factors that a term does not have
        factors = [
            [*row, *[n] * (MOST_FACTORS - len(row))]
            for term in terms
            for row in product(*(at[f, len(term) > 1] for f in term))
        ]
        table = np.array(factors, dtype=np.int64).reshape(-1, MOST_FACTORS)[varying]
        self._factors = list(table[:, : max(map(len, terms), default=1)].T)
        self._n = n

    def _add(
        self, feature: int, shape: Shape, *, coarse: bool
    ) -> list[tuple[int, int]]:
        """Rows of a feature's columns, as (kind, row among that kind)."""
        rows: list[tuple[int, int]] = []
        if shape.levels or not shape.fine:
            levels = shape.levels[1:MAX_COARSE_LEVELS] if coarse else shape.levels
            levels = shape.levels if len(shape.levels) == 1 else levels
            rows += [(1, self._levels.add(feature, level)) for level in levels]
        else:
            knots = shape.coarse if coarse else shape.fine
            hats = [(0, self._hats.add(feature, knots, j)) for j in range(len(knots))]
            rows += hats[1:] if coarse else hats
        if shape.missing and not coarse:
            rows.append((2, len(self._missing)))
            self._missing.append(feature)
        return rows

    def columns(self, X: Floats32) -> Floats32:
        """Columns of all terms, transposed: shape (p, n)."""
        features = X.T
        single = np.concatenate(
            [
                self._hats.columns(features),
                self._levels.columns(features),
                np.isnan(features[self._missing]).astype(np.float32),
                np.ones((1, len(X)), dtype=np.float32),
            ]
        )
        columns: Floats32 = single[self._factors[0]]
        for factor in self._factors[1:]:
            columns *= single[factor]
        return columns


class _Hats:
    """Hats of many features, as `_hats` gives them, bit by bit."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, ...]] = []

    def add(self, feature: int, knots: Sequence[float], j: int) -> int:
        """Row of hat j of a feature."""
        k = np.array(knots, dtype=np.float64)
        origin = k[len(k) // 2]
        first, last, k = k[0], k[-1], k - origin
        # an outer hat has one slope; in place of the other stands 1
        rising = (k[j - 1], 1 / (k[j] - k[j - 1]), 0.0) if j > 0 else (0.0, 0.0, 1.0)
        falling = (
            (k[j + 1], 1 / (k[j + 1] - k[j]), 0.0)
            if j < len(k) - 1
            else (0.0, 0.0, 1.0)
        )
        self.rows.append((feature, first, last, origin, *rising, *falling))
        return len(self.rows) - 1

    @cached_property
    def _table(self) -> tuple[Ints, Floats, Floats32]:
        table = np.array(self.rows, dtype=np.float64).reshape(-1, 10)
        of_slopes = table[:, 4:, None].astype(np.float32)
        return table[:, 0].astype(np.int64), table[:, 1:4, None], of_slopes

    def columns(self, features: Floats32) -> Floats32:
        """Shape (k, n)."""
        feature, bounds, slopes = self._table
        first, last, origin = bounds[:, 0], bounds[:, 1], bounds[:, 2]
        x = features[feature]
        present = ~np.isnan(x)
        inside = np.where(present, x, origin)
        np.maximum(inside, first, out=inside)
        np.minimum(inside, last, out=inside)
        inside = (inside - origin).astype(np.float32)
        rising = (inside - slopes[:, 0]) * slopes[:, 1] + slopes[:, 2]
        falling = (slopes[:, 3] - inside) * slopes[:, 4] + slopes[:, 5]
        lower = np.minimum(rising, falling)
        hats: Floats32 = np.clip(lower, np.float32(0), np.float32(1))
        hats *= present
        return hats


class _Levels:
    """Levels of many features, each a column."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, float]] = []

    def add(self, feature: int, level: float) -> int:
        """Row of a level of a feature."""
        self.rows.append((feature, level))
        return len(self.rows) - 1

    @cached_property
    def _table(self) -> tuple[Ints, Floats32]:
        return (
            np.array([feature for feature, _ in self.rows], dtype=np.int64),
            np.array([level for _, level in self.rows], dtype=np.float32)[:, None],
        )

    def columns(self, features: Floats32) -> Floats32:
        """Shape (k, n)."""
        feature, level = self._table
        columns: Floats32 = (features[feature] == level).astype(np.float32)
        return columns
