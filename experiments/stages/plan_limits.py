"""Limits of the plan for judging: the planner's optimiser over the voters of a test.

Limits are declared for the whole electorate. A test's voters have their share of them:
amounts are held per voter here, and multiplied by how many people are allocated to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from hustings.experiments.stages.context import Run
from hustings.features.arrays import Floats, Ints, Objects
from hustings.features.training_set import Arm
from hustings.serving.plan import (
    ChannelCharges,
    FixedCharge,
    GroupBound,
    Limit,
    Limits,
    PlanError,
    backlash,
    by_channel,
    by_message,
    cap,
    choose_with_charges,
    floor,
    share_bounds,
    valued,
)
from hustings.serving.plan.constraints import SLACK, joined
from hustings.serving.plan.randomise import (
    affordable_share,
    even_odds,
    expected_use,
)
from hustings.training.estimators.metrics import Z95
from hustings.training.estimators.spend_path import NOTHING
from hustings.training.policy_value.spending import Allocation, SpendingRows, Valuation

MOST_POOLED = 2_000
"""Up to so many rows the relaxed plan is solved as a linear programme in shares."""


@dataclass(frozen=True)
class LimitsPerVoter:
    """Limits of a plan per voter of the electorate; an `Allocate`.

    Attributes:
        capacity: Contacts by channel, over all days.
        total: Contacts by all channels, over all days; None for no limit.
        caps: Contacts by message at most.
        floors: Contacts by message at least.
        groups: Bounds of groups, `most` per voter; their members come with the rows.
        entered: Set-up fee per voter and minimum order per voter, by channel.
        minimum_audience: Contacts of a message if it is used at all.
        holdout_share: Of the voters.
        explore_share: Of those who are not held out.
    """

    capacity: Mapping[str, float]
    total: float | None
    caps: Mapping[str, float]
    floors: Mapping[str, float]
    groups: Sequence[GroupBound]
    entered: Mapping[str, ChannelCharges]
    minimum_audience: float
    holdout_share: float
    explore_share: float

    def __call__(
        self,
        rows: SpendingRows,
        share: Floats,
        arms: Sequence[Arm],
        cost: Floats,
        spend: float,
        *,
        delivered: bool = False,
    ) -> Allocation:
        """See `training.policy_value.spending.Allocate`."""
        limits = self._limits(rows, arms, cost, spend)
        charges = self._charges(rows, arms)
        by_budget = limits.are_kept(expected_use(rows.reach, share, limits))
        limited = bool(charges) or not by_budget
        everybody = _allocated(rows, limits, charges) if limited else share
        if not delivered:
            return Allocation(everybody, None, limited)
        larger, planned = self._as_planned(rows, limits)
        scaled = [
            charge._replace(
                setup_usd=charge.setup_usd / planned,
                minimum_contacts=charge.minimum_contacts / planned,
            )
            for charge in charges
        ]
        return Allocation(
            everybody, planned * _allocated(rows, larger, scaled), limited
        )

    def _as_planned(self, rows: SpendingRows, limits: Limits) -> tuple[Limits, float]:
        """Limits over all rows such that the planned ones use them up, and their share.

        As in `serving.plan.contacts`: what exploration uses is set aside first.
        """
        in_pool_share = 1.0 - self.holdout_share
        odds = even_odds(rows.reach, limits)
        needed = in_pool_share * expected_use(rows.reach, odds, limits)
        explores = affordable_share(needed, limits, self.explore_share)
        used = explores * needed
        left = limits.less(used)
        planned = in_pool_share * (1.0 - explores)
        return left.with_most(left.most / planned), planned

    def _limits(
        self, rows: SpendingRows, arms: Sequence[Arm], cost: Floats, spend: float
    ) -> Limits:
        n = rows.n_people
        limits = [Limit("budget in USD", np.asarray(cost, dtype=float), spend * n)]
        for channel, most in sorted(self.capacity.items()):
            counts = by_channel(arms, channel)
            if counts.any():
                limits.append(cap(f"contacts by {channel}", counts, most * n))
        ones = np.ones(len(arms))
        if self.total is not None:
            limits.append(cap("contacts in all", ones, self.total * n))
        for message, most in sorted(self.caps.items()):
            counts = by_message(arms, message)
            limits.append(cap(f"contacts of {message}", counts, most * n))
        for message, least in sorted(self.floors.items()):
            counts = by_message(arms, message)
            limits.append(floor(f"at least of {message}", counts, least * n))
        for g, bound in enumerate(self.groups):
            within = rows.within[:, g]
            limits += share_bounds(bound.name, within, len(arms), bound.low, bound.high)
            if bound.most is not None:
                name = f"contacts in {bound.name}"
                limits.append(Limit(name, ones, bound.most * n, within))
        return joined(limits)

    def _charges(self, rows: SpendingRows, arms: Sequence[Arm]) -> list[FixedCharge]:
        n, charges = rows.n_people, []
        for channel, needs in sorted(self.entered.items()):
            used = by_channel(arms, channel) > 0
            if used.any() and (needs.setup_usd > 0 or needs.minimum_order > 0):
                fee, least = needs.setup_usd * n, needs.minimum_order * n
                charges.append(FixedCharge(f"channel {channel}", used, fee, least))
        if self.minimum_audience > 0:
            for message in sorted({arm.message_id for arm in arms}):
                used = by_message(arms, message) > 0
                least = self.minimum_audience * n
                charges.append(FixedCharge(f"message {message}", used, 0.0, least))
        return charges


def limits_per_voter(
    run: Run, arms: Sequence[Arm], bounds: Sequence[GroupBound], n_all: int
) -> LimitsPerVoter:
    """Limits of `[plan]` and the costs, per voter of the electorate.

    Args:
        run: Declares it.
        arms: Of one experiment: what is declared of others is left out.
        bounds: Of groups, `most` per voter.
        n_all: Voters of the electorate.
    """
    plan, costs = run.campaign.plan, run.table("costs")
    per_day = costs.dropna(subset="capacity_per_day").groupby("channel")
    messages = {arm.message_id for arm in arms}
    declared = {m: t for m, t in plan.messages.items() if m in messages}
    total = plan.capacity_per_day
    return LimitsPerVoter(
        capacity={
            str(channel): float(most) * plan.days / n_all
            for channel, most in per_day["capacity_per_day"].max().items()
        },
        total=None if total is None else total * plan.days / n_all,
        caps={m: t.most / n_all for m, t in declared.items() if t.most is not None},
        floors={m: t.least / n_all for m, t in declared.items() if t.least > 0},
        groups=bounds,
        entered={
            channel: ChannelCharges(
                channel_section.setup_usd / n_all, channel_section.minimum_order / n_all
            )
            for channel, channel_section in plan.channels.items()
        },
        minimum_audience=plan.minimum_audience / n_all,
        holdout_share=plan.holdout_share,
        explore_share=plan.explore_share,
    )


def campaign_value(
    lift: Floats,
    se: Floats,
    segment: Objects | None,
    *,
    confidence: float,
    block: bool,
) -> Valuation:
    """Worth of lifts at the declared confidence, and arms that show backlash.

    Args:
        lift: Shape (n, M).
        se: Standard errors, shape (n, M).
        segment: Of every voter, shape (n,); None where nobody asks by segment.
        confidence: `[plan] confidence`.
        block: `[plan] block_backlash`.
    """
    low, high = lift - Z95 * se, lift + Z95 * se
    worth = valued(lift, low, high, confidence=confidence)
    closed = np.zeros(lift.shape, dtype=bool)
    if block and segment is not None:
        codes = pd.factorize(segment)[0].astype(np.int64)
        closed = backlash(low, high, codes)
    return Valuation(worth, closed)


def _allocated(
    rows: SpendingRows, limits: Limits, charges: Sequence[FixedCharge]
) -> Floats:
    """Share of every row that gets each arm; without floors where none can be kept.

    A policy that closes the options that a floor asks for cannot keep it, and a plan
    by that policy is refused; it is judged by what it would do without.
    """
    try:
        return _within(rows, limits, charges)
    except PlanError:
        is_ceiling = ~limits.floors
        of_class = None if limits.of_class is None else limits.of_class[is_ceiling]
        names = tuple(
            n for n, keep in zip(limits.names, is_ceiling, strict=True) if keep
        )
        loose = Limits(
            limits.use[is_ceiling],
            limits.most[is_ceiling],
            of_class,
            limits.row_class,
            names,
        )
        return _within(rows, loose, charges)


def _within(
    rows: SpendingRows, limits: Limits, charges: Sequence[FixedCharge]
) -> Floats:
    if len(rows.value) <= MOST_POOLED:
        return _linear_programme(rows, limits, charges)
    charged_plan = choose_with_charges(
        rows.value, rows.reach, limits, charges, rows.ties
    )
    share = np.zeros(rows.value.shape)
    at = np.flatnonzero(charged_plan.chosen.option != NOTHING)
    share[at, charged_plan.chosen.option[at]] = 1.0
    return share


def _linear_programme(
    rows: SpendingRows, limits: Limits, charges: Sequence[FixedCharge]
) -> Floats:
    """The relaxed plan in shares of rows, exact; fees and minimum orders by yes or no.

    maximise Σ v_ra x_ra with Σ_a x_ra ≤ 1, every limit, x_ra ≤ u_e for the arms of an
    charge e, Σ contacts of e ≥ minimum u_e, and fees out of the budget.
    """
    useful = (rows.reach > 0) & (rows.value > 0)
    at_row, at_arm = np.nonzero(useful)
    n, n_charges = len(at_row), len(charges)
    share = np.zeros(rows.value.shape)
    if n == 0:
        return share
    contacts = rows.reach[at_row, at_arm]
    use = limits.use_of(at_row, at_arm) * contacts
    fees = np.array([charge.setup_usd for charge in charges])
    matrix = np.zeros((len(use), n + n_charges))
    matrix[:, :n] = use
    matrix[0, n:] = fees
    scale = np.maximum(limits.scale(), 1e-12)
    constraints = [
        LinearConstraint(matrix / scale[:, None], -np.inf, limits.most / scale),
        LinearConstraint(_one_each(at_row, n_charges), -np.inf, 1.0),
    ]
    for e, charge in enumerate(charges):
        charged = np.flatnonzero(charge.arms[at_arm])
        opens = np.zeros((len(charged), n + n_charges))
        opens[np.arange(len(charged)), charged] = 1.0
        opens[:, n + e] = -1.0
        least = np.zeros((1, n + n_charges))
        least[0, charged], least[0, n + e] = contacts[charged], -charge.minimum_contacts
        constraints.append(LinearConstraint(opens, -np.inf, 0.0))
        constraints.append(
            LinearConstraint(least / max(charge.minimum_contacts, 1.0), 0.0, np.inf)
        )
    value = np.append(rows.value[at_row, at_arm], np.zeros(n_charges))
    solved = milp(
        -value / max(float(value.max()), 1e-300), constraints=constraints,
        bounds=Bounds(0.0, 1.0),
        integrality=np.append(np.zeros(n), np.ones(n_charges)),
    )  # fmt: skip
    if solved.x is None:
        raise PlanError(f"no shares keep all limits: {solved.message}")
    share[at_row, at_arm] = np.clip(solved.x[:n], 0.0, 1.0)
    return np.where(share > SLACK, share, 0.0)


def _one_each(at_row: Ints, n_charges: int) -> sparse.csr_array:
    """Which variables belong to which row, shape (n_rows, n_variables)."""
    codes = np.unique(at_row, return_inverse=True)[1]
    n = len(codes)
    shape = (int(codes.max()) + 1, n + n_charges)
    return sparse.csr_array((np.ones(n), (codes, np.arange(n))), shape=shape)
