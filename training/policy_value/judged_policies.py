"""Both held-out halves as one test: every policy's Qini curve on held-out voters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from hustings.features.arrays import Floats
from hustings.features.training_set import MessageTest
from hustings.training.estimators.metrics import (
    Interval,
    clustered_mean,
    ipw_scores,
)
from hustings.training.learners.average_effects import judging_weight
from hustings.training.policy_value.held_out_halves import HeldOutHalf
from hustings.training.policy_value.qini import QiniCurve, joined_curves, qini_curve
from hustings.training.policy_value.spending import Market

N_CURVE = 25


@dataclass(frozen=True)
class JudgedPolicies:
    """Policies judged on both halves: every voter of a test once.

    Attributes:
        test: The experiment, arms as sent, n voters.
        market: Price, permission and spend.
        halves: From `judge_halves`.
        curves: Qini curve of every policy by budget alone, at `spends`.
        at_spend: Gain of every policy at the campaign's spend, under all limits of the
            plan: a curve of one point.
    """

    test: MessageTest
    market: Market
    halves: Sequence[HeldOutHalf]
    curves: dict[str, QiniCurve]
    at_spend: dict[str, QiniCurve]

    @classmethod
    def of(
        cls,
        test: MessageTest,
        market: Market,
        halves: Sequence[HeldOutHalf],
    ) -> Self:
        """Draw the curve of every policy of the halves.

        Args:
            test: The experiment, arms as sent.
            market: Price, permission and spend.
            halves: From `judge_halves`.
        """
        spends = curve_spends(market, N_CURVE)
        curves, points = {}, {}
        for name in halves[0].policies:
            of_halves = [_curve(test, half, name, spends) for half in halves]
            curves[name] = joined_curves(of_halves)
            points[name] = joined_curves(
                [
                    _point(test, half, name, curve)
                    for half, curve in zip(halves, of_halves, strict=True)
                ]
            )
        return cls(test, market, halves, curves, points)

    @property
    def names(self) -> list[str]:
        """Names of the policies."""
        return list(self.curves)

    @property
    def spend(self) -> float:
        """The campaign's spend; more than the dearest arm costs buys no more."""
        return campaign_spend(self.market)

    def gain(self, name: str) -> Interval:
        """Gain of a policy per voter at the campaign's spend, under all limits."""
        return self.at_spend[name].gains[0]

    def difference(self, one: str, other: str) -> Interval:
        """Paired difference of two policies at the campaign's spend."""
        return self.at_spend[one].less(self.at_spend[other]).gains[0]

    def limited(self, name: str) -> bool:
        """Whether a limit other than the budget binds a policy."""
        return any(half.choices[name].limited for half in self.halves)

    def contacts(self, name: str) -> Floats:
        """Expected contacts per voter by every arm, shape (A,)."""
        expected = joined(self.halves, lambda half: half.choices[name].contacts())
        weight = judging_weight(self.test)
        return np.asarray(np.average(expected, axis=0, weights=weight))

    def best(self, names: Sequence[str]) -> str:
        """The policy of the highest value within the training halves."""

        def value(name: str) -> float:
            return sum(half.training_values[name] for half in self.halves)

        return max(names, key=value)

    def delivered(self, name: str) -> Floats:
        """Planned contacts per voter with the plan's holdout and explorers, (A,)."""
        expected = joined(self.halves, lambda half: half.choices[name].delivered())
        weight = judging_weight(self.test)
        return np.asarray(np.average(expected, axis=0, weights=weight))

    def gain_by_weighting(self, name: str) -> Interval:
        """The gain by inverse-propensity weights alone: noisier, and no model in it."""
        test, survey = self.test, self.test.survey_weight
        seen = np.full(len(test.Y), 1.0 if survey is not None else test.observed.mean())
        scores = ipw_scores(
            test.Y, test.arm, test.propensities, observed_probability=seen
        )
        weight = judging_weight(test)
        if weight is not None:
            scores = scores * weight[:, None]
        realised = joined(
            self.halves, lambda half: half.choices[name].realised(scores[half.held])
        )
        return clustered_mean(realised, test.cluster)

    def contacted(self, name: str) -> float:
        """Share of voters who are sent anything at the campaign's spend."""
        sent = joined(
            self.halves, lambda half: half.choices[name].contacts().sum(axis=1)
        )
        return float(np.mean(sent))

    def spent(self, name: str) -> float:
        """USD per voter: less than the spend where nothing more is worth it."""
        cost = self.market.cost
        paid = joined(self.halves, lambda half: half.choices[name].contacts() @ cost)
        return float(np.mean(paid))


def campaign_spend(market: Market) -> float:
    """The campaign's spend; more than the dearest arm costs buys no more."""
    return min(market.spend, float(market.cost.max()))


def curve_spends(market: Market, n_curve: int) -> Floats:
    """Spends per voter from 0 to the dearest arm, the campaign's own among them."""
    grid = np.linspace(0.0, float(market.cost.max()), n_curve)
    return np.union1d(grid, [campaign_spend(market)])


def joined(
    halves: Sequence[HeldOutHalf], of: Callable[[HeldOutHalf], Floats]
) -> Floats:
    """A value of every voter from the half that judged it, in the test's order."""
    values_of_halves = [of(half) for half in halves]
    together = np.empty((len(halves[0].held), *values_of_halves[0].shape[1:]))
    for half, values in zip(halves, values_of_halves, strict=True):
        together[half.held] = values
    return together


def _curve(
    test: MessageTest, half: HeldOutHalf, name: str, spends: Floats
) -> QiniCurve:
    row, path = half.policies[name]
    return qini_curve(
        half.scores, path, row, half.market.allowed, half.market.cost,
        test.cluster[half.held], spends, noise=half.noise,
    )  # fmt: skip


def _point(
    test: MessageTest, half: HeldOutHalf, name: str, curve: QiniCurve
) -> QiniCurve:
    """The gain at the campaign's spend: the curve's own point unless a limit binds."""
    choice = half.choices[name]
    if not choice.limited:
        return curve.point(campaign_spend(half.market))
    realised = choice.realised(half.scores)
    cluster = test.cluster[half.held]
    off: Floats = np.bincount(cluster, realised - realised.mean()).astype(np.float64)
    totals = off[:, None]
    doubt = half.noise.of(choice.realised)[:, None]
    return QiniCurve(
        np.array([campaign_spend(half.market)]), np.array([realised.mean()]), totals,
        doubt, len(realised), len(np.unique(cluster)),
    )  # fmt: skip
