"""Checksums of the files of a folder, kept in it: what a disk altered is not believed.

    write_checksums(bundle); require_unaltered(bundle)

A folder whose files are written anew gets new checksums of these files alone
(`renew_checksums`), so that another file that was altered before is still found.
"""

import hashlib
import json
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from hustings.features.atomic import ASIDE, write_json

CHECKSUMS = "checksums.json"
"""Name of the file in its folder: the SHA-256 of every other file by its path."""
N_DIGESTS = 4096
"""Digests that a process keeps at most."""


class AlteredError(ValueError):
    """A file is not what was written; the message names it."""


def sha256(path: Path) -> str:
    """Digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_sha256(path: Path) -> str:
    """Digest of a file, computed once in a process as long as it does not change."""
    status = path.stat()
    return _sha256(path, status.st_ctime_ns, status.st_size)


@lru_cache(maxsize=N_DIGESTS)
def _sha256(path: Path, _changed_ns: int, _bytes: int) -> str:
    return sha256(path)


def write_checksums(folder: Path, *, apart: Collection[str] = ()) -> None:
    """Write the checksums of all files of a folder, those in its folders included.

    Args:
        folder: Its files are whole.
        apart: Files and folders that will go, by their name.
    """
    digests = {
        name: sha256(folder / name)
        for name in _files(folder)
        if name.split("/")[0] not in apart
    }
    write_json(folder / CHECKSUMS, digests)


def renew_checksums(folder: Path, *, since_ns: int, lost: Collection[str]) -> list[str]:
    """Take up what was written, added and removed since a moment, and nothing else.

    Args:
        folder: One without checksums stays so.
        since_ns: By the file system's clock, as `st_ctime_ns` has it.
        lost: Files that were missing already then (`lost_files`): they stay so.

    Returns:
        Files whose content is another now, that are new or that have gone.
    """
    if not (folder / CHECKSUMS).is_file():
        return []
    try:
        before = _read(folder)
    except AlteredError:
        return []  # it is found, not mended
    files = _files(folder)
    written = {name for name in files if _written_since(folder / name, since_ns)}
    now = {
        name: sha256(folder / name) if name in written else before[name]
        for name in files
        if name in written or name in before
    }
    now |= {
        name: digest
        for name, digest in before.items()
        if name not in files
        and (name in lost or not _emptied_since(folder / name, since_ns))
    }
    if now != before:
        write_json(folder / CHECKSUMS, now)
    names = sorted(now.keys() | before.keys())
    return [name for name in names if now.get(name) != before.get(name)]


def lost_files(folder: Path) -> list[str]:
    """Files that the checksums of a folder name and that are missing."""
    try:
        return sorted(_read(folder).keys() - set(_files(folder)))
    except AlteredError:
        return []


def altered_files(folder: Path, *, at_work_since_ns: int | None = None) -> list[str]:
    """Files of a folder that are not what was written, a line each; none is best.

    Args:
        folder: One without checksums cannot be checked, and has none.
        at_work_since_ns: Since when a command is at work that has not renewed the
            checksums: files written since then are its own. None where none is.
    """
    if not (folder / CHECKSUMS).is_file():
        return []
    try:
        digests = _read(folder)
    except AlteredError as fault:
        return [str(fault)]
    files, since_ns = _files(folder), at_work_since_ns
    lines = [
        f"{folder.name}/{name}: expected no such file, {CHECKSUMS} beside has none"
        for name in files
        if name not in digests
        and (since_ns is None or not _written_since(folder / name, since_ns))
    ]
    for name, digest in digests.items():
        path = folder / name
        if name not in files:
            if since_ns is None or not _emptied_since(path, since_ns):
                lines.append(f"{folder.name}/{name}: expected the file, got none")
        elif since_ns is not None and _written_since(path, since_ns):
            continue
        elif sha256(path) != digest:
            lines.append(
                f"{folder.name}/{name}: it is not what was written, by its checksum: "
                "altered, or damaged on the disk"
            )
    return lines


def require_unaltered(folder: Path, *, at_work_since_ns: int | None = None) -> None:
    """Refuse a folder of which a file is not what was written.

    Args:
        folder: See `altered_files`.
        at_work_since_ns: See `altered_files`.

    Raises:
        AlteredError: Naming the first file.
    """
    lines = altered_files(folder, at_work_since_ns=at_work_since_ns)
    if lines:
        raise AlteredError(f"{folder.parent}/{lines[0]}")


def _read(folder: Path) -> dict[str, str]:
    path = folder / CHECKSUMS
    try:
        digests = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(digest, str) for digest in digests.values()):
            raise ValueError
    except (ValueError, AttributeError):
        raise AlteredError(
            f"{folder.name}/{CHECKSUMS}: expected checksums by file, it is altered or "
            "damaged on the disk"
        ) from None
    return dict(digests)


def _files(folder: Path) -> list[str]:
    """Files by their path in the folder, but for checksums and what is not whole."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
        and path != folder / CHECKSUMS
        and not path.name.endswith(ASIDE)
        and not path.name.startswith(".")
    )


def _written_since(path: Path, since_ns: int) -> bool:
    return path.stat().st_ctime_ns >= since_ns


def _emptied_since(path: Path, since_ns: int) -> bool:
    """Whether a file that has gone was taken out of its folder since."""
    parent = path.parent
    return not parent.exists() or _written_since(parent, since_ns)
