"""Evidence that a share has risen: exact where it can be enumerated, else simulated."""

import numpy as np
import pytest
from scipy import optimize, stats

from hustings.serving.monitor import e_values
from hustings.serving.monitor.e_values import (
    clustering,
    discoveries,
    log_e_value,
    rise_evidence,
)
from hustings.serving.monitor.received import well_received

ALPHA = 0.05
HOURS = 6


def e_value(k_a: float, n_a: float, k_b: float, n_b: float, tolerated: float) -> float:
    one = [np.array(x, dtype=float) for x in (k_a, n_a, k_b, n_b)]
    return float(np.exp(log_e_value(*one, tolerated=tolerated)))


# --- one process, exactly -------------------------------------------------------------


@pytest.mark.parametrize("tolerated", [1.0, 1.5])
@pytest.mark.parametrize("p_before", [0.05, 0.3, 0.8])
def test_no_null_makes_the_evidence_large_on_average(p_before, tolerated):
    """The mean of E over all outcomes, at the null that is hardest to tell apart."""
    odds = tolerated * p_before / (1 - p_before)
    k_a, k_b = np.meshgrid(np.arange(13.0), np.arange(16.0), indexing="ij")
    chance = stats.binom.pmf(k_a, 12, p_before) * stats.binom.pmf(
        k_b, 15, odds / (1 + odds)
    )
    e = np.exp(
        log_e_value(
            k_a, np.full_like(k_a, 12), k_b, np.full_like(k_b, 15), tolerated=tolerated
        )
    )
    assert (chance * e).sum() <= 1
    # something is left of the evidence, else it would never alarm
    assert e.max() > 1_000


@pytest.mark.parametrize("p", [0.02, 0.2, 0.6])
def test_the_chance_that_a_process_ever_alarms_is_at_most_alpha(p):
    """Exact, over every path of 60 reactions, each of which is looked at."""
    n_a, most = 40, 60
    ever = 0.0
    for k_a in range(n_a + 1):
        alive, alarmed = np.zeros(most + 1), 0.0
        alive[0] = 1.0
        for n_b in range(1, most + 1):
            alive[1 : n_b + 1] = alive[1 : n_b + 1] * (1 - p) + alive[:n_b] * p
            alive[0] *= 1 - p
            k_b = np.arange(n_b + 1.0)
            same = np.ones(n_b + 1)
            e = log_e_value(k_a * same, n_a * same, k_b, n_b * same, tolerated=1.0)
            loud = e >= -np.log(ALPHA)
            alarmed += alive[: n_b + 1][loud].sum()
            alive[: n_b + 1][loud] = 0.0
        ever += stats.binom.pmf(k_a, n_a, p) * alarmed
    assert ever <= ALPHA
    assert ever > 0


@pytest.mark.parametrize("tolerated", [1.0, 1.25, 3.0])
def test_the_null_is_the_best_of_all_that_a_search_finds(tolerated):
    rng = np.random.default_rng(4)
    for _ in range(20):
        n_a, n_b = rng.integers(5, 80, size=2)
        k_a, k_b = rng.binomial(n_a, 0.2), rng.binomial(n_b, 0.6)

        def loss(logit, k_a=k_a, k_b=k_b, n_a=n_a, n_b=n_b):
            p_a, p_b = (
                1 / (1 + np.exp(-x)) for x in (logit, logit + np.log(tolerated))
            )
            return -stats.binom.logpmf(k_a, n_a, p_a) - stats.binom.logpmf(
                k_b, n_b, p_b
            )

        free = -stats.binom.logpmf(k_a, n_a, k_a / n_a) - stats.binom.logpmf(
            k_b, n_b, k_b / n_b
        )
        risen = k_b / (n_b - k_b + 1e-12) > tolerated * k_a / (n_a - k_a)
        best = optimize.minimize_scalar(loss, bounds=(-9, 9), method="bounded").fun
        choose = [stats.binom.logpmf(k, n, 0.5) + n * np.log(2) for k, n in
                  ((k_a, n_a), (k_b, n_b))]  # fmt: skip
        mixture = sum(
            stats.betabinom.logpmf(k, n, 0.5, 0.5) - c
            for (k, n), c in zip(((k_a, n_a), (k_b, n_b)), choose, strict=True)
        )
        expected = mixture + (best if risen else free) + sum(choose)
        got = np.log(e_value(k_a, n_a, k_b, n_b, tolerated))
        assert got == pytest.approx(expected, abs=1e-5)


