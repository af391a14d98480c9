"""Off-policy value: the reward of a target policy from another policy's log.

Shapes: n logged decisions, K actions. The data must come from a fixed policy with known
probabilities. Data collected adaptively (a policy that learns from the rewards in the
same log) are out of scope: their errors are not independent and ordinary intervals
fail, so such a log is refused.

Sources: Horvitz & Thompson (1952); Swaminathan & Joachims (2015, self-normalised);
Dudík, Langford & Li (2011, doubly robust); Wang, Agarwal & Dudík (2017, Switch).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from hustings.features.arrays import Floats, Ints
from hustings.training.estimators.metrics import Interval, clustered_mean

Estimator = Literal["ips", "snips", "dr", "switch"]

MAX_UNSUPPORTED = 0.01
"""More of the target's probability than this without support refuses an estimate."""
MIN_EFFECTIVE = 50.0
"""Fewer effective decisions than this refuse an estimate: no interval holds."""
MIN_LOGGED = 1e-9
"""A logged probability below this is none."""
SWITCH_AT = 10.0


@dataclass(frozen=True)
class Log:
    """Decisions as they were logged.

    Attributes:
        reward: Shape (n,).
        action: What was done, 0..K - 1, shape (n,).
        propensity: Probability with which it was done, shape (n,).
        cluster: Who shares noise, codes from 0, shape (n,).
        propensities: Of every action, shape (n, K); None where only that of the action
            taken was logged, and support is judged by the weights alone.
        adaptive: Whether the logging policy learnt from the rewards of this log.
    """

    reward: Floats
    action: Ints
    propensity: Floats
    cluster: Ints
    propensities: Floats | None = None
    adaptive: bool = False


class Support(NamedTuple):
    """How much a log can say about a policy.

    Attributes:
        effective_n: (Σ w)² / Σ w²: decisions of the target that the log is worth.
        mean_weight: 1 in expectation where the log covers all the target does.
        unsupported_share: Of the target's probability, on actions that the log's policy
            (almost) never takes.
        max_weight: Largest weight.
        enough: Whether an estimate may be given.
        reason: Why not, empty where it may.
    """

    effective_n: float
    mean_weight: float
    unsupported_share: float
    max_weight: float
    enough: bool
    reason: str


class PolicyValue(NamedTuple):
    """Value of a policy per decision, with what it rests on."""

    value: Interval
    estimator: Estimator
    support: Support


def off_policy_value(
    log: Log,
    target: Floats,
    *,
    estimator: Estimator,
    predicted: Floats | None = None,
    switch_at: float = SWITCH_AT,
) -> PolicyValue:
    """Value of a target policy from another policy's log.

    ips is unbiased with known probabilities; snips trades a bias of order 1/n for less
    variance; dr stays unbiased and is as precise as the predictions are good; switch
    follows the predictions alone where a weight exceeds `switch_at`, so its interval
    does not cover the bias of wrong predictions there.

    Args:
        log: What was done, and earned.
        target: Probability of every action under the target policy, shape (n, K).
        estimator: ips, snips, dr or switch.
        predicted: Reward of every action by a model that did not see the decision's
            reward, shape (n, K); needed by dr and switch.
        switch_at: Largest weight that switch trusts.

    Raises:
        ValueError: If the log is adaptive, inconsistent or lacks support, or
            predictions are missing.
    """
    _check(log, target)
    support = support_of(log, target)
    # switch asks the log only where weights are small: support is its predictions' job
    if not support.enough and estimator != "switch":
        raise ValueError(
            f"expected a log that supports the target policy: {support.reason}; "
            "log more of what the target does, or judge a policy nearer the log's"
        )
    weight = _weights(log, target)
    if estimator == "ips":
        return PolicyValue(
            clustered_mean(weight * log.reward, log.cluster), estimator, support
        )
    if estimator == "snips":
        return PolicyValue(_self_normalised(log, weight), estimator, support)
    if predicted is None or predicted.shape != target.shape:
        got = "none" if predicted is None else f"shape {predicted.shape}"
        raise ValueError(
            f"{estimator} expected predicted rewards of shape {target.shape}, got {got}"
        )
    if estimator == "switch":
        weight = np.where(weight <= switch_at, weight, 0.0)
    predicted_of_logged = predicted[np.arange(len(log.action)), log.action]
    scores = (target * predicted).sum(axis=1) + weight * (
        log.reward - predicted_of_logged
    )
    return PolicyValue(clustered_mean(scores, log.cluster), estimator, support)


def support_of(log: Log, target: Floats) -> Support:
    """Effective sample size and support of a target policy in a log.

    Args:
        log: What was done.
        target: Probability of every action under the target policy, shape (n, K).
    """
    weight = _weights(log, target)
    squares = float((weight**2).sum())
    effective = float(weight.sum() ** 2 / squares) if squares > 0 else 0.0
    mean = clustered_mean(weight, log.cluster)
    unsupported = _unsupported_share(log, target, mean)
    reason = ""
    if unsupported > MAX_UNSUPPORTED:
        reason = (
            f"{unsupported:.1%} of the target's probability lies on actions that "
            f"the log (almost) never takes; at most {MAX_UNSUPPORTED:.0%} may"
        )
    elif effective < MIN_EFFECTIVE:
        reason = (
            f"the log is worth {effective:.1f} decisions of the target; "
            f"{MIN_EFFECTIVE:.0f} are needed"
        )
    return Support(
        effective,
        mean.value,
        unsupported,
        float(weight.max()),
        not reason,
        reason,
    )


def _unsupported_share(log: Log, target: Floats, mean_weight: Interval) -> float:
    """Known where all probabilities are; else what the weights surely lack of 1."""
    if log.propensities is not None:
        without = np.where(log.propensities < MIN_LOGGED, target, 0.0)
        return float(without.sum(axis=1).mean())
    return max(0.0, 1.0 - mean_weight.high)


def _weights(log: Log, target: Floats) -> Floats:
    weights: Floats = target[np.arange(len(log.action)), log.action] / log.propensity
    return weights


def _self_normalised(log: Log, weight: Floats) -> Interval:
    """Σ w r / Σ w with the error of the ratio (delta method)."""
    total = float(weight.sum())
    value = float(weight @ log.reward) / total
    residual = weight * (log.reward - value) * len(weight) / total
    return Interval.of(value, se=clustered_mean(residual, log.cluster).se)


def _check(log: Log, target: Floats) -> None:
    if log.adaptive:
        raise ValueError(
            "expected a log of a fixed policy, got one collected adaptively: weigh the "
            "data by a method made for it, or log a fixed policy's share of decisions"
        )
    n = len(log.reward)
    if target.shape[0] != n or target.ndim != 2:
        raise ValueError(f"expected a target of shape ({n}, K), got {target.shape}")
    worst = float(log.propensity.min())
    if worst < MIN_LOGGED or log.propensity.max() > 1:
        raise ValueError(
            f"expected logged propensities in (0, 1], got {worst} to "
            f"{log.propensity.max()}: a decision that could not happen is in the log"
        )
    off = float(np.abs(target.sum(axis=1) - 1).max())
    if (target < 0).any() or off > 1e-6:
        raise ValueError(
            "expected target probabilities of at least 0 that sum to 1 in every row, "
            f"got a sum off by {off:.2g}"
        )
