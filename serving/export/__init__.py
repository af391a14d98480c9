"""A locked plan → the files that channels are given, every contact accounted for.

`export_plan` checks permissions again, writes contact lists, audiences and place lists,
and a manifest in which planned = exported + refused. Nobody is added to what was
exported: a later export only lists the contacts to remove.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from hustings.features.ingest.reading import content_sha256
from hustings.serving.export.audiences import (
    audience_lists,
    exclusions,
    removed_audiences,
)
from hustings.serving.export.folder import (
    STATUS_FILE,
    earlier_status,
    file_entry,
    write_manifest,
    write_table,
    written_whole,
)
from hustings.serving.export.lists import (
    Built,
    Part,
    channel_kinds,
    contact_lists,
    kind_of,
    removed_lists,
)
from hustings.serving.export.places import (
    changed_places,
    place_lists,
    require_place_lists,
)
from hustings.serving.export.settings import (
    CHANNELS,
    WORDS,
    ExportChannel,
    ExportError,
    ExportSettings,
    Recheck,
    require_exportable,
)
from hustings.serving.export.sorting import (
    COUNTED,
    KEY,
    checked_contacts,
    recheck_codes,
    reconciled,
    require_sums,
    with_earlier,
    without_reasons,
)
from hustings.serving.export.whole_places import (
    earlier_places,
    whole_place_lists,
)

__all__ = [
    "CHANNELS",
    "WORDS",
    "ExportChannel",
    "ExportError",
    "ExportSettings",
    "Exported",
    "Planned",
    "Recheck",
    "export_plan",
]

RECONCILIATION = "reconciliation"
CANCELLED = "cancelled"


@dataclass(frozen=True)
class Planned:
    """A plan with the tables that its files are made of.

    Attributes:
        plan_id: Its name.
        state: draft, approved, locked, sent, returned or cancelled.
        plan: PLAN.
        assignments: ASSIGNMENTS, those held out among them.
        messages: MESSAGES.
        voters: VOTERS; only cells of places read them.
        places: PLACES; no rows where nothing is offered to whole places.
        details: IDENTITIES of the campaign, kept in memory; None for ids alone.
        marked: Batches that were marked as sent, by day and channel: `batch_of`.
        moot: Codes by which nobody is taken out of a list once its day is over.
    """

    plan_id: str
    state: str
    plan: pd.DataFrame
    assignments: pd.DataFrame
    messages: pd.DataFrame
    voters: pd.DataFrame
    places: pd.DataFrame
    details: pd.DataFrame | None = None
    marked: frozenset[str] = frozenset()
    moot: frozenset[str] = frozenset()

    @property
    def starts(self) -> pd.Timestamp:
        """First day of the plan: ages are of that day, in every export."""
        return pd.Timestamp(self.plan["send_on"].min())

    @property
    def held(self) -> pd.Series:
        """Voter ids of those held out."""
        roles = self.assignments["role"]
        held_ids: pd.Series = self.assignments.loc[roles == "holdout", "voter_id"]
        return held_ids


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    Attributes:
        folder: Where the files lie; None where there was nothing to export.
        reconciliation: channel, send_on, message_id, code, n, cost_usd: planned =
            exported (code '') + refused.
        n_removed: Contacts and places that left earlier and are taken out now.
        n_of_past_days: Contacts that were left on lists whose day is over, by codes of
            `Planned.moot`: nobody has said whether they were sent.
    """

    folder: Path | None
    reconciliation: pd.DataFrame
    n_removed: int
    n_of_past_days: int


