"""What is known from elsewhere: weighed by precision, and told where it conflicts."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hustings.features.training_set import EffectPrior
from hustings.training.estimators.metrics import Interval
from hustings.training.learners.average_effects import average_effects, fit_nuisances
from hustings.training.learners.boosting import binned
from hustings.training.learners.priors import (
    combine_with_prior,
    prior_of,
    transported,
    with_prior,
)
from hustings.training.policy_value.verdict import prior_rows


def told(**columns: object) -> pd.DataFrame:
    """PRIORS rows; effect 6 (se 1) at half its size, give or take a quarter."""
    row = {"message_id": ["m0"], "source": "vendor", "kind": "topline", "effect": 6.0,
           "se": 1.0, "transport": 0.5, "transport_sd": 0.25, "n": 900.0}  # fmt: skip
    return pd.DataFrame({**row, **columns})


def test_two_independent_figures_worked_by_hand() -> None:
    """4 (variance 1) and prior 1 (variance 2): (4 + 1/2) / 1.5 = 3, variance 2/3."""
    found = combine_with_prior(
        np.array([4.0]), np.eye(1), np.array([1.0]), np.array([2.0])
    )
    assert found.mean[0] == pytest.approx(3.0)
    assert found.covariance[0, 0] == pytest.approx(2 / 3)
    assert found.conflict[0] == pytest.approx(3 / np.sqrt(3))


def test_estimates_that_share_controls_learn_from_each_others_prior() -> None:
    """S = [[2, 1], [1, 2]], prior 0 of the first with variance 1, both measured at 3.

    Precision S⁻¹ + diag(1, 0) = [[5, −1], [−1, 2]] / 3; S⁻¹ (3, 3) = (1, 1).
    """
    found = combine_with_prior(
        np.array([3.0, 3.0]), np.eye(2) + 1, np.array([0.0, np.nan]), np.ones(2)
    )
    np.testing.assert_allclose(found.mean, [1.0, 2.0])
    np.testing.assert_allclose(found.covariance, np.array([[2, 1], [1, 5]]) / 3)
    assert np.isnan(found.conflict[1])


def test_without_data_the_prior_is_all_there_is() -> None:
    found = combine_with_prior(
        np.array([9.0, 2.0]), np.diag([np.inf, 1.0]), np.array([1.5, np.nan]),
        np.array([0.49, np.nan]),
    )  # fmt: skip
    np.testing.assert_allclose(found.mean, [1.5, 2.0])
    np.testing.assert_allclose(np.diag(found.covariance), [0.49, 1.0])
    assert np.isnan(found.conflict).all()


def test_much_data_outweigh_any_prior() -> None:
    found = combine_with_prior(
        np.array([2.0]), np.full((1, 1), 1e-6), np.array([9.0]), np.array([4.0])
    )
    assert found.mean[0] == pytest.approx(2.0, abs=1e-5)


def test_a_wrong_prior_of_unsure_transport_hardly_moves_the_estimate() -> None:
    """40 elsewhere, nothing here: at ±1 it enters with SD 40, at ±.01 with SD 1."""
    here, noise = np.array([0.0]), np.eye(1)

    def moved(transport_sd: float) -> float:
        mean, variance = transported(
            np.array([40.0]), np.array([1.0]), np.ones(1), np.array([transport_sd])
        )
        return float(combine_with_prior(here, noise, mean, variance).mean[0])

    assert moved(1.0) == pytest.approx(40 / 1602, rel=1e-9)
    assert moved(0.01) > 15


@pytest.mark.parametrize(
    ("covariance", "mean", "variance", "words"),
    [
        (np.eye(1), [1.0], [0.0], "expected prior variances above 0, got 0.0"),
        (np.full((1, 1), np.inf), [np.nan], [1.0], "expected an estimate or a prior"),
    ],
)
def test_what_cannot_be_combined_is_refused(
    covariance: np.ndarray, mean: list, variance: list, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        combine_with_prior(np.ones(1), covariance, np.array(mean), np.array(variance))


def test_sources_of_one_message_are_weighed_and_others_stay_unknown() -> None:
    """3 with variance 2.5 of the vendor; 1 with variance .25 + .0625 of the panel."""
    panel = told(source="panel", effect=1.0, se=0.5, transport=1.0)
    found = prior_of(pd.concat([told(), panel]), ("m1", "m0"))
    assert found is not None
    precision = 1 / 2.5 + 1 / 0.3125
    assert found.mean[1] == pytest.approx((3 / 2.5 + 1 / 0.3125) / precision)
    assert found.variance[1] == pytest.approx(1 / precision)
    assert np.isnan(found.mean[0])
    assert prior_of(told(message_id=["elsewhere"]), ("m0", "m1")) is None


# --- with data ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def test(planted: Callable):
    """Messages of 1 and .2, on few people, so that a prior matters."""
    rng = np.random.default_rng(3)
    return planted(
        rng, n_households=400, lift=lambda X: np.tile([1.0, 0.2], (len(X), 1))
    )[0]


def effects_of(test):
    issue_of = dict.fromkeys(test.messages, "issue")
    return fit_nuisances(test, binned(test.X, []), issue_of, seed=1).effects


def test_without_a_prior_effects_are_the_same_to_the_bit(test) -> None:
    nuisances = fit_nuisances(
        test, binned(test.X, []), dict.fromkeys(test.messages, "i"), seed=1
    )
    scores = nuisances.scores(test)
    plain = average_effects(test, scores, dict.fromkeys(test.messages, "i"))
    for name, value in vars(plain).items():
        np.testing.assert_array_equal(value, getattr(nuisances.effects, name))
    # two messages say little of each other: each is shrunken towards nothing
    assert (np.abs(plain.shrunken) < np.abs(plain.raw)).all()


def test_a_prior_moves_the_pooled_effects_and_leaves_the_raw_ones(test) -> None:
    plain = effects_of(test)
    sure = EffectPrior(np.array([1.0, np.nan]), np.array([1e-6, np.nan]))
    found = effects_of(replace(test, prior=sure))
    np.testing.assert_array_equal(found.raw, plain.raw)
    assert found.shrunken[0] == pytest.approx(1.0, abs=1e-3)
    assert found.shrunken_se[0] < 0.01 < plain.shrunken_se[0]
    # the second shares the first one's controls, and learns of their luck
    assert plain.raw[0] < 1.0
    assert found.shrunken[1] > plain.shrunken[1]


def test_a_message_nobody_was_observed_on_has_its_prior(test) -> None:
    prior = EffectPrior(np.array([np.nan, 0.7]), np.array([np.nan, 0.04]))
    unseen = replace(test, Y=np.where(test.arm == 2, np.nan, test.Y), prior=prior)
    found = effects_of(unseen)
    assert found.shrunken[1] == pytest.approx(0.7)
    assert found.shrunken_se[1] == pytest.approx(0.2)


def test_a_right_prior_lowers_the_error_of_effects(planted: Callable) -> None:
    truth = np.array([0.3, 0.1])
    prior = EffectPrior(truth + 0.05, np.full(2, 0.05**2))
    errors = []
    for seed in range(12):
        few, _ = planted(
            np.random.default_rng(seed), n_households=150,
            lift=lambda X: np.tile(truth, (len(X), 1)),
        )  # fmt: skip
        plain, known = effects_of(few), effects_of(replace(few, prior=prior))
        errors.append([((e.shrunken - truth) ** 2).mean() for e in (plain, known)])
    plain_error, known_error = np.mean(errors, axis=0)
    assert known_error < 0.3 * plain_error


def test_a_conflict_of_prior_and_data_is_told(test) -> None:
    wrong = EffectPrior(np.array([30.0, np.nan]), np.array([0.01, np.nan]))
    known = replace(test, prior=wrong)
    (row,) = prior_rows(known, effects_of(known))
    assert row["message_id"] == "m0"
    assert row["conflict_z"] < -10
    assert row["prior"] == Interval.of(30.0, se=0.1).as_dict()
    assert prior_rows(test, effects_of(test)) == []


def test_priors_of_an_outcome_better_when_lower_are_turned_round(test) -> None:
    found = with_prior(test, told(), -1.0).prior
    assert found is not None
    assert found.mean[0] == pytest.approx(-3.0)
    assert found.variance[0] == pytest.approx(2.5)
