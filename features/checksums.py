"""Checksums of the files of a folder, kept in it: what a disk altered is not believed.

    write_checksums(bundle); require_unaltered(bundle)

A folder whose files are written anew gets new checksums of these files alone
(`renew_checksums`), so that another file that was altered before is still found.
"""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

from hustings.features.atomic import ASIDE, write_json

CHECKSUMS = "checksums.json"
"""Name of the file in its folder: the SHA-256 of every other file by its path."""


class AlteredError(ValueError):
    """A file is not what was written; the message names it."""


def sha256(path: Path) -> str:
    """Digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def renew_checksums(folder: Path, *, since_ns: int) -> None:
    """Take up what was written, added and removed since a moment, and nothing else.

    Args:
        folder: One without checksums stays so.
        since_ns: By the file system's clock, as `st_mtime_ns` has it.
    """
    if not (folder / CHECKSUMS).is_file():
        return
    try:
        before = _read(folder)
    except AlteredError:
        return  # it is found, not mended
    now = {
        name: sha256(folder / name)
        if name not in before or _written_since(folder / name, since_ns)
        else before[name]
        for name in _files(folder)
    }
    now |= {
        name: digest
        for name, digest in before.items()
        if name not in now and not _emptied_since(folder / name, since_ns)
    }
    if now != before:
        write_json(folder / CHECKSUMS, now)


def altered_files(folder: Path) -> list[str]:
    """Files of a folder that are not what was written, a line each; none is best.

    Args:
        folder: One without checksums cannot be checked, and has none.
    """
    if not (folder / CHECKSUMS).is_file():
        return []
    try:
        digests = _read(folder)
    except AlteredError as fault:
        return [str(fault)]
    there = _files(folder)
    lines = [
        f"{folder.name}/{name}: expected no such file, {CHECKSUMS} beside has none"
        for name in there
        if name not in digests
    ]
    for name, digest in digests.items():
        if name not in there:
            lines.append(f"{folder.name}/{name}: expected the file, got none")
        elif sha256(folder / name) != digest:
            lines.append(
                f"{folder.name}/{name}: it is not what was written, by its checksum: "
                "altered, or damaged on the disk"
            )
    return lines


def require_unaltered(folder: Path) -> None:
    """Refuse a folder of which a file is not what was written.

    Raises:
        AlteredError: Naming the first file.
    """
    lines = altered_files(folder)
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
    return path.stat().st_mtime_ns >= since_ns


def _emptied_since(path: Path, since_ns: int) -> bool:
    """Whether a file that has gone was taken out of its folder since."""
    parent = path.parent
    return not parent.exists() or _written_since(parent, since_ns)
