"""Settings are searched from the defaults on, and a killed search goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from training import tune as module
from training.gbm import DEFAULT_PARAMS, Prepared, prepare
from training.tune import Tuned, suggest, tune


@pytest.fixture(scope="module")
def prepared(planted: Callable) -> Prepared:
    test, _ = planted(
        np.random.default_rng(1), n_households=1_000,
        lift=lambda X: np.column_stack([X[:, 0], 0 * X[:, 0]]),
    )  # fmt: skip
    return prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)


def tuned(prepared: Prepared, **changed: Any) -> Tuned:
    asked = {
        "name": "half0", "journal": None, "n_trials": 4, "time_limit_s": 600.0,
        "seed": 1, **changed,
    }  # fmt: skip
    return tune(prepared, **asked)


def settings_of(trials: pd.DataFrame) -> pd.DataFrame:
    return trials[["number", "value", "state", *DEFAULT_PARAMS]]


@pytest.fixture(scope="module")
def found(prepared: Prepared) -> Tuned:
    return tuned(prepared, n_trials=12)


def test_the_first_trial_is_the_defaults(found: Tuned) -> None:
    first = found.trials.iloc[0]
    assert first["number"] == 0
    assert first["state"] == "COMPLETE"
    assert {name: first[name] for name in DEFAULT_PARAMS} == dict(DEFAULT_PARAMS)


def test_the_defaults_lie_within_the_search_space() -> None:
    trial = optuna.trial.FixedTrial(dict(DEFAULT_PARAMS))
    assert suggest(trial) == dict(DEFAULT_PARAMS)


def test_the_best_of_what_was_tried_in_full_is_taken(found: Tuned) -> None:
    assert len(found.trials) == 12
    complete = found.trials[found.trials["state"] == "COMPLETE"]
    best = complete.loc[complete["value"].idxmin()]
    assert {name: best[name] for name in DEFAULT_PARAMS} == dict(found.params)
    assert best["value"] <= found.trials.loc[0, "value"] < 0


def test_hopeless_trials_are_cut_short(found: Tuned) -> None:
    states = found.trials["state"].value_counts()
    assert states["PRUNED"] >= 1
    assert states["COMPLETE"] >= 4
    assert set(states.index) == {"PRUNED", "COMPLETE"}


def test_the_same_seed_tries_the_same_settings(
    prepared: Prepared, found: Tuned
) -> None:
    again = tuned(prepared, n_trials=5)
    pd.testing.assert_frame_equal(
        settings_of(again.trials), settings_of(found.trials.head(5))
    )
    other = tuned(prepared, n_trials=2, seed=2)
    assert other.trials.loc[1, "num_leaves":].tolist() != (
        found.trials.loc[1, "num_leaves":].tolist()
    )


def test_a_search_goes_on_where_it_was_cut_off(
    prepared: Prepared, tmp_path: Path
) -> None:
    """Three trials, then a call for six: the same three, and three more."""
    journal = tmp_path / "new folder" / "tuning.journal"
    told: list[int] = []

    def on_trial(trial: optuna.trial.FrozenTrial) -> None:
        told.append(trial.number)

    first = tuned(prepared, journal=journal, n_trials=3)
    second = tuned(prepared, journal=journal, n_trials=6, on_trial=on_trial)
    pd.testing.assert_frame_equal(first.trials, second.trials.head(3))
    assert second.trials["number"].tolist() == [0, 1, 2, 3, 4, 5]
    assert told == [3, 4, 5]
    drawn = second.trials[list(DEFAULT_PARAMS)].round(9)
    assert not drawn.duplicated().any()
    third = tuned(prepared, journal=journal, n_trials=6, on_trial=on_trial)
    pd.testing.assert_frame_equal(second.trials, third.trials)
    assert third.params == second.params
    assert len(told) == 3
    # another study in the same file begins anew
    assert len(tuned(prepared, journal=journal, n_trials=1, name="half1").trials) == 1


def test_the_defaults_are_tried_even_where_the_first_process_died_on_them(
    prepared: Prepared, tmp_path: Path
) -> None:
    journal = tmp_path / "tuning.journal"
    study = module._study("half0", journal, 1)
    study.ask()  # trial 0 runs, and nobody will ever tell how it ended
    found = tuned(prepared, journal=journal, n_trials=3)
    complete = found.trials[found.trials["state"].isin(["COMPLETE", "PRUNED"])]
    assert len(complete) == 3
    tried = complete[list(DEFAULT_PARAMS)].to_dict("records")
    assert dict(DEFAULT_PARAMS) in tried


def test_no_trial_starts_after_the_time_limit(prepared: Prepared) -> None:
    found = tuned(prepared, n_trials=50, time_limit_s=0.2)
    assert 1 <= len(found.trials) < 50
    nothing = tuned(prepared, n_trials=5, time_limit_s=0.0)
    assert len(nothing.trials[nothing.trials["state"] != "WAITING"]) == 0
    assert nothing.params == dict(DEFAULT_PARAMS)