def test_to_tolerate_less_than_no_rise_is_an_error():
    with pytest.raises(ValueError, match="at least 1, got"):
        e_value(1, 2, 3, 4, 0.5)


# --- streams, looked at after every reaction ------------------------------------------


def looked_at(
    n_streams: int, rate: float, n_hours: int, share, seed: int, rho: float = 0.0
):
    """Reactions of many streams, each look being one more of every stream.

    Yields the hour and the counts of the last 2 `HOURS`, shape (n_streams, 2 `HOURS`).
    """
    rng = np.random.default_rng(seed)
    k = np.zeros((n_streams, 2 * HOURS))
    n = np.zeros_like(k)
    for hour in range(n_hours):
        k, n = np.roll(k, -1, axis=1), np.roll(n, -1, axis=1)
        k[:, -1] = n[:, -1] = 0
        p = np.full(n_streams, share(hour))
        if rho:
            p = rng.beta(p * (1 / rho - 1), (1 - p) * (1 / rho - 1))
        for _ in range(rng.poisson(rate)):
            k[:, -1] += rng.random(n_streams) < p
            n[:, -1] += 1
            yield hour, k, n


def evidence_of(k, n, tolerated=1.0, least=0.001):
    return rise_evidence(
        k, n, n_live=HOURS, tolerated=tolerated, least_clustering=least
    )[0]


def z_alarms(k, n):
    """What a test that may be looked at once would say of the last two hours."""
    k_a, n_a = k[:, -8:-2].sum(axis=1), n[:, -8:-2].sum(axis=1)
    k_b, n_b = k[:, -2:].sum(axis=1), n[:, -2:].sum(axis=1)
    p = (k_a + k_b) / (n_a + n_b)
    spread = np.sqrt(p * (1 - p) * (1 / n_a + 1 / np.maximum(n_b, 1)))
    z = (k_b / np.maximum(n_b, 1) - k_a / n_a) / np.maximum(spread, 1e-9)
    return (n_b > 5) & (z > stats.norm.isf(ALPHA))


def test_looking_at_every_reaction_does_not_cry_wolf():
    """2,000 streams in which nothing changes, over as long as a process lives."""
    n_streams = 2_000
    ours, naive = np.zeros(n_streams, bool), np.zeros(n_streams, bool)
    # six hours are heard before, six are judged
    for hour, k, n in looked_at(n_streams, 12, 2 * HOURS, lambda _: 0.2, seed=1):
        if hour >= HOURS:
            ours |= evidence_of(k, n) >= -np.log(ALPHA)
            naive |= z_alarms(k, n)
    assert ours.mean() <= ALPHA
    # the same streams would have fooled a test that is meant to be looked at once
    assert naive.mean() > 3 * ALPHA


def test_hours_that_differ_by_themselves_are_no_alarm():
    n_streams = 400
    ours = np.zeros(n_streams, bool)
    stream = looked_at(n_streams, 60, 2 * HOURS, lambda _: 0.2, seed=2, rho=0.08)
    for i, (hour, k, n) in enumerate(stream):
        if hour >= HOURS and i % 5 == 0:
            ours |= evidence_of(k, n) >= -np.log(ALPHA)
    assert ours.mean() <= ALPHA


def test_a_backlash_is_found_and_soon():
    """10 % bad news become 35 % at the ninth hour; a hundred reactions an hour."""
    n_streams, changed = 200, 8
    first = np.full(n_streams, np.inf)
    stream = looked_at(
        n_streams, 100, changed + 5, lambda h: 0.1 if h < changed else 0.35, seed=3
    )
    for i, (hour, k, n) in enumerate(stream):
        if hour >= HOURS and i % 10 == 0:
            loud = evidence_of(k, n, tolerated=1.25) >= np.log(1000)
            first[loud & np.isinf(first)] = hour + n[0, -1] / 100
    assert (first < changed).sum() == 0
    assert np.isfinite(first).mean() > 0.9
    assert np.median(first) - changed < 3


def test_a_rise_that_is_tolerated_is_no_alarm_however_many_react():
    k = np.full((1, 2 * HOURS), 20_000.0)
    k[0, -3:] = 23_000
    n = np.full((1, 2 * HOURS), 100_000.0)
    assert evidence_of(k, n, tolerated=1.25, least=0.0)[0] < 0
    assert evidence_of(k, n, tolerated=1.0, least=0.0)[0] > np.log(1000)


