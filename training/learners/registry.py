"""Learners by name: settings say which one fits a test, and how.

`fit_lift` is the one way from a prepared test to a lift model; `loss_steps` tells how
well settings predict voters that were held out, for tuning.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from hustings.features.arrays import Floats
from hustings.training.estimators.metrics import weighted_rows
from hustings.training.learners.arm_trees import DEFAULT_ARM_TREES, fit_arm_trees
from hustings.training.learners.gbm import (
    DEFAULT_PARAMS,
    Prepared,
    fit_gbm,
    r_loss_steps,
)
from hustings.training.learners.lift_model import FittedLift
from hustings.training.learners.linear import DEFAULT_LINEAR
from hustings.training.learners.stack import MOST, fit_stack, linear_part
from hustings.training.learners.towers import DEFAULT_PARAMS as DEFAULT_TOWERS

DEFAULT_MODEL = "stack"


def _fit_gbm(
    prepared: Prepared, settings: Mapping[str, Any], *, seed: int
) -> FittedLift:
    return fit_gbm(prepared, {**DEFAULT_PARAMS, **settings}, seed=seed)


def _fit_linear(
    prepared: Prepared, settings: Mapping[str, Any], *, seed: int
) -> FittedLift:
    return fit_stack(prepared, {**settings, "trees": False}, seed=seed)


def _fit_net(
    prepared: Prepared, settings: Mapping[str, Any], *, seed: int
) -> FittedLift:
    if prepared.texts is None:
        raise ValueError(
            "model 'net' reads what messages say: expected their features "
            "(`prepare(..., texts=message_features(messages))`), got none"
        )
    # its library is slow to import
    from hustings.training.learners.net import fit_net

    return fit_net(prepared, prepared.texts, settings, seed=seed)


LEARNERS: Mapping[str, Callable[..., FittedLift]] = {
    "stack": fit_stack,
    "linear": _fit_linear,
    "gbm": _fit_gbm,
    "net": _fit_net,
}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "stack": {**DEFAULT_LINEAR, **DEFAULT_ARM_TREES},
    "linear": DEFAULT_LINEAR,
    "gbm": DEFAULT_PARAMS,
    "net": DEFAULT_TOWERS,
}
"""Settings of each learner where nothing is tuned."""


def fit_lift(
    prepared: Prepared, settings: Mapping[str, Any], *, seed: int
) -> FittedLift:
    """Fit the learner that the settings name.

    Args:
        prepared: The test.
        settings: `model`, one of `LEARNERS`, and its own settings; defaults for what
            is not named.
        seed: For everything that draws.

    Raises:
        ValueError: If there is no such learner, or no outcome was observed.
    """
    name = str(settings.get("model", DEFAULT_MODEL))
    if name not in LEARNERS:
        raise ValueError(f"model: expected one of {', '.join(LEARNERS)}, got {name!r}")
    if not prepared.test.observed.any():
        raise ValueError(
            f"experiment {prepared.test.experiment_id}: expected observed outcomes, "
            "got none"
        )
    learner_settings = {k: v for k, v in settings.items() if k != "model"}
    return LEARNERS[name](prepared, learner_settings, seed=seed)


def loss_steps(
    prepared: Prepared, settings: Mapping[str, Any], *, hold: int, seed: int
) -> Iterator[float]:
    """Held-out loss relative to no heterogeneity: below 0 is better than nothing.

    Yields running values, the last of which is the loss on fold `hold` by what was
    fitted on the other folds, so that a hopeless trial can be stopped.

    Args:
        prepared: The test.
        settings: As in `fit_lift`.
        hold: Fold that is held out.
        seed: For everything that draws.
    """
    learner_settings = {k: v for k, v in settings.items() if k != "model"}
    name = settings.get("model", DEFAULT_MODEL)
    if name == "net":
        yield _net_loss(prepared, learner_settings, hold=hold, seed=seed)
        return
    if name == "gbm":
        yield from r_loss_steps(
            prepared, {**DEFAULT_PARAMS, **learner_settings}, hold=hold, seed=seed
        )
        return
    linear = _linear_loss(prepared, learner_settings, hold=hold)
    yield linear
    if name == "stack":
        # the two are weighed later: each is tuned by itself, their losses added
        yield linear + _arm_tree_loss(prepared, learner_settings, hold=hold, seed=seed)


def _arm_tree_loss(
    prepared: Prepared, settings: Mapping[str, Any], *, hold: int, seed: int
) -> float:
    """Held-out loss of the arm trees, at their best scale."""
    tree_settings = {k: settings.get(k, v) for k, v in DEFAULT_ARM_TREES.items()}
    held_out = prepared.fold == hold
    test = prepared.test.take(held_out)
    _, deviation = fit_arm_trees(prepared, tree_settings, seed=seed, only=hold)
    h = weighted_rows(deviation, test.survey_weight)
    L = weighted_rows(prepared.lift[held_out], test.survey_weight)
    precision = 1.0 / np.maximum(L.var(axis=0), 1e-300)
    norm = float((precision * h * h).sum())
    scale = float((precision * h * L).sum()) / norm if norm > 0 else 0.0
    return _relative_loss(L, h * min(max(scale, 0.0), MOST), None)


def _linear_loss(
    prepared: Prepared, settings: Mapping[str, Any], *, hold: int
) -> float:
    """Relative squared error of held-out scores, messages weighted by precision."""
    test = prepared.test
    linear = linear_part(prepared, settings, only=hold)
    held_out = prepared.fold == hold
    deviation = linear.deviation(test.X[held_out], None)
    return _relative_loss(
        prepared.lift[held_out], deviation, test.take(held_out).survey_weight
    )


def _net_loss(
    prepared: Prepared, settings: Mapping[str, Any], *, hold: int, seed: int
) -> float:
    """Held-out loss of the network."""
    model = _fit_net(prepared, settings, seed=seed)
    held_out = prepared.fold == hold
    test = prepared.test
    lift = model.predict(test.X[held_out], test.unit_id[held_out]).lift
    survey = test.take(held_out).survey_weight
    deviation = lift - np.average(lift, axis=0, weights=survey)
    return _relative_loss(prepared.lift[held_out], deviation, survey)


def _relative_loss(lift: Floats, deviation: Floats, survey: Floats | None) -> float:
    lift, deviation = weighted_rows(lift, survey), weighted_rows(deviation, survey)
    precision = 1.0 / np.maximum(lift.var(axis=0), 1e-300)
    none = float((precision * lift**2).sum())
    return float((precision * ((lift - deviation) ** 2 - lift**2)).sum()) / none
