"""A campaign's model: rows of its own voter file in, lift of every message out.

Holds everything between a raw voter row and a lift: the column mapping, the as-of
date, the encoding and one lift model per experiment. Saved as JSON and LightGBM text.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from hustings.features.affinity import CellAffinities
from hustings.features.arrays import Floats, Floats32, Objects
from hustings.features.atomic import write_json
from hustings.features.checksums import require_unaltered, write_checksums
from hustings.features.derived import (
    FROM_THE_WHOLE_FILE,
    Query,
    from_the_file,
    with_columns,
)
from hustings.features.ingest import TableSource, map_columns
from hustings.features.ingest.plain import VoterArrays
from hustings.features.partner import (
    LIFT_PREFIX,
    WIDTH_PREFIX,
    lift_column,
    width_column,
)
from hustings.features.persons.linked_reactions import REACTED_PREFIX
from hustings.features.tables import PROVIDER_PREFIX, TableError
from hustings.features.training_set import Arm, coarsest_unit
from hustings.features.voter import Encoding, voter_features
from hustings.training.estimators.metrics import Z95
from hustings.training.learners.baselines import untargeted
from hustings.training.learners.lift_model import (
    FittedLift,
    Lifts,
    load_lift,
    save_lift,
)
from hustings.training.policy_value.partner import PartnerLift
from hustings.training.policy_value.policies import (
    BY_LIFT,
    CHAMPION,
    NOBODY,
    PARTNER,
    Policy,
)
from hustings.training.registry.online_features import CellRows, OnlineFeatures

JOINED = (REACTED_PREFIX, LIFT_PREFIX, WIDTH_PREFIX, PROVIDER_PREFIX)
"""Columns that begin so are joined to the voter file, not read from it."""


def lifts_of(
    lift: FittedLift,
    voters: pd.DataFrame,
    X: Floats32,
    unit_id: Objects | None = None,
) -> Lifts:
    """Lifts of voters by any kind of model; a partner's are read from the voter's row.

    Args:
        lift: The model.
        voters: VOTERS rows, n of them.
        X: Their features, shape (n, n_features).
        unit_id: Their coarsest units, shape (n,); None for voters known to be new.
    """
    if isinstance(lift, PartnerLift):
        return lift.predict_voters(voters, X, unit_id)
    return lift.predict(X, unit_id)


@dataclass(frozen=True)
class Reader:
    """How a row of the campaign's voter file becomes features.

    Attributes:
        mapping: The campaign's [tables.voters].
        feature_columns: Columns of voters that may be features.
        as_of: First delivery: what is known strictly before it counts.
        encoding: How features become numbers.
        counting: How a row's own past elections are counted; None where no such
            column is a feature.
        affinities: Of every cell for every issue; None where nothing is known.
    """

    mapping: TableSource
    feature_columns: tuple[str, ...]
    as_of: pd.Timestamp
    encoding: Encoding
    counting: Query | None = None
    affinities: CellAffinities | None = None

    @property
    def whole_file_columns(self) -> list[str]:
        """Features of the whole voter file, which a row must bring along."""
        return from_the_file(self.feature_columns)

    @property
    def joined_columns(self) -> list[str]:
        """Features that are joined to the voters from elsewhere."""
        return [name for name in self.feature_columns if name.startswith(JOINED)]

    def voters(self, raw: pd.DataFrame) -> pd.DataFrame:
        """Rows in the campaign's own columns as VOTERS, with what they bring along."""
        voters = map_columns(raw, self.mapping, "voters")
        beside = [*self.whole_file_columns, *self.joined_columns]
        brought = [name for name in beside if name in raw and name not in voters]
        texts = set(self.encoding.levels)
        return voters.assign(
            **{n: raw[n] if n in texts else raw[n].astype(float) for n in brought}
        )

    def features(self, voters: pd.DataFrame) -> pd.DataFrame:
        """Features of VOTERS rows, indexed by voter_id.

        A row that comes without its partner's lifts (or a provider's columns) is as
        one whom the partner does not know, one without linked reactions as one who is
        linked to none: a caller who knows better joins them first. Its own past
        elections are counted here, unless they were before.

        Raises:
            TableError: If the rows come without what only the whole file can tell.
        """
        others = (LIFT_PREFIX, PROVIDER_PREFIX)
        delivered = [c for c in self.feature_columns if c.startswith(others)]
        absent = [c for c in delivered if c not in voters]
        voters = voters.assign(**dict.fromkeys(absent, np.nan)) if absent else voters
        linked = [c for c in self.feature_columns if c.startswith(REACTED_PREFIX)]
        absent = [c for c in linked if c not in voters]
        voters = voters.assign(**dict.fromkeys(absent, 0.0)) if absent else voters
        voters = voters.fillna(dict.fromkeys(linked, 0.0)) if linked else voters
        absent_columns = [
            name for name in self.whole_file_columns if name not in voters
        ]
        if absent_columns:
            raise TableError(
                f"expected a column {absent_columns[0]!r}: {FROM_THE_WHOLE_FILE}"
            )
        if self.counting is not None:
            voters = with_columns(voters, self.counting)
        if self.affinities is not None:
            voters = self.affinities.joined_to(voters, as_of=self.as_of)
        return voter_features(voters, self.feature_columns, as_of=self.as_of)

    def online(self) -> OnlineFeatures:
        """The same features of a request's voters, without tables."""
        affinities = self.affinities
        return OnlineFeatures(
            encoding=self.encoding,
            feature_columns=self.feature_columns,
            as_of=self.as_of,
            whole_file_columns=tuple(self.whole_file_columns),
            counting=self.counting,
            cells=None if affinities is None else CellRows.of(affinities, self.as_of),
            affinity_columns=() if affinities is None else tuple(affinities.names),
        )

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        return {
            "mapping": self.mapping.model_dump(mode="json", by_alias=True),
            "feature_columns": list(self.feature_columns),
            "as_of": self.as_of.isoformat(),
            "encoding": self.encoding.to_json(),
            "counting": None if self.counting is None else self.counting._asdict(),
            "affinities": self.affinities and self.affinities.to_json(),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        affinities = stored.get("affinities")
        return cls(
            TableSource.model_validate(stored["mapping"]),
            tuple(stored["feature_columns"]),
            pd.Timestamp(stored["as_of"]),
            Encoding.from_json(stored["encoding"]),
            None if not stored.get("counting") else Query(**stored["counting"]),
            affinities and CellAffinities.from_json(affinities),
        )


FIGURES = ("lift", "lift_low", "lift_high", "response", "baseline")


class OnlineScores(NamedTuple):
    """Scores of voters as one array.

    Attributes:
        messages: Of every experiment in turn, length K.
        figures: In the order of `FIGURES`, shape (n, K, 5).
    """

    messages: tuple[str, ...]
    figures: Floats


@dataclass(frozen=True)
class CampaignModel:
    """One lift model per experiment behind one reader of voter rows.

    Attributes:
        campaign: Its name.
        reader: Voter row → features.
        lifts: Lift model of every experiment.
        arms: What each experiment could send.
        champions: Which policy each lift model stands for.
        facts: What else a user of the model must know: outcome, verdicts, data hash.
        policies: Every policy that was chosen on all data, by experiment and name.
        other_lifts: Lift models of policies that go by lifts of their own and are not
            the champion, by name and experiment.
    """

    campaign: str
    reader: Reader
    lifts: Mapping[str, FittedLift]
    arms: Mapping[str, tuple[Arm, ...]]
    champions: Mapping[str, str]
    facts: Mapping[str, Any]
    policies: Mapping[str, Mapping[str, Policy]] = field(default_factory=dict)
    other_lifts: Mapping[str, Mapping[str, FittedLift]] = field(default_factory=dict)

    def policy(self, experiment_id: str, name: str = CHAMPION) -> Policy:
        """The policy of an experiment as it was chosen on all data.

        Args:
            experiment_id: The experiment.
            name: One of its policies; the champion's without.

        Raises:
            KeyError: If the model holds no policy of that name.
        """
        champion = self.champions[experiment_id]
        wanted = champion if name == CHAMPION else name
        of_experiment = self.policies.get(experiment_id, {})
        if wanted in of_experiment:
            return of_experiment[wanted]
        if wanted in (champion, NOBODY) or wanted.startswith(PARTNER):
            return Policy(wanted)
        raise KeyError(
            f"{experiment_id}: expected one of the policies "
            f"{', '.join(sorted({champion, *of_experiment}))}, got {wanted!r}"
        )

    def under(self, name: str) -> Self:
        """The model with the lifts that a policy goes by.

        A policy without targeting goes by average effects, "one_covariate" and
        "personalised" by models of their own, a partner's by what he delivered.

        Args:
            name: A policy; `CHAMPION` is the model as it is.
        """
        if name == CHAMPION:
            return self
        lifts = {
            experiment: lift
            if self.champions[experiment] == name
            else self._lift_under(experiment, name)
            for experiment, lift in self.lifts.items()
        }
        return replace(self, lifts=lifts)

    def _lift_under(self, experiment_id: str, name: str) -> FittedLift:
        stored = self.other_lifts.get(name, {})
        if experiment_id in stored:
            return stored[experiment_id]
        nuisances = self.lifts[experiment_id].nuisances
        if name.startswith(PARTNER):
            return PartnerLift(nuisances, name.removeprefix(PARTNER), self.direction)
        if name in BY_LIFT:
            raise KeyError(
                f"{experiment_id}: the model holds no lifts of the policy {name!r}; "
                "train it again"
            )
        return untargeted(nuisances)

    @property
    def joined_columns(self) -> list[str]:
        """Columns that the model reads and that are joined to the voters.

        Besides features these are the lifts of a partner whose policy is the champion.
        """
        delivered = [
            column(lift.provider, message)
            for lift in self.lifts.values()
            if isinstance(lift, PartnerLift)
            for message in lift.nuisances.messages
            for column in (lift_column, width_column)
        ]
        return list(dict.fromkeys([*self.reader.joined_columns, *delivered]))

    @property
    def direction(self) -> float:
        """-1 where the campaign's outcome is better when lower, else 1."""
        return 1.0 if self.facts["outcome"]["higher_is_better"] else -1.0

    @property
    def messages(self) -> list[str]:
        """Messages of all experiments, in their order."""
        messages_of_lifts = (lift.nuisances.messages for lift in self.lifts.values())
        return list(
            dict.fromkeys(m for messages in messages_of_lifts for m in messages)
        )

    def predict(self, voters: pd.DataFrame) -> dict[str, Lifts]:
        """Lifts of every experiment.

        Args:
            voters: VOTERS rows, n of them.
        """
        X = self.reader.encoding.transform(self.reader.features(voters))
        unit = coarsest_unit(voters).to_numpy(dtype=object)
        return {
            name: lifts_of(lift, voters, X, unit) for name, lift in self.lifts.items()
        }

    def predict_online(self, voters: VoterArrays, X: Floats32) -> dict[str, Lifts]:
        """Lifts of every experiment for the voters of a request, as `predict`.

        Args:
            voters: VOTERS, n of them.
            X: Their features (`Reader.online`), shape (n, n_features).
        """
        unit = voters.coarsest_unit()
        delivered = [name for name in self.joined_columns if name in voters]
        return {
            name: lift.predict_voters(voters.frame(delivered), X, unit)
            if isinstance(lift, PartnerLift)
            else lift.predict(X, unit)
            for name, lift in self.lifts.items()
        }

    def score_online(self, voters: VoterArrays, X: Floats32) -> OnlineScores:
        """Scores of every voter × message, as `score`.

        Args:
            voters: VOTERS, n of them.
            X: Their features (`Reader.online`), shape (n, n_features).
        """
        predicted = self.predict_online(voters, X)
        messages = tuple(
            m for name in predicted for m in self.lifts[name].nuisances.messages
        )
        parts = [_figures(lifts, self.direction) for lifts in predicted.values()]
        return OnlineScores(messages, np.concatenate(parts, axis=1))

    def score(self, voters: pd.DataFrame) -> pd.DataFrame:
        """SCORES of every voter × message, voters in their order.

        A lift above zero is an improvement, also where a lower outcome is better.

        Args:
            voters: VOTERS rows.
        """
        parts = [
            _long(
                voters["voter_id"],
                self.lifts[name].nuisances.messages,
                lifts,
                self.direction,
            )
            for name, lifts in self.predict(voters).items()
        ]
        return pd.concat(parts, ignore_index=True)

    def save(self, folder: Path) -> None:
        """Write into a new folder."""
        folder.mkdir(parents=True)
        for i, lift in enumerate(self.lifts.values()):
            (folder / f"lift_{i}").mkdir()
            save_lift(lift, folder / f"lift_{i}")
        for name, lifts in self.other_lifts.items():
            for i, experiment_id in enumerate(self.lifts):
                if experiment_id in lifts:
                    (folder / f"{name}_{i}").mkdir()
                    save_lift(lifts[experiment_id], folder / f"{name}_{i}")
        stored = {
            "campaign": self.campaign,
            "reader": self.reader.to_json(),
            "lifts": list(self.lifts),
            "arms": {
                name: [list(arm) for arm in arms] for name, arms in self.arms.items()
            },
            "champions": dict(self.champions),
            "facts": dict(self.facts),
            "policies": {
                experiment_id: {name: p.to_json() for name, p in policies.items()}
                for experiment_id, policies in self.policies.items()
            },
            "others": {name: list(lifts) for name, lifts in self.other_lifts.items()},
        }
        write_json(folder / "model.json", stored)
        write_checksums(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            AlteredError: If a file is not what was written, naming it.
            FileNotFoundError: If the folder holds no model.
        """
        path = folder / "model.json"
        if not path.exists():
            raise FileNotFoundError(f"{path}: expected a saved model, found none")
        require_unaltered(folder)
        stored = json.loads(path.read_text())
        arms = {n: tuple(Arm(*a) for a in pairs) for n, pairs in stored["arms"].items()}
        lifts = {
            name: load_lift(folder / f"lift_{i}")
            for i, name in enumerate(stored["lifts"])
        }
        return cls(
            campaign=stored["campaign"],
            reader=Reader.from_json(stored["reader"]),
            lifts=lifts,
            arms=arms,
            champions=stored["champions"],
            facts=stored["facts"],
            policies={
                experiment_id: {n: Policy.from_json(p) for n, p in policies.items()}
                for experiment_id, policies in stored.get("policies", {}).items()
            },
            other_lifts={
                name: {
                    experiment_id: load_lift(folder / f"{name}_{i}")
                    for i, experiment_id in enumerate(stored["lifts"])
                    if experiment_id in experiments
                }
                for name, experiments in stored.get("others", {}).items()
            },
        )


def _figures(lifts: Lifts, direction: float) -> Floats:
    """Figures of one experiment, shape (n, M, 5)."""
    # lifts are improvements; response and baseline are in the outcome's own direction
    n, m = lifts.lift.shape
    width = Z95 * lifts.se
    figures = np.empty((n, m, len(FIGURES)))
    figures[:, :, 0] = lifts.lift
    figures[:, :, 1] = lifts.lift - width
    figures[:, :, 2] = lifts.lift + width
    figures[:, :, 3] = direction * (lifts.baseline[:, None] + lifts.lift)
    figures[:, :, 4] = direction * lifts.baseline[:, None]
    return figures


def _long(
    voter_id: pd.Series, messages: tuple[str, ...], lifts: Lifts, direction: float
) -> pd.DataFrame:
    n, m = lifts.lift.shape
    figures = _figures(lifts, direction).reshape(n * m, len(FIGURES))
    who, ids = pd.factorize(voter_id)
    return pd.DataFrame(
        {
            "voter_id": pd.Categorical.from_codes(
                np.repeat(who, m), categories=pd.Index(ids)
            ),
            "message_id": pd.Categorical.from_codes(
                np.tile(np.arange(m), n), categories=pd.Index(messages)
            ),
            **dict(zip(FIGURES, figures.T, strict=True)),
        }
    )
