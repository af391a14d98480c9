"""The linear lift model: features and their products, pooled over messages.

Doubly robust lifts are regressed on features, products of two and products of three
whose parts matter, with the adaptive prior of `learners.pooled`: which terms matter,
to all messages or to one, and by how much, is learnt from all of them. Terms that add
next to nothing are left out of the fitted model, so that it scores millions of voters
a second. Every fold is predicted by a fit that never saw it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hustings.features.arrays import Bools, Floats, Floats32, Ints
from hustings.training.estimators.metrics import weighted_rows
from hustings.training.learners.affinity_slope import (
    AffinitySlope,
    fit_affinity_slope,
    own_affinity,
)
from hustings.training.learners.basis import (
    Basis,
    Shape,
    Term,
    raw_columns,
    term_width,
    usable_columns,
)
from hustings.training.learners.pooled import (
    Candidates,
    EffectMoments,
    TermPosterior,
    fit_pooled,
    sharing,
    whitened,
)

DEFAULT_LINEAR: Mapping[str, Any] = {
    "screen": 0.5, "order": 3, "max_columns": 1500,
}  # fmt: skip
CHUNK = 8_192
N_THREADS = 2
VOTERS_PER_COLUMN = 8
MAX_TRIED = 500
"""Columns of features, and of products, that are tried in one fit."""
LIKELY, UNLIKELY = 0.5, 0.1
"""Pairs that matter with a higher probability than the first have products of three
built on them; with a lower one than the second they are left out beside those."""
NEGLIGIBLE = 0.005
"""Share of a message's spread of lift that may go for the speed of scoring; its
variance stays in the interval."""

_Weights = tuple[Floats32, Floats32]
"""Of columns, and what centring takes off."""


@dataclass(frozen=True)
class LinearFit:
    """Heterogeneity as a linear model: a fit without each fold, and one of all.

    Attributes:
        basis: Columns of all fits together, p of them.
        coefficients: Shape (n_folds + 1, p, M); the last is of all voters.
        directions: Of uncertainty, each as long as its standard deviation, an array
            (p, M, k) for every fit.
        unexplained: Mean variance beside them, shape (n_folds + 1, M).
        n_unsettled: Fits whose search of the prior still moved after the most sweeps.
        affinity_slope: Lift by affinity for a message's issue; None where none is
            known.
    """

    basis: Basis
    coefficients: Floats
    directions: tuple[Floats, ...]
    unexplained: Floats
    n_unsettled: int
    affinity_slope: AffinitySlope | None = None

    @property
    def n_folds(self) -> int:
        """How many folds were left out in turn."""
        return len(self.coefficients) - 1

    def deviation(self, X: Floats32, fold: Ints | None) -> Floats:
        """Lift less the average effect, shape (n, M).

        Args:
            X: Features, shape (n, n_features).
            fold: Fold of each voter, shape (n,), predicted by the fit without it;
                None for voters that no fit saw, predicted by the fit of all.
        """
        (deviation,) = self._predicted(X, fold, [self._mean(fold)])
        return self._with_affinity(deviation, X, fold)

    def moments(self, X: Floats32, fold: Ints | None) -> tuple[Floats, Floats]:
        """`deviation` and its posterior variance, all terms included, (n, M) each.

        Args:
            X: Features, shape (n, n_features).
            fold: As in `deviation`.
        """
        moments = [self._mean(fold), self._spread(fold)]
        deviation, variance = self._predicted(X, fold, moments)
        if self.affinity_slope is not None:
            variance += self.affinity_slope.doubt(X, fold)
        return self._with_affinity(deviation, X, fold), variance

    def _mean(self, fold: Ints | None) -> "_Along":
        return _Along(self._used(fold).along_coefficients, lambda along, _: along)

    def _spread(self, fold: Ints | None) -> "_Along":
        def spread(along: Floats32, k: int) -> Floats:
            by_message = (along**2).reshape(len(along), len(self.unexplained[k]), -1)
            of_data = by_message.sum(axis=2, dtype=np.float64)
            return np.asarray(of_data + self.unexplained[k])

        return _Along(self._used(fold).along_directions, spread)

    def _with_affinity(
        self, deviation: Floats, X: Floats32, fold: Ints | None
    ) -> Floats:
        if self.affinity_slope is not None:
            deviation += self.affinity_slope.deviation(X, fold)
        return deviation

    def _predicted(
        self, X: Floats32, fold: Ints | None, wanted: Sequence["_Along"]
    ) -> list[Floats]:
        """Predictions of each voter by the fit of its fold, along some weights.

        Args:
            X: Features, shape (n, n_features).
            fold: As in `deviation`.
            wanted: Weights of each prediction.

        Returns:
            One of shape (n, M) for each.
        """
        predicted = [np.empty((len(X), self.coefficients.shape[2])) for _ in wanted]
        basis = self._used(fold).basis

        def predict(rows: slice) -> None:
            raw = basis.raw(X[rows])
            for k, in_fold in self._fits(fold, rows):
                part = raw if in_fold is None else raw[:, in_fold]
                at = rows if in_fold is None else rows.start + np.flatnonzero(in_fold)
                for values, along in zip(predicted, wanted, strict=True):
                    slopes, constant = along.of_fit[k]
                    values[at] = along.value_of(part.T @ slopes - constant, k)

        _in_parallel(predict, len(X))
        return predicted

    def _used(self, fold: Ints | None) -> "_UsedColumns":
        return self._used_by_all if fold is None else self._used_by_folds

    @cached_property
    def _used_by_all(self) -> "_UsedColumns":
        return _UsedColumns(self, [self.n_folds])

    @cached_property
    def _used_by_folds(self) -> "_UsedColumns":
        return _UsedColumns(self, range(self.n_folds + 1))

    def _fits(
        self, fold: Ints | None, rows: slice
    ) -> Iterator[tuple[int, Bools | None]]:
        """Fits and the rows that each predicts; None stands for all rows."""
        if fold is None:
            yield self.n_folds, None
            return
        for k in np.unique(fold[rows]):
            in_fold = fold[rows] == k
            yield int(k), None if in_fold.all() else in_fold

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        return {
            "basis": self.basis.to_json(),
            "coefficients": self.coefficients.tolist(),
            "directions": [d.tolist() for d in self.directions],
            "unexplained": self.unexplained.tolist(),
            "n_unsettled": self.n_unsettled,
            "fondness": None
            if self.affinity_slope is None
            else self.affinity_slope.to_json(),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        unexplained = np.array(stored["unexplained"], dtype=np.float64)
        n_fits, n_messages = unexplained.shape
        coefficients = np.array(stored["coefficients"], dtype=np.float64)
        # lists do not say the shape of a fit without columns, of which nothing varies
        coefficients = coefficients.reshape(n_fits, -1, n_messages)
        p = coefficients.shape[1]
        affinity_slope = stored.get("fondness")
        return cls(
            Basis.from_json(stored["basis"]),
            coefficients,
            tuple(
                np.array(d, dtype=np.float64).reshape(p, n_messages, -1 if p else 0)
                for d in stored["directions"]
            ),
            unexplained,
            # models of earlier versions do not say
            stored.get("n_unsettled", 0),
            None if affinity_slope is None else AffinitySlope.from_json(affinity_slope),
        )


class _Along(NamedTuple):
    """Weights of a prediction.

    Attributes:
        of_fit: Weights of the columns that are used, by fit.
        value_of: Of the columns along the weights and the fit, shape (rows, M).
    """

    of_fit: Mapping[int, _Weights]
    value_of: Callable[[Floats32, int], npt.NDArray[np.floating]]


class _UsedColumns:
    """Columns that some fits use, with their weights: what all predictions share.

    Args:
        fit: The model.
        fits: Which of its fits.
    """

    def __init__(self, fit: LinearFit, fits: Sequence[int]) -> None:
        group = fit.basis.group
        moved = (fit.coefficients[list(fits)] != 0).any(axis=(0, 2))
        terms = np.unique(group[moved])
        self.basis = fit.basis.only([int(t) for t in terms])
        self._used, self._fit, self._fits = np.isin(group, terms), fit, fits

    @cached_property
    def along_coefficients(self) -> dict[int, _Weights]:
        """Weights of the lift by fit."""
        return self._along(self._fit.coefficients)

    @cached_property
    def along_directions(self) -> dict[int, _Weights]:
        """Weights of the directions of uncertainty by fit."""
        return self._along(
            [
                d.reshape(len(d), d[0:1].size if len(d) else 0)
                for d in self._fit.directions
            ]
        )

    def _along(self, weights: Floats | Sequence[Floats]) -> dict[int, _Weights]:
        return {k: _weights(self.basis, weights[k][self._used]) for k in self._fits}


def _weights(basis: Basis, of: Floats) -> _Weights:
    """Weights of raw columns and what centring takes off, (p, k) and (k,)."""
    weights = of / basis.scale[:, None]
    constant = basis.centre @ weights
    return weights.astype(np.float32), constant.astype(np.float32)


def _in_parallel(work: Callable[[slice], None], n: int) -> None:
    """Chunks of n rows, several at a time where there are several."""
    chunks = list(_chunks(n))
    if len(chunks) < 2:
        for rows in chunks:
            work(rows)
        return
    with ThreadPoolExecutor(N_THREADS) as pool:
        # consumed, so that an error is not lost
        list(pool.map(work, chunks))


def _chunks(n: int) -> Iterator[slice]:
    for start in range(0, n, CHUNK):
        yield slice(start, min(start + CHUNK, n))


class _Sums(NamedTuple):
    """Raw sums of one fold: what centred moments of any folds are made of.

    With survey weights every sum is weighted, and n is the sum of the weights.
    """

    n: float
    columns: Floats  # (p,)
    lifts: Floats  # (M,)
    gram: Floats  # (p, p)
    cross: Floats  # (p, M)

    def plus(self, other: Self, times: int = 1) -> Self:
        """Sums of two sets of rows; `times` -1 subtracts the other."""
        return type(self)(
            self.n + times * other.n,
            self.columns + times * other.columns,
            self.lifts + times * other.lifts,
            self.gram + times * other.gram,
            self.cross + times * other.cross,
        )

    def only(self, columns: Ints) -> Self:
        """Sums of some columns."""
        return self._replace(
            columns=self.columns[columns],
            gram=self.gram[np.ix_(columns, columns)],
            cross=self.cross[columns],
        )

    def moments(self, scale: Floats, noise: Floats) -> EffectMoments:
        centre, middle = self.columns / self.n, self.lifts / self.n
        gram = self.gram - self.n * np.outer(centre, centre)
        cross = self.cross - self.n * np.outer(centre, middle)
        return EffectMoments(
            gram / np.outer(scale, scale), cross / scale[:, None], noise, self.n
        )


def _fold_sums(
    shapes: Sequence[Shape],
    terms: Sequence[Term],
    X: Floats32,
    lift: Floats,
    fold: Ints,
    n_folds: int,
    weight: Floats | None = None,
) -> list[_Sums]:
    """Sums of every fold, in chunks that fit the cache and not all memory."""
    # in the order of folds, so that a chunk belongs to one
    order = np.argsort(fold, kind="stable")
    by_fold: list[_Sums | None] = [None] * n_folds
    ends = np.searchsorted(fold[order], np.arange(n_folds + 1))
    for k in range(n_folds):
        for start in range(ends[k], ends[k + 1], CHUNK):
            rows = order[start : min(start + CHUNK, ends[k + 1])]
            raw = raw_columns(shapes, terms, X[rows])
            part = _sums(raw, lift[rows], None if weight is None else weight[rows])
            so_far = by_fold[k]
            by_fold[k] = part if so_far is None else so_far.plus(part)
    width = sum(term_width(shapes, term) for term in terms)
    nothing = _Sums(
        0, np.zeros(width), np.zeros(lift.shape[1]), np.zeros((width, width)),
        np.zeros((width, lift.shape[1])),
    )  # fmt: skip
    return [nothing if part is None else part for part in by_fold]


def _sums(raw: Floats32, lift: Floats, weight: Floats | None) -> _Sums:
    """Sums of some rows.

    Args:
        raw: Columns, shape (p, n).
        lift: Shape (n, M).
        weight: Shape (n,), or None.
    """
    n, columns, lifts = (
        float(len(lift)),
        raw.sum(axis=1, dtype=np.float64),
        lift.sum(axis=0),
    )
    if weight is not None:
        n, columns, lifts = float(weight.sum()), raw @ weight, weight @ lift
        raw = raw * np.sqrt(weight).astype(np.float32)
        lift = weighted_rows(lift, weight)
    gram, cross = raw @ raw.T, raw @ lift.astype(np.float32)
    return _Sums(n, columns, lifts, gram.astype(np.float64), cross.astype(np.float64))


class _Design(NamedTuple):
    """Terms, the sums of every fold and the scale that all fits share.

    With slopes, the sums are of lifts and of what is to be taken off them.
    """

    basis: Basis
    sums: list[_Sums]
    total: _Sums
    slopes: Floats | None = None

    def without(
        self, k: int, noise: Floats, columns: Ints | None = None
    ) -> EffectMoments:
        """Moments of all folds but one; of all for the number after the last.

        Args:
            k: The fold.
            noise: Shape (M, M).
            columns: Those of the basis that are asked for; None for all.
        """
        at, scale = np.flatnonzero(self.basis.varying), self.basis.scale
        if columns is not None:
            at, scale = at[columns], scale[columns]
        part = self.total.only(at)
        if k < len(self.sums):
            part = part.plus(self.sums[k].only(at), -1)
        moments = part.moments(scale, noise)
        if self.slopes is None:
            return moments
        lift, affinity_slope = np.hsplit(moments.cross, 2)
        return moments._replace(cross=lift - self.slopes[k] * affinity_slope)


def _design(
    shapes: Sequence[Shape],
    terms: Sequence[Term],
    X: Floats32,
    lift: Floats,
    fold: Ints,
    n_folds: int,
    weight: Floats | None = None,
    slopes: Floats | None = None,
) -> _Design:
    sums = _fold_sums(shapes, terms, X, lift, fold, n_folds, weight)
    total = sums[0]
    for part in sums[1:]:
        total = total.plus(part)
    centre = total.columns / total.n
    variance = np.maximum(np.diag(total.gram) / total.n - centre**2, 0.0)
    varying = usable_columns(variance, shapes, terms, total.n)
    raw = Basis(tuple(shapes), tuple(terms), centre, np.ones(len(varying)), varying)
    group = raw.group
    # a term's columns have variance 1 together: its prior is the lift it explains
    per_term = np.bincount(group, variance[varying], minlength=len(terms))
    basis = Basis(
        tuple(shapes), tuple(terms), centre[varying], np.sqrt(per_term[group]), varying
    )
    return _Design(basis, sums, total, slopes)


def fit_linear(
    X: Floats32,
    lift: Floats,
    noise: Floats,
    fold: Ints,
    issues: Sequence[str],
    categorical: Sequence[int],
    params: Mapping[str, Any] = DEFAULT_LINEAR,
    weight: Floats | None = None,
    n_folds: int | None = None,
    affinity_columns: Sequence[int] | None = None,
    *,
    outcome_sd: float,
    with_variance: bool = True,
    starts: dict[Any, Any] | None = None,
) -> LinearFit:
    """Fit features and products, once for every fold left out.

    Args:
        X: Features, shape (n, n_features).
        lift: Doubly robust lifts Γ_m − Γ_0, shape (n, M).
        noise: Covariance of a voter's lifts between messages, clustered, (M, M).
        fold: Shape (n,).
        issues: Issue of every message, length M: those of one share coefficients.
        categorical: Columns of X that hold category codes.
        params: `screen`, the score below which a product is not tried; `order`, the
            most features in a product; `max_columns` of pairs.
        weight: Survey weights of mean 1, shape (n,); None where all count the same. The
            noise has to be that of weighted lifts then.
        n_folds: Folds, where one may be empty; as many as there are without.
        affinity_columns: Column of X with the affinity for each message's own issue, -1
            for none, length M; those columns are no features then.
        outcome_sd: Standard deviation of the outcome: what lift is expected to be
            before any data, by affinity and by features, is a share of it.
        with_variance: Whether the fit has to say how sure it is; without, its variance
            is that of the affinity slope alone.
        starts: Where what `screen` does not change is kept, for fits of other settings
            to the same voters; None where this fit is the only one.
    """
    n_folds = n_folds or int(fold.max()) + 1
    # of one fold nothing can be left out: there is only the fit of all
    fits_of = range(n_folds + 1) if n_folds > 1 else range(n_folds, n_folds + 1)
    key = (params["order"] > 1, params["max_columns"])
    start = None if starts is None else starts.get(key)
    if start is None:
        start = _started(
            X, lift, noise, fold, categorical, params, weight, n_folds,
            affinity_columns, outcome_sd,
        )  # fmt: skip
        if starts is not None:
            starts[key] = start
    shapes, lift, affinity_slope, slopes, terms, design = start
    # no feature varies, or no outcome does
    if not design.basis.varying.any() or not np.trace(noise) > 0:
        nothing = _nothing(design.basis, len(fits_of), len(noise))
        return replace(nothing, affinity_slope=affinity_slope)
    shared = sharing(issues)
    first = _pooled(
        design,
        fits_of,
        noise,
        shared,
        params,
        outcome_sd,
        n_pairs=sum(len(t) == 2 for t in terms),
        may=[set(terms)] * len(fits_of),
    )
    last = first
    if params["order"] > 2:
        most = min(MAX_TRIED, len(X) // VOTERS_PER_COLUMN)
        tried = _triples(first.products(LIKELY), shapes, most)
        # what one fit has found another may not know
        mains = {t for t in terms if len(t) == 1}
        may = [
            mains | pairs | triples
            for pairs, triples in zip(first.products(UNLIKELY), tried, strict=True)
        ]
        together = sorted(set().union(*may), key=lambda t: (len(t), t))
        n_pairs = sum(len(t) == 2 for t in terms)
        del start, design
        design = _design(shapes, together, X, lift, fold, n_folds, weight, slopes)
        last = _pooled(
            design, fits_of, noise, shared, params, outcome_sd, n_pairs=n_pairs, may=may
        )
    joined = _joined(last, with_variance=with_variance)
    return replace(joined, affinity_slope=affinity_slope)


class _Start(NamedTuple):
    """What a fit begins with, whatever its screen.

    Attributes:
        shapes: Of every feature.
        lift: Centred, and beside the lifts what is taken off them, (n, M) or (n, 2 M).
        affinity_slope: Lift by affinity; None where none is known.
        slopes: Its slope in every fit; None without.
        terms: Features and pairs.
        design: Of these terms.
    """

    shapes: list[Shape]
    lift: Floats
    affinity_slope: AffinitySlope | None
    slopes: Floats | None
    terms: list[Term]
    design: _Design


def _started(
    X: Floats32,
    lift: Floats,
    noise: Floats,
    fold: Ints,
    categorical: Sequence[int],
    params: Mapping[str, Any],
    weight: Floats | None,
    n_folds: int,
    affinity_columns: Sequence[int] | None,
    outcome_sd: float,
) -> _Start:
    """Sum up features and pairs; see `fit_linear`."""
    shapes = _shapes(X, categorical, affinity_columns or ())
    lift = lift - np.average(lift, axis=0, weights=weight)
    affinity_slope, slopes = None, None
    if affinity_columns is not None and np.trace(noise) > 0:
        affinity_slope = fit_affinity_slope(
            X, lift, noise, fold, n_folds, affinity_columns, outcome_sd, weight
        )
        slopes = affinity_slope.slope
        # beside the lifts, what each fit takes off them
        off = own_affinity(X, affinity_slope.columns, affinity_slope.centre)
        lift = np.column_stack([lift, off])
    terms = _first_terms(shapes, X, lift, noise, fold, params, weight, slopes)
    design = _design(shapes, terms, X, lift, fold, n_folds, weight, slopes)
    return _Start(shapes, lift, affinity_slope, slopes, terms, design)


def _shapes(
    X: Floats32, categorical: Sequence[int], left_out: Sequence[int]
) -> list[Shape]:
    """How every feature becomes columns; what is left out has none."""
    none = Shape((), (), (), missing=False)
    return [
        none if j in set(left_out) else Shape.of(X[:, j], categorical=j in categorical)
        for j in range(X.shape[1])
    ]


def _first_terms(
    shapes: Sequence[Shape],
    X: Floats32,
    lift: Floats,
    noise: Floats,
    fold: Ints,
    params: Mapping[str, Any],
    weight: Floats | None,
    slopes: Floats | None,
) -> list[Term]:
    """Features, and products of two where they fit into `max_columns`."""
    features = [j for j, s in enumerate(shapes) if s.n_columns(coarse=False)]
    mains: list[Term] = [(j,) for j in features]
    if params["order"] < 2:
        return mains
    width = {j: shapes[j].n_columns(coarse=True) for j in features}

    def columns(of: Sequence[int]) -> int:
        return sum(width[a] * width[b] for a, b in combinations(of, 2))

    # more products than this cannot be distinguished by so few voters
    most = min(params["max_columns"], len(X) // VOTERS_PER_COLUMN)
    if columns(features) > most:
        # too many: those whose own effect is largest; which they are hardly depends
        # on a fold, and every product has to earn its place in every fit
        of_all = None if slopes is None else slopes[[-1, -1]]
        design = _design(shapes, mains, X, lift, fold * 0, 1, weight, of_all)
        moments, group = design.without(1, noise), design.basis.group
        nothing = np.zeros(0, dtype=np.int64)
        size = _scores(moments, group, nothing, len(features))
        order = [features[g] for g in np.argsort(-size, kind="stable")]
        while len(order) > 2 and columns(order) > most:
            order.pop()
        features = sorted(order)
    return mains + list(combinations(features, 2))


def _scores(moments: EffectMoments, group: Ints, given: Ints, n_terms: int) -> Floats:
    """How much more a term correlates with lift than chance, in standard deviations.

    Args:
        moments: Of p columns.
        group: Term of every column, shape (p,).
        given: Columns that are accounted for first.
        n_terms: Terms; one without columns scores -inf.
    """
    cross = moments.cross @ whitened(moments.noise)[0]
    gram = moments.gram
    ridge = 1e-6 * np.trace(gram) / max(len(gram), 1)
    if len(given):
        inner = gram[np.ix_(given, given)] + ridge * np.eye(len(given))
        weights = np.linalg.solve(inner, gram[given])
        cross = cross - weights.T @ cross[given]
    score = np.full(n_terms, -np.inf)
    for g in np.unique(group):
        at = np.flatnonzero(group == g)
        block = gram[np.ix_(at, at)]
        if len(given):
            block = block - gram[np.ix_(at, given)] @ weights[:, at]
        values, vectors = np.linalg.eigh(block)
        usable = values > 1e-3 * max(float(np.trace(gram[np.ix_(at, at)])), 1e-300)
        if not usable.any():
            continue
        z = (vectors[:, usable] / np.sqrt(values[usable])).T @ cross[at]
        freedom = z.size
        score[g] = ((z**2).sum() - freedom) / np.sqrt(2 * freedom)
    return score


class _Fitted(NamedTuple):
    """Several fits on the same columns."""

    basis: Basis
    moments: list[EffectMoments]
    candidates: Candidates
    posterior: TermPosterior

    def products(self, above: float) -> list[set[Term]]:
        """Products that matter with more than some probability, a set for each fit."""
        terms = self.basis.terms
        return [
            {t for t, p in zip(terms, of_fit, strict=True) if len(t) > 1 and p > above}
            for of_fit in self.posterior.inclusion
        ]


def _pooled(
    design: _Design,
    fits_of: Sequence[int],
    noise: Floats,
    shared: Floats,
    params: Mapping[str, Any],
    outcome_sd: float,
    *,
    n_pairs: int,
    may: Sequence[set[Term]],
) -> _Fitted:
    """Fits of the features, and of those products that look like lift at all.

    Args:
        design: Of all terms.
        fits_of: Folds left out.
        noise: Shape (M, M).
        shared: From `pooled.sharing`.
        params: See `fit_linear`.
        outcome_sd: Of the outcome.
        n_pairs: Pairs to begin with, also those that an earlier fit has left out.
        may: Terms that each fit may try.
    """
    basis, group = design.basis, design.basis.group
    order = np.array([len(term) for term in basis.terms])
    # one at a time: of all columns tried they are the largest arrays there are
    alive = np.stack(
        [
            _worth_trying(design.without(k, noise), basis, order, params)
            & np.array([term in terms for term in basis.terms])
            for k, terms in zip(fits_of, may, strict=True)
        ]
    )
    in_any = np.flatnonzero(alive.any(axis=0))
    columns, local = _columns_of(group, in_any)
    most = {1: (order == 1).sum(), 2: n_pairs}
    most[3] = np.array([sum(len(term) == 3 for term in terms) for terms in may])
    untried = {o: n - alive[:, order == o].sum(axis=1) for o, n in most.items()}
    candidates = Candidates(local, order[in_any], alive[:, in_any], untried)
    moments = [design.without(k, noise, columns) for k in fits_of]
    posterior = fit_pooled(moments, candidates, shared, outcome_sd)
    return _Fitted(basis.only([int(g) for g in in_any]), moments, candidates, posterior)


def _worth_trying(
    moments: EffectMoments, basis: Basis, order: Ints, params: Mapping[str, Any]
) -> Bools:
    """Features, and products above the screen, the best first, shape (n_terms,)."""
    group = basis.group
    mains = _first_mains(moments, basis)
    given = np.flatnonzero(mains[group])
    score = _scores(moments, group, given, len(basis.terms))
    products = (order > 1) & (score > params["screen"])
    tried = mains | _best_within(score, products, group)
    # a term whose columns never vary has none
    return tried & np.isin(np.arange(len(order)), group)


def _first_mains(moments: EffectMoments, basis: Basis) -> Bools:
    """Features to begin with: all, or those that look most like lift, (n_terms,)."""
    group = basis.group
    mains = np.array([len(t) == 1 for t in basis.terms])
    if mains[group].sum() <= MAX_TRIED:
        return mains
    columns, local = _columns_of(group, np.flatnonzero(mains))
    nothing = np.zeros(0, dtype=np.int64)
    score = np.full(len(mains), -np.inf)
    score[mains] = _scores(moments.only(columns), local, nothing, int(mains.sum()))
    return _best_within(score, mains, group)


def _best_within(score: Floats, among: Bools, group: Ints) -> Bools:
    """Terms of the highest scores that have `MAX_TRIED` columns together."""
    width = np.bincount(group, minlength=len(score)) * among
    order = np.argsort(-np.where(among, score, -np.inf), kind="stable")
    within = np.zeros(len(score), dtype=bool)
    within[order[np.cumsum(width[order]) <= MAX_TRIED]] = True
    return within & among


def _columns_of(group: Ints, terms: Ints) -> tuple[Ints, Ints]:
    """Columns of some terms, and the position of each column's term among them."""
    # the last terms may have no columns
    n_terms = 1 + max(group.max(initial=-1), terms.max(initial=-1))
    position = np.full(n_terms, -1)
    position[terms] = np.arange(len(terms))
    columns = np.flatnonzero(position[group] >= 0)
    return columns, position[group[columns]]


