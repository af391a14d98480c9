from hustings.experiments.api.campaign import CampaignFolder as Campaign
from hustings.experiments.api.lift_model import AssumptionWarning as AssumptionWarning
from hustings.experiments.api.lift_model import LiftModel as LiftModel
from hustings.experiments.api.measuring import PlanLift as PlanLift
from hustings.experiments.api.measuring import measured_lift as measured_lift
from hustings.experiments.api.planning import PlannedContacts as PlannedContacts
from hustings.experiments.api.planning import plan as plan
from hustings.experiments.api.sample_size import ComparisonPower as ComparisonPower
from hustings.experiments.api.sample_size import power as power
from hustings.experiments.api.verdict import PolicyVerdict as PolicyVerdict

__version__: str
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
