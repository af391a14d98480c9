"""The multi-armed Qini curve: the gain of a policy at every budget, with intervals.

Shapes: n voters, A arms, S spends, C clusters. The threshold of a policy under a budget
varies with the sample; the standard errors account for that.

Source: Sverdrup, Wu, Athey & Wager (2025), "Qini curves for multi-armed treatment
rules", Journal of Computational and Graphical Statistics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from hustings.features.arrays import Bools, Floats, Ints
from hustings.training.estimators.metrics import Interval, area_weights, realised_lift
from hustings.training.estimators.spend_path import SpendPath
from hustings.training.policy_value.small_arms import NO_SMALL_ARMS, SmallArmNoise

WINDOW = 0.1
"""Half the width of the window, as a share of the curve, that a slope is read from."""


@dataclass(frozen=True)
class QiniCurve:
    """Gain at every spend, with what every cluster adds to its error.

    Attributes:
        spend: USD per voter, rising, shape (S,).
        value: Gain per voter, shape (S,).
        totals: Influence of every cluster on the sum of gains, shape (C, S).
        doubt: What arms with few people add to the error that their own few do not
            show, as further terms of the sum, shape (K, S).
        n_voters: How many voters were judged.
        n_clusters: How many clusters they are in.
    """

    spend: Floats
    value: Floats
    totals: Floats
    doubt: Floats
    n_voters: int
    n_clusters: int

    @property
    def gains(self) -> list[Interval]:
        """Gain per voter at every spend."""
        return [self._weighted(row) for row in np.eye(len(self.spend))]

    @property
    def area(self) -> Interval:
        """Mean gain over the whole axis: the area divided by its length."""
        return self._weighted(area_weights(self.spend))

    def at(self, spend: float) -> Interval:
        """Gain at one of the curve's own spends.

        Raises:
            ValueError: If the curve was not drawn at that spend.
        """
        return self.point(spend).gains[0]

    def point(self, spend: float) -> "QiniCurve":
        """The curve at one of its own spends only.

        Raises:
            ValueError: If the curve was not drawn at that spend.
        """
        k = int(np.abs(self.spend - spend).argmin())
        if not np.isclose(self.spend[k], spend):
            raise ValueError(
                f"expected a spend of the curve, got {spend}; nearest is "
                f"{self.spend[k]}: add it to the spends that it is drawn at"
            )
        return QiniCurve(
            self.spend[[k]], self.value[[k]], self.totals[:, [k]], self.doubt[:, [k]],
            self.n_voters, self.n_clusters,
        )  # fmt: skip

    def less(self, other: "QiniCurve") -> "QiniCurve":
        """Paired difference of two policies on the same voters and spends.

        Raises:
            ValueError: If the curves are of other voters or spends.
        """
        same = self.totals.shape == other.totals.shape
        if not same or not np.allclose(self.spend, other.spend):
            raise ValueError(
                "expected two curves of the same clusters and spends, got shapes "
                f"{self.totals.shape} and {other.totals.shape}"
            )
        return QiniCurve(
            self.spend,
            self.value - other.value,
            self.totals - other.totals,
            self.doubt - other.doubt,
            self.n_voters,
            self.n_clusters,
        )

    def _weighted(self, weight: Floats) -> Interval:
        squares = float(((self.totals @ weight) ** 2).sum())
        small = self.n_clusters / (self.n_clusters - 1)
        unseen = float(((self.doubt @ weight) ** 2).sum())
        se = np.sqrt(squares * small + unseen) / self.n_voters
        return Interval.of(float(self.value @ weight), se=float(se))


def qini_curve(
    scores: Floats,
    path: SpendPath,
    row: Ints,
    allowed: Bools,
    cost: Floats,
    cluster: Ints,
    spends: Sequence[float] | Floats,
    *,
    noise: SmallArmNoise = NO_SMALL_ARMS,
) -> QiniCurve:
    """Gain of a policy at every spend per voter, with clustered standard errors.

    The influence of a voter on the gain Q at spend s is what the policy realises on
    it, less Q'(s) times what it costs beyond s: a sample rich in people worth
    contacting spends its money sooner. Q' is read from the curve itself.

    Args:
        scores: From `aipw_scores` of voters that the policy was not learnt from,
            shape (n, 1 + A).
        path: The policy's whole-budget path over rows (households or voters).
        row: Row of every voter, shape (n,).
        allowed: Who may get which arm, shape (n, A).
        cost: USD of every arm, shape (A,).
        cluster: Codes from 0, shape (n,).
        spends: USD per voter, rising.
        noise: Of arms with few people among these voters.

    Raises:
        ValueError: If there are fewer than 2 clusters.

    Source: Sverdrup, Wu, Athey & Wager (2025).
    """
    spend = np.asarray(spends, dtype=np.float64)
    n, n_clusters = len(row), len(np.unique(cluster))
    if n_clusters < 2:
        raise ValueError(f"expected at least 2 clusters, got {n_clusters}")
    price = np.zeros(scores.shape)
    price[:, 1:] = cost
    gained, spent, by_cluster, spent_by_cluster, doubt = [], [], [], [], []
    for s in spend:
        realised = realised_lift(scores, path, row, allowed, s * n)
        paid = realised_lift(price, path, row, allowed, s * n)
        gained.append(realised.mean())
        spent.append(paid.mean())
        by_cluster.append(np.bincount(cluster, realised - realised.mean()))
        spent_by_cluster.append(np.bincount(cluster, paid - paid.mean()))
        realise = partial(
            realised_lift, path=path, row=row, allowed=allowed, budget=s * n
        )
        doubt.append(noise.of(realise))
    value = np.array(gained)
    marginal = _marginal_gain(value, np.array(spent), spend)
    totals = np.column_stack(by_cluster) - marginal * np.column_stack(spent_by_cluster)
    return QiniCurve(spend, value, totals, np.column_stack(doubt), n, n_clusters)


def joined_curves(curves: Sequence[QiniCurve]) -> QiniCurve:
    """One curve of voters who were judged in parts, each by its own policy.

    Args:
        curves: One for each part, at the same spends; no cluster is in two.
    """
    n_voters = sum(c.n_voters for c in curves)
    rows = max(len(c.totals) for c in curves)
    totals = np.zeros((rows, len(curves[0].spend)))
    for curve in curves:
        totals[: len(curve.totals)] += curve.totals
    value: Floats = np.zeros(len(curves[0].spend))
    for curve in curves:
        value += curve.value * curve.n_voters / n_voters
    n_clusters = sum(c.n_clusters for c in curves)
    doubt = np.vstack([curve.doubt for curve in curves])
    return QiniCurve(curves[0].spend, value, totals, doubt, n_voters, n_clusters)


def _marginal_gain(gain: Floats, spent: Floats, spend: Floats) -> Floats:
    """Gain of one more USD at every spend; 0 where no more money is taken."""
    half = WINDOW * (spend[-1] - spend[0]) + 1e-12
    at, last = np.arange(len(spend)), len(spend) - 1
    # at least from the spend before to the one after
    low = np.minimum(np.searchsorted(spend, spend - half), np.maximum(at - 1, 0))
    high = np.searchsorted(spend, spend + half, side="right") - 1
    high = np.maximum(high, np.minimum(at + 1, last))
    added_spend = spent[high] - spent[low]
    binds = np.isclose(spent, spend, rtol=1e-6, atol=1e-12) & (added_spend > 1e-12)
    slope: Floats = np.zeros(len(spend))
    slope[binds] = (gain[high] - gain[low])[binds] / added_spend[binds]
    return slope
