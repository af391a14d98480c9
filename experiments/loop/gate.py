"""Whether personalising pays, asked again every few days by what the loop has seen.

Personalised against the best single arm to random people, both for the campaign's whole
money, on everybody decided so far: lifts by a fit that saw neither the household nor
its neighbours in the fold, judged by doubly robust scores with the known chances. The
attempts share one alpha (`training.policy_value.gate.spent_alpha`).
"""

import numpy as np

from hustings.experiments.loop.decisions import Audience, State
from hustings.experiments.loop.measurable import measurable, predicted
from hustings.features.arrays import Floats
from hustings.training.estimators.metrics import Interval, clustered_mean
from hustings.training.estimators.split import unit_folds
from hustings.training.learners.daily import Moments, Seen, Terms, fit_daily
from hustings.training.measured_lift import adaptive
from hustings.training.policy_value.gate import is_above_zero, spent_alpha

MIN_SEEN = 500
"""Fewer outcomes than this are not asked."""
N_FOLDS = 3


def gain_of_personalising(
    state: State, audience: Audience, columns: Terms, *, spend: float, repeats: str
) -> Interval | None:
    """Gain per voter over the best single arm to random people at equal money.

    Args:
        state: With outcomes.
        audience: Everybody.
        columns: Terms of its columns.
        spend: USD per voter of the campaign.
        repeats: Which decisions teach.

    Returns:
        None where too few outcomes are in.
    """
    decisions, voter = measurable(state, audience, repeats)
    if decisions.observed.sum() < MIN_SEEN:
        return None
    mu, seen = predicted(decisions, audience, columns, voter)
    score = adaptive.lift_scores(decisions, mu, seen)
    phi = audience.phi[voter]
    fold = unit_folds(decisions.cluster.astype(object), N_FOLDS, salt="gate")
    lift = np.empty_like(score)
    for k in range(N_FOLDS):
        few = (fold != k) & decisions.observed
        moments = Moments.nothing(phi.shape[1], score.shape[1]).plus(
            Seen(phi[few], decisions.arm[few], decisions.Y[few],
                 decisions.propensities[few])
        )  # fmt: skip
        lift[fold == k] = fit_daily(moments, columns).lift(phi[fold == k])
    worth = _policy(lift, score, audience.cost, spend) - _flat(
        lift, score, audience.cost, spend
    )
    return clustered_mean(worth, np.unique(decisions.cluster, return_inverse=True)[1])


def _policy(lift: Floats, score: Floats, cost: Floats, spend: float) -> Floats:
    """Realised lift of each: the best arm for the money, dearest people first."""
    per_dollar = lift / cost
    best = per_dollar.argmax(axis=1)
    rows = np.arange(len(lift))
    order = np.argsort(-per_dollar[rows, best], kind="stable")
    paid = np.cumsum(cost[best[order]]) <= spend * len(lift)
    sent = np.zeros(len(lift), dtype=bool)
    sent[order[paid]] = True
    sent &= lift[rows, best] > 0
    return np.where(sent, score[rows, best], 0.0)


def _flat(lift: Floats, score: Floats, cost: Floats, spend: float) -> Floats:
    """Realised lift of the arm that is best on average, in expectation over whom."""
    mean = lift.mean(axis=0) / cost
    best = int(mean.argmax())
    share = min(spend / cost[best], 1.0) if mean[best] > 0 else 0.0
    return share * score[:, best]


def pays(gain: Interval | None, *, attempt: int) -> bool:
    """Whether an attempt shows a gain above zero at what it may spend of the alpha.

    Args:
        gain: From `gain_of_personalising`.
        attempt: From 1.
    """
    return gain is not None and is_above_zero(gain, alpha=spent_alpha(attempt))
