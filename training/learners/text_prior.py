"""Average effects of messages, pooled within issue and informed by what they say.

The estimated effects of M messages are y = H β + s (f + u) + ε: a mean β for every pool
(issue), a part f that follows the text (a ridge regression on each block of its
features, all pools together), what is left of the message itself u ~ N(0, τ²), a scale
s for every pool, since messages differ more on some issues than on others, and the
known noise ε of the estimates. The penalties and τ² maximise the restricted likelihood,
so text that says nothing gets no weight. A message that was sent gets its posterior; a
message never sent gets β + s f, and the whole of τ² stays in its interval.

Sources: Morris (1983); Robinson (1991), "That BLUP is a good thing"; Patterson &
Thompson (1971) for the restricted likelihood.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.optimize import minimize
from scipy.stats import norm

from hustings.features.arrays import Bools, Floats, Ints

MIN_MESSAGES = 12
"""Fewer messages than this cannot show that their texts say anything."""
ALPHA = 0.05
"""One-sided level at which the text has to rank messages that it did not see."""
N_SPLITS = 5
MIN_PART_OF_NOISE = 0.01
"""τ² of at least 1 % of the noise keeps messages apart where data cannot tell."""


class TextPosterior(NamedTuple):
    """Effects of messages.

    Attributes:
        mean: Outcome units, NaN where nothing can be said, shape (k,).
        se: Posterior standard deviation, NaN there too, shape (k,).
    """

    mean: Floats
    se: Floats


class TextTest(NamedTuple):
    """Test of whether texts predict the effects of messages left out.

    Attributes:
        slope: Estimated effect per unit predicted from the text, within pools.
        se: Its standard error.
    """

    slope: float
    se: float

    @property
    def passed(self) -> bool:
        """Whether the slope lies above zero (one-sided, `ALPHA`)."""
        return self.slope > float(norm.isf(ALPHA)) * self.se


UNTESTED = TextTest(0.0, float("inf"))


@dataclass(frozen=True)
class SentMessages:
    """Estimates and texts of the messages that were sent; axis 0 is the message.

    Attributes:
        estimate: Estimated effects, shape (M,).
        covariance: Of the estimates (they share controls), shape (M, M).
        pool: Position in `pools`, shape (M,).
        text: Features of the text, shape (M, d).
        block: Block of every feature; each has its own penalty, shape (d,).
    """

    estimate: Floats
    covariance: Floats
    pool: Ints
    text: Floats
    block: Ints

    def take(self, rows: Ints) -> Self:
        """Some of the messages."""
        return type(self)(
            self.estimate[rows],
            self.covariance[np.ix_(rows, rows)],
            np.unique(self.pool[rows], return_inverse=True)[1],
            self.text[rows],
            self.block,
        )


@dataclass(frozen=True)
class MessagePrior:
    """Effects of messages by pool and text.

    Attributes:
        pools: Names, length G.
        sent: What it was learnt from.
        weight: Variance explained by every block of the text, then τ², (n_blocks + 1,).
        test: Whether the text is believed; where it is not, its weights are 0.
    """

    pools: tuple[str, ...]
    sent: SentMessages
    weight: Floats
    test: TextTest

    @property
    def between_variance(self) -> Floats:
        """Variance between messages that their text does not explain, (G,)."""
        variance: Floats = self.weight[-1] * _scales(self.sent) ** 2
        return variance

    def of_sent(self) -> TextPosterior:
        """Partially pooled effects of the messages it was learnt from, (M,) each."""
        return _posterior(self.sent, self.weight, None)

    def of_new(self, text: Floats, pool: Sequence[str]) -> TextPosterior:
        """Effects of messages never sent, (k,) each.

        NaN where nothing is known: the text failed its test, no message of the pool
        was sent, or the text is `far` from all that were.

        Args:
            text: Features as at the fit, shape (k, d).
            pool: Of every message, length k.
        """
        place = {name: g for g, name in enumerate(self.pools)}
        code = np.array([place.get(name, -1) for name in pool], dtype=np.int64)
        answerable = (code >= 0) & ~self.far(text) & self.test.passed
        mean, se = (np.full(len(code), np.nan) for _ in range(2))
        if answerable.any():
            new = (text[answerable].astype(np.float64), code[answerable])
            mean[answerable], se[answerable] = _posterior(self.sent, self.weight, new)
        return TextPosterior(mean, se)

    def far(self, text: Floats) -> Bools:
        """Texts further from every sent one than any sent one is from the others, (k,).

        Args:
            text: Features as at the fit, shape (k, d).
        """
        meaning = self.sent.block == 0
        return far_from(text[:, meaning], self.sent.text[:, meaning])

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Everything but the names, to be saved."""
        return {**vars(self.sent), "weight": self.weight, "test": np.array(self.test)}

    @classmethod
    def from_arrays(
        cls, pools: Sequence[str], stored: Mapping[str, npt.NDArray[np.generic]]
    ) -> Self:
        """Read the names and what `arrays` gave."""
        fields = {k: v for k, v in stored.items() if k not in ("weight", "test")}
        test = TextTest(*(float(x) for x in stored["test"].tolist()))
        weight = stored["weight"].astype(np.float64)
        return cls(tuple(pools), SentMessages(**fields), weight, test)  # type: ignore[arg-type]


