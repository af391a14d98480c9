"""Files and manifest of an export, in a folder that appears once it is complete."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pandas as pd
import pyarrow
import pyarrow.csv

from hustings.features.asof import naive_utc
from hustings.features.atomic import ASIDE, whole_folder
from hustings.features.lock import locked
from hustings.serving.export.formulas import without_formulas
from hustings.serving.export.settings import ExportError, FileFormat
from hustings.serving.export.sorting import KEY, STATUS

MANIFEST, STATUS_FILE = "manifest.json", "contacts.parquet"
_LOCK = ".lock"
_MODE = 0o700
"""Lists hold addresses: only the user may read them."""


@contextmanager
def written_whole(parent: Path, stamp: str) -> Iterator[tuple[Path, Path]]:
    """Give a folder to write into, which gets its name once everything is in it.

    The half-written folder of an export that was killed is removed first. If the
    caller removes the folder, no export appears.

    Args:
        parent: Folder of the plan's exports.
        stamp: Name of the folder; a second one of the same second is `<stamp>-002`.

    Yields:
        The folder to write into, and the one that it becomes.

    Raises:
        LockedError: If another export is under way.
    """
    parent.mkdir(parents=True, exist_ok=True, mode=_MODE)
    with locked(parent / _LOCK, holder="another export of this plan"):
        for left in parent.glob(f"*{ASIDE}"):
            shutil.rmtree(left)
        folder = _unused(parent, stamp)
        with suppress(_RemovedError), whole_folder(folder) as aside:
            aside.chmod(_MODE)
            yield aside, folder
            if not aside.exists():
                raise _RemovedError


def _unused(parent: Path, stamp: str) -> Path:
    """A folder that is not there, after those of the same second in order of names."""
    names = chain([stamp], (f"{stamp}-{number:03}" for number in count(2)))
    return next(parent / name for name in names if not (parent / name).exists())


class _RemovedError(Exception):
    """The caller removed the folder: nothing is to appear under its name."""


def write_table(frame: pd.DataFrame, path: Path, file_format: FileFormat) -> Path:
    """A table as CSV or Parquet; the path with its ending."""
    if file_format == "parquet":
        path = path.with_name(f"{path.name}.parquet")
        frame.to_parquet(path, index=False, compression="zstd")
        return path
    path = path.with_name(f"{path.name}.csv")
    with path.open("wb") as file:
        write_csv(frame, file)
    return path


def write_csv(frame: pd.DataFrame, file: Any) -> None:
    """A table as CSV with a header, in UTF-8; texts are quoted where they need it.

    No cell is a formula of a spreadsheet (`without_formulas`).
    """
    names = [str(name) for name in frame.columns]
    file.write((",".join(_cell(name) for name in names) + "\n").encode())
    table = pyarrow.Table.from_pandas(without_formulas(frame), preserve_index=False)
    # of a column that begins with an empty chunk, as concat leaves it, pyarrow 25
    # writes memory that was never set
    table = table.combine_chunks()
    for quoting in ("none", "needed"):
        options = pyarrow.csv.WriteOptions(include_header=False, quoting_style=quoting)
        rows = pyarrow.BufferOutputStream()
        try:
            pyarrow.csv.write_csv(table, rows, options)
        except pyarrow.ArrowInvalid:
            continue  # a text has a comma or quote: all are quoted
        file.write(rows.getvalue())
        return
    raise ExportError(f"expected texts and numbers, got {table.schema.types}")


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n\r') else text


def write_zipped(frame: pd.DataFrame, path: Path, inside: str) -> None:
    """A CSV in a zip archive, which is the same for the same table."""
    entry = ZipInfo(inside, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = ZIP_DEFLATED
    with (
        ZipFile(path, "w") as archive,
        archive.open(entry, "w", force_zip64=True) as file,
    ):
        write_csv(frame, file)


def file_entry(path: Path) -> dict[str, Any]:
    """Name, size and SHA-256 of a file, for a manifest."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest}


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest last: a folder that holds one is complete."""
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export.

    Raises:
        FileNotFoundError: If there is none.
    """
    manifest: dict[str, Any] = json.loads(
        (folder / MANIFEST).read_text(encoding="utf-8")
    )
    return manifest


def altered(folder: Path) -> list[str]:
    """Files of an export that are missing or differ from its manifest."""
    manifest_rows = {row["file"]: row for row in read_manifest(folder)["files"]}
    return [
        name
        for name, row in manifest_rows.items()
        if not (folder / name).is_file()
        or file_entry(folder / name)["sha256"] != row["sha256"]
    ]


def earlier_status(parent: Path) -> pd.DataFrame:
    """The latest status of every contact that an export has written.

    Columns are those of `sorting.STATUS`; no rows where nothing has left.
    """
    said = [pd.read_parquet(folder / STATUS_FILE) for folder in exports_of(parent)]
    if not said:
        return pd.DataFrame({name: pd.Series(dtype="str") for name in STATUS})
    return pd.concat(said, ignore_index=True).drop_duplicates(KEY, keep="last")


def in_time(parent: Path) -> pd.DataFrame:
    """The status of every contact by the end of its day, as `earlier_status`.

    Who was taken out later was on the list on its day, and may have been sent it.
    """
    said = [
        pd.read_parquet(folder / STATUS_FILE).assign(
            day=naive_utc(pd.Timestamp(read_manifest(folder)["at"])).normalize()
        )
        for folder in exports_of(parent)
    ]
    if not said:
        return earlier_status(parent)
    rows = pd.concat(said, ignore_index=True)
    had_left = (rows["code"] == "").groupby([rows[key] for key in KEY]).cummax()
    is_late = had_left & (rows["code"] != "") & (rows["send_on"] < rows["day"])
    return rows.loc[~is_late, STATUS].drop_duplicates(KEY, keep="last")


def exports_of(parent: Path) -> list[Path]:
    """The complete exports of a plan, the earliest first."""
    folders = (path.parent for path in parent.glob(f"*/{MANIFEST}"))
    return sorted(folder for folder in folders if folder.suffix != ASIDE)
