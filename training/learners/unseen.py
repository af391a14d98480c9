"""Lifts of messages that were never sent.

A message nobody was sent has no effect of its own yet. A learner that reads what
messages say predicts it from those that were sent (`NetLift.predict_new`), with the
interval of what texts leave open. Where others forecast effects, or earlier campaigns
measured them, its average effect is what they, the texts and the campaign's own tests
say together (`forecasts.expected_effects`), under any learner. Here it stands among
the messages of its experiment, so that scores, plan and endpoint offer it like any
other.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from hustings.features.arrays import Floats, Floats32, Objects
from hustings.features.atomic import write_json
from hustings.features.message import MessageFeatures
from hustings.training.learners.average_effects import Nuisances
from hustings.training.learners.lift_model import (
    FittedLift,
    Lifts,
    load_lift,
    save_lift,
)
from hustings.training.learners.net import NetLift

FILE = "unseen.json"
SENT = "sent"
"""Folder of the learner of the messages that were sent."""


@dataclass(frozen=True)
class UnseenLift:
    """A learner that reads texts, and messages it never saw sent.

    Attributes:
        sent: The learner.
        unseen: Messages of which its texts can tell something, k of them.
    """

    sent: NetLift
    unseen: MessageFeatures

    @property
    def nuisances(self) -> Nuisances:
        """The learner's, with the new messages last: no share of the design is theirs.

        Their average effects are what the texts say, with that deviation.
        """
        average = self.sent.average_of_new(self.unseen)
        return _with_new(self.sent.nuisances, self.unseen.ids, average.mean, average.se)

    def predict(self, X: Floats32, unit_id: Objects | None = None) -> Lifts:
        """Lift of every message for every voter, those never sent last.

        Args:
            X: Features, shape (n, n_features).
            unit_id: Coarsest unit of every voter, shape (n,); None for voters known
                to be new.
        """
        of_sent = self.sent.predict(X, unit_id)
        of_new = self.sent.predict_new(X, unit_id, self.unseen)
        return Lifts(
            np.hstack([of_sent.lift, of_new.lift]),
            np.hstack([of_sent.se, of_new.se]),
            of_sent.baseline,
        )

    def save(self, folder: Path) -> None:
        """Write into an existing folder."""
        self.sent.save(folder)
        stored = {
            "ids": self.unseen.ids,
            "issue": self.unseen.issue,
            "names": self.unseen.names,
            "matrix": self.unseen.matrix.tolist(),
        }
        write_json(folder / FILE, stored)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: If the folder lacks a part of it.
        """
        stored: Mapping[str, Any] = json.loads((folder / FILE).read_text())
        messages = MessageFeatures(
            tuple(stored["ids"]),
            tuple(stored["issue"]),
            tuple(stored["names"]),
            np.array(stored["matrix"], dtype=np.float32),
        )
        return cls(NetLift.load(folder), messages)


@dataclass(frozen=True)
class ExpectedLift:
    """A learner, and messages of which an average effect is expected.

    Attributes:
        sent: The learner, of any kind.
        ids: Messages that were never sent, length k.
        mean: Expected average effect of each, shape (k,).
        se: Its standard deviation, shape (k,).
    """

    sent: FittedLift
    ids: tuple[str, ...]
    mean: Floats
    se: Floats

    @property
    def nuisances(self) -> Nuisances:
        """The learner's, with the new messages last: no share of the design is theirs.

        Their average effects are the expected ones.
        """
        return _with_new(self.sent.nuisances, self.ids, self.mean, self.se)

    def predict(self, X: Floats32, unit_id: Objects | None = None) -> Lifts:
        """Lift of every message for every voter, those never sent last.

        A message never sent does the same for everybody, as far as is known; its
        interval holds what such lifts differ by between voters.

        Args:
            X: Features, shape (n, n_features).
            unit_id: Coarsest unit of every voter, shape (n,); None for voters known
                to be new.
        """
        of_sent = self.sent.predict(X, unit_id)
        average = self.sent.nuisances.effects
        off = of_sent.lift - average.shrunken
        between = off**2 + np.maximum(of_sent.se**2 - average.shrunken_se**2, 0.0)
        se = np.sqrt(self.se**2 + between.mean(axis=1, keepdims=True))
        least, most = self.sent.nuisances.outcome_range
        baseline = of_sent.baseline[:, None]
        lift = np.clip(self.mean, least - baseline, most - baseline)
        return Lifts(
            np.hstack([of_sent.lift, lift]),
            np.hstack([of_sent.se, se]),
            of_sent.baseline,
        )

    def save(self, folder: Path) -> None:
        """Write into an existing folder."""
        (folder / SENT).mkdir()
        save_lift(self.sent, folder / SENT)
        stored = {"ids": self.ids, "mean": self.mean.tolist(), "se": self.se.tolist()}
        write_json(folder / FILE, stored)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: If the folder lacks a part of it.
        """
        stored: Mapping[str, Any] = json.loads((folder / FILE).read_text())
        mean, se = np.array(stored["mean"]), np.array(stored["se"])
        return cls(load_lift(folder / SENT), tuple(stored["ids"]), mean, se)


def _with_new(
    nuisances: Nuisances, ids: tuple[str, ...], mean: Floats, se: Floats
) -> Nuisances:
    effects = nuisances.effects
    return replace(
        nuisances,
        messages=(*nuisances.messages, *ids),
        share=np.append(nuisances.share, np.zeros(len(ids))),
        effects=replace(
            effects,
            raw=np.append(effects.raw, mean),
            raw_se=np.append(effects.raw_se, se),
            shrunken=np.append(effects.shrunken, mean),
            shrunken_se=np.append(effects.shrunken_se, se),
        ),
    )


def why_not_answered(model: NetLift, messages: MessageFeatures) -> dict[str, str]:
    """Messages never sent that a learner says nothing of, with the reason.

    Args:
        model: Of an experiment.
        messages: Features of the messages, k of them.

    Returns:
        By message_id; a message it can predict is not in it.
    """
    average, prior = model.average_of_new(messages), model.prior
    reasons = {}
    for k, name in enumerate(messages.ids):
        if np.isfinite(average.mean[k]):
            continue
        if messages.issue[k] not in model.vocabulary.issues:
            reasons[name] = f"no message about {messages.issue[k]} was ever sent"
        elif not prior.test.passed:
            reasons[name] = "what messages say did not tell apart those held out"
        else:
            reasons[name] = "its text lies far from all that were sent"
    return reasons
