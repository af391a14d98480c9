"""Erasure of a person from every file under the campaign's folder, with a proof.

The order lets an interrupted erasure be resumed:

1. The report lists what was handed out.
2. A tombstone is set; from then on ingest refuses the person.
3. Every file is rewritten aside without the person and renamed.
4. The person's keys are destroyed.
5. A search confirms that no file holds an id or address.
6. The identity map drops the ids, and the ledger records that a person was forgotten.

The tombstone is the journal, and it identifies nobody.
"""

import gzip
import json
import mmap
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hustings.experiments.plans import forgetting, forgotten
from hustings.experiments.plans.backups import (
    ListedBackup,
    bury_in_backups,
    tombstones_beside,
)
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.plans.recorded_files import outside as outside_exports
from hustings.experiments.privacy import personal_data
from hustings.experiments.privacy.event_store import EventStore, event_stores_outside
from hustings.experiments.privacy.personal_data import CampaignStores, DataSubject
from hustings.experiments.stages.persons import (
    IDENTITY,
    SNAPSHOTS,
    known_persons,
    read_identity,
    write_identity,
)
from hustings.features.arrays import Bools
from hustings.features.atomic import write_json
from hustings.features.persons.identity import persons_of
from hustings.features.persons.keys import (
    TOMBSTONES_COPY,
    VOTER,
    Forgotten,
    Keyring,
)
from hustings.features.persons.snapshot import renamed
from hustings.serving.decided import SERVING
from hustings.serving.decisions import ONLINE_DECISIONS

Json = dict[str, Any]

GONE = "(forgotten)"
_NO_END = frozenset(bytes([b]) for b in range(128) if chr(b).isalnum() or b == ord("_"))
_NO_START = _NO_END | {b"."}
"""What makes a word a part of a longer one, or the decimals of a number."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{3,}[A-Za-z0-9]")
_OF_NOBODY = f"""
INSERT INTO {ONLINE_DECISIONS.name} (
    decision_id, voter_id, plan_id, experiment_id, role, message_id, channel,
    propensity, arm_propensity, predicted_lift, model_version, cost_usd,
    decided_at, expires_at, sent_at
)
SELECT lower(hex(randomblob(16))), '', plan_id, experiment_id, role, message_id,
    channel, 1.0, 1.0, 0.0, model_version, cost_usd, {{day}}, {{day}}, {{day}}
