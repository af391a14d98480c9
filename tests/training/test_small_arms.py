"""Arms with few people: their noise is in the interval though they do not show it."""

import numpy as np
import pytest

from hustings.features.arrays import Floats
from hustings.features.training_set import Arm, MessageTest
from hustings.training.learners.average_effects import (
    average_effects,
    doubly_robust_scores,
)
from hustings.training.policy_value.small_arms import (
    N_TERMS,
    NO_SMALL_ARMS,
    small_arm_noise,
)

SHARE = 0.34
"""Of the voters are sent the message, at random."""
N = 2_400


def null_test(rng: np.random.Generator, n_b: int) -> MessageTest:
    """Nothing does anything: half controls, `n_b` people of b, the others a."""
    arm = np.zeros(N, dtype=np.int64)
    order = rng.permutation(N)
    arm[order[:n_b]], arm[order[n_b : N // 2]] = 2, 1
    ids, codes = np.arange(N).astype(str).astype(object), np.arange(N)
    X = rng.normal(size=(N, 1)).astype(np.float32)
    propensities = np.tile([0.5, 0.5 - n_b / N, n_b / N], (N, 1))
    return MessageTest(
        "e", (Arm("a", "mail"), Arm("b", "mail")), ids, codes, ids, codes, codes,
        np.zeros(N, dtype=np.int64), X, arm, 50 + 15 * rng.normal(size=N), propensities,
    )  # fmt: skip


def judged_once(rng: np.random.Generator, n_b: int) -> tuple[float, float, float]:
    """Gain of the best message, its error without and with the noise of few people.

    Either half chooses the message that looks best in the other.
    """
    test = null_test(rng, n_b)
    response = np.full(N, test.Y.mean())
    held = rng.permutation(N) < N // 2
    value, shown, unseen = 0.0, 0.0, 0.0
    for judged in (held, ~held):
        learnt, half = test.take(~judged), test.take(judged)
        effects = average_effects(
            learnt, doubly_robust_scores(learnt, response[~judged], None),
            dict.fromkeys("ab", "issue"),
        )  # fmt: skip
        contacts = np.zeros(3)
        contacts[1 + int(np.argmax(effects.shrunken))] = SHARE

        def realised(scores: Floats, contacts: Floats = contacts) -> Floats:
            lift: Floats = (scores - scores[:, :1]) @ contacts
            return lift

        gain = realised(doubly_robust_scores(half, response[judged], None))
        noise = small_arm_noise(half, response[judged], None)
        value += gain.sum() / N
        shown += ((gain - gain.mean()) ** 2).sum() / N**2
        unseen += (noise.of(realised) ** 2).sum() / N**2
    return value, shown**0.5, (shown + unseen) ** 0.5


@pytest.mark.parametrize("n_b", [5, 30])
def test_the_interval_of_a_policy_covers_nothing_gained_by_few_people(n_b: int) -> None:
    draws = np.array([judged_once(np.random.default_rng(s), n_b) for s in range(250)])
    value, shown, full = draws.T
    covered = (np.abs(value) < 1.96 * full).mean()
    assert covered >= 0.93
    # without it the interval is that of the few who happened to be there
    assert (np.abs(value) < 1.96 * shown).mean() < covered - 0.015


def test_the_noise_of_two_policies_is_shared_and_of_an_empty_arm_the_designs() -> None:
    """Nobody got b: its score has variance 225 / .0125, times 1 + 1 / pi."""
    rng = np.random.default_rng(3)
    test = null_test(rng, 30)
    nobody = test.take(test.arm != 2)
    noise = small_arm_noise(nobody, np.full(len(nobody.Y), 50.0), None)
    assert noise.arms == (2,)
    everybody = noise.of(lambda scores: scores[:, 2])
    assert everybody.shape == (N_TERMS,)
    by_design = (1 + 1 / np.pi) * 225 / 0.0125 * len(nobody.Y)
    assert (everybody**2).sum() == pytest.approx(by_design, rel=0.25)
    half = noise.of(lambda scores: 0.5 * scores[:, 2])
    assert ((everybody - 2 * half) ** 2).sum() == pytest.approx(0.0)


def test_arms_with_enough_people_add_nothing() -> None:
    test = null_test(np.random.default_rng(4), 400)
    assert small_arm_noise(test, np.full(N, 50.0), None) is NO_SMALL_ARMS
    assert NO_SMALL_ARMS.of(lambda scores: scores[:, 0]).size == 0
