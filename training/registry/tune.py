"""Settings of a learner by Optuna: defaults first, hopeless trials cut, resumable.

What is found depends on the number of trials and not on the machine: the time limit is
a safety net, and `Tuned.n_lacking` says where it cut the search.

Several processes may search together, on one journal file or one database; any of them
may be killed. The next process to search resumes its unfinished trial.
"""

import hashlib
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import optuna
import pandas as pd
from lightgbm.basic import LightGBMError
from optuna.storages import BaseStorage
from optuna.trial import BaseTrial, FrozenTrial, Trial, TrialState
from scipy import stats

from hustings.features.arrays import Floats
from hustings.training.learners.gbm import Prepared
from hustings.training.learners.registry import DEFAULTS
from hustings.training.registry.trials import beat, claim, give_up, is_dead, trials_at

MOST_RETRIES = 2
"""Settings that took their process down this often are not tried again."""
FOLDS = "fold_losses"
"""Attribute of a trial: its loss on each fold."""
TUNING_ALPHA = 0.05
"""Chance that settings that are worth no more replace the defaults."""
FAILURES = (ValueError, LightGBMError)
"""What ends a trial and not the search: settings that a learner cannot work with."""


class Loss(Protocol):
    """Held-out loss of settings on one fold, reported step by step."""

    def __call__(
        self,
        prepared: Prepared,
        settings: Mapping[str, Any],
        /,
        *,
        hold: int,
        seed: int,
    ) -> Iterator[float]:
        """Running mean of the loss on fold `hold`; below 0 is better than nothing."""
        ...  # fmt: skip


class Space(NamedTuple):
    """Settings of one kind of model.

    Attributes:
        suggest: Draws every setting but the kind of model itself.
        defaults: What is tried first; within the space.
    """

    suggest: Callable[[BaseTrial], dict[str, Any]]
    defaults: Mapping[str, Any]


def _trees(trial: BaseTrial) -> dict[str, Any]:
    return {
        "n_trees": trial.suggest_int("n_trees", 10, 60, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.05, 0.3, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 3, 16, log=True),
        "min_child_samples": trial.suggest_int("min_child_samples", 50, 4000, log=True),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 1000.0, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.4, 1.0),
    }


def _linear(trial: BaseTrial) -> dict[str, Any]:
    return {
        "screen": trial.suggest_float("screen", -0.5, 2.0),
        "order": trial.suggest_int("order", 1, 3),
    }


def _towers(trial: BaseTrial) -> dict[str, Any]:
    return {
        "n_hidden": trial.suggest_int("n_hidden", 8, 64, log=True),
        "n_vector": trial.suggest_int("n_vector", 2, 16, log=True),
        "n_epochs": trial.suggest_int("n_epochs", 3, 12),
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 1e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-3, 0.3, log=True),
    }


def _stack(trial: BaseTrial) -> dict[str, Any]:
    return {**_linear(trial), **_trees(trial)}


def _within(defaults: Mapping[str, Any], *fixed: str) -> dict[str, Any]:
    """Defaults of what is searched; the rest is fixed."""
    return {name: value for name, value in defaults.items() if name not in fixed}


SPACES: Mapping[str, Space] = {
    "stack": Space(_stack, _within(DEFAULTS["stack"], "max_columns")),
    "linear": Space(_linear, _within(DEFAULTS["linear"], "max_columns")),
    "gbm": Space(_trees, DEFAULTS["gbm"]),
    "net": Space(_towers, _within(DEFAULTS["net"], "n_members")),
}
"""By the kind of model, as settings name it under "model"."""


