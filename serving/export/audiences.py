"""Custom audiences: hashed addresses of the contacts that may be matched.

A file holds no voter id, which the platform could keep. Held-out voters are in no
audience, nor are voters who share an address with a held-out voter, since the platform
would match both.
"""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from hustings.serving.export.lists import Built, Part, counts_of, details_of
from hustings.serving.export.normal import normalised
from hustings.serving.export.settings import (
    BATCH,
    ExportChannel,
    ExportError,
    ExportSettings,
)

ADDRESSES = ("email", "phone")
"""Fields that find somebody on their own."""


def audience_lists(
    contacts: pd.DataFrame,
    channel: ExportChannel,
    settings: ExportSettings,
    details: pd.DataFrame | None,
    held: pd.Series,
) -> Built:
    """Audiences of one channel: one per day and message.

    Args:
        contacts: PLAN rows of the channel that may go.
        channel: How it takes them.
        settings: Fields and how they are written.
        details: IDENTITIES.
        held: Voter ids of those held out.

    Raises:
        ExportError: If the campaign declares no addresses.
    """
    identities = _required(details)
    match_fields = matchable(contacts, identities, settings)
    refused = _refused(match_fields, _addresses_of(held, identities, settings))
    as_written = details_of(contacts, identities, tuple(settings.audience_fields))
    n_unusable = int((has_address(as_written) & (refused == "no_address")).sum())
    parts: list[Part] = []
    by_message = contacts.groupby(["send_on", "message_id"], observed=True)
    for number, (_, contacts_of_message) in enumerate(by_message, start=1):
        going = contacts_of_message.index[refused.loc[contacts_of_message.index] == ""]
        if _n_people(match_fields.loc[going]) < channel.min_audience:
            refused.loc[going] = "small_audience"
            continue
        stem = f"audience-{_of(contacts_of_message)}-{number:02}"
        parts += _batches(stem, match_fields.loc[going], contacts.loc[going], settings)
    return Built(parts, refused, n_unusable)


def removed_audiences(
    contacts: pd.DataFrame, settings: ExportSettings, details: pd.DataFrame | None
) -> list[Part]:
    """Hashes that a platform has to take out of its audiences, by day and message."""
    match_fields = matchable(contacts, _required(details), settings)
    parts: list[Part] = []
    by_message = contacts.groupby(["send_on", "message_id"], observed=True)
    for number, (_, contacts_of_message) in enumerate(by_message, start=1):
        stem = f"removed-audience-{_of(contacts_of_message)}-{number:02}"
        batches = _batches(
            stem,
            match_fields.loc[contacts_of_message.index],
            contacts_of_message,
            settings,
        )
        parts += [replace(part, counts=part.counts.iloc[:0]) for part in batches]
    return parts


def exclusions(
    held: pd.Series,
    name: str,
    channel: ExportChannel,
    settings: ExportSettings,
    details: pd.DataFrame | None,
) -> list[Part]:
    """The people held out, for a platform to exclude; only where that is declared.

    Raises:
        ExportError: If they are too few to hide among each other.
    """
    people = pd.DataFrame({"voter_id": held.to_numpy()})
    match_fields = matchable(people, _required(details), settings)
    findable = match_fields[has_address(match_fields)]
    if _n_people(findable) < channel.min_audience:
        raise ExportError(
            f"expected {channel.min_audience:,} or more people held out who can be "
            f"excluded, got {_n_people(findable):,}; mend [export.audience] "
            "exclude_holdout in campaign.toml"
        )
    none = pd.DataFrame({"channel": [], "send_on": [], "message_id": [], "n": []})
    return [
        Part(
            f"exclude-{name}-{number:04}",
            _written(rows, settings),
            none,
            always_csv=True,
        )
        for number, rows in _in_batches(findable)
    ]


def matchable(
    people: pd.DataFrame, details: pd.DataFrame, settings: ExportSettings
) -> pd.DataFrame:
    """Fields of people as they are hashed, before hashing; missing where none."""
    identities = details_of(people, details, tuple(settings.audience_fields))
    compared = settings.audience_format.compared
    normal_forms = {
        name: compared(
            normalised(identities[name], name, calling_code=settings.calling_code), name
        )
        if name in identities
        else pd.Series(index=people.index, dtype="str")
        for name in settings.audience_fields
    }
    return pd.DataFrame(normal_forms, index=people.index)


def _required(details: pd.DataFrame | None) -> pd.DataFrame:
    if details is None:
        raise ExportError(
            "expected [export.contacts] in campaign.toml, which says where addresses "
            "lie: a platform finds nobody by a voter id"
        )
    return details


def has_address(match_fields: pd.DataFrame) -> pd.Series:
    """Whether anybody can be found by an address."""
    address_columns = [c for c in ADDRESSES if c in match_fields]
    has_address: pd.Series = match_fields[address_columns].notna().any(axis=1)
    return has_address


def _addresses_of(
    held: pd.Series, details: pd.DataFrame, settings: ExportSettings
) -> dict[str, pd.Series]:
    people = pd.DataFrame({"voter_id": held.to_numpy()})
    match_fields = matchable(people, details, settings)
    return {
        name: match_fields[name].dropna() for name in ADDRESSES if name in match_fields
    }


def _refused(match_fields: pd.DataFrame, held: dict[str, pd.Series]) -> pd.Series:
    code = pd.Series("", index=match_fields.index, dtype="str")
    code = code.mask(~has_address(match_fields), "no_address")
    for name, addresses in held.items():
        code = code.mask(match_fields[name].isin(addresses), "held_out_address")
    return code


def _n_people(match_fields: pd.DataFrame) -> int:
    """Number of people that a platform can distinguish by their addresses."""
    address_columns = [c for c in ADDRESSES if c in match_fields]
    return len(match_fields[address_columns].drop_duplicates())


def _batches(
    stem: str,
    match_fields: pd.DataFrame,
    contacts: pd.DataFrame,
    settings: ExportSettings,
) -> Iterator[Part]:
    for number, rows in _in_batches(match_fields):
        counts = counts_of(contacts.loc[rows.index])
        yield Part(
            f"{stem}-{number:04}", _written(rows, settings), counts, always_csv=True
        )


def _in_batches(match_fields: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    for number, first in enumerate(range(0, len(match_fields), BATCH), start=1):
        yield number, match_fields.iloc[first : first + BATCH]


def _written(rows: pd.DataFrame, settings: ExportSettings) -> pd.DataFrame:
    """What the platform is given, under its names, in an order that says nothing."""
    platform = settings.audience_format
    columns = {
        platform.columns[name]: platform.written(rows[name], name)
        for name in settings.audience_fields
    }
    frame = pd.DataFrame(columns)
    return frame.sort_values(list(frame.columns)).reset_index(drop=True)


def _of(contacts: pd.DataFrame) -> str:
    first = contacts.iloc[0]
    return f"{first['channel']}-{first['send_on']:%Y-%m-%d}"
