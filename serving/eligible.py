"""Who may be sent what by which channel, and the reason where not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.training_set import Arm

Bools = npt.NDArray[np.bool_]
RuleSet = Literal["us_default", "research_replay"]

CONSENT_CHANNELS = frozenset({"sms", "phone", "email"})
"""Under us_default these need a permission on record; others only its not being
withdrawn. A digest of the rules (TCPA, CAN-SPAM), not legal advice."""
NONE_PAUSED: Mapping[str, str] = MappingProxyType({})
DISCLOSING = frozenset({"household", "others"})
"""A message that shows anybody else's record is planned for nobody."""


@dataclass(frozen=True)
class Eligibility:
    """Permission of every voter and arm, and why not.

    Attributes:
        allowed: Shape (n_voters, n_arms).
        barred_messages: Message → why nobody gets it.
        no_channel: Channel → reason → voters it holds for, shape (n_voters,).
    """

    allowed: Bools
    barred_messages: dict[str, str]
    no_channel: dict[str, dict[str, Bools]]

    def told(self) -> list[dict[str, str | int]]:
        """Reason and number of voters, for the report."""
        n = len(self.allowed)
        rows: list[dict[str, str | int]] = [
            {"reason": f"message {message}: {why}", "n_voters": n}
            for message, why in self.barred_messages.items()
        ]
        for channel, reasons in self.no_channel.items():
            for why, who in reasons.items():
                if who.any():
                    rows.append(
                        {"reason": f"{channel}: {why}", "n_voters": int(who.sum())}
                    )
        return rows


def barred(
    messages: pd.DataFrame,
    *,
    rule_set: RuleSet,
    lowers_turnout: frozenset[str] = frozenset(),
    paused: Mapping[str, str] = NONE_PAUSED,
) -> dict[str, str]:
    """Messages that nobody may be sent, with the reason.

    Args:
        messages: MESSAGES table.
        rule_set: `us_default`; `research_replay` bars nothing and never exports.
        lowers_turnout: Messages whose measured effect on turnout is below zero: such
            an effect is never worth anything, whatever else the message does.
        paused: Message → why, as `serving.pauses` tells it: holds under every rule set.
    """
    if rule_set == "research_replay":
        return dict(paused)
    found = dict.fromkeys(sorted(lowers_turnout), "was measured to lower turnout")
    for row in messages.itertuples():
        message = str(row.message_id)
        if row.discloses in DISCLOSING:
            found[message] = f"discloses the record of {row.discloses!s}"
        elif _blank(row, "sponsor") or _blank(row, "disclaimer"):
            found[message] = "lacks its sponsor or its 'paid for by' line"
    return {**found, **paused}


def _blank(row: object, name: str) -> bool:
    value = getattr(row, name, None)
    return value is None or pd.isna(value) or not str(value).strip()


def eligibility(
    voter_id: pd.Series,
    arms: Sequence[Arm],
    messages: pd.DataFrame,
    permissions: pd.DataFrame | None,
    *,
    rule_set: RuleSet,
    as_of: pd.Timestamp,
    lowers_turnout: frozenset[str] = frozenset(),
    paused: Mapping[str, str] = NONE_PAUSED,
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
    """
    stopped = barred(
        messages, rule_set=rule_set, lowers_turnout=lowers_turnout, paused=paused
    )
    channels = {arm.channel for arm in arms}
    no_channel = {
        channel: _refusals(voter_id, channel, permissions, rule_set, as_of)
        for channel in sorted(channels)
    }
    allowed = np.ones((len(voter_id), len(arms)), dtype=bool)
    for a, arm in enumerate(arms):
        for who in no_channel[arm.channel].values():
            allowed[:, a] &= ~who
        allowed[:, a] &= arm.message_id not in stopped
    sendable = {arm.message_id for arm in arms}
    told = {m: why for m, why in stopped.items() if m in sendable}
    return Eligibility(allowed, told, no_channel)


def _refusals(
    voter_id: pd.Series,
    channel: str,
    permissions: pd.DataFrame | None,
    rule_set: RuleSet,
    as_of: pd.Timestamp,
) -> dict[str, Bools]:
    if rule_set == "research_replay":
        return {}
    withdrawn = _among(voter_id, _permitted(permissions, channel, as_of, held=False))
    found = {"permission withdrawn": withdrawn}
    if channel in CONSENT_CHANNELS:
        granted = _among(voter_id, _permitted(permissions, channel, as_of, held=True))
        found["no permission on record"] = ~granted & ~withdrawn
    return found


def _permitted(
    permissions: pd.DataFrame | None, channel: str, as_of: pd.Timestamp, *, held: bool
) -> pd.Series:
    """Voters who hold a permission for a channel, or have withdrawn it."""
    if permissions is None:
        return pd.Series([], dtype=str)
    mine = permissions[permissions["channel"] == channel]
    # a withdrawal at any hour of the as-of day counts; a grant must be there before
    withdrawn = mine["withdrawn_at"] < as_of.normalize() + pd.Timedelta(days=1)
    granted = mine["granted_at"] <= as_of
    found: pd.Series = mine["voter_id"][granted & ~withdrawn if held else withdrawn]
    return found


def _among(voter_id: pd.Series, some: pd.Series) -> Bools:
    return voter_id.isin(some).to_numpy(dtype=bool)
