"""Who may be reached by which channel, in a form that a bundle may carry: digests.

The campaign's do-not-contact list and its addresses go with the bundle as keyed digests
of voter ids, so that `/recommend` refuses whom the plan refuses, wherever it is served.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from hustings.features.atomic import write_parquet
from hustings.features.persons.keys import Never
from hustings.features.tables import TIMESTAMP
from hustings.serving.eligible import People

FILE = "contact_lists.parquet"
LISTED, ADDRESS = "do_not_contact", "address"
_COLUMNS = ["kind", "channel", "since", "digest"]


@dataclass(frozen=True)
class ListedVoters:
    """Voters on one list, by digest.

    Attributes:
        kind: `do_not_contact` or `address`.
        channel: Of the list; `*` for any.
        since: Day from which on it holds, or NaT.
        voters: Who is on it.
    """

    kind: str
    channel: str
    since: pd.Timestamp
    voters: Never


@dataclass(frozen=True)
class ContactLists:
    """The lists of a campaign.

    Attributes:
        lists: One for each kind, channel and day.
        has_addresses: Whether the campaign knows addresses: without, none is missing.
    """

    lists: tuple[ListedVoters, ...] = ()
    has_addresses: bool = False

    @classmethod
    def of(
        cls,
        campaign_key: bytes,
        do_not_contact: pd.DataFrame | None,
        addresses: pd.DataFrame | None,
    ) -> Self:
        """From DO_NOT_CONTACT and ADDRESSES, None where there is none."""
        lists = []
        if do_not_contact is not None:
            since = do_not_contact.get("since", pd.Series(pd.NaT, do_not_contact.index))
            dated = do_not_contact.assign(since=pd.to_datetime(since).dt.as_unit("us"))
            by = dated.groupby(["channel", "since"], dropna=False, observed=True)
            lists += [
                ListedVoters(
                    LISTED, str(channel), day, Never.of(campaign_key, rows["voter_id"])
                )
                for (channel, day), rows in by
            ]
        if addresses is not None:
            lists += [
                ListedVoters(
                    ADDRESS, str(channel), pd.NaT,
                    Never.of(campaign_key, rows["voter_id"]),
                )
                for channel, rows in addresses.groupby("channel", observed=True)
            ]  # fmt: skip
        return cls(tuple(lists), addresses is not None)

    def write(self, folder: Path) -> None:
        """Write the digests into a bundle; their key stands in plan.json."""
        rows = [
            (one.kind, one.channel, one.since, digest)
            for one in self.lists
            for digest in sorted(one.voters.digests)
        ]
        if self.has_addresses and not any(one.kind == ADDRESS for one in self.lists):
            rows.append((ADDRESS, "", pd.NaT, ""))
        frame = pd.DataFrame(rows, columns=_COLUMNS).astype({"since": TIMESTAMP})
        write_parquet(folder / FILE, frame)

    @classmethod
    def read(cls, folder: Path, key: bytes) -> Self:
        """From a bundle.

        Args:
            folder: The bundle.
            key: What digests of voter ids are made with.
        """
        frame = pd.read_parquet(folder / FILE)
        by = ["kind", "channel", "since"]
        lists = [
            ListedVoters(kind, channel, since, Never(key, frozenset(rows["digest"])))
            for (kind, channel, since), rows in frame.groupby(by, dropna=False)
        ]
        return cls(tuple(lists), bool((frame["kind"] == ADDRESS).any()))

    def people(
        self, voter_id: pd.Series, age: pd.Series | None, closed: pd.DataFrame
    ) -> People:
        """What is known of some voters beside their permissions.

        Args:
            voter_id: Whose.
            age: Years, by voter_id; None where no age is known of anybody.
            closed: DO_NOT_CONTACT by what channels have reported since.
        """
        columns = ["voter_id", "channel", "since"]
        by_kind: dict[str, list[pd.DataFrame]] = {LISTED: [], ADDRESS: []}
        for one in self.lists:
            who = voter_id[one.voters.holds(voter_id)]
            rows = pd.DataFrame(
                {"voter_id": who, "channel": one.channel, "since": one.since}
            )
            by_kind[one.kind].append(rows.astype({"since": TIMESTAMP}))
        listed = [rows for rows in (*by_kind[LISTED], closed[columns]) if len(rows)]
        addresses = [rows[["voter_id", "channel"]] for rows in by_kind[ADDRESS]]
        nobody = pd.DataFrame({"voter_id": [], "channel": []})
        return People(
            age=age,
            do_not_contact=pd.concat(listed, ignore_index=True) if listed else None,
            addresses=pd.concat([nobody, *addresses], ignore_index=True)
            if self.has_addresses
            else None,
        )
