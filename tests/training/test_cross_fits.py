"""Nuisances suit the size of the test: as good as a regression, no needless model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hustings.features.training_set import MessageTest
from hustings.training.learners.average_effects import Nuisances, fit_nuisances
from hustings.training.learners.boosting import binned
from hustings.training.learners.cross_fits import least_error_shares
from hustings.training.learners.ridge import FoldRidges

N_FEATURES = 12
EFFECT = 0.1
LINE = np.array([0.5, 0.4, 0.3, -0.2, 0.1])


def line(X: np.ndarray) -> np.ndarray:
    """Five of twelve features matter, and the last category, by straight lines."""
    return X[:, :5] @ LINE + 0.5 * (X[:, -1] == 2)


def curve(X: np.ndarray) -> np.ndarray:
    """Nothing that a straight line could follow."""
    return np.abs(X[:, 0]) + np.sign(X[:, 1] * X[:, 2])


def drawn(
    planted: Callable,
    seed: int,
    n: int,
    baseline: Callable[[np.ndarray], np.ndarray] = line,
    *,
    binary: bool = False,
) -> MessageTest:
    """One message to half of n people, some of whom lack the first feature."""
    rng = np.random.default_rng(seed)
    test, _ = planted(
        rng, n_households=n, size=1, family=0.0, n_features=N_FEATURES, control=0.5,
        categorical=True, baseline=baseline,
        lift=lambda X: np.full((len(X), 1), EFFECT),
    )  # fmt: skip
    X = np.where(
        (rng.random(n) < 0.1)[:, None] & (np.arange(N_FEATURES) == 3), np.nan, test.X
    )
    Y = (test.Y > 0).astype(float) if binary else test.Y
    return replace(test, X=X.astype(np.float32), Y=Y)


def nuisances_of(test: MessageTest, seed: int = 1) -> Nuisances:
    data = binned(test.X, [N_FEATURES - 1])
    return fit_nuisances(test, data, dict.fromkeys(test.messages, "issue"), seed=seed)


def regression(test: MessageTest) -> tuple[float, float]:
    """Effect and its HC2 error by least squares on everything, as a textbook has it."""
    levels = test.X[:, -1:] == np.array([1, 2])
    missing = np.isnan(test.X[:, :-1])
    filled = np.where(missing, 0.0, test.X[:, :-1])
    Z = np.column_stack(
        [test.arm, np.ones(len(test.Y)), filled, missing[:, 3], levels]
    )[test.observed]
    inverse = np.linalg.inv(Z.T @ Z)
    slopes = inverse @ Z.T @ test.Y[test.observed]
    leverage = ((Z @ inverse) * Z).sum(axis=1)
    squared = (test.Y[test.observed] - Z @ slopes) ** 2 / (1 - leverage)
    variance = inverse @ ((Z * squared[:, None]).T @ Z) @ inverse
    return float(slopes[0]), float(np.sqrt(variance[0, 0]))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(("n", "n_seeds"), [(400, 40), (1_000, 20), (3_000, 8)])
def test_the_error_of_an_effect_is_that_of_a_regression(
    planted: Callable, n: int, n_seeds: int, binary: bool
) -> None:
    """Where straight lines are the truth; the trees alone are up to a fifth worse."""
    ours, theirs, missed = [], [], []
    for seed in range(n_seeds):
        test = drawn(planted, seed, n, binary=binary)
        effects = nuisances_of(test, seed).effects
        ours.append(effects.raw_se[0])
        theirs.append(regression(test)[1])
        missed.append((effects.raw[0] - EFFECT) / effects.raw_se[0])
    assert np.mean(ours) <= 1.05 * np.mean(theirs)
    if not binary:
        # the variance of a mean square of 40 standard normals is 2 / 40
        assert np.mean(np.square(missed)) < 1 + 3 * np.sqrt(2 / n_seeds)


def test_trees_take_over_where_straight_lines_do_not_follow(planted: Callable) -> None:
    test = drawn(planted, 1, 3_000, curve)
    nuisances = nuisances_of(test)
    weights = nuisances.cross_fits.response.weights
    assert (weights[:, 1] > 0.7).all()
    assert nuisances.effects.raw_se[0] < 0.85 * regression(test)[1]


def test_where_nothing_can_be_predicted_the_mean_is_left(planted: Callable) -> None:
    test = drawn(planted, 2, 400, lambda X: np.zeros(len(X)))
    nuisances = nuisances_of(test)
    assert nuisances.response(test).std() < 0.1 * np.std(test.Y)
    control, sent = (test.Y[test.arm == a] for a in (0, 1))
    plain = np.sqrt(control.var() / len(control) + sent.var() / len(sent))
    assert nuisances.effects.raw_se[0] < 1.03 * plain


def answered(
    test: MessageTest, chance: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> MessageTest:
    """Outcomes seen with a chance given features and arm."""
    seen = np.random.default_rng(9).random(len(test.Y)) < chance(test.X, test.arm)
    return replace(test, Y=np.where(seen, test.Y, np.nan))


def logistic(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def test_silence_by_chance_is_no_model_and_no_error(planted: Callable) -> None:
    """A fifth answers, more of those that were sent something: the canvass's case."""
    ratios = []
    for seed in range(12):
        test = answered(drawn(planted, seed, 1_800), lambda _, arm: 0.18 + 0.08 * arm)
        nuisances = nuisances_of(test, seed)
        observation = nuisances.cross_fits.observation
        assert observation is not None
        assert observation.of_voter is None
        assert observation.of_sent is None
        probability = nuisances.observed_probability(test)
        assert probability is not None
        for arm in (0, 1):
            rate = test.observed[test.arm == arm].mean()
            np.testing.assert_allclose(probability[test.arm == arm], rate)
        ratios.append(nuisances.effects.raw_se[0] / regression(test)[1])
    assert np.mean(ratios) < 1.05


