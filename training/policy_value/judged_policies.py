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
    contacted_share,
    ipw_scores,
)
from hustings.training.estimators.spend_path import SpendPath
from hustings.training.policy_value.held_out_halves import Half, Market
from hustings.training.policy_value.qini import QiniCurve, joined_curves, qini_curve

N_CURVE = 25


@dataclass(frozen=True)
class Judged:
    """Every voter of a test judged once.

    Attributes:
        test: The experiment, arms as sent, n voters.
        market: Price, permission and spend.
        halves: From `judge_halves`.
        curves: Qini curve of every policy, at `spends`.
    """

    test: MessageTest
    market: Market
    halves: Sequence[Half]
    curves: dict[str, QiniCurve]

    @classmethod
    def of(
        cls,
        test: MessageTest,
        market: Market,
        halves: Sequence[Half],
        *,
        n_curve: int = N_CURVE,
    ) -> Self:
        """Draw the curve of every policy of the halves.

        Args:
            test: The experiment, arms as sent.
            market: Price, permission and spend.
            halves: From `judge_halves`.
            n_curve: Spends that a curve is drawn at, the campaign's own beside them.
        """
        spends = curve_spends(market, n_curve)
        curves = {
            name: joined_curves([_curve(test, h, name, spends) for h in halves])
            for name in halves[0].policies
        }
        return cls(test, market, halves, curves)

    @property
    def names(self) -> list[str]:
        """Policies."""
        return list(self.curves)

    @property
    def spend(self) -> float:
        """The campaign's spend; more than the dearest arm costs buys no more."""
        return min(self.market.spend, float(self.market.cost.max()))

    def gain(self, name: str) -> Interval:
        """Gain of a policy per voter at the campaign's spend."""
        return self.curves[name].at(self.spend)

    def difference(self, one: str, other: str) -> Interval:
        """Paired difference of two policies at the campaign's spend."""
        return self.curves[one].less(self.curves[other]).at(self.spend)

    def best(self, names: Sequence[str]) -> str:
        """The policy of the highest value within the training halves."""

        def value(name: str) -> float:
            return sum(half.training_values[name] for half in self.halves)

        return max(names, key=value)

    def gain_by_weighting(self, name: str) -> Interval:
        """The gain by inverse-propensity weights alone: noisier, and no model in it."""
        test, survey = self.test, self.test.stands_for
        seen = np.full(len(test.Y), 1.0 if survey is not None else test.observed.mean())
        scores = ipw_scores(
            test.Y, test.arm, test.propensities, observed_probability=seen
        )
        if survey is not None:
            scores = scores * survey[:, None]
        realised = joined(
            self.halves,
            lambda half: half.realised(name, self.spend, scores[half.held]),
        )
        return clustered_mean(realised, test.cluster)

    def contacted(self, name: str) -> float:
        """Share of voters who are sent anything at the campaign's spend."""
        shares = []
        for half in self.halves:
            row, path = half.policies[name]
            budget = self.market.spend * len(row)
            shares.append(contacted_share(path, row, half.market.allowed, budget))
        return float(np.mean(shares))

    def spent(self, name: str) -> float:
        """What a policy spends: less than the spend where nothing more is worth it."""
        spent = []
        for half in self.halves:
            row, path = half.policies[name]
            spent.append(min(_most(path) / len(row), self.market.spend))
        return float(np.mean(spent))


def curve_spends(market: Market, n_curve: int) -> Floats:
    """Spends per voter from 0 to the dearest arm, the campaign's own among them."""
    grid = np.linspace(0.0, float(market.cost.max()), n_curve)
    return np.union1d(grid, [min(market.spend, grid[-1])])


def joined(halves: Sequence[Half], of: Callable[[Half], Floats]) -> Floats:
    """A value of every voter from the half that judged it, in the test's order."""
    values_of_halves = [of(half) for half in halves]
    together = np.empty((len(halves[0].held), *values_of_halves[0].shape[1:]))
    for half, values in zip(halves, values_of_halves, strict=True):
        together[half.held] = values
    return together


def _curve(test: MessageTest, half: Half, name: str, spends: Floats) -> QiniCurve:
    row, path = half.policies[name]
    return qini_curve(
        half.scores, path, row, half.market.allowed, half.market.cost,
        test.cluster[half.held], spends,
    )  # fmt: skip


def _most(path: SpendPath) -> float:
    return float(path.spend[-1]) if len(path.spend) else 0.0
