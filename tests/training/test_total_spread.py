"""What lifts may differ by beyond the prediction is neither over- nor understated."""

import numpy as np
import pytest

from hustings.features.arrays import Floats
from hustings.training.learners.total_spread import SHARES, unexpected_variance

N_COLUMNS, N_MESSAGES, OUTCOME_SD = 15, 6, 20.0
NOISE = OUTCOME_SD**2 * (np.eye(N_MESSAGES) / 0.1 + 2.0)


def variances(
    rng: np.random.Generator, n: float, share: float, *, shrunken: float = 0.0
) -> tuple[Floats, Floats]:
    """Unexpected and true variance of what a prediction leaves, shape (M,) each.

    It shrinks every coefficient's estimate by the same factor: 0 predicts nothing.
    """
    turn = np.linalg.qr(rng.normal(size=(N_COLUMNS, N_COLUMNS)))[0]
    gram = n * (turn * np.linspace(0.5, 1.5, N_COLUMNS)) @ turn.T
    sd = share * OUTCOME_SD / np.sqrt(N_COLUMNS)
    B = sd * rng.normal(size=(N_COLUMNS, N_MESSAGES))
    noise = np.linalg.cholesky(gram) @ rng.normal(size=B.shape)
    cross = gram @ B + noise @ np.linalg.cholesky(NOISE).T
    predicted = shrunken * np.linalg.solve(gram, cross)
    learnt = np.full(N_MESSAGES, shrunken * N_COLUMNS)
    unexpected = unexpected_variance(
        gram, cross - gram @ predicted, NOISE, learnt, n, OUTCOME_SD
    )
    left = B - predicted
    return unexpected, np.einsum("pm,pq,qm->m", left, gram, left) / n


@pytest.mark.parametrize("share", [0.025, 0.05, 0.1, 0.2])
def test_much_data_say_how_far_lifts_lie_from_the_prediction(share: float) -> None:
    draws = [variances(np.random.default_rng(s), 2e6, share) for s in range(20)]
    unexpected, true = np.mean(draws, axis=(0, 2))
    assert unexpected == pytest.approx(true, rel=0.1)


def test_of_no_difference_much_data_leave_next_to_nothing() -> None:
    draws = [variances(np.random.default_rng(s), 2e6, 0.0)[0] for s in range(20)]
    assert np.sqrt(np.mean(draws)) < 0.005 * OUTCOME_SD


def test_where_data_say_nothing_the_prior_is_all_there_is() -> None:
    """Half-Cauchy of scale .05 on the grid, and no difference in one case of ten."""
    x = SHARES / 0.05
    weight = x / (1 + x**2)
    prior = 0.9 * (weight @ SHARES**2) / weight.sum() * OUTCOME_SD**2
    unexpected = variances(np.random.default_rng(1), 1e-3, 0.1)[0]
    np.testing.assert_allclose(unexpected, prior, rtol=0.01)


def test_a_prediction_by_the_right_prior_leaves_little_that_it_did_not_expect() -> None:
    """Half of each estimate, where truth and noise have the same variance."""
    share = 0.08
    of_column = (share * OUTCOME_SD) ** 2 / N_COLUMNS
    n = NOISE[0, 0] / of_column
    draws = [
        variances(np.random.default_rng(s), n, share, shrunken=0.5) for s in range(20)
    ]
    unexpected, true = np.mean(draws, axis=(0, 2))
    # its own posterior variance is half of what there is
    assert true == pytest.approx(0.5 * (share * OUTCOME_SD) ** 2, rel=0.15)
    assert unexpected < 0.4 * true
    # of twice the spread the rest is seen
    draws = [
        variances(np.random.default_rng(s), n, 2 * share, shrunken=0.5)
        for s in range(20)
    ]
    unexpected, true = np.mean(draws, axis=(0, 2))
    expected = 0.5 * (share * OUTCOME_SD) ** 2
    assert expected + unexpected == pytest.approx(true, rel=0.25)


def test_without_features_there_is_nothing_to_differ_by() -> None:
    none, nothing = np.zeros((0, 0)), np.zeros((0, 3))
    variance = unexpected_variance(none, nothing, np.eye(3), np.zeros(3), 100.0, 1.0)
    assert variance.tolist() == [0.0, 0.0, 0.0]