FROM {ONLINE_DECISIONS.name}
WHERE rowid = ? AND sent_at IS NOT NULL AND plan_id = ''
""".format(day="sent_at / 86400000000 * 86400000000")
"""The contact of a person who was sent something online, as that of nobody on a day."""
_ZIP, _GZIP = b"PK\x03\x04", b"\x1f\x8b"


@dataclass(frozen=True)
class ErasureReport:
    """Report of an erasure, for the person who asked.

    Attributes:
        removed: File (and table) → rows or words taken out.
        handed_out: What plans would send, by run, day, channel and message.
        trained: Registered versions that learnt from a training set with the person.
        outside: Tables that lie outside Hustings' folder: name, file, rows.
        unread: Tables outside that could not be looked at.
        left: Files that still hold an id or address; empty when all is done.
        sealed: Seals that hold a prediction under a keyed hash.
        unsearched: Ids too short to be looked for in texts.
        exported: Exports outside the campaign's folder, where nobody can look: day
            and names of files.
        endpoint: Whether a bundle was rewritten that an endpoint may have read.
        backups: Backups that the ledger names.
        ledger_seq: The ledger's entry.
        before: What earlier requests about the person did: entry, day, files and rows.
    """

    removed: dict[str, int]
    handed_out: list[Json] = field(default_factory=list)
    trained: list[Json] = field(default_factory=list)
    outside: list[Json] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list, init=False)
    sealed: list[str] = field(default_factory=list)
    unsearched: int = 0
    exported: list[Json] = field(default_factory=list)
    endpoint: bool = False
    backups: list[ListedBackup] = field(default_factory=list)
    ledger_seq: int = 0
    before: list[Json] = field(default_factory=list)


def forget(
    where: CampaignStores,
    voter_id: str,
    *,
    at: pd.Timestamp,
    batch: str,
    tell: Callable[[ErasureReport], None] = lambda _report: None,
) -> ErasureReport:
    """Remove a person from everything that the campaign keeps.

    What an earlier call left undone is finished first.

    Args:
        where: The campaign.
        voter_id: Any id that the person has had; of nobody on file is fine too: then
            the tombstone alone is set.
        at: When, for the ledger.
        batch: A name for the request that says nothing of the person.
        tell: Called before anything is deleted, with all that cannot be found out
            afterwards: what was handed out, and which models learnt from the person.

    Returns:
        What was taken out, and what others have to know.

    Raises:
        DataMissing: If the campaign's store of events does not answer: nothing was
            deleted then.
        FileNotFoundError: If the campaign has no folder.
    """
    resume(where, at=at)
    with event_stores_outside(where) as stores:
        return _forgotten_in(where, stores, voter_id, at=at, batch=batch, tell=tell)


def _forgotten_in(
    where: CampaignStores,
    stores: list[EventStore],
    voter_id: str,
    *,
    at: pd.Timestamp,
    batch: str,
    tell: Callable[[ErasureReport], None],
) -> ErasureReport:
    keys = known_persons(where.home).keys
    subject, report = _before_erasure(where, stores, keys, voter_id)
    tell(report)
    keys.bury(_tombstones(subject), batch=batch)
    who = subject.row_matcher(keys)
    return _finished(where, stores, keys, who, subject, report, at=at, batch=batch)


def before_erasure(where: CampaignStores, voter_id: str) -> ErasureReport:
    """What an erasure would say before it deletes anything; nothing is changed.

    Args:
        where: The campaign.
        voter_id: Any id that the person has had.

    Raises:
        DataMissing: If the campaign's store of events does not answer.
        FileNotFoundError: If the campaign has no folder.
    """
    where.require()
    keys = known_persons(where.home).keys
    with event_stores_outside(where) as stores:
        return _before_erasure(where, stores, keys, voter_id)[1]


def _before_erasure(
    where: CampaignStores, stores: list[EventStore], keys: Keyring, voter_id: str
) -> tuple[DataSubject, ErasureReport]:
    """The person, and what cannot be found out once nothing is held any more."""
    outside, unread = personal_data.outside(where.campaign)
    frames = [table.frame for table in outside]
    frames += [rows for store in stores for rows in store.key_rows()]
    subject = personal_data.data_subject_of(voter_id, where.home, frames)
    who = subject.row_matcher(keys)
    report = ErasureReport(
        removed={},
        handed_out=personal_data.handed_out(where.home, who),
        trained=personal_data.models_of(
            where.campaign.campaign.name,
            personal_data.runs_that_trained_on(where.home, who),
            where.store,
            where.mlflow_uri,
        ),
        outside=_outside_rows(outside, who),
        unread=unread,
        sealed=personal_data.sealed_with(where.home, subject.ids),
        unsearched=sum(not personal_data.is_telling(word) for word in subject.ids),
        exported=outside_exports(where.home),
        before=_requests_before(where.home, keys, voter_id),
    )
    return subject, report


def resume(where: CampaignStores, *, at: pd.Timestamp) -> list[ErasureReport]:
    """Finish whatever was cut off: nothing but the tombstones is needed for it.

    Args:
        where: The campaign.
        at: When, for the ledger.

    Raises:
        DataMissing: If the campaign's store of events does not answer.
        FileNotFoundError: If the campaign has no folder.
    """
    where.require()
    keys = known_persons(where.home).keys
    pending = keys.pending()
    if not pending:
        return []
    with event_stores_outside(where) as stores:
        return [_resumed(where, stores, keys, batch, at=at) for batch in pending]


def _resumed(
    where: CampaignStores,
    stores: list[EventStore],
    keys: Keyring,
    batch: str,
    *,
    at: pd.Timestamp,
) -> ErasureReport:
    buried = keys.forgotten(batch=batch)
    identity = read_identity(where.home)
    rows_of_person = identity[buried.rows(identity)]
    ids = frozenset(rows_of_person["voter_id"]) | frozenset(
        rows_of_person["former_id"].dropna()
    )
    subject = DataSubject(ids, persons_of(identity, ids), {}, ids)
    return _finished(
        where, stores, keys, buried, subject, ErasureReport({}), at=at, batch=batch
    )


def _finished(
    where: CampaignStores,
    stores: list[EventStore],
    keys: Keyring,
    who: Forgotten,
    subject: DataSubject,
    report: ErasureReport,
    *,
    at: pd.Timestamp,
    batch: str,
) -> ErasureReport:
    """Everything after the tombstone; may be done again from anywhere.

    The ids stay in the identity map until nothing else holds them: what is left can be
    looked for again.
    """
    # before any deletion: a restore must not bring back who is about to go
    report = replace(report, backups=bury_in_backups(where.home, keys))
    forgetting(where.home, batch=batch, at=at)
    report.removed.update(sweep(where.home, who, subject.words))
    for store in stores:
        removed = store.without(who, subject.words)
        report.removed.update({f"{store.name} {t}": n for t, n in removed.items()})
    forgotten(where.home, batch=batch, at=at)
    report = replace(report, endpoint=_never_contact(where.home, keys))
    keys.destroy(subject.persons)
    report.left.extend(residue([where.home, where.store], subject.words))
    for store in stores:
        held = store.rows_of(who, subject.words)
        report.left.extend(f"{store.name} {table}" for table, _ in held)
    if report.left:
        return report
    identity = read_identity(where.home)
    is_person = who.rows(identity) | identity["person"].isin(subject.persons).to_numpy()
    if is_person.any():
        write_identity(where.home, identity[~is_person])
        report.removed[IDENTITY] = int(is_person.sum())
    rows = sum(report.removed.values())
    again = [request["batch"] for request in report.before]
    body = {
        "batch": batch, "n_files": len(report.removed), "n_rows": rows, "again": again,
        "tombstones": keys.end(),
    }  # fmt: skip
    head = open_ledger(where.home).append("forgotten", body, at=at)
    keys.settle(batch)
    return replace(report, ledger_seq=head.seq)


def _requests_before(home: Path, keys: Keyring, voter_id: str) -> list[Json]:
    """What the ledger says of earlier requests about a person, by tombstones."""
    batches, rows = set(keys.batches_of(VOTER, voter_id.strip())), []
    # a tombstone names the last request, whose entry names those before it
    for entry in reversed(open_ledger(home).of_kind("forgotten")):
        body = json.loads(entry.body)
        if body["batch"] in batches:
            batches.update(body["again"])
            counts = {name: body[name] for name in ("batch", "n_files", "n_rows")}
            rows.append(
                {"entry": entry.seq, "on": entry.at.partition("T")[0], **counts}
            )
    return rows[::-1]


def _never_contact(home: Path, keys: Keyring) -> bool:
    """Add the forgotten to the digests by which earlier bundles refuse contacts.

    Returns:
        Whether there is a bundle that an endpoint may have read before.
    """
    gone = keys.forgotten(kind=VOTER).digests
    for path in home.glob("*/plan.json"):
        terms, is_new = json.loads(path.read_text()), False
        for name in ("never", "forgotten"):
            digests = set(terms.get(name, {}).get("digests", ()))
            if name in terms and not gone <= digests:
                terms[name]["digests"] = sorted(digests | gone)
                is_new = True
        if is_new:
            write_json(path, terms)
    return (home / SERVING / "plan.json").exists()


def _tombstones(subject: DataSubject) -> list[tuple[str, str]]:
    return [(kind, value) for kind, values in subject.exact.items() for value in values]


def _outside_rows(
    outside: Iterable[personal_data.Outside], who: Forgotten
) -> list[Json]:
    counted = ((table, int(who.rows(table.frame).sum())) for table in outside)
    return [
        {"table": table.name, "file": table.source.read_from, "rows": n}
        for table, n in counted
        if n
    ]


# --- the files ------------------------------------------------------------------------


def sweep(home: Path, who: Forgotten, words: frozenset[str]) -> dict[str, int]:
    """Take a person out of every file of a campaign.

    Args:
        home: The campaign's folder.
        who: Recognises the person's rows.
        words: Ids and addresses that texts may hold.

    Returns:
        File (and table) → how much was taken out.
    """
    removed: dict[str, int] = {}
    for path in personal_data.files_under(home):
        if path.name.endswith(personal_data.ASIDE):
            # of a call that was cut off; the file may have been written anew since
            path.unlink(missing_ok=True)
        elif path.name not in {IDENTITY, *personal_data.NO_ROWS_OF_PERSONS}:
            name = str(path.relative_to(home))
            for part, n in _swept(path, who, words):
                removed[f"{name} {part}".strip()] = n
    for path in (home / SNAPSHOTS).glob("*.parquet"):
        renamed(path)
    return removed


def _swept(
    path: Path, who: Forgotten, words: frozenset[str]
) -> Iterator[tuple[str, int]]:
    if personal_data.is_parquet(path):
        is_person = personal_data.mask_of(path, who)
        if is_person.any():
            _without_rows(path, ~is_person)
            yield "", int(is_person.sum())
    elif personal_data.is_sqlite(path):
        yield from _without_records(path, who, words)
    elif path.suffix in personal_data.TEXTS:
        n = _without_words(path, words | _recognised(path, who))
        if n:
            yield "", n


def _without_rows(path: Path, keep: Bools) -> None:
    """The Parquet file with only the rows kept, row group by row group."""
    aside, start = path.with_name(path.name + personal_data.ASIDE), 0
    file = pq.ParquetFile(path)
    with pq.ParquetWriter(aside, file.schema_arrow, compression="zstd") as writer:
        for i in range(file.num_row_groups):
            table = file.read_row_group(i)
            part = keep[start : start + table.num_rows]
            start += table.num_rows
            writer.write_table(_without_levels(table.filter(pa.array(part))))
    aside.replace(path)


def _without_levels(table: pa.Table) -> pa.Table:
    """Categories only of rows that are there: the others would be written too."""
    for i, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            plain = table.column(i).cast(column.type.value_type)
            again = plain.combine_chunks().dictionary_encode().cast(column.type)
            table = table.set_column(i, column, again)
    return table


def _without_records(
    path: Path, who: Forgotten, words: frozenset[str]
) -> Iterator[tuple[str, int]]:
    """Rows out of a database; nothing of them stays in free pages or in its journal."""
    n_all = 0
    with personal_data.opened(path) as store:
        for table, columns in personal_data.sqlite_tables(store):
            row_ids = personal_data.sqlite_rows(store, table, columns, who, words).index
            if len(row_ids):
                rows = [(int(row),) for row in row_ids]
                store.execute("BEGIN IMMEDIATE")
                if table == ONLINE_DECISIONS.name:
                    # what was spent on a person stays spent, on nobody
                    store.executemany(_OF_NOBODY, rows)
                store.executemany(f'DELETE FROM "{table}" WHERE rowid = ?', rows)
                store.execute("COMMIT")
                n_all += len(row_ids)
                yield table, len(row_ids)
        if n_all or path.with_name(path.name + "-wal").exists():
            store.execute("VACUUM")
            store.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _recognised(path: Path, who: Forgotten) -> frozenset[str]:
    """Words of a text that are the person's, where only tombstones can tell."""
    if not who.digests:
        return frozenset()
    text = path.read_bytes().decode("utf-8", errors="replace")
    words = sorted(set(_WORD.findall(text)))
    is_person = np.zeros(len(words), dtype=bool)
    for column in ("voter_id", "email", "person"):
        is_person |= who.rows(pd.DataFrame({column: pd.Series(words, dtype="str")}))
    return frozenset(
        word for word, of_person in zip(words, is_person, strict=True) if of_person
    )


