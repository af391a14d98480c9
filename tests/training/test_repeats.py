"""What a second contact adds, by the chance of each sequence."""

import numpy as np
import pytest

from hustings.training.measured_lift.repeats import carry_over

FIRST, SECOND, TOGETHER = 1.0, 0.6, -0.4


def _twice(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    """Who answered well to the first is likelier to be sent the second."""
    frail = rng.standard_normal(n)
    first = rng.random(n) < 0.5
    between = frail + FIRST * first + rng.standard_normal(n)
    p = np.where(between > 0.5, 0.8, 0.2)
    second = rng.random(n) < p
    Y = frail + FIRST * first + SECOND * second + TOGETHER * (first & second)
    Y = Y + rng.standard_normal(n)
    return Y, first, second, np.full(n, 0.5), np.where(second, p, 1 - p), np.arange(n)


def test_planted_effects_of_both_contacts_and_their_interaction_are_found() -> None:
    Y, *rest = _twice(np.random.default_rng(1), 60_000)
    found = carry_over(Y, *rest)
    truths = (FIRST, SECOND, FIRST + SECOND + TOGETHER, SECOND + TOGETHER, TOGETHER)
    for interval, truth in zip(found, truths, strict=True):
        assert abs(interval.value - truth) < 3.5 * interval.se
        assert interval.se < 0.05
    first, second = rest[0], rest[1]
    naive = Y[first & second].mean() - Y[first & ~second].mean()
    assert naive > found.second_given_first.high + 0.2


def test_intervals_of_sequences_cover() -> None:
    met = [carry_over(*_twice(np.random.default_rng(9 + s), 800)) for s in range(200)]
    covered = [f.second_given_first.low < 0.2 < f.second_given_first.high for f in met]
    assert 0.9 <= np.mean(covered) <= 0.985


def test_a_sequence_that_nobody_had_is_refused() -> None:
    one = np.ones(4, dtype=bool)
    with pytest.raises(ValueError, match="got none"):
        carry_over(np.zeros(4), one, one, np.ones(4), np.ones(4), np.arange(4))
