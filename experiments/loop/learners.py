"""Learners of a day: what is believed of the lifts, and by which model.

A learner turns the morning of a day into an offer: lifts, values and permissions of
everybody in the voter file, through `serving.offer`, and lifts of segments as they may
be, for exploration. `Champion` reads the registered model of the campaign, `Daily`
learns from the campaign's own record, `Untested` knows the declared prior alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from hustings.experiments.declaration import CampaignError
from hustings.experiments.loop.answered import Answered, answered_so_far
from hustings.experiments.loop.daily_columns import LearnerColumns, columns_of
from hustings.experiments.loop.declared import LoopSettings, believed_prior
from hustings.experiments.loop.explore import N_DRAWS
from hustings.experiments.loop.gate import Gate, gate_on, looks_so_far
from hustings.experiments.loop.moments import learned
from hustings.experiments.stages.contacts import promoted
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.external_priors import prior_of_past_tests
from hustings.experiments.stages.offers import (
    backlash_by_segment,
    campaign_offer,
    moment_of,
    rules_at,
    settings_of,
)
from hustings.features.arrays import Floats, Ints
from hustings.features.asof import first_delivery
from hustings.features.tables import CONTROL, NO_MODEL
from hustings.features.training_set import Arm, EffectPrior, arm_costs, household
from hustings.features.voter import segments
from hustings.serving.offer import (
    Z95,
    Offer,
    OfferedVoters,
    OfferSettings,
    PredictedArms,
    offered,
)
from hustings.serving.plan import valued
from hustings.training.learners.priors import prior_of
from hustings.training.policy_value.policies import Policy


@dataclass(frozen=True)
class Morning:
    """What a learner is given on the morning of a day.

    Attributes:
        run: The run whose tables say who the voters are.
        voters: VOTERS of that run, n of them.
        arms: Messages by channel that the loop sends and that have a price, length A.
        experiment_id: The experiment whose outcome is learned.
        settings: Of the loop.
        date: The day.
        day: The same, from 0.
        at: Now.
        by_household: Whether households are held out as one.
    """

    run: Run
    voters: pd.DataFrame
    arms: tuple[Arm, ...]
    experiment_id: str
    settings: LoopSettings
    date: pd.Timestamp
    day: int
    at: pd.Timestamp
    by_household: bool


@dataclass(frozen=True)
class LearnedLifts:
    """Lifts as a learner predicts them for a day.

    Attributes:
        offer: Lifts, values and permissions of everybody in the voter file.
        segment: Code of every voter's segment, shape (n,).
        segment_draws: Lifts of segments as they may be by what is believed, shape
            (N_DRAWS, n_segments, A), from a generator.
        n_taught: Decisions whose outcomes taught the lifts.
        gate: Whether personalising was shown to pay; None where nobody asks.
    """

    offer: Offer
    segment: Ints
    segment_draws: Callable[[np.random.Generator], Floats]
    n_taught: int = 0
    gate: Gate | None = None


class Learner(Protocol):
    """Protocol of the learners of a day."""

    def believed(self, morning: Morning) -> LearnedLifts | None:
        """Predicted lifts; None where nothing is known yet that a plan could use."""


def learner_of(morning: Morning) -> Learner:
    """The learner of a day: `Untested` in the first wave, then the declared one."""
    if morning.settings.phase(morning.day) == "wave":
        return Untested()
    return Champion() if morning.settings.loop.learner == "champion" else Daily()


def arms_of(run: Run, channels: list[str]) -> tuple[Arm, ...]:
    """Messages by the loop's channels, as far as they have a price.

    Raises:
        CampaignError: If none has.
    """
    costs = run.table("costs")
    priced = set(zip(costs["message_id"], costs["channel"], strict=True))
    arms = tuple(
        Arm(message, channel)
        for message in run.table("messages")["message_id"]
        for channel in channels
        if message != CONTROL and {(message, channel), ("*", channel)} & priced
    )
    if not arms:
        raise CampaignError(
            f"[loop].channels: expected channels that [tables.costs] has a price of, "
            f"got {', '.join(channels)}"
        )
    return arms


@dataclass(frozen=True)
class Untested:
    """Before any outcome: every message is worth what the campaign declares."""

    def believed(self, morning: Morning) -> LearnedLifts:
        """Declared lifts of everybody; 0 where nothing is declared."""
        n, n_arms = len(morning.voters), len(morning.arms)
        prior = _prior(morning)
        mean = np.zeros(n_arms)
        sd = np.zeros(n_arms)
        if prior is not None:
            is_believed = np.isfinite(prior.mean)
            mean = np.where(is_believed, prior.mean, 0.0)
            sd = np.sqrt(np.where(is_believed, prior.variance, 0.0))
        features = learner_columns_of(morning)
        offer = _offer(
            morning, features.features, np.tile(mean, (n, 1)), np.tile(sd, (n, 1)),
            NO_MODEL,
        )  # fmt: skip
        segment = _segment(morning, features.features)
        return LearnedLifts(offer, segment, _normal_draws(offer, segment))


@dataclass(frozen=True)
class Champion:
    """The registered model of the campaign, under the policy that was judged best."""

    def believed(self, morning: Morning) -> LearnedLifts:
        """The champion's lifts.

        Raises:
            CampaignError: If no model was promoted yet, or the model knows several
                experiments: their lifts are in units of their own.
        """
        run, loop = morning.run, morning.settings.loop
        if not has_champion(run):
            raise CampaignError(
                "[loop].learner: expected a promoted model for 'champion', got none in "
                f"run {run.run_id}; `hustings day --retrain` trains one on what came "
                "in, [loop].retrain_every_days does so by itself, and learner = "
                "'daily' needs none"
            )
        model, version = promoted(run)
        if len(model.lifts) != 1:
            raise CampaignError(
                f"{run.campaign.file}: expected one experiment for a loop, got "
                f"{', '.join(model.lifts)}; lifts of several are in units of their own"
            )
        (name,) = model.lifts
        if not any(arm.channel in loop.channels for arm in model.arms[name]):
            raise CampaignError(
                "[loop].channels: expected channels of the experiment, got "
                f"{loop.channels}"
            )
        offer, _, _ = campaign_offer(
            run, model, morning.voters, (name,),
            at=moment_of(morning.date, morning.at), by_household=morning.by_household,
            model_version=f"{version.name}/{version.version}", channels=loop.channels,
        )  # fmt: skip
        segment = _segment(morning, model.reader.features(morning.voters))
        return LearnedLifts(offer, segment, _normal_draws(offer, segment))


def has_champion(run: Run) -> bool:
    """Whether the run promoted (or kept) a model."""
    return run.has("promoted.json")


@dataclass(frozen=True)
class Daily:
    """Lifts learned from the campaign's record: deliveries and what was answered."""

    def believed(self, morning: Morning) -> LearnedLifts | None:
        """Lifts by all outcomes that were in when lifts were last learned."""
        run, settings = morning.run, morning.settings
        columns = learner_columns_of(morning)
        learned_on = settings.learned_on(morning.day)
        at = morning.at - pd.Timedelta(days=morning.day - learned_on)
        answered = answered_so_far(
            run, morning.voters["voter_id"].to_numpy(dtype=object), morning.arms,
            morning.experiment_id, at=at,
        )  # fmt: skip
        prior = _prior(morning)
        model, n_taught = learned(
            answered, columns, repeats=settings.loop.repeats,
            learn_from=settings.loop.learn_from, prior=prior,
        )  # fmt: skip
        if model is None:
            return None
        gate = _gate(morning, columns, answered)
        phi = columns.phi
        lift, se = model.lift(phi), model.se(phi)
        offer = _offer(
            morning, columns.features, lift, se,
            f"daily/{settings.start_on + pd.Timedelta(days=learned_on):%Y-%m-%d}",
            untargeted=gate is not None and not gate.personalises,
        )  # fmt: skip
        segment = _segment(morning, columns.features)
        mean = np.zeros((int(segment.max()) + 1, phi.shape[1]))
        np.add.at(mean, segment, phi)
        mean /= np.bincount(segment)[:, None]
        return LearnedLifts(
            offer, segment, lambda rng: model.draws(mean, N_DRAWS, rng), n_taught, gate
        )


