"""What every learner of the registry has to do, whichever it is."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hustings.features.message import MessageFeatures
from hustings.features.training_set import MessageTest
from hustings.training.learners.gbm import Prepared, prepare
from hustings.training.learners.lift_model import FittedLift, load_lift, save_lift
from hustings.training.learners.registry import LEARNERS, fit_lift, loss_steps

TREES = {
    "n_trees": 15, "learning_rate": 0.2, "num_leaves": 4, "min_child_samples": 50,
    "lambda_l2": 1.0,
}  # fmt: skip
QUICK: dict[str, dict[str, Any]] = {
    "stack": TREES, "linear": {}, "gbm": TREES,
    "net": {"n_members": 4, "n_hidden": 16, "n_vector": 4, "n_epochs": 15},
}  # fmt: skip
"""Settings that fit within seconds; a learner without any is not in the suite."""
DATA_ONLY = {".json", ".txt", ".safetensors"}
"""Files that nothing in runs when they are read."""


def bent(X: np.ndarray) -> np.ndarray:
    return np.column_stack([1.5 * X[:, 0], 1.0 + 0 * X[:, 0]])


def ready(test: MessageTest) -> Prepared:
    """The test prepared, its messages with texts of two numbers."""
    n = len(test.messages)
    told = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    texts = MessageFeatures(
        test.messages, ("issue",) * n, ("embedding_000", "log_words"), told
    )
    issue_of = dict.fromkeys(test.messages, "issue")
    return prepare(test, [], issue_of, seed=1, texts=texts)


@dataclass(frozen=True)
class Learnt:
    """A learner fitted to a planted test."""

    prepared: Prepared
    true: np.ndarray
    settings: dict[str, Any]
    model: FittedLift


@pytest.fixture(scope="module", params=sorted(LEARNERS))
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"model": request.param, **QUICK[request.param]}


@pytest.fixture(scope="module")
def learnt(planted: Callable, settings: dict[str, Any]) -> Learnt:
    test, true = planted(np.random.default_rng(1), n_households=2_500, lift=bent)
    prepared = ready(test)
    return Learnt(prepared, true, settings, fit_lift(prepared, settings, seed=1))


def test_a_learner_recovers_what_was_planted(learnt: Learnt) -> None:
    test, model = learnt.prepared.test, learnt.model
    constant = ((model.nuisances.effects.shrunken - learnt.true) ** 2).mean()
    for unit in (test.unit_id, None):
        lifts = model.predict(test.X, unit)
        assert ((lifts.lift - learnt.true) ** 2).mean() < 0.25 * constant
        assert np.isfinite(lifts.se).all()
        assert np.isfinite(lifts.baseline).all()


def test_a_saved_learner_predicts_the_same_and_holds_nothing_executable(
    learnt: Learnt, tmp_path: Path
) -> None:
    test = learnt.prepared.test
    save_lift(learnt.model, tmp_path)
    again = load_lift(tmp_path)
    for unit in (test.unit_id, None):
        for found, expected in zip(
            again.predict(test.X, unit), learnt.model.predict(test.X, unit),
            strict=True,
        ):  # fmt: skip
            np.testing.assert_array_equal(found, expected)
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert file.suffix in DATA_ONLY
        if file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix == ".txt":
            assert file.read_text().startswith("tree\nversion=")


def test_members_of_a_unit_meet_the_same_fit_wherever_they_are_seen(
    learnt: Learnt,
) -> None:
    test = learnt.prepared.test
    lift = learnt.model.predict(test.X, test.unit_id).lift
    order = np.random.default_rng(0).permutation(len(test.Y))[:500]
    again = learnt.model.predict(test.X[order], test.unit_id[order]).lift
    np.testing.assert_allclose(lift[order], again, atol=1e-5)


def test_missing_values_get_a_lift(learnt: Learnt) -> None:
    nothing = np.full((3, learnt.prepared.test.X.shape[1]), np.nan, np.float32)
    elsewhere = np.array(["x", "y", "z"], dtype=object)
    for found in learnt.model.predict(nothing, elsewhere):
        assert np.isfinite(found).all()


def test_the_held_out_loss_falls_where_there_is_heterogeneity(learnt: Learnt) -> None:
    losses = list(loss_steps(learnt.prepared, learnt.settings, hold=0, seed=1))
    assert losses[-1] < 0
    assert losses == list(loss_steps(learnt.prepared, learnt.settings, hold=0, seed=1))


def test_no_outcome_is_an_error(learnt: Learnt) -> None:
    test = learnt.prepared.test
    silent = replace(
        learnt.prepared, test=replace(test, Y=np.full(len(test.Y), np.nan))
    )
    with pytest.raises(ValueError, match="experiment planted: expected observed"):
        fit_lift(silent, learnt.settings, seed=1)


@pytest.mark.parametrize("n_messages", [1, 5])
def test_messages_nobody_got_are_no_reason_to_fail(
    planted: Callable, settings: dict[str, Any], n_messages: int
) -> None:
    test, _ = planted(
        np.random.default_rng(7), n_households=800,
        lift=lambda X: np.repeat(X[:, :1], n_messages, axis=1),
    )  # fmt: skip
    test = replace(test, arm=np.where(test.arm > 2, 0, test.arm))
    for found in fit_lift(ready(test), settings, seed=1).predict(test.X):
        assert np.isfinite(found).all()


def test_an_outcome_that_never_differs_gives_nobody_a_lift(
    planted: Callable, settings: dict[str, Any]
) -> None:
    test, _ = planted(np.random.default_rng(6), n_households=400)
    flat = replace(test, Y=np.full(len(test.Y), 3.0))
    lifts = fit_lift(ready(flat), settings, seed=1).predict(test.X, test.unit_id)
    assert np.abs(lifts.lift).max() < 1e-6


def test_an_unknown_learner_is_refused_with_the_known_ones(planted: Callable) -> None:
    test, _ = planted(np.random.default_rng(2), n_households=100)
    with pytest.raises(ValueError, match=r"expected one of .*linear.*, got 'oracle'"):
        fit_lift(ready(test), {"model": "oracle"}, seed=1)
