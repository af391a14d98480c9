"""Search for a person's data in every file and row under a campaign's folder.

`show` lists the rows, `forget` removes them.
"""

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from hustings.experiments.declaration import Campaign, data_dir
from hustings.experiments.plans import PLANS, plans
from hustings.experiments.plans.ledger import LEDGER
from hustings.experiments.plans.online import SENT, online_so_far
from hustings.experiments.results import record_of_run
from hustings.experiments.stages.persons import IDENTITY, read_identity
from hustings.experiments.stages.sealed import FOLDER as SEALS
from hustings.experiments.stages.sealed import KEY as SEAL_KEY
from hustings.experiments.stages.sealed import PREDICTIONS
from hustings.features.arrays import Bools
from hustings.features.ingest import DataMissing, Folders, TableSource, mapped_rows
from hustings.features.persons.identity import ids_of, persons_of
from hustings.features.persons.keys import (
    EMAIL,
    EXACT_KEYS,
    KEYS,
    REACTOR,
    TOMBSTONES_COPY,
    VOTER,
    Forgotten,
    Keyring,
    exact_values,
    keys_of_rows,
)
from hustings.features.tables import IDENTITIES, PROVIDER_ROWS, TableError
from hustings.training.registry.seal import hashed

Json = dict[str, Any]

NO_ROWS_OF_PERSONS = frozenset({KEYS, TOMBSTONES_COPY, LEDGER})
"""Stores that name nobody: keys go by themselves, the ledger stays whole."""
EXPORTS = "exports"
"""Folder of the lists that channels were given, by plan and time."""
BESIDE: Mapping[str, str] = {"features.parquet": "training_set.parquet"}
"""Tables without an id of their own → the table whose rows they belong to."""
SET_ASIDE, WHOSE = "quarantine.parquet", "quarantined_voters.parquet"
ASIDE = ".forgetting"
TEXTS = frozenset(
    {".json", ".html", ".csv", ".txt", ".md", ".log", ".toml", ".journal", ".partial"}
)
LIKELY = 0.5
"""From this probability of a link on the reactor is taken to be the voter."""
TELLING = 5
"""Shorter ids are looked for in their columns alone: a 7 stands in every text."""
_AT_ONCE = 50_000
_PARQUET, _SQLITE = b"PAR1", b"SQLite format 3\0"


# --- who ------------------------------------------------------------------------------


class CampaignStores(NamedTuple):
    """A campaign and its stores.

    Attributes:
        campaign: Its declaration.
        home: Its folder.
        store: Folder of the MLflow store where there is no server.
        mlflow_uri: The server; empty for the store.
    """

    campaign: Campaign
    home: Path
    store: Path
    mlflow_uri: str = ""

    def require(self) -> None:
        """Refuse a campaign that keeps nothing.

        Raises:
            FileNotFoundError: If it has no folder.
        """
        if not self.home.is_dir():
            raise FileNotFoundError(
                f"{self.home}: expected the folder of a campaign, found none; "
                "`hustings ingest` makes one, --data says where it lies"
            )


@dataclass(frozen=True)
class DataSubject:
    """A person's ids, keys and words in a campaign's data.

    Attributes:
        ids: Every voter id that the person has had.
        persons: Handles of the person in the identity map.
        exact: Exact keys by kind, ids included.
        words: What a text may hold of the person: ids, addresses, pseudonyms.
    """

    ids: frozenset[str]
    persons: frozenset[str]
    exact: Mapping[str, frozenset[str]]
    words: frozenset[str]

    def row_matcher(self, keys: Keyring) -> Forgotten:
        """Recognises the person's rows."""
        return Forgotten(keys.campaign_key, frozenset(), self.exact)


def data_subject_of(
    voter_id: str, home: Path, elsewhere: Sequence[pd.DataFrame]
) -> DataSubject:
    """Everything that a campaign knows a person by.

    An e-mail address, name or registration that another voter shares is not exact, and
    left out.

    Args:
        voter_id: Any id that the person has had.
        home: The campaign's folder.
        elsewhere: Rows of tables that lie outside the folder.
    """
    identity = read_identity(home)
    ids = ids_of(identity, voter_id.strip())

    def frames() -> Iterator[tuple[pd.DataFrame, Bools]]:
        # the identity map's own name of a person is no pseudonym of a reactor
        campaign_frames = (
            rows for p, _, rows in tables_under(home) if p.name != IDENTITY
        )
        for frame in (*elsewhere, *campaign_frames):
            if "voter_id" in frame:
                who = frame["voter_id"].astype("str").str.strip()
                yield frame, who.isin(ids).to_numpy(dtype=bool)

    person_keys, other_keys = _RowKeys(), _RowKeys()
    for frame, is_person in frames():
        person_keys.add(frame[is_person])
    if any(person_keys.keys.values()):
        for frame, is_person in frames():
            other_keys.add(frame[~is_person], among=person_keys)
    exact = {
        kind: frozenset(
            person_keys.keys.get(kind, set()) - other_keys.keys.get(kind, set())
        )
        for kind in EXACT_KEYS
    }
    exact[VOTER] = frozenset(ids)
    exact[REACTOR] = frozenset(person_keys.keys.get(REACTOR, set()))
    words = (
        ids
        | exact[REACTOR]
        | exact[EMAIL]
        | (person_keys.addresses - other_keys.addresses)
    )
    return DataSubject(ids, persons_of(identity, ids), exact, frozenset(words))


