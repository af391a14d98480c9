"""Permission by voter, message and channel, with the reason of every refusal."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
import pandas as pd

from hustings.features.arrays import Bools, Floats, Objects
from hustings.features.membership import among
from hustings.features.training_set import Arm
from hustings.serving.rules import WORDS, Rule, RuleSet, rule_set
from hustings.serving.voting_text import text_digest, voting_words

RuleSetName = Literal["us_default", "eu_2024_900", "places_only", "research_replay"]

NONE_PAUSED: Mapping[str, str] = MappingProxyType({})
DISCLOSING = frozenset({"household", "others"})
"""A message that shows anybody else's record is planned for nobody."""
ANY_CHANNEL = "*"
ALREADY_VOTED = "already_voted"
"""Code of voters whose ballot is back, or who voted early."""
CONSENT_CHANNELS = frozenset(
    channel
    for rule in rule_set("us_default").of("permission")
    for channel in rule.channels
)
"""Under us_default these need a permission on record; others only its not being
withdrawn."""


VoterIds = pd.Series | Objects
"""Ids of a table, or of a request, shape (n_voters,)."""
ByChannel = Mapping[str, Collection[str]]
"""Channel → voters, as things stand at the moment that is asked about."""


@dataclass(frozen=True)
class PermissionsNow:
    """Permissions of few voters at one moment, all on one basis and for one purpose.

    Attributes:
        granted: Who has a permission for a channel.
        withdrawn: Who has refused it.
        basis: Of what is granted.
        purpose: Of what is granted.
    """

    granted: ByChannel
    withdrawn: ByChannel
    basis: str
    purpose: str


@dataclass(frozen=True)
class People:
    """Facts of voters besides their permissions.

    Attributes:
        age: By voter_id, years; None where no age is known of anybody.
        do_not_contact: DO_NOT_CONTACT table; None where there is none.
        addresses: ADDRESSES table: where somebody can be reached; None where the
            campaign has none, and nothing is inferred.
        voted: Who has voted already, by voter_id; None where nobody has.
    """

    age: pd.Series | None = None
    do_not_contact: pd.DataFrame | None = None
    addresses: pd.DataFrame | None = None
    voted: pd.DataFrame | None = None


@dataclass(frozen=True)
class PeopleNow:
    """`People` of few voters at one moment.

    Attributes:
        age: Years, in the voters' order, NaN where unknown; None where no age is known
            of anybody.
        do_not_contact: Who is on the list now.
        addresses: Who can be reached; None where the campaign has no addresses.
        voted: Who has voted already.
    """

    age: Floats | None
    do_not_contact: ByChannel
    addresses: ByChannel | None
    voted: Collection[str]


NOTHING_KNOWN = People()


@dataclass(frozen=True)
class Eligibility:
    """Permission of every voter and arm, and why not.

    Attributes:
        allowed: Shape (n_voters, n_arms).
        barred_messages: Message → why nobody gets it.
        no_channel: Channel → reason in words → voters it holds for, (n_voters,).
        codes: Channel → reason code → voters it holds for, (n_voters,).
        guarded: Reason of a guardrail in words → voters it holds for, (n_voters,).
    """

    allowed: Bools
    barred_messages: dict[str, str]
    no_channel: dict[str, dict[str, Bools]]
    codes: dict[str, dict[str, Bools]] = field(default_factory=dict)
    guarded: dict[str, Bools] = field(default_factory=dict)

    @classmethod
    def joined(cls, parts: Sequence["Eligibility"]) -> "Eligibility":
        """Permission of the voters of several blocks, one after another."""
        first = parts[0]

        def of_channels(name: str) -> dict[str, dict[str, Bools]]:
            return {
                channel: {
                    why: np.concatenate([getattr(p, name)[channel][why] for p in parts])
                    for why in reasons
                }
                for channel, reasons in getattr(first, name).items()
            }

        guarded = {
            why: np.concatenate([part.guarded[why] for part in parts])
            for why in first.guarded
        }
        return cls(
            np.concatenate([part.allowed for part in parts]), first.barred_messages,
            of_channels("no_channel"), of_channels("codes"), guarded,
        )  # fmt: skip

    def reason_counts(self) -> list[dict[str, str | int]]:
        """Reason and number of voters, for the report."""
        n = len(self.allowed)
        rows: list[dict[str, str | int]] = [
            {"reason": f"message {message}: {why}", "n_voters": n}
            for message, why in self.barred_messages.items()
        ]
        rows += [
            {"reason": why, "n_voters": int(who.sum())}
            for why, who in self.guarded.items()
        ]
        for channel, reasons in self.no_channel.items():
            for why, who in reasons.items():
                if who.any():
                    rows.append(
                        {"reason": f"{channel}: {why}", "n_voters": int(who.sum())}
                    )
        return rows

    def reasons_of(self, row: int) -> dict[str, list[str]]:
        """Codes that keep one voter from each channel; none where it may be used."""
        return {
            channel: [code for code, who in reasons.items() if who[row]]
            for channel, reasons in self.codes.items()
        }


