"""The protocol of lift models, and the variance of lift between voters."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from hustings.features.arrays import Floats, Floats32, Objects
from hustings.features.atomic import write_json
from hustings.training.learners.average_effects import Nuisances


class Lifts(NamedTuple):
    """Predictions; axis 0 is the voter, axis 1 the message.

    Attributes:
        lift: Outcome units, shape (n, M).
        se: Standard deviation of τ_m(x) around it, shape (n, M).
        baseline: Outcome without any message, shape (n,).
    """

    lift: Floats
    se: Floats
    baseline: Floats


class LiftModel(Protocol):
    """Protocol of lift models."""

    @property
    def nuisances(self) -> Nuisances:
        """Nuisances and average effects."""

    def predict(
        self,
        X: Floats32,
        unit_id: Objects | None = None,
    ) -> Lifts:
        """Lift, its standard deviation and the baseline outcome."""

    def save(self, folder: Path) -> None:
        """Write into an existing folder."""


def variance_between(model: LiftModel, X: Floats32, unit_id: Objects) -> Floats:
    """Variance of lift between voters by message, unseen part included, shape (M,).

    Args:
        model: A fitted model.
        X: Features of the voters that it was fitted on, shape (n, n_features).
        unit_id: Coarsest unit of every voter, shape (n,).
    """
    predicted = model.predict(X, unit_id)
    unsure = (predicted.se**2).mean(axis=0) - model.nuisances.effects.shrunken_se**2
    variance: Floats = predicted.lift.var(axis=0) + np.maximum(unsure, 0.0)
    return variance


# a network's library is imported only where a network is read
KINDS: Mapping[str, str] = {
    "StackLift": "hustings.training.learners.stack",
    "GbmLift": "hustings.training.learners.gbm",
    "CellLift": "hustings.training.learners.baselines",
    "NetLift": "hustings.training.learners.net",
    "UnseenLift": "hustings.training.learners.unseen",
    "ExpectedLift": "hustings.training.learners.unseen",
    "PartnerLift": "hustings.training.policy_value.partner",
}


KIND_FILE = "kind.json"


def save_lift(model: LiftModel, folder: Path) -> None:
    """Write a lift model and which kind it is into an existing folder."""
    model.save(folder)
    write_json(folder / KIND_FILE, type(model).__name__)


def load_lift(folder: Path) -> LiftModel:
    """Read what `save_lift` wrote.

    Raises:
        FileNotFoundError: If the folder holds no lift model.
    """
    path = folder / KIND_FILE
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a saved lift model, found none")
    kind = json.loads(path.read_text())
    model: LiftModel = getattr(import_module(KINDS[kind]), kind).load(folder)
    return model