@dataclass(frozen=True)
class Search:
    """A search of settings, which can be handed to another process.

    Attributes:
        name: Of the data; the study's name adds what else its losses depend on.
        loss: Of settings, on a held-out fold; a function of a module.
        model: Kind of model, one of `SPACES`.
        storage: As `open_trials` takes it.
        n_trials: Trials in all, those of earlier and other processes included; with
            one the defaults are taken, and nothing is tried.
        seed: Sampler and learner.
    """

    name: str
    loss: Loss
    model: str = "stack"
    storage: str | None = None
    n_trials: int = 6
    seed: int = 0

    @property
    def space(self) -> Space:
        """Search space of the kind of model.

        Raises:
            ValueError: If there is no such kind.
        """
        if self.model not in SPACES:
            raise ValueError(
                f"model: expected one of {', '.join(SPACES)}, got {self.model!r}"
            )
        return SPACES[self.model]


@dataclass(frozen=True)
class Tuned:
    """Result of a tuning.

    Attributes:
        settings: With "model": the best, where it gains more over the defaults than
            chance would, else the defaults.
        trials: One row per trial: number, value, state, reason (why it was pruned,
            failed or cut short), started_at, duration_s, each setting, and whether
            its settings are taken.
        steps: Running held-out loss of every trial: number, step, loss.
        n_lacking: Trials asked for that the time did not allow.
    """

    settings: Mapping[str, Any]
    trials: pd.DataFrame
    steps: pd.DataFrame
    n_lacking: int


class TuningError(RuntimeError):
    """No settings could be tried to the end."""


def tune(
    search: Search,
    prepared: Prepared,
    *,
    time_limit_s: float,
    n_workers: int = 1,
    remake: Callable[[], Prepared] | None = None,
    on_trial: Callable[[FrozenTrial], None] | None = None,
) -> Tuned:
    """Search the settings on held-out loss, the defaults as trial 0.

    Args:
        search: What is searched.
        prepared: Training half; folds within it are held out in turn.
        time_limit_s: No trial starts after this long, and one that runs is cut short
            at its next step, to be taken up by the next call.
        n_workers: Processes; each may finish one trial more than asked for.
        remake: Makes `prepared` in another process; needed for several workers.
        on_trial: Told of every trial that this process finishes.

    Raises:
        ValueError: If there is no such model, or several workers share nothing.
        TuningError: If every trial failed, with what the first one said.
    """
    if search.n_trials == 1:  # the defaults, whatever they lose
        return Tuned({"model": search.model, **search.space.defaults}, *_NOTHING, 0)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    until = time.monotonic() + time_limit_s
    name = study_name(search, prepared)
    helpers = _helpers(name, search, n_workers, remake, time.time() + time_limit_s)
    with trials_at(search.storage) as storage:
        study = _study(name, storage)
        _work(study, search, prepared, until, on_trial)
        for helper in helpers:
            helper.join()
        # what a helper that died had begun
        _work(study, search, prepared, until, on_trial)
        return _tuned(study, search)


def share_of_time(total_s: float, spent_s: float, n_left: int) -> float:
    """Seconds for the next of several tunings: what is left, in equal parts.

    Args:
        total_s: For all tunings.
        spent_s: By those that are done.
        n_left: Tunings that are not done, the next included.

    >>> share_of_time(120.0, 30.0, 3)
    30.0
    """
    return max(total_s - spent_s, 0.0) / n_left


def _tuned(study: optuna.Study, search: Search) -> Tuned:
    complete = study.get_trials(states=[TrialState.COMPLETE])
    failed = [t for t in study.trials if "error" in t.user_attrs]
    if failed and not complete:
        raise TuningError(
            f"{search.name}: expected settings of {search.model!r} that can be tried, "
            f"but all {len(failed)} trials failed; the first said: "
            f"{failed[0].user_attrs['error']}"
        )
    stands = _taken(study.trials, search)
    settings = {
        "model": search.model,
        **(search.space.defaults if stands is None else stands.params),
    }
    trials = _trials(study)
    number = -1 if stands is None else stands.number
    n_tried = sum(_is_over(trial) for trial in study.trials)
    return Tuned(
        settings,
        trials.assign(taken=trials["number"] == number),
        _steps(study),
        max(search.n_trials - n_tried, 0),
    )


