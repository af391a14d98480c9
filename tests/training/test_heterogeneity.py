"""The best linear predictor against least squares, and covering what was planted."""

import numpy as np
import pytest
from scipy import stats

from hustings.training.policy_value.heterogeneity import (
    balanced_groups,
    best_linear_predictor,
    lift_groups,
)


def test_three_voters_worked_by_hand() -> None:
    """Scores 0, 1, 5 on predictions 1, 2, 3: mean 2, slope (5 - 0) / 2 = 5/2."""
    found = best_linear_predictor(
        np.array([0.0, 1.0, 5.0]), np.array([1.0, 2.0, 3.0]), np.arange(3)
    )
    assert found.average.value == pytest.approx(2.0)
    assert found.slope.value == pytest.approx(2.5)
    # residuals 0.5, -1, 0.5; Σ x² e² = 2 × 0.25, over Σ x² = 2
    assert found.slope.se == pytest.approx(np.sqrt(0.5) / 2)
    assert found.p_value == pytest.approx(stats.norm.sf(2.5 / (np.sqrt(0.5) / 2)))


def test_predictions_without_spread_say_nothing() -> None:
    found = best_linear_predictor(np.arange(4.0), np.ones(4), np.arange(4))
    assert found.slope.value == 0
    assert found.p_value == 1.0
    assert found.as_dict()["p_value"] == 1.0


def drawn(
    rng: np.random.Generator, slope: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    household = np.arange(600) // 2
    x = rng.normal(size=(300, 2))[household]
    noise = rng.normal(size=(600, 2)) * (1 + np.abs(x))
    return 1 + slope * x + noise + rng.normal(size=(300, 1))[household], x, household


def test_intervals_cover_the_planted_average_and_slope() -> None:
    rng = np.random.default_rng(0)
    found = [best_linear_predictor(*drawn(rng, 0.4)) for _ in range(300)]
    for met in (
        [f.slope.low <= 0.4 <= f.slope.high for f in found],
        [f.average.low <= 1.0 <= f.average.high for f in found],
    ):
        assert abs(np.mean(met) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 300)


def test_no_heterogeneity_is_found_no_more_often_than_chance() -> None:
    rng = np.random.default_rng(1)
    found = [best_linear_predictor(*drawn(rng, 0.0)).p_value for _ in range(300)]
    assert abs(np.mean(np.array(found) < 0.05) - 0.05) < 4 * np.sqrt(0.0475 / 300)


def test_groups_hold_everybody_in_order_and_none_is_small() -> None:
    rng = np.random.default_rng(2)
    predicted = rng.normal(size=1_000)
    scores = predicted + 0.1 * rng.normal(size=1_000)
    found = lift_groups(scores, predicted, np.arange(1_000), n_groups=5, at_least=20)
    assert [g.n for g in found] == [200] * 5
    for group in found:
        assert (
            abs(group.realised.value - group.predicted) < 4 * group.realised.se + 0.02
        )
    assert (
        lift_groups(scores, predicted, np.arange(1_000), n_groups=5, at_least=201) == []
    )


def test_a_group_that_differs_by_age_alone_does_not_once_ages_are_equal() -> None:
    rng, n = np.random.default_rng(4), 8_000
    age = rng.normal(size=n)
    # women are older; age moves the lift, sex does not; parties move it by themselves
    sex = np.where(rng.random(n) < 1 / (1 + np.exp(-1.5 * age)), "F", "M")
    party = np.where(rng.random(n) < 0.5, "D", "R")
    lift = 0.5 * age + 0.3 * (party == "D") + rng.normal(size=n)
    groups = {"sex": sex.astype(object), "party": party.astype(object)}
    others = {
        "sex": np.column_stack([age, party == "D"]).astype(float),
        "party": np.column_stack([age, sex == "F"]).astype(float),
    }
    assert lift[sex == "F"].mean() - lift[sex == "M"].mean() > 0.4
    of_sex, of_party = balanced_groups(lift[:, None], groups, others, np.arange(n))
    assert (of_sex.group, of_party.group) == ("F", "D")
    assert of_sex.low < 0 < of_sex.high
    assert abs(of_sex.difference.value) < 0.1
    assert of_party.low > 0
    assert of_party.difference.value == pytest.approx(0.3, abs=0.1)
    # weights cost people, and two comparisons width
    assert of_sex.effective_n < of_sex.n
    width = of_sex.difference.high - of_sex.difference.low
    assert of_sex.high - of_sex.low == pytest.approx(width * 2.2414 / 1.96, rel=1e-3)


def test_where_nobody_differs_no_group_of_the_family_is_found_too_often() -> None:
    n, n_worlds, accused = 2_500, 120, 0
    for k in range(n_worlds):
        rng = np.random.default_rng(k)
        age = rng.normal(size=n)
        bins = np.digitize(age + rng.normal(size=n), [-0.7, 0, 0.7]).astype(str)
        lift = 0.5 * age[:, None] + rng.normal(size=(n, 2))
        rows = balanced_groups(
            lift, {"bin": bins.astype(object)}, {"bin": age[:, None]}, np.arange(n)
        )
        assert len(rows) == 8, k
        accused += any(row.low > 0 or row.high < 0 for row in rows)
    assert accused / n_worlds <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n_worlds)


def test_a_group_of_too_few_is_compared_with_nobody() -> None:
    group = np.array(["few"] * 30 + ["many"] * 500, dtype=object)
    lift, alike = np.zeros((530, 1)), np.zeros((530, 1))
    assert balanced_groups(lift, {"g": group}, {"g": alike}, np.arange(530)) == []
