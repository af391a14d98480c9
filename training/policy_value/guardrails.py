"""Guardrails: outcomes that no message may harm, of everybody and of each group.

Turnout, unsubscribes, complaints: whatever a campaign declares is estimated of every
message, over all voters and within groups of them, and judged together. A message that
is shown to harm is sent to nobody, or to nobody of the group in which it harms.

An experiment is looked at as it was designed; what the campaign's own days add is
looked at day by day, by p-values that stay valid however often one looks. The chance
that anything is closed that harms nobody is declared for the whole campaign.

Shapes: n voters, A arms, M messages.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
from scipy import stats

from hustings.features.arrays import Bools, Floats, Ints
from hustings.features.training_set import Arm, MessageTest
from hustings.features.voter import SegmentBins
from hustings.training.estimators.anytime_valid import (
    always_valid_p,
    always_valid_reach,
)
from hustings.training.estimators.metrics import Interval, clustered_means
from hustings.training.estimators.sample_ratio import holm
from hustings.training.learners.average_effects import (
    fit_nuisances,
    floored,
    offered_lifts,
    precision_weights,
)
from hustings.training.learners.boosting import binned

Direction = Literal["fall", "rise", "either"]
Status = Literal["harms", "within_margin", "not_shown"]
HARMS: Status = "harms"
WITHIN_MARGIN: Status = "within_margin"
NOT_SHOWN: Status = "not_shown"
LEVEL = 0.05
"""Chance that a campaign's guardrails, all together, close anything that harms nobody.
Each gets an equal share of it, unless it is declared."""
SHARE_OF_TESTS = 0.8
"""Of a guardrail's level: spent on the experiments by themselves, the rest on what the
campaign's own days add to them."""
USUAL_HARMS = 2.0
"""The size of harm that looks at the days are sharpest for, in margins."""
SHARE_OF_AVERAGES = 0.5
"""Of a guardrail's level: spent on averages over everybody, the rest on groups."""
MIN_ANSWERS = 30
"""Fewer answers on a side say nothing about a message over everybody."""
MIN_IN_GROUP = 100
"""The same within a group: a share of events among fewer has no normal error."""


@dataclass(frozen=True)
class Guardrail:
    """An outcome that no message may harm.

    Attributes:
        name: As it is declared.
        direction: Change that harms.
        margin: Smallest harm that matters, outcome units, above 0.
        alpha: Chance that anything is closed by it that harms nobody.
        bars_unproven: Whether a message is sent to nobody until it is shown not to
            harm by more than the margin.
    """

    name: str
    direction: Direction
    margin: float
    alpha: float
    bars_unproven: bool


class GroupEffect(NamedTuple):
    """Effect of a message on a guarded outcome within a group of voters.

    Attributes:
        experiment_id: The experiment.
        message_id: The message.
        where: Column → its bin; empty for everybody.
        n: Voters of the group with an outcome.
        effect: Intent to treat, outcome units.
        freedom: Clusters less one.
    """

    experiment_id: str
    message_id: str
    where: Mapping[str, str]
    n: int
    effect: Interval
    freedom: int


@dataclass(frozen=True)
class GuardedMessage:
    """What a guardrail says of a message, over everybody or within a group.

    Attributes:
        experiment_id: The experiment.
        message_id: The message.
        where: Column → its bin; empty for everybody.
        n: Voters of the group with an outcome.
        effect: With its 95 % interval, outcome units.
        low: Lower end of the interval that holds for all together.
        high: Its upper end.
        status: Of everybody any; of a group `HARMS` or `NOT_SHOWN`.
    """

    experiment_id: str
    message_id: str
    where: Mapping[str, str]
    n: int
    effect: Interval
    low: float
    high: float
    status: Status

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        return {
            **vars(self), "where": dict(self.where), "effect": self.effect.as_dict(),
        }  # fmt: skip


