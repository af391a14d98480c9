"""Value of a message in votes: support moved, and supporters brought to vote.

A fall in turnout is never worth anything, whichever voters stay at home; an unknown
effect on turnout counts for nothing and is shown as unknown.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hustings.features.arrays import Floats
from hustings.features.training_set import EffectPrior, MessageTest
from hustings.training.estimators.metrics import Interval


def votes_gained(
    support_lift: Floats, p_votes: Floats, turnout_lift: Floats, margin: Floats
) -> Floats:
    """Votes that a message brings, by the support it moves and by turnout.

    support × P(votes) + max(turnout, 0) × max(margin, 0).

    Args:
        support_lift: Change of the chance to support, shape (n, M).
        p_votes: Chance to vote without a message, shape (n,).
        turnout_lift: Change of the chance to vote, NaN where unknown, shape (M,) or
            (n, M).
        margin: Chance to support less the chance not to, in [-1, 1], shape (n,).

    Returns:
        Votes per contact, shape (n, M): 0.01 is one vote from 100 voters.

    Raises:
        ValueError: If a chance or margin lies outside its range.

    >>> one, two = np.array([[0.02]]), np.array([0.5])
    >>> votes_gained(one, two, np.array([0.04]), two).round(4).tolist()
    [[0.03]]
    >>> votes_gained(one, two, np.array([-0.04]), -two).round(4).tolist()
    [[0.01]]
    """
    if not ((p_votes >= 0) & (p_votes <= 1)).all():
        raise ValueError(
            f"expected chances to vote in [0, 1], got {p_votes.min()} to "
            f"{p_votes.max()}"
        )
    if not (np.abs(margin) <= 1).all():
        raise ValueError(
            f"expected margins in [-1, 1], got {margin.min()} to {margin.max()}"
        )
    moved = support_lift * p_votes[:, None]
    gained: Floats = moved + turnout_worth(turnout_lift, margin)
    return gained


def turnout_worth(turnout_lift: Floats, margin: Floats) -> Floats:
    """Votes by turnout alone, never below 0, shape (n, M)."""
    brought = np.maximum(np.nan_to_num(turnout_lift, nan=0.0), 0.0)
    worth: Floats = brought * np.maximum(margin, 0.0)[:, None]
    return worth


def believed(effect: Interval) -> float:
    """An effect shrunken by its own noise: value × max(0, 1 − se² / value²).

    The larger of an estimate and 0 is above the truth on average; so little of it is
    believed as it stands out of its noise.

    Source: the positive-part estimator of James & Stein (1961), one effect at a time.

    >>> believed(Interval.of(0.02, se=0.01)), believed(Interval.of(0.01, se=0.01))
    (0.015, 0.0)
    """
    if effect.value == 0:
        return 0.0
    return float(effect.value * max(0.0, 1 - (effect.se / effect.value) ** 2))


def turnout_lifts(effects: Mapping[str, Interval], messages: tuple[str, ...]) -> Floats:
    """Shrunken turnout effect of every message, NaN where unknown, (M,)."""
    return np.array(
        [believed(effects[m]) if m in effects else np.nan for m in messages]
    )


def as_votes(
    test: MessageTest,
    p_votes: Floats,
    turnout_lift: Floats,
    margin: Floats,
    *,
    support_scale: float,
) -> MessageTest:
    """The test with votes as its outcome, so that its lift is `votes_gained`.

    Both chances are known before the message, so multiplying the outcome by one and
    adding a known worth to every arm changes what is estimated, not whether it is
    unbiased: E[Y(m) − Y(0) | x] = τ(x) P(votes) + max(turnout, 0) max(margin, 0).

    Args:
        test: A test of support, n voters, M messages.
        p_votes: Chance to vote without a message, shape (n,).
        turnout_lift: Effect of every message on turnout, NaN unknown, shape (M,).
        margin: In [-1, 1], shape (n,).
        support_scale: Outcome units from no support to full support.
    """
    support = (test.Y / support_scale)[:, None]
    brought = np.concatenate([[0.0], turnout_lift])
    # the turnout of every voter's own arm: nothing for control
    own_turnout = brought[test.message_of_arm[test.arm]][:, None]
    votes = votes_gained(support, p_votes, own_turnout, margin)[:, 0]
    return replace(test, Y=votes, prior=_prior_votes(test, p_votes, support_scale))


def _prior_votes(
    test: MessageTest, p_votes: Floats, support_scale: float
) -> EffectPrior | None:
    """Prior support effects in votes, at the mean probability to vote."""
    if test.prior is None:
        return None
    factor = float(p_votes.mean()) / support_scale
    return EffectPrior(factor * test.prior.mean, factor**2 * test.prior.variance)
