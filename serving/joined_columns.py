"""Columns that are known of a voter beside the voter file, for a row of a request.

Linked reactions, partners' lifts and providers' columns are joined to the voters by a
run: no voter file has them, and a score without them is another score. A bundle that
lies in its campaign's folder reads them from the voters of the run that planned; they
are copied nowhere, so that whoever is forgotten there is forgotten here. What changed
on disk is read anew at the next request.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from hustings.features.arrays import Values

VOTERS = "tables/voters.parquet"
"""Checked voters in a run's folder."""


@dataclass
class JoinedColumns:
    """Joined columns of a run's voters.

    Attributes:
        path: Voters of the run.
        names: Columns that are read, as far as the run has them.
    """

    path: Path
    names: tuple[str, ...]
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _read: tuple[int, "_Known"] = field(default_factory=lambda: (-1, _Known({}, {})))

    @classmethod
    def of_run(cls, folder: Path, names: Sequence[str]) -> Self | None:
        """Columns of the voters of a run; None where its folder is not here.

        Args:
            folder: The run's.
            names: Which columns.
        """
        path = folder / VOTERS
        return cls(path, tuple(names)) if path.exists() else None

    def of(self, voter_ids: Sequence[str]) -> dict[str, Values] | None:
        """Columns of some voters, in their order; missing where nothing is known.

        Args:
            voter_ids: Whose.

        Returns:
            None where the run has been deleted.
        """
        if not self.path.exists():
            return None
        present = self._present()
        # the last row is nobody's: nothing is known there
        rows = [present.row.get(voter, -1) for voter in voter_ids]
        return {name: values[rows] for name, values in present.columns.items()}

    def _present(self) -> "_Known":
        changed = self.path.stat().st_mtime_ns
        with self._lock:
            if self._read[0] != changed:
                self._read = changed, self._from_disk()
            return self._read[1]

    def _from_disk(self) -> "_Known":
        """Voters of whom anything is known."""
        there = set(pq.read_schema(self.path).names)
        names = [name for name in self.names if name in there]
        frame = pd.read_parquet(self.path, columns=["voter_id", *names])
        values = frame[names]
        # most voters are linked to nobody: 0, as whoever is not here
        is_linked = (values.notna() & values.ne(0)).any(axis=1)
        frame = frame[is_linked]
        row = {voter: k for k, voter in enumerate(frame["voter_id"])}
        columns = {name: _with_nobody(frame, name) for name in self.names}
        return _Known(row, columns)


class _Known(NamedTuple):
    """What is known of voters: their rows, and a row more of nobody in each column."""

    row: Mapping[str, int]
    columns: Mapping[str, Values]


def _with_nobody(frame: pd.DataFrame, name: str) -> Values:
    if name not in frame:
        return np.full(len(frame) + 1, np.nan)
    if pd.api.types.is_numeric_dtype(frame[name]):
        return np.append(frame[name].to_numpy(dtype=np.float64), np.nan)
    texts = frame[name].astype(object)
    column = np.empty(len(texts) + 1, dtype=object)
    column[:-1] = texts.where(texts.notna(), None)
    return column
