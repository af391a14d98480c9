"""Tune and fit one part of a test, in this process or in another."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from optuna.trial import FrozenTrial

from hustings.features.message import MessageFeatures
from hustings.features.training_set import MessageTest
from hustings.training.learners.gbm import Prepared, prepare
from hustings.training.learners.lift_model import FittedLift, save_lift
from hustings.training.learners.registry import fit_lift
from hustings.training.registry.tune import Search, Tuned, share_of_time, tune


class Hours(NamedTuple):
    """Time for the searches that one process makes one after the other.

    Attributes:
        until: When no settings are tried any more, seconds since 1970.
        n_left: Searches that share what is left, the next included.
    """

    until: float
    n_left: int

    def for_the_next(self) -> float:
        """Seconds for the next search."""
        return share_of_time(self.until - time.time(), 0.0, self.n_left)


@dataclass(frozen=True)
class Lesson:
    """What is learnt from, and how.

    Attributes:
        test: The part of the experiment, arms as sent.
        categorical: Columns of X that hold category codes.
        issue_of: Issue of every message.
        texts: What the messages say, for learners that read it.
        search: Of settings; its seed is that of folds and learner, too.
        hours: Of the search.
        n_workers: Processes of the search.
        folder: Where the fitted model is written.
    """

    test: MessageTest
    categorical: Sequence[int]
    issue_of: Mapping[str, str]
    texts: MessageFeatures | None
    search: Search
    hours: Hours
    n_workers: int
    folder: Path

    def prepared(self) -> Prepared:
        """Everything that does not depend on settings."""
        return prepare(
            self.test, self.categorical, self.issue_of, seed=self.search.seed,
            texts=self.texts,
        )  # fmt: skip


class Learnt(NamedTuple):
    """What came of a lesson.

    Attributes:
        prepared: The test with its nuisances.
        tuned: Settings and trials.
        model: Fitted with the settings.
    """

    prepared: Prepared
    tuned: Tuned
    model: FittedLift


def learn(
    lesson: Lesson, on_trial: Callable[[FrozenTrial], None] | None = None
) -> Learnt:
    """Tune, fit, and write the model to the lesson's folder.

    Args:
        lesson: What is learnt from.
        on_trial: Called with every trial that this process finishes.
    """
    prepared = lesson.prepared()
    tuned = tune(
        lesson.search, prepared, time_limit_s=lesson.hours.for_the_next(),
        n_workers=lesson.n_workers, remake=lesson.prepared, on_trial=on_trial,
    )  # fmt: skip
    model = fit_lift(prepared, tuned.settings, seed=lesson.search.seed)
    lesson.folder.mkdir(parents=True)
    save_lift(model, lesson.folder)
    return Learnt(prepared, tuned, model)


def learn_elsewhere(lesson: Lesson) -> Tuned:
    """`learn` for another process: the model is in its folder."""
    return learn(lesson).tuned