def far_from(text: Floats, sent_text: Floats) -> Bools:
    """Texts further from every sent one than any sent one is from the others, (k,).

    Args:
        text: Features in which distance is measured, shape (k, d).
        sent_text: Of the messages that were sent, shape (M, d).
    """
    among = _distances(sent_text, sent_text)
    np.fill_diagonal(among, np.inf)
    furthest = among.min(axis=1).max()
    nearest = _distances(text, sent_text).min(axis=1)
    return np.asarray(nearest > furthest + 1e-9)


def fit_message_prior(
    estimate: Floats,
    covariance: Floats,
    pool: Sequence[str],
    text: Sequence[Floats],
    *,
    rng: np.random.Generator,
) -> MessagePrior:
    """Learn how far messages differ and how much of it their texts tell.

    Args:
        estimate: Estimated effects, shape (M,).
        covariance: Of the estimates, shape (M, M); 0 between experiments.
        pool: Pool (issue) of every message, length M.
        text: Blocks of text features, shape (M, d_b) each; the first is the one in
            which distance is measured.
        rng: For the splits of messages by which the text is tested.

    Raises:
        ValueError: If the arrays do not speak of the same messages.
    """
    sizes = {len(estimate), len(covariance), len(pool), *(len(b) for b in text)}
    if len(sizes) > 1:
        raise ValueError(
            f"expected estimates, covariance, pools and text of the same messages, got "
            f"lengths {sorted(sizes)}"
        )
    pools = tuple(dict.fromkeys(pool))
    code = np.array([pools.index(p) for p in pool], dtype=np.int64)
    block = np.repeat(np.arange(len(text)), [b.shape[1] for b in text])
    sent = SentMessages(estimate, covariance, code, np.column_stack(text), block)
    test = held_out_test(sent, rng)
    return MessagePrior(pools, sent, _weights(sent, believed=test.passed), test)


def even_noise(covariance: Floats, pool: Sequence[str], people: Ints) -> Floats:
    """Covariance of estimates whose own noise is that of their number of people.

    With a handful of people a message's own variance says little, and a small one by
    chance would be believed. What a pool shares (the noise of its controls) stays; the
    rest is σ² / people with one σ² for the pool.

    Args:
        covariance: Of the estimates, shape (M, M).
        pool: Pool of every message, length M.
        people: Whose outcome was observed of each; an estimate from nobody is next to
            unknown, shape (M,).
    """
    evened = covariance.copy()
    count = np.maximum(people.astype(np.float64), 0.01)
    names = np.array(pool, dtype=object)
    for name in set(pool):
        at = np.flatnonzero(names == name)
        block = covariance[np.ix_(at, at)]
        k, own_variance = len(at), np.diag(block).copy()
        shared = (block.sum() - own_variance.sum()) / (k * (k - 1)) if k > 1 else 0.0
        own_variance = np.maximum(own_variance - shared, 0.0)
        sigma2 = float((own_variance * count[at] ** 2).sum() / count[at].sum())
        evened[at, at] = max(shared, 0.0) + sigma2 / count[at]
    return evened


def held_out_test(sent: SentMessages, rng: np.random.Generator) -> TextTest:
    """Slope of estimates on what the text of messages left out predicts.

    Args:
        sent: All messages.
        rng: For the splits.
    """
    n = len(sent.estimate)
    if n < MIN_MESSAGES:
        return UNTESTED
    fold = rng.permutation(n) % N_SPLITS
    predicted, realised = np.zeros(n), np.zeros(n)
    for k in range(N_SPLITS):
        held = np.flatnonzero(fold == k)
        predicted[held] = text_ranks(sent, held)
        # within the pool: its mean is not what the text has to tell
        realised[held] = _centred(sent.estimate[held], sent.pool[held])
        predicted[held] = _centred(predicted[held], sent.pool[held])
    precision = 1.0 / (np.diag(sent.covariance) + np.var(realised))
    spread = float(precision @ predicted**2)
    if spread <= 1e-12 * n:
        return UNTESTED
    slope = float(precision @ (predicted * realised)) / spread
    error = precision * predicted * (realised - slope * predicted)
    return TextTest(slope, float(np.sqrt(error @ error)) / spread)