@dataclass
class _RowKeys:
    """Exact keys and addresses in rows."""

    keys: dict[str, set[str]] = field(default_factory=dict)
    addresses: set[str] = field(default_factory=set)

    def add(self, rows: pd.DataFrame, among: "_RowKeys | None" = None) -> None:
        """Take up the keys of rows; of many rows, only those that matter."""
        if "probability" in rows:
            rows = rows[rows["probability"] >= LIKELY]
        for kind, choices in EXACT_KEYS.items():
            for columns in choices:
                if kind != VOTER and set(columns) <= set(rows.columns):
                    values = exact_values(rows, columns).dropna()
                    if among is not None:
                        values = values[values.isin(among.keys.get(kind, set()))]
                    self.keys.setdefault(kind, set()).update(values)
        if "email" in rows:
            self.addresses |= set(rows["email"].dropna().astype("str"))


# --- files ----------------------------------------------------------------------------


def files_under(home: Path) -> list[Path]:
    """Every file of a campaign; tables come after those that lie in the same folder."""
    files = [p for p in home.rglob("*") if p.is_file() and not p.is_symlink()]
    later = {*BESIDE.values(), WHOSE, IDENTITY}
    return sorted(files, key=lambda path: (path.name in later, str(path)))


def begins_with(path: Path) -> bytes:
    """The first bytes of a file; none of one that has gone meanwhile.

    Whoever closes a database last takes its journal away.
    """
    try:
        with path.open("rb") as file:
            return file.read(16)
    except FileNotFoundError:
        return b""


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet, whatever its name."""
    return begins_with(path).startswith(_PARQUET)


def is_sqlite(path: Path) -> bool:
    """Whether a file is an SQLite database, whatever its name."""
    return begins_with(path).startswith(_SQLITE)


def key_columns(names: Iterable[str]) -> list[str]:
    """Columns that say whose a row is."""
    there = set(names)
    identifying = [
        column
        for choices in EXACT_KEYS.values()
        for columns in choices
        if set(columns) <= there
        for column in columns
    ]
    qualifying = [c for c in ("email", "probability") if c in there and identifying]
    return list(dict.fromkeys([*identifying, *qualifying]))


def tables_under(home: Path) -> Iterator[tuple[Path, str, pd.DataFrame]]:
    """Key columns of every table of a campaign that has any: file, table, rows."""
    for path in files_under(home):
        if is_parquet(path):
            columns = key_columns(pq.read_schema(path).names)
            if columns:
                yield path, path.stem, pd.read_parquet(path, columns=columns)
        elif is_sqlite(path) and path.name not in NO_ROWS_OF_PERSONS:
            with opened(path) as store:
                for table, columns in sqlite_tables(store):
                    keyed = key_columns(columns)
                    for part in _parts(store, table, keyed) if keyed else ():
                        yield path, table, part


def mask_of(path: Path, who: Forgotten) -> Bools:
    """Whether each row of a Parquet file is a person's, shape (n_rows,)."""
    file = pq.ParquetFile(path)
    n, names = file.metadata.num_rows, file.schema_arrow.names
    beside = path.with_name(BESIDE.get(path.name, path.name))
    if beside != path and beside.is_file():
        is_person = mask_of(beside, who)
        # shorter: its own rows went before those of the table beside it
        return is_person if len(is_person) == n else np.zeros(n, dtype=bool)
    if path.name == SET_ASIDE and {"table", "row", "value"} <= set(names):
        return _set_aside(path, who)
    columns = key_columns(names)
    if not columns:
        return np.zeros(n, dtype=bool)
    return who.rows(file.read(columns=columns).to_pandas())