# --- messages -------------------------------------------------------------------------


def barred(
    messages: pd.DataFrame,
    *,
    rule_set: RuleSetName,
    lowers_turnout: frozenset[str] = frozenset(),
    paused: Mapping[str, str] = NONE_PAUSED,
    signed: frozenset[str] = frozenset(),
) -> dict[str, str]:
    """Messages that nobody may be sent, with the reason in words.

    Args:
        messages: MESSAGES table.
        rule_set: `us_default`; `research_replay` bars nothing and never exports.
        lowers_turnout: Messages whose measured effect on turnout is below zero: such
            an effect is never worth anything, whatever else the message does.
        paused: Message → why, as `monitor.pauses` tells it: holds under every rule set.
        signed: Digests of texts that a named person has signed, as
            `serving.voting_text.text_digest` gives them.
    """
    rules = _known_rule_set(rule_set)
    reasons: dict[str, str] = {}
    for message, codes in barred_codes(
        messages, rules, lowers_turnout=lowers_turnout, signed=signed
    ).items():
        reasons[message] = _in_words(codes[0], messages, message)
    return {**reasons, **(paused if rules.of("not_paused") else {})}


def _known_rule_set(name: str) -> RuleSet:
    return rule_set(name)


def barred_codes(
    messages: pd.DataFrame,
    rules: RuleSet,
    *,
    lowers_turnout: frozenset[str] = frozenset(),
    signed: frozenset[str] = frozenset(),
) -> dict[str, list[str]]:
    """Messages that nobody may be sent, with every code that says so."""
    codes_of_message: dict[str, list[str]] = {}
    for requires, holds in _MESSAGE_RULES.items():
        for rule in rules.of(requires):
            for row in messages.itertuples():
                if holds(row, lowers_turnout, signed):
                    codes_of_message.setdefault(str(row.message_id), []).append(
                        rule.code
                    )
    return codes_of_message


def _in_words(code: str, messages: pd.DataFrame, message: str) -> str:
    if code == "discloses":
        disclosed = messages.loc[messages["message_id"] == message, "discloses"]
        return f"discloses the record of {disclosed.iloc[0]!s}"
    return WORDS[code]


def _lowers(row: object, lowers: frozenset[str], _signed: frozenset[str]) -> bool:
    return str(getattr(row, "message_id", "")) in lowers


def _discloses(row: object, _lowers: frozenset[str], _signed: frozenset[str]) -> bool:
    return getattr(row, "discloses", None) in DISCLOSING


def _nameless(row: object, _lowers: frozenset[str], _signed: frozenset[str]) -> bool:
    return _blank(row, "sponsor") or _blank(row, "disclaimer")


def _unsigned(row: object, _lowers: frozenset[str], signed: frozenset[str]) -> bool:
    text = getattr(row, "text", "")
    return bool(voting_words(str(text))) and text_digest(str(text)) not in signed


_MESSAGE_RULES = {
    "turnout": _lowers,
    "own_record": _discloses,
    "sponsor": _nameless,
    "signed": _unsigned,
}


def _blank(row: object, name: str) -> bool:
    value = getattr(row, name, None)
    return value is None or pd.isna(value) or not str(value).strip()


# --- voters ---------------------------------------------------------------------------


