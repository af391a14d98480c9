"""Hustings: who gets which message, by which channel, for the least money.

The Python API works on data frames:

    from hustings import LiftModel, plan, measured_lift, power, Campaign

Nothing heavy is imported before a name is used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = [
    "AssumptionWarning",
    "Campaign",
    "ComparisonPower",
    "LiftModel",
    "PlanLift",
    "PlannedContacts",
    "PolicyVerdict",
    "measured_lift",
    "plan",
    "power",
]
_PLACES = {
    "AssumptionWarning": "lift_model:AssumptionWarning",
    "Campaign": "campaign:CampaignFolder",
    "ComparisonPower": "sample_size:ComparisonPower",
    "LiftModel": "lift_model:LiftModel",
    "PlanLift": "measuring:PlanLift",
    "PlannedContacts": "planning:PlannedContacts",
    "PolicyVerdict": "verdict:PolicyVerdict",
    "measured_lift": "measuring:measured_lift",
    "plan": "planning:plan",
    "power": "sample_size:power",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, defined = _PLACES[name].partition(":")
    value = getattr(import_module(f"hustings.experiments.api.{module}"), defined)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
