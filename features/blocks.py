"""Tables in blocks of rows, so that memory does not grow with the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hustings.features.atomic import whole_file

BLOCK = 100_000
"""Rows that are held at a time."""


def n_rows(path: Path) -> int:
    """Rows of a Parquet file, from its footer."""
    n: int = pq.read_metadata(path).num_rows
    return n


def columns_of(path: Path) -> list[str]:
    """Columns of a Parquet file, from its footer."""
    names: list[str] = pq.read_schema(path).names
    return names


def blocks_of(path: Path) -> Iterator[pd.DataFrame]:
    """Rows of a Parquet file, `BLOCK` at a time and in their order.

    Yields:
        Frames with the types of `pandas.read_parquet`, the index from 0 in each.
    """
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BLOCK):
            yield pa.Table.from_batches([batch]).to_pandas().reset_index(drop=True)


class BlockWriter:
    """Writes frames of equal columns one after another into one Parquet file.

    The first frame says what the types are.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None
        self.n_rows = 0

    def write(self, frame: pd.DataFrame) -> None:
        """Write the next rows.

        Raises:
            ValueError: If columns or types differ from those of the first frame.
        """
        table = pa.Table.from_pandas(frame, preserve_index=False)
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._path, table.schema, compression="zstd"
            )
        if not table.schema.equals(self._writer.schema):
            table = table.cast(self._writer.schema)
        self._writer.write_table(table)
        self.n_rows += len(frame)

    def close(self) -> None:
        """End the file; a writer that was given nothing leaves none."""
        if self._writer is not None:
            self._writer.close()


@contextmanager
def written_in_blocks(path: Path) -> Iterator[BlockWriter]:
    """A writer of a file that appears under its name once it is whole.

    Args:
        path: The file; its folder is made where there is none.

    Raises:
        ValueError: If nothing was written.
    """
    with whole_file(path) as aside:
        writer = BlockWriter(aside)
        try:
            yield writer
        finally:
            writer.close()
        if writer.n_rows == 0 and not aside.exists():
            raise ValueError(f"{path.name}: expected rows to write, got none")
