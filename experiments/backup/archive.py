"""One file that holds folders: a tar with the checksum of every member at its end.

    digest = write_archive(out, {"campaign": home}, ArchiveFacts(...))
    facts = unpack(out, {"campaign": aside})

Databases of SQLite are copied by their backup interface, so that what is written to
them meanwhile is in it whole or not at all. Files of a name that begins with a dot
(locks), links and what is not whole yet stay out.
"""

import hashlib
import io
import json
import os
import sqlite3
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, BinaryIO, NamedTuple

from hustings.experiments.privacy.personal_data import is_sqlite
from hustings.features.atomic import ASIDE, whole_file
from hustings.features.checksums import AlteredError
from hustings.features.stored import Stored

FORMAT = 1
"""Of an archive; a later one is refused."""
MANIFEST = "manifest.json"
ONLY_ME, ONLY_MY_FOLDER = 0o600, 0o700
_JOURNALS = ("-wal", "-shm", "-journal")
"""Of SQLite, beside a database: what they hold is in its copy."""
_PIECE = 1 << 20


class ArchiveMember(NamedTuple):
    """One file of an archive.

    Attributes:
        sha256: Its digest, hexadecimal.
        n_bytes: Its size.
    """

    sha256: str
    n_bytes: int


@dataclass(frozen=True)
class ArchiveFacts(Stored):
    """What an archive says of itself.

    Attributes:
        campaign: Name of the campaign.
        made_at: When, ISO 8601 in UTC.
        version: Of Hustings.
        ledger_seq: Last entry of the ledger before that which names the backup.
        store: Where the MLflow store lay; empty where it is not in the archive.
        outside: What a campaign has that is not in the archive, a line each.
    """

    campaign: str
    made_at: str
    version: str
    ledger_seq: int
    store: str
    outside: list[str]


