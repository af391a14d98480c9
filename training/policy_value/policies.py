"""Policies that can be delivered: functions from options to options.

A policy is chosen once, on training data, judged under the limits of the plan, and then
delivered as it was judged: the same object is applied to the voters of a test and to
the voters of a plan. It changes what options are worth, or closes some. Everything it
needs besides lifts is in it: average effects, the message or channel of each group, the
turnout of areas.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.features.training_set import Arm

PERSONALISED, SINGLE_BEST, NOBODY = "personalised", "single_best", "nobody"
ONE_COVARIATE, BEST_MIX = "one_covariate", "best_mix"
LIKELY_PERSUADABLE, SEGMENT_BEST = "likely_persuadable", "segment_best"
GROUP_PLATFORM = "group_platform"
CHAMPION = "champion"
PARTNER = "partner:"
"""A policy of this prefix goes by the lifts that a partner delivered."""
BY_LIFT = (PERSONALISED, ONE_COVARIATE)
"""Policies whose values are a lift model's own."""
NAMES = (
    NOBODY, SINGLE_BEST, BEST_MIX, ONE_COVARIATE, PERSONALISED, LIKELY_PERSUADABLE,
    SEGMENT_BEST, GROUP_PLATFORM,
)  # fmt: skip
EVERYBODY = ""
"""Name of the group of voters whose own group is not in a policy."""


class VoterFacts(NamedTuple):
    """Facts of voters that policies may use besides lifts; None where unknown.

    Attributes:
        segment: Group of every voter, shape (n,).
        area: Area of every voter, shape (n,).
        turnout: Predicted chance to vote without a message, NaN unknown, shape (n,).
        support: Predicted support without a message, NaN unknown, shape (n,).
    """

    segment: Objects | None = None
    area: Objects | None = None
    turnout: Floats | None = None
    support: Floats | None = None

    def take(self, rows: Bools | Ints) -> "VoterFacts":
        """The facts of some voters."""
        segment, area, turnout, support = self
        return VoterFacts(
            None if segment is None else segment[rows],
            None if area is None else area[rows],
            None if turnout is None else turnout[rows],
            None if support is None else support[rows],
        )


NO_FACTS = VoterFacts()


class Options(NamedTuple):
    """Options of voters, and their worth.

    Attributes:
        value: Worth of every arm, shape (n, A).
        allowed: Who may get which arm, shape (n, A).
        facts: Of the voters.
        experiments: Experiment of every arm, length A; empty where there is one.
        scale: Worth of a unit of each arm's outcome, shape (A,); None for 1.
    """

    value: Floats
    allowed: Bools
    facts: VoterFacts = NO_FACTS
    experiments: tuple[str, ...] = ()
    scale: Floats | None = None


class SentShare(NamedTuple):
    """Message and channel of a group of voters; None for every one.

    Attributes:
        message: The only message.
        channel: The only channel.
    """

    message: str | None = None
    channel: str | None = None


