"""Survey weights and uncertain links: planted truth, naive ways beside ours."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hustings.features.tables import RESPONSES, check
from hustings.features.training_set import (
    MessageTest,
    build_training_set,
    linked_outcome,
    message_tests,
)
from hustings.features.voter import Encoding
from hustings.training.estimators.metrics import (
    Interval,
    calibration_slope,
    clustered_mean,
)
from hustings.training.learners.average_effects import (
    Nuisances,
    average_effects,
    doubly_robust_scores,
    fit_nuisances,
)
from hustings.training.learners.boosting import binned
from hustings.training.learners.gbm import calibrate, prepare
from hustings.training.learners.linear import DEFAULT_LINEAR, fit_linear
from hustings.training.learners.registry import fit_lift
from hustings.training.policy_value.held_out_halves import judge_halves
from hustings.training.policy_value.heterogeneity import lift_groups
from hustings.training.policy_value.spending import Market

WRONG = 0.1


def ground_of(test: MessageTest) -> Nuisances:
    issue_of = dict.fromkeys(test.messages, "issue")
    return fit_nuisances(test, binned(test.X, []), issue_of, seed=1)


def effect_of(test: MessageTest) -> Interval:
    return ground_of(test).effects.intervals(shrunken=False)[0]


# --- survey weights -------------------------------------------------------------------


def unlike_sample(planted: Callable, seed: int, n: int = 1_000) -> MessageTest:
    """Message 0 moves people of a high trait by 2, others by nothing.

    Half of the population has the trait, a fifth of those who answered: the weights
    say so, and the effect in the population is 1.
    """
    rng = np.random.default_rng(seed)
    test, _ = planted(
        rng, n_households=4 * n, size=1,
        lift=lambda X: np.outer(X[:, 0] > 0, [2.0, 0.0]),
    )  # fmt: skip
    high = test.X[:, 0] > 0
    few = test.take(~high | (rng.random(len(high)) < 0.25))
    weight = np.where(few.X[:, 0] > 0, 4.0, 1.0)
    return replace(few, weight=weight / weight.mean())


def test_the_weighted_effect_is_that_of_the_population(planted: Callable) -> None:
    test = unlike_sample(planted, 1)
    assert effect_of(replace(test, weight=None)).high < 0.8
    found = effect_of(test)
    assert found.low < 1.0 < found.high
    assert found.se < 0.12


def test_weighted_intervals_cover_the_population_effect(planted: Callable) -> None:
    """60 samples: 95 % cover, and no fewer than chance allows once in a thousand."""
    found = [effect_of(unlike_sample(planted, seed, n=250)) for seed in range(60)]
    assert sum(f.low < 1.0 < f.high for f in found) >= 51


def test_the_judged_value_of_a_policy_is_that_of_the_population(
    planted: Callable, small_trees: dict
) -> None:
    """The single best message to everybody: 1 in the population, .4 in the sample."""
    test = unlike_sample(planted, 2)
    everyone = np.ones((len(test.Y), 2), dtype=bool)
    halves = judge_halves(
        test, Market(np.ones(2), everyone, 1.0), categorical=[],
        settings=lambda *_: small_trees, seed=1,
        issue_of=dict.fromkeys(test.messages, "issue"),
    )  # fmt: skip
    gain = np.concatenate([half.realised("single_best", 1.0) for half in halves])
    order = np.concatenate([np.flatnonzero(half.held) for half in halves])
    found = clustered_mean(gain, test.cluster[order])
    assert found.low < 1.0 < found.high
    assert found.low > 0.6


def test_without_weights_nothing_changes_and_equal_weights_change_nothing(
    planted: Callable,
) -> None:
    test, _ = planted(np.random.default_rng(3), n_households=500)
    plain, equal = ground_of(test), ground_of(replace(test, weight=np.ones(1_000)))
    np.testing.assert_array_equal(plain.policy_scores(test), plain.scores(test))
    np.testing.assert_allclose(plain.effects.raw, equal.effects.raw, rtol=1e-12)
    np.testing.assert_allclose(plain.effects.raw_se, equal.effects.raw_se, rtol=1e-12)


def over_sampled(planted: Callable, seed: int) -> MessageTest:
    """Half of the population has a trait; ten without it answered for one with it.

    Message 0 moves who has it by 2, others by nothing, and everybody by the second
    feature: 1 on average in the population, .18 among those who answered.
    """
    rng = np.random.default_rng(seed)
    test, _ = planted(rng, n_households=12_000, size=1, lift=lifts_by_trait)
    high = test.X[:, 0] > 0
    few = test.take(~high | (rng.random(len(high)) < 0.1))
    return replace(few, weight=np.where(few.X[:, 0] > 0, 10.0, 1.0))


def lifts_by_trait(X: np.ndarray) -> np.ndarray:
    return np.column_stack([2.0 * (X[:, 0] > 0) + X[:, 1], np.zeros(len(X))])


@pytest.mark.parametrize("model", ["stack", "gbm"])
def test_a_learner_speaks_of_the_population_that_weights_restore(
    planted: Callable, model: str
) -> None:
    test = over_sampled(planted, 4)
    truth = lifts_by_trait(test.X)
    mean, slope = {}, {}
    for name, seen in (("ours", test), ("plain", replace(test, weight=None))):
        issue_of = dict.fromkeys(test.messages, "issue")
        prepared = prepare(seen, [], issue_of, seed=1)
        lifts = fit_lift(prepared, {"model": model}, seed=1)
        found = lifts.predict(test.X, test.unit_id).lift
        mean[name] = np.average(found, axis=0, weights=test.weight)
        slope[name] = calibration_slope(
            truth[:, :1], found[:, :1], test.cluster, test.survey_weight
        ).value
    assert mean["ours"][0] == pytest.approx(1.0, abs=0.2)
    assert abs(mean["ours"][0] - 1) < abs(mean["plain"][0] - 1)
    assert abs(mean["ours"][1]) < 0.2
    assert slope["ours"] == pytest.approx(1.0, abs=0.15)
    assert abs(slope["ours"] - 1) < abs(slope["plain"] - 1) + 0.05


def test_the_slope_of_the_population_is_covered_in_an_over_sampled_half() -> None:
    """What is predicted comes true of one half alone: the slope is a half, not .91.

    60 samples: 95 % cover, and no fewer than chance allows once in a thousand.
    """
    found, plain, n = [], [], 4_000
    for seed in range(60):
        rng = np.random.default_rng(seed)
        true_half = rng.random(n) < 10 / 11
        predicted = rng.normal(size=(n, 1))
        realised = predicted * true_half[:, None] + rng.normal(size=(n, 1))
        weight = np.where(true_half, 1.0, 10.0)
        judged = (realised, predicted, np.arange(n))
        plain.append(calibration_slope(*judged).value)
        found.append(calibration_slope(*judged, weight / weight.mean()))
    assert np.mean(plain) == pytest.approx(10 / 11, abs=0.02)
    assert sum(f.low < 0.5 < f.high for f in found) >= 51
    assert max(f.high for f in found) < 0.9


def test_a_weight_of_two_is_two_people() -> None:
    """Sums, slopes and groups of weighted rows are those of repeated rows."""
    rng = np.random.default_rng(6)
    n, times = 600, rng.integers(0, 3, size=600)
    X = rng.integers(0, 2, size=(n, 3)).astype(np.float32)
    lift = X[:, :2] + rng.normal(size=(n, 2))
    predicted, fold = X[:, :2] + 0.1 * rng.normal(size=(n, 2)), np.arange(n) % 2
    again, weight = np.repeat(np.arange(n), times), times / times.mean()
    shared = ([], {**DEFAULT_LINEAR, "order": 2})
    parts = ["issue"] * 2
    ours = fit_linear(
        X, lift, np.eye(2), fold, parts, *shared, times.astype(float), outcome_sd=1.0
    )
    theirs = fit_linear(
        X[again], lift[again], np.eye(2), fold[again], parts, *shared, outcome_sd=1.0
    )
    np.testing.assert_allclose(
        ours.deviation(X, None), theirs.deviation(X, None), atol=1e-4
    )
    scores = np.column_stack([np.zeros(n), lift])
    C = predicted.mean(axis=1)
    one = calibrate(scores, C, predicted, np.arange(n), weight)
    other = calibrate(scores[again], C[again], predicted[again], again)
    np.testing.assert_allclose(one.centre, other.centre)
    np.testing.assert_allclose(one.weight, other.weight, rtol=0.02)
    np.testing.assert_allclose(one.slope, other.slope, rtol=0.02)
    groups = lift_groups(
        lift, predicted, np.arange(n), n_groups=1, at_least=1, weight=weight
    )
    (whole,) = lift_groups(lift[again], predicted[again], again, n_groups=1, at_least=1)
    assert groups[0].predicted == pytest.approx(whole.predicted)
    assert groups[0].realised.value == pytest.approx(whole.realised.value)
    assert groups[0].realised.se == pytest.approx(whole.realised.se)


# --- links ----------------------------------------------------------------------------


def wrongly_linked(
    planted: Callable, seed: int
) -> tuple[MessageTest, MessageTest, float]:
    """A tenth of the answers is somebody else's: as they came, and as corrected.

    The chance that a link is right is .8 for half of the voters and 1 for the others,
    and the message does most for the first: 8 and 2, 5 on average.
    """
    rng = np.random.default_rng(seed)
    test, _ = planted(
        rng, n_households=3_000, size=1, control=0.5, noise=2.0,
        lift=lambda X: np.where(X[:, :1] > 0, 8.0, 2.0),
    )  # fmt: skip
    probability = np.where(test.X[:, 0] > 0, 1 - 2 * WRONG, 1.0)
    wrong = rng.random(len(test.Y)) > probability
    theirs = rng.permutation(test.Y)
    came = replace(test, Y=np.where(wrong, theirs, test.Y))
    rows = pd.DataFrame({"experiment_id": "e", "block": "all", "y": came.Y})
    corrected = linked_outcome(rows, pd.Series(probability)).to_numpy()
    truth = float(np.where(test.X[:, 0] > 0, 8.0, 2.0).mean())
    weighted = replace(came, weight=probability / probability.mean())
    return weighted, replace(came, Y=corrected), truth


def test_a_correction_worked_by_hand() -> None:
    """Of 1, 0, 1, 0 the others' means are 1/3 and 2/3: at p = .8, 7/6 and −1/6."""
    rows = pd.DataFrame({"experiment_id": "e", "block": "b", "y": [1.0, 0.0, 1.0, 0.0]})
    found = linked_outcome(rows, pd.Series([0.8, 0.8, 1.0, 1.0]))
    np.testing.assert_allclose(found, [7 / 6, -1 / 6, 1.0, 0.0])