def _gate(morning: Morning, columns: LearnerColumns, answered: Answered) -> Gate | None:
    settings = morning.settings
    if settings.loop.gate == "shrinkage":
        return None
    return gate_on(
        looks_so_far(morning.run.home, morning.date), answered, columns,
        household=household_codes(morning.voters),
        cost=arm_costs(morning.run.table("costs"), morning.arms),
        spend_usd=settings.budget_usd / len(morning.voters), settings=settings,
        day=morning.day, at=morning.at,
    )  # fmt: skip


def household_codes(voters: pd.DataFrame) -> Ints:
    """Household of every voter as a code from 0, shape (n,)."""
    return np.asarray(pd.factorize(household(voters))[0], dtype=np.int64)


def learner_columns_of(morning: Morning) -> LearnerColumns:
    """Columns that the daily learner makes of the voters of a morning."""
    sent = morning.run.table("deliveries")["sent_on"]
    first = first_delivery(morning.run.table("deliveries")) if len(sent) else None
    as_of = morning.settings.start_on if first is None else min(
        first, morning.settings.start_on
    )  # fmt: skip
    return columns_of(
        morning.run, morning.voters, n_arms=len(morning.arms), as_of=as_of
    )


def _prior(morning: Morning) -> EffectPrior | None:
    """Mean effects of the arms: the priors table, else earlier tests, else beliefs."""
    table = morning.run.optional("priors")
    messages = tuple(arm.message_id for arm in morning.arms)
    elsewhere = None if table is None else prior_of(table, messages)
    return (
        elsewhere
        or prior_of_past_tests(morning.run, messages)
        or believed_prior(morning.settings.loop, len(morning.arms))
    )