def _taken(trials: Sequence[FrozenTrial], search: Search) -> FrozenTrial | None:
    """The best of the trials that beat the defaults by more than noise would.

    Losses of both are compared fold by fold, and the level is shared by all trials that
    are asked for: of many settings that are worth the same one always looks best. Where
    the defaults cannot be worked with, the best is taken.

    Args:
        trials: Of all states.
        search: What was searched.

    Returns:
        The trial of the best or of the defaults; None where the defaults stay without
        a trial of their own.
    """
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    default = _default(complete, search)
    if default is None:
        has_failed = any(
            "error" in t.user_attrs and t.params == dict(search.space.defaults)
            for t in trials
        )
        return min(complete, key=_value, default=None) if has_failed else None
    losses = default.user_attrs[FOLDS]
    needed = _needed(trials, search, len(losses))
    better = [
        t for t in complete
        if most_certain(np.subtract(losses, t.user_attrs[FOLDS]), len(losses)) > needed
    ]  # fmt: skip
    return min(better, key=_value, default=default)


def _value(trial: FrozenTrial) -> float:
    return float(trial.value or 0.0)


def _default(complete: Sequence[FrozenTrial], search: Search) -> FrozenTrial | None:
    """The trial of the defaults, which has another number when it is repeated."""
    defaults = dict(search.space.defaults)
    return next((t for t in complete if t.params == defaults), None)


def _needed(trials: Sequence[FrozenTrial], search: Search, n_folds: int) -> float:
    """How many standard errors settings have to gain over the defaults."""
    n_tried = max(search.n_trials, sum(_counts(trial) for trial in trials))
    if n_tried < 2 or n_folds < 2:
        return math.inf
    return float(stats.t.isf(TUNING_ALPHA / (n_tried - 1), n_folds - 1))


def most_certain(gains: Floats, n_folds: int) -> float:
    """The most standard errors that a mean gain can be above 0, some folds unknown.

    Whatever the folds that are not known gain: their best is to gain the same, as much
    as makes the ratio largest.

    Args:
        gains: Over the defaults, of the folds that are known, shape (k,), k at least 1.
        n_folds: Folds in all.

    >>> round(most_certain(np.array([-0.1]), 4), 6)
    3.0
    >>> round(most_certain(np.array([1.0, 2.0, 3.0, 4.0]), 4), 4)
    3.873
    """
    k, mean = len(gains), float(np.mean(gains))
    unknown = (n_folds - k) / k
    if mean <= 0:
        return math.sqrt((n_folds - 1) * unknown)
    spread = float(((gains - mean) ** 2).sum())
    if spread <= 0:
        return math.inf
    return math.sqrt((n_folds - 1) * (n_folds * mean**2 / spread + unknown))


# --- the study ---


def _study(name: str, storage: BaseStorage) -> optuna.Study:
    # trials are compared with the defaults alone: others may come in any order
    return optuna.create_study(
        study_name=name,
        storage=storage,
        pruner=optuna.pruners.NopPruner(),
        direction="minimize",
        load_if_exists=True,
    )


def study_name(search: Search, prepared: Prepared) -> str:
    """Name with a digest of all that a loss depends on.

    A study is resumed by its name: a loss on other data, in another space or by other
    code must never be compared with these.
    """
    digest = hashlib.sha256()
    test = prepared.test
    for array in (test.X, test.Y, test.arm, test.propensities, prepared.fold):
        digest.update(np.ascontiguousarray(array).tobytes())
    drawn = optuna.trial.FixedTrial(dict(search.space.defaults))
    search.space.suggest(drawn)
    digest.update(repr(sorted(drawn.distributions.items())).encode())
    for source in sorted(Path(__file__).resolve().parents[1].rglob("*.py")):
        digest.update(source.read_bytes())
    return f"{search.name}-{search.model}-{search.seed}-{digest.hexdigest()[:16]}"