@dataclass(frozen=True)
class ClosedGroup:
    """A message that nobody of a group is sent, since a guardrail closes it.

    Attributes:
        message_id: The message.
        where: Column → its bin; empty for everybody.
        guardrail: Name of it.
        reason: In words.
    """

    message_id: str
    where: Mapping[str, str]
    guardrail: str
    reason: str

    def members(self, bins: SegmentBins) -> Bools:
        """Which voters are of the group, shape (n,).

        Args:
            bins: Of the n voters.
        """
        inside = np.ones(bins.n, dtype=bool)
        for column, label in self.where.items():
            inside &= (
                bins.of_column[column] == label if column in bins.of_column else False
            )
        return inside

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        return {**vars(self), "where": dict(self.where)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        return cls(**stored)


def closed_arms(
    closed: Sequence[ClosedGroup], bins: SegmentBins, arms: Sequence[Arm]
) -> Bools:
    """Arms that guardrails close to each voter, shape (n, A).

    Args:
        closed: Messages and groups.
        bins: Of the n voters.
        arms: What could be sent.
    """
    result = np.zeros((bins.n, len(arms)), dtype=bool)
    for group in closed:
        of_message = np.array([arm.message_id == group.message_id for arm in arms])
        if of_message.any():
            result |= group.members(bins)[:, None] & of_message
    return result


def where_in_words(where: Mapping[str, str]) -> str:
    """A group as a person reads it."""
    return " and ".join(f"{column} {label}" for column, label in where.items())


# --- estimate ---


def group_effects(
    test: MessageTest,
    outcome: Floats,
    parts: pd.DataFrame,
    categorical: Sequence[int],
    issue_of: Mapping[str, str],
    *,
    seed: int,
) -> list[GroupEffect]:
    """Effect of every message on a guarded outcome, of everybody and of groups.

    Groups are the bins of every declared column and the segments that all columns
    make together: a harm to all women is seen in more people than in each segment of
    women, one to a single segment in no bin.

    Args:
        test: The experiment, arms as sent, n voters.
        outcome: NaN where unknown, shape (n,).
        parts: From `features.voter.segment_parts`, n rows.
        categorical: Columns of X that hold category codes.
        issue_of: Issue of every message.
        seed: Folds and trees.

    Returns:
        Of every group with enough answers on both sides; none where nobody's outcome
        is known, or all are the same.
    """
    # what is known from elsewhere is of the outcome, not of what is guarded
    guarded = replace(test, Y=outcome, prior=None, evidence=None, outcome_range=None)
    values = outcome[guarded.observed]
    if len(values) == 0 or (values == values[0]).all():
        return []
    if not _enough(guarded, MIN_ANSWERS).any():
        return []
    nuisances = fit_nuisances(guarded, binned(test.X, categorical), issue_of, seed=seed)
    scores, response = nuisances.scores(guarded), nuisances.response(guarded)
    effects: list[GroupEffect] = []
    for where, rows in _groups(parts):
        least = MIN_IN_GROUP if where else MIN_ANSWERS
        effects += _effects_within(guarded, scores, response, where, rows, least)
    return effects


def _groups(parts: pd.DataFrame) -> Iterator[tuple[dict[str, str], Ints]]:
    """Everybody, the bins of every column, the segments; with their rows."""
    yield {}, np.arange(len(parts))
    columns = list(parts.columns)
    keys = [[name] for name in columns] + ([columns] if len(columns) > 1 else [])
    for names in keys:
        codes, labels = pd.factorize(
            pd.MultiIndex.from_frame(parts[names]).to_flat_index()
        )
        for k, label in enumerate(labels):
            where = dict(zip(names, map(str, label), strict=True))
            yield where, np.flatnonzero(codes == k)


def _enough(test: MessageTest, least: int) -> Bools:
    """Whether a message and control have enough answers to compare, shape (M,)."""
    merged = test.by_message()
    n = np.bincount(merged.arm[test.observed], minlength=1 + len(test.messages))
    return np.asarray((n[1:] >= least) & (n[0] >= least))


def _effects_within(
    test: MessageTest,
    scores: Floats,
    response: Floats,
    where: Mapping[str, str],
    rows: Ints,
    least: int,
) -> list[GroupEffect]:
    """Effects of the messages that enough people of a group answered."""
    group = test.take(rows)
    enough = _enough(group, least)
    clusters = np.unique(group.cluster)
    if not enough.any() or len(clusters) < 2:
        return []
    propensities = group.propensities
    lift = offered_lifts(scores[rows], propensities, group.wave)
    mean, covariance = clustered_means(lift, group.cluster, group.survey_weight)
    # the mix of channels within a message is the design's own
    share = propensities[:, 1:].mean(axis=0)
    mix = np.zeros((len(test.messages), len(test.arms)))
    mix[test.message_of_arm[1:] - 1, np.arange(len(test.arms))] = share
    mix /= np.maximum(mix.sum(axis=1, keepdims=True), 1e-300)
    value = mix @ mean
    by_design = (mix**2) @ _design_variance(group, response[rows])
    variance = np.maximum(np.diag(mix @ covariance @ mix.T), by_design)
    error = np.hypot(np.sqrt(variance), test.link_error * value)
    n = int(group.observed.sum())
    return [
        GroupEffect(
            test.experiment_id, message, where, n,
            Interval.of(value[m], se=float(error[m])), len(clusters) - 1,
        )
        for m, message in enumerate(test.messages)
        if enough[m]
    ]  # fmt: skip


def _design_variance(test: MessageTest, response: Floats) -> Floats:
    """Variance of every arm's average by the design, where nothing has an effect, (A,).

    Where an event is rare, the side without one shows no noise at all; what all sides
    show together, spread as the design spreads it, is never less than that.
    """
    seen = test.observed
    residual = test.Y[seen] - response[seen]
    sigma2 = float(np.mean((residual - residual.mean()) ** 2))
    weights = precision_weights(test.propensities, test.wave)
    if test.survey_weight is not None:
        weights = weights * test.survey_weight[:, None]
    chance = floored(test.propensities)
    offered = (chance[:, 1:] > 0) & (chance[:, :1] > 0)
    inverse = np.zeros(weights.shape)
    of_design = 1.0 / np.where(offered, chance[:, 1:], 1.0)
    of_design += 1.0 / np.where(chance[:, :1] > 0, chance[:, :1], 1.0)
    inverse[offered] = of_design[offered]
    total: Floats = sigma2 * (weights**2 * inverse).sum(axis=0) / float(seen.mean())
    return total


# --- judge ---


def judge_guardrail(
    guardrail: Guardrail,
    effects: Sequence[GroupEffect],
    with_days: Sequence[GroupEffect],
) -> list[GuardedMessage]:
    """Judge all messages and groups of a guardrail together.

    Half of its level goes to averages over everybody, half to groups, each half by
    Holm's procedure: the chance that anything is said to harm that does not is at most
    the level, however many messages and groups there are, however they depend on each
    other, and however often the campaign's days are looked at. What an experiment
    shows by itself stays, whatever the days add. The intervals hold together too.

    Args:
        guardrail: As declared.
        effects: Of all experiments that measured its outcome, by themselves.
        with_days: The same with what the campaign's own days have added so far; none
            of an experiment that no day has added to.
    """
    judged: list[GuardedMessage] = []
    for is_group, share in ((False, SHARE_OF_AVERAGES), (True, 1 - SHARE_OF_AVERAGES)):
        level = guardrail.alpha * share
        rows = {
            _key(row): row
            for row in _judged(
                guardrail, [e for e in effects if bool(e.where) == is_group],
                level * SHARE_OF_TESTS, looks=False,
            )
        }  # fmt: skip
        for row in _judged(
            guardrail, [e for e in with_days if bool(e.where) == is_group],
            level * (1 - SHARE_OF_TESTS), looks=True,
        ):  # fmt: skip
            before = rows.get(_key(row))
            rows[_key(row)] = row if before is None else _either(before, row)
        judged += rows.values()
    return judged


_Key = tuple[str, str, tuple[tuple[str, str], ...]]


def _key(row: GuardedMessage) -> _Key:
    return row.experiment_id, row.message_id, tuple(sorted(row.where.items()))


def _either(by_itself: GuardedMessage, with_days: GuardedMessage) -> GuardedMessage:
    """The effect with the days, and what either of the two shows."""
    seen = {by_itself.status, with_days.status}
    status = next(s for s in (HARMS, WITHIN_MARGIN, NOT_SHOWN) if s in seen)
    return replace(with_days, status=status)


def _judged(
    guardrail: Guardrail, family: Sequence[GroupEffect], level: float, *, looks: bool
) -> list[GuardedMessage]:
    """A family judged at a level: once, or by p-values that hold at all looks."""
    if not family:
        return []
    p_values = np.array([_p_value(e, guardrail, looks=looks) for e in family])
    harms = holm(p_values, alpha=level)
    judged = []
    for effect, is_harm in zip(family, harms, strict=True):
        low, high = _together(effect, guardrail, level / len(family), looks=looks)
        status = HARMS if is_harm else NOT_SHOWN
        if not (is_harm or effect.where) and _within(guardrail, low, high):
            status = WITHIN_MARGIN
        judged.append(
            GuardedMessage(
                effect.experiment_id, effect.message_id, effect.where, effect.n,
                effect.effect, low, high, status,
            )
        )  # fmt: skip
    return judged


def _p_value(effect: GroupEffect, guardrail: Guardrail, *, looks: bool) -> float:
    """Of no harm: one-sided, or two-sided where any change harms."""
    value, se = effect.effect.value, effect.effect.se
    if se <= 0:
        return 1.0
    is_either = guardrail.direction == "either"
    t = abs(value / se) if is_either else value / se
    t = -t if guardrail.direction == "fall" else t
    tail = float(stats.t.sf(t, effect.freedom))
    if not looks:
        return 2 * tail if is_either else tail
    z = float(stats.norm.isf(tail))
    usual = USUAL_HARMS * guardrail.margin
    return always_valid_p(z, se, usual=usual, two_sided=is_either)


def _together(
    effect: GroupEffect, guardrail: Guardrail, alpha: float, *, looks: bool
) -> tuple[float, float]:
    """Ends of the interval, each missed with chance alpha, or half of it."""
    is_either = guardrail.direction == "either"
    value, se = effect.effect.value, effect.effect.se
    tail = alpha / 2 if is_either else alpha
    if looks and se > 0:
        usual = USUAL_HARMS * guardrail.margin
        z = always_valid_reach(se, usual=usual, alpha=alpha, two_sided=is_either)
        tail = float(stats.norm.sf(z))
    width = float(stats.t.isf(tail, effect.freedom)) * se
    return value - width, value + width


def _within(guardrail: Guardrail, low: float, high: float) -> bool:
    """Whether the interval leaves out every harm of the margin's size."""
    falls, rises = -low < guardrail.margin, high < guardrail.margin
    if guardrail.direction == "either":
        return falls and rises
    return falls if guardrail.direction == "fall" else rises


WORDS_OF_DIRECTION = {"fall": "lowers", "rise": "raises", "either": "changes"}


def closed_by(
    guardrail: Guardrail, judged: Sequence[GuardedMessage]
) -> list[ClosedGroup]:
    """Messages and groups that a guardrail closes.

    What harms everybody is closed to everybody, and its groups need no mention.

    Args:
        guardrail: As declared.
        judged: From `judge_guardrail`.
    """
    verb = WORDS_OF_DIRECTION[guardrail.direction]
    closed: dict[str, ClosedGroup] = {}
    for row in judged:
        if row.where:
            continue
        if row.status == HARMS:
            reason = f"{verb} {guardrail.name}"
        elif row.status == NOT_SHOWN and guardrail.bars_unproven:
            reason = f"is not shown to leave {guardrail.name} within its margin"
        else:
            continue
        closed.setdefault(
            row.message_id, ClosedGroup(row.message_id, {}, guardrail.name, reason)
        )
    in_groups = [
        ClosedGroup(
            row.message_id, row.where, guardrail.name,
            f"{verb} {guardrail.name} among voters of {where_in_words(row.where)}",
        )
        for row in judged
        if row.where and row.status == HARMS and row.message_id not in closed
    ]  # fmt: skip
    return [*closed.values(), *in_groups]
