"""Off-policy values by hand, covering planted truth, and refused without support."""

import numpy as np
import pytest

from hustings.training.policy_value.off_policy import Log, off_policy_value, support_of

FOUR = Log(
    reward=np.array([1.0, 0.0, 2.0, 4.0]),
    action=np.array([0, 0, 1, 1]),
    propensity=np.array([0.5, 0.5, 0.25, 0.5]),
    cluster=np.arange(4),
    propensities=np.array([[0.5, 0.5], [0.5, 0.5], [0.75, 0.25], [0.5, 0.5]]),
)
TARGET = np.tile([0.25, 0.75], (4, 1))
"""Weights 1/2, 1/2, 3, 3/2."""


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four decisions are enough here: they are worked by hand."""
    monkeypatch.setattr("hustings.training.policy_value.off_policy.MIN_EFFECTIVE", 1.0)


@pytest.mark.usefixtures("lenient")
def test_four_decisions_worked_by_hand() -> None:
    """Weighted rewards 1/2, 0, 6, 6: 12.5 / 4, and over the weights' sum 12.5 / 5.5."""
    predicted = np.tile([0.5, 3.0], (4, 1))
    expected = 0.25 * 0.5 + 0.75 * 3.0
    by_hand = {
        "ips": 12.5 / 4,
        "snips": 12.5 / 5.5,
        # residuals 0.5, -0.5, -1, 1 times the weights sum to -3/2
        "dr": expected + (0.25 - 0.25 - 3 + 1.5) / 4,
        # the weight of 3 is too large to be trusted
        "switch": expected + (0.25 - 0.25 + 1.5) / 4,
    }
    for estimator, value in by_hand.items():
        found = off_policy_value(
            FOUR, TARGET, estimator=estimator, predicted=predicted, switch_at=2.0
        )
        assert found.value.value == pytest.approx(value), estimator
        assert found.estimator == estimator


def test_the_effective_size_worked_by_hand() -> None:
    """(Σ w)² / Σ w² = 5.5² / 11.75."""
    found = support_of(FOUR, TARGET)
    assert found.effective_n == pytest.approx(5.5**2 / 11.75)
    assert found.mean_weight == pytest.approx(5.5 / 4)
    assert found.max_weight == 3.0
    assert found.unsupported_share == 0
    assert not found.enough
    assert found.reason == "the log is worth 2.6 decisions of the target; 50 are needed"


def logged(
    rng: np.random.Generator,
    n: int = 1_000,
    design: tuple[float, ...] = (0.6, 0.3, 0.1),
) -> tuple[Log, np.ndarray]:
    """Rewards x + a of action a, couples alike; a target that follows x."""
    cluster = np.arange(n) // 2
    x = rng.normal(size=n // 2)[cluster]
    action = rng.choice(3, size=n, p=design)
    reward = x + action + rng.normal(size=n) + rng.normal(size=n // 2)[cluster]
    target = np.where((x > 0)[:, None], [0.1, 0.3, 0.6], [0.3, 0.4, 0.3])
    known = np.tile(design, (n, 1))
    log = Log(reward, action, np.take(design, action), cluster, known)
    return log, target


def predictions(log: Log) -> np.ndarray:
    """Wrong by half a point, and blind to x."""
    return np.tile([0.5, 1.0, 2.5], (len(log.reward), 1))


TRUE_VALUE = 0.5 * (0.3 + 2 * 0.6) + 0.5 * (0.4 + 2 * 0.3)


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_intervals_cover_the_true_value(estimator: str) -> None:
    rng = np.random.default_rng(0)
    met = []
    for _ in range(300):
        log, target = logged(rng)
        found = off_policy_value(
            log, target, estimator=estimator, predicted=predictions(log)
        ).value
        met.append(found.low <= TRUE_VALUE <= found.high)
    assert abs(np.mean(met) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 300)


def test_good_predictions_lower_the_error() -> None:
    log, target = logged(np.random.default_rng(1))
    ips, dr = (
        off_policy_value(log, target, estimator=e, predicted=predictions(log)).value
        for e in ("ips", "dr")
    )
    assert dr.se < 0.8 * ips.se


def test_a_policy_that_does_what_was_logged_is_worth_its_mean() -> None:
    log, _ = logged(np.random.default_rng(2))
    found = off_policy_value(log, log.propensities, estimator="ips")
    assert found.value.value == pytest.approx(log.reward.mean())
    assert found.support.effective_n == pytest.approx(1_000)


def test_no_estimate_without_support() -> None:
    """The log never does the third thing, the target does it half of the time."""
    log, target = logged(np.random.default_rng(3), design=(0.5, 0.5, 0.0))
    with pytest.raises(ValueError, match=r"% of the target's probability lies on"):
        off_policy_value(log, target, estimator="ips")
    unknown = Log(log.reward, log.action, log.propensity, log.cluster)
    # without the other probabilities the weights tell: they do not sum to one
    with pytest.raises(ValueError, match=r"log more of what the target does"):
        off_policy_value(unknown, target, estimator="dr", predicted=predictions(log))


def test_data_collected_adaptively_are_refused() -> None:
    log = Log(FOUR.reward, FOUR.action, FOUR.propensity, FOUR.cluster, adaptive=True)
    with pytest.raises(ValueError, match="got one collected adaptively"):
        off_policy_value(log, TARGET, estimator="ips")


def test_what_could_not_happen_is_an_error() -> None:
    impossible = Log(
        FOUR.reward, FOUR.action, np.array([0.5, 0, 0.25, 0.5]), FOUR.cluster
    )
    with pytest.raises(ValueError, match="a decision that could not happen"):
        off_policy_value(impossible, TARGET, estimator="ips")
    with pytest.raises(ValueError, match=r"in every row, got a sum off by 0\.5"):
        off_policy_value(FOUR, TARGET / 2, estimator="ips")
    with pytest.raises(ValueError, match=r"a target of shape \(4, K\), got \(3, 2\)"):
        off_policy_value(FOUR, TARGET[:3], estimator="ips")


@pytest.mark.usefixtures("lenient")
def test_doubly_robust_needs_predictions() -> None:
    with pytest.raises(ValueError, match=r"of shape \(4, 2\), got none"):
        off_policy_value(FOUR, TARGET, estimator="dr")