def _triples(
    chosen: Sequence[set[Term]], shapes: Sequence[Shape], most: int
) -> list[set[Term]]:
    """Products of three of which at least one pair was kept, a set for every fit.

    Those with the most kept pairs first, as far as their columns are within `most`.
    """
    by_fit: list[set[Term]] = []
    for terms in chosen:
        features = sorted({feature for term in terms for feature in term})
        n_pairs = {
            triple: sum(pair in terms for pair in combinations(triple, 2))
            for triple in combinations(features, 3)
        }
        triples = sorted(
            (t for t, n in n_pairs.items() if n), key=lambda t: -n_pairs[t]
        )
        width = np.cumsum([term_width(shapes, t) for t in triples])
        by_fit.append({t for t, w in zip(triples, width, strict=True) if w <= most})
    return by_fit


def _nothing(basis: Basis, n_fits: int, n_messages: int) -> LinearFit:
    """A fit without any deviation from the average effect."""
    return LinearFit(
        basis.only([]),
        np.zeros((n_fits, 0, n_messages)),
        tuple(np.zeros((0, n_messages, 0)) for _ in range(n_fits)),
        np.zeros((n_fits, n_messages)),
        0,
    )


def _joined(fitted: _Fitted, *, with_variance: bool) -> LinearFit:
    """The fits on the columns that any of them needs."""
    needed = np.zeros(len(fitted.basis.terms), dtype=bool)
    for k, moments in enumerate(fitted.moments):
        needed |= _needed(fitted.posterior.coefficients[k], moments, fitted.candidates)
    columns = np.flatnonzero(needed[fitted.candidates.group])
    n_fits, _, n_messages = fitted.posterior.coefficients.shape
    directions = [np.zeros((len(columns), n_messages, 0))] * n_fits
    rest = np.zeros((n_fits, n_messages))
    if with_variance:
        for k in range(n_fits):
            directions[k], rest[k] = _doubt(fitted, k, columns)
    return LinearFit(
        fitted.basis.only([int(g) for g in np.flatnonzero(needed)]),
        fitted.posterior.coefficients[:, columns],
        tuple(directions),
        rest,
        fitted.posterior.n_unsettled,
    )


