"""Lift from people who were decided with probabilities that change from day to day.

    Y_i = b(x_i) + Σ_a 1[W_i = a] τ_a(x_i) + noise,    τ_a(x) = φ(x)' θ_a

With the known probability e_a of every arm the treatments are centred on it (Robinson
1988; the R-loss of Nie & Wager 2021), so that what is wrong with b does no harm to τ:

    Y − φ'b − Σ_a e_a φ'θ_a  =  Σ_a (1[W = a] − e_a) φ'θ_a + noise

A row counts by how much its own design tells (e (1 − e)): one that was all but certain
of its message says little of the others. θ has a Gaussian prior: a mean effect of every
arm around what all arms share, and terms whose size nobody knows. The data weigh the
sizes by their evidence, and what is believed is the average over them: outcomes of a
campaign seldom tell two sizes apart, and an interval by the likelier one would be too
short, or the next day twice as wide. Sums are all that is kept of the rows, so that a
day adds its own and is done.

Shapes: n rows, p columns of φ (the first is 1), A arms; θ is ordered arm by arm.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import NamedTuple, Self

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri

from hustings.features.arrays import Bools, Floats, Floats32, Ints
from hustings.features.training_set import EffectPrior
from hustings.training.learners.basis import Basis, Shape, term_width

SIZES = (0.01, 0.03, 0.06, 0.1, 0.15, 0.22, 0.33, 0.5)
"""SD of the lift between voters, in SD of the noise, which the data weigh."""
PRODUCTS = (0.1, 0.5)
"""Share of its variance that products of two features have."""
SHARED = 0.25
"""Share of a term's variance that is common to all arms."""
ARM_SPREAD, ALL_ARMS = 0.08, 0.5
"""SD of the arms' mean effects about their own mean, and of that, in SD of noise."""
BASELINE = 1.0
"""SD of a term of the baseline, in SD of the noise."""
NEGLIGIBLE = 0.05
"""A size of less probability, beside the likeliest, is left out of the average."""
ROUNDS = 3
"""Times that the part of the outcome which the design explains is taken off."""


def lift_columns(
    X: Floats32, categorical: Sequence[int], *, most: int | None = None
) -> Basis:
    """Features and their products of two as columns, from the voters alone.

    Args:
        X: Features of all voters, shape (n, n_features).
        categorical: Columns of X that hold category codes.
        most: Columns up to which products are among them; None for any number.
    """
    shapes = tuple(
        Shape.of(X[:, j], categorical=j in set(categorical)) for j in range(X.shape[1])
    )
    features = range(X.shape[1])
    single = tuple((j,) for j in features)
    terms = (*single, *combinations(features, 2))
    if most is not None and sum(term_width(shapes, t) for t in terms) > most:
        terms = single
    width = sum(term_width(shapes, t) for t in terms)
    all_kept = np.ones(width, dtype=bool)
    first = Basis(shapes, terms, np.zeros(width), np.ones(width), all_kept)
    raw = first.raw(X).astype(np.float64)
    mean, variance = raw.mean(axis=1), raw.var(axis=1)
    varying = variance > 1e-6
    basis = replace(first, varying=varying)
    of_term = np.bincount(basis.group, variance[varying], minlength=len(terms))
    return replace(basis, centre=mean[varying], scale=np.sqrt(of_term[basis.group]))


def columns(basis: Basis, X: Floats32) -> Floats:
    """φ(x), the constant first, shape (n, p)."""
    scaled = (basis.raw(X).astype(np.float64).T - basis.centre) / basis.scale
    return np.column_stack([np.ones(len(X)), scaled])


class ColumnTerms(NamedTuple):
    """Term of every column of φ.

    Attributes:
        group: Term of every column, -1 for the constant, shape (p,).
        product: Whether the column is of a product, shape (p,).
    """

    group: Ints
    product: Bools


def terms_of(basis: Basis) -> ColumnTerms:
    """Terms of the columns that `columns` makes."""
    group = np.concatenate([[-1], basis.group])
    lengths = np.array([*(len(t) for t in basis.terms), 0])
    return ColumnTerms(group, lengths[group] > 1)


class ObservedRows(NamedTuple):
    """Decisions whose outcome has been observed.

    Attributes:
        phi: Shape (n, p).
        arm: 0 for nothing, k for the k-th arm, shape (n,).
        Y: Shape (n,).
        propensities: Of nothing and every arm as known when it was drawn, shape
            (n, 1 + A); NaN in all where nobody knows: such a row informs the baseline
            and never a lift. None: arms are not centred, so that people of different
            chances are compared too, which is right as far as φ describes the baseline.
    """

    phi: Floats
    arm: Ints
    Y: Floats
    propensities: Floats | None