def _without_words(path: Path, words: frozenset[str]) -> int:
    """A text with a person's ids and addresses blotted out; how many there were."""
    pattern, data = personal_data.pattern_of(words), path.read_bytes()
    if pattern is None or not any(word.encode() in data for word in words):
        return 0
    text, n = pattern.subn(GONE, data.decode("utf-8", errors="surrogateescape"))
    if n:
        aside = path.with_name(path.name + personal_data.ASIDE)
        aside.write_bytes(text.encode("utf-8", errors="surrogateescape"))
        aside.replace(path)
    return n


# --- what is left ---------------------------------------------------------------------


def residue(folders: Iterable[Path], words: frozenset[str]) -> list[str]:
    """Files that hold an id or address: their bytes, and what is packed in them.

    Args:
        folders: Looked through, one that is not there is empty.
        words: What is looked for; those too short to be anybody's are not.
    """
    telling = [word.encode() for word in words if personal_data.is_telling(word)]
    if not telling:
        return []
    paths = []
    for folder in folders:
        for path in personal_data.files_under(folder) if folder.is_dir() else ():
            kept_to_the_end = path.name == IDENTITY
            if not kept_to_the_end and any(_holds(path, word) for word in telling):
                paths.append(str(path))
    return paths


def _holds(path: Path, word: bytes) -> bool:
    if path.stat().st_size == 0:
        return False
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        if _stands_alone(data, word):
            return True
    if personal_data.is_parquet(path):
        return _parquet_holds(path, word.decode())
    return any(_stands_alone(data, word) for data in _unpacked(path))


