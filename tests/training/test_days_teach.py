"""Days of a campaign teach by their precision: they never make an effect less sure."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hustings.features.training_set import MessageTest
from hustings.training.estimators.metrics import Interval
from hustings.training.learners.average_effects import (
    PROPENSITY_FLOOR,
    AverageEffects,
    fit_nuisances,
    judging_weight,
    overlap,
    precision_weights,
)
from hustings.training.learners.boosting import binned
from hustings.training.policy_value.verdict import trust

EFFECTS = np.array([0.25, 0.15, 0.0])
TINY = 8.5e-5
"""Chance of a message that the plan does not send, for a voter who may explore."""
N_TEST, N_DAY, N_DAYS = 5_000, 300, 10
N_SEEDS = 12


def campaign_so_far(planted: Callable, seed: int) -> MessageTest:
    """A test of 5,000 and ten days whose plan follows what was learnt before.

    On a day 13 of 20 get the message of the best estimate so far, 7 are held out, and
    every other message has a chance of 8.5e-5.
    """
    rng = np.random.default_rng(seed)
    n = N_TEST + N_DAY * N_DAYS
    whole, _ = planted(
        rng, n_households=n, size=1, lift=lambda X: np.tile(EFFECTS, (len(X), 1)),
    )  # fmt: skip
    wave = np.zeros(n, dtype=np.int64)
    wave[N_TEST:] = 1 + np.arange(N_DAY * N_DAYS) // N_DAY
    propensities, arm = whole.propensities.copy(), whole.arm.copy()
    control = whole.Y - np.append(0.0, EFFECTS)[whole.arm]
    Y = whole.Y.copy()
    for day in range(1, 1 + N_DAYS):
        today, before = wave == day, wave < day
        means = [Y[before & (arm == k)].mean() for k in range(4)]
        chances = np.full(4, TINY)
        chances[1 + int(np.argmax(means[1:]))] = 0.65
        chances[0] = 1.0 - chances[1:].sum()
        arm[today] = rng.choice(4, size=N_DAY, p=chances)
        propensities[today] = chances
        Y[today] = (control + np.append(0.0, EFFECTS)[arm])[today]
    return replace(
        whole, arm=arm, Y=Y, propensities=propensities, wave=wave, block=wave,
        block_names=("test", *(f"day {d}" for d in range(1, 1 + N_DAYS))),
    )  # fmt: skip


def effects_of(test: MessageTest) -> AverageEffects:
    issues = dict.fromkeys(test.messages, "issue")
    return fit_nuisances(test, binned(test.X, []), issues, seed=1).effects


@pytest.fixture(scope="module")
def before_and_after(planted: Callable) -> list[tuple[AverageEffects, AverageEffects]]:
    campaigns = [campaign_so_far(planted, seed) for seed in range(N_SEEDS)]
    return [
        (effects_of(whole.take(whole.wave == 0)), effects_of(whole))
        for whole in campaigns
    ]


def test_ten_days_with_explorers_at_tiny_chances_never_raise_a_standard_error(
    before_and_after,
) -> None:
    for first, after in before_and_after:
        # nuisances are fitted again: a percent is theirs
        assert (after.raw_se <= 1.01 * first.raw_se).all()
    # what the plan sent is known better than before
    gain = np.mean(
        [after.raw_se[0] / first.raw_se[0] for first, after in before_and_after]
    )
    assert gain < 0.97


def test_each_messages_interval_holds_the_truth_after_ten_days(
    before_and_after,
) -> None:
    """36 intervals of 95 %: six or more misses happen once in a hundred."""
    misses = 0
    for _, after in before_and_after:
        for interval, true in zip(
            after.intervals(shrunken=False), EFFECTS, strict=True
        ):
            assert isinstance(interval, Interval)
            misses += not interval.low <= true <= interval.high
    assert misses < 6


def test_weights_worked_by_hand() -> None:
    """Two waves: variances 4 and 40 a row, one row each; precision 10 to 1."""
    even = [[0.5, 0.5]]
    rare = [[1 - 1 / 38.97, 1 / 38.97]]
    variance = 38.97 + 1 / (1 - 1 / 38.97)
    weights = precision_weights(np.array(even + rare), np.array([0, 1]))
    expected = (1 / 4) / (1 / 4 + 1 / variance)
    assert weights[:, 0].tolist() == pytest.approx([expected, 1 - expected])
    # one wave of equal chances: everybody counts alike
    np.testing.assert_allclose(precision_weights(np.array(even * 4)), 0.25)


def test_days_of_equal_chances_are_the_plain_mean_of_their_rows(
    planted: Callable,
) -> None:
    test, _ = planted(np.random.default_rng(1), n_households=400)
    assert judging_weight(test) is None
    np.testing.assert_allclose(precision_weights(test.propensities), 1 / len(test.Y))


def test_chances_below_the_floor_block_a_promotion_and_name_their_block(
    planted: Callable,
) -> None:
    campaign = campaign_so_far(planted, 0)
    sound = overlap(campaign)
    # the days hold a third of the rows, and next to nothing of the weight
    assert sound.ok
    assert 0 < sound.share < 0.05
    assert sound.least == pytest.approx(TINY)
    assert sound.block.startswith("day ")
    only_days = campaign.take(campaign.wave > 0)
    only_days = replace(
        only_days, block=only_days.block - 1, block_names=campaign.block_names[1:]
    )
    broken = trust(only_days)["overlap"]
    assert not broken["ok"]
    assert broken["block"].startswith("day ")
    assert broken["least"] < PROPENSITY_FLOOR