@dataclass(frozen=True)
class Moments:
    """Sums over rows: all that a fit needs.

    Attributes:
        gram: Z'Z of baseline and centred arms, shape ((1 + A) p, (1 + A) p).
        design: Z'(e φ), shape ((1 + A) p, A p).
        product: Z'Y, shape ((1 + A) p,).
        square: Σ Y².
        n: Rows.
    """

    gram: Floats
    design: Floats
    product: Floats
    square: float
    n: int

    @classmethod
    def nothing(cls, p: int, n_arms: int) -> Self:
        """Sums over no rows."""
        k = (1 + n_arms) * p
        return cls(np.zeros((k, k)), np.zeros((k, n_arms * p)), np.zeros(k), 0.0, 0)

    def plus(self, seen: ObservedRows) -> Self:
        """Add the sums of more rows.

        Raises:
            ValueError: If somebody got an arm whose known propensity is 0.
        """
        n, n_arms = len(seen.Y), len(self.product) // seen.phi.shape[1] - 1
        took = np.zeros((n, 1 + n_arms))
        took[np.arange(n), seen.arm] = 1.0
        has_propensities, e = _centring(seen, n_arms, took)
        left = (took - e)[:, 1:] * has_propensities[:, None]
        Z = np.hstack([seen.phi, _crossed(left, seen.phi)])
        E = _crossed(e[:, 1:] * has_propensities[:, None], seen.phi)
        return replace(
            self,
            gram=self.gram + Z.T @ Z,
            design=self.design + Z.T @ E,
            product=self.product + Z.T @ seen.Y,
            square=self.square + float(seen.Y @ seen.Y),
            n=self.n + n,
        )


def _centring(seen: ObservedRows, n_arms: int, took: Floats) -> tuple[Bools, Floats]:
    """Rows of known propensities, and the mean taken off their treatment."""
    n = len(seen.Y)
    if seen.propensities is None:
        return np.ones(n, dtype=bool), np.zeros((n, 1 + n_arms))
    has_propensities = np.asarray(
        np.isfinite(seen.propensities).all(axis=1), dtype=bool
    )
    e = np.where(has_propensities[:, None], seen.propensities, 0.0)
    own_propensity = (e * took).sum(axis=1)
    if (has_propensities & (own_propensity <= 0)).any():
        at = int(np.flatnonzero(has_propensities & (own_propensity <= 0))[0])
        raise ValueError(
            f"expected a propensity above 0 for what was assigned, got "
            f"{own_propensity[at]} in row {at}; the design's probabilities do not "
            "belong to these rows"
        )
    return has_propensities, e


def _crossed(weight: Floats, phi: Floats) -> Floats:
    """Every arm's weight times every column, shape (n, A p)."""
    crossed: Floats = (weight[:, :, None] * phi[:, None, :]).reshape(len(phi), -1)
    return crossed


class Size(NamedTuple):
    """How large the prior lets lifts be; see `SIZES` and `PRODUCTS`."""

    terms: float
    products: float


