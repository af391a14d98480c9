"""The optimal plan: which voter gets which message, by which channel, on which day.

maximise Σ v_ia z_ia subject to Σ_a z_ia ≤ 1, a budget, capacities, caps, floors, shares
of groups, set-up fees and minimum orders. Every plan states an upper bound and its gap;
its prices say what one more of every limit would bring.
"""

from hustings.serving.plan.choose import Chosen, choose_options
from hustings.serving.plan.constraints import (
    Limit,
    Limits,
    PlanError,
    by_channel,
    by_message,
    cap,
    floor,
    limits_of,
    share_bounds,
)
from hustings.serving.plan.contacts import plan_contacts
from hustings.serving.plan.dual import priced
from hustings.serving.plan.fixed_charge import (
    FixedCharge,
    PlanWithCharges,
    choose_with_charges,
)
from hustings.serving.plan.minimum_cost import least_budget
from hustings.serving.plan.places import (
    PlaceOffers,
    PlaceOption,
    Places,
    choose_with_places,
)
from hustings.serving.plan.randomise import held_out, require_holdout
from hustings.serving.plan.settings import (
    ChannelCharges,
    GroupBound,
    Plan,
    PlanSettings,
)
from hustings.serving.plan.value import backlash, valued

__all__ = [
    "ChannelCharges",
    "Chosen",
    "FixedCharge",
    "GroupBound",
    "Limit",
    "Limits",
    "PlaceOffers",
    "PlaceOption",
    "Places",
    "Plan",
    "PlanError",
    "PlanSettings",
    "PlanWithCharges",
    "backlash",
    "by_channel",
    "by_message",
    "cap",
    "choose_options",
    "choose_with_charges",
    "choose_with_places",
    "floor",
    "held_out",
    "least_budget",
    "limits_of",
    "plan_contacts",
    "priced",
    "require_holdout",
    "share_bounds",
    "valued",
]
