"""Who can be reached by which channel, before anything is planned.

Addresses are read from `[export.contacts]`, brought into the form of the lists and kept
in memory: what is written is that a voter can be reached, never by what.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from hustings.experiments.declaration import Campaign, data_dir
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.links import read_voters
from hustings.experiments.stages.persons import known_persons
from hustings.features.ingest import Folders
from hustings.features.membership import among
from hustings.features.tables import ADDRESSES, TableError, check
from hustings.serving.eligible import send_window
from hustings.serving.export.reach import reach
from hustings.serving.export.settings import (
    CHANNELS,
    NEVER_EXPORT,
    ExportChannel,
    ExportSettings,
    FileFormat,
)
from hustings.serving.rules import platforms, rule_set


def write_reachable(
    run: Run, voters_path: Path, tables: Mapping[str, pd.DataFrame]
) -> None:
    """Write who can be reached by each channel that has a price.

    Args:
        run: Writes `tables/addresses.parquet`, which rules read, and `reachable.json`:
            channel → voters, reachable, and unusable (of voters whose values are all
            no address); nothing where the campaign declares no contacts.
        voters_path: VOTERS, as Parquet.
        tables: The other checked tables.
    """
    if run.campaign.campaign.rule_set in NEVER_EXPORT:
        return
    details = contact_details(run)
    if details is None:
        return
    voters = pd.read_parquet(voters_path, columns=["voter_id"])
    given, settings = tables.get("addresses"), export_settings(run.campaign)
    rows, counts = [], {}
    for name in sorted(set(tables["costs"]["channel"])):
        listed = voters[["voter_id"]]
        if given is not None:
            of_channel = given.loc[given["channel"] == name, "voter_id"]
            listed = listed[among(listed["voter_id"], of_channel)]
        channel_reach = reach(listed, settings.channel(name), settings, details)
        if channel_reach is not None:
            listed = listed[channel_reach.has_address]
            counts[name] = {
                "voters": len(voters),
                "reachable": len(listed),
                "unusable": int(channel_reach.unusable.sum()),
            }
        rows.append(listed.assign(channel=name))
    addresses = pd.concat(rows, ignore_index=True)
    run.write(
        "tables/addresses",
        check(ADDRESSES, addresses.astype({"voter_id": "str", "channel": "str"})),
    )
    run.write_json("reachable", counts)


def contact_details(run: Run) -> pd.DataFrame | None:
    """Addresses of the voters, read from where they lie and kept in memory.

    Whoever is forgotten is left out, whatever the file still has.
    """
    campaign, source = run.campaign, run.campaign.export.contacts
    if source is None:
        return None
    folders = Folders(campaign=campaign.folder, data=data_dir(), raw=run.home / "raw")
    try:
        addresses = read_voters(run, source, folders, section="[export.contacts]").frame
    except TableError as failure:
        # the same reader as that of [link.voters], whose key it would tell
        message = str(failure).replace("[link.voters", "[export.contacts")
        raise type(failure)(message) from None
    gone = known_persons(run.home).keys.forgotten().rows(addresses)
    return addresses[~gone].reset_index(drop=True)


def export_settings(
    campaign: Campaign, file_format: FileFormat = "csv"
) -> ExportSettings:
    """How channels take lists: as rules and platforms say, then as is declared."""
    audience = campaign.export.audience
    return ExportSettings(
        rule_set=campaign.campaign.rule_set,
        channels={name: _channel(campaign, name) for name in CHANNELS},
        file_format=file_format,
        audience_fields=audience.fields,
        audience_columns=audience.columns,
        phone_plus=audience.phone_plus,
        platform=audience.platform,
        calling_code=audience.calling_code,
        exclude_holdout=audience.exclude_holdout,
        place=audience.place,
    )


def _channel(campaign: Campaign, name: str) -> ExportChannel:
    channel = CHANNELS[name]
    rules = rule_set(campaign.campaign.rule_set)
    if rules.of("hours", name):
        starts, until = send_window(rules, name)
        channel = replace(channel, starts=starts, until=until)
    platform = platforms().get(name)
    if platform is not None:
        channel = replace(
            channel, keys=platform.keys, min_audience=platform.min_audience,
            hashed_lists=platform.hashed_lists,
        )  # fmt: skip
    section = campaign.export.channels.get(name)
    if section is None:
        return channel
    return replace(
        channel,
        details=channel.details if section.details is None else section.details,
        needs=channel.needs if section.needs is None else section.needs,
        min_audience=max(channel.min_audience, section.min_audience),
    )