class _Hashed(io.RawIOBase):
    """Reads a file and remembers the digest of what was read."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self.file.read(size)
        self.digest.update(piece)
        return piece


def write_archive(
    out: Path, folders: Mapping[str, Path], facts: ArchiveFacts
) -> dict[str, ArchiveMember]:
    """Write folders into one file, readable by its owner alone.

    Args:
        out: The file; whole or not there.
        folders: By the name that they have in the archive; one that is not there is
            empty.
        facts: What the archive says of itself.

    Returns:
        Its members by their path in it.
    """
    members = dict[str, ArchiveMember]()
    with whole_file(out) as aside:
        aside.touch(mode=ONLY_ME)
        with (
            TemporaryDirectory(
                prefix=f".{out.name}.", suffix=ASIDE, dir=out.parent
            ) as copies,
            aside.open("wb") as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for prefix, folder in folders.items():
                for path in _files(folder):
                    name = f"{prefix}/{path.relative_to(folder).as_posix()}"
                    members[name] = _add(archive, name, path, Path(copies))
            manifest = json.dumps(
                {
                    "format": FORMAT, **facts.to_json(),
                    "members": {name: m._asdict() for name, m in members.items()},
                }
            ).encode()  # fmt: skip
            archive.addfile(_head(MANIFEST, len(manifest)), io.BytesIO(manifest))
    return members


def unpack(archive_file: Path, into: Mapping[str, Path]) -> ArchiveFacts:
    """Unpack an archive, every file of it compared with its checksum.

    Args:
        archive_file: What `write_archive` wrote.
        into: Empty folders, by the names that folders have in the archive; a folder of
            another name is left out.

    Returns:
        What the archive says of itself.

    Raises:
        AlteredError: If a file is missing, altered or too many, naming it.
        FileNotFoundError: If there is no archive.
    """
    unpacked = dict[str, ArchiveMember]()
    manifest: bytes | None = None
    try:
        with tarfile.open(archive_file, "r:") as archive:
            for head in archive:
                stored = archive.extractfile(head)
                if stored is None:
                    raise AlteredError(
                        f"{archive_file}: expected files, got {head.name}"
                    )
                if head.name == MANIFEST:
                    manifest = stored.read()
                else:
                    place = _place(head.name, into, archive_file)
                    unpacked[head.name] = _copied(stored, place)
    except (tarfile.TarError, EOFError) as damage:
        raise AlteredError(
            f"{archive_file}: expected a backup as it was written, {damage}"
        ) from None
    if manifest is None:
        raise AlteredError(f"{archive_file}: expected {MANIFEST} at its end: cut off")
    facts, members = _read(manifest, archive_file)
    for name in sorted(members.keys() | unpacked.keys()):
        if members.get(name) != unpacked.get(name):
            raise AlteredError(
                f"{archive_file}: {name} is not what was written, by its checksum"
            )
    return facts


def facts_of(archive_file: Path) -> ArchiveFacts:
    """What an archive says of itself, without unpacking it.

    Raises:
        AlteredError: If it is no archive.
        FileNotFoundError: If there is none.
    """
    try:
        with tarfile.open(archive_file, "r:") as archive:
            stored = archive.extractfile(MANIFEST)
            manifest = b"" if stored is None else stored.read()
    except (tarfile.TarError, EOFError, KeyError) as damage:
        raise AlteredError(
            f"{archive_file}: expected a backup as it was written, {damage}"
        ) from None
    return _read(manifest, archive_file)[0]


def _read(
    manifest: bytes, archive_file: Path
) -> tuple[ArchiveFacts, dict[str, ArchiveMember]]:
    try:
        stored = json.loads(manifest)
        version = stored["format"]
        facts = ArchiveFacts.from_json(stored) if version == FORMAT else None
        members = {name: ArchiveMember(**m) for name, m in stored["members"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AlteredError(f"{archive_file}: {MANIFEST} is altered") from None
    if facts is None:
        raise AlteredError(
            f"{archive_file}: expected a backup of format {FORMAT}, got {version}: "
            "restore it with the version of Hustings that wrote it, or a later one"
        )
    return facts, members


def links_in(folder: Path) -> list[Path]:
    """Symbolic links in a folder, which an archive leaves out."""
    return sorted(path for path in folder.rglob("*") if path.is_symlink())


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        is_aside = any(p.startswith(".") or p.endswith(ASIDE) for p in parts)
        is_left_out = is_aside or path.name.endswith(_JOURNALS) or path.is_symlink()
        if path.is_file() and not is_left_out:
            yield path


def _add(
    archive: tarfile.TarFile, name: str, path: Path, copies: Path
) -> ArchiveMember:
    source = path
    if is_sqlite(path):
        source = copies / "copy.db"
        source.unlink(missing_ok=True)
        with (
            closing(sqlite3.connect(path, timeout=60)) as live,
            closing(sqlite3.connect(source)) as copy,
        ):
            live.backup(copy)
            # the copy stands alone: no journal beside it
            copy.execute("PRAGMA journal_mode = DELETE")
    with source.open("rb") as file:
        hashed, n_bytes = _Hashed(file), os.fstat(file.fileno()).st_size
        archive.addfile(_head(name, n_bytes), hashed)
    return ArchiveMember(hashed.digest.hexdigest(), n_bytes)


def _head(name: str, n_bytes: int) -> tarfile.TarInfo:
    head = tarfile.TarInfo(name)
    head.size, head.mode = n_bytes, ONLY_ME
    return head


def _place(name: str, into: Mapping[str, Path], archive_file: Path) -> Path | None:
    """Where a member goes; None where its folder is left out."""
    prefix, *parts = PurePosixPath(name).parts
    is_within = parts and not {"..", ".", "/"} & {prefix, *parts}
    if not is_within or name.startswith("/"):
        raise AlteredError(f"{archive_file}: {name!r} leads out of its folder")
    return into[prefix].joinpath(*parts) if prefix in into else None


def _copied(stored: IO[bytes], place: Path | None) -> ArchiveMember:
    digest, n_bytes = hashlib.sha256(), 0
    if place is None:
        while piece := stored.read(_PIECE):
            digest.update(piece)
            n_bytes += len(piece)
        return ArchiveMember(digest.hexdigest(), n_bytes)
    for parent in reversed([p for p in place.parents if not p.exists()]):
        parent.mkdir(mode=ONLY_MY_FOLDER)
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, ONLY_ME)
    with os.fdopen(handle, "wb") as file:
        while piece := stored.read(_PIECE):
            digest.update(piece)
            n_bytes += file.write(piece)
    return ArchiveMember(digest.hexdigest(), n_bytes)