def test_silence_that_hangs_on_the_voter_is_modelled(planted: Callable) -> None:
    test = answered(
        drawn(planted, 3, 3_000), lambda X, _: logistic(X[:, 0].astype(float))
    )
    nuisances = nuisances_of(test)
    observation = nuisances.cross_fits.observation
    assert observation is not None
    assert observation.of_voter is not None
    assert observation.of_sent is None
    truth = logistic(test.X[:, 0].astype(float))
    probability = nuisances.observed_probability(test)
    assert np.corrcoef(probability, truth)[0, 1] > 0.9


def test_silence_that_a_message_brings_about_is_modelled(planted: Callable) -> None:
    """The message drives away whom it is wasted on: answers alone are off by half."""
    rng_test, _ = planted(
        np.random.default_rng(4), n_households=4_000, size=1, family=0.0,
        n_features=N_FEATURES, control=0.5, categorical=True, baseline=line,
        lift=lambda X: X[:, :1],
    )  # fmt: skip
    test = answered(
        rng_test, lambda X, arm: logistic(arm * 1.5 * X[:, 0].astype(float))
    )
    nuisances = nuisances_of(test)
    observation = nuisances.cross_fits.observation
    assert observation is not None
    assert observation.of_sent is not None
    seen = test.observed
    answers = [test.Y[seen & (test.arm == a)].mean() for a in (0, 1)]
    true = float(test.X[:, 0].mean())
    assert answers[1] - answers[0] - true > 0.4
    assert abs(nuisances.effects.raw[0] - true) < 3 * nuisances.effects.raw_se[0]


def test_channels_merged_by_message_are_observed_as_often(planted: Callable) -> None:
    test, _ = planted(
        np.random.default_rng(5), n_households=1_500, channels={"mail": 1, "phone": 1},
        n_features=N_FEATURES,
    )  # fmt: skip
    test = answered(test, lambda _, arm: 0.3 + 0.1 * arm)
    nuisances, merged = nuisances_of(test), test.by_message()
    probability = nuisances.observed_probability(merged)
    assert probability is not None
    for message in range(3):
        sent = merged.arm == message
        np.testing.assert_allclose(probability[sent], merged.observed[sent].mean())


def test_what_was_saved_predicts_the_same(planted: Callable, tmp_path: Path) -> None:
    test = answered(
        drawn(planted, 6, 2_000, curve),
        lambda X, arm: logistic((1 + arm) * X[:, 0].astype(float)),
    )
    nuisances = nuisances_of(test)
    nuisances.save(tmp_path)
    again = Nuisances.load(tmp_path)
    for unit in (test.unit_id, None):
        lift = np.zeros((len(test.Y), 1))
        np.testing.assert_array_equal(
            nuisances.baseline(test.X, unit, lift), again.baseline(test.X, unit, lift)
        )
    np.testing.assert_array_equal(
        nuisances.observed_probability(test), again.observed_probability(test)
    )


def test_nobody_is_predicted_beyond_what_was_seen(planted: Callable) -> None:
    test = drawn(planted, 7, 400, binary=True)
    far = np.full((2, N_FEATURES), 1e6, dtype=np.float32)
    predicted = nuisances_of(test).cross_fits.response.predict(far, None)
    assert (predicted >= 0).all()
    assert (predicted <= 1).all()


def test_ridge_slopes_are_those_of_the_textbook() -> None:
    """Least generalised cross-validation error, by brute force on one fold out."""
    rng = np.random.default_rng(8)
    X = rng.normal(size=(60, 3)).astype(np.float32)
    Y = X @ [1.0, 0.5, 0.0] + rng.normal(size=60)
    fold = np.arange(60) % 2
    fits = FoldRidges.fit(X, [], np.ones(60, bool), Y, np.ones(60), fold, 2)
    learnt = fold == 1
    low, high = np.quantile(X.astype(float), [0.01, 0.99], axis=0)
    columns = np.clip(X, low, high)
    Z = columns[learnt] - columns[learnt].mean(axis=0)
    Z = Z / Z.std(axis=0)
    y = Y[learnt] - Y[learnt].mean()
    best = (np.inf, y)
    for penalty in 30 * np.geomspace(1e-4, 1e2, 31):
        hat = Z @ np.linalg.solve(Z.T @ Z + penalty * np.eye(3), Z.T)
        left = 1 - (1 + np.trace(hat)) / 30
        error = ((y - hat @ y) ** 2).mean() / left**2
        best = min(best, (error, hat @ y), key=lambda pair: pair[0])
    predicted = fits.predict(X[learnt], np.zeros(30, dtype=np.int64))
    np.testing.assert_allclose(predicted, best[1] + Y[learnt].mean(), atol=1e-3)


@pytest.mark.parametrize(
    ("moment", "shares"),
    [
        ([0.5, 0.2], [0.5, 0.2]),
        ([0.9, 0.5], [0.7, 0.3]),
        ([-1.0, 0.5], [0.0, 0.5]),
        ([-1.0, -1.0], [0.0, 0.0]),
        ([2.0, 0.0], [1.0, 0.0]),
    ],
)
def test_shares_stay_in_their_triangle(
    moment: list[float], shares: list[float]
) -> None:
    np.testing.assert_allclose(least_error_shares(np.eye(2), np.array(moment)), shares)
