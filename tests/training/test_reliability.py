"""Reliability by hand-worked numbers and by what must hold."""

import numpy as np
import pytest

from hustings.features.tables import SMALLEST_CELL
from hustings.training.policy_value.reliability import reliability


def test_two_groups_worked_by_hand() -> None:
    """Predicted .2 and .8, observed .25 and .75 of 40 each.

    Both miss by .05. Brier: .25 (.64) + .75 (.04) = .19 in both groups.
    """
    p = np.repeat([0.2, 0.8], 40)
    y = np.concatenate(
        [np.repeat([1.0, 0.0], [10, 30]), np.repeat([1.0, 0.0], [30, 10])]
    )
    found = reliability(p, y, np.arange(80))
    assert [g.n for g in found.groups] == [40, 40]
    assert [g.observed.value for g in found.groups] == [0.25, 0.75]
    assert found.ece == pytest.approx(0.05)
    assert found.brier == pytest.approx(0.19)
    assert found.brier_base == pytest.approx(0.25)
    assert found.level.value == pytest.approx(0.0)
    # log odds of observed over those of predicted: log 3 / log 4
    assert found.slope.value == pytest.approx(np.log(3) / np.log(4))
    own = -(0.25 * np.log(0.2) + 0.75 * np.log(0.8))
    assert found.log_loss == pytest.approx(own)
    assert found.log_loss_base == pytest.approx(np.log(2))


def test_predictions_twice_too_sure_have_slope_one_half() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(size=40_000)
    y = (rng.random(40_000) < 1 / (1 + np.exp(-z))).astype(float)
    found = reliability(1 / (1 + np.exp(-2 * z)), y, np.arange(40_000))
    assert found.slope.low < 0.5 < found.slope.high < 0.6
    assert found.ece > 5 * found.ece_by_chance


def test_right_predictions_miss_by_chance_alone() -> None:
    rng = np.random.default_rng(2)
    ratios = []
    for _ in range(40):
        p = rng.uniform(0.1, 0.9, 2_000)
        y = (rng.random(2_000) < p).astype(float)
        found = reliability(p, y, np.arange(2_000))
        ratios.append(found.ece / found.ece_by_chance)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.1)


def test_people_who_share_their_outcome_widen_the_intervals() -> None:
    rng = np.random.default_rng(3)
    p = np.repeat(rng.uniform(0.2, 0.8, 1_000), 4)
    y = (np.repeat(rng.random(1_000), 4) < p).astype(float)
    alone = reliability(p, y, np.arange(4_000))
    together = reliability(p, y, np.repeat(np.arange(1_000), 4))
    assert together.slope.se == pytest.approx(2 * alone.slope.se, rel=0.1)
    assert together.level.se == pytest.approx(2 * alone.level.se, rel=0.1)


def test_a_small_group_is_not_told() -> None:
    n = SMALLEST_CELL * 10 - 10
    p = np.linspace(0.1, 0.9, n)
    found = reliability(p, (np.arange(n) % 2).astype(float), np.arange(n))
    assert all(g.n >= SMALLEST_CELL for g in found.groups)


def test_a_missing_outcome_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a prediction and an outcome"):
        reliability(np.full(30, 0.5), np.full(30, np.nan), np.arange(30))
