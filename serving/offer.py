"""Who may be offered what, and what is it worth: one answer for one block of voters.

`hustings plan`, `hustings day` and `POST /recommend` ask here and nowhere else. What
depends on the whole electorate (the policy's choice, segments that show backlash,
prices of limits) is settled once, when a plan is made, and comes in as an argument.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from scipy.stats import norm

from hustings.features.arrays import Bools, Floats, Objects, Values
from hustings.features.ingest.plain import VoterArrays
from hustings.features.spilled import blank, let_go
from hustings.features.training_set import Arm, household
from hustings.features.voter import SegmentBins, SegmentEdges, segment_bins
from hustings.serving.eligible import (
    NOTHING_KNOWN,
    Eligibility,
    People,
    PeopleNow,
    PermissionsNow,
    RuleSetName,
    VoterIds,
    eligibility,
)
from hustings.serving.plan import valued
from hustings.training.learners.lift_model import Lifts
from hustings.training.policy_value.guardrails import ClosedGroup, closed_arms
from hustings.training.policy_value.policies import Options, Policy, VoterFacts
from hustings.training.registry.campaign_model import CampaignModel

Z95 = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Rules:
    """Rules of the law, the campaign and its voters, as known at a moment.

    Attributes:
        rule_set: Name of the rule set.
        messages: MESSAGES table.
        permissions: PERMISSIONS table, with what was withdrawn since, or the few that a
            request names; None for none.
        people: Age, do-not-contact, addresses.
        lowers_turnout: Messages whose measured effect on turnout is below zero.
        paused: Message → why it is paused.
        signed: Digests of texts that a named person has signed.
        barred_but_paused: See `eligible.eligibility`.
    """

    rule_set: RuleSetName
    messages: pd.DataFrame
    permissions: pd.DataFrame | PermissionsNow | None
    people: People | PeopleNow = NOTHING_KNOWN
    lowers_turnout: frozenset[str] = frozenset()
    paused: Mapping[str, str] = field(default_factory=dict)
    signed: frozenset[str] = frozenset()
    barred_but_paused: Mapping[str, str] | None = None


class Among(NamedTuple):
    """Voters with some values of one column: `[plan.only]`."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class OfferSettings:
    """Settings of `[plan]` on values and on the voters who may be contacted.

    Attributes:
        experiments: Whose messages are offered, in order.
        worth: Value of one outcome unit, by experiment; 1 where none is given.
        confidence: Certainty at which a lift is valued; .5 is its mean.
        only: Who may be contacted at all; None for everybody.
        segment: Columns that make a segment.
        backlash: Segment → messages that are not sent to it.
        by_household: Whether households decide (and are held out) as one.
        edges: Bins of the numbers that make segments, see `features.voter`.
        closed: Messages that guardrails close to everybody or to a group.
    """

    experiments: tuple[str, ...]
    worth: Mapping[str, float] = field(default_factory=dict)
    confidence: float = 0.5
    only: Among | None = None
    segment: tuple[str, ...] = ()
    backlash: Mapping[str, Collection[str]] = field(default_factory=dict)
    by_household: bool = False
    edges: SegmentEdges = field(default_factory=dict)
    closed: tuple[ClosedGroup, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        return {
            "experiments": list(self.experiments),
            "worth": dict(self.worth),
            "confidence": self.confidence,
            "only": None if self.only is None else [self.only[0], list(self.only[1])],
            "segment": list(self.segment),
            "backlash": {name: sorted(m) for name, m in self.backlash.items()},
            "by_household": self.by_household,
            "edges": {name: list(cuts) for name, cuts in self.edges.items()},
            "closed": [group.to_json() for group in self.closed],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        only = stored["only"]
        return cls(
            tuple(stored["experiments"]), stored["worth"], stored["confidence"],
            None if only is None else Among(only[0], tuple(only[1])),
            tuple(stored["segment"]), stored["backlash"], stored["by_household"],
            {name: tuple(cuts) for name, cuts in stored["edges"].items()},
            tuple(map(ClosedGroup.from_json, stored["closed"])),
        )  # fmt: skip


@dataclass(frozen=True)
class Offer:
    """What a block of voters may be offered, and what it is worth.

    Attributes:
        voter_id: Shape (n,).
        unit: Household or voter that decides together, shape (n,).
        arms: Messages by channel, length A.
        experiment_of_arm: Experiment whose outcome the lift of an arm is in, length A.
        lift: Predicted lift, outcome units, shape (n, A).
        standard_error: Of the lift, shape (n, A).
        value: What a contact is worth to the campaign, shape (n, A).
        allowed: Who may be offered which arm, shape (n, A).
        cost: USD of every arm, shape (A,).
        eligibility: Why not, by message and by channel.
        excluded: Voters whom `[plan.only]` leaves out, shape (n,).
        backlash: Arms closed to a voter since the segment shows backlash, shape (n, A).
        guarded: Arms that a guardrail closes to a voter, shape (n, A).
        in_policy: Arms that the policy leaves to a voter, shape (n, A).
        model_version: As name/version, or `NO_MODEL`.
    """

    voter_id: Objects
    unit: Objects
    arms: tuple[Arm, ...]
    experiment_of_arm: tuple[str, ...]
    lift: Floats
    standard_error: Floats
    value: Floats
    allowed: Bools
    cost: Floats
    eligibility: Eligibility
    excluded: Bools
    backlash: Bools
    guarded: Bools
    in_policy: Bools
    model_version: str

    def __len__(self) -> int:
        return len(self.voter_id)


def joined(parts: Iterable[Offer], n_voters: int) -> Offer:
    """The offer to the voters of several blocks, in single precision.

    Args:
        parts: Offers to blocks of voters, in order; at least one.
        n_voters: Of all blocks together.
    """
    of_blocks, start = [], 0
    wide: dict[str, Any] = {}
    for part in parts:
        rows = slice(start, start + len(part))
        for name in _BY_ARM:
            values = getattr(part, name)
            if name not in wide:
                dtype = bool if values.dtype == bool else np.float32
                wide[name] = blank((n_voters, len(part.arms)), dtype)
            wide[name][rows] = values
        start += len(part)
        empty: dict[str, Any] = dict.fromkeys(_BY_ARM, np.empty((0, len(part.arms))))
        of_blocks.append(replace(part, **empty))
    let_go(*wide.values())
    return replace(
        of_blocks[0],
        voter_id=np.concatenate([part.voter_id for part in of_blocks]),
        unit=np.concatenate([part.unit for part in of_blocks]),
        eligibility=Eligibility.joined([part.eligibility for part in of_blocks]),
        excluded=np.concatenate([part.excluded for part in of_blocks]),
        **wide,
    )


_BY_ARM = (
    "lift", "standard_error", "value", "allowed", "backlash", "guarded", "in_policy",
)  # fmt: skip
"""Arrays of an offer of shape (n, A)."""


class PredictedArms(NamedTuple):
    """Lifts of arms by a model.

    Attributes:
        lift: Outcome units, shape (n, A).
        standard_error: Shape (n, A).
        value: In the campaign's units of worth, at the declared confidence, (n, A).
        arms: Length A.
        experiment_of_arm: Length A.
    """

    lift: Floats
    standard_error: Floats
    value: Floats
    arms: tuple[Arm, ...]
    experiment_of_arm: tuple[str, ...]


def predict_arms(
    model: CampaignModel, voters: pd.DataFrame, settings: OfferSettings
) -> PredictedArms:
    """Lift, its error and its value of every arm of the offered experiments.

    Args:
        model: The model.
        voters: VOTERS rows, n of them.
        settings: Experiments, their worth, the confidence.
    """
    return arms_of(model, model.predict(voters), settings)


def arms_of(
    model: CampaignModel, predicted: Mapping[str, Lifts], settings: OfferSettings
) -> PredictedArms:
    """`predict_arms` for lifts of messages that are predicted already.

    Args:
        model: The model that predicted.
        predicted: Lifts of every experiment.
        settings: Experiments, their worth, the confidence.
    """
    lifts, errors, values = [], [], []
    arms: list[Arm] = []
    experiments: list[str] = []
    for name in settings.experiments:
        nuisances, experiment_arms = model.lifts[name].nuisances, model.arms[name]
        lift, se = predicted[name].lift, predicted[name].se
        cautious = valued(
            lift, lift - Z95 * se, lift + Z95 * se, confidence=settings.confidence
        )
        lifts.append(nuisances.option_values(lift, experiment_arms))
        errors.append(np.abs(nuisances.option_values(se, experiment_arms)))
        worth = settings.worth.get(name, 1.0)
        values.append(nuisances.option_values(cautious, experiment_arms) * worth)
        arms.extend(experiment_arms)
        experiments.extend([name] * len(experiment_arms))
    return PredictedArms(
        np.hstack(lifts), np.hstack(errors), np.hstack(values), tuple(arms),
        tuple(experiments),
    )  # fmt: skip


def offer(
    model: CampaignModel,
    voters: pd.DataFrame,
    rules: Rules,
    *,
    at: pd.Timestamp,
    policy: Policy,
    cost: Mapping[Arm, float],
    settings: OfferSettings,
    model_version: str,
) -> Offer:
    """What these voters may be offered at a moment, and what it is worth.

    Args:
        model: The model.
        voters: VOTERS rows, n of them.
        rules: What the law, the campaign and its voters say, as known at that moment.
        at: The moment that the law asks about.
        policy: Chosen for the whole campaign.
        cost: USD of one contact by arm.
        settings: Of `[plan]`.
        model_version: Which model predicts, as name/version.
    """
    predicted = predict_arms(model.under(policy.name), voters, settings)
    return offered(
        predicted, OfferedVoters.of(model.reader.features(voters), voters, settings),
        rules, at=at, policy=policy, cost=cost, settings=settings,
        model_version=model_version,
    )  # fmt: skip


AREA_LEVELS = ("precinct", "county_fips")
"""Columns of voters that say their area, the smallest first."""
TURNOUT, SUPPORT = "predicted_turnout", "predicted_support"
"""Columns that voters bring along where turnout and support were predicted."""


class OfferedVoters(NamedTuple):
    """What an offer asks of voters besides their lifts, n of them.

    Attributes:
        voter_id: Shape (n,).
        unit: Household or voter that decides together, shape (n,).
        excluded: Voters whom `[plan.only]` leaves out, shape (n,).
        bins: Of the columns that make a segment.
        facts: What policies may use.
    """

    voter_id: VoterIds
    unit: Objects
    excluded: Bools
    bins: SegmentBins
    facts: VoterFacts

    @classmethod
    def of(
        cls,
        features: pd.DataFrame | Mapping[str, Values],
        voters: pd.DataFrame | VoterArrays,
        settings: OfferSettings,
    ) -> Self:
        """What an offer asks of the voters of a file, or of a request.

        Args:
            features: What is known of them, for their segments, n values a column.
            voters: VOTERS, n of them, with `TURNOUT` and `SUPPORT` where predicted.
            settings: Say by which columns.
        """
        bins = segment_bins(
            features, settings.segment, settings.edges, n=_count(voters)
        )
        ids = voters["voter_id"]
        if not settings.by_household:
            unit = ids
        elif isinstance(voters, VoterArrays):
            unit = voters.household()
        else:
            unit = household(voters)
        area = next((name for name in AREA_LEVELS if name in voters), None)
        facts = VoterFacts(
            bins.label() if settings.segment else None,
            None if area is None else _texts(voters[area]),
            *(
                np.asarray(voters[name], dtype=np.float64) if name in voters else None
                for name in (TURNOUT, SUPPORT)
            ),
        )
        return cls(ids, _texts(unit), _excluded(voters, settings.only), bins, facts)


def _count(voters: pd.DataFrame | VoterArrays) -> int:
    return voters.n if isinstance(voters, VoterArrays) else len(voters)


def _texts(column: pd.Series | Objects) -> Objects:
    return column if isinstance(column, np.ndarray) else column.to_numpy(dtype=object)


def _excluded(voters: pd.DataFrame | VoterArrays, only: Among | None) -> Bools:
    n = _count(voters)
    if only is None:
        return np.zeros(n, dtype=bool)
    if only.column not in voters:
        return np.ones(n, dtype=bool)
    if isinstance(voters, VoterArrays):
        voters = voters.frame([only.column])
    inside = voters[only.column].astype(str).isin(only.values)
    return ~inside.to_numpy(dtype=bool)


def offered(
    predicted: PredictedArms,
    voters: OfferedVoters,
    rules: Rules,
    *,
    at: pd.Timestamp,
    policy: Policy,
    cost: Mapping[Arm, float],
    settings: OfferSettings,
    model_version: str,
) -> Offer:
    """`offer` for lifts that are predicted already, by whatever learner.

    Args:
        predicted: Lifts of n voters.
        voters: What else is asked of them.
        rules: See `offer`.
        at: See `offer`.
        policy: See `offer`.
        cost: See `offer`.
        settings: See `offer`.
        model_version: See `offer`.
    """
    permission = eligibility(
        voters.voter_id, predicted.arms, rules.messages, rules.permissions,
        rule_set=rules.rule_set, as_of=at, lowers_turnout=rules.lowers_turnout,
        paused=rules.paused, people=rules.people, signed=rules.signed,
        barred_but_paused=rules.barred_but_paused,
    )  # fmt: skip
    closed = _closed_by_backlash(voters.bins, predicted.arms, settings)
    guarded = closed_arms(settings.closed, voters.bins, predicted.arms)
    of_guards = _guarded_voters(settings.closed, voters.bins)
    permission = replace(permission, guarded=of_guards)
    excluded = voters.excluded
    allowed = permission.allowed & ~excluded[:, None] & ~closed & ~guarded
    options = Options(
        predicted.value, allowed, voters.facts, predicted.experiment_of_arm,
        np.array([settings.worth.get(e, 1.0) for e in predicted.experiment_of_arm]),
    )  # fmt: skip
    left = policy.of(options, predicted.arms)
    return Offer(
        voter_id=_texts(voters.voter_id),
        unit=voters.unit,
        arms=predicted.arms,
        experiment_of_arm=predicted.experiment_of_arm,
        lift=predicted.lift,
        standard_error=predicted.standard_error,
        value=left.value,
        allowed=left.allowed,
        cost=np.array([cost[arm] for arm in predicted.arms], dtype=np.float64),
        eligibility=permission,
        excluded=excluded,
        backlash=closed,
        guarded=guarded,
        in_policy=policy.of(
            options._replace(allowed=np.ones_like(allowed)), predicted.arms
        ).allowed,
        model_version=model_version,
    )


def _guarded_voters(
    closed: Sequence[ClosedGroup], bins: SegmentBins
) -> dict[str, Bools]:
    """Reason → voters whom a guardrail keeps from a message, shape (n,)."""
    return {
        f"message {group.message_id}: {group.reason}": group.members(bins)
        for group in closed
    }


def _closed_by_backlash(
    bins: SegmentBins, arms: Sequence[Arm], settings: OfferSettings
) -> Bools:
    closed = np.zeros((bins.n, len(arms)), dtype=bool)
    if not settings.backlash:
        return closed
    name = bins.label()
    for segment, messages in settings.backlash.items():
        of_message = np.array([arm.message_id in messages for arm in arms])
        closed |= (name == segment)[:, None] & of_message
    return closed
