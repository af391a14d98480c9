"""One judge for every tool: arrays in, figures out.

A tool's lifts spend the money along their own whole-budget path, and what that gains
is read off doubly robust scores whose nuisances were fitted on the judged half alone.
Voters with the same prediction share a row: money that does not reach all of them goes
to random ones, in expectation and without a draw.

Shapes: n judged voters, M messages, F figures (a gain at every spend, then the area),
T tools. Effects are in points.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from hustings.features.arrays import Floats, Ints
from hustings.training.estimators.metrics import (
    Interval,
    area_weights,
    calibration_slope,
    clustered_means,
    realised_lift,
)
from hustings.training.estimators.spend_path import pooled_rows, whole_budget_path

Key = TypeVar("Key", bound=Hashable)

N_GRID = 41
"""Spends at which the cost curve is read for its area."""


def gains(
    lift: Floats, cost: Floats, scores: Floats, spends: tuple[float, ...]
) -> Floats:
    """What every voter gains at each spend and, last, over the whole curve.

    The area is the mean gain over spends from 0 to the cost of the dearest message.

    Args:
        lift: Predicted, shape (n, M).
        cost: Of every message, shape (M,).
        scores: Γ of control and every message, shape (n, 1 + M).
        spends: Money per voter.

    Returns:
        Shape (n, F), F = len(spends) + 1.
    """
    row = same_prediction(lift)
    allowed = np.ones(lift.shape, dtype=bool)
    value, price, may = pooled_rows(lift, cost, allowed, row)
    # rows whose steps are worth the same come in an order that says nothing
    ties = np.random.default_rng(0).random(len(value))
    path = whole_budget_path(value, price, allowed=may, tie_break=ties)

    def at(spend: float) -> Floats:
        return realised_lift(scores, path, row, allowed, spend * len(lift))

    grid = np.linspace(0.0, float(cost.max()), N_GRID)
    area = np.zeros(len(lift))
    for weight, spend in zip(area_weights(grid), grid, strict=True):
        area += weight * at(float(spend))
    return np.column_stack([*(at(spend) for spend in spends), area])


def same_prediction(lift: Floats) -> Ints:
    """A row for each distinct prediction, shape (n,)."""
    frame = pd.DataFrame(lift)
    return np.asarray(frame.groupby(list(frame.columns)).ngroup())


class Truthful(NamedTuple):
    """A tool against known lifts.

    Attributes:
        gained: True gain at each spend and of the area, shape (F,).
        possible: What the truth itself would gain, shape (F,).
        rmse: Of the predicted effect, over voters and messages.
        slope: Of true on predicted lift within a message; NaN without a spread.
        flat_spread: SD between voters of each message that has none, shape (k,).
        coverage: Share of true lifts within the 95 % interval; NaN without intervals.
        width: Mean width of the interval; NaN without.
    """

    gained: Floats
    possible: Floats
    rmse: float
    slope: float
    flat_spread: Floats
    coverage: float
    width: float

    @property
    def share(self) -> Floats:
        """Gain as a share of what is possible, NaN where nothing is, shape (F,)."""
        share = np.full_like(self.gained, np.nan)
        np.divide(self.gained, self.possible, out=share, where=self.possible > 0)
        return share


def against_truth(
    lift: Floats,
    truth: Floats,
    cost: Floats,
    spends: tuple[float, ...],
    *,
    flat: list[int],
    low: Floats | None = None,
    high: Floats | None = None,
) -> Truthful:
    """A tool's lifts against the true ones.

    Args:
        lift: Predicted, shape (n, M).
        truth: Shape (n, M).
        cost: Shape (M,).
        spends: Money per voter.
        flat: Messages whose true lift is the same for everyone.
        low: Lower ends of the 95 % intervals, shape (n, M).
        high: Upper ends.
    """
    scores = np.column_stack([np.zeros(len(truth)), truth])
    gained = gains(lift, cost, scores, spends).mean(axis=0)
    possible = gains(truth, cost, scores, spends).mean(axis=0)
    coverage = width = np.nan
    if low is not None and high is not None:
        coverage = float(np.mean((low <= truth) & (truth <= high)))
        width = float(np.mean(high - low))
    x, y = lift - lift.mean(axis=0), truth - truth.mean(axis=0)
    spread = float((x**2).sum())
    # the constants of a policy without heterogeneity differ by rounding at most
    slope = float((x * y).sum()) / spread if spread > 1e-12 * lift.size else np.nan
    return Truthful(
        gained, possible, float(np.sqrt(np.mean((lift - truth) ** 2))), slope,
        lift[:, flat].std(axis=0), coverage, width,
    )  # fmt: skip


class Tool(NamedTuple):
    """One tool on one judged half.

    Attributes:
        gained: From `gains`, shape (n, F).
        slope: Of the score on the prediction.
        spread: SD of predicted lift between voters, shape (M,).
        truthful: None on real data.
    """

    gained: Floats
    slope: Interval
    spread: Floats
    truthful: Truthful | None


@dataclass(frozen=True)
class Verdict:
    """All tools on one split, both halves pooled: every voter was judged once.

    Attributes:
        tools: Names, in the order of axis 0 below.
        gain: Shape (T, F).
        covariance: Of the gains, clustered, shape (T, F, T, F).
        slope: Shape (T,).
        slope_se: Shape (T,).
        spread: Shape (T, M).
        truthful: By tool, the mean of both halves; empty on real data.
    """

    tools: tuple[str, ...]
    gain: Floats
    covariance: Floats
    slope: Floats
    slope_se: Floats
    spread: Floats
    truthful: tuple[Truthful, ...]


def verdict(
    found: dict[str, tuple[Tool, Tool]],
    held: list[npt.NDArray[np.bool_]],
    cluster: Ints,
) -> Verdict:
    """Both halves of a split together.

    Args:
        found: Each tool on both halves.
        held: Who was judged in each half, shape (n_voters,) each.
        cluster: Who shares noise, shape (n_voters,).
    """
    n_figures = next(iter(found.values()))[0].gained.shape[1]
    gained = np.empty((len(cluster), len(found), n_figures))
    for t, halves in enumerate(found.values()):
        for judged, half in zip(held, halves, strict=True):
            gained[judged, t] = half.gained
    shape = gained.shape[1:]
    mean, covariance = clustered_means(gained.reshape(len(cluster), -1), cluster)
    pairs = list(found.values())
    se = [np.hypot(a.slope.se, b.slope.se) / 2 for a, b in pairs]
    return Verdict(
        tools=tuple(found),
        gain=mean.reshape(shape),
        covariance=covariance.reshape(*shape, *shape),
        slope=np.array([(a.slope.value + b.slope.value) / 2 for a, b in pairs]),
        slope_se=np.array(se),
        spread=np.array([(a.spread + b.spread) / 2 for a, b in pairs]),
        truthful=tuple(
            _mean_of([a.truthful, b.truthful])
            for a, b in pairs
            if a.truthful is not None and b.truthful is not None
        ),
    )


def _mean_of(found: list[Truthful]) -> Truthful:
    return Truthful(*(np.mean(column, axis=0) for column in zip(*found, strict=True)))


@dataclass(frozen=True)
class Standing:
    """Tools over all splits, averaged: splits of one data set are not independent.

    A tool that ran on some splits only is compared with another on those that both ran.

    Attributes:
        splits: One `Verdict` each.
    """

    splits: tuple[Verdict, ...]

    @property
    def tools(self) -> tuple[str, ...]:
        """Every tool that ran on at least one split, in their order."""
        return tuple(dict.fromkeys(t for split in self.splits for t in split.tools))

    def of(self, tool: str) -> list[tuple[Verdict, int]]:
        """Splits on which a tool ran, and its place there."""
        return [(s, s.tools.index(tool)) for s in self.splits if tool in s.tools]

    def gain(self, tool: str, figure: int) -> Interval:
        """A gain or the area, with its clustered standard error."""
        rows = self.of(tool)
        value = np.mean([s.gain[t, figure] for s, t in rows])
        variance = np.mean([s.covariance[t, figure, t, figure] for s, t in rows])
        return Interval.of(value, se=np.sqrt(variance))

    def ahead(self, tool: str, other: str, figure: int) -> Interval | None:
        """Paired difference of two tools; None if they share no split."""
        values, variances = [], []
        for split, t in self.of(tool):
            if other not in split.tools:
                continue
            o = split.tools.index(other)
            block = split.covariance[[t, o]][:, figure][:, [t, o]][:, :, figure]
            values.append(split.gain[t, figure] - split.gain[o, figure])
            variances.append(block[0, 0] + block[1, 1] - 2 * block[0, 1])
        if not values:
            return None
        return Interval.of(
            float(np.mean(values)), se=np.sqrt(max(np.mean(variances), 0.0))
        )

    def true_lead(self, tool: str, other: str) -> Floats | None:
        """True gain less another tool's on shared splits, shape (F,); None on real."""
        pairs = [
            (split.truthful[t], split.truthful[split.tools.index(other)])
            for split, t in self.of(tool)
            if split.truthful and other in split.tools
        ]
        if not pairs:
            return None
        return np.mean([one.gained - two.gained for one, two in pairs], axis=0)

    def slope(self, tool: str) -> Interval:
        """Calibration slope."""
        rows = self.of(tool)
        return Interval.of(
            np.mean([s.slope[t] for s, t in rows]),
            se=np.sqrt(np.mean([s.slope_se[t] ** 2 for s, t in rows])),
        )

    def spread(self, tool: str) -> Floats:
        """SD of predicted lift between voters, shape (M,)."""
        return np.mean([s.spread[t] for s, t in self.of(tool)], axis=0)

    def truthful(self, tool: str) -> Truthful | None:
        """Against the truth, or None on real data."""
        rows = [s.truthful[t] for s, t in self.of(tool) if s.truthful]
        return _mean_of(rows) if rows else None


