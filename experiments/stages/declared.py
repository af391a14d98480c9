"""Limits of `[plan]`, as arrays over the voters of an audience."""

from collections.abc import Mapping, Sequence

import pandas as pd

from hustings.experiments.declaration import CampaignError
from hustings.experiments.stages.context import Run
from hustings.features.arrays import Bools
from hustings.features.training_set import Arm
from hustings.serving.plan import ChannelCharges, GroupBound


def group_bounds(run: Run, voters: pd.DataFrame, share: float) -> list[GroupBound]:
    """Caps and shares of declared groups.

    Args:
        run: The run.
        voters: Of an audience.
        share: Its share of the campaign's contacts.
    """
    return [
        GroupBound(
            name,
            _among(voters, group.column, group.values, f"[plan.groups.{name}]"),
            group.low, group.high, None if group.most is None else group.most * share,
        )
        for name, group in run.campaign.plan.groups.items()
    ]  # fmt: skip


def _among(
    voters: pd.DataFrame, column: str, values: Sequence[str], where: str
) -> Bools:
    if column not in voters:
        raise CampaignError(
            f"{where}: expected a column of the voters, got {column!r}; map it in "
            "[tables.voters.columns]"
        )
    column_values = voters[column].astype(str)
    absent = sorted(set(values) - set(column_values))
    if absent:
        raise CampaignError(
            f"{where}: no voter has {column} = {absent[0]!r}; mend values"
        )
    return column_values.isin(values).to_numpy(dtype=bool)


def entered_channels(run: Run, arms: Sequence[Arm]) -> dict[str, ChannelCharges]:
    """Set-up fee and minimum order of every channel that has one."""
    declared = run.campaign.plan.channels
    _require_known(declared, {arm.channel for arm in arms}, "channels", "channel")
    return {
        name: ChannelCharges(
            channel_section.setup_usd, float(channel_section.minimum_order)
        )
        for name, channel_section in declared.items()
    }


def message_bounds(
    run: Run, arms: Sequence[Arm], share: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Caps and floors of messages, for an audience with a share of the contacts."""
    declared = run.campaign.plan.messages
    _require_known(declared, {arm.message_id for arm in arms}, "messages", "message")
    caps = {m: t.most * share for m, t in declared.items() if t.most is not None}
    floors = {m: t.least * share for m, t in declared.items() if t.least > 0}
    return caps, floors


def _require_known(
    declared: Mapping[str, object], sendable: set[str], section: str, what: str
) -> None:
    unknown = sorted(set(declared) - sendable)
    if unknown:
        raise CampaignError(
            f"[plan.{section}.{unknown[0]}]: no {what} of that name can be sent; "
            f"expected one of {', '.join(sorted(sendable))}"
        )