def text_ranks(sent: SentMessages, held: Ints) -> Floats:
    """Part f of messages left out, learnt from the others, shape (n_held,).

    0 for a message of a pool that has nobody else.

    Args:
        sent: All messages.
        held: Which are left out.
    """
    training = np.setdiff1d(np.arange(len(sent.estimate)), held)
    among = np.isin(sent.pool[held], sent.pool[training])
    ranks = np.zeros(len(held))
    rest = sent.take(training)
    code = np.searchsorted(np.unique(sent.pool[training]), sent.pool[held[among]])
    weight = _weights(rest, believed=True)
    new = (sent.text[held[among]], code)
    # without the mean of the pool, which is the same for all of it
    ranks[among] = _posterior(rest, weight, new).mean - _pool_means(rest, weight)[code]
    return ranks


def _centred(values: Floats, pool: Ints) -> Floats:
    total = np.bincount(pool, weights=values)
    centred: Floats = values - (total / np.maximum(np.bincount(pool), 1))[pool]
    return centred


def _scales(sent: SentMessages) -> Floats:
    """How much more messages differ in each pool than on average, (G,).

    The variance between messages by moments, halfway to that of all pools: one pool
    alone is too few to be believed in full.
    """
    n_pools = int(sent.pool.max()) + 1
    between = np.zeros(n_pools)
    for g in range(n_pools):
        at = np.flatnonzero(sent.pool == g)
        if len(at) > 1:
            noise = sent.covariance[np.ix_(at, at)]
            noise_between = (np.trace(noise) - noise.mean() * len(at)) / (len(at) - 1)
            between[g] = max(sent.estimate[at].var(ddof=1) - noise_between, 0.0)
    mean = float(np.bincount(sent.pool) @ between) / len(sent.pool)
    if mean <= 0:
        return np.ones(n_pools)
    return np.sqrt((between + mean) / (2.0 * mean))


def _basis(sent: SentMessages) -> tuple[Floats, Floats]:
    """Centre by pool, shape (G, d), and scale, shape (d,), of the text's features."""
    n_pools = int(sent.pool.max()) + 1
    count = np.bincount(sent.pool, minlength=n_pools)[:, None]
    centre = np.zeros((n_pools, sent.text.shape[1]))
    np.add.at(centre, sent.pool, sent.text)
    centre /= count
    spread = (sent.text - centre[sent.pool]).std(axis=0)
    used = spread > 1e-6
    width = np.bincount(sent.block, weights=used)[sent.block]
    scale = np.divide(1.0, spread * np.sqrt(width), out=np.zeros(len(used)), where=used)
    return centre, scale


class _Kernels(NamedTuple):
    """Covariance of s (f + u) per unit of weight: a matrix for each, the last τ²."""

    sent: list[Floats]
    cross: list[Floats]
    new: list[Floats]


def _kernels(sent: SentMessages, new: tuple[Floats, Ints] | None) -> _Kernels:
    """Covariances among the sent, of new (or the same) with sent, and new variances."""
    centre, scale = _basis(sent)
    s = _scales(sent)
    Z = (sent.text - centre[sent.pool]) * scale * s[sent.pool][:, None]
    own_part = np.diag(s[sent.pool] ** 2)
    blocks = [sent.block == b for b in np.unique(sent.block)]
    among = [*(Z[:, b] @ Z[:, b].T for b in blocks), own_part]
    if new is None:
        return _Kernels(among, among, [np.diag(K) for K in among])
    text, code = new
    W = (text - centre[code]) * scale * s[code][:, None]
    cross = [*(W[:, b] @ Z[:, b].T for b in blocks), np.zeros((len(code), len(Z)))]
    alone = [*((W[:, b] ** 2).sum(axis=1) for b in blocks), s[code] ** 2]
    return _Kernels(among, cross, alone)


