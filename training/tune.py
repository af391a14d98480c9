"""Settings of the trees by Optuna: defaults first, pruned, resumable after a kill."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from training.gbm import DEFAULT_PARAMS, Prepared, r_loss_steps

ENOUGH_HELD = 40_000
"""Voters on which a trial is judged where there are so many: small tests need every
fold to tell settings apart, large ones do not. Never anybody of the judging half."""


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Attributes:
        params: Best settings.
        trials: One row per trial: number, value, state, duration_s and each setting.
    """

    params: Mapping[str, Any]
    trials: pd.DataFrame


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """The search space of the trees."""
    return {
        "n_trees": trial.suggest_int("n_trees", 10, 60, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.05, 0.3, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 3, 16, log=True),
        "min_child_samples": trial.suggest_int("min_child_samples", 50, 4000, log=True),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 1000.0, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.4, 1.0),
    }


def tune(
    prepared: Prepared,
    *,
    name: str,
    journal: Path | None,
    n_trials: int,
    time_limit_s: float,
    seed: int,
    on_trial: Callable[[optuna.trial.FrozenTrial], None] | None = None,
) -> Tuned:
    """Search the settings on held-out R-loss, the defaults as trial 0.

    Args:
        prepared: Training half; folds within it are held out in turn.
        name: Study; must name the data, since a study is resumed by it.
        journal: File that keeps the trials; None keeps them in memory.
        n_trials: Trials in all, those of an earlier, killed process included.
        time_limit_s: No trial starts after this long.
        seed: Sampler and trees.
        on_trial: Told of every finished trial.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _study(name, journal, seed)
    left = n_trials - sum(t.state.is_finished() for t in study.trials)

    def objective(trial: optuna.Trial) -> float:
        return _held_out_loss(trial, prepared, seed)

    callbacks = [lambda _, trial: on_trial(trial)] if on_trial else []
    if left > 0:
        study.optimize(
            objective, n_trials=left, timeout=time_limit_s, callbacks=callbacks
        )
    complete = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    params = study.best_params if complete else DEFAULT_PARAMS
    return Tuned(dict(params), _trials(study))


def _study(name: str, journal: Path | None, seed: int) -> optuna.Study:
    storage = None
    if journal is not None:
        journal.parent.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(journal)))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1)
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=pruner,
        direction="minimize",
        load_if_exists=True,
    )
    done = [t.params for t in study.trials if t.state.is_finished()]
    waiting = study.get_trials(states=[optuna.trial.TrialState.WAITING])
    if dict(DEFAULT_PARAMS) not in done and not waiting:
        study.enqueue_trial(dict(DEFAULT_PARAMS))
    # a resumed study must not repeat the draws of the process that died
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    return study


def _held_out_loss(trial: optuna.Trial, prepared: Prepared, seed: int) -> float:
    params, losses, step = suggest(trial), [], 0
    n_folds = int(prepared.fold.max()) + 1
    needed = -(-ENOUGH_HELD * n_folds // len(prepared.fold))
    for hold in range(min(needed, n_folds)):
        running = 0.0
        for running in r_loss_steps(prepared, params, hold=hold, seed=seed):
            trial.report(running, step)
            step += 1
            if trial.should_prune():
                raise optuna.TrialPruned
        losses.append(running)
    return sum(losses) / len(losses)


def _trials(study: optuna.Study) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "number": trial.number,
            "value": trial.value,
            "state": trial.state.name,
            "duration_s": trial.duration.total_seconds() if trial.duration else None,
            **trial.params,
        }
        for trial in study.trials
    )