def test_wrong_links_bias_plain_and_weighted_estimates_and_not_ours(
    planted: Callable,
) -> None:
    """Truth 5; a fifth of the strong half is lost: plain 4.2, weighted 3.9."""
    plain, weighted, ours = [], [], []
    for seed in range(20):
        came, corrected, truth = wrongly_linked(planted, seed)
        plain.append(effect_of(replace(came, weight=None)).value - truth)
        weighted.append(effect_of(came).value - truth)
        found = effect_of(corrected)
        ours.append((found.value - truth, found.low < truth < found.high, found.se))
    miss, covers, se = np.array(ours).T
    assert np.mean(plain) == pytest.approx(-0.8, abs=0.1)
    assert np.mean(weighted) < -0.9
    assert abs(miss.mean()) < 3 * se.mean() / np.sqrt(20)
    assert covers.sum() >= 17


def test_answers_of_another_block_are_not_the_pool() -> None:
    rows = pd.DataFrame(
        {"experiment_id": "e", "block": ["a", "a", "b", "b"], "y": [0.0, 2.0, 10, 12]}
    )
    found = linked_outcome(rows, pd.Series([0.5, 1.0, 0.5, 1.0]))
    np.testing.assert_allclose(found, [-2.0, 2.0, 8.0, 12.0])


