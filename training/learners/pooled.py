"""Adaptive shrinkage for many messages at once: what is shared, what is one's own.

Doubly robust lifts of n voters and M messages follow L = Φ B + noise, where the noise
of a voter has covariance S between messages. The coefficients of term g are

    B_jm = Σ_c a_cm θ_jc + ω_jm

with what messages share, θ (all of them, those of an issue), and what a message has of
its own, ω. Every θ of a term, and every ω of a term and a message, is normal with one
of several variances, zero among them; how often each variance occurs is learnt from
all terms and messages together. So a term may matter to all messages, to two of twelve
or to none, a message may differ, and few large effects or many small ones are followed
alike. Nothing is selected: a term counts by the probability that it matters.

Coordinates are updated in turn to the variational optimum, all fits (one for each fold
left out) at once: the columns of a term are turned so that they do not correlate, and
Φ'Φ is the same for all messages. The interval is the posterior of a message's own data
under the prior variances that were found, narrowed by what the others say, and widened
by what many small effects may add up to beside it (`total_spread`).

Sources: Carbonetto & Stephens (2012); Stephens (2017); Morgante et al. (2023).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np

from hustings.features.arrays import Bools, Floats, Ints
from hustings.training.learners.total_spread import unexpected_variance

SMALLEST, LARGEST = 1 / 32, 32.0
"""Prior variances of a coefficient, in variances of its estimate where nothing else is
estimated; the smallest can hardly be told from zero, the largest not missed."""
N_VARIANCES = 6
"""How many from the smallest to the largest."""
LARGEST_TERM = 16.0
"""Variance of lift that one term alone may have, in those expected of all."""
EXPECTED_SHARE = 0.05
"""Standard deviation of lift between voters before any data, as a share of the
outcome's: two points of a vote, the size of differences that field tests found."""
LEAST_NULL = 0.2
"""Probability of no effect before any data, at least: the more the columns and the
noise, the higher, so that all of them together are expected to do no more than that."""
SEEN_BEFORE = 200.0
"""How many effects the frequencies of the variances count as before any data."""
TERM_LIKE_OTHERS = 32.0
"""For how many messages it counts that terms are alike, where a term tells how its
other messages use it."""
MAX_SWEEPS, SETTLED = 40, 1e-4
DIRECTIONS = 16
"""Directions of uncertainty of a message; what lies beside them is the same for all."""
MOST_COLUMNS = 150
"""Columns of a message whose posterior variance is worked out."""
TELLING = 1e-3
"""Directions within a term of less than this share of its variance say nothing."""


class EffectMoments(NamedTuple):
    """Sufficient statistics of a linear model.

    Attributes:
        gram: Φ'Φ of centred columns, shape (p, p).
        cross: Φ'L of centred lifts, shape (p, M).
        noise: S, covariance of a voter's lifts between messages, shape (M, M).
        n: Voters, or the sum of their weights.
    """

    gram: Floats
    cross: Floats
    noise: Floats
    n: float

    def only(self, columns: Ints) -> Self:
        """The moments of some columns."""
        return self._replace(
            gram=self.gram[np.ix_(columns, columns)], cross=self.cross[columns]
        )


class Candidates(NamedTuple):
    """Terms that are tried.

    Attributes:
        group: Term of every column, shape (p,).
        order: Features in every term, shape (n_terms,).
        alive: Which terms each fit tries, shape (n_fits, n_terms).
        untried: By order, how many more terms each fit left out unseen or for looking
            like nothing, shape (n_fits,): they count as terms without effect.
    """

    group: Ints
    order: Ints
    alive: Bools
    untried: dict[int, Ints]


