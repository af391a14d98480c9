"""One way to write a file or a folder: aside, forced to disk, then renamed.

Whatever is read under its own name is whole: a process that is killed leaves a
`.partial` next to it at most, under a name that no other write uses.
"""

import ctypes
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ASIDE = ".partial"
"""Ending of what is not whole yet."""
AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Of Linux: paths are relative to where the process is; two paths change places."""
ROW_GROUP = 122_880
"""Rows of a Parquet file that are read and written together."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the file's place once it is written.

    Args:
        path: The file; its folder is made where there is none.

    Yields:
        The path aside. If the block raises, the file stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _own_aside(path)
    try:
        yield aside
        _to_disk(aside)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _to_disk(path.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to write in, which appears under its name when it is whole.

    Args:
        path: The folder. One of that name that is there already is replaced.

    Yields:
        The folder aside, hidden. If the block raises, it is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _own_aside(path)
    aside.mkdir()
    try:
        yield aside
        replace_folder(aside, path)
    finally:
        # what the block left, or the folder that was replaced
        shutil.rmtree(aside, ignore_errors=True)


def replace_folder(aside: Path, path: Path) -> None:
    """Put a folder in the place of another, forced to disk, in one step.

    Args:
        aside: The new one, on the same file system. The old one lies there afterwards,
            where there was one.
        path: Its place.
    """
    for file in aside.rglob("*"):
        _to_disk(file)
    _take_place(aside, path)
    _to_disk(path.parent)


def remove_at_once(folder: Path) -> None:
    """Remove a folder so that no part of it is left under its name, at no moment."""
    shutil.rmtree(folder.rename(_own_aside(folder)))


def rename_to_disk(folder: Path, to: Path) -> None:
    """Rename a folder, on the disk and not only in memory."""
    folder.rename(to)
    _to_disk(to.parent)


def _take_place(aside: Path, path: Path) -> None:
    """Put a folder in the place of another in one step: one of them is always there."""
    if not path.exists():
        aside.rename(path)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    here = AT_FDCWD, os.fsencode(aside), AT_FDCWD, os.fsencode(path)
    if libc.renameat2(*here, RENAME_EXCHANGE):
        # a file system that cannot exchange: a moment without any
        before = _own_aside(path)
        path.rename(before)
        try:
            aside.rename(path)
        except BaseException:
            before.rename(path)
            raise
        before.rename(aside)


def _own_aside(path: Path) -> Path:
    """A hidden place next to a path: two processes that write one file never meet."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{ASIDE}")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, in UTF-8."""
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole; numpy's values as plain ones, others as text."""
    write_text(path, json.dumps(value, indent=1, default=plain))


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Write a table whole, compressed, without its index."""
    with whole_file(path) as aside:
        frame.to_parquet(
            aside, index=False, compression="zstd", row_group_size=ROW_GROUP
        )


def write_same(path: Path, file: Path) -> None:
    """Give the content of a file a second name, copied only where no link can be.

    Args:
        path: The second name.
        file: A file that is only ever replaced whole, as those written here are: then
            a later file under the first name leaves the second as it is.
    """
    with whole_file(path) as aside:
        try:
            aside.hardlink_to(file)
        except OSError:
            shutil.copyfile(file, aside)


def plain(value: Any) -> Any:
    """Numpy's value as a plain one, for `json.dumps`; anything else as text."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


def _to_disk(path: Path) -> None:
    """Force what is written under a path to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
