"""Custom audiences: hashed addresses of those who may be matched, and of nobody else.

A file holds no voter id: the platform could keep it. Somebody held out is in no
audience, nor is anybody whose address is also that of somebody held out, since the
platform would find both.
"""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from hustings.serving.export.lists import Built, Part, counts_of, details_of
from hustings.serving.export.normal import hashed, normalised
from hustings.serving.export.terms import BATCH, Channel, ExportError, Terms

ADDRESSES = ("email", "phone")
"""Fields that find somebody on their own."""


def audience_lists(
    contacts: pd.DataFrame,
    channel: Channel,
    terms: Terms,
    details: pd.DataFrame | None,
    held: pd.Series,
) -> Built:
    """Audiences of one channel: one per day and message.

    Args:
        contacts: PLAN rows of the channel that may go.
        channel: How it takes them.
        terms: Fields and how they are written.
        details: IDENTITIES.
        held: Voter ids of those held out.

    Raises:
        ExportError: If the campaign declares no addresses.
    """
    known = _required(details)
    shown = matchable(contacts, known, terms)
    refused = _refused(shown, _addresses_of(held, known, terms))
    parts: list[Part] = []
    by_message = contacts.groupby(["send_on", "message_id"], observed=True)
    for number, (_, mine) in enumerate(by_message, start=1):
        going = mine.index[refused.loc[mine.index] == ""]
        if _n_people(shown.loc[going]) < channel.min_audience:
            refused.loc[going] = "small_audience"
            continue
        stem = f"audience-{_of(mine)}-{number:02}"
        parts += _batches(stem, shown.loc[going], contacts.loc[going], terms)
    return Built(parts, refused)


def removed_audiences(
    contacts: pd.DataFrame, terms: Terms, details: pd.DataFrame | None
) -> list[Part]:
    """Hashes that a platform has to take out of its audiences, by day and message."""
    shown = matchable(contacts, _required(details), terms)
    parts: list[Part] = []
    by_message = contacts.groupby(["send_on", "message_id"], observed=True)
    for number, (_, mine) in enumerate(by_message, start=1):
        stem = f"removed-audience-{_of(mine)}-{number:02}"
        batches = _batches(stem, shown.loc[mine.index], mine, terms)
        parts += [replace(part, counts=part.counts.iloc[:0]) for part in batches]
    return parts


def exclusions(
    held: pd.Series,
    name: str,
    channel: Channel,
    terms: Terms,
    details: pd.DataFrame | None,
) -> list[Part]:
    """The people held out, for a platform to exclude; only where that is declared.

    Raises:
        ExportError: If they are too few to hide among each other.
    """
    people = pd.DataFrame({"voter_id": held.to_numpy()})
    shown = matchable(people, _required(details), terms)
    found = shown[_found(shown)]
    if _n_people(found) < channel.min_audience:
        raise ExportError(
            f"expected {channel.min_audience:,} or more people held out who can be "
            f"excluded, got {_n_people(found):,}; mend [export.audience] "
            "exclude_holdout in campaign.toml"
        )
    none = pd.DataFrame({"channel": [], "send_on": [], "message_id": [], "n": []})
    return [
        Part(
            f"exclude-{name}-{number:04}", _written(rows, terms), none, always_csv=True
        )
        for number, rows in _in_batches(found)
    ]


def matchable(
    people: pd.DataFrame, details: pd.DataFrame, terms: Terms
) -> pd.DataFrame:
    """Fields of people as they are hashed, before hashing; missing where none."""
    mine = details_of(people, details, tuple(terms.audience_fields))
    found = {
        name: normalised(mine[name], name, calling_code=terms.calling_code)
        if name in mine
        else pd.Series(index=people.index, dtype="str")
        for name in terms.audience_fields
    }
    shown = pd.DataFrame(found, index=people.index)
    if "phone" in shown and not terms.phone_plus:
        shown["phone"] = shown["phone"].str.removeprefix("+")
    return shown


def _required(details: pd.DataFrame | None) -> pd.DataFrame:
    if details is None:
        raise ExportError(
            "expected [export.contacts] in campaign.toml, which says where addresses "
            "lie: a platform finds nobody by a voter id"
        )
    return details


def _found(shown: pd.DataFrame) -> pd.Series:
    """Whether anybody can be found by an address."""
    some = [c for c in ADDRESSES if c in shown]
    found: pd.Series = shown[some].notna().any(axis=1)
    return found


def _addresses_of(
    held: pd.Series, details: pd.DataFrame, terms: Terms
) -> dict[str, pd.Series]:
    people = pd.DataFrame({"voter_id": held.to_numpy()})
    shown = matchable(people, details, terms)
    return {name: shown[name].dropna() for name in ADDRESSES if name in shown}


def _refused(shown: pd.DataFrame, held: dict[str, pd.Series]) -> pd.Series:
    code = pd.Series("", index=shown.index, dtype="str")
    code = code.mask(~_found(shown), "no_address")
    for name, addresses in held.items():
        code = code.mask(shown[name].isin(addresses), "held_out_address")
    return code


def _n_people(shown: pd.DataFrame) -> int:
    """People that a platform can tell apart: an address that two share is one."""
    some = [c for c in ADDRESSES if c in shown]
    return len(shown[some].drop_duplicates())


def _batches(
    stem: str, shown: pd.DataFrame, contacts: pd.DataFrame, terms: Terms
) -> Iterator[Part]:
    for number, rows in _in_batches(shown):
        counts = counts_of(contacts.loc[rows.index])
        yield Part(
            f"{stem}-{number:04}", _written(rows, terms), counts, always_csv=True
        )


def _in_batches(shown: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    for number, first in enumerate(range(0, len(shown), BATCH), start=1):
        yield number, shown.iloc[first : first + BATCH]


def _written(rows: pd.DataFrame, terms: Terms) -> pd.DataFrame:
    """Hashes under the platform's names, in an order that says nothing."""
    told = {
        terms.audience_columns.get(name, f"{name}_sha256"): hashed(rows[name])
        for name in terms.audience_fields
    }
    frame = pd.DataFrame(told)
    return frame.sort_values(list(frame.columns)).reset_index(drop=True)


def _of(contacts: pd.DataFrame) -> str:
    first = contacts.iloc[0]
    return f"{first['channel']}-{first['send_on']:%Y-%m-%d}"