def _offer(
    morning: Morning,
    features: pd.DataFrame,
    lift: Floats,
    standard_error: Floats,
    model_version: str,
    *,
    untargeted: bool = False,
) -> Offer:
    """Lifts by any learner as an offer, under the law and the declaration.

    Args:
        morning: Of the day.
        features: One row a voter.
        lift: Shape (n, A).
        standard_error: Shape (n, A).
        model_version: As name/version, or `NO_MODEL`.
        untargeted: Whether everybody is worth an arm's mean lift.
    """
    run, campaign = morning.run, morning.run.campaign
    settings = settings_of(
        run, (morning.experiment_id,), by_household=morning.by_household
    )
    mean = np.broadcast_to(lift.mean(axis=0), lift.shape) if untargeted else lift
    cautious = valued(
        mean, mean - Z95 * standard_error, mean + Z95 * standard_error,
        confidence=settings.confidence,
    )  # fmt: skip
    worth = settings.worth.get(morning.experiment_id, 1.0)
    predicted = PredictedArms(
        lift, standard_error, cautious * worth, morning.arms,
        (morning.experiment_id,) * len(morning.arms),
    )  # fmt: skip
    if campaign.plan.block_backlash and model_version != NO_MODEL:
        segment = segments(features, campaign.features.segment, settings.edges)
        closed = backlash_by_segment(predicted, segment)
        settings = OfferSettings(**{**vars(settings), "backlash": closed})
    at = moment_of(morning.date, morning.at)
    costs = arm_costs(run.table("costs"), morning.arms)
    return offered(
        predicted, OfferedVoters.of(features, morning.voters, settings),
        rules_at(run, at), at=at, policy=Policy("personalised"),
        cost=dict(zip(morning.arms, costs, strict=True)), settings=settings,
        model_version=model_version,
    )  # fmt: skip


def _segment(morning: Morning, features: pd.DataFrame) -> Ints:
    label = segments(features, morning.run.campaign.features.segment)
    return np.asarray(pd.factorize(label)[0], dtype=np.int64)


def _normal_draws(
    offer: Offer, segment: Ints
) -> Callable[[np.random.Generator], Floats]:
    """Mean lifts of segments, normal with the mean standard error of their voters."""
    n = np.bincount(segment)[:, None]
    mean, sd = (np.zeros((len(n), len(offer.arms))) for _ in range(2))
    np.add.at(mean, segment, offer.lift)
    np.add.at(sd, segment, offer.standard_error)

    def draws(rng: np.random.Generator) -> Floats:
        noise = rng.standard_normal((N_DRAWS, *mean.shape))
        return np.asarray(mean / n + noise * sd / n)

    return draws
