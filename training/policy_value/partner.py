"""A partner's delivered lifts as a lift model, valued like any other model.

The lifts are columns `partner__<provider>__<message>` of the voters; a voter or message
without a delivered lift gets the average effect of the message.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from hustings.features.arrays import Bools, Floats, Floats32, Objects
from hustings.features.atomic import write_json
from hustings.features.partner import lift_column, width_column
from hustings.features.training_set import MessageTest
from hustings.training.estimators.metrics import Z95, Interval
from hustings.training.learners.average_effects import Nuisances
from hustings.training.learners.gbm import Prepared
from hustings.training.learners.lift_model import Lifts
from hustings.training.policy_value.gate import GATE_ALPHA, is_above_zero
from hustings.training.policy_value.held_out_halves import (
    BASELINES,
    Comparator,
    Contender,
)
from hustings.training.policy_value.policies import PARTNER, Policy

Named = Callable[[str, str], str]
"""Provider and message → column."""


@dataclass(frozen=True)
class PartnerLift:
    """A partner's lifts as delivered; the average effect where none was.

    Attributes:
        ground: Nuisances and average effects of our own.
        provider: Who delivers.
        direction: -1 where the outcome is better when lower: the partner speaks of the
            outcome, a lift model of improvements.
    """

    nuisances: Nuisances
    provider: str
    direction: float = 1.0

    @property
    def policy(self) -> str:
        """Name of its policy."""
        return f"{PARTNER}{self.provider}"

    def predict(self, X: Floats32, unit_id: Objects | None = None) -> Lifts:
        """Lifts of voters of whom the partner says nothing: the average effects."""
        nobody = pd.DataFrame(index=range(len(X)))
        return self.predict_voters(nobody, X, unit_id)

    def predict_voters(
        self,
        voters: pd.DataFrame,
        X: Floats32,
        unit_id: Objects | None = None,
    ) -> Lifts:
        """Lift of every message for every voter.

        Args:
            voters: VOTERS rows with the partner's columns, n of them.
            X: Features, shape (n, n_features).
            unit_id: Coarsest unit of every voter, shape (n,); None for voters known
                to be new, whose outcome is predicted by the mean of all trees.
        """
        effects = self.nuisances.effects
        delivered = self._columns(voters, lift_column)
        lift = np.where(
            np.isnan(delivered), effects.shrunken, self.direction * delivered
        )
        width = self._columns(voters, width_column)
        undelivered = np.isnan(delivered) | np.isnan(width)
        se = np.where(undelivered, effects.shrunken_se, np.abs(width) / (2 * Z95))
        return Lifts.within_range(self.nuisances, X, unit_id, lift, se)

    def _columns(
        self, voters: pd.DataFrame, column_name: Callable[[str, str], str]
    ) -> Floats:
        """A column of every message, NaN where it was not delivered, (n, M)."""
        values = np.full((len(voters), len(self.nuisances.messages)), np.nan)
        for m, message in enumerate(self.nuisances.messages):
            name = column_name(self.provider, message)
            if name in voters:
                values[:, m] = voters[name].to_numpy(dtype=np.float64, na_value=np.nan)
        return values

    def save(self, folder: Path) -> None:
        """Write JSON and LightGBM's text format; nobody's lifts are in it."""
        self.nuisances.save(folder)
        stored = {"provider": self.provider, "direction": self.direction}
        write_json(folder / "partner.json", stored)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        stored = json.loads((folder / "partner.json").read_text())
        return cls(Nuisances.load(folder), stored["provider"], stored["direction"])


def partner_policy(provider: str, voters: pd.DataFrame, direction: float) -> Comparator:
    """A partner's lifts as a policy on the same held-out people as every other.

    Args:
        provider: Who delivers.
        voters: VOTERS rows of the test's voters, in its order, with partner columns.
        direction: -1 where the outcome is better when lower, else 1.
    """

    def contender(prepared: Prepared, held: Bools, judged: MessageTest) -> Contender:
        model = PartnerLift(prepared.nuisances, provider, direction)
        lifts = model.predict_voters(voters[held], judged.X, judged.unit_id)
        return Contender(Policy(model.policy), lifts.lift, lifts.se)

    return contender


def winning_partner(
    names: Sequence[str],
    difference: Callable[[str, str], Interval],
    *,
    alpha: float = GATE_ALPHA,
) -> str | None:
    """The partner that passes the gate, the one of the surest gain; None where none.

    It has to beat every baseline, personalising and the present champion, each as
    surely as the gate asks; several partners share its level, so that many of them do
    not win by chance.

    Args:
        names: Policies that were judged.
        difference: Paired difference of two of them.
        alpha: One-sided level of the gate at this attempt.
    """
    rivals = [n for n in (*BASELINES, "personalised", "champion") if n in names]
    partners, passed = [n for n in names if n.startswith(PARTNER)], {}
    for name in partners:
        gains = [difference(name, rival) for rival in rivals]
        if all(is_above_zero(gain, alpha=alpha / len(partners)) for gain in gains):
            passed[name] = min(gain.low for gain in gains)
    return max(passed, key=lambda name: passed[name]) if passed else None