def _stands_alone(data: "bytes | mmap.mmap", word: bytes) -> bool:
    """Whether the word is there, and not as a part of a longer one."""
    at = data.find(word)
    while at >= 0:
        before, after = (
            data[max(at - 1, 0) : at],
            data[at + len(word) : at + len(word) + 1],
        )
        if before not in _NO_START and after not in _NO_END:
            return True
        at = data.find(word, at + 1)
    return False


def _parquet_holds(path: Path, word: str) -> bool:
    file = pq.ParquetFile(path)
    pattern = personal_data.pattern_of([word])
    assert pattern is not None
    for i in range(file.num_row_groups):
        rows = file.read_row_group(i).to_pandas()
        for column in rows.select_dtypes(include=["object", "str", "category"]):
            distinct = rows[column].dropna().astype("str").unique()
            if any(word in text and pattern.search(text) for text in distinct):
                return True
    return False


def _unpacked(path: Path) -> Iterator[bytes]:
    start = personal_data.begins_with(path)
    if start.startswith(_GZIP):
        yield gzip.decompress(path.read_bytes())
    elif start.startswith(_ZIP):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield archive.read(name)


# --- for a person ---------------------------------------------------------------------


def erasure_text(report: ErasureReport) -> str:
    """The report in words; it names nobody."""
    rows = sum(report.removed.values())
    lines = [f"Taken out: {rows:,} rows of {len(report.removed)} files and tables."]
    lines += [f"  {name}: {n:,}" for name, n in sorted(report.removed.items())]
    if not (rows or report.before or report.outside or report.handed_out):
        lines += ["Nobody of this id is on file: check it. From now on it is refused."]
    lines += _before_text(report.before)
    lines += handed_out_text(report)
    if report.trained:
        lines += ["Learnt from, among thousands of others, by:"]
        lines += [
            f"  {row['model']} version {row['version']} (run {row['run']})"
            for row in report.trained
        ]
        lines += ["  They hold no row of anybody; the next training is without."]
    if report.outside:
        lines += ["Still in files that Hustings only reads; delete the rows there:"]
        lines += [
            f"  {row['table']}: {row['file']}, {row['rows']} rows"
            for row in report.outside
        ]
        lines += ["  Until then the tombstone keeps them out of every ingest."]
    lines += [f"Could not be looked at: {line}" for line in report.unread]
    if report.unsearched:
        lines += ["An id is too short to be looked for in texts; tables were searched."]
    if report.sealed:
        lines += ["Sealed predictions have the person under a hash of the seal's key:"]
        lines += [f"  {name}" for name in report.sealed]
        lines += ["  A seal opens only whole; delete its key once it has been opened."]
    lines += _backups_text(report.backups)
    lines += [f"LEFT: {path} still holds an id or address" for path in report.left]
    if report.endpoint:
        lines += [
            "The endpoint's bundle refuses the person now; an endpoint that runs has "
            "read it before: restart `hustings serve`."
        ]
    if report.left:
        lines += ["Mend these files; the next `hustings forget` goes on from here."]
    else:
        lines += [f"The ledger says so in entry {report.ledger_seq:,}."]
    return "\n".join(lines)


