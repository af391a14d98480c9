"""Decisions + answers → measured lift with interval, compared with the prediction."""

from hustings.experiments.lift.files import LIFT_TABLE, measure
from hustings.experiments.lift.measured import MeasuredLift, measured_lift
from hustings.experiments.lift.rows import LiftSettings
from hustings.experiments.lift.summary import sentences

__all__ = [
    "LIFT_TABLE",
    "LiftSettings",
    "MeasuredLift",
    "measure",
    "measured_lift",
    "sentences",
]
