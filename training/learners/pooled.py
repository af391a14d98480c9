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
under the prior variances that were found, narrowed by what the others say.

Sources: Carbonetto & Stephens (2012); Stephens (2017); Morgante et al. (2023).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from hustings.features.arrays import Bools, Floats, Ints

SCALES = 2.0 ** np.arange(-5, 6, 2)
"""Prior variances of a coefficient, in variances of its estimate where nothing else is
estimated; the smallest can hardly be told from zero, the largest not missed."""
NULL_AT_FIRST = 0.2
"""Probability of no effect to begin with."""
ONE_AS_PRIOR = 0.05
"""How many effects of every variance are taken to have been seen before."""
TERM_LIKE_OTHERS = 16.0
"""For how many messages it counts that terms are alike, where a term tells how its
other messages use it."""
NONE_AS_PRIOR = 1.0
"""How many without."""
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
        untried: By order, how many more terms were left out unseen or for looking like
            nothing: they count as terms without effect.
    """

    group: Ints
    order: Ints
    alive: Bools
    untried: dict[int, int]


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
    """

    coefficients: Floats
    inclusion: Floats
    own_variance: Floats
    shared_variance: Floats
    shared: Floats
    turn: Floats

    def directions(self, k: int, moments: EffectMoments) -> tuple[Floats, Floats]:
        """Directions of most posterior variance, and the variance beside them.

        Given the prior variances that were found, exact for the message's own data;
        the data of others narrow the prior of what is shared, column by column. Columns
        of which next to nothing is expected keep their prior variance.

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
        directions, beside = np.zeros((p, len(noise), n_kept)), np.zeros(len(noise))
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
        return directions, np.maximum(beside, 0.0)

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
    moments: Sequence[EffectMoments], candidates: Candidates, shared: Floats
) -> TermPosterior:
    """Posterior of the coefficients of several fits, each with a prior of its own.

    Args:
        moments: Of every fit, of the same p columns and M messages.
        candidates: Terms.
        shared: From `sharing`.
    """
    search = _Search(moments, candidates, shared)
    for _ in range(MAX_SWEEPS):
        moved = sum(search.update(i) for i in range(len(candidates.order)))
        search.learn_prior()
        # a fit that has settled stays, whatever the others do
        search.settled |= moved <= SETTLED * search.size()
        if search.settled.all():
            break
    group, turn = candidates.group, search.turned.turn
    return TermPosterior(
        turn @ search.total,
        search.inclusion(),
        (search.of_own @ search.variances)[:, group],
        (search.of_shared @ search.variances)[:, :, group],
        shared,
        turn,
    )


class _Search:
    """State of the coordinate updates.

    Shapes: F fits, p columns, T terms, M messages, C shared components, V variances.
    """

    def __init__(
        self, moments: Sequence[EffectMoments], candidates: Candidates, shared: Floats
    ) -> None:
        self.candidates, self.shared = candidates, shared
        self.turned = _turned(moments, candidates)
        noise = moments[0].noise
        whiten, _ = whitened(noise)
        self.precision: Floats = whiten @ whiten
        n_fits, p, n_messages = self.turned.cross.shape
        voters = float(np.mean([m.n for m in moments]))
        usual = 1.0 / (max(float(np.diag(self.precision).mean()), 1e-300) * voters)
        self.variances = np.concatenate([[0.0], usual * SCALES])
        n_terms, n_shared = len(candidates.order), len(shared)
        self.at = [np.flatnonzero(candidates.group == g) for g in range(n_terms)]
        self.columns = [
            np.ascontiguousarray(self.turned.gram[:, :, a]) for a in self.at
        ]
        self.orders, self.order = np.unique(candidates.order, return_inverse=True)
        n_orders = len(self.orders)
        start = np.full(len(self.variances), (1 - NULL_AT_FIRST) / len(SCALES))
        start[0] = NULL_AT_FIRST
        self.of_shared = np.tile(start, (n_shared, n_fits, n_terms, 1))
        self.of_own = np.tile(start, (n_fits, n_terms, n_messages, 1))
        self.log_shared = np.tile(np.log(start), (n_shared, n_fits, n_orders, 1))
        self.log_own = np.log(self.of_own)
        self.common = np.zeros((n_shared, n_fits, p))
        self.own = np.zeros((n_fits, p, n_messages))
        self.total = np.zeros_like(self.own)
        self.left = self.turned.cross.copy()
        self.settled = np.zeros(n_fits, dtype=bool)

    def size(self) -> Floats:
        """Lift explained by each fit, in units of noise, (F,)."""
        return self._norm(self.turned.diagonal, self.total) + 1e-300

    def _norm(self, diagonal: Floats, of: Floats) -> Floats:
        squares = diagonal[..., None] * of**2
        norm: Floats = (squares * np.diag(self.precision)).sum(axis=(1, 2))
        return norm

    def update(self, i: int) -> Floats:
        """Move the coefficients of a term; by how much each fit changed, (F,)."""
        at, alive = self.at[i], self.candidates.alive[:, i]
        if not len(at) or not alive.any():
            return np.zeros(len(alive))
        d = self.turned.diagonal[:, at]
        before = self.total[:, at]
        seen = self.left[:, at] + d[..., None] * before
        common = self.common[:, :, at]
        together = np.einsum("cfk,cm->fkm", common, self.shared)
        for c, member in enumerate(self.shared):
            others = self.own[:, at] + together - common[c][..., None] * member
            along = self.precision @ member
            mean, probability = self._shrink(
                (seen - d[..., None] * others) @ along,
                d * (member @ along),
                self.log_shared[c, :, self.order[i]],
                alive,
            )
            mean[self.settled] = common[c][self.settled]
            together = together + (mean - common[c])[..., None] * member
            self.common[c][:, at] = mean
            self._note(self.of_shared[c, :, i], probability)
        between = self.precision - np.diag(np.diag(self.precision))
        left = (seen - d[..., None] * together) @ self.precision
        left -= d[..., None] * (self.own[:, at] @ between)
        own, probability = self._shrink(
            left,
            d[..., None] * np.diag(self.precision),
            self.log_own[:, i],
            alive[:, None],
        )
        own[self.settled] = self.own[:, at][self.settled]
        self.own[:, at] = own
        self._note(self.of_own[:, i], probability)
        after = together + own
        self.total[:, at] = after
        self.left -= self.columns[i] @ (after - before)
        return self._norm(d, after - before)

    def _note(self, kept: Floats, new: Floats) -> None:
        kept[~self.settled] = new[~self.settled]

    def _shrink(
        self, moment: Floats, precision: Floats, log_prior: Floats, alive: Bools
    ) -> tuple[Floats, Floats]:
        """Posterior mean of a term's coefficients, and probability of each variance.

        Args:
            moment: Precision-weighted estimate, shape (F, k) or (F, k, M).
            precision: Of the estimate, the same shape.
            log_prior: Of every variance, shape (F, V) or (F, M, V).
            alive: Where anything but zero may be, shape (F,) or (F, 1).
        """
        variance = self.variances.reshape(-1, *[1] * moment.ndim)
        grown = variance * precision
        kept = variance / (1.0 + grown)
        evidence = 0.5 * (kept * moment**2 - np.log1p(grown)).sum(axis=2)
        log = np.moveaxis(evidence, 0, -1) + log_prior
        log[..., 1:] = np.where(alive[..., None], log[..., 1:], -np.inf)
        probability = np.exp(log - log.max(axis=-1, keepdims=True))
        probability /= probability.sum(axis=-1, keepdims=True)
        weight = np.moveaxis(probability, -1, 0)[:, :, None]
        return (weight * kept * moment).sum(axis=0), probability

    def learn_prior(self) -> None:
        """How often each variance occurs, from all terms of an order."""
        alive = self.candidates.alive
        seen_before = np.full(len(self.variances), ONE_AS_PRIOR)
        seen_before[0] = NONE_AS_PRIOR
        n_messages = self.own.shape[2]
        for o, order in enumerate(self.orders):
            of = self.order == o
            n_untried = self.candidates.untried.get(int(order), 0)
            nothing = np.zeros((len(alive), len(self.variances)))
            # what a fit does not try has no effect there
            nothing[:, 0] = n_untried
            counted = (self.of_shared[:, :, of]).sum(axis=2) + nothing + seen_before
            share = counted / counted.sum(axis=-1, keepdims=True)
            self.log_shared[:, :, o] = np.log(share)
            own = self.of_own[:, of]
            counted = own.sum(axis=(1, 2)) + n_messages * nothing + seen_before
            share = (counted / counted.sum(axis=-1, keepdims=True))[:, None, None]
            # a term's other messages say how it is used; its own would say it twice
            of_term = own.sum(axis=2, keepdims=True) - own + TERM_LIKE_OTHERS * share
            self.log_own[:, of] = np.log(of_term / of_term.sum(axis=-1, keepdims=True))

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
