"""What a campaign declares of its loop, as the terms of days."""

import numpy as np
import pandas as pd

from hustings.experiments.declaration import Campaign, CampaignError, LoopSection
from hustings.experiments.loop.explore import Exploring
from hustings.experiments.loop.one_day import LoopTerms
from hustings.training.measured_lift.power import Beliefs, Noise, first_wave

WAVE_SIZES = 16
"""Sizes of the first wave that are compared."""


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


def wave_size(loop: LoopSection, *, n_arms: int, n_audience: int) -> int:
    """Voters of the first randomised wave, as declared or as large as pays.

    Args:
        loop: The declaration.
        n_arms: Messages by channel.
        n_audience: Contacts that the money pays in all.
    """
    if loop.wave_voters is not None:
        return loop.wave_voters
    assert loop.believed_lift is not None
    assert loop.believed_spread is not None
    assert loop.outcome_sd is not None
    found = first_wave(
        Beliefs.alike(n_arms, mean=loop.believed_lift, sd=loop.believed_spread),
        Noise(loop.outcome_sd, missing=1.0 - loop.answer_share),
        n_audience=n_audience,
        sizes=np.linspace(0, n_audience, WAVE_SIZES + 1)[1:-1].astype(np.int64),
    )
    return round(found.epsilon * n_audience)


def loop_terms(
    campaign: Campaign,
    *,
    n_voters: int,
    n_arms: int,
    mean_cost_usd: float,
    salt: str,
    seed: int,
) -> LoopTerms:
    """Terms of a campaign's loop over an audience.

    Args:
        campaign: With [loop].
        n_voters: In the audience, the holdout included.
        n_arms: Messages by channel.
        mean_cost_usd: Of a contact.
        salt: Of the campaign.
        seed: Of the lots.

    Raises:
        CampaignError: If the campaign declares no loop.
    """
    loop, plan = declared_loop(campaign), campaign.plan
    budget = plan.budget_usd or (plan.spend_per_voter_usd or 0.0) * n_voters
    pays = int(budget / mean_cost_usd)
    return LoopTerms(
        salt=salt,
        seed=seed,
        holdout_share=plan.holdout_share,
        budget_usd=budget,
        start_on=pd.Timestamp(plan.start_on),
        days=plan.days,
        exploring=Exploring(
            loop.explore, loop.explore_share, loop.explore_half_life_days,
            loop.explore_least_share, loop.explore_floor,
        ),
        wave_voters=wave_size(loop, n_arms=n_arms, n_audience=pays),
        wave_days=loop.wave_days,
        wait_days=loop.wait_days,
        front_load=loop.front_load,
        window_days=loop.window_days,
        contacts_per_voter=loop.contacts_per_voter,
        repeats=loop.repeats,
        learn_from=loop.learn_from,
        retrain_every_days=loop.retrain_every_days,
        gate=loop.gate,
        evaluate_every_days=loop.evaluate_every_days,
        capacity_per_day=plan.capacity_per_day,
    )  # fmt: skip