@dataclass(frozen=True)
class TermPosterior:
    """Coefficients of several fits.

    Attributes:
        coefficients: Posterior means, shape (n_fits, p, M).
        inclusion: Probability that a term matters to any message, (n_fits, n_terms).
        own_variance: Prior variance of what columns, turned within terms, do for one
            message alone, as the data have it, shape (n_fits, p, M).
        shared_variance: The same of what is shared, shape (n_shared, n_fits, p).
        shared: Who shares, shape (n_shared, M).
        turn: Columns turned so that those of a term do not correlate, (n_fits, p, p).
        features: Columns of single features, shape (p_1,).
        outcome_sd: Standard deviation of the outcome.
        n_unsettled: Fits that still moved after the most sweeps.
    """

    coefficients: Floats
    inclusion: Floats
    own_variance: Floats
    shared_variance: Floats
    shared: Floats
    turn: Floats
    features: Ints
    outcome_sd: float
    n_unsettled: int

    def directions(self, k: int, moments: EffectMoments) -> tuple[Floats, Floats]:
        """Directions of most posterior variance, and the variance beside them.

        Given the prior variances that were found, exact for the message's own data;
        the data of others narrow the prior of what is shared, column by column. Columns
        of which next to nothing is expected keep their prior variance. What many small
        differences add is beside them.

        Args:
            k: Which fit.
            moments: Of that fit.

        Returns:
            Directions as long as their standard deviation, shape (p, M, D), and the
            mean variance of lift that lies in none of them, shape (M,).
        """
        turn = self.turn[k]
        gram = turn.T @ moments.gram @ turn
        noise = np.maximum(np.diag(moments.noise), 1e-300)
        prior = self._narrowed(k, gram, noise)
        p, n_kept = len(gram), min(len(gram), DIRECTIONS)
        directions = np.zeros((p, len(noise), n_kept))
        beside = np.zeros(len(noise))
        for m, variance in enumerate(noise):
            expected = prior[:, m] * np.diag(gram) / moments.n
            at = np.sort(np.argsort(-expected, kind="stable")[:MOST_COLUMNS])
            own, root = gram[np.ix_(at, at)], np.sqrt(prior[at, m])
            ratio = np.eye(len(at)) + root[:, None] * own * root / variance
            values, vectors = np.linalg.eigh(ratio)
            scaled = root[:, None] * vectors / np.sqrt(values)
            lift = np.einsum("pk,pk->k", scaled, own @ scaled) / moments.n
            most = np.argsort(-lift, kind="stable")[:n_kept]
            directions[:, m, : len(most)] = turn[:, at] @ scaled[:, most]
            # of what is left out, the prior variance; of what is not kept, its own
            beside[m] = expected.sum() - expected[at].sum()
            beside[m] += lift.sum() - lift[most].sum()
        return directions, np.maximum(beside, 0.0) + self._unexpected(k, moments, prior)

    def _unexpected(self, k: int, moments: EffectMoments, prior: Floats) -> Floats:
        """Variance of lift beyond that of the terms' own prior, shape (M,).

        Args:
            k: Which fit.
            moments: Of that fit.
            prior: Variance of every turned column, shape (p, M).
        """
        turn = self.turn[k][:, self.features]
        size = (turn * (moments.gram @ turn)).sum(axis=0)
        variance = prior[self.features] * size[:, None]
        learnt = variance / (np.maximum(np.diag(moments.noise), 1e-300) + variance)
        left = moments.cross - moments.gram @ self.coefficients[k]
        return unexpected_variance(
            moments.gram[np.ix_(self.features, self.features)], left[self.features],
            moments.noise, learnt.sum(axis=0), moments.n, self.outcome_sd,
        )  # fmt: skip

    def _narrowed(self, k: int, gram: Floats, noise: Floats) -> Floats:
        """Prior variance of each message's columns once the others' data are seen.

        Args:
            k: Which fit.
            gram: Of turned columns, shape (p, p).
            noise: Of every message, shape (M,).

        Returns:
            Shape (p, M).
        """
        own, common = self.own_variance[k], self.shared_variance[:, k]
        total = own + np.einsum("cp,cm->pm", common, self.shared)
        # what data say of a column when the others are not known either
        usual = float(noise.mean()) / np.maximum(total.mean(axis=1), 1e-300)
        root = 1.0 / np.sqrt(np.diag(gram) + usual)
        inverse = np.linalg.inv(root[:, None] * (gram + np.diag(usual)) * root)
        information = np.maximum(1.0 / (np.diag(inverse) * root**2) - usual, 1e-12)
        narrowed = own.copy()
        for c, member in enumerate(self.shared):
            rest = total - common[c][:, None] * member
            precision = member / (noise / information[:, None] + rest)
            of_others = precision.sum(axis=1, keepdims=True) - precision
            inverse_prior = 1.0 / np.maximum(common[c], 1e-300)
            narrowed += member / (inverse_prior[:, None] + of_others)
        return np.asarray(narrowed)


