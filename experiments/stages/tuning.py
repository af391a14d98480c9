"""Tuning of all training halves within one time limit; trials are logged to MLflow."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd

from hustings.experiments.report import trials_figure
from hustings.experiments.stages.context import Json, Run, slug
from hustings.experiments.stages.tracking import log_figure
from hustings.training.learners.gbm import Prepared
from hustings.training.learners.registry import loss_steps
from hustings.training.registry.track import log_settings, log_table, log_trials
from hustings.training.registry.tune import Search, share_of_time, tune

JOURNAL = "tuning.journal"


@dataclass
class Tunings:
    """Tunings of one command, run one after the other within its time limit.

    Attributes:
        run: Declares time limit, number of trials and their storage.
        n_left: Tunings still to run.
        spent_s: Seconds that the finished tunings took.
        trials: A table of trials for each finished tuning, with experiment and half.
    """

    run: Run
    n_left: int
    spent_s: float = field(default=0.0, init=False)
    trials: list[pd.DataFrame] = field(default_factory=list, init=False)

    def tuned(
        self,
        prepared: Prepared,
        remake: Callable[[], Prepared],
        experiment_id: str,
        half: str,
    ) -> Json:
        """Search the best settings of one training half and log its trials.

        Args:
            prepared: The prepared training half.
            remake: Prepares the half again in another process.
            experiment_id: Experiment of the half.
            half: Name of the half, or "all".
        """
        run, began = self.run, time.monotonic()
        limit_s = share_of_time(run.time_limit_s, self.spent_s, self.n_left)
        name, n_tried = f"{experiment_id}/{half}", 0

        def on_trial(_trial: object) -> None:
            nonlocal n_tried
            n_tried += 1
            run.tell(f"tuning {name}", n_tried, run.n_trials)

        search = Search(
            name, loss_steps, run.model, run.tuning_storage or str(run.home / JOURNAL),
            run.n_trials, run.campaign.campaign.seed,
        )  # fmt: skip
        search_result = tune(
            search, prepared, time_limit_s=limit_s, n_workers=run.n_workers,
            remake=remake, on_trial=on_trial,
        )  # fmt: skip
        self.spent_s += time.monotonic() - began
        self.n_left -= 1
        tags = {"experiment": experiment_id, "half": half, "model": run.model}
        log_trials(search_result.trials, search_result.steps, tags)
        run.write(f"tuning/{slug(name)}", search_result.trials)
        run.write(f"tuning/{slug(name)}.steps", search_result.steps)
        labelled = search_result.trials.assign(experiment=experiment_id, half=half)
        self.trials.append(labelled[["experiment", "half", *search_result.trials]])
        return dict(search_result.settings)

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
