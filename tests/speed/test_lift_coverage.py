"""Do intervals of lift hold where chances learned from outcomes, beside others?

`pytest -m speed -s tests/speed/test_lift_coverage.py` prints the table of lift.md.
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest

from hustings.training.estimators.anytime_valid import always_valid_z
from hustings.training.estimators.metrics import aipw_scores, clustered_means
from hustings.training.measured_lift.adaptive import (
    Decisions,
    decided_propensities,
    delivered_lifts,
    population_lifts,
    predicted_response,
)

pytestmark = pytest.mark.speed

N_BANDITS, N_CAMPAIGNS = 1_500, 400
Z = 1.959964


class Bandit(NamedTuple):
    """Days of Thompson sampling over nothing and arms."""

    name: str
    n_days: int
    n_a_day: int
    floor: float
    lift: tuple[float, ...]


BANDITS = (
    Bandit("one arm, nil", 10, 100, 0.02, (0.0,)),
    Bandit("three arms, all nil", 10, 200, 0.02, (0.0, 0.0, 0.0)),
    Bandit("three arms, two alike", 10, 200, 0.02, (0.3, 0.3, 0.0)),
)


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")


def _thompson(
    total: np.ndarray, n: np.ndarray, floor: float, rng: np.random.Generator
) -> np.ndarray:
    """Chance of every arm to be best, none below the floor, (1 + A,)."""
    mean, sd = total / np.maximum(n, 1), 1.2 / np.sqrt(np.maximum(n, 1))
    drawn = mean + sd * rng.standard_normal((500, len(n)))
    best = np.bincount(drawn.argmax(axis=1), minlength=len(n)) / 500
    return floor + (1 - floor * len(n)) * best


def _month(bandit: Bandit, rng: np.random.Generator) -> tuple[Decisions, np.ndarray]:
    A, n = len(bandit.lift), bandit.n_a_day
    tau, total, count = np.append(0.0, bandit.lift), np.zeros(A + 1), np.zeros(A + 1)
    parts = []
    for t in range(bandit.n_days):
        e = np.full(A + 1, 1 / (A + 1))
        if t:
            e = _thompson(total, count, bandit.floor, rng)
        arm = rng.choice(A + 1, n, p=e / e.sum())
        x = rng.standard_normal(n)
        home = np.repeat(rng.standard_normal(n // 2) * 0.5, 2)
        Y = tau[arm] + 0.5 * x + home + rng.standard_normal(n)
        total += np.bincount(arm, weights=Y, minlength=A + 1)
        count += np.bincount(arm, minlength=A + 1)
        parts.append((np.full(n, t), arm, np.tile(e / e.sum(), (n, 1)), Y, x))
    day, arm, e, Y, x = (np.concatenate(p) for p in zip(*parts, strict=True))
    household = np.arange(len(Y)) // 2
    return Decisions(day, arm, e, Y, household), x[:, None]


def _ways(d: Decisions, X: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, estimates and standard errors."""
    A = d.propensities.shape[1] - 1
    mu = predicted_response(X, d, fold=d.cluster % 5)
    found = population_lifts(d, mu)
    yield "ours", found.value, found.se
    mean = np.array([d.Y[d.arm == a].mean() for a in range(A + 1)])
    var = np.array([d.Y[d.arm == a].var() / (d.arm == a).sum() for a in range(A + 1)])
    yield "raw means", mean[1:] - mean[0], np.sqrt(var[1:] + var[0])
    for name, model in (("plain IPW", np.zeros_like(mu)), ("plain AIPW", mu)):
        score = aipw_scores(d.Y, d.arm, model, d.propensities)
        value, V = clustered_means(score[:, 1:] - score[:, :1], d.cluster)
        yield name, value, np.sqrt(np.diag(V))


@pytest.mark.parametrize("bandit", BANDITS, ids=lambda b: b.name)
def test_intervals_cover_after_thompson_sampling(bandit: Bandit) -> None:
    missed: dict[str, list[np.ndarray]] = {}
    width: dict[str, list[float]] = {}
    for seed in range(N_BANDITS):
        rng = np.random.default_rng([11, seed])
        for name, value, se in _ways(*_month(bandit, rng)):
            missed.setdefault(name, []).append((value - bandit.lift) / se)
            width.setdefault(name, []).append(float(se.mean()))
    _tell(f"\n{bandit.name}: {N_BANDITS} months of {bandit.n_days} × {bandit.n_a_day}")
    cover = {}
    for name, scores in missed.items():
        z = np.array(scores)
        cover[name] = (np.abs(z) < Z).mean()
        _tell(
            f"  {name:<11} covers {100 * cover[name]:5.1f} %, "
            f"SD of z {z.std():.2f}, mean se {np.mean(width[name]):.3f}"
        )
    assert 0.93 <= cover["ours"] <= 0.97


# --- the shared design: a plan, a holdout, explorers ---

H, EPSILON, N_DAYS, N_POOL, N_TODAY = 0.2, 0.1, 30, 12_000, 200
LIFT = np.array([0.0, 0.2, 0.2, 0.0])
"""Of nothing and three arms: two alike, one nil."""


