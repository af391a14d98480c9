"""What the loop measured, and what was true: whether its intervals hold."""

from typing import NamedTuple

import numpy as np

from hustings.experiments.loop.decisions import State
from hustings.experiments.loop.measurable import measurable, predicted
from hustings.experiments.simulation.world import World
from hustings.features.arrays import Bools, Floats
from hustings.training.estimators.metrics import Z95
from hustings.training.measured_lift import adaptive

MIN_ROWS = 300
"""With fewer decided than this an interval is not stated: the normal would not hold."""


class Stated(NamedTuple):
    """Estimates with intervals, and the truth about the same people.

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
        found: Bools = np.abs(self.value - self.truth) <= Z95 * self.se
        return found

    def joined(self, more: "Stated") -> "Stated":
        """Both together."""
        return Stated(*(np.concatenate(p) for p in zip(self, more, strict=True)))


NONE = Stated(np.zeros(0), np.zeros(0), np.zeros(0))


def ours(state: State, world: World, repeats: str) -> dict[str, Stated]:
    """Lifts as delivered by message, of everything delivered, and of each arm.

    Returns:
        `delivered`: of every arm over those whom the plan would have sent it;
        `campaign`: of what was planned over all of these; `population`: of every arm
        over everybody decided.
    """
    audience = world.audience
    decisions, voter = measurable(state, audience, repeats)
    mu, seen = predicted(decisions, audience, world.columns, voter)
    n_arms = len(audience.arms)
    assert decisions.intended is not None
    arm = decisions.intended - 1
    found = adaptive.delivered_lifts(decisions, mu, arm, n_arms, seen)
    whole = adaptive.delivered_lifts(decisions, mu, np.where(arm >= 0, 0, -1), 1, seen)
    everyone = adaptive.population_lifts(decisions, mu, seen)

    mine = world.lift[voter]
    sent = np.take_along_axis(mine, np.maximum(arm, 0)[:, None], axis=1)
    variance = _variance(decisions.propensities)
    own = np.take_along_axis(variance, np.maximum(arm, 0)[:, None], axis=1)
    inside = arm[:, None] == np.arange(n_arms)
    return {
        "delivered": _stated(
            found, np.repeat(sent, n_arms, axis=1), inside * own, decisions
        ),
        "campaign": _stated(whole, sent, (arm >= 0)[:, None] * own, decisions),
        "population": _stated(everyone, mine, variance, decisions),
    }


def _variance(propensities: Floats) -> Floats:
    """1/e_a + 1/e_0, as the estimators weigh days, 0 where nothing compares."""
    inverse = np.divide(
        1.0, propensities, out=np.zeros_like(propensities), where=propensities > 0
    )
    both = (propensities[:, 1:] > 0) & (propensities[:, :1] > 0)
    return np.where(both, inverse[:, 1:] + inverse[:, :1], 0.0)


def _stated(
    found: adaptive.Estimates,
    true_lift: Floats,
    variance: Floats,
    decisions: adaptive.Decisions,
) -> Stated:
    """With the truth over the same rows, weighted the same way."""
    truth = adaptive.combined(
        true_lift, variance, decisions.day, decisions.cluster, decisions.weight
    )
    kept = (found.n_rows >= MIN_ROWS) & np.isfinite(found.value)
    return Stated(found.value[kept], found.se[kept], truth.value[kept])


def naive(state: State, world: World) -> Stated:
    """Difference in means of who was sent an arm and who was sent nothing.

    What is stated where no chances are known: ordinary standard errors, and as truth
    the mean lift of those whom the arm was sent.
    """
    made, y = state.decisions, state.outcome
    seen = np.isfinite(y)
    control = y[seen & (made.arm == 0)]
    rows = []
    for k in range(1, 1 + len(world.audience.arms)):
        sent = made.arm == k
        if sent.sum() < MIN_ROWS:
            continue
        mine = y[sent & seen]
        se = np.sqrt(mine.var() / len(mine) + control.var() / len(control))
        truth = world.lift[made.voter[sent], k - 1].mean()
        rows.append((mine.mean() - control.mean(), se, truth))
    return Stated(*np.array(rows).T) if rows else NONE


def naive_adjusted(state: State, world: World) -> Stated:
    """The same with the response of a model taken off, and shares for chances.

    Every arm is held to have had the chance that its share of all rows shows.
    """
    made, audience = state.decisions, world.audience
    n_arms = len(audience.arms)
    share = np.maximum(np.bincount(made.arm, minlength=1 + n_arms), 0.5) / len(made)
    decisions = adaptive.Decisions(
        day=np.zeros(len(made), dtype=np.int64), arm=made.arm,
        propensities=np.tile(share, (len(made), 1)), Y=state.outcome,
        cluster=audience.household[made.voter],
    )  # fmt: skip
    mu, seen = predicted(decisions, audience, world.columns, made.voter)
    found = adaptive.population_lifts(decisions, mu, seen)
    kept = np.bincount(made.arm, minlength=1 + n_arms)[1:] >= MIN_ROWS
    truth = world.lift[made.voter].mean(axis=0)
    return Stated(found.value[kept], found.se[kept], truth[kept])