def _work(
    study: optuna.Study,
    search: Search,
    prepared: Prepared,
    until: float,
    on_trial: Callable[[FrozenTrial], None] | None = None,
) -> None:
    """Try settings until enough were tried or the time is over."""
    while time.monotonic() < until:
        _take_up_the_dead(study, search)
        if sum(_counts(trial) for trial in study.trials) >= search.n_trials:
            return
        trial = study.ask()
        claim(trial)
        _try(study, trial, search, prepared, until)
        if on_trial is not None:
            on_trial(study.trials[trial.number])


def _counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those asked for: not one that is tried again."""
    if trial.state == TrialState.FAIL:
        return "error" in trial.user_attrs
    return trial.state != TrialState.WAITING


def _is_over(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those asked for that nobody works on any more."""
    return _counts(trial) and trial.state != TrialState.RUNNING


def _take_up_the_dead(study: optuna.Study, search: Search) -> None:
    now = time.time()
    for trial in study.trials:
        if is_dead(trial, now=now) and give_up(study, trial):
            retries = int(trial.user_attrs.get("retries", 0))
            if retries < MOST_RETRIES:
                _again(study, search, trial, retries=retries + 1)


def _again(
    study: optuna.Study, search: Search, trial: FrozenTrial, *, retries: int
) -> None:
    """The same settings as a new trial, as far as they were drawn."""
    given = trial.system_attrs.get("fixed_params", {})
    first = search.space.defaults if trial.number == 0 else {}
    notes = {"retries": retries, "retry_of": trial.number}
    study.enqueue_trial({**first, **given, **trial.params}, user_attrs=notes)


class _TimeUpError(Exception):
    """The time is over."""


def _try(
    study: optuna.Study,
    trial: Trial,
    search: Search,
    prepared: Prepared,
    until: float,
) -> None:
    """One trial to its end, whichever it is, and why."""
    try:
        value = _held_out_loss(study, trial, search, prepared, until)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except optuna.exceptions.UpdateFinishedTrialError:
        # thought dead, and taken up by another
        return
    except _TimeUpError:
        frozen = study.trials[trial.number]
        trial.set_user_attr("reason", "the time was over; to be taken up again")
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        _again(study, search, frozen, retries=int(frozen.user_attrs.get("retries", 0)))
    except FAILURES as failure:
        trial.set_user_attr("error", f"{type(failure).__name__}: {failure}")
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
    else:
        study.tell(trial, value, skip_if_finished=True)


def _held_out_loss(
    study: optuna.Study,
    trial: Trial,
    search: Search,
    prepared: Prepared,
    until: float,
) -> float:
    settings = _drawn(study, trial, search)
    losses: list[float] = []
    step = 0
    n_folds = int(prepared.fold.max()) + 1
    for hold in range(n_folds):
        running = math.nan
        for running in search.loss(prepared, settings, hold=hold, seed=search.seed):
            if not math.isfinite(running):
                raise ValueError(
                    f"expected a finite loss, got {running} at step {step}"
                )
            # folds differ more than settings do: their mean is what is compared
            trial.report((sum(losses) + running) / (len(losses) + 1), step)
            beat(trial)
            if time.monotonic() > until:
                raise _TimeUpError
            step += 1
        losses.append(running)
        why = _why_hopeless(study, search, losses, n_folds)
        if why:
            trial.set_user_attr("reason", why)
            raise optuna.TrialPruned
    trial.set_user_attr(FOLDS, losses)
    return sum(losses) / len(losses)


def _why_hopeless(
    study: optuna.Study, search: Search, losses: Sequence[float], n_folds: int
) -> str:
    """Why settings cannot replace the defaults, whatever is left; empty if they may."""
    k = len(losses)
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    default = _default(complete, search)
    if k == n_folds or default is None:
        return ""
    gains = np.subtract(default.user_attrs[FOLDS][:k], losses)
    needed = _needed(study.get_trials(deepcopy=False), search, n_folds)
    if most_certain(gains, n_folds) > needed:
        return ""
    return (
        f"gained {float(np.mean(gains)):+.6f} over the defaults on {k} of {n_folds} "
        "folds: whatever the others gain, it may be noise"
    )


