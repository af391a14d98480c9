"""Anytime-valid evidence that a share has risen against the hours before.

Two samples of yes-or-no reactions: `a` of the hours before a bucket s, `b` of what came
from s on. Null: the odds of `b` are at most `tolerated` times those of `a`, whatever
they are. The e-process is a mixture over both shares against the best that any null can
say of the same reactions (universal inference, Wasserman, Ramdas & Balakrishnan 2020):

    E = B(k_a + ½, n_a − k_a + ½) B(k_b + ½, n_b − k_b + ½) / B(½, ½)²
        ÷ max over the null of
          p_a^k_a (1 − p_a)^(n_a − k_a) p_b^k_b (1 − p_b)^(n_b − k_b)

Under each null the mixture over that null's own likelihood is a martingale that starts
at 1, and the maximum only makes E smaller. So P(E ever reaches 1/α) ≤ α (Ville),
however often one looks. The order does not matter: a reaction that comes late, to
either sample, is one more step of the same martingale.

A change may begin at any time, so every bucket starts a process of its own, which lives
for `n_live` buckets. In any stretch of `n_live` buckets at most 2 `n_live` of them
live, and their average over 2 `n_live` is an e-process again: the chance of a false
alarm in any such stretch (a day) is at most α, and old data cannot dull it.

Reactions cluster: n of one bucket count as n / (1 + (n − 1) rho), rho being the
correlation within buckets. A likelihood to a power below 1 keeps the bound (Jensen)
where reactions are independent; for clustered ones it is an approximation, which the
tests simulate.
"""

import numpy as np
from scipy.special import betaln, logsumexp, xlog1py, xlogy

from hustings.features.arrays import Bools, Floats, Ints

JEFFREYS = 0.5
ENOUGH_BUCKETS = 6
"""Fewer cannot say how far reactions cluster."""
MOST_CLUSTERING = 0.5
UNKNOWN_CLUSTERING = 0.1
HIDDEN = 2.0
"""Standard errors, of about the estimate / √buckets, that are added to an estimate."""


def log_e_value(
    k_before: Floats,
    n_before: Floats,
    k_now: Floats,
    n_now: Floats,
    *,
    tolerated: float,
) -> Floats:
    """Evidence that a share is higher now, as the logarithm of E.

    Args:
        k_before: Reactions that say yes among those before; may be fractions.
        n_before: Reactions before.
        k_now: Those that say yes now.
        n_now: Reactions now. All four of one shape.
        tolerated: Ratio of the odds up to which a rise is no news, at least 1.

    Returns:
        Same shape. At most 0 where the share did not rise by more than is tolerated.

    Raises:
        ValueError: If less than no rise is to be tolerated.

    >>> few = log_e_value(*map(np.array, (1.0, 10.0, 3.0, 10.0)), tolerated=1.0)
    >>> many = log_e_value(*map(np.array, (100.0, 1e3, 300.0, 1e3)), tolerated=1.0)
    >>> bool(few < 0), bool(many > np.log(1000))
    (True, True)
    """
    if tolerated < 1:
        raise ValueError(f"expected tolerated of at least 1, got {tolerated}")
    rests = n_before - k_before, n_now - k_now
    mixture = _mixed(k_before, rests[0]) + _mixed(k_now, rests[1])
    risen = k_now * rests[0] > tolerated * k_before * rests[1]
    at_edge = _edge_share(k_before + k_now, n_before, n_now, tolerated)
    p_before = np.where(risen, at_edge, _share(k_before, n_before))
    raised = tolerated * at_edge / (1 + (tolerated - 1) * at_edge)
    p_now = np.where(risen, raised, _share(k_now, n_now))
    best = _likelihood(k_before, rests[0], p_before) + _likelihood(
        k_now, rests[1], p_now
    )
    log_e: Floats = mixture - best
    return log_e


def _mixed(k: Floats, rest: Floats) -> Floats:
    mixed: Floats = betaln(k + JEFFREYS, rest + JEFFREYS) - betaln(JEFFREYS, JEFFREYS)
    return mixed


def _likelihood(k: Floats, rest: Floats, p: Floats) -> Floats:
    log_likelihood: Floats = xlogy(k, p) + xlog1py(rest, -p)
    return log_likelihood


def _share(k: Floats, n: Floats) -> Floats:
    return np.divide(k, n, out=np.zeros_like(n), where=n > 0)


def _edge_share(k: Floats, n_a: Floats, n_b: Floats, ratio: float) -> Floats:
    """Most likely p_a where the odds of b are exactly `ratio` times those of a.

    The score k = n_a p_a + n_b p_b, with p_b = ratio p_a / (1 + (ratio − 1) p_a), is a
    quadratic equation in p_a.
    """
    linear = n_a + n_b * ratio - k * (ratio - 1)
    root = linear + np.sqrt(linear**2 + 4 * n_a * (ratio - 1) * k)
    p_a: Floats = np.clip(_share(2 * k, root), 0.0, 1.0)
    return p_a