def _doubt(fitted: _Fitted, k: int, columns: Ints) -> tuple[Floats, Floats]:
    """Directions of uncertainty of a fit along some columns, and variance beside them.

    Args:
        fitted: The fits.
        k: Which one.
        columns: Those that are not left out.

    Returns:
        Shapes (len(columns), M, D) and (M,).
    """
    moments = fitted.moments[k]
    directions, beside = fitted.posterior.directions(k, moments)
    # of what is left out: its variance, and the lift that it predicted
    cut, left_out = directions.copy(), fitted.posterior.coefficients[k].copy()
    cut[columns], left_out[columns] = 0.0, 0.0
    cut = np.concatenate([cut, left_out[:, :, None]], axis=2)
    lost = np.einsum("pmk,pmk->m", cut, np.tensordot(moments.gram, cut, 1))
    return directions[columns], beside + lost / moments.n


def _needed(
    coefficients: Floats, moments: EffectMoments, candidates: Candidates
) -> Bools:
    """Terms without which more than `NEGLIGIBLE` of a message's spread would go."""
    n_terms = len(candidates.order)
    explained = np.empty((n_terms, coefficients.shape[1]))
    for g in range(n_terms):
        at = np.flatnonzero(candidates.group == g)
        b = coefficients[at]
        explained[g] = np.einsum("pm,pq,qm->m", b, moments.gram[np.ix_(at, at)], b)
    share = explained / np.maximum(explained.sum(axis=0), 1e-300)
    order = np.argsort(share, axis=0)
    below = np.cumsum(np.take_along_axis(share, order, axis=0), axis=0)
    needed = np.zeros_like(share, dtype=bool)
    np.put_along_axis(needed, order, below > NEGLIGIBLE, axis=0)
    return np.asarray((needed & (explained > 0)).any(axis=1))