@dataclass(frozen=True)
class Policy:
    """One policy with what was chosen for it.

    Attributes:
        name: One of `NAMES`, or `PARTNER` and a provider.
        messages: Messages that it sends; None for all.
        worth: Group → arm → what a contact is worth, in place of the lifts; None where
            lifts say it. `EVERYBODY` is the group of those in no other.
        sent: Group → the only message or channel that it is sent.
        areas: Area → predicted turnout: areas that are likelier to vote are worth
            more; an unknown area counts as the mean. Empty for "by voter".
        by_turnout: Whether worth is multiplied by the turnout of the area.
        band: Support between which a voter is persuadable; None for everybody.
        parts: Experiment → its own policy, where a campaign has several.

    Worked example: four voters, messages trade and tax by mail; the policy
    `Policy("single_best", ("trade",))` leaves all four trade and nobody tax.
    """

    name: str
    messages: tuple[str, ...] | None = None
    worth: Mapping[str, Mapping[Arm, float]] | None = None
    sent: Mapping[str, SentShare] = field(default_factory=dict)
    areas: Mapping[str, float] = field(default_factory=dict)
    by_turnout: bool = False
    band: tuple[float, float] | None = None
    parts: Mapping[str, "Policy"] = field(default_factory=dict)

    @property
    def is_flat(self) -> bool:
        """Whether voters differ in groups only, so that money goes to random people."""
        if self.name in (NOBODY, ONE_COVARIATE):
            return True
        return self.worth is not None and not self.by_turnout

    def of(self, options: Options, arms: Sequence[Arm]) -> Options:
        """The options that the policy leaves.

        Args:
            options: Of n voters.
            arms: Length A.
        """
        if self.parts:
            return self._of_parts(options, arms)
        if self.name == NOBODY:
            nothing = np.zeros_like(options.value)
            return options._replace(
                value=nothing, allowed=np.zeros_like(options.allowed)
            )
        value, allowed = options.value, options.allowed
        if self.worth is not None:
            value = self._worth_of(options, arms)
        if self.messages is not None:
            is_sent = np.array([arm.message_id in self.messages for arm in arms])
            allowed = allowed & is_sent
        if self.sent:
            allowed = allowed & self._sent_of(options.facts, arms, len(value))
        if self.band is not None:
            allowed = allowed & self.persuadable(options.facts, len(value))[:, None]
        return options._replace(value=value, allowed=allowed)

    def _of_parts(self, options: Options, arms: Sequence[Arm]) -> Options:
        value, allowed = options.value.copy(), options.allowed.copy()
        for experiment, part in self.parts.items():
            at = np.flatnonzero([e == experiment for e in options.experiments])
            scale = None if options.scale is None else options.scale[at]
            inside = Options(
                options.value[:, at], options.allowed[:, at], options.facts, (), scale
            )
            left = part.of(inside, [arms[int(a)] for a in at])
            value[:, at], allowed[:, at] = left.value, left.allowed
        return options._replace(value=value, allowed=allowed)

    def _worth_of(self, options: Options, arms: Sequence[Arm]) -> Floats:
        assert self.worth is not None
        names = list(self.worth)
        table = np.array([[self.worth[g].get(a, 0.0) for a in arms] for g in names])
        value: Floats = table[_group_rows(options.facts, names, len(options.value))]
        if options.scale is not None:
            value = value * options.scale
        if self.by_turnout:
            value = value * self.turnout(options.facts, len(value))[:, None]
        return value

    def _sent_of(self, facts: VoterFacts, arms: Sequence[Arm], n: int) -> Bools:
        names = list(self.sent)
        table = np.array([[_is_sent(self.sent[g], a) for a in arms] for g in names])
        is_open: Bools = table[_group_rows(facts, names, n)]
        return is_open

    def persuadable(self, facts: VoterFacts, n: int) -> Bools:
        """Whether support lies in the band, shape (n,); False where it is unknown."""
        if self.band is None:
            return np.ones(n, dtype=bool)
        if facts.support is None:
            return np.zeros(n, dtype=bool)
        low, high = self.band
        inside: Bools = (facts.support >= low) & (facts.support <= high)
        return inside

    def turnout(self, facts: VoterFacts, n: int) -> Floats:
        """Predicted turnout of each voter's area, shape (n,)."""
        if not self.areas:
            if facts.turnout is None:
                return np.ones(n)
            mean_turnout = float(np.nanmean(facts.turnout))
            is_predicted = ~np.isnan(facts.turnout)
            filled: Floats = np.full(n, mean_turnout)
            filled[is_predicted] = facts.turnout[is_predicted]
            return filled
        mean = float(np.mean(list(self.areas.values())))
        if facts.area is None:
            return np.full(n, mean, dtype=np.float64)
        likely = pd.Series(facts.area, dtype=object).map(dict(self.areas))
        return np.asarray(likely.fillna(mean), dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        worth = self.worth
        return {
            "name": self.name,
            "messages": None if self.messages is None else list(self.messages),
            "worth": worth and {
                group: [[*arm, value] for arm, value in of_arm.items()]
                for group, of_arm in worth.items()
            },
            "sent": {group: list(sent) for group, sent in self.sent.items()},
            "areas": dict(self.areas),
            "by_turnout": self.by_turnout,
            "band": None if self.band is None else list(self.band),
            "parts": {name: part.to_json() for name, part in self.parts.items()},
        }  # fmt: skip

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        messages, worth, band = stored["messages"], stored["worth"], stored["band"]
        return cls(
            stored["name"],
            None if messages is None else tuple(messages),
            worth and {
                group: {Arm(m, c): value for m, c, value in rows}
                for group, rows in worth.items()
            },
            {group: SentShare(*pair) for group, pair in stored["sent"].items()},
            stored["areas"],
            stored["by_turnout"],
            None if band is None else (band[0], band[1]),
            {name: cls.from_json(part) for name, part in stored["parts"].items()},
        )  # fmt: skip


def _is_sent(sent: SentShare, arm: Arm) -> bool:
    return sent.message in (None, arm.message_id) and sent.channel in (
        None, arm.channel,
    )  # fmt: skip


def _group_rows(facts: VoterFacts, names: list[str], n: int) -> Ints:
    """Row of a table by group for every voter; those in none get `EVERYBODY`'s."""
    fallback = names.index(EVERYBODY)
    if facts.segment is None:
        return np.full(n, fallback)
    at = pd.Index(names, dtype=object).get_indexer(pd.Index(facts.segment))
    return np.where(at < 0, fallback, at)
