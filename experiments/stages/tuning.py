"""Searches of settings of all training halves; trials are logged to MLflow."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd

from hustings.experiments.report import trials_figure
from hustings.experiments.stages.context import Json, Run, slug
from hustings.experiments.stages.tracking import log_figure
from hustings.training.learners.registry import loss_steps
from hustings.training.registry.learn import Hours
from hustings.training.registry.track import log_settings, log_table, log_trials
from hustings.training.registry.tune import Search, Tuned

JOURNAL = "tuning.journal"


@dataclass
class Tunings:
    """Searches of one command, which share its time limit.

    Attributes:
        run: Declares time limit, number of trials and their storage.
        until: When no settings are tried any more, seconds since 1970.
        trials: A table of trials for each finished search, with experiment and half.
        notes: What a person has to know of them.
    """

    run: Run
    until: float = field(init=False)
    trials: list[pd.DataFrame] = field(default_factory=list, init=False)
    notes: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.until = time.time() + self.run.time_limit_s

    def hours(self, n_left: int) -> Hours:
        """Time for the next of some searches that follow each other."""
        return Hours(self.until, n_left)

    def search(self, experiment_id: str, half: str) -> Search:
        """The search for one training half, or "all"."""
        run = self.run
        return Search(
            f"{experiment_id}/{half}", loss_steps, run.model,
            run.tuning_storage or str(run.home / JOURNAL), run.n_trials,
            run.campaign.campaign.seed,
        )  # fmt: skip

    def progress(self, experiment_id: str) -> Callable[[object], None]:
        """Reports the trials of a search as they are finished."""
        run, n_tried = self.run, 0

        def on_trial(_trial: object) -> None:
            nonlocal n_tried
            n_tried += 1
            run.tell(f"tuning {experiment_id}", n_tried, run.n_trials)

        return on_trial

    def finished(self, tuned: Tuned, experiment_id: str, half: str) -> Json:
        """Log the trials of one search.

        Args:
            tuned: What came of it.
            experiment_id: Experiment of the half.
            half: Name of the half, or "all".

        Returns:
            The settings that stand.
        """
        run, name = self.run, f"{experiment_id}/{half}"
        tags = {"experiment": experiment_id, "half": half, "model": run.model}
        log_trials(tuned.trials, tuned.steps, tags)
        run.write(f"tuning/{slug(name)}", tuned.trials)
        run.write(f"tuning/{slug(name)}.steps", tuned.steps)
        labelled = tuned.trials.assign(experiment=experiment_id, half=half)
        self.trials.append(labelled[["experiment", "half", *tuned.trials]])
        if tuned.n_lacking:
            self.notes.append(
                f"experiment {experiment_id}: the search of settings ({half}) was cut "
                f"at the time limit of {run.time_limit_s:g} s with {tuned.n_lacking} "
                f"of {run.n_trials} trials to go; a faster machine may find others"
            )
        return dict(tuned.settings)

    def log(self, settings: Json) -> None:
        """Log the chosen settings, and all trials as one table and one figure.

        Args:
            settings: Settings by experiment and half.
        """
        several = len(settings) > 1
        for experiment_id, halves in settings.items():
            prefix = f"{slug(experiment_id)}__" if several else ""
            log_settings({f"{prefix}{k}": v for k, v in halves["all"].items()})
        trials = pd.concat(self.trials, ignore_index=True)
        log_table(trials, "trials.json")
        drawn = trials_figure(trials)
        if drawn is not None:
            log_figure(self.run, "trials", drawn)