def test_a_voters_own_answer_shrinks_no_lift_where_blocks_are_small() -> None:
    """Lift 8 in blocks of three, of two and of one; a third of the links are wrong."""
    rng, n, p = np.random.default_rng(9), 120_000, 2 / 3
    sent = rng.random(n) < 0.5
    own = 50 + 8.0 * sent + 20 * rng.standard_normal(n)
    came = np.where(rng.random(n) < p, own, own[rng.permutation(n)])
    for size in (3, 2, 1):
        rows = pd.DataFrame(
            {"experiment_id": "e", "block": np.arange(n) // size, "y": came}
        )
        found = linked_outcome(rows, pd.Series(np.full(n, p))).to_numpy()
        lift = found[sent].mean() - found[~sent].mean()
        assert lift == pytest.approx(8.0, abs=4 * found.std() * 2 / np.sqrt(n))


LINK_CHECKED = 400
"""Links whose truth is known, from which the share of right ones is estimated."""


def linked_with_estimated_chance(
    planted: Callable, seed: int
) -> tuple[MessageTest, MessageTest, float]:
    """A tenth of 24,000 answers is somebody else's; p is known from 400 links alone.

    Message 0 is worth 8 to everybody. As corrected with the estimated p, and the same
    without saying how well p is known.
    """
    rng = np.random.default_rng(seed)
    test, _ = planted(
        rng, n_households=12_000, size=1, control=0.5, noise=1.0,
        lift=lambda X: np.full((len(X), 1), 8.0),
    )  # fmt: skip
    wrong = rng.random(len(test.Y)) < WRONG
    came = np.where(wrong, rng.permutation(test.Y), test.Y)
    p = 1 - rng.binomial(LINK_CHECKED, WRONG) / LINK_CHECKED
    error = np.sqrt(p * (1 - p) / LINK_CHECKED) / p
    rows = pd.DataFrame({"experiment_id": "e", "block": "all", "y": came})
    corrected = linked_outcome(rows, pd.Series(np.full(len(came), p))).to_numpy()
    ours = replace(test, Y=corrected, link_error=float(error))
    return ours, replace(ours, link_error=0.0), 8.0


def test_intervals_of_linked_lifts_cover_though_the_chance_is_an_estimate(
    planted: Callable,
) -> None:
    """20 samples: 95 % cover; not saying how well p is known covers about half."""
    ours, bare = [], []
    for seed in range(20):
        told, untold, truth = linked_with_estimated_chance(planted, seed)
        found, narrow = plain_effect(told), plain_effect(untold)
        ours.append(found.low < truth < found.high)
        bare.append(narrow.low < truth < narrow.high)
    assert sum(ours) >= 17
    assert sum(bare) <= 15


def plain_effect(test: MessageTest) -> Interval:
    """The average effect with the response left out: its mean alone predicts it."""
    response = np.full(len(test.Y), test.Y.mean())
    scores = doubly_robust_scores(test, response, None)
    issue_of = dict.fromkeys(test.messages, "issue")
    return average_effects(test, scores, issue_of).intervals(shrunken=False)[0]


def test_the_error_of_links_widens_the_lift_of_every_voter(
    planted: Callable, small_trees: dict
) -> None:
    """An effect of 8 known to a tenth: no interval is narrower than ± 1.96 × .8."""
    test, _ = planted(
        np.random.default_rng(1), n_households=2_000, size=1,
        lift=lambda X: np.full((len(X), 1), 8.0),
    )  # fmt: skip
    issue_of = dict.fromkeys(test.messages, "issue")
    for error, least in ((0.0, 0.0), (0.1, 2 * 1.96 * 0.8 * 0.95)):
        seen = replace(test, link_error=error)
        prepared = prepare(seen, [], issue_of, seed=1)
        found = fit_lift(prepared, {**small_trees, "model": "gbm"}, seed=1)
        lifts = found.predict(test.X, test.unit_id)
        width = 2 * 1.96 * lifts.se[:, 0]
        assert width.min() >= least
    assert width.min() > 0


# --- from the tables ------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables(fitted) -> dict[str, pd.DataFrame]:
    found = dict(fitted.sample.tables)
    few = found["voters"]["voter_id"].head(3_000)
    for name in ("voters", "deliveries", "responses"):
        found[name] = found[name][found[name]["voter_id"].isin(few)]
    return found


def made(tables: dict[str, pd.DataFrame], absent: str = "missing"):
    return build_training_set(
        tables, ["age", "party"], outcome="support", absent=absent
    )


def test_tables_without_weight_or_link_make_the_training_set_they_made(tables) -> None:
    plain = made(tables)
    assert "weight" not in plain.rows
    (test,) = message_tests(plain, Encoding.fit(plain.features)).values()
    assert test.weight is None
    sure = tables["responses"].assign(link_probability=1.0)
    linked = made(tables | {"responses": check(RESPONSES, sure)})
    pd.testing.assert_frame_equal(linked.rows, plain.rows, check_exact=True)


def test_weights_reach_the_test_and_who_did_not_answer_stands_for_nobody(
    tables,
) -> None:
    weighted = tables["responses"].assign(weight=2.0)
    found = made(tables | {"responses": weighted})
    (test,) = message_tests(found, Encoding.fit(found.features)).values()
    assert test.weight is not None
    assert test.weight.mean() == pytest.approx(1.0)
    np.testing.assert_array_equal(test.weight > 0, test.observed)
    some = test.take(np.arange(10))
    np.testing.assert_array_equal(some.weight, test.weight[:10])
    silent = made(tables | {"responses": weighted}, absent="zero")
    assert (silent.rows["weight"] > 0).all()


def test_the_error_of_a_link_reaches_the_test(tables) -> None:
    answers = tables["responses"].assign(link_probability=0.8, link_probability_se=0.04)
    found = made(tables | {"responses": check(RESPONSES, answers)})
    (test,) = message_tests(found, Encoding.fit(found.features)).values()
    assert test.link_error == pytest.approx(0.05)
    assert test.take(np.arange(10)).link_error == test.link_error
    plain = made(tables)
    (bare,) = message_tests(plain, Encoding.fit(plain.features)).values()
    assert bare.link_error == 0.0