def test_a_reaction_that_comes_late_counts_in_its_hour():
    k, n = np.full((1, 12), 2.0), np.full((1, 12), 20.0)
    k[0, -2:], n[0, -2:] = 15.0, 20.0
    e, start = rise_evidence(k, n, n_live=6, tolerated=1.0, least_clustering=0.001)
    late_k = k.copy()
    late_k[0, 2] -= 1  # one of an old hour is still to come
    missing, _ = rise_evidence(
        late_k, n, n_live=6, tolerated=1.0, least_clustering=0.001
    )
    assert start[0] == 10
    assert missing[0] > e[0]


# --- clustering, segments, rates ------------------------------------------------------


@pytest.mark.parametrize("rho", [0.01, 0.1])
def test_planted_clustering_is_found(rho):
    rng = np.random.default_rng(5)
    p = rng.beta(0.3 * (1 / rho - 1), 0.7 * (1 / rho - 1), size=(300, 48))
    n = rng.poisson(200, size=p.shape).astype(float)
    k = rng.binomial(n.astype(int), p).astype(float)
    found = clustering(k, n, least=0.0) / (1 + e_values.HIDDEN / np.sqrt(48))
    assert found.mean() == pytest.approx(rho, rel=0.1)


def test_few_hours_say_nothing_of_clustering():
    found = clustering(np.ones((1, 5)), np.full((1, 5), 4.0), least=0.001)
    assert found[0] == e_values.UNKNOWN_CLUSTERING


def test_few_of_the_segments_that_are_named_are_wrong():
    """40 segments, 8 of them changed, looked at until the first is named, and on."""
    rng = np.random.default_rng(6)
    share, n_true, wrong, named = 0.1, 8, [], 0
    for _ in range(150):
        n = np.full((40, 12), 40.0)
        p = np.full((40, 12), 0.2)
        p[:n_true, -4:] = 0.5
        k = rng.binomial(n.astype(int), p).astype(float)
        found = discoveries(evidence_of(k, n), share=share)
        named += found[:n_true].sum()
        wrong.append(found[n_true:].sum() / max(found.sum(), 1))
    assert np.mean(wrong) <= share
    assert named / (150 * n_true) > 0.5


@pytest.mark.parametrize(("cap", "least"), [(100.0, 0.01), (12.0, 0.0)])
def test_ebh_keeps_the_share_of_false_ones_where_evidence_is_as_bad_as_it_may_be(
    cap, least
):
    """Null E of the worst kind: all of its mean of 1 lies in one large value."""
    rng = np.random.default_rng(7)
    share, wrong = 0.1, []
    for _ in range(2_000):
        null = np.where(rng.random(36) < 1 / cap, cap, 0.0)
        with np.errstate(divide="ignore"):
            found = discoveries(np.log(np.r_[null, np.full(4, 150.0)]), share=share)
        assert found[36:].all()
        wrong.append(found[:36].sum() / found.sum())
    assert least <= np.mean(wrong) <= share


def test_intervals_of_rates_cover_what_was_planted():
    """30 messages of 5 issues, shares drawn as the model says, few reactions each."""
    rng = np.random.default_rng(8)
    covered, width, plain = [], [], []
    for _ in range(60):
        issue = np.repeat(np.arange(5), 6).astype(object)
        centre = rng.beta(8, 3, size=5)[issue.astype(int)]
        p = rng.beta(centre * 24, (1 - centre) * 24)
        n = rng.integers(5, 80, size=30)
        good = rng.binomial(n, p).astype(float)
        found = well_received(good, n - good, issue)
        covered += ((found["low"] <= p) & (p <= found["high"])).tolist()
        width += (found["high"] - found["low"]).tolist()
        own = stats.beta.interval(0.95, good + 0.5, n - good + 0.5)
        plain += (own[1] - own[0]).tolist()
    assert 0.92 < np.mean(covered) < 0.98
    assert np.mean(width) < 0.9 * np.mean(plain)


def test_a_message_nobody_reacted_to_is_as_its_issue_and_uncertain():
    good = np.array([80.0, 90.0, 85.0, 0.0, 10.0])
    bad = np.array([20.0, 10.0, 15.0, 0.0, 90.0])
    issue = np.array(["a", "a", "a", "a", "b"], dtype=object)
    found = well_received(good, bad, issue)
    assert found["rate"][3] == pytest.approx(0.85, abs=0.03)
    widths = found["high"] - found["low"]
    assert widths[3] == widths.max()
