"""Contact lists: one per channel and day, the voter's id first.

A list names ids alone, which the channel's vendor joins, unless the campaign declares
where addresses lie: then those that the channel needs stand on its list, and nowhere
else. A telephone stands there in E.164, and what is no address stands nowhere: a voter
without another one is refused.
"""

import re
from dataclasses import dataclass

import pandas as pd

from hustings.features.persons.contact_details import (
    each_distinct,
    emails,
    telephones,
)
from hustings.serving.export.settings import ExportChannel, ExportSettings
from hustings.serving.export.sorting import COUNTED

LIST = ["voter_id", "message_id", "channel", "send_on", "send_from", "send_until",
        "title", "disclaimer"]  # fmt: skip
PLACES = ("address", "street", "street_number", "city", "state", "postcode")
_NO_PLACE = re.compile(
    r"[\W_0]*|n\W?a|#?n/a|none|null|nil|nan|unknown|no address|not (?:available|given)|"
    r"(?:address )?(?:withheld|confidential|protected|unlisted)|refused|x+|tb[ac]|blank"
)
"""What stands in a file where there is no place."""
REMOVED = ["voter_id", "message_id", "channel", "send_on", "reason"]


@dataclass(frozen=True)
class Part:
    """Rows of one file.

    Attributes:
        name: Of the file, without its ending.
        frame: Its rows, texts and numbers as they are written.
        counts: Contacts in it: channel, send_on, message_id, n.
        always_csv: Whether it is CSV whatever was asked for.
    """

    name: str
    frame: pd.DataFrame
    counts: pd.DataFrame
    always_csv: bool = False


@dataclass(frozen=True)
class Built:
    """Files of one channel.

    Attributes:
        parts: The files.
        refused: Reason code of every contact asked for, '' for one in a file.
        n_unusable: Contacts without an address that have a value where it should be:
            "N/A", 0000000000.
    """

    parts: list[Part]
    refused: pd.Series
    n_unusable: int = 0


def counts_of(contacts: pd.DataFrame) -> pd.DataFrame:
    """Contacts by channel, day and message."""
    return contacts.groupby(COUNTED, observed=True).size().rename("n").reset_index()


def contact_lists(
    contacts: pd.DataFrame,
    channel: ExportChannel,
    messages: pd.DataFrame,
    details: pd.DataFrame | None,
    *,
    calling_code: str,
) -> Built:
    """Lists of one channel.

    Args:
        contacts: PLAN rows of the channel that may go.
        channel: How it takes them.
        messages: MESSAGES, for the 'paid for by' line.
        details: IDENTITIES, or None for ids alone.
        calling_code: Of telephones that are written without one.
    """
    rows = _listed(contacts, channel, messages)
    refused = pd.Series("", index=contacts.index, dtype="str")
    n_unusable = 0
    if details is not None and channel.details:
        as_written = details_of(contacts, details, channel.details)
        contact_details = usable(as_written, calling_code)
        reached = reachable(contact_details, channel)
        n_unusable = int((reachable(as_written, channel) & ~reached).sum())
        refused = refused.mask(~reached, "no_address")
        rows = pd.concat([rows, contact_details], axis=1)[reached]
    parts = [
        Part(f"{name}-{day}", part.reset_index(drop=True), counts_of(
            contacts.loc[part.index]
        ))
        for (name, day), part in rows.groupby(["channel", "send_on"], observed=True)
    ]  # fmt: skip
    return Built(parts, refused, n_unusable)


def usable(details: pd.DataFrame, calling_code: str) -> pd.DataFrame:
    """Details as a list has them: telephones in E.164, what is no address missing.

    Args:
        details: Columns of IDENTITIES.
        calling_code: Of telephones that are written without one.
    """
    columns = {str(name): values for name, values in details.items()}
    if "phone" in columns:
        columns["phone"] = telephones(columns["phone"], calling_code)
    if "email" in columns:
        columns["email"] = emails(columns["email"])
    for name in PLACES:
        if name in columns:
            columns[name] = each_distinct(columns[name], _place)
    return pd.DataFrame(columns, index=details.index)


def _place(written: str) -> str | None:
    text = written.strip()
    return None if _NO_PLACE.fullmatch(text.lower()) else text


def details_of(
    contacts: pd.DataFrame, details: pd.DataFrame, columns: tuple[str, ...]
) -> pd.DataFrame:
    """Columns of the voters' details that are there, with the contacts' index."""
    there = [c for c in columns if c in details]
    aligned = details.set_index("voter_id")[there].reindex(contacts["voter_id"])
    return aligned.set_axis(contacts.index)


def reachable(details: pd.DataFrame, channel: ExportChannel) -> pd.Series:
    """Whether there is an address of the channel."""
    needed = [c for c in channel.needs if c in details]
    if not channel.needs:
        return pd.Series(data=True, index=details.index)
    has_address: pd.Series = details[needed].notna().any(axis=1)
    return has_address


def removed_lists(contacts: pd.DataFrame, code: pd.Series) -> list[Part]:
    """Contacts to remove from lists that have left, by channel and day.

    Args:
        contacts: PLAN rows that have left and may not go any more.
        code: Why.
    """
    rows = contacts.assign(send_on=day_texts(contacts), reason=code)[REMOVED]
    none = counts_of(contacts).iloc[:0]
    return [
        Part(f"removed-{name}-{day}", part.reset_index(drop=True), none)
        for (name, day), part in rows.groupby(["channel", "send_on"], observed=True)
    ]


def day_texts(contacts: pd.DataFrame) -> pd.Series:
    """The day of every contact, as it is written."""
    days: pd.Series = contacts["send_on"].dt.strftime("%Y-%m-%d").astype("str")
    return days


def _listed(
    contacts: pd.DataFrame, channel: ExportChannel, messages: pd.DataFrame
) -> pd.DataFrame:
    said = messages.set_index("message_id").reindex(columns=["title", "disclaimer"])
    said = said.astype("object").fillna("")
    rows = contacts.assign(
        send_on=day_texts(contacts),
        send_from=_hour(channel.starts),
        send_until=_hour(channel.until),
        **{
            name: contacts["message_id"].map(said[name]).fillna("").astype("str")
            for name in ("title", "disclaimer")
        },
    )
    return rows[LIST]


def _hour(hour: int | None) -> str:
    return "" if hour is None else f"{hour:02}:00"


def kind_of(channel: ExportChannel) -> str:
    """Whether a channel takes an audience, places or a list."""
    if channel.hashed_lists:
        return "audience"
    return "places" if channel.keys else "list"


def channel_kinds(settings: ExportSettings, names: list[str]) -> dict[str, str]:
    """How each channel took what left, for the manifest."""
    return {name: kind_of(settings.channel(name)) for name in names}
