"""Decisions of the loop as the estimators of measured lift read them."""

import numpy as np

from hustings.experiments.loop.decisions import Audience, State
from hustings.features.arrays import Floats, Ints
from hustings.training.estimators.split import unit_folds
from hustings.training.learners.daily import Terms
from hustings.training.measured_lift import adaptive


def measurable(
    state: State, audience: Audience, repeats: str
) -> tuple[adaptive.Decisions, Ints]:
    """Decisions as the estimators read them, and the voter of each.

    Repeats teach by the declared rule; who never answers is missing, not absent.
    """
    made = state.decisions
    counted = np.ones(len(made), dtype=bool) if repeats == "each" else made.repeat == 0
    mine = made.take(counted)
    decisions = adaptive.Decisions(
        day=mine.day, arm=mine.arm, propensities=mine.design,
        Y=state.outcome[counted], cluster=audience.household[mine.voter],
        intended=mine.intended + 1,
    )  # fmt: skip
    return decisions, mine.voter


def predicted(
    decisions: adaptive.Decisions, audience: Audience, columns: Terms, voter: Ints
) -> tuple[Floats, Floats | None]:
    """Responses and chances to answer, by fits that saw neither household nor later."""
    X = audience.phi[voter][:, 1:][:, ~columns.product[1:]]
    fold = unit_folds(audience.household[voter].astype(object), 5, salt="measured")
    mu = adaptive.predicted_response(X, decisions, fold=fold)
    return mu, adaptive.observed_probability(X, decisions, fold=fold)
