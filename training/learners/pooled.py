"""Empirical Bayes for many messages at once: a linear model that pools and prunes.

Doubly robust lifts of n voters and M messages follow L = Φ B + noise, where the noise
of a voter has covariance S between messages. Coefficients of term g and message m have
the prior

    B_jm = Σ_c a_cm θ_jc,   θ_jc ~ N(0, λ_g(j) r_c)

with components c: what all messages share, what those of an issue share, what a
message has of its own. λ is the variance of lift that a term adds, r how much of it is
shared. Both maximise the marginal likelihood; a term stays only if the data speak for
it by more than the number of products that were tried. Because Φ'Φ is the same for all
messages, S and the prior are diagonalised together, and M small ridge problems share
one decomposition.

Sources: MacKay (1992); Tipping (2001); Kass & Raftery (1995).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hustings.features.arrays import Bools, Floats, Ints

N_ROUNDS = 12
"""Updates of the prior in one fit; the evidence hardly moves after ten."""
FIRST_SHARE = 1e-3
"""Prior variance to begin with, as a share of the noise of one voter."""
NEGLIGIBLE = 1e-9
"""A prior variance below this share of the noise of one voter is zero."""
SHRINK_OWN = 4.0
"""How many effective coefficients the average message counts for beside the own."""


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


class Components(NamedTuple):
    """Groups of messages that share coefficients.

    Attributes:
        member: a, shape (n_components, M).
        of_one_message: Which components belong to one message alone, shape
            (n_components,).
    """

    member: Floats
    of_one_message: Bools


def components(issues: Sequence[str], with_own: Sequence[bool]) -> Components:
    """All messages, the issues of several messages, and messages by themselves.

    Args:
        issues: Issue of every message, length M.
        with_own: Which messages were sent to enough people to differ, length M.
    """
    n = len(issues)
    shared = [np.ones(n)]
    for issue in dict.fromkeys(issues):
        member = np.array([i == issue for i in issues], dtype=np.float64)
        if 1 < member.sum() < n:
            shared.append(member)
    alone = [row for row, differs in zip(np.eye(n), with_own, strict=True) if differs]
    # one message shares with nobody
    rows = alone if n == 1 and alone else shared + alone
    of_one_message = np.arange(len(rows)) >= len(rows) - len(alone)
    return Components(np.array(rows), of_one_message)


@dataclass(frozen=True)
class TermPrior:
    """λ and r.

    Attributes:
        term: λ of every term, shape (n_terms,).
        component: r of every component, shape (n_components,).
    """

    term: Floats
    component: Floats


@dataclass(frozen=True)
class TermPosterior:
    """Coefficients and what is needed for their uncertainty.

    Attributes:
        coefficients: Shape (p, M).
        directions: Shape (p, k).
        variances: Of every direction and rotated message, shape (k, M).
        spread: Squares of the rotation back to messages, shape (M, M).
    """

    coefficients: Floats
    directions: Floats
    variances: Floats
    spread: Floats

    def variance(self, columns: npt.NDArray[np.floating]) -> Floats:
        """Posterior variance of lift, shape (n, M).

        Args:
            columns: Φ of n voters, shape (n, p).
        """
        along = np.asarray(columns @ self.directions, dtype=np.float64) ** 2
        variance: Floats = along @ (self.variances @ self.spread)
        return variance


class _Solved(NamedTuple):
    """The model in the coordinates where messages and directions are independent."""

    scale: Floats  # sqrt(λ) of every column, (p,)
    Q: Floats  # eigenvectors, (p, p)
    d: Floats  # eigenvalues, (p,)
    t: Floats  # prior variance of every rotated message, (M,)
    turned: Floats  # rotated cross moments, (p, M)
    turn: Floats  # messages → rotated messages, (M, M)
    back: Floats  # rotated messages → messages, (M, M)

    @property
    def direction_variance(self) -> Floats:
        """Posterior variance of every direction and rotated message, (p, M)."""
        variance: Floats = 1.0 / (self.d[:, None] + 1.0 / self.t)
        return variance

    @property
    def mean(self) -> Floats:
        """Posterior mean in units of sqrt(λ), (p, M)."""
        mean: Floats = self.Q @ (self.turned * self.direction_variance)
        return mean

    @property
    def variance(self) -> Floats:
        """Posterior variance in units of λ, (p, M)."""
        variance: Floats = self.Q**2 @ self.direction_variance
        return variance


def whitened(noise: Floats) -> tuple[Floats, Floats]:
    """Symmetric matrices that make a covariance the identity, and back, (M, M) each.

    A direction without noise of its own (two messages that nobody got) counts as one
    of next to none.
    """
    values, vectors = np.linalg.eigh(noise)
    root = np.sqrt(np.maximum(values, 1e-12 * values.max()))
    return (vectors / root) @ vectors.T, (vectors * root) @ vectors.T


def _solve(
    moments: EffectMoments, group: Ints, prior: TermPrior, parts: Components
) -> _Solved:
    whiten, unwhiten = whitened(moments.noise)
    between = (parts.member.T * prior.component) @ parts.member
    t, V = np.linalg.eigh(whiten @ between @ whiten)
    t = np.maximum(t, 1e-9 * max(float(t.max()), 1e-300))
    scale = np.sqrt(prior.term[group])
    d, Q = np.linalg.eigh(scale[:, None] * moments.gram * scale)
    turn = whiten @ V
    turned = Q.T @ (scale[:, None] * moments.cross @ turn)
    return _Solved(scale, Q, np.maximum(d, 0.0), t, turned, turn, V.T @ unwhiten)


def fit_prior(
    moments: EffectMoments,
    group: Ints,
    parts: Components,
    *,
    start: TermPrior | None = None,
    rounds: int = N_ROUNDS,
) -> TermPrior:
    """λ and r of the highest marginal likelihood.

    Args:
        moments: Of p columns.
        group: Term of every column, shape (p,).
        parts: Groups of messages that share coefficients.
        start: Where to begin.
        rounds: Updates.
    """
    noise = float(np.trace(moments.noise)) / len(moments.noise)
    n_terms = int(group.max()) + 1 if len(group) else 0
    prior = start or TermPrior(
        np.full(n_terms, FIRST_SHARE * noise / max(n_terms, 1)),
        np.full(len(parts.of_one_message), 1.0 / len(parts.of_one_message) ** 0.5),
    )
    for _ in range(rounds):
        live = prior.term[group] > NEGLIGIBLE * noise
        if not live.any():
            return TermPrior(np.zeros(n_terms), prior.component)
        columns = np.flatnonzero(live)
        solved = _solve(moments.only(columns), group[columns], prior, parts)
        term = _next_terms(solved, group[columns], prior.term)
        prior = TermPrior(term, _next_components(solved, prior.component, parts))
    return prior


def _next_terms(solved: _Solved, group: Ints, term: Floats) -> Floats:
    """MacKay's update: squared size over the number of well-determined directions."""
    size = (solved.mean**2 / solved.t).sum(axis=1)
    determined = (1.0 - solved.variance / solved.t).sum(axis=1)
    moved: Floats = term * _ratio(
        np.bincount(group, size, minlength=len(term)).astype(np.float64),
        np.bincount(group, determined, minlength=len(term)).astype(np.float64),
    )
    return moved


