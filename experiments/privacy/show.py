"""Answer to an access request: every row that a campaign holds on a person."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.privacy import personal_data
from hustings.experiments.privacy.event_store import EventStore, event_stores_outside
from hustings.experiments.privacy.personal_data import CampaignStores, DataSubject
from hustings.experiments.stages.persons import known_persons
from hustings.features.persons.keys import Forgotten

Json = dict[str, Any]

MADE_BY: Mapping[str, str] = {
    "training_set": "features", "features": "features", "chances": "train",
    "scores": "score", "plan": "plan", "assignments": "plan",
    "quarantine": "ingest", "quarantined_voters": "ingest", "links": "ingest",
    "identity": "ingest",
}  # fmt: skip
"""Tables that Hustings makes → the stage that makes them."""


_KEPT = (
    "kept by Hustings", "the campaign's own", "that of the tables it was made from"
)  # fmt: skip
"""Source, licence and permitted use of what nobody has brought."""


class HeldRows(NamedTuple):
    """Rows of one table that are a person's.

    Attributes:
        table: Its name.
        file: Where it lies, under the campaign's folder or outside.
        source: Who made the data.
        licence: Under which licence it is used.
        permitted_use: What it may be used for.
        rows: The rows, all columns that Hustings reads or keeps.
    """

    table: str
    file: str
    source: str
    licence: str
    permitted_use: str
    rows: list[Json]


def held(where: CampaignStores, voter_id: str) -> Json:
    """Everything held on a person.

    Args:
        where: The campaign.
        voter_id: Any id that the person has had.

    Returns:
        `ids`, `held` (a list of `HeldRows`), `handed_out`, `models` (registered
        versions whose training set held the person), `ledger` (entries about the
        person) and `unread` (tables that could not be looked at).

    Raises:
        DataMissing: If the campaign's store of events does not answer.
        FileNotFoundError: If the campaign has no folder.
    """
    where.require()
    with event_stores_outside(where) as stores:
        return _held_in(where, stores, voter_id)


def _held_in(where: CampaignStores, stores: list[EventStore], voter_id: str) -> Json:
    outside, unread = personal_data.outside(where.campaign)
    frames = [table.frame for table in outside]
    frames += [rows for store in stores for rows in store.key_rows()]
    subject = personal_data.data_subject_of(voter_id, where.home, frames)
    keys = known_persons(where.home).keys
    who = subject.row_matcher(keys)
    runs = personal_data.runs_that_trained_on(where.home, who)
    held_rows = [*_outside(outside, who), *_inside(where, who, subject)]
    held_rows += [
        HeldRows(table, store.name, *_KEPT, personal_data.records(rows))
        for store in stores
        for table, rows in store.rows_of(who, subject.words)
    ]
    return {
        "ids": sorted(subject.ids),
        "held": [row._asdict() for row in held_rows],
        "handed_out": personal_data.handed_out(where.home, who),
        "models": personal_data.models_of(
            where.campaign.campaign.name, runs, where.store, where.mlflow_uri
        ),
        "ledger": _entries(where.home, subject, keys.keys()),
        "unread": unread,
    }


def _outside(tables: list[personal_data.Outside], who: Forgotten) -> Iterator[HeldRows]:
    for name, source, frame in tables:
        rows = frame[who.rows(frame)]
        if len(rows):
            yield HeldRows(
                name, source.read_from, source.source, source.licence,
                source.permitted_use, personal_data.records(rows),
            )  # fmt: skip


def _inside(
    where: CampaignStores, who: Forgotten, subject: DataSubject
) -> Iterator[HeldRows]:
    for path in personal_data.files_under(where.home):
        for table, rows in _rows_in(path, who, subject):
            if len(rows):
                statement = _stated(where, path, table)
                file = str(path.relative_to(where.home))
                yield HeldRows(table, file, *statement, personal_data.records(rows))


def _rows_in(
    path: Path, who: Forgotten, subject: DataSubject
) -> Iterator[tuple[str, pd.DataFrame]]:
    if personal_data.is_parquet(path):
        is_person = personal_data.mask_of(path, who)
        if is_person.any():
            rows = pd.read_parquet(path)[is_person]
            yield path.stem, rows
    elif (
        personal_data.is_sqlite(path)
        and path.name not in personal_data.NO_ROWS_OF_PERSONS
    ):
        with personal_data.opened(path) as store:
            for table, columns in personal_data.sqlite_tables(store):
                yield (
                    table,
                    personal_data.sqlite_rows(
                        store, table, columns, who, subject.words
                    ),
                )


def _stated(where: CampaignStores, path: Path, table: str) -> tuple[str, str, str]:
    """Source, licence and permitted use of a table of the campaign's folder."""
    ingested = _ingested(path).get(table)
    if ingested is not None:
        return ingested["source"], ingested["licence"], ingested["permitted_use"]
    source = where.campaign.tables.get(
        "voters" if path.parent.name == "snapshots" else table
    )
    if source is not None:
        return source.source, source.licence, source.permitted_use
    stage = MADE_BY.get(table)
    return (f"made by `hustings {stage}`" if stage else _KEPT[0], *_KEPT[1:])


def _ingested(path: Path) -> Json:
    """What the run of a checked table said of its sources."""
    report = path.parent.parent / "ingest.json"
    if path.parent.name != "tables" or not report.exists():
        return {}
    sources: Json = json.loads(report.read_text())
    return sources


def _entries(home: Path, subject: DataSubject, keys: Mapping[str, bytes]) -> list[Json]:
    person_keys = [keys[p] for p in sorted(subject.persons) if p in keys]
    return [
        {"entry": e.seq, "at": e.at, "kind": e.kind, "says": json.loads(e.body)}
        for e in open_ledger(home).of_person(person_keys)
    ]


# --- for a person ---------------------------------------------------------------------


def held_text(answer: Json) -> str:
    """The answer in words; equal rows of several files appear once."""
    lines = [f"Held on {', '.join(answer['ids'])}:"]
    if not answer["held"]:
        lines = [f"Nothing is held on {', '.join(answer['ids'])}."]
    for (table, *stated), files in _by_table(answer["held"]).items():
        lines += ["", f"{table}", f"  source: {stated[0]}"]
        lines += [f"  licence: {stated[1]}; permitted use: {stated[2]}"]
        for row, names in files.items():
            lines += [f"  in {', '.join(names)}:"]
            lines += [f"    {name}: {value}" for name, value in row]
    lines += _list_text("Already in plans", answer["handed_out"])
    lines += _list_text("Models that learnt from it, among others", answer["models"])
    lines += _list_text("In the ledger", answer["ledger"])
    lines += [f"Could not be looked at: {line}" for line in answer["unread"]]
    return "\n".join(lines)


_Rows = dict[tuple[tuple[str, Any], ...], list[str]]


def _by_table(held_rows: list[Json]) -> dict[tuple[str, str, str, str], _Rows]:
    """Each different row and the files that hold it, by table and its terms."""
    tables: dict[tuple[str, str, str, str], _Rows] = {}
    for one in held_rows:
        key = (one["table"], one["source"], one["licence"], one["permitted_use"])
        rows = tables.setdefault(key, {})
        for row in one["rows"]:
            values = tuple((k, str(v)) for k, v in row.items() if v is not None)
            rows.setdefault(values, []).append(one["file"])
    return tables


def _list_text(heading: str, rows: list[Json]) -> list[str]:
    if not rows:
        return []
    texts = (", ".join(f"{k} {v}" for k, v in row.items()) for row in rows)
    return ["", f"{heading}:", *(f"  {line}" for line in texts)]
