"""Coverage of the loop's intervals: what it stated, and what was true."""

from typing import NamedTuple

import numpy as np

from hustings.experiments.loop.answered import Answered
from hustings.experiments.loop.daily_columns import LearnerColumns
from hustings.experiments.simulation.rival_policies import RivalDecisions
from hustings.experiments.simulation.world import World
from hustings.features.arrays import Bools, Floats
from hustings.serving.offer import Offer
from hustings.training.estimators.anytime_valid import always_valid_z
from hustings.training.estimators.metrics import Z95
from hustings.training.estimators.split import unit_folds
from hustings.training.measured_lift import adaptive

MIN_ROWS = 300
"""With fewer decided than this an interval is not stated: the normal would not hold."""


class StatedIntervals(NamedTuple):
    """Estimates with intervals, and the truth about the same voters.

    Attributes:
        value: Shape (k,).
        se: Shape (k,).
        truth: Mean true lift over the same rows with the same weights, shape (k,).
    """

    value: Floats
    se: Floats
    truth: Floats

    @property
    def covered(self) -> Bools:
        """Whether each 95 % interval holds the truth, shape (k,)."""
        return np.asarray(np.abs(self.value - self.truth) <= Z95 * self.se, dtype=bool)

    def joined(self, further: "StatedIntervals") -> "StatedIntervals":
        """Both together."""
        return StatedIntervals(
            *(np.concatenate(p) for p in zip(self, further, strict=True))
        )


NONE = StatedIntervals(np.zeros(0), np.zeros(0), np.zeros(0))


class MeasuredAt(NamedTuple):
    """The lift of everything delivered, as one look of many states it.

    Attributes:
        value: Measured lift, outcome units.
        reach: Half the width of the interval that holds at all looks together.
        truth: True lift of the same decisions with the same weights.
    """

    value: float
    reach: float
    truth: float

    @property
    def holds(self) -> bool:
        """Whether the interval holds the truth."""
        return abs(self.value - self.truth) <= self.reach


class PredictedIntervals(NamedTuple):
    """Intervals of predicted lift of everybody, at one look.

    Attributes:
        covered: Share of voters and arms whose 95 % interval holds the true lift.
        mean_se: Mean standard error, outcome units.
        rmse: Root mean squared error of the predicted lift.
    """

    covered: float
    mean_se: float
    rmse: float


def predicted(offer: Offer, world: World) -> PredictedIntervals:
    """Whether intervals of predicted lift hold, averaged over voters and arms."""
    off = offer.lift - world.lift
    covered = np.abs(off) <= Z95 * offer.standard_error
    return PredictedIntervals(
        float(covered.mean()), float(offer.standard_error.mean()),
        float(np.sqrt((off**2).mean())),
    )  # fmt: skip


class _Scored(NamedTuple):
    """Decisions with what the estimators of measured lift take."""

    decisions: adaptive.Decisions
    mu: Floats
    answering: Floats | None


def _scored(answered: Answered, world: World, columns: LearnerColumns) -> _Scored:
    decisions = answered.measured(world.household)
    X = columns.main[answered.voter]
    fold = unit_folds(decisions.cluster.astype(object), 5, salt="measured")
    mu = adaptive.predicted_response(X, decisions, fold=fold)
    return _Scored(
        decisions, mu, adaptive.observed_probability(X, decisions, fold=fold)
    )


def measured_at(
    answered: Answered, world: World, columns: LearnerColumns, *, horizon_days: int
) -> MeasuredAt | None:
    """The lift of everything delivered at one look; None where too few are in."""
    if (answered.intended > 0).sum() < MIN_ROWS:
        return None
    scored = _scored(answered, world, columns)
    value, se, truth, n_days = _delivered_all(scored, answered, world)
    if not np.isfinite(value):
        return None
    wide = float(always_valid_z(n_days / horizon_days))
    return MeasuredAt(value, wide * se, truth)


def _delivered_all(
    scored: _Scored, answered: Answered, world: World
) -> tuple[float, float, float, int]:
    """Estimate, standard error, truth and days of all that was delivered."""
    decisions, at = scored.decisions, np.maximum(answered.intended - 1, 0)
    group = np.where(answered.intended > 0, 0, -1)
    estimate = adaptive.delivered_lifts(
        decisions, scored.mu, group, 1, scored.answering
    )
    rows = np.arange(len(at))
    sent = world.lift[answered.voter, at]
    variance = adaptive.design_variance(decisions)[rows, at] * (group == 0)
    truth = adaptive.combined(
        sent[:, None], variance[:, None], decisions.day, decisions.cluster,
        decisions.weight,
    )  # fmt: skip
    return (
        float(estimate.value[0]), float(estimate.se[0]), float(truth.value[0]),
        int(estimate.n_days[0]),
    )  # fmt: skip


def stated(
    answered: Answered, world: World, columns: LearnerColumns
) -> dict[str, StatedIntervals]:
    """Lifts as delivered by message, of everything delivered, and of each arm.

    Returns:
        `delivered`: of every arm over those whom the plan would have sent it;
        `campaign`: of what was planned over all of these; `population`: of every arm
        over everybody decided.
    """
    scored = _scored(answered, world, columns)
    decisions, mu, answering = scored
    n_arms = len(world.arms)
    arm, lift = answered.intended - 1, world.lift[answered.voter]
    by_arm = adaptive.delivered_lifts(decisions, mu, arm, n_arms, answering)
    everyone = adaptive.population_lifts(decisions, mu, answering)
    at = np.maximum(arm, 0)[:, None]
    sent = np.take_along_axis(lift, at, axis=1)
    variance = adaptive.design_variance(decisions)
    of_sent = np.take_along_axis(variance, at, axis=1)
    inside = arm[:, None] == np.arange(n_arms)
    value, se, truth, _ = _delivered_all(scored, answered, world)
    return {
        "delivered": _stated(
            by_arm, np.repeat(sent, n_arms, axis=1), inside * of_sent, decisions
        ),
        "campaign": StatedIntervals(
            np.array([value]), np.array([se]), np.array([truth])
        ),
        "population": _stated(everyone, lift, variance, decisions),
    }


def _stated(
    estimates: adaptive.Estimates,
    true_lift: Floats,
    variance: Floats,
    decisions: adaptive.Decisions,
) -> StatedIntervals:
    """Estimates with the truth over the same rows, weighted the same way."""
    truth = adaptive.combined(
        true_lift, variance, decisions.day, decisions.cluster, decisions.weight
    )
    enough = (estimates.n_rows >= MIN_ROWS) & np.isfinite(estimates.value)
    return StatedIntervals(
        estimates.value[enough], estimates.se[enough], truth.value[enough]
    )


def naive(decided: RivalDecisions, world: World, day: int) -> StatedIntervals:
    """Difference in means of voters sent an arm and voters sent nothing.

    What is stated where no probabilities are known: ordinary standard errors, and as
    truth the mean lift of those whom the arm was sent.
    """
    heard = decided.heard(world, day)
    voter, arm = decided.voter[heard], decided.arm[heard]
    y = world.outcomes(voter, arm)
    control = y[arm == 0]
    rows = []
    for k in range(1, 1 + len(world.arms)):
        sent = decided.arm == k
        if sent.sum() < MIN_ROWS:
            continue
        of_arm = y[arm == k]
        se = np.sqrt(of_arm.var() / len(of_arm) + control.var() / len(control))
        truth = world.lift[decided.voter[sent], k - 1].mean()
        rows.append((of_arm.mean() - control.mean(), se, truth))
    return StatedIntervals(*np.array(rows).T) if rows else NONE