def _weights(sent: SentMessages, *, believed: bool) -> Floats:
    """Weights that maximise the restricted likelihood, shape (n_blocks + 1,)."""
    kernels = _kernels(sent, None).sent
    noise = float(np.trace(sent.covariance)) / len(sent.estimate)
    n_blocks = len(kernels) - 1
    if not believed:
        kernels = kernels[-1:]
    total = max(float(np.var(sent.estimate)), noise, 1e-12)
    # logarithms: weights are positive and span orders of magnitude
    least = np.log(np.full(len(kernels), 1e-4 * total))
    least[-1] = np.log(MIN_PART_OF_NOISE * noise + 1e-12)
    start = np.maximum(np.log(np.full(len(kernels), 0.2 * total)), least)
    bounds = [(low, np.log(100.0 * total)) for low in least]
    H = _design(sent.pool)
    optimum = minimize(
        _restricted, start, args=(sent.estimate, sent.covariance, H, kernels), jac=True,
        method="L-BFGS-B", bounds=bounds, options={"maxiter": 50, "ftol": 1e-7},
    )  # fmt: skip
    weight = np.exp(optimum.x)
    # on the bound means none
    weight[:-1] = np.where(optimum.x[:-1] <= least[:-1] + 1e-6, 0.0, weight[:-1])
    return weight if believed else np.append(np.zeros(n_blocks), weight)


def _restricted(
    log_weight: Floats, y: Floats, S: Floats, H: Floats, kernels: Sequence[Floats]
) -> tuple[float, Floats]:
    """Minus the restricted log-likelihood, and its gradient."""
    weight = np.exp(log_weight)
    C = S + sum(w * K for w, K in zip(weight, kernels, strict=True))
    inverse, log_determinant = _inverted(C)
    CH = inverse @ H
    A = H.T @ CH
    P = inverse - CH @ np.linalg.solve(A, CH.T)
    Py = P @ y
    value = log_determinant + np.linalg.slogdet(A)[1] + y @ Py
    gradient = [
        w * ((P * K).sum() - Py @ K @ Py) for w, K in zip(weight, kernels, strict=True)
    ]
    return 0.5 * float(value), 0.5 * np.array(gradient)


def _inverted(C: Floats) -> tuple[Floats, float]:
    """Inverse and log-determinant of a positive definite matrix.

    By Cholesky's factor, a third of the work of a general inverse.

    Raises:
        ValueError: If the matrix is not positive definite.
    """
    factor, fault = dpotrf(C, lower=1)
    if fault:
        raise ValueError(
            "expected a positive definite covariance of the estimates, got one whose "
            f"leading minor {fault} is not; mend the estimates' covariance"
        )
    half = np.tril(dpotri(factor, lower=1)[0])
    inverse = half + np.tril(half, -1).T
    return inverse, 2.0 * float(np.log(np.diag(factor)).sum())


def _design(pool: Ints) -> Floats:
    return np.asarray(pool[:, None] == np.arange(pool.max() + 1), dtype=np.float64)


def _pool_means(sent: SentMessages, weight: Floats) -> Floats:
    """β, shape (G,)."""
    H, inverse = _design(sent.pool), _inverse(sent, weight)
    return np.asarray(np.linalg.solve(H.T @ inverse @ H, H.T @ inverse @ sent.estimate))


def _inverse(sent: SentMessages, weight: Floats) -> Floats:
    kernels = _kernels(sent, None).sent
    return np.asarray(np.linalg.inv(sent.covariance + _weighted(weight, kernels)))


def _weighted(weight: Floats, kernels: Sequence[Floats]) -> Floats:
    return np.asarray(sum(w * K for w, K in zip(weight, kernels, strict=True)))


def _posterior(
    sent: SentMessages, weight: Floats, new: tuple[Floats, Ints] | None
) -> TextPosterior:
    """Posterior of the sent messages, or of new ones, the error of β included."""
    kernels = _kernels(sent, new)
    inverse, H = _inverse(sent, weight), _design(sent.pool)
    beta_covariance = np.linalg.inv(H.T @ inverse @ H)
    beta = beta_covariance @ (H.T @ inverse @ sent.estimate)
    H_new = H if new is None else np.eye(H.shape[1])[new[1]]
    cross, alone = _weighted(weight, kernels.cross), _weighted(weight, kernels.new)
    gain = cross @ inverse
    mean = H_new @ beta + gain @ (sent.estimate - H @ beta)
    pulled = H_new - gain @ H
    variance = alone - (gain * cross).sum(axis=1)
    variance = variance + ((pulled @ beta_covariance) * pulled).sum(axis=1)
    return TextPosterior(mean, np.sqrt(np.maximum(variance, 0.0)))


def _distances(A: Floats, B: Floats) -> Floats:
    """Euclidean, shape (a, b)."""
    squared = (A**2).sum(axis=1)[:, None] + (B**2).sum(axis=1) - 2.0 * A @ B.T
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))
