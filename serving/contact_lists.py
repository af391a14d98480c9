"""Contact lists by channel, as digests that a bundle may carry.

The campaign's do-not-contact list and its addresses go with the bundle as keyed digests
of voter ids, so that `/recommend` refuses whom the plan refuses, wherever it is served.
"""

import json
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, cast

import pandas as pd

from hustings.features.arrays import Bools, Floats
from hustings.features.atomic import write_parquet
from hustings.features.persons.keys import NOBODY, Never
from hustings.serving.eligible import People, PeopleNow

FILE = "contact_lists.parquet"
LISTED, ADDRESS = "do_not_contact", "address"
_BY = ["kind", "channel", "since"]
_ROW = ["voter_id", "channel"]


@dataclass(frozen=True)
class ListedVoters:
    """Voters on one list, by digest.

    Attributes:
        kind: `do_not_contact` or `address`.
        channel: Of the list; `*` for any.
        since: Day from which on it holds, YYYY-MM-DD; empty for ever.
        voters: Who is on it.
    """

    kind: str
    channel: str
    since: str
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
    def of(cls, campaign_key: bytes, people: People) -> Self:
        """The digests of a campaign's lists.

        Args:
            campaign_key: Of the campaign.
            people: With its do-not-contact list and its addresses.
        """
        parts = []
        if people.do_not_contact is not None:
            listed = people.do_not_contact
            since = pd.to_datetime(listed.get("since", pd.Series(index=listed.index)))
            day = since.dt.strftime("%Y-%m-%d").fillna("")
            parts.append(listed[_ROW].assign(kind=LISTED, since=day))
        if people.addresses is not None:
            parts.append(people.addresses[_ROW].assign(kind=ADDRESS, since=""))
        nobody = pd.DataFrame({name: [] for name in ("voter_id", *_BY)}, dtype="str")
        rows = pd.concat([nobody, *parts], ignore_index=True)
        lists = [
            _list_of(names, Never.of(campaign_key, voters["voter_id"]))
            for names, voters in rows.groupby(_BY)
        ]
        return cls(tuple(lists), people.addresses is not None)

    def write(self, folder: Path) -> None:
        """Write the digests into a bundle, whose key stays with the campaign."""
        rows = [
            (one.kind, one.channel, one.since, digest)
            for one in self.lists
            for digest in sorted(one.voters.digests)
        ]
        if self.has_addresses:
            # a campaign of addresses that nobody has is none without addresses
            rows.append((ADDRESS, "", "", ""))
        frame = pd.DataFrame(rows, columns=[*_BY, "digest"]).astype("str")
        write_parquet(folder / FILE, frame)

    @classmethod
    def read(cls, folder: Path, key: bytes) -> Self:
        """Read the lists of a bundle.

        Args:
            folder: The bundle.
            key: What digests of voter ids are made with.
        """
        frame = pd.read_parquet(folder / FILE)
        lists = [
            _list_of(names, Never(key, frozenset(rows["digest"])))
            for names, rows in frame.groupby(_BY)
        ]
        return cls(tuple(lists), bool((frame["kind"] == ADDRESS).any()))

    def people(
        self,
        voter_ids: Sequence[str],
        age: Floats | None,
        closed: Mapping[str, Collection[str]],
        voted: Collection[str],
        at: pd.Timestamp,
    ) -> PeopleNow:
        """Facts of some voters besides their permissions, as they are now.

        Args:
            voter_ids: Whose.
            age: Years, in their order; None where no age is known of anybody.
            closed: Channel → who was reported since as not to be contacted by it.
            voted: Who has voted already.
            at: Now.
        """
        today = f"{at:%Y-%m-%d}"
        listed = {channel: set(voters) for channel, voters in closed.items()}
        addresses: dict[str, set[str]] = {}
        digests = self.lists[0].voters.digests_of(voter_ids) if self.lists else []
        for one in self.lists:
            of_kind = listed if one.kind == LISTED else addresses
            if one.since <= today:
                of_kind.setdefault(one.channel, set()).update(
                    voter
                    for voter, digest in zip(voter_ids, digests, strict=True)
                    if digest in one.voters.digests
                )
        return PeopleNow(
            age=age,
            do_not_contact=listed,
            addresses=addresses if self.has_addresses else None,
            voted=voted,
        )


@dataclass
class NeverContacted:
    """Voters who are held out or forgotten, as a bundle's plan.json has them now.

    `hustings forget` adds to that file: an endpoint that runs refuses the forgotten
    from the next request on.

    Attributes:
        path: plan.json.
        key: What digests of voter ids are made with.
    """

    path: Path
    key: bytes
    _read_of: tuple[int, int, int] = field(init=False, default=(0, 0, 0))
    _never: Never = field(init=False, default=NOBODY)
    _forgotten: Never = field(init=False, default=NOBODY)

    def __post_init__(self) -> None:
        """Read the file: one that cannot be read is an error at the start."""
        self._refresh()

    def holds(self, voter_ids: Sequence[str]) -> tuple[Bools, Bools]:
        """Who is never contacted, and who of them is forgotten, shape (n,) each.

        Args:
            voter_ids: Whose.
        """
        self._refresh()
        return self._never.holds(voter_ids), self._forgotten.holds(voter_ids)

    def forgotten(self, voter_ids: Sequence[str]) -> Bools:
        """Who of some voters is forgotten, shape (n,)."""
        return self.holds(voter_ids)[1]

    def _refresh(self) -> None:
        stat = self.path.stat()
        version = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if version != self._read_of:
            terms = json.loads(self.path.read_text())
            self._never = Never.from_json(terms["never"], self.key)
            self._forgotten = Never.from_json(terms["forgotten"], self.key)
            self._read_of = version


def _list_of(names: Hashable, voters: Never) -> ListedVoters:
    kind, channel, since = cast("tuple[object, object, object]", names)
    return ListedVoters(str(kind), str(channel), str(since), voters)
