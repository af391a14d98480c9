"""Where a campaign's rows are worked on, block by block.

An engine decides nothing: blocks are cut by the file and not by the engine, results
come in the order of the rows, and what is drawn at random is drawn from the id of the
unit. So every engine gives the same tables.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow
import pyarrow.parquet as pq

from hustings.features.atomic import ROW_GROUP

BlockFunction = Callable[[pyarrow.Table], pyarrow.Table]
"""Rows of a file → rows of the result. It can be pickled, and knows no other rows."""


class Engine(Protocol):
    """What works on the rows of a campaign."""

    def map_blocks(
        self, function: BlockFunction, file: Path, columns: Sequence[str]
    ) -> Iterator[pyarrow.Table]:
        """Run a function over the blocks of a Parquet file, such as that of the voters.

        Args:
            function: Sees one block at a time.
            file: Is cut by its row groups, of which a block is at most `ROW_GROUP`.
            columns: That the function reads.

        Returns:
            The results, one for each block, in the order of the file.
        """


def blocks_of(
    file: Path, columns: Sequence[str], row_group: int
) -> Iterator[pyarrow.Table]:
    """The blocks of one row group of a Parquet file, in their order."""
    with pq.ParquetFile(file) as opened:
        batches = opened.iter_batches(
            ROW_GROUP, row_groups=[row_group], columns=list(columns)
        )
        for batch in batches:
            yield pyarrow.Table.from_batches([batch])


class OneMachine:
    """This process."""

    def map_blocks(
        self, function: BlockFunction, file: Path, columns: Sequence[str]
    ) -> Iterator[pyarrow.Table]:
        """See `Engine`."""
        for row_group in range(pq.read_metadata(file).num_row_groups):
            for rows in blocks_of(file, columns, row_group):
                yield function(rows)


ONE_MACHINE: Engine = OneMachine()