def _set_aside(path: Path, who: Forgotten) -> Bools:
    """Rows of a quarantine: by whose the row was, or by an id among its values."""
    faults, beside = pd.read_parquet(path), path.with_name(WHOSE)
    # a value is one of the row's, or several with a comma between
    values = faults["value"].astype("str")
    parts = pd.concat([values, values.str.split(", ").explode()])
    hit = pd.Series(who.has(VOTER, parts), parts.index)
    holds_id = hit.groupby(level=0).any().reindex(faults.index, fill_value=False)
    rows = pd.MultiIndex.from_frame(faults[["table", "row"]])
    is_person = holds_id.to_numpy(dtype=bool)
    if beside.is_file():
        whose = pd.read_parquet(beside)
        rows_of_person = whose.loc[who.rows(whose), ["table", "row"]]
        is_person = is_person | rows.isin(pd.MultiIndex.from_frame(rows_of_person))
    # every fault of a row that is the person's by one of them
    together: Bools = rows.isin(rows[is_person])
    return together


# --- databases ------------------------------------------------------------------------


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """An SQLite database; what is deleted in it is overwritten."""
    store = sqlite3.connect(path, timeout=60, isolation_level=None)
    try:
        store.execute("PRAGMA secure_delete = ON")
        yield store
    finally:
        store.close()


