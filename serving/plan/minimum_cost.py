"""Minimum cost: the least money for a wanted gain."""

from collections.abc import Callable

from hustings.serving.plan.constraints import PlanError

N_PLANS = 14
ENOUGH = 2e-3
"""Relative precision of the money: a plan of fewer contacts is not worth computing."""


def least_budget(
    gain_at: Callable[[float], float], *, wanted: float, most_usd: float
) -> float:
    """Least budget whose plan is predicted to gain what is wanted.

    The best gain is concave in the money, so the budget is looked for between one that
    is too small and one that is enough: where the line between their gains meets the
    wanted one, and in the middle, in turn.

    Args:
        gain_at: Predicted gain of the plan at a budget, in the campaign's units of
            value; every limit but the budget holds.
        wanted: Gain in these units, above 0.
        most_usd: The most that may be spent.

    Returns:
        USD; the plan at this budget gains what is wanted, and one of less money than
        `ENOUGH` below it was not seen to.

    Raises:
        PlanError: If that gain cannot be had for the most that may be spent.

    >>> round(least_budget(lambda usd: usd**0.5, wanted=10.0, most_usd=900.0))
    100
    """
    low, low_gain = 0.0, 0.0
    high, high_gain = most_usd, gain_at(most_usd)
    if high_gain < wanted:
        raise PlanError(
            f"wanted a gain of {wanted:,.6g}, but no more than {high_gain:,.6g} can be "
            f"had for {most_usd:,.2f} USD within the limits; want less, or allow more"
        )
    for k in range(N_PLANS):
        if high - low <= ENOUGH * high:
            break
        chord = (wanted - low_gain) / max(high_gain - low_gain, 1e-300)
        # a concave gain lies above the line: this is enough, or hardly too little
        share = 0.5 if k % 2 else min(max(chord, ENOUGH), 1.0 - ENOUGH)
        middle = low + share * (high - low)
        gain = gain_at(middle)
        if gain >= wanted:
            high, high_gain = middle, gain
        else:
            low, low_gain = middle, gain
    return high
