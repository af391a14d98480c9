"""Assignments + responses → measured lift with interval, predicted beside measured."""

from experiments.lift.files import measure
from experiments.lift.measured import MeasuredLift, measured_lift
from experiments.lift.rows import Day, LiftTerms
from experiments.lift.told import sentences

__all__ = ["Day", "LiftTerms", "MeasuredLift", "measure", "measured_lift", "sentences"]