def eligibility(
    voter_id: VoterIds,
    arms: Sequence[Arm],
    messages: pd.DataFrame,
    permissions: pd.DataFrame | PermissionsNow | None,
    *,
    rule_set: RuleSetName,
    as_of: pd.Timestamp,
    lowers_turnout: frozenset[str] = frozenset(),
    paused: Mapping[str, str] = NONE_PAUSED,
    people: People | PeopleNow = NOTHING_KNOWN,
    signed: frozenset[str] = frozenset(),
    barred_but_paused: Mapping[str, str] | None = None,
) -> Eligibility:
    """Permission of every voter and arm at a date.

    Args:
        voter_id: Shape (n_voters,).
        arms: What could be sent.
        messages: MESSAGES table.
        permissions: PERMISSIONS table, None where the campaign has none.
        rule_set: Which rules.
        as_of: Permissions granted by then and not withdrawn by then hold.
        lowers_turnout: See `barred`.
        paused: See `barred`.
        people: What else is known of voters.
        signed: See `barred`.
        barred_but_paused: What `barred` says of the messages where none is paused, if
            it was asked before.
    """
    rules = _known_rule_set(rule_set)
    if barred_but_paused is None:
        stopped = barred(
            messages, rule_set=rule_set, lowers_turnout=lowers_turnout, paused=paused,
            signed=signed,
        )  # fmt: skip
    else:
        stopped = {
            **barred_but_paused, **(paused if rules.of("not_paused") else {}),
        }  # fmt: skip
    codes = {
        channel: refusals(voter_id, channel, permissions, people, rules, as_of)
        for channel in sorted({arm.channel for arm in arms})
    }
    reached = {
        channel: ~np.logical_or.reduce([*by_code.values(), nobody])
        for nobody in [np.zeros(len(voter_id), dtype=bool)]
        for channel, by_code in codes.items()
    }
    allowed = np.zeros((len(voter_id), len(arms)), dtype=bool)
    for a, arm in enumerate(arms):
        if arm.message_id not in stopped:
            allowed[:, a] = reached[arm.channel]
    sendable = {arm.message_id for arm in arms}
    barred_messages = {m: why for m, why in stopped.items() if m in sendable}
    return Eligibility(allowed, barred_messages, _by_words(codes), codes)


def _by_words(codes: dict[str, dict[str, Bools]]) -> dict[str, dict[str, Bools]]:
    return {
        channel: {WORDS[code]: who for code, who in reasons.items()}
        for channel, reasons in codes.items()
    }


def refusals(
    voter_id: VoterIds,
    channel: str,
    permissions: pd.DataFrame | PermissionsNow | None,
    people: People | PeopleNow,
    rules: RuleSet,
    as_of: pd.Timestamp,
) -> dict[str, Bools]:
    """Reason code → voters who may not be reached by a channel for it, (n_voters,)."""
    refused_by_code: dict[str, Bools] = {}
    for rule in rules.of("not_voted", channel):
        refused_by_code[rule.code] = _among(voter_id, _voted(people))
    withdrawn = _among(voter_id, _withdrawn(permissions, channel, as_of))
    for rule in rules.of("not_withdrawn", channel):
        refused_by_code[rule.code] = withdrawn
    for rule in rules.of("permission", channel):
        granted = _among(voter_id, _granted(permissions, channel, as_of, rule))
        refused_by_code[rule.code] = ~granted & ~withdrawn
    for rule in rules.of("not_listed", channel):
        listed = _listed(people.do_not_contact, channel, as_of)
        refused_by_code[rule.code] = _among(voter_id, listed)
    for rule in rules.of("age", channel):
        refused_by_code[rule.code] = _under_age(voter_id, people.age, rule)
    for rule in rules.of("address", channel):
        refused_by_code[rule.code] = _unreachable(voter_id, people.addresses, channel)
    return refused_by_code