def sqlite_tables(store: sqlite3.Connection) -> list[tuple[str, list[str]]]:
    """Tables of a database and their columns."""
    names = store.execute(
        "SELECT name FROM sqlite_master "
        "WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    ).fetchall()
    return [
        (name, [row[1] for row in store.execute(f'PRAGMA table_info("{name}")')])
        for (name,) in names
    ]


def _parts(
    store: sqlite3.Connection, table: str, columns: list[str]
) -> Iterator[pd.DataFrame]:
    """Rows of a table in parts, indexed by rowid."""
    column_list = ", ".join(f'"{c}"' for c in columns)
    rows = store.execute(f'SELECT rowid, {column_list} FROM "{table}"')
    while part := rows.fetchmany(_AT_ONCE):
        frame = pd.DataFrame(part, columns=["rowid", *columns]).set_index("rowid")
        yield frame


def sqlite_rows(
    store: sqlite3.Connection,
    table: str,
    columns: list[str],
    who: Forgotten,
    words: frozenset[str],
) -> pd.DataFrame:
    """A person's rows of one table, indexed by rowid: by keys, or by words in texts."""
    parts = []
    for part in _parts(store, table, columns):
        parts.append(part[rows_about(part, who, words)])
    return pd.concat(parts) if parts else pd.DataFrame(columns=columns)


def rows_about(rows: pd.DataFrame, who: Forgotten, words: frozenset[str]) -> Bools:
    """Whether each row of a table is a person's: by keys, or by words in texts.

    Args:
        rows: All columns of the table.
        who: Recognises the person's rows.
        words: Ids and addresses that texts may hold.

    Returns:
        Shape (n_rows,).
    """
    by_key = who.rows(rows) if key_columns(rows.columns) else np.zeros(len(rows), bool)
    about: Bools = by_key | _telling_rows(rows, words)
    return about


def _telling_rows(rows: pd.DataFrame, words: frozenset[str]) -> Bools:
    holds_word = np.zeros(len(rows), dtype=bool)
    pattern = pattern_of(words)
    if pattern is not None:
        for name in rows:
            if name not in key_columns(rows.columns):
                holds_word |= [
                    isinstance(v, str) and pattern.search(v) is not None
                    for v in rows[name]
                ]
    return holds_word


def pattern_of(words: Iterable[str]) -> re.Pattern[str] | None:
    """Finds a person's ids and addresses in a text, standing alone."""
    telling = sorted((w for w in words if is_telling(w)), key=len, reverse=True)
    if not telling:
        return None
    one = "|".join(map(re.escape, telling))
    return re.compile(rf"(?<![A-Za-z0-9_.])(?:{one})(?![A-Za-z0-9_])")


def is_telling(word: str) -> bool:
    """Whether a word in a text can be nobody else's, and no number."""
    return len(word) >= TELLING and not re.fullmatch(r"\d{1,7}(\.\d*)?", word)


# --- outside --------------------------------------------------------------------------


class Outside(NamedTuple):
    """A table of the campaign that lies where Hustings only reads.

    Attributes:
        name: Of the table.
        source: Its declaration.
        frame: Its rows in our columns.
    """

    name: str
    source: TableSource
    frame: pd.DataFrame


def outside(campaign: Campaign) -> tuple[list[Outside], list[str]]:
    """Tables with voters or reactors that the campaign was brought.

    Returns:
        Those that could be read, and a line for each that could not.
    """
    folders = Folders(campaign=campaign.folder, data=data_dir())
    read, absent = [], []
    for name, table, source in _brought(campaign):
        if (source.path or "").startswith("raw:"):
            continue
        try:
            frame = mapped_rows(source, table, folders)
        except DataMissing:
            absent.append(f"{name}: {source.read_from} is not there")
            continue
        except TableError:
            absent.append(f"{name}: {source.read_from} cannot be read")
            continue
        if next(keys_of_rows(frame), None) is not None:
            read.append(Outside(name, source, frame))
    return read, absent


def _brought(campaign: Campaign) -> Iterator[tuple[str, str, TableSource]]:
    """Name, kind of table and source of everything that the campaign declares."""
    for name, source in campaign.tables.items():
        yield name, name, source
    if campaign.link is not None:
        yield "link.voters", IDENTITIES.name, campaign.link.voters
    for name, provider in campaign.providers.items():
        yield f"providers.{name}", PROVIDER_ROWS.name, provider.table


# --- models ---------------------------------------------------------------------------


def runs_that_trained_on(home: Path, who: Forgotten) -> dict[str, str]:
    """Runs whose training set holds a person: their name → their MLflow run."""
    mlflow_runs = {}
    for path in sorted(home.glob("*/training_set.parquet")):
        if (path.parent / "run.json").exists() and mask_of(path, who).any():
            record = record_of_run(path.parent)
            mlflow_runs[path.parent.name] = record.mlflow_run_id or ""
    return mlflow_runs


def models_of(
    campaign: str, runs: Mapping[str, str], store: Path, mlflow_uri: str
) -> list[Json]:
    """Registered versions that were made by some runs.

    Args:
        campaign: Its name.
        runs: From `runs_that_trained_on`.
        store: Folder of the MLflow store where there is no server.
        mlflow_uri: The server; empty for the store.
    """
    if not runs or not (mlflow_uri or (store / "mlflow.db").exists()):
        return []
    # seconds to import, so only where there is something to ask
    from hustings.training.registry.register import open_store, registered_versions

    open_store(mlflow_uri or None, store)
    return [
        {"model": v.name, "version": v.version, "mlflow_run": v.run_id,
         "run": v.tags.get("hustings_run", "")}
        for v in registered_versions(campaign)
        if v.run_id in runs.values() or v.tags.get("hustings_run") in runs
    ]  # fmt: skip


def handed_out(home: Path, who: Forgotten) -> list[Json]:
    """Planned and sent contacts of a person, with their channel, run by run.

    Of a plan in the ledger, its name and state are given too, and the files of exports
    that a channel was given of it. What was sent online is told as that of a day.
    """
    contacts: list[Json] = []
    states = {name: record.state for name, record in plans(home).items()}
    for pattern in ("*/plan.parquet", f"{PLANS}/*/plan.parquet"):
        for path in sorted(home.glob(pattern)):
            is_person, name = mask_of(path, who), path.parent.name
            if is_person.any():
                rows = pd.read_parquet(path)[is_person]
                texts = rows[["send_on", "channel", "message_id", "role"]].astype("str")
                of = {"run": name}
                if path.parent.parent != home:
                    of = {"plan": name, "state": states.get(name, "not in the ledger")}
                contacts += [
                    {**of, **row, "files": _exported_files(home, name, row)}
                    for row in records(texts)
                ]
    online = online_so_far(home).contacts
    online = online[who.rows(online)].rename(columns={"decided_on": "send_on"})
    texts = online[["plan_id", "send_on", "channel", "message_id", "role"]]
    contacts += [
        {"plan": row.pop("plan_id"), "state": SENT, **row, "files": []}
        for row in records(texts.astype("str"))
    ]
    return contacts


def _exported_files(home: Path, plan_id: str, contact: Mapping[str, str]) -> list[str]:
    """Files of a plan's exports for the channel and day of a contact."""
    name = f"-{contact['channel']}-{contact['send_on'][:10]}"
    return sorted(
        str(path.relative_to(home))
        for path in (home / EXPORTS / plan_id).glob("*/*")
        if name in f"-{path.name}"
    )


def sealed_with(home: Path, ids: Iterable[str]) -> list[str]:
    """Seals that hold a prediction of a person, under a hash that their key makes."""
    seals = []
    for path in sorted((home / SEALS).glob(f"*{SEAL_KEY}")):
        stem, key = path.name.removesuffix(SEAL_KEY), bytes.fromhex(path.read_text())
        predictions = pd.read_parquet(path.with_name(f"{stem}{PREDICTIONS}"))
        if predictions["voter"].isin(hashed(pd.Series(sorted(ids)), key)).any():
            seals.append(stem)
    return seals


def records(frame: pd.DataFrame) -> list[Json]:
    """Rows as JSON values, times in ISO 8601."""
    text = frame.to_json(orient="records", date_format="iso", date_unit="s")
    rows: list[Json] = json.loads(text)
    return rows
