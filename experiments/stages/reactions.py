"""The store of reactions for the stages: withdrawals, intake and imported counts."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from hustings.experiments.declaration import Campaign, ReactionsSection
from hustings.experiments.stages.context import Json, Run, latest
from hustings.experiments.stages.persons import forgotten_voters
from hustings.features.arrays import Bools
from hustings.features.insights import CountFault, ExportFormat, Insights
from hustings.features.tables import PERMISSIONS, TableError, check
from hustings.serving.reactions.ballots import ballots_frame, votes
from hustings.serving.reactions.http import STORE_VARIABLE, Intake, ReactionSettings
from hustings.serving.reactions.payload import (
    MAX_EVENTS,
    EventBatch,
    link_key,
    set_aside_counts,
)
from hustings.serving.reactions.store import FILE, Events

N_REASONS = 3
"""Reasons that a person is told of what was set aside."""
_KEY = ["voter_id", "channel"]


def store_of(campaign: Campaign, home: Path) -> str | Path:
    """Where a campaign's reactions are kept: for the stages as for the endpoint.

    Args:
        campaign: The declaration.
        home: `.data/<campaign>`.
    """
    return os.environ.get(STORE_VARIABLE) or campaign.reactions.store or home / FILE


def permissions_now(
    run: Run, given: pd.DataFrame | None, at: pd.Timestamp
) -> pd.DataFrame | None:
    """Permissions after the withdrawals that arrived as a STOP.

    A permission that was granted anew after the STOP holds. A STOP holds for a plan of
    an earlier as-of date, too.

    Args:
        run: Its campaign's store is read.
        given: PERMISSIONS as the campaign brings them, None where it brings none.
        at: The moment that the law asks about.
    """
    store = store_of(run.campaign, run.home)
    if isinstance(store, Path) and not store.exists():
        return given
    events = Events.open(store)
    try:
        stops = events.withdrawals()
    finally:
        events.close()
    return with_withdrawals(given, stops, at)


def ballots_so_far(campaign: Campaign, home: Path) -> pd.DataFrame:
    """Every event of a ballot that came in, as `Events.ballots` has them.

    Args:
        campaign: The declaration.
        home: `.data/<campaign>`.
    """
    store = store_of(campaign, home)
    if isinstance(store, Path) and not store.exists():
        return ballots_frame([])
    events = Events.open(store)
    try:
        return events.ballots()
    finally:
        events.close()


def voted_so_far(run: Run) -> pd.DataFrame:
    """Voters who have voted as far as is known: their rows of `ballots.votes`.

    A vote holds for a plan of an earlier as-of date, too, as a STOP does.

    Args:
        run: Its campaign's store is read.
    """
    return votes(ballots_so_far(run.campaign, run.home))


def remember_former(run: Run, former: Mapping[str, str]) -> None:
    """Store which voter ids were renamed, so that a STOP under either id holds.

    Args:
        run: Its campaign's store is written.
        former: Former voter id → present one.
    """
    if not former:
        return
    events = Events.open(store_of(run.campaign, run.home))
    try:
        events.link(pd.DataFrame(list(former.items()), columns=["person", "voter_id"]))
    finally:
        events.close()


def with_withdrawals(
    given: pd.DataFrame | None, stops: pd.DataFrame, as_of: pd.Timestamp
) -> pd.DataFrame | None:
    """Apply withdrawals to permissions.

    Args:
        given: PERMISSIONS, None for none.
        stops: PERMISSIONS of withdrawals alone.
        as_of: A later withdrawal counts as one of this date.
    """
    if stops.empty:
        return given
    present = stops.iloc[:0] if given is None else given
    merged = stops.drop(columns="granted_at").merge(
        present, on=_KEY, how="left", suffixes=("", "_before")
    )
    # granted anew: the campaign's own row stays
    merged = merged[~(merged["granted_at"] > merged["withdrawn_at"])]
    first = merged[["withdrawn_at", "withdrawn_at_before"]].min(axis=1)
    stopped = merged.assign(
        basis=merged["basis_before"].fillna(merged["basis"]),
        withdrawn_at=first.where(first < as_of, as_of),
    )
    keys = [pd.MultiIndex.from_frame(frame[_KEY]) for frame in (present, stopped)]
    untouched = present[~keys[0].isin(keys[1])]
    rows = pd.concat([untouched, stopped[list(present.columns)]], ignore_index=True)
    return check(PERMISSIONS, rows)


def reactions_config(run: Run) -> Json:
    """Declaration and messages that the endpoint needs to take reactions in."""
    return _intake_declaration(run.campaign, run.table("messages"))


def _intake_declaration(campaign: Campaign, messages: pd.DataFrame) -> Json:
    texts = messages.reindex(columns=["message_id", "issue", "stance", "text"])
    blank = texts.astype(object).where(texts.notna(), None)
    declared = campaign.reactions.model_dump(mode="json")
    ballots = campaign.ballots
    return {
        **declared,
        "messages": blank.to_dict("records"),
        "ballots_from": None if ballots is None else ballots.first_day.isoformat(),
    }


def open_intake(campaign: Campaign, home: Path) -> Intake:
    """Open the intake of a campaign's store, the same that `hustings serve` uses.

    Args:
        campaign: The declaration.
        home: `.data/<campaign>`; the messages are those of its latest run, none
            without one.
    """
    messages = home / (latest(home) or "") / "tables" / "messages.parquet"
    frame = pd.read_parquet(messages) if messages.exists() else pd.DataFrame()
    declared = ReactionSettings.of(_intake_declaration(campaign, frame))

    def forgotten(voter_ids: Sequence[str]) -> Bools:
        return forgotten_voters(home).holds(voter_ids)

    events = Events.open(store_of(campaign, home))
    return Intake(events, declared, link_key(), forgotten)


def export_format(declared: ReactionsSection, platform: str) -> ExportFormat:
    """How exports are read.

    Args:
        declared: `[reactions]`.
        platform: Of all posts; '' where the export says it.
    """
    return ExportFormat(
        declared.columns, declared.counts, declared.formats, declared.zone,
        declared.encoding, declared.delimiter, declared.decimal, declared.totals,
        platform,
    )  # fmt: skip


@dataclass(frozen=True)
class ImportedCounts:
    """What became of the counts of an export.

    Attributes:
        n_kept: Counts that are new or have grown.
        n_known: Counts that the store had already.
        n_fallen: Of those, totals that are smaller than before; they add nothing.
        n_set_aside: Counts that cannot be read, and rows that cannot be split.
        reasons: Why, with the number of counts and an example, the largest first.
        people: People by column or metric and kind, of what was read.
        unknown_kinds: Kinds that count as neutral because no table names them.
    """

    n_kept: int
    n_known: int
    n_fallen: int
    n_set_aside: int
    reasons: Sequence[tuple[str, int, str]]
    people: Mapping[str, int]
    unknown_kinds: Mapping[str, int]

    @property
    def n_counts(self) -> int:
        """Counts in = kept + known already + set aside."""
        return self.n_kept + self.n_known + self.n_set_aside


class _Aside(NamedTuple):
    row: int
    reason: str
    got: str
    payload: Json


def import_insights(
    intake: Intake, insights: Insights, *, most_quarantined: float, now: datetime
) -> ImportedCounts:
    """Store the counts of an export; what is in the store already adds nothing.

    A total that has grown adds its growth. A total that has fallen adds nothing: the
    store adds up and takes nothing back.

    Args:
        intake: The intake of the store.
        insights: The export.
        most_quarantined: Share of the counts above which nothing is stored.
        now: When it is read, UTC.

    Raises:
        TableError: If more counts are set aside, or nothing can be counted.
    """
    events, rows, n_known, n_fallen = _growth(intake.events, insights, now)
    aside = list(_unreadable(insights))
    batches = []
    for first in range(0, len(events), MAX_EVENTS):
        block = events[first : first + MAX_EVENTS]
        batch = intake.read(block, received_at=now)
        batches.append(batch)
        aside += _refused_by_intake(batch, block, rows[first : first + MAX_EVENTS])
        batch.quarantine, batch.faults = [], []
    n_read = sum(len(batch.events) for batch in batches)
    imported = ImportedCounts(
        n_read, n_known, n_fallen, len(aside), _largest(aside),
        _people(insights), sum((batch.unknown_kinds for batch in batches), Counter()),
    )  # fmt: skip
    _require_enough(imported, most_quarantined)
    receipts = [intake.keep(batch) for batch in batches]
    reasons = [(a.payload, f"row {a.row}: {a.reason}, got {a.got}") for a in aside]
    intake.events.append(set_aside_counts(reasons, received_at=now))
    n_stored = sum(receipt.accepted for receipt in receipts)
    return replace(imported, n_kept=n_stored, n_known=n_known + n_read - n_stored)


def _growth(
    events: Events, insights: Insights, now: datetime
) -> tuple[list[Json], list[int], int, int]:
    """Events for what is more than before, their rows, and counts known or fallen."""
    counts = list(insights.post_counts())
    stored = events.totals({count.count_id for count in counts})
    total_of = dict(stored)
    grown, rows, n_known, n_fallen = [], [], 0, 0
    for number, event, count_id in counts:
        before, total = total_of.get(count_id, 0), event["count"]
        if total <= before:
            n_known += 1
            n_fallen += total < before
            continue
        at = event["occurred_at"]
        if count_id in stored and insights.grows_at_import:
            at = now.isoformat()
        name = f"{count_id}-{total}" if before else count_id
        grown.append(
            {**event, "event_id": name, "count": total - before, "occurred_at": at}
        )
        rows.append(number)
        total_of[count_id] = total
    return grown, rows, n_known, n_fallen


def _unreadable(insights: Insights) -> Iterator[_Aside]:
    for number, fault in insights.faults.items():
        payload = {"event_id": f"row {number}", "count": fault.got}
        yield _Aside(number, *fault, payload)
    for row in insights.rows:
        for column, kind, count in row.counts:
            if count is None or count == 0:
                continue
            payload = {**row.fields, "event_id": str(row.number), "kind": kind}
            if row.fault is not None:
                yield _Aside(row.number, *row.fault, {**payload, "count": str(count)})
            elif isinstance(count, CountFault):
                reason = f"{column}: {count.reason}"
                for_quarantine = {**payload, "count": count.got}
                yield _Aside(row.number, reason, repr(count.got), for_quarantine)


def _refused_by_intake(
    batch: EventBatch, events: Sequence[Json], rows: Sequence[int]
) -> Iterator[_Aside]:
    for fault in batch.faults:
        i = int(fault.path.removeprefix("events[").partition("]")[0])
        reason, _, got = fault.message.partition(", got ")
        yield _Aside(rows[i], reason, got, events[i])


def _largest(aside: Sequence[_Aside]) -> list[tuple[str, int, str]]:
    n_of = Counter(one.reason for one in aside)
    first = {one.reason: one for one in reversed(aside)}
    return [
        (reason, n, f"row {first[reason].row}: got {first[reason].got}")
        for reason, n in n_of.most_common()
    ]


def _people(insights: Insights) -> dict[str, int]:
    n_of = Counter[str]()
    for row in insights.rows:
        for column, kind, count in row.counts:
            source = column if insights.counts else kind
            n_of[f"{source} as {kind}"] += count if isinstance(count, int) else 0
    return dict(n_of)


def _require_enough(imported: ImportedCounts, most_quarantined: float) -> None:
    n, n_aside = imported.n_counts, imported.n_set_aside
    reasons = "".join(
        f"\n  {reason}: {n_of:,}, such as {example}"
        for reason, n_of, example in imported.reasons[:N_REASONS]
    )
    if n_aside > most_quarantined * n:
        raise TableError(
            f"stored nothing: {n_aside:,} of {n:,} counts ({n_aside / n:.1%}) cannot "
            "be read, more than [reactions] most_quarantined = "
            f"{most_quarantined:g}{reasons}"
        )
    if n == 0:
        raise TableError(
            "kept 0: the export has no count above 0 of any kind; "
            "[reactions.counts] in campaign.toml names columns of counts"
        )