def counted_in_places(
    voter_id: pd.Series,
    channel: str,
    permissions: pd.DataFrame | PermissionsNow | None,
    rules: RuleSet,
    as_of: pd.Timestamp,
    voted: pd.DataFrame | None,
) -> Bools:
    """Voters whose lift may say which places a channel takes that addresses nobody.

    Whoever asked not to be contacted, has no address or is asleep is not disturbed by
    a poster. A permission that is asked for a purpose protects the data themselves,
    not the person who is addressed: without it a voter's lift is not counted. Nor is
    that of a voter who has voted already: nothing can be added to it.

    Args:
        voter_id: Shape (n_voters,).
        channel: The channel of places.
        permissions: PERMISSIONS table, None where the campaign has none.
        rules: The rule set.
        as_of: The moment.
        voted: Who has voted already; None where nobody has.
    """
    counted = np.ones(len(voter_id), dtype=bool)
    if voted is not None and rules.of("not_voted", channel):
        counted &= ~_among(voter_id, voted["voter_id"])
    for rule in rules.of("permission", channel):
        if rule.purpose:
            granted = _granted(permissions, channel, as_of, rule)
            counted &= _among(voter_id, granted)
    return counted


def _withdrawn(
    permissions: pd.DataFrame | PermissionsNow | None,
    channel: str,
    as_of: pd.Timestamp,
) -> Iterable[str]:
    """Voters who have withdrawn a channel by a day, at any hour of it."""
    if permissions is None:
        return ()
    if isinstance(permissions, PermissionsNow):
        return permissions.withdrawn.get(channel, ())
    of_channel = permissions[permissions["channel"] == channel]
    gone = of_channel["withdrawn_at"] < as_of.normalize() + pd.Timedelta(days=1)
    return of_channel.loc[gone, "voter_id"]


def _granted(
    permissions: pd.DataFrame | PermissionsNow | None,
    channel: str,
    as_of: pd.Timestamp,
    rule: Rule,
) -> Iterable[str]:
    """Voters with a permission that a rule counts; it must be there before."""
    if permissions is None:
        return ()
    if isinstance(permissions, PermissionsNow):
        counts = not rule.bases or permissions.basis in rule.bases
        if not counts or rule.purpose not in ("", permissions.purpose):
            return ()
        return permissions.granted.get(channel, ())
    of_channel = permissions[permissions["channel"] == channel]
    gone = of_channel["withdrawn_at"] < as_of.normalize() + pd.Timedelta(days=1)
    held = (of_channel["granted_at"] <= as_of) & ~gone
    if rule.bases:
        held &= of_channel["basis"].isin(rule.bases)
    if rule.purpose:
        purpose = of_channel.get("purpose", pd.Series("", index=of_channel.index))
        held &= purpose.fillna("").eq(rule.purpose)
    return of_channel.loc[held, "voter_id"]


def _listed(
    listed: pd.DataFrame | ByChannel | None, channel: str, as_of: pd.Timestamp
) -> Iterable[str]:
    if listed is None:
        return ()
    if isinstance(listed, Mapping):
        return [*listed.get(channel, ()), *listed.get(ANY_CHANNEL, ())]
    here = listed["channel"].isin([channel, ANY_CHANNEL])
    if "since" in listed:
        later = listed["since"] >= as_of.normalize() + pd.Timedelta(days=1)
        here &= ~later
    return listed.loc[here, "voter_id"]


def _voted(people: People | PeopleNow) -> Iterable[str]:
    voted = people.voted
    if voted is None:
        return ()
    return voted["voter_id"] if isinstance(voted, pd.DataFrame) else voted


def _under_age(voter_id: VoterIds, age: pd.Series | Floats | None, rule: Rule) -> Bools:
    if age is None:
        return np.full(len(voter_id), rule.unknown == "refuse", dtype=np.bool_)
    if isinstance(age, pd.Series):
        age = _series(voter_id).map(age).to_numpy(dtype=np.float64)
    years = np.asarray(age, dtype=np.float64)
    unknown = np.isnan(years)
    counted = unknown if rule.unknown == "refuse" else np.zeros_like(unknown)
    young: Bools = counted | (~unknown & (years < rule.min_age))
    return young


def _unreachable(
    voter_id: VoterIds, addresses: pd.DataFrame | ByChannel | None, channel: str
) -> Bools:
    if addresses is None:
        return np.zeros(len(voter_id), dtype=bool)
    if isinstance(addresses, Mapping):
        return ~_among(voter_id, addresses.get(channel, ()))
    there = addresses.loc[addresses["channel"] == channel, "voter_id"]
    return ~_among(voter_id, there)


