"""Who can be reached by a channel, as its lists and audiences decide it."""

from typing import NamedTuple

import pandas as pd

from hustings.serving.export.audiences import has_address, matchable
from hustings.serving.export.lists import details_of, kind_of, reachable, usable
from hustings.serving.export.settings import ExportChannel, ExportSettings


class Reach(NamedTuple):
    """Whether each voter can be reached by a channel.

    Attributes:
        has_address: Whether there is an address that can be used.
        unusable: Whether there are only values that are none: "N/A", 0000000000.
    """

    has_address: pd.Series
    unusable: pd.Series


def reach(
    people: pd.DataFrame,
    channel: ExportChannel,
    settings: ExportSettings,
    details: pd.DataFrame,
) -> Reach | None:
    """Who can be reached by a channel; None where it asks for no address.

    Args:
        people: voter_id, a row a voter.
        channel: How it takes contacts.
        settings: Of the export.
        details: IDENTITIES.
    """
    kind = kind_of(channel)
    if kind == "audience":
        as_written = details_of(people, details, tuple(settings.audience_fields))
        with_address = has_address(matchable(people, details, settings))
        return Reach(with_address, has_address(as_written) & ~with_address)
    if kind == "places" or not channel.details or not channel.needs:
        return None
    as_written = details_of(people, details, channel.needs)
    with_address = reachable(usable(as_written, settings.calling_code), channel)
    return Reach(with_address, reachable(as_written, channel) & ~with_address)