def clustering(k: Floats, n: Floats, *, least: float) -> Floats:
    """Correlation rho of reactions within a bucket, by the method of moments.

    Args:
        k: Reactions that say yes, shape (..., n_buckets).
        n: Reactions, same shape.
        least: The least that is believed.

    Returns:
        Shape (...), in [least, 0.5]: an estimate and what few buckets may have hidden,
        or `UNKNOWN_CLUSTERING` where fewer than `ENOUGH_BUCKETS` have any reactions.
    """
    excess, per_rho, n_heard = spread_moments(k, n)
    enough_heard = (n_heard >= ENOUGH_BUCKETS) & (per_rho > 0)
    rho = _share(excess, per_rho) * (1 + HIDDEN / np.sqrt(np.maximum(n_heard, 1)))
    rho = np.clip(rho, least, MOST_CLUSTERING)
    return np.where(enough_heard, rho, UNKNOWN_CLUSTERING)


def spread_moments(k: Floats, n: Floats) -> tuple[Floats, Floats, Floats]:
    """Estimate of the correlation within buckets from the spread of their shares.

    Σ (k_j − n_j p)² / (n_j p (1 − p)) has the mean Σ (1 − n_j / N) (1 + (n_j − 1) rho)
    where shares vary between buckets by rho p (1 − p).

    Args:
        k: Reactions that say yes, shape (..., n_buckets).
        n: Reactions, same shape.

    Returns:
        That sum above its mean at rho = 0, how much of it one unit of rho brings, and
        the buckets that have any reactions; each of shape (...).
    """
    total = n.sum(axis=-1, keepdims=True)
    p = _share(k.sum(axis=-1, keepdims=True), total)
    spread = n * p * (1 - p)
    squares = _share((k - n * p) ** 2, spread).sum(axis=-1)
    other_share = 1 - _share(n, np.broadcast_to(total, n.shape))
    other_share = np.where(spread > 0, other_share, 0.0)
    per_rho = (other_share * np.maximum(n - 1, 0)).sum(axis=-1)
    n_heard = (spread > 0).sum(axis=-1).astype(np.float64)
    return squares - other_share.sum(axis=-1), per_rho, n_heard


def effective(n: Floats, rho: Floats | float) -> Floats:
    """Share of the reactions of a bucket that counts, 1 / (1 + (n − 1) rho)."""
    counted_share: Floats = 1 / (1 + np.maximum(n - 1, 0) * rho)
    return counted_share


def rise_evidence(
    k: Floats, n: Floats, *, n_live: int, tolerated: float, least_clustering: float
) -> tuple[Floats, Ints]:
    """Evidence that shares have risen at some time within the live buckets.

    Args:
        k: Reactions that say yes, by series and bucket, shape (n_series, n_buckets);
            the last bucket is the present one.
        n: Reactions, same shape.
        n_live: Buckets in which a change may have begun; each is compared with the
            `n_buckets` − `n_live` buckets before it.
        tolerated: See `log_e_value`.
        least_clustering: See `clustering`; the buckets before each start say how much.

    Returns:
        Logarithm of the averaged E of every series, and the bucket at which the most
        likely change began, both of shape (n_series,).
    """
    before = n.shape[1] - n_live
    start = np.arange(before, n.shape[1])
    k_ref, n_ref = (_windows(counts, before)[:, :-1] for counts in (k, n))
    rho = clustering(k_ref, n_ref, least=least_clustering)
    ref = effective(n_ref, rho[..., None])
    # buckets from each start on, shape (n_series, n_live, n_live)
    since = np.arange(before, n.shape[1]) >= start[:, None]
    weight_since = since * effective(n[:, None, before:], rho[..., None])
    each = log_e_value(
        (k_ref * ref).sum(axis=-1),
        (n_ref * ref).sum(axis=-1),
        (k[:, None, before:] * weight_since).sum(axis=-1),
        (n[:, None, before:] * weight_since).sum(axis=-1),
        tolerated=tolerated,
    )
    # of starts alike (hours without any reaction) the last
    likely = start[::-1][each[:, ::-1].round(9).argmax(axis=1)]
    return logsumexp(each, axis=1) - np.log(2 * n_live), likely


def _windows(counts: Floats, width: int) -> Floats:
    return np.lib.stride_tricks.sliding_window_view(counts, width, axis=1)


def discoveries(log_e: Floats, *, share: float, n_all: int | None = None) -> Bools:
    """Whether each of many series is a discovery, by e-BH.

    The k largest are, for the largest k whose smallest E is at least K / (k share): the
    expected share of false ones among them is at most `share` at any time of looking,
    however the series depend on each other.

    Args:
        log_e: Logarithms of E, shape (n,).
        share: False discovery rate.
        n_all: K, where others that are not given have an E of 0.

    Source: Wang & Ramdas (2022), "False discovery rate control with e-values".

    >>> discoveries(np.log([100.0, 30.0, 1.0, 0.5]), share=0.1).tolist()
    [True, True, False, False]
    """
    order = np.argsort(-log_e, kind="stable")
    rank = np.arange(1, len(log_e) + 1)
    n_all = len(log_e) if n_all is None else n_all
    passes = log_e[order] >= np.log(max(n_all, 1) / (rank * share))
    n_found = int(rank[passes].max()) if passes.any() else 0
    is_discovery = np.zeros(len(log_e), dtype=bool)
    is_discovery[order[:n_found]] = True
    return is_discovery
