"""Results of judging: values of policies, the gate's verdict, an experiment's whole.

Each knows its JSON, which is what `evaluation.json` holds of an experiment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from hustings.features.stored import Stored
from hustings.training.estimators.metrics import Interval

Json = dict[str, Any]
VerdictName = Literal[
    "personalise", "one_split_suffices", "not_worth_personalising",
    "nothing_may_be_sent", "nothing_can_be_said",
]  # fmt: skip
NOTHING_MAY_BE_SENT: VerdictName = "nothing_may_be_sent"
NOTHING_CAN_BE_SAID: VerdictName = "nothing_can_be_said"
NOT_LEARNT = (NOTHING_MAY_BE_SENT, NOTHING_CAN_BE_SAID)
"""Verdicts that are given before anything is learnt: no attempts of the gate."""
_OF_GATE = (
    "attempt", "alpha", "blocked_by", "carried_by_prior", "next_test", "forbidden_by",
    "lacking", "power",
)  # fmt: skip


@dataclass(frozen=True)
class ArmContacts:
    """Expected contacts by one arm, per voter of the audience.

    Attributes:
        message_id: The message.
        channel: The channel.
        per_voter: Contacts per voter.
    """

    message_id: str
    channel: str
    per_voter: float


@dataclass(frozen=True)
class PolicyValue(Stored):
    """A policy judged on voters that it was not chosen on.

    Attributes:
        label: As a person reads it.
        description: What it does, in a sentence.
        gain: Per voter at the campaign's spend, under all limits of the plan.
        gain_ipw: The same by inverse-propensity weights alone.
        spend_per_voter_usd: What it spends.
        contacted_share: Share of voters who are sent anything.
        limited: Whether a limit other than the budget binds.
        sends: Expected contacts by arm, those above zero.
        delivered: The same as the plan delivers it, with a holdout and explorers.
        chosen: What each half chose, as JSON of the policy.
    """

    label: str
    description: str
    gain: Interval
    gain_ipw: Interval
    spend_per_voter_usd: float
    contacted_share: float
    limited: bool
    sends: tuple[ArmContacts, ...]
    delivered: tuple[ArmContacts, ...] = ()
    chosen: tuple[Json, ...] = ()


@dataclass(frozen=True)
class NextTest:
    """Size of a test that would show whether the best message does anything.

    Attributes:
        message_id: The message that looks best.
        lift: That is to be seen with power .8, outcome units.
        n_voters: In both groups together.
    """

    message_id: str
    lift: float
    n_voters: int


@dataclass(frozen=True)
class PowerAtGain:
    """Chance that the gate opens for a true gain, and the test that it would take.

    Attributes:
        gain: True gain of personalising over the best baseline, outcome units.
        power: Chance that this test, at its attempt, would have opened the gate.
        n_voters: Voters of a test that opens it with chance .8 at the next attempt,
            the tested included; None for more than a thousand times as many.
    """

    gain: float
    power: float
    n_voters: int | None


@dataclass(frozen=True)
class GatePower:
    """What the gate could have seen where it stayed shut.

    Attributes:
        rival: Policy whose difference decides: the hardest to beat for sure.
        standard_error: Of the difference to the best baseline.
        n_tested: Voters of the test.
        next_alpha: One-sided level of the next attempt.
        at_estimate: At the estimated gain, drawn towards nothing; None where that is
            not above 0.
        at_worthwhile: At the smallest gain that the campaign declares worth having;
            None where it declares none.
        curve: From no gain to four standard errors.
    """

    rival: str
    standard_error: float
    n_tested: int
    next_alpha: float
    at_estimate: PowerAtGain | None
    at_worthwhile: PowerAtGain | None
    curve: tuple[PowerAtGain, ...]


@dataclass(frozen=True)
class Verdict(Stored):
    """Decision of the gate, with its evidence.

    Attributes:
        verdict: Whether personalising, or one split, is shown to pay.
        champion: The policy to use.
        best_baseline: By its value within the training halves.
        rival: Of the policies that personalising has to beat, the one that it is least
            ahead of: the difference to it is what personalising gains.
        differences: Personalised less every other policy, at the campaign's spend;
            what is no baseline, nor the champion, is shown and decides nothing.
        split_gain: The best split less the best untargeted policy.
        untargeted_gain: The best untargeted policy less nobody.
        attempt: Number of this promotion attempt of the campaign, from 1.
        alpha: One-sided level of this attempt.
        blocked_by: Checks that forbid a promotion.
        carried_by_prior: Whether a declared prior carries the untargeted policy.
        next_test: Where nothing is shown to do anything: how large a test would.
        forbidden_by: Rules that leave nothing to be sent to anybody.
        lacking: What the data lack for anything to be learnt of them.
        power: Where personalising is not shown to pay: what could have been shown.
    """

    verdict: VerdictName
    champion: str
    best_baseline: str
    rival: str
    differences: Mapping[str, Interval]
    split_gain: Interval
    untargeted_gain: Interval
    attempt: int
    alpha: float
    blocked_by: tuple[str, ...] = ()
    carried_by_prior: bool = False
    next_test: NextTest | None = None
    forbidden_by: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    power: GatePower | None = None

    def to_json(self) -> Json:
        """Convert to the keys of an experiment in `evaluation.json`."""
        stored = super().to_json()
        least = self.differences.get(self.rival, Interval(0.0, 0.0, 0.0))
        return {
            "differences": stored["differences"],
            "best_baseline": self.best_baseline,
            "rival": self.rival,
            "gain_from_personalising": least.as_dict(),
            "gain_from_one_split": stored["split_gain"],
            "gain_of_best_untargeted": stored["untargeted_gain"],
            "verdict": self.verdict,
            "champion": self.champion,
            "gate": {name: stored[name] for name in _OF_GATE},
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        return super().from_json(
            {
                **stored,
                **stored["gate"],
                "split_gain": stored["gain_from_one_split"],
                "untargeted_gain": stored["gain_of_best_untargeted"],
            }
        )


@dataclass(frozen=True)
class Evaluation:
    """One experiment judged.

    Attributes:
        n_units: Randomised or sampled units.
        n_voters: Voters.
        n_observed: Voters whose outcome is in.
        n_arms: Messages by channel.
        policies: By name.
        verdict: The gate's.
        details: Sections of the report that nothing decides on (curve, area,
            calibration, segments, checks ...), as plain JSON values by their key.
    """

    n_units: int
    n_voters: int
    n_observed: int
    n_arms: int
    policies: Mapping[str, PolicyValue]
    verdict: Verdict
    details: Json = field(default_factory=dict)

    def to_json(self) -> Json:
        """Convert to plain JSON values."""
        return {
            "n_units": self.n_units,
            "n_voters": self.n_voters,
            "n_observed": self.n_observed,
            "n_arms": self.n_arms,
            "policies": {n: p.to_json() for n, p in self.policies.items()},
            **self.verdict.to_json(),
            **self.details,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        verdict = Verdict.from_json(stored)
        counts = ("n_units", "n_voters", "n_observed", "n_arms")
        field_names = {*counts, "policies", *verdict.to_json()}
        return cls(
            n_units=stored["n_units"],
            n_voters=stored["n_voters"],
            n_observed=stored["n_observed"],
            n_arms=stored["n_arms"],
            policies={
                name: PolicyValue.from_json(row)
                for name, row in stored["policies"].items()
            },
            verdict=verdict,
            details={k: v for k, v in stored.items() if k not in field_names},
        )