def judge(
    lift: Floats,
    scores: Floats,
    cost: Floats,
    cluster: Ints,
    spends: tuple[float, ...],
    truthful: Truthful | None = None,
) -> Tool:
    """One tool on one half.

    Args:
        lift: Predicted, points, shape (n, M).
        scores: Points, shape (n, 1 + M).
        cost: Shape (M,).
        cluster: Shape (n,).
        spends: Money per voter.
        truthful: The tool against the truth.
    """
    return Tool(
        gains(lift, cost, scores, spends),
        calibration_slope(scores[:, 1:] - scores[:, :1], lift, cluster),
        lift.std(axis=0),
        truthful,
    )


def behind(ours: Interval) -> float:
    """One-sided p-value that ours is behind, from the paired difference ours − peer.

    Of the difference turned round it says whether ours is ahead.
    """
    if ours.se <= 0:
        return 1.0 if ours.value >= 0 else 0.0
    return float(stats.norm.cdf(ours.value / ours.se))


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Adjusted p-values of several tests: small ones say a difference is real.

    Source: Holm (1979).

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    adjusted: dict[Key, float] = {}
    worst, left = 0.0, len(p_values)
    for name, p in sorted(p_values.items(), key=lambda item: item[1]):
        worst = max(worst, min(1.0, p * left))
        adjusted[name] = worst
        left -= 1
    return adjusted
