"""A world whose truth is known: what assigned voters do, and when one hears of it.

Voters, baselines and lifts are those of `features.simulated.campaign`. A voter's
noise, whether it answers and how long that takes are drawn once, whatever anybody
sends: two policies in one world differ in what they send alone.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr

from hustings.experiments.loop.decisions import Audience, State
from hustings.features.arrays import Bools, Floats, Ints
from hustings.features.simulated.campaign import (
    CHANNEL_MULTIPLIERS,
    HOUSEHOLD_CORRELATION,
    Sample,
    support_of,
)
from hustings.features.training_set import Arm, arm_costs
from hustings.features.voter import HISTORY_SHARE, Encoding, segments, voter_features
from hustings.serving.plan import held_out
from hustings.training.learners.daily import Terms, columns, lift_columns, terms_of


@dataclass(frozen=True)
class Answers:
    """How outcomes come in.

    Attributes:
        first_days: Days from a decision to its outcome, at the least.
        last_days: And at the most.
        share: Share of voters who answer at a middling age; the young answer less.
    """

    first_days: int
    last_days: int
    share: float


@dataclass(frozen=True)
class World:
    """The audience with its truth.

    Attributes:
        audience: Who can be sent what.
        columns: Terms of the audience's columns.
        baseline: Expected outcome without a message, shape (n,).
        lift: True lift of every arm, shape (n, A).
        noise: Of every voter, uniform, alike within a household, shape (n,).
        answers: Who answers, shape (n,).
        lag: Days until a voter's answer is in, shape (n,).
    """

    audience: Audience
    columns: Terms
    baseline: Floats
    lift: Floats
    noise: Floats
    answers: Bools
    lag: Ints

    def outcomes(self, voter: Ints, arm: Ints) -> Floats:
        """What voters would answer after what they were assigned, shape (k,)."""
        lift = np.column_stack([np.zeros(len(self.lift)), self.lift])[voter, arm]
        return support_of(self.baseline[voter] + lift, self.noise[voter])

    def hear(self, state: State, day: int) -> State:
        """The state with the outcomes that are in on the morning of a day."""
        made = state.decisions
        due = made.day + self.lag[made.voter] <= day
        new = due & self.answers[made.voter] & np.isnan(state.outcome)
        rows = np.flatnonzero(new)
        return state.told(rows, self.outcomes(made.voter[rows], made.arm[rows]))


def draw_world(
    sample: Sample,
    feature_columns: list[str],
    channels: list[str],
    answers: Answers,
    *,
    as_of: pd.Timestamp,
    segment: list[str],
    salt: str,
    holdout_share: float,
    seed: int,
) -> World:
    """A world from a simulated campaign's voters, messages, costs and truth.

    Args:
        sample: From `simulated.campaign.simulate`; its own field test is not looked at.
        feature_columns: Columns of voters that may be features.
        channels: By which messages go out.
        answers: How outcomes come in.
        as_of: What was known before it may be a feature.
        segment: Columns of the segments.
        salt: Of the campaign.
        holdout_share: h.
        seed: Noise, answers and their delay.
    """
    voters, messages = sample.tables["voters"], sample.tables["messages"]
    arms = tuple(Arm(m, c) for m in messages["message_id"] for c in channels)
    phi, terms, found = learner_columns(voters, feature_columns, as_of=as_of)
    household = pd.factorize(voters["household_id"])[0]
    ids = voters["voter_id"].to_numpy(dtype=object)
    audience = Audience(
        voter_id=ids,
        household=household,
        phi=phi,
        segment=pd.factorize(segments(found, segment))[0],
        held=held_out(ids, salt=salt, share=holdout_share),
        allowed=np.ones((len(ids), len(arms)), dtype=bool),
        arms=arms,
        cost=arm_costs(sample.tables["costs"], arms),
    )
    rng = np.random.default_rng([seed, 30])
    age = voters["age"].to_numpy(dtype=np.float64)
    chance = np.clip(answers.share + 0.0026 * (age - 48.0), 0.0, 1.0)
    lift = np.column_stack(
        [
            sample.truth[f"lift__{a.message_id}"].to_numpy(np.float64)
            * CHANNEL_MULTIPLIERS[a.channel]
            for a in arms
        ]
    )
    return World(
        audience=audience,
        columns=terms,
        baseline=sample.truth["baseline"].to_numpy(np.float64),
        lift=lift,
        noise=_shared_uniform(household, rng),
        answers=rng.random(len(ids)) < chance,
        lag=rng.integers(answers.first_days, answers.last_days + 1, len(ids)),
    )


def learner_columns(
    voters: pd.DataFrame, feature_columns: list[str], *, as_of: pd.Timestamp
) -> tuple[Floats, Terms, pd.DataFrame]:
    """Columns of the daily learner, what they belong to, and the features.

    Single elections are left to the share of elections voted in.
    """
    features = voter_features(voters, feature_columns, as_of=as_of)
    kept = [c for c in features.columns if not str(c).startswith("voted_")]
    mine = features[kept]
    encoding = Encoding.fit(mine)
    X = encoding.transform(mine)
    basis = lift_columns(X, encoding.categorical)
    assert HISTORY_SHARE in kept or not any(
        c.startswith("voted_") for c in feature_columns
    )
    return columns(basis, X), terms_of(basis), features


def _shared_uniform(household: Ints, rng: np.random.Generator) -> Floats:
    """Uniform noise that is alike within a household (a Gaussian copula)."""
    family = rng.normal(size=int(household.max()) + 1)[household]
    own = rng.normal(size=len(household))
    share = HOUSEHOLD_CORRELATION
    return np.asarray(ndtr(np.sqrt(share) * family + np.sqrt(1 - share) * own))