def sharing(issues: Sequence[str]) -> Floats:
    """Who shares coefficients: all messages, and those of each issue, (n_shared, M).

    Args:
        issues: Issue of every message, length M.
    """
    n = len(issues)
    shared = [np.ones(n)] if n > 1 else []
    for issue in dict.fromkeys(issues):
        member = np.array([i == issue for i in issues], dtype=np.float64)
        if 1 < member.sum() < n:
            shared.append(member)
    return np.array(shared).reshape(-1, n)


def whitened(noise: Floats) -> tuple[Floats, Floats]:
    """Symmetric matrices that make a covariance the identity, and back, (M, M) each.

    A direction without noise of its own (two messages that nobody got) counts as one
    of next to none.
    """
    values, vectors = np.linalg.eigh(noise)
    root = np.sqrt(np.maximum(values, 1e-12 * values.max()))
    return (vectors / root) @ vectors.T, (vectors * root) @ vectors.T


class _Turned(NamedTuple):
    """Moments in coordinates in which the columns of a term do not correlate."""

    gram: Floats  # (n_fits, p, p)
    diagonal: Floats  # (n_fits, p)
    cross: Floats  # (n_fits, p, M)
    turn: Floats  # (n_fits, p, p)


def fit_pooled(
    moments: Sequence[EffectMoments],
    candidates: Candidates,
    shared: Floats,
    outcome_sd: float,
) -> TermPosterior:
    """Posterior of the coefficients of several fits, each with a prior of its own.

    Args:
        moments: Of every fit, of the same p columns and M messages.
        candidates: Terms.
        shared: From `sharing`.
        outcome_sd: Standard deviation of the outcome, above 0, in the unit of lifts.
    """
    search = _Search(moments, candidates, shared, EXPECTED_SHARE * outcome_sd)
    for _ in range(MAX_SWEEPS):
        search.sweep()
        if not len(search.fits):
            break
    group, turn = candidates.group, search.turn
    return TermPosterior(
        turn @ search.total,
        search.inclusion(),
        np.einsum("ftmv,fv->ftm", search.of_own, search.variances)[:, group],
        np.einsum("cftv,fv->cft", search.of_shared, search.variances)[:, :, group],
        shared,
        turn,
        np.flatnonzero((candidates.order == 1)[group]),
        outcome_sd,
        n_unsettled=len(search.fits),
    )


class _Shrunken(NamedTuple):
    """What shrinks estimates of a precision, for every prior variance.

    Attributes:
        kept: Posterior variance of each coefficient, shape (..., V, k).
        evidence: Log evidence of each variance before the estimates, shape (..., V).
    """

    kept: Floats
    evidence: Floats

    @classmethod
    def of(cls, precision: Floats, variances: Floats, alive: Bools) -> Self:
        """Build for some estimates.

        Args:
            precision: Of the estimates, shape (F, ..., k).
            variances: Prior variances of every fit, zero first, shape (F, V).
            alive: Where anything but zero may be, shape (...).
        """
        n_fits, n_variances = variances.shape
        between = (1,) * (precision.ndim - 2)
        variances = variances.reshape(n_fits, *between, n_variances, 1)
        grown = variances * precision[..., None, :]
        evidence = -0.5 * np.log1p(grown).sum(axis=-1)
        evidence[..., 1:] = np.where(alive[..., None], evidence[..., 1:], -np.inf)
        return cls(variances / (1.0 + grown), evidence)

    def only(self, fits: Ints) -> Self:
        """Of some of the fits, which come first in the shapes."""
        return type(self)(self.kept[fits], self.evidence[fits])

    def posterior(self, moment: Floats, log_prior: Floats) -> tuple[Floats, Floats]:
        """Posterior mean of a term's coefficients, and probability of each variance.

        Args:
            moment: Precision-weighted estimate, shape (..., k).
            log_prior: Of every variance, shape (..., V).

        Returns:
            Shapes (..., k) and (..., V).
        """
        log = (self.kept @ (moment * moment)[..., None])[..., 0]
        log *= 0.5
        log += self.evidence
        log += log_prior
        log -= log.max(axis=-1, keepdims=True)
        probability = np.exp(log, out=log)
        probability /= probability.sum(axis=-1, keepdims=True)
        mean = (probability[..., None, :] @ self.kept)[..., 0, :]
        mean *= moment
        return mean, probability