def _before_text(before: Iterable[Json]) -> list[str]:
    return [
        f"Forgotten already on {row['on']} (entry {row['entry']:,}): {row['n_rows']:,} "
        f"rows of {row['n_files']:,} files and tables were taken out then."
        for row in before
    ]


def _backups_text(backups: Iterable[ListedBackup]) -> list[str]:
    """Copies of the campaign's data that still hold the person."""
    lines = []
    for backup in backups:
        line = f"Backup of {backup.on}, {backup.file}: "
        if backup.is_reachable:
            line += "the person is in it, and is taken out when it is restored."
        else:
            line += (
                "it is no longer there, or cannot be written beside. If a copy is "
                f"elsewhere, put {TOMBSTONES_COPY} of the campaign's folder beside it, "
                f"named {tombstones_beside(Path(backup.file)).name}."
            )
        lines.append(line)
    if lines:
        lines.append("Delete backups that a newer one replaces: they hold the person.")
    return lines


def handed_out_text(report: ErasureReport) -> list[str]:
    """Data of a person that others were given, as far as the campaign knows."""
    lines = []
    if report.handed_out:
        lines += ["Already in plans, so perhaps with whoever carries them out:"]
        for row in report.handed_out:
            source = f"plan {row['plan']}" if "plan" in row else f"run {row['run']}"
            state = f", {row['state']}" if "state" in row else ""
            lines.append(
                f"  {source}{state}: {row['message_id']} by {row['channel']} on "
                f"{row['send_on']} ({row['role']})"
            )
            lines += [f"    in {file}" for file in row["files"]]
        lines += ["  Tell the carriers of these channels to delete the person too."]
    if report.exported:
        lines += ["Exported outside the campaign's folder, where nobody can look:"]
        lines += [f"  on {row['on']}: {', '.join(row['files'])}"
                  for row in report.exported]  # fmt: skip
        lines += ["  Look there, and delete the person's rows."]
    return lines


def as_json(report: ErasureReport) -> str:
    """The same for a program."""
    return json.dumps(vars(report), indent=1)
