"""Settings of a campaign's loop, as it declares them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from hustings.experiments.declaration import Campaign, CampaignError, LoopSection
from hustings.features.tables import TEST_TABLES
from hustings.features.training_set import EffectPrior
from hustings.training.measured_lift.power import Beliefs, Noise, first_wave

WAVE_SIZES = 16
"""Sizes of the first wave that are compared."""
Phase = Literal["wave", "waits", "sends"]


@dataclass(frozen=True)
class LoopSettings:
    """Terms of a campaign's loop over its audience.

    Attributes:
        loop: The section [loop].
        salt: Of the campaign: fixes the holdout and the order of equals.
        seed: Of the random draws.
        holdout_share: Share of the voters who are held out.
        budget_usd: For all days.
        start_on: Day 0.
        days: Number of days.
        wave_voters: Voters of the first randomised wave, those who get nothing
            included; 0 without a wave.
        capacity_per_day: Contacts a day by all channels; None for no limit.
    """

    loop: LoopSection
    salt: str
    seed: int
    holdout_share: float
    budget_usd: float
    start_on: pd.Timestamp
    days: int
    wave_voters: int
    capacity_per_day: int | None

    def day_of(self, date: pd.Timestamp) -> int:
        """Day of a date, from 0.

        Raises:
            CampaignError: If the date is outside the campaign.
        """
        last = self.start_on + pd.Timedelta(days=self.days - 1)
        if not self.start_on <= date <= last:
            raise CampaignError(
                f"expected a date of the campaign, {self.start_on:%Y-%m-%d} to "
                f"{last:%Y-%m-%d}, got {date:%Y-%m-%d}; [plan].start_on and days say so"
            )
        return int((date - self.start_on).days)

    @property
    def first_planned_day(self) -> int:
        """First day after the wave and the days that wait for its answers."""
        return self.loop.wave_days + self.loop.wait_days if self.wave_voters else 0

    def phase(self, day: int) -> Phase:
        """Whether a day sends the first wave, waits for its answers, or plans."""
        if self.wave_voters and day < self.loop.wave_days:
            return "wave"
        return "waits" if day < self.first_planned_day else "sends"

    def learned_on(self, day: int) -> int:
        """Day on which the lifts of a day were last learned, by the declared rhythm."""
        every = self.loop.retrain_every_days or 1
        return day - (day - self.first_planned_day) % every

    def money_on(self, spent_usd: float, day: int) -> float:
        """Money of a day after the wave: an even share of what is left, or more.

        Args:
            spent_usd: What earlier days have taken.
            day: From 0.

        Worked example: $50 of $100 are left for ten days, front load 1: $5.
        """
        left = max(self.budget_usd - spent_usd, 0.0)
        return min(left, self.loop.front_load * left / max(self.days - day, 1))


def declared_loop(campaign: Campaign) -> LoopSection:
    """The section [loop].

    Raises:
        CampaignError: If there is none.
    """
    if campaign.loop is None:
        raise CampaignError(
            f"{campaign.file}: expected a section [loop] that says how the campaign "
            "runs from day to day, got none"
        )
    return campaign.loop


def believed_prior(loop: LoopSection, n: int) -> EffectPrior | None:
    """Declared prior of n messages before any test; None where none is declared."""
    if loop.believed_lift is None or loop.believed_spread is None:
        return None
    return EffectPrior(
        np.full(n, loop.believed_lift), np.full(n, loop.believed_spread**2)
    )


def believed_noise(loop: LoopSection) -> Noise:
    """Noise of the outcome as it is believed before any test.

    Raises:
        CampaignError: If nothing is declared.
    """
    if loop.outcome_sd is None:
        raise CampaignError(
            "[loop]: expected believed_lift, believed_spread and outcome_sd, got none: "
            "nothing says how large lifts and noise are before a test"
        )
    return Noise(loop.outcome_sd, missing=1.0 - loop.answer_share)


def wave_size(
    loop: LoopSection, *, is_tested: bool, n_arms: int, n_contacts: int
) -> int:
    """Voters of the first randomised wave, as declared or as large as pays.

    Args:
        loop: The declaration.
        is_tested: Whether the campaign brings an earlier test: then a wave is sent only
            where its size is declared.
        n_arms: Messages by channel.
        n_contacts: Contacts that the money pays in all.
    """
    if is_tested or not loop.has_wave or loop.wave_voters is not None:
        return loop.wave_voters or 0
    assert loop.believed_lift is not None
    assert loop.believed_spread is not None
    best = first_wave(
        Beliefs.exchangeable(n_arms, mean=loop.believed_lift, sd=loop.believed_spread),
        believed_noise(loop),
        n_audience=n_contacts,
        sizes=np.linspace(0, n_contacts, WAVE_SIZES + 1)[1:-1].astype(np.int64),
    )
    return round(best.epsilon * n_contacts)


def loop_settings(
    campaign: Campaign, *, n_voters: int, n_arms: int, mean_cost_usd: float
) -> LoopSettings:
    """Terms of a campaign's loop over an audience.

    Args:
        campaign: With [loop].
        n_voters: In the audience, the holdout included.
        n_arms: Messages by channel.
        mean_cost_usd: Of a contact.

    Raises:
        CampaignError: If the campaign declares no loop.
    """
    loop, plan = declared_loop(campaign), campaign.plan
    budget = plan.budget_usd or (plan.spend_per_voter_usd or 0.0) * n_voters
    pays = n_voters if mean_cost_usd <= 0 else int(budget / mean_cost_usd)
    return LoopSettings(
        loop=loop,
        salt=f"{campaign.campaign.name}-{campaign.campaign.seed}",
        seed=campaign.campaign.seed,
        holdout_share=plan.holdout_share,
        budget_usd=budget,
        start_on=pd.Timestamp(plan.start_on),
        days=plan.days,
        wave_voters=wave_size(
            loop,
            is_tested=set(TEST_TABLES) <= set(campaign.tables),
            n_arms=n_arms,
            n_contacts=pays,
        ),
        capacity_per_day=plan.capacity_per_day,
    )
