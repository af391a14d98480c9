"""Lift under adaptive assignment: hand-worked, planted, and what would break it."""

import numpy as np
import pytest

from hustings.training.measured_lift.adaptive import (
    Decisions,
    combined,
    day_weights,
    decided_propensities,
    delivered_lifts,
    lift_scores,
    observed_probability,
    population_lifts,
    predicted_response,
)

N_DAYS, N_A_DAY = 10, 400
TAU = np.array([0.0, 0.4])


def _drawn(
    rng: np.random.Generator, *, chances: np.ndarray, tau: np.ndarray = TAU
) -> tuple[Decisions, np.ndarray]:
    """Days of their own chances, shape (T, 1 + A); two people a household."""
    n = N_DAYS * N_A_DAY
    day = np.repeat(np.arange(N_DAYS), N_A_DAY)
    X = rng.standard_normal((n, 2))
    e = chances[day]
    arm = (rng.random(n)[:, None] > e.cumsum(axis=1)).sum(axis=1)
    together = np.repeat(rng.standard_normal(n // 2), 2)
    noise = together + rng.standard_normal(n)
    Y = X @ [1.0, 0.5] + np.append(0.0, tau)[arm] + noise
    # households of two, one decided early and one late
    household = np.concatenate([np.arange(n // 2), np.arange(n // 2)])
    return Decisions(day, arm, e, Y, household), X


def _growing(to: float) -> np.ndarray:
    """Chances that move from even to `to` for the last arm."""
    last = np.linspace(1 / 3, to, N_DAYS)
    return np.column_stack([np.full(N_DAYS, 0.3), 0.7 - last, last])


def test_each_day_adds_the_same_noise_to_the_sum() -> None:
    day = np.array([0, 0, 0, 1, 2, 2])
    variance = np.array([1.0, 2.0, 3.0, 50.0, 0.2, 0.3])
    weight = day_weights(day, variance)
    per_day = np.bincount(day, weights=weight**2 * variance)
    assert per_day == pytest.approx(np.ones(3))


def test_combined_days_by_hand() -> None:
    # day 0: two rows of variance 2, weight 1/2; day 1: one of 1, weight 1
    found = combined(
        np.array([[1.0], [3.0], [5.0]]), np.array([[2.0], [2.0], [1.0]]),
        np.array([7, 7, 9]), np.arange(3), np.ones(3),
    )  # fmt: skip
    assert found.value[0] == pytest.approx((0.5 * 1 + 0.5 * 3 + 5) / 2)
    off = np.array([0.5 * -2.5, 0.5 * -0.5, 1 * 1.5]) / 2
    assert found.se[0] == pytest.approx(np.sqrt((off**2).sum() * 3 / 2))
    assert (found.n_days[0], found.n_rows[0]) == (2, 3)


def test_planted_lifts_are_found_though_chances_move() -> None:
    decisions, X = _drawn(np.random.default_rng(1), chances=_growing(0.65))
    mu = predicted_response(X, decisions, fold=decisions.cluster % 5)
    found = population_lifts(decisions, mu)
    assert np.abs((found.value - TAU) / found.se).max() < 3
    assert found.se.max() < 0.1


def test_a_response_model_makes_the_interval_narrower_and_never_moves_the_mean() -> (
    None
):
    decisions, X = _drawn(np.random.default_rng(2), chances=_growing(0.5))
    mu = predicted_response(X, decisions, fold=decisions.cluster % 5)
    with_model = population_lifts(decisions, mu)
    without = population_lifts(decisions, np.zeros_like(mu))
    wrong = population_lifts(decisions, mu + 0.5)
    assert (with_model.se < 0.9 * without.se).all()
    assert np.abs(wrong.value - with_model.value).max() < 3 * with_model.se.max()


def test_what_is_predicted_of_a_day_never_saw_a_later_one_nor_the_own_fold() -> None:
    decisions, X = _drawn(np.random.default_rng(3), chances=_growing(0.5))
    fold = decisions.cluster % 5
    before = predicted_response(X, decisions, fold=fold)
    changed = decisions.Y.copy()
    later = decisions.day >= 5
    changed[later] += 100.0
    after = predicted_response(
        X, Decisions(**{**vars(decisions), "Y": changed}), fold=fold
    )
    assert np.array_equal(before[~later], after[~later])
    mine = decisions.Y.copy()
    mine[fold == 2] += 100.0
    own = predicted_response(X, Decisions(**{**vars(decisions), "Y": mine}), fold=fold)
    assert np.array_equal(before[fold == 2], own[fold == 2])


def test_a_shuffled_assignment_has_no_lift() -> None:
    decisions, X = _drawn(np.random.default_rng(4), chances=_growing(0.34))
    rng = np.random.default_rng(5)
    shuffled = decisions.arm.copy()
    for d in range(N_DAYS):
        rows = np.flatnonzero(decisions.day == d)
        shuffled[rows] = shuffled[rng.permutation(rows)]
    null = Decisions(**{**vars(decisions), "arm": shuffled})
    mu = predicted_response(X, null, fold=null.cluster % 5)
    found = population_lifts(null, mu)
    assert np.abs(found.value / found.se).max() < 3


def test_missing_outcomes_are_weighed_by_their_chance_to_be_seen() -> None:
    rng = np.random.default_rng(6)
    n = 40_000
    X = rng.integers(0, 2, (n, 1)).astype(float)
    arm = rng.integers(0, 2, n)
    Y = X[:, 0] * arm * 1.0 + 0.1 * rng.standard_normal(n)  # lift .5 on average
    seen = rng.random(n) < np.where(X[:, 0] > 0, 0.3, 0.9)
    decisions = Decisions(
        np.zeros(n, dtype=np.int64), arm, np.full((n, 2), 0.5),
        np.where(seen, Y, np.nan), np.arange(n),
    )  # fmt: skip
    fold = np.arange(n) % 5
    chance = observed_probability(X, decisions, fold=fold)
    mu = np.zeros((n, 2))
    found = population_lifts(decisions, mu, chance)
    complete = population_lifts(decisions.take(seen), mu[seen])
    assert found.value[0] == pytest.approx(0.5, abs=4 * found.se[0])
    assert complete.value[0] < 0.35  # what it would say unweighted


def test_an_arm_that_could_not_be_had_tells_nothing_of_others() -> None:
    e = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.5, 0.0, 0.5]])
    decisions = Decisions(
        np.zeros(4, dtype=np.int64), np.array([0, 1, 0, 2]), e,
        np.array([0.0, 1.0, 0.0, 3.0]), np.arange(4),
    )  # fmt: skip
    found = population_lifts(decisions, np.zeros((4, 3)))
    assert found.value.tolist() == [1.0, 3.0]
    assert found.n_rows.tolist() == [2, 2]


def test_an_assignment_of_chance_nil_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Decisions(
            np.zeros(1, dtype=np.int64), np.array([1]), np.array([[1.0, 0.0]]),
            np.zeros(1), np.zeros(1, dtype=np.int64),
        )  # fmt: skip


def _designed(
    rng: np.random.Generator, n: int, *, h: float = 0.2, epsilon: float = 0.3
) -> tuple[Decisions, np.ndarray]:
    """The shared design over five days: plan by x, holdout, explorers leave the pool.

    Lift of arm 1 is x, of arm 2 is 0.3; the plan sends 1 where x > .6, 2 where x > .4.
    """
    x, held = rng.random(n), rng.random(n) < h
    z = np.where(x > 0.6, 1, np.where(x > 0.4, 2, 0))
    z = np.where(rng.random(n) < 0.7, z, 0)  # not all are planned on their first day
    in_pool, rows, day, arm, plan = np.ones(n, dtype=bool), [], [], [], []
    q = np.array([0.5, 0.25, 0.25])
    for t in range(5):
        today = np.where(rng.random(n) < 0.5, z, 0)
        drawn = (rng.random(n) < epsilon) & ~held
        picked = rng.choice(3, n, p=q)
        got = np.where(held, 0, np.where(drawn, picked, today))
        decided = in_pool & ((today > 0) | drawn)
        at = np.flatnonzero(decided)
        rows.append(at)
        day.append(np.full(len(at), t))
        arm.append(got[at])
        plan.append(today[at])
        in_pool &= ~decided
    at, when = np.concatenate(rows), np.concatenate(day)
    got, intended = np.concatenate(arm), np.concatenate(plan)
    lift = np.column_stack([np.zeros(n), x, np.full(n, 0.3)])
    Y = lift[at, got] + x[at] + 0.3 * rng.standard_normal(len(at))
    e, decided_chance = decided_propensities(
        intended, np.tile(q, (len(at), 1)), holdout=h,
        survival=(1 - epsilon) ** when, epsilon=np.full(len(at), epsilon),
    )  # fmt: skip
    return (
        Decisions(when, got, e, Y, at, intended, survey_weight=1 / decided_chance),
        x[at],
    )


def test_chances_of_the_design_are_the_frequencies_of_its_draws() -> None:
    decisions, _ = _designed(np.random.default_rng(7), 200_000)
    e, intended = decisions.propensities, decisions.intended
    assert intended is not None
    for t in range(5):
        for z in range(3):
            rows = (decisions.day == t) & (intended == z)
            seen = np.bincount(decisions.arm[rows], minlength=3) / rows.sum()
            sd = np.sqrt(0.25 / rows.sum())
            assert np.abs(seen - e[rows][0]).max() < 4 * sd


def test_as_delivered_is_the_lift_of_those_whom_the_plan_chose() -> None:
    decisions, x = _designed(np.random.default_rng(8), 100_000)
    intended = decisions.intended
    assert intended is not None
    mu = predicted_response(x[:, None], decisions, fold=decisions.cluster % 5)
    found = delivered_lifts(decisions, mu, intended - 1, 2)
    assert found.value[0] == pytest.approx(x[intended == 1].mean(), abs=4 * found.se[0])
    assert found.value[1] == pytest.approx(0.3, abs=4 * found.se[1])
    assert found.se.max() < 0.02


def test_exploring_measures_the_population_and_not_the_chosen() -> None:
    decisions, x = _designed(np.random.default_rng(9), 100_000)
    mu = predicted_response(x[:, None], decisions, fold=decisions.cluster % 5)
    found = population_lifts(decisions, mu)
    # the mean of x over the pools of the days, which the plan empties from the top
    pool = np.average(x, weights=decisions.weight)
    scored = lift_scores(decisions, mu)
    assert found.value[0] == pytest.approx(pool, abs=0.04)
    chosen = Decisions(**{**vars(decisions), "survey_weight": None})
    assert population_lifts(chosen, mu).value[0] > pool + 0.04
    assert scored.shape == (len(x), 2)