@dataclass(frozen=True)
class DailyLift:
    """What is believed of the lifts of all arms: the average over sizes of the prior.

    Attributes:
        posteriors: Of b and θ by each size that counts.
        probability: Of each, shape (n_sizes,).
        sizes: These sizes.
        n_arms: A.
        noise: SD of the outcome's noise.
    """

    posteriors: "tuple[Posterior, ...]"
    probability: Floats
    sizes: tuple[Size, ...]
    n_arms: int
    noise: float

    @cached_property
    def mean(self) -> Floats:
        """Posterior mean of b and θ, shape ((1 + A) p,)."""
        return _average(self.posteriors, self.probability)

    @cached_property
    def covariance(self) -> Floats:
        """Posterior covariance of b and θ, how the sizes differ included."""
        lower = np.zeros((len(self.mean), len(self.mean)))
        for weight, posterior in zip(self.probability, self.posteriors, strict=True):
            lower += weight * posterior.lower_covariance()
        within = lower + np.tril(lower, -1).T
        off = np.stack([posterior.mean for posterior in self.posteriors]) - self.mean
        between = (off.T * self.probability) @ off
        return np.asarray(within + between)

    @property
    def p(self) -> int:
        """Number of columns of φ."""
        return len(self.mean) // (1 + self.n_arms)

    @cached_property
    def theta(self) -> Floats:
        """Coefficients of every arm, shape (A, p)."""
        return self.mean[self.p :].reshape(self.n_arms, self.p)

    def lift(self, phi: Floats) -> Floats:
        """Expected lift of every arm, shape (n, A)."""
        lift: Floats = phi @ self.theta.T
        return lift

    def baseline(self, phi: Floats) -> Floats:
        """Expected outcome without a message, shape (n,)."""
        baseline: Floats = phi @ self.mean[: self.p]
        return baseline

    def se(self, phi: Floats) -> Floats:
        """Posterior SD of the lift of every arm, shape (n, A)."""
        se = np.empty((len(phi), self.n_arms))
        for a in range(self.n_arms):
            of_arm = slice((1 + a) * self.p, (2 + a) * self.p)
            variance = ((phi @ self.covariance[of_arm, of_arm]) * phi).sum(axis=1)
            se[:, a] = np.sqrt(np.maximum(variance, 0.0))
        return se

    def draws(self, phi: Floats, n: int, rng: np.random.Generator) -> Floats:
        """Lifts drawn from the posterior, shape (n, n_rows, A)."""
        noise = rng.standard_normal((len(self.mean), n))
        of_size = rng.choice(len(self.sizes), n, p=self.probability)
        drawn = np.empty_like(noise)
        for k, posterior in enumerate(self.posteriors):
            inside = of_size == k
            off = solve_triangular(posterior.factor.T, noise[:, inside], lower=False)
            drawn[:, inside] = posterior.mean[:, None] + off
        theta = drawn[self.p :].T.reshape(n, self.n_arms, self.p)
        lifts: Floats = np.einsum("rp,nap->nra", phi, theta)
        return lifts


MIN_NOISE = 1e-6
"""Noise SD at the least."""


def fit_daily(
    moments: Moments,
    terms: ColumnTerms,
    *,
    prior: EffectPrior | None = None,
    sizes: Sequence[Size] = (),
) -> DailyLift:
    """Posterior of the lifts given all observed rows.

    Args:
        moments: Of those rows.
        terms: Of the columns of φ, p of them.
        prior: Mean effects known from elsewhere, by arm; NaN where nothing is.
        sizes: Those that counted before, which are weighed anew; all without.
    """
    p = len(terms.group)
    n_arms = len(moments.product) // p - 1
    noise = max(_noise(moments, p), MIN_NOISE)
    tried = list(sizes) or [Size(s, k) for s in SIZES for k in PRODUCTS]

    def fitted(size: Size, product: Floats) -> Posterior:
        wanted = _prior(terms, n_arms, noise, size, prior)
        return _posterior(moments.gram, product, wanted, noise)

    # the same outcomes for all sizes, or their evidence could not be compared
    product = moments.product
    if not sizes:
        # one posterior at a time: all of them at once are large
        weight = _probability([fitted(size, product).evidence for size in tried])
        counts = weight >= NEGLIGIBLE * weight.max()
        tried = [size for size, is_likely in zip(tried, counts, strict=True)
                 if is_likely]  # fmt: skip
    for _ in range(ROUNDS if moments.design.any() else 1):
        fits = tuple(fitted(size, product) for size in tried)
        weight = _probability([fit.evidence for fit in fits])
        product = moments.product - moments.design @ _average(fits, weight)[p:]
    return DailyLift(fits, weight, tuple(tried), n_arms, noise)


def _probability(evidence: Sequence[float]) -> Floats:
    """Of every size given its log evidence; before any outcome all are alike."""
    weight = np.exp(np.array(evidence) - max(evidence))
    return np.asarray(weight / weight.sum())


def _average(fits: "Sequence[Posterior]", probability: Floats) -> Floats:
    return np.asarray(
        sum(w * fit.mean for w, fit in zip(probability, fits, strict=True))
    )


def _noise(moments: Moments, p: int) -> float:
    """SD of the outcome about a baseline of main terms; 1 where nothing is in."""
    if moments.n <= 2:
        return 1.0
    ridge = moments.gram[:p, :p] + 0.01 * moments.n * np.eye(p)
    b = np.linalg.solve(ridge, moments.product[:p])
    rest = moments.square - 2 * b @ moments.product[:p] + b @ moments.gram[:p, :p] @ b
    return float(np.sqrt(max(float(rest), 0.0) / moments.n))