class _Term(NamedTuple):
    """What the updates of a term need and the sweeps do not change."""

    place: int  # among the terms
    order: int  # among the orders
    at: slice  # its columns
    diagonal: Floats  # (F, k, 1)
    shared: list[_Shrunken]  # (F, V, k) and (F, V), of each who shares
    own: _Shrunken  # (F, M, V, k) and (F, M, V)


class _Work:
    """Working arrays of the fits that have not settled.

    Shapes: F fits, p columns, T terms, M messages, C shared components, V variances.

    Attributes:
        of_shared: Probability of each variance of what is shared, (C, F, T, V).
        of_own: The same of what is a message's own, (F, T, M, V).
        total: Coefficients, (F, p, M).
        moved: Change of each fit in the latest sweep, in units of noise, (F,).
    """

    def __init__(
        self,
        turned: _Turned,
        candidates: Candidates,
        shared: Floats,
        precision: Floats,
        variances: Floats,
        prior: Floats,
    ) -> None:
        self._shared, self._precision, self._prior = shared, precision, prior
        self.orders, self._order = np.unique(candidates.order, return_inverse=True)
        self._alive = candidates.alive.astype(np.float64)[..., None]
        # by order, what each fit does not try has no effect there
        untried = [candidates.untried[int(o)] for o in self.orders]
        self._untried = np.reshape(untried, (len(untried), -1))
        self._diagonal, self._of_message = turned.diagonal, np.diag(precision).copy()
        self._between = precision - np.diag(self._of_message)
        self._along = precision @ shared.T
        overlap = shared @ self._along
        self._together = np.diag(overlap).copy()
        self._apart = overlap - np.diag(self._together)
        self._gram, self._left = turned.gram, turned.cross.copy()
        n_fits, p, n_messages = turned.cross.shape
        n_shared, n_terms = len(shared), len(candidates.order)
        self.total = np.zeros_like(turned.cross)
        self._common = np.zeros((n_shared, n_fits, p))
        self._own = np.zeros_like(turned.cross)
        of_term = prior[:, None]
        self.of_shared = np.tile(of_term, (n_shared, 1, n_terms, 1))
        self.of_own = np.tile(of_term[:, None], (1, n_terms, n_messages, 1))
        self._log_shared = np.tile(np.log(of_term), (n_shared, 1, len(self.orders), 1))
        self._log_own = np.log(self.of_own)
        self._terms = [
            self._term(i, at, candidates.alive[:, i], variances)
            for i, at in enumerate(_columns_of_terms(candidates))
            if at.stop > at.start and candidates.alive[:, i].any()
        ]
        self.moved = np.zeros(n_fits)

    def _term(self, index: int, at: slice, alive: Bools, variances: Floats) -> _Term:
        diagonal = self._diagonal[:, at]
        own = diagonal[:, None] * self._of_message[:, None]
        return _Term(
            index,
            int(self._order[index]),
            at,
            diagonal[..., None],
            [_Shrunken.of(diagonal * s, variances, alive) for s in self._together],
            _Shrunken.of(own, variances, alive[:, None]),
        )

    def only(self, fits: Ints) -> None:
        """Go on with some of the fits.

        Args:
            fits: Positions among the present ones, ascending.
        """
        for to, fit in enumerate(fits):
            # in place: it is the largest array there is
            self._gram[to] = self._gram[fit]
        self._gram = self._gram[: len(fits)]
        self._diagonal, self._left = self._diagonal[fits], self._left[fits]
        self.total, self._own = self.total[fits], self._own[fits]
        self.of_own, self._log_own = self.of_own[fits], self._log_own[fits]
        self._common, self.of_shared = self._common[:, fits], self.of_shared[:, fits]
        self._prior, self._alive = self._prior[fits], self._alive[fits]
        self._untried = self._untried[:, fits]
        self._log_shared = self._log_shared[:, fits]
        self._terms = [
            term._replace(
                diagonal=term.diagonal[fits],
                shared=[each.only(fits) for each in term.shared],
                own=term.own.only(fits),
            )
            for term in self._terms
        ]

    def sweep(self) -> None:
        """Move the coefficients of every term, then learn how often variances occur."""
        self.moved = np.zeros(len(self.total))
        for term in self._terms:
            self._update(term)
        self._learn_prior()

    def has_settled(self) -> Bools:
        """Whether each fit hardly moved in the latest sweep, (F,)."""
        size = _norm(self._diagonal[..., None], self.total, self._of_message)
        settled: Bools = self.moved <= SETTLED * (size + 1e-300)
        return settled

    def _update(self, term: _Term) -> None:
        i, order, at, d, of_shared, of_own = term
        before, own = self.total[:, at], self._own[:, at]
        seen = self._left[:, at] + d * before
        common = self._common[:, :, at]
        alone, flat = (seen - d * own) @ self._along, d[..., 0]
        together = np.zeros_like(before)
        for c, member in enumerate(self._shared):
            others = self._apart[c] @ common.reshape(len(common), -1)
            mean, self.of_shared[c, :, i] = of_shared[c].posterior(
                alone[..., c] - flat * others.reshape(flat.shape),
                self._log_shared[c, :, order],
            )
            # the next component already sees it
            common[c] = mean
            together += mean[..., None] * member
        left = (seen - d * together) @ self._precision
        left -= d * (own @ self._between)
        mean, self.of_own[:, i] = of_own.posterior(
            left.transpose(0, 2, 1), self._log_own[:, i]
        )
        own[:] = mean.transpose(0, 2, 1)
        together += own
        change = together - before
        before[:] = together
        # symmetric: rows of the matrix are its columns
        self._left -= self._gram[:, at].transpose(0, 2, 1) @ change
        self.moved += _norm(d, change, self._of_message)

    def _learn_prior(self) -> None:
        """How often each variance occurs, from all terms of an order."""
        n_fits, _, n_messages, n_variances = self.of_own.shape
        before = SEEN_BEFORE * self._prior
        for o in range(len(self.orders)):
            of = self._order == o
            alive = self._alive[:, of]
            nothing = np.zeros((n_fits, n_variances))
            nothing[:, 0] = self._untried[o]
            counted = (self.of_shared[:, :, of] * alive).sum(axis=2) + nothing + before
            share = counted / counted.sum(axis=-1, keepdims=True)
            self._log_shared[:, :, o] = np.log(share)
            own = self.of_own[:, of] * alive[..., None]
            counted = own.sum(axis=(1, 2)) + n_messages * nothing + before
            share = (counted / counted.sum(axis=-1, keepdims=True))[:, None, None]
            # a term's other messages say how it is used; its own would say it twice
            of_term = own.sum(axis=2, keepdims=True) - own + TERM_LIKE_OTHERS * share
            self._log_own[:, of] = np.log(of_term / of_term.sum(axis=-1, keepdims=True))