def _series(voter_id: VoterIds) -> pd.Series:
    if isinstance(voter_id, pd.Series):
        return voter_id
    return pd.Series(voter_id, dtype="str")


def _among(voter_id: VoterIds, listed_ids: Iterable[str]) -> Bools:
    if isinstance(listed_ids, pd.Series):
        return among(_series(voter_id), listed_ids)
    listed = set(listed_ids)
    if not listed:
        return np.zeros(len(voter_id), dtype=bool)
    return np.array([voter in listed for voter in voter_id.tolist()], dtype=bool)


# --- on the day -----------------------------------------------------------------------


def send_window(rules: RuleSet, channel: str) -> tuple[int, int]:
    """First and last full hour, local time, between which a channel may be used.

    Raises:
        ValueError: If its rules leave no hour.
    """
    hours = rules.of("hours", channel)
    starts = max((rule.starts for rule in hours), default=0)
    until = min((rule.until for rule in hours), default=24)
    if starts >= until:
        raise ValueError(
            f"channel {channel!r}: the hours of rule set {rules.name!r} leave no time "
            f"to send, got from {starts} until {until}"
        )
    return starts, until


@dataclass(frozen=True)
class CurrentFacts:
    """Facts at one moment, for a recheck of contacts that were planned before.

    Attributes:
        messages: MESSAGES table.
        permissions: PERMISSIONS table, with what was withdrawn since; None for none.
        rules: The rule set.
        people: What else is known of voters.
        known_voters: Voters of the present file; None to take all for known.
        lowers_turnout: See `barred`.
        paused: See `barred`.
        signed: See `barred`.
    """

    messages: pd.DataFrame
    permissions: pd.DataFrame | None
    rules: RuleSet
    people: People = NOTHING_KNOWN
    known_voters: Iterable[str] | None = None
    lowers_turnout: frozenset[str] = frozenset()
    paused: Mapping[str, str] = field(default_factory=dict)
    signed: frozenset[str] = frozenset()


def stopped_messages(facts: CurrentFacts) -> dict[str, str]:
    """Message → code of the reason why nobody may be sent it now."""
    stopped = barred_codes(
        facts.messages, facts.rules, lowers_turnout=facts.lowers_turnout,
        signed=facts.signed,
    )  # fmt: skip
    reasons = {message: codes[0] for message, codes in stopped.items()}
    if facts.rules.of("not_paused"):
        reasons |= dict.fromkeys(facts.paused, "paused")
    return reasons


def recheck(contacts: pd.DataFrame, facts: CurrentFacts, at: pd.Timestamp) -> pd.Series:
    """Whether planned contacts may still go, as things stand now.

    Args:
        contacts: PLAN.
        facts: What is known now.
        at: Now.

    Returns:
        Reason code of every contact, '' for one that may go; index as in `contacts`.
    """
    code = pd.Series("", index=contacts.index, dtype=object)
    reasons = stopped_messages(facts)
    message_codes = [reasons.get(str(m), "") for m in contacts["message_id"]]
    _first(code, pd.Series(message_codes, index=contacts.index, dtype=object))
    for channel, by_channel in contacts.groupby("channel", observed=True):
        _first(code, _refused_codes(by_channel, str(channel), facts, at))
    if facts.known_voters is not None:
        is_known = among(contacts["voter_id"], facts.known_voters)
        unknown = np.where(is_known, "", "unknown_person")
        _first(code, pd.Series(unknown, index=contacts.index, dtype=object))
    return code


def _first(code: pd.Series, further_codes: pd.Series) -> None:
    """Fill in reasons where there is none yet."""
    present_codes = code.loc[further_codes.index]
    code.loc[further_codes.index] = present_codes.where(
        present_codes != "", further_codes
    )


def _refused_codes(
    contacts: pd.DataFrame, channel: str, facts: CurrentFacts, at: pd.Timestamp
) -> pd.Series:
    refusal_code = pd.Series("", index=contacts.index, dtype=object)
    refused = refusals(
        contacts["voter_id"], channel, facts.permissions, facts.people, facts.rules, at
    )
    for code, who in refused.items():
        _first(refusal_code, pd.Series(np.where(who, code, ""), index=contacts.index))
    return refusal_code