def export_plan(
    planned: Planned,
    settings: ExportSettings,
    parent: Path,
    stamp: str,
    *,
    recheck: Recheck,
    stopped: Mapping[str, str],
    at: pd.Timestamp,
    channels: Sequence[str] = (),
) -> Exported:
    """Write the files of a plan, or the contacts to remove from those that left.

    Args:
        planned: The plan.
        settings: How channels take their lists.
        parent: Folder of the plan's exports: what lies there has left.
        stamp: Name of the new one in it; they are read in the order of their names.
        recheck: Who may still go, as things stand at a time.
        stopped: Message → code of the reason why no place may get it now.
        at: Now.
        channels: Only these; all of the plan without.

    Raises:
        ExportError: If the rule set never exports, or exports places alone and a
            channel takes persons; the plan is not locked, a contact is of somebody
            held out or unassigned, or the sums do not agree. Nothing is left behind.
    """
    require_exportable(settings.rule_set, planned.state, before=True)
    contacts = _contacts_of(planned, channels)
    names = sorted(set(contacts["channel"]))
    require_place_lists(
        settings.rule_set, {name: settings.channel(name) for name in names}
    )
    with written_whole(parent, stamp) as (aside, folder):
        before = with_earlier(contacts, earlier_status(parent))
        of_places = whole_place_lists(
            planned.places, planned.messages, earlier_places(parent), stopped=stopped,
            cancelled=CANCELLED if planned.state == CANCELLED else "",
            channels=channels,
        )  # fmt: skip
        first = bool(before.isna().any()) or of_places.n_first > 0
        require_exportable(settings.rule_set, planned.state, before=not first)
        code = _codes(planned, contacts, before, recheck, at)
        is_over = _of_past_days(planned, contacts, before, settings, at)
        is_left = is_over & code.isin(planned.moot)
        code, n_of_past_days = code.mask(is_left, ""), int(is_left.sum())
        builder = _FileBuilder(planned, settings)
        builder.first(contacts[before.isna()], code)
        builder.removed(contacts, before, code)
        counted = reconciled(contacts, code)
        n_removed = int(((before == "") & (code != "")).sum())
        if first or n_removed or of_places.n_removed:
            fresh = contacts[before.isna()]
            files = _written([*builder.parts, *of_places.parts], aside, settings)
            require_sums(
                reconciled(fresh, code[fresh.index]), fresh, _n_in(builder.parts)
            )
            files += _accounts(contacts, code, counted, aside)
            files += of_places.written(aside)
            heading = {"plan_id": planned.plan_id, "stamp": folder.name, "at": str(at)}
            heading["kind"] = "full" if first else "delta"
            counts = {} if planned.places.empty else {"places": of_places.counts()}
            manifest = _manifest_of(contacts, code, settings, files, n_removed)
            manifest["values_that_are_no_address"] = builder.n_unusable
            write_manifest(aside, heading | counts | manifest)
            n_out = n_removed + of_places.n_removed
            return Exported(folder, counted, n_out, n_of_past_days)
        aside.rmdir()
    return Exported(None, counted, n_removed, n_of_past_days)


def _contacts_of(planned: Planned, channels: Sequence[str]) -> pd.DataFrame:
    """The contacts of channels; none where only channels of places are asked for."""
    of_places = set(planned.places["channel"])
    of_persons = [name for name in channels if name not in of_places]
    contacts = checked_contacts(planned.plan, planned.assignments, of_persons)
    return contacts.iloc[:0] if channels and not of_persons else contacts


def _codes(
    planned: Planned,
    contacts: pd.DataFrame,
    before: pd.Series,
    recheck: Recheck,
    at: pd.Timestamp,
) -> pd.Series:
    """Why each contact may not go: once refused, always refused."""
    code = recheck_codes(contacts, recheck, at)
    if planned.state == CANCELLED:
        code = code.mask(code == "", CANCELLED)
    earlier = before.notna() & (before != "")
    return code.mask(earlier, before).astype("str")


def batch_of(send_on: pd.Series, channel: pd.Series) -> pd.Series:
    """The batch of each contact: its day and channel, as steps of a plan name them."""
    batch: pd.Series = send_on.dt.strftime("%Y-%m-%d") + "-" + channel.astype("str")
    return batch


def _of_past_days(
    planned: Planned,
    contacts: pd.DataFrame,
    before: pd.Series,
    settings: ExportSettings,
    at: pd.Timestamp,
) -> pd.Series:
    """Contacts on lists of days that are over, of which nobody has said what was sent.

    A contact that was carried out is not taken back by a vote since. Whoever wants no
    contact is taken out all the same, and so is everybody from what a platform holds,
    which is used on later days, too.
    """
    lists = {
        name
        for name in contacts["channel"].unique()
        if kind_of(settings.channel(name)) == "list"
    }
    unmarked = ~batch_of(contacts["send_on"], contacts["channel"]).isin(planned.marked)
    is_over = (before == "") & (contacts["send_on"] < at.normalize())
    of_lists = contacts["channel"].isin(lists)
    return is_over & unmarked & of_lists & (planned.state != CANCELLED)