class _Prior(NamedTuple):
    """Gaussian prior of b and θ."""

    precision: Floats
    centre: Floats
    log_det: float


class Posterior(NamedTuple):
    """What is believed of b and θ where the prior's size is known.

    Attributes:
        mean: Shape ((1 + A) p,).
        factor: Lower Cholesky factor of the precision.
        evidence: Log probability of the outcomes, up to a constant.
    """

    mean: Floats
    factor: Floats
    evidence: float

    def lower_covariance(self) -> Floats:
        """Lower triangle of the inverse of the precision, zeros above it."""
        inverse, fault = dpotri(self.factor, lower=1)
        if fault:
            raise np.linalg.LinAlgError(
                f"expected a Cholesky factor with a diagonal above 0, got 0 in row "
                f"{fault}"
            )
        return np.asarray(inverse, dtype=np.float64)


def _posterior(gram: Floats, product: Floats, prior: _Prior, noise: float) -> Posterior:
    """Mean, Cholesky factor of the precision, log evidence up to a constant."""
    factor = cholesky(
        prior.precision + gram / noise**2, lower=True, overwrite_a=True,
        check_finite=False,
    )  # fmt: skip
    off = product - gram @ prior.centre
    moved = cho_solve((factor, True), off, check_finite=False) / noise**2
    evidence = 0.5 * (prior.log_det + off @ moved / noise**2)
    evidence -= float(np.log(np.diag(factor)).sum())
    # what the prior's own centre explains
    evidence += float(prior.centre @ (product - 0.5 * gram @ prior.centre)) / noise**2
    return Posterior(prior.centre + moved, factor, float(evidence))


def _prior(
    terms: ColumnTerms, n_arms: int, noise: float, size: Size, prior: EffectPrior | None
) -> _Prior:
    """Prior of b and θ.

    A term's columns are scaled together, so that a coefficient's variance is about the
    variance of lift that its term adds.
    """
    p, A = len(terms.group), n_arms
    variance = _term_variance(terms, size) * noise**2
    precision = np.zeros(((1 + A) * p, (1 + A) * p))
    baseline = np.full(p, (BASELINE * noise) ** -2)
    baseline[0] = 1e-9 * baseline[-1]
    precision[np.arange(p), np.arange(p)] = baseline
    shared = SHARED * np.ones((A, A)) + (1 - SHARED) * np.eye(A)
    inverse, log_det = np.linalg.inv(shared), float(np.linalg.slogdet(shared)[1])
    at = p + p * np.arange(A)
    for j in range(1, p):
        precision[np.ix_(at + j, at + j)] = inverse / variance[j]
    total = float(np.log(baseline).sum() - A * np.log(variance[1:]).sum())
    first, centre_of_arms = _mean_effects(n_arms, noise, prior)
    precision[np.ix_(at, at)] = first
    centre = np.zeros((1 + A) * p)
    centre[at] = centre_of_arms
    total += float(np.linalg.slogdet(first)[1]) - (p - 1) * log_det
    return _Prior(precision, centre, total)


def _mean_effects(
    n_arms: int, noise: float, prior: EffectPrior | None
) -> tuple[Floats, Floats]:
    """Precision and mean of the arms' mean effects, joined with what is known."""
    spread = ALL_ARMS**2 * np.ones((n_arms, n_arms)) + ARM_SPREAD**2 * np.eye(n_arms)
    precision = np.asarray(np.linalg.inv(spread * noise**2), dtype=np.float64)
    if prior is None:
        return precision, np.zeros(n_arms)
    has_prior = np.isfinite(prior.mean)
    sure = np.divide(1.0, prior.variance, out=np.zeros(n_arms), where=has_prior)
    joined: Floats = precision + np.diag(sure)
    prior_pull = np.where(has_prior, prior.mean, 0.0) * sure
    return joined, np.linalg.solve(joined, prior_pull)


def _term_variance(terms: ColumnTerms, size: Size) -> Floats:
    """Prior variance of a coefficient, in variances of the noise, shape (p,)."""
    count = [
        max(
            len(np.unique(terms.group[(terms.product == kind) & (terms.group >= 0)])), 1
        )
        for kind in (False, True)
    ]
    share = np.where(terms.product, size.products, 1.0 - size.products)
    return size.terms**2 * share / np.where(terms.product, count[1], count[0])
