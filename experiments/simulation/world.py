"""A world of known truth: what decided voters answer, and how much later.

Voters, baselines and lifts are those of `features.simulated.campaign`, as a run has
ingested them. A voter's noise, whether a voter answers and how long that takes are
drawn once, whatever anybody sends: two policies in one world differ in what they send.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr

from hustings.experiments.loop.declared import declared_loop
from hustings.experiments.loop.learners import arms_of, household_codes
from hustings.experiments.stages.context import Run
from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.features.simulated.campaign import (
    CHANNEL_MULTIPLIERS,
    HOUSEHOLD_CORRELATION,
    support_of,
)
from hustings.features.training_set import Arm, arm_costs

NOISE_STREAM = 30
MIDDLING_AGE, ANSWERS_BY_YEAR = 48.0, 0.0026
"""The old answer more often: change of the share of answers by a year of age."""


@dataclass(frozen=True)
class World:
    """The voters with their truth; axis 0 is the voter.

    Attributes:
        voter_id: Shape (n,).
        household: Code of the household, shape (n,).
        arms: Length A.
        cost: USD of every arm, shape (A,).
        baseline: Expected outcome without a message, shape (n,).
        lift: True lift of every arm, shape (n, A).
        noise: Of every voter, uniform, correlated within a household, shape (n,).
        answers: Who answers, shape (n,).
        lag: Days until a voter's answer is in, shape (n,).
    """

    voter_id: Objects
    household: Ints
    arms: tuple[Arm, ...]
    cost: Floats
    baseline: Floats
    lift: Floats
    noise: Floats
    answers: Bools
    lag: Ints

    def __len__(self) -> int:
        return len(self.voter_id)

    def outcomes(self, voter: Ints, arm: Ints) -> Floats:
        """Outcomes of voters after their assigned arm, shape (k,).

        Args:
            voter: Positions, shape (k,).
            arm: 0 for nothing, a for the a-th arm, shape (k,).
        """
        lift = np.column_stack([np.zeros(len(self)), self.lift])[voter, arm]
        return support_of(self.baseline[voter] + lift, self.noise[voter])


def world_of(run: Run) -> World:
    """The truth behind the voter file that a run of a simulated campaign ingested."""
    loop, voters = declared_loop(run.campaign), run.table("voters")
    arms = arms_of(run, loop.channels)
    truth = pd.read_parquet(run.home / "raw" / "truth.parquet").set_index("voter_id")
    truth = truth.loc[voters["voter_id"]]
    household = household_codes(voters)
    rng = np.random.default_rng([run.campaign.campaign.seed, NOISE_STREAM])
    age = voters["age"].to_numpy(dtype=np.float64)
    chance = loop.answer_share + ANSWERS_BY_YEAR * (age - MIDDLING_AGE)
    lift = [
        truth[f"lift__{arm.message_id}"].to_numpy(np.float64)
        * CHANNEL_MULTIPLIERS[arm.channel]
        for arm in arms
    ]
    first, last = loop.outcome_first_days, loop.outcome_last_days
    return World(
        voter_id=voters["voter_id"].to_numpy(dtype=object),
        household=household,
        arms=arms,
        cost=arm_costs(run.table("costs"), arms),
        baseline=truth["baseline"].to_numpy(np.float64),
        lift=np.column_stack(lift),
        noise=_shared_uniform(household, rng),
        answers=rng.random(len(voters)) < np.clip(chance, 0.0, 1.0),
        lag=rng.integers(first, last + 1, len(voters)),
    )


def _shared_uniform(household: Ints, rng: np.random.Generator) -> Floats:
    """Uniform noise that is correlated within a household (a Gaussian copula)."""
    family = rng.normal(size=int(household.max()) + 1)[household]
    individual = rng.normal(size=len(household))
    share = HOUSEHOLD_CORRELATION
    mixed = np.sqrt(share) * family + np.sqrt(1 - share) * individual
    return np.asarray(ndtr(mixed))
