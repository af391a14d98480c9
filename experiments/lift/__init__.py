"""Decisions + answers → measured lift with interval, predicted beside measured."""

from hustings.experiments.lift.files import measure
from hustings.experiments.lift.measured import MeasuredLift, measured_lift
from hustings.experiments.lift.rows import LiftTerms
from hustings.experiments.lift.summary import sentences

__all__ = ["LiftTerms", "MeasuredLift", "measure", "measured_lift", "sentences"]