def _next_components(solved: _Solved, component: Floats, parts: Components) -> Floats:
    """The same for what is shared; own components are pulled to their average."""
    a = parts.member @ solved.turn
    along = component[:, None] * a / solved.t  # (n_components, M)
    mean = solved.mean @ along.T
    prior_kept = component - component**2 * (a**2 / solved.t).sum(axis=1)
    variance = prior_kept + solved.variance @ (along**2).T
    size = (mean**2).sum(axis=0) / np.maximum(component, 1e-300)
    determined = (1.0 - variance / np.maximum(component, 1e-300)).sum(axis=0)
    of_one_message = parts.of_one_message
    if of_one_message.sum() > 1:
        # a message with few people is taken to differ as the others do
        share = size[of_one_message].sum() / max(
            float(determined[of_one_message].sum()), 1e-9
        )
        size, determined = size.copy(), determined.copy()
        level = component[of_one_message].mean() / np.maximum(
            component[of_one_message], 1e-300
        )
        size[of_one_message] += SHRINK_OWN * share * level
        determined[of_one_message] += SHRINK_OWN
    moved: Floats = component * _ratio(size, determined)
    return moved * float(component.sum()) / max(float(moved.sum()), 1e-300)


def _ratio(size: Floats, determined: Floats) -> Floats:
    ratio = size / np.maximum(determined, 1e-9)
    clipped: Floats = np.where(determined > 1e-9, np.clip(ratio, 1e-3, 10.0), 0.0)
    return clipped


def evidence_for(
    moments: EffectMoments, group: Ints, prior: TermPrior, parts: Components
) -> Floats:
    """Log Bayes factor of every term against its coefficients being zero.

    The Savage-Dickey ratio at zero, all other terms kept; -inf for a term of no
    variance.

    Args:
        moments: Of p columns.
        group: Term of every column, shape (p,).
        prior: λ and r.
        parts: Groups of messages that share coefficients.
    """
    evidence = np.full(len(prior.term), -np.inf)
    columns = np.flatnonzero(prior.term[group] > 0)
    if len(columns) == 0:
        return evidence
    solved = _solve(moments.only(columns), group[columns], prior, parts)
    direction_variance, mean = solved.direction_variance, solved.mean
    for g in np.unique(group[columns]):
        at = np.flatnonzero(group[columns] == g)
        Q = solved.Q[at]
        # covariance of the term for every rotated message, (M, k, k)
        C = np.einsum("ik,km,jk->mij", Q, direction_variance, Q, optimize=True)
        # in units of the prior, so that the unit of the outcome does not matter
        C = C / solved.t[:, None, None] + 1e-12 * np.eye(len(at))
        scaled = (mean[at] / np.sqrt(solved.t)).T
        sign = np.linalg.slogdet(C)[1].sum()
        along = np.linalg.solve(C, scaled[:, :, None])[:, :, 0]
        size = np.einsum("mi,mi->", scaled, along)
        evidence[g] = 0.5 * (sign + size)
    return evidence


def posterior(
    moments: EffectMoments, group: Ints, prior: TermPrior, parts: Components
) -> TermPosterior:
    """Coefficients given the prior.

    Args:
        moments: Of p columns.
        group: Term of every column, shape (p,).
        prior: λ and r.
        parts: Groups of messages that share coefficients.
    """
    solved = _solve(moments, group, prior, parts)
    coefficients = solved.scale[:, None] * solved.mean @ solved.back
    return TermPosterior(
        coefficients,
        solved.scale[:, None] * solved.Q,
        solved.direction_variance,
        solved.back**2,
    )