def _drawn(study: optuna.Study, trial: Trial, search: Search) -> dict[str, Any]:
    """Settings of a trial, by its number and what was found before it.

    So a search that was cut off draws what it would have drawn, and two processes
    never draw the same.
    """
    if trial.number == 0:
        study.sampler = _Defaults(search.space.defaults)
    else:
        seed = np.random.SeedSequence([search.seed, trial.number]).generate_state(1)
        study.sampler = optuna.samplers.TPESampler(seed=int(seed[0]))
    return {"model": search.model, **search.space.suggest(trial)}


class _Defaults(optuna.samplers.BaseSampler):
    """Draws the defaults: trial 0 has them whichever process comes to it."""

    def __init__(self, defaults: Mapping[str, Any]) -> None:
        self._defaults = dict(defaults)

    def infer_relative_search_space(self, *_: Any) -> dict[str, Any]:
        """Nothing is drawn together."""
        return {}

    def sample_relative(self, *_: Any) -> dict[str, Any]:
        """Nothing is drawn together."""
        return {}

    def sample_independent(
        self, _study: optuna.Study, _trial: FrozenTrial, name: str, _space: Any
    ) -> Any:
        """The default of a setting."""
        return self._defaults[name]


# --- several processes ---


def _helpers(
    name: str,
    search: Search,
    n_workers: int,
    remake: Callable[[], Prepared] | None,
    until: float,
) -> list[BaseProcess]:
    if n_workers == 1:
        return []
    if remake is None or search.storage is None:
        raise ValueError(
            f"{n_workers} workers: expected a storage that they share and a way to "
            f"remake the data, got storage={search.storage!r}, remake={remake!r}"
        )
    # spawned: a fork would inherit OpenMP's threads, which do not survive it
    context = multiprocessing.get_context("spawn")
    task = (name, search, remake, until)
    helpers: list[BaseProcess] = [
        context.Process(target=_help, args=task, daemon=True)
        for _ in range(n_workers - 1)
    ]
    for helper in helpers:
        helper.start()
    return helpers


def _help(
    name: str, search: Search, remake: Callable[[], Prepared], until: float
) -> None:
    """Run trials in another process, until a time of day."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    prepared = remake()
    until_here = time.monotonic() + until - time.time()
    with trials_at(search.storage) as storage:
        _work(_study(name, storage), search, prepared, until_here)


# --- what came out ---


_TOLD = ("number", "value", "state", "reason", "started_at", "duration_s")


def _trials(study: optuna.Study) -> pd.DataFrame:
    rows = [
        {
            "number": trial.number,
            "value": trial.value,
            "state": trial.state.name,
            "reason": _reason(trial),
            "started_at": _in_utc(trial),
            "duration_s": trial.duration.total_seconds() if trial.duration else None,
            **trial.params,
        }
        for trial in study.trials
    ]
    # a search that began no trial has a table, too
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(_TOLD))


def _reason(trial: FrozenTrial) -> str:
    reason = trial.user_attrs.get("error") or trial.user_attrs.get("reason")
    if reason:
        return str(reason)
    return "its process died" if trial.state == TrialState.FAIL else ""


def _in_utc(trial: FrozenTrial) -> pd.Timestamp | None:
    if trial.datetime_start is None:
        return None
    # Optuna writes local time without saying so
    return pd.Timestamp(trial.datetime_start.timestamp(), unit="s", tz="UTC")


_NOTHING = (
    pd.DataFrame(columns=[*_TOLD, "taken"]),
    pd.DataFrame(columns=["number", "step", "loss"]),
)
"""Trials and steps of a search that has nothing to compare."""


def _steps(study: optuna.Study) -> pd.DataFrame:
    rows = [
        (trial.number, step, loss)
        for trial in study.trials
        for step, loss in sorted(trial.intermediate_values.items())
    ]
    return pd.DataFrame(rows, columns=["number", "step", "loss"])
