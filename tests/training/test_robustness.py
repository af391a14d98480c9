"""Experiments as they come: lopsided arms, hundreds of messages, answers that are lost.

The truth is planted; what is checked is that estimates and their errors stay honest.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hustings.features.training_set import Arm, MessageTest
from hustings.training.estimators.metrics import attrition_p_value
from hustings.training.learners.average_effects import fit_nuisances
from hustings.training.learners.baselines import untargeted
from hustings.training.learners.boosting import binned
from hustings.training.learners.gbm import fit_gbm, prepare
from hustings.training.policy_value.held_out_halves import judge_halves
from hustings.training.policy_value.spending import Market
from hustings.training.policy_value.verdict import evaluate


def drawn_of(
    rng: np.random.Generator, share: np.ndarray, lift: np.ndarray, n: int
) -> MessageTest:
    """People drawn one by one to arms of given shares; effects of every arm, (A,).

    Control comes first among the shares.
    """
    X = rng.normal(size=(n, 3)).astype(np.float32)
    arm = rng.choice(len(share), size=n, p=share)
    Y = X[:, 0] + np.concatenate([[0.0], lift])[arm] + rng.normal(size=n)
    ids = np.array([f"V{i}" for i in range(n)], dtype=object)
    codes = np.arange(n)
    arms = tuple(Arm(f"m{m}", "mail") for m in range(len(lift)))
    return MessageTest(
        experiment_id="planted", arms=arms, voter_id=ids, unit=codes, unit_id=ids,
        household=codes, drawn=codes, block=np.zeros(n, np.int64), X=X, arm=arm,
        Y=Y.astype(float), propensities=np.tile(share, (n, 1)),
    )  # fmt: skip


def effects_of(test: MessageTest):
    issue_of = dict.fromkeys(test.messages, "issue")
    return fit_nuisances(test, binned(test.X, []), issue_of, seed=1).effects


SHARE = np.array([0.3, 0.6, 0.09, 0.01])
LIFT = np.array([0.1, 0.2, 0.3])


def test_effects_of_arms_from_one_to_sixty_per_cent_are_covered() -> None:
    """20 experiments of 4,000: the rarest arm has forty people."""
    covered, width = np.zeros(3), np.zeros(3)
    for seed in range(20):
        found = effects_of(drawn_of(np.random.default_rng(seed), SHARE, LIFT, 4_000))
        covered += np.abs(found.raw - LIFT) < 1.96 * found.raw_se
        width += found.raw_se / 20
    assert (covered >= 16).all(), covered
    # noise of 1 in a hundredth of 4,000 people, and what the response does not explain
    assert width[2] == pytest.approx(1 / np.sqrt(40), rel=0.25)
    assert width[0] < 0.35 * width[2]


def test_a_rare_arms_noise_is_not_taken_for_heterogeneity() -> None:
    test = drawn_of(np.random.default_rng(2), SHARE, LIFT, 12_000)
    prepared = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)
    lifts = fit_gbm(prepared, seed=1).predict(test.X, test.unit_id)
    assert lifts.lift.std(axis=0).max() < 0.1
    assert lifts.se[:, 2].mean() > lifts.se[:, 0].mean()


@pytest.fixture(scope="module")
def hundreds() -> tuple[MessageTest, np.ndarray]:
    """500 messages of 16 people each: effects .3 apart, errors of .25.

    Sixteen people know their own noise badly: believed alone it would cover 91 %.
    """
    rng = np.random.default_rng(5)
    lift = 0.5 + 0.3 * rng.normal(size=500)
    share = np.concatenate([[0.06], np.full(500, 0.94 / 500)])
    return drawn_of(rng, share, lift, 8_500), lift


def test_of_500_messages_pooling_mends_the_errors_and_the_winners_curse(
    hundreds,
) -> None:
    test, lift = hundreds
    found = effects_of(test)
    raw_error = ((found.raw - lift) ** 2).mean()
    assert ((found.shrunken - lift) ** 2).mean() < 0.8 * raw_error
    best, best_raw = found.shrunken.argmax(), found.raw.argmax()
    curse = found.shrunken[best] - lift[best]
    assert abs(curse) < 2.5 * found.shrunken_se[best]
    assert found.raw[best_raw] - lift[best_raw] > curse
    covered = np.abs(found.shrunken - lift) < 1.96 * found.shrunken_se
    assert 0.92 < covered.mean() < 0.98
    assert np.corrcoef(found.shrunken, lift)[0, 1] > 0.6


def test_of_500_messages_a_model_is_fitted_that_knows_what_it_does_not_know(
    hundreds,
) -> None:
    test, lift = hundreds
    prepared = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)
    model = fit_gbm(prepared, seed=1)
    # sixteen people tell of no heterogeneity of a message's own
    assert all(trees is None for trees in model.message_trees)
    lifts = model.predict(test.X[:500], test.unit_id[:500])
    assert np.isfinite(lifts.lift).all()
    assert np.isfinite(lifts.se).all()
    covered = np.abs(lifts.lift - lift) < 1.96 * lifts.se
    assert 0.92 < covered.mean() < 0.98


def test_of_two_alike_messages_neither_verdict_nor_effects_make_two(
    small_trees: dict,
) -> None:
    test = drawn_of(
        np.random.default_rng(3), np.array([0.4, 0.3, 0.3]), np.array([0.3, 0.3]), 3_000
    )
    everyone = np.ones((3_000, 2), dtype=bool)
    market = Market(np.ones(2), everyone, 0.5)
    halves = judge_halves(
        test, market, categorical=[], settings=lambda *_: small_trees, seed=1,
        issue_of=dict.fromkeys(test.messages, "issue"),
    )  # fmt: skip
    segment = np.full(3_000, "everyone", dtype=object)
    found = evaluate(test, market, halves, segment=segment).to_json()
    assert found["verdict"] == "not_worth_personalising"
    flat = untargeted(
        prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1).nuisances
    )
    assert abs(flat.lift[0, 0] - flat.lift[0, 1]) < 4 * flat.se.max()


def lost(test: MessageTest, rng: np.random.Generator) -> MessageTest:
    """Whoever got message 0 answers less, most of all where the trait is high."""
    high = test.X[:, 0] > 0
    chance = np.where(test.arm == 1, np.where(high, 0.5, 0.8), 0.9)
    return replace(test, Y=np.where(rng.random(len(high)) < chance, test.Y, np.nan))


def test_answers_lost_unequally_between_arms_raise_the_alarm_and_hardly_a_bias() -> (
    None
):
    """Who is asked less is of lower outcome: the plain difference lies .2 off."""
    share, lift = np.array([0.4, 0.3, 0.3]), np.array([0.3, 0.3])
    off, plain, covered = [], [], 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        test = lost(drawn_of(rng, share, lift, 6_000), rng)
        found = effects_of(test)
        off.append(found.raw[0] - 0.3)
        covered += abs(off[-1]) < 1.96 * found.raw_se[0]
        means = [np.nanmean(test.Y[test.arm == a]) for a in (0, 1)]
        plain.append(means[1] - means[0] - 0.3)
        p = attrition_p_value(test.observed, test.arm, test.propensities, test.cluster)
        assert p < 1e-6
    assert np.mean(plain) < -0.15
    assert abs(np.mean(off)) < 0.03
    assert covered >= 9


def test_missing_features_are_no_reason_to_lose_anybody(planted: Callable) -> None:
    """A third of all values is missing at random: effects are still covered."""
    rng = np.random.default_rng(7)
    test, truth = planted(rng, n_households=3_000, lift=lambda X: X[:, :2] + 0.5)
    holed = np.where(rng.random(test.X.shape) < 1 / 3, np.nan, test.X)
    test = replace(test, X=holed.astype(np.float32))
    found = effects_of(test)
    assert (np.abs(found.raw - truth.mean(axis=0)) < 3 * found.raw_se).all()
    prepared = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)
    lifts = fit_gbm(prepared, seed=1).predict(test.X, test.unit_id)
    assert np.isfinite(lifts.lift).all()
    assert np.corrcoef(lifts.lift.ravel(), truth.ravel())[0, 1] > 0.4