def _campaign(rng: np.random.Generator) -> tuple[Decisions, np.ndarray]:
    """Households of two hold both kinds of days; the plan follows what looks best."""
    home = np.repeat(rng.standard_normal(N_POOL // 2) * 0.5, 2)
    held = np.repeat(rng.random(N_POOL // 2) < H, 2)
    x = rng.standard_normal(N_POOL)
    total, count = np.zeros(4), np.zeros(4)
    pool, parts = rng.permutation(N_POOL), []
    entered = pool.reshape(N_DAYS, -1)
    for t in range(N_DAYS):
        today = entered[t]
        score = total / np.maximum(count, 1)
        best = int(score[1:].argmax()) + 1 if t else 1
        # a plan for the half that looks persuadable; the rest only explores
        z = np.where(x[today] > 0, best, 0)
        q = np.full(4, 0.25) if t == 0 else _thompson(total, count, 0.05, rng)
        q = q / q.sum()
        lot = (rng.random(len(today)) < EPSILON) & ~held[today]
        drawn = rng.choice(4, len(today), p=q)
        got = np.where(held[today], 0, np.where(lot, drawn, z))
        kept = (z > 0) | lot
        rows, got, z = today[kept], got[kept], z[kept]
        Y = LIFT[got] + 0.5 * x[rows] + home[rows] + rng.standard_normal(len(rows))
        # what looks best is read off raw means, as a greedy loop would
        total += np.bincount(got, weights=Y - 0.5 * x[rows], minlength=4)
        count += np.bincount(got, minlength=4)
        e, decided = decided_propensities(
            z, np.tile(q, (len(z), 1)), holdout=H, survival=np.ones(len(z)),
            epsilon=np.full(len(z), EPSILON),
        )  # fmt: skip
        parts.append(
            (np.full(len(z), t), got, e, Y, rows // 2, z, 1 / decided, x[rows])
        )
    *columns, seen = (np.concatenate(p) for p in zip(*parts, strict=True))
    return Decisions(*columns[:6], survey_weight=columns[6]), seen[:, None]


def test_a_campaigns_intervals_cover_once_and_at_all_looks() -> None:
    delivered, population, raw = [], [], []
    ever = {"always": 0, "fixed": 0}
    for seed in range(N_CAMPAIGNS):
        d, X = _campaign(np.random.default_rng([12, seed]))
        mu = predicted_response(X, d, fold=d.cluster % 5)
        assert d.intended is not None
        found = delivered_lifts(d, mu, d.intended - 1, 3)
        # an arm that was hardly ever the plan's is not spoken of
        known = found.n_days >= 3
        delivered.append(np.where(known, (found.value - LIFT[1:]) / found.se, np.nan))
        lifts = population_lifts(d, mu)
        population.append((lifts.value - LIFT[1:]) / lifts.se)
        _, value, se = list(_ways(d, X))[1]
        raw.append((value - LIFT[1:]) / se)
        z, information = _looks(d, mu)
        for name, reach in (("always", always_valid_z(information)), ("fixed", Z)):
            ever[name] += bool((np.abs(z) > reach).any())
    _tell(f"\n{N_CAMPAIGNS} campaigns of {N_DAYS} days × {N_POOL // N_DAYS}")
    tables = {"as delivered": delivered, "population": population, "raw means": raw}
    cover = {}
    for name, scores in tables.items():
        zs = np.array(scores)
        cover[name] = np.nanmean(np.where(np.isnan(zs), np.nan, np.abs(zs) < Z), axis=0)
        _tell(f"  {name:<13} covers {np.round(100 * cover[name], 1)} % by arm, mean z "
              f"{np.round(np.nanmean(zs, axis=0), 2)}")  # fmt: skip
    for name in ("always", "fixed"):
        _tell(f"  {name}: misses at some of {N_DAYS} looks in "
              f"{100 * ever[name] / N_CAMPAIGNS:.1f} %")  # fmt: skip
    assert 0.93 <= np.mean(cover["as delivered"]) <= 0.97
    assert 0.93 <= np.mean(cover["population"]) <= 0.97
    assert ever["always"] / N_CAMPAIGNS <= 0.05
    assert ever["fixed"] / N_CAMPAIGNS > 0.2


def _looks(d: Decisions, mu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """z of the overall delivered lift less the truth at every look, (N_DAYS,)."""
    assert d.intended is not None
    group = np.zeros(len(d.Y), dtype=np.int64)
    found = []
    for t in range(N_DAYS):
        now = d.day <= t
        part = d.take(now)
        truth = LIFT[part.intended]
        # the lift of those chosen so far, whatever the mix of messages is
        less = Decisions(
            **{**vars(part), "Y": part.Y - np.where(part.arm > 0, truth, 0)}
        )
        shifted = mu[now].copy()
        shifted -= LIFT
        lift = delivered_lifts(less, shifted, group[now], 1)
        found.append(lift.value[0] / lift.se[0])
    return np.array(found), np.arange(1, N_DAYS + 1) / N_DAYS
