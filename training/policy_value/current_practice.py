"""Current campaign practice as policies, reported for comparison; no part of the gate.

The policies are "persuadable voters in areas where turnout is likely" and "each group
its best message". They spend the same money on the same held-out voters as every
other policy, so that their values compare.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.features.training_set import MessageTest
from hustings.training.learners.baselines import untargeted
from hustings.training.learners.gbm import Prepared
from hustings.training.policy_value.held_out_halves import (
    Comparator,
    Market,
    Policy,
    deciding_rows,
    only_best,
    permission_rows,
    spend_along,
    together,
)

LIKELY_PERSUADABLE = "likely_persuadable"
SEGMENT_BEST = "segment_best"
MIN_IN_SEGMENT = 50
"""A group of fewer trained-on voters than this gets the average effects."""


@dataclass(frozen=True)
class Chances:
    """What is predicted of the voters of a test without any message.

    Attributes:
        turnout: Chance to vote, shape (n,).
        support: Chance (or share) of support, shape (n,).
        area: Area of every voter, shape (n,); None where no area is known, so that
            everybody is an area.
        band: Support of the persuadable; None for the middle third of the audience.
    """

    turnout: Floats
    support: Floats
    area: Objects | None
    band: tuple[float, float] | None = None

    def persuadable(self) -> Bools:
        """Who is in the band, shape (n,)."""
        low, high = self.band or np.quantile(self.support, [1 / 3, 2 / 3])
        inside: Bools = (self.support >= low) & (self.support <= high)
        return inside

    def likelihood(self) -> Floats:
        """Mean chance to vote in the voter's area, shape (n,)."""
        if self.area is None:
            return self.turnout
        area = pd.Series(self.area).fillna("")
        mean = pd.Series(self.turnout).groupby(area.to_numpy()).transform("mean")
        return mean.to_numpy(dtype=np.float64)


def comparators(chances: Chances | None, segment: Objects) -> Mapping[str, Comparator]:
    """The policies that can be formed of what is known.

    Args:
        chances: Of all voters of the test; None where turnout or support is unknown.
        segment: Segment of every voter of the test, shape (n,).
    """
    policies: dict[str, Comparator] = {SEGMENT_BEST: segment_best(segment)}
    if chances is not None:
        policies[LIKELY_PERSUADABLE] = likely_persuadable(chances)
    return policies


def likely_persuadable(chances: Chances) -> Comparator:
    """Areas by predicted turnout, in them the persuadable, to each the single best.

    The message is the single best of the training half; areas are served from the
    likeliest to vote down, until the money is spent.
    """

    def policy(
        prepared: Prepared, held: Bools, judged: MessageTest, market: Market
    ) -> Policy:
        flat = untargeted(prepared.ground)
        everyone = np.tile(flat.lift, (len(judged.Y), 1))
        values = prepared.ground.option_values(everyone, judged.arms)
        alone = only_best(values, market, permission_rows(market.allowed))
        wanted = chances.persuadable()[held]
        allowed = alone & wanted[:, None]
        # worth per money is the area's turnout: the path then serves areas in order
        order = np.maximum(chances.likelihood()[held, None], 1e-9)
        worth = order * np.maximum(market.cost, 1e-9)
        # a household's persuadable decide together, and take nobody else along
        rows = together(deciding_rows(judged), wanted.astype(np.int64))
        return spend_along(worth, replace(market, allowed=allowed), rows)

    return policy


def segment_best(segment: Objects) -> Comparator:
    """Each group its best message: the one of the best shrunken effect in the group.

    Money goes to groups in the order of value per cost.
    """

    def policy(
        prepared: Prepared, held: Bools, judged: MessageTest, market: Market
    ) -> Policy:
        effects = segment_effects(prepared, segment[~held])
        code = effects.codes(segment[held])
        lift = effects.lift[code]
        values = prepared.ground.option_values(lift, judged.arms)
        message = judged.message_of_arm[1:] - 1
        is_best_message = lift.argmax(axis=1)[:, None] == message
        market_of_best = replace(market, allowed=market.allowed & is_best_message)
        rows = together(permission_rows(market.allowed), code)
        return spend_along(values, market_of_best, rows)

    return policy


class SegmentEffects(NamedTuple):
    """Shrunken effects by segment; the last row is of segments that are not known.

    Attributes:
        names: Of the segments.
        lift: Shape (n_segments + 1, M).
    """

    names: tuple[str, ...]
    lift: Floats

    def codes(self, segment: Objects) -> Ints:
        """Row of every voter, shape (n,)."""
        at = pd.Index(self.names, dtype=object).get_indexer(pd.Index(segment))
        return np.where(at < 0, len(self.names), at)


def segment_effects(prepared: Prepared, segment: Objects) -> SegmentEffects:
    """Effect of every message in every segment, drawn to the message's average.

    The deviation of a segment is kept as far as segments differ more than their noise
    (one spread for all messages).

    Args:
        prepared: The test, n voters.
        segment: Shape (n,).
    """
    lift = prepared.scores[:, 1:] - prepared.scores[:, :1]
    code, names = pd.factorize(segment, sort=True)
    size = np.bincount(code).astype(np.float64)
    mean = _by_code(lift, code) / size[:, None]
    # a household's voters share noise: their residuals are summed before squaring
    pair = together(code, prepared.test.cluster)
    segment_of_pair = np.empty(pair.max() + 1, dtype=np.int64)
    segment_of_pair[pair] = code
    totals = _by_code(lift - mean[code], pair)
    noise = _by_code(totals**2, segment_of_pair) / size[:, None] ** 2
    deviation = mean - lift.mean(axis=0)
    large = size >= MIN_IN_SEGMENT
    shrinkage = np.zeros_like(noise)
    if large.sum() > 1:
        spread = _spread(deviation[large], noise[large])
        shrinkage[large] = spread / np.maximum(spread + noise[large], 1e-300)
    average = prepared.ground.effects.shrunken
    table = np.vstack([average + shrinkage * deviation, average])
    return SegmentEffects(tuple(str(n) for n in names), table)


def _by_code(values: Floats, code: Ints) -> Floats:
    sums: Floats = np.column_stack([np.bincount(code, column) for column in values.T])
    return sums


def _spread(deviation: Floats, noise: Floats) -> float:
    """Variance of true deviations, cells weighted by how well they are known."""
    weight = 1.0 / np.maximum(noise, 1e-300)
    return max(float(np.average(deviation**2 - noise, weights=weight)), 0.0)