def _prior(
    usual: float, n_terms: Ints, size: Floats, expected: float
) -> tuple[Floats, Floats]:
    """Prior variances of a coefficient, and how often each occurs before any data.

    They lie between what cannot be told from zero and what cannot be missed; where the
    noise is so large that even the smallest would be more than is expected of lifts,
    they follow what is expected. The larger a variance the rarer, and all the more
    where one term alone would move lifts by more than is expected of all.

    Args:
        usual: Variance of an estimate where nothing else is estimated.
        n_terms: Terms that each fit tries, shape (F,).
        size: Variance of lift if all their coefficients had variance 1, shape (F,).
        expected: Variance of lift between voters.

    Returns:
        Zero first, shape (F, V) each.
    """
    size = np.maximum(size, 1e-300)
    of_term = size / np.maximum(n_terms, 1)
    smallest = np.minimum(SMALLEST * usual, expected / size)
    largest = np.minimum(LARGEST * usual, LARGEST_TERM * expected / of_term)
    nonzero = np.geomspace(smallest, largest, N_VARIANCES, axis=1)
    often = nonzero**-0.5 / (1 + nonzero * of_term[:, None] / expected)
    often /= often.sum(axis=1, keepdims=True)
    # half of it is what messages share
    null = np.maximum(
        LEAST_NULL, 1 - expected / 2 / (size * (often * nonzero).sum(axis=1))
    )
    frequency = np.column_stack([null, (1 - null)[:, None] * often])
    return np.column_stack([np.zeros(len(nonzero)), nonzero]), frequency


