"""Current campaign practice as policies, reported for comparison; no part of the gate.

The policies are "persuadable voters in areas where turnout is likely", "each group its
best message" and "each group its best platform". They spend the same money within the
same limits on the same held-out voters as every other policy, so that their values
compare, and each can be planned by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.features.tables import SMALLEST_CELL
from hustings.features.training_set import Arm, MessageTest
from hustings.training.learners.average_effects import offered_lifts
from hustings.training.learners.gbm import Prepared
from hustings.training.policy_value.policies import (
    EVERYBODY,
    GROUP_PLATFORM,
    LIKELY_PERSUADABLE,
    SEGMENT_BEST,
    Policy,
    SentShare,
    VoterFacts,
)
from hustings.training.policy_value.spending import Market, together

MIN_IN_SEGMENT = 50
"""A group of fewer trained-on voters than this gets the average effects."""


@dataclass(frozen=True)
class PredictedResponse:
    """Predicted turnout and support of a test's voters without any message.

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
        """Whether each voter's support lies in the band, shape (n,)."""
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

    def facts(self, segment: Objects | None = None) -> VoterFacts:
        """Facts that policies may use."""
        return VoterFacts(segment, self.area, self.turnout, self.support)


def likely_persuadable(
    facts: VoterFacts,
    band: tuple[float, float] | None,
    messages: tuple[str, ...],
    flat: Mapping[Arm, float],
) -> Policy:
    """The single best message to persuadable voters, by the turnout of their area.

    A contact is worth the message's average effect times the chance that the voter's
    area votes, so that money goes to areas from the likeliest to vote down.

    Args:
        facts: Of the voters that it is chosen on, with turnout and support.
        band: Support of the persuadable; None for the middle third of these voters.
        messages: The single best.
        flat: Worth of every arm on average.
    """
    assert facts.support is not None
    assert facts.turnout is not None
    low, high = band or np.nanquantile(facts.support, [1 / 3, 2 / 3])
    areas: dict[str, float] = {}
    if facts.area is not None:
        turnout = pd.Series(facts.turnout).groupby(facts.area).agg(["mean", "size"])
        large = turnout.loc[turnout["size"] >= SMALLEST_CELL, "mean"]
        areas = {str(area): float(mean) for area, mean in large.items()}
    return Policy(
        LIKELY_PERSUADABLE, messages, worth={EVERYBODY: flat}, areas=areas,
        by_turnout=True, band=(float(low), float(high)),
    )  # fmt: skip


def segment_best(prepared: Prepared, arms: tuple[Arm, ...], segment: Objects) -> Policy:
    """To each group the message of the best shrunken effect in the group.

    Money goes to groups in the order of value per cost.

    Args:
        prepared: The test that it is chosen on.
        arms: What can be sent.
        segment: Group of every voter of the test, shape (n,).
    """
    effects = segment_effects(prepared, segment)
    groups, messages = (*effects.names, EVERYBODY), prepared.nuisances.messages
    values = prepared.nuisances.option_values(effects.lift, arms)
    worth = {
        group: dict(zip(arms, map(float, row), strict=True))
        for group, row in zip(groups, values, strict=True)
    }
    best = effects.lift.argmax(axis=1)
    sent = {
        g: SentShare(message=messages[m]) for g, m in zip(groups, best, strict=True)
    }
    return Policy(SEGMENT_BEST, worth=worth, sent=sent)


def group_platform(
    prepared: Prepared,
    test: MessageTest,
    market: Market,
    flat: Mapping[Arm, float],
    segment: Objects,
) -> Policy:
    """To each group the channel that is worth most there for the money.

    By that channel the group is sent the messages that are best on average.

    Args:
        prepared: The test that it is chosen on.
        test: The same with arms as sent.
        market: Price and spend.
        flat: Worth of every arm on average.
        segment: Group of every voter of the test, shape (n,).
    """
    scores = prepared.nuisances.scores(test)
    lift = offered_lifts(scores, test.propensities, test.wave)
    channels, share = test.channels, test.propensities[:, 1:].mean(axis=0)
    of_arm = np.array([channels.index(arm.channel) for arm in test.arms])
    mix = np.zeros((len(test.arms), len(channels)))
    mix[np.arange(len(of_arm)), of_arm] = share
    mix /= np.maximum(mix.sum(axis=0), 1e-300)
    average = np.array([flat[arm] for arm in test.arms]) @ mix
    effects = _by_segment(lift @ mix, average, segment, test.cluster)
    reached = np.minimum(1.0, market.spend / np.maximum(market.cost @ mix, 1e-9))
    best = (effects.lift * reached).argmax(axis=1)
    groups = (*effects.names, EVERYBODY)
    sent = {
        g: SentShare(channel=channels[c]) for g, c in zip(groups, best, strict=True)
    }
    return Policy(GROUP_PLATFORM, worth={EVERYBODY: flat}, sent=sent)


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
    average = prepared.nuisances.effects.shrunken
    return _by_segment(lift, average, segment, prepared.test.cluster)


def _by_segment(
    lift: Floats, average: Floats, segment: Objects, cluster: Ints
) -> SegmentEffects:
    code, names = pd.factorize(segment, sort=True)
    size = np.bincount(code).astype(np.float64)
    mean = _by_code(lift, code) / size[:, None]
    # a household's voters share noise: their residuals are summed before squaring
    pair = together(code, cluster)
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
    table = np.vstack([average + shrinkage * deviation, average])
    return SegmentEffects(tuple(str(n) for n in names), table)


def _by_code(values: Floats, code: Ints) -> Floats:
    sums: Floats = np.column_stack([np.bincount(code, column) for column in values.T])
    return sums


def _spread(deviation: Floats, noise: Floats) -> float:
    """Variance of true deviations, cells weighted by how well they are known."""
    weight = 1.0 / np.maximum(noise, 1e-300)
    return max(float(np.average(deviation**2 - noise, weights=weight)), 0.0)