@dataclass
class _FileBuilder:
    """Builds files channel by channel and fills in the codes of refused contacts."""

    planned: Planned
    terms: ExportSettings
    parts: list[Part] = field(default_factory=list)
    n_unusable: dict[str, int] = field(default_factory=dict)

    def first(self, fresh: pd.DataFrame, code: pd.Series) -> None:
        """Files of contacts that leave for the first time."""
        for name, contacts_of_channel in fresh.groupby("channel", observed=True):
            channel = self.terms.channel(str(name))
            going = contacts_of_channel[code[contacts_of_channel.index] == ""]
            built = self._built(going, channel)
            code.loc[going.index] = built.refused
            self.parts += built.parts
            if built.n_unusable:
                self.n_unusable[str(name)] = built.n_unusable
            if channel.hashed_lists and self.terms.exclude_holdout:
                planned = self.planned
                self.parts += exclusions(
                    planned.held, str(name), channel, self.terms, planned.details
                )

    def removed(
        self, contacts: pd.DataFrame, before: pd.Series, code: pd.Series
    ) -> None:
        """Files that list the contacts to remove from earlier exports."""
        left = contacts[before == ""]
        for name, contacts_of_channel in left.groupby("channel", observed=True):
            channel = self.terms.channel(str(name))
            gone = contacts_of_channel[code[contacts_of_channel.index] != ""]
            if gone.empty:
                continue
            if kind_of(channel) == "list":
                self.parts += removed_lists(gone, code[gone.index])
            elif kind_of(channel) == "audience":
                self.parts += removed_audiences(gone, self.terms, self.planned.details)
            else:
                self._cells_changed(
                    contacts_of_channel.drop(gone.index), gone, channel, code
                )

    def _cells_changed(
        self,
        going: pd.DataFrame,
        gone: pd.DataFrame,
        channel: ExportChannel,
        code: pd.Series,
    ) -> None:
        voters = self.planned.voters
        built = self._built(going, channel)
        self.parts += changed_places(
            going, gone, built, channel, self.terms, voters, at=self.planned.starts
        )
        code.loc[going.index] = built.refused

    def _built(self, going: pd.DataFrame, channel: ExportChannel) -> Built:
        planned, terms = self.planned, self.terms
        if kind_of(channel) == "audience":
            return audience_lists(going, channel, terms, planned.details, planned.held)
        if kind_of(channel) == "places":
            return place_lists(
                going,
                channel,
                terms,
                planned.voters,
                planned.held,
                at=self.planned.starts,
            )
        return contact_lists(
            going, channel, planned.messages, planned.details,
            calling_code=terms.calling_code,
        )  # fmt: skip


def _written(
    parts: list[Part], folder: Path, settings: ExportSettings
) -> list[dict[str, Any]]:
    files = []
    for part in parts:
        kind = "csv" if part.always_csv else settings.file_format
        path = write_table(part.frame, folder / part.name, kind)
        messages = sorted(set(part.counts["message_id"].astype("str")))
        sizes = {"rows": len(part.frame), "contacts": int(part.counts["n"].sum())}
        files.append(file_entry(path) | sizes | {"messages": messages})
    return files


def _accounts(
    contacts: pd.DataFrame, code: pd.Series, counted: pd.DataFrame, folder: Path
) -> list[dict[str, Any]]:
    """What became of each contact, by ids, and the sums."""
    status = contacts[KEY].assign(code=code)
    path = folder / STATUS_FILE
    status.to_parquet(path, index=False, compression="zstd")
    counted = without_reasons(counted)
    day = counted["send_on"].dt.strftime("%Y-%m-%d")
    sums = write_table(counted.assign(send_on=day), folder / RECONCILIATION, "csv")
    return [
        file_entry(path) | {"rows": len(status)},
        file_entry(sums) | {"rows": len(counted)},
    ]


def _n_in(parts: list[Part]) -> pd.Series:
    """Contacts in files, by channel, day and message."""
    counts = pd.concat([part.counts for part in parts]) if parts else None
    if counts is None or counts.empty:
        return pd.Series(
            dtype="int64", index=pd.MultiIndex.from_arrays([[]] * 3, names=COUNTED)
        )
    n_contacts: pd.Series = counts.groupby(COUNTED, observed=True)["n"].sum()
    return n_contacts


def _manifest_of(
    contacts: pd.DataFrame,
    code: pd.Series,
    settings: ExportSettings,
    files: list[dict[str, Any]],
    n_removed: int,
) -> dict[str, Any]:
    """The manifest: counts, digests and reasons; nobody's address."""
    reasons = code[code != ""].value_counts().sort_index()
    return {
        "rule_set": settings.rule_set,
        "plan_sha256": content_sha256(contacts[KEY]),
        "channels": channel_kinds(settings, sorted(set(contacts["channel"]))),
        "planned": len(contacts),
        "exported": int((code == "").sum()),
        "refused": {str(why): int(n) for why, n in reasons.items()},
        "removed_now": n_removed,
        "files": files,
    }