def _norm(diagonal: Floats, of: Floats, precision: Floats) -> Floats:
    """Lift of coefficients in units of noise, (F,)."""
    norm: Floats = (diagonal * (of * of)).sum(axis=1) @ precision
    return norm


def _columns_of_terms(candidates: Candidates) -> list[slice]:
    """Columns of every term, which stand together."""
    terms = np.arange(len(candidates.order) + 1)
    ends = np.searchsorted(candidates.group, terms)
    return [slice(int(a), int(b)) for a, b in pairwise(ends)]


class _Search:
    """The coordinate updates of all fits at once.

    A fit that has settled leaves the working arrays, whatever the others do.

    Shapes: F fits, p columns, T terms, M messages, C shared components, V variances.
    """

    def __init__(
        self,
        moments: Sequence[EffectMoments],
        candidates: Candidates,
        shared: Floats,
        expected_sd: float,
    ) -> None:
        turned = _turned(moments, candidates)
        self.turn = turned.turn
        noise = moments[0].noise
        whiten, _ = whitened(noise)
        precision: Floats = whiten @ whiten
        n_fits = len(moments)
        voters = float(np.mean([m.n for m in moments]))
        usual = 1.0 / (max(float(np.diag(precision).mean()), 1e-300) * voters)
        # fits that have not settled
        self.fits = np.arange(n_fits)
        n_terms = candidates.alive.sum(axis=1)
        tried = candidates.alive[:, candidates.group]
        size = (turned.diagonal * tried).sum(axis=1) / voters
        self.variances, prior = _prior(usual, n_terms, size, expected_sd**2)
        self.work = _Work(turned, candidates, shared, precision, self.variances, prior)
        # of all fits, as they were when they settled
        self.of_shared, self.of_own = self.work.of_shared, self.work.of_own
        self.total = self.work.total

    def sweep(self) -> None:
        """Move all terms of all fits once, learn how they are used, set aside fits."""
        work = self.work
        work.sweep()
        unsettled = ~work.has_settled()
        if unsettled.all() and len(self.fits) == len(self.total):
            return
        self.total[self.fits] = work.total
        self.of_own[self.fits] = work.of_own
        self.of_shared[:, self.fits] = work.of_shared
        if unsettled.all():
            return
        self.fits = self.fits[unsettled]
        if len(self.fits):
            work.only(np.flatnonzero(unsettled))

    def inclusion(self) -> Floats:
        """Probability that a term matters to any message, shape (F, T)."""
        none = self.of_own[..., 0].prod(axis=2) * self.of_shared[..., 0].prod(axis=0)
        return np.asarray(1.0 - none)


def _turned(moments: Sequence[EffectMoments], candidates: Candidates) -> _Turned:
    gram = np.stack([m.gram for m in moments])
    cross = np.stack([m.cross for m in moments])
    turn, diagonal = np.zeros_like(gram), np.zeros(gram.shape[:2])
    for g in range(len(candidates.order)):
        at = np.flatnonzero(candidates.group == g)
        if not len(at):
            continue
        values, vectors = np.linalg.eigh(gram[:, at[:, None], at])
        telling = values > TELLING * values.sum(axis=1, keepdims=True)
        turn[:, at[:, None], at] = vectors * telling[:, None, :]
        diagonal[:, at] = np.where(telling, values, 0.0)
    back = turn.transpose(0, 2, 1)
    turned = back @ gram @ turn
    p = gram.shape[1]
    turned[:, np.arange(p), np.arange(p)] = diagonal
    return _Turned(turned, diagonal, back @ cross, turn)
