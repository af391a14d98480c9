"""Lifts of the daily learner from decisions and their outcomes.

Outcomes are summed day by day in the order in which they came in, so that the sums of a
morning are those of the morning before with a day more: a process that makes several
days adds only what is new, and comes to the same bits as one that begins anew.
"""

import hashlib
import math
from typing import Literal, NamedTuple

import numpy as np

from hustings.experiments.loop.answered import Answered
from hustings.experiments.loop.daily_columns import LearnerColumns
from hustings.features.arrays import Floats
from hustings.features.training_set import EffectPrior
from hustings.training.learners.daily import (
    DailyLift,
    Moments,
    ObservedRows,
    Size,
    fit_daily,
)

GROWTH = 1.25
"""All sizes of the prior are weighed again once the outcomes have grown by so much."""


class _Latest(NamedTuple):
    """The last sums of this process, and the sizes that counted on the way to them.

    Attributes:
        phi: Columns that the sums are of.
        keys: What every day brought.
        moments: Sums over these days.
        sized: Days after which all sizes were weighed, and those that counted.
    """

    phi: Floats
    keys: tuple[bytes, ...]
    moments: Moments
    sized: tuple[int, tuple[Size, ...]]


_LATEST: list[_Latest] = []


def learned(
    answered: Answered,
    columns: LearnerColumns,
    *,
    repeats: Literal["first", "each"],
    learn_from: Literal["design", "all"],
    prior: EffectPrior | None,
) -> tuple[DailyLift | None, int]:
    """Posterior after all outcomes, and the number of decisions it rests on.

    Args:
        answered: Decisions with outcomes.
        columns: Of the voters.
        repeats: Which decisions of a voter teach.
        learn_from: What lifts compare; a test elsewhere compares by design always.
        prior: Mean effects known from elsewhere, by arm.

    Returns:
        None where there is neither an outcome nor a prior.
    """
    teaching = answered.take(answered.teaching(repeats))
    n_arms = answered.propensities.shape[1] - 1
    if len(teaching) == 0:
        nothing = Moments.nothing(columns.phi.shape[1], n_arms)
        model = fit_daily(nothing, columns.terms, prior=prior) if prior else None
        return model, 0
    by_design = learn_from == "design"
    day = teaching.answered_at.astype("datetime64[D]")
    parts = [teaching.take(day == d) for d in np.unique(day)]
    keys = tuple(_digest(part, by_design=by_design) for part in parts)
    chosen = sized_after(np.cumsum([len(part) for part in parts]).tolist())
    start = _reused(columns, keys, chosen)
    moments = Moments.nothing(columns.phi.shape[1], n_arms)
    n_summed = 0
    sizes: tuple[Size, ...] = ()
    if start is not None:
        moments, n_summed = start.moments, len(start.keys)
        sizes = start.sized[1] if start.sized[0] == chosen else ()
    for k in range(n_summed, len(parts)):
        moments = _plus(moments, parts[k], columns, by_design=by_design)
        if k + 1 == chosen:
            sizes = fit_daily(moments, columns.terms, prior=prior).sizes
    assert sizes
    _LATEST[:] = [_Latest(columns.phi, keys, moments, (chosen, sizes))]
    model = fit_daily(moments, columns.terms, prior=prior, sizes=sizes)
    return model, len(teaching)


def sized_after(counts: list[int]) -> int:
    """Number of days of outcomes after which all sizes were last weighed.

    The first day whose outcomes reach the largest power of `GROWTH` that the last
    day's reach.

    Args:
        counts: Outcomes so far after every day, the last above 0.

    >>> sized_after([100, 110, 126, 130, 160])
    5
    """
    power = math.floor(math.log(counts[-1]) / math.log(GROWTH) + 1e-9)
    least = GROWTH**power * (1.0 - 1e-9)
    return next(k for k, n in enumerate(counts, start=1) if n >= least)


def _reused(
    columns: LearnerColumns, keys: tuple[bytes, ...], chosen: int
) -> _Latest | None:
    """Sums of this process that these days go on from; None where there are none."""
    for latest in _LATEST:
        goes_on = latest.keys == keys[: len(latest.keys)]
        has_size = latest.sized[0] == chosen or chosen > len(latest.keys)
        if latest.phi is columns.phi and goes_on and has_size:
            return latest
    return None


def _plus(
    moments: Moments, rows: Answered, columns: LearnerColumns, *, by_design: bool
) -> Moments:
    centred = np.ones(len(rows), dtype=bool) if by_design else ~rows.is_loop
    for part, is_centred in ((centred, True), (~centred, False)):
        if part.any():
            chances = rows.propensities[part] if is_centred else None
            moments = moments.plus(
                ObservedRows(
                    columns.phi[rows.voter[part]], rows.arm[part], rows.Y[part], chances
                )
            )
    return moments


def _digest(rows: Answered, *, by_design: bool) -> bytes:
    """What tells a day's outcomes from others, whatever order they stand in."""
    digest = hashlib.sha256(b"design" if by_design else b"all")
    for column in (rows.voter, rows.arm, rows.Y, rows.is_loop, rows.propensities):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.digest()
